//! Session logs with everything real: pgate, the control plane, PostgreSQL, psql.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::harness::{pgate, run, stage};

#[tokio::test]
async fn a_finished_sessions_log_verifies_and_replays_and_an_edit_is_found() {
    let stage = stage().await;
    let ask = ["connect", "prod-db", "--role", "readonly", "--reason", "log test", "--"];
    let script = "psql -c 'SELECT count(*) AS finished_marker FROM shop.orders' >&2 && \
                  printf %s \"$PGATE_SESSION\"";
    let connected = run(stage, "ana", &[&ask[..], &["sh", "-c", script]].concat()).exits(0);
    let id = connected.stdout.as_str();

    run(stage, "ana", &["log", "verify", id]).exits(0).says("ok:").says("(closed)").hides("note:");
    run(stage, "ana", &["replay", id]).exits(0).says("finished_marker").says("allow");
    run(stage, "ana", &["sessions", "show", id]).exits(0).says("prod-db").says("closed");
    let log = run(stage, "ana", &["log", "export", id]).exits(0).stdout;
    let home = stage.home("ana").unwrap();
    fs::write(home.join("edited.jsonl"), log.replacen("finished_marker", "finished_marked", 1))
        .unwrap();
    run(stage, "ana", &["log", "verify", "edited.jsonl"])
        .exits(1)
        .says("the line was changed after it was written");
}

#[tokio::test]
async fn a_killed_pgates_log_goes_up_at_the_next_run_and_says_that_it_was_not_closed() {
    let stage = stage().await;
    let arguments = ["connect", "prod-db", "--role", "readonly", "--reason", "killed"];
    let mut session = pgate(stage, "dan", &arguments)
        .args(["--output", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let ready = BufReader::new(session.stdout.take().unwrap())
        .lines()
        .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap())
        .find(|event| event["event"] == "ready")
        .unwrap();
    let id = ready["session"].as_str().unwrap();
    let psql = Command::new("psql")
        .args([ready["url"].as_str().unwrap(), "-XAtc", "SELECT 41 + 1 AS killed_marker"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&psql.stdout), "42\n", "{psql:?}");
    session.kill().unwrap();
    session.wait().unwrap();

    // Whoever of the other tests connects first may have brought it up already.
    run(stage, "dan", &["log", "upload"]).exits(0);
    run(stage, "dan", &["log", "upload"]).exits(0).says("No session log waits");
    run(stage, "dan", &["log", "verify", id])
        .exits(0)
        .says("the session was not closed")
        .says("ok:");
    run(stage, "dan", &["replay", id]).exits(0).says("killed_marker");
}
