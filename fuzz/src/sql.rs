//! SQL: pgate's analysis never fails in a way that isn't an answer, its places lie
//! in the text, and it sees every relation that an independent reader sees.

use std::{ops::ControlFlow, str};

use pgate::sql::{Catalog, CatalogBuilder, Name, Resolution, Statement, analyse, on_large_stack};
use sqlparser::{ast, dialect::PostgreSqlDialect, parser::Parser};

/// Longer texts only take longer.
const LONGEST: usize = 64 * 1024;
/// Beyond this the second reader's stack is at risk.
const LONGEST_TWICE_READ: usize = 4096;

/// Analyses `data`, where it is UTF-8.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if text.len() > LONGEST {
        return;
    }
    let catalog = catalog();
    on_large_stack(|| check(text, &catalog));
}

fn catalog() -> Catalog {
    CatalogBuilder::default()
        .search_path(&["shop", "public"])
        .table("shop.customers", &[("id", "int4"), ("email", "text"), ("ssn", "text")])
        .table("shop.orders", &[("id", "int4"), ("customer_id", "int4"), ("note", "text")])
        .table("shop.secret", &[("ssn", "text")])
        .build()
}

fn check(text: &str, catalog: &Catalog) {
    let Ok(statements) = analyse(text, catalog) else { return };
    for statement in &statements {
        assert!(text.get(statement.span.clone()).is_some(), "{:?}", statement.span);
        for relation in &statement.facts.relations {
            let place = text.get(relation.range.clone());
            assert!(place.is_some(), "{:?}", relation.range);
        }
    }
    if read_alike(text) {
        compare(text, &statements, catalog);
    }
}

/// Whether both readers cut the text into the same words: they are known to differ
/// on comments, quotes and operators that look like them.
fn read_alike(text: &str) -> bool {
    text.len() <= LONGEST_TWICE_READ
        && text.bytes().all(|byte| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b' ' | b'\n' | b'_' | b'.' | b',' | b';')
                || matches!(byte, b'(' | b')' | b'=' | b'*' | b'+' | b'\'')
        })
}

/// Every relation of the catalog that the second reader sees is among our facts,
/// unless we say that we don't understand the statement.
fn compare(text: &str, statements: &[Statement], catalog: &Catalog) {
    if statements.iter().any(|statement| !statement.facts.unclassified.is_empty()) {
        return;
    }
    let Ok(read) = Parser::parse_sql(&PostgreSqlDialect {}, text) else { return };
    let ours = statements.iter().flat_map(|statement| &statement.facts.relations);
    let ours = ours
        .filter_map(|relation| match relation.resolution {
            Resolution::Relation(oid) => Some(oid),
            Resolution::Unknown => None,
        })
        .collect::<Vec<_>>();
    let _ = ast::visit_relations(&read, |name| {
        if let Some(name) = plain_name(name)
            && let Some(relation) = catalog.resolve(&name)
            && !(name.schema.is_none() && may_be_a_cte(text, &name.name))
        {
            assert!(ours.contains(&relation.oid), "{name:?} is not among the facts of {text}");
        }
        ControlFlow::<()>::Continue(())
    });
}

/// A name without quotes, of one or two parts.
fn plain_name(name: &ast::ObjectName) -> Option<Name> {
    let mut parts = name.0.iter().rev().map(|part| Some(part.as_ident()?.value.to_lowercase()));
    let (last, schema) = (parts.next()??, parts.next());
    match (schema, parts.next()) {
        (None, _) => Some(Name { schema: None, name: last }),
        (Some(schema), None) => Some(Name { schema: Some(schema?), name: last }),
        (Some(_), Some(_)) => None,
    }
}

/// Whether the text may define a CTE of that name: then a mention may be of it.
fn may_be_a_cte(text: &str, name: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("with") && text.matches(name).count() > 1
}
