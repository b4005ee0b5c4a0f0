//! `pgate policy` on files and on real databases: what it says, and how it ends.

use std::{fs, path::Path};

use pgate::demo::shop;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::{
    cli::house::{Ended, pgate, run},
    harness,
};

/// A folder with a policy on a database of its own in the shared cluster.
struct Desk {
    folder: tempfile::TempDir,
    database: String,
}

const POLICY: &str = r#"
[role.readonly]
targets = ["prod-db"]
allow = [{ actions = ["select"], on = ["shop.*"] }]
deny = [{ actions = ["*"], on = ["shop.api_keys"], reason = "secrets" }]
mask = [{ columns = ["shop.customers.email"], with = "email" }]
hide = ["shop.customers.password_hash"]

[[access]]
who = { group = "engineering" }
role = "readonly"
target = "prod-db"
approval = "auto"
"#;

const TABLES: &str = "
    CREATE SCHEMA shop;
    CREATE TABLE shop.customers (id int PRIMARY KEY, email text, password_hash text, phone text);
    CREATE TABLE shop.orders (id int PRIMARY KEY, customer_id int, note text);
    CREATE TABLE shop.api_keys (id int, key text);
    INSERT INTO shop.customers VALUES (1, 'ana@example.com', '$2b$12$0123456789abcdef0123456789', '+49 30 901820');
    INSERT INTO shop.orders VALUES (1, 1, 'ring planted4711@example.net'), (2, 1, 'leave at the door');
";

impl Desk {
    async fn new(tables: &str) -> Self {
        let cluster = harness::cluster().await;
        let database = harness::database().await;
        cluster.execute(&database, tables).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let desk = Self { folder, database };
        let admin = cluster.admin_url_of(&desk.database);
        desk.write("policy/admin-url", admin.expose_secret());
        desk.write("policy/shop.toml", POLICY);
        let target = shop::target_policy(cluster.port(), &desk.database, "X");
        desk.write("policy/target.toml", &target.replace("env:X", "file:admin-url"));
        desk
    }

    async fn sql(&self, sql: &str) {
        harness::cluster().await.execute(&self.database, sql).await.unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    async fn pgate(&self, arguments: &[&str]) -> Ended {
        let mut command = pgate(self.folder.path());
        command.arg("policy").args(arguments);
        run(command).await
    }

    /// Saves the catalog where the tests of the policy look for it.
    async fn save_catalog(&self) {
        fs::create_dir_all(self.path("policy/tests")).unwrap();
        let to = ["catalog", "policy", "--target", "prod-db", "--to", "policy/tests/shop.json"];
        self.pgate(&to).await.succeeds();
    }
}

fn codes(answer: &Value, severity: &str) -> Vec<String> {
    let findings = answer["examined"]["findings"].as_array().expect("findings");
    let of = findings.iter().filter(|finding| finding["severity"] == severity);
    let told = |finding: &Value| {
        let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}", text("code"), text("object"))
    };
    of.map(told).filter(|told| !told.starts_with("server-version")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_explained_on_a_database_and_on_its_saved_catalog_alike() {
    let desk = Desk::new(TABLES).await;
    desk.save_catalog().await;
    let sql = "SELECT lower(email) FROM shop.customers c";
    let base = ["explain", "policy", "--role", "readonly", "--sql", sql, "--output", "json"];
    let live = desk.pgate(&[&base[..], &["--target", "prod-db"]].concat()).await.succeeds();
    let saved = desk.pgate(&[&base[..], &["--catalog", "policy/tests/shop.json"]].concat()).await;
    assert_eq!(live.stdout, saved.succeeds().stdout);
    let told = live.json();
    assert_eq!(told["verdict"], "allow");
    assert_eq!(told["rule"]["rule"], "role.readonly.allow[0]");
    assert!(told["rule"]["place"].as_str().unwrap().contains("shop.toml:4"), "{told}");
    assert_eq!(told["statements"][0]["masked"], serde_json::json!(["shop.customers.email"]));
    assert_eq!(told["statements"][0]["hidden"][0], "shop.customers.password_hash");
    assert_eq!(told["enforced_by"][0]["layers"], serde_json::json!(["postgres", "proxy"]));
    let sent = told["sent"].as_str().unwrap();
    assert!(sent.starts_with("SELECT lower(email) FROM (SELECT id, pgate.m_"), "{sent}");

    desk.write("query.sql", "DELETE FROM shop.orders WHERE id = 1");
    let arguments = [
        "explain",
        "policy",
        "query.sql",
        "--role",
        "readonly",
        "--catalog",
        "policy/tests/shop.json",
    ];
    let text = desk.pgate(&arguments).await.succeeds().stdout;
    for expected in [
        "relations  shop.orders (delete)",
        "verdict  deny",
        "rule     builtin.default-deny",
        "nothing is sent to PostgreSQL",
        "Postgres + proxy: builtin.default-deny",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_may_only_read_is_enough_and_its_password_stays_secret() {
    let desk = Desk::new(TABLES).await;
    let role = format!("watcher_{}", desk.database);
    desk.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'hunter2'")).await;
    let port = harness::cluster().await.port();
    let url = format!("postgres://{role}:hunter2@127.0.0.1:{port}/postgres?sslmode=disable\n");
    desk.write("url", &url);
    fs::remove_file(desk.path("policy/admin-url")).unwrap();
    let check = ["check", "policy", "--target", "prod-db", "--output", "json"];
    let without = desk.pgate(&check).await.exits(1);
    assert!(without.problem()["message"].as_str().unwrap().contains("admin-url"));
    assert!(without.problem()["hint"].as_str().unwrap().contains("--database-url-file"));

    let with = desk.pgate(&[&check[..], &["--database-url-file", "url"]].concat()).await;
    let told = with.json();
    let unsampled = told["examined"]["unsampled"].as_array().unwrap();
    assert_eq!(unsampled.len(), 2, "it may read no table: {told}");
    assert!(codes(&told, "warning").contains(&"personal-unmasked shop.customers.phone".into()));

    let mut command = pgate(desk.folder.path());
    command
        .args(["policy", "catalog"])
        .env("PGATE_DATABASE_URL", url.trim().replace("hunter2", "wrong"));
    let refused = run(command).await.exits(1);
    assert!(!refused.stderr.contains("wrong"), "{}", refused.stderr);
    desk.sql(&format!("DROP ROLE {role}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_wrong_with_a_database_is_found_at_once_and_what_is_told_mends_it() {
    let desk = Desk::new(TABLES).await;
    desk.sql(
        "CREATE VIEW shop.emails AS SELECT email FROM shop.customers;
         CREATE VIEW shop.counts AS SELECT count(*) AS n FROM shop.orders;
         CREATE FUNCTION shop.peek(shop.customers, text) RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT $2';
         CREATE PROCEDURE shop.purge() LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
         GRANT USAGE, CREATE ON SCHEMA shop, public TO PUBLIC;
         GRANT SELECT ON shop.customers TO PUBLIC;
         GRANT INSERT ON shop.orders TO PUBLIC;
         GRANT SELECT (email), UPDATE (phone) ON shop.customers TO PUBLIC;
         CREATE EXTENSION postgres_fdw;
         CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw;
         CREATE FOREIGN TABLE shop.remote (id int, mail text) SERVER elsewhere;",
    )
    .await;
    desk.write(
        "policy/shop.toml",
        &POLICY.replace(
            "\"shop.customers.email\"]",
            "\"shop.customers.email\", \"shop.customers.emial\"]",
        ),
    );
    let check = ["check", "policy", "--target", "prod-db", "--output", "json"];
    let ended = desk.pgate(&check).await.exits(1);
    // Values are looked at and never told.
    assert!(!ended.stdout.contains("planted4711") && !ended.stdout.contains("901820"));
    let told = ended.json();
    assert_eq!(told["ok"], false);
    assert_eq!(
        codes(&told, "error"),
        [
            "public-column-privilege shop.customers",
            "public-create-schema schema public",
            "public-create-schema schema shop",
            "public-privilege shop.customers",
            "public-privilege shop.orders",
            "public-security-definer shop.peek(shop.customers, text)",
            "public-security-definer shop.purge()",
            "rule-without-object shop.customers.emial",
        ]
    );
    let warnings = codes(&told, "warning");
    for expected in [
        "foreign-table shop.remote",
        "personal-unmasked shop.customers.phone",
        "personal-unmasked shop.orders.note",
        "personal-unmasked shop.remote.mail",
        "public-temporary",
        "superuser-view shop.counts",
        "superuser-view shop.emails",
    ] {
        assert!(
            warnings.iter().any(|found| found.starts_with(expected)),
            "{expected}: {warnings:?}"
        );
    }
    let note = told["examined"]["findings"].as_array().unwrap().iter();
    let note = note.clone().find(|f| f["object"] == "shop.orders.note").unwrap();
    assert!(note["problem"].as_str().unwrap().contains("1 of 2 sampled values"), "{note}");

    // Whoever does what it says has nothing left to do.
    for finding in told["examined"]["findings"].as_array().unwrap() {
        let statements =
            finding["mend"].as_array().unwrap().iter().filter_map(|m| m["sql"].as_str());
        for sql in statements.filter(|sql| !sql.contains('…')) {
            desk.sql(sql).await;
        }
    }
    desk.write("policy/shop.toml", POLICY);
    let mended = desk.pgate(&check).await.json();
    assert_eq!(codes(&mended, "error"), Vec::<String>::new());
    // What only a person can choose is left: covers, foreign tables, and before PostgreSQL 15,
    // which brought security_invoker, a view's owner.
    let version = harness::cluster().await.psql(&desk.database, "SHOW server_version_num").await;
    let of_owner = version.unwrap().trim() < "150000";
    let left = codes(&mended, "warning");
    let chosen = |found: &String| {
        found.starts_with("personal")
            || found.starts_with("foreign")
            || (of_owner && found.starts_with("superuser-view"))
    };
    assert!(left.iter().all(chosen), "{left:?}");
    desk.pgate(&["check", "policy", "--target", "prod-db", "--strict"]).await.exits(1);

    let names = desk.pgate(&[&check[..], &["--no-sample"]].concat()).await.json();
    assert!(!codes(&names, "warning").contains(&"personal-unmasked shop.orders.note".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_at_a_database_runs_nobody_s_code() {
    // A trap that works in a read-only transaction too: it writes to the server's log.
    let trap = "LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'the trap was sprung'; RETURN";
    let desk = Desk::new(&format!(
        "CREATE SCHEMA shop;
         CREATE FUNCTION shop.trap() RETURNS boolean {trap} true; END $$;
         CREATE FUNCTION shop.left(text, int) RETURNS text {trap} $1; END $$;
         CREATE FUNCTION shop.never(text, text) RETURNS boolean {trap} true; END $$;
         CREATE OPERATOR shop.= (LEFTARG = text, RIGHTARG = text, FUNCTION = shop.never);
         CREATE TABLE shop.plain (email text);
         CREATE TABLE shop.guarded (email text);
         INSERT INTO shop.guarded VALUES ('ana@example.com');
         INSERT INTO shop.plain VALUES ('ana@example.com');
         ALTER TABLE shop.guarded ENABLE ROW LEVEL SECURITY;
         CREATE POLICY trap ON shop.guarded USING (shop.trap());
         CREATE VIEW shop.lure AS SELECT 'x'::text AS email, shop.trap() AS t;"
    ))
    .await;
    let role = format!("reader_{}", desk.database);
    desk.sql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA shop TO {role};
         GRANT SELECT ON ALL TABLES IN SCHEMA shop TO {role};
         ALTER DATABASE {} SET search_path = shop, pg_catalog",
        desk.database
    ))
    .await;
    let port = harness::cluster().await.port();
    desk.write("url", &format!("postgres://{role}:x@127.0.0.1:{port}/postgres?sslmode=disable"));
    let check = [
        "check",
        "policy",
        "--target",
        "prod-db",
        "--database-url-file",
        "url",
        "--output",
        "json",
    ];
    let told = desk.pgate(&check).await.json();
    assert_eq!(told["examined"]["unsampled"], serde_json::json!(["shop.guarded"]));
    let findings = told["examined"]["findings"].to_string();
    assert!(findings.contains("1 of 1 sampled values look like e-mail addresses"), "{findings}");
    assert!(!harness::cluster().await.log().contains("the trap was sprung"));
    // It would have been seen.
    desk.sql("SELECT shop.trap()").await;
    assert!(harness::cluster().await.log().contains("the trap was sprung"));
    desk.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_beside_the_policy_pass_or_say_what_is_different() {
    let desk = Desk::new(TABLES).await;
    desk.save_catalog().await;
    desk.write(
        "policy/tests/readonly.toml",
        r#"
catalog = "shop.json"
role = "readonly"
[[case]]
name = "addresses are masked"
sql = "SELECT id FROM shop.customers"
expect = "allow"
rule = "role.readonly.allow[0]"
masked = ["shop.customers.email"]
[[case]]
sql = "SELECT key FROM shop.api_keys"
expect = "deny"
rule = "role.readonly.deny[0]"
[[case]]
sql = "SELECT  note FROM shop.orders"
expect = "allow"
masked = []
sent = "SELECT note FROM shop.orders"
"#,
    );
    let passed = desk.pgate(&["test"]).await.succeeds();
    assert!(
        passed
            .stdout
            .contains("pass  policy/tests/readonly.toml:4  readonly: addresses are masked")
    );
    assert!(passed.stderr.contains("ok: 3 cases"), "{}", passed.stderr);
    // They are no policy, wherever they stand.
    let cases = fs::read_to_string(desk.path("policy/tests/readonly.toml")).unwrap();
    desk.write("policy/again.test.toml", &cases.replace("shop.json", "tests/shop.json"));
    desk.pgate(&["check", "policy"]).await.succeeds();
    let both = desk.pgate(&["test", "policy", "--output", "json"]).await.succeeds().json();
    assert_eq!((&both["passed"], &both["failed"]), (&6.into(), &0.into()));

    desk.write(
        "policy/tests/readonly.toml",
        &cases.replace("expect = \"deny\"", "expect = \"allow\""),
    );
    let failed = desk.pgate(&["test", "policy/tests"]).await.exits(1);
    assert!(failed.stdout.contains("FAIL  policy/tests/readonly.toml:10"), "{}", failed.stdout);
    assert!(
        failed.stdout.contains("expected allow, got deny by role.readonly.deny[0]"),
        "{}",
        failed.stdout
    );
    assert!(failed.stderr.contains("1 of 3 cases failed"), "{}", failed.stderr);

    desk.write("policy/tests/readonly.toml", &cases.replace("masked = []", "mased = []"));
    let wrong = desk.pgate(&["test", "policy/tests"]).await.exits(1);
    assert!(
        wrong.stderr.contains(
            "readonly.toml:17:1: `case[2].mased` is not a key of pgate; did you mean `masked`?"
        ),
        "{}",
        wrong.stderr
    );
    fs::remove_dir_all(desk.path("policy/tests")).unwrap();
    fs::remove_file(desk.path("policy/again.test.toml")).unwrap();
    desk.pgate(&["test"]).await.exits(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_policies_differ_by_the_statements_that_they_decide_otherwise() {
    let desk = Desk::new(TABLES).await;
    desk.save_catalog().await;
    copy(&desk.path("policy"), &desk.path("old"));
    desk.write(
        "queries.sql",
        "SELECT note FROM shop.orders;\n-- raw now?\nSELECT id FROM shop.customers;\nSELECT key\nFROM shop.api_keys;\n",
    );
    let diff = ["diff", "old", "policy", "queries.sql", "--catalog", "policy/tests/shop.json"];
    let same = desk.pgate(&diff).await.succeeds();
    assert_eq!(same.stdout, "");
    assert!(same.stderr.contains("3 statements by role: 0 change verdict"), "{}", same.stderr);

    let newer = POLICY.replace("with = \"email\"", "with = \"redact\"").replace(
        "deny = [{ actions = [\"*\"], on = [\"shop.api_keys\"], reason = \"secrets\" }]",
        "deny = [{ actions = [\"*\"], on = [\"shop.orders\"] }]",
    );
    desk.write("policy/shop.toml", &newer);
    let text = desk.pgate(&diff).await.exits(1);
    for expected in [
        "allow → deny  readonly: queries.sql:1",
        "deny → allow  readonly: queries.sql:4",
        "allow, rewritten otherwise  readonly: queries.sql:3",
        "old: role.readonly.deny[0] (old/shop.toml:5): role readonly denies select",
        "new: SELECT id FROM (SELECT id, '[redacted]'::pg_catalog.text AS email",
    ] {
        assert!(text.stdout.contains(expected), "{expected} in\n{}", text.stdout);
    }
    let json = desk.pgate(&[&diff[..], &["--output", "json"]].concat()).await.exits(1).json();
    assert_eq!(json["statements"], 3);
    let kinds = json["changes"].as_array().unwrap().iter().map(|change| change["change"].clone());
    assert_eq!(kinds.filter(|kind| kind == "verdict").count(), 2);

    // What can't be told is neither the same nor different.
    desk.write("queries.sql", "SELEC 1");
    desk.pgate(&diff).await.exits(2);
    desk.pgate(&["diff", "old", "nowhere", "queries.sql"]).await.exits(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_on_rows_is_told_tried_and_compared_without_asking_postgresql() {
    let desk = Desk::new(TABLES).await;
    desk.save_catalog().await;
    let counting = |rows: u32| {
        format!(
            "[role.clerk]\ntargets = [\"prod-db\"]\nfunctions = [\"shop.*\"]\n\
             allow = [{{ actions = [\"select\", \"update\"], on = [\"shop.orders\"] }}]\n\
             hold = [{{ actions = [\"update\"], on = [\"shop.orders\"], when = \"rows > {rows}\", \
             reviewers = \"group:dba\" }}]\n\
             deny = [{{ actions = [\"update\"], on = [\"shop.orders\"], when = \"rows > 5000\", \
             reason = \"in small parts\" }}]\n"
        )
    };
    desk.write("policy/clerk.toml", &counting(1000));
    let sql = "UPDATE shop.orders SET note = NULL WHERE id < 10";
    let flags = ["explain", "policy", "--role", "clerk", "--catalog", "policy/tests/shop.json"];
    let explain = |rows: &[&'static str]| [&flags[..], &["--sql", sql], rows].concat();
    let told = desk.pgate(&explain(&[])).await.succeeds();
    for expected in [
        "allow",
        "refused if more than 5000 rows are estimated; undone if it writes more than 5000",
        "held if more than 1000 rows are estimated, or none can be; undone if it writes more than \
         1000 (role.clerk.hold[0]",
    ] {
        assert!(told.stdout.contains(expected), "{expected} in\n{}", told.stdout);
    }
    for (rows, verdict) in [("1000", "allow"), ("1001", "hold"), ("5001", "deny")] {
        let rows = ["--rows", rows, "--output", "json"];
        let json = desk.pgate(&explain(&rows)).await.succeeds().json();
        assert_eq!(json["verdict"], verdict, "{json}");
        assert_eq!(json["on_rows"][1]["most"], 1000, "{json}");
    }
    // What can't be estimated is held, however few rows it hits.
    let own = ["--sql", "UPDATE shop.orders SET note = shop.f(note)", "--output", "json"];
    desk.sql("CREATE FUNCTION shop.f(text) RETURNS text LANGUAGE sql AS 'SELECT $1'").await;
    desk.save_catalog().await;
    let json = desk.pgate(&[&flags[..], &own].concat()).await.succeeds().json();
    assert_eq!(json["verdict"], "hold", "{json}");
    let says = json["on_rows"][1]["says"].as_str().unwrap();
    assert!(says.starts_with("held, as the written rows can't be estimated: it calls"), "{says}");

    desk.write(
        "policy/tests/clerk.toml",
        &format!(
            "catalog = \"shop.json\"\nrole = \"clerk\"\n\
             [[case]]\nsql = \"{sql}\"\nexpect = \"allow\"\n\
             [[case]]\nsql = \"{sql}\"\nrows = 2000\nexpect = \"hold\"\n\
             [[case]]\nsql = \"{sql}\"\nrows = 9000\nexpect = \"deny\"\n"
        ),
    );
    let passed = desk.pgate(&["test"]).await.succeeds();
    assert!(passed.stderr.contains("ok: 3 cases"), "{}", passed.stderr);

    copy(&desk.path("policy"), &desk.path("old"));
    desk.write("policy/clerk.toml", &counting(10));
    desk.write("queries.sql", sql);
    let diff = ["diff", "old", "policy", "queries.sql", "--catalog", "policy/tests/shop.json"];
    let text = desk.pgate(&[&diff[..], &["--role", "clerk"]].concat()).await.exits(1);
    for expected in [
        "allow, its rows ruled otherwise  clerk: queries.sql:1",
        "old: held if more than 1000 rows are estimated",
        "new: held if more than 10 rows are estimated",
    ] {
        assert!(text.stdout.contains(expected), "{expected} in\n{}", text.stdout);
    }
    assert!(text.stderr.contains("1 have their rows ruled otherwise"), "{}", text.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_session_is_decided_again_under_its_own_role() {
    let stage = harness::stage().await;
    harness::run(
        stage,
        "ana",
        &[
            "connect",
            "prod-db",
            "--role",
            "readonly",
            "--reason",
            "policy diff",
            "--",
            "psql",
            "-Atc",
            "SELECT count(*) FROM shop.orders",
        ],
    )
    .exits(0);
    let sessions = harness::run(stage, "ana", &["sessions", "list", "--output", "json"]).exits(0);
    let list: Value = serde_json::from_str(&sessions.stdout).unwrap();
    let sessions = list["sessions"].as_array().unwrap();
    let session = sessions.iter().find(|s| s["reason"] == "policy diff").unwrap_or(&sessions[0]);
    let id = session["id"].as_str().or(session["session"].as_str()).expect("an id").to_owned();
    let log = harness::run(stage, "ana", &["log", "export", &id]).exits(0).stdout;

    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("session.jsonl"), log).unwrap();
    copy(&stage.server_folder().join("policy"), &at("old"));
    copy(&at("old"), &at("new"));
    let mut command = pgate(folder.path());
    command.args(["policy", "catalog", "--to", "shop.json"]);
    command.env("PGATE_DATABASE_URL", stage.cluster().admin_url_of("shop").expose_secret());
    run(command).await.succeeds();
    let diff = ["policy", "diff", "old", "new", "session.jsonl", "--catalog", "shop.json"];
    let mut command = pgate(folder.path());
    command.args(diff);
    run(command).await.succeeds();

    let text = fs::read_to_string(at("new/shop.toml")).unwrap();
    let closed = text.replacen(
        "[role.readonly]",
        "[role.readonly]\ndeny = [{ actions = [\"select\"], on = [\"shop.orders\"] }]",
        1,
    );
    let closed = if text.contains("\ndeny = ") {
        text.replacen(
            "\ndeny = [",
            "\ndeny = [{ actions = [\"select\"], on = [\"shop.orders\"] }, ",
            1,
        )
    } else {
        closed
    };
    fs::write(at("new/shop.toml"), closed).unwrap();
    let mut command = pgate(folder.path());
    command.args(diff);
    let ended = run(command).await.exits(1);
    assert!(ended.stdout.contains("allow → deny  readonly: session.jsonl:"), "{}", ended.stdout);
    assert!(ended.stdout.contains("SELECT count(*) FROM shop.orders"), "{}", ended.stdout);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
