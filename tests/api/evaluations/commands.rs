//! `daypass eval`, typed by a member of the team.

use std::path::PathBuf;
use std::process::{Output, Stdio};

use anyhow::{Context, Result, ensure};
use daypass::api::EvaluationPhase;
use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinHandle;

use super::spec;
use crate::support::{Team, operator};

/// What a command left behind.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Who types, and where the manifests lie.
struct Member {
    kubeconfig: PathBuf,
    namespace: String,
    files: tempfile::TempDir,
}

impl Member {
    fn of(team: &Team) -> Result<Self> {
        let kubeconfig = team.cluster.kubeconfig_as(&format!("member@{}", team.namespace), &[])?;
        Ok(Self { kubeconfig, namespace: team.namespace.clone(), files: tempfile::tempdir()? })
    }

    fn manifest(&self, name: &str, spec: &Value) -> Result<String> {
        let file = self.files.path().join(format!("{name}.json"));
        let job =
            json!({"apiVersion": "daypass.dev/v1alpha1", "kind": "EvalJob", "metadata": {"name": name}, "spec": spec});
        std::fs::write(&file, job.to_string())?;
        Ok(file.display().to_string())
    }

    /// Begins a command; it ends by itself.
    fn begin(&self, arguments: &[&str]) -> JoinHandle<std::io::Result<Output>> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daypass"));
        command.arg("eval").args(arguments).args(["-n", &self.namespace]);
        command.env("KUBECONFIG", &self.kubeconfig).stdin(Stdio::null()).kill_on_drop(true);
        // A test that gives up takes it along.
        tokio::spawn(async move { command.output().await })
    }

    async fn types(&self, arguments: &[&str]) -> Result<Ran> {
        Ok(self.begin(arguments).await??.into())
    }
}

#[tokio::test]
async fn a_plan_tells_the_truth_and_leaves_nothing() -> Result<()> {
    let team = Team::new(operator().await?, "plan").await?;
    let member = Member::of(&team)?;
    team.set_secret("MODEL_KEY", b"value").await?;
    let file =
        member.manifest("job", &spec(|spec| spec["benchmarks"] = json!([{"task": "gsm8k"}, {"task": "lingoly"}])))?;

    let refused = member.types(&["plan", "-f", &file]).await?;
    assert_eq!(refused.code, Some(8), "{}", refused.err);
    ensure!(refused.err.contains("lingoly: HF_TOKEN, the gated data set"), "{}", refused.err);
    let rows: Vec<Vec<&str>> =
        refused.out.lines().skip(1).map(|line| line.split_whitespace().take(3).collect()).collect();
    let expected = [
        ["gsm8k", "TARGET_API_KEY", "MODEL_KEY"],
        ["lingoly", "TARGET_API_KEY", "MODEL_KEY"],
        ["lingoly", "HF_TOKEN", "HF_TOKEN"],
    ];
    assert_eq!(rows, expected, "what each would get is told all the same: {}", refused.out);
    ensure!(refused.err.contains(&format!("daypass secret set HF_TOKEN -n {}", team.namespace)), "{}", refused.err);

    team.set_secret("HF_TOKEN", b"value").await?;
    let good = member.types(&["plan", "-f", &file, "-o", "json"]).await?;
    assert_eq!(good.code, Some(0), "{}", good.err);
    let told: Value = serde_json::from_str(&good.out)?;
    assert_eq!(told["resolved"], true);
    assert_eq!(told["benchmarks"][1]["secrets"][1]["bound"], "AutoBind");
    ensure!(team.evaljobs().list(&ListParams::default()).await?.items.is_empty(), "a plan's job is left");
    ensure!(team.pods().list(&ListParams::default()).await?.items.is_empty(), "something was started");

    let none = member.types(&["plan", "-f", "/no/such/file"]).await?;
    assert_eq!(none.code, Some(2), "{}", none.err);
    let other = member.files.path().join("other.yaml");
    std::fs::write(&other, "kind: Sandbox\n")?;
    let other = member.types(&["plan", "-f", &other.display().to_string()]).await?;
    ensure!(other.code == Some(2) && other.err.contains("needs `kind: EvalJob`"), "{}", other.err);
    Ok(())
}

#[tokio::test]
async fn a_run_is_followed_to_the_exit_code_that_it_deserves() -> Result<()> {
    let team = Team::new(operator().await?, "commands").await?;
    let member = Member::of(&team)?;
    team.set_secret("MODEL_KEY", b"value").await?;
    let benchmarks = json!([{"task": "gsm8k", "expect": ["accuracy >= 0.8"]}, {"task": "boolq"}]);
    let file = member.manifest(
        "job",
        &spec(|spec| {
            spec["benchmarks"] = benchmarks;
            spec["parallelism"] = json!(2);
            spec["backoffLimit"] = json!(0);
        }),
    )?;
    let page = member.files.path().join("page.html");
    let page = page.to_str().context("a path")?;
    let followed = member.begin(&["run", "-f", &file, "--report", page]);
    team.wait_job("job", "two attempts are under way", |status| status.active == 2).await?;
    let job = team.evaljobs().get("job").await?;
    let (first, second) = (team.attempt(&job, "gsm8k", 1).await?, team.attempt(&job, "boolq", 1).await?);
    team.play_score(&first, 0.5).await?;
    team.play_report(&second, 22, json!({"cause": "ModelAuthFailed", "message": "401"})).await?;
    let ran = Ran::from(followed.await??);
    assert_eq!(ran.code, Some(8), "{}", ran.err);
    ensure!(ran.err.contains("PartiallyFailed 2/2") && ran.err.contains("boolq (ModelAuthFailed)"), "{}", ran.err);
    ensure!(ran.out.contains("accuracy") && ran.out.contains("0.5"), "{}", ran.out);
    ensure!(std::fs::read_to_string(page)?.contains("<svg"), "the page has a plot");

    // What succeeded is not run again; then only the expectation is not met.
    let again = member.types(&["rerun", "job"]).await?;
    assert_eq!(again.code, Some(0), "{}", again.err);
    let run = team.attempt(&job, "boolq", 2).await?;
    team.play_score(&run, 0.9).await?;
    let status = team.wait_job("job", "all have a score", |status| status.phase == EvaluationPhase::Completed).await?;
    assert_eq!(status.headline.as_deref(), Some("0.5 0.9"));
    let shown = member.types(&["show", "job", "-o", "json"]).await?;
    let kept = &serde_json::from_str::<Value>(&shown.out)?["benchmarks"][0];
    let secret = &kept["secrets"][0];
    assert_eq!((&kept["attempt"], &secret["state"], &secret["version"]), (&json!(1), &json!("Removed"), &json!("1")));
    std::fs::remove_file(page)?;
    let report = member.types(&["show", "job", "--report", page]).await?;
    ensure!(report.code == Some(0) && std::fs::read_to_string(page)?.contains(">0.9<"), "{}", report.err);
    let known = member.types(&["benchmarks", "gsm8k"]).await?;
    ensure!(known.code == Some(0) && known.out.lines().any(|line| line.starts_with("gsm8k ")), "{}", known.out);
    let listed = member.types(&["list"]).await?;
    ensure!(listed.out.contains("Completed") && listed.out.contains("0.5 0.9"), "{}", listed.out);

    let single = member.manifest(
        "single",
        &spec(|spec| {
            spec["benchmarks"] = json!([{"task": "gsm8k", "expect": ["accuracy >= 0.8"]}]);
        }),
    )?;
    let followed = member.begin(&["run", "-f", &single]);
    team.wait_job("single", "its attempt is under way", |status| status.active == 1).await?;
    let run = team.attempt(&team.evaljobs().get("single").await?, "gsm8k", 1).await?;
    team.play_score(&run, 0.5).await?;
    let ran = Ran::from(followed.await??);
    ensure!(ran.code == Some(9) && ran.err.contains("not as expected"), "{:?} {}", ran.code, ran.err);

    let stopped = member.manifest("stopped", &spec(|_| ()))?;
    let detached = member.types(&["run", "-f", &stopped, "--detach"]).await?;
    ensure!(detached.code == Some(0) && detached.out.trim() == "stopped", "{}", detached.out);
    let stop = member.types(&["stop", "stopped"]).await?;
    assert_eq!(stop.code, Some(0), "{}", stop.err);
    let status = team.wait_job_over("stopped").await?;
    assert_eq!(status.phase, EvaluationPhase::Terminated);
    team.assert_no_run_secrets().await
}
