//! What PostgreSQL itself enforces: somebody has taken the session's own database
//! password out of the process and talks to the server directly.

use pgate::{
    demo::shop,
    policy::{self, Compiled, Enforcement, Role},
    sql::{CATALOG_QUERY, Catalog},
};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Row as _,
    postgres::{PgConnectOptions, PgSslMode},
};

use crate::harness;

/// The sample shop with one role of the sample policy installed, and a connection
/// as a session's database role.
struct Taken {
    database: String,
    role: Role,
    admin: PgConnection,
    session: PgConnection,
    compiled: Compiled,
}

impl Taken {
    async fn new(role: &str) -> Self {
        Self::with_policy(role, shop::POLICY).await
    }

    async fn with_policy(role: &str, text: &str) -> Self {
        let cluster = harness::cluster().await;
        let database = harness::database().await;
        cluster.execute("postgres", &format!("DROP DATABASE {database}")).await.unwrap();
        shop::create(cluster, &database).await.unwrap();
        let target = shop::target_policy(cluster.port(), &database, "ADMIN_URL");
        let files = [("shop.toml".to_owned(), text.to_owned()), ("target.toml".to_owned(), target)];
        let policy = policy::parse(&files).unwrap();
        let role = policy.roles[role].clone();
        let mut admin = cluster.connect(&database).await.unwrap();
        let compiled = install(&role, &mut admin).await;
        let name = format!("session_{database}");
        run(
            &mut admin,
            &format!(
                "CREATE ROLE {name} LOGIN PASSWORD 'taken' IN ROLE {}",
                compiled.privilege_role()
            ),
        )
        .await
        .unwrap();
        let session = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(cluster.port())
            .username(&name)
            .password("taken")
            .database(&database)
            .ssl_mode(PgSslMode::Disable)
            .connect()
            .await
            .unwrap();
        Self { database, role, admin, session, compiled }
    }

    async fn catalog(&mut self) -> Catalog {
        catalog(&mut self.admin).await
    }

    /// The replacement for a scan of this relation, as the session installed it.
    async fn replacement(&mut self, relation: &str) -> String {
        let catalog = self.catalog().await;
        let (schema, name) = relation.split_once('.').unwrap();
        let oid = catalog.relation_named(schema, name).unwrap().oid;
        self.compiled.replacement_for(oid, false).unwrap()
    }

    /// What the server says to the session: the first column of the rows, as text, or the SQLSTATE.
    async fn ask(&mut self, sql: &str) -> Result<Vec<Option<String>>, String> {
        run(&mut self.session, sql).await
    }

    async fn close(self) {
        let Self { database, mut admin, session, compiled, .. } = self;
        session.close().await.unwrap();
        let name = format!("session_{database}");
        let privileges = compiled.privilege_role();
        run(
            &mut admin,
            &format!("DROP OWNED BY {privileges}, {name}; DROP ROLE {name}, {privileges}"),
        )
        .await
        .unwrap();
    }
}

async fn catalog(admin: &mut PgConnection) -> Catalog {
    let text = run(admin, CATALOG_QUERY).await.unwrap().remove(0).unwrap();
    Catalog::from_json(&text).unwrap()
}

/// As the broker does it: all in one transaction.
async fn install(role: &Role, admin: &mut PgConnection) -> Compiled {
    let compiled = policy::compile(role, &catalog(admin).await, Enforcement::Ephemeral).unwrap();
    let statements = compiled.install_sql(compiled.privilege_role());
    let mut transaction = admin.begin().await.unwrap();
    for statement in statements {
        let done = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut *transaction).await;
        done.unwrap_or_else(|error| panic!("{statement}\n{error}"));
    }
    transaction.commit().await.unwrap();
    compiled
}

async fn run(connection: &mut PgConnection, sql: &str) -> Result<Vec<Option<String>>, String> {
    match sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await {
        Ok(rows) => Ok(rows.iter().map(|row| row.try_get_unchecked(0).unwrap()).collect()),
        Err(sqlx::Error::Database(error)) => Err(error.code().unwrap_or_default().into_owned()),
        Err(error) => panic!("{sql}: {error}"),
    }
}

/// `insufficient_privilege`.
const DENIED: &str = "42501";

#[tokio::test]
async fn a_reader_with_the_password_reads_no_masked_column_and_no_denied_table_and_writes_nothing()
{
    let mut taken = Taken::new("readonly").await;
    let denied = [
        "SELECT email FROM shop.customers",
        "SELECT ssn FROM shop.customers",
        "SELECT password_hash FROM shop.customers",
        "SELECT * FROM shop.customers",
        "TABLE shop.customers",
        "SELECT customers FROM shop.customers",
        "SELECT row_to_json(c) FROM shop.customers c",
        "SELECT to_jsonb(c) FROM shop.customers c",
        "SELECT count(email) FROM shop.customers",
        "SELECT 1 FROM shop.customers WHERE email LIKE 'a%'",
        "SELECT id FROM shop.customers ORDER BY ssn",
        "SELECT a.id FROM shop.customers a JOIN shop.customers b USING (email)",
        "COPY shop.customers TO STDOUT",
        "COPY (SELECT email FROM shop.customers) TO STDOUT",
        "SELECT card_number FROM shop.payments",
        "SELECT body FROM shop.support_tickets",
        "SELECT contact FROM shop.support_tickets",
        "SELECT ip FROM shop.visits",
        "SELECT ip FROM shop.visits_2026_q1",
        "SELECT email FROM shop.open_tickets",
        "SELECT secret FROM shop.api_keys",
        "SELECT id FROM shop.api_keys",
        "INSERT INTO shop.orders DEFAULT VALUES",
        "UPDATE shop.customers SET name = 'x' WHERE id = 1",
        "UPDATE shop.customers SET name = email WHERE id = 1",
        "DELETE FROM shop.customers WHERE id = 1",
        "DELETE FROM shop.customers RETURNING email",
        "TRUNCATE shop.visits",
        "SELECT id FROM shop.customers FOR UPDATE",
        "CREATE TABLE shop.copied AS SELECT id FROM shop.customers",
        "CREATE VIEW shop.seen AS SELECT email FROM shop.customers",
        "ALTER TABLE shop.customers ADD COLUMN x int",
        "DROP TABLE shop.customers",
        "CREATE FUNCTION pgate.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SELECT * FROM pg_catalog.pg_statistic",
        "SELECT nextval('shop.customers_id_seq')",
    ];
    let owner = format!("pgate_mask_{}", taken.database);
    let becomes = [
        format!("SET ROLE {owner}"),
        format!("SET SESSION AUTHORIZATION {owner}"),
        format!("GRANT {owner} TO CURRENT_USER"),
    ];
    for sql in denied.into_iter().chain(becomes.iter().map(String::as_str)) {
        assert_eq!(taken.ask(sql).await.unwrap_err(), DENIED, "{sql}");
    }
    let statistics = "SELECT most_common_vals::text FROM pg_stats \
        WHERE schemaname = 'shop' AND attname IN ('email', 'ssn', 'iban', 'password_hash')";
    assert_eq!(taken.ask(statistics).await.unwrap(), []);

    let clean = taken.ask("SELECT name FROM shop.customers WHERE id = 1").await.unwrap();
    assert_eq!(clean.len(), 1);
    assert_eq!(
        taken.ask("SELECT count(*) FROM shop.orders").await.unwrap(),
        [Some("20000".into())]
    );
    assert!(taken.ask("SELECT name FROM shop.open_tickets").await.is_ok());
    assert!(taken.ask("SELECT shop.order_age(now())").await.is_ok());
    taken.close().await;
}

#[tokio::test]
async fn what_stands_for_a_scan_shows_masks_of_the_same_types_and_never_a_raw_value() {
    let mut taken = Taken::new("readonly").await;
    let select = taken.replacement("shop.customers").await;
    let columns = ["email", "ssn", "phones", "address", "last_ip"];
    for column in columns {
        // NULL stays NULL, and everything else differs from what is stored, for every row.
        let sql = format!("SELECT {column}::text FROM ({select}) c ORDER BY id");
        let shown = taken.ask(&sql).await.unwrap();
        let raw = format!("SELECT {column}::text FROM shop.customers ORDER BY id");
        let raw = run(&mut taken.admin, &raw).await.unwrap();
        assert_eq!(shown.len(), usize::try_from(shop::CUSTOMERS).unwrap());
        for (shown, raw) in shown.iter().zip(&raw) {
            assert!(raw.is_none() || shown != raw, "{column}: {raw:?}");
        }
    }
    let first = |column: &str| format!("SELECT {column}::text FROM ({select}) c WHERE id = 1");
    let email = taken.ask(&first("email")).await.unwrap().remove(0).unwrap();
    assert!(email.contains("***@") && email.len() < 40, "{email}");
    let ssn = taken.ask(&first("ssn")).await.unwrap().remove(0).unwrap();
    assert!(ssn.starts_with("*******") && ssn.ends_with("0001"), "{ssn}");
    let born = taken.ask(&first("birth_date")).await.unwrap().remove(0).unwrap();
    assert!(born.ends_with("-01-01"), "{born}");
    let income = taken.ask(&first("(income % 10000)")).await.unwrap().remove(0).unwrap();
    assert!(income.parse::<f64>().unwrap() == 0.0, "{income}");
    assert_eq!(taken.ask(&first("address")).await.unwrap(), [Some("{}".into())]);
    assert_eq!(
        taken.ask("SELECT 1 FROM (SELECT password_hash FROM shop.customers) c").await.unwrap_err(),
        DENIED
    );

    // Types and order are the table's own; the hidden column is left out.
    let shape = |from: &str| format!("CREATE TEMP TABLE shape AS SELECT * FROM {from} LIMIT 0");
    let described = "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) \
        FROM pg_attribute WHERE attrelid = 'pg_temp.shape'::regclass AND attnum > 0";
    taken.ask(&shape(&format!("({select}) c"))).await.unwrap();
    let masked = taken.ask(described).await.unwrap().remove(0).unwrap();
    run(&mut taken.admin, &shape("shop.customers")).await.unwrap();
    let own = run(&mut taken.admin, described).await.unwrap().remove(0).unwrap();
    assert_eq!(masked, own.replace("password_hash text, ", ""));

    let visits = taken.replacement("shop.visits").await;
    let shown = format!("SELECT DISTINCT host(ip) FROM ({visits}) v");
    assert_eq!(taken.ask(&shown).await.unwrap(), [Some("0.0.0.0".into())]);
    taken.close().await;
}

#[tokio::test]
async fn masks_cost_nothing_where_they_are_not_read_and_leave_indexes_in_use() {
    let mut taken = Taken::new("readonly").await;
    let select = taken.replacement("shop.customers").await;
    let plan = |sql: String| format!("EXPLAIN (VERBOSE, COSTS OFF) {sql}");
    let count = plan(format!("SELECT count(*) FROM ({select}) c WHERE country = 'DE'"));
    let lines = taken.ask(&count).await.unwrap().into_iter().flatten().collect::<Vec<_>>();
    let told = lines.join("\n");
    assert!(told.contains("customers_country") && !told.contains("pgate."), "{told}");
    let point = plan(format!("SELECT email FROM ({select}) c WHERE id = 5"));
    let told =
        taken.ask(&point).await.unwrap().into_iter().flatten().collect::<Vec<_>>().join("\n");
    assert!(told.contains("customers_pkey") && told.contains("pgate.m_"), "{told}");
    taken.close().await;
}

#[tokio::test]
async fn migrations_of_masked_columns_go_through_and_the_masks_fail_closed() {
    let mut taken = Taken::new("readonly").await;
    let select = taken.replacement("shop.customers").await;
    let sql = format!("SELECT email::text FROM ({select}) c WHERE id = 1");
    assert!(taken.ask(&sql).await.is_ok());
    let migrations = [
        "ALTER TABLE shop.customers ALTER COLUMN ssn TYPE text",
        "ALTER TABLE shop.customers RENAME COLUMN income TO yearly_income",
        "ALTER TABLE shop.customers DROP COLUMN birth_date",
        "DROP VIEW shop.open_tickets",
        "ALTER TABLE shop.customers ALTER COLUMN email TYPE text",
        "ALTER TABLE shop.customers RENAME COLUMN email TO mail",
    ];
    for migration in migrations {
        run(&mut taken.admin, migration).await.unwrap_or_else(|code| panic!("{migration}: {code}"));
    }
    // The old text names columns that are gone; the privileges went with the columns.
    assert!(taken.ask(&sql).await.is_err());
    for column in ["mail", "ssn", "yearly_income"] {
        let raw = format!("SELECT {column} FROM shop.customers");
        assert_eq!(taken.ask(&raw).await.unwrap_err(), DENIED, "{raw}");
    }

    // A new column is not there for anybody until the policy is compiled anew.
    run(&mut taken.admin, "ALTER TABLE shop.customers ADD COLUMN secret text DEFAULT 's'")
        .await
        .unwrap();
    assert_eq!(taken.ask("SELECT secret FROM shop.customers").await.unwrap_err(), DENIED);

    // A table that takes another's place is not read through the old one's masks.
    run(&mut taken.admin, "ALTER TABLE shop.payments RENAME TO old_payments").await.unwrap();
    run(&mut taken.admin, "CREATE TABLE shop.payments (LIKE shop.old_payments)").await.unwrap();
    assert_eq!(taken.ask("SELECT iban FROM shop.payments").await.unwrap_err(), DENIED);
    assert_eq!(taken.ask("SELECT id FROM shop.payments").await.unwrap_err(), DENIED);
    taken.close().await;
}

#[tokio::test]
async fn a_mask_says_nothing_of_a_value_that_is_not_of_its_type_any_more() {
    let mut taken = Taken::new("readonly").await;
    let select = taken.replacement("shop.customers").await;
    let sql = format!("SELECT birth_date::text FROM ({select}) c WHERE id = 1");
    let before = taken.ask(&sql).await.unwrap();
    assert!(before[0].as_deref().is_some_and(|date| date.ends_with("-01-01")), "{before:?}");
    let altered = "ALTER TABLE shop.customers ALTER COLUMN birth_date TYPE text USING 'planted'";
    run(&mut taken.admin, altered).await.unwrap();
    let grant = "GRANT SELECT (ctid, tableoid) ON shop.customers TO PUBLIC";
    run(&mut taken.admin, grant).await.unwrap();
    for _ in 0..2 {
        let answer = sqlx::query(AssertSqlSafe(sql.as_str())).fetch_all(&mut taken.session).await;
        let error = answer.unwrap_err().to_string();
        assert!(!error.contains("planted") && error.contains("date"), "{error}");
    }
    taken.close().await;
}

#[tokio::test]
async fn installing_again_changes_nothing_and_takes_back_what_others_granted() {
    let mut taken = Taken::new("readonly").await;
    let functions = "SELECT string_agg(oid::text || proname, ',' ORDER BY proname) \
        FROM pg_proc WHERE pronamespace = 'pgate'::regnamespace";
    let before = run(&mut taken.admin, functions).await.unwrap();
    let grants = [
        "GRANT SELECT ON shop.api_keys",
        "GRANT SELECT (email) ON shop.customers",
        "GRANT INSERT ON shop.orders",
        "GRANT CREATE ON SCHEMA shop",
        "GRANT EXECUTE ON FUNCTION shop.forget_customer(bigint)",
        "GRANT USAGE ON SEQUENCE shop.orders_id_seq",
    ];
    for grant in grants {
        let sql = format!("{grant} TO {}", taken.compiled.privilege_role());
        run(&mut taken.admin, &sql).await.unwrap();
    }
    assert!(taken.ask("SELECT email FROM shop.customers").await.is_ok());
    let role = taken.role.clone();
    let again = install(&role, &mut taken.admin).await;
    assert_eq!(again.privilege_role(), taken.compiled.privilege_role());
    assert_eq!(run(&mut taken.admin, functions).await.unwrap(), before);
    for sql in [
        "SELECT email FROM shop.customers",
        "SELECT id FROM shop.api_keys",
        "INSERT INTO shop.orders DEFAULT VALUES",
        "CREATE TABLE shop.mine (n int)",
        "SELECT nextval('shop.orders_id_seq')",
    ] {
        assert_eq!(taken.ask(sql).await.unwrap_err(), DENIED, "{sql}");
    }
    taken.close().await;
}

/// Views of every sort over the shop's masked columns, and a role that may read all.
const VIEWS: &str = r#"
CREATE VIEW shop.people AS SELECT id, name, email AS mail, upper(ssn) AS loud, income FROM shop.customers;
CREATE VIEW shop.people_again AS SELECT p.id, p.mail FROM shop.people p JOIN shop.orders o ON o.id = p.id;
CREATE VIEW shop.whole AS SELECT id, row_to_json(c) AS r FROM shop.customers c;
CREATE VIEW shop.gmail AS SELECT id, name FROM shop.customers WHERE email LIKE '%.com';
CREATE VIEW shop.of_gmail AS SELECT o.id FROM shop.orders o WHERE EXISTS (SELECT FROM shop.gmail g WHERE g.id = o.customer_id);
CREATE VIEW shop.richest AS SELECT id FROM shop.customers ORDER BY income DESC LIMIT 10;
CREATE VIEW shop.mails AS SELECT email FROM shop.customers;
CREATE VIEW shop.both AS SELECT id, name FROM shop.customers UNION ALL SELECT id, ssn FROM shop.customers;
CREATE VIEW shop.barrier WITH (security_barrier) AS SELECT id, email FROM shop.customers WHERE country = 'DE';
CREATE VIEW shop.ranked AS SELECT id, rank() OVER (ORDER BY income) AS place FROM shop.customers;
CREATE FUNCTION shop.email_of(bigint) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
    AS 'SELECT email FROM shop.customers WHERE id = $1';
CREATE VIEW shop.fetched AS SELECT id, shop.email_of(id) AS mail FROM shop.orders;
CREATE MATERIALIZED VIEW shop.kept AS SELECT id, email, lower(ssn) AS tail, country FROM shop.customers;
CREATE MATERIALIZED VIEW shop.kept_of AS SELECT email FROM shop.kept WHERE id < 100;
CREATE MATERIALIZED VIEW shop.kept_gmail AS SELECT id FROM shop.customers WHERE email LIKE '%.com';
"#;

const VIEWER: &str = r#"
[role.viewer]
targets = ["prod-db"]
allow = [{ actions = ["select", "insert", "update", "delete"], on = ["shop.*"] }]
mask = [{ columns = ["shop.customers.email"], with = "email" },
        { columns = ["shop.customers.ssn"], with = { fixed = "000-00-0000" } },
        { columns = ["shop.customers.income"], with = "null" }]
hide = ["shop.customers.password_hash"]
"#;

#[tokio::test]
async fn views_over_masked_columns_show_masks_and_give_nothing_raw_to_whoever_has_the_password() {
    let mut taken = Taken::with_policy("viewer", VIEWER).await;
    run(&mut taken.admin, VIEWS).await.unwrap();
    let role = taken.role.clone();
    taken.compiled = install(&role, &mut taken.admin).await;
    let denied = [
        "SELECT mail FROM shop.people",
        "SELECT loud FROM shop.people",
        "SELECT income FROM shop.people",
        "SELECT id FROM shop.people WHERE mail LIKE 'a%'",
        "SELECT p FROM shop.people p",
        "SELECT * FROM shop.people",
        "SELECT mail FROM shop.people_again",
        "SELECT r FROM shop.whole",
        "SELECT name FROM shop.both",
        "SELECT place FROM shop.ranked",
        "SELECT mail FROM shop.fetched",
        "SELECT email FROM shop.barrier",
        "SELECT email FROM shop.mails",
        "SELECT count(*) FROM shop.mails",
        "SELECT email FROM shop.kept",
        "SELECT tail FROM shop.kept",
        "SELECT email FROM shop.kept_of",
        // Which rows there are tells, so there is no privilege whatever.
        "SELECT id FROM shop.gmail",
        "SELECT count(*) FROM shop.gmail",
        "SELECT id FROM shop.of_gmail",
        "SELECT id FROM shop.richest",
        "SELECT id FROM shop.kept_gmail",
        "DELETE FROM shop.gmail",
        "UPDATE shop.gmail SET name = name",
        "UPDATE shop.people SET name = 'x' WHERE mail LIKE 'a%'",
        "UPDATE shop.people SET name = mail",
        "UPDATE shop.people SET name = 'x' RETURNING mail",
    ];
    for sql in denied {
        assert_eq!(taken.ask(sql).await.unwrap_err(), DENIED, "{sql}");
    }
    let clean = [
        "SELECT id, name FROM shop.people",
        "SELECT id FROM shop.people_again",
        "SELECT id FROM shop.whole",
        "SELECT id FROM shop.both",
        "SELECT id FROM shop.barrier",
        "SELECT id FROM shop.ranked",
        "SELECT id FROM shop.fetched",
        "SELECT id, country FROM shop.kept",
        "SELECT * FROM shop.open_tickets WHERE false",
        "SELECT * FROM shop.sales_by_country",
    ];
    for sql in clean {
        let sql = sql.replace("* FROM shop.open_tickets", "id, name FROM shop.open_tickets");
        assert!(taken.ask(&sql).await.is_ok(), "{sql}");
    }

    let shown = async |taken: &mut Taken, view: &str, column: &str| {
        let select = taken.replacement(view).await;
        let sql = format!("SELECT DISTINCT {column}::text FROM ({select}) v ORDER BY 1 LIMIT 2");
        taken.ask(&sql).await.unwrap_or_else(|code| panic!("{sql}: {code}"))
    };
    let constants = [
        ("shop.people", "mail", Some("[redacted]")),
        ("shop.people", "loud", Some("[redacted]")),
        ("shop.people", "income", None),
        ("shop.people_again", "mail", Some("[redacted]")),
        ("shop.both", "name", Some("[redacted]")),
        ("shop.ranked", "place", Some("0")),
        ("shop.fetched", "mail", Some("[redacted]")),
        ("shop.barrier", "email", Some("[redacted]")),
        ("shop.kept", "tail", Some("[redacted]")),
    ];
    for (view, column, expected) in constants {
        let told = shown(&mut taken, view, column).await;
        assert_eq!(told, [expected.map(str::to_owned)], "{view}.{column}");
    }
    // A materialised view has rows of its own, so its columns show their own mask.
    for view in ["shop.kept", "shop.kept_of"] {
        let told = shown(&mut taken, view, "email").await;
        assert!(told.iter().flatten().all(|mail| mail.contains("***@")), "{view}: {told:?}");
        assert_eq!(told.len(), 2, "{view}");
    }
    taken.close().await;
}

#[tokio::test]
async fn a_writer_with_the_password_writes_what_it_may_and_nothing_else() {
    let mut taken = Taken::new("writer").await;
    let allowed = [
        "INSERT INTO shop.visits (customer_id, path, ip, visited_at) \
         VALUES (1, '/', '10.0.0.1', '2026-01-02')",
        "UPDATE shop.customers SET email = 'new@example.com' WHERE id = 1",
        "DELETE FROM shop.support_tickets WHERE id = 1",
    ];
    for sql in allowed {
        assert_eq!(taken.ask(sql).await, Ok(Vec::new()), "{sql}");
    }
    let denied = [
        "SELECT password_hash FROM shop.customers",
        "UPDATE shop.customers SET password_hash = 'x' WHERE id = 1",
        "UPDATE shop.customers SET name = 'x' WHERE password_hash LIKE '$2b$%'",
        "UPDATE shop.customers SET name = 'x' WHERE id = 1 RETURNING password_hash",
        "DELETE FROM shop.customers WHERE id = 1 RETURNING *",
        "INSERT INTO shop.api_keys (name) VALUES ('x')",
        "TRUNCATE shop.visits",
        "CREATE TABLE shop.mine (n int)",
        "DROP TABLE shop.visits",
    ];
    for sql in denied {
        assert_eq!(taken.ask(sql).await.unwrap_err(), DENIED, "{sql}");
    }
    taken.close().await;
}

#[tokio::test]
async fn columns_that_rules_let_a_role_write_are_the_only_ones_that_postgresql_lets_it_write() {
    let policy = r#"
        [role.support]
        targets = ["shop"]
        allow = [
            { actions = ["select"], on = ["shop.*"] },
            { actions = ["insert", "update"], columns = ["shop.support_tickets.state", "shop.support_tickets.body"] },
            { actions = ["update"], on = ["shop.orders"] },
            { actions = ["delete"], on = ["shop.api_keys"], days = ["mon"], zone = "UTC" },
        ]
        deny = [{ actions = ["update"], columns = ["shop.orders.total"] }]
    "#;
    let target = shop::target_policy(1, "shop", "ADMIN_URL");
    let name = target.lines().find_map(|line| line.strip_prefix("[target.")?.strip_suffix(']'));
    let policy = policy.replace("[\"shop\"]", &format!("[\"{}\"]", name.expect("a target")));
    let mut taken = Taken::with_policy("support", &policy).await;
    let allowed = [
        "UPDATE shop.support_tickets SET state = 'closed' WHERE id = 1",
        "UPDATE shop.support_tickets SET state = 'closed', body = '' WHERE id = 1",
        "UPDATE shop.orders SET placed_at = now(), status = status WHERE id = 1",
        "SELECT id FROM shop.support_tickets WHERE id = 1 FOR UPDATE",
        // PostgreSQL knows no hours: the proxy keeps them.
        "DELETE FROM shop.api_keys WHERE id = 1",
    ];
    for sql in allowed {
        assert!(taken.ask(sql).await.is_ok(), "{sql}");
    }
    let denied = [
        "UPDATE shop.support_tickets SET subject = '' WHERE id = 1",
        "UPDATE shop.support_tickets SET state = 'closed', subject = '' WHERE id = 1",
        "INSERT INTO shop.support_tickets (customer_id, state) VALUES (1, 'open')",
        "UPDATE shop.orders SET total = 0 WHERE id = 1",
        "UPDATE shop.orders SET placed_at = now(), total = 0 WHERE id = 1",
        "DELETE FROM shop.support_tickets WHERE id = 1",
    ];
    for sql in denied {
        assert_eq!(taken.ask(sql).await, Err(DENIED.to_owned()), "{sql}");
    }
    taken.close().await;
}
