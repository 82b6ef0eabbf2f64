//! Whose turn it is: from the recorded state of all attempts to those that begin, wait or never will.

use jiff::{SignedDuration, Timestamp};

use super::cause::{Cause, counts, may_pass_again};
use super::{Report, unmet};
use crate::api::{
    Benchmark, BenchmarkPhase, BenchmarkStatus, BoundSecret, ConditionType, EvalJobSpec, EvalJobStatus, FailurePolicy,
    Phase, Reason, SecretState, Time,
};
use crate::run::{Run, SecretCopy, State};

/// The first wait between two attempts; each further one is twice as long.
const BACK_OFF: SignedDuration = SignedDuration::from_secs(10);
/// The longest wait that is not a provider's own word.
const LONGEST_BACK_OFF: SignedDuration = SignedDuration::from_secs(360);
/// The longest message of a benchmark.
const LONGEST_MESSAGE: usize = 2000;

/// What is to be done next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    /// Benchmarks whose next attempt begins: their status says so already.
    pub begun: Vec<usize>,
    /// When to look again at the latest.
    pub wake: Option<Timestamp>,
}

impl BenchmarkStatus {
    /// Whether an attempt is under way.
    pub fn is_active(&self) -> bool {
        self.attempt > 0 && !self.phase.is_terminal() && self.next_attempt_at.is_none()
    }

    /// Whether a copy of values may be left of its last attempt.
    pub fn is_unsettled(&self) -> bool {
        let copy = self.secrets_state.as_deref().map(SecretCopy::parse).unwrap_or_default();
        !self.is_active() && matches!(copy, SecretCopy::Present | SecretCopy::RemovalFailing)
    }
}

/// Why the job asks its attempts to end, if it does.
pub fn order(spec: &EvalJobSpec, status: &EvalJobStatus, now: Timestamp) -> Option<Reason> {
    let failed = status.benchmarks.iter().any(|benchmark| benchmark.phase == BenchmarkPhase::Failed);
    if spec.stop {
        Some(Reason::Stopped)
    } else if deadline(spec, status).is_some_and(|deadline| deadline <= now) {
        Some(Reason::DeadlineExceeded)
    } else if failed && spec.failure_policy == FailurePolicy::FailFast {
        Some(Reason::Skipped)
    } else if spec.suspend {
        Some(Reason::Suspended)
    } else {
        None
    }
}

/// When the job is ended at the latest.
pub(super) fn deadline(spec: &EvalJobSpec, status: &EvalJobStatus) -> Option<Timestamp> {
    status.active_since.map(|since| later(since.0, SignedDuration::from_secs(spec.active_deadline_seconds)))
}

/// Gives those that wait their turn, or their end. Only of a job that was checked and is not over.
pub fn turn(spec: &EvalJobSpec, status: &mut EvalJobStatus, now: Timestamp) -> Turn {
    let mut turn = Turn::default();
    let order = order(spec, status, now);
    if order == Some(Reason::Suspended) && status.benchmarks.iter().all(|benchmark| !benchmark.is_active()) {
        // A suspension stops the clock.
        status.active_since = None;
    }
    for benchmark in status.benchmarks.iter_mut().filter(|b| !b.phase.is_terminal() && !b.is_active()) {
        let Some(reason) = order else { continue };
        let (phase, message) = match reason {
            Reason::Stopped => (BenchmarkPhase::Terminated, "Stopped by spec.stop"),
            Reason::DeadlineExceeded => {
                (BenchmarkPhase::Failed, "The job's time is over; spec.activeDeadlineSeconds sets it")
            }
            Reason::Skipped => (BenchmarkPhase::Skipped, "Another benchmark failed, and failurePolicy is FailFast"),
            _ => (BenchmarkPhase::Pending, "spec.suspend is set"),
        };
        benchmark.phase = phase;
        benchmark.reason = Some(reason);
        benchmark.message = Some(message.into());
        if phase.is_terminal() {
            benchmark.next_attempt_at = None;
            benchmark.completion_time = Some(Time(now).to_second());
            keep_score(benchmark);
        }
    }
    if order.is_some() {
        return turn;
    }
    let active = status.benchmarks.iter().filter(|benchmark| benchmark.is_active()).count();
    let mut places = usize::try_from(spec.parallelism).unwrap_or(1).saturating_sub(active);
    let waiting = places == 0;
    for (index, benchmark) in status.benchmarks.iter_mut().enumerate() {
        if benchmark.phase.is_terminal() || benchmark.is_active() {
            continue;
        }
        let due = benchmark.next_attempt_at.is_none_or(|at| at.0 <= now);
        if due && places > 0 && !benchmark.is_unsettled() {
            begin(benchmark);
            places -= 1;
            turn.begun.push(index);
        } else if due {
            benchmark.reason = Some(Reason::WaitingForTurn);
            benchmark.message = Some("The benchmark waits for its turn (spec.parallelism)".into());
        } else if let Some(at) = benchmark.next_attempt_at.filter(|_| !waiting) {
            turn.wake = Some(turn.wake.map_or(at.0, |wake| wake.min(at.0)));
        }
    }
    if !turn.begun.is_empty() {
        status.start_time.get_or_insert(Time(now).to_second());
        status.active_since.get_or_insert(Time(now).to_second());
    }
    let deadline = deadline(spec, status);
    turn.wake = [turn.wake, deadline].into_iter().flatten().min();
    turn
}

/// The next attempt: nothing of the last one is left, but its numbers until there are newer ones.
fn begin(benchmark: &mut BenchmarkStatus) {
    *benchmark = BenchmarkStatus {
        name: std::mem::take(&mut benchmark.name),
        task: std::mem::take(&mut benchmark.task),
        attempt: benchmark.attempt + 1,
        failures: benchmark.failures,
        score: benchmark.score.take(),
        metrics: std::mem::take(&mut benchmark.metrics),
        samples: benchmark.samples,
        tokens: benchmark.tokens,
        unmet: std::mem::take(&mut benchmark.unmet),
        log: benchmark.log.take(),
        reason: Some(Reason::Starting),
        message: Some("The attempt begins".into()),
        ..BenchmarkStatus::default()
    };
}

/// Makes those that did not succeed begin anew. Their attempts go on counting, so that no name comes twice.
pub fn rerun(spec: &EvalJobSpec, status: &mut EvalJobStatus) {
    for benchmark in &mut status.benchmarks {
        if benchmark.phase != BenchmarkPhase::Completed {
            benchmark.phase = BenchmarkPhase::Pending;
            benchmark.failures = 0;
            benchmark.cause = None;
            benchmark.completion_time = None;
            benchmark.reason = Some(Reason::WaitingForTurn);
            benchmark.message = Some("To be run again".into());
            if benchmark.attempt > 0 {
                benchmark.next_attempt_at = Some(Time(Timestamp::UNIX_EPOCH));
            }
        }
    }
    // What was missing may be there now, what was there may be gone: everything is asked for anew.
    status.conditions.retain(|condition| condition.type_ != ConditionType::SecretsResolved);
    status.rerun = spec.rerun;
    status.active_since = None;
    status.completion_time = None;
}

/// Where the run of an attempt stands, from what is recorded.
pub fn state_of(benchmark: &BenchmarkStatus) -> State {
    let got =
        benchmark.secrets.iter().any(|secret| !matches!(secret.state, SecretState::Waiting | SecretState::Denied));
    let phase = match benchmark.phase {
        _ if benchmark.next_attempt_at.is_some() => Phase::Failed,
        BenchmarkPhase::Pending | BenchmarkPhase::Queued => Phase::Pending,
        BenchmarkPhase::Running => Phase::Running,
        BenchmarkPhase::Terminating => Phase::Terminating,
        BenchmarkPhase::Completed => Phase::Completed,
        BenchmarkPhase::Failed => Phase::Failed,
        BenchmarkPhase::Terminated | BenchmarkPhase::Skipped => Phase::Terminated,
    };
    State {
        phase,
        reason: benchmark.reason.unwrap_or(Reason::WaitingForController),
        message: benchmark.message.clone().unwrap_or_default(),
        pod: benchmark.pod_name.is_some(),
        copy: benchmark.secrets_state.as_deref().map(SecretCopy::parse).unwrap_or_default(),
        versions: if got {
            benchmark.secrets.iter().map(|secret| secret.version.clone()).collect()
        } else {
            Vec::new()
        },
        denied: (0..benchmark.secrets.len())
            .filter(|&index| benchmark.secrets[index].state == SecretState::Denied)
            .collect(),
        waiting_since: benchmark.waiting_since.map(|time| time.0),
        started: benchmark.start_time.map(|time| time.0),
        completed: benchmark.completion_time.map(|time| time.0),
        expires: benchmark.expires_at.map(|time| time.0),
        exit_code: benchmark.exit_code,
        injected: benchmark.secret_injected_at.map(|time| time.0),
        removed: benchmark.secret_removed_at.map(|time| time.0),
        outdated: benchmark.secrets_outdated,
        stale: benchmark.secrets_stale,
    }
}

/// Records where an attempt's run stands, and once it is over what comes of the benchmark.
pub fn fold(
    status: &mut BenchmarkStatus,
    benchmark: &Benchmark,
    spec: &EvalJobSpec,
    run: &Run,
    state: &State,
    report: Option<&Report>,
    now: Timestamp,
) {
    let was_active = status.is_active();
    let time = |time: Option<Timestamp>| time.map(Time);
    status.pod_name = state.pod.then(|| run.name.clone());
    status.secrets_state = Some(state.copy.as_str().into());
    secrets(&mut status.secrets, state);
    status.waiting_since = time(state.waiting_since);
    status.secret_injected_at = time(state.injected);
    status.secret_removed_at = time(state.removed.filter(|_| state.injected.is_some()));
    status.secret_exposure_milliseconds = state
        .injected
        .zip(state.removed)
        .map(|(from, to)| i64::try_from(to.duration_since(from).as_millis()).unwrap_or(i64::MAX).max(0));
    status.secrets_outdated = state.outdated;
    status.secrets_stale = state.stale;
    status.start_time = time(state.started);
    status.expires_at = time(state.expires);
    status.exit_code = state.exit_code;
    if !was_active {
        // Its end is told already; what was left is the removal of its copy.
        return;
    }
    status.reason = Some(state.reason);
    status.message = Some(cut(&state.message));
    status.phase = match state.phase {
        Phase::Pending if state.reason == Reason::Queued => BenchmarkPhase::Queued,
        Phase::Pending => BenchmarkPhase::Pending,
        Phase::Running => BenchmarkPhase::Running,
        Phase::Terminating => BenchmarkPhase::Terminating,
        Phase::Completed | Phase::Failed | Phase::Terminated => {
            conclude(status, benchmark, spec, state, report, now);
            return;
        }
    };
}

fn secrets(secrets: &mut [BoundSecret], state: &State) {
    let injected = matches!(state.copy, SecretCopy::Present | SecretCopy::RemovalFailing | SecretCopy::Gone)
        && !state.versions.is_empty();
    for (index, secret) in secrets.iter_mut().enumerate() {
        secret.version = state.versions.get(index).cloned().flatten();
        secret.state = match (injected, &secret.version) {
            _ if state.denied.contains(&index) => SecretState::Denied,
            (false, _) => SecretState::Waiting,
            (true, None) => SecretState::Absent,
            (true, Some(_)) if state.copy == SecretCopy::Gone => SecretState::Removed,
            (true, Some(_)) => SecretState::Injected,
        };
    }
}

/// How an attempt ended, in the benchmark's terms.
struct End {
    phase: BenchmarkPhase,
    reason: Reason,
    message: String,
    again: bool,
}

fn conclude(
    status: &mut BenchmarkStatus,
    benchmark: &Benchmark,
    spec: &EvalJobSpec,
    state: &State,
    report: Option<&Report>,
    now: Timestamp,
) {
    let by_itself = matches!(state.reason, Reason::Succeeded | Reason::NonZeroExit);
    let cause = state.exit_code.filter(|_| by_itself).and_then(Cause::of_exit);
    status.cause = cause.map(|cause| cause.as_str().to_owned());
    let scored = matches!(cause, Some(Cause::Succeeded | Cause::ResultsNotStored));
    if let Some(report) = report.filter(|_| by_itself) {
        status.samples = report.samples.or(status.samples);
        status.tokens = report.tokens.or(status.tokens);
        status.log.clone_from(&report.log);
        if scored && report.score.as_ref().is_some_and(|score| score.value.is_some()) {
            status.score.clone_from(&report.score);
            status.metrics.clone_from(&report.metrics);
            status.unmet = unmet(&benchmark.expect, status.score.as_ref(), &status.metrics);
        }
    }
    let end = end(state, cause, report);
    status.completion_time = Some(Time(state.completed.unwrap_or(now)));
    status.expires_at = None;
    let ended_for = end.reason;
    if ended_for == Reason::Suspended {
        status.phase = BenchmarkPhase::Pending;
        status.next_attempt_at = Some(Time(now).to_second());
        status.reason = Some(ended_for);
        status.message = Some("Ended because spec.suspend is set; it begins anew once that is taken back".into());
        return;
    }
    // Without what the last attempt had finished, another one would ask all of it again, only to bring the result once more.
    let resumes = spec.results.as_ref().is_some_and(|results| results.persistent_volume_claim.is_some());
    let again = end.again && (resumes || status.score.is_none());
    status.failures += i64::from(again && counts(ended_for));
    if again && status.failures <= spec.backoff_limit {
        let wait = wait(status.failures, report.filter(|_| by_itself));
        let at = Time(later(now, wait)).to_second();
        status.phase = BenchmarkPhase::Pending;
        status.next_attempt_at = Some(at);
        status.reason = Some(Reason::BackOff);
        status.message = Some(cut(&format!(
            "Attempt {} failed ({ended_for}): {}; the next one begins at {at}",
            status.attempt, end.message
        )));
        return;
    }
    status.phase = end.phase;
    status.reason = Some(ended_for);
    status.message = Some(cut(&end.message));
    keep_score(status);
}

/// A result that could not be stored is a result, whatever became of the attempts to store it.
fn keep_score(status: &mut BenchmarkStatus) {
    let ended_for = status.reason.filter(|reason| *reason != Reason::ResultsNotStored);
    if status.score.is_none() || status.phase == BenchmarkPhase::Completed {
        return;
    }
    status.phase = BenchmarkPhase::Completed;
    status.reason = Some(Reason::ResultsNotStored);
    if let Some(ended_for) = ended_for {
        let (stands, why) = (Cause::ResultsNotStored.text(), status.message.as_deref().unwrap_or_default());
        status.message = Some(cut(&format!("{stands}; the attempt to store it ended otherwise ({ended_for}): {why}")));
    }
}

fn end(state: &State, cause: Option<Cause>, report: Option<&Report>) -> End {
    let failed = |reason, message: String, again| End { phase: BenchmarkPhase::Failed, reason, message, again };
    if state.phase == Phase::Terminated && state.reason != Reason::PodDeleted {
        let phase = if state.reason == Reason::Skipped { BenchmarkPhase::Skipped } else { BenchmarkPhase::Terminated };
        return End { phase, reason: state.reason, message: state.message.clone(), again: false };
    }
    match (cause, report) {
        (Some(Cause::Succeeded), None) => failed(
            Reason::ResultUnreadable,
            "The runner ended well and left no report that can be read; is the image a runner's?".into(),
            false,
        ),
        (Some(Cause::Succeeded), Some(report)) => {
            match report.score.as_ref().and_then(|score| Some((score, score.value?))) {
                Some((score, value)) => End {
                    phase: BenchmarkPhase::Completed,
                    reason: Reason::Succeeded,
                    message: format!("{} {value}", score.metric),
                    again: false,
                },
                None => failed(Reason::Unscored, Cause::Unscored.text().into(), false),
            }
        }
        (Some(cause), report) => {
            let words = report.map(|report| report.message.as_str()).filter(|words| !words.is_empty());
            let message = words.map_or_else(|| cause.text().to_owned(), |words| format!("{}: {words}", cause.text()));
            failed(cause.reason(), message, cause.may_pass_again())
        }
        (None, _) => failed(state.reason, state.message.clone(), may_pass_again(state.reason)),
    }
}

fn wait(failures: i64, report: Option<&Report>) -> SignedDuration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or_default().min(8);
    let own = SignedDuration::from_secs(BACK_OFF.as_secs() << doublings).min(LONGEST_BACK_OFF);
    let asked = report.and_then(|report| report.retry_after).map(SignedDuration::from_secs);
    asked.map_or(own, |asked| asked.max(own))
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST_MESSAGE).collect()
}
