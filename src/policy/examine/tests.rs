use super::*;
use crate::policy::parse;

const POLICY: &str = r#"
[target.prod-db]
url = "postgres://db.internal/shop"
credential = { kind = "ephemeral", admin_url = "env:ADMIN_URL" }

[target.legacy]
url = "postgres://old.internal/shop"
credential = { kind = "static", user = "app", password = "env:APP" }

[role.readonly]
targets = ["prod-db", "legacy"]
allow = [{ actions = ["select"], on = ["shop.*"] }]
deny = [{ actions = ["*"], on = ["shop.api_keys"] }]
mask = [{ columns = ["shop.customers.email"], with = "email" }]
hide = ["shop.customers.password_hash"]
"#;

fn catalog() -> Catalog {
    Catalog::builder()
        .table(
            "shop.customers",
            &[
                ("id", "int8"),
                ("email", "text"),
                ("password_hash", "text"),
                ("phone", "text"),
                ("born", "date"),
            ],
        )
        .table("shop.orders", &[("id", "int8"), ("note", "text")])
        .table("shop.api_keys", &[("id", "int8"), ("key", "text")])
        .table("crm.leads", &[("id", "int8"), ("email", "text")])
        .view("shop.totals", &[("n", "int8")], &[("shop.orders", "id")])
        .build()
}

/// A survey of that catalog in which PUBLIC has nothing but the use of `shop`.
fn survey(catalog: &Catalog) -> Survey {
    let relations = catalog.relations().map(|relation| {
        let holding = Holding { owner: "shop_owner".into(), ..Holding::default() };
        (relation.oid, holding)
    });
    Survey {
        schemas: [("shop".to_owned(), vec!["USAGE".to_owned()]), ("crm".to_owned(), Vec::new())]
            .into(),
        relations: relations.collect(),
        roles: [("shop_owner".to_owned(), false), ("app".to_owned(), false)].into(),
        statistics_repaired: true,
        ..Survey::default()
    }
}

fn oid(catalog: &Catalog, schema: &str, name: &str) -> Oid {
    catalog.relation_named(schema, name).unwrap().oid
}

/// `error code object` of each finding, but for the version of the made-up server.
fn told(policy: &str, target: &str, change: impl FnOnce(&Catalog, &mut Survey)) -> Vec<String> {
    findings(policy, target, change)
        .iter()
        .map(|finding| {
            let severity = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            format!("{severity} {} {}", finding.code, finding.object)
        })
        .collect()
}

fn findings(
    policy: &str,
    target: &str,
    change: impl FnOnce(&Catalog, &mut Survey),
) -> Vec<Finding> {
    let policy = parse(&[("shop.toml".into(), policy.into())]).unwrap();
    let catalog = catalog();
    let mut survey = survey(&catalog);
    change(&catalog, &mut survey);
    let mut findings = examine(&policy, &policy.targets[target], &catalog, Some(&survey));
    findings.retain(|finding| finding.code != "server-version");
    findings
}

/// What the sample catalog and policy have in any case.
const ALWAYS: [&str; 2] = [
    "warning personal-unmasked shop.customers.born",
    "warning personal-unmasked shop.customers.phone",
];

#[test]
fn a_database_that_holds_what_is_promised_has_no_errors() {
    assert_eq!(told(POLICY, "prod-db", |_, _| {}), ALWAYS);
}

#[test]
fn what_public_has_beyond_a_role_is_found_with_what_takes_it_away() {
    type Change = fn(&Catalog, &mut Survey);
    let cases: [(Change, &str, &str); 9] = [
        (
            |c, s| grant(s, oid(c, "shop", "customers"), &["SELECT"]),
            "error public-privilege shop.customers",
            "REVOKE SELECT ON TABLE shop.customers FROM PUBLIC;",
        ),
        (
            |c, s| grant(s, oid(c, "shop", "orders"), &["SELECT", "INSERT"]),
            "error public-privilege shop.orders",
            "REVOKE INSERT ON TABLE shop.orders FROM PUBLIC;",
        ),
        (
            |c, s| grant(s, oid(c, "shop", "api_keys"), &["SELECT"]),
            "error public-privilege shop.api_keys",
            "REVOKE SELECT ON TABLE shop.api_keys FROM PUBLIC;",
        ),
        (
            |c, s| {
                s.schemas.insert("crm".into(), vec!["USAGE".into()]);
                grant(s, oid(c, "crm", "leads"), &["SELECT"]);
            },
            "warning public-privilege crm.leads",
            "REVOKE SELECT ON TABLE crm.leads FROM PUBLIC;",
        ),
        (
            |c, s| {
                let column = (oid(c, "shop", "customers"), AttributeNumber(2));
                s.public_columns.insert(column, vec!["SELECT".into()]);
            },
            "error public-column-privilege shop.customers",
            "REVOKE SELECT (email) ON TABLE shop.customers FROM PUBLIC;",
        ),
        (
            |_, s| _ = s.schemas.insert("shop".into(), vec!["USAGE".into(), "CREATE".into()]),
            "error public-create-schema schema shop",
            "REVOKE CREATE ON SCHEMA shop FROM PUBLIC;",
        ),
        (
            |_, s| s.public_database.push("TEMPORARY".into()),
            "warning public-temporary database shop",
            "REVOKE TEMPORARY ON DATABASE shop FROM PUBLIC;",
        ),
        (
            |_, s| s.definers.push(definer("shop_owner", false)),
            "error public-security-definer shop.f(pg_catalog.text)",
            "REVOKE EXECUTE ON ROUTINE shop.f(pg_catalog.text) FROM PUBLIC;",
        ),
        (
            |_, s| s.definers.push(definer("somebody", false)),
            "warning public-security-definer shop.f(pg_catalog.text)",
            "REVOKE EXECUTE ON ROUTINE shop.f(pg_catalog.text) FROM PUBLIC;",
        ),
    ];
    for (change, expected, sql) in cases {
        let found = findings(POLICY, "prod-db", change);
        let finding = found.iter().find(|finding| finding.code != "personal-unmasked").unwrap();
        let severity = if finding.severity == Severity::Error { "error" } else { "warning" };
        assert_eq!(format!("{severity} {} {}", finding.code, finding.object), expected);
        assert_eq!(finding.mend, [Mend::Sql(sql.to_owned())], "{expected}");
        // Where the proxy alone is promised, PUBLIC breaks no promise.
        let severities = findings(POLICY, "legacy", change).into_iter().map(|f| f.severity);
        assert!(severities.eq(found.iter().map(|_| Severity::Warning)), "{expected}");
    }
}

fn grant(survey: &mut Survey, relation: Oid, privileges: &[&str]) {
    let holding = survey.relations.get_mut(&relation).unwrap();
    holding.public = privileges.iter().map(|privilege| (*privilege).to_owned()).collect();
}

fn definer(owner: &str, superuser: bool) -> Definer {
    Definer {
        schema: "shop".into(),
        signature: "shop.f(pg_catalog.text)".into(),
        owner: owner.into(),
        owner_is_superuser: superuser,
        public: true,
    }
}

#[test]
fn what_public_can_t_reach_or_the_role_has_anyway_is_no_finding() {
    assert_eq!(
        told(POLICY, "prod-db", |c, s| {
            // No USAGE on crm for anybody.
            grant(s, oid(c, "crm", "leads"), &["SELECT", "INSERT"]);
            grant(s, oid(c, "shop", "orders"), &["SELECT"]);
            let id = (oid(c, "shop", "customers"), AttributeNumber(1));
            s.public_columns.insert(id, vec!["SELECT".into()]);
            s.definers.push(Definer { public: false, ..definer("root", true) });
            s.definers.push(Definer { schema: "crm".into(), ..definer("root", true) });
        }),
        ALWAYS
    );
}

#[test]
fn rules_about_what_isn_t_there_are_errors_where_they_protect() {
    let policy = POLICY
        .replace("shop.customers.email", "shop.customers.emial")
        .replace("shop.api_keys", "shop.apikeys")
        .replace("[\"shop.*\"]", "[\"shop.*\", \"shop.invoices\", \"billing.*\"]");
    let found = findings(&policy, "prod-db", |_, _| {});
    let named = |object: &str| {
        let finding = found.iter().find(|f| f.object == object && f.code == "rule-without-object");
        finding.unwrap_or_else(|| panic!("{object} in {found:?}"))
    };
    for (object, severity, mend) in [
        (
            "shop.customers.emial",
            Severity::Error,
            "role.readonly.mask[0]: \"shop.customers.email\" instead of \"shop.customers.emial\"",
        ),
        (
            "shop.apikeys",
            Severity::Error,
            "role.readonly.deny[0]: \"shop.api_keys\" instead of \"shop.apikeys\"",
        ),
        (
            "billing.*",
            Severity::Warning,
            "role.readonly.allow[0]: take out \"billing.*\", or correct it",
        ),
    ] {
        let finding = named(object);
        assert_eq!(finding.severity, severity, "{object}");
        assert_eq!(finding.mend, [Mend::Policy(mend.to_owned())], "{object}");
        assert!(finding.problem.contains("shop.toml:"), "{}", finding.problem);
    }
    assert_eq!(named("shop.invoices").severity, Severity::Warning);
    // The column that the misspelt mask was for is found bare.
    assert!(
        found.iter().any(|f| f.code == "personal-unmasked" && f.object == "shop.customers.email")
    );
}

#[test]
fn masks_that_can_t_be_shown_are_found() {
    let misfit = POLICY.replace("with = \"email\"", "with = \"year\"");
    assert!(
        told(&misfit, "prod-db", |_, _| {})
            .contains(&"error mask-misfit shop.customers.email".to_owned())
    );
    let on_view =
        POLICY.replace("\"shop.customers.email\"", "\"shop.customers.email\", \"shop.totals.n\"");
    let on_view = on_view
        .replace("with = \"email\"", "with = \"hash\"")
        .replace("\"prod-db\", \"legacy\"", "\"prod-db\"");
    assert!(
        told(&on_view, "prod-db", |_, _| {})
            .contains(&"warning no-row-identity shop.totals.n".to_owned())
    );
    let columnar = told(POLICY, "prod-db", |c, s| {
        s.relations.get_mut(&oid(c, "shop", "customers")).unwrap().access_method =
            Some("columnar".into());
    });
    assert!(
        columnar.contains(&"warning no-row-identity shop.customers.email".to_owned()),
        "{columnar:?}"
    );
}

#[test]
fn contents_speak_where_names_don_t_and_no_value_is_told() {
    let found = findings(POLICY, "prod-db", |c, s| {
        let mut sample = Sample::default();
        sample.add("please write to planted@example.com");
        sample.add("left at the door");
        s.samples.insert((oid(c, "shop", "orders"), AttributeNumber(2)), sample);
    });
    let finding = found.iter().find(|finding| finding.object == "shop.orders.note").unwrap();
    assert!(finding.problem.contains("1 of 2 sampled values look like e-mail addresses"));
    let mend = "[role.readonly] mask = [{ columns = [\"shop.orders.note\"], with = \"redact\" }]";
    assert_eq!(finding.mend, [Mend::Policy(mend.to_owned())]);
    assert!(!serde_json::to_string(&found).unwrap().contains("planted"));
}

#[test]
fn views_owners_and_shared_roles_that_are_superusers_are_found() {
    let views = told(POLICY, "prod-db", |c, s| {
        let holding = s.relations.get_mut(&oid(c, "shop", "totals")).unwrap();
        holding.owner_is_superuser = true;
    });
    assert!(views.contains(&"warning superuser-view shop.totals".to_owned()), "{views:?}");
    let shared = told(POLICY, "legacy", |_, s| _ = s.roles.insert("app".into(), true));
    assert!(shared.contains(&"error static-superuser role app".to_owned()), "{shared:?}");

    let owned = r#"
[target.prod-db]
url = "postgres://db.internal/shop"
credential = { kind = "ephemeral", admin_url = "env:ADMIN_URL" }
[role.migrator]
targets = ["prod-db"]
allow = [{ actions = ["*"], on = ["shop.*"] }, { actions = ["ddl"] }]
owner = "shop_owner"
search_path = ["shop", "later"]
"#;
    let missing = told(owned, "prod-db", |_, s| s.roles.clear());
    assert!(missing.contains(&"error owner-missing role shop_owner".to_owned()), "{missing:?}");
    assert!(missing.contains(&"warning search-path-without-schema schema later".to_owned()));
    let strong = told(owned, "prod-db", |_, s| _ = s.roles.insert("shop_owner".into(), true));
    assert!(strong.contains(&"error owner-superuser role shop_owner".to_owned()), "{strong:?}");
}

#[test]
fn only_raw_readable_columns_of_plain_types_are_sampled() {
    let policy = parse(&[("shop.toml".into(), POLICY.into())]).unwrap();
    let catalog = catalog();
    let sampled = columns_to_sample(&policy, &policy.targets["prod-db"], &catalog);
    let names = sampled.iter().flat_map(|(relation, columns)| {
        columns.iter().map(|column| format!("{}.{}", relation.name, column.name))
    });
    let names = names.collect::<Vec<_>>();
    assert_eq!(names, ["customers.id", "customers.phone", "orders.id", "orders.note"]);
}
