//! The backend `vault` against a real OpenBao, whose Kubernetes sign-in asks a real API server.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use daypass::api::{
    KubernetesBackend, SealedBackend, SecretSource, SignIn, TeamSecretStoreSpec, VaultBackend, VaultEngine,
};
use daypass::secret::SecretValue;
use daypass::stores::kubernetes::KubernetesStore;
use daypass::stores::open::Opener;
use daypass::stores::sealed::KeyState;
use daypass::stores::settings::StoreSettings;
use daypass::stores::sign_in::{ClusterProofs, Issuer, OwnToken, Proof, Subject as Who};
use daypass::stores::vault::VaultStore;
use daypass::stores::{SecretStore, Stage, StoreError, Write};
use daypass_testcluster::{Cluster, OpenBao, poll};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cluster::NAMESPACE;
use crate::contract::{Can, Subject, get, holds};
use crate::support::{ApiTokens, FixedProofs, operator};

/// The operator's ServiceAccount.
const OPERATOR: &str = "daypass-operator";

/// Loopback passes, as the cluster admin of a test allows.
pub fn settings() -> StoreSettings {
    StoreSettings { allow_local_addresses: true, ..StoreSettings::default() }
}

/// A store's object for a server at an address.
pub fn backend(address: &str) -> VaultBackend {
    VaultBackend {
        address: address.to_owned(),
        connection: Some(daypass::api::Connection { insecure: true, ..daypass::api::Connection::default() }),
        ..VaultBackend::default()
    }
}

fn account(name: &str) -> Proof {
    Proof::Token(Who::Team { name: name.into(), audience: None })
}

fn own(token: &str) -> Box<dyn Issuer> {
    Box::new(OwnToken(Arc::new(SecretValue::new(token.as_bytes().to_vec()))))
}

/// A server that trusts the shared cluster, and two teams with a role each.
async fn two_teams() -> Result<(OpenBao, &'static Cluster, [String; 2])> {
    let cluster = Cluster::shared().await?;
    let server = OpenBao::start().await?;
    server.trust(cluster).await?;
    let teams = [cluster.namespace("vault-a").await?, cluster.namespace("vault-b").await?];
    for team in &teams {
        server.let_read(team, "default", "60s").await?;
    }
    Ok((server, cluster, teams))
}

/// The store of `names_of`, signed in as the ServiceAccount `default` of `identity`.
fn reader(
    server: &OpenBao,
    cluster: &Cluster,
    names_of: &str,
    identity: &str,
    spec: &VaultBackend,
) -> Result<VaultStore> {
    let proofs = Arc::new(ApiTokens { client: cluster.admin()?, namespace: identity.to_owned() });
    let spec = VaultBackend { address: server.address(), role: Some(identity.to_owned()), ..spec.clone() };
    Ok(VaultStore::new(names_of, &spec, &settings(), account("default"), proofs)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_for_engine_v2() -> Result<()> {
    let (server, cluster, [a, b]) = two_teams().await?;
    let spec = backend(&server.address());
    holds(&Subject {
        reader: Arc::new(reader(&server, cluster, &a, &a, &spec)?),
        admin: Arc::new(VaultStore::with_own_token(&a, &spec, &settings(), own(server.root_token()))?),
        stranger: Arc::new(reader(&server, cluster, &a, &b, &spec)?),
        can: Can { pin: true, destroy: true, list: true, binary: false, set_again: true },
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_for_engine_v1() -> Result<()> {
    let (server, cluster, [a, b]) = two_teams().await?;
    server.must("POST", "sys/mounts/kv1", json!({"type": "kv", "options": {"version": "1"}})).await?;
    let policy = format!("path \"kv1/daypass/{a}/*\" {{ capabilities = [\"read\", \"list\"] }}");
    server.must("PUT", &format!("sys/policies/acl/{a}"), json!({"policy": policy})).await?;
    let spec = VaultBackend { mount: Some("kv1".into()), engine: Some(VaultEngine::V1), ..backend(&server.address()) };
    holds(&Subject {
        reader: Arc::new(reader(&server, cluster, &a, &a, &spec)?),
        admin: Arc::new(VaultStore::with_own_token(&a, &spec, &settings(), own(server.root_token()))?),
        stranger: Arc::new(reader(&server, cluster, &a, &b, &spec)?),
        can: Can { pin: false, destroy: false, list: true, binary: false, set_again: true },
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_are_gone_say_how() -> Result<()> {
    let server = OpenBao::start().await?;
    let store = VaultStore::with_own_token("team", &backend(&server.address()), &settings(), own(server.root_token()))?;
    let path = "secret/data/daypass/team/KEY";
    for value in ["one", "two"] {
        server.must("POST", path, json!({"data": {"value": value, "other": {"a": 1}}})).await?;
    }
    server.must("PUT", "secret/destroy/daypass/team/KEY", json!({"versions": [1]})).await?;
    let gone = async |version| match get(&store, "KEY", version).await {
        Err(StoreError::NotFound(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(gone(Some("1")).await.contains("destroyed"));
    server.must("DELETE", path, json!(null)).await?;
    assert!(gone(None).await.contains("deleted"));
    assert!(gone(Some("2")).await.contains("deleted"));
    assert!(gone(Some("3")).await.contains("nothing under this path"));
    let states: Vec<String> = store.history("KEY").await.unwrap().into_iter().map(|version| version.state).collect();
    assert_eq!(states, ["deleted", "destroyed"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_without_the_key_names_the_field_and_a_key_that_is_no_text_is_json() -> Result<()> {
    let server = OpenBao::start().await?;
    server.must("POST", "secret/data/daypass/team/KEY", json!({"data": {"token": "t", "deep": {"a": 1}}})).await?;
    let ask = async |key: Option<&str>| {
        let spec = VaultBackend { key: key.map(str::to_owned), ..backend(&server.address()) };
        let store = VaultStore::with_own_token("team", &spec, &settings(), own(server.root_token())).unwrap();
        get(&store, "KEY", None).await
    };
    assert!(matches!(ask(None).await, Err(StoreError::Malformed(text)) if text.contains("vault.key")));
    assert_eq!(ask(Some("token")).await?.0, b"t");
    assert_eq!(ask(Some("deep")).await?.0, br#"{"a":1}"#);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_else_an_entry_holds_outlives_every_write() -> Result<()> {
    let server = OpenBao::start().await?;
    server.must("POST", "sys/mounts/kv1", json!({"type": "kv", "options": {"version": "1"}})).await?;
    for (mount, engine, path) in
        [("secret", VaultEngine::V2, "secret/data/daypass/team/KEY"), ("kv1", VaultEngine::V1, "kv1/daypass/team/KEY")]
    {
        let spec = VaultBackend { mount: Some(mount.into()), engine: Some(engine), ..backend(&server.address()) };
        let store = VaultStore::with_own_token("team", &spec, &settings(), own(server.root_token()))?;
        let entry = |fields: Value| if engine == VaultEngine::V2 { json!({"data": fields}) } else { fields };
        let fields = async || {
            let mut answer = server.must("GET", path, json!(null)).await?;
            Ok::<_, anyhow::Error>(if engine == VaultEngine::V2 {
                answer["data"]["data"].take()
            } else {
                answer["data"].take()
            })
        };
        let others = json!({"user": "u", "deep": {"a": [1, null]}, "number": 1.5e300});
        let with = |value: &str| {
            let mut fields = others.clone();
            fields["value"] = value.into();
            fields
        };
        server.must("POST", path, entry(with("one"))).await?;
        let put = async |value: &str, write| store.put("KEY", &SecretValue::new(value.into()), write).await;
        assert!(matches!(put("x", Write::New).await, Err(StoreError::Conflict(_))));
        assert_eq!(fields().await?, with("one"), "{mount}");
        for (value, write) in [("two", Write::Keep), ("three", Write::Replace)] {
            put(value, write).await?;
            assert_eq!(fields().await?, with(value), "{mount} {write:?}");
        }
        let refused = store.delete("KEY").await;
        assert!(matches!(&refused, Err(StoreError::Conflict(text)) if text.contains("other keys")), "{refused:?}");
        assert_eq!(fields().await?, with("three"), "{mount}");
        // An entry that somebody else has begun takes the value as well.
        server.must("POST", path, entry(others.clone())).await?;
        put("four", Write::Keep).await?;
        assert_eq!(fields().await?, with("four"), "{mount}");
        server.must("POST", path, entry(json!({"value": "alone"}))).await?;
        store.delete("KEY").await?;
        assert!(matches!(get(&store, "KEY", None).await, Err(StoreError::NotFound(_))));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_role_signs_in_and_so_does_a_token() -> Result<()> {
    let server = OpenBao::start().await?;
    server.must("POST", "secret/data/daypass/team/KEY", json!({"data": {"value": "v"}})).await?;
    server.must("POST", "sys/auth/approle", json!({"type": "approle"})).await?;
    let policy = json!({"policy": "path \"secret/data/daypass/team/*\" { capabilities = [\"read\"] }"});
    server.must("PUT", "sys/policies/acl/team", policy).await?;
    server.must("POST", "auth/approle/role/team", json!({"token_policies": ["team"]})).await?;
    let id = server.must("GET", "auth/approle/role/team/role-id", json!(null)).await?;
    let secret = server.must("POST", "auth/approle/role/team/secret-id", json!({})).await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let secrets = [
        ("ROLE", text(&id["data"]["role_id"])),
        ("SECRET", text(&secret["data"]["secret_id"])),
        ("TOKEN", server.root_token().to_owned()),
    ];
    let proofs = Arc::new(FixedProofs { secrets: secrets.into(), ..FixedProofs::default() });
    let open = |id: Option<&str>, secret: &str| {
        let proof = Proof::Secrets(SecretSource { id: id.map(str::to_owned), secret: secret.into() });
        VaultStore::new("team", &backend(&server.address()), &settings(), proof, proofs.clone()).unwrap()
    };
    assert_eq!(get(&open(Some("ROLE"), "SECRET"), "KEY", None).await?.0, b"v");
    assert_eq!(get(&open(None, "TOKEN"), "KEY", None).await?.0, b"v");
    let wrong = get(&open(Some("SECRET"), "ROLE"), "KEY", None).await;
    assert!(matches!(wrong, Err(StoreError::Unavailable { stage: Stage::SignIn, .. })), "{wrong:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_that_is_refused_is_the_stores_trouble_and_one_that_ran_out_is_renewed() -> Result<()> {
    let (server, cluster, [a, b]) = two_teams().await?;
    let spec = backend(&server.address());
    server.must("POST", &format!("secret/data/daypass/{a}/KEY"), json!({"data": {"value": "v"}})).await?;

    // Another namespace's ServiceAccount may not sign in with this role.
    let wrong = VaultBackend { role: Some(a.clone()), ..spec.clone() };
    let proofs = Arc::new(ApiTokens { client: cluster.admin()?, namespace: b });
    let store = VaultStore::new(&a, &wrong, &settings(), account("default"), proofs)?;
    let refused = get(&store, "KEY", None).await;
    let Err(StoreError::Unavailable { stage: Stage::SignIn, why }) = refused else { panic!("{refused:?}") };
    assert!(why.contains("auth/kubernetes"), "{why}");

    let store = reader(&server, cluster, &a, &a, &spec)?;
    assert_eq!(get(&store, "KEY", None).await?.0, b"v");
    // Every token of the role goes at once, as if its time had run out.
    server.must("PUT", "sys/leases/revoke-prefix/auth/kubernetes/login", json!({})).await?;
    assert_eq!(get(&store, "KEY", None).await?.0, b"v", "signed in anew");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_own_identity_signs_in_where_the_cluster_admin_lets_it() -> Result<()> {
    let cluster = operator().await?.cluster;
    let server = OpenBao::start().await?;
    server.trust(cluster).await?;
    let team = cluster.namespace("as-operator").await?;
    server.let_read(&team, "default", "60s").await?;
    let role = json!({
        "bound_service_account_names": [OPERATOR], "bound_service_account_namespaces": [NAMESPACE],
        "audience": "vault", "token_policies": [team], "token_ttl": "60s",
    });
    server.must("POST", &format!("auth/kubernetes/role/{team}"), role).await?;
    server.must("POST", &format!("secret/data/daypass/{team}/KEY"), json!({"data": {"value": "v"}})).await?;

    let client = cluster.client_with_token(&cluster.service_account_token(NAMESPACE, OPERATOR).await?)?;
    let own = (NAMESPACE.to_owned(), OPERATOR.to_owned());
    let spec = VaultBackend { role: Some(team.clone()), ..backend(&server.address()) };
    let ask = async || {
        let sealed = KubernetesStore::new(client.clone(), &team, &KubernetesBackend::default())?;
        let proofs = Arc::new(ClusterProofs::new(client.clone(), &team, own.clone(), Box::new(sealed)));
        let store = VaultStore::new(&team, &spec, &settings(), Proof::Token(Who::Operator), proofs)?;
        get(&store, "KEY", None).await
    };
    // The chart gives the operator the right to its own tokens with the first team that is let in.
    let refused = ask().await;
    assert!(matches!(&refused, Err(StoreError::Unavailable { stage: Stage::SignIn, .. })), "{refused:?}");
    let identity = json!([{
        "namespace": team, "backend": "vault", "prefix": format!("daypass/{team}/"), "address": "https://vault.test",
    }]);
    let set = format!("config.stores.operatorIdentity={identity}");
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/daypass");
    let upgrade = ["upgrade", "daypass", chart, "--namespace", NAMESPACE, "--reuse-values", "--set-json", &set];
    tokio::task::block_in_place(|| cluster.helm(&upgrade))?;
    let found = poll(Duration::from_secs(20), "the operator may mint its own token", async || Ok(ask().await?)).await?;
    assert_eq!(found.0, b"v");

    // The operator itself opens such a store for that team alone.
    let settings = StoreSettings { operator_identity: serde_json::from_value(identity)?, ..settings() };
    let opener = Opener::new(client.clone(), watch::channel(KeyState::default()).1, settings, own.clone());
    let sign_in = SignIn { operator: Some(SealedBackend {}), ..SignIn::default() };
    let vault = VaultBackend { address: "https://vault.test".into(), sign_in, ..VaultBackend::default() };
    let spec = TeamSecretStoreSpec { vault: Some(vault), ..TeamSecretStoreSpec::default() };
    assert!(opener.open(&team, &spec).is_ok());
    let refused = opener.open("another", &spec).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("stores.operatorIdentity"), "{refused}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_server_and_a_mount_that_is_not_there_are_the_stores_trouble() -> Result<()> {
    let server = OpenBao::start().await?;
    let open = |mount: &str| {
        let spec = VaultBackend { mount: Some(mount.into()), ..backend(&server.address()) };
        VaultStore::with_own_token("team", &spec, &settings(), own(server.root_token())).unwrap()
    };
    assert!(open("secret").list().await.unwrap().is_empty(), "nothing is set yet");
    let missing = open("none").list().await;
    let Err(StoreError::Unavailable { why, .. }) = missing else { panic!("{missing:?}") };
    assert!(why.contains("vault.mount"), "{why}");
    assert!(matches!(get(&open("none"), "KEY", None).await, Err(StoreError::NotFound(_))));
    server.must("PUT", "sys/seal", json!({})).await?;
    let sealed = get(&open("secret"), "KEY", None).await;
    let Err(StoreError::Unavailable { why, .. }) = sealed else { panic!("{sealed:?}") };
    assert!(why.contains("sealed"), "{why}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_throttling() -> Result<()> {
    let server = OpenBao::start().await?;
    server.must("POST", "sys/quotas/rate-limit/q", json!({"rate": 1, "path": "secret/"})).await?;
    let store = VaultStore::with_own_token("team", &backend(&server.address()), &settings(), own(server.root_token()))?;
    let mut answers = Vec::new();
    for _ in 0..5 {
        answers.push(get(&store, "KEY", None).await);
    }
    assert!(answers.iter().any(|answer| matches!(answer, Err(StoreError::Throttled { .. }))), "{answers:?}");
    Ok(())
}
