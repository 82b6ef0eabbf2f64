//! What others do to a run's objects: each ends in the right state, and nothing is left.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daypass::api::{Phase, Reason};
use daypass_testcluster::poll;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::{Namespace, Pod, ResourceQuota};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::{COLLECTED, Team, operator};

async fn team(prefix: &str) -> Result<Team> {
    let team = Team::new(operator().await?, prefix).await?;
    team.set_secret("API_KEY", b"value-1").await?;
    Ok(team)
}

fn spec() -> Value {
    json!({"secrets": [{"name": "API_KEY"}]})
}

#[tokio::test]
async fn a_secret_deleted_before_the_start_is_lost_and_ends_the_run() -> Result<()> {
    let team = team("lost").await?;
    let mark = team.mark()?;
    let run = team.run("lost", spec()).await?;
    team.pod(&run).await?;
    // An editor may delete Secrets.
    let secrets = Api::<k8s_openapi::api::core::v1::Secret>::namespaced(team.member.clone(), &team.namespace);
    secrets.delete(&run, &DeleteParams::default()).await?;
    team.play_waiting(&run, "CreateContainerConfigError", &format!("secret \"{run}\" not found")).await?;
    let status = team.wait_finished("lost").await?;
    assert_eq!((status.phase, status.reason), (Phase::Failed, Some(Reason::SecretLost)));
    assert!(status.message.unwrap().contains("`kubectl replace --force -f FILE` starts a new run"));
    team.wait_no_pod(&run).await?;
    assert_eq!(
        team.writes(mark).await?,
        ["create secrets", "create pods", "delete secrets (404)", "delete pods", "patch sandboxes/status"],
        "it is not made anew under the same name: a kubelet may still have the old one"
    );
    Ok(())
}

#[tokio::test]
async fn a_secret_deleted_after_the_start_is_missed_by_nobody() -> Result<()> {
    let team = team("later").await?;
    let mut spec = spec();
    spec["secretRemoval"] = json!("AfterFinish");
    let run = team.run("later", spec).await?;
    team.pod(&run).await?;
    team.play_start(&run).await?;
    team.wait("later", "it runs", |s| s.phase == Phase::Running).await?;
    team.secrets().delete(&run, &DeleteParams::default()).await?;
    team.play_exit(&run, 0).await?;
    let status = team.wait_finished("later").await?;
    assert_eq!((status.phase, status.secrets_state.as_deref()), (Phase::Completed, Some("Removed")));
    Ok(())
}

#[tokio::test]
async fn a_pod_deleted_by_hand_ends_the_run() -> Result<()> {
    let team = team("poddel").await?;
    for (name, started) in [("starting", false), ("running", true)] {
        let run = team.run(name, spec()).await?;
        team.pod(&run).await?;
        team.play_bind(&run).await?;
        if started {
            team.play_start(&run).await?;
            team.wait(name, "it runs", |s| s.phase == Phase::Running).await?;
        }
        team.pods().delete(&run, &DeleteParams::default()).await?;
        // While it ends, its copy goes already.
        poll(Duration::from_secs(20), "the copy is gone", async || team.assert_no_run_secrets().await).await?;
        if started {
            // Its copy had gone before, so that alone does not show that the operator has seen the deletion.
            team.wait(name, "it is seen to end", |s| s.phase == Phase::Terminating).await?;
        }
        team.play_vanish(&run).await?;
        let status = team.wait_finished(name).await?;
        assert_eq!((status.phase, status.reason), (Phase::Terminated, Some(Reason::PodDeleted)), "{name}");
        assert!(status.message.unwrap().contains("set spec.stop to stop a run"));
    }
    // By force, nobody sees more than that it is gone.
    let run = team.run("forced", spec()).await?;
    team.pod(&run).await?;
    team.play_bind(&run).await?;
    team.play_start(&run).await?;
    team.wait("forced", "it runs", |s| s.phase == Phase::Running).await?;
    team.play_vanish(&run).await?;
    let status = team.wait_finished("forced").await?;
    ensure!([Some(Reason::PodLost), Some(Reason::PodDeleted)].contains(&status.reason), "{}", json!(status));
    ensure!(status.secrets_state.as_deref() == Some("Removed"), "{}", json!(status));
    assert!(team.pods().get_opt(&run).await?.is_none(), "a Pod is never made twice");
    Ok(())
}

#[tokio::test]
async fn a_sandbox_deleted_at_any_moment_leaves_nothing() -> Result<()> {
    let team = team("deleted").await?;
    team.run("waiting", json!({"secrets": [{"name": "API_KEY"}, {"name": "MISSING"}]})).await?;
    team.wait("waiting", "it waits", |s| s.reason == Some(Reason::SecretNotFound)).await?;
    let starting = team.run("starting", spec()).await?;
    let running =
        team.run("running", json!({"secrets": [{"name": "API_KEY"}], "secretRemoval": "AfterFinish"})).await?;
    let ended = team.run("ended", spec()).await?;
    for run in [&starting, &running, &ended] {
        team.pod(run).await?;
    }
    team.play_start(&running).await?;
    team.wait("running", "it runs", |s| s.phase == Phase::Running).await?;
    team.play_exit(&ended, 0).await?;
    team.wait_finished("ended").await?;
    let mut all = vec![starting, running, ended];
    for name in ["waiting", "starting", "running", "ended"] {
        team.sandboxes().delete(name, &DeleteParams::default()).await?;
    }
    // And some that are deleted while they are taken up.
    for index in 0..10 {
        let name = format!("at-once-{index}");
        all.push(team.run(&name, spec()).await?);
        team.sandboxes().delete(&name, &DeleteParams::default()).await?;
    }
    // The operator's own part does not wait for the garbage collector.
    poll(Duration::from_secs(10), "all copies are gone", async || team.assert_no_run_secrets().await).await?;
    for run in all {
        team.wait_no_pod(&run).await?;
    }
    team.assert_no_run_secrets().await
}

#[tokio::test]
async fn a_sandbox_deleted_in_the_foreground_waits_for_its_pod() -> Result<()> {
    let team = team("front").await?;
    let run = team.run("front", spec()).await?;
    team.pod(&run).await?;
    team.play_bind(&run).await?;
    team.play_start(&run).await?;
    team.wait("front", "it runs", |s| s.phase == Phase::Running).await?;
    team.sandboxes().delete("front", &DeleteParams::foreground()).await?;
    poll(COLLECTED, "the Pod is being ended", async || {
        ensure!(team.pods().get(&run).await?.metadata.deletion_timestamp.is_some());
        Ok(())
    })
    .await?;
    team.play_vanish(&run).await?;
    poll(COLLECTED, "the Sandbox is gone", async || {
        ensure!(team.sandboxes().get_opt("front").await?.is_none());
        Ok(())
    })
    .await?;
    team.assert_no_run_secrets().await
}

#[tokio::test]
async fn a_namespace_goes_away_with_its_runs() -> Result<()> {
    let team = team("leaving").await?;
    let run = team.run("running", json!({"secrets": [{"name": "API_KEY"}], "secretRemoval": "AfterFinish"})).await?;
    team.run("waiting", json!({"secrets": [{"name": "MISSING"}]})).await?;
    team.run("starting", spec()).await?;
    team.pod(&run).await?;
    team.play_start(&run).await?;
    team.wait("running", "it runs", |s| s.phase == Phase::Running).await?;
    let namespaces = Api::<Namespace>::all(team.root.clone());
    namespaces.delete(&team.namespace, &DeleteParams::default()).await?;
    poll(Duration::from_secs(90), "the namespace is gone", async || {
        let left = namespaces.get_opt(&team.namespace).await?;
        ensure!(left.is_none(), "{}", json!(left.unwrap().status));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pod_that_pod_security_refuses_is_told_and_holds_no_copy() -> Result<()> {
    let team = team("psa").await?;
    let namespaces = Api::<Namespace>::all(team.root.clone());
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    namespaces.patch(&team.namespace, &PatchParams::default(), &Patch::Merge(label)).await?;
    // The defaults pass.
    let run = team.run("plain", spec()).await?;
    team.pod(&run).await?;
    team.play_exit(&run, 0).await?;
    team.wait_finished("plain").await?;
    let mark = team.mark()?;
    let mut root = spec();
    root["securityContext"] = json!({"runAsUser": 0, "runAsNonRoot": false});
    team.run("root", root).await?;
    let status = team.wait_finished("root").await?;
    assert_eq!((status.phase, status.reason), (Phase::Failed, Some(Reason::PodRefused)));
    let message = status.message.unwrap();
    assert!(message.contains("violates PodSecurity") && message.contains("runAsNonRoot"), "{message}");
    team.assert_no_run_secrets().await?;
    assert_eq!(
        team.writes(mark).await?,
        ["create secrets", "create pods (403)", "delete secrets", "patch sandboxes/status"]
    );
    Ok(())
}

#[tokio::test]
async fn a_pod_that_cannot_be_valid_is_told() -> Result<()> {
    let team = team("invalid").await?;
    // More requested than allowed: the API server's own rule about Pods.
    let mut invalid = spec();
    invalid["resources"] = json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}});
    team.run("invalid", invalid).await?;
    let status = team.wait_finished("invalid").await?;
    assert_eq!((status.phase, status.reason), (Phase::Failed, Some(Reason::PodRefused)));
    assert!(status.message.unwrap().contains("must be less than or equal to cpu limit"));
    team.assert_no_run_secrets().await
}

#[tokio::test]
async fn a_pod_that_a_policy_refuses_is_told() -> Result<()> {
    let team = team("policy").await?;
    let name = format!("{}-no-such-label", team.namespace);
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]},
            ]},
            "matchConditions": [{"name": "here", "expression": format!("request.namespace == '{}'", team.namespace)}],
            "validations": [{"expression": "!has(object.metadata.labels) || !has(object.metadata.labels.unwanted)", "message": "nothing unwanted runs here"}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]},
    });
    let policies = Api::<ValidatingAdmissionPolicy>::all(team.root.clone());
    policies.create(&PostParams::default(), &serde_json::from_value(policy)?).await?;
    let bindings = Api::<ValidatingAdmissionPolicyBinding>::all(team.root.clone());
    bindings.create(&PostParams::default(), &serde_json::from_value(binding)?).await?;
    let probe: Pod = serde_json::from_value(json!({
        "metadata": {"name": "probe", "labels": {"unwanted": "yes"}}, "spec": {"containers": [{"name": "main", "image": "i"}]},
    }))?;
    let pods = Api::<Pod>::namespaced(team.root.clone(), &team.namespace);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    poll(Duration::from_secs(30), "the policy is in force", async || {
        let refused = pods.create(&dry_run, &probe).await.err().context("it passes")?;
        ensure!(refused.to_string().contains("nothing unwanted"), "{refused}");
        Ok(())
    })
    .await?;

    let mark = team.mark()?;
    let mut unwanted = spec();
    unwanted["podMetadata"] = json!({"labels": {"unwanted": "yes"}});
    team.run("unwanted", unwanted).await?;
    let status = team.wait_finished("unwanted").await?;
    assert_eq!((status.phase, status.reason), (Phase::Failed, Some(Reason::PodRefused)));
    assert!(status.message.unwrap().contains("nothing unwanted runs here"));
    team.assert_no_run_secrets().await?;
    let writes = team.writes(mark).await?;
    let refused = ["create secrets", "create pods (422)", "delete secrets", "patch sandboxes/status"];
    assert_eq!(writes, refused);
    policies.delete(&name, &DeleteParams::default()).await?;
    bindings.delete(&name, &DeleteParams::default()).await?;
    Ok(())
}

#[tokio::test]
async fn a_run_whose_node_is_lost_is_told() -> Result<()> {
    let team = team("node-lost").await?;
    let mut kept = spec();
    kept["secretRemoval"] = json!("AfterFinish");
    let run = team.run("lost", kept).await?;
    team.pod(&run).await?;
    team.play_start(&run).await?;
    team.wait("lost", "it runs", |s| s.phase == Phase::Running).await?;
    team.play_status(&run, json!({"phase": "Failed", "reason": "NodeLost", "message": "the node is gone"})).await?;
    let status = team.wait_finished("lost").await?;
    assert_eq!((status.phase, status.reason), (Phase::Failed, Some(Reason::PodLost)));
    assert_eq!(status.secrets_state.as_deref(), Some("Removed"));
    team.assert_no_run_secrets().await
}

#[tokio::test]
async fn a_quota_is_waited_for_without_a_copy() -> Result<()> {
    let team = team("quota").await?;
    let quota = |pods: &str| json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"pods": pods}}});
    team.apply(quota("0")).await?;
    let quotas = Api::<ResourceQuota>::namespaced(team.root.clone(), &team.namespace);
    let counted = async |pods: &str| {
        poll(Duration::from_secs(30), "the quota counts", async || {
            let status = quotas.get("q").await?.status.unwrap_or_default();
            let hard = status.hard.and_then(|hard| hard.get("pods").map(|amount| amount.0.clone()));
            ensure!(hard.context("not yet")? == pods);
            Ok(())
        })
        .await
    };
    counted("0").await?;
    let mark = team.mark()?;
    let run = team.run("quota", spec()).await?;
    let status = team.wait("quota", "it waits", |s| s.reason == Some(Reason::QuotaExceeded)).await?;
    assert_eq!((status.phase, status.secrets_state.as_deref()), (Phase::Pending, Some("Waiting")));
    assert_eq!((status.secret_injected_at, status.pod_name), (None, None));
    team.assert_no_run_secrets().await?;
    // It asks again by a dry run, and holds nothing meanwhile.
    poll(Duration::from_secs(40), "it has asked twice", async || {
        let asked = team.operator_requests(mark).await?;
        let asked =
            asked.iter().filter(|entry| entry.namespace == team.namespace && entry.resource == "pods" && entry.dry_run);
        ensure!(asked.count() >= 2, "not yet");
        Ok(())
    })
    .await?;
    team.assert_no_run_secrets().await?;
    team.apply(quota("5")).await?;
    counted("5").await?;
    team.pod(&run).await?;
    assert_eq!(team.copy(&run).await?["API_KEY"], "value-1");
    team.play_exit(&run, 0).await?;
    let status = team.wait_finished("quota").await?;
    assert_eq!((status.phase, status.secrets_state.as_deref()), (Phase::Completed, Some("Removed")));
    assert_eq!(
        team.writes(mark).await?,
        [
            "create secrets",
            "create pods (403)",
            "delete secrets",
            "patch sandboxes/status",
            "create secrets",
            "create pods",
            "delete secrets",
            "patch sandboxes/status"
        ]
    );
    Ok(())
}
