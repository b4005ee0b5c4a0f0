//! `pgate inbox`.

use std::process::ExitCode;

use clap::Subcommand;
use jiff::Timestamp;

use super::{
    context::Context,
    failure::Failure,
    grants,
    holds::{self, ReviewId},
    output::{Output, escaped, lasting, moment},
};
use crate::api::{Auth, Grant, HoldSummary};

/// List what waits for your review: requests for grants, and held statements.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate inbox
  pgate inbox show ho_7c2n9x4b6d1f8g3h
  pgate inbox --output json | jq -r '.grants[].id, .holds[].id'")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(List),
    Show(Show),
}

/// List what waits for your review.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate inbox list")]
struct List {}

/// Show one request or held statement: who asks, why, and what exactly would run.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate inbox show ho_7c2n9x4b6d1f8g3h
  pgate inbox show ho_7c2n9x4b6d1f8g3h --output json | jq -r .statement.sql
  pgate inbox show gr_3x9k2m7q4v8w1n5p")]
struct Show {
    /// The request (gr_…) or the held statement (ho_…)
    id: ReviewId,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    match args.action {
        None | Some(Action::List(List {})) => list(context).await,
        Some(Action::Show(show)) => run_show(&show, context).await,
    }
}

async fn run_show(show: &Show, context: &Context) -> Result<ExitCode, Failure> {
    let client = context.client()?;
    match &show.id {
        ReviewId::Grant(id) => grants::show(&client.grant(id, None).await?, context),
        ReviewId::Hold(id) => {
            let view = client.hold(id, None, Auth::Login).await?;
            if context.output.is_json() {
                context.output.json(&view)?;
            } else {
                holds::describe(&view, context);
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn list(context: &Context) -> Result<ExitCode, Failure> {
    let client = context.client()?;
    let inbox = client.inbox().await?;
    let output = &context.output;
    if output.is_json() {
        output.json(&inbox)?;
        return Ok(ExitCode::SUCCESS);
    }
    if inbox.grants.is_empty() && inbox.holds.is_empty() {
        output.note("nothing waits for you");
        return Ok(ExitCode::SUCCESS);
    }
    let now = Timestamp::now();
    // Somebody sits at a terminal and waits for these: they come first.
    list_holds(&inbox.holds, now, output);
    if !inbox.holds.is_empty() && !inbox.grants.is_empty() {
        output.line("");
    }
    list_grants(&inbox.grants, now, output);
    let page = client.info().await.ok();
    let page =
        page.map_or(String::new(), |info| format!(", or open {}", escaped(&info.inbox_url())));
    match (inbox.holds.first(), inbox.grants.first()) {
        (Some(hold), _) => output.next(format!("pgate inbox show {}{page}", hold.id)),
        (None, Some(grant)) => output.next(format!(
            "pgate approve {}  (or: pgate deny {0} --comment \"…\"{page})",
            grant.id
        )),
        (None, None) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Characters of a statement in a list.
const MOST_OF_STATEMENT: usize = 60;

fn list_holds(holds: &[HoldSummary], now: Timestamp, output: &Output) {
    if holds.is_empty() {
        return;
    }
    let rows: Vec<_> = holds
        .iter()
        .map(|hold| {
            let words = hold.sql.split_whitespace().collect::<Vec<_>>().join(" ");
            let mut sql = words.chars().take(MOST_OF_STATEMENT).collect::<String>();
            if words.chars().nth(MOST_OF_STATEMENT).is_some() {
                sql.push('…');
            }
            [
                hold.id.to_string(),
                hold.identity.to_string(),
                hold.target.clone(),
                hold.role.clone(),
                moment(hold.expires_at, now),
                sql,
            ]
        })
        .collect();
    output.table(["HELD", "WHO", "TARGET", "ROLE", "WAITS UNTIL", "STATEMENT"], &rows);
}

fn list_grants(grants: &[Grant], now: Timestamp, output: &Output) {
    if grants.is_empty() {
        return;
    }
    let rows: Vec<_> = grants
        .iter()
        .map(|grant| {
            [
                grant.id.to_string(),
                grant.identity.to_string(),
                grant.target.clone(),
                grant.role.clone(),
                lasting(grant.ttl_seconds),
                moment(grant.requested_at, now),
                grant.reason.clone(),
            ]
        })
        .collect();
    output.table(["GRANT", "WHO", "TARGET", "ROLE", "FOR", "ASKED", "REASON"], &rows);
}
