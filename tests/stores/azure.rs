//! Azure Key Vault, against the double.

use std::sync::Arc;
use std::time::Duration;

use daypass::api::{AzureBackend, Connection, SecretSource};
use daypass::stores::azure::AzureStore;
use daypass::stores::settings::StoreSettings;
use daypass::stores::sign_in::{Proof, Proofs, Subject};
use daypass::stores::{Query, SecretStore, Stage, StoreError, Write};
use daypass_testcluster::Cluster;
use futures::FutureExt as _;
use jiff::Timestamp;
use serde_json::json;

use crate::contract::{self, Can};
use crate::support::ApiTokens;
use crate::support::azure::{Azure, CLIENT, CLIENT_SECRET, TENANT};
use crate::support::double::{
    Fault, Own, SERVER_TEXT, Table, VALUE, api_review, clean, seen, steering, store_of_example, table_review, value,
};

/// What `team-a` and `API_KEY` are in a vault.
const SECRET: &str = "daypass-team-0a-API--KEY";

fn spec(azure: &Azure) -> AzureBackend {
    AzureBackend {
        vault_url: azure.vault.clone(),
        tenant_id: Some(TENANT.into()),
        client_id: Some(CLIENT.into()),
        connection: Some(Connection { ca_bundle: Some(azure.ca.clone()), ..Connection::default() }),
        ..AzureBackend::default()
    }
}

fn settings(azure: &Azure) -> StoreSettings {
    let mut settings = StoreSettings { allow_local_addresses: true, ..StoreSettings::default() };
    settings.endpoints.azure_authority.clone_from(&azure.authority);
    settings
}

fn account(name: &str) -> Proof {
    Proof::Token(Subject::Team { name: name.into(), audience: None })
}

fn store_with(azure: &Azure, spec: &AzureBackend, proof: Proof, proofs: Arc<dyn Proofs>) -> AzureStore {
    AzureStore::new("team-a", spec, &settings(azure), proof, proofs).ok().unwrap()
}

/// The store of `team-a`, which signs in as that.
fn store(azure: &Azure) -> AzureStore {
    store_with(azure, &spec(azure), account("team-a"), Table::with(&[]))
}

/// The same store with its admin's token.
fn admin(azure: &Azure) -> AzureStore {
    let own = Box::new(Own("admins-own-token"));
    AzureStore::with_own_token("team-a", &spec(azure), &settings(azure), own).ok().unwrap()
}

async fn started() -> (Azure, String) {
    let azure = Azure::start(table_review()).await;
    let version = azure.add(SECRET, VALUE, None, json!({}));
    (azure, version)
}

async fn get(store: &dyn SecretStore, name: &str, version: Option<&str>) -> Result<(Vec<u8>, String), StoreError> {
    let query = [Query { name: name.into(), version: version.map(str::to_owned) }];
    seen(store.get_many(&query).await.pop().unwrap())
}

/// Whether an error is the expected one.
type Is = dyn Fn(&StoreError) -> bool;

#[expect(clippy::unnecessary_wraps, reason = "it is compared with what a read gave")]
fn found(value: impl AsRef<[u8]>, version: &str) -> Result<(Vec<u8>, String), StoreError> {
    Ok((value.as_ref().to_vec(), version.to_owned()))
}

fn at(result: Result<impl std::fmt::Debug, StoreError>) -> (Stage, String) {
    let error = result.unwrap_err();
    clean(&error);
    match error {
        StoreError::Unavailable { stage, why } => (stage, why),
        other => panic!("{other:?}"),
    }
}

/// Real tokens, reviewed by the API server that made them.
#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds() -> anyhow::Result<()> {
    let cluster = Cluster::shared().await?;
    let azure = Azure::start(api_review(cluster.admin()?)).await;
    let (a, b) = (cluster.namespace("azure-a").await?, cluster.namespace("azure-b").await?);
    let spec = spec(&azure);
    let reader = |identity: &str| -> anyhow::Result<Arc<dyn SecretStore>> {
        let proofs = Arc::new(ApiTokens { client: cluster.admin()?, namespace: identity.to_owned() });
        Ok(Arc::new(AzureStore::new(&a, &spec, &settings(&azure), account("default"), proofs)?))
    };
    let own = Box::new(Own("admins-own-token"));
    contract::holds(&contract::Subject {
        reader: reader(&a)?,
        admin: Arc::new(AzureStore::with_own_token(&a, &spec, &settings(&azure), own)?),
        stranger: reader(&b)?,
        can: Can { pin: true, destroy: true, list: true, binary: true, set_again: true },
    })
    .await;
    // For another audience it is no token of this application's.
    let audience = Proof::Token(Subject::Team { name: "default".into(), audience: Some("vault".into()) });
    let proofs = Arc::new(ApiTokens { client: cluster.admin()?, namespace: a.clone() });
    let store = AzureStore::new(&a, &spec, &settings(&azure), audience, proofs)?;
    assert_eq!(at(store.sign_in().await).0, Stage::SignIn);
    Ok(())
}

#[tokio::test]
async fn the_example_reads_what_its_comments_write() {
    let review = |token: String, _| {
        let known = token.starts_with("token-of-daypass-store@");
        std::future::ready(known.then(|| "ml-team".to_owned())).boxed()
    };
    let azure = Azure::start(Arc::new(review)).await;
    let version = azure.add("daypass-ml-0team-HF--TOKEN", VALUE, None, json!({}));
    let example = store_of_example("azure.yaml").azure.unwrap();
    let proof = Proof::of(&example.sign_in).unwrap();
    let example = AzureBackend { name_template: example.name_template, sign_in: example.sign_in, ..spec(&azure) };
    let store = AzureStore::new("ml-team", &example, &settings(&azure), proof, Table::with(&[])).ok().unwrap();
    assert_eq!(get(&store, "HF_TOKEN", None).await, found(VALUE, &version));
}

#[tokio::test]
async fn values_come_with_their_versions_in_the_order_asked() {
    let (azure, first) = started().await;
    let second = azure.add(SECRET, "second", None, json!({}));
    let store = store(&azure);
    let query = |name: &str, version: Option<&str>| Query { name: name.into(), version: version.map(str::to_owned) };
    let queries = [query("API_KEY", None), query("MISSING", None), query("API_KEY", Some(&first))];
    let results: Vec<_> = store.get_many(&queries).await.into_iter().map(seen).collect();
    assert_eq!(results[0], found("second", &second));
    assert!(matches!(results[1], Err(StoreError::NotFound(_))), "{:?}", results[1]);
    assert_eq!(results[2], found(VALUE, &first));
    assert_eq!(get(&store, "API_KEY", Some(&first.to_uppercase())).await, found(VALUE, &first));
    let calls = azure.take_calls();
    let sign_ins = calls.iter().filter(|call| call.path.ends_with("/token")).count();
    assert_eq!(sign_ins, 1, "one sign-in serves all: {calls:?}");
    // No call waits for the challenge.
    assert!(calls.iter().filter(|call| call.path.starts_with("/secrets")).all(|call| call.signed_in), "{calls:?}");
}

#[tokio::test]
async fn names_in_a_vault_have_no_case() {
    let azure = Azure::start(table_review()).await;
    let version = azure.add("DAYPASS-Team-0A-api--key", VALUE, None, json!({}));
    assert_eq!(get(&store(&azure), "API_KEY", None).await, found(VALUE, &version));
    // The same letters in small are another name.
    assert!(matches!(get(&store(&azure), "api_key", None).await, Err(StoreError::NotFound(_))));
    let names = store(&azure).list().await.unwrap();
    assert_eq!(names.into_iter().map(|listed| listed.name).collect::<Vec<_>>(), ["API_KEY"]);
}

#[tokio::test]
async fn states_are_told_apart() {
    let (azure, first) = started().await;
    let now = Timestamp::now().as_second();
    let store = store(&azure);
    for (attributes, says) in [
        (json!({"enabled": false}), "disabled"),
        (json!({"exp": now - 1}), "expired"),
        (json!({"nbf": now + 600}), "not valid yet"),
    ] {
        let version = azure.add(SECRET, "newer", None, attributes);
        for pinned in [None, Some(version.as_str())] {
            let error = get(&store, "API_KEY", pinned).await.unwrap_err();
            assert!(matches!(&error, StoreError::NotFound(why) if why.contains(says)), "{error:?}");
        }
    }
    let good = azure.add(SECRET, "good", None, json!({"exp": now + 600, "nbf": now - 600}));
    assert_eq!(get(&store, "API_KEY", None).await, found("good", &good));
    let history = store.history("API_KEY").await.unwrap();
    let states: Vec<&str> = history.iter().map(|info| info.state.as_str()).collect();
    assert_eq!(states, ["current", "not yet valid", "expired", "disabled", "enabled"]);
    assert_eq!(history.last().unwrap().version, first);
    azure.delete_softly(SECRET);
    assert!(matches!(get(&store, "API_KEY", None).await, Err(StoreError::NotFound(_))));
    let zeros = "0".repeat(32);
    for version in ["1", "latest", "../x", zeros.as_str(), &"g".repeat(32)] {
        assert!(matches!(get(&store, "API_KEY", Some(version)).await, Err(StoreError::NotFound(_))), "{version}");
    }
}

#[tokio::test]
async fn another_teams_secret_is_denied() {
    let (azure, _) = started().await;
    azure.add("daypass-team-0b-API--KEY", VALUE, None, json!({}));
    let spec = AzureBackend { name_template: Some("daypass-team-0b-{name}".into()), ..spec(&azure) };
    let store = store_with(&azure, &spec, account("team-a"), Table::with(&[]));
    let error = get(&store, "API_KEY", None).await.unwrap_err();
    assert!(matches!(&error, StoreError::Denied(why) if why.contains("Key Vault Secrets User")), "{error:?}");
}

#[tokio::test]
async fn what_a_server_may_answer_becomes_what_it_means() {
    let (azure, version) = started().await;
    let store = store(&azure);
    let unavailable = |error: &StoreError| matches!(error, StoreError::Unavailable { stage: Stage::Answer, .. });
    let malformed = |error: &StoreError| matches!(error, StoreError::Malformed(_));
    let text = |text: &str| Fault::Text(text.replace('~', SERVER_TEXT).replace('@', &azure.vault));
    let cases: Vec<(Fault, Box<Is>)> = vec![
        (
            Fault::Status { status: 429, retry_after: Some(7), error: "" },
            Box::new(|error| *error == StoreError::Throttled { retry_after: Some(Duration::from_secs(7)) }),
        ),
        (Fault::status(500), Box::new(unavailable)),
        (Fault::status(503), Box::new(unavailable)),
        (Fault::Cut, Box::new(unavailable)),
        (Fault::Redirect("https://127.0.0.1:9/elsewhere".into()), Box::new(unavailable)),
        (Fault::error(403, "ForbiddenByFirewall"), Box::new(unavailable)),
        (Fault::error(403, "SecretDisabled"), Box::new(|error| matches!(error, StoreError::NotFound(_)))),
        (Fault::error(403, "AccessDenied"), Box::new(|error| matches!(error, StoreError::Denied(_)))),
        (Fault::status(404), Box::new(|error| matches!(error, StoreError::NotFound(_)))),
        (Fault::status(400), Box::new(malformed)),
        (Fault::status(418), Box::new(malformed)),
        (Fault::WrongName, Box::new(malformed)),
        (text("<html>~</html>"), Box::new(malformed)),
        (text("{\"value\": \"~"), Box::new(malformed)),
        (text(r#"{"error": {"code": "Forbidden", "message": "~"}}"#), Box::new(malformed)),
        (
            text(r#"{"value": null, "id": "@/secrets/daypass-team-0a-API--KEY/~", "attributes": {}}"#),
            Box::new(malformed),
        ),
        (
            // Another vault's.
            text(
                r#"{"value": "~", "attributes": {},
                    "id": "https://other.vault.azure.net/secrets/daypass-team-0a-API--KEY/00000000000000000000000000000001"}"#,
            ),
            Box::new(malformed),
        ),
        (Fault::Text("x".repeat(2 << 20)), Box::new(malformed)),
    ];
    for (index, (fault, is)) in cases.into_iter().enumerate() {
        azure.fault(SECRET, fault, 1);
        let error = get(&store, "API_KEY", None).await.unwrap_err();
        assert!(is(&error), "case {index}: {error:?}");
        assert_eq!(get(&store, "API_KEY", None).await, found(VALUE, &version), "after case {index}");
    }
    azure.fault(SECRET, Fault::WrongVersion, 1);
    assert!(matches!(get(&store, "API_KEY", Some(&version)).await, Err(StoreError::Malformed(_))));
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    let (azure, _) = started().await;
    azure.fault(SECRET, Fault::Hang, 1);
    assert_eq!(at(get(&store(&azure), "API_KEY", None).await).0, Stage::Answer);
}

#[tokio::test]
async fn a_server_with_another_certificate_is_not_asked() {
    let (azure, _) = started().await;
    let (other, _) = started().await;
    let connection = Some(Connection { ca_bundle: Some(other.ca.clone()), ..Connection::default() });
    let spec = AzureBackend { connection, ..spec(&azure) };
    let store = store_with(&azure, &spec, account("team-a"), Table::with(&[]));
    assert_eq!(at(get(&store, "API_KEY", None).await).0, Stage::Tls);
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_then_the_stores_trouble() {
    let (azure, version) = started().await;
    let store = store(&azure);
    assert_eq!(get(&store, "API_KEY", None).await, found(VALUE, &version));
    azure.expire_tokens();
    azure.take_calls();
    assert_eq!(get(&store, "API_KEY", None).await, found(VALUE, &version));
    let paths: Vec<String> = azure.take_calls().into_iter().map(|call| call.path).collect();
    assert_eq!(paths.iter().filter(|path| path.ends_with("/token")).count(), 1, "{paths:?}");
    azure.fault(SECRET, Fault::status(401), 2);
    assert_eq!(at(get(&store, "API_KEY", None).await).0, Stage::SignIn);
}

#[tokio::test]
async fn sign_ins_are_traded_and_refused_with_what_mends_them() {
    let (azure, version) = started().await;
    let with = |change: &dyn Fn(&mut AzureBackend), proof: Proof, secrets: &[(&str, &str)]| {
        let mut spec = spec(&azure);
        change(&mut spec);
        store_with(&azure, &spec, proof, Table::with(secrets))
    };
    let secrets =
        |id: Option<&str>| Proof::Secrets(SecretSource { id: id.map(str::to_owned), secret: "AZURE_SECRET".into() });
    let keeps = |_: &mut AzureBackend| ();
    let no_client = |spec: &mut AzureBackend| spec.client_id = None;
    let known = [("AZURE_SECRET", CLIENT_SECRET), ("AZURE_ID", CLIENT)];
    for store in [
        with(&keeps, account("team-a"), &[]),
        with(&keeps, secrets(None), &known),
        with(&no_client, secrets(Some("AZURE_ID")), &known),
    ] {
        store.sign_in().await.unwrap();
        assert_eq!(get(&store, "API_KEY", None).await, found(VALUE, &version));
    }
    let audience = Proof::Token(Subject::Team { name: "team-a".into(), audience: Some("another".into()) });
    for (store, says) in [
        (with(&keeps, audience, &[]), "federated credential"),
        (with(&keeps, secrets(None), &[("AZURE_SECRET", VALUE)]), "client secret is wrong"),
        (with(&|spec| spec.tenant_id = None, account("team-a"), &[]), "azure.tenantID is not set"),
        (with(&|spec| spec.tenant_id = Some("elsewhere".into()), account("team-a"), &[]), "no such tenant"),
        (with(&no_client, account("team-a"), &[]), "azure.clientID is not set"),
        (with(&no_client, secrets(None), &known), "azure.clientID is not set"),
        (with(&|spec| spec.client_id = Some("elsewhere".into()), account("team-a"), &[]), "azure.clientID"),
    ] {
        let (stage, why) = at(store.sign_in().await);
        assert!(stage == Stage::SignIn && why.contains(says), "{why}");
    }
    for fault in [Fault::status(503), Fault::Cut, Fault::Text("<html>".into()), Fault::Text("{}".into())] {
        azure.fault("entra", fault, 1);
        assert_eq!(at(get(&store(&azure), "API_KEY", None).await).0, Stage::SignIn);
    }
}

#[tokio::test]
async fn lists_are_read_to_their_end_on_the_vaults_own_server_only() {
    let (azure, _) = started().await;
    for name in ["B", "C", "-D", "E--2", "-2CAPTCHA"] {
        azure.add(&format!("daypass-team-0a-{name}"), VALUE, None, json!({}));
        azure.add(&format!("daypass-team-0b-{name}"), VALUE, None, json!({}));
        // A team whose name goes on.
        azure.add(&format!("daypass-team-0a-0x-{name}"), VALUE, None, json!({}));
        azure.add(&format!("other-{name}"), VALUE, None, json!({}));
    }
    let listed = store(&azure).list().await.unwrap();
    let names: Vec<&str> = listed.iter().map(|listed| listed.name.as_str()).collect();
    assert_eq!(names, ["2CAPTCHA", "API_KEY", "B", "C", "E_2", "d"]);
    assert!(listed.iter().all(|listed| listed.changed.is_some()));
    azure.take_calls();
    for elsewhere in ["https://127.0.0.1:9", "http://127.0.0.1:9", "//127.0.0.1:9", "https://vault.azure.net"] {
        azure.next_page_at(elsewhere);
        let error = store(&azure).list().await.unwrap_err();
        assert!(matches!(&error, StoreError::Malformed(why) if why.contains("another server")), "{error:?}");
    }
    // On the own server it is the list that goes on, whatever the link's path says.
    azure.next_page_at(&format!("{}/deletedsecrets", azure.vault));
    store(&azure).list().await.unwrap();
    let paths: Vec<String> = azure.take_calls().into_iter().map(|call| call.path).collect();
    assert!(paths.iter().all(|path| path == "/secrets" || path.ends_with("/token")), "{paths:?}");
}

#[tokio::test]
async fn a_secret_is_set_rotated_and_deleted() {
    let azure = Azure::start(table_review()).await;
    let (admin, store) = (admin(&azure), store(&azure));
    let first = admin.put("API_KEY", &value(VALUE), Write::New).await.unwrap();
    let taken = admin.put("API_KEY", &value("other"), Write::New).await.unwrap_err();
    assert!(matches!(taken, StoreError::Conflict(_)), "{taken:?}");
    assert_eq!(get(&store, "API_KEY", None).await, found(VALUE, &first));
    let second = admin.put("API_KEY", &value("second"), Write::Keep).await.unwrap();
    assert_eq!(get(&store, "API_KEY", None).await, found("second", &second));
    assert_eq!(get(&store, "API_KEY", Some(&first)).await, found(VALUE, &first));
    let third = admin.put("API_KEY", &value("third"), Write::Replace).await.unwrap();
    assert_eq!(get(&store, "API_KEY", None).await, found("third", &third));
    assert_eq!(azure.enabled(SECRET), Some(vec![false, false, true]));
    for older in [&first, &second] {
        assert!(matches!(get(&store, "API_KEY", Some(older)).await, Err(StoreError::NotFound(_))));
    }
    azure.delete_slowly(1);
    admin.delete("API_KEY").await.unwrap();
    assert_eq!(azure.enabled(SECRET), None, "purged");
    for result in [
        get(&store, "API_KEY", None).await.map(|_| ()),
        admin.delete("API_KEY").await,
        admin.put("API_KEY", &value("x"), Write::Keep).await.map(|_| ()),
        admin.put("API_KEY", &value("x"), Write::Replace).await.map(|_| ()),
        admin.history("API_KEY").await.map(|_| ()),
    ] {
        assert!(matches!(result, Err(StoreError::NotFound(_))), "{result:?}");
    }
    admin.put("API_KEY", &value(VALUE), Write::New).await.unwrap();
}

#[tokio::test]
async fn what_a_vault_keeps_of_a_deleted_secret_is_said() {
    let (azure, _) = started().await;
    azure.protect_from_purge();
    let admin = admin(&azure);
    let error = admin.delete("API_KEY").await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Unsupported(why) if why.contains("not purged") && why.contains("2026-12-20")),
        "{error:?}"
    );
    let gone = get(&admin, "API_KEY", None).await;
    assert!(matches!(&gone, Err(StoreError::NotFound(why)) if why.contains("is deleted")), "{gone:?}");
    let never = get(&admin, "NEVER", None).await;
    assert!(matches!(&never, Err(StoreError::NotFound(why)) if why.contains("no such secret")), "{never:?}");
    let error = admin.put("API_KEY", &value("x"), Write::New).await.unwrap_err();
    assert!(matches!(&error, StoreError::Conflict(why) if why.contains("recovered")), "{error:?}");
}

#[tokio::test]
async fn a_value_that_is_no_text_is_marked_and_comes_back() {
    let (azure, _) = started().await;
    let (admin, store) = (admin(&azure), store(&azure));
    let bytes: Vec<u8> = (0..=255).collect();
    let version = admin.put("BINARY", &value(&bytes), Write::New).await.unwrap();
    assert_eq!(get(&store, "BINARY", None).await, found(&bytes, &version));
    // Text stays what it is, even where it looks like base64 or holds a NUL.
    for text in ["AAAA", "a\0b", "\u{20ac}"] {
        let version = admin.put("API_KEY", &value(text), Write::Keep).await.unwrap();
        assert_eq!(get(&store, "API_KEY", None).await, found(text, &version));
    }
    azure.add(SECRET, "no base64!", Some("Application/Octet-Stream; base64"), json!({}));
    assert!(matches!(get(&store, "API_KEY", None).await, Err(StoreError::Malformed(_))));
    let large = value(vec![b'x'; 25 * 1024 + 1]);
    assert!(matches!(admin.put("BIG", &large, Write::New).await, Err(StoreError::Unsupported(_))));
}

#[tokio::test]
async fn no_name_steers_a_call() {
    let (azure, _) = started().await;
    let admin = admin(&azure);
    for name in steering() {
        let missing = |result: Result<(), StoreError>| {
            assert!(matches!(result, Err(StoreError::NotFound(_))), "{name:?}: {result:?}");
        };
        missing(get(&admin, &name, None).await.map(|_| ()));
        missing(admin.history(&name).await.map(|_| ()));
        missing(admin.delete(&name).await);
        for write in [Write::New, Write::Keep, Write::Replace] {
            missing(admin.put(&name, &value("x"), write).await.map(|_| ()));
        }
    }
    for version in steering() {
        assert!(matches!(get(&admin, "API_KEY", Some(&version)).await, Err(StoreError::NotFound(_))), "{version:?}");
    }
    // Longer than a vault takes: every small letter counts twice.
    let error = get(&admin, &"a".repeat(60), None).await.unwrap_err();
    assert!(matches!(&error, StoreError::NotFound(why) if why.contains("127")), "{error:?}");
    assert!(azure.take_calls().is_empty(), "nothing was asked");
}
