//! Evaluations as holders: their status bears the references of every attempt before its Secret is made.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;

use super::{Copy, Filter, Holder, Process, keep, owner_uid, process};
use crate::api::{BenchmarkStatus, EvalJob, SecretState, names};

/// The Pods that belong to one of the jobs, and the others.
pub fn divide(jobs: &[EvalJob], pods: Vec<Pod>) -> (Vec<Pod>, Vec<Pod>) {
    let uids: BTreeSet<&str> = jobs.iter().filter_map(|job| job.metadata.uid.as_deref()).collect();
    pods.into_iter().partition(|pod| owner_uid(pod).is_some_and(|uid| uids.contains(uid)))
}

/// Every attempt that holds a secret, or may. `pods` are those of the jobs.
pub fn holders(jobs: &[EvalJob], pods: &[Pod], filter: &Filter) -> Vec<Holder> {
    let mut found = Vec::new();
    for job in jobs {
        for benchmark in job.status.iter().flat_map(|status| &status.benchmarks) {
            of_benchmark(job, benchmark, pods, filter, &mut found);
        }
    }
    found
}

fn of_benchmark(job: &EvalJob, told: &BenchmarkStatus, pods: &[Pod], filter: &Filter, found: &mut Vec<Holder>) {
    if told.attempt == 0 {
        return;
    }
    let metadata = &job.metadata;
    let (name, uid) = (metadata.name.clone().unwrap_or_default(), metadata.uid.clone().unwrap_or_default());
    let attempt = u32::try_from(told.attempt).unwrap_or(u32::MAX);
    let run = names::run_name(&name, &uid, &told.name, attempt);
    let pod = pods.iter().find(|pod| pod.metadata.name.as_deref() == Some(&run));
    for secret in &told.secrets {
        if !filter.admits(&secret.team, &secret.store, &secret.name) {
            continue;
        }
        let copy = match secret.state {
            SecretState::Removed => Copy::Gone,
            SecretState::Injected => Copy::Present,
            SecretState::Waiting if told.is_active() => Copy::Possible,
            SecretState::Waiting | SecretState::Absent | SecretState::Denied => continue,
        };
        let process = match (pod, copy) {
            (Some(pod), _) => process(pod),
            (None, _) if !told.is_active() => Process::Ended,
            (None, Copy::Possible) => Process::NotStarted,
            (None, _) => Process::Unknown,
        };
        keep(
            Holder {
                namespace: metadata.namespace.clone().unwrap_or_default(),
                kind: "EvalJob",
                run: format!("{name}/{}", told.name),
                team: secret.team.clone(),
                secret: secret.name.clone(),
                store: secret.store.clone(),
                variable: secret.env_var.clone(),
                version: secret.version.clone(),
                pinned: None,
                copy,
                injected_at: told.secret_injected_at.map(|time| time.0),
                process,
            },
            found,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_attempt_holds_what_its_status_says() {
        let secret = |name: &str, state: &str| json!({"team": "t", "name": name, "store": "default", "envVar": name, "bound": "AutoBind", "state": state});
        let job: EvalJob = serde_json::from_value(json!({
            "apiVersion": "daypass.dev/v1alpha1", "kind": "EvalJob",
            "metadata": {"name": "job", "namespace": "ns", "uid": "u"},
            "spec": {"model": {"name": "m", "baseURL": "https://m.test", "auth": "None"}, "benchmarks": [{"task": "a"}]},
            "status": {"benchmarks": [
                {"name": "begins", "task": "t", "phase": "Pending", "attempt": 1, "secrets": [secret("A", "Waiting")]},
                {"name": "runs", "task": "t", "phase": "Running", "attempt": 1, "secrets": [secret("B", "Removed")]},
                {"name": "fails", "task": "t", "phase": "Failed", "attempt": 1, "secrets": [secret("C", "Injected")]},
                {"name": "over", "task": "t", "phase": "Completed", "attempt": 1, "secrets": [secret("D", "Removed")]},
                {"name": "waits", "task": "t", "phase": "Pending", "attempt": 0, "secrets": [secret("E", "Waiting")]},
            ]},
        }))
        .unwrap();
        let found = holders(&[job], &[], &Filter::default());
        let told: Vec<_> = found.iter().map(|h| (h.run.as_str(), h.secret.as_str(), h.copy, h.process)).collect();
        assert_eq!(
            told,
            [
                ("job/begins", "A", Copy::Possible, Process::NotStarted),
                ("job/runs", "B", Copy::Gone, Process::Unknown),
                ("job/fails", "C", Copy::Present, Process::Ended),
            ]
        );
    }
}
