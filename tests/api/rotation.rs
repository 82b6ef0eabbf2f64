//! Versions: who holds which, what a rotation changes, and what it does not.

use std::time::Duration;

use anyhow::{Result, ensure};
use daypass::api::{ConditionStatus, ConditionType, Phase, Reason, SandboxStatus, TeamSecret};
use daypass_testcluster::poll;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::support::{Team, operator};

fn current(status: &SandboxStatus) -> Option<(ConditionStatus, Reason)> {
    status.conditions.iter().find(|c| c.type_ == ConditionType::SecretsCurrent).map(|c| (c.status, c.reason))
}

/// Waits until new runs get the newest version: a rotated value may be served from memory for a moment.
async fn gets(team: &Team, value: &str) -> Result<()> {
    let mut round = 0;
    poll(Duration::from_secs(60), "a new run gets the new value", async || {
        round += 1;
        let run = team.run(&format!("new-{round}"), json!({"secrets": [{"name": "KEY"}]})).await?;
        team.pod(&run).await?;
        let got = team.copy(&run).await?;
        ensure!(got["KEY"] == value, "it got {got:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_running_run_keeps_its_copy_and_a_new_one_gets_the_new_value() -> Result<()> {
    let team = Team::new(operator().await?, "rotate").await?;
    team.set_secret("KEY", b"old").await?;
    let run = team.run("old", json!({"secrets": [{"name": "KEY"}], "secretRemoval": "AfterFinish"})).await?;
    team.pod(&run).await?;
    team.play_start(&run).await?;
    let status = team.wait("old", "it runs", |s| s.phase == Phase::Running).await?;
    assert_eq!(current(&status), Some((ConditionStatus::True, Reason::Current)));

    let mark = team.mark()?;
    team.set_secret("KEY", b"new").await?;
    let status = team
        .wait("old", "it is told", |s| current(s).is_some_and(|(status, _)| status == ConditionStatus::False))
        .await?;
    assert_eq!(current(&status), Some((ConditionStatus::False, Reason::NewerVersion)));
    assert_eq!((status.phase, status.secrets[0].version.as_deref()), (Phase::Running, Some("1")));
    assert_eq!(team.copy(&run).await?["KEY"], "old");
    assert_eq!(team.writes(mark).await?, ["patch sandboxes/status"], "a newer version costs one patch");

    gets(&team, "new").await?;
    team.play_exit(&run, 0).await?;
    let status = team.wait_finished("old").await?;
    assert_eq!(status.secrets[0].version.as_deref(), Some("1"));
    Ok(())
}

#[tokio::test]
async fn a_pin_gets_its_version_as_long_as_that_is_kept() -> Result<()> {
    let team = Team::new(operator().await?, "pin").await?;
    team.set_secret("KEY", b"one").await?;
    // A rotation that keeps the old version beside the new one.
    let secrets = Api::<TeamSecret>::namespaced(team.admin.clone(), &team.namespace);
    let mut secret = secrets.get("key").await?;
    secret.spec.versions.insert(0, team.seal("KEY", 2, b"two").await?);
    secrets.replace("key", &PostParams::default(), &secret).await?;
    let pinned = |version: &str| json!({"secrets": [{"name": "KEY", "version": version}], "secretsTimeoutSeconds": 0});
    let run = team.run("pinned", pinned("1")).await?;
    team.pod(&run).await?;
    assert_eq!(team.copy(&run).await?["KEY"], "one");
    team.play_start(&run).await?;
    let status = team.wait("pinned", "it runs", |s| s.phase == Phase::Running).await?;
    assert_eq!(status.secrets[0].version.as_deref(), Some("1"));
    // Who pins a version does not want to hear of newer ones.
    assert_eq!(current(&status), Some((ConditionStatus::True, Reason::Current)));
    gets(&team, "two").await?;

    // A plain rotation drops both: the old manifest, applied again, gets nothing.
    team.set_secret("KEY", b"three").await?;
    let mut round = 0;
    poll(Duration::from_secs(60), "the old pin is refused", async || {
        round += 1;
        let name = format!("again-{round}");
        team.run(&name, pinned("1")).await?;
        let run = poll(Duration::from_secs(20), "it is decided", async || {
            let status = team.sandboxes().get(&name).await?.status.unwrap_or_default();
            ensure!(status.phase.is_terminal(), "not yet");
            Ok(status)
        })
        .await?;
        ensure!(run.reason == Some(Reason::SecretNotFound), "{}", json!(run));
        let message = run.message.unwrap_or_default();
        ensure!(message.contains("daypass secret list"), "{message}");
        Ok(())
    })
    .await?;
    let status = team.sandboxes().get("pinned").await?.status.unwrap_or_default();
    assert_eq!(status.phase, Phase::Running, "a run that has its value keeps it");
    Ok(())
}
