//! What an attempt's exit code says, and whether another attempt may help.

use crate::api::Reason;

macro_rules! causes {
    ($($name:ident = $code:literal, $reason:ident, $again:literal, $text:literal;)*) => {
        /// Why a runner ended, by its exit code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Cause { $(#[doc = $text] $name,)* }

        impl Cause {
            /// Every cause.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The cause that an exit code stands for.
            pub const fn of_exit(code: i32) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            /// The exit code.
            pub const fn exit_code(self) -> i32 {
                match self { $(Self::$name => $code,)* }
            }

            /// The word that the runner writes.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What status shows.
            pub const fn reason(self) -> Reason {
                match self { $(Self::$name => Reason::$reason,)* }
            }

            /// Whether another attempt may help.
            pub const fn may_pass_again(self) -> bool {
                match self { $(Self::$name => $again,)* }
            }

            /// What it means, for people, with what mends it.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

causes! {
    Succeeded = 0, Succeeded, false, "The benchmark has a score";
    SamplesFailed = 10, SamplesFailed, true, "Samples failed; the Pod's log says which";
    ModelUnavailable = 11, ModelUnavailable, true, "The model's server does not answer as it should";
    ModelRateLimited = 12, ModelRateLimited, true, "The model's server asks for fewer calls; lower model.generation.maxConnections";
    DatasetUnavailable = 13, DatasetUnavailable, true, "The data set's server does not answer as it should";
    InvalidRun = 20, InvalidRun, false, "The runner refused its configuration";
    EnvMissing = 21, EnvMissing, false, "A variable that the benchmark needs was empty";
    ModelAuthFailed = 22, ModelAuthFailed, false, "The model's server refuses the key; rotate the secret that model.apiKey names";
    DatasetAccessDenied = 23, DatasetAccessDenied, false, "The token has no access to the gated data set; ask for it on the data set's page, with the account that the token is of";
    UnknownTask = 24, UnknownTask, false, "The runner's image has no such task";
    SelfGrading = 25, SelfGrading, false, "The evaluated model was asked to judge itself; add graders[], or set allowSelfGrading";
    ModelNotFound = 26, ModelNotFound, false, "The model's server does not know the model; correct model.name";
    JudgeAuthFailed = 27, JudgeAuthFailed, false, "A judge's server refuses the key; rotate the secret that graders[].apiKey names";
    PackageMissing = 28, PackageMissing, false, "The runner's image lacks a package that the task needs; set runner.image";
    DatasetMissing = 29, DatasetMissing, false, "The data set is nowhere to be found";
    ResultsNotStored = 30, ResultsNotStored, true, "The result could not be stored";
    Unscored = 31, Unscored, false, "The benchmark ran and came to no number";
    ResultsDenied = 32, AccessDenied, false, "The place for results refuses the key, the entity or the project; correct results.wandb";
    Unknown = 40, NonZeroExit, true, "The runner failed for an unknown cause; the Pod's log says more";
    Cancelled = 143, Cancelled, true, "The runner was told to end";
}

/// Whether another attempt may help after an attempt that ended for this reason without a word from its runner.
pub(super) const fn may_pass_again(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NonZeroExit
            | Reason::OOMKilled
            | Reason::Evicted
            | Reason::PodLost
            | Reason::PodDeleted
            | Reason::SecretLost
            | Reason::StartupTimeout
            | Reason::StoreUnavailable
            | Reason::StoreThrottled
    )
}

/// Whether an attempt that ended for this reason counts against `backoffLimit`: a drained node is nobody's failure.
pub(super) const fn counts(reason: Reason) -> bool {
    !matches!(reason, Reason::Evicted)
}
