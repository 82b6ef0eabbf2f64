//! Writes the status, and tells events, audit and metrics.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use super::super::memory::Remembered;
use super::super::{Context, audit};
use super::{Error, convert};
use crate::api::{Phase, Reason, SUBMITTED_BY, Sandbox};
use crate::kube_ext::{CallError, call};
use crate::resolve::Resolved;
use crate::run::{Resolution, Run, SecretFact, State};

/// Fields that a later state may be without: a merge patch takes them away only when told to.
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
    let mut body = json!(status);
    for field in OPTIONAL {
        if let Value::Object(map) = &mut body {
            map.entry(field).or_insert(Value::Null);
        }
    }
    // Another object under the same name, made anew, must not get this run's end.
    let watched = sandbox.resource_version().unwrap_or_default();
    let version = match &known.written {
        Some((seen, written)) if *seen == watched => written.clone(),
        _ => watched.clone(),
    };
    let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version}, "status": body}));
    let sandboxes = Api::<Sandbox>::namespaced(ctx.client.clone(), &run.namespace);
    let what = "write the Sandbox's status";
    let parameters = PatchParams { field_manager: Some("daypass".into()), ..PatchParams::default() };
    match call(what, sandboxes.patch_status(&run.owner_name, &parameters, &patch)).await? {
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
        ctx.event(&reference(sandbox), is_trouble(state), state.reason, &state.message).await;
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

pub(super) fn reference(sandbox: &Sandbox) -> ObjectReference {
    sandbox.object_ref(&())
}

fn submitter(sandbox: &Sandbox) -> Option<&str> {
    sandbox.annotations().get(SUBMITTED_BY).map(String::as_str)
}

/// One record a change: a run that polls for a missing secret does not fill the log.
pub(super) fn audit_resolution(sandbox: &Sandbox, run: &Run, resolved: &Resolved, known: &mut Remembered) {
    if run.references.is_empty() {
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
        audit::of_run(run, submitter(sandbox), audit::Action::Resolve, decision, reason, versions);
        known.audited = Some(reason);
    }
}

pub(super) fn audit_removal(sandbox: &Sandbox, run: &Run, state: &State) {
    audit::of_run(run, submitter(sandbox), audit::Action::Remove, "proven", Reason::Removed, &state.versions);
}
