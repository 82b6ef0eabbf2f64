//! Which runs hold which secret. Pure: computed from Sandboxes and Pods as they were listed.

pub mod evaluations;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;

use super::output::{Table, age};
use crate::api::names::DEFAULT_STORE;
use crate::api::{ConditionStatus, ConditionType, Sandbox, SecretState};
use crate::run::{INJECTED_AT, Main, PodPhase, PodView, SECRETS, Versions};

/// The copy in the API server: the run Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Copy {
    /// There may be one: the run has no Pod yet and its status says nothing.
    Possible,
    /// It was made, and nothing proves that it is gone.
    Present,
    /// It is proven gone.
    Gone,
}

/// The process that was given the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Process {
    /// It has not started.
    NotStarted,
    /// It runs, the value in its environment.
    Running,
    /// It is over.
    Ended,
    /// Nothing can be told: the Pod is not there, its node does not answer.
    Unknown,
}

/// One run that has a value, or may have one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// The run's namespace.
    pub namespace: String,
    /// The kind of the run's object.
    pub kind: &'static str,
    /// The run's name.
    pub run: String,
    /// The team that owns the secret.
    pub team: String,
    /// The secret's name.
    pub secret: String,
    /// The team's store.
    pub store: String,
    /// The variable that has the value.
    pub variable: String,
    /// The version, where it is known.
    pub version: Option<String>,
    /// The version that the run's author pinned.
    pub pinned: Option<String>,
    /// The copy in the API server.
    pub copy: Copy,
    /// When the copy was made.
    pub injected_at: Option<Timestamp>,
    /// The process that was given the value.
    pub process: Process,
}

/// Which holders are asked for. Without a field: all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The team that owns the secrets.
    pub team: Option<String>,
    /// The store that they are in.
    pub store: Option<String>,
    /// The secret's name.
    pub name: Option<String>,
}

impl Filter {
    fn admits(&self, team: &str, store: &str, name: &str) -> bool {
        self.team.as_deref().is_none_or(|wanted| wanted == team)
            && self.store.as_deref().is_none_or(|wanted| wanted == store)
            && self.name.as_deref().is_none_or(|wanted| wanted == name)
    }
}

/// Every live run that holds a secret, or may. The Sandboxes have to be listed before the Pods: what starts in between
/// is then seen as a Pod, and what ends in between is shown once too often rather than not at all.
pub fn holders(sandboxes: &[Sandbox], pods: &[Pod], filter: &Filter) -> Vec<Holder> {
    let mut by_owner: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
    let mut ownerless = Vec::new();
    for pod in pods {
        match owner_uid(pod) {
            Some(uid) => by_owner.entry(uid).or_default().push(pod),
            None => ownerless.push(pod),
        }
    }
    let mut found = Vec::new();
    for sandbox in sandboxes {
        let pods = sandbox.metadata.uid.as_deref().and_then(|uid| by_owner.remove(uid)).unwrap_or_default();
        of_sandbox(sandbox, &pods, filter, &mut found);
    }
    // Pods of runs that are not there: deleted, and the Pod still ends; or made after the Sandboxes were listed.
    for pod in by_owner.into_values().flatten().chain(ownerless) {
        of_pod(pod, &pod_run(pod), &BTreeMap::new(), None, filter, &mut found);
    }
    found.sort_by(|a, b| {
        (&a.namespace, &a.run, &a.team, &a.secret, &a.variable).cmp(&(
            &b.namespace,
            &b.run,
            &b.team,
            &b.secret,
            &b.variable,
        ))
    });
    found
}

fn owner_uid(pod: &Pod) -> Option<&str> {
    let owners = pod.metadata.owner_references.as_deref()?;
    owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}

fn owner_kind(pod: &Pod) -> &'static str {
    let evaluation = pod.metadata.owner_references.iter().flatten().any(|owner| owner.kind == "EvalJob");
    if evaluation { "EvalJob" } else { "Sandbox" }
}

fn pod_run(pod: &Pod) -> String {
    let owner = pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    owner.map(|owner| owner.name.clone()).or_else(|| pod.metadata.name.clone()).unwrap_or_default()
}

fn of_sandbox(sandbox: &Sandbox, pods: &[&Pod], filter: &Filter, found: &mut Vec<Holder>) {
    if sandbox.spec.secrets.is_empty() {
        return;
    }
    let namespace = sandbox.metadata.namespace.clone().unwrap_or_default();
    let run = sandbox.metadata.name.clone().unwrap_or_default();
    let status = sandbox.status.as_ref();
    let over = status.is_some_and(|status| status.phase.is_terminal());
    let removed = status.is_some_and(|status| {
        status.secret_removed_at.is_some()
            || status
                .conditions
                .iter()
                .any(|c| c.type_ == ConditionType::SecretsRemoved && c.status == ConditionStatus::True)
    });
    let injected_at = status.and_then(|status| status.secret_injected_at).map(|time| time.0);
    let pins: BTreeMap<&str, &str> = sandbox
        .spec
        .secrets
        .iter()
        .filter_map(|reference| Some((reference.variable(), reference.version.as_deref()?)))
        .collect();

    let (told, silent): (Vec<&Pod>, Vec<&Pod>) = pods.iter().partition(|pod| given(pod).is_some());
    for pod in &told {
        of_pod(pod, &run, &pins, removed.then_some(Copy::Gone), filter, found);
    }
    if !told.is_empty() && silent.is_empty() {
        return;
    }
    for reference in &sandbox.spec.secrets {
        let (team, store) = (reference.team(&namespace), reference.store());
        if !filter.admits(team, store, &reference.name) {
            continue;
        }
        let told =
            status.and_then(|status| status.secrets.iter().find(|secret| secret.env_var == reference.variable()));
        let copy = match told.map(|secret| secret.state) {
            Some(SecretState::Absent | SecretState::Denied) => continue,
            _ if removed => Copy::Gone,
            Some(SecretState::Removed) => Copy::Gone,
            Some(SecretState::Injected) => Copy::Present,
            _ if injected_at.is_some() => Copy::Present,
            // A run that ended without ever having a copy.
            _ if over => continue,
            _ => Copy::Possible,
        };
        let process = match copy {
            // A Pod that does not tell what it was given.
            _ if !silent.is_empty() => process(silent[0]),
            _ if over => Process::Ended,
            Copy::Possible => Process::NotStarted,
            Copy::Present if status.is_none_or(|status| status.start_time.is_none()) => Process::NotStarted,
            _ => Process::Unknown,
        };
        keep(
            Holder {
                namespace: namespace.clone(),
                kind: "Sandbox",
                run: run.clone(),
                team: team.into(),
                secret: reference.name.clone(),
                store: store.into(),
                variable: reference.variable().into(),
                version: told.and_then(|secret| secret.version.clone()),
                pinned: reference.version.clone(),
                copy,
                injected_at,
                process,
            },
            found,
        );
    }
}

/// What the Pod says that it was given; nothing where it does not say, or not so that it can be read.
fn given(pod: &Pod) -> Option<Vec<Versions>> {
    let text = pod.metadata.annotations.as_ref()?.get(SECRETS)?;
    serde_json::from_str(text).ok()
}

fn of_pod(
    pod: &Pod,
    run: &str,
    pins: &BTreeMap<&str, &str>,
    copy: Option<Copy>,
    filter: &Filter,
    found: &mut Vec<Holder>,
) {
    let annotations = pod.metadata.annotations.as_ref();
    let injected_at = annotations.and_then(|all| all.get(INJECTED_AT)).and_then(|text| text.parse().ok());
    let process = process(pod);
    for secret in given(pod).unwrap_or_default() {
        // Without a version it was absent and optional: the run goes without.
        if secret.version.is_none() || !filter.admits(&secret.team, &secret.store, &secret.name) {
            continue;
        }
        keep(
            Holder {
                namespace: pod.metadata.namespace.clone().unwrap_or_default(),
                kind: owner_kind(pod),
                run: run.to_owned(),
                pinned: pins.get(secret.env_var.as_str()).map(|&pin| pin.to_owned()),
                team: secret.team,
                secret: secret.name,
                store: secret.store,
                variable: secret.env_var,
                version: secret.version,
                copy: copy.unwrap_or(Copy::Present),
                injected_at,
                process,
            },
            found,
        );
    }
}

/// A run whose copy is gone and whose process is over holds nothing.
fn keep(holder: Holder, found: &mut Vec<Holder>) {
    if holder.copy != Copy::Gone || holder.process != Process::Ended {
        found.push(holder);
    }
}

fn process(pod: &Pod) -> Process {
    let view = PodView::of(pod);
    match (view.phase, &view.main) {
        _ if view.has_ended() => Process::Ended,
        (PodPhase::Unknown, _) => Process::Unknown,
        (_, Main::Running(_)) | (PodPhase::Running, _) => Process::Running,
        _ => Process::NotStarted,
    }
}

/// The holders, and what was not looked at.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Every run that holds a secret, or may.
    pub items: Vec<Holder>,
    /// The namespaces that were asked for and refused.
    pub refused_namespaces: Vec<String>,
    /// Whether every namespace of the cluster was looked at, but for the refused ones.
    pub complete: bool,
    /// The namespaces that were looked at, where not all were.
    pub seen_namespaces: Vec<String>,
}

impl Report {
    /// The table for eyes.
    pub fn table(&self, now: Timestamp) -> Table {
        let mut table = Table::new(["NAMESPACE", "RUN", "SECRET", "VERSION", "VARIABLE", "COPY", "PROCESS", "SINCE"]);
        for holder in &self.items {
            let store = if holder.store == DEFAULT_STORE { String::new() } else { format!("{}.", holder.store) };
            table.row([
                holder.namespace.clone(),
                holder.run.clone(),
                format!("{}/{store}{}", holder.team, holder.secret),
                holder.version.clone().or_else(|| holder.pinned.clone()).unwrap_or_default(),
                holder.variable.clone(),
                match holder.copy {
                    Copy::Possible => "may hold",
                    Copy::Present => "present",
                    Copy::Gone => "gone",
                }
                .into(),
                match holder.process {
                    Process::NotStarted => "not started",
                    Process::Running => "running",
                    Process::Ended => "ended",
                    Process::Unknown => "unknown",
                }
                .into(),
                holder.injected_at.map(|at| age(Some(at), now)).unwrap_or_default(),
            ]);
        }
        table
    }

    /// What people have to know about what the table does not show.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.complete {
            notes.push(format!(
                "Not every namespace was looked at: you may not list them all. Looked at: {}.",
                list(&self.seen_namespaces)
            ));
        }
        if !self.refused_namespaces.is_empty() {
            notes.push(format!(
                "You may not see the runs of: {}. Runs there may hold these secrets too.",
                list(&self.refused_namespaces)
            ));
        }
        notes
    }

    /// How many runs there are among the holders.
    pub fn runs(&self) -> usize {
        self.items.iter().map(|holder| (&holder.namespace, &holder.run)).collect::<BTreeSet<_>>().len()
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "JSON is written where it is used")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sandbox(name: &str, status: Value) -> Sandbox {
        serde_json::from_value(json!({
            "apiVersion": "daypass.dev/v1alpha1", "kind": "Sandbox",
            "metadata": {"name": name, "namespace": "ml", "uid": format!("uid-{name}")},
            "spec": {"secrets": [{"name": "HF_TOKEN"}, {"team": "shared", "name": "DB", "envVar": "DB_URL", "version": "3"}]},
            "status": status,
        }))
        .unwrap()
    }

    fn pod(run: &str, phase: &str, container: Value) -> Pod {
        let secrets = json!([
            {"team": "ml", "name": "HF_TOKEN", "store": "default", "envVar": "HF_TOKEN", "version": "2"},
            {"team": "shared", "name": "DB", "store": "default", "envVar": "DB_URL", "version": "3"},
            {"team": "ml", "name": "ABSENT", "store": "default", "envVar": "ABSENT"},
        ]);
        serde_json::from_value(json!({
            "metadata": {
                "name": format!("daypass-run-{run}-1-x"), "namespace": "ml",
                "annotations": {SECRETS: secrets.to_string(), INJECTED_AT: "2026-03-01T12:00:00Z"},
                "ownerReferences": [{
                    "apiVersion": "daypass.dev/v1alpha1", "kind": "Sandbox", "name": run, "uid": format!("uid-{run}"),
                    "controller": true,
                }],
            },
            "status": {"phase": phase, "containerStatuses": [
                {"name": "main", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": container},
            ]},
        }))
        .unwrap()
    }

    fn running() -> Value {
        json!({"running": {}})
    }

    fn states(sandboxes: &[Sandbox], pods: &[Pod]) -> Vec<(Copy, Process)> {
        let filter = Filter { team: Some("ml".into()), ..Filter::default() };
        holders(sandboxes, pods, &filter).iter().map(|holder| (holder.copy, holder.process)).collect()
    }

    #[test]
    fn the_whole_life_of_a_run_is_told() {
        let none = json!({"phase": "Pending"});
        let started = json!({"phase": "Running", "secretInjectedAt": "2026-03-01T12:00:00Z",
            "startTime": "2026-03-01T12:00:01Z"});
        let removed = json!({"phase": "Running", "secretInjectedAt": "2026-03-01T12:00:00Z",
            "secretRemovedAt": "2026-03-01T12:00:01Z", "startTime": "2026-03-01T12:00:01Z"});
        let over = json!({"phase": "Completed", "secretInjectedAt": "2026-03-01T12:00:00Z",
            "secretRemovedAt": "2026-03-01T12:00:01Z"});
        let over_not_removed = json!({"phase": "Failed", "secretInjectedAt": "2026-03-01T12:00:00Z"});
        let never = json!({"phase": "Failed", "reason": "AccessDenied"});
        let ended = json!({"terminated": {"exitCode": 0}});
        for (what, status, pod, expected) in [
            ("new", none.clone(), None, Some((Copy::Possible, Process::NotStarted))),
            ("no status at all", Value::Null, None, Some((Copy::Possible, Process::NotStarted))),
            ("Pod waits", none.clone(), Some(("Pending", json!({}))), Some((Copy::Present, Process::NotStarted))),
            ("Pod runs", none.clone(), Some(("Running", running())), Some((Copy::Present, Process::Running))),
            ("start told", started.clone(), Some(("Running", running())), Some((Copy::Present, Process::Running))),
            ("copy gone", removed.clone(), Some(("Running", running())), Some((Copy::Gone, Process::Running))),
            ("node lost", removed.clone(), Some(("Unknown", json!({}))), Some((Copy::Gone, Process::Unknown))),
            ("Pod gone", removed.clone(), None, Some((Copy::Gone, Process::Unknown))),
            ("ended, told nothing", started, Some(("Succeeded", ended.clone())), Some((Copy::Present, Process::Ended))),
            ("sidecar outlives it", removed, Some(("Running", ended.clone())), None),
            ("over", over.clone(), Some(("Succeeded", ended)), None),
            ("over, Pod gone", over, None, None),
            ("over, copy not proven gone", over_not_removed, None, Some((Copy::Present, Process::Ended))),
            ("never had one", never, None, None),
        ] {
            let pods: Vec<Pod> = pod.into_iter().map(|(phase, state)| self::pod("a", phase, state)).collect();
            let found = states(&[sandbox("a", status)], &pods);
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{what}");
        }
    }

    #[test]
    fn a_pod_whose_sandbox_is_gone_still_holds() {
        assert_eq!(states(&[], &[pod("a", "Running", running())]), [(Copy::Present, Process::Running)]);
        // Deleted and made anew under the same name: two runs, told apart by UID.
        let mut other = pod("a", "Running", running());
        other.metadata.owner_references.as_mut().unwrap()[0].uid = "older".into();
        assert_eq!(states(&[sandbox("a", json!({"phase": "Pending"}))], &[other]).len(), 2);
    }

    #[test]
    fn a_pod_that_does_not_tell_is_taken_to_have_what_its_sandbox_names() {
        let mut silent = pod("a", "Running", running());
        silent.metadata.annotations = None;
        let status = json!({"phase": "Running", "secretInjectedAt": "2026-03-01T12:00:00Z", "secrets": [
            {"team": "ml", "name": "HF_TOKEN", "store": "default", "envVar": "HF_TOKEN", "version": "2", "state": "Injected"},
            {"team": "shared", "name": "DB", "store": "default", "envVar": "DB_URL", "state": "Absent"},
        ]});
        let found = holders(&[sandbox("a", status)], &[silent], &Filter::default());
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].copy, found[0].process), (Copy::Present, Process::Running));
        assert_eq!(found[0].version.as_deref(), Some("2"));
    }

    #[test]
    fn the_filter_goes_by_the_secrets_team_store_and_name() {
        let sandboxes = [sandbox("a", json!({"phase": "Pending"}))];
        let names = |team: Option<&str>, store: Option<&str>, name: Option<&str>| -> Vec<String> {
            let filter =
                Filter { team: team.map(Into::into), store: store.map(Into::into), name: name.map(Into::into) };
            holders(&sandboxes, &[], &filter).into_iter().map(|holder| holder.secret).collect()
        };
        assert_eq!(names(None, None, None), ["HF_TOKEN", "DB"]);
        assert_eq!(names(Some("shared"), None, None), ["DB"]);
        assert_eq!(names(Some("ml"), Some("default"), Some("HF_TOKEN")), ["HF_TOKEN"]);
        assert!(names(Some("ml"), Some("vault"), None).is_empty());
        assert!(names(Some("ml"), None, Some("hf_token")).is_empty());
    }

    #[test]
    fn the_table_says_what_it_does_not_show() {
        let items = holders(&[sandbox("a", json!({"phase": "Pending"}))], &[], &Filter::default());
        let report = Report {
            items,
            refused_namespaces: vec!["eval".into()],
            complete: false,
            seen_namespaces: vec!["ml".into()],
        };
        let table = report.table("2026-03-01T12:00:00Z".parse().unwrap()).to_string();
        let mut lines = table.lines();
        assert!(lines.next().unwrap().starts_with("NAMESPACE   RUN   SECRET"), "{table}");
        assert!(lines.next().unwrap().contains("ml/HF_TOKEN") && table.contains("may hold"), "{table}");
        assert!(lines.next().unwrap().contains("shared/DB     3 "), "{table}");
        assert_eq!(report.runs(), 1);
        let notes = report.notes().join("\n");
        assert!(notes.contains("Looked at: ml.") && notes.contains("runs of: eval."), "{notes}");
    }
}
