//! The Pod of a run, and the shape of its Secret.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;
use crate::api::SandboxSpec;
use crate::run::{PodDefaults, PodExtras, PodInput, run_pod, run_secret};

/// The Pod of a Sandbox with this spec, of which every secret has version 3.
fn pod_of(spec: Value) -> Value {
    let versions = |run: &Run| vec![Some("3".to_owned()); run.references.len()];
    pod_with(spec, versions)
}

fn pod_with(spec: Value, versions: impl Fn(&Run) -> Vec<Option<String>>) -> Value {
    serde_json::to_value(typed_pod(spec, versions)).unwrap()
}

fn typed_pod(spec: Value, versions: impl Fn(&Run) -> Vec<Option<String>>) -> Pod {
    let spec: SandboxSpec = serde_json::from_value(spec).unwrap();
    let run = Run {
        references: spec.secrets.clone(),
        delivery: spec.delivery(),
        service_account: spec.service_account().into(),
        ..run()
    };
    let input = PodInput {
        spec: &spec,
        defaults: &PodDefaults::default(),
        versions: &versions(&run),
        injected: (!run.references.is_empty()).then(|| t(1) + SignedDuration::from_micros(234_567)),
        extras: &PodExtras::of_sandbox("demo"),
    };
    run_pod(&run, &input)
}

fn env_names(pod: &Value) -> Vec<&str> {
    let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    env.iter().map(|variable| variable["name"].as_str().unwrap()).collect()
}

fn owner() -> Value {
    json!([{
        "apiVersion": "daypass.dev/v1alpha1", "kind": "Sandbox", "name": "demo", "uid": "uid-1",
        "controller": true, "blockOwnerDeletion": true,
    }])
}

#[test]
fn the_least_sandbox_makes_a_restricted_pod() {
    let expected = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": run().name,
            "namespace": "research",
            "labels": {
                "app.kubernetes.io/managed-by": "daypass",
                "daypass.dev/run": run().name,
                "daypass.dev/sandbox": "demo",
            },
            "annotations": {},
            "ownerReferences": owner(),
        },
        "spec": {
            "containers": [{
                "name": "main",
                "image": PodDefaults::default().image,
                "command": ["sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done"],
                "workingDir": "/workspace",
                "env": [{"name": "HOME", "value": "/workspace"}],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "terminationMessagePolicy": "File",
                "volumeMounts": [{"name": "workspace", "mountPath": "/workspace"}],
            }],
            "volumes": [{"name": "workspace", "emptyDir": {}}],
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "serviceAccountName": "default",
            "activeDeadlineSeconds": 3600,
            "terminationGracePeriodSeconds": 10,
            "securityContext": {
                "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532, "runAsNonRoot": true,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        },
    });
    assert_eq!(pod_of(json!({})), expected);
}

#[test]
fn a_security_context_changes_what_it_names() {
    let security = |context: Value| {
        let pod = pod_of(json!({"securityContext": context}));
        (pod["spec"]["securityContext"].clone(), pod["spec"]["containers"][0]["securityContext"].clone())
    };
    let (pod, _) = security(json!({"runAsUser": 0}));
    assert_eq!(pod["runAsUser"], 0);
    assert_eq!(pod["runAsNonRoot"], false, "or the kubelet would refuse what was asked for");
    let (pod, _) = security(json!({"runAsUser": 1000, "runAsGroup": 100, "fsGroup": 5, "supplementalGroups": [7]}));
    assert_eq!(
        pod,
        json!({"runAsUser": 1000, "runAsGroup": 100, "fsGroup": 5, "supplementalGroups": [7], "runAsNonRoot": true,
            "seccompProfile": {"type": "RuntimeDefault"}})
    );
    let (pod, container) = security(json!({
        "seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"},
        "capabilities": {"drop": ["NET_RAW"]}, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": true,
    }));
    assert_eq!(pod["seccompProfile"], json!({"type": "Localhost", "localhostProfile": "a.json"}));
    assert_eq!(
        container,
        json!({"allowPrivilegeEscalation": true, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["NET_RAW"]}})
    );
}

#[test]
fn the_defaults_are_the_cluster_admins() {
    let defaults = PodDefaults { image: "own:1".into(), run_as_user: 0, run_as_group: 2, fs_group: 3 };
    let spec = SandboxSpec::default();
    let extras = PodExtras::of_sandbox("demo");
    let input = PodInput { spec: &spec, defaults: &defaults, versions: &[], injected: None, extras: &extras };
    let pod = serde_json::to_value(run_pod(&Run { references: Vec::new(), ..run() }, &input)).unwrap();
    assert_eq!(pod["spec"]["containers"][0]["image"], "own:1");
    let security = &pod["spec"]["securityContext"];
    assert_eq!((&security["runAsUser"], &security["runAsNonRoot"]), (&json!(0), &json!(false)));
    assert_eq!((&security["runAsGroup"], &security["fsGroup"]), (&json!(2), &json!(3)));
}

#[test]
fn a_sandbox_stays_up_only_where_nothing_is_to_be_run() {
    let rows = [
        (json!({}), true, Value::Null),
        (json!({"command": ["true"]}), false, json!(["true"])),
        (json!({"args": ["-v"]}), false, Value::Null),
    ];
    for (spec, keeps_alive, command) in rows {
        let container = pod_of(spec.clone())["spec"]["containers"][0].clone();
        if keeps_alive {
            assert_eq!(container["command"][0], "sh", "{spec}");
        } else {
            assert_eq!(container["command"], command, "{spec}");
        }
        assert_eq!(container["args"], spec.get("args").cloned().unwrap_or_default(), "{spec}");
    }
}

#[test]
fn secrets_come_as_variables_before_the_plain_ones() {
    let spec = json!({
        "secrets": [{"name": "API_KEY"}, {"name": "2CAPTCHA", "envVar": "CAPTCHA"}, {"name": "EXTRA", "optional": true}],
        "env": [{"name": "URL", "value": "https://$(API_KEY)@host"}, {"name": "EMPTY"}],
    });
    let pod = pod_with(spec, |_| vec![Some("3".into()), Some("9".into()), None]);
    assert_eq!(env_names(&pod), ["HOME", "API_KEY", "CAPTCHA", "URL", "EMPTY"]);
    assert_eq!(
        pod["spec"]["containers"][0]["env"][2],
        json!({"name": "CAPTCHA", "valueFrom": {"secretKeyRef": {
            "name": run().name, "key": "CAPTCHA", "optional": false}}})
    );
    let own_home = pod_of(json!({"env": [{"name": "HOME", "value": "/root"}], "workingDir": "/srv"}));
    assert_eq!(env_names(&own_home), ["HOME"]);
    assert_eq!(own_home["spec"]["containers"][0]["env"][0]["value"], "/root");
    assert_eq!(own_home["spec"]["containers"][0]["workingDir"], "/srv");
}

#[test]
fn files_of_secrets_are_readable_by_the_group_alone() {
    let pod = pod_of(json!({"secrets": [{"name": "API_KEY"}], "delivery": "File"}));
    assert_eq!(env_names(&pod), ["HOME"]);
    assert_eq!(
        pod["spec"]["volumes"][1],
        json!({"name": "secrets", "secret": {"secretName": run().name, "defaultMode": 0o440, "optional": false}})
    );
    assert_eq!(
        pod["spec"]["containers"][0]["volumeMounts"][1],
        json!({"name": "secrets", "mountPath": "/run/daypass", "readOnly": true})
    );
    let none = pod_of(json!({"delivery": "File"}));
    assert_eq!(none["spec"]["volumes"].as_array().unwrap().len(), 1, "no secrets, no folder");
}

#[test]
fn literal_files_travel_as_annotations() {
    let pod = pod_of(json!({"files": [
        {"path": "/etc/app.toml", "content": "a = 1\n"}, {"path": "/srv/run.sh", "content": "", "mode": 365},
    ]}));
    assert_eq!(pod["metadata"]["annotations"], json!({"daypass.dev/file-0": "a = 1\n", "daypass.dev/file-1": ""}));
    let item = |index: usize, mode: i32| {
        json!({"path": index.to_string(), "mode": mode,
            "fieldRef": {"fieldPath": format!("metadata.annotations['daypass.dev/file-{index}']")}})
    };
    assert_eq!(
        pod["spec"]["volumes"][1],
        json!({"name": "files", "downwardAPI": {"items": [item(0, 0o444), item(1, 0o555)]}})
    );
    assert_eq!(
        pod["spec"]["containers"][0]["volumeMounts"].as_array().unwrap()[1..],
        [
            json!({"name": "files", "mountPath": "/etc/app.toml", "subPath": "0", "readOnly": true}),
            json!({"name": "files", "mountPath": "/srv/run.sh", "subPath": "1", "readOnly": true}),
        ]
    );
}

#[test]
fn what_the_operator_reads_back_is_its_own_word() {
    let pod = pod_of(json!({
        "secrets": [],
        "podMetadata": {
            "labels": {"app": "x", "daypass.dev/run": "other", "daypass.dev/more": "x", "app.kubernetes.io/managed-by": "x"},
            "annotations": {"note": "x", "daypass.dev/secrets": "[]", "a.daypass.dev/b": "x", "notdaypass.dev/c": "x"},
        },
    }));
    assert_eq!(
        pod["metadata"]["labels"],
        json!({"app": "x", "app.kubernetes.io/managed-by": "daypass", "daypass.dev/run": run().name,
            "daypass.dev/sandbox": "demo"})
    );
    assert_eq!(pod["metadata"]["annotations"], json!({"note": "x", "notdaypass.dev/c": "x"}));
}

#[test]
fn a_long_name_fits_its_label() {
    let spec = SandboxSpec::default();
    let extras = PodExtras::of_sandbox(&format!("{}.{}", "a".repeat(62), "b".repeat(100)));
    let defaults = PodDefaults::default();
    let input = PodInput { spec: &spec, defaults: &defaults, versions: &[], injected: None, extras: &extras };
    let labels = run_pod(&run(), &input).metadata.labels.unwrap();
    assert_eq!(labels["daypass.dev/sandbox"], "a".repeat(62));
}

#[test]
fn the_largest_files_and_references_fit_a_pod() {
    let secrets: Vec<Value> = (0..12)
        .map(|n| json!({"team": "t".repeat(63), "name": format!("{n:0>128}"), "envVar": format!("V{n:0>127}"), "store": "s".repeat(63)}))
        .collect();
    let files: Vec<Value> =
        (0..16).map(|n| json!({"path": format!("/f{n}"), "content": "x".repeat(204_800 / 16)})).collect();
    let pod = typed_pod(json!({"secrets": secrets, "files": files}), |_| vec![Some("v".repeat(256)); 12]);
    let size: usize = pod.metadata.annotations.unwrap().iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!(size <= 256 * 1024, "{size} bytes of annotations are refused");
}

#[test]
fn the_pod_goes_where_it_was_sent() {
    let pod = pod_of(json!({
        "serviceAccountName": "trainer",
        "runtimeClassName": "gvisor",
        "nodeSelector": {"gpu": "a100"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "imagePullSecrets": [{"name": "registry"}],
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"nvidia.com/gpu": 1}},
    }));
    let spec = &pod["spec"];
    assert_eq!(spec["serviceAccountName"], "trainer");
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["runtimeClassName"], "gvisor");
    assert_eq!(spec["nodeSelector"], json!({"gpu": "a100"}));
    assert_eq!(spec["tolerations"], json!([{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]));
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "registry"}]));
    assert_eq!(
        spec["containers"][0]["resources"],
        json!({"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"nvidia.com/gpu": "1"}})
    );
}

#[test]
fn names_are_not_looked_up_where_nothing_can_answer() {
    let rows = [
        (json!({"denyEgress": true}), json!("None")),
        (json!({"denyEgress": true, "egress": [{"cidr": "10.0.0.0/8"}]}), Value::Null),
        (json!({"denyIngress": true}), Value::Null),
    ];
    for (network, policy) in rows {
        assert_eq!(pod_of(json!({"network": network.clone()}))["spec"]["dnsPolicy"], policy, "{network}");
    }
}

#[test]
fn the_secret_is_made_without_its_values() {
    assert_eq!(
        run_secret(&run()),
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "daypass.dev/run", "immutable": true,
            "metadata": {"name": run().name, "namespace": "research", "ownerReferences": owner()},
        })
    );
}

#[test]
fn a_pod_tells_what_it_was_made_with() {
    let spec = json!({"secrets": [{"name": "API_KEY"}, {"name": "EXTRA", "team": "ops", "store": "vault"}]});
    let pod = typed_pod(spec, |_| vec![Some("3".into()), None]);
    let view = PodView::of(&pod);
    assert_eq!(view.versions, Some(vec![Some("3".into()), None]));
    assert_eq!(view.injected, Some(t(1) + SignedDuration::from_micros(234_567)));
    let told: Value = serde_json::from_str(&pod.metadata.annotations.unwrap()["daypass.dev/secrets"]).unwrap();
    assert_eq!(
        told,
        json!([
            {"team": "research", "name": "API_KEY", "store": "default", "envVar": "API_KEY", "version": "3"},
            {"team": "ops", "name": "EXTRA", "store": "vault", "envVar": "EXTRA"},
        ])
    );
}
