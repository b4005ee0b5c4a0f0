//! Verifying a log, offline: the bytes and the control plane's public keys are all
//! that it takes.

use std::{
    collections::{HashSet, VecDeque},
    io::{self, BufRead},
};

use jiff::{SignedDuration, Timestamp};

use super::{
    Entry, HoldEvent, HoldRecord, LineHash, Lines, Protocol, RawLine, Receipt, Record, Start,
    links::{BrokenChain, Link, Says},
    receive::check_start,
    report::{Closed, Notice, Received, Report, Wrong},
    signature::verify_checkpoint,
};
use crate::{
    grant::{SessionId, VerifyingKey},
    policy::Verdict,
};

/// Lines whose hashes are kept for a receipt still to come.
const MOST_AWAITING: usize = 2_000_000;
/// Held statements without an approval that are kept in mind.
const MOST_UNAPPROVED: usize = 100_000;
/// A step back of the clock that is worth a word. Lines of concurrent
/// connections may be microseconds apart.
const CLOCK_STEP: SignedDuration = SignedDuration::from_secs(1);

/// Verifies a log against the control plane's keys and says what is wrong, at
/// which line. Reads it once; memory is bounded by its longest line and 64 bytes
/// for each line that no receipt covers yet.
///
/// # Errors
/// Only those of reading. A log that isn't what it should be is a report with problems.
pub fn verify(log: impl BufRead, keys: &[VerifyingKey]) -> io::Result<Report> {
    let mut verifier = Verifier::new(keys);
    for line in Lines::new(log) {
        verifier.line(&line?);
    }
    Ok(verifier.finish())
}

struct Verifier<'a> {
    keys: &'a [VerifyingKey],
    report: Report,
    session: Option<Session>,
    chain: ChainState,
    awaiting: VecDeque<Awaiting>,
    /// Numbers up to and including this one are vouched for.
    covered: Option<u64>,
    clock: Option<Timestamp>,
    /// Held statements that nobody has approved so far.
    unapproved: HashSet<u64>,
}

/// What the first line says of the session.
struct Session {
    id: SessionId,
    key: Option<VerifyingKey>,
    expires_at: Option<Timestamp>,
}

enum ChainState {
    Begin,
    /// The last line, and the one before it.
    Whole(Link, Option<Link>),
    Broken(BrokenChain),
}

/// A line that a later signature may cover.
struct Awaiting {
    line: u64,
    number: u64,
    hash: LineHash,
    is_signature: bool,
}

impl<'a> Verifier<'a> {
    fn new(keys: &'a [VerifyingKey]) -> Self {
        Self {
            keys,
            report: Report::default(),
            session: None,
            chain: ChainState::Begin,
            awaiting: VecDeque::new(),
            covered: None,
            clock: None,
            unapproved: HashSet::new(),
        }
    }

    fn line(&mut self, raw: &RawLine) {
        self.report.lines += 1;
        let (line, hash) = (raw.number, raw.hash());
        if !raw.ended {
            self.report.problem(line, Wrong::Torn);
        }
        let entry = match raw.decode() {
            Ok(entry) => entry,
            Err(why) => {
                // A first line cut short is as likely no log at all.
                if raw.ended || line == 1 {
                    self.report.problem(line, Wrong::Unreadable { why });
                }
                self.link(Link { line, hash, says: None });
                return;
            }
        };
        let says = Says { number: entry.seq, prev: Some(entry.prev) };
        self.link(Link { line, hash, says: Some(says) });
        self.record(line, &entry);
        if self.awaiting.len() >= MOST_AWAITING {
            self.awaiting.pop_front();
        }
        let is_signature = entry.record.is_signature();
        self.awaiting.push_back(Awaiting { line, number: entry.seq, hash, is_signature });
    }

    fn link(&mut self, link: Link) {
        self.chain = match std::mem::replace(&mut self.chain, ChainState::Begin) {
            ChainState::Begin => {
                match link.says {
                    Some(Says { number: 0, prev: Some(LineHash::NONE) }) | None => {}
                    Some(Says { number: 0, .. }) => self
                        .report
                        .problem(link.line, Wrong::Edited { first: link.line, last: link.line }),
                    Some(_) => self.report.problem(link.line, Wrong::NoBeginning),
                }
                ChainState::Whole(link, None)
            }
            ChainState::Whole(last, _) if last.leads_to(&link) => {
                ChainState::Whole(link, Some(last))
            }
            ChainState::Whole(last, before) => {
                let mut broken = BrokenChain::after(before.into_iter().chain([last]));
                broken.push(link);
                ChainState::Broken(broken)
            }
            ChainState::Broken(mut broken) => {
                broken.push(link);
                ChainState::Broken(broken)
            }
        };
    }

    fn record(&mut self, line: u64, entry: &Entry) {
        let is_signature = entry.record.is_signature();
        if self.report.closed.is_some() && !is_signature {
            self.report.problem(line, Wrong::AfterEnd);
        }
        if !is_signature {
            self.time(line, entry.at);
        }
        match &entry.record {
            Record::Start(start) if line == 1 => self.start(line, start),
            Record::Start(_) => self.report.problem(line, Wrong::SecondStart),
            _ if line == 1 && entry.seq == 0 => self.report.problem(line, Wrong::NoBeginning),
            Record::Statement(statement) => {
                let denied = matches!(**statement.verdict, Verdict::Deny(_));
                self.statement(line, entry.at, denied);
                // A Parse runs nothing: its outcome is an error of the database's.
                if matches!(**statement.verdict, Verdict::Hold(_))
                    && statement.protocol != Protocol::Parse
                    && self.unapproved.len() < MOST_UNAPPROVED
                {
                    self.unapproved.insert(statement.statement);
                }
            }
            Record::Checkpoint { signature } => self.checkpoint(line, entry, signature),
            Record::Receipt(receipt) => self.receipt(line, entry, receipt),
            Record::End(end) => {
                if self.report.closed.is_none() {
                    let (reason, detail) = (end.reason, end.detail.clone());
                    self.report.closed = Some(Closed { at: entry.at, reason, detail });
                }
            }
            Record::Hold(hold) => self.hold(hold),
            Record::Results(results) => self.ran(line, results.statement),
            Record::Completion(completion) => self.ran(line, completion.statement),
            Record::Connect(_)
            | Record::Host { .. }
            | Record::Disconnect(_)
            | Record::Planned(_)
            | Record::Setting { .. }
            | Record::Notification { .. }
            | Record::Alert { .. } => {}
        }
    }

    fn hold(&mut self, hold: &HoldRecord) {
        let (held, approved) = match hold.event {
            HoldEvent::Raised { .. } => (1, 0),
            HoldEvent::Approved { .. } => (0, 1),
            HoldEvent::Covered => (1, 1),
            HoldEvent::Denied { .. }
            | HoldEvent::Withdrawn { .. }
            | HoldEvent::TimedOut
            | HoldEvent::Failed { .. }
            | HoldEvent::Void { .. } => (0, 0),
        };
        self.report.held += held;
        self.report.approved += approved;
        if approved > 0 {
            self.unapproved.remove(&hold.statement);
        }
    }

    /// A statement has had a result, or an outcome.
    fn ran(&mut self, line: u64, statement: u64) {
        if self.unapproved.remove(&statement) {
            self.report.problem(line, Wrong::RanUnapproved { statement });
        }
    }

    fn time(&mut self, line: u64, at: Timestamp) {
        let told = |notice: &Notice| matches!(notice, Notice::ClockSetBack { .. });
        if let Some(before) = self.clock
            && before.duration_since(at) > CLOCK_STEP
            && !self.report.notices.iter().any(told)
        {
            self.report.notices.push(Notice::ClockSetBack { line });
        }
        self.clock = Some(at);
        self.report.began_at.get_or_insert(at);
        self.report.last_at = Some(at);
    }

    fn start(&mut self, line: u64, start: &Start) {
        self.report.session = Some(start.session.clone());
        let mut session = Session {
            id: start.session.clone(),
            key: VerifyingKey::from_jwk(&start.key).ok(),
            expires_at: None,
        };
        match check_start(start, self.keys) {
            Ok((grant, key)) => {
                session.key = Some(key);
                session.expires_at = grant.expires_at();
                self.report.grant = Some(grant);
            }
            Err(why) => self.report.problem(line, Wrong::BadStart { why: why.to_string() }),
        }
        self.session = Some(session);
    }

    fn statement(&mut self, line: u64, at: Timestamp, denied: bool) {
        self.report.statements += 1;
        if denied {
            self.report.denied += 1;
        }
        if let Some(expired_at) = self.session.as_ref().and_then(|session| session.expires_at)
            && at > expired_at
            && !denied
        {
            self.report.problem(line, Wrong::AfterExpiry { expired_at });
        }
    }

    fn checkpoint(&mut self, line: u64, entry: &Entry, signature: &str) {
        let Some(Session { id, key: Some(key), .. }) = &self.session else {
            // Without its beginning, or with a bad key in it, nothing vouches for the
            // log: that has been said.
            return;
        };
        match verify_checkpoint(id, entry, signature, key) {
            Ok(()) => {
                self.report.checkpoints += 1;
                self.covered = self.covered.max(Some(entry.seq));
            }
            Err(_) => self.report.problem(line, Wrong::BadCheckpoint),
        }
    }

    fn receipt(&mut self, line: u64, entry: &Entry, receipt: &Receipt) {
        let Some(Session { id, .. }) = &self.session else { return };
        if let Err(why) = receipt.verify(id, self.keys) {
            let why = why.to_string();
            return self.report.problem(line, Wrong::BadReceipt { why });
        }
        if entry.at != receipt.received_at {
            let why = "the line's time is not the one that was signed".into();
            return self.report.problem(line, Wrong::BadReceipt { why });
        }
        let number = receipt.received_seq;
        let received = self.awaiting.iter().rev().find(|line| line.number == number);
        if received.is_none_or(|line| line.hash.to_string() != receipt.received_head) {
            return self.report.problem(line, Wrong::NotWhatWasReceived { number });
        }
        self.report.receipts += 1;
        let lines = number.saturating_add(1);
        if self.report.received.is_none_or(|before| before.lines <= lines) {
            self.report.received = Some(Received { lines, at: receipt.received_at });
        }
        self.covered = self.covered.max(Some(number));
        // Another receipt may be about the same line, never about one before it.
        while self.awaiting.front().is_some_and(|line| line.number < number) {
            self.awaiting.pop_front();
        }
    }

    fn finish(mut self) -> Report {
        if self.report.lines == 0 {
            self.report.problem(None, Wrong::Empty);
            return self.report;
        }
        if let ChainState::Broken(broken) = &self.chain {
            for (line, wrong) in broken.explain() {
                self.report.problem(line, wrong);
            }
        }
        let beyond = |covered: Option<u64>| {
            self.awaiting
                .iter()
                .filter(move |line| !line.is_signature && Some(line.number) > covered)
        };
        let mut unsigned = beyond(self.covered);
        let tail = unsigned.next().map(|first| (first.line, 1 + unsigned.count() as u64));
        let received = self.report.received.map(|received| received.lines.saturating_sub(1));
        let unreceived = beyond(received).next().map(|first| first.line);
        if let Some((line, count)) = tail {
            self.report.problem(line, Wrong::UnsignedTail { count });
        }
        if self.report.closed.is_none() {
            self.report.notices.push(Notice::NotClosed);
        }
        match (received, unreceived) {
            (None, _) => self.report.notices.push(Notice::NothingReceived),
            (Some(_), Some(line)) => self.report.notices.push(Notice::PartlyReceived { line }),
            (Some(_), None) => {}
        }
        self.report.problems.sort_by_key(|problem| problem.line);
        self.report
    }
}

#[cfg(test)]
mod tests;
