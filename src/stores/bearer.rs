//! What the stores of Google and Azure have in common: every call bears an OAuth token, and the token is traded for at
//! another server.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::answered::Text;
use super::http::{Answer, Body, Http, Request};
use super::settings::StoreSettings;
use super::sign_in::{Issuer, KeptToken, Token, still_refused};
use super::{Stage, StoreError};

/// A question's JSON. It may hold a value, so it is wiped after use.
pub type Json = Zeroizing<Vec<u8>>;

/// JSON of anything. `room` bytes are set aside at once, so that the buffer does not grow and leave copies behind.
pub fn json(value: &impl Serialize, room: usize) -> Json {
    let mut bytes = Zeroizing::new(Vec::with_capacity(room + 256));
    // Our own types always serialize.
    let _ = serde_json::to_writer(&mut *bytes, value);
    bytes
}

/// A server that takes bearer tokens.
pub struct Bearer {
    http: Http,
    token: KeptToken,
    /// Whose server it is, for messages.
    who: &'static str,
}

impl Bearer {
    /// Calls of `http` with the issuer's tokens.
    pub fn new(http: Http, issuer: Box<dyn Issuer>, who: &'static str) -> Self {
        Self { http, token: KeptToken::new(issuer), who }
    }

    /// Sees to it that there is a token.
    pub async fn sign_in(&self) -> Result<(), StoreError> {
        self.token.get().await.map(|_| ())
    }

    /// Whether the URL is one of the server's own.
    pub fn is_own(&self, url: &str) -> bool {
        self.http.is_own(url)
    }

    /// Asks. A token that is refused is renewed once; what all backends say alike is an error already.
    pub async fn ask(
        &self,
        method: &str,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Json>,
    ) -> Result<Answer, StoreError> {
        for _ in 0..2 {
            let token = self.token.get().await?;
            let mut request = Request::new(method, path).query(query).bearer(&token);
            if let Some(body) = body {
                request = request.body(Body::Json(body.clone()));
            }
            let answer = self.http.ask(request).await?;
            if answer.status != 401 {
                return match answer.common_trouble() {
                    Some(trouble) => Err(trouble),
                    None => Ok(answer),
                };
            }
            self.token.refused(&token).await;
        }
        Err(still_refused(self.who))
    }
}

/// A server that trades one credential for another. Whatever goes wrong there is the store's sign-in, and no secret's.
pub struct Exchange {
    http: Http,
    what: &'static str,
}

impl Exchange {
    /// The exchange at an address of the cluster's configuration, by the store's proxy.
    pub fn new(
        address: &str,
        proxy: Option<&str>,
        settings: &StoreSettings,
        what: &'static str,
    ) -> Result<Self, StoreError> {
        Ok(Self { http: Http::of_cluster(address, proxy, settings)?, what })
    }

    /// Asks. An answer is given back where the server as such is well.
    pub async fn ask(&self, request: Request<'_>) -> Result<Answer, StoreError> {
        let answer = self.http.ask(request).await.map_err(|error| match error {
            StoreError::Throttled { .. } => error,
            other => refused(other.to_string()),
        })?;
        match answer.status {
            429 => Err(StoreError::Throttled { retry_after: answer.retry_after }),
            300..=399 | 500..=599 => Err(refused(format!("{} answered {}", self.what, answer.status))),
            _ => Ok(answer),
        }
    }

    /// The OAuth token that an answer grants.
    pub fn granted(&self, answer: &Answer) -> Result<Token, StoreError> {
        let granted: Granted = answer.json().ok_or_else(|| self.lies())?;
        let value = granted.access_token.0;
        if value.expose().is_empty() {
            return Err(self.lies());
        }
        Ok(Token { value, lifetime: granted.expires_in.map(Duration::from_secs) })
    }

    /// What to say of an answer that is none.
    pub fn lies(&self) -> StoreError {
        refused(format!("the answer is not one of {}", self.what))
    }
}

/// A sign-in that did not succeed.
pub fn refused(why: impl Into<String>) -> StoreError {
    StoreError::unavailable(Stage::SignIn, why)
}

#[derive(Deserialize)]
struct Granted {
    access_token: Text,
    expires_in: Option<u64>,
}
