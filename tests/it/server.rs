//! The control plane against real PostgreSQL: a session's database role is there
//! while the session is, can do what the policy says, and is gone afterwards.

use std::{path::Path, time::Duration};

use pgate::{
    demo::{
        issuer::{Issuer, Options, Person},
        shop,
    },
    grant::SigningKey,
    server::{Server, config::Config},
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::harness;

/// A control plane over a database of its own in the shared cluster.
struct Plane {
    folder: tempfile::TempDir,
    database: String,
    issuer: Issuer,
    url: String,
    client: reqwest::Client,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Plane {
    async fn start() -> Self {
        Self::with_policy(shop::POLICY).await
    }

    async fn with_policy(policy: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster = harness::cluster().await;
        let database = harness::database().await;
        cluster.execute("postgres", &format!("DROP DATABASE {database}")).await.unwrap();
        shop::create(cluster, &database).await.unwrap();
        let people = vec![
            Person::new("ana@example.com", &["engineering"]),
            Person::new("dan@example.com", &["engineering", "dba"]),
        ];
        let issuer = Issuer::start(Options { people, ..Options::default() }).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("policy");
        std::fs::create_dir(&files).unwrap();
        let admin = cluster.admin_url_of("postgres");
        std::fs::write(files.join("admin-url"), admin.expose_secret()).unwrap();
        let target =
            shop::target_policy(cluster.port(), &database, "X").replace("env:X", "file:admin-url");
        std::fs::write(files.join("target.toml"), target).unwrap();
        std::fs::write(files.join("shop.toml"), policy).unwrap();
        let config = format!(
            "listen = \"127.0.0.1:0\"\nstore = \"sqlite:pgate.db\"\narchive = \"file:sessions\"\n\
             signing_key = \"file:signing.key\"\npolicy = \"policy\"\n\
             [[issuer]]\nname = \"corp\"\nurl = \"{}\"\nclient_id = \"pgate\"\n\
             groups_claim = \"groups\"\n",
            issuer.url()
        );
        std::fs::write(folder.path().join("pgate.toml"), config).unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut plane =
            Self { folder, database, issuer, url: String::new(), client, running: None };
        plane.boot().await;
        plane
    }

    async fn boot(&mut self) {
        let config = Config::read(&self.folder.path().join("pgate.toml")).unwrap();
        let server = Server::bind(config).await.unwrap();
        self.url = format!("http://{}", server.local_addr());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            let shutdown = async move {
                let _ = stopped.await;
            };
            server.run(shutdown).await.unwrap();
        });
        self.running = Some((stop, running));
    }

    async fn stop(&mut self) {
        let (stop, running) = self.running.take().unwrap();
        stop.send(()).unwrap();
        running.await.unwrap();
    }

    async fn send(&self, method: &str, path: &str, email: &str, body: Value) -> (u16, Value) {
        let token = self.issuer.id_token(email).unwrap();
        let response = self
            .client
            .request(method.parse().unwrap(), format!("{}{path}", self.url))
            .bearer_auth(token.expose_secret())
            .json(&body)
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap())
    }

    async fn post(&self, path: &str, email: &str, body: Value) -> Value {
        let (status, answer) = self.send("POST", path, email, body).await;
        assert!(status < 300, "{status} {answer}");
        answer
    }

    async fn grant(&self, role: &str, ttl_seconds: u64) -> Value {
        let body = json!({ "target": shop::TARGET, "role": role, "reason": "INC-1",
                           "ttl_seconds": ttl_seconds });
        let grant = self.post("/v1/grants", "ana@example.com", body).await;
        if grant["state"] == "active" {
            return grant;
        }
        let path = format!("/v1/grants/{}/approve", grant["id"].as_str().unwrap());
        self.post(&path, "dan@example.com", json!({})).await
    }

    async fn try_open(&self, grant: &Value) -> (u16, Value) {
        let key = SigningKey::from_seed(&[7; 32]).verifying_key().to_jwk();
        let body = json!({ "grant": grant["id"], "key": key, "version": "0.1.0" });
        self.send("POST", "/v1/sessions", "ana@example.com", body).await
    }

    async fn open(&self, grant: &Value) -> Opened {
        let (status, opened) = self.try_open(grant).await;
        assert_eq!(status, 201, "{opened}");
        Opened(opened)
    }

    async fn close(&self, opened: &Opened) -> Value {
        let path = format!("{}/v1/sessions/{}/close", self.url, opened.id());
        let token = opened.0["upload_token"].as_str().unwrap();
        let response = self.client.post(path).bearer_auth(token).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }

    async fn admin(&self) -> PgConnection {
        harness::cluster().await.connect(&self.database).await.unwrap()
    }

    async fn role_exists(&self, name: &str) -> bool {
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
            .bind(name)
            .fetch_one(&mut self.admin().await)
            .await
            .unwrap()
    }

    async fn gone(&self, name: &str) {
        for _ in 0..200 {
            if !self.role_exists(name).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the role {name} is still there");
    }
}

struct Opened(Value);

impl Opened {
    fn id(&self) -> &str {
        self.0["session"].as_str().unwrap()
    }

    fn role(&self) -> &str {
        self.0["database"]["user"].as_str().unwrap()
    }

    async fn connect_with(&self, password: &str) -> Result<PgConnection, sqlx::Error> {
        self.connect_to(self.0["database"]["database"].as_str().unwrap(), password).await
    }

    async fn connect_to(&self, name: &str, password: &str) -> Result<PgConnection, sqlx::Error> {
        let database = &self.0["database"];
        PgConnectOptions::new_without_pgpass()
            .host(database["host"].as_str().unwrap())
            .port(database["port"].as_u64().unwrap().try_into().unwrap())
            .username(self.role())
            .password(password)
            .database(name)
            .ssl_mode(PgSslMode::Disable)
            .connect()
            .await
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        self.connect_with(self.0["database"]["password"].as_str().unwrap()).await
    }
}

async fn ask(connection: &mut PgConnection, sql: &str) -> Result<String, String> {
    sqlx::query_scalar::<_, String>(AssertSqlSafe(sql.to_owned()))
        .fetch_one(connection)
        .await
        .map_err(|error| match error {
            sqlx::Error::Database(error) => error.code().unwrap_or_default().into_owned(),
            other => other.to_string(),
        })
}

#[tokio::test]
async fn a_session_gets_a_role_that_can_do_no_more_than_its_grant_and_is_gone_after_it() {
    let plane = Plane::start().await;
    let opened = plane.open(&plane.grant("readonly", 600).await).await;
    assert_eq!(opened.role(), opened.id().replace("se_", "pgate_s_"));
    let mut session = opened.connect().await.unwrap();
    let cases = [
        ("SELECT count(*)::text FROM customers", Ok("12000")),
        ("SHOW statement_timeout", Ok("30s")),
        ("SHOW search_path", Ok("shop")),
        ("SHOW default_transaction_read_only", Ok("on")),
        ("SELECT email::text FROM shop.customers LIMIT 1", Err("42501")),
        ("SELECT count(*)::text FROM shop.api_keys", Err("42501")),
        ("SELECT password_hash::text FROM shop.customers LIMIT 1", Err("42501")),
        ("DELETE FROM shop.customers RETURNING 'x'", Err("25006")),
        ("SELECT rolconnlimit::text FROM pg_roles WHERE rolname = CURRENT_USER", Ok("6")),
        (
            "SELECT (rolvaliduntil IS NOT NULL)::text FROM pg_roles WHERE rolname = CURRENT_USER",
            Ok("true"),
        ),
    ];
    for (sql, expected) in cases {
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(ask(&mut session, sql).await, expected, "{sql}");
    }
    let mut writing = opened.connect().await.unwrap();
    ask(&mut writing, "SET default_transaction_read_only = off").await.unwrap_err();
    assert_eq!(
        ask(&mut writing, "DELETE FROM shop.customers RETURNING 'x'").await,
        Err("42501".into()),
        "read-only is a setting; the privileges are what holds"
    );
    assert!(opened.connect_with("guess").await.is_err());

    let closed = plane.close(&opened).await;
    assert_eq!(closed["state"], "closed");
    assert!(!plane.role_exists(opened.role()).await, "gone when the close is answered");
    assert!(ask(&mut session, "SELECT 'x'").await.is_err(), "its connections have ended");
    assert!(opened.connect().await.is_err());
}

#[tokio::test]
async fn the_password_never_stands_in_the_servers_log_or_the_store() {
    let plane = Plane::start().await;
    let mut admin = plane.admin().await;
    sqlx::query("ALTER SYSTEM SET log_statement = 'all'").execute(&mut admin).await.unwrap();
    sqlx::query("SELECT pg_reload_conf()").execute(&mut admin).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let opened = plane.open(&plane.grant("readonly", 600).await).await;
    sqlx::query("ALTER SYSTEM RESET log_statement").execute(&mut admin).await.unwrap();
    sqlx::query("SELECT pg_reload_conf()").execute(&mut admin).await.unwrap();
    let password = opened.0["database"]["password"].as_str().unwrap();
    let log = harness::cluster().await.log();
    assert!(
        log.contains(&format!("CREATE ROLE \"{}\"", opened.role())) || log.contains(opened.role())
    );
    assert!(!log.contains(password));
    for file in ["pgate.db", "pgate.db-wal"] {
        let bytes = std::fs::read(plane.folder.path().join(file)).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains(password), "{file}");
    }
    plane.close(&opened).await;
}

#[tokio::test]
async fn revoking_a_grant_ends_its_sessions_in_the_middle_of_a_statement() {
    let plane = Plane::start().await;
    let grant = plane.grant("readonly", 600).await;
    let (one, two) = (plane.open(&grant).await, plane.open(&grant).await);
    assert_ne!(one.role(), two.role());
    let mut session = one.connect().await.unwrap();
    let running = tokio::spawn(async move { ask(&mut session, "SELECT pg_sleep(25)::text").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let path = format!("/v1/grants/{}/revoke", grant["id"].as_str().unwrap());
    assert_eq!(plane.post(&path, "ana@example.com", json!({})).await["state"], "revoked");
    assert!(running.await.unwrap().is_err(), "the statement did not go on");
    for opened in [&one, &two] {
        assert!(!plane.role_exists(opened.role()).await);
        let path = format!("/v1/sessions/{}", opened.id());
        let (_, view) = plane.send("GET", &path, "ana@example.com", Value::Null).await;
        assert_eq!(view["state"], "revoked");
    }
    assert_eq!(plane.try_open(&grant).await.0, 409);
}

#[tokio::test]
async fn a_role_is_gone_at_the_grants_end_though_nobody_closes_the_session() {
    let plane = Plane::start().await;
    let opened = plane.open(&plane.grant("readonly", 3).await).await;
    let mut session = opened.connect().await.unwrap();
    plane.gone(opened.role()).await;
    assert!(ask(&mut session, "SELECT 'x'").await.is_err());
}

#[tokio::test]
async fn what_a_crash_left_is_dropped_at_the_next_start_and_strangers_roles_are_left_alone() {
    let mut plane = Plane::start().await;
    let opened = plane.open(&plane.grant("readonly", 2).await).await;
    plane.stop().await;
    let mut admin = plane.admin().await;
    let mark = sqlx::query_scalar::<_, String>(
        "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = $1",
    )
    .bind(opened.role())
    .fetch_one(&mut admin)
    .await
    .unwrap();
    // A role whose lease got lost, and one of somebody else's control plane.
    let (lost, foreign) =
        (format!("pgate_s_lost_{}", plane.database), format!("pgate_s_else_{}", plane.database));
    for (name, mark) in [(&lost, mark.as_str()), (&foreign, "pgate another")] {
        for sql in
            [format!("CREATE ROLE {name} LOGIN"), format!("COMMENT ON ROLE {name} IS '{mark}'")]
        {
            sqlx::query(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    plane.boot().await;
    plane.gone(opened.role()).await;
    plane.gone(&lost).await;
    assert!(plane.role_exists(&foreign).await);
    sqlx::query(AssertSqlSafe(format!("DROP ROLE {foreign}"))).execute(&mut admin).await.unwrap();
    let path = format!("/v1/sessions/{}", opened.id());
    let mut state = Value::Null;
    for _ in 0..100 {
        let (_, view) = plane.send("GET", &path, "ana@example.com", Value::Null).await;
        state = view["state"].clone();
        if state != "open" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(state, "expired");
}

#[tokio::test]
async fn a_live_session_survives_a_restart_of_the_control_plane() {
    let mut plane = Plane::start().await;
    let opened = plane.open(&plane.grant("readonly", 600).await).await;
    let mut session = opened.connect().await.unwrap();
    plane.stop().await;
    plane.boot().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(ask(&mut session, "SELECT 'still here'").await, Ok("still here".into()));
    plane.close(&opened).await;
    plane.gone(opened.role()).await;
}

#[tokio::test]
async fn sessions_opened_at_the_same_moment_all_get_their_role() {
    let plane = Plane::start().await;
    let grant = plane.grant("readonly", 600).await;
    let opened = futures_util::future::join_all((0..6).map(|_| plane.open(&grant))).await;
    for opened in &opened {
        assert!(opened.connect().await.is_ok());
    }
    futures_util::future::join_all(opened.iter().map(|opened| plane.close(opened))).await;
    for opened in &opened {
        assert!(!plane.role_exists(opened.role()).await);
    }
}

#[tokio::test]
async fn a_new_policy_counts_for_new_sessions_and_the_old_privileges_go_with_their_last_session() {
    let plane = Plane::start().await;
    let opened = plane.open(&plane.grant("readonly", 600).await).await;
    let member_of =
        "SELECT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                     JOIN pg_roles s ON s.oid = m.member WHERE s.rolname = CURRENT_USER";
    let before = ask(&mut opened.connect().await.unwrap(), member_of).await.unwrap();
    let policy = shop::POLICY.replacen(
        "mask = [",
        "mask = [\n { columns = [\"shop.customers.name\"], with = \"redact\" },",
        1,
    );
    std::fs::write(plane.folder.path().join("policy/shop.toml"), policy).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let newer = plane.open(&plane.grant("readonly", 600).await).await;
    let after = ask(&mut newer.connect().await.unwrap(), member_of).await.unwrap();
    assert_ne!(before, after);
    assert_eq!(
        ask(&mut newer.connect().await.unwrap(), "SELECT name FROM shop.customers LIMIT 1").await,
        Err("42501".into())
    );
    for opened in [&opened, &newer] {
        plane.close(opened).await;
    }
}

#[tokio::test]
async fn a_target_that_cannot_serve_is_told_without_secrets_and_leaves_no_session() {
    let plane = Plane::start().await;
    let grant = plane.grant("readonly", 600).await;
    let port = harness::cluster().await.port();
    let weak = format!("weak_{}", plane.database);
    let sql = format!("CREATE ROLE {weak} LOGIN PASSWORD 'hunter2'");
    sqlx::query(AssertSqlSafe(sql)).execute(&mut plane.admin().await).await.unwrap();
    let cases = [
        (format!("postgres://{weak}:hunter2@127.0.0.1:{port}/x"), "target_rights"),
        (format!("postgres://{weak}:hunter3@127.0.0.1:{port}/x"), "target_login"),
        ("postgres://weak:hunter2@127.0.0.1:1/x".to_owned(), "target_unreachable"),
        ("hunter2".to_owned(), "target_misconfigured"),
    ];
    for (url, code) in cases {
        std::fs::write(plane.folder.path().join("policy/admin-url"), url).unwrap();
        let (status, problem) = plane.try_open(&grant).await;
        assert_eq!((status, problem["code"].as_str()), (503, Some(code)), "{problem}");
        assert!(!problem.to_string().contains("hunter"), "{problem}");
    }
    let (_, list) = plane.send("GET", "/v1/sessions", "ana@example.com", Value::Null).await;
    assert_eq!(list, json!({ "sessions": [] }));
}

#[tokio::test]
async fn an_administrator_without_superuser_rights_is_enough() {
    let plane = Plane::start().await;
    let port = harness::cluster().await.port();
    let (database, name) = (&plane.database, format!("owner_{}", plane.database));
    let mut admin = plane.admin().await;
    for sql in [
        format!("CREATE ROLE {name} LOGIN CREATEROLE PASSWORD 'hunter2'"),
        format!("ALTER DATABASE {database} OWNER TO {name}"),
        format!("ALTER SCHEMA shop OWNER TO {name}"),
        format!(
            "DO $$ DECLARE t record; BEGIN FOR t IN SELECT c.oid::regclass AS r, c.relkind FROM pg_class c \
             WHERE relnamespace = 'shop'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') LOOP \
             EXECUTE format('ALTER TABLE %s OWNER TO {name}', t.r); END LOOP; \
             FOR t IN SELECT oid::regprocedure AS r FROM pg_proc WHERE pronamespace = 'shop'::regnamespace LOOP \
             EXECUTE format('ALTER ROUTINE %s OWNER TO {name}', t.r); END LOOP; END $$"
        ),
    ] {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    }
    let url = format!("postgres://{name}:hunter2@127.0.0.1:{port}/{database}");
    std::fs::write(plane.folder.path().join("policy/admin-url"), url).unwrap();
    let opened = plane.open(&plane.grant("readonly", 600).await).await;
    let mut session = opened.connect().await.unwrap();
    assert_eq!(ask(&mut session, "SELECT count(*)::text FROM customers").await, Ok("12000".into()));
    plane.close(&opened).await;
    assert!(!plane.role_exists(opened.role()).await);
}

#[tokio::test]
async fn a_key_that_others_can_read_keeps_the_server_from_starting() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut plane = Plane::start().await;
    plane.stop().await;
    let key = plane.folder.path().join("signing.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = bind(plane.folder.path()).await.unwrap_err();
    assert!(error.contains("chmod 600"), "{error}");
}

#[tokio::test]
async fn whoever_waits_is_answered_when_the_server_stops() {
    let mut plane = Plane::start().await;
    let opened = plane.open(&plane.grant("readonly", 600).await).await;
    let path = format!("{}/v1/sessions/{}/state?wait=60", plane.url, opened.id());
    let token = opened.0["upload_token"].as_str().unwrap();
    let waiting = tokio::spawn(plane.client.get(path).bearer_auth(token).send());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let started = std::time::Instant::now();
    plane.stop().await;
    let state: Value = waiting.await.unwrap().unwrap().json().await.unwrap();
    assert_eq!(state, json!({ "state": "open" }), "a stopping server ends no session");
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    plane.boot().await;
    plane.close(&opened).await;
}

#[tokio::test]
async fn a_role_is_dropped_though_its_database_is_gone() {
    let plane = Plane::start().await;
    let opened = plane.open(&plane.grant("readonly", 600).await).await;
    let sql = format!("DROP DATABASE {} WITH (FORCE)", plane.database);
    harness::cluster().await.execute("postgres", &sql).await.unwrap();
    plane.close(&opened).await;
    let mut admin = harness::cluster().await.connect("postgres").await.unwrap();
    let there =
        sqlx::query_scalar::<_, bool>("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
            .bind(opened.role())
            .fetch_one(&mut admin)
            .await
            .unwrap();
    assert!(!there);
}

#[tokio::test]
async fn a_role_is_dropped_with_what_it_left_in_other_databases() {
    let plane = Plane::start().await;
    let opened = plane.open(&plane.grant("readonly", 600).await).await;
    let password = opened.0["database"]["password"].as_str().unwrap();
    let mut elsewhere = opened.connect_to("postgres", password).await.unwrap();
    for sql in ["SET default_transaction_read_only = off", "SELECT lo_create(0)"] {
        sqlx::raw_sql(sql).execute(&mut elsewhere).await.unwrap();
    }
    plane.close(&opened).await;
    assert!(!plane.role_exists(opened.role()).await);
}

#[tokio::test]
async fn what_a_session_prepared_to_commit_is_rolled_back_with_its_role() {
    let plane = Plane::start().await;
    let opened = plane.open(&plane.grant("readonly", 600).await).await;
    let password = opened.0["database"]["password"].as_str().unwrap();
    for database in [plane.database.as_str(), "postgres"] {
        let mut connection = opened.connect_to(database, password).await.unwrap();
        let prepare = format!("PREPARE TRANSACTION '{}''s {database}'", opened.role());
        for sql in ["BEGIN READ WRITE", "SELECT lo_create(0)", &prepare] {
            sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
        }
    }
    plane.close(&opened).await;
    assert!(!plane.role_exists(opened.role()).await);
    let prepared = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM pg_prepared_xacts");
    assert_eq!(prepared.fetch_one(&mut plane.admin().await).await.unwrap(), 0);
}

async fn bind(folder: &Path) -> Result<(), String> {
    let config = Config::read(&folder.join("pgate.toml")).unwrap();
    Server::bind(config).await.map(drop).map_err(|error| error.to_string())
}
