//! What a plan needs to know of a Pod, read from the object once.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use serde::{Deserialize, Serialize};

/// Annotation of a run's Pod: which secrets in which versions it was made with, as JSON.
pub const SECRETS: &str = "daypass.dev/secrets";
/// Annotation of a run's Pod: when its run Secret was made.
pub const INJECTED_AT: &str = "daypass.dev/injected-at";

/// The container that is the run.
pub const MAIN: &str = "main";

/// One entry of the annotation [`SECRETS`]: a reference and the version that the run got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Versions {
    /// The team.
    pub team: String,
    /// The secret's name.
    pub name: String,
    /// The store.
    pub store: String,
    /// The variable.
    pub env_var: String,
    /// The version; none where the secret is absent and optional.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// A Pod's phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodPhase {
    /// Not every container has started.
    #[default]
    Pending,
    /// Every container has started.
    Running,
    /// All containers ended well.
    Succeeded,
    /// All containers ended, not all well.
    Failed,
    /// The node does not answer.
    Unknown,
}

/// The state of the container that is the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Main {
    /// Nobody has reported it.
    #[default]
    Unreported,
    /// It waits: the kubelet's reason and message.
    Waiting(String, String),
    /// It runs.
    Running(Option<Timestamp>),
    /// It ended.
    Ended {
        /// The exit code.
        code: i32,
        /// The runtime's word: `Completed`, `Error`, `OOMKilled`, `StartError`.
        reason: String,
        /// When it started.
        started: Option<Timestamp>,
        /// When it ended.
        finished: Option<Timestamp>,
    },
}

/// What a plan needs to know of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodView {
    /// The Pod's UID.
    pub uid: String,
    /// When it was made.
    pub created: Timestamp,
    /// Its phase.
    pub phase: PodPhase,
    /// The container that is the run.
    pub main: Main,
    /// When its deletion was asked for.
    pub deleting: Option<Timestamp>,
    /// The Pod's own reason: `Evicted`, `DeadlineExceeded`.
    pub reason: String,
    /// It was or will be disrupted: eviction, preemption, drain, a taint.
    pub disrupted: bool,
    /// Why no node takes it.
    pub unschedulable: Option<String>,
    /// Other containers that still run.
    pub others: Vec<String>,
    /// When the run Secret was made.
    pub injected: Option<Timestamp>,
    /// The versions that the run got.
    pub versions: Option<Vec<Option<String>>>,
    /// What holds it back from being scheduled.
    pub gates: Vec<String>,
    /// When a node was found for it.
    pub scheduled: Option<Timestamp>,
    /// What the program left as its last word.
    pub last_word: Option<String>,
}

impl PodView {
    /// Reads a Pod.
    pub fn of(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let annotation = |key: &str| pod.metadata.annotations.as_ref().and_then(|all| all.get(key));
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or_default();
        Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            created: pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            phase: match status.phase.as_deref() {
                Some("Running") => PodPhase::Running,
                Some("Succeeded") => PodPhase::Succeeded,
                Some("Failed") => PodPhase::Failed,
                Some("Unknown") => PodPhase::Unknown,
                _ => PodPhase::Pending,
            },
            main: containers.iter().find(|container| container.name == MAIN).map(main_state).unwrap_or_default(),
            // A Pod's deletionTimestamp is when its grace ends; what matters here is when it was asked for.
            deleting: pod
                .metadata
                .deletion_timestamp
                .as_ref()
                .map(|time| time.0.saturating_sub(jiff::SignedDuration::from_secs(grace)).unwrap_or(time.0)),
            reason: status.reason.unwrap_or_default(),
            gates: pod
                .spec
                .iter()
                .flat_map(|spec| spec.scheduling_gates.iter().flatten())
                .map(|gate| gate.name.clone())
                .collect(),
            scheduled: conditions
                .iter()
                .find(|c| c.type_ == "PodScheduled" && c.status == "True")
                .and_then(|c| c.last_transition_time.as_ref())
                .map(|time| time.0),
            last_word: containers
                .iter()
                .find(|container| container.name == MAIN)
                .and_then(|container| container.state.as_ref()?.terminated.as_ref()?.message.clone()),
            disrupted: conditions.iter().any(|c| c.type_ == "DisruptionTarget" && c.status == "True"),
            unschedulable: conditions
                .iter()
                .find(|c| {
                    c.type_ == "PodScheduled" && c.status == "False" && c.reason.as_deref() == Some("Unschedulable")
                })
                .map(|c| c.message.clone().unwrap_or_default()),
            others: containers
                .iter()
                .filter(|c| c.name != MAIN && c.state.as_ref().is_some_and(|state| state.running.is_some()))
                .map(|c| c.name.clone())
                .collect(),
            injected: annotation(INJECTED_AT).and_then(|text| text.parse().ok()),
            versions: annotation(SECRETS)
                .and_then(|text| serde_json::from_str::<Vec<Versions>>(text).ok())
                .map(|list| list.into_iter().map(|entry| entry.version).collect()),
        }
    }

    /// Whether every container has read its variables: the point from which the run Secret is needed no more.
    pub fn has_started(&self) -> bool {
        matches!(self.phase, PodPhase::Running | PodPhase::Succeeded | PodPhase::Failed)
    }

    /// Whether the run's own container has ended, whatever others a webhook has put beside it.
    pub fn has_ended(&self) -> bool {
        matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed) || matches!(self.main, Main::Ended { .. })
    }

    /// Whether it ended before anybody asked for its deletion.
    pub fn ended_by_itself(&self) -> bool {
        self.has_ended() && self.deleting.is_none_or(|asked| self.finished().is_some_and(|finished| finished < asked))
    }

    /// When the run's own container started.
    pub fn started(&self) -> Option<Timestamp> {
        match &self.main {
            Main::Running(started) | Main::Ended { started, .. } => *started,
            Main::Unreported | Main::Waiting(..) => None,
        }
    }

    /// When the run's own container ended.
    pub fn finished(&self) -> Option<Timestamp> {
        match &self.main {
            Main::Ended { finished, .. } => *finished,
            _ => None,
        }
    }
}

fn main_state(status: &ContainerStatus) -> Main {
    let Some(state) = &status.state else { return Main::Unreported };
    if let Some(ended) = &state.terminated {
        Main::Ended {
            code: ended.exit_code,
            reason: ended.reason.clone().unwrap_or_default(),
            started: ended.started_at.as_ref().map(|time| time.0),
            finished: ended.finished_at.as_ref().map(|time| time.0),
        }
    } else if let Some(running) = &state.running {
        Main::Running(running.started_at.as_ref().map(|time| time.0))
    } else if let Some(waiting) = &state.waiting {
        Main::Waiting(waiting.reason.clone().unwrap_or_default(), waiting.message.clone().unwrap_or_default())
    } else {
        Main::Unreported
    }
}
