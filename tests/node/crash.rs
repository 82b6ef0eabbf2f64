//! The leader is killed again and again while fifty run.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daypass::api::{BenchmarkPhase, Phase};
use daypass_testcluster::{Cluster, Options, poll};
use futures::future::try_join_all;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

use crate::support::{NAMESPACE, Team, World, install};

const RUNS: usize = 50;
const KILLS: usize = 5;
/// How long a leader leads before it is killed.
const REIGN: Duration = Duration::from_secs(2);
/// Longer than a lease lasts, on a busy machine.
const TAKE_OVER: Duration = Duration::from_mins(2);

#[tokio::test]
async fn fifty_runs_end_well_though_five_leaders_are_killed() -> Result<()> {
    // A cluster of its own: the other tests want an operator that lives. It ends with this process.
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(Options::with_node()).await?));
    let world: &'static World = Box::leak(Box::new(install(cluster).await?));
    world.load_runner().await?;
    let team = Team::on(cluster, "failover").await?;
    team.set_secret("API_KEY", b"shared").await?;
    let judged = Team::on(cluster, "failover-evaluation").await?;
    judged.set_secret("MODEL_KEY", b"key-of-the-model").await?;
    let servers = world.models(&[&["key-of-the-model"]])?;
    let runs = try_join_all((0..RUNS).map(|number| {
        // Some end early, some live through all of it.
        let script = format!("echo \"$API_KEY\"; sleep {}", number * 2);
        let spec = json!({"command": ["sh", "-c", script], "secrets": [{"name": "API_KEY"}]});
        let team = &team;
        async move { team.submit(&format!("run-{number}"), spec).await }
    }))
    .await?;

    // Real Inspect, which asks one question after the other while the leaders die.
    judged.evaluate("slow", "slow-3", servers.model(0), json!({"benchmarks": [{"task": "gsm8k"}]})).await?;

    let mut killed_at = Timestamp::now();
    for kill in 0..KILLS {
        let leader = reigning(cluster, killed_at).await.with_context(|| format!("after {kill} kills"))?;
        let status = Command::new("kill").args(["-9", &leader]).status()?;
        ensure!(status.success(), "kill: {status}");
        killed_at = Timestamp::now();
    }

    poll(Duration::from_mins(8), "all are over", async || {
        let sandboxes = team.sandboxes().list(&ListParams::default()).await?;
        let phases = sandboxes.into_iter().map(|sandbox| sandbox.status.unwrap_or_default().phase);
        let open = phases.filter(|phase| !phase.is_terminal()).count();
        ensure!(open == 0, "{open} are not");
        Ok(())
    })
    .await?;
    for run in &runs {
        let status = team.wait_finished(run).await?;
        ensure!(status.phase == Phase::Completed && status.secret_removed_at.is_some(), "{}: {status:?}", run.sandbox);
        team.assert_no_copy(run).await?;
        assert_eq!(team.log(run).await?, "shared\n", "{}", run.sandbox);
    }
    let pods = team.pods().list(&ListParams::default()).await?.items.len();
    assert_eq!(pods, RUNS, "each run has had one Pod");

    let status = judged.wait_job_over("slow").await?;
    let benchmark = status.benchmark("gsm8k").context("the benchmark")?;
    assert_eq!((benchmark.phase, benchmark.attempt), (BenchmarkPhase::Completed, 1), "{benchmark:?}");
    assert_eq!(servers.asked(0).await?.calls["slow-3"], 10, "nothing was asked twice");
    judged.assert_no_copies().await
}

/// Waits until somebody has led for long enough since a moment, and returns the number of the process. A replica that
/// was killed may lead again, as another process under the same name.
async fn reigning(cluster: &Cluster, since: Timestamp) -> Result<String> {
    let leases = Api::<Lease>::namespaced(cluster.admin()?, NAMESPACE);
    let mut seen: Option<(String, Timestamp)> = None;
    poll(TAKE_OVER, "a leader has led for a while", async || {
        let spec = leases.get("daypass-operator").await?.spec.unwrap_or_default();
        let holder = spec.holder_identity.filter(|holder| !holder.is_empty()).context("nobody leads")?;
        let renewed = spec.renew_time.context("the lease was never renewed")?.0;
        ensure!(renewed > since, "{holder} has not renewed the lease since the kill");
        let process = process_of(&holder)?;
        if seen.as_ref().is_none_or(|(known, _)| *known != process) {
            seen = Some((process.clone(), renewed));
        }
        let first = seen.as_ref().map_or(renewed, |(_, first)| *first);
        let reign = Duration::try_from(Timestamp::now().duration_since(first)).unwrap_or_default();
        ensure!(reign >= REIGN, "{holder} has led for {reign:?}");
        Ok(process)
    })
    .await
}

/// The operator's process in the Pod that the lease names, as the node's root knows it.
fn process_of(holder: &str) -> Result<String> {
    for process in std::fs::read_dir("/proc")? {
        let process = process?;
        let Ok(line) = std::fs::read(process.path().join("cmdline")) else { continue };
        if !line.starts_with(b"/usr/local/bin/daypass\0operator\0") {
            continue;
        }
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        let pod = environment.split(|&byte| byte == 0).find_map(|variable| variable.strip_prefix(b"POD_NAME="));
        let pod = String::from_utf8_lossy(pod.unwrap_or_default()).into_owned();
        if !pod.is_empty() && holder.starts_with(&pod) {
            return Ok(process.file_name().to_string_lossy().into_owned());
        }
    }
    anyhow::bail!("no process of {holder} was found")
}
