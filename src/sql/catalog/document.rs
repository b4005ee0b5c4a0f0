//! The JSON document that `query.sql` makes, as it stands on the wire.

use std::collections::HashMap;

use serde::Deserialize;

use super::{
    AttributeNumber, Catalog, CatalogError, Column, Function, Lineage, Objects, Oid, Relation,
    RelationKind, Volatility,
};

#[derive(Deserialize)]
struct Document {
    version: u32,
    database: String,
    user: String,
    search_path: Vec<String>,
    relations: Vec<RelationRow>,
    column_types: Vec<TypeRow>,
    indexes: Vec<(String, String, Oid)>,
    functions: Vec<FunctionRow>,
    builtin_functions: Vec<String>,
    operators: Vec<(String, String)>,
    types: Vec<(String, String, bool)>,
}

/// OID, schema, name, relkind, temporary, parents, columns, what a view reads, its
/// analysed query, whether it reads with its caller's rights, whether writes have rules.
#[derive(Deserialize)]
struct RelationRow(
    Oid,
    String,
    String,
    char,
    bool,
    Vec<Oid>,
    Vec<ColumnRow>,
    Vec<(Oid, AttributeNumber)>,
    Option<String>,
    bool,
    bool,
);

/// Number, name, type, type modifier, NOT NULL, sources of a generated column.
#[derive(Deserialize)]
struct ColumnRow(AttributeNumber, String, Oid, i32, bool, Vec<AttributeNumber>);

/// Type, type modifier, text, base type.
#[derive(Deserialize)]
struct TypeRow(Oid, i32, String, String);

/// OID, schema, name, security definer, provolatile, extension, takes a row.
#[derive(Deserialize)]
struct FunctionRow(Oid, String, String, bool, char, Option<String>, bool);

/// Reads the document.
pub(super) fn read(text: &str) -> Result<Catalog, CatalogError> {
    let document = serde_json::from_str::<Document>(text).map_err(|error| {
        CatalogError(format!("the document is not what was asked for: {error}"))
    })?;
    let types = document
        .column_types
        .into_iter()
        .map(|TypeRow(oid, modifier, text, base)| ((oid, modifier), (text, base)))
        .collect::<HashMap<_, _>>();
    let mut objects = Objects {
        version: document.version,
        database: document.database,
        user: document.user,
        builtin_functions: document.builtin_functions.into_iter().collect(),
        ..Objects::default()
    };
    for row in document.relations {
        objects.relations.push(relation(row, &types)?);
    }
    for (schema, name, relation) in document.indexes {
        objects.indexes.entry(name).or_default().push((schema, relation));
    }
    for FunctionRow(oid, schema, name, security_definer, volatility, extension, takes_row) in
        document.functions
    {
        let volatility = match volatility {
            'i' => Volatility::Immutable,
            's' => Volatility::Stable,
            _ => Volatility::Volatile,
        };
        let function =
            Function { oid, schema, name, security_definer, volatility, extension, takes_row };
        objects.functions.entry(function.name.clone()).or_default().push(function);
    }
    for (schema, name) in document.operators {
        objects.operators.entry(name).or_default().push(schema);
    }
    for (schema, name, own) in document.types {
        objects.types.entry(name).or_default().push((schema, own));
    }
    Ok(Catalog::assemble(objects, document.search_path))
}

fn relation(
    row: RelationRow,
    types: &HashMap<(Oid, i32), (String, String)>,
) -> Result<Relation, CatalogError> {
    let RelationRow(
        oid,
        schema,
        name,
        kind,
        temporary,
        parents,
        columns,
        view_reads,
        action,
        security_invoker,
        write_rules,
    ) = row;
    let kind = match kind {
        'r' => RelationKind::Table,
        'p' => RelationKind::PartitionedTable,
        'v' => RelationKind::View,
        'm' => RelationKind::MaterializedView,
        'f' => RelationKind::ForeignTable,
        'S' => RelationKind::Sequence,
        'c' => RelationKind::CompositeType,
        other => {
            return Err(CatalogError(format!("{schema}.{name} is of the unknown kind '{other}'")));
        }
    };
    let columns = columns
        .into_iter()
        .map(|ColumnRow(number, name, type_oid, modifier, not_null, generated_from)| {
            let (type_text, base_type) =
                types.get(&(type_oid, modifier)).cloned().ok_or_else(|| {
                    CatalogError(format!("the type of column {name} is not in the document"))
                })?;
            Ok(Column { number, name, type_oid, type_text, base_type, not_null, generated_from })
        })
        .collect::<Result<Vec<_>, CatalogError>>()?;
    Ok(Relation {
        oid,
        schema,
        name,
        kind,
        temporary,
        columns,
        parents,
        view_reads,
        lineage: action.as_deref().and_then(Lineage::read),
        security_invoker,
        write_rules,
    })
}
