//! Values that were read a moment ago, bounded in bytes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::secret::SecretValue;
use crate::stores::Query;

/// What an entry costs beside its value and names: the map's and the queue's own room.
const OVERHEAD: usize = 160;

/// A value and its version, shared by all runs that wait for it.
#[derive(Clone)]
pub struct Shared {
    /// All of the value.
    pub value: Arc<SecretValue>,
    /// The version that it is.
    pub version: Arc<str>,
}

/// What was learnt of one secret.
#[derive(Clone)]
pub enum Learnt {
    /// It is there.
    Value(Shared),
    /// It is not; the text says so.
    Missing(Arc<str>),
}

struct Entry {
    learnt: Learnt,
    at: Instant,
    stamp: u64,
    bytes: usize,
}

/// What was learnt of one store's secrets. The oldest goes first where the bytes run out; a value that goes is wiped as
/// soon as no run holds it any more.
pub struct Cache {
    entries: HashMap<Arc<Query>, Entry>,
    /// In the order of their making. A pair whose stamp is not the entry's has been replaced.
    order: VecDeque<(Arc<Query>, u64)>,
    bytes: usize,
    most: usize,
    stamp: u64,
}

impl Cache {
    /// A cache of at most that many bytes.
    pub fn new(most: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), bytes: 0, most, stamp: 0 }
    }

    /// What was learnt no longer ago than `age`; about a missing secret no longer than `missing`.
    pub fn get(&self, query: &Query, now: Instant, age: Duration, missing: Duration) -> Option<&Learnt> {
        let entry = self.entries.get(query)?;
        let limit = if matches!(entry.learnt, Learnt::Value(_)) { age } else { missing };
        (now.duration_since(entry.at) < limit).then_some(&entry.learnt)
    }

    /// Keeps what was learnt just now.
    pub fn insert(&mut self, query: Query, learnt: Learnt, now: Instant) {
        self.remove(&query);
        let content = match &learnt {
            Learnt::Value(shared) => shared.value.expose().len() + shared.version.len(),
            Learnt::Missing(text) => text.len(),
        };
        let bytes = content + query.name.len() + query.version.as_ref().map_or(0, String::len) + OVERHEAD;
        if bytes > self.most {
            return;
        }
        while self.bytes + bytes > self.most {
            match self.order.pop_front() {
                Some((oldest, stamp)) => self.remove_if(&oldest, stamp),
                None => break,
            }
        }
        self.stamp += 1;
        self.bytes += bytes;
        let query = Arc::new(query);
        self.order.push_back((query.clone(), self.stamp));
        self.entries.insert(query, Entry { learnt, at: now, stamp: self.stamp, bytes });
        // Replaced ones leave their place in the queue behind.
        if self.order.len() > 2 * self.entries.len() + 16 {
            let entries = &self.entries;
            self.order.retain(|(query, stamp)| entries.get(query).is_some_and(|entry| entry.stamp == *stamp));
        }
    }

    /// Forgets one secret.
    pub fn remove(&mut self, query: &Query) {
        if let Some(entry) = self.entries.remove(query) {
            self.bytes -= entry.bytes;
        }
    }

    /// Forgets all versions of a name; of all names where none is given.
    pub fn flush(&mut self, name: Option<&str>) {
        self.keep(|query, _| name.is_some_and(|name| query.name != name));
    }

    /// Forgets what is older than `age`.
    pub fn expire(&mut self, now: Instant, age: Duration) {
        self.keep(|_, at| now.duration_since(at) < age);
    }

    fn keep(&mut self, keep: impl Fn(&Query, Instant) -> bool) {
        self.entries.retain(|query, entry| keep(query, entry.at));
        self.bytes = self.entries.values().map(|entry| entry.bytes).sum();
        let entries = &self.entries;
        self.order.retain(|(query, stamp)| entries.get(query).is_some_and(|entry| entry.stamp == *stamp));
    }

    /// How many bytes are held.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn remove_if(&mut self, query: &Query, stamp: u64) {
        if self.entries.get(query).is_some_and(|entry| entry.stamp == stamp) {
            self.remove(query);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str) -> Query {
        Query { name: name.into(), version: None }
    }

    fn value(bytes: usize) -> Learnt {
        Learnt::Value(Shared { value: Arc::new(SecretValue::new(vec![b'x'; bytes])), version: "1".into() })
    }

    fn has(cache: &Cache, name: &str, now: Instant) -> bool {
        cache.get(&query(name), now, Duration::from_secs(30), Duration::from_secs(5)).is_some()
    }

    #[tokio::test]
    async fn the_oldest_goes_first_and_the_bytes_are_kept() {
        let now = Instant::now();
        let mut cache = Cache::new(3 * (100 + 2 + OVERHEAD));
        for name in ["A", "B", "C"] {
            cache.insert(query(name), value(100), now);
        }
        // Made anew: now B is the oldest.
        cache.insert(query("A"), value(100), now);
        cache.insert(query("D"), value(100), now);
        assert!(has(&cache, "A", now) && has(&cache, "C", now) && has(&cache, "D", now));
        assert!(!has(&cache, "B", now));
        assert!(cache.bytes() <= 3 * (100 + 2 + OVERHEAD));
        cache.insert(query("E"), value(10_000), now);
        assert!(!has(&cache, "E", now), "one that fits nowhere pushes nothing out");
        assert!(has(&cache, "D", now));
        cache.flush(None);
        assert_eq!((cache.bytes(), cache.order.len()), (0, 0));
    }

    #[tokio::test]
    async fn a_flush_takes_all_versions_of_a_name() {
        let now = Instant::now();
        let mut cache = Cache::new(10_000);
        let pinned = Query { name: "A".into(), version: Some("1".into()) };
        cache.insert(query("A"), value(1), now);
        cache.insert(pinned.clone(), value(1), now);
        cache.insert(query("B"), value(1), now);
        cache.flush(Some("A"));
        assert!(!has(&cache, "A", now) && has(&cache, "B", now));
        assert!(cache.get(&pinned, now, Duration::MAX, Duration::MAX).is_none());
    }

    #[tokio::test]
    async fn what_is_missing_is_kept_for_less_long() {
        let now = Instant::now();
        let mut cache = Cache::new(10_000);
        cache.insert(query("A"), value(1), now);
        cache.insert(query("B"), Learnt::Missing("no".into()), now);
        let later = now + Duration::from_secs(6);
        assert!(has(&cache, "A", later) && !has(&cache, "B", later));
        assert!(!has(&cache, "A", now + Duration::from_secs(30)));
        cache.expire(now + Duration::from_secs(31), Duration::from_secs(30));
        assert_eq!(cache.bytes(), 0);
    }

    #[tokio::test]
    async fn the_queue_does_not_grow_with_replacements() {
        let now = Instant::now();
        let mut cache = Cache::new(10_000);
        for _ in 0..1000 {
            cache.insert(query("A"), value(1), now);
        }
        assert!(cache.order.len() < 32, "{}", cache.order.len());
    }
}
