//! Observe, plan, apply, report. One module a kind.

pub mod audit;
pub mod catalog;
mod context;
pub mod eval_job;
mod memory;
mod runs;
pub mod sandbox;
pub mod store;
pub mod watches;

pub use context::{Clock, Context, EventLevel, Lanes, SystemClock, WAITING_CREATIONS};
pub use memory::Memory;
pub use watches::{Watches, run_labels};

use kube::api::ObjectMeta;

/// Who submitted an object: the annotation that a policy proves, where there is one.
fn submitter(metadata: &ObjectMeta) -> Option<&str> {
    metadata.annotations.as_ref()?.get(crate::api::SUBMITTED_BY).map(String::as_str)
}
