//! The chart on control planes where no operator runs: whoever acts there is the test.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use daypass::guard::{GuardConfig, prove};
use daypass_testcluster::{Cluster, Options, poll};
use kube::Client;

/// The release's namespace.
pub const SYSTEM: &str = "daypass-system";

static INSTALLED: OnceLock<Result<Cluster, String>> = OnceLock::new();

/// The chart's folder.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("charts/daypass")
}

/// A control plane for all tests that need no operator, with the chart installed and its policies in force.
pub async fn installed() -> Result<&'static Cluster> {
    let start = || {
        INSTALLED.get_or_init(|| {
            let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
            runtime
                .block_on(async {
                    let cluster = Cluster::start(Options::control_plane()).await?;
                    install(&cluster, &[]).await?;
                    Ok(cluster)
                })
                .map_err(|error: anyhow::Error| format!("{error:#}"))
        })
    };
    // Blocking: the first caller starts it, the others wait here.
    tokio::task::spawn_blocking(start).await?.as_ref().map_err(|error| anyhow!("{error}"))
}

/// Installs or upgrades the chart without its Pods and waits until its policies are in force.
pub async fn install(cluster: &Cluster, arguments: &[&str]) -> Result<()> {
    let folder = folder().display().to_string();
    let mut all = vec![
        "upgrade",
        "--install",
        "daypass",
        &folder,
        "--namespace",
        SYSTEM,
        "--create-namespace",
        "--set",
        "replicas=0",
        "--force-conflicts",
    ];
    all.extend(arguments);
    cluster.helm(&all)?;
    let operator = operator(cluster).await?;
    poll(Duration::from_secs(30), "the policies are in force", async || {
        let report = prove(&operator, &GuardConfig::new(SYSTEM)).await;
        ensure!(report.in_force(), "{report}");
        Ok(())
    })
    .await
}

/// The operator, with a token of its own `ServiceAccount`.
pub async fn operator(cluster: &Cluster) -> Result<Client> {
    cluster.client_with_token(&cluster.service_account_token(SYSTEM, "daypass-operator").await?)
}
