//! `daypass operator-self-test`: what `helm test` runs as the operator.

use kube::Client;

use super::error::Result;
use super::{CliError, Session};
use crate::guard::{GuardConfig, refused_reads, table};

/// Tries each read that must be refused, and shows the answers.
pub(super) async fn run(session: &mut Session) -> Result<()> {
    let client = Client::try_default().await.map_err(|_| CliError::failure("no API server is configured here"))?;
    let namespace = std::env::var("POD_NAMESPACE").unwrap_or_else(|_| session.global.system_namespace.clone());
    let rows = refused_reads(&client, &GuardConfig::new(namespace)).await;
    session.out.text(&table(&rows))?;
    let open = rows.iter().filter(|row| !row.refused).count();
    if open == 0 {
        return Ok(());
    }
    Err(CliError::failure(format!("{open} of {} reads were not refused: install the chart's policies", rows.len())))
}
