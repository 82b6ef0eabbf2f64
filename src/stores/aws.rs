//! AWS Secrets Manager, by the official SDK: signing and the kinds of credentials are not worth writing again.
//!
//! Of the SDK only questions, answers and signatures are used. Its questions go over our own HTTP client ([`wire`]);
//! it never tries again, keeps no credentials, reads no configuration, and writes no log: at its lowest level it would
//! print whole questions and answers.

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_secretsmanager::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
use aws_sdk_secretsmanager::config::{BehaviorVersion, Builder as ConfigBuilder, Config, IdentityCache, Region};
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;
use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType, SecretVersionsListEntry};
use aws_sdk_secretsmanager::{Client, primitives};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use self::credentials::{Own, Trade, credentials};
use self::trouble::Trouble;
use self::wire::Wire;
use super::http::Http;
use super::settings::StoreSettings;
use super::sign_in::{Issuer, KeptToken, Proof, Proofs};
use super::template::{NameTemplate, as_listed, unchanged};
use super::{Fetched, Listed, Query, SecretStore, Stage, StoreError, VersionInfo, Write};
use crate::api::AwsBackend;
use crate::secret::SecretValue;

mod credentials;
mod trouble;
mod wire;

/// How many secrets one batch call may ask for.
const LARGEST_BATCH: usize = 20;
/// How many secrets are read at a time where the batch call is no use.
const READS_AT_ONCE: usize = 8;
/// How long the batch call is left alone where the store's role may not make it.
const BATCH_AGAIN: Duration = Duration::from_secs(300);
/// The most pages of a list that are read.
const MOST_PAGES: usize = 100;
/// The largest value that AWS takes.
const LARGEST_VALUE: usize = 65_536;
/// The longest name that AWS takes.
const LONGEST_NAME: usize = 512;
/// The stage of the version that counts.
const CURRENT: &str = "AWSCURRENT";
/// The stage of a version that a rotation has not finished with.
const PENDING: &str = "AWSPENDING";
/// What the stage of a version that was kept on purpose begins with.
const KEPT: &str = "daypass-kept-";

/// A team's secrets in AWS Secrets Manager.
///
/// AWS deletes no version on demand. One that has no stage any more is *deprecated*: AWS gives it to whoever knows its
/// ID until it removes it, unasked. Such a version does not resolve here. So [`Write::Replace`] takes the stages of all
/// older versions away, and [`Write::Keep`] gives the version that it replaces a stage of its own.
pub struct AwsStore {
    client: Client,
    kept: KeptToken,
    team: String,
    template: NameTemplate,
    /// Since when the batch call is known to be refused.
    no_batch: Mutex<Option<Instant>>,
}

impl AwsStore {
    /// The store of a team, signing in as its object says.
    ///
    /// # Errors
    /// The object cannot be used: the text names the field.
    pub fn new(
        team: &str,
        spec: &AwsBackend,
        settings: &StoreSettings,
        proof: Proof,
        proofs: Arc<dyn Proofs>,
    ) -> Result<Self, StoreError> {
        let client = client(spec, settings)?;
        let trade = Trade::new(team, spec, settings, proof, proofs)?;
        Self::with_issuer(team, spec, client, Box::new(trade))
    }

    /// The same store, asked with the credentials of whoever runs this program: those in the environment
    /// (`AWS_ACCESS_KEY_ID`, ...), or of a profile (`AWS_PROFILE`, `~/.aws`). A profile may assume roles. One that needs
    /// another program, a browser or a metadata server does not work here; `aws configure export-credentials` does.
    ///
    /// # Errors
    /// The object cannot be used: the text names the field.
    pub fn with_own_credentials(team: &str, spec: &AwsBackend, settings: &StoreSettings) -> Result<Self, StoreError> {
        let client = client(spec, settings)?;
        Self::with_issuer(team, spec, client, Box::new(Own::of_admin(spec, settings)?))
    }

    /// The same store, asked with credentials that somebody has.
    ///
    /// # Errors
    /// The object cannot be used: the text names the field.
    pub fn with_credentials(
        team: &str,
        spec: &AwsBackend,
        settings: &StoreSettings,
        credentials: SharedCredentialsProvider,
    ) -> Result<Self, StoreError> {
        Self::with_issuer(team, spec, client(spec, settings)?, Box::new(Own(credentials)))
    }

    fn with_issuer(team: &str, spec: &AwsBackend, client: Client, issuer: Box<dyn Issuer>) -> Result<Self, StoreError> {
        Ok(Self {
            client,
            kept: KeptToken::new(issuer),
            team: team.to_owned(),
            template: template(spec)?,
            no_batch: Mutex::default(),
        })
    }

    /// What every name of the team begins with.
    ///
    /// # Errors
    /// The template cannot be used.
    pub fn prefix(team: &str, spec: &AwsBackend) -> Result<String, StoreError> {
        Ok(template(spec)?.prefix(team))
    }

    /// What AWS calls a secret.
    fn id(&self, name: &str) -> Result<String, StoreError> {
        let id = self.template.render(&self.team, name, unchanged)?;
        if id.len() > LONGEST_NAME {
            return Err(StoreError::NotFound(format!("AWS has no names of more than {LONGEST_NAME} characters")));
        }
        Ok(id)
    }

    /// Asks with the store's credentials, and once more with fresh ones where those are refused.
    async fn call<T, E, F>(&self, question: impl Fn(ConfigBuilder) -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + Error + 'static,
    {
        for _ in 0..2 {
            let kept = self.kept.get().await.map_err(Trouble::Backend)?;
            let own = SharedCredentialsProvider::new(credentials(&kept).map_err(Trouble::Backend)?);
            match quietly(question(Config::builder().credentials_provider(own))).await {
                Ok(answer) => return Ok(answer),
                Err(error) => match Trouble::of(&error) {
                    Trouble::SignIn => self.kept.refused(&kept).await,
                    other => return Err(other),
                },
            }
        }
        Err(Trouble::SignIn)
    }

    /// Reads many current versions by one call. What the answer leaves out is left out here.
    async fn batch(&self, ids: &[&str]) -> Result<HashMap<String, Result<Fetched, StoreError>>, Trouble> {
        let wanted: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        let answer = self
            .call(|own| {
                let question = self.client.batch_get_secret_value().set_secret_id_list(Some(wanted.clone()));
                question.customize().config_override(own).send()
            })
            .await?;
        let mut found = HashMap::new();
        for entry in answer.secret_values.unwrap_or_default() {
            // Not every answer is about the current version; a question for one secret is.
            let current = entry.version_stages().iter().any(|stage| stage == CURRENT);
            if let (true, Some(name), Some(version)) =
                (current, entry.name, entry.version_id.filter(|version| is_version(version)))
            {
                let value = value(entry.secret_string, entry.secret_binary);
                found.insert(name, value.map(|value| Fetched { value, version }));
            }
        }
        for error in answer.errors.unwrap_or_default() {
            let (Some(id), Some(code)) = (error.secret_id, error.error_code) else { continue };
            let trouble = Trouble::of_code(&code, error.message.as_deref(), None).unwrap_or(Trouble::Lies);
            let error = trouble.of_read(&id);
            found.insert(id, Err(error));
        }
        Ok(found)
    }

    async fn get(&self, query: &Query) -> Result<Fetched, StoreError> {
        let id = self.id(&query.name)?;
        let pinned = query.version.as_deref();
        if pinned.is_some_and(|version| !is_version(version)) {
            return Err(StoreError::NotFound(
                "versions in AWS are IDs of 32 to 64 letters, digits and `-`: `daypass secret history` lists them"
                    .into(),
            ));
        }
        let answer = self
            .call(|own| {
                let question = self.client.get_secret_value().secret_id(&id);
                let question = match pinned {
                    Some(version) => question.version_id(version),
                    None => question.version_stage(CURRENT),
                };
                question.customize().config_override(own).send()
            })
            .await
            .map_err(|trouble| trouble.of_read(&id))?;
        if answer.name() != Some(&id) || pinned.is_some_and(|version| answer.version_id() != Some(version)) {
            return Err(StoreError::Malformed("AWS answered with another secret or version than was asked for".into()));
        }
        match pinned {
            Some(version) => resolves(version, answer.version_stages())?,
            None if !answer.version_stages().iter().any(|stage| stage == CURRENT) => {
                return Err(StoreError::Malformed("AWS answered with another version than the current one".into()));
            }
            None => {}
        }
        let version = answer.version_id.filter(|version| is_version(version));
        let version = version.ok_or_else(|| Trouble::Lies.of_read(&id))?;
        Ok(Fetched { value: value(answer.secret_string, answer.secret_binary)?, version })
    }

    async fn get_many(&self, queries: &[Query]) -> Vec<Result<Fetched, StoreError>> {
        let mut answers: Vec<Option<Result<Fetched, StoreError>>> = queries.iter().map(|_| None).collect();
        // Each secret once: what is asked for twice is read twice.
        let mut places: HashMap<String, usize> = HashMap::new();
        for (place, query) in queries.iter().enumerate().filter(|(_, query)| query.version.is_none()) {
            if let Ok(id) = self.id(&query.name) {
                places.entry(id).or_insert(place);
            }
        }
        let ids: Vec<&str> = places.keys().map(String::as_str).collect();
        // For one alone the batch would be another right to grant, and no call less.
        for ids in ids.chunks(LARGEST_BATCH).filter(|ids| ids.len() > 1) {
            if self.is_batch_refused() {
                break;
            }
            match self.batch(ids).await {
                Ok(mut found) => {
                    for id in ids {
                        answers[places[*id]] = found.remove(*id);
                    }
                }
                Err(trouble) if trouble.is_of_batch() => {
                    if trouble == Trouble::Denied {
                        self.refuse_batch();
                    }
                }
                // Single questions would meet the same, and add to it.
                Err(trouble) => {
                    for id in ids {
                        answers[places[*id]] = Some(Err(trouble.clone().of_read(id)));
                    }
                }
            }
        }
        let singly = answers.iter().enumerate().filter(|(_, answer)| answer.is_none()).map(|(place, _)| place);
        let singly: Vec<usize> = singly.collect();
        let found: Vec<_> = stream::iter(singly)
            .map(|place| self.get(&queries[place]).map(move |answer| (place, answer)))
            .buffer_unordered(READS_AT_ONCE)
            .collect()
            .await;
        for (place, answer) in found {
            answers[place] = Some(answer);
        }
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(Trouble::Lies.of_read("")))).collect()
    }

    fn is_batch_refused(&self) -> bool {
        let since = *self.no_batch.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() < BATCH_AGAIN)
    }

    fn refuse_batch(&self) {
        *self.no_batch.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    async fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let prefix = self.template.prefix(&self.team);
        let filter = (!prefix.is_empty())
            .then(|| Filter::builder().key(FilterNameStringType::Name).values(prefix.clone()).build());
        let mut names = Vec::new();
        let mut page: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let answer = self
                .call(|own| {
                    let question = self
                        .client
                        .list_secrets()
                        .max_results(100)
                        .set_filters(filter.clone().map(|filter| vec![filter]))
                        .set_next_token(page.clone());
                    question.customize().config_override(own).send()
                })
                .await
                .map_err(|trouble| trouble.of_write(&prefix, "secretsmanager:ListSecrets"))?;
            for entry in answer.secret_list.unwrap_or_default() {
                let name = entry.name.as_deref().filter(|_| entry.deleted_date.is_none());
                if let Some(name) = name.and_then(|name| self.template.name_of(&self.team, name, as_listed)) {
                    names.push(Listed { name, changed: entry.last_changed_date.as_ref().and_then(time) });
                }
            }
            page = answer.next_token.filter(|token| !token.is_empty());
            if page.is_none() {
                break;
            }
        }
        names.sort_by(|a, b| a.name.cmp(&b.name));
        names.dedup_by(|a, b| a.name == b.name);
        Ok(names)
    }

    /// All versions, those without a stage too.
    async fn versions(&self, id: &str) -> Result<Vec<SecretVersionsListEntry>, StoreError> {
        let mut versions = Vec::new();
        let mut page: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let answer = self
                .call(|own| {
                    let question = self
                        .client
                        .list_secret_version_ids()
                        .secret_id(id)
                        .include_deprecated(true)
                        .max_results(100)
                        .set_next_token(page.clone());
                    question.customize().config_override(own).send()
                })
                .await
                .map_err(|trouble| trouble.of_write(id, "secretsmanager:ListSecretVersionIds"))?;
            versions.extend(answer.versions.unwrap_or_default());
            page = answer.next_token.filter(|token| !token.is_empty());
            if page.is_none() {
                break;
            }
        }
        Ok(versions)
    }

    /// What AWS says of a secret that is there.
    async fn describe(&self, id: &str) -> Result<DescribeSecretOutput, StoreError> {
        self.call(|own| self.client.describe_secret().secret_id(id).customize().config_override(own).send())
            .await
            .map_err(|trouble| trouble.of_write(id, "secretsmanager:DescribeSecret"))
    }

    /// The same of one that is not on its way out.
    async fn describe_live(&self, id: &str) -> Result<DescribeSecretOutput, StoreError> {
        let found = self.describe(id).await?;
        if found.deleted_date.is_some() { Err(Trouble::State.of_write(id, "")) } else { Ok(found) }
    }

    async fn create(&self, id: &str, value: &SecretValue) -> Result<String, StoreError> {
        let made = self
            .call(|own| {
                let (text, bytes) = stored(value);
                let question = self.client.create_secret().name(id).set_secret_string(text).set_secret_binary(bytes);
                question.customize().config_override(own).send()
            })
            .await;
        match made {
            Ok(made) => made.version_id.ok_or_else(|| Trouble::Lies.of_read(id)),
            // AWS says either of a secret that somebody has deleted, and that it keeps for a while.
            Err(trouble @ (Trouble::Exists | Trouble::State)) => Err(match self.describe(id).await {
                Ok(found) if found.deleted_date.is_some() => StoreError::Conflict(format!(
                    "AWS has a secret {id:?} that is scheduled for deletion: `aws secretsmanager restore-secret` brings \
                     it back, `daypass secret delete` ends it at once"
                )),
                _ if trouble == Trouble::Exists => trouble.of_write(id, ""),
                _ => StoreError::Conflict(format!("AWS is deleting the secret {id:?} still: try again in a minute")),
            }),
            Err(trouble) => Err(trouble.of_write(id, "secretsmanager:CreateSecret")),
        }
    }

    async fn change(&self, id: &str, value: &SecretValue, write: Write) -> Result<String, StoreError> {
        let before = self.describe_live(id).await?.version_ids_to_stages.unwrap_or_default();
        let made = self
            .call(|own| {
                let (text, bytes) = stored(value);
                let question =
                    self.client.put_secret_value().secret_id(id).set_secret_string(text).set_secret_binary(bytes);
                question.customize().config_override(own).send()
            })
            .await
            .map_err(|trouble| trouble.of_write(id, "secretsmanager:PutSecretValue"))?;
        let made = made.version_id.ok_or_else(|| Trouble::Lies.of_read(id))?;
        let finished =
            if write == Write::Replace { self.end_others(id, &made).await } else { self.keep(id, &before).await };
        match finished {
            Ok(()) => Ok(made),
            Err(error) => Err(half_done(&made, write, error)),
        }
    }

    /// Gives what resolves now a stage of its own, for AWS moves its own ones on. A stage is at one version only.
    async fn keep(&self, id: &str, versions: &HashMap<String, Vec<String>>) -> Result<(), StoreError> {
        for (version, stages) in versions {
            let kept = format!("{KEPT}{version}");
            if resolves(version, stages).is_ok() && !stages.contains(&kept) {
                self.stage(id, &kept, None, Some(version)).await?;
            }
        }
        Ok(())
    }

    /// Takes the stages of all versions but one away, and sees that they are. A rotation's own stage stays: it makes no
    /// version resolve.
    async fn end_others(&self, id: &str, made: &str) -> Result<(), StoreError> {
        for _ in 0..2 {
            let versions = self.describe(id).await?.version_ids_to_stages.unwrap_or_default();
            let mut older =
                versions.iter().filter(|(version, stages)| *version != made && resolves(version, stages).is_ok());
            let Some(first) = older.next() else { return Ok(()) };
            for (version, stages) in std::iter::once(first).chain(older) {
                for stage in stages.iter().filter(|stage| *stage != PENDING && *stage != CURRENT) {
                    self.stage(id, stage, Some(version), None).await?;
                }
            }
        }
        Err(StoreError::Conflict("AWS does not take its stage away, or it was changed at the same time".into()))
    }

    async fn stage(&self, id: &str, stage: &str, from: Option<&str>, to: Option<&str>) -> Result<(), StoreError> {
        let moved = self
            .call(|own| {
                let question = self
                    .client
                    .update_secret_version_stage()
                    .secret_id(id)
                    .version_stage(stage)
                    .set_remove_from_version_id(from.map(str::to_owned))
                    .set_move_to_version_id(to.map(str::to_owned));
                question.customize().config_override(own).send()
            })
            .await;
        match moved {
            // To move what is there already is refused, and to take away what is not.
            Ok(_) | Err(Trouble::Invalid) => Ok(()),
            Err(trouble) => Err(trouble.of_write(id, "secretsmanager:UpdateSecretVersionStage")),
        }
    }
}

impl SecretStore for AwsStore {
    fn get_many<'a>(&'a self, queries: &'a [Query]) -> BoxFuture<'a, Vec<Result<Fetched, StoreError>>> {
        self.get_many(queries).boxed()
    }

    fn sign_in(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        async { self.kept.get().await.map(|_| ()) }.boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>, StoreError>> {
        self.list().boxed()
    }

    fn history<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<VersionInfo>, StoreError>> {
        async move {
            let id = self.id(name)?;
            self.describe_live(&id).await?;
            let mut versions: Vec<VersionInfo> = self
                .versions(&id)
                .await?
                .into_iter()
                .filter_map(|version| {
                    let state = state(version.version_stages()).to_owned();
                    let created = version.created_date.as_ref().and_then(time);
                    Some(VersionInfo { version: version.version_id?, created, state })
                })
                .collect();
            // AWS' times are of seconds in places: the current one is the newest.
            versions.sort_by_key(|version| std::cmp::Reverse((version.created, version.state == "current")));
            Ok(versions)
        }
        .boxed()
    }

    /// Nothing tells whether somebody else writes at the same time: AWS has no check for that.
    fn put<'a>(
        &'a self,
        name: &'a str,
        value: &'a SecretValue,
        write: Write,
    ) -> BoxFuture<'a, Result<String, StoreError>> {
        async move {
            let id = self.id(name)?;
            if !(1..=LARGEST_VALUE).contains(&value.expose().len()) {
                return Err(StoreError::Unsupported(format!("AWS takes values of 1 to {LARGEST_VALUE} bytes")));
            }
            match write {
                Write::New => self.create(&id, value).await,
                Write::Keep | Write::Replace => self.change(&id, value, write).await,
            }
        }
        .boxed()
    }

    /// For good and at once, also what was scheduled for deletion: a value that its team wants gone must not be there
    /// for another week. AWS itself may take some seconds more to let the name be used again.
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let id = self.id(name)?;
            // The deletion of nothing succeeds, so that is asked first.
            self.describe(&id).await?;
            self.call(|own| {
                let question = self.client.delete_secret().secret_id(&id).force_delete_without_recovery(true);
                question.customize().config_override(own).send()
            })
            .await
            .map_err(|trouble| trouble.of_write(&id, "secretsmanager:DeleteSecret"))?;
            Ok(())
        }
        .boxed()
    }
}

/// Without a log of it, whatever the operator's own log level is.
async fn quietly<F: Future>(question: F) -> F::Output {
    question.with_subscriber(NoSubscriber::default()).await
}

fn client(spec: &AwsBackend, settings: &StoreSettings) -> Result<Client, StoreError> {
    let is_region = (1..=64).contains(&spec.region.len())
        && spec.region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let address = match &spec.endpoint {
        _ if !is_region => return Err(no_region(&spec.region)),
        Some(endpoint) => endpoint.clone(),
        None => Params::builder()
            .region(spec.region.clone())
            .build()
            .ok()
            .and_then(|params| ResolveEndpoint::resolve_endpoint(&DefaultResolver::new(), &params).now_or_never()?.ok())
            .map(|endpoint| endpoint.url().to_owned())
            .ok_or_else(|| no_region(&spec.region))?,
    };
    let http = Http::of_store(&address, spec.connection.as_ref(), settings)?;
    let config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(spec.region.clone()))
        .endpoint_url(address)
        .http_client(Wire(http))
        .identity_cache(IdentityCache::no_cache())
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build();
    Ok(Client::from_conf(config))
}

fn template(spec: &AwsBackend) -> Result<NameTemplate, StoreError> {
    let text = spec.name_template.as_deref().unwrap_or("daypass/{team}/{name}");
    let wrong = |why| StoreError::unavailable(Stage::Address, why);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/_+=.@-{}".contains(&byte);
    if !text.bytes().all(fits) {
        return Err(wrong(format!("nameTemplate {text:?} may hold letters, digits and /_+=.@- only")));
    }
    NameTemplate::parse(text).map_err(wrong)
}

fn no_region(region: &str) -> StoreError {
    StoreError::unavailable(Stage::Address, format!("aws.region {region:?} is no region, such as eu-central-1"))
}

fn is_version(version: &str) -> bool {
    (32..=64).contains(&version.len()) && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Whether a version that is asked for by its ID may be used.
fn resolves(version: &str, stages: &[String]) -> Result<(), StoreError> {
    let why = match state(stages) {
        "pending" => "is pending: its rotation has not finished",
        "deprecated" => "is deprecated in AWS: it has no stage any more. Give it one to pin it",
        _ => return Ok(()),
    };
    Err(StoreError::NotFound(format!("the version {version} {why}")))
}

fn state(stages: &[String]) -> &'static str {
    let has = |wanted: &str| stages.iter().any(|stage| stage == wanted);
    if has(CURRENT) {
        "current"
    } else if stages.iter().any(|stage| stage != PENDING) {
        "enabled"
    } else if has(PENDING) {
        "pending"
    } else {
        "deprecated"
    }
}

fn value(text: Option<String>, bytes: Option<primitives::Blob>) -> Result<SecretValue, StoreError> {
    let bytes = text.map(String::into_bytes).or_else(|| bytes.map(primitives::Blob::into_inner));
    bytes.map(SecretValue::new).ok_or_else(|| StoreError::Malformed("the secret's version holds no value".into()))
}

/// Text where it is text, as AWS' own console shows it.
fn stored(value: &SecretValue) -> (Option<String>, Option<primitives::Blob>) {
    match std::str::from_utf8(value.expose()) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(primitives::Blob::new(value.expose()))),
    }
}

/// The value is written, and what should become of the older ones is not.
fn half_done(made: &str, write: Write, error: StoreError) -> StoreError {
    let state = match write {
        Write::Replace => "an older one may still resolve where it is pinned",
        _ => "the one before it is kept until the next change only",
    };
    let told = |why: &str| format!("version {made} is written and current, but {state}: {why}");
    match error {
        StoreError::Unavailable { stage, why } => StoreError::unavailable(stage, told(&why)),
        other => StoreError::Denied(told(&other.to_string())),
    }
}

fn time(time: &primitives::DateTime) -> Option<Timestamp> {
    let nanoseconds = i32::try_from(time.subsec_nanos()).ok()?;
    Timestamp::new(time.secs(), nanoseconds).ok()
}

#[cfg(test)]
mod tests;
