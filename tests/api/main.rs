//! The tier `api`: a real control plane, the chart's own rights and policies, the operator as a process. No root.

#![allow(clippy::needless_pass_by_value, reason = "`json!` at the call reads better without a borrow")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod ask;
mod audit;
mod chart;
mod cli;
mod conflicts;
mod ends;
mod evaluations;
mod fixed_fields;
mod guard;
mod keys;
mod kubectl;
mod leader;
mod left_behind;
mod lifecycle;
mod many;
mod needs;
mod policies;
mod rbac;
mod refused_manifests;
mod revocation;
mod rotation;
mod support;
mod troubles;
