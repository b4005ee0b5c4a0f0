//! One conversation: the machine between a script and the model, in some order of turns.

use std::collections::VecDeque;

use super::{
    Ending, Under, alone,
    machine::{Happened, Machine, NOTICE},
    server::{Server, Stands},
    statement::Said,
};
use crate::{
    journal::{Record, Value},
    wire::{self, ErrorFields, HEADER},
};

/// Who is heard next, and how much of them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Turn {
    Client(usize),
    ToServer(usize),
    FromServer(usize),
    Decide,
    Review,
    Notice,
    KeepAlive,
    FlushServer,
}

impl Turn {
    pub(super) fn read(chunk: &[u8]) -> Self {
        let byte = |at: usize| chunk.get(at).copied().unwrap_or_default();
        let size = usize::from(byte(1)) + 1;
        match byte(0) % 16 {
            0..=3 => Self::Client(size),
            4..=6 => Self::ToServer(size),
            7..=9 => Self::FromServer(size),
            10..=11 => Self::Decide,
            12 => Self::Review,
            13 => Self::Notice,
            14 => Self::KeepAlive,
            _ => Self::FlushServer,
        }
    }
}

/// A conversation to its end.
#[derive(Debug)]
pub(super) struct Conversation {
    machine: Machine,
    server: Server,
    script: VecDeque<Said>,
    client: Vec<u8>,
    wire_to_server: VecDeque<u8>,
    happened: Vec<Happened>,
}

impl Conversation {
    /// Plays a script in this order of turns, and then to the end in a fair one.
    pub(super) fn play(role: Under, script: &[Said], turns: &[Turn], ending: Ending) -> Self {
        let mut conversation = Self {
            machine: Machine::new(role),
            server: Server::new(Stands::Behind),
            script: script.iter().cloned().collect(),
            client: Vec::new(),
            wire_to_server: VecDeque::new(),
            happened: Vec::new(),
        };
        for turn in turns {
            conversation.turn(*turn);
        }
        match ending {
            _ if conversation.machine.closed.is_some() => {}
            Ending::Said => {}
            Ending::ClientGone => _ = conversation.happens(Happened::ClientGone),
            Ending::SessionEnds => _ = conversation.happens(Happened::SessionEnds),
        }
        while conversation.settle() {}
        if conversation.machine.closed.is_some() {
            conversation.happens(Happened::Concluded);
        }
        conversation
    }

    fn happens(&mut self, what: Happened) -> bool {
        self.machine.happens(&what);
        self.happened.push(what);
        self.wire_to_server.extend(self.machine.take_sent());
        true
    }

    /// Takes a turn; whether it did anything.
    fn turn(&mut self, turn: Turn) -> bool {
        let closed = self.machine.closed.is_some();
        match turn {
            Turn::Client(_) | Turn::Notice | Turn::KeepAlive if closed => false,
            Turn::FromServer(_) if closed && !self.machine.awaits_outcomes() => false,
            Turn::Client(most) => {
                self.speak(most);
                let count = most.min(self.client.len());
                if count == 0 {
                    return false;
                }
                let rest = self.client.split_off(count);
                let said = std::mem::replace(&mut self.client, rest);
                self.happens(Happened::Client(said))
            }
            Turn::ToServer(most) => {
                let count = most.min(self.wire_to_server.len());
                let sent = self.wire_to_server.drain(..count).collect::<Vec<_>>();
                self.server.take(&sent);
                count > 0
            }
            Turn::FromServer(most) => {
                let output = self.server.output();
                let count = most.min(output.len());
                let sent = output.drain(..count).collect::<Vec<_>>();
                match count {
                    0 if self.server.is_gone() => self.happens(Happened::ServerGone),
                    0 => false,
                    _ => self.happens(Happened::Server(sent)),
                }
            }
            Turn::Decide if self.machine.asked.is_empty() => false,
            Turn::Decide => self.happens(Happened::Decided),
            Turn::Review if self.machine.review.is_none() => false,
            Turn::Review => self.happens(Happened::Reviewed),
            Turn::Notice => self.happens(Happened::Noticed),
            Turn::KeepAlive => self.happens(Happened::KeptAlive),
            Turn::FlushServer => {
                self.server.flush();
                false
            }
        }
    }

    /// The client says more of its script, up to where it waits for answers.
    fn speak(&mut self, most: usize) {
        while self.client.len() < most {
            let Some(said) = self.script.pop_front() else { return };
            if said == Said::Wait && !self.is_quiet() {
                self.script.push_front(said);
                return;
            }
            self.client.extend(said.encode());
        }
    }

    /// Whether nothing moves any more until the client says more.
    fn is_quiet(&mut self) -> bool {
        self.client.is_empty()
            && self.wire_to_server.is_empty()
            && self.server.output().is_empty()
            && self.machine.asked.is_empty()
            && self.machine.review.is_none()
    }

    /// Everybody gets a turn; whether any did anything.
    fn settle(&mut self) -> bool {
        let all = usize::MAX;
        let turns = [
            Turn::FromServer(all),
            Turn::Decide,
            Turn::Review,
            Turn::ToServer(all),
            Turn::Client(512),
        ];
        turns.into_iter().map(|turn| self.turn(turn)).fold(false, |any, did| any | did)
    }

    /// The client has heard what it hears of PostgreSQL alone, and the log is complete.
    pub(super) fn told_what_postgresql_alone_tells(&mut self, script: &[Said]) {
        self.server.flush();
        while self.settle() {}
        let (told, server) = alone(script);
        let (expected, heard) = (view(&told), view(&self.machine.to_client));
        if self.machine.closed.is_some() && heard != expected {
            let broken = server.synced_amid_data() || server.is_gone();
            assert!(broken, "closed: {:?}\n{script:?}", self.machine.closed);
            assert!(heard.ends_with(&["E08P01 FATAL".to_owned()]), "{heard:?}");
            assert!(expected.starts_with(&heard[..heard.len() - 1]), "{script:?}");
            return;
        }
        assert_eq!(heard, expected, "\n{script:?}");
        assert_eq!(
            asynchronous(&self.machine.to_client).saturating_sub(self.machine.notices()),
            usize::try_from(self.server.asynchronous()).unwrap_or(usize::MAX),
        );
        assert!(self.script.is_empty() || server.is_gone(), "all was said: {script:?}");
        self.machine.is_at_its_end();
    }

    /// The client has heard the beginning of what it hears of PostgreSQL alone, and the log
    /// says of all that has run what the server says of it.
    pub(super) fn told_no_more_and_logged_all(&mut self, script: &[Said]) {
        let expected = view(&alone(script).0);
        let mut heard = view(&self.machine.to_client);
        if heard.last().is_some_and(|last| last.ends_with("FATAL")) {
            heard.pop();
        }
        assert!(expected.starts_with(&heard), "{heard:?}\n{expected:?}\n{script:?}");
        self.machine.completes_every_run();
        let rows = messages(&self.machine.to_client).into_iter();
        let rows = rows.filter(|message| b"Dd".contains(&message[0])).count();
        let (mut counted, mut outcomes) = (0, self.server.outcomes().iter());
        for record in &self.machine.records {
            let Record::Completion(done) = record else { continue };
            counted += done.rows;
            let told = match (done.sqlstate.as_deref(), &done.tag) {
                // What pgate says of its own: too many rows, a COPY whose data ended in the
                // middle of a message, what nobody commits.
                (Some("54000" | "57014" | "40000"), _) | (None, None) => continue,
                (Some(sqlstate), _) => sqlstate,
                (None, Some(tag)) => tag,
            };
            let known = self.server.is_gone() || outcomes.any(|outcome| outcome == told);
            assert!(known, "{done:?} of {:?}\n{script:?}", self.server.outcomes());
        }
        assert_eq!(counted, u64::try_from(rows).unwrap_or(u64::MAX), "{script:?}");
    }

    /// Where results are recorded, the log has the very rows that the client got, in order,
    /// each statement's before its completion; elsewhere it has none.
    pub(super) fn records_what_the_client_got(&self, role: Under) {
        let (mut recorded, mut begun) = (Vec::new(), Vec::new());
        for record in &self.machine.records {
            match record {
                Record::Results(results) => {
                    assert_eq!(results.cut, None, "there is room for all of them");
                    begun.push(results.statement);
                    let rows = results.sets.iter().flat_map(|set| &set.rows).flatten();
                    recorded.extend(rows.cloned());
                }
                Record::Completion(completion) => {
                    let results = begun.iter().filter(|one| **one == completion.statement).count();
                    assert_eq!(results, usize::from(role.records && completion.rows > 0));
                }
                _ => {}
            }
        }
        let rows = messages(&self.machine.to_client).into_iter();
        let rows = rows.filter(|message| b"Dd".contains(&message[0]) && role.records);
        let rows = rows.map(|message| {
            // A DataRow here has one value.
            let value = message.get(if message[0] == b'D' { HEADER + 6 } else { HEADER }..);
            Value::Text(String::from_utf8_lossy(value.unwrap_or_default()).into_owned())
        });
        assert_eq!(recorded, rows.collect::<Vec<_>>());
    }

    /// In pieces of one byte the same comes of it.
    pub(super) fn is_the_same_byte_by_byte(&self, role: Under) {
        let mut again = Machine::new(role);
        for what in &self.happened {
            match what {
                Happened::Client(bytes) => {
                    bytes.iter().for_each(|byte| again.happens(&Happened::Client(vec![*byte])))
                }
                Happened::Server(bytes) => {
                    bytes.iter().for_each(|byte| again.happens(&Happened::Server(vec![*byte])))
                }
                other => again.happens(other),
            }
        }
        let first = &self.machine;
        assert_eq!(theirs(&again.to_client), theirs(&first.to_client));
        assert_eq!(shown(again.all_sent()), shown(first.all_sent()));
        assert_eq!(again.records, first.records);
        assert_eq!(again.closed, first.closed);
    }
}

/// What a client hears, without what the server says of its own accord. Of errors only
/// their SQLSTATE: the words differ where it is pgate that refuses.
fn view(bytes: &[u8]) -> Vec<String> {
    let heard = messages(bytes).into_iter().filter(|message| !b"NSA".contains(&message[0]));
    let text = heard.map(|message| match message[0] {
        b'E' => {
            let fields = ErrorFields::parse(message).expect("an error");
            let fatal = if fields.is_fatal() { " FATAL" } else { "" };
            format!("E{}{fatal}", fields.sqlstate())
        }
        tag => {
            format!("{}{:?}", char::from(tag), String::from_utf8_lossy(&message[wire::HEADER..]))
        }
    });
    text.collect()
}

/// All that a client hears but pgate's own notices, which come between any two messages.
fn theirs(bytes: &[u8]) -> Vec<String> {
    let mut heard = shown(bytes);
    heard.retain(|message| !message.contains(NOTICE));
    heard
}

fn shown(bytes: &[u8]) -> Vec<String> {
    messages(bytes).into_iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
}

fn asynchronous(bytes: &[u8]) -> usize {
    messages(bytes).into_iter().filter(|message| b"NSA".contains(&message[0])).count()
}

fn messages(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some(header) = wire::header(bytes).expect("messages are framed right") {
        // A row may be cut where the connection ends.
        let Some((message, rest)) = bytes.split_at_checked(header.length) else { break };
        messages.push(message);
        bytes = rest;
    }
    messages
}
