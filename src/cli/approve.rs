//! `pgate approve`.

use std::process::ExitCode;

use super::{
    context::Context,
    failure::Failure,
    grants::{comment, report},
};
use crate::api::{Comment, GrantId};

/// Approve a request.
///
/// Nobody approves their own request. Where the policy wants several reviewers, the
/// grant becomes active with the last of them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate approve gr_3x9k2m7q4v8w1n5p
  pgate approve gr_3x9k2m7q4v8w1n5p --comment \"ok for the incident\"")]
pub(crate) struct Args {
    /// The grant that is asked for (`pgate inbox` lists them)
    id: GrantId,

    /// What you want to say about it
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let comment = Comment { comment: comment(&args.comment)? };
    let grant = context.client()?.approve(&args.id, &comment).await?;
    report(&grant, context)
}
