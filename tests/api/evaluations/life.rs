//! How EvalJobs live on the real API server; the test plays the node and the runner.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daypass::api::{
    BenchmarkPhase, BoundBy, ConditionStatus, ConditionType, EvalJobStatus, EvaluationPhase, Reason, SecretState,
};
use daypass_testcluster::poll;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::support::{COLLECTED, Team, operator};

fn condition(status: &EvalJobStatus, kind: ConditionType) -> Option<(ConditionStatus, Reason)> {
    let condition = status.conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((condition.status, condition.reason))
}

/// The variables that a Pod takes from Secrets, and the one with the runner's configuration.
fn variables(pod: &Pod) -> Result<(Vec<String>, Value)> {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first()).context("a container")?;
    let env = container.env.as_deref().unwrap_or_default();
    let mut keys: Vec<_> = env.iter().filter(|env| env.value_from.is_some()).map(|env| env.name.clone()).collect();
    keys.sort();
    let told = env.iter().find(|env| env.name == "DAYPASS_RUN").and_then(|env| env.value.clone());
    Ok((keys, serde_json::from_str(&told.context("DAYPASS_RUN")?)?))
}

#[tokio::test]
async fn three_benchmarks_get_three_sets_of_keys_and_scores_come_out() -> Result<()> {
    let team = Team::new(operator().await?, "three").await?;
    for name in ["MODEL_KEY", "HF_TOKEN", "JUDGE", "EXTRA"] {
        team.set_secret(name, format!("value of {name}").as_bytes()).await?;
    }
    let job = team
        .evaluate(
            "three",
            json!({
                "benchmarks": [
                    {"task": "boolq", "secrets": [{"name": "EXTRA"}], "expect": ["accuracy >= 0.5"]},
                    {"task": "lingoly"},
                    {"task": "strong_reject", "name": "refusals"},
                ],
                "graders": [{"model": "j", "baseURL": "https://judge.test/v1", "apiKey": {"name": "JUDGE"}}],
                "parallelism": 3,
            }),
        )
        .await?;
    let wanted = [
        ("boolq", vec!["EXTRA", "TARGET_API_KEY"]),
        ("lingoly", vec!["HF_TOKEN", "TARGET_API_KEY"]),
        ("refusals", vec!["JUDGE_API_KEY", "TARGET_API_KEY"]),
    ];
    let mut runs = Vec::new();
    for (benchmark, keys) in &wanted {
        let run = team.attempt(&job, benchmark, 1).await?;
        let copy = team.copy(&run).await?;
        assert_eq!(copy.keys().map(String::as_str).collect::<Vec<_>>(), *keys, "{benchmark}");
        let pod = team.pod(&run).await?;
        let (named, told) = variables(&pod)?;
        assert_eq!(named, *keys, "{benchmark}");
        assert_eq!(told["benchmark"], *benchmark);
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        assert_eq!((&*labels["daypass.dev/evaljob"], &*labels["daypass.dev/benchmark"]), ("three", *benchmark));
        let text = serde_json::to_string(&pod)?;
        ensure!(!text.contains("value of"), "a value is in the Pod");
        runs.push(run);
    }
    // The references stand in the status before anything has started, autoBind's too.
    let status = team.wait_job("three", "three attempts", |status| status.active == 3).await?;
    let token = &status.benchmark("lingoly").context("lingoly")?.secrets[1];
    assert_eq!((&*token.env_var, token.bound, token.state), ("HF_TOKEN", BoundBy::AutoBind, SecretState::Waiting));

    for ((benchmark, _), run) in wanted.iter().zip(&runs) {
        let told = team.starts(&job, benchmark, run).await?;
        assert!(told.secrets.iter().all(|s| s.state == SecretState::Removed && s.version.as_deref() == Some("1")));
        assert!(told.secret_exposure_milliseconds.is_some_and(|exposed| exposed > 0));
    }
    team.assert_no_run_secrets().await?;
    for (run, accuracy) in runs.iter().zip([0.8, 0.25, 1.0]) {
        team.play_score(run, accuracy).await?;
    }
    let status = team.wait_job_over("three").await?;
    assert_eq!((status.phase, status.progress.as_deref()), (EvaluationPhase::Completed, Some("3/3")));
    assert_eq!(status.headline.as_deref(), Some("0.8 0.25 1"));
    assert_eq!((status.samples.map(|s| s.done), status.tokens.map(|t| t.input)), (Some(30), Some(300)));
    assert_eq!(status.benchmarks[0].task, "inspect_evals/boolq");
    for kind in [
        ConditionType::Complete,
        ConditionType::Finished,
        ConditionType::SecretsResolved,
        ConditionType::SecretsRemoved,
        ConditionType::ExpectationsMet,
    ] {
        assert_eq!(condition(&status, kind).map(|(status, _)| status), Some(ConditionStatus::True), "{kind:?}");
    }
    Ok(())
}

#[tokio::test]
async fn two_missing_keys_are_told_at_once_and_a_rerun_goes_on() -> Result<()> {
    let team = Team::new(operator().await?, "missing").await?;
    team.set_secret("MODEL_KEY", b"value").await?;
    let mark = team.mark()?;
    team.evaluate(
        "missing",
        json!({"benchmarks": [{"task": "lingoly"}, {"task": "strong_reject"}, {"task": "boolq"}]}),
    )
    .await?;
    let status = team.wait_job_over("missing").await?;
    assert_eq!((status.phase, status.reason), (EvaluationPhase::Failed, Some(Reason::SecretNotFound)));
    let message = status.message.clone().unwrap_or_default();
    for part in [
        "lingoly: HF_TOKEN, the gated data set ambean/lingOly",
        &format!("daypass secret set HF_TOKEN -n {}", team.namespace),
        "strong_reject: OPENAI_API_KEY, the key of its judge openai/gpt-4o",
        &format!("daypass secret set OPENAI_API_KEY -n {}", team.namespace),
    ] {
        ensure!(message.contains(part), "{part:?} is not in {message:?}");
    }
    assert_eq!(condition(&status, ConditionType::Failed), Some((ConditionStatus::True, Reason::SecretNotFound)));
    assert_eq!(team.writes(mark).await?, ["patch evaljobs/status"], "nothing is made before every key is there");

    team.set_secret("HF_TOKEN", b"value").await?;
    team.set_secret("OPENAI_API_KEY", b"value").await?;
    team.change_job("missing", json!({"rerun": 1})).await?;
    let job = team.evaljobs().get("missing").await?;
    let run = team.attempt(&job, "lingoly", 1).await?;
    team.starts(&job, "lingoly", &run).await?;
    team.change_job("missing", json!({"stop": true})).await?;
    let status = team.wait_job_over("missing").await?;
    assert_eq!((status.phase, status.reason), (EvaluationPhase::Terminated, Some(Reason::Stopped)));
    team.wait_no_pod(&run).await?;
    team.assert_no_run_secrets().await
}

#[tokio::test]
async fn every_kind_of_refusal_is_told_in_one_answer() -> Result<()> {
    let team = Team::new(operator().await?, "refusals").await?;
    let other = Team::new(operator().await?, "owners").await?;
    team.set_secret("MODEL_KEY", b"value").await?;
    other.set_secret("TOKEN", b"value").await?;
    let user = format!("member@{}", team.namespace);
    other.grant_user(&user).await?;
    poll(Duration::from_secs(30), "the grant is seen", async || {
        let _ = team.evaljobs().delete("refused", &DeleteParams::default()).await;
        let spec = json!({"benchmarks": [
            {"task": "lingoly", "secrets": [{"team": other.namespace, "name": "TOKEN", "envVar": "HF_TOKEN"}]},
            {"task": "simpleqa"}, {"task": "gsm9k"},
        ]});
        team.evaluate("refused", spec).await?;
        Ok(())
    })
    .await?;
    let status = team.wait_job_over("refused").await?;
    let message = status.message.unwrap_or_default();
    for part in [
        "benchmarks[1] (simpleqa): the evaluated model would judge itself",
        "benchmarks[2] (gsm9k): the catalog has no gsm9k; is it gsm8k",
        "lingoly: HF_TOKEN",
        &format!("ServiceAccount {}/default may not use TOKEN of team {}", team.namespace, other.namespace),
        &format!("daypass secret grant TOKEN -n {}", other.namespace),
    ] {
        ensure!(message.contains(part), "{part:?} is not in {message:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_cause_decides_about_another_attempt_with_a_secret_of_its_own() -> Result<()> {
    let team = Team::new(operator().await?, "again").await?;
    team.set_secret("MODEL_KEY", b"value").await?;
    let job = team.evaluate("again", json!({"benchmarks": [{"task": "boolq"}], "backoffLimit": 1})).await?;
    let first = team.attempt(&job, "boolq", 1).await?;
    team.starts(&job, "boolq", &first).await?;
    let echoed = json!({"cause": "ModelRateLimited", "message": "Error code: 429\u{7}", "retryAfterSeconds": 1});
    team.play_report(&first, 12, echoed).await?;
    let waits = |status: &EvalJobStatus| status.benchmarks[0].next_attempt_at.is_some();
    let status = team.wait_job("again", "it waits for its next attempt", waits).await?;
    let told = &status.benchmarks[0];
    assert_eq!((told.phase, told.reason, told.failures), (BenchmarkPhase::Pending, Some(Reason::BackOff), 1));
    assert_eq!(told.cause.as_deref(), Some("ModelRateLimited"));
    assert!(told.message.as_ref().is_some_and(|text| text.contains("Error code: 429") && !text.contains('\u{7}')));
    let second = team.attempt(&job, "boolq", 2).await?;
    assert_ne!(first, second);
    assert_eq!(team.copy(&second).await?.len(), 1, "a new attempt has a new copy");
    team.play_report(&second, 22, json!({"cause": "ModelAuthFailed"})).await?;
    let status = team.wait_job_over("again").await?;
    assert_eq!((status.phase, status.reason), (EvaluationPhase::Failed, Some(Reason::BenchmarksFailed)));
    assert_eq!(status.benchmarks[0].reason, Some(Reason::ModelAuthFailed));
    team.assert_no_run_secrets().await
}

#[tokio::test]
async fn a_suspended_job_is_checked_and_holds_nothing() -> Result<()> {
    let team = Team::new(operator().await?, "suspended").await?;
    team.set_secret("MODEL_KEY", b"value").await?;
    let mark = team.mark()?;
    let job = team.evaluate("suspended", json!({"benchmarks": [{"task": "boolq"}], "suspend": true})).await?;
    let suspended = |status: &EvalJobStatus| status.phase == EvaluationPhase::Suspended;
    let status = team.wait_job("suspended", "it is suspended", suspended).await?;
    let resolved = condition(&status, ConditionType::SecretsResolved);
    assert_eq!(resolved, Some((ConditionStatus::True, Reason::Resolved)));
    assert_eq!(status.benchmarks[0].secrets[0].bound, BoundBy::Model);
    assert_eq!(team.writes(mark).await?, ["patch evaljobs/status"]);

    team.change_job("suspended", json!({"suspend": false})).await?;
    let first = team.attempt(&job, "boolq", 1).await?;
    team.starts(&job, "boolq", &first).await?;
    team.change_job("suspended", json!({"suspend": true})).await?;
    team.wait_job("suspended", "it is suspended again", suspended).await?;
    team.wait_no_pod(&first).await?;
    team.assert_no_run_secrets().await?;
    team.change_job("suspended", json!({"suspend": false})).await?;
    let second = team.attempt(&job, "boolq", 2).await?;
    team.play_score(&second, 0.5).await?;
    let status = team.wait_job_over("suspended").await?;
    assert_eq!((status.phase, status.benchmarks[0].failures), (EvaluationPhase::Completed, 0));
    Ok(())
}

#[tokio::test]
async fn a_pod_behind_its_queue_gets_its_secret_before_its_gate_is_lifted() -> Result<()> {
    let team = Team::new(operator().await?, "queued").await?;
    team.set_secret("MODEL_KEY", b"value").await?;
    let mark = team.mark()?;
    let job = team
        .evaluate(
            "queued",
            json!({"benchmarks": [{"task": "boolq"}], "queueName": "gpus", "ttlSecondsAfterFinished": 0}),
        )
        .await?;
    let run = team.attempt(&job, "boolq", 1).await?;
    // No queue is here, so the operator's own gate is all that stands before the Pod, and it is lifted.
    let gates =
        |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty));
    poll(Duration::from_secs(20), "the gate is lifted", async || {
        let pod = team.pod(&run).await?;
        ensure!(gates(&pod), "it stands");
        Ok(())
    })
    .await?;
    let pod = team.pod(&run).await?;
    assert_eq!(pod.metadata.labels.unwrap_or_default()["kueue.x-k8s.io/queue-name"], "gpus");
    let writes = team.writes(mark).await?;
    let order: Vec<&str> =
        writes.iter().map(String::as_str).filter(|write| !write.starts_with("patch evaljobs")).collect();
    assert_eq!(order, ["create pods", "create secrets", "patch pods"], "{writes:?}");
    assert_eq!(team.copy(&run).await?.len(), 1);
    let told = team.starts(&job, "boolq", &run).await?;
    assert_eq!(told.secrets[0].version.as_deref(), Some("1"));
    team.play_score(&run, 0.5).await?;
    poll(COLLECTED, "the job is gone at the end of its time", async || {
        ensure!(team.evaljobs().get_opt("queued").await?.is_none(), "it is there");
        Ok(())
    })
    .await?;
    team.wait_no_pod(&run).await?;
    team.assert_no_run_secrets().await
}

#[tokio::test]
async fn a_deleted_pod_is_tried_again_and_a_deleted_job_leaves_nothing() -> Result<()> {
    let team = Team::new(operator().await?, "gone").await?;
    team.set_secret("MODEL_KEY", b"value").await?;
    let job = team.evaluate("gone", json!({"benchmarks": [{"task": "boolq"}]})).await?;
    let first = team.attempt(&job, "boolq", 1).await?;
    team.starts(&job, "boolq", &first).await?;
    team.play_vanish(&first).await?;
    let second = team.attempt(&job, "boolq", 2).await?;
    assert_eq!(team.copy(&second).await?.len(), 1);
    team.evaljobs().delete("gone", &DeleteParams::default()).await?;
    poll(COLLECTED, "no copy is left", async || team.assert_no_run_secrets().await).await?;
    team.wait_no_pod(&second).await
}

#[tokio::test]
async fn wandb_is_asked_before_anything_starts() -> Result<()> {
    let team = Team::new(operator().await?, "wandb").await?;
    for (name, value) in [("MODEL_KEY", "value"), ("WANDB_API_KEY", "key-of-amy"), ("OTHER_KEY", "key-of-nobody")] {
        team.set_secret(name, value.as_bytes()).await?;
    }
    let job = |entity: &str, key: &str| {
        json!({
            "benchmarks": [{"task": "boolq"}, {"task": "gsm8k"}], "suspend": true,
            "results": {"wandb": {"entity": entity, "project": "p", "apiKey": {"name": key}}},
        })
    };
    team.evaluate("good", job("ml", "WANDB_API_KEY")).await?;
    let status = team.wait_job("good", "it is checked", |status| status.phase == EvaluationPhase::Suspended).await?;
    assert_eq!(
        condition(&status, ConditionType::SecretsResolved),
        Some((ConditionStatus::True, Reason::Resolved)),
        "{status:?}"
    );
    for (name, entity, key, says) in [
        ("entity", "others", "WANDB_API_KEY", "correct results.wandb.entity"),
        ("key", "ml", "OTHER_KEY", "daypass secret rotate OTHER_KEY"),
    ] {
        team.evaluate(name, job(entity, key)).await?;
        let status = team.wait_job_over(name).await?;
        let message = status.message.clone().unwrap_or_default();
        ensure!(status.reason == Some(Reason::AccessDenied) && message.contains(says), "{status:?}");
        ensure!(message.starts_with("boolq, gsm8k: results.wandb: ") && !message.contains("key-of-"), "{message}");
        assert!(status.benchmarks.iter().all(|told| told.phase == BenchmarkPhase::Failed), "{status:?}");
    }
    Ok(())
}
