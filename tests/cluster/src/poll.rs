//! Waiting for a state, instead of sleeping and hoping.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Tries until `attempt` succeeds. Its error says why it is not so far yet; the last one is in the message when `limit`
/// is over. An attempt that hangs counts as failed at the limit.
///
/// ```no_run
/// # async fn example(phase: impl AsyncFn() -> anyhow::Result<String>) -> anyhow::Result<()> {
/// use std::time::Duration;
/// daypass_testcluster::poll(Duration::from_secs(10), "the Pod runs", async || {
///     let phase = phase().await?;
///     anyhow::ensure!(phase == "Running", "its phase is {phase}");
///     Ok(())
/// })
/// .await
/// # }
/// ```
pub async fn poll<T>(limit: Duration, what: &str, mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    let mut last = anyhow!("the first attempt did not come back");
    loop {
        match tokio::time::timeout_at(deadline.into(), attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = error,
            Err(_) => return Err(timed_out(limit, what, &last)),
        }
        if Instant::now() + pause >= deadline {
            return Err(timed_out(limit, what, &last));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn timed_out(limit: Duration, what: &str, last: &anyhow::Error) -> anyhow::Error {
    anyhow!("waited {limit:?} in vain until {what}; at last: {last:#}")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn returns_the_first_success() {
        let tries = Cell::new(0);
        let value = poll(Duration::from_secs(1), "three tries were made", async || {
            tries.set(tries.get() + 1);
            anyhow::ensure!(tries.get() == 3, "only {}", tries.get());
            Ok(tries.get())
        });
        assert_eq!(value.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn tells_the_last_reason() {
        let never = poll(Duration::from_millis(50), "it rains", async || Err::<(), _>(anyhow!("the sun shines")));
        let message = never.await.unwrap_err().to_string();
        assert!(message.contains("until it rains") && message.contains("the sun shines"), "{message}");
    }

    #[tokio::test]
    async fn ends_an_attempt_that_hangs() {
        let never = poll(Duration::from_millis(50), "an answer comes", std::future::pending::<Result<()>>);
        assert!(never.await.unwrap_err().to_string().contains("did not come back"));
    }
}
