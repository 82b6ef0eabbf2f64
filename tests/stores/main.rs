//! The tier `stores`: every backend against a server of its own, and Sandboxes that get their values from one. Needs all
//! backends, as they are by default.

#![allow(clippy::needless_pass_by_value, reason = "`json!` at the call reads better without a borrow")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod aws;
mod azure;
mod cli;
mod contract;
mod examples;
mod google;
mod kubernetes;
mod runs;
mod sdk;
mod support;
mod vault;
mod vault_faults;
mod wandb;

#[path = "../api/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tier `api` uses more of it")]
mod cluster;
