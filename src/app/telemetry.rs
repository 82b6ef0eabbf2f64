//! Logs. The audit records are lines of the target `audit` among them, whatever the level.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use super::config::{Log, LogFormat};

/// Below these a client would print whole answers of the API server, and with them what they hold.
const CAPPED: [&str; 5] = ["kube_client=info", "hyper=info", "hyper_util=info", "rustls=info", "aws_=info"];

/// Starts writing logs to standard output.
///
/// # Errors
/// The level is no filter.
pub(super) fn start(log: &Log) -> anyhow::Result<()> {
    let mut filter =
        EnvFilter::try_new(&log.level).with_context(|| format!("log.level: {:?} is no filter", log.level))?;
    for directive in CAPPED.iter().chain(&["kube_client::client=error", "audit=info"]) {
        filter = filter.add_directive(directive.parse().context("a built-in log directive")?);
    }
    // Colours are for terminals: a log that is collected would be full of escapes.
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(std::io::stdout().is_terminal());
    match log.format {
        LogFormat::Json => lines.json().flatten_event(true).init(),
        LogFormat::Human => lines.init(),
    }
    Ok(())
}
