//! Sessions carried by the proxy: real psql and a driver on one side, a real
//! PostgreSQL on the other.

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use pgate::{
    api::{ChannelBindingUse, CredentialKind, DatabaseAccess, SessionAttrs, SslNegotiation},
    demo::cluster::{Cluster, Options, ServerTls},
    journal::EndReason,
    policy::{self, Enforcement, Role},
    proxy::{Endpoints, UpstreamConfig, UpstreamError},
    wire::{self, ErrorFields, field},
};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{Connection as _, Executor as _, Row as _, postgres::PgConnectOptions};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    process::Command,
    time::{Instant, sleep, timeout},
};

use crate::harness::{self, Carried};

mod bounds;
mod catalog;
mod channels;
mod endings;
mod hosts;
mod limits;
mod losses;
mod pipelines;
mod positions;
mod reaching;
mod renegotiation;
mod strangers;
mod volume;

/// How to reach a database of a cluster as its superuser.
fn access(cluster: &Cluster, database: &str) -> DatabaseAccess {
    let url = url::Url::parse(cluster.admin_url().expose_secret()).expect("a URL");
    DatabaseAccess {
        host: "127.0.0.1".into(),
        port: cluster.port(),
        further: Vec::new(),
        target_session_attrs: SessionAttrs::Any,
        database: database.into(),
        user: url.username().into(),
        password: url.password().expect("a password").into(),
        sslmode: "disable".into(),
        ca_pem: None,
        sslnegotiation: SslNegotiation::default(),
        channel_binding: ChannelBindingUse::default(),
        client_certificate: None,
        credential: CredentialKind::Static,
        catalog_epoch: None,
    }
}

/// Everything is allowed but deleting orders, and so many rows.
fn role(rows: u64) -> Arc<Role> {
    let text = format!(
        r#"
        [target.test]
        url = "postgres://127.0.0.1:5432/test?sslmode=disable"
        credential = {{ kind = "static", user = "app", password = "env:UNUSED" }}

        [role.clerk]
        targets = ["test"]
        ttl = "1h"
        max_ttl = "8h"
        allow = [{{ actions = ["*"], on = ["public.*"] }}]
        deny = [{{ actions = ["delete"], on = ["public.orders"], reason = "orders are kept" }}]
        functions = ["pg_catalog.pg_sleep"]
        limits = {{ rows = {rows} }}
        "#
    );
    let files = [("test.toml".to_owned(), text)];
    let policy = policy::parse(&files).expect("the policy is well written");
    Arc::new(policy.roles["clerk"].clone())
}

/// Rows enough for every test but the one of the limit.
const ROWS: u64 = 100_000;

/// A session on a database of its own.
struct Session {
    carried: Carried,
    database: String,
}

impl Session {
    async fn start() -> Self {
        Self::until(Timestamp::now() + SignedDuration::from_hours(1), ROWS).await
    }

    async fn until(expires_at: Timestamp, rows: u64) -> Self {
        Self::of(expires_at, role(rows)).await
    }

    /// A session of this role.
    async fn of(expires_at: Timestamp, role: Arc<Role>) -> Self {
        let database = harness::database().await;
        harness::cluster()
            .await
            .execute(
                &database,
                "CREATE TABLE orders (id int PRIMARY KEY, item text);
                 CREATE TABLE again (LIKE orders);
                 INSERT INTO orders SELECT n, 'item ' || n FROM generate_series(1, 1000) n",
            )
            .await
            .expect("a table");
        Self::with(access(harness::cluster().await, &database), expires_at, role)
            .await
            .expect("a session")
    }

    async fn with(
        access: DatabaseAccess,
        expires_at: Timestamp,
        role: Arc<Role>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let database = access.database.clone();
        let carried = Carried::start(&access, role, Enforcement::Static, expires_at).await?;
        Ok(Self { carried, database })
    }

    /// The lines of the session log so far.
    fn log(&self) -> Vec<serde_json::Value> {
        self.carried.log()
    }

    fn endpoints(&self) -> &Endpoints {
        self.carried.running.endpoints()
    }

    /// psql on the Unix socket, without a password.
    fn psql(&self) -> Command {
        let endpoints = self.endpoints();
        let mut psql = Command::new("psql");
        psql.env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", "/nonexistent")
            .env("PGHOST", &endpoints.socket_dir)
            .env("PGPORT", endpoints.port.to_string())
            .env("PGUSER", &endpoints.user)
            .env("PGDATABASE", &endpoints.database)
            .args(["--no-psqlrc", "--no-password"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        psql
    }

    /// Runs a psql script; returns what it prints to both outputs, and whether it ended well.
    async fn script(&self, script: &str) -> (String, String, bool) {
        let mut child = self
            .psql()
            .args(["--quiet", "--no-align", "--tuples-only", "--file=-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("psql starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(script.as_bytes()).await.expect("psql reads");
        drop(stdin);
        let output = timeout(Duration::from_secs(60), child.wait_with_output())
            .await
            .expect("psql ends")
            .expect("psql ends");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (text(output.stdout), text(output.stderr), output.status.success())
    }

    /// A raw connection, past its start-up.
    async fn raw(&self) -> Raw {
        let endpoints = self.endpoints();
        let path = endpoints.socket_dir.join(format!(".s.PGSQL.{}", endpoints.port));
        let mut raw =
            Raw { stream: UnixStream::connect(path).await.expect("the socket"), input: Vec::new() };
        let parameters = [("user", &endpoints.user), ("database", &endpoints.database)]
            .map(|(name, value)| (name.to_owned(), value.clone()));
        raw.send(
            &wire::startup_message(wire::PROTOCOL_3_0, &parameters.into()).expect("a start-up"),
        )
        .await;
        raw.until(b'Z').await;
        raw
    }

    /// What the superuser sees of this session's statements upstream.
    async fn activity(&self) -> Vec<(String, String)> {
        let mut connection =
            harness::cluster().await.connect("postgres").await.expect("a connection");
        let rows = sqlx::query(
            "SELECT state, coalesce(wait_event, '') FROM pg_stat_activity
             WHERE datname = $1 AND application_name LIKE 'pgate se\\_%'
             AND application_name NOT LIKE '%catalog'",
        )
        .bind(&self.database)
        .fetch_all(&mut connection)
        .await
        .expect("the activity");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Waits until the activity is as wanted.
    async fn until_activity(&self, wanted: impl Fn(&[(String, String)]) -> bool) {
        let start = Instant::now();
        loop {
            let activity = self.activity().await;
            if wanted(&activity) {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(15), "still {activity:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A client that speaks bytes.
struct Raw {
    stream: UnixStream,
    input: Vec<u8>,
}

/// The next whole message; none at the stream's end.
async fn next_message(
    stream: &mut (impl AsyncRead + Unpin),
    input: &mut Vec<u8>,
    patience: Duration,
) -> Option<Vec<u8>> {
    loop {
        if let Some(header) = wire::header(input).expect("a message")
            && input.len() >= header.length
        {
            let rest = input.split_off(header.length);
            return Some(std::mem::replace(input, rest));
        }
        match timeout(patience, stream.read_buf(input)).await.expect("an answer in time") {
            Ok(1..) => {}
            _ => return None,
        }
    }
}

impl Raw {
    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the proxy reads");
    }

    async fn message(&mut self) -> Option<Vec<u8>> {
        next_message(&mut self.stream, &mut self.input, Duration::from_secs(20)).await
    }

    /// The messages up to the first of this type, which is included.
    async fn until(&mut self, tag: u8) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        while let Some(message) = self.message().await {
            let found = message[0];
            messages.push(message);
            if found == tag {
                break;
            }
        }
        messages
    }

    async fn tags_until_ready(&mut self) -> String {
        self.until(b'Z').await.iter().map(|message| char::from(message[0])).collect()
    }
}

fn bytes(write: impl FnOnce(&mut bytes::BytesMut)) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    write(&mut out);
    out.to_vec()
}

fn extended(sql: &str) -> Vec<u8> {
    bytes(|out| {
        wire::parse("", sql, &[0, 0], out);
        wire::bind("", "", out);
        wire::execute("", 0, out);
    })
}

const SYNC: &[u8] = b"S\0\0\0\x04";

#[tokio::test]
async fn psql_describes_lists_and_copies_both_ways() {
    let session = Session::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.csv");
    let file = file.display();
    let script = format!(
        "\\d orders\n\\dt+\n\\df\n
         \\copy orders TO '{file}' CSV
         \\copy again FROM '{file}' CSV
         SELECT count(*), sum(id) FROM again;
         COPY again FROM STDIN;\n2000\tx\n\\.\n
         SELECT count(*) FROM again;"
    );
    let (out, err, ok) = session.script(&script).await;
    assert!(ok && err.is_empty(), "{err}");
    assert!(out.contains("item|text||") && out.ends_with("1000|500500\n1001\n"), "{out}");
}

#[tokio::test]
async fn a_refused_statement_leaves_the_session_and_its_transaction_as_an_error_would() {
    let session = Session::start().await;
    let (out, err, ok) = session
        .script(
            "\\set VERBOSITY verbose
             DELETE FROM orders;
             SELECT 'alive';
             BEGIN;
             SELECT 'in';
             DELETE FROM orders;
             SELECT 'not reached';
             ROLLBACK;
             SELECT count(*) FROM orders;
             BEGIN; SAVEPOINT a; DELETE FROM orders; ROLLBACK TO a; SELECT 'back'; COMMIT;",
        )
        .await;
    assert!(ok);
    assert_eq!(out, "alive\nin\n1000\nback\n", "{err}");
    assert!(err.contains("ERROR:  42501: pgate: "), "{err}");
    assert!(err.contains("DETAIL:  rule role.clerk.deny[0]"), "{err}");
    assert!(err.contains("25P02") && !err.contains("42601"), "{err}");
}

#[tokio::test]
async fn refusals_amid_a_pipeline_are_answered_as_postgresql_answers_errors() {
    let session = Session::start().await;
    let mut raw = session.raw().await;
    let pipeline = [
        extended("SELECT 1"),
        extended("DELETE FROM orders"),
        extended("SELECT 2"),
        SYNC.to_vec(),
        extended("SELECT 3"),
        SYNC.to_vec(),
        bytes(|out| wire::query("DELETE FROM orders", out)),
        b"F\0\0\0\x0e\0\0\0\x2a\0\0\0\0\0\0".to_vec(),
        bytes(|out| wire::query("SELECT 4", out)),
    ];
    raw.send(&pipeline.concat()).await;
    assert_eq!(raw.tags_until_ready().await, "12DCEZ");
    assert_eq!(raw.tags_until_ready().await, "12DCZ");
    let refused = raw.until(b'Z').await;
    let fields = ErrorFields::parse(&refused[0]).unwrap();
    assert_eq!(fields.sqlstate(), "42501");
    assert!(fields.get(field::DETAIL).is_some_and(|detail| detail.contains("role.clerk.deny")));
    assert_eq!(refused[1], b"Z\0\0\0\x05I");
    assert_eq!(raw.tags_until_ready().await, "EZ");
    assert_eq!(raw.tags_until_ready().await, "TDCZ");
}

#[tokio::test]
async fn a_driver_prepares_binds_and_survives_a_refusal() {
    let session = Session::start().await;
    let endpoints = session.endpoints();
    let options = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(endpoints.port)
        .username(&endpoints.user)
        .password(endpoints.password.expose_secret())
        .database(&endpoints.database);
    let mut connection = sqlx::PgConnection::connect_with(&options).await.unwrap();
    for id in [1, 2, 1] {
        let row = sqlx::query("SELECT item FROM orders WHERE id = $1")
            .bind(id)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(row.get::<String, _>(0), format!("item {id}"));
    }
    let refused = sqlx::query("DELETE FROM orders WHERE id = $1").bind(1).execute(&mut connection);
    let error = refused.await.unwrap_err().into_database_error().unwrap();
    assert_eq!(error.code().as_deref(), Some("42501"));
    let mut transaction = connection.begin().await.unwrap();
    assert!(transaction.execute("DELETE FROM orders").await.is_err());
    transaction.rollback().await.unwrap();
    let row = connection.fetch_one("SELECT count(*) FROM orders").await.unwrap();
    assert_eq!(row.get::<i64, _>(0), 1000);
    connection.close().await.unwrap();
}

#[tokio::test]
async fn tcp_wants_the_one_time_password_and_the_right_names() {
    let session = Session::start().await;
    let endpoints = session.endpoints();
    let psql = |url: String| {
        let mut psql = session.psql();
        psql.env_remove("PGHOST")
            .args(["--tuples-only", "--no-align", "--command=SELECT 1"])
            .arg(url);
        async move { psql.output().await.unwrap() }
    };
    let url = endpoints.tcp_url().expose_secret().to_owned();
    let output = psql(url.clone()).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n", "{output:?}");
    let cases = [
        (
            url.replace(endpoints.password.expose_secret(), "wrong"),
            "password authentication failed",
        ),
        (url.replace(&format!("/{}", endpoints.database), "/other"), "only"),
        (url.replace(&format!("//{}", endpoints.user), "//other"), "is for user"),
        (format!("{url}&options=-c%20search_path%3Devil"), "search_path"),
        (format!("{url}&client_encoding=LATIN1"), "client_encoding"),
        (format!("{url}&replication=database"), "replication"),
        (url.replace("sslmode=disable", "sslmode=require"), "SSL"),
    ];
    for (url, said) in cases {
        let output = psql(url.clone()).await;
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && err.contains(said), "{said}: {err}");
    }
    let harmless = psql(format!("{url}&options=-c%20TimeZone%3DUTC&application_name=it")).await;
    assert!(harmless.status.success(), "{harmless:?}");
}

#[tokio::test]
async fn ctrl_c_in_psql_cancels_the_statement_upstream() {
    let session = Session::start().await;
    let child = session.psql().args(["--command=SELECT pg_sleep(60)"]).spawn().unwrap();
    session.until_activity(|all| all.iter().any(|(_, event)| event == "PgSleep")).await;
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    let start = Instant::now();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = timeout(Duration::from_secs(10), child.wait_with_output()).await.unwrap().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(err.contains("canceling statement due to user request"), "{err}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_wrong_cancel_key_cancels_nothing() {
    let session = Session::start().await;
    let mut raw = session.raw().await;
    raw.send(&bytes(|out| wire::query("SELECT pg_sleep(0.5)", out))).await;
    let endpoints = session.endpoints();
    let path: PathBuf = endpoints.socket_dir.join(format!(".s.PGSQL.{}", endpoints.port));
    for process in [0, 1, -1] {
        let mut stranger = UnixStream::connect(&path).await.unwrap();
        stranger.write_all(&wire::cancel_request(process, &[1, 2, 3, 4])).await.unwrap();
        assert_eq!(stranger.read(&mut [0]).await.unwrap(), 0);
    }
    assert_eq!(raw.tags_until_ready().await, "TDCZ");
}

#[tokio::test]
async fn a_client_that_reads_slowly_holds_the_server_back() {
    let session = Session::start().await;
    let mut raw = session.raw().await;
    let sql = "SELECT repeat('x', 10000) FROM generate_series(1, 20000)";
    raw.send(&bytes(|out| wire::query(sql, out))).await;
    session.until_activity(|all| all.iter().any(|(_, event)| event == "ClientWrite")).await;
    let mut rows = 0;
    while let Some(message) = raw.message().await {
        match message[0] {
            b'D' => rows += 1,
            b'Z' => break,
            _ => {}
        }
    }
    assert_eq!(rows, 20_000);
    let log = session.log();
    let done = log.iter().find(|line| line["type"] == "completion").expect("a completion");
    assert_eq!((&done["rows"], &done["tag"]), (&20_000.into(), &"SELECT 20000".into()));
    assert!(done["bytes"].as_u64() > Some(200_000_000));
    let types: Vec<_> = log.iter().filter_map(|line| line["type"].as_str()).collect();
    let place = |wanted: &str| types.iter().position(|found| *found == wanted);
    assert!(place("connect") < place("statement") && place("statement") < place("completion"));
}

#[tokio::test]
async fn a_statement_is_stopped_at_the_row_limit() {
    let end = Timestamp::now() + SignedDuration::from_hours(1);
    let session = Session::until(end, 100).await;
    let sql = "SELECT 1 FROM generate_series(1, 100000000)";
    let (out, err, _) = session.script(&format!("{sql};\nSELECT 'alive';\n")).await;
    assert!(err.contains("more than 100 rows"), "{err}");
    assert!(out.ends_with("alive\n"));
}

#[tokio::test]
async fn at_expiry_statements_are_cancelled_and_nothing_is_left() {
    let mut session = Session::until(Timestamp::now() + SignedDuration::from_secs(4), ROWS).await;
    let mut raw = session.raw().await;
    raw.send(&bytes(|out| wire::query("SELECT pg_sleep(60)", out))).await;
    let messages = raw.until(b'?').await;
    let notice = messages.iter().find(|message| message[0] == b'N').expect("a warning");
    assert!(ErrorFields::parse(notice).unwrap().message().contains("ends in 1 minute"));
    let last = ErrorFields::parse(messages.last().unwrap()).unwrap();
    assert_eq!(last.sqlstate(), "57P01");
    assert!(last.is_fatal() && last.message().contains("expired"));
    let folder = session.endpoints().socket_dir.clone();
    let ended = timeout(Duration::from_secs(10), session.carried.running.ended()).await.unwrap();
    assert_eq!(ended.reason, EndReason::Expired);
    session.until_activity(<[_]>::is_empty).await;
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_revoked_session_ends_its_connections() {
    let session = Session::start().await;
    let mut raw = session.raw().await;
    session.carried.running.ender().end(EndReason::Revoked, "by bob");
    let messages = raw.until(b'?').await;
    let fields = ErrorFields::parse(&messages[0]).unwrap();
    assert!(fields.message().contains("revoked (by bob)"), "{fields:?}");
    let ended = session.carried.running.finish(EndReason::Closed, "").await;
    assert_eq!(ended.reason, EndReason::Revoked);
}

#[tokio::test]
async fn a_client_that_vanishes_takes_its_statement_with_it() {
    let session = Session::start().await;
    let mut raw = session.raw().await;
    raw.send(&bytes(|out| wire::query("SELECT pg_sleep(60)", out))).await;
    session.until_activity(|all| all.iter().any(|(_, event)| event == "PgSleep")).await;
    drop(raw);
    session.until_activity(<[_]>::is_empty).await;
}

#[tokio::test]
async fn upstream_tls_is_checked_as_sslmode_says() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = SecretString::from(made.signing_key.serialize_pem());
    let certificate = made.cert.pem();
    let options = Options {
        tls: Some(ServerTls { certificate: certificate.clone(), key }),
        settings: vec![("log_connections".into(), "on".into())],
        ..Options::default()
    };
    let cluster = Cluster::start(options).await.unwrap();
    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    let cases = [
        ("require", "127.0.0.1", None, true),
        ("require", "localhost", Some(&certificate), true),
        ("verify-ca", "127.0.0.1", Some(&certificate), true),
        ("verify-full", "localhost", Some(&certificate), true),
        ("verify-full", "127.0.0.1", Some(&certificate), false),
        ("verify-ca", "localhost", Some(&stranger), false),
        ("verify-full", "localhost", None, false),
    ];
    for (sslmode, host, ca, works) in cases {
        let access = DatabaseAccess {
            host: host.into(),
            sslmode: sslmode.into(),
            ca_pem: ca.cloned(),
            ..access(&cluster, "postgres")
        };
        let end = Timestamp::now() + SignedDuration::from_hours(1);
        match Session::with(access, end, role(ROWS)).await {
            Ok(session) => {
                assert!(works, "{sslmode} {host}");
                assert_eq!(session.script("SELECT 1").await.0, "1\n", "{sslmode} {host}");
            }
            Err(error) => {
                let error = error.to_string();
                assert!(!works, "{sslmode} {host}: {error}");
                assert!(error.contains("TLS with the database failed"), "{error}");
            }
        }
    }
    let log = cluster.log();
    let mut ours = log.lines().filter(|line| {
        line.contains("connection authorized") && line.contains("application_name=pgate")
    });
    assert!(ours.clone().count() >= 4 && ours.all(|line| line.contains("SSL enabled")));
    let refused = UpstreamConfig::new(&DatabaseAccess {
        sslmode: "prefer".into(),
        ..access(&cluster, "postgres")
    });
    assert!(matches!(refused, Err(UpstreamError::SslMode(_))));
}
