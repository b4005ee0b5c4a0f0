//! The JSON document that `query.sql` makes, as it stands on the wire.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::Deserialize;

use super::{
    AttributeNumber, Catalog, CatalogError, Column, Encoding, Function, Lineage, Name, Objects,
    Oid, Relation, RelationKind, Volatility,
};

#[derive(Deserialize)]
struct Document {
    version: u32,
    database: String,
    user: String,
    search_path: Vec<String>,
    relations: Vec<RelationsRow>,
    described: Described,
    parents: Vec<(Oid, Oid)>,
    partition_keys: Vec<(Oid, Vec<AttributeNumber>)>,
    views: Vec<ViewRow>,
    write_rules: Vec<Oid>,
    indexes: Vec<IndexesRow>,
    functions: Vec<FunctionRow>,
    builtin_functions: Vec<String>,
    operators: Vec<(String, String)>,
    types: Vec<TypesRow>,
    coded_types: Vec<(Oid, String, String)>,
    encoding: String,
}

/// The columns of relations.
#[derive(Deserialize)]
struct Described {
    /// The relations, also those without columns.
    oids: String,
    columns: Vec<ColumnsRow>,
    generated: Vec<(Oid, AttributeNumber, Vec<AttributeNumber>)>,
    column_types: Vec<TypeRow>,
}

/// Schema, relkind, temporary, OIDs, names.
#[derive(Deserialize)]
struct RelationsRow(String, char, bool, String, Vec<String>);

/// Type, type modifier, NOT NULL, the columns' places (OID and number, again and again),
/// their names.
#[derive(Deserialize)]
struct ColumnsRow(Oid, i32, bool, String, Vec<String>);

/// Type, type modifier, text, base type.
#[derive(Deserialize)]
struct TypeRow(Oid, i32, Arc<str>, Arc<str>);

/// OID, what it reads, its analysed query, whether it reads with its caller's rights.
#[derive(Deserialize)]
struct ViewRow(Oid, Vec<(Oid, AttributeNumber)>, Option<String>, bool);

/// Schema, the relations' OIDs, names.
#[derive(Deserialize)]
struct IndexesRow(String, String, Vec<String>);

/// Schema, whether their input is PostgreSQL's own code, names.
#[derive(Deserialize)]
struct TypesRow(String, bool, Vec<String>);

/// OID, schema, name, security definer, provolatile, extension, takes a row.
#[derive(Deserialize)]
struct FunctionRow(Oid, String, String, bool, char, Option<String>, bool);

/// Reads the document.
pub(super) fn read(text: &str) -> Result<Catalog, CatalogError> {
    let document = serde_json::from_str::<Document>(text).map_err(unlike)?;
    let mut objects = Objects {
        version: document.version,
        database: document.database,
        user: document.user,
        encoding: Encoding::named(&document.encoding),
        builtin_functions: document.builtin_functions.into_iter().collect(),
        ..Objects::default()
    };
    for RelationsRow(schema, kind, temporary, oids, names) in document.relations {
        let kind = relation_kind(kind)?;
        for (oid, name) in numbers::<u32>(&oids, names.len(), 1)?.into_iter().zip(names) {
            objects.relations.push(Relation {
                oid: Oid(oid),
                schema: schema.clone(),
                name,
                kind,
                temporary,
                columns: Vec::new(),
                described: false,
                parents: Vec::new(),
                partition_key: Vec::new(),
                view_reads: Vec::new(),
                lineage: None,
                security_invoker: false,
                write_rules: false,
            });
        }
    }
    let mut catalog = Catalog::assemble(objects, document.search_path);
    let objects = Arc::get_mut(&mut catalog.objects).expect("nobody else has it yet");
    fill(objects, document.described)?;
    for (child, parent) in document.parents {
        objects.relation_mut(child)?.parents.push(parent);
        objects.children.entry(parent).or_default().push(child);
    }
    for (oid, key) in document.partition_keys {
        objects.relation_mut(oid)?.partition_key = key;
    }
    for ViewRow(oid, reads, action, security_invoker) in document.views {
        let view = objects.relation_mut(oid)?;
        view.view_reads = reads;
        view.lineage = action.as_deref().and_then(Lineage::read);
        view.security_invoker = security_invoker;
    }
    for oid in document.write_rules {
        objects.relation_mut(oid)?.write_rules = true;
    }
    for IndexesRow(schema, relations, names) in document.indexes {
        for (relation, name) in numbers::<u32>(&relations, names.len(), 1)?.into_iter().zip(names) {
            objects.indexes.entry(name).or_default().push((schema.clone(), Oid(relation)));
        }
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
    for TypesRow(schema, own, names) in document.types {
        for name in names {
            objects.types.entry(name).or_default().push((schema.clone(), own));
        }
    }
    for (oid, schema, name) in document.coded_types {
        objects.coded_types.insert(oid, Name { schema: Some(schema), name });
    }
    Ok(catalog)
}

/// Adds the columns of further relations.
pub(super) fn describe(catalog: &Catalog, text: &str) -> Result<Catalog, CatalogError> {
    let described = serde_json::from_str::<Described>(text).map_err(unlike)?;
    let mut objects = Objects::clone(&catalog.objects);
    fill(&mut objects, described)?;
    Ok(Catalog { objects: Arc::new(objects), search_path: catalog.search_path.clone() })
}

fn fill(objects: &mut Objects, described: Described) -> Result<(), CatalogError> {
    let types = described
        .column_types
        .into_iter()
        .map(|TypeRow(oid, modifier, text, base)| ((oid, modifier), (text, base)))
        .collect::<HashMap<_, _>>();
    let mut columns = described
        .oids
        .split_ascii_whitespace()
        .map(|oid| Ok((Oid(number(oid)?), Vec::new())))
        .collect::<Result<BTreeMap<Oid, Vec<Column>>, CatalogError>>()?;
    for ColumnsRow(type_oid, modifier, not_null, places, names) in described.columns {
        let (type_text, base_type) = types.get(&(type_oid, modifier)).ok_or_else(|| {
            CatalogError(format!("the type {} of a column is not in the document", type_oid.0))
        })?;
        let places = numbers::<i64>(&places, names.len(), 2)?;
        for (place, name) in places.chunks_exact(2).zip(names) {
            let &[oid, number] = place else { continue };
            let of = u32::try_from(oid).ok().and_then(|oid| columns.get_mut(&Oid(oid)));
            let number = i16::try_from(number).ok();
            let (Some(of), Some(number)) = (of, number) else {
                return Err(CatalogError(format!("the column {name} has no place")));
            };
            of.push(Column {
                number: AttributeNumber(number),
                name,
                type_oid,
                type_text: type_text.clone(),
                base_type: base_type.clone(),
                not_null,
                generated_from: Vec::new(),
            });
        }
    }
    for (oid, number, sources) in described.generated {
        let column = columns
            .get_mut(&oid)
            .and_then(|columns| columns.iter_mut().find(|column| column.number == number));
        match column {
            Some(column) => column.generated_from = sources,
            None => return Err(CatalogError("a generated column has no place".to_owned())),
        }
    }
    for (oid, mut columns) in columns {
        columns.sort_by_key(|column| column.number);
        // One that came after the names were read is in the next catalog.
        if let Ok(relation) = objects.relation_mut(oid) {
            relation.columns = columns;
            relation.described = true;
        }
    }
    Ok(())
}

impl Objects {
    fn relation_mut(&mut self, oid: Oid) -> Result<&mut Relation, CatalogError> {
        let at = self.by_oid.get(&oid).copied();
        at.and_then(|at| self.relations.get_mut(at))
            .ok_or_else(|| CatalogError(format!("the relation {} is not in the document", oid.0)))
    }
}

fn relation_kind(kind: char) -> Result<RelationKind, CatalogError> {
    Ok(match kind {
        'r' => RelationKind::Table,
        'p' => RelationKind::PartitionedTable,
        'v' => RelationKind::View,
        'm' => RelationKind::MaterializedView,
        'f' => RelationKind::ForeignTable,
        'S' => RelationKind::Sequence,
        'c' => RelationKind::CompositeType,
        other => {
            return Err(CatalogError(format!("there is a relation of the unknown kind '{other}'")));
        }
    })
}

/// Numbers between blanks: so many for each of `count` names.
fn numbers<T: std::str::FromStr>(
    text: &str,
    count: usize,
    each: usize,
) -> Result<Vec<T>, CatalogError> {
    let numbers =
        text.split_ascii_whitespace().map(number).collect::<Result<Vec<T>, CatalogError>>()?;
    if numbers.len() == count.saturating_mul(each) {
        Ok(numbers)
    } else {
        Err(CatalogError("a list of numbers has another length than its names".to_owned()))
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, CatalogError> {
    text.parse().map_err(|_| CatalogError("a number was expected".to_owned()))
}

fn unlike(error: serde_json::Error) -> CatalogError {
    CatalogError(format!("the document is not what was asked for: {error}"))
}
