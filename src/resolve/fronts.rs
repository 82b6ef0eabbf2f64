//! The fronts of all stores that were asked for, kept for as long as their objects say the same.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use super::front::Front;
use crate::api::TeamSecretStoreSpec;
use crate::metrics::Metrics;
use crate::stores::StoreError;
use crate::stores::open::Opener;

/// How many bytes the values of all stores together may take in memory.
const MOST_BYTES: usize = 128 * 1024 * 1024;

/// Team and store.
pub type Key = (String, String);

/// A store that can be asked, or why it cannot.
pub type Opened = Result<Arc<Front>, StoreError>;

/// All fronts, by team and store.
pub struct Fronts {
    opener: Opener,
    metrics: Arc<Metrics>,
    /// How many runs wait for any store.
    waiting: Arc<AtomicUsize>,
    open: Mutex<HashMap<Key, (TeamSecretStoreSpec, Opened)>>,
}

impl Fronts {
    /// None is open yet.
    pub fn new(opener: Opener, metrics: Arc<Metrics>) -> Self {
        Self { opener, metrics, waiting: Arc::default(), open: Mutex::default() }
    }

    /// The front of a store that has this spec now. Another spec is another store: nothing of the old one is kept.
    pub fn of(&self, team: &str, name: &str, spec: &TeamSecretStoreSpec) -> Opened {
        // A revocation changes what is refused, not where values come from.
        let spec = TeamSecretStoreSpec { revoked: Vec::new(), ..spec.clone() };
        let key = (team.to_owned(), name.to_owned());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, opened)) = open.get(&key).filter(|(old, _)| *old == spec) {
            return opened.clone();
        }
        let opened = self.opener.open(team, &spec).map(|store| {
            let kind = spec.backend().unwrap_or(crate::api::BackendKind::Sealed);
            Arc::new(Front::new(store, kind, &spec, &key, self.waiting.clone(), self.metrics.clone()))
        });
        open.insert(key, (spec, opened.clone()));
        opened
    }

    /// The front of a store that was asked for before.
    pub fn known(&self, team: &str, name: &str) -> Option<Arc<Front>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&(team.to_owned(), name.to_owned())).and_then(|(_, opened)| opened.clone().ok())
    }

    /// Forgets the stores that are gone, drops what is too old, and gives the bytes that all values take.
    pub fn housekeep(&self, live: &HashSet<Key>) -> usize {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|key, _| live.contains(key) || crate::stores::open::undescribed(&key.1).is_some());
        let fronts = open.values().filter_map(|(_, opened)| opened.as_ref().ok());
        let mut sizes: Vec<_> = fronts.map(|front| (front.housekeep(), front)).collect();
        let mut all: usize = sizes.iter().map(|(bytes, _)| bytes).sum();
        // The largest go first: a team of many stores gives way before one of a few secrets.
        sizes.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        for (bytes, front) in sizes {
            if all <= MOST_BYTES {
                break;
            }
            front.flush(None);
            all -= bytes;
        }
        all
    }
}
