//! What a runner is told: a document without any secret in it, and plain variables. docs/runner.md is the contract.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::bind::{ALIASED, Binding, TARGET, key_of};
use crate::api::{Auth, Benchmark, EnvVar, EvalJobSpec, Framework, Generation};

/// What the cluster admin has set for all evaluations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The image of each framework's runner.
    pub images: BTreeMap<Framework, String>,
    /// Where data sets are fetched from, if not from the Hub itself.
    pub hub_endpoint: Option<String>,
    /// Where W&B is, if not at its own place.
    pub wandb_endpoint: Option<String>,
}

/// Where W&B is, where the cluster admin says nothing else.
const WANDB: &str = "https://api.wandb.ai";

impl Settings {
    /// Where results for W&B go: the runs are told, so that the operator asks no other server than they do.
    pub fn wandb(&self) -> &str {
        self.wandb_endpoint.as_deref().unwrap_or(WANDB)
    }

    /// The image of a job's runner: its own, or the cluster admin's.
    pub fn image<'a>(&'a self, spec: &'a EvalJobSpec) -> Option<&'a str> {
        let own = spec.runner.as_ref().and_then(|runner| runner.image.as_deref());
        own.or_else(|| self.images.get(&spec.framework()).map(String::as_str)).filter(|image| !image.is_empty())
    }
}

/// Where results lie in the container.
pub(super) const RESULTS: &str = "/results";

/// Who an attempt is.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The job's name.
    pub job: &'a str,
    /// The job's UID.
    pub uid: &'a str,
    /// Counts from 1.
    pub number: u32,
}

/// The document that says what to run.
pub fn configuration(spec: &EvalJobSpec, benchmark: &Benchmark, binding: &Binding, attempt: Attempt<'_>) -> Value {
    let mut args: Map<String, Value> =
        benchmark.args.iter().map(|(name, text)| (name.clone(), literal(text))).collect();
    args.extend(binding.judge_args.iter().map(|(name, model)| (name.clone(), json!(model))));
    let variables: Vec<&str> = binding.secrets.iter().map(|bound| bound.reference.variable()).collect();
    let needed: Vec<&str> = binding
        .secrets
        .iter()
        .filter(|bound| !bound.reference.optional)
        .map(|bound| bound.reference.variable())
        .collect();
    let mut results = json!({"folder": RESULTS});
    if let Some(wandb) = spec.results.as_ref().and_then(|results| results.wandb.as_ref()) {
        results["wandb"] = json!({"entity": wandb.entity, "project": wandb.project});
    }
    let mut document = json!({
        "version": 1,
        "framework": spec.framework().as_str(),
        "task": binding.task,
        "job": attempt.job,
        "uid": attempt.uid,
        "benchmark": binding.benchmark,
        "attempt": attempt.number,
        "args": args,
        "model": {
            "name": format!("{ALIASED}{TARGET}/{}", spec.model.name),
            "args": spec.model.args.iter().map(|(name, text)| (name.clone(), literal(text))).collect::<Map<_, _>>(),
            "generation": spec.model.generation.as_ref().map_or_else(|| json!({}), generation),
        },
        "roles": binding.roles,
        "requires": needed,
        "secretEnv": variables,
        "terminationGracePeriodSeconds": spec.termination_grace_period_seconds.max(1),
        "results": results,
    });
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            document[name] = value;
        }
    };
    set("sampleLimit", benchmark.sample_limit.or(spec.sample_limit).map(Value::from));
    set("epochs", benchmark.epochs.map(Value::from));
    let command = spec.runner.as_ref().map(|runner| &runner.command).filter(|command| !command.is_empty());
    set("command", command.map(|command| json!(command)));
    document
}

/// Text as what it reads as: JSON where it is that, else itself.
fn literal(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// Under the framework's own names.
fn generation(generation: &Generation) -> Value {
    let all = json!({
        "temperature": generation.temperature,
        "top_p": generation.top_p,
        "max_tokens": generation.max_tokens,
        "seed": generation.seed,
        "max_connections": generation.max_connections,
        "timeout": generation.timeout_seconds,
        "max_retries": generation.max_retries,
    });
    let Value::Object(all) = all else { return json!({}) };
    Value::Object(all.into_iter().filter(|(_, value)| !value.is_null()).collect())
}

/// The runner's plain variables. The kubelet would put a secret where a value says `$(NAME)`: every `$` is doubled.
pub fn environment(spec: &EvalJobSpec, binding: &Binding, settings: &Settings, configuration: &Value) -> Vec<EnvVar> {
    let mut all: Vec<(String, String)> = [
        ("DO_NOT_TRACK", "1"),
        ("HF_HUB_DISABLE_TELEMETRY", "1"),
        ("INSPECT_DISPLAY", "none"),
        ("TMPDIR", "/tmp"),
        ("HOME", "/tmp"),
        ("XDG_DATA_HOME", "/tmp/.local/share"),
        ("XDG_CACHE_HOME", "/work/.cache"),
        ("HF_HOME", "/work/.cache/huggingface"),
        ("INSPECT_EVALS_CACHE_DIR", "/work/.cache/inspect_evals"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    if let Some(endpoint) = &settings.hub_endpoint {
        all.push(("HF_ENDPOINT".into(), endpoint.clone()));
        // A plain mirror has no chunk store.
        all.push(("HF_HUB_DISABLE_XET".into(), "1".into()));
    }
    if spec.results.as_ref().is_some_and(|results| results.wandb.is_some()) {
        all.push(("WANDB_BASE_URL".into(), settings.wandb().to_owned()));
    }
    for (name, address) in &binding.addresses {
        all.push((name.clone(), address.clone()));
        // Clients ask for a key even where the server does not.
        let key = key_of(name.trim_end_matches("_BASE_URL"));
        if !binding.secrets.iter().any(|bound| bound.reference.variable() == key) {
            all.push((key, "unused".into()));
        }
    }
    debug_assert!(spec.model.auth == Auth::None || spec.model.api_key.is_some());
    all.push(("DAYPASS_RUN".into(), configuration.to_string()));
    all.into_iter().map(|(name, value)| EnvVar { name, value: value.replace('$', "$$") }).collect()
}
