//! Migrations through `pgate connect`: what is created in a transaction can be
//! used in it, belongs to the owner that the role names, and stays.

use std::{io::Write as _, process::Stdio};

use pgate::demo::stage::{self, Stage};

use crate::harness::{own_stage, pgate};

/// The stage's database.
const DATABASE: &str = "shop";

const POLICY: &str = r#"
[role.migrator]
about = "Migrations"
targets = ["prod-db"]
owner = "app_owner"
search_path = ["shop"]
allow = [{ actions = ["*"], on = ["shop.*"] }, { actions = ["ddl"] }]
deny = [{ actions = ["*"], on = ["shop.api_keys"], reason = "secrets" }]

[[access]]
who = { group = "engineering" }
role = "migrator"
target = "prod-db"
approval = "auto"
"#;

async fn migrated() -> Stage {
    let policy = vec![("migrator.toml".to_owned(), POLICY.to_owned())];
    let stage = own_stage(stage::Options { policy, ..Default::default() }).await;
    let owner = "CREATE ROLE app_owner NOLOGIN;
        GRANT USAGE, CREATE ON SCHEMA shop TO app_owner;
        ALTER TABLE shop.orders OWNER TO app_owner";
    stage.cluster().execute(DATABASE, owner).await.unwrap();
    stage
}

/// Runs a psql script as the migrator; returns the exit code and all that was said.
fn migrate(stage: &Stage, script: &str) -> (Option<i32>, String) {
    let reason = ["--role", "migrator", "--reason", "migration"];
    let psql = ["--", "psql", "-X", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-"];
    let arguments = [["connect", "prod-db"].as_slice(), &reason, &psql].concat();
    let mut child = pgate(stage, "ana", &arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test]
async fn what_a_migration_creates_it_can_fill_in_the_same_transaction() {
    let stage = migrated().await;
    let script = "
        BEGIN;
        CREATE TYPE priority AS ENUM ('low', 'high');
        CREATE TABLE refunds (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            order_id bigint NOT NULL REFERENCES orders (id),
            priority priority NOT NULL DEFAULT 'low'
        );
        CREATE INDEX refunds_order ON refunds (order_id);
        INSERT INTO refunds (order_id, priority) SELECT id, 'high'::priority FROM orders WHERE id <= 3;
        ALTER TABLE refunds ADD COLUMN reason text;
        UPDATE refunds r SET reason = 'order ' || r.order_id WHERE r.reason IS NULL;
        ALTER TABLE refunds RENAME TO repayments;
        COPY shop.repayments (order_id) FROM STDIN;
4
5
\\.
        SAVEPOINT a;
        CREATE TABLE scrap (n int);
        INSERT INTO scrap VALUES (1);
        ROLLBACK TO a;
        ALTER TABLE orders ADD COLUMN repaid boolean;
        UPDATE orders o SET repaid = true WHERE o.repaid IS NULL AND o.id <= 5;
        COMMIT;
        SELECT 'left: ' || count(*) || ' ' || count(reason) FROM repayments;
        SELECT 'repaid: ' || count(*) FROM orders o WHERE o.repaid;
    ";
    let (code, said) = migrate(&stage, script);
    assert_eq!(code, Some(0), "{said}\n{}", stage.server_log());
    assert!(said.contains("left: 5 3") && said.contains("repaid: 5"), "{said}");

    let owners = "SELECT string_agg(DISTINCT pg_get_userbyid(relowner), ',') FROM pg_class
        WHERE relname IN ('repayments', 'refunds_order', 'refunds_id_seq')";
    let owners = stage.cluster().psql(DATABASE, owners).await.unwrap();
    assert_eq!(owners.trim(), "app_owner");
}

#[tokio::test]
async fn in_a_migration_too_what_is_denied_stays_denied_under_any_name() {
    let stage = migrated().await;
    for statement in [
        "ALTER TABLE api_keys RENAME TO new_keys",
        "ALTER TABLE api_keys SET SCHEMA public",
        "CREATE TABLE copied AS SELECT * FROM api_keys",
        "CREATE TABLE copied (LIKE api_keys)",
        "CREATE VIEW seen AS SELECT * FROM api_keys",
        "CREATE TABLE child () INHERITS (api_keys)",
        "SELECT * FROM api_keys",
        "INSERT INTO elsewhere.made_here VALUES (1)",
        "SELECT * FROM pgate.made_here",
    ] {
        let (code, said) =
            migrate(&stage, &format!("BEGIN; CREATE TABLE made_here (n int); {statement};"));
        assert_eq!(code, Some(3), "{statement}: {said}");
        assert!(said.contains("pgate: "), "{statement}: {said}");
    }
}
