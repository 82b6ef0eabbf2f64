//! The cluster admin's own catalog, in a ConfigMap beside the operator.

use std::time::Duration;

use anyhow::{Result, ensure};
use daypass::api::{ConditionType, EvaluationPhase, Reason};
use daypass_testcluster::poll;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::support::{NAMESPACE, Team, operator};

const BROKEN: &str = "daypass_catalog_broken";
/// The watch tells of a change at once.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_catalog_of_ones_own_counts_and_a_broken_one_leaves_the_last_good_one() -> Result<()> {
    let operator = operator().await?;
    let team = Team::new(operator, "catalog").await?;
    team.set_secret("MODEL_KEY", b"value").await?;
    let maps = Api::<ConfigMap>::namespaced(team.root.clone(), NAMESPACE);
    let set = async |text: &str| {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "daypass-benchmarks"},
            "data": {"benchmarks.yaml": text},
        });
        maps.patch("daypass-benchmarks", &PatchParams::apply("admin"), &Patch::Apply(map)).await
    };
    // Only names that no other test uses: they share the operator.
    set("catalogVersion: ours-1\nbenchmarks: [{name: ours, task: own/ours, arguments: [hard]}]\n").await?;
    let job = |task: &str| json!({"benchmarks": [{"task": task, "args": {"hard": "true"}}], "suspend": true});
    let taken = poll(SOON, "the catalog is in force", async || {
        let name = format!("a-{}", jiff::Timestamp::now().as_microsecond());
        team.evaluate(&name, job("ours")).await?;
        let over = |status: &daypass::api::EvalJobStatus| {
            status.phase.is_terminal() || status.phase == EvaluationPhase::Suspended
        };
        let status = team.wait_job(&name, "it is checked", over).await?;
        ensure!(status.phase == EvaluationPhase::Suspended, "{:?}", status.message);
        Ok(status)
    })
    .await?;
    assert_eq!(taken.catalog_version.as_deref(), Some("ours-1 over inspect_evals-0.26.0+2"));
    assert_eq!(taken.benchmarks[0].task, "own/ours");
    ensure!(taken.conditions.iter().all(|condition| condition.type_ != ConditionType::CatalogCurrent));
    assert!(operator.replica.metric(BROKEN).await?.abs() < f64::EPSILON);

    set("catalogVersion: ours-2\nbenchmarks: [{name: ours}]\n").await?;
    poll(SOON, "the metric tells", async || {
        let broken = operator.replica.metric(BROKEN).await?;
        ensure!((broken - 1.0).abs() < f64::EPSILON, "{broken}");
        Ok(())
    })
    .await?;
    let events = Api::<Event>::namespaced(team.root.clone(), NAMESPACE);
    poll(SOON, "an event tells", async || {
        let about = |event: &Event| {
            event.reason.as_deref() == Some("CatalogInvalid")
                && event.regarding.as_ref().and_then(|object| object.name.as_deref()) == Some("daypass-benchmarks")
        };
        ensure!(events.list(&ListParams::default()).await?.iter().any(about), "none does");
        Ok(())
    })
    .await?;
    team.evaluate("later", job("ours")).await?;
    let status = team.wait_job("later", "it is checked", |status| status.phase == EvaluationPhase::Suspended).await?;
    let told = status.conditions.iter().find(|condition| condition.type_ == ConditionType::CatalogCurrent);
    assert_eq!(told.map(|condition| condition.reason), Some(Reason::CatalogInvalid), "{status:?}");
    assert_eq!(status.catalog_version.as_deref(), Some("ours-1 over inspect_evals-0.26.0+2"));

    maps.delete("daypass-benchmarks", &DeleteParams::default()).await?;
    poll(SOON, "the built-in catalog is back", async || {
        let broken = operator.replica.metric(BROKEN).await?;
        ensure!(broken.abs() < f64::EPSILON, "{broken}");
        Ok(())
    })
    .await
}
