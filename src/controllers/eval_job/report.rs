//! Writes the status, and tells events.

use kube::{Api, Resource, ResourceExt};

use super::super::Context;
use super::super::memory::Remembered;
use super::super::runs::Error;
use crate::api::{EvalJob, EvalJobStatus, EvaluationPhase, Reason};
use crate::kube_ext::{CallError, patch_status};

/// Fields that a later status may be without.
const OPTIONAL: [&str; 12] = [
    "benchmarks",
    "progress",
    "headline",
    "samples",
    "tokens",
    "catalogVersion",
    "startTime",
    "activeSince",
    "completionTime",
    "expiresAt",
    "reason",
    "message",
];

/// Writes a status that tells something new.
pub(super) async fn write(
    job: &EvalJob,
    ctx: &Context,
    known: &mut Remembered,
    status: &EvalJobStatus,
) -> Result<(), Error> {
    let before = known.evaluation.as_deref().or(job.status.as_ref());
    if before == Some(status) {
        return Ok(());
    }
    let (phase, reason) = (before.map(|before| before.phase), before.and_then(|before| before.reason));
    let watched = job.resource_version().unwrap_or_default();
    let jobs = Api::<EvalJob>::namespaced(ctx.client.clone(), &job.namespace().unwrap_or_default());
    let what = "write the EvalJob's status";
    let version = known.version_to_write(&watched);
    match patch_status(what, &jobs, &job.name_any(), status, &OPTIONAL, Some(version)).await? {
        Ok(answer) => {
            known.written = Some((watched, answer.resource_version().unwrap_or_default()));
            known.evaluation = Some(Box::new(status.clone()));
        }
        Err(answer) if answer.code == 409 => return Err(Error::StatusConflict),
        // Gone: whatever is left is cleaned up by its deletion.
        Err(answer) if answer.code == 404 => {}
        Err(answer) => return Err(CallError::Api { what, code: answer.code, reason: answer.reason }.into()),
    }
    if phase != Some(status.phase) || reason != status.reason {
        let reason = status.reason.unwrap_or(Reason::Unknown);
        let note = status.message.as_deref().unwrap_or_default();
        ctx.event(&job.object_ref(&()), is_trouble(status), reason, note).await;
    }
    Ok(())
}

/// Whether people should hear of it unasked.
fn is_trouble(status: &EvalJobStatus) -> bool {
    match status.phase {
        EvaluationPhase::Failed | EvaluationPhase::PartiallyFailed => true,
        EvaluationPhase::Terminated => status.reason == Some(Reason::Revoked),
        EvaluationPhase::Pending => matches!(
            status.reason,
            Some(
                Reason::StoreUnavailable
                    | Reason::StoreThrottled
                    | Reason::KeyLost
                    | Reason::OperatorNotReady
                    | Reason::QuotaExceeded
            )
        ),
        _ => false,
    }
}
