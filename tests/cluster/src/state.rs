//! State folders: making them, telling the living from the dead, and cleaning after the dead.

use std::fs::{self, File, TryLockError};
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::paths;
use crate::supervisor::Supervisor;
use crate::tools::{Tools, hex};

/// Makes a new state folder, after a sweep over clusters whose supervisor was killed, and starts a supervisor in it.
pub(crate) fn create(tools: &Tools, given: Option<&Path>) -> Result<(PathBuf, Supervisor)> {
    let run = paths::run()?;
    // A folder that was made but not yet locked by its supervisor would look dead to the sweep of another process.
    let guard = File::create(run.join(".lock"))?;
    guard.lock()?;
    for entry in fs::read_dir(&run)? {
        let folder = entry?.path();
        if folder.is_dir()
            && !is_alive(&folder)
            && let Err(error) = clean(tools, &folder)
        {
            // Likely another user's. It must not keep us from starting.
            eprintln!("what a killed cluster left in {} stays: {error:#}", folder.display());
        }
    }
    let folder = match given {
        Some(given) if given.exists() => {
            ensure!(!is_alive(given), "a cluster already runs in {}", given.display());
            clean(tools, given)?;
            given.to_owned()
        }
        Some(given) => given.to_owned(),
        None => run.join(random_name()?),
    };
    let mut private = fs::DirBuilder::new();
    private.mode(0o700).recursive(true);
    private.create(folder.join("logs"))?;
    let supervisor = Supervisor::spawn(&tools.supervisor, &folder)?;
    Ok((folder, supervisor))
}

/// Whether a supervisor holds the lock of a state folder.
pub(crate) fn is_alive(state: &Path) -> bool {
    let Ok(lock) = File::open(state.join("lock")) else {
        return false;
    };
    matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
}

/// Removes a dead cluster: its processes, mounts, network and files.
pub(crate) fn clean(tools: &Tools, state: &Path) -> Result<()> {
    let output = Command::new(&tools.supervisor).arg("clean").arg(state).output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Eight random hexadecimal digits.
pub(crate) fn random_name() -> Result<String> {
    Ok(hex(&random::<4>()?))
}

/// A new bearer token.
pub(crate) fn random_token() -> Result<String> {
    Ok(hex(&random::<16>()?))
}

fn random<const LENGTH: usize>() -> Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("read /dev/urandom")?;
    Ok(bytes)
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(path).and_then(|mut file| file.write_all(content.as_ref()));
    written.with_context(|| format!("write {}", path.display()))
}
