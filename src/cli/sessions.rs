//! `pgate sessions`: what ran, under whose name, and how it ended.

use std::process::ExitCode;

use clap::Subcommand;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    context::Context,
    failure::Failure,
    holds::outcome,
    output::{lasting, moment},
};
use crate::{
    api::{HoldSummary, SessionView},
    grant::SessionId,
};

/// List and show sessions: your own, and those that you may review.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate sessions
  pgate sessions show se_3f8k2m9qv5xw7c1d")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(List),
    Show(Show),
}

/// List sessions, newest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate sessions list
  pgate sessions list --limit 100 --output json | jq -r '.sessions[].session'")]
struct List {
    /// So many at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: Option<u32>,
}

/// Show one session.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate sessions show se_3f8k2m9qv5xw7c1d")]
struct Show {
    /// The session
    session: SessionId,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    match args.action.unwrap_or(Action::List(List { limit: None })) {
        Action::List(list) => run_list(&list, context).await,
        Action::Show(show) => run_show(&show, context).await,
    }
}

async fn run_list(list: &List, context: &Context) -> Result<ExitCode, Failure> {
    let sessions = context.client()?.sessions(list.limit).await?;
    let output = &context.output;
    if output.is_json() {
        output.json(&sessions)?;
        return Ok(ExitCode::SUCCESS);
    }
    if sessions.sessions.is_empty() {
        output.note("No sessions yet: `pgate connect TARGET -- psql` opens one.");
        return Ok(ExitCode::SUCCESS);
    }
    let now = Timestamp::now();
    let rows = sessions.sessions.iter().map(|session| {
        [
            session.session.to_string(),
            session.state.clone(),
            session.identity.to_string(),
            session.target.clone(),
            session.role.clone(),
            moment(session.opened_at, now),
            session.statements.to_string(),
            session.reason.clone(),
        ]
    });
    let headings = ["SESSION", "STATE", "WHO", "TARGET", "ROLE", "OPENED", "STATEMENTS", "REASON"];
    output.table(headings, &rows.collect::<Vec<_>>());
    Ok(ExitCode::SUCCESS)
}

async fn run_show(show: &Show, context: &Context) -> Result<ExitCode, Failure> {
    let client = context.client()?;
    let session = client.session(&show.session).await?;
    let holds = client.session_holds(&show.session).await?.holds;
    if context.output.is_json() {
        context.output.json(&Shown { session: &session, holds: &holds })?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = Timestamp::now();
    let mut fields = fields(&session, now);
    fields.extend(holds.iter().map(|hold| ("held", held(hold, now))));
    context.output.fields(&fields);
    context.output.next(format!("pgate replay {}", session.session));
    Ok(ExitCode::SUCCESS)
}

/// A session with its held statements.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    session: &'a SessionView,
    holds: &'a [HoldSummary],
}

fn held(hold: &HoldSummary, now: Timestamp) -> String {
    let state = outcome(&hold.state, now);
    format!("{}, statement {}, {state}", hold.id, hold.statement)
}

fn fields(session: &SessionView, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("session", session.session.to_string()),
        ("state", session.state.clone()),
        ("who", session.identity.to_string()),
        ("access", format!("{} as {}", session.target, session.role)),
        ("grant", session.grant.to_string()),
        ("reason", session.reason.clone()),
        ("opened", moment(session.opened_at, now)),
    ];
    match session.ended_at {
        Some(at) => {
            let lasted = at.as_second().saturating_sub(session.opened_at.as_second());
            let lasted = lasting(u64::try_from(lasted).unwrap_or(0));
            fields.push(("ended", format!("{}, after {lasted}", moment(at, now))));
        }
        None => fields.push(("ends", moment(session.expires_at, now))),
    }
    fields.push(("log", format!("{} lines, {} statements", session.lines, session.statements)));
    fields
}
