//! What a column reference may mean: the query levels and their FROM items.
//!
//! Owns lexical resolution of columns. Where it can't know, it lists every
//! relation that may be meant.

use std::collections::HashSet;

use super::super::{
    AttributeNumber, Catalog, ColumnContext, ColumnUse, Facts, Name, Relation, RelationUse,
    Resolution,
};

/// One query level.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// The level around it, whose columns it may use.
    pub(super) parent: Option<usize>,
    /// Its FROM items, in the order of the text.
    pub(super) items: Vec<Item>,
    /// Whether it stands in the FROM of the level around it without LATERAL: PostgreSQL
    /// then passes over that level's items, and goes on to the levels around.
    pub(super) apart: bool,
    /// The first item that what is being walked sees: a join's condition sees no others
    /// than the join's own.
    pub(super) sees_from: usize,
}

/// One thing that a column can be taken from.
#[derive(Debug)]
pub(super) struct Item {
    /// The name that references use.
    pub(super) name: Option<String>,
    /// What is behind it.
    pub(super) source: Source,
    /// New names of its first columns (`AS c(a, b)`).
    pub(super) renamed: Vec<String>,
    /// Whether unqualified names reach it (`old`, `new` and `excluded` they don't).
    pub(super) unqualified: bool,
    /// Whether a join's alias stands before it, under which its columns may have other names.
    pub(super) covered: bool,
}

impl Item {
    /// Whether a name is surely this item's where it may be. If it isn't, what the levels
    /// around mean by it counts as well.
    fn is_sure(&self, name: &str) -> bool {
        match &self.source {
            _ if self.covered => false,
            Source::Join { .. } => self.renamed.iter().any(|renamed| renamed == name),
            Source::Relation { .. } | Source::Derived | Source::Function => true,
        }
    }
}

/// What is behind a FROM item.
#[derive(Debug)]
pub(super) enum Source {
    /// A relation: the index of its use. The flag says that the text gives no alias,
    /// so that `schema.name.column` means it too.
    Relation { at: usize, bare: bool },
    /// A join with an alias of its own: the relations in it.
    Join { covers: Vec<usize> },
    /// A sub-select or CTE: nothing of a relation directly.
    Derived,
    /// A function, whose value may be a row or a single value.
    Function,
}

type Candidate = (usize, Option<AttributeNumber>);

/// Everything that resolving a reference looks at.
pub(super) struct Resolver<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) scopes: &'a [Scope],
    pub(super) facts: &'a Facts,
}

/// What a reference may mean.
#[derive(Debug, Default)]
pub(super) struct Meaning {
    pub(super) candidates: Vec<Candidate>,
    /// The last part is no column of the one thing that the reference means:
    /// then `row.name` calls a function.
    pub(super) maybe_function: MaybeFunction,
}

impl Meaning {
    /// One or the other.
    fn or(mut self, other: Self) -> Self {
        self.candidates.extend(other.candidates);
        self.maybe_function = self.maybe_function.max(other.maybe_function);
        self
    }
}

/// Whether a reference may be a function call in disguise, the likelier the later.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MaybeFunction {
    /// It is a column.
    #[default]
    No,
    /// It can't be told: the columns of the row that it is taken from aren't known.
    Unclear,
    /// It can't be told: what it is taken from may be a single value, of which
    /// PostgreSQL calls any function by `value.name`.
    OfAnything,
    /// It is no column.
    Yes,
}

impl Resolver<'_> {
    /// What a reference with these parts, at this level, may mean.
    pub(super) fn column(&self, path: &[String], star: bool, scope: usize) -> Meaning {
        match path {
            [] => Meaning { candidates: self.whole_level(scope), ..Meaning::default() },
            [name] if star => self.row(None, name, scope, Wanted::Row),
            [name] => self.unqualified(name, scope),
            [relation, column] if !star => self.row(None, relation, scope, Wanted::Column(column)),
            [schema, relation] => self.row(Some(schema), relation, scope, Wanted::Row),
            [schema, relation, column] if !star => {
                self.row(Some(schema), relation, scope, Wanted::Column(column))
            }
            [database, schema, relation, rest @ ..] if rest.len() <= 1 => {
                let _ = database;
                match rest.first() {
                    Some(column) => self.row(Some(schema), relation, scope, Wanted::Column(column)),
                    None => self.row(Some(schema), relation, scope, Wanted::Row),
                }
            }
            _ => Meaning::default(),
        }
    }

    /// `*` alone: every relation of the level.
    fn whole_level(&self, scope: usize) -> Vec<Candidate> {
        let Some(scope) = self.scopes.get(scope) else { return Vec::new() };
        scope.items.iter().filter(|item| item.unqualified).flat_map(rows_of).collect()
    }

    /// One name: a column of the innermost level that has one; or a whole row.
    fn unqualified(&self, name: &str, scope: usize) -> Meaning {
        let mut candidates = Vec::new();
        let mut level = Some(scope);
        let mut apart = false;
        while let Some(scope) = level.and_then(|at| self.scopes.get(at)) {
            let before = candidates.len();
            let mut sure = false;
            for (at, item) in scope.items.iter().enumerate().filter(|(_, item)| item.unqualified) {
                let found = self.columns_of(item, name);
                sure |= !found.is_empty() && !apart && at >= scope.sees_from && item.is_sure(name);
                candidates.extend(found);
            }
            if sure {
                break;
            }
            apart = scope.apart;
            if candidates.len() > before {
                level = scope.parent;
                continue;
            }
            for item in scope.items.iter().filter(|item| item.name.as_deref() == Some(name)) {
                candidates.extend(rows_of(item));
            }
            level = scope.parent;
        }
        Meaning { candidates, maybe_function: MaybeFunction::No }
    }

    /// A qualified reference: what it is taken from at the innermost level that has it.
    fn row(
        &self,
        schema: Option<&String>,
        relation: &str,
        scope: usize,
        wanted: Wanted<'_>,
    ) -> Meaning {
        let mut level = Some(scope);
        let mut apart = false;
        let mut unsure: Option<Meaning> = None;
        while let Some(scope) = level.and_then(|at| self.scopes.get(at)) {
            let meant = scope
                .items
                .iter()
                .enumerate()
                .filter(|(_, item)| match schema {
                    None => item.name.as_deref() == Some(relation),
                    Some(schema) => self.is_named(item, schema, relation),
                })
                .collect::<Vec<_>>();
            let sure = !apart && meant.iter().any(|(at, _)| *at >= scope.sees_from);
            if !meant.is_empty() {
                let meant = meant.into_iter().map(|(_, item)| item).collect::<Vec<_>>();
                let meaning = self.taken_from(&meant, wanted);
                let meaning = match unsure.take() {
                    Some(before) => before.or(meaning),
                    None => meaning,
                };
                if sure {
                    return meaning;
                }
                unsure = Some(meaning);
            }
            apart = scope.apart;
            level = scope.parent;
        }
        // A function in FROM without an alias goes by its own name.
        unsure.unwrap_or(Meaning {
            candidates: Vec::new(),
            maybe_function: MaybeFunction::OfAnything,
        })
    }

    fn taken_from(&self, items: &[&Item], wanted: Wanted<'_>) -> Meaning {
        let mut meaning = Meaning::default();
        for item in items {
            match wanted {
                Wanted::Row => meaning.candidates.extend(rows_of(item)),
                Wanted::Column(column) => {
                    let found = self.columns_of(item, column);
                    let known = self.knows_columns(item);
                    if found.is_empty() {
                        // `row.function`: the function is given the whole row.
                        meaning.candidates.extend(rows_of(item));
                        meaning.maybe_function = match item.source {
                            _ if item.renamed.iter().any(|name| name == column) => {
                                MaybeFunction::No
                            }
                            Source::Function => MaybeFunction::OfAnything,
                            _ if known => MaybeFunction::Yes,
                            _ => MaybeFunction::Unclear,
                        };
                    }
                    meaning.candidates.extend(found);
                }
            }
        }
        meaning
    }

    /// Whether `schema.relation` without an alias is this item.
    fn is_named(&self, item: &Item, schema: &str, relation: &str) -> bool {
        let Source::Relation { at, bare: true } = item.source else { return false };
        let Some(used) = self.facts.relations.get(at) else { return false };
        match used.resolution {
            Resolution::Relation(oid) => self
                .catalog
                .resolve(&Name { schema: Some(schema.into()), name: relation.into() })
                .is_some_and(|meant| meant.oid == oid),
            Resolution::Unknown => used.name.name == relation,
        }
    }

    fn relation(&self, at: usize) -> Option<&Relation> {
        match self.facts.relations.get(at)?.resolution {
            Resolution::Relation(oid) => self.catalog.relation(oid),
            Resolution::Unknown => None,
        }
    }

    /// Whether every column of an item is known.
    fn knows_columns(&self, item: &Item) -> bool {
        match &item.source {
            Source::Relation { at, .. } => self.relation(*at).is_some(),
            Source::Join { covers } => covers.iter().all(|at| self.relation(*at).is_some()),
            Source::Derived | Source::Function => false,
        }
    }

    /// The columns of this name that an item has.
    fn columns_of(&self, item: &Item, name: &str) -> Vec<Candidate> {
        match &item.source {
            Source::Derived | Source::Function => Vec::new(),
            Source::Relation { at, .. } => {
                let Some(relation) = self.relation(*at) else { return vec![(*at, None)] };
                if let Some(system) = AttributeNumber::of_system_column(name)
                    && relation.column(name).is_none()
                    && relation.has_system_columns()
                {
                    return vec![(*at, Some(system))];
                }
                relation
                    .columns
                    .iter()
                    .enumerate()
                    .filter(|(place, column)| {
                        item.renamed.get(*place).unwrap_or(&column.name) == name
                    })
                    .map(|(_, column)| (*at, Some(column.number)))
                    .collect()
            }
            // Which column of which side a renamed one is isn't worked out.
            Source::Join { covers } if item.renamed.iter().any(|renamed| renamed == name) => {
                covers.iter().map(|at| (*at, None)).collect()
            }
            Source::Join { covers } => covers
                .iter()
                .filter_map(|at| match self.relation(*at) {
                    Some(relation) => {
                        relation.column(name).map(|column| (*at, Some(column.number)))
                    }
                    None => Some((*at, None)),
                })
                .collect(),
        }
    }

    /// The columns that a NATURAL JOIN may compare: those of a name that both
    /// sides have, and all of a side's where the other's aren't known.
    pub(super) fn natural(&self, left: &[Item], right: &[Item]) -> Vec<(String, Vec<Candidate>)> {
        let names = |items: &[Item]| -> Option<HashSet<String>> {
            let mut names = HashSet::new();
            for item in items {
                let Source::Relation { at, .. } = item.source else { return None };
                let relation = self.relation(at)?;
                names.extend(relation.columns.iter().enumerate().map(|(place, column)| {
                    item.renamed.get(place).unwrap_or(&column.name).clone()
                }));
            }
            Some(names)
        };
        let all = || left.iter().chain(right);
        match (names(left), names(right)) {
            (Some(left_names), Some(right_names)) => {
                let mut shared = left_names.intersection(&right_names).collect::<Vec<_>>();
                shared.sort();
                shared
                    .into_iter()
                    .map(|name| {
                        let columns = all().flat_map(|item| self.columns_of(item, name)).collect();
                        (name.clone(), columns)
                    })
                    .collect()
            }
            _ => vec![("*".into(), all().flat_map(rows_of).collect())],
        }
    }
}

#[derive(Clone, Copy)]
enum Wanted<'a> {
    Row,
    Column(&'a str),
}

/// The whole rows of an item.
pub(super) fn rows_of(item: &Item) -> Vec<Candidate> {
    match &item.source {
        Source::Relation { at, .. } => vec![(*at, None)],
        Source::Join { covers } => covers.iter().map(|at| (*at, None)).collect(),
        Source::Derived | Source::Function => Vec::new(),
    }
}

/// The use of a relation that an item of its own stands for.
pub(super) fn item_of(used: &RelationUse, at: usize, renamed: Vec<String>) -> Item {
    Item {
        name: Some(used.alias.clone().unwrap_or_else(|| used.name.name.clone())),
        source: Source::Relation { at, bare: used.alias.is_none() },
        renamed,
        unqualified: true,
        covered: false,
    }
}

/// What a clause's context becomes inside `outer`: within a predicate everything
/// decides, and the output of an inner query goes where the outer one's does.
pub(super) fn inside(outer: ColumnContext, clause: ColumnContext) -> ColumnContext {
    match (outer, clause) {
        (ColumnContext::Predicate, _) => ColumnContext::Predicate,
        (outer, ColumnContext::Output) => outer,
        (_, clause) => clause,
    }
}

/// A column use without candidates yet.
pub(super) fn column_use(
    path: Vec<String>,
    star: bool,
    at: usize,
    context: ColumnContext,
    scope: usize,
) -> ColumnUse {
    ColumnUse { path, star, at, context, scope, candidates: Vec::new() }
}
