//! `pgate approve`.

use std::process::ExitCode;

use super::{
    context::Context,
    failure::Failure,
    grants::{self, comment},
    holds::{self, ReviewId},
};
use crate::api::{Comment, HoldApproval, Scope};

/// Approve a request for a grant, or a held statement.
///
/// Nobody approves what is their own. Where the policy wants several reviewers, a
/// grant becomes active with the last of them. A held statement runs as soon as it is
/// approved; `pgate inbox show ID` shows it first.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate approve gr_3x9k2m7q4v8w1n5p
  pgate approve gr_3x9k2m7q4v8w1n5p --comment \"ok for the incident\"
  pgate approve ho_7c2n9x4b6d1f8g3h
  pgate approve ho_7c2n9x4b6d1f8g3h --same-statements")]
pub(crate) struct Args {
    /// The request (gr_…) or the held statement (ho_…); `pgate inbox` lists them
    id: ReviewId,

    /// What you want to say about it
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,

    /// Approve every statement of this shape, whatever its values, until the session
    /// ends (held statements only)
    #[arg(long)]
    same_statements: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let comment = comment(&args.comment)?;
    match args.id {
        ReviewId::Grant(_) if args.same_statements => {
            Err(Failure::usage("--same-statements is for held statements (ho_…)"))
        }
        ReviewId::Grant(id) => {
            let grant = context.client()?.approve(&id, &Comment { comment }).await?;
            grants::report(&grant, context)
        }
        ReviewId::Hold(id) => {
            let scope = if args.same_statements { Scope::SameStatements } else { Scope::Once };
            let approval = HoldApproval { comment, scope };
            holds::report(&context.client()?.approve_hold(&id, &approval).await?, context)
        }
    }
}
