//! Proofs that stores sign in with.

use std::collections::BTreeMap;

use daypass::secret::SecretValue;
use daypass::stores::sign_in::{Proofs, Subject};
use daypass::stores::{Stage, StoreError};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};

/// Proofs that are known beforehand: one token for every subject, and secrets by name.
#[derive(Default)]
pub struct FixedProofs {
    /// The token.
    pub token: String,
    /// The secrets.
    pub secrets: BTreeMap<&'static str, String>,
}

impl Proofs for FixedProofs {
    fn token<'a>(&'a self, _: &'a Subject, _: &'a str) -> BoxFuture<'a, Result<SecretValue, StoreError>> {
        async { Ok(SecretValue::new(self.token.clone().into_bytes())) }.boxed()
    }

    fn secret<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<SecretValue, StoreError>> {
        async move {
            let found = self.secrets.get(name).ok_or_else(|| StoreError::unavailable(Stage::SignIn, "no such secret"));
            found.map(|value| SecretValue::new(value.clone().into_bytes()))
        }
        .boxed()
    }
}

/// Real tokens of a namespace's ServiceAccounts, asked for with the admin's rights.
pub struct ApiTokens {
    /// Any client that may mint them.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
}

impl Proofs for ApiTokens {
    fn token<'a>(&'a self, subject: &'a Subject, audience: &'a str) -> BoxFuture<'a, Result<SecretValue, StoreError>> {
        async move {
            let Subject::Team { name, audience: own } = subject else {
                panic!("a team's ServiceAccount signs in here")
            };
            let audience = own.as_deref().unwrap_or(audience).to_owned();
            let request = TokenRequest {
                spec: TokenRequestSpec {
                    audiences: vec![audience],
                    expiration_seconds: Some(600),
                    ..TokenRequestSpec::default()
                },
                ..TokenRequest::default()
            };
            let accounts = Api::<ServiceAccount>::namespaced(self.client.clone(), &self.namespace);
            let made = accounts.create_token_request(name, &PostParams::default(), &request).await.unwrap();
            Ok(SecretValue::new(made.status.unwrap().token.into_bytes()))
        }
        .boxed()
    }

    fn secret<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<SecretValue, StoreError>> {
        async { Err(StoreError::unavailable(Stage::SignIn, "no secrets here")) }.boxed()
    }
}
