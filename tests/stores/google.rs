//! Google Secret Manager, against the double.

use std::sync::Arc;
use std::time::{Duration, Instant};

use daypass::api::{Connection, GcpBackend, SecretSource};
use daypass::stores::gcp::GcpStore;
use daypass::stores::settings::StoreSettings;
use daypass::stores::sign_in::{Proof, Proofs, Subject};
use daypass::stores::{Query, SecretStore, Stage, StoreError, Write};
use daypass_testcluster::Cluster;
use futures::FutureExt as _;

use crate::contract::{self, Can};
use crate::support::ApiTokens;
use crate::support::double::{
    Fault, Own, SERVER_TEXT, Table, VALUE, api_review, clean, seen, steering, store_of_example, table_review, value,
};
use crate::support::google::{Google, PROJECT, PROVIDER, key_file};

const SECRET: &str = "daypass-team-a-API_KEY";

fn spec(google: &Google) -> GcpBackend {
    GcpBackend {
        project: PROJECT.into(),
        workload_identity_provider: Some(PROVIDER.into()),
        endpoint: Some(google.address.clone()),
        connection: Some(Connection { insecure: true, ..Connection::default() }),
        ..GcpBackend::default()
    }
}

fn settings(google: &Google) -> StoreSettings {
    let mut settings = StoreSettings { allow_local_addresses: true, ..StoreSettings::default() };
    settings.endpoints.google_sts.clone_from(&google.address);
    settings.endpoints.google_oauth.clone_from(&google.address);
    settings.endpoints.google_iam_credentials.clone_from(&google.address);
    settings
}

fn account(name: &str) -> Proof {
    Proof::Token(Subject::Team { name: name.into(), audience: None })
}

fn store_with(google: &Google, spec: &GcpBackend, proof: Proof, proofs: Arc<dyn Proofs>) -> GcpStore {
    GcpStore::new("team-a", spec, &settings(google), proof, proofs).ok().unwrap()
}

/// The store of `team-a`, which signs in as that.
fn store(google: &Google) -> GcpStore {
    store_with(google, &spec(google), account("team-a"), Table::with(&[]))
}

/// The same store with its admin's token.
fn admin(google: &Google) -> GcpStore {
    let own = Box::new(Own("admins-own-token"));
    GcpStore::with_own_token("team-a", &spec(google), &settings(google), own).ok().unwrap()
}

async fn started() -> Google {
    let google = Google::start(table_review()).await;
    google.add(SECRET, VALUE);
    google
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
    let google = Google::start(api_review(cluster.admin()?)).await;
    let (a, b) = (cluster.namespace("gcp-a").await?, cluster.namespace("gcp-b").await?);
    let spec = spec(&google);
    let reader = |identity: &str| -> anyhow::Result<Arc<dyn SecretStore>> {
        let proofs = Arc::new(ApiTokens { client: cluster.admin()?, namespace: identity.to_owned() });
        Ok(Arc::new(GcpStore::new(&a, &spec, &settings(&google), account("default"), proofs)?))
    };
    let own = Box::new(Own("admins-own-token"));
    contract::holds(&contract::Subject {
        reader: reader(&a)?,
        admin: Arc::new(GcpStore::with_own_token(&a, &spec, &settings(&google), own)?),
        stranger: reader(&b)?,
        can: Can { pin: true, destroy: true, list: true, binary: true, set_again: true },
    })
    .await;
    // For another audience it is no token of this provider's.
    let audience = Proof::Token(Subject::Team { name: "default".into(), audience: Some("vault".into()) });
    let proofs = Arc::new(ApiTokens { client: cluster.admin()?, namespace: a.clone() });
    let store = GcpStore::new(&a, &spec, &settings(&google), audience, proofs)?;
    assert_eq!(at(store.sign_in().await).0, Stage::SignIn);
    Ok(())
}

#[tokio::test]
async fn the_example_reads_what_its_comments_write() {
    let review = |token: String, _| {
        let known = token.starts_with("token-of-daypass-store@");
        std::future::ready(known.then(|| "ml-team".to_owned())).boxed()
    };
    let google = Google::start(Arc::new(review)).await;
    google.add("daypass-ml-team_HF_TOKEN", VALUE);
    let example = store_of_example("gcp.yaml").gcp.unwrap();
    let proof = Proof::of(&example.sign_in).unwrap();
    let here = spec(&google);
    let example = GcpBackend {
        project: here.project,
        workload_identity_provider: here.workload_identity_provider,
        endpoint: here.endpoint,
        connection: here.connection,
        ..example
    };
    let store = GcpStore::new("ml-team", &example, &settings(&google), proof, Table::with(&[])).ok().unwrap();
    assert_eq!(get(&store, "HF_TOKEN", None).await, found(VALUE, "1"));
}

#[tokio::test]
async fn values_come_with_their_versions_in_the_order_asked() {
    let google = started().await;
    let bytes: Vec<u8> = (0..=255).collect();
    google.add(SECRET, &bytes);
    google.add("daypass-team-a-EMPTY", "");
    let store = store(&google);
    let query = |name: &str, version: Option<&str>| Query { name: name.into(), version: version.map(str::to_owned) };
    let queries = [query("API_KEY", None), query("MISSING", None), query("API_KEY", Some("1")), query("EMPTY", None)];
    let results: Vec<_> = store.get_many(&queries).await.into_iter().map(seen).collect();
    assert_eq!(results[0], found(&bytes, "2"));
    assert!(matches!(results[1], Err(StoreError::NotFound(_))), "{:?}", results[1]);
    assert_eq!(results[2], found(VALUE, "1"));
    assert_eq!(results[3], found("", "1"));
    let calls = google.take_calls();
    assert_eq!(calls.iter().filter(|call| call.path == "/v1/token").count(), 1, "one sign-in serves all: {calls:?}");
}

#[tokio::test]
async fn states_are_told_apart() {
    let google = started().await;
    google.add(SECRET, "second");
    google.set_state(SECRET, 2, "DISABLED");
    let store = store(&google);
    // The newest is what `latest` means, whatever its state: the older one does not come back.
    for (version, state, says) in
        [(None, "DISABLED", "disabled"), (Some("2"), "DISABLED", "disabled"), (None, "DESTROYED", "destroyed")]
    {
        google.set_state(SECRET, 2, state);
        let error = get(&store, "API_KEY", version).await.unwrap_err();
        assert!(matches!(&error, StoreError::NotFound(why) if why.contains(says)), "{error:?}");
    }
    assert_eq!(get(&store, "API_KEY", Some("1")).await, found(VALUE, "1"));
    for version in ["3", "0", "01", "latest", "../1", "1:destroy"] {
        assert!(matches!(get(&store, "API_KEY", Some(version)).await, Err(StoreError::NotFound(_))), "{version}");
    }
}

#[tokio::test]
async fn another_teams_secret_is_denied() {
    let google = started().await;
    google.add("daypass-team-b-API_KEY", VALUE);
    let spec = GcpBackend { name_template: Some("daypass-team-b-{name}".into()), ..spec(&google) };
    let store = store_with(&google, &spec, account("team-a"), Table::with(&[]));
    let error = get(&store, "API_KEY", None).await.unwrap_err();
    assert!(matches!(&error, StoreError::Denied(why) if why.contains("secretAccessor")), "{error:?}");
}

#[tokio::test]
async fn what_a_server_may_answer_becomes_what_it_means() {
    let google = started().await;
    let store = store(&google);
    let unavailable = |error: &StoreError| matches!(error, StoreError::Unavailable { stage: Stage::Answer, .. });
    let malformed = |error: &StoreError| matches!(error, StoreError::Malformed(_));
    let text = |text: &str| Fault::Text(text.replace('~', SERVER_TEXT));
    let cases: Vec<(Fault, Box<Is>)> = vec![
        (
            Fault::Status { status: 429, retry_after: Some(7), error: "" },
            Box::new(|error| *error == StoreError::Throttled { retry_after: Some(Duration::from_secs(7)) }),
        ),
        (Fault::status(429), Box::new(|error| *error == StoreError::Throttled { retry_after: None })),
        (Fault::status(500), Box::new(unavailable)),
        (Fault::status(503), Box::new(unavailable)),
        (Fault::Cut, Box::new(unavailable)),
        (Fault::Redirect("http://127.0.0.1:9/elsewhere".into()), Box::new(unavailable)),
        (Fault::error(403, "SERVICE_DISABLED"), Box::new(unavailable)),
        (Fault::status(403), Box::new(|error| matches!(error, StoreError::Denied(_)))),
        (Fault::status(404), Box::new(|error| matches!(error, StoreError::NotFound(_)))),
        (Fault::error(400, "FAILED_PRECONDITION"), Box::new(|error| matches!(error, StoreError::NotFound(_)))),
        (Fault::error(400, "INVALID_ARGUMENT"), Box::new(malformed)),
        (Fault::status(418), Box::new(malformed)),
        (Fault::WrongName, Box::new(malformed)),
        (text("<html>~</html>"), Box::new(malformed)),
        (text("{\"name\": \"projects/1/secrets/~"), Box::new(malformed)),
        (text(r#"{"error": {"code": 403, "message": "~", "status": "PERMISSION_DENIED"}}"#), Box::new(malformed)),
        (
            text(r#"{"name": "projects/1/secrets/daypass-team-a-API_KEY/versions/1", "payload": {}}"#),
            Box::new(malformed),
        ),
        (
            // Without a checksum.
            text(r#"{"name": "projects/1/secrets/daypass-team-a-API_KEY/versions/1", "payload": {"data": "dmFs"}}"#),
            Box::new(malformed),
        ),
        (
            text(
                r#"{"name": "projects/1/secrets/daypass-team-a-API_KEY/versions/1",
                    "payload": {"data": "~!", "dataCrc32c": "1"}}"#,
            ),
            Box::new(malformed),
        ),
        (Fault::Text("x".repeat(2 << 20)), Box::new(malformed)),
    ];
    for (index, (fault, is)) in cases.into_iter().enumerate() {
        google.fault(SECRET, fault, 1);
        let error = get(&store, "API_KEY", None).await.unwrap_err();
        assert!(is(&error), "case {index}: {error:?}");
        assert_eq!(get(&store, "API_KEY", None).await, found(VALUE, "1"), "after case {index}");
    }
    google.fault(SECRET, Fault::WrongVersion, 1);
    assert!(matches!(get(&store, "API_KEY", Some("1")).await, Err(StoreError::Malformed(_))));
}

#[tokio::test]
async fn a_value_that_does_not_fit_its_checksum_is_asked_for_once_more() {
    let google = started().await;
    let store = store(&google);
    google.fault(SECRET, Fault::WrongChecksum, 1);
    assert_eq!(get(&store, "API_KEY", None).await, found(VALUE, "1"));
    google.fault(SECRET, Fault::WrongChecksum, 2);
    let error = get(&store, "API_KEY", None).await.unwrap_err();
    assert!(matches!(&error, StoreError::Malformed(why) if why.contains("checksum")), "{error:?}");
    assert_eq!(get(&store, "API_KEY", None).await, found(VALUE, "1"));
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    let google = started().await;
    google.add("daypass-team-a-OTHER", VALUE);
    let store = store(&google);
    google.fault(SECRET, Fault::Hang, 1);
    let begin = Instant::now();
    let query = |name: &str| Query { name: name.into(), version: None };
    let mut results = store.get_many(&[query("API_KEY"), query("OTHER")]).await;
    assert_eq!(seen(results.pop().unwrap()), found(VALUE, "1"));
    assert_eq!(at(results.pop().unwrap().map(|_| ())).0, Stage::Answer);
    assert!(begin.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_then_the_stores_trouble() {
    let google = started().await;
    let store = store(&google);
    assert_eq!(get(&store, "API_KEY", None).await, found(VALUE, "1"));
    google.expire_tokens();
    google.take_calls();
    assert_eq!(get(&store, "API_KEY", None).await, found(VALUE, "1"));
    let paths: Vec<String> = google.take_calls().into_iter().map(|call| call.path).collect();
    assert_eq!(paths.iter().filter(|path| *path == "/v1/token").count(), 1, "{paths:?}");
    google.fault(SECRET, Fault::error(401, "UNAUTHENTICATED"), 2);
    assert_eq!(at(get(&store, "API_KEY", None).await).0, Stage::SignIn);
}

#[tokio::test]
async fn a_token_is_traded_and_another_account_taken_on() {
    let google = started().await;
    let other = |name: &str| format!("{name}@{PROJECT}.iam.gserviceaccount.com");
    let spec = |impersonate: Option<String>| GcpBackend { impersonate, ..spec(&google) };
    let as_itself = store_with(&google, &spec(Some(other("team-a"))), account("team-a"), Table::with(&[]));
    as_itself.sign_in().await.unwrap();
    assert_eq!(get(&as_itself, "API_KEY", None).await, found(VALUE, "1"));

    let as_other = store_with(&google, &spec(Some(other("team-b"))), account("team-a"), Table::with(&[]));
    let (stage, why) = at(as_other.sign_in().await);
    assert!(stage == Stage::SignIn && why.contains("workloadIdentityUser"), "{why}");

    let mut own = spec(None);
    own.workload_identity_provider = Some(PROVIDER.replace("cluster", "elsewhere"));
    let (stage, why) = at(store_with(&google, &own, account("team-a"), Table::with(&[])).sign_in().await);
    assert!(stage == Stage::SignIn && why.contains("allowed audiences"), "{why}");
    for (provider, says) in [(None, "is not set"), (Some("kubernetes"), "is none")] {
        own.workload_identity_provider = provider.map(str::to_owned);
        let (stage, why) = at(store_with(&google, &own, account("team-a"), Table::with(&[])).sign_in().await);
        assert!(stage == Stage::SignIn && why.contains(says), "{why}");
    }
    let audience = Proof::Token(Subject::Team { name: "team-a".into(), audience: Some("another".into()) });
    assert_eq!(at(store_with(&google, &spec(None), audience, Table::with(&[])).sign_in().await).0, Stage::SignIn);
}

#[tokio::test]
async fn trouble_at_the_exchange_is_the_sign_ins() {
    let google = started().await;
    for fault in [
        Fault::status(500),
        Fault::status(403),
        Fault::Cut,
        Fault::Text("<html>".into()),
        Fault::Text(format!(r#"{{"access_token": null, "error": "{SERVER_TEXT}"}}"#)),
        Fault::Redirect(google.address.clone()),
    ] {
        google.fault("sts", fault, 1);
        assert_eq!(at(get(&store(&google), "API_KEY", None).await).0, Stage::SignIn);
    }
    google.fault("sts", Fault::Status { status: 429, retry_after: Some(3), error: "" }, 1);
    let throttled = StoreError::Throttled { retry_after: Some(Duration::from_secs(3)) };
    assert_eq!(get(&store(&google), "API_KEY", None).await, Err(throttled));
    // A life that no clock holds.
    let endless = format!(r#"{{"access_token": "{}", "expires_in": {}}}"#, google.issue("team-a"), u64::MAX);
    google.fault("sts", Fault::Text(endless), 1);
    assert_eq!(get(&store(&google), "API_KEY", None).await, found(VALUE, "1"));
}

#[tokio::test]
async fn a_key_file_signs_in() {
    let google = started().await;
    let signs = |file: &str| {
        let source = SecretSource { id: None, secret: "GOOGLE_KEY".into() };
        store_with(&google, &spec(&google), Proof::Secrets(source), Table::with(&[("GOOGLE_KEY", file)]))
    };
    let email = format!("team-a@{PROJECT}.iam.gserviceaccount.com");
    assert_eq!(get(&signs(&key_file(&email)), "API_KEY", None).await, found(VALUE, "1"));
    google.take_calls();
    let elsewhere = key_file(&email).replace("oauth2.googleapis.com", "evil.example.com");
    let (stage, why) = at(get(&signs(&elsewhere), "API_KEY", None).await);
    assert!(stage == Stage::SignIn && why.contains("token_uri"), "{why}");
    assert!(google.take_calls().is_empty(), "nothing was asked");
    let (_, why) = at(get(&signs(&key_file(&email).replace("key-1", "key-2")), "API_KEY", None).await);
    assert!(why.contains("refuses the key file"), "{why}");
    let with_id = SecretSource { id: Some("ID".into()), secret: "GOOGLE_KEY".into() };
    let store = store_with(&google, &spec(&google), Proof::Secrets(with_id), Table::with(&[]));
    assert!(at(store.sign_in().await).1.contains("`secret` alone"));
}

#[tokio::test]
async fn lists_are_read_to_their_end_and_hold_the_teams_names_only() {
    let google = started().await;
    for name in ["B", "C", "D", "E_2", "2CAPTCHA"] {
        google.add(&format!("daypass-team-a-{name}"), VALUE);
        google.add(&format!("daypass-team-b-{name}"), VALUE);
        // A team whose name goes on.
        google.add(&format!("daypass-team-a-x-{name}"), VALUE);
        google.add(&format!("other-{name}"), VALUE);
    }
    let names: Vec<String> = store(&google).list().await.unwrap().into_iter().map(|listed| listed.name).collect();
    assert_eq!(names, ["2CAPTCHA", "API_KEY", "B", "C", "D", "E_2"]);
    google.fault("list", Fault::status(403), 1);
    assert!(matches!(store(&google).list().await, Err(StoreError::Denied(_))));
    google.fault("list", Fault::Text(r#"{"secrets": [{"name": "elsewhere"}]}"#.into()), 1);
    assert!(matches!(store(&google).list().await, Err(StoreError::Malformed(_))));
    // A list that never ends is left.
    google.fault("list", Fault::Text(r#"{"secrets": [], "nextPageToken": "1"}"#.into()), usize::MAX);
    assert!(matches!(store(&google).list().await, Err(StoreError::Malformed(_))));
}

#[tokio::test]
async fn a_secret_is_set_rotated_and_deleted() {
    let google = Google::start(table_review()).await;
    let (admin, store) = (admin(&google), store(&google));
    assert_eq!(admin.put("API_KEY", &value(VALUE), Write::New).await.unwrap(), "1");
    let taken = admin.put("API_KEY", &value("other"), Write::New).await.unwrap_err();
    assert!(matches!(taken, StoreError::Conflict(_)), "{taken:?}");
    assert_eq!(get(&store, "API_KEY", None).await, found(VALUE, "1"));
    assert_eq!(admin.put("API_KEY", &value([0, 255]), Write::Keep).await.unwrap(), "2");
    assert_eq!(get(&store, "API_KEY", None).await, found([0, 255], "2"));
    assert_eq!(get(&store, "API_KEY", Some("1")).await, found(VALUE, "1"));
    google.set_state(SECRET, 1, "DISABLED");
    assert_eq!(admin.put("API_KEY", &value("third"), Write::Replace).await.unwrap(), "3");
    assert_eq!(google.states(SECRET), ["DESTROYED", "DESTROYED", "ENABLED"]);
    assert!(matches!(get(&store, "API_KEY", Some("2")).await, Err(StoreError::NotFound(_))));
    google.set_state(SECRET, 3, "DISABLED");
    for version in 4..=5 {
        assert_eq!(admin.put("API_KEY", &value("x"), Write::Keep).await.unwrap(), version.to_string());
    }
    let history = admin.history("API_KEY").await.unwrap();
    let history: Vec<_> = history.iter().map(|info| (info.version.as_str(), info.state.as_str())).collect();
    let expected = [("5", "current"), ("4", "enabled"), ("3", "disabled"), ("2", "destroyed"), ("1", "destroyed")];
    assert_eq!(history, expected);
    admin.delete("API_KEY").await.unwrap();
    for result in [
        get(&store, "API_KEY", None).await.map(|_| ()),
        admin.delete("API_KEY").await,
        admin.put("API_KEY", &value("x"), Write::Keep).await.map(|_| ()),
        admin.put("API_KEY", &value("x"), Write::Replace).await.map(|_| ()),
        admin.history("API_KEY").await.map(|_| ()),
    ] {
        assert!(matches!(result, Err(StoreError::NotFound(_))), "{result:?}");
    }
}

#[tokio::test]
async fn what_was_cut_off_or_destroyed_can_be_set_anew() {
    let google = Google::start(table_review()).await;
    let admin = admin(&google);
    google.add_empty(SECRET);
    assert_eq!(admin.put("API_KEY", &value(VALUE), Write::New).await.unwrap(), "1");
    google.set_state(SECRET, 1, "DESTROYED");
    assert_eq!(admin.put("API_KEY", &value(VALUE), Write::New).await.unwrap(), "2");
    google.set_state(SECRET, 2, "DISABLED");
    assert!(matches!(admin.put("API_KEY", &value(VALUE), Write::New).await, Err(StoreError::Conflict(_))));
}

#[tokio::test]
async fn a_write_that_is_refused_says_what_stands() {
    let google = started().await;
    let large = value(vec![b'x'; 64 * 1024 + 1]);
    assert!(matches!(admin(&google).put("BIG", &large, Write::New).await, Err(StoreError::Unsupported(_))));
    let store = store(&google);
    google.fault(SECRET, Fault::status(403), 1);
    let error = store.put("API_KEY", &value("x"), Write::Keep).await.unwrap_err();
    clean(&error);
    assert!(matches!(&error, StoreError::Denied(why) if why.contains("roles/secretmanager.admin")), "{error:?}");
}

#[tokio::test]
async fn no_name_steers_a_call() {
    let google = started().await;
    let admin = admin(&google);
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
    // Longer than Google takes.
    let spec = GcpBackend { name_template: Some(format!("{}{{name}}", "x".repeat(150))), ..spec(&google) };
    let own = Box::new(Own("admins-own-token"));
    let long = GcpStore::with_own_token("team-a", &spec, &settings(&google), own).ok().unwrap();
    let error = get(&long, &"A".repeat(128), None).await.unwrap_err();
    assert!(matches!(&error, StoreError::NotFound(why) if why.contains("255")), "{error:?}");
    assert!(google.take_calls().is_empty(), "nothing was asked");
}
