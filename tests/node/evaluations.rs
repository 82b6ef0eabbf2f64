//! Evaluations as people run them: real Inspect in real Pods, against model servers that check keys and a Hub that has
//! gated data sets.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use daypass::api::{BenchmarkPhase, BoundBy, EvaluationPhase, Reason, SecretState};
use daypass_testcluster::{EvaluationServers, poll, tools};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, EvictParams, ListParams, LogParams};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::canary::{Canary, everywhere, volume};
use crate::support::{Team, world};

/// A team whose model server takes one key.
struct Scene {
    team: Team,
    servers: EvaluationServers,
}

impl Scene {
    async fn new() -> Result<Self> {
        let world = world().await?;
        world.load_runner().await?;
        let team = Team::new("evaluations").await?;
        team.set_secret("MODEL_KEY", b"key-of-the-model").await?;
        Ok(Self { team, servers: world.models(&[&["key-of-the-model"]])? })
    }

    async fn calls(&self, model: &str) -> Result<u64> {
        Ok(self.servers.asked(0).await?.calls.get(model).copied().unwrap_or_default())
    }

    /// Waits until a model was asked so often.
    async fn asked(&self, model: &str, times: u64) -> Result<()> {
        poll(std::time::Duration::from_mins(2), "the model was asked some questions", async || {
            let calls = self.calls(model).await?;
            ensure!(calls >= times, "{calls}");
            Ok(())
        })
        .await
    }
}

fn digest(canary: &Canary) -> String {
    tools::hex(&Sha256::digest(canary.value()))
}

/// Nowhere, after all runs are over.
async fn assert_nowhere(team: &Team, canary: &Canary, results: &Path) -> Result<()> {
    let mut found = everywhere(team, canary).await?;
    found.extend(volume(results, canary)?);
    ensure!(found.is_empty(), "{found:?}");
    Ok(())
}

/// Which secret keys each benchmark's Pod names: variable by variable.
fn variables(pods: &[Pod]) -> BTreeMap<String, Vec<String>> {
    pods.iter()
        .map(|pod| {
            let container = &pod.spec.as_ref().unwrap().containers[0];
            let from_secret = |env: &&k8s_openapi::api::core::v1::EnvVar| {
                env.value_from.as_ref().is_some_and(|from| from.secret_key_ref.is_some())
            };
            let mut names: Vec<_> =
                container.env.iter().flatten().filter(from_secret).map(|env| env.name.clone()).collect();
            names.sort();
            (pod.labels()["daypass.dev/benchmark"].clone(), names)
        })
        .collect()
}

#[tokio::test]
async fn the_example_runs_each_benchmark_with_its_own_keys() -> Result<()> {
    let world = world().await?;
    world.load_runner().await?;
    let team = Team::new("example").await?;
    let results = team.results_volume().await?;
    let (model_key, judge_key) = (Canary::new()?, Canary::new()?);
    let servers = world.models(&[&[model_key.text()], &[judge_key.text()]])?;
    for (name, canary) in [("MODEL_KEY", &model_key), ("JUDGE_KEY", &judge_key), ("HF_TOKEN", &world.hub_token)] {
        team.set_secret(name, canary.value()).await?;
    }

    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/evaljob.yaml");
    let text = std::fs::read_to_string(example)?
        .replace("https://models.example.com", servers.model(0))
        .replace("https://judges.example.com", servers.model(1));
    let mut job: Value = serde_yaml::from_str(&text)?;
    job["spec"]["results"] = json!({"persistentVolumeClaim": {"claimName": "results"}});
    // Data that came with the package. The catalog does not know it, so it gets every judge that the job names.
    let bundled =
        json!({"task": "inspect_evals/agent_threat_bench_memory_poison", "name": "bundled", "sampleLimit": 2});
    job["spec"]["benchmarks"].as_array_mut().context("benchmarks")?.push(bundled);
    let files = tempfile::tempdir()?;
    let (manifest, page) = (files.path().join("job.yaml"), files.path().join("results.html"));
    std::fs::write(&manifest, job.to_string())?;
    let mut command = team.member_command();
    command.args(["eval", "run", "--file"]).arg(&manifest).arg("--report").arg(&page).stdin(Stdio::null());
    // A test that gives up takes it along.
    let running = tokio::process::Command::from(command).kill_on_drop(true).output();
    let output = tokio::time::timeout(std::time::Duration::from_mins(4), running).await??;
    let printed = format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    ensure!(output.status.success(), "{printed}");

    let status = team.evaljobs().get("demo").await?.status.context("the status")?;
    ensure!(status.phase == EvaluationPhase::Completed, "{status:?}");
    let score = |name: &str| status.benchmark(name).and_then(|b| b.score.as_ref()).and_then(|score| score.value);
    // What the Hub's questions are, and what the server answers: 8 of 10 sums, 6 of 8 yeses, 1 of 4 refused.
    assert_eq!((score("gsm8k"), score("boolq"), score("xstest")), (Some(0.8), Some(0.75), Some(25.0)));
    ensure!(score("bundled").is_some(), "{status:?}");
    let page = std::fs::read_to_string(&page)?;
    for text in ["0.8", "0.75", "25", "gsm8k", "boolq", "xstest"] {
        ensure!(page.contains(text) && printed.contains(text), "{text} is not told:\n{printed}");
    }

    let pods = team.pods().list(&ListParams::default()).await?.items;
    let expected = [
        ("boolq", vec!["HF_TOKEN", "TARGET_API_KEY"]),
        ("bundled", vec!["JUDGE_API_KEY", "TARGET_API_KEY"]),
        ("gsm8k", vec!["TARGET_API_KEY"]),
        ("xstest", vec!["HF_TOKEN", "JUDGE_API_KEY", "TARGET_API_KEY"]),
    ];
    let expected: BTreeMap<String, Vec<String>> =
        expected.into_iter().map(|(name, keys)| (name.into(), keys.into_iter().map(Into::into).collect())).collect();
    assert_eq!(variables(&pods), expected);
    for benchmark in &status.benchmarks {
        assert_eq!(benchmark.attempt, 1, "{benchmark:?}");
        assert_eq!(benchmark.secrets.len(), expected[&benchmark.name].len(), "{benchmark:?}");
        ensure!(benchmark.secrets.iter().all(|secret| secret.state == SecretState::Removed), "{benchmark:?}");
    }
    let token_of = |name: &str| {
        let benchmark = status.benchmark(name)?;
        benchmark.secrets.iter().find(|secret| secret.env_var == "HF_TOKEN").map(|secret| secret.bound)
    };
    assert_eq!((token_of("boolq"), token_of("xstest")), (Some(BoundBy::Benchmark), Some(BoundBy::AutoBind)));
    team.assert_no_copies().await?;

    // Each server was shown its own key and no other one.
    let [model, judge] = [servers.asked(0).await?, servers.asked(1).await?];
    assert_eq!(model.keys, BTreeMap::from([("my-model".to_owned(), vec![digest(&model_key)])]));
    assert_eq!(judge.keys, BTreeMap::from([("my-judge".to_owned(), vec![digest(&judge_key)])]));
    ensure!(results.join("demo").is_dir(), "the results are on the volume");
    for canary in [&model_key, &judge_key, &world.hub_token] {
        assert_nowhere(&team, canary, &results).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_key_that_comes_back_surfaces_nowhere() -> Result<()> {
    let Scene { team, servers } = Scene::new().await?;
    let results = team.results_volume().await?;
    let wrong = Canary::new()?;
    team.daypass(&["secret", "rotate", "MODEL_KEY", "--from-stdin"], wrong.value()).await?;
    let spec = json!({
        "benchmarks": [{"task": "gsm8k"}], "sampleLimit": 2,
        "results": {"persistentVolumeClaim": {"claimName": "results"}},
    });
    team.evaluate("echo", "echo-key", servers.model(0), spec).await?;
    let status = team.wait_job_over("echo").await?;
    let benchmark = status.benchmark("gsm8k").context("the benchmark")?;
    assert_eq!(
        (benchmark.phase, benchmark.reason, benchmark.attempt),
        (BenchmarkPhase::Failed, Some(Reason::ModelAuthFailed), 1),
        "{benchmark:?}"
    );
    assert_eq!(servers.asked(0).await?.keys["echo-key"], [digest(&wrong)]);
    // The control: what the server said is there, without the key.
    let log = team.pods().logs(benchmark.pod_name.as_deref().context("the Pod")?, &LogParams::default()).await?;
    ensure!(log.contains("Incorrect API key provided") && log.contains("[secret]"), "{log}");
    assert_nowhere(&team, &wrong, &results).await
}

#[tokio::test]
async fn a_server_that_fails_is_asked_again_where_that_may_help() -> Result<()> {
    let scene = Scene::new().await?;
    let (team, address) = (&scene.team, scene.servers.model(0));
    let spec = |backoff_limit: u32| json!({"benchmarks": [{"task": "gsm8k"}], "sampleLimit": 1, "backoffLimit": backoff_limit});
    // A sample is asked twice in an attempt.
    let later = team.evaluate("later", "later-2", address, spec(1)).await?;
    team.evaluate("half", "half-json", address, spec(0)).await?;
    team.evaluate("gone", "gone", address, spec(2)).await?;

    let ended = |pod: &Pod| -> Result<_> {
        let status = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()?.first()?.state.clone());
        Ok(status.and_then(|state| state.terminated).and_then(|ended| ended.finished_at).context("it has ended")?.0)
    };
    let status = team.wait_job_over("later").await?;
    let benchmark = status.benchmark("gsm8k").context("the benchmark")?;
    assert_eq!((benchmark.phase, benchmark.attempt, benchmark.failures), (BenchmarkPhase::Completed, 2, 1));
    assert_eq!(scene.calls("later-2").await?, 3);
    let first = ended(&team.attempt(&later, "gsm8k", 1).await?)?;
    let second = team.attempt(&later, "gsm8k", 2).await?.creation_timestamp().context("a time")?.0;
    // Its own back-off would be 10 s; the server has asked for 15.
    let waited = second.duration_since(first).as_secs();
    ensure!((14..60).contains(&waited), "{waited} s");

    for (name, reason) in [("half", Reason::ModelUnavailable), ("gone", Reason::ModelNotFound)] {
        let status = team.wait_job_over(name).await?;
        let benchmark = status.benchmark("gsm8k").context("the benchmark")?;
        assert_eq!(
            (benchmark.phase, benchmark.reason, benchmark.attempt),
            (BenchmarkPhase::Failed, Some(reason), 1),
            "{benchmark:?}"
        );
    }
    team.assert_no_copies().await
}

#[tokio::test]
async fn an_attempt_goes_on_where_the_last_one_ended() -> Result<()> {
    let scene = Scene::new().await?;
    let team = &scene.team;
    team.results_volume().await?;
    let spec = |backoff_limit: u32| {
        json!({
            "benchmarks": [{"task": "gsm8k"}], "backoffLimit": backoff_limit,
            "results": {"persistentVolumeClaim": {"claimName": "results"}},
        })
    };
    let deleted = async {
        let job = team.evaluate("deleted", "slow-1", scene.servers.model(0), spec(1)).await?;
        scene.asked("slow-1", 4).await?;
        let pod = team.attempt(&job, "gsm8k", 1).await?;
        team.pods().delete(&pod.name_any(), &DeleteParams::default()).await?;
        anyhow::Ok(())
    };
    let drained = async {
        // A drain is nobody's failure: no other attempt would be allowed.
        let job = team.evaluate("drained", "slow-1.5", scene.servers.model(0), spec(0)).await?;
        scene.asked("slow-1.5", 4).await?;
        let pod = team.attempt(&job, "gsm8k", 1).await?;
        team.pods().evict(&pod.name_any(), &EvictParams::default()).await?;
        anyhow::Ok(())
    };
    tokio::try_join!(deleted, drained)?;

    for (name, model, failures) in [("deleted", "slow-1", 1), ("drained", "slow-1.5", 0)] {
        let status = team.wait_job_over(name).await?;
        let benchmark = status.benchmark("gsm8k").context("the benchmark")?;
        assert_eq!(
            (benchmark.phase, benchmark.attempt, benchmark.failures),
            (BenchmarkPhase::Completed, 2, failures),
            "{benchmark:?}"
        );
        assert_eq!(benchmark.score.as_ref().and_then(|score| score.value), Some(0.8));
        assert_eq!(benchmark.samples.map(|samples| (samples.done, samples.total)), Some((10, 10)));
        // Those that were under way are asked again, those that were done are not.
        let calls = scene.calls(model).await?;
        ensure!((10..=12).contains(&calls), "{model} was asked {calls} times");
    }
    team.assert_no_copies().await
}
