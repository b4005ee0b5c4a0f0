//! An independent reader of SQL must not see a relation that the facts lack.

use std::{collections::BTreeSet, ops::ControlFlow};

use proptest::prelude::*;
use sqlparser::{
    ast::{ObjectName, Query, Visit, Visitor},
    dialect::PostgreSqlDialect,
    parser::Parser,
};

use super::super::{Name, Oid, Resolution};
use super::{cases, catalog, read};

/// Relations and CTE names as `sqlparser` sees them.
#[derive(Default)]
struct Seen {
    relations: Vec<Name>,
    ctes: BTreeSet<String>,
}

impl Visitor for Seen {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.ctes.insert(folded(&cte.alias.name));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let parts =
            relation.0.iter().filter_map(|part| part.as_ident().map(folded)).collect::<Vec<_>>();
        if let [.., schema, name] = parts.as_slice() {
            self.relations.push(Name { schema: Some(schema.clone()), name: name.clone() });
        } else if let [name] = parts.as_slice() {
            self.relations.push(Name { schema: None, name: name.clone() });
        }
        ControlFlow::Continue(())
    }
}

fn folded(identifier: &sqlparser::ast::Ident) -> String {
    match identifier.quote_style {
        Some(_) => identifier.value.clone(),
        None => identifier.value.to_lowercase(),
    }
}

/// The relations that the facts of a text name.
fn ours(text: &str) -> Option<BTreeSet<Oid>> {
    let statements = read(text).ok()?;
    Some(
        statements
            .iter()
            .flat_map(|statement| &statement.facts.relations)
            .filter_map(|used| match used.resolution {
                Resolution::Relation(oid) => Some(oid),
                Resolution::Unknown => None,
            })
            .collect(),
    )
}

/// The existing relations that the second reader sees and that are no CTE's name.
fn theirs(text: &str) -> BTreeSet<Oid> {
    let mut seen = Seen::default();
    let Ok(statements) = Parser::parse_sql(&PostgreSqlDialect {}, text) else {
        return BTreeSet::new();
    };
    for statement in &statements {
        let _ = statement.visit(&mut seen);
    }
    let catalog = catalog();
    seen.relations
        .iter()
        .filter(|name| name.schema.is_some() || !seen.ctes.contains(&name.name))
        .filter_map(|name| catalog.resolve(name))
        .map(|relation| relation.oid)
        .collect()
}

fn texts() -> Vec<String> {
    [include_str!("facts.toml"), include_str!("columns.toml"), include_str!("splice.toml")]
        .into_iter()
        .flat_map(cases)
        .map(|(text, _)| text)
        .chain(include_str!("psql.sql").split_inclusive(";\n").map(str::to_owned))
        .collect()
}

#[test]
fn the_second_reader_sees_no_relation_that_the_facts_lack() {
    let mut seen = 0;
    for text in texts() {
        let Some(ours) = ours(&text) else { continue };
        let theirs = theirs(&text);
        seen += theirs.len();
        assert!(theirs.is_subset(&ours), "{text}: {theirs:?} {ours:?}");
    }
    assert!(seen > 100, "the second reader saw only {seen} relations");
}

/// Queries that can stand inside others.
fn query() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("SELECT id FROM ok"),
        Just("SELECT id FROM ONLY secret s"),
        Just("TABLE customers"),
        Just("SELECT id FROM shop.orders o"),
        Just("SELECT id FROM \"Mixed Case\""),
        Just("VALUES (1)"),
        Just("SELECT c.id FROM crm.customers c"),
    ]
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 3, |inner| {
        (inner.clone(), inner.clone(), inner, 0..12_usize).prop_map(
            |(a, b, c, shape)| match shape {
                0 => format!("SELECT * FROM ({a}) x1, ({b}) x2 WHERE EXISTS ({c})"),
                1 => format!("WITH w1 AS ({a}), w2 AS ({b}) SELECT * FROM w1, w2, ({c}) x3"),
                2 => format!("({a}) UNION ALL ({b}) EXCEPT ({c})"),
                3 => format!("SELECT 1 WHERE 1 IN ({a}) OR 2 = ANY ({b}) OR 3 > ALL ({c})"),
                4 => format!(
                    "SELECT count(*) FILTER (WHERE EXISTS ({a})) FROM ({b}) x1 ORDER BY ({c})"
                ),
                5 => format!("SELECT CASE WHEN EXISTS ({a}) THEN ARRAY({b}) END FROM ({c}) x1"),
                6 => format!("SELECT * FROM ({a}) x1 LEFT JOIN LATERAL ({b}) x2 ON EXISTS ({c})"),
                7 => format!(
                    "SELECT sum(1) OVER (PARTITION BY EXISTS ({a})) FROM ({b}) x1 LIMIT ({c})"
                ),
                8 => format!("SELECT * FROM generate_series(1, ({a})) g, ({b}) x1 GROUP BY ({c})"),
                9 => format!("WITH RECURSIVE r AS (({a}) UNION ({b})) SELECT * FROM r, ({c}) x1"),
                10 => format!("SELECT (ROW(({a}), ({b}))).f1 HAVING EXISTS ({c})"),
                _ => format!("SELECT COALESCE(({a}), ({b})) IS NULL, GREATEST(1, ({c}))"),
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_query_is_found_wherever_it_stands(a in query(), b in query()) {
        let alone = ours(&a).unwrap().union(&ours(&b).unwrap()).copied().collect::<BTreeSet<_>>();
        for both in [
            format!("SELECT * FROM ({a}) y1, ({b}) y2"),
            format!("INSERT INTO ok SELECT 1, 2 FROM ({a}) y1 ON CONFLICT (id) DO UPDATE SET note = ({b})"),
            format!("UPDATE ok SET note = ({a}) WHERE EXISTS ({b}) RETURNING 1"),
            format!("DELETE FROM ok USING ({a}) y1 RETURNING ({b})"),
            format!("EXPLAIN WITH y1 AS ({a}) SELECT ({b})"),
            format!("COPY (SELECT ({a}), ({b})) TO STDOUT"),
            format!("CREATE TABLE y AS SELECT ({a}), ({b})"),
            format!("MERGE INTO ok USING ({a}) y1 ON true WHEN MATCHED AND EXISTS ({b}) THEN DELETE"),
        ] {
            let together = ours(&both).unwrap();
            prop_assert!(alone.is_subset(&together), "{}", both);
            prop_assert!(theirs(&both).is_subset(&together), "{}", both);
        }
    }
}
