//! `cargo xtask runner-test`: the tests of the evaluation runner.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use daypass_testcluster::python;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// For pytest, as in `-k wandb`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pytest: Vec<String>,
}

/// Runs them; a failed test is a failed task.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let status = command(root)?.args(&arguments.pytest).status().context("run pytest")?;
    if !status.success() {
        // Without a word more: pytest has said it.
        std::process::exit(1);
    }
    Ok(())
}

/// Gets the packages that the tests need.
pub(crate) fn prepare() -> Result<()> {
    python::environment_of_runner()?;
    python::environment_of_harness()?;
    Ok(())
}

/// A call of pytest.
pub(crate) fn command(root: &Path) -> Result<Command> {
    let mut command = Command::new(python::environment_of_runner()?.join("bin/python"));
    command.args(["-m", "pytest"]).current_dir(root.join("images/runner"));
    command.env("DAYPASS_HARNESS_PYTHON", python::environment_of_harness()?.join("bin/python"));
    // Nothing of this machine's Python, and no traces in the source.
    command.env_remove("PYTHONPATH").env_remove("PYTHONHOME").env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}
