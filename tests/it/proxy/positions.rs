//! Where syntax errors are, as clients show them under the text.

use sqlx::postgres::{PgConnection, PgDatabaseError, PgErrorPosition};

use super::*;

/// Texts that aren't SQL, each with a mistake of another kind.
const MISTAKES: &[&str] = &[
    "SELEKT 1",
    "SELECT a FROM t WHERE FROM x",
    "SELECT 'FROM', \"FROM\" /* WHERE FROM */ FROM t WHERE FROM x FROM y",
    "SELECT 'äöü', 'ß' FROM t WHERE ) AND b",
    "SELECT 1 FROM",
    "SELECT 1 FROM   ",
    "SELECT (1",
    "SELECT 'a', 'b",
    "SELECT \"a",
    "SELECT $x$ never ends",
    "SELECT 1 /* never ends /* nor this */",
    "SELECT 1; SELEKT 2; SELECT 3",
    "INSERT INTO t (a, b,) VALUES (1, 2)",
    "SELECT a b c FROM t",
    "SELECT * FROM t WHERE a = = 1",
    "UPDATE t SET a = 1,",
    "SELECT 1 AS select, 2 AS from FROM t WHERE WHERE",
    "CREATE TABLE t (a int b)",
    "SELECT\n  a,\n  b,\nFROM t",
    "SELECT 'it''s' 'x'",
];

async fn position(
    connection: &mut PgConnection,
    sql: &str,
    extended: bool,
) -> (String, Option<usize>) {
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    let refused = match extended {
        true => sqlx::query(sql).execute(connection).await.map(|_| ()),
        false => sqlx::raw_sql(sql).execute(connection).await.map(|_| ()),
    };
    let error = refused.expect_err("no SQL").into_database_error().expect("an answer");
    let error = error.downcast::<PgDatabaseError>();
    let position = match error.position() {
        Some(PgErrorPosition::Original(at)) => Some(at),
        _ => None,
    };
    (error.code().to_owned(), position)
}

#[tokio::test]
async fn a_syntax_error_has_the_position_that_postgresql_gives_it() {
    let session = Session::start().await;
    let mut direct =
        harness::cluster().await.connect(&session.database).await.expect("a connection");
    let url = session.endpoints().tcp_url();
    let mut through = sqlx::PgConnection::connect(url.expose_secret()).await.expect("a connection");
    for sql in MISTAKES {
        for extended in [false, true] {
            let expected = position(&mut direct, sql, extended).await;
            assert!(expected.1.is_some(), "{sql}");
            assert_eq!(position(&mut through, sql, extended).await, expected, "{extended} {sql}");
        }
    }
    // psql shows the place.
    let (_, err, _) = session.script("SELECT 1 FORM orders WHERE id = 1 AND;\n").await;
    assert!(err.contains("LINE 1: SELECT 1 FORM orders WHERE"), "{err}");
}
