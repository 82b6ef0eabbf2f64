//! The backend `kubernetes` against the real API server.

use std::sync::Arc;

use anyhow::Result;
use daypass::api::KubernetesBackend;
use daypass::secret::SecretValue;
use daypass::stores::kubernetes::KubernetesStore;
use daypass::stores::{SecretStore as _, StoreError, Write};
use daypass_testcluster::Cluster;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::contract::{Can, Subject, get, holds};

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
