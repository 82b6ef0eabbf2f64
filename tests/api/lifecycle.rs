//! A run that goes well, in every shape, on the real API server; the test plays the node. With the writes that it cost.

use std::time::Duration;

use anyhow::{Result, ensure};
use daypass::api::{ConditionStatus, ConditionType, Phase, Reason, SecretState};
use daypass_testcluster::poll;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use serde_json::json;

use crate::support::{
    COLLECTED, Replica, TURN, Team, container, end_cluster, ended, operator, own_cluster, running, settle,
};

#[tokio::test]
async fn a_run_gets_its_secret_and_the_copy_goes_when_it_has_started() -> Result<()> {
    let team = Team::new(operator().await?, "life").await?;
    team.set_secret("API_KEY", b"value-1").await?;
    let mark = team.mark()?;
    let run = team.run("demo", json!({"secrets": [{"name": "API_KEY"}]})).await?;

    let pod = team.pod(&run).await?;
    let secret = team.secrets().get(&run).await?;
    assert_eq!(secret.immutable, Some(true));
    assert!(pod.metadata.creation_timestamp >= secret.metadata.creation_timestamp);
    assert_eq!(team.copy(&run).await?, [("API_KEY".into(), "value-1".into())].into());

    team.play_start(&run).await?;
    let status = team.wait("demo", "it runs and the copy is gone", |s| s.phase == Phase::Running).await?;
    assert_eq!(status.secrets_state.as_deref(), Some("Removed"));
    assert_eq!(status.secrets[0].state, SecretState::Removed);
    assert_eq!(status.secrets[0].version.as_deref(), Some("1"));
    let (injected, removed) = (status.secret_injected_at.unwrap(), status.secret_removed_at.unwrap());
    let exposure = removed.0.duration_since(injected.0).as_millis();
    assert!(exposure > 0 && i128::from(status.secret_exposure_milliseconds.unwrap()) == exposure, "{exposure}");
    team.assert_no_run_secrets().await?;

    team.play_exit(&run, 0).await?;
    let status = team.wait_finished("demo").await?;
    assert_eq!((status.phase, status.reason, status.exit_code), (Phase::Completed, Some(Reason::Succeeded), Some(0)));
    for kind in [ConditionType::SecretsResolved, ConditionType::SecretsRemoved, ConditionType::Finished] {
        let condition = status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
        assert_eq!(condition.status, ConditionStatus::True, "{kind:?}");
    }
    assert!(team.pods().get_opt(&run).await?.is_some(), "the Pod stays for its logs");
    assert_eq!(
        team.writes(mark).await?,
        ["create secrets", "create pods", "delete secrets", "patch sandboxes/status", "patch sandboxes/status"]
    );
    assert_eq!(team.events(mark).await?, 0, "no trouble, no event");
    Ok(())
}

#[tokio::test]
async fn a_run_that_is_over_at_once_costs_four_writes() -> Result<()> {
    let team = Team::new(operator().await?, "quick").await?;
    team.set_secret("API_KEY", b"value-1").await?;
    let mark = team.mark()?;
    let run = team.run("quick", json!({"secrets": [{"name": "API_KEY"}]})).await?;
    team.pod(&run).await?;
    team.play_exit(&run, 0).await?;
    let status = team.wait_finished("quick").await?;
    assert_eq!((status.phase, status.secrets_state.as_deref()), (Phase::Completed, Some("Removed")));
    assert_eq!(team.writes(mark).await?, ["create secrets", "create pods", "delete secrets", "patch sandboxes/status"]);
    Ok(())
}

#[tokio::test]
async fn after_finish_keeps_the_copy_as_long_as_the_run() -> Result<()> {
    let team = Team::new(operator().await?, "finish").await?;
    team.set_secret("API_KEY", b"value-1").await?;
    let mark = team.mark()?;
    let run = team.run("after", json!({"secrets": [{"name": "API_KEY"}], "secretRemoval": "AfterFinish"})).await?;
    team.pod(&run).await?;
    team.play_start(&run).await?;
    let status = team.wait("after", "it runs", |s| s.phase == Phase::Running).await?;
    assert_eq!(status.secrets_state.as_deref(), Some("Injected"));
    assert_eq!(status.secrets[0].state, SecretState::Injected);
    assert_eq!(team.copy(&run).await?.len(), 1);
    team.play_exit(&run, 0).await?;
    let status = team.wait_finished("after").await?;
    assert_eq!(status.secrets_state.as_deref(), Some("Removed"));
    team.assert_no_run_secrets().await?;
    assert_eq!(
        team.writes(mark).await?,
        ["create secrets", "create pods", "patch sandboxes/status", "delete secrets", "patch sandboxes/status"]
    );
    Ok(())
}

#[tokio::test]
async fn files_carry_what_no_variable_can() -> Result<()> {
    let team = Team::new(operator().await?, "file").await?;
    team.set_secret("KEYTAB", b"\xff\0\xfe").await?;
    let run = team.run("file", json!({"secrets": [{"name": "KEYTAB"}], "delivery": "File"})).await?;
    let spec = json!(team.pod(&run).await?)["spec"].clone();
    assert_eq!(team.secrets().get(&run).await?.data.unwrap_or_default()["KEYTAB"].0, b"\xff\0\xfe");
    let volume = spec["volumes"].as_array().unwrap().iter().find(|volume| volume["secret"].is_object()).unwrap();
    assert_eq!(volume["secret"], json!({"secretName": run, "defaultMode": 0o440, "optional": false}));
    let mounts = spec["containers"][0]["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["name"] == volume["name"]).unwrap();
    assert_eq!((&mount["mountPath"], &mount["readOnly"]), (&json!("/run/daypass"), &json!(true)));
    assert_eq!(spec["securityContext"]["fsGroup"], 65_532);
    assert!(!spec["containers"][0]["env"].to_string().contains("secretKeyRef"));
    // A kubelet would warn every two minutes about a volume whose Secret has gone: it stays.
    team.play_start(&run).await?;
    let status = team.wait("file", "it runs", |s| s.phase == Phase::Running).await?;
    assert_eq!(status.secrets_state.as_deref(), Some("Injected"));
    team.play_exit(&run, 0).await?;
    team.wait_finished("file").await?;
    team.assert_no_run_secrets().await
}

#[tokio::test]
async fn a_run_without_secrets_has_no_secret() -> Result<()> {
    let team = Team::new(operator().await?, "none").await?;
    let mark = team.mark()?;
    let run = team.run("none", json!({})).await?;
    let pod = json!(team.pod(&run).await?);
    assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
    assert_eq!(pod["spec"]["restartPolicy"], "Never");
    assert_eq!(pod["spec"]["containers"][0]["image"], "daypass.test/busybox:1");
    team.play_start(&run).await?;
    let status = team.wait("none", "it runs", |s| s.phase == Phase::Running).await?;
    assert_eq!(status.secrets_state.as_deref(), Some("None"));
    team.play_exit(&run, 0).await?;
    team.wait_finished("none").await?;
    assert_eq!(team.writes(mark).await?, ["create pods", "patch sandboxes/status", "patch sandboxes/status"]);
    Ok(())
}

#[tokio::test]
async fn small_files_need_no_further_object() -> Result<()> {
    let team = Team::new(operator().await?, "files").await?;
    let files = json!([{"path": "/etc/motd", "content": "hello"}, {"path": "/opt/run.sh", "content": "#!/bin/sh", "mode": 0o555}]);
    let mark = team.mark()?;
    let run = team.run("files", json!({"files": files})).await?;
    let pod = json!(team.pod(&run).await?);
    assert_eq!(pod["metadata"]["annotations"]["daypass.dev/file-0"], "hello");
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let items = &volumes.iter().find(|volume| volume["downwardAPI"].is_object()).unwrap()["downwardAPI"]["items"];
    assert_eq!((&items[0]["mode"], &items[1]["mode"]), (&json!(0o444), &json!(0o555)));
    assert_eq!(items[1]["fieldRef"]["fieldPath"], "metadata.annotations['daypass.dev/file-1']");
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["mountPath"] == "/opt/run.sh").unwrap();
    assert_eq!(mount["subPath"], items[1]["path"]);
    assert_eq!(team.writes(mark).await?, ["create pods"]);
    Ok(())
}

#[tokio::test]
async fn a_network_policy_comes_before_the_pod_and_goes_with_the_sandbox() -> Result<()> {
    let team = Team::new(operator().await?, "net").await?;
    let mark = team.mark()?;
    let network =
        json!({"denyIngress": true, "denyEgress": true, "egress": [{"cidr": "10.0.0.0/8", "ports": [{"port": 443}]}]});
    let run = team.run("net", json!({"network": network})).await?;
    let pod = team.pod(&run).await?;
    let policies = Api::<NetworkPolicy>::namespaced(team.root.clone(), &team.namespace);
    let policy = json!(policies.get(&run).await?);
    let (label, value) = policy["spec"]["podSelector"]["matchLabels"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(pod.metadata.labels.unwrap()[label], value.as_str().unwrap());
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["spec"]["egress"][0]["to"][0]["ipBlock"]["cidr"], "10.0.0.0/8");
    assert_eq!(policy["metadata"]["ownerReferences"][0]["name"], "net");
    assert_eq!(team.writes(mark).await?, ["create networkpolicies", "create pods"]);
    team.sandboxes().delete("net", &kube::api::DeleteParams::default()).await?;
    poll(COLLECTED, "the policy is gone", async || {
        ensure!(policies.get_opt(&run).await?.is_none(), "it is there");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_optional_secret_that_is_missing_is_not_waited_for() -> Result<()> {
    let team = Team::new(operator().await?, "optional").await?;
    team.set_secret("THERE", b"v").await?;
    let secrets = json!([{"name": "MISSING", "optional": true}, {"name": "THERE", "optional": true}]);
    let run = team.run("optional", json!({"secrets": secrets})).await?;
    team.pod(&run).await?;
    assert_eq!(team.copy(&run).await?, [("THERE".into(), "v".into())].into());
    team.play_start(&run).await?;
    let status = team.wait("optional", "it runs", |s| s.phase == Phase::Running).await?;
    assert_eq!(
        status.secrets.iter().map(|secret| secret.state).collect::<Vec<_>>(),
        [SecretState::Absent, SecretState::Removed]
    );
    Ok(())
}

#[tokio::test]
async fn a_field_of_a_json_secret_goes_alone() -> Result<()> {
    let team = Team::new(operator().await?, "json").await?;
    team.set_secret("DB", br#"{"user": "u", "password": "p", "port": 5432}"#).await?;
    let secrets = json!([{"name": "DB", "field": "password", "envVar": "PGPASSWORD"}, {"name": "DB", "field": "port", "envVar": "PGPORT"}]);
    let run = team.run("json", json!({"secrets": secrets})).await?;
    team.pod(&run).await?;
    assert_eq!(team.copy(&run).await?, [("PGPASSWORD".into(), "p".into()), ("PGPORT".into(), "5432".into())].into());
    Ok(())
}

#[tokio::test]
async fn the_ttl_takes_everything_along() -> Result<()> {
    let team = Team::new(operator().await?, "ttl").await?;
    team.set_secret("API_KEY", b"value-1").await?;
    let run = team.run("ttl", json!({"secrets": [{"name": "API_KEY"}], "ttlSecondsAfterFinished": 1})).await?;
    team.pod(&run).await?;
    team.play_exit(&run, 0).await?;
    poll(Duration::from_secs(30), "the Sandbox is gone", async || {
        ensure!(team.sandboxes().get_opt("ttl").await?.is_none(), "it is there");
        Ok(())
    })
    .await?;
    team.wait_no_pod(&run).await?;
    team.assert_no_run_secrets().await
}

#[tokio::test]
async fn a_run_ends_with_its_own_container_whatever_stands_beside_it() -> Result<()> {
    let team = Team::new(operator().await?, "beside").await?;
    team.set_secret("API_KEY", b"value-1").await?;
    let run = team.run("beside", json!({"secrets": [{"name": "API_KEY"}]})).await?;
    team.pod(&run).await?;
    let both = |main| json!({"phase": "Running", "containerStatuses": [container("proxy", running()), container("main", main)]});
    team.play_status(&run, both(running())).await?;
    team.wait("beside", "it runs", |s| s.phase == Phase::Running).await?;
    team.play_status(&run, both(ended(0, "Completed"))).await?;
    let status = team.wait_finished("beside").await?;
    assert_eq!((status.phase, status.exit_code), (Phase::Completed, Some(0)));
    assert!(status.message.unwrap_or_default().contains("other containers of the Pod still run: proxy"));
    Ok(())
}

#[tokio::test]
async fn an_operator_that_is_asked_to_tells_each_step_in_events_and_logs_for_people() -> Result<()> {
    let _turn = TURN.acquire().await?;
    let cluster = own_cluster().await?;
    let replica = Replica::start_with(cluster, "0", "log: {format: human}\nevents: all\n").await?;
    replica.wait_until_ready(cluster).await?;
    settle(cluster).await?;
    let team = Team::on(cluster, "talks").await?;
    team.set_secret("API_KEY", b"value-1").await?;
    let run = team.run("demo", json!({"secrets": [{"name": "API_KEY"}]})).await?;
    team.pod(&run).await?;
    team.play_start(&run).await?;
    team.play_exit(&run, 0).await?;
    assert_eq!(team.wait_finished("demo").await?.phase, Phase::Completed);
    let events = Api::<Event>::namespaced(team.root.clone(), &team.namespace);
    poll(Duration::from_secs(30), "the steps are told", async || {
        let told = events.list(&kube::api::ListParams::default()).await?;
        let reasons: Vec<_> = told.into_iter().filter_map(|event| event.reason).collect();
        let all = ["Starting", "Succeeded"].iter().all(|step| reasons.iter().any(|reason| reason == step));
        ensure!(all, "{reasons:?}");
        Ok(())
    })
    .await?;
    let log = replica.log()?;
    ensure!(log.contains(" audit: record={\"action\":\"inject\""), "{log}");
    ensure!(!log.lines().any(|line| line.starts_with('{')), "{log}");
    ensure!(!log.contains('\u{1b}'), "colours in a file: {log}");
    drop(replica);
    end_cluster(cluster)
}
