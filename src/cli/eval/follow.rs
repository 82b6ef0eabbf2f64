//! Following an evaluation to its end: a line for each change, and how many samples of what runs are done.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use serde::Deserialize;

use super::super::Session;
use super::super::connect::Cluster;
use super::super::error::Result;
use super::super::output::Format;
use super::{LOOK, get, tables};
use crate::api::{BenchmarkPhase, EvalJob, EvalJobStatus, Samples};

/// What a runner's line about its progress begins with (docs/runner.md).
const PREFIX: &str = "daypass-progress ";
/// How much of a log's end is read: a run may print other lines between two about its progress.
const TAIL_LINES: i64 = 100;
const TAIL_BYTES: i64 = 64 * 1024;

/// Follows a job to its end, with a line for each change.
pub(super) async fn follow(session: &mut Session, cluster: &Cluster, name: &str) -> Result<EvalJob> {
    let mut told = String::new();
    loop {
        let job = get(cluster, name).await?;
        let status = job.status.clone().unwrap_or_default();
        if session.out.format() == Format::Table {
            let line = tables::progress(&status, &samples(cluster, &status).await);
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

/// How far the benchmarks that run are, as their Pods' logs tell it. Where a log cannot be read, nothing is told.
async fn samples(cluster: &Cluster, status: &EvalJobStatus) -> BTreeMap<String, Samples> {
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), &cluster.namespace);
    let parameters = LogParams {
        container: Some("main".into()),
        tail_lines: Some(TAIL_LINES),
        limit_bytes: Some(TAIL_BYTES),
        ..LogParams::default()
    };
    let mut known = BTreeMap::new();
    for benchmark in status.benchmarks.iter().filter(|benchmark| benchmark.phase == BenchmarkPhase::Running) {
        let Some(pod) = &benchmark.pod_name else { continue };
        if let Ok(log) = pods.logs(pod, &parameters).await
            && let Some(samples) = last_progress(&log)
        {
            known.insert(benchmark.name.clone(), samples);
        }
    }
    known
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
