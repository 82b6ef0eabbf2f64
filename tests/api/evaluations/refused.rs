//! EvalJobs that the API server refuses by itself, each with the field and the mend in its answer.

use anyhow::Result;
use serde_json::{Value, json};

use super::spec;
use crate::ask::{patch, post};
use crate::refused_manifests::{Refused, Verdict, many, object, path};
use crate::support::{Team, operator};

fn with(field: &str, value: Value) -> Value {
    spec(|spec| spec[field] = value)
}

fn model(change: impl FnOnce(&mut Value)) -> Value {
    spec(|spec| change(&mut spec["model"]))
}

fn benchmark(change: impl FnOnce(&mut Value)) -> Value {
    spec(|spec| change(&mut spec["benchmarks"][0]))
}

#[tokio::test]
async fn a_job_that_cannot_be_is_refused_with_its_mend() -> Result<()> {
    let team = Team::new(operator().await?, "refused-job").await?;
    let mut verdict = Verdict::default();
    for (case, spec, says) in models().into_iter().chain(benchmarks()).chain(others()) {
        let answer = post(&team.root, &path(&team, "evaljobs"), &object("EvalJob", "refused", &spec)).await?;
        verdict.refused(case, &answer, says);
    }
    let long = object("EvalJob", &"x".repeat(64), &spec(|_| ()));
    let answer = post(&team.root, &path(&team, "evaljobs"), &long).await?;
    verdict.refused("a name of 64 letters", &answer, &["metadata.name must be at most 63 characters"]);
    verdict.end();
    Ok(())
}

fn models() -> Vec<Refused<'static>> {
    let grader = |change: &dyn Fn(&mut Value)| {
        let mut grader = json!({"model": "j", "baseURL": "https://judge.test", "apiKey": {"name": "JUDGE"}});
        change(&mut grader);
        with("graders", json!([grader]))
    };
    vec![
        ("no model", json!({"benchmarks": [{"task": "gsm8k"}]}), &["spec.model", "Required"]),
        ("no URL", model(|m| m["baseURL"] = json!(null)), &["spec.model.baseURL", "Required"]),
        ("a URL that is none", model(|m| m["baseURL"] = json!("models")), &["spec.model.baseURL", "https?"]),
        ("a password in a URL", model(|m| m["baseURL"] = json!("https://a:b@c.test")), &["spec.model.baseURL"]),
        ("a question in a URL", model(|m| m["baseURL"] = json!("https://c.test/?key=x")), &["spec.model.baseURL"]),
        ("no key", model(|m| m["apiKey"] = json!(null)), &["spec.model.apiKey", "or auth: None"]),
        ("a key for nobody", model(|m| m["auth"] = json!("None")), &["spec.model.apiKey", "auth: None"]),
        (
            "a key's variable",
            model(|m| m["apiKey"]["envVar"] = json!("A")),
            &["unknown field", "spec.model.apiKey.envVar"],
        ),
        (
            "another way for the key",
            model(|m| m["args"] = json!({"base_url": "https://elsewhere.test"})),
            &["spec.model.args", "that is apiKey's and baseURL's"],
        ),
        ("an argument as a number", model(|m| m["args"] = json!({"a": 5})), &["spec.model.args.a", "string"]),
        ("cold", model(|m| m["generation"] = json!({"temperature": -1})), &["spec.model.generation.temperature"]),
        ("a judge without a key", grader(&|g| g["apiKey"] = json!(null)), &["spec.graders[0].apiKey", "auth: None"]),
        ("a judge's password", grader(&|g| g["baseURL"] = json!("https://a:b@c")), &["spec.graders[0].baseURL"]),
        (
            "two judges of one role",
            with(
                "graders",
                json!([{"model": "a", "baseURL": "https://a.test", "auth": "None"}, {"model": "b", "baseURL": "https://b.test", "auth": "None"}]),
            ),
            &["spec.graders", "every grader needs a role of its own"],
        ),
    ]
}

fn benchmarks() -> Vec<Refused<'static>> {
    let secrets = |list: Value| benchmark(|b| b["secrets"] = list);
    vec![
        ("none", with("benchmarks", json!([])), &["spec.benchmarks", "at least 1"]),
        ("33", with("benchmarks", many(33, |i| json!({"task": format!("t{i}")}))), &["spec.benchmarks", "32"]),
        (
            "one twice",
            with("benchmarks", json!([{"task": "gsm8k"}, {"task": "inspect_evals/gsm8k"}])),
            &["spec.benchmarks", "every benchmark needs a name of its own"],
        ),
        (
            "one name twice",
            with("benchmarks", json!([{"task": "gsm8k"}, {"task": "boolq", "name": "gsm8k"}])),
            &["spec.benchmarks", "every benchmark needs a name of its own"],
        ),
        ("a task with a space", benchmark(|b| b["task"] = json!("gsm8k; rm")), &["spec.benchmarks[0].task"]),
        ("a task's folder", benchmark(|b| b["task"] = json!("../gsm8k")), &["spec.benchmarks[0].task"]),
        ("a long task", benchmark(|b| b["task"] = json!("t".repeat(64))), &["spec.benchmarks[0].name", "set name"]),
        ("13 secrets", secrets(many(13, |i| json!({"name": format!("K{i}")}))), &["spec.benchmarks[0].secrets", "12"]),
        (
            "two secrets for one variable",
            secrets(json!([{"name": "A"}, {"name": "B", "envVar": "A"}])),
            &["spec.benchmarks[0].secrets", "an envVar of its own"],
        ),
        ("a loader's variable", secrets(json!([{"name": "LD_PRELOAD"}])), &["spec.benchmarks[0].secrets[0].envVar"]),
        (
            "where tokens go",
            secrets(json!([{"name": "HF_ENDPOINT"}])),
            &["spec.benchmarks[0].secrets", "the runner's own"],
        ),
        (
            "where keys go",
            secrets(json!([{"name": "A", "envVar": "OPENAI_BASE_URL"}])),
            &["spec.benchmarks[0].secrets", "the runner's own"],
        ),
        ("the model's key", secrets(json!([{"name": "TARGET_API_KEY"}])), &["the runner's own", "use model.apiKey"]),
        ("an expectation", benchmark(|b| b["expect"] = json!(["accuracy is good"])), &["spec.benchmarks[0].expect[0]"]),
    ]
}

fn others() -> Vec<Refused<'static>> {
    vec![
        ("INSPECT_ for all", with("secrets", json!([{"name": "INSPECT_X"}])), &["spec.secrets", "the runner's own"]),
        (
            "one variable twice for all",
            with("secrets", json!([{"name": "A"}, {"name": "A"}])),
            &["spec.secrets", "an envVar of its own"],
        ),
        ("no parallelism", with("parallelism", json!(0)), &["spec.parallelism"]),
        ("11 tries", with("backoffLimit", json!(11)), &["spec.backoffLimit", "10"]),
        ("a failure policy", with("failurePolicy", json!("Never")), &["spec.failurePolicy", "FailFast"]),
        ("a framework", with("runner", json!({"framework": "Else"})), &["spec.runner.framework", "LMEval"]),
        (
            "a program for Inspect",
            with("runner", json!({"command": ["x"]})),
            &["spec.runner.command", "framework: Custom"],
        ),
        (
            "a claim without a name",
            with("results", json!({"persistentVolumeClaim": {}})),
            &["spec.results.persistentVolumeClaim.claimName", "Required"],
        ),
        ("a project of nobody", with("results", json!({"wandb": {"project": "p"}})), &["wandb.entity", "Required"]),
        ("a queue", with("queueName", json!("My Queue")), &["spec.queueName"]),
        ("a privilege", with("securityContext", json!({"privileged": true})), &["unknown field", "privileged"]),
        ("an unknown field", with("retries", json!(3)), &["unknown field", "spec.retries"]),
    ]
}

#[tokio::test]
async fn a_job_that_can_be_passes() -> Result<()> {
    let team = Team::new(operator().await?, "passes-job").await?;
    let mut verdict = Verdict::default();
    let fullest = with(
        "benchmarks",
        many(32, |i| {
            let secrets = many(12, |k| json!({"name": format!("KEY_{k}"), "team": "a-team", "store": "a-store"}));
            json!({"task": format!("a_package_of_some_length/a_task_of_some_length_{i}"), "secrets": secrets,
                "args": {"a": "1"}, "expect": ["accuracy >= 0.8"]})
        }),
    );
    for (case, spec) in [
        ("the least", spec(|_| ())),
        (
            "a server without keys",
            model(|m| *m = json!({"name": "m", "baseURL": "http://m.ns:8000/v1", "auth": "None"})),
        ),
        (
            "one task under two names",
            with("benchmarks", json!([{"task": "gsm8k"}, {"task": "gsm8k", "name": "again"}])),
        ),
        (
            "one secret everywhere",
            with("benchmarks", many(32, |i| json!({"task": format!("t{i}"), "secrets": [{"name": "K"}]}))),
        ),
        ("the fullest", fullest),
        ("HF_TOKEN and WANDB_API_KEY", with("secrets", json!([{"name": "HF_TOKEN"}, {"name": "WANDB_API_KEY"}]))),
        ("expectations", benchmark(|b| b["expect"] = json!(["accuracy >= 0.8", "stderr<0.1", "f1/mean == -1.5"]))),
        ("an IPv6 address", model(|m| m["baseURL"] = json!("http://[::1]:8000/v1"))),
    ] {
        let answer = post(&team.root, &path(&team, "evaljobs"), &object("EvalJob", "passes", &spec)).await?;
        verdict.accepted(case, &answer);
    }
    verdict.end();
    Ok(())
}

#[tokio::test]
async fn what_is_open_of_a_job_changes_one_way() -> Result<()> {
    let team = Team::new(operator().await?, "open-job").await?;
    let made = spec(|spec| {
        spec["stop"] = json!(true);
        spec["rerun"] = json!(2);
        spec["activeDeadlineSeconds"] = json!(600);
    });
    let list = format!("/apis/daypass.dev/v1alpha1/namespaces/{}/evaljobs", team.namespace);
    let mut verdict = Verdict::default();
    verdict.accepted("the job", &post(&team.root, &list, &object("EvalJob", "open", &made)).await?);
    let one = format!("{list}/open?dryRun=All");
    for (field, value, says) in [
        ("stop", json!(false), &["spec.stop", "stop is one way"][..]),
        ("rerun", json!(1), &["spec.rerun", "rerun only grows"]),
        ("rerun", json!(null), &["spec.rerun", "rerun only grows"]),
        ("activeDeadlineSeconds", json!(601), &["spec.activeDeadlineSeconds", "shorter"]),
    ] {
        verdict.refused(field, &patch(&team.root, &one, &json!({"spec": {field: value}})).await?, says);
    }
    for (field, value) in [
        ("rerun", json!(3)),
        ("suspend", json!(true)),
        ("parallelism", json!(8)),
        ("activeDeadlineSeconds", json!(60)),
        ("ttlSecondsAfterFinished", json!(60)),
    ] {
        verdict.accepted(field, &patch(&team.root, &one, &json!({"spec": {field: value}})).await?);
    }
    verdict.end();
    Ok(())
}
