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
        let mut sizes = HashMap::new();
        for (key, (_, opened)) in open.iter() {
            if let Ok(front) = opened {
                sizes.insert(key.clone(), front.housekeep());
            }
        }
        for key in give_way(&mut sizes, MOST_BYTES) {
            if let Some((_, Ok(front))) = open.get(&key) {
                front.flush(None);
            }
        }
        sizes.values().sum()
    }
}

/// Takes stores away until the others fit: each time the largest one of the team that has the most, so that a team of
/// many stores gives way before one of a few secrets.
fn give_way(sizes: &mut HashMap<Key, usize>, most: usize) -> Vec<Key> {
    let mut gone = Vec::new();
    while sizes.values().sum::<usize>() > most {
        let mut teams: HashMap<&str, usize> = HashMap::new();
        for ((team, _), bytes) in &*sizes {
            *teams.entry(team).or_default() += bytes;
        }
        let largest = sizes.iter().max_by_key(|(key, bytes)| (teams[key.0.as_str()], **bytes, *key));
        let Some(key) = largest.map(|(key, _)| key.clone()) else { break };
        sizes.remove(&key);
        gone.push(key);
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(stores: &[(&str, &[usize])], most: usize) -> Vec<(String, usize)> {
        let mut sizes = HashMap::new();
        for (team, bytes) in stores {
            sizes.extend(bytes.iter().enumerate().map(|(n, bytes)| (((*team).to_owned(), n.to_string()), *bytes)));
        }
        give_way(&mut sizes, most);
        let mut left: Vec<_> = sizes.into_iter().map(|((team, _), bytes)| (team, bytes)).collect();
        left.sort();
        left
    }

    fn of(expected: &[(&str, usize)]) -> Vec<(String, usize)> {
        expected.iter().map(|(team, bytes)| ((*team).to_owned(), *bytes)).collect()
    }

    #[test]
    fn the_team_that_has_the_most_gives_way_first() {
        let many = ("many", [31; 5].as_slice());
        assert_eq!(left(&[many, ("one", &[32])], 128), of(&[("many", 31), ("many", 31), ("many", 31), ("one", 32)]));
        // Only as long as it has the most.
        assert_eq!(left(&[("a", &[40, 30, 20]), ("b", &[45, 10])], 80), of(&[("a", 20), ("a", 30), ("b", 10)]));
        assert_eq!(left(&[many, ("one", &[32])], 187).len(), 6, "what fits stays");
        assert!(left(&[many], 0).is_empty());
    }
}
