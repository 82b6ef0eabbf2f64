//! Daypass gives team secrets to sandboxes and evaluation jobs for exactly as long as one run lasts.

pub mod api;
pub mod app;
pub mod cli;
pub mod controllers;
pub mod evaluation;
pub mod guard;
pub mod kube_ext;
pub mod metrics;
pub mod resolve;
pub mod run;
pub mod secret;
pub mod stores;
