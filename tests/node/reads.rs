//! The product's spine: a container reads its variable, and the cluster holds no copy of it any more.

use anyhow::{Result, ensure};
use daypass::api::{Phase, Reason};
use serde_json::json;

use crate::support::Team;

#[tokio::test]
async fn a_container_has_its_variable_and_no_copy_is_left_while_it_runs() -> Result<()> {
    let team = Team::new("reads").await?;
    team.set_secret("API_KEY", b"the value of the key").await?;
    // It runs until the test has looked.
    let script = "printf '<%s>\\n' \"$API_KEY\"; while [ ! -e go ]; do sleep 0.1; done; printf '<%s>\\n' \"$API_KEY\"";
    let spec = json!({"command": ["sh", "-c", script], "secrets": [{"name": "API_KEY"}]});
    let run = team.submit("reader", spec).await?;

    team.wait_log(&run, "<the value of the key>\n").await?;
    let status = team.wait(&run, "the copy is gone", |status| status.secret_removed_at.is_some()).await?;
    assert_eq!((status.phase, status.secrets_state.as_deref()), (Phase::Running, Some("Removed")));
    team.assert_no_copy(&run).await?;
    let pod = team.pods().get_status(&run.name).await?.status.unwrap_or_default();
    assert_eq!(pod.phase.as_deref(), Some("Running"), "it runs on");

    team.exec(&run, &["touch", "go"])?;
    let status = team.wait_finished(&run).await?;
    assert_eq!((status.phase, status.reason, status.exit_code), (Phase::Completed, Some(Reason::Succeeded), Some(0)));
    let exposure = status.secret_exposure_milliseconds.unwrap_or_default();
    ensure!((1..60_000).contains(&exposure), "the copy was there for {exposure} ms");
    assert_eq!(team.log(&run).await?, "<the value of the key>\n".repeat(2), "the variable stays");
    Ok(())
}

#[tokio::test]
async fn a_rotated_value_goes_to_the_next_run() -> Result<()> {
    let team = Team::new("rotates").await?;
    team.set_secret("API_KEY", b"first").await?;
    let spec = json!({"command": ["sh", "-c", "echo $API_KEY"], "secrets": [{"name": "API_KEY"}]});
    let one = team.submit("one", spec.clone()).await?;
    team.wait_finished(&one).await?;
    team.daypass(&["secret", "rotate", "API_KEY", "--from-stdin"], b"second").await?;
    let two = team.submit("two", spec).await?;
    team.wait_finished(&two).await?;
    assert_eq!((team.log(&one).await?, team.log(&two).await?), ("first\n".into(), "second\n".into()));
    Ok(())
}
