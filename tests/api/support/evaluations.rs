//! Hands to act on EvalJobs, and the runner's part in an attempt's Pod.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daypass::api::{BenchmarkPhase, BenchmarkStatus, EvalJob, EvalJobStatus, names};
use daypass_testcluster::poll;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::Team;

impl Team {
    /// The team's EvalJobs, as its member.
    pub fn evaljobs(&self) -> Api<EvalJob> {
        Api::namespaced(self.member.clone(), &self.namespace)
    }

    /// Creates an EvalJob as the member. Its model's key is the secret `MODEL_KEY`, unless the specification has another
    /// model.
    pub async fn evaluate(&self, name: &str, mut spec: Value) -> Result<EvalJob> {
        if spec["model"].is_null() {
            spec["model"] = json!({"name": "m", "baseURL": "https://models.test/v1", "apiKey": {"name": "MODEL_KEY"}});
        }
        let object = json!({
            "apiVersion": "daypass.dev/v1alpha1", "kind": "EvalJob", "metadata": {"name": name}, "spec": spec,
        });
        Ok(self.evaljobs().create(&PostParams::default(), &serde_json::from_value(object)?).await?)
    }

    /// Changes an EvalJob's specification as the member.
    pub async fn change_job(&self, name: &str, spec: Value) -> Result<()> {
        self.evaljobs().patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await?;
        Ok(())
    }

    /// Waits until an EvalJob's status fits.
    pub async fn wait_job(
        &self,
        name: &str,
        what: &str,
        fits: impl Fn(&EvalJobStatus) -> bool,
    ) -> Result<EvalJobStatus> {
        let jobs = self.evaljobs();
        poll(Duration::from_secs(60), what, async || {
            let status = jobs.get(name).await?.status.unwrap_or_default();
            ensure!(fits(&status), "{}", serde_json::to_string(&status)?);
            Ok(status)
        })
        .await
    }

    /// Waits until an EvalJob is over.
    pub async fn wait_job_over(&self, name: &str) -> Result<EvalJobStatus> {
        self.wait_job(name, "the job is over", |status| status.phase.is_terminal()).await
    }

    /// Waits for an attempt's Pod and gives the run's name.
    pub async fn attempt(&self, job: &EvalJob, benchmark: &str, attempt: u32) -> Result<String> {
        let run = names::run_name(&job.name_any(), &job.uid().unwrap_or_default(), benchmark, attempt);
        self.pod(&run).await?;
        Ok(run)
    }

    /// Waits until a benchmark's attempt runs and the copy of its values is gone.
    pub async fn starts(&self, job: &EvalJob, benchmark: &str, run: &str) -> Result<BenchmarkStatus> {
        self.play_start(run).await?;
        let runs = |status: &EvalJobStatus| {
            status.benchmark(benchmark).is_some_and(|told| {
                told.phase == BenchmarkPhase::Running
                    && matches!(told.secrets_state.as_deref(), Some("Removed" | "None"))
            })
        };
        let status = self.wait_job(&job.name_any(), "it runs, and the copy is gone", runs).await?;
        status.benchmark(benchmark).cloned().context("the benchmark")
    }

    /// The runner ends and leaves its report.
    pub async fn play_report(&self, run: &str, code: i32, report: Value) -> Result<()> {
        let now = daypass::api::Time(Timestamp::now()).to_second().to_string();
        let reason = if code == 0 { "Completed" } else { "Error" };
        let state = json!({"terminated": {
            "exitCode": code, "reason": reason, "startedAt": now, "finishedAt": now, "message": report.to_string(),
        }});
        self.play_node(run, if code == 0 { "Succeeded" } else { "Failed" }, state).await
    }

    /// The runner ends well, with this accuracy.
    pub async fn play_score(&self, run: &str, accuracy: f64) -> Result<()> {
        let score = json!({"scorer": "match", "metric": "accuracy", "value": accuracy, "error": 0.1});
        let report = json!({
            "version": 1, "cause": "Succeeded", "exitCode": 0, "score": score, "metrics": [score],
            "samples": {"done": 10, "total": 10}, "tokens": {"input": 100, "output": 20},
        });
        self.play_report(run, 0, report).await
    }
}
