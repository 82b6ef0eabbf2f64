//! The store's reconcile: what backend it has, how many secrets it lists, and what became of its revocations.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use serde_json::json;

use super::Context;
use super::watches::users_of_secret;
use crate::api::{
    BackendKind, Condition, ConditionStatus, ConditionType, Phase, Reason, RevokedStatus, TeamSecretStore,
    TeamSecretStoreStatus, Time, set_condition,
};
use crate::kube_ext::{CallError, call};

/// How many names and runs a status shows at most.
const SHOWN: (usize, usize) = (100, 50);
/// How soon a store with a revocation under way is looked at again.
const REVOKING: Duration = Duration::from_secs(2);

/// Brings a store's status up to date.
///
/// # Errors
/// The status could not be written.
pub async fn reconcile(store: Arc<TeamSecretStore>, ctx: Arc<Context>) -> Result<Action, CallError> {
    let status = status_of(&store, &ctx);
    let ending: i64 = status.revoked.iter().map(|revoked| revoked.runs_ending).sum();
    if !same(store.status.as_ref(), &status) {
        write(&store, &ctx, &status).await?;
    }
    Ok(if ending > 0 { Action::requeue(REVOKING) } else { Action::await_change() })
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
    let patch = Patch::Merge(json!({"status": status}));
    let parameters = PatchParams { field_manager: Some("daypass".into()), ..PatchParams::default() };
    match call(what, stores.patch_status(&store.name_any(), &parameters, &patch)).await? {
        Ok(_) => Ok(()),
        Err(answer) if answer.code == 404 => Ok(()),
        Err(answer) => Err(CallError::Api { what, code: answer.code, reason: answer.reason }),
    }
}

/// Equal but for the time of the look.
fn same(old: Option<&TeamSecretStoreStatus>, new: &TeamSecretStoreStatus) -> bool {
    old.is_some_and(|old| TeamSecretStoreStatus { last_check: new.last_check, ..old.clone() } == *new)
}

fn status_of(store: &TeamSecretStore, ctx: &Context) -> TeamSecretStoreStatus {
    let now = ctx.clock.now();
    let team = store.namespace().unwrap_or_default();
    let old = store.status.clone().unwrap_or_default();
    let mut conditions: Vec<Condition> =
        old.conditions.iter().filter(|c| c.last_transition_time.0 != Timestamp::UNIX_EPOCH).cloned().collect();
    let backend = store.spec.backend();
    let mut names: Vec<String> = Vec::new();
    if backend == Some(BackendKind::Sealed) {
        names = ctx
            .team_secrets
            .state()
            .iter()
            .filter(|secret| secret.metadata.namespace.as_deref() == Some(&team))
            .map(|secret| secret.spec.name.clone())
            .collect();
        names.sort();
    }
    let (ready, reason, message) = readiness(backend, ctx);
    let count = names.len();
    names.truncate(SHOWN.0);
    set_condition(
        &mut conditions,
        Condition {
            type_: ConditionType::Ready,
            status: ready,
            reason,
            message,
            last_transition_time: Time(now).to_second(),
            observed_generation: store.metadata.generation,
        },
    );
    TeamSecretStoreStatus {
        conditions,
        backend,
        secret_count: (backend == Some(BackendKind::Sealed)).then(|| i64::try_from(count).unwrap_or(i64::MAX)),
        names,
        last_check: Some(Time(now).to_second()),
        revoked: store.spec.revoked.iter().map(|revoked| revocation(&team, &revoked.name, store, ctx, &old)).collect(),
        observed_generation: store.metadata.generation,
    }
}

fn readiness(backend: Option<BackendKind>, ctx: &Context) -> (ConditionStatus, Reason, String) {
    match backend {
        Some(BackendKind::Sealed) => match ctx.resolver.key_trouble() {
            None => (ConditionStatus::True, Reason::Ready, "The sealed store is open".into()),
            Some(message) => (ConditionStatus::False, Reason::KeyLost, message),
        },
        Some(kind) => (
            ConditionStatus::False,
            Reason::StoreUnsupported,
            format!("This operator does not serve the backend {} yet; use sealed", kind.as_str()),
        ),
        None => (ConditionStatus::False, Reason::InvalidSpec, "The store names no backend".into()),
    }
}

/// What became of one revocation: runs that were ended for it, and runs that still have to end.
fn revocation(
    team: &str,
    name: &str,
    store: &TeamSecretStore,
    ctx: &Context,
    old: &TeamSecretStoreStatus,
) -> RevokedStatus {
    let mut present = Vec::new();
    for sandbox in ctx.sandboxes.state() {
        let Some(status) = &sandbox.status else { continue };
        let namespace = sandbox.namespace().unwrap_or_default();
        let names_it = sandbox.spec.secrets.iter().any(|reference| {
            reference.team(&namespace) == team && reference.name == name && reference.store() == store.name_any()
        });
        if names_it && status.phase == Phase::Terminated && status.reason == Some(Reason::Revoked) {
            present.push((status.completion_time, format!("{namespace}/{}", sandbox.name_any())));
        }
    }
    present.sort();
    let present = present.into_iter().map(|(_, run)| run).collect();
    let (ended, runs) = tally(old.revoked.iter().find(|revoked| revoked.name == name), present);
    let live = users_of_secret(&ctx.sandboxes, team, name).len();
    RevokedStatus {
        name: name.to_owned(),
        runs_ended: ended,
        runs_ending: i64::try_from(live).unwrap_or(i64::MAX),
        runs,
    }
}

/// How many runs were ended, and the last of them: what was told before, and what is there now. The same again gives
/// the same again.
fn tally(before: Option<&RevokedStatus>, present: Vec<String>) -> (i64, Vec<String>) {
    let told = before.map_or(0, |before| before.runs_ended);
    let mut runs = before.map(|before| before.runs.clone()).unwrap_or_default();
    let count = |runs: &[String]| i64::try_from(runs.len()).unwrap_or(i64::MAX);
    let mut ended = told;
    if told == count(&runs) {
        // The list is whole: what is not in it is new.
        runs.extend(present.into_iter().filter(|run| !before.is_some_and(|before| before.runs.contains(run))));
        ended = count(&runs);
    } else if told <= count(&present) {
        ended = count(&present);
        runs = present;
    }
    runs.drain(..runs.len().saturating_sub(SHOWN.1));
    (ended, runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(numbers: std::ops::Range<usize>) -> Vec<String> {
        numbers.map(|number| format!("team/run-{number}")).collect()
    }

    fn told((runs_ended, runs): (i64, Vec<String>)) -> RevokedStatus {
        RevokedStatus { name: "KEY".into(), runs_ended, runs_ending: 0, runs }
    }

    #[test]
    fn runs_are_counted_once() {
        let few = told(tally(None, runs(0..3)));
        assert_eq!(few.runs_ended, 3);
        // Two of them were deleted since, and one more has ended.
        let more = told(tally(Some(&few), runs(2..4)));
        assert_eq!((more.runs_ended, more.runs.clone()), (4, runs(0..4)));
        assert_eq!(told(tally(Some(&more), runs(2..4))), more);
    }

    #[test]
    fn more_runs_than_are_shown_are_counted_once() {
        let many = told(tally(None, runs(0..60)));
        assert_eq!((many.runs_ended, many.runs.clone()), (60, runs(10..60)));
        assert_eq!(told(tally(Some(&many), runs(0..60))), many, "a second look changes nothing");
        assert_eq!(told(tally(Some(&many), runs(0..61))).runs_ended, 61);
        assert_eq!(told(tally(Some(&many), runs(30..60))).runs_ended, 60, "deleted ones stay counted");
    }
}
