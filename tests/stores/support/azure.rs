//! A double of Azure Key Vault over TLS, and of Microsoft Entra's token endpoint. The vendor's own Python SDK accepts it:
//! `sdk/prove_doubles.py`.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri, header};
use axum::response::Response;
use axum::serve::Listener;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::double::{Call, Control, Fault, Review, SERVER_TEXT, answer_of, fields, json as answer, may};

pub const TENANT: &str = "11111111-2222-3333-4444-555555555555";
pub const CLIENT: &str = "66666666-7777-8888-9999-000000000000";
pub const CLIENT_SECRET: &str = "client-secret-of-team-a";

/// A double. It serves as long as the test's runtime.
pub struct Azure {
    pub vault: String,
    pub authority: String,
    pub ca: String,
    served: Arc<Served>,
}

struct Served {
    vault: String,
    control: Control,
    data: Mutex<Data>,
}

#[derive(Default)]
struct Data {
    secrets: BTreeMap<String, Secret>,
    made: i64,
    purge_protection: bool,
    /// How many purges find the deletion still going on.
    deleting: usize,
    /// Where the next pages are said to be.
    next_page_at: Option<String>,
}

#[derive(Default)]
struct Secret {
    name: String,
    versions: Vec<Version>,
    deleted: bool,
}

struct Version {
    id: String,
    value: String,
    content_type: Option<String>,
    attributes: Value,
}

impl std::ops::Deref for Azure {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.served.control
    }
}

impl Azure {
    /// Starts one on free ports. `review` says whose a ServiceAccount's token is.
    pub async fn start(review: Review) -> Self {
        let (ca, acceptor) = certificates();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let vault = format!("https://{}", listener.local_addr().unwrap());
        let served = Arc::new(Served { vault: vault.clone(), control: Control::new(review), data: Mutex::default() });
        let router = Router::new().fallback(serve).with_state(served.clone());
        tokio::spawn(async move { axum::serve(Tls { listener, acceptor }, router).await });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(issue).with_state(served.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { vault, authority, ca, served }
    }

    /// Adds a version, as an admin elsewhere would. `attributes` are the vault's own: `enabled`, `exp`, `nbf`.
    pub fn add(&self, secret: &str, value: &str, content_type: Option<&str>, attributes: Value) -> String {
        self.served.data.lock().unwrap().add(secret, value, content_type.map(str::to_owned), attributes)
    }

    /// Deletes softly.
    pub fn delete_softly(&self, secret: &str) {
        self.served.data.lock().unwrap().secrets.get_mut(&secret.to_ascii_lowercase()).unwrap().deleted = true;
    }

    /// Whether versions are enabled, the oldest first; none where the secret is nowhere, not even deleted.
    pub fn enabled(&self, secret: &str) -> Option<Vec<bool>> {
        let data = self.served.data.lock().unwrap();
        let found = data.secrets.get(&secret.to_ascii_lowercase())?;
        Some(found.versions.iter().map(|version| version.attributes["enabled"] == true).collect())
    }

    pub fn protect_from_purge(&self) {
        self.served.data.lock().unwrap().purge_protection = true;
    }

    pub fn delete_slowly(&self, purges: usize) {
        self.served.data.lock().unwrap().deleting = purges;
    }

    pub fn next_page_at(&self, address: &str) {
        self.served.data.lock().unwrap().next_page_at = Some(address.to_owned());
    }
}

impl Data {
    fn add(&mut self, name: &str, value: &str, content_type: Option<String>, attributes: Value) -> String {
        self.made += 1;
        let id = format!("{:032x}", 0xabc0_0000 + self.made);
        let mut all = json!({
            "enabled": true, "created": 1_760_000_000 + self.made, "updated": 1_760_000_000 + self.made,
            "recoveryLevel": self.level(), "recoverableDays": 90,
        });
        for (key, value) in attributes.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        let secret = self.secrets.entry(name.to_ascii_lowercase()).or_default();
        if secret.name.is_empty() {
            name.clone_into(&mut secret.name);
        }
        secret.versions.push(Version { id: id.clone(), value: value.to_owned(), content_type, attributes: all });
        id
    }

    fn level(&self) -> &'static str {
        if self.purge_protection { "Recoverable" } else { "Recoverable+Purgeable" }
    }
}

/// A CA, and what serves with a leaf of it.
fn certificates() -> (String, TlsAcceptor) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.distinguished_name.push(rcgen::DnType::CommonName, "CA of the double");
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    leaf.use_authority_key_identifier_extension = true;
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).unwrap();
    (pem, TlsAcceptor::from(Arc::new(config)))
}

struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

fn error(status: u16, inner: &str) -> Value {
    let code = match status {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "SecretNotFound",
        409 => "Conflict",
        429 => "Throttled",
        _ => "BadParameter",
    };
    json!({"error": {"code": code, "message": SERVER_TEXT, "innererror": {"code": inner}}})
}

fn wrong(status: u16, inner: &str) -> Response {
    answer(status, &error(status, inner))
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
    let path = uri.path().trim_matches('/').to_owned();
    let segments: Vec<&str> = path.split('/').collect();
    let name = segments.get(1).copied().unwrap_or("list").to_ascii_lowercase();
    let fault = control.strike(&name);
    if let Some(fault) = fault.clone()
        && let Some(answer) = answer_of(fault, error).await
    {
        return answer;
    }
    let Some(caller) = caller else {
        let mut answer = wrong(401, "");
        let challenge = format!(
            "Bearer authorization=\"https://login.example.com/{TENANT}\", resource=\"https://vault.azure.net\""
        );
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
        return answer;
    };
    if query.get("api-version").map(String::as_str) != Some("2025-07-01") {
        return wrong(400, "");
    }
    if name != "list" && !may(&caller, &caller.replace('-', "-0"), &name) {
        return wrong(403, "ForbiddenByRbac");
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut data = served.data.lock().unwrap();
    served.answer(&mut data, method.as_str(), &segments, &name, &query, &body, fault.as_ref())
}

impl Served {
    #[expect(clippy::too_many_arguments, reason = "the parts of one call")]
    fn answer(
        &self,
        data: &mut Data,
        method: &str,
        segments: &[&str],
        name: &str,
        query: &HashMap<String, String>,
        body: &Value,
        fault: Option<&Fault>,
    ) -> Response {
        let live = data.secrets.get(name).is_some_and(|secret| !secret.deleted);
        match (method, segments) {
            ("GET", ["secrets"]) => {
                let live = data.secrets.values().filter(|secret| !secret.deleted);
                let all = live.filter_map(|secret| Some((&secret.name, secret.versions.last()?)));
                let all = all.map(|(name, version)| {
                    json!({"id": format!("{}/secrets/{name}", self.vault), "attributes": version.attributes})
                });
                answer(200, &self.page(data, all.collect(), "secrets", query))
            }
            ("PUT", ["secrets", written]) => {
                if data.secrets.get(name).is_some_and(|secret| secret.deleted) {
                    return wrong(409, "ObjectIsDeletedButRecoverable");
                }
                let Some(value) = body["value"].as_str() else { return wrong(400, "") };
                let content_type = body["contentType"].as_str().map(str::to_owned);
                data.add(written, value, content_type, body["attributes"].clone());
                let secret = &data.secrets[name];
                answer(200, &self.bundle(&secret.name, secret.versions.last().unwrap(), None))
            }
            ("GET", ["secrets", _, "versions"]) => {
                let live = data.secrets.get(name).filter(|secret| !secret.deleted);
                let all = live.into_iter().flat_map(|secret| secret.versions.iter().map(move |v| (&secret.name, v)));
                let all = all.map(|(name, version)| {
                    json!({
                        "id": format!("{}/secrets/{name}/{}", self.vault, version.id), "attributes": version.attributes,
                    })
                });
                answer(200, &self.page(data, all.collect(), &format!("secrets/{name}/versions"), query))
            }
            ("GET" | "PATCH", ["secrets", _, rest @ ..]) if live => {
                let secret = data.secrets.get_mut(name).unwrap();
                let version = match rest {
                    [] => secret.versions.last_mut(),
                    [id] => secret.versions.iter_mut().find(|version| version.id == *id),
                    _ => None,
                };
                let Some(version) = version else { return wrong(404, "") };
                if method == "PATCH" {
                    for (key, value) in body["attributes"].as_object().into_iter().flatten() {
                        version.attributes[key] = value.clone();
                    }
                } else if version.attributes["enabled"] == false {
                    return wrong(403, "SecretDisabled");
                }
                let mut bundle = self.bundle(&secret.name, version, fault);
                if method == "PATCH" {
                    bundle.as_object_mut().unwrap().remove("value");
                }
                answer(200, &bundle)
            }
            ("DELETE", ["secrets", _]) if live => {
                let level = data.level();
                let secret = data.secrets.get_mut(name).unwrap();
                secret.deleted = true;
                answer(200, &self.deleted(&secret.name, level))
            }
            (_, ["deletedsecrets", _, rest @ ..]) => {
                let (level, protected) = (data.level(), data.purge_protection);
                let Some(secret) = data.secrets.get_mut(name).filter(|secret| secret.deleted) else {
                    return wrong(404, "");
                };
                match (method, rest) {
                    ("GET", []) => answer(200, &self.deleted(&secret.name, level)),
                    ("POST", ["recover"]) => {
                        secret.deleted = false;
                        let version = secret.versions.last().unwrap();
                        let mut bundle = self.bundle(&secret.name, version, None);
                        bundle.as_object_mut().unwrap().remove("value");
                        answer(200, &bundle)
                    }
                    ("DELETE", []) if data.deleting > 0 => {
                        data.deleting -= 1;
                        wrong(409, "ObjectIsBeingDeleted")
                    }
                    ("DELETE", []) if protected => wrong(403, "ForbiddenByPolicy"),
                    ("DELETE", []) => {
                        data.secrets.remove(name);
                        let mut empty = answer(204, &Value::Null);
                        *empty.body_mut() = axum::body::Body::empty();
                        empty
                    }
                    _ => wrong(404, ""),
                }
            }
            _ => wrong(404, ""),
        }
    }

    fn bundle(&self, name: &str, version: &Version, fault: Option<&Fault>) -> Value {
        let (name, id) = match fault {
            Some(Fault::WrongName) => ("daypass-team-0a-OTHER", version.id.clone()),
            Some(Fault::WrongVersion) => (name, "f".repeat(32)),
            _ => (name, version.id.clone()),
        };
        let mut bundle = json!({
            "value": version.value, "id": format!("{}/secrets/{name}/{id}", self.vault),
            "attributes": version.attributes, "tags": {},
        });
        if let Some(kind) = &version.content_type {
            bundle["contentType"] = kind.as_str().into();
        }
        bundle
    }

    fn deleted(&self, name: &str, level: &str) -> Value {
        json!({
            "id": format!("{}/secrets/{name}/{:032x}", self.vault, 1), "attributes": {"enabled": true, "recoveryLevel": level},
            "recoveryId": format!("{}/deletedsecrets/{name}", self.vault),
            "deletedDate": 1_790_000_000, "scheduledPurgeDate": 1_797_776_000,
        })
    }

    /// A page of at most three entries, so that every test meets several.
    fn page(&self, data: &Data, all: Vec<Value>, path: &str, query: &HashMap<String, String>) -> Value {
        let from: usize = query.get("$skiptoken").and_then(|token| token.parse().ok()).unwrap_or(0);
        let next = (from + 3 < all.len()).then(|| {
            let at = data.next_page_at.as_deref().unwrap_or(&self.vault);
            format!("{at}/{path}?api-version=2025-07-01&$skiptoken={}&maxresults=25", from + 3)
        });
        json!({"value": all.into_iter().skip(from).take(3).collect::<Vec<_>>(), "nextLink": next})
    }
}

/// Entra's token endpoint.
async fn issue(State(served): State<Arc<Served>>, uri: Uri, body: Bytes) -> Response {
    let control = &served.control;
    control.record(Call { path: uri.path().to_owned(), signed_in: false });
    if let Some(fault) = control.strike("entra")
        && let Some(answer) = answer_of(fault, error).await
    {
        return answer;
    }
    let refuse = |status: u16, code: u32| {
        answer(
            status,
            &json!({
                "error": "invalid_client", "error_codes": [code],
                "error_description": format!("AADSTS{code}: {SERVER_TEXT}"),
            }),
        )
    };
    if uri.path() != format!("/{TENANT}/oauth2/v2.0/token") {
        return refuse(400, 90_002);
    }
    let form = fields(&body);
    let is = |name: &str, expected: &str| form.get(name).is_some_and(|value| value == expected);
    if !is("grant_type", "client_credentials") || !is("scope", "https://vault.azure.net/.default") {
        return refuse(400, 900_144);
    }
    if !is("client_id", CLIENT) {
        return refuse(400, 700_016);
    }
    let caller = if form.contains_key("client_secret") {
        is("client_secret", CLIENT_SECRET).then(|| "team-a".to_owned())
    } else if is("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer") {
        let token = form.get("client_assertion").cloned().unwrap_or_default();
        (control.review)(token, "api://AzureADTokenExchange".to_owned()).await
    } else {
        None
    };
    match caller {
        Some(caller) => {
            answer(200, &json!({"access_token": control.issue(&caller), "expires_in": 3599, "token_type": "Bearer"}))
        }
        None if form.contains_key("client_secret") => refuse(401, 7_000_215),
        None => refuse(401, 700_211),
    }
}
