//! How a store signs in to Google: a ServiceAccount's token by workload identity federation, or a service account's key
//! file; then, where the store says so, as another service account.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::key_file::KeyFile;
use crate::api::GcpBackend;
use crate::secret::SecretValue;
use crate::stores::StoreError;
use crate::stores::answered::Text;
use crate::stores::bearer::{Exchange, json, refused};
use crate::stores::http::{Body, Request};
use crate::stores::settings::StoreSettings;
use crate::stores::sign_in::{Issuer, Proof, Proofs, Token};

/// What a token is for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Trades the store's proof for a token.
pub(super) struct Login {
    federation: Exchange,
    key_files: Exchange,
    impersonation: Exchange,
    provider: Option<String>,
    impersonate: Option<String>,
    proof: Proof,
    proofs: Arc<dyn Proofs>,
}

impl Login {
    pub(super) fn new(
        spec: &GcpBackend,
        settings: &StoreSettings,
        proof: Proof,
        proofs: Arc<dyn Proofs>,
    ) -> Result<Self, StoreError> {
        let proxy = spec.connection.as_ref().and_then(|connection| connection.proxy.as_deref());
        let endpoints = &settings.endpoints;
        let exchange = |address: &str, what| Exchange::new(address, proxy, settings, what);
        Ok(Self {
            federation: exchange(&endpoints.google_sts, "Google's token exchange")?,
            key_files: exchange(&endpoints.google_oauth, "Google's token endpoint")?,
            impersonation: exchange(&endpoints.google_iam_credentials, "Google's service account impersonation")?,
            provider: spec.workload_identity_provider.clone(),
            impersonate: spec.impersonate.clone(),
            proof,
            proofs,
        })
    }

    fn provider(&self) -> Result<&str, StoreError> {
        let provider = self.provider.as_deref().ok_or_else(|| {
            refused(
                "gcp.workloadIdentityProvider is not set: a ServiceAccount's token is traded at a provider, \
                 projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER",
            )
        })?;
        let parts: Vec<&str> = provider.split('/').collect();
        match parts[..] {
            ["projects", _, "locations", _, "workloadIdentityPools", _, "providers", _] => Ok(provider),
            _ => Err(refused(
                "gcp.workloadIdentityProvider is none: it reads \
                 projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER",
            )),
        }
    }

    /// The pool's own token for a ServiceAccount's.
    async fn federated(&self, token: &SecretValue, provider: &str) -> Result<Token, StoreError> {
        let form = Body::form(&[
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("audience", &format!("//iam.googleapis.com/{provider}")),
            ("scope", SCOPE),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token", text(token)?),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ]);
        let answer = self.federation.ask(Request::new("POST", &["v1", "token"]).body(form)).await?;
        if !answer.is_success() {
            return Err(refused(format!(
                "Google refuses the ServiceAccount's token ({}): compare the provider's issuer, keys, allowed audiences \
                 and attribute condition with the cluster's and with the store's signIn",
                answer.status
            )));
        }
        self.federation.granted(&answer)
    }

    async fn by_key_file(&self, file: &SecretValue) -> Result<Token, StoreError> {
        let assertion = KeyFile::read(file)?.assertion(SCOPE, Timestamp::now().as_second())?;
        let form = Body::form(&[
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", text(&assertion)?),
        ]);
        let answer = self.key_files.ask(Request::new("POST", &["token"]).body(form)).await?;
        if !answer.is_success() {
            return Err(refused(format!(
                "Google refuses the key file ({}): is the key or its service account deleted or disabled, or the \
                 operator's clock wrong?",
                answer.status
            )));
        }
        self.key_files.granted(&answer)
    }

    async fn impersonated(&self, token: Token, account: &str) -> Result<Token, StoreError> {
        let last = format!("{account}:generateAccessToken");
        let path = ["v1", "projects", "-", "serviceAccounts", &last];
        let body = json(&json!({"scope": [SCOPE], "lifetime": "3600s"}), 0);
        let request = Request::new("POST", &path).bearer(&token.value).body(Body::Json(body));
        let answer = self.impersonation.ask(request).await?;
        if !answer.is_success() {
            return Err(refused(format!(
                "Google does not let the store act as {account} ({}): grant the store's own identity \
                 roles/iam.workloadIdentityUser on it (with a key file: roles/iam.serviceAccountTokenCreator)",
                answer.status
            )));
        }
        let made: Impersonated = answer.json().ok_or_else(|| self.impersonation.lies())?;
        let end: Timestamp = made.expire_time.parse().map_err(|_| self.impersonation.lies())?;
        let seconds = end.duration_since(Timestamp::now()).as_secs();
        Ok(Token { value: made.access_token.0, lifetime: Some(Duration::from_secs(seconds.try_into().unwrap_or(0))) })
    }
}

impl Issuer for Login {
    fn issue(&self) -> BoxFuture<'_, Result<Token, StoreError>> {
        async {
            let token = match &self.proof {
                Proof::Token(subject) => {
                    let provider = self.provider()?;
                    let audience = format!("https://iam.googleapis.com/{provider}");
                    let token = self.proofs.token(subject, &audience).await?;
                    self.federated(&token, provider).await?
                }
                Proof::Secrets(source) if source.id.is_some() => {
                    return Err(refused("gcp.signIn.secrets takes `secret` alone: a service account's key file"));
                }
                Proof::Secrets(source) => self.by_key_file(&self.proofs.secret(&source.secret).await?).await?,
            };
            match &self.impersonate {
                Some(account) => self.impersonated(token, account).await,
                None => Ok(token),
            }
        }
        .boxed()
    }
}

fn text(token: &SecretValue) -> Result<&str, StoreError> {
    std::str::from_utf8(token.expose()).map_err(|_| refused("the ServiceAccount's token is no text"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Impersonated {
    access_token: Text,
    expire_time: String,
}
