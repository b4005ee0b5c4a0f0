//! A role's policy as it stands against one state of the database's catalog, and
//! what it says of a query string.
//!
//! When the catalog changes a new ruling is made. It remembers how masked
//! relations looked when the session's privileges were compiled: one that looks
//! different now is refused, since what PostgreSQL enforces was made for the old
//! shape. So drift closes and never opens.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    admission::{Forget, Rewritten},
    estimate::{self, NotExplained},
};
use crate::{
    policy::{self, Allowed, Compiled, Denied, Enforcement, Held, Role, RuleRef, Verdict},
    sql::{self, AttributeNumber, Catalog, Oid, Shape, Statement, StatementKind},
};

/// Texts up to this length are remembered with their decision, so many at most.
const REMEMBERED_BYTES: usize = 16 * 1024;
const REMEMBERED: usize = 2048;

/// What is decided of a query string, whoever asks and whenever.
#[derive(Debug)]
pub struct Decided {
    pub(super) verdict: Verdict,
    pub(super) rewritten: Option<Rewritten>,
    pub(super) touches_masked: bool,
    pub(super) forget: Forget,
    /// What its reviewers are told, where it is held.
    pub(super) held: Option<Box<HeldText>>,
    /// How many values it looks up in masked columns.
    pub(super) lookups: u32,
    /// Whether it names a relation that the catalog doesn't have (yet): it is then
    /// decided once more when the database has been asked.
    pub(super) unresolved: bool,
}

/// A held query string, as far as its text alone says it.
#[derive(Debug)]
pub(super) struct HeldText {
    /// Whose approval it takes, and by which rule: each of them.
    pub(super) holds: Vec<Held>,
    /// What it is apart from its constants.
    pub(super) shape: Option<Shape>,
    /// The statement to explain, or why there is none.
    pub(super) explainable: Result<String, NotExplained>,
}

/// The shapes of the relations with masked columns, by OID.
type Shapes = HashMap<Oid, String>;

/// A role against one state of the catalog. Sessions decide by it, and so does whoever
/// asks beforehand what a session would decide.
#[derive(Debug)]
pub struct Ruling {
    role: Arc<Role>,
    catalog: Catalog,
    compiled: Compiled,
    masked: Arc<HashSet<(Oid, AttributeNumber)>>,
    masked_relations: HashSet<Oid>,
    compiled_for: Arc<Shapes>,
    remembered: Mutex<HashMap<Arc<str>, Arc<Decided>>>,
}

impl Ruling {
    /// The first ruling of a session.
    ///
    /// # Errors
    /// Where the role doesn't fit the catalog.
    pub fn first(
        role: Arc<Role>,
        catalog: Catalog,
        enforcement: Enforcement,
    ) -> Result<Self, policy::CompileError> {
        let compiled = policy::compile(&role, &catalog, enforcement)?;
        let shapes = compiled
            .masked_columns()
            .iter()
            .filter_map(|(oid, _)| Some((*oid, catalog.relation(*oid)?.fingerprint())))
            .collect();
        Ok(Self::of(role, catalog, compiled, Arc::new(shapes)))
    }

    /// The ruling after the catalog has changed.
    pub(super) fn after(
        &self,
        catalog: Catalog,
        enforcement: Enforcement,
    ) -> Result<Self, policy::CompileError> {
        let compiled = policy::compile(&self.role, &catalog, enforcement)?;
        Ok(Self::of(self.role.clone(), catalog, compiled, self.compiled_for.clone()))
    }

    fn of(
        role: Arc<Role>,
        catalog: Catalog,
        compiled: Compiled,
        compiled_for: Arc<Shapes>,
    ) -> Self {
        let masked = Arc::new(compiled.masked_columns().clone());
        let masked_relations =
            masked.iter().map(|(oid, _)| *oid).chain(compiled_for.keys().copied()).collect();
        let remembered = Mutex::default();
        Self { role, catalog, compiled, masked, masked_relations, compiled_for, remembered }
    }

    /// The masked columns, as the tripwire compares them.
    pub(super) fn masked(&self) -> &Arc<HashSet<(Oid, AttributeNumber)>> {
        &self.masked
    }

    /// An earlier decision on exactly this text.
    pub(super) fn recall(&self, sql: &str) -> Option<Arc<Decided>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned()
    }

    /// Decides a query string. Needs [the large stack](sql::on_large_stack).
    pub fn decide(&self, sql: &Arc<str>) -> Arc<Decided> {
        let decided = Arc::new(self.decide_afresh(sql));
        if sql.len() <= REMEMBERED_BYTES {
            let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            if remembered.len() >= REMEMBERED {
                remembered.clear();
            }
            remembered.insert(sql.clone(), decided.clone());
        }
        decided
    }

    fn decide_afresh(&self, text: &str) -> Decided {
        let statements = match sql::analyse(text, &self.catalog) {
            Ok(statements) => statements,
            Err(error) => {
                return Decided::refused(Denied {
                    rule: builtin("unreadable"),
                    reason: error.to_string(),
                    hint: "Send a statement that PostgreSQL 18's grammar accepts, in smaller \
                           pieces if it is very long or deep."
                        .into(),
                });
            }
        };
        let mut rule = None;
        let mut masked = Vec::new();
        let mut lookups = BTreeMap::<String, u32>::new();
        let mut holds: Vec<Held> = Vec::new();
        let mut replacements = Vec::with_capacity(statements.len());
        for statement in &statements {
            if let Some(denied) = self.drifted(statement) {
                return Decided::refused(denied);
            }
            let decision = policy::decide(statement, &self.role, &self.compiled, &self.catalog);
            match decision.verdict {
                Verdict::Allow(allowed) => {
                    rule.get_or_insert(allowed.rule);
                    masked.extend(allowed.masked);
                }
                Verdict::Hold(_) => {}
                Verdict::Deny(denied) => {
                    let unresolved = statements.iter().any(names_the_unknown);
                    return Decided { unresolved, ..Decided::refused(denied) };
                }
            }
            replacements.push(decision.replacements);
            for (column, values) in decision.lookups {
                let count = lookups.entry(column).or_default();
                *count = count.saturating_add(values);
            }
            for held in decision.holds {
                if !holds.iter().any(|known| known.reviewers == held.reviewers) {
                    holds.push(held);
                }
            }
        }
        let rewritten = match self.rewrite(text, &statements, &replacements) {
            Ok(rewritten) => rewritten,
            Err(denied) => return Decided::refused(denied),
        };
        let touches_masked = statements.iter().any(|statement| self.touches_masked(statement));
        let forget = forgotten(&statements);
        let looked_up = lookups.values().fold(0, |sum: u32, many| sum.saturating_add(*many));
        if let Some(first) = holds.first() {
            let sent = rewritten.as_ref().map_or(text, |rewritten| &*rewritten.text);
            return Decided {
                verdict: Verdict::Hold(first.clone()),
                touches_masked,
                forget,
                lookups: looked_up,
                unresolved: statements.iter().any(names_the_unknown),
                held: Some(Box::new(HeldText {
                    explainable: estimate::explainable(&statements, sent, &self.catalog),
                    holds,
                    shape: sql::shape(text),
                })),
                rewritten,
            };
        }
        masked.sort();
        masked.dedup();
        let rule = rule.unwrap_or_else(|| builtin("empty"));
        Decided {
            verdict: Verdict::Allow(Allowed { rule, masked, lookups }),
            rewritten,
            touches_masked,
            forget,
            held: None,
            lookups: looked_up,
            unresolved: statements.iter().any(uses_the_unknown),
        }
    }

    /// The text with its masked scans replaced.
    fn rewrite(
        &self,
        text: &str,
        statements: &[Statement],
        replacements: &[Vec<sql::ScanReplacement>],
    ) -> Result<Option<Rewritten>, Denied> {
        if replacements.iter().all(Vec::is_empty) {
            return Ok(None);
        }
        let spliced =
            sql::splice(text, &self.catalog, replacements, statements).map_err(|error| Denied {
                rule: builtin("unmaskable"),
                reason: error.to_string(),
                hint: "Write the query so that the masked table stands in FROM by its name, \
                       and without its system columns."
                    .into(),
            })?;
        let spliced = Arc::new(spliced);
        let text = Arc::from(spliced.text.as_str());
        let original_position = Arc::new(move |at| spliced.original_position(at));
        Ok(Some(Rewritten { text, original_position }))
    }

    /// Refuses a relation that no longer looks as it did when the session's
    /// privileges and mask functions were made.
    fn drifted(&self, statement: &Statement) -> Option<Denied> {
        statement.facts.relations.iter().find_map(|used| {
            let sql::Resolution::Relation(oid) = used.resolution else { return None };
            let before = self.compiled_for.get(&oid)?;
            let relation = self.catalog.relation(oid)?;
            (relation.fingerprint() != *before).then(|| Denied {
                rule: builtin("drift"),
                reason: format!(
                    "{}.{} has masked columns and was altered after this session began",
                    relation.schema, relation.name
                ),
                hint: "End this session and connect again: masks are then made for the table \
                       as it is now."
                    .into(),
            })
        })
    }

    /// Whether errors of this statement could tell of a masked relation's rows. A
    /// FETCH or EXECUTE runs what an earlier statement has named.
    fn touches_masked(&self, statement: &Statement) -> bool {
        let facts = &statement.facts;
        let runs_another = matches!(
            facts.kind,
            StatementKind::Execute
                | StatementKind::Cursor
                | StatementKind::Call
                | StatementKind::Do
                | StatementKind::Unknown
        );
        let by_name = facts.relations.iter().any(|used| match used.resolution {
            sql::Resolution::Relation(oid) => self.masked_relations.contains(&oid),
            sql::Resolution::Unknown => true,
        });
        !self.masked_relations.is_empty() && (runs_another || by_name)
    }
}

impl Decided {
    /// The verdict on the query string as a whole.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// The text that PostgreSQL gets in its place, where masks change it.
    pub fn rewritten(&self) -> Option<&str> {
        self.rewritten.as_ref().map(|rewritten| &*rewritten.text)
    }

    fn refused(denied: Denied) -> Self {
        Self {
            verdict: Verdict::Deny(denied),
            rewritten: None,
            touches_masked: false,
            forget: Forget::Nothing,
            held: None,
            lookups: 0,
            unresolved: false,
        }
    }

    /// What is said where nothing could be analysed at all.
    pub(super) fn unanalysed(reason: String) -> Self {
        Self::refused(Denied {
            rule: builtin("unanalysed"),
            reason,
            hint: "Please report this statement.".into(),
        })
    }
}

/// One of pgate's own rules.
pub(super) fn builtin(name: &str) -> RuleRef {
    RuleRef { rule: format!("builtin.{name}"), place: None }
}

/// Whether it names something that the catalog doesn't have.
fn names_the_unknown(statement: &Statement) -> bool {
    let relations = &statement.facts.relations;
    relations.iter().any(|used| used.resolution == sql::Resolution::Unknown)
        || calls_the_unknown(statement)
}

/// Like [`names_the_unknown`], but for what the statement itself defines or alters.
fn uses_the_unknown(statement: &Statement) -> bool {
    let relations = &statement.facts.relations;
    relations
        .iter()
        .any(|used| used.resolution == sql::Resolution::Unknown && used.action != sql::Action::Ddl)
        || calls_the_unknown(statement)
}

fn calls_the_unknown(statement: &Statement) -> bool {
    let functions = &statement.facts.functions;
    functions.iter().any(|call| call.candidates.is_empty() && !call.builtin)
}

/// The prepared statements that a query string defines or drops by SQL.
fn forgotten(statements: &[Statement]) -> Forget {
    let mut names = Vec::new();
    for Statement { facts, .. } in statements {
        match facts.kind {
            StatementKind::Discard => return Forget::AllStatements,
            StatementKind::Prepare | StatementKind::Deallocate => {
                names.extend(facts.prepared.iter().cloned());
            }
            _ => {}
        }
    }
    if names.iter().any(|name| name == "*") {
        Forget::AllStatements
    } else if names.is_empty() {
        Forget::Nothing
    } else {
        Forget::Statements(names)
    }
}
