//! What an evaluation is: which keys a benchmark needs and where they come from, what its runner is told, what its
//! result says, and when which benchmark has its turn. Pure: no client, no clock, no values.

mod bind;
mod catalog;
mod cause;
mod config;
mod expect;
mod report;
mod schedule;
mod shape;
mod summary;
#[cfg(test)]
mod tests;

pub use bind::{Binding, Bindings, Bound, Problem, WANDB_KEY, bind_each};
pub use catalog::{Catalog, CatalogError, DataSource, Entry, Need, NeedReason, Override, SelfGrading, SelfGradingBy};
pub use cause::Cause;
pub use config::{Attempt, Settings, configuration, environment};
pub use expect::{Expectation, unmet};
pub use report::Report;
pub use schedule::{Turn, fold, order, rerun, state_of, turn};
pub use shape::{
    BENCHMARK_LABEL, CATALOG_KEY, CATALOG_MAP, EVALJOB_LABEL, extras_of, recorded_secrets, run_of, shape_of,
};
pub use summary::{refuse, set_catalog, set_resolved, sum_of, summarize};
