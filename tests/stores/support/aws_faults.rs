//! A server with AWS' manners that fails as it is told: what moto never does. It stands for Secrets Manager (JSON 1.1)
//! and for STS (a form in, XML out), and remembers what it was asked.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// Stands in every text of an error, so that it can be looked for where none of them may be.
pub const ERROR_TEXT: &str = "words-of-the-server";

/// A version that the server's secrets are of.
pub const VERSION: &str = "11111111-2222-4333-8444-555555555555";

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// AWS' own code, with any status.
    Code(&'static str, u16),
    /// The same, with a header `Retry-After`.
    CodeAfter(&'static str, u16, u64),
    /// No code: whatever stands in front of AWS says this.
    Status(u16),
    /// No answer, ever.
    Hang,
    /// JSON that ends in the middle, as a whole answer.
    CutJson,
    /// An answer that breaks off before its announced end.
    BreakOff,
    /// Well-formed, and no answer.
    Html,
    /// An error with the status of success.
    ErrorAsSuccess,
    /// The answer for another secret.
    OtherName,
    /// The answer for another version.
    OtherVersion,
    /// More than any answer may be.
    Huge,
}

/// One question that came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The action: `GetSecretValue`, `AssumeRoleWithWebIdentity`.
    pub action: String,
    /// The body, as it came.
    pub body: String,
    /// The access key ID that it is signed with; empty: unsigned.
    pub key: String,
    /// The header `Host`.
    pub host: String,
    /// The URL as the request line bears it.
    pub uri: String,
}

type Review = Box<dyn Fn(&str) -> bool + Send>;

#[derive(Default)]
struct Inner {
    secrets: HashMap<String, String>,
    /// By action and secret; an empty secret: the whole call.
    faults: HashMap<(String, String), Fault>,
    refused_keys: HashSet<String>,
    refuse_all: bool,
    sts_code: Option<&'static str>,
    review: Option<Review>,
    issued: usize,
    lives: i64,
    seen: Vec<Seen>,
}

/// The server.
#[derive(Clone)]
pub struct Faults {
    address: String,
    inner: Arc<Mutex<Inner>>,
}

impl Faults {
    /// Starts on a free port of loopback, within the runtime of the test that asks.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Mutex::new(Inner { lives: 900, ..Inner::default() }));
        let faults = Self { address, inner };
        let router = Router::new().fallback(answer).with_state(faults.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        faults
    }

    /// Where it is.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Adds a secret.
    pub fn secret(&self, id: &str, value: &str) {
        self.lock().secrets.insert(id.to_owned(), value.to_owned());
    }

    /// From now on this goes wrong. An empty `id` is the whole call; in a batch an `id` is that item of it.
    pub fn fail(&self, action: &str, id: &str, fault: Fault) {
        self.lock().faults.insert((action.to_owned(), id.to_owned()), fault);
    }

    /// All is well again, for secrets and for credentials.
    pub fn heal(&self) {
        let mut inner = self.lock();
        inner.faults.clear();
        inner.refused_keys.clear();
        inner.refuse_all = false;
        inner.sts_code = None;
    }

    /// Credentials with this access key ID have expired.
    pub fn expire(&self, key: &str) {
        self.lock().refused_keys.insert(key.to_owned());
    }

    /// All credentials have.
    pub fn expire_all(&self) {
        self.lock().refuse_all = true;
    }

    /// Who gets a role's credentials by a token. Nobody at first.
    pub fn review(&self, review: impl Fn(&str) -> bool + Send + 'static) {
        self.lock().review = Some(Box::new(review));
    }

    /// STS says this to everybody.
    pub fn sts_says(&self, code: &'static str) {
        self.lock().sts_code = Some(code);
    }

    /// How many seconds credentials live that are issued from now on.
    pub fn issue_for(&self, seconds: i64) {
        self.lock().lives = seconds;
    }

    /// All that was asked.
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// How often an action was asked for.
    pub fn count(&self, action: &str) -> usize {
        self.lock().seen.iter().filter(|seen| seen.action == action).count()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(State(faults): State<Faults>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    match faults.decide(&uri, &headers, &body) {
        Ok(response) => response,
        Err((fault, id)) => go_wrong(&fault, &id).await,
    }
}

impl Faults {
    /// The answer, or how it goes wrong for which secret.
    fn decide(&self, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Result<Response, (Fault, String)> {
        let header =
            |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let signature = header("authorization");
        let key = signature.split_once("Credential=").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default();
        let text = String::from_utf8_lossy(body).into_owned();
        let form: HashMap<String, String> = url::form_urlencoded::parse(body).into_owned().collect();
        let target = header("x-amz-target");
        let is_sts = target.is_empty();
        let action = match target.rsplit_once('.') {
            Some((_, action)) => action.to_owned(),
            None => form.get("Action").cloned().unwrap_or_default(),
        };
        let seen = Seen {
            action: action.clone(),
            body: text.clone(),
            key: key.into(),
            host: header("host"),
            uri: uri.to_string(),
        };
        let mut inner = self.lock();
        inner.seen.push(seen);
        if is_sts {
            return Ok(inner.trade(&action, &form, key));
        }
        if key.is_empty() {
            return Ok(refused("MissingAuthenticationTokenException", 400));
        }
        if inner.refuse_all || inner.refused_keys.contains(key) {
            return Ok(refused("ExpiredTokenException", 400));
        }
        let question: Value = serde_json::from_str(&text).unwrap_or_default();
        let id = question["SecretId"].as_str().unwrap_or_default();
        let whole = [(action.clone(), id.to_owned()), (action.clone(), String::new())];
        if let Some(fault) = whole.iter().find_map(|key| inner.faults.get(key)).cloned() {
            return Err((fault, id.to_owned()));
        }
        Ok(match action.as_str() {
            "GetSecretValue" => match inner.secrets.get(id) {
                Some(value) => json_answer(200, &entry(id, VERSION, value)),
                None => refused("ResourceNotFoundException", 400),
            },
            "BatchGetSecretValue" => json_answer(200, &inner.batch(&question)),
            "ListSecrets" => json_answer(200, &json!({"SecretList": []})),
            _ => refused("UnknownOperationException", 400),
        })
    }
}

impl Inner {
    fn batch(&self, question: &Value) -> Value {
        let (mut values, mut errors) = (Vec::new(), Vec::new());
        for id in question["SecretIdList"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let fault = self.faults.get(&("BatchGetSecretValue".to_owned(), id.to_owned()));
            match (fault, self.secrets.get(id)) {
                (Some(Fault::Code(code, _)), _) => {
                    errors.push(json!({"SecretId": id, "ErrorCode": code, "Message": ERROR_TEXT}));
                }
                (Some(Fault::OtherName), Some(value)) => values.push(entry("another/secret", VERSION, value)),
                (Some(_), _) => {}
                (None, Some(value)) => values.push(entry(id, VERSION, value)),
                (None, None) => errors
                    .push(json!({"SecretId": id, "ErrorCode": "ResourceNotFoundException", "Message": ERROR_TEXT})),
            }
        }
        json!({"SecretValues": values, "Errors": errors})
    }

    fn trade(&mut self, action: &str, form: &HashMap<String, String>, key: &str) -> Response {
        let error = |code: &str| {
            let body = format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{ERROR_TEXT}</Message></Error>\
                 <RequestId>1</RequestId></ErrorResponse>"
            );
            (StatusCode::BAD_REQUEST, [("content-type", "text/xml")], body).into_response()
        };
        if let Some(code) = self.sts_code {
            return error(code);
        }
        match action {
            "AssumeRoleWithWebIdentity" => {
                let token = form.get("WebIdentityToken").map_or("", String::as_str);
                if !self.review.as_ref().is_some_and(|review| review(token)) {
                    return error("InvalidIdentityToken");
                }
            }
            "AssumeRole" if key.is_empty() || self.refused_keys.contains(key) => return error("InvalidClientTokenId"),
            "AssumeRole" => {}
            _ => return error("InvalidAction"),
        }
        self.issued += 1;
        let end = Timestamp::now().saturating_add(SignedDuration::from_secs(self.lives)).unwrap();
        let mut body =
            format!("<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>");
        write!(
            body,
            "<Credentials><AccessKeyId>ISSUED{number}</AccessKeyId><SecretAccessKey>issued-secret-{number}\
             </SecretAccessKey><SessionToken>issued-session-{number}</SessionToken><Expiration>{end:.0}</Expiration>\
             </Credentials></{action}Result><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></{action}Response>",
            number = self.issued
        )
        .unwrap();
        ([("content-type", "text/xml")], body).into_response()
    }
}

async fn go_wrong(fault: &Fault, id: &str) -> Response {
    match fault {
        Fault::Code(code, status) => refused(code, *status),
        Fault::CodeAfter(code, status, seconds) => {
            let mut response = refused(code, *status);
            response.headers_mut().insert("retry-after", (*seconds).into());
            response
        }
        Fault::Status(status) => {
            let headers = [("content-type", "text/html"), ("location", "https://elsewhere.invalid/")];
            (StatusCode::from_u16(*status).unwrap(), headers, format!("<html>{ERROR_TEXT}</html>")).into_response()
        }
        Fault::Hang => std::future::pending().await,
        Fault::CutJson => {
            let whole = entry(id, VERSION, ERROR_TEXT).to_string();
            ([("content-type", "application/x-amz-json-1.1")], whole[..whole.len() / 2].to_owned()).into_response()
        }
        Fault::BreakOff => {
            let chunks =
                futures::stream::iter([Ok(Bytes::from_static(b"{\"Name\":")), Err(std::io::Error::other("cut"))]);
            Response::builder().header("content-length", "500").body(Body::from_stream(chunks)).unwrap()
        }
        Fault::Html => ([("content-type", "text/html")], format!("<html>{ERROR_TEXT}</html>")).into_response(),
        Fault::ErrorAsSuccess => json_answer(200, &error_body("ThrottlingException")),
        Fault::OtherName => json_answer(200, &entry("another/secret", VERSION, ERROR_TEXT)),
        Fault::OtherVersion => json_answer(200, &entry(id, "99999999-2222-4333-8444-555555555555", ERROR_TEXT)),
        Fault::Huge => json_answer(200, &entry(id, VERSION, &"x".repeat(2 * 1024 * 1024))),
    }
}

fn entry(id: &str, version: &str, value: &str) -> Value {
    json!({
        "ARN": format!("arn:aws:secretsmanager:us-east-1:123456789012:secret:{id}-AbCdEf"),
        "Name": id, "VersionId": version, "SecretString": value, "VersionStages": ["AWSCURRENT"], "CreatedDate": 1.0,
    })
}

fn error_body(code: &str) -> Value {
    // AWS writes codes with and without a name space.
    json!({"__type": format!("com.amazonaws.secretsmanager#{code}"), "message": ERROR_TEXT})
}

fn refused(code: &str, status: u16) -> Response {
    json_answer(status, &error_body(code))
}

fn json_answer(status: u16, body: &Value) -> Response {
    let headers = [("content-type", "application/x-amz-json-1.1")];
    (StatusCode::from_u16(status).unwrap(), headers, body.to_string()).into_response()
}
