//! `pgate targets`.

use std::process::ExitCode;

use super::{context::Context, failure::Failure, output::lasting};

/// List the targets and roles that you may ask for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate targets
  pgate targets --output json | jq -r '.targets[].target'")]
pub(crate) struct Args {}

pub(crate) async fn run(_args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let list = context.client()?.targets().await?;
    let output = &context.output;
    if output.is_json() {
        output.json(&list)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = list
        .targets
        .iter()
        .flat_map(|target| {
            target.roles.iter().map(|role| {
                [
                    target.target.clone(),
                    role.role.clone(),
                    role.approval.clone(),
                    format!(
                        "{} (at most {})",
                        lasting(role.ttl_seconds),
                        lasting(role.max_ttl_seconds)
                    ),
                    role.about.clone(),
                ]
            })
        })
        .collect();
    let Some([target, role, ..]) = rows.first() else {
        output.note("no access rule lets you ask for anything; ask the operator for one");
        return Ok(ExitCode::SUCCESS);
    };
    output.table(["TARGET", "ROLE", "APPROVAL", "LIFETIME", "ABOUT"], &rows);
    output.next(super::output::escaped(&format!(
        "pgate request {target} --role {role} --reason \"…\""
    )));
    Ok(ExitCode::SUCCESS)
}
