//! `EvalJob`: one model on some benchmarks, each with the keys that it needs and no others.

#![allow(clippy::struct_excessive_bools, reason = "each is a field of its own in the manifest")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    EvalJobStatus, LocalObjectReference, Network, PodMetadata, Resources, SecretReference, SecretRemoval,
    SecurityContext, Toleration, names, text_map,
};

/// CEL: the effective name of the benchmark `b`.
const BENCHMARK_NAME: &str = "(has(b.name) ? b.name : b.task.split('/')[b.task.split('/').size() - 1])";

/// CEL: whether the secrets of `self` keep off the variables that are the runner's own.
fn runner_variables() -> String {
    format!(
        "!has(self.secrets) || !self.secrets.exists(s, (has(s.envVar) ? s.envVar : s.name).matches('^({})$'))",
        names::RUNNER_VARIABLES
    )
}
const RUNNER_VARIABLES_MESSAGE: &str = "this variable is the runner's own (where keys go, where files lie, what the evaluated model and its judges are): set envVar to another name, or use model.apiKey, graders[].apiKey and results.wandb.apiKey";

/// CEL: whether every secret of `self` has a variable of its own.
const OWN_VARIABLES: &str = "!has(self.secrets) || self.secrets.map(s, has(s.envVar) ? s.envVar : s.name).all(n, self.secrets.exists_one(t, (has(t.envVar) ? t.envVar : t.name) == n))";

/// Which model is evaluated, on what, with which keys.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "daypass.dev",
    version = "v1alpha1",
    kind = "EvalJob",
    namespaced,
    plural = "evaljobs",
    status = "EvalJobStatus",
    derive = "PartialEq",
    shortname = "ej",
    category = "daypass",
    doc = "An EvalJob evaluates one model on some benchmarks. Each attempt of a benchmark is a run of its own, with the keys that this benchmark needs and no others.",
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Done", type_ = "string", json_path = ".status.progress", description = "Benchmarks that are over, of all"),
    printcolumn(name = "Score", type_ = "string", json_path = ".status.headline", description = "Each benchmark's headline score, in order"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name must be at most 63 characters: it becomes a label of the runs' Pods")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(format!("self.benchmarks.map(b, {BENCHMARK_NAME}).distinct().size() == self.benchmarks.size()")).message("every benchmark needs a name of its own (name defaults to the last part of task)").field_path(".benchmarks"))]
#[x_kube(validation = Rule::new("!has(self.graders) || self.graders.map(g, g.role).distinct().size() == self.graders.size()").message("every grader needs a role of its own").field_path(".graders"))]
#[x_kube(validation = Rule::new(OWN_VARIABLES).message("every secret needs an envVar of its own (envVar defaults to name)").field_path(".secrets"))]
#[x_kube(validation = Rule::new(runner_variables()).message(RUNNER_VARIABLES_MESSAGE).field_path(".secrets"))]
#[x_kube(validation = Rule::new("!has(oldSelf.stop) || !oldSelf.stop || (has(self.stop) && self.stop)").message("stop is one way: `kubectl replace --force -f FILE` starts a new job").field_path(".stop"))]
#[x_kube(validation = Rule::new("(has(self.rerun) ? self.rerun : 0) >= (has(oldSelf.rerun) ? oldSelf.rerun : 0)").message("rerun only grows: one more runs again what did not succeed").field_path(".rerun"))]
#[x_kube(validation = Rule::new("self.activeDeadlineSeconds <= oldSelf.activeDeadlineSeconds").message("activeDeadlineSeconds may only become shorter").field_path(".activeDeadlineSeconds"))]
#[x_kube(validation = fixed!("model"))]
#[x_kube(validation = fixed!("graders"))]
#[x_kube(validation = fixed!("benchmarks"))]
#[x_kube(validation = fixed!("sampleLimit"))]
#[x_kube(validation = fixed!("secrets"))]
#[x_kube(validation = fixed!("autoBind"))]
#[x_kube(validation = fixed!("allowSelfGrading"))]
#[x_kube(validation = fixed!("results"))]
#[x_kube(validation = fixed!("runner"))]
#[x_kube(validation = fixed!("failurePolicy"))]
#[x_kube(validation = fixed!("backoffLimit"))]
#[x_kube(validation = fixed!("secretRemoval"))]
#[x_kube(validation = fixed!("benchmarkDeadlineSeconds"))]
#[x_kube(validation = fixed!("startupTimeoutSeconds"))]
#[x_kube(validation = fixed!("terminationGracePeriodSeconds"))]
#[x_kube(validation = fixed!("queueName"))]
#[x_kube(validation = fixed!("resources"))]
#[x_kube(validation = fixed!("runtimeClassName"))]
#[x_kube(validation = fixed!("serviceAccountName"))]
#[x_kube(validation = fixed!("nodeSelector"))]
#[x_kube(validation = fixed!("tolerations"))]
#[x_kube(validation = fixed!("imagePullSecrets"))]
#[x_kube(validation = fixed!("securityContext"))]
#[x_kube(validation = fixed!("podMetadata"))]
#[x_kube(validation = fixed!("network"))]
pub struct EvalJobSpec {
    /// The model that is evaluated.
    pub model: EvaluatedModel,
    /// Models that judge answers. Each benchmark gets those that it asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub graders: Vec<Grader>,
    /// What it is evaluated on.
    #[schemars(length(min = 1, max = 32))]
    pub benchmarks: Vec<Benchmark>,
    /// Samples of each benchmark at most. Unset: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub sample_limit: Option<i64>,
    /// Team secrets that are offered to all benchmarks: each gets those that it needs. One that no benchmark needs is
    /// refused; what a benchmark shall have in any case stands at the benchmark.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 12))]
    pub secrets: Vec<SecretReference>,
    /// Gives a benchmark that needs a variable the own team's secret of that name, where the job names none.
    #[serde(default = "yes")]
    pub auto_bind: bool,
    /// Lets the evaluated model judge itself where a benchmark would do so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_self_grading: bool,
    /// Where results go besides the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<Results>,
    /// What runs the benchmarks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<Runner>,
    /// How many benchmarks run at once.
    #[serde(default = "default_parallelism")]
    #[schemars(range(min = 1, max = 32))]
    pub parallelism: i64,
    /// What the failure of one benchmark means for the others.
    #[serde(default)]
    pub failure_policy: FailurePolicy,
    /// How often a benchmark that failed is tried again, where trying again may help. Each try is a new run.
    #[serde(default = "default_backoff_limit")]
    #[schemars(range(min = 0, max = 10))]
    pub backoff_limit: i64,
    /// When a run Secret is removed. Defaults to `AfterStart`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_removal: Option<SecretRemoval>,
    /// Seconds that all benchmarks together may take, counted anew after a suspension and by `rerun`. May be made
    /// shorter later.
    #[serde(default = "default_active_deadline")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub active_deadline_seconds: i64,
    /// Seconds that one attempt of a benchmark may last, from the making of its Pod.
    #[serde(default = "default_benchmark_deadline")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub benchmark_deadline_seconds: i64,
    /// Seconds from the making of a Pod to the start of its containers: images are large, nodes scale.
    #[serde(default = "default_startup_timeout")]
    #[schemars(range(min = 1, max = 86_400))]
    pub startup_timeout_seconds: i64,
    /// Seconds that a runner has to end after it was told to.
    #[serde(default = "default_termination_grace_period")]
    #[schemars(range(min = 0, max = 3600))]
    pub termination_grace_period_seconds: i64,
    /// Seconds after its end that the EvalJob is deleted. Unset: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub ttl_seconds_after_finished: Option<i64>,
    /// Ends what runs and starts nothing until it is taken back. Needed keys are checked all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// Stops the job and keeps the object. One way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stop: bool,
    /// One more runs again what did not succeed, once the job is over.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub rerun: i64,
    /// The Kueue queue that admits the Pods. A Pod that waits for it holds no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub queue_name: Option<String>,
    /// What a runner may use of its node, where a benchmark says nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The RuntimeClass of the Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,
    /// The ServiceAccount that the runs are: grants are checked for it. Its token is not mounted. Defaults to `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub service_account_name: Option<String>,
    /// Labels that the Pods' nodes must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(transform = text_map(16, 63))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the Pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
    /// Secrets of the namespace that the kubelet pulls the image with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// The containers' security settings; Pod Security "restricted" by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,
    /// Labels and annotations for the Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_metadata: Option<PodMetadata>,
    /// What the runs may reach and who may reach them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn default_parallelism() -> i64 {
    1
}

fn default_backoff_limit() -> i64 {
    2
}

fn default_active_deadline() -> i64 {
    7 * 24 * 3600
}

fn default_benchmark_deadline() -> i64 {
    12 * 3600
}

fn default_startup_timeout() -> i64 {
    1800
}

fn default_termination_grace_period() -> i64 {
    30
}

impl EvalJobSpec {
    /// The ServiceAccount that the runs are.
    pub fn service_account(&self) -> &str {
        self.service_account_name.as_deref().unwrap_or("default")
    }

    /// When a run Secret is removed.
    pub fn secret_removal(&self) -> SecretRemoval {
        self.secret_removal.unwrap_or(SecretRemoval::AfterStart)
    }

    /// What runs the benchmarks.
    pub fn framework(&self) -> Framework {
        self.runner.as_ref().map(|runner| runner.framework).unwrap_or_default()
    }

    /// Every team secret that the job names, as references without a variable where a key is meant.
    pub fn references(&self) -> impl Iterator<Item = SecretReference> + '_ {
        let keys = self.model.api_key.iter().chain(self.graders.iter().filter_map(|grader| grader.api_key.as_ref()));
        let wandb = self.results.iter().filter_map(|results| results.wandb.as_ref()?.api_key.as_ref());
        keys.chain(wandb)
            .map(|key| key.for_variable(&key.name))
            .chain(self.secrets.iter().cloned())
            .chain(self.benchmarks.iter().flat_map(|benchmark| benchmark.secrets.iter().cloned()))
    }
}

/// Whether an endpoint asks for a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Auth {
    /// It does: `apiKey` names it.
    #[default]
    Secret,
    /// It does not.
    None,
}

/// A key as a team secret: like `secrets[]`, without a variable of one's own choice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyReference {
    /// The team that owns the secret: a namespace. Defaults to the object's own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub team: Option<String>,
    /// The secret's name in the team's store, as `daypass secret list` shows it.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_]+$"))]
    pub name: String,
    /// One key of a secret that holds a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub field: Option<String>,
    /// Pins one version, where the store has versions. Defaults to the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub version: Option<String>,
    /// The team's store that holds the secret. Defaults to `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub store: Option<String>,
}

impl KeyReference {
    /// The same as a reference that fills a variable.
    pub fn for_variable(&self, variable: &str) -> SecretReference {
        SecretReference {
            team: self.team.clone(),
            name: self.name.clone(),
            env_var: Some(variable.to_owned()),
            field: self.field.clone(),
            version: self.version.clone(),
            optional: false,
            store: self.store.clone(),
        }
    }
}

/// The model that is evaluated, behind a server that speaks the OpenAI API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.apiKey) != (has(self.auth) && self.auth == 'None')").message("set model.apiKey to the team secret with the server's key, or auth: None where it asks for none").field_path(".apiKey"))]
#[x_kube(validation = Rule::new("!has(self.args) || !self.args.exists(k, k in ['api_key', 'api_key_vars', 'base_url', 'default_headers', 'http_client', 'model_name', 'service'])").message("args may not say where keys come from or go to: that is apiKey's and baseURL's").field_path(".args"))]
pub struct EvaluatedModel {
    /// The model's name, as its server knows it.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$"))]
    pub name: String,
    /// Where its server is: the key goes there and nowhere else.
    #[serde(rename = "baseURL")]
    #[schemars(
        length(min = 1, max = 512),
        regex(pattern = r"^https?://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9._~!$&'()*+,;=:%/-]*)?$")
    )]
    pub base_url: String,
    /// Whether the server asks for a key.
    #[serde(default)]
    pub auth: Auth,
    /// The server's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<KeyReference>,
    /// Arguments for the framework's model class. What reads as JSON is passed as that (`"5"`, `"true"`), else as text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(transform = text_map(32, 1024))]
    pub args: BTreeMap<String, String>,
    /// How answers are generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
}

/// How answers are generated. What is unset is the benchmark's or the server's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Generation {
    /// Sampling temperature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub top_p: Option<f64>,
    /// Tokens of an answer at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_tokens: Option<i64>,
    /// Seed of the sampling, where the server has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4_294_967_295_i64))]
    pub seed: Option<i64>,
    /// Requests under way at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_connections: Option<i64>,
    /// Seconds that one request may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: Option<i64>,
    /// How often a request that failed is sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 20))]
    pub max_retries: Option<i64>,
}

/// A model that judges answers, behind a server that speaks the OpenAI API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.apiKey) != (has(self.auth) && self.auth == 'None')").message("set apiKey to the team secret with the judge's key, or auth: None where its server asks for none").field_path(".apiKey"))]
pub struct Grader {
    /// What it judges: a model role or a task argument, as the benchmark calls it. `grader` stands for every judge that
    /// no other entry names.
    #[serde(default = "default_role")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z][a-z0-9_]*$"))]
    pub role: String,
    /// The model's name, as its server knows it.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$"))]
    pub model: String,
    /// Where its server is: the key goes there and nowhere else.
    #[serde(rename = "baseURL")]
    #[schemars(
        length(min = 1, max = 512),
        regex(pattern = r"^https?://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9._~!$&'()*+,;=:%/-]*)?$")
    )]
    pub base_url: String,
    /// Whether the server asks for a key.
    #[serde(default)]
    pub auth: Auth,
    /// The server's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<KeyReference>,
}

fn default_role() -> String {
    Grader::ANY.into()
}

impl Grader {
    /// The role that stands for every judge that no other entry names.
    pub const ANY: &'static str = "grader";
}

/// One benchmark.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.name) || self.task.split('/')[self.task.split('/').size() - 1].size() <= 63").message("the task's name is longer than 63 characters: set name").field_path(".name"))]
#[x_kube(validation = Rule::new(OWN_VARIABLES).message("every secret needs an envVar of its own (envVar defaults to name)").field_path(".secrets"))]
#[x_kube(validation = Rule::new(runner_variables()).message(RUNNER_VARIABLES_MESSAGE).field_path(".secrets"))]
pub struct Benchmark {
    /// The catalog's short name (`gsm8k`) or the framework's full one (`inspect_evals/gsm8k`).
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = r"^([A-Za-z0-9][A-Za-z0-9_.-]*/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$")
    )]
    pub task: String,
    /// What status, labels and commands call it. Defaults to the last part of `task`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$"))]
    pub name: Option<String>,
    /// Arguments for the task. What reads as JSON is passed as that (`"5"`, `"true"`, `"[1, 2]"`), else as text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(transform = text_map(32, 1024))]
    pub args: BTreeMap<String, String>,
    /// Samples at most. Defaults to the job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub sample_limit: Option<i64>,
    /// How often each sample is asked. Defaults to the task's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub epochs: Option<i64>,
    /// What its runner may use of the node. Defaults to the job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Team secrets for this benchmark, needed or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 12))]
    pub secrets: Vec<SecretReference>,
    /// What its metrics must be: `accuracy >= 0.8`, or `SCORER/METRIC >= 0.8`. The condition `ExpectationsMet` says
    /// whether they are, and with it the exit code of `daypass eval run`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        inner(
            length(min = 1, max = 160),
            regex(pattern = r"^[A-Za-z_][A-Za-z0-9_./@-]* *(>=|<=|>|<|==) *-?[0-9]{1,12}(\.[0-9]{1,12})?$")
        )
    )]
    pub expect: Vec<String>,
}

impl Benchmark {
    /// What status, labels and commands call it.
    pub fn effective_name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.task.rsplit('/').next().unwrap_or(&self.task))
    }
}

/// Where results go besides the status. With neither, a run's log ends with its Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Results {
    /// A volume: each benchmark has a folder there, and goes on where its last attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<PersistentVolumeClaim>,
    /// Weights & Biases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wandb: Option<WandbResults>,
}

/// A volume claim of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersistentVolumeClaim {
    /// The claim's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub claim_name: String,
}

/// A project that each benchmark's result is uploaded to. Before anything starts W&B is asked whether it knows the key and
/// whether the key's owner belongs to the entity; a project that is not there is made by the first result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WandbResults {
    /// The user or team that owns the project.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"))]
    pub entity: String,
    /// The project.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"))]
    pub project: String,
    /// The key. Defaults to what `secrets` or `autoBind` give for `WANDB_API_KEY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<KeyReference>,
}

/// What runs the benchmarks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.command) || self.command.size() == 0 || self.framework == 'Custom'").message("command goes with framework: Custom").field_path(".command"))]
pub struct Runner {
    /// The framework. Another one than Inspect has no catalog: its tasks need what they are given.
    #[serde(default)]
    pub framework: Framework,
    /// The image. Defaults to the one that the cluster admin has set for the framework.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// With `Custom`: the program that the runner calls, and its arguments. No shell reads it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
}

/// A framework of benchmarks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Framework {
    /// Inspect.
    #[default]
    Inspect,
    /// The LM Evaluation Harness.
    LMEval,
    /// Anything that keeps to the runner's contract.
    Custom,
}

impl Framework {
    /// The name as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inspect => "Inspect",
            Self::LMEval => "LMEval",
            Self::Custom => "Custom",
        }
    }
}

/// What the failure of one benchmark means for the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailurePolicy {
    /// They run on.
    #[default]
    ContinueOnFailure,
    /// They are ended, and those that wait do not begin.
    FailFast,
}
