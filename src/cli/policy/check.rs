//! `pgate policy check`.

use std::{path::PathBuf, process::ExitCode};

use super::files::{Files, told};
use crate::{
    cli::{
        context::Context,
        failure::{Exit, Failure},
        output::{Output, escaped},
    },
    policy::{self, Enforced, Policy},
};

/// Check policy files and print which layer enforces each rule
///
/// Tells every problem at once, with its file, line and key. Needs no server and
/// reads no secret.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate policy check policy/
  pgate policy check policy/shop.toml policy/targets.toml
  pgate policy check policy/ --output json")]
pub(super) struct Args {
    /// A folder of *.toml files, or files: all of them are one policy
    #[arg(required = true, value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let output = &context.output;
    let files = Files::read(&args.paths)?;
    match policy::parse(&files.texts) {
        Ok(policy) => {
            let enforced = policy::layers(&policy);
            if output.is_json() {
                output.json(&serde_json::json!({
                    "ok": true,
                    "problems": [],
                    "warnings": told(&policy.warnings),
                    "rules": enforced,
                }))?;
            } else {
                print(&policy, &enforced, output);
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            if output.is_json() {
                output.json(&serde_json::json!({ "ok": false, "problems": told(&problems) }))?;
                return Ok(Exit::Failure.into());
            }
            for problem in &problems {
                output.line(escaped(&problem.to_string()));
            }
            let count = problems.len();
            let noun = if count == 1 { "problem" } else { "problems" };
            Err(Failure::new(Exit::Failure, "policy", format!("{count} {noun} in the policy")))
        }
    }
}

fn print(policy: &Policy, enforced: &[Enforced], output: &Output) {
    for warning in &policy.warnings {
        output.warn(escaped(&warning.to_string()));
    }
    let rows = enforced
        .iter()
        .map(|enforced| {
            let layers = enforced.layers.iter().map(ToString::to_string).collect::<Vec<_>>();
            [
                enforced.rule.rule.clone(),
                enforced.says.clone(),
                layers.join(" + "),
                enforced.note.clone().unwrap_or_default(),
            ]
        })
        .collect::<Vec<_>>();
    output.table(["RULE", "SAYS", "ENFORCED BY", "NOTE"], &rows);
    output.note(format!(
        "ok: {} targets, {} roles, {} access rules",
        policy.targets.len(),
        policy.roles.len(),
        policy.access.len()
    ));
}
