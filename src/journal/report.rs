//! What verifying a log has found.

use jiff::Timestamp;
use serde::Serialize;

use super::EndReason;
use crate::grant::{SessionGrant, SessionId};

/// Problems and notices that are listed one by one; more are only counted.
const MOST_LISTED: usize = 100;

/// What a log says of itself, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// The session that the log's first line names.
    pub session: Option<SessionId>,
    /// The grant, where its signature is the control plane's and it is this session's.
    pub grant: Option<SessionGrant>,
    /// Lines.
    pub lines: u64,
    /// Statements among them.
    pub statements: u64,
    /// Statements that were denied.
    pub denied: u64,
    /// Statements that were held for a reviewer, or covered by an earlier approval.
    pub held: u64,
    /// Of these, those that were approved.
    pub approved: u64,
    /// When the first line was written.
    pub began_at: Option<Timestamp>,
    /// When the last line was written that isn't a signature.
    pub last_at: Option<Timestamp>,
    /// Checkpoints whose signature is the session key's.
    pub checkpoints: u64,
    /// Receipts whose signature is the control plane's and that fit the log.
    pub receipts: u64,
    /// What the last of these covers.
    pub received: Option<Received>,
    /// How the session ended; none where the log has no end.
    pub closed: Option<Closed>,
    /// What is wrong, in the order of the lines as far as they tell. Empty where the
    /// log is as pgate wrote it.
    pub problems: Vec<Problem>,
    /// Problems beyond those listed.
    pub further_problems: u64,
    /// What a reader should know, though nothing is wrong.
    pub notices: Vec<Notice>,
}

/// How far the control plane has countersigned a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Received {
    /// Lines from the beginning.
    pub lines: u64,
    /// When, by its clock.
    pub at: Timestamp,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Closed {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: EndReason,
    /// More, in words.
    pub detail: String,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The line of the file, from 1; none where it is about the whole file.
    pub line: Option<u64>,
    /// What.
    #[serde(flatten)]
    pub wrong: Wrong,
    /// The same in words.
    pub message: String,
}

/// What can be wrong with a log. Lines are counted in the file, from 1; numbers
/// are what the lines say of themselves, from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Wrong {
    /// No lines.
    #[error("the log is empty")]
    Empty,
    /// A line that isn't one of pgate's.
    #[error("the line can't be read: {why}")]
    Unreadable {
        /// Why.
        why: super::LineError,
    },
    /// The last line has no line feed.
    #[error("the log breaks off in the middle of this line")]
    Torn,
    /// The log doesn't begin with its first line.
    #[error("the log doesn't begin here: its first lines were cut off")]
    NoBeginning,
    /// Another first line in the middle.
    #[error("a session starts again in the middle of the log")]
    SecondStart,
    /// The first line's grant or key.
    #[error("the session isn't the control plane's: {why}")]
    BadStart {
        /// Why.
        why: String,
    },
    /// A line whose hash isn't what the line after it says.
    #[error("{}", edited(*first, *last))]
    Edited {
        /// The first line that may have been changed.
        first: u64,
        /// The last one, which was.
        last: u64,
    },
    /// Lines are missing.
    #[error("lines are missing before this one: numbers {first} to {last} were cut out")]
    Cut {
        /// The first missing number.
        first: u64,
        /// The last missing number.
        last: u64,
    },
    /// A line that belongs elsewhere.
    #[error("the line is out of its place: lines were moved, or put in before it ({place})")]
    Misplaced {
        /// Where it belongs.
        place: Place,
    },
    /// A line that the log has had already.
    #[error("the line repeats line {of}")]
    Repeated {
        /// The earlier one.
        of: u64,
    },
    /// A checkpoint that the session's key didn't sign.
    #[error(
        "the checkpoint is not signed by the session's key: it or lines before it are not \
         what pgate wrote"
    )]
    BadCheckpoint,
    /// A receipt that the control plane didn't sign.
    #[error("the receipt is not the control plane's: {why}")]
    BadReceipt {
        /// Why.
        why: String,
    },
    /// A receipt of the control plane for another content.
    #[error("this is not what the control plane received: its receipt for number {number} differs")]
    NotWhatWasReceived {
        /// The number of the line that the receipt is about.
        number: u64,
    },
    /// A statement that ran after the grant's end.
    #[error("a statement ran after the grant had ended at {expired_at}")]
    AfterExpiry {
        /// The grant's end.
        expired_at: Timestamp,
    },
    /// A held statement has an outcome, and no approval before it.
    #[error("the held statement {statement} ran though the log has no approval of it")]
    RanUnapproved {
        /// Its number.
        statement: u64,
    },
    /// Something other than a signature after the end.
    #[error("the log goes on after its end")]
    AfterEnd,
    /// Nothing vouches for the last lines.
    #[error(
        "{count} lines from here on are unsigned: no checkpoint or receipt follows that vouches \
         for them"
    )]
    UnsignedTail {
        /// How many.
        count: u64,
    },
}

/// Where a misplaced line belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// After this line of the file.
    After(u64),
    /// Its number is smaller than that of a line before it.
    Number(u64),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::After(line) => write!(f, "it continues line {line}"),
            Place::Number(number) => write!(f, "it is number {number}"),
        }
    }
}

fn edited(first: u64, last: u64) -> String {
    if first == last {
        "the line was changed after it was written".into()
    } else {
        format!(
            "the line was changed after it was written, or several from line {first} to {last} were"
        )
    }
}

/// Something that a reader of an intact log should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Notice {
    /// No end.
    #[error("the session was not closed: pgate was killed, or it is still running")]
    NotClosed,
    /// The control plane has countersigned nothing.
    #[error("the log holds no receipt: it doesn't show that the control plane has received it")]
    NothingReceived,
    /// The control plane has not countersigned the last lines.
    #[error("the log doesn't show that the control plane has received it from line {line} on")]
    PartlyReceived {
        /// The first line that it may not have.
        line: u64,
    },
    /// Times go back.
    #[error("the clock was set back: line {line} is earlier than the one before it")]
    ClockSetBack {
        /// The first such line.
        line: u64,
    },
}

impl Report {
    /// Whether the log is as pgate wrote it, signed throughout. It may still not be
    /// closed, as `notices` says.
    pub fn is_intact(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn problem(&mut self, line: impl Into<Option<u64>>, wrong: Wrong) {
        if self.problems.len() < MOST_LISTED {
            let message = wrong.to_string();
            self.problems.push(Problem { line: line.into(), wrong, message });
        } else {
            self.further_problems += 1;
        }
    }
}

/// `line 7: the line was changed after it was written`.
impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}
