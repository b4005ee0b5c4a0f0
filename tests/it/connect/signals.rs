//! Signals without a terminal, at every stage of a session.

use std::{thread, time::Duration};

use rustix::process::Signal;
use serde_json::Value;

use super::{Desk, finish, signal, stage};

#[tokio::test]
async fn an_interrupt_cancels_the_query_and_sigterm_ends_the_command() {
    let desk = Desk::new(stage().await, "signals");
    let grant = desk.grant("10m");
    // psql cancels its statement and goes on with the next.
    let script = "exec psql -X -c 'SELECT pg_sleep(50)' -c \"SELECT 'goes ' || 'on'\"";
    let shell = desk.shell(&grant, script);
    let (session, socket) = (shell.session.clone(), shell.socket.clone());
    desk.query_runs(&session, "pg_sleep").await;
    signal(&shell.child, Signal::INT);
    shell.finish("interrupted").says("canceling statement due to user request");
    desk.left_nothing(&session, &socket, "(closed)").await;

    for (with, code) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::QUIT, 131)] {
        let shell = desk.shell(&grant, "ulimit -c 0; exec psql -Xc 'SELECT pg_sleep(50)'");
        let (session, socket) = (shell.session.clone(), shell.socket.clone());
        desk.query_runs(&session, "pg_sleep").await;
        signal(&shell.child, with);
        shell.finish("ended").exits(code);
        desk.left_nothing(&session, &socket, "(closed)").await;
    }
}

/// Whether SIGINT is ignored here, as it is under `nohup` and in a script's background: what
/// is started here then ignores it, too, until it listens.
fn starts_deaf() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 << (Signal::INT.as_raw() - 1) != 0)
}

#[tokio::test]
async fn a_signal_right_at_the_start_leaves_no_session_open() {
    let desk = Desk::new(stage().await, "early");
    let grant = desk.grant("10m");
    let connect = ["connect", "prod-db", "--grant", &grant];
    let mut pgates = Vec::new();
    let interrupt = if starts_deaf() { Signal::TERM } else { Signal::INT };
    for (step, with) in (0..8).zip([interrupt, Signal::TERM].into_iter().cycle()) {
        let command: &[&str] = if step % 4 < 2 { &[] } else { &["--", "sleep", "50"] };
        let mut pgate = desk.pgate(&[&connect, command].concat());
        let pgate = pgate.stdout(std::process::Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(40 * step));
        signal(&pgate, with);
        pgates.push(pgate);
    }
    for mut pgate in pgates {
        super::ended(&mut pgate);
    }
    let list = ["sessions", "list", "--output", "json"];
    let sessions = finish(desk.pgate(&list), &list).exits(0);
    let sessions: Value = serde_json::from_str(&sessions.stdout).unwrap();
    for session in sessions["sessions"].as_array().unwrap() {
        assert_eq!(session["state"], "closed", "{session}");
        let session = session["session"].as_str().unwrap();
        desk.role_goes(session).await;
        desk.run(&["log", "verify", session]).exits(0).says("(closed");
    }
    desk.run(&["log", "upload"]).exits(0).says("No session log waits");
}
