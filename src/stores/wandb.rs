//! W&B team secrets. W&B lists the names of an entity's secrets, and no public API of it returns a value: the values come
//! from the manager that the team keeps them in beside W&B.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::http::{Answer, Body, Http, Request};
use super::settings::StoreSettings;
use super::sign_in::{Issuer, Proofs, Token};
use super::template::is_name;
use super::{Fetched, Listed, Query, SecretStore, Stage, StoreError, VersionInfo, Write};
use crate::api::WandbBackend;
use crate::secret::SecretValue;

/// How long the list of names is used before W&B is asked again.
const NAMES_KEPT: Duration = Duration::from_secs(60);
/// The names of an entity's secrets, with the time of their making.
const QUERY: &str = "query TeamSecrets($entity: String!) { entity(name: $entity) { secrets { name createdAt } } }";

/// Who a key belongs to, and which teams that person is in.
const VIEWER: &str = "query Viewer { viewer { username entity teams { edges { node { name } } } } }";

/// A team's secrets, by the names that W&B has for them.
pub struct WandbStore {
    http: Http,
    entity: String,
    key: Box<dyn Issuer>,
    names: Mutex<Names>,
    values: Option<Arc<dyn SecretStore>>,
}

type Names = Option<(Instant, Arc<Vec<Listed>>)>;

/// The API key, out of the team's sealed store.
pub struct SealedKey {
    /// Where it is read from.
    pub proofs: Arc<dyn Proofs>,
    /// The name of the team secret.
    pub name: String,
}

impl Issuer for SealedKey {
    fn issue(&self) -> BoxFuture<'_, Result<Token, StoreError>> {
        async { Ok(Token { value: self.proofs.secret(&self.name).await?, lifetime: None }) }.boxed()
    }
}

impl WandbStore {
    /// The store of an entity. `values` is the manager behind it, where the team has said which.
    ///
    /// # Errors
    /// The object cannot be used: the text names the field.
    pub fn new(
        spec: &WandbBackend,
        settings: &StoreSettings,
        key: Box<dyn Issuer>,
        values: Option<Arc<dyn SecretStore>>,
    ) -> Result<Self, StoreError> {
        let http = if let Some(address) = &spec.base_url {
            Http::of_store(address, spec.connection.as_ref(), settings)?
        } else {
            let proxy = spec.connection.as_ref().and_then(|connection| connection.proxy.as_deref());
            Http::of_cluster(&settings.endpoints.wandb, proxy, settings)?
        };
        Ok(Self { http, entity: spec.entity.clone(), key, names: Mutex::default(), values })
    }

    /// The names that W&B lists, asked for at most once a minute.
    async fn names(&self) -> Result<Arc<Vec<Listed>>, StoreError> {
        let kept = self.kept().clone().filter(|(at, _)| at.elapsed() < NAMES_KEPT);
        if let Some((_, names)) = kept {
            return Ok(names);
        }
        let names = Arc::new(self.ask().await?);
        *self.kept() = Some((Instant::now(), names.clone()));
        Ok(names)
    }

    fn kept(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self) -> Result<Vec<Listed>, StoreError> {
        let key = self.key.issue().await?.value;
        let answer = ask(&self.http, &key, &json!({"query": QUERY, "variables": {"entity": self.entity}})).await?;
        if let Some(trouble) = answer.common_trouble() {
            return Err(trouble);
        }
        match answer.status {
            401 | 403 => Err(StoreError::unavailable(
                Stage::SignIn,
                "W&B refuses the API key that wandb.apiKey names: set one of a member of the entity",
            )),
            200 => {
                let answer: Answered = answer.json().ok_or_else(lies)?;
                // A refusal within a good answer: it is W&B's way for a field, too.
                let entity = answer.data.and_then(|data| data.entity).ok_or_else(|| {
                    StoreError::unavailable(
                        Stage::Answer,
                        format!(
                            "W&B knows no entity {:?} that this API key may see: correct wandb.entity",
                            self.entity
                        ),
                    )
                })?;
                // What no reference could name is not shown either.
                let known = entity.secrets.into_iter().filter(|secret| is_name(&secret.name));
                let mut names: Vec<Listed> = known.map(Named::listed).collect();
                names.sort_by(|a, b| a.name.cmp(&b.name));
                Ok(names)
            }
            other => Err(StoreError::unavailable(Stage::Answer, format!("W&B answered {other}"))),
        }
    }

    fn values(&self) -> Result<&dyn SecretStore, StoreError> {
        self.values.as_deref().ok_or_else(not_readable)
    }
}

/// Asks W&B's GraphQL endpoint with an API key.
async fn ask(http: &Http, key: &SecretValue, question: &serde_json::Value) -> Result<Answer, StoreError> {
    let pair = Zeroizing::new([b"api:", key.expose()].concat());
    let encoded = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(pair.as_slice()));
    let credentials = SecretValue::new([b"Basic ", encoded.as_bytes()].concat());
    let body = Body::json(question);
    http.ask(Request::new("POST", &["graphql"]).header("authorization", credentials).body(body)).await
}

/// Whether W&B takes results for an entity from the owner of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// It does, as far as it can be told without writing.
    Yes,
    /// It does not know the key.
    NotTheKey,
    /// The key's owner is neither the entity nor a member of it.
    NotTheEntity,
}

/// Asks whether W&B takes results for an entity, with the question that its own client asks first.
///
/// # Errors
/// W&B could not be asked, or did not answer as it should.
pub async fn takes_results(endpoint: &str, entity: &str, key: &SecretValue) -> Result<Takes, StoreError> {
    let http = Http::of_cluster(endpoint, None, &StoreSettings::default())?;
    let answer = ask(&http, key, &json!({"query": VIEWER})).await?;
    if let Some(trouble) = answer.common_trouble() {
        return Err(trouble);
    }
    match answer.status {
        401 | 403 => Ok(Takes::NotTheKey),
        200 => {
            let answer: ViewerAnswer = answer.json().ok_or_else(lies)?;
            // An error within a good answer says nothing of the key.
            let data = answer.data.filter(|_| answer.errors.is_none()).ok_or_else(lies)?;
            let Some(viewer) = data.viewer else { return Ok(Takes::NotTheKey) };
            Ok(if viewer.belongs_to(entity) { Takes::Yes } else { Takes::NotTheEntity })
        }
        other => Err(StoreError::unavailable(Stage::Answer, format!("W&B answered {other}"))),
    }
}

#[derive(Deserialize)]
struct ViewerAnswer {
    data: Option<ViewerData>,
    errors: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct ViewerData {
    viewer: Option<Viewer>,
}

#[derive(Deserialize)]
struct Viewer {
    username: Option<String>,
    entity: Option<String>,
    teams: Option<Teams>,
}

#[derive(Deserialize)]
struct Teams {
    edges: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    node: Node,
}

#[derive(Deserialize)]
struct Node {
    name: String,
}

impl Viewer {
    fn belongs_to(&self, entity: &str) -> bool {
        let own = [&self.username, &self.entity].into_iter().flatten().map(String::as_str);
        let teams = self.teams.iter().flat_map(|teams| &teams.edges).map(|edge| edge.node.name.as_str());
        own.chain(teams).any(|name| name == entity)
    }
}

/// What to do where the team has not said where the values are.
pub fn not_readable() -> StoreError {
    StoreError::Unsupported(
        "no public API of W&B returns a value: set wandb.from to the manager that keeps the values (aws, gcp, azure or \
         kubernetes), or use another store"
            .into(),
    )
}

impl SecretStore for WandbStore {
    fn get_many<'a>(&'a self, queries: &'a [Query]) -> BoxFuture<'a, Vec<Result<Fetched, StoreError>>> {
        async move {
            let all = |error: &StoreError| queries.iter().map(|_| Err(error.clone())).collect();
            let values = match self.values() {
                Ok(values) => values,
                Err(error) => return all(&error),
            };
            let names = match self.names().await {
                Ok(names) => names,
                Err(error) => return all(&error),
            };
            let listed: Vec<Query> =
                queries.iter().filter(|query| names.iter().any(|listed| listed.name == query.name)).cloned().collect();
            let mut found: HashMap<Query, Result<Fetched, StoreError>> =
                listed.iter().cloned().zip(values.get_many(&listed).await).collect();
            let unlisted =
                || StoreError::NotFound(format!("W&B lists no secret of this name for entity {:?}", self.entity));
            queries.iter().map(|query| found.remove(query).unwrap_or_else(|| Err(unlisted()))).collect()
        }
        .boxed()
    }

    fn forget(&self) {
        *self.kept() = None;
    }

    fn sign_in(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        async {
            match &self.values {
                Some(values) => values.sign_in().await,
                None => Ok(()),
            }
        }
        .boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>, StoreError>> {
        async { Ok(self.names().await?.to_vec()) }.boxed()
    }

    fn history<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<VersionInfo>, StoreError>> {
        async move { self.values()?.history(name).await }.boxed()
    }

    /// Writes to the manager. The name has to be made in W&B too, which has no public API for that.
    fn put<'a>(
        &'a self,
        name: &'a str,
        value: &'a SecretValue,
        write: Write,
    ) -> BoxFuture<'a, Result<String, StoreError>> {
        async move { self.values()?.put(name, value, write).await }.boxed()
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        async move { self.values()?.delete(name).await }.boxed()
    }
}

fn lies() -> StoreError {
    StoreError::Malformed("the answer is not one of W&B's".into())
}

#[derive(Deserialize)]
struct Answered {
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    entity: Option<Entity>,
}

#[derive(Deserialize)]
struct Entity {
    secrets: Vec<Named>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    name: String,
    created_at: Option<String>,
}

impl Named {
    fn listed(self) -> Listed {
        // W&B leaves the zone out at times: it means UTC.
        let parse = |text: &String| text.parse::<Timestamp>().or_else(|_| format!("{text}Z").parse()).ok();
        Listed { changed: self.created_at.as_ref().and_then(parse), name: self.name }
    }
}
