//! The `daypass` program: reads arguments, starts the runtime, gives the exit code. Decides nothing.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Team secrets for sandboxes and evaluation jobs, for exactly as long as one run lasts.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the operator.
    Operator {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // The process has one TLS provider; a second call would only say that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Arguments::parse().command {
        Command::Operator { config } => daypass::app::run(&config).await,
    }
}
