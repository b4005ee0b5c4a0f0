//! What the client sends: framed, put to admission where it runs something, queued
//! as expected responses, and forwarded.

use std::sync::{Arc, OnceLock};

use bytes::{Buf as _, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use super::{
    Effect, Held, Phase, Session, Waiting,
    counting::CopyMessage,
    names::{Meaning, Portal},
    pending::{Describe, Expected, Place, Sync},
    substitute,
};
use crate::{
    journal::{Parameter, Protocol},
    proxy::{admission::StatementRequest, estimate::Bound},
    sql::Oid,
    wire::{self, BoundValue, Target, WireError},
};

/// The longest message that is held whole to be looked into, in bytes. Data of a
/// COPY isn't: it streams.
const LONGEST_HELD: usize = 80 * 1024 * 1024;
/// The capacity that an empty buffer may keep, in bytes.
const KEPT: usize = 256 * 1024;
/// The longest value that the log keeps, in bytes.
pub(super) const LONGEST_LOGGED: usize = 8 * 1024;
/// The most names of prepared statements or portals on one connection.
const MOST_NAMES: usize = 100_000;
/// The longest name of a prepared statement or portal, in bytes. PostgreSQL keeps no more
/// of one, so that longer ones which begin alike are one and the same to it.
const LONGEST_NAME: usize = 63;

/// The client's half of the machine.
#[derive(Debug)]
pub(super) struct ClientSide {
    /// Bytes that haven't been looked at, behind the message that waits, where one does.
    pub(super) input: BytesMut,
    /// The length of the message that waits for its verdict or for its names' meaning.
    pub(super) waiting: usize,
    /// Bytes of a CopyData that are still to come, and whether they are forwarded.
    streaming: Option<(usize, bool)>,
    /// Whether it has said Terminate.
    left: bool,
    /// The current part of the pipeline: what lies between two Syncs.
    pub(super) part: u64,
    /// The empty name.
    unnamed: Arc<str>,
}

impl Default for ClientSide {
    fn default() -> Self {
        Self {
            input: BytesMut::new(),
            waiting: 0,
            streaming: None,
            left: false,
            part: 1,
            unnamed: "".into(),
        }
    }
}

impl ClientSide {
    /// Bytes that haven't been looked at.
    pub(super) fn backlog(&self) -> usize {
        self.input.len() - self.waiting
    }

    /// The message that waited is looked at as if it had just come.
    pub(super) fn look_again(&mut self) {
        self.waiting = 0;
    }

    /// Whether the server has had only a part of the CopyData that is coming.
    pub(super) fn is_amid_forwarded_data(&self) -> bool {
        matches!(self.streaming, Some((_, true)))
    }

    /// Whether it has said Terminate.
    pub(super) fn has_left(&self) -> bool {
        self.left
    }

    /// Drops the message that waited.
    pub(super) fn end_wait(&mut self) {
        self.input.advance(std::mem::take(&mut self.waiting));
    }
}

impl Session {
    /// Whether the server has been told that the client leaves.
    pub fn has_taken_leave(&self) -> bool {
        self.client.left && !self.to_server.has_remaining()
    }

    /// Takes bytes from the client.
    pub fn client_bytes(&mut self, bytes: &[u8]) {
        if self.phase != Phase::Open {
            return;
        }
        self.client.input.extend_from_slice(bytes);
        self.digest_client();
    }

    /// Looks at what has come, as far as nothing is waited for.
    pub(super) fn digest_client(&mut self) {
        if self.client.input.is_empty() || !self.reads_client() {
            return;
        }
        let mut input = std::mem::take(&mut self.client.input);
        let mut rest = &input[..];
        while self.reads_client() && !rest.is_empty() {
            match self.client_step(rest) {
                Ok(0) => break,
                Ok(taken) => rest = rest.get(taken..).unwrap_or_default(),
                Err(error) => self.violation(&error.to_string()),
            }
        }
        let taken = input.len() - rest.len();
        input.advance(taken);
        if input.is_empty() && input.capacity() > KEPT {
            // What a long message took is given back.
            input = BytesMut::new();
        }
        self.client.input = input;
    }

    /// Looks at the first message, or at as much of a long one as there is; returns how many
    /// bytes are done with. A message that waits stays where it is.
    fn client_step(&mut self, bytes: &[u8]) -> Result<usize, WireError> {
        if let Some((left, forward)) = self.client.streaming {
            let data = bytes.get(..left).unwrap_or(bytes);
            if forward {
                self.to_server.put().extend_from_slice(data);
            }
            let left = left - data.len();
            self.client.streaming = (left > 0).then_some((left, forward));
            return Ok(data.len());
        }
        let Some(header) = wire::header(bytes)? else { return Ok(0) };
        if matches!(self.waiting, Waiting::Count(_)) {
            match Self::copy_message(header.tag) {
                Some(CopyMessage::Forward) => {}
                Some(CopyMessage::Ignore) if bytes.len() >= header.length => {
                    return Ok(header.length);
                }
                Some(CopyMessage::Ignore) => return Ok(0),
                None => {
                    self.violation("a request amid the data of a COPY");
                    return Ok(0);
                }
            }
        }
        if header.tag == b'd' {
            self.release();
            // The server ignores data of a COPY that isn't on, or has failed.
            self.client.streaming = Some((header.length, !self.pending.is_skipping()));
            self.pending.copy_data();
            return self.client_step(bytes);
        }
        if header.length > LONGEST_HELD {
            self.violation(&format!(
                "a message of {} bytes is longer than the {LONGEST_HELD} that pgate takes",
                header.length
            ));
            return Ok(0);
        }
        let Some(message) = bytes.get(..header.length) else { return Ok(0) };
        self.client_message(header.tag, message)?;
        if let Waiting::Decision { .. } | Waiting::Settlement = self.waiting {
            self.client.waiting = header.length;
            return Ok(0);
        }
        Ok(header.length)
    }

    /// Handles one whole message.
    fn client_message(&mut self, tag: u8, message: &[u8]) -> Result<(), WireError> {
        let skipped = self.pending.is_skipping() && !matches!(tag, b'S' | b'X');
        if !matches!(tag, b'B' | b'D' | b'E') {
            self.release();
        }
        match tag {
            b'Q' | b'P' | b'B' | b'E' | b'D' | b'C' | b'H' | b'F' | b'c' | b'f' if skipped => {}
            b'Q' => {
                let sql: Arc<str> = wire::parse_query(message)?.into();
                self.ask(Protocol::Simple, sql, None, Held::Query, Vec::new());
            }
            b'P' => {
                let parse = wire::parse_parse(message)?;
                if self.refuses_name([parse.name]) {
                    return Ok(());
                }
                let (name, sql): (Arc<str>, Arc<str>) = (parse.name.into(), parse.sql.into());
                self.check_names();
                let types = parse.type_oids().map(Oid).collect();
                let held = Held::Parse { name, sql: Arc::clone(&sql) };
                self.ask(Protocol::Parse, sql, None, held, types);
            }
            b'B' => self.bind(message)?,
            b'E' => self.execute(message)?,
            b'D' => {
                let target = wire::parse_target(message)?;
                if self.refuses_name([target.name()]) {
                    return Ok(());
                }
                let stage = match target {
                    Target::Statement(_) => Describe::Parameters,
                    Target::Portal(name) => {
                        if self.defer_describe(name, message, Expected::Describe(Describe::Row)) {
                            return Ok(());
                        }
                        Describe::Row
                    }
                };
                self.release();
                self.forward(message, Expected::Describe(stage));
            }
            b'C' => {
                let part = self.client.part;
                let target = wire::parse_target(message)?;
                if self.refuses_name([target.name()]) {
                    return Ok(());
                }
                let expected = match target {
                    Target::Statement(name) => {
                        let name: Arc<str> = name.into();
                        self.statements.request(Arc::clone(&name), part, None);
                        Expected::CloseStatement(name)
                    }
                    Target::Portal(name) => {
                        let name: Arc<str> = name.into();
                        self.portals.request(Arc::clone(&name), part, None);
                        Expected::ClosePortal(name)
                    }
                };
                self.forward(message, expected);
            }
            b'S' => self.sync(message)?,
            b'H' => {
                wire::Fields::of_message(message, "Flush")?.end()?;
                self.to_server.put().extend_from_slice(message);
            }
            b'F' => {
                let oid = wire::parse_function_oid(message)?;
                let sql = format!("function call by OID {oid}").into();
                self.ask(Protocol::Function, sql, None, Held::Function, Vec::new());
            }
            b'c' => {
                wire::Fields::of_message(message, "CopyDone")?.end()?;
                self.end_copy(message);
            }
            b'f' => {
                let mut fields = wire::Fields::of_message(message, "CopyFail")?;
                fields.cstring()?;
                fields.end()?;
                self.end_copy(message);
            }
            b'X' => {
                wire::Fields::of_message(message, "Terminate")?.end()?;
                self.to_server.put().extend_from_slice(message);
                self.phase = Phase::Leaving;
                self.client.left = true;
            }
            other => {
                let what =
                    format!("pgate doesn't know message type 0x{other:02x} and carries none of it");
                self.violation(&what);
            }
        }
        Ok(())
    }

    fn forward(&mut self, message: &[u8], expected: Expected) {
        self.to_server.put().extend_from_slice(message);
        self.pending.push(expected);
    }

    fn sync(&mut self, message: &[u8]) -> Result<(), WireError> {
        wire::Fields::of_message(message, "Sync")?.end()?;
        match self.pending.push_sync(self.client.part) {
            Ok(Sync::Awaited) => self.client.part += 1,
            Ok(Sync::Ignored) => {}
            Err(()) => return Err(WireError::Unexpected("CopyData or CopyDone")),
        }
        self.to_server.put().extend_from_slice(message);
        Ok(())
    }

    fn bind(&mut self, message: &[u8]) -> Result<(), WireError> {
        let bind = wire::parse_bind(message)?;
        let part = self.client.part;
        if self.refuses_name([bind.statement, bind.portal]) {
            return Ok(());
        }
        match self.statements.meaning(bind.statement, part) {
            Meaning::Unsettled => self.await_settlement()?,
            Meaning::Unknown => {
                let refusal = substitute::own(
                    "26000",
                    format!("prepared statement \"{}\" does not exist", bind.statement),
                    "pgate binds statements that came in a Parse message; run those of an SQL \
                     PREPARE with EXECUTE.",
                );
                self.release();
                substitute::bind(&self.config.substitute, self.to_server.put());
                self.refused(refusal, Place::Extended, false);
            }
            Meaning::Known(prepared) => {
                let parameters = bind.values.iter().map(logged).collect();
                let waits = prepared.permit.may_wait();
                let bind_message =
                    prepared.permit.decided_when_run().then(|| Bytes::copy_from_slice(message));
                let name = self.named(bind.portal);
                let binary = bind.binary_results;
                let (bind, approved) = (bind_message, OnceLock::new());
                let portal = Arc::new(Portal { prepared, parameters, bind, binary, approved });
                self.check_names();
                self.portals.request(Arc::clone(&name), part, Some(Arc::clone(&portal)));
                let expected = Expected::Bind { name: Arc::clone(&name), portal };
                if waits {
                    self.defer_bind(name, message, expected);
                } else {
                    self.release();
                    self.forward(message, expected);
                }
            }
        }
        Ok(())
    }

    /// Refuses a message that gives or uses a name of which PostgreSQL would keep a part.
    fn refuses_name<const N: usize>(&mut self, names: [&str; N]) -> bool {
        if names.iter().all(|name| name.len() <= LONGEST_NAME) {
            return false;
        }
        let refusal = substitute::own(
            "42622",
            format!(
                "pgate carries names of prepared statements and portals of at most {LONGEST_NAME} \
                 bytes"
            ),
            "PostgreSQL would cut it short; use a shorter one.",
        );
        self.release();
        substitute::bind(&self.config.substitute, self.to_server.put());
        self.refused(refusal, Place::Extended, false);
        true
    }

    /// A name to keep: most portals have the empty one.
    fn named(&self, name: &str) -> Arc<str> {
        if name.is_empty() { Arc::clone(&self.client.unnamed) } else { name.into() }
    }

    /// Waits until the end of an earlier part. In a COPY that end won't come before the
    /// client's own: the server has ignored the Sync.
    fn await_settlement(&mut self) -> Result<(), WireError> {
        if self.pending.is_copying_in() {
            return Err(WireError::Unexpected("CopyData or CopyDone"));
        }
        self.waiting = Waiting::Settlement;
        Ok(())
    }

    fn execute(&mut self, message: &[u8]) -> Result<(), WireError> {
        let execute = wire::parse_execute(message)?;
        if self.refuses_name([execute.portal]) {
            return Ok(());
        }
        if !self.deferred.leads_to(execute.portal) {
            self.release();
        }
        match self.portals.meaning(execute.portal, self.client.part) {
            Meaning::Unsettled => self.await_settlement()?,
            Meaning::Unknown => {
                let refusal = substitute::own(
                    "34000",
                    format!("portal \"{}\" does not exist", execute.portal),
                    "pgate executes portals that came from a Bind message; read an SQL cursor \
                     with FETCH.",
                );
                substitute::execute(&self.config.substitute, self.to_server.put());
                self.refused(refusal, Place::Extended, false);
            }
            Meaning::Known(portal) => {
                let sql = Arc::clone(&portal.prepared.sql);
                let name = self.named(execute.portal);
                let held = Held::Execute { name, portal: Arc::clone(&portal) };
                self.ask(Protocol::Execute, sql, Some(&portal), held, Vec::new());
            }
        }
        Ok(())
    }

    fn ask(
        &mut self,
        protocol: Protocol,
        sql: Arc<str>,
        portal: Option<&Portal>,
        held: Held,
        types: Vec<Oid>,
    ) {
        let id = self.next_decision;
        self.next_decision += 1;
        self.waiting = Waiting::Decision { id, held };
        let request = StatementRequest {
            connection: self.config.connection,
            protocol,
            sql,
            parameters: portal.map_or_else(|| Arc::from([]), |p| Arc::clone(&p.parameters)),
            earlier: portal.map(|portal| Arc::clone(&portal.prepared.permit)),
            begun: portal.and_then(|portal| portal.approved.get().cloned()),
            bound: portal.and_then(|portal| {
                let (types, bind) = (portal.prepared.types.clone(), portal.bind.clone()?);
                Some(Box::new(Bound { types, bind }))
            }),
            types,
        };
        self.effects.push_back(Effect::Decide { id, request });
    }

    fn end_copy(&mut self, message: &[u8]) {
        self.to_server.put().extend_from_slice(message);
        self.pending.push_copy_end();
        if let Waiting::Count(_) = self.waiting {
            // The server has read the Flush behind the Execute as COPY's, and ignored it.
            wire::flush(self.to_server.put());
        }
    }

    fn check_names(&mut self) {
        let most = self.statements.len().max(self.portals.len()).max(self.parts.len());
        if most > MOST_NAMES {
            self.violation("more prepared statements are open than pgate keeps track of");
        }
    }
}

/// A bound value as the log keeps it.
fn logged(bound: &BoundValue<'_>) -> Parameter {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let Some(value) = bound.value else { return Parameter::Null };
    if value.len() > LONGEST_LOGGED {
        return Parameter::Cut {
            bytes: u64::try_from(value.len()).unwrap_or(u64::MAX),
            sha256: sha256(value),
        };
    }
    match std::str::from_utf8(value) {
        Ok(text) if !bound.binary => Parameter::Text(text.to_owned()),
        _ => Parameter::Binary(STANDARD.encode(value)),
    }
}

/// What the log keeps of a value that is too long for it, besides its length: in hexadecimal.
pub(super) fn sha256(value: &[u8]) -> String {
    Sha256::digest(value).iter().map(|byte| format!("{byte:02x}")).collect()
}
