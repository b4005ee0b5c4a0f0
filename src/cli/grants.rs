//! `pgate grants`, and how a grant is shown.

use std::process::ExitCode;

use clap::Subcommand;
use jiff::Timestamp;

use super::{
    context::Context,
    failure::Failure,
    output::{escaped, lasting, moment},
};
use crate::{
    api::{Comment, Grant, GrantId},
    grant::{Decision, State},
};

/// List, show and revoke your grants.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate grants
  pgate grants show gr_3x9k2m7q4v8w1n5p
  pgate grants revoke gr_3x9k2m7q4v8w1n5p")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(List),
    Show(Show),
    Revoke(Revoke),
}

/// List your grants, newest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate grants list
  pgate grants list --active
  pgate grants list --output json | jq '.grants[] | select(.state == \"active\")'")]
struct List {
    /// Only those that can be used now
    #[arg(long)]
    active: bool,
}

/// Show one grant: who decided, and until when it lasts.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate grants show gr_3x9k2m7q4v8w1n5p")]
struct Show {
    /// The grant
    id: GrantId,
}

/// Take a grant back; its sessions end at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate grants revoke gr_3x9k2m7q4v8w1n5p --comment \"done early\"")]
struct Revoke {
    /// The grant
    id: GrantId,

    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    match args.action.unwrap_or(Action::List(List { active: false })) {
        Action::List(list) => run_list(&list, context).await,
        Action::Show(show) => {
            let grant = context.client()?.grant(&show.id, None).await?;
            self::show(&grant, context)
        }
        Action::Revoke(revoke) => {
            let comment = Comment { comment: comment(&revoke.comment)? };
            let grant = context.client()?.revoke(&revoke.id, &comment).await?;
            report(&grant, context)
        }
    }
}

async fn run_list(list: &List, context: &Context) -> Result<ExitCode, Failure> {
    let mut grants = context.client()?.grants().await?;
    if list.active {
        grants.grants.retain(|grant| matches!(grant.state, State::Active { .. }));
    }
    let output = &context.output;
    if output.is_json() {
        output.json(&grants)?;
        return Ok(ExitCode::SUCCESS);
    }
    if grants.grants.is_empty() {
        output.note("no grants");
        output.next("pgate targets");
        return Ok(ExitCode::SUCCESS);
    }
    let now = Timestamp::now();
    let rows: Vec<_> = grants
        .grants
        .iter()
        .map(|grant| {
            [
                grant.id.to_string(),
                grant.target.clone(),
                grant.role.clone(),
                grant.state.name().to_owned(),
                ends(grant).map(|at| moment(at, now)).unwrap_or_default(),
                grant.reason.clone(),
            ]
        })
        .collect();
    output.table(["GRANT", "TARGET", "ROLE", "STATE", "ENDS", "REASON"], &rows);
    Ok(ExitCode::SUCCESS)
}

/// What became of a grant, in one line.
pub(crate) fn outcome(grant: &Grant, now: Timestamp) -> String {
    let state = match &grant.state {
        State::Pending { needed, approvals } => {
            let missing =
                usize::try_from(*needed).unwrap_or(usize::MAX).saturating_sub(approvals.len());
            let reviewers =
                if missing == 1 { "1 reviewer".into() } else { format!("{missing} reviewers") };
            format!("pending, waits for {reviewers}; lapses at {}", moment(grant.lapses_at, now))
        }
        State::Active { expires_at, .. } => format!("active until {}", moment(*expires_at, now)),
        State::Denied { decision } => format!("denied by {}", decision.by),
        State::Revoked { decision } => format!("revoked by {}", decision.by),
        State::Expired { at } => format!("expired at {}", moment(*at, now)),
    };
    escaped(&format!("{}  {} as {}: {state}", grant.id, grant.target, grant.role))
}

/// Prints a grant after a decision: the object, or the outcome.
pub(crate) fn report(grant: &Grant, context: &Context) -> Result<ExitCode, Failure> {
    if context.output.is_json() {
        context.output.json(grant)?;
    } else {
        context.output.line(outcome(grant, Timestamp::now()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a grant with who decided on it.
pub(crate) fn show(grant: &Grant, context: &Context) -> Result<ExitCode, Failure> {
    if context.output.is_json() {
        context.output.json(grant)?;
    } else {
        describe(grant, context);
    }
    Ok(ExitCode::SUCCESS)
}

/// A comment that the server takes.
pub(crate) fn comment(text: &str) -> Result<String, Failure> {
    let text = text.trim();
    if text.chars().count() > 500 {
        return Err(Failure::usage("the comment is longer than 500 characters"));
    }
    Ok(text.to_owned())
}

fn ends(grant: &Grant) -> Option<Timestamp> {
    match &grant.state {
        State::Pending { .. } => Some(grant.lapses_at),
        State::Active { expires_at, .. } => Some(*expires_at),
        State::Expired { at } => Some(*at),
        State::Denied { decision } | State::Revoked { decision } => Some(decision.at),
    }
}

fn describe(grant: &Grant, context: &Context) {
    let now = Timestamp::now();
    let mut fields = vec![
        ("grant", grant.id.to_string()),
        ("target", grant.target.clone()),
        ("role", grant.role.clone()),
        ("who", grant.identity.to_string()),
        ("reason", grant.reason.clone()),
        ("asked", moment(grant.requested_at, now)),
        ("lifetime", lasting(grant.ttl_seconds)),
        ("state", grant.state.name().to_owned()),
    ];
    let word = |decision: &Decision| {
        let said = match decision.comment.as_str() {
            "" => String::new(),
            comment => format!(": {comment}"),
        };
        format!("{}, {}{said}", decision.by, moment(decision.at, now))
    };
    match &grant.state {
        State::Pending { needed, approvals } => {
            fields.push(("approvals", format!("{} of {needed}", approvals.len())));
            fields.extend(approvals.iter().map(|decision| ("approved", word(decision))));
            fields.push(("lapses", moment(grant.lapses_at, now)));
        }
        State::Active { since, expires_at, approvals } => {
            fields.extend(approvals.iter().map(|decision| ("approved", word(decision))));
            if approvals.is_empty() {
                fields.push(("approved", "by the policy".into()));
            }
            fields.push(("active since", moment(*since, now)));
            fields.push(("ends", moment(*expires_at, now)));
        }
        State::Denied { decision } => fields.push(("denied", word(decision))),
        State::Revoked { decision } => fields.push(("revoked", word(decision))),
        State::Expired { at } => fields.push(("expired", moment(*at, now))),
    }
    context.output.fields(&fields);
    if matches!(grant.state, State::Active { .. }) {
        context.output.next(format!("pgate connect {} -- psql", escaped(&grant.target)));
    }
}
