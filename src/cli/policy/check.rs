//! `pgate policy check`.

use std::{path::PathBuf, process::ExitCode};

use serde::Serialize;

use super::{
    database::{Database, catalog_of, read_catalog},
    files::{Files, told},
};
use crate::{
    cli::{
        context::Context,
        failure::{Exit, Failure},
        output::{Output, escaped},
    },
    policy::{self, Enforced, Finding, Mend, Policy, Severity, Target},
};

/// Check policy files, and with --target whether a database holds what they promise
///
/// Tells every problem of the files at once, with its file, line and key, and which layer
/// enforces each rule. This needs no server and reads no secret.
///
/// With --target it also looks at the real database, by the target's own credential or by
/// another connection, and changes nothing there: rules about things that don't exist, what
/// PUBLIC has beyond the roles, SECURITY DEFINER functions, masks that don't fit, columns
/// that look personal and aren't masked, server versions with known holes. Each finding comes
/// with what mends it. Values are sampled to see what they look like, and never shown.
///
/// Exits with 1 where there is an error; with --strict also where there is a warning.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate policy check policy/
  pgate policy check policy/shop.toml policy/targets.toml
  pgate policy check policy/ --output json
  pgate policy check policy/ --target prod-db
  pgate policy check policy/ --target prod-db --database-url-file readonly.url --strict
  pgate policy check policy/ --target prod-db --catalog shop.json   # what a catalog can tell")]
pub(super) struct Args {
    /// A folder of *.toml files, or files: all of them are one policy
    #[arg(required = true, value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    database: Database,

    /// Examine a catalog that `pgate policy catalog` has saved, instead of the database
    #[arg(long, value_name = "FILE", requires = "target", conflicts_with = "database_url_file")]
    catalog: Option<PathBuf>,

    /// Judge columns by their names alone; look at no row
    #[arg(long, requires = "target")]
    no_sample: bool,

    /// Fail on warnings too
    #[arg(long)]
    strict: bool,
}

/// What the database was found to be.
#[derive(Debug, Serialize)]
struct Examined {
    target: String,
    findings: Vec<Finding>,
    /// Relations whose contents could not be looked at.
    unsampled: Vec<String>,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let output = &context.output;
    if args.database.target.is_none() && args.database.database_url_file.is_some() {
        return Err(Failure::usage("--database-url-file needs --target")
            .hint("name the target of the policy that this database is"));
    }
    let files = Files::read(&args.paths)?;
    let policy = match policy::parse(&files.texts) {
        Ok(policy) => policy,
        Err(problems) => {
            if output.is_json() {
                output.json(&serde_json::json!({ "ok": false, "problems": told(&problems) }))?;
                return Ok(Exit::Failure.into());
            }
            for problem in &problems {
                output.line(escaped(&problem.to_string()));
            }
            return Err(failed(problems.len(), "problem", "in the policy"));
        }
    };
    let examined = match args.database.target(&policy)? {
        Some(target) => Some(examine(&args, &policy, target, &files, output).await?),
        None => None,
    };
    let enforced = policy::layers(&policy);
    let findings = examined.as_ref().map(|examined| &examined.findings[..]).unwrap_or_default();
    let (errors, warnings) = findings
        .iter()
        .partition::<Vec<&Finding>, _>(|finding| finding.severity == Severity::Error);
    let warnings = warnings.len() + policy.warnings.len();
    let ok = errors.is_empty() && !(args.strict && warnings > 0);
    if output.is_json() {
        let mut told = serde_json::json!({
            "ok": ok,
            "problems": [],
            "warnings": told(&policy.warnings),
            "rules": enforced,
        });
        if let Some(examined) = &examined {
            told["examined"] = serde_json::to_value(examined).map_err(anyhow::Error::from)?;
        }
        output.json(&told)?;
        return Ok(if ok { ExitCode::SUCCESS } else { Exit::Failure.into() });
    }
    print(&policy, &enforced, output);
    match &examined {
        Some(examined) => print_examined(examined, output),
        None => output.note(format!(
            "ok: {} targets, {} roles, {} access rules",
            policy.targets.len(),
            policy.roles.len(),
            policy.access.len()
        )),
    }
    match (errors.len(), warnings) {
        _ if ok => Ok(ExitCode::SUCCESS),
        (0, warnings) => Err(failed(warnings, "warning", "and --strict was given")),
        (errors, _) => Err(failed(errors, "error", "in the database or the policy's fit to it")),
    }
}

fn failed(count: usize, what: &str, place: &str) -> Failure {
    let plural = if count == 1 { "" } else { "s" };
    Failure::new(Exit::Failure, "policy", format!("{count} {what}{plural} {place}"))
}

async fn examine(
    args: &Args,
    policy: &Policy,
    target: &Target,
    files: &Files,
    output: &Output,
) -> Result<Examined, Failure> {
    let (catalog, survey) = match &args.catalog {
        Some(path) => (read_catalog(path)?, None),
        None => {
            let spinner = output.spinner("Examining the database");
            let mut surveyor = args.database.connect(Some(target), &files.folder).await?;
            let catalog = catalog_of(&surveyor.catalog().await?, "the database")?;
            let mut survey = surveyor.survey().await?;
            if !args.no_sample {
                let columns = policy::columns_to_sample(policy, target, &catalog);
                surveyor.sample(&columns, &mut survey).await?;
            }
            drop(spinner);
            (catalog, Some(survey))
        }
    };
    let findings = policy::examine(policy, target, &catalog, survey.as_ref());
    let unsampled = survey.map(|survey| survey.unsampled).unwrap_or_default();
    Ok(Examined { target: target.name.clone(), findings, unsampled })
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
}

fn print_examined(examined: &Examined, output: &Output) {
    for finding in &examined.findings {
        let word = match finding.severity {
            Severity::Error => console::style("error").red().bold(),
            Severity::Warning => console::style("warning").yellow(),
        };
        let code = console::style(format!("[{}]", finding.code)).dim();
        output.line(format!("\n{word}: {} {code}", escaped(&finding.problem)));
        if !finding.roles.is_empty() {
            output.line(format!("  roles: {}", escaped(&finding.roles.join(", "))));
        }
        output.line(format!("  why:   {}", escaped(&finding.why)));
        for mend in &finding.mend {
            let (label, text) = match mend {
                Mend::Sql(sql) => ("sql:   ", sql),
                Mend::Policy(line) => ("policy:", line),
                Mend::Do(what) => ("do:    ", what),
            };
            output.line(format!("  {label} {}", escaped(text)));
        }
    }
    if !examined.unsampled.is_empty() {
        output.note(format!(
            "not looked into, for want of rights or time: {}",
            escaped(&examined.unsampled.join(", "))
        ));
    }
    if examined.findings.is_empty() {
        output.note(format!("ok: {} holds what the policy promises", examined.target));
    }
}
