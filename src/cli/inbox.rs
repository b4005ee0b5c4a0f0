//! `pgate inbox`.

use std::process::ExitCode;

use jiff::Timestamp;

use super::{
    context::Context,
    failure::Failure,
    output::{lasting, moment},
};

/// List the requests that wait for your review.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate inbox
  pgate inbox --output json | jq -r '.grants[].id'")]
pub(crate) struct Args {}

pub(crate) async fn run(_args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let list = context.client()?.inbox().await?;
    let output = &context.output;
    if output.is_json() {
        output.json(&list)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(first) = list.grants.first() else {
        output.note("nothing waits for you");
        return Ok(ExitCode::SUCCESS);
    };
    let now = Timestamp::now();
    let rows: Vec<_> = list
        .grants
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
    output.next(format!("pgate approve {}  (or: pgate deny {0} --comment \"…\")", first.id));
    Ok(ExitCode::SUCCESS)
}
