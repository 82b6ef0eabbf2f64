//! What people type: `daypass`, also as `kubectl daypass`. Everything here acts with the caller's own rights.

mod args;
mod ask;
mod connect;
mod elsewhere;
mod env_file;
mod error;
mod grant;
mod grants;
mod holders;
mod key;
mod look;
mod manifest;
mod output;
mod public_keys;
mod revoke;
mod secret;
mod self_test;
mod sign_in;
mod store;
mod store_check;
mod value;

use std::ffi::OsString;
use std::path::Path;

use clap::{CommandFactory, FromArgMatches};

use args::SecretCommand;
pub use args::{Cli, Command, OperatorArgs};
use ask::{Ask, Terminal};
use connect::Cluster;
use error::Result;
pub use error::{CliError, Exit};
use output::Output;

/// One invocation: where output goes, who answers, and the way to the cluster.
struct Session {
    out: Output,
    ask: Box<dyn Ask>,
    global: args::Global,
}

impl Session {
    async fn cluster(&self) -> Result<Cluster> {
        Cluster::connect(&self.global).await
    }
}

/// Reads the command line. Help, the version and usage errors are written and end the program.
pub fn parse(arguments: Vec<OsString>) -> Cli {
    let matches = command(arguments.first()).get_matches_from(arguments);
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// As kubectl's plugin, help shows what people type there.
fn command(program: Option<&OsString>) -> clap::Command {
    let name = program.and_then(|program| Path::new(program).file_stem()).and_then(|name| name.to_str());
    match name {
        Some("kubectl-daypass") => Cli::command().bin_name("kubectl daypass"),
        _ => Cli::command().bin_name("daypass"),
    }
}

/// Does what was asked, but for running the operator.
///
/// # Errors
/// With what went wrong, what to do about it, and the exit code.
pub async fn run(cli: Cli) -> Result<(), CliError> {
    let mut session = Session { out: Output::standard(cli.global.output), ask: Box::new(Terminal), global: cli.global };
    let session = &mut session;
    match &cli.command {
        Command::Secret(command) => match command {
            SecretCommand::Set(args) => secret::set(session, args).await,
            SecretCommand::Rotate(args) => secret::rotate(session, args).await,
            SecretCommand::List(args) => secret::list(session, args).await,
            SecretCommand::History(args) => secret::history(session, args).await,
            SecretCommand::Delete(args) => secret::delete(session, args).await,
            SecretCommand::Holders(args) => look::run(session, args).await,
            SecretCommand::Grant(args) => grant::grant(session, args).await,
            SecretCommand::Ungrant(args) => grant::ungrant(session, args).await,
            SecretCommand::Revoke(args) => revoke::run(session, args).await,
        },
        Command::Store(command) => store::run(session, command).await,
        Command::Key(command) => key::run(session, command).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "daypass", &mut script);
            session.out.text(&String::from_utf8_lossy(&script))
        }
        Command::OperatorSelfTest => self_test::run(session).await,
        Command::Operator(_) => Err(CliError::usage("the operator runs by itself, not as a command of the tool")),
    }
}

/// Writes an error for people to standard error.
pub fn report(error: &CliError) {
    Output::standard(output::Format::Table).note(&format!("error: {error}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_shows_what_people_type_as_kubectls_plugin_too() {
        for (program, shown) in
            [("/usr/bin/kubectl-daypass", "Usage: kubectl daypass "), ("./daypass", "Usage: daypass ")]
        {
            let help = command(Some(&program.into())).render_help().to_string();
            assert!(help.contains(shown), "{help}");
            assert!(help.contains("Exit codes:"), "{help}");
        }
    }
}
