//! The operator in the cluster: its image, and the chart by helm.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use daypass_testcluster::{Cluster, EvaluationServers, Image, poll};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};

use crate::canary::Canary;

/// Where the chart is installed.
pub const NAMESPACE: &str = "daypass-system";
/// An image with a shell; also what a Sandbox gets that names no image.
const BUSYBOX: &str = "daypass.test/busybox:1";
/// A node that is busy takes its time to start two Pods.
const START: Duration = Duration::from_mins(3);

/// A cluster with a ready operator.
pub struct World {
    /// The cluster.
    pub cluster: &'static Cluster,
    /// Where evaluations get their data sets.
    _hub: EvaluationServers,
    /// The token that the Hub takes.
    pub hub_token: Canary,
    /// The runner's image: its name and its file, loaded by who needs it.
    runner: (String, String),
    runner_loaded: OnceLock<Result<(), String>>,
}

static WORLD: OnceLock<Result<World, String>> = OnceLock::new();

/// The one that all tests of this binary share.
pub async fn world() -> Result<&'static World> {
    let cluster = Cluster::shared_with_node().await?;
    let start = move || {
        WORLD.get_or_init(|| {
            let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
            runtime.block_on(install(cluster)).map_err(|error| format!("{error:#}"))
        })
    };
    tokio::task::spawn_blocking(start).await?.as_ref().map_err(|error| anyhow!("{error}"))
}

impl World {
    /// Has the node know the runner's image. It takes some seconds the first time.
    pub async fn load_runner(&'static self) -> Result<()> {
        let load = || {
            self.runner_loaded.get_or_init(|| {
                self.cluster.load_image(Path::new(&self.runner.1)).map_err(|error| format!("{error:#}"))
            })
        };
        tokio::task::spawn_blocking(load).await?.clone().map_err(|error| anyhow!("{error}"))
    }

    /// Model servers, one for each item, which take those keys.
    pub fn models(&self, keys: &[&[&str]]) -> Result<EvaluationServers> {
        EvaluationServers::start(&self.cluster.host_address()?, keys, &[])
    }
}

/// Installs the operator and waits until it is ready.
pub async fn install(cluster: &'static Cluster) -> Result<World> {
    cluster.load(&Image::busybox(BUSYBOX)?)?;
    let (reference, archive) = image("operator", "image")?;
    cluster.load_image(Path::new(&archive))?;
    let runner = image("runner", "runner-image")?;
    let hub_token = Canary::new()?;
    let hub = EvaluationServers::start(&cluster.host_address()?, &[], &[hub_token.text()])?;
    let (repository, tag) = reference.rsplit_once(':').context("the image has a tag")?;
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/daypass");
    // Everything is logged, so that the search for a value in the logs means something.
    let values = [
        format!("image.repository={repository}"),
        format!("image.tag={tag}"),
        format!("config.defaultImage={BUSYBOX}"),
        format!("config.evaluations.images.Inspect={}", runner.0),
        format!("config.evaluations.hubEndpoint={}", hub.hub()),
        "config.log.level=trace".to_owned(),
    ];
    let chart = chart.to_str().context("the path of the chart is no UTF-8")?;
    let mut arguments = vec!["upgrade", "--install", "daypass", chart, "--namespace", NAMESPACE, "--create-namespace"];
    for value in &values {
        arguments.extend(["--set", value]);
    }
    cluster.helm(&arguments)?;
    let ready = poll(START, "both replicas of the operator are ready", async || {
        let deployments = Api::<Deployment>::namespaced(cluster.admin()?, NAMESPACE);
        let status = deployments.get("daypass-operator").await?.status.unwrap_or_default();
        ensure!(status.ready_replicas == Some(2), "{:?} of 2 are", status.ready_replicas);
        Api::<ConfigMap>::namespaced(cluster.admin()?, NAMESPACE).get("daypass-public-keys").await?;
        Ok(())
    });
    match ready.await {
        Ok(()) => Ok(World { cluster, _hub: hub, hub_token, runner, runner_loaded: OnceLock::new() }),
        Err(error) => {
            let pods = cluster.kubectl(&["describe", "pods", "-n", NAMESPACE])?;
            let logs = operator_logs(cluster).await.unwrap_or_default();
            let end: Vec<&str> = logs.lines().rev().take(20).collect();
            Err(error.context(format!("{}\n{}", String::from_utf8_lossy(&pods.stdout), end.join("\n"))))
        }
    }
}

/// An image's name and file: told by `cargo xtask test`, else built now by the task of that name.
fn image(name: &str, task: &str) -> Result<(String, String)> {
    let told = |what: &str| std::env::var(format!("DAYPASS_{}_{what}", name.to_uppercase()));
    if let (Ok(reference), Ok(archive)) = (told("IMAGE"), told("ARCHIVE")) {
        return Ok((reference, archive));
    }
    let output = Command::new("cargo").args(["xtask", task]).current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
    ensure!(output.status.success(), "cargo xtask {task}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let (reference, archive) =
        text.trim().split_once('\n').with_context(|| format!("xtask {task} prints two lines"))?;
    Ok((reference.to_owned(), archive.to_owned()))
}

/// What all replicas have logged so far.
async fn operator_logs(cluster: &Cluster) -> Result<String> {
    let pods = Api::<Pod>::namespaced(cluster.admin()?, NAMESPACE);
    let replicas = pods.list(&ListParams::default().labels("app.kubernetes.io/component=operator")).await?;
    let mut text = String::new();
    for pod in replicas {
        text.push_str(&pods.logs(&pod.name_any(), &LogParams::default()).await?);
    }
    Ok(text)
}
