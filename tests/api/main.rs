//! The tier `api`: a real control plane, the chart's own rights and policies, the operator as a process. No root.

mod ask;
mod fixed_fields;
mod lifecycle;
mod refused_manifests;
mod support;
