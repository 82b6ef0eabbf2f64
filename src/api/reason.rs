//! Why something is as it is: the closed list that status, events, audit and metrics use.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// A reason, written in CamelCase wherever people or programs see it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)+
            /// A reason that this version does not know (written by a newer operator).
            #[serde(other)]
            Unknown,
        }

        impl Reason {
            /// Every reason that this version writes, with its description.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$name, concat!($($doc),+)),)+];

            /// The reason as it is written.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ Self::Unknown => "Unknown" }
            }
        }
    };
}

reasons! {
    /// Nobody has looked at the object yet.
    WaitingForController,
    /// The object was taken up.
    Accepted,
    /// Every named secret was found and may be used.
    Resolved,
    /// The run names no secrets.
    NoSecrets,
    /// The values were handed to the run.
    Injected,
    /// The run Secret is proven gone.
    Removed,
    /// The run still needs its run Secret.
    InUse,
    /// The run Secret's removal fails and is tried again.
    RemovalFailing,
    /// The run holds the newest versions.
    Current,
    /// A newer version of a secret exists; this run keeps its copy.
    NewerVersion,
    /// The store failed, and an older value was served as it allows.
    ServedStale,
    /// The container has started.
    Started,
    /// The run's Pod is about to start.
    Starting,
    /// The run ended with exit code 0.
    Succeeded,
    /// A named secret is not in its store.
    SecretNotFound,
    /// The secret is there, the asked field is not.
    SecretFieldNotFound,
    /// The value cannot be delivered as asked.
    SecretMalformed,
    /// The run's ServiceAccount may not use a named secret.
    AccessDenied,
    /// The team has no store of that name.
    StoreNotFound,
    /// The store's backend does not answer as it should.
    StoreUnavailable,
    /// The store's backend asks for fewer calls, or the store's own `rateLimit` leaves no room.
    StoreThrottled,
    /// The store lists names, and nothing gives it their values.
    ValuesNotReadable,
    /// The store's values stay in the API server, where everyone who may edit in the namespace reads them.
    ValuesInCluster,
    /// The key that a value is sealed to is gone.
    KeyLost,
    /// Two secrets, or a secret and a variable, want the same name.
    EnvVarConflict,
    /// The manifest asks for something that cannot be.
    InvalidSpec,
    /// The run Secret went away before the container had started.
    SecretLost,
    /// Something foreign stands under the name of the run.
    NameConflict,
    /// The API server refused the run's Pod.
    PodRefused,
    /// A quota has no room for the run now.
    QuotaExceeded,
    /// The namespace is going away.
    NamespaceTerminating,
    /// The admission policies are not proven in force, so nothing is created.
    OperatorNotReady,
    /// The Pod waits for a node.
    Unschedulable,
    /// The image cannot be pulled.
    ImagePullFailed,
    /// The container cannot be created.
    ContainerCreateFailed,
    /// The container did not start in time.
    StartupTimeout,
    /// The container ended with another exit code than 0.
    NonZeroExit,
    /// The container ran out of memory.
    OOMKilled,
    /// The Pod was evicted or preempted.
    Evicted,
    /// The run reached the end of its lifetime.
    DeadlineExceeded,
    /// Somebody deleted the run's Pod.
    PodDeleted,
    /// The run's Pod was lost with its node, or vanished unseen.
    PodLost,
    /// The run was stopped by its `stop` field.
    Stopped,
    /// A secret of the run was revoked.
    Revoked,
    /// The object is being deleted.
    Deleting,
    /// The store is in order.
    Ready,
    /// Some benchmarks succeeded, others did not.
    PartiallyFailed,
    /// No benchmark succeeded.
    BenchmarksFailed,
    /// A number is not what `expect` asks for.
    ExpectationsNotMet,
    /// Nothing was expected.
    NothingExpected,
    /// A key that a benchmark needs is named nowhere.
    KeyMissing,
    /// The job offers a secret or a judge that no benchmark needs.
    NotNeeded,
    /// The evaluated model would judge itself.
    SelfGrading,
    /// The catalog or the framework does not know the task.
    UnknownTask,
    /// The task has no such argument.
    UnknownArgument,
    /// The task needs what the runner's image does not have.
    RunnerUnsuitable,
    /// Neither the cluster admin nor the job names an image that runs benchmarks.
    RunnerImageUnset,
    /// The job waits because `suspend` is set.
    Suspended,
    /// The Pod waits for its queue.
    Queued,
    /// The benchmark waits for its turn.
    WaitingForTurn,
    /// The benchmark waits for its next attempt.
    BackOff,
    /// The cluster admin's catalog of benchmarks cannot be used.
    CatalogInvalid,
    /// The benchmark never began, because another had failed or the job was refused.
    Skipped,
    /// Samples failed.
    SamplesFailed,
    /// The model's server does not answer as it should.
    ModelUnavailable,
    /// The model's server asks for fewer calls.
    ModelRateLimited,
    /// The model's server refuses the key.
    ModelAuthFailed,
    /// The model's server does not know the model.
    ModelNotFound,
    /// A judge's server refuses the key.
    JudgeAuthFailed,
    /// The data set's server does not answer as it should.
    DatasetUnavailable,
    /// The data set is gated, and the token has no access to it.
    DatasetAccessDenied,
    /// The data set is nowhere to be found.
    DatasetMissing,
    /// The runner refused its configuration.
    InvalidRun,
    /// A variable that the benchmark needs was empty.
    EnvMissing,
    /// The runner's image lacks a package that the task needs.
    PackageMissing,
    /// The result could not be stored; the score stands.
    ResultsNotStored,
    /// The results are stored where the job asks for.
    ResultsStored,
    /// The benchmark ran and came to no number.
    Unscored,
    /// The runner was told to end.
    Cancelled,
    /// The runner's report cannot be read.
    ResultUnreadable,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

// A plain string in the schema: a status written by a newer operator must stay readable.
impl JsonSchema for Reason {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Reason".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 64})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_written_as_it_is_read() {
        for (reason, doc) in Reason::ALL {
            assert_eq!(serde_json::to_string(reason).unwrap(), format!("\"{reason}\""));
            assert!(doc.trim().ends_with('.'), "{reason} needs a sentence");
        }
        assert_eq!(serde_json::from_str::<Reason>("\"FromTheFuture\"").unwrap(), Reason::Unknown);
    }
}
