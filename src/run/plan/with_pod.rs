//! While the Pod is there, and when it has gone: start, run, end on order, end.

use jiff::Timestamp;

use super::{
    DueRemoval, EXPIRY_SLACK, LONGEST_MESSAGE, NODE_PATIENCE, POLL, Plan, QUEUE_POLL, SILENCE, Step, due_removal,
    end_pod, finish, later, ordered_end, removal,
};
use crate::api::{Phase, Reason, SecretRemoval};
use crate::run::outcome::{Outcome, cut, misses_secret, waits_for};
use crate::run::{GATE, Observed, PodView, Resolution, SecretFact, State};

/// Decides for a run whose Pod is there.
pub(super) fn with_pod(observed: &Observed<'_>, now: Timestamp, state: State, pod: &PodView) -> Plan {
    let run = observed.run;
    // A Pod that is deleted on order ends for the reason of that order, whatever code the program leaves.
    let ordered = order(observed).or_else(|| overdue(observed, now, pod));
    if pod.has_ended() {
        let outcome = match ordered {
            Some(reason) if !pod.ended_by_itself() => {
                Outcome::ordered(reason, run, &ordered_detail(observed, reason, Some(pod)))
            }
            _ => Outcome::of(pod, run),
        };
        return finish(observed, now, state, outcome);
    }
    if let Some(since) = pod.deleting {
        if later(since, run.grace + NODE_PATIENCE) <= now {
            let lost = Outcome::failed(Reason::PodLost, "The run's node was lost: its Pod does not end");
            // A node that is lost is drained too, and can confirm nothing.
            return finish(observed, now, state, if pod.disrupted { Outcome::evicted() } else { lost });
        }
        let reason = ordered.unwrap_or(if pod.disrupted { Reason::Evicted } else { Reason::PodDeleted });
        return ending(observed, now, state, since, reason);
    }
    if let Some(reason) = ordered {
        let removal = removal(observed, now, &state).steps();
        if observed.facts.ended_for.is_none() {
            return Plan::act(state, end_pod(observed, removal, pod, reason));
        }
        // The API server has acknowledged its deletion: the watch is late.
        return if removal.is_empty() { Plan::rest(state, Some(later(now, POLL))) } else { Plan::act(state, removal) };
    }
    if !pod.gates.is_empty() {
        return gated(observed, now, state, pod);
    }
    if has_started(observed, pod) { running(observed, now, state, pod) } else { starting(observed, now, state, pod) }
}

/// Whether all containers have started. A node that falls silent later takes nothing of that back.
fn has_started(observed: &Observed<'_>, pod: &PodView) -> bool {
    pod.has_started() || observed.recorded.phase == Phase::Running
}

/// Why the run's Pod was, or is to be, deleted by this operator: known to this process, told by the status, or asked for.
fn order(observed: &Observed<'_>) -> Option<Reason> {
    let recorded = observed.recorded;
    let told = (recorded.phase == Phase::Terminating).then_some(recorded.reason);
    observed
        .facts
        .ended_for
        .or_else(|| told.filter(|reason| !matches!(reason, Reason::PodDeleted | Reason::Evicted)))
        .or_else(|| ordered_end(observed))
}

/// The end that time, or a lost Secret, imposes on a Pod; on one that is being deleted, when that was asked for.
fn overdue(observed: &Observed<'_>, now: Timestamp, pod: &PodView) -> Option<Reason> {
    let now = pod.deleting.map_or(now, |asked| asked.min(now));
    let run = observed.run;
    let since = since(observed, pod)?;
    if later(since, run.lifetime + EXPIRY_SLACK) <= now {
        return Some(Reason::DeadlineExceeded);
    }
    if has_started(observed, pod) {
        return None;
    }
    let age = now.duration_since(since);
    if misses_secret(pod, run) && age >= SILENCE {
        return Some(Reason::SecretLost);
    }
    (age >= run.startup_timeout).then_some(match waits_for(pod, run).0 {
        Reason::ImagePullFailed => Reason::ImagePullFailed,
        Reason::Unschedulable => Reason::Unschedulable,
        _ => Reason::StartupTimeout,
    })
}

/// From when the run's times count: what a Pod spends in its queue is not its own. None while it stands there.
pub(super) fn since(observed: &Observed<'_>, pod: &PodView) -> Option<Timestamp> {
    if !pod.gates.is_empty() {
        return None;
    }
    if !observed.run.gated {
        return Some(pod.created);
    }
    let made = match observed.facts.secret {
        SecretFact::Made(at) => Some(at),
        _ => observed.recorded.injected,
    };
    pod.scheduled.or(made).or(Some(pod.created))
}

/// The Pod stands in its queue, without a Secret; or it has passed it, and gets one.
fn gated(observed: &Observed<'_>, now: Timestamp, mut state: State, pod: &PodView) -> Plan {
    state.phase = Phase::Pending;
    let wait = |mut state: State, reason, message: &str, wake| {
        state.reason = reason;
        state.message = cut(message, LONGEST_MESSAGE);
        let recorded = observed.recorded;
        if recorded.reason == reason && recorded.pod && recorded.waiting_since == state.waiting_since {
            Plan::rest(state, Some(wake))
        } else {
            Plan::report(state, Some(wake))
        }
    };
    if pod.gates != [GATE] {
        return wait(state, Reason::Queued, "The Pod waits for its queue, without a secret", later(now, QUEUE_POLL));
    }
    if !observed.guarded {
        let message = "The operator hands out nothing until the admission policies are proven in force";
        return wait(state, Reason::OperatorNotReady, message, later(now, POLL));
    }
    if matches!(observed.facts.secret, SecretFact::Made(_)) {
        return Plan::act(state, vec![Step::LiftGate]);
    }
    match &observed.secrets {
        Resolution::NotAsked => Plan::rest(state, Some(now)),
        Resolution::Ready(_) => {
            state.waiting_since = None;
            Plan::act(state, vec![Step::CreateSecret, Step::LiftGate])
        }
        Resolution::Problems(problems) => {
            let since = *state.waiting_since.get_or_insert(now);
            let late = later(since, observed.run.secrets_timeout) <= now;
            let problem = problems.iter().find(|problem| problem.ends(observed.run) || late).or(problems.first());
            let Some(problem) = problem else { return Plan::rest(state, Some(later(now, POLL))) };
            if !problem.ends(observed.run) && !late {
                return wait(state, problem.reason, &problem.message, later(now, POLL));
            }
            Plan::act(state, end_pod(observed, Vec::new(), pod, problem.reason))
        }
    }
}

/// The Pod is being deleted: the Secret goes at once, the end is reported when the Pod has ended or gone.
fn ending(observed: &Observed<'_>, now: Timestamp, mut state: State, since: Timestamp, reason: Reason) -> Plan {
    let steps = removal(observed, now, &state).steps();
    if !steps.is_empty() {
        return Plan::act(state, steps);
    }
    let visible = later(since, SILENCE);
    let lost = later(since, observed.run.grace + NODE_PATIENCE);
    state.phase = Phase::Terminating;
    state.reason = reason;
    state.message = "The Pod is being ended".into();
    let write = visible <= now && observed.recorded.phase != Phase::Terminating && !observed.run.deleting;
    Plan { steps: Vec::new(), state, write, wake: Some(if visible > now { visible } else { lost }) }
}

fn running(observed: &Observed<'_>, now: Timestamp, mut state: State, pod: &PodView) -> Plan {
    let run = observed.run;
    let expires = later(since(observed, pod).unwrap_or(pod.created), run.lifetime + EXPIRY_SLACK);
    let recorded = observed.recorded;
    let mut wake = expires;
    if run.removal == SecretRemoval::AfterStart {
        match due_removal(observed, now, &mut state) {
            DueRemoval::Act(steps) => return Plan::act(state, steps),
            DueRemoval::Tell => wake = now,
            DueRemoval::Done => {}
        }
    }
    state.phase = Phase::Running;
    state.reason = Reason::Started;
    state.message = "The container runs".into();
    let changed = recorded.phase != Phase::Running
        || recorded.copy != state.copy
        || recorded.outdated != state.outdated
        || recorded.expires.is_some_and(|told| state.expires.is_some_and(|expires| expires < told));
    if changed { Plan::report(state, Some(wake)) } else { Plan::rest(state, Some(wake)) }
}

fn starting(observed: &Observed<'_>, now: Timestamp, mut state: State, pod: &PodView) -> Plan {
    let run = observed.run;
    let (reason, message) = waits_for(pod, run);
    state.phase = Phase::Pending;
    state.reason = reason;
    state.message = message;
    let visible = later(pod.created, SILENCE);
    let since = since(observed, pod).unwrap_or(pod.created);
    let deadline = later(since, run.startup_timeout).min(later(since, run.lifetime + EXPIRY_SLACK));
    if now < visible {
        return Plan::rest(state, Some(visible.min(deadline)));
    }
    let changed = observed.recorded.reason != reason || !observed.recorded.pod;
    if changed { Plan::report(state, Some(deadline)) } else { Plan::rest(state, Some(deadline)) }
}

/// Decides for a run whose Pod is gone. `last` is what was last seen of it.
pub(super) fn vanished(observed: &Observed<'_>, now: Timestamp, state: State, last: Option<&PodView>) -> Plan {
    let recorded = observed.recorded;
    // The deletion that was due may have been done by a call whose answer was lost.
    let order = order(observed).or_else(|| last.and_then(|pod| overdue(observed, now, pod)));
    let outcome = match (order, last) {
        (_, Some(pod)) if pod.ended_by_itself() => Outcome::of(pod, observed.run),
        (Some(reason), _) => Outcome::ordered(reason, observed.run, &ordered_detail(observed, reason, last)),
        (None, None) if recorded.phase == Phase::Terminating && recorded.reason == Reason::Evicted => {
            Outcome::evicted()
        }
        (None, None) if recorded.phase == Phase::Terminating => Outcome::deleted(),
        (None, _) => Outcome::vanished(last),
    };
    finish(observed, now, state, outcome)
}

fn ordered_detail(observed: &Observed<'_>, reason: Reason, last: Option<&PodView>) -> String {
    match reason {
        Reason::Revoked if observed.revoked.is_empty() => "a secret".into(),
        Reason::Revoked => observed.revoked.join(", "),
        Reason::AccessDenied
        | Reason::SecretNotFound
        | Reason::SecretFieldNotFound
        | Reason::SecretMalformed
        | Reason::StoreNotFound
        | Reason::StoreUnavailable
        | Reason::StoreThrottled
        | Reason::KeyLost => "A secret could not be had when the Pod had passed its queue".into(),
        _ => match last {
            Some(pod) => format!(
                "The container did not start within {} s (spec.startupTimeoutSeconds): {}",
                observed.run.startup_timeout.as_secs(),
                waits_for(pod, observed.run).1
            ),
            None => "The container did not start in time (spec.startupTimeoutSeconds)".into(),
        },
    }
}
