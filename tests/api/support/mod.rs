//! What all tests of this tier share: one control plane with the chart, one operator, and hands to act as people.

mod actors;
mod evaluations;
mod fleet;
mod node;
mod operator;
mod wandb;
mod writes;

pub use actors::{COLLECTED, Team, sandbox};
pub use fleet::Fleet;
pub use node::{container, ended, running};
pub use operator::{NAMESPACE, Operator, Replica, TURN, end_cluster, operator, own_cluster, settle};
// For the tier `stores`, which shares this module.
#[allow(unused_imports, reason = "the tier `api` leaves it as it is")]
pub use operator::STORES;
