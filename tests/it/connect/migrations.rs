//! A table is altered while sessions are open: the migration works, the sessions fail
//! closed, new ones show the masks again.

use std::{
    fs,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::{Desk, PATIENCE, new_stage, soon};

/// One row by a statement that the driver prepares once and runs again and again.
async fn prepared(connection: &mut PgConnection, sql: &'static str) -> Result<String, String> {
    match sqlx::query(sql).fetch_one(connection).await {
        Ok(row) => Ok(row.get::<String, _>(0)),
        Err(sqlx::Error::Database(error)) => Err(error.message().to_owned()),
        Err(error) => panic!("the connection is lost: {error}"),
    }
}

struct Migration {
    alter: &'static str,
    /// Reads the column in the session of before; no other ever shows more than a mask.
    read: &'static str,
    /// How the policy names what the migration has made of the column.
    policy: fn(&str) -> String,
    /// A raw value of the first row, which no session may show.
    raw: &'static str,
}

const MIGRATIONS: [Migration; 4] = [
    Migration {
        alter: "ALTER TABLE shop.customers ALTER COLUMN email TYPE varchar(320)",
        read: "SELECT email::text FROM customers ORDER BY id LIMIT 1",
        policy: str::to_owned,
        raw: "SELECT email FROM shop.customers ORDER BY id LIMIT 1",
    },
    Migration {
        alter: "ALTER TABLE shop.customers DROP COLUMN ssn CASCADE",
        read: "SELECT ssn::text FROM customers ORDER BY id LIMIT 1",
        policy: |policy| policy.replace("\"shop.customers.ssn\", ", ""),
        raw: "SELECT email FROM shop.customers ORDER BY id LIMIT 1",
    },
    Migration {
        alter: "ALTER TABLE shop.customers RENAME COLUMN birth_date TO born",
        read: "SELECT birth_date::text FROM customers ORDER BY id LIMIT 1",
        policy: |policy| policy.replace("customers.birth_date", "customers.born"),
        raw: "SELECT born FROM shop.customers ORDER BY id LIMIT 1",
    },
    Migration {
        alter: "ALTER TABLE shop.customers RENAME TO clients",
        read: "SELECT email::text FROM customers ORDER BY id LIMIT 1",
        policy: |policy| policy.replace("shop.customers", "shop.clients"),
        raw: "SELECT email FROM shop.clients ORDER BY id LIMIT 1",
    },
];

#[tokio::test]
async fn altering_masked_columns_works_and_open_sessions_fail_closed_and_new_ones_never_open() {
    let stage = new_stage().await;
    let desk = Desk::new(&stage, "alters");
    // PostgreSQL itself lets nobody alter a column that a view shows.
    stage.cluster().execute("shop", "DROP VIEW shop.open_tickets").await.unwrap();
    for Migration { alter, read, policy, raw } in MIGRATIONS {
        let grant = desk.grant("10m");
        let serving = desk.serve(&grant);
        let mut before = PgConnection::connect(serving.text("url")).await.unwrap();
        prepared(&mut before, read).await.unwrap();
        let orders = "SELECT count(*)::text FROM orders";
        prepared(&mut before, orders).await.unwrap();

        stage.cluster().execute("shop", alter).await.unwrap();
        let raw = stage.cluster().psql("shop", raw).await.unwrap().trim().to_owned();
        fails_closed(&mut before, read, &raw).await;
        let tries = ["SELECT * FROM customers", "SELECT born FROM customers", "TABLE clients"];
        for sql in tries.into_iter().chain([read]) {
            let (rows, said) = serving.psql(sql);
            assert!(rows.is_empty() && !said.contains(&raw), "{alter}: {sql}: {rows} {said}");
        }
        assert!(prepared(&mut before, orders).await.is_ok(), "other tables go on");
        drop(before);
        assert_eq!(serving.end(Signal::INT).0, Some(0));

        // Where a name of the policy is gone nobody can tell a rename from a drop, so
        // nothing opens until the policy says what it means.
        let file = stage.server_folder().join("policy/shop.toml");
        let old = fs::read_to_string(&file).unwrap();
        let new = policy(&old);
        let connect = |sql: &str| {
            desk.run(&["connect", "prod-db", "--grant", &grant, "--", "psql", "-XAtc", sql])
        };
        let policies = || stage.server_log().matches("another policy is in force").count();
        if new != old {
            connect(read).exits(125).says("doesn't have: shop.customers.").hides(&raw);
            let before = policies();
            fs::write(&file, new).unwrap();
            soon(|| policies() > before).await;
        }
        let table = if alter.ends_with("TO clients") { "clients" } else { "customers" };
        let shown = connect(&format!("SELECT * FROM {table} ORDER BY id LIMIT 1"));
        shown.exits(0).says("***@").hides(&raw);
    }
}

/// Runs a prepared statement until it is refused, by pgate or, at its Bind, by PostgreSQL;
/// until then it shows no raw value.
async fn fails_closed(connection: &mut PgConnection, sql: &'static str, raw: &str) {
    let start = Instant::now();
    while let Ok(shown) = prepared(connection, sql).await {
        assert_ne!(shown, raw);
        assert!(start.elapsed() < PATIENCE, "{sql} is never refused");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
