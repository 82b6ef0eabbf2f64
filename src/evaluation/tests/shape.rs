use super::*;
use crate::api::{BenchmarkStatus, Delivery, EvalJob, Reason, SecretRemoval};

fn job() -> EvalJob {
    let spec = spec(|spec| {
        spec["benchmarks"] = json!([{"task": "gsm8k", "resources": {"limits": {"memory": "9Gi"}}}, {"task": "boolq"}]);
        spec["runner"] = json!({"framework": "Custom", "image": "own/runner:1", "command": ["run", "it"]});
        spec["secretRemoval"] = json!("AfterFinish");
        spec["benchmarkDeadlineSeconds"] = json!(11);
        spec["startupTimeoutSeconds"] = json!(12);
        spec["terminationGracePeriodSeconds"] = json!(13);
        spec["queueName"] = json!("queue");
        spec["resources"] = json!({"requests": {"cpu": "1"}});
        spec["runtimeClassName"] = json!("gvisor");
        spec["serviceAccountName"] = json!("worker");
        spec["nodeSelector"] = json!({"disk": "fast"});
        spec["tolerations"] = json!([{"key": "gpu", "operator": "Exists"}]);
        spec["imagePullSecrets"] = json!([{"name": "pull"}]);
        spec["securityContext"] = json!({"runAsUser": 1234});
        spec["podMetadata"] = json!({"labels": {"cost": "evals"}});
        spec["network"] = json!({"denyIngress": true});
        spec["results"] = json!({"persistentVolumeClaim": {"claimName": "claim"}});
    });
    let mut job = EvalJob::new("job", spec);
    job.metadata.namespace = Some("team".into());
    job.metadata.uid = Some("uid-1".into());
    job
}

fn shape(job: &EvalJob, index: usize) -> Value {
    let bindings = bind_each(&job.spec, &Catalog::built_in());
    let (benchmark, binding) = (&job.spec.benchmarks[index], &bindings.benchmarks[index]);
    serde_json::to_value(shape_of(job, benchmark, binding, 2, &Settings::default())).unwrap()
}

#[test]
fn a_pod_is_as_the_job_says() {
    let mut shape = shape(&job(), 0);
    let variables: Vec<_> = std::mem::take(shape["env"].as_array_mut().unwrap());
    let configuration = variables.iter().find(|variable| variable["name"] == "DAYPASS_RUN").unwrap();
    let told: Value = serde_json::from_str(configuration["value"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&told["command"], &told["attempt"], &told["framework"]),
        (&json!(["run", "it"]), &json!(2), &json!("Custom"))
    );
    assert_eq!(told["terminationGracePeriodSeconds"], 13);
    let plain = serde_json::to_value(crate::api::SandboxSpec::default()).unwrap();
    let changed: serde_json::Map<_, _> = shape
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, value)| plain.get(*name) != Some(*value) && *name != "env")
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    assert_eq!(
        Value::Object(changed),
        json!({
            "image": "own/runner:1",
            "workingDir": "/work",
            "resources": {"limits": {"memory": "9Gi"}},
            "runtimeClassName": "gvisor",
            "serviceAccountName": "worker",
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "imagePullSecrets": [{"name": "pull"}],
            "securityContext": {"runAsUser": 1234, "readOnlyRootFilesystem": true},
            "podMetadata": {"labels": {"cost": "evals"}},
            "network": {"denyIngress": true},
        })
    );
}

#[test]
fn a_benchmark_without_resources_has_the_jobs_and_a_writable_root_has_to_be_asked_for() {
    let mut job = job();
    assert_eq!(shape(&job, 1)["resources"], json!({"requests": {"cpu": "1"}}));
    job.spec.security_context = serde_json::from_value(json!({"readOnlyRootFilesystem": false})).unwrap();
    assert_eq!(shape(&job, 1)["securityContext"]["readOnlyRootFilesystem"], false);
}

#[test]
fn an_attempt_is_a_run_with_the_jobs_times() {
    let job = job();
    let benchmark = BenchmarkStatus { name: "gsm8k".into(), attempt: 2, ..BenchmarkStatus::default() };
    let run = run_of(&job, &benchmark, Vec::new(), Some(Reason::Stopped));
    assert_eq!((run.lifetime.as_secs(), run.startup_timeout.as_secs(), run.grace.as_secs()), (11, 12, 13));
    assert_eq!((run.removal, run.delivery), (SecretRemoval::AfterFinish, Delivery::Env));
    assert_eq!((run.service_account.as_str(), run.gated, run.network), ("worker", true, true));
    assert_eq!((run.benchmark.as_str(), run.attempt, run.ends), ("gsm8k", 2, Some(Reason::Stopped)));
    let next = BenchmarkStatus { attempt: 3, ..benchmark };
    assert_ne!(run.name, run_of(&job, &next, Vec::new(), None).name, "no two attempts share a name");
}

#[test]
fn a_pod_bears_its_queue_and_its_results() {
    let extras = extras_of(&job(), "a-name-that-is-longer-than-the-sixty-three-letters-of-a-label-is-.cut");
    let labels: Vec<_> = extras.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        labels,
        [
            ("daypass.dev/benchmark", "a-name-that-is-longer-than-the-sixty-three-letters-of-a-label-i"),
            ("daypass.dev/evaljob", "job"),
            ("kueue.x-k8s.io/queue-name", "queue"),
        ]
    );
    let volumes: Vec<_> = extras.volumes.iter().map(|volume| (volume.path, volume.claim.as_deref())).collect();
    assert_eq!(volumes, [("/results", Some("claim")), ("/tmp", None), ("/work", None)]);
}
