//! `pgate deny`.

use std::process::ExitCode;

use super::{
    context::Context,
    failure::Failure,
    grants::{self, comment},
    holds::{self, ReviewId},
};
use crate::api::Comment;

/// Deny a request for a grant, or a held statement.
///
/// Whoever asked sees the comment.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate deny gr_3x9k2m7q4v8w1n5p
  pgate deny gr_3x9k2m7q4v8w1n5p --comment \"use the replica\"
  pgate deny ho_7c2n9x4b6d1f8g3h --comment \"not before the backup\"")]
pub(crate) struct Args {
    /// The request (gr_…) or the held statement (ho_…); `pgate inbox` lists them
    id: ReviewId,

    /// What you want to say about it
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let comment = Comment { comment: comment(&args.comment)? };
    match args.id {
        ReviewId::Grant(id) => {
            grants::report(&context.client()?.deny(&id, &comment).await?, context)
        }
        ReviewId::Hold(id) => {
            holds::report(&context.client()?.deny_hold(&id, &comment).await?, context)
        }
    }
}
