//! Held statements end to end: real `pgate connect`, psql and psycopg on one side, a
//! reviewer with the real commands on the other, a real PostgreSQL behind.

use std::{
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use pgate::demo::stage::{Options, Stage};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    sync::OnceCell,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::harness::{Ran, own_stage, pgate, run};

mod approvals;
mod browser;

const POLICY: &str = r#"
[role.cleaner]
targets = ["prod-db"]
search_path = ["shop"]
allow = [{ actions = ["select", "insert", "update"], on = ["shop.support_tickets"] }]
hold = [
    { actions = ["delete"], on = ["shop.support_tickets"], reviewers = "group:dba", reason = "tickets are evidence" },
    { actions = ["update"], on = ["shop.support_tickets"], when = "unfiltered", reviewers = "group:dba", timeout = "2s" },
]
limits = { statement_timeout = "2s" }

[role.sweeper]
targets = ["prod-db"]
hold = [
    { actions = ["select", "delete"], on = ["shop.scratch"], reviewers = "group:dba" },
    { actions = ["insert"], on = ["shop.swept"], reviewers = "user:ana@example.com" },
]

[[access]]
who = { group = "engineering" }
role = "cleaner"
target = "prod-db"
approval = "auto"

[role.counter]
targets = ["prod-db"]
search_path = ["shop"]
allow = [{ actions = ["select", "update"], on = ["shop.support_tickets"] }]
hold = [{ actions = ["update"], on = ["shop.support_tickets"], when = "rows > 1", reviewers = "group:dba" }]

[[access]]
who = { group = "engineering" }
role = "counter"
target = "prod-db"
approval = "auto"

[[access]]
who = { group = "engineering" }
role = "sweeper"
target = "prod-db"
approval = "auto"
"#;

/// The stage of these tests: the shop, and a role that holds.
async fn stage() -> &'static Stage {
    static STAGE: OnceCell<Stage> = OnceCell::const_new();
    let policy = vec![("holds.toml".to_owned(), POLICY.to_owned())];
    STAGE.get_or_init(|| own_stage(Options { policy, ..Options::default() })).await
}

/// Patience with everything that isn't a person.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that runs, and what it has said so far.
struct Program {
    child: Child,
    said: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Program {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().expect("it starts");
        let said = Arc::new(Mutex::new(String::new()));
        let streams: [Box<dyn AsyncRead + Send + Unpin>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        let readers = streams.map(|mut stream| {
            let said = said.clone();
            tokio::spawn(async move {
                let mut bytes = vec![0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                    said.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
                }
            })
        });
        Self { child, said, readers: readers.into() }
    }

    /// `pgate connect` as this person under the role that holds, with a command.
    fn connect(stage: &Stage, person: &str, command: &[&str]) -> Self {
        let arguments = ["connect", "prod-db", "--role", "cleaner", "--reason", "INC-7"];
        let arguments = [&arguments[..], &["--"], command].concat();
        Self::start(pgate(stage, person, &arguments).into())
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until it has said what `found` looks for.
    async fn says<T>(&self, what: &str, found: impl Fn(&str) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = found(&self.said()) {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "no {what} in {}", self.said());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The id of its nth held statement, from its notice.
    async fn hold(&self, nth: usize) -> String {
        self.says("hold", |said| {
            said.split("pgate approve ").skip(1).nth(nth)?.get(..19).map(str::to_owned)
        })
        .await
    }

    /// Waits for its end.
    async fn ends(mut self) -> (Option<i32>, String) {
        let status = timeout(PATIENCE, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("it doesn't end: {}", self.said()));
        for reader in self.readers.drain(..) {
            timeout(PATIENCE, reader).await.expect("its output ends").unwrap();
        }
        (status.unwrap().code(), self.said())
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().expect("it runs")).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }
}

/// An open session without a command, and how to reach it.
struct Opened {
    program: Program,
    ready: Value,
}

impl Opened {
    async fn start(command: Command) -> Self {
        let program = Program::start(command);
        let ready = program
            .says("ready event", |said| {
                said.lines().find_map(|line| {
                    let event: Value = serde_json::from_str(line).ok()?;
                    (event["event"] == "ready").then_some(event)
                })
            })
            .await;
        Self { program, ready }
    }

    async fn of(stage: &Stage) -> Self {
        Self::start(opening(stage)).await
    }

    fn psql(&self, commands: &[&str]) -> Program {
        let mut psql = Command::new("psql");
        psql.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", "/nonexistent");
        psql.args(["--no-psqlrc", "--no-align", "--tuples-only"]);
        psql.args(commands.iter().map(|command| format!("--command={command}")));
        psql.arg(self.ready["url"].as_str().unwrap());
        Program::start(psql)
    }

    fn session(&self) -> &str {
        self.ready["session"].as_str().unwrap()
    }

    async fn close(self) -> String {
        self.program.signal(Signal::INT);
        self.program.ends().await.1
    }
}

fn opening(stage: &Stage) -> Command {
    let arguments = ["connect", "prod-db", "--role", "cleaner", "--reason", "INC-7"];
    pgate(stage, "ana", &[&arguments[..], &["--output", "json"]].concat()).into()
}

/// What the database has, past every proxy.
async fn tickets(stage: &Stage, condition: &str) -> i64 {
    let mut connection = stage.cluster().connect("shop").await.unwrap();
    let sql = format!("SELECT count(*) FROM shop.support_tickets WHERE {condition}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap()
}

/// `pgate` run to its end, without standing in the way of what else goes on.
async fn reviewer(stage: &'static Stage, person: &'static str, arguments: &[&str]) -> Ran {
    let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>();
    tokio::task::spawn_blocking(move || {
        run(stage, person, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    })
    .await
    .unwrap()
}

/// The hold as its reviewer sees it.
async fn seen(stage: &'static Stage, hold: &str) -> Value {
    let ran = reviewer(stage, "dan", &["inbox", "show", hold, "--output", "json"]).await.exits(0);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// Waits until the hold is in this state.
async fn until_state(stage: &'static Stage, hold: &str, state: &str) -> Value {
    let start = Instant::now();
    loop {
        let view = seen(stage, hold).await;
        if view["state"] == state {
            return view;
        }
        assert!(start.elapsed() < PATIENCE, "still {view}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_held_query_shows_its_reviewer_all_there_is_and_runs_once_approved() {
    let stage = stage().await;
    let sql = "DELETE FROM support_tickets WHERE id IN (1, 2, 3)";
    let client = Program::connect(stage, "ana", &["psql", "-c", sql]);
    let hold = client.hold(0).await;
    assert_eq!(tickets(stage, "id <= 3").await, 3, "nothing ran before the approval");
    let said = client.said();
    assert!(said.contains("NOTICE:  pgate holds this statement") && said.contains("member of dba"));

    reviewer(stage, "dan", &["inbox"]).await.exits(0).says(&hold).says("ana@example.com").says(sql);
    let shown = reviewer(stage, "dan", &["inbox", "show", &hold]).await.exits(0);
    shown
        .says(sql)
        .says("Laid out:")
        .says("about 3 rows")
        .says("INC-7")
        .says("evidence")
        .says(&hold);
    reviewer(stage, "ana", &["inbox"]).await.exits(0).hides(&hold);
    reviewer(stage, "ana", &["approve", &hold]).await.exits(4).says("your own");
    let approve = ["approve", &hold, "--comment", "go ahead"];
    reviewer(stage, "dan", &approve).await.exits(0).says("approved once by dan@example.com");
    let (code, said) = client.ends().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("DELETE 3"), "{said}");
    assert_eq!(tickets(stage, "id <= 3").await, 0);
    reviewer(stage, "dan", &["approve", &hold]).await.exits(4).says("no longer waits");

    let session = seen(stage, &hold).await["session"].as_str().unwrap().to_owned();
    let replay = reviewer(stage, "ana", &["replay", &session]).await.exits(0);
    let replay = replay.says("waits for group:dba").says("approved by dan@example.com");
    replay.says("go ahead").says("DELETE 3");
    let verified = reviewer(stage, "ana", &["log", "verify", &session]).await.exits(0);
    verified.says("1 held (1 approved)");
    let shown = reviewer(stage, "ana", &["sessions", "show", &session]).await.exits(0);
    shown.says(&hold).says("approved once by dan@example.com");
}

#[tokio::test]
async fn nobody_approves_a_statement_of_their_own_though_they_review_others() {
    let stage = stage().await;
    let sql = "DELETE FROM support_tickets WHERE id = 4";
    let client = Program::connect(stage, "dan", &["psql", "-c", sql]);
    let hold = client.hold(0).await;
    reviewer(stage, "dan", &["inbox"]).await.exits(0).hides(&hold);
    for verb in ["approve", "deny"] {
        reviewer(stage, "dan", &[verb, &hold]).await.exits(4).says("your own session");
    }
    assert_eq!(tickets(stage, "id = 4").await, 1);
    drop(client);
}

#[tokio::test]
async fn a_denial_says_why_and_is_an_error_in_its_transaction() {
    let stage = stage().await;
    let session = Opened::of(stage).await;
    let client = session.psql(&[
        "\\set VERBOSITY verbose",
        "BEGIN",
        "UPDATE support_tickets SET subject = 'undone' WHERE id = 5",
        "DELETE FROM support_tickets WHERE id = 6",
        "SELECT 'not reached'",
        "ROLLBACK",
        "SELECT 'alive'",
    ]);
    let hold = client.hold(0).await;
    let deny = ["deny", &hold, "--comment", "not before the backup"];
    reviewer(stage, "dan", &deny).await.exits(0).says("denied by dan@example.com");
    let (_, said) = client.ends().await;
    assert!(said.contains("ERROR:  42501: pgate: dan@example.com (corp) denied"), "{said}");
    assert!(said.contains("DETAIL:  not before the backup"), "{said}");
    assert!(said.contains("25P02") && said.contains("alive"), "{said}");
    assert_eq!(tickets(stage, "id = 6 OR subject = 'undone'").await, 1);
    session.close().await;
}

#[tokio::test]
async fn a_hold_that_nobody_answers_is_refused_when_its_time_is_over() {
    let stage = stage().await;
    let sql = "UPDATE support_tickets SET subject = 'all'";
    let client = Program::connect(stage, "ana", &["psql", "-c", sql, "-c", "SELECT 'alive'"]);
    let hold = client.hold(0).await;
    let (_, said) = client.ends().await;
    assert!(said.contains("nobody approved this statement within 2 seconds"), "{said}");
    assert!(said.contains("role.cleaner.hold[1]") && said.contains("alive"), "{said}");
    assert_eq!(seen(stage, &hold).await["state"], "timed_out");
    reviewer(stage, "dan", &["approve", &hold]).await.exits(4).says("timed out");
    assert_eq!(tickets(stage, "subject = 'all'").await, 0);
}

#[tokio::test]
async fn ctrl_c_withdraws_it_and_the_session_goes_on() {
    let stage = stage().await;
    let session = Opened::of(stage).await;
    let client = session.psql(&["DELETE FROM support_tickets WHERE id = 7", "SELECT 'alive'"]);
    let hold = client.hold(0).await;
    client.signal(Signal::INT);
    let (_, said) = client.ends().await;
    assert!(said.contains("canceling statement due to user request"), "{said}");
    let view = until_state(stage, &hold, "withdrawn").await;
    assert_eq!(view["because"], "the client cancelled it");
    reviewer(stage, "dan", &["approve", &hold]).await.exits(4).says("withdrawn");
    let (code, said) = session.psql(&["SELECT 'alive'"]).ends().await;
    assert_eq!((code, said.as_str()), (Some(0), "alive\n"));
    assert_eq!(tickets(stage, "id = 7").await, 1);
    let id = session.session().to_owned();
    session.close().await;
    reviewer(stage, "ana", &["replay", &id]).await.exits(0).says("withdrawn: the client cancelled");
}

#[tokio::test]
async fn a_client_that_is_killed_withdraws_it_and_so_does_the_end_of_its_session() {
    let stage = stage().await;
    let session = Opened::of(stage).await;
    let killed = session.psql(&["DELETE FROM support_tickets WHERE id = 8"]);
    let hold = killed.hold(0).await;
    killed.signal(Signal::KILL);
    until_state(stage, &hold, "withdrawn").await;

    let left = session.psql(&["DELETE FROM support_tickets WHERE id = 8"]);
    let hold = left.hold(0).await;
    let id = session.session().to_owned();
    session.close().await;
    let (_, said) = left.ends().await;
    assert!(said.contains("the pgate session was closed"), "{said}");
    let view = seen(stage, &hold).await;
    assert!(view["state"] == "withdrawn" || view["state"] == "session_ended", "{view}");
    reviewer(stage, "dan", &["approve", &hold]).await.exits(4);
    assert_eq!(tickets(stage, "id = 8").await, 1);
    reviewer(stage, "ana", &["log", "verify", &id]).await.exits(0).says("2 held (0 approved)");
}

#[tokio::test]
async fn a_revoked_grant_takes_its_held_statements_with_it() {
    let stage = stage().await;
    let ask = ["request", "prod-db", "--role", "cleaner", "--reason", "r", "--output", "json"];
    let grant = reviewer(stage, "ana", &ask).await.exits(0);
    let grant: Value = serde_json::from_str(&grant.stdout).unwrap();
    let grant = grant["id"].as_str().unwrap();
    let sql = "DELETE FROM support_tickets WHERE id = 9";
    let arguments = ["connect", "prod-db", "--grant", grant, "--", "psql", "-c", sql];
    let client = Program::start(pgate(stage, "ana", &arguments).into());
    let hold = client.hold(0).await;
    reviewer(stage, "ana", &["grants", "revoke", grant]).await.exits(0);
    client.ends().await;
    assert_eq!(seen(stage, &hold).await["state"], "session_ended");
    reviewer(stage, "dan", &["approve", &hold]).await.exits(4);
    assert_eq!(tickets(stage, "id = 9").await, 1);
}

#[tokio::test]
async fn other_connections_go_on_and_an_approval_can_cover_the_same_statement() {
    let stage = stage().await;
    let session = Opened::of(stage).await;
    let delete = |id: u32| format!("DELETE FROM support_tickets WHERE id = {id}");
    let first = session.psql(&[&delete(10)]);
    let hold = first.hold(0).await;
    let (code, said) = session.psql(&["SELECT 'meanwhile'"]).ends().await;
    assert_eq!((code, said.as_str()), (Some(0), "meanwhile\n"));
    reviewer(stage, "dan", &["approve", &hold, "--same-statements"]).await.exits(0);
    assert!(first.ends().await.1.contains("DELETE 1"));

    // Other values pass; another shape, and another session, are held.
    let (code, said) = session.psql(&[&delete(11), &delete(12)]).ends().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("NOTICE"), "{said}");
    let other = session.psql(&["DELETE FROM support_tickets WHERE id >= 13 AND id < 15"]);
    let denied = other.hold(0).await;
    reviewer(stage, "dan", &["deny", &denied]).await.exits(0);
    other.ends().await;
    assert_eq!(tickets(stage, "id BETWEEN 10 AND 14").await, 2);
    let id = session.session().to_owned();
    let events = session.close().await;
    let steps = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let steps = steps.filter(|event| event["event"] == "hold");
    let steps = steps.map(|event| event["step"]["event"].as_str().unwrap().to_owned());
    let expected = ["raised", "approved", "covered", "covered", "raised", "denied"];
    assert_eq!(steps.collect::<Vec<_>>(), expected, "{events}");
    let replay = reviewer(stage, "ana", &["replay", &id]).await.exits(0);
    replay.says("by an earlier approval of the same statement");
    let again = Program::connect(stage, "ana", &["psql", "-c", &delete(13)]);
    again.hold(0).await;
    drop(again);
}

/// Two tables of the sweeper's own, in a stage where nobody else looks.
const TABLES: &str = "CREATE TABLE shop.scratch (id int); CREATE TABLE shop.swept (id int);
                      INSERT INTO shop.scratch SELECT generate_series(1, 50)";

#[tokio::test]
async fn an_approval_is_for_what_was_asked_and_every_reviewer_of_a_statement_is_asked() {
    static STAGE: OnceCell<Stage> = OnceCell::const_new();
    let policy = vec![("holds.toml".to_owned(), POLICY.to_owned())];
    let start = || async { own_stage(Options { policy, ..Options::default() }).await };
    let stage = STAGE.get_or_init(start).await;
    stage.cluster().execute("shop", TABLES).await.unwrap();
    let sweep = |person, sql: &str| {
        let arguments = ["connect", "prod-db", "--role", "sweeper", "--reason", "tidy", "--"];
        let arguments = [&arguments[..], &["psql", "-c", sql]].concat();
        Program::start(pgate(stage, person, &arguments).into())
    };

    // Privileges are there for what is approved, though nothing else gives them.
    let both = "WITH gone AS (DELETE FROM shop.scratch WHERE id <= 10 RETURNING id) \
                INSERT INTO shop.swept SELECT id FROM gone";
    let client = sweep("dan", both);
    let first = client.hold(0).await;
    // Dan's own statement: of the group's members only another could approve it.
    reviewer(stage, "dan", &["approve", &first]).await.exits(4);
    drop(client);
    let client = sweep("ana", both);
    let first = client.hold(0).await;
    reviewer(stage, "dan", &["approve", &first]).await.exits(0);
    let second = client.hold(1).await;
    reviewer(stage, "dan", &["approve", &second]).await.exits(4);
    // It is ana's to review, and her own: nobody can approve it.
    reviewer(stage, "ana", &["approve", &second]).await.exits(4).says("your own");
    drop(client);

    let client = sweep("ana", "DELETE FROM shop.scratch WHERE id > 40");
    let hold = client.hold(0).await;
    reviewer(stage, "dan", &["approve", &hold]).await.exits(0);
    assert!(client.ends().await.1.contains("DELETE 10"));

    // Nothing of a waiting statement is at PostgreSQL: its table can even go.
    let client = sweep("ana", "DELETE FROM shop.scratch");
    let hold = client.hold(0).await;
    stage.cluster().execute("shop", "DROP TABLE shop.scratch").await.unwrap();
    reviewer(stage, "dan", &["approve", &hold]).await.exits(0);
    let (_, said) = client.ends().await;
    assert!(said.contains("there is no relation shop.scratch"), "{said}");
    let session = seen(stage, &hold).await["session"].as_str().unwrap().to_owned();
    let replay = reviewer(stage, "ana", &["replay", &session]).await.exits(0);
    replay.says("approved by dan@example.com").says("not run after all");
}

/// A way to the control plane that can be cut.
struct Relay {
    url: String,
    task: JoinHandle<()>,
}

impl Relay {
    async fn to(stage: &Stage) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let address = stage.url().trim_start_matches("http://").to_owned();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let address = address.clone();
                connections.spawn(async move {
                    let mut server = TcpStream::connect(address).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { url, task }
    }

    fn cut(&self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn without_a_control_plane_nothing_held_runs() {
    let stage = stage().await;
    let relay = Relay::to(stage).await;
    let mut command = opening(stage);
    command.env("PGATE_SERVER", &relay.url);
    let session = Opened::start(command).await;
    let waiting = session.psql(&["DELETE FROM support_tickets WHERE id = 16", "SELECT 'alive'"]);
    let hold = waiting.hold(0).await;
    relay.cut();
    // The approval can't reach the proxy.
    reviewer(stage, "dan", &["approve", &hold]).await.exits(0);
    let (_, said) = waiting.ends().await;
    assert!(said.contains("no reviewer can give it: the control plane is out of reach"), "{said}");
    assert!(said.contains("alive"), "{said}");
    let later = session.psql(&["DELETE FROM support_tickets WHERE id = 16"]);
    let (_, said) = later.ends().await;
    assert!(said.contains("the control plane is out of reach"), "{said}");
    assert_eq!(tickets(stage, "id = 16").await, 1);
    session.close().await;
}

/// Decides on what waits, by the words in its text, until it is dropped.
async fn review_by_word(stage: &'static Stage) -> Result<(), String> {
    loop {
        let inbox = reviewer(stage, "dan", &["inbox", "--output", "json"]).await;
        let inbox: Value =
            serde_json::from_str(&inbox.stdout).map_err(|error| error.to_string())?;
        for hold in inbox["holds"].as_array().into_iter().flatten() {
            let (id, sql) = (hold["id"].as_str().unwrap(), hold["sql"].as_str().unwrap());
            let word = ["approve", "deny", "slow", "same"]
                .into_iter()
                .find(|word| sql.contains(&format!("/* {word} */")));
            match word {
                Some("deny") => {
                    reviewer(stage, "dan", &["deny", id, "--comment", "not before the backup"])
                        .await
                }
                Some("same") => reviewer(stage, "dan", &["approve", id, "--same-statements"]).await,
                Some("slow") => {
                    sleep(Duration::from_secs(4)).await;
                    reviewer(stage, "dan", &["approve", id]).await
                }
                Some("approve") => reviewer(stage, "dan", &["approve", id]).await,
                _ => continue,
            };
        }
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn psycopg_waits_in_transactions_and_pipelines_and_is_told_the_answer() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = package.join("target/drivers/bin/python");
    if !python.exists() {
        assert!(std::env::var_os("PGATE_TEST_ALL").is_none(), "psycopg is not installed");
        eprintln!("skipped: psycopg is not installed; `tests/run` installs it and runs this test");
        return;
    }
    let stage = stage().await;
    let script = package.join("tests/drivers/psycopg_holds.py");
    let command = [python.to_str().unwrap(), script.to_str().unwrap()];
    let client = Program::connect(stage, "ana", &command);
    let ended = tokio::select! {
        ended = client.ends() => ended,
        failed = review_by_word(stage) => panic!("the reviewer failed: {failed:?}"),
    };
    let (code, said) = ended;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("psycopg: all held statements went"), "{said}");
}

#[tokio::test]
async fn a_write_of_more_rows_than_a_rule_lets_pass_waits_and_stands_once_approved() {
    let stage = stage().await;
    let sql = "UPDATE support_tickets SET subject = subject";
    let arguments = ["connect", "prod-db", "--role", "counter", "--reason", "INC-7"];
    let psql = ["--", "psql", "--no-psqlrc", "--command", sql];
    let program = Program::start(pgate(stage, "ana", &[&arguments[..], &psql].concat()).into());
    let hold = program.hold(0).await;
    reviewer(stage, "dan", &["approve", &hold]).await.exits(0);
    let (code, said) = program.ends().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("UPDATE ") && !said.contains("UPDATE 1\n"), "{said}");
}
