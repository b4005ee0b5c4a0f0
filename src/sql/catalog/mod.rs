//! A database's catalog as plain data, made from one JSON document that one
//! query returns, so that whoever holds a connection can load it.
//!
//! Owns what a name means under a search path, which columns derive from which,
//! and when a relation has changed its shape. It refuses to guess: a name that
//! the catalog doesn't have is unknown.

mod builder;
mod derivation;
mod document;
mod lineage;
mod node_tree;
mod query;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use builder::CatalogBuilder;
pub use derivation::{Derived, Origin};
pub use lineage::{ColumnLineage, Flow, Lineage};
pub use query::{CATALOG_QUERY, EPOCH_QUERY, Foreseen, columns_query};

use super::Name;

/// PostgreSQL's object identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Oid(pub u32);

/// A column's number in its relation, from 1 (`pg_attribute.attnum`); system
/// columns are negative, and 0 means the whole row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttributeNumber(pub i16);

impl AttributeNumber {
    /// The whole row, where a number stands for what a view reads.
    pub const WHOLE_ROW: Self = Self(0);

    /// The number of a system column (`ctid`, `tableoid`, …).
    pub fn of_system_column(name: &str) -> Option<Self> {
        Some(Self(match name {
            "ctid" => -1,
            "xmin" => -2,
            "cmin" => -3,
            "xmax" => -4,
            "cmax" => -5,
            "tableoid" => -6,
            _ => return None,
        }))
    }

    /// Whether it is a system column's.
    pub fn is_system(self) -> bool {
        self.0 < 0
    }
}

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
    /// search path is (`character varying(255)`, `pg_catalog.text`, `shop.mood`).
    pub type_text: Arc<str>,
    /// Its type's base, where it is a domain, else the type itself, as in `pg_type.typname`
    /// with the schema `pg_catalog` left out (`varchar`, `_text`, `jsonb`, `shop.mood`).
    pub base_type: Arc<str>,
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
    /// Its live columns, by number; none where they aren't loaded.
    pub columns: Vec<Column>,
    /// Whether its columns are loaded. Nothing may be decided of a relation whose aren't.
    pub described: bool,
    /// Its direct parents (inheritance and partitions).
    pub parents: Vec<Oid>,
    /// The columns that say in which of its partitions a row lies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition_key: Vec<AttributeNumber>,
    /// The columns of other relations that a view's definition reads (from
    /// `pg_depend`), as (relation, column); [`AttributeNumber::WHOLE_ROW`] where
    /// the definition may read all of them.
    pub view_reads: Vec<(Oid, AttributeNumber)>,
    /// What a view shows, where its definition could be analysed.
    pub lineage: Option<Lineage>,
    /// Whether a view reads with its caller's rights (`security_invoker`).
    pub security_invoker: bool,
    /// Whether rules of its owner's (CREATE RULE) run with its writes.
    pub write_rules: bool,
}

impl Relation {
    /// Whether PostgreSQL keeps rows of it, with `ctid`, `tableoid` and their like.
    pub fn has_system_columns(&self) -> bool {
        !matches!(self.kind, RelationKind::View | RelationKind::CompositeType)
    }

    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The column of this number.
    pub fn column_by_number(&self, number: AttributeNumber) -> Option<&Column> {
        self.columns.iter().find(|column| column.number == number)
    }

    /// SHA-256, in hex, over everything that a decision on this relation rests
    /// on: its identity, kind, columns with types, parents and what it reads.
    /// Two catalogs that agree on it agree on the relation.
    pub fn fingerprint(&self) -> String {
        let bytes = serde_json::to_vec(self).expect("a relation is plain data");
        hex(&Sha256::digest(bytes))
    }
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

/// One function that is not PostgreSQL's own (also one that somebody has put
/// into `pg_catalog` after the cluster was made).
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
    /// Whether its first argument is a row or polymorphic, so that `row.name` calls it too.
    pub takes_row: bool,
}

/// A catalog document that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the database's catalog could not be read: {0}")]
pub struct CatalogError(String);

/// How the server keeps names, which reach it in UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// As they come.
    #[default]
    Utf8,
    /// In one byte for a character, one character for a byte. Capital letters beyond ASCII
    /// become small ones there, and 63 bytes of a name are 63 characters.
    SingleByte,
    /// In any other way: two characters may become one.
    Other,
}

impl Encoding {
    /// The encoding of this name (`getdatabaseencoding()`).
    fn named(name: &str) -> Self {
        match name {
            "UTF8" => Self::Utf8,
            _ if ["LATIN", "ISO_8859_", "WIN", "KOI8"].iter().any(|set| name.starts_with(set)) => {
                Self::SingleByte
            }
            _ => Self::Other,
        }
    }
}

/// A database's catalog under one search path. Everything name resolution needs.
/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    objects: Arc<Objects>,
    search_path: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct Objects {
    version: u32,
    database: String,
    user: String,
    encoding: Encoding,
    relations: Vec<Relation>,
    by_oid: HashMap<Oid, usize>,
    by_name: HashMap<String, Vec<usize>>,
    /// Children and partitions by their parent.
    children: HashMap<Oid, Vec<Oid>>,
    indexes: HashMap<String, Vec<(String, Oid)>>,
    functions: HashMap<String, Vec<Function>>,
    builtin_functions: HashSet<String>,
    operators: HashMap<String, Vec<String>>,
    types: HashMap<String, Vec<(String, bool)>>,
    coded_types: HashMap<Oid, Name>,
}

impl Catalog {
    /// Reads the document that [`CATALOG_QUERY`] returns.
    pub fn from_json(text: &str) -> Result<Self, CatalogError> {
        document::read(text)
    }

    /// The same catalog with the columns of further relations, from the document that
    /// [`columns_query`] returns.
    pub fn describe(&self, text: &str) -> Result<Self, CatalogError> {
        document::describe(self, text)
    }

    /// A catalog made by hand, for tests of whatever reads catalogs.
    pub fn builder() -> CatalogBuilder {
        CatalogBuilder::default()
    }

    /// The same objects under another search path: the effective one, as
    /// `current_schemas(true)` gives it (with `pg_catalog` and the temporary schema
    /// where PostgreSQL searches them).
    pub fn with_search_path(&self, search_path: Vec<String>) -> Self {
        Self { objects: Arc::clone(&self.objects), search_path }
    }

    /// The relation of this OID.
    pub fn relation(&self, oid: Oid) -> Option<&Relation> {
        self.objects.by_oid.get(&oid).and_then(|at| self.objects.relations.get(*at))
    }

    /// Every relation, in no order that means anything.
    pub fn relations(&self) -> impl Iterator<Item = &Relation> {
        self.objects.relations.iter()
    }

    /// What a name means: the relation of that schema, or the first one of that
    /// name on the search path.
    pub fn resolve(&self, name: &Name) -> Option<&Relation> {
        match &name.schema {
            Some(schema) => self.relation_named(self.real_schema(schema)?, &name.name),
            None => {
                let named = self.objects.by_name.get(&name.name)?;
                self.search_path.iter().find_map(|schema| {
                    named
                        .iter()
                        .filter_map(|at| self.objects.relations.get(*at))
                        .find(|relation| relation.schema == *schema)
                })
            }
        }
    }

    /// The relation of exactly this schema and name.
    pub fn relation_named(&self, schema: &str, name: &str) -> Option<&Relation> {
        self.objects
            .by_name
            .get(name)?
            .iter()
            .filter_map(|at| self.objects.relations.get(*at))
            .find(|relation| relation.schema == schema)
    }

    /// The relation that an index belongs to.
    pub fn index_relation(&self, name: &Name) -> Option<&Relation> {
        let named = self.objects.indexes.get(&name.name)?;
        let of = |schema: &str| named.iter().find(|(s, _)| s == schema).map(|(_, oid)| *oid);
        let oid = match &name.schema {
            Some(schema) => of(self.real_schema(schema)?),
            None => self.search_path.iter().find_map(|schema| of(schema)),
        }?;
        self.relation(oid)
    }

    /// The functions that are not PostgreSQL's own and that a call by this name
    /// may mean, whatever its arguments.
    pub fn functions(&self, name: &Name) -> impl Iterator<Item = &Function> {
        let schema = name.schema.clone();
        self.objects.functions.get(&name.name).into_iter().flatten().filter(move |function| {
            match &schema {
                Some(schema) => function.schema == *schema,
                None => self.search_path.contains(&function.schema),
            }
        })
    }

    /// Every function that is not PostgreSQL's own.
    pub fn all_functions(&self) -> impl Iterator<Item = &Function> {
        self.objects.functions.values().flatten()
    }

    /// PostgreSQL's own functions that run SQL, or read tables, which their arguments name.
    pub fn functions_that_run_sql() -> impl Iterator<Item = Oid> {
        lineage::RUNS_SQL.into_iter().map(Oid)
    }

    /// Whether a call by this name may mean one of PostgreSQL's own functions.
    pub fn has_builtin_function(&self, name: &Name) -> bool {
        name.schema.as_deref().is_none_or(|schema| schema == PG_CATALOG)
            && self.objects.builtin_functions.contains(&name.name)
    }

    /// Whether an operator of this name can only be one of PostgreSQL's own, or one
    /// that an extension compiled into the server (`citext`, `hstore`).
    pub fn operator_is_builtin(&self, name: &Name) -> bool {
        let others = self.objects.operators.get(&name.name).map(Vec::as_slice).unwrap_or_default();
        match name.schema.as_deref() {
            Some(PG_CATALOG) => !others.iter().any(|schema| schema == PG_CATALOG),
            Some(_) => false,
            None => !others.iter().any(|schema| self.search_path.contains(schema)),
        }
    }

    /// Whether a type of this name exists and its input is PostgreSQL's own code
    /// (built-in types, enums, composites, and domains and arrays of these).
    /// `None` where there is no such type.
    pub fn type_is_builtin(&self, name: &Name) -> Option<bool> {
        let named = self.objects.types.get(&name.name).map(Vec::as_slice).unwrap_or_default();
        let of = |schema: &str| named.iter().find(|(s, _)| s == schema).map(|(_, own)| *own);
        let found = match &name.schema {
            Some(schema) => of(self.real_schema(schema)?),
            None => self.search_path.iter().find_map(|schema| of(schema)),
        };
        // The rows of relations are types too, and so are arrays of them.
        let row = || self.resolve(name).map(|_| true);
        let rows = || {
            let element = name.name.strip_prefix('_')?.to_owned();
            self.resolve(&Name { schema: name.schema.clone(), name: element }).map(|_| true)
        };
        found.or_else(row).or_else(rows)
    }

    /// The schemas that unqualified names are looked for in, in order.
    pub fn search_path(&self) -> &[String] {
        &self.search_path
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        &self.objects.database
    }

    /// The user that read the catalog.
    pub fn user(&self) -> &str {
        &self.objects.user
    }

    /// The name of a type by its number, where reading a value of it runs code of the
    /// database's own: a domain with such a CHECK, or what holds a value of one.
    pub fn coded_type(&self, oid: Oid) -> Option<&Name> {
        self.objects.coded_types.get(&oid)
    }

    /// How the server keeps names, and so how it folds and cuts them.
    pub fn encoding(&self) -> Encoding {
        self.objects.encoding
    }

    /// `server_version_num`: 150013 for 15.13.
    pub fn server_version_num(&self) -> u32 {
        self.objects.version
    }

    /// SHA-256, in hex, over every relation's fingerprint and the search path.
    pub fn fingerprint(&self) -> String {
        let mut relations = self.relations().map(|r| (r.oid, r.fingerprint())).collect::<Vec<_>>();
        relations.sort();
        let bytes = serde_json::to_vec(&(relations, &self.search_path)).expect("plain data");
        hex(&Sha256::digest(bytes))
    }

    /// The schema that a qualified name's schema is: `pg_temp` is this session's own.
    fn real_schema<'a>(&'a self, schema: &'a str) -> Option<&'a str> {
        if schema != "pg_temp" {
            return Some(schema);
        }
        self.search_path.iter().map(String::as_str).find(|schema| schema.starts_with("pg_temp_"))
    }

    fn assemble(objects: Objects, search_path: Vec<String>) -> Self {
        let mut objects = objects;
        for (at, relation) in objects.relations.iter().enumerate() {
            objects.by_oid.insert(relation.oid, at);
            objects.by_name.entry(relation.name.clone()).or_default().push(at);
            for parent in &relation.parents {
                objects.children.entry(*parent).or_default().push(relation.oid);
            }
        }
        Self { objects: Arc::new(objects), search_path }
    }
}

const PG_CATALOG: &str = "pg_catalog";

/// The first OID that is not PostgreSQL's own.
const FIRST_NORMAL_OID: u32 = 16_384;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
