//! Evaluations as tables and lines.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::output::{Table, age};
use crate::api::{BenchmarkPhase, BenchmarkStatus, EvalJob, EvalJobStatus};
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

/// One line on how far a job is: `Running 1/3 [##........] gsm8k 0.8, boolq Running, hle Pending`.
pub(super) fn progress(status: &EvalJobStatus) -> String {
    let all = status.benchmarks.len();
    let over = status.benchmarks.iter().filter(|told| told.phase.is_terminal()).count();
    let filled = (over * 10).checked_div(all).unwrap_or_default();
    let told: Vec<String> = status
        .benchmarks
        .iter()
        .map(|told| match (told.phase, told.score.as_ref().and_then(|score| score.value)) {
            (BenchmarkPhase::Completed, Some(value)) => format!("{} {value}", told.name),
            (phase, _) if told.next_attempt_at.is_some() => format!("{} {phase:?}, tried again", told.name),
            (phase, _) => format!("{} {phase:?}", told.name),
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
