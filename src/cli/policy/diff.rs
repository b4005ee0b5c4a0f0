//! `pgate policy diff`.

use std::{
    collections::BTreeMap,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    database::{self, Database, target_of},
    decision::{Decision, Judge, word},
    files::{Files, read},
};
use crate::{
    cli::{
        context::Context,
        failure::{Exit, Failure},
        log::escaped_lines,
        output::{Output, escaped},
    },
    journal::{Lines, Protocol, Record},
    policy::{Denied, Policy, RuleRef, Verdict},
    proxy::OnRows,
    sql::{self, Catalog, on_large_stack},
};

/// Show which statements another policy decides otherwise
///
/// Takes statements from files of SQL and from recorded session logs (*.jsonl), decides each
/// under the old and the new policy, and prints those whose verdict changes, or whose
/// rewriting does. Of a log it takes the role that the session had; of SQL it tries every
/// role, unless --role names some. Nothing is run.
///
/// Exits with 0 where nothing changes, with 1 where something does, and with 2 where it
/// can't tell, as diff(1).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate policy diff policy.old/ policy/ --catalog shop.json queries.sql
  pgate policy diff policy.old/ policy/ --catalog shop.json sessions/*.jsonl
  pgate policy diff policy.old/ policy/ --target prod-db --role readonly queries.sql --output json")]
pub(super) struct Args {
    /// The old policy: a folder or a file
    #[arg(value_name = "OLD")]
    old: PathBuf,

    /// The new policy: a folder or a file
    #[arg(value_name = "NEW")]
    new: PathBuf,

    /// Files of SQL statements, or session logs (*.jsonl)
    #[arg(required = true, value_name = "SQL|LOG")]
    statements: Vec<PathBuf>,

    /// Decide under this role only; may be given several times
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,

    #[command(flatten)]
    database: Database,

    /// A catalog that `pgate policy catalog` has saved, instead of the database
    #[arg(long, value_name = "FILE", conflicts_with = "database_url_file")]
    catalog: Option<PathBuf>,
}

/// A statement to be decided under a role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    role: String,
    sql: String,
}

/// One statement that changes.
#[derive(Debug, Serialize)]
struct Change {
    /// Where the statement was found first.
    place: String,
    /// How often it was found.
    times: u64,
    role: String,
    sql: String,
    change: Kind,
    old: Side,
    new: Side,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// The verdict is another.
    Verdict,
    /// The verdict is the same; what PostgreSQL gets is another text.
    Rewrite,
    /// Both are the same; other rules hang on how many rows it hits.
    Rows,
}

#[derive(Debug, Serialize)]
struct Side {
    #[serde(flatten)]
    verdict: Verdict,
    /// What PostgreSQL gets instead of the text, where it is rewritten.
    #[serde(skip_serializing_if = "Option::is_none")]
    rewritten: Option<String>,
    /// What hangs on how many rows it hits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    on_rows: Vec<OnRows>,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    // A difference is 1, so trouble is another code.
    compare(args, context).await.map_err(|failure| failure.exiting(Exit::Usage))
}

async fn compare(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let output = &context.output;
    let old = Files::read(std::slice::from_ref(&args.old))?.policy(output)?;
    let new_files = Files::read(std::slice::from_ref(&args.new))?;
    let new = new_files.policy(output)?;
    for role in &args.role {
        if !old.roles.contains_key(role) {
            database::role(&new, role)?;
        }
    }
    let target = args.database.target(&new)?;
    let saved = args.catalog.as_deref();
    let catalog = args.database.catalog(saved, target, &new_files.folder).await?;
    let roles = match args.role.as_slice() {
        [] => {
            let mut roles = old.roles.keys().chain(new.roles.keys()).cloned().collect::<Vec<_>>();
            roles.sort();
            roles.dedup();
            roles
        }
        named => named.to_vec(),
    };
    let mut asked = Statements::default();
    for path in &args.statements {
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            asked.of_log(path, &args.role)?;
        } else {
            asked.of_sql(path, &roles)?;
        }
    }
    let target = args.database.target.as_deref();
    let mut sides = [(&old, BTreeMap::new()), (&new, BTreeMap::new())];
    // One moment for both, for rules with hours or days.
    let at = Timestamp::now();
    let changes = on_large_stack(|| {
        let mut changes = Vec::new();
        for (asked, (place, times)) in &asked.0 {
            let [before, after] = sides
                .each_mut()
                .map(|(policy, judges)| decide(asked, at, policy, target, &catalog, judges));
            changes.extend(change(asked, place, *times, before, after));
        }
        changes
    });
    tell(&changes, asked.0.len(), output)?;
    Ok(if changes.is_empty() { ExitCode::SUCCESS } else { Exit::Failure.into() })
}

/// Statements by role, with the place where each was found first and how often.
#[derive(Debug, Default)]
struct Statements(BTreeMap<Asked, (String, u64)>);

impl Statements {
    fn add(&mut self, role: &str, sql: &str, place: &str) {
        let asked = Asked { role: role.to_owned(), sql: sql.to_owned() };
        self.0.entry(asked).or_insert_with(|| (place.to_owned(), 0)).1 += 1;
    }

    fn of_sql(&mut self, path: &Path, roles: &[String]) -> Result<(), Failure> {
        let (shown, text) = read(path)?;
        let parts = on_large_stack(|| sql::split(&text)).map_err(|error| {
            Failure::new(Exit::Failure, "sql", format!("{shown}: {error}")).hint(
                "the file must hold statements of PostgreSQL's grammar, each with its semicolon",
            )
        })?;
        for part in parts {
            let before = text.get(..part.start).unwrap_or_default();
            let place = format!("{shown}:{}", before.matches('\n').count() + 1);
            for role in roles {
                self.add(role, text.get(part.clone()).unwrap_or_default(), &place);
            }
        }
        Ok(())
    }

    fn of_log(&mut self, path: &Path, roles: &[String]) -> Result<(), Failure> {
        let shown = path.display().to_string();
        let file = File::open(path).with_context(|| format!("reading {shown}"))?;
        let mut session = None;
        for line in Lines::new(BufReader::new(file)) {
            let line = line.with_context(|| format!("reading {shown}"))?;
            let place = format!("{shown}:{}", line.number);
            let entry = line.decode().map_err(|why| {
                Failure::new(Exit::Failure, "log", format!("{place}: {why}"))
                    .hint("`pgate log verify` says what is wrong with a log")
            })?;
            match entry.record {
                Record::Start(start) => {
                    session = start.grant.unchecked().map(|grant| grant.role);
                }
                // What is executed was decided when it was parsed.
                Record::Statement(statement) if statement.protocol != Protocol::Execute => {
                    let roles = match (&session, roles) {
                        (Some(role), []) => std::slice::from_ref(role),
                        (_, roles) => roles,
                    };
                    for role in roles {
                        self.add(role, &statement.sql, &place);
                    }
                }
                _ => {}
            }
        }
        if session.is_none() && roles.is_empty() {
            let message = format!("{shown} doesn't say under which role the session was");
            return Err(Failure::new(Exit::Failure, "log", message).hint("name one with --role"));
        }
        Ok(())
    }
}

/// The judges of a policy by role; a role that no session can have has a refusal instead.
type Judges = BTreeMap<String, Result<Judge, Denied>>;

fn decide(
    asked: &Asked,
    at: Timestamp,
    policy: &Policy,
    target: Option<&str>,
    catalog: &Catalog,
    judges: &mut Judges,
) -> Side {
    let judge = judges
        .entry(asked.role.clone())
        .or_insert_with(|| judge(&asked.role, policy, target, catalog));
    match judge {
        Ok(judge) => {
            let Decision { verdict, rewritten, on_rows } = judge.decide(&asked.sql, at, None);
            Side { verdict, rewritten, on_rows }
        }
        Err(denied) => {
            Side { verdict: Verdict::Deny(denied.clone()), rewritten: None, on_rows: Vec::new() }
        }
    }
}

fn judge(
    name: &str,
    policy: &Policy,
    target: Option<&str>,
    catalog: &Catalog,
) -> Result<Judge, Denied> {
    let denied = |rule: &str, reason: String| Denied {
        rule: RuleRef { rule: format!("builtin.{rule}"), place: None },
        reason,
        hint: String::new(),
    };
    let Some(role) = policy.roles.get(name) else {
        return Err(denied("no-role", format!("the policy has no role {name}")));
    };
    let told = |failure: Failure| failure.message().to_owned();
    let target = target_of(policy, role, target).map_err(|f| denied("no-target", told(f)))?;
    Judge::new(role, target, catalog).map_err(|failure| denied("policy-misfit", told(failure)))
}

fn change(asked: &Asked, place: &str, times: u64, old: Side, new: Side) -> Option<Change> {
    let change = if word(&old.verdict) != word(&new.verdict) {
        Kind::Verdict
    } else if old.rewritten != new.rewritten {
        Kind::Rewrite
    } else if says(&old).ne(says(&new)) {
        Kind::Rows
    } else {
        return None;
    };
    let Asked { role, sql } = asked.clone();
    Some(Change { place: place.to_owned(), times, role, sql, change, old, new })
}

/// Apart from where the rules stand.
fn says(side: &Side) -> impl Iterator<Item = &str> {
    side.on_rows.iter().map(|on_rows| on_rows.says.as_str())
}

fn tell(changes: &[Change], statements: usize, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&serde_json::json!({ "statements": statements, "changes": changes }));
    }
    for change in changes {
        let Change { place, role, .. } = change;
        let (old, new) = (word(&change.old.verdict), word(&change.new.verdict));
        let what = match change.change {
            Kind::Verdict => format!("{old} → {new}"),
            Kind::Rewrite => format!("{new}, rewritten otherwise"),
            Kind::Rows => format!("{new}, its rows ruled otherwise"),
        };
        let times =
            if change.times == 1 { String::new() } else { format!(" ({} times)", change.times) };
        let head = escaped(&format!("{role}: {place}{times}"));
        output.line(format!("{}  {head}", console::style(what).bold()));
        let sql = change.sql.split_whitespace().collect::<Vec<_>>().join(" ");
        output.line(format!("    {}", escaped(&sql)));
        for (label, side) in [("old", &change.old), ("new", &change.new)] {
            match change.change {
                Kind::Verdict => output.line(format!("    {label}: {}", why(&side.verdict))),
                Kind::Rows if side.on_rows.is_empty() => {
                    output.line(format!("    {label}: no rule counts its rows"));
                }
                Kind::Rows => {
                    for says in says(side) {
                        output.line(format!("    {label}: {says}"));
                    }
                }
                Kind::Rewrite => {
                    let sent = side.rewritten.as_deref().unwrap_or(&change.sql);
                    for line in escaped_lines(sent) {
                        output.line(format!("    {label}: {line}"));
                    }
                }
            }
        }
    }
    let count = |kind| changes.iter().filter(|change| change.change == kind).count();
    let rows = match count(Kind::Rows) {
        0 => String::new(),
        rows => format!(", {rows} have their rows ruled otherwise"),
    };
    let (verdicts, rewrites) = (count(Kind::Verdict), count(Kind::Rewrite));
    output.note(format!(
        "{statements} statements by role: {verdicts} change verdict, {rewrites} are rewritten \
         otherwise{rows}"
    ));
    Ok(())
}

fn why(verdict: &Verdict) -> String {
    let told = match verdict {
        Verdict::Allow(allowed) => allowed.rule.to_string(),
        Verdict::Hold(held) => format!("{}: {}", held.rule, held.reason),
        Verdict::Deny(denied) => format!("{}: {}", denied.rule, denied.reason),
    };
    escaped(&told)
}
