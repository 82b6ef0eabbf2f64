//! A team to type commands for, and the program that is typed.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daypass::api::TeamSecret;
use daypass::stores::sealed::key::{KeyId, PrivateKey};
use daypass::stores::sealed::seal::open;
use daypass_testcluster::{Cluster, poll};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::chart;

/// How long the cluster may take for something that it does at once.
pub const SOON: Duration = Duration::from_secs(30);

/// A team of its own: an empty namespace, its admin, and a key to seal to.
pub struct Team {
    pub cluster: &'static Cluster,
    pub namespace: String,
    pub system: String,
    pub admin: String,
    pub kubeconfig: PathBuf,
    pub key: PrivateKey,
    pub key_id: String,
}

/// What a command left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn ok(self) -> Result<String> {
        ensure!(self.code == 0, "{self:?}");
        Ok(self.out)
    }

    pub fn fails(self, code: i32, told: &str) -> Result<()> {
        ensure!(self.code == code && self.err.contains(told), "expected {code} and {told:?}: {self:?}");
        Ok(())
    }
}

pub fn daypass(kubeconfig: &PathBuf, arguments: &[&str], stdin: &str) -> Result<Ran> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_daypass"))
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().context("standard input")?;
    // A command that needs no input may be over already.
    let _ = input.write_all(stdin.as_bytes());
    drop(input);
    let output = child.wait_with_output()?;
    Ok(Ran {
        code: output.status.code().context("ended by a signal")?,
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

/// Makes an object as the cluster's admin.
pub async fn make<K>(cluster: &Cluster, namespace: &str, object: Value) -> Result<K>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + serde::Serialize
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let api = Api::<K>::namespaced(cluster.admin()?, namespace);
    Ok(api.create(&PostParams::default(), &serde_json::from_value(object)?).await?)
}

/// Gives a `ClusterRole` in a namespace.
pub async fn bind(cluster: &Cluster, namespace: &str, role: &str, user: &str) -> Result<()> {
    let binding = json!({
        "metadata": {"name": format!("{role}-{user}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    });
    make::<RoleBinding>(cluster, namespace, binding).await.map(drop)
}

/// Whether somebody may, by the API server's own word.
pub async fn may(cluster: &Cluster, user: &str, groups: &[&str], attributes: Value) -> Result<bool> {
    let review = json!({"spec": {"user": user, "groups": groups, "resourceAttributes": attributes}});
    let review: SubjectAccessReview = serde_json::from_value(review)?;
    let review = Api::<SubjectAccessReview>::all(cluster.admin()?).create(&PostParams::default(), &review).await?;
    Ok(review.status.context("a status")?.allowed)
}

impl Team {
    pub async fn new() -> Result<Self> {
        let cluster = chart::installed().await?;
        let namespace = cluster.namespace("team").await?;
        // Keys of its own, so that tests do not meet.
        let system = cluster.namespace("system").await?;
        let key = PrivateKey::generate();
        let key_id = KeyId::new("2026-01-02T03:04:05Z".parse()?, &key.public()).to_string();
        let map = json!({"metadata": {"name": "daypass-public-keys"}, "data": {&key_id: key.public().to_base64()}});
        make::<ConfigMap>(cluster, &system, map).await?;
        // As the chart does in the operator's namespace.
        let reader = json!({"metadata": {"name": "public-keys"}, "rules": [
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["daypass-public-keys"], "verbs": ["get"]},
        ]});
        make::<Role>(cluster, &system, reader).await?;
        let everyone = json!({
            "metadata": {"name": "public-keys"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "public-keys"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"}],
        });
        make::<RoleBinding>(cluster, &system, everyone).await?;

        let admin = format!("amy-{namespace}");
        bind(cluster, &namespace, "admin", &admin).await?;
        poll(SOON, "the roles of the chart are part of `admin`", async || {
            let write =
                json!({"namespace": namespace, "group": "daypass.dev", "resource": "teamsecrets", "verb": "create"});
            ensure!(may(cluster, &admin, &[], write).await?, "not yet");
            Ok(())
        })
        .await?;
        let kubeconfig = cluster.kubeconfig_as(&admin, &[])?;
        Ok(Self { cluster, namespace, system, admin, kubeconfig, key, key_id })
    }

    pub fn types(&self, line: &str, stdin: &str) -> Result<Ran> {
        self.types_as(&self.kubeconfig, line, stdin)
    }

    pub fn types_as(&self, kubeconfig: &PathBuf, line: &str, stdin: &str) -> Result<Ran> {
        let mut arguments: Vec<&str> = line.split(' ').collect();
        arguments.extend(["-n", &self.namespace, "--system-namespace", &self.system]);
        daypass(kubeconfig, &arguments, stdin)
    }

    pub fn secrets(&self) -> Result<Api<TeamSecret>> {
        Ok(Api::namespaced(self.cluster.admin()?, &self.namespace))
    }

    /// The values of all versions, the newest first.
    pub async fn values(&self, name: &str) -> Result<Vec<(i64, String)>> {
        let secret = self.secrets()?.get(&name.to_lowercase().replace('_', "-")).await?;
        let opened = secret.spec.versions.iter().map(|version| {
            let value = open(&self.key, &self.namespace, name, version)?;
            Ok((version.version, String::from_utf8(value.expose().to_vec())?))
        });
        opened.collect()
    }

    pub async fn uses(&self, user: &str, groups: &[&str], name: &str) -> Result<bool> {
        let attributes = json!({
            "namespace": self.namespace, "group": "daypass.dev", "resource": "teamsecrets", "verb": "use", "name": name,
        });
        may(self.cluster, user, groups, attributes).await
    }

    pub async fn uses_soon(&self, user: &str, groups: &[&str], name: &str, expected: bool) -> Result<()> {
        poll(SOON, "the authorizer has seen the change", async || {
            ensure!(self.uses(user, groups, name).await? == expected, "{user} {groups:?} {name}: not {expected}");
            Ok(())
        })
        .await
    }

    /// The groups of a ServiceAccount of the namespace.
    pub fn account(namespace: &str) -> (String, [String; 3]) {
        (
            format!("system:serviceaccount:{namespace}:default"),
            [
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".into(),
            ],
        )
    }
}
