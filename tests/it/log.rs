//! Session logs as files: the spool under a full disk and a kill, and what the
//! real binary says of a log that somebody has touched.

mod served;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use jiff::Timestamp;
use pgate::{
    grant::{
        Confirmation, GrantId, Identity, SessionGrant, SessionId, SignedGrant, SigningKey,
        VerifyingKey,
    },
    journal::{
        Chain, Completion, End, EndReason, FORMAT_VERSION, Lines, Notice, Protocol, Receiver,
        Record, Start, StatementRecord, verify,
    },
    policy::{Allowed, Denied, RuleRef, Verdict},
    proxy::spool::{Destination, Spool, SpoolError, orphans},
};

fn server_key() -> SigningKey {
    SigningKey::from_seed(&[11; 32])
}

fn session_key() -> SigningKey {
    SigningKey::from_seed(&[12; 32])
}

fn session() -> SessionId {
    SessionId::from_random([5; 10])
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn start() -> Start {
    let grant = SessionGrant {
        iss: "http://127.0.0.1:7432".into(),
        grant: GrantId::from_random([6; 10]),
        session: session(),
        identity: Identity {
            issuer: "corp".into(),
            subject: "ana".into(),
            email: Some("ana@example.com".into()),
            groups: Vec::new(),
            claims: Default::default(),
        },
        target: "prod-db".into(),
        role: "readonly".into(),
        policy: "00".into(),
        reason: "INC-4312 refunds stuck".into(),
        approved_by: Vec::new(),
        iat: 1_800_000_000,
        exp: 1_800_003_600,
        cnf: Confirmation { jwk: session_key().verifying_key().to_jwk() },
    };
    Start {
        version: FORMAT_VERSION,
        session: session(),
        grant: SignedGrant::sign(&grant, &server_key()).unwrap(),
        key: session_key().verifying_key().to_jwk(),
        pgate: "0.1.0".into(),
        command: Some("psql".into()),
    }
}

fn statement(statement: u64, sql: &str, verdict: Verdict) -> Record {
    Record::Statement(Box::new(StatementRecord {
        connection: 1,
        statement,
        protocol: Protocol::Simple,
        sql: sql.into(),
        parameters: [].into(),
        verdict: std::sync::Arc::new(verdict.into()),
    }))
}

fn rule(rule: &str) -> RuleRef {
    RuleRef { rule: rule.into(), place: Some("shop.toml:9".into()) }
}

fn allow() -> Verdict {
    Verdict::Allow(Allowed {
        rule: rule("role.readonly.allow[0]"),
        masked: Vec::new(),
        lookups: Default::default(),
    })
}

fn deny() -> Verdict {
    Verdict::Deny(Denied {
        rule: rule("role.readonly.deny[0]"),
        reason: "secrets".into(),
        hint: String::new(),
    })
}

/// A closed log with a receipt, and the keys that verify it.
fn closed_log() -> Vec<Vec<u8>> {
    let (mut chain, first) = Chain::start(start(), at(0)).unwrap();
    let completion = Record::Completion(Completion {
        connection: 1,
        statement: 1,
        tag: Some("SELECT 1".into()),
        rows: 1,
        bytes: 1,
        duration_us: 1234,
        sqlstate: None,
    });
    let hostile = "SELECT '\x1b[2J' FROM shop.api_keys";
    let end = Record::End(End { reason: EndReason::Closed, detail: String::new() });
    let mut lines = vec![first.bytes];
    let records =
        [statement(1, "SELECT 1", allow()), completion, statement(2, hostile, deny()), end];
    for (record, second) in records.into_iter().zip(1..) {
        lines.push(chain.append(record, at(second)).unwrap().bytes);
    }
    lines.push(chain.checkpoint(&session_key(), at(5)).unwrap().bytes);
    let keys = [server_key().verifying_key()];
    let receiver = Receiver::new(session(), session_key().verifying_key().to_jwk());
    let receiver = receiver.accept(0, &lines.concat(), &keys).unwrap().receiver;
    let receipt = receiver.receipt(at(6), &server_key()).unwrap();
    lines.push(chain.receipt(receipt).unwrap().bytes);
    lines
}

/// A clean home with a log and key files, for the real binary.
struct Desk {
    home: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { home: tempfile::tempdir().unwrap() };
        let jwk = server_key().verifying_key().to_jwk();
        desk.write("server.pub", serde_json::to_vec(&jwk).unwrap());
        let set = serde_json::json!({ "keys": [
            { "kty": "OKP", "crv": "Ed25519", "x": SigningKey::from_seed(&[99; 32])
                .verifying_key().to_jwk().x },
            jwk,
        ]});
        desk.write("jwks.json", set.to_string());
        let other: VerifyingKey = SigningKey::from_seed(&[99; 32]).verifying_key();
        desk.write("other.pub", serde_json::to_vec(&other.to_jwk()).unwrap());
        desk.write("log.jsonl", closed_log().concat());
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgate"));
        command.env_clear().env("HOME", self.home.path()).current_dir(self.home.path());
        command.args(arguments.split_whitespace());
        command
    }

    fn run(&self, arguments: &str) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    fn pipe(&self, arguments: &str, input: &[u8]) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_log_verifies_with_the_servers_key_alone() {
    let desk = Desk::new();
    for key in ["server.pub", "jwks.json"] {
        let output = desk.run(&format!("log verify log.jsonl --key {key}"));
        let said = stdout(&output);
        assert!(output.status.success(), "{said}{}", stderr(&output));
        for part in [
            "ana@example.com (corp)",
            "prod-db as readonly",
            "INC-4312 refunds stuck",
            "7 lines, 2 statements, 1 denied",
            "(closed)",
            "ok: the log is as pgate wrote it\n",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    let output = desk.pipe("log verify - --key server.pub", &closed_log().concat());
    assert!(output.status.success());
}

#[test]
fn a_log_edited_by_one_byte_fails_with_its_line() {
    let desk = Desk::new();
    let log = fs::read_to_string(desk.path("log.jsonl")).unwrap();
    desk.write("edited.jsonl", log.replacen("SELECT 1", "SELECT 2", 1));
    let output = desk.run("log verify edited.jsonl --key server.pub");
    assert_eq!(output.status.code(), Some(1));
    let said = stdout(&output);
    assert!(said.contains("problem: line 2: the line was changed after it was written"), "{said}");
    assert!(!said.contains("ok:"), "{said}");
    assert!(stderr(&output).contains("the log doesn't verify: 1 problem"));

    let output = desk.run("log verify edited.jsonl --key server.pub --output json");
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["intact"], false);
    assert_eq!(report["problems"][0]["line"], 2);
    assert_eq!(report["problems"][0]["kind"], "edited");
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["code"], "log_not_intact");
}

#[test]
fn what_is_missing_or_wrong_is_told_with_the_right_exit_code() {
    let desk = Desk::new();
    let unclosed = closed_log();
    desk.write("cut.jsonl", unclosed[..4].concat());
    desk.write("garbage.pub", "ssh-ed25519 AAAA");
    desk.write("empty.jsonl", "");
    for (arguments, code, part) in [
        ("log verify cut.jsonl --key server.pub", 1, "unsigned"),
        ("log verify empty.jsonl --key server.pub", 1, "the log is empty"),
        ("log verify log.jsonl --key other.pub", 1, "not among the server's keys"),
        ("log verify log.jsonl --key garbage.pub", 1, "neither a JSON Web Key nor a set"),
        ("log verify log.jsonl --key none.pub", 1, "can't read the key none.pub"),
        ("log verify none.jsonl --key server.pub", 1, "can't read none.jsonl"),
        ("log verify server.pub --key server.pub", 1, "line 1: the line can't be read"),
        ("log verify log.jsonl", 2, "pass --key FILE"),
        ("log verify", 2, "FILE|SESSION"),
        ("log export session.jsonl", 2, "is not a session id"),
        ("replay empty.jsonl", 1, "the log is empty"),
        ("replay log.jsonl --speed 0", 2, "greater than 0"),
        ("log verify log.jsonl --server http://127.0.0.1:1", 6, "pass --key FILE"),
    ] {
        let output = desk.run(arguments);
        let said = stdout(&output) + &stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {said}");
        assert!(said.contains(part), "{arguments}: {said}");
    }
}

#[test]
fn a_replay_tells_the_session_and_lets_nothing_through_to_the_terminal() {
    let desk = Desk::new();
    let output = desk.run("replay log.jsonl");
    let said = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    for part in [
        "[1] allow  role.readonly.allow[0] (shop.toml:9)",
        "[1] SELECT 1, 1 rows, 1 bytes, 1.2 ms",
        "[2] deny  role.readonly.deny[0] (shop.toml:9): secrets",
        "SELECT '\\u{1b}[2J' FROM shop.api_keys",
        "+000:04.000  session ended (closed)",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains('\x1b'), "{said}");

    let events = stdout(&desk.run("replay log.jsonl --output json"));
    let events = events.lines().map(serde_json::from_str::<serde_json::Value>);
    let events = events.collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(events.len(), 7);
    assert_eq!(events[3]["offset_ms"], 3000);
    assert_eq!(events[3]["verdict"], "deny");
}

#[test]
fn uploading_when_nothing_waits_is_no_failure() {
    let desk = Desk::new();
    let output = desk.run("log upload --output json");
    assert!(output.status.success());
    assert_eq!(stdout(&output), "{\"uploaded\":[],\"kept\":[]}\n");
}

fn spool(root: &Path) -> Result<Spool, SpoolError> {
    let destination = Destination {
        server: "http://127.0.0.1:1".parse().unwrap(),
        upload_token: "token".to_owned().into(),
    };
    Spool::create(root, &destination, start(), session_key(), at(0))
}

/// Runs one of the ignored tests below in a process of its own, with the spool's
/// root in its environment; `limits` are shell commands that come first.
fn child(test: &str, root: &Path, limits: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{limits} exec \"$0\" --exact \"$1\" --ignored --nocapture")])
        .arg(std::env::current_exe().unwrap())
        .arg(format!("log::{test}"))
        .env("SPOOL_ROOT", root)
        .stdout(Stdio::piped());
    command
}

fn root_of_child() -> PathBuf {
    std::env::var_os("SPOOL_ROOT").expect("set by the test that runs this one").into()
}

/// Not a test: what the test of the full disk runs.
#[test]
#[ignore = "run by the test that limits its file size"]
fn fills_the_disk() {
    let spool = spool(&root_of_child()).unwrap();
    for n in 1.. {
        match spool.append(&statement(n, &"x".repeat(1000), allow()), at(1)) {
            Ok(seq) => println!("wrote {seq}"),
            Err(SpoolError::Write { why, .. }) => {
                println!("stopped {why}");
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    let again = spool.append(&statement(0, "SELECT 1", allow()), at(2));
    assert!(matches!(again, Err(SpoolError::Stopped(_))), "{again:?}");
    let end = End { reason: EndReason::Failed, detail: String::new() };
    assert!(matches!(spool.close(end, at(3)), Err(SpoolError::Stopped(_))));
    println!("refused everything after");
}

#[test]
fn on_a_full_disk_nothing_counts_as_recorded_and_the_log_stays_whole() {
    let root = tempfile::tempdir().unwrap();
    let output = child("fills_the_disk", root.path(), "trap '' XFSZ; ulimit -f 40;").output();
    let output = output.unwrap();
    let said = stdout(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("stopped") && said.contains("refused everything after"), "{said}");
    let written = last_number(&said, "wrote ");
    let log = fs::read(root.path().join(session().as_str()).join("log.jsonl")).unwrap();
    assert!(log.ends_with(b"\n"), "the part of a line is cut off");
    let lines = Lines::new(log.as_slice()).map(|line| line.unwrap().decode().unwrap());
    assert_eq!(lines.last().unwrap().seq, written);
    assert_eq!(orphans(root.path()).len(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_spool_that_cant_be_made_says_where_and_why() {
    let Err(error) = spool(Path::new("/proc/spool")) else { panic!("made in /proc") };
    let message = error.to_string();
    assert!(message.starts_with("the session log can't be kept in /proc/spool: "), "{message}");
}

/// Not a test: what the test of the kill runs.
#[test]
#[ignore = "run by the test that kills it"]
fn appends_until_it_is_killed() {
    let spool = spool(&root_of_child()).unwrap();
    for n in 1.. {
        let seq = spool.append(&statement(n, "SELECT 1", allow()), at(1)).unwrap();
        println!("wrote {seq}");
    }
}

#[test]
fn what_was_appended_before_a_kill_is_all_there_and_can_be_taken_over() {
    for lines in [1, 50, 400] {
        let root = tempfile::tempdir().unwrap();
        let mut killed = child("appends_until_it_is_killed", root.path(), "").spawn().unwrap();
        let mut said = BufReader::new(killed.stdout.take().unwrap()).lines();
        let wrote = |line: &str| line.contains("wrote ");
        let read = said.by_ref().map(Result::unwrap).filter(|line| wrote(line)).take(lines);
        assert_eq!(read.count(), lines);
        assert_eq!(orphans(root.path()).len(), 0, "its owner lives");
        killed.kill().unwrap();
        killed.wait().unwrap();
        let rest = said.map_while(Result::ok).collect::<Vec<_>>();
        let wrote = rest.iter().rfind(|line| line.ends_with(|c: char| c.is_ascii_digit()));
        let acknowledged = wrote.map_or(0, |line| last_number(line, "wrote "));

        let adopted = orphans(root.path());
        let [Ok(orphan)] = adopted.as_slice() else { panic!("{adopted:?}") };
        let log = fs::read(orphan.folder().join("log.jsonl")).unwrap();
        let keys = [server_key().verifying_key()];
        let receiver = Receiver::new(session(), session_key().verifying_key().to_jwk());
        let receiver = receiver.accept(0, &log, &keys).unwrap().receiver;
        assert!(receiver.lines() > acknowledged.max(lines as u64), "{}", receiver.lines());
        let receipt = receiver.receipt(at(9), &server_key()).unwrap();
        let received = [log, receiver.receipt_line(receipt).unwrap().bytes].concat();
        let report = verify(received.as_slice(), &keys).unwrap();
        assert_eq!((report.problems, report.notices), (vec![], vec![Notice::NotClosed]));
    }
}

/// The number after the last `word` in `text`.
fn last_number(text: &str, word: &str) -> u64 {
    let (_, rest) = text.rsplit_once(word).unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}
