//! One list of settings, whichever way leads to them.

use super::*;
use crate::{
    policy::{Enforcement, compile, parse},
    sql::{analyse, on_large_stack},
};

/// What would show values, load code, or change who runs statements and how they are read.
const DANGEROUS: [(&str, &str); 24] = [
    ("debug_print_plan", "on"),
    ("debug_print_parse", "on"),
    ("client_min_messages", "debug5"),
    ("client_min_messages", "debug"),
    ("client_min_messages", "log"),
    ("client_min_messages", "info"),
    ("log_statement", "all"),
    ("log_min_duration_statement", "0"),
    ("log_min_messages", "debug5"),
    ("session_preload_libraries", "x"),
    ("local_preload_libraries", "x"),
    ("dynamic_library_path", "/tmp"),
    ("search_path", "evil"),
    ("row_security", "off"),
    ("standard_conforming_strings", "off"),
    ("client_encoding", "LATIN1"),
    ("session_replication_role", "replica"),
    ("role", "postgres"),
    ("session_authorization", "postgres"),
    ("backslash_quote", "on"),
    ("default_transaction_read_only", "off"),
    ("zero_damaged_pages", "on"),
    ("statement_timeout", "0"),
    ("statement_timeout", "1h"),
];

/// The ways, by NAME and VALUE.
const WAYS: [&str; 13] = [
    "SET NAME = 'VALUE'",
    "SET SESSION NAME TO 'VALUE'",
    "SET LOCAL NAME TO 'VALUE'",
    "SELECT set_config('NAME', 'VALUE', false)",
    "SELECT pg_catalog.set_config(is_local => true, setting_name => 'NAME', new_value => 'VALUE')",
    "CREATE FUNCTION shop.f() RETURNS int LANGUAGE sql SET NAME = 'VALUE' AS 'SELECT 1'",
    "CREATE PROCEDURE shop.f() LANGUAGE sql SET NAME TO 'VALUE' AS 'SELECT 1'",
    "ALTER FUNCTION shop.order_age SET NAME TO 'VALUE'",
    "ALTER ROLE app SET NAME TO 'VALUE'",
    "ALTER ROLE ALL SET NAME TO 'VALUE'",
    "ALTER USER app IN DATABASE shop SET NAME TO 'VALUE'",
    "ALTER DATABASE shop SET NAME TO 'VALUE'",
    "ALTER SYSTEM SET NAME TO 'VALUE'",
];

const POLICY: &str = r#"
[target.t]
url = "postgres://localhost/shop"
credential = { kind = "ephemeral", admin_url = "env:ADMIN_URL" }
[role.all]
targets = ["t"]
owner = "app_owner"
allow = [{ actions = ["*"] }]
settings = ["*"]
limits = { statement_timeout = "30s" }
"#;

fn all() -> Role {
    parse(&[("t.toml".to_owned(), POLICY.to_owned())]).unwrap().roles["all"].clone()
}

#[test]
fn no_way_leads_to_a_dangerous_setting_not_even_for_whom_everything_is_open() {
    let role = all();
    let catalog = Catalog::builder().function("shop.order_age", false, false).build();
    let compiled = compile(&role, &catalog, Enforcement::Ephemeral).unwrap();
    let now = jiff::Timestamp::UNIX_EPOCH;
    let verdict = |sql: &str| {
        let statements = on_large_stack(|| analyse(sql, &catalog)).unwrap();
        decide(&statements[0], &role, &compiled, &catalog, now).verdict
    };
    for (name, value) in DANGEROUS {
        for way in WAYS {
            let sql = way.replace("NAME", name).replace("VALUE", value);
            assert!(matches!(verdict(&sql), Verdict::Deny(_)), "{sql}");
        }
        assert!(refuse_at_startup(name, value, &role).is_some(), "{name} = {value} at start");
    }
    // What isn't on either list differs by way only where it outlives the session.
    for way in WAYS[..8].iter().filter(|way| !way.contains("=>")) {
        let sql = way.replace("NAME", "client_min_messages").replace("VALUE", "warning");
        assert!(matches!(verdict(&sql), Verdict::Allow(_)), "{sql}");
    }
}

#[test]
fn the_start_up_takes_exactly_what_set_takes_of_every_setting() {
    let open = all();
    let named = |names: &[&str]| Role {
        settings: names.iter().map(ToString::to_string).collect(),
        ..open.clone()
    };
    let unlimited = Role { limits: crate::policy::Limits::default(), ..named(&["work_mem"]) };
    let roles =
        [named(&["statement_timeout", "temp_buffers"]), named(&[]), unlimited, open.clone()];
    let catalog = Catalog::builder().build();
    let now = jiff::Timestamp::UNIX_EPOCH;
    let names = include_str!("settings.txt").lines().map(|line| line.split_once(": ").unwrap().0);
    // What only SET has, and the path, which nobody knows yet at the start.
    let names = names.filter(|name| !matches!(*name, "*" | "names" | "search_path"));
    let compiled =
        roles.each_ref().map(|role| compile(role, &catalog, Enforcement::Ephemeral).unwrap());
    let mut taken = 0;
    for name in names.chain(["shop.tenant", "log_unheard_of", "unheard_of"]) {
        for value in ["on", "0", "10s", "5 min", "warning", "UTF8", "x"] {
            let sql = format!(r#"SET "{}" = '{value}'"#, name.replace('.', r#"".""#));
            let statements = on_large_stack(|| analyse(&sql, &catalog)).unwrap();
            for (role, compiled) in roles.iter().zip(&compiled) {
                let verdict = decide(&statements[0], role, compiled, &catalog, now).verdict;
                let set = matches!(verdict, Verdict::Allow(_));
                let sent = refuse_at_startup(name, value, role).is_none();
                assert_eq!(set, sent, "{sql} under {:?}: {verdict:?}", role.settings);
                taken += usize::from(sent);
            }
        }
    }
    assert!(taken > 1_000, "{taken}");
}

#[test]
fn the_start_up_takes_what_set_takes() {
    let role = all();
    for (name, value, taken) in [
        ("datestyle", "ISO, MDY", true),
        ("client_min_messages", "WARNING", true),
        ("statement_timeout", "10s", true),
        ("default_transaction_read_only", "on", true),
        ("work_mem", "64MB", true),
        ("nonsense", "1", false),
        ("*", "1", false),
        ("names", "UTF8", false),
        ("search_path", "pg_catalog", false),
    ] {
        assert_eq!(refuse_at_startup(name, value, &role).is_none(), taken, "{name} = {value}");
    }
    let closed = Role { settings: Vec::new(), ..role };
    assert!(refuse_at_startup("work_mem", "64MB", &closed).is_some());
}
