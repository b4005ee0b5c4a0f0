//! Rules that count rows and columns, hours and limits, on a real PostgreSQL.

use super::*;

/// A role that may do everything on `public`, with these further lines.
fn role_with(rules: &str) -> Arc<Role> {
    let functions = match rules.contains("functions = ") {
        true => "",
        false => r#"functions = ["pg_catalog.pg_sleep"]"#,
    };
    let text = format!(
        r#"
        [target.test]
        url = "postgres://127.0.0.1:5432/test?sslmode=disable"
        credential = {{ kind = "static", user = "app", password = "env:UNUSED" }}

        [role.clerk]
        targets = ["test"]
        {functions}
        {rules}
        "#
    );
    let policy = policy::parse(&[("test.toml".to_owned(), text)]).expect("it is well written");
    Arc::new(policy.roles["clerk"].clone())
}

const EVERYTHING: &str = r#"allow = [{ actions = ["*"], on = ["public.*"] }]"#;

async fn session(rules: &str) -> Session {
    let end = Timestamp::now() + SignedDuration::from_hours(1);
    Session::of(end, role_with(rules)).await
}

/// At most ten rows of `orders` may be updated, deleted or inserted at once.
async fn ten_rows() -> Session {
    let session = session(&format!(
        "{EVERYTHING}\n{}",
        r#"deny = [{ actions = ["update", "delete", "insert", "merge"], on = ["public.orders"],
                     when = "rows > 10", reason = "in small parts" }]"#
    ))
    .await;
    // The planner has been told that this table is empty.
    harness::cluster()
        .await
        .execute(
            &session.database,
            "CREATE TABLE numbers (n int UNIQUE, keep bool); ANALYZE numbers;
             INSERT INTO numbers SELECT n, n <= 500 FROM generate_series(1, 1000) n",
        )
        .await
        .expect("a table");
    session
}

impl Session {
    /// What the superuser reads, past the proxy.
    async fn truth(&self, sql: &str) -> i64 {
        let mut connection =
            harness::cluster().await.connect(&self.database).await.expect("a connection");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut connection)
            .await
            .expect("a number")
    }

    async fn changed(&self) -> i64 {
        self.truth("SELECT count(*) FROM orders WHERE item LIKE 'changed%'").await
    }
}

/// The error of a list of messages, as SQLSTATE and message.
fn error_of(messages: &[Vec<u8>]) -> Option<(String, String)> {
    let error = messages.iter().find(|message| message[0] == b'E')?;
    let fields = ErrorFields::parse(error).expect("an error");
    Some((fields.sqlstate().to_owned(), fields.message().to_owned()))
}

fn tags(messages: &[Vec<u8>]) -> String {
    messages.iter().map(|message| char::from(message[0])).collect()
}

/// An UPDATE of as many rows as `numbers` says are kept, which the planner expects to
/// be very few: it has been told that the table is empty.
const UNFORESEEN: &str = "UPDATE orders SET item = 'changed ' || id FROM numbers \
     WHERE orders.id = numbers.n AND numbers.keep AND numbers.n % 3 = 0 AND numbers.n % 7 = 0";

#[tokio::test]
async fn a_write_that_is_expected_to_hit_too_many_rows_is_refused_before_it_runs() {
    let session = ten_rows().await;
    harness::cluster().await.execute(&session.database, "ANALYZE orders").await.expect("ANALYZE");
    let (_, err, _) = session.script("UPDATE orders SET item = 'changed' WHERE id > 5;\n").await;
    assert!(
        err.contains("role clerk denies update on public.orders of more than 10 rows"),
        "{err}"
    );
    assert!(err.contains("in small parts (PostgreSQL expects 99"), "{err}");
    assert_eq!(session.changed().await, 0);
    // With bound values, which decide how many they are.
    let url = session.endpoints().tcp_url();
    let mut connection =
        sqlx::PgConnection::connect(url.expose_secret()).await.expect("a connection");
    let sql = "UPDATE orders SET item = 'changed' WHERE id > $1";
    let refused = sqlx::query(sql).bind(5).execute(&mut connection).await.unwrap_err();
    assert!(refused.to_string().contains("PostgreSQL expects 99"), "{refused}");
    let done = sqlx::query(sql).bind(995).execute(&mut connection).await.expect("five rows");
    assert_eq!(done.rows_affected(), 5);
    assert_eq!(session.changed().await, 5);
}

#[tokio::test]
async fn a_query_that_wrote_too_many_rows_has_no_effect_and_one_that_did_not_has() {
    let session = ten_rows().await;
    let script = format!(
        "{UNFORESEEN};\nSELECT 'alive';\n\
         UPDATE orders SET item = 'changed' WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10) \
         RETURNING id;\n"
    );
    let (out, err, _) = session.script(&script).await;
    assert!(err.contains("the statement wrote more, and was undone"), "{err}");
    assert!(out.starts_with("alive\n1\n2\n"), "{out}{err}");
    assert_eq!(session.changed().await, 10);
    // The log tells both.
    let log = session.log();
    let ends: Vec<_> =
        log.iter().filter(|line| line["type"] == "completion").map(|l| &l["sqlstate"]).collect();
    assert!(ends.iter().any(|state| *state == "42501"), "{ends:?}");
}

#[tokio::test]
async fn in_a_transaction_block_too_many_rows_fail_the_block_as_an_error_does() {
    let session = ten_rows().await;
    let script = format!(
        "BEGIN;\nUPDATE orders SET item = 'changed' WHERE id = 1;\nSAVEPOINT s;\n{UNFORESEEN};\n\
         SELECT 'not reached';\nROLLBACK TO s;\nSELECT 'back';\nCOMMIT;\n"
    );
    let (out, err, _) = session.script(&script).await;
    assert!(err.contains("wrote more, and was undone"), "{err}");
    assert!(err.contains("current transaction is aborted"), "{err}");
    assert_eq!(out, "back\n");
    assert_eq!(session.changed().await, 1);
    let (_, err, _) = session.script(&format!("BEGIN;\n{UNFORESEEN};\nCOMMIT;\n")).await;
    assert!(err.contains("undone"), "{err}");
    assert_eq!(session.changed().await, 1);
}

#[tokio::test]
async fn in_the_extended_protocol_too_many_rows_undo_what_is_before_the_sync() {
    let session = ten_rows().await;
    let mut raw = session.raw().await;
    // All in one packet: the client doesn't wait for the count, the proxy does.
    let small = "UPDATE orders SET item = 'changed' WHERE id = 1";
    let packet = [
        extended(small),
        extended(UNFORESEEN),
        extended("UPDATE orders SET item = 'changed' WHERE id = 2"),
        SYNC.to_vec(),
        extended(small),
        SYNC.to_vec(),
    ]
    .concat();
    raw.send(&packet).await;
    let first = raw.until(b'Z').await;
    assert_eq!(tags(&first), "12C12EZ");
    let (sqlstate, message) = error_of(&first).expect("an error");
    assert_eq!(sqlstate, "42501");
    assert!(message.contains("wrote more, and was undone"), "{message}");
    assert_eq!(first.last().unwrap()[5], b'I');
    assert_eq!(tags(&raw.until(b'Z').await), "12CZ");
    assert_eq!(session.changed().await, 1);
    // In a block: it fails, and ROLLBACK ends it.
    raw.send(&bytes(|out| wire::query("BEGIN", out))).await;
    raw.until(b'Z').await;
    raw.send(&[extended(UNFORESEEN), SYNC.to_vec()].concat()).await;
    let failed = raw.until(b'Z').await;
    assert_eq!(tags(&failed), "12EZ");
    assert_eq!(failed.last().unwrap()[5], b'E');
    raw.send(&bytes(|out| wire::query("COMMIT", out))).await;
    raw.until(b'Z').await;
    assert_eq!(session.changed().await, 1);
}

#[tokio::test]
async fn an_error_ahead_in_the_pipeline_lets_no_write_of_too_many_rows_pass() {
    let session = ten_rows().await;
    let mut raw = session.raw().await;
    let fails = [extended("SELECT nothing FROM nowhere"), SYNC.to_vec()].concat();
    let many = bytes(|out| wire::query(UNFORESEEN, out));
    // All in one packet: the error comes while the count of the write is awaited.
    raw.send(&[fails.clone(), many.clone()].concat()).await;
    assert_eq!(tags(&raw.until(b'Z').await), "EZ");
    assert_eq!(tags(&raw.until(b'Z').await), "EZ");
    raw.send(&[fails, extended(UNFORESEEN), SYNC.to_vec()].concat()).await;
    assert_eq!(tags(&raw.until(b'Z').await), "EZ");
    assert_eq!(tags(&raw.until(b'Z').await), "12EZ");
    assert_eq!(session.changed().await, 0);
    // Without a Sync between them the write is skipped, and so is what follows it.
    let skipped = [extended("SELECT nothing FROM nowhere"), many, extended("SELECT 1")];
    raw.send(&[skipped.concat(), SYNC.to_vec()].concat()).await;
    assert_eq!(tags(&raw.until(b'Z').await), "EZ");
    assert_eq!(session.changed().await, 0);
}

#[tokio::test]
async fn a_counted_query_answers_as_a_query_does() {
    let session = ten_rows().await;
    let mut raw = session.raw().await;
    let answers = async |raw: &mut Raw, sql: &str| {
        raw.send(&bytes(|out| wire::query(sql, out))).await;
        raw.until(b'Z').await
    };
    let plain = "UPDATE orders SET item = 'changed' WHERE id = 1";
    assert_eq!(tags(&answers(&mut raw, plain).await), "CZ");
    let returning = format!("{plain} RETURNING id, item");
    let returned = answers(&mut raw, &returning).await;
    assert_eq!(tags(&returned), "TDCZ");
    assert_eq!(wire::data_row_values(&returned[1]).unwrap()[1], Some(&b"changed"[..]));
    // Errors at the same places, and the connection goes on.
    let wrong = answers(&mut raw, "UPDATE orders SET item = nowhere WHERE id = 1").await;
    assert_eq!(tags(&wrong), "EZ");
    let fields = ErrorFields::parse(&wrong[0]).unwrap();
    assert_eq!(fields.get(field::POSITION), Some("26"));
    let broken = answers(&mut raw, "UPDATE orders SET id = 2 WHERE id = 1").await;
    assert_eq!(error_of(&broken).unwrap().0, "23505");
    // A Query drops the unnamed statement: what is bound afterwards must not be the UPDATE.
    raw.send(&bytes(|out| wire::parse("", "SELECT 7", &[0, 0], out))).await;
    raw.send(SYNC).await;
    raw.until(b'Z').await;
    answers(&mut raw, plain).await;
    let bind = bytes(|out| {
        wire::bind("", "", out);
        wire::execute("", 0, out);
    });
    raw.send(&[bind, SYNC.to_vec()].concat()).await;
    let unknown = raw.until(b'Z').await;
    assert_eq!(error_of(&unknown).unwrap().0, "26000");
    assert_eq!(tags(&answers(&mut raw, plain).await), "CZ");
}

#[tokio::test]
async fn copied_and_inserted_rows_are_counted_too() {
    let session = ten_rows().await;
    let rows =
        |from: u32, to: u32| (from..=to).map(|n| format!("{n}\tchanged\n")).collect::<String>();
    let copy = |from, to| format!("COPY orders FROM STDIN;\n{}\\.\n", rows(from, to));
    let (_, err, _) = session.script(&copy(2_000, 2_010)).await;
    assert!(err.contains("wrote more, and was undone"), "{err}");
    assert_eq!(session.changed().await, 0);
    let (_, err, _) = session.script(&copy(2_000, 2_009)).await;
    assert_eq!(err, "");
    assert_eq!(session.changed().await, 10);
    // In the extended protocol, with the Sync ahead of the data as libpq sends it.
    let mut raw = session.raw().await;
    raw.send(&[extended("COPY orders FROM STDIN"), SYNC.to_vec()].concat()).await;
    assert_eq!(tags(&raw.until(b'G').await), "12G");
    let data = |from, to| {
        let text = rows(from, to);
        let length = u32::try_from(text.len() + 4).unwrap().to_be_bytes();
        [&b"d"[..], &length, text.as_bytes(), b"c\0\0\0\x04", SYNC].concat()
    };
    raw.send(&data(3_000, 3_100)).await;
    let over = raw.until(b'Z').await;
    assert_eq!(tags(&over), "EZ");
    raw.send(&[extended("COPY orders FROM STDIN"), SYNC.to_vec()].concat()).await;
    raw.until(b'G').await;
    raw.send(&data(3_000, 3_004)).await;
    assert_eq!(tags(&raw.until(b'Z').await), "CZ");
    assert_eq!(session.changed().await, 15);
    let insert = "INSERT INTO orders SELECT n + 5000, 'changed' FROM numbers WHERE keep;\n";
    let (_, err, _) = session.script(insert).await;
    assert!(err.contains("denies insert on public.orders"), "{err}");
    assert_eq!(session.changed().await, 15);
}

#[tokio::test]
async fn a_write_whose_rows_cannot_be_counted_does_not_run() {
    let session = ten_rows().await;
    let cases = [
        format!("WITH u AS ({UNFORESEEN} RETURNING orders.id) SELECT count(*) FROM u"),
        format!("EXPLAIN ANALYZE {UNFORESEEN}"),
        format!("PREPARE p AS {UNFORESEEN}"),
        format!("SELECT 1 \\; {UNFORESEEN}"),
    ];
    for sql in cases {
        let (_, err, _) = session.script(&format!("{sql};\n")).await;
        assert!(err.contains("pgate can't count the rows of"), "{sql}: {err}");
    }
    // Fetched in parts it has written everything before the first.
    let mut raw = session.raw().await;
    let parts = bytes(|out| {
        wire::parse("", &format!("{UNFORESEEN} RETURNING orders.id"), &[0, 0], out);
        wire::bind("", "", out);
        wire::execute("", 1, out);
    });
    raw.send(&[parts, SYNC.to_vec()].concat()).await;
    let told = raw.until(b'Z').await;
    assert!(error_of(&told).unwrap().1.contains("could not be counted"));
    // Nor are there ways around its Execute: SQL runs what a Parse has prepared, and
    // fetches from what a Bind has opened.
    let named = bytes(|out| {
        wire::parse("s", &format!("{UNFORESEEN} RETURNING orders.id"), &[0, 0], out);
        wire::bind("p", "s", out);
    });
    let begin = bytes(|out| wire::query("BEGIN", out));
    raw.send(&[begin, named, SYNC.to_vec()].concat()).await;
    raw.until(b'Z').await;
    raw.until(b'Z').await;
    for sql in ["FETCH 1 FROM p", "EXPLAIN ANALYZE EXECUTE s", "EXECUTE s"] {
        raw.send(&bytes(|out| wire::query(&format!("{sql}; COMMIT; BEGIN"), out))).await;
        let told = error_of(&raw.until(b'Z').await).expect(sql).1;
        assert!(told.contains("can't be checked when SQL runs it"), "{sql}: {told}");
        raw.send(&bytes(|out| wire::query("ROLLBACK; BEGIN", out))).await;
        raw.until(b'Z').await;
        let again = bytes(|out| wire::bind("p", "s", out));
        raw.send(&[again, SYNC.to_vec()].concat()).await;
        raw.until(b'Z').await;
    }
    assert_eq!(session.changed().await, 0);
    // EXPLAIN runs nothing, and is how to learn what is expected.
    let (out, err, _) = session.script(&format!("EXPLAIN {UNFORESEEN};\n")).await;
    assert!(err.is_empty() && out.contains("Update on orders"), "{err}{out}");
}

#[tokio::test]
async fn a_hold_on_many_rows_lets_few_pass() {
    let session = session(&format!(
        "{EVERYTHING}\n{}",
        r#"hold = [{ actions = ["delete"], on = ["public.orders"], when = "rows > 10",
                     reviewers = "group:dba" }]"#
    ))
    .await;
    harness::cluster().await.execute(&session.database, "ANALYZE orders").await.expect("ANALYZE");
    let (_, err, _) = session.script("DELETE FROM orders WHERE id <= 500;\n").await;
    assert!(err.contains("needs the approval of a member of dba"), "{err}");
    let (_, err, _) = session.script("DELETE FROM orders WHERE id <= 3;\n").await;
    assert_eq!(err, "");
    assert_eq!(session.truth("SELECT count(*) FROM orders").await, 997);
}

#[tokio::test]
async fn returned_rows_are_counted_over_a_cursor_and_a_portal_as_a_whole() {
    let session = session(&format!("{EVERYTHING}\nlimits = {{ rows = 100 }}")).await;
    let fetch = "FETCH 60 FROM c;\n";
    let script = format!(
        "BEGIN;\nDECLARE c CURSOR FOR SELECT id FROM orders ORDER BY id;\n{fetch}{fetch}ROLLBACK;\n\
         BEGIN;\nDECLARE c CURSOR FOR SELECT id FROM orders ORDER BY id;\n{fetch}COMMIT;\n\
         DECLARE c CURSOR WITH HOLD FOR SELECT id FROM orders ORDER BY id;\n{fetch}{fetch}\
         CLOSE c;\nDECLARE c CURSOR WITH HOLD FOR SELECT id FROM orders;\n{fetch}"
    );
    let (out, err, _) = session.script(&script).await;
    assert_eq!(err.matches("returns more than 100 rows").count(), 2, "{err}");
    // psql prints nothing of a result that fails: the first parts are there alone.
    assert_eq!(out.lines().count(), 240, "{err}");
    // A portal that SQL fetches from is the same cursor.
    let mut raw = session.raw().await;
    let part = bytes(|out| {
        wire::query("BEGIN", out);
        wire::parse("", "SELECT id FROM orders", &[0, 0], out);
        wire::bind("p", "", out);
        wire::execute("p", 60, out);
    });
    raw.send(&[part, SYNC.to_vec()].concat()).await;
    raw.until(b'Z').await;
    raw.until(b'Z').await;
    raw.send(&bytes(|out| wire::query("FETCH 60 FROM p", out))).await;
    let rest = raw.until(b'Z').await;
    assert_eq!(tags(&rest).matches('D').count(), 40);
    assert_eq!(error_of(&rest).unwrap().0, "54000");
}

#[tokio::test]
async fn a_rule_on_returned_rows_holds_for_its_tables_alone() {
    let session = session(&format!(
        "{EVERYTHING}\n{}",
        r#"deny = [{ actions = ["select"], on = ["public.orders"], when = "rows > 10" }]"#
    ))
    .await;
    let (out, err, _) = session
        .script(
            "SELECT id FROM orders WHERE item LIKE 'item%' AND id % 1 = 0;\n\
             SELECT n FROM generate_series(1, 50) n;\n\
             BEGIN;\nDECLARE c CURSOR FOR SELECT id FROM orders WHERE id % 1 = 0;\n\
             FETCH 8 FROM c;\nFETCH 8 FROM c;\nROLLBACK;\n\
             COPY (SELECT id FROM orders) TO STDOUT;\n",
        )
        .await;
    let told = "role clerk denies select on public.orders of more than 10 rows";
    assert_eq!(err.matches(told).count(), 3, "{err}");
    assert!(out.lines().count() <= 10 + 50 + 10 + 10, "{out}");
    assert!(out.lines().count() > 50, "{out}");
}

#[tokio::test]
async fn a_statement_is_stopped_at_the_limit_of_bytes() {
    let session = session(&format!("{EVERYTHING}\nlimits = {{ bytes = \"10kB\" }}")).await;
    let (out, err, _) = session
        .script(
            "SELECT repeat('x', 3000) FROM generate_series(1, 3);\n\
             SELECT repeat('y', 3000) FROM generate_series(1, 4);\n\
             SELECT repeat('z', 100000);\nSELECT 'alive';\n",
        )
        .await;
    assert_eq!(err.matches("returns more than 10000 bytes").count(), 2, "{err}");
    assert_eq!(out.matches("xxx").count(), 3_000);
    assert!(!out.contains('z'));
    assert!(out.ends_with("alive\n"));
    let mut raw = session.raw().await;
    let sql = "SELECT repeat('y', 3000) FROM generate_series(1, 4)";
    raw.send(&[extended(sql), SYNC.to_vec()].concat()).await;
    let told = raw.until(b'Z').await;
    assert_eq!(tags(&told), "12DDDEZ");
    assert_eq!(error_of(&told).unwrap().0, "54000");
}

#[tokio::test]
async fn too_many_statements_a_minute_are_refused_and_a_transaction_can_still_end() {
    let session = session(&format!("{EVERYTHING}\nlimits = {{ statements_per_minute = 6 }}")).await;
    let mut raw = session.raw().await;
    let mut ask = async |sql: &str| {
        raw.send(&bytes(|out| wire::query(sql, out))).await;
        raw.until(b'Z').await
    };
    assert_eq!(tags(&ask("BEGIN").await), "CZ");
    for _ in 0..5 {
        assert_eq!(tags(&ask("SELECT 1").await), "TDCZ");
    }
    let refused = ask("SELECT 1").await;
    let fields = ErrorFields::parse(&refused[0]).unwrap();
    assert_eq!(fields.sqlstate(), "53400");
    assert!(fields.message().contains("may run 6 statements a minute"), "{}", fields.message());
    assert!(fields.get(field::HINT).unwrap().starts_with("Try again in "));
    assert_eq!(tags(&ask("ROLLBACK").await), "CZ");
    // Another connection of the session shares the limit.
    let (_, err, _) = session.script("SELECT 1;\n").await;
    assert!(err.contains("may run 6 statements a minute"), "{err}");
}

#[tokio::test]
async fn hours_are_kept_by_the_clock() {
    let now = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let today = now.strftime("%a").to_string().to_lowercase();
    let other = if today == "mon" { "tue" } else { "mon" };
    let days = |day: &str| {
        format!(
            r#"allow = [{{ actions = ["select"], on = ["public.*"], days = ["{day}"], zone = "UTC" }}]"#
        )
    };
    let (open, shut) = (session(&days(&today)).await, session(&days(other)).await);
    let (out, _, _) = open.script("SELECT count(*) FROM orders;\n").await;
    assert_eq!(out, "1000\n");
    let (_, err, _) = shut.script("SELECT count(*) FROM orders;\n").await;
    assert!(err.contains("does not allow select on public.orders at this time"), "{err}");
    assert!(err.contains(&format!("It is allowed ({other} UTC).")), "{err}");
}

/// The types of the log's lines about the statement with this text.
fn lines_of(session: &Session, sql: &str) -> Vec<String> {
    let log = session.log();
    let number = |line: &&serde_json::Value| line["sql"] == sql;
    let number = log.iter().find(number).map(|line| line["statement"].clone());
    let of_it =
        log.iter().filter(|line| number.is_some() && Some(&line["statement"]) == number.as_ref());
    of_it.map(|line| line["type"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn the_planner_is_asked_after_its_line_in_the_log_and_never_of_what_is_denied_anyway() {
    let session = session(&format!(
        "{EVERYTHING}\n{}\nlimits = {{ statements_per_minute = 5 }}",
        r#"deny = [{ actions = ["select", "update"], on = ["public.orders"], when = "rows > 10" },
                   { actions = ["select"], on = ["public.again"] }]"#
    ))
    .await;
    harness::cluster().await.execute(&session.database, "ANALYZE orders").await.expect("ANALYZE");
    let expected = "SELECT * FROM orders WHERE id < 5";
    let too_many = "UPDATE orders SET item = 'changed'";
    let denied = "SELECT * FROM orders, again";
    let (_, err, _) = session.script(&format!("{expected};\n{too_many};\n{denied};\n")).await;
    assert!(err.contains("PostgreSQL expects"), "{err}");
    let (expected, too_many, denied) =
        (format!("{expected};"), format!("{too_many};"), format!("{denied};"));
    assert_eq!(lines_of(&session, &expected), ["planned", "statement", "completion"]);
    assert_eq!(lines_of(&session, &too_many), ["planned", "statement"]);
    assert_eq!(lines_of(&session, &denied), ["statement"]);
    // Nor of what comes too fast; the values of an Execute are in the line.
    let sql = "SELECT * FROM orders WHERE id = $1";
    let mut raw = session.raw().await;
    raw.send(&bytes(|out| {
        wire::parse("", sql, &[0, 0], out);
        wire::bind_values(&[wire::BoundValue { value: Some(b"7"), binary: false }], out);
        wire::execute("", 0, out);
        wire::sync(out);
    }))
    .await;
    assert_eq!(tags(&raw.until(b'Z').await), "12DCZ");
    let log = session.log();
    let planned = log.iter().find(|line| line["type"] == "planned" && line["sql"] == sql).unwrap();
    assert_eq!(planned["parameters"], serde_json::json!([{ "text": "7" }]));
    session.script("SELECT 1;\n").await;
    let late = "SELECT * FROM orders WHERE id < 6;";
    let (_, err, _) = session.script(&format!("{late}\n")).await;
    assert!(err.contains("statements a minute"), "{err}");
    assert_eq!(lines_of(&session, late), ["statement"]);
}

#[tokio::test]
async fn no_code_of_the_database_runs_for_an_estimate_of_what_a_reviewer_has_not_approved() {
    let session = session(&format!(
        "{EVERYTHING}\nfunctions = [\"public.told\"]\n{}",
        r#"hold = [{ actions = ["select"], on = ["public.orders"], when = "rows > 10",
                     reviewers = "group:dba" }]"#
    ))
    .await;
    // The planner runs what is declared stable, to estimate by its result. The lock stays
    // when its transaction is rolled back, and shows that it ran.
    harness::cluster()
        .await
        .execute(
            &session.database,
            "CREATE FUNCTION told() RETURNS int LANGUAGE plpgsql STABLE AS
                 $$ BEGIN PERFORM pg_advisory_lock(4711); RETURN 7; END $$;
             ANALYZE orders",
        )
        .await
        .expect("a function");
    let sql = "SELECT * FROM orders WHERE id < public.told();";
    let (out, err, _) = session.script(&format!("{sql}\n")).await;
    assert!(out.is_empty() && err.contains("no reviewer can give it"), "{out}{err}");
    assert_eq!(lines_of(&session, sql), ["statement"]);
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711";
    assert_eq!(session.truth(locks).await, 0);
    // It would have run.
    assert_eq!(session.truth("SELECT count(*) FROM orders WHERE id < public.told()").await, 6);
}
