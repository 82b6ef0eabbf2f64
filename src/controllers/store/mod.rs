//! The store's reconcile: whether its backend can be reached and read, how many secrets it lists, and what became of its
//! revocations.

mod check;
mod revocation;

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use kube::runtime::controller::Action;
use kube::{Api, Resource as _, ResourceExt};

use self::check::{Checked, check};
use self::revocation::revocation;
use super::Context;
use crate::api::{
    BackendKind, CHECK_REQUESTED, Condition, ConditionStatus, ConditionType, Reason, TeamSecretStore,
    TeamSecretStoreStatus, Time, set_condition,
};
use crate::kube_ext::{CallError, patch_status};

/// How soon a store with a revocation under way is looked at again.
const REVOKING: Duration = Duration::from_secs(2);
/// How soon a store that is not ready is looked at again, besides being woken every half minute.
const NOT_READY: Duration = Duration::from_secs(10);
/// How old the time of the last check may get in the status. A write for each check would be two a minute and store.
const OLDEST_CHECK: SignedDuration = SignedDuration::from_secs(300);

/// Fields that a later status may be without.
const OPTIONAL: [&str; 6] = ["secretCount", "names", "checkRequested", "breaker", "checks", "revoked"];

/// Brings a store's status up to date.
///
/// # Errors
/// The status could not be written.
pub async fn reconcile(store: Arc<TeamSecretStore>, ctx: Arc<Context>) -> Result<Action, CallError> {
    let checked = check(&store, &ctx).await;
    if checked.newer {
        let (team, name) = (store.namespace().unwrap_or_default(), store.name_any());
        ctx.wake_users_of_store(&team, &name);
    }
    let ready = checked.ready == ConditionStatus::True;
    let status = status_of(&store, checked, &ctx);
    let ending: i64 = status.revoked.iter().map(|revoked| revoked.runs_ending).sum();
    if is_due(&store, &status) {
        write(&store, &ctx, &status).await?;
        tell_discouraged(&store, &status, &ctx).await;
    }
    Ok(if ending > 0 {
        Action::requeue(REVOKING)
    } else if ready {
        Action::await_change()
    } else {
        Action::requeue(NOT_READY)
    })
}

/// How long to wait after a failure.
#[expect(clippy::needless_pass_by_value, reason = "the signature is the controller's")]
pub fn error_policy(store: Arc<TeamSecretStore>, error: &CallError, ctx: Arc<Context>) -> Action {
    let delay = ctx.memory.back_off(&store.uid().unwrap_or_default());
    tracing::warn!(namespace = store.namespace(), name = store.name_any(), %error, "reconcile of a store failed");
    Action::requeue(delay)
}

async fn write(store: &TeamSecretStore, ctx: &Context, status: &TeamSecretStoreStatus) -> Result<(), CallError> {
    let what = "write the store's status";
    let stores = Api::<TeamSecretStore>::namespaced(ctx.client.clone(), &store.namespace().unwrap_or_default());
    match patch_status(what, &stores, &store.name_any(), status, &OPTIONAL, None).await? {
        Ok(_) => Ok(()),
        Err(answer) if answer.code == 404 => Ok(()),
        Err(answer) => Err(CallError::Api { what, code: answer.code, reason: answer.reason }),
    }
}

/// Whether the status is worth a write: it differs by more than the time of the check, or that is old.
fn is_due(store: &TeamSecretStore, new: &TeamSecretStoreStatus) -> bool {
    let Some(old) = &store.status else { return true };
    if (TeamSecretStoreStatus { last_check: new.last_check, ..old.clone() }) != *new {
        return true;
    }
    let (Some(last), Some(now)) = (old.last_check, new.last_check) else { return true };
    now.0.duration_since(last.0) > OLDEST_CHECK
}

/// One event when a store begins to be of a kind that is discouraged.
async fn tell_discouraged(store: &TeamSecretStore, status: &TeamSecretStoreStatus, ctx: &Context) {
    let is = |status: &TeamSecretStoreStatus| {
        status.conditions.iter().find(|condition| condition.type_ == ConditionType::Discouraged).cloned()
    };
    if let (None, Some(condition)) = (store.status.as_ref().and_then(is), is(status)) {
        ctx.event(&store.object_ref(&()), true, condition.reason, &condition.message).await;
    }
}

fn status_of(store: &TeamSecretStore, checked: Checked, ctx: &Context) -> TeamSecretStoreStatus {
    let now = ctx.clock.now();
    let team = store.namespace().unwrap_or_default();
    let old = store.status.clone().unwrap_or_default();
    let backend = store.spec.backend();
    let mut conditions: Vec<Condition> = old
        .conditions
        .iter()
        .filter(|condition| condition.is_written())
        .filter(|condition| condition.type_ != ConditionType::Discouraged || backend == Some(BackendKind::Kubernetes))
        .cloned()
        .collect();
    let mut set = |type_, status, reason, message: String| {
        set_condition(
            &mut conditions,
            Condition {
                type_,
                status,
                reason,
                message,
                last_transition_time: Time(now).to_second(),
                observed_generation: store.metadata.generation,
            },
        );
    };
    set(ConditionType::Ready, checked.ready, checked.reason, checked.message);
    if backend == Some(BackendKind::Kubernetes) {
        let message = "Everyone who may edit in this namespace can read these values, at any time: a sealed store, Vault \
                       or a cloud's manager keeps them apart";
        set(ConditionType::Discouraged, ConditionStatus::True, Reason::ValuesInCluster, message.into());
    }
    TeamSecretStoreStatus {
        conditions,
        backend,
        secret_count: checked.count.map(|count| i64::try_from(count).unwrap_or(i64::MAX)),
        names: checked.names,
        last_check: Some(Time(now)),
        check_requested: store.annotations().get(CHECK_REQUESTED).map(|text| text.chars().take(64).collect()),
        breaker: checked.breaker,
        checks: checked.checks,
        revoked: store.spec.revoked.iter().map(|revoked| revocation(&team, &revoked.name, store, ctx, &old)).collect(),
        observed_generation: store.metadata.generation,
    }
}
