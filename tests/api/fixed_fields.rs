//! What may change of an object that is there, and what may not.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use daypass::api::TeamSecret;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::ask::{Answer, patch, post};
use crate::support::{Team, operator, sandbox};

/// Fields that stay open after creation: none of them shapes the Pod.
const OPEN: [&str; 3] = ["stop", "ttlSecondsAfterFinished", "activeDeadlineSeconds"];

/// Every other field with a value and another one.
fn fixed() -> Vec<(&'static str, Value, Value)> {
    let key = |name: &str| json!([{"name": name}]);
    vec![
        ("image", json!("a:1"), json!("b:1")),
        ("command", json!(["a"]), json!(["a", "b"])),
        ("args", json!(["a"]), json!(["b"])),
        ("workingDir", json!("/a"), json!("/b")),
        ("env", json!([{"name": "A", "value": "1"}]), json!([{"name": "A", "value": "2"}])),
        ("secrets", key("KEY"), json!([{"name": "KEY"}, {"name": "OTHER"}])),
        ("secretRemoval", json!("AfterStart"), json!("AfterFinish")),
        ("delivery", json!("Env"), json!("File")),
        ("resources", json!({"limits": {"cpu": "1"}}), json!({"limits": {"cpu": "2"}})),
        ("runtimeClassName", json!("a"), json!("b")),
        ("serviceAccountName", json!("default"), json!("other")),
        ("nodeSelector", json!({"a": "1"}), json!({"a": "2"})),
        ("tolerations", json!([{"operator": "Exists"}]), json!([{"key": "a", "operator": "Exists"}])),
        ("imagePullSecrets", key("a"), key("b")),
        ("securityContext", json!({"runAsUser": 1}), json!({"runAsUser": 2})),
        ("podMetadata", json!({"labels": {"a": "1"}}), json!({"labels": {"a": "2"}})),
        ("files", json!([{"path": "/a", "content": "1"}]), json!([{"path": "/a", "content": "2"}])),
        ("network", json!({"denyEgress": true}), json!({"denyEgress": false})),
        ("secretsTimeoutSeconds", json!(10), json!(20)),
        ("startupTimeoutSeconds", json!(10), json!(20)),
        ("terminationGracePeriodSeconds", json!(1), json!(2)),
    ]
}

/// Fields of an EvalJob that stay open: none of them shapes a run.
const OPEN_OF_JOBS: [&str; 6] =
    ["stop", "suspend", "rerun", "parallelism", "ttlSecondsAfterFinished", "activeDeadlineSeconds"];

/// Every other field of an EvalJob with a value and another one.
fn fixed_of_jobs() -> Vec<(&'static str, Value, Value)> {
    let key = |name: &str| json!([{"name": name}]);
    let model = |url: &str| json!({"name": "m", "baseURL": url, "apiKey": {"name": "KEY"}});
    let grader = |url: &str| json!([{"role": "grader", "model": "j", "baseURL": url, "auth": "None"}]);
    let same = [
        "runtimeClassName",
        "serviceAccountName",
        "nodeSelector",
        "tolerations",
        "imagePullSecrets",
        "securityContext",
        "podMetadata",
        "network",
        "resources",
        "startupTimeoutSeconds",
        "terminationGracePeriodSeconds",
        "secretRemoval",
    ];
    let mut fields: Vec<_> = fixed().into_iter().filter(|(field, ..)| same.contains(field)).collect();
    fields.extend([
        ("model", model("https://a.test/v1"), model("https://b.test/v1")),
        ("graders", grader("https://a.test/v1"), grader("https://b.test/v1")),
        ("benchmarks", json!([{"task": "gsm8k"}]), json!([{"task": "gsm8k", "args": {"fewshot": "5"}}])),
        ("sampleLimit", json!(10), json!(20)),
        ("secrets", key("KEY"), json!([{"name": "KEY"}, {"name": "OTHER"}])),
        ("autoBind", json!(true), json!(false)),
        ("allowSelfGrading", json!(true), json!(false)),
        (
            "results",
            json!({"persistentVolumeClaim": {"claimName": "a"}}),
            json!({"persistentVolumeClaim": {"claimName": "b"}}),
        ),
        ("runner", json!({"image": "a:1"}), json!({"image": "b:1"})),
        ("failurePolicy", json!("ContinueOnFailure"), json!("FailFast")),
        ("backoffLimit", json!(2), json!(3)),
        ("benchmarkDeadlineSeconds", json!(100), json!(200)),
        ("queueName", json!("a"), json!("b")),
    ]);
    fields
}

fn path(team: &Team, plural: &str, name: &str) -> String {
    format!("/apis/daypass.dev/v1alpha1/namespaces/{}/{plural}/{name}?dryRun=All", team.namespace)
}

async fn change(team: &Team, plural: &str, name: &str, field: &str, value: &Value) -> Result<Answer> {
    patch(&team.member, &path(team, plural, name), &json!({"spec": {field: value}})).await
}

fn must_refuse(wrong: &mut Vec<String>, case: &str, answer: &Answer, says: &[&str]) {
    if answer.code != 422 || !says.iter().all(|part| answer.message().contains(part)) {
        wrong.push(format!("{case}: expected 422 with {says:?}, got {} {:?}", answer.code, answer.message()));
    }
}

#[tokio::test]
async fn what_shapes_the_pod_never_changes() -> Result<()> {
    let team = Team::new(operator().await?, "fixed").await?;
    never_changes(&team, "Sandbox", &fixed(), &OPEN, &json!({"stop": true})).await
}

#[tokio::test]
async fn what_shapes_an_evaluation_never_changes() -> Result<()> {
    let team = Team::new(operator().await?, "fixed-job").await?;
    let bare = json!({
        "stop": true, "model": {"name": "m", "baseURL": "https://a.test/v1", "auth": "None"},
        "benchmarks": [{"task": "boolq"}],
    });
    never_changes(&team, "EvalJob", &fixed_of_jobs(), &OPEN_OF_JOBS, &bare).await
}

/// Tries every fixed field of a kind: another value, none, and one where there was none.
async fn never_changes(
    team: &Team,
    kind: &str,
    fixed: &[(&'static str, Value, Value)],
    open: &[&str],
    bare: &Value,
) -> Result<()> {
    let crd = daypass::api::crds().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
    let plural = crd.spec.names.plural.clone();
    let schema =
        json!(crd)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"].clone();
    let all: BTreeSet<String> = schema.as_object().unwrap().keys().cloned().collect();
    let known = fixed.iter().map(|(field, ..)| *field).chain(open.iter().copied()).map(str::to_owned).collect();
    assert_eq!(all, known, "a new field is either open or fixed");

    // Stopped, so that no run comes of them.
    let mut full = json!({"stop": true});
    for (field, value, _) in fixed {
        full[*field] = value.clone();
    }
    let path = format!("/apis/daypass.dev/v1alpha1/namespaces/{}/{plural}", team.namespace);
    for (name, spec) in [("full", &full), ("bare", bare)] {
        let object =
            json!({"apiVersion": "daypass.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        let answer = post(&team.member, &path, &object).await?;
        ensure!(answer.code == 201, "{name}: {}", answer.message());
    }
    let mut wrong = Vec::new();
    for (field, value, other) in fixed {
        let says = [
            &*format!("spec.{field}"),
            &*format!("{field} cannot change"),
            "`kubectl replace --force -f FILE` starts a new run",
        ];
        let answer = change(team, &plural, "full", field, other).await?;
        must_refuse(&mut wrong, &format!("another {field}"), &answer, &says);
        if schema[*field].get("default").is_none() && bare.get(field).is_none() {
            let answer = change(team, &plural, "full", field, &Value::Null).await?;
            must_refuse(&mut wrong, &format!("no {field}"), &answer, &says);
        }
        if schema[*field].get("default") != Some(value) {
            let answer = change(team, &plural, "bare", field, value).await?;
            must_refuse(&mut wrong, &format!("a late {field}"), &answer, &says);
        }
    }
    assert!(wrong.is_empty(), "{} went wrong:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn what_is_open_changes_one_way() -> Result<()> {
    let team = Team::new(operator().await?, "open").await?;
    let spec = json!({"stop": true, "activeDeadlineSeconds": 600, "ttlSecondsAfterFinished": 6000});
    team.sandboxes().create(&PostParams::default(), &sandbox("open", spec)?).await?;
    let mut wrong = Vec::new();
    for (field, value, says) in [
        ("stop", json!(false), ["spec.stop", "stop is one way", "starts a new run"]),
        ("stop", Value::Null, ["spec.stop", "stop is one way", "starts a new run"]),
        ("activeDeadlineSeconds", json!(601), ["spec.activeDeadlineSeconds", "may only become", "shorter"]),
        ("activeDeadlineSeconds", Value::Null, ["spec.activeDeadlineSeconds", "may only become", "shorter"]),
    ] {
        must_refuse(
            &mut wrong,
            &format!("{field} {value}"),
            &change(&team, "sandboxes", "open", field, &value).await?,
            &says,
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (field, value) in [
        ("activeDeadlineSeconds", json!(599)),
        ("ttlSecondsAfterFinished", json!(60)),
        ("ttlSecondsAfterFinished", json!(60_000)),
        ("ttlSecondsAfterFinished", Value::Null),
    ] {
        let answer = change(&team, "sandboxes", "open", field, &value).await?;
        ensure!(answer.code == 200, "{field} {value}: {}", answer.message());
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_goes_forward_only() -> Result<()> {
    let team = Team::new(operator().await?, "forward").await?;
    team.set_secret("API_KEY", b"one").await?;
    let secrets = Api::<TeamSecret>::namespaced(team.admin.clone(), &team.namespace);
    let first = json!(secrets.get("api-key").await?)["spec"]["versions"][0].clone();
    team.set_secret("API_KEY", b"two").await?;
    let second = json!(secrets.get("api-key").await?)["spec"]["versions"][0].clone();
    let other = json!(team.seal("API_KEY", 2, b"other").await?);
    let third = json!(team.seal("API_KEY", 3, b"three").await?);

    let path = format!("/apis/daypass.dev/v1alpha1/namespaces/{}/teamsecrets", team.namespace);
    let dry = format!("{path}/api-key?dryRun=All");
    let rotate = "`daypass secret rotate` adds a newer one";
    let mut wrong = Vec::new();
    for (case, spec, says) in [
        ("an older version alone", json!({"versions": [first]}), ["spec.versions", rotate]),
        ("an older version beside", json!({"versions": [second, first]}), ["spec.versions", rotate]),
        ("an older version after", json!({"versions": [third, second, first]}), ["spec.versions", rotate]),
        ("another content under its number", json!({"versions": [other]}), ["spec.versions", rotate]),
        (
            "the oldest first",
            json!({"versions": [second, third]}),
            ["spec.versions", "the newest version stands first"],
        ),
        ("a version twice", json!({"versions": [third, third]}), ["spec.versions", "every version stands once"]),
        ("none", json!({"versions": []}), ["spec.versions", "at least 1"]),
        ("another name", json!({"name": "Api_Key"}), ["spec.name", "name cannot change"]),
    ] {
        must_refuse(&mut wrong, case, &patch(&team.admin, &dry, &json!({"spec": spec})).await?, &says);
    }
    for (case, spec) in [
        ("a new version alone", json!({"versions": [third]})),
        ("a new version and the one before", json!({"versions": [third, second]})),
    ] {
        let answer = patch(&team.admin, &dry, &json!({"spec": spec})).await?;
        if answer.code != 200 {
            wrong.push(format!("{case}: {} {}", answer.code, answer.message()));
        }
    }
    let new = |object: &str, name: &str, version: &Value| {
        json!({"apiVersion": "daypass.dev/v1alpha1", "kind": "TeamSecret", "metadata": {"name": object},
            "spec": {"name": name, "versions": [version]}})
    };
    let mut bad = third.clone();
    bad["ciphertext"] = json!("no base64!");
    let mut zero = third.clone();
    zero["version"] = json!(0);
    for (case, object, says) in [
        (
            "an object under another name",
            new("other", "API_KEY", &third),
            ["metadata.name", "in lower case with '-' for '_'"],
        ),
        ("a name with a hyphen", new("api-key2", "API-KEY2", &third), ["spec.name", "should match"]),
        ("a name that ends with _", new("key-", "KEY_", &third), ["metadata.name", "lowercase"]),
        ("version 0", new("new", "NEW", &zero), ["spec.versions[0].version", "1"]),
        ("no base64", new("new", "NEW", &bad), ["spec.versions[0].ciphertext", "should match"]),
    ] {
        let answer = post(&team.admin, &format!("{path}?dryRun=All"), &object).await?;
        must_refuse(&mut wrong, case, &answer, &says);
    }
    assert!(wrong.is_empty(), "{} went wrong:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}
