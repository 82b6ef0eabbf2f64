//! The tier `stores`: every backend against a server of its kind. No root.

#![allow(clippy::needless_pass_by_value, reason = "`json!` at the call reads better without a borrow")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod azure;
mod google;
mod sdk;
mod support;
