//! How a store signs in to Azure: Microsoft Entra trades a ServiceAccount's token, or a client secret, for a token of
//! the vault's.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::Deserialize;

use crate::api::AzureBackend;
use crate::secret::SecretValue;
use crate::stores::StoreError;
use crate::stores::bearer::{Exchange, refused};
use crate::stores::http::{Answer, Body, Request};
use crate::stores::settings::StoreSettings;
use crate::stores::sign_in::{Issuer, Proof, Proofs, Token};

/// The audience of the token that is traded in, unless the store names another.
const AUDIENCE: &str = "api://AzureADTokenExchange";
/// Where vaults are, in each of Azure's clouds. A token is for the vaults of one.
const CLOUDS: [&str; 3] = ["vault.azure.net", "vault.azure.cn", "vault.usgovcloudapi.net"];

/// Trades the store's proof for a token.
pub(super) struct Login {
    entra: Exchange,
    tenant: Option<String>,
    client: Option<String>,
    scope: String,
    proof: Proof,
    proofs: Arc<dyn Proofs>,
}

impl Login {
    pub(super) fn new(
        spec: &AzureBackend,
        settings: &StoreSettings,
        proof: Proof,
        proofs: Arc<dyn Proofs>,
    ) -> Result<Self, StoreError> {
        let proxy = spec.connection.as_ref().and_then(|connection| connection.proxy.as_deref());
        Ok(Self {
            entra: Exchange::new(&settings.endpoints.azure_authority, proxy, settings, "Microsoft Entra")?,
            tenant: spec.tenant_id.clone(),
            client: spec.client_id.clone(),
            scope: scope(&spec.vault_url),
            proof,
            proofs,
        })
    }

    async fn trade(&self, client: &str, credential: &[(&str, &str)]) -> Result<Answer, StoreError> {
        let tenant = self
            .tenant
            .as_deref()
            .ok_or_else(|| refused("azure.tenantID is not set: the tenant that the store's application is in"))?;
        let mut fields = vec![("grant_type", "client_credentials"), ("client_id", client), ("scope", &self.scope)];
        fields.extend(credential);
        let path = [tenant, "oauth2", "v2.0", "token"];
        self.entra.ask(Request::new("POST", &path).body(Body::form(&fields))).await
    }

    fn missing_client() -> StoreError {
        refused("azure.clientID is not set: the application (or managed identity) that the store signs in as")
    }
}

impl Issuer for Login {
    fn issue(&self) -> BoxFuture<'_, Result<Token, StoreError>> {
        async {
            let answer = match &self.proof {
                Proof::Token(subject) => {
                    let client = self.client.as_deref().ok_or_else(Self::missing_client)?;
                    let token = self.proofs.token(subject, AUDIENCE).await?;
                    let credential = [
                        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                        ("client_assertion", text(&token)?),
                    ];
                    self.trade(client, &credential).await?
                }
                Proof::Secrets(source) => {
                    let id = match (&self.client, &source.id) {
                        (Some(client), _) => SecretValue::new(client.clone().into_bytes()),
                        (None, Some(id)) => self.proofs.secret(id).await?,
                        (None, None) => return Err(Self::missing_client()),
                    };
                    let secret = self.proofs.secret(&source.secret).await?;
                    self.trade(text(&id)?, &[("client_secret", text(&secret)?)]).await?
                }
            };
            if answer.is_success() { self.entra.granted(&answer) } else { Err(refusal(&answer)) }
        }
        .boxed()
    }
}

/// Our own words for a number of Entra's.
fn refusal(answer: &Answer) -> StoreError {
    let codes = answer.json::<Refusal>().map(|refusal| refusal.error_codes).unwrap_or_default();
    let known = codes.iter().find_map(|code| {
        Some(match code {
            70_021 | 700_211..=700_213 => {
                "no federated credential of the application fits the ServiceAccount's token: compare its issuer, \
                 subject and audience"
            }
            50_027 | 5_002_727 | 700_024 | 700_027 => {
                "the ServiceAccount's token is not valid there: can Entra read the cluster's keys at its issuer?"
            }
            90_002 | 900_023 => "there is no such tenant: correct azure.tenantID",
            700_016 => "the tenant has no such application: correct azure.clientID",
            7_000_215 => "the client secret is wrong: set the team secret that signIn names anew",
            7_000_222 => "the client secret has expired: make another and rotate the team secret that signIn names",
            _ => return None,
        })
    });
    let why = known.unwrap_or("compare azure.tenantID, azure.clientID and the application's credentials");
    refused(format!("Microsoft Entra refuses the sign-in ({}): {why}", answer.status))
}

fn scope(vault: &str) -> String {
    let host = url::Url::parse(vault).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let of = |cloud: &&&str| host.strip_suffix(**cloud).is_some_and(|vault| vault.ends_with('.'));
    let cloud = CLOUDS.iter().find(of).unwrap_or(&CLOUDS[0]);
    format!("https://{cloud}/.default")
}

fn text(value: &SecretValue) -> Result<&str, StoreError> {
    std::str::from_utf8(value.expose()).map_err(|_| refused("what the store signs in with is no text"))
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    error_codes: Vec<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_for_the_vaults_of_one_cloud() {
        assert_eq!(scope("https://ml.vault.azure.net/"), "https://vault.azure.net/.default");
        assert_eq!(scope("https://ml.vault.azure.cn"), "https://vault.azure.cn/.default");
        assert_eq!(scope("https://ml.VAULT.usgovcloudapi.net"), "https://vault.usgovcloudapi.net/.default");
        assert_eq!(scope("https://127.0.0.1:8443"), "https://vault.azure.net/.default");
    }
}
