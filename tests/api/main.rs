//! The tier `api`: a real control plane, the chart's own rights and policies, the operator as a process. No root.

mod ask;
mod chart;
mod cli;
mod guard;
mod keys;
mod lifecycle;
mod policies;
mod rbac;
mod support;
