//! What a team's admin types about a store that keeps values elsewhere, with credentials of his own for it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use daypass::api::{Phase, Reason};
use serde_json::{Value, json};

use crate::cluster::Team;
use crate::runs::team_with_vault;

/// A person at a terminal of his own.
struct Person<'a> {
    team: &'a Team,
    kubeconfig: std::path::PathBuf,
    token: String,
    /// The address of Vault, as he knows it.
    trusts: String,
}

/// What came of a command.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn ok(self) -> Result<String> {
        ensure!(self.code == Some(0), "{self:?}");
        Ok(self.out)
    }

    fn fails(self, code: i32, with: &str) -> Result<()> {
        ensure!(self.code == Some(code) && self.err.contains(with), "{code}, {with:?}: {self:?}");
        Ok(())
    }
}

impl Person<'_> {
    fn types(&self, line: &str, input: &str) -> Result<Ran> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_daypass"))
            .args(line.split(' '))
            .args(["-n", &self.team.namespace])
            .env("KUBECONFIG", &self.kubeconfig)
            .env("VAULT_TOKEN", &self.token)
            .env("VAULT_ADDR", &self.trusts)
            .env("HOME", "/nonexistent")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // It may have ended without reading.
        let _ = child.stdin.take().context("standard input")?.write_all(input.as_bytes());
        let output = child.wait_with_output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_lives_from_set_to_delete() -> Result<()> {
    let (team, server) = team_with_vault("typed").await?;
    let kubeconfig = team.cluster.kubeconfig_as(&format!("admin@{}", team.namespace), &[])?;
    let admin = Person {
        team: &team,
        kubeconfig: kubeconfig.clone(),
        token: server.root_token().to_owned(),
        trusts: server.address(),
    };

    admin.types("secret set KEY --store vault", "one")?.ok()?;
    admin.types("secret set vault.KEY", "one")?.fails(5, "daypass secret rotate KEY --store vault")?;
    let run = team.run("first", json!({"secrets": [{"name": "KEY", "store": "vault"}]})).await?;
    team.pod(&run).await?;
    assert_eq!(team.copy(&run).await?["KEY"], "one");
    team.play_start(&run).await?;
    team.wait("first", "it runs", |status| status.phase == Phase::Running).await?;

    let ran = admin.types("secret rotate KEY --store vault --keep", "two")?;
    assert!(ran.err.contains("first"), "the holders are shown first: {ran:?}");
    ran.ok()?;
    // At once, not when the TTL is over: the operator was told.
    let run = team.run("second", json!({"secrets": [{"name": "KEY", "store": "vault"}]})).await?;
    team.pod(&run).await?;
    assert_eq!(team.copy(&run).await?["KEY"], "two");

    let history: Value = serde_json::from_str(&admin.types("secret history KEY --store vault -o json", "")?.ok()?)?;
    assert_eq!(
        (&history["versions"][0]["version"], &history["versions"][0]["state"]),
        (&json!("2"), &json!("current"))
    );
    admin.types("secret rotate KEY --store vault", "three")?.ok()?;
    let table = admin.types("secret history KEY --store vault", "")?.ok()?;
    assert!(table.contains("destroyed") && !table.contains("three"), "{table}");
    let table = admin.types("secret list --store vault", "")?.ok()?;
    assert!(table.starts_with("NAME") && table.contains("KEY"), "{table}");
    admin.types("secret set OTHER --store vault -o yaml", "x")?.fails(2, "no manifest")?;

    let table = admin.types("store check vault", "")?.ok()?;
    for step in ["Address", "TLS", "SignIn", "List", "Read"] {
        assert!(table.lines().any(|line| line.contains(step) && line.contains("passed")), "{table}");
    }

    admin.types("secret delete KEY --store vault", "")?.fails(2, "--yes")?;
    admin.types("secret delete KEY --store vault --yes", "")?.ok()?;
    admin.types("secret delete KEY --store vault --yes", "")?.fails(3, "nothing under this path")?;
    // The value that the operator has read a moment ago is gone from its memory as well.
    team.run("third", json!({"secrets": [{"name": "KEY", "store": "vault"}]})).await?;
    team.wait("third", "there is no such secret", |status| status.reason == Some(Reason::SecretNotFound)).await?;
    admin.types("secret list --store none", "")?.fails(3, "has no store none")?;

    let nobody = Person { team: &team, kubeconfig: kubeconfig.clone(), token: String::new(), trusts: server.address() };
    nobody.types("secret set KEY --store vault", "x")?.fails(1, "vault login")?;
    // Whoever writes the store's object must not get the tokens of those who look at it.
    let wary = Person { team: &team, kubeconfig, token: "canary".into(), trusts: String::new() };
    wary.types("secret list --store vault", "")?.fails(7, "DAYPASS_TRUSTED_ADDRESSES")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_in_order_says_at_which_step_and_what_mends_it() -> Result<()> {
    let (team, mut server) = team_with_vault("checked").await?;
    let kubeconfig = team.cluster.kubeconfig_as(&format!("admin@{}", team.namespace), &[])?;
    let admin = Person { team: &team, kubeconfig, token: String::new(), trusts: String::new() };
    admin.types("store check vault", "")?.ok()?;
    // A role that may read and not list is in order, and says what was refused.
    let policy = format!("path \"secret/data/daypass/{}/*\" {{ capabilities = [\"read\"] }}", team.namespace);
    server.must("PUT", &format!("sys/policies/acl/{}", team.namespace), json!({"policy": policy})).await?;
    let table = admin.types("store check vault", "")?.ok()?;
    let says = |step: &str, what: &str| table.lines().any(|line| line.contains(step) && line.contains(what));
    assert!(says("List", "failed") && says("List", "add the path to its policy"), "{table}");
    assert!(says("Ready", "passed") && says("Ready", "nothing could be read yet"), "{table}");
    server.kill()?;
    let ran = admin.types("store check vault", "")?;
    assert!(ran.out.lines().any(|line| line.contains("Address") && line.contains("failed")), "{ran:?}");
    assert!(ran.out.lines().any(|line| line.contains("SignIn") && line.contains("not tried")), "{ran:?}");
    ran.fails(1, "refuses connections")?;

    admin.types("store grant-sign-in nobody", "")?.fails(3, "kubectl create serviceaccount nobody")?;
    let said = admin.types("store grant-sign-in default", "")?.ok()?;
    assert!(said.contains("may mint tokens"), "{said}");
    Ok(())
}
