//! The command line: subcommands, output, exit codes and wiring.
//!
//! A subcommand is one file here: an `Args` struct, whose docs are its `--help`,
//! and `run(args, &Context) -> Result<ExitCode, Failure>`. To add one: a `mod`
//! line, a variant of [`Command`], an arm in [`dispatch`]. This module parses,
//! dispatches and maps failures to exit codes; it decides nothing else.

mod approve;
mod completions;
mod connect;
mod context;
mod credentials;
mod demo;
mod deny;
mod doctor;
mod failure;
mod grants;
mod holds;
mod inbox;
mod interruption;
mod lifetime;
mod log;
mod login;
mod logout;
mod man;
mod output;
mod policy;
mod replay;
mod request;
mod serve;
mod sessions;
mod targets;
mod whoami;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand, error::ErrorKind};

use self::{
    context::Context,
    failure::{Exit, Failure},
    output::{Chatter, Format, Output},
};
use crate::{
    config::{Flags, Folders, OutputFormat, Settings},
    sql,
};

/// Least-privilege access to PostgreSQL for people, CI jobs and AI agents.
#[derive(Debug, Parser)]
#[command(
    name = "pgate",
    version,
    after_help = "\
Examples:
  pgate login
  pgate request prod-db --role readonly --reason \"INC-4312 refunds stuck\"
  pgate connect prod-db -- psql

Settings come from flags, then the environment (PGATE_SERVER, PGATE_TARGET, …),
then .pgate.toml in this folder or above, then your own config.toml;
`pgate doctor` shows each with its source.",
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, clap::Args)]
struct Global {
    /// The control plane's URL [env: PGATE_SERVER]
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    server: Option<String>,

    /// The form of results [env: PGATE_OUTPUT] [default: text]
    #[arg(long, global = true, value_name = "FORMAT", help_heading = "Global options")]
    output: Option<Format>,

    /// Say nothing but results and errors
    #[arg(short, long, global = true, help_heading = "Global options")]
    quiet: bool,

    /// Say more on stderr (-vv: much more)
    #[arg(
        short,
        long,
        global = true,
        action = clap::ArgAction::Count,
        help_heading = "Global options"
    )]
    verbose: u8,

    /// Never ask anything, never open a browser
    #[arg(long, global = true, help_heading = "Global options")]
    no_input: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Login(login::Args),
    Logout(logout::Args),
    Whoami(whoami::Args),
    Targets(targets::Args),
    Request(request::Args),
    Grants(grants::Args),
    Inbox(inbox::Args),
    Approve(approve::Args),
    Deny(deny::Args),
    Connect(connect::Args),
    Doctor(doctor::Args),
    Sessions(sessions::Args),
    Replay(replay::Args),
    Log(log::Args),
    Policy(policy::Args),
    Serve(serve::Args),
    Demo(demo::Args),
    Completions(completions::Args),
    Man(man::Args),
}

async fn dispatch(command: Command, context: &Context) -> Result<ExitCode, Failure> {
    match command {
        Command::Login(args) => login::run(args, context).await,
        Command::Logout(args) => logout::run(args, context).await,
        Command::Whoami(args) => whoami::run(args, context).await,
        Command::Targets(args) => targets::run(args, context).await,
        Command::Request(args) => request::run(args, context).await,
        Command::Grants(args) => grants::run(args, context).await,
        Command::Inbox(args) => inbox::run(args, context).await,
        Command::Approve(args) => approve::run(args, context).await,
        Command::Deny(args) => deny::run(args, context).await,
        Command::Connect(args) => connect::run(args, context).await,
        Command::Doctor(args) => doctor::run(args, context).await,
        Command::Sessions(args) => sessions::run(args, context).await,
        Command::Replay(args) => replay::run(args, context).await,
        Command::Log(args) => log::run(args, context).await,
        Command::Policy(args) => policy::run(args, context).await,
        Command::Serve(args) => serve::run(args, context).await,
        Command::Demo(args) => demo::run(args, context).await,
        Command::Completions(args) => completions::run(args, context),
        Command::Man(args) => man::run(args, context),
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let beside_a_command = runs_a_command(&arguments);
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return explain(&error, &arguments, beside_a_command),
    };
    colour();
    let format = cli.global.output.unwrap_or(Format::Text);
    match start(cli) {
        Ok(exit) => exit,
        Err((failure, output)) => {
            let output = output.unwrap_or_else(|| Output::new(format, Chatter::Normal));
            output.failure(&failure);
            failure.exit().or_own_failure(beside_a_command).into()
        }
    }
}

/// Whether these arguments have pgate run a command, whose exit codes a script must be
/// able to tell from pgate's own. They need not parse.
fn runs_a_command(arguments: &[OsString]) -> bool {
    let mut own = arguments.iter().take_while(|argument| *argument != "--");
    own.any(|argument| argument == "connect")
        && arguments.iter().skip_while(|argument| *argument != "--").nth(1).is_some()
}

/// The command line's definition, from which completions and man pages are made.
pub fn definition() -> clap::Command {
    Cli::command()
}

fn start(cli: Cli) -> Result<ExitCode, (Failure, Option<Output>)> {
    let early = |failure: Failure| (failure, None);
    let folders = Folders::of_this_user().map_err(|error| early(error.into()))?;
    let working_directory = std::env::current_dir().map_err(|error| early(error.into()))?;
    let flags = Flags {
        server: cli.global.server.clone(),
        output: cli.global.output.map(|format| format.name().to_owned()),
    };
    let settings =
        Settings::load(&flags, |name| std::env::var(name).ok(), &working_directory, &folders)
            .map_err(|error| early(error.into()))?;

    let format = match settings.output.value {
        OutputFormat::Text => Format::Text,
        OutputFormat::Json => Format::Json,
    };
    let chatter = if cli.global.quiet { Chatter::Quiet } else { Chatter::Normal };
    let output = Output::new(format, chatter);
    listen_to_traces(&cli.command, cli.global.verbose);
    // Both providers may be compiled in by a dependency, so the choice is made here.
    // An Err only says that it was made already.
    let _ = rustls::crypto::ring::default_provider().install_default();

    let context = Context::new(settings, folders, output.clone(), cli.global.no_input);
    let late = |failure: Failure| (failure, Some(output.clone()));
    let command = cli.command;
    match &command {
        Command::Serve(_) | Command::Demo(_) => {
            run_on(tokio::runtime::Builder::new_multi_thread(), command, &context)
        }
        // A proxy's connections wake each other up less on one thread: that is worth more
        // than a second core. Short statements are read on it as well, which takes the
        // stack; what takes long (other SQL, keyrings) has threads of its own.
        _ => sql::on_large_stack(|| {
            run_on(tokio::runtime::Builder::new_current_thread(), command, &context)
        }),
    }
    .map_err(late)
}

fn run_on(
    mut runtime: tokio::runtime::Builder,
    command: Command,
    context: &Context,
) -> Result<ExitCode, Failure> {
    let runtime = runtime.enable_all().build()?;
    let result = runtime.block_on(dispatch(command, context));
    // A thread that waits for a keyring or a terminal must not keep the process.
    runtime.shutdown_background();
    result
}

/// Help and version go to stdout with 0; a wrong command line to stderr with 2.
fn explain(error: &clap::Error, arguments: &[OsString], beside_a_command: bool) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return match error.print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => Exit::Failure.into(),
        };
    }
    if wants_json(arguments) {
        let text = error.render().to_string();
        let text = text.trim_start_matches("error: ").trim_end();
        let (message, hint) = text.split_once("\n\n").unwrap_or((text, "see --help"));
        let failure = Failure::usage(message).hint(hint.replace("\n\n", " "));
        Output::new(Format::Json, Chatter::Normal).failure(&failure);
    } else if error.print().is_err() {
        return Exit::Failure.into();
    }
    Exit::Usage.or_own_failure(beside_a_command).into()
}

/// Whether the arguments up to `--` ask for JSON; they did not parse, so this
/// reads them as they stand.
fn wants_json(arguments: &[OsString]) -> bool {
    let own: Vec<_> = arguments
        .iter()
        .take_while(|argument| *argument != "--")
        .filter_map(|argument| argument.to_str())
        .collect();
    own.contains(&"--output=json") || own.windows(2).any(|pair| pair == ["--output", "json"])
}

/// Colour only on terminals, and not where `NO_COLOR` is set (no-color.org).
fn colour() {
    if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        console::set_colors_enabled(false);
        console::set_colors_enabled_stderr(false);
    }
}

/// Traces go to stderr: warnings, more with `-v`, or what `PGATE_LOG` asks for.
fn listen_to_traces(command: &Command, verbose: u8) {
    if command.keeps_its_own_log() {
        return;
    }
    let level = match verbose {
        0 => "error",
        1 => "pgate=info,warn",
        2 => "pgate=debug,info",
        _ => "pgate=trace,debug",
    };
    let filter = std::env::var("PGATE_LOG")
        .ok()
        .and_then(|filter| filter.parse().ok())
        .unwrap_or_else(|| tracing_subscriber::EnvFilter::new(level));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(console::colors_enabled_stderr())
        .try_init();
}

impl Command {
    /// Whether the command sets up its own logging, as the server does.
    fn keeps_its_own_log(&self) -> bool {
        matches!(self, Command::Serve(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        definition().debug_assert();
    }

    #[test]
    fn every_command_shows_examples() {
        fn walk(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name());
                if sub.get_subcommands().next().is_none() {
                    let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                    assert!(help.contains("Examples:") && help.contains("pgate "), "{path}");
                }
                walk(sub, &path);
            }
        }
        walk(&definition(), "pgate");
    }

    #[test]
    fn global_flags_stand_before_or_after_the_subcommand() {
        for line in
            ["pgate --output json man", "pgate man --output json", "pgate man --output=json"]
        {
            let cli = Cli::try_parse_from(line.split(' ')).expect(line);
            assert_eq!(cli.global.output, Some(Format::Json));
        }
    }
}
