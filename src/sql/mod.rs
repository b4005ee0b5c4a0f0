//! SQL text → facts, and back: what a statement does, and the same statement
//! with its scans replaced.
//!
//! Owns reading SQL with PostgreSQL's own grammar, the walk over every node of
//! the tree, name resolution against a [`Catalog`] that is plain data, and
//! splicing. It refuses to judge: what is allowed is `policy`'s question. What
//! it can't classify it says so in [`Facts::unclassified`].

mod catalog;
mod facts;

pub use catalog::{
    AttributeNumber, CATALOG_QUERY, Catalog, CatalogError, Column, Function, Oid, Relation,
    RelationKind, Volatility,
};
pub use facts::{
    Access, Action, ColumnContext, ColumnUse, Facts, FunctionUse, Name, OperatorUse, RelationUse,
    Resolution, SettingUse, SideDoor, Statement, StatementKind, TransactionControl, TypeUse,
};
