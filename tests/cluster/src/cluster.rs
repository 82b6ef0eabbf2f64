//! A running cluster: its start, its end, and its parts.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::access;
use crate::audit::AuditLog;
use crate::control_plane::{ControlPlane, Ports};
use crate::poll::poll;
use crate::supervisor::{Network, Part, Supervisor};
use crate::tools::Tools;
use crate::{node, progress, state};

/// A part that does not come up within this time never will.
const START_LIMIT: Duration = Duration::from_secs(90);
/// Free ports are chosen before they are used, so another process may be faster.
const TRIES: u32 = 3;

/// What kind of cluster to start.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Also a kubelet with containers. Needs root.
    pub node: bool,
    /// The state folder. Default: a new one in the cache folder.
    pub state: Option<PathBuf>,
    /// Whether etcd waits for the disk. Only figures in benchmarks depend on it.
    pub durable: bool,
    /// More flags for kube-apiserver.
    pub apiserver_flags: Vec<String>,
    /// More flags for kube-controller-manager.
    pub controller_manager_flags: Vec<String>,
}

impl Options {
    /// API server, controller manager and scheduler. Needs no root.
    pub fn control_plane() -> Self {
        Self::default()
    }

    /// A control plane and a node that runs containers. Needs root.
    pub fn with_node() -> Self {
        Self { node: true, ..Self::default() }
    }
}

/// What another process must know to use a cluster; kept in `cluster.json` in the state folder.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Record {
    pub(crate) ports: Ports,
    pub(crate) admin_token: String,
    pub(crate) tools: Tools,
    /// None without a node.
    pub(crate) network: Option<Network>,
}

/// A running cluster. It ends when this is dropped, or when the process ends, unless [`Cluster::detach`] was called.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) state: PathBuf,
    pub(crate) record: Record,
    /// None for a cluster that another process started.
    supervisor: Option<Mutex<Supervisor>>,
}

impl Cluster {
    /// Starts a cluster. Builds the tools first if they are missing. An error names the part that did not start, with
    /// the end of its log.
    pub async fn start(options: Options) -> Result<Self> {
        choose_cryptography();
        let wants_node = options.node;
        let tools = tokio::task::spawn_blocking(move || {
            if wants_node {
                node::check()?;
            }
            Tools::ensure()
        })
        .await??;
        let mut tries = 1;
        loop {
            match Self::try_start(&tools, &options).await {
                Err(error) if tries < TRIES && format!("{error:#}").contains("address already in use") => {
                    tries += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_start(tools: &Tools, options: &Options) -> Result<Self> {
        let (tools, given) = (tools.clone(), options.state.clone());
        let (tools, (state, supervisor)) =
            tokio::task::spawn_blocking(move || state::create(&tools, given.as_deref()).map(|made| (tools, made)))
                .await??;
        credentials(&tools, &state)?;
        let ports = Ports::free()?;
        let plane = ControlPlane { tools: &tools, state: &state, ports, options };
        let admin_token = plane.write_files()?;
        let planned = [plane.etcd(), plane.apiserver(), plane.controller_manager(), plane.scheduler()];
        let record = Record { ports, admin_token, tools: tools.clone(), network: None };
        let mut cluster = Self { state, record, supervisor: Some(Mutex::new(supervisor)) };
        let [etcd, apiserver, controller_manager, scheduler] = planned;
        cluster.start_part(&etcd)?;
        cluster.start_part(&apiserver)?;
        cluster.until("kube-apiserver", access::ready(&cluster)).await?;
        cluster.start_part(&controller_manager)?;
        cluster.start_part(&scheduler)?;
        cluster.until("kube-controller-manager", access::serves_namespace(&cluster, "default")).await?;
        if options.node {
            cluster.start_node().await?;
        }
        state::write_private(&cluster.state.join("cluster.json"), serde_json::to_vec(&cluster.record)?)?;
        Ok(cluster)
    }

    pub(crate) fn start_part(&self, part: &Part) -> Result<u32> {
        self.with_supervisor(|supervisor| supervisor.start(part))
    }

    /// Waits for a part's work to show, but not longer than any of the parts lives.
    pub(crate) async fn until(&self, part: &str, done: impl Future<Output = Result<()>>) -> Result<()> {
        let ended = async {
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                match self.with_supervisor(Supervisor::exits) {
                    Ok(exits) => {
                        if let Some((name, how)) = exits.into_iter().next() {
                            return (name, how);
                        }
                    }
                    Err(error) => return ("supervisor".to_owned(), format!("{error:#}")),
                }
            }
        };
        tokio::select! {
            outcome = tokio::time::timeout(START_LIMIT, done) => match outcome {
                Ok(outcome) => outcome.with_context(|| format!("{part} did not start:\n{}", self.log_tail(part))),
                Err(_) => bail!("{part} did not start within {START_LIMIT:?}:\n{}", self.log_tail(part)),
            },
            (name, how) = ended => bail!("{name} ended while the cluster started ({how}):\n{}", self.log_tail(&name)),
        }
    }

    /// The end of a part's log.
    fn log_tail(&self, part: &str) -> String {
        let path = self.log(part);
        let tail = File::open(&path).map_err(Into::into).and_then(|mut file| progress::tail(&mut file));
        tail.unwrap_or_else(|error| format!("{}: {error:#}", path.display()))
    }

    pub(crate) fn with_supervisor<T>(&self, call: impl FnOnce(&mut Supervisor) -> Result<T>) -> Result<T> {
        let supervisor = self.supervisor.as_ref().context("another process owns this cluster")?;
        call(&mut supervisor.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Uses a cluster that another process started.
    pub(crate) fn connect(state: &Path, record: Record) -> Self {
        choose_cryptography();
        Self { state: state.to_owned(), record, supervisor: None }
    }

    /// Lets the cluster live on when this process ends.
    pub(crate) fn detach(&self) -> Result<()> {
        self.with_supervisor(Supervisor::detach)
    }

    /// Ends the cluster and removes everything it left on the machine. Dropping does the same, without an error.
    pub fn stop(self) -> Result<()> {
        self.with_supervisor(Supervisor::end)
    }

    /// Kills a part (`kubelet`, `kube-scheduler`, ...) or a process of [`Cluster::start_process`] as a crash would, and
    /// waits for its end. It stays away.
    pub fn kill_part(&self, name: &str) -> Result<()> {
        self.with_supervisor(|supervisor| supervisor.stop(name))
    }

    /// Starts a program that ends with the cluster at the latest, even if this process is killed. Its output goes to
    /// [`Cluster::log`]. The variables are added to this process' environment. Returns its process ID.
    pub fn start_process(&self, name: &str, argv: &[String], env: &[(&str, &str)]) -> Result<u32> {
        let env = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.start_part(&Part { name: name.to_owned(), argv: argv.to_vec(), env })
    }

    /// How a part or a process ended by itself, such as `exit code 1` or `killed by SIGTERM`; None while it runs.
    pub fn end_of(&self, name: &str) -> Result<Option<String>> {
        Ok(self.with_supervisor(Supervisor::exits)?.remove(name))
    }

    /// The file with all output of a part (`kubelet`, `kube-apiserver`, ...) or a process.
    pub fn log(&self, name: &str) -> PathBuf {
        self.state.join(format!("logs/{name}.log"))
    }

    /// The folder with logs, keys and data.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The audit log of all requests since the start.
    pub fn audit(&self) -> AuditLog {
        AuditLog::new(self.state.join("audit.log"))
    }

    /// Waits until the audit log holds all requests whose answers were seen before this call.
    pub async fn audit_settled(&self) -> Result<()> {
        let path = format!("/livez?fence={}", state::random_token()?);
        let log = self.audit();
        let mark = log.mark()?;
        let request = access::get(&path)?;
        self.admin()?.request_text(request).await?;
        poll(Duration::from_secs(10), "the audit log holds the last request", async || {
            let found = log.since(mark)?.iter().any(|entry| entry.uri == path);
            anyhow::ensure!(found, "it does not yet");
            Ok(())
        })
        .await
    }
}

/// Tells rustls which implementation to use.
pub(crate) fn choose_cryptography() {
    // Only fails where another part of the program chose before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Makes the keys and certificates.
fn credentials(tools: &Tools, state: &Path) -> Result<()> {
    let folder = state.join("pki");
    std::fs::create_dir_all(&folder)?;
    let output = Command::new(&tools.supervisor).arg("credentials").arg(&folder).output()?;
    if !output.status.success() {
        bail!("keys and certificates: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
