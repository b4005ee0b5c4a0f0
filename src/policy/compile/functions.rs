//! Mask functions: the only way from a session to a masked value.
//!
//! One for each masked column whose mask is made from the value. It is keyed by
//! the row's place (`tableoid`, `ctid`), runs as a role that may read that
//! column, and returns only the masked value. Its body is PL/pgSQL text and its
//! signature has only PostgreSQL's own types, so no migration is blocked by it.

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

/// One function to be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MaskFunction {
    /// Its name in the schema `pgate`.
    pub(super) name: String,
    /// What it returns.
    pub(super) returns: String,
    /// Its body, PL/pgSQL.
    pub(super) body: String,
    /// Whether it hashes.
    pub(super) keyed: bool,
    /// The relations that it reads, as (schema, name), and the column.
    pub(super) reads: Vec<(String, String)>,
    pub(super) column: String,
}

impl MaskFunction {
    pub(super) fn new(
        kind: &MaskKind,
        relation: &Relation,
        column: &Column,
        catalog: &Catalog,
    ) -> Result<Self, MaskError> {
        let value = format!("v.{}", quote_identifier(&column.name));
        let source = Source { value: &value, key: Some(KEY) };
        let expression = masking::expression(kind, column, Some(source))?;
        let row = |from: &str| {
            format!(
                "(SELECT {expression} FROM {from} v WHERE v.ctid OPERATOR(pg_catalog.=) $2 \
                 AND v.tableoid OPERATOR(pg_catalog.=) $1)"
            )
        };
        let below = descendants(relation, catalog);
        let mut body = "BEGIN\n".to_owned();
        if !below.is_empty() && below.len() <= DISPATCHED {
            for leaf in below.iter().chain([&relation]) {
                let only = row(&format!("ONLY {}", qualified(leaf)));
                body.push_str(&format!(
                    "  IF $1 OPERATOR(pg_catalog.=) {}::pg_catalog.oid THEN RETURN {only}; END IF;\n",
                    leaf.oid.0
                ));
            }
        }
        let from = if below.is_empty() {
            format!("ONLY {}", qualified(relation))
        } else {
            qualified(relation)
        };
        body.push_str(&format!("  RETURN {};\nEND", row(&from)));
        let reads = below
            .iter()
            .chain([&relation])
            .map(|relation| (relation.schema.clone(), relation.name.clone()))
            .collect();
        Ok(Self {
            name: name(kind, relation, column),
            returns: masking::returned_type(column),
            body,
            keyed: *kind == MaskKind::Hash,
            reads,
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
}

/// Named after everything that the function rests on, so that a function made for
/// another state of the catalog is never called by mistake.
fn name(kind: &MaskKind, relation: &Relation, column: &Column) -> String {
    let kind = serde_json::to_string(kind).expect("a mask kind is plain data");
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
    format!("m_{}", hash.get(..32).unwrap_or(&hash))
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
