//! What the benchmarks come to: phase, totals and conditions of the job.

use jiff::Timestamp;

use super::bind::Problem;
use super::schedule::{deadline, order};
use super::shape::CATALOG_MAP;
use crate::api::{
    BenchmarkPhase, BenchmarkStatus, Condition, ConditionStatus, ConditionType, EvalJobSpec, EvalJobStatus,
    EvaluationPhase, Reason, Samples, SecretState, Time, Tokens, set_condition,
};

/// Sums the benchmarks up. `refused` is what a check came to, where it refused the job.
pub fn summarize(
    spec: &EvalJobSpec,
    status: &mut EvalJobStatus,
    refused: Option<(Reason, &str)>,
    generation: Option<i64>,
    now: Timestamp,
) {
    status.conditions.retain(Condition::is_written);
    totals(spec, status);
    phase(spec, status, refused, now);
    conditions(spec, status, generation, now);
    let over = status.phase.is_terminal();
    status.expires_at = if over { None } else { deadline(spec, status).map(Time) };
    if over {
        status.completion_time.get_or_insert(Time(now).to_second());
    }
    status.observed_generation = generation;
}

/// Tells what a check of all needs came to: nothing in the way, or this.
pub fn set_resolved(
    status: &mut EvalJobStatus,
    problem: Option<(Reason, &str)>,
    generation: Option<i64>,
    now: Timestamp,
) {
    let (reason, message) =
        problem.unwrap_or((Reason::Resolved, "Every secret that a benchmark needs was found and may be used"));
    let resolved = problem.is_none().into();
    set_condition(
        &mut status.conditions,
        condition(ConditionType::SecretsResolved, resolved, reason, message, generation, now),
    );
}

/// Tells that the cluster admin's catalog could not be used, or nothing where it could.
pub fn set_catalog(status: &mut EvalJobStatus, broken: bool, version: &str, generation: Option<i64>, now: Timestamp) {
    if !broken {
        status.conditions.retain(|condition| condition.type_ != ConditionType::CatalogCurrent);
        return;
    }
    let message = format!(
        "The ConfigMap {CATALOG_MAP} of the operator's namespace cannot be used; the job was checked with the last good catalog, {version}"
    );
    let (kind, no) = (ConditionType::CatalogCurrent, ConditionStatus::False);
    set_condition(&mut status.conditions, condition(kind, no, Reason::CatalogInvalid, &message, generation, now));
}

/// A statement about the job as of now.
fn condition(
    type_: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: &str,
    observed_generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let last_transition_time = Time(now).to_second();
    Condition { type_, status, reason, message: message.into(), last_transition_time, observed_generation }
}

/// All problems in one: the first one's word, and every sentence on a line of its own.
pub fn sum_of(problems: &[Problem]) -> (Reason, String) {
    let message = problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("\n");
    (problems.first().map_or(Reason::Unknown, |problem| problem.reason), message.chars().take(16_000).collect())
}

/// Ends what has not begun: each benchmark tells what it lacks itself.
pub fn refuse(status: &mut EvalJobStatus, problems: &[Problem], now: Timestamp) {
    for benchmark in status.benchmarks.iter_mut().filter(|told| !told.phase.is_terminal() && !told.is_active()) {
        let own: Vec<&Problem> =
            problems.iter().filter(|problem| problem.benchmarks.contains(&benchmark.name)).collect();
        let messages: Vec<&str> = own.iter().map(|problem| problem.message.as_str()).collect();
        let (phase, reason, message) = match own.first() {
            Some(first) => (BenchmarkPhase::Failed, first.reason, messages.join("\n")),
            None => (BenchmarkPhase::Skipped, Reason::Skipped, "It did not begin, as the job was refused".to_owned()),
        };
        benchmark.phase = phase;
        benchmark.reason = Some(reason);
        benchmark.message = Some(message.chars().take(4000).collect());
        benchmark.next_attempt_at = None;
        benchmark.completion_time = Some(Time(now).to_second());
    }
}

fn count(status: &EvalJobStatus, which: impl Fn(&BenchmarkStatus) -> bool) -> i64 {
    i64::try_from(status.benchmarks.iter().filter(|benchmark| which(benchmark)).count()).unwrap_or(i64::MAX)
}

fn totals(spec: &EvalJobSpec, status: &mut EvalJobStatus) {
    status.succeeded = count(status, |benchmark| benchmark.phase == BenchmarkPhase::Completed);
    status.active = count(status, BenchmarkStatus::is_active);
    let over = count(status, |benchmark| benchmark.phase.is_terminal());
    status.failed = over - status.succeeded;
    status.progress = Some(format!("{over}/{}", spec.benchmarks.len()));
    let scores: Vec<String> = status
        .benchmarks
        .iter()
        .map(|benchmark| {
            let value = benchmark.score.as_ref().and_then(|score| score.value);
            value.map_or_else(
                || "-".to_owned(),
                |value| format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned(),
            )
        })
        .collect();
    let any = status.benchmarks.iter().any(|benchmark| benchmark.score.is_some());
    status.headline = any.then(|| scores.join(" ").chars().take(512).collect());
    let samples: Vec<Samples> = status.benchmarks.iter().filter_map(|benchmark| benchmark.samples).collect();
    status.samples = (!samples.is_empty()).then(|| Samples {
        done: samples.iter().fold(0, |sum, samples| sum.saturating_add(samples.done)),
        total: samples.iter().fold(0, |sum, samples| sum.saturating_add(samples.total)),
    });
    let tokens: Vec<Tokens> = status.benchmarks.iter().filter_map(|benchmark| benchmark.tokens).collect();
    status.tokens = (!tokens.is_empty()).then(|| Tokens {
        input: tokens.iter().fold(0, |sum, tokens| sum.saturating_add(tokens.input)),
        output: tokens.iter().fold(0, |sum, tokens| sum.saturating_add(tokens.output)),
    });
}

fn phase(spec: &EvalJobSpec, status: &mut EvalJobStatus, refused: Option<(Reason, &str)>, now: Timestamp) {
    let all = status.benchmarks.len();
    let over = all > 0 && status.benchmarks.iter().all(|benchmark| benchmark.phase.is_terminal());
    let has = |phase| status.benchmarks.iter().any(|benchmark| benchmark.phase == phase);
    let order = order(spec, status, now);
    let (phase, reason, message) = if let Some((reason, message)) = refused {
        (EvaluationPhase::Failed, reason, message.to_owned())
    } else if over {
        ended(status, all)
    } else if let (Some(reason), true) = (order, status.active > 0) {
        (EvaluationPhase::Terminating, reason, "What runs is being ended".to_owned())
    } else if order == Some(Reason::Suspended) {
        let message = "spec.suspend is set: nothing runs, and no secret is held".to_owned();
        (EvaluationPhase::Suspended, Reason::Suspended, message)
    } else if has(BenchmarkPhase::Running) || has(BenchmarkPhase::Terminating) {
        (EvaluationPhase::Running, Reason::Started, format!("{} of {all} benchmarks run", status.active))
    } else if has(BenchmarkPhase::Queued) {
        (EvaluationPhase::Queued, Reason::Queued, "The Pods wait for their queue".to_owned())
    } else {
        let first = status.benchmarks.iter().find(|benchmark| benchmark.is_active());
        let first = first.or_else(|| status.benchmarks.iter().find(|benchmark| !benchmark.phase.is_terminal()));
        let reason = first.and_then(|benchmark| benchmark.reason).unwrap_or(Reason::Accepted);
        let message = first.and_then(|benchmark| Some(format!("{}: {}", benchmark.name, benchmark.message.as_ref()?)));
        let started = status.start_time.is_some();
        let phase = if started { EvaluationPhase::Running } else { EvaluationPhase::Pending };
        (phase, reason, message.unwrap_or_default())
    };
    status.phase = phase;
    status.reason = Some(reason);
    status.message = Some(message.chars().take(16_384).collect());
}

fn ended(status: &EvalJobStatus, all: usize) -> (EvaluationPhase, Reason, String) {
    let told: Vec<String> = status
        .benchmarks
        .iter()
        .filter(|benchmark| benchmark.phase != BenchmarkPhase::Completed)
        .map(|benchmark| {
            let reason = benchmark.reason.unwrap_or(Reason::Unknown);
            format!("{} ({reason}): {}", benchmark.name, benchmark.message.as_deref().unwrap_or_default())
        })
        .collect();
    if told.is_empty() {
        return (EvaluationPhase::Completed, Reason::Succeeded, format!("All {all} benchmarks have a score"));
    }
    let message = format!("{} of {all} benchmarks have a score\n{}", status.succeeded, told.join("\n"));
    let by_others = status.benchmarks.iter().find(|benchmark| benchmark.phase == BenchmarkPhase::Terminated);
    if let Some(ended) = by_others {
        return (EvaluationPhase::Terminated, ended.reason.unwrap_or(Reason::Stopped), message);
    }
    if status.succeeded > 0 {
        return (EvaluationPhase::PartiallyFailed, Reason::PartiallyFailed, message);
    }
    (EvaluationPhase::Failed, Reason::BenchmarksFailed, message)
}

fn conditions(spec: &EvalJobSpec, status: &mut EvalJobStatus, generation: Option<i64>, now: Timestamp) {
    use ConditionStatus::{False, True, Unknown};
    let over = status.phase.is_terminal();
    let why = (status.reason.unwrap_or(Reason::Accepted), status.message.clone().unwrap_or_default());
    let mut all = std::mem::take(&mut status.conditions);
    let mut set = |type_, status: ConditionStatus, reason, message: &str| {
        set_condition(&mut all, condition(type_, status, reason, message, generation, now));
    };
    set(ConditionType::Accepted, True, Reason::Accepted, "The operator has taken up the job");

    let secrets = || status.benchmarks.iter().flat_map(|benchmark| &benchmark.secrets);
    // Its Secret is made after this is written, and may be gone again before the next word of it.
    let may_hold = |benchmark: &BenchmarkStatus| {
        benchmark.is_active()
            && benchmark.phase != BenchmarkPhase::Queued
            && benchmark.secrets.iter().any(|secret| secret.state == SecretState::Waiting)
    };
    if status.benchmarks.iter().any(|benchmark| benchmark.secret_injected_at.is_some()) {
        set(
            ConditionType::SecretsInjected,
            True,
            Reason::Injected,
            "The values were handed to the runs that need them",
        );
    } else {
        set(ConditionType::SecretsInjected, False, why.0, "No run has got its values yet");
    }
    let failing: Vec<&str> = status
        .benchmarks
        .iter()
        .filter(|benchmark| benchmark.secrets_state.as_deref() == Some("RemovalFailing"))
        .map(|benchmark| benchmark.name.as_str())
        .collect();
    if !failing.is_empty() {
        let text =
            format!("A run Secret is due to go and cannot be removed; it is tried again: {}", failing.join(", "));
        set(ConditionType::SecretsRemoved, False, Reason::RemovalFailing, &text);
    } else if secrets().any(|secret| secret.state == SecretState::Injected) {
        set(ConditionType::SecretsRemoved, False, Reason::InUse, "A run still needs its run Secret");
    } else if status.benchmarks.iter().any(may_hold) {
        let text = "An attempt has begun: its run Secret is about to be made, or is there";
        set(ConditionType::SecretsRemoved, Unknown, Reason::Starting, text);
    } else if over || secrets().any(|secret| secret.state == SecretState::Removed) {
        let text = "The API server holds no copy of the values";
        set(ConditionType::SecretsRemoved, True, Reason::Removed, text);
    } else {
        set(ConditionType::SecretsRemoved, Unknown, why.0, "No run Secret was made yet");
    }
    if status.benchmarks.iter().any(|benchmark| benchmark.secret_injected_at.is_some()) {
        if status.benchmarks.iter().any(|benchmark| benchmark.secrets_outdated) {
            let text = "A newer version exists; runs keep their copies, the next one gets the new value";
            set(ConditionType::SecretsCurrent, False, Reason::NewerVersion, text);
        } else if status.benchmarks.iter().any(|benchmark| benchmark.secrets_stale) {
            let text =
                "A store failed, and a run got a value that was read before, as cache.staleIfErrorSeconds allows";
            set(ConditionType::SecretsCurrent, Unknown, Reason::ServedStale, text);
        } else {
            set(ConditionType::SecretsCurrent, True, Reason::Current, "The runs got the newest versions");
        }
    }
    if spec.results.is_some() {
        let lost: Vec<&str> = status
            .benchmarks
            .iter()
            .filter(|benchmark| benchmark.reason == Some(Reason::ResultsNotStored))
            .map(|benchmark| benchmark.name.as_str())
            .collect();
        if !lost.is_empty() {
            let text = format!("Not stored where spec.results asks for, the scores stand: {}", lost.join(", "));
            set(ConditionType::ResultsStored, False, Reason::ResultsNotStored, &text);
        } else if over && status.succeeded > 0 {
            set(ConditionType::ResultsStored, True, Reason::ResultsStored, "Every result that there is was stored");
        } else {
            set(ConditionType::ResultsStored, Unknown, why.0, "No result yet");
        }
    }
    expectations(spec, status, over, &why, &mut set);
    let runs = status.benchmarks.iter().any(|benchmark| benchmark.phase == BenchmarkPhase::Running);
    set(ConditionType::Ready, runs.into(), why.0, &why.1);
    set(ConditionType::Finished, over.into(), why.0, &why.1);
    let complete = status.phase == EvaluationPhase::Completed;
    set(ConditionType::Complete, complete.into(), why.0, &why.1);
    set(ConditionType::Failed, (over && !complete).into(), why.0, &why.1);
    status.conditions = all;
}

fn expectations(
    spec: &EvalJobSpec,
    status: &EvalJobStatus,
    over: bool,
    why: &(Reason, String),
    set: &mut impl FnMut(ConditionType, ConditionStatus, Reason, &str),
) {
    use ConditionStatus::{False, True, Unknown};
    let expected = || spec.benchmarks.iter().filter(|benchmark| !benchmark.expect.is_empty());
    if expected().next().is_none() {
        set(ConditionType::ExpectationsMet, True, Reason::NothingExpected, "No benchmark has expect[]");
        return;
    }
    let mut unmet: Vec<String> = Vec::new();
    for benchmark in expected() {
        let name = benchmark.effective_name();
        let Some(told) = status.benchmark(name) else { continue };
        unmet.extend(told.unmet.iter().map(|text| format!("{name}: {text}")));
        if over && told.score.is_none() {
            unmet.push(format!("{name}: it has no score"));
        }
    }
    if !unmet.is_empty() {
        let all: String = unmet.join("; ").chars().take(16_000).collect();
        set(ConditionType::ExpectationsMet, False, Reason::ExpectationsNotMet, &all);
    } else if over {
        set(ConditionType::ExpectationsMet, True, Reason::Succeeded, "Every number is what is expected");
    } else {
        set(ConditionType::ExpectationsMet, Unknown, why.0, "Not every benchmark has its numbers yet");
    }
}
