//! The same story with the values in a real OpenBao, and what happens while it is down.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use daypass_testcluster::{OpenBao, poll, tools};
use sha2::{Digest as _, Sha256};

use super::place::Place;
use super::story::{Story, quiet, quote, show, show_with_input};
use super::{
    ADMIN, MEMBER, SANDBOX, SECRET, SOON, TEAM, container_has_it, ends, field, forget, leaves_on_record, mark,
    random_value, the_run,
};

/// What `examples/stores/vault.yaml` says.
const STORE: &str = "vault";
const ACCOUNT: &str = "daypass-store";
const EXAMPLE: &str = "examples/stores/vault.yaml";
const ADDRESS: &str = "https://vault.example.com:8200";
/// The run that meets a server that is down. It names another secret: the first one's value is in memory for a while.
const SECOND: &str = "hello-again";
const OTHER: &str = "HF_TOKEN";

pub(super) async fn tell(root: &Path, story: &mut Story, place: &Place) -> Result<()> {
    let cluster = place.local.as_ref().context("the local cluster")?;
    story.step("A real OpenBao on this machine, which asks the API server whose token it is shown");
    let mut server = OpenBao::start_at(&cluster.host_address()?).await?;
    set_up(&server, place).await?;
    println!("   {} lets ServiceAccount {TEAM}/{ACCOUNT} read below daypass/{TEAM}/, nothing else", server.address());

    story.step(&format!("{ADMIN} makes the store, and lets the operator sign in to it as {TEAM}/{ACCOUNT}"));
    let example = std::fs::read_to_string(root.join(EXAMPLE)).with_context(|| format!("read {EXAMPLE}"))?;
    let mut apply = place.kubectl(Some(ADMIN));
    apply.args(["apply", "-n", TEAM, "-f", "-"]);
    let what = format!("{EXAMPLE}, with the address of this server and without its Sandbox");
    show_with_input(&mut apply, &what, without_sandbox(&example, &server.address())?.as_bytes())?;

    story.step(&format!("{ADMIN} stores a secret there, with a token of her own for OpenBao"));
    let value = random_value()?;
    let digest = tools::hex(&Sha256::digest(value.as_bytes()));
    set(place, &server, SECRET, &value)?;
    println!("   its SHA-256, computed here:  {digest}");
    show(place.daypass(ADMIN).args(["store", "check", STORE, "-n", TEAM]))?;

    story.step(&format!("{MEMBER} applies examples/sandbox.yaml, with `store: {STORE}` beside the name"));
    forget(place, SANDBOX)?;
    forget(place, SECOND)?;
    let mark = mark(place)?;
    let sandbox = std::fs::read_to_string(root.join("examples/sandbox.yaml"))?;
    apply_sandbox(place, "examples/sandbox.yaml, with the store", &from_store(&sandbox)?)?;
    let (uid, run) = the_run(place, SANDBOX)?;
    container_has_it(story, place, &run, &digest).await?;

    story.step("OpenBao is killed in the middle of the run, which does not notice");
    server.kill()?;
    ends(story, place)?;
    leaves_on_record(story, place, &uid, mark).await?;

    story.step("The next run says what it waits for");
    let second = from_store(&sandbox)?
        .replace(&format!("name: {SANDBOX}\n"), &format!("name: {SECOND}\n"))
        .replace(SECRET, OTHER);
    apply_sandbox(place, &format!("the same as {SECOND}, for {OTHER}"), &second)?;
    poll(SOON, "the status names the store", async || {
        let reason = field(place, SECOND, "{.status.reason}")?;
        ensure!(reason == "StoreUnavailable", "the reason is {reason:?}");
        let message = field(place, SECOND, "{.status.message}")?;
        ensure!(message.contains(&format!("store {STORE} of team {TEAM}")), "the message is {message:?}");
        Ok(())
    })
    .await?;
    show(place.kubectl(Some(MEMBER)).args(["get", "sandbox", SECOND, "-n", TEAM]))?;
    quote(&field(place, SECOND, "{.status.message}")?);
    let check = place.daypass(ADMIN).args(["store", "check", STORE, "-n", TEAM]).output()?;
    println!("   $ daypass store check {STORE} -n {TEAM} --as {ADMIN}");
    quote(&String::from_utf8_lossy(&check.stdout));
    ensure!(check.status.code() == Some(1), "the check passed");

    story.step("OpenBao is back, and the run goes on by itself");
    server.start_again().await?;
    set_up(&server, place).await?;
    let value = random_value()?;
    let digest = tools::hex(&Sha256::digest(value.as_bytes()));
    set(place, &server, OTHER, &value)?;
    let (_, run) = the_run(place, SECOND)?;
    let log = poll(SOON, "the second container has said what it has", async || {
        let log = quiet(place.kubectl(Some(MEMBER)).args(["logs", &run, "-n", TEAM]))?;
        ensure!(log.contains("SHA-256"), "its log is empty");
        Ok(log)
    })
    .await?;
    quote(&log);
    ensure!(log.contains(&digest), "that is not the digest of the value");
    println!("   OpenBao ends with this program: the store will then be not ready");
    Ok(())
}

/// What an admin of OpenBao does, once for the cluster and once for the team.
async fn set_up(server: &OpenBao, place: &Place) -> Result<()> {
    let cluster = place.local.as_ref().context("the local cluster")?;
    server.trust(cluster).await?;
    server.let_read(TEAM, ACCOUNT, "5m").await
}

fn set(place: &Place, server: &OpenBao, name: &str, value: &str) -> Result<()> {
    let mut daypass = place.daypass(ADMIN);
    daypass.args(["secret", "set", name, "--store", STORE, "-n", TEAM, "--from-stdin"]);
    daypass.env("VAULT_TOKEN", server.root_token()).env("VAULT_ADDR", server.address());
    show_with_input(&mut daypass, "the value", value.as_bytes()).map(drop)
}

fn apply_sandbox(place: &Place, what: &str, manifest: &str) -> Result<()> {
    let mut apply = place.kubectl(Some(MEMBER));
    show_with_input(apply.args(["apply", "-n", TEAM, "-f", "-"]), what, manifest.as_bytes()).map(drop)
}

/// The example's store and what lets the operator sign in, for a server on plain HTTP at this address.
fn without_sandbox(example: &str, address: &str) -> Result<String> {
    ensure!(example.contains(ADDRESS), "{EXAMPLE} does not name {ADDRESS}");
    let insecure = format!("{address}\n    connection:\n      insecure: true");
    let documents = example.split("\n---\n").filter(|document| !document.contains("kind: Sandbox"));
    Ok(documents.collect::<Vec<_>>().join("\n---\n").replace(ADDRESS, &insecure))
}

/// The example with its secret from the store.
fn from_store(sandbox: &str) -> Result<String> {
    let line = format!("  - name: {SECRET}\n");
    ensure!(sandbox.contains(&line), "the example does not name {SECRET}");
    Ok(sandbox.replace(&line, &format!("{line}    store: {STORE}\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_gives_what_the_story_needs() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let text = without_sandbox(&std::fs::read_to_string(root.join(EXAMPLE)).unwrap(), "http://10.0.0.1:1").unwrap();
        assert!(text.contains("address: http://10.0.0.1:1\n") && !text.contains("kind: Sandbox"), "{text}");
        assert!(text.contains(&format!("name: {ACCOUNT}\n")) && text.contains(&format!("name: {STORE}\n")), "{text}");
        let sandbox = std::fs::read_to_string(root.join("examples/sandbox.yaml")).unwrap();
        assert!(from_store(&sandbox).unwrap().contains("    store: vault\n"));
    }
}
