//! `pgate connect` end to end: the built `pgate`, a real control plane, a real
//! PostgreSQL, real clients. Each file is one thing that a person would worry about.

mod bulk;
mod command;
mod endings;
mod events;
mod faults;
mod killed;
mod middleman;
mod migrations;
mod recorded;
mod signals;
mod strict;
mod tampering;
mod terminal;
mod workload;

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use pgate::demo::{
    issuer::{self, Person},
    stage::{Options, Stage},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::harness::{self, Ran, pgate};

/// How long anything may take before its test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A role without limits, for results that are large, one whose every statement the
/// control plane has on record before it runs, one whose results are recorded, and one for
/// statements that last.
const ROLES: &str = r#"
[role.strict]
about = "Nothing runs that isn't on record"
targets = ["prod-db"]
search_path = ["shop"]
allow = [{ actions = ["select", "insert"], on = ["shop.*"] }]
audit = "strict"
record = "results"

[[access]]
who = { group = "engineering" }
role = "strict"
target = "prod-db"
approval = "auto"

[role.bulk]
about = "Read the shop, as much as it takes"
targets = ["prod-db"]
search_path = ["shop"]
allow = [{ actions = ["select"], on = ["shop.*"] }]

[[access]]
who = { group = "engineering" }
role = "bulk"
target = "prod-db"
approval = "auto"

[role.lasting]
about = "Change the shop, slowly"
targets = ["prod-db"]
search_path = ["shop"]
allow = [{ actions = ["select", "update"], on = ["shop.*"] }]
functions = ["pg_catalog.pg_sleep"]

[[access]]
who = { group = "engineering" }
role = "lasting"
target = "prod-db"
approval = "auto"

[role.recorded]
about = "Read the shop, on record"
targets = ["prod-db"]
search_path = ["shop"]
allow = [{ actions = ["select"], on = ["shop.*"] }]
mask = [{ columns = ["shop.customers.email"], with = "email" }]
detect = ["card"]
functions = ["pg_catalog.pg_sleep"]
record = "results"

[[access]]
who = { group = "engineering" }
role = "recorded"
target = "prod-db"
approval = "auto"
"#;

/// Who sits at the desks of these tests, besides Dan, who reviews: one for each test,
/// so that no test meets another's grants or what another left in its spool.
const ENGINEERS: [&str; 35] = [
    "codes", "failure", "fills", "places", "environs", "password", "events", "string", "waits",
    "unread", "tamper", "alters", "twice", "revoked", "expires", "signals", "early", "garbage",
    "skewed", "away", "nonsense", "killed", "lease", "terminal", "prompt", "bulk", "job", "wire",
    "slow", "spare", "strict", "silent", "recorded", "binary", "leaves",
];

/// A stage of these tests' own.
async fn new_stage() -> Stage {
    let mut people = issuer::Options::default().people;
    people.extend(ENGINEERS.map(|name| Person::new(&address(name), &["engineering"])));
    harness::own_stage(Options {
        issuer: issuer::Options { people, ..Default::default() },
        policy: vec![("roles.toml".to_owned(), ROLES.to_owned())],
        ..Options::default()
    })
    .await
}

/// The stage of those of these tests that leave tables and policy alone.
async fn stage() -> &'static Stage {
    static STAGE: OnceCell<Stage> = OnceCell::const_new();
    STAGE.get_or_init(new_stage).await
}

fn address(person: &str) -> String {
    format!("{person}@example.com")
}

/// Somebody at their desk, logged in by a token.
struct Desk<'a> {
    stage: &'a Stage,
    person: &'static str,
}

impl<'a> Desk<'a> {
    fn new(stage: &'a Stage, person: &'static str) -> Self {
        Self { stage, person }
    }

    fn pgate(&self, arguments: &[&str]) -> Command {
        let mut command = pgate(self.stage, self.person, arguments);
        // In a group of its own: the terminal of whoever runs the tests is not its own.
        command.stdin(Stdio::null()).process_group(0);
        command
    }

    /// `pgate` without a login.
    fn stranger(&self, arguments: &[&str]) -> Ran {
        let mut command = self.pgate(arguments);
        command.env_remove("PGATE_TOKEN");
        finish(command, arguments)
    }

    fn home(&self) -> PathBuf {
        self.stage.home(self.person).expect("a home can be made")
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        finish(self.pgate(arguments), arguments)
    }

    /// A new active grant of `readonly`, so that no other test can end it.
    fn grant(&self, ttl: &str) -> String {
        self.grant_of("readonly", ttl)
    }

    fn grant_of(&self, role: &str, ttl: &str) -> String {
        let ask = ["request", "prod-db", "--role", role, "--reason", "connect test", "--ttl", ttl];
        let asked = self.run(&[&ask[..], &["--output", "json"]].concat()).exits(0);
        let grant: Value = serde_json::from_str(&asked.stdout).expect("a grant");
        grant["id"].as_str().expect("an id").to_owned()
    }

    /// Runs `pgate connect` under a new grant, with these further arguments.
    fn connect(&self, arguments: &[&str]) -> Ran {
        let grant = self.grant("10m");
        self.run(&[&["connect", "prod-db", "--grant", &grant], arguments].concat())
    }

    /// Starts `pgate connect --output json` and waits until it is ready.
    fn serve(&self, grant: &str) -> Serving {
        let arguments = ["connect", "prod-db", "--grant", grant, "--output", "json"];
        Serving::start(self.pgate(&arguments))
    }

    /// Starts `pgate connect -- sh -c SCRIPT` and waits for the script's beginning.
    fn shell(&self, grant: &str, script: &str) -> Shell {
        let script = format!("echo $PGATE_SESSION $PGHOST; {script}");
        let arguments = ["connect", "prod-db", "--grant", grant, "--", "sh", "-c", &script];
        Shell::start(self.pgate(&arguments))
    }

    /// Checks that nothing of a session is left: its database role, its socket, an
    /// open session at the control plane. Its log must verify, and say this.
    async fn left_nothing(&self, session: &str, socket: &str, verified: &str) {
        self.role_goes(session).await;
        assert!(!Path::new(socket).exists(), "{socket} is still there");
        let shown = self.run(&["sessions", "show", session, "--output", "json"]).exits(0);
        assert!(!shown.stdout.contains(r#""state":"open""#), "{shown}");
        self.run(&["log", "verify", session]).exits(0).says("ok:").says(verified);
    }

    /// Waits until a session's database role is gone.
    async fn role_goes(&self, session: &str) {
        let role = role_of(session);
        let ask = format!("SELECT count(*) FROM pg_roles WHERE rolname = '{role}'");
        let start = Instant::now();
        while self.stage.cluster().psql("shop", &ask).await.expect("an answer") != "0\n" {
            assert!(start.elapsed() < PATIENCE, "{role} is still there");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until PostgreSQL runs a statement with this text for a session.
    async fn query_runs(&self, session: &str, text: &str) {
        let ask = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND state = 'active' \
             AND query LIKE '%{text}%'",
            role_of(session)
        );
        let start = Instant::now();
        while self.stage.cluster().psql("shop", &ask).await.expect("an answer") == "0\n" {
            assert!(start.elapsed() < PATIENCE, "{text} does not run");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Waits until it is so.
async fn soon(holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "it never comes");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The database role of a session.
fn role_of(session: &str) -> String {
    session.replace("se_", "pgate_s_")
}

fn finish(mut command: Command, arguments: &[&str]) -> Ran {
    Ran::new(arguments, &command.output().expect("it runs"))
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("it runs");
}

/// Waits for a process, but not for ever.
fn ended(child: &mut Child) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            return status.code();
        }
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("it hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A `pgate connect` without a command, which prints events.
struct Serving {
    child: Child,
    events: BufReader<ChildStdout>,
    ready: Value,
}

impl Serving {
    fn start(command: Command) -> Self {
        let (child, mut events) = with_output(command);
        let ready = loop {
            let event = event(&mut events).expect("it begins");
            if event["event"] == "ready" {
                break event;
            }
        };
        Self { child, events, ready }
    }

    fn text(&self, key: &str) -> &str {
        self.ready[key].as_str().unwrap_or_else(|| panic!("no {key} in {}", self.ready))
    }

    /// The folder of its socket.
    fn socket(&self) -> &str {
        self.text("socket")
    }

    fn session(&self) -> &str {
        self.text("session")
    }

    /// Runs psql on it; what psql prints, and what it says.
    fn psql(&self, sql: &str) -> (String, String) {
        let psql = Command::new("psql").args([self.text("url"), "-XAtc", sql]).output();
        let psql = psql.expect("psql runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&psql.stdout), text(&psql.stderr))
    }

    /// Ends it by a signal; its exit code and its last event.
    fn end(mut self, with: Signal) -> (Option<i32>, Value) {
        signal(&self.child, with);
        self.last()
    }

    /// Waits for its end.
    fn last(&mut self) -> (Option<i32>, Value) {
        let last = event(&mut self.events).unwrap_or(Value::Null);
        (ended(&mut self.child), last)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn with_output(mut command: Command) -> (Child, BufReader<ChildStdout>) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let output = BufReader::new(child.stdout.take().expect("a pipe"));
    (child, output)
}

/// The next event of a `--output json`.
fn event(events: &mut BufReader<ChildStdout>) -> Option<Value> {
    let mut line = String::new();
    events.read_line(&mut line).expect("it can be read");
    (!line.is_empty()).then(|| serde_json::from_str(&line).expect("an event is JSON"))
}

/// A `pgate connect -- sh -c …` whose script has begun.
struct Shell {
    child: Child,
    session: String,
    socket: String,
}

impl Shell {
    fn start(mut command: Command) -> Self {
        command.stderr(Stdio::piped());
        let (mut child, mut output) = with_output(command);
        let mut line = String::new();
        output.read_line(&mut line).expect("it begins");
        let (session, socket) = line.trim().split_once(' ').expect("a session and a socket");
        let (session, socket) = (session.to_owned(), socket.to_owned());
        child.stdout = Some(output.into_inner());
        Self { child, session, socket }
    }

    /// Waits for its end.
    fn finish(self, about: &str) -> Ran {
        Ran::new(&[about], &self.child.wait_with_output().expect("it ends"))
    }
}
