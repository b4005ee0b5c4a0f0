//! What a session knows of its database's tables: in large databases, and while somebody
//! else changes them.

use super::*;

#[tokio::test]
async fn in_a_large_database_tables_are_known_once_they_are_named() {
    let database = harness::database().await;
    let cluster = harness::cluster().await;
    let many = "CREATE TABLE orders (id int PRIMARY KEY, item text);
        CREATE TABLE far (id int, item text);
        INSERT INTO orders VALUES (1, 'one'), (2, 'two');
        INSERT INTO far VALUES (2, 'remote');
        DO $$ BEGIN FOR n IN 1..2000 LOOP
          EXECUTE format('CREATE TABLE t%s (id int)', n);
        END LOOP; END $$;";
    cluster.execute(&database, many).await.expect("tables");
    let hour = Timestamp::now() + SignedDuration::from_hours(1);
    let session = Session::with(access(cluster, &database), hour, role(ROWS)).await.unwrap();
    let script = "SELECT o.item, f.item FROM orders o JOIN far f USING (id);
        INSERT INTO far SELECT * FROM orders WHERE id = 1;
        SELECT item FROM orders NATURAL JOIN (SELECT id FROM far WHERE item = 'one') f;
        DELETE FROM orders WHERE id = 1;
        SELECT nosuch FROM t77;
        SELECT count(*) FROM t77, t78;";
    let (out, err, _) = session.script(script).await;
    assert_eq!(out, "two|remote\none\n0\n", "{err}");
    assert!(err.contains("orders are kept"), "{err}");
    assert!(err.contains("column \"nosuch\" does not exist"), "{err}");
}

/// `name` and `note` may be read, `ssn` is masked; the database role is a superuser's.
fn masking() -> Arc<Role> {
    let text = r#"
        [target.test]
        url = "postgres://127.0.0.1:5432/test?sslmode=disable"
        credential = { kind = "static", user = "app", password = "env:UNUSED" }

        [role.reader]
        targets = ["test"]
        allow = [{ actions = ["select"], on = ["public.*"] }]
        mask = [{ columns = ["public.customers.ssn"], with = "redact" }]
        "#;
    let policy = policy::parse(&[("test.toml".to_owned(), text.to_owned())]).expect("well written");
    Arc::new(policy.roles["reader"].clone())
}

#[tokio::test]
async fn with_a_static_credential_what_was_swapped_after_a_parse_is_seen_by_the_next_execution() {
    let swaps = [
        // A table without masks makes room for a view of masked values.
        "DROP TABLE notes; CREATE VIEW notes AS SELECT id, upper(ssn) AS note FROM customers",
        "DROP TABLE notes; CREATE TABLE notes AS SELECT id, ssn AS note FROM customers;
         ALTER TABLE notes RENAME TO other; ALTER TABLE customers RENAME TO notes;
         ALTER TABLE notes RENAME ssn TO note",
        // Two columns change their names.
        "ALTER TABLE customers RENAME ssn TO x; ALTER TABLE customers RENAME name TO ssn;
         ALTER TABLE customers RENAME x TO name",
        // The masked table moves behind a view of its name, which no rule covers there.
        "ALTER TABLE customers RENAME TO hidden;
         CREATE VIEW customers AS SELECT id, ssn AS name, name AS ssn FROM hidden",
        // A view is replaced.
        "CREATE OR REPLACE VIEW shown AS SELECT id, reverse(ssn) AS name FROM customers",
        // Inheritance brings masked rows under a clean table's name.
        "ALTER TABLE customers ADD note text; UPDATE customers SET note = ssn;
         ALTER TABLE customers INHERIT notes",
    ];
    futures_util::future::join_all(swaps.map(nothing_shows_after)).await;
}

async fn nothing_shows_after(swap: &str) {
    const SECRET: &str = "7-SECRET-7";
    let database = harness::database().await;
    let cluster = harness::cluster().await;
    let set_up = format!(
        "CREATE TABLE customers (id int, name text, ssn text);
         CREATE TABLE notes (id int, note text);
         CREATE VIEW shown AS SELECT id, name FROM customers;
         INSERT INTO customers VALUES (1, 'Ana', '{SECRET}');
         INSERT INTO notes VALUES (1, 'a note')"
    );
    cluster.execute(&database, &set_up).await.expect("tables");
    let hour = Timestamp::now() + SignedDuration::from_hours(1);
    let session = Session::with(access(cluster, &database), hour, masking()).await.unwrap();
    let endpoints = session.endpoints();
    let options = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(endpoints.port)
        .username(&endpoints.user)
        .password(endpoints.password.expose_secret())
        .database(&endpoints.database);
    let mut connection = sqlx::PgConnection::connect_with(&options).await.unwrap();
    let queries = [
        "SELECT concat(note, '') FROM notes WHERE id >= $1",
        "SELECT concat(name, '') FROM customers WHERE id >= $1",
        "SELECT concat(name, '') FROM shown WHERE id >= $1",
    ];
    for sql in queries {
        let row = sqlx::query(sql).bind(1).fetch_one(&mut connection).await.unwrap();
        assert!(!row.get::<String, _>(0).contains("SECRET"), "{sql}");
    }
    cluster.execute(&database, &format!("BEGIN; {swap}; COMMIT")).await.expect("a swap");
    // Nobody follows the catalog here: it is the statement itself that has to ask.
    sleep(Duration::from_millis(2100)).await;
    for sql in queries {
        // Refused, or masked: both are right.
        let rows = sqlx::query(sql).bind(1).fetch_all(&mut connection).await.unwrap_or_default();
        for row in rows {
            let shown = row.get::<String, _>(0);
            let turned: String = shown.chars().rev().collect();
            assert!(!(shown + &turned).contains("SECRET"), "{sql} after {swap}");
        }
    }
}
