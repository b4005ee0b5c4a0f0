use super::*;
use crate::{
    policy::{Enforcement, compile, parse},
    sql::{RelationKind, analyse, on_large_stack},
};

/// Lines of `role | verdict | rule | masked | SQL`; `#` begins a remark.
const CASES: &str = include_str!("cases.txt");

fn catalog() -> Catalog {
    let customers = [
        ("id", "int8"),
        ("name", "text"),
        ("email", "varchar"),
        ("ssn", "text"),
        ("password_hash", "text"),
        ("country", "bpchar"),
    ];
    let orders = [("id", "int8"), ("customer_id", "int8"), ("total", "numeric"), ("note", "text")];
    Catalog::builder()
        .table("shop.customers", &customers)
        .table("shop.orders", &orders)
        .table("shop.api_keys", &[("id", "int8"), ("secret", "text")])
        .table("crm.leads", &[("id", "int8"), ("email", "text")])
        .table("shop.visits", &[("id", "int8"), ("ip", "inet")])
        .child("shop.visits_q1", "shop.visits")
        .view("shop.contacts", &[("id", "int8"), ("email", "text")], &[("shop.customers", "email")])
        .view(
            "shop.key_names",
            &[("id", "int8"), ("label", "text")],
            &[("shop.api_keys", "secret")],
        )
        .view("shop.leads_all", &[("id", "int8")], &[("crm.leads", "id")])
        .view("shop.totals", &[("sum", "numeric")], &[("shop.orders", "total")])
        .computed("shop.totals", "sum", &[("shop.orders", "total")])
        .view(
            "shop.people",
            &[("id", "int8"), ("mail", "varchar"), ("loud", "text"), ("secret", "text")],
            &[("shop.customers", "id"), ("shop.customers", "email")],
        )
        .as_is("shop.people", "id", ("shop.customers", "id"))
        .as_is("shop.people", "mail", ("shop.customers", "email"))
        .computed("shop.people", "loud", &[("shop.customers", "email")])
        .as_is("shop.people", "secret", ("shop.customers", "password_hash"))
        .view("shop.gmail", &[("id", "int8")], &[("shop.customers", "*")])
        .as_is("shop.gmail", "id", ("shop.customers", "id"))
        .rows_by("shop.gmail", &[("shop.customers", "email")])
        .view("shop.of_gmail", &[("id", "int8")], &[("shop.gmail", "id"), ("shop.orders", "id")])
        .as_is("shop.of_gmail", "id", ("shop.orders", "id"))
        .view("shop.mails", &[("mail", "varchar")], &[("shop.people", "mail")])
        .as_is("shop.mails", "mail", ("shop.people", "mail"))
        .view("shop.own", &[("id", "int8"), ("mail", "varchar")], &[("shop.customers", "*")])
        .as_is("shop.own", "id", ("shop.customers", "id"))
        .as_is("shop.own", "mail", ("shop.customers", "email"))
        .security_invoker("shop.own")
        .view("shop.purged", &[("id", "int8"), ("n", "int4")], &[("shop.orders", "id")])
        .as_is("shop.purged", "id", ("shop.orders", "id"))
        .relation("shop.orders_id_seq", RelationKind::Sequence, &[("last_value", "int8")])
        .function("shop.order_age", false, false)
        .function("shop.purge", true, false)
        .returned("shop.purged", "n", "shop.purge")
        .table("shop.queue", &[("id", "int8")])
        .write_rules("shop.queue")
        .function("shop.lower", false, false)
        .build()
}

/// A Wednesday noon in Berlin.
fn now() -> jiff::Timestamp {
    "2026-01-14T11:00:00Z".parse().expect("a time")
}

fn role(name: &str) -> Role {
    let files = [("cases.toml".to_owned(), include_str!("cases.toml").to_owned())];
    parse(&files).expect("the roles of the cases").roles[name].clone()
}

fn decided(role: &Role, catalog: &Catalog, sql: &str) -> (String, String, String) {
    let compiled = compile(role, catalog, Enforcement::Ephemeral).expect("it fits");
    let statements = match on_large_stack(|| analyse(sql, catalog)) {
        Ok(statements) => statements,
        Err(error) => panic!("{sql}: {error}"),
    };
    let mut masked = Vec::new();
    let mut first = None;
    for statement in &statements {
        let decision = decide(statement, role, &compiled, catalog, now());
        let refused = |verdict: &str, rule: &RuleRef| (verdict.to_owned(), rule.rule.clone());
        let (verdict, rule) = match &decision.verdict {
            Verdict::Deny(denied) => refused("deny", &denied.rule),
            Verdict::Hold(held) => refused("hold", &held.rule),
            Verdict::Allow(allowed) => {
                masked.extend(allowed.masked.clone());
                first.get_or_insert_with(|| allowed.rule.rule.clone());
                continue;
            }
        };
        let denied = matches!(decision.verdict, Verdict::Deny(_));
        assert!(!denied || decision.replacements.is_empty(), "{sql}");
        assert_eq!(denied, decision.holds.is_empty(), "{sql}");
        return (verdict, rule, String::new());
    }
    masked.dedup();
    ("allow".to_owned(), first.unwrap_or_default(), masked.join(" "))
}

#[test]
fn every_statement_of_the_cases_gets_its_verdict_and_its_rule() {
    let catalog = catalog();
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in CASES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let parts = line.splitn(5, " | ").collect::<Vec<_>>();
        let [name, verdict, rule, masked, sql] = parts.as_slice() else { panic!("{line}") };
        let sql = sql.replace("\\n", "\n");
        let told = decided(&role(name), &catalog, &sql);
        let (told_verdict, told_rule, told_masked) = &told;
        if (told_verdict, told_rule, told_masked)
            != (&(*verdict).to_owned(), &(*rule).to_owned(), &masked.trim().to_owned())
        {
            wrong.push(format!(
                "{name} | {told_verdict} | {told_rule} | {told_masked} | {}",
                sql.replace('\n', "\\n")
            ));
        }
        count += 1;
    }
    assert!(count > 150, "{count} cases were read");
    assert!(wrong.is_empty(), "decided otherwise:\n{}", wrong.join("\n"));
}

#[test]
fn a_refusal_says_what_and_why_and_what_to_do() {
    let catalog = catalog();
    let reader = role("reader");
    let compiled = compile(&reader, &catalog, Enforcement::Ephemeral).unwrap();
    let told = |sql: &str| {
        let statements = on_large_stack(|| analyse(sql, &catalog)).unwrap();
        match decide(&statements[0], &reader, &compiled, &catalog, now()).verdict {
            Verdict::Deny(denied) => format!("{}. {}", denied.reason, denied.hint),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        told("DELETE FROM customers"),
        "role reader does not allow delete on shop.customers. Ask for a role that allows it: \
         `pgate targets` lists those that you may ask for."
    );
    assert_eq!(
        told("SELECT * FROM api_keys"),
        "role reader denies select on shop.api_keys: secrets. No other rule of this role can \
         allow it; ask for another role."
    );
    assert_eq!(
        told("SELECT id FROM customers WHERE email = 'a'"),
        "shop.customers.email is masked for role reader, so a condition on it would compare the \
         mask. Filter by another column; ordering and grouping by it are allowed."
    );
}

#[test]
fn each_scan_of_a_masked_relation_is_replaced_and_no_other() {
    let catalog = catalog();
    let reader = role("reader");
    let compiled = compile(&reader, &catalog, Enforcement::Ephemeral).unwrap();
    let sql = "SELECT c.*, (SELECT count(*) FROM ONLY shop.customers) FROM customers c \
               JOIN orders o ON o.customer_id = c.id";
    let statements = on_large_stack(|| analyse(sql, &catalog)).unwrap();
    let decision = decide(&statements[0], &reader, &compiled, &catalog, now());
    assert_eq!(decision.replacements.len(), 2);
    for replacement in &decision.replacements {
        let used = &statements[0].facts.relations[replacement.relation];
        assert_eq!(used.name.name, "customers");
        let from = if used.only { "FROM ONLY shop.customers" } else { "FROM shop.customers" };
        assert!(replacement.select.ends_with(from), "{}", replacement.select);
        assert!(!replacement.select.contains("password_hash"), "{}", replacement.select);
    }
}

#[test]
fn a_statement_that_two_groups_hold_takes_the_word_of_both() {
    let catalog = catalog();
    let registrar = role("registrar");
    let compiled = compile(&registrar, &catalog, Enforcement::Ephemeral).unwrap();
    let holds = |sql: &str| {
        let statements = on_large_stack(|| analyse(sql, &catalog)).unwrap();
        let decision =
            decide(&statements[0], &registrar, &compiled, &catalog, jiff::Timestamp::UNIX_EPOCH);
        let who = |held: Held| held.reviewers.expect("named").to_string();
        decision.holds.into_iter().map(who).collect::<Vec<_>>()
    };
    assert_eq!(holds("DELETE FROM orders WHERE id = 1"), ["group:dba"]);
    assert_eq!(holds("DELETE FROM orders"), ["group:dba"]);
    let both = "WITH gone AS (DELETE FROM orders RETURNING id) \
                INSERT INTO crm.leads (id) SELECT id FROM gone";
    assert_eq!(holds(both), ["group:dba", "user:lee@example.com"]);
    assert_eq!(holds("SELECT id FROM orders"), [""; 0]);
}

#[test]
fn postgresql_is_given_the_privileges_that_an_approved_statement_needs() {
    let catalog = catalog();
    let compiled = compile(&role("registrar"), &catalog, Enforcement::Ephemeral).unwrap();
    let granted = compiled.install_sql("p").join("\n");
    assert!(granted.contains("DELETE"), "{granted}");
    assert!(compiled.writes(), "a session whose every write is held still writes");
}
