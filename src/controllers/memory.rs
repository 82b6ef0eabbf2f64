//! What this process knows of each run from its own calls. Lost with the process: a plan never depends on it alone.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::{Condition, EvalJobStatus, Reason};
use crate::run::{Facts, SecretFact, State};

/// What is known of one run.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Remembered {
    /// What a plan may use.
    pub facts: Facts,
    /// When this process first looked at the run.
    pub first_look: Option<Timestamp>,
    /// The run Secret's UID, from the answer to its creation.
    pub secret_uid: Option<String>,
    /// The state that this process last wrote: newer than what a watch may show.
    pub reported: Option<State>,
    /// The resource version that the watch showed when this process wrote, and the one that the write gave.
    pub written: Option<(String, String)>,
    /// The Pod was seen by the watch: from now on its absence there counts.
    pub pod_watched: bool,
    /// The Pod's creation was sent, and its answer lost: it may be there.
    pub pod_uncertain: bool,
    /// Something that is not ours stands under the Pod's name.
    pub pod_foreign: bool,
    /// The gate of the Pod was lifted by this process.
    pub gate_lifted: bool,
    /// Of an evaluation: the status that this process last wrote.
    pub evaluation: Option<Box<EvalJobStatus>>,
    /// The conditions that this process last wrote.
    pub conditions: Option<Vec<Condition>>,
    /// The outcome of the last audited resolution.
    pub audited: Option<Reason>,
    /// Failures in a row.
    pub failures: u32,
}

/// The memory of all runs, by the UID of their object.
#[derive(Default)]
pub struct Memory {
    runs: Mutex<HashMap<String, Remembered>>,
    /// Objects that were there when this process began to lead: others may have worked on them.
    inherited: Mutex<Option<HashSet<String>>>,
}

impl Remembered {
    /// The version that a write of the status is for, where the watch shows `watched`: what this process wrote since is
    /// newer than that.
    pub fn version_to_write<'a>(&'a self, watched: &'a str) -> &'a str {
        match &self.written {
            Some((seen, written)) if seen == watched => written,
            _ => watched,
        }
    }
}

impl Memory {
    /// Notes which objects were there before this process led. Later lists say nothing about that.
    pub fn inherit(&self, uids: HashSet<String>) {
        self.inherited.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(uids);
    }

    /// Whether the first list is in.
    pub fn is_ready(&self) -> bool {
        self.inherited.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// What is known of a run.
    pub fn of(&self, uid: &str) -> Remembered {
        if let Some(known) = self.runs.lock().unwrap_or_else(PoisonError::into_inner).get(uid) {
            return known.clone();
        }
        let fresh = self.is_fresh(uid);
        let secret = if fresh { SecretFact::NotMade } else { SecretFact::Unknown };
        Remembered { facts: Facts { secret, fresh, ..Facts::default() }, ..Remembered::default() }
    }

    /// What is known of a part of an object: one attempt of a benchmark.
    pub fn of_part(&self, uid: &str, part: &str) -> Remembered {
        let known = self.runs.lock().unwrap_or_else(PoisonError::into_inner).get(&format!("{uid}/{part}")).cloned();
        // As fresh as its object: a part that is not known says nothing of what others have made.
        known.unwrap_or_else(|| {
            let fresh = self.is_fresh(uid);
            let secret = if fresh { SecretFact::NotMade } else { SecretFact::Unknown };
            Remembered { facts: Facts { secret, fresh, ..Facts::default() }, ..Remembered::default() }
        })
    }

    /// What is known of the Secret of a run, or of a part's; none where this process has not looked at it.
    pub fn secret(&self, uid: &str, part: Option<&str>) -> Option<SecretFact> {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match part {
            Some(part) => runs.get(&format!("{uid}/{part}")),
            None => runs.get(uid),
        };
        known.map(|known| known.facts.secret)
    }

    /// Keeps what was learnt of a part.
    pub fn keep_part(&self, uid: &str, part: &str, known: Remembered) {
        self.keep(&format!("{uid}/{part}"), known);
    }

    /// Forgets all parts of an object.
    pub fn forget_parts(&self, uid: &str) {
        let prefix = format!("{uid}/");
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| !key.starts_with(&prefix));
    }

    /// Keeps what was learnt.
    pub fn keep(&self, uid: &str, known: Remembered) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.into(), known);
    }

    /// Until the first list is in, everything may be inherited.
    fn is_fresh(&self, uid: &str) -> bool {
        let inherited = self.inherited.lock().unwrap_or_else(PoisonError::into_inner);
        inherited.as_ref().is_some_and(|uids| !uids.contains(uid))
    }

    /// Forgets a run.
    pub fn forget(&self, uid: &str) -> Option<Remembered> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(uid)
    }

    /// Forgets every run whose object is gone. Asked while nothing can be added: what is kept was listed before.
    pub fn retain(&self, live: impl FnOnce() -> HashSet<String>) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let live = live();
        runs.retain(|key, _| live.contains(key.split('/').next().unwrap_or(key)));
    }

    /// How long to wait after another failure: 1 s doubling to 5 min, spread by up to a quarter.
    pub fn back_off(&self, uid: &str) -> Duration {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let known = runs.entry(uid.into()).or_default();
        known.failures = known.failures.saturating_add(1);
        back_off(known.failures, uid)
    }
}

fn back_off(failures: u32, uid: &str) -> Duration {
    let base = Duration::from_secs(1 << failures.saturating_sub(1).min(8)).min(Duration::from_secs(300));
    let spread = uid.bytes().fold(failures, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte))) % 256;
    base + base * spread / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_appeared_under_this_leader_is_fresh() {
        let memory = Memory::default();
        assert!(!memory.of("a").facts.fresh, "before the first list nothing is known");
        memory.inherit(["a".to_owned()].into());
        memory.inherit(["b".to_owned()].into());
        assert_eq!(memory.of("a").facts.secret, SecretFact::Unknown);
        assert!(memory.of("b").facts.fresh);
        assert_eq!(memory.of("b").facts.secret, SecretFact::NotMade);
    }

    #[test]
    fn the_back_off_doubles_and_is_bounded() {
        let steps: Vec<u64> = [1, 2, 3, 9, 30].into_iter().map(|n| back_off(n, "uid").as_secs()).collect();
        assert!((1..=2).contains(&steps[0]) && (2..=3).contains(&steps[1]) && (4..=5).contains(&steps[2]));
        assert!(steps[3] >= 256 && steps[4] <= 375, "{steps:?}");
    }
}
