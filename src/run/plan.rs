//! The state machine: from what is observed to what is to be done next.
//!
//! Every call starts from nothing: no step remembers another. A crash between two steps is a plan made anew.

use jiff::{SignedDuration, Timestamp};

use super::outcome::{Outcome, misses_secret, waits_for};
use super::{Observed, PodSeen, PodView, Problem, Refusal, Resolution, SecretCopy, SecretFact, State};
use crate::api::{Phase, Reason, SecretRemoval};

/// How long a removal may fail before the status says so instead of waiting for the proof.
const PROOF_PATIENCE: SignedDuration = SignedDuration::from_secs(2);
/// How long a Pod may be about to start, or to end, before the status says so.
const SILENCE: SignedDuration = SignedDuration::from_secs(10);
/// How often a waiting run looks again, besides being woken by changes.
const POLL: SignedDuration = SignedDuration::from_secs(5);
/// What a kubelet that is gone gets on top of the grace period before its Pod counts as lost.
const NODE_PATIENCE: SignedDuration = SignedDuration::from_secs(300);
/// What the kubelet gets to end an expired Pod by itself.
const EXPIRY_SLACK: SignedDuration = SignedDuration::from_secs(5);

/// One call to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the run's NetworkPolicy.
    CreateNetworkPolicy,
    /// Ask whether the API server would take the Pod (a dry run).
    TryPod,
    /// Make the run Secret.
    CreateSecret,
    /// Make the Pod.
    CreatePod,
    /// Delete the run Secret and prove that it is gone.
    DeleteSecret,
    /// Delete the Pod with this UID.
    DeletePod {
        /// The Pod's UID.
        uid: String,
        /// Why.
        reason: Reason,
    },
    /// Delete the object itself: its time is over.
    DeleteOwner,
}

/// What to do, what to report, and when to look again.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Calls to make, in this order, up to the first that fails. After them a new plan is made.
    pub steps: Vec<Step>,
    /// Where the run stands.
    pub state: State,
    /// Whether the state is worth a write once no step is left.
    pub write: bool,
    /// When to look again at the latest.
    pub wake: Option<Timestamp>,
}

impl Plan {
    fn act(state: State, steps: Vec<Step>) -> Self {
        Self { steps, state, write: false, wake: None }
    }

    fn rest(state: State, wake: Option<Timestamp>) -> Self {
        Self { steps: Vec::new(), state, write: false, wake }
    }

    fn report(state: State, wake: Option<Timestamp>) -> Self {
        Self { steps: Vec::new(), state, write: true, wake }
    }
}

/// Whether the next plan depends on the secrets: only then are they authorized and resolved.
pub fn wants_secrets(observed: &Observed<'_>, now: Timestamp) -> bool {
    !observed.recorded.phase.is_terminal()
        && observed.guarded
        && matches!(observed.pod, PodSeen::Absent)
        && !observed.recorded.pod
        && observed.facts.pod.is_none()
        && ordered_end(observed).is_none()
        && observed.facts.secret != SecretFact::Foreign
        && match &observed.facts.refusal {
            None => true,
            Some(Refusal::Quota(_, again)) => *again <= now,
            Some(Refusal::Refused(_) | Refusal::NamespaceTerminating) => false,
        }
}

/// Decides what to do next.
pub fn plan(observed: &Observed<'_>, now: Timestamp) -> Plan {
    if observed.recorded.phase.is_terminal() {
        return settled(observed, now);
    }
    let base = base_state(observed);
    match &observed.pod {
        PodSeen::Foreign => finish(
            observed,
            now,
            base,
            Outcome::failed(
                Reason::NameConflict,
                format!(
                    "A Pod {} that is not this run's is in the way; delete it, then start a new run",
                    observed.run.name
                ),
            ),
        ),
        PodSeen::Ours(pod) => with_pod(observed, now, base, pod),
        PodSeen::Absent => match (&observed.facts.pod, observed.recorded.pod) {
            (Some(last), _) => vanished(observed, now, base, Some(last)),
            (None, true) => vanished(observed, now, base, None),
            (None, false) => without_pod(observed, now, base),
        },
    }
}

/// The run is over: what is left is the proof of the removal, and the object's own end.
fn settled(observed: &Observed<'_>, now: Timestamp) -> Plan {
    let mut state = observed.recorded.clone();
    if !state.copy.is_settled() && state.copy != SecretCopy::NotMade {
        return match observed.facts.secret {
            SecretFact::Gone(at) => {
                state.copy = SecretCopy::Gone;
                state.removed = Some(at);
                Plan::report(state, Some(now))
            }
            _ => Plan::act(state, vec![Step::DeleteSecret]),
        };
    }
    let due = observed.run.ttl.zip(state.completed).map(|(ttl, completed)| later(completed, ttl));
    match due {
        Some(due) if due <= now && !observed.run.deleting => Plan::act(state, vec![Step::DeleteOwner]),
        due => Plan::rest(state, due.filter(|due| *due > now)),
    }
}

/// What can be told before anything is decided.
fn base_state(observed: &Observed<'_>) -> State {
    let mut state = observed.recorded.clone();
    let facts = observed.facts;
    if observed.run.references.is_empty() {
        state.copy = SecretCopy::NoSecrets;
    }
    match facts.secret {
        SecretFact::Made(at) => {
            state.copy = SecretCopy::Present;
            state.injected.get_or_insert(at);
        }
        SecretFact::Gone(at) if state.injected.is_some() || state.copy != SecretCopy::NoSecrets => {
            state.copy = SecretCopy::Gone;
            state.removed.get_or_insert(at);
        }
        _ => {}
    }
    if let Some(versions) = &facts.versions {
        state.versions.clone_from(versions);
    }
    if let PodSeen::Ours(pod) = &observed.pod {
        state.pod = true;
        if state.injected.is_none() {
            state.injected = pod.injected;
        }
        if state.versions.is_empty() {
            state.versions = pod.versions.clone().unwrap_or_default();
        }
        if state.copy == SecretCopy::NotMade {
            // The Pod is made after its Secret: it was there, and whether it still is, only a deletion tells.
            state.copy = SecretCopy::Present;
        }
        state.started = state.started.or_else(|| pod.started());
        state.expires = Some(later(pod.created, observed.run.lifetime));
        state.outdated |= observed.newer_version;
        state.waiting_since = None;
        state.denied.clear();
    }
    state
}

/// The end that somebody has asked for.
fn ordered_end(observed: &Observed<'_>) -> Option<Reason> {
    if observed.run.deleting {
        Some(Reason::Deleting)
    } else if !observed.revoked.is_empty() {
        Some(Reason::Revoked)
    } else if observed.run.stop {
        Some(Reason::Stopped)
    } else {
        None
    }
}

fn with_pod(observed: &Observed<'_>, now: Timestamp, state: State, pod: &PodView) -> Plan {
    let run = observed.run;
    // A Pod that is deleted on order ends for the reason of that order, whatever code the program leaves.
    let ordered = observed.facts.ended_for.or_else(|| ordered_end(observed)).or_else(|| overdue(observed, now, pod));
    if pod.has_ended() {
        let outcome = match ordered {
            Some(reason) if pod.deleting.is_some() => {
                Outcome::ordered(reason, run, &ordered_detail(observed, reason, Some(pod)))
            }
            _ => Outcome::of(pod, run),
        };
        return finish(observed, now, state, outcome);
    }
    if let Some(since) = pod.deleting {
        if later(since, run.grace + NODE_PATIENCE) <= now {
            let outcome = Outcome::failed(Reason::PodLost, "The run's node was lost: its Pod does not end");
            return finish(observed, now, state, outcome);
        }
        let reason = ordered.unwrap_or(if pod.disrupted { Reason::Evicted } else { Reason::PodDeleted });
        return ending(observed, now, state, since, reason);
    }
    if let Some(reason) = ordered {
        let mut steps = removal(observed, &state);
        steps.push(Step::DeletePod { uid: pod.uid.clone(), reason });
        return Plan::act(state, steps);
    }
    if pod.has_started() { running(observed, now, state, pod) } else { starting(observed, now, state, pod) }
}

/// The end that time, or a lost Secret, imposes on a Pod.
fn overdue(observed: &Observed<'_>, now: Timestamp, pod: &PodView) -> Option<Reason> {
    let run = observed.run;
    if later(pod.created, run.lifetime + EXPIRY_SLACK) <= now {
        return Some(Reason::DeadlineExceeded);
    }
    if pod.has_started() {
        return None;
    }
    let age = now.duration_since(pod.created);
    if misses_secret(pod, run) && age >= SILENCE {
        return Some(Reason::SecretLost);
    }
    (age >= run.startup_timeout).then_some(match waits_for(pod, run).0 {
        Reason::ImagePullFailed => Reason::ImagePullFailed,
        Reason::Unschedulable => Reason::Unschedulable,
        _ => Reason::StartupTimeout,
    })
}

/// The Pod is being deleted: the Secret goes at once, the end is reported when the Pod has ended or gone.
fn ending(observed: &Observed<'_>, now: Timestamp, mut state: State, since: Timestamp, reason: Reason) -> Plan {
    let steps = removal(observed, &state);
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
    let expires = later(pod.created, run.lifetime + EXPIRY_SLACK);
    if run.removal == SecretRemoval::AfterStart {
        let steps = removal(observed, &state);
        if let (false, Some(since)) = (steps.is_empty(), observed.facts.removal_fails_since) {
            state.copy = SecretCopy::RemovalFailing;
            if later(since, PROOF_PATIENCE) > now {
                return Plan::act(state, steps);
            }
            // The failure is shown once; the removal itself is tried again by every later plan.
            if observed.recorded.copy == SecretCopy::RemovalFailing {
                return Plan::act(state, steps);
            }
        } else if !steps.is_empty() {
            return Plan::act(state, steps);
        }
    }
    state.phase = Phase::Running;
    state.reason = Reason::Started;
    state.message = "The container runs".into();
    let recorded = observed.recorded;
    let changed =
        recorded.phase != Phase::Running || recorded.copy != state.copy || recorded.outdated != state.outdated;
    if changed { Plan::report(state, Some(expires)) } else { Plan::rest(state, Some(expires)) }
}

fn starting(observed: &Observed<'_>, now: Timestamp, mut state: State, pod: &PodView) -> Plan {
    let run = observed.run;
    let (reason, message) = waits_for(pod, run);
    state.phase = Phase::Pending;
    state.reason = reason;
    state.message = message;
    let visible = later(pod.created, SILENCE);
    let deadline = later(pod.created, run.startup_timeout).min(later(pod.created, run.lifetime + EXPIRY_SLACK));
    if now < visible {
        return Plan::rest(state, Some(visible.min(deadline)));
    }
    let changed = observed.recorded.reason != reason || !observed.recorded.pod;
    if changed { Plan::report(state, Some(deadline)) } else { Plan::rest(state, Some(deadline)) }
}

fn vanished(observed: &Observed<'_>, now: Timestamp, state: State, last: Option<&PodView>) -> Plan {
    let outcome = match observed.facts.ended_for.or_else(|| ordered_end(observed)) {
        Some(reason) => Outcome::ordered(reason, observed.run, &ordered_detail(observed, reason, last)),
        None => Outcome::vanished(last),
    };
    finish(observed, now, state, outcome)
}

fn ordered_detail(observed: &Observed<'_>, reason: Reason, last: Option<&PodView>) -> String {
    match reason {
        Reason::Revoked => observed.revoked.join(", "),
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

fn without_pod(observed: &Observed<'_>, now: Timestamp, mut state: State) -> Plan {
    let run = observed.run;
    if let Some(reason) = ordered_end(observed) {
        return finish(observed, now, state, Outcome::ordered(reason, run, &observed.revoked.join(", ")));
    }
    if observed.facts.secret == SecretFact::Foreign {
        return finish(
            observed,
            now,
            state,
            Outcome::failed(
                Reason::NameConflict,
                format!("A Secret {} that is not this run's is in the way; delete it, then start a new run", run.name),
            ),
        );
    }
    match &observed.facts.refusal {
        Some(Refusal::Refused(message)) => {
            return finish(observed, now, state, Outcome::failed(Reason::PodRefused, message.clone()));
        }
        Some(Refusal::NamespaceTerminating) => {
            let outcome = Outcome::failed(Reason::NamespaceTerminating, "The namespace is being deleted");
            return finish(observed, now, state, outcome);
        }
        Some(Refusal::Quota(message, again)) if *again > now => {
            // No Secret is held while a quota keeps the Pod out.
            let steps = removal(observed, &state);
            if !steps.is_empty() {
                return Plan::act(state, steps);
            }
            return wait(observed, state, Reason::QuotaExceeded, message.clone(), *again);
        }
        Some(Refusal::Quota(..)) | None => {}
    }
    if !observed.guarded {
        let message = "The operator creates nothing until the admission policies are proven in force";
        return wait(observed, state, Reason::OperatorNotReady, message.into(), later(now, POLL));
    }
    match &observed.secrets {
        // A controller asks whenever `wants_secrets` says so; until it has, there is nothing to do.
        Resolution::NotAsked => Plan::rest(state, Some(now)),
        Resolution::Problems(problems) => problems_found(observed, now, state, problems),
        Resolution::Ready(_) => {
            state.waiting_since = None;
            Plan::act(state, creation(observed))
        }
    }
}

/// The order is strict: a Pod is never made before its Secret is acknowledged.
fn creation(observed: &Observed<'_>) -> Vec<Step> {
    let run = observed.run;
    let mut steps = Vec::new();
    if matches!(observed.facts.refusal, Some(Refusal::Quota(..))) {
        steps.push(Step::TryPod);
    }
    if run.network && !observed.facts.network_made {
        steps.push(Step::CreateNetworkPolicy);
    }
    if !run.references.is_empty() && !matches!(observed.facts.secret, SecretFact::Made(_)) {
        steps.push(Step::CreateSecret);
    }
    steps.push(Step::CreatePod);
    steps
}

fn problems_found(observed: &Observed<'_>, now: Timestamp, mut state: State, problems: &[Problem]) -> Plan {
    let run = observed.run;
    state.denied = problems.iter().filter(|p| p.reason == Reason::AccessDenied).filter_map(|p| p.reference).collect();
    let message = problems.iter().map(|p| p.message.as_str()).collect::<Vec<_>>().join("; ");
    if let Some(problem) = problems.iter().find(|problem| !problem.waits) {
        return finish(observed, now, state, Outcome::failed(problem.reason, message));
    }
    let Some(first) = problems.first() else { return Plan::rest(state, Some(now)) };
    let since = *state.waiting_since.get_or_insert(now);
    let deadline = later(since, run.secrets_timeout);
    if deadline <= now {
        let message = format!("{message}; waited {} s (spec.secretsTimeoutSeconds)", run.secrets_timeout.as_secs());
        return finish(observed, now, state, Outcome::failed(first.reason, message));
    }
    // A run that waits holds no copy; one may be left from before a restart.
    let steps = removal(observed, &state);
    if !steps.is_empty() {
        return Plan::act(state, steps);
    }
    wait(observed, state, first.reason, message, deadline.min(later(now, POLL)))
}

fn wait(observed: &Observed<'_>, mut state: State, reason: Reason, message: String, wake: Timestamp) -> Plan {
    state.phase = Phase::Pending;
    let changed = observed.recorded.reason != reason;
    state.reason = reason;
    state.message = message;
    if observed.facts.secret != SecretFact::Unknown && state.copy == SecretCopy::Gone {
        // Nothing was handed to anybody: the copy that went was never read.
        state.copy = SecretCopy::NotMade;
        state.injected = None;
        state.removed = None;
    }
    Plan { steps: Vec::new(), state, write: changed, wake: Some(wake) }
}

/// The run is over: first the Secret goes, then the end is reported, with the proof.
fn finish(observed: &Observed<'_>, now: Timestamp, mut state: State, outcome: Outcome) -> Plan {
    let steps = removal(observed, &state);
    if !steps.is_empty() {
        match observed.facts.removal_fails_since {
            Some(since) if later(since, PROOF_PATIENCE) <= now => state.copy = SecretCopy::RemovalFailing,
            _ => return Plan::act(state, steps),
        }
    }
    if observed.run.deleting {
        // Nobody reads the status of an object that is going away.
        return Plan::rest(state, None);
    }
    let finished = match &observed.pod {
        PodSeen::Ours(pod) => pod.finished(),
        _ => None,
    };
    state.phase = outcome.phase;
    state.reason = outcome.reason;
    state.message = outcome.message;
    state.exit_code = outcome.exit_code;
    state.completed = Some(finished.unwrap_or(now));
    state.expires = None;
    Plan::report(state, Some(now))
}

/// The deletion of the run Secret, unless none can be there.
fn removal(observed: &Observed<'_>, state: &State) -> Vec<Step> {
    let none = observed.run.references.is_empty()
        || observed.recorded.copy == SecretCopy::Gone && !matches!(observed.facts.secret, SecretFact::Made(_))
        || matches!(observed.facts.secret, SecretFact::NotMade | SecretFact::Gone(_) | SecretFact::Foreign)
        || state.copy == SecretCopy::NoSecrets;
    if none { Vec::new() } else { vec![Step::DeleteSecret] }
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}
