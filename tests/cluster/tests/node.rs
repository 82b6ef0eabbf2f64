//! A node runs containers from images made here, reaches the API server from inside a Pod, and leaves nothing behind.
//! Needs root.

#![allow(clippy::unwrap_used, reason = "helpers of tests too")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use daypass_testcluster::{Cluster, Image, Options, Tools, poll};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{LogParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::RwLock;

const START: Duration = Duration::from_mins(1);

/// The kubelet that all tests of the shared node ask. One test starts it anew, and until then it gives no log.
static KUBELET: RwLock<()> = RwLock::const_new(());

#[tokio::test]
async fn a_pod_runs_and_its_log_can_be_read() {
    let (cluster, namespace) = busybox("node").await;
    let pod = finished(
        cluster,
        &namespace,
        "hello",
        json!({"image": "daypass.test/busybox:1", "command": ["sh", "-c", "echo from $(id -un)"]}),
    )
    .await;
    assert_eq!(pod, "from root\n");
}

#[tokio::test]
async fn an_image_keeps_its_user_its_environment_and_its_folder() {
    let (cluster, namespace) = busybox("images").await;
    let image = Image::busybox("daypass.test/agent:1")
        .unwrap()
        .add_user("agent", 1000)
        .user("agent")
        .folder("/locked", 0o755, 0)
        .working_dir("/locked")
        .env("COLOR", "blue");
    cluster.load(&image).unwrap();
    let script = "echo $(id -u) $COLOR $PWD; touch here 2>/dev/null || echo not writable";
    let log =
        finished(cluster, &namespace, "agent", json!({"image": image.reference(), "command": ["sh", "-c", script]}));
    assert_eq!(log.await, "1000 blue /locked\nnot writable\n");
}

#[tokio::test]
async fn a_pod_reaches_the_api_server_and_may_be_entered() {
    let (cluster, namespace) = busybox("network").await;
    let pods = Api::<Pod>::namespaced(cluster.admin().unwrap(), &namespace);
    let mut pod = pod("inside", json!({"image": "daypass.test/busybox:1", "command": ["sleep", "1000"]}));
    let tools = Tools::ensure().unwrap().kubectl.parent().unwrap().to_owned();
    let spec = pod.spec.as_mut().unwrap();
    spec.volumes = serde_json::from_value(json!([{"name": "tools", "hostPath": {"path": tools}}])).unwrap();
    spec.containers[0].volume_mounts =
        serde_json::from_value(json!([{"name": "tools", "mountPath": "/tools", "readOnly": true}])).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    running(&pods, "inside").await;

    let _answers = KUBELET.read().await;
    // With the Pod's own token, and the certificate checked against the Pod's own CA.
    let answer =
        cluster.kubectl(&["exec", "-n", &namespace, "inside", "--", "/tools/kubectl", "auth", "whoami"]).unwrap();
    let text = String::from_utf8_lossy(&answer.stdout);
    assert!(text.contains(&format!("system:serviceaccount:{namespace}:default")), "{answer:?}");
    assert!(text.contains("inside"), "the token is bound to the Pod: {text}");
}

#[tokio::test]
async fn a_pod_reaches_a_server_on_the_host() {
    let (cluster, namespace) = busybox("host").await;
    let address = cluster.host_address().unwrap();
    let server = std::net::TcpListener::bind((address.as_str(), 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let greeter = std::thread::spawn(move || server.accept().unwrap().0.write_all(b"good day\n").unwrap());
    let command = json!(["nc", "-w", "10", address, port.to_string()]);
    let container = json!({"image": "daypass.test/busybox:1", "command": command});
    assert_eq!(finished(cluster, &namespace, "caller", container).await, "good day\n");
    greeter.join().unwrap();
}

#[tokio::test]
async fn containers_live_on_when_the_kubelet_starts_again() {
    let (cluster, namespace) = busybox("restart").await;
    let pods = Api::<Pod>::namespaced(cluster.admin().unwrap(), &namespace);
    // Each start of the container would say something else.
    let script = "cat /proc/sys/kernel/random/uuid; exec sleep 1000";
    let pod = pod("steady", json!({"image": "daypass.test/busybox:1", "command": ["sh", "-c", script]}));
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let before = running(&pods, "steady").await;
    let others_wait = KUBELET.write().await;
    let said = log(&pods, "steady").await;
    cluster.restart_kubelet().await.unwrap();
    assert_eq!(log(&pods, "steady").await, said);
    drop(others_wait);
    assert_eq!(running(&pods, "steady").await, before);
}

/// The child of the test below.
#[tokio::test]
#[ignore = "runs as a child of the test of a sudden death"]
async fn hold_a_node() {
    let Some(report) = std::env::var_os("DAYPASS_TEST_REPORT") else { return };
    let cluster = Cluster::start(Options::with_node()).await.unwrap();
    cluster.load(&Image::busybox("daypass.test/busybox:1").unwrap()).unwrap();
    let pods = Api::<Pod>::namespaced(cluster.admin().unwrap(), "default");
    let pod = pod("orphan", json!({"image": "daypass.test/busybox:1", "command": ["sleep", "1000"]}));
    pods.create(&PostParams::default(), &pod).await.unwrap();
    running(&pods, "orphan").await;
    let unfinished = Path::new(&report).with_extension("part");
    std::fs::write(&unfinished, cluster.state().as_os_str().as_encoded_bytes()).unwrap();
    std::fs::rename(unfinished, report).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn killing_the_owner_takes_containers_mounts_and_network_away() {
    let (mut owner, state, node) = node_of_a_child().await;
    owner.kill().unwrap();
    owner.wait().unwrap();
    poll(START, "the orphaned node is gone", async || nothing_left(&state, &node)).await.unwrap();
}

#[tokio::test]
async fn the_next_start_takes_away_what_a_killed_supervisor_left() {
    let (mut owner, state, node) = node_of_a_child().await;
    assert!(nothing_left(&state, &node).is_err(), "a node that runs leaves traces");
    let processes = std::fs::read_to_string(format!("{state}/processes")).unwrap();
    let supervisor: Value = serde_json::from_str(processes.lines().next().unwrap()).unwrap();
    let killed = Command::new("kill").args(["-9", &supervisor["pid"].to_string()]).status().unwrap();
    assert!(killed.success());
    owner.kill().unwrap();
    owner.wait().unwrap();
    // A killed process ends when the kernel comes to it. Until then it holds the lock that says it is alive.
    poll(START, "the killed supervisor has ended", async || {
        // Where it is gone altogether, another test's start was faster than this look.
        if Path::new(&state).exists() {
            std::fs::File::open(format!("{state}/lock"))?.try_lock_shared()?;
        }
        Ok(())
    })
    .await
    .unwrap();

    Cluster::start(Options::control_plane()).await.unwrap().stop().unwrap();
    nothing_left(&state, &node).unwrap();
}

async fn node_of_a_child() -> (std::process::Child, String, Value) {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("state");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "hold_a_node"])
        .env("DAYPASS_TEST_REPORT", &report)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let state = poll(Duration::from_mins(3), "the child's node runs a Pod", async || {
        ensure!(child.try_wait()?.is_none(), "the child has ended");
        Ok(std::fs::read_to_string(&report)?)
    });
    let state = state.await.unwrap();
    let node = serde_json::from_slice(&std::fs::read(format!("{state}/node.json")).unwrap()).unwrap();
    (child, state, node)
}

/// Looks everywhere where a node leaves traces.
fn nothing_left(state: &str, node: &Value) -> anyhow::Result<()> {
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        ensure!(!line.contains(state), "a process is alive: {line}");
        let groups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let group = node["network"]["cgroup"].as_str().context("no control group")?;
        ensure!(!groups.contains(group), "a process of a container is alive: {line}");
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains(state), "something is mounted");
    let bridge = node["network"]["bridge"].as_str().context("no bridge")?;
    ensure!(!Path::new("/sys/class/net").join(bridge).exists(), "the bridge is there");
    let rules = Command::new("iptables-save").args(["-t", "nat"]).output()?.stdout;
    ensure!(!String::from_utf8_lossy(&rules).contains(bridge), "the rule is there");
    for root in std::fs::read_dir("/sys/fs/cgroup")?.flatten() {
        let group = root.path().join(format!("daypass-{}", node["id"].as_str().unwrap_or_default()));
        ensure!(!group.exists(), "a control group is there: {}", group.display());
    }
    ensure!(!Path::new(state).exists(), "the state is there");
    Ok(())
}

async fn busybox(prefix: &str) -> (&'static Cluster, String) {
    let cluster = Cluster::shared_with_node().await.unwrap();
    cluster.load(&Image::busybox("daypass.test/busybox:1").unwrap()).unwrap();
    (cluster, cluster.namespace(prefix).await.unwrap())
}

fn pod(name: &str, mut container: Value) -> Pod {
    container["name"] = json!("main");
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]},
    }))
    .unwrap()
}

/// Runs a Pod to its end and returns its log.
async fn finished(cluster: &Cluster, namespace: &str, name: &str, container: Value) -> String {
    let pods = Api::<Pod>::namespaced(cluster.admin().unwrap(), namespace);
    pods.create(&PostParams::default(), &pod(name, container)).await.unwrap();
    poll(START, "the Pod has succeeded", async || {
        let status = pods.get(name).await?.status.context("no status")?;
        ensure!(status.phase.as_deref() == Some("Succeeded"), "{}", serde_json::to_string(&status)?);
        Ok(())
    })
    .await
    .unwrap();
    let _answers = KUBELET.read().await;
    pods.logs(name, &LogParams::default()).await.unwrap()
}

/// Waits until a container has said something, and until the kubelet that is asked for it knows the Pod.
async fn log(pods: &Api<Pod>, name: &str) -> String {
    poll(START, "the container has said something", async || {
        Some(pods.logs(name, &LogParams::default()).await?).filter(|said| !said.is_empty()).context("nothing yet")
    })
    .await
    .unwrap()
}

/// Waits until a Pod runs, and returns its container's ID.
async fn running(pods: &Api<Pod>, name: &str) -> String {
    poll(START, "the Pod runs", async || {
        let status = pods.get(name).await?.status.context("no status")?;
        ensure!(status.phase.as_deref() == Some("Running"), "{}", serde_json::to_string(&status)?);
        let containers = status.container_statuses.context("no containers")?;
        containers[0].container_id.clone().context("no container ID")
    })
    .await
    .unwrap()
}
