//! A table is altered while sessions are open: the migration works, the sessions fail
//! closed, new ones show the masks again.

use rustix::process::Signal;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::{Desk, PATIENCE, Serving, new_stage};

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
    /// Text of the masked column, read in the session of before.
    read: &'static str,
    /// The same after it, and what the mask shows.
    read_after: &'static str,
    shows: fn(&str) -> bool,
}

#[tokio::test]
async fn altering_a_masked_column_works_and_open_sessions_fail_closed() {
    let stage = new_stage().await;
    let desk = Desk::new(&stage, "alters");
    // PostgreSQL itself lets nobody alter a column that a view shows.
    stage.cluster().execute("shop", "DROP VIEW shop.open_tickets").await.unwrap();
    let migrations = [
        Migration {
            alter: "ALTER TABLE shop.customers ALTER COLUMN email TYPE varchar(320)",
            read: "SELECT email::text FROM customers ORDER BY id LIMIT 1",
            read_after: "SELECT email::text FROM customers ORDER BY id LIMIT 1",
            shows: |value| value.contains("***@"),
        },
        Migration {
            alter: "ALTER TABLE shop.customers DROP COLUMN ssn CASCADE",
            read: "SELECT ssn::text FROM customers ORDER BY id LIMIT 1",
            read_after: "SELECT email::text FROM customers ORDER BY id LIMIT 1",
            shows: |value| value.contains('*'),
        },
        Migration {
            alter: "ALTER TABLE shop.customers RENAME COLUMN birth_date TO born",
            read: "SELECT birth_date::text FROM customers ORDER BY id LIMIT 1",
            read_after: "SELECT email::text FROM customers ORDER BY id LIMIT 1",
            shows: |value| value.contains('*') || value.ends_with("-01-01"),
        },
    ];
    for Migration { alter, read, read_after, shows } in migrations {
        let serving = desk.serve(&desk.grant("10m"));
        let mut before = PgConnection::connect(serving.text("url")).await.unwrap();
        let shown = prepared(&mut before, read).await.unwrap();
        assert!(shows(&shown), "{shown}");
        let orders = "SELECT count(*)::text FROM orders";
        prepared(&mut before, orders).await.unwrap();

        stage.cluster().execute("shop", alter).await.unwrap();
        let refusal = fails_closed(&mut before, read, shows).await;
        assert!(refusal.contains("altered") || refusal.contains("changed"), "{alter}: {refusal}");
        for sql in [read_after, "SELECT * FROM customers LIMIT 1", "SELECT born FROM customers"] {
            let (rows, said) = serving.psql(sql);
            assert!(rows.is_empty() && said.contains("pgate"), "{alter}: {sql}: {rows} {said}");
        }
        assert!(prepared(&mut before, orders).await.is_ok(), "other tables go on");
        drop(before);
        close(serving);
    }
}

/// Runs a prepared statement until it is refused; until then it shows the mask.
async fn fails_closed(
    connection: &mut PgConnection,
    sql: &'static str,
    shows: fn(&str) -> bool,
) -> String {
    let start = std::time::Instant::now();
    loop {
        match prepared(connection, sql).await {
            Ok(shown) => assert!(shows(&shown), "{shown}"),
            Err(refusal) if refusal.contains("pgate") => return refusal,
            // PostgreSQL has noticed before pgate has: that is closed, too.
            Err(_) => {}
        }
        assert!(start.elapsed() < PATIENCE, "it is never refused");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

fn close(serving: Serving) {
    assert_eq!(serving.end(Signal::INT).0, Some(0));
}
