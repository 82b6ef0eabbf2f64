//! HashiCorp Vault and OpenBao: key-value engine, version 1 and 2, over their REST API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::answered::Answered;
use super::http::{Answer, Body, Http, Request};
use super::settings::StoreSettings;
use super::sign_in::{Issuer, KeptToken, Proof, Proofs, Token, still_refused};
use super::template::{NameTemplate, as_listed, unchanged};
use super::{Fetched, Listed, Query, SecretStore, Stage, StoreError, VersionInfo, Write};
use crate::api::{VaultBackend, VaultEngine};
use crate::secret::SecretValue;

/// How many secrets are read at a time for one run: there is no batch call.
const READS_AT_ONCE: usize = 8;
/// The audience of the token that is traded in, unless the store names another.
const AUDIENCE: &str = "vault";
/// What a version is called where the engine has none.
const UNVERSIONED: &str = "unversioned";

/// A team's secrets in Vault.
pub struct VaultStore {
    server: Arc<Server>,
    token: KeptToken,
    /// A token is the fruit of a login: a fresh one is known to be good.
    logs_in: bool,
    team: String,
    mount: Vec<String>,
    engine: VaultEngine,
    template: NameTemplate,
    key: String,
}

/// The server, and the header that every call bears.
struct Server {
    http: Http,
    namespace: Option<String>,
}

impl VaultStore {
    /// The store of a team, signing in as its object says.
    ///
    /// # Errors
    /// The object cannot be used: the text names the field.
    pub fn new(
        team: &str,
        spec: &VaultBackend,
        settings: &StoreSettings,
        proof: Proof,
        proofs: Arc<dyn Proofs>,
    ) -> Result<Self, StoreError> {
        let server = server(spec, settings)?;
        // A secret without an ID is a token by itself.
        let logs_in = !matches!(&proof, Proof::Secrets(source) if source.id.is_none());
        let issuer = Login { server: server.clone(), spec: spec.clone(), proof, proofs };
        Self::with_issuer(team, spec, server, Box::new(issuer), logs_in)
    }

    /// The same store, asked with a token that somebody has.
    ///
    /// # Errors
    /// The object cannot be used: the text names the field.
    pub fn with_own_token(
        team: &str,
        spec: &VaultBackend,
        settings: &StoreSettings,
        token: Box<dyn Issuer>,
    ) -> Result<Self, StoreError> {
        Self::with_issuer(team, spec, server(spec, settings)?, token, false)
    }

    fn with_issuer(
        team: &str,
        spec: &VaultBackend,
        server: Arc<Server>,
        issuer: Box<dyn Issuer>,
        logs_in: bool,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            server,
            token: KeptToken::new(issuer),
            logs_in,
            team: team.to_owned(),
            mount: segments(spec.mount.as_deref().unwrap_or("secret")),
            engine: spec.engine.unwrap_or_default(),
            template: template(spec)?,
            key: spec.key.clone().unwrap_or_else(|| "value".into()),
        })
    }

    /// What every name of the team begins with.
    ///
    /// # Errors
    /// The template cannot be used.
    pub fn prefix(team: &str, spec: &VaultBackend) -> Result<String, StoreError> {
        Ok(template(spec)?.prefix(team))
    }

    async fn get(&self, query: &Query) -> Result<Fetched, StoreError> {
        let path = self.path(&query.name)?;
        match self.engine {
            VaultEngine::V2 => self.get_v2(&path, query).await,
            VaultEngine::V1 if query.version.is_some() => {
                Err(StoreError::NotFound("the engine V1 keeps no versions: take `version` away".into()))
            }
            VaultEngine::V1 => {
                let answer = self.ask("GET", "", &path, &[], &Body::Empty).await?;
                let found: V1 = self.expect(&answer)?;
                Ok(Fetched { value: self.value(found.data)?, version: UNVERSIONED.into() })
            }
        }
    }

    async fn get_v2(&self, path: &str, query: &Query) -> Result<Fetched, StoreError> {
        let pinned = query.version.as_deref();
        // As Vault writes them: it would take `01` for `1`.
        let is_one =
            |version: &str| version.parse::<u64>().is_ok_and(|number| number > 0 && number.to_string() == version);
        if pinned.is_some_and(|version| !is_one(version)) {
            return Err(StoreError::NotFound("versions are whole numbers from 1".into()));
        }
        let pins: Vec<(&str, &str)> = pinned.map(|version| ("version", version)).into_iter().collect();
        let answer = self.ask("GET", "data", path, &pins, &Body::Empty).await?;
        if answer.status == 404 {
            // What was deleted is 404 too, and says so in its body.
            let gone: Option<V2> = answer.json();
            let state = gone.and_then(|gone| gone.data).and_then(|data| data.metadata.state());
            return Err(StoreError::NotFound(match state {
                Some(state) => format!("the version is {state} in Vault"),
                None => "Vault has nothing under this path".into(),
            }));
        }
        let found: V2 = self.expect(&answer)?;
        let data = found.data.ok_or_else(lies)?;
        if pinned.is_some_and(|pinned| data.metadata.number.to_string() != *pinned) {
            return Err(StoreError::Malformed("Vault answered with another version than was asked for".into()));
        }
        Ok(Fetched { value: self.value(data.data)?, version: data.metadata.number.to_string() })
    }

    fn value(&self, data: Option<BTreeMap<String, Answered>>) -> Result<SecretValue, StoreError> {
        let mut data = data.ok_or_else(lies)?;
        data.remove(&self.key).map(|found| found.0).ok_or_else(|| {
            StoreError::Malformed(format!(
                "the entry has no key {:?}: set vault.key in the store, or the key in the entry",
                self.key
            ))
        })
    }

    fn path(&self, name: &str) -> Result<String, StoreError> {
        self.template.render(&self.team, name, unchanged)
    }

    /// Asks below the mount. `part` is the engine's own first segment (`data`, `metadata`), empty for V1. An answer is
    /// given back where the backend as such is well: 2xx, 400, 404.
    async fn ask(
        &self,
        method: &str,
        part: &str,
        path: &str,
        query: &[(&str, &str)],
        body: &Body,
    ) -> Result<Answer, StoreError> {
        let mut segments: Vec<&str> = vec!["v1"];
        segments.extend(self.mount.iter().map(String::as_str));
        segments.extend(Some(part).filter(|part| !part.is_empty()));
        segments.extend(path.split('/').filter(|segment| !segment.is_empty()));
        let denied =
            || StoreError::Denied("Vault does not let the store's role do this: add the path to its policy".into());
        for attempt in 0..2 {
            let token = self.token.get().await?;
            let request = Request::new(method, &segments).query(query).body(body.clone());
            let answer = self.server.ask(request, Some(&token)).await?;
            if answer.status != 403 {
                return Ok(answer);
            }
            // Vault says the same of a token that has expired and of a path that it may not read.
            let own = self.server.ask(Request::get(&["v1", "auth", "token", "lookup-self"]), Some(&token)).await?;
            if own.is_success() {
                return Err(denied());
            }
            // A role without Vault's default policy may not look itself up: its login has just shown that it is good.
            if attempt > 0 && self.logs_in {
                return Err(denied());
            }
            self.token.refused(&token).await;
        }
        Err(still_refused("Vault"))
    }

    fn expect<'a, T: Deserialize<'a>>(&self, answer: &'a Answer) -> Result<T, StoreError> {
        match answer.status {
            404 => Err(StoreError::NotFound("Vault has nothing under this path".into())),
            400 => Err(StoreError::Malformed(format!(
                "Vault does not understand the question: is the engine at {:?} of the version that vault.engine says?",
                self.mount.join("/")
            ))),
            _ if answer.is_success() => answer.json().ok_or_else(lies),
            other => Err(StoreError::Malformed(format!("Vault answered {other}"))),
        }
    }

    async fn metadata(&self, path: &str) -> Result<Metadata, StoreError> {
        let answer = self.ask("GET", "metadata", path, &[], &Body::Empty).await?;
        let found: Data<Metadata> = self.expect(&answer)?;
        found.data.ok_or_else(lies)
    }

    /// Asks for one version of an entry, with all of its fields.
    async fn entry_v2(&self, path: &str, version: u64) -> Result<Answer, StoreError> {
        self.ask("GET", "data", path, &[("version", &version.to_string())], &Body::Empty).await
    }

    /// The fields of an entry, ours among them.
    fn fields<'a>(&self, entry: &'a Answer) -> Result<Fields<'a>, StoreError> {
        let found = match self.engine {
            VaultEngine::V1 => self.expect::<Data<Fields<'a>>>(entry)?.data,
            VaultEngine::V2 => self.expect::<Data<Data<Fields<'a>>>>(entry)?.data.and_then(|version| version.data),
        };
        found.ok_or_else(lies)
    }

    /// The fields of an entry with a new value of ours.
    fn written<'a>(&'a self, before: &Fields<'a>, value: &'a str) -> BTreeMap<String, Field<'a>> {
        let mut fields: BTreeMap<String, Field<'a>> =
            before.iter().map(|(key, value)| (key.clone(), Field::AsItWas(value))).collect();
        fields.insert(self.key.clone(), Field::Ours(value));
        fields
    }

    async fn put_v1(&self, path: &str, value: &str, write: Write) -> Result<String, StoreError> {
        let entry = self.ask("GET", "", path, &[], &Body::Empty).await?;
        let before = match self.fields(&entry) {
            Err(StoreError::NotFound(_)) => None,
            found => Some(found?),
        };
        check_there(before.is_some(), write)?;
        let body = Body::json(&self.written(&before.unwrap_or_default(), value));
        let answer = self.ask("POST", "", path, &[], &body).await?;
        if answer.is_success() { Ok(UNVERSIONED.into()) } else { Err(refused(&answer)) }
    }

    async fn put_v2(&self, path: &str, value: &str, write: Write) -> Result<String, StoreError> {
        let before = match self.metadata(path).await {
            Ok(metadata) => Some(metadata),
            Err(StoreError::NotFound(_)) => None,
            Err(error) => return Err(error),
        };
        let live = before.as_ref().and_then(Metadata::live);
        check_there(live.is_some(), write)?;
        let entry = match live {
            Some(version) => Some(self.entry_v2(path, version).await?),
            // A secret of which every version is deleted can be set anew.
            None => None,
        };
        let fields = entry.as_ref().map(|entry| self.fields(entry)).transpose()?.unwrap_or_default();
        let cas = before.as_ref().map_or(0, |metadata| metadata.current_version);
        let body = Body::json(&Written { options: Options { cas }, data: self.written(&fields, value) });
        let answer = self.ask("POST", "data", path, &[], &body).await?;
        if answer.status == 400 {
            return Err(StoreError::Conflict("the secret was changed at the same time".into()));
        }
        let made: Data<Version> = self.expect(&answer)?;
        let version = made.data.ok_or_else(lies)?.number;
        if write == Write::Replace {
            let older: Vec<u64> = before
                .iter()
                .flat_map(|metadata| &metadata.versions)
                .filter(|(_, version)| !version.destroyed)
                .filter_map(|(number, _)| number.parse().ok())
                .collect();
            if !older.is_empty() {
                let answer = self.ask("PUT", "destroy", path, &[], &Body::json(&json!({"versions": older}))).await?;
                if !answer.is_success() {
                    return Err(refused(&answer));
                }
            }
        }
        Ok(version.to_string())
    }
}

impl SecretStore for VaultStore {
    fn get_many<'a>(&'a self, queries: &'a [Query]) -> BoxFuture<'a, Vec<Result<Fetched, StoreError>>> {
        stream::iter(queries).map(|query| self.get(query)).buffered(READS_AT_ONCE).collect().boxed()
    }

    fn sign_in(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        async { self.token.get().await.map(|_| ()) }.boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>, StoreError>> {
        async {
            let prefix = self.template.prefix(&self.team);
            // A list is one of a folder; what follows the last `/` is looked for in its entries.
            let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
            let part = if self.engine == VaultEngine::V2 { "metadata" } else { "" };
            let answer = self.ask("LIST", part, folder, &[], &Body::Empty).await?;
            if answer.status == 404 {
                // An empty folder has an empty list of errors, a mount that is not there has one.
                let errors = answer.json::<Errors>().map_or(0, |answer| answer.errors.len());
                return if errors == 0 {
                    Ok(Vec::new())
                } else {
                    Err(StoreError::unavailable(
                        Stage::Answer,
                        format!("Vault has no engine at {:?}: correct vault.mount", self.mount.join("/")),
                    ))
                };
            }
            let found: Data<Keys> = self.expect(&answer)?;
            let keys = found.data.ok_or_else(lies)?.keys;
            let full = |key: &str| if folder.is_empty() { key.to_owned() } else { format!("{folder}/{key}") };
            let mut names: Vec<Listed> = keys
                .iter()
                .filter_map(|key| self.template.name_of(&self.team, &full(key), as_listed))
                .map(|name| Listed { name, changed: None })
                .collect();
            names.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(names)
        }
        .boxed()
    }

    fn history<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<VersionInfo>, StoreError>> {
        async move {
            if self.engine == VaultEngine::V1 {
                return Err(StoreError::Unsupported("the engine V1 keeps no versions".into()));
            }
            let metadata = self.metadata(&self.path(name)?).await?;
            let mut versions: Vec<(u64, VersionInfo)> = metadata
                .versions
                .into_iter()
                .filter_map(|(number, version)| {
                    let number: u64 = number.parse().ok()?;
                    let current = if number == metadata.current_version { "current" } else { "enabled" };
                    let state = version.state().unwrap_or(current).to_owned();
                    let created = version.created_time.parse::<Timestamp>().ok();
                    Some((number, VersionInfo { version: number.to_string(), created, state }))
                })
                .collect();
            versions.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
            Ok(versions.into_iter().map(|(_, version)| version).collect())
        }
        .boxed()
    }

    fn put<'a>(
        &'a self,
        name: &'a str,
        value: &'a SecretValue,
        write: Write,
    ) -> BoxFuture<'a, Result<String, StoreError>> {
        async move {
            let path = self.path(name)?;
            let text = std::str::from_utf8(value.expose()).map_err(|_| {
                StoreError::Unsupported("Vault holds text: encode the value, as base64 for instance, first".into())
            })?;
            match self.engine {
                VaultEngine::V1 => self.put_v1(&path, text, write).await,
                VaultEngine::V2 => self.put_v2(&path, text, write).await,
            }
        }
        .boxed()
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let path = self.path(name)?;
            // A deletion of nothing succeeds, so that is asked first.
            let (part, entry) = match self.engine {
                VaultEngine::V1 => ("", Some(self.ask("GET", "", &path, &[], &Body::Empty).await?)),
                VaultEngine::V2 => match self.metadata(&path).await?.live() {
                    Some(version) => ("metadata", Some(self.entry_v2(&path, version).await?)),
                    None => ("metadata", None),
                },
            };
            let fields = entry.as_ref().map(|entry| self.fields(entry)).transpose()?.unwrap_or_default();
            if fields.keys().any(|key| *key != self.key) {
                return Err(StoreError::Conflict(format!(
                    "the entry has other keys than {:?}, and Vault deletes whole entries: take that key out of it with \
                     Vault's own tools",
                    self.key
                )));
            }
            let answer = self.ask("DELETE", part, &path, &[], &Body::Empty).await?;
            if answer.is_success() { Ok(()) } else { Err(refused(&answer)) }
        }
        .boxed()
    }
}

impl Server {
    /// Asks with the headers of every call; what all backends say alike is an error already.
    async fn ask(&self, request: Request<'_>, token: Option<&SecretValue>) -> Result<Answer, StoreError> {
        let own = |text: &str| SecretValue::new(text.as_bytes().to_vec());
        let mut request = request.header("x-vault-request", own("true"));
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", own(namespace));
        }
        if let Some(token) = token {
            request = request.header("x-vault-token", SecretValue::new(token.expose().to_vec()));
        }
        let answer = self.http.ask(request).await?;
        match answer.status {
            503 => Err(StoreError::unavailable(Stage::Answer, "Vault is sealed, or not ready: unseal it")),
            472 | 473 => Err(StoreError::unavailable(
                Stage::Answer,
                "this Vault node is a standby that serves no reads: point the store at the active one",
            )),
            _ => match answer.common_trouble() {
                Some(trouble) => Err(trouble),
                None => Ok(answer),
            },
        }
    }
}

/// Trades the store's proof for a token.
struct Login {
    server: Arc<Server>,
    spec: VaultBackend,
    proof: Proof,
    proofs: Arc<dyn Proofs>,
}

impl Issuer for Login {
    fn issue(&self) -> BoxFuture<'_, Result<Token, StoreError>> {
        async {
            let (default_mount, body) = match &self.proof {
                Proof::Token(subject) => {
                    let token = self.proofs.token(subject, AUDIENCE).await?;
                    let jwt = String::from_utf8_lossy(token.expose()).into_owned();
                    let role = self.spec.role.as_deref().ok_or_else(|| {
                        StoreError::unavailable(Stage::SignIn, "vault.role is not set: a token is traded for a role's")
                    })?;
                    ("kubernetes", json!({"role": role, "jwt": jwt}))
                }
                Proof::Secrets(source) => {
                    let secret = self.proofs.secret(&source.secret).await?;
                    let Some(id) = &source.id else {
                        // Without an ID the secret is a token by itself.
                        return Ok(Token { value: secret, lifetime: None });
                    };
                    let id = self.proofs.secret(id).await?;
                    let text = |value: &SecretValue| String::from_utf8_lossy(value.expose()).into_owned();
                    ("approle", json!({"role_id": text(&id), "secret_id": text(&secret)}))
                }
            };
            let mount = segments(self.spec.auth_mount.as_deref().unwrap_or(default_mount));
            let mut path: Vec<&str> = vec!["v1", "auth"];
            path.extend(mount.iter().map(String::as_str));
            path.push("login");
            let answer = self.server.ask(Request::new("POST", &path).body(Body::json(&body)), None).await?;
            if !answer.is_success() {
                return Err(StoreError::unavailable(
                    Stage::SignIn,
                    format!(
                        "Vault refuses the sign-in at auth/{} ({}): compare the role's bound ServiceAccount, namespace \
                         and audience with the store's signIn",
                        mount.join("/"),
                        answer.status
                    ),
                ));
            }
            let auth = answer.json::<LoggedIn>().ok_or_else(lies)?.auth;
            let lifetime = Some(auth.lease_duration).filter(|seconds| *seconds > 0).map(Duration::from_secs);
            Ok(Token { value: auth.client_token.0, lifetime })
        }
        .boxed()
    }
}

fn server(spec: &VaultBackend, settings: &StoreSettings) -> Result<Arc<Server>, StoreError> {
    let http = Http::of_store(&spec.address, spec.connection.as_ref(), settings)?;
    Ok(Arc::new(Server { http, namespace: spec.namespace.clone() }))
}

fn template(spec: &VaultBackend) -> Result<NameTemplate, StoreError> {
    NameTemplate::parse(spec.name_template.as_deref().unwrap_or("daypass/{team}/{name}"))
        .map_err(|why| StoreError::unavailable(Stage::Address, why))
}

fn segments(path: &str) -> Vec<String> {
    path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
}

fn check_there(there: bool, write: Write) -> Result<(), StoreError> {
    match (there, write) {
        (true, Write::New) => Err(StoreError::Conflict("Vault has a value under this path already".into())),
        (false, Write::Keep | Write::Replace) => Err(StoreError::NotFound("Vault has nothing under this path".into())),
        _ => Ok(()),
    }
}

fn refused(answer: &Answer) -> StoreError {
    StoreError::unavailable(Stage::Answer, format!("Vault answered {} to the change", answer.status))
}

fn lies() -> StoreError {
    StoreError::Malformed("the answer is not one of Vault's".into())
}

#[derive(Deserialize)]
struct Data<T> {
    data: Option<T>,
}

/// The fields of an entry as they stand in an answer, which wipes them. Whoever writes the entry writes them all.
type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// A field of an entry that is written.
#[derive(Serialize)]
#[serde(untagged)]
enum Field<'a> {
    /// The value of the secret.
    Ours(&'a str),
    /// What somebody else keeps in the entry, to the letter.
    AsItWas(&'a RawValue),
}

/// A new version of an entry.
#[derive(Serialize)]
struct Written<'a> {
    options: Options,
    data: BTreeMap<String, Field<'a>>,
}

#[derive(Serialize)]
struct Options {
    /// The version that it comes after.
    cas: u64,
}

#[derive(Deserialize)]
struct V1 {
    data: Option<BTreeMap<String, Answered>>,
}

#[derive(Deserialize)]
struct V2 {
    data: Option<V2Data>,
}

#[derive(Deserialize)]
struct V2Data {
    data: Option<BTreeMap<String, Answered>>,
    metadata: Version,
}

#[derive(Deserialize)]
struct Version {
    #[serde(default, rename = "version")]
    number: u64,
    #[serde(default)]
    created_time: String,
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    destroyed: bool,
}

impl Version {
    /// Why the version has no value; none where it has one.
    fn state(&self) -> Option<&'static str> {
        if self.destroyed {
            Some("destroyed")
        } else if self.deletion_time.is_empty() {
            None
        } else {
            // A time to come is one that `delete_version_after` has set.
            let past = self.deletion_time.parse::<Timestamp>().map_or(true, |time| time <= Timestamp::now());
            past.then_some("deleted")
        }
    }
}

#[derive(Deserialize)]
struct Metadata {
    current_version: u64,
    #[serde(default)]
    versions: BTreeMap<String, Version>,
}

impl Metadata {
    /// The current version, where it has a value.
    fn live(&self) -> Option<u64> {
        let current = self.versions.get(&self.current_version.to_string())?;
        current.state().is_none().then_some(self.current_version)
    }
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct LoggedIn {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    client_token: Answered,
    #[serde(default)]
    lease_duration: u64,
}
