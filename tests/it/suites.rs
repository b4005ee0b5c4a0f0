//! Test suites that others wrote, run twice: directly, and through `pgate connect` under
//! a role that allows everything. What differs stands in `suites/*.txt`, each with its
//! reason; anything else fails, and so does what is said to differ and doesn't.
//!
//! `tests/suites` fetches the suites and runs these tests; without it they say so and pass.

mod conversations;
mod differences;
mod regression;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use pgate::demo::stage::{self, Stage};
use secrecy::ExposeSecret as _;

use self::differences::Expected;
use crate::harness::{own_stage, pgate, run};

/// The database that every suite finds, made anew for each run. asyncpg's tests name it.
const DATABASE: &str = "postgres";
/// The database to be in while that one is made.
const ELSEWHERE: &str = "template1";

const POLICY: &str = r#"
[role.everything]
about = "What a policy can allow, allowed"
targets = ["suite"]
ttl = "4h"
owner = "postgres"
allow = [{ actions = ["*"] }]
functions = ["*.*", "pg_catalog.*"]
settings = ["*"]

[[access]]
who = { group = "engineering" }
role = "everything"
target = "suite"
approval = "auto"
"#;

#[tokio::test]
async fn node_postgres_gets_the_same_results_as_directly() {
    same_results("node-postgres").await;
}

#[tokio::test]
async fn asyncpg_gets_the_same_results_as_directly() {
    same_results("asyncpg").await;
}

#[tokio::test]
async fn psycopg2_gets_the_same_results_as_directly() {
    same_results("psycopg2").await;
}

/// Where `tests/suites` has put a suite; none where it hasn't, or wasn't asked for it.
fn fetched(suite: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/suites").join(suite);
    let asked = std::env::var("PGATE_SUITES").unwrap_or_default();
    if asked.split_whitespace().any(|word| word == suite) {
        assert!(folder.join("complete").exists(), "tests/suites has not fetched {suite}");
        return Some(folder);
    }
    eprintln!("skipped: `tests/suites {suite}` fetches and runs the suite of {suite}");
    None
}

fn here(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/suites").join(file)
}

/// Runs a driver's suite by the script `suites/NAME.sh`, which prints one line for each
/// test: its name, a tabulator, and how it ended.
async fn same_results(suite: &str) {
    let Some(folder) = fetched(suite) else { return };
    let stage = open_stage().await;
    let script = [here(&format!("{suite}.sh")), folder.clone()];
    let script: Vec<_> = script.iter().map(|path| path.to_str().unwrap()).collect();

    let mut direct = Command::new("bash");
    direct.args(&script).envs(direct_environment(&stage));
    let direct = outcomes(direct, &folder.join("direct.log"));
    database_anew(&stage).await;
    let connect = ["connect", "suite", "--role", "everything", "--reason", "tests of others"];
    let arguments = [&connect[..], &["--", "bash"], &script].concat();
    let through = outcomes(pgate(&stage, "ana", &arguments), &folder.join("pgate.log"));

    let differing = differing(&direct, &through);
    println!(
        "{suite}: {} tests directly, {} the same through pgate, {} not",
        direct.len(),
        direct.len() - differing.len(),
        differing.len(),
    );
    Expected::read(&here(&format!("{suite}.txt"))).holds(suite, &differing);
}

/// What each test of one run gave. What it said else is left in `log`, for whoever looks
/// into a difference.
fn outcomes(mut command: Command, log: &Path) -> BTreeMap<String, String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let outcomes: BTreeMap<_, _> = said
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, outcome)| (name.to_owned(), outcome.to_owned()))
        .collect();
    std::fs::write(log, &output.stderr).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!outcomes.is_empty(), "no test ran: {said}\n{stderr}");
    outcomes
}

/// The tests that gave something else through pgate, with what they gave.
fn differing(
    direct: &BTreeMap<String, String>,
    through: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let all = direct.keys().chain(through.keys()).collect::<std::collections::BTreeSet<_>>();
    let gave = |run: &BTreeMap<String, String>, name: &str| {
        run.get(name).cloned().unwrap_or_else(|| "not run".to_owned())
    };
    all.into_iter()
        .map(|name| (name, gave(direct, name), gave(through, name)))
        .filter(|(_, one, other)| one != other)
        .map(|(name, one, other)| (name.clone(), format!("{one} directly, {other} through pgate")))
        .collect()
}

/// A stage whose control plane offers the role `everything` on an empty database.
async fn open_stage() -> Stage {
    let stage = own_stage(stage::Options::default()).await;
    database_anew(&stage).await;
    let folder = stage.server_folder().join("policy");
    let url = url::Url::parse(stage.cluster().admin_url().expose_secret()).unwrap();
    std::fs::write(folder.join("suite.password"), url.password().unwrap()).unwrap();
    let target = format!(
        "[target.suite]\nurl = \"postgres://127.0.0.1:{}/{DATABASE}?sslmode=disable\"\n\
         credential = {{ kind = \"static\", user = \"{}\", password = \"file:suite.password\" }}\n",
        stage.cluster().port(),
        url.username(),
    );
    std::fs::write(folder.join("suite.toml"), target + POLICY).unwrap();
    for _ in 0..400 {
        if run(&stage, "ana", &["targets"]).stdout.contains("everything") {
            return stage;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the policy was not taken: {}", stage.server_log());
}

async fn database_anew(stage: &Stage) {
    let drop = format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)");
    for sql in [drop, format!("CREATE DATABASE {DATABASE} TEMPLATE template0")] {
        stage.cluster().execute(ELSEWHERE, &sql).await.unwrap();
    }
}

/// What libpq and its kin read, without pgate.
fn direct_environment(stage: &Stage) -> Vec<(&'static str, String)> {
    let url = url::Url::parse(stage.cluster().admin_url().expose_secret()).unwrap();
    let mut all = stage.environment("ana").unwrap();
    all.extend([
        ("PGHOST", stage.cluster().socket_folder().display().to_string()),
        ("PGPORT", stage.cluster().port().to_string()),
        ("PGUSER", url.username().to_owned()),
        ("PGPASSWORD", url.password().unwrap().to_owned()),
        ("PGDATABASE", DATABASE.to_owned()),
    ]);
    all
}
