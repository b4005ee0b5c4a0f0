//! Writing a log: records in, lines of the chain out.

use jiff::Timestamp;

use super::{
    LineError, LineHash, Receipt, Record, Start,
    line::{encode_into, whole_microseconds},
    signature,
};
use crate::grant::{SessionId, SigningKey};

/// The version of the log's format that this pgate writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// A line that the chain has made: it counts as said once the caller has stored it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number in the chain.
    pub seq: u64,
    /// Its bytes, ended by a line feed.
    pub bytes: Vec<u8>,
}

/// The writing end of a log: knows the last line and makes the next one.
///
/// It moves on with every line that it makes; a caller that fails to store one
/// can't go on with this chain.
#[derive(Debug)]
pub struct Chain {
    session: SessionId,
    next: u64,
    head: LineHash,
    unsigned: u64,
}

impl Chain {
    /// Begins a log with its first line.
    pub fn start(start: Start, at: Timestamp) -> Result<(Self, Line), LineError> {
        let session = start.session.clone();
        let mut chain = Self { session, next: 0, head: LineHash::NONE, unsigned: 0 };
        let line = chain.append(Record::Start(Box::new(start)), at)?;
        Ok((chain, line))
    }

    /// Makes the next line. On an error the chain stays where it was.
    pub fn append(&mut self, record: Record, at: Timestamp) -> Result<Line, LineError> {
        let mut bytes = Vec::new();
        let seq = self.append_to(&record, at, &mut bytes)?;
        Ok(Line { seq, bytes })
    }

    /// The same behind other lines; returns its number. On an error these stay as they were,
    /// too.
    pub fn append_to(
        &mut self,
        record: &Record,
        at: Timestamp,
        lines: &mut Vec<u8>,
    ) -> Result<u64, LineError> {
        let (seq, begins) = (self.next, lines.len());
        encode_into(seq, whole_microseconds(at), &self.head, record, lines)?;
        self.head = LineHash::of(lines.get(begins..).unwrap_or_default());
        self.next += 1;
        if !record.is_signature() {
            self.unsigned += 1;
        }
        lines.push(b'\n');
        Ok(seq)
    }

    /// Signs everything so far with the session's key.
    pub fn checkpoint(&mut self, key: &SigningKey, at: Timestamp) -> Result<Line, LineError> {
        let at = whole_microseconds(at);
        let record = signature::checkpoint(&self.session, self.next, at, &self.head, key);
        let line = self.append(record, at)?;
        self.unsigned = 0;
        Ok(line)
    }

    /// Takes the control plane's countersignature into the log.
    pub fn receipt(&mut self, receipt: Receipt) -> Result<Line, LineError> {
        let at = receipt.received_at;
        self.append(Record::Receipt(receipt), at)
    }

    /// Lines since the last checkpoint that no signature covers yet.
    pub fn unsigned(&self) -> u64 {
        self.unsigned
    }

    /// The number that the next line gets.
    pub fn next_seq(&self) -> u64 {
        self.next
    }

    /// The session.
    pub fn session(&self) -> &SessionId {
        &self.session
    }
}
