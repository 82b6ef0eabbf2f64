//! What a leader leaves that dies between two of its calls, state by state: the next one brings each to the same end.

use anyhow::{Context, Result, ensure};
use daypass::api::Phase;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::json;

use crate::support::{Replica, TURN, Team, end_cluster, own_cluster, settle};

/// A Sandbox, and where its run stood when the leader died. No status tells anything of any of them.
const STATES: [(&str, &str); 7] = [
    ("nothing", "nothing is made"),
    ("secret", "its Secret is made"),
    ("pod", "its Pod is made"),
    ("started", "its Pod has started"),
    ("removed", "its Pod has started, and its Secret is gone"),
    ("ended", "its Pod has ended"),
    ("ended-removed", "its Pod has ended, and its Secret is gone"),
];

/// A run of the table.
struct Left {
    name: &'static str,
    run: String,
    /// The UID of its Pod, where that is there.
    pod: Option<String>,
}

/// Makes each state out of what a leader had made for all of them.
async fn leave(team: &Team, name: &'static str, run: String) -> Result<Left> {
    if ["started", "removed"].contains(&name) {
        team.play_start(&run).await?;
    }
    if ["ended", "ended-removed"].contains(&name) {
        team.play_exit(&run, 0).await?;
    }
    if ["removed", "ended-removed"].contains(&name) {
        team.secrets().delete(&run, &DeleteParams::background()).await?;
    }
    if name == "secret" {
        team.play_vanish(&run).await?;
    }
    let pod = team.pods().get_opt(&run).await?.and_then(|pod| pod.uid());
    Ok(Left { name, run, pod })
}

#[tokio::test]
async fn the_next_leader_goes_on_from_every_state_between_two_calls() -> Result<()> {
    let _turn = TURN.acquire().await?;
    let cluster = own_cluster().await?;
    let first = Replica::start_for_take_over(cluster, "0").await?;
    first.wait_until_ready(cluster).await?;
    settle(cluster).await?;
    let team = Team::on(cluster, "left").await?;
    team.set_secret("KEY", b"value").await?;
    let spec = json!({"secrets": [{"name": "KEY"}]});
    let mut runs = Vec::new();
    for (name, _) in &STATES[1..] {
        let run = team.run(name, spec.clone()).await?;
        team.pod(&run).await?;
        runs.push((*name, run));
    }
    first.kill()?;
    runs.push((STATES[0].0, team.run(STATES[0].0, spec).await?));
    let mut left = Vec::new();
    for (name, run) in runs {
        let status = team.sandboxes().get(name).await?.status.unwrap_or_default();
        ensure!(status.pod_name.is_none() && status.secret_injected_at.is_none(), "{name} is told already");
        left.push(leave(&team, name, run).await?);
    }
    let secrets = team.secrets();
    for Left { name, run, pod } in &left {
        let copy = secrets.get_metadata_opt(run).await?.is_some();
        let (wanted_copy, wanted_pod) =
            (!["nothing", "removed", "ended-removed"].contains(name), !["nothing", "secret"].contains(name));
        assert_eq!((copy, pod.is_some()), (wanted_copy, wanted_pod), "{name} is not the state that it should be");
    }

    let mark = team.mark()?;
    let next = Replica::start_for_take_over(cluster, "1").await?;
    next.wait_until_it_leads().await?;
    for Left { name, run, .. } in &left {
        if ["nothing", "secret", "pod"].contains(name) {
            team.pod(run).await?;
            assert_eq!(team.copy(run).await?["KEY"], "value", "{name}");
            team.play_start(run).await?;
        }
    }
    for Left { name, run, .. } in &left {
        if !name.starts_with("ended") {
            let status = team.wait(name, "it runs", |status| status.phase == Phase::Running).await?;
            assert_eq!(status.secrets_state.as_deref(), Some("Removed"), "{name}");
            team.play_exit(run, 0).await?;
        }
    }
    for (Left { name, run, pod }, state) in left.iter().zip(STATES.iter().skip(1).chain(&STATES[..1])) {
        let what = state.1;
        let status = team.wait_finished(name).await?;
        assert_eq!((status.phase, status.exit_code), (Phase::Completed, Some(0)), "{what}");
        assert_eq!(status.secrets_state.as_deref(), Some("Removed"), "{what}");
        assert_eq!(status.secrets[0].version.as_deref(), Some("1"), "{what}");
        ensure!(status.secret_injected_at.is_some() && status.secret_removed_at.is_some(), "{what}: {status:?}");
        let now = team.pods().get(run).await?.uid().context("a UID")?;
        ensure!(pod.as_ref().is_none_or(|before| *before == now), "{what}: another Pod was made");
    }
    team.assert_no_run_secrets().await?;
    let deleted = next.audit(&team.namespace)?.into_iter().find(|record| record["action"] == "deleted");
    assert_eq!(deleted, None, "the secret is there");
    let writes = team.writes(mark).await?;
    let pods = writes.iter().filter(|write| *write == "create pods").count();
    assert_eq!(pods, 2, "one for each run that had none: {writes:?}");
    drop(next);
    end_cluster(cluster)
}
