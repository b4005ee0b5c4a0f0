//! Which columns are masked or hidden: those that the rules name, and those that
//! the catalog derives from them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    policy::{MaskKind, Role, RuleRef},
    sql::{AttributeNumber, Catalog, Column, Oid, Origin, Relation},
};

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

/// Every covered column.
pub(super) fn covers(role: &Role, catalog: &Catalog) -> Covers {
    let mut direct = BTreeMap::new();
    for relation in catalog.relations().filter(|relation| !is_system(&relation.schema)) {
        for column in &relation.columns {
            if let Some(cover) = named(role, relation, column) {
                direct.insert((relation.oid, column.number), cover);
            }
        }
    }
    let roots = direct.keys().copied().collect::<BTreeSet<_>>();
    let derived = catalog.derived_from(&roots);
    let mut covers = Covers::new();
    for (key, origin) in &derived {
        // Every derived column leads back to one that a rule names.
        let mut origin = *origin;
        let mut computed = false;
        let cover = loop {
            let source = match origin {
                Origin::Same(oid, number) => (oid, number),
                Origin::Computed(oid, number) => {
                    computed = true;
                    (oid, number)
                }
            };
            if let Some(cover) = direct.get(&source) {
                break cover;
            }
            match derived.get(&source) {
                Some(further) => origin = *further,
                None => unreachable!("the catalog derives columns only from those it was given"),
            }
        };
        let cover = match cover {
            // What is computed from a covered column, nobody knows how, shows only a constant.
            cover if computed => Cover::Mask { rule: cover.rule().clone(), kind: MaskKind::Redact },
            cover => cover.clone(),
        };
        covers.entry(key.0).or_default().insert(key.1, cover);
    }
    for ((oid, number), cover) in direct {
        covers.entry(oid).or_default().insert(number, cover);
    }
    covers
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
