//! Drivers whose own suites aren't packaged with their tests: conversations of ours that use
//! what they offer, step by step, told directly and through pgate. They run with the other
//! tests wherever `tests/run` has installed the driver.

use std::{net::TcpListener, path::Path, process::Command};

use super::{Expected, database_anew, differing, direct_environment, here, open_stage, outcomes};
use crate::{
    drivers::{installed, python, scripts},
    harness::pgate,
};

/// Where Debian's package puts the driver, and where others do.
const JDBC: [&str; 2] =
    ["/usr/share/java/postgresql.jar", "/usr/share/java/postgresql-jdbc/postgresql.jar"];

#[tokio::test]
async fn psycopg_is_told_the_same_as_directly() {
    let script = scripts().join("psycopg_conversation.py");
    if installed("psycopg", &python()) {
        let command = [python().display().to_string(), script.display().to_string()];
        same_conversation("psycopg", &command).await;
    }
}

#[tokio::test]
async fn jdbc_is_told_the_same_as_directly() {
    let jar = JDBC.into_iter().find(|jar| Path::new(jar).exists()).unwrap_or(JDBC[0]);
    if installed("PostgreSQL's JDBC driver", Path::new(jar)) {
        let script = scripts().join("Conversation.java").display().to_string();
        let command = ["java", "-cp", jar, &script].map(str::to_owned);
        same_conversation("jdbc", &command).await;
    }
}

async fn same_conversation(driver: &str, command: &[String]) {
    let stage = open_stage().await;
    let logs = tempfile::tempdir().unwrap();
    let mut direct = Command::new(&command[0]);
    direct.args(&command[1..]).env_clear().envs(direct_environment(&stage));
    let direct = outcomes(direct, &logs.path().join("direct"));
    database_anew(&stage).await;
    // Not every driver speaks to a Unix socket.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let port = format!("--port={free}");
    let connect = ["connect", "suite", "--role", "everything", "--reason", "drivers", &port];
    let arguments = connect.into_iter().chain(["--"]).chain(command.iter().map(String::as_str));
    let arguments: Vec<_> = arguments.collect();
    let through = outcomes(pgate(&stage, "ana", &arguments), &logs.path().join("pgate"));
    assert!(direct.contains_key("to its end"), "{direct:?}");
    let differing = differing(&direct, &through);
    println!("{driver}: {} steps directly, {} not the same", direct.len(), differing.len());
    Expected::read(&here(&format!("{driver}-conversation.txt"))).holds(driver, &differing);
}
