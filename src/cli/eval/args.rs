//! What people type after `daypass eval`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What can be done with evaluations.
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// Submit an EvalJob and follow it to its end; the exit code says what came of it
    Run(RunArgs),
    /// Ask the operator what each benchmark would get and what stands in the way, and start nothing
    Plan(FileArgs),
    /// List the EvalJobs of the namespace
    List,
    /// Show an EvalJob: scores, tokens, causes, and how each benchmark came to its secrets
    Show(ShowArgs),
    /// Show the log of a benchmark's last attempt
    Logs(LogsArgs),
    /// Run again what did not succeed
    Rerun(NameArgs),
    /// Stop an EvalJob and keep it
    Stop(NameArgs),
    /// List the catalog's benchmarks and what each needs
    Benchmarks(BenchmarksArgs),
}

/// A manifest.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// The manifest of an EvalJob, `-` for standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
}

/// `eval run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The manifest.
    #[command(flatten)]
    pub file: FileArgs,
    /// Submit it and do not wait for its end
    #[arg(long)]
    pub detach: bool,
    /// Write the page with its results
    #[arg(long, value_name = "FILE.html", conflicts_with = "detach")]
    pub report: Option<PathBuf>,
}

/// `eval show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The EvalJob
    pub name: String,
    /// Write one self-contained page with its results
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
}

/// `eval logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The EvalJob
    pub name: String,
    /// The benchmark. May be left out where there is one
    pub benchmark: Option<String>,
}

/// One EvalJob.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// The EvalJob
    pub name: String,
}

/// `eval benchmarks`.
#[derive(Debug, Args)]
pub struct BenchmarksArgs {
    /// Only those whose name, title or category contains this
    pub filter: Option<String>,
}
