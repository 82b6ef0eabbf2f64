//! What all tests of this tier share: one cluster with a node, the chart installed in it, and teams.

mod evaluations;
mod operator;
mod team;

pub use operator::{NAMESPACE, World, install, world};
pub use team::{Run, Team};
