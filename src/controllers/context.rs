//! What reconciles work with: clients, caches, time. Everything that tests want to own comes in through here.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::reflector::{ObjectRef, Store};
use serde::Deserialize;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, watch};

use super::Memory;
use super::catalog;
use super::watches::{evaluations_of_secret, evaluations_of_store, users_of_secret, users_of_store};
use crate::api::{EvalJob, Reason, Sandbox, TeamSecret, TeamSecretStore};
use crate::evaluation;
use crate::metrics::Metrics;
use crate::resolve::Resolver;
use crate::run::PodDefaults;

/// Which events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventLevel {
    /// On trouble only.
    #[default]
    Warnings,
    /// One for each step of a run too.
    All,
}

/// The time.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// How many reconciles wait for a place to make something, at most. Each holds values, and one of the controller's slots,
/// which removals need too.
pub const WAITING_CREATIONS: usize = 96;

/// How many reconciles may talk to the API server at once. Removals never wait behind creations.
pub struct Lanes {
    creations: Semaphore,
    waiting: Semaphore,
    removals: Semaphore,
}

impl Lanes {
    /// Lanes of that many places each.
    pub fn new(creations: usize, removals: usize) -> Self {
        Self {
            creations: Semaphore::new(creations),
            waiting: Semaphore::new(WAITING_CREATIONS),
            removals: Semaphore::new(removals),
        }
    }

    /// A place for a call that makes something. None: too many wait for one already.
    pub async fn creation(&self) -> Option<SemaphorePermit<'_>> {
        let _waiting = self.waiting.try_acquire().ok()?;
        self.creations.acquire().await.ok()
    }

    /// A place for a call that removes something.
    pub async fn removal(&self) -> Option<SemaphorePermit<'_>> {
        self.removals.acquire().await.ok()
    }
}

/// What reconciles work with.
pub struct Context {
    /// The operator's client.
    pub client: Client,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What this process knows of each run.
    pub memory: Arc<Memory>,
    /// Watched Sandboxes.
    pub sandboxes: Store<Sandbox>,
    /// Watched Pods of runs, cut to what a plan reads.
    pub pods: Store<Pod>,
    /// Watched stores.
    pub stores: Store<TeamSecretStore>,
    /// Watched team secrets, without ciphertext.
    pub team_secrets: Store<TeamSecret>,
    /// From references to values.
    pub resolver: Resolver,
    /// Whether the admission policies are proven in force.
    pub guarded: watch::Receiver<bool>,
    /// What the cluster admin sets for every Pod.
    pub defaults: PodDefaults,
    /// Which events are written.
    pub events: EventLevel,
    /// Writes events.
    pub recorder: Recorder,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Bounds.
    pub lanes: Lanes,
    /// Watched EvalJobs.
    pub evaljobs: Store<EvalJob>,
    /// What this process knows of each evaluation, and of each attempt.
    pub evaluations: Arc<Memory>,
    /// The catalog in force.
    pub catalog: watch::Receiver<catalog::Known>,
    /// What the cluster admin has set for all evaluations.
    pub evaluation_settings: evaluation::Settings,
    /// Asks for another look at an evaluation.
    pub wake_evaluations: mpsc::UnboundedSender<ObjectRef<EvalJob>>,
    /// Asks for another look at a run.
    pub wake_runs: mpsc::UnboundedSender<ObjectRef<Sandbox>>,
}

impl Context {
    /// Has every run looked at again that names a secret of a store.
    pub fn wake_users_of_store(&self, team: &str, store: &str) {
        // The receivers live as long as the process works.
        for run in users_of_store(&self.sandboxes, team, store) {
            let _ = self.wake_runs.send(run);
        }
        for job in evaluations_of_store(&self.evaljobs, team, store) {
            let _ = self.wake_evaluations.send(job);
        }
    }

    /// Has every run looked at again that names a sealed secret.
    pub fn wake_users_of_secret(&self, team: &str, name: &str) {
        for run in users_of_secret(&self.sandboxes, team, name) {
            let _ = self.wake_runs.send(run);
        }
        for job in evaluations_of_secret(&self.evaljobs, team, name) {
            let _ = self.wake_evaluations.send(job);
        }
    }

    /// Writes an event about an object, where the configuration asks for its kind. Failing to is no failure of the run.
    pub async fn event(&self, about: &ObjectReference, trouble: bool, reason: Reason, note: &str) {
        if !trouble && self.events != EventLevel::All {
            return;
        }
        let event = Event {
            type_: if trouble { EventType::Warning } else { EventType::Normal },
            reason: reason.as_str().into(),
            note: Some(note.chars().take(1000).collect()),
            action: "Reconcile".into(),
            secondary: None,
        };
        let publishing = self.recorder.publish(&event, about);
        if !matches!(tokio::time::timeout(crate::kube_ext::CALL_DEADLINE, publishing).await, Ok(Ok(()))) {
            tracing::debug!(reason = reason.as_str(), "an event could not be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn so_many_creations_wait_and_removals_behind_none() {
        let lanes = Lanes::new(1, 1);
        let held = lanes.creation().await.unwrap();
        let mut waiting: Vec<_> = (0..WAITING_CREATIONS).map(|_| Box::pin(lanes.creation())).collect();
        for creation in &mut waiting {
            assert!(futures::poll!(creation).is_pending());
        }
        assert!(lanes.creation().await.is_none(), "one more does not wait");
        assert!(lanes.removal().await.is_some());
        drop(held);
        for creation in waiting {
            assert!(creation.await.is_some(), "each has its turn");
        }
        assert!(lanes.creation().await.is_some());
    }
}
