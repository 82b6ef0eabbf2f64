//! A control plane starts, serves, tells in its audit log who asked for what, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "helpers of tests too")]

use std::process::{Command, Stdio};
use std::time::Duration;

use daypass_testcluster::{Cluster, Options, poll};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

#[tokio::test]
async fn the_audit_log_tells_who_asked() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("audit").await.unwrap();
    let mark = cluster.audit().mark().unwrap();

    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "seen"}})).unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let admin = Api::<ConfigMap>::namespaced(cluster.admin().unwrap(), &namespace);
    admin.create(&dry, &map).await.unwrap();
    admin.create(&PostParams::default(), &map).await.unwrap();
    admin.delete("seen", &DeleteParams::default()).await.unwrap();
    let member = cluster.client_as("member", &["team"]).unwrap();
    let refused = Api::<Secret>::namespaced(member, &namespace).list(&ListParams::default()).await.unwrap_err();
    assert!(refused.to_string().contains("forbidden"), "{refused}");

    cluster.audit_settled().await.unwrap();
    let entries = cluster.audit().since(mark).unwrap();
    let ours: Vec<_> = entries.iter().filter(|entry| entry.namespace == namespace).collect();
    let writes: Vec<_> = ours.iter().filter(|entry| entry.user == "admin" && entry.is_write()).collect();
    let seen: Vec<_> = writes.iter().map(|entry| (entry.verb.as_str(), entry.resource.as_str(), entry.code)).collect();
    assert_eq!(seen, [("create", "configmaps", 201), ("delete", "configmaps", 200)]);
    assert_eq!(ours.iter().filter(|entry| entry.dry_run).count(), 1);
    let list = ours.iter().find(|entry| entry.user == "member").unwrap();
    assert_eq!((list.verb.as_str(), list.resource.as_str(), list.code), ("list", "secrets", 403));
    assert!(list.groups.contains(&"team".to_owned()));
}

#[tokio::test]
async fn the_dump_of_etcd_holds_what_was_stored() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("stored").await.unwrap();
    let map = json!({"metadata": {"name": "kept"}, "data": {"key": "a-value-to-find"}});
    let maps = Api::<ConfigMap>::namespaced(cluster.admin().unwrap(), &namespace);
    maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();

    let dump = cluster.etcd_dump().await.unwrap();
    let key = format!("/registry/configmaps/{namespace}/kept");
    let entry = dump.iter().find(|entry| entry.key.0 == key.as_bytes()).unwrap();
    assert!(String::from_utf8_lossy(&entry.value.0).contains("a-value-to-find"));
    let keys: std::collections::HashSet<_> = dump.iter().map(|entry| &entry.key.0).collect();
    assert!(keys.len() == dump.len() && keys.len() > 200, "several pages, nothing twice: {}", dump.len());
}

#[tokio::test]
async fn a_process_is_watched_and_killed() {
    let cluster = Cluster::shared().await.unwrap();
    let shell = |script: &str| ["/bin/sh", "-c", script].map(str::to_owned);
    let pid = cluster.start_process("greeter", &shell("echo hello $WHO; exec sleep 1000"), &[("WHO", "you")]).unwrap();
    poll(Duration::from_secs(10), "it has said hello", async || {
        let log = std::fs::read_to_string(cluster.log("greeter"))?;
        anyhow::ensure!(log == "hello you\n", "{log}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(cluster.end_of("greeter").unwrap(), None);
    cluster.kill_part("greeter").unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());

    cluster.start_process("quitter", &shell("exit 7"), &[]).unwrap();
    poll(Duration::from_secs(10), "the other one has ended", async || {
        let end = cluster.end_of("quitter")?.ok_or_else(|| anyhow::anyhow!("it runs"))?;
        anyhow::ensure!(end == "exit code 7", "{end}");
        Ok(())
    })
    .await
    .unwrap();
    cluster.kill_part("quitter").unwrap();
}

#[tokio::test]
async fn a_service_account_signs_in() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("token").await.unwrap();
    let token = cluster.service_account_token(&namespace, "default").await.unwrap();
    let file = cluster.kubeconfig_for_token("default", &token).unwrap();
    let answer = cluster.kubectl_command().env("KUBECONFIG", file).args(["auth", "whoami"]).output().unwrap();
    let text = String::from_utf8_lossy(&answer.stdout);
    assert!(text.contains(&format!("system:serviceaccount:{namespace}:default")), "{answer:?}");
}

#[tokio::test]
async fn helm_talks_to_the_cluster() {
    let cluster = Cluster::shared().await.unwrap();
    let answer = cluster.helm(&["list", "--all-namespaces", "--output", "json"]).unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "[]");
}

#[tokio::test]
async fn a_flag_that_is_unknown_is_named() {
    let options = Options { apiserver_flags: vec!["--no-such-flag".to_owned()], ..Options::default() };
    let message = format!("{:#}", Cluster::start(options).await.unwrap_err());
    assert!(message.contains("kube-apiserver ended while the cluster started"), "{message}");
    assert!(message.contains("unknown flag: --no-such-flag"), "{message}");
}

#[tokio::test]
async fn stopping_removes_everything() {
    let cluster = Cluster::start(Options::control_plane()).await.unwrap();
    let state = cluster.state().to_owned();
    assert!(!processes_that_name(&state.display().to_string()).is_empty());
    cluster.stop().unwrap();
    assert!(!state.exists());
    assert_eq!(processes_that_name(&state.display().to_string()), Vec::<String>::new());
}

/// The child of the tests below: starts a cluster, tells where, and waits to be killed.
#[tokio::test]
#[ignore = "runs as a child of the tests of sudden deaths"]
async fn hold_a_cluster() {
    let Some(report) = std::env::var_os("DAYPASS_TEST_REPORT") else {
        return;
    };
    let cluster = Cluster::start(Options::control_plane()).await.unwrap();
    let unfinished = std::path::Path::new(&report).with_extension("part");
    std::fs::write(&unfinished, cluster.state().as_os_str().as_encoded_bytes()).unwrap();
    std::fs::rename(unfinished, report).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn killing_the_owner_ends_the_cluster() {
    let (mut owner, state) = cluster_of_a_child().await;
    owner.kill().unwrap();
    owner.wait().unwrap();
    poll(Duration::from_secs(20), "the orphaned cluster is gone", async || {
        let alive = processes_that_name(&state);
        anyhow::ensure!(alive.is_empty(), "alive: {alive:?}");
        anyhow::ensure!(!std::path::Path::new(&state).exists(), "its state is still there");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_next_start_cleans_up_after_a_killed_supervisor() {
    let (mut owner, state) = cluster_of_a_child().await;
    let processes = std::fs::read_to_string(format!("{state}/processes")).unwrap();
    let supervisor: serde_json::Value = serde_json::from_str(processes.lines().next().unwrap()).unwrap();
    let killed = Command::new("kill").args(["-9", &supervisor["pid"].to_string()]).status().unwrap();
    assert!(killed.success());
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(std::path::Path::new(&state).exists(), "nobody was left to clean");

    Cluster::start(Options::control_plane()).await.unwrap().stop().unwrap();
    assert!(!std::path::Path::new(&state).exists());
    assert_eq!(processes_that_name(&state), Vec::<String>::new());
}

async fn cluster_of_a_child() -> (std::process::Child, String) {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("state");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "hold_a_cluster"])
        .env("DAYPASS_TEST_REPORT", &report)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let state = poll(Duration::from_mins(2), "the child's cluster is up", async || {
        anyhow::ensure!(child.try_wait()?.is_none(), "the child has ended");
        Ok(std::fs::read_to_string(&report)?)
    });
    let state = state.await.unwrap();
    (child, state)
}

/// Command lines of all processes that name a path.
fn processes_that_name(path: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).filter(|line| line.contains(path)).collect()
}
