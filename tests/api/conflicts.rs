//! Something foreign under a run's name, and an operator whose box is open. The policies keep the first from happening;
//! here they are by-passed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daypass::api::{Phase, Reason, names};
use daypass_testcluster::poll;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::support::{NAMESPACE, Replica, TURN, Team, end_cluster, operator, own_cluster, settle};

/// The policy that keeps others from making Secrets under a run's name.
const POLICY: &str = "daypass-reserve-run-secrets";

fn waits_for(secret: &str) -> Value {
    json!({"secrets": [{"name": secret}]})
}

/// A run that waits for a secret: its name is known, and nothing is made of it yet.
async fn waiting(team: &Team, name: &str, secret: &str) -> Result<String> {
    let run = team.run(name, waits_for(secret)).await?;
    team.wait(name, "it waits", |status| status.reason == Some(Reason::SecretNotFound)).await?;
    Ok(run)
}

#[tokio::test]
async fn a_foreign_pod_under_the_name_is_left_alone() -> Result<()> {
    let team = Team::new(operator().await?, "podname").await?;
    let run = waiting(&team, "mine", "LATER").await?;
    let other = waiting(&team, "other", "NEVER").await?;
    // Only the operator may make such a Pod at all. This one belongs to the other Sandbox.
    let operator = team.cluster.client_as(&format!("system:serviceaccount:{NAMESPACE}:daypass-operator"), &[])?;
    let owner = team.sandboxes().get("other").await?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": run, "labels": {"daypass.dev/run": other}, "ownerReferences": [{
            "apiVersion": "daypass.dev/v1alpha1", "kind": "Sandbox", "name": "other", "uid": owner.uid(),
            "controller": true, "blockOwnerDeletion": true,
        }]},
        "spec": {
            "containers": [{"name": "main", "image": "i"}], "restartPolicy": "Never", "automountServiceAccountToken": false,
        },
    });
    let pods = Api::<Pod>::namespaced(operator, &team.namespace);
    let foreign = pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;

    let mark = team.mark()?;
    team.set_secret("LATER", b"value").await?;
    let status = team.wait_finished("mine").await?;
    assert_eq!((status.phase, status.reason), (Phase::Failed, Some(Reason::NameConflict)));
    let message = status.message.unwrap();
    assert!(message.contains(&run) && message.contains("delete it, then start a new run"), "{message}");
    let left = team.pods().get(&run).await?;
    assert_eq!((left.uid(), left.metadata.deletion_timestamp), (foreign.uid(), None));
    team.assert_no_run_secrets().await?;
    let writes = team.writes(mark).await?;
    ensure!(!writes.iter().any(|write| write.starts_with("delete pods")), "{writes:?}");
    Ok(())
}

#[tokio::test]
async fn without_a_policy_nothing_is_made_and_removals_go_on() -> Result<()> {
    let _turn = TURN.acquire().await?;
    let cluster = own_cluster().await?;
    let replica = Replica::start(cluster, "0").await?;
    replica.wait_until_ready(cluster).await?;
    settle(cluster).await?;
    let team = Team::on(cluster, "open").await?;
    team.set_secret("KEY", b"value").await?;
    let running = team.run("running", json!({"secrets": [{"name": "KEY"}], "secretRemoval": "AfterFinish"})).await?;
    team.pod(&running).await?;
    team.play_start(&running).await?;
    team.wait("running", "it runs", |status| status.phase == Phase::Running).await?;
    let taken = waiting(&team, "taken", "LATER").await?;

    let bindings = Api::<ValidatingAdmissionPolicyBinding>::all(team.root.clone());
    let mut binding = bindings.get(POLICY).await?;
    bindings.delete(POLICY, &DeleteParams::default()).await?;
    let foreign = poll(Duration::from_secs(30), "a Secret under the name can be made", async || {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": taken}, "stringData": {"KEY": "foreign"}});
        Ok(team.secrets().create(&PostParams::default(), &serde_json::from_value(secret)?).await?)
    })
    .await?;
    poll(Duration::from_secs(90), "the operator has seen it", async || {
        let told = replica.log()?.lines().any(|line| line.contains("nothing is created") && line.contains(POLICY));
        ensure!(told, "not yet");
        Ok(())
    })
    .await?;

    let (code, text) = replica.get("/readyz").await?;
    ensure!(code == 503 && text.contains("the admission policies are not proven in force"), "{code} {text}");
    assert_eq!(replica.get("/livez").await?.0, 200, "a restart would not help");

    let mark = team.mark()?;
    let held = team.run("held", waits_for("KEY")).await?;
    let status = team.wait("held", "it waits", |status| status.reason == Some(Reason::OperatorNotReady)).await?;
    assert_eq!(status.phase, Phase::Pending);
    team.play_exit(&running, 0).await?;
    let status = team.wait_finished("running").await?;
    assert_eq!((status.phase, status.secrets_state.as_deref()), (Phase::Completed, Some("Removed")));
    let writes = team.writes(mark).await?;
    ensure!(!writes.iter().any(|write| write.starts_with("create")), "{writes:?}");

    binding.metadata.resource_version = None;
    binding.metadata.uid = None;
    bindings.create(&PostParams::default(), &binding).await?;
    team.pod(&held).await?;
    assert_eq!(replica.get("/readyz").await?.0, 200);
    assert_eq!(team.copy(&held).await?["KEY"], "value");
    team.set_secret("LATER", b"value").await?;
    let status = team.wait_finished("taken").await?;
    assert_eq!((status.phase, status.reason), (Phase::Failed, Some(Reason::NameConflict)));
    assert!(status.message.unwrap().contains(&taken));
    let left: Secret = team.secrets().get(&taken).await?;
    assert_eq!((left.uid(), left.resource_version()), (foreign.uid(), foreign.resource_version()));
    assert!(team.pods().get_opt(&taken).await?.is_none(), "a Pod would start with the foreign value");
    drop(replica);
    end_cluster(cluster)
}

#[tokio::test]
async fn a_sandbox_that_comes_with_its_namespace_and_quota_runs() -> Result<()> {
    let cluster = operator().await?.cluster;
    let root = cluster.admin()?;
    // As `kubectl apply` of one file does: nothing waits for what controllers add to the namespace.
    for round in 0..5 {
        let name = format!("new-{round}-{}", jiff::Timestamp::now().as_millisecond());
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        Api::all(root.clone())
            .create(&PostParams::default(), &from::<k8s_openapi::api::core::v1::Namespace>(namespace)?)
            .await?;
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"pods": "5"}}});
        let quotas = Api::namespaced(root.clone(), &name);
        quotas.create(&PostParams::default(), &from::<k8s_openapi::api::core::v1::ResourceQuota>(quota)?).await?;
        let sandboxes = Api::namespaced(root.clone(), &name);
        let made = sandboxes.create(&PostParams::default(), &crate::support::sandbox("first", json!({}))?).await?;
        let run = names::run_name("first", &made.uid().context("a UID")?, "", 1);
        poll(Duration::from_secs(40), "the run has its Pod", async || {
            let status = sandboxes.get("first").await?.status.unwrap_or_default();
            let pod = Api::<Pod>::namespaced(root.clone(), &name).get_opt(&run).await?;
            pod.map(drop).with_context(|| json!(status).to_string())
        })
        .await?;
    }
    Ok(())
}

fn from<K: serde::de::DeserializeOwned>(value: Value) -> Result<K> {
    Ok(serde_json::from_value(value)?)
}
