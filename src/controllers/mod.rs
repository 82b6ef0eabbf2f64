//! Observe, plan, apply, report. One module a kind.

pub mod audit;
mod context;
mod memory;
pub mod sandbox;
pub mod store;
pub mod watches;

pub use context::{Clock, Context, EventLevel, Lanes, SystemClock};
pub use memory::Memory;
pub use watches::{Watches, run_labels};
