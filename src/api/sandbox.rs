//! `Sandbox`: one container with a team's secrets, for one run.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Condition, EnvVar, File, LocalObjectReference, Network, PodMetadata, Reason, Resources, SecretReference,
    SecurityContext, Time, Toleration, text_map,
};

/// What to run, with which team secrets, for how long.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "daypass.dev",
    version = "v1alpha1",
    kind = "Sandbox",
    namespaced,
    plural = "sandboxes",
    status = "SandboxStatus",
    derive = "PartialEq",
    shortname = "sbx",
    category = "daypass",
    doc = "A Sandbox runs one container with secrets of a team, for exactly as long as that run lasts.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Secrets", type_ = "string", json_path = ".status.secretsState"),
    printcolumn(name = "Exposure-ms", type_ = "integer", json_path = ".status.secretExposureMilliseconds", description = "Milliseconds that the run Secret existed"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name must be at most 63 characters: it becomes a label of the run's Pod")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.secrets) || self.secrets.map(s, has(s.envVar) ? s.envVar : s.name).all(n, self.secrets.exists_one(t, (has(t.envVar) ? t.envVar : t.name) == n))").message("every secret needs an envVar of its own (envVar defaults to name)").field_path(".secrets"))]
#[x_kube(validation = Rule::new("!has(self.secrets) || !has(self.env) || !self.env.exists(e, self.secrets.exists(s, (has(s.envVar) ? s.envVar : s.name) == e.name))").message("a variable may not be both in env and in secrets: take it out of env, or give the secret another envVar").field_path(".env"))]
#[x_kube(validation = Rule::new("!has(self.files) || self.files.all(f, self.files.exists_one(g, g.path == f.path))").message("every file needs a path of its own").field_path(".files"))]
#[x_kube(validation = Rule::new("!has(self.files) || self.files.map(f, bytes(f.content).size()).sum() <= 204800").message("files hold at most 200 KiB together: put larger ones into the image or a volume").field_path(".files"))]
#[x_kube(validation = Rule::new("!has(oldSelf.stop) || !oldSelf.stop || (has(self.stop) && self.stop)").message("stop is one way: `kubectl replace --force -f FILE` starts a new run").field_path(".stop"))]
#[x_kube(validation = Rule::new("self.activeDeadlineSeconds <= oldSelf.activeDeadlineSeconds").message("activeDeadlineSeconds may only become shorter").field_path(".activeDeadlineSeconds"))]
#[x_kube(validation = fixed!("image"))]
#[x_kube(validation = fixed!("command"))]
#[x_kube(validation = fixed!("args"))]
#[x_kube(validation = fixed!("workingDir"))]
#[x_kube(validation = fixed!("env"))]
#[x_kube(validation = fixed!("secrets"))]
#[x_kube(validation = fixed!("secretRemoval"))]
#[x_kube(validation = fixed!("delivery"))]
#[x_kube(validation = fixed!("resources"))]
#[x_kube(validation = fixed!("runtimeClassName"))]
#[x_kube(validation = fixed!("serviceAccountName"))]
#[x_kube(validation = fixed!("nodeSelector"))]
#[x_kube(validation = fixed!("tolerations"))]
#[x_kube(validation = fixed!("imagePullSecrets"))]
#[x_kube(validation = fixed!("securityContext"))]
#[x_kube(validation = fixed!("podMetadata"))]
#[x_kube(validation = fixed!("files"))]
#[x_kube(validation = fixed!("network"))]
#[x_kube(validation = fixed!("secretsTimeoutSeconds"))]
#[x_kube(validation = fixed!("startupTimeoutSeconds"))]
#[x_kube(validation = fixed!("terminationGracePeriodSeconds"))]
pub struct SandboxSpec {
    /// The container's image. Defaults to the image that the cluster admin has set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// The program to run. With neither command nor args the Sandbox stays up until it is stopped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// The program's arguments. `$(NAME)` puts a variable's value on the command line, where others may see it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub args: Vec<String>,
    /// The folder that the program starts in. Defaults to a writable empty folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = "^/"))]
    pub working_dir: Option<String>,
    /// Plain variables. Not for secrets: they are stored and shown in clear.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub env: Vec<EnvVar>,
    /// Team secrets by name; each becomes a variable (or a file) of the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 12))]
    pub secrets: Vec<SecretReference>,
    /// When the run Secret is removed. Defaults to `AfterStart` with `delivery: Env`, else to `AfterFinish`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_removal: Option<SecretRemoval>,
    /// How the values reach the container. Defaults to `Env`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// What the container may use of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The RuntimeClass of the Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,
    /// The ServiceAccount that the run is: grants are checked for it. Its token is not mounted. Defaults to `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub service_account_name: Option<String>,
    /// Labels that the Pod's node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(transform = text_map(16, 63))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the Pod tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
    /// Secrets of the namespace that the kubelet pulls the image with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// The container's security settings; Pod Security "restricted" by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,
    /// Labels and annotations for the Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_metadata: Option<PodMetadata>,
    /// Small literal files for the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub files: Vec<File>,
    /// What the run may reach and who may reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Seconds that the run may last, from the making of its Pod. May be made shorter later.
    #[serde(default = "default_active_deadline")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub active_deadline_seconds: i64,
    /// Seconds to wait for a secret that is missing, or for a store that does not answer, before the run fails.
    #[serde(default = "default_secrets_timeout")]
    #[schemars(range(min = 0, max = 86_400))]
    pub secrets_timeout_seconds: i64,
    /// Seconds from the making of the Pod to the start of its containers: images are large, nodes scale.
    #[serde(default = "default_startup_timeout")]
    #[schemars(range(min = 1, max = 86_400))]
    pub startup_timeout_seconds: i64,
    /// Seconds that the program has to end after it was told to.
    #[serde(default = "default_termination_grace_period")]
    #[schemars(range(min = 0, max = 3600))]
    pub termination_grace_period_seconds: i64,
    /// Seconds after its end that the Sandbox is deleted. Unset: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub ttl_seconds_after_finished: Option<i64>,
    /// Stops the run and keeps the object. One way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stop: bool,
}

fn default_active_deadline() -> i64 {
    12 * 3600
}

fn default_secrets_timeout() -> i64 {
    300
}

fn default_startup_timeout() -> i64 {
    1800
}

fn default_termination_grace_period() -> i64 {
    10
}

impl SandboxSpec {
    /// The ServiceAccount that the run is.
    pub fn service_account(&self) -> &str {
        self.service_account_name.as_deref().unwrap_or("default")
    }

    /// How the values reach the container.
    pub fn delivery(&self) -> Delivery {
        self.delivery.unwrap_or_default()
    }

    /// When the run Secret is removed.
    pub fn secret_removal(&self) -> SecretRemoval {
        self.secret_removal.unwrap_or(match self.delivery() {
            Delivery::Env => SecretRemoval::AfterStart,
            Delivery::File => SecretRemoval::AfterFinish,
        })
    }
}

/// When the run Secret is removed. Defaults to `AfterStart` with `delivery: Env`, else to `AfterFinish`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SecretRemoval {
    /// As soon as every container of the Pod has started.
    AfterStart,
    /// When the run is over.
    AfterFinish,
}

/// How the values reach the container. Defaults to `Env`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Delivery {
    /// As environment variables.
    #[default]
    Env,
    /// As files under `/run/daypass`, on memory, named like the variables.
    File,
}

/// A summary of where a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Not started yet.
    #[default]
    Pending,
    /// The container runs.
    Running,
    /// The run is being ended.
    Terminating,
    /// The program ended with exit code 0.
    Completed,
    /// The run failed by its own doing or its surroundings'.
    Failed,
    /// Somebody ended the run.
    Terminated,
}

impl Phase {
    /// Whether nothing more will happen.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Terminated)
    }
}

/// What is known of one named secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretStatus {
    /// The team that owns the secret.
    #[schemars(length(max = 63))]
    pub team: String,
    /// The secret's name.
    #[schemars(length(max = 128))]
    pub name: String,
    /// The team's store.
    #[schemars(length(max = 63))]
    pub store: String,
    /// The variable that gets the value.
    #[schemars(length(max = 128))]
    pub env_var: String,
    /// The version that the run got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub version: Option<String>,
    /// Where it stands.
    pub state: SecretState,
}

/// Where one secret of a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SecretState {
    /// Not handed over: see the conditions.
    Waiting,
    /// Handed to the run; its run Secret is there.
    Injected,
    /// Handed to the run; the run Secret is proven gone.
    Removed,
    /// It was missing and optional: the run goes without.
    Absent,
    /// The run may not use it.
    Denied,
}

/// What became of the run. Never holds a value, nor anything that is derived from one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxStatus {
    /// A summary of where the run is.
    #[serde(default)]
    pub phase: Phase,
    /// Statements about the run.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The run's Pod, and while it exists its Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub pod_name: Option<String>,
    /// When the container had started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the run was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// When the run will be ended at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// The program's exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why the run is in its phase, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Why the run is in its phase, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub message: Option<String>,
    /// The named secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 12))]
    pub secrets: Vec<SecretStatus>,
    /// A summary of the secrets: `None`, `Waiting`, `Injected` or `Removed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub secrets_state: Option<String>,
    /// When the run Secret was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_injected_at: Option<Time>,
    /// When the run Secret was proven gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_removed_at: Option<Time>,
    /// Milliseconds from the one to the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_exposure_milliseconds: Option<i64>,
    /// The generation of the object that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}
