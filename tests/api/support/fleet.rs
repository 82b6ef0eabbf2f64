//! Many runs at once, each with a value of its own, and proof that every one of them went right.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daypass::api::{Phase, Sandbox};
use daypass_testcluster::poll;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;

use super::Team;

/// How many team secrets the runs share.
const KEYS: usize = 10;
/// How many hands play the nodes.
const HANDS: usize = 8;
/// How long a run may take for one stretch: leaders may be killed meanwhile.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs of one team.
pub struct Fleet<'a> {
    team: &'a Team,
    /// Name of the Sandbox and of the run, in the order of their making.
    runs: Vec<(String, String)>,
}

fn value(index: usize) -> String {
    format!("value of key {}", index % KEYS)
}

impl<'a> Fleet<'a> {
    /// Sets the team's secrets; no run yet.
    pub async fn new(team: &'a Team) -> Result<Self> {
        for index in 0..KEYS {
            team.set_secret(&format!("KEY_{index}"), value(index).as_bytes()).await?;
        }
        Ok(Self { team, runs: Vec::new() })
    }

    /// Applies that many more Sandboxes, at once.
    pub async fn submit(&mut self, count: usize) -> Result<()> {
        let new = self.runs.len()..self.runs.len() + count;
        let made = stream::iter(new).map(async |index: usize| {
            let name = format!("run-{index}");
            let secrets = json!([{"name": format!("KEY_{}", index % KEYS), "envVar": "KEY"}]);
            let run = self.team.run(&name, json!({"secrets": secrets})).await?;
            anyhow::Ok((name, run))
        });
        let made: Vec<_> = made.buffered(HANDS).try_collect().await?;
        self.runs.extend(made);
        Ok(())
    }

    /// The nodes start these runs: each finds the right value under its name. Gives the seconds that each Pod waited.
    pub async fn start(&self, which: Range<usize>) -> Result<BTreeMap<String, i64>> {
        let waited = stream::iter(which).map(async |index: usize| {
            let (name, run) = &self.runs[index];
            let pod = self.pod(run).await?;
            let copy = self.team.copy(run).await.with_context(|| format!("{name} has a Pod and no Secret"))?;
            ensure!(copy == [("KEY".to_owned(), value(index))].into(), "{name} would get {copy:?}");
            self.team.play_start(run).await?;
            let made = pod.creation_timestamp().map_or(0, |time| time.0.as_second());
            Ok((name.clone(), jiff::Timestamp::now().as_second() - made))
        });
        waited.buffer_unordered(HANDS).try_collect().await
    }

    /// The programs of these runs end well.
    pub async fn exit(&self, which: Range<usize>) -> Result<()> {
        let ended = stream::iter(which).map(async |index: usize| self.team.play_exit(&self.runs[index].1, 0).await);
        ended.buffer_unordered(HANDS).try_collect().await
    }

    async fn pod(&self, run: &str) -> Result<Pod> {
        poll(PATIENCE, "the run has its Pod", async || self.team.pods().get_opt(run).await?.context("no Pod yet")).await
    }

    /// Waits until these runs are seen to run, their copies gone.
    pub async fn wait_running(&self, which: Range<usize>) -> Result<()> {
        self.wait(which, "all runs run without a copy", |sandbox| {
            let status = sandbox.status.clone().unwrap_or_default();
            status.phase == Phase::Running && status.secrets_state.as_deref() == Some("Removed")
        })
        .await
    }

    /// Waits until all are over, and proves that each went right and nothing is left.
    pub async fn check_the_end(&self) -> Result<()> {
        self.wait(0..self.runs.len(), "all runs are over", |sandbox| {
            sandbox.status.as_ref().is_some_and(|status| status.phase.is_terminal())
        })
        .await?;
        for sandbox in self.team.sandboxes().list(&ListParams::default()).await? {
            let status = sandbox.status.clone().unwrap_or_default();
            let right = status.phase == Phase::Completed
                && status.exit_code == Some(0)
                && status.secrets_state.as_deref() == Some("Removed")
                && status.secret_injected_at.is_some()
                && status.secret_removed_at.is_some()
                && status.secrets.iter().all(|secret| secret.version.as_deref() == Some("1"));
            ensure!(right, "{}: {}", sandbox.name_any(), json!(status));
        }
        let pods = self.team.pods().list(&ListParams::default()).await?;
        ensure!(pods.items.len() == self.runs.len(), "{} Pods for {} runs", pods.items.len(), self.runs.len());
        self.team.assert_no_run_secrets().await
    }

    async fn wait(&self, which: Range<usize>, what: &str, fits: impl Fn(&Sandbox) -> bool) -> Result<()> {
        poll(PATIENCE, what, async || {
            let all = self.team.sandboxes().list(&ListParams::default()).await?;
            let all: BTreeMap<String, Sandbox> = all.into_iter().map(|sandbox| (sandbox.name_any(), sandbox)).collect();
            let not_yet: Vec<String> = self.runs[which.clone()]
                .iter()
                .filter(|(name, _)| !all.get(name).is_some_and(&fits))
                .map(|(name, _)| format!("{name}: {}", json!(all.get(name).and_then(|sandbox| sandbox.status.clone()))))
                .collect();
            ensure!(not_yet.is_empty(), "{} do not yet, such as {}", not_yet.len(), not_yet[0]);
            Ok(())
        })
        .await
    }
}
