//! `pgate connect` without a command: what it prints, for people and for programs.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Output, Stdio},
};

use rustix::process::Signal;
use serde_json::Value;

use super::{Desk, Serving, ended, event, signal, stage, with_output};
use crate::harness::run;

#[tokio::test]
async fn events_tell_programs_of_waiting_ready_and_closed() {
    let stage = stage().await;
    let desk = Desk::new(stage, "events");
    let ask = ["connect", "prod-db", "--role", "writer", "--reason", "an event", "--ttl", "5m"];
    let (child, mut events) = with_output(desk.pgate(&[&["--output", "json"][..], &ask].concat()));
    let waiting = event(&mut events).unwrap();
    assert_eq!(waiting["event"], "waiting_approval");
    assert_eq!((&waiting["target"], &waiting["role"]), (&"prod-db".into(), &"writer".into()));
    run(stage, "dan", &["approve", waiting["grant"].as_str().unwrap()]).exits(0);

    let ready = event(&mut events).unwrap();
    let mut keys = ready.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>();
    keys.sort_unstable();
    let promised = [
        "database",
        "event",
        "expires_at",
        "host",
        "password",
        "port",
        "session",
        "socket",
        "url",
        "user",
    ];
    assert_eq!(keys, promised, "{ready}");
    assert_eq!((&ready["event"], &ready["host"]), (&"ready".into(), &"127.0.0.1".into()));
    assert!(ready["port"].as_u64().is_some_and(|port| port > 0), "{ready}");
    assert!(ready["expires_at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    let serving = Serving { child, events, ready };
    assert_eq!(serving.psql("SELECT 40 + 2").0, "42\n");
    let (session, socket) = (serving.session().to_owned(), serving.socket().to_owned());

    let (code, closed) = serving.end(Signal::INT);
    assert_eq!(code, Some(0));
    assert_eq!(
        closed,
        serde_json::json!({
            "event": "closed", "reason": "closed", "detail": "", "log_uploaded": true,
        })
    );
    desk.left_nothing(&session, &socket, "(closed)").await;
}

#[tokio::test]
async fn people_get_a_connection_string_that_works_until_ctrl_c() {
    let desk = Desk::new(stage().await, "string");
    let grant = desk.grant("10m");
    let mut command = desk.pgate(&["connect", "prod-db", "--grant", &grant]);
    command.stderr(Stdio::piped());
    let (mut child, mut output) = with_output(command);
    let mut url = String::new();
    output.read_line(&mut url).unwrap();
    let psql = shell(&format!("psql '{}' -XAtc 'SELECT 40 + 2'", url.trim()));
    assert_eq!(String::from_utf8_lossy(&psql.stdout), "42\n", "{url} {psql:?}");
    // By the socket without a password, as it says.
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let hint =
        said.by_ref().lines().map(Result::unwrap).find(|line| line.contains("psql -h")).unwrap();
    let typed = hint.split_once(": ").unwrap().1;
    let psql = shell(&format!("{typed} -XAtc 'SELECT 6 * 7'"));
    assert_eq!(String::from_utf8_lossy(&psql.stdout), "42\n", "{typed} {psql:?}");
    signal(&child, Signal::INT);
    assert_eq!(ended(&mut child), Some(0));
    assert!(!shell(&format!("psql '{}' -c 'SELECT 1'", url.trim())).status.success());
}

fn shell(typed: &str) -> Output {
    Command::new("sh").args(["-c", typed]).output().unwrap()
}

#[tokio::test]
async fn a_denied_request_is_refused_and_one_that_waits_is_left_pending() {
    let stage = stage().await;
    let desk = Desk::new(stage, "waits");
    let ask = ["connect", "prod-db", "--role", "writer", "--output", "json", "--reason"];
    let mut denied = desk.pgate(&[&ask[..], &["to be denied"]].concat());
    denied.stderr(Stdio::piped());
    let (child, mut events) = with_output(denied);
    let waiting = event(&mut events).unwrap();
    let id = waiting["grant"].as_str().unwrap();
    run(stage, "dan", &["deny", id, "--comment", "not today"]).exits(0);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["code"], "denied");
    assert!(error["message"].as_str().unwrap().contains("not today"), "{error}");
    assert!(error["hint"].is_string(), "{error}");

    for (with, command, code) in
        [(Signal::INT, None, 5), (Signal::TERM, None, 5), (Signal::INT, Some("true"), 125)]
    {
        let arguments = [&ask[..], &["to be left"]].concat();
        let command = command.map(|command| vec!["--", command]).unwrap_or_default();
        let mut waits = desk.pgate(&[arguments, command].concat());
        waits.stderr(Stdio::piped());
        let (child, mut events) = with_output(waits);
        let id = event(&mut events).unwrap()["grant"].as_str().unwrap().to_owned();
        signal(&child, with);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{with:?} {said}");
        assert!(said.contains(&id) && said.contains("still pending"), "{said}");
        desk.run(&["grants", "show", &id]).exits(0).says("pending");
        desk.run(&["grants", "revoke", &id]).exits(0);
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_before_the_string_leaves_no_session_behind() {
    let desk = Desk::new(stage().await, "unread");
    let grant = desk.grant("10m");
    for output in ["json", "text"] {
        let arguments = ["connect", "prod-db", "--grant", &grant, "--output", output];
        let (mut child, unread) = with_output(desk.pgate(&arguments));
        drop(unread);
        assert_eq!(ended(&mut child), Some(141));
        let sessions = desk.run(&["sessions", "list", "--output", "json"]).exits(0);
        let sessions: Value = serde_json::from_str(&sessions.stdout).unwrap();
        let own = sessions["sessions"].as_array().unwrap().iter();
        let own = own.filter(|session| session["grant"] == grant.as_str()).collect::<Vec<_>>();
        assert!(!own.is_empty());
        for session in own {
            assert_eq!(session["state"], "closed", "{session}");
            desk.role_goes(session["session"].as_str().unwrap()).await;
        }
    }
}
