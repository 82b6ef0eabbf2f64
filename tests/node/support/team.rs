//! Hands to act as people: a team whose admin uses the command-line tool, and whose member submits Sandboxes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daypass::api::{Sandbox, SandboxStatus, names};
use daypass_testcluster::{Cluster, poll};
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, LogParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::operator::world;

/// A busy node starts a container within seconds; ten tests share it.
const SOON: Duration = Duration::from_mins(2);

/// A namespace with its team.
pub struct Team {
    /// The cluster.
    pub cluster: &'static Cluster,
    /// The namespace.
    pub namespace: String,
    /// The kubeconfig of the admin of the namespace, who is no cluster admin.
    pub admin: PathBuf,
    /// The kubeconfig of the member.
    member_config: PathBuf,
    /// The member's client.
    pub member: Client,
    /// The cluster's admin, who looks at what is there.
    pub root: Client,
}

/// A submitted Sandbox.
pub struct Run {
    /// The Sandbox's name.
    pub sandbox: String,
    /// The name of its Pod and its Secret.
    pub name: String,
}

impl Team {
    /// A fresh team with a store, on the cluster that all tests share.
    pub async fn new(prefix: &str) -> Result<Self> {
        Self::on(world().await?.cluster, prefix).await
    }

    /// The same on another cluster.
    pub async fn on(cluster: &'static Cluster, prefix: &str) -> Result<Self> {
        let namespace = cluster.namespace(prefix).await?;
        let root = cluster.admin()?;
        for (user, role) in [("member", "edit"), ("admin", "admin")] {
            let binding: RoleBinding = serde_json::from_value(json!({
                "metadata": {"name": format!("team-{role}")},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{
                    "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": format!("{user}@{namespace}"),
                }],
            }))?;
            Api::<RoleBinding>::namespaced(root.clone(), &namespace).create(&PostParams::default(), &binding).await?;
        }
        let admin = cluster.kubeconfig_as(&format!("admin@{namespace}"), &[])?;
        let member_config = cluster.kubeconfig_as(&format!("member@{namespace}"), &[])?;
        let member = cluster.client_as(&format!("member@{namespace}"), &[])?;
        let team = Self { cluster, namespace, admin, member_config, member, root };
        team.daypass(&["store", "init"], b"").await?;
        Ok(team)
    }

    /// The command-line tool as the team's admin, with its arguments still to come.
    pub fn daypass_command(&self) -> Command {
        self.daypass_of(&self.admin)
    }

    /// The same as the team's member.
    pub fn member_command(&self) -> Command {
        self.daypass_of(&self.member_config)
    }

    fn daypass_of(&self, kubeconfig: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daypass"));
        command.arg("--kubeconfig").arg(kubeconfig).args(["--namespace", &self.namespace]);
        command
    }

    /// Runs the command-line tool as the team's admin.
    pub async fn daypass(&self, arguments: &[&str], input: &[u8]) -> Result<String> {
        run(self.daypass_command(), arguments, input).await
    }

    /// What `daypass secret holders -A` tells the cluster's admin of this namespace's runs.
    pub async fn holders(&self) -> Result<Vec<Value>> {
        let answer =
            run(self.daypass_of(&self.cluster.kubeconfig()), &["secret", "holders", "-A", "-o", "json"], b"").await?;
        let answer: Value = serde_json::from_str(&answer)?;
        let items = answer["items"].as_array().context("items")?;
        Ok(items.iter().filter(|holder| holder["namespace"] == self.namespace).cloned().collect())
    }

    /// Stores a secret of the team.
    pub async fn set_secret(&self, name: &str, value: &[u8]) -> Result<()> {
        self.daypass(&["secret", "set", name, "--from-stdin", "--keep-newline"], value).await.map(drop)
    }

    /// Submits a Sandbox as the member.
    pub async fn submit(&self, name: &str, spec: Value) -> Result<Run> {
        let sandbox: Sandbox = serde_json::from_value(json!({
            "apiVersion": "daypass.dev/v1alpha1", "kind": "Sandbox", "metadata": {"name": name}, "spec": spec,
        }))?;
        let made = self.sandboxes().create(&PostParams::default(), &sandbox).await?;
        Ok(Run { sandbox: name.to_owned(), name: names::run_name(name, &made.uid().unwrap_or_default(), "", 1) })
    }

    /// The team's Sandboxes, as its member.
    pub fn sandboxes(&self) -> Api<Sandbox> {
        Api::namespaced(self.member.clone(), &self.namespace)
    }

    /// The team's Pods, as the cluster's admin.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.root.clone(), &self.namespace)
    }

    /// The team's Secrets, as the cluster's admin.
    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.root.clone(), &self.namespace)
    }

    /// Waits until a run's status fits.
    pub async fn wait(&self, run: &Run, what: &str, fits: impl Fn(&SandboxStatus) -> bool) -> Result<SandboxStatus> {
        poll(SOON, what, async || {
            let status = self.sandboxes().get(&run.sandbox).await?.status.unwrap_or_default();
            ensure!(fits(&status), "{}", serde_json::to_string(&status)?);
            Ok(status)
        })
        .await
    }

    /// Waits until a run is over.
    pub async fn wait_finished(&self, run: &Run) -> Result<SandboxStatus> {
        self.wait(run, "the run is over", |status| status.phase.is_terminal()).await
    }

    /// What the run's container has printed.
    pub async fn log(&self, run: &Run) -> Result<String> {
        Ok(self.pods().logs(&run.name, &LogParams::default()).await?)
    }

    /// Waits until the log holds a text, and returns all of it.
    pub async fn wait_log(&self, run: &Run, text: &str) -> Result<String> {
        poll(SOON, "the container has printed what it should", async || {
            let log = self.log(run).await?;
            ensure!(log.contains(text), "so far: {log}");
            Ok(log)
        })
        .await
    }

    /// Runs a command in the run's container, as the cluster's admin.
    pub fn exec(&self, run: &Run, command: &[&str]) -> Result<String> {
        let output = self.cluster.kubectl(&[&["exec", "-n", &self.namespace, &run.name, "--"], command].concat())?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Changes a Sandbox as the member.
    pub async fn patch(&self, run: &Run, spec: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.sandboxes().patch(&run.sandbox, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Waits until the run's Pod is gone.
    pub async fn wait_pod_gone(&self, run: &Run) -> Result<()> {
        poll(SOON, "the Pod is gone", async || {
            ensure!(self.pods().get_metadata_opt(&run.name).await?.is_none(), "it is there");
            Ok(())
        })
        .await
    }

    /// Proves that the run Secret is gone.
    pub async fn assert_no_copy(&self, run: &Run) -> Result<()> {
        let found = self.secrets().get_metadata_opt(&run.name).await?;
        ensure!(found.is_none(), "the run Secret {} is still there", run.name);
        Ok(())
    }
}

/// Runs a command with more arguments and something on its standard input, and returns what it printed.
async fn run(mut command: Command, arguments: &[&str], input: &[u8]) -> Result<String> {
    command.args(arguments);
    let (what, input) = (arguments.join(" "), input.to_owned());
    tokio::task::spawn_blocking(move || run_command(command, &input)).await?.context(what)
}

/// Runs a command with something on its standard input, and returns what it printed on its output. It blocks.
fn run_command(mut command: Command, input: &[u8]) -> Result<String> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("standard input")?.write_all(input)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
