//! Permits: leave to open a connection and to forward a statement.
//!
//! Owns what is forwarded and under which conditions. Only admission can make one:
//! nothing else reaches the constructors.

use std::{collections::HashSet, fmt, sync::Arc};

use tokio::sync::OwnedSemaphorePermit;

#[cfg(any(test, fuzzing))]
use crate::proxy::allowance::Cap;
use crate::{
    grant::HoldId,
    mask::Detection,
    policy::{Record, Role, RuleRef},
    proxy::{
        allowance::Allowance,
        ruling::{Decided, Ruling},
    },
    sql::{AttributeNumber, CursorUse, Oid},
};

/// The text that is forwarded instead of the client's.
#[derive(Clone)]
pub struct Rewritten {
    /// The text.
    pub text: Arc<str>,
    /// Maps a position in it (characters, from 1) to one in the client's text.
    pub original_position: Arc<dyn Fn(usize) -> usize + Send + Sync>,
}

impl fmt::Debug for Rewritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rewritten").field(&self.text).finish()
    }
}

/// The prepared statements that a statement drops or defines by SQL (PREPARE,
/// DEALLOCATE, DISCARD): the session machine must forget what it knew of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Forget {
    /// None.
    #[default]
    Nothing,
    /// These names.
    Statements(Vec<String>),
    /// Every one.
    AllStatements,
}

/// What a permit is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leave {
    /// To run it; where it was held, by this approval.
    Run { approval: Option<Approval> },
    /// To prepare it: its runs are held, or may be for the rows that they hit.
    Prepare,
}

impl Leave {
    pub(super) fn approval(&self) -> Option<&Approval> {
        match self {
            Self::Run { approval } => approval.as_ref(),
            Self::Prepare => None,
        }
    }
}

/// The reviewers' word on a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Approval {
    /// The hold that they approved (the last one, where several were needed).
    pub(super) hold: HoldId,
    /// The rules on rows by which it was held: they count for this run no more.
    pub(super) lifted: Arc<[RuleRef]>,
}

/// Leave to forward one statement, made by admission alone.
#[derive(Debug, Clone)]
pub struct Permit {
    statement: u64,
    leave: Leave,
    rewritten: Option<Rewritten>,
    touches_masked: bool,
    partitions_tell: bool,
    allowance: Allowance,
    decided_when_run: bool,
    forget: Forget,
    cursors: Arc<[CursorUse]>,
    runs: Arc<[String]>,
    masked_columns: Arc<HashSet<(Oid, AttributeNumber)>>,
    detection: Option<Arc<Detection>>,
    records_results: bool,
}

impl Permit {
    /// Leave for a statement that has been decided, for a session under this role, whose
    /// limits leave `limits` to every statement.
    pub(super) fn of(
        statement: u64,
        (role, limits): (&Role, &Allowance),
        ruling: &Ruling,
        decided: &Decided,
        detection: Option<Arc<Detection>>,
        leave: Leave,
    ) -> Self {
        let allowance = match (&decided.row_rules[..], leave.approval()) {
            ([], _) => limits.clone(),
            (rules, None) => Allowance::of(role, rules, &[]),
            (rules, Some(approval)) => Allowance::of(role, rules, &approval.lifted),
        };
        Self {
            statement,
            rewritten: decided.rewritten.clone(),
            touches_masked: decided.touches_masked,
            partitions_tell: ruling.partitions_tell(),
            allowance,
            decided_when_run: !decided.row_rules.is_empty() || role.keeps_hours(),
            forget: decided.forget.clone(),
            cursors: Arc::clone(&decided.cursors),
            runs: Arc::clone(&decided.runs),
            masked_columns: ruling.masked().clone(),
            detection,
            records_results: role.record == Record::Results,
            leave,
        }
    }

    /// The text that was forwarded, where it isn't the client's own.
    pub(super) fn text(&self) -> Option<&str> {
        self.rewritten.as_ref().map(|rewritten| &*rewritten.text)
    }

    /// The reviewers' word that it rests on.
    pub(super) fn word(&self) -> Option<&Approval> {
        self.leave.approval()
    }

    /// The statement's number within the session.
    pub fn statement(&self) -> u64 {
        self.statement
    }

    /// Whether it is leave to prepare a statement whose runs are, or may be, held.
    pub fn may_wait(&self) -> bool {
        self.leave == Leave::Prepare
    }

    /// The hold whose approval it rests on.
    pub fn approval(&self) -> Option<&HoldId> {
        self.word().map(|approval| &approval.hold)
    }

    /// The text to forward instead of the client's; none means the client's own.
    pub fn rewritten(&self) -> Option<&Rewritten> {
        self.rewritten.as_ref()
    }

    /// Whether it touches a relation with masked columns, or may (a FETCH or an
    /// EXECUTE of something that does): its error messages are then generic.
    pub fn touches_masked(&self) -> bool {
        self.touches_masked
    }

    /// Whether the name of a partition tells a masked value of its rows, as the role
    /// compiles now.
    pub fn partitions_tell(&self) -> bool {
        self.partitions_tell
    }

    /// What it may return and write.
    pub fn allowance(&self) -> &Allowance {
        &self.allowance
    }

    /// Whether a rule holds it, or hangs on how many rows it hits, or on the hour: it must
    /// be decided each time that it is run, with the values that it is run with.
    pub fn decided_when_run(&self) -> bool {
        self.decided_when_run || self.may_wait()
    }

    /// The prepared statements that it runs by SQL.
    pub fn runs(&self) -> &[String] {
        &self.runs
    }

    /// The SQL cursors that it declares, reads or closes.
    pub fn cursors(&self) -> &[CursorUse] {
        &self.cursors
    }

    /// The prepared statements to forget once it has completed.
    pub fn forget(&self) -> &Forget {
        &self.forget
    }

    /// What its rows are looked through for.
    pub fn detection(&self) -> Option<&Arc<Detection>> {
        self.detection.as_ref()
    }

    /// Whether its rows are recorded as the client gets them.
    pub fn records_results(&self) -> bool {
        self.records_results
    }

    /// Whether its rows are read on their way, and their columns must be known.
    pub fn reads_rows(&self) -> bool {
        self.detection.is_some() || self.records_results
    }

    /// A permit for tests of the machine and of the engine.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn for_test(
        statement: u64,
        rewritten: Option<Rewritten>,
        touches_masked: bool,
        row_limit: Option<u64>,
        masked_columns: &[(u32, i16)],
    ) -> Self {
        let masked_columns = masked_columns
            .iter()
            .map(|(table, column)| (Oid(*table), AttributeNumber(*column)))
            .collect();
        Self {
            statement,
            leave: Leave::Run { approval: None },
            rewritten,
            touches_masked,
            partitions_tell: false,
            allowance: Allowance {
                rows: row_limit.map(|most| Arc::new(Cap::for_test(most))),
                ..Allowance::default()
            },
            decided_when_run: false,
            forget: Forget::Nothing,
            cursors: Arc::from([]),
            runs: Arc::from([]),
            masked_columns: Arc::new(masked_columns),
            detection: None,
            records_results: false,
        }
    }

    /// The same for a Parse of a held statement, or for a run that this hold approved.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn held_for_test(self, approval: Option<HoldId>) -> Self {
        let leave = match approval {
            Some(hold) => Leave::Run { approval: Some(Approval { hold, lifted: Arc::from([]) }) },
            None => Leave::Prepare,
        };
        Self { leave, ..self }
    }

    /// The same permit for a write of at most so many rows.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn counting_for_test(self, most: u64) -> Self {
        let written = Some(Arc::new(Cap::for_test(most)));
        let allowance = Allowance { written, ..self.allowance };
        Self { allowance, decided_when_run: true, ..self }
    }

    /// The same permit for rows that are recorded.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn recording_for_test(self) -> Self {
        Self { records_results: true, ..self }
    }

    /// The same permit for rows that are looked through.
    #[cfg(test)]
    pub(crate) fn detecting(self, detection: Detection) -> Self {
        Self { detection: Some(Arc::new(detection)), ..self }
    }

    /// The masked columns as the role compiles now: none may show up in a
    /// RowDescription.
    pub fn masked_columns(&self) -> &Arc<HashSet<(Oid, AttributeNumber)>> {
        &self.masked_columns
    }
}

/// Leave to open one upstream connection, made by admission alone.
///
/// It counts against the role's limit for as long as it lives.
#[derive(Debug)]
pub struct ConnectionPermit {
    connection: u32,
    _counted: Option<OwnedSemaphorePermit>,
}

impl ConnectionPermit {
    /// For a client's connection, and its place among those that the role allows.
    pub(super) fn of(connection: u32, counted: Option<OwnedSemaphorePermit>) -> Self {
        Self { connection, _counted: counted }
    }

    /// For pgate's own questions to the database; it counts against no limit.
    pub(in crate::proxy) fn own() -> Self {
        Self { connection: 0, _counted: None }
    }

    /// The connection's number within the session, from 1; 0 for pgate's own.
    pub fn connection(&self) -> u32 {
        self.connection
    }
}
