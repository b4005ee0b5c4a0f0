//! SQL against one small catalog: tables of statements with what they do.

mod bounds;
mod second_reader;

use serde::Deserialize;

use super::{
    Access, AttributeNumber, Catalog, Facts, Resolution, ScanReplacement, SettingValue,
    SpliceError, Spliced, Statement, analyse, on_large_stack, splice,
};

/// The catalog that every case is read against.
pub(super) fn catalog() -> Catalog {
    Catalog::builder()
        .table(
            "shop.customers",
            &[("id", "int8"), ("name", "text"), ("email", "text"), ("ssn", "text")],
        )
        .table("shop.orders", &[("id", "int8"), ("customer_id", "int8"), ("total", "numeric")])
        .table("shop.secret", &[("id", "int8"), ("ssn", "text")])
        .table("shop.ok", &[("id", "int8"), ("note", "text")])
        .table("crm.customers", &[("id", "int8"), ("phone", "text")])
        .table("shop.Mixed Case", &[("id", "int8"), ("Odd", "text")])
        .table("public.orders", &[("id", "int8")])
        .view("shop.names", &[("id", "int8"), ("name", "text")], &[("shop.customers", "name")])
        .index("shop.customers_email", "shop.customers")
        .function("shop.purge", true, false)
        .function("shop.mask_me", false, true)
        .function("crm.hidden", false, false)
        .operator("shop.===")
        .type_of("shop.mood", true)
        .type_of("public.citext", false)
        .relation(
            "pg_catalog.pg_class",
            super::RelationKind::Table,
            &[("oid", "oid"), ("relname", "name"), ("relnamespace", "oid")],
        )
        .build()
}

/// The analysis of a text, on a large stack.
pub(super) fn read(text: &str) -> Result<Vec<Statement>, super::AnalysisError> {
    let catalog = catalog();
    on_large_stack(|| analyse(text, &catalog))
}

#[derive(Deserialize)]
struct Cases {
    case: Vec<(String, String)>,
}

fn cases(text: &str) -> Vec<(String, String)> {
    toml::from_str::<Cases>(text).expect("the data file").case
}

/// Compares what `run` makes of each case's text with what the file expects,
/// and shows every difference at once.
fn check(file: &str, run: impl Fn(&str) -> String) {
    let mut wrong = String::new();
    for (text, expected) in cases(file) {
        let found = run(&text);
        if found != expected {
            wrong.push_str(&format!("['''{text}''',\n  '''{found}'''],\n"));
        }
    }
    assert!(wrong.is_empty(), "these cases differ from the data file:\n{wrong}");
}

#[test]
fn statements_do_what_the_table_says() {
    check(include_str!("facts.toml"), |text| match read(text) {
        Ok(statements) => {
            statements.iter().map(|s| summary(&s.facts)).collect::<Vec<_>>().join(" || ")
        }
        Err(error) => format!("error: {error}"),
    });
}

#[test]
fn columns_mean_what_the_table_says() {
    check(include_str!("columns.toml"), |text| match read(text) {
        Ok(statements) => {
            statements.iter().map(|s| columns(&s.facts)).collect::<Vec<_>>().join(" || ")
        }
        Err(error) => format!("error: {error}"),
    });
}

#[test]
fn statements_are_found_where_they_stand() {
    let text = "/* ä */ SELECT 1 ; ;; -- b\n TABLE ok\n; SELECT ';' /* c */";
    let found = read(text).unwrap().into_iter().map(|s| &text[s.span]).collect::<Vec<_>>();
    assert_eq!(found, ["SELECT 1", "TABLE ok", "SELECT ';'"]);
}

#[test]
fn replacements_of_another_text_are_refused() {
    let catalog = catalog();
    let statements = read("SELECT * FROM customers").unwrap();
    let whole = |select: &str| ScanReplacement {
        relation: 0,
        select: select.into(),
        omitted: Vec::new(),
        answered: Vec::new(),
    };
    let replacement = whole("SELECT 1");
    for text in ["", "-- a", "SELECT 1", "SELECT 1; SELECT 2", "SELECT * FROM secret"] {
        let replacements = [vec![replacement.clone()]];
        on_large_stack(|| splice(text, &catalog, &replacements, &statements).unwrap_err());
    }
    for select in [
        "SELECT 1) x, (SELECT 2",
        "SELECT 1; SELECT 2",
        "TABLE ok",
        "SELECT 1 --",
        "DELETE FROM ok",
    ] {
        let replacements = [vec![whole(select)]];
        let text = "SELECT * FROM customers";
        let spliced = on_large_stack(|| splice(text, &catalog, &replacements, &statements));
        assert_eq!(spliced.is_ok(), select == "TABLE ok", "{select}");
    }
}

/// What psql sends for `\d`, `\dt+`, `\df` and its other commands.
#[test]
fn nothing_that_psql_asks_is_unclassified() {
    for text in include_str!("psql.sql").split_inclusive(";\n") {
        for statement in read(text).unwrap() {
            assert_eq!(statement.facts.unclassified, Vec::<String>::new(), "{text}");
            assert_eq!(statement.facts.kind, super::StatementKind::Select, "{text}");
        }
    }
}

#[test]
fn scans_are_replaced_where_they_stand() {
    check(include_str!("splice.toml"), |text| match masked(text) {
        Ok(spliced) => spliced.text,
        Err(error) => format!("error: {error}"),
    });
}

/// An alias of 40 letters is one name in Latin-1 and cut in UTF-8, where two become the same.
#[test]
fn names_that_another_encoding_changes_are_not_understood() {
    let (long, other) = ("é".repeat(40) + "a", "é".repeat(40) + "b");
    let aliases = format!(
        "UPDATE customers {long} SET name = (SELECT {long}.email FROM (SELECT 1 AS id) {other})"
    );
    let kept = "é".repeat(30);
    let changed = |text: &str, encoding: &str| {
        let catalog = Catalog::builder()
            .table("shop.customers", &[("id", "int8"), ("name", "text"), ("email", "text")])
            .encoding(encoding)
            .build();
        let statements = on_large_stack(|| analyse(text, &catalog)).unwrap();
        statements.iter().all(|statement| !statement.facts.unclassified.is_empty())
    };
    for (text, latin, japanese) in [
        (&*aliases, true, true),
        (&*aliases.replace(&long, &format!("\"{long}\"")), true, true),
        ("UPDATE customers é SET name = É.email", true, true),
        ("WITH É AS (SELECT 1) SELECT * FROM é", true, true),
        ("SELECT 1; SELECT \"É\".id FROM customers \"É\"", false, true),
        ("SELECT é.id, ß.id FROM customers é, customers ß", false, true),
        (&*format!("SELECT {kept}.id FROM customers {kept}"), false, true),
        (r#"SELECT U&"\00e9".id FROM customers U&"\00e9""#, true, true),
        ("SELECT id, 'É' FROM customers -- É", false, false),
        ("SELECT ID FROM \"customers\" AS C", false, false),
    ] {
        assert!(!changed(text, "UTF8"), "{text}");
        assert_eq!(changed(text, "LATIN1"), latin, "{text}");
        assert_eq!(changed(text, "WIN1252"), latin, "{text}");
        assert_eq!(changed(text, "EUC_JP"), japanese, "{text}");
        assert_eq!(changed(text, "SQL_ASCII"), japanese, "{text}");
    }
}

/// A text with every scan of shop.customers replaced.
fn masked(text: &str) -> Result<Spliced, SpliceError> {
    let catalog = catalog();
    let customers = catalog.relation_named("shop", "customers").unwrap().oid;
    on_large_stack(|| {
        let statements = analyse(text, &catalog)?;
        let replacements = statements
            .iter()
            .map(|statement| {
                let uses = statement.facts.relations.iter().enumerate();
                uses.filter(|(_, used)| used.access == Access::Scan)
                    .filter(|(_, used)| used.resolution == Resolution::Relation(customers))
                    .map(|(relation, _)| ScanReplacement {
                        relation,
                        select: "SELECT masked FROM shop.customers".into(),
                        omitted: vec![AttributeNumber(4)],
                        answered: Vec::new(),
                    })
                    .collect()
            })
            .collect::<Vec<_>>();
        splice(text, &catalog, &replacements, &statements)
    })
}

#[test]
fn lookups_are_answered_before_the_scan_where_they_stand_for_themselves() {
    check(include_str!("lookups.toml"), |text| match looked_up(text) {
        Ok(Some(spliced)) => spliced.text,
        Ok(None) => String::new(),
        Err(error) => format!("error: {error}"),
    });
}

/// A text with every look-up of shop.customers.email answered; none where there is none.
fn looked_up(text: &str) -> Result<Option<Spliced>, SpliceError> {
    let catalog = catalog();
    let customers = catalog.relation_named("shop", "customers").unwrap();
    let email = customers.column("email").unwrap().number;
    on_large_stack(|| {
        let statements = analyse(text, &catalog)?;
        let mut replacements = Vec::new();
        for statement in &statements {
            let mut scans = Vec::new();
            for (relation, used) in statement.facts.relations.iter().enumerate() {
                let mut select = "SELECT masked FROM shop.customers WHERE true".to_owned();
                let mut answered = Vec::new();
                for (at, lookup) in statement.facts.lookups.iter().enumerate() {
                    if lookup.relation == relation && lookup.column == email {
                        assert_eq!(used.resolution, Resolution::Relation(customers.oid));
                        select.push_str(&format!(" AND f({})", lookup.values.join(", ")));
                        answered.push(at);
                    }
                }
                if !answered.is_empty() {
                    scans.push(ScanReplacement { relation, select, omitted: Vec::new(), answered });
                }
            }
            replacements.push(scans);
        }
        if replacements.iter().all(Vec::is_empty) {
            return Ok(None);
        }
        splice(text, &catalog, &replacements, &statements).map(Some)
    })
}

#[test]
fn places_in_the_new_text_lead_back_to_the_old_one() {
    let text = "SELECT 'ä€😀', id FROM customers WHERE nosuch = 1; SELECT shop.customers.id, x FROM customers";
    let spliced = masked(text).unwrap();
    let place = |text: &str, word: &str| text[..text.find(word).unwrap()].chars().count() + 1;
    for word in ["SELECT", "id", "FROM", "WHERE", "nosuch", "; SELECT", ", x"] {
        assert_eq!(
            spliced.original_position(place(&spliced.text, word)),
            place(text, word),
            "{word} in {}",
            spliced.text
        );
    }
    let inside = place(&spliced.text, "masked");
    assert_eq!(spliced.original_position(inside), place(text, "customers WHERE"));
    assert_eq!(
        spliced.original_position(spliced.text.chars().count() + 1),
        text.chars().count() + 1
    );
}

/// What a relation use means, as `schema.name`, or `?name` for unknown.
fn meaning(catalog: &Catalog, facts: &Facts, at: usize) -> String {
    let used = &facts.relations[at];
    match used.resolution {
        Resolution::Relation(oid) => {
            let relation = catalog.relation(oid).unwrap();
            format!("{}.{}", relation.schema, relation.name)
        }
        Resolution::Unknown => format!("?{}", used.name.name),
    }
}

fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).unwrap().as_str().unwrap().to_owned()
}

/// A statement in one line: kind; what is done to which relations; then only what
/// is out of the ordinary.
fn summary(facts: &Facts) -> String {
    let catalog = catalog();
    let mut parts = Vec::new();
    let mut relations = Vec::new();
    for (at, used) in facts.relations.iter().enumerate() {
        let mut text = format!("{} {}", word(used.access), meaning(&catalog, facts, at));
        if word(used.access) != word(used.action) && used.access != Access::Scan {
            text = format!("{text} as {}", word(used.action));
        }
        if !used.columns.is_empty() {
            text = format!("{text}({})", used.columns.join(","));
        }
        if used.sampled {
            text.push_str(" sampled");
        }
        if used.access == Access::Scan && used.range.is_empty() {
            text.push_str(" unspliceable");
        }
        relations.push(text);
    }
    relations.dedup();
    parts.extend(relations);
    for used in &facts.functions {
        let name = match &used.name.schema {
            Some(schema) => format!("{schema}.{}", used.name.name),
            None => used.name.name.clone(),
        };
        match (used.builtin, used.candidates.len()) {
            (true, 0) => parts.push(format!("calls {name}")),
            (false, 0) => parts.push(format!("calls ?{name}")),
            (_, own) => parts.push(format!("calls {own} own {name}")),
        }
    }
    parts.extend(
        facts.operators.iter().filter(|o| !o.builtin).map(|o| format!("operator {}", o.name.name)),
    );
    parts
        .extend(facts.types.iter().filter(|t| !t.builtin).map(|t| format!("type {}", t.name.name)));
    parts.extend(facts.settings.iter().map(|setting| match &setting.value {
        SettingValue::Default => format!("sets {}=", setting.name),
        SettingValue::Constants(values) => format!("sets {}={}", setting.name, values.join(",")),
        SettingValue::Parameter => format!("sets {}=$", setting.name),
    }));
    parts.extend(facts.transaction.iter().map(|t| format!("{t:?}")));
    parts.extend(facts.prepared.iter().map(|name| format!("prepared {name}")));
    parts.extend(facts.actions.iter().map(|action| format!("+{}", word(action))));
    parts.extend(facts.side_doors.iter().map(|door| format!("door {}", word(door))));
    parts.extend(facts.channels.iter().map(|channel| format!("channel {channel}")));
    if facts.relations.iter().any(|used| used.unfiltered) {
        parts.push("unfiltered".into());
    }
    parts.extend(facts.unclassified.iter().map(|what| format!("unclassified {what}")));
    if parts.is_empty() {
        word(facts.kind)
    } else {
        format!("{}: {}", word(facts.kind), parts.join("; "))
    }
}

#[test]
fn an_update_or_delete_is_narrowed_where_its_text_names_rows_and_nowhere_else() {
    let mut wrong = Vec::new();
    let lines = include_str!("narrowing.txt").lines().filter(|line| !line.starts_with('#'));
    for line in lines {
        let (expected, sql) = line.split_once(" | ").expect("a verdict and a statement");
        let statements = read(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let relations = statements.iter().flat_map(|statement| &statement.facts.relations);
        let unfiltered = relations.into_iter().any(|used| used.unfiltered);
        if unfiltered != (expected == "unfiltered") {
            wrong.push(line);
        }
    }
    assert!(wrong.is_empty(), "told otherwise:\n{}", wrong.join("\n"));
}

#[test]
fn looking_at_conditions_leaves_nothing_in_the_facts() {
    let twice = "DELETE FROM orders WHERE id IN (SELECT id FROM secret WHERE ssn = lower('x'))";
    let facts = &read(twice).expect("it is read")[0].facts;
    assert_eq!(facts.relations.len(), 2);
    assert_eq!(facts.columns.len(), 3);
    assert_eq!(facts.functions.len(), 1);
}

/// The column references of a statement that reach a relation, in one line.
fn columns(facts: &Facts) -> String {
    let catalog = catalog();
    let all = facts.columns.iter().map(|used| {
        let candidates = used
            .candidates
            .iter()
            .map(|(at, number)| {
                let relation = meaning(&catalog, facts, *at);
                let Some(number) = number else { return format!("{relation}.*") };
                if number.is_system() {
                    return format!("{relation}.system{}", number.0);
                }
                let Resolution::Relation(oid) = facts.relations[*at].resolution else {
                    return format!("{relation}.?");
                };
                let relation = catalog.relation(oid).unwrap();
                let column = relation.column_by_number(*number).unwrap();
                format!("{}.{}.{}", relation.schema, relation.name, column.name)
            })
            .collect::<Vec<_>>();
        format!("{} {} -> {}", word(used.context), used.path.join("."), candidates.join(" "))
    });
    all.map(|text| text.trim_end().to_owned()).collect::<Vec<_>>().join("; ")
}
