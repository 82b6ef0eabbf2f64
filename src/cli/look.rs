//! Looking for holders with the asker's own rights: everywhere if he may, else where he may.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::ListParams;
use serde::de::DeserializeOwned;

use super::Session;
use super::args::HoldersArgs;
use super::connect::Cluster;
use super::error::{CliError, Exit, Needs, Result, api_error, is_forbidden};
use super::grants::{MANAGED_BY, granted_namespaces};
use super::holders::{Filter, Holder, Report, evaluations, holders};
use super::manifest::store_and_name;
use super::{secret, store};
use crate::api::names::{DEFAULT_STORE, access_name};
use crate::api::{EvalJob, Sandbox};
use crate::run::RUN_LABEL;

const PAGE: u32 = 500;
const NAMESPACES_AT_ONCE: usize = 8;

/// `secret holders`.
pub async fn run(session: &mut Session, args: &HoldersArgs) -> Result<()> {
    let cluster = session.cluster().await?;
    let filter = match &args.name {
        Some(name) => {
            let (store, name) = store_and_name(name, args.store.as_deref())?;
            check_spelling(&cluster, store, name).await?;
            Filter { team: Some(cluster.namespace.clone()), store: Some(store.into()), name: Some(name.into()) }
        }
        None => {
            Filter { team: (!args.all_teams).then(|| cluster.namespace.clone()), store: args.store.clone(), name: None }
        }
    };
    let report = look(&cluster, &filter).await?;
    if report.seen_namespaces.is_empty() && !report.refused_namespaces.is_empty() {
        return Err(CliError::new(Exit::Denied, "you may not see the runs of any namespace").hint(
            "this needs `get`, `list` on sandboxes, evaljobs and pods, which `edit` and `admin` hold in a namespace: choose one with -n",
        ));
    }
    if report.items.is_empty() && session.out.format() == super::output::Format::Table {
        session.out.note("No live run holds it.");
    } else {
        session.out.result(&report, || report.table(Timestamp::now()))?;
    }
    for note in report.notes() {
        session.out.note(&note);
    }
    Ok(())
}

/// A slip in the letters would find no holder. A secret that is not there any more may still be held.
async fn check_spelling(cluster: &Cluster, store: &str, name: &str) -> Result<()> {
    if store != DEFAULT_STORE || !store::is_sealed_default(cluster).await.unwrap_or(false) {
        return Ok(());
    }
    match secret::find(cluster, name).await {
        Err(error) if error.exit == Exit::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Shows who holds a secret before something happens to it. What cannot be seen is said and stops nothing.
pub async fn show(session: &mut Session, cluster: &Cluster, store: &str, name: &str) -> Result<Report> {
    let filter = Filter { team: Some(cluster.namespace.clone()), store: Some(store.into()), name: Some(name.into()) };
    let report = look(cluster, &filter).await?;
    if report.items.is_empty() {
        session.out.note(&format!("No live run that you can see holds {}.", access_name(store, name)));
    } else {
        session.out.note(&format!(
            "{} holds or may hold {}:",
            count(report.runs(), "live run"),
            access_name(store, name)
        ));
        session.out.note_table(&report.table(Timestamp::now()));
    }
    for note in report.notes() {
        session.out.note(&note);
    }
    Ok(report)
}

/// `1 live run`, `2 live runs`.
pub fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

async fn look(cluster: &Cluster, filter: &Filter) -> Result<Report> {
    let client = &cluster.client;
    let all = (Api::all(client.clone()), Api::all(client.clone()), Api::all(client.clone()));
    match runs(&all.0, &all.1, &all.2, filter).await? {
        Some(items) => {
            Ok(Report { items, refused_namespaces: Vec::new(), complete: true, seen_namespaces: Vec::new() })
        }
        None => one_by_one(cluster, filter).await,
    }
}

/// Objects first, then Pods: see [`holders`]. None where any is refused.
async fn runs(
    sandboxes: &Api<Sandbox>,
    jobs: &Api<EvalJob>,
    pods: &Api<Pod>,
    filter: &Filter,
) -> Result<Option<Vec<Holder>>> {
    let Some(sandboxes) = list(sandboxes, ListParams::default(), "list Sandboxes").await? else { return Ok(None) };
    let Some(jobs) = list(jobs, ListParams::default(), "list EvalJobs").await? else { return Ok(None) };
    let of_runs = ListParams::default().labels(RUN_LABEL);
    let Some(pods) = list(pods, of_runs, "list the Pods of runs").await? else { return Ok(None) };
    let (evaluated, others) = evaluations::divide(&jobs, pods);
    let mut found = holders(&sandboxes, &others, filter);
    found.extend(evaluations::holders(&jobs, &evaluated, filter));
    Ok(Some(found))
}

async fn one_by_one(cluster: &Cluster, filter: &Filter) -> Result<Report> {
    let client = &cluster.client;
    let all = list(&Api::<Namespace>::all(client.clone()), ListParams::default(), "list namespaces").await?;
    let complete = all.is_some();
    let names: BTreeSet<String> = if let Some(all) = all {
        all.into_iter().filter_map(|namespace| namespace.metadata.name).collect()
    } else {
        // The best guess: the team itself, and the namespaces that it has granted something to.
        let bindings = Api::<RoleBinding>::namespaced(client.clone(), &cluster.namespace);
        let ours = ListParams::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
        let bindings = list(&bindings, ours, "list RoleBindings").await?.unwrap_or_default();
        let access = filter.name.as_deref().map(|name| access_name(filter.store.as_deref().unwrap_or_default(), name));
        granted_namespaces(&bindings, access.as_deref()).into_iter().chain([cluster.namespace.clone()]).collect()
    };
    let looked: Vec<_> = stream::iter(names)
        .map(|name| async move {
            let (sandboxes, jobs) = (Api::namespaced(client.clone(), &name), Api::namespaced(client.clone(), &name));
            let found = runs(&sandboxes, &jobs, &Api::namespaced(client.clone(), &name), filter).await?;
            Ok::<_, CliError>((name, found))
        })
        .buffered(NAMESPACES_AT_ONCE)
        .try_collect()
        .await?;
    let mut report =
        Report { items: Vec::new(), refused_namespaces: Vec::new(), complete, seen_namespaces: Vec::new() };
    for (name, found) in looked {
        match found {
            Some(items) => {
                report.items.extend(items);
                report.seen_namespaces.push(name);
            }
            None => report.refused_namespaces.push(name),
        }
    }
    Ok(report)
}

/// Everything there is, page by page; none where it is refused.
async fn list<K>(api: &Api<K>, params: ListParams, doing: &str) -> Result<Option<Vec<K>>>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut params = params.limit(PAGE);
    let mut items = Vec::new();
    loop {
        match api.list(&params).await {
            Ok(page) => {
                items.extend(page.items);
                match page.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => params = params.continue_token(&token),
                    None => return Ok(Some(items)),
                }
            }
            Err(error) if is_forbidden(&error) => return Ok(None),
            Err(error) => return Err(api_error(doing, Needs::Nothing, &error)),
        }
    }
}
