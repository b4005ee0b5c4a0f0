//! `record = "results"`: the log has the rows that the client got, as it got them.

use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{Desk, stage};

/// The lines of a session's log.
fn log(desk: &Desk<'_>, session: &str) -> Vec<Value> {
    let exported = desk.run(&["log", "export", session]).exits(0);
    exported.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The results of the statement whose text holds this; checks that they come between its
/// line and its completion.
fn results<'a>(log: &'a [Value], sql: &str) -> &'a Value {
    let statement =
        log.iter().find(|line| line["sql"].as_str().is_some_and(|text| text.contains(sql)));
    let number = &statement.unwrap_or_else(|| panic!("no statement {sql}"))["statement"];
    let lines = log.iter().filter(|line| line["statement"] == *number).collect::<Vec<_>>();
    let types = lines.iter().map(|line| line["type"].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(types[..2], ["statement", "results"], "{sql}");
    assert!(matches!(types[2..], [] | ["completion"]), "{sql}: {types:?}");
    lines[1]
}

#[tokio::test]
async fn the_log_shows_what_the_client_saw_and_nothing_that_it_did_not() {
    let stage = stage().await;
    let desk = Desk::new(stage, "recorded");
    let grant = desk.grant_of("recorded", "10m");
    let raw = stage.cluster().psql("shop", "SELECT email FROM shop.customers WHERE id = 1").await;
    let raw = raw.unwrap();
    let script = "
        psql -XAtq -c 'SELECT id, email, NULL AS none FROM customers ORDER BY id LIMIT 2'
        psql -XAtq -c \"SELECT 'pay 4111 1111 1111 1111' AS note\"
        psql -XAtq -c 'COPY (SELECT id, email FROM customers WHERE id = 1) TO STDOUT'
        psql -XAtq -c 'SELECT n AS many FROM generate_series(1, 1200) n' | tail -1
        psql -XAtq -v FETCH_COUNT=2 -c 'SELECT n AS part FROM generate_series(1, 3) n'
        psql -XAtq -c \"SELECT repeat('x', 9000) AS long, 6 / (3 - n) AS failing
                        FROM generate_series(1, 4) n\" 2> /dev/null | wc -l
        psql -XAtq -c \"SELECT e'\\\\x1b[2J' AS hostile\"
        timeout 2 psql -XAtq -c \"SELECT repeat('y', 6000) AS left, CASE n WHEN 5 THEN pg_sleep(60) END
                                  FROM generate_series(1, 5) n\"
        psql -XAtq -c 'DELETE FROM orders' 2> /dev/null
        echo $PGATE_SESSION";
    let arguments = ["connect", "prod-db", "--grant", &grant, "--", "sh", "-c", script];
    let ran = desk.run(&arguments).exits(0).says("is recorded in this session's log");
    let lines = ran.stdout.lines().collect::<Vec<_>>();
    let session = *lines.last().unwrap();
    desk.run(&["log", "verify", session]).exits(0).says("ok:").says("(closed)");

    let log = log(&desk, session);
    assert!(!log.iter().any(|line| line.to_string().contains(raw.trim())), "{raw} is in the log");
    let masked = results(&log, "SELECT id, email, NULL");
    let shown = lines[..2].iter().map(|line| line.split('|').collect::<Vec<_>>());
    let shown = shown.map(|row| json!([row[0], row[1], null])).collect::<Vec<_>>();
    assert!(lines[0].contains("***@"), "{ran}");
    assert_eq!(masked["sets"][0]["rows"], Value::from(shown));
    let columns = &masked["sets"][0]["columns"];
    assert_eq!(columns[1], json!({ "name": "email", "type": 1043, "format": "text" }));
    assert_eq!(masked.get("cut"), None);

    let note = &results(&log, "SELECT 'pay")["sets"][0]["rows"][0][0];
    assert_eq!(note, lines[2], "as it was detected");
    assert!(!note.as_str().unwrap().contains("4111 1111 1111 1111"), "{note}");

    let copied = &results(&log, "COPY (SELECT id")["sets"][0];
    assert_eq!(*copied, json!({ "copy": "text", "rows": [[format!("{}\n", lines[3])]] }));

    let many = results(&log, "AS many");
    assert_eq!(many["sets"][0]["rows"].as_array().unwrap().len(), 1_000);
    assert_eq!((&many["cut"]["rows"], lines[4]), (&json!(200), "1200"));

    let parts = log.iter().filter(|line| {
        line["type"] == "results" && line["sets"][0]["columns"][0]["name"] == "part"
    });
    let parts = parts.map(|line| line["sets"][0]["rows"].clone()).collect::<Vec<_>>();
    assert_eq!(parts, [json!([["1"], ["2"]]), json!([["3"]])], "each FETCH has its own");

    let failing = results(&log, "AS failing");
    assert_eq!(failing["sets"][0]["rows"][1][1], "6");
    assert_eq!(failing["sets"][0]["rows"][1][0]["cut"]["bytes"], 9_000);
    let left = results(&log, "AS left");
    let kept = left["sets"][0]["rows"].as_array().unwrap().len();
    assert!((1..5).contains(&kept), "{kept} rows of a client that went away");

    let replayed = desk.run(&["replay", session, "--no-wait"]).exits(0);
    let replayed = replayed.says("the client got 2 rows").says("id | email").says("***@");
    let replayed = replayed.says("200 more").says("(data of COPY)").says(r"\u{1b}[2J");
    replayed.hides(raw.trim()).hides("\x1b[2J");
}

#[tokio::test]
async fn a_drivers_binary_values_are_recorded_with_their_types() {
    let desk = Desk::new(stage().await, "binary");
    let serving = desk.serve(&desk.grant_of("recorded", "10m"));
    let mut driver = PgConnection::connect(serving.text("url")).await.unwrap();
    for id in [1_i32, 2] {
        let query = sqlx::query("SELECT $1::int4 AS id, 'é'::text AS word").bind(id);
        driver.fetch_one(query).await.unwrap();
    }
    driver.close().await.unwrap();
    let session = serving.session().to_owned();
    serving.end(rustix::process::Signal::INT);
    desk.run(&["log", "verify", &session]).exits(0).says("ok:");
    let log = log(&desk, &session);
    let found = log.iter().filter(|line| line["type"] == "results").filter_map(|line| {
        let set = &line["sets"][0];
        (set["columns"][1]["name"] == "word").then(|| set.clone())
    });
    let found = found.collect::<Vec<_>>();
    assert_eq!(found.len(), 2, "{log:?}");
    for (set, value) in found.iter().zip(["AAAAAQ==", "AAAAAg=="]) {
        assert_eq!(set["columns"][0], json!({ "name": "id", "type": 23, "format": "binary" }));
        assert_eq!(set["columns"][1], json!({ "name": "word", "type": 25, "format": "binary" }));
        assert_eq!(set["rows"], json!([[{ "binary": value }, { "binary": "w6k=" }]]));
    }
}
