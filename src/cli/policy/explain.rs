//! `pgate policy explain`.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    database::{self, Database},
    decision::{Decision, Judge, catalog_of_session, word},
    files::Files,
};
use crate::{
    cli::{
        context::Context,
        failure::Failure,
        log::escaped_lines,
        output::{Output, escaped},
    },
    policy::{
        self, Enforced, Explained, ExplainedValue, FunctionOrigin, Policy, Role, Target, Verdict,
    },
    proxy::OnRows,
    sql::{self, Catalog, on_large_stack},
};

/// Show what the policy says of a statement, and why
///
/// Prints what the statement does, the verdict with its rule and reason, the SQL as
/// PostgreSQL would get it, and which layers enforce the verdict. It decides exactly as a
/// session does, and runs nothing. Exits with 0 whatever the verdict is; `pgate policy test`
/// is for expectations.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate policy explain policy/ --role readonly --target prod-db --sql 'SELECT * FROM shop.customers'
  pgate policy explain policy/ --role readonly --catalog shop.json query.sql
  pgate policy explain policy/ --role writer --catalog shop.json --rows 5000 --sql 'UPDATE shop.orders SET note = NULL'
  echo 'DELETE FROM shop.orders' | pgate policy explain policy/ --role writer --catalog shop.json -
  pgate policy explain policy/ --role readonly --catalog shop.json --sql 'TABLE shop.orders' --output json")]
pub(super) struct Args {
    /// The policy: a folder of *.toml files, or a file; then a file with the SQL, or - for stdin
    #[arg(required = true, num_args = 1..=2, value_names = ["DIR|FILE", "SQL-FILE"])]
    paths: Vec<PathBuf>,

    /// The role
    #[arg(long, value_name = "ROLE")]
    role: String,

    /// The SQL
    #[arg(long, value_name = "SQL")]
    sql: Option<String>,

    /// When it would run, for rules with hours or days [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,

    /// How many rows PostgreSQL is taken to expect, for rules with `rows > N` [default: open]
    #[arg(long, value_name = "N")]
    rows: Option<u64>,

    #[command(flatten)]
    database: Database,

    /// A catalog that `pgate policy catalog` has saved, instead of the database
    #[arg(long, value_name = "FILE", conflicts_with = "database_url_file")]
    catalog: Option<PathBuf>,
}

/// All that is told.
#[derive(Debug, Serialize)]
struct Explanation {
    role: String,
    target: String,
    #[serde(flatten)]
    verdict: Verdict,
    /// Whether what is sent is another text.
    rewritten: bool,
    /// The text that PostgreSQL gets, of what is held after its approval; none where it
    /// gets nothing.
    sent: Option<String>,
    statements: Vec<Explained>,
    /// What hangs on how many rows it hits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    on_rows: Vec<OnRows>,
    enforced_by: Vec<Enforced>,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let (policy_path, sql_file) = match args.paths.as_slice() {
        [policy, rest @ ..] => (policy.clone(), rest.first()),
        [] => return Err(Failure::usage("no policy is named")),
    };
    let text = statement(args.sql.as_deref(), sql_file.map(PathBuf::as_path))?;
    let files = Files::read(&[policy_path])?;
    let policy = files.policy(&context.output)?;
    let role = database::role(&policy, &args.role)?;
    let target = database::target_of(&policy, role, args.database.target.as_deref())?;
    let reached = args.database.target(&policy)?;
    let catalog = args.database.catalog(args.catalog.as_deref(), reached, &files.folder).await?;
    if database::is_empty(&catalog) {
        context.output.warn("the catalog has no table of its own: every name will be unknown");
    }
    let explanation = on_large_stack(|| {
        let at = args.at.unwrap_or_else(Timestamp::now);
        explain(&text, (at, args.rows), &policy, role, target, &catalog)
    })?;
    if context.output.is_json() {
        context.output.json(&explanation)?;
    } else {
        print(&explanation, &context.output);
    }
    Ok(ExitCode::SUCCESS)
}

/// The SQL: from the flag, a file or stdin.
fn statement(flag: Option<&str>, file: Option<&Path>) -> Result<String, Failure> {
    match (flag, file) {
        (Some(sql), None) => Ok(sql.to_owned()),
        (None, Some(path)) if path == Path::new("-") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("reading the SQL from stdin")?;
            Ok(text)
        }
        (None, Some(path)) => {
            let read = std::fs::read_to_string(path);
            Ok(read.with_context(|| format!("reading {}", path.display()))?)
        }
        (Some(_), Some(_)) => Err(Failure::usage("the SQL is given twice: by --sql and by a file")
            .hint("leave one of them out")),
        (None, None) => Err(Failure::usage("no SQL is given")
            .hint("give it by --sql, or name a file after the policy, or - for stdin")),
    }
}

fn explain(
    text: &str,
    (at, rows): (Timestamp, Option<u64>),
    policy: &Policy,
    role: &Role,
    target: &Target,
    catalog: &Catalog,
) -> Result<Explanation, Failure> {
    let Decision { verdict, rewritten, on_rows } =
        Judge::new(role, target, catalog)?.decide(text, at, rows);
    let catalog = catalog_of_session(role, catalog);
    // The ruling has compiled it already, so it fits.
    let compiled = policy::compile(role, &catalog, database::enforcement(target))
        .map_err(anyhow::Error::from)?;
    // A text that can't be read has no facts; the verdict says so.
    let statements = sql::analyse(text, &catalog).unwrap_or_default();
    let explained = statements
        .iter()
        .map(|statement| policy::explain(text, statement, &compiled, &catalog))
        .collect();
    let enforced_by =
        policy::enforcers(&verdict, &statements, role, &target.name, policy, &compiled, &catalog);
    let sent = match &verdict {
        Verdict::Deny(_) => None,
        Verdict::Allow(_) | Verdict::Hold(_) => {
            Some(rewritten.clone().unwrap_or_else(|| text.to_owned()))
        }
    };
    Ok(Explanation {
        role: role.name.clone(),
        target: target.name.clone(),
        verdict,
        rewritten: rewritten.is_some(),
        sent,
        statements: explained,
        on_rows,
        enforced_by,
    })
}

fn print(explanation: &Explanation, output: &Output) {
    for statement in &explanation.statements {
        print_facts(statement, output);
        output.line("");
    }
    let mut fields = vec![
        ("role", format!("{} on {}", explanation.role, explanation.target)),
        ("verdict", word(&explanation.verdict).to_owned()),
    ];
    match &explanation.verdict {
        Verdict::Allow(allowed) => {
            fields.push(("rule", allowed.rule.to_string()));
        }
        Verdict::Hold(held) => {
            fields.push(("rule", held.rule.to_string()));
            fields.push(("reason", held.reason.clone()));
        }
        Verdict::Deny(denied) => {
            fields.push(("rule", denied.rule.to_string()));
            fields.push(("reason", denied.reason.clone()));
            if !denied.hint.is_empty() {
                fields.push(("hint", denied.hint.clone()));
            }
        }
    }
    for on_rows in &explanation.on_rows {
        fields.push(("rows", format!("{} ({})", on_rows.says, on_rows.rule)));
    }
    output.fields(&fields);
    let after = match &explanation.verdict {
        Verdict::Hold(_) => ", only after its approval",
        Verdict::Allow(_) | Verdict::Deny(_) => "",
    };
    match &explanation.sent {
        Some(sent) if explanation.rewritten => {
            output.line(format!("sent to PostgreSQL{after}:"));
            for line in escaped_lines(sent) {
                output.line(format!("  {line}"));
            }
        }
        Some(_) => output.line(format!("sent to PostgreSQL as it is{after}")),
        None => output.line("nothing is sent to PostgreSQL"),
    }
    output.line("enforced by:");
    for enforced in &explanation.enforced_by {
        let layers =
            enforced.layers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + ");
        let note = enforced.note.as_ref().map_or(String::new(), |note| format!(" ({note})"));
        let line = format!("  {layers}: {} – {}{note}", enforced.rule, enforced.says);
        output.line(escaped(&line));
    }
}

fn print_facts(statement: &Explained, output: &Output) {
    let text = statement.sql.split_whitespace().collect::<Vec<_>>().join(" ");
    let kind = serde_json::to_value(statement.kind).unwrap_or_default();
    let mut fields =
        vec![("statement", text), ("kind", kind.as_str().unwrap_or_default().replace('_', " "))];
    let mut list = |name: &'static str, items: Vec<String>| {
        if !items.is_empty() {
            fields.push((name, items.join(", ")));
        }
    };
    let relations = statement.relations.iter().map(|used| {
        let unknown = if used.known { "" } else { ", unknown" };
        format!("{} ({}{unknown})", used.name, used.action)
    });
    list("relations", relations.collect());
    list("masked", statement.masked.clone());
    list("hidden", statement.hidden.clone());
    let functions = statement.functions.iter().map(|function| match function.origin {
        FunctionOrigin::Builtin => function.name.clone(),
        FunctionOrigin::Own => format!("{} (the database's own)", function.name),
        FunctionOrigin::Unknown => format!("{} (unknown)", function.name),
    });
    list("functions", functions.collect());
    let settings = statement.settings.iter().map(|setting| {
        let value = match &setting.value {
            ExplainedValue::Default => "default".to_owned(),
            ExplainedValue::Constants(values) => values.join(", "),
            ExplainedValue::Parameter => "a parameter".to_owned(),
        };
        format!("{} = {value}", setting.name)
    });
    list("settings", settings.collect());
    list("actions", statement.actions.iter().map(|action| (*action).to_owned()).collect());
    let doors = statement.side_doors.iter().map(|door| {
        serde_json::to_value(door).ok().and_then(|door| door.as_str().map(|d| d.replace('_', " ")))
    });
    list("side doors", doors.flatten().collect());
    if statement.unfiltered {
        list("filter", vec!["none: nothing names the rows of an UPDATE or DELETE".to_owned()]);
    }
    list("unclassified", statement.unclassified.clone());
    output.fields(&fields);
}
