//! Rules reach what shows a relation's rows by any way: tables of two parents, views over
//! two tables, views over views.

use super::*;
use crate::{
    policy::{Enforcement, compile, parse},
    sql::{analyse, on_large_stack},
};

const POLICY: &str = r#"
[target.t]
url = "postgres://localhost/shop"
credential = { kind = "ephemeral", admin_url = "env:ADMIN_URL" }

[role.kin]
targets = ["t"]
allow = [
    { actions = ["*"], on = ["w.*"] },
    { actions = ["update"], columns = ["w.known.memo"] },
]
deny = [
    { actions = ["update"], columns = ["w.b.memo"] },
    { actions = ["truncate"], on = ["w.b"] },
    { actions = ["copy"], on = ["w.b"] },
    { actions = ["select"], on = ["w.b"], when = "rows > 50" },
]
hold = [
    { actions = ["delete"], on = ["w.a"], reviewers = "group:a" },
    { actions = ["delete"], on = ["w.b"], reviewers = "group:b" },
    { actions = ["insert"], columns = ["w.a.note"], reviewers = "group:a" },
    { actions = ["insert"], columns = ["w.b.memo"], reviewers = "group:b" },
    { actions = ["select"], on = ["w.a"], when = "rows > 10", reviewers = "group:a" },
]
"#;

fn catalog() -> Catalog {
    let all = [("id", "int8"), ("note", "text"), ("memo", "text")];
    let reads = [("w.a", "id"), ("w.a", "note"), ("w.b", "id"), ("w.b", "memo")];
    let over = [("w.pair", "id"), ("w.pair", "note"), ("w.pair", "memo")];
    Catalog::builder()
        .search_path(&["pg_catalog", "w"])
        .table("w.a", &[("id", "int8"), ("note", "text")])
        .table("w.b", &[("id", "int8"), ("memo", "text")])
        .child("w.child", "w.a")
        .inherits("w.child", "w.b")
        .child("w.grandchild", "w.child")
        .view("w.pair", &all, &reads)
        .as_is("w.pair", "id", ("w.a", "id"))
        .as_is("w.pair", "note", ("w.a", "note"))
        .as_is("w.pair", "memo", ("w.b", "memo"))
        .view("w.over", &all, &over)
        .as_is("w.over", "id", ("w.pair", "id"))
        .as_is("w.over", "note", ("w.pair", "note"))
        .as_is("w.over", "memo", ("w.pair", "memo"))
        .view("w.known", &[("id", "int8"), ("memo", "text")], &[("w.b", "id"), ("w.b", "memo")])
        .as_is("w.known", "id", ("w.b", "id"))
        .as_is("w.known", "memo", ("w.b", "memo"))
        .view("w.unread", &[("id", "int8"), ("x", "text")], &[("w.b", "memo")])
        .build()
}

/// The verdict's rule, all who must approve, and the limits on rows.
fn told(sql: &str) -> String {
    let catalog = catalog();
    let role = parse(&[("w.toml".to_owned(), POLICY.to_owned())]).unwrap().roles["kin"].clone();
    let compiled = compile(&role, &catalog, Enforcement::Ephemeral).unwrap();
    let statements = on_large_stack(|| analyse(sql, &catalog)).unwrap();
    let now = jiff::Timestamp::UNIX_EPOCH;
    let decision = decide(&statements[0], &role, &compiled, &catalog, now);
    let rows = decision.row_rules.iter().map(|rule| format!(" rows:{}", rule.most));
    let rows = rows.collect::<String>();
    match decision.verdict {
        Verdict::Deny(denied) => denied.rule.rule,
        Verdict::Allow(_) => format!("allow{rows}"),
        Verdict::Hold(_) => {
            let who = decision.holds.into_iter().filter_map(|held| held.reviewers);
            let who = who.map(|who| who.to_string()).collect::<Vec<_>>();
            format!("hold {}{rows}", who.join(" "))
        }
    }
}

#[test]
fn every_relation_beneath_has_its_say_and_not_the_first_alone() {
    let both = "hold group:a group:b";
    let cases = [
        ("DELETE FROM a WHERE id = 1", "hold group:a group:b"),
        ("DELETE FROM child WHERE false", both),
        ("DELETE FROM grandchild WHERE false", both),
        ("DELETE FROM pair WHERE false", both),
        ("DELETE FROM over WHERE false", both),
        ("TRUNCATE child", "role.kin.deny[1]"),
        ("TRUNCATE grandchild", "role.kin.deny[1]"),
        ("COPY grandchild TO STDOUT", "role.kin.deny[2]"),
        ("COPY (SELECT id FROM over) TO STDOUT", "role.kin.deny[2]"),
        ("SELECT id FROM child", "allow rows:50 rows:10"),
        ("SELECT id FROM over", "allow rows:50 rows:10"),
        ("SELECT id FROM known", "allow rows:50 rows:10"),
    ];
    for (sql, expected) in cases {
        assert_eq!(told(sql), expected, "{sql}");
    }
}

#[test]
fn a_rule_on_a_column_is_about_every_column_that_stores_into_it() {
    let denied = "role.kin.deny[0]";
    let cases = [
        ("UPDATE b SET memo = '' WHERE id = 1", denied),
        ("UPDATE child SET memo = '' WHERE id = 1", denied),
        ("UPDATE grandchild SET memo = '' WHERE id = 1", denied),
        ("UPDATE over SET memo = '' WHERE id = 1", denied),
        ("UPDATE unread SET x = '' WHERE id = 1", denied),
        ("UPDATE over SET note = '' WHERE id = 1", "allow"),
        ("UPDATE known SET memo = '' WHERE id = 1", "allow"),
        ("INSERT INTO child (id) VALUES (1)", "allow"),
        ("INSERT INTO child (id, note) VALUES (1, '')", "hold group:a"),
        ("INSERT INTO over (id, memo) VALUES (1, '')", "hold group:b"),
        ("INSERT INTO over VALUES (1, '', '')", "hold group:a group:b"),
        ("INSERT INTO grandchild VALUES (1, '', '')", "hold group:a group:b"),
        ("COPY over (memo) FROM STDIN", "role.kin.deny[2]"),
    ];
    for (sql, expected) in cases {
        assert_eq!(told(sql), expected, "{sql}");
    }
}

#[test]
fn postgresql_too_is_told_of_columns_by_where_they_are_stored() {
    let catalog = catalog();
    let role = parse(&[("w.toml".to_owned(), POLICY.to_owned())]).unwrap().roles["kin"].clone();
    let compiled = compile(&role, &catalog, Enforcement::Ephemeral).unwrap();
    let granted = compiled.install_sql("p").join("\n");
    for (privilege, told) in [
        ("UPDATE (id, note) ON TABLE w.over", true),
        ("UPDATE (id, note) ON TABLE w.grandchild", true),
        ("UPDATE (id) ON TABLE w.b", true),
        ("TRUNCATE, MAINTAIN ON TABLE w.child", false),
    ] {
        assert_eq!(granted.contains(privilege), told, "{privilege}\n{granted}");
    }
}
