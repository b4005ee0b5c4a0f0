//! A client that was tampered with: whoever takes the session's own database password
//! out of a running `pgate` and talks to PostgreSQL directly.
#![cfg(target_os = "linux")]

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pgate::wire::scram;
use rustix::process::Signal;

use super::{Desk, Serving, role_of, stage};

/// The length of the session's database password: 32 bytes in base64.
const LENGTH: usize = 43;

/// Looks for a password in the memory of a process: the one that makes this verifier
/// (PostgreSQL manual, 53.8: `SCRAM-SHA-256$iterations:salt$stored:server`).
fn password_in_memory(process: u32, verifier: &str) -> Option<String> {
    let mut parts = verifier.split('$').nth(1)?.split(':');
    let iterations = parts.next()?.parse().ok()?;
    let salt = STANDARD.decode(parts.next()?).ok()?;
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).ok()?;
    let memory = File::open(format!("/proc/{process}/mem")).ok()?;
    let mut tried = std::collections::HashSet::new();
    for map in maps.lines().filter(|map| map.contains(" rw-p ")) {
        let (from, to) = map.split_once(' ')?.0.split_once('-')?;
        let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
        let mut bytes = vec![0; usize::try_from(to - from).ok()?];
        if memory.read_exact_at(&mut bytes, from).is_err() {
            continue;
        }
        let is_text = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let words = bytes.split(|byte| !is_text(byte)).filter(|word| word.len() >= LENGTH);
        for word in words.filter_map(|word| std::str::from_utf8(&word[..LENGTH]).ok()) {
            if tried.insert(word.to_owned()) && scram::verifier(word, &salt, iterations) == verifier
            {
                return Some(word.to_owned());
            }
        }
    }
    None
}

/// psql straight to PostgreSQL, past the proxy.
fn straight(
    desk: &Desk<'_>,
    serving: &Serving,
    password: &str,
    sql: &str,
) -> Result<String, String> {
    let psql = Command::new("psql")
        .args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-d", "shop"])
        .args(["-p", &desk.stage.cluster().port().to_string()])
        .args(["-U", &role_of(serving.session()), "-c", sql])
        .env("PGPASSWORD", password)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if psql.status.success() { Ok(text(psql.stdout)) } else { Err(text(psql.stderr)) }
}

#[tokio::test]
async fn a_password_taken_out_of_the_process_opens_no_more_than_the_grant_and_dies_with_it() {
    let desk = Desk::new(stage().await, "tamper");
    let serving = desk.serve(&desk.grant("10m"));
    let ask = format!(
        "SELECT rolpassword FROM pg_authid WHERE rolname = '{}'",
        role_of(serving.session())
    );
    let verifier = desk.stage.cluster().psql("shop", &ask).await.unwrap();
    let password = password_in_memory(serving.child.id(), verifier.trim());
    let password = password.expect("pgate holds it in its memory");
    assert_ne!(password, serving.text("password"), "that one opens the proxy");

    let ask = |sql: &str| straight(&desk, &serving, &password, sql);
    assert_eq!(ask("SELECT count(*) FROM shop.customers"), Ok("12000\n".into()), "it is the one");
    let refused = [
        "SELECT email FROM shop.customers LIMIT 1",
        "SELECT ssn FROM shop.customers LIMIT 1",
        "SELECT customers FROM shop.customers LIMIT 1",
        "SELECT count(*) FROM shop.customers WHERE email LIKE 'a%'",
        "SELECT id FROM shop.customers ORDER BY birth_date LIMIT 1",
        "SELECT password_hash FROM shop.customers LIMIT 1",
        "COPY shop.customers (email) TO STDOUT",
        "SELECT * FROM shop.api_keys",
        "SELECT rolpassword FROM pg_authid",
        "SELECT * FROM pgate.hash_key",
        "SET default_transaction_read_only = off; DELETE FROM shop.orders",
        "SET default_transaction_read_only = off; UPDATE shop.customers SET name = name",
        "SET default_transaction_read_only = off; INSERT INTO shop.customers (id) VALUES (0)",
        "SET default_transaction_read_only = off; TRUNCATE shop.orders",
        "SET default_transaction_read_only = off; CREATE TABLE shop.mine (id int)",
        "SET default_transaction_read_only = off; ALTER TABLE shop.customers ADD x int",
        "SET ROLE postgres",
        "SET ROLE pgate_mask",
        "SET SESSION AUTHORIZATION postgres",
        "SELECT pg_read_file('postgresql.conf')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "ALTER ROLE CURRENT_USER VALID UNTIL 'infinity'",
        "ALTER ROLE CURRENT_USER SUPERUSER",
        "ALTER ROLE CURRENT_USER CONNECTION LIMIT -1",
    ];
    for sql in refused {
        let error = ask(sql).expect_err(sql);
        let kinds = ["permission denied", "must be", "does not exist", "cannot"];
        assert!(kinds.iter().any(|kind| error.contains(kind)), "{sql}: {error}");
    }
    // What the mask functions give away is the mask.
    let masks = "SELECT format('SELECT pgate.%I(tableoid, ctid) FROM shop.customers LIMIT 1', \
                 proname) FROM pg_proc WHERE pronamespace = 'pgate'::regnamespace \
                 AND pronargs = 2";
    let masks = desk.stage.cluster().psql("shop", masks).await.unwrap();
    assert!(masks.lines().count() > 2, "{masks}");
    for call in masks.lines() {
        let shown = ask(call).unwrap_or_else(|error| error);
        let masked = ["*", "-01-01", "0000", "permission denied"];
        assert!(
            shown.trim().is_empty() || masked.iter().any(|mask| shown.contains(mask)),
            "{call}: {shown}"
        );
    }

    let (session, socket) = (serving.session().to_owned(), serving.socket().to_owned());
    let port = desk.stage.cluster().port().to_string();
    serving.end(Signal::INT);
    desk.left_nothing(&session, &socket, "(closed)").await;
    let late = Command::new("psql")
        .args(["-h", "127.0.0.1", "-p", &port, "-U", &role_of(&session), "-d", "shop"])
        .args(["-c", "SELECT 1"])
        .env("PGPASSWORD", &password)
        .output()
        .unwrap();
    assert!(!late.status.success(), "the password outlived its session");
}
