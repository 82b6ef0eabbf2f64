//! The tier `api`: a real control plane, the chart's own rights and policies, the operator as a process. No root.

mod ask;
mod chart;
mod guard;
mod lifecycle;
mod policies;
mod support;
