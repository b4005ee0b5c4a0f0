//! `pgate policy`: what policy files say, and who enforces it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Subcommand;

use super::{
    context::Context,
    failure::{Exit, Failure},
    output::{Output, escaped},
};
use crate::policy::{self, Enforced, Policy, PolicyError};

/// Check policy files
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(Check),
}

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
struct Check {
    /// A folder of *.toml files, or files: all of them are one policy
    #[arg(required = true, value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Check(check) => check_files(&check, &context.output),
    }
}

fn check_files(check: &Check, output: &Output) -> Result<ExitCode, Failure> {
    let mut files = Vec::new();
    for path in &check.paths {
        read(path, &mut files)?;
    }
    if files.is_empty() {
        return Err(Failure::new(Exit::Failure, "no_policy", "there is no policy file there")
            .hint("name a folder that holds *.toml files, or the files"));
    }
    match policy::parse(&files) {
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

/// Adds a file, or the `*.toml` files of a folder by name. Files are named as the
/// user named them, so that a terminal can open them.
fn read(path: &Path, files: &mut Vec<(String, String)>) -> Result<(), Failure> {
    let shown = path.display().to_string();
    if !path.is_dir() {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {shown}"))?;
        files.push((shown, text));
        return Ok(());
    }
    let mut inside = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("reading {shown}"))? {
        let entry = entry.with_context(|| format!("reading {shown}"))?.path();
        if entry.extension().is_some_and(|extension| extension == "toml") && entry.is_file() {
            inside.push(entry);
        }
    }
    inside.sort();
    inside.iter().try_for_each(|file| read(file, files))
}

fn told(problems: &[PolicyError]) -> Vec<serde_json::Value> {
    let one = |problem: &PolicyError| {
        serde_json::json!({
            "file": problem.file,
            "line": problem.line,
            "column": problem.column,
            "key": problem.key,
            "message": problem.message,
            "hint": problem.hint,
        })
    };
    problems.iter().map(one).collect()
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
