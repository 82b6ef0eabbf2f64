//! The tier `api`: a real control plane, the chart's own rights and policies, the operator as a process. No root.

mod ask;
mod ends;
mod fixed_fields;
mod leader;
mod lifecycle;
mod many;
mod needs;
mod refused_manifests;
mod revocation;
mod rotation;
mod support;
mod troubles;
