//! A database's catalog as plain data, made from one JSON document that one
//! query returns, so that whoever holds a connection can load it.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// PostgreSQL's object identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Oid(pub u32);

/// A column's number in its relation, from 1 (`pg_attribute.attnum`); system
/// columns are negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttributeNumber(pub i16);

/// The query whose one row and one column (text, JSON) [`Catalog::from_json`] reads.
/// It needs no rights beyond a login, and works on PostgreSQL 14 to 18.
pub const CATALOG_QUERY: &str = "SELECT '{}'";

/// What kind of relation it is (`pg_class.relkind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationKind {
    /// `r`.
    Table,
    /// `p`.
    PartitionedTable,
    /// `v`.
    View,
    /// `m`.
    MaterializedView,
    /// `f`.
    ForeignTable,
    /// `S`.
    Sequence,
    /// `c`: a composite type's relation.
    CompositeType,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its number.
    pub number: AttributeNumber,
    /// Its name.
    pub name: String,
    /// Its type's OID.
    pub type_oid: Oid,
    /// Its type with modifiers, ready to be spliced after `::` whatever the
    /// search path is (`character varying(255)`, `shop.mood`).
    pub type_text: String,
    /// Its type's base, where it is a domain, else the type itself, as in `pg_type.typname`
    /// with the schema `pg_catalog` left out (`varchar`, `_text`, `jsonb`).
    pub base_type: String,
    /// Whether it is NOT NULL.
    pub not_null: bool,
    /// Columns of the same relation that a generated column is computed from.
    pub generated_from: Vec<AttributeNumber>,
}

/// One relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    /// Its OID.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: RelationKind,
    /// Whether it is temporary.
    pub temporary: bool,
    /// Its live columns, by number.
    pub columns: Vec<Column>,
    /// Its direct parents (inheritance and partitions).
    pub parents: Vec<Oid>,
    /// The columns of other relations that a view's definition reads
    /// (from `pg_depend`), as (relation, column).
    pub view_reads: Vec<(Oid, AttributeNumber)>,
    /// The view's definition, where it is one.
    pub definition: Option<String>,
}

/// How a function may vary (`pg_proc.provolatile`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Volatility {
    /// Same arguments, same result.
    Immutable,
    /// The same within a statement.
    Stable,
    /// Anything.
    Volatile,
}

/// One function that is not PostgreSQL's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its OID.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether it runs with its owner's rights.
    pub security_definer: bool,
    /// How it may vary.
    pub volatility: Volatility,
    /// The extension that it belongs to.
    pub extension: Option<String>,
}

/// A catalog document that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the database's catalog could not be read: {0}")]
pub struct CatalogError(String);

/// A database's catalog under one search path. Everything name resolution needs.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    relations: HashMap<Oid, Relation>,
}

impl Catalog {
    /// Reads the document that [`CATALOG_QUERY`] returns.
    pub fn from_json(_text: &str) -> Result<Self, CatalogError> {
        Err(CatalogError("not readable yet".into()))
    }

    /// The relation of this OID.
    pub fn relation(&self, oid: Oid) -> Option<&Relation> {
        self.relations.get(&oid)
    }
}
