//! Evaluations as tables and lines.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::output::{Table, age};
use crate::api::{BenchmarkPhase, BenchmarkStatus, EvalJob, EvalJobStatus, Samples};
use crate::evaluation::{Entry, NeedReason, SelfGradingBy};

/// The jobs of a namespace.
pub(super) fn jobs(jobs: &[EvalJob], now: Timestamp) -> Table {
    let mut table = Table::new(["NAME", "MODEL", "PHASE", "DONE", "SCORE", "AGE"]);
    for job in jobs {
        let status = job.status.clone().unwrap_or_default();
        table.row([
            job.metadata.name.clone().unwrap_or_default(),
            job.spec.model.name.clone(),
            format!("{:?}", status.phase),
            status.progress.unwrap_or_default(),
            status.headline.unwrap_or_default(),
            age(job.metadata.creation_timestamp.as_ref().map(|time| time.0), now),
        ]);
    }
    table
}

/// What became of each benchmark.
pub(super) fn benchmarks(status: &EvalJobStatus) -> Table {
    let mut table =
        Table::new(["BENCHMARK", "PHASE", "SCORE", "METRIC", "SAMPLES", "TOKENS", "ATTEMPT", "CAUSE", "MESSAGE"]);
    for told in &status.benchmarks {
        table.row([
            told.name.clone(),
            format!("{:?}", told.phase),
            told.score.as_ref().and_then(|score| score.value).map(|value| value.to_string()).unwrap_or_default(),
            told.score.as_ref().map(|score| score.metric.clone()).unwrap_or_default(),
            told.samples.map(|samples| format!("{}/{}", samples.done, samples.total)).unwrap_or_default(),
            told.tokens.map(|tokens| format!("{}+{}", tokens.input, tokens.output)).unwrap_or_default(),
            told.attempt.to_string(),
            told.cause.clone().or_else(|| told.reason.map(|reason| reason.to_string())).unwrap_or_default(),
            said(told),
        ]);
    }
    table
}

fn said(told: &BenchmarkStatus) -> String {
    let message = told.message.clone().unwrap_or_default();
    match told.unmet.as_slice() {
        [] => message,
        unmet => format!("{message}; not as expected: {}", unmet.join(", ")),
    }
}

/// How each benchmark came to its secrets.
pub(super) fn secrets(status: &EvalJobStatus) -> Table {
    let mut table = Table::new(["BENCHMARK", "VARIABLE", "SECRET", "TEAM", "BOUND", "VERSION", "COPY"]);
    for told in &status.benchmarks {
        for secret in &told.secrets {
            table.row([
                told.name.clone(),
                secret.env_var.clone(),
                crate::api::names::access_name(&secret.store, &secret.name),
                secret.team.clone(),
                format!("{:?}", secret.bound),
                secret.version.clone().unwrap_or_default(),
                format!("{:?}", secret.state),
            ]);
        }
    }
    table
}

/// One line on how far a job is: `Running 1/3 [####......] gsm8k 0.8, boolq 4/20, hle Pending`. `samples` is how far the
/// benchmarks that run are.
pub(super) fn progress(status: &EvalJobStatus, samples: &BTreeMap<String, Samples>) -> String {
    let all = status.benchmarks.len();
    if all == 0 {
        return format!(
            "{:?}: {}",
            status.phase,
            status.message.as_deref().unwrap_or("the operator has not taken it up yet")
        );
    }
    let over = status.benchmarks.iter().filter(|told| told.phase.is_terminal()).count();
    let tenths = |told: &BenchmarkStatus| match samples.get(&told.name) {
        _ if told.phase.is_terminal() => 10,
        Some(samples) => (10 * samples.done).checked_div(samples.total).unwrap_or_default(),
        None => 0,
    };
    let sum = usize::try_from(status.benchmarks.iter().map(tenths).sum::<i64>()).unwrap_or_default();
    let filled = (sum / all).min(10);
    let told: Vec<String> = status
        .benchmarks
        .iter()
        .map(|told| match (told.phase, told.score.as_ref().and_then(|score| score.value), samples.get(&told.name)) {
            (BenchmarkPhase::Completed, Some(value), _) => format!("{} {value}", told.name),
            (BenchmarkPhase::Running, _, Some(samples)) => format!("{} {}/{}", told.name, samples.done, samples.total),
            (phase, ..) if told.next_attempt_at.is_some() => format!("{} {phase:?}, tried again", told.name),
            (phase, ..) => format!("{} {phase:?}", told.name),
        })
        .collect();
    format!("{:?} {over}/{all} [{}{}] {}", status.phase, "#".repeat(filled), ".".repeat(10 - filled), told.join(", "))
}

/// What a benchmark needs, in words.
fn needs(entry: &Entry) -> String {
    let mut needs: Vec<String> = Vec::new();
    for need in &entry.env {
        let text = match need.reason {
            NeedReason::Judge => {
                let instead = need.instead.as_ref().map(|instead| instead.names().join(", ")).unwrap_or_default();
                format!("{} (judge; role {instead})", need.name)
            }
            NeedReason::GatedDataset => format!("{} (gated data)", need.name),
        };
        if !needs.contains(&text) {
            needs.push(text);
        }
    }
    if let Some(grading) = &entry.self_grading {
        needs.push(match (grading.by, &grading.name) {
            (SelfGradingBy::Always, _) | (_, None) => "allowSelfGrading".to_owned(),
            (_, Some(name)) => format!("a judge (role {name})"),
        });
    }
    needs.join(", ")
}

/// The catalog.
pub(super) fn catalog(entries: &[&Entry]) -> Table {
    let mut table = Table::new(["NAME", "CATEGORY", "SAMPLES", "NEEDS", "IMAGE", "TITLE"]);
    for entry in entries.iter().filter(|entry| entry.exists) {
        table.row([
            entry.name.clone(),
            entry.category.clone(),
            entry.samples.map(|samples| samples.to_string()).unwrap_or_default(),
            needs(entry),
            if entry.runs_anywhere() { String::new() } else { entry.runner.clone() },
            entry.title.clone(),
        ]);
    }
    table
}

/// The catalog for programs.
pub(super) fn catalog_data(version: &str, entries: &[&Entry]) -> Value {
    let all: Vec<Value> = entries
        .iter()
        .map(|entry| {
            json!({
                "name": entry.name, "title": entry.title, "category": entry.category, "task": entry.task,
                "description": entry.description, "exists": entry.exists, "replacedBy": entry.replaced_by,
                "samples": entry.samples, "needs": needs(entry), "runner": entry.runner,
            })
        })
        .collect();
    json!({"catalogVersion": version, "benchmarks": all})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{EvaluationPhase, Score};

    #[test]
    fn progress_counts_benchmarks_and_the_samples_of_those_that_run() {
        let told = |name: &str, phase| BenchmarkStatus { name: name.into(), phase, ..BenchmarkStatus::default() };
        let mut done = told("gsm8k", BenchmarkPhase::Completed);
        done.score = Some(Score { metric: "accuracy".into(), value: Some(0.8), ..Score::default() });
        let status = EvalJobStatus {
            phase: EvaluationPhase::Running,
            benchmarks: vec![done, told("boolq", BenchmarkPhase::Running), told("hle", BenchmarkPhase::Pending)],
            ..EvalJobStatus::default()
        };
        assert_eq!(
            progress(&status, &BTreeMap::new()),
            "Running 1/3 [###.......] gsm8k 0.8, boolq Running, hle Pending"
        );
        let samples = BTreeMap::from([("boolq".to_owned(), Samples { done: 16, total: 20 })]);
        assert_eq!(progress(&status, &samples), "Running 1/3 [######....] gsm8k 0.8, boolq 16/20, hle Pending");
        let none = progress(&EvalJobStatus::default(), &BTreeMap::new());
        assert_eq!(none, "Pending: the operator has not taken it up yet");
    }
}
