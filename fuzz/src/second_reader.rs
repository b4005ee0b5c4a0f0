//! An independent reader of SQL: what relations `sqlparser` sees in a text. It decides
//! nothing anywhere in pgate; a relation that it sees and pgate doesn't is a hole.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use pgate::sql::Name;
use sqlparser::{
    ast::{Ident, ObjectName, Query, Statement, TableFactor, Visit, Visitor},
    dialect::PostgreSqlDialect,
    parser::Parser,
};

/// The statements of a text; none where it can't be read.
pub fn read(text: &str) -> Option<Vec<Statement>> {
    Parser::parse_sql(&PostgreSqlDialect {}, text).ok()
}

/// The relations that statements name, without those that may be a CTE's name.
pub fn relations(statements: &[Statement]) -> BTreeSet<Name> {
    let mut seen = Seen::default();
    for statement in statements {
        let _ = statement.visit(&mut seen);
    }
    let Seen { relations, ctes } = seen;
    let named = relations.into_iter().filter(|(_, times)| *times > 0).map(|(name, _)| name);
    named.filter(|name| name.schema.is_some() || !ctes.contains(&name.name)).collect()
}

/// A name of one part or more: its last two.
pub fn name(read: &ObjectName) -> Option<Name> {
    let parts = read.0.iter().map(|part| part.as_ident().map(folded));
    let mut parts = parts.collect::<Option<Vec<_>>>()?;
    let name = parts.pop()?;
    Some(Name { schema: parts.pop(), name })
}

#[derive(Default)]
struct Seen {
    /// How often each is named as a relation, the calls of functions in FROM taken off:
    /// the reader takes them for relations.
    relations: BTreeMap<Name, isize>,
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
        self.count(relation, 1);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: Some(_), .. } = factor {
            self.count(name, -1);
        }
        ControlFlow::Continue(())
    }
}

impl Seen {
    fn count(&mut self, relation: &ObjectName, times: isize) {
        if let Some(name) = name(relation) {
            *self.relations.entry(name).or_default() += times;
        }
    }
}

/// An identifier as PostgreSQL folds it.
pub fn folded(identifier: &Ident) -> String {
    match identifier.quote_style {
        Some(_) => identifier.value.clone(),
        None => identifier.value.to_ascii_lowercase(),
    }
}
