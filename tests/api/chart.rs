//! The chart, installed without its Deployment: in this tier nothing can run it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use daypass::guard::{GuardConfig, prove};
use daypass_testcluster::{Cluster, poll};
use kube::Client;
use tokio::sync::OnceCell;

/// The release's namespace.
pub const SYSTEM: &str = "daypass-system";
/// The operator's user name.
pub const OPERATOR: &str = "system:serviceaccount:daypass-system:daypass-operator";

static INSTALLED: OnceCell<()> = OnceCell::const_new();

/// The chart's folder.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("charts/daypass")
}

/// The control plane that all tests share, with the chart installed and its policies in force.
pub async fn installed() -> Result<&'static Cluster> {
    let cluster = Cluster::shared().await?;
    INSTALLED.get_or_try_init(|| install(cluster, &[])).await?;
    Ok(cluster)
}

/// Installs or upgrades the chart and waits until its policies are in force.
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

/// The operator, with a token of its own ServiceAccount.
pub async fn operator(cluster: &Cluster) -> Result<Client> {
    cluster.client_with_token(&cluster.service_account_token(SYSTEM, "daypass-operator").await?)
}
