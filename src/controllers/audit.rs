//! Audit records: who got which secret, when. JSON lines on the target `audit`; never a value.

use serde_json::{Value, json};

use crate::api::Reason;
use crate::run::Run;

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// Secrets were asked for.
    Resolve,
    /// The run Secret was made.
    Inject,
    /// The run Secret was proven gone.
    Remove,
}

impl Action {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Inject => "inject",
            Self::Remove => "remove",
        }
    }
}

/// Writes one record of a run. `submitter` is the annotation that a policy proves, where there is one.
pub fn of_run(
    run: &Run,
    submitter: Option<&str>,
    action: Action,
    decision: &str,
    reason: Reason,
    versions: &[Option<String>],
) {
    let secrets: Vec<Value> = run
        .references
        .iter()
        .enumerate()
        .map(|(index, reference)| {
            json!({
                "team": reference.team(&run.namespace),
                "accessName": reference.access_name(),
                "variable": reference.variable(),
                "version": versions.get(index).cloned().flatten(),
            })
        })
        .collect();
    emit(&json!({
        "action": action.as_str(),
        "decision": decision,
        "reason": reason,
        "runUID": run.owner_uid,
        "attempt": run.attempt,
        "benchmark": run.benchmark,
        "kind": run.owner_kind,
        "namespace": run.namespace,
        "name": run.owner_name,
        "serviceAccount": run.service_account,
        "submitter": submitter,
        "secrets": secrets,
    }));
}

/// Writes one record of a team secret, as the operator sees it change.
pub fn of_secret(action: &str, team: &str, access_name: &str, version: Option<i64>, by: Option<&str>) {
    emit(&json!({"action": action, "team": team, "accessName": access_name, "version": version, "by": by}));
}

fn emit(record: &Value) {
    tracing::info!(target: "audit", record = %record);
}
