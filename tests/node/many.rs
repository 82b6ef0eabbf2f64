//! Fifty at once.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daypass::api::{Phase, SandboxStatus};
use daypass_testcluster::{AuditEntry, poll};
use futures::future::try_join_all;
use jiff::SignedDuration;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::support::Team;

const RUNS: usize = 50;

/// Every copy that is there while the command-line tool looks is in its answer, as one that is there or may be; and none
/// is that the status called removed before. Returns whether there was any copy.
async fn holders_are_right(team: &Team) -> Result<bool> {
    let copies = async || -> Result<BTreeSet<String>> {
        let secrets = team.secrets().list_metadata(&ListParams::default()).await?;
        let owners = secrets.into_iter().filter(|secret| secret.name_any().starts_with("daypass-run-"));
        Ok(owners.flat_map(|secret| secret.owner_references().to_vec()).map(|owner| owner.name).collect())
    };
    let sandboxes = team.sandboxes().list(&ListParams::default()).await?.into_iter();
    let removed = |status: &SandboxStatus| status.secrets_state.as_deref() == Some("Removed");
    let gone: BTreeSet<String> = sandboxes
        .filter(|sandbox| sandbox.status.as_ref().is_some_and(removed))
        .map(|sandbox| sandbox.name_any())
        .collect();
    let before = copies().await?;
    let holders = team.holders().await?;
    let after = copies().await?;
    let listed: BTreeSet<String> = holders
        .iter()
        .filter(|holder| holder["copy"] != "gone")
        .filter_map(|holder| Some(holder["run"].as_str()?.to_owned()))
        .collect();
    let there: BTreeSet<String> = before.intersection(&after).cloned().collect();
    // No errors, which would be tried again.
    let missing: Vec<_> = there.difference(&listed).collect();
    assert!(missing.is_empty(), "these have a copy and are not listed: {missing:?}");
    let wrong: Vec<_> = listed.intersection(&gone).collect();
    assert!(wrong.is_empty(), "these have no copy any more and are listed: {wrong:?}");
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
    assert_eq!(team.holders().await?, [Value::Null; 0], "all is over");

    team.cluster.audit_settled().await?;
    let mut writes = team.cluster.audit().since(mark)?;
    writes.retain(|entry| {
        let operator = entry.user == "system:serviceaccount:daypass-system:daypass-operator";
        // What a store tells of itself is no run's write, and an event tells of trouble.
        let of_runs = !["events", "teamsecretstores"].contains(&entry.resource.as_str());
        operator && entry.is_write() && entry.namespace == team.namespace && of_runs
    });
    let count = |verb: &str, resource: &str, name: &str| {
        let same = |entry: &&AuditEntry| entry.verb == verb && entry.resource == resource;
        writes.iter().filter(same).filter(|entry| name.is_empty() || entry.name == name).count()
    };
    for run in &runs {
        let status = team.wait_finished(run).await?;
        ensure!(status.phase == Phase::Completed, "{}: {status:?}", run.sandbox);
        team.assert_no_copy(run).await?;
        assert_eq!(team.log(run).await?, "shared\n", "{}", run.sandbox);
        // One at the start and one at the end; and one that says that the Pod has not started within 10 s.
        let made = team.pods().get(&run.name).await?.metadata.creation_timestamp.context("when it was made")?.0;
        let started = status.secret_removed_at.context("when the copy went")?.0;
        let late = started.duration_since(made) >= SignedDuration::from_secs(10);
        let patches = count("patch", "sandboxes", &run.sandbox);
        ensure!(patches <= 2 + usize::from(late), "{}: {patches} patches, late: {late}", run.sandbox);
        assert_eq!(count("delete", "secrets", &run.name), 1, "{}", run.sandbox);
    }
    // The audit log does not know what a creation is called.
    assert_eq!((count("create", "secrets", ""), count("create", "pods", "")), (RUNS, RUNS));
    let usual = [("create", "secrets"), ("create", "pods"), ("delete", "secrets"), ("patch", "sandboxes")];
    let others: Vec<_> =
        writes.iter().filter(|entry| !usual.contains(&(entry.verb.as_str(), entry.resource.as_str()))).collect();
    assert!(others.is_empty(), "other writes: {others:?}");
    Ok(())
}
