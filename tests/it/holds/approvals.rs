//! What an approval is for, and what it isn't: the rows that are expected, the hours of its
//! rule, the values of its run, and each of its reviewers.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use pgate::demo::issuer::{self, Person};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};

use super::*;

const POLICY: &str = r#"
[role.counter]
targets = ["prod-db"]
search_path = ["shop"]
allow = [{ actions = ["select", "update"], on = ["shop.*"] }]
hold = [
    { actions = ["update"], on = ["shop.*"], when = "rows > 2", reviewers = "group:dba" },
    { actions = ["select"], on = ["shop.many"], when = "rows > 2", reviewers = "group:dba" },
]

[role.careful]
targets = ["prod-db"]
allow = [{ actions = ["select"], on = ["shop.scratch", "shop.swept"] }]
hold = [
    { actions = ["delete"], on = ["shop.scratch", "shop.swept"], reviewers = "group:dba" },
    { actions = ["delete"], on = ["shop.swept"], when = "rows > 100", reviewers = "group:finance" },
]
deny = [{ actions = ["delete"], on = ["shop.scratch"], when = "rows > 100", reason = "in small parts" }]

[role.both]
targets = ["prod-db"]
allow = [{ actions = ["select"], on = ["shop.ledger"] }]
hold = [
    { actions = ["delete"], on = ["shop.ledger"], reviewers = "group:dba" },
    { actions = ["delete"], on = ["shop.ledger"], when = "unfiltered", reviewers = "group:finance" },
]

[role.finder]
targets = ["prod-db"]
search_path = ["shop"]
mask = [{ columns = ["shop.customers.email"], with = "email" }]
lookup = ["shop.customers.email"]
hold = [{ actions = ["select"], on = ["shop.customers"], reviewers = "group:dba" }]
limits = { lookups = 2 }
"#;

/// Tables of these tests alone.
const TABLES: &str = "
    CREATE TABLE shop.scratch (id int); CREATE TABLE shop.swept (id int);
    CREATE TABLE shop.ledger (id int); CREATE TABLE shop.many (id int, note text);
    INSERT INTO shop.scratch SELECT generate_series(1, 50);
    INSERT INTO shop.swept SELECT generate_series(1, 50);
    INSERT INTO shop.ledger SELECT generate_series(1, 50);
    INSERT INTO shop.many SELECT n, 'as it was' FROM generate_series(1, 50) n;
    ANALYZE shop.scratch, shop.swept, shop.ledger, shop.many";

fn access(role: &str) -> String {
    format!(
        "\n[[access]]\nwho = {{ group = \"engineering\" }}\nrole = \"{role}\"\n\
         target = \"prod-db\"\napproval = \"auto\"\n"
    )
}

/// A stage with a third person, who is of finance.
async fn stage() -> &'static Stage {
    static STAGE: OnceCell<Stage> = OnceCell::const_new();
    let start = || async {
        let mut issuer = issuer::Options::default();
        issuer.people.push(Person::new("eve@example.com", &["finance"]));
        let accesses = ["counter", "careful", "both", "finder"].map(access).concat();
        let policy = vec![("approvals.toml".to_owned(), format!("{POLICY}{accesses}"))];
        let stage = own_stage(Options { policy, issuer, ..Options::default() }).await;
        stage.cluster().execute("shop", TABLES).await.unwrap();
        stage
    };
    STAGE.get_or_init(start).await
}

async fn opened(stage: &Stage, role: &str) -> Opened {
    let arguments = ["connect", "prod-db", "--role", role, "--reason", "INC-7", "--output", "json"];
    Opened::start(pgate(stage, "ana", &arguments).into()).await
}

impl Opened {
    /// A driver, which speaks the extended protocol.
    async fn driver(&self) -> PgConnection {
        PgConnection::connect(self.ready["url"].as_str().unwrap()).await.expect("a connection")
    }
}

/// Waits until something waits in this session, and answers it.
async fn answers(stage: &'static Stage, person: &'static str, session: &str, verb: &str) -> Value {
    let start = Instant::now();
    loop {
        let inbox = reviewer(stage, person, &["inbox", "--output", "json"]).await.exits(0);
        let inbox: Value = serde_json::from_str(&inbox.stdout).unwrap();
        let holds = inbox["holds"].as_array().cloned().unwrap_or_default();
        if let Some(hold) = holds.iter().find(|hold| hold["session"] == session) {
            let id = hold["id"].as_str().unwrap();
            let shown = reviewer(stage, person, &["inbox", "show", id, "--output", "json"]).await;
            reviewer(stage, person, &[verb, id]).await.exits(0);
            return serde_json::from_str(&shown.exits(0).stdout).unwrap();
        }
        assert!(start.elapsed() < PATIENCE, "nothing waits: {inbox}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn truth(stage: &Stage, sql: &str) -> i64 {
    let mut connection = stage.cluster().connect("shop").await.unwrap();
    let sql = AssertSqlSafe(sql.to_owned());
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
}

fn refusal<T: std::fmt::Debug>(result: Result<T, sqlx::Error>) -> String {
    let error = result.expect_err("it is refused").into_database_error().expect("an answer");
    format!("{} {error}", error.code().unwrap_or_default())
}

#[tokio::test]
async fn a_run_in_the_extended_protocol_is_held_by_its_rows_with_its_own_values() {
    let stage = stage().await;
    let session = opened(stage, "counter").await;
    let mut driver = session.driver().await;
    let sql = "UPDATE shop.many SET note = 'driven' WHERE id <= $1";
    let few = sqlx::query(sql).bind(2).execute(&mut driver).await.expect("two rows pass");
    assert_eq!(few.rows_affected(), 2);
    for rows in [20, 30] {
        // The approval of the first was for its values: the second waits as well.
        let run = sqlx::query(sql).bind(rows).execute(&mut driver);
        let (ran, hold) = tokio::join!(run, answers(stage, "dan", session.session(), "approve"));
        assert_eq!(ran.expect("it was approved").rows_affected(), u64::try_from(rows).unwrap());
        let about = hold["statement"]["estimate"]["rows"].as_u64().expect("an estimate");
        assert!((10..=40).contains(&about), "{hold}");
    }
    let run = sqlx::query(sql).bind(40).execute(&mut driver);
    let (ran, _) = tokio::join!(run, answers(stage, "dan", session.session(), "deny"));
    assert!(refusal(ran).starts_with("42501 pgate: dan@example.com"));
    // Rows that are fetched count as well, and a held SELECT goes on in parts.
    let run = sqlx::query("SELECT id FROM shop.many WHERE id > $1").bind(0).fetch_all(&mut driver);
    let (rows, _) = tokio::join!(run, answers(stage, "dan", session.session(), "approve"));
    assert_eq!(rows.expect("it was approved").len(), 50);
    assert_eq!(truth(stage, "SELECT count(*) FROM shop.many WHERE note = 'driven'").await, 30);
    let id = session.session().to_owned();
    drop(driver);
    session.close().await;
    let log = reviewer(stage, "ana", &["log", "export", &id]).await.exits(0).stdout;
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let asked = lines.filter(|line| line["type"] == "planned").collect::<Vec<_>>();
    // One question for each run, whatever became of it.
    assert_eq!(asked.len(), 5, "{asked:?}");
    reviewer(stage, "ana", &["log", "verify", &id]).await.exits(0).says("4 held (3 approved)");
}

#[tokio::test]
async fn several_statements_in_one_query_wait_together_where_the_rows_of_one_matter() {
    let stage = stage().await;
    let session = opened(stage, "counter").await;
    let both = "UPDATE shop.swept SET id = id WHERE id = 1; UPDATE shop.swept SET id = id";
    let client = session.psql(&[both]);
    let hold = client.hold(0).await;
    let view = seen(stage, &hold).await;
    assert_eq!(view["statement"]["sql"], both, "the reviewer sees both");
    reviewer(stage, "dan", &["approve", &hold]).await.exits(0);
    let (code, said) = client.ends().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("UPDATE 1\n") && said.contains("UPDATE 50\n"), "{said}");
    let client = session.psql(&[both, "SELECT 'alive'"]);
    let hold = client.hold(0).await;
    reviewer(stage, "dan", &["deny", &hold]).await.exits(0);
    let (_, said) = client.ends().await;
    assert!(!said.contains("UPDATE ") && said.contains("alive"), "{said}");
    session.close().await;
}

#[tokio::test]
async fn sql_neither_prepares_nor_runs_nor_fetches_what_is_held() {
    let stage = stage().await;
    let session = opened(stage, "careful").await;
    let mut driver = session.driver().await;
    let delete = "DELETE FROM shop.scratch WHERE id = 1";
    let refused = |sql: &str| AssertSqlSafe(sql.to_owned());
    for sql in [
        &format!("PREPARE d AS {delete}"),
        "EXECUTE d",
        &format!("EXPLAIN ANALYZE {delete}"),
        "DECLARE c CURSOR FOR WITH gone AS (DELETE FROM shop.scratch RETURNING id) TABLE gone",
    ] {
        let told = refusal(sqlx::raw_sql(refused(sql)).execute(&mut driver).await);
        assert!(told.starts_with("42501") || told.starts_with("26000"), "{sql}: {told}");
    }
    // What the protocol has prepared waits for nobody until it is run.
    driver
        .prepare(sqlx::SqlStr::from_static("DELETE FROM shop.scratch WHERE id = 2"))
        .await
        .expect("it is only prepared");
    for number in 0..4 {
        let sql = format!("EXECUTE sqlx_s_{number}");
        let told = refusal(sqlx::raw_sql(refused(&sql)).execute(&mut driver).await);
        assert!(told.starts_with("42501") || told.starts_with("26000"), "{sql}: {told}");
    }
    assert_eq!(truth(stage, "SELECT count(*) FROM shop.scratch WHERE id <= 2").await, 2);
    drop(driver);
    session.close().await;
}

#[tokio::test]
async fn an_approval_is_void_where_more_rows_are_expected_than_when_it_was_asked_for() {
    let stage = stage().await;
    let session = opened(stage, "careful").await;
    let cases = [
        ("shop.scratch", "in small parts (PostgreSQL expects 1"),
        (
            "shop.swept",
            "PostgreSQL expects the statement to hit more rows than when it was approved",
        ),
    ];
    for (table, why) in cases {
        let client = session.psql(&[&format!("DELETE FROM {table} WHERE id > 0")]);
        let hold = client.hold(0).await;
        let grow = format!("INSERT INTO {table} SELECT generate_series(51, 1500); ANALYZE {table}");
        stage.cluster().execute("shop", &grow).await.unwrap();
        reviewer(stage, "dan", &["approve", &hold]).await.exits(0);
        let (_, said) = client.ends().await;
        assert!(said.contains(why), "{said}");
        assert_eq!(truth(stage, &format!("SELECT count(*) FROM {table}")).await, 1500);
        let shrink = format!("DELETE FROM {table} WHERE id > 50; ANALYZE {table}");
        stage.cluster().execute("shop", &shrink).await.unwrap();
    }
    let id = session.session().to_owned();
    session.close().await;
    let replay = reviewer(stage, "ana", &["replay", &id]).await.exits(0).stdout;
    assert_eq!(replay.matches("not run after all").count(), 2, "{replay}");
}

#[tokio::test]
async fn a_statement_of_two_reviewers_runs_when_both_have_approved_it() {
    let stage = stage().await;
    let session = opened(stage, "both").await;
    let client = session.psql(&["DELETE FROM shop.ledger"]);
    let first = client.hold(0).await;
    reviewer(stage, "eve", &["approve", &first]).await.exits(4);
    reviewer(stage, "dan", &["approve", &first]).await.exits(0);
    let second = client.hold(1).await;
    assert_eq!(truth(stage, "SELECT count(*) FROM shop.ledger").await, 50, "one is not enough");
    reviewer(stage, "dan", &["approve", &second]).await.exits(4);
    reviewer(stage, "eve", &["approve", &second]).await.exits(0);
    let (code, said) = client.ends().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("DELETE 50"), "{said}");
    let id = session.session().to_owned();
    session.close().await;
    reviewer(stage, "ana", &["log", "verify", &id]).await.exits(0).says("2 held (2 approved)");
}

#[tokio::test]
async fn a_held_look_up_shows_the_mask_and_counts_when_it_runs() {
    let stage = stage().await;
    let mut admin = stage.cluster().connect("shop").await.unwrap();
    let sql = "SELECT email FROM shop.customers WHERE id = 7";
    let email: String = sqlx::query_scalar(sql).fetch_one(&mut admin).await.unwrap();
    let session = opened(stage, "finder").await;
    let mut driver = session.driver().await;
    let find = "SELECT id, email FROM customers WHERE email = $1";
    // What isn't approved isn't looked up, and counts for nothing.
    for verb in ["deny", "approve", "approve"] {
        let run = sqlx::query(find).bind(&email).fetch_all(&mut driver);
        let (ran, hold) = tokio::join!(run, answers(stage, "dan", session.session(), verb));
        // The driver binds in binary format.
        let value = STANDARD.encode(&email);
        let shown = &hold["statement"]["parameters"][0]["binary"];
        assert_eq!(*shown, value.as_str(), "the reviewer sees the value");
        if verb == "deny" {
            assert!(refusal(ran).starts_with("42501"));
            continue;
        }
        let rows = ran.expect("it was approved");
        assert_eq!((rows.len(), rows[0].get::<i64, _>(0)), (1, 7));
        assert!(rows[0].get::<String, _>(1).contains("***@"), "a mask");
    }
    // Two a minute: nobody is asked about a third.
    let told = refusal(sqlx::query(find).bind(&email).fetch_all(&mut driver).await);
    assert!(told.contains("allows 2 look-ups of masked values a minute"), "{told}");
    drop(driver);
    session.close().await;
}

#[tokio::test]
async fn an_approval_is_void_when_the_hours_of_its_rule_are_over() {
    let stage = stage().await;
    let now = Timestamp::now();
    // The next minute that is far enough away.
    let end = (now.as_second() + 40).div_euclid(60) * 60 + 60;
    let end = Timestamp::from_second(end).unwrap();
    let hour = |at: Timestamp| at.to_zoned(jiff::tz::TimeZone::UTC).strftime("%H:%M").to_string();
    let begin = now - SignedDuration::from_mins(5);
    let policy = format!(
        "[role.timely]\ntargets = [\"prod-db\"]\n\
         allow = [{{ actions = [\"select\"], on = [\"shop.many\"] }}]\n\
         hold = [{{ actions = [\"delete\"], on = [\"shop.many\"], reviewers = \"group:dba\", \
         between = \"{}-{}\", zone = \"UTC\" }}]\n{}",
        hour(begin),
        hour(end),
        access("timely"),
    );
    std::fs::write(stage.server_folder().join("policy/timely.toml"), policy).unwrap();
    let start = Instant::now();
    while !reviewer(stage, "ana", &["targets"]).await.stdout.contains("timely") {
        assert!(start.elapsed() < PATIENCE, "{}", stage.server_log());
        sleep(Duration::from_millis(50)).await;
    }
    let session = opened(stage, "timely").await;
    let client = session.psql(&["DELETE FROM shop.many WHERE id = 50"]);
    let hold = client.hold(0).await;
    let left = Timestamp::now().duration_until(end) + SignedDuration::from_millis(200);
    sleep(Duration::try_from(left).unwrap_or_default()).await;
    reviewer(stage, "dan", &["approve", &hold]).await.exits(0);
    let (_, said) = client.ends().await;
    assert!(said.contains("role timely does not allow delete on shop.many"), "{said}");
    assert_eq!(truth(stage, "SELECT count(*) FROM shop.many WHERE id = 50").await, 1);
    let id = session.session().to_owned();
    session.close().await;
    reviewer(stage, "ana", &["replay", &id]).await.exits(0).says("not run after all");
}
