//! A look at a store's backend, before anybody's run meets it.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::ResourceExt;

use super::super::Context;
use crate::api::{
    BackendKind, BoundBy, BreakerState, CheckStep, ConditionStatus, Reason, SecretReference, StoreCheck,
    TeamSecretStore,
};
use crate::resolve::front::{Front, Listing};
use crate::resolve::gate::Breaker;
use crate::stores::{Query, Stage, StoreError};

/// How many names a status shows at most.
const SHOWN: usize = 100;
/// How many secrets of live runs are asked for, so that a newer version is noticed.
const FOLLOWED: usize = 100;
/// How many of them at a time: as many as a run may name, so that no run waits longer behind a check than behind a run.
const AT_ONCE: usize = 12;
/// How many letters a step's message has at most: it may repeat an address, each letter of it escaped.
const LONGEST_MESSAGE: usize = 2000;

/// What a look at a store has shown.
pub(super) struct Checked {
    pub(super) ready: ConditionStatus,
    pub(super) reason: Reason,
    pub(super) message: String,
    /// How many names the backend lists.
    pub(super) count: Option<usize>,
    /// The first of them.
    pub(super) names: Vec<String>,
    pub(super) breaker: Option<BreakerState>,
    pub(super) checks: Vec<StoreCheck>,
    /// A newer version was seen of a secret that a live run may hold.
    pub(super) newer: bool,
}

pub(super) async fn check(store: &TeamSecretStore, ctx: &Context) -> Checked {
    match store.spec.backend() {
        Some(BackendKind::Sealed) => sealed(store, ctx),
        Some(_) => backend(store, ctx).await,
        None => Checked::not_ready(Reason::InvalidSpec, "The store names no backend".into()),
    }
}

impl Checked {
    fn not_ready(reason: Reason, message: String) -> Self {
        Self {
            ready: ConditionStatus::False,
            reason,
            message,
            count: None,
            names: Vec::new(),
            breaker: None,
            checks: Vec::new(),
            newer: false,
        }
    }

    fn list(&mut self, mut names: Vec<String>) {
        names.sort();
        self.count = Some(names.len());
        names.truncate(SHOWN);
        self.names = names;
    }
}

/// The sealed store is the API server, so nothing needs to be asked.
fn sealed(store: &TeamSecretStore, ctx: &Context) -> Checked {
    let mut checked = match ctx.resolver.key_trouble() {
        None => Checked {
            ready: ConditionStatus::True,
            ..Checked::not_ready(Reason::Ready, "The sealed store is open".into())
        },
        Some(message) => Checked::not_ready(Reason::KeyLost, message),
    };
    let team = store.namespace();
    let secrets = ctx.team_secrets.state();
    let of_team = secrets.iter().filter(|secret| secret.metadata.namespace == team);
    checked.list(of_team.map(|secret| secret.spec.name.clone()).collect());
    checked
}

async fn backend(store: &TeamSecretStore, ctx: &Context) -> Checked {
    let (team, name) = (store.namespace().unwrap_or_default(), store.name_any());
    let front = match ctx.resolver.front(&team, &name, &store.spec) {
        Ok(front) => front,
        Err(error) => {
            let mut checked = Checked::not_ready(Reason::StoreUnavailable, error.to_string());
            checked.checks = steps(&Err(error), None);
            return checked;
        }
    };
    let walked = front.check().await;
    let followed = followed(&team, &name, ctx);
    let before: Vec<_> = followed.iter().map(|name| front.newest(name)).collect();
    let read = match &walked {
        Ok(Listing::Names(names)) => read(&front, &followed, names.first()).await,
        Ok(_) => read(&front, &followed, None).await,
        Err(_) => None,
    };
    let after = followed.iter().map(|name| front.newest(name));
    let newer = before.into_iter().zip(after).any(|(before, after)| after.is_some() && before != after);
    let mut checked = Checked {
        newer,
        breaker: Some(match front.breaker() {
            Breaker::Closed => BreakerState::Closed,
            Breaker::Open => BreakerState::Open,
            Breaker::HalfOpen => BreakerState::HalfOpen,
        }),
        checks: steps(&walked, read.as_ref()),
        ..Checked::not_ready(Reason::StoreUnavailable, String::new())
    };
    // Names alone are no store: it says so before anybody asks for a value.
    let names_only = store.spec.wandb.as_ref().is_some_and(|wandb| wandb.from.is_none());
    let not_readable = StoreError::Unsupported(
        "W&B lists names and gives no values: set wandb.from to the manager that keeps them".into(),
    );
    let trouble = match (&walked, &read) {
        (Err(error), _) => Some(error),
        _ if names_only => Some(&not_readable),
        (Ok(_), Some(Err(error))) if !matches!(error, StoreError::NotFound(_)) => Some(error),
        _ => None,
    };
    match trouble {
        None => {
            checked.ready = ConditionStatus::True;
            checked.reason = Reason::Ready;
            checked.message = what_is_well(&walked, read.as_ref()).into();
        }
        Some(error) => {
            checked.reason = reason(error);
            checked.message = error.to_string();
        }
    }
    if let Ok(Listing::Names(names)) = walked {
        checked.list(names.into_iter().map(|listed| listed.name).collect());
    }
    checked
}

fn what_is_well(walked: &Result<Listing, StoreError>, read: Option<&Result<(), StoreError>>) -> &'static str {
    match (walked, read) {
        (Ok(Listing::Unsupported(_) | Listing::Denied(_)), None) => "Signed in; nothing could be read yet",
        _ => "The backend answers",
    }
}

fn reason(error: &StoreError) -> Reason {
    match error {
        StoreError::Throttled { .. } | StoreError::Limited => Reason::StoreThrottled,
        StoreError::Denied(_) => Reason::AccessDenied,
        StoreError::Malformed(_) => Reason::SecretMalformed,
        StoreError::Unsupported(_) => Reason::ValuesNotReadable,
        _ => Reason::StoreUnavailable,
    }
}

/// Reads what live runs hold, and where there is none, one that is listed: the value is dropped at once. None where there
/// is nothing to read.
async fn read(
    front: &Arc<Front>,
    followed: &BTreeSet<String>,
    listed: Option<&crate::stores::Listed>,
) -> Option<Result<(), StoreError>> {
    let names = followed.iter().take(FOLLOWED).cloned();
    let mut queries: Vec<Query> = names.map(|name| Query { name, version: None }).collect();
    if queries.is_empty() {
        queries.extend(listed.map(|listed| Query { name: listed.name.clone(), version: None }));
    }
    let mut told = None;
    for some in queries.chunks(AT_ONCE) {
        for answer in front.get_many(some).await {
            match (answer, &told) {
                // One that can be read is enough to say that the store is well.
                (Ok(_), _) => told = Some(Ok(())),
                (Err(error), None) => told = Some(Err(error)),
                (Err(_), Some(_)) => {}
            }
        }
        // The rest would meet the same, and add to it.
        if matches!(&told, Some(Err(error)) if error.is_of_backend()) {
            break;
        }
    }
    told
}

/// The names, unpinned, that live runs have of this store.
fn followed(team: &str, store: &str, ctx: &Context) -> BTreeSet<String> {
    let of_store = |namespace: &str, reference: &SecretReference| {
        reference.team(namespace) == team && reference.store() == store && reference.version.is_none()
    };
    let mut all = BTreeSet::new();
    for sandbox in ctx.sandboxes.state() {
        if !sandbox.status.as_ref().is_some_and(|status| status.phase.is_terminal()) {
            let namespace = sandbox.namespace().unwrap_or_default();
            let named = sandbox.spec.secrets.iter().filter(|reference| of_store(&namespace, reference));
            all.extend(named.map(|reference| reference.name.clone()));
        }
    }
    for job in ctx.evaljobs.state() {
        let status = job.status.as_ref();
        if !status.is_some_and(|status| status.phase.is_terminal()) {
            let namespace = job.namespace().unwrap_or_default();
            let named = job.spec.references().filter(|reference| of_store(&namespace, reference));
            all.extend(named.map(|reference| reference.name));
            // What `autoBind` has taken stands in the status only.
            let taken = status.into_iter().flat_map(|status| &status.benchmarks).flat_map(|told| &told.secrets);
            let taken = taken.filter(|secret| secret.bound == BoundBy::AutoBind);
            let taken = taken.filter(|secret| secret.team == team && secret.store == store);
            all.extend(taken.map(|secret| secret.name.clone()));
        }
    }
    all
}

/// The way to a value, step by step: those before the one that failed were passed, those after it not tried. A list that
/// is refused is in nobody's way.
fn steps(walked: &Result<Listing, StoreError>, read: Option<&Result<(), StoreError>>) -> Vec<StoreCheck> {
    use ConditionStatus::{False, True, Unknown};
    let reached = match walked {
        Ok(_) => CheckStep::Read,
        Err(StoreError::Unavailable { stage, .. }) => match stage {
            Stage::Address => CheckStep::Address,
            Stage::Tls => CheckStep::TLS,
            Stage::SignIn => CheckStep::SignIn,
            Stage::Answer => CheckStep::List,
        },
        Err(_) => CheckStep::List,
    };
    [CheckStep::Address, CheckStep::TLS, CheckStep::SignIn, CheckStep::List, CheckStep::Read]
        .into_iter()
        .map(|step| {
            let (state, message) = match (step, walked, read) {
                (CheckStep::List, Ok(Listing::Unsupported(why)), _) => (Unknown, Some(why.clone())),
                (CheckStep::List, Ok(Listing::Denied(why)), _) => (False, Some(why.clone())),
                (CheckStep::Read, Ok(_), None) => (Unknown, Some("there is no secret to read yet".into())),
                (CheckStep::Read, Ok(_), Some(Err(error))) => (False, Some(error.to_string())),
                (step, Err(error), _) if step == reached => (False, Some(error.to_string())),
                (step, Err(_), _) if step > reached => (Unknown, None),
                _ => (True, None),
            };
            let message: Option<String> = message.map(|message| message.chars().take(LONGEST_MESSAGE).collect());
            StoreCheck { step, state, message }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(checks: &[StoreCheck]) -> Vec<ConditionStatus> {
        checks.iter().map(|check| check.state).collect()
    }

    #[test]
    fn steps_before_the_failure_are_passed_and_those_after_it_not_tried() {
        use ConditionStatus::{False, True, Unknown};
        let refused = Err(StoreError::unavailable(Stage::SignIn, "no"));
        let checks = steps(&refused, None);
        assert_eq!(states(&checks), [True, True, False, Unknown, Unknown]);
        assert_eq!(checks[2].message.as_deref(), Some("no"));
        let long = Err(StoreError::unavailable(Stage::Address, "\u{fe}".repeat(5000)));
        assert_eq!(
            steps(&long, None)[0].message.as_ref().map(|message| message.chars().count()),
            Some(LONGEST_MESSAGE)
        );
        assert_eq!(states(&steps(&Ok(Listing::Names(Vec::new())), None)), [True, True, True, True, Unknown]);
        let denied = Err(StoreError::Denied("not this".into()));
        let unsupported = Ok(Listing::Unsupported("no list".into()));
        let checks = steps(&unsupported, Some(&denied));
        assert_eq!(states(&checks), [True, True, True, Unknown, False]);
        assert_eq!(checks[3].message.as_deref(), Some("no list"));
    }

    #[test]
    fn a_list_that_is_refused_says_so_and_is_not_in_the_way_of_a_read() {
        use ConditionStatus::{False, True, Unknown};
        let refused = Ok(Listing::Denied("no right to list".into()));
        let checks = steps(&refused, Some(&Ok(())));
        assert_eq!(states(&checks), [True, True, True, False, True]);
        assert_eq!(checks[3].message.as_deref(), Some("no right to list"));
        assert_eq!(states(&steps(&refused, None)), [True, True, True, False, Unknown]);
        assert_eq!(what_is_well(&refused, Some(&Ok(()))), "The backend answers");
        assert!(what_is_well(&refused, None).contains("nothing could be read yet"));
    }
}
