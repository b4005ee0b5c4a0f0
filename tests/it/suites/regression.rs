//! PostgreSQL's own regression suite, in the order of its schedule. Each group of scripts
//! runs twice in the same state of the database: what the groups before it leave when they
//! run directly. So one refusal spoils no more than the group that it is in.
//!
//! What psql prints after each line of a script is compared. A difference is named by the
//! script and pgate's rule; one without a refusal in it by the refusal above it, or, where
//! there is none, by its line.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
};

use pgate::demo::stage::Stage;
use sqlx::Row as _;

use super::{DATABASE, ELSEWHERE, Expected, direct_environment, fetched, here, open_stage};
use crate::harness::pgate;

/// The state that the scripts run so far have left.
const BEFORE: &str = "suite_before";

#[tokio::test]
async fn postgresqls_regression_suite_gets_the_same_results_as_directly() {
    let Some(folder) = fetched("regression") else { return };
    let stage = open_stage().await;
    stage
        .cluster()
        .execute(ELSEWHERE, &format!("CREATE DATABASE {BEFORE} TEMPLATE template0"))
        .await
        .unwrap();
    let (mut lines, mut same) = (0, 0);
    let mut differing = BTreeMap::new();
    for group in schedule(&folder) {
        let runs = |suffix: &str| {
            let fixed = [here("regression.sh").display().to_string(), folder.display().to_string()];
            fixed.into_iter().chain([suffix.to_owned()]).chain(group.clone()).collect::<Vec<_>>()
        };
        renew(&stage).await;
        let connect = ["connect", "suite", "--role", "everything", "--reason", "tests of others"];
        finish(pgate(&stage, "ana", &connect).args(["--", "bash"]).args(runs("pgate")));
        renew(&stage).await;
        let direct = direct_environment(&stage);
        finish(Command::new("bash").args(runs("direct")).env_clear().envs(direct));
        keep(&stage).await;
        for script in &group {
            let read = |file: &str| {
                let bytes = std::fs::read(folder.join(file)).unwrap();
                String::from_utf8_lossy(&bytes).into_owned()
            };
            let text = read(&format!("sql/{script}.sql"));
            let direct = read(&format!("results/{script}.direct"));
            let through = read(&format!("results/{script}.pgate"));
            let compared = compare(script, &text, &direct, &through);
            lines += compared.lines;
            same += compared.lines - compared.different;
            differing.extend(compared.differing);
        }
    }
    println!("regression: {lines} lines with an answer directly, {same} the same through pgate");
    Expected::read(&here("regression.txt")).holds("regression", &differing);
}

/// The groups of scripts in the order of the schedule. No script needs another of its
/// group. `PGATE_SUITES_SCRIPTS` picks the groups in which its words are; what others
/// leave is missing then.
fn schedule(folder: &Path) -> Vec<Vec<String>> {
    let chosen = std::env::var("PGATE_SUITES_SCRIPTS").unwrap_or_default();
    let chosen: Vec<_> = chosen.split_whitespace().collect();
    let text = std::fs::read_to_string(folder.join("parallel_schedule")).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("test:"))
        .map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter(|group| {
            chosen.is_empty()
                || group.iter().any(|script| script == "test_setup" || chosen.contains(&&**script))
        })
        .collect()
}

/// A run that gets to its end says nothing.
fn finish(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Puts a fresh copy of this database in the place of the one that scripts run in, and
/// takes away what a script has left beside it.
async fn renew(stage: &Stage) {
    drop_database(stage).await;
    let mut admin = stage.cluster().connect(ELSEWHERE).await.unwrap();
    let leftover = "SELECT format('DROP ROLE %I', rolname) FROM pg_roles
        WHERE rolname LIKE 'regress%' AND NOT EXISTS (SELECT FROM pg_shdepend
            WHERE refobjid = pg_roles.oid)";
    for row in sqlx::raw_sql(leftover).fetch_all(&mut admin).await.unwrap() {
        let drop = row.get::<String, _>(0);
        sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(&mut admin).await.unwrap();
    }
    let copy = format!("CREATE DATABASE {DATABASE} TEMPLATE {BEFORE} STRATEGY file_copy");
    stage.cluster().execute(ELSEWHERE, &copy).await.unwrap();
}

async fn drop_database(stage: &Stage) {
    let drop = format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)");
    stage.cluster().execute(ELSEWHERE, &drop).await.unwrap();
}

/// The next script begins where this one ended.
async fn keep(stage: &Stage) {
    let drop = format!("DROP DATABASE {BEFORE} WITH (FORCE)");
    stage.cluster().execute(ELSEWHERE, &drop).await.unwrap();
    let rename = format!("ALTER DATABASE {DATABASE} RENAME TO {BEFORE}");
    stage.cluster().execute(ELSEWHERE, &rename).await.unwrap();
    let again = format!("CREATE DATABASE {DATABASE} TEMPLATE template0");
    stage.cluster().execute(ELSEWHERE, &again).await.unwrap();
}

/// The hint of an error that pgate itself tells of a text that can't be read.
const UNREADABLE: &str = "pgate reads statements by PostgreSQL 18's grammar";

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
            None if other.contains(UNREADABLE) => "what isn't SQL".to_owned(),
            None if refused => "after a refusal".to_owned(),
            None => format!("line {}", number + 1),
        };
        refused |= rule.is_some();
        let (count, _) = counts.entry(name).or_insert_with(|| (0, other.clone()));
        *count += 1;
    }
    let named = counts.into_iter().map(|(name, (count, other))| {
        let first = other.chars().take(300).collect::<String>();
        (format!("{script}: {name}"), format!("{count} times, first {first:?}"))
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
            answers.insert(before, answer(&printed[at..at + found]));
        }
        at += found + 1;
        before = Some(number);
    }
    if let Some(before) = before {
        answers.insert(before, answer(&printed[at..]));
    }
    answers.retain(|_, answer| !answer.is_empty());
    answers
}

/// Lines as one text. A notice is told by the line of the script that psql has got to when it
/// arrives, which in the data of a COPY is chance.
fn answer(lines: &[&str]) -> String {
    let placeless = |line: &&str| match line.split_once(": NOTICE:  ") {
        Some((place, notice)) if place.starts_with("psql:") => format!("NOTICE:  {notice}"),
        _ => (*line).to_owned(),
    };
    lines.iter().map(placeless).collect::<Vec<_>>().join("\n").trim().to_owned()
}
