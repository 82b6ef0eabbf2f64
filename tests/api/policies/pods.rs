//! Other people's Pods name no run Secret and bear no run's name; a run's Pod stays as it was made.

use anyhow::{Result, ensure};
use daypass_testcluster::poll;
use http::Method;
use serde_json::{Value, json};

use super::{RUN, SOON, World, set};
use crate::ask::{Verdict, ask, delete, get, patch, post};

const NAMING: &str = "daypass-pods-naming-run-secrets";
const FIXED: &str = "daypass-run-pods-fixed";
const BOUND: &str = "daypass-run-pods-bound";
const EXEC: &str = "daypass-exec-denied";

fn plain() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mine"},
        "spec": {"containers": [{"name": "c", "image": "i"}], "initContainers": [{"name": "init", "image": "i"}]},
    })
}

fn variable(secret: &str) -> Value {
    json!([{"name": "V", "valueFrom": {"secretKeyRef": {"name": secret, "key": "TOKEN"}}}])
}

/// Every way in which a Pod can name a Secret.
fn naming(secret: &str) -> Vec<(&'static str, &'static str, Value)> {
    let variables = "a run Secret is for the variables of its own run only";
    let volumes = "a run Secret is for the volumes of its own run only";
    let all = json!([{"secretRef": {"name": secret}}]);
    let volume = |source: Value| {
        let volume =
            source.as_object().into_iter().flatten().fold(json!({"name": "v"}), |mut volume, (kind, value)| {
                volume[kind] = value.clone();
                volume
            });
        set(&plain(), "/spec/volumes", json!([volume]))
    };
    let reference = json!({"name": secret});
    vec![
        ("a variable", variables, set(&plain(), "/spec/containers/0/env", variable(secret))),
        ("all variables", variables, set(&plain(), "/spec/containers/0/envFrom", all.clone())),
        ("an init container's variable", variables, set(&plain(), "/spec/initContainers/0/env", variable(secret))),
        ("all variables of an init container", variables, set(&plain(), "/spec/initContainers/0/envFrom", all)),
        ("a volume", volumes, volume(json!({"secret": {"secretName": secret}}))),
        ("a projected volume", volumes, volume(json!({"projected": {"sources": [{"secret": {"name": secret}}]}}))),
        ("a CSI driver", volumes, volume(json!({"csi": {"driver": "d", "nodePublishSecretRef": reference}}))),
        ("a flex volume", volumes, volume(json!({"flexVolume": {"driver": "a/b", "secretRef": reference}}))),
        ("Azure's files", volumes, volume(json!({"azureFile": {"secretName": secret, "shareName": "s"}}))),
        ("CephFS", volumes, volume(json!({"cephfs": {"monitors": ["m"], "secretRef": reference}}))),
        ("RBD", volumes, volume(json!({"rbd": {"monitors": ["m"], "image": "i", "secretRef": reference}}))),
        (
            "iSCSI",
            volumes,
            volume(
                json!({"iscsi": {"targetPortal": "10.0.0.1:3260", "iqn": "iqn.2001-04.com.example:a", "lun": 0, "secretRef": reference}}),
            ),
        ),
        (
            "ScaleIO",
            volumes,
            volume(json!({"scaleIO": {"gateway": "g", "system": "s", "volumeName": "v", "secretRef": reference}})),
        ),
        ("StorageOS", volumes, volume(json!({"storageos": {"volumeName": "v", "secretRef": reference}}))),
        (
            "an image pull",
            "a run Secret is not for image pulls",
            set(&plain(), "/spec/imagePullSecrets", json!([{"name": secret}])),
        ),
    ]
}

#[tokio::test]
async fn nobody_else_makes_a_pod_that_names_a_run_secret() -> Result<()> {
    let world = World::new().await?;
    let mut verdict = Verdict::default();
    let path = world.core("pods?dryRun=All");
    for (who, client) in [("a member", &world.member), ("a lord", &world.lord), ("an admin", &world.admin)] {
        for (what, rule, pod) in naming(RUN) {
            verdict.refused(&format!("{who}: {what}"), &post(client, &path, &pod).await?, NAMING, rule);
        }
        for (what, _, pod) in naming("mine") {
            verdict.code(&format!("{who}: {what} with another Secret"), &post(client, &path, &pod).await?, 201);
        }
        for (what, metadata) in
            [("the name", json!({"name": RUN})), ("a generated name", json!({"generateName": "daypass-run-x-"}))]
        {
            let answer = post(client, &path, &set(&plain(), "/metadata", metadata)).await?;
            let rule = "Pods with names that begin with daypass-run- are Daypass's";
            verdict.refused(&format!("{who}: {what}"), &answer, "daypass-reserve-run-pods", rule);
        }
    }
    verdict.end();
    Ok(())
}

/// What controllers make is refused as the Pod that it is.
#[tokio::test]
async fn no_controller_is_a_hand_to_a_run_secret() -> Result<()> {
    let world = World::new().await?;
    let mut verdict = Verdict::default();
    let spec = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i", "env": variable(RUN)}]});
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "hand"}, "spec": {"template": {"spec": spec}},
    });
    let jobs = format!("/apis/batch/v1/namespaces/{}/jobs", world.home);
    verdict.code("a Job", &post(&world.member, &jobs, &job).await?, 201);
    let spec = set(&spec, "/restartPolicy", json!("Always"));
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "hand"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": spec}},
    });
    let deployments = format!("/apis/apps/v1/namespaces/{}/deployments", world.home);
    verdict.code("a Deployment", &post(&world.member, &deployments, &deployment).await?, 201);
    for kind in ["Job", "ReplicaSet"] {
        poll(SOON, &format!("the {kind}'s Pod is refused"), async || {
            let events = get(&world.admin, &world.core("events")).await?;
            let refused = events.body["items"].as_array().into_iter().flatten().any(|event| {
                event["involvedObject"]["kind"] == kind
                    && event["reason"] == "FailedCreate"
                    && event["message"].as_str().is_some_and(|message| message.contains(NAMING))
            });
            ensure!(refused, "no such event");
            Ok(())
        })
        .await?;
    }
    let pods = get(&world.admin, &world.core("pods")).await?;
    ensure!(pods.body["items"].as_array().is_some_and(Vec::is_empty), "a Pod was made");
    verdict.end();
    Ok(())
}

#[tokio::test]
async fn the_pod_of_a_run_is_fixed() -> Result<()> {
    let world = World::new().await?;
    let mut verdict = Verdict::default();
    world.start_run().await?;
    let pod = world.core(&format!("pods/{RUN}"));
    let status = format!("{pod}/status");
    let annotations = "the annotations daypass.dev/... of a run's Pod may not be changed";
    let labels = "the labels daypass.dev/... of a run's Pod may not be changed";
    let metadata = |field: &str, key: &str, value: Value| json!({"metadata": {field: {key: value}}});
    for (who, client) in [("a lord", &world.lord), ("an admin", &world.admin)] {
        for (what, path, change, rule) in [
            (
                "the image",
                &pod,
                json!({"spec": {"containers": [{"name": "main", "image": "example.com/other:1", "env": world.pod()["spec"]["containers"][0]["env"]}]}}),
                "the image of a run's Pod may not be changed",
            ),
            ("an annotation", &pod, metadata("annotations", "daypass.dev/versions", json!("[2]")), annotations),
            ("no annotation", &pod, metadata("annotations", "daypass.dev/versions", Value::Null), annotations),
            ("a new annotation", &pod, metadata("annotations", "daypass.dev/x", json!("y")), annotations),
            ("all annotations", &pod, json!({"metadata": {"annotations": null}}), annotations),
            (
                "an annotation by the status",
                &status,
                metadata("annotations", "daypass.dev/versions", json!("[2]")),
                annotations,
            ),
            ("a label", &pod, metadata("labels", "daypass.dev/run", json!("other")), labels),
            ("no label", &pod, metadata("labels", "daypass.dev/run", Value::Null), labels),
            ("a label by the status", &status, metadata("labels", "daypass.dev/sandbox", json!("other")), labels),
            (
                "no owner",
                &pod,
                json!({"metadata": {"ownerReferences": null}}),
                "the owner of a run's Pod may not be changed",
            ),
        ] {
            let answer = patch(client, path, &change).await?;
            verdict.refused(&format!("{who}: {what}"), &answer, FIXED, rule);
        }
        let answer = patch(client, &pod, &metadata("labels", "team", json!("b"))).await?;
        verdict.code(&format!("{who}: another label"), &answer, 200);
        let answer = patch(client, &pod, &metadata("annotations", "note", Value::Null)).await?;
        verdict.code(&format!("{who}: another annotation"), &answer, 200);
        let answer = patch(client, &status, &json!({"status": {"phase": "Pending", "message": "waits"}})).await?;
        verdict.code(&format!("{who}: the status"), &answer, 200);
    }
    let binding = |annotations: Value| {
        json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": RUN, "annotations": annotations},
            "target": {"kind": "Node", "name": "n"},
        })
    };
    let mine = binding(json!({"daypass.dev/versions": "[2]"}));
    let rule = "a binding may not change the annotations and labels";
    verdict.refused("a binding", &post(&world.lord, &format!("{pod}/binding"), &mine).await?, BOUND, rule);
    verdict.refused("a binding, the old way", &post(&world.lord, &world.core("bindings"), &mine).await?, BOUND, rule);
    let answer = post(&world.lord, &format!("{pod}/binding"), &binding(json!({}))).await?;
    verdict.code("a scheduler's binding", &answer, 201);
    verdict.code(
        "a member deletes it",
        &delete(&world.member, &format!("{pod}?gracePeriodSeconds=0"), None).await?,
        200,
    );
    verdict.end();
    Ok(())
}

#[tokio::test]
async fn a_label_keeps_people_out_of_runs() -> Result<()> {
    let world = World::new().await?;
    let mut verdict = Verdict::default();
    world.start_run().await?;
    verdict.code("mine", &post(&world.member, &world.core("pods"), &plain()).await?, 201);
    let roads = ["exec?command=sh", "attach", "portforward?ports=80", "proxy/"];
    let debug = |env: Value| json!({"spec": {"ephemeralContainers": [{"name": "d", "image": "i", "env": env}]}});
    let run_debug = world.core(&format!("pods/{RUN}/ephemeralcontainers?dryRun=All"));
    let mine_debug = world.core("pods/mine/ephemeralcontainers?dryRun=All");

    // Without the label: a run's Secret is for no ephemeral container, but all else is people's own affair.
    for road in roads {
        let answer = ask(&world.member, Method::POST, &world.core(&format!("pods/{RUN}/{road}")), None).await?;
        ensure!(!answer.message().contains(EXEC), "{road}: {}", answer.message());
        // No node runs it, so it gets no further than admission.
        ensure!(answer.code != 403 && answer.code != 200, "{road}: {} {}", answer.code, answer.message());
    }
    verdict.code("debug", &patch(&world.lord, &run_debug, &debug(json!([]))).await?, 200);
    for path in [&run_debug, &mine_debug] {
        let answer = patch(&world.lord, path, &debug(variable(RUN))).await?;
        verdict.refused("debug with a run's Secret", &answer, NAMING, "a run Secret is not for ephemeral containers");
        let answer = patch(&world.lord, path, &debug(variable("mine"))).await?;
        verdict.code("debug with another Secret", &answer, 200);
    }

    let label = json!({"metadata": {"labels": {"daypass.dev/exec": "deny"}}});
    verdict.code("the label", &patch(&world.admin, &format!("/api/v1/namespaces/{}", world.home), &label).await?, 200);
    poll(SOON, "the label is seen", async || {
        let answer = patch(&world.lord, &run_debug, &debug(json!([]))).await?;
        ensure!(answer.code == 403, "{}", answer.code);
        Ok(())
    })
    .await?;
    let rule = "this namespace has the label daypass.dev/exec=deny";
    for (who, client) in [("a member", &world.member), ("a lord", &world.lord), ("an admin", &world.admin)] {
        for road in roads {
            for method in [Method::GET, Method::POST] {
                let answer = ask(client, method, &world.core(&format!("pods/{RUN}/{road}")), None).await?;
                verdict.refused(&format!("{who}: {road}"), &answer, EXEC, rule);
            }
            let answer = ask(client, Method::POST, &world.core(&format!("pods/mine/{road}")), None).await?;
            ensure!(!answer.message().contains(EXEC), "{who}: {road}: {}", answer.message());
        }
        // A member needs patch on pods/ephemeralcontainers, which `edit` does not hold.
        if who != "a member" {
            verdict.refused(&format!("{who}: debug"), &patch(client, &run_debug, &debug(json!([]))).await?, EXEC, rule);
            verdict.code(&format!("{who}: debug mine"), &patch(client, &mine_debug, &debug(json!([]))).await?, 200);
        }
    }
    verdict.end();
    Ok(())
}
