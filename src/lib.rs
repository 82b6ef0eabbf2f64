//! Daypass gives team secrets to sandboxes and evaluation jobs for exactly as long as one run lasts.

pub mod api;
pub mod guard;
pub mod run;
