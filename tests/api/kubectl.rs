//! What people see who have nothing but kubectl: rows, short names, the category, and a wait for the end.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use daypass::api::Phase;
use daypass_testcluster::Cluster;
use serde_json::json;

use crate::chart;
use crate::support::{Team, operator};

/// Runs kubectl and gives what it printed.
fn kubectl(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let output = cluster.kubectl(arguments)?;
    ensure!(output.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// The rows of `kubectl get`, by name: each cell under its column. An empty cell is empty here too.
fn rows(printed: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut rows = BTreeMap::new();
    let mut columns: Vec<(&str, usize)> = Vec::new();
    for line in printed.lines() {
        if line.starts_with("NAME ") {
            let starts = line.char_indices().filter(|&(at, _)| {
                let before = line[..at].chars().next_back();
                !line[at..].starts_with(' ') && before.is_none_or(|before| before == ' ')
            });
            columns = starts.map(|(at, _)| (line[at..].split(' ').next().unwrap_or_default(), at)).collect();
        } else if !line.is_empty() {
            let ends = columns.iter().skip(1).map(|&(_, at)| at).chain([line.len()]);
            let cells = columns.iter().zip(ends).map(|(&(name, from), to)| {
                let cell = line.get(from..to.min(line.len())).unwrap_or_default();
                (name.to_owned(), cell.trim().to_owned())
            });
            let row: BTreeMap<_, _> = cells.collect();
            rows.insert(row["NAME"].clone(), row);
        }
    }
    rows
}

#[tokio::test]
async fn a_row_that_nobody_has_looked_at_says_so() -> Result<()> {
    // No operator works here.
    let team = Team::on(chart::installed().await?, "rows").await?;
    let version = json!({"version": 1, "keyID": "k", "enc": "AAAA", "ciphertext": "AAAA"});
    let model = json!({"name": "m", "baseURL": "https://models.test/v1", "auth": "None"});
    for (kind, name, spec) in [
        ("Sandbox", "new", json!({})),
        ("EvalJob", "new", json!({"model": model, "benchmarks": [{"task": "boolq"}], "autoBind": false})),
        ("TeamSecretStore", "default", json!({"sealed": {}})),
        ("TeamSecret", "key", json!({"name": "KEY", "versions": [version]})),
    ] {
        let object = json!({
            "apiVersion": "daypass.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
        });
        team.apply(object).await.context(kind)?;
    }
    let rows = rows(&kubectl(team.cluster, &["get", "sbx,ej,tstore,tsec", "-n", &team.namespace])?);
    let cells = |name: &str, columns: &[&str]| -> Vec<String> {
        columns
            .iter()
            .map(|column| rows[name].get(*column).cloned().unwrap_or_else(|| format!("no {column}")))
            .collect()
    };
    assert_eq!(cells("sandbox.daypass.dev/new", &["PHASE", "REASON"]), ["Pending", "WaitingForController"]);
    assert_eq!(cells("evaljob.daypass.dev/new", &["MODEL", "PHASE"]), ["m", "Pending"]);
    assert_eq!(cells("teamsecretstore.daypass.dev/default", &["READY", "REASON"]), ["Unknown", "WaitingForController"]);
    assert_eq!(cells("teamsecret.daypass.dev/key", &["SECRET", "VERSION", "KEY"]), ["KEY", "1", "k"]);
    let category = kubectl(team.cluster, &["get", "daypass", "-n", &team.namespace, "-o", "name"])?;
    let mut all: Vec<_> = category.lines().collect();
    all.sort_unstable();
    assert_eq!(all, rows.keys().collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn kubectl_waits_for_the_end_and_shows_what_came_of_it() -> Result<()> {
    let team = Team::new(operator().await?, "kubectl").await?;
    team.set_secret("MODEL_KEY", b"value").await?;
    team.revoke(&[]).await?;
    let run = team.run("whole", json!({"secrets": [{"name": "MODEL_KEY"}]})).await?;
    team.pod(&run).await?;
    team.play_start(&run).await?;
    team.wait("whole", "it runs", |status| status.phase == Phase::Running).await?;
    let (cluster, namespace) = (team.cluster, team.namespace.clone());
    let waiting = tokio::task::spawn_blocking(move || {
        kubectl(cluster, &["wait", "--for=condition=Finished", "sbx/whole", "--timeout=60s", "-n", &namespace])
    });
    let job = team.evaluate("job", json!({"benchmarks": [{"task": "boolq"}]})).await?;
    let attempt = team.attempt(&job, "boolq", 1).await?;
    team.starts(&job, "boolq", &attempt).await?;
    team.play_score(&attempt, 0.5).await?;
    team.wait_job_over("job").await?;
    ensure!(!waiting.is_finished(), "the run goes on, and kubectl waits no more");
    team.play_exit(&run, 0).await?;
    assert_eq!(waiting.await??.trim(), "sandbox.daypass.dev/whole condition met");

    let rows = rows(&kubectl(team.cluster, &["get", "sandboxes,evaljobs,teamsecretstores", "-n", &team.namespace])?);
    for (name, expected) in [
        ("sandbox.daypass.dev/whole", &[("PHASE", "Completed"), ("REASON", "Succeeded"), ("SECRETS", "Removed")][..]),
        ("evaljob.daypass.dev/job", &[("MODEL", "m"), ("PHASE", "Completed"), ("DONE", "1/1"), ("SCORE", "0.5")]),
        ("teamsecretstore.daypass.dev/default", &[("BACKEND", "sealed"), ("READY", "True"), ("SECRETS", "1")]),
    ] {
        for (column, cell) in expected {
            assert_eq!(rows[name].get(*column).map(String::as_str), Some(*cell), "{column} of {:?}", rows[name]);
        }
    }
    let exposure: i64 = rows["sandbox.daypass.dev/whole"]["EXPOSURE-MS"].parse()?;
    ensure!(exposure > 0, "{exposure}");
    Ok(())
}
