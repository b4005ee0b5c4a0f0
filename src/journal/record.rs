//! What a line of the session log can say.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{LineHash, LoggedVerdict};
use crate::{
    grant::{HoldId, Identity, Jwk, Scope, SessionId, SignedGrant},
    policy::{Reviewers, RuleRef},
};

/// One line: its place in the chain and what it says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// 0 for the first line, then one more each.
    pub seq: u64,
    /// When, with microseconds.
    pub at: Timestamp,
    /// SHA-256 of the line before (its bytes without the line feed), in lower-case
    /// hex; 64 zeros in the first line.
    pub prev: LineHash,
    /// What it says.
    #[serde(flatten)]
    pub record: Record,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    /// The first line.
    Start(Box<Start>),
    /// A client connected.
    Connect(ConnectionStart),
    /// Which of the database's hosts a client connection has got; after its `connect`, and
    /// before its statements. Only where the target names several.
    Host {
        /// The connection.
        connection: u32,
        /// The host and port, or the path of the socket.
        host: String,
    },
    /// A client connection ended.
    Disconnect(ConnectionEnd),
    /// A statement that PostgreSQL's planner is asked about before there is a verdict on
    /// it; on disk before the question goes out. Its `statement` line follows.
    Planned(Box<PlannedRecord>),
    /// A statement and its verdict; on disk before the statement is forwarded.
    Statement(Box<StatementRecord>),
    /// What became of a held statement: between its own line and its completion.
    Hold(Box<HoldRecord>),
    /// The rows of a statement as the client got them, where the role has them recorded
    /// and there were any; before its completion.
    Results(Box<ResultsRecord>),
    /// The outcome of a statement that was forwarded.
    Completion(Completion),
    /// A setting of a connection changed, as the server reported it.
    Setting {
        /// The connection.
        connection: u32,
        /// The setting.
        name: String,
        /// Its new value.
        value: String,
    },
    /// What somebody sent by NOTIFY on a channel that this connection listens on.
    Notification {
        /// The connection.
        connection: u32,
        /// The channel.
        channel: String,
        /// The process id of the database session that sent it.
        process: i32,
        /// The length of what it carries, in bytes.
        bytes: u64,
        /// Whether the client was shown that, too: not where the role masks anything.
        shown: bool,
    },
    /// Something that a person should look at: a tripwire, a detected value.
    Alert {
        /// The connection, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connection: Option<u32>,
        /// What was seen, without the value.
        message: String,
    },
    /// A signature of the session key over everything before, and over this line's
    /// own number and time, so that no byte of the last checkpoint is open to change.
    Checkpoint {
        /// Ed25519 over `pgate-log-v1\n`, the session id, `\n`, `seq`, `\n`, `at`, `\n`,
        /// `prev` of this line (each as the line writes it): base64url without padding.
        signature: String,
    },
    /// The control plane's countersignature, as the client received it. Its line's
    /// `at` is `received_at`, which the control plane has signed.
    Receipt(Receipt),
    /// The last line of a session that was closed. Followed by a last checkpoint,
    /// and by receipts that arrive after it.
    End(End),
}

/// What the first line holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The version of the log's format; 1.
    pub version: u32,
    /// The session.
    pub session: SessionId,
    /// The signed grant, which names the identity chain and binds the session key.
    pub grant: SignedGrant,
    /// The session's public key.
    pub key: Jwk,
    /// pgate's version.
    pub pgate: String,
    /// The command that runs under the session, its arguments left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// A client connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectionStart {
    /// Its number within the session, from 1.
    pub connection: u32,
    /// `unix` or `tcp`.
    pub transport: String,
    /// The startup parameters that the client sent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

/// The end of a client connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectionEnd {
    /// Its number.
    pub connection: u32,
    /// Why it ended.
    pub reason: String,
}

/// How a statement came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// A Query message.
    Simple,
    /// A Parse message: decided, not yet run.
    Parse,
    /// An Execute message: a run of what an earlier Parse decided.
    Execute,
    /// A FunctionCall message (always refused).
    Function,
}

/// A parameter of a Bind message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parameter {
    /// NULL.
    Null,
    /// A value in text format.
    Text(String),
    /// A value in binary format, or one that isn't UTF-8: base64.
    Binary(String),
    /// A value too long to keep.
    Cut {
        /// Its length in bytes.
        bytes: u64,
        /// Its SHA-256, in hex.
        sha256: String,
    },
}

/// A statement whose rows PostgreSQL is asked to foresee, by EXPLAIN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedRecord {
    /// The client connection.
    pub connection: u32,
    /// The statement's number: the same as in its `statement` line.
    pub statement: u64,
    /// The text as the client sent it.
    pub sql: String,
    /// The values bound to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
}

/// A statement and its verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatementRecord {
    /// The client connection.
    pub connection: u32,
    /// Its number within the session, from 1; completions name it.
    pub statement: u64,
    /// How it came in.
    pub protocol: Protocol,
    /// The text as the client sent it.
    pub sql: Arc<str>,
    /// The values bound to it.
    #[serde(default, skip_serializing_if = "no_parameters")]
    pub parameters: Arc<[Parameter]>,
    /// What policy said.
    #[serde(flatten)]
    pub verdict: Arc<LoggedVerdict>,
}

fn no_parameters(parameters: &Arc<[Parameter]>) -> bool {
    parameters.is_empty()
}

/// A step of a held statement's wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HoldRecord {
    /// The client connection.
    pub connection: u32,
    /// The statement's number.
    pub statement: u64,
    /// The hold.
    pub hold: HoldId,
    /// What happened.
    #[serde(flatten)]
    pub event: HoldEvent,
}

/// What happens to a hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum HoldEvent {
    /// Reviewers are asked, and the statement waits.
    Raised {
        /// The rule that holds it.
        rule: RuleRef,
        /// Who may approve.
        reviewers: Option<Reviewers>,
        /// When it is refused unanswered.
        expires_at: Timestamp,
    },
    /// A reviewer said yes.
    Approved {
        /// Who.
        by: Identity,
        /// When, by the control plane's clock.
        decided_at: Timestamp,
        /// To how much.
        scope: Scope,
        /// What they said.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        comment: String,
    },
    /// The statement was not raised: this hold's approval for statements of the same
    /// shape covers it.
    Covered,
    /// A reviewer said no.
    Denied {
        /// Who.
        by: Identity,
        /// When, by the control plane's clock.
        decided_at: Timestamp,
        /// What they said.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        comment: String,
    },
    /// The client waits no longer.
    Withdrawn {
        /// Why, in words.
        reason: String,
    },
    /// Nobody answered in time.
    TimedOut,
    /// No answer can come: reviewers couldn't be asked, or the session ended.
    Failed {
        /// Why, in words.
        reason: String,
    },
    /// It was approved, and yet not run: it is no longer what was approved.
    Void {
        /// Why, in words.
        reason: String,
    },
}

/// The rows that a statement has returned, as they went to the client: masked, and none that
/// was withheld. What is kept is its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultsRecord {
    /// The client connection.
    pub connection: u32,
    /// The statement's number.
    pub statement: u64,
    /// One for each result with rows: a Query may have several.
    pub sets: Vec<ResultSet>,
    /// What the client got beyond them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<CutRows>,
}

/// Rows of the same columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultSet {
    /// Their columns; none where they aren't known, as those of COPY.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<ResultColumn>,
    /// The format of COPY, where it is what COPY sends: each row is then one value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<ValueFormat>,
    /// Their values.
    pub rows: Vec<Vec<Value>>,
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultColumn {
    /// Its name.
    pub name: String,
    /// The OID of its type.
    #[serde(rename = "type")]
    pub type_oid: u32,
    /// The format of its values.
    pub format: ValueFormat,
}

/// How PostgreSQL writes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueFormat {
    /// As text.
    Text,
    /// In its type's binary format.
    Binary,
}

/// A value of a result: `null`, a string, or an object that says what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// NULL.
    Null,
    /// A value in text format.
    Text(String),
    /// A value in binary format, or one that isn't UTF-8.
    Binary {
        /// In base64.
        binary: String,
    },
    /// A value too long to keep.
    Cut {
        /// What is known of it.
        cut: CutValue,
    },
}

/// A value too long to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutValue {
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256, in hex.
    pub sha256: String,
}

/// Rows that the client got and the log doesn't have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutRows {
    /// How many.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The outcome of a statement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The client connection.
    pub connection: u32,
    /// The statement's number.
    pub statement: u64,
    /// The command tag (`SELECT 3`), where it completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Rows that the client received.
    pub rows: u64,
    /// Bytes of these rows.
    pub bytes: u64,
    /// Microseconds from forwarding to completion.
    pub duration_us: u64,
    /// The SQLSTATE of its error, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// More, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The command ended, or the person pressed Ctrl-C.
    Closed,
    /// The grant's end came.
    Expired,
    /// The grant was revoked.
    Revoked,
    /// A masked value showed up in a result.
    Tripwire,
    /// pgate could not go on (a full disk, a lost server).
    Failed,
}

/// The control plane's countersignature of the head that it has received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The last line that it covers.
    pub received_seq: u64,
    /// SHA-256 of that line, in hex.
    pub received_head: String,
    /// When it was received.
    pub received_at: Timestamp,
    /// The id of the server's key.
    pub key: String,
    /// Ed25519 over `pgate-receipt-v1\n`, session id, `\n`, received_seq, `\n`, received_head,
    /// `\n`, received_at: base64url without padding.
    pub signature: String,
}
