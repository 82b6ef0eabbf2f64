//! Following an evaluation to its end: a line for each change, and how many samples of what runs are done.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use serde::Deserialize;

use super::super::Session;
use super::super::connect::Cluster;
use super::super::error::Result;
use super::super::output::Format;
use super::{LOOK, get, tables};
use crate::api::{BenchmarkPhase, BenchmarkStatus, EvalJob, EvalJobStatus, Samples};

/// What a runner's line about its progress begins with (docs/runner.md).
const PREFIX: &str = "daypass-progress ";
/// How many lines of a log's end are read: a run may print others between two about its progress.
const TAIL: i64 = 20;
/// How long a node may take to show a log.
const PATIENCE: Duration = Duration::from_secs(2);

/// Follows a job to its end, with a line for each change.
pub(super) async fn follow(session: &mut Session, cluster: &Cluster, name: &str) -> Result<EvalJob> {
    let mut told = String::new();
    let mut samples = BTreeMap::new();
    loop {
        let job = get(cluster, name).await?;
        let status = job.status.clone().unwrap_or_default();
        if session.out.format() == Format::Table {
            look(cluster, &status, &mut samples).await;
            let line = tables::progress(&status, &samples);
            if line != told {
                session.out.note(&line);
                told = line;
            }
        }
        if is_over(&job, &status) {
            return Ok(job);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Over, and not waiting for a rerun that was asked for.
fn is_over(job: &EvalJob, status: &EvalJobStatus) -> bool {
    status.phase.is_terminal() && (status.rerun >= job.spec.rerun || job.spec.stop)
}

/// Looks how far the benchmarks that run are, as their Pods' logs tell it. Where a log cannot be read, or not in time,
/// what was known of it stays.
async fn look(cluster: &Cluster, status: &EvalJobStatus, samples: &mut BTreeMap<String, Samples>) {
    let pods = &Api::<Pod>::namespaced(cluster.client.clone(), &cluster.namespace);
    let parameters = &LogParams { container: Some("main".into()), tail_lines: Some(TAIL), ..LogParams::default() };
    let runs = |benchmark: &&BenchmarkStatus| benchmark.phase == BenchmarkPhase::Running;
    samples.retain(|name, _| status.benchmarks.iter().filter(runs).any(|benchmark| benchmark.name == *name));
    let looks = status.benchmarks.iter().filter(runs).map(|benchmark| async move {
        let log = tokio::time::timeout(PATIENCE, pods.logs(benchmark.pod_name.as_deref()?, parameters)).await;
        Some((benchmark.name.clone(), last_progress(&log.ok()?.ok()?)?))
    });
    samples.extend(join_all(looks).await.into_iter().flatten());
}

/// The last line about progress that can be read. A log is what a program printed: nothing else of it is taken.
fn last_progress(log: &str) -> Option<Samples> {
    #[derive(Deserialize)]
    struct Line {
        done: u32,
        total: u32,
    }
    let mut lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Line>(line.strip_prefix(PREFIX)?).ok());
    lines.next().map(|line| Samples { done: line.done.min(line.total).into(), total: line.total.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_that_can_be_read_counts() {
        let log = "daypass-progress {\"phase\":\"Starting\",\"done\":0,\"total\":null}\n\
            daypass-progress {\"phase\":\"Running\",\"done\":3,\"total\":10}\n\
            something else\n\
            daypass-progress {\"done\":-1,\"total\":10}\n\
            daypass-progress no JSON\n";
        assert_eq!(last_progress(log), Some(Samples { done: 3, total: 10 }));
        assert_eq!(last_progress("daypass-progress {\"done\":9,\"total\":1}"), Some(Samples { done: 1, total: 1 }));
        assert_eq!(last_progress("a daypass-progress {\"done\":9,\"total\":9}"), None);
        assert_eq!(last_progress(""), None);
    }
}
