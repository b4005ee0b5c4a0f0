//! What a role compiles to on one database: replacements for its scans, and the
//! SQL that makes PostgreSQL itself enforce it.
//!
//! Pure and deterministic: the control plane and the proxy each compile on their
//! own view of the catalog, and mask functions are named after everything that
//! they rest on. Where the two views differ a function doesn't exist, and the
//! statement fails: drift closes.

mod binding;
mod cover;
mod functions;
mod install;
mod privileges;

use std::collections::{BTreeMap, HashSet};

use sha2::{Digest, Sha256};

pub use self::binding::{Unbound, bound};
pub use self::cover::foreseen;
pub(super) use self::cover::{Cover, Covered, Covers, covers, is_system};
use self::{
    functions::{LookupScan, ReaderFunction},
    privileges::Privileges,
};
use super::{
    MaskKind, Role, RuleRef,
    document::hex,
    masking::{self, MaskError, Source},
};
use crate::sql::{
    Action, AttributeNumber, Catalog, Column, Oid, Relation, RelationKind, quote_identifier,
};

/// What the names of privilege roles begin with.
pub const PRIVILEGE_ROLE_PREFIX: &str = "pgate_p_";

/// Who stands behind a role's masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforcement {
    /// PostgreSQL, through a role of the session's own.
    Ephemeral,
    /// The proxy alone: the database role is shared, and nothing is installed.
    Static,
}

/// A mask that doesn't fit its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The column, as `schema.table.column`.
    pub column: String,
    /// The rule that masks it.
    pub rule: RuleRef,
    /// Why not.
    pub error: MaskError,
}

/// A role that can't be enforced on this database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the policy doesn't fit this database: {}", told(.misfits))]
pub struct CompileError {
    /// Every mask that doesn't fit.
    pub misfits: Vec<Misfit>,
}

fn told(misfits: &[Misfit]) -> String {
    let one = |misfit: &Misfit| format!("{} ({}): {}", misfit.column, misfit.rule, misfit.error);
    misfits.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// A role on one database.
#[derive(Debug, Clone)]
pub struct Compiled {
    privilege_role: String,
    writes: bool,
    owner: Option<String>,
    covers: Covers,
    covered: HashSet<(Oid, AttributeNumber)>,
    replacements: BTreeMap<Oid, Replacement>,
    unreadable: BTreeMap<Oid, Unreadable>,
    functions: Vec<ReaderFunction>,
    /// The columns that may be looked up.
    lookups: BTreeMap<(Oid, AttributeNumber), LookupScan>,
    /// None where nothing may be installed.
    privileges: Option<Privileges>,
}

/// Why a view can't be read at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Which rows it has (a partition by a masked column, too) tells of this, whatever is
    /// shown of them; so do writes through it.
    TellingRows { of: String },
    /// No column of a view is clean, or all of a table are hidden: PostgreSQL lets nobody
    /// scan it.
    NothingClean,
    /// It reads masked columns with the session's own rights, which don't suffice.
    CallersRights,
}

/// The sub-select that stands for a scan, with and without `ONLY`.
#[derive(Debug, Clone)]
struct Replacement {
    list: String,
    relation: String,
}

/// Compiles a role against a database's catalog.
///
/// # Errors
/// Every mask that doesn't fit the type of a column that it covers.
pub fn compile(
    role: &Role,
    catalog: &Catalog,
    enforcement: Enforcement,
) -> Result<Compiled, CompileError> {
    let Covered { columns: covers, veiled } = covers(role, catalog, enforcement);
    let unreadable = unreadable(catalog, enforcement, &covers, veiled);
    let mut misfits = Vec::new();
    let mut functions = Vec::new();
    let mut lookups = BTreeMap::new();
    let mut replacements = BTreeMap::new();
    let mut covered = HashSet::new();
    for (oid, columns) in &covers {
        let Some(relation) = catalog.relation(*oid) else { continue };
        covered.extend(columns.keys().map(|number| (*oid, *number)));
        let mut list = Vec::new();
        // The first mask in the list.
        let mut constant = None;
        for column in &relation.columns {
            let shown = match columns.get(&column.number) {
                None => quote_identifier(&column.name),
                Some(Cover::Hidden { .. }) => continue,
                Some(Cover::Mask { rule, kind }) => {
                    let kind = kind_on(relation, kind);
                    match masked(&kind, relation, column, catalog, enforcement) {
                        Ok((expression, function)) => {
                            functions.extend(function);
                            let name = quote_identifier(&column.name);
                            constant.get_or_insert((list.len(), name));
                            format!("{expression} AS {}", quote_identifier(&column.name))
                        }
                        Err(error) => {
                            let (schema, name) = (&relation.schema, &relation.name);
                            misfits.push(Misfit {
                                column: format!("{schema}.{name}.{}", column.name),
                                rule: rule.clone(),
                                error,
                            });
                            continue;
                        }
                    }
                }
            };
            list.push(shown);
            let open = enforcement == Enforcement::Ephemeral
                && columns.contains_key(&column.number)
                && may_look_up(role, relation, column);
            if !open {
                continue;
            }
            match ReaderFunction::lookup(relation, column, catalog) {
                Ok(function) => {
                    let scan = LookupScan::new(&function, relation, catalog);
                    lookups.insert((*oid, column.number), scan);
                    functions.push(function);
                }
                Err(error) => misfits.push(Misfit {
                    column: format!("{}.{}.{}", relation.schema, relation.name, column.name),
                    rule: RuleRef { rule: format!("role.{}.lookup", role.name), place: None },
                    error,
                }),
            }
        }
        // PostgreSQL lets nobody scan a table of which they name no column that they may read.
        let bare = enforcement == Enforcement::Ephemeral
            && has_rows_of_its_own(relation)
            && relation.columns.iter().all(|column| columns.contains_key(&column.number))
            && !list.iter().any(|shown| shown.contains(".ctid)"));
        if let Some((shown, column)) = constant.filter(|_| bare)
            && let Some(first) = list.get_mut(shown)
        {
            let place = format!("{}.ctid", quote_identifier(&relation.name));
            *first = format!(
                "CASE WHEN {place} IS NULL THEN NULL ELSE {} END AS {column}",
                first.strip_suffix(&format!(" AS {column}")).unwrap_or(first),
            );
        }
        replacements
            .insert(*oid, Replacement { list: list.join(", "), relation: qualified(relation) });
    }
    if !misfits.is_empty() {
        return Err(CompileError { misfits });
    }
    let privileges = match enforcement {
        Enforcement::Ephemeral => Some(Privileges::of(role, catalog, &covers, &unreadable)),
        Enforcement::Static => None,
    };
    Ok(Compiled {
        privilege_role: privilege_role(role, catalog),
        writes: writes(role),
        owner: role.owner.clone(),
        covers,
        covered,
        replacements,
        unreadable,
        functions,
        lookups,
        privileges,
    })
}

impl Compiled {
    /// The masked and hidden columns: none may show up as such in a result.
    pub fn masked_columns(&self) -> &HashSet<(Oid, AttributeNumber)> {
        &self.covered
    }

    /// Whether PostgreSQL lets the role lock the relation as a whole: for that columns
    /// don't do. Where nothing is installed, or an owner's rights are had, it is not known.
    pub(super) fn may_lock(&self, relation: &Relation, to_read: bool) -> bool {
        let privileges = self.privileges.as_ref().filter(|_| self.owner.is_none());
        privileges.is_none_or(|privileges| privileges.may_lock(relation, to_read))
    }

    /// Whether only a table's owner may maintain it and no session is one (PostgreSQL
    /// before 17).
    pub(super) fn needs_owner_to_maintain(&self, catalog: &Catalog) -> bool {
        self.privileges.is_some() && self.owner.is_none() && catalog.server_version_num() < 170_000
    }

    /// The name of the NOLOGIN role that holds the privileges of this role, in
    /// this version, on this database.
    pub fn privilege_role(&self) -> &str {
        &self.privilege_role
    }

    /// Whether the role may ever write. Where it doesn't, its sessions are read-only.
    pub fn writes(&self) -> bool {
        self.writes
    }

    /// Whom objects belong to that a session creates: the session's role is to be
    /// set to it (`ALTER ROLE … SET role`).
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// The sub-select to put in the place of a scan of this relation, without
    /// parentheses; none where all of its columns are clean.
    pub fn replacement_for(&self, relation: Oid, only: bool) -> Option<String> {
        let Replacement { list, relation } = self.replacements.get(&relation)?;
        let only = if only { "ONLY " } else { "" };
        Some(format!("SELECT {list} FROM {only}{relation}"))
    }

    /// The condition on a scan's rows that looks these values up in one of its masked
    /// columns; none where the role may not, or the values aren't of its type.
    pub(super) fn lookup(
        &self,
        relation: Oid,
        column: AttributeNumber,
        values: &[String],
    ) -> Option<String> {
        self.lookups.get(&(relation, column))?.condition(values)
    }

    /// Whether the role may look values of this column up.
    pub(super) fn may_look_up(&self, relation: Oid, column: AttributeNumber) -> bool {
        self.lookups.contains_key(&(relation, column))
    }

    /// The statements that make PostgreSQL enforce the role: roles, schema `pgate`,
    /// mask functions, and the privileges of `privilege_role`, anew. Idempotent; to
    /// be run by an administrator in one transaction. Empty where the credential
    /// is static.
    pub fn install_sql(&self, privilege_role: &str) -> Vec<String> {
        match &self.privileges {
            Some(privileges) => install::statements(&self.functions, privileges, privilege_role),
            None => Vec::new(),
        }
    }

    /// What covers a column.
    pub(super) fn cover(&self, relation: Oid, column: AttributeNumber) -> Option<&Cover> {
        self.covers.get(&relation)?.get(&column)
    }

    /// Whether any column of it is masked or hidden.
    pub(super) fn covers_any(&self, relation: Oid) -> bool {
        self.covers.contains_key(&relation)
    }

    /// A masked column that says in which partition of its table a row lies.
    pub(crate) fn divided_by(&self, catalog: &Catalog) -> Option<&str> {
        let view = |relation: &Relation| {
            matches!(relation.kind, RelationKind::View | RelationKind::MaterializedView)
        };
        self.unreadable.iter().find_map(|(oid, unreadable)| match unreadable {
            Unreadable::TellingRows { of } => {
                catalog.relation(*oid).filter(|relation| !view(relation)).map(|_| of.as_str())
            }
            Unreadable::NothingClean | Unreadable::CallersRights => None,
        })
    }

    /// Why nothing can stand for its scan, if so.
    pub(super) fn unreadable(&self, relation: Oid) -> Option<&Unreadable> {
        self.unreadable.get(&relation)
    }

    /// One rule that covers a column of it.
    pub(super) fn any_cover(&self, relation: Oid) -> Option<&Cover> {
        self.covers.get(&relation)?.values().next()
    }

    /// The covered columns of a relation, by number.
    pub(super) fn covered(&self, relation: Oid) -> impl Iterator<Item = (AttributeNumber, &Cover)> {
        self.covers.get(&relation).into_iter().flatten().map(|(number, cover)| (*number, cover))
    }
}

/// The views that can't be read, and why.
fn unreadable(
    catalog: &Catalog,
    enforcement: Enforcement,
    covers: &Covers,
    veiled: BTreeMap<Oid, String>,
) -> BTreeMap<Oid, Unreadable> {
    let mut unreadable = veiled
        .into_iter()
        .map(|(oid, of)| (oid, Unreadable::TellingRows { of }))
        .collect::<BTreeMap<_, _>>();
    if enforcement == Enforcement::Static {
        return unreadable;
    }
    for (oid, columns) in covers {
        let hidden =
            |column: &Column| matches!(columns.get(&column.number), Some(Cover::Hidden { .. }));
        if catalog.relation(*oid).is_some_and(|relation| relation.columns.iter().all(hidden)) {
            unreadable.entry(*oid).or_insert(Unreadable::NothingClean);
        }
    }
    let views = catalog.relations().filter(|relation| relation.kind == RelationKind::View);
    let views = views.collect::<Vec<_>>();
    for view in &views {
        let covered = covers.get(&view.oid);
        let clean = |column: &Column| covered.is_none_or(|all| !all.contains_key(&column.number));
        if covered.is_some() && !view.columns.iter().any(clean) {
            unreadable.entry(view.oid).or_insert(Unreadable::NothingClean);
        }
        let reads_covered = view.view_reads.iter().any(|(read, number)| {
            covers.get(read).is_some_and(|covered| {
                *number == AttributeNumber::WHOLE_ROW || covered.contains_key(number)
            })
        });
        if view.security_invoker && reads_covered {
            unreadable.entry(view.oid).or_insert(Unreadable::CallersRights);
        }
    }
    // Inside other views it still reads with the session's rights.
    loop {
        let stuck = |read: &Oid| unreadable.get(read) == Some(&Unreadable::CallersRights);
        let further = views
            .iter()
            .filter(|view| !unreadable.contains_key(&view.oid))
            .filter(|view| view.view_reads.iter().any(|(read, _)| stuck(read)))
            .map(|view| view.oid)
            .collect::<Vec<_>>();
        if further.is_empty() {
            return unreadable;
        }
        unreadable.extend(further.into_iter().map(|oid| (oid, Unreadable::CallersRights)));
    }
}

/// `schema.name`, quoted where needed.
fn qualified(relation: &Relation) -> String {
    format!("{}.{}", quote_identifier(&relation.schema), quote_identifier(&relation.name))
}

/// Whether its rows can be addressed by their place.
pub(super) fn has_rows_of_its_own(relation: &Relation) -> bool {
    matches!(
        relation.kind,
        RelationKind::Table | RelationKind::PartitionedTable | RelationKind::MaterializedView
    )
}

/// Whether a rule opens a column of a table for look-ups.
fn may_look_up(role: &Role, relation: &Relation, column: &Column) -> bool {
    let names = [relation.schema.as_str(), relation.name.as_str(), column.name.as_str()];
    has_rows_of_its_own(relation) && role.lookup.iter().any(|pattern| pattern.matches(&names))
}

/// The mask that a column of this relation can show: where rows can't be addressed,
/// nothing can be made from a value.
fn kind_on(relation: &Relation, kind: &MaskKind) -> MaskKind {
    if masking::reads_value(kind) && !has_rows_of_its_own(relation) {
        MaskKind::Redact
    } else {
        kind.clone()
    }
}

/// The expression for one masked column, and the function that it calls.
fn masked(
    kind: &MaskKind,
    relation: &Relation,
    column: &Column,
    catalog: &Catalog,
    enforcement: Enforcement,
) -> Result<(String, Option<ReaderFunction>), MaskError> {
    let name = quote_identifier(&column.name);
    match enforcement {
        Enforcement::Static => {
            let qualified = format!("{}.{name}", quote_identifier(&relation.name));
            let source = Source { value: &qualified, key: None };
            Ok((masking::expression(kind, column, Some(source))?, None))
        }
        Enforcement::Ephemeral if masking::reads_value(kind) => {
            let function = ReaderFunction::mask(kind, relation, column, catalog)?;
            Ok((function.call(relation, column), Some(function)))
        }
        Enforcement::Ephemeral => Ok((masking::expression(kind, column, None)?, None)),
    }
}

/// `pgate_p_readonly_0123456789abcdef`: one role's version on one database. The
/// database is part of it because roles belong to the whole cluster.
fn privilege_role(role: &Role, catalog: &Catalog) -> String {
    let mut hash = Sha256::new();
    hash.update(catalog.database().as_bytes());
    hash.update([0]);
    hash.update(role.to_document().as_bytes());
    let hash = hex(&hash.finalize());
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let name = role.name.chars().take(24).map(plain).collect::<String>();
    format!("{PRIVILEGE_ROLE_PREFIX}{name}_{}", hash.get(..16).unwrap_or(&hash))
}

fn writes(role: &Role) -> bool {
    [
        Action::Insert,
        Action::Update,
        Action::Delete,
        Action::Truncate,
        Action::Merge,
        Action::Call,
        Action::Ddl,
        Action::Create,
        Action::Alter,
        Action::Drop,
        Action::Grant,
        Action::Comment,
        Action::Maintain,
    ]
    .into_iter()
    .any(|action| role.may_somewhere(action))
}
