//! Reader functions: the only ways from a session to a masked column.
//!
//! A **mask function** shows a masked value: one for each masked column whose mask
//! is made from the value, keyed by the row's place (`tableoid`, `ctid`). A **lookup
//! function** finds rows by a value: one for each column that a role may look up; it
//! is given values and tells the places of the rows that have one of them. Both run as
//! a role that may read that column. Their bodies are PL/pgSQL text and their
//! signatures have only PostgreSQL's own types, so no migration is blocked by them.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::qualified;
use crate::{
    policy::{
        MaskKind,
        document::hex,
        masking::{self, MaskError, Source},
    },
    sql::{Catalog, Column, Oid, Relation, quote_identifier},
};

/// Partitions up to this many are told apart by the function itself; beyond, PostgreSQL looks.
const DISPATCHED: usize = 128;

/// Where a mask function finds the keys of hashes.
const KEY: &str = "SELECT h.inner_key, h.outer_key FROM pgate.hash_key h";

/// The variable that holds the raw value within a mask function.
const RAW: &str = "raw";

/// The most values that one call of a lookup function takes.
const MOST_VALUES: u32 = 100;

/// What a lookup function waits for each value, in seconds: the brake on whoever calls
/// it with the database password, past the proxy's own limit.
const PAUSE: &str = "0.01";

/// One function to be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReaderFunction {
    /// Its name in the schema `pgate`.
    pub(super) name: String,
    /// The types of its arguments.
    pub(super) arguments: String,
    /// What it returns.
    pub(super) returns: String,
    /// How it may be run in parallel.
    pub(super) parallel: &'static str,
    /// Its body, PL/pgSQL.
    pub(super) body: String,
    /// Whether it hashes.
    pub(super) keyed: bool,
    /// The relations that it reads, as (schema, name), and the column.
    pub(super) reads: Vec<(String, String)>,
    pub(super) column: String,
}

impl ReaderFunction {
    /// The function that shows a masked value.
    pub(super) fn mask(
        kind: &MaskKind,
        relation: &Relation,
        column: &Column,
        catalog: &Catalog,
    ) -> Result<Self, MaskError> {
        // The row is read by a query of its own, and the mask is made of a variable: an
        // expression without a query keeps its state from call to call.
        let source = Source { value: RAW, key: Some(KEY) };
        let expression = masking::expression(kind, column, Some(source))?;
        let returns = masking::returned_type(column);
        let value = quote_identifier(&column.name);
        // Where the column's type changes under the function, planning fails: a conversion
        // would fail on a value, and say which. Any type has a text.
        let value = match &*returns {
            "pg_catalog.text" => format!("v.{value}::pg_catalog.text"),
            _ => format!("COALESCE(v.{value}, NULL::{returns})"),
        };
        let read = |from: &str| {
            format!(
                "SELECT {value} INTO {RAW} FROM {from} v \
                 WHERE v.ctid OPERATOR(pg_catalog.=) $2 AND v.tableoid OPERATOR(pg_catalog.=) $1;"
            )
        };
        let below = descendants(relation, catalog);
        let mut body = format!("DECLARE {RAW} {returns};\nBEGIN\n");
        if below.is_empty() {
            body.push_str(&format!("  {}\n", read(&format!("ONLY {}", qualified(relation)))));
        } else if below.len() <= DISPATCHED {
            let mut test = "IF";
            for leaf in below.iter().chain([&relation]) {
                body.push_str(&format!(
                    "  {test} $1 OPERATOR(pg_catalog.=) {}::pg_catalog.oid THEN\n    {}\n",
                    leaf.oid.0,
                    read(&format!("ONLY {}", qualified(leaf)))
                ));
                test = "ELSIF";
            }
            body.push_str(&format!("  ELSE\n    {}\n  END IF;\n", read(&qualified(relation))));
        } else {
            body.push_str(&format!("  {}\n", read(&qualified(relation))));
        }
        body.push_str(&format!("  RETURN {expression};\nEND"));
        let kind_text = serde_json::to_string(kind).expect("a mask kind is plain data");
        Ok(Self {
            name: name("m", &kind_text, relation, column),
            arguments: "pg_catalog.oid, pg_catalog.tid".to_owned(),
            returns,
            parallel: "SAFE",
            body,
            keyed: *kind == MaskKind::Hash,
            reads: reads(relation, &below),
            column: column.name.clone(),
        })
    }

    /// The masked value of a scan's row, of the column's type.
    pub(super) fn call(&self, relation: &Relation, column: &Column) -> String {
        let table = quote_identifier(&relation.name);
        format!(
            "pgate.{}({table}.tableoid, {table}.ctid)::{}",
            self.name,
            masking::shown_type(column)
        )
    }

    /// The function that finds the rows with one of some values.
    pub(super) fn lookup(
        relation: &Relation,
        column: &Column,
        catalog: &Catalog,
    ) -> Result<Self, MaskError> {
        let compared = masking::looked_up_type(column)?;
        let below = descendants(relation, catalog);
        let body = format!(
            "BEGIN\n\
             \x20 IF pg_catalog.cardinality($1) OPERATOR(pg_catalog.>) {MOST_VALUES} THEN\n\
             \x20   RAISE EXCEPTION 'at most {MOST_VALUES} values can be looked up at a time'\n\
             \x20     USING ERRCODE = '54000';\n\
             \x20 END IF;\n\
             \x20 PERFORM pg_catalog.pg_sleep({PAUSE}::pg_catalog.float8 OPERATOR(pg_catalog.*)\n\
             \x20   pg_catalog.cardinality($1)::pg_catalog.float8);\n\
             \x20 RETURN QUERY SELECT v.tableoid, v.ctid FROM {} v\n\
             \x20   WHERE v.{} OPERATOR(pg_catalog.=) ANY ($1);\n\
             END",
            qualified(relation),
            quote_identifier(&column.name),
        );
        Ok(Self {
            name: name("l", compared, relation, column),
            arguments: format!("pg_catalog.{compared}[]"),
            returns: "TABLE (pgate_table pg_catalog.oid, pgate_row pg_catalog.tid)".to_owned(),
            parallel: "RESTRICTED",
            body,
            keyed: false,
            reads: reads(relation, &below),
            column: column.name.clone(),
        })
    }
}

/// A lookup as a condition on a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LookupScan {
    function: String,
    array: String,
    table: String,
    /// Whether rows of several tables are scanned.
    many: bool,
    /// Whether the column holds whole numbers.
    whole: bool,
}

impl LookupScan {
    pub(super) fn new(function: &ReaderFunction, relation: &Relation, catalog: &Catalog) -> Self {
        Self {
            function: function.name.clone(),
            array: function.arguments.clone(),
            table: quote_identifier(&relation.name),
            many: !descendants(relation, catalog).is_empty(),
            whole: function.arguments.starts_with("pg_catalog.int"),
        }
    }

    /// The condition for these values, which are SQL. The places are found once, before
    /// the scan, and the scan goes straight to them.
    pub(super) fn condition(&self, values: &[String]) -> Option<String> {
        let Self { function, array, table, many, whole } = self;
        // A cast would round what no row equals.
        let broken = |value: &String| value.starts_with('(') && value.contains(['.', 'e', 'E']);
        if *whole && values.iter().any(broken) {
            return None;
        }
        // Each by itself: a parameter that a Parse has called an array is many values.
        let element = array.trim_end_matches("[]");
        let values = values.iter().map(|value| format!("({value})::{element}"));
        let values = values.collect::<Vec<_>>().join(", ");
        let found = format!("pgate.{function}(ARRAY[{values}]::{array}) f");
        let mut condition = format!(
            "{table}.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT f.pgate_row FROM {found}))"
        );
        if *many {
            condition.push_str(&format!(
                " AND ({table}.tableoid, {table}.ctid) OPERATOR(pg_catalog.=) \
                 ANY (SELECT f.pgate_table, f.pgate_row FROM {found})"
            ));
        }
        Some(condition)
    }
}

/// Named after everything that the function rests on, so that a function made for
/// another state of the catalog is never called by mistake.
fn name(prefix: &str, kind: &str, relation: &Relation, column: &Column) -> String {
    let rests_on = format!(
        "1|{}|{}|{}|{}|{}|{}|{}|{kind}",
        relation.oid.0,
        column.number.0,
        relation.schema,
        relation.name,
        column.name,
        column.type_text,
        column.base_type,
    );
    let hash = hex(&Sha256::digest(rests_on.as_bytes()));
    format!("{prefix}_{}", hash.get(..32).unwrap_or(&hash))
}

fn reads(relation: &Relation, below: &[&Relation]) -> Vec<(String, String)> {
    let all = below.iter().copied().chain([relation]);
    all.map(|relation| (relation.schema.clone(), relation.name.clone())).collect()
}

/// Every partition and inheritance child, however deep, by OID.
fn descendants<'c>(relation: &Relation, catalog: &'c Catalog) -> Vec<&'c Relation> {
    let mut found = BTreeMap::<Oid, &Relation>::new();
    let mut open = vec![relation.oid];
    while let Some(oid) = open.pop() {
        for child in catalog.relations().filter(|child| child.parents.contains(&oid)) {
            if found.insert(child.oid, child).is_none() {
                open.push(child.oid);
            }
        }
    }
    found.into_values().collect()
}
