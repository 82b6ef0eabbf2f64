//! The state machine: from what is observed to what is to be done next.
//!
//! Every call starts from nothing: no step remembers another. A crash between two steps is a plan made anew.

mod with_pod;
mod without_pod;

use jiff::{SignedDuration, Timestamp};

use super::outcome::{Outcome, cut};
use super::{GATE, Observed, PodSeen, PodView, Refusal, Run, SecretCopy, SecretFact, State};
use crate::api::Reason;
use with_pod::{since, vanished, with_pod};
use without_pod::without_pod;

/// How long a removal may fail before the status says so instead of waiting for the proof.
const PROOF_PATIENCE: SignedDuration = SignedDuration::from_secs(2);
/// How long a Pod may be about to start, or to end, before the status says so.
const SILENCE: SignedDuration = SignedDuration::from_secs(10);
/// How often a waiting run looks again, besides being woken by changes.
const POLL: SignedDuration = SignedDuration::from_secs(5);
/// How often a run in a queue looks again, besides being woken by changes.
const QUEUE_POLL: SignedDuration = SignedDuration::from_secs(300);
/// What a kubelet that is gone gets on top of the grace period before its Pod counts as lost.
const NODE_PATIENCE: SignedDuration = SignedDuration::from_secs(300);
/// What the kubelet gets to end an expired Pod by itself.
const EXPIRY_SLACK: SignedDuration = SignedDuration::from_secs(5);
/// The longest message, in characters: the API server takes twice as many, and refuses the whole status past that.
const LONGEST_MESSAGE: usize = 16_384;

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
    /// Let the Pod be scheduled: its Secret is there.
    LiftGate,
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
        && lacks_secrets(observed)
        && ordered_end(observed).is_none()
        && observed.facts.secret != SecretFact::Foreign
        && match &observed.facts.refusal {
            None => true,
            Some(Refusal::Quota(_, again)) => *again <= now,
            Some(Refusal::Refused(_) | Refusal::NamespaceTerminating) => false,
        }
}

/// Whether the run is at the point where its secrets are handed over: before its Pod is made, or where the Pod has
/// passed its queue.
fn lacks_secrets(observed: &Observed<'_>) -> bool {
    match &observed.pod {
        PodSeen::Absent => !awaits_queue(observed.run) && !observed.recorded.pod && observed.facts.pod.is_none(),
        PodSeen::Ours(pod) => pod.deleting.is_none() && !pod.has_ended() && pod.gates == [GATE],
        PodSeen::Foreign => false,
    }
}

/// Whether the run's Pod stands before its Secret.
fn awaits_queue(run: &Run) -> bool {
    run.gated && !run.references.is_empty()
}

/// Decides what to do next.
pub fn plan(observed: &Observed<'_>, now: Timestamp) -> Plan {
    if observed.recorded.phase.is_terminal() {
        return settled(observed, now);
    }
    let base = base_state(observed, now);
    match &observed.pod {
        PodSeen::Foreign => {
            let message = format!(
                "A Pod {} that is not this run's is in the way; delete it, then start a new run",
                observed.run.name
            );
            finish(observed, now, base, Outcome::failed(Reason::NameConflict, message))
        }
        PodSeen::Ours(pod) => with_pod(observed, now, base, pod),
        PodSeen::Absent => match (&observed.facts.pod, observed.recorded.pod) {
            (Some(last), _) => vanished(observed, now, base, Some(last)),
            (None, true) => vanished(observed, now, base, None),
            (None, false) => without_pod(observed, now, base),
        },
    }
}

/// The run is over: what is left is the proof of the removal, a Pod that came too late, and the object's own end.
fn settled(observed: &Observed<'_>, now: Timestamp) -> Plan {
    let mut state = observed.recorded.clone();
    let unproven = matches!(state.copy, SecretCopy::Present | SecretCopy::RemovalFailing);
    if let (true, Some(at)) = (unproven, proven_gone(observed, now)) {
        state.copy = SecretCopy::Gone;
        state.removed = Some(at);
        return Plan::report(state, Some(now));
    }
    let removal = if unproven { vec![Step::DeleteSecret] } else { Vec::new() };
    if let PodSeen::Ours(pod) = &observed.pod
        && !pod.has_ended()
        && pod.deleting.is_none()
        && observed.facts.ended_for.is_none()
    {
        // Its create had counted as failed, or the cache that was asked did not show it yet.
        let reason = state.reason;
        return Plan::act(state, end_pod(observed, removal, pod, reason));
    }
    if !removal.is_empty() {
        return Plan::act(state, removal);
    }
    let due = observed.run.ttl.zip(state.completed).map(|(ttl, completed)| later(completed, ttl));
    match due {
        Some(due) if due <= now && !observed.run.deleting => Plan::act(state, vec![Step::DeleteOwner]),
        due => Plan::rest(state, due.filter(|due| *due > now)),
    }
}

/// What can be told before anything is decided.
fn base_state(observed: &Observed<'_>, now: Timestamp) -> State {
    let mut state = observed.recorded.clone();
    let facts = observed.facts;
    if observed.run.references.is_empty() {
        state.copy = SecretCopy::NoSecrets;
    }
    if let SecretFact::Made(at) = facts.secret {
        state.copy = SecretCopy::Present;
        state.injected.get_or_insert(at);
    }
    if let Some(versions) = &facts.versions {
        state.versions.clone_from(versions);
        state.stale |= facts.stale;
    }
    if let Some(pod) = pod_last_seen(observed) {
        state.pod = true;
        if state.injected.is_none() {
            state.injected = pod.injected;
        }
        if state.versions.is_empty() {
            state.versions = pod.versions.clone().unwrap_or_default();
        }
        if state.copy == SecretCopy::NotMade && !pod.gates.iter().any(|gate| gate == GATE) {
            // The Pod is made after its Secret: it was there, and whether it still is, only a deletion tells.
            state.copy = SecretCopy::Present;
        }
        state.started = state.started.or_else(|| pod.started());
        state.expires = since(observed, pod).map(|since| later(since, observed.run.lifetime));
        state.outdated |= observed.newer_version;
        // Behind its gate the run still waits for its secrets.
        if !pod.gates.iter().any(|gate| gate == GATE) {
            state.waiting_since = None;
            state.denied.clear();
        }
    }
    // What never was cannot be gone: a foreign Secret proves nothing of one that was not made.
    let foreign = facts.secret == SecretFact::Foreign;
    if let Some(at) = proven_gone(observed, now)
        && state.copy != SecretCopy::NoSecrets
        && !(foreign && state.copy == SecretCopy::NotMade)
    {
        state.copy = SecretCopy::Gone;
        state.removed.get_or_insert(at);
    }
    state
}

/// Since when, at the latest, the run Secret is known to be gone. Ours is not there while a foreign one bears its name.
fn proven_gone(observed: &Observed<'_>, now: Timestamp) -> Option<Timestamp> {
    match observed.facts.secret {
        SecretFact::Gone(at) => Some(at),
        SecretFact::Foreign => Some(now),
        SecretFact::Unknown | SecretFact::NotMade | SecretFact::Made(_) => None,
    }
}

/// The Pod, or what was last seen of it.
fn pod_last_seen<'a>(observed: &'a Observed<'_>) -> Option<&'a PodView> {
    match &observed.pod {
        PodSeen::Ours(pod) => Some(pod),
        PodSeen::Absent => observed.facts.pod.as_ref(),
        PodSeen::Foreign => None,
    }
}

/// The end that somebody has asked for.
fn ordered_end(observed: &Observed<'_>) -> Option<Reason> {
    if observed.run.deleting {
        Some(Reason::Deleting)
    } else if !observed.revoked.is_empty() {
        Some(Reason::Revoked)
    } else {
        observed.run.ends
    }
}

/// The run is over: first the Secret goes, then the end is reported, with the proof.
fn finish(observed: &Observed<'_>, now: Timestamp, mut state: State, outcome: Outcome) -> Plan {
    match removal(observed, now, &state) {
        Removal::Done => {}
        Removal::Try(steps) => return Plan::act(state, steps),
        // Without a status to tell it in, all that is left is to go on trying.
        Removal::Overdue(steps) if observed.run.deleting => return Plan::act(state, steps),
        Removal::Overdue(_) => state.copy = SecretCopy::RemovalFailing,
    }
    if observed.run.deleting {
        // Nobody reads the status of an object that is going away.
        return Plan::rest(state, None);
    }
    let Outcome { phase, reason, message, exit_code } = outcome;
    state.phase = phase;
    state.reason = reason;
    state.message = cut(&message, LONGEST_MESSAGE);
    state.exit_code = exit_code;
    state.completed = Some(pod_last_seen(observed).and_then(PodView::finished).unwrap_or(now));
    state.expires = None;
    Plan::report(state, Some(now))
}

/// What is left to do about a run Secret that is due to go.
enum Removal {
    /// Nothing: none was made, or it is proven gone.
    Done,
    /// Delete it.
    Try(Vec<Step>),
    /// Delete it, and say that this fails.
    Overdue(Vec<Step>),
}

impl Removal {
    fn steps(self) -> Vec<Step> {
        match self {
            Self::Done => Vec::new(),
            Self::Try(steps) | Self::Overdue(steps) => steps,
        }
    }
}

fn removal(observed: &Observed<'_>, now: Timestamp, state: &State) -> Removal {
    let facts = observed.facts;
    let none = state.copy == SecretCopy::NoSecrets
        || observed.recorded.copy == SecretCopy::Gone && !matches!(facts.secret, SecretFact::Made(_))
        || matches!(facts.secret, SecretFact::NotMade | SecretFact::Gone(_) | SecretFact::Foreign);
    let steps = vec![Step::DeleteSecret];
    match facts.removal_fails_since {
        _ if none => Removal::Done,
        Some(since) if later(since, PROOF_PATIENCE) <= now => Removal::Overdue(steps),
        _ => Removal::Try(steps),
    }
}

/// What a run that goes on does about a run Secret that is due to go.
enum DueRemoval {
    /// Nothing: none is left.
    Done,
    /// Delete it before anything else.
    Act(Vec<Step>),
    /// Say that its removal fails, and try again at once.
    Tell,
}

/// A removal that fails is told once; every later plan tries again.
fn due_removal(observed: &Observed<'_>, now: Timestamp, state: &mut State) -> DueRemoval {
    match removal(observed, now, state) {
        Removal::Done => DueRemoval::Done,
        Removal::Try(steps) => DueRemoval::Act(steps),
        Removal::Overdue(steps) if observed.recorded.copy == SecretCopy::RemovalFailing => DueRemoval::Act(steps),
        Removal::Overdue(_) => {
            state.copy = SecretCopy::RemovalFailing;
            DueRemoval::Tell
        }
    }
}

/// The Secret goes first, unless its removal fails: that must not keep the program alive.
fn end_pod(observed: &Observed<'_>, removal: Vec<Step>, pod: &PodView, reason: Reason) -> Vec<Step> {
    let mut steps = removal;
    let place = if observed.facts.removal_fails_since.is_some() { 0 } else { steps.len() };
    steps.insert(place, Step::DeletePod { uid: pod.uid.clone(), reason });
    steps
}

fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}
