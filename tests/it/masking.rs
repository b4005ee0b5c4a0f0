//! Masked sessions, carried by the proxy with a database role of their own: psql in the
//! simple protocol and a driver in the extended one, against a real PostgreSQL.

use std::{process::Stdio, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use pgate::{
    api::{ChannelBindingUse, CredentialKind, DatabaseAccess, SessionAttrs, SslNegotiation},
    journal::EndReason,
    policy::{self, Enforcement},
    sql::{CATALOG_QUERY, Catalog},
};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _,
    postgres::PgConnectOptions,
};
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

use crate::harness::{self, Carried};

/// A session whose policy is compiled into its own database.
struct Masked {
    carried: Carried,
    admin: PgConnection,
    /// The session's role, as whoever takes its password has it.
    taken: PgConnectOptions,
    roles: [String; 2],
}

impl Masked {
    /// On a database with these objects, under `[role.r]` with these lines.
    async fn start(objects: &str, role: &str) -> Self {
        Self::with(objects, role, Enforcement::Ephemeral).await
    }

    async fn with(objects: &str, role: &str, enforcement: Enforcement) -> Self {
        let cluster = harness::cluster().await;
        let database = harness::database().await;
        let credential = match enforcement {
            Enforcement::Ephemeral => r#"{ kind = "ephemeral", admin_url = "env:UNUSED" }"#,
            Enforcement::Static => r#"{ kind = "static", user = "app", password = "env:UNUSED" }"#,
        };
        let text = format!(
            "[target.t]\nurl = \"postgres://127.0.0.1:5432/t?sslmode=disable\"\n\
             credential = {credential}\n[role.r]\ntargets = [\"t\"]\n{role}\n"
        );
        let policy = policy::parse(&[("t.toml".to_owned(), text)]).expect("a good policy");
        let role = Arc::new(policy.roles["r"].clone());

        cluster.execute(&database, objects).await.expect("the objects");
        let mut admin = cluster.connect(&database).await.expect("a connection");
        let document: String =
            sqlx::query_scalar(CATALOG_QUERY).fetch_one(&mut admin).await.expect("the catalog");
        let catalog = Catalog::from_json(&document).expect("a catalog");
        let compiled = policy::compile(&role, &catalog, enforcement).expect("it fits");
        let privileges = compiled.privilege_role().to_owned();
        for statement in compiled.install_sql(&privileges) {
            let done = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut admin).await;
            done.unwrap_or_else(|error| panic!("{statement}\n{error}"));
        }
        let user = format!("session_{database}");
        let member = match enforcement {
            Enforcement::Ephemeral => format!("IN ROLE {privileges}"),
            Enforcement::Static => "SUPERUSER".to_owned(),
        };
        let create = format!("CREATE ROLE {user} LOGIN PASSWORD 'taken' {member}");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut admin).await.expect("the role");

        let access = DatabaseAccess {
            host: "127.0.0.1".into(),
            port: cluster.port(),
            further: Vec::new(),
            target_session_attrs: SessionAttrs::Any,
            database: database.clone(),
            user: user.clone(),
            password: "taken".into(),
            sslmode: "disable".into(),
            ca_pem: None,
            sslnegotiation: SslNegotiation::default(),
            channel_binding: ChannelBindingUse::default(),
            client_certificate: None,
            credential: match enforcement {
                Enforcement::Ephemeral => CredentialKind::Ephemeral,
                Enforcement::Static => CredentialKind::Static,
            },
            catalog_epoch: None,
        };
        let expires_at = Timestamp::now() + SignedDuration::from_hours(1);
        let carried = Carried::start(&access, role, enforcement, expires_at).await;
        let carried = carried.expect("a session");
        let taken = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(cluster.port())
            .username(&user)
            .password("taken")
            .database(&database);
        Self { carried, admin, taken, roles: [user, privileges] }
    }

    /// What psql prints of a script, errors with it.
    async fn psql(&self, script: &str) -> String {
        let endpoints = self.carried.running.endpoints();
        let mut child = Command::new("psql")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", "/nonexistent")
            .env("PGHOST", &endpoints.socket_dir)
            .env("PGPORT", endpoints.port.to_string())
            .env("PGUSER", &endpoints.user)
            .env("PGDATABASE", &endpoints.database)
            .args(["-X", "--no-password", "--quiet", "--no-align", "--tuples-only", "--file=-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("psql starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(script.as_bytes()).await.expect("psql reads");
        drop(stdin);
        let output = timeout(Duration::from_secs(60), child.wait_with_output()).await;
        let output = output.expect("psql ends").expect("psql ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        text(&output.stdout) + &text(&output.stderr)
    }

    /// A driver on the Unix socket.
    async fn driver(&self) -> PgConnection {
        let endpoints = self.carried.running.endpoints();
        PgConnectOptions::new_without_pgpass()
            .socket(&endpoints.socket_dir)
            .port(endpoints.port)
            .username(&endpoints.user)
            .database(&endpoints.database)
            .connect()
            .await
            .expect("a connection")
    }

    /// The lines of the session log so far.
    fn log(&self) -> Vec<serde_json::Value> {
        self.carried.log()
    }

    async fn close(self) {
        let Self { carried, mut admin, roles, .. } = self;
        carried.running.finish(EndReason::Closed, "").await;
        let [user, privileges] = roles;
        let drop =
            format!("DROP OWNED BY {user}; DROP ROLE {user}; DROP ROLE IF EXISTS {privileges}");
        let owned = format!(
            "DO 'BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = ''{privileges}'') \
             THEN DROP OWNED BY {privileges}; END IF; END'"
        );
        for sql in [owned, drop] {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.expect("dropped");
        }
    }
}

const CUSTOMERS: &str = "
CREATE SCHEMA shop;
CREATE TABLE shop.customers (id bigint PRIMARY KEY, name text, email varchar(80) UNIQUE, card bigint);
INSERT INTO shop.customers
    SELECT n, 'name ' || n, 'raw' || n || '@example.com', 4000000 + n FROM generate_series(1, 20000) n;
CREATE TABLE shop.orders (id bigint PRIMARY KEY, customer_id bigint);
INSERT INTO shop.orders SELECT n, n % 100 FROM generate_series(1, 1000) n;
CREATE TABLE shop.visits (id bigint, ip text, at int) PARTITION BY RANGE (id);
CREATE TABLE shop.visits_1 PARTITION OF shop.visits FOR VALUES FROM (1) TO (5);
CREATE TABLE shop.visits_2 PARTITION OF shop.visits FOR VALUES FROM (5) TO (100);
INSERT INTO shop.visits SELECT n, 'ip' || n % 3, n FROM generate_series(1, 10) n;
ANALYZE;
";

const FINDER: &str = r#"
allow = [{ actions = ["select"], on = ["shop.*"] }]
mask = [{ columns = ["shop.customers.email"], with = "email" },
        { columns = ["shop.customers.card", "shop.visits.ip"], with = "redact" }]
lookup = ["shop.customers.email", "shop.customers.card", "shop.visits.ip"]
search_path = ["shop"]
limits = { lookups = 40 }
"#;

#[tokio::test]
async fn values_are_looked_up_by_the_index_and_show_only_their_masks() {
    let mut session = Masked::start(CUSTOMERS, FINDER).await;
    let answers = [
        (
            "SELECT id, email FROM shop.customers WHERE email = 'raw7@example.com'",
            "7|r***@example.com\n",
        ),
        (
            "SELECT id FROM shop.customers WHERE email IN ('raw7@example.com', 'x', 'raw9@example.com') ORDER BY 1",
            "7\n9\n",
        ),
        ("SELECT id FROM shop.customers c WHERE c.email = 'raw7@example.com' AND c.id < 5", ""),
        ("SELECT id, card FROM shop.customers WHERE card = 4000003", "3|0\n"),
        (
            "SELECT count(*) FROM shop.orders o JOIN shop.customers c ON c.id = o.customer_id WHERE c.email = 'raw7@example.com'",
            "10\n",
        ),
        (
            "SELECT count(*) FROM shop.orders WHERE customer_id IN (SELECT id FROM shop.customers WHERE 'raw8@example.com' = email)",
            "10\n",
        ),
        ("SELECT count(*) FROM shop.customers WHERE email = NULL", "0\n"),
        ("SELECT id FROM shop.visits WHERE ip = 'ip1' ORDER BY 1", "1\n4\n7\n10\n"),
        ("SELECT id FROM shop.visits WHERE ip = 'ip1' AND id > 4 ORDER BY 1", "7\n10\n"),
        (
            "COPY (SELECT id, email FROM shop.customers WHERE email = 'raw3@example.com') TO STDOUT",
            "3\tr***@example.com\n",
        ),
        (
            "BEGIN; DECLARE k CURSOR FOR SELECT id FROM shop.customers WHERE email = 'raw5@example.com'; FETCH ALL FROM k; COMMIT",
            "5\n",
        ),
    ];
    for (sql, expected) in answers {
        assert_eq!(session.psql(&format!("{sql};\n")).await, expected, "{sql}");
    }

    let mut driver = session.driver().await;
    let find = "SELECT id, email FROM shop.customers WHERE email = $1 AND id > $2";
    for (email, id) in
        [("raw11@example.com", Some(11)), ("nobody", None), ("raw12@example.com", Some(12))]
    {
        let row =
            sqlx::query(find).bind(email).bind(1_i64).fetch_optional(&mut driver).await.unwrap();
        assert_eq!(row.as_ref().map(|row| row.get::<i64, _>(0)), id);
        assert!(row.is_none_or(|row| row.get::<&str, _>(1) == "r***@example.com"));
    }
    // The parameters have the types that the columns give them.
    let described = (&mut driver).describe(sqlx::SqlStr::from_static(
        "SELECT id FROM shop.customers WHERE email IN ($1, $3) AND card = $2",
    ));
    let described = described.await.unwrap();
    let types = format!("{:?}", described.parameters());
    assert!(types.contains("Text") && types.contains("Int8"), "{types}");
    drop(driver);

    // They are in the log as what they are.
    let log = session.log();
    let told = |line: &&serde_json::Value| line["lookups"]["shop.customers.email"] == 3;
    assert!(log.iter().any(|line| told(&line)), "{log:#?}");

    // Straight to the rows: no scan of the table.
    let condition: String = sqlx::query_scalar(
        "SELECT 'SELECT id FROM shop.customers WHERE customers.ctid = ANY (ARRAY(SELECT f.pgate_row
         FROM pgate.' || proname || '(ARRAY[''raw7@example.com'']::text[]) f))'
         FROM pg_proc WHERE proname LIKE 'l\\_%' AND prosrc LIKE '%v.email%'",
    )
    .fetch_one(&mut session.admin)
    .await
    .unwrap();
    let plan = format!("EXPLAIN (COSTS OFF) {condition}");
    let plan = sqlx::raw_sql(AssertSqlSafe(plan)).fetch_all(&mut session.admin).await.unwrap();
    let plan = plan.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>().join("\n");
    assert!(plan.contains("Tid Scan") && !plan.contains("Seq Scan"), "{plan}");
    session.close().await;
}

#[tokio::test]
async fn lookups_stay_within_their_limit_in_either_protocol() {
    let session = Masked::start(CUSTOMERS, &FINDER.replace("lookups = 40", "lookups = 5")).await;
    let mut driver = session.driver().await;
    let find = "SELECT id FROM shop.customers WHERE email = $1";
    for at in 1..=3_i64 {
        let found = sqlx::query(find).bind(format!("raw{at}@example.com")).fetch_one(&mut driver);
        assert_eq!(found.await.unwrap().get::<i64, _>(0), at);
    }
    let many = "SELECT id FROM shop.customers WHERE email IN ('a', 'b', 'c', 'd', 'e', 'f');\n";
    let told = session.psql(many).await;
    assert!(told.contains("allows 5 look-ups") && told.contains("fewer values"), "{told}");
    let two = "SELECT id FROM shop.customers WHERE email IN ('a', 'raw2@example.com');\n";
    assert_eq!(session.psql(two).await, "2\n");
    // Another connection, another protocol, several statements in one message: one session.
    for sql in [
        "SELECT id FROM shop.customers WHERE email = 'raw2@example.com';\n",
        "SELECT 1 \\; SELECT id FROM shop.customers WHERE email = 'raw2@example.com';\n",
    ] {
        let told = session.psql(sql).await;
        assert!(told.contains("allows 5 look-ups") && told.contains("Try again in"), "{told}");
        assert!(!told.contains("\n2\n") && !told.starts_with('2'), "{told}");
    }
    let refused = sqlx::query(find).bind("raw1@example.com").fetch_optional(&mut driver).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("allows 5 look-ups"), "{refused}");
    // What looks nothing up isn't counted.
    assert_eq!(session.psql("SELECT id FROM shop.customers WHERE id = 3;\n").await, "3\n");
    drop(driver);
    session.close().await;
}

#[tokio::test]
async fn with_the_password_a_lookup_tells_places_and_no_values_and_takes_its_time() {
    let mut session = Masked::start(CUSTOMERS, FINDER).await;
    let name: String = sqlx::query_scalar(
        "SELECT proname::text FROM pg_proc WHERE proname LIKE 'l\\_%' AND prosrc LIKE '%v.email%'",
    )
    .fetch_one(&mut session.admin)
    .await
    .unwrap();
    let mut taken = session.taken.connect().await.unwrap();
    let mut ask =
        async |sql: String| match sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut taken).await {
            Ok(rows) => Ok(rows.len()),
            Err(sqlx::Error::Database(error)) => Err(error.code().unwrap_or_default().into_owned()),
            Err(error) => panic!("{error}"),
        };
    let call = |values: &str| format!("SELECT * FROM pgate.{name}({values})");
    assert_eq!(ask(call("ARRAY['raw7@example.com', 'raw8@example.com']")).await, Ok(2));
    assert_eq!(ask(call("'{raw}'")).await, Ok(0));
    assert_eq!(ask(call("NULL")).await, Ok(0));
    assert_eq!(
        ask(call("ARRAY(SELECT 'x' || n FROM generate_series(1, 101) n)")).await,
        Err("54000".into())
    );
    // The search path and operators of the caller don't reach inside; nor do patterns.
    assert_eq!(ask(call("'{%}'")).await, Ok(0));
    let owner = format!("pgate_mask_{}", session.taken.get_database().unwrap());
    for sql in [
        "SELECT email FROM shop.customers".to_owned(),
        format!("SET ROLE {owner}"),
        format!(
            "CREATE OR REPLACE FUNCTION pgate.{name}(text[]) RETURNS int LANGUAGE sql AS 'SELECT 1'"
        ),
        format!("ALTER FUNCTION pgate.{name}(text[]) OWNER TO CURRENT_USER"),
        format!("DROP FUNCTION pgate.{name}(text[])"),
    ] {
        assert_eq!(ask(sql.clone()).await, Err("42501".into()), "{sql}");
    }
    // The brake is the server's own: twenty values take a fifth of a second there, however
    // they are asked. The server counts it, not this test.
    let timed = format!(
        "DO $$ DECLARE began timestamptz := clock_timestamp(); BEGIN
           PERFORM * FROM pgate.{name}(ARRAY(SELECT 'x' || n FROM generate_series(1, 20) n));
           PERFORM 1 / (clock_timestamp() - began >= interval '0.2 s')::int; END $$"
    );
    assert_eq!(ask(timed).await, Ok(0));
    let _ = taken.close().await;

    // Nobody else may call it.
    let others: bool = sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT bool_or(has_function_privilege(r.oid, p.oid, 'EXECUTE')) FROM pg_roles r, pg_proc p
         WHERE p.proname = '{name}' AND NOT r.rolsuper AND r.rolname NOT IN ('{}', '{}', '{owner}')",
        session.roles[0], session.roles[1]
    )))
    .fetch_one(&mut session.admin)
    .await
    .unwrap();
    assert!(!others);
    session.close().await;
}

const NOTES: &str = r#"
CREATE TABLE notes (id bigint PRIMARY KEY, note text, doc jsonb, words text[], n numeric);
INSERT INTO notes VALUES
    (1, 'write to raw.person@example.com', '{"card": "4111 1111 1111 1111", "n": 4111111111111111}',
        ARRAY['x', 'raw.other@example.com', NULL], 4111111111111111),
    (2, 'nothing here', '{}', '{}', 5),
    (4111111111111111, NULL, '["DE89370400440532013000"]', NULL, NULL);
CREATE TYPE pair AS (a int, b text);
"#;

const DETECTOR: &str = r#"
allow = [{ actions = ["select"], on = ["public.*"] }]
detect = ["email", "card", "iban"]
limits = { rows = 5 }
"#;

/// What stands raw in the notes, and must never reach a client as it is.
const RAW: [&str; 4] = ["raw.person@", "raw.other@", "4111 1111", "DE8937040044"];

#[tokio::test]
async fn what_nobody_classified_is_masked_in_rows_in_both_protocols_and_told_in_the_log() {
    let session = Masked::start(NOTES, DETECTOR).await;
    let cases = [
        ("SELECT note FROM notes WHERE id = 1", "write to r***@example.com\n"),
        (
            "SELECT id, n FROM notes WHERE id > 5 OR n > 6 ORDER BY 1",
            "1|4111111111111111\n4111111111111111|\n",
        ),
        ("SELECT doc->>'card', doc->'n' FROM notes WHERE id = 1", "**** **** **** 1111|0\n"),
        ("SELECT words FROM notes WHERE id = 1", "{x,r***@example.com,NULL}\n"),
        ("SELECT array_agg(doc) FROM notes WHERE id > 5", r#"{"[\"******************3000\"]"}"#),
        ("SELECT row(1, note) FROM notes WHERE id = 1", "(1,\"write to r***@example.com\")\n"),
        (
            "SELECT row(1, note)::pair FROM notes WHERE id = 1",
            "(1,\"write to r***@example.com\")\n",
        ),
        (
            "COPY (SELECT id, note FROM notes ORDER BY id) TO STDOUT",
            "1\twrite to r***@example.com\n2\tnothing here\n************1111\t\\N\n",
        ),
        ("COPY notes (note) TO STDOUT (FORMAT csv)", "write to r***@example.com\nnothing here\n\n"),
        (
            "BEGIN; DECLARE k CURSOR FOR SELECT note FROM notes; FETCH 1 FROM k; COMMIT",
            "write to r***@example.com\n",
        ),
        (
            "PREPARE p AS SELECT note FROM notes WHERE id = $1; EXECUTE p(1)",
            "write to r***@example.com\n",
        ),
        ("SELECT note FROM notes, generate_series(1, 9) WHERE id = 1", "more than 5 rows"),
    ];
    for (sql, expected) in cases {
        let told = session.psql(&format!("{sql};\n")).await;
        assert!(told.contains(expected.trim_end()), "{sql}\n{told}");
        assert!(!RAW.iter().any(|raw| told.contains(raw)), "{sql}\n{told}");
    }
    let binary = session.psql("COPY notes (id, note) TO STDOUT (FORMAT binary);\n").await;
    assert!(binary.contains("write to r***@example.com"), "{binary:?}");

    // The driver prepares once and asks again without a new description, all in binary.
    let mut driver = session.driver().await;
    for _ in 0..3 {
        let sql = "SELECT id, note, doc, words, n FROM notes WHERE id = $1";
        let row = sqlx::query(sql).bind(1_i64).fetch_one(&mut driver).await.unwrap();
        assert_eq!(row.get::<i64, _>(0), 1);
        assert_eq!(row.get::<&str, _>(1), "write to r***@example.com");
        let doc = row.get::<serde_json::Value, _>(2);
        assert_eq!(doc, serde_json::json!({"card": "**** **** **** 1111", "n": 0}));
        let words = row.get::<Vec<Option<String>>, _>(3);
        assert_eq!(words, [Some("x".into()), Some("r***@example.com".into()), None]);
    }
    let big = sqlx::query("SELECT id FROM notes WHERE id > $1").bind(5_i64);
    assert_eq!(big.fetch_one(&mut driver).await.unwrap().get::<i64, _>(0), 4_111_111_111_111_111);
    drop(driver);

    let log = session.log();
    let alerts = log.iter().filter(|line| line["type"] == "alert").collect::<Vec<_>>();
    let told =
        |what: &str| alerts.iter().any(|alert| alert["message"].as_str().unwrap().contains(what));
    assert!(told("1 values in the column note look like email"), "{alerts:#?}");
    assert!(told("2 values in the column doc look like card"), "{alerts:#?}");
    assert!(told("in the data of COPY look like email"), "{alerts:#?}");
    assert!(!RAW.iter().any(|raw| told(raw)), "{alerts:#?}");
    session.close().await;
}

const MASKED: &str = r#"
allow = [{ actions = ["select", "update"], on = ["shop.*"] }]
mask = [{ columns = ["shop.customers.email"], with = "email" },
        { columns = ["shop.customers.card", "shop.visits.ip"], with = "redact" }]
"#;

/// Statements that rewriting proxies stumble over, and what psql prints of them.
const SHAPES: [(&str, &str); 24] = [
    (
        "SELECT shop.customers.email FROM shop.customers WHERE shop.customers.id = 7",
        "r***@example.com",
    ),
    ("SELECT customers.* FROM shop.customers WHERE id = 7", "7|name 7|r***@example.com|0"),
    ("SELECT shop.customers.* FROM shop.customers WHERE id = 7", "7|name 7|r***@example.com|0"),
    ("TABLE shop.customers ORDER BY id LIMIT 1", "1|name 1|r***@example.com|0"),
    ("SELECT c FROM shop.customers c WHERE id = 7", "(7,\"name 7\",r***@example.com,0)"),
    ("SELECT customers FROM shop.customers WHERE id = 7", "(7,\"name 7\",r***@example.com,0)"),
    ("SELECT c.*::text FROM shop.customers c WHERE id = 7", "(7,\"name 7\",r***@example.com,0)"),
    ("SELECT (c).email FROM shop.customers c WHERE id = 7", "r***@example.com"),
    (
        "SELECT row_to_json(c) FROM shop.customers c WHERE id = 7",
        r#"{"id":7,"name":"name 7","email":"r***@example.com","card":0}"#,
    ),
    (
        "SELECT to_jsonb(c) - 'name' FROM shop.customers c WHERE id = 7",
        r#"{"id": 7, "card": 0, "email": "r***@example.com"}"#,
    ),
    (
        "SELECT json_agg(c.email) FROM shop.customers c WHERE id IN (7, 8)",
        r#"["r***@example.com", "r***@example.com"]"#,
    ),
    (
        "SELECT array_agg(c) FROM shop.customers c WHERE id = 7",
        r#"{"(7,\"name 7\",r***@example.com,0)"}"#,
    ),
    ("SELECT string_agg(email, '') FROM shop.customers WHERE id = 7", "r***@example.com"),
    ("SELECT min(email), max(card) FROM shop.customers", "r***@example.com|0"),
    ("SELECT email, count(*) FROM shop.customers GROUP BY email", "r***@example.com|20000"),
    ("SELECT count(DISTINCT card) FROM shop.customers", "1"),
    ("SELECT count(*) FROM shop.customers c JOIN shop.orders o ON o.customer_id = c.id", "990"),
    ("SELECT ip, count(*) FROM shop.visits GROUP BY 1", "[redacted]|10"),
    ("SELECT id, ip FROM ONLY shop.visits_2 WHERE id = 5", "5|[redacted]"),
    ("WITH customers AS (SELECT 1 AS email) SELECT email FROM customers", "1"),
    ("SELECT current_schema(), count(*) FROM shop.customers", "public|20000"),
    (
        "SELECT l.email FROM shop.orders o, LATERAL (SELECT email FROM shop.customers c WHERE c.id = o.customer_id) l WHERE o.id = 7",
        "r***@example.com",
    ),
    ("SELECT id, email FROM shop.customers WHERE id = 7 FOR UPDATE", "7|r***@example.com"),
    ("SELECT name, email FROM shop.customers c WHERE c.ctid IS NOT NULL", "ctid can't be read"),
];

#[tokio::test]
async fn the_shapes_that_rewriting_stumbles_over_show_masks_with_either_credential() {
    for enforcement in [Enforcement::Ephemeral, Enforcement::Static] {
        let session = Masked::with(CUSTOMERS, MASKED, enforcement).await;
        let mut driver = session.driver().await;
        for (sql, expected) in SHAPES {
            let told = session.psql(&format!("{sql};\n")).await;
            let whole = told.strip_suffix('\n') == Some(expected);
            assert!(
                whole || (told.starts_with("psql") && told.contains(expected)),
                "{enforcement:?} {sql}\n{told}"
            );
            // The same in the extended protocol and in binary.
            match sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut driver).await {
                Ok(rows) => {
                    assert_eq!(rows.len(), 1, "{sql}");
                    for at in 0..rows[0].len() {
                        let value = rows[0].try_get_raw(at).unwrap();
                        let bytes = value.as_bytes().unwrap_or_default();
                        assert!(!bytes.windows(3).any(|part| part == b"raw"), "{sql}");
                        assert!(!bytes.windows(7).any(|part| part == b"4000007"), "{sql}");
                    }
                }
                Err(error) => {
                    assert!(!whole && error.to_string().contains(expected), "{sql}\n{error}")
                }
            }
        }
        drop(driver);
        session.close().await;
    }
}

#[tokio::test]
async fn conditions_on_masked_columns_compare_the_masks_where_the_role_says_so() {
    let role = format!("{MASKED}predicates = \"masked\"\n");
    for enforcement in [Enforcement::Ephemeral, Enforcement::Static] {
        let session = Masked::with(CUSTOMERS, &role, enforcement).await;
        let counts = [
            ("email = 'raw7@example.com'", "0"),
            ("email = 'r***@example.com'", "20000"),
            ("email LIKE 'raw%'", "0"),
            ("email > 'raw' AND card = 4000007", "0"),
            ("card = 0", "20000"),
            ("email ~ 'raw[0-9]+'", "0"),
            ("length(email) <> 16", "0"),
            (
                "EXISTS (SELECT FROM shop.customers b WHERE b.email = customers.email AND b.id = 3)",
                "20000",
            ),
        ];
        for (condition, count) in counts {
            let sql = format!("SELECT count(*) FROM shop.customers WHERE {condition};\n");
            assert_eq!(
                session.psql(&sql).await,
                format!("{count}\n"),
                "{enforcement:?} {condition}"
            );
        }
        let joined = "SELECT count(*) FROM shop.customers a JOIN shop.customers b USING (email)
                      WHERE a.id = 1 AND b.id < 10;\n";
        assert_eq!(session.psql(joined).await, "9\n");
        session.close().await;
    }
}
