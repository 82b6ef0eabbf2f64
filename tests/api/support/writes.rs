//! What the operator wrote, as the audit log tells it.

use anyhow::Result;
use daypass_testcluster::{AuditEntry, Mark};

use super::Team;

/// The operator's user name.
const OPERATOR: &str = "system:serviceaccount:daypass-system:daypass-operator";

impl Team {
    /// The present end of the audit log.
    pub fn mark(&self) -> Result<Mark> {
        self.cluster.audit().mark()
    }

    /// Everything that the operator asked for since a mark, in the order of the answers.
    pub async fn operator_requests(&self, mark: Mark) -> Result<Vec<AuditEntry>> {
        self.cluster.audit_settled().await?;
        let mut entries = self.cluster.audit().since(mark)?;
        entries.retain(|entry| entry.user == OPERATOR);
        Ok(entries)
    }

    /// What the operator wrote in this namespace since a mark, as `VERB RESOURCE`. Dry runs and events are left out.
    pub async fn writes(&self, mark: Mark) -> Result<Vec<String>> {
        let entries = self.operator_requests(mark).await?;
        let mine = entries.iter().filter(|entry| entry.namespace == self.namespace && entry.resource != "events");
        Ok(mine.filter(|entry| entry.is_write()).map(describe).collect())
    }

    /// How many events the operator wrote in this namespace since a mark.
    pub async fn events(&self, mark: Mark) -> Result<usize> {
        let entries = self.operator_requests(mark).await?;
        Ok(entries.iter().filter(|entry| entry.namespace == self.namespace && entry.resource == "events").count())
    }
}

fn describe(entry: &AuditEntry) -> String {
    let mut text = format!("{} {}", entry.verb, entry.resource);
    if !entry.subresource.is_empty() {
        text = format!("{text}/{}", entry.subresource);
    }
    if entry.code >= 300 {
        text = format!("{text} ({})", entry.code);
    }
    text
}
