//! Admission: the one place that says whether a connection may be opened and a
//! statement forwarded.
//!
//! Owns the permits ([`Permit`], [`ConnectionPermit`]): the rest of the proxy
//! demands one as an argument, and only this module can make one. It refuses to
//! know about sockets or messages.

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
use super::{
    drift::Drift,
    lookups::{Exceeded, LookupBudget},
    review::ReviewDesk,
    ruling::{Decided, Ruling, builtin},
    spool::{Spool, SpoolError},
};
use crate::{
    grant::HoldId,
    journal::{ConnectionStart, Parameter, Protocol, Record, StatementRecord},
    policy::{Denied, Role, RuleRef, Verdict},
    sql::{AttributeNumber, Oid},
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
    /// To run it; where it was held, by this approval (the last one, where several were
    /// needed).
    Run { approval: Option<HoldId> },
    /// To prepare it: every run of it is held.
    Prepare,
}

/// Leave to forward one statement, made by admission alone.
#[derive(Debug, Clone)]
pub struct Permit {
    statement: u64,
    leave: Leave,
    rewritten: Option<Rewritten>,
    touches_masked: bool,
    row_limit: Option<u64>,
    forget: Forget,
    masked_columns: Arc<HashSet<(Oid, AttributeNumber)>>,
}

impl Permit {
    /// The statement's number within the session.
    pub fn statement(&self) -> u64 {
        self.statement
    }

    /// Whether it is leave to prepare the statement, every run of which is held.
    pub fn is_held(&self) -> bool {
        self.leave == Leave::Prepare
    }

    /// The hold whose approval it rests on.
    pub fn approval(&self) -> Option<&HoldId> {
        match &self.leave {
            Leave::Run { approval } => approval.as_ref(),
            Leave::Prepare => None,
        }
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

    /// The rows that it may return.
    pub fn row_limit(&self) -> Option<u64> {
        self.row_limit
    }

    /// The prepared statements to forget once it has completed.
    pub fn forget(&self) -> &Forget {
        &self.forget
    }

    /// A permit for tests of the machine and of the engine.
    #[cfg(test)]
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
            row_limit,
            forget: Forget::Nothing,
            masked_columns: Arc::new(masked_columns),
        }
    }

    /// The same for a Parse of a held statement, or for a run that this hold approved.
    #[cfg(test)]
    pub(crate) fn held_for_test(self, approval: Option<HoldId>) -> Self {
        let leave = match approval {
            Some(_) => Leave::Run { approval },
            None => Leave::Prepare,
        };
        Self { leave, ..self }
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
        Self {
            role,
            expires_at,
            drift,
            spool,
            desk: None,
            statements: AtomicU64::new(0),
            connections: AtomicU32::new(0),
            room,
            lookups,
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
            Ok((_, decided)) => decided.verdict.clone(),
            Err(denied) => Verdict::Deny(denied.clone()),
        };
        let record = Record::Statement(Box::new(StatementRecord {
            connection: request.connection,
            statement,
            protocol: request.protocol,
            sql: request.sql.to_string(),
            parameters: request.parameters.to_vec(),
            verdict,
        }));
        if let Err(error) = self.record(record) {
            return Admitted::Refuse(Refusal::unrecorded(statement, &error));
        }
        let (ruling, decided) = match judged {
            Ok(judged) => judged,
            Err(denied) => return Admitted::Refuse(Refusal::of(statement, &denied)),
        };
        let leave = match &decided.verdict {
            Verdict::Allow(_) => Leave::Run { approval: None },
            Verdict::Deny(denied) => return Admitted::Refuse(Refusal::of(statement, denied)),
            Verdict::Hold(_) if request.protocol == Protocol::Parse => Leave::Prepare,
            Verdict::Hold(_) => match self.goes_on(statement, &request) {
                Ok(approval @ Some(_)) => Leave::Run { approval },
                Ok(None) => {
                    return Admitted::Hold(Box::new(Review { statement, request, decided }));
                }
                Err(error) => return Admitted::Refuse(Refusal::unrecorded(statement, &error)),
            },
        };
        Admitted::Forward(self.permit(statement, &ruling, &decided, leave))
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
    async fn judge(
        &self,
        request: &StatementRequest,
    ) -> Result<(Arc<Ruling>, Arc<Decided>), Denied> {
        if Timestamp::now() >= self.expires_at {
            return Err(expired());
        }
        if request.protocol == Protocol::Function {
            return Err(function_call());
        }
        let (ruling, decided) = self.drift.decide(&request.sql).await?;
        if let Verdict::Deny(_) = &decided.verdict {
            return Ok((ruling, decided));
        }
        if let Some(earlier) = &request.earlier
            && text(earlier.rewritten.as_ref()) != text(decided.rewritten.as_ref())
        {
            return Err(changed_since_parse());
        }
        // A Parse runs nothing yet: each of its Executes counts. What is held counts when
        // it is approved.
        if request.protocol != Protocol::Parse && matches!(decided.verdict, Verdict::Allow(_)) {
            self.look_up(decided.lookups)?;
        }
        Ok((ruling, decided))
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
        Permit {
            statement,
            leave,
            rewritten: decided.rewritten.clone(),
            touches_masked: decided.touches_masked,
            row_limit: self.role.limits.rows,
            forget: decided.forget.clone(),
            masked_columns: ruling.masked().clone(),
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

fn text(rewritten: Option<&Rewritten>) -> Option<&str> {
    rewritten.map(|rewritten| &*rewritten.text)
}

impl Refusal {
    fn of(statement: u64, denied: &Denied) -> Self {
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
