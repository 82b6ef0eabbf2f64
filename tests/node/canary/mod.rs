//! A value is nowhere but in the run Secret and the container: looked for in every form, at every place that can be
//! reached, with controls that prove that the search finds what is there.

mod forms;
mod places;

pub use forms::Canary;
pub use places::volume;

use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daypass::api::{Phase, Reason};
use daypass_testcluster::poll;
use serde_json::json;

use crate::support::{Run, Team};
use places::{Finding, logs, metrics, objects, processes, stored};

/// What the command-line tool has printed, and what was to be seen of it from outside.
struct Traces(Vec<(String, Vec<u8>)>);

impl Traces {
    /// Gives the tool a value as the team's admin, and looks at its process while it has it.
    async fn give(&mut self, team: &Team, arguments: &[&str], input: &[u8]) -> Result<()> {
        use std::io::Write as _;
        let mut command = team.daypass_command();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take().context("standard input")?;
        stdin.write_all(input)?;
        // It reads until the end, so it is there until this end is closed.
        for file in ["cmdline", "environ"] {
            let path = format!("/proc/{}/{file}", child.id());
            // Both are empty for a moment, while the program is being loaded.
            let content = poll(Duration::from_secs(10), "the tool has begun", async || {
                let content = std::fs::read(&path)?;
                ensure!(!content.is_empty(), "{file} is empty");
                Ok(content)
            });
            let content = content.await?;
            self.0.push((format!("{file} of daypass {}", arguments.join(" ")), content));
        }
        drop(stdin);
        self.printed(arguments, child.wait_with_output()?)
    }

    /// Runs the tool as the team's admin.
    fn run(&mut self, team: &Team, arguments: &[&str]) -> Result<()> {
        self.printed(arguments, team.daypass_command().args(arguments).stdin(Stdio::null()).output()?)
    }

    fn printed(&mut self, arguments: &[&str], output: Output) -> Result<()> {
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.0.push((format!("output of daypass {}", arguments.join(" ")), output.stdout));
        self.0.push((format!("errors of daypass {}", arguments.join(" ")), output.stderr));
        Ok(())
    }

    fn find(&self, canary: &Canary) -> Vec<Finding> {
        self.0.iter().flat_map(|(place, content)| Finding::all(canary, place, content)).collect()
    }
}

#[tokio::test]
async fn a_value_is_nowhere_but_in_its_run_secret_and_its_container() -> Result<()> {
    let team = Team::new("canary").await?;
    let canary = Canary::new()?;
    let mut traces = Traces(Vec::new());
    let with_nul = [canary.value(), &b"\0"[..]].concat();
    let as_json = serde_json::to_vec(&json!({"token": canary.text()}))?;
    for (name, value) in [("API_KEY", canary.value()), ("WITH_NUL", &with_nul), ("AS_JSON", &as_json)] {
        traces.give(&team, &["secret", "set", name, "--from-stdin"], value).await?;
    }
    traces.give(&team, &["secret", "rotate", "API_KEY", "--keep", "--from-stdin"], canary.value()).await?;

    // A run whose copy stays until the test has looked, one that was given the value, and two that could not be.
    let hold = "while [ ! -e /workspace/go ]; do sleep 0.1; done";
    let spec = |secret: serde_json::Value, delivery: &str| json!({"command": ["sh", "-c", hold], "delivery": delivery, "secrets": [secret], "secretsTimeoutSeconds": 0});
    let holder = team.submit("holder", spec(json!({"name": "API_KEY"}), "File")).await?;
    let given = team.submit("given", spec(json!({"name": "AS_JSON", "field": "token"}), "Env")).await?;
    let malformed = team.submit("malformed", spec(json!({"name": "WITH_NUL"}), "Env")).await?;
    let no_field = team.submit("no-field", spec(json!({"name": "AS_JSON", "field": "nope"}), "Env")).await?;
    team.wait(&holder, "it runs", |status| status.phase == Phase::Running).await?;
    team.wait(&given, "its copy is gone", |status| status.secret_removed_at.is_some()).await?;
    for (run, reason) in [(&malformed, Reason::SecretMalformed), (&no_field, Reason::SecretFieldNotFound)] {
        let status = team.wait_finished(run).await?;
        ensure!(status.reason.as_ref() == Some(&reason), "{status:?}");
    }
    for run in [&holder, &given] {
        ensure!(environment_or_file_has(&team, run, &canary)?, "{}: the container has the value", run.sandbox);
    }
    traces.run(&team, &["secret", "holders", "-o", "json"])?;
    traces.run(&team, &["secret", "list", "-o", "yaml"])?;

    // The one copy that is there is found where it belongs: that is the first control.
    let secret = format!("secrets {}/{}", team.namespace, holder.name);
    let mut expected = vec![secret.clone(), format!("etcd /registry/secrets/{}/{}", team.namespace, holder.name)];
    let found = everywhere(&team, &canary).await?.into_iter().chain(traces.find(&canary)).collect::<Vec<_>>();
    let mut places: Vec<String> = found.iter().map(|finding| finding.place.clone()).collect();
    places.sort();
    places.dedup();
    expected.sort();
    assert_eq!(places, expected, "{found:?}");

    // Once the runs are over it is nowhere.
    for run in [&holder, &given] {
        team.exec(run, &["touch", "/workspace/go"])?;
        let status = team.wait_finished(run).await?;
        ensure!(status.phase == Phase::Completed, "{status:?}");
    }
    traces.run(&team, &["secret", "holders", "-A", "-o", "yaml"])?;
    let found = everywhere(&team, &canary).await?.into_iter().chain(traces.find(&canary)).collect::<Vec<_>>();
    ensure!(found.is_empty(), "{found:?}");
    Ok(())
}

/// The second control: what is planted is found, in each of its forms.
#[tokio::test]
async fn the_search_finds_what_is_planted() -> Result<()> {
    let team = Team::new("planted").await?;
    let canary = Canary::new()?;
    for (form, text) in canary.forms() {
        let text = String::from_utf8_lossy(text).into_owned();
        let map = serde_json::from_value(json!({"metadata": {"name": form}, "data": {"x": format!("a {text} b")}}))?;
        kube::Api::<k8s_openapi::api::core::v1::ConfigMap>::namespaced(team.root.clone(), &team.namespace)
            .create(&kube::api::PostParams::default(), &map)
            .await?;
    }
    let shout = team.submit("shout", json!({"command": ["echo", canary.text()]})).await?;
    team.wait_finished(&shout).await?;

    let found = objects(&team.root, &canary).await?;
    for (form, _) in canary.forms() {
        let place = format!("configmaps {}/{form}", team.namespace);
        ensure!(found.iter().any(|finding| finding.place == place), "{form} was not found: {found:?}");
    }
    let found = stored(team.cluster, &canary).await?;
    let place = format!("etcd /registry/configmaps/{}/hexadecimal", team.namespace);
    ensure!(found.iter().any(|finding| finding.place == place), "{found:?}");
    let found = logs(team.cluster, &canary).await?;
    let place = format!("log of {}/{}", team.namespace, shout.name);
    ensure!(found.iter().any(|finding| finding.place == place), "{found:?}");
    Ok(())
}

/// Wherever a value could have come to in the cluster.
pub async fn everywhere(team: &Team, canary: &Canary) -> Result<Vec<Finding>> {
    let mut found = objects(&team.root, canary).await?;
    found.extend(stored(team.cluster, canary).await?);
    found.extend(logs(team.cluster, canary).await?);
    found.extend(metrics(&team.root, canary).await?);
    found.extend(processes(canary)?);
    Ok(found)
}

fn environment_or_file_has(team: &Team, run: &Run, canary: &Canary) -> Result<bool> {
    let text = team.exec(run, &["sh", "-c", "cat /run/daypass/API_KEY 2>/dev/null || printf %s \"$AS_JSON\""])?;
    Ok(text.as_bytes() == canary.value())
}
