//! How runs end, and what keeps them from starting, on a real node.

use std::time::Duration;

use anyhow::{Result, ensure};
use daypass::api::{Phase, Reason};
use daypass_testcluster::poll;
use serde_json::{Value, json};

use crate::support::{Run, Team};

/// A team with a secret and a run that names it.
async fn submit(spec: Value) -> Result<(Team, Run)> {
    let team = Team::new("ends").await?;
    team.set_secret("API_KEY", b"value").await?;
    let mut spec = spec;
    spec["secrets"] = json!([{"name": "API_KEY"}]);
    let run = team.submit("ends", spec).await?;
    Ok((team, run))
}

/// Waits for the end of a run that fails, and proves that no copy is left.
async fn fails_with(spec: Value, reason: Reason) -> Result<Option<i32>> {
    let (team, run) = submit(spec).await?;
    let status = team.wait_finished(&run).await?;
    assert_eq!((status.phase, status.reason.as_ref()), (Phase::Failed, Some(&reason)), "{:?}", status.message);
    team.assert_no_copy(&run).await?;
    Ok(status.exit_code)
}

#[tokio::test]
async fn an_exit_code_is_told() -> Result<()> {
    let code = fails_with(json!({"command": ["sh", "-c", "exit 7"]}), Reason::NonZeroExit).await?;
    assert_eq!(code, Some(7));
    Ok(())
}

#[tokio::test]
async fn a_program_that_the_image_has_not() -> Result<()> {
    fails_with(json!({"command": ["/no/such/program"]}), Reason::ContainerCreateFailed).await.map(drop)
}

#[tokio::test]
async fn too_little_memory() -> Result<()> {
    let spec = json!({
        "command": ["sh", "-c", "head -c 200000000 /dev/zero | tail"],
        "resources": {"limits": {"memory": "32Mi"}},
    });
    fails_with(spec, Reason::OOMKilled).await.map(drop)
}

#[tokio::test]
async fn an_image_that_nobody_has_is_named_at_once_and_given_up_in_time() -> Result<()> {
    let (team, run) = submit(json!({"image": "127.0.0.1:1/no/such:image", "startupTimeoutSeconds": 30})).await?;
    let waits =
        team.wait(&run, "it says why it waits", |status| status.reason == Some(Reason::ImagePullFailed)).await?;
    assert_eq!(waits.phase, Phase::Pending, "it is named before the run is given up");
    let status = team.wait_finished(&run).await?;
    assert_eq!((status.phase, status.reason), (Phase::Failed, Some(Reason::ImagePullFailed)), "{:?}", status.message);
    team.assert_no_copy(&run).await
}

#[tokio::test]
async fn a_container_that_cannot_be_created() -> Result<()> {
    // The kubelet refuses a user that is root where the Pod says that it is not.
    let (team, run) = submit(json!({
        "command": ["true"],
        "securityContext": {"runAsUser": 0, "runAsNonRoot": true},
        "startupTimeoutSeconds": 20,
    }))
    .await?;
    let status =
        team.wait(&run, "it says why it waits", |status| status.reason == Some(Reason::ContainerCreateFailed)).await?;
    ensure!(status.message.unwrap_or_default().contains("root"), "the kubelet's words are told");
    let status = team.wait_finished(&run).await?;
    assert_eq!((status.phase, status.reason), (Phase::Failed, Some(Reason::StartupTimeout)), "{:?}", status.message);
    team.assert_no_copy(&run).await
}

#[tokio::test]
async fn stop_tells_the_program_first() -> Result<()> {
    let script = "trap 'echo told; exit 0' TERM; echo ready; while :; do sleep 1000 & wait $!; done";
    let (team, run) = submit(json!({"command": ["sh", "-c", script], "terminationGracePeriodSeconds": 60})).await?;
    team.wait_log(&run, "ready").await?;
    // The Pod goes with its log: follow it.
    let follow = team
        .cluster
        .kubectl_command()
        .args(["logs", "--follow", "--pod-running-timeout=60s", "-n", &team.namespace, &run.name])
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    team.patch(&run, json!({"stop": true})).await?;
    let log = tokio::task::spawn_blocking(move || follow.wait_with_output()).await??;
    assert_eq!(String::from_utf8(log.stdout)?, "ready\ntold\n");
    let status = team.wait_finished(&run).await?;
    assert_eq!((status.phase, status.reason), (Phase::Terminated, Some(Reason::Stopped)));
    team.assert_no_copy(&run).await
}

#[tokio::test]
async fn a_run_ends_at_its_deadline() -> Result<()> {
    let spec = json!({"activeDeadlineSeconds": 8, "terminationGracePeriodSeconds": 1});
    fails_with(spec, Reason::DeadlineExceeded).await.map(drop)
}

#[tokio::test]
async fn a_pod_that_somebody_deletes_ends_the_run() -> Result<()> {
    let (team, run) = submit(json!({})).await?;
    team.wait(&run, "it runs", |status| status.phase == Phase::Running).await?;
    team.pods().delete(&run.name, &kube::api::DeleteParams::default()).await?;
    let status = team.wait_finished(&run).await?;
    assert_eq!((status.phase, status.reason), (Phase::Terminated, Some(Reason::PodDeleted)));
    team.assert_no_copy(&run).await
}

#[tokio::test]
async fn a_deleted_sandbox_takes_everything_along() -> Result<()> {
    let (team, run) = submit(json!({"delivery": "File"})).await?;
    team.wait(&run, "it runs", |status| status.phase == Phase::Running).await?;
    team.sandboxes().delete(&run.sandbox, &kube::api::DeleteParams::default()).await?;
    team.wait_pod_gone(&run).await?;
    poll(Duration::from_mins(1), "the run Secret is gone", async || team.assert_no_copy(&run).await).await
}
