//! What goes wrong around a session: the control plane, the database, the login, the
//! policy, the child. Each is a clear error with its exit code, shows no secret, and
//! leaves nothing behind.

use std::{fs, process::Stdio, time::Duration};

use rustix::process::Signal;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{
    Desk, Serving, finish,
    middleman::{Fate, Middleman},
    new_stage, soon, stage,
};
use crate::harness::Ran;

/// Runs `pgate` against another server than its own.
pub(super) async fn at(desk: &Desk<'_>, server: &str, arguments: &[&str]) -> Ran {
    let mut command = desk.pgate(arguments);
    command.env("PGATE_SERVER", server);
    let arguments = arguments.iter().map(ToString::to_string).collect::<Vec<_>>();
    // What stands between lives on this test's own runtime.
    let running = tokio::task::spawn_blocking(move || {
        finish(command, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    });
    running.await.unwrap().hides("eyJ").hides("pgu_").hides("panicked")
}

const NO_DATABASE: &str = r#"{"type": "about:blank", "title": "no database", "status": 503,
    "code": "target_unreachable", "hint": "try again", "now": "2026-01-01T00:00:00Z"}"#;

fn opens(method: &str, path: &str) -> bool {
    method == "POST" && path == "/v1/sessions"
}

#[tokio::test]
async fn a_control_plane_that_answers_nonsense_is_told_apart_and_leaves_nothing() {
    let desk = Desk::new(stage().await, "garbage");
    let grant = desk.grant("10m");
    let between = Middleman::before(desk.stage.url(), |_, _| Fate::Pass).await;
    let connect = ["connect", "prod-db", "--grant", &grant];
    let with_command = [&connect[..], &["--", "true"]].concat();
    at(&desk, &between.url, &with_command).await.exits(0);

    // (what is meddled with, the exit code, what is said)
    type Case = (fn(&str, &str) -> Fate, i32, &'static str);
    let cases: [Case; 9] = [
        (|_, _| Fate::Answer(200, "<html>\x1b[2J"), 1, "doesn't answer as a pgate server does"),
        (|_, _| Fate::Answer(502, "bad gateway"), 6, "502"),
        (|_, _| Fate::Break, 6, "can't reach"),
        (
            |method, path| match opens(method, path) {
                true => Fate::Answer(201, r#"{"session":1}"#),
                false => Fate::Pass,
            },
            1,
            "not what pgate's API promises",
        ),
        (
            |method, path| match opens(method, path) {
                true => Fate::Answer(503, NO_DATABASE),
                false => Fate::Pass,
            },
            1,
            "no database",
        ),
        // A grant for another key, a policy that wasn't signed, no key that signed it.
        (
            |method, path| match opens(method, path) {
                true => Fate::Edit(|opened| {
                    let role = opened["role"].as_str().unwrap().replace("shop.api_keys", "x.y");
                    opened["role"] = role.into();
                }),
                false => Fate::Pass,
            },
            1,
            "its policy isn't the one that was signed",
        ),
        (
            |method, path| match opens(method, path) {
                true => Fate::Edit(|opened| {
                    let grant = opened["grant"].as_str().unwrap();
                    let (head, rest) = grant.split_at(grant.len() - 8);
                    opened["grant"] = format!("{head}{}", "A".repeat(rest.len())).into();
                }),
                false => Fate::Pass,
            },
            1,
            "the server's grant can't be used",
        ),
        (
            |_, path| match path.ends_with("/keys") {
                true => Fate::Edit(|keys| keys["keys"] = json!([])),
                false => Fate::Pass,
            },
            1,
            "the server's grant can't be used",
        ),
        (
            |method, path| match opens(method, path) {
                true => Fate::Edit(|opened| opened["database"]["port"] = 1.into()),
                false => Fate::Pass,
            },
            1,
            "can't be reached",
        ),
    ];
    for (meddler, code, said) in cases {
        between.now(meddler);
        at(&desk, &between.url, &connect).await.exits(code).says(said).hides("\x1b");
        at(&desk, &between.url, &with_command).await.exits(125).says(said);
    }
    nothing_is_open(&desk).await;
}

#[tokio::test]
async fn a_clock_that_is_ahead_of_the_servers_is_named_as_what_is_wrong() {
    let desk = Desk::new(stage().await, "skewed");
    // The session is opened at the last moment, and the server says that it is earlier
    // than this machine believes.
    let between = Middleman::before(desk.stage.url(), |method, path| match opens(method, path) {
        true => Fate::Edit(|opened| {
            let now = opened["now"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
            opened["now"] = (now - Duration::from_secs(7200)).to_string().into();
            std::thread::sleep(Duration::from_secs(3));
        }),
        false => Fate::Pass,
    });
    let between = between.await;
    let grant = desk.grant("2s");
    let ran = at(&desk, &between.url, &["connect", "prod-db", "--grant", &grant]).await;
    ran.exits(4).says("the grant has ended").says("clock").says("ahead");
    nothing_is_open(&desk).await;
}

#[tokio::test]
async fn a_session_outlives_its_control_plane_and_its_log_waits_in_the_spool() {
    let desk = Desk::new(stage().await, "away");
    let grant = desk.grant("10m");
    let between = Middleman::before(desk.stage.url(), |_, _| Fate::Pass).await;
    let ready = ["connect", "prod-db", "--grant", &grant, "--output", "json"];
    let mut command = desk.pgate(&ready);
    command.env("PGATE_SERVER", &between.url).stderr(Stdio::piped());
    let serving = tokio::task::spawn_blocking(|| Serving::start(command)).await.unwrap();
    between.now(|_, path| match path.ends_with("/log") {
        true => Fate::Answer(500, r#"{"code":"internal","title":"out of order"}"#),
        false => Fate::Break,
    });
    assert_eq!(serving.psql("SELECT 40 + 2 AS unseen").0, "42\n");
    let session = serving.session().to_owned();
    let ended = tokio::task::spawn_blocking(move || serving.end(Signal::TERM)).await.unwrap();
    assert_eq!((ended.0, &ended.1["log_uploaded"]), (Some(0), &false.into()), "{ended:?}");

    // The next run tries, says so, and is not held up; the one after succeeds.
    let next = [&ready[..4], &["--", "true"]].concat();
    at(&desk, &between.url, &next).await.exits(125).says(&session).says("still in the spool");
    between.now(|_, _| Fate::Pass);
    at(&desk, &between.url, &next).await.exits(0).says(&format!("uploaded the log of {session}"));
    desk.run(&["log", "verify", &session]).exits(0).says("(closed)");
    desk.run(&["replay", &session]).exits(0).says("unseen");
    desk.role_goes(&session).await;
}

#[tokio::test]
async fn a_silent_control_plane_does_not_hold_a_session_up_for_ever() {
    let desk = Desk::new(stage().await, "slow");
    let between = Middleman::before(desk.stage.url(), |_, path| match path.ends_with("/keys") {
        true => Fate::Silence,
        false => Fate::Pass,
    });
    let between = between.await;
    let grant = desk.grant("10m");
    let ran = at(&desk, &between.url, &["connect", "prod-db", "--grant", &grant]).await;
    ran.exits(6).says("in time").says("hint");
    nothing_is_open(&desk).await;
}

#[tokio::test]
async fn a_database_that_speaks_nonsense_or_nothing_fails_clearly_and_closes_the_session() {
    let stage = stage().await;
    let desk = Desk::new(stage, "wire");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let policy = stage.server_folder().join("policy");
    let target = format!(
        "[target.odd]\nurl = \"postgres://127.0.0.1:{port}/odd?sslmode=disable\"\n\
         credential = {{ kind = \"static\", user = \"app\", password = \"file:odd\" }}\n\
         [role.odd]\ntargets = [\"odd\"]\nallow = [{{ actions = [\"select\"] }}]\n\
         [[access]]\nwho = {{ group = \"engineering\" }}\nrole = \"odd\"\ntarget = \"odd\"\n\
         approval = \"auto\"\n"
    );
    fs::write(policy.join("odd"), "the-static-password").unwrap();
    fs::write(policy.join("odd.toml"), target).unwrap();
    soon(|| desk.run(&["targets"]).stdout.contains("odd")).await;

    // (what it says after the startup packet, what pgate says)
    let cases: [(&[u8], &str); 8] = [
        (b"", "closed the connection at once"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "broke the protocol"),
        (b"R\x7f\xff\xff\xff", "broke the protocol"),
        (b"R\0\0\0\x06\0\0", "broke the protocol"),
        (b"R\0\0\0\x08\0\0\0\x07", "authentication method 7"),
        (b"R\0\0\0\x08\0\0\0\x03", "cleartext password without TLS"),
        (b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I", "client_encoding"),
        (b"E\0\0\0\x1bSFATAL\0C28000\0Mno\x1b[2J\0\0", "28000"),
    ];
    let answers = cases.map(|(answer, _)| answer);
    tokio::spawn(async move {
        for answer in answers {
            // Whoever says nothing is tried once more, with the older protocol.
            for _ in 0..if answer.is_empty() { 2 } else { 1 } {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(answer).await;
            }
        }
    });
    for (_, said) in cases {
        let connect = ["connect", "odd", "--role", "odd", "--reason", "r", "--", "true"];
        let ran = at(&desk, stage.url(), &connect).await.exits(125);
        ran.says(said).hides("the-static-password").hides("\x1b");
    }
    nothing_is_open(&desk).await;
}

#[tokio::test]
async fn a_policy_edited_to_nonsense_changes_nothing_and_a_log_edited_by_a_byte_is_refused() {
    let stage = new_stage().await;
    let desk = Desk::new(&stage, "nonsense");
    let grant = desk.grant("10m");
    let mut serving = desk.serve(&grant);
    let policy = stage.server_folder().join("policy/shop.toml");
    let good = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, good.replace("max_ttl = \"8h\"", "max_tll = \"8h\"")).unwrap();
    soon(|| stage.server_log().contains("max_tll")).await;
    assert!(stage.server_log().contains("shop.toml"), "{}", stage.server_log());
    assert_eq!(serving.psql("SELECT 40 + 2").0, "42\n");
    let connect = ["connect", "prod-db", "--grant", &grant, "--"];
    let masked = ["psql", "-XAtc", "SELECT email FROM customers LIMIT 1"];
    desk.run(&[&connect[..], &masked].concat()).exits(0).says("***@");

    // A policy that no longer gives the role ends no session, and opens none.
    fs::write(&policy, good.replace("group = \"engineering\"", "group = \"nobody\"")).unwrap();
    let refused = [&connect[..], &["true"]].concat();
    soon(|| desk.run(&refused).code == Some(125)).await;
    desk.run(&refused).exits(125).says("no longer lets you");
    assert_eq!(serving.psql("SELECT 40 + 2").0, "42\n");
    fs::write(&policy, &good).unwrap();

    // One byte of the log in the spool, while the session runs or after its death: what the
    // control plane has, or the chain, tells.
    let session = serving.session().to_owned();
    serving.child.kill().unwrap();
    serving.child.wait().unwrap();
    let log = desk.home().join(format!(".local/state/pgate/spool/{session}/log.jsonl"));
    let lines = fs::read_to_string(&log).unwrap_or_else(|error| panic!("{log:?}: {error}"));
    fs::write(&log, lines.replacen("SELECT 40 + 2", "SELECT 41 + 2", 1)).unwrap();
    desk.run(&["log", "upload"]).exits(1).says(&session).hides("pgu_");
    assert!(log.exists(), "what doesn't fit stays for whoever looks into it");
    desk.run(&["log", "verify", log.to_str().unwrap()]).exits(1).says("changed");
}

/// Checks that none of somebody's sessions is open, nor its role left.
async fn nothing_is_open(desk: &Desk<'_>) {
    let sessions = desk.run(&["sessions", "list", "--output", "json"]).exits(0);
    let sessions: Value = serde_json::from_str(&sessions.stdout).unwrap();
    for session in sessions["sessions"].as_array().unwrap() {
        assert_ne!(session["state"], "open", "{session}");
        desk.role_goes(session["session"].as_str().unwrap()).await;
    }
    let admin = desk.stage.cluster().admin_url();
    assert!(!desk.stage.server_log().contains(admin.expose_secret()));
}
