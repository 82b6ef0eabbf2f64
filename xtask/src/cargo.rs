//! Cargo, called from within a task.

use std::path::Path;
use std::process::Command;

/// Variables that cargo sets for the task itself. Build scripts watch some of them, so that handing them on would build
/// their packages anew each time.
const OWN: [&str; 6] = ["CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_", "CARGO_CFG_"];

/// A call of cargo in the project's folder.
///
/// Always select with `--workspace`: features then are the same for every task, and nothing is built twice.
pub(crate) fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| OWN.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(&name);
        }
    }
    command
}
