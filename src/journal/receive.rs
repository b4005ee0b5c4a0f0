//! Receiving a log, as the control plane does: segment after segment, each
//! checked before a byte of it is stored or countersigned.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    End, Entry, FORMAT_VERSION, LONGEST_LINE, LineError, LineHash, Receipt, Record, Start,
    chain::Line,
    line::encode,
    signature::verify_checkpoint,
    usual::{Place, Read, Reader},
};
use crate::grant::{Jwk, SessionId, SignatureError, SigningKey, VerifyingKey};

/// The longest segment that one upload may hold, in bytes: at least one longest line.
pub const LONGEST_SEGMENT: usize = LONGEST_LINE + 1;

/// What the control plane remembers of a log that it is receiving: small, and
/// stored with the session so that any replica can go on with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    session: SessionId,
    key: Jwk,
    next: u64,
    head: LineHash,
    bytes: u64,
    statements: u64,
    end: Option<Ended>,
}

/// How the log said that its session ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Ended {
    at: Timestamp,
    end: End,
}

/// A segment that fits the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The receiver after it: to be stored together with the new bytes.
    pub receiver: Receiver,
    /// Where the new bytes begin in the segment: what stands before them had been
    /// received already. Equal to the segment's length where nothing is new.
    pub new_from: usize,
    /// Where the new bytes belong in the stored log, as an offset from its beginning.
    pub offset: u64,
}

/// Why a segment is refused. Nothing of it is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// No whole line: empty, or the last line has no line feed.
    #[error("the segment is not made of whole lines")]
    NotWhole,
    /// Longer than [`LONGEST_SEGMENT`].
    #[error("the segment is longer than {} MiB", LONGEST_SEGMENT >> 20)]
    TooLong,
    /// It begins after the next line that is wanted.
    #[error("the segment begins at line {got}, but line {next} comes next")]
    Gap {
        /// The first line of the segment.
        got: u64,
        /// The line that is wanted.
        next: u64,
    },
    /// A line can't be read.
    #[error("line {seq} can't be read: {why}")]
    BadLine {
        /// The number that it should have.
        seq: u64,
        /// Why.
        why: LineError,
    },
    /// A line says another number than its place.
    #[error("line {seq} says that it is line {said}")]
    WrongNumber {
        /// Its place.
        seq: u64,
        /// What it says.
        said: u64,
    },
    /// A line doesn't continue the one before, or differs from what was received earlier.
    #[error("line {seq} doesn't continue what was received: the log was changed or forked")]
    Forked {
        /// The line.
        seq: u64,
    },
    /// The first line isn't a start of this session by this grant and key.
    #[error("the log's first line is not this session's: {0}")]
    BadStart(StartError),
    /// A second start.
    #[error("line {seq} starts the session again")]
    SecondStart {
        /// The line.
        seq: u64,
    },
    /// A checkpoint that the session's key didn't sign.
    #[error("the checkpoint at line {seq} is not signed by the session's key")]
    BadCheckpoint {
        /// The line.
        seq: u64,
    },
    /// Something other than a signature after the end.
    #[error("line {seq} comes after the log's end")]
    AfterEnd {
        /// The line.
        seq: u64,
    },
}

/// What can be wrong with a log's first line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// Something else stands there.
    #[error("it is not a start record")]
    NotAStart,
    /// A format that this version doesn't know.
    #[error("it has format version {0}; this pgate knows version {FORMAT_VERSION}")]
    UnknownVersion(u32),
    /// The grant's signature.
    #[error("the grant in it: {0}")]
    Grant(#[from] SignatureError),
    /// The grant is another session's.
    #[error("the grant in it was signed for another session")]
    AnotherSession,
    /// The grant is bound to another key.
    #[error("the session key in it is not the one that the grant is bound to")]
    AnotherKey,
}

/// Checks a log's first line: its grant is the control plane's, names its session,
/// and is bound to its key. Returns the session's grant and key.
pub(super) fn check_start(
    start: &Start,
    keys: &[VerifyingKey],
) -> Result<(crate::grant::SessionGrant, VerifyingKey), StartError> {
    if start.version != FORMAT_VERSION {
        return Err(StartError::UnknownVersion(start.version));
    }
    let grant = start.grant.verify(keys)?;
    if grant.session != start.session {
        return Err(StartError::AnotherSession);
    }
    let key = VerifyingKey::from_jwk(&start.key)?;
    if VerifyingKey::from_jwk(&grant.cnf.jwk)? != key {
        return Err(StartError::AnotherKey);
    }
    Ok((grant, key))
}

impl Receiver {
    /// For a session that has been opened with this key; nothing received yet.
    pub fn new(session: SessionId, key: Jwk) -> Self {
        Self { session, key, next: 0, head: LineHash::NONE, bytes: 0, statements: 0, end: None }
    }

    /// Checks a segment whose first line is said to be line `seq`. Lines that were
    /// received before may stand at its beginning (an upload whose answer was lost);
    /// they must be the same. `keys` are the control plane's own, old ones included.
    pub fn accept(
        &self,
        seq: u64,
        segment: &[u8],
        keys: &[VerifyingKey],
    ) -> Result<Accepted, ReceiveError> {
        if segment.len() > LONGEST_SEGMENT {
            return Err(ReceiveError::TooLong);
        }
        let Some((b'\n', lines)) = segment.split_last() else { return Err(ReceiveError::NotWhole) };
        if seq > self.next {
            return Err(ReceiveError::Gap { got: seq, next: self.next });
        }
        let mut after = self.clone();
        let (mut at, mut new_from, mut before) = (seq, 0, None);
        let mut reader = Reader::default();
        for line in lines.split(|&byte| byte == b'\n') {
            let read = read(&mut reader, at, line)?;
            let hash = LineHash::of(line);
            if at < self.next {
                check_overlap(self, read.place(), hash, before)?;
                new_from += line.len() + 1;
            } else {
                after.take(&read, hash, line.len() as u64 + 1, keys)?;
            }
            before = Some(hash);
            at += 1;
        }
        Ok(Accepted { receiver: after, new_from, offset: self.bytes })
    }

    /// Countersigns what has been received; `None` before the first line.
    pub fn receipt(&self, now: Timestamp, key: &SigningKey) -> Option<Receipt> {
        let last = self.next.checked_sub(1)?;
        Some(Receipt::sign(&self.session, last, self.head, now, key))
    }

    /// A receipt as a line that continues the stored log, to be put at the end of a
    /// downloaded copy.
    pub fn receipt_line(&self, receipt: Receipt) -> Result<Line, LineError> {
        let entry = Entry {
            seq: self.next,
            at: receipt.received_at,
            prev: self.head,
            record: Record::Receipt(receipt),
        };
        let mut bytes = encode(&entry)?;
        bytes.push(b'\n');
        Ok(Line { seq: entry.seq, bytes })
    }

    /// The session.
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// The number of the next line that is wanted: lines received so far.
    pub fn lines(&self) -> u64 {
        self.next
    }

    /// Bytes received so far: the length of the stored log.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Statements among the lines.
    pub fn statements(&self) -> u64 {
        self.statements
    }

    /// When and how the log says that the session ended; `None` while it hasn't.
    pub fn end(&self) -> Option<(Timestamp, &End)> {
        self.end.as_ref().map(|ended| (ended.at, &ended.end))
    }

    /// Goes on with one more line; where that fails, this is no receiver any more.
    fn take(
        &mut self,
        read: &Read,
        hash: LineHash,
        length: u64,
        keys: &[VerifyingKey],
    ) -> Result<(), ReceiveError> {
        let seq = self.next;
        if read.place().prev != self.head {
            return Err(ReceiveError::Forked { seq });
        }
        if self.end.is_some() && !read.is_signature() {
            return Err(ReceiveError::AfterEnd { seq });
        }
        match read {
            Read::Statement(_) | Read::Completion(_) if seq == 0 => {
                return Err(ReceiveError::BadStart(StartError::NotAStart));
            }
            Read::Statement(_) => self.statements += 1,
            Read::Completion(_) => {}
            Read::Other(entry) => self.heed(entry, keys)?,
        }
        self.next += 1;
        self.head = hash;
        self.bytes += length;
        Ok(())
    }

    /// Takes what a line says of the log itself.
    fn heed(&mut self, entry: &Entry, keys: &[VerifyingKey]) -> Result<(), ReceiveError> {
        let seq = self.next;
        match &entry.record {
            Record::Start(start) if seq == 0 => self.check_own_start(start, keys)?,
            _ if seq == 0 => return Err(ReceiveError::BadStart(StartError::NotAStart)),
            Record::Start(_) => return Err(ReceiveError::SecondStart { seq }),
            Record::Statement(_) => self.statements += 1,
            Record::Checkpoint { signature } => VerifyingKey::from_jwk(&self.key)
                .and_then(|key| verify_checkpoint(&self.session, entry, signature, &key))
                .map_err(|_| ReceiveError::BadCheckpoint { seq })?,
            Record::End(end) => self.end = Some(Ended { at: entry.at, end: end.clone() }),
            // What the client says it was told is checked by whoever verifies the log.
            Record::Receipt(_) => {}
            Record::Connect(_)
            | Record::Host { .. }
            | Record::Disconnect(_)
            | Record::Completion(_)
            | Record::Results(_)
            | Record::Planned(_)
            | Record::Hold(_)
            | Record::Setting { .. }
            | Record::Notification { .. }
            | Record::Alert { .. } => {}
        }
        Ok(())
    }

    fn check_own_start(&self, start: &Start, keys: &[VerifyingKey]) -> Result<(), ReceiveError> {
        let (grant, key) = check_start(start, keys).map_err(ReceiveError::BadStart)?;
        if grant.session != self.session {
            return Err(ReceiveError::BadStart(StartError::AnotherSession));
        }
        match VerifyingKey::from_jwk(&self.key) {
            Ok(opened) if opened == key => Ok(()),
            _ => Err(ReceiveError::BadStart(StartError::AnotherKey)),
        }
    }
}

fn read(reader: &mut Reader, seq: u64, line: &[u8]) -> Result<Read, ReceiveError> {
    let read = reader.read(line).map_err(|why| ReceiveError::BadLine { seq, why })?;
    let said = read.place().seq;
    if said == seq { Ok(read) } else { Err(ReceiveError::WrongNumber { seq, said }) }
}

/// A line that was received before: it continues the one before it in this
/// segment, and where it is the last one received, it is that very line. As each
/// line holds the hash of the one before, that holds for all of them.
fn check_overlap(
    received: &Receiver,
    Place { seq, prev }: Place,
    hash: LineHash,
    before: Option<LineHash>,
) -> Result<(), ReceiveError> {
    let continues = before.is_none_or(|before| prev == before);
    let is_head = seq + 1 == received.next;
    if continues && (!is_head || hash == received.head) {
        Ok(())
    } else {
        Err(ReceiveError::Forked { seq })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{
        Chain,
        sample::{self, at, server_key, session_key},
    };

    fn fresh() -> Receiver {
        Receiver::new(sample::session(), session_key().verifying_key().to_jwk())
    }

    fn accept(receiver: &Receiver, seq: u64, segment: &[u8]) -> Result<Accepted, ReceiveError> {
        receiver.accept(seq, segment, &[server_key().verifying_key()])
    }

    #[test]
    fn a_log_may_come_in_any_cut_into_whole_lines() {
        let log = sample::log();
        let whole = sample::receive(&log);
        for cut in 1..log.len() {
            let (first, second) = log.split_at(cut);
            let one = accept(&fresh(), 0, &first.concat()).unwrap();
            assert_eq!((one.new_from, one.offset), (0, 0));
            let two = accept(&one.receiver, cut as u64, &second.concat()).unwrap();
            assert_eq!((two.new_from, two.offset), (0, first.concat().len() as u64));
            assert_eq!(two.receiver, whole);
        }
        assert_eq!((whole.lines(), whole.statements()), (12, 2));
        assert_eq!(whole.bytes(), log.concat().len() as u64);
        assert_eq!(whole.end().unwrap().0, at(80));
    }

    #[test]
    fn lines_sent_again_are_recognised_and_taken_once() {
        let log = sample::log();
        let receiver = sample::receive(&log[..5]);
        for from in 0..=5 {
            let accepted = accept(&receiver, from, &log[from as usize..].concat()).unwrap();
            assert_eq!(accepted.new_from, log[from as usize..5].concat().len(), "from {from}");
            assert_eq!(accepted.offset, receiver.bytes());
            assert_eq!(accepted.receiver, sample::receive(&log));
        }
        let nothing_new = accept(&receiver, 2, &log[2..5].concat()).unwrap();
        assert_eq!(nothing_new.new_from, log[2..5].concat().len());
        assert_eq!(nothing_new.receiver, receiver);
    }

    #[test]
    fn what_was_received_cant_be_sent_again_otherwise() {
        let log = sample::log();
        let receiver = sample::receive(&log[..5]);
        for changed in 0..5 {
            let mut lines = log.clone();
            let text = String::from_utf8(lines[changed].clone()).unwrap();
            let text = text.replacen("2027-01-15T08", "2027-01-15T07", 1);
            assert_ne!(text.as_bytes(), lines[changed]);
            lines[changed] = text.into_bytes();
            assert!(accept(&receiver, 0, &lines.concat()).is_err(), "line {changed}");
        }
    }

    #[test]
    fn its_memory_survives_storage() {
        let receiver = sample::receive(&sample::log());
        let stored = serde_json::to_string(&receiver).unwrap();
        assert!(stored.len() < 1000, "{}", stored.len());
        assert_eq!(serde_json::from_str::<Receiver>(&stored).unwrap(), receiver);
    }

    #[test]
    fn a_segment_that_does_not_fit_is_refused_with_its_reason() {
        let log = sample::log();
        let part = sample::receive(&log[..3]);
        let mut swapped = log.clone();
        swapped.swap(3, 4);
        let mut torn = log[3].clone();
        torn.pop();
        let after_end = {
            let (mut chain, first) = Chain::start(sample::start(), at(0)).unwrap();
            let end = chain.append(sample::end(), at(1)).unwrap();
            let more = chain.append(sample::statement(1, "SELECT 1"), at(2)).unwrap();
            [first.bytes, end.bytes, more.bytes].concat()
        };
        let foreign_checkpoint = {
            let (mut chain, first) = Chain::start(sample::start(), at(0)).unwrap();
            let forged = chain.checkpoint(&server_key(), at(1)).unwrap();
            [first.bytes, forged.bytes].concat()
        };
        let restarted = {
            let (mut chain, first) = Chain::start(sample::start(), at(0)).unwrap();
            let again = Record::Start(Box::new(sample::start()));
            [first.bytes, chain.append(again, at(1)).unwrap().bytes].concat()
        };
        let cases: [(&str, ReceiveError, Result<Accepted, ReceiveError>); 11] = [
            ("empty", ReceiveError::NotWhole, accept(&part, 3, b"")),
            ("torn", ReceiveError::NotWhole, accept(&part, 3, &torn)),
            ("gap", ReceiveError::Gap { got: 4, next: 3 }, accept(&part, 4, &log[4])),
            (
                "blank line",
                ReceiveError::BadLine { seq: 3, why: LineError::NotJson },
                accept(&part, 3, b"\n"),
            ),
            (
                "wrong number",
                ReceiveError::WrongNumber { seq: 3, said: 4 },
                accept(&part, 3, &swapped[3..].concat()),
            ),
            (
                "other chain",
                ReceiveError::Forked { seq: 3 },
                accept(&sample::receive(&log[..2]).skip_to(3), 3, &log[3]),
            ),
            ("after the end", ReceiveError::AfterEnd { seq: 2 }, accept(&fresh(), 0, &after_end)),
            (
                "foreign checkpoint",
                ReceiveError::BadCheckpoint { seq: 1 },
                accept(&fresh(), 0, &foreign_checkpoint),
            ),
            ("second start", ReceiveError::SecondStart { seq: 1 }, accept(&fresh(), 0, &restarted)),
            (
                "no start",
                ReceiveError::WrongNumber { seq: 0, said: 3 },
                accept(&fresh(), 0, &log[3]),
            ),
            (
                "too long",
                ReceiveError::TooLong,
                accept(&fresh(), 0, &vec![b'\n'; LONGEST_SEGMENT + 1]),
            ),
        ];
        for (case, expected, got) in cases {
            assert_eq!(got, Err(expected), "{case}");
        }
    }

    impl Receiver {
        fn skip_to(mut self, next: u64) -> Self {
            self.next = next;
            self
        }
    }

    #[test]
    fn a_log_of_another_session_key_or_control_plane_is_refused() {
        let start = |start: &Start| {
            let line = Chain::start(start.clone(), at(0)).unwrap().1;
            accept(&fresh(), 0, &line.bytes).map(|_| ())
        };
        let fails = |error| Err(ReceiveError::BadStart(error));
        let good = sample::start();
        assert_eq!(start(&good), Ok(()));
        let other_session = crate::grant::SessionId::from_random([3; 10]);
        let mut grant = sample::grant();
        grant.session = other_session.clone();
        let stolen = sample::start_under(&grant, &server_key());
        assert_eq!(start(&stolen), fails(StartError::AnotherSession));
        let consistent = Start { session: other_session, ..stolen };
        assert_eq!(start(&consistent), fails(StartError::AnotherSession));
        let own_key = Start { key: server_key().verifying_key().to_jwk(), ..good.clone() };
        assert_eq!(start(&own_key), fails(StartError::AnotherKey));
        let mut rebound = sample::grant();
        rebound.cnf.jwk = own_key.key.clone();
        let rebound = Start { key: own_key.key, ..sample::start_under(&rebound, &server_key()) };
        assert_eq!(start(&rebound), fails(StartError::AnotherKey));
        let forged = sample::start_under(&sample::grant(), &session_key());
        assert!(matches!(
            start(&forged),
            Err(ReceiveError::BadStart(StartError::Grant(SignatureError::UnknownKey(_))))
        ));
        assert_eq!(start(&Start { version: 2, ..good }), fails(StartError::UnknownVersion(2)));
    }
}
