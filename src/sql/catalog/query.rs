//! The queries that load a catalog, whole or as far as it is needed.
//!
//! A database with many tables has many columns, and they are most of its catalog. A
//! session reads a few tables: it begins with the columns that its role's rules cover,
//! or that show such ones, and asks for a table's others when a statement names it.

use std::collections::BTreeSet;

use super::Oid;
use crate::sql::quote_literal;

/// The query whose one row and one column (text, JSON) [`super::Catalog::from_json`] reads.
/// It needs no rights beyond a login, works on PostgreSQL 14 to 18, and takes no
/// lock that a migration could hold. Every name in it is qualified, so that no
/// search path can make it read something else.
pub const CATALOG_QUERY: &str = concat!(include_str!("columns.sql"), include_str!("query.sql"));

/// The query whose one row and column (text) is another as soon as somebody has
/// committed a change to what [`CATALOG_QUERY`] reads. A few milliseconds for a
/// small database; a fraction of what loading the catalog costs for any.
pub const EPOCH_QUERY: &str = include_str!("epoch.sql");

/// What [`CATALOG_QUERY`] tells the columns of.
const EVERY_RELATION: &str = "    SELECT r.oid FROM relation r\n";
const COLUMNS: &str = include_str!("columns.sql");

/// With fewer relations than this, all columns are loaded at once: asking for some later
/// costs more than it saves.
const FEW_RELATIONS: u32 = 2000;

/// The relations whose columns a session needs before any statement. In names `*` stands
/// for any characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foreseen {
    relations: BTreeSet<(String, String)>,
    columns: BTreeSet<String>,
    oids: BTreeSet<Oid>,
}

impl Foreseen {
    /// Relations by their schemas' and their own names.
    pub fn relations(&mut self, schema: &str, name: &str) {
        self.relations.insert((schema.to_owned(), name.to_owned()));
    }

    /// Relations by the name of any of their columns.
    pub fn with_column(&mut self, name: &str) {
        self.columns.insert(name.to_owned());
    }

    /// Relations that statements have named.
    pub fn named(&mut self, oids: &BTreeSet<Oid>) {
        self.oids.extend(oids);
    }

    /// As [`CATALOG_QUERY`], with the columns of these relations, of everything that isn't
    /// a plain table, and of tables that inherit or have columns of the database's own
    /// types; with all, where there are few.
    pub fn catalog_query(&self) -> String {
        let mut any = vec![
            format!(
                "(SELECT pg_catalog.count(*) FROM relation) \
                 OPERATOR(pg_catalog.<) {FEW_RELATIONS}"
            ),
            "r.relkind OPERATOR(pg_catalog.<>) 'r'::pg_catalog.\"char\"".to_owned(),
            "r.nspname OPERATOR(pg_catalog.=) \
             ANY ('{pg_catalog,information_schema}'::pg_catalog.name[])"
                .to_owned(),
            "r.oid OPERATOR(pg_catalog.=) ANY (SELECT i.inhrelid FROM pg_catalog.pg_inherits i)"
                .to_owned(),
            "r.oid OPERATOR(pg_catalog.=) ANY (SELECT i.inhparent FROM pg_catalog.pg_inherits i)"
                .to_owned(),
        ];
        // A column of a type of the database's own may hold rows that have covered columns.
        any.push(
            "r.oid OPERATOR(pg_catalog.=) ANY (\
             SELECT d.objid FROM pg_catalog.pg_depend d \
             WHERE d.refclassid OPERATOR(pg_catalog.=) 1247::pg_catalog.oid \
             AND d.classid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid \
             AND d.objsubid OPERATOR(pg_catalog.>) 0)"
                .to_owned(),
        );
        if !self.oids.is_empty() {
            any.push(format!("r.oid OPERATOR(pg_catalog.=) {}", any_of(&self.oids)));
        }
        any.extend(self.relations.iter().map(|(schema, name)| {
            format!("(r.nspname {} AND r.relname {})", like(schema), like(name))
        }));
        if !self.columns.is_empty() {
            let columns = self.columns.iter().map(|column| format!("a.attname {}", like(column)));
            any.push(format!(
                "r.oid OPERATOR(pg_catalog.=) ANY (\
                 SELECT a.attrelid FROM pg_catalog.pg_attribute a WHERE {})",
                columns.collect::<Vec<_>>().join(" OR ")
            ));
        }
        let described =
            format!("    SELECT r.oid FROM relation r WHERE {}\n", any.join("\n        OR "));
        CATALOG_QUERY.replacen(EVERY_RELATION, &described, 1)
    }
}

/// The query whose one row and one column (text, JSON) [`super::Catalog::describe`] reads:
/// the columns of these relations, as far as they are still there.
pub fn columns_query(relations: &BTreeSet<Oid>) -> String {
    let described = format!(
        "    SELECT r.oid FROM pg_catalog.pg_class r WHERE r.oid OPERATOR(pg_catalog.=) {}\n",
        any_of(relations)
    );
    let columns = COLUMNS.replacen(EVERY_RELATION, &described, 1);
    format!("{columns}SELECT d.document::pg_catalog.text FROM columns_document d")
}

fn any_of(oids: &BTreeSet<Oid>) -> String {
    let oids = oids.iter().map(|oid| oid.0.to_string()).collect::<Vec<_>>();
    format!("ANY ('{{{}}}'::pg_catalog.oid[])", oids.join(","))
}

/// The condition that a name fits a pattern.
fn like(pattern: &str) -> String {
    if !pattern.contains('*') {
        return format!("OPERATOR(pg_catalog.=) {}::pg_catalog.name", quote_literal(pattern));
    }
    let mut like = String::new();
    for character in pattern.chars() {
        match character {
            '*' => like.push('%'),
            '%' | '_' | '\\' => like.extend(['\\', character]),
            other => like.push(other),
        }
    }
    format!("OPERATOR(pg_catalog.~~) {}::pg_catalog.text", quote_literal(&like))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_narrowed_queries_differ_from_the_whole_one_in_what_they_describe() {
        let mut foreseen = Foreseen::default();
        foreseen.relations("shop", "a_%*");
        foreseen.with_column("card'number");
        foreseen.named(&BTreeSet::from([Oid(7), Oid(9)]));
        let query = foreseen.catalog_query();
        for part in [
            r"r.relname OPERATOR(pg_catalog.~~)  E'a\\_\\%%'::pg_catalog.text",
            "a.attname OPERATOR(pg_catalog.=) 'card''number'::pg_catalog.name",
            "ANY ('{7,9}'::pg_catalog.oid[])",
        ] {
            assert!(query.contains(part), "{part}\n{query}");
        }
        assert!(!query.contains(EVERY_RELATION));
        let columns = columns_query(&BTreeSet::from([Oid(7)]));
        assert!(columns.contains("ANY ('{7}'::pg_catalog.oid[])"));
        assert!(!columns.contains(EVERY_RELATION) && CATALOG_QUERY.contains(EVERY_RELATION));
    }
}
