//! The operator's process: configuration, telemetry, leadership, and the wiring of everything else.

mod client;
pub mod config;
mod http;
mod lead;
mod shutdown;
mod telemetry;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use anyhow::Context as _;
use k8s_controller::LeaderElection;
use kube::Client;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use config::Config;

use crate::guard::{self, GuardConfig};
use crate::metrics::Metrics;

/// How often the policies are proven in force.
const PROOF_INTERVAL: Duration = Duration::from_secs(60);
/// How soon they are tried again while they are not.
const PROOF_RETRY: Duration = Duration::from_secs(2);
/// How long a shutdown may take: below the Pod's own grace period.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(20);

/// Runs the operator until it is told to stop, or loses its lease.
///
/// # Errors
/// The configuration cannot be read, the API server cannot be found, or the lease was lost.
pub async fn run(config: &Path) -> anyhow::Result<()> {
    let config = Config::read(config)?;
    telemetry::start(&config.log)?;
    let metrics = Arc::new(Metrics::new());
    let client = client::client(&metrics).await.context("find the API server")?;
    let namespace = config.namespace(client.default_namespace());
    let identity = config.identity();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), namespace, identity, "starting");

    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        shutdown::signal().await;
        tracing::info!("told to stop");
        stopped.cancel();
    });
    let (guarded_tx, guarded) = watch::channel(false);
    let guard_config = GuardConfig { pod_name: config.pod_name(), ..GuardConfig::new(&namespace) };
    tokio::spawn(prove_for_ever(client.clone(), guard_config, guarded_tx));
    let http = tokio::spawn(http::serve(config.http.clone(), guarded.clone(), metrics.clone()));

    let election = LeaderElection::new(client.clone(), &namespace, "daypass-operator", &identity)
        .with_lease_duration(config.lease.duration())
        .with_renew_deadline(config.lease.renew_deadline())
        .with_retry_period(config.lease.retry_period());
    let leading = AtomicBool::new(false);
    let held = election.with_lease(async {
        leading.store(true, Ordering::Relaxed);
        let limit = config.lease.renew_deadline();
        let work = lead::lead(client, config, namespace, guarded, metrics, stop.clone());
        // A task of its own: however much work there is, the lease is renewed beside it.
        AbortOnDropHandle::new(tokio::spawn(unless_it_stood_still(limit, work))).await.context("the work ended")?
    });
    let result = tokio::select! {
        outcome = held => match outcome {
            Some(result) => result,
            None => Err(anyhow::anyhow!("the lease was lost: ending, so that no work outlives it")),
        },
        result = http => result.context("the HTTP server ended")?,
        result = told_to_stop(&stop, &leading) => result,
    };
    tracing::info!("ended");
    result
}

/// Ends a follower at once, and a leader that does not end its work in time.
async fn told_to_stop(stop: &CancellationToken, leading: &AtomicBool) -> anyhow::Result<()> {
    stop.cancelled().await;
    if leading.load(Ordering::Relaxed) {
        tokio::time::sleep(SHUTDOWN_GRACE).await;
        anyhow::bail!("work did not end within {} s", SHUTDOWN_GRACE.as_secs());
    }
    Ok(())
}

/// Does the work of a leader, but no more once the process has stood still for `limit`: another may lead by then, and
/// what is due would be done before the lease is looked at. How long the work itself takes is no stand.
async fn unless_it_stood_still(limit: Duration, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut work = std::pin::pin!(work);
    let mut tick = tokio::time::interval(limit / 10);
    let mut last = Instant::now();
    std::future::poll_fn(|context| {
        if last.elapsed() >= limit {
            return Poll::Ready(Err(anyhow::anyhow!(
                "the process stood still for {} s and more, and the lease was lost or may be: ending",
                limit.as_secs()
            )));
        }
        while tick.poll_tick(context).is_ready() {}
        let outcome = work.as_mut().poll(context);
        last = Instant::now();
        outcome
    })
    .await
}

/// Proves the policies now and every minute; while they are not in force, every two seconds.
async fn prove_for_ever(client: Client, config: GuardConfig, guarded: watch::Sender<bool>) {
    let mut told = Vec::new();
    loop {
        let report = guard::prove(&client, &config).await;
        let in_force = report.in_force();
        if !in_force && report.missing != told {
            for finding in &report.missing {
                tracing::error!(%finding, "an admission policy is not proven in force: nothing is created");
            }
        }
        if in_force && !*guarded.borrow() {
            tracing::info!("the admission policies are in force");
        }
        told = report.missing;
        guarded.send_if_modified(|old| std::mem::replace(old, in_force) != in_force);
        tokio::time::sleep(if in_force { PROOF_INTERVAL } else { PROOF_RETRY }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_is_due_after_a_stand_is_not_done() {
        let limit = Duration::from_secs(10);
        for (stand, done) in [(limit / 2, true), (limit, false)] {
            let due = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(())
            };
            let mut work = std::pin::pin!(unless_it_stood_still(limit, due));
            assert!(futures::poll!(&mut work).is_pending());
            tokio::time::advance(stand).await;
            let outcome = futures::poll!(&mut work);
            assert!(matches!(outcome, Poll::Ready(outcome) if outcome.is_ok() == done), "{stand:?}");
        }
    }
}
