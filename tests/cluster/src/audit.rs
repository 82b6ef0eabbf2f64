//! The API server's audit log: who did what, counted without touching the clients.

use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;

/// The audit log of one cluster. Cheap to make; reads the file at each call.
#[derive(Clone, Debug)]
pub struct AuditLog {
    path: PathBuf,
}

/// A point in an audit log.
#[derive(Clone, Copy, Debug)]
pub struct Mark(u64);

/// One request. A watch and other long requests are there from their start on; all others once they are answered.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    /// Who asked; with impersonation, the user that was impersonated.
    pub user: String,
    /// The same user's groups.
    pub groups: Vec<String>,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, ...
    pub verb: String,
    /// API group; empty for the core group and for what is no resource.
    pub api_group: String,
    /// Plural name of the resource, such as `secrets`; empty for paths such as `/readyz`.
    pub resource: String,
    /// `status`, `log`, `exec`, ...; empty if none.
    pub subresource: String,
    /// Empty for cluster-scoped resources.
    pub namespace: String,
    /// Empty for lists and often for creates: the audit log knows the name from the path only.
    pub name: String,
    /// HTTP status code of the answer.
    pub code: u16,
    /// Whether the query asked for a dry run. In a DELETE it may also stand in the body, which is not recorded.
    pub dry_run: bool,
    /// Path and query.
    pub uri: String,
    /// The client's name for itself.
    pub user_agent: String,
    /// When the request came in.
    pub received: Timestamp,
}

impl AuditEntry {
    /// Whether it asked for a change, dry runs left out. It counts refused ones too: see [`AuditEntry::code`].
    pub fn is_write(&self) -> bool {
        let changes = ["create", "update", "patch", "delete", "deletecollection"].contains(&self.verb.as_str());
        changes && !self.dry_run && !self.resource.is_empty()
    }
}

impl AuditLog {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The present end of the log. Requests that are under way may come before or after it.
    pub fn mark(&self) -> Result<Mark> {
        match std::fs::metadata(&self.path) {
            Ok(file) => Ok(Mark(file.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Mark(0)),
            Err(error) => Err(error).context("the audit log"),
        }
    }

    /// All requests since the start of the cluster.
    pub fn all(&self) -> Result<Vec<AuditEntry>> {
        self.since(Mark(0))
    }

    /// The requests after a mark, in the order in which they were answered. See also [`crate::Cluster::audit_settled`].
    pub fn since(&self, mark: Mark) -> Result<Vec<AuditEntry>> {
        let mut text = Vec::new();
        match File::open(&self.path) {
            Ok(mut file) => {
                file.seek(SeekFrom::Start(mark.0))?;
                file.read_to_end(&mut text)?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).context("the audit log"),
        }
        parse(&text)
    }
}

fn parse(text: &[u8]) -> Result<Vec<AuditEntry>> {
    // The API server may be in the middle of its last line, and a mark may stand in the middle of the first one.
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let mut seen = HashSet::new();
    let mut entries = Vec::new();
    for (number, line) in text[..whole].split(|&byte| byte == b'\n').enumerate() {
        if line.is_empty() || (number == 0 && !line.starts_with(b"{")) {
            continue;
        }
        let event: Event = serde_json::from_slice(line).context("a line of the audit log")?;
        // A long request is recorded at its start and again at its end.
        if seen.insert(event.audit_id.clone()) {
            entries.push(event.into());
        }
    }
    Ok(entries)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "auditID")]
    audit_id: String,
    #[serde(rename = "requestURI")]
    uri: String,
    verb: String,
    user: User,
    impersonated_user: Option<User>,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<ObjectRef>,
    response_status: Option<ResponseStatus>,
    request_received_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
    #[serde(default)]
    groups: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct ResponseStatus {
    #[serde(default)]
    code: u16,
}

impl From<Event> for AuditEntry {
    fn from(event: Event) -> Self {
        let user = event.impersonated_user.unwrap_or(event.user);
        let object = event.object_ref.unwrap_or_default();
        let query = event.uri.split_once('?').map_or("", |(_, query)| query);
        Self {
            user: user.username,
            groups: user.groups,
            verb: event.verb,
            api_group: object.api_group,
            resource: object.resource,
            subresource: object.subresource,
            namespace: object.namespace,
            name: object.name,
            code: event.response_status.map_or(0, |status| status.code),
            dry_run: query.split('&').any(|pair| pair.starts_with("dryRun=")),
            uri: event.uri,
            user_agent: event.user_agent,
            received: event.request_received_timestamp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = concat!(
        r#"{"kind":"Event","auditID":"1","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/a/secrets/s?dryRun=All","verb":"delete","user":{"username":"admin","groups":["system:masters"]},"impersonatedUser":{"username":"member","groups":["team"]},"userAgent":"kubectl","objectRef":{"resource":"secrets","namespace":"a","name":"s","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":403},"requestReceivedTimestamp":"2030-01-02T03:04:05.678901Z","stageTimestamp":"2030-01-02T03:04:05.678901Z"}"#,
        "\n",
        r#"{"kind":"Event","auditID":"2","stage":"ResponseStarted","requestURI":"/apis/daypass.dev/v1/sandboxes?watch=true","verb":"watch","user":{"username":"operator"},"objectRef":{"resource":"sandboxes","apiGroup":"daypass.dev"},"responseStatus":{"code":200},"requestReceivedTimestamp":"2030-01-02T03:04:06.000000Z"}"#,
        "\n",
        r#"{"kind":"Event","auditID":"2","stage":"ResponseComplete","requestURI":"/apis/daypass.dev/v1/sandboxes?watch=true","verb":"watch","user":{"username":"operator"},"responseStatus":{"code":200},"requestReceivedTimestamp":"2030-01-02T03:04:06.000000Z"}"#,
        "\n",
        r#"{"kind":"Event","auditID":"3","stage":"Resp"#,
    );

    #[test]
    fn a_request_counts_once_and_a_torn_line_not_yet() {
        let entries = parse(LINES.as_bytes()).unwrap();
        assert_eq!(entries.len(), 2);
        let [refused, watch] = &entries[..] else { unreachable!() };
        assert_eq!((refused.user.as_str(), &refused.groups[..]), ("member", &["team".to_owned()][..]));
        assert_eq!(
            (refused.verb.as_str(), refused.resource.as_str(), refused.name.as_str()),
            ("delete", "secrets", "s")
        );
        assert_eq!((refused.namespace.as_str(), refused.code, refused.dry_run), ("a", 403, true));
        assert!(!refused.is_write(), "a dry run changes nothing");
        assert_eq!(
            (watch.user.as_str(), watch.verb.as_str(), watch.api_group.as_str()),
            ("operator", "watch", "daypass.dev")
        );
        assert!(!watch.is_write());
    }

    #[test]
    fn a_mark_inside_a_line_skips_its_rest() {
        assert_eq!(parse(&LINES.as_bytes()[20..]).unwrap().len(), 1);
        assert_eq!(parse(b"").unwrap().len(), 0);
    }

    #[test]
    fn a_line_that_is_no_event_is_an_error() {
        assert!(parse(b"{\"kind\":\"Event\"}\n").is_err());
    }
}
