//! The embedded store: ciphertext in `TeamSecret` objects, private keys in files of the operator.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use kube::{Api, Client};
use tokio::sync::watch;

use super::{Fetched, Query, SecretStore, Stage, StoreError};
use crate::api::names::team_secret_object;
use crate::api::{SealedVersion, TeamSecret};
use crate::kube_ext::retry_after;

pub mod backup;
pub mod key;
pub mod key_keeper;
pub mod key_life;
pub mod keyring;
pub mod seal;

pub use key_life::Health;
use keyring::KeyRing;

/// How many objects are read at a time for one run.
const READS_AT_ONCE: usize = 4;
/// How long one read may take. The client itself has no limit.
const READ_DEADLINE: Duration = Duration::from_secs(10);

/// The keys that are live now, and whether they are all.
#[derive(Clone)]
pub struct KeyState {
    /// What opens.
    pub keys: KeyRing,
    /// Whether something is missing.
    pub health: Health,
}

impl Default for KeyState {
    fn default() -> Self {
        Self {
            keys: KeyRing::default(),
            health: Health::Waiting("the keys of the sealed store are not read yet".into()),
        }
    }
}

/// The sealed store of one team.
pub struct SealedStore {
    namespace: String,
    objects: Api<TeamSecret>,
    keys: watch::Receiver<KeyState>,
}

impl SealedStore {
    /// The store of the team `namespace`, opened with whatever keys are live at the time of each question.
    pub fn new(client: Client, namespace: &str, keys: watch::Receiver<KeyState>) -> Self {
        Self { namespace: namespace.to_owned(), objects: Api::namespaced(client, namespace), keys }
    }

    async fn get(&self, query: &Query) -> Result<Fetched, StoreError> {
        // Asked first: without keys there is nothing to read for.
        if let Health::KeyLost(message) = &self.keys.borrow().health {
            return Err(StoreError::KeyLost(message.clone()));
        }
        let object = team_secret_object(&query.name);
        let found = tokio::time::timeout(READ_DEADLINE, self.objects.get_opt(&object))
            .await
            .map_err(|_| unavailable("the API server did not answer in time"))?
            .map_err(|error| refused_read(&error))?;
        let state = self.keys.borrow().clone();
        fetch(&self.namespace, query, found.as_ref(), &state)
    }
}

impl SecretStore for SealedStore {
    fn get_many<'a>(&'a self, queries: &'a [Query]) -> BoxFuture<'a, Vec<Result<Fetched, StoreError>>> {
        stream::iter(queries).map(|query| self.get(query)).buffered(READS_AT_ONCE).collect().boxed()
    }
}

fn unavailable(why: &str) -> StoreError {
    StoreError::unavailable(Stage::Answer, format!("TeamSecrets cannot be read: {why}"))
}

fn refused_read(error: &kube::Error) -> StoreError {
    match error {
        kube::Error::Api(status) if status.code == 429 => StoreError::Throttled { retry_after: retry_after(status) },
        // The operator's own right, not the team's: the store is not there for anyone.
        kube::Error::Api(status) if status.code == 403 => unavailable("the operator has no right to get them"),
        kube::Error::Api(status) => unavailable(&format!("the API server answered {}", status.code)),
        _ => unavailable("the API server cannot be reached"),
    }
}

/// Takes the asked version out of an object and opens it. No client in it.
fn fetch(namespace: &str, query: &Query, found: Option<&TeamSecret>, state: &KeyState) -> Result<Fetched, StoreError> {
    let name = &query.name;
    let spec = found
        .map(|object| &object.spec)
        // Names that differ in case share an object; only the one that it is about is there.
        .filter(|spec| spec.name == *name)
        .ok_or_else(|| StoreError::NotFound(format!("team `{namespace}` has no secret `{name}`")))?;
    let version = pick(namespace, query, &spec.versions)?;
    let (id, number) = (&version.key_id, version.version);
    let Some(key) = state.keys.get(id) else {
        return Err(match &state.health {
            Health::Waiting(message) => StoreError::unavailable(Stage::Answer, message.clone()),
            Health::KeyLost(message) => StoreError::KeyLost(message.clone()),
            Health::Ready => StoreError::KeyLost(format!(
                "version {number} of secret `{name}` of team `{namespace}` is sealed to the key `{id}`, which the \
                 operator does not have: `daypass key restore` brings a key back, `daypass secret rotate {name} -n \
                 {namespace}` sets the value anew"
            )),
        });
    };
    let value = seal::open(key, namespace, &spec.name, version).map_err(|error| {
        StoreError::Malformed(format!("version {number} of secret `{name}` of team `{namespace}`: {error}"))
    })?;
    Ok(Fetched { value, version: number.to_string() })
}

fn pick<'a>(namespace: &str, query: &Query, versions: &'a [SealedVersion]) -> Result<&'a SealedVersion, StoreError> {
    let name = &query.name;
    let Some(pinned) = &query.version else {
        // The newest stands first by a rule of the kind; a rule can be missing, a number cannot.
        return versions
            .iter()
            .max_by_key(|version| version.version)
            .ok_or_else(|| StoreError::NotFound(format!("secret `{name}` of team `{namespace}` has no version")));
    };
    versions.iter().find(|version| version.version.to_string() == *pinned).ok_or_else(|| {
        StoreError::NotFound(format!("secret `{name}` of team `{namespace}` has no version `{pinned}` any more"))
    })
}

#[cfg(test)]
mod tests;
