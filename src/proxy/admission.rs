//! Admission: the one place that says whether a connection may be opened and a
//! statement forwarded.
//!
//! Owns the permits ([`Permit`], [`ConnectionPermit`]): the rest of the proxy
//! demands one as an argument, and only this file can make one. It refuses to
//! know about sockets or messages.

use std::{collections::HashSet, fmt, sync::Arc};

use crate::{
    journal::{Parameter, Protocol, Record},
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
}

/// What admission says of a statement. Its line is on disk when this is returned.
#[derive(Debug)]
pub enum Admitted {
    /// It may be forwarded.
    Forward(Permit),
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

/// Leave to forward one statement, made by admission alone.
#[derive(Debug, Clone)]
pub struct Permit {
    statement: u64,
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
            rewritten,
            touches_masked,
            row_limit,
            forget: Forget::Nothing,
            masked_columns: Arc::new(masked_columns),
        }
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
    pub parameters: std::collections::BTreeMap<String, String>,
}

/// Leave to open one upstream connection, made by admission alone.
#[derive(Debug)]
pub struct ConnectionPermit {
    connection: u32,
}

impl ConnectionPermit {
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
    next: std::sync::atomic::AtomicU64,
}

impl Admission {
    /// Admits a client connection and records it.
    pub async fn connect(&self, _request: ConnectionRequest) -> Result<ConnectionPermit, Refusal> {
        Err(unavailable(0))
    }

    /// Decides a statement, and returns once its line is on disk.
    pub async fn admit(&self, _request: StatementRequest) -> Admitted {
        let statement = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        Admitted::Refuse(unavailable(statement))
    }

    /// Records what isn't decided: disconnects, completions, settings, alerts.
    pub fn record(&self, _record: Record) -> Result<(), Unrecorded> {
        Err(Unrecorded("no log is open".into()))
    }
}

fn unavailable(statement: u64) -> Refusal {
    Refusal {
        statement,
        sqlstate: "42501",
        message: "pgate has no policy loaded".into(),
        detail: String::new(),
        hint: String::new(),
    }
}
