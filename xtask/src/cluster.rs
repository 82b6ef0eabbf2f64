//! `cargo xtask cluster`: the local cluster, left running for people.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;

use anyhow::{Context, Result};
use clap::Subcommand;
use daypass_testcluster::{Cluster, Options};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Start it, or tell that it is up
    Up {
        /// Control plane only: no containers, and no root needed
        #[arg(long)]
        no_node: bool,
    },
    /// End it, and remove everything that it left on this machine
    Down,
    /// Tell whether it is up, and where
    Status,
    /// Run kubectl on it, as its admin
    Kubectl {
        /// Arguments of kubectl
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

pub(crate) async fn run(command: Command) -> Result<()> {
    match command {
        Command::Up { no_node } => up(Options { node: !no_node, ..Options::default() }).await,
        Command::Down => down(),
        Command::Status => status(),
        Command::Kubectl { arguments } => kubectl(&arguments),
    }
}

async fn up(options: Options) -> Result<()> {
    let (cluster, started) = Cluster::up(options).await?;
    println!("The cluster is {}.", if started { "up" } else { "already up" });
    describe(&cluster);
    println!("End it:      cargo xtask cluster down");
    Ok(())
}

fn down() -> Result<()> {
    let found = Cluster::down()?;
    println!("{}", if found { "The cluster has ended." } else { "No cluster was up." });
    Ok(())
}

fn status() -> Result<()> {
    let cluster = the_cluster()?;
    println!("The cluster is up.");
    describe(&cluster);
    let nodes = cluster.kubectl(&["get", "nodes"])?;
    print!("{}{}", String::from_utf8_lossy(&nodes.stdout), String::from_utf8_lossy(&nodes.stderr));
    Ok(())
}

fn kubectl(arguments: &[OsString]) -> Result<()> {
    // Takes this process' place, so that terminal, signals and exit code are kubectl's own.
    let error = the_cluster()?.kubectl_command().args(arguments).exec();
    Err(error).context("run kubectl")
}

fn the_cluster() -> Result<Cluster> {
    Cluster::detached()?.context("no cluster is up; start one: cargo xtask cluster up")
}

fn describe(cluster: &Cluster) {
    println!("API server:  {}", cluster.server_url());
    println!("Node:        {}", if cluster.has_node() { "one, on this machine" } else { "none" });
    println!("Logs:        {}", cluster.state().join("logs").display());
    println!("Use it:      export KUBECONFIG={}", cluster.kubeconfig().display());
    println!("             cargo xtask cluster kubectl get pods --all-namespaces");
}
