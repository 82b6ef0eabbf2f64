//! The backend `kubernetes` against the real API server.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use daypass::api::{CHECK_REQUESTED, ConditionStatus, ConditionType, KubernetesBackend, Reason, TeamSecretStore};
use daypass::secret::SecretValue;
use daypass::stores::kubernetes::KubernetesStore;
use daypass::stores::{SecretStore as _, StoreError, Write};
use daypass_testcluster::{Cluster, poll};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::cluster::Team;
use crate::contract::{Can, Subject, get, holds};
use crate::support::operator;

/// Lets a user read Secrets of a namespace: those, or all where none is named.
async fn let_read(cluster: &Cluster, namespace: &str, user: &str, names: &[&str]) -> Result<()> {
    let client = cluster.admin()?;
    let role: Role = serde_json::from_value(json!({
        "metadata": {"name": "read"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": names}],
    }))?;
    Api::<Role>::namespaced(client.clone(), namespace).create(&PostParams::default(), &role).await?;
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "read"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "read"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }))?;
    Api::<RoleBinding>::namespaced(client, namespace).create(&PostParams::default(), &binding).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let team = cluster.namespace("kube-store").await?;
    let_read(cluster, &team, "store-reader", &[]).await?;
    let open = |client| KubernetesStore::new(client, &team, &KubernetesBackend::default());
    holds(&Subject {
        reader: Arc::new(open(cluster.client_as("store-reader", &[])?)?),
        admin: Arc::new(open(cluster.admin()?)?),
        stranger: Arc::new(open(cluster.client_as("somebody", &[])?)?),
        can: Can { pin: false, destroy: true, list: false, binary: true, set_again: true },
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_granted_by_name_is_denied_and_says_what_to_type() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let team = cluster.namespace("kube-named").await?;
    let_read(cluster, &team, "named-reader", &["hf-token"]).await?;
    let secrets = Api::<Secret>::namespaced(cluster.admin()?, &team);
    for name in ["hf-token", "other"] {
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": name}, "stringData": {"token": format!("value of {name}"), "else": "canary"},
        }))?;
        secrets.create(&PostParams::default(), &secret).await?;
    }
    let spec = KubernetesBackend { key: Some("token".into()), ..KubernetesBackend::default() };
    let store = KubernetesStore::new(cluster.client_as("named-reader", &[])?, &team, &spec)?;
    assert_eq!(get(&store, "HF_TOKEN", None).await?.0, b"value of hf-token");
    let denied = get(&store, "OTHER", None).await;
    let Err(StoreError::Denied(text)) = denied else { panic!("{denied:?}") };
    assert!(text.contains("--resource-name=other"), "{text}");
    let spec = KubernetesBackend { key: Some("none".into()), ..KubernetesBackend::default() };
    let store = KubernetesStore::new(cluster.client_as("named-reader", &[])?, &team, &spec)?;
    let missing = get(&store, "HF_TOKEN", None).await;
    assert!(matches!(&missing, Err(StoreError::NotFound(text)) if text.contains("kubernetes.key")), "{missing:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_else_a_secret_holds_outlives_every_write() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let team = cluster.namespace("kube-others").await?;
    let secrets = Api::<Secret>::namespaced(cluster.admin()?, &team);
    let store = KubernetesStore::new(cluster.admin()?, &team, &KubernetesBackend::default())?;
    let made: Secret = serde_json::from_value(json!({
        "metadata": {"name": "key", "labels": {"app": "ours"}, "annotations": {"note": "kept"}},
        "type": "example.com/pair",
        "stringData": {"value": "one", "other": "kept"},
    }))?;
    secrets.create(&PostParams::default(), &made).await?;
    let holds = async |value: &str| {
        let secret = secrets.get("key").await?;
        assert_eq!(secret.type_.as_deref(), Some("example.com/pair"));
        assert_eq!(secret.metadata.labels, made.metadata.labels);
        assert_eq!(secret.metadata.annotations, made.metadata.annotations);
        let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        let expected = [("other".to_owned(), b"kept".to_vec()), ("value".to_owned(), value.as_bytes().to_vec())];
        assert_eq!(data.collect::<Vec<_>>(), expected);
        Ok::<_, anyhow::Error>(())
    };
    let put = async |value: &str, write| store.put("KEY", &SecretValue::new(value.into()), write).await;
    assert!(matches!(put("x", Write::New).await, Err(StoreError::Conflict(_))));
    holds("one").await?;
    for (value, write) in [("two", Write::Keep), ("three", Write::Replace)] {
        put(value, write).await?;
        holds(value).await?;
    }
    let refused = store.delete("KEY").await;
    assert!(matches!(&refused, Err(StoreError::Conflict(text)) if text.contains("other keys")), "{refused:?}");
    holds("three").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_this_kind_is_discouraged_by_a_condition_and_one_event() -> Result<()> {
    let team = Team::new(operator().await?, "discouraged").await?;
    team.apply(json!({
        "apiVersion": "daypass.dev/v1alpha1", "kind": "TeamSecretStore", "metadata": {"name": "kube"},
        "spec": {"kubernetes": {}},
    }))
    .await?;
    let stores = Api::<TeamSecretStore>::namespaced(team.root.clone(), &team.namespace);
    poll(Duration::from_secs(60), "the condition says so", async || {
        let status = stores.get("kube").await?.status.context("no status yet")?;
        let found = status.conditions.iter().find(|condition| condition.type_ == ConditionType::Discouraged);
        let found = found.with_context(|| format!("{:?}", status.conditions))?;
        ensure!(found.status == ConditionStatus::True && found.reason == Reason::ValuesInCluster, "{found:?}");
        ensure!(found.message.contains("can read these values"), "{found:?}");
        Ok(())
    })
    .await?;
    // A second look tells nothing anew.
    let again = Patch::Merge(json!({"metadata": {"annotations": {CHECK_REQUESTED: "again"}}}));
    stores.patch("kube", &PatchParams::default(), &again).await?;
    poll(Duration::from_secs(60), "it was looked at again", async || {
        let status = stores.get("kube").await?.status.context("no status yet")?;
        ensure!(status.check_requested.as_deref() == Some("again"));
        Ok(())
    })
    .await?;
    let events = Api::<Event>::namespaced(team.root.clone(), &team.namespace);
    poll(Duration::from_secs(20), "one event tells it", async || {
        let events = events.list(&ListParams::default()).await?;
        let told: Vec<_> = events.iter().filter(|event| event.reason.as_deref() == Some("ValuesInCluster")).collect();
        ensure!(told.len() == 1 && told[0].type_.as_deref() == Some("Warning"), "{told:?}");
        ensure!(told[0].series.is_none(), "told again: {told:?}");
        Ok(())
    })
    .await
}
