//! What others have on record of a run: the operator's audit records, and the API server's audit log.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daypass_testcluster::{Cluster, Mark, poll};
use serde_json::Value;

use super::SYSTEM;
use super::place::Place;
use super::story::quiet;

/// What a run without trouble leaves in the operator's log.
const ACTIONS: [&str; 3] = ["resolve", "inject", "remove"];

/// Shows the audit records of a run.
pub(super) async fn audit_records(place: &Place, uid: &str) -> Result<()> {
    let records = poll(Duration::from_secs(20), "the audit records are in the operator's log", async || {
        let mut logs = place.kubectl(None);
        logs.args(["logs", "-n", SYSTEM, "-l", "app.kubernetes.io/component=operator", "--tail=-1"]);
        let records = of_run(&quiet(&mut logs)?, uid);
        for action in ACTIONS {
            ensure!(records.iter().any(|(_, record)| record["action"] == action), "no record of {action} yet");
        }
        Ok(records)
    })
    .await?;
    for (time, record) in records {
        let secrets = record["secrets"].as_array().context("a record names its secrets")?;
        let secrets: Vec<String> = secrets
            .iter()
            .map(|secret| {
                let version =
                    secret["version"].as_str().map(|version| format!(" version {version}")).unwrap_or_default();
                format!("{}/{}{version}", text(&secret["team"]), text(&secret["accessName"]))
            })
            .collect();
        println!(
            "   {time}  {:<8}{:<9}{}  for {}/{} as ServiceAccount {}",
            text(&record["action"]),
            text(&record["decision"]),
            secrets.join(", "),
            text(&record["namespace"]),
            text(&record["name"]),
            text(&record["serviceAccount"]),
        );
    }
    Ok(())
}

/// The records of a run, with their times, from lines of JSON.
fn of_run(log: &str, uid: &str) -> Vec<(String, Value)> {
    let mut records: Vec<(String, Value)> = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["target"] == "audit")
        .filter_map(|line| {
            let record: Value = serde_json::from_str(line["record"].as_str()?).ok()?;
            Some((text(&line["timestamp"]).to_owned(), record))
        })
        .filter(|(_, record)| record["runUID"] == uid)
        .collect();
    records.sort_by(|one, other| one.0.cmp(&other.0));
    records
}

/// What the operator has written in a namespace since a mark, as the API server's audit log has it.
pub(super) async fn writes(cluster: &Cluster, mark: Mark, system: &str, namespace: &str) -> Result<Vec<String>> {
    cluster.audit_settled().await?;
    let user = format!("system:serviceaccount:{system}:daypass-operator");
    let entries = cluster.audit().since(mark)?;
    Ok(entries
        .into_iter()
        .filter(|entry| entry.user == user && entry.namespace == namespace && entry.is_write())
        .map(|entry| {
            let slash = if entry.subresource.is_empty() { "" } else { "/" };
            format!("{} {}{slash}{}  {}", entry.verb, entry.resource, entry.subresource, entry.code)
        })
        .collect())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_other_runs_and_other_lines_are_left_out() {
        let line = |target: &str, uid: &str, time: &str| {
            let record = serde_json::json!({"runUID": uid, "action": "inject"}).to_string();
            serde_json::json!({"timestamp": time, "target": target, "record": record}).to_string()
        };
        let log = [
            line("audit", "a", "2"),
            line("audit", "a", "1"),
            line("audit", "b", "1"),
            line("x", "a", "1"),
            "?".into(),
        ];
        let times: Vec<_> = of_run(&log.join("\n"), "a").into_iter().map(|(time, _)| time).collect();
        assert_eq!(times, ["1", "2"]);
    }
}
