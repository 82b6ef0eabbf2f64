//! `cargo xtask bench`: times and sizes, as ratios within one run. Figures of two machines do not compare; ratios do.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use daypass::api::{self, BackendKind, Connection, RateLimit, TeamSecretStoreSpec, VaultBackend};
use daypass::metrics::Metrics;
use daypass::resolve::cache::{Cache, Learnt, Shared};
use daypass::resolve::front::Front;
use daypass::secret::SecretValue;
use daypass::stores::settings::StoreSettings;
use daypass::stores::sign_in::OwnToken;
use daypass::stores::vault::VaultStore;
use daypass::stores::{Fetched, Query, SecretStore, StoreError};
use daypass_testcluster::OpenBao;
use futures::future::{BoxFuture, join_all};
use serde_json::{Value, json};

use crate::cargo::cargo;

/// How many resolves are timed of each kind.
const TIMED: usize = 400;
/// How many runs ask at once.
const RUNS: usize = 1000;
/// A TTL that can be waited out, in seconds.
const SHORT_TTL: i64 = 1;
/// How many values fill the cache, and how large each is.
const CACHED: (usize, usize) = (100_000, 100);

/// What to measure.
#[derive(Clone, Copy, Subcommand)]
pub(crate) enum Bench {
    /// What stands between a run and a store's backend, over a real OpenBao
    Stores,
}

impl Bench {
    const fn name(self) -> &'static str {
        match self {
            Self::Stores => "stores",
        }
    }
}

pub(crate) async fn run(root: &Path, bench: Bench) -> Result<()> {
    if cfg!(debug_assertions) {
        return optimized(root, bench);
    }
    match bench {
        Bench::Stores => stores().await,
    }
}

/// Builds this program with the profile that is for measuring, and has it go on.
fn optimized(root: &Path, bench: Bench) -> Result<()> {
    println!("building with optimization what is measured (some minutes the first time) ...");
    let arguments = ["run", "--quiet", "--package", "xtask", "--profile", "measure", "--", "bench", bench.name()];
    let status = cargo(root, &arguments).status().context("run cargo")?;
    ensure!(status.success(), "the benchmark failed");
    Ok(())
}

/// A store that counts what it is asked.
struct Counted {
    store: VaultStore,
    questions: AtomicUsize,
    names: AtomicUsize,
}

impl SecretStore for Counted {
    fn get_many<'a>(&'a self, queries: &'a [Query]) -> BoxFuture<'a, Vec<Result<Fetched, StoreError>>> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        self.names.fetch_add(queries.len(), Ordering::Relaxed);
        self.store.get_many(queries)
    }
}

async fn stores() -> Result<()> {
    println!("starting OpenBao ...");
    let server = OpenBao::start().await?;
    for number in 0..100 {
        let path = format!("secret/data/daypass/team/KEY_{number}");
        server.must("POST", &path, json!({"data": {"value": format!("value-{number}")}})).await?;
    }

    let (front, counted) = front(&server, None)?;
    all(&front, |_| "KEY_0".to_owned()).await?;
    println!(
        "{RUNS} runs that share a secret:     {} question to the backend",
        counted.questions.load(Ordering::Relaxed)
    );
    let (front, counted) = self::front(&server, Some(SHORT_TTL))?;
    for _ in 0..2 {
        all(&front, |_| "KEY_0".to_owned()).await?;
        // What is measured is what comes after it.
        tokio::time::sleep(Duration::from_secs(SHORT_TTL.unsigned_abs())).await;
    }
    println!(
        "the same twice, the TTL between:    {} questions to the backend",
        counted.questions.load(Ordering::Relaxed)
    );
    let (front, counted) = self::front(&server, None)?;
    all(&front, |run| format!("KEY_{}", run % 100)).await?;
    println!(
        "{RUNS} runs over 100 secrets:        {} names asked of the backend",
        counted.names.load(Ordering::Relaxed)
    );

    println!("timing {TIMED} of each kind, in turns ...");
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    let warm = self::front(&server, None)?.0;
    let query = [Query { name: "KEY_0".into(), version: None }];
    get(&warm, &query).await?;
    // The connection and the sign-in are there, as they are for all but the first run of a store.
    let cold = self::front(&server, None)?.0;
    get(&cold, &query).await?;
    for _ in 0..TIMED {
        let started = Instant::now();
        server.call("GET", "secret/data/daypass/team/KEY_0", &Value::Null).await?;
        times[0].push(started.elapsed());
        cold.flush(None);
        let started = Instant::now();
        get(&cold, &query).await?;
        times[1].push(started.elapsed());
        let started = Instant::now();
        get(&warm, &query).await?;
        times[2].push(started.elapsed());
    }
    let bare = percentiles(&mut times[0]);
    println!("\n{:<24}{:>10}{:>10}{:>14}{:>14}", "", "p50", "p99", "p50 to bare", "p99 to bare");
    for (what, times) in ["bare HTTP call", "cold resolve", "warm resolve"].into_iter().zip(&mut times) {
        let (p50, p99) = percentiles(times);
        let (half, most) = (p50.as_secs_f64() / bare.0.as_secs_f64(), p99.as_secs_f64() / bare.1.as_secs_f64());
        println!("{what:<24}{:>8} us{:>8} us{half:>14.3}{most:>14.3}", p50.as_micros(), p99.as_micros());
    }
    println!("goals, by p50: cold at most 1.2, warm at most 0.01");

    let before = resident()?;
    let mut cache = Cache::new(usize::MAX);
    let now = tokio::time::Instant::now();
    for number in 0..CACHED.0 {
        let value = Arc::new(SecretValue::new(vec![b'x'; CACHED.1]));
        let query = Query { name: format!("KEY_{number}"), version: None };
        cache.insert(query, Learnt::Value(Shared { value, version: "1".into() }), now);
    }
    let grown = resident()?.saturating_sub(before);
    println!(
        "\n{} cached values of {} bytes: {:.1} MiB above empty, {:.1} MiB by the cache's own count; goal: at most 40",
        CACHED.0,
        CACHED.1,
        mebibytes(grown),
        mebibytes(cache.bytes())
    );
    Ok(())
}

fn front(server: &OpenBao, ttl_seconds: Option<i64>) -> Result<(Arc<Front>, Arc<Counted>)> {
    let spec = VaultBackend {
        address: server.address(),
        connection: Some(Connection { insecure: true, ..Connection::default() }),
        ..VaultBackend::default()
    };
    let settings = StoreSettings { allow_local_addresses: true, ..StoreSettings::default() };
    let token = OwnToken(Arc::new(SecretValue::new(server.root_token().as_bytes().to_vec())));
    let store = VaultStore::with_own_token("team", &spec, &settings, Box::new(token))?;
    let counted = Arc::new(Counted { store, questions: AtomicUsize::new(0), names: AtomicUsize::new(0) });
    let spec = TeamSecretStoreSpec {
        // The rate is not what is measured.
        rate_limit: Some(RateLimit { per_second: Some(10_000), burst: Some(10_000), concurrency: Some(64) }),
        cache: Some(api::Cache { ttl_seconds, stale_if_error_seconds: None }),
        ..TeamSecretStoreSpec::default()
    };
    let front =
        Front::new(counted.clone(), BackendKind::Vault, &spec, "bench", Arc::default(), Arc::new(Metrics::new()));
    Ok((Arc::new(front), counted))
}

async fn all(front: &Arc<Front>, name: impl Fn(usize) -> String) -> Result<()> {
    let runs = (0..RUNS).map(|run| {
        let query = [Query { name: name(run), version: None }];
        async move { get(front, &query).await }
    });
    // As many at a time as may wait for one store.
    let mut runs = runs.collect::<Vec<_>>().into_iter();
    loop {
        let some: Vec<_> = runs.by_ref().take(64).collect();
        if some.is_empty() {
            return Ok(());
        }
        join_all(some).await.into_iter().collect::<Result<()>>()?;
    }
}

async fn get(front: &Arc<Front>, query: &[Query]) -> Result<()> {
    let served = front.get_many(query).await.pop().context("an answer")??;
    ensure!(!served.stale && !served.shared.value.expose().is_empty());
    Ok(())
}

fn percentiles(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// The process' resident memory, in bytes.
fn resident() -> Result<usize> {
    let text = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kibibytes: usize = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kibibytes * 1024)
}

#[expect(clippy::cast_precision_loss, reason = "it is shown with one digit")]
fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
