//! What people type.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::error::EXIT_CODES;
use super::output::Format;

/// Team secrets for sandboxes and evaluation jobs, for exactly as long as one run lasts.
#[derive(Debug, Parser)]
#[command(name = "daypass", version, after_help = EXIT_CODES, max_term_width = 110)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command. Names and meanings are kubectl's.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The team: a namespace. Defaults to that of the kubeconfig's context
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The kubeconfig's context. Defaults to its current one
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The kubeconfig file. Defaults to $KUBECONFIG, else ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// How results are written
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Format,
    /// Act as this user (you need the right to impersonate)
    #[arg(long = "as", global = true, value_name = "USER")]
    pub as_user: Option<String>,
    /// Act as a member of this group; may be repeated, needs --as
    #[arg(long = "as-group", global = true, value_name = "GROUP")]
    pub as_group: Vec<String>,
    /// The namespace that the operator runs in
    #[arg(long, global = true, value_name = "NAMESPACE", default_value = "daypass-system")]
    pub system_namespace: String,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A team's secrets: set, rotate, list, delete, grant, revoke
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Where a team's secrets live
    #[command(subcommand)]
    Store(StoreCommand),
    /// The keys that sealed values open with (cluster admins)
    #[command(subcommand)]
    Key(KeyCommand),
    /// Run the operator (in its Pod)
    Operator(OperatorArgs),
    /// Try, as the operator, each read that must be refused (`helm test` does)
    OperatorSelfTest,
    /// Write a shell's completion script: `source <(daypass completions bash)`
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The operator's own command line.
#[derive(Debug, Args)]
pub struct OperatorArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// What can be done with a team's secrets.
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Make a new secret; the value comes from a hidden prompt, standard input or a file
    Set(SetArgs),
    /// Give a secret a new value; the old one no longer resolves
    Rotate(RotateArgs),
    /// List the team's secrets (never values)
    List(ListArgs),
    /// Show the versions of a secret, the newest first (never values)
    History(HistoryArgs),
    /// Delete a secret for good
    Delete(DeleteArgs),
    /// Show which runs hold which secret
    Holders(HoldersArgs),
    /// Let somebody use a secret
    Grant(GrantArgs),
    /// Take a grant back
    Ungrant(GrantArgs),
    /// Refuse a secret from now on, delete live copies and end every run that names it
    Revoke(RevokeArgs),
}

/// Where a value comes from.
#[derive(Debug, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub struct ValueArgs {
    /// Read the value from standard input (assumed when that is not a terminal)
    #[arg(long, group = "source")]
    pub from_stdin: bool,
    /// Read the value from a file
    #[arg(long, value_name = "FILE", group = "source")]
    pub from_file: Option<PathBuf>,
    /// Show the typed value once before it is sealed
    #[arg(long, conflicts_with = "source")]
    pub reveal: bool,
    /// The newline at the value's end belongs to it
    #[arg(long, conflicts_with = "trim_newline")]
    pub keep_newline: bool,
    /// Take the newline at the value's end away
    #[arg(long)]
    pub trim_newline: bool,
}

/// `secret set`.
#[derive(Debug, Args)]
#[command(after_help = "With -o yaml or -o json the manifest is written (for Git) and nothing is applied.")]
pub struct SetArgs {
    /// The secret's name: letters, digits and `_`
    #[arg(required_unless_present = "from_env_file", conflicts_with = "from_env_file")]
    pub name: Option<String>,
    /// The value
    #[command(flatten)]
    pub value: ValueArgs,
    /// Make one secret of each NAME=value line of a .env file
    #[arg(long, value_name = "FILE", group = "source", conflicts_with_all = ["keep_newline", "trim_newline"])]
    pub from_env_file: Option<PathBuf>,
    /// The store that keeps the values; `STORE.NAME` says the same. Defaults to `default`
    #[arg(long)]
    pub store: Option<String>,
}

/// `secret rotate`.
#[derive(Debug, Args)]
#[command(after_help = "With -o yaml or -o json the manifest is written (for Git) and nothing is applied.")]
pub struct RotateArgs {
    /// The secret's name
    pub name: String,
    /// The value
    #[command(flatten)]
    pub value: ValueArgs,
    /// Keep older versions (at most 8 in all) for runs that pin one
    #[arg(long)]
    pub keep: bool,
    /// The store that keeps the values; `STORE.NAME` says the same. Defaults to `default`
    #[arg(long)]
    pub store: Option<String>,
}

/// `secret list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The store that keeps the values. Defaults to `default`
    #[arg(long)]
    pub store: Option<String>,
}

/// `secret history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// The secret's name
    pub name: String,
    /// The store that keeps the values; `STORE.NAME` says the same. Defaults to `default`
    #[arg(long)]
    pub store: Option<String>,
}

/// `secret delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The secret's name
    pub name: String,
    /// The store that keeps the values; `STORE.NAME` says the same. Defaults to `default`
    #[arg(long)]
    pub store: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// `secret holders`.
#[derive(Debug, Args)]
pub struct HoldersArgs {
    /// Only this secret of the team
    #[arg(conflicts_with = "all_teams")]
    pub name: Option<String>,
    /// The store that the secret is in; with a NAME it defaults to `default`, else to every store
    #[arg(long)]
    pub store: Option<String>,
    /// The secrets of all teams, not only of the team given by -n
    #[arg(short = 'A', long = "all-namespaces")]
    pub all_teams: bool,
}

/// `secret grant` and `secret ungrant`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("subject").required(true)))]
pub struct GrantArgs {
    /// The secret's name
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub name: Option<String>,
    /// All secrets of the team, of every store, those to come too
    #[arg(long)]
    pub all: bool,
    /// Every ServiceAccount of this namespace
    #[arg(long, value_name = "NS", group = "subject")]
    pub to_namespace: Option<String>,
    /// This ServiceAccount
    #[arg(long, value_name = "NS/NAME", group = "subject")]
    pub to_serviceaccount: Option<String>,
    /// This user, as the API server knows them
    #[arg(long, value_name = "USER", group = "subject")]
    pub to_user: Option<String>,
    /// This group, as the API server knows it
    #[arg(long, value_name = "GROUP", group = "subject")]
    pub to_group: Option<String>,
    /// The store that the secret is in; `STORE.NAME` says the same. Defaults to `default`
    #[arg(long, conflicts_with = "all")]
    pub store: Option<String>,
}

/// `secret revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// The secret's name
    pub name: String,
    /// End the revocation: the name may be used again
    #[arg(long)]
    pub lift: bool,
    /// The store that the secret is in; `STORE.NAME` says the same. Defaults to `default`
    #[arg(long)]
    pub store: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// What can be done with a team's stores.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Set the team up: the store `default` (sealed), and `use` for the team's own service accounts
    Init {
        /// Grant nothing: `daypass secret grant` does it one by one
        #[arg(long)]
        strict: bool,
    },
    /// Have the operator look at a store, and say how far it got; exit code 1 if the store is not in order
    Check {
        /// The store's name
        #[arg(default_value = "default")]
        name: String,
    },
    /// Let the operator mint tokens of one ServiceAccount of the team, for stores that sign in as it
    GrantSignIn {
        /// The ServiceAccount's name
        service_account: String,
    },
}

/// What can be done with the operator's keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Add a key: the newest seals, all open
    Add {
        /// Do not ask where keys are lost
        #[arg(short, long)]
        yes: bool,
    },
    /// Write all keys to a file, encrypted with a passphrase
    Backup {
        /// The file to make; an existing one is refused
        file: PathBuf,
        /// Read the passphrase from the first line of a file
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Bring back the keys of a backup that are missing
    Restore {
        /// The file that `key backup` made
        file: PathBuf,
        /// Read the passphrase from the first line of a file
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documentation_knows_every_command_flag_and_exit_code() {
        fn check(path: &str, command: &clap::Command, docs: &str, missing: &mut Vec<String>) {
            for argument in command.get_arguments().filter_map(clap::Arg::get_long) {
                if !["help", "version"].contains(&argument) && !docs.contains(&format!("--{argument}")) {
                    missing.push(format!("{path} --{argument}"));
                }
            }
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name()).trim_start().to_owned();
                if sub.get_subcommands().next().is_none() && !docs.contains(&format!("`{path}")) {
                    missing.push(path.clone());
                }
                check(&path, sub, docs, missing);
            }
        }
        let docs = include_str!("../../docs/cli.md");
        let mut missing = Vec::new();
        check("", &Cli::command(), docs, &mut missing);
        for line in EXIT_CODES.lines().skip(1) {
            let (code, meaning) = line.trim().split_once("  ").unwrap();
            if !docs.contains(&format!("| {code} | {meaning} |")) {
                missing.push(line.to_owned());
            }
        }
        assert!(missing.is_empty(), "docs/cli.md does not tell of {missing:#?}");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            "daypass secret set",
            "daypass secret set A value",
            "daypass secret set A --from-env-file .env",
            "daypass secret set A --from-file f --from-stdin",
            "daypass secret set A --from-file f --reveal",
            "daypass secret set A --keep-newline --trim-newline",
            "daypass secret grant A",
            "daypass secret grant --to-user amy",
            "daypass secret grant A --all --to-user amy",
            "daypass secret grant A --to-user amy --to-group g",
            "daypass secret grant --all --store vault --to-user amy",
            "daypass secret holders A -A",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn flags_may_stand_anywhere() {
        for line in [
            "daypass -n ml secret set A --from-file f",
            "daypass secret set A --from-file f -n ml",
            "daypass secret -n ml set A",
            "daypass secret set -n ml --from-env-file .env",
            "daypass secret grant --all --to-namespace eval -n ml --as amy --as-group a --as-group b",
        ] {
            let cli = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(cli.global.namespace.as_deref(), Some("ml"));
        }
    }
}
