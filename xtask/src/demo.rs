//! `cargo xtask demo`: from nothing to a container that has its team's secret, and a cluster that holds no copy of it.

mod evaluation;
mod place;
mod proof;
mod story;
mod vault;

use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use daypass::api::names;
use daypass_testcluster::{Cluster, Mark, Tools, poll, tools};
use sha2::{Digest as _, Sha256};

use crate::image;
use place::Place;
use story::{Story, quiet, quote, show, show_with_input};

/// Where the operator runs.
const SYSTEM: &str = "daypass-system";
/// What `examples/team.yaml` and `examples/sandbox.yaml` say.
const TEAM: &str = "ml-team";
const ADMIN: &str = "alice";
const MEMBER: &str = "bob";
const SANDBOX: &str = "hello";
const SECRET: &str = "OPENAI_API_KEY";
/// Longer than anything takes that works.
const SOON: Duration = Duration::from_mins(2);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Use this context of your kubeconfig file instead of the local cluster
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The operator's image, where it was pushed already (clusters of kind, k3d and minikube are loaded without)
    #[arg(long, value_name = "REF", requires = "context")]
    image: Option<String>,
    /// Where the team's values live
    #[arg(long, value_enum, default_value_t)]
    store: Kept,
    /// Evaluate a model on three benchmarks instead, against servers of the demo's own
    #[arg(long, conflicts_with_all = ["context", "store"])]
    eval: bool,
    /// End the local cluster when the demo is over
    #[arg(long, conflicts_with = "context")]
    down: bool,
}

/// Where the team's values live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Kept {
    /// In the embedded store
    #[default]
    Sealed,
    /// In a real OpenBao on this machine, which the operator signs in to by Kubernetes auth
    Vault,
}

pub(crate) async fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    ensure!(
        arguments.store == Kept::Sealed || arguments.context.is_none(),
        "--store vault starts its server on this machine, where only the local cluster reaches it: leave --context out"
    );
    let mut story = Story::new();
    story.step("Programs");
    let program = image::program(root)?;
    if arguments.context.is_none() {
        Tools::ensure()?;
        Tools::helm()?;
    }
    println!("   built: daypass, Kubernetes, helm");

    story.step("Cluster");
    let place = match &arguments.context {
        Some(context) => Place::existing(context, program)?,
        None => Place::local(program).await?,
    };
    let outcome = tell(root, arguments, &mut story, &place).await;
    if outcome.is_err() {
        explain(&place);
    }
    outcome?;
    println!("\nAll of it held, in {:.1} s.", story.seconds());
    let Some(cluster) = &place.local else { return Ok(()) };
    if arguments.down {
        Cluster::down()?;
        println!("The cluster has ended.");
    } else {
        println!("The cluster is still up:  cargo xtask cluster kubectl get sandboxes -n {TEAM}");
        println!("Use it from this shell:   export KUBECONFIG={}", cluster.kubeconfig().display());
        println!("End it:                   cargo xtask cluster down");
    }
    Ok(())
}

async fn tell(root: &Path, arguments: &Arguments, story: &mut Story, place: &Place) -> Result<()> {
    story.step("The operator's image");
    let image = operator_image(root, arguments.image.as_deref(), place)?;
    println!("   {image}");

    if arguments.eval {
        story.step("The runner's image (minutes the first time), and servers for the evaluation");
    }
    let evaluation = if arguments.eval { Some(evaluation::Parts::make(root, place)?) } else { None };
    story.step("Install the chart: two replicas, one of them leads");
    install(root, place, &image, evaluation.as_ref().map(evaluation::Parts::values)).await?;

    story.step(&format!("A team: {ADMIN} is its admin, {MEMBER} a member; neither is a cluster admin"));
    show(place.kubectl(None).current_dir(root).args(["apply", "-f", "examples/team.yaml"]))?;
    show(place.daypass(ADMIN).args(["store", "init", "-n", TEAM]))?;

    if let Some(parts) = &evaluation {
        return parts.tell(root, story, place).await;
    }
    if arguments.store == Kept::Vault {
        return vault::tell(root, story, place).await;
    }
    story.step(&format!("{ADMIN} stores a secret; it is sealed on this machine"));
    let value = random_value()?;
    let digest = tools::hex(&Sha256::digest(value.as_bytes()));
    store(place, SECRET, &value)?;
    println!("   its SHA-256, computed here:  {digest}");

    story.step(&format!("{MEMBER} applies examples/sandbox.yaml, which names it"));
    forget(place, SANDBOX)?;
    let mark = mark(place)?;
    show(place.kubectl(Some(MEMBER)).current_dir(root).args(["apply", "-n", TEAM, "-f", "examples/sandbox.yaml"]))?;
    let (uid, run) = the_run(place, SANDBOX)?;
    container_has_it(story, place, &run, &digest).await?;
    ends(story, place)?;
    leaves_on_record(story, place, &uid, mark).await
}

/// Deletes the Sandbox of the last demo.
fn forget(place: &Place, sandbox: &str) -> Result<()> {
    let mut delete = place.kubectl(Some(MEMBER));
    quiet(delete.args(["delete", "sandbox", sandbox, "-n", TEAM, "--ignore-not-found"])).map(drop)
}

/// Where the API server's audit log stands.
fn mark(place: &Place) -> Result<Option<Mark>> {
    place.local.as_ref().map(|cluster| cluster.audit().mark()).transpose()
}

/// A Sandbox's UID, and the name of its run.
fn the_run(place: &Place, sandbox: &str) -> Result<(String, String)> {
    let uid = field(place, sandbox, "{.metadata.uid}")?;
    let run = names::run_name(sandbox, &uid, "", 1);
    Ok((uid, run))
}

async fn container_has_it(story: &mut Story, place: &Place, run: &str, digest: &str) -> Result<()> {
    story.step("The container has the variable");
    container_has(place, run, digest).await?;

    story.step("The cluster has no copy any more, while the container runs");
    copy_is_gone(place, run).await
}

fn ends(story: &mut Story, place: &Place) -> Result<()> {
    story.step("The run ends");
    let mut wait = place.kubectl(Some(MEMBER));
    show(
        wait.args(["wait", "-n", TEAM, "--for=condition=Finished", "--timeout=120s"]).arg(format!("sandbox/{SANDBOX}")),
    )?;
    show(place.kubectl(Some(MEMBER)).args(["get", "sandbox", SANDBOX, "-n", TEAM]))?;
    let exit = field(place, SANDBOX, "{.status.exitCode}")?;
    let exposure = field(place, SANDBOX, "{.status.secretExposureMilliseconds}")?;
    ensure!(exit == "0", "the exit code is {exit}");
    ensure!(!exposure.is_empty(), "the status does not say how long the copy was there");
    println!("   the copy was in the cluster for {exposure} ms");
    Ok(())
}

async fn leaves_on_record(story: &mut Story, place: &Place, uid: &str, mark: Option<Mark>) -> Result<()> {
    story.step("What the operator has on record of this run");
    proof::audit_records(place, uid).await?;

    story.step("What it has written to the API server for it");
    writes(place, mark).await
}

/// The reference of an image that the cluster's nodes have or can get.
fn operator_image(root: &Path, given: Option<&str>, place: &Place) -> Result<String> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let built = image::build(root)?;
    place.load(&built)?;
    Ok(built.reference())
}

async fn install(root: &Path, place: &Place, image: &str, values: Option<String>) -> Result<()> {
    let (repository, tag) = split(image)?;
    let mut helm = place.helm();
    helm.current_dir(root).args(["upgrade", "--install", "daypass", "charts/daypass", "--namespace", SYSTEM]);
    helm.args(["--create-namespace", "--set"]).arg(format!("image.repository={repository},{tag}"));
    if let Some(values) = values {
        helm.args(["--set", &values]);
    }
    println!(
        "   $ helm upgrade --install daypass charts/daypass --namespace {SYSTEM} --create-namespace --set image..."
    );
    quiet(&mut helm)?;
    let rollout = ["rollout", "status", "deployment/daypass-operator", "-n", SYSTEM, "--timeout=120s"];
    show(place.kubectl(None).args(rollout))?;
    poll(SOON, "the operator has published a key", async || {
        let mut get = place.kubectl(None);
        let keys =
            quiet(get.args(["get", "configmap", "daypass-public-keys", "-n", SYSTEM, "-o", "jsonpath={.data}"]))?;
        ensure!(keys.contains(':'), "there is none yet");
        Ok(())
    })
    .await?;
    println!("   ready: it has proven that the API server refuses it to read any Secret");
    Ok(())
}

/// Chart values for an image: tag or digest.
fn split(image: &str) -> Result<(&str, String)> {
    if let Some((repository, digest)) = image.split_once('@') {
        return Ok((repository, format!("image.digest={digest}")));
    }
    match image.rsplit_once(':') {
        // A colon before a slash belongs to a port.
        Some((repository, tag)) if !tag.contains('/') => Ok((repository, format!("image.tag={tag}"))),
        _ => bail!("{image} names no tag and no digest"),
    }
}

/// Stores the value as the team's admin: anew, or in the place of the last demo's.
fn store(place: &Place, name: &str, value: &str) -> Result<()> {
    let object = names::team_secret_object(name);
    let mut get = place.kubectl(Some(ADMIN));
    let found = quiet(get.args(["get", "teamsecret", &object, "-n", TEAM, "--ignore-not-found", "-o", "name"]))?;
    let verb = if found.is_empty() { "set" } else { "rotate" };
    let mut daypass = place.daypass(ADMIN);
    daypass.args(["secret", verb, name, "-n", TEAM, "--from-stdin"]);
    show_with_input(&mut daypass, "the value", value.as_bytes()).map(drop)
}

async fn container_has(place: &Place, run: &str, digest: &str) -> Result<()> {
    let log = poll(SOON, "the container has said what it has", async || {
        let log = quiet(place.kubectl(Some(MEMBER)).args(["logs", run, "-n", TEAM]))?;
        ensure!(log.contains("SHA-256"), "its log is empty");
        Ok(log)
    })
    .await?;
    println!("   $ kubectl logs {run} -n {TEAM} --as {MEMBER}");
    quote(&log);
    ensure!(log.contains(digest), "that is not the digest of the value");
    println!("   the same as above: the container has the value");
    Ok(())
}

async fn copy_is_gone(place: &Place, run: &str) -> Result<()> {
    poll(SOON, "the removal is proven", async || {
        let state = field(place, SANDBOX, "{.status.secretsState}")?;
        ensure!(state == "Removed", "the status says {state:?}");
        Ok(())
    })
    .await?;
    let answer = place.kubectl(None).args(["get", "secret", run, "-n", TEAM]).output()?;
    println!("   $ kubectl get secret {run} -n {TEAM}");
    let text = String::from_utf8_lossy(&answer.stderr);
    quote(&text);
    ensure!(text.contains("NotFound"), "the copy is still there");
    let phase = ["get", "pod", run, "-n", TEAM, "-o", "jsonpath={.status.phase}"];
    println!("   the Pod is {}", quiet(place.kubectl(None).args(phase))?);
    Ok(())
}

async fn writes(place: &Place, mark: Option<Mark>) -> Result<()> {
    let (Some(cluster), Some(mark)) = (&place.local, mark) else {
        println!("   only the local cluster has an audit log that can be read here");
        return Ok(());
    };
    let writes = proof::writes(cluster, mark, SYSTEM, TEAM).await?;
    for (number, write) in writes.iter().enumerate() {
        println!("   {}  {write}", number + 1);
    }
    // Four, and one status patch at the start.
    ensure!(writes.len() <= 5, "a run without trouble takes 5 writes at most");
    Ok(())
}

/// A field of a Sandbox.
fn field(place: &Place, sandbox: &str, path: &str) -> Result<String> {
    let mut get = place.kubectl(Some(MEMBER));
    get.args(["get", "sandbox", sandbox, "-n", TEAM, "-o"]).arg(format!("jsonpath={path}"));
    quiet(&mut get)
}

/// Shows what helps to find the trouble. Its own trouble does not matter.
fn explain(place: &Place) {
    let mut commands: Vec<Command> = Vec::new();
    for arguments in [
        &["get", "pods", "--all-namespaces"][..],
        &[
            "get",
            "sandboxes",
            "-n",
            TEAM,
            "-o",
            "jsonpath={range .items[*]}{.metadata.name}: {.status.message}{\"\\n\"}{end}",
        ],
        &["get", "evaljobs", "-n", TEAM, "-o", "yaml"],
        &["logs", "-n", SYSTEM, "-l", "app.kubernetes.io/component=operator", "--tail=10"],
    ] {
        let mut kubectl = place.kubectl(None);
        kubectl.args(arguments);
        commands.push(kubectl);
    }
    println!("\nIt did not hold. What the cluster says:");
    for mut command in commands {
        if let Ok(text) = quiet(&mut command) {
            quote(&text);
        }
    }
}

/// A value that nobody has seen before.
fn random_value() -> Result<String> {
    let mut bytes = [0; 24];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("read /dev/urandom")?;
    Ok(format!("sk-demo-{}", tools::hex(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_are_what_the_demo_says() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let read = |name: &str| std::fs::read_to_string(examples.join(name)).unwrap();
        let sandbox: daypass::api::Sandbox = serde_yaml::from_str(&read("sandbox.yaml")).unwrap();
        assert_eq!(sandbox.metadata.name.as_deref(), Some(SANDBOX));
        assert_eq!(sandbox.spec.secrets[0].name, SECRET);
        let team = read("team.yaml");
        for name in [TEAM, ADMIN, MEMBER] {
            assert!(team.contains(&format!("name: {name}\n")), "{name}");
        }
    }

    #[test]
    fn images_are_split_at_the_tag() {
        assert_eq!(split("a.b:5000/daypass:1").unwrap(), ("a.b:5000/daypass", "image.tag=1".into()));
        assert_eq!(split("daypass@sha256:00").unwrap(), ("daypass", "image.digest=sha256:00".into()));
        assert!(split("a.b:5000/daypass").is_err());
    }
}
