//! What of a run is audited besides what its steps tell.

use super::super::audit;
use super::super::memory::Remembered;
use super::Task;
use crate::api::Reason;
use crate::resolve::Resolved;
use crate::run::{Resolution, Run, State};

/// One record a change: a run that polls for a missing secret does not fill the log.
pub(super) fn resolution(task: &Task<'_>, resolved: &Resolved, known: &mut Remembered) {
    if task.run.references.is_empty() {
        return;
    }
    let (decision, reason, versions) = match &resolved.resolution {
        Resolution::NotAsked => return,
        Resolution::Ready(versions) if resolved.stale.is_empty() => ("allowed", Reason::Resolved, versions.as_slice()),
        Resolution::Ready(versions) => ("allowed", Reason::ServedStale, versions.as_slice()),
        Resolution::Problems(problems) => {
            // A refusal is what an audit is for, whatever else stands in the way.
            let denied = problems.iter().find(|problem| problem.reason == Reason::AccessDenied);
            let first = denied.or_else(|| problems.iter().find(|problem| !problem.waits)).or(problems.first());
            let reason = first.map_or(Reason::SecretNotFound, |problem| problem.reason);
            (if reason == Reason::AccessDenied { "denied" } else { "unresolved" }, reason, &[][..])
        }
    };
    if known.audited != Some(reason) {
        audit::of_run(task.run, task.submitter, audit::Action::Resolve, decision, reason, versions);
        known.audited = Some(reason);
    }
}

/// The run Secret is proven gone.
pub(in super::super) fn removal(run: &Run, submitter: Option<&str>, state: &State) {
    audit::of_run(run, submitter, audit::Action::Remove, "proven", Reason::Removed, &state.versions);
}
