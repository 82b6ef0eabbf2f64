//! Before the Pod: everything that a run needs is there, or waited for, or refused.

use jiff::Timestamp;

use super::{DueRemoval, LONGEST_MESSAGE, POLL, Plan, Step, awaits_queue, due_removal, finish, later, ordered_end};
use crate::api::{Phase, Reason};
use crate::run::outcome::{Outcome, cut};
use crate::run::{Observed, Problem, Refusal, Resolution, SecretCopy, SecretFact, State};

/// Decides for a run that has no Pod and never had one.
pub(super) fn without_pod(observed: &Observed<'_>, now: Timestamp, mut state: State) -> Plan {
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
            // The secrets were all there: should one go missing, its waiting begins anew.
            state.waiting_since = None;
            return wait(observed, now, state, Reason::QuotaExceeded, message, *again);
        }
        Some(Refusal::Quota(..)) | None => {}
    }
    if !observed.guarded {
        let message = "The operator creates nothing until the admission policies are proven in force";
        return wait(observed, now, state, Reason::OperatorNotReady, message, later(now, POLL));
    }
    match &observed.secrets {
        Resolution::NotAsked if awaits_queue(run) => Plan::act(state, creation(observed)),
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
    if matches!(observed.facts.refusal, Some(Refusal::Quota(..))) || observed.recorded.reason == Reason::QuotaExceeded {
        steps.push(Step::TryPod);
    }
    if run.network && !observed.facts.network_made {
        steps.push(Step::CreateNetworkPolicy);
    }
    if !run.references.is_empty() && !awaits_queue(run) && !matches!(observed.facts.secret, SecretFact::Made(_)) {
        steps.push(Step::CreateSecret);
    }
    steps.push(Step::CreatePod);
    steps
}

fn problems_found(observed: &Observed<'_>, now: Timestamp, mut state: State, problems: &[Problem]) -> Plan {
    let run = observed.run;
    state.denied = problems.iter().filter(|p| p.reason == Reason::AccessDenied).filter_map(|p| p.reference).collect();
    let message = problems.iter().map(|p| p.message.as_str()).collect::<Vec<_>>().join("; ");
    if let Some(problem) = problems.iter().find(|problem| problem.ends(run)) {
        return finish(observed, now, state, Outcome::failed(problem.reason, message));
    }
    let Some(first) = problems.first() else { return Plan::rest(state, Some(later(now, POLL))) };
    let since = *state.waiting_since.get_or_insert(now);
    let deadline = later(since, run.secrets_timeout);
    if deadline <= now {
        let message = format!("{message}; waited {} s (spec.secretsTimeoutSeconds)", run.secrets_timeout.as_secs());
        return finish(observed, now, state, Outcome::failed(first.reason, message));
    }
    wait(observed, now, state, first.reason, &message, deadline.min(later(now, POLL)))
}

/// A run that waits holds no copy; one may be left from before a restart, or from before a refusal.
fn wait(
    observed: &Observed<'_>,
    now: Timestamp,
    mut state: State,
    reason: Reason,
    message: &str,
    wake: Timestamp,
) -> Plan {
    let recorded = observed.recorded;
    let mut wake = wake;
    match due_removal(observed, now, &mut state) {
        DueRemoval::Act(steps) => return Plan::act(state, steps),
        DueRemoval::Tell => wake = now,
        DueRemoval::Done => {}
    }
    if state.copy == SecretCopy::Gone {
        // Nothing was handed to anybody: the copy that went was never read.
        state.copy = SecretCopy::NotMade;
        state.injected = None;
        state.removed = None;
        state.versions.clear();
    }
    state.phase = Phase::Pending;
    state.reason = reason;
    state.message = cut(message, LONGEST_MESSAGE);
    let write = recorded.reason != reason || recorded.copy != state.copy && state.copy != SecretCopy::NoSecrets;
    Plan { steps: Vec::new(), state, write, wake: Some(wake) }
}
