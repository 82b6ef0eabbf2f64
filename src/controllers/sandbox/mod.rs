//! The Sandbox's reconcile: observe, plan, apply, until nothing is left to do; then report.

mod apply;
mod convert;
mod observe;
mod report;

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

use super::Context;
use super::memory::Remembered;
use crate::api::Sandbox;
use crate::kube_ext::{CallError, Deleted, delete_run_secret};
use crate::run::{Plan, Resolution, Run, SecretFact, State, Step, plan, wants_secrets};
use crate::secret::SecretValue;

/// More rounds than any life takes in one reconcile; past it the queue gives others their turn.
const ROUNDS: usize = 12;

/// A reconcile that stopped half-way. The next one starts from what it then observes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The run Secret is held by a finalizer.
    #[error("the run Secret is still there after its deletion was asked for")]
    SecretHeld,
    /// The status was written by somebody else in between.
    #[error("the Sandbox changed while its status was written")]
    StatusConflict,
    /// The process is shutting down.
    #[error("shutting down")]
    ShuttingDown,
}

/// Brings a Sandbox's run one stretch further.
///
/// # Errors
/// A call failed; what was done before it stands, and the next reconcile goes on from there.
pub async fn reconcile(sandbox: Arc<Sandbox>, ctx: Arc<Context>) -> Result<Action, Error> {
    let started = std::time::Instant::now();
    let uid = sandbox.uid().unwrap_or_default();
    let mut known = ctx.memory.of(&uid);
    let result = run_to_rest(&sandbox, &ctx, &mut known).await;
    if result.is_ok() {
        known.failures = 0;
    }
    ctx.memory.keep(&uid, known);
    ctx.metrics.reconciled("Sandbox", result.is_ok(), started.elapsed());
    if is_gone(&sandbox, &ctx) {
        // Its deletion may have been told before this reconcile had made what is there now.
        clean_up_after(Sandbox::clone(&sandbox), ctx).await;
        return Ok(Action::await_change());
    }
    result
}

/// Whether the watch has seen the Sandbox go.
fn is_gone(sandbox: &Sandbox, ctx: &Context) -> bool {
    ctx.sandboxes.get(&ObjectRef::from_obj(sandbox)).is_none_or(|now| now.metadata.uid != sandbox.metadata.uid)
}

/// How long to wait after a failure.
#[expect(clippy::needless_pass_by_value, reason = "the signature is the controller's")]
pub fn error_policy(sandbox: Arc<Sandbox>, error: &Error, ctx: Arc<Context>) -> Action {
    let delay = ctx.memory.back_off(&sandbox.uid().unwrap_or_default());
    tracing::warn!(
        namespace = sandbox.namespace(), name = sandbox.name_any(), %error, retry_in_ms = delay.as_millis(), "reconcile failed"
    );
    Action::requeue(delay)
}

async fn run_to_rest(sandbox: &Sandbox, ctx: &Context, known: &mut Remembered) -> Result<Action, Error> {
    let run = convert::run_of(sandbox);
    for _ in 0..ROUNDS {
        if is_gone(sandbox, ctx) {
            return Ok(Action::await_change());
        }
        let now = ctx.clock.now();
        let recorded = known.reported.clone().unwrap_or_else(|| recorded(sandbox));
        let mut seen = observe::see(&run, &recorded, ctx, known).await?;
        let mut facts = known.facts.clone();
        let mut secrets = Resolution::NotAsked;
        let mut values = Vec::new();
        if wants_secrets(&seen.observed(&run, &recorded, &facts, Resolution::NotAsked), now) {
            if !facts.fresh {
                let _place = ctx.lanes.creation().await.ok_or(Error::ShuttingDown)?;
                // An earlier leader may have made the Pod: before a name is used, the API server itself is asked.
                seen.pod = observe::live_pod(&run, ctx, known).await?;
                facts = known.facts.clone();
            }
            if wants_secrets(&seen.observed(&run, &recorded, &facts, Resolution::NotAsked), now) {
                // No place is held meanwhile: a store that hangs must not keep others from theirs.
                let resolved = ctx.resolver.resolve(&run).await?;
                report::audit_resolution(sandbox, &run, &resolved, known);
                facts.stale = !resolved.stale.is_empty();
                known.facts.stale = facts.stale;
                secrets = resolved.resolution;
                values = resolved.values;
            }
        }
        let plan = plan(&seen.observed(&run, &recorded, &facts, secrets.clone()), now);
        if let Some(action) = step_through(sandbox, &run, ctx, known, plan, &values, &secrets).await? {
            return Ok(action);
        }
    }
    Ok(Action::requeue(Duration::from_millis(100)))
}

/// Does what the plan says. Gives the action where the run came to rest, nothing where another round is due.
async fn step_through(
    sandbox: &Sandbox,
    run: &Run,
    ctx: &Context,
    known: &mut Remembered,
    plan: Plan,
    values: &[Option<SecretValue>],
    resolution: &Resolution,
) -> Result<Option<Action>, Error> {
    if plan.steps.is_empty() {
        if plan.write {
            report::write(sandbox, run, ctx, known, &plan.state).await?;
        }
        let wait = plan.wake.map(|wake| wake.duration_since(ctx.clock.now()));
        return Ok(match wait {
            None => Some(Action::await_change()),
            Some(wait) if wait.is_positive() => {
                Some(Action::requeue(Duration::try_from(wait).unwrap_or(Duration::from_secs(60))))
            }
            // Due already. After a write that is the next round; else nothing here can change it.
            Some(_) if plan.write => None,
            Some(_) => Some(Action::requeue(Duration::from_millis(200))),
        });
    }
    let applier = apply::Applier { sandbox, run, ctx, values, resolution };
    for step in &plan.steps {
        tracing::debug!(namespace = run.namespace, run = run.name, ?step, "step");
        let _place = match step {
            Step::DeleteSecret | Step::DeletePod { .. } | Step::DeleteOwner => ctx.lanes.removal().await,
            _ => ctx.lanes.creation().await,
        };
        if applier.apply(step, known).await? == apply::Went::Differently || is_gone(sandbox, ctx) {
            break;
        }
        if *step == Step::DeleteOwner {
            // Nothing is left to do for an object that is going away.
            return Ok(Some(Action::await_change()));
        }
    }
    Ok(None)
}

fn recorded(sandbox: &Sandbox) -> State {
    sandbox.status.as_ref().map(convert::state_of).unwrap_or_default()
}

/// Removes what a deleted Sandbox has left, faster than the garbage collector comes by.
pub async fn clean_up_after(sandbox: Sandbox, ctx: Arc<Context>) {
    let uid = sandbox.uid().unwrap_or_default();
    let known = ctx.memory.forget(&uid);
    let run = convert::run_of(&sandbox);
    let state = known.as_ref().and_then(|known| known.reported.clone()).unwrap_or_else(|| recorded(&sandbox));
    let secret = known.as_ref().map_or(SecretFact::Unknown, |known| known.facts.secret);
    let settled = state.copy.is_settled() && !matches!(secret, SecretFact::Made(_))
        || run.references.is_empty()
        || matches!(secret, SecretFact::NotMade | SecretFact::Gone(_) | SecretFact::Foreign);
    if settled {
        return;
    }
    let Some(_place) = ctx.lanes.removal().await else { return };
    let secret_uid = known.as_ref().and_then(|known| known.secret_uid.as_deref());
    let answer = delete_run_secret(&ctx.client, &run.namespace, &run.name, secret_uid).await;
    if let Ok(Deleted::Gone | Deleted::Replaced) = answer {
        report::audit_removal(&sandbox, &run, &state);
    } else {
        // The owner is gone, so the garbage collector has it on its list.
        tracing::warn!(run = run.name, "left to the garbage collector");
    }
}
