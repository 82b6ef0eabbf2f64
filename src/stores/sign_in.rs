//! How a store proves to its backend whose it is, and how long what it got for that is kept.
//!
//! There is one primitive: a token that the API server signs for one ServiceAccount and one audience. Each backend
//! trades it for its own credential. The ServiceAccount is the team's own, or the operator's where the cluster admin
//! allows it. Instead of it a team may keep the backend's credential in its sealed store.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Query, SecretStore, Stage, StoreError};
use crate::api::{SecretSource, SignIn};
use crate::kube_ext::call;
use crate::secret::SecretValue;

/// How long a token lives, in seconds: the shortest that the API server makes.
const TOKEN_SECONDS: i64 = 600;
/// How long a backend's token is kept at most, whatever the backend says.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// What a store signs in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A token of a ServiceAccount.
    Token(Subject),
    /// The backend's own credential, out of the team's sealed store.
    Secrets(SecretSource),
}

/// Whose token is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A ServiceAccount of the team, and the audience where the store names one.
    Team {
        /// Its name.
        name: String,
        /// Instead of the backend's usual audience.
        audience: Option<String>,
    },
    /// The operator's own ServiceAccount.
    Operator,
}

impl Proof {
    /// What a store's `signIn` asks for; none where the object breaks the rule of exactly one.
    pub fn of(sign_in: &SignIn) -> Option<Self> {
        if let Some(account) = &sign_in.service_account {
            return Some(Self::Token(Subject::Team { name: account.name.clone(), audience: account.audience.clone() }));
        }
        if let Some(secrets) = &sign_in.secrets {
            return Some(Self::Secrets(secrets.clone()));
        }
        sign_in.operator.as_ref().map(|_| Self::Token(Subject::Operator))
    }
}

/// Where proofs come from.
pub trait Proofs: Send + Sync {
    /// A fresh token of the subject for this audience, unless the subject names another.
    fn token<'a>(&'a self, subject: &'a Subject, audience: &'a str) -> BoxFuture<'a, Result<SecretValue, StoreError>>;

    /// The value of a team secret of the team's sealed store.
    fn secret<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<SecretValue, StoreError>>;
}

/// Proofs of one team, from the cluster.
pub struct ClusterProofs {
    client: Client,
    team: String,
    /// Namespace and name of the operator's own ServiceAccount.
    operator: (String, String),
    sealed: Box<dyn SecretStore>,
}

impl ClusterProofs {
    /// Proofs of `team`, whose sealed store is `sealed`.
    pub fn new(client: Client, team: &str, operator: (String, String), sealed: Box<dyn SecretStore>) -> Self {
        Self { client, team: team.to_owned(), operator, sealed }
    }
}

impl Proofs for ClusterProofs {
    fn token<'a>(&'a self, subject: &'a Subject, audience: &'a str) -> BoxFuture<'a, Result<SecretValue, StoreError>> {
        async move {
            let (namespace, name, audience) = match subject {
                Subject::Team { name, audience: own } => {
                    (self.team.as_str(), name.as_str(), own.as_deref().unwrap_or(audience))
                }
                Subject::Operator => (self.operator.0.as_str(), self.operator.1.as_str(), audience),
            };
            let request = TokenRequest {
                spec: TokenRequestSpec {
                    audiences: vec![audience.to_owned()],
                    expiration_seconds: Some(TOKEN_SECONDS),
                    ..TokenRequestSpec::default()
                },
                ..TokenRequest::default()
            };
            let accounts = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
            let parameters = PostParams::default();
            let asked = accounts.create_token_request(name, &parameters, &request);
            let wrong = |why: String| StoreError::unavailable(Stage::SignIn, why);
            match call("ask for a ServiceAccount's token", asked).await {
                Ok(Ok(made)) => made
                    .status
                    .map(|status| SecretValue::new(status.token.into_bytes()))
                    .ok_or_else(|| wrong("the API server answered without a token".into())),
                Ok(Err(answer)) if answer.code == 404 => Err(wrong(format!(
                    "ServiceAccount {namespace}/{name} is not there: `kubectl create serviceaccount {name} -n {namespace}`"
                ))),
                Ok(Err(answer)) if answer.code == 403 => Err(wrong(format!(
                    "the operator may not mint tokens of ServiceAccount {namespace}/{name}: `daypass store grant-sign-in \
                     {name} -n {namespace}` makes the Role that lets it, for this one"
                ))),
                Ok(Err(answer)) => {
                    Err(wrong(format!("the API server answered {} to the request for a token", answer.code)))
                }
                Err(error) => Err(wrong(error.to_string())),
            }
        }
        .boxed()
    }

    fn secret<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<SecretValue, StoreError>> {
        async move {
            let query = [Query { name: name.to_owned(), version: None }];
            let found = self.sealed.get_many(&query).await.pop();
            match found {
                Some(Ok(fetched)) => Ok(fetched.value),
                Some(Err(StoreError::NotFound(_))) | None => Err(StoreError::unavailable(
                    Stage::SignIn,
                    format!(
                        "the team secret {name}, which the store signs in with, is not in the team's sealed store: \
                         `daypass secret set {name} -n {}`",
                        self.team
                    ),
                )),
                Some(Err(error)) => Err(StoreError::unavailable(
                    Stage::SignIn,
                    format!("the team secret {name}, which the store signs in with, cannot be had: {error}"),
                )),
            }
        }
        .boxed()
    }
}

/// What a backend gave for a proof.
pub struct Token {
    /// The credential.
    pub value: SecretValue,
    /// How long it lives; none: until it is refused.
    pub lifetime: Option<Duration>,
}

/// Trades a proof for a backend's token.
pub trait Issuer: Send + Sync {
    /// A fresh token.
    fn issue(&self) -> BoxFuture<'_, Result<Token, StoreError>>;
}

/// A token that the caller has: an admin's own.
pub struct OwnToken(pub Arc<SecretValue>);

impl Issuer for OwnToken {
    fn issue(&self) -> BoxFuture<'_, Result<Token, StoreError>> {
        let value = SecretValue::new(self.0.expose().to_vec());
        Box::pin(std::future::ready(Ok(Token { value, lifetime: None })))
    }
}

/// How long a failed try to get a token speaks for those that come after it: each might be one more failed login.
const FAILURE: Duration = Duration::from_secs(5);

/// Keeps a token, renews it after two thirds of its life, and drops it when it is refused. One question at a time asks
/// for a new one; the others wait for it.
pub struct KeptToken {
    issuer: Box<dyn Issuer>,
    kept: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Kept>,
    failed: Option<(StoreError, Instant)>,
}

struct Kept {
    value: Arc<SecretValue>,
    renew: Option<Instant>,
    end: Option<Instant>,
}

impl KeptToken {
    /// Nothing is kept yet.
    pub fn new(issuer: Box<dyn Issuer>) -> Self {
        Self { issuer, kept: Mutex::default() }
    }

    /// The token.
    ///
    /// # Errors
    /// None is kept that still lives, and the backend gives none.
    pub async fn get(&self) -> Result<Arc<SecretValue>, StoreError> {
        let mut state = self.kept.lock().await;
        let now = Instant::now();
        if let Some(token) = state.token.as_ref().filter(|token| token.renew.is_none_or(|renew| now < renew)) {
            return Ok(token.value.clone());
        }
        let failed = state.failed.clone().filter(|(_, at)| now.duration_since(*at) < FAILURE);
        let issued = match &failed {
            Some((error, _)) => Err(error.clone()),
            None => self.issuer.issue().await,
        };
        // It may have taken a while.
        let after = Instant::now();
        match issued {
            Ok(token) => {
                let value = Arc::new(token.value);
                let lifetime = token.lifetime.map(|lifetime| lifetime.min(LONGEST_LIFE));
                state.failed = None;
                state.token = Some(Kept {
                    value: value.clone(),
                    renew: lifetime.map(|lifetime| now + lifetime * 2 / 3),
                    end: lifetime.map(|lifetime| now + lifetime),
                });
                Ok(value)
            }
            Err(error) => {
                if failed.is_none() {
                    state.failed = Some((error.clone(), after));
                }
                // The last third of a token's life is there for a server that fails for a while.
                match state.token.as_ref().filter(|token| token.end.is_some_and(|end| after < end)) {
                    Some(token) => Ok(token.value.clone()),
                    None => Err(error),
                }
            }
        }
    }

    /// The backend refused this token: the next question gets another.
    pub async fn refused(&self, token: &Arc<SecretValue>) {
        let mut state = self.kept.lock().await;
        if state.token.as_ref().is_some_and(|kept| Arc::ptr_eq(&kept.value, token)) {
            state.token = None;
        }
    }
}

/// What to say where a fresh token is refused too.
pub fn still_refused(what: &str) -> StoreError {
    StoreError::unavailable(Stage::SignIn, format!("{what} refuses what it has just issued to the store"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Counting {
        issued: Arc<AtomicUsize>,
        fails_from: usize,
    }

    impl Issuer for Counting {
        fn issue(&self) -> BoxFuture<'_, Result<Token, StoreError>> {
            let number = self.issued.fetch_add(1, Ordering::Relaxed);
            let token = Token { value: SecretValue::new(vec![0]), lifetime: Some(Duration::from_secs(60)) };
            let fails = number >= self.fails_from;
            Box::pin(std::future::ready(if fails {
                Err(StoreError::unavailable(Stage::SignIn, "down"))
            } else {
                Ok(token)
            }))
        }
    }

    fn kept(fails_from: usize) -> (KeptToken, Arc<AtomicUsize>) {
        let issued = Arc::new(AtomicUsize::new(0));
        (KeptToken::new(Box::new(Counting { issued: issued.clone(), fails_from })), issued)
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_after_two_thirds_of_its_life() {
        let (token, issued) = kept(usize::MAX);
        token.get().await.unwrap();
        tokio::time::advance(Duration::from_secs(39)).await;
        token.get().await.unwrap();
        assert_eq!(issued.load(Ordering::Relaxed), 1);
        tokio::time::advance(Duration::from_secs(2)).await;
        token.get().await.unwrap();
        assert_eq!(issued.load(Ordering::Relaxed), 2);
    }

    struct Endless;

    impl Issuer for Endless {
        fn issue(&self) -> BoxFuture<'_, Result<Token, StoreError>> {
            let token = Token { value: SecretValue::new(vec![0]), lifetime: Some(Duration::from_secs(u64::MAX)) };
            Box::pin(std::future::ready(Ok(token)))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_life_that_no_clock_holds_is_cut() {
        let token = KeptToken::new(Box::new(Endless));
        let first = token.get().await.unwrap();
        tokio::time::advance(LONGEST_LIFE).await;
        assert!(!Arc::ptr_eq(&first, &token.get().await.unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_lives_serves_while_no_other_is_to_be_had() {
        let (token, _) = kept(1);
        token.get().await.unwrap();
        tokio::time::advance(Duration::from_secs(50)).await;
        assert!(token.get().await.is_ok());
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(token.get().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_sign_in_speaks_for_those_that_follow_at_once() {
        let (token, issued) = kept(0);
        for _ in 0..12 {
            assert!(token.get().await.is_err());
        }
        assert_eq!(issued.load(Ordering::Relaxed), 1, "not twelve failed logins");
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(token.get().await.is_err());
        assert_eq!(issued.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_refused_token_is_dropped_once() {
        let (token, issued) = kept(usize::MAX);
        let first = token.get().await.unwrap();
        token.refused(&first).await;
        let second = token.get().await.unwrap();
        // Another question that still had the first one says so later.
        token.refused(&first).await;
        assert!(Arc::ptr_eq(&second, &token.get().await.unwrap()));
        assert_eq!(issued.load(Ordering::Relaxed), 2);
    }
}
