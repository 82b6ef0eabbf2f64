//! What all tests of this tier share: one cluster with a node, the chart installed in it, and teams.

mod operator;
mod team;

pub use operator::{NAMESPACE, install};
pub use team::{Run, Team};
