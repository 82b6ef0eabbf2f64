//! A run's stretch: observe, plan, apply, until nothing is left to do. Every kind that has runs goes through here; what
//! a state means for the object, and how it is told, is the kind's own.

mod apply;
mod audited;
mod observe;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{DeleteParams, Preconditions, PropagationPolicy};
use kube::runtime::controller::Action;

use super::Context;
use super::memory::Remembered;
use crate::api::SandboxSpec;
use crate::kube_ext::{CallError, Deleted, delete_run_secret};
use crate::run::{Plan, PodExtras, Resolution, Run, SecretFact, State, Step, plan, wants_secrets};
use crate::secret::SecretValue;

pub(super) use audited::removal as audit_removal;

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
    #[error("the object changed while its status was written")]
    StatusConflict,
}

/// One run, and what its object says about it.
pub(super) struct Task<'a> {
    /// The run.
    pub(super) run: &'a Run,
    /// The shape of its Pod.
    pub(super) shape: &'a SandboxSpec,
    /// What its kind adds to the Pod.
    pub(super) extras: &'a PodExtras,
    /// The object, for events.
    pub(super) about: &'a ObjectReference,
    /// Who submitted it, where a policy proves that.
    pub(super) submitter: Option<&'a str>,
    /// Whether the watch has seen the object go.
    pub(super) gone: &'a (dyn Fn() -> bool + Send + Sync),
}

/// Where a run came to a stop.
pub(super) enum Stop {
    /// Nothing is left to do: the state may be worth a write, and there is a time to look again.
    Rest(Box<Plan>),
    /// The object's time is over: it is to be deleted.
    OwnerDue,
    /// The object is gone.
    Gone,
    /// It goes on at once, after others had their turn.
    Unfinished,
    /// Many others make something before it: it goes on in [`CROWDED`].
    Crowded,
}

/// How soon a run that found no place to make something looks again.
pub(super) const CROWDED: Duration = Duration::from_secs(1);

/// Brings a run to where nothing is left to do. What is done stands, whatever fails after it.
pub(super) async fn advance(
    task: &Task<'_>,
    recorded: &State,
    ctx: &Context,
    known: &mut Remembered,
) -> Result<Stop, Error> {
    let run = task.run;
    known.first_look.get_or_insert_with(|| ctx.clock.now());
    for _ in 0..ROUNDS {
        if (task.gone)() {
            return Ok(Stop::Gone);
        }
        let now = ctx.clock.now();
        let mut seen = observe::see(run, recorded, ctx, known).await?;
        let mut facts = known.facts.clone();
        let mut secrets = Resolution::NotAsked;
        let mut values = Vec::new();
        if wants_secrets(&seen.observed(run, recorded, &facts, Resolution::NotAsked), now) {
            if !facts.fresh {
                let Some(_place) = ctx.lanes.creation().await else { return Ok(Stop::Crowded) };
                // An earlier leader may have made the Pod: before a name is used, the API server itself is asked.
                seen.pod = observe::live_pod(run, ctx, known).await?;
                facts = known.facts.clone();
            }
            if wants_secrets(&seen.observed(run, recorded, &facts, Resolution::NotAsked), now) {
                // No place is held meanwhile: a store that hangs must not keep others from theirs.
                let resolved = ctx.resolver.resolve(run).await?;
                audited::resolution(task, &resolved, known);
                facts.stale = !resolved.stale.is_empty();
                known.facts.stale = facts.stale;
                secrets = resolved.resolution;
                values = resolved.values;
            }
        }
        let plan = plan(&seen.observed(run, recorded, &facts, secrets.clone()), now);
        if plan.steps.is_empty() {
            return Ok(Stop::Rest(Box::new(plan)));
        }
        if plan.steps == [Step::DeleteOwner] {
            return Ok(Stop::OwnerDue);
        }
        if !apply_all(task, ctx, known, &plan, &values, &secrets).await? {
            return Ok(Stop::Crowded);
        }
    }
    Ok(Stop::Unfinished)
}

/// Does what a plan says, up to the first step that goes otherwise. Says whether all of them had a place.
async fn apply_all(
    task: &Task<'_>,
    ctx: &Context,
    known: &mut Remembered,
    plan: &Plan,
    values: &[Option<SecretValue>],
    resolution: &Resolution,
) -> Result<bool, Error> {
    let applier = apply::Applier { task, ctx, values, resolution };
    for step in &plan.steps {
        tracing::debug!(namespace = task.run.namespace, run = task.run.name, ?step, "step");
        let place = match step {
            Step::DeleteSecret | Step::DeletePod { .. } => ctx.lanes.removal().await,
            _ => ctx.lanes.creation().await,
        };
        let Some(_place) = place else { return Ok(false) };
        if applier.apply(step, known).await? == apply::Went::Differently || (task.gone)() {
            break;
        }
    }
    Ok(true)
}

/// When to look again. None: at once, as the write may have been all that was due.
pub(super) fn rest(wake: Option<Timestamp>, wrote: bool, now: Timestamp) -> Option<Action> {
    match wake.map(|wake| wake.duration_since(now)) {
        None => Some(Action::await_change()),
        Some(wait) if wait.is_positive() => {
            Some(Action::requeue(Duration::try_from(wait).unwrap_or(Duration::from_secs(60))))
        }
        // Due already. After a write that is the next round; else nothing here can change it.
        Some(_) if wrote => None,
        Some(_) => Some(Action::requeue(Duration::from_millis(200))),
    }
}

/// Removes the Secret of a run whose object is gone, faster than the garbage collector comes by.
pub(super) async fn clean_up(
    run: &Run,
    submitter: Option<&str>,
    known: Option<&Remembered>,
    recorded: &State,
    ctx: &Context,
) {
    let state = known.and_then(|known| known.reported.as_ref()).unwrap_or(recorded);
    let secret = known.map_or(SecretFact::Unknown, |known| known.facts.secret);
    let settled = state.copy.is_settled() && !matches!(secret, SecretFact::Made(_))
        || run.references.is_empty()
        || matches!(secret, SecretFact::NotMade | SecretFact::Gone(_) | SecretFact::Foreign);
    if settled {
        return;
    }
    let Some(_place) = ctx.lanes.removal().await else { return };
    let secret_uid = known.and_then(|known| known.secret_uid.as_deref());
    let answer = delete_run_secret(&ctx.client, &run.namespace, &run.name, secret_uid).await;
    if let Ok(Deleted::Gone | Deleted::Replaced) = answer {
        audit_removal(run, submitter, state);
    } else {
        // The owner is gone, so the garbage collector has it on its list.
        tracing::warn!(run = run.name, "left to the garbage collector");
    }
}

/// Exactly this object, and its dependents with it.
pub(super) fn delete_parameters(uid: &str) -> DeleteParams {
    DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    }
}
