//! What the admission policies refuse and what they let pass, for everybody who could try.

mod operator_pods;
mod operator_secrets;
mod pods;
mod runs;
mod secrets;
pub mod submitters;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daypass_testcluster::{Cluster, poll};
use kube::Client;
use serde_json::{Value, json};

use crate::ask::post;
use crate::chart;

/// How long the control plane may take for what it does at once.
pub const SOON: Duration = Duration::from_secs(30);
/// What every name of a run begins with, and one that is well-formed.
const RUN: &str = "daypass-run-demo-1-abcdefghij";

/// Two namespaces and everybody who could try.
pub struct World {
    pub cluster: &'static Cluster,
    /// A team's namespace.
    pub home: String,
    /// Another team's.
    pub away: String,
    /// The UID of the Sandbox `demo` in `home`.
    pub sandbox: String,
    /// The operator, with a token of its own `ServiceAccount`.
    pub operator: Client,
    /// Has `edit` in `home`.
    pub member: Client,
    /// Has `edit` in `away`.
    pub stranger: Client,
    /// Is cluster-admin, but in `home` only.
    pub lord: Client,
    /// `system:masters`.
    pub admin: Client,
}

impl World {
    pub async fn new() -> Result<Self> {
        let cluster = chart::installed().await?;
        let (admin, home, away) =
            (cluster.admin()?, cluster.namespace("home").await?, cluster.namespace("away").await?);
        for (namespace, role, user) in
            [(&home, "edit", "member"), (&away, "edit", "stranger"), (&home, "cluster-admin", "lord")]
        {
            bind(&admin, namespace, role, &json!({"kind": "User", "name": user})).await?;
        }
        let (member, stranger) = (cluster.client_as("member", &[])?, cluster.client_as("stranger", &[])?);
        let sandbox = poll(SOON, "members may make Sandboxes", async || {
            let probe = json!({"apiVersion": "daypass.dev/v1alpha1", "kind": "Sandbox", "metadata": {"name": "demo"}, "spec": {}});
            let answer = post(&stranger, &format!("{}?dryRun=All", runs(&away)), &probe).await?;
            ensure!(answer.code == 201, "{}", answer.message());
            let answer = post(&member, &runs(&home), &probe).await?;
            ensure!(answer.code == 201, "{}", answer.message());
            Ok(answer.body["metadata"]["uid"].as_str().context("a UID")?.to_owned())
        })
        .await?;
        let (operator, lord) = (chart::operator(cluster).await?, cluster.client_as("lord", &[])?);
        Ok(Self { cluster, home, away, sandbox, operator, member, stranger, lord, admin })
    }

    /// Path of a core resource in `home`, or of what is below it.
    fn core(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.home)
    }

    /// The owner of the run's objects.
    fn owner(&self) -> Value {
        json!([{
            "apiVersion": "daypass.dev/v1alpha1", "kind": "Sandbox", "name": "demo", "uid": self.sandbox,
            "controller": true, "blockOwnerDeletion": true,
        }])
    }

    /// A run Secret as the operator makes it.
    fn secret(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "daypass.dev/run", "immutable": true,
            "metadata": {"name": RUN, "ownerReferences": self.owner()}, "data": {"TOKEN": "dmFsdWU="},
        })
    }

    /// A run's Pod as the operator makes it.
    fn pod(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": RUN, "ownerReferences": self.owner(),
                "labels": {"daypass.dev/run": RUN, "team": "a"}, "annotations": {"daypass.dev/versions": "[1]", "note": "x"},
            },
            "spec": {
                "automountServiceAccountToken": false, "enableServiceLinks": false, "restartPolicy": "Never",
                "containers": [{
                    "name": "main", "image": "example.com/image:1",
                    "env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": RUN, "key": "TOKEN"}}}],
                }],
            },
        })
    }

    /// Makes the run's Secret and Pod for real, as the operator.
    async fn start_run(&self) -> Result<()> {
        for (path, object) in [("secrets", self.secret()), ("pods", self.pod())] {
            let answer = post(&self.operator, &self.core(path), &object).await?;
            ensure!(answer.code == 201, "{}", answer.message());
        }
        Ok(())
    }
}

/// The path of a namespace's Sandboxes.
fn runs(namespace: &str) -> String {
    format!("/apis/daypass.dev/v1alpha1/namespaces/{namespace}/sandboxes")
}

/// Gives somebody a `ClusterRole` in a namespace.
async fn bind(admin: &Client, namespace: &str, role: &str, subject: &Value) -> Result<()> {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"generateName": "test-"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    });
    let answer =
        post(admin, &format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings"), &binding)
            .await?;
    ensure!(answer.code == 201, "{}", answer.message());
    Ok(())
}

/// A copy with a change.
fn with(object: &Value, change: impl FnOnce(&mut Value)) -> Value {
    let mut object = object.clone();
    change(&mut object);
    object
}

/// A copy with one more field, by JSON pointer; objects on the way are made.
fn set(object: &Value, pointer: &str, value: Value) -> Value {
    with(object, |object| {
        let place = pointer.split('/').skip(1).fold(object, |place, key| match key.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[key.replace("~1", "/")],
        });
        *place = value;
    })
}
