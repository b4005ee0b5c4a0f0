//! The catalog query on a real PostgreSQL, and what psql asks of one.

use std::collections::BTreeSet;

use pgate::{
    demo::cluster::{Cluster, Options},
    policy::{self, Enforcement, Role},
    sql::{
        AttributeNumber, CATALOG_QUERY, Catalog, EPOCH_QUERY, Foreseen, Name, Origin, RelationKind,
        Resolution, analyse, columns_query, on_large_stack,
    },
};

const SCHEMA: &str = r#"
CREATE SCHEMA shop;
CREATE TYPE shop.mood AS ENUM ('good', 'bad');
CREATE DOMAIN shop.short AS varchar(100);
CREATE DOMAIN shop.shorter AS shop.short CHECK (length(VALUE) < 50);
CREATE TABLE shop.customers (
    id bigint PRIMARY KEY, name text NOT NULL, email shop.shorter, ssn varchar(11), gone int,
    code char(3), one "char", bits bit(3), amount numeric(10, 2), tags text[],
    names varchar(10)[], mood shop.mood, moods shop.mood[], data jsonb, took interval(3),
    padded bpchar, oids oidvector, "Odd ""Name" int,
    full_name text GENERATED ALWAYS AS (name || ssn) STORED);
ALTER TABLE shop.customers DROP COLUMN gone;
CREATE TABLE shop.orders (id bigint, customer_id bigint) PARTITION BY RANGE (id);
CREATE TABLE shop.orders_1 PARTITION OF shop.orders FOR VALUES FROM (1) TO (10);
CREATE VIEW shop.names AS SELECT id, name FROM shop.customers;
CREATE VIEW shop.whole AS SELECT k.id, row_to_json(k) AS r FROM shop.customers k;
CREATE VIEW shop.again AS SELECT r FROM shop.whole;
CREATE MATERIALIZED VIEW shop.kept AS SELECT ssn FROM shop.customers;
CREATE INDEX customers_name ON shop.customers (name);
CREATE FUNCTION shop.purge() RETURNS int LANGUAGE sql SECURITY DEFINER STABLE AS 'SELECT 1';
CREATE FUNCTION shop.tail(shop.customers) RETURNS text LANGUAGE sql AS 'SELECT $1.ssn';
CREATE FUNCTION shop.never(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR shop.= (LEFTARG = int, RIGHTARG = int, FUNCTION = shop.never);
CREATE OPERATOR shop.<> (LEFTARG = oid, RIGHTARG = oid, FUNCTION = pg_catalog.oideq);
CREATE FUNCTION shop.length(text) RETURNS int LANGUAGE sql AS 'SELECT 0';
CREATE ROLE nobody_special LOGIN;
"#;

/// The catalog as the query returns it after `set_up`.
async fn load(cluster: &Cluster, set_up: &str) -> Catalog {
    Catalog::from_json(&document(cluster, set_up, CATALOG_QUERY).await).unwrap()
}

/// The one JSON document that a query returns after `set_up`.
async fn document(cluster: &Cluster, set_up: &str, query: &str) -> String {
    let text = cluster.psql("postgres", &format!("{set_up};\n{query};\n")).await.unwrap();
    text.lines().rfind(|line| line.starts_with('{')).expect("one JSON document").to_owned()
}

fn name(schema: Option<&str>, name: &str) -> Name {
    Name { schema: schema.map(str::to_owned), name: name.into() }
}

#[tokio::test]
async fn the_catalog_of_a_real_server_is_read_whole_by_any_login() {
    let cluster = Cluster::start(Options::default()).await.unwrap();
    cluster.execute("postgres", SCHEMA).await.unwrap();
    let catalog = load(&cluster, "SET search_path = shop, public").await;

    assert_eq!(catalog.database(), "postgres");
    assert_eq!(catalog.user(), "postgres");
    assert!(catalog.server_version_num() >= 140_000);
    assert_eq!(catalog.search_path(), ["pg_catalog", "shop", "public"]);

    let customers = catalog.resolve(&name(None, "customers")).unwrap();
    let types = customers
        .columns
        .iter()
        .map(|column| format!("{} {} {}", column.name, column.type_text, column.base_type))
        .collect::<Vec<_>>();
    let expected = [
        "id bigint int8",
        "name pg_catalog.text text",
        "email shop.shorter varchar",
        "ssn character varying(11) varchar",
        "code character(3) bpchar",
        "one pg_catalog.\"char\" char",
        "bits bit(3) bit",
        "amount numeric(10,2) numeric",
        "tags pg_catalog.text[] _text",
        "names character varying(10)[] _varchar",
        "mood shop.mood shop.mood",
        "moods shop.mood[] shop._mood",
        "data pg_catalog.jsonb jsonb",
        "took interval(3) interval",
        "padded pg_catalog.bpchar bpchar",
        "oids pg_catalog.oidvector oidvector",
        "Odd \"Name integer int4",
        "full_name pg_catalog.text text",
    ];
    assert_eq!(types, expected);
    assert!(customers.column("name").unwrap().not_null);

    assert_eq!(catalog.index_relation(&name(None, "customers_name")).unwrap().oid, customers.oid);
    let kind = |relation| catalog.resolve(&name(Some("shop"), relation)).unwrap().kind;
    assert_eq!(kind("orders"), RelationKind::PartitionedTable);
    assert_eq!(kind("kept"), RelationKind::MaterializedView);
    let purge = catalog.functions(&name(None, "purge")).collect::<Vec<_>>();
    assert!(matches!(purge.as_slice(), [f] if f.security_definer && !f.takes_row));
    assert!(catalog.functions(&name(None, "tail")).all(|f| f.takes_row));
    assert!(!catalog.operator_is_builtin(&name(None, "=")));
    assert!(catalog.operator_is_builtin(&name(Some("pg_catalog"), "=")));
    assert_eq!(catalog.type_is_builtin(&name(None, "mood")), Some(true));
    assert_eq!(catalog.type_is_builtin(&name(None, "nosuch")), None);
    assert!(catalog.has_builtin_function(&name(None, "length")));

    // Whoever reads it sees the same, and so does whoever has put operators of
    // his own in front of PostgreSQL's.
    let others = [
        "SET ROLE nobody_special; SET search_path = shop, public",
        "SET search_path = shop, pg_catalog, public",
        "SET search_path = ''",
    ];
    for set_up in others {
        let other = load(&cluster, set_up).await;
        let found = other.resolve(&name(Some("shop"), "customers")).unwrap();
        assert_eq!(found.fingerprint(), customers.fingerprint(), "{set_up}");
        assert_eq!(
            other.with_search_path(catalog.search_path().to_vec()).fingerprint(),
            catalog.fingerprint(),
            "{set_up}"
        );
    }

    // A change of one column shows in that relation's fingerprint, and no other's.
    let before = (customers.fingerprint(), catalog.fingerprint());
    let orders = catalog.resolve(&name(None, "orders")).unwrap().fingerprint();
    cluster
        .execute("postgres", "ALTER TABLE shop.customers ALTER COLUMN code TYPE char(5)")
        .await
        .unwrap();
    let after = load(&cluster, "SET search_path = shop, public").await;
    let customers = after.resolve(&name(None, "customers")).unwrap();
    assert_ne!(before, (customers.fingerprint(), after.fingerprint()));
    assert_eq!(orders, after.resolve(&name(None, "orders")).unwrap().fingerprint());
}

/// A role that masks and hides by exact names and by patterns.
fn covering() -> Role {
    let text = r#"
        [target.test]
        url = "postgres://127.0.0.1:5432/test?sslmode=disable"
        credential = { kind = "static", user = "app", password = "env:UNUSED" }
        [role.reader]
        targets = ["test"]
        allow = [{ actions = ["select"], on = ["*"] }]
        mask = [{ columns = ["shop.customers.ssn", "*.*.ib*n"], with = "null" }]
        hide = ["shop.custom*s.email", "app.t7.*"]
        "#;
    let policy = policy::parse(&[("test.toml".into(), text.into())]).expect("it is well written");
    policy.roles["reader"].clone()
}

#[tokio::test]
async fn a_large_catalog_begins_with_what_rules_cover_and_is_completed_by_what_is_named() {
    let cluster = Cluster::start(Options::default()).await.unwrap();
    cluster.execute("postgres", SCHEMA).await.unwrap();
    let role = covering();
    let query = policy::foreseen(&role).catalog_query();
    let path = "SET search_path = shop, pg_catalog, public";
    let small = Catalog::from_json(&document(&cluster, path, &query).await).unwrap();
    assert_eq!(small.fingerprint(), load(&cluster, path).await.fingerprint());

    let many = "CREATE SCHEMA app;
        DO $$ BEGIN FOR n IN 1..2000 LOOP
          EXECUTE format('CREATE TABLE app.t%s (id int, \"odd \"\" name\" int)', n);
        END LOOP; END $$;
        ALTER TABLE app.t9 ADD iban int, DROP COLUMN id, ADD twice int GENERATED ALWAYS AS (iban * 2) STORED;
        CREATE TABLE app.child () INHERITS (app.t9);
        CREATE VIEW app.shown AS SELECT iban + 1 AS more FROM app.t9;
        CREATE TABLE app.bare ();";
    cluster.execute("postgres", many).await.unwrap();
    let whole = load(&cluster, path).await;
    let part = Catalog::from_json(&document(&cluster, path, &query).await).unwrap();
    let described = |relation: &str| {
        let (schema, name) = relation.split_once('.').unwrap();
        part.relation_named(schema, name).unwrap().described
    };
    for known in [
        "shop.customers",
        "shop.orders_1",
        "shop.names",
        "shop.kept",
        "app.t9",
        "app.child",
        "app.shown",
        "app.t7",
        "pg_catalog.pg_class",
    ] {
        assert!(described(known), "{known}");
    }
    assert!(whole.relations().all(|relation| relation.described));
    let lacking = part.relations().filter(|relation| !relation.described);
    let lacking = lacking.map(|relation| relation.oid).collect::<BTreeSet<_>>();
    assert!(!described("app.t1") && !described("app.bare") && lacking.len() >= 1999);
    assert!(lacking.iter().all(|oid| part.relation(*oid).unwrap().columns.is_empty()));

    // What is masked doesn't hang on the columns that aren't loaded.
    let masked = |catalog: &Catalog| {
        let compiled = policy::compile(&role, catalog, Enforcement::Static).unwrap();
        compiled.masked_columns().iter().copied().collect::<BTreeSet<_>>()
    };
    assert_eq!(masked(&part), masked(&whole));
    assert!(masked(&whole).len() >= 8, "{:?}", masked(&whole));

    // With the others added it is the whole one; one that has gone stays without.
    let gone = whole.relation_named("app", "t1").unwrap().oid;
    let again = part.describe(&document(&cluster, path, &columns_query(&lacking)).await).unwrap();
    assert_eq!(again.fingerprint(), whole.fingerprint());
    assert!(!part.relation(gone).unwrap().described, "the first one is as it was");
    cluster.execute("postgres", "DROP TABLE app.t1").await.unwrap();
    let late = columns_query(&BTreeSet::from([gone]));
    let late = part.describe(&document(&cluster, path, &late).await).unwrap();
    assert!(!late.relation(gone).unwrap().described);

    let mut named = Foreseen::default();
    named.named(&lacking);
    let named = document(&cluster, path, &named.catalog_query()).await;
    let named = Catalog::from_json(&named).unwrap();
    assert!(named.relation_named("app", "bare").unwrap().described);
}

#[tokio::test]
async fn the_epoch_is_another_after_every_change_and_the_same_after_none() {
    let cluster = Cluster::start(Options::default()).await.unwrap();
    cluster.execute("postgres", SCHEMA).await.unwrap();
    let epoch = async || {
        let path = "SET search_path = shop, pg_catalog, public";
        let text = cluster.psql("postgres", &format!("{path};\n{EPOCH_QUERY};\n")).await.unwrap();
        text.lines().rfind(|line| line.contains('/')).expect("an epoch").to_owned()
    };
    let mut before = epoch().await;
    for unchanging in [
        "INSERT INTO shop.customers (id, name) VALUES (1, 'a')",
        "VACUUM (ANALYZE, FREEZE) shop.customers",
        "CREATE TEMPORARY TABLE t (a int)",
        "CREATE ROLE somebody LOGIN IN ROLE nobody_special; ALTER ROLE somebody SET work_mem = 64",
        "BEGIN; DROP TABLE shop.customers CASCADE; ROLLBACK",
    ] {
        cluster.psql("postgres", &format!("{unchanging};\n")).await.unwrap();
        assert_eq!(epoch().await, before, "{unchanging}");
    }
    for changing in [
        "ALTER TABLE shop.customers RENAME COLUMN one TO eins",
        "ALTER TABLE shop.customers ALTER COLUMN name DROP NOT NULL",
        "ALTER TABLE shop.customers RENAME TO clients",
        "BEGIN; ALTER TABLE shop.clients RENAME TO kunden; ALTER TABLE shop.kunden RENAME TO clients; COMMIT",
        "CREATE OR REPLACE VIEW shop.names AS SELECT id, ssn::text AS name FROM shop.clients",
        "CREATE OR REPLACE VIEW shop.names AS SELECT id, name FROM shop.clients",
        "BEGIN; DROP VIEW shop.names; CREATE VIEW shop.names AS SELECT id, ssn AS name FROM shop.clients; COMMIT",
        "GRANT SELECT ON shop.clients TO nobody_special",
        "GRANT SELECT (ssn) ON shop.clients TO nobody_special",
        "GRANT USAGE ON SCHEMA shop TO nobody_special",
        "GRANT EXECUTE ON FUNCTION shop.purge() TO nobody_special",
        "CREATE OR REPLACE FUNCTION shop.purge() RETURNS int LANGUAGE sql SECURITY DEFINER STABLE AS 'SELECT 2'",
        "ALTER TABLE shop.orders DETACH PARTITION shop.orders_1",
        "CREATE TYPE shop.size AS ENUM ('s', 'm')",
        "CREATE DOMAIN shop.small AS int",
        "ALTER DOMAIN shop.small ADD CONSTRAINT least CHECK (VALUE > 0)",
        "ALTER DOMAIN shop.small DROP CONSTRAINT least",
        "DROP OPERATOR shop.= (int, int)",
        "ALTER SCHEMA shop RENAME TO store",
    ] {
        cluster.psql("postgres", &format!("{changing};\n")).await.unwrap();
        let after = epoch().await;
        assert_ne!(after, before, "{changing}");
        before = after;
    }
}

#[tokio::test]
async fn what_derives_from_a_column_is_found_on_a_real_server() {
    let cluster = Cluster::start(Options::default()).await.unwrap();
    cluster.execute("postgres", SCHEMA).await.unwrap();
    let catalog = load(&cluster, "SET search_path = shop").await;
    let at = |relation: &str, column: &str| {
        let relation = catalog.resolve(&name(None, relation)).unwrap();
        (relation.oid, relation.column(column).unwrap().number)
    };
    let none = BTreeSet::new();
    let derived = catalog.derived_from(&BTreeSet::from([at("customers", "ssn")]), &none).columns;
    let expected = BTreeSet::from([
        at("customers", "full_name"),
        at("whole", "r"),
        at("again", "r"),
        at("kept", "ssn"),
    ]);
    assert_eq!(derived.keys().copied().collect::<BTreeSet<_>>(), expected);
    let derived =
        catalog.derived_from(&BTreeSet::from([at("orders", "customer_id")]), &none).columns;
    let (oid, number) = at("orders", "customer_id");
    assert_eq!(derived.get(&at("orders_1", "customer_id")), Some(&Origin::Same(oid, number)));
    assert!(derived.keys().all(|(_, number)| *number > AttributeNumber::WHOLE_ROW));
}

#[tokio::test]
async fn everything_that_psql_asks_is_known_to_the_catalog() {
    let cluster = Cluster::start(Options::default()).await.unwrap();
    if cluster.binaries().major != 15 {
        // The file holds what PostgreSQL 15 is asked; `introspection` asks any other.
        return;
    }
    let catalog = load(&cluster, "SET search_path = public").await;
    for text in include_str!("../../src/sql/tests/psql.sql").split_inclusive(";\n") {
        let statements = on_large_stack(|| analyse(text, &catalog)).unwrap();
        for facts in statements.iter().map(|statement| &statement.facts) {
            assert_eq!(facts.unclassified, Vec::<String>::new(), "{text}");
            for used in &facts.relations {
                assert_ne!(used.resolution, Resolution::Unknown, "{} in {text}", used.name.name);
            }
            for called in &facts.functions {
                assert!(called.builtin && called.candidates.is_empty(), "{called:?} in {text}");
            }
            assert!(facts.types.iter().all(|named| named.builtin), "{:?} in {text}", facts.types);
            assert!(facts.operators.iter().all(|named| named.builtin), "{text}");
        }
    }
}

#[tokio::test]
async fn an_extensions_compiled_operators_and_types_are_as_good_as_built_in() {
    let cluster = Cluster::start(Options::default()).await.unwrap();
    let catalog =
        load(&cluster, "CREATE EXTENSION citext; CREATE TABLE person (email citext)").await;
    // Were they not, one extension would have every `=` of the database refused.
    assert!(catalog.operator_is_builtin(&name(None, "=")));
    assert_eq!(catalog.type_is_builtin(&name(None, "citext")), Some(true));
    assert_eq!(catalog.functions(&name(None, "citext_eq")).count(), 1);
}
