//! Where the demo happens: the local cluster, or one that is there already.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use daypass_testcluster::{Cluster, Image, Options, Tools, packages};

use crate::image;

/// The image of `examples/sandbox.yaml`. No registry is asked for it on the local cluster.
const SANDBOX_IMAGE: &str = "docker.io/library/busybox:stable";

/// A cluster, and how its programs are called.
pub(super) struct Place {
    /// The local cluster; None for one that was there before.
    pub(super) local: Option<Cluster>,
    context: Option<String>,
    kubectl: PathBuf,
    helm: PathBuf,
    daypass: PathBuf,
}

impl Place {
    /// The local cluster with a node, started if it is not up.
    pub(super) async fn local(daypass: PathBuf) -> Result<Self> {
        let (cluster, started) = Cluster::up(Options::with_node()).await?;
        println!(
            "   {} at {}, with a node that runs containers",
            if started { "started" } else { "already up" },
            cluster.server_url()
        );
        let tools = Tools::ensure()?;
        Ok(Self { local: Some(cluster), context: None, kubectl: tools.kubectl, helm: Tools::helm()?, daypass })
    }

    /// A cluster of the kubeconfig file. kubectl and helm of this machine are taken where it has them.
    pub(super) fn existing(context: &str, daypass: PathBuf) -> Result<Self> {
        let kubectl = match packages::find("kubectl") {
            Some(found) => found,
            None => Tools::ensure()?.kubectl,
        };
        let helm = match packages::find("helm") {
            Some(found) => found,
            None => Tools::helm()?,
        };
        Ok(Self { local: None, context: Some(context.to_owned()), kubectl, helm, daypass })
    }

    /// Brings an image that was built here to the nodes.
    pub(super) fn load(&self, built: &image::Built) -> Result<()> {
        let Some(cluster) = &self.local else {
            return self.load_elsewhere(&built.archive);
        };
        let there = cluster.ctr(&["images", "list", "--quiet"])?;
        let has = |name: &str| there.lines().any(|line| line == name);
        if !has(&built.reference()) {
            cluster.load_image(&built.archive)?;
        }
        if !has(SANDBOX_IMAGE) {
            cluster.load(&Image::busybox(SANDBOX_IMAGE)?)?;
            println!("   {SANDBOX_IMAGE} is made of this machine's own busybox: nothing is pulled here");
        }
        Ok(())
    }

    fn load_elsewhere(&self, archive: &Path) -> Result<()> {
        let context = self.context.as_deref().context("a cluster has a context")?;
        let mut command = if let Some(name) = context.strip_prefix("kind-") {
            let mut kind = Command::new("kind");
            kind.args(["load", "image-archive"]).arg(archive).args(["--name", name]);
            kind
        } else if let Some(name) = context.strip_prefix("k3d-") {
            let mut k3d = Command::new("k3d");
            k3d.args(["image", "import"]).arg(archive).args(["--cluster", name]);
            k3d
        } else if context.contains("minikube") {
            let mut minikube = Command::new("minikube");
            minikube.args(["image", "load"]).arg(archive).args(["--profile", context]);
            minikube
        } else {
            bail!(
                "{context} is no cluster of kind, k3d or minikube: push the image to a registry that its nodes reach \
                 (docker build -f images/operator/Containerfile -t REF . && docker push REF), then add --image REF"
            );
        };
        let name = command.get_program().display().to_string();
        let status = command.status().with_context(|| format!("run {name}"))?;
        ensure!(status.success(), "{name} did not load the image: {status}");
        Ok(())
    }

    /// kubectl, as the cluster's admin or as somebody else.
    pub(super) fn kubectl(&self, user: Option<&str>) -> Command {
        self.program(&self.kubectl, "--context", user)
    }

    /// The command-line tool.
    pub(super) fn daypass(&self, user: &str) -> Command {
        self.program(&self.daypass, "--context", Some(user))
    }

    /// helm, as the cluster's admin.
    pub(super) fn helm(&self) -> Command {
        let mut command = self.program(&self.helm, "--kube-context", None);
        if let Some(cluster) = &self.local {
            for (variable, folder) in
                [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
            {
                command.env(variable, cluster.state().join("helm").join(folder));
            }
        }
        command
    }

    fn program(&self, path: &Path, context_flag: &str, user: Option<&str>) -> Command {
        let mut command = Command::new(path);
        if let Some(cluster) = &self.local {
            command.env("KUBECONFIG", cluster.kubeconfig());
        }
        if let Some(context) = &self.context {
            command.args([context_flag, context]);
        }
        if let Some(user) = user {
            command.args(["--as", user]);
        }
        command
    }
}
