//! From a store's object to the store: the one place that knows every backend.

use std::sync::Arc;

use kube::Client;
use tokio::sync::watch;

use super::kubernetes::KubernetesStore;
use super::sealed::{KeyState, SealedStore};
use super::settings::StoreSettings;
use super::sign_in::{ClusterProofs, Proof, Proofs};
use super::{SecretStore, Stage, StoreError};
use crate::api::names::DEFAULT_STORE;
use crate::api::{BackendKind, Connection, SignIn, TeamSecretStoreSpec};

/// Makes stores. Making one asks nobody anything.
pub struct Opener {
    client: Client,
    keys: watch::Receiver<KeyState>,
    settings: StoreSettings,
    /// Namespace and name of the operator's own ServiceAccount.
    operator: (String, String),
}

impl Opener {
    /// An opener of all teams' stores.
    pub fn new(
        client: Client,
        keys: watch::Receiver<KeyState>,
        settings: StoreSettings,
        operator: (String, String),
    ) -> Self {
        Self { client, keys, settings, operator }
    }

    /// The sealed store of a team, which needs no object.
    pub fn sealed(&self, team: &str) -> SealedStore {
        SealedStore::new(self.client.clone(), team, self.keys.clone())
    }

    /// The store that an object of the team describes.
    ///
    /// # Errors
    /// The object cannot be used, or this program was built without its backend: the text says what mends it.
    pub fn open(&self, team: &str, spec: &TeamSecretStoreSpec) -> Result<Arc<dyn SecretStore>, StoreError> {
        let kind = spec.backend().ok_or_else(|| unusable("the store names no backend"))?;
        Ok(match kind {
            BackendKind::Sealed => Arc::new(self.sealed(team)),
            BackendKind::Kubernetes => {
                let backend = spec.kubernetes.clone().unwrap_or_default();
                Arc::new(KubernetesStore::new(self.client.clone(), team, &backend)?)
            }
            #[cfg(feature = "aws")]
            BackendKind::Aws => {
                use super::aws::AwsStore;
                let backend = spec.aws.clone().unwrap_or_default();
                let server = (backend.endpoint.as_deref(), backend.connection.as_ref());
                let proof = self.proof(team, kind, &backend.sign_in, &AwsStore::prefix(team, &backend)?, server)?;
                Arc::new(AwsStore::new(team, &backend, &self.settings, proof, self.proofs(team))?)
            }
            #[cfg(feature = "gcp")]
            BackendKind::Gcp => {
                use super::gcp::GcpStore;
                let backend = spec.gcp.clone().unwrap_or_default();
                if backend.sign_in.operator.is_some() {
                    GcpStore::check_prefix_tells(&backend)?;
                }
                let server = (backend.endpoint.as_deref(), backend.connection.as_ref());
                let proof = self.proof(team, kind, &backend.sign_in, &GcpStore::prefix(team, &backend)?, server)?;
                Arc::new(GcpStore::new(team, &backend, &self.settings, proof, self.proofs(team))?)
            }
            #[cfg(feature = "azure")]
            BackendKind::Azure => {
                use super::azure::AzureStore;
                let backend = spec.azure.clone().unwrap_or_default();
                let server = (Some(backend.vault_url.as_str()), backend.connection.as_ref());
                let proof = self.proof(team, kind, &backend.sign_in, &AzureStore::prefix(team, &backend)?, server)?;
                Arc::new(AzureStore::new(team, &backend, &self.settings, proof, self.proofs(team))?)
            }
            #[cfg(feature = "vault")]
            BackendKind::Vault => {
                use super::vault::VaultStore;
                let backend = spec.vault.clone().unwrap_or_default();
                let server = (Some(backend.address.as_str()), backend.connection.as_ref());
                let proof = self.proof(team, kind, &backend.sign_in, &VaultStore::prefix(team, &backend)?, server)?;
                Arc::new(VaultStore::new(team, &backend, &self.settings, proof, self.proofs(team))?)
            }
            #[cfg(feature = "wandb")]
            BackendKind::Wandb => {
                use super::wandb::{SealedKey, WandbStore};
                let backend = spec.wandb.clone().unwrap_or_default();
                let values = match values_of(&backend) {
                    Some(spec) => Some(self.open(team, &spec)?),
                    None => None,
                };
                let key = Box::new(SealedKey { proofs: self.proofs(team), name: backend.api_key.clone() });
                Arc::new(WandbStore::new(&backend, &self.settings, key, values)?)
            }
            #[allow(unreachable_patterns, reason = "which backends are left depends on the features")]
            other => {
                return Err(unusable(&format!(
                    "this operator was built without the backend {}: use another, or a build with that feature",
                    other.as_str()
                )));
            }
        })
    }

    /// What the store signs in with, where its team may.
    #[allow(dead_code, reason = "whether it is used depends on the features")]
    fn proof(
        &self,
        team: &str,
        kind: BackendKind,
        sign_in: &SignIn,
        prefix: &str,
        (address, connection): (Option<&str>, Option<&Connection>),
    ) -> Result<Proof, StoreError> {
        if sign_in.operator.is_some() {
            self.settings.may_use_operator_identity(team, kind, prefix, address, connection)?;
        }
        Proof::of(sign_in).ok_or_else(|| {
            StoreError::unavailable(
                Stage::SignIn,
                format!("{}.signIn names no way: serviceAccount, secrets or operator", kind.as_str()),
            )
        })
    }

    #[allow(dead_code, reason = "whether it is used depends on the features")]
    fn proofs(&self, team: &str) -> Arc<dyn Proofs> {
        let sealed = Box::new(self.sealed(team));
        Arc::new(ClusterProofs::new(self.client.clone(), team, self.operator.clone(), sealed))
    }
}

/// The spec that a store has which no object describes; none where there is no such store.
pub fn undescribed(store: &str) -> Option<TeamSecretStoreSpec> {
    (store == DEFAULT_STORE)
        .then(|| TeamSecretStoreSpec { sealed: Some(crate::api::SealedBackend {}), ..TeamSecretStoreSpec::default() })
}

/// The manager behind W&B, as the spec of a store of its own.
#[cfg(feature = "wandb")]
pub(super) fn values_of(wandb: &crate::api::WandbBackend) -> Option<TeamSecretStoreSpec> {
    wandb.from.clone().map(|from| TeamSecretStoreSpec {
        aws: from.aws,
        gcp: from.gcp,
        azure: from.azure,
        kubernetes: from.kubernetes,
        ..TeamSecretStoreSpec::default()
    })
}

fn unusable(why: &str) -> StoreError {
    StoreError::unavailable(Stage::Address, why)
}
