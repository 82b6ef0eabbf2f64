//! What stands in the way of a run's secrets: all of it is told at once, before anything is made.

use anyhow::{Result, ensure};
use daypass::api::{ConditionStatus, ConditionType, Phase, Reason, SecretState};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::support::{Team, operator, sandbox};

#[tokio::test]
async fn a_missing_secret_is_waited_for() -> Result<()> {
    let team = Team::new(operator().await?, "late").await?;
    let mark = team.mark()?;
    let run = team.run("late", json!({"secrets": [{"name": "LATER"}]})).await?;
    let status = team.wait("late", "it waits", |s| s.reason == Some(Reason::SecretNotFound)).await?;
    assert_eq!(status.phase, Phase::Pending);
    let message = status.message.unwrap_or_default();
    ensure!(message.contains("daypass secret set LATER"), "{message}");
    let resolved = status.conditions.iter().find(|c| c.type_ == ConditionType::SecretsResolved).unwrap();
    assert_eq!(resolved.status, ConditionStatus::False);
    team.set_secret("LATER", b"now").await?;
    team.pod(&run).await?;
    team.play_exit(&run, 0).await?;
    team.wait_finished("late").await?;
    // One patch for the reason to wait, and no more than that.
    assert_eq!(
        team.writes(mark).await?,
        ["patch sandboxes/status", "create secrets", "create pods", "delete secrets", "patch sandboxes/status"]
    );
    assert_eq!(team.events(mark).await?, 1, "trouble is an event");
    Ok(())
}

#[tokio::test]
async fn a_secret_that_never_comes_fails_the_run() -> Result<()> {
    let team = Team::new(operator().await?, "never").await?;
    let spec = json!({"secrets": [{"name": "A"}, {"name": "B"}], "secretsTimeoutSeconds": 1});
    team.run("never", spec).await?;
    let status = team.wait_finished("never").await?;
    assert_eq!((status.phase, status.reason), (Phase::Failed, Some(Reason::SecretNotFound)));
    let message = status.message.unwrap_or_default();
    for part in ["daypass secret set A", "daypass secret set B", "waited 1 s (spec.secretsTimeoutSeconds)"] {
        ensure!(message.contains(part), "{part:?} is not in {message}");
    }
    Ok(())
}

#[tokio::test]
async fn every_problem_is_told_at_once() -> Result<()> {
    let operator = operator().await?;
    let (team, other) = (Team::new(operator, "many").await?, Team::new(operator, "other").await?);
    team.set_secret("JSON", br#"{"user": "u"}"#).await?;
    team.set_secret("TEXT", b"no json").await?;
    team.set_secret("BYTES", b"\xff\xfe").await?;
    other.set_secret("THEIRS", b"value").await?;
    let mark = team.mark()?;
    let secrets = json!([
        {"name": "MISSING_1"},
        {"name": "JSON", "field": "password", "envVar": "A"},
        {"name": "TEXT", "field": "password", "envVar": "B"},
        {"name": "BYTES"},
        {"name": "IN_VAULT", "store": "vault"},
        {"name": "THEIRS", "team": other.namespace},
        {"name": "MISSING_2"},
        {"name": "ABSENT", "optional": true},
    ]);
    // As the cluster's admin: a member would be refused at once for the other team's secret.
    let sandboxes = Api::namespaced(team.root.clone(), &team.namespace);
    sandboxes.create(&PostParams::default(), &sandbox("many", json!({"secrets": secrets}))?).await?;
    let status = team.wait_finished("many").await?;
    assert_eq!((status.phase, status.reason), (Phase::Failed, Some(Reason::SecretFieldNotFound)));
    let message = status.message.unwrap_or_default();
    let ns = &team.namespace;
    for part in [
        format!("secrets[0]: MISSING_1 of team {ns}"),
        format!("`daypass secret set MISSING_1 -n {ns}`"),
        "secrets[1]: JSON".into(),
        "no field \"password\"".into(),
        "secrets[2]: TEXT".into(),
        "no JSON object".into(),
        "secrets[3]: BYTES".into(),
        "use `delivery: File`".into(),
        format!("team {ns} has no store vault"),
        format!("`kubectl get tstore -n {ns}`"),
        format!("secrets[5]: ServiceAccount {ns}/default may not use THEIRS of team {}", other.namespace),
        format!("`daypass secret grant THEIRS -n {} --to-serviceaccount {ns}/default`", other.namespace),
        format!("`daypass secret set MISSING_2 -n {ns}`"),
    ] {
        ensure!(message.contains(&part), "{part:?} is not in {message}");
    }
    ensure!(!message.contains("ABSENT"), "{message}");
    assert_eq!(status.secrets[5].state, SecretState::Denied);
    assert_eq!(status.secrets[0].state, SecretState::Waiting);
    assert_eq!(team.writes(mark).await?, ["patch sandboxes/status"], "nothing was made");
    Ok(())
}

#[tokio::test]
async fn who_may_not_use_a_name_does_not_learn_whether_it_exists() -> Result<()> {
    let operator = operator().await?;
    let (team, other) = (Team::new(operator, "curious").await?, Team::new(operator, "closed").await?);
    other.set_secret("REAL", b"value").await?;
    let sandboxes = Api::namespaced(team.root.clone(), &team.namespace);
    let mut messages = Vec::new();
    for name in ["REAL", "FAKE"] {
        let spec = json!({"secrets": [{"name": name, "team": other.namespace, "optional": true}]});
        let object = name.to_lowercase();
        sandboxes.create(&PostParams::default(), &sandbox(&object, spec)?).await?;
        let status = team.wait_finished(&object).await?;
        assert_eq!(status.reason, Some(Reason::AccessDenied));
        messages.push(status.message.unwrap_or_default().replace(name, "NAME"));
    }
    assert_eq!(messages[0], messages[1]);
    Ok(())
}

#[tokio::test]
async fn another_teams_grant_is_enough() -> Result<()> {
    let operator = operator().await?;
    let (team, other) = (Team::new(operator, "guest").await?, Team::new(operator, "host").await?);
    other.set_secret("SHARED", b"value").await?;
    other.grant_all(&team.namespace).await?;
    other.grant_user(&format!("member@{}", team.namespace)).await?;
    let run = team.run("guest", json!({"secrets": [{"name": "SHARED", "team": other.namespace}]})).await?;
    team.pod(&run).await?;
    assert_eq!(team.copy(&run).await?, [("SHARED".into(), "value".into())].into());
    Ok(())
}
