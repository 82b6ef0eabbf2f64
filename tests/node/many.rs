//! Fifty at once.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daypass::api::Phase;
use daypass_testcluster::poll;
use futures::future::try_join_all;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::support::Team;

const RUNS: usize = 50;
/// Four writes, one patch at the start, and one that says that the Pod has not started within 10 s: on a small machine
/// most have not.
const WRITES: usize = 6;

/// Every copy that is there while the command-line tool looks is in its answer, as one that is there or may be. Returns
/// whether there was any.
async fn holders_are_right(team: &Team) -> Result<bool> {
    let copies = async || -> Result<BTreeSet<String>> {
        let secrets = team.secrets().list_metadata(&ListParams::default()).await?;
        let owners = secrets.into_iter().filter(|secret| secret.name_any().starts_with("daypass-run-"));
        Ok(owners.flat_map(|secret| secret.owner_references().to_vec()).map(|owner| owner.name).collect())
    };
    let before = copies().await?;
    let answer = team.daypass(&["secret", "holders", "-o", "json"], b"").await?;
    let after = copies().await?;
    let answer: Value = serde_json::from_str(&answer)?;
    let holders = answer["items"].as_array().context("items")?;
    let listed: BTreeSet<&str> =
        holders.iter().filter(|holder| holder["copy"] != "gone").filter_map(|holder| holder["run"].as_str()).collect();
    let there: Vec<&String> = before.intersection(&after).collect();
    let missing: Vec<_> = there.iter().filter(|name| !listed.contains(name.as_str())).collect();
    // No error, which would be tried again.
    assert!(missing.is_empty(), "these have a copy and are not listed: {missing:?}");
    Ok(!there.is_empty())
}

#[tokio::test]
async fn fifty_sandboxes_at_once() -> Result<()> {
    let team = Team::new("many").await?;
    team.set_secret("API_KEY", b"shared").await?;
    let mark = team.cluster.audit().mark()?;
    let spec = json!({
        "command": ["sh", "-c", "echo \"$API_KEY\""], "secrets": [{"name": "API_KEY"}],
        "resources": {"requests": {"cpu": "1m"}},
    });
    let runs = try_join_all((0..RUNS).map(|number| {
        let (team, spec) = (&team, spec.clone());
        async move { team.submit(&format!("run-{number}"), spec).await }
    }))
    .await?;

    let mut moments = 0;
    poll(Duration::from_mins(8), "all are over", async || {
        moments += usize::from(holders_are_right(&team).await?);
        let list = team.sandboxes().list(&ListParams::default()).await?;
        let phases = list.into_iter().map(|sandbox| sandbox.status.unwrap_or_default().phase);
        let open = phases.filter(|phase| !phase.is_terminal()).count();
        ensure!(open == 0, "{open} are not");
        Ok(())
    })
    .await?;
    ensure!(moments > 0, "no copy was there whenever the holders were asked for");
    for run in &runs {
        let status = team.wait_finished(run).await?;
        ensure!(status.phase == Phase::Completed && status.secret_removed_at.is_some(), "{}: {status:?}", run.sandbox);
        team.assert_no_copy(run).await?;
        assert_eq!(team.log(run).await?, "shared\n", "{}", run.sandbox);
    }

    team.cluster.audit_settled().await?;
    let writes: Vec<String> = team
        .cluster
        .audit()
        .since(mark)?
        .into_iter()
        .filter(|entry| entry.is_write() && entry.namespace == team.namespace)
        .filter(|entry| entry.user == "system:serviceaccount:daypass-system:daypass-operator")
        .map(|entry| format!("{} {}/{} {}", entry.verb, entry.resource, entry.subresource, entry.code))
        .collect();
    let count = |what: &str| writes.iter().filter(|write| write.starts_with(what)).count();
    assert_eq!((count("create secrets"), count("create pods"), count("delete secrets")), (RUNS, RUNS, RUNS));
    ensure!(writes.len() <= RUNS * WRITES, "{} writes", writes.len());
    Ok(())
}
