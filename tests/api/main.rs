//! The tier `api`: a real control plane, the chart's own rights and policies, the operator as a process. No root.

mod lifecycle;
mod support;
