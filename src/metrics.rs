//! Metrics, by the names that README and dashboards use. Labels are static: no name of an object is one.

use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::api::Phase;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Backend {
    backend: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendOutcome {
    backend: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decision {
    decision: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    verb: &'static str,
    resource: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 16))
}

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    time_to_secret: Histogram,
    time_to_pod: Histogram,
    secret_exposure: Histogram,
    secret_removal: Histogram,
    resolves: Family<BackendOutcome, Counter>,
    resolve_duration: Family<Backend, Histogram>,
    cache_hits: Counter,
    cache_misses: Counter,
    cache_bytes: Gauge,
    authorizations: Family<Decision, Counter>,
    api_requests: Family<Request, Counter>,
    oldest_run_secret: Gauge,
    runs: Family<Outcome, Counter>,
    reconciles: Family<Outcome, Counter>,
    reconcile_duration: Histogram,
    leader: Gauge,
    catalog_broken: Gauge,
    runs_active: Family<Kind, Gauge>,
    run_secrets_live: Gauge,
    removals_overdue: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers all metrics.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("daypass");
        let metrics = Self {
            time_to_secret: seconds(),
            time_to_pod: seconds(),
            secret_exposure: seconds(),
            secret_removal: seconds(),
            resolves: Family::default(),
            resolve_duration: Family::new_with_constructor(seconds),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            cache_bytes: Gauge::default(),
            authorizations: Family::default(),
            api_requests: Family::default(),
            oldest_run_secret: Gauge::default(),
            runs: Family::default(),
            reconciles: Family::default(),
            reconcile_duration: seconds(),
            leader: Gauge::default(),
            catalog_broken: Gauge::default(),
            runs_active: Family::default(),
            run_secrets_live: Gauge::default(),
            removals_overdue: Gauge::default(),
            registry: Registry::default(),
        };
        let mut timed = |name: &str, help: &str, histogram: &Histogram| {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        };
        timed("time_to_secret", "From the first look at a run to its acknowledged run Secret", &metrics.time_to_secret);
        timed("time_to_pod", "From the first look at a run to its acknowledged Pod", &metrics.time_to_pod);
        timed("secret_exposure", "From a run Secret's creation to the proof that it is gone", &metrics.secret_exposure);
        timed(
            "secret_removal",
            "From the moment a run Secret is due to go to the proof that it is gone",
            &metrics.secret_removal,
        );
        timed("reconcile_duration", "One reconcile", &metrics.reconcile_duration);
        registry.register_with_unit(
            "resolve_duration",
            "One question to a store",
            Unit::Seconds,
            metrics.resolve_duration.clone(),
        );
        registry.register_with_unit(
            "run_secret_oldest_age",
            "Age of the oldest run Secret that is not proven gone",
            Unit::Seconds,
            metrics.oldest_run_secret.clone(),
        );
        registry.register("resolves", "Secrets asked of stores", metrics.resolves.clone());
        registry.register("cache_hits", "Secrets answered from memory", metrics.cache_hits.clone());
        registry.register("cache_misses", "Secrets that a backend was asked for", metrics.cache_misses.clone());
        registry.register_with_unit(
            "cache",
            "Values in memory, with their keys",
            Unit::Bytes,
            metrics.cache_bytes.clone(),
        );
        registry.register("authorizations", "Rights asked for runs", metrics.authorizations.clone());
        registry.register("api_requests", "Requests to the API server", metrics.api_requests.clone());
        registry.register("runs", "Runs that ended", metrics.runs.clone());
        registry.register("reconciles", "Reconciles", metrics.reconciles.clone());
        registry.register("leader", "1 where this process leads", metrics.leader.clone());
        registry.register(
            "catalog_broken",
            "1 where the cluster admin's catalog of benchmarks cannot be used",
            metrics.catalog_broken.clone(),
        );
        registry.register("runs_active", "Runs that are not over", metrics.runs_active.clone());
        registry.register("run_secrets_live", "Run Secrets that are not proven gone", metrics.run_secrets_live.clone());
        registry.register("removals_overdue", "Removals that fail; must stay 0", metrics.removals_overdue.clone());
        registry.register("build", "The program's version", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        Self { registry, ..metrics }
    }

    /// The OpenMetrics text.
    ///
    /// # Errors
    /// Never in practice: the text goes to memory.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }

    /// A run Secret was acknowledged, that long after the first look at its run.
    pub fn time_to_secret(&self, duration: SignedDuration) {
        self.time_to_secret.observe(duration.as_secs_f64().max(0.0));
    }

    /// A Pod was acknowledged, that long after the first look at its run.
    pub fn time_to_pod(&self, duration: SignedDuration) {
        self.time_to_pod.observe(duration.as_secs_f64().max(0.0));
    }

    /// A run Secret was proven gone, that long after it was made.
    pub fn secret_exposure(&self, duration: SignedDuration) {
        self.secret_exposure.observe(duration.as_secs_f64().max(0.0));
    }

    /// A run Secret was proven gone, that long after it was first due to go.
    pub fn secret_removal(&self, duration: SignedDuration) {
        self.secret_removal.observe(duration.as_secs_f64().max(0.0));
    }

    /// A store answered for one secret.
    pub fn resolved(&self, backend: &'static str, outcome: &'static str) {
        self.resolves.get_or_create(&BackendOutcome { backend, outcome }).inc();
    }

    /// A store was asked.
    pub fn resolve_took(&self, backend: &'static str, took: Duration) {
        self.resolve_duration.get_or_create(&Backend { backend }).observe(took.as_secs_f64());
    }

    /// A secret was answered from memory, or not.
    pub fn cache_answered(&self, from_memory: bool) {
        if from_memory { &self.cache_hits } else { &self.cache_misses }.inc();
    }

    /// So many bytes of values are in memory.
    pub fn cached(&self, bytes: usize) {
        self.cache_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A run's right was asked for.
    pub fn authorized(&self, allowed: bool) {
        let decision = if allowed { "allowed" } else { "denied" };
        self.authorizations.get_or_create(&Decision { decision }).inc();
    }

    /// The API server answered a request. Code 0: it did not.
    pub fn requested(&self, verb: &'static str, resource: &'static str, code: u16) {
        self.api_requests.get_or_create(&Request { verb, resource, code }).inc();
    }

    /// A reconcile ended.
    pub fn reconciled(&self, kind: &'static str, well: bool, took: Duration) {
        self.reconciles.get_or_create(&Outcome { kind, outcome: if well { "ok" } else { "error" } }).inc();
        self.reconcile_duration.observe(took.as_secs_f64());
    }

    /// A run ended.
    pub fn run_ended(&self, kind: &'static str, phase: Phase) {
        let outcome = match phase {
            Phase::Completed => "completed",
            Phase::Terminated => "terminated",
            _ => "failed",
        };
        self.runs.get_or_create(&Outcome { kind, outcome }).inc();
    }

    /// This process leads, or does not.
    pub fn lead(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// The cluster admin's catalog of benchmarks cannot be used, or can.
    pub fn catalog_broken(&self, broken: bool) {
        self.catalog_broken.set(broken.into());
    }

    /// How many runs of a kind are under way.
    pub fn active(&self, kind: &'static str, active: usize) {
        self.runs_active.get_or_create(&Kind { kind }).set(i64::try_from(active).unwrap_or(i64::MAX));
    }

    /// How many runs hold a Secret (the oldest since how many seconds), and how many cannot lose it.
    pub fn live(&self, holding: usize, overdue: usize, oldest: i64) {
        self.oldest_run_secret.set(oldest);
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.run_secrets_live.set(count(holding));
        self.removals_overdue.set(count(overdue));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What is served: each name as it is asked for, with its labels, and its type.
    fn served() -> BTreeSet<(String, String)> {
        let metrics = Metrics::new();
        // A family is there once it has counted.
        metrics.resolved("sealed", "found");
        metrics.resolve_took("sealed", Duration::ZERO);
        metrics.authorized(true);
        metrics.requested("get", "pods", 200);
        metrics.run_ended("Sandbox", Phase::Completed);
        metrics.reconciled("Sandbox", true, Duration::ZERO);
        metrics.active("Sandbox", 1);
        let text = metrics.render().unwrap();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        types
            .map(|(base, kind)| {
                let (suffix, sample) = match kind {
                    "counter" => ("_total", "_total"),
                    "info" => ("_info", "_info"),
                    "histogram" => ("", "_sum"),
                    _ => ("", ""),
                };
                let sample = format!("{base}{sample}");
                let rest =
                    text.lines().find_map(|line| line.strip_prefix(&sample).filter(|rest| !rest.starts_with('_')));
                let labels = rest.and_then(|rest| rest.strip_prefix('{')?.split_once('}')).map_or("", |(all, _)| all);
                let labels: Vec<_> = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0)).collect();
                let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
                (format!("{base}{suffix}{labels}"), kind.to_owned())
            })
            .collect()
    }

    /// What docs/metrics.md lists.
    fn documented() -> BTreeSet<(String, String)> {
        let rows = include_str!("../docs/metrics.md").lines().filter_map(|line| line.strip_prefix("| `"));
        rows.flat_map(|row| {
            let mut cells = row.split(" | ");
            let (names, kind) = (cells.next().unwrap(), cells.next().unwrap());
            names.split('`').filter(|name| name.starts_with("daypass_")).map(move |name| (name.into(), kind.into()))
        })
        .collect()
    }

    #[test]
    fn the_documentation_lists_what_is_served() {
        assert_eq!(documented(), served());
    }
}
