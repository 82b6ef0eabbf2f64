//! Kubernetes Secrets of the team's namespace. Discouraged: the values stay in the API server, where everyone who may
//! edit there reads them.
//!
//! The operator has no right on them of its own: the team's admin grants `get` on each by name.

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, ResourceExt as _};
use zeroize::Zeroize as _;

use super::template::NameTemplate;
use super::{Fetched, Listed, Query, SecretStore, Stage, StoreError, Write};
use crate::api::KubernetesBackend;
use crate::kube_ext::{ApiAnswer, CallError, call};
use crate::secret::SecretValue;

/// How many Secrets are read at a time for one run.
const READS_AT_ONCE: usize = 4;

/// A team's secrets as Kubernetes Secrets.
pub struct KubernetesStore {
    secrets: Api<Secret>,
    team: String,
    template: NameTemplate,
    key: String,
}

impl KubernetesStore {
    /// The store of a team.
    ///
    /// # Errors
    /// The object cannot be used: the text names the field.
    pub fn new(client: Client, team: &str, spec: &KubernetesBackend) -> Result<Self, StoreError> {
        let template = NameTemplate::parse(spec.name_template.as_deref().unwrap_or("{name}"))
            .map_err(|why| StoreError::unavailable(Stage::Address, why))?;
        Ok(Self {
            secrets: Api::namespaced(client, team),
            team: team.to_owned(),
            template,
            key: spec.key.clone().unwrap_or_else(|| "value".into()),
        })
    }

    /// The Secret that holds a team secret. Lower case and `-` for `_` would let two names meet, so names with small
    /// letters, and with `_` at an end, are no names of this store.
    fn object(&self, name: &str) -> Result<String, StoreError> {
        if !fits(name) {
            return Err(StoreError::NotFound(format!(
                "the backend kubernetes knows names of capital letters, digits and `_` between them only, unlike {name:?}"
            )));
        }
        self.template.render(&self.team, name, escape)
    }

    async fn get(&self, query: &Query) -> Result<Fetched, StoreError> {
        if query.version.is_some() {
            return Err(StoreError::NotFound("Secrets have no older versions: take `version` away".into()));
        }
        let object = self.object(&query.name)?;
        let mut secret = self.read(&object).await?;
        let version = secret.resource_version().unwrap_or_default();
        let value = secret.data.as_mut().and_then(|data| data.remove(&self.key));
        wipe(&mut secret);
        let ByteString(value) = value.ok_or_else(|| self.no_key(&object))?;
        Ok(Fetched { value: SecretValue::new(value), version })
    }

    async fn read(&self, object: &str) -> Result<Secret, StoreError> {
        match call("read a Secret of the team", self.secrets.get(object)).await {
            Ok(Ok(secret)) => Ok(secret),
            Ok(Err(answer)) => Err(self.trouble(&answer, object)),
            Err(error) => Err(unreachable(&error)),
        }
    }

    fn no_key(&self, object: &str) -> StoreError {
        StoreError::NotFound(format!("the Secret {object} has no key {:?}: kubernetes.key says which", self.key))
    }

    fn trouble(&self, answer: &ApiAnswer, object: &str) -> StoreError {
        let team = &self.team;
        match answer.code {
            404 => StoreError::NotFound(format!("there is no Secret {object}")),
            403 => StoreError::Denied(format!(
                "nobody granted this: `kubectl create role daypass-read-{object} -n {team} --verb=get --resource=secrets \
                 --resource-name={object}`, and bind it to the operator's ServiceAccount"
            )),
            409 => {
                StoreError::Conflict(format!("the Secret {object} is there already, or was changed at the same time"))
            }
            429 => StoreError::Throttled { retry_after: answer.retry_after },
            code => StoreError::unavailable(Stage::Answer, format!("the API server answered {code}")),
        }
    }
}

impl SecretStore for KubernetesStore {
    fn get_many<'a>(&'a self, queries: &'a [Query]) -> BoxFuture<'a, Vec<Result<Fetched, StoreError>>> {
        stream::iter(queries).map(|query| self.get(query)).buffered(READS_AT_ONCE).collect().boxed()
    }

    /// For admins: the operator is granted single names, so it cannot list.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>, StoreError>> {
        async {
            let listed = match call("list the Secrets", self.secrets.list_metadata(&ListParams::default())).await {
                Ok(Ok(listed)) => listed,
                Ok(Err(answer)) if answer.code == 403 => {
                    return Err(StoreError::Unsupported(
                        "Secrets are granted one by one, so the backend is not asked for names".into(),
                    ));
                }
                Ok(Err(answer)) => return Err(self.trouble(&answer, "of the team")),
                Err(error) => return Err(unreachable(&error)),
            };
            let mut names: Vec<Listed> = listed
                .iter()
                .filter_map(|secret| {
                    let name = self.template.name_of(&self.team, &secret.name_any(), unescape)?;
                    let changed = secret.metadata.creation_timestamp.as_ref().map(|time| time.0);
                    Some(Listed { name, changed })
                })
                .collect();
            names.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(names)
        }
        .boxed()
    }

    fn put<'a>(
        &'a self,
        name: &'a str,
        value: &'a SecretValue,
        write: Write,
    ) -> BoxFuture<'a, Result<String, StoreError>> {
        async move {
            let object = self.object(name)?;
            let data = [(self.key.clone(), ByteString(value.expose().to_vec()))].into();
            let mut secret = Secret { data: Some(data), ..Secret::default() };
            let answer = if write == Write::New {
                secret.metadata.name = Some(object.clone());
                secret.type_ = Some("Opaque".into());
                let parameters = PostParams::default();
                let made = call("make the Secret", self.secrets.create(&parameters, &secret)).await;
                made.map(|answer| answer.map(|made| made.resource_version()))
            } else {
                let old = match call("look at the Secret", self.secrets.get_metadata(&object)).await {
                    Ok(Ok(old)) => old,
                    Ok(Err(answer)) => return Err(self.trouble(&answer, &object)),
                    Err(error) => return Err(unreachable(&error)),
                };
                // As it was seen: not one that somebody has changed since. What else is in it stays.
                secret.metadata.resource_version = old.metadata.resource_version;
                let (patch, parameters) = (Patch::Merge(&secret), PatchParams::default());
                let changed = self.secrets.patch_metadata(&object, &parameters, &patch);
                call("change the Secret", changed).await.map(|answer| answer.map(|changed| changed.resource_version()))
            };
            wipe(&mut secret);
            match answer {
                Ok(Ok(version)) => Ok(version.unwrap_or_default()),
                Ok(Err(answer)) => Err(self.trouble(&answer, &object)),
                Err(error) => Err(unreachable(&error)),
            }
        }
        .boxed()
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let object = self.object(name)?;
            let mut secret = self.read(&object).await?;
            let keys: Vec<String> = secret.data.iter().flat_map(|data| data.keys()).cloned().collect();
            wipe(&mut secret);
            if !keys.contains(&self.key) {
                return Err(self.no_key(&object));
            }
            if keys.len() > 1 {
                return Err(StoreError::Conflict(format!(
                    "the Secret {object} has other keys than {:?}, which would go with it: take that key out of it with kubectl",
                    self.key
                )));
            }
            // As it was seen: nobody has put anything in since.
            let seen = Preconditions { resource_version: secret.metadata.resource_version, uid: secret.metadata.uid };
            let parameters = DeleteParams { preconditions: Some(seen), ..DeleteParams::default() };
            match call("delete the Secret", self.secrets.delete(&object, &parameters)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(answer)) => Err(self.trouble(&answer, &object)),
                Err(error) => Err(unreachable(&error)),
            }
        }
        .boxed()
    }
}

/// Overwrites the values of a Secret, as soon as they are not needed any more.
fn wipe(secret: &mut Secret) {
    for ByteString(bytes) in secret.data.iter_mut().flat_map(|data| data.values_mut()) {
        bytes.zeroize();
    }
}

fn unreachable(error: &CallError) -> StoreError {
    StoreError::unavailable(Stage::Answer, error.to_string())
}

fn fits(name: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        && ends(name.bytes().next())
        && ends(name.bytes().last())
}

fn escape(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

fn unescape(listed: &str) -> Option<String> {
    let name = listed.to_ascii_uppercase().replace('-', "_");
    (fits(&name) && escape(&name) == listed).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_wait_that_the_api_server_asks_for_is_told() {
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            let answer = serde_json::json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 429, "reason": "TooManyRequests",
                "details": {"retryAfterSeconds": 7},
            });
            let answer = kube::client::Body::from(answer.to_string().into_bytes());
            http::Response::builder().status(429).body(answer)
        });
        let store = KubernetesStore::new(Client::new(service, "default"), "team", &KubernetesBackend::default());
        let query = Query { name: "KEY".into(), version: None };
        let refused = store.ok().unwrap().get(&query).await.err();
        assert_eq!(refused, Some(StoreError::Throttled { retry_after: Some(Duration::from_secs(7)) }));
    }

    #[test]
    fn no_two_names_share_a_secret() {
        assert!(fits("HF_TOKEN") && fits("2CAPTCHA_KEY"));
        assert_eq!(escape("HF_TOKEN"), "hf-token");
        assert_eq!(unescape("hf-token").as_deref(), Some("HF_TOKEN"));
        for name in ["hf_token", "Hf_TOKEN", "_HF", "HF_", "HF-TOKEN", ""] {
            assert!(!fits(name), "{name}");
        }
        assert_eq!(unescape("hf.token"), None);
        assert_eq!(unescape("hf_token"), None);
    }
}
