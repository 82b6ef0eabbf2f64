//! Stores as their admins write to them: with credentials of their own, found where the vendors' tools keep them.

#[cfg(feature = "vault")]
use std::path::PathBuf;
use std::sync::Arc;

use kube::Client;

use super::kubernetes::KubernetesStore;
#[cfg(feature = "rest")]
use super::settings::StoreSettings;
#[cfg(feature = "rest")]
use super::sign_in::OwnToken;
use super::{SecretStore, Stage, StoreError};
use crate::api::{BackendKind, Connection, TeamSecretStoreSpec};
#[cfg(feature = "rest")]
use crate::secret::SecretValue;

/// The store that an object of the team describes, asked with the caller's own credentials. Not the sealed one, which is
/// written by sealing.
///
/// # Errors
/// The object cannot be used, or the caller has no credentials where they are looked for: the text says where.
#[cfg_attr(not(feature = "rest"), expect(clippy::unused_async, reason = "backends sign in"))]
pub async fn open(client: Client, team: &str, spec: &TeamSecretStoreSpec) -> Result<Arc<dyn SecretStore>, StoreError> {
    // What the operator's network must be kept from, the caller's own may reach.
    #[cfg(feature = "rest")]
    let settings = StoreSettings { allow_local_addresses: true, ..StoreSettings::default() };
    match spec.backend() {
        Some(BackendKind::Kubernetes) => {
            let backend = spec.kubernetes.clone().unwrap_or_default();
            Ok(Arc::new(KubernetesStore::new(client, team, &backend)?))
        }
        #[cfg(feature = "aws")]
        Some(BackendKind::Aws) => {
            let backend = spec.aws.clone().unwrap_or_default();
            Ok(Arc::new(super::aws::AwsStore::with_own_credentials(team, &backend, &settings)?))
        }
        #[cfg(feature = "vault")]
        Some(BackendKind::Vault) => {
            let backend = spec.vault.clone().unwrap_or_default();
            let token = vault_token().ok_or_else(|| {
                missing("Vault", "`vault login` (or `bao login`) writes ~/.vault-token; $VAULT_TOKEN works too")
            })?;
            Ok(Arc::new(super::vault::VaultStore::with_own_token(team, &backend, &settings, token)?))
        }
        #[cfg(feature = "gcp")]
        Some(BackendKind::Gcp) => {
            let backend = spec.gcp.clone().unwrap_or_default();
            let token = variable("CLOUDSDK_AUTH_ACCESS_TOKEN").and_then(own).ok_or_else(|| {
                missing("Google", "`export CLOUDSDK_AUTH_ACCESS_TOKEN=$(gcloud auth print-access-token)`")
            })?;
            Ok(Arc::new(super::gcp::GcpStore::with_own_token(team, &backend, &settings, token)?))
        }
        #[cfg(feature = "azure")]
        Some(BackendKind::Azure) => {
            let backend = spec.azure.clone().unwrap_or_default();
            let token = variable("AZURE_ACCESS_TOKEN").and_then(own).ok_or_else(|| {
                missing(
                    "Azure",
                    "`export AZURE_ACCESS_TOKEN=$(az account get-access-token --resource https://vault.azure.net \
                     --query accessToken --output tsv)`",
                )
            })?;
            Ok(Arc::new(super::azure::AzureStore::with_own_token(team, &backend, &settings, token)?))
        }
        #[cfg(feature = "wandb")]
        Some(BackendKind::Wandb) => {
            let backend = spec.wandb.clone().unwrap_or_default();
            let key = variable("WANDB_API_KEY")
                .and_then(own)
                .ok_or_else(|| missing("W&B", "set $WANDB_API_KEY to a key of a member of the entity"))?;
            let values = match super::open::values_of(&backend) {
                Some(spec) => Some(Box::pin(open(client, team, &spec)).await?),
                None => None,
            };
            Ok(Arc::new(super::wandb::WandbStore::new(&backend, &settings, key, values)?))
        }
        Some(other) => Err(StoreError::Unsupported(format!(
            "this program writes to no store of the backend {}: use its own tools",
            other.as_str()
        ))),
        None => Err(StoreError::unavailable(Stage::Address, "the store names no backend")),
    }
}

/// Where the caller's own credentials would go that is not the vendor's own server: whoever may write the store's object
/// has put that there. Empty where they go nowhere else.
pub fn addresses(spec: &TeamSecretStoreSpec) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |address: Option<&str>, connection: Option<&Connection>, vendors: &[&str]| {
        let plain = connection.is_none_or(|connection| *connection == Connection::default());
        let host = address.and_then(https_host);
        let is_vendors = host.is_some_and(|host| vendors.iter().any(|domain| host.ends_with(domain)));
        if let Some(address) = address.filter(|_| !is_vendors || !plain) {
            found.push(address.trim_end_matches('/').to_owned());
        }
        // A proxy with certificates of the store's own could be any server.
        found.extend(connection.and_then(|connection| connection.proxy.clone()));
    };
    let from = spec.wandb.as_ref().and_then(|wandb| wandb.from.as_ref());
    if let Some(aws) = spec.aws.as_ref().or_else(|| from?.aws.as_ref()) {
        add(aws.endpoint.as_deref(), aws.connection.as_ref(), &[".amazonaws.com", ".amazonaws.com.cn"]);
    }
    if let Some(gcp) = spec.gcp.as_ref().or_else(|| from?.gcp.as_ref()) {
        add(gcp.endpoint.as_deref(), gcp.connection.as_ref(), &[".googleapis.com"]);
    }
    if let Some(azure) = spec.azure.as_ref().or_else(|| from?.azure.as_ref()) {
        let vendors = [".vault.azure.net", ".vault.azure.cn", ".vault.usgovcloudapi.net"];
        add(Some(&azure.vault_url), azure.connection.as_ref(), &vendors);
    }
    if let Some(vault) = &spec.vault {
        add(Some(&vault.address), vault.connection.as_ref(), &[]);
    }
    if let Some(wandb) = &spec.wandb {
        add(wandb.base_url.as_deref(), wandb.connection.as_ref(), &[".wandb.ai"]);
    }
    found
}

/// The host of an address, as the client reads it that goes there: it takes a backslash for a slash.
#[cfg(feature = "rest")]
fn https_host(address: &str) -> Option<String> {
    let url = url::Url::parse(address).ok().filter(|url| url.scheme() == "https")?;
    url.host_str().map(str::to_owned)
}

/// Without a client nothing goes anywhere.
#[cfg(not(feature = "rest"))]
fn https_host(_: &str) -> Option<String> {
    None
}

/// Whether the caller has said that an address may have his credentials: `$VAULT_ADDR` and `$BAO_ADDR`, which Vault's own
/// tools use, or a list in `$DAYPASS_TRUSTED_ADDRESSES`.
pub fn is_trusted(address: &str) -> bool {
    ["VAULT_ADDR", "BAO_ADDR", "DAYPASS_TRUSTED_ADDRESSES"]
        .into_iter()
        .filter_map(|variable| std::env::var(variable).ok())
        .any(|addresses| addresses.split_whitespace().any(|trusted| trusted.trim_end_matches('/') == address))
}

/// `$VAULT_TOKEN`, `$BAO_TOKEN`, else the file that `vault login` writes.
#[cfg(feature = "vault")]
fn vault_token() -> Option<Box<OwnToken>> {
    let file = || std::fs::read(home()?.join(".vault-token")).ok();
    own(variable("VAULT_TOKEN").or_else(|| variable("BAO_TOKEN")).or_else(file)?)
}

/// A token without the newline that files and shells add.
#[cfg(feature = "rest")]
fn own(bytes: Vec<u8>) -> Option<Box<OwnToken>> {
    let bytes = zeroize::Zeroizing::new(bytes);
    let token = bytes.trim_ascii().to_vec();
    (!token.is_empty()).then(|| Box::new(OwnToken(Arc::new(SecretValue::new(token)))))
}

#[cfg(feature = "rest")]
fn variable(name: &str) -> Option<Vec<u8>> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(String::into_bytes)
}

#[cfg(feature = "vault")]
fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from)
}

#[cfg(feature = "rest")]
fn missing(backend: &str, mend: &str) -> StoreError {
    StoreError::unavailable(Stage::SignIn, format!("you have no credentials for {backend}: {mend}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{AwsBackend, AzureBackend, VaultBackend};

    #[test]
    fn what_is_not_the_vendors_own_is_named() {
        let azure = |url: &str, connection| TeamSecretStoreSpec {
            azure: Some(AzureBackend { vault_url: url.into(), connection, ..AzureBackend::default() }),
            ..TeamSecretStoreSpec::default()
        };
        assert!(addresses(&azure("https://ml.vault.azure.net", None)).is_empty());
        for url in [
            "https://ml.vault.azure.net.evil.example",
            "http://ml.vault.azure.net",
            "https://evil.example/.vault.azure.net",
            "https://evil.example\\.vault.azure.net",
            "https://evil.example#.vault.azure.net",
            "no address",
        ] {
            assert_eq!(addresses(&azure(url, None)), [url], "{url}");
        }
        let proxy = Connection { proxy: Some("https://evil.example".into()), ..Connection::default() };
        let proxied = addresses(&azure("https://ml.vault.azure.net", Some(proxy)));
        assert_eq!(proxied, ["https://ml.vault.azure.net", "https://evil.example"]);
        let aws = TeamSecretStoreSpec { aws: Some(AwsBackend::default()), ..TeamSecretStoreSpec::default() };
        assert!(addresses(&aws).is_empty());
        let vault = VaultBackend { address: "https://vault.example/".into(), ..VaultBackend::default() };
        let vault = TeamSecretStoreSpec { vault: Some(vault), ..TeamSecretStoreSpec::default() };
        assert_eq!(addresses(&vault), ["https://vault.example"]);
    }
}
