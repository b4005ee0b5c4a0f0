//! What a role's rules are as PostgreSQL privileges.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Unreadable,
    cover::{Cover, Covers, is_system},
    has_rows_of_its_own, qualified,
};
use crate::{
    policy::{Role, standing::Object},
    sql::{
        Action, AttributeNumber, Catalog, Column, Oid, Relation, RelationKind, quote_identifier,
    },
};

/// The privileges of a privilege role, as the parts of GRANT statements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Privileges {
    /// The database, unquoted.
    pub(super) database: String,
    /// Schemas that it may look into, quoted.
    pub(super) schemas: BTreeSet<String>,
    /// Schemas in which it may create, quoted.
    pub(super) creates_in: BTreeSet<String>,
    /// Whole relations by the list of privileges (`SELECT, INSERT`), quoted.
    pub(super) relations: BTreeMap<String, Vec<String>>,
    /// Column privileges: the privilege with its columns, and the relation.
    pub(super) columns: Vec<(String, String)>,
    /// Sequences by privileges, quoted.
    pub(super) sequences: BTreeMap<String, Vec<String>>,
    /// Functions by OID.
    pub(super) functions: Vec<Oid>,
    /// The role whose rights it has as well, unquoted.
    pub(super) owner: Option<String>,
}

/// The privileges that PostgreSQL has, as far as rules speak of them.
const TABLE: [(Action, &str); 5] = [
    (Action::Select, "SELECT"),
    (Action::Insert, "INSERT"),
    (Action::Update, "UPDATE"),
    (Action::Delete, "DELETE"),
    (Action::Truncate, "TRUNCATE"),
];

impl Privileges {
    pub(super) fn of(
        role: &Role,
        catalog: &Catalog,
        covers: &Covers,
        unreadable: &BTreeMap<Oid, Unreadable>,
    ) -> Self {
        let mut privileges = Self {
            database: catalog.database().to_owned(),
            owner: role.owner.clone(),
            ..Self::default()
        };
        let mut relations = catalog
            .relations()
            .filter(|relation| !is_system(&relation.schema) && !relation.temporary)
            .collect::<Vec<_>>();
        relations.sort_by_key(|relation| (&relation.schema, &relation.name));
        for relation in &relations {
            match relation.kind {
                RelationKind::Sequence => privileges.sequence(role, relation, &relations),
                RelationKind::CompositeType => {}
                // Even a write through it says how many rows it has.
                _ if matches!(
                    unreadable.get(&relation.oid),
                    Some(Unreadable::TellingRows { .. })
                ) => {}
                _ => privileges.relation(role, relation, covers, catalog),
            }
        }
        for function in catalog.all_functions().filter(|function| function.schema != "pgate") {
            let names = [function.schema.as_str(), function.name.as_str()];
            if role.functions.iter().any(|pattern| pattern.matches(&names)) {
                privileges.schemas.insert(quote_identifier(&function.schema));
                privileges.functions.push(function.oid);
            }
        }
        privileges.functions.sort();
        privileges
    }

    /// Whether it may be locked (LOCK TABLE), which takes a privilege on all of it.
    pub(super) fn may_lock(&self, relation: &Relation, to_read: bool) -> bool {
        let name = qualified(relation);
        let any: &[&str] =
            if to_read { &["SELECT"] } else { &["UPDATE", "DELETE", "TRUNCATE", "MAINTAIN"] };
        self.relations
            .iter()
            .filter(|(_, names)| names.contains(&name))
            .any(|(privileges, _)| privileges.split(", ").any(|one| any.contains(&one)))
    }

    fn relation(&mut self, role: &Role, relation: &Relation, covers: &Covers, catalog: &Catalog) {
        let object = Object::Relation(&relation.schema, &relation.name);
        let covered = covers.get(&relation.oid);
        let mut whole = Vec::new();
        for (action, privilege) in TABLE {
            let writes = matches!(action, Action::Insert | Action::Update);
            let may = |column: &Column| {
                let object = Object::Column(&relation.schema, &relation.name, &column.name);
                writes
                    && role.may(action, object)
                    && !role.may_not_store(action, (relation, column), catalog)
            };
            let whole_row = role.may(action, object);
            let none = !whole_row && !relation.columns.iter().any(may);
            if none || role.may_not_beneath(action, relation, catalog) {
                continue;
            }
            // A rule's commands run with its owner's rights, on whatever it reads.
            if action != Action::Select && relation.write_rules && !covers.is_empty() {
                continue;
            }
            self.schemas.insert(quote_identifier(&relation.schema));
            let open = |number: AttributeNumber| {
                let cover = covered.and_then(|covered| covered.get(&number));
                match (action, cover) {
                    (_, None) => true,
                    (Action::Select, Some(_)) | (_, Some(Cover::Hidden { .. })) => false,
                    (_, Some(Cover::Mask { .. })) => true,
                }
            };
            let open = |column: &Column| {
                open(column.number) && if writes { may(column) } else { whole_row }
            };
            let by_column = (writes || action == Action::Select)
                && !(whole_row && relation.columns.iter().all(open));
            if !by_column {
                whole.push(privilege);
                continue;
            }
            let mut columns = relation
                .columns
                .iter()
                .filter(|column| open(column))
                .map(|column| quote_identifier(&column.name))
                .collect::<Vec<_>>();
            let hidden = |column: &Column| {
                let cover = covered.and_then(|covered| covered.get(&column.number));
                matches!(cover, Some(Cover::Hidden { .. }))
            };
            let shows = !relation.columns.iter().all(hidden);
            if action == Action::Select && has_rows_of_its_own(relation) && shows {
                // Mask functions are asked by the row's place.
                columns.extend(["ctid".to_owned(), "tableoid".to_owned()]);
            }
            if !columns.is_empty() {
                let privilege = format!("{privilege} ({})", columns.join(", "));
                self.columns.push((privilege, qualified(relation)));
            }
        }
        if role.may(Action::Maintain, object) && catalog.server_version_num() >= 170_000 {
            whole.push("MAINTAIN");
        }
        if role.owner.is_some() && role.may(Action::Create, object) {
            self.creates_in.insert(quote_identifier(&relation.schema));
        }
        if !whole.is_empty() {
            self.relations.entry(whole.join(", ")).or_default().push(qualified(relation));
        }
    }

    /// A sequence serves the columns of a table, which the catalog doesn't tell: by
    /// PostgreSQL's own naming it begins with the table's name.
    fn sequence(&mut self, role: &Role, sequence: &Relation, relations: &[&Relation]) {
        let object = Object::Relation(&sequence.schema, &sequence.name);
        let serves = |relation: &&&Relation| {
            relation.schema == sequence.schema
                && sequence.name.ends_with("_seq")
                && sequence
                    .name
                    .strip_prefix(relation.name.as_str())
                    .is_some_and(|rest| rest.starts_with('_'))
                && takes_defaults(role, relation)
        };
        let mut rights = Vec::new();
        if role.may(Action::Insert, object) || relations.iter().any(|r| serves(&r)) {
            rights.push("USAGE");
        }
        if role.may(Action::Select, object) {
            rights.push("SELECT");
        }
        if !rights.is_empty() {
            self.schemas.insert(quote_identifier(&sequence.schema));
            self.sequences.entry(rights.join(", ")).or_default().push(qualified(sequence));
        }
    }
}

/// Whether a row, or some columns of one, may be inserted, or be updated to their DEFAULT.
fn takes_defaults(role: &Role, relation: &Relation) -> bool {
    let (schema, name) = (relation.schema.as_str(), relation.name.as_str());
    let may = |action| {
        role.may(action, Object::Relation(schema, name))
            || relation
                .columns
                .iter()
                .any(|column| role.may(action, Object::Column(schema, name, &column.name)))
    };
    may(Action::Insert) || may(Action::Update)
}
