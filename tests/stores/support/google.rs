//! A double of Google Secret Manager, of its token exchange, token endpoint and service account impersonation. The
//! vendor's own Python SDK accepts it: `sdk/prove_doubles.py`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};

use super::double::{Call, Control, Fault, Review, SERVER_TEXT, answer_of, fields, json as answer, may};

pub const PROJECT: &str = "ml-project";
/// Answers bear the number instead of the project's name.
const NUMBER: &str = "1234567890";
pub const PROVIDER: &str = "projects/1234567890/locations/global/workloadIdentityPools/kubernetes/providers/cluster";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const CRC32C: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

/// A double. It serves as long as the test's runtime.
pub struct Google {
    pub address: String,
    served: Arc<Served>,
}

struct Served {
    control: Control,
    secrets: Mutex<BTreeMap<String, Vec<Version>>>,
}

struct Version {
    value: Vec<u8>,
    state: &'static str,
}

impl std::ops::Deref for Google {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.served.control
    }
}

impl Google {
    /// Starts one on a free port. `review` says whose a ServiceAccount's token is.
    pub async fn start(review: Review) -> Self {
        let served = Arc::new(Served { control: Control::new(review), secrets: Mutex::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(serve).with_state(served.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, served }
    }

    /// Adds a version, as an admin elsewhere would.
    pub fn add(&self, secret: &str, value: impl AsRef<[u8]>) -> usize {
        let mut secrets = self.served.secrets.lock().unwrap();
        let versions = secrets.entry(secret.to_owned()).or_default();
        versions.push(Version { value: value.as_ref().to_vec(), state: "ENABLED" });
        versions.len()
    }

    /// Sets a version's state.
    pub fn set_state(&self, secret: &str, version: usize, state: &'static str) {
        self.served.secrets.lock().unwrap().get_mut(secret).unwrap()[version - 1].state = state;
    }

    /// A secret without any version.
    pub fn add_empty(&self, secret: &str) {
        self.served.secrets.lock().unwrap().entry(secret.to_owned()).or_default();
    }

    /// The states of a secret's versions, the oldest first.
    pub fn states(&self, secret: &str) -> Vec<&'static str> {
        let secrets = self.served.secrets.lock().unwrap();
        secrets.get(secret).into_iter().flatten().map(|version| version.state).collect()
    }
}

/// A key file of a service account, whose signatures the double knows.
pub fn key_file(email: &str) -> String {
    let key = include_str!("signing_key.base64");
    let name = "PRIVATE KEY";
    json!({
        "type": "service_account", "project_id": PROJECT, "private_key_id": "key-1", "client_email": email,
        "private_key": format!("-----BEGIN {name}-----\n{key}-----END {name}-----\n"), "token_uri": TOKEN_URI,
    })
    .to_string()
}

fn error(status: u16, code: &str) -> Value {
    let message = match code {
        "DISABLED" | "DESTROYED" => format!("Secret Version [{SERVER_TEXT}] is in {code} state."),
        _ => SERVER_TEXT.to_owned(),
    };
    let (code, reason) = match (status, code) {
        (_, "DISABLED" | "DESTROYED") => ("FAILED_PRECONDITION", "none"),
        (403, "") => ("PERMISSION_DENIED", "IAM_PERMISSION_DENIED"),
        (403, reason) => ("PERMISSION_DENIED", reason),
        (404, _) => ("NOT_FOUND", "none"),
        (429, _) => ("RESOURCE_EXHAUSTED", "none"),
        (_, "") => ("UNKNOWN", "none"),
        (_, code) => (code, "none"),
    };
    json!({"error": {
        "code": status, "message": message, "status": code,
        "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}],
    }})
}

fn wrong(status: u16, code: &str) -> Response {
    answer(status, &error(status, code))
}

async fn serve(
    State(served): State<Arc<Served>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let control = &served.control;
    let query = fields(uri.query().unwrap_or_default().as_bytes());
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let caller = control.caller(authorization);
    control.record(Call { path: uri.path().to_owned(), signed_in: caller.is_some() });
    let path = uri.path().trim_start_matches('/').to_owned();
    let segments: Vec<&str> = path.split('/').collect();
    let about = match segments[..] {
        ["v1", "token"] => "sts",
        ["token"] => "oauth",
        ["v1", "projects", "-", "serviceAccounts", _] => "impersonation",
        ["v1", "projects", PROJECT, "secrets"] => query.get("secretId").map_or("list", String::as_str),
        ["v1", "projects", PROJECT, "secrets", secret, ..] => secret.split(':').next().unwrap_or_default(),
        _ => return wrong(404, ""),
    };
    let fault = control.strike(about);
    if let Some(fault) = fault.clone()
        && let Some(answer) = answer_of(fault, error).await
    {
        return answer;
    }
    match about {
        "sts" => return federate(control, &body).await,
        "oauth" => return by_key_file(control, &body),
        _ => {}
    }
    let Some(caller) = caller else { return wrong(401, "UNAUTHENTICATED") };
    if about == "impersonation" {
        return impersonate(control, &caller, segments[4]);
    }
    let caller = caller.trim_start_matches("federated-");
    if about != "list" && !may(caller, caller, about) {
        return wrong(403, "");
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut secrets = served.secrets.lock().unwrap();
    match (method.as_str(), &segments[4..]) {
        ("GET", []) => {
            let names: Vec<Value> = secrets.keys().map(|name| json!({"name": full(name)})).collect();
            answer(200, &page(names, "secrets", &query))
        }
        ("POST", []) => match secrets.contains_key(about) {
            true => wrong(409, "ALREADY_EXISTS"),
            false if body["replication"]["automatic"].is_object() => {
                secrets.insert(about.to_owned(), Vec::new());
                answer(200, &json!({"name": full(about), "replication": {"automatic": {}}}))
            }
            false => wrong(400, "INVALID_ARGUMENT"),
        },
        ("POST", [last]) if last.ends_with(":addVersion") => {
            let Some(versions) = secrets.get_mut(about) else { return wrong(404, "") };
            let Some(value) = body["payload"]["data"].as_str().and_then(|data| STANDARD.decode(data).ok()) else {
                return wrong(400, "INVALID_ARGUMENT");
            };
            // The SDK writes the number as JSON's own where it is small enough.
            let sum = &body["payload"]["dataCrc32c"];
            let sum = sum.as_str().map_or_else(|| sum.to_string(), str::to_owned);
            if sum != "null" && sum != CRC32C.checksum(&value).to_string() {
                return wrong(400, "INVALID_ARGUMENT");
            }
            versions.push(Version { value, state: "ENABLED" });
            answer(200, &shown(about, versions.len(), "ENABLED"))
        }
        ("GET", [_]) if secrets.contains_key(about) => answer(200, &json!({"name": full(about)})),
        ("DELETE", [_]) => match secrets.remove(about) {
            Some(_) => answer(200, &json!({})),
            None => wrong(404, ""),
        },
        ("GET", [_, "versions"]) => match secrets.get(about) {
            Some(versions) => {
                let list = versions.iter().enumerate().rev();
                let list = list.map(|(index, version)| shown(about, index + 1, version.state)).collect();
                answer(200, &page(list, "versions", &query))
            }
            None => wrong(404, ""),
        },
        (method, [_, "versions", last]) => {
            let Some(versions) = secrets.get_mut(about) else { return wrong(404, "") };
            let (number, verb) = last.split_once(':').unwrap_or((last, "get"));
            let number = if number == "latest" { versions.len() } else { number.parse().unwrap_or(0) };
            let Some(version) = number.checked_sub(1).and_then(|index| versions.get_mut(index)) else {
                return wrong(404, "");
            };
            match (method, verb) {
                ("GET", "get") => answer(200, &shown(about, number, version.state)),
                ("GET", "access") if version.state != "ENABLED" => wrong(400, version.state),
                ("GET", "access") => answer(200, &accessed(about, number, &version.value, fault.as_ref())),
                ("POST", _) if version.state == "DESTROYED" => wrong(400, "DESTROYED"),
                ("POST", "destroy") => {
                    *version = Version { value: Vec::new(), state: "DESTROYED" };
                    answer(200, &shown(about, number, version.state))
                }
                ("POST", "disable" | "enable") => {
                    version.state = if verb == "enable" { "ENABLED" } else { "DISABLED" };
                    answer(200, &shown(about, number, version.state))
                }
                _ => wrong(404, ""),
            }
        }
        _ => wrong(404, ""),
    }
}

fn full(secret: &str) -> String {
    format!("projects/{NUMBER}/secrets/{secret}")
}

fn shown(secret: &str, number: usize, state: &str) -> Value {
    json!({
        "name": format!("{}/versions/{number}", full(secret)), "state": state,
        "createTime": format!("2026-01-02T03:04:{number:02}.123456Z"), "etag": "\"1\"",
    })
}

fn accessed(secret: &str, number: usize, value: &[u8], fault: Option<&Fault>) -> Value {
    let (mut name, mut number, mut sum) = (full(secret), number, CRC32C.checksum(value));
    match fault {
        Some(Fault::WrongName) => name = full("daypass-team-a-OTHER"),
        Some(Fault::WrongVersion) => number += 1,
        Some(Fault::WrongChecksum) => sum ^= 1,
        _ => {}
    }
    json!({
        "name": format!("{name}/versions/{number}"),
        "payload": {"data": STANDARD.encode(value), "dataCrc32c": sum.to_string()},
    })
}

/// A page of at most three entries, whatever was asked for, so that every test meets several.
fn page(all: Vec<Value>, field: &str, query: &std::collections::HashMap<String, String>) -> Value {
    let asked: usize = query.get("pageSize").and_then(|size| size.parse().ok()).unwrap_or(25_000);
    let size = asked.min(3);
    let from: usize = query.get("pageToken").and_then(|token| token.parse().ok()).unwrap_or(0);
    let total = all.len();
    let list: Vec<Value> = all.into_iter().skip(from).take(size).collect();
    let mut page = json!({field: list, "totalSize": total});
    if from + size < total {
        page["nextPageToken"] = (from + size).to_string().into();
    }
    page
}

async fn federate(control: &Control, body: &[u8]) -> Response {
    let form = fields(body);
    let is = |name: &str, expected: &str| form.get(name).is_some_and(|value| value == expected);
    let asked = is("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
        && is("audience", &format!("//iam.googleapis.com/{PROVIDER}"))
        && is("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
        && is("requested_token_type", "urn:ietf:params:oauth:token-type:access_token")
        && is("scope", SCOPE);
    let token = form.get("subject_token").cloned().unwrap_or_default();
    let caller = (control.review)(token, format!("https://iam.googleapis.com/{PROVIDER}")).await;
    match caller.filter(|_| asked) {
        Some(caller) => answer(
            200,
            &json!({"access_token": control.issue(&format!("federated-{caller}")), "expires_in": 3600, "token_type": "Bearer"}),
        ),
        None => answer(400, &json!({"error": "invalid_grant", "error_description": SERVER_TEXT})),
    }
}

/// Who signed in by federation may act as the service account of the same name.
fn impersonate(control: &Control, caller: &str, last: &str) -> Response {
    let account = last.strip_suffix(":generateAccessToken").unwrap_or_default();
    let name = account.split('@').next().unwrap_or_default();
    if caller.strip_prefix("federated-").is_none_or(|caller| caller != name) {
        return wrong(403, "");
    }
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3600);
    answer(200, &json!({"accessToken": control.issue(name), "expireTime": end.to_string()}))
}

fn by_key_file(control: &Control, body: &[u8]) -> Response {
    let form = fields(body);
    let assertion = form.get("assertion").map(String::as_str).unwrap_or_default();
    match signer(assertion) {
        Some(email) if form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
            let caller = email.split('@').next().unwrap_or_default();
            answer(200, &json!({"access_token": control.issue(caller), "expires_in": 3599, "token_type": "Bearer"}))
        }
        _ => answer(400, &json!({"error": "invalid_grant", "error_description": SERVER_TEXT})),
    }
}

/// Who signed a statement, where it is a good one.
fn signer(assertion: &str) -> Option<String> {
    let (signed, signature) = assertion.rsplit_once('.')?;
    let key: String = include_str!("signing_key.base64").split_whitespace().collect();
    let pair = RsaKeyPair::from_pkcs8(&STANDARD.decode(key).ok()?).ok()?;
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref())
        .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?)
        .ok()?;
    let part = |text: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(text).ok()?).ok();
    let (head, claims) = signed.split_once('.')?;
    let (head, claims) = (part(head)?, part(claims)?);
    let (from, to) = (claims["iat"].as_i64()?, claims["exp"].as_i64()?);
    let now = jiff::Timestamp::now().as_second();
    let good = head == json!({"alg": "RS256", "typ": "JWT", "kid": "key-1"})
        && claims["aud"] == TOKEN_URI
        && claims["scope"] == SCOPE
        && from <= now
        && now < to
        && to - from <= 3600;
    claims["iss"].as_str().filter(|_| good).map(str::to_owned)
}
