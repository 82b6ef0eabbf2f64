//! One cluster for all tests of a test binary.

use std::sync::OnceLock;

use anyhow::{Result, anyhow};

use crate::cluster::{Cluster, Options};

static CONTROL_PLANE: OnceLock<Result<Cluster, String>> = OnceLock::new();
static NODE: OnceLock<Result<Cluster, String>> = OnceLock::new();

impl Cluster {
    /// The control plane that all tests of this process share; started at the first call. Statics are never dropped: its
    /// supervisor ends it when the process does.
    pub async fn shared() -> Result<&'static Self> {
        shared(&CONTROL_PLANE, Options::control_plane()).await
    }

    /// The same with a node. Needs root.
    pub async fn shared_with_node() -> Result<&'static Self> {
        shared(&NODE, Options::with_node()).await
    }
}

/// Each test has a runtime of its own, which ends with the test. The start runs in one that belongs to nobody, and the
/// cluster holds nothing of it.
async fn shared(cell: &'static OnceLock<Result<Cluster, String>>, options: Options) -> Result<&'static Cluster> {
    let start = move || {
        cell.get_or_init(|| {
            let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
            runtime.block_on(Cluster::start(options)).map_err(|error| format!("{error:#}"))
        })
    };
    // Blocking: the first caller starts the cluster, the others wait here.
    tokio::task::spawn_blocking(start).await?.as_ref().map_err(|error| anyhow!("{error}"))
}
