//! PostgreSQL's side of the protocol, as far as the machine can see it: what answers
//! which message in which state (`tcop/postgres.c`, `commands/copyfromparse.c`).
//!
//! It runs the few statements of [`Statement`]. What it refuses to be is a database.

use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut as _, BytesMut};

use super::statement::Statement;
use crate::wire::{self, ErrorFields, Target, TransactionStatus};

/// An error to be reported: its SQLSTATE.
type Failure = &'static str;

/// Rows between two notices of the server's own accord.
const NOTICE_EVERY: u32 = 7;

/// Whether the statements that policy refuses may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stands {
    /// Behind the machine: a statement that is refused must never come.
    Behind,
    /// Alone: what is refused is an error here.
    Alone,
}

/// Where a COPY from the client was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CopyIn {
    No,
    Simple,
    Extended,
}

#[derive(Debug)]
struct Portal {
    statement: Statement,
    rows_sent: u32,
    done: bool,
}

/// The server.
#[derive(Debug)]
pub(super) struct Server {
    stands: Stands,
    input: Vec<u8>,
    /// What hasn't been flushed.
    held: Vec<u8>,
    output: VecDeque<u8>,
    status: TransactionStatus,
    ignores_to_sync: bool,
    statements: BTreeMap<String, Statement>,
    portals: BTreeMap<String, Portal>,
    copy: CopyIn,
    /// What the COPY has been sent.
    copied: u32,
    /// Whether a Sync has come amid the data of a COPY.
    synced_amid_data: bool,
    messages: u32,
    asynchronous: u32,
    /// What became of statements: command tags and SQLSTATEs.
    outcomes: Vec<String>,
    gone: bool,
}

impl Server {
    pub(super) fn new(stands: Stands) -> Self {
        Self {
            stands,
            input: Vec::new(),
            held: Vec::new(),
            output: VecDeque::new(),
            status: TransactionStatus::Idle,
            ignores_to_sync: false,
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            copy: CopyIn::No,
            copied: 0,
            synced_amid_data: false,
            messages: 0,
            asynchronous: 0,
            outcomes: Vec::new(),
            gone: false,
        }
    }

    /// What has been flushed.
    pub(super) fn output(&mut self) -> &mut VecDeque<u8> {
        &mut self.output
    }

    /// The command tags and SQLSTATEs that it has told.
    pub(super) fn outcomes(&self) -> &[String] {
        &self.outcomes
    }

    /// Whether it has closed the connection.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether a Sync has come amid the data of a COPY, where the machine may end the
    /// connection: only the server knows whether it is heeded.
    pub(super) fn synced_amid_data(&self) -> bool {
        self.synced_amid_data
    }

    /// How many messages it has sent of its own accord.
    pub(super) fn asynchronous(&self) -> u32 {
        self.asynchronous
    }

    /// Sends what is held; a full buffer does that at any time.
    pub(super) fn flush(&mut self) {
        self.output.extend(self.held.drain(..));
    }

    /// Takes bytes, and answers what has become whole.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while !self.gone
            && let Some(header) = wire::header(&self.input).expect("the machine frames right")
            && header.length <= self.input.len()
        {
            let rest = self.input.split_off(header.length);
            let message = std::mem::replace(&mut self.input, rest);
            self.message(header.tag, &message);
        }
    }

    fn put(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let mut out = BytesMut::new();
        write(&mut out);
        self.held.extend_from_slice(&out);
        self.messages += 1;
        if self.messages.is_multiple_of(NOTICE_EVERY) {
            self.asynchronous += 1;
            let mut out = BytesMut::new();
            match self.messages % 3 {
                0 => ErrorFields::new("NOTICE", "00000", "by the way").notice_response(&mut out),
                1 => wire::parameter_status("application_name", "other", &mut out),
                _ => framed(b'A', b"\0\0\0\x07channel\0payload\0", &mut out),
            }
            self.held.extend_from_slice(&out);
        }
    }

    fn say(&mut self, tag: u8, body: &[u8]) {
        self.put(|out| framed(tag, body, out));
    }

    fn message(&mut self, tag: u8, message: &[u8]) {
        if self.copy != CopyIn::No {
            return self.copy_message(tag, message);
        }
        if tag == b'S' {
            return self.sync();
        }
        if tag == b'X' {
            self.gone = true;
            return;
        }
        if self.ignores_to_sync {
            return;
        }
        let extended = !matches!(tag, b'Q' | b'F');
        let answered = match tag {
            b'Q' => self.query(wire::parse_query(message).expect("a Query")),
            b'F' => Err("42501"),
            b'P' => {
                let parse = wire::parse_parse(message).expect("a Parse");
                self.parse(parse.name, parse.sql)
            }
            b'B' => {
                let bind = wire::parse_bind(message).expect("a Bind");
                self.bind(bind.portal, bind.statement)
            }
            b'D' => self.describe(wire::parse_target(message).expect("a Describe")),
            b'E' => {
                let execute = wire::parse_execute(message).expect("an Execute");
                self.execute(execute.portal, execute.rows)
            }
            b'C' => {
                match wire::parse_target(message).expect("a Close") {
                    Target::Statement(name) => drop(self.statements.remove(name)),
                    Target::Portal(name) => drop(self.portals.remove(name)),
                }
                self.say(b'3', b"");
                Ok(())
            }
            b'H' => {
                self.flush();
                Ok(())
            }
            b'd' | b'c' | b'f' => return,
            other => panic!("a message of type {} came to the server", char::from(other)),
        };
        if let Err(failure) = answered {
            self.fail(failure);
            self.ignores_to_sync = extended;
        }
        if !extended && self.copy == CopyIn::No {
            self.ready();
        }
    }

    fn fail(&mut self, sqlstate: Failure) {
        self.outcomes.push(sqlstate.to_owned());
        self.put(|out| ErrorFields::new("ERROR", sqlstate, "no").error_response(out));
        self.flush();
        match self.status {
            TransactionStatus::Idle => self.portals.clear(),
            TransactionStatus::Open | TransactionStatus::Failed => {
                self.status = TransactionStatus::Failed;
            }
        }
    }

    fn ready(&mut self) {
        if self.status == TransactionStatus::Idle {
            self.portals.clear();
        }
        let status = self.status;
        self.put(|out| wire::ready_for_query(status, out));
        self.flush();
    }

    fn sync(&mut self) {
        self.ignores_to_sync = false;
        self.ready();
    }

    fn has_failed(&self) -> bool {
        self.status == TransactionStatus::Failed
    }

    /// What a text is to this server: a statement, or an error.
    fn read(&self, sql: &str) -> Result<Statement, Failure> {
        match Statement::read(sql) {
            Some(statement) if statement.is_refused() => match self.stands {
                Stands::Behind => panic!("a refused statement has reached the server: {sql}"),
                Stands::Alone => Err("42501"),
            },
            Some(Statement::Broken) | None => Err("42601"),
            Some(statement) => Ok(statement),
        }
    }

    fn query(&mut self, sql: &str) -> Result<(), Failure> {
        self.statements.remove("");
        let statement = self.read(sql)?;
        if statement == Statement::Empty {
            self.say(b'I', b"");
            return Ok(());
        }
        self.runnable(statement)?;
        self.portals.remove("");
        if let Some(columns) = statement.columns() {
            self.row_description(columns);
        }
        let mut portal = Portal { statement, rows_sent: 0, done: false };
        let ended = self.run(&mut portal, 0)?;
        if ended == Ended::CopyIn {
            self.copy = CopyIn::Simple;
        }
        Ok(())
    }

    /// Whether it may run in this state of the transaction.
    fn runnable(&self, statement: Statement) -> Result<(), Failure> {
        if self.has_failed() && !statement.ends_transaction() { Err("25P02") } else { Ok(()) }
    }

    fn parse(&mut self, name: &str, sql: &str) -> Result<(), Failure> {
        if name.is_empty() {
            self.statements.remove("");
        }
        let statement = self.read(sql)?;
        if statement != Statement::Empty {
            self.runnable(statement)?;
        }
        if self.statements.contains_key(name) {
            return Err("42P05");
        }
        self.statements.insert(name.to_owned(), statement);
        self.say(b'1', b"");
        Ok(())
    }

    fn bind(&mut self, portal: &str, statement: &str) -> Result<(), Failure> {
        let statement = *self.statements.get(statement).ok_or("26000")?;
        self.runnable(statement)?;
        if !portal.is_empty() && self.portals.contains_key(portal) {
            return Err("42P03");
        }
        let bound = Portal { statement, rows_sent: 0, done: false };
        self.portals.insert(portal.to_owned(), bound);
        self.say(b'2', b"");
        Ok(())
    }

    fn describe(&mut self, target: Target<'_>) -> Result<(), Failure> {
        let (statement, parameters) = match target {
            Target::Statement(name) => (*self.statements.get(name).ok_or("26000")?, true),
            Target::Portal(name) => (self.portals.get(name).ok_or("34000")?.statement, false),
        };
        let columns = statement.columns();
        if self.has_failed() && columns.is_some() {
            return Err("25P02");
        }
        if parameters {
            self.say(b't', &[0, 0]);
        }
        match columns {
            Some(columns) => self.row_description(columns),
            None => self.say(b'n', b""),
        }
        Ok(())
    }

    fn execute(&mut self, name: &str, most: i32) -> Result<(), Failure> {
        let mut portal = self.portals.remove(name).ok_or("34000")?;
        if portal.statement == Statement::Empty {
            self.portals.insert(name.to_owned(), portal);
            self.say(b'I', b"");
            return Ok(());
        }
        if let Err(failure) = self.runnable(portal.statement) {
            self.portals.insert(name.to_owned(), portal);
            return Err(failure);
        }
        if portal.done && portal.statement.columns().is_none() {
            return Err("55000");
        }
        let ended = self.run(&mut portal, u32::try_from(most).unwrap_or(0))?;
        if ended == Ended::CopyIn {
            self.copy = CopyIn::Extended;
        }
        // The end of a transaction takes its portals with it, this one included.
        if !portal.statement.ends_transaction() {
            self.portals.insert(name.to_owned(), portal);
        }
        Ok(())
    }

    fn run(&mut self, portal: &mut Portal, most: u32) -> Result<Ended, Failure> {
        let statement = portal.statement;
        let mut rows = 0;
        if let Statement::Rows(total) | Statement::Fails(total) | Statement::Rewritten(total) =
            statement
        {
            while portal.rows_sent < total && (most == 0 || rows < most) {
                let value = portal.rows_sent.to_string().repeat(1 + rows as usize % 40);
                self.row(value.as_bytes());
                (portal.rows_sent, rows) = (portal.rows_sent + 1, rows + 1);
            }
            if most > 0 && rows == most {
                self.say(b's', b"");
                return Ok(Ended::Suspended);
            }
        }
        portal.done = true;
        match statement {
            Statement::Fails(_) | Statement::Overwrites => return Err(statement.failure()),
            Statement::CopyIn => {
                self.say(b'G', &[0, 0, 0]);
                self.flush();
                self.copied = 0;
                return Ok(Ended::CopyIn);
            }
            Statement::CopyOut => {
                self.say(b'H', &[0, 0, 0]);
                for at in 0_u8..3 {
                    self.say(b'd', &[b'0' + at, b'\n']);
                }
                self.say(b'c', b"");
                self.complete("COPY 3");
            }
            Statement::Begin => {
                self.status = TransactionStatus::Open;
                self.complete("BEGIN");
            }
            Statement::Commit | Statement::Rollback => {
                let committed = statement == Statement::Commit && !self.has_failed();
                self.status = TransactionStatus::Idle;
                self.portals.clear();
                self.complete(if committed { "COMMIT" } else { "ROLLBACK" });
            }
            Statement::Rows(_) | Statement::Rewritten(_) => {
                self.complete(&format!("SELECT {rows}"));
            }
            Statement::Writes(rows) => self.complete(&format!("UPDATE {rows}")),
            Statement::Held { .. } => self.complete("DELETE 1"),
            Statement::Empty | Statement::Broken | Statement::Denied => {
                unreachable!("never gets to run")
            }
        }
        Ok(Ended::Done)
    }

    fn copy_message(&mut self, tag: u8, message: &[u8]) {
        match tag {
            b'd' if message.ends_with(b"bad\n") => self.end_copy(Err("22P02")),
            b'd' => self.copied += 1,
            b'c' => self.end_copy(Ok(())),
            b'f' => self.end_copy(Err("57014")),
            b'S' if self.copied > 0 => self.synced_amid_data = true,
            b'S' | b'H' => {}
            _ => {
                // As from version 14 on: it no longer knows where the next message begins.
                self.put(|out| ErrorFields::new("ERROR", "08P01", "amid COPY").error_response(out));
                self.put(|out| ErrorFields::new("FATAL", "08P01", "lost").error_response(out));
                self.flush();
                self.gone = true;
            }
        }
    }

    fn end_copy(&mut self, how: Result<(), Failure>) {
        let copy = std::mem::replace(&mut self.copy, CopyIn::No);
        match how {
            Ok(()) => self.complete(&format!("COPY {}", self.copied)),
            Err(failure) => {
                self.fail(failure);
                self.ignores_to_sync = copy != CopyIn::Simple;
            }
        }
        if copy == CopyIn::Simple {
            self.ready();
        }
    }

    fn complete(&mut self, tag: &str) {
        self.outcomes.push(tag.to_owned());
        self.say(b'C', format!("{tag}\0").as_bytes());
    }

    fn row(&mut self, value: &[u8]) {
        let mut body = BytesMut::new();
        body.put_u16(1);
        body.put_u32(u32::try_from(value.len()).expect("a short value"));
        body.put_slice(value);
        self.say(b'D', &body);
    }

    fn row_description(&mut self, columns: u16) {
        let mut body = BytesMut::new();
        body.put_u16(columns);
        for _ in 0..columns {
            body.put_slice(b"c\0");
            body.put_slice(&[0; 18]);
        }
        self.say(b'T', &body);
    }
}

/// How the run of a portal came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Done,
    Suspended,
    CopyIn,
}

pub(super) fn framed(tag: u8, body: &[u8], out: &mut BytesMut) {
    out.put_u8(tag);
    out.put_u32(u32::try_from(body.len() + 4).expect("a short message"));
    out.put_slice(body);
}
