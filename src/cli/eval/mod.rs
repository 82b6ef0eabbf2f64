//! `daypass eval`: evaluations, with the caller's own rights.

pub mod args;
mod follow;
mod page;
mod tables;

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::Session;
use super::connect::Cluster;
use super::error::{CliError, Exit, Needs, Result, api_error};
use super::output::Format;
use crate::api::{ConditionStatus, ConditionType, EvalJob, EvalJobStatus, EvaluationPhase};
use crate::evaluation::{CATALOG_KEY, CATALOG_MAP, Catalog};
use args::{BenchmarksArgs, EvalCommand, FileArgs, LogsArgs, NameArgs, RunArgs, ShowArgs};
use follow::follow;

/// How often a job that is followed is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long the operator may take for a plan: it waits for stores that do not answer.
const PLAN: Duration = Duration::from_secs(330);

/// Does what was asked.
pub async fn run(session: &mut Session, command: &EvalCommand) -> Result<()> {
    match command {
        EvalCommand::Run(args) => submit(session, args).await,
        EvalCommand::Plan(args) => plan(session, args).await,
        EvalCommand::List => list(session).await,
        EvalCommand::Show(args) => show(session, args).await,
        EvalCommand::Logs(args) => logs(session, args).await,
        EvalCommand::Rerun(args) => rerun(session, args).await,
        EvalCommand::Stop(args) => stop(session, args).await,
        EvalCommand::Benchmarks(args) => benchmarks(session, args).await,
    }
}

fn jobs(cluster: &Cluster) -> Api<EvalJob> {
    Api::namespaced(cluster.client.clone(), &cluster.namespace)
}

async fn get(cluster: &Cluster, name: &str) -> Result<EvalJob> {
    jobs(cluster)
        .get(name)
        .await
        .map_err(|error| api_error(&format!("read the EvalJob {name}"), Needs::Member(&cluster.namespace), &error))
}

/// Reads a manifest. The namespace that it names must be the one that is meant.
fn manifest(args: &FileArgs, namespace: &str) -> Result<EvalJob> {
    let shown = args.file.display();
    let text = if args.file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(&args.file)
    }
    .map_err(|error| CliError::usage(format!("{shown} cannot be read: {error}")))?;
    let value: Value =
        serde_yaml::from_str(&text).map_err(|error| CliError::usage(format!("{shown} is no manifest: {error}")))?;
    if value["kind"] != "EvalJob" {
        return Err(CliError::usage(format!("{shown} is no EvalJob")).hint("it needs `kind: EvalJob`"));
    }
    let job: EvalJob =
        serde_json::from_value(value).map_err(|error| CliError::usage(format!("{shown} is no EvalJob: {error}")))?;
    match job.metadata.namespace.as_deref() {
        Some(own) if own != namespace => {
            Err(CliError::usage(format!("{shown} names the namespace {own}")).hint(format!("add -n {own}")))
        }
        _ => Ok(job),
    }
}

async fn create(cluster: &Cluster, job: &EvalJob) -> Result<EvalJob> {
    let needs = Needs::Member(&cluster.namespace);
    jobs(cluster)
        .create(&PostParams::default(), job)
        .await
        .map_err(|error| api_error("submit the EvalJob", needs, &error))
}

async fn submit(session: &mut Session, args: &RunArgs) -> Result<()> {
    let cluster = session.cluster().await?;
    let job = create(&cluster, &manifest(&args.file, &cluster.namespace)?).await?;
    let name = job.name_any();
    session.out.note(&format!("Submitted the EvalJob {name} in namespace {}.", cluster.namespace));
    if args.detach {
        return session.out.done(&json!({"name": name, "namespace": cluster.namespace}), &name);
    }
    let job = follow(session, &cluster, &name).await?;
    tell(session, &job)?;
    if let Some(file) = &args.report {
        write_page(session, &job, file)?;
    }
    verdict(&job)
}

/// The exit code of an evaluation that is over.
fn verdict(job: &EvalJob) -> Result<()> {
    let status = job.status.clone().unwrap_or_default();
    let message = status.message.clone().unwrap_or_default();
    if status.phase != EvaluationPhase::Completed {
        let message = lines(&message);
        return Err(CliError::new(Exit::NotSucceeded, format!("the evaluation did not succeed:\n  {message}")));
    }
    let unmet = status
        .conditions
        .iter()
        .find(|c| c.type_ == ConditionType::ExpectationsMet && c.status == ConditionStatus::False);
    match unmet {
        Some(condition) => Err(CliError::new(Exit::NotAsExpected, format!("not as expected: {}", condition.message))),
        None => Ok(()),
    }
}

/// Submits the job suspended, waits for the operator's answer, and takes it away again, whatever came.
async fn plan(session: &mut Session, args: &FileArgs) -> Result<()> {
    let cluster = session.cluster().await?;
    let mut job = manifest(args, &cluster.namespace)?;
    job.spec.suspend = true;
    let name = format!("plan-{:x}-{}", Timestamp::now().as_microsecond(), job.name_any());
    job.metadata.name = Some(name.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned());
    job.metadata.namespace = None;
    let made = create(&cluster, &job).await?;
    let name = made.name_any();
    // A plan that is broken off must not leave its job behind.
    let answer = tokio::select! {
        answer = tokio::time::timeout(PLAN, answered(&cluster, &name)) => answer,
        _ = tokio::signal::ctrl_c() => Ok(Err(CliError::new(Exit::Declined, "broken off"))),
    };
    let removed = jobs(&cluster).delete(&name, &DeleteParams::background()).await;
    if removed.is_err() {
        session.out.note(&format!("The suspended EvalJob {name} could not be taken away: delete it."));
    }
    let job = answer.map_err(|_| {
        CliError::new(Exit::Unreachable, "the operator has not answered").hint("is it running? `helm status daypass`")
    })??;
    let status = job.status.clone().unwrap_or_default();
    session.out.result(
        &json!({"benchmarks": status.benchmarks, "catalogVersion": status.catalog_version,
        "resolved": resolved(&status) == Some(ConditionStatus::True), "message": message(&status)}),
        || tables::secrets(&status),
    )?;
    match resolved(&status) {
        Some(ConditionStatus::True) => {
            session.out.note("Every key is there and may be used; nothing was started.");
            Ok(())
        }
        _ => Err(CliError::new(Exit::NotSucceeded, format!("it would be refused:\n  {}", message(&status)))),
    }
}

fn resolved(status: &EvalJobStatus) -> Option<ConditionStatus> {
    status.conditions.iter().find(|c| c.type_ == ConditionType::SecretsResolved).map(|condition| condition.status)
}

/// Problems, one a line.
fn message(status: &EvalJobStatus) -> String {
    let condition = status.conditions.iter().find(|c| c.type_ == ConditionType::SecretsResolved);
    condition.map(|condition| lines(&condition.message)).unwrap_or_default()
}

/// Several sentences, each on a line of its own below the first.
fn lines(message: &str) -> String {
    message.replace('\n', "\n  ")
}

async fn answered(cluster: &Cluster, name: &str) -> Result<EvalJob> {
    loop {
        let job = get(cluster, name).await?;
        if let Some(status) = &job.status
            && (status.phase.is_terminal() || resolved(status) == Some(ConditionStatus::True))
        {
            return Ok(job);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn list(session: &mut Session) -> Result<()> {
    let cluster = session.cluster().await?;
    let needs = Needs::Member(&cluster.namespace);
    let found = jobs(&cluster)
        .list(&ListParams::default())
        .await
        .map_err(|error| api_error("list the EvalJobs", needs, &error))?
        .items;
    if found.is_empty() && session.out.format() == Format::Table {
        session.out.note(&format!("No EvalJob in namespace {}.", cluster.namespace));
        return Ok(());
    }
    session.out.result(&found, || tables::jobs(&found, Timestamp::now()))
}

fn tell(session: &mut Session, job: &EvalJob) -> Result<()> {
    let status = job.status.clone().unwrap_or_default();
    session.out.result(&status, || tables::benchmarks(&status))
}

async fn show(session: &mut Session, args: &ShowArgs) -> Result<()> {
    let cluster = session.cluster().await?;
    let job = get(&cluster, &args.name).await?;
    if let Some(file) = &args.report {
        return write_page(session, &job, file);
    }
    let status = job.status.clone().unwrap_or_default();
    if session.out.format() == Format::Table {
        let phase = status.phase;
        session.out.note(&format!(
            "{} of {}: {phase:?}: {}",
            args.name,
            job.spec.model.name,
            status.message.as_deref().unwrap_or("-")
        ));
        tell(session, &job)?;
        session.out.text("\n")?;
        return session.out.text(&tables::secrets(&status).to_string());
    }
    tell(session, &job)
}

fn write_page(session: &mut Session, job: &EvalJob, file: &Path) -> Result<()> {
    std::fs::write(file, page::page(job))
        .map_err(|error| CliError::failure(format!("{} cannot be written: {error}", file.display())))?;
    session.out.note(&format!("Wrote {}.", file.display()));
    Ok(())
}

async fn logs(session: &mut Session, args: &LogsArgs) -> Result<()> {
    let cluster = session.cluster().await?;
    let status = get(&cluster, &args.name).await?.status.unwrap_or_default();
    let names: Vec<&str> = status.benchmarks.iter().map(|benchmark| benchmark.name.as_str()).collect();
    let name = match (&args.benchmark, names.as_slice()) {
        (Some(name), _) => name.as_str(),
        (None, [only]) => only,
        (None, _) => {
            return Err(CliError::usage("which benchmark?").hint(format!("one of {}", names.join(", "))));
        }
    };
    let pod = status
        .benchmark(name)
        .ok_or_else(|| CliError::not_found(format!("{} has no benchmark {name}", args.name)))?
        .pod_name
        .as_deref()
        .ok_or_else(|| CliError::not_found(format!("{name} has no Pod yet")))?;
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), &cluster.namespace);
    let text = pods
        .logs(pod, &LogParams { container: Some("main".into()), ..LogParams::default() })
        .await
        .map_err(|error| api_error("read the log", Needs::Member(&cluster.namespace), &error))?;
    // What a model or a data set printed must not steer the terminal.
    let clean: String = text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c }).collect();
    session.out.text(&clean)
}

async fn change(session: &mut Session, name: &str, doing: &str, spec: Value) -> Result<()> {
    let cluster = session.cluster().await?;
    let patch = Patch::Merge(json!({"spec": spec}));
    jobs(&cluster)
        .patch(name, &PatchParams::default(), &patch)
        .await
        .map_err(|error| api_error(doing, Needs::Member(&cluster.namespace), &error))?;
    Ok(())
}

async fn rerun(session: &mut Session, args: &NameArgs) -> Result<()> {
    let cluster = session.cluster().await?;
    let next = get(&cluster, &args.name).await?.spec.rerun + 1;
    change(session, &args.name, "run the EvalJob again", json!({"rerun": next})).await?;
    let sentence = format!("{} runs again what did not succeed.", args.name);
    session.out.done(&json!({"name": args.name, "rerun": next}), &sentence)
}

async fn stop(session: &mut Session, args: &NameArgs) -> Result<()> {
    change(session, &args.name, "stop the EvalJob", json!({"stop": true})).await?;
    session.out.done(&json!({"name": args.name, "stopped": true}), &format!("{} is being stopped.", args.name))
}

/// The catalog in force where the caller may read the cluster admin's, else the built-in one.
async fn benchmarks(session: &mut Session, args: &BenchmarksArgs) -> Result<()> {
    let mut catalog = Catalog::clone(&Catalog::built_in());
    match session.cluster().await {
        Ok(cluster) => {
            let maps = Api::<ConfigMap>::namespaced(cluster.client.clone(), &cluster.system_namespace);
            match maps.get_opt(CATALOG_MAP).await {
                Ok(Some(map)) => {
                    let text = map.data.and_then(|mut data| data.remove(CATALOG_KEY)).unwrap_or_default();
                    match Catalog::parse(&text) {
                        Ok(own) => catalog = catalog.with(&own),
                        Err(error) => session.out.note(&format!("The cluster's own catalog cannot be used: {error}")),
                    }
                }
                Ok(None) => {}
                Err(_) => session.out.note("The built-in catalog; whether the cluster has its own you may not see."),
            }
        }
        Err(_) => session.out.note("The built-in catalog; no cluster could be asked."),
    }
    let wanted = args.filter.as_deref().unwrap_or_default().to_lowercase();
    let found: Vec<_> = catalog
        .entries()
        .filter(|entry| {
            [&entry.name, &entry.title, &entry.category].iter().any(|text| text.to_lowercase().contains(&wanted))
        })
        .collect();
    session.out.result(&tables::catalog_data(&catalog.version, &found), || tables::catalog(&found))
}
