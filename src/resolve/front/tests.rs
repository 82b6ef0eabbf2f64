//! The front over a backend that does as it is told.

use futures::future::BoxFuture;

use super::*;
use crate::api::{Cache as CacheSpec, RateLimit};
use crate::secret::SecretValue;
use crate::stores::Fetched;

/// Answers each question with its number as the version, after a wait, or fails.
#[derive(Default)]
struct Backend {
    reads: AtomicUsize,
    names: AtomicUsize,
    fails: Mutex<Option<StoreError>>,
    takes: Mutex<Duration>,
}

impl SecretStore for Backend {
    fn get_many<'a>(&'a self, queries: &'a [Query]) -> BoxFuture<'a, Vec<Result<Fetched, StoreError>>> {
        Box::pin(async move {
            let number = self.reads.fetch_add(1, Ordering::Relaxed) + 1;
            self.names.fetch_add(queries.len(), Ordering::Relaxed);
            let takes = *self.takes.lock().unwrap();
            tokio::time::sleep(takes).await;
            let fails = self.fails.lock().unwrap().clone();
            queries
                .iter()
                .map(|query| match &fails {
                    Some(error) => Err(error.clone()),
                    None if query.name == "NONE" => Err(StoreError::NotFound("none".into())),
                    None => Ok(Fetched {
                        value: SecretValue::new(query.name.clone().into_bytes()),
                        version: if query.name == "LONG" { "9".repeat(257) } else { number.to_string() },
                    }),
                })
                .collect()
        })
    }
}

impl Backend {
    fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    fn fail(&self, error: Option<StoreError>) {
        *self.fails.lock().unwrap() = error;
    }

    fn take(&self, time: Duration) {
        *self.takes.lock().unwrap() = time;
    }
}

fn front(spec: &TeamSecretStoreSpec) -> (Arc<Front>, Arc<Backend>) {
    let backend = Arc::new(Backend::default());
    let front = Front::new(backend.clone(), BackendKind::Vault, spec, "s", Arc::default(), Arc::new(Metrics::new()));
    (Arc::new(front), backend)
}

fn stale(seconds: i64) -> TeamSecretStoreSpec {
    TeamSecretStoreSpec {
        cache: Some(CacheSpec { ttl_seconds: None, stale_if_error_seconds: Some(seconds) }),
        ..TeamSecretStoreSpec::default()
    }
}

fn queries(names: &[&str]) -> Vec<Query> {
    names.iter().map(|name| Query { name: (*name).into(), version: None }).collect()
}

async fn version(front: &Arc<Front>, name: &str) -> Result<String, StoreError> {
    let served = front.get_many(&queries(&[name])).await.pop().unwrap()?;
    assert_eq!(served.shared.value.expose(), name.as_bytes());
    Ok(format!("{}{}", served.shared.version, if served.stale { " stale" } else { "" }))
}

fn down() -> StoreError {
    StoreError::unavailable(Stage::Answer, "down")
}

#[tokio::test(start_paused = true)]
async fn a_thousand_runs_cost_one_read_a_ttl() {
    let (front, backend) = front(&TeamSecretStoreSpec::default());
    backend.take(Duration::from_millis(300));
    for expected in [1, 2] {
        for _ in 0..20 {
            let runs: Vec<_> = (0..50).map(|_| version(&front, "KEY")).collect();
            for answer in futures::future::join_all(runs).await {
                assert_eq!(answer.unwrap(), expected.to_string());
            }
        }
        assert_eq!(backend.reads(), expected);
        tokio::time::advance(Duration::from_secs(31)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_no_status_has_room_for_is_malformed() {
    let (front, _) = front(&TeamSecretStoreSpec::default());
    assert!(matches!(version(&front, "LONG").await, Err(StoreError::Malformed(_))));
}

#[tokio::test(start_paused = true)]
async fn one_run_asks_for_all_its_names_at_once() {
    let (front, backend) = front(&TeamSecretStoreSpec::default());
    version(&front, "B").await.unwrap();
    let answers = front.get_many(&queries(&["A", "B", "C", "A"])).await;
    let versions: Vec<_> = answers.into_iter().map(|answer| answer.ok().unwrap().shared.version).collect();
    assert_eq!(versions.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["2", "1", "2", "2"]);
    assert_eq!((backend.reads(), backend.names.load(Ordering::Relaxed)), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_asked_for_again_soon() {
    let (front, backend) = front(&TeamSecretStoreSpec::default());
    for _ in 0..3 {
        assert_eq!(version(&front, "NONE").await, Err(StoreError::NotFound("none".into())));
    }
    assert_eq!(backend.reads(), 1);
    tokio::time::advance(Duration::from_secs(6)).await;
    let _ = version(&front, "NONE").await;
    assert_eq!(backend.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_older_value_serves_only_where_that_was_asked_for_and_only_so_long() {
    let (strict, backend) = front(&TeamSecretStoreSpec::default());
    version(&strict, "KEY").await.unwrap();
    backend.fail(Some(down()));
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(version(&strict, "KEY").await, Err(down()));

    let (lenient, backend) = front(&stale(60));
    version(&lenient, "KEY").await.unwrap();
    backend.fail(Some(down()));
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(version(&lenient, "KEY").await.unwrap(), "1 stale");
    lenient.housekeep();
    assert_eq!(version(&lenient, "KEY").await.unwrap(), "1 stale");
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(version(&lenient, "KEY").await, Err(down()));
}

#[tokio::test(start_paused = true)]
async fn an_older_value_serves_while_the_backend_hangs() {
    let (front, backend) = front(&stale(60));
    version(&front, "KEY").await.unwrap();
    tokio::time::advance(Duration::from_secs(31)).await;
    backend.take(Duration::from_secs(3600));
    assert_eq!(version(&front, "KEY").await.unwrap(), "1 stale");
    assert!(version(&front, "OTHER").await.is_err(), "nothing is known of it");
    // So many that no more may wait.
    let waiting: Vec<_> = (0..WAITING.0)
        .map(|number| {
            let front = front.clone();
            tokio::spawn(async move { version(&front, &format!("KEY_{number}")).await.is_err() })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let asked = Instant::now();
    assert_eq!(version(&front, "KEY").await.unwrap(), "1 stale");
    assert_eq!(asked.elapsed(), Duration::ZERO);
    for run in waiting {
        assert!(run.await.unwrap());
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(version(&front, "KEY").await.is_err(), "too old");
}

#[tokio::test(start_paused = true)]
async fn a_denial_is_never_answered_from_memory() {
    let (front, backend) = front(&stale(600));
    version(&front, "KEY").await.unwrap();
    tokio::time::advance(Duration::from_secs(31)).await;
    backend.fail(Some(StoreError::Denied("no".into())));
    assert_eq!(version(&front, "KEY").await, Err(StoreError::Denied("no".into())));
    backend.fail(Some(down()));
    assert_eq!(version(&front, "KEY").await, Err(down()), "what was taken away is gone from memory too");
}

#[tokio::test(start_paused = true)]
async fn a_flush_holds_for_questions_that_are_under_way() {
    let (front, backend) = front(&TeamSecretStoreSpec::default());
    backend.take(Duration::from_secs(1));
    let before = tokio::spawn({
        let front = front.clone();
        async move { version(&front, "KEY").await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    front.flush(Some("KEY"));
    assert_eq!(version(&front, "KEY").await.unwrap(), "2", "asked after the change");
    assert_eq!(before.await.unwrap().unwrap(), "1");
    assert_eq!(version(&front, "KEY").await.unwrap(), "2", "and what was asked before it is not kept");
    assert_eq!(front.newest("KEY").as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_gives_up_spoils_nothing_for_the_others() {
    let (front, backend) = front(&TeamSecretStoreSpec::default());
    backend.take(Duration::from_secs(2));
    let given_up = tokio::time::timeout(Duration::from_secs(1), version(&front, "KEY")).await;
    assert!(given_up.is_err());
    assert_eq!(version(&front, "KEY").await.unwrap(), "1");
    assert_eq!(backend.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_there_when_the_run_asks_again() {
    let (front, backend) = front(&TeamSecretStoreSpec::default());
    backend.take(Duration::from_secs(8));
    assert!(matches!(version(&front, "KEY").await, Err(StoreError::Unavailable { .. })));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(version(&front, "KEY").await.unwrap(), "1");
    assert_eq!(backend.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn runs_do_not_queue_up_behind_a_backend_that_hangs() {
    let spec = TeamSecretStoreSpec {
        rate_limit: Some(RateLimit { per_second: Some(10_000), burst: Some(10_000), concurrency: Some(256) }),
        ..TeamSecretStoreSpec::default()
    };
    let (front, backend) = front(&spec);
    backend.take(Duration::from_secs(3600));
    let waiting: Vec<_> = (0..WAITING.0)
        .map(|number| {
            let front = front.clone();
            tokio::spawn(async move { front.get_many(&queries(&[&format!("KEY_{number}")])).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let started = Instant::now();
    assert!(version(&front, "ONE_MORE").await.is_err());
    assert_eq!(started.elapsed(), Duration::ZERO, "told at once");
    for run in waiting {
        assert!(run.await.unwrap().pop().unwrap().is_err());
    }
    assert!(started.elapsed() <= PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn the_sealed_store_is_timed_and_given_up_like_any_other() {
    let (backend, metrics) = (Arc::new(Backend::default()), Arc::new(Metrics::new()));
    let spec = TeamSecretStoreSpec::default();
    let front = Front::new(backend.clone(), BackendKind::Sealed, &spec, "s", Arc::default(), metrics.clone());
    let front = Arc::new(front);
    version(&front, "KEY").await.unwrap();
    let text = metrics.render().unwrap();
    assert!(text.contains("daypass_resolve_duration_seconds_count{backend=\"sealed\"} 1"), "{text}");
    backend.take(Duration::from_secs(3600));
    assert!(matches!(version(&front, "KEY").await, Err(StoreError::Unavailable { .. })));
}

/// A backend whose first question ends in a panic.
struct Panics(AtomicUsize);

impl SecretStore for Panics {
    fn get_many<'a>(&'a self, queries: &'a [Query]) -> BoxFuture<'a, Vec<Result<Fetched, StoreError>>> {
        Box::pin(async move {
            assert!(self.0.fetch_add(1, Ordering::Relaxed) > 0, "the first question");
            let found = |_| Ok(Fetched { value: SecretValue::new(vec![b'x']), version: "1".into() });
            queries.iter().map(found).collect()
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_that_broke_off_is_asked_again() {
    let store = Arc::new(Panics(AtomicUsize::new(0)));
    let spec = TeamSecretStoreSpec::default();
    let front = Front::new(store, BackendKind::Vault, &spec, "s", Arc::default(), Arc::new(Metrics::new()));
    let front = Arc::new(front);
    assert!(front.get_many(&queries(&["KEY"])).await.remove(0).is_err());
    assert!(front.get_many(&queries(&["KEY"])).await.remove(0).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_ttl_of_zero_asks_every_time() {
    let spec = TeamSecretStoreSpec {
        cache: Some(CacheSpec { ttl_seconds: Some(0), stale_if_error_seconds: None }),
        ..TeamSecretStoreSpec::default()
    };
    let (front, backend) = front(&spec);
    for expected in ["1", "2", "3"] {
        assert_eq!(version(&front, "KEY").await.unwrap(), expected);
    }
    assert_eq!(backend.reads(), 3);
}
