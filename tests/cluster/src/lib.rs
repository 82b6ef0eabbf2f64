//! A real Kubernetes cluster on one machine: etcd, API server, controller manager, scheduler and, as root, a kubelet
//! with containers. No images, no registry, no virtual machine. One implementation for tests, demo and benchmarks.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use daypass_testcluster::{Cluster, Options};
//! let cluster = Cluster::start(Options::control_plane()).await?;
//! let namespace = cluster.namespace("orders").await?;
//! let member = cluster.client_as("member", &["team"])?;
//! # Ok(()) }
//! ```
//!
//! Every cluster has a supervisor process. It owns all others and ends them, and what they left on the machine, when
//! the [`Cluster`] is dropped or when the process that holds it dies in whatever way.
//!
//! Environment variables: `DAYPASS_CACHE` is the folder of built tools and state; `DAYPASS_TOOLS` a folder with tools that
//! were built elsewhere; `DAYPASS_KEEP_STATE=1` keeps logs and data of a cluster that ended until the next one starts.

mod access;
mod audit;
mod cluster;
mod control_plane;
mod detached;
pub mod etcd;
mod evaluation_servers;
pub mod image;
mod node;
mod openbao;
pub mod packages;
pub mod paths;
mod poll;
mod progress;
pub mod python;
mod shared;
mod state;
mod supervisor;
pub mod tools;

pub use audit::{AuditEntry, AuditLog, Mark};
pub use cluster::{Cluster, Options};
pub use evaluation_servers::{Asked, EvaluationServers};
pub use image::Image;
pub use node::NODE_NAME;
pub use openbao::OpenBao;
pub use poll::poll;
pub use tools::Tools;
