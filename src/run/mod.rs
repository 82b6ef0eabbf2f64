//! The life of a run, written once for every kind that has runs. Pure: no client, no clock, no values.
//!
//! A controller observes ([`Observed`]), asks [`plan`] what to do, does it, and reports the [`State`] that came out.

mod network;
mod observed;
mod outcome;
mod plan;
mod pod;
mod pod_view;
mod state;
#[cfg(test)]
mod tests;

pub use network::network_policy;
pub use observed::{Facts, Observed, PodSeen, Problem, Refusal, Resolution, Run, SecretFact};
pub use plan::{Plan, Step, plan, wants_secrets};
pub use pod::{
    GATE, PodDefaults, PodExtras, PodInput, RUN_LABEL, SANDBOX_LABEL, Volume, owner_reference, run_pod, run_secret,
};
pub use pod_view::{INJECTED_AT, Main, PodPhase, PodView, SECRETS, Versions};
pub use state::{SecretCopy, State};
