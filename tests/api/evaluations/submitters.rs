//! Who submits an EvalJob must hold what it names, wherever it names it, and what it will find by itself.

use anyhow::{Result, ensure};
use daypass_testcluster::poll;
use kube::Client;
use serde_json::{Value, json};

use super::spec;
use crate::ask::{Verdict, post};
use crate::policies::{SOON, World, submitters::grant};

const USE: &str = "daypass-use-evaljob";

fn job(change: impl FnOnce(&mut Value)) -> Value {
    let spec = spec(|spec| {
        spec["autoBind"] = json!(false);
        spec["model"] = json!({"name": "m", "baseURL": "https://m.test", "auth": "None"});
        change(spec);
    });
    json!({"apiVersion": "daypass.dev/v1alpha1", "kind": "EvalJob", "metadata": {"name": "job"}, "spec": spec})
}

fn jobs(namespace: &str) -> String {
    format!("/apis/daypass.dev/v1alpha1/namespaces/{namespace}/evaljobs?dryRun=All")
}

/// A job that names one secret in each field that can.
fn places(home: &str, name: &str) -> Vec<(&'static str, Value)> {
    let key = json!({"team": home, "name": name});
    let keys = json!([key]);
    vec![
        ("model", job(|s| s["model"] = json!({"name": "m", "baseURL": "https://m.test", "apiKey": key}))),
        (
            "graders",
            job(|s| {
                s["graders"] = json!([
                    {"role": "a", "model": "j", "baseURL": "https://j.test", "auth": "None"},
                    {"role": "b", "model": "j", "baseURL": "https://j.test", "apiKey": key},
                ]);
            }),
        ),
        ("W&B", job(|s| s["results"] = json!({"wandb": {"entity": "e", "project": "p", "apiKey": key}}))),
        ("secrets", job(|s| s["secrets"] = keys.clone())),
        (
            "a benchmark's secrets",
            job(|s| s["benchmarks"] = json!([{"task": "boolq"}, {"task": "gsm8k", "secrets": keys}])),
        ),
    ]
}

#[tokio::test]
async fn every_field_that_names_a_secret_needs_its_grant() -> Result<()> {
    let world = World::new().await?;
    let mut verdict = Verdict::default();
    let (home, away) = (&world.home, &world.away);
    for (place, job) in places(home, "S") {
        let answer = post(&world.stranger, &jobs(away), &job).await?;
        let rule = format!(
            "a team secret that the job names: you may not use S of team {home}; an admin of that team grants it: daypass secret grant S -n {home} --to-user stranger"
        );
        verdict.refused(place, &answer, USE, &rule);
        verdict.code(place, &post(&world.member, &jobs(home), &job).await?, 201);
    }
    // A member of the namespace may use what autoBind finds there, somebody who only may submit may not.
    let auto = job(|spec| spec["autoBind"] = json!(true));
    verdict.code("autoBind, a member", &post(&world.member, &jobs(home), &auto).await?, 201);
    let submitter = submitter(&world).await?;
    let rule = format!(
        "spec.autoBind: you may not use all secrets of team {home}: set autoBind: false and name those that the benchmarks need"
    );
    verdict.refused("autoBind, a submitter", &post(&submitter, &jobs(home), &auto).await?, USE, &rule);
    verdict.code("no autoBind, a submitter", &post(&submitter, &jobs(home), &job(|_| ())).await?, 201);
    verdict.end();
    Ok(())
}

/// Somebody who may make EvalJobs in `home` and use nothing.
async fn submitter(world: &World) -> Result<Client> {
    let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}", world.home);
    for (path, object) in [
        (
            "roles",
            json!({"metadata": {"name": "submit"}, "rules": [{"apiGroups": ["daypass.dev"], "resources": ["evaljobs"], "verbs": ["create"]}]}),
        ),
        (
            "rolebindings",
            json!({"metadata": {"name": "submit"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "submit"},
                "subjects": [{"kind": "User", "name": "submitter"}]}),
        ),
    ] {
        let answer = post(&world.admin, &format!("{rbac}/{path}"), &object).await?;
        ensure!(answer.code == 201, "{}", answer.message());
    }
    let client = world.cluster.client_as("submitter", &[])?;
    poll(SOON, "the right is seen", async || {
        let answer = post(&client, &jobs(&world.home), &job(|_| ())).await?;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await?;
    Ok(client)
}

#[tokio::test]
async fn each_of_24_is_asked_for() -> Result<()> {
    let world = World::new().await?;
    let mut verdict = Verdict::default();
    let (home, away) = (&world.home, &world.away);
    let names: Vec<String> = (0..24).map(|index| format!("S{index}")).collect();
    let job_of = |names: &[String]| {
        let all: Vec<Value> = names.iter().map(|name| json!({"team": home, "name": name})).collect();
        // Each stands in two benchmarks: what counts is how many different ones there are.
        let benchmarks: Vec<Value> = all
            .chunks(12)
            .flat_map(|secrets| [secrets, secrets])
            .enumerate()
            .map(|(index, secrets)| json!({"task": format!("t{index}"), "secrets": secrets}))
            .collect();
        job(|spec| spec["benchmarks"] = json!(benchmarks))
    };
    let granted: Vec<&str> = names.iter().take(23).map(String::as_str).collect();
    grant(&world.admin, home, "stranger", &granted).await?;
    poll(SOON, "the grant is seen", async || {
        let answer = post(&world.stranger, &jobs(away), &job_of(&names[..23])).await?;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await?;
    for place in 0..24 {
        let mut order = names.clone();
        order.swap(place, 23);
        let answer = post(&world.stranger, &jobs(away), &job_of(&order)).await?;
        let rule = format!("a team secret that the job names: you may not use S23 of team {home}");
        verdict.refused(&format!("the one without a grant at {place}"), &answer, USE, &rule);
    }
    // A name and a store are another secret; the store `default` said is the same one.
    let vault = job(|s| s["secrets"] = json!([{"team": home, "name": "S0", "store": "vault"}]));
    let rule = format!("a team secret that the job names: you may not use vault.S0 of team {home}");
    verdict.refused("another store", &post(&world.stranger, &jobs(away), &vault).await?, USE, &rule);
    let said = job(|s| s["secrets"] = json!([{"team": home, "name": "S0", "store": "default"}]));
    verdict.code("the store said", &post(&world.stranger, &jobs(away), &said).await?, 201);
    // All 24 and autoBind beside, as the largest job that there is.
    let mut largest = job_of(&names);
    largest["spec"]["autoBind"] = json!(true);
    verdict.code("a member, 24 and autoBind", &post(&world.member, &jobs(home), &largest).await?, 201);
    // There are 24 rules: a 25th would be asked for by none.
    let more: Vec<String> = (0..25).map(|index| format!("S{index}")).collect();
    let answer = post(&world.member, &jobs(home), &job_of(&more)).await?;
    verdict.code("25", &answer, 422);
    let said = answer.message();
    ensure!(said.contains(USE) && said.contains("an EvalJob names at most 24 different team secrets"), "{said}");
    verdict.end();
    Ok(())
}
