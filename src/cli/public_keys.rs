//! The keys that values are sealed to, as the operator has published them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;

use super::connect::Cluster;
use super::error::{CliError, Needs, Result, api_error};
use crate::api::SealedVersion;
use crate::secret::SecretValue;
use crate::stores::sealed::key::{KeyId, PublicKey};
use crate::stores::sealed::key_life::PUBLIC_KEYS;
use crate::stores::sealed::seal::{Binding, seal};

/// A key that values are sealed to.
pub struct SealingKey {
    id: KeyId,
    public: PublicKey,
}

impl SealingKey {
    /// Reads the newest key.
    pub async fn newest(cluster: &Cluster) -> Result<Self> {
        let namespace = &cluster.system_namespace;
        let data = read(cluster).await?;
        newest(data.unwrap_or_default()).map_err(|problem| {
            CliError::not_found(format!("there is no key to seal to: {problem}")).hint(format!(
                "the operator publishes its keys in the ConfigMap {PUBLIC_KEYS} of its namespace: is it running in {namespace}? \
                 Another namespace is named with --system-namespace"
            ))
        })
    }

    /// Seals `value` as one version of a team's secret.
    pub fn seal(&self, binding: &Binding<'_>, value: &SecretValue, by: Option<&str>) -> Result<SealedVersion> {
        let sealed =
            seal(&self.id, &self.public, binding, value).map_err(|error| CliError::usage(error.to_string()))?;
        Ok(SealedVersion { by: by.map(Into::into), ..sealed })
    }

    /// The key's name.
    pub fn id(&self) -> &str {
        self.id.as_str()
    }
}

/// The name of the newest key, where the list can be read.
pub async fn newest_id(cluster: &Cluster) -> Option<String> {
    newest(read(cluster).await.ok()??).ok().map(|key| key.id.to_string())
}

async fn read(cluster: &Cluster) -> Result<Option<BTreeMap<String, String>>> {
    let namespace = &cluster.system_namespace;
    let keys = Api::<ConfigMap>::namespaced(cluster.client.clone(), namespace).get_opt(PUBLIC_KEYS).await.map_err(
        |error| {
            let doing = format!("read the public keys (ConfigMap {PUBLIC_KEYS} in {namespace})");
            let error = api_error(&doing, Needs::Nothing, &error);
            match error.exit {
                super::error::Exit::Denied => error.hint(
                    "every signed-in user may read them where Daypass is installed: name the operator's namespace with \
                     --system-namespace",
                ),
                _ => error,
            }
        },
    )?;
    Ok(keys.map(|keys| keys.data.unwrap_or_default()))
}

/// Takes the entry whose ID sorts last. Its ID has to prove it: who could swap a key under a known ID would read the
/// next value.
fn newest(data: BTreeMap<String, String>) -> std::result::Result<SealingKey, String> {
    let (id, public) = data.into_iter().next_back().ok_or("none is listed")?;
    let unusable = |error: &dyn std::fmt::Display| format!("the newest entry, {id:?}, is not usable: {error}");
    let id: KeyId = id.parse().map_err(|error| unusable(&error))?;
    let public = PublicKey::from_base64(&public).map_err(|error| unusable(&error))?;
    if id.names(&public) {
        Ok(SealingKey { id, public })
    } else {
        Err(unusable(&"it is another key than its ID names"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::sealed::key::PrivateKey;
    use crate::stores::sealed::seal::open;

    fn entry(at: &str) -> (String, String, PrivateKey) {
        let private = PrivateKey::generate();
        let id = KeyId::new(at.parse().unwrap(), &private.public());
        (id.to_string(), private.public().to_base64(), private)
    }

    #[test]
    fn the_newest_key_seals_and_only_it_opens() {
        let (old, old_public, old_private) = entry("2026-01-01T00:00:00Z");
        let (new, new_public, new_private) = entry("2026-02-01T00:00:00Z");
        let key = newest(BTreeMap::from([(new.clone(), new_public), (old, old_public)])).ok().unwrap();
        assert_eq!(key.id(), new);
        let binding = Binding { namespace: "ml", name: "X", version: 1 };
        let sealed = key.seal(&binding, &SecretValue::new(b"value".to_vec()), Some("amy")).unwrap();
        assert_eq!(sealed.by.as_deref(), Some("amy"));
        assert_eq!(open(&new_private, "ml", "X", &sealed).ok().unwrap().expose(), b"value");
        assert!(open(&old_private, "ml", "X", &sealed).is_err());
    }

    #[test]
    fn a_swapped_key_is_not_sealed_to() {
        let (id, _, _) = entry("2026-01-01T00:00:00Z");
        let (_, foreign, _) = entry("2026-01-01T00:00:00Z");
        assert!(newest(BTreeMap::from([(id, foreign.clone())])).is_err());
        assert!(newest(BTreeMap::from([("zzz".to_owned(), foreign)])).is_err());
        assert!(newest(BTreeMap::new()).is_err());
    }
}
