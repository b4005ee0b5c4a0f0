//! `pgate deny`.

use std::process::ExitCode;

use super::{
    context::Context,
    failure::Failure,
    grants::{comment, report},
};
use crate::api::{Comment, GrantId};

/// Deny a request.
///
/// The requester sees the comment.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate deny gr_3x9k2m7q4v8w1n5p
  pgate deny gr_3x9k2m7q4v8w1n5p --comment \"use the replica\"")]
pub(crate) struct Args {
    /// The grant that is asked for (`pgate inbox` lists them)
    id: GrantId,

    /// What you want to say about it
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let comment = Comment { comment: comment(&args.comment)? };
    let grant = context.client()?.deny(&args.id, &comment).await?;
    report(&grant, context)
}
