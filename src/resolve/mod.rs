//! From the references of a run to values: authorization first, then the stores, all or nothing.

mod authorize;
mod deliverable;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::watch;

pub use authorize::Authorizer;

use self::deliverable::Fault;
use crate::api::names::DEFAULT_STORE;
use crate::api::{BackendKind, Reason, SecretReference, TeamSecretStore};
use crate::kube_ext::CallError;
use crate::metrics::Metrics;
use crate::run::{Problem, Resolution, Run};
use crate::secret::SecretValue;
use crate::stores::sealed::{Health, KeyState, SealedStore};
use crate::stores::{Query, SecretStore, StoreError};

/// How long all stores of one run together may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// The answer for one run: what the plan may know, and the values that it may not.
pub struct Resolved {
    /// For the plan.
    pub resolution: Resolution,
    /// Per reference the value; none where it is absent and optional. Empty where anything stands in the way.
    pub values: Vec<Option<SecretValue>>,
}

/// Resolves references.
pub struct Resolver {
    client: Client,
    authorizer: Authorizer,
    stores: Store<TeamSecretStore>,
    keys: watch::Receiver<KeyState>,
    metrics: Arc<Metrics>,
}

impl Resolver {
    /// A resolver over a watched list of stores and the live keys of the sealed store.
    pub fn new(
        client: Client,
        stores: Store<TeamSecretStore>,
        keys: watch::Receiver<KeyState>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { authorizer: Authorizer::new(client.clone(), metrics.clone()), client, stores, keys, metrics }
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
                problems.push(self.denied(run, index, reference));
            }
        }
        let mut values: Vec<Option<SecretValue>> = run.references.iter().map(|_| None).collect();
        let mut versions: Vec<Option<String>> = vec![None; run.references.len()];
        for ((team, store), indexes) in by_store(run, &allowed) {
            match self.open(&team, &store) {
                Err((reason, message, waits)) => {
                    problems.push(Problem { reference: None, reason, message, waits });
                }
                Ok(backend) => {
                    let asked = Instant::now();
                    let answers = fetch(&*backend, run, &indexes).await;
                    self.metrics.resolve_took(BackendKind::Sealed.as_str(), asked.elapsed());
                    for (index, answer) in indexes.into_iter().zip(answers) {
                        let reference = &run.references[index];
                        self.metrics.resolved(BackendKind::Sealed.as_str(), outcome(&answer));
                        match answer.map_err(Fault::from).and_then(|fetched| {
                            deliverable::deliverable(reference, fetched.value, run.delivery)
                                .map(|value| (value, fetched.version))
                        }) {
                            Ok((value, version)) => {
                                values[index] = Some(value);
                                versions[index] = Some(version);
                            }
                            Err(Fault::Store(StoreError::NotFound(_))) if reference.optional => {}
                            Err(error) => problems.push(problem(run, index, reference, &error)),
                        }
                    }
                }
            }
        }
        problems.extend(deliverable::fits_together(&values));
        if problems.is_empty() {
            return Ok(Resolved { resolution: Resolution::Ready(versions), values });
        }
        problems.sort_by_key(|problem| problem.reference);
        Ok(Resolved { resolution: Resolution::Problems(problems), values: Vec::new() })
    }

    fn open(&self, team: &str, store: &str) -> Result<Arc<dyn SecretStore>, (Reason, String, bool)> {
        let found = self.stores.get(&ObjectRef::new(store).within(team));
        let backend = match &found {
            Some(store) => store.spec.backend(),
            // A team needs no store object for the embedded store.
            None if store == DEFAULT_STORE => Some(BackendKind::Sealed),
            None => None,
        };
        match (backend, found.is_some()) {
            (Some(BackendKind::Sealed), _) => {
                Ok(Arc::new(SealedStore::new(self.client.clone(), team, self.keys.clone())))
            }
            (Some(kind), _) => Err((
                Reason::StoreUnsupported,
                format!(
                    "store {store} of team {team} has the backend {}, which this operator does not serve yet; use sealed",
                    kind.as_str()
                ),
                false,
            )),
            (None, _) => Err((
                Reason::StoreNotFound,
                format!("team {team} has no store {store}; `kubectl get tstore -n {team}` lists its stores"),
                true,
            )),
        }
    }

    fn denied(&self, run: &Run, index: usize, reference: &SecretReference) -> Problem {
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
        let set_up = self.stores.state().iter().any(|store| store.metadata.namespace.as_deref() == Some(team));
        if !set_up {
            message.push_str(" (the team was never set up: `daypass store init -n ");
            message.push_str(team);
            message.push_str("` grants its own ServiceAccounts)");
        }
        Problem { reference: Some(index), reason: Reason::AccessDenied, message, waits: false }
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
fn outcome(answer: &Result<crate::stores::Fetched, StoreError>) -> &'static str {
    match answer {
        Ok(_) => "value",
        Err(StoreError::NotFound(_)) => "not_found",
        Err(StoreError::Denied(_)) => "denied",
        Err(StoreError::Throttled { .. }) => "throttled",
        Err(StoreError::Unavailable(_)) => "unavailable",
        Err(StoreError::Malformed(_)) => "malformed",
        Err(StoreError::KeyLost(_)) => "key_lost",
    }
}

async fn fetch(
    backend: &dyn SecretStore,
    run: &Run,
    indexes: &[usize],
) -> Vec<Result<crate::stores::Fetched, StoreError>> {
    let queries: Vec<Query> = indexes
        .iter()
        .map(|&index| Query {
            name: run.references[index].name.clone(),
            version: run.references[index].version.clone(),
        })
        .collect();
    match tokio::time::timeout(DEADLINE, backend.get_many(&queries)).await {
        Ok(answers) => answers,
        Err(_) => indexes
            .iter()
            .map(|_| Err(StoreError::Unavailable(format!("no answer within {} s", DEADLINE.as_secs()))))
            .collect(),
    }
}

fn problem(run: &Run, index: usize, reference: &SecretReference, fault: &Fault) -> Problem {
    let team = reference.team(&run.namespace);
    let name = &reference.name;
    let (reason, waits, mend) = match fault {
        Fault::Store(StoreError::NotFound(_)) => (
            Reason::SecretNotFound,
            true,
            match &reference.version {
                Some(_) => format!("`daypass secret list -n {team}` shows the versions"),
                None => format!("`daypass secret set {name} -n {team}`"),
            },
        ),
        Fault::FieldNotFound(_) => {
            (Reason::SecretFieldNotFound, false, "correct `field`, or rotate the secret".to_owned())
        }
        Fault::Store(StoreError::Denied(_)) => (
            Reason::AccessDenied,
            false,
            format!("the store's own sign-in may not read it: `daypass store check -n {team}`"),
        ),
        Fault::Store(StoreError::Throttled { .. }) => {
            (Reason::StoreThrottled, true, format!("`daypass store check -n {team}`"))
        }
        Fault::Store(StoreError::Unavailable(_)) => {
            (Reason::StoreUnavailable, true, format!("`daypass store check -n {team}`"))
        }
        Fault::Undeliverable(_) | Fault::Store(StoreError::Malformed(_)) => {
            (Reason::SecretMalformed, false, "mend the value with `daypass secret rotate`, or the reference".to_owned())
        }
        Fault::Store(StoreError::KeyLost(_)) => {
            (Reason::KeyLost, true, format!("restore the key, or `daypass secret rotate {name} -n {team}`"))
        }
    };
    Problem {
        reference: Some(index),
        reason,
        message: format!("secrets[{index}]: {name} of team {team}: {fault}; {mend}"),
        waits,
    }
}
