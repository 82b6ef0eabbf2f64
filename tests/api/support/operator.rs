//! The operator as a process, with the rights and policies of the rendered chart and a bound token. Never as admin.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use daypass_testcluster::{Cluster, poll};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

/// Where the chart is installed.
pub const NAMESPACE: &str = "daypass-system";

/// A running operator and what it works with.
pub struct Operator {
    /// The cluster that it works on.
    pub cluster: &'static Cluster,
    process: Mutex<Child>,
    folder: PathBuf,
    /// Where it serves probes and metrics.
    pub address: String,
}

static SHARED: OnceLock<Result<Operator, String>> = OnceLock::new();

/// The operator that all tests of this binary share.
pub async fn operator() -> Result<&'static Operator> {
    let cluster = Cluster::shared().await?;
    let start = move || {
        SHARED.get_or_init(|| {
            let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
            runtime.block_on(Operator::start(cluster)).map_err(|error| format!("{error:#}"))
        })
    };
    tokio::task::spawn_blocking(start).await?.as_ref().map_err(|error| anyhow!("{error}"))
}

impl Operator {
    /// Installs the chart, and starts the operator with its ServiceAccount.
    pub async fn start(cluster: &'static Cluster) -> Result<Self> {
        install_chart(cluster)?;
        let folder = cluster.state().join("operator");
        std::fs::create_dir_all(folder.join("keys"))?;
        std::thread::spawn({
            let keys = folder.join("keys");
            move || show_keys(cluster, &keys)
        });
        let process = spawn(cluster, &folder, "0").await?;
        let address = served_at(&folder.join("0.log")).await?;
        let operator = Self { cluster, process: Mutex::new(process), folder, address };
        operator.wait_until_ready().await?;
        Ok(operator)
    }

    /// Waits until the policies are proven and the keys are listed.
    pub async fn wait_until_ready(&self) -> Result<()> {
        let log = self.folder.join("0.log");
        poll(Duration::from_secs(60), "the operator is ready", async || {
            let text = std::fs::read_to_string(&log)?;
            ensure!(text.contains("policies are in force"), "its log ends with: {}", tail(&text));
            let keys = Api::<k8s_openapi::api::core::v1::ConfigMap>::namespaced(self.cluster.admin()?, NAMESPACE);
            ensure!(keys.get_opt("daypass-public-keys").await?.is_some(), "no public key yet: {}", tail(&text));
            Ok(())
        })
        .await
    }

    /// The log so far.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.folder.join("0.log"))?)
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.process.lock().expect("no test panics with it").id()
    }
}

/// Renders and installs everything but a running Deployment.
pub fn install_chart(cluster: &Cluster) -> Result<()> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/daypass");
    let output = cluster.helm(&[
        "upgrade".as_ref(),
        "--install".as_ref(),
        "daypass".as_ref(),
        chart.as_os_str(),
        "--namespace".as_ref(),
        NAMESPACE.as_ref(),
        "--create-namespace".as_ref(),
        "--set".as_ref(),
        "replicas=0".as_ref(),
    ])?;
    ensure!(output.status.success(), "helm: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Starts one replica.
pub async fn spawn(cluster: &Cluster, folder: &Path, name: &str) -> Result<Child> {
    let token = cluster.service_account_token(NAMESPACE, "daypass-operator").await?;
    let kubeconfig = cluster.kubeconfig_for_token(&format!("operator-{name}"), &token)?;
    let config = folder.join(format!("{name}.yaml"));
    let keys = folder.join("keys");
    std::fs::write(
        &config,
        format!(
            "defaultImage: daypass.test/busybox:1\nkeys: {{folder: {}}}\nhttp: {{address: '127.0.0.1:0'}}\n\
             log: {{format: json, level: 'info,daypass=trace'}}\n\
             lease: {{durationSeconds: 5, renewDeadlineSeconds: 3, retryPeriodSeconds: 1}}\n",
            keys.display()
        ),
    )?;
    let log = File::create(folder.join(format!("{name}.log")))?;
    Command::new(env!("CARGO_BIN_EXE_daypass"))
        .args(["operator", "--config"])
        .arg(&config)
        .env("KUBECONFIG", kubeconfig)
        .env("POD_NAMESPACE", NAMESPACE)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("start the operator")
}

async fn served_at(log: &Path) -> Result<String> {
    poll(Duration::from_secs(20), "the operator serves", async || {
        let text = std::fs::read_to_string(log)?;
        let line = text.lines().find(|line| line.contains("serving probes and metrics"));
        let line = line.with_context(|| format!("its log: {}", tail(&text)))?;
        let entry: serde_json::Value = serde_json::from_str(line)?;
        Ok(entry["address"].as_str().context("an address")?.to_owned())
    })
    .await
}

/// Does what a kubelet does for the volume: shows the Secret's keys as files.
fn show_keys(cluster: &Cluster, folder: &Path) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        let Ok(client) = cluster.admin() else { return };
        let secrets = Api::<Secret>::namespaced(client, NAMESPACE);
        loop {
            if let Ok(Some(secret)) = secrets.get_opt("daypass-keys").await {
                for (name, value) in secret.data.unwrap_or_default() {
                    let path = folder.join(&name);
                    if !path.exists() {
                        let hidden = folder.join(format!(".{name}"));
                        let _ = std::fs::write(&hidden, &value.0).and_then(|()| std::fs::rename(&hidden, &path));
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
}

fn tail(text: &str) -> String {
    text.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
}
