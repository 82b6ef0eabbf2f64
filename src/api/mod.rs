//! The kinds of `daypass.dev/v1alpha1`: types, rules, names, conditions and reasons. Knows nothing of the rest.

#[macro_use]
mod rules;

mod condition;
mod crds;
mod eval_job;
mod eval_job_status;
pub mod names;
mod pod;
mod reason;
mod reference;
mod sandbox;
mod team_secret;
mod team_secret_store;
mod values;

pub use condition::{Condition, ConditionStatus, ConditionType, set_condition};
pub use crds::crds;
pub use eval_job::{
    Auth, Benchmark, EvalJob, EvalJobSpec, EvaluatedModel, FailurePolicy, Framework, Generation, Grader, KeyReference,
    PersistentVolumeClaim, Results, Runner, WandbResults,
};
pub use eval_job_status::{
    BenchmarkPhase, BenchmarkStatus, BoundBy, BoundSecret, EvalJobStatus, EvaluationPhase, Metric, Samples, Score,
    Tokens,
};
pub use pod::{
    Capabilities, EgressPort, EgressRule, EnvVar, File, LocalObjectReference, Network, PodMetadata, Resources,
    SeccompProfile, SecurityContext, Toleration,
};
pub use reason::Reason;
pub use reference::SecretReference;
pub use sandbox::{Delivery, Phase, Sandbox, SandboxSpec, SandboxStatus, SecretRemoval, SecretState, SecretStatus};
pub use team_secret::{SealedVersion, TeamSecret, TeamSecretSpec};
pub use team_secret_store::{
    AwsBackend, AzureBackend, BackendKind, BreakerState, Cache, CheckStep, Connection, GcpBackend, KubernetesBackend,
    RateLimit, RevokedSecret, RevokedStatus, SealedBackend, SecretSource, ServiceAccountSource, SignIn, StoreCheck,
    TeamSecretStore, TeamSecretStoreSpec, TeamSecretStoreStatus, VaultBackend, VaultEngine, WandbBackend, WandbValues,
};
use values::text_map;
pub use values::{Quantity, Time};

/// The API group of all kinds.
pub const GROUP: &str = "daypass.dev";
/// The served version.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of all kinds.
pub const API_VERSION: &str = "daypass.dev/v1alpha1";
/// The type of a run Secret.
pub const RUN_SECRET_TYPE: &str = "daypass.dev/run";
/// Annotation of a run: who submitted it. Proven by admission policy.
pub const SUBMITTED_BY: &str = "daypass.dev/submitted-by";
/// Annotation of a store: a request for a check, any text of at most 64 characters. The operator looks when it changes, and
/// repeats it in the status.
pub const CHECK_REQUESTED: &str = "daypass.dev/check-requested";
/// Annotation of a store: `NAME TIME` of the last change of a value in its backend. The operator forgets that name then.
pub const CHANGED: &str = "daypass.dev/changed";
