//! The backend `wandb` against a double of W&B's GraphQL endpoint, with values in Kubernetes Secrets.

use std::sync::Arc;

use anyhow::{Result, ensure};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use daypass::api::{
    ConditionStatus, ConditionType, Connection, KubernetesBackend, Reason, TeamSecretStore, WandbBackend,
};
use daypass::secret::SecretValue;
use daypass::stores::kubernetes::KubernetesStore;
use daypass::stores::sign_in::OwnToken;
use daypass::stores::wandb::WandbStore;
use daypass::stores::{Fetched, Listed, Query, SecretStore, Stage, StoreError};
use daypass_testcluster::{Cluster, poll};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::cluster::Team;
use crate::contract::{Can, Subject, get, holds};
use crate::support::{Canned, Reply, operator};
use crate::vault::settings;

/// `api:wandb-key`, as a client sends it.
const BASIC: &str = "Basic YXBpOndhbmRiLWtleQ==";

async fn graphql(
    State(secrets): State<Arc<dyn SecretStore>>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, String) {
    if headers.get("authorization").is_none_or(|value| value != BASIC) {
        return (StatusCode::UNAUTHORIZED, "{\"errors\":[{\"message\":\"canary\"}]}".into());
    }
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let known =
        body["variables"]["entity"] == "ml" && body["query"].as_str().is_some_and(|query| query.contains("secrets"));
    let names = secrets.list().await.unwrap();
    let secrets: Vec<Value> =
        names.iter().map(|listed| json!({"name": listed.name, "createdAt": "2026-01-02T03:04:05"})).collect();
    let entity = if known { json!({"secrets": secrets}) } else { Value::Null };
    (StatusCode::OK, json!({"data": {"entity": entity}}).to_string())
}

/// Names and nothing else.
struct Names(Vec<&'static str>);

impl SecretStore for Names {
    fn get_many<'a>(&'a self, _: &'a [Query]) -> BoxFuture<'a, Vec<Result<Fetched, StoreError>>> {
        unreachable!("W&B gives no values")
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>, StoreError>> {
        let listed = |name: &&str| Listed { name: (*name).to_owned(), changed: None };
        Box::pin(std::future::ready(Ok(self.0.iter().map(listed).collect())))
    }
}

/// A reader whose operator was told of every change.
struct Told(WandbStore);

impl SecretStore for Told {
    fn get_many<'a>(&'a self, queries: &'a [Query]) -> BoxFuture<'a, Vec<Result<Fetched, StoreError>>> {
        self.0.forget();
        self.0.get_many(queries)
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>, StoreError>> {
        self.0.forget();
        self.0.list()
    }
}

/// Lists these names for the entity `ml` to whoever has the key.
pub async fn double(names: &[&'static str]) -> Result<String> {
    double_of(Arc::new(Names(names.to_vec()))).await
}

/// Lists the names of a store.
async fn double_of(secrets: Arc<dyn SecretStore>) -> Result<String> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = format!("http://{}", listener.local_addr()?);
    let app = Router::new().route("/graphql", post(graphql)).with_state(secrets);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

fn spec(address: &str, entity: &str) -> WandbBackend {
    WandbBackend {
        entity: entity.into(),
        base_url: Some(address.to_owned()),
        api_key: "WANDB_API_KEY".into(),
        connection: Some(Connection { insecure: true, ..Connection::default() }),
        ..WandbBackend::default()
    }
}

fn open(address: &str, entity: &str, key: &str, values: Option<Arc<dyn SecretStore>>) -> WandbStore {
    let key = Box::new(OwnToken(Arc::new(SecretValue::new(key.as_bytes().to_vec()))));
    WandbStore::new(&spec(address, entity), &settings(), key, values).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_wandbs_and_values_the_managers() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let team = cluster.namespace("wandb").await?;
    let secrets = Api::<Secret>::namespaced(cluster.admin()?, &team);
    for name in ["hf-token", "unlisted"] {
        let secret: Secret =
            serde_json::from_value(json!({"metadata": {"name": name}, "stringData": {"value": name}}))?;
        secrets.create(&PostParams::default(), &secret).await?;
    }
    let address = double(&["HF_TOKEN", "ONLY_IN_WANDB"]).await?;
    let values = Arc::new(KubernetesStore::new(cluster.admin()?, &team, &KubernetesBackend::default())?);
    let store = open(&address, "ml", "wandb-key", Some(values));
    assert_eq!(get(&store, "HF_TOKEN", None).await?.0, b"hf-token");
    let unlisted = get(&store, "UNLISTED", None).await;
    assert!(matches!(&unlisted, Err(StoreError::NotFound(text)) if text.contains("W&B lists no")), "{unlisted:?}");
    assert!(matches!(get(&store, "ONLY_IN_WANDB", None).await, Err(StoreError::NotFound(_))));
    let listed = store.list().await?;
    assert_eq!(listed.iter().map(|listed| listed.name.as_str()).collect::<Vec<_>>(), ["HF_TOKEN", "ONLY_IN_WANDB"]);
    assert_eq!(listed[0].changed.map(|time| time.to_string()).as_deref(), Some("2026-01-02T03:04:05Z"));

    let names_only = open(&address, "ml", "wandb-key", None);
    let refused = get(&names_only, "HF_TOKEN", None).await;
    assert!(matches!(&refused, Err(StoreError::Unsupported(text)) if text.contains("wandb.from")), "{refused:?}");
    let wrong = open(&address, "ml", "wrong", None).list().await;
    assert!(matches!(&wrong, Err(StoreError::Unavailable { stage: Stage::SignIn, .. })), "{wrong:?}");
    let unknown = open(&address, "others", "wandb-key", None).list().await;
    assert!(
        matches!(&unknown, Err(StoreError::Unavailable { why, .. }) if why.contains("wandb.entity")),
        "{unknown:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_over_the_manager_behind() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let team = cluster.namespace("wandb-contract").await?;
    let values = |client| -> Result<Arc<dyn SecretStore>> {
        Ok(Arc::new(KubernetesStore::new(client, &team, &KubernetesBackend::default())?))
    };
    // Whoever sets a secret in the manager sets it in W&B too.
    let address = double_of(values(cluster.admin()?)?).await?;
    let of = |client| -> Result<WandbStore> { Ok(open(&address, "ml", "wandb-key", Some(values(client)?))) };
    holds(&Subject {
        reader: Arc::new(Told(of(cluster.admin()?)?)),
        admin: Arc::new(of(cluster.admin()?)?),
        stranger: Arc::new(Told(of(cluster.client_as("somebody", &[])?)?)),
        can: Can { pin: false, destroy: true, list: true, binary: true, set_again: true },
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn answers_that_are_none_of_wandbs_are_told_apart_and_their_text_stays_with_them() -> Result<()> {
    let answer = |status, body: &str| Reply::Answer(status, "", body.as_bytes().to_vec());
    let ask = async |reply| -> Result<StoreError> {
        let server = Canned::start(vec![reply]).await?;
        let error = open(server.address(), "ml", "wandb-key", None).list().await.unwrap_err();
        assert!(!format!("{error:?} {error}").contains("canary"), "{error:?}");
        Ok(error)
    };
    for body in
        ["<html>canary</html>", "", "{\"data\":{\"entity\":{\"secrets\":[{\"name\":\"canary", "{\"data\":[\"canary\"]}"]
    {
        let error = ask(answer(200, body)).await?;
        assert!(matches!(error, StoreError::Malformed(_)), "{body}: {error:?}");
    }
    assert_eq!(ask(answer(429, "canary")).await?, StoreError::Throttled { retry_after: None });
    for reply in [answer(500, "canary"), answer(302, "canary"), answer(404, "canary"), Reply::Close] {
        let error = ask(reply).await?;
        assert!(matches!(error, StoreError::Unavailable { stage: Stage::Answer, .. }), "{error:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_only_lists_says_so_before_a_run_meets_it() -> Result<()> {
    let team = Team::new(operator().await?, "names-only").await?;
    team.set_secret("WANDB_API_KEY", b"wandb-key").await?;
    let address = double(&["HF_TOKEN"]).await?;
    team.apply(json!({
        "apiVersion": "daypass.dev/v1alpha1", "kind": "TeamSecretStore", "metadata": {"name": "wandb"},
        "spec": {"wandb": {
            "entity": "ml", "baseURL": address, "apiKey": "WANDB_API_KEY", "connection": {"insecure": true},
        }},
    }))
    .await?;
    let stores = Api::<TeamSecretStore>::namespaced(team.root.clone(), &team.namespace);
    poll(std::time::Duration::from_secs(60), "the store says what it cannot do", async || {
        let status = stores.get("wandb").await?.status.unwrap_or_default();
        let ready = status.conditions.iter().find(|condition| condition.type_ == ConditionType::Ready);
        let right = ready.is_some_and(|ready| {
            ready.status == ConditionStatus::False
                && ready.reason == Reason::ValuesNotReadable
                && ready.message.contains("wandb.from")
        });
        ensure!(right && status.names == ["HF_TOKEN"], "{}", serde_json::to_string(&status)?);
        Ok(())
    })
    .await?;
    team.run("run", json!({"secrets": [{"name": "HF_TOKEN", "store": "wandb"}]})).await?;
    let status = team.wait_finished("run").await?;
    assert_eq!(status.reason, Some(Reason::ValuesNotReadable), "{:?}", status.message);
    Ok(())
}
