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

use jiff::Timestamp;

use super::{
    admission::{Forget, Rewritten},
    allowance::{self, OnRows},
    estimate::{self, NotExplained},
    remembered::Remembered,
};
use crate::{
    journal::LoggedVerdict,
    policy::{
        self, Allowed, Compiled, Counted, Denied, Enforcement, Held, Role, RowRule, RuleRef,
        Verdict,
    },
    sql::{self, AttributeNumber, Catalog, CursorUse, Oid, Shape, Statement, StatementKind},
};

/// What is decided of a query string, whoever asks and whenever.
#[derive(Debug)]
pub struct Decided {
    pub(super) verdict: Arc<LoggedVerdict>,
    pub(super) rewritten: Option<Rewritten>,
    pub(super) touches_masked: bool,
    pub(super) forget: Forget,
    /// What its reviewers are told, where it is held, or may be for the rows that it hits.
    pub(super) held: Option<Box<HeldText>>,
    /// How many values it looks up in masked columns.
    pub(super) lookups: u32,
    /// Whether it names a relation that the catalog doesn't have (yet): it is then
    /// decided once more when the database has been asked.
    pub(super) unresolved: bool,
    /// The relations whose columns aren't loaded yet: nothing is decided without them.
    pub(super) undescribed: Vec<Oid>,
    /// The rules that hang on how many rows it hits.
    pub(super) row_rules: Vec<RowRule>,
    /// Why PostgreSQL can't be asked what it expects of it before it may run.
    pub(super) explainable: Result<(), NotExplained>,
    /// The character at which it is no SQL, from 1, where that is all that is wrong.
    pub(super) misplaced: Option<usize>,
    /// How many statements it holds.
    pub(super) statements: u32,
    /// Whether it only ends a transaction, or part of one.
    pub(super) ends_transaction: bool,
    /// The SQL cursors that it declares, reads or closes.
    pub(super) cursors: Arc<[CursorUse]>,
    /// The prepared statements that it runs by SQL.
    pub(super) runs: Arc<[String]>,
}

/// A query string that is or may be held, as far as its text alone says it.
#[derive(Debug)]
pub(super) struct HeldText {
    /// Whose approval it takes whatever rows it hits, and by which rule: each of them.
    pub(super) holds: Vec<Held>,
    /// What it is apart from its constants.
    pub(super) shape: Option<Shape>,
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
    /// Whether the name of a partition tells a masked value of its rows.
    partitions_tell: bool,
    compiled_for: Arc<Shapes>,
    /// Those of them that look different now.
    altered: HashSet<Oid>,
    remembered: Mutex<Remembered>,
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
        let altered = compiled_for
            .iter()
            .filter_map(|(oid, before)| Some((catalog.relation(*oid)?, before)))
            .filter(|(relation, before)| relation.fingerprint() != **before)
            .map(|(relation, _)| relation.oid)
            .collect();
        let remembered = Mutex::default();
        let partitions_tell = compiled.divided_by(&catalog).is_some();
        Self {
            role,
            catalog,
            compiled,
            masked,
            masked_relations,
            partitions_tell,
            compiled_for,
            altered,
            remembered,
        }
    }

    /// The masked columns, as the tripwire compares them.
    pub(super) fn masked(&self) -> &Arc<HashSet<(Oid, AttributeNumber)>> {
        &self.masked
    }

    /// Why the role may not give a parameter the type of this number.
    pub(super) fn refuses_parameter(&self, oid: Oid) -> Option<Denied> {
        policy::refuse_parameter(oid, &self.role, &self.catalog)
    }

    /// An earlier decision on exactly this text that still holds.
    pub fn recall(&self, sql: &str, now: Timestamp) -> Option<Arc<Decided>> {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(sql, self.minute(now))
    }

    /// Decides a query string as of `now`. Needs [the large stack](sql::on_large_stack).
    pub fn decide(&self, sql: &Arc<str>, now: Timestamp) -> Arc<Decided> {
        let decided = Arc::new(self.decide_afresh(sql, now));
        if decided.undescribed.is_empty() {
            let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            remembered.insert(sql.clone(), decided.clone(), self.minute(now));
        }
        decided
    }

    /// The minute for which decisions hold; always the same where no rule keeps hours.
    fn minute(&self, now: Timestamp) -> i64 {
        if self.role.keeps_hours() { now.as_second().div_euclid(60) } else { 0 }
    }

    fn decide_afresh(&self, text: &str, now: Timestamp) -> Decided {
        let statements = match sql::analyse(text, &self.catalog) {
            Ok(statements) => statements,
            Err(sql::AnalysisError::Syntax { message, position }) => {
                let denied = Denied {
                    rule: builtin(SYNTAX),
                    reason: message,
                    hint: "pgate reads statements by PostgreSQL 18's grammar.".into(),
                };
                return Decided { misplaced: position, ..Decided::refused(denied) };
            }
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
        let undescribed = self.undescribed(&statements);
        if !undescribed.is_empty() {
            return Decided { undescribed, ..Decided::refused(not_loaded()) };
        }
        let mut rule = None;
        let mut masked = Vec::new();
        let mut lookups = BTreeMap::<String, u32>::new();
        let mut holds: Vec<Held> = Vec::new();
        let mut replacements = Vec::with_capacity(statements.len());
        let mut row_rules: Vec<RowRule> = Vec::new();
        for statement in &statements {
            if let Some(denied) = self.drifted(statement) {
                return Decided::refused(denied);
            }
            let decision =
                policy::decide(statement, &self.role, &self.compiled, &self.catalog, now);
            row_rules.extend(decision.row_rules);
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
                add_hold(&mut holds, held);
            }
        }
        if statements.len() > 1 {
            // The rows of one among several can't be counted: what is denied is denied, and
            // what is held the reviewer looks at.
            let written = |rule: &RowRule| rule.counts == Counted::Written;
            let (alone, others): (Vec<_>, _) = row_rules.into_iter().partition(written);
            row_rules = others;
            for rule in &alone {
                match allowance::not_alone(rule) {
                    Verdict::Deny(denied) => return Decided::refused(denied),
                    Verdict::Hold(held) => add_hold(&mut holds, held),
                    Verdict::Allow(_) => {}
                }
            }
        }
        row_rules.sort_by_key(|rule| matches!(rule.verdict, Verdict::Hold(_)));
        let rewritten = match self.rewrite(text, &statements, &replacements) {
            Ok(rewritten) => rewritten,
            Err(denied) => return Decided::refused(denied),
        };
        let looked_up = lookups.values().fold(0, |sum: u32, many| sum.saturating_add(*many));
        let (verdict, unresolved) = match holds.first() {
            Some(first) => (Verdict::Hold(first.clone()), statements.iter().any(names_the_unknown)),
            None => {
                masked.sort();
                masked.dedup();
                let rule = rule.unwrap_or_else(|| builtin("empty"));
                let allowed = Allowed { rule, masked, lookups };
                (Verdict::Allow(allowed), statements.iter().any(uses_the_unknown))
            }
        };
        let by_rows = |rule: &RowRule| matches!(rule.verdict, Verdict::Hold(_));
        let held = (!holds.is_empty() || row_rules.iter().any(by_rows))
            .then(|| Box::new(HeldText { holds, shape: sql::shape(text) }));
        Decided {
            verdict: Arc::new(verdict.into()),
            rewritten,
            touches_masked: statements.iter().any(|statement| self.touches_masked(statement)),
            forget: forgotten(&statements),
            held,
            lookups: looked_up,
            unresolved,
            undescribed: Vec::new(),
            row_rules,
            explainable: estimate::explainable(&statements),
            misplaced: None,
            statements: u32::try_from(statements.len()).unwrap_or(u32::MAX),
            ends_transaction: statements.iter().all(ends_transaction),
            runs: statements.iter().flat_map(run).collect(),
            cursors: statements.into_iter().flat_map(|statement| statement.facts.cursors).collect(),
        }
    }

    /// The relations that statements name and whose columns aren't loaded. What was
    /// analysed without them is worth nothing.
    fn undescribed(&self, statements: &[Statement]) -> Vec<Oid> {
        let used = statements.iter().flat_map(|statement| &statement.facts.relations);
        let named = used.filter_map(|used| match used.resolution {
            sql::Resolution::Relation(oid) => self.catalog.relation(oid),
            sql::Resolution::Unknown => None,
        });
        let mut oids = named
            .filter(|relation| !relation.described)
            .map(|relation| relation.oid)
            .collect::<Vec<_>>();
        oids.sort();
        oids.dedup();
        oids
    }

    /// The catalog that it is made against.
    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
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
    /// privileges and mask functions were made, and whatever shows such a one: under its
    /// new name or columns no rule may be about it any more.
    fn drifted(&self, statement: &Statement) -> Option<Denied> {
        if self.altered.is_empty() {
            return None;
        }
        statement.facts.relations.iter().find_map(|used| {
            let sql::Resolution::Relation(oid) = used.resolution else { return None };
            let used = self.catalog.relation(oid)?;
            let relation = std::iter::once(used)
                .chain(self.catalog.beneath(used))
                .find(|relation| self.altered.contains(&relation.oid))?;
            Some(Denied {
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

    /// Whether the name of a partition tells a masked value of its rows.
    pub(super) fn partitions_tell(&self) -> bool {
        self.partitions_tell
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

    /// The verdict where PostgreSQL expects it to hit so many rows; none means that it
    /// hasn't been asked. What it can't be asked about is decided as a session decides it.
    pub fn verdict_on(&self, rows: Option<u64>) -> Verdict {
        if rows.is_none() && self.explainable.is_ok() || matches!(**self.verdict, Verdict::Deny(_))
        {
            return Verdict::clone(&self.verdict);
        }
        let rows = rows.filter(|_| self.explainable.is_ok());
        match allowance::foreseen(&self.row_rules, rows) {
            Err(denied) => Verdict::Deny(denied),
            Ok(by_rows) => match self.holds_with(by_rows).into_iter().next() {
                Some(held) => Verdict::Hold(held),
                None => Verdict::clone(&self.verdict),
            },
        }
    }

    /// What hangs on how many rows it hits.
    pub fn on_rows(&self) -> Vec<OnRows> {
        self.row_rules.iter().map(|rule| OnRows::of(rule, self.explainable)).collect()
    }

    /// Whose approval it takes, and by which rule: each of them.
    pub(super) fn holds_with(&self, by_rows: Vec<Held>) -> Vec<Held> {
        let mut holds = self.held.as_ref().map_or_else(Vec::new, |held| held.holds.clone());
        for held in by_rows {
            // The rows are what its reviewers should know: an earlier approval of the
            // same statement with other values says nothing of them.
            match holds.iter_mut().find(|known| known.reviewers == held.reviewers) {
                Some(known) => *known = held,
                None => holds.push(held),
            }
        }
        holds
    }

    /// The text that PostgreSQL gets in its place, where masks change it.
    pub fn rewritten(&self) -> Option<&str> {
        self.rewritten.as_ref().map(|rewritten| &*rewritten.text)
    }

    fn refused(denied: Denied) -> Self {
        Self {
            verdict: Arc::new(Verdict::Deny(denied).into()),
            rewritten: None,
            touches_masked: false,
            forget: Forget::Nothing,
            held: None,
            lookups: 0,
            unresolved: false,
            undescribed: Vec::new(),
            row_rules: Vec::new(),
            explainable: Err(NotExplained::Kind),
            misplaced: None,
            statements: 1,
            ends_transaction: false,
            cursors: Arc::default(),
            runs: Arc::default(),
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

/// What is said where a relation's columns could not be loaded.
fn not_loaded() -> Denied {
    Denied {
        rule: builtin("catalog-unknown"),
        reason: "the columns of a table that it names could not be loaded".into(),
        hint: "Try again; somebody may be changing that table.".into(),
    }
}

/// The rule that refuses what isn't PostgreSQL's grammar.
pub(super) const SYNTAX: &str = "syntax";

/// One of pgate's own rules.
pub(super) fn builtin(name: &str) -> RuleRef {
    RuleRef { rule: format!("builtin.{name}"), place: None }
}

/// One hold for each who must approve.
fn add_hold(holds: &mut Vec<Held>, held: Held) {
    if !holds.iter().any(|known| known.reviewers == held.reviewers) {
        holds.push(held);
    }
}

/// The prepared statements that a statement runs by SQL.
fn run(Statement { facts, .. }: &Statement) -> Vec<String> {
    match facts.kind {
        StatementKind::Prepare | StatementKind::Deallocate => Vec::new(),
        _ => facts.prepared.clone(),
    }
}

fn ends_transaction(statement: &Statement) -> bool {
    use sql::TransactionControl::{Commit, Rollback, Savepoint};
    matches!(statement.facts.transaction, Some(Commit | Rollback | Savepoint))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_ends_with_the_minute_where_rules_keep_hours() {
        let text = r#"
            [target.t]
            url = "postgres://localhost/shop"
            credential = { kind = "static", user = "app", password = "env:UNUSED" }
            [role.r]
            targets = ["t"]
            allow = [{ actions = ["select"], between = "08:00-18:00", zone = "UTC" }]
        "#;
        let roles = policy::parse(&[("t.toml".to_owned(), text.to_owned())]).unwrap().roles;
        let catalog = Catalog::builder().table("shop.orders", &[("id", "int8")]).build();
        let role = Arc::new(roles["r"].clone());
        let ruling = Ruling::first(role, catalog, Enforcement::Static).unwrap();
        let sql: Arc<str> = "SELECT id FROM shop.orders".into();
        let at = |time: &str| format!("2026-01-14T{time}Z").parse::<Timestamp>().unwrap();
        let allows = |decided: &Decided| matches!(**decided.verdict, Verdict::Allow(_));
        sql::on_large_stack(|| assert!(allows(&ruling.decide(&sql, at("17:59:30")))));
        assert!(ruling.recall(&sql, at("17:59:59.999")).is_some_and(|decided| allows(&decided)));
        assert!(ruling.recall(&sql, at("18:00:00")).is_none());
        sql::on_large_stack(|| assert!(!allows(&ruling.decide(&sql, at("18:00:00")))));
        assert!(ruling.recall(&sql, at("17:59:59")).is_none());
    }

    #[test]
    fn nothing_is_decided_of_a_table_whose_columns_are_not_loaded() {
        let text = r#"
            [target.t]
            url = "postgres://localhost/shop"
            credential = { kind = "static", user = "app", password = "env:UNUSED" }
            [role.r]
            targets = ["t"]
            allow = [{ actions = ["select"], on = ["shop.*"] }]
        "#;
        let roles = policy::parse(&[("t.toml".to_owned(), text.to_owned())]).unwrap().roles;
        let catalog = Catalog::builder()
            .table("shop.orders", &[("id", "int8")])
            .table("shop.far", &[("id", "int8")])
            .undescribed("shop.far")
            .build();
        let far = catalog.relation_named("shop", "far").unwrap().oid;
        let role = Arc::new(roles["r"].clone());
        let ruling = Ruling::first(role, catalog, Enforcement::Static).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        for (sql, lacking) in [
            ("SELECT id FROM shop.orders", vec![]),
            ("SELECT 1 FROM shop.orders WHERE id IN (SELECT f.id FROM shop.far f)", vec![far]),
            ("SELECT 1 FROM shop.orders; SELECT * FROM far, far AS f", vec![far]),
        ] {
            let sql: Arc<str> = sql.into();
            let decided = sql::on_large_stack(|| ruling.decide(&sql, now));
            let allowed = matches!(**decided.verdict, Verdict::Allow(_));
            assert_eq!((&decided.undescribed, allowed), (&lacking, lacking.is_empty()), "{sql}");
            assert_eq!(ruling.recall(&sql, now).is_some(), allowed, "{sql}");
        }
    }
}
