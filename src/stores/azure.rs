//! Azure Key Vault, over its REST API.
//!
//! A vault's names are without `_` and without case: `names` says how a team and a name are written there. A vault holds
//! text: a value that is none is written as base64 with the content type `application/octet-stream;base64`, and read
//! back from it. A vault does not delete single versions: what is replaced is disabled. The token is there before the
//! first call, so that no value is ever sent without one, and no challenge of a server says where tokens come from.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;
use zeroize::Zeroizing;

use super::answered::Text;
use super::bearer::{Bearer, Json, json};
use super::http::{Answer, Http};
use super::settings::StoreSettings;
use super::sign_in::{Issuer, Proof, Proofs};
use super::template::NameTemplate;
use super::{Fetched, Listed, Query, SecretStore, Stage, StoreError, VersionInfo, Write};
use crate::api::AzureBackend;
use crate::secret::SecretValue;

mod login;
mod names;

/// How many secrets are read at a time for one run: there is no batch call.
const READS_AT_ONCE: usize = 8;
/// The version of the API.
const API: (&str, &str) = ("api-version", "2025-07-01");
/// How many pages of 25 a list may have.
const MOST_PAGES: usize = 400;
/// The longest name that a vault takes.
const LONGEST_NAME: usize = 127;
/// The largest value that a vault takes.
const LARGEST_VALUE: usize = 25 * 1024;
/// What a value is marked with that is no text.
const BINARY: &str = "application/octet-stream;base64";
/// A deletion goes on after its answer. How often, and after which pause, the purge behind it is tried.
const PURGE: (u32, Duration) = (20, Duration::from_millis(500));

/// A team's secrets in Azure Key Vault.
pub struct AzureStore {
    vault: Bearer,
    address: Url,
    team: String,
    template: NameTemplate,
}

impl AzureStore {
    /// The store of a team, signing in as its object says.
    ///
    /// # Errors
    /// The object cannot be used: the text names the field.
    pub fn new(
        team: &str,
        spec: &AzureBackend,
        settings: &StoreSettings,
        proof: Proof,
        proofs: Arc<dyn Proofs>,
    ) -> Result<Self, StoreError> {
        let login = login::Login::new(spec, settings, proof, proofs)?;
        Self::with_own_token(team, spec, settings, Box::new(login))
    }

    /// The same store, asked with a token that somebody has.
    ///
    /// # Errors
    /// The object cannot be used: the text names the field.
    pub fn with_own_token(
        team: &str,
        spec: &AzureBackend,
        settings: &StoreSettings,
        token: Box<dyn Issuer>,
    ) -> Result<Self, StoreError> {
        let http = Http::of_store(&spec.vault_url, spec.connection.as_ref(), settings)?;
        let address = Url::parse(&spec.vault_url)
            .map_err(|_| StoreError::unavailable(Stage::Address, "azure.vaultURL is no URL"))?;
        Ok(Self {
            vault: Bearer::new(http, token, "Key Vault"),
            address,
            team: team.to_owned(),
            template: template(spec)?,
        })
    }

    /// What every name of the team begins with.
    ///
    /// # Errors
    /// The template cannot be used.
    pub fn prefix(team: &str, spec: &AzureBackend) -> Result<String, StoreError> {
        Ok(template(spec)?.prefix(team))
    }

    fn secret(&self, name: &str) -> Result<String, StoreError> {
        let secret = self.template.render(&self.team, name, names::name)?;
        if secret.len() > LONGEST_NAME {
            return Err(StoreError::NotFound(format!(
                "the name has {} characters in Key Vault, which takes {LONGEST_NAME} (`_` and small letters take two \
                 there): shorten azure.nameTemplate or the name",
                secret.len()
            )));
        }
        Ok(secret)
    }

    async fn ask(&self, method: &str, path: &[&str], body: Option<&Json>) -> Result<Answer, StoreError> {
        self.vault.ask(method, path, &[API], body).await
    }

    async fn get(&self, query: &Query) -> Result<Fetched, StoreError> {
        let secret = self.secret(&query.name)?;
        let pinned = query.version.as_deref().map(version).transpose()?;
        let mut path = vec!["secrets", secret.as_str()];
        path.extend(pinned.as_deref());
        let answer = self.ask("GET", &path, None).await?;
        if answer.status == 404 && self.is_deleted(&secret).await {
            return Err(StoreError::NotFound(
                "the secret is deleted, and its vault keeps it for a while: recover it, or purge it and set it anew"
                    .into(),
            ));
        }
        judge(&answer, "Get")?;
        let found: Bundle = answer.json().ok_or_else(lies)?;
        let version = self
            .version_of(&found.id, &secret)
            .ok_or_else(|| StoreError::Malformed("Key Vault answered with another secret than was asked for".into()))?;
        if pinned.is_some_and(|pinned| pinned != version) {
            return Err(StoreError::Malformed("Key Vault answered with another version than was asked for".into()));
        }
        if let Some(why) = found.attributes.why_not(Timestamp::now().as_second()) {
            return Err(StoreError::NotFound(why.text().into()));
        }
        let value = if found.content_type.is_some_and(|kind| is_binary(&kind)) {
            found.value.decoded().ok_or_else(|| {
                StoreError::Malformed(format!("the content type says {BINARY}, and the value is no base64"))
            })?
        } else {
            found.value.0
        };
        Ok(Fetched { value, version })
    }

    /// Whether a secret that is not there was deleted. Who may not know that gets no other answer than before.
    async fn is_deleted(&self, secret: &str) -> bool {
        self.ask("GET", &["deletedsecrets", secret], None).await.is_ok_and(|answer| answer.is_success())
    }

    /// The parts of an ID behind `secrets`; none where the ID is of another vault.
    fn parts(&self, id: &str) -> Option<Vec<String>> {
        let url = Url::parse(id).ok().filter(|url| url.host() == self.address.host())?;
        let mut parts = url.path_segments()?.map(str::to_owned);
        (parts.next()? == "secrets").then(|| parts.collect())
    }

    /// The version that an ID is about, where it is one of this secret.
    fn version_of(&self, id: &str, secret: &str) -> Option<String> {
        match &self.parts(id)?[..] {
            [name, found] if name.eq_ignore_ascii_case(secret) => version(found).ok(),
            _ => None,
        }
    }

    /// All entries below a path, page by page.
    async fn pages(&self, path: &[&str]) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        let mut query: Vec<(String, String)> = [API, ("maxresults", "25")].map(|(k, v)| (k.into(), v.into())).into();
        for _ in 0..MOST_PAGES {
            let pairs: Vec<(&str, &str)> = query.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            let answer = self.vault.ask("GET", path, &pairs, None).await?;
            judge(&answer, "List")?;
            let page: Page = answer.json().ok_or_else(lies)?;
            entries.extend(page.value);
            let Some(next) = page.next_link.filter(|next| !next.is_empty()) else { return Ok(entries) };
            // Only the page's own words are taken from a link: server and path stay.
            let next = Url::parse(&next)
                .ok()
                .filter(|_| self.vault.is_own(&next))
                .ok_or_else(|| StoreError::Malformed("Key Vault's list goes on at another server".into()))?;
            query = next.query_pairs().into_owned().collect();
        }
        Err(StoreError::Malformed("Key Vault's list does not end".into()))
    }

    /// All versions, the newest first. A vault says the same of a secret that never was and of one that is deleted.
    async fn versions(&self, secret: &str) -> Result<Vec<(String, Attributes)>, StoreError> {
        let entries = match self.pages(&["secrets", secret, "versions"]).await {
            Err(StoreError::NotFound(_)) => Vec::new(),
            other => other?,
        };
        let mut versions = Vec::with_capacity(entries.len());
        for entry in entries {
            versions.push((self.version_of(&entry.id, secret).ok_or_else(lies)?, entry.attributes));
        }
        versions.sort_by_key(|(_, attributes)| std::cmp::Reverse(attributes.created));
        Ok(versions)
    }

    async fn set(&self, secret: &str, value: &SecretValue) -> Result<String, StoreError> {
        let encoded;
        let (text, content_type) = if let Ok(text) = std::str::from_utf8(value.expose()) {
            (text, None)
        } else {
            encoded = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(value.expose()));
            (encoded.as_str(), Some(BINARY))
        };
        if text.len() > LARGEST_VALUE {
            return Err(StoreError::Unsupported("Key Vault takes values of at most 25 KiB of text".into()));
        }
        let body = json(&NewSecret { value: text, content_type }, text.len() * 2);
        let answer = self.ask("PUT", &["secrets", secret], Some(&body)).await?;
        judge(&answer, "Set")?;
        let made: Entry = answer.json().ok_or_else(lies)?;
        self.version_of(&made.id, secret).ok_or_else(lies)
    }

    async fn disable(&self, secret: &str, versions: Vec<(String, Attributes)>) -> Result<(), StoreError> {
        let body = json(&json!({"attributes": {"enabled": false}}), 0);
        for (version, attributes) in versions {
            if attributes.enabled {
                judge(&self.ask("PATCH", &["secrets", secret, &version], Some(&body)).await?, "Set")?;
            }
        }
        Ok(())
    }

    /// Purges what was deleted; `false` where the vault does not let it.
    async fn purge(&self, secret: &str) -> Result<bool, StoreError> {
        for _ in 0..PURGE.0 {
            let answer = self.ask("DELETE", &["deletedsecrets", secret], None).await?;
            match answer.status {
                200..=299 => return Ok(true),
                403 => return Ok(false),
                // The deletion is still going on.
                404 | 409 => tokio::time::sleep(PURGE.1).await,
                _ => judge(&answer, "Purge")?,
            }
        }
        Ok(false)
    }
}

impl SecretStore for AzureStore {
    fn get_many<'a>(&'a self, queries: &'a [Query]) -> BoxFuture<'a, Vec<Result<Fetched, StoreError>>> {
        stream::iter(queries).map(|query| self.get(query)).buffered(READS_AT_ONCE).collect().boxed()
    }

    fn sign_in(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.vault.sign_in().boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>, StoreError>> {
        async {
            let mut names = Vec::new();
            for entry in self.pages(&["secrets"]).await? {
                let parts = self.parts(&entry.id).ok_or_else(lies)?;
                let [written] = &parts[..] else { return Err(lies()) };
                if let Some(name) = self.template.name_of(&self.team, &written.to_ascii_lowercase(), names::name_of) {
                    names.push(Listed { name, changed: entry.attributes.updated.and_then(time) });
                }
            }
            names.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(names)
        }
        .boxed()
    }

    fn history<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<VersionInfo>, StoreError>> {
        async move {
            let versions = self.versions(&self.secret(name)?).await?;
            if versions.is_empty() {
                return Err(nothing());
            }
            let now = Timestamp::now().as_second();
            let infos = versions.into_iter().enumerate().map(|(index, (version, attributes))| {
                let state = match attributes.why_not(now) {
                    Some(why) => why.state(),
                    None if index == 0 => "current",
                    None => "enabled",
                };
                VersionInfo { version, created: attributes.created.and_then(time), state: state.into() }
            });
            Ok(infos.collect())
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
            let secret = self.secret(name)?;
            let before = self.versions(&secret).await?;
            match (before.is_empty(), write) {
                (false, Write::New) => {
                    return Err(StoreError::Conflict("Key Vault has a secret of this name already".into()));
                }
                (true, Write::Keep | Write::Replace) => return Err(nothing()),
                _ => {}
            }
            let made = self.set(&secret, value).await?;
            if write == Write::Replace {
                self.disable(&secret, before).await.map_err(|error| {
                    StoreError::unavailable(
                        Stage::Answer,
                        format!("version {made} is set, but older versions are still enabled: {error}"),
                    )
                })?;
            }
            Ok(made)
        }
        .boxed()
    }

    /// Deletes, then purges. Where the vault does not let the purge happen the secret is gone for every reader, and the
    /// error says what stays.
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let secret = self.secret(name)?;
            let answer = self.ask("DELETE", &["secrets", &secret], None).await?;
            judge(&answer, "Delete")?;
            let deleted: Deleted = answer.json().ok_or_else(lies)?;
            // A vault without soft deletion has nothing left.
            if deleted.recovery_id.is_none() {
                return Ok(());
            }
            let level = deleted.attributes.recovery_level.unwrap_or_default();
            if level.contains("Purgeable") && matches!(self.purge(&secret).await, Ok(true)) {
                return Ok(());
            }
            let until = deleted.scheduled_purge_date.and_then(time);
            Err(StoreError::Unsupported(format!(
                "the secret is deleted and nobody reads it any more, but it was not purged: until {} it can be \
                 recovered, and its name is taken; `az keyvault secret purge --name {secret}` ends that where the \
                 vault allows it",
                until.map_or_else(|| "the vault's retention ends".to_owned(), |time| time.to_string())
            )))
        }
        .boxed()
    }
}

/// What a status means; `right` is the permission that the call needs.
fn judge(answer: &Answer, right: &str) -> Result<(), StoreError> {
    let trouble = || answer.json::<Failed>().map(|failed| failed.error).unwrap_or_default();
    let inner = || trouble().inner.map(|inner| inner.code).unwrap_or_default();
    Err(match answer.status {
        200..=299 => return Ok(()),
        403 => match inner().as_str() {
            "SecretDisabled" => StoreError::NotFound(WhyNot::Disabled.text().into()),
            "ForbiddenByFirewall" | "ForbiddenByConnection" => StoreError::unavailable(
                Stage::Answer,
                "the vault's firewall does not let the operator in: allow its network, or give it a private endpoint",
            ),
            _ => StoreError::Denied(format!(
                "Key Vault does not let the store's identity do this: grant it {} on the secrets (the role Key Vault \
                 Secrets {}, or the permission in the vault's access policy)",
                right,
                if right == "Get" { "User" } else { "Officer" }
            )),
        },
        404 => nothing(),
        409 => StoreError::Conflict(match inner().as_str() {
            "ObjectIsDeletedButRecoverable" => {
                "a secret of this name is deleted and can still be recovered: recover or purge it first".into()
            }
            "ObjectIsBeingDeleted" | "ObjectIsBeingRecovered" => {
                "a secret of this name is being deleted or recovered: try again".into()
            }
            _ => "the secret was changed at the same time".into(),
        }),
        400 => StoreError::Malformed(
            "Key Vault does not understand the question: compare azure.vaultURL and azure.nameTemplate with it".into(),
        ),
        other => StoreError::Malformed(format!("Key Vault answered {other}")),
    })
}

fn template(spec: &AzureBackend) -> Result<NameTemplate, StoreError> {
    let wrong = |why: String| StoreError::unavailable(Stage::Address, why);
    let text = spec.name_template.as_deref().unwrap_or("daypass-{team}-{name}");
    let template = NameTemplate::parse(text).map_err(wrong)?;
    // A vault lists a name in the letters that it was made with; they mean the same.
    let plain = text.to_ascii_lowercase();
    let template = if plain == text { template } else { NameTemplate::parse(&plain).map_err(wrong)? };
    Ok(template.with_team(names::team))
}

/// A version as a vault writes it.
fn version(text: &str) -> Result<String, StoreError> {
    if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(StoreError::NotFound("versions are 32 hexadecimal digits".into()))
    }
}

fn is_binary(content_type: &str) -> bool {
    let bare: String = content_type.chars().filter(|letter| !letter.is_whitespace()).collect();
    bare.eq_ignore_ascii_case(BINARY)
}

fn time(seconds: i64) -> Option<Timestamp> {
    Timestamp::from_second(seconds).ok()
}

fn nothing() -> StoreError {
    StoreError::NotFound("Key Vault has no such secret, or no such version of it".into())
}

fn lies() -> StoreError {
    StoreError::Malformed("the answer is not one of Key Vault's".into())
}

/// Why a version has no value for anybody.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WhyNot {
    Disabled,
    Expired,
    Early,
}

impl WhyNot {
    const fn state(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::Early => "not yet valid",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Disabled => "the version is disabled in Key Vault: enable it, or add another",
            Self::Expired => "the version has expired in Key Vault: add another, or move its expiry",
            Self::Early => "the version is not valid yet in Key Vault: its activation date is still to come",
        }
    }
}

#[derive(Deserialize)]
struct Attributes {
    #[serde(default = "yes")]
    enabled: bool,
    nbf: Option<i64>,
    exp: Option<i64>,
    created: Option<i64>,
    updated: Option<i64>,
    #[serde(rename = "recoveryLevel")]
    recovery_level: Option<String>,
}

const fn yes() -> bool {
    true
}

impl Attributes {
    fn why_not(&self, now: i64) -> Option<WhyNot> {
        if !self.enabled {
            Some(WhyNot::Disabled)
        } else if self.exp.is_some_and(|end| end <= now) {
            Some(WhyNot::Expired)
        } else if self.nbf.is_some_and(|start| start > now) {
            Some(WhyNot::Early)
        } else {
            None
        }
    }
}

#[derive(Deserialize)]
struct Bundle {
    id: String,
    value: Text,
    #[serde(rename = "contentType")]
    content_type: Option<String>,
    attributes: Attributes,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    attributes: Attributes,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    value: Vec<Entry>,
    #[serde(rename = "nextLink")]
    next_link: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Deleted {
    recovery_id: Option<String>,
    scheduled_purge_date: Option<i64>,
    attributes: Attributes,
}

#[derive(Serialize)]
struct NewSecret<'a> {
    value: &'a str,
    #[serde(rename = "contentType", skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
}

/// What a vault says of a call that failed. It decides which of our own texts is shown, and goes no further.
#[derive(Deserialize)]
struct Failed {
    error: Trouble,
}

#[derive(Default, Deserialize)]
struct Trouble {
    #[serde(rename = "innererror", alias = "innerError")]
    inner: Option<Inner>,
}

#[derive(Deserialize)]
struct Inner {
    code: String,
}
