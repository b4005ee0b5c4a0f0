//! SQL text → facts, and back: what a statement does, and the same statement
//! with its scans replaced.
//!
//! Owns reading SQL with PostgreSQL's own grammar, the walk over every node of
//! the tree, name resolution against a [`Catalog`] that is plain data, and
//! splicing. It refuses to judge: what is allowed is `policy`'s question. What
//! it can't classify it says so in [`Facts::unclassified`].

mod analyse;
mod catalog;
mod facts;
mod parse;
mod position;
mod prescan;
mod pretty;
mod quote;
mod shape;
mod splice;
mod stack;
mod walk;

pub use analyse::{analyse, split};

pub use catalog::{
    AttributeNumber, CATALOG_QUERY, Catalog, CatalogBuilder, CatalogError, Column, ColumnLineage,
    Derived, EPOCH_QUERY, Encoding, Flow, Foreseen, Function, Lineage, Oid, Origin, Relation,
    RelationKind, Volatility, columns_query,
};
pub use facts::{
    Access, Action, ColumnContext, ColumnUse, CursorUse, Facts, FunctionUse, LookupPredicate, Name,
    OperatorUse, RelationUse, Resolution, RowCount, ScanReplacement, SettingUse, SettingValue,
    SideDoor, Statement, StatementKind, TransactionControl, TypeUse,
};
pub use parse::AnalysisError;
pub use pretty::pretty;
pub use quote::{quote_identifier, quote_literal};
pub use shape::{Shape, shape};
pub use splice::{SpliceError, Spliced, splice};
pub use stack::{has_large_stack, on_large_stack, start_on_large_stack};

#[cfg(test)]
mod tests;
