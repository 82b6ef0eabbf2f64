//! What the doubles of Google and Azure share: faults that are switched on by name, a record of what was asked, and
//! proofs that a fixed table knows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::Response;
use daypass::api::TeamSecretStoreSpec;
use daypass::secret::SecretValue;
use daypass::stores::sign_in::{Issuer, Proofs, Subject, Token};
use daypass::stores::{Fetched, Stage, StoreError};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::Value;

/// What a server says in every error. It must never be seen behind the backend.
pub const SERVER_TEXT: &str = "server-text-that-stays-there";
/// What every value of the tests begins with.
pub const VALUE: &str = "value-that-nobody-shows";

/// Something that goes wrong.
#[derive(Clone)]
pub enum Fault {
    /// This status, with an error in the server's own form where `error` holds its own code.
    Status { status: u16, retry_after: Option<u32>, error: &'static str },
    /// 200, and this text.
    Text(String),
    /// 200, and a body that breaks off.
    Cut,
    /// A redirect to this address.
    Redirect(String),
    /// No answer, ever.
    Hang,
    /// A checksum of something else.
    WrongChecksum,
    /// The answer is about another secret.
    WrongName,
    /// The answer is about another version.
    WrongVersion,
}

impl Fault {
    /// A status without more.
    pub fn status(status: u16) -> Self {
        Self::Status { status, retry_after: None, error: "" }
    }

    /// A status with the server's own code.
    pub fn error(status: u16, error: &'static str) -> Self {
        Self::Status { status, retry_after: None, error }
    }
}

/// One call that reached a double.
#[derive(Clone, Debug)]
pub struct Call {
    pub path: String,
    pub signed_in: bool,
}

/// Who a token is of, for the audience that it was asked for; none where it is not valid.
pub type Review = Arc<dyn Fn(String, String) -> BoxFuture<'static, Option<String>> + Send + Sync>;

/// Faults, calls, and who may what.
pub struct Control {
    faults: Mutex<Vec<(String, Fault, usize)>>,
    calls: Mutex<Vec<Call>>,
    /// Who a token of this double's is of.
    pub tokens: Mutex<HashMap<String, String>>,
    pub review: Review,
}

impl Control {
    pub fn new(review: Review) -> Self {
        let tokens = [("admins-own-token".to_owned(), "admin".to_owned())].into();
        Self { faults: Mutex::default(), calls: Mutex::default(), tokens: Mutex::new(tokens), review }
    }

    /// From now on the next `times` calls about `name` go wrong.
    pub fn fault(&self, name: &str, fault: Fault, times: usize) {
        self.faults.lock().unwrap().push((name.to_owned(), fault, times));
    }

    /// Takes one fault of a name.
    pub fn strike(&self, name: &str) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let (_, fault, times) = faults.iter_mut().find(|(of, _, times)| of.eq_ignore_ascii_case(name) && *times > 0)?;
        *times -= 1;
        Some(fault.clone())
    }

    pub fn record(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }

    /// Every call since the last time.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    /// A new token of `caller`.
    pub fn issue(&self, caller: &str) -> String {
        let mut tokens = self.tokens.lock().unwrap();
        let token = format!("issued-{}-to-{caller}", tokens.len());
        tokens.insert(token.clone(), caller.to_owned());
        token
    }

    /// No token that was issued so far is good any more.
    pub fn expire_tokens(&self) {
        for caller in self.tokens.lock().unwrap().values_mut().filter(|caller| *caller != "admin") {
            caller.clear();
        }
    }

    /// Who a call's header is of.
    pub fn caller(&self, authorization: Option<&str>) -> Option<String> {
        let token = authorization?.strip_prefix("Bearer ")?;
        self.tokens.lock().unwrap().get(token).filter(|caller| !caller.is_empty()).cloned()
    }
}

/// The answer to a fault that needs nothing of what was asked. `error` makes the server's own form of an error.
pub async fn answer_of(fault: Fault, error: impl Fn(u16, &str) -> Value) -> Option<Response> {
    Some(match fault {
        Fault::Status { status, retry_after, error: code } => {
            let mut answer = json(status, &error(status, code));
            if let Some(seconds) = retry_after {
                answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            }
            answer
        }
        Fault::Text(text) => Response::new(Body::from(text)),
        Fault::Cut => {
            let parts = [Ok("{\"name\": \""), Err(std::io::Error::other("cut"))];
            Response::new(Body::from_stream(futures::stream::iter(parts)))
        }
        Fault::Redirect(to) => {
            let mut answer = json(307, &Value::Null);
            answer.headers_mut().insert(header::LOCATION, to.parse().unwrap());
            answer
        }
        Fault::Hang => std::future::pending().await,
        Fault::WrongChecksum | Fault::WrongName | Fault::WrongVersion => return None,
    })
}

pub fn json(status: u16, body: &Value) -> Response {
    let mut answer = Response::new(Body::from(body.to_string()));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    answer
}

/// The fields of a form or a query.
pub fn fields(text: &[u8]) -> HashMap<String, String> {
    url::form_urlencoded::parse(text).into_owned().collect()
}

/// Whether `caller` may do something with a secret that a backend calls `secret`: `spelled` is the caller's name as the
/// backend's names have it.
pub fn may(caller: &str, spelled: &str, secret: &str) -> bool {
    let begins = |prefix: String| secret.starts_with(&prefix);
    caller == "admin"
        || begins(format!("{spelled}-"))
        || begins(format!("daypass-{spelled}-"))
        || begins(format!("daypass-{spelled}_"))
}

/// A review that knows the tokens of [`Table`].
pub fn table_review() -> Review {
    Arc::new(|token, audience| {
        let caller = token.strip_suffix(&format!("@{audience}")).and_then(|token| token.strip_prefix("token-of-"));
        std::future::ready(caller.map(str::to_owned)).boxed()
    })
}

/// A review by the API server: a `ServiceAccount`'s token is its namespace's.
pub fn api_review(client: Client) -> Review {
    Arc::new(move |token, audience| {
        let reviews = Api::<TokenReview>::all(client.clone());
        async move {
            let spec = TokenReviewSpec { token: Some(token), audiences: Some(vec![audience.clone()]) };
            let review = TokenReview { spec, ..TokenReview::default() };
            let status = reviews.create(&PostParams::default(), &review).await.ok()?.status?;
            let good = status.authenticated == Some(true) && status.audiences?.contains(&audience);
            // `system:serviceaccount:NAMESPACE:NAME`
            let user = status.user?.username.filter(|_| good)?;
            user.strip_prefix("system:serviceaccount:")?.split(':').next().map(str::to_owned)
        }
        .boxed()
    })
}

/// The store of an example.
pub fn store_of_example(file: &str) -> TeamSecretStoreSpec {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/stores").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let objects = text.split("\n---\n").map(|object| serde_yaml::from_str::<Value>(object).unwrap());
    let store = objects.into_iter().find(|object| object["kind"] == "TeamSecretStore").unwrap();
    serde_json::from_value(store["spec"].clone()).unwrap()
}

/// Proofs out of a fixed table: a ServiceAccount's token says whose it is and what for.
#[derive(Default)]
pub struct Table {
    pub secrets: HashMap<String, String>,
}

impl Table {
    pub fn with(secrets: &[(&str, &str)]) -> Arc<Self> {
        Arc::new(Self { secrets: secrets.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect() })
    }
}

impl Proofs for Table {
    fn token<'a>(&'a self, subject: &'a Subject, audience: &'a str) -> BoxFuture<'a, Result<SecretValue, StoreError>> {
        let (name, audience) = match subject {
            Subject::Team { name, audience: own } => (name.as_str(), own.as_deref().unwrap_or(audience)),
            Subject::Operator => ("operator", audience),
        };
        let token = SecretValue::new(format!("token-of-{name}@{audience}").into_bytes());
        std::future::ready(Ok(token)).boxed()
    }

    fn secret<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<SecretValue, StoreError>> {
        let found = self.secrets.get(name).map(|value| SecretValue::new(value.clone().into_bytes()));
        std::future::ready(found.ok_or_else(|| StoreError::unavailable(Stage::SignIn, "no such secret"))).boxed()
    }
}

/// A token that an admin has.
pub struct Own(pub &'static str);

impl Issuer for Own {
    fn issue(&self) -> BoxFuture<'_, Result<Token, StoreError>> {
        let value = SecretValue::new(self.0.as_bytes().to_vec());
        std::future::ready(Ok(Token { value, lifetime: Some(Duration::from_secs(3600)) })).boxed()
    }
}

pub fn value(bytes: impl AsRef<[u8]>) -> SecretValue {
    SecretValue::new(bytes.as_ref().to_vec())
}

/// What a read gave, so that it can be compared; an error is looked at for what it must not say.
pub fn seen(result: Result<Fetched, StoreError>) -> Result<(Vec<u8>, String), StoreError> {
    result.map(|fetched| (fetched.value.expose().to_vec(), fetched.version)).inspect_err(clean)
}

/// Fails where an error holds a value, a token or a server's words.
pub fn clean(error: &StoreError) {
    let shown = format!("{error} {error:?}");
    for secret in [SERVER_TEXT, VALUE, "issued-", "token-of-", "admins-own", "PRIVATE KEY"] {
        assert!(!shown.contains(secret), "{secret} in: {shown}");
    }
}

/// Names that would lead elsewhere if they got through.
pub fn steering() -> Vec<String> {
    let mut names: Vec<String> = [
        "../x",
        "..",
        ".",
        "%2e%2e",
        "%2e",
        "a/b",
        "a?b",
        "a#b",
        "a\0b",
        "a\nb",
        "a\r\nb",
        "a b",
        "a:destroy",
        "a-b",
        "",
    ]
    .map(str::to_owned)
    .into();
    // A Cyrillic letter, a full-width one, a Turkish one.
    names.extend(["\u{410}PI_KEY", "\u{ff21}PI", "API_KEY\u{131}"].map(str::to_owned));
    names.push("A".repeat(300));
    names
}
