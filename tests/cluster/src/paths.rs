//! Where built tools and running clusters are kept.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// The cache folder: `$DAYPASS_CACHE`, else `$XDG_CACHE_HOME/daypass`, else `~/.cache/daypass`. Made if absent.
pub fn cache() -> Result<PathBuf> {
    let folder = if let Some(given) = std::env::var_os("DAYPASS_CACHE") {
        std::path::absolute(given)?
    } else if let Some(cache) = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
        PathBuf::from(cache).join("daypass")
    } else {
        let home = std::env::home_dir().context("neither DAYPASS_CACHE nor HOME is set")?;
        home.join(".cache/daypass")
    };
    make(folder)
}

/// The folder of the built tools.
pub fn tools() -> Result<PathBuf> {
    make(cache()?.join("tools"))
}

/// The folder of Python environments.
pub fn python() -> Result<PathBuf> {
    make(cache()?.join("python"))
}

/// The folder of clusters that live as long as the process that started them.
pub fn run() -> Result<PathBuf> {
    make(cache()?.join("run"))
}

/// The state of the cluster that `cluster up` leaves running.
pub fn detached() -> Result<PathBuf> {
    Ok(cache()?.join("cluster"))
}

fn make(folder: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}
