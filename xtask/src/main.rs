//! Tasks of the project: `cargo xtask --help`.

#![allow(clippy::print_stdout, reason = "a command's answer goes to standard output")]

mod bench;
mod cargo;
mod cluster;
mod demo;
mod generate;
mod image;
mod runner;
mod test;
mod tools;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the project", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A real cluster on this machine: etcd, control plane and a node that runs containers
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// The whole line on a real cluster: install, store a secret, run, and prove what became of it
    Demo(demo::Arguments),
    /// Measure, in ratios within one run
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Write the files that are derived from the code: CRDs and field tables
    Generate {
        /// Change nothing, and fail where a file has drifted from the code
        #[arg(long)]
        check: bool,
    },
    /// Build the operator's image for the local cluster, and print its name and its file
    Image,
    /// Build the runner's image for the local cluster, and print its name and its file
    RunnerImage,
    /// Run the tests of the evaluation runner with real Inspect; arguments are pytest's
    RunnerTest(runner::Arguments),
    /// Run all tests, in tiers: unit, runner (Python), api (a real control plane), stores (a server for each
    /// backend) and node (real containers; root)
    Test(test::Arguments),
    /// Get the programs that the local cluster needs, ahead of the first use
    Tools(tools::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let outcome = match arguments.command {
        Command::Bench(bench) => bench::run(root, bench).await,
        Command::Cluster(command) => cluster::run(command).await,
        Command::Demo(arguments) => demo::run(root, &arguments).await,
        Command::Generate { check } => generate::run(root, check),
        Command::Image => image::run(root),
        Command::RunnerImage => image::run_runner(root),
        Command::RunnerTest(arguments) => runner::run(root, &arguments),
        Command::Test(arguments) => test::run(root, &arguments),
        Command::Tools(arguments) => tools::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
