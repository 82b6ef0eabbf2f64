//! Writes the status, and tells events and metrics.

use kube::{Api, Resource, ResourceExt};

use super::super::Context;
use super::super::memory::Remembered;
use super::{Error, convert};
use crate::api::{Phase, Reason, Sandbox};
use crate::kube_ext::{CallError, patch_status};
use crate::run::{Run, SecretFact, State};

/// Fields that a later state may be without.
const OPTIONAL: [&str; 9] = [
    "podName",
    "startTime",
    "completionTime",
    "expiresAt",
    "exitCode",
    "secrets",
    "secretInjectedAt",
    "secretRemovedAt",
    "secretExposureMilliseconds",
];

pub(super) async fn write(
    sandbox: &Sandbox,
    run: &Run,
    ctx: &Context,
    known: &mut Remembered,
    state: &State,
) -> Result<(), Error> {
    let old = sandbox.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
    let old = known.conditions.clone().unwrap_or(old);
    let status = convert::status_of(run, state, &old, sandbox.metadata.generation, ctx.clock.now());
    let watched = sandbox.resource_version().unwrap_or_default();
    let sandboxes = Api::<Sandbox>::namespaced(ctx.client.clone(), &run.namespace);
    let what = "write the Sandbox's status";
    let version = known.version_to_write(&watched);
    match patch_status(what, &sandboxes, &run.owner_name, &status, &OPTIONAL, Some(version)).await? {
        Ok(answer) => {
            known.written = Some((watched, answer.resource_version().unwrap_or_default()));
            known.conditions = Some(status.conditions);
        }
        Err(answer) if answer.code == 409 => return Err(Error::StatusConflict),
        // Gone: whatever is left is cleaned up by its deletion.
        Err(answer) if answer.code == 404 => {}
        Err(answer) => return Err(CallError::Api { what, code: answer.code, reason: answer.reason }.into()),
    }
    let was_terminal = known.reported.as_ref().is_some_and(|old| old.phase.is_terminal());
    if state.phase.is_terminal() && !was_terminal {
        ctx.metrics.run_ended("Sandbox", state.phase);
        if known.facts.secret == SecretFact::NotMade || state.phase != Phase::Completed {
            tracing::info!(
                namespace = run.namespace, name = run.owner_name, phase = ?state.phase, reason = state.reason.as_str(), "run ended"
            );
        }
    }
    let changed = known.reported.as_ref().is_none_or(|old| old.reason != state.reason);
    known.reported = Some(state.clone());
    if changed {
        ctx.event(&sandbox.object_ref(&()), is_trouble(state), state.reason, &state.message).await;
    }
    Ok(())
}

/// Whether people should hear of it unasked.
fn is_trouble(state: &State) -> bool {
    match state.phase {
        Phase::Completed | Phase::Running => false,
        Phase::Failed => true,
        Phase::Terminated => state.reason == Reason::Revoked,
        Phase::Pending | Phase::Terminating => {
            !matches!(state.reason, Reason::Starting | Reason::WaitingForController | Reason::Stopped)
        }
    }
}
