//! What stands in a run's way, in words that name what mends it.

use super::deliverable::Fault;
use crate::api::{BackendKind, Reason, SecretReference};
use crate::run::{Problem, Run};
use crate::stores::StoreError;

/// The store that a problem is about.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) team: &'a str,
    pub(super) store: &'a str,
    pub(super) kind: BackendKind,
}

impl Place<'_> {
    /// The flags that a command line needs to reach the store.
    fn flags(self) -> String {
        let Self { team, store, .. } = self;
        if store == crate::api::names::DEFAULT_STORE {
            format!("-n {team}")
        } else {
            format!("-n {team} --store {store}")
        }
    }

    fn check(self) -> String {
        let Self { team, store, .. } = self;
        if store == crate::api::names::DEFAULT_STORE {
            format!("`daypass store check -n {team}`")
        } else {
            format!("`daypass store check {store} -n {team}`")
        }
    }
}

/// The team has no such store.
pub(super) fn no_store(team: &str, store: &str) -> Problem {
    Problem {
        reference: None,
        reason: Reason::StoreNotFound,
        message: format!("team {team} has no store {store}; `kubectl get tstore -n {team}` lists its stores"),
        waits: true,
    }
}

/// The store as such is in the way: of all its secrets alike, so it is said once.
pub(super) fn of_store(place: Place<'_>, error: &StoreError) -> Problem {
    let Place { team, store, kind } = place;
    let reason = match error {
        StoreError::Throttled { .. } | StoreError::Limited => Reason::StoreThrottled,
        _ => Reason::StoreUnavailable,
    };
    Problem {
        reference: None,
        reason,
        message: format!("store {store} of team {team} ({}): {error}; {}", kind.as_str(), place.check()),
        waits: true,
    }
}

/// One reference does not become a value.
pub(super) fn of_reference(run: &Run, index: usize, place: Place<'_>, fault: &Fault) -> Problem {
    let reference = &run.references[index];
    let name = &reference.name;
    let flags = place.flags();
    let (reason, waits, mend) = match fault {
        Fault::Store(StoreError::NotFound(_)) => (
            Reason::SecretNotFound,
            true,
            match &reference.version {
                Some(_) => format!("`daypass secret list {flags}` shows the versions"),
                None => format!("`daypass secret set {name} {flags}`"),
            },
        ),
        Fault::FieldNotFound(_) => {
            (Reason::SecretFieldNotFound, false, "correct `field`, or rotate the secret".to_owned())
        }
        Fault::Store(StoreError::Denied(_)) => {
            (Reason::AccessDenied, false, format!("the store's own sign-in may not read it: {}", place.check()))
        }
        Fault::Store(StoreError::Throttled { .. } | StoreError::Limited) => {
            (Reason::StoreThrottled, true, place.check())
        }
        Fault::Store(StoreError::Unavailable { .. }) => (Reason::StoreUnavailable, true, place.check()),
        Fault::Undeliverable(_) | Fault::Store(StoreError::Malformed(_) | StoreError::Conflict(_)) => {
            (Reason::SecretMalformed, false, "mend the value with `daypass secret rotate`, or the reference".to_owned())
        }
        Fault::Store(StoreError::Unsupported(_)) => (Reason::ValuesNotReadable, false, place.check()),
        Fault::Store(StoreError::KeyLost(_)) => {
            (Reason::KeyLost, true, format!("restore the key, or `daypass secret rotate {name} {flags}`"))
        }
    };
    let store = match place.store {
        crate::api::names::DEFAULT_STORE => String::new(),
        store => format!(", store {store}"),
    };
    Problem {
        reference: Some(index),
        reason,
        message: format!("secrets[{index}]: {name} of team {}{store}: {fault}; {mend}", place.team),
        waits,
    }
}

/// The run's ServiceAccount may not use a secret.
pub(super) fn denied(run: &Run, index: usize, reference: &SecretReference, team_set_up: bool) -> Problem {
    let team = reference.team(&run.namespace);
    let store = reference.store.as_ref().map(|store| format!(" --store {store}")).unwrap_or_default();
    let mut message = format!(
        "secrets[{index}]: ServiceAccount {}/{} may not use {} of team {team}: `daypass secret grant {} -n {team}{store} --to-serviceaccount {}/{}`",
        run.namespace,
        run.service_account,
        reference.access_name(),
        reference.name,
        run.namespace,
        run.service_account
    );
    if !team_set_up {
        message.push_str(" (the team was never set up: `daypass store init -n ");
        message.push_str(team);
        message.push_str("` grants its own ServiceAccounts)");
    }
    Problem { reference: Some(index), reason: Reason::AccessDenied, message, waits: false }
}
