//! AWS Secrets Manager: moto where all goes well, a server of our own where it does not.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use daypass::api::{AwsBackend, Connection, SecretSource};
use daypass::secret::SecretValue;
use daypass::stores::aws::AwsStore;
use daypass::stores::settings::{Endpoints, StoreSettings};
use daypass::stores::sign_in::{Proof, Proofs, Subject};
use daypass::stores::{Fetched, Query, SecretStore, Stage, StoreError, Write};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::Deserialize as _;
use serde_json::json;
use tracing::instrument::WithSubscriber as _;

use crate::contract::{Can, Subject as Contract, holds};
use crate::support::aws_faults::{ERROR_TEXT, Fault, Faults, VERSION};
use crate::support::moto::Moto;

const ROLE: &str = "arn:aws:iam::123456789012:role/team";
const TOKEN: &str = "the-token-of-the-team";
/// Stands in every value, so that it can be looked for where none may be.
const CANARY: &str = "canary-value";

fn settings(sts: &str) -> StoreSettings {
    StoreSettings {
        allow_local_addresses: true,
        endpoints: Endpoints { aws_sts: sts.into(), ..Endpoints::default() },
        ..StoreSettings::default()
    }
}

fn spec(endpoint: &str) -> AwsBackend {
    AwsBackend {
        region: "us-east-1".into(),
        endpoint: Some(endpoint.into()),
        connection: Some(Connection { insecure: true, ..Connection::default() }),
        ..AwsBackend::default()
    }
}

/// Whose credentials these are does not matter to moto.
fn own() -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new("OWNKEY", "own-secret", None, None, "test"))
}

/// A team of moto's, in a region of its own.
struct AtMoto {
    moto: Arc<Moto>,
    region: &'static str,
}

impl AtMoto {
    async fn new() -> Self {
        Self { moto: Moto::shared().await, region: Moto::region() }
    }

    fn spec(&self) -> AwsBackend {
        AwsBackend { region: self.region.into(), ..spec(self.moto.address()) }
    }

    fn store(&self, team: &str) -> AwsStore {
        AwsStore::with_credentials(team, &self.spec(), &settings(self.moto.address()), own()).unwrap()
    }

    async fn call(&self, action: &str, body: serde_json::Value) {
        self.moto.call(self.region, action, &body).await;
    }
}

fn store(endpoint: &str, team: &str) -> AwsStore {
    AwsStore::with_credentials(team, &spec(endpoint), &settings(endpoint), own()).unwrap()
}

/// Proofs of a team with these tokens and secrets.
struct TestProofs {
    token: Mutex<String>,
    asked: AtomicUsize,
}

impl TestProofs {
    fn new(token: &str) -> Arc<Self> {
        Arc::new(Self { token: Mutex::new(token.into()), asked: AtomicUsize::new(0) })
    }
}

impl Proofs for TestProofs {
    fn token<'a>(&'a self, subject: &'a Subject, audience: &'a str) -> BoxFuture<'a, Result<SecretValue, StoreError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        assert_eq!(*subject, Subject::Team { name: "daypass-store".into(), audience: None });
        assert_eq!(audience, "sts.amazonaws.com");
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        std::future::ready(Ok(SecretValue::new(token.into_bytes()))).boxed()
    }

    fn secret<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<SecretValue, StoreError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        // A file's end is not part of a key.
        std::future::ready(Ok(SecretValue::new(format!("TEAM{name}\n").into_bytes()))).boxed()
    }
}

fn by_token() -> Proof {
    Proof::Token(Subject::Team { name: "daypass-store".into(), audience: None })
}

fn by_keys(id: Option<&str>) -> Proof {
    Proof::Secrets(SecretSource { id: id.map(Into::into), secret: "SECRET".into() })
}

fn signing_in(
    endpoint: &str,
    role: Option<&str>,
    proof: Proof,
    proofs: Arc<TestProofs>,
) -> Result<AwsStore, StoreError> {
    let spec = AwsBackend { role_arn: role.map(Into::into), ..spec(endpoint) };
    AwsStore::new("a-team", &spec, &settings(endpoint), proof, proofs)
}

fn query(name: &str) -> Query {
    Query { name: name.into(), version: None }
}

fn pin(name: &str, version: &str) -> Query {
    Query { name: name.into(), version: Some(version.into()) }
}

async fn get(store: &dyn SecretStore, query: Query) -> Result<Fetched, StoreError> {
    store.get_many(&[query]).await.pop().unwrap()
}

async fn text(store: &dyn SecretStore, query: Query) -> String {
    String::from_utf8(get(store, query).await.unwrap().value.expose().to_vec()).unwrap()
}

async fn error(store: &dyn SecretStore, query: Query) -> StoreError {
    let error = get(store, query).await.err().unwrap();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(ERROR_TEXT) && !shown.contains(CANARY), "{shown}");
    error
}

async fn put(store: &dyn SecretStore, name: &str, value: &str, write: Write) -> Result<String, StoreError> {
    store.put(name, &SecretValue::new(value.as_bytes().to_vec()), write).await
}

fn is_missing(error: &StoreError, why: &str) -> bool {
    matches!(error, StoreError::NotFound(text) if text.contains(why))
}

fn is_sign_in(error: &StoreError, why: &str) -> bool {
    matches!(error, StoreError::Unavailable { stage: Stage::SignIn, why: text } if text.contains(why))
}

#[tokio::test]
async fn the_contract_holds() {
    let moto = AtMoto::new().await;
    // moto lets everybody do everything, so a stranger asks a server that does not.
    let strict = Faults::start().await;
    strict.fail("GetSecretValue", "", Fault::Code("AccessDeniedException", 400));
    let spec = AwsBackend { role_arn: Some(ROLE.into()), ..moto.spec() };
    let at_moto = settings(moto.moto.address());
    holds(&Contract {
        reader: Arc::new(AwsStore::new("a-team", &spec, &at_moto, by_token(), TestProofs::new(TOKEN)).unwrap()),
        admin: Arc::new(moto.store("a-team")),
        stranger: Arc::new(store(strict.address(), "a-team")),
        can: Can { pin: true, destroy: true, list: true, binary: true, set_again: true },
    })
    .await;
}

/// The store of the example, but for the address of the server.
#[tokio::test]
async fn the_example_gives_its_value() {
    let text = include_str!("../../examples/stores/aws.yaml");
    let found = serde_yaml::Deserializer::from_str(text)
        .map(|document| serde_yaml::Value::deserialize(document).unwrap())
        .find(|document| document["kind"] == "TeamSecretStore")
        .unwrap();
    let object: daypass::api::TeamSecretStore = serde_yaml::from_value(found).unwrap();
    let faults = Faults::start().await;
    faults.review(|token| token == TOKEN);
    faults.secret("daypass/ml-team/HF_TOKEN", CANARY);
    let own = spec(faults.address());
    let spec = AwsBackend { endpoint: own.endpoint, connection: own.connection, ..object.spec.aws.unwrap() };
    let proof = Proof::of(&spec.sign_in).unwrap();
    let proofs = TestProofs::new(TOKEN);
    let store = AwsStore::new("ml-team", &spec, &settings(faults.address()), proof, proofs).unwrap();
    assert_eq!(text_of(&store, "HF_TOKEN").await, CANARY);
}

async fn text_of(store: &dyn SecretStore, name: &str) -> String {
    text(store, query(name)).await
}

#[tokio::test]
async fn values_are_written_kept_and_replaced() {
    let moto = AtMoto::new().await;
    let (store, other) = (moto.store("a-team"), moto.store("b-team"));

    assert!(is_missing(&error(&store, query("KEY")).await, "no secret"));
    assert!(matches!(put(&store, "KEY", "x", Write::Keep).await, Err(StoreError::NotFound(_))));
    let first = put(&store, "KEY", "one", Write::New).await.unwrap();
    assert!(matches!(put(&store, "KEY", "x", Write::New).await, Err(StoreError::Conflict(_))));
    let second = put(&store, "KEY", "two", Write::Keep).await.unwrap();
    let third = put(&store, "KEY", "three", Write::Keep).await.unwrap();

    let current = get(&store, query("KEY")).await.unwrap();
    assert_eq!((current.value.expose(), current.version.as_str()), (b"three".as_slice(), third.as_str()));
    // What was kept is there for pins, however long ago that was.
    for (version, value) in [(&first, "one"), (&second, "two"), (&third, "three")] {
        let pinned = get(&store, pin("KEY", version)).await.unwrap();
        assert_eq!((pinned.value.expose(), &pinned.version), (value.as_bytes(), version));
    }

    let fourth = put(&store, "KEY", "four", Write::Replace).await.unwrap();
    assert_eq!(text(&store, query("KEY")).await, "four");
    assert_eq!(text(&store, pin("KEY", &fourth)).await, "four");
    for version in [&first, &second, &third] {
        assert!(is_missing(&error(&store, pin("KEY", version)).await, "deprecated"));
    }
    assert!(is_missing(&error(&store, pin("KEY", VERSION)).await, ""));
    assert!(is_missing(&error(&store, pin("KEY", "3")).await, "32 to 64"));

    let history = store.history("KEY").await.unwrap();
    assert_eq!(
        (history.len(), history[0].version.as_str(), history[0].state.as_str()),
        (4, fourth.as_str(), "current")
    );
    assert!(history[1..].iter().all(|version| version.state == "deprecated"), "{history:?}");
    assert!(history.iter().all(|version| version.created.is_some()));

    // Another team's name is another name.
    assert!(matches!(error(&other, query("KEY")).await, StoreError::NotFound(_)));
    assert!(matches!(other.history("KEY").await, Err(StoreError::NotFound(_))));
}

#[tokio::test]
async fn bytes_stay_bytes() {
    let moto = AtMoto::new().await;
    let store = moto.store("a-team");
    let bytes = [0, 159, 146, 150, 255, b'\n'];
    store.put("BLOB", &SecretValue::new(bytes.to_vec()), Write::New).await.unwrap();
    put(&store, "TEXT", "späße\n", Write::New).await.unwrap();
    assert_eq!(get(&store, query("BLOB")).await.unwrap().value.expose(), bytes);
    assert_eq!(text(&store, query("TEXT")).await, "späße\n");
    // By the batch call too.
    let both = store.get_many(&[query("BLOB"), query("TEXT")]).await;
    let both: Vec<_> = both.into_iter().map(Result::unwrap).collect();
    assert_eq!((both[0].value.expose(), both[1].value.expose()), (bytes.as_slice(), "späße\n".as_bytes()));
    for wrong in [Vec::new(), vec![b'x'; 65_537]] {
        let refused = store.put("WRONG", &SecretValue::new(wrong), Write::New).await;
        assert!(matches!(refused, Err(StoreError::Unsupported(_))));
    }
}

#[tokio::test]
async fn what_is_deleted_is_gone() {
    let moto = AtMoto::new().await;
    let store = moto.store("a-team");
    put(&store, "KEY", "one", Write::New).await.unwrap();
    put(&store, "OTHER", "other", Write::New).await.unwrap();

    // As AWS' own console deletes: for 30 days it can be restored.
    moto.call("DeleteSecret", json!({"SecretId": "daypass/a-team/KEY"})).await;
    assert!(is_missing(&error(&store, query("KEY")).await, "scheduled for deletion"));
    let both = store.get_many(&[query("KEY"), query("OTHER")]).await;
    assert!(matches!(both[0], Err(StoreError::NotFound(_))) && both[1].is_ok());
    let conflict = put(&store, "KEY", "two", Write::New).await;
    assert!(matches!(conflict, Err(StoreError::Conflict(why)) if why.contains("scheduled for deletion")));
    assert!(matches!(put(&store, "KEY", "two", Write::Keep).await, Err(StoreError::NotFound(_))));
    let names: Vec<_> = store.list().await.unwrap().into_iter().map(|listed| listed.name).collect();
    assert_eq!(names, ["OTHER"]);

    store.delete("KEY").await.unwrap();
    assert!(matches!(store.delete("KEY").await, Err(StoreError::NotFound(_))));
    put(&store, "KEY", "three", Write::New).await.unwrap();
    assert_eq!(text(&store, query("KEY")).await, "three");
}

#[tokio::test]
async fn many_are_read_in_their_order() {
    let moto = AtMoto::new().await;
    let store = moto.store("a-team");
    let mut queries = Vec::new();
    for number in 0..25 {
        // Every seventh is not there.
        if number % 7 != 3 {
            let id = format!("daypass/a-team/KEY_{number}");
            moto.call("CreateSecret", json!({"Name": id, "SecretString": format!("value {number}")})).await;
        }
        queries.push(query(&format!("KEY_{number}")));
    }
    queries.push(query("KEY_0"));
    queries.push(query("../KEY_0"));
    let answers = store.get_many(&queries).await;
    assert_eq!(answers.len(), 27);
    for (number, answer) in answers.iter().enumerate() {
        match answer {
            Ok(found) => {
                let expected = if number == 25 { "value 0".into() } else { format!("value {number}") };
                assert_eq!(found.value.expose(), expected.as_bytes());
            }
            Err(error) => {
                assert!(number % 7 == 3 || number == 26, "{number}: {error}");
                assert!(matches!(error, StoreError::NotFound(_)), "{number}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn a_rotation_shows_when_it_has_finished() {
    let moto = AtMoto::new().await;
    let store = moto.store("a-team");
    let id = "daypass/a-team/KEY";
    let first = put(&store, "KEY", "one", Write::New).await.unwrap();
    put(&store, "OTHER", "other", Write::New).await.unwrap();
    let pending = json!({"SecretId": id, "SecretString": "two", "VersionStages": ["AWSPENDING"],
        "ClientRequestToken": VERSION});
    moto.call("PutSecretValue", pending).await;
    assert_eq!(text(&store, query("KEY")).await, "one");
    assert!(is_missing(&error(&store, pin("KEY", VERSION)).await, "pending"));
    let states: Vec<_> = store.history("KEY").await.unwrap().into_iter().map(|version| version.state).collect();
    assert!(states.contains(&"current".to_owned()) && states.contains(&"pending".to_owned()), "{states:?}");

    let promoted = json!({"SecretId": id, "VersionStage": "AWSCURRENT", "MoveToVersionId": VERSION,
        "RemoveFromVersionId": first});
    moto.call("UpdateSecretVersionStage", promoted).await;
    assert_eq!(text(&store, query("KEY")).await, "two");
    // The batch call of some servers lags behind, or fails over one such secret.
    let both = store.get_many(&[query("OTHER"), query("KEY")]).await;
    let both: Vec<_> = both.into_iter().map(Result::unwrap).collect();
    assert_eq!((both[0].value.expose(), both[1].value.expose()), (b"other".as_slice(), b"two".as_slice()));
    assert_eq!(both[1].version, VERSION);

    let never = "daypass/a-team/EMPTY";
    moto.call("CreateSecret", json!({"Name": never})).await;
    assert!(is_missing(&error(&store, query("EMPTY")).await, "EMPTY"));
}

#[tokio::test]
async fn a_list_has_the_teams_own_names_from_all_pages() {
    let moto = AtMoto::new().await;
    let store = moto.store("a-team");
    for number in 0..120 {
        let id = format!("daypass/a-team/KEY_{number}");
        moto.call("CreateSecret", json!({"Name": id, "SecretString": "x"})).await;
    }
    for other in ["daypass/a-team-b/KEY", "daypass/a-team/folder/KEY", "x/daypass/a-team/KEY"] {
        moto.call("CreateSecret", json!({"Name": other, "SecretString": "x"})).await;
    }
    let listed = store.list().await.unwrap();
    assert_eq!(listed.len(), 120);
    assert!(listed.iter().all(|listed| listed.name.starts_with("KEY_")));
    assert!(listed.is_sorted_by(|a, b| a.name < b.name));
}

#[tokio::test]
async fn a_serviceaccounts_token_is_traded_at_motos_sts() {
    let moto = AtMoto::new().await;
    put(&moto.store("a-team"), "KEY", "one", Write::New).await.unwrap();
    let spec = AwsBackend { role_arn: Some(ROLE.into()), ..moto.spec() };
    let proofs = TestProofs::new(TOKEN);
    let reader = AwsStore::new("a-team", &spec, &settings(moto.moto.address()), by_token(), proofs.clone()).unwrap();
    reader.sign_in().await.unwrap();
    assert_eq!(text(&reader, query("KEY")).await, "one");
    assert_eq!(proofs.asked.load(Ordering::Relaxed), 1);
}

/// A server of our own with two secrets of `a-team`.
async fn faulty() -> Faults {
    let faults = Faults::start().await;
    for name in ["A", "B"] {
        faults.secret(&format!("daypass/a-team/{name}"), &format!("{CANARY} {name}"));
    }
    faults
}

#[tokio::test]
async fn every_refusal_is_told_by_its_code() {
    let faults = faulty().await;
    let store = store(faults.address(), "a-team");
    let table = [
        // A status never decides where there is a code: AWS uses 400 for nearly all.
        ("ResourceNotFoundException", 400, "NotFound"),
        ("ResourceNotFoundException", 404, "NotFound"),
        ("InvalidRequestException", 400, "NotFound"),
        ("AccessDeniedException", 400, "Denied"),
        ("AccessDeniedException", 500, "Denied"),
        ("DecryptionFailure", 400, "Denied"),
        ("ThrottlingException", 400, "Throttled"),
        ("ThrottlingException", 503, "Throttled"),
        ("InternalServiceError", 500, "Unavailable"),
        ("InternalServiceError", 400, "Unavailable"),
        ("InvalidParameterException", 400, "Malformed"),
        ("SomethingNewException", 400, "Malformed"),
        ("SomethingNewException", 503, "Unavailable"),
    ];
    for (code, status, expected) in table {
        faults.fail("GetSecretValue", "", Fault::Code(code, status));
        let error = error(&store, query("A")).await;
        assert!(format!("{error:?}").starts_with(expected), "{code} {status}: {error:?}");
        // One question each: trying again is not the SDK's.
        assert_eq!(
            faults.count("GetSecretValue"),
            1 + table.iter().position(|row| *row == (code, status, expected)).unwrap()
        );
    }
    faults.fail("GetSecretValue", "", Fault::CodeAfter("ThrottlingException", 400, 7));
    assert_eq!(error(&store, query("A")).await, StoreError::Throttled { retry_after: Some(Duration::from_secs(7)) });
    for (status, expected) in [(429, "Throttled"), (502, "Unavailable"), (302, "Unavailable"), (403, "Malformed")] {
        faults.fail("GetSecretValue", "", Fault::Status(status));
        let error = error(&store, query("A")).await;
        assert!(format!("{error:?}").starts_with(expected), "{status}: {error:?}");
    }
    faults.heal();
    assert_eq!(text(&store, query("A")).await, format!("{CANARY} A"));
}

#[tokio::test]
async fn an_answer_that_lies_gives_no_value() {
    let faults = faulty().await;
    let store = store(faults.address(), "a-team");
    for (fault, expected) in [
        (Fault::CutJson, "Malformed"),
        (Fault::Html, "Malformed"),
        (Fault::ErrorAsSuccess, "Malformed"),
        (Fault::OtherName, "Malformed"),
        (Fault::Huge, "Malformed"),
        (Fault::BreakOff, "Unavailable"),
    ] {
        faults.fail("GetSecretValue", "", fault.clone());
        // Alone, and behind a batch that is as bad.
        faults.fail("BatchGetSecretValue", "", fault.clone());
        let one = error(&store, query("A")).await;
        assert!(format!("{one:?}").starts_with(expected), "{fault:?}: {one:?}");
        for answer in store.get_many(&[query("A"), query("B")]).await {
            let error = answer.err().unwrap();
            assert!(format!("{error:?}").starts_with(expected), "{fault:?}: {error:?}");
        }
    }
    faults.fail("GetSecretValue", "", Fault::OtherVersion);
    assert!(matches!(error(&store, pin("A", VERSION)).await, StoreError::Malformed(_)));
}

#[tokio::test]
async fn a_server_that_hangs_is_left_in_time() {
    let faults = faulty().await;
    let store = store(faults.address(), "a-team");
    faults.fail("GetSecretValue", "", Fault::Hang);
    let started = Instant::now();
    // Nothing else happens, so the clock runs to the deadline at once.
    tokio::time::pause();
    let error = error(&store, query("A")).await;
    assert!(matches!(error, StoreError::Unavailable { stage: Stage::Answer, .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn nobody_there_is_told_as_such() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = error(&store(&address, "a-team"), query("A")).await;
    assert!(
        matches!(&error, StoreError::Unavailable { stage: Stage::Address, why } if why.contains("refuses")),
        "{error:?}"
    );
}

#[tokio::test]
async fn one_of_a_batch_does_not_spoil_the_others() {
    let faults = faulty().await;
    for name in ["C", "D", "E", "F", "G"] {
        faults.secret(&format!("daypass/a-team/{name}"), &format!("{CANARY} {name}"));
    }
    let store = store(faults.address(), "a-team");
    let item = |name: &str| format!("daypass/a-team/{name}");
    for (name, code) in [
        ("B", "AccessDeniedException"),
        ("C", "InvalidRequestException"),
        ("D", "DecryptionFailure"),
        ("E", "InternalServiceError"),
    ] {
        faults.fail("BatchGetSecretValue", &item(name), Fault::Code(code, 400));
    }
    // Two that the answer leaves out, or has under another name: they are asked for alone.
    faults.fail("BatchGetSecretValue", &item("F"), Fault::Html);
    faults.fail("BatchGetSecretValue", &item("G"), Fault::OtherName);
    let names = ["A", "B", "C", "D", "E", "F", "G", "MISSING"];
    let answers = store.get_many(&names.map(query)).await;
    let told: Vec<String> = answers
        .iter()
        .map(|answer| match answer {
            Ok(found) => String::from_utf8_lossy(found.value.expose()).into_owned(),
            Err(error) => {
                let text = format!("{error:?}");
                assert!(!text.contains(ERROR_TEXT) && !text.contains(CANARY), "{text}");
                text.split(['(', ' ']).next().unwrap_or_default().to_owned()
            }
        })
        .collect();
    let value = |name: &str| format!("{CANARY} {name}");
    assert_eq!(
        told,
        [&value("A"), "Denied", "NotFound", "Denied", "Unavailable", &value("F"), &value("G"), "NotFound"]
    );
    assert_eq!((faults.count("BatchGetSecretValue"), faults.count("GetSecretValue")), (1, 2));
}

#[tokio::test]
async fn a_batch_takes_twenty_and_falls_back_where_it_is_refused() {
    let faults = faulty().await;
    let names: Vec<String> = (0..25).map(|number| format!("KEY_{number}")).collect();
    for name in &names {
        faults.secret(&format!("daypass/a-team/{name}"), name);
    }
    let store = store(faults.address(), "a-team");
    let queries: Vec<Query> = names.iter().map(|name| query(name)).collect();
    let all = async || {
        let answers = store.get_many(&queries).await;
        answers
            .into_iter()
            .map(|answer| answer.map(|found| String::from_utf8_lossy(found.value.expose()).into_owned()))
            .collect::<Result<Vec<_>, _>>()
    };
    assert_eq!(all().await.unwrap(), names);
    assert_eq!((faults.count("BatchGetSecretValue"), faults.count("GetSecretValue")), (2, 0));
    for seen in faults.seen() {
        let asked: serde_json::Value = serde_json::from_str(&seen.body).unwrap();
        assert!(asked["SecretIdList"].as_array().unwrap().len() <= 20);
    }

    // More of the same would not help a server that has too much to do.
    faults.fail("BatchGetSecretValue", "", Fault::Code("ThrottlingException", 400));
    assert_eq!(all().await, Err(StoreError::Throttled { retry_after: None }));
    assert_eq!(faults.count("GetSecretValue"), 0);

    // A right that is not granted: one try, and not again with the next question.
    faults.fail("BatchGetSecretValue", "", Fault::Code("AccessDeniedException", 400));
    let before = faults.count("BatchGetSecretValue");
    assert_eq!(all().await.unwrap(), names);
    assert_eq!(all().await.unwrap(), names);
    assert_eq!((faults.count("BatchGetSecretValue") - before, faults.count("GetSecretValue")), (1, 50));
    // One alone is never asked for by a batch.
    faults.heal();
    assert_eq!(text(&store, query("KEY_1")).await, "KEY_1");
    assert_eq!(faults.count("GetSecretValue"), 51);
}

#[tokio::test]
async fn names_that_are_none_never_reach_the_wire() {
    let faults = faulty().await;
    let store = store(faults.address(), "a-team");
    let long = "A".repeat(300);
    let names =
        ["", "..", "../A", "%2e%2e%2fA", "A?x", "A#x", "A\0", "A\n", "A B", "a-team/A", "\u{0410}", "arn:aws:x", &long];
    let queries: Vec<Query> = names.iter().map(|name| query(name)).collect();
    for answer in store.get_many(&queries).await {
        assert!(matches!(answer, Err(StoreError::NotFound(_))));
    }
    for name in names {
        assert!(matches!(error(&store, pin(name, VERSION)).await, StoreError::NotFound(_)));
        assert!(put(&store, name, "x", Write::New).await.is_err());
        assert!(store.delete(name).await.is_err() && store.history(name).await.is_err());
    }
    for version in ["", "AWSPREVIOUS", "1", "../x", &format!("{VERSION}\n"), &long] {
        assert!(matches!(error(&store, pin("A", version)).await, StoreError::NotFound(_)));
    }
    assert_eq!(faults.seen().len(), 0);
}

#[tokio::test]
async fn the_right_token_gets_credentials_and_a_wrong_one_does_not() {
    let faults = faulty().await;
    faults.review(|token| token == TOKEN);
    let proofs = TestProofs::new(TOKEN);
    let store = signing_in(faults.address(), Some(ROLE), by_token(), proofs.clone()).unwrap();
    for _ in 0..3 {
        assert_eq!(text(&store, query("A")).await, format!("{CANARY} A"));
    }
    // One token, one trade, and nothing of the token but in that trade's body.
    assert_eq!((proofs.asked.load(Ordering::Relaxed), faults.count("AssumeRoleWithWebIdentity")), (1, 1));
    let trade = &faults.seen()[0];
    assert!(trade.key.is_empty(), "it is not signed");
    assert!(trade.body.contains("RoleSessionName=daypass-a-team") && trade.body.contains("DurationSeconds=900"));
    assert!(!trade.uri.contains(TOKEN));
    assert_eq!(faults.seen()[1].key, "ISSUED1");

    let wrong = signing_in(faults.address(), Some(ROLE), by_token(), TestProofs::new("another")).unwrap();
    let error = error(&wrong, query("A")).await;
    assert!(is_sign_in(&error, "trust policy"), "{error:?}");
    assert!(!error.to_string().contains("another"));
    assert!(is_sign_in(&wrong.sign_in().await.unwrap_err(), "trust policy"));
    for (code, why) in [
        ("AccessDenied", "does not give the role"),
        ("ExpiredTokenException", "refuses the access key or token"),
        ("IDPRejectedClaim", "rejects"),
        ("IDPCommunicationError", "discovery document"),
        ("RegionDisabledException", "region"),
        ("ValidationError", "ARN"),
        ("SomethingNew", "not one of AWS STS'"),
    ] {
        faults.sts_says(code);
        // A store anew: a failure speaks for those that follow at once.
        let wrong = signing_in(faults.address(), Some(ROLE), by_token(), TestProofs::new("another")).unwrap();
        let error = wrong.sign_in().await.unwrap_err();
        assert!(is_sign_in(&error, why), "{code}: {error:?}");
        assert!(!format!("{error:?}").contains(ERROR_TEXT));
    }
    faults.sts_says("Throttling");
    let wrong = signing_in(faults.address(), Some(ROLE), by_token(), TestProofs::new("another")).unwrap();
    assert_eq!(wrong.sign_in().await, Err(StoreError::Throttled { retry_after: None }));
}

#[tokio::test]
async fn credentials_are_renewed_after_two_thirds_of_their_life() {
    let faults = faulty().await;
    faults.review(|_| true);
    let proofs = TestProofs::new(TOKEN);
    let store = signing_in(faults.address(), Some(ROLE), by_token(), proofs.clone()).unwrap();
    let passes = async |seconds| {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
        assert_eq!(text(&store, query("A")).await, format!("{CANARY} A"));
        faults.count("AssumeRoleWithWebIdentity")
    };
    assert_eq!(passes(0).await, 1);
    assert_eq!(passes(590).await, 1);
    assert_eq!(passes(20).await, 2);
    // The last third is there for an STS that fails for a while.
    faults.sts_says("ServiceUnavailable");
    assert_eq!(passes(610).await, 3);
    // What is as good as dead when it comes is used once.
    faults.heal();
    faults.issue_for(-5);
    assert_eq!(passes(6).await, 4);
    assert_eq!(passes(0).await, 5);
}

#[tokio::test]
async fn refused_credentials_are_dropped_once() {
    let faults = faulty().await;
    faults.review(|_| true);
    let store = signing_in(faults.address(), Some(ROLE), by_token(), TestProofs::new(TOKEN)).unwrap();
    assert_eq!(text(&store, query("A")).await, format!("{CANARY} A"));
    faults.expire("ISSUED1");
    // Both of a batch, by fresh ones.
    assert!(store.get_many(&[query("A"), query("B")]).await.iter().all(Result::is_ok));
    assert_eq!((faults.count("AssumeRoleWithWebIdentity"), faults.count("BatchGetSecretValue")), (2, 2));

    faults.expire_all();
    let error = error(&store, query("A")).await;
    assert!(is_sign_in(&error, "refuses the store's credentials"), "{error:?}");
    assert_eq!((faults.count("AssumeRoleWithWebIdentity"), faults.count("GetSecretValue")), (3, 3));
    // Not as many single questions as there are secrets.
    for answer in store.get_many(&[query("A"), query("B")]).await {
        assert!(is_sign_in(&answer.err().unwrap(), "refuses"));
    }
    assert_eq!(faults.count("GetSecretValue"), 3);
    faults.heal();
    assert_eq!(text(&store, query("A")).await, format!("{CANARY} A"));
}

#[tokio::test]
async fn a_teams_own_keys_sign_in_with_and_without_a_role() {
    let faults = faulty().await;
    let proofs = TestProofs::new(TOKEN);
    let plain = signing_in(faults.address(), None, by_keys(Some("ID")), proofs.clone()).unwrap();
    for _ in 0..2 {
        assert_eq!(text(&plain, query("A")).await, format!("{CANARY} A"));
    }
    assert!(faults.seen().iter().all(|seen| seen.key == "TEAMID"));
    assert_eq!(proofs.asked.load(Ordering::Relaxed), 2);

    let role = signing_in(faults.address(), Some(ROLE), by_keys(Some("ID")), proofs).unwrap();
    assert_eq!(text(&role, query("A")).await, format!("{CANARY} A"));
    let seen = faults.seen();
    let [.., trade, read] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((trade.action.as_str(), trade.key.as_str(), read.key.as_str()), ("AssumeRole", "TEAMID", "ISSUED1"));
}

#[test]
fn an_object_that_cannot_work_names_the_field() {
    let proofs = || TestProofs::new(TOKEN);
    let why = |made: Result<AwsStore, StoreError>| made.err().unwrap().to_string();
    let address = "http://127.0.0.1:1";
    assert!(why(signing_in(address, None, by_token(), proofs())).contains("aws.roleARN"));
    assert!(why(signing_in(address, None, by_keys(None), proofs())).contains("signIn.secrets.id"));
    let of = |spec: &AwsBackend, settings: &StoreSettings| AwsStore::with_credentials("a-team", spec, settings, own());
    let local = settings("");
    for region in ["", "EU", "eu.evil.example/", "eu-central-1:80"] {
        let spec = AwsBackend { region: region.into(), ..AwsBackend::default() };
        assert!(why(of(&spec, &local)).contains("aws.region"), "{region:?}");
    }
    let secure = AwsBackend { connection: None, ..spec(address) };
    assert!(why(of(&secure, &local)).contains("connection.insecure"));
    assert!(why(of(&spec(address), &StoreSettings::default())).contains("allowLocalAddresses"));
    let listed = StoreSettings { allowed_hosts: vec!["secretsmanager.eu-west-1.amazonaws.com".into()], ..settings("") };
    let region = |region: &str| AwsBackend { region: region.into(), ..AwsBackend::default() };
    assert!(of(&region("eu-west-1"), &listed).is_ok());
    assert!(why(of(&region("eu-west-2"), &listed)).contains("secretsmanager.eu-west-2.amazonaws.com"));
    assert!(why(of(&region("cn-north-1"), &listed)).contains("secretsmanager.cn-north-1.amazonaws.com.cn"));
    for template in ["fixed", "{name}{name}", "arn:aws:{name}", "a b{name}"] {
        let spec = AwsBackend { name_template: Some(template.into()), ..spec(address) };
        assert!(why(of(&spec, &local)).contains("nameTemplate"), "{template}");
    }
}

#[tokio::test]
async fn a_store_is_reached_by_its_proxy_and_its_own_name() {
    let faults = faulty().await;
    let by = |endpoint: &str, connection: Connection| {
        let spec = AwsBackend { connection: Some(connection), ..spec(endpoint) };
        AwsStore::with_credentials("a-team", &spec, &settings(faults.address()), own()).unwrap()
    };
    let proxy = Connection { proxy: Some(faults.address().into()), insecure: true, ..Connection::default() };
    assert_eq!(text(&by("http://aws.invalid", proxy), query("A")).await, format!("{CANARY} A"));
    assert_eq!(faults.seen()[0].host, "aws.invalid");

    let named = Connection { server_name: Some("named.invalid".into()), insecure: true, ..Connection::default() };
    let endpoint = faults.address().replace("127.0.0.1", "localhost");
    assert_eq!(text(&by(&endpoint, named), query("A")).await, format!("{CANARY} A"));
    assert_eq!(format!("http://{}", faults.seen()[1].host), endpoint, "the signature is for that host");
}

/// What the process would log if everything were logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_has_a_value_or_a_credential_however_low_its_level() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    async {
        tracing::trace!("the log works");
        let faults = faulty().await;
        faults.review(|_| true);
        let store = signing_in(faults.address(), Some(ROLE), by_token(), TestProofs::new(TOKEN)).unwrap();
        assert!(store.get_many(&[query("A"), query("B")]).await.iter().all(Result::is_ok));
        assert_eq!(text(&store, query("A")).await, format!("{CANARY} A"));
        let _ = put(&store, "A", CANARY, Write::New).await;
        let keys = signing_in(faults.address(), Some(ROLE), by_keys(Some("ID")), TestProofs::new(TOKEN)).unwrap();
        assert_eq!(text(&keys, query("A")).await, format!("{CANARY} A"));
        for fault in [Fault::CutJson, Fault::Html, Fault::Code("AccessDeniedException", 400)] {
            faults.fail("GetSecretValue", "", fault);
            error(&store, query("A")).await;
        }
        faults.sts_says("AccessDenied");
        faults.expire_all();
        error(&store, query("A")).await;
    }
    .with_subscriber(subscriber)
    .await;
    let log = log.0.lock().unwrap_or_else(PoisonError::into_inner);
    let log = String::from_utf8_lossy(&log);
    assert!(log.contains("the log works"));
    for secret in [CANARY, TOKEN, "issued-secret", "issued-session", "TEAMSECRET", ERROR_TEXT] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

/// Runs in a process of its own, with the environment that the test below gives it.
#[tokio::test]
#[ignore = "called by the next test"]
async fn reads_with_the_environments_credentials() {
    let endpoint = std::env::var("DAYPASS_TEST_AWS").unwrap();
    let store = AwsStore::with_own_credentials("a-team", &spec(&endpoint), &settings(&endpoint)).unwrap();
    match get(&store, query("A")).await {
        Ok(found) => assert_eq!(found.value.expose(), format!("{CANARY} A").as_bytes()),
        Err(error) => {
            assert!(is_sign_in(&error, "aws configure export-credentials"), "{error:?}");
            std::process::exit(7);
        }
    }
}

#[tokio::test]
async fn an_admin_signs_in_with_the_environment_or_a_profile() {
    let faults = faulty().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let credentials = file(
        "credentials",
        "[default]\naws_access_key_id = PROFILEKEY\naws_secret_access_key = x\n[base]\naws_access_key_id = BASEKEY\n\
         aws_secret_access_key = x\n",
    );
    let config = file(
        "config",
        &format!(
            "[profile role]\nrole_arn = {ROLE}\nsource_profile = base\n[profile metadata]\nrole_arn = {ROLE}\n\
             credential_source = Ec2InstanceMetadata\n"
        ),
    );
    let run = async |variables: &[(&str, &str)]| {
        let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "--ignored", "aws::reads_with_the_environments_credentials"])
            .env_clear()
            .env("DAYPASS_TEST_AWS", faults.address())
            .env("HOME", folder.path())
            .env("AWS_SHARED_CREDENTIALS_FILE", &credentials)
            .env("AWS_CONFIG_FILE", &config)
            .envs(variables.iter().copied());
        let output = command.output().await.unwrap();
        (output.status.code(), faults.seen().last().map(|seen| seen.key.clone()).unwrap_or_default())
    };
    let nothing = [("AWS_SHARED_CREDENTIALS_FILE", "/nowhere"), ("AWS_CONFIG_FILE", "/nowhere")];
    assert_eq!(run(&nothing).await, (Some(7), String::new()));
    // A metadata server is never asked, not even where a profile says so.
    assert_eq!(run(&[("AWS_PROFILE", "metadata")]).await, (Some(7), String::new()));
    let keys = [("AWS_ACCESS_KEY_ID", "ENVKEY"), ("AWS_SECRET_ACCESS_KEY", "x")];
    assert_eq!(run(&keys).await, (Some(0), "ENVKEY".into()));
    assert_eq!(run(&[]).await, (Some(0), "PROFILEKEY".into()));
    assert_eq!(
        run(&[("AWS_PROFILE", "role"), ("AWS_ENDPOINT_URL_STS", faults.address())]).await,
        (Some(0), "ISSUED1".into())
    );
}
