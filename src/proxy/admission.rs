//! Admission: the one place that says whether a connection may be opened and a
//! statement forwarded.
//!
//! Owns the making of permits ([`Permit`], [`ConnectionPermit`]): the rest of the proxy
//! demands one as an argument, and only this module can make one. It refuses to
//! know about sockets or messages.

mod logged;
mod permit;
mod refusal;
mod review;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

pub(super) use self::review::Line;
use self::{
    permit::{Approval, Leave},
    refusal::{changed_since_parse, expired, function_call},
};
pub use self::{
    permit::{ConnectionPermit, Forget, Permit, Rewritten},
    refusal::Refusal,
    review::Review,
};
use super::{
    allowance::{self, Allowance},
    drift::Drift,
    estimate::{self, Bound, Expectation},
    review::ReviewDesk,
    ruling::{Decided, Ruling},
    spool::{Spool, SpoolError},
};
use crate::{
    api::Estimate,
    journal::{
        ConnectionStart, LoggedVerdict, Parameter, PlannedRecord, Protocol, Record, StatementRecord,
    },
    mask::Detection,
    policy::{Audit, Denied, Held, Pace, Role, RowRule, RuleRef, Verdict},
    sql::Oid,
};

/// How long a receipt of the control plane may take where statements wait for it.
const RECEIPT_PATIENCE: Duration = Duration::from_secs(10);
/// Look-ups a minute where the role says nothing.
const DEFAULT_LOOKUPS: u32 = 30;

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
    pub bound: Option<Box<Bound>>,
    /// The types that it names for its parameters, by number ([`Protocol::Parse`] only).
    pub types: Vec<Oid>,
}

/// What admission says of a statement, whose line is in the log; on disk it is no later
/// than after [`Admission::record_all`], which comes before a byte goes to the server.
#[derive(Debug)]
pub enum Admitted {
    /// It may be forwarded.
    Forward(Permit),
    /// Its reviewers have to be asked first, with [`Admission::review`].
    Hold(Box<Review>),
    /// It may not; the client gets this error in its place.
    Refuse(Refusal),
}

/// A client that wants to connect.
#[derive(Debug, Clone)]
pub struct ConnectionRequest {
    /// `unix` or `tcp`.
    pub transport: &'static str,
    /// The startup parameters that the client sent.
    pub parameters: BTreeMap<String, String>,
}

/// The log could not be written: nothing may be forwarded any more.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the session log can't be written: {0}")]
pub struct Unrecorded(pub String);

/// The control plane hasn't confirmed the line of a statement of a role that demands it.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "the control plane hasn't confirmed the session log within {} s, and nothing may run \
     before it does (rule role.{role}.audit); connect again when `pgate doctor` reaches it",
    RECEIPT_PATIENCE.as_secs()
)]
pub(super) struct Unconfirmed {
    role: String,
}

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
    lookups: Mutex<Pace>,
    pace: Option<Mutex<Pace>>,
    began: Instant,
    detection: Option<Arc<Detection>>,
    /// What the role's limits leave to every statement.
    limits: Allowance,
    failed: watch::Sender<Option<String>>,
}

impl Admission {
    /// The role that statements are admitted under.
    pub(super) fn role(&self) -> Arc<Role> {
        Arc::clone(&self.role)
    }

    /// Admission under `role` until `expires_at`, with the catalog that `drift`
    /// keeps and the log in `spool`.
    pub fn new(role: Arc<Role>, expires_at: Timestamp, drift: Drift, spool: Arc<Spool>) -> Self {
        let room = role.limits.connections.map(|limit| {
            let limit = usize::try_from(limit).unwrap_or(Semaphore::MAX_PERMITS);
            Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)))
        });
        let lookups = Mutex::new(Pace::new(role.limits.lookups.unwrap_or(DEFAULT_LOOKUPS)));
        let pace = role.limits.statements_per_minute.map(|limit| Mutex::new(Pace::new(limit)));
        let detection = Detection::new(&role.detect).map(Arc::new);
        let limits = Allowance::of(&role, &[], &[]);
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
            limits,
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
        self.record(&record).map_err(|error| Refusal::unrecorded(0, &error))?;
        Ok(ConnectionPermit::of(connection, counted))
    }

    /// Decides a statement, and returns once its line is on disk.
    ///
    /// No text reaches PostgreSQL before it is in the log: where the planner is asked how
    /// many rows it expects, a line of its own says so first.
    pub async fn admit(&self, request: StatementRequest) -> Admitted {
        let statement = self.next_statement();
        let judged = match self.judge(&request).await {
            Ok(judged) => self.foresee(statement, &request, judged).await,
            Err(stopped) => Err(stopped),
        };
        self.conclude(statement, request, judged)
    }

    /// The same at once, for a statement that has been decided before and whose rows need
    /// not be foreseen; gives any other back.
    pub fn admit_known(&self, request: StatementRequest) -> Result<Admitted, StatementRequest> {
        if request.protocol == Protocol::Function || Timestamp::now() >= self.expires_at {
            return Err(request);
        }
        let Some((ruling, decided)) = self.drift.recall(&request.sql) else { return Err(request) };
        if request.protocol != Protocol::Parse && !decided.row_rules.is_empty() {
            return Err(request);
        }
        let judged = self
            .keeps_to(&request, &decided)
            .and_then(|()| typed(&request, &ruling))
            .and_then(|()| self.looks_up(&request, Judged::new(ruling, decided, Vec::new(), None)));
        Ok(self.conclude(self.next_statement(), request, judged))
    }

    fn next_statement(&self) -> u64 {
        self.statements.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Records what was decided, and answers it.
    fn conclude(
        &self,
        statement: u64,
        request: StatementRequest,
        judged: Result<Judged, Stopped>,
    ) -> Admitted {
        let judged = match judged {
            Err(Stopped::Unrecorded(error)) => {
                return Admitted::Refuse(Refusal::unrecorded(statement, &error));
            }
            Err(Stopped::Denied { denied, misplaced }) => Err((denied, misplaced)),
            Ok(judged) => Ok(judged),
        };
        let verdict = match &judged {
            Ok(judged) => judged.verdict(),
            Err((denied, _)) => Arc::new(Verdict::Deny(denied.clone()).into()),
        };
        let record = Record::Statement(Box::new(StatementRecord {
            connection: request.connection,
            statement,
            protocol: request.protocol,
            sql: logged::text(&request.sql, &verdict),
            parameters: Arc::clone(&request.parameters),
            verdict,
        }));
        let recorded = match &judged {
            // Reviewers are told of it at once.
            Ok(judged) if !judged.holds.is_empty() => self.record(&record),
            _ => self.written(self.spool.append_awaited(&record, Timestamp::now())),
        };
        if let Err(error) = recorded {
            return Admitted::Refuse(Refusal::unrecorded(statement, &error));
        }
        let judged = match judged {
            Ok(judged) => judged,
            Err((denied, position)) => {
                let refusal = self.refusal(statement, &denied);
                return Admitted::Refuse(Refusal { position, ..refusal });
            }
        };
        let leave = match (request.protocol, judged.holds.is_empty(), begun(&request).cloned()) {
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

    /// Writes to the log, while the session lives, what nothing has waited for.
    pub(super) async fn write_behind(&self) {
        self.spool.write_behind().await;
    }

    /// Records what isn't decided: disconnects, completions, settings, alerts.
    pub fn record(&self, record: &Record) -> Result<(), Unrecorded> {
        let now = Timestamp::now();
        self.written(match record {
            // It has happened, and nothing waits for its line.
            Record::Completion(_) | Record::Results(_) => self.spool.append_behind(record, now),
            _ => self.spool.append(record, now).map(drop),
        })
    }

    /// Whether a statement has been admitted whose line isn't on disk.
    pub(super) fn owes_a_line(&self) -> bool {
        self.spool.is_awaited()
    }

    /// Puts the lines of all that has been admitted on disk.
    pub(super) fn record_all(&self) -> Result<(), Unrecorded> {
        self.written(self.spool.store_all())
    }

    /// How many lines of the log the control plane must have before what has been admitted
    /// so far may go to the server; none where the role's statements don't wait for it.
    pub(super) fn lines_to_be_received(&self) -> Option<u64> {
        let lines = match self.role.audit {
            Audit::Spool => return None,
            Audit::Strict => self.spool.lines_that_count(),
        };
        (*self.spool.lines_received().borrow() < lines).then_some(lines)
    }

    /// Waits until a text that the planner is asked about may leave.
    async fn planned(&self) -> Result<(), Stopped> {
        match self.role.audit {
            Audit::Spool => Ok(()),
            Audit::Strict => {
                let lines = self.spool.lines_that_count();
                Ok(self.received(lines).await.map_err(|error| Unrecorded(error.to_string()))?)
            }
        }
    }

    /// Waits until the control plane has countersigned so many lines. Who waits at the same
    /// moment is served by one upload.
    pub(super) async fn received(&self, lines: u64) -> Result<(), Unconfirmed> {
        let mut received = self.spool.lines_received();
        self.spool.hurry();
        let waited = timeout(RECEIPT_PATIENCE, received.wait_for(|known| *known >= lines)).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Unconfirmed { role: self.role.name.clone() }),
        }
    }

    fn written<T>(&self, written: Result<T, SpoolError>) -> Result<T, Unrecorded> {
        match written {
            Ok(written) => Ok(written),
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

    /// What policy says of it now but for its rows, or why it isn't even asked.
    async fn judge(
        &self,
        request: &StatementRequest,
    ) -> Result<(Arc<Ruling>, Arc<Decided>), Stopped> {
        if Timestamp::now() >= self.expires_at {
            return Err(expired().into());
        }
        if request.protocol == Protocol::Function {
            return Err(function_call().into());
        }
        let (ruling, decided) = self.drift.decide(&request.sql).await?;
        self.keeps_to(request, &decided)?;
        typed(request, &ruling)?;
        Ok((ruling, decided))
    }

    /// Stops what comes too fast, is denied, isn't any more what was prepared, or looks too
    /// much up.
    fn keeps_to(&self, request: &StatementRequest, decided: &Decided) -> Result<(), Stopped> {
        self.keep_pace(request.protocol, decided)?;
        if let Verdict::Deny(denied) = &**decided.verdict {
            let misplaced = decided.misplaced;
            return Err(Stopped::Denied { denied: denied.clone(), misplaced });
        }
        if let Some(earlier) = &request.earlier
            && earlier.text() != text(decided.rewritten.as_ref())
        {
            return Err(changed_since_parse().into());
        }
        if request.protocol != Protocol::Parse && decided.lookups > 0 {
            let mut lookups = self.lookups();
            let per_minute = lookups.per_minute();
            lookups
                .has_room(decided.lookups, self.began.elapsed())
                .map_err(|why| allowance::too_many_lookups(&self.role, per_minute, why))?;
        }
        Ok(())
    }

    /// What is left to say: what the rows that it hits make of a statement that nothing
    /// else denies.
    async fn foresee(
        &self,
        statement: u64,
        request: &StatementRequest,
        (ruling, decided): (Arc<Ruling>, Arc<Decided>),
    ) -> Result<Judged, Stopped> {
        // A Parse runs nothing yet, and its values aren't known: each of its Executes counts.
        if request.protocol == Protocol::Parse || decided.row_rules.is_empty() {
            let judged = Judged::new(ruling, decided, Vec::new(), None);
            return self.looks_up(request, judged);
        }
        // More of the same run is held by what held its beginning.
        if let Some(begun) = begun(request) {
            let held = |rule: &RowRule| match &rule.verdict {
                Verdict::Hold(held) if begun.lifted.contains(&held.rule) => Some(held.clone()),
                _ => None,
            };
            let by_rows = decided.row_rules.iter().filter_map(held).collect();
            return self.looks_up(request, Judged::new(ruling, decided, by_rows, None));
        }
        if decided.explainable.is_ok() {
            self.record(&Record::Planned(Box::new(PlannedRecord {
                connection: request.connection,
                statement,
                sql: request.sql.to_string(),
                parameters: request.parameters.to_vec(),
            })))?;
            self.planned().await?;
        }
        let estimate = self.expect(request, &decided).await;
        let by_rows = allowance::foreseen(&decided.row_rules, estimate::rows(&estimate))?;
        self.looks_up(request, Judged::new(ruling, decided, by_rows, Some(estimate)))
    }

    /// Counts what a statement that runs now looks up; what is held counts when it is
    /// approved.
    fn looks_up(&self, request: &StatementRequest, judged: Judged) -> Result<Judged, Stopped> {
        if request.protocol != Protocol::Parse && judged.holds.is_empty() {
            self.look_up(judged.decided.lookups)?;
        }
        Ok(judged)
    }

    /// What PostgreSQL expects of the text that would be forwarded, which is in the log.
    async fn expect(&self, request: &StatementRequest, decided: &Decided) -> Estimate {
        if let Err(why) = decided.explainable {
            return Estimate::Unavailable { why: why.to_string() };
        }
        let sql = text(decided.rewritten.as_ref()).unwrap_or(&request.sql);
        match self.drift.expect(sql, request.bound.as_deref()).await {
            Ok(Expectation { rows, cost }) => Estimate::Planned { rows, cost },
            Err(error) => {
                tracing::debug!(%error, "a statement's rows could not be estimated");
                error.told()
            }
        }
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
            .map_err(|why| allowance::too_fast(&self.role, why))
    }

    /// Counts the values that a statement looks up.
    fn look_up(&self, values: u32) -> Result<(), Denied> {
        if values == 0 {
            return Ok(());
        }
        let mut lookups = self.lookups();
        let per_minute = lookups.per_minute();
        lookups
            .take(values, self.began.elapsed())
            .map_err(|why| allowance::too_many_lookups(&self.role, per_minute, why))
    }

    fn lookups(&self) -> MutexGuard<'_, Pace> {
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn permit(&self, statement: u64, ruling: &Ruling, decided: &Decided, leave: Leave) -> Permit {
        let under = (&*self.role, &self.limits);
        Permit::of(statement, under, ruling, decided, self.detection.clone(), leave)
    }

    fn full(&self) -> Refusal {
        let limit = self.role.limits.connections.unwrap_or_default();
        Refusal {
            statement: 0,
            sqlstate: "53300",
            message: format!("pgate: role {} allows {limit} connections at a time", self.role.name),
            detail: format!("rule role.{}.limits.connections", self.role.name),
            hint: "Close a connection, or make the client's pool smaller.".into(),
            position: None,
        }
    }
}

/// Why a statement goes no further.
#[derive(Debug)]
enum Stopped {
    /// Policy, with the character that is no SQL where it is that.
    Denied { denied: Denied, misplaced: Option<usize> },
    /// The log.
    Unrecorded(Unrecorded),
}

impl From<Denied> for Stopped {
    fn from(denied: Denied) -> Self {
        Self::Denied { denied, misplaced: None }
    }
}

impl From<Unrecorded> for Stopped {
    fn from(error: Unrecorded) -> Self {
        Self::Unrecorded(error)
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
    /// What PostgreSQL expects of it, where it has been asked.
    estimate: Option<Estimate>,
}

impl Judged {
    fn new(
        ruling: Arc<Ruling>,
        decided: Arc<Decided>,
        by_rows: Vec<Held>,
        estimate: Option<Estimate>,
    ) -> Self {
        let rules = by_rows.iter().map(|held| held.rule.clone()).collect();
        let holds = decided.holds_with(by_rows);
        Self { ruling, decided, holds, by_rows: rules, estimate }
    }

    fn verdict(&self) -> Arc<LoggedVerdict> {
        match self.holds.first() {
            Some(held) => Arc::new(Verdict::Hold(held.clone()).into()),
            None => Arc::clone(&self.decided.verdict),
        }
    }
}

/// Stops what names a type for a parameter that the role may not use.
fn typed(request: &StatementRequest, ruling: &Ruling) -> Result<(), Stopped> {
    let denied = request.types.iter().find_map(|oid| ruling.refuses_parameter(*oid));
    denied.map_or(Ok(()), |denied| Err(denied.into()))
}

fn text(rewritten: Option<&Rewritten>) -> Option<&str> {
    rewritten.map(|rewritten| &*rewritten.text)
}

/// The approval of the run that an Execute goes on with.
fn begun(request: &StatementRequest) -> Option<&Approval> {
    request.begun.as_ref().and_then(|permit| permit.word())
}
