//! Describing the database, as psql and drivers do, is for every role: what they
//! ask is taken from the real psql, and decided on the real catalog.

use pgate::{
    demo::shop,
    policy::{self, Enforcement, Verdict},
    sql::{CATALOG_QUERY, Catalog, analyse, on_large_stack},
};
use sqlx::Row as _;

use crate::harness;

/// What drivers and tools send before anybody asks them anything.
const DRIVERS: &[&str] = &[
    // asyncpg
    "SELECT t.oid, t.typelem AS elemtype, t.typtype AS kind FROM pg_catalog.pg_type AS t \
     WHERE t.oid = ANY('{25,1043}'::oid[])",
    // JDBC
    "SELECT e.typdelim FROM pg_catalog.pg_type t, pg_catalog.pg_type e \
     WHERE t.oid = 1009 and t.typelem = e.oid",
    "SET extra_float_digits = 3",
    "SET application_name = 'PostgreSQL JDBC Driver'",
    "SELECT current_schema(), current_database()",
    "SELECT n.nspname, c.relname, ct.conname, i.keys FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON c.relnamespace = n.oid \
     JOIN pg_catalog.pg_constraint ct ON ct.conrelid = c.oid \
     CROSS JOIN LATERAL (SELECT information_schema._pg_expandarray(ct.conkey) AS keys) i",
    // SQLAlchemy, Django
    "select pg_catalog.version()",
    "show standard_conforming_strings",
    "SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class \
     JOIN pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace \
     WHERE pg_catalog.pg_class.relkind = ANY (ARRAY['r', 'p']) \
     AND pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid)",
    "SELECT table_name FROM information_schema.tables WHERE table_schema = 'shop'",
    "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'orders'",
    // SQLAlchemy's dialects and old JDBC drivers
    "SELECT set_config('bytea_output','hex',false) FROM pg_settings WHERE false",
];

/// What shows values of rows, secrets or other sessions.
const SHUT: &[&str] = &[
    "SELECT * FROM pg_statistic",
    "SELECT * FROM pg_stats",
    "SELECT * FROM pg_stats_ext",
    "SELECT * FROM pg_statistic_ext_data",
    "SELECT * FROM pg_authid",
    "SELECT * FROM pg_shadow",
    "SELECT * FROM pg_user_mapping",
    "SELECT * FROM pg_user_mappings",
    "SELECT * FROM information_schema.user_mapping_options",
    "SELECT * FROM pg_stat_activity",
    "SELECT * FROM pg_stat_replication",
    "SELECT * FROM pg_locks",
    "SELECT * FROM pg_largeobject",
    "SELECT * FROM pg_file_settings",
    "SELECT * FROM pg_hba_file_rules",
    "SELECT * FROM pg_subscription",
    "SELECT * FROM pg_cursors",
    "SELECT * FROM pg_prepared_statements",
    "SELECT * FROM pg_replication_slots",
    "UPDATE pg_class SET relname = 'x'",
    "DELETE FROM pg_catalog.pg_attribute",
    "SELECT pg_stat_get_activity(NULL)",
    "SELECT set_config('row_security', 'off', false) FROM pg_settings",
    "SELECT * FROM pg_ls_dir('.')",
];

#[tokio::test]
async fn psql_and_drivers_may_describe_the_database_and_nobody_may_look_behind_it() {
    let cluster = harness::cluster().await;
    let database = harness::database().await;
    cluster.execute("postgres", &format!("DROP DATABASE {database}")).await.unwrap();
    shop::create(cluster, &database).await.unwrap();
    let mut admin = cluster.connect(&database).await.unwrap();
    let row = sqlx::raw_sql(CATALOG_QUERY).fetch_one(&mut admin).await.unwrap();
    let catalog = Catalog::from_json(row.try_get_unchecked::<&str, _>(0).unwrap()).unwrap();
    let target = shop::target_policy(cluster.port(), &database, "ADMIN_URL");
    let files =
        [("shop.toml".to_owned(), shop::POLICY.to_owned()), ("target.toml".to_owned(), target)];
    let role = policy::parse(&files).unwrap().roles["readonly"].clone();
    let compiled = policy::compile(&role, &catalog, Enforcement::Ephemeral).unwrap();
    let decided = |sql: &str| {
        let statements = on_large_stack(|| analyse(sql, &catalog)).expect(sql);
        let now = jiff::Timestamp::now();
        let decide = |statement| policy::decide(statement, &role, &compiled, &catalog, now).verdict;
        statements.iter().map(decide).collect::<Vec<_>>()
    };

    let commands = r"\set ECHO_HIDDEN on
        \d
        \dt+
        \d+ shop.*
        \d+ shop.customers
        \df+ shop.*
        \dn+
        \du+
        \l+
        \dp shop.*
        \di+ shop.*
        \ds shop.*
        \dv+ shop.*
        \dm shop.*
        \dT+ shop.*
        \dx
        \db
        \dP+ shop.*
        \dd shop.*
        \drds
        \dO
        \dC
        \do pg_catalog.=
        \da pg_catalog.count
        \sf shop.order_age
        \sv shop.open_tickets";
    // psql asks servers newer than itself for columns that are gone.
    let psql = cluster.psql(&database, r"\echo :VERSION_NUM").await.unwrap();
    let psql = psql.trim().parse::<u32>().unwrap() / 10_000;
    let commands = match psql < cluster.binaries().major {
        true => commands.replace(r"\l+", "").replace(r"\dO", ""),
        false => commands.to_owned(),
    };
    let script = format!("SET search_path = shop;\n{commands}");
    let printed = cluster.psql(&database, &script).await.unwrap();
    let asked = printed
        .split("********* QUERY **********\n")
        .skip(1)
        .filter_map(|part| part.split("**************************").next())
        .collect::<Vec<_>>();
    assert!(asked.len() > 40, "{} queries were seen:\n{printed}", asked.len());
    let mut refused = Vec::new();
    for sql in asked {
        for verdict in decided(sql) {
            if !matches!(verdict, Verdict::Allow(_)) {
                refused.push(format!("{verdict:?}\n{sql}"));
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n\n"));

    for sql in DRIVERS {
        let verdicts = decided(sql);
        assert!(verdicts.iter().all(|v| matches!(v, Verdict::Allow(_))), "{sql}\n{verdicts:?}");
    }
    for sql in SHUT {
        let verdicts = decided(sql);
        assert!(verdicts.iter().all(|v| matches!(v, Verdict::Deny(_))), "{sql}\n{verdicts:?}");
    }
}
