//! What the server sends: matched with what was asked, counted, cleaned where it
//! could give away a masked value, and forwarded.

use std::time::Duration;

use bytes::BytesMut;

use super::{
    Phase, Session, detection, hygiene,
    hygiene::Sight,
    pending::{Copy, Describe, Expected, Place, Run},
    substitute,
};
use crate::{
    journal::{EndReason, Record},
    proxy::admission::Permit,
    sql::{AttributeNumber, Oid},
    wire::{self, ErrorFields, HEADER, Header, WireError, field},
};

/// The longest message of the server that is held whole, in bytes. Rows aren't: they
/// stream.
const LONGEST_HELD: usize = 16 * 1024 * 1024;

/// The server's half of the machine.
#[derive(Debug, Default)]
pub(super) struct ServerSide {
    /// The beginning of a message that isn't whole yet.
    partial: BytesMut,
    /// The row that is on its way.
    pub(super) streaming: Option<Streaming>,
    /// Responses are withheld up to the next ReadyForQuery: the client has been told
    /// that the statement failed.
    pub(super) withholding: bool,
    /// The FATAL error that the server has ended the connection with.
    last_words: Option<String>,
    /// When its last bytes came, since the connection's start.
    heard: Duration,
}

/// A row of which bytes are still to come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streaming {
    /// Bytes of all of it.
    pub(super) length: usize,
    /// Bytes that are still to come.
    pub(super) left: usize,
    /// Whether the client gets them.
    pub(super) forward: bool,
}

impl ServerSide {
    /// Whether the stream to the client is between two messages.
    pub(super) fn is_between_messages(&self) -> bool {
        !matches!(self.streaming, Some(Streaming { forward: true, .. }))
    }

    /// Whether the row that has just been counted is to be forwarded; it is whole.
    pub(super) fn row_forwarded(&mut self) -> bool {
        matches!(self.streaming.take(), Some(Streaming { forward: true, .. }))
    }

    /// The SQLSTATE that the server has ended the connection with.
    pub(super) fn last_words(&self) -> Option<String> {
        self.last_words.clone()
    }
}

fn is_row(tag: u8) -> bool {
    matches!(tag, b'D' | b'd')
}

impl Session {
    /// Takes bytes from the server. `now` is the time since the connection's start.
    pub fn server_bytes(&mut self, bytes: &[u8], now: Duration) {
        self.server.heard = now;
        let mut bytes = bytes;
        while !bytes.is_empty() && self.phase != Phase::Closed {
            let step = match self.phase {
                Phase::Concluding => self.step_for_the_log(&mut bytes, now),
                _ => self.server_step(&mut bytes, now),
            };
            if let Err(error) = step {
                self.violation(&format!("the database broke the protocol: {error}"));
                // What it says can't be told apart any more.
                self.phase = Phase::Closed;
            }
            if self.client_waits() {
                // Not only at the end of what has come: what the client has sent is then
                // looked at after the same answers, however they are cut.
                self.after_server();
            }
        }
        if self.phase != Phase::Closed {
            self.after_server();
        }
    }

    /// The same where the client gets none of it.
    fn step_for_the_log(&mut self, bytes: &mut &[u8], now: Duration) -> Result<(), WireError> {
        let to_client = std::mem::take(&mut self.to_client);
        let step = self.server_step(bytes, now);
        self.to_client = to_client;
        step
    }

    /// Whether rows are kept from the client.
    fn withholds(&self) -> bool {
        self.server.withholding || self.phase == Phase::Concluding
    }

    /// Takes one message, or what there is of it, off the front of `bytes`.
    fn server_step(&mut self, bytes: &mut &[u8], now: Duration) -> Result<(), WireError> {
        if let Some(streaming) = self.server.streaming {
            let (data, rest) = bytes.split_at(streaming.left.min(bytes.len()));
            *bytes = rest;
            self.stream(streaming, data);
            return Ok(());
        }
        if self.server.partial.is_empty() {
            return match wire::header(bytes)? {
                Some(header) if is_row(header.tag) && !self.looks_into_rows(header) => {
                    let whole = self.whole_rows(header.tag, bytes)?;
                    let (rows, rest) = bytes.split_at(whole);
                    *bytes = rest;
                    if rows.is_empty() {
                        return self.row(header);
                    }
                    self.to_client.extend_from_slice(rows);
                    Ok(())
                }
                Some(header) if header.length <= bytes.len() => {
                    let (message, rest) = bytes.split_at(header.length);
                    *bytes = rest;
                    self.server_message(header.tag, message, now)
                }
                header => {
                    self.check_length(header)?;
                    self.server.partial.extend_from_slice(bytes);
                    *bytes = &[];
                    Ok(())
                }
            };
        }
        let header = wire::header(&self.server.partial)?;
        let wanted = header.map_or(HEADER, |header| header.length);
        let missing = wanted.saturating_sub(self.server.partial.len());
        let (more, rest) = bytes.split_at(missing.min(bytes.len()));
        self.server.partial.extend_from_slice(more);
        *bytes = rest;
        let Some(header) = wire::header(&self.server.partial)? else { return Ok(()) };
        if is_row(header.tag) && !self.looks_into_rows(header) {
            self.row(header)?;
            let head = self.server.partial.split();
            if let Some(streaming) = self.server.streaming {
                self.stream(streaming, &head);
            }
        } else if self.server.partial.len() == header.length {
            let message = self.server.partial.split();
            self.server_message(header.tag, &message, now)?;
        } else {
            self.check_length(Some(header))?;
        }
        Ok(())
    }

    /// Refuses to hold a message that is too long for it.
    fn check_length(&mut self, header: Option<Header>) -> Result<(), WireError> {
        match header {
            Some(Header { tag, length }) if length > LONGEST_HELD && is_row(tag) => {
                self.end(
                    "54000",
                    &format!("a row of {length} bytes is too long to be looked through (detect)"),
                );
                Ok(())
            }
            Some(header) if header.length > LONGEST_HELD => Err(WireError::Length {
                length: u32::try_from(header.length).unwrap_or(u32::MAX),
                limit: LONGEST_HELD,
            }),
            _ => Ok(()),
        }
    }

    fn stream(&mut self, streaming: Streaming, data: &[u8]) {
        if streaming.forward {
            self.to_client.extend_from_slice(data);
        }
        let left = streaming.left.saturating_sub(data.len());
        self.server.streaming = (left > 0).then_some(Streaming { left, ..streaming });
    }

    /// Counts the whole rows at the front of `bytes` that may go out as they are, and
    /// returns their length: large results are forwarded in ranges, not row by row.
    fn whole_rows(&mut self, tag: u8, bytes: &[u8]) -> Result<usize, WireError> {
        let (parts, withholds) = (&self.parts, self.withholds());
        let Some(run) = self.pending.run() else { return Err(WireError::OutOfPlace(tag)) };
        if withholds || (run.copy == Copy::Out) != (tag == b'd') {
            return Ok(0);
        }
        parts.begin(run);
        let (mut whole, mut rows) = (0, 0);
        while let Some(header) = wire::header(&bytes[whole..])?
            && header.tag == tag
            && header.length <= bytes.len() - whole
            && run.left.has_room_for(header.length)
        {
            run.left.take(header.length);
            whole += header.length;
            rows += 1;
        }
        run.rows += rows;
        run.bytes += u64::try_from(whole).unwrap_or(u64::MAX);
        Ok(whole)
    }

    /// A row begins: it is counted, and streamed as far as the limit allows.
    pub(super) fn row(&mut self, header: Header) -> Result<(), WireError> {
        let parts = &self.parts;
        let run = self.pending.run().ok_or(WireError::OutOfPlace(header.tag))?;
        let in_copy = run.copy == Copy::Out;
        if in_copy != (header.tag == b'd') {
            return Err(WireError::OutOfPlace(header.tag));
        }
        let (length, left) = (header.length, header.length);
        if self.phase == Phase::Concluding {
            self.server.streaming = Some(Streaming { length, left, forward: false });
            return Ok(());
        }
        parts.begin(run);
        let was_over = run.left.over().is_some();
        let forward = run.left.take(header.length);
        if !forward && !was_over {
            self.pending.set_over_limit();
            self.cancel();
        }
        let forward = forward && !self.server.withholding;
        if forward && let Some(run) = self.pending.run() {
            run.rows += 1;
            run.bytes += u64::try_from(header.length).unwrap_or(u64::MAX);
        }
        self.server.streaming = Some(Streaming { length, left, forward });
        Ok(())
    }

    /// When the server was last heard.
    pub(super) fn server_heard(&self) -> Duration {
        self.server.heard
    }

    pub(super) fn pass(&mut self, message: &[u8]) {
        if !self.server.withholding {
            self.to_client.extend_from_slice(message);
        }
    }

    fn server_message(&mut self, tag: u8, message: &[u8], now: Duration) -> Result<(), WireError> {
        match tag {
            b'N' => {
                let mut fields = ErrorFields::parse(message)?;
                hygiene::clean_notice(&mut fields, self.sight());
                fields.notice_response(&mut self.to_client);
            }
            b'A' => self.notification(message)?,
            b'S' => self.setting(message)?,
            b'E' => self.error(ErrorFields::parse(message)?, now),
            b'Z' => self.ready(message, now)?,
            b'D' | b'd' => self.whole_row(message, Header { tag, length: message.len() })?,
            _ => self.answer(tag, message, now)?,
        }
        Ok(())
    }

    /// Somebody has notified a channel that this connection listens on. What they send
    /// with it could be anything that they see: a role with masks learns that it came.
    fn notification(&mut self, message: &[u8]) -> Result<(), WireError> {
        let mut found = wire::parse_notification(message)?;
        let shown = !self.config.masks && self.phase != Phase::Concluding;
        self.record(Record::Notification {
            connection: self.config.connection,
            channel: found.channel.to_owned(),
            process: found.process,
            bytes: u64::try_from(found.payload.len()).unwrap_or(u64::MAX),
            shown,
        });
        if !shown {
            found.payload = b"";
        }
        wire::notification(found, &mut self.to_client);
        Ok(())
    }

    /// A setting changed, as the server reports it.
    fn setting(&mut self, message: &[u8]) -> Result<(), WireError> {
        let (name, value) = wire::parse_parameter_status(message)?;
        let wanted = match name {
            // By the one other name that PostgreSQL keeps for it.
            "client_encoding" if value == "UNICODE" => None,
            "client_encoding" => Some("UTF8"),
            "standard_conforming_strings" => Some("on"),
            _ => None,
        };
        self.record(Record::Setting {
            connection: self.config.connection,
            name: name.to_owned(),
            value: value.to_owned(),
        });
        match wanted {
            Some(wanted) if wanted != value => {
                let detail = format!("{name} became {value}; pgate reads SQL with {wanted} only");
                self.alert(EndReason::Failed, "22023", detail);
            }
            _ => self.to_client.extend_from_slice(message),
        }
        Ok(())
    }

    /// The answers that belong to a request at the front of the queue.
    fn answer(&mut self, tag: u8, message: &[u8], now: Duration) -> Result<(), WireError> {
        match (tag, self.pending.front()) {
            (_, Some(Expected::Refused { .. })) => {
                let detail =
                    "the database accepted a substitute for a refused statement".to_owned();
                self.alert(EndReason::Failed, "XX000", detail);
                return Ok(());
            }
            (b'1', Some(Expected::Parse { .. })) => {
                if let Some(Expected::Parse { name, prepared }) = self.pending.pop() {
                    self.statements.settle(name, prepared);
                }
            }
            (b'2', Some(Expected::Bind { .. })) => {
                if let Some(Expected::Bind { name, portal }) = self.pending.pop() {
                    self.parts.forget(&name);
                    self.portals.settle(name, portal);
                }
            }
            (b'1', Some(Expected::OwnParse(_))) => {
                self.pending.pop();
                self.statements.drop_name("");
                return Ok(());
            }
            (b'2', Some(Expected::OwnBind(_))) => {
                self.pending.pop();
                self.portals.drop_name("");
                self.parts.forget("");
                return Ok(());
            }
            (b'n', Some(Expected::QueryDescribe)) | (b'3', Some(Expected::OwnClose)) => {
                self.pending.pop();
                return Ok(());
            }
            (b'T', Some(Expected::QueryDescribe)) => {
                self.pending.pop();
                if self.trips(message)? {
                    return Ok(());
                }
                self.note_columns(message)?;
            }
            (b'3', Some(Expected::CloseStatement(_) | Expected::ClosePortal(_))) => {
                match self.pending.pop() {
                    Some(Expected::CloseStatement(name)) => self.statements.drop_name(&name),
                    Some(Expected::ClosePortal(name)) => self.portals.drop_name(&name),
                    _ => {}
                }
            }
            (b't', Some(Expected::Describe(stage @ Describe::Parameters))) => {
                *stage = Describe::Row
            }
            (b't', Some(Expected::OwnDescribe(stage @ Describe::Parameters, _))) => {
                *stage = Describe::Row;
                return Ok(());
            }
            (b'n' | b'T', Some(Expected::OwnDescribe(Describe::Row, _))) => {
                let described = self.pending.pop();
                if tag == b'T' {
                    if let Some(Expected::OwnDescribe(_, prepared)) = described
                        && prepared.permit.reads_rows()
                    {
                        let _ = prepared.columns.set(detection::described(message)?);
                    }
                    self.trips(message)?;
                }
                return Ok(());
            }
            (b'n', Some(Expected::Describe(Describe::Row))) => {
                self.pending.pop();
            }
            (b'T', Some(Expected::Describe(Describe::Row))) => {
                self.pending.pop();
                if self.trips(message)? {
                    return Ok(());
                }
            }
            (b'T', Some(Expected::Query(_))) => {
                if self.trips(message)? {
                    return Ok(());
                }
                self.note_columns(message)?;
            }
            (b'C', Some(Expected::Query(run))) => {
                run.add_tag(wire::command_tag(message)?);
                run.copy = Copy::No;
                run.end_set();
                if let Some(refusal) = run.left.over()
                    && run.sqlstate.is_none()
                {
                    substitute::error(refusal).error_response(&mut self.to_client);
                    run.sqlstate = Some(refusal.sqlstate.to_owned());
                    self.server.withholding = true;
                }
            }
            (b'I', Some(Expected::Query(_))) => {}
            (b'C' | b's', Some(Expected::Execute(run)))
                if run.permit.allowance().written.is_some() =>
            {
                return self.counted(tag, message, now);
            }
            (b'C', Some(Expected::Execute(run))) if run.left.over().is_some() => {
                self.over_limit_at_end(now);
                return Ok(());
            }
            (b'C' | b'I' | b's', Some(Expected::Execute(run))) => {
                if tag == b'C' {
                    run.add_tag(wire::command_tag(message)?);
                }
                if let Some(Expected::Execute(run)) = self.pending.pop() {
                    self.complete(run, now);
                }
            }
            (b'G', Some(Expected::Query(_) | Expected::Execute(_))) => {
                if let Some(part) = self.pending.copy_in() {
                    self.statements.join(part);
                    self.portals.join(part);
                }
                if self.phase == Phase::Concluding && self.pending.is_copying_in() {
                    self.fail_copy();
                }
            }
            (b'H', Some(Expected::Query(run) | Expected::Execute(run))) => {
                run.copy = Copy::Out;
                run.copy_binary = message.get(HEADER).is_some_and(|format| *format != 0);
            }
            (b'c', Some(Expected::Query(run) | Expected::Execute(run)))
                if run.copy == Copy::Out =>
            {
                run.copy = Copy::No;
            }
            _ => return Err(WireError::OutOfPlace(tag)),
        }
        self.pass(message);
        Ok(())
    }

    /// The tripwire: a masked column in a result ends the session before a row of it
    /// has gone out.
    fn trips(&mut self, message: &[u8]) -> Result<bool, WireError> {
        if self.masked_columns.is_empty() {
            return Ok(false);
        }
        let masked = |table, column| {
            table != 0 && self.masked_columns.contains(&(Oid(table), AttributeNumber(column)))
        };
        let Some((table, column)) = wire::find_origin(message, masked)? else { return Ok(false) };
        let detail = format!(
            "a masked column (relation {table}, column {column}) was about to appear in a result"
        );
        self.alert(EndReason::Tripwire, "42501", detail);
        Ok(true)
    }

    /// What the statement at the front gives away.
    fn sight(&mut self) -> Sight {
        if !self.config.masks {
            return Sight::Unmasked;
        }
        // A role whose results are looked through: nobody has said where the values lie.
        let touching = if self.partitions_tell { Sight::Placing } else { Sight::Touching };
        let touches =
            |permit: &Permit| match permit.touches_masked() || permit.detection().is_some() {
                true => touching,
                false => Sight::Aside,
            };
        match self.pending.front() {
            Some(Expected::Query(run) | Expected::Execute(run)) => touches(&run.permit),
            Some(Expected::Parse { prepared, .. }) => touches(&prepared.permit),
            Some(Expected::Bind { portal, .. }) => touches(&portal.prepared.permit),
            Some(Expected::OwnParse(permit) | Expected::OwnBind(permit)) => touches(permit),
            // A commit may run deferred triggers of any statement before.
            Some(_) | None => touching,
        }
    }

    fn error(&mut self, mut fields: ErrorFields, now: Duration) {
        let sight = self.sight();
        if fields.is_fatal() {
            hygiene::clean_error(&mut fields, sight);
            self.server.last_words = Some(format!("SQLSTATE {}", fields.sqlstate()));
            let sqlstate = fields.sqlstate().to_owned();
            fields.error_response(&mut self.to_client);
            return self.unanswered(&sqlstate, now);
        }
        let sqlstate = fields.sqlstate().to_owned();
        let mut skips = true;
        match self.pending.front() {
            Some(Expected::Refused { refusal, place, unnamed_parse }) => {
                skips = *place == Place::Extended;
                fields = substitute::error(refusal);
                if *unnamed_parse {
                    self.statements.drop_name("");
                }
            }
            Some(Expected::Query(run) | Expected::Execute(run)) => {
                skips = run.portal.is_some();
                if let Some(refusal) = run.left.over() {
                    fields = substitute::error(refusal);
                    run.sqlstate = Some(refusal.sqlstate.to_owned());
                } else {
                    run.sqlstate = Some(sqlstate);
                    let permit = std::sync::Arc::clone(&run.permit);
                    map_position(&mut fields, &permit);
                    hygiene::clean_error(&mut fields, sight);
                }
                if let Some(run) = self.pending.run() {
                    run.copy = Copy::No;
                }
                self.pending.end_over_limit();
            }
            Some(Expected::Parse { name, prepared }) => {
                if name.is_empty() {
                    self.statements.drop_name("");
                }
                let permit = std::sync::Arc::clone(&prepared.permit);
                map_position(&mut fields, &permit);
                hygiene::clean_error(&mut fields, sight);
                let mut run = Run::new(permit, None, now);
                run.sqlstate = Some(sqlstate);
                self.complete(run, now);
            }
            Some(Expected::OwnParse(permit) | Expected::OwnBind(permit)) => {
                let permit = std::sync::Arc::clone(permit);
                map_position(&mut fields, &permit);
                hygiene::clean_error(&mut fields, sight);
                self.statements.drop_name("");
                self.pending.fail_queued(&sqlstate);
            }
            Some(Expected::Sync { .. } | Expected::OwnSync) => {
                skips = false;
                hygiene::clean_error(&mut fields, sight);
            }
            None => {
                skips = self.pending.is_amid_part();
                hygiene::clean_error(&mut fields, sight);
            }
            Some(_) => hygiene::clean_error(&mut fields, sight),
        }
        if !self.server.withholding {
            fields.error_response(&mut self.to_client);
        }
        if skips {
            let skips_counted = self.pending.has_own_parse_behind();
            self.skip(now);
            // What is counted is the last that has gone out: an error of a part that a Sync
            // has ended says nothing of it.
            match (self.pending.is_skipping(), skips_counted) {
                (true, true) => self.skip_count(),
                (true, false) => self.end_count(),
                (false, _) => {}
            }
        }
    }
}

/// Maps an error's position in the text that was forwarded to the client's text.
fn map_position(fields: &mut ErrorFields, permit: &Permit) {
    let Some(rewritten) = permit.rewritten() else { return };
    match fields.get(field::POSITION).and_then(|position| position.parse::<usize>().ok()) {
        Some(position) => {
            let position = (rewritten.original_position)(position);
            fields.set(field::POSITION, &position.to_string());
        }
        None => fields.remove(field::POSITION),
    }
}
