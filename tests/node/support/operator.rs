//! The operator in the cluster: its image, and the chart by helm.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use daypass_testcluster::{Cluster, Image, poll};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};

/// Where the chart is installed.
pub const NAMESPACE: &str = "daypass-system";
/// An image with a shell; also what a Sandbox gets that names no image.
const BUSYBOX: &str = "daypass.test/busybox:1";
/// A node that is busy takes its time to start two Pods.
const START: Duration = Duration::from_mins(3);

static WORLD: OnceLock<Result<&'static Cluster, String>> = OnceLock::new();

/// The cluster that all tests of this binary share, with a ready operator.
pub async fn world() -> Result<&'static Cluster> {
    let cluster = Cluster::shared_with_node().await?;
    let start = move || {
        WORLD.get_or_init(|| {
            let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
            runtime.block_on(install(cluster)).map(|()| cluster).map_err(|error| format!("{error:#}"))
        })
    };
    tokio::task::spawn_blocking(start).await?.clone().map_err(|error| anyhow!("{error}"))
}

/// Installs the operator and waits until it is ready.
pub async fn install(cluster: &Cluster) -> Result<()> {
    cluster.load(&Image::busybox(BUSYBOX)?)?;
    let (reference, archive) = operator_image()?;
    cluster.load_image(Path::new(&archive))?;
    let (repository, tag) = reference.rsplit_once(':').context("the image has a tag")?;
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/daypass");
    // Everything is logged, so that the search for a value in the logs means something.
    let values = [
        format!("image.repository={repository}"),
        format!("image.tag={tag}"),
        format!("config.defaultImage={BUSYBOX}"),
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
        Ok(()) => Ok(()),
        Err(error) => {
            let pods = cluster.kubectl(&["describe", "pods", "-n", NAMESPACE])?;
            let logs = operator_logs(cluster).await.unwrap_or_default();
            let end: Vec<&str> = logs.lines().rev().take(20).collect();
            Err(error.context(format!("{}\n{}", String::from_utf8_lossy(&pods.stdout), end.join("\n"))))
        }
    }
}

/// The image's name and file: told by `cargo xtask test`, else built now.
fn operator_image() -> Result<(String, String)> {
    if let (Ok(reference), Ok(archive)) =
        (std::env::var("DAYPASS_OPERATOR_IMAGE"), std::env::var("DAYPASS_OPERATOR_ARCHIVE"))
    {
        return Ok((reference, archive));
    }
    let output = Command::new("cargo").args(["xtask", "image"]).current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
    ensure!(output.status.success(), "cargo xtask image: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let (reference, archive) = text.trim().split_once('\n').context("cargo xtask image prints two lines")?;
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
