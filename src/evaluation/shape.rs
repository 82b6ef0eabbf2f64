//! One attempt of a benchmark as a run: what it asks for, and what its Pod looks like.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use kube::ResourceExt;
use serde_json::Value;

use super::bind::Binding;
use super::config::{Attempt, RESULTS, Settings, configuration, environment};
use crate::api::{
    Benchmark, BenchmarkStatus, BoundSecret, Delivery, EvalJob, Reason, SandboxSpec, SecretReference, SecretState,
    SecurityContext, names,
};
use crate::run::{PodExtras, Run, Volume};

/// Label of an evaluation's Pods: the EvalJob's name.
pub const EVALJOB_LABEL: &str = "daypass.dev/evaljob";
/// Label of an evaluation's Pods: the benchmark's name.
pub const BENCHMARK_LABEL: &str = "daypass.dev/benchmark";
/// The ConfigMap in the operator's namespace with the cluster admin's own catalog.
pub const CATALOG_MAP: &str = "daypass-benchmarks";
/// The key of that ConfigMap.
pub const CATALOG_KEY: &str = "benchmarks.yaml";
/// The label that a queue knows its Pods by.
const QUEUE_LABEL: &str = "kueue.x-k8s.io/queue-name";
/// How long an attempt waits for a store that does not answer.
const STORE_PATIENCE: SignedDuration = SignedDuration::from_secs(300);

/// The run that an attempt is. `ends` where the job asks for its end.
pub fn run_of(
    job: &EvalJob,
    benchmark: &BenchmarkStatus,
    references: Vec<SecretReference>,
    ends: Option<Reason>,
) -> Run {
    let spec = &job.spec;
    let owner_uid = job.uid().unwrap_or_default();
    let owner_name = job.name_any();
    let attempt = u32::try_from(benchmark.attempt).unwrap_or(u32::MAX);
    let seconds = SignedDuration::from_secs;
    Run {
        namespace: job.namespace().unwrap_or_default(),
        owner_kind: "EvalJob",
        name: names::run_name(&owner_name, &owner_uid, &benchmark.name, attempt),
        owner_name,
        owner_uid,
        benchmark: benchmark.name.clone(),
        attempt,
        deleting: job.metadata.deletion_timestamp.is_some(),
        ends,
        service_account: spec.service_account().to_owned(),
        references,
        delivery: Delivery::Env,
        removal: spec.secret_removal(),
        network: spec.network.as_ref().is_some_and(|network| network.deny_egress || network.deny_ingress),
        gated: spec.queue_name.is_some(),
        lifetime: seconds(spec.benchmark_deadline_seconds),
        lifetime_field: "spec.benchmarkDeadlineSeconds",
        secrets_timeout: STORE_PATIENCE,
        missing_ends: true,
        startup_timeout: seconds(spec.startup_timeout_seconds),
        grace: seconds(spec.termination_grace_period_seconds),
        ttl: None,
    }
}

/// A benchmark's secrets as the status records them before they are handed out.
pub fn recorded_secrets(job: &EvalJob, binding: &Binding) -> Vec<BoundSecret> {
    let namespace = job.namespace().unwrap_or_default();
    binding
        .secrets
        .iter()
        .map(|bound| BoundSecret {
            team: bound.reference.team(&namespace).to_owned(),
            name: bound.reference.name.clone(),
            store: bound.reference.store().to_owned(),
            env_var: bound.reference.variable().to_owned(),
            version: None,
            bound: bound.by,
            state: SecretState::Waiting,
        })
        .collect()
}

/// The shape of an attempt's Pod.
pub fn shape_of(
    job: &EvalJob,
    benchmark: &Benchmark,
    binding: &Binding,
    attempt: u32,
    settings: &Settings,
) -> SandboxSpec {
    let spec = &job.spec;
    let (name, uid) = (job.name_any(), job.uid().unwrap_or_default());
    let told: Value = configuration(spec, benchmark, binding, Attempt { job: &name, uid: &uid, number: attempt });
    SandboxSpec {
        image: settings.image(spec).map(str::to_owned),
        working_dir: Some("/work".into()),
        env: environment(spec, binding, settings, &told),
        resources: benchmark.resources.clone().or_else(|| spec.resources.clone()),
        runtime_class_name: spec.runtime_class_name.clone(),
        service_account_name: spec.service_account_name.clone(),
        node_selector: spec.node_selector.clone(),
        tolerations: spec.tolerations.clone(),
        image_pull_secrets: spec.image_pull_secrets.clone(),
        security_context: Some(SecurityContext {
            read_only_root_filesystem: spec
                .security_context
                .as_ref()
                .and_then(|context| context.read_only_root_filesystem)
                .or(Some(true)),
            ..spec.security_context.clone().unwrap_or_default()
        }),
        pod_metadata: spec.pod_metadata.clone(),
        network: spec.network.clone(),
        ..SandboxSpec::default()
    }
}

/// What an attempt's Pod has besides.
pub fn extras_of(job: &EvalJob, benchmark: &str) -> PodExtras {
    let spec = &job.spec;
    let mut labels = BTreeMap::from([
        (EVALJOB_LABEL.to_owned(), label(&job.name_any())),
        (BENCHMARK_LABEL.to_owned(), label(benchmark)),
    ]);
    if let Some(queue) = &spec.queue_name {
        labels.insert(QUEUE_LABEL.into(), queue.clone());
    }
    let claim = spec.results.as_ref().and_then(|results| results.persistent_volume_claim.as_ref());
    PodExtras {
        labels,
        keep_alive: false,
        volumes: vec![
            Volume { name: "results", path: RESULTS, claim: claim.map(|claim| claim.claim_name.clone()) },
            Volume { name: "tmp", path: "/tmp", claim: None },
            Volume { name: "work", path: "/work", claim: None },
        ],
    }
}

/// A label's value is shorter than a name may be, and ends with a letter or digit.
fn label(name: &str) -> String {
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.', '_']).to_owned()
}
