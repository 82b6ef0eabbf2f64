//! What all tests of this tier share: one cluster with a node, the chart installed in it, and teams.

mod operator;
mod team;

pub use operator::{BUSYBOX, NAMESPACE, operator_logs, world};
pub use team::{Run, Team, run_command};
