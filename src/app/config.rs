//! The operator's configuration file, as the chart renders it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;

use crate::api::Framework;
use crate::controllers::EventLevel;
use crate::evaluation::Settings;
use crate::run::PodDefaults;
use crate::stores::settings::StoreSettings;

/// The configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// The image of a Sandbox that names none.
    pub default_image: String,
    /// Which events are written.
    pub events: EventLevel,
    /// What the cluster admin sets for every run's Pod.
    pub pod_defaults: PodDefaults,
    /// How logs are written.
    pub log: Log,
    /// The keys of the sealed store.
    pub keys: Keys,
    /// The HTTP server.
    pub http: Http,
    /// The lease of the leader.
    pub lease: Lease,
    /// How many reconciles may talk to the API server at once.
    pub concurrency: Concurrency,
    /// What the cluster admin decides about stores.
    pub stores: StoreSettings,
    /// What the cluster admin sets for all evaluations.
    pub evaluations: Evaluations,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            default_image: PodDefaults::default().image,
            events: EventLevel::default(),
            pod_defaults: PodDefaults::default(),
            log: Log::default(),
            keys: Keys::default(),
            http: Http::default(),
            lease: Lease::default(),
            concurrency: Concurrency::default(),
            stores: StoreSettings::default(),
            evaluations: Evaluations::default(),
        }
    }
}

/// What the cluster admin sets for all evaluations.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Evaluations {
    /// The image of each framework's runner; empty: each job names its own.
    pub images: BTreeMap<Framework, String>,
    /// Where data sets are fetched from, if not from the Hub itself.
    pub hub_endpoint: Option<String>,
    /// Where W&B is, if not at its own place.
    pub wandb_endpoint: Option<String>,
}

impl Evaluations {
    /// As the core takes them: what is empty is unset.
    pub fn settings(&self) -> Settings {
        let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Settings {
            images: self.images.clone(),
            hub_endpoint: set(&self.hub_endpoint),
            wandb_endpoint: set(&self.wandb_endpoint),
        }
    }
}

/// How logs are written.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Log {
    /// For programs or for people.
    pub format: LogFormat,
    /// A filter: `info`, or `info,daypass=debug`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Json, level: "info".into() }
    }
}

/// For whom logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text.
    Human,
}

/// The keys of the sealed store.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Keys {
    /// Whether the operator makes the first key.
    pub create: bool,
    /// The folder that shows the key files.
    pub folder: PathBuf,
}

impl Default for Keys {
    fn default() -> Self {
        Self { create: true, folder: "/etc/daypass/keys".into() }
    }
}

/// The HTTP server for probes and metrics.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Http {
    /// Where it listens.
    pub address: SocketAddr,
}

impl Default for Http {
    fn default() -> Self {
        Self { address: SocketAddr::from(([0, 0, 0, 0], 8080)) }
    }
}

/// The lease of the leader, in seconds. A leader that cannot renew ends well before another may follow.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Lease {
    /// How long another must wait after the last renewal.
    pub duration_seconds: u64,
    /// How long the leader tries to renew before it gives up.
    pub renew_deadline_seconds: u64,
    /// How often it renews.
    pub retry_period_seconds: u64,
}

impl Default for Lease {
    fn default() -> Self {
        Self { duration_seconds: 15, renew_deadline_seconds: 10, retry_period_seconds: 2 }
    }
}

impl Lease {
    pub(super) fn duration(&self) -> Duration {
        Duration::from_secs(self.duration_seconds)
    }

    pub(super) fn renew_deadline(&self) -> Duration {
        Duration::from_secs(self.renew_deadline_seconds)
    }

    pub(super) fn retry_period(&self) -> Duration {
        Duration::from_secs(self.retry_period_seconds)
    }
}

/// How many reconciles may talk to the API server at once: past about 64 calls in flight nothing gets faster.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Concurrency {
    /// Calls that make something.
    pub creations: usize,
    /// Calls that remove something.
    pub removals: usize,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { creations: 24, removals: 16 }
    }
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or has a field that is unknown or wrong: the text names it.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("read the configuration {}", path.display()))?;
        let config: Self =
            serde_yaml::from_str(&text).with_context(|| format!("in the configuration {}", path.display()))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        let Lease { duration_seconds, renew_deadline_seconds, retry_period_seconds } = self.lease;
        anyhow::ensure!(
            retry_period_seconds > 0
                && retry_period_seconds < renew_deadline_seconds
                && renew_deadline_seconds < duration_seconds,
            "lease: retryPeriodSeconds must be below renewDeadlineSeconds, and that below durationSeconds"
        );
        anyhow::ensure!(
            self.concurrency.creations > 0 && self.concurrency.removals > 0,
            "concurrency: creations and removals must be at least 1"
        );
        anyhow::ensure!(!self.default_image.is_empty(), "defaultImage must name an image");
        Ok(())
    }

    /// What every run's Pod gets.
    pub fn defaults(&self) -> PodDefaults {
        PodDefaults { image: self.default_image.clone(), ..self.pod_defaults.clone() }
    }

    /// The operator's own namespace: told by the Pod, else the client's.
    pub fn namespace(&self, of_client: &str) -> String {
        std::env::var("POD_NAMESPACE").unwrap_or_else(|_| of_client.to_owned())
    }

    /// The operator's own ServiceAccount: told by the Pod, else as the chart names it.
    pub fn service_account(&self) -> String {
        std::env::var("POD_SERVICE_ACCOUNT").unwrap_or_else(|_| "daypass-operator".to_owned())
    }

    /// The operator's own Pod, where it is one.
    pub fn pod_name(&self) -> Option<String> {
        std::env::var("POD_NAME").ok().filter(|name| !name.is_empty())
    }

    /// What this process is called in the lease: unique among replicas.
    pub fn identity(&self) -> String {
        let host = self.pod_name().unwrap_or_else(|| "process".to_owned());
        format!("{host}-{}", std::process::id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_defaults_and_an_unknown_field_is_named() {
        let config: Config = serde_yaml::from_str("{}").unwrap();
        assert_eq!(config.events, EventLevel::Warnings);
        config.check().unwrap();
        let error = serde_yaml::from_str::<Config>("podDefaults: {runAsUsr: 1}").unwrap_err().to_string();
        assert!(error.contains("runAsUsr"), "{error}");
    }

    #[test]
    fn a_lease_that_could_overlap_is_refused() {
        let config: Config = serde_yaml::from_str("lease: {durationSeconds: 10, renewDeadlineSeconds: 10}").unwrap();
        assert!(config.check().unwrap_err().to_string().contains("renewDeadlineSeconds"));
    }
}
