//! The operator's box for Pods.

use anyhow::Result;
use serde_json::{Value, json};

use super::{RUN, World, set};
use crate::ask::{Verdict, delete, post};

const BOX: &str = "daypass-operator-pods";

#[tokio::test]
async fn the_operator_makes_pods_of_runs_only() -> Result<()> {
    let world = World::new().await?;
    let mut verdict = Verdict::default();
    let good = world.pod();
    let path = world.core("pods?dryRun=All");
    let volume = |volume: Value| set(&good, "/spec/volumes", json!([volume]));
    let env = |from: Value| set(&good, "/spec/containers/0/env", json!([{"name": "V", "valueFrom": from}]));
    let container = |field: &str, value: Value| set(&good, &format!("/spec/containers/0/{field}"), value);
    let init = |field: &str, value: Value| {
        let pod = set(&good, "/spec/initContainers", json!([{"name": "init", "image": "i"}]));
        set(&pod, &format!("/spec/initContainers/0/{field}"), value)
    };
    let foreign = json!([{"name": "V", "valueFrom": {"secretKeyRef": {"name": "foreign", "key": "k"}}}]);
    let other_run = json!([{"name": "V", "valueFrom": {"secretKeyRef": {"name": format!("{RUN}x"), "key": "k"}}}]);
    let projected = |source: Value| volume(json!({"name": "v", "projected": {"sources": [source]}}));

    for (case, pod) in [
        ("variables from its Secret", good.clone()),
        ("files from its Secret", volume(json!({"name": "v", "secret": {"secretName": RUN, "defaultMode": 288}}))),
        ("an emptyDir", volume(json!({"name": "v", "emptyDir": {"medium": "Memory"}}))),
        ("a claim", volume(json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}}))),
        (
            "annotations as files",
            volume(
                json!({"name": "v", "downwardAPI": {"items": [{"path": "f", "fieldRef": {"fieldPath": "metadata.annotations['daypass.dev/x']"}}]}}),
            ),
        ),
        ("a variable from a field", env(json!({"fieldRef": {"fieldPath": "metadata.name"}}))),
        ("a variable from a resource", env(json!({"resourceFieldRef": {"resource": "limits.cpu"}}))),
        ("a private image", set(&good, "/spec/imagePullSecrets", json!([{"name": "registry"}]))),
        ("an EvalJob's", set(&good, "/metadata/ownerReferences/0/kind", json!("EvalJob"))),
        ("an init container", init("env", json!([{"name": "A", "value": "b"}]))),
        ("a port", container("ports", json!([{"containerPort": 80}]))),
    ] {
        verdict.code(case, &post(&world.operator, &path, &pod).await?, 201);
    }

    let owned = "the operator makes Pods named daypass-run-... only";
    let variables = "a run's Pod takes variables from its own run Secret only";
    let volumes = "volumes of a run's Pod";
    let token = "a run's Pod has no service account token";
    let host = "a run's Pod has no access to its host";
    for (case, rule, pod) in [
        ("another name", owned, set(&good, "/metadata/name", json!("other"))),
        ("no owner", owned, set(&good, "/metadata/ownerReferences", Value::Null)),
        (
            "a Job's",
            owned,
            set(
                &set(&good, "/metadata/ownerReferences/0/kind", json!("Job")),
                "/metadata/ownerReferences/0/apiVersion",
                json!("batch/v1"),
            ),
        ),
        ("not controlled", owned, set(&good, "/metadata/ownerReferences/0/controller", json!(false))),
        ("a foreign Secret", variables, container("env", foreign.clone())),
        ("a foreign Secret in an init container", variables, init("env", foreign)),
        ("another run's Secret", variables, container("env", other_run)),
        ("all of a Secret", variables, container("envFrom", json!([{"secretRef": {"name": RUN}}]))),
        ("all of a ConfigMap", variables, container("envFrom", json!([{"configMapRef": {"name": "c"}}]))),
        ("a ConfigMap's key", variables, env(json!({"configMapKeyRef": {"name": "c", "key": "k"}}))),
        ("a foreign Secret's files", volumes, volume(json!({"name": "v", "secret": {"secretName": "foreign"}}))),
        ("another run's files", volumes, volume(json!({"name": "v", "secret": {"secretName": format!("{RUN}x")}}))),
        ("a ConfigMap's files", volumes, volume(json!({"name": "v", "configMap": {"name": "c"}}))),
        ("a projected Secret", volumes, projected(json!({"secret": {"name": "foreign"}}))),
        ("its own Secret, projected", volumes, projected(json!({"secret": {"name": RUN}}))),
        ("the host's files", volumes, volume(json!({"name": "v", "hostPath": {"path": "/"}}))),
        (
            "a driver's files",
            volumes,
            volume(json!({"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "foreign"}}})),
        ),
        ("an NFS server's files", volumes, volume(json!({"name": "v", "nfs": {"server": "s", "path": "/"}}))),
        ("a token", token, set(&good, "/spec/automountServiceAccountToken", json!(true))),
        ("a token unless said", token, set(&good, "/spec/automountServiceAccountToken", Value::Null)),
        ("a projected token", token, projected(json!({"serviceAccountToken": {"path": "t"}}))),
        (
            "a token of another audience",
            token,
            projected(json!({"serviceAccountToken": {"path": "t", "audience": "sts.amazonaws.com"}})),
        ),
        ("a node", host, set(&good, "/spec/nodeName", json!("n"))),
        ("the host's network", host, set(&good, "/spec/hostNetwork", json!(true))),
        ("the host's processes", host, set(&good, "/spec/hostPID", json!(true))),
        ("the host's IPC", host, set(&good, "/spec/hostIPC", json!(true))),
        ("a port of the host", host, container("ports", json!([{"containerPort": 80, "hostPort": 80}]))),
        ("privilege", host, container("securityContext", json!({"privileged": true}))),
        ("privilege in an init container", host, init("securityContext", json!({"privileged": true}))),
        ("restarts", "a run's Pod never restarts", set(&good, "/spec/restartPolicy", json!("OnFailure"))),
        ("restarts unless said", "a run's Pod never restarts", set(&good, "/spec/restartPolicy", Value::Null)),
    ] {
        verdict.refused(case, &post(&world.operator, &path, &pod).await?, BOX, rule);
    }
    verdict.end();
    Ok(())
}

#[tokio::test]
async fn the_operator_deletes_pods_of_runs_only() -> Result<()> {
    let world = World::new().await?;
    let mut verdict = Verdict::default();
    let foreign = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "foreign"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    verdict.code("foreign", &post(&world.member, &world.core("pods"), &foreign).await?, 201);
    world.start_run().await?;
    let answer = delete(&world.operator, &world.core("pods/foreign"), None).await?;
    verdict.refused("foreign", &answer, BOX, "the operator deletes the Pods of runs only");
    let run = world.core(&format!("pods/{RUN}"));
    verdict.code("a run's", &delete(&world.operator, &run, None).await?, 200);
    verdict.end();
    Ok(())
}
