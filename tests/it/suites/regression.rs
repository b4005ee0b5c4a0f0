//! PostgreSQL's own regression suite, script by script in the order of its schedule. Each
//! script runs twice in the same state of the database: what the scripts before it leave
//! when they run directly. So one refusal spoils no more than the script that it is in.
//!
//! What psql prints after each line of a script is compared. A difference is named by the
//! script and pgate's rule; one without a refusal in it by the refusal above it, or, where
//! there is none, by its line.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
    process::Command,
};

use pgate::demo::stage::Stage;
use sqlx::Row as _;

use super::{DATABASE, Expected, direct_environment, fetched, here, open_stage};
use crate::harness::pgate;

/// The state that the scripts run so far have left.
const BEFORE: &str = "suite_before";

/// As pg_regress calls it.
const PSQL: [&str; 4] = ["psql", "-X", "-a", "-q"];

#[tokio::test]
async fn postgresqls_regression_suite_gets_the_same_results_as_directly() {
    let Some(folder) = fetched("regression") else { return };
    let stage = open_stage().await;
    stage.cluster().execute("postgres", SETTINGS).await.unwrap();
    stage.cluster().execute("postgres", "CREATE DATABASE suite_before").await.unwrap();
    let chosen = std::env::var("PGATE_SUITES_SCRIPTS").unwrap_or_default();
    let chosen: BTreeSet<_> = chosen.split_whitespace().collect();
    let (mut lines, mut same) = (0, 0);
    let mut differing = BTreeMap::new();
    for script in schedule(&folder) {
        let file = folder.join("sql").join(format!("{script}.sql"));
        let Ok(text) = std::fs::read(&file) else { continue };
        let text = String::from_utf8_lossy(&text).into_owned();
        let arguments = [&PSQL[..], &["-f", file.to_str().unwrap()]].concat();
        let through = if chosen.is_empty() || chosen.contains(&*script) {
            renew(&stage, BEFORE).await;
            let reason = ["--role", "everything", "--reason", "tests of others", "--"];
            let connect = [&["connect", "suite"], &reason[..], &arguments[..]].concat();
            Some(printed(pgate(&stage, "ana", &connect), &folder))
        } else {
            None
        };
        renew(&stage, BEFORE).await;
        let mut direct = Command::new("psql");
        direct.args(&arguments[1..]).envs(direct_environment(&stage));
        let direct = printed(direct, &folder);
        keep(&stage).await;
        if let Some(through) = through {
            let compared = compare(&script, &text, &direct, &through);
            lines += compared.lines;
            same += compared.lines - compared.different;
            write_down(&folder, &script, &direct, &through);
            differing.extend(compared.differing);
        }
    }
    println!("regression: {lines} lines with an answer directly, {same} the same through pgate");
    Expected::read(&here("regression.txt")).holds("regression", &differing);
}

/// What pg_regress sets for every database of a run.
const SETTINGS: &str = "
    ALTER SYSTEM SET max_prepared_transactions = 2;
    ALTER ROLE postgres SET datestyle = 'Postgres, MDY';
    ALTER ROLE postgres SET timezone = 'PST8PDT';
    ALTER ROLE postgres SET intervalstyle = 'postgres_verbose'";

/// The scripts in the order of the schedule.
fn schedule(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("parallel_schedule")).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("test:"))
        .flat_map(str::split_whitespace)
        .map(str::to_owned)
        .collect()
}

/// Puts a fresh copy of this database in the place of the one that scripts run in, and
/// takes away what a script has left beside it.
async fn renew(stage: &Stage, from: &str) {
    drop_database(stage).await;
    let mut admin = stage.cluster().connect("postgres").await.unwrap();
    let leftover = "SELECT format('DROP ROLE %I', rolname) FROM pg_roles
        WHERE rolname LIKE 'regress%' AND NOT EXISTS (SELECT FROM pg_shdepend
            WHERE refobjid = pg_roles.oid)";
    for row in sqlx::raw_sql(leftover).fetch_all(&mut admin).await.unwrap() {
        let drop = row.get::<String, _>(0);
        sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(&mut admin).await.unwrap();
    }
    let copy = format!("CREATE DATABASE {DATABASE} TEMPLATE {from} STRATEGY file_copy");
    stage.cluster().execute("postgres", &copy).await.unwrap();
}

async fn drop_database(stage: &Stage) {
    let drop = format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)");
    stage.cluster().execute("postgres", &drop).await.unwrap();
}

/// The next script begins where this one ended.
async fn keep(stage: &Stage) {
    let drop = format!("DROP DATABASE {BEFORE} WITH (FORCE)");
    stage.cluster().execute("postgres", &drop).await.unwrap();
    let rename = format!("ALTER DATABASE {DATABASE} RENAME TO {BEFORE}");
    stage.cluster().execute("postgres", &rename).await.unwrap();
    let again = format!("CREATE DATABASE {DATABASE}");
    stage.cluster().execute("postgres", &again).await.unwrap();
}

/// All that psql prints, both streams in their order.
fn printed(mut psql: Command, folder: &Path) -> String {
    let (mut reader, writer) = std::io::pipe().unwrap();
    psql.env("PG_ABS_SRCDIR", folder)
        .env("PG_ABS_BUILDDIR", folder)
        .env("PG_LIBDIR", folder)
        .env("PG_DLSUFFIX", ".so")
        .env("PGTZ", "PST8PDT")
        .env("PGDATESTYLE", "Postgres, MDY")
        .env("LC_MESSAGES", "C")
        .stdin(std::process::Stdio::null())
        .stdout(writer.try_clone().unwrap())
        .stderr(writer);
    let mut child = psql.spawn().unwrap();
    // Its copies of the pipe's end would keep it open.
    drop(psql);
    let mut all = Vec::new();
    std::io::Read::read_to_end(&mut reader, &mut all).unwrap();
    child.wait().unwrap();
    String::from_utf8_lossy(&all).into_owned()
}

/// For whoever looks into a difference.
fn write_down(folder: &Path, script: &str, direct: &str, through: &str) {
    let results = folder.join("results");
    std::fs::create_dir_all(&results).unwrap();
    std::fs::write(results.join(format!("{script}.direct")), direct).unwrap();
    std::fs::write(results.join(format!("{script}.pgate")), through).unwrap();
}

struct Compared {
    lines: usize,
    different: usize,
    differing: BTreeMap<String, String>,
}

fn compare(script: &str, text: &str, direct: &str, through: &str) -> Compared {
    let (direct, through) = (answers(text, direct), answers(text, through));
    let empty = String::new();
    let mut counts = BTreeMap::<String, (usize, String)>::new();
    let mut refused = false;
    let (mut lines, mut different) = (0, 0);
    for (number, line) in text.lines().enumerate() {
        let one = direct.get(&number).unwrap_or(&empty);
        let other = through.get(&number).unwrap_or(&empty);
        if !one.is_empty() || line.trim_end().ends_with(';') {
            lines += 1;
        }
        if one == other {
            continue;
        }
        different += 1;
        let rule = rule(other);
        let name = match &rule {
            Some(rule) => rule.clone(),
            None if refused => "after a refusal".to_owned(),
            None => format!("line {}", number + 1),
        };
        refused |= rule.is_some();
        let (count, _) = counts.entry(name).or_insert_with(|| (0, other.clone()));
        *count += 1;
    }
    let named = counts.into_iter().map(|(name, (count, other))| {
        let mut how = String::new();
        let _ = write!(how, "{:?}", other.chars().take(300).collect::<String>());
        (format!("{script}: {name}, {count}"), how)
    });
    Compared { lines, different, differing: named.collect() }
}

/// pgate's rule in what psql printed of a refusal.
fn rule(answer: &str) -> Option<String> {
    let at = answer.find("builtin.")?;
    let rule = answer[at..].split(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)));
    rule.into_iter().next().map(|rule| rule.trim_end_matches('.').to_owned())
}

/// What psql printed after it had echoed each line of a script, by the line's number. A
/// line that isn't echoed (data of COPY) has no answer of its own.
fn answers(text: &str, printed: &str) -> BTreeMap<usize, String> {
    let printed: Vec<_> = printed.lines().collect();
    let mut answers = BTreeMap::new();
    let mut at = 0;
    let mut before = None;
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let Some(found) = printed[at..].iter().position(|print| *print == line) else { continue };
        if let Some(before) = before {
            let answer = printed[at..at + found].join("\n").trim().to_owned();
            answers.insert(before, answer);
        }
        at += found + 1;
        before = Some(number);
    }
    if let Some(before) = before {
        answers.insert(before, printed[at..].join("\n").trim().to_owned());
    }
    answers.retain(|_, answer| !answer.is_empty());
    answers
}
