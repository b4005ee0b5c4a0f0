//! Which columns are masked or hidden: those that the rules name, and those that
//! the catalog derives from them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    policy::{MaskKind, Role, RuleRef},
    sql::{AttributeNumber, Catalog, Column, Foreseen, Function, Oid, Origin, Relation},
};

use super::Enforcement;

/// What covers a column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cover {
    /// It shows a mask.
    Mask { rule: RuleRef, kind: MaskKind },
    /// It isn't there at all.
    Hidden { rule: RuleRef },
}

impl Cover {
    pub(crate) fn rule(&self) -> &RuleRef {
        match self {
            Cover::Mask { rule, .. } | Cover::Hidden { rule } => rule,
        }
    }
}

pub(crate) type Covers = BTreeMap<Oid, BTreeMap<AttributeNumber, Cover>>;

/// Whether a relation is PostgreSQL's or pgate's own: no rule of a role is about it.
pub(crate) fn is_system(schema: &str) -> bool {
    matches!(schema, "pg_catalog" | "information_schema" | "pg_toast" | "pgate")
        || schema.starts_with("pg_toast_temp_")
}

/// Everything that is covered on one database.
#[derive(Debug, Default)]
pub(crate) struct Covered {
    pub(crate) columns: Covers,
    /// Views whose rows would tell of covered columns, with what it is that they tell of.
    pub(crate) veiled: BTreeMap<Oid, String>,
}

/// Every covered column.
pub(crate) fn covers(role: &Role, catalog: &Catalog, enforcement: Enforcement) -> Covered {
    let mut direct = BTreeMap::new();
    for relation in catalog.relations().filter(|relation| !is_system(&relation.schema)) {
        for column in &relation.columns {
            if let Some(cover) = named(role, relation, column) {
                direct.insert((relation.oid, column.number), cover);
            }
        }
    }
    if direct.is_empty() {
        return Covered::default();
    }
    hold_rows(catalog, &mut direct);
    let roots = direct.keys().copied().collect::<BTreeSet<_>>();
    let derived = catalog.derived_from(&roots, &unread(role, catalog, enforcement));
    let mut covered = Covered::default();
    for (key, origin) in &derived.columns {
        let (root, computed) = root_of(*origin, &derived.columns);
        let cover = match root {
            Root::Column(source) => match direct.get(&source) {
                // What is computed from a covered column, nobody knows how, shows only a constant.
                Some(cover) if computed => redacted(cover.rule().clone()),
                Some(cover) => cover.clone(),
                None => unreachable!("the catalog derives columns only from those it was given"),
            },
            Root::Function(_) => redacted(view_function()),
        };
        covered.columns.entry(key.0).or_default().insert(key.1, cover);
    }
    for (view, origin) in &derived.veiled {
        let what = match root_of(*origin, &derived.columns).0 {
            Root::Column((oid, number)) => column_name(catalog, oid, number),
            Root::Function(oid) => {
                let function = catalog.all_functions().find(|function| function.oid == oid);
                function.map_or_else(
                    || "a function".to_owned(),
                    |function| format!("the function {}.{}", function.schema, function.name),
                )
            }
        };
        covered.veiled.insert(*view, what);
    }
    for ((oid, number), cover) in direct {
        covered.columns.entry(oid).or_default().insert(number, cover);
    }
    covered
}

/// The relations whose columns must be known before a role can be compiled: those that
/// may have a column which its rules cover. What shows such columns of others (views,
/// inheritance) is always known.
pub fn foreseen(role: &Role) -> Foreseen {
    let mut foreseen = Foreseen::default();
    let masks = role.mask.iter().flat_map(|mask| &mask.columns);
    for pattern in masks.chain(&role.hide) {
        match pattern.parts() {
            [schema, relation, column]
                if column == "*" || ![schema, relation].iter().any(|part| part.contains('*')) =>
            {
                foreseen.relations(schema, relation);
            }
            [_, _, column] => foreseen.with_column(column),
            // `*` alone; no other length covers a column.
            _ => foreseen.relations("*", "*"),
        }
    }
    foreseen
}

/// Covers the columns whose values are rows, or arrays of rows, of what has covered columns:
/// a composite type whose attribute a rule names, or a table whose row is a type too.
fn hold_rows(catalog: &Catalog, direct: &mut BTreeMap<(Oid, AttributeNumber), Cover>) {
    let mut open = direct
        .iter()
        .map(|((oid, _), cover)| (*oid, cover.rule().clone()))
        .collect::<BTreeMap<_, _>>();
    // Types of PostgreSQL's own have no schema there.
    let columns = catalog
        .relations()
        .filter(|relation| !is_system(&relation.schema))
        .flat_map(|relation| relation.columns.iter().map(|column| (relation.oid, column)))
        .filter(|(_, column)| column.base_type.contains('.'))
        .collect::<Vec<_>>();
    let mut seen = BTreeSet::new();
    while let Some((held, rule)) = open.pop_first() {
        let Some(held) = catalog.relation(held).filter(|held| seen.insert(held.oid)) else {
            continue;
        };
        for (oid, column) in columns.iter().filter(|(_, column)| holds(column, held)) {
            direct.entry((*oid, column.number)).or_insert_with(|| redacted(rule.clone()));
            open.insert(*oid, rule.clone());
        }
    }
}

/// Whether a column's type is a relation's row, a domain over it or an array of it. An
/// array's name is the row's behind underscores, as much of it as fits.
fn holds(column: &Column, relation: &Relation) -> bool {
    let base = &*column.base_type;
    let name = base.strip_prefix(&*relation.schema).and_then(|rest| rest.strip_prefix('.'));
    let Some(name) = name else { return false };
    let (bare, row) = (name.trim_start_matches('_'), relation.name.trim_start_matches('_'));
    bare == row || name.len() >= 62 && row.starts_with(bare)
}

/// Where a derived column's values come from in the end.
enum Root {
    Column((Oid, AttributeNumber)),
    Function(Oid),
}

/// The root, and whether anything on the way is computed.
fn root_of(origin: Origin, derived: &BTreeMap<(Oid, AttributeNumber), Origin>) -> (Root, bool) {
    let mut origin = origin;
    let mut computed = false;
    loop {
        let source = match origin {
            Origin::Same(oid, number) => (oid, number),
            Origin::Computed(oid, number) => {
                computed = true;
                (oid, number)
            }
            Origin::Returned(function) => return (Root::Function(function), true),
        };
        match derived.get(&source) {
            Some(further) => origin = *further,
            None => return (Root::Column(source), computed),
        }
    }
}

fn redacted(rule: RuleRef) -> Cover {
    Cover::Mask { rule, kind: MaskKind::Redact }
}

/// The rule for what functions return that may read anything.
fn view_function() -> RuleRef {
    RuleRef { rule: "builtin.view-function".into(), place: None }
}

/// Extensions whose functions run SQL that their arguments hold.
const RUN_SQL: [&str; 3] = ["dblink", "tablefunc", "xml2"];

/// The functions whose results may hold a covered value, when a view calls them: those
/// that run with their owner's rights, and that no rule opens. Where PostgreSQL
/// doesn't keep the session from masked columns, any function may read them.
fn unread(role: &Role, catalog: &Catalog, enforcement: Enforcement) -> BTreeSet<Oid> {
    let may_read = |security_definer: bool| match enforcement {
        Enforcement::Ephemeral => security_definer,
        Enforcement::Static => true,
    };
    let own = match enforcement {
        Enforcement::Ephemeral => None,
        Enforcement::Static => Some(Catalog::functions_that_run_sql()),
    };
    let read_for_itself = |function: &Function| match function.extension.as_deref() {
        None => true,
        Some(extension) => RUN_SQL.contains(&extension),
    };
    let others = catalog
        .all_functions()
        .filter(|function| read_for_itself(function) && may_read(function.security_definer))
        .filter(|function| {
            let names = [function.schema.as_str(), function.name.as_str()];
            !role.functions.iter().any(|pattern| pattern.matches(&names))
        })
        .map(|function| function.oid);
    others.chain(own.into_iter().flatten()).collect()
}

/// `schema.table.column`.
fn column_name(catalog: &Catalog, oid: Oid, number: AttributeNumber) -> String {
    let relation = catalog.relation(oid);
    match relation.and_then(|relation| Some((relation, relation.column_by_number(number)?))) {
        Some((relation, column)) => {
            format!("{}.{}.{}", relation.schema, relation.name, column.name)
        }
        None => "a column".to_owned(),
    }
}

/// What the rules say of exactly this column: hiding beats masking, and the first mask counts.
fn named(role: &Role, relation: &Relation, column: &Column) -> Option<Cover> {
    let names = [relation.schema.as_str(), relation.name.as_str(), column.name.as_str()];
    if let Some(at) = role.hide.iter().position(|pattern| pattern.matches(&names)) {
        let rule = RuleRef { rule: format!("role.{}.hide[{at}]", role.name), place: None };
        return Some(Cover::Hidden { rule });
    }
    let mask =
        role.mask.iter().find(|mask| mask.columns.iter().any(|pattern| pattern.matches(&names)))?;
    Some(Cover::Mask { rule: mask.source.clone(), kind: mask.with.clone() })
}
