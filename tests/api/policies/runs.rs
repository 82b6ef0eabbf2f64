//! A run takes along what is its own, by whatever road it goes.

use anyhow::{Result, ensure};
use daypass_testcluster::poll;
use serde_json::{Value, json};

use super::{RUN, SOON, World, runs};
use crate::ask::{Verdict, delete, get, patch, post};

const POLICY: &str = "daypass-no-orphans";

/// Waits until neither the run's Secret nor its Pod is there.
async fn gone(world: &World) -> Result<()> {
    poll(SOON, "the run's Secret and Pod are gone", async || {
        for path in [format!("secrets/{RUN}"), format!("pods/{RUN}")] {
            let answer = get(&world.admin, &world.core(&path)).await?;
            ensure!(answer.code == 404, "{path}: {}", answer.code);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn nobody_deletes_a_run_without_its_secret() -> Result<()> {
    let world = World::new().await?;
    let mut verdict = Verdict::default();
    world.start_run().await?;
    let run = format!("{}/demo", runs(&world.home));
    let orphaned = "a run may not be deleted with orphaned dependents";
    let options = |field: &str, value: Value| Some(json!({"kind": "DeleteOptions", "apiVersion": "v1", field: value}));
    for (who, client) in [("a member", &world.member), ("a lord", &world.lord), ("an admin", &world.admin)] {
        for (what, path, body) in [
            ("Orphan", format!("{run}?propagationPolicy=Orphan"), None),
            ("Orphan, dry", format!("{run}?propagationPolicy=Orphan&dryRun=All"), None),
            ("Orphan in the body", run.clone(), options("propagationPolicy", json!("Orphan"))),
            ("orphanDependents", format!("{run}?orphanDependents=true"), None),
            ("orphanDependents in the body", run.clone(), options("orphanDependents", json!(true))),
            ("all of them", format!("{}?propagationPolicy=Orphan", runs(&world.home)), None),
        ] {
            let answer = delete(client, &path, body.as_ref()).await?;
            verdict.refused(&format!("{who}: {what}"), &answer, POLICY, orphaned);
        }
        let finalizer = "the finalizer orphan is refused";
        let answer = patch(client, &run, &json!({"metadata": {"finalizers": ["orphan"]}})).await?;
        verdict.refused(&format!("{who}: the finalizer"), &answer, POLICY, finalizer);
        let born = json!({
            "apiVersion": "daypass.dev/v1alpha1", "kind": "Sandbox", "spec": {},
            "metadata": {"name": "born", "finalizers": ["orphan"]},
        });
        let answer = post(client, &runs(&world.home), &born).await?;
        verdict.refused(&format!("{who}: the finalizer from the start"), &answer, POLICY, finalizer);
    }
    let other = json!({"metadata": {"finalizers": ["example.com/other"]}});
    verdict.code("another finalizer", &patch(&world.member, &run, &other).await?, 200);
    let none = json!({"metadata": {"finalizers": null}});
    verdict.code("and off again", &patch(&world.member, &run, &none).await?, 200);
    let answer = delete(&world.member, &format!("{run}?orphanDependents=false"), None).await?;
    verdict.code("orphanDependents=false", &answer, 200);
    gone(&world).await?;
    verdict.end();
    Ok(())
}

#[tokio::test]
async fn the_garbage_collector_takes_everything_along() -> Result<()> {
    for propagation in ["Background", "Foreground"] {
        let world = World::new().await?;
        world.start_run().await?;
        let answer =
            delete(&world.member, &format!("{}/demo?propagationPolicy={propagation}", runs(&world.home)), None).await?;
        ensure!(answer.code == 200, "{}", answer.message());
        gone(&world).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_operator_deletes_a_run_whose_time_is_over() -> Result<()> {
    let world = World::new().await?;
    world.start_run().await?;
    let options = json!({
        "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background",
        "preconditions": {"uid": world.sandbox},
    });
    let answer = delete(&world.operator, &format!("{}/demo", runs(&world.home)), Some(&options)).await?;
    ensure!(answer.code == 200, "{}", answer.message());
    gone(&world).await
}

#[tokio::test]
async fn a_namespace_goes_away_with_its_runs() -> Result<()> {
    let world = World::new().await?;
    world.start_run().await?;
    let namespace = format!("/api/v1/namespaces/{}", world.home);
    let answer = delete(&world.admin, &namespace, None).await?;
    ensure!(answer.code == 200, "{}", answer.message());
    poll(SOON, "the namespace is gone", async || {
        let answer = get(&world.admin, &namespace).await?;
        ensure!(answer.code == 404, "{}", answer.body["status"]);
        Ok(())
    })
    .await
}
