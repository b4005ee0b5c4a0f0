//! SQL: pgate's analysis never fails in a way that isn't an answer, its places lie
//! in the text, and it sees every relation that an independent reader sees.

use std::{collections::BTreeSet, str};

use pgate::sql::{Catalog, CatalogBuilder, Name, Resolution, Statement, analyse, on_large_stack};

use super::second_reader;

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

/// A small shop.
pub(super) fn catalog() -> Catalog {
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
    let Some(read) = second_reader::read(text) else { return };
    if let Some(missed) = missed(&read, statements, catalog) {
        panic!("{missed:?} is not among the facts of {text}");
    }
}

/// A relation of the catalog that the second reader sees and the facts don't name.
pub fn missed(
    read: &[sqlparser::ast::Statement],
    statements: &[Statement],
    catalog: &Catalog,
) -> Option<Name> {
    let ours = statements.iter().flat_map(|statement| &statement.facts.relations);
    let ours = ours
        .filter_map(|relation| match relation.resolution {
            Resolution::Relation(oid) => Some(oid),
            Resolution::Unknown => None,
        })
        .collect::<BTreeSet<_>>();
    second_reader::relations(read)
        .into_iter()
        .find(|name| catalog.resolve(name).is_some_and(|seen| !ours.contains(&seen.oid)))
}
