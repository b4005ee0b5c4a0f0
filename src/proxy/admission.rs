//! Admission: the one place that says whether a connection may be opened and a
//! statement forwarded.
//!
//! Owns the permits ([`Permit`], [`ConnectionPermit`]): the rest of the proxy
//! demands one as an argument, and only this module can make one. It refuses to
//! know about sockets or messages.

mod logged;
mod review;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

pub(super) use self::review::Line;
pub use self::review::Review;
#[cfg(any(test, fuzzing))]
use super::allowance::Cap;
use super::{
    allowance::{self, Allowance},
    drift::Drift,
    estimate::{Bound, Expectation, NoAnswer},
    lookups::{Exceeded, LookupBudget},
    review::ReviewDesk,
    ruling::{Decided, Ruling, SYNTAX, builtin},
    spool::{Spool, SpoolError},
};
use crate::{
    grant::HoldId,
    journal::{ConnectionStart, Parameter, Protocol, Record, StatementRecord},
    mask::Detection,
    policy::{Denied, Held, Pace, Role, RuleRef, Verdict},
    sql::{AttributeNumber, CursorUse, Oid},
};

/// A statement that a client wants to run.
#[derive(Debug, Clone)]
pub struct StatementRequest {
    /// The client connection, from 1.
    pub connection: u32,
    /// How it came in.
    pub protocol: Protocol,
    /// The text as the client sent it. For [`Protocol::Execute`] the text of the
    /// Parse that is run; for [`Protocol::Function`] a description.
    pub sql: Arc<str>,
    /// The values bound to it ([`Protocol::Execute`] only).
    pub parameters: Arc<[Parameter]>,
    /// What the Parse was permitted ([`Protocol::Execute`] only). If today's
    /// decision would forward another text than that permit did (the catalog
    /// has changed), the Execute must be refused: the server still runs the old one.
    pub earlier: Option<Arc<Permit>>,
    /// What an earlier Execute of the same portal was permitted, where a reviewer had
    /// agreed: this one fetches more of the same run.
    pub begun: Option<Arc<Permit>>,
    /// What it is run with, where its rows may have to be foreseen ([`Protocol::Execute`]
    /// only).
    pub bound: Option<Bound>,
}

/// What admission says of a statement. Its line is on disk when this is returned.
#[derive(Debug)]
pub enum Admitted {
    /// It may be forwarded.
    Forward(Permit),
    /// Its reviewers have to be asked first, with [`Admission::review`].
    Hold(Box<Review>),
    /// It may not; the client gets this error in its place.
    Refuse(Refusal),
}

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
enum Leave {
    /// To run it; where it was held, by this approval.
    Run { approval: Option<Approval> },
    /// To prepare it: its runs are held, or may be for the rows that they hit.
    Prepare,
}

impl Leave {
    fn approval(&self) -> Option<&Approval> {
        match self {
            Self::Run { approval } => approval.as_ref(),
            Self::Prepare => None,
        }
    }
}

/// The reviewers' word on a run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Approval {
    /// The hold that they approved (the last one, where several were needed).
    hold: HoldId,
    /// The rules on rows by which it was held: they count for this run no more.
    lifted: Arc<[RuleRef]>,
}

/// Leave to forward one statement, made by admission alone.
#[derive(Debug, Clone)]
pub struct Permit {
    statement: u64,
    leave: Leave,
    rewritten: Option<Rewritten>,
    touches_masked: bool,
    allowance: Allowance,
    decided_when_run: bool,
    forget: Forget,
    cursors: Arc<[CursorUse]>,
    runs: Arc<[String]>,
    masked_columns: Arc<HashSet<(Oid, AttributeNumber)>>,
    detection: Option<Arc<Detection>>,
}

impl Permit {
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
        self.leave.approval().map(|approval| &approval.hold)
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

/// The error that a client gets in place of a statement, or of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The statement's number within the session; 0 for a connection.
    pub statement: u64,
    /// The SQLSTATE: 42501 for what policy denies.
    pub sqlstate: &'static str,
    /// What is refused and why, in one line.
    pub message: String,
    /// The rule and its reason; empty for none.
    pub detail: String,
    /// What to do next; empty for none.
    pub hint: String,
}

/// A client that wants to connect.
#[derive(Debug, Clone)]
pub struct ConnectionRequest {
    /// `unix` or `tcp`.
    pub transport: &'static str,
    /// The startup parameters that the client sent.
    pub parameters: BTreeMap<String, String>,
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
    /// For pgate's own questions to the database; it counts against no limit.
    pub(super) fn own() -> Self {
        Self { connection: 0, _counted: None }
    }

    /// The connection's number within the session, from 1; 0 for pgate's own.
    pub fn connection(&self) -> u32 {
        self.connection
    }
}

/// The log could not be written: nothing may be forwarded any more.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the session log can't be written: {0}")]
pub struct Unrecorded(pub String);

/// Decides and records, for every connection of one session.
#[derive(Debug)]
pub struct Admission {
    role: Arc<Role>,
    expires_at: Timestamp,
    drift: Drift,
    spool: Arc<Spool>,
    desk: Option<Arc<ReviewDesk>>,
    statements: AtomicU64,
    connections: AtomicU32,
    room: Option<Arc<Semaphore>>,
    lookups: Mutex<LookupBudget>,
    pace: Option<Mutex<Pace>>,
    began: Instant,
    detection: Option<Arc<Detection>>,
    failed: watch::Sender<Option<String>>,
}

impl Admission {
    /// Admission under `role` until `expires_at`, with the catalog that `drift`
    /// keeps and the log in `spool`.
    pub fn new(role: Arc<Role>, expires_at: Timestamp, drift: Drift, spool: Arc<Spool>) -> Self {
        let room = role.limits.connections.map(|limit| {
            let limit = usize::try_from(limit).unwrap_or(Semaphore::MAX_PERMITS);
            Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)))
        });
        let lookups = Mutex::new(LookupBudget::new(role.limits.lookups));
        let pace = role.limits.statements_per_minute.map(|limit| Mutex::new(Pace::new(limit)));
        let detection = Detection::new(&role.detect).map(Arc::new);
        Self {
            pace,
            began: Instant::now(),
            role,
            expires_at,
            drift,
            spool,
            desk: None,
            statements: AtomicU64::new(0),
            connections: AtomicU32::new(0),
            room,
            lookups,
            detection,
            failed: watch::Sender::new(None),
        }
    }

    /// With a way to the reviewers of held statements; without one these are refused.
    #[must_use]
    pub fn with_reviewers(self, desk: Arc<ReviewDesk>) -> Self {
        Self { desk: Some(desk), ..self }
    }

    /// Why the log can't be written any more, once it can't: the session must end.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.subscribe()
    }

    /// Keeps the catalog current until it is dropped or the session ends.
    pub async fn follow_the_catalog(&self) {
        self.drift.follow().await;
    }

    /// Admits a client connection and records it.
    pub async fn connect(&self, request: ConnectionRequest) -> Result<ConnectionPermit, Refusal> {
        if Timestamp::now() >= self.expires_at {
            return Err(Refusal::of(0, &expired()));
        }
        let counted = match &self.room {
            None => None,
            Some(room) => match room.clone().try_acquire_owned() {
                Ok(counted) => Some(counted),
                Err(_) => return Err(self.full()),
            },
        };
        let connection = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let record = Record::Connect(ConnectionStart {
            connection,
            transport: request.transport.into(),
            parameters: request.parameters,
        });
        self.record(record).map_err(|error| Refusal::unrecorded(0, &error))?;
        Ok(ConnectionPermit { connection, _counted: counted })
    }

    /// Decides a statement, and returns once its line is on disk.
    pub async fn admit(&self, request: StatementRequest) -> Admitted {
        let statement = self.statements.fetch_add(1, Ordering::Relaxed) + 1;
        let judged = self.judge(&request).await;
        let verdict = match &judged {
            Ok(judged) => judged.verdict(),
            Err(denied) => Verdict::Deny(denied.clone()),
        };
        let record = Record::Statement(Box::new(StatementRecord {
            connection: request.connection,
            statement,
            protocol: request.protocol,
            sql: logged::text(&request.sql, &verdict),
            parameters: request.parameters.to_vec(),
            verdict,
        }));
        if let Err(error) = self.record(record) {
            return Admitted::Refuse(Refusal::unrecorded(statement, &error));
        }
        let judged = match judged {
            Ok(judged) => judged,
            Err(denied) => return Admitted::Refuse(self.refusal(statement, &denied)),
        };
        let begun = request.begun.as_ref().and_then(|permit| permit.leave.approval().cloned());
        let leave = match (request.protocol, judged.holds.is_empty(), begun) {
            (Protocol::Parse, ..) if judged.decided.held.is_some() => Leave::Prepare,
            (Protocol::Parse, ..) => Leave::Run { approval: None },
            (_, true, begun) => Leave::Run { approval: begun },
            (_, false, Some(begun)) => match self.goes_on(statement, &request, &begun) {
                Ok(()) => Leave::Run { approval: Some(begun) },
                Err(error) => return Admitted::Refuse(Refusal::unrecorded(statement, &error)),
            },
            (_, false, None) => {
                return Admitted::Hold(Box::new(Review::of(statement, request, judged)));
            }
        };
        Admitted::Forward(self.permit(statement, &judged.ruling, &judged.decided, leave))
    }

    fn refusal(&self, statement: u64, denied: &Denied) -> Refusal {
        let refusal = Refusal::of(statement, denied);
        // A limit on how fast is none on what: the client may try again.
        match denied.rule == allowance::pace_rule(&self.role) {
            true => Refusal { sqlstate: "53400", ..refusal },
            false => refusal,
        }
    }

    /// Records what isn't decided: disconnects, completions, settings, alerts.
    pub fn record(&self, record: Record) -> Result<(), Unrecorded> {
        match self.spool.append(record, Timestamp::now()) {
            Ok(_) => Ok(()),
            // One record that can't be written as a line stops its statement alone.
            Err(SpoolError::Unwritable(error)) => Err(Unrecorded(error.to_string())),
            Err(error) => {
                let why = error.to_string();
                self.failed.send_if_modified(|failed| {
                    failed.is_none() && failed.replace(why.clone()).is_none()
                });
                Err(Unrecorded(why))
            }
        }
    }

    /// What policy says of it now, or why it isn't even asked.
    async fn judge(&self, request: &StatementRequest) -> Result<Judged, Denied> {
        if Timestamp::now() >= self.expires_at {
            return Err(expired());
        }
        if request.protocol == Protocol::Function {
            return Err(function_call());
        }
        let (ruling, decided) = self.drift.decide(&request.sql).await?;
        self.keep_pace(request.protocol, &decided)?;
        if let Verdict::Deny(denied) = &decided.verdict {
            return Err(denied.clone());
        }
        if let Some(earlier) = &request.earlier
            && text(earlier.rewritten.as_ref()) != text(decided.rewritten.as_ref())
        {
            return Err(changed_since_parse());
        }
        // A Parse runs nothing yet, and its values aren't known: each of its Executes counts.
        let by_rows = match request.protocol {
            Protocol::Parse => Vec::new(),
            _ => self.foresee(request, &decided).await?,
        };
        let judged = Judged::new(ruling, decided, by_rows);
        // What is held counts when it is approved.
        if request.protocol != Protocol::Parse && judged.holds.is_empty() {
            self.look_up(judged.decided.lookups)?;
        }
        Ok(judged)
    }

    /// By which rules a statement is held for the rows that it is expected to hit.
    async fn foresee(
        &self,
        request: &StatementRequest,
        decided: &Decided,
    ) -> Result<Vec<Held>, Denied> {
        if decided.row_rules.is_empty() {
            return Ok(Vec::new());
        }
        // Of what is held anyway nothing may run while it is planned.
        let explains = decided.statements == 1
            && decided
                .held
                .as_ref()
                .is_none_or(|held| held.holds.is_empty() || held.explainable.is_ok());
        let expected = match explains {
            true => self.expect(request, decided).await.inspect_err(|error| {
                tracing::debug!(%error, "a statement's rows could not be estimated");
            }),
            false => Err(NoAnswer::NoPlan),
        };
        allowance::foreseen(&decided.row_rules, expected.ok().map(|expected| expected.rows))
    }

    /// What PostgreSQL expects of the text that would be forwarded.
    async fn expect(
        &self,
        request: &StatementRequest,
        decided: &Decided,
    ) -> Result<Expectation, NoAnswer> {
        let sql = text(decided.rewritten.as_ref()).unwrap_or(&request.sql);
        self.drift.expect(sql, request.bound.as_ref()).await
    }

    /// Counts the statements of a minute: those that would run, allowed or not. The end
    /// of a transaction is always let through.
    fn keep_pace(&self, protocol: Protocol, decided: &Decided) -> Result<(), Denied> {
        let Some(pace) = &self.pace else { return Ok(()) };
        if protocol == Protocol::Parse || decided.ends_transaction {
            return Ok(());
        }
        let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.take(decided.statements.max(1), self.began.elapsed())
            .map_err(|wait| allowance::too_fast(&self.role, wait))
    }

    /// Counts the values that a statement looks up.
    fn look_up(&self, values: u32) -> Result<(), Denied> {
        let mut budget = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        budget.take(values, Instant::now()).map_err(|exceeded| Denied {
            rule: RuleRef { rule: format!("role.{}.limits.lookups", self.role.name), place: None },
            reason: format!(
                "role {} allows {} look-ups of masked values a minute",
                self.role.name,
                budget.per_minute()
            ),
            hint: match exceeded {
                Exceeded::Wait(time) => format!("Try again in {} s.", time.as_secs() + 1),
                Exceeded::TooMany => "Look fewer values up in one statement.".into(),
            },
        })
    }

    fn permit(&self, statement: u64, ruling: &Ruling, decided: &Decided, leave: Leave) -> Permit {
        let lifted = leave.approval().map_or(&[][..], |approval| &approval.lifted[..]);
        Permit {
            statement,
            rewritten: decided.rewritten.clone(),
            touches_masked: decided.touches_masked,
            allowance: Allowance::of(statement, &self.role, &decided.row_rules, lifted),
            decided_when_run: !decided.row_rules.is_empty() || self.role.keeps_hours(),
            forget: decided.forget.clone(),
            cursors: decided.cursors.as_slice().into(),
            runs: decided.runs.as_slice().into(),
            masked_columns: ruling.masked().clone(),
            detection: self.detection.clone(),
            leave,
        }
    }

    fn full(&self) -> Refusal {
        let limit = self.role.limits.connections.unwrap_or_default();
        Refusal {
            statement: 0,
            sqlstate: "53300",
            message: format!("pgate: role {} allows {limit} connections at a time", self.role.name),
            detail: format!("rule role.{}.limits.connections", self.role.name),
            hint: "Close a connection, or make the client's pool smaller.".into(),
        }
    }
}

/// What is to be said of a statement that isn't denied.
#[derive(Debug)]
struct Judged {
    ruling: Arc<Ruling>,
    decided: Arc<Decided>,
    /// Whose approval it takes, and by which rule: each of them.
    holds: Vec<Held>,
    /// Those of the rules that hang on its rows.
    by_rows: Arc<[RuleRef]>,
}

impl Judged {
    fn new(ruling: Arc<Ruling>, decided: Arc<Decided>, by_rows: Vec<Held>) -> Self {
        let mut holds = decided.held.as_ref().map_or_else(Vec::new, |held| held.holds.clone());
        let rules = by_rows.iter().map(|held| held.rule.clone()).collect();
        for held in by_rows {
            // The rows are what its reviewers should know: an earlier approval of the
            // same statement with other values says nothing of them.
            match holds.iter_mut().find(|known| known.reviewers == held.reviewers) {
                Some(known) => *known = held,
                None => holds.push(held),
            }
        }
        Self { ruling, decided, holds, by_rows: rules }
    }

    fn verdict(&self) -> Verdict {
        match self.holds.first() {
            Some(held) => Verdict::Hold(held.clone()),
            None => self.decided.verdict.clone(),
        }
    }
}

fn text(rewritten: Option<&Rewritten>) -> Option<&str> {
    rewritten.map(|rewritten| &*rewritten.text)
}

impl Refusal {
    fn of(statement: u64, denied: &Denied) -> Self {
        if denied.rule == builtin(SYNTAX) {
            // A slip of the pen, told as PostgreSQL tells it.
            return Self {
                statement,
                sqlstate: "42601",
                message: denied.reason.clone(),
                detail: String::new(),
                hint: denied.hint.clone(),
            };
        }
        Self {
            statement,
            sqlstate: "42501",
            message: format!("pgate: {}", denied.reason),
            detail: format!("rule {}", denied.rule),
            hint: denied.hint.clone(),
        }
    }

    fn unrecorded(statement: u64, error: &Unrecorded) -> Self {
        Self {
            statement,
            sqlstate: "58030",
            message: format!("pgate: {error}"),
            detail: "Nothing runs that isn't recorded.".into(),
            hint: "Make room on this machine's disk and connect again.".into(),
        }
    }
}

fn expired() -> Denied {
    Denied {
        rule: builtin("expired"),
        reason: "the grant has ended".into(),
        hint: "Ask for a new one with `pgate request`.".into(),
    }
}

fn function_call() -> Denied {
    Denied {
        rule: builtin("function-call"),
        reason: "the protocol's function-call message can't be checked".into(),
        hint: "Call the function in a SELECT.".into(),
    }
}

fn changed_since_parse() -> Denied {
    Denied {
        rule: builtin("changed-since-parse"),
        reason: "a table of this prepared statement has changed since it was prepared".into(),
        hint: "Prepare the statement again, or connect again.".into(),
    }
}
