//! Two replicas and one leader, that stop, are killed, and begin anew, each on a control plane of its own.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use daypass::api::{BenchmarkPhase, BenchmarkStatus, Phase, Reason, SecretState};
use daypass_testcluster::{Cluster, poll};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::support::{Fleet, NAMESPACE, Replica, TURN, Team, end_cluster, own_cluster, settle};

/// Counts the reconciles of a process.
const RECONCILES: &str = "daypass_reconciles_total";
/// How the log tells of a step that is about to be done.
const STEP: &str = "\"message\":\"step\"";

/// Waits until one of the replicas leads, and gives its place.
async fn leader(replicas: &[Replica]) -> Result<usize> {
    poll(Duration::from_secs(60), "a replica leads", async || {
        for (index, replica) in replicas.iter().enumerate() {
            if replica.leads()? {
                return Ok(index);
            }
        }
        anyhow::bail!("none does")
    })
    .await
}

async fn pair(cluster: &Cluster) -> Result<Vec<Replica>> {
    let first = Replica::start_for_take_over(cluster, "0").await?;
    first.wait_until_ready(cluster).await?;
    settle(cluster).await?;
    let second = Replica::start_for_take_over(cluster, "1").await?;
    Ok(vec![first, second])
}

fn no_secret_was_read(cluster: &Cluster) -> Result<()> {
    let entries = cluster.audit().all()?;
    let mine = entries.iter().filter(|entry| entry.user == "system:serviceaccount:daypass-system:daypass-operator");
    for entry in mine.filter(|entry| entry.resource == "secrets") {
        ensure!(!["get", "list", "watch"].contains(&entry.verb.as_str()), "{} {}", entry.verb, entry.uri);
    }
    Ok(())
}

#[tokio::test]
async fn a_clean_stop_hands_fifty_runs_over_and_a_settled_cluster_costs_nothing() -> Result<()> {
    let _turn = TURN.acquire().await?;
    let cluster = own_cluster().await?;
    let mut replicas = pair(cluster).await?;
    let team = Team::on(cluster, "hand").await?;
    let mut fleet = Fleet::new(&team).await?;
    fleet.submit(25).await?;
    fleet.start(0..10).await?;
    fleet.submit(25).await?;
    // In the middle of it.
    let leading = leader(&replicas).await?;
    let asked = Instant::now();
    let status = replicas.remove(leading).terminate().await?;
    ensure!(status.success(), "{status}");
    ensure!(asked.elapsed() < Duration::from_secs(20), "it took {:?}", asked.elapsed());
    replicas[0].wait_until_it_leads().await?;
    fleet.start(10..50).await?;
    fleet.wait_running(0..50).await?;
    fleet.exit(0..40).await?;
    poll(Duration::from_secs(60), "forty runs are over", async || {
        let all = team.sandboxes().list(&ListParams::default()).await?;
        let over =
            all.iter().filter(|sandbox| sandbox.status.as_ref().is_some_and(|s| s.phase == Phase::Completed)).count();
        ensure!(over == 40, "{over}");
        Ok(())
    })
    .await?;

    // Ten run, forty are over: a look at each changes nothing.
    let mark = team.mark()?;
    let before = replicas[0].metric(RECONCILES).await?;
    touch_all(&team).await?;
    poll(Duration::from_secs(30), "all runs are looked at", async || {
        let now = replicas[0].metric(RECONCILES).await?;
        ensure!(now >= before + 50.0, "{before} {now}");
        Ok(())
    })
    .await?;
    assert_eq!(team.writes(mark).await?, [""; 0], "a look that finds nothing to do");

    // And so with a new leader.
    let mark = team.mark()?;
    let status = replicas.remove(0).terminate().await?;
    ensure!(status.success(), "{status}");
    let next = Replica::start_for_take_over(cluster, "2").await?;
    next.wait_until_it_leads().await?;
    poll(Duration::from_secs(60), "all runs are looked at", async || {
        let now = next.metric(RECONCILES).await?;
        ensure!(now >= 51.0, "{now}");
        Ok(())
    })
    .await?;
    assert_eq!(team.writes(mark).await?, [""; 0], "a new leader over a settled cluster");
    fleet.exit(40..50).await?;
    fleet.check_the_end().await?;
    no_secret_was_read(cluster)?;
    drop(next);
    end_cluster(cluster)
}

async fn touch_all(team: &Team) -> Result<()> {
    let pods: Api<Pod> = team.pods();
    for pod in pods.list(&ListParams::default()).await? {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"example.com/seen": "1"}}}));
        pods.patch(&pod.name_any(), &PatchParams::default(), &patch).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_leader_that_stood_still_past_its_lease_ends_and_writes_nothing() -> Result<()> {
    let _turn = TURN.acquire().await?;
    let cluster = own_cluster().await?;
    let mut replicas = pair(cluster).await?;
    let team = Team::on(cluster, "still").await?;
    team.set_secret("KEY", b"value").await?;
    let spec = |key: &str| json!({"secrets": [{"name": key}]});
    let before = team.run("before", spec("KEY")).await?;
    team.pod(&before).await?;
    // Looked at every 5 s: it is due when the process goes on.
    let waits = team.run("waits", spec("LATER")).await?;
    team.wait("waits", "it waits", |status| status.reason == Some(Reason::SecretNotFound)).await?;

    let mut still = replicas.remove(leader(&replicas).await?);
    still.signal("-STOP")?;
    let meanwhile = team.run("meanwhile", spec("KEY")).await?;
    team.set_secret("LATER", b"value").await?;
    team.play_start(&before).await?;
    replicas[0].wait_until_it_leads().await?;
    let log = still.log()?;
    ensure!(log.contains(STEP), "its steps are not told as this test reads them");
    still.signal("-CONT")?;
    let status = still.ended().await?;
    let after = still.log()?.split_off(log.len());
    assert_eq!(status.code(), Some(1), "{after}");
    ensure!(after.contains("the lease was lost"), "{after}");
    ensure!(!after.contains(STEP), "it has gone on with its work: {after}");

    team.wait("before", "it runs", |status| status.phase == Phase::Running).await?;
    for run in [&waits, &meanwhile] {
        team.pod(run).await?;
        ensure!(team.copy(run).await?.len() == 1, "{run} has a Pod and no Secret");
    }
    drop(replicas);
    end_cluster(cluster)
}

#[tokio::test]
async fn a_leader_killed_after_each_take_over_changes_no_end() -> Result<()> {
    let _turn = TURN.acquire().await?;
    let cluster = own_cluster().await?;
    let mut replicas = pair(cluster).await?;
    let team = Team::on(cluster, "killed").await?;
    let mut fleet = Fleet::new(&team).await?;
    for round in 0..5 {
        let leading = leader(&replicas).await?;
        let since = Instant::now();
        // New runs, runs that start, and runs that end, all under way when the leader dies.
        fleet.submit(10).await?;
        let (from, to) = (round * 10, round * 10 + 10);
        let work = async {
            fleet.start(from..to).await?;
            // The copy goes while the program runs, not only at its end.
            fleet.wait_running(from..to).await?;
            if round > 0 { fleet.exit(from - 10..from).await } else { Ok(()) }
        };
        let kill = async {
            poll(Duration::from_secs(10), "it has led for 2 s", async || {
                ensure!(since.elapsed() >= Duration::from_secs(2));
                Ok(())
            })
            .await?;
            replicas.remove(leading).kill()?;
            replicas.push(Replica::start_for_take_over(cluster, &format!("after-{round}")).await?);
            anyhow::Ok(())
        };
        tokio::try_join!(work, kill)?;
    }
    fleet.exit(40..50).await?;
    fleet.check_the_end().await?;
    no_secret_was_read(cluster)?;
    drop(replicas);
    end_cluster(cluster)
}

#[tokio::test]
async fn a_leader_killed_between_any_two_writes_changes_no_end() -> Result<()> {
    let _turn = TURN.acquire().await?;
    let cluster = own_cluster().await?;
    let mut leading = Replica::start_for_take_over(cluster, "0").await?;
    leading.wait_until_ready(cluster).await?;
    settle(cluster).await?;
    let (team, judges) = (Team::on(cluster, "between").await?, Team::on(cluster, "between-evaluations").await?);
    judges.set_secret("MODEL_KEY", b"value").await?;
    let leases = Api::<Lease>::namespaced(cluster.admin()?, NAMESPACE);
    let mut fleet = Fleet::new(&team).await?;
    // A run is five writes; two Sandboxes and an evaluation of two benchmarks at once mix them up.
    for writes in 1..=12 {
        leading.wait_until_it_leads().await?;
        let runs = (writes - 1) * 2..writes * 2;
        let mark = team.mark()?;
        fleet.submit(2).await?;
        let spec = json!({"benchmarks": [{"task": "gsm8k"}, {"task": "boolq"}], "parallelism": 2});
        let job = judges.evaluate(&format!("job-{writes}"), spec).await?;
        let play = async {
            let evaluation = async {
                for benchmark in ["gsm8k", "boolq"] {
                    let run = judges.attempt(&job, benchmark, 1).await?;
                    ensure!(judges.copy(&run).await?.len() == 1, "{benchmark} has a Pod and no Secret");
                    judges.starts(&job, benchmark, &run).await?;
                    judges.play_score(&run, 0.5).await?;
                }
                anyhow::Ok(())
            };
            let sandboxes = async {
                fleet.start(runs.clone()).await?;
                fleet.wait_running(runs.clone()).await?;
                fleet.exit(runs.clone()).await
            };
            tokio::try_join!(evaluation, sandboxes)?;
            anyhow::Ok(())
        };
        let kill = async {
            poll(Duration::from_secs(30), "it has written so much", async || {
                let entries = cluster.audit().since(mark)?;
                let seen = entries.iter().filter(|entry| {
                    entry.is_write()
                        && [&team.namespace, &judges.namespace].contains(&&entry.namespace)
                        && entry.user.ends_with(":daypass-operator")
                });
                ensure!(seen.count() >= writes);
                Ok(())
            })
            .await?;
            leading.kill()?;
            // That a lease of the dead runs out is another test's.
            leases.delete("daypass-operator", &DeleteParams::default()).await?;
            Replica::start_for_take_over(cluster, &writes.to_string()).await
        };
        ((), leading) = tokio::try_join!(play, kill)?;
    }
    fleet.check_the_end().await?;
    for writes in 1..=12 {
        let status = judges.wait_job_over(&format!("job-{writes}")).await?;
        let right = |told: &BenchmarkStatus| {
            told.phase == BenchmarkPhase::Completed
                && told.attempt == 1
                && told.secrets.iter().all(|secret| secret.state == SecretState::Removed)
        };
        ensure!(status.benchmarks.iter().all(right), "{writes}: {}", json!(status));
    }
    let pods = judges.pods().list(&ListParams::default()).await?.items.len();
    assert_eq!(pods, 24, "each attempt has had one Pod");
    judges.assert_no_run_secrets().await?;
    no_secret_was_read(cluster)?;
    drop(leading);
    end_cluster(cluster)
}
