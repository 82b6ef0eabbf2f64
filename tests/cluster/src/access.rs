//! Ways in: clients for any identity, kubeconfig files, tokens, and the command-line programs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use crate::cluster::Cluster;
use crate::poll::poll;
use crate::state;
use crate::tools::Tools;

/// Where the caller ends the wait.
const LONG: Duration = Duration::from_hours(1);
/// How long the cluster may take for something that it does at once.
const SOON: Duration = Duration::from_secs(30);

impl Cluster {
    /// The API server's address.
    pub fn server_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.record.ports.apiserver)
    }

    /// etcd's address (plain HTTP on loopback), for tests that look at what is really stored.
    pub fn etcd_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.record.ports.etcd)
    }

    /// The file with the certificate of the authority that signed the API server's.
    pub fn ca(&self) -> PathBuf {
        self.state.join("pki/ca.crt")
    }

    /// A client configuration without an identity.
    fn config(&self) -> Result<Config> {
        let mut config = Config::new(self.server_url().parse()?);
        let authority = CertificateDer::from_pem_file(self.ca()).context("the cluster's CA")?;
        config.root_cert = Some(vec![authority.to_vec()]);
        Ok(config)
    }

    /// A client that may do everything (`system:masters`). Call it within the runtime that uses the client.
    pub fn admin(&self) -> Result<Client> {
        self.client_with_token(&self.record.admin_token)
    }

    /// A client that acts as a user of these groups, by impersonation. `system:authenticated` is added, as signing in
    /// would do; for a `ServiceAccount`'s name its groups are added too.
    pub fn client_as(&self, user: &str, groups: &[&str]) -> Result<Client> {
        let mut config = self.config()?;
        config.auth_info.token = Some(self.record.admin_token.clone().into());
        config.auth_info.impersonate = Some(user.to_owned());
        let mut all = vec!["system:authenticated".to_owned()];
        if let Some((namespace, _)) = user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'))
        {
            all.push("system:serviceaccounts".to_owned());
            all.push(format!("system:serviceaccounts:{namespace}"));
        }
        all.extend(groups.iter().map(|&group| group.to_owned()));
        config.auth_info.impersonate_groups = Some(all);
        Ok(Client::try_from(config)?)
    }

    /// A client that signs in with a bearer token.
    pub fn client_with_token(&self, token: &str) -> Result<Client> {
        let mut config = self.config()?;
        config.auth_info.token = Some(token.to_owned().into());
        Ok(Client::try_from(config)?)
    }

    /// A bearer token of a `ServiceAccount`, for an hour, with the API server's default audience.
    pub async fn service_account_token(&self, namespace: &str, name: &str) -> Result<String> {
        let accounts = Api::<ServiceAccount>::namespaced(self.admin()?, namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let made = accounts.create_token_request(name, &PostParams::default(), &request).await?;
        Ok(made.status.context("the API server answered without a token")?.token)
    }

    /// The kubeconfig file of the admin.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.join("admin.kubeconfig")
    }

    /// Writes a kubeconfig file for a bearer token, readable by its owner only. A second call with the same name
    /// replaces the first one's file.
    pub fn kubeconfig_for_token(&self, name: &str, token: &str) -> Result<PathBuf> {
        let path = self.state.join(format!("{name}.token.kubeconfig"));
        state::write_private(&path, kubeconfig(&self.server_url(), &self.ca(), token))?;
        Ok(path)
    }

    /// Writes a kubeconfig file that acts as a user of these groups, by impersonation.
    pub fn kubeconfig_as(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let text = kubeconfig(&self.server_url(), &self.ca(), &self.record.admin_token);
        let mut config: serde_json::Value = serde_json::from_str(&text)?;
        let identity = &mut config["users"][0]["user"];
        identity["as"] = json!(user);
        let groups: Vec<&str> = [&["system:authenticated"], groups].concat();
        identity["as-groups"] = json!(groups);
        let path = self.state.join(format!("as-{}.kubeconfig", state::random_name()?));
        state::write_private(&path, config.to_string())?;
        Ok(path)
    }

    /// Makes a new namespace called PREFIX-RANDOM and waits until Pods can be made there.
    pub async fn namespace(&self, prefix: &str) -> Result<String> {
        let name = format!("{prefix}-{}", state::random_name()?);
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        Api::<Namespace>::all(self.admin()?).create(&PostParams::default(), &namespace).await?;
        serves_namespace(self, &name).await?;
        Ok(name)
    }

    /// kubectl as the admin, with its arguments still to come.
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(&self.record.tools.kubectl);
        command.env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// Runs kubectl as the admin and returns what it printed, whether it succeeded or not. It blocks.
    pub fn kubectl<Argument: AsRef<OsStr>>(&self, arguments: &[Argument]) -> Result<Output> {
        Ok(self.kubectl_command().args(arguments).output()?)
    }

    /// helm as the admin, with its arguments still to come. Its own files stay in the state folder.
    pub fn helm_command(&self) -> Result<Command> {
        let mut command = Command::new(Tools::helm()?);
        command.env("KUBECONFIG", self.kubeconfig());
        for (variable, folder) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            command.env(variable, self.state.join("helm").join(folder));
        }
        Ok(command)
    }

    /// Runs helm as the admin. A failure is an error with what it printed. It blocks.
    pub fn helm<Argument: AsRef<OsStr>>(&self, arguments: &[Argument]) -> Result<Output> {
        let output = self.helm_command()?.args(arguments).output()?;
        if !output.status.success() {
            let first = arguments.first().map(|argument| argument.as_ref().display().to_string());
            bail!("helm {}: {}", first.unwrap_or_default(), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(output)
    }
}

/// A kubeconfig file for a bearer token. JSON, which is YAML too.
pub(crate) fn kubeconfig(server: &str, ca: &Path, token: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "daypass-test", "cluster": {"server": server, "certificate-authority": ca}}],
        "users": [{"name": "daypass-test", "user": {"token": token}}],
        "contexts": [{"name": "daypass-test", "context": {"cluster": "daypass-test", "user": "daypass-test"}}],
        "current-context": "daypass-test",
    })
    .to_string()
}

/// A request without a body.
pub(crate) fn get(path: &str) -> Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}

/// Waits until the API server says that it is ready.
pub(crate) async fn ready(cluster: &Cluster) -> Result<()> {
    let client = cluster.admin()?;
    poll(LONG, "the API server is ready", async || {
        let answer = client.request_text(get("/readyz")?).await?;
        ensure!(answer == "ok", "{answer}");
        Ok(())
    })
    .await
}

/// Waits until a namespace has what every Pod there needs: the controller manager makes both.
pub(crate) async fn serves_namespace(cluster: &Cluster, namespace: &str) -> Result<()> {
    use k8s_openapi::api::core::v1::ConfigMap;
    let accounts = Api::<ServiceAccount>::namespaced(cluster.admin()?, namespace);
    let maps = Api::<ConfigMap>::namespaced(cluster.admin()?, namespace);
    poll(SOON, "the namespace has its default ServiceAccount and the CA", async || {
        accounts.get_metadata("default").await?;
        maps.get_metadata("kube-root-ca.crt").await?;
        Ok(())
    })
    .await
}
