//! Real drivers under a session, and a certified OpenID provider. They need what
//! `tests/run` installs; without it they say so and pass, unless PGATE_TEST_ALL
//! is set.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use pgate::demo::stage;

use crate::harness::{own_stage, run, stage};

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn scripts() -> PathBuf {
    package().join("tests/drivers")
}

/// Python with psycopg and asyncpg.
pub(crate) fn python() -> PathBuf {
    package().join("target/drivers/bin/python")
}

/// Whether what a test needs is installed.
pub(crate) fn installed(what: &str, file: &Path) -> bool {
    if file.exists() {
        return true;
    }
    let message = format!("{what} is not installed; `tests/run` installs it and runs this test");
    assert!(std::env::var_os("PGATE_TEST_ALL").is_none(), "{message}");
    eprintln!("skipped: {message}");
    false
}

/// Runs a driver's script under a session of `readonly`.
async fn holds_under_readonly(interpreter: &Path, script: &str, last_line: &str) {
    let stage = stage().await;
    let reason = ["--role", "readonly", "--reason", "driver tests"];
    let (interpreter, script) = (interpreter.display().to_string(), scripts().join(script));
    let script = script.display().to_string();
    let arguments = ["connect", "prod-db", "--", interpreter.as_str(), script.as_str()];
    let (before, after) = arguments.split_at(2);
    let arguments = [before, reason.as_slice(), after].concat();
    run(stage, "ana", &arguments).exits(0).says(last_line);
}

#[tokio::test]
async fn psycopg_works_under_readonly() {
    if installed("psycopg", &python()) {
        holds_under_readonly(&python(), "psycopg_session.py", "psycopg: all").await;
    }
}

#[tokio::test]
async fn asyncpg_works_under_readonly() {
    if installed("asyncpg", &python()) {
        holds_under_readonly(&python(), "asyncpg_session.py", "asyncpg: all").await;
    }
}

#[tokio::test]
async fn node_postgres_works_under_readonly() {
    if installed("node-postgres", &scripts().join("node_modules/pg/package.json")) {
        let node = Path::new("node");
        holds_under_readonly(node, "node_postgres_session.mjs", "node-postgres: all").await;
    }
}

/// npm's `oidc-provider`; ends when it is dropped.
struct Provider {
    process: Child,
    /// Held open: a program whose output nobody takes ends.
    _output: BufReader<ChildStdout>,
    issuer: String,
}

impl Provider {
    fn start() -> Self {
        let mut process = Command::new("node")
            .arg(scripts().join("oidc_provider.mjs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut issuer = String::new();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        output.read_line(&mut issuer).unwrap();
        Self { process, _output: output, issuer: issuer.trim().to_owned() }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn login_works_against_a_certified_provider() {
    if !installed("oidc-provider", &scripts().join("node_modules/oidc-provider/package.json")) {
        return;
    }
    let provider = Provider::start();
    let server = format!(
        "\n[[issuer]]\nname = \"certified\"\nurl = \"{}\"\nclient_id = \"pgate\"\n\
         groups_claim = \"groups\"\nscopes = [\"email\", \"groups\", \"offline_access\"]\n",
        provider.issuer
    );
    let stage = own_stage(stage::Options { server, ..Default::default() }).await;

    let mut login = stage
        .pgate("ana")
        .unwrap()
        .args(["login", "--no-browser", "--issuer", "certified"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Either stream may show the URL; it is shown before anything waits.
    let (sender, lines) = std::sync::mpsc::channel();
    let streams: [Box<dyn std::io::Read + Send>; 2] =
        [Box::new(login.stdout.take().unwrap()), Box::new(login.stderr.take().unwrap())];
    for stream in streams {
        let sender = sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
    }
    drop(sender);
    let mut said = String::new();
    let start = Instant::now();
    let page = loop {
        let line = lines.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("{said}"));
        assert!(start.elapsed() < Duration::from_secs(30), "{said}");
        said.push_str(&line);
        said.push('\n');
        if let Some(url) = line.split_whitespace().find(|word| word.starts_with(&provider.issuer)) {
            break url.to_owned();
        }
    };
    let person =
        Command::new("node").arg(scripts().join("person.mjs")).args([&page, "ana"]).output();
    let person = person.unwrap();
    assert!(person.status.success(), "{page}: {person:?}");

    let status = login.wait().unwrap();
    said.extend(lines.iter().map(|line| line + "\n"));
    assert!(status.success(), "{said}\n{}", stage.server_log());
    assert!(said.contains("ana@example.com"), "{said}");

    let whoami = stage.pgate("ana").unwrap().arg("whoami").output().unwrap();
    let whoami = String::from_utf8_lossy(&whoami.stdout).into_owned();
    assert!(whoami.contains("ana@example.com") && whoami.contains("engineering"), "{whoami}");
}
