//! Hands to act as people: a team with its admin, secrets, Sandboxes, and the node's part in a Pod's life.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daypass::api::{Sandbox, SandboxStatus, SealedVersion, TeamSecret, TeamSecretSpec, names};
use daypass::secret::SecretValue;
use daypass::stores::sealed::key::{KeyId, PublicKey};
use daypass::stores::sealed::seal::{Binding, seal};
use daypass_testcluster::{Cluster, poll};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::operator::{NAMESPACE, Operator};

/// How long the garbage collector may take. It looks for new kinds every 30 s only.
pub const COLLECTED: Duration = Duration::from_secs(60);

/// A namespace with its team: a member who may edit there, and the namespace's admin.
pub struct Team {
    /// The cluster that it lives on.
    pub cluster: &'static Cluster,
    /// The namespace.
    pub namespace: String,
    /// The member's client.
    pub member: Client,
    /// The admin of the namespace, who is no cluster admin.
    pub admin: Client,
    /// The cluster's admin, who looks at what is left.
    pub root: Client,
}

impl Team {
    /// A fresh team whose own service accounts may use all its secrets.
    pub async fn new(operator: &Operator, prefix: &str) -> Result<Self> {
        Self::on(operator.cluster, prefix).await
    }

    /// The same on a test's own control plane.
    pub async fn on(cluster: &'static Cluster, prefix: &str) -> Result<Self> {
        let namespace = cluster.namespace(prefix).await?;
        let root = cluster.admin()?;
        for (user, role) in [("member", "edit"), ("admin", "admin")] {
            bind(&root, &namespace, role, &json!({"kind": "User", "name": format!("{user}@{namespace}")})).await?;
        }
        let member = cluster.client_as(&format!("member@{namespace}"), &[])?;
        let admin = cluster.client_as(&format!("admin@{namespace}"), &[])?;
        let team = Self { cluster, namespace, member, admin, root };
        team.grant_all(&team.namespace).await?;
        Ok(team)
    }

    /// Lets the service accounts of a namespace use all secrets of this team.
    pub async fn grant_all(&self, namespace: &str) -> Result<()> {
        self.apply(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "use-all"},
            "rules": [{"apiGroups": ["daypass.dev"], "resources": ["teamsecrets"], "verbs": ["use"]}],
        }))
        .await?;
        self.apply(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": format!("use-all-{namespace}")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "use-all"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": format!("system:serviceaccounts:{namespace}")}],
        }))
        .await
    }

    /// Lets a user use all secrets of this team.
    pub async fn grant_user(&self, user: &str) -> Result<()> {
        self.apply(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "use-all-guest"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "use-all"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }))
        .await
    }

    /// Applies any object as the cluster's admin.
    pub async fn apply(&self, object: Value) -> Result<()> {
        apply(&self.root, &self.namespace, object).await
    }

    /// Seals a value as the team's admin would, and stores it as the next version.
    pub async fn set_secret(&self, name: &str, value: &[u8]) -> Result<()> {
        let secrets = Api::<TeamSecret>::namespaced(self.admin.clone(), &self.namespace);
        let object = names::team_secret_object(name);
        let old = secrets.get_opt(&object).await?;
        let version = old.as_ref().and_then(|old| old.spec.versions.first()).map_or(1, |newest| newest.version + 1);
        let versions = vec![self.seal(name, version, value).await?];
        match old {
            None => {
                let secret = TeamSecret::new(&object, TeamSecretSpec { name: name.into(), versions });
                secrets.create(&PostParams::default(), &secret).await?;
            }
            Some(mut secret) => {
                secret.spec.versions = versions;
                secrets.replace(&object, &PostParams::default(), &secret).await?;
            }
        }
        Ok(())
    }

    /// One sealed version, to the newest key.
    pub async fn seal(&self, name: &str, version: i64, value: &[u8]) -> Result<SealedVersion> {
        let keys = Api::<ConfigMap>::namespaced(self.admin.clone(), NAMESPACE).get("daypass-public-keys").await?;
        let (id, public) = keys.data.unwrap_or_default().into_iter().next_back().context("a public key")?;
        let id: KeyId = id.parse()?;
        let binding = Binding { namespace: &self.namespace, name, version };
        Ok(seal(&id, &PublicKey::from_base64(&public)?, &binding, &SecretValue::new(value.to_vec()))?)
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

    /// Creates a Sandbox as the member and gives the run's name.
    pub async fn submit(&self, sandbox: &Sandbox) -> Result<String> {
        let made = self.sandboxes().create(&PostParams::default(), sandbox).await?;
        Ok(names::run_name(&made.name_any(), &made.uid().unwrap_or_default(), "", 1))
    }

    /// The same, from what its specification says.
    pub async fn run(&self, name: &str, spec: Value) -> Result<String> {
        self.submit(&sandbox(name, spec)?).await
    }

    /// Changes a Sandbox's specification as the member.
    pub async fn change(&self, name: &str, spec: Value) -> Result<()> {
        self.sandboxes().patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await?;
        Ok(())
    }

    /// What the run Secret holds, as text.
    pub async fn copy(&self, run: &str) -> Result<BTreeMap<String, String>> {
        let data = self.secrets().get(run).await?.data.unwrap_or_default();
        Ok(data.into_iter().map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect())
    }

    /// Waits until there is no Pod under the run's name.
    pub async fn wait_no_pod(&self, run: &str) -> Result<()> {
        poll(COLLECTED, "the Pod is gone", async || {
            ensure!(self.pods().get_opt(run).await?.is_none(), "it is there");
            Ok(())
        })
        .await
    }

    /// Waits for the run's Pod.
    pub async fn pod(&self, run: &str) -> Result<Pod> {
        poll(Duration::from_secs(20), "the run has its Pod", async || {
            self.pods().get_opt(run).await?.context("no Pod yet")
        })
        .await
    }

    /// Waits until a Sandbox's status fits.
    pub async fn wait(&self, name: &str, what: &str, fits: impl Fn(&SandboxStatus) -> bool) -> Result<SandboxStatus> {
        let sandboxes = self.sandboxes();
        poll(Duration::from_secs(60), what, async || {
            let status = sandboxes.get(name).await?.status.unwrap_or_default();
            ensure!(fits(&status), "{}", serde_json::to_string(&status)?);
            Ok(status)
        })
        .await
    }

    /// Waits until a Sandbox is over.
    pub async fn wait_finished(&self, name: &str) -> Result<SandboxStatus> {
        self.wait(name, "the run is over", |status| status.phase.is_terminal()).await
    }

    /// Proves that no run Secret is left in the namespace.
    pub async fn assert_no_run_secrets(&self) -> Result<()> {
        let left: Vec<_> = self
            .secrets()
            .list(&kube::api::ListParams::default())
            .await?
            .into_iter()
            .filter(|secret| secret.type_.as_deref() == Some("daypass.dev/run"))
            .map(|secret| secret.name_any())
            .collect();
        ensure!(left.is_empty(), "run Secrets are left: {left:?}");
        Ok(())
    }
}

/// A Sandbox.
pub fn sandbox(name: &str, spec: Value) -> Result<Sandbox> {
    let mut object = json!({"apiVersion": "daypass.dev/v1alpha1", "kind": "Sandbox", "metadata": {"name": name}});
    object["spec"] = spec;
    Ok(serde_json::from_value(object)?)
}

async fn bind(client: &Client, namespace: &str, role: &str, subject: &Value) -> Result<()> {
    let mut subject = subject.clone();
    subject["apiGroup"] = json!("rbac.authorization.k8s.io");
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": format!("team-{role}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    });
    apply(client, namespace, binding).await
}

async fn apply(client: &Client, namespace: &str, object: Value) -> Result<()> {
    use kube::core::{DynamicObject, GroupVersionKind, TypeMeta};
    use kube::discovery::ApiResource;
    let types: TypeMeta = serde_json::from_value(object.clone())?;
    let kind = GroupVersionKind::try_from(&types)?;
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind));
    let object: DynamicObject = serde_json::from_value(object)?;
    api.patch(&object.name_any(), &PatchParams::apply("test").force(), &Patch::Apply(&object)).await?;
    Ok(())
}
