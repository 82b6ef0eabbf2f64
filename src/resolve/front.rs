//! In front of one store: a value that many runs ask for is read once, and a store that fails harms nobody else.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::cache::{Cache, Learnt, Shared};
use super::gate::{Breaker, Gate};
use crate::api::{BackendKind, TeamSecretStoreSpec};
use crate::metrics::Metrics;
use crate::stores::{Listed, Query, SecretStore, Stage, StoreError};

/// How long a value is used before the backend is asked again, in seconds, unless the store says otherwise.
const TTL: i64 = 30;
/// How long a missing secret counts as missing.
const MISSING: Duration = Duration::from_secs(5);
/// How many bytes a version's name has at most.
const LONGEST_VERSION: usize = 256;
/// How many bytes one store's values may take in memory.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// How long a backend may take for one question.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long a run waits for it. The question goes on, and its answer is there when the run asks again.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many runs wait for one store at most, and for all stores together: others are told at once, and ask again. It is
/// well below what the controller works on at a time, so that stores which hang leave room for all other runs.
pub const WAITING: (usize, usize) = (96, 288);

/// What a run gets.
#[derive(Clone)]
pub struct Served {
    /// The value and its version.
    pub shared: Shared,
    /// It is older than the store's TTL, and served because the backend fails.
    pub stale: bool,
}

type Outcome = Result<Served, StoreError>;

/// What a backend tells of a team's names.
#[derive(Debug)]
pub enum Listing {
    /// All of them.
    Names(Vec<Listed>),
    /// It has no such call; the text says so.
    Unsupported(String),
    /// It refuses to list. Reads may be allowed all the same, as least privilege would have it.
    Denied(String),
}

/// One question that is under way.
struct Flight {
    number: u64,
    outcome: watch::Receiver<Option<Outcome>>,
}

struct State {
    cache: Cache,
    flights: HashMap<Query, Flight>,
    /// The newest version that was seen of each name.
    newest: HashMap<String, Arc<str>>,
    flown: u64,
    waiting: usize,
}

/// What stands in front of one store.
pub struct Front {
    store: Arc<dyn SecretStore>,
    kind: BackendKind,
    gate: Gate,
    ttl: Duration,
    stale: Duration,
    state: Mutex<State>,
    /// How many runs wait for any store.
    waiting: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl Front {
    /// The front of a store. `seed` spreads its waits from those of others; `waiting` is shared by all fronts.
    pub fn new(
        store: Arc<dyn SecretStore>,
        kind: BackendKind,
        spec: &TeamSecretStoreSpec,
        seed: impl std::hash::Hash,
        waiting: Arc<AtomicUsize>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let seconds = |seconds: Option<i64>| Duration::from_secs(seconds.and_then(|s| s.try_into().ok()).unwrap_or(0));
        let cache = spec.cache.as_ref();
        Self {
            store,
            kind,
            gate: Gate::new(spec.rate_limit.as_ref(), seed),
            ttl: seconds(Some(cache.and_then(|cache| cache.ttl_seconds).unwrap_or(TTL))),
            stale: seconds(cache.and_then(|cache| cache.stale_if_error_seconds)),
            state: Mutex::new(State {
                cache: Cache::new(MOST_BYTES),
                flights: HashMap::new(),
                newest: HashMap::new(),
                flown: 0,
                waiting: 0,
            }),
            waiting,
            metrics,
        }
    }

    /// Where the breaker stands.
    pub fn breaker(&self) -> Breaker {
        self.gate.breaker()
    }

    /// The values of all `queries`, in their order: from memory, from a question that is under way, or by one that is
    /// asked now.
    pub async fn get_many(self: &Arc<Self>, queries: &[Query]) -> Vec<Result<Served, StoreError>> {
        // The sealed store is the API server itself, which needs no protection from itself, and whose rotations hold
        // at once: nothing of it is kept.
        if self.kind == BackendKind::Sealed {
            let answers = self.question(queries).await;
            return answers.into_iter().map(|answer| answer.map(|shared| Served { shared, stale: false })).collect();
        }
        let (known, waits) = self.look(&mut self.lock(), queries);
        let _waiting = (!waits.is_empty()).then(|| Waiting::new(self));
        let deadline = Instant::now() + PATIENCE;
        let mut answers = Vec::with_capacity(queries.len());
        for query in queries {
            answers.push(match (known.get(query), waits.get(query)) {
                (Some(outcome), _) => outcome.clone(),
                (None, Some(outcome)) => match tokio::time::timeout_at(deadline, told(outcome.clone())).await {
                    Ok(outcome) => outcome,
                    Err(_) => self.older(&self.lock(), query, silent(PATIENCE)),
                },
                // Every query was looked at.
                (None, None) => Err(silent(Duration::ZERO)),
            });
        }
        answers
    }

    /// What is known, and which questions are under way for the rest; those that nobody has asked start now.
    #[expect(clippy::type_complexity, reason = "two maps by the same key")]
    fn look(
        self: &Arc<Self>,
        state: &mut State,
        queries: &[Query],
    ) -> (HashMap<Query, Outcome>, HashMap<Query, watch::Receiver<Option<Outcome>>>) {
        let now = Instant::now();
        let full = state.waiting >= WAITING.0 || self.waiting.load(Ordering::Relaxed) >= WAITING.1;
        let mut known = HashMap::new();
        let mut waits = HashMap::new();
        let mut asked = Vec::new();
        for query in queries {
            if let Some(learnt) = state.cache.get(query, now, self.ttl, MISSING.min(self.ttl)) {
                let outcome = match learnt {
                    Learnt::Value(shared) => Ok(Served { shared: shared.clone(), stale: false }),
                    Learnt::Missing(text) => Err(StoreError::NotFound(text.to_string())),
                };
                known.insert(query.clone(), outcome);
                self.metrics.cache_answered(true);
            } else if full {
                let many = StoreError::unavailable(Stage::Answer, "many runs wait for the backend already");
                known.insert(query.clone(), self.older(state, query, many));
            // A question whose task has ended without a word will never be answered.
            } else if let Some(flight) = state.flights.get(query).filter(|flight| flight.outcome.has_changed().is_ok())
            {
                waits.insert(query.clone(), flight.outcome.clone());
            } else if !asked.contains(query) {
                asked.push(query.clone());
            }
        }
        if !asked.is_empty() {
            state.flown += 1;
            let mut told = Vec::new();
            for query in &asked {
                self.metrics.cache_answered(false);
                let (sender, outcome) = watch::channel(None);
                waits.insert(query.clone(), outcome.clone());
                if !self.ttl.is_zero() {
                    let flight = Flight { number: state.flown, outcome };
                    state.flights.insert(query.clone(), flight);
                }
                told.push(sender);
            }
            // A task of its own: whoever gives up, the others get their answer.
            tokio::spawn(self.clone().fly(state.flown, asked, told));
        }
        (known, waits)
    }

    /// What the backend as such stands in the way of: an older value, where the store lets that serve.
    fn older(&self, state: &State, query: &Query, error: StoreError) -> Outcome {
        match state.cache.get(query, Instant::now(), self.ttl + self.stale, Duration::ZERO) {
            Some(Learnt::Value(shared)) if !self.stale.is_zero() => Ok(Served { shared: shared.clone(), stale: true }),
            _ => Err(error),
        }
    }

    async fn fly(self: Arc<Self>, number: u64, queries: Vec<Query>, told: Vec<watch::Sender<Option<Outcome>>>) {
        let answers = self.ask(&queries).await;
        let now = Instant::now();
        let mut state = self.lock();
        for ((query, answer), told) in queries.into_iter().zip(answers).zip(told) {
            // A flush in between has taken the flight away: its answer may be from before the change.
            let current = state.flights.get(&query).is_some_and(|flight| flight.number == number);
            if current {
                state.flights.remove(&query);
            }
            let outcome = match answer {
                Ok(shared) => {
                    if query.version.is_none() && (current || self.ttl.is_zero()) {
                        state.newest.insert(query.name.clone(), shared.version.clone());
                    }
                    if current {
                        state.cache.insert(query, Learnt::Value(shared.clone()), now);
                    }
                    Ok(Served { shared, stale: false })
                }
                Err(error) if error.is_of_backend() => self.older(&state, &query, error),
                Err(error) => {
                    state.cache.remove(&query);
                    if let (StoreError::NotFound(text), true) = (&error, current) {
                        state.cache.insert(query, Learnt::Missing(text.as_str().into()), now);
                    }
                    Err(error)
                }
            };
            told.send_replace(Some(outcome));
        }
    }

    /// Asks the backend, as its gate allows.
    async fn ask(&self, queries: &[Query]) -> Vec<Result<Shared, StoreError>> {
        let pass = match self.gate.enter(queries.len()).await {
            Ok(pass) => pass,
            Err(error) => return queries.iter().map(|_| Err(error.clone())).collect(),
        };
        let answers = self.question(queries).await;
        let trouble = answers.iter().find_map(|answer| answer.as_ref().err().filter(|error| error.is_of_backend()));
        pass.tell(trouble);
        answers
    }

    /// Asks the backend, within its deadline.
    async fn question(&self, queries: &[Query]) -> Vec<Result<Shared, StoreError>> {
        let asked = Instant::now();
        let answers = match tokio::time::timeout(DEADLINE, self.store.get_many(queries)).await {
            Ok(answers) => answers.into_iter().map(|answer| answer.and_then(share)).collect(),
            Err(_) => queries.iter().map(|_| Err(silent(DEADLINE))).collect(),
        };
        self.metrics.resolve_took(self.kind.as_str(), asked.elapsed());
        answers
    }

    /// Walks up to the backend: signs in, then lists.
    ///
    /// # Errors
    /// What is in the way, and how far it was.
    pub async fn check(&self) -> Result<Listing, StoreError> {
        let pass = self.gate.enter(1).await?;
        let walk = async {
            self.store.sign_in().await?;
            match self.store.list().await {
                Ok(names) => Ok(Listing::Names(names)),
                Err(StoreError::Unsupported(why)) => Ok(Listing::Unsupported(why)),
                Err(StoreError::Denied(why)) => Ok(Listing::Denied(why)),
                Err(error) => Err(error),
            }
        };
        let walked = tokio::time::timeout(DEADLINE, walk).await.unwrap_or_else(|_| Err(silent(DEADLINE)));
        pass.tell(walked.as_ref().err().filter(|error| error.is_of_backend()));
        walked
    }

    /// The newest version that was seen of a name.
    pub fn newest(&self, name: &str) -> Option<Arc<str>> {
        self.lock().newest.get(name).cloned()
    }

    /// Forgets a name, or all: whoever asks from now on gets what the backend says from now on.
    pub fn flush(&self, name: Option<&str>) {
        self.store.forget();
        let mut state = self.lock();
        state.cache.flush(name);
        state.flights.retain(|query, _| name.is_some_and(|name| query.name != name));
    }

    /// Drops what nobody may be served any more, and gives the bytes that are left.
    pub fn housekeep(&self) -> usize {
        let mut state = self.lock();
        state.cache.expire(Instant::now(), self.ttl + self.stale);
        state.cache.bytes()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run that waits, for as long as it does.
struct Waiting<'a>(&'a Front);

impl<'a> Waiting<'a> {
    fn new(front: &'a Front) -> Self {
        front.lock().waiting += 1;
        front.waiting.fetch_add(1, Ordering::Relaxed);
        Self(front)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn share(fetched: crate::stores::Fetched) -> Result<Shared, StoreError> {
    // It stands in objects, which have room for so much.
    if fetched.version.len() > LONGEST_VERSION {
        return Err(StoreError::Malformed(format!("its version has more than {LONGEST_VERSION} bytes")));
    }
    Ok(Shared { value: Arc::new(fetched.value), version: fetched.version.into() })
}

async fn told(mut outcome: watch::Receiver<Option<Outcome>>) -> Outcome {
    match outcome.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(silent(Duration::ZERO))),
        // The task ended without an answer: it panicked, or the process is ending.
        Err(_) => Err(StoreError::unavailable(Stage::Answer, "the question for it broke off")),
    }
}

fn silent(after: Duration) -> StoreError {
    StoreError::unavailable(Stage::Answer, format!("no answer within {} s", after.as_secs()))
}

#[cfg(test)]
mod tests;
