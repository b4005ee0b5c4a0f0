//! `pgate policy`: what policy files say, what they mean for a statement, and whether a
//! database holds what they promise.

mod catalog;
mod check;
mod database;
mod decision;
mod diff;
mod explain;
mod files;
mod test;

use std::process::ExitCode;

use clap::Subcommand;

use super::{context::Context, failure::Failure};

/// Check, explain, test and compare policies
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Explain(explain::Args),
    Test(test::Args),
    Diff(diff::Args),
    Catalog(catalog::Args),
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Check(args) => check::run(args, context).await,
        Command::Explain(args) => explain::run(args, context).await,
        Command::Test(args) => test::run(args, context).await,
        Command::Diff(args) => diff::run(args, context).await,
        Command::Catalog(args) => catalog::run(args, context).await,
    }
}
