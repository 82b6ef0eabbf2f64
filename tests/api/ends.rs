//! How runs end that do not end well, and what they wait for before.

use std::time::Duration;

use anyhow::{Result, ensure};
use daypass::api::{Phase, Reason, SandboxStatus};
use daypass_testcluster::poll;
use serde_json::{Value, json};

use crate::support::{Team, operator};

/// A run with one secret, whose Pod is there.
async fn with_pod(team: &Team, name: &str, mut spec: Value) -> Result<String> {
    spec["secrets"] = json!([{"name": "API_KEY"}]);
    let run = team.run(name, spec).await?;
    team.pod(&run).await?;
    Ok(run)
}

async fn team(prefix: &str) -> Result<Team> {
    let team = Team::new(operator().await?, prefix).await?;
    team.set_secret("API_KEY", b"value-1").await?;
    Ok(team)
}

async fn ends(team: &Team, name: &str, phase: Phase, reason: Reason) -> Result<SandboxStatus> {
    let status = team.wait_finished(name).await?;
    ensure!((status.phase, status.reason) == (phase, Some(reason)), "{name}: {}", json!(status));
    ensure!(status.secrets_state.as_deref() == Some("Removed"), "{name}: {}", json!(status));
    team.assert_no_run_secrets().await?;
    Ok(status)
}

#[tokio::test]
async fn what_the_container_leaves_is_told_apart() -> Result<()> {
    let team = team("exit").await?;
    for (code, word, reason, says) in [
        (7, "Error", Reason::NonZeroExit, "exit code 7"),
        (137, "OOMKilled", Reason::OOMKilled, "spec.resources.limits.memory"),
        (128, "StartError", Reason::ContainerCreateFailed, "spec.command"),
    ] {
        let name = word.to_lowercase();
        let run = with_pod(&team, &name, json!({})).await?;
        team.play_end(&run, code, word).await?;
        let status = ends(&team, &name, Phase::Failed, reason).await?;
        assert_eq!(status.exit_code, Some(code));
        assert!(status.message.unwrap().contains(says));
    }
    let run = with_pod(&team, "evicted", json!({})).await?;
    team.play_status(&run, json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"})).await?;
    ends(&team, "evicted", Phase::Failed, Reason::Evicted).await?;
    let run = with_pod(&team, "refused", json!({})).await?;
    team.play_status(&run, json!({"phase": "Failed", "reason": "UnexpectedAdmissionError"})).await?;
    let status = ends(&team, "refused", Phase::Failed, Reason::PodRefused).await?;
    assert!(status.message.unwrap().contains("UnexpectedAdmissionError"));
    Ok(())
}

#[tokio::test]
async fn stop_ends_a_running_run_and_keeps_the_object() -> Result<()> {
    let team = team("stop").await?;
    let run = with_pod(&team, "stop", json!({})).await?;
    team.play_bind(&run).await?;
    team.play_start(&run).await?;
    team.wait("stop", "it runs", |s| s.phase == Phase::Running).await?;
    let mark = team.mark()?;
    team.change("stop", json!({"stop": true})).await?;
    poll(Duration::from_secs(20), "the Pod is being deleted", async || {
        let pod = team.pods().get(&run).await?;
        ensure!(pod.metadata.deletion_timestamp.is_some() && pod.metadata.deletion_grace_period_seconds == Some(10));
        Ok(())
    })
    .await?;
    team.play_exit(&run, 143).await?;
    team.play_vanish(&run).await?;
    ends(&team, "stop", Phase::Terminated, Reason::Stopped).await?;
    assert_eq!(team.writes(mark).await?, ["delete pods", "patch sandboxes/status"]);
    Ok(())
}

#[tokio::test]
async fn stop_before_the_start_leaves_nothing() -> Result<()> {
    let team = team("early").await?;
    // From the very beginning: no Pod, no Secret.
    let mark = team.mark()?;
    team.run("never", json!({"secrets": [{"name": "API_KEY"}], "stop": true})).await?;
    let status = team.wait_finished("never").await?;
    assert_eq!((status.phase, status.reason), (Phase::Terminated, Some(Reason::Stopped)));
    assert_eq!(team.writes(mark).await?, ["patch sandboxes/status"]);
    // While it waits for a secret.
    let mark = team.mark()?;
    team.run("waits", json!({"secrets": [{"name": "MISSING"}]})).await?;
    team.wait("waits", "it waits", |s| s.reason == Some(Reason::SecretNotFound)).await?;
    team.change("waits", json!({"stop": true})).await?;
    let status = team.wait_finished("waits").await?;
    assert_eq!((status.phase, status.reason), (Phase::Terminated, Some(Reason::Stopped)));
    assert_eq!(team.writes(mark).await?, ["patch sandboxes/status", "patch sandboxes/status"]);
    // While its Pod starts.
    let mark = team.mark()?;
    let run = with_pod(&team, "starts", json!({})).await?;
    team.change("starts", json!({"stop": true})).await?;
    ends(&team, "starts", Phase::Terminated, Reason::Stopped).await?;
    team.wait_no_pod(&run).await?;
    assert_eq!(
        team.writes(mark).await?,
        ["create secrets", "create pods", "delete secrets", "delete pods", "patch sandboxes/status"]
    );
    Ok(())
}

#[tokio::test]
async fn the_deadline_ends_a_run_with_or_without_a_kubelet() -> Result<()> {
    let team = team("deadline").await?;
    let told = with_pod(&team, "told", json!({"activeDeadlineSeconds": 3600})).await?;
    team.play_status(&told, json!({"phase": "Failed", "reason": "DeadlineExceeded"})).await?;
    let status = ends(&team, "told", Phase::Failed, Reason::DeadlineExceeded).await?;
    assert!(status.message.unwrap().contains("spec.activeDeadlineSeconds"));
    // The kubelet says nothing: the operator ends the Pod itself, and when the life was made shorter, earlier.
    let run = with_pod(&team, "untold", json!({"activeDeadlineSeconds": 3600})).await?;
    team.play_start(&run).await?;
    let long = team.wait("untold", "it runs", |s| s.phase == Phase::Running).await?.expires_at.unwrap();
    team.change("untold", json!({"activeDeadlineSeconds": 10})).await?;
    team.wait("untold", "it expires earlier", |s| s.expires_at.is_some_and(|expires| expires < long)).await?;
    ends(&team, "untold", Phase::Failed, Reason::DeadlineExceeded).await?;
    team.wait_no_pod(&run).await
}

#[tokio::test]
async fn a_pod_that_no_node_takes_is_told_and_given_up() -> Result<()> {
    let team = team("nowhere").await?;
    let mark = team.mark()?;
    // There is no node here, so the real scheduler says it.
    let run = with_pod(&team, "nowhere", json!({"startupTimeoutSeconds": 20})).await?;
    let status = team.wait("nowhere", "it says so", |s| s.reason == Some(Reason::Unschedulable)).await?;
    assert_eq!(status.phase, Phase::Pending);
    assert!(status.message.unwrap().contains("No node takes the Pod"));
    let status = ends(&team, "nowhere", Phase::Failed, Reason::Unschedulable).await?;
    assert!(status.message.unwrap().contains("spec.startupTimeoutSeconds"));
    team.wait_no_pod(&run).await?;
    assert_eq!(
        team.writes(mark).await?,
        [
            "create secrets",
            "create pods",
            "patch sandboxes/status",
            "delete secrets",
            "delete pods",
            "patch sandboxes/status"
        ]
    );
    Ok(())
}

#[tokio::test]
async fn an_image_that_is_missing_costs_one_patch_and_may_still_come() -> Result<()> {
    let team = team("image").await?;
    let mark = team.mark()?;
    let run = with_pod(&team, "late", json!({"image": "nowhere/nothing:1"})).await?;
    team.play_waiting(&run, "ErrImagePull", "not found").await?;
    let status = team.wait("late", "it says so", |s| s.reason == Some(Reason::ImagePullFailed)).await?;
    assert!(status.message.unwrap().contains("spec.image"));
    // The kubelet goes back and forth; the reason stays.
    for word in ["ImagePullBackOff", "ErrImagePull", "ImagePullBackOff"] {
        team.play_waiting(&run, word, "back-off").await?;
    }
    team.play_start(&run).await?;
    team.wait("late", "it runs", |s| s.phase == Phase::Running).await?;
    assert_eq!(
        team.writes(mark).await?,
        ["create secrets", "create pods", "patch sandboxes/status", "delete secrets", "patch sandboxes/status"]
    );

    let run = with_pod(&team, "never", json!({"image": "nowhere/nothing:1", "startupTimeoutSeconds": 3})).await?;
    team.play_waiting(&run, "ImagePullBackOff", "back-off").await?;
    ends(&team, "never", Phase::Failed, Reason::ImagePullFailed).await?;
    Ok(())
}

#[tokio::test]
async fn a_container_that_cannot_be_made_is_told_and_given_up() -> Result<()> {
    let team = team("cannot").await?;
    let run = with_pod(&team, "cannot", json!({"startupTimeoutSeconds": 13})).await?;
    team.play_bind(&run).await?;
    team.play_waiting(&run, "CreateContainerError", "the runtime's words").await?;
    let status = team.wait("cannot", "it says so", |s| s.reason == Some(Reason::ContainerCreateFailed)).await?;
    let message = status.message.unwrap();
    assert!(message.contains("kubectl describe pod") && !message.contains("the runtime's words"), "{message}");
    poll(Duration::from_secs(30), "it is given up", async || {
        ensure!(team.pods().get(&run).await?.metadata.deletion_timestamp.is_some());
        Ok(())
    })
    .await?;
    team.assert_no_run_secrets().await?;
    team.play_vanish(&run).await?;
    let status = ends(&team, "cannot", Phase::Failed, Reason::StartupTimeout).await?;
    assert!(status.message.unwrap().contains("CreateContainerError"));
    Ok(())
}
