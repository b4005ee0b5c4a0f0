//! `kill -9` of `pgate connect`: what it had recorded goes up with the next run, and
//! what it left in the database goes.

use std::{path::Path, time::Duration};

use rustix::process::Signal;
use serde_json::Value;

use super::{Desk, Serving, role_of, signal, stage};

/// Brings up what waits, as the next `pgate connect` does.
fn next_run(desk: &Desk<'_>, grant: &str, session: &str) {
    let ran = desk.run(&["connect", "prod-db", "--grant", grant, "--", "true"]).exits(0);
    ran.says(&format!("uploaded the log of {session}, which was not closed"));
}

#[tokio::test]
async fn a_killed_sessions_log_goes_up_with_the_next_run_and_its_role_goes() {
    let desk = Desk::new(stage().await, "killed");
    let grant = desk.grant("10m");
    for moment in ["before the first statement", "in the middle of one", "after one"] {
        let mut serving = desk.serve(&grant);
        let session = serving.session().to_owned();
        match moment {
            "in the middle of one" => {
                let psql = std::process::Command::new("psql")
                    .args([serving.text("url"), "-Xc", "SELECT pg_sleep(50), 'in flight'"])
                    .stderr(std::process::Stdio::null())
                    .spawn();
                desk.query_runs(&session, "pg_sleep").await;
                kill(&mut serving);
                assert_ne!(psql.unwrap().wait().unwrap().code(), Some(0), "it does not hang");
            }
            "after one" => {
                assert_eq!(serving.psql("SELECT 40 + 2 AS answered").0, "42\n");
                kill(&mut serving);
            }
            _ => kill(&mut serving),
        }
        // A minute later, for whoever comes next, nobody is about to listen there any more.
        let folder = std::fs::File::open(serving.socket()).unwrap();
        folder.set_modified(std::time::SystemTime::now() - Duration::from_secs(90)).unwrap();
        next_run(&desk, &grant, &session);
        assert!(!Path::new(serving.socket()).exists(), "its socket is left");
        let verified = desk.run(&["log", "verify", &session]).exits(0).says("ok:");
        verified.says("the session was not closed");
        let replayed = desk.run(&["replay", &session]).exits(0);
        match moment {
            "in the middle of one" => replayed.says("in flight"),
            "after one" => replayed.says("answered"),
            _ => replayed.hides("SELECT"),
        };
        desk.role_goes(&session).await;
        desk.run(&["log", "upload"]).exits(0).says("No session log waits");
    }

    // While it says goodbye: whatever the moment, nothing is lost and nothing is torn.
    for pause in [0, 5, 40] {
        let mut serving = desk.serve(&grant);
        let session = serving.session().to_owned();
        serving.psql("SELECT 40 + 2 AS answered");
        signal(&serving.child, Signal::INT);
        std::thread::sleep(Duration::from_millis(pause));
        kill(&mut serving);
        desk.run(&["log", "upload"]).exits(0);
        desk.run(&["log", "verify", &session]).exits(0).says("ok:");
        desk.run(&["replay", &session]).exits(0).says("answered");
        desk.role_goes(&session).await;
    }
}

#[tokio::test]
async fn a_killed_sessions_role_goes_at_the_grants_end_though_nobody_comes_back() {
    let desk = Desk::new(stage().await, "lease");
    let mut serving = desk.serve(&desk.grant("4s"));
    let session = serving.session().to_owned();
    kill(&mut serving);
    let left = "SELECT count(*) FROM pg_roles WHERE rolname = ";
    let left = format!("{left}'{}'", role_of(&session));
    assert_eq!(desk.stage.cluster().psql("shop", &left).await.unwrap(), "1\n");
    desk.role_goes(&session).await;
    // Its log still comes in, after all.
    desk.run(&["log", "upload"]).exits(0);
    desk.run(&["log", "verify", &session]).exits(0).says("the session was not closed");
}

#[tokio::test]
async fn a_client_killed_amid_a_statement_leaves_the_outcome_of_all_that_ran() {
    let desk = Desk::new(stage().await, "leaves");
    let mut serving = desk.serve(&desk.grant_of("lasting", "10m"));
    let session = serving.session().to_owned();
    let change = "UPDATE orders SET status = status WHERE id = 1";
    let amid = |sql: &str| {
        let mut psql = std::process::Command::new("psql");
        psql.args([serving.text("url"), "-Xc", sql]).stderr(std::process::Stdio::null());
        psql.spawn().unwrap()
    };
    // In one Query, and in a transaction of its own.
    let mut killed = amid(&format!("{change}; SELECT pg_sleep(30)"));
    desk.query_runs(&session, "sleep_30").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    // Amid another the session itself ends.
    let mut told = amid("SELECT pg_sleep(31)");
    desk.query_runs(&session, "sleep_31").await;
    signal(&serving.child, Signal::INT);
    let (code, closed) = serving.last();
    assert_eq!((code, &closed["reason"]), (Some(0), &"closed".into()), "{closed}");
    told.wait().unwrap();

    desk.run(&["log", "verify", &session]).exits(0).says("ok:").says("(closed)");
    let exported = desk.run(&["log", "export", &session]).exits(0);
    let lines = exported.stdout.lines();
    let log = lines.map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
    let ran = log.iter().filter(|line| line["type"] == "statement" && line["verdict"] == "allow");
    let outcomes = ran.map(|line| {
        let done =
            |done: &&Value| done["type"] == "completion" && done["statement"] == line["statement"];
        let done = log.iter().filter(done).collect::<Vec<_>>();
        let [done] = done[..] else { panic!("{} completions of {line}", done.len()) };
        (done["tag"].as_str(), done["sqlstate"].as_str())
    });
    let cancelled = Some("57014");
    assert_eq!(outcomes.collect::<Vec<_>>(), [(Some("UPDATE 1"), cancelled), (None, cancelled)]);
    desk.role_goes(&session).await;
}

fn kill(serving: &mut Serving) {
    serving.child.kill().unwrap();
    serving.child.wait().unwrap();
}
