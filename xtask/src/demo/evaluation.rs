//! An evaluation: three benchmarks with three sets of keys, run by real Inspect against servers of the demo's own.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use daypass_testcluster::{EvaluationServers, tools};
use sha2::{Digest as _, Sha256};

use super::place::Place;
use super::story::{Story, quiet, quote, show, show_refusal, show_with_input};
use super::{ADMIN, MEMBER, TEAM, proof, random_value, store};
use crate::image;

/// What `examples/evaljob.yaml` says.
const EXAMPLE: &str = "examples/evaljob.yaml";
const JOB: &str = "demo";
const MODELS: &str = "https://models.example.com";
const JUDGES: &str = "https://judges.example.com";
const KEYS: [&str; 3] = ["MODEL_KEY", "JUDGE_KEY", "HF_TOKEN"];
/// The job that is refused, and the keys that it lacks.
const REFUSED: &str = "lacks-keys";
const LACKED: [(&str, &str); 2] = [("make_me_pay", "GOOGLE_API_KEY"), ("agentic_misalignment", "ANTHROPIC_API_KEY")];
/// `daypass eval run` of a job that is refused.
const NOT_SUCCEEDED: i32 = 8;

/// The runner's image, the keys, and the servers that take them.
pub(super) struct Parts {
    image: String,
    values: [String; 3],
    servers: EvaluationServers,
}

impl Parts {
    pub(super) fn make(root: &Path, place: &Place) -> Result<Self> {
        let cluster = place.local.as_ref().context("the local cluster")?;
        let built = image::build_runner(root)?;
        place.load(&built)?;
        println!("   {}, with Inspect", built.reference());
        let values = [random_value()?, random_value()?, random_value()?];
        let [model, judge, token] = &values;
        let servers = EvaluationServers::start(&cluster.host_address()?, &[&[model], &[judge]], &[token])?;
        println!(
            "   a model at {}, a judge at {}, a Hub with data sets at {}",
            servers.model(0),
            servers.model(1),
            servers.hub()
        );
        Ok(Self { image: built.reference(), values, servers })
    }

    /// What the cluster admin sets for evaluations.
    pub(super) fn values(&self) -> String {
        let hub = self.servers.hub();
        format!("config.evaluations.images.Inspect={},config.evaluations.hubEndpoint={hub}", self.image)
    }

    pub(super) async fn tell(&self, root: &Path, story: &mut Story, place: &Place) -> Result<()> {
        story.step(&format!("{ADMIN} stores three keys; {MEMBER} asks what each benchmark would get"));
        forget(place)?;
        for (name, value) in KEYS.iter().zip(&self.values) {
            store(place, name, value)?;
        }
        let example = std::fs::read_to_string(root.join(EXAMPLE)).with_context(|| format!("read {EXAMPLE}"))?;
        let manifest = self.at_these_servers(&example)?;
        let what = format!("{EXAMPLE}, with the addresses of these servers");
        let plan = ["eval", "plan", "-n", TEAM, "-f", "-"];
        show_with_input(place.daypass(MEMBER).args(plan), &what, manifest.as_bytes())?;

        story.step("Three runs of Inspect, each in a Pod of its own (half a minute)");
        let folder = root.join("target/demo");
        std::fs::create_dir_all(&folder)?;
        let page = folder.join("results.html");
        let mut run = place.daypass(MEMBER);
        run.args(["eval", "run", "-n", TEAM, "-f", "-", "--report"]).arg(&page);
        show_with_input(&mut run, &what, manifest.as_bytes())?;
        show(place.kubectl(Some(MEMBER)).args(["get", "evaljob", JOB, "-n", TEAM]))?;
        let html = std::fs::read_to_string(&page)?;
        ensure!(["gsm8k", "boolq", "xstest"].iter().all(|name| html.contains(name)), "the page lacks benchmarks");

        story.step("Each Pod had the keys that its benchmark needs; no copy of any is left");
        show(place.daypass(MEMBER).args(["eval", "show", JOB, "-n", TEAM]))?;
        let list = ["get", "secrets", "-n", TEAM, "-o", "name"];
        let left = quiet(place.kubectl(None).args(list))?;
        println!("   $ kubectl get secrets -n {TEAM} -o name");
        quote(if left.is_empty() { "(none)" } else { &left });
        ensure!(!left.contains("daypass-run-"), "a run Secret is left");
        self.who_saw_what().await?;

        story.step("What the operator has on record of the three runs");
        let uid = ["get", "evaljob", JOB, "-n", TEAM, "-o", "jsonpath={.metadata.uid}"];
        proof::audit_records(place, &quiet(place.kubectl(Some(MEMBER)).args(uid))?).await?;

        story.step("A job that lacks two keys is refused before anything starts, with what mends each");
        refused(place, &lacking(&manifest)?)?;
        println!("   the page with the results: {}", page.display());
        Ok(())
    }

    /// The example, for servers on plain HTTP at addresses of this machine.
    fn at_these_servers(&self, example: &str) -> Result<String> {
        ensure!(example.contains(MODELS) && example.contains(JUDGES), "{EXAMPLE} names other servers");
        Ok(example.replace(MODELS, self.servers.model(0)).replace(JUDGES, self.servers.model(1)))
    }

    /// Each server was shown its own key and no other.
    async fn who_saw_what(&self) -> Result<()> {
        for (index, key) in KEYS.iter().enumerate().take(2) {
            let asked = self.servers.asked(index).await?;
            let digest = tools::hex(&Sha256::digest(self.values[index].as_bytes()));
            let calls: u64 = asked.calls.values().sum();
            println!(
                "   {} was asked {calls} times, always with {key} (SHA-256 {}...)",
                self.servers.model(index),
                &digest[..16]
            );
            ensure!(calls > 0, "nobody has asked it");
            ensure!(asked.keys.values().all(|keys| *keys == [digest.as_str()]), "it was shown another key");
        }
        Ok(())
    }
}

/// Deletes the EvalJobs of the last demo.
fn forget(place: &Place) -> Result<()> {
    let mut delete = place.kubectl(Some(MEMBER));
    quiet(delete.args(["delete", "evaljob", JOB, REFUSED, "-n", TEAM, "--ignore-not-found"])).map(drop)
}

/// The same model on other benchmarks, whose judges' keys the team has not.
fn lacking(manifest: &str) -> Result<String> {
    let mut job: serde_yaml::Value = serde_yaml::from_str(manifest)?;
    job["metadata"]["name"] = REFUSED.into();
    let spec = job["spec"].as_mapping_mut().context("spec")?;
    spec.remove("graders");
    let benchmarks = LACKED.map(|(task, _)| format!("{{task: {task}}}")).join(", ");
    spec.insert("benchmarks".into(), serde_yaml::from_str(&format!("[{benchmarks}]"))?);
    Ok(serde_yaml::to_string(&job)?)
}

fn refused(place: &Place, manifest: &str) -> Result<()> {
    let mut run = place.daypass(MEMBER);
    run.args(["eval", "run", "-n", TEAM, "-f", "-"]);
    let what = format!("the same model on {}", LACKED.map(|(task, _)| task).join(" and "));
    let (code, said) = show_refusal(&mut run, &what, manifest.as_bytes())?;
    ensure!(code == Some(NOT_SUCCEEDED), "the exit code is {code:?}");
    for (task, key) in LACKED {
        ensure!(said.contains(&format!("daypass secret set {key}")), "it does not say what mends {task}");
    }
    let pods = ["get", "pods", "-n", TEAM, "-l", &format!("daypass.dev/evaljob={REFUSED}"), "-o", "name"];
    ensure!(quiet(place.kubectl(Some(MEMBER)).args(pods))?.is_empty(), "something was started");
    println!("   exit code {NOT_SUCCEEDED}, and no Pod was made");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_what_the_demo_says() {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(EXAMPLE)).unwrap();
        let job: daypass::api::EvalJob = serde_yaml::from_str(&text).unwrap();
        assert_eq!(job.metadata.name.as_deref(), Some(JOB));
        for text_of in [MODELS, JUDGES].into_iter().chain(KEYS) {
            assert!(text.contains(text_of), "{text_of}");
        }
        let other: daypass::api::EvalJob = serde_yaml::from_str(&lacking(&text).unwrap()).unwrap();
        assert_eq!(other.metadata.name.as_deref(), Some(REFUSED));
        assert_eq!(other.spec.benchmarks.len(), LACKED.len());
        assert!(other.spec.graders.is_empty());
    }
}
