//! `pgate policy test`.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::{Path, PathBuf},
    process::ExitCode,
};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    database::{self, read_catalog},
    decision::{Decision, Judge, word},
    files::{Files, inside, read, refused},
};
use crate::{
    cli::{
        context::Context,
        failure::{Exit, Failure},
        output::{Output, escaped},
    },
    policy::{self, Case, Expected, Policy, Verdict},
    sql::{Catalog, on_large_stack},
};

/// The folder that is looked into where none is named.
const POLICY: &str = "policy";

/// Hold a policy to cases: statements with the verdicts that it must give
///
/// Cases stand beside the policy, in files named *.test.toml or in its folder tests/; neither
/// is read as policy. They are decided on a saved catalog (`pgate policy catalog`), exactly
/// as a session would, and nothing is run. Exits with 1 where a case fails.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate policy test
  pgate policy test policy/
  pgate policy test policy/tests/readonly.toml --output json

A file of cases:
  catalog = \"shop.json\"                    # saved with `pgate policy catalog`
  role = \"readonly\"                        # for the cases that name none

  [[case]]
  name = \"support sees masked addresses\"
  sql = \"SELECT email FROM shop.customers\"
  expect = \"allow\"                         # or hold, deny
  rule = \"role.readonly.allow[0]\"          # optional, as are masked and sent
  masked = [\"shop.customers.email\"]
  at = \"2026-03-02T09:30:00Z\"             # when, for rules with hours or days
  rows = 5000                            # what PostgreSQL expects, for rules with rows > N")]
pub(super) struct Args {
    /// Policy folders, folders of cases, or files of cases [default: policy]
    #[arg(value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,
}

/// How a case went.
#[derive(Debug, Serialize)]
struct Outcome {
    place: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    role: String,
    sql: String,
    passed: bool,
    #[serde(flatten)]
    verdict: Verdict,
    /// What is not as expected.
    differences: Vec<String>,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let output = &context.output;
    let files = case_files(&args.paths)?;
    let mut read = Read::default();
    let mut outcomes = Vec::new();
    for file in &files {
        outcomes.extend(run_file(file, &mut read, output)?);
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    if output.is_json() {
        let ok = failed == 0;
        let passed = outcomes.len() - failed;
        output.json(&serde_json::json!({
            "ok": ok, "passed": passed, "failed": failed, "cases": outcomes,
        }))?;
        return Ok(if ok { ExitCode::SUCCESS } else { Exit::Failure.into() });
    }
    for outcome in &outcomes {
        print(outcome, output);
    }
    if failed == 0 {
        output.note(format!("ok: {} cases", outcomes.len()));
        return Ok(ExitCode::SUCCESS);
    }
    let message = format!("{failed} of {} cases failed", outcomes.len());
    Err(Failure::new(Exit::Failure, "cases_failed", message)
        .hint("`pgate policy explain` shows why a statement gets its verdict"))
}

/// The files of cases among these paths.
fn case_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let standard = [PathBuf::from(POLICY)];
    let paths = if paths.is_empty() { &standard[..] } else { paths };
    let mut found = Vec::new();
    for path in paths {
        if !path.is_dir() {
            found.push(path.clone());
        } else if holds_only_cases(path) {
            found.extend(inside(path, is_toml)?);
        } else {
            found.extend(inside(path, |name| name.ends_with(".test.toml"))?);
            let tests = path.join("tests");
            if tests.is_dir() {
                found.extend(inside(&tests, is_toml)?);
            }
        }
    }
    if found.is_empty() {
        let places = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        let message = format!("there are no cases in {}", places.join(", "));
        return Err(Failure::new(Exit::Failure, "no_cases", message)
            .hint("write them to tests/NAME.toml in the policy's folder; see --help"));
    }
    Ok(found)
}

fn is_toml(name: &str) -> bool {
    name.ends_with(".toml") && !name.starts_with('.')
}

/// A folder called `tests`.
fn holds_only_cases(folder: &Path) -> bool {
    let canonical = folder.canonicalize();
    let folder = canonical.as_deref().unwrap_or(folder);
    folder.file_name().is_some_and(|name| name == "tests")
}

/// What was read already: each policy and catalog once.
#[derive(Default)]
struct Read {
    policies: BTreeMap<PathBuf, Policy>,
    catalogs: BTreeMap<PathBuf, Catalog>,
    judges: BTreeMap<(PathBuf, PathBuf, String, String), Judge>,
}

fn run_file(path: &Path, known: &mut Read, output: &Output) -> Result<Vec<Outcome>, Failure> {
    let (shown, text) = read(path)?;
    let file = policy::parse_cases(&shown, &text)
        .map_err(|problems| refused(&problems, "cases", output))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let policy_path = match &file.policy {
        Some(policy) => folder.join(policy),
        None if holds_only_cases(folder) => folder.join(".."),
        None => folder.to_owned(),
    };
    if let Entry::Vacant(vacant) = known.policies.entry(policy_path.clone()) {
        vacant.insert(Files::read(std::slice::from_ref(&policy_path))?.policy(output)?);
    }
    let mut outcomes = Vec::new();
    for case in &file.cases {
        let at_case = |failure: Failure| {
            let message = format!("{}: {}", case.place, failure.message());
            let hint = failure.way_out().unwrap_or_default().to_owned();
            Failure::new(Exit::Failure, "case", message).hint(hint)
        };
        outcomes.push(run_case(case, &policy_path, folder, known).map_err(at_case)?);
    }
    Ok(outcomes)
}

fn run_case(
    case: &Case,
    policy_path: &Path,
    folder: &Path,
    known: &mut Read,
) -> Result<Outcome, Failure> {
    let catalog_path = folder.join(&case.catalog);
    if let Entry::Vacant(vacant) = known.catalogs.entry(catalog_path.clone()) {
        vacant.insert(read_catalog(&catalog_path)?);
    }
    let (Some(policy), Some(catalog)) =
        (known.policies.get(policy_path), known.catalogs.get(&catalog_path))
    else {
        return Err(anyhow::anyhow!("the policy or the catalog was not read").into());
    };
    let role = database::role(policy, &case.role)?;
    let target = database::target_of(policy, role, case.target.as_deref())?;
    let key = (policy_path.to_owned(), catalog_path, role.name.clone(), target.name.clone());
    let judge = match known.judges.entry(key) {
        Entry::Occupied(occupied) => occupied.into_mut(),
        Entry::Vacant(vacant) => vacant.insert(Judge::new(role, target, catalog)?),
    };
    let decision = on_large_stack(|| {
        judge.decide(&case.sql, case.at.unwrap_or_else(Timestamp::now), case.rows)
    });
    let differences = differences(case, &decision);
    Ok(Outcome {
        place: case.place.clone(),
        name: case.name.clone(),
        role: case.role.clone(),
        sql: case.sql.clone(),
        passed: differences.is_empty(),
        verdict: decision.verdict,
        differences,
    })
}

fn differences(case: &Case, decision: &Decision) -> Vec<String> {
    let mut found = Vec::new();
    let (verdict, rule, reason, masked) = match &decision.verdict {
        Verdict::Allow(allowed) => (Expected::Allow, &allowed.rule, None, &allowed.masked[..]),
        Verdict::Hold(held) => (Expected::Hold, &held.rule, Some(&held.reason), &[][..]),
        Verdict::Deny(denied) => (Expected::Deny, &denied.rule, Some(&denied.reason), &[][..]),
    };
    if verdict != case.expect {
        let expected = match case.expect {
            Expected::Allow => "allow",
            Expected::Hold => "hold",
            Expected::Deny => "deny",
        };
        let because = reason.map_or(String::new(), |reason| format!(": {reason}"));
        let got = word(&decision.verdict);
        found.push(format!("expected {expected}, got {got} by {rule}{because}"));
    }
    if let Some(expected) = &case.rule
        && *expected != rule.rule
    {
        found.push(format!("expected the rule {expected}, got {rule}"));
    }
    if let Some(expected) = &case.masked {
        let mut expected = expected.clone();
        expected.sort();
        if verdict == Expected::Allow && expected != masked {
            let (expected, got) = (listed(&expected), listed(masked));
            found.push(format!("expected masked columns {expected}, got {got}"));
        }
    }
    if let Some(expected) = &case.sent
        && verdict == Expected::Allow
    {
        let got = decision.rewritten.as_deref().unwrap_or(&case.sql);
        if !same_words(expected, got) {
            found.push(format!("expected that PostgreSQL gets {expected}, it gets {got}"));
        }
    }
    found
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Whether two texts differ only in white space around words.
fn same_words(a: &str, b: &str) -> bool {
    a.split_whitespace().eq(b.split_whitespace())
}

fn print(outcome: &Outcome, output: &Output) {
    let sql = outcome.sql.split_whitespace().collect::<Vec<_>>().join(" ");
    let title = if outcome.name.is_empty() { sql.clone() } else { outcome.name.clone() };
    let word = if outcome.passed {
        console::style("pass").green()
    } else {
        console::style("FAIL").red().bold()
    };
    let line = format!("{}  {}: {title}", outcome.place, outcome.role);
    output.line(format!("{word}  {}", escaped(&line)));
    if !outcome.passed {
        output.line(format!("      {}", escaped(&sql)));
        for difference in &outcome.differences {
            output.line(format!("      {}", escaped(difference)));
        }
    }
}
