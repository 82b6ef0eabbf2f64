//! What becomes of an `EvalJob`. The status is the recorded state of every attempt: nothing else is kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, Reason, SecretState, Time};

/// A summary of where a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EvaluationPhase {
    /// Not started yet.
    #[default]
    Pending,
    /// Its Pods wait for their queue.
    Queued,
    /// It is suspended.
    Suspended,
    /// Benchmarks run.
    Running,
    /// It is being ended.
    Terminating,
    /// Every benchmark succeeded.
    Completed,
    /// Some benchmarks succeeded.
    PartiallyFailed,
    /// None succeeded, or it was refused.
    Failed,
    /// Somebody ended it.
    Terminated,
}

impl EvaluationPhase {
    /// Whether nothing more will happen, but for a `rerun`.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::PartiallyFailed | Self::Failed | Self::Terminated)
    }
}

/// A summary of where a benchmark is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BenchmarkPhase {
    /// Not started yet, or between two attempts.
    #[default]
    Pending,
    /// Its Pod waits for its queue, without a secret.
    Queued,
    /// Its runner runs.
    Running,
    /// Its attempt is being ended.
    Terminating,
    /// It has a score.
    Completed,
    /// Its last attempt failed.
    Failed,
    /// Somebody ended it.
    Terminated,
    /// It never began, because another had failed.
    Skipped,
}

impl BenchmarkPhase {
    /// Whether nothing more will happen, but for a `rerun`.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Terminated | Self::Skipped)
    }
}

/// How a benchmark came to a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BoundBy {
    /// `model.apiKey`.
    Model,
    /// `graders[].apiKey`.
    Grader,
    /// `results.wandb.apiKey`.
    Results,
    /// The benchmark's own `secrets`.
    Benchmark,
    /// The job's `secrets`.
    Job,
    /// `autoBind`: the own team's secret of that name.
    AutoBind,
}

/// One secret of a benchmark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BoundSecret {
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
    /// The version that the attempt got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub version: Option<String>,
    /// How the benchmark came to it.
    pub bound: BoundBy,
    /// Where it stands.
    pub state: SecretState,
}

/// One number that a benchmark came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metric {
    /// Who scored.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub scorer: String,
    /// The number's name.
    #[schemars(length(max = 128))]
    pub metric: String,
    /// The number; none where it is not one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Its standard error, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<f64>,
}

/// The number that stands for a benchmark.
pub type Score = Metric;

/// Samples of a benchmark, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Samples {
    /// Samples that are done.
    pub done: i64,
    /// All samples.
    pub total: i64,
}

/// Tokens of a benchmark, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tokens {
    /// Tokens that went in.
    pub input: i64,
    /// Tokens that came out.
    pub output: i64,
}

/// What became of one benchmark. Never holds a value, nor anything that is derived from one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BenchmarkStatus {
    /// The benchmark's name.
    #[schemars(length(max = 128))]
    pub name: String,
    /// The task's full name.
    #[schemars(length(max = 128))]
    pub task: String,
    /// A summary of where it is.
    #[serde(default)]
    pub phase: BenchmarkPhase,
    /// The attempt that is under way, or was the last. 0: none yet.
    #[serde(default)]
    pub attempt: i64,
    /// Attempts that counted against `backoffLimit`.
    #[serde(default)]
    pub failures: i64,
    /// When the next attempt begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Time>,
    /// The attempt's Pod, and while it exists its Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub pod_name: Option<String>,
    /// The attempt's secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub secrets: Vec<BoundSecret>,
    /// A summary of the secrets: `None`, `Waiting`, `Injected`, `RemovalFailing` or `Removed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub secrets_state: Option<String>,
    /// Since when the attempt waits for its secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_since: Option<Time>,
    /// When the attempt's run Secret was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_injected_at: Option<Time>,
    /// When the attempt's run Secret was proven gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_removed_at: Option<Time>,
    /// Milliseconds from the one to the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_exposure_milliseconds: Option<i64>,
    /// A newer version exists of a secret that the attempt holds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secrets_outdated: bool,
    /// The store failed, and the attempt got a value that was read before, as the store allows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secrets_stale: bool,
    /// The number that stands for the benchmark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    /// All its numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub metrics: Vec<Metric>,
    /// Its samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Samples>,
    /// Its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// Expectations that its numbers do not meet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 320)))]
    pub unmet: Vec<String>,
    /// Where the runner's log lies on the results volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub log: Option<String>,
    /// When the attempt's container had started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the benchmark was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// When the attempt will be ended at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// The runner's exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What the runner gave as the cause of its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub cause: Option<String>,
    /// Why it is in its phase, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Why it is in its phase, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
}

/// What became of the job. Never holds a value, nor anything that is derived from one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvalJobStatus {
    /// A summary of where the job is.
    #[serde(default)]
    pub phase: EvaluationPhase,
    /// Statements about the job.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The benchmarks, in the order of `spec`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub benchmarks: Vec<BenchmarkStatus>,
    /// Benchmarks that are over, of all: `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub progress: Option<String>,
    /// Each benchmark's headline score, in order; `-` where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub headline: Option<String>,
    /// Benchmarks that succeeded.
    #[serde(default)]
    pub succeeded: i64,
    /// Benchmarks that failed, were ended, or never began.
    #[serde(default)]
    pub failed: i64,
    /// Benchmarks with an attempt under way.
    #[serde(default)]
    pub active: i64,
    /// Samples of all benchmarks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Samples>,
    /// Tokens of all benchmarks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// The catalog that the benchmarks' needs were read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub catalog_version: Option<String>,
    /// The value of `spec.rerun` that was acted on.
    #[serde(default)]
    pub rerun: i64,
    /// When the first attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// Since when `activeDeadlineSeconds` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_since: Option<Time>,
    /// When the job was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// When the job will be ended at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Why the job is in its phase, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Why the job is in its phase, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub message: Option<String>,
    /// The generation of the object that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl EvalJobStatus {
    /// A benchmark's status, by its name.
    pub fn benchmark(&self, name: &str) -> Option<&BenchmarkStatus> {
        self.benchmarks.iter().find(|benchmark| benchmark.name == name)
    }
}
