//! The `konnector` program: the server, the commands of its operator, and the commands of konnector authors.

// Declared first, because the macro `say!` of this module is visible only in the modules after it.
#[macro_use]
mod output;

mod account_types;
mod accounts;
mod author;
mod backup;
mod client;
mod compile;
mod confirm;
mod data;
mod data_dir;
mod doctor;
mod draft;
mod error;
mod files;
mod follow;
mod fsck;
mod healthcheck;
mod hint;
mod instances;
mod interrupt;
mod jobs;
mod keys;
mod konnectors;
mod offline;
mod receipt;
mod registry;
mod serve;
mod triggers;

use std::process::ExitCode;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::client::Connection;
use crate::error::Result;

const EXAMPLES: &str = "Examples:
  konnector serve                                           start a server in ./data
  konnector konnectors install bank101 file:///srv/bank101  install a konnector
  konnector accounts add bank101 --field login=ada          asks for the password
  konnector triggers add bank101 --account ID               run it on the schedule of its manifest
  konnector konnectors run bank101                          run it now and follow the run
  konnector files ls / --recursive                          list the files it saved

Commands talk to the server whose data folder is --data-dir, KONNECTOR_DATA_DIR or ./data.
Exit codes: 0 success, 1 failure, 2 usage error, 78 the key does not match the data.";

/// A self-hosted server that fetches your bills, documents and data from your accounts, with sandboxed konnectors.
#[derive(Debug, Parser)]
#[command(name = "konnector", version, after_help = EXAMPLES, max_term_width = 110)]
struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server.
    Serve(Box<serve::Arguments>),
    /// Add, list and remove instances (one person's space each); issue tokens.
    #[command(subcommand)]
    Instances(instances::Command),
    /// Install, update, list and run konnectors.
    #[command(subcommand)]
    Konnectors(konnectors::Command),
    /// Add, list and change the accounts that konnectors log into.
    #[command(subcommand)]
    Accounts(accounts::Command),
    /// Set up account types: the services that accounts connect to by OAuth.
    #[command(subcommand)]
    AccountTypes(account_types::Command),
    /// Add, list and launch triggers, such as schedules.
    #[command(subcommand)]
    Triggers(triggers::Command),
    /// List, run and cancel jobs; show their logs and receipts.
    #[command(subcommand)]
    Jobs(jobs::Command),
    /// List and download files.
    #[command(subcommand)]
    Files(files::Command),
    /// List and find documents.
    #[command(subcommand)]
    Data(data::Command),
    /// Serve a registry, from which servers install konnectors.
    #[command(subcommand)]
    Registry(registry::Command),
    /// Create, verify and restore backups.
    #[command(subcommand)]
    Backup(backup::Command),
    /// Check the store of a stopped server, and repair it.
    Fsck(fsck::Arguments),
    /// Show and change the master key.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Exit with 0 if the server is ready, otherwise with 1.
    Healthcheck,
    /// Check this installation for problems and suggest fixes.
    Doctor,
    /// Create a new konnector from a template.
    New(author::new::Arguments),
    /// Check the manifest and the component of a konnector.
    Check(author::check::Arguments),
    /// Compile a konnector.
    Build(author::build::Arguments),
    /// Pack a konnector into an archive that can be published.
    Pack(author::pack::Arguments),
    /// Run a konnector without a server, and show everything it does.
    Run(author::run::Arguments),
    /// Compile a component from standard input to standard output, in a jail.
    #[command(hide = true)]
    Compile(compile::Arguments),
}

/// Time for background threads to end at exit. All required work is finished before.
const RUNTIME_SHUTDOWN_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(500);

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage_error(error),
    };
    // The only provider that is compiled in; the HTTP client requires it.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        output::eprint_line("konnector: another TLS provider is already installed");
    }
    let json = arguments.connection.json;
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            if json {
                error.print_json();
            } else {
                error.print();
            }
            error.exit_code()
        }
    }
}

/// Prints a usage error, or the requested help.
fn usage_error(mut error: clap::Error) -> ExitCode {
    // The list would include hidden commands.
    error.remove(ContextKind::ValidSubcommand);
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let message = error.render().to_string();
        let error = error::Error::usage(message.trim().trim_start_matches("error: "), "see `konnector --help`");
        error.print_json();
        return error.exit_code();
    }
    // clap does the same by itself, but not if the environment sets an option.
    if error.kind() == ErrorKind::MissingSubcommand
        && let Some(ContextValue::String(words)) = error.get(ContextKind::InvalidSubcommand)
    {
        eprint!("{}", help_for(words));
        return ExitCode::from(error::EXIT_USAGE);
    }
    error.exit()
}

/// Returns the help of a command, such as `konnector accounts`.
fn help_for(words: &str) -> StyledStr {
    let mut command = Arguments::command();
    command.build();
    for word in words.split(' ') {
        command = command.find_subcommand(word).cloned().unwrap_or(command);
    }
    command.render_help()
}

fn run(Arguments { connection, command }: Arguments) -> Result<ExitCode> {
    // Restricts the process, which must happen while it has only one thread.
    if let Command::Compile(arguments) = &command {
        return compile::run(arguments);
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(error::io("starting the runtime"))?;
    let output = output::Output { json: connection.json };
    hint::init(&connection);
    let result = runtime.block_on(async {
        match command {
            Command::Serve(arguments) => serve::run(&connection, *arguments).await.map(|()| ExitCode::SUCCESS),
            Command::Instances(command) => {
                instances::run(&connection, output, command).await.map(|()| ExitCode::SUCCESS)
            }
            Command::Konnectors(command) => konnectors::run(&connection, output, command).await,
            Command::AccountTypes(command) => {
                account_types::run(&connection, output, command).await.map(|()| ExitCode::SUCCESS)
            }
            Command::Accounts(command) => accounts::run(&connection, output, command).await.map(|()| ExitCode::SUCCESS),
            Command::Triggers(command) => triggers::run(&connection, output, command).await,
            Command::Jobs(command) => jobs::run(&connection, output, command).await,
            Command::Files(command) => {
                interrupt::run_until_signal(async {
                    files::run(&connection, output, command).await.map(|()| ExitCode::SUCCESS)
                })
                .await
            }
            Command::Data(command) => data::run(&connection, output, command).await.map(|()| ExitCode::SUCCESS),
            Command::Registry(command) => registry::run(command).await.map(|()| ExitCode::SUCCESS),
            Command::Backup(command) => backup::run(&connection, output, command).await,
            Command::Fsck(arguments) => fsck::run(&connection, output, &arguments).await,
            Command::Keys(command) => keys::run(&connection, output, command).await.map(|()| ExitCode::SUCCESS),
            Command::Healthcheck => healthcheck::run(&connection, output).await.map(|()| ExitCode::SUCCESS),
            Command::Doctor => doctor::run(&connection, output).await,
            Command::New(arguments) => author::new::run(output, &arguments).map(|()| ExitCode::SUCCESS),
            Command::Check(arguments) => author::check::run(output, &arguments),
            Command::Build(arguments) => author::build::run(output, &arguments).map(|()| ExitCode::SUCCESS),
            Command::Pack(arguments) => author::pack::run(output, &arguments).map(|()| ExitCode::SUCCESS),
            Command::Run(arguments) => author::run::run(output, &arguments).await,
            Command::Compile(arguments) => compile::run(&arguments),
        }
    });
    // Threads that still read from an unresponsive disk or program must not prevent the exit.
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_TIMEOUT);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_of_the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_command_without_its_second_word_has_its_own_help() {
        for (words, usage) in [
            ("konnector", "Usage: konnector [OPTIONS] <COMMAND>"),
            ("konnector accounts", "Usage: konnector accounts [OPTIONS] <COMMAND>"),
        ] {
            let help = help_for(words).to_string();
            assert!(help.contains(usage) && !help.contains("  compile "), "{help}");
        }
    }

    #[test]
    fn help_teaches() {
        insta::assert_snapshot!(Arguments::command().render_help(), @r"
        A self-hosted server that fetches your bills, documents and data from your accounts, with sandboxed konnectors

        Usage: konnector [OPTIONS] <COMMAND>

        Commands:
          serve          Start the server
          instances      Add, list and remove instances (one person's space each); issue tokens
          konnectors     Install, update, list and run konnectors
          accounts       Add, list and change the accounts that konnectors log into
          account-types  Set up account types: the services that accounts connect to by OAuth
          triggers       Add, list and launch triggers, such as schedules
          jobs           List, run and cancel jobs; show their logs and receipts
          files          List and download files
          data           List and find documents
          registry       Serve a registry, from which servers install konnectors
          backup         Create, verify and restore backups
          fsck           Check the store of a stopped server, and repair it
          keys           Show and change the master key
          healthcheck    Exit with 0 if the server is ready, otherwise with 1
          doctor         Check this installation for problems and suggest fixes
          new            Create a new konnector from a template
          check          Check the manifest and the component of a konnector
          build          Compile a konnector
          pack           Pack a konnector into an archive that can be published
          run            Run a konnector without a server, and show everything it does
          help           Print this message or the help of the given subcommand(s)

        Options:
          -h, --help     Print help
          -V, --version  Print version

        Server:
              --data-dir <FOLDER>  Data folder of the server [default: data] [env: KONNECTOR_DATA_DIR]
              --admin-url <URL>    URL of the admin API [default: that of the server on the data folder] [env: KONNECTOR_ADMIN_URL]
              --domain <DOMAIN>    Domain of the instance to use [default: the only one] [env: KONNECTOR_DOMAIN]

        Output:
              --json  Print JSON for programs

        Examples:
          konnector serve                                           start a server in ./data
          konnector konnectors install bank101 file:///srv/bank101  install a konnector
          konnector accounts add bank101 --field login=ada          asks for the password
          konnector triggers add bank101 --account ID               run it on the schedule of its manifest
          konnector konnectors run bank101                          run it now and follow the run
          konnector files ls / --recursive                          list the files it saved

        Commands talk to the server whose data folder is --data-dir, KONNECTOR_DATA_DIR or ./data.
        Exit codes: 0 success, 1 failure, 2 usage error, 78 the key does not match the data.
        ");
    }
}
