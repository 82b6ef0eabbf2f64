//! Where a team's values live: one trait, one module for each backend.
//!
//! A backend answers for all names of a run in one call, so that those with a batch call can use it, and in the order
//! asked. Authorization, caching, limits and single-flight stand in front of this trait and know nothing of a backend.
//! Writes are the CLI's, through the same trait, with the admin's own credentials; they never go through the operator.

use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::secret::SecretValue;

#[cfg(feature = "rest")]
#[allow(dead_code, reason = "which of it is used depends on the features")]
mod answered;
#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "azure")]
pub mod azure;
#[cfg(any(feature = "azure", feature = "gcp"))]
mod bearer;
#[cfg(feature = "gcp")]
pub mod gcp;
#[cfg(feature = "rest")]
pub mod http;
pub mod kubernetes;
pub mod open;
pub mod own;
pub mod sealed;
pub mod settings;
pub mod sign_in;
pub mod template;
#[cfg(feature = "vault")]
pub mod vault;
#[cfg(feature = "wandb")]
pub mod wandb;

/// One secret that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Query {
    /// The secret's name in the store.
    pub name: String,
    /// One version, in the backend's own notation; none means the newest.
    pub version: Option<String>,
}

/// One secret that was found.
pub struct Fetched {
    /// All of the value. Taking one field of a JSON value is the caller's.
    pub value: SecretValue,
    /// The version that it is, in the backend's own notation. May be shown.
    pub version: String,
}

/// How far a question got before the backend as such was in the way. `daypass store check` shows them in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The server is found and takes connections.
    Address,
    /// It proves that it is the server.
    Tls,
    /// It lets the store sign in.
    SignIn,
    /// It answers questions.
    Answer,
}

/// Why a store did not give a value. The texts are made of our own fields only and may stand in a status: a backend's
/// own words stay in the backend's module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The name, or the version of it, is not there.
    #[error("{0}")]
    NotFound(String),
    /// The backend knows who asks and refuses this name.
    #[error("{0}")]
    Denied(String),
    /// The backend asks for fewer calls.
    #[error("the backend asks for fewer calls")]
    Throttled {
        /// How long it wants to be left alone, where it said so.
        retry_after: Option<Duration>,
    },
    /// The store's own limit leaves no room. The backend was not asked.
    #[error("more is asked than the store's own rateLimit lets through: raise spec.rateLimit, or ask less")]
    Limited,
    /// The backend did not answer, or not in time, or refuses the store as such.
    #[error("{why}")]
    Unavailable {
        /// How far the question got.
        stage: Stage,
        /// Why, with what mends it.
        why: String,
    },
    /// There is something under the name that is no value.
    #[error("{0}")]
    Malformed(String),
    /// The key that the value is sealed to is not there.
    #[error("{0}")]
    KeyLost(String),
    /// The backend has no such call.
    #[error("{0}")]
    Unsupported(String),
    /// The name is taken, was changed at the same time, or stands for more than this secret.
    #[error("{0}")]
    Conflict(String),
}

impl StoreError {
    /// The backend as such is in the way of every question.
    pub fn unavailable(stage: Stage, why: impl Into<String>) -> Self {
        Self::Unavailable { stage, why: why.into() }
    }

    /// Whether the backend as such, or the way to it, failed, so that asking for other names would too.
    pub const fn is_of_backend(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Throttled { .. } | Self::Limited)
    }
}

/// One secret that a backend lists. Never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The secret's name, as references use it.
    pub name: String,
    /// When it was last changed, where the backend says so.
    pub changed: Option<Timestamp>,
}

/// One version of a secret. Never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionInfo {
    /// The version, in the backend's own notation.
    pub version: String,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// `current`, `enabled`, `disabled`, `deleted`, `destroyed`, or the backend's own word for another state.
    pub state: String,
}

/// What a write expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Nothing under the name: `daypass secret set`.
    New,
    /// An older value, which stays readable by its version where the backend keeps versions.
    Keep,
    /// An older value, which must not resolve any more, pinned or not, as far as the backend can see to that.
    Replace,
}

/// A place that values are read from, and that admins write to.
pub trait SecretStore: Send + Sync {
    /// Asks for all `queries` and answers one result for each, in their order. One that fails does not spoil the others.
    fn get_many<'a>(&'a self, queries: &'a [Query]) -> BoxFuture<'a, Vec<Result<Fetched, StoreError>>>;

    /// Something was changed in the backend: forgets whatever it knows of names.
    fn forget(&self) {}

    /// Signs in, where the backend asks for it, and keeps the sign-in for what follows.
    fn sign_in(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// The team's secrets, by name.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>, StoreError>> {
        Box::pin(std::future::ready(Err(StoreError::Unsupported("the backend does not list names".into()))))
    }

    /// All versions of a secret that the backend tells of, the newest first.
    fn history<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Result<Vec<VersionInfo>, StoreError>> {
        Box::pin(std::future::ready(Err(StoreError::Unsupported("the backend keeps no versions".into()))))
    }

    /// Writes a value and gives its version.
    fn put<'a>(
        &'a self,
        _name: &'a str,
        _value: &'a SecretValue,
        _write: Write,
    ) -> BoxFuture<'a, Result<String, StoreError>> {
        Box::pin(std::future::ready(Err(StoreError::Unsupported("the store cannot be written to from here".into()))))
    }

    /// Deletes a secret with all its versions, as far as the backend deletes.
    fn delete<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(std::future::ready(Err(StoreError::Unsupported("the store cannot be written to from here".into()))))
    }
}
