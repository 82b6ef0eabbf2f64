//! The audit records: every step of a secret, and never its value.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use daypass::api::{Phase, TeamSecret};
use daypass_testcluster::poll;
use kube::api::{Api, DeleteParams, PostParams};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::support::{Team, operator, sandbox};

const VALUE: &str = "never-in-a-record-5f1c";

#[tokio::test]
async fn every_step_of_a_secret_is_recorded_and_its_value_is_not() -> Result<()> {
    let operator = operator().await?;
    let (team, other) = (Team::new(operator, "audited").await?, Team::new(operator, "closed").await?);
    let ns = &team.namespace;
    team.set_secret("KEY", VALUE.as_bytes()).await?;

    let mut whole = sandbox("whole", json!({"secrets": [{"name": "KEY", "envVar": "TOKEN"}]}))?;
    let member = format!("member@{ns}");
    whole.meta_mut().annotations = Some(BTreeMap::from([(daypass::api::SUBMITTED_BY.into(), member.clone())]));
    let run = team.submit(&whole).await?;
    team.pod(&run).await?;
    team.play_start(&run).await?;
    team.wait("whole", "it runs", |status| status.phase == Phase::Running).await?;

    // Submitted by who may use it; the run's ServiceAccount may not.
    let theirs = json!({"secrets": [{"name": "THEIRS", "team": other.namespace}]});
    let sandboxes = Api::namespaced(team.root.clone(), ns);
    sandboxes.create(&PostParams::default(), &sandbox("denied", theirs)?).await?;
    team.wait_finished("denied").await?;

    team.set_secret("KEY", VALUE.as_bytes()).await?;
    team.revoke(&["KEY"]).await?;
    team.wait_finished("whole").await?;
    Api::<TeamSecret>::namespaced(team.admin.clone(), ns).delete("key", &DeleteParams::default()).await?;

    let records = poll(Duration::from_secs(30), "the deletion is recorded", async || {
        let records = operator.replica.audit(ns)?;
        ensure!(records.iter().any(|record| record["action"] == "deleted"), "{}", json!(records));
        Ok(records)
    })
    .await?;
    let (of_runs, mut of_secrets): (Vec<Value>, Vec<Value>) =
        records.into_iter().partition(|record| !record["runUID"].is_null());
    let uid = |sandbox: daypass::api::Sandbox| sandbox.uid().unwrap_or_default();
    let (whole, denied) = (uid(sandboxes.get("whole").await?), uid(sandboxes.get("denied").await?));
    let step = |action: &str, decision: &str, reason: &str| {
        json!({
            "action": action, "decision": decision, "reason": reason, "runUID": whole, "attempt": 1, "benchmark": "",
            "kind": "Sandbox", "namespace": ns, "name": "whole", "serviceAccount": "default", "submitter": member,
            "secrets": [{"team": ns, "accessName": "KEY", "variable": "TOKEN", "version": "1"}],
        })
    };
    let mut refused = step("resolve", "denied", "AccessDenied");
    refused["runUID"] = json!(denied);
    refused["name"] = json!("denied");
    refused["submitter"] = Value::Null;
    refused["secrets"] =
        json!([{"team": other.namespace, "accessName": "THEIRS", "variable": "THEIRS", "version": null}]);
    assert_eq!(
        of_runs,
        [
            step("resolve", "allowed", "Resolved"),
            step("inject", "allowed", "Injected"),
            step("remove", "proven", "Removed"),
            refused,
        ]
    );
    let secret = |action, version: Value| json!({"action": action, "team": ns, "accessName": "KEY", "version": version, "by": null});
    // A store and its secrets are watched apart.
    of_secrets.sort_by_key(|record| record["action"].to_string());
    assert_eq!(of_secrets, [secret("changed", json!(2)), secret("deleted", json!(2)), secret("revoked", Value::Null)]);

    let log = operator.replica.log()?;
    for value in [VALUE.to_owned(), STANDARD.encode(VALUE)] {
        ensure!(!log.contains(&value), "a value is in the log");
    }
    Ok(())
}
