//! Where a team's values live: one trait, one module for each backend.
//!
//! A backend answers for all names of a run in one call, so that those with a batch call can use it, and in the order
//! asked. Authorization, caching, limits and single-flight stand in front of this trait and know nothing of a backend.
//! Writes are the CLI's, with the admin's own credentials; they do not go through the operator.

use std::time::Duration;

use futures::future::BoxFuture;

use crate::secret::SecretValue;

pub mod sealed;

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
    /// The backend did not answer, or not in time, or refuses the store as such.
    #[error("{0}")]
    Unavailable(String),
    /// There is something under the name that is no value.
    #[error("{0}")]
    Malformed(String),
    /// The key that the value is sealed to is not there.
    #[error("{0}")]
    KeyLost(String),
}

/// A place that values are read from.
pub trait SecretStore: Send + Sync {
    /// Asks for all `queries` and answers one result for each, in their order. One that fails does not spoil the others.
    fn get_many<'a>(&'a self, queries: &'a [Query]) -> BoxFuture<'a, Vec<Result<Fetched, StoreError>>>;
}
