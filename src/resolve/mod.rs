//! From the references of a run to values: authorization first, then memory and the stores, all or nothing.

mod authorize;
pub mod cache;
mod deliverable;
pub mod front;
mod fronts;
pub mod gate;
mod problem;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures::future::join_all;
use kube::Client;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::watch;

pub use authorize::Authorizer;
pub use fronts::Opened;

use self::deliverable::Fault;
use self::front::Served;
use self::fronts::Fronts;
use self::problem::Place;
use crate::api::{BackendKind, TeamSecretStore, TeamSecretStoreSpec};
use crate::kube_ext::CallError;
use crate::metrics::Metrics;
use crate::run::{Problem, Resolution, Run};
use crate::secret::SecretValue;
use crate::stores::open::{Opener, undescribed};
use crate::stores::sealed::{Health, KeyState};
use crate::stores::{Query, StoreError};

/// The answer for one run: what the plan may know, and the values that it may not.
pub struct Resolved {
    /// For the plan.
    pub resolution: Resolution,
    /// Per reference the value; none where it is absent and optional. Empty where anything stands in the way.
    pub values: Vec<Option<SecretValue>>,
    /// The references whose value is older than its store's TTL, because the store fails.
    pub stale: Vec<usize>,
}

/// Resolves references.
pub struct Resolver {
    authorizer: Authorizer,
    stores: Store<TeamSecretStore>,
    fronts: Fronts,
    keys: watch::Receiver<KeyState>,
    metrics: Arc<Metrics>,
}

impl Resolver {
    /// A resolver over a watched list of stores and the live keys of the sealed store.
    pub fn new(
        client: Client,
        stores: Store<TeamSecretStore>,
        keys: watch::Receiver<KeyState>,
        opener: Opener,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            authorizer: Authorizer::new(client, metrics.clone()),
            stores,
            fronts: Fronts::new(opener, metrics.clone()),
            keys,
            metrics,
        }
    }

    /// What is wrong with the sealed store's keys, if anything.
    pub fn key_trouble(&self) -> Option<String> {
        match &self.keys.borrow().health {
            Health::Ready => None,
            Health::Waiting(message) | Health::KeyLost(message) => Some(message.clone()),
        }
    }

    /// Asks for all secrets of a run. Every problem that can be known is in the answer, not just the first.
    ///
    /// # Errors
    /// The API server could not be asked for the run's rights: nothing is known then.
    pub async fn resolve(&self, run: &Run) -> Result<Resolved, CallError> {
        let mut problems = Vec::new();
        let mut allowed = Vec::new();
        for (index, reference) in run.references.iter().enumerate() {
            let team = reference.team(&run.namespace);
            let access = reference.access_name();
            if self.authorizer.may_use(&run.namespace, &run.service_account, team, &access).await? {
                allowed.push(index);
            } else {
                let stores = self.stores.state();
                let set_up = stores.iter().any(|store| store.metadata.namespace.as_deref() == Some(team));
                problems.push(problem::denied(run, index, reference, set_up));
            }
        }
        let mut values: Vec<Option<SecretValue>> = run.references.iter().map(|_| None).collect();
        let mut versions: Vec<Option<String>> = vec![None; run.references.len()];
        let mut stale = Vec::new();
        // All stores at once: none waits for another.
        let asked = by_store(run, &allowed).into_iter().map(async |(key, indexes)| {
            let answers = self.ask(run, &key.0, &key.1, &indexes).await;
            (key, indexes, answers)
        });
        for ((team, store), indexes, answers) in join_all(asked).await {
            let (kind, answers) = match answers {
                Ok(answers) => answers,
                Err(problem) => {
                    problems.push(problem);
                    continue;
                }
            };
            let place = Place { team: &team, store: &store, kind };
            let mut store_told = false;
            for (index, answer) in indexes.into_iter().zip(answers) {
                let reference = &run.references[index];
                self.metrics.resolved(kind.as_str(), outcome(&answer));
                let delivered = answer.map_err(Fault::from).and_then(|Served { shared, stale }| {
                    deliverable::deliverable(reference, &shared.value, run.delivery)
                        .map(|value| (value, shared.version, stale))
                });
                match delivered {
                    Ok((value, version, old)) => {
                        values[index] = Some(value);
                        versions[index] = Some(version.to_string());
                        stale.extend(old.then_some(index));
                    }
                    Err(Fault::Store(StoreError::NotFound(_))) if reference.optional => {}
                    Err(Fault::Store(error)) if error.is_of_backend() => {
                        if !store_told {
                            problems.push(problem::of_store(place, &error));
                        }
                        store_told = true;
                    }
                    Err(fault) => problems.push(problem::of_reference(run, index, place, &fault)),
                }
            }
        }
        problems.extend(deliverable::fits_together(&values));
        if problems.is_empty() {
            return Ok(Resolved { resolution: Resolution::Ready(versions), values, stale });
        }
        problems.sort_by_key(|problem| problem.reference);
        Ok(Resolved { resolution: Resolution::Problems(problems), values: Vec::new(), stale: Vec::new() })
    }

    async fn ask(
        &self,
        run: &Run,
        team: &str,
        store: &str,
        indexes: &[usize],
    ) -> Result<(BackendKind, Vec<Result<Served, StoreError>>), Problem> {
        let spec = self.spec(team, store).ok_or_else(|| problem::no_store(team, store))?;
        let kind = spec.backend().unwrap_or(BackendKind::Sealed);
        let front = match self.fronts.of(team, store, &spec) {
            Ok(front) => front,
            Err(error) => return Err(problem::of_store(Place { team, store, kind }, &error)),
        };
        let queries: Vec<Query> = indexes
            .iter()
            .map(|&index| Query {
                name: run.references[index].name.clone(),
                version: run.references[index].version.clone(),
            })
            .collect();
        Ok((kind, front.get_many(&queries).await))
    }

    fn spec(&self, team: &str, store: &str) -> Option<TeamSecretStoreSpec> {
        match self.stores.get(&ObjectRef::new(store).within(team)) {
            Some(object) => Some(object.spec.clone()),
            None => undescribed(store),
        }
    }

    /// What stands in front of a store, for its own status.
    pub fn front(&self, team: &str, store: &str, spec: &TeamSecretStoreSpec) -> Opened {
        self.fronts.of(team, store, spec)
    }

    /// The newest version that was seen of a secret of a store that keeps its values elsewhere.
    pub fn newest(&self, team: &str, store: &str, name: &str) -> Option<Arc<str>> {
        self.fronts.known(team, store)?.newest(name)
    }

    /// Forgets what is known of a secret, or of all of a store.
    pub fn flush(&self, team: &str, store: &str, name: Option<&str>) {
        if let Some(front) = self.fronts.known(team, store) {
            front.flush(name);
        }
    }

    /// Drops what nobody may be served any more.
    pub fn housekeep(&self) {
        let live: HashSet<_> = self
            .stores
            .state()
            .iter()
            .map(|store| {
                (store.metadata.namespace.clone().unwrap_or_default(), store.metadata.name.clone().unwrap_or_default())
            })
            .collect();
        self.metrics.cached(self.fronts.housekeep(&live));
    }
}

/// The allowed references by team and store, in order.
fn by_store(run: &Run, allowed: &[usize]) -> BTreeMap<(String, String), Vec<usize>> {
    let mut groups: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
    for &index in allowed {
        let reference = &run.references[index];
        let key = (reference.team(&run.namespace).to_owned(), reference.store().to_owned());
        groups.entry(key).or_default().push(index);
    }
    groups
}

/// The metrics' word for an answer.
fn outcome(answer: &Result<Served, StoreError>) -> &'static str {
    match answer {
        Ok(_) => "value",
        Err(StoreError::NotFound(_)) => "not_found",
        Err(StoreError::Denied(_)) => "denied",
        Err(StoreError::Throttled { .. } | StoreError::Limited) => "throttled",
        Err(StoreError::Unavailable { .. }) => "unavailable",
        Err(StoreError::Malformed(_) | StoreError::Conflict(_)) => "malformed",
        Err(StoreError::Unsupported(_)) => "unsupported",
        Err(StoreError::KeyLost(_)) => "key_lost",
    }
}
