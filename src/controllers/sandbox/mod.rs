//! The Sandbox's reconcile: its one run goes as far as it can; then report.

mod convert;
mod report;

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource, ResourceExt};

use super::memory::Remembered;
use super::runs::{self, Stop, Task, delete_parameters};
use super::{Context, submitter};
use crate::api::Sandbox;
use crate::kube_ext::{CallError, call};
use crate::run::{PodExtras, State};

pub use super::runs::Error;

/// More writes than any life takes in one reconcile.
const ROUNDS: usize = 12;

/// Brings a Sandbox's run one stretch further.
///
/// # Errors
/// A call failed; what was done before it stands, and the next reconcile goes on from there.
pub async fn reconcile(sandbox: Arc<Sandbox>, ctx: Arc<Context>) -> Result<Action, Error> {
    let started = std::time::Instant::now();
    let uid = sandbox.uid().unwrap_or_default();
    let mut known = ctx.memory.of(&uid);
    let result = Box::pin(run_to_rest(&sandbox, &ctx, &mut known)).await;
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
    let task = Task {
        run: &run,
        shape: &sandbox.spec,
        extras: &PodExtras::of_sandbox(&run.owner_name),
        about: &sandbox.object_ref(&()),
        submitter: submitter(&sandbox.metadata),
        gone: &|| is_gone(sandbox, ctx),
    };
    for _ in 0..ROUNDS {
        let recorded = known.reported.clone().unwrap_or_else(|| recorded(sandbox));
        let plan = match runs::advance(&task, &recorded, ctx, known).await? {
            Stop::Rest(plan) => plan,
            Stop::Unfinished => break,
            Stop::Crowded => return Ok(Action::requeue(runs::CROWDED)),
            Stop::Gone => return Ok(Action::await_change()),
            Stop::OwnerDue => {
                let _place = ctx.lanes.removal().await;
                delete(sandbox, ctx).await?;
                return Ok(Action::await_change());
            }
        };
        if plan.write {
            report::write(sandbox, &run, ctx, known, &plan.state).await?;
        }
        if let Some(action) = runs::rest(plan.wake, plan.write, ctx.clock.now()) {
            return Ok(action);
        }
    }
    Ok(Action::requeue(Duration::from_millis(100)))
}

async fn delete(sandbox: &Sandbox, ctx: &Context) -> Result<(), Error> {
    let sandboxes = Api::<Sandbox>::namespaced(ctx.client.clone(), &sandbox.namespace().unwrap_or_default());
    let what = "delete the Sandbox whose time is over";
    let parameters = delete_parameters(&sandbox.uid().unwrap_or_default());
    match call(what, sandboxes.delete(&sandbox.name_any(), &parameters)).await? {
        Ok(_) => Ok(()),
        Err(answer) if matches!(answer.code, 404 | 409) => Ok(()),
        Err(answer) => Err(CallError::Api { what, code: answer.code, reason: answer.reason }.into()),
    }
}

fn recorded(sandbox: &Sandbox) -> State {
    sandbox.status.as_ref().map(convert::state_of).unwrap_or_default()
}

/// Removes what a deleted Sandbox has left, faster than the garbage collector comes by.
pub async fn clean_up_after(sandbox: Sandbox, ctx: Arc<Context>) {
    let known = ctx.memory.forget(&sandbox.uid().unwrap_or_default());
    let run = convert::run_of(&sandbox);
    runs::clean_up(&run, submitter(&sandbox.metadata), known.as_ref(), &recorded(&sandbox), &ctx).await;
}
