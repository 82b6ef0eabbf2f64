//! What all tests of this tier share: one control plane with the chart, one operator, and hands to act as people.

mod actors;
mod operator;

pub use actors::{Team, sandbox, wait_for};
pub use operator::{NAMESPACE, Operator, operator};
