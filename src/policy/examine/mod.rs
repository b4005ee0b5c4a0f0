//! Whether a database holds what a policy promises on it: every problem at once, with
//! what mends it.
//!
//! Owns the findings and their weight, as functions of plain data. It refuses to connect:
//! whoever has a connection brings the catalog and the [`Survey`]. An **error** breaks what
//! `pgate policy check` says that a layer enforces, or leaves a rule without effect; a
//! **warning** is worth a look.

mod names;
mod objects;
mod personal;
mod privileges;
mod survey;
mod versions;

use std::collections::BTreeSet;

use serde::Serialize;

pub use self::{
    personal::Personal,
    survey::{Definer, Holding, SURVEY_QUERY, Sample, Survey, SurveyDocumentError},
};
use super::{
    Compiled, Credential, Enforcement, Policy, Role, RuleRef, Target,
    compile::{self, Covered, covers, is_system},
    standing::Object,
};
use crate::sql::{
    Action, AttributeNumber, Catalog, Column, Name, Oid, Relation, RelationKind, quote_identifier,
};

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// What the policy promises doesn't hold, or a rule has no effect.
    Error,
    /// Worth a look.
    Warning,
}

/// What mends a finding.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mend {
    /// A statement for the database, by its owner or an administrator.
    Sql(String),
    /// A change of the policy files.
    Policy(String),
    /// Something else to do.
    Do(String),
}

/// One thing that is wrong, or worth a look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its weight.
    pub severity: Severity,
    /// Its kind, for programs: `public-privilege`.
    pub code: &'static str,
    /// What it is about: `shop.customers.email`, `schema public`.
    pub object: String,
    /// The roles of the policy that it touches; empty where it touches all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The rule that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleRef>,
    /// What is wrong, in a sentence without a full stop.
    pub problem: String,
    /// Why that matters, likewise.
    pub why: String,
    /// What mends it, each alone.
    pub mend: Vec<Mend>,
}

/// Everything that is wrong with a database as the target of a policy, errors first. What
/// only a survey can tell is left out where there is none.
pub fn examine(
    policy: &Policy,
    target: &Target,
    catalog: &Catalog,
    survey: Option<&Survey>,
) -> Vec<Finding> {
    let subject = Subject::new(policy, target, catalog);
    let mut findings = Vec::new();
    for view in &subject.views {
        names::rules(view, &subject, &mut findings);
        objects::masks(view, &subject, survey, &mut findings);
    }
    objects::foreign_tables(&subject, &mut findings);
    personal_columns(&subject, survey, &mut findings);
    if let Some(survey) = survey {
        names::of_database(&subject, survey, &mut findings);
        privileges::of_public(&subject, survey, &mut findings);
        privileges::definers(&subject, survey, &mut findings);
        objects::superusers_views(&subject, survey, &mut findings);
    }
    versions::holes(&subject, survey, &mut findings);
    findings.sort_by(|a, b| {
        (a.severity, a.code, &a.object, &a.roles).cmp(&(b.severity, b.code, &b.object, &b.roles))
    });
    findings
}

/// The columns whose contents are worth a look: those that some role of the target may
/// read raw, of types whose values are plain text to read, in tables that hold rows. Columns
/// of the same relation come together.
pub fn columns_to_sample<'a>(
    policy: &'a Policy,
    target: &'a Target,
    catalog: &'a Catalog,
) -> Vec<(&'a Relation, Vec<&'a Column>)> {
    const READABLE: [&str; 12] = [
        "text", "varchar", "bpchar", "json", "jsonb", "int4", "int8", "numeric", "_text",
        "_varchar", "citext", "_bpchar",
    ];
    let subject = Subject::new(policy, target, catalog);
    let mut found = Vec::new();
    for relation in subject.relations() {
        let holds_rows = matches!(
            relation.kind,
            RelationKind::Table | RelationKind::PartitionedTable | RelationKind::MaterializedView
        );
        // Whatever a partition holds its parent shows.
        if !holds_rows || subject.has_readable_parent(relation) || subject.has_foreign(relation) {
            continue;
        }
        let readable = |column: &&Column| {
            let name = Name { schema: None, name: column.base_type.to_string() };
            READABLE.contains(&&*column.base_type)
                // An extension's text, and nothing of that name that somebody else made.
                || column.base_type.ends_with(".citext")
                    && catalog.type_is_builtin(&schema_and_name(&column.base_type).unwrap_or(name))
                        == Some(true)
        };
        let columns = relation
            .columns
            .iter()
            .filter(readable)
            .filter(|column| !subject.raw_for(relation, column).is_empty())
            .collect::<Vec<_>>();
        if !columns.is_empty() {
            found.push((relation, columns));
        }
    }
    found
}

fn schema_and_name(text: &str) -> Option<Name> {
    let (schema, name) = text.split_once('.')?;
    Some(Name { schema: Some(schema.to_owned()), name: name.to_owned() })
}

/// A policy's roles on one target, and its catalog.
struct Subject<'a> {
    target: &'a Target,
    catalog: &'a Catalog,
    views: Vec<View<'a>>,
}

/// One role on the target.
struct View<'a> {
    role: &'a Role,
    covers: Covered,
    compiled: Result<Compiled, compile::CompileError>,
    /// Schemas in which its privilege role may look.
    schemas: BTreeSet<&'a str>,
}

impl<'a> Subject<'a> {
    fn new(policy: &'a Policy, target: &'a Target, catalog: &'a Catalog) -> Self {
        let enforcement = match target.credential {
            Credential::Ephemeral { .. } => Enforcement::Ephemeral,
            Credential::Static { .. } => Enforcement::Static,
        };
        let on_target = |role: &&Role| role.targets.contains(&target.name);
        let view = |role: &'a Role| View {
            role,
            covers: covers(role, catalog, enforcement),
            compiled: compile::compile(role, catalog, enforcement),
            schemas: schemas_of(role, catalog),
        };
        Self { target, catalog, views: policy.roles.values().filter(on_target).map(view).collect() }
    }

    /// Whether PostgreSQL is promised to stand behind the rules; else the proxy alone is.
    fn is_ephemeral(&self) -> bool {
        matches!(self.target.credential, Credential::Ephemeral { .. })
    }

    /// An error where PostgreSQL is promised to hold, else a warning.
    fn broken(&self) -> Severity {
        if self.is_ephemeral() { Severity::Error } else { Severity::Warning }
    }

    /// Relations that rules are about, by name.
    fn relations(&self) -> Vec<&'a Relation> {
        let mut relations = self
            .catalog
            .relations()
            .filter(|relation| !is_system(&relation.schema) && !relation.temporary)
            .filter(|relation| relation.kind != RelationKind::CompositeType)
            .collect::<Vec<_>>();
        relations.sort_by_key(|relation| (&relation.schema, &relation.name));
        relations
    }

    /// The roles that see this column's raw value.
    fn raw_for(&self, relation: &Relation, column: &Column) -> Vec<&'a Role> {
        let raw = |view: &&View<'a>| {
            view.may(Action::Select, relation)
                && view.cover(relation.oid, column.number).is_none()
                && !view.covers.veiled.contains_key(&relation.oid)
        };
        self.views.iter().filter(raw).map(|view| view.role).collect()
    }

    fn has_readable_parent(&self, relation: &Relation) -> bool {
        relation
            .parents
            .iter()
            .filter_map(|parent| self.catalog.relation(*parent))
            .any(|parent| self.views.iter().any(|view| view.may(Action::Select, parent)))
    }

    /// Whether a scan of it reaches another server.
    fn has_foreign(&self, relation: &Relation) -> bool {
        let mut open = vec![relation.oid];
        let mut seen = BTreeSet::new();
        while let Some(oid) = open.pop() {
            for child in self.catalog.relations().filter(|child| child.parents.contains(&oid)) {
                if child.kind == RelationKind::ForeignTable {
                    return true;
                }
                if seen.insert(child.oid) {
                    open.push(child.oid);
                }
            }
        }
        false
    }
}

impl View<'_> {
    fn may(&self, action: Action, relation: &Relation) -> bool {
        self.role.may(action, Object::Relation(&relation.schema, &relation.name))
    }

    fn cover(&self, relation: Oid, column: AttributeNumber) -> Option<&compile::Cover> {
        self.covers.columns.get(&relation)?.get(&column)
    }

    /// The names of a relation's covered columns.
    fn covered(&self, relation: &Relation) -> Vec<String> {
        let columns = self.covers.columns.get(&relation.oid).into_iter().flatten();
        columns
            .filter_map(|(number, _)| relation.column_by_number(*number))
            .map(|column| column.name.clone())
            .collect()
    }
}

/// The schemas in which a role may use anything.
fn schemas_of<'c>(role: &Role, catalog: &'c Catalog) -> BTreeSet<&'c str> {
    const ACTIONS: [Action; 5] =
        [Action::Select, Action::Insert, Action::Update, Action::Delete, Action::Truncate];
    let relations = catalog.relations().filter(|relation| !is_system(&relation.schema));
    let of_relations = relations.filter(|relation| {
        let object = Object::Relation(&relation.schema, &relation.name);
        ACTIONS.iter().any(|action| role.may(*action, object))
    });
    let functions = catalog.all_functions().filter(|function| {
        let names = [function.schema.as_str(), function.name.as_str()];
        role.functions.iter().any(|pattern| pattern.matches(&names))
    });
    of_relations
        .map(|relation| relation.schema.as_str())
        .chain(functions.map(|function| function.schema.as_str()))
        .collect()
}

/// Columns that some role sees raw though they look personal.
fn personal_columns(subject: &Subject<'_>, survey: Option<&Survey>, findings: &mut Vec<Finding>) {
    for relation in subject.relations() {
        if relation.kind == RelationKind::Sequence || subject.has_readable_parent(relation) {
            continue;
        }
        for column in &relation.columns {
            let roles = subject.raw_for(relation, column);
            if roles.is_empty() {
                continue;
            }
            let sample =
                survey.and_then(|survey| survey.samples.get(&(relation.oid, column.number)));
            let by_value = sample.and_then(Personal::of_sample);
            let by_name = Personal::of_column(column);
            let Some(kind) = by_value.map(|(kind, _)| kind).or(by_name) else { continue };
            let seen = match (by_value, sample) {
                (Some((_, hits)), Some(sample)) => {
                    format!("{hits} of {} sampled values look like {}", sample.values, kind.name())
                }
                _ => format!("its name suggests {}", kind.name()),
            };
            let name = format!("{}.{}.{}", relation.schema, relation.name, column.name);
            let (key, item) = kind.cover(&name, column, by_name == Some(kind));
            let names = roles.iter().map(|role| role.name.clone()).collect::<Vec<_>>();
            let mend = |role: &String| Mend::Policy(format!("[role.{role}] {key} = [{item}]"));
            findings.push(Finding {
                severity: Severity::Warning,
                code: "personal-unmasked",
                mend: names.iter().map(mend).collect(),
                problem: format!("{name} is shown raw, and {seen}"),
                why: "no mask or hide rule of these roles covers it".to_owned(),
                object: name,
                roles: names,
                rule: None,
            });
        }
    }
}

/// `schema.name`, quoted where needed.
fn quoted(relation: &Relation) -> String {
    format!("{}.{}", quote_identifier(&relation.schema), quote_identifier(&relation.name))
}

/// `schema.name`, as people say it.
fn named(relation: &Relation) -> String {
    format!("{}.{}", relation.schema, relation.name)
}

#[cfg(test)]
mod tests;
