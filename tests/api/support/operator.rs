//! The operator as a process, with the rights and policies of the rendered chart and a bound token. Never as admin.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use super::wandb::wandb;
use anyhow::{Context, Result, anyhow, ensure};
use daypass::api::Sandbox;
use daypass_testcluster::{Cluster, Options, poll};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

/// Where the chart is installed.
pub const NAMESPACE: &str = "daypass-system";

/// The operator that serves the shared control plane.
pub struct Operator {
    /// The cluster that it works on.
    pub cluster: &'static Cluster,
    /// The process, as long as this one.
    pub replica: Replica,
}

/// One process of the operator. It ends when this is dropped.
pub struct Replica {
    process: Child,
    log: PathBuf,
}

/// The section `log`, as tests read it.
const JSON: &str = "log: {format: json, level: 'info,daypass=trace'}\n";

/// Control planes of tests' own: two at a time are what a small machine bears, as they mostly wait for leases.
pub static TURN: Semaphore = Semaphore::const_new(2);

/// More of the configuration's section `stores`, for who sets it before the first operator starts: `endpoints: {...}`.
pub static STORES: OnceLock<String> = OnceLock::new();

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
    /// Installs the chart, and starts the operator with its `ServiceAccount`.
    pub async fn start(cluster: &'static Cluster) -> Result<Self> {
        prepare(cluster)?;
        // One that an earlier leader may have worked on: its Pod is asked for before it is made.
        let sandboxes = Api::<Sandbox>::namespaced(cluster.admin()?, "default");
        sandboxes.create(&PostParams::default(), &super::sandbox("inherited", json!({}))?).await?;
        let replica = Replica::start(cluster, "0").await?;
        replica.wait_until_ready(cluster).await?;
        settle(cluster).await?;
        Ok(Self { cluster, replica })
    }
}

/// Waits until a Sandbox is brought to its end: whatever comes later was never seen by an earlier leader.
pub async fn settle(cluster: &Cluster) -> Result<()> {
    let sandboxes = Api::<Sandbox>::namespaced(cluster.admin()?, "default");
    let name = format!("settle-{}", Timestamp::now().as_nanosecond());
    sandboxes.create(&PostParams::default(), &super::sandbox(&name, json!({"stop": true}))?).await?;
    poll(Duration::from_secs(60), "the operator works", async || {
        let status = sandboxes.get(&name).await?.status.unwrap_or_default();
        ensure!(status.phase.is_terminal(), "{:?}", status.reason);
        Ok(())
    })
    .await
}

/// A control plane of a test's own, with the chart and a volume of keys, and no operator yet. It lives until
/// [`end_cluster`], or until the process ends.
pub async fn own_cluster() -> Result<&'static Cluster> {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(Options::control_plane()).await?));
    prepare(cluster)?;
    Ok(cluster)
}

/// Ends the work of a test's own control plane, so that other tests have the machine.
pub fn end_cluster(cluster: &Cluster) -> Result<()> {
    ["kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"]
        .into_iter()
        .try_for_each(|part| cluster.kill_part(part))
}

fn prepare(cluster: &'static Cluster) -> Result<()> {
    install_chart(cluster)?;
    let keys = folder(cluster).join("keys");
    std::fs::create_dir_all(&keys)?;
    std::thread::spawn(move || show_keys(cluster, &keys));
    Ok(())
}

fn folder(cluster: &Cluster) -> PathBuf {
    cluster.state().join("operator")
}

impl Replica {
    /// Starts a process under a name of its own.
    pub async fn start(cluster: &Cluster, name: &str) -> Result<Self> {
        Self::start_with(cluster, name, JSON).await
    }

    /// The same with a lease that another may take over soon.
    pub async fn start_for_take_over(cluster: &Cluster, name: &str) -> Result<Self> {
        let lease = "lease: {durationSeconds: 8, renewDeadlineSeconds: 6, retryPeriodSeconds: 1}\n";
        Self::start_with(cluster, name, &format!("{JSON}{lease}")).await
    }

    /// The same with sections of the configuration of one's own: `log` among them.
    pub async fn start_with(cluster: &Cluster, name: &str, sections: &str) -> Result<Self> {
        let folder = folder(cluster);
        let process = spawn(cluster, &folder, name, sections).await?;
        Ok(Self { process, log: folder.join(format!("{name}.log")) })
    }

    /// The log so far.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    /// The audit records so far that are about a team: of its runs, or of its secrets.
    pub fn audit(&self, team: &str) -> Result<Vec<serde_json::Value>> {
        let mut records = Vec::new();
        for line in self.log()?.lines().filter(|line| line.contains("\"target\":\"audit\"")) {
            let entry: serde_json::Value = serde_json::from_str(line)?;
            let record: serde_json::Value = serde_json::from_str(entry["record"].as_str().context("a record")?)?;
            if record["namespace"] == team || record["team"] == team {
                records.push(record);
            }
        }
        Ok(records)
    }

    /// Whether it has begun to lead.
    pub fn leads(&self) -> Result<bool> {
        Ok(self.log()?.contains("\"leading\""))
    }

    /// Waits until it leads.
    pub async fn wait_until_it_leads(&self) -> Result<()> {
        poll(Duration::from_secs(60), "the replica leads", async || {
            ensure!(self.leads()?, "its log ends with: {}", tail(&self.log()?));
            Ok(())
        })
        .await
    }

    /// Waits until the policies are proven and the keys are listed.
    pub async fn wait_until_ready(&self, cluster: &Cluster) -> Result<()> {
        poll(Duration::from_secs(60), "the operator is ready", async || {
            let text = self.log()?;
            ensure!(text.contains("policies are in force"), "its log ends with: {}", tail(&text));
            let keys = Api::<ConfigMap>::namespaced(cluster.admin()?, NAMESPACE);
            ensure!(keys.get_opt("daypass-public-keys").await?.is_some(), "no public key yet: {}", tail(&text));
            Ok(())
        })
        .await
    }

    /// A counter or gauge of its metrics, all its labels summed up.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let (_, text) = self.get("/metrics").await?;
        let lines =
            text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        let values = lines.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<f64>());
        Ok(values.collect::<Result<Vec<_>, _>>()?.iter().sum())
    }

    /// What it answers on its own port: the code, and the rest.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = tokio::net::TcpStream::connect(served_at(&self.log).await?).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: operator\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let code = text.split(' ').nth(1).context("a status line")?.parse()?;
        Ok((code, text))
    }

    /// `kill -9`.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// SIGTERM, and its exit status.
    pub async fn terminate(mut self) -> Result<ExitStatus> {
        self.signal("-TERM")?;
        self.ended().await
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let sent = Command::new("kill").arg(signal).arg(self.process.id().to_string()).status()?;
        ensure!(sent.success(), "kill {signal}: {sent}");
        Ok(())
    }

    /// Waits until it has ended, and gives its exit status.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        poll(Duration::from_secs(30), "the operator has ended", async || {
            self.process.try_wait()?.with_context(|| format!("it runs: {:?}", self.log().map(|log| tail(&log))))
        })
        .await
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Installs everything but a running Deployment.
fn install_chart(cluster: &Cluster) -> Result<()> {
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

async fn spawn(cluster: &Cluster, folder: &Path, name: &str, sections: &str) -> Result<Child> {
    let token = cluster.service_account_token(NAMESPACE, "daypass-operator").await?;
    let kubeconfig = cluster.kubeconfig_for_token(&format!("operator-{name}"), &token)?;
    let config = folder.join(format!("{name}.yaml"));
    let keys = folder.join("keys");
    std::fs::write(
        &config,
        format!(
            "defaultImage: daypass.test/busybox:1\nkeys: {{folder: {}}}\nhttp: {{address: '127.0.0.1:0'}}\n\
             {sections}stores: {{allowLocalAddresses: true, {}}}\n\
             evaluations: {{images: {{Inspect: 'daypass.test/runner:1'}}, wandbEndpoint: '{}'}}\n",
            keys.display(),
            STORES.get().map_or("", String::as_str),
            wandb()?
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
