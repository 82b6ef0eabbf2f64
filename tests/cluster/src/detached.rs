//! The one cluster that is left running for people: `cluster up`, `down`, `status`.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cluster::{Cluster, Options, Record};
use crate::tools::Tools;
use crate::{paths, state};

impl Cluster {
    /// Starts the cluster that outlives this process, or returns the one that is up already. The flag tells whether it
    /// was started now.
    pub async fn up(mut options: Options) -> Result<(Self, bool)> {
        let folder = paths::detached()?;
        // Two at once would both find nothing and start.
        let lock = File::create(paths::cache()?.join("cluster.lock"))?;
        let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??;
        if let Some(found) = Self::open(&folder)? {
            ensure!(
                found.has_node() || !options.node,
                "the cluster that is up has no node; end it first: cargo xtask cluster down"
            );
            return Ok((found, false));
        }
        options.state = Some(folder);
        eprintln!("starting the cluster ...");
        let cluster = Self::start(options).await?;
        cluster.detach()?;
        drop(lock);
        Ok((cluster, true))
    }

    /// The cluster that `up` left running, if there is one.
    pub fn detached() -> Result<Option<Self>> {
        Self::open(&paths::detached()?)
    }

    /// Ends the cluster that `up` left running, or cleans after it if it died. Returns whether there was one.
    pub fn down() -> Result<bool> {
        let folder = paths::detached()?;
        if !folder.exists() {
            return Ok(false);
        }
        // The one that started the cluster may be older than the sources, and still be the right one to end it.
        let supervisor = match read(&folder) {
            Ok(record) if record.tools.supervisor.is_file() => record.tools.supervisor,
            _ => Tools::ensure()?.supervisor,
        };
        let output = Command::new(supervisor).arg("end").arg(&folder).output()?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(true)
    }

    fn open(folder: &Path) -> Result<Option<Self>> {
        if !state::is_alive(folder) {
            return Ok(None);
        }
        let record = read(folder).with_context(|| {
            format!(
                "the cluster in {} is about to start or to end, or an older version started it; to end it: \
                 cargo xtask cluster down",
                folder.display()
            )
        })?;
        Ok(Some(Self::connect(folder, record)))
    }
}

fn read(folder: &Path) -> Result<Record> {
    Ok(serde_json::from_slice(&std::fs::read(folder.join("cluster.json"))?)?)
}
