//! Images as people use them start under the defaults: no root, a home and a working folder that can be written to.

use anyhow::{Result, ensure};
use daypass::api::{Phase, Reason};
use daypass_testcluster::Image;
use serde_json::json;

use crate::support::Team;

/// Says who it is and where, and writes there and at home.
const SCRIPT: &str = "echo $(id -u):$(id -g) $PWD $HOME; touch here ~/there && echo written; echo $API_KEY";
const SAID: &str = "65532:65532 /workspace /workspace\nwritten\nvalue\n";

async fn says(name: &str, image: Image) -> Result<String> {
    let team = Team::new("images").await?;
    team.cluster.load(&image)?;
    team.set_secret("API_KEY", b"value").await?;
    let spec = json!({"image": image.reference(), "command": ["sh", "-c", SCRIPT], "secrets": [{"name": "API_KEY"}]});
    let run = team.submit(name, spec).await?;
    let status = team.wait_finished(&run).await?;
    ensure!(status.phase == Phase::Completed, "{status:?}");
    team.log(&run).await
}

#[tokio::test]
async fn an_image_whose_user_is_root() -> Result<()> {
    let image = Image::busybox("daypass.test/of-root:1")?.user("root").working_dir("/root");
    assert_eq!(says("of-root", image).await?, SAID);
    Ok(())
}

#[tokio::test]
async fn an_image_with_a_named_user() -> Result<()> {
    // By its name alone the kubelet could not tell that it is not root, and would refuse it.
    let image = Image::busybox("daypass.test/of-agent:1")?.add_user("agent", 1000).user("agent");
    assert_eq!(says("of-agent", image).await?, SAID);
    Ok(())
}

#[tokio::test]
async fn an_image_whose_working_folder_is_not_writable() -> Result<()> {
    let image = Image::busybox("daypass.test/locked:1")?
        .add_user("agent", 1000)
        .user("1000")
        .folder("/srv/app", 0o755, 0)
        .working_dir("/srv/app");
    assert_eq!(says("locked", image).await?, SAID);
    Ok(())
}

#[tokio::test]
async fn a_sandbox_that_says_nothing_stays_up_until_it_is_stopped() -> Result<()> {
    let team = Team::new("silent").await?;
    let run = team.submit("silent", json!({"terminationGracePeriodSeconds": 60})).await?;
    let status = team.wait(&run, "it runs", |status| status.phase == Phase::Running).await?;
    assert_eq!(status.secrets_state.as_deref(), Some("None"));
    let asked = std::time::Instant::now();
    team.patch(&run, json!({"stop": true})).await?;
    let status = team.wait_finished(&run).await?;
    assert_eq!((status.phase, status.reason), (Phase::Terminated, Some(Reason::Stopped)));
    // A program that does not listen to TERM would have stayed for the whole minute.
    ensure!(asked.elapsed().as_secs() < 45, "it took {:?}", asked.elapsed());
    team.wait_pod_gone(&run).await
}
