//! Run Secrets belong to Daypass: nobody else makes one, and nobody keeps one alive.

use anyhow::Result;
use serde_json::{Value, json};

use super::{RUN, World, set, with};
use crate::ask::{Verdict, delete, get, patch, post};

const RESERVED: &str = "daypass-reserve-run-secrets";
const MORTAL: &str = "daypass-keep-run-secrets-mortal";

#[tokio::test]
async fn nobody_else_makes_a_run_secret() -> Result<()> {
    let world = World::new().await?;
    let mut verdict = Verdict::default();
    let path = world.core("secrets?dryRun=All");
    let plain = |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    let typed = set(&plain("mine"), "/type", json!("daypass.dev/run"));
    let generated = with(&plain(""), |secret| secret["metadata"] = json!({"generateName": "daypass-run-"}));
    for (who, client) in [("a member", &world.member), ("a lord", &world.lord), ("an admin", &world.admin)] {
        for (what, secret) in [
            ("the type", &typed),
            ("the name", &plain(RUN)),
            ("the prefix alone", &plain("daypass-run-x")),
            ("a generated name", &generated),
            ("a copy", &world.secret()),
        ] {
            let answer = post(client, &path, secret).await?;
            verdict.refused(&format!("{who}: {what}"), &answer, RESERVED, "Secrets of type daypass.dev/run");
        }
        let applied = world.core(&format!("secrets/{RUN}?dryRun=All&fieldManager=test"));
        let answer = patch(client, &applied, &plain(RUN)).await?;
        verdict.refused(&format!("{who}: server-side apply"), &answer, RESERVED, "Secrets of type daypass.dev/run");
        for (what, secret) in [
            ("an ordinary Secret", plain("mine")),
            ("another prefix", plain("daypass-running")),
            ("another type", set(&plain("mine"), "/type", json!("daypass.dev/other"))),
        ] {
            verdict.code(&format!("{who}: {what}"), &post(client, &path, &secret).await?, 201);
        }
    }
    verdict.end();
    Ok(())
}

#[tokio::test]
async fn nobody_keeps_a_run_secret_alive() -> Result<()> {
    let world = World::new().await?;
    let mut verdict = Verdict::default();
    world.start_run().await?;
    let path = world.core(&format!("secrets/{RUN}"));
    let other =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "00000000-0000-0000-0000-000000000000"});
    let owner = world.owner()[0].clone();
    let owners = |owners: Value| json!({"metadata": {"ownerReferences": owners}});
    for (who, client) in [("a member", &world.member), ("a lord", &world.lord), ("an admin", &world.admin)] {
        for (what, change, rule) in [
            ("a finalizer", json!({"metadata": {"finalizers": ["example.com/keep"]}}), "no finalizer may be added"),
            ("the finalizer of orphans", json!({"metadata": {"finalizers": ["orphan"]}}), "no finalizer may be added"),
            ("no owner", owners(Value::Null), "the owner of a run Secret may not be changed"),
            ("another owner", owners(json!([other])), "the owner of a run Secret may not be changed"),
            ("a second owner", owners(json!([owner, other])), "the owner of a run Secret may not be changed"),
            (
                "an owner of another UID",
                owners(json!([set(&owner, "/uid", json!("00000000-0000-0000-0000-000000000000"))])),
                "the owner of a run Secret may not be changed",
            ),
        ] {
            let answer = patch(client, &path, &change).await?;
            verdict.refused(&format!("{who}: {what}"), &answer, MORTAL, rule);
        }
        let label = json!({"metadata": {"labels": {"a": who.replace(' ', "-")}}});
        verdict.code(&format!("{who}: a label"), &patch(client, &path, &label).await?, 200);
        // Kubernetes' own rule: the data of an immutable Secret does not change.
        verdict.code(
            &format!("{who}: data"),
            &patch(client, &path, &json!({"stringData": {"TOKEN": "x"}})).await?,
            422,
        );
    }
    let ordinary = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine", "finalizers": ["a.b/c"]}});
    verdict.code("an ordinary Secret", &post(&world.member, &world.core("secrets"), &ordinary).await?, 201);
    let free = json!({"metadata": {"finalizers": Value::Null, "ownerReferences": [other]}});
    verdict.code("its owner", &patch(&world.member, &world.core("secrets/mine"), &free).await?, 200);

    // Whoever may delete Secrets may delete this one, however he asks.
    let answer = delete(&world.member, &format!("{path}?propagationPolicy=Foreground"), None).await?;
    verdict.code("a member deletes it", &answer, 200);
    super::poll(super::SOON, "the garbage collector ends it", async || {
        let answer = get(&world.admin, &path).await?;
        anyhow::ensure!(answer.code == 404, "{}", answer.code);
        Ok(())
    })
    .await?;
    verdict.end();
    Ok(())
}
