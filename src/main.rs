//! The `daypass` program: reads arguments, starts the runtime, gives the exit code. Decides nothing.

use std::process::ExitCode;

use daypass::app;
use daypass::cli::{self, CliError, Command};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let cli = cli::parse(std::env::args_os().collect());
    // The process has one TLS provider; a second call would only say that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut runtime = match cli.command {
        Command::Operator(_) => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    let done = match runtime.enable_all().build() {
        Err(error) => Err(CliError::failure(format!("cannot start: {error}"))),
        Ok(runtime) => runtime.block_on(async {
            match &cli.command {
                Command::Operator(operator) => {
                    Box::pin(app::run(&operator.config)).await.map_err(|error| CliError::failure(format!("{error:#}")))
                }
                _ => cli::run(cli).await,
            }
        }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::report(&error);
            ExitCode::from(error.exit as u8)
        }
    }
}
