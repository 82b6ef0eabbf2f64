//! The node: a containerd of our own, and a kubelet on it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use serde_json::json;
use tokio::net::TcpStream;

use crate::cluster::Cluster;
use crate::control_plane::SERVICE_ADDRESS;
use crate::image::Image;
use crate::poll::poll;
use crate::supervisor::{Network, NodeRequest, Part, Supervisor};
use crate::{packages, state};

/// Name and address of the node. Loopback, so that logs and exec reach the kubelet without a network.
pub const NODE_NAME: &str = "127.0.0.1";
/// Holds the namespaces of each Pod. Made here, so that nothing is pulled.
const PAUSE_IMAGE: &str = "daypass.test/pause:1";
/// Longest path of a Unix socket.
const SOCKET_PATH_BYTES: usize = 107;
/// Where the caller ends the wait.
const LONG: Duration = Duration::from_hours(1);
const OVERLAY_FS: nix::sys::statfs::FsType = nix::sys::statfs::OVERLAYFS_SUPER_MAGIC;

/// Checks, before anything is started, that this machine can have a node. Installs missing packages.
pub(crate) fn check() -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "a node runs containers: start it as root, or leave the node out (--no-node)"
    );
    packages::ensure(packages::NODE)
}

impl Cluster {
    /// Starts containerd and kubelet. The cluster must be up.
    pub(crate) async fn start_node(&mut self) -> Result<()> {
        let socket = self.containerd_socket();
        if socket.len() > SOCKET_PATH_BYTES {
            bail!("{socket} is too long for a socket; set DAYPASS_CACHE to a shorter path");
        }
        let request = NodeRequest {
            id: state::random_name()?,
            service_address: SERVICE_ADDRESS.to_owned(),
            apiserver_port: self.record.ports.apiserver,
        };
        let network = self.with_supervisor(|supervisor| supervisor.prepare_node(&request))?;
        self.write_cni(&request.id, &network)?;
        self.start_part(&self.containerd(&network)?)?;
        self.until("containerd", async {
            poll(LONG, "containerd answers", async || self.ctr(&["version"]).map(drop)).await
        })
        .await?;
        let pause = Image::new(PAUSE_IMAGE)
            .file("/pause", 0o755, std::fs::read(&self.record.tools.supervisor)?)
            .entrypoint(&["/pause", "pause"]);
        self.load(&pause)?;
        self.start_part(&self.kubelet(&network)?)?;
        self.until("kubelet", self.node_ready()).await?;
        self.record.network = Some(network);
        Ok(())
    }

    /// Waits until Pods are scheduled to the node.
    async fn node_ready(&self) -> Result<()> {
        let nodes = Api::<Node>::all(self.admin()?);
        poll(LONG, "the node is ready", async || {
            // The object may still say what a kubelet has written that was killed since.
            TcpStream::connect((NODE_NAME, self.record.ports.kubelet)).await.context("the kubelet does not listen")?;
            let node = nodes.get(NODE_NAME).await?;
            let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
            let ready = ready.context("it has not said yet whether it is")?;
            ensure!(ready.status == "True", "{}", ready.message.unwrap_or_default());
            ensure!(taints.is_empty(), "it still has the taint {}", taints[0].key);
            Ok(())
        })
        .await
    }

    /// The address of the machine as Pods see it: a server that listens there can be reached by them.
    pub fn host_address(&self) -> Result<String> {
        Ok(self.network()?.gateway.clone())
    }

    fn network(&self) -> Result<&Network> {
        self.record.network.as_ref().context("this cluster has no node")
    }

    /// Whether the cluster has a node that runs containers.
    pub fn has_node(&self) -> bool {
        self.record.network.is_some()
    }

    /// Imports a docker-archive, under the names that it has inside. Pods use it with `imagePullPolicy: IfNotPresent`,
    /// the default for every tag but `latest`. It blocks.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        let path = archive.to_str().context("the path of the image is no UTF-8")?;
        self.ctr(&["images", "import", path]).with_context(|| format!("import {path}")).map(drop)
    }

    /// Makes an image and imports it. It blocks.
    pub fn load(&self, image: &Image) -> Result<()> {
        let archive = tempfile::Builder::new().suffix(".tar").tempfile_in(&self.state)?;
        image.write(archive.path())?;
        self.load_image(archive.path())
    }

    /// Runs containerd's own client in the namespace of Kubernetes and returns what it printed. It blocks.
    pub fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let program = packages::find("ctr").context("ctr, which comes with containerd, is not installed")?;
        let output = Command::new(program)
            .args(["--address", &self.containerd_socket(), "--namespace", "k8s.io"])
            .args(arguments)
            .output()?;
        if !output.status.success() {
            bail!("ctr {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Kills the kubelet and starts it again, as an update of the node would. Containers live on.
    pub async fn restart_kubelet(&self) -> Result<()> {
        self.with_supervisor(|supervisor| supervisor.stop("kubelet"))?;
        let kubelet = self.kubelet(self.network()?)?;
        self.with_supervisor(|supervisor: &mut Supervisor| supervisor.start(&kubelet))?;
        self.until("kubelet", self.node_ready()).await
    }

    fn containerd_socket(&self) -> String {
        self.path("containerd.sock")
    }

    fn path(&self, name: &str) -> String {
        self.state.join(name).display().to_string()
    }

    /// The network of Pods: addresses of our own range on our own bridge, nothing translated.
    fn write_cni(&self, id: &str, network: &Network) -> Result<()> {
        let folder = self.state.join("cni");
        std::fs::create_dir_all(&folder)?;
        let config = json!({
            "cniVersion": "0.4.0",
            "name": format!("daypass-{id}"),
            "plugins": [{
                "type": "bridge",
                "bridge": network.bridge,
                "isDefaultGateway": true,
                "ipMasq": false,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": network.subnet}]],
                    "dataDir": self.path("cni-addresses"),
                },
            }],
        });
        state::write_private(&folder.join("daypass.conflist"), config.to_string())
    }

    fn containerd(&self, network: &Network) -> Result<Part> {
        let program = packages::find("containerd").context("containerd is not installed")?;
        // Not `bridge`: iproute2 has a program of that name too.
        let loopback = packages::find("loopback").context("the CNI plugins are not installed")?;
        let plugins = loopback.parent().context("the CNI plugins have no folder")?;
        // Overlays cannot be stacked, so in a container whole copies must do.
        let on_overlay = nix::sys::statfs::statfs(&self.state)?.filesystem_type() == OVERLAY_FS;
        let snapshotter = if on_overlay { "native" } else { "overlayfs" };
        let text = |value: &str| json!(value).to_string();
        let config = format!(
            r#"version = 2
root = {root}
state = {run}
# The first makes a folder in /opt; the others need file systems that are not there.
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = {socket}

[ttrpc]
address = {ttrpc}

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = {pause}
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = {plugins}
conf_dir = {cni}

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = {snapshotter}

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
Root = {runc}
ShimCgroup = {shims}
"#,
            root = text(&self.path("containerd/root")),
            run = text(&self.path("containerd/state")),
            socket = text(&self.containerd_socket()),
            ttrpc = text(&format!("{}.ttrpc", self.containerd_socket())),
            pause = text(PAUSE_IMAGE),
            plugins = text(&plugins.display().to_string()),
            cni = text(&self.path("cni")),
            snapshotter = text(snapshotter),
            runc = text(&self.path("runc")),
            shims = text(&network.shim_cgroup),
        );
        let path = self.state.join("containerd.toml");
        state::write_private(&path, config)?;
        Ok(Part {
            name: "containerd".to_owned(),
            argv: vec![program.display().to_string(), format!("--config={}", path.display())],
            env: vec![path_with_system_folders()],
        })
    }

    fn kubelet(&self, network: &Network) -> Result<Part> {
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": NODE_NAME,
            "port": self.record.ports.kubelet,
            "readOnlyPort": 0,
            "healthzPort": 0,
            "tlsCertFile": self.path("pki/kubelet.crt"),
            "tlsPrivateKeyFile": self.path("pki/kubelet.key"),
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": self.path("pki/ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": format!("unix://{}", self.containerd_socket()),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": network.cgroup,
            // The machine stays as it is: no limits for its other processes, no swap off, no firewall rules.
            "failCgroupV1": false,
            "failSwapOn": false,
            "enforceNodeAllocatable": [],
            "makeIPTablesUtilChains": false,
            // A machine with a full disk is no reason to end Pods or to drop images that nobody can pull again.
            "evictionHard": {},
            "imageGCHighThresholdPercent": 100,
            "podLogsDir": self.path("pod-logs"),
            "maxPods": 250,
            // There is no name server: the machine refuses at once, where a service's address would have every lookup
            // wait. Without an address each Pod gets an event of warning.
            "clusterDNS": [network.gateway],
            "clusterDomain": "cluster.local",
            "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
        });
        let path = self.state.join("kubelet.yaml");
        state::write_private(&path, config.to_string())?;
        Ok(Part {
            name: "kubelet".to_owned(),
            argv: vec![
                self.record.tools.kubernetes.display().to_string(),
                "kubelet".to_owned(),
                format!("--config={}", path.display()),
                format!("--kubeconfig={}", self.path("kubelet.kubeconfig")),
                format!("--root-dir={}", self.path("kubelet")),
                format!("--cert-dir={}", self.path("kubelet/pki")),
                format!("--hostname-override={NODE_NAME}"),
            ],
            env: vec![path_with_system_folders()],
        })
    }
}

/// containerd looks for runc and its shim in `PATH`, the kubelet for mount and others.
fn path_with_system_folders() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("PATH={path}:/usr/local/sbin:/usr/sbin:/sbin")
}
