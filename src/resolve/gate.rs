//! What stands between the resolver and one backend: how often it is asked, how many questions are under way, and a
//! breaker that leaves a failing one alone.

use std::hash::{DefaultHasher, Hasher as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::api::RateLimit;
use crate::stores::{Stage, StoreError};

/// How many failures in a row open the breaker.
const PATIENCE: u32 = 3;
/// How long it stays open first, and at most.
const OPEN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long a question waits for the store's own rate limit.
const LONGEST_QUEUE: Duration = Duration::from_secs(5);
/// Calls a second, calls at once, questions under way, unless the store says otherwise.
const RATE: (i64, i64, i64) = (50, 100, 8);

/// The breaker, as a status shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaker {
    /// Questions pass.
    Closed,
    /// None passes for now.
    Open,
    /// One passes, to see whether the backend is well again.
    HalfOpen,
}

/// The gate of one store.
pub struct Gate {
    /// Spreads the waits of stores that fail together.
    seed: u64,
    per_second: f64,
    burst: f64,
    places: Semaphore,
    state: Mutex<State>,
}

struct State {
    tokens: f64,
    filled: Instant,
    failures: u32,
    /// Why and until when the backend is left alone.
    shut: Option<(StoreError, Instant)>,
    probing: bool,
}

/// A question that may be asked. Its outcome has to be told.
pub struct Pass<'a> {
    gate: &'a Gate,
    probe: bool,
    told: bool,
    _place: SemaphorePermit<'a>,
}

impl Gate {
    /// The gate of a store. `seed` spreads its waits from those of others.
    pub fn new(limit: Option<&RateLimit>, seed: impl std::hash::Hash) -> Self {
        let of = |field: fn(&RateLimit) -> Option<i64>, default| limit.and_then(field).unwrap_or(default).max(1);
        let mut hasher = DefaultHasher::new();
        seed.hash(&mut hasher);
        #[expect(clippy::cast_precision_loss, reason = "the schema bounds them by 10,000")]
        let (per_second, burst) = (of(|l| l.per_second, RATE.0) as f64, of(|l| l.burst, RATE.1) as f64);
        Self {
            seed: hasher.finish(),
            per_second,
            burst,
            places: Semaphore::new(usize::try_from(of(|l| l.concurrency, RATE.2)).unwrap_or(1)),
            state: Mutex::new(State { tokens: burst, filled: Instant::now(), failures: 0, shut: None, probing: false }),
        }
    }

    /// Waits for a place and for `calls` calls' worth of the rate.
    ///
    /// # Errors
    /// The backend is left alone for now: the error is the one that it is left alone for.
    pub async fn enter(&self, calls: usize) -> Result<Pass<'_>, StoreError> {
        let place = self.places.acquire().await.map_err(|_| closed())?;
        let (probe, wait) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let probe = match &state.shut {
                Some((error, until)) if now < *until || state.probing => return Err(error.clone()),
                Some(_) => true,
                None => false,
            };
            let wait = self.take(&mut state, now, calls)?;
            state.probing = probe;
            (probe, wait)
        };
        // From here on the probe is told of even where the caller goes away.
        let pass = Pass { gate: self, probe, told: false, _place: place };
        // The timer counts in milliseconds, and makes one of nothing.
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(pass)
    }

    /// How long until that many calls are within the rate. They are taken at once, so that others queue behind them.
    fn take(&self, state: &mut State, now: Instant, calls: usize) -> Result<Duration, StoreError> {
        let passed = now.duration_since(state.filled).as_secs_f64();
        state.tokens = (state.tokens + passed * self.per_second).min(self.burst);
        state.filled = now;
        #[expect(clippy::cast_precision_loss, reason = "a run names at most 12 secrets")]
        let left = state.tokens - (calls as f64).min(self.burst);
        let wait = Duration::from_secs_f64((-left / self.per_second).max(0.0));
        if wait > LONGEST_QUEUE {
            return Err(StoreError::Limited);
        }
        state.tokens = left;
        Ok(wait)
    }

    /// Where the breaker stands.
    pub fn breaker(&self) -> Breaker {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.shut {
            None => Breaker::Closed,
            Some(_) if state.probing => Breaker::HalfOpen,
            Some(_) => Breaker::Open,
        }
    }

    fn tell(&self, probe: bool, trouble: Option<&StoreError>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if probe {
            state.probing = false;
        } else if state.shut.is_some() {
            // It was asked before the breaker opened: neither its good end nor its bad one says anything new.
            return;
        }
        let Some(error) = trouble else {
            state.failures = 0;
            state.shut = None;
            return;
        };
        state.failures = state.failures.saturating_add(1);
        let pause = match error {
            StoreError::Throttled { retry_after: Some(asked) } => Some(*asked),
            // It says that it is too much, and not for how long.
            StoreError::Throttled { retry_after: None } => Some(self.pause(state.failures, 1)),
            _ if state.failures >= PATIENCE || state.shut.is_some() => Some(self.pause(state.failures, PATIENCE)),
            _ => None,
        };
        if let Some(pause) = pause {
            state.shut = Some((error.clone(), Instant::now() + pause));
        }
    }

    /// How long the backend is left alone: twice as long for each failure after the `first` that counts.
    fn pause(&self, failures: u32, first: u32) -> Duration {
        let doublings = failures.saturating_sub(first).min(8);
        self.spread((OPEN.0 * (1 << doublings)).min(OPEN.1), failures)
    }

    /// Up to a quarter more, different for each store and each try.
    fn spread(&self, pause: Duration, failures: u32) -> Duration {
        let step = self.seed.wrapping_add(u64::from(failures)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        pause + pause * u32::try_from(step).unwrap_or(0) / 1024
    }
}

impl Pass<'_> {
    /// The question was answered, or not for this reason.
    pub fn tell(mut self, trouble: Option<&StoreError>) {
        self.told = true;
        self.gate.tell(self.probe, trouble);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.told && self.probe {
            // Nobody knows how it went: another may try.
            self.gate.state.lock().unwrap_or_else(PoisonError::into_inner).probing = false;
        }
    }
}

fn closed() -> StoreError {
    StoreError::unavailable(Stage::Answer, "the operator is shutting down")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down() -> StoreError {
        StoreError::unavailable(Stage::Answer, "down")
    }

    async fn fail(gate: &Gate, error: &StoreError) {
        gate.enter(1).await.ok().unwrap().tell(Some(error));
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_gate_costs_no_time() {
        let gate = Gate::new(None, "s");
        // Between two ticks of the timer.
        tokio::time::advance(Duration::from_micros(300)).await;
        let before = Instant::now();
        gate.enter(1).await.ok().unwrap().tell(None);
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_the_breaker_and_one_probe_closes_it() {
        let gate = Gate::new(None, "s");
        for _ in 0..2 {
            fail(&gate, &down()).await;
        }
        gate.enter(1).await.ok().unwrap().tell(None);
        for _ in 0..3 {
            assert_eq!(gate.breaker(), Breaker::Closed);
            fail(&gate, &down()).await;
        }
        assert_eq!(gate.breaker(), Breaker::Open);
        assert_eq!(gate.enter(1).await.err(), Some(down()), "the cause is told while it is open");
        tokio::time::advance(Duration::from_millis(1300)).await;
        let probe = gate.enter(1).await.ok().unwrap();
        assert_eq!(gate.breaker(), Breaker::HalfOpen);
        assert!(gate.enter(1).await.is_err(), "one probe at a time");
        probe.tell(Some(&down()));
        tokio::time::advance(Duration::from_millis(1300)).await;
        assert!(gate.enter(1).await.is_err(), "a failed probe doubles the wait");
        tokio::time::advance(Duration::from_millis(1300)).await;
        gate.enter(1).await.ok().unwrap().tell(None);
        assert_eq!(gate.breaker(), Breaker::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_given_up_lets_another_try() {
        let gate = Gate::new(None, "s");
        for _ in 0..3 {
            fail(&gate, &down()).await;
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        drop(gate.enter(1).await);
        assert!(gate.enter(1).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_honoured_at_once() {
        let gate = Gate::new(None, "s");
        fail(&gate, &StoreError::Throttled { retry_after: Some(Duration::from_secs(7)) }).await;
        tokio::time::advance(Duration::from_millis(6900)).await;
        assert!(matches!(gate.enter(1).await.err(), Some(StoreError::Throttled { .. })));
        tokio::time::advance(Duration::from_millis(200)).await;
        assert!(gate.enter(1).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_that_names_no_time_is_waited_out_for_twice_as_long_each_time() {
        let gate = Gate::new(None, "s");
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            fail(&gate, &StoreError::Throttled { retry_after: None }).await;
            tokio::time::advance(Duration::from_millis(seconds * 1000 - 1)).await;
            assert!(gate.enter(1).await.is_err(), "{seconds} s");
            tokio::time::advance(Duration::from_millis(seconds * 250 + 1)).await;
        }
        gate.enter(1).await.ok().unwrap().tell(None);
        fail(&gate, &StoreError::Throttled { retry_after: None }).await;
        tokio::time::advance(Duration::from_millis(1250)).await;
        assert!(gate.enter(1).await.is_ok(), "a good answer begins anew");
    }

    #[tokio::test]
    async fn stores_that_fail_together_do_not_come_back_together() {
        let waits = |seed| (1..4).map(|failures| Gate::new(None, seed).pause(failures, 1)).collect::<Vec<_>>();
        assert_eq!(waits("a"), waits("a"));
        assert!(waits("a").iter().zip(waits("b")).all(|(a, b)| *a != b));
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_queues_and_then_refuses() {
        let limit = RateLimit { per_second: Some(10), burst: Some(2), concurrency: Some(100) };
        let gate = Gate::new(Some(&limit), "s");
        let started = Instant::now();
        for _ in 0..12 {
            gate.enter(1).await.ok().unwrap().tell(None);
        }
        assert_eq!(started.elapsed().as_millis() / 100, 10, "two at once, then ten a second");
        let many: Vec<_> = (0..80).map(|_| gate.enter(1)).collect();
        let answers = futures::future::join_all(many).await;
        let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert!(!refused.is_empty() && refused.iter().all(|error| error.to_string().contains("rateLimit")));
        assert_eq!(gate.breaker(), Breaker::Closed, "the backend has done nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_for_more_than_the_rate_allows_at_once_passes_all_the_same() {
        let limit = RateLimit { per_second: Some(1), burst: Some(1), concurrency: None };
        let gate = Gate::new(Some(&limit), "s");
        for _ in 0..3 {
            gate.enter(12).await.ok().unwrap().tell(None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_to_an_older_question_does_not_end_a_pause() {
        let gate = Gate::new(None, "s");
        let (older, throttled) = (gate.enter(1).await.ok().unwrap(), gate.enter(1).await.ok().unwrap());
        throttled.tell(Some(&StoreError::Throttled { retry_after: Some(Duration::from_secs(60)) }));
        older.tell(None);
        assert!(gate.enter(1).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_questions_are_under_way_and_no_more() {
        let limit = RateLimit { per_second: None, burst: None, concurrency: Some(2) };
        let gate = Gate::new(Some(&limit), "s");
        let held = (gate.enter(1).await.ok().unwrap(), gate.enter(1).await.ok().unwrap());
        let third = tokio::time::timeout(Duration::from_secs(60), gate.enter(1));
        assert!(third.await.is_err());
        held.0.tell(None);
        assert!(gate.enter(1).await.is_ok());
    }
}
