//! The session state machine: bytes from both peers in, bytes to both peers and
//! effects out.
//!
//! Owns the protocol state of one client connection after its start-up: which
//! response belongs to which request, which prepared statement a portal runs, what
//! waits for a verdict. It refuses I/O, clocks and randomness (they come in as
//! parameters), and it never forwards a byte of a statement before its verdict.
//!
//! A held statement waits in its place: what the client sends behind it isn't looked
//! at, and nothing of it has gone to the server (`deferred` says where it waits, and
//! why there). The shell asks the reviewers and brings their answer.
//!
//! A refused statement is replaced in its place in the stream by one that
//! PostgreSQL is sure to reject, and the server's error is rewritten into ours: so
//! transaction state, skip-until-Sync and ReadyForQuery stay the server's truth.

mod answered;
mod client_side;
mod closing;
mod counting;
mod deferred;
mod detection;
mod endings;
mod hygiene;
mod names;
mod outgoing;
mod pending;
#[cfg(any(test, fuzzing))]
pub mod play;
mod recorded;
mod returned;
mod server_side;
mod substitute;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use bytes::BytesMut;

pub use self::outgoing::Outgoing;
use self::{
    client_side::ClientSide,
    deferred::Deferred,
    names::{Names, Portal, Prepared},
    pending::{Expected, Pending},
    returned::Parts,
    server_side::ServerSide,
};
use super::admission::{Review, StatementRequest};
use crate::{
    journal::{EndReason, Record},
    sql::{AttributeNumber, Oid},
    wire::{self, ErrorFields},
};

/// What the machine must know of its connection.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// The connection's number within the session, from 1.
    pub connection: u32,
    /// Whether the role withholds values: errors and notices are then stripped.
    pub masks: bool,
    /// A random name that no client can know: what substitutes refer to.
    pub substitute: String,
}

/// What the shell must do besides moving bytes.
#[derive(Debug)]
pub enum Effect {
    /// Ask admission, and give its answer to [`Session::decided`] with this id.
    Decide {
        /// The decision.
        id: u64,
        /// What to ask.
        request: StatementRequest,
    },
    /// Ask the reviewers of a held statement, and give admission's answer to
    /// [`Session::decided`] with this id.
    Review {
        /// The decision.
        id: u64,
        /// What to ask.
        review: Box<Review>,
    },
    /// The review that is going on is wanted no longer; its answer is still awaited.
    Withdraw {
        /// Why, in words.
        reason: String,
    },
    /// Write this to the session log.
    Record(Record),
    /// Cancel the statement that runs upstream, and say so to [`Session::cancelled`].
    CancelStatement,
    /// The connection ends: send the client what there is to send, and close, once what the
    /// session awaits has come ([`Session::awaits_outcomes`]) or has taken too long
    /// ([`Session::conclude`]).
    Close {
        /// Why, for the log.
        reason: String,
    },
    /// The whole session ends.
    EndSession {
        /// Why.
        reason: EndReason,
        /// More, in words.
        detail: String,
    },
}

/// How far a connection's life is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Both peers are heard.
    Open,
    /// The client has said Terminate: the server finishes what it was asked.
    Leaving,
    /// The connection is over: the server is heard for the log alone.
    Concluding,
    /// Nobody is heard any more.
    Closed,
}

/// Whether a cancellation of the machine's own is on its way upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cancellation {
    None,
    /// What the client sends next waits, lest it be hit.
    UnderWay,
}

/// What the client's side waits for.
#[derive(Debug)]
enum Waiting {
    /// Nothing: the next message is looked at.
    Nothing,
    /// A verdict.
    Decision { id: u64, held: Held },
    /// A reviewer's word on a held statement.
    Review { id: u64, held: Held },
    /// The end of an earlier part of the pipeline, whose outcome says what a name means.
    Settlement,
    /// The count of the rows that a statement writes.
    Count(Sent),
}

/// How a statement was sent whose rows are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// By the client, who will send the Sync as well.
    ByClient,
    /// By the machine in place of a Query: it owes the Sync.
    ByMachine,
}

/// A message that waits for its verdict, at the front of the client's bytes.
#[derive(Debug)]
enum Held {
    Query,
    Parse { name: Arc<str>, sql: Arc<str> },
    Execute { name: Arc<str>, portal: Arc<Portal> },
    Function,
}

/// One client connection, from the end of its start-up on.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    phase: Phase,
    cancellation: Cancellation,
    waiting: Waiting,
    next_decision: u64,
    client: ClientSide,
    server: ServerSide,
    pending: Pending,
    /// What leads up to a held Execute, and hasn't gone out.
    deferred: Deferred,
    statements: Names<Prepared>,
    portals: Names<Portal>,
    /// What portals and cursors have returned by earlier parts.
    parts: Parts,
    /// As the latest permit has them.
    masked_columns: Arc<HashSet<(Oid, AttributeNumber)>>,
    /// Whether any permit has said that partitions' names tell masked values.
    partitions_tell: bool,
    notices: VecDeque<ErrorFields>,
    to_client: BytesMut,
    to_server: Outgoing,
    effects: VecDeque<Effect>,
}

impl Session {
    /// A connection whose start-up is over: the server has said ReadyForQuery.
    pub fn new(config: SessionConfig) -> Self {
        Self {
            config,
            phase: Phase::Open,
            cancellation: Cancellation::None,
            waiting: Waiting::Nothing,
            next_decision: 1,
            client: ClientSide::default(),
            server: ServerSide::default(),
            pending: Pending::default(),
            deferred: Deferred::default(),
            statements: Names::default(),
            portals: Names::default(),
            parts: Parts::default(),
            masked_columns: Arc::default(),
            partitions_tell: false,
            notices: VecDeque::new(),
            to_client: BytesMut::new(),
            to_server: Outgoing::default(),
            effects: VecDeque::new(),
        }
    }

    /// The bytes to send to the client; the shell takes them from the front.
    pub fn to_client(&mut self) -> &mut BytesMut {
        &mut self.to_client
    }

    /// The bytes to send to the server; the shell takes them from the front.
    pub fn to_server(&mut self) -> &mut Outgoing {
        &mut self.to_server
    }

    /// The next effect.
    pub fn effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Whether the client's bytes are looked at now. While not, the shell should
    /// not read more of them.
    pub fn reads_client(&self) -> bool {
        self.phase == Phase::Open
            && (matches!(self.waiting, Waiting::Nothing) || self.hears_copy_only())
            && self.cancellation == Cancellation::None
            && !self.pending.is_over_limit()
    }

    /// Bytes of the client that wait to be looked at.
    pub fn client_backlog(&self) -> usize {
        self.client.backlog()
    }

    /// Whether the rows of a result are coming from the server.
    pub fn is_amid_rows(&mut self) -> bool {
        self.pending.run().is_some_and(|run| run.rows > 0)
    }

    /// Whether the data of a COPY are coming from the client.
    pub fn is_amid_copy_in(&mut self) -> bool {
        self.pending.run().is_some_and(|run| matches!(run.copy, pending::Copy::In { data: true }))
    }

    /// Whether a statement is running upstream.
    pub fn in_flight(&self) -> bool {
        self.pending.in_flight()
    }

    /// The cancellation has reached PostgreSQL, or failed.
    pub fn cancelled(&mut self) {
        self.cancellation = Cancellation::None;
        self.digest_client();
    }

    fn cancel(&mut self) {
        self.cancellation = Cancellation::UnderWay;
        self.effects.push_back(Effect::CancelStatement);
    }

    /// The client wants what it waits for to be cancelled: a held statement is
    /// withdrawn. What runs upstream is the shell's to cancel.
    pub fn cancel_requested(&mut self) {
        self.withdraw("the client cancelled it");
    }

    /// Whether a statement waits for a reviewer.
    pub fn is_reviewing(&self) -> bool {
        matches!(self.waiting, Waiting::Review { .. })
    }

    /// Called from time to time while a statement waits for a reviewer: the server, idle
    /// in the client's transaction, must not take it for forgotten. A Sync between two
    /// statements does nothing but be answered, and its answer starts the server's idle
    /// timeouts anew.
    pub fn keep_alive(&mut self) {
        if self.phase == Phase::Open && self.is_reviewing() && self.pending.is_at_rest() {
            wire::sync(self.to_server.put());
            self.pending.push(Expected::OwnSync);
        }
    }

    fn withdraw(&mut self, reason: &str) {
        if self.is_reviewing() {
            self.effects.push_back(Effect::Withdraw { reason: reason.to_owned() });
        }
    }

    /// Tells the client something, as soon as the stream is between two messages.
    pub fn notice(&mut self, message: &str) {
        self.tell(ErrorFields::new("NOTICE", "00000", message));
    }

    /// The same with a detail and a hint.
    pub fn tell(&mut self, notice: ErrorFields) {
        self.notices.push_back(notice);
        self.flush_notices();
    }

    fn flush_notices(&mut self) {
        if self.phase == Phase::Open && self.server.is_between_messages() {
            for notice in self.notices.drain(..) {
                notice.notice_response(&mut self.to_client);
            }
        }
    }

    /// A peer broke the protocol, or spoke of what can't be carried.
    fn violation(&mut self, what: &str) {
        self.end("08P01", what);
    }

    fn record(&mut self, record: Record) {
        self.effects.push_back(Effect::Record(record));
    }

    fn alert(&mut self, reason: EndReason, sqlstate: &str, detail: String) {
        let connection = Some(self.config.connection);
        self.record(Record::Alert { connection, message: detail.clone() });
        self.fatal(sqlstate, &format!("pgate ended the session: {detail}"));
        self.close(detail.clone());
        self.effects.push_back(Effect::EndSession { reason, detail });
    }

    /// Whether there is something of the client's that hasn't been looked at.
    fn client_waits(&self) -> bool {
        self.client.backlog() > 0 || matches!(self.waiting, Waiting::Settlement)
    }

    fn after_server(&mut self) {
        self.flush_notices();
        if let Waiting::Settlement = self.waiting {
            self.waiting = Waiting::Nothing;
            self.client.look_again();
        }
        self.digest_client();
    }
}
