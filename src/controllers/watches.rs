//! The watches: what they keep in memory, and whom they wake.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodSpec};
use kube::api::Api;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::Memory;
use crate::api::{EvalJob, Sandbox, SealedVersion, TeamSecret, TeamSecretStore};
use crate::evaluation::EVALJOB_LABEL;
use crate::run::RUN_LABEL;

/// A watch's events, as a trigger for a controller.
pub type Trigger<K> = std::pin::Pin<Box<dyn Stream<Item = Result<K, watcher::Error>> + Send>>;

/// All watches of the operator.
pub struct Watches {
    /// Watched Sandboxes, and their changes of specification or deletion.
    pub sandboxes: (Store<Sandbox>, Trigger<Sandbox>),
    /// Sandboxes that were deleted.
    pub deleted: mpsc::UnboundedReceiver<Sandbox>,
    /// Watched EvalJobs, and their changes of specification or deletion.
    pub evaljobs: (Store<EvalJob>, Trigger<EvalJob>),
    /// EvalJobs that were deleted.
    pub deleted_evaljobs: mpsc::UnboundedReceiver<EvalJob>,
    /// Pods of runs, and their changes.
    pub pods: (Store<Pod>, Trigger<Pod>),
    /// Stores, and their changes.
    pub stores: (Store<TeamSecretStore>, Trigger<TeamSecretStore>),
    /// Team secrets without ciphertext, and their changes.
    pub team_secrets: (Store<TeamSecret>, Trigger<TeamSecret>),
}

/// What selects the Pods of runs.
pub fn run_labels() -> watch::Config {
    watch::Config::default().labels(RUN_LABEL)
}

impl Watches {
    /// Sets the watches up; they run as they are polled.
    pub fn new(client: &Client, memory: Arc<Memory>, evaluations: Arc<Memory>) -> Self {
        let (sandboxes, sandbox_events, deleted) = objects::<Sandbox>(client, memory);
        let (evaljobs, evaljob_events, deleted_evaljobs) = objects::<EvalJob>(client, evaluations);
        let (pods, writer) = reflector::store();
        let pod_events = watch::watcher(Api::<Pod>::all(client.clone()), run_labels())
            .default_backoff()
            .modify(cut_pod)
            .reflect(writer)
            .touched_objects();
        let (stores, writer) = reflector::store();
        let store_events = watch::watcher(Api::<TeamSecretStore>::all(client.clone()), watch::Config::default())
            .default_backoff()
            .modify(|store| store.metadata.managed_fields = None)
            .reflect(writer)
            .touched_objects();
        let (team_secrets, writer) = reflector::store();
        let team_secret_events = watch::watcher(Api::<TeamSecret>::all(client.clone()), watch::Config::default())
            .default_backoff()
            .modify(cut_team_secret)
            .reflect(writer)
            .touched_objects();
        Self {
            sandboxes: (sandboxes, sandbox_events),
            deleted,
            evaljobs: (evaljobs, evaljob_events),
            deleted_evaljobs,
            pods: (pods, pod_events.boxed()),
            stores: (stores, store_events.boxed()),
            team_secrets: (team_secrets, team_secret_events.boxed()),
        }
    }
}

/// Objects that have runs: their cache, their changes of specification or deletion, and those that were deleted. What
/// the first list shows is told to `memory` before any of them is looked at.
fn objects<K>(client: &Client, memory: Arc<Memory>) -> (Store<K>, Trigger<K>, mpsc::UnboundedReceiver<K>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut listed = HashSet::new();
    let (deleted_tx, deleted) = mpsc::unbounded_channel();
    let (store, writer) = reflector::store();
    let events = watch::watcher(Api::<K>::all(client.clone()), watch::Config::default())
        .default_backoff()
        .modify(|object| object.meta_mut().managed_fields = None)
        .reflect(writer)
        .inspect(move |event| match event {
            Ok(Event::InitApply(object)) => listed.extend(object.uid()),
            Ok(Event::InitDone) => memory.inherit(std::mem::take(&mut listed)),
            // The receiver lives as long as the process works.
            Ok(Event::Delete(object)) => drop(deleted_tx.send(object.clone())),
            Ok(Event::Init) => listed.clear(),
            Ok(Event::Apply(_)) | Err(_) => {}
        })
        .applied_objects()
        // This process knows its own status writes; what it must hear of is the specification and the deletion.
        .predicate_filter(shape, kube::runtime::utils::PredicateConfig::default());
    (store, events.boxed(), deleted)
}

#[expect(clippy::unnecessary_wraps, reason = "the signature is the predicate's")]
fn shape<K: Resource>(object: &K) -> Option<u64> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (object.meta().generation, object.meta().deletion_timestamp.is_some()).hash(&mut hasher);
    Some(hasher.finish())
}

/// A typed Pod is tens of kB; a plan reads a small part of it.
fn cut_pod(pod: &mut Pod) {
    let metadata = &mut pod.metadata;
    metadata.managed_fields = None;
    let evaluation = metadata.labels.take().is_some_and(|labels| labels.contains_key(EVALJOB_LABEL));
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|key, _| key == crate::run::SECRETS || key == crate::run::INJECTED_AT);
    }
    let scheduling_gates = pod.spec.take().and_then(|spec| spec.scheduling_gates);
    pod.spec = Some(PodSpec { scheduling_gates, ..PodSpec::default() });
    if let Some(status) = &mut pod.status {
        let keep = |containers: Option<Vec<ContainerStatus>>| {
            containers.map(|containers| {
                containers
                    .into_iter()
                    .map(|mut container| {
                        // The last word of an evaluation's runner is its report. Others' is nobody's business.
                        if let (false, Some(ended)) =
                            (evaluation, container.state.as_mut().and_then(|state| state.terminated.as_mut()))
                        {
                            ended.message = None;
                        }
                        ContainerStatus { name: container.name, state: container.state, ..ContainerStatus::default() }
                    })
                    .collect()
            })
        };
        *status = k8s_openapi::api::core::v1::PodStatus {
            phase: status.phase.take(),
            reason: status.reason.take(),
            conditions: status.conditions.take(),
            container_statuses: keep(status.container_statuses.take()),
            ..k8s_openapi::api::core::v1::PodStatus::default()
        };
    }
}

fn cut_team_secret(secret: &mut TeamSecret) {
    secret.metadata.managed_fields = None;
    secret.metadata.annotations = None;
    for version in &mut secret.spec.versions {
        *version = SealedVersion {
            version: version.version,
            key_id: std::mem::take(&mut version.key_id),
            by: version.by.take(),
            ..SealedVersion::default()
        };
    }
}

/// The Sandboxes that name any secret of a store.
pub fn users_of_store(sandboxes: &Store<Sandbox>, team: &str, store: &str) -> Vec<ObjectRef<Sandbox>> {
    users(sandboxes, |namespace, reference| reference.team(namespace) == team && reference.store() == store)
}

/// The Sandboxes that name a sealed secret.
pub fn users_of_secret(sandboxes: &Store<Sandbox>, team: &str, name: &str) -> Vec<ObjectRef<Sandbox>> {
    users(sandboxes, |namespace, reference| reference.team(namespace) == team && reference.name == name)
}

fn users(
    sandboxes: &Store<Sandbox>,
    matches: impl Fn(&str, &crate::api::SecretReference) -> bool,
) -> Vec<ObjectRef<Sandbox>> {
    sandboxes
        .state()
        .iter()
        .filter(|sandbox| !sandbox.status.as_ref().is_some_and(|status| status.phase.is_terminal()))
        .filter(|sandbox| {
            let namespace = sandbox.metadata.namespace.as_deref().unwrap_or_default();
            sandbox.spec.secrets.iter().any(|reference| matches(namespace, reference))
        })
        .map(|sandbox| ObjectRef::from_obj(&**sandbox))
        .collect()
}

/// The EvalJobs that name any secret of a store, or took one by `autoBind`.
pub fn evaluations_of_store(jobs: &Store<EvalJob>, team: &str, store: &str) -> Vec<ObjectRef<EvalJob>> {
    evaluations(jobs, |of, at, _| of == team && at == store)
}

/// The EvalJobs that name a sealed secret, or took it by `autoBind`.
pub fn evaluations_of_secret(jobs: &Store<EvalJob>, team: &str, name: &str) -> Vec<ObjectRef<EvalJob>> {
    evaluations(jobs, |of, _, named| of == team && named == name)
}

fn evaluations(jobs: &Store<EvalJob>, matches: impl Fn(&str, &str, &str) -> bool) -> Vec<ObjectRef<EvalJob>> {
    let names_it = |job: &EvalJob| {
        let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
        let recorded = job.status.iter().flat_map(|status| &status.benchmarks).flat_map(|told| &told.secrets);
        job.spec.references().any(|named| matches(named.team(namespace), named.store(), &named.name))
            || recorded.into_iter().any(|secret| matches(&secret.team, &secret.store, &secret.name))
    };
    jobs.state()
        .iter()
        .filter(|job| !job.status.as_ref().is_some_and(|status| status.phase.is_terminal()) && names_it(job))
        .map(|job| ObjectRef::from_obj(&**job))
        .collect()
}

/// The UIDs of all objects in a cache.
pub fn uids<K>(store: &Store<K>) -> HashSet<String>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.state().iter().filter_map(|object: &Arc<K>| object.uid()).collect()
}
