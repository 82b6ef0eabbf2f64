//! The tier `api`: a real control plane, the chart's own rights and policies, the operator as a process. No root.

mod ask;
mod chart;
mod cli;
mod ends;
mod fixed_fields;
mod guard;
mod keys;
mod leader;
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
