//! A revoked secret: refused, its copies gone, its runs ended, and all of that reported.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daypass::api::{Phase, Reason, RevokedStatus, TeamSecretStore};
use daypass_testcluster::poll;
use kube::Api;
use serde_json::{Value, json};

use crate::support::{Team, operator};

impl Team {
    /// Makes the store `default` with a list of revoked names.
    pub async fn revoke(&self, names: &[&str]) -> Result<()> {
        let revoked: Vec<Value> =
            names.iter().map(|name| json!({"name": name, "since": "2026-01-01T00:00:00Z"})).collect();
        self.apply(json!({
            "apiVersion": "daypass.dev/v1alpha1", "kind": "TeamSecretStore", "metadata": {"name": "default"},
            "spec": {"sealed": {}, "revoked": revoked},
        }))
        .await
    }

    /// Waits until the store tells what became of a revocation.
    async fn revoked(&self, name: &str, what: &str, fits: impl Fn(&RevokedStatus) -> bool) -> Result<RevokedStatus> {
        let stores = Api::<TeamSecretStore>::namespaced(self.member.clone(), &self.namespace);
        poll(Duration::from_secs(60), what, async || {
            let status = stores.get("default").await?.status.unwrap_or_default();
            let found = status.revoked.iter().find(|revoked| revoked.name == name).context("not in the status")?;
            ensure!(fits(found), "{}", json!(status));
            Ok(found.clone())
        })
        .await
    }
}

#[tokio::test]
async fn a_revoked_secret_is_refused_its_copies_go_and_its_runs_end() -> Result<()> {
    let team = Team::new(operator().await?, "revoke").await?;
    team.revoke(&[]).await?;
    team.set_secret("BAD", b"leaked").await?;
    team.set_secret("GOOD", b"kept").await?;
    let with = |name: &str| json!({"secrets": [{"name": name}], "secretRemoval": "AfterFinish"});
    // One runs, one starts, one waits for another secret, one has nothing to do with it.
    let running = team.run("running", with("BAD")).await?;
    let starting = team.run("starting", with("BAD")).await?;
    let other = team.run("other", with("GOOD")).await?;
    for run in [&running, &starting, &other] {
        team.pod(run).await?;
    }
    for (run, name) in [(&running, "running"), (&other, "other")] {
        team.play_start(run).await?;
        team.wait(name, "it runs", |s| s.phase == Phase::Running).await?;
    }
    team.run("waiting", json!({"secrets": [{"name": "BAD"}, {"name": "MISSING"}]})).await?;
    team.wait("waiting", "it waits", |s| s.reason == Some(Reason::SecretNotFound)).await?;

    team.revoke(&["BAD"]).await?;
    for (name, run) in [("running", Some(&running)), ("starting", Some(&starting)), ("waiting", None)] {
        let status = team.wait_finished(name).await?;
        assert_eq!((status.phase, status.reason), (Phase::Terminated, Some(Reason::Revoked)), "{name}");
        let message = status.message.unwrap_or_default();
        assert!(message.contains("BAD") && message.contains("--lift"), "{message}");
        if let Some(run) = run {
            assert!(team.secrets().get_opt(run).await?.is_none(), "{name}: its copy is there");
            team.wait_no_pod(run).await?;
        }
    }
    assert_eq!(team.copy(&other).await?["GOOD"], "kept");
    let told = team
        .revoked("BAD", "three runs are told", |revoked| revoked.runs_ended == 3 && revoked.runs_ending == 0)
        .await?;
    let mut runs = told.runs.clone();
    runs.sort();
    assert_eq!(runs, ["running", "starting", "waiting"].map(|name| format!("{}/{name}", team.namespace)));

    // A new run that names it ends at once, with nothing made.
    let mark = team.mark()?;
    team.run("late", with("BAD")).await?;
    let status = team.wait_finished("late").await?;
    assert_eq!((status.phase, status.reason), (Phase::Terminated, Some(Reason::Revoked)));
    let writes = team.writes(mark).await?;
    assert!(!writes.iter().any(|write| write.starts_with("create")), "{writes:?}");

    // Lifted, the name works again; what has ended stays ended.
    team.revoke(&[]).await?;
    let again = poll(Duration::from_secs(30), "the name works again", async || {
        let name = format!("again-{}", jiff::Timestamp::now().as_millisecond());
        let run = team.run(&name, with("BAD")).await?;
        team.pod(&run).await?;
        Ok(run)
    })
    .await?;
    assert_eq!(team.copy(&again).await?["BAD"], "leaked");
    assert_eq!(team.wait_finished("running").await?.reason, Some(Reason::Revoked));
    Ok(())
}

#[tokio::test]
async fn a_run_between_its_secret_and_its_first_patch_does_not_slip_through() -> Result<()> {
    let team = Team::new(operator().await?, "slip").await?;
    team.revoke(&[]).await?;
    team.set_secret("BAD", b"leaked").await?;
    let mut runs = Vec::new();
    for index in 0..5 {
        let name = format!("slip-{index}");
        runs.push((team.run(&name, json!({"secrets": [{"name": "BAD"}]})).await?, name));
    }
    // As soon as the first copy is there, which no status shows yet.
    poll(Duration::from_secs(20), "a copy is there", async || {
        team.secrets().get_opt(&runs[0].0).await?.map(drop).context("not yet")
    })
    .await?;
    assert_eq!(team.sandboxes().get("slip-0").await?.status.unwrap_or_default().pod_name, None);
    team.revoke(&["BAD"]).await?;
    for (run, name) in &runs {
        let status = team.wait_finished(name).await?;
        assert_eq!((status.phase, status.reason), (Phase::Terminated, Some(Reason::Revoked)), "{name}");
        team.wait_no_pod(run).await?;
    }
    team.assert_no_run_secrets().await?;
    team.revoked("BAD", "five runs are told", |revoked| revoked.runs_ended == 5 && revoked.runs_ending == 0).await?;
    Ok(())
}

#[tokio::test]
async fn another_teams_run_ends_too() -> Result<()> {
    let operator = operator().await?;
    let (owner, guest) = (Team::new(operator, "owner").await?, Team::new(operator, "guest").await?);
    owner.revoke(&[]).await?;
    owner.set_secret("SHARED", b"value").await?;
    owner.grant_all(&guest.namespace).await?;
    owner.grant_user(&format!("member@{}", guest.namespace)).await?;
    let run = guest
        .run("far", json!({"secrets": [{"name": "SHARED", "team": owner.namespace}], "secretRemoval": "AfterFinish"}))
        .await?;
    guest.pod(&run).await?;
    guest.play_start(&run).await?;
    guest.wait("far", "it runs", |s| s.phase == Phase::Running).await?;
    owner.revoke(&["SHARED"]).await?;
    let status = guest.wait_finished("far").await?;
    assert_eq!((status.phase, status.reason), (Phase::Terminated, Some(Reason::Revoked)));
    guest.assert_no_run_secrets().await?;
    let told = owner.revoked("SHARED", "the run is told", |revoked| revoked.runs_ended == 1).await?;
    assert_eq!(told.runs, [format!("{}/far", guest.namespace)]);
    Ok(())
}
