//! `cargo xtask tools`: everything that takes long the first time, at a moment of one's choice.

use anyhow::Result;
use daypass_testcluster::{Tools, packages};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave out what only nodes and images need: system packages, which take root
    #[arg(long)]
    no_node: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if !arguments.no_node {
        packages::ensure(&[packages::NODE, packages::BUSYBOX, packages::BUILD_IMAGES].concat())?;
    }
    let tools = Tools::ensure()?;
    println!("kubernetes:  {}", tools.kubernetes.display());
    println!("helm:        {}", Tools::helm()?.display());
    Ok(())
}
