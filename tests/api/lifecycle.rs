//! The life of a run on the real API server; the test plays the node.

use anyhow::{Result, ensure};
use daypass::api::{Phase, Reason};
use serde_json::json;

use crate::support::{Team, operator, sandbox};

#[tokio::test]
async fn a_run_gets_its_secret_and_the_copy_goes_when_it_has_started() -> Result<()> {
    let team = Team::new(operator().await?, "life").await?;
    team.set_secret("API_KEY", b"value-1").await?;
    let mark = team.operator.cluster.audit().mark()?;
    let run = team.submit(&sandbox("demo", json!({"secrets": [{"name": "API_KEY"}]}))?).await?;

    let pod = team.pod(&run).await?;
    let secret = team.secrets().get(&run).await?;
    let data = secret.data.unwrap_or_default();
    assert_eq!(data.keys().collect::<Vec<_>>(), ["API_KEY"]);
    assert_eq!(data["API_KEY"].0, b"value-1");
    assert_eq!(secret.immutable, Some(true));
    assert!(pod.metadata.creation_timestamp >= secret.metadata.creation_timestamp);

    team.play_start(&run).await?;
    let status = team.wait("demo", "it runs and the copy is gone", |s| s.phase == Phase::Running).await?;
    assert_eq!(status.secrets_state.as_deref(), Some("Removed"));
    assert!(status.secret_exposure_milliseconds.is_some());
    team.assert_no_run_secrets().await?;

    team.play_exit(&run, 0).await?;
    let status = team.wait_finished("demo").await?;
    assert_eq!((status.phase, status.exit_code), (Phase::Completed, Some(0)));

    team.operator.cluster.audit_settled().await?;
    let writes: Vec<String> = team
        .operator
        .cluster
        .audit()
        .since(mark)?
        .into_iter()
        .filter(|entry| entry.is_write() && entry.namespace == team.namespace)
        .filter(|entry| entry.user == "system:serviceaccount:daypass-system:daypass-operator")
        .map(|entry| format!("{} {}/{}", entry.verb, entry.resource, entry.subresource))
        .collect();
    assert_eq!(
        writes,
        ["create secrets/", "create pods/", "delete secrets/", "patch sandboxes/status", "patch sandboxes/status"]
    );
    Ok(())
}

#[tokio::test]
async fn a_missing_secret_is_waited_for() -> Result<()> {
    let team = Team::new(operator().await?, "late").await?;
    let run = team.submit(&sandbox("late", json!({"secrets": [{"name": "LATER"}]}))?).await?;
    let status = team.wait("late", "it waits", |s| s.reason == Some(Reason::SecretNotFound)).await?;
    assert_eq!(status.phase, Phase::Pending);
    let message = status.message.unwrap_or_default();
    ensure!(message.contains("daypass secret set LATER"), "{message}");
    team.set_secret("LATER", b"now").await?;
    team.pod(&run).await?;
    Ok(())
}
