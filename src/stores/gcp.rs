//! Google Secret Manager, over its REST API.
//!
//! Every value is compared with the checksum that Google sends with it. `latest` is a secret's newest version whatever
//! its state, so a secret whose newest version is disabled has no value until that is enabled, destroyed versions and all.
//! Answers bear the project's number instead of its ID, so of an answer's name only secret and version are compared.

use std::sync::Arc;

use base64::Engine as _;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use super::answered::Text;
use super::bearer::{Bearer, Json, json};
use super::http::{Answer, Http};
use super::settings::StoreSettings;
use super::sign_in::{Issuer, Proof, Proofs};
use super::template::{NameTemplate, as_listed, unchanged};
use super::{Fetched, Listed, Query, SecretStore, Stage, StoreError, VersionInfo, Write};
use crate::api::GcpBackend;
use crate::secret::SecretValue;

mod key_file;
mod login;

/// How many secrets are read at a time for one run: there is no batch call.
const READS_AT_ONCE: usize = 8;
/// How many entries a page of a list has. A page has to fit into the client's largest body.
const PAGE: &str = "250";
/// How many pages a list may have.
const MOST_PAGES: usize = 200;
/// The longest name that Google takes.
const LONGEST_NAME: usize = 255;
/// The largest value that Google takes.
const LARGEST_VALUE: usize = 64 * 1024;
/// Google's checksum of a value.
const CRC32C: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);

/// What the store's identity needs for one thing that is asked.
#[derive(Clone, Copy)]
enum Right {
    Read,
    List,
    Write,
}

impl Right {
    const fn role(self) -> &'static str {
        match self {
            Self::Read => "roles/secretmanager.secretAccessor",
            Self::List => "roles/secretmanager.viewer",
            Self::Write => "roles/secretmanager.admin",
        }
    }
}

/// A team's secrets in Google Secret Manager.
pub struct GcpStore {
    google: Bearer,
    team: String,
    project: String,
    template: NameTemplate,
}

impl GcpStore {
    /// The store of a team, signing in as its object says.
    ///
    /// # Errors
    /// The object cannot be used: the text names the field.
    pub fn new(
        team: &str,
        spec: &GcpBackend,
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
        spec: &GcpBackend,
        settings: &StoreSettings,
        token: Box<dyn Issuer>,
    ) -> Result<Self, StoreError> {
        let address = spec.endpoint.as_deref().unwrap_or("https://secretmanager.googleapis.com");
        let http = Http::of_store(address, spec.connection.as_ref(), settings)?;
        Ok(Self {
            google: Bearer::new(http, token, "Google"),
            team: team.to_owned(),
            project: spec.project.clone(),
            template: template(spec)?,
        })
    }

    /// What every name of the team begins with.
    ///
    /// # Errors
    /// The template cannot be used.
    pub fn prefix(team: &str, spec: &GcpBackend) -> Result<String, StoreError> {
        Ok(template(spec)?.prefix(team))
    }

    /// Whether a prefix tells all of a team's names from those of other teams. With text after the name it may not:
    /// `daypass-ml-{name}-KEY` makes names that the team `ml-two` has.
    ///
    /// # Errors
    /// It does not: the text says what to change.
    pub fn check_prefix_tells(spec: &GcpBackend) -> Result<(), StoreError> {
        if template(spec)?.ends_with_name() {
            return Ok(());
        }
        Err(StoreError::unavailable(
            Stage::Address,
            "gcp.nameTemplate must end with {name} where the store signs in with the operator's identity",
        ))
    }

    fn secret(&self, name: &str) -> Result<String, StoreError> {
        let secret = self.template.render(&self.team, name, unchanged)?;
        if secret.len() > LONGEST_NAME {
            return Err(StoreError::NotFound(format!(
                "the name has {} characters in Google, which takes {LONGEST_NAME}: shorten gcp.nameTemplate or the name",
                secret.len()
            )));
        }
        Ok(secret)
    }

    /// Asks below the project's secrets.
    async fn ask(
        &self,
        method: &str,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Json>,
    ) -> Result<Answer, StoreError> {
        let mut segments = vec!["v1", "projects", self.project.as_str(), "secrets"];
        segments.extend(path);
        self.google.ask(method, &segments, query, body).await
    }

    async fn get(&self, query: &Query) -> Result<Fetched, StoreError> {
        let secret = self.secret(&query.name)?;
        let pinned = query.version.as_deref().map(number).transpose()?;
        for _ in 0..2 {
            if let Some(fetched) = self.access(&secret, pinned).await? {
                return Ok(fetched);
            }
        }
        Err(StoreError::Malformed("the value does not fit the checksum that Google sent with it, twice".into()))
    }

    /// One version's value; none where it does not fit its checksum.
    async fn access(&self, secret: &str, pinned: Option<u64>) -> Result<Option<Fetched>, StoreError> {
        let last = pinned.map_or_else(|| "latest:access".to_owned(), |version| format!("{version}:access"));
        let answer = self.ask("GET", &[secret, "versions", &last], &[], None).await?;
        self.judge(&answer, Right::Read)?;
        let found: Accessed = answer.json().ok_or_else(lies)?;
        let version = version_of(&found.name, secret)
            .ok_or_else(|| StoreError::Malformed("Google answered with another secret than was asked for".into()))?;
        if pinned.is_some_and(|pinned| pinned != version) {
            return Err(StoreError::Malformed("Google answered with another version than was asked for".into()));
        }
        let checksum: u32 = found.payload.data_crc32c.parse().map_err(|_| lies())?;
        let Some(value) = found.payload.data.decoded() else {
            return Err(StoreError::Malformed("the value is no base64".into()));
        };
        Ok((CRC32C.checksum(value.expose()) == checksum).then(|| Fetched { value, version: version.to_string() }))
    }

    fn judge(&self, answer: &Answer, right: Right) -> Result<(), StoreError> {
        let trouble = || answer.json::<Failed>().map(|failed| failed.error).unwrap_or_default();
        Err(match answer.status {
            200..=299 => return Ok(()),
            400 => match trouble() {
                Trouble { status, message, .. } if status == "FAILED_PRECONDITION" => {
                    StoreError::NotFound(if message.contains("is in DESTROYED state") {
                        "the version is destroyed in Google: there is no way back".into()
                    } else if message.contains("is in DISABLED state") {
                        "the version is disabled in Google: enable it, or add another".into()
                    } else {
                        "the version is in a state in which Google gives no value".into()
                    })
                }
                _ => StoreError::Malformed(
                    "Google does not understand the question: compare gcp.project and gcp.nameTemplate with it".into(),
                ),
            },
            403 => {
                let reasons: Vec<String> = trouble().details.into_iter().map(|detail| detail.reason).collect();
                let has = |known: &[&str]| reasons.iter().any(|reason| known.contains(&reason.as_str()));
                let project = &self.project;
                if has(&["SERVICE_DISABLED", "BILLING_DISABLED", "CONSUMER_INVALID", "CONSUMER_SUSPENDED"]) {
                    StoreError::unavailable(
                        Stage::Answer,
                        format!(
                            "the project {project} does not serve Secret Manager: enable the API \
                             secretmanager.googleapis.com and billing there"
                        ),
                    )
                } else if has(&["ACCESS_TOKEN_SCOPE_INSUFFICIENT"]) {
                    StoreError::unavailable(Stage::SignIn, "the token has not the scope cloud-platform")
                } else {
                    StoreError::Denied(format!(
                        "Google does not let the store's identity do this, or there is nothing to do it to: grant it \
                         {} in project {project}, on names that begin with {:?}",
                        right.role(),
                        self.template.prefix(&self.team)
                    ))
                }
            }
            404 => StoreError::NotFound("Google has no such secret, or no such version of it".into()),
            409 => StoreError::Conflict("Google has a secret of this name already".into()),
            other => StoreError::Malformed(format!("Google answered {other}")),
        })
    }

    /// All versions, the newest first.
    async fn versions(&self, secret: &str) -> Result<Vec<(u64, Version)>, StoreError> {
        let mut versions = Vec::new();
        let mut page = String::new();
        for _ in 0..MOST_PAGES {
            let query = [("pageSize", PAGE), ("pageToken", page.as_str())];
            let query = if page.is_empty() { &query[..1] } else { &query[..] };
            let answer = self.ask("GET", &[secret, "versions"], query, None).await?;
            self.judge(&answer, Right::List)?;
            let found: Versions = answer.json().ok_or_else(lies)?;
            for version in found.versions {
                versions.push((version_of(&version.name, secret).ok_or_else(lies)?, version));
            }
            page = found.next_page_token;
            if page.is_empty() {
                versions.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
                return Ok(versions);
            }
        }
        Err(endless())
    }

    async fn add_version(&self, secret: &str, value: &SecretValue) -> Result<u64, StoreError> {
        let data = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(value.expose()));
        let payload = NewPayload { data: &data, data_crc32c: CRC32C.checksum(value.expose()).to_string() };
        let body = json(&NewVersion { payload }, data.len());
        let answer = self.ask("POST", &[&format!("{secret}:addVersion")], &[], Some(&body)).await?;
        self.judge(&answer, Right::Write)?;
        let made: Version = answer.json().ok_or_else(lies)?;
        version_of(&made.name, secret).ok_or_else(lies)
    }

    async fn create(&self, secret: &str) -> Result<(), StoreError> {
        let body = json(&json!({"replication": {"automatic": {}}}), 0);
        let answer = self.ask("POST", &[], &[("secretId", secret)], Some(&body)).await?;
        match self.judge(&answer, Right::Write) {
            Err(StoreError::Conflict(why)) => {
                // One that has no version left, or has none yet because its making was cut off, can be set anew.
                let empty = match self.versions(secret).await {
                    Ok(versions) => versions.iter().all(|(_, version)| version.state == "DESTROYED"),
                    Err(StoreError::Denied(_)) => false,
                    Err(error) => return Err(error),
                };
                if empty { Ok(()) } else { Err(StoreError::Conflict(why)) }
            }
            other => other,
        }
    }

    async fn destroy_before(&self, secret: &str, newest: u64) -> Result<(), StoreError> {
        for (number, version) in self.versions(secret).await? {
            if number < newest && version.state != "DESTROYED" {
                let last = format!("{number}:destroy");
                let answer = self.ask("POST", &[secret, "versions", &last], &[], Some(&json(&json!({}), 0))).await?;
                self.judge(&answer, Right::Write)?;
            }
        }
        Ok(())
    }
}

impl SecretStore for GcpStore {
    fn get_many<'a>(&'a self, queries: &'a [Query]) -> BoxFuture<'a, Vec<Result<Fetched, StoreError>>> {
        stream::iter(queries).map(|query| self.get(query)).buffered(READS_AT_ONCE).collect().boxed()
    }

    fn sign_in(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.google.sign_in().boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>, StoreError>> {
        async {
            let mut names = Vec::new();
            let mut page = String::new();
            for _ in 0..MOST_PAGES {
                let query = [("pageSize", PAGE), ("pageToken", page.as_str())];
                let query = if page.is_empty() { &query[..1] } else { &query[..] };
                let answer = self.ask("GET", &[], query, None).await?;
                self.judge(&answer, Right::List)?;
                let found: Secrets = answer.json().ok_or_else(lies)?;
                for secret in found.secrets {
                    let Some(("secrets", secret)) = split(&secret.name) else { return Err(lies()) };
                    // Google tells when a secret was made, not when it was changed.
                    let name = self.template.name_of(&self.team, secret, as_listed);
                    names.extend(name.map(|name| Listed { name, changed: None }));
                }
                page = found.next_page_token;
                if page.is_empty() {
                    names.sort_by(|a: &Listed, b| a.name.cmp(&b.name));
                    return Ok(names);
                }
            }
            Err(endless())
        }
        .boxed()
    }

    fn history<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<VersionInfo>, StoreError>> {
        async move {
            let versions = self.versions(&self.secret(name)?).await?;
            let newest = versions.first().map(|(number, _)| *number);
            let info = |(number, version): (u64, Version)| VersionInfo {
                version: number.to_string(),
                created: version.create_time.parse::<Timestamp>().ok(),
                state: match version.state.as_str() {
                    "ENABLED" if Some(number) == newest => "current",
                    "ENABLED" => "enabled",
                    "DISABLED" => "disabled",
                    "DESTROYED" => "destroyed",
                    _ => "unknown",
                }
                .into(),
            };
            Ok(versions.into_iter().map(info).collect())
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
            if value.expose().len() > LARGEST_VALUE {
                return Err(StoreError::Unsupported("Google takes values of at most 64 KiB".into()));
            }
            if write == Write::New {
                self.create(&secret).await?;
            }
            let made = self.add_version(&secret, value).await?;
            if write == Write::Replace {
                self.destroy_before(&secret, made).await.map_err(|error| {
                    StoreError::unavailable(
                        Stage::Answer,
                        format!("version {made} is set, but older versions are still there: {error}"),
                    )
                })?;
            }
            Ok(made.to_string())
        }
        .boxed()
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let answer = self.ask("DELETE", &[&self.secret(name)?], &[], None).await?;
            self.judge(&answer, Right::Write)
        }
        .boxed()
    }
}

fn template(spec: &GcpBackend) -> Result<NameTemplate, StoreError> {
    NameTemplate::parse(spec.name_template.as_deref().unwrap_or("daypass-{team}-{name}"))
        .map_err(|why| StoreError::unavailable(Stage::Address, why))
}

/// A pinned version. Only Google's own way to write a number passes.
fn number(version: &str) -> Result<u64, StoreError> {
    version
        .parse()
        .ok()
        .filter(|number: &u64| *number > 0 && number.to_string() == version)
        .ok_or_else(|| StoreError::NotFound("versions are whole numbers from 1".into()))
}

/// What follows `projects/NUMBER/`: the next word, and the rest.
fn split(name: &str) -> Option<(&str, &str)> {
    let (_, rest) = name.strip_prefix("projects/")?.split_once('/')?;
    rest.split_once('/')
}

/// The version that a name of the secret's versions is about.
fn version_of(name: &str, secret: &str) -> Option<u64> {
    let ("secrets", rest) = split(name)? else { return None };
    number(rest.strip_prefix(secret)?.strip_prefix("/versions/")?).ok()
}

fn lies() -> StoreError {
    StoreError::Malformed("the answer is not one of Google Secret Manager's".into())
}

fn endless() -> StoreError {
    StoreError::Malformed("Google's list does not end".into())
}

#[derive(Deserialize)]
struct Accessed {
    name: String,
    payload: Payload,
}

#[derive(Deserialize)]
struct Payload {
    data: Text,
    #[serde(rename = "dataCrc32c")]
    data_crc32c: String,
}

#[derive(Serialize)]
struct NewVersion<'a> {
    payload: NewPayload<'a>,
}

#[derive(Serialize)]
struct NewPayload<'a> {
    data: &'a str,
    #[serde(rename = "dataCrc32c")]
    data_crc32c: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Secrets {
    #[serde(default)]
    secrets: Vec<Named>,
    #[serde(default)]
    next_page_token: String,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    #[serde(default)]
    versions: Vec<Version>,
    #[serde(default)]
    next_page_token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    name: String,
    #[serde(default)]
    create_time: String,
    #[serde(default)]
    state: String,
}

/// What Google says of a call that failed. It decides which of our own texts is shown, and goes no further.
#[derive(Deserialize)]
struct Failed {
    error: Trouble,
}

#[derive(Default, Deserialize)]
struct Trouble {
    #[serde(default)]
    status: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Vec<Detail>,
}

#[derive(Deserialize)]
struct Detail {
    #[serde(default)]
    reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_asked_secrets_name_counts() {
        assert_eq!(version_of("projects/123/secrets/a-b/versions/7", "a-b"), Some(7));
        for other in [
            "projects/123/secrets/a-c/versions/7",
            "projects/123/secrets/a-b/versions/07",
            "projects/123/secrets/a-b/versions/0",
            "projects/123/secrets/a-b/versions/",
            "projects/123/secrets/a-bb/versions/7",
            "projects/123/locations/x/secrets/a-b/versions/7",
            "projects/secrets/a-b/versions/7",
            "",
        ] {
            assert_eq!(version_of(other, "a-b"), None, "{other}");
        }
    }

    #[test]
    fn pins_are_whole_numbers() {
        assert_eq!(number("12"), Ok(12));
        for wrong in ["0", "+1", "01", "-1", "latest", "1:destroy", "1/..", "", "99999999999999999999"] {
            assert!(matches!(number(wrong), Err(StoreError::NotFound(_))), "{wrong}");
        }
    }

    #[test]
    fn the_checksum_is_the_one_that_google_documents() {
        assert_eq!(CRC32C.checksum(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_prefix_tells_nothing_where_text_follows_the_name() {
        let of = |template: &str| GcpBackend { name_template: Some(template.into()), ..GcpBackend::default() };
        assert!(GcpStore::check_prefix_tells(&GcpBackend::default()).is_ok());
        assert!(GcpStore::check_prefix_tells(&of("daypass-ml-{name}-KEY")).is_err());
    }
}
