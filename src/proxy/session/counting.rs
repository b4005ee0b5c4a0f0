//! Writes whose rows are counted, and that must not take effect where they are too
//! many.
//!
//! PostgreSQL tells the rows of a write in its command tag. In the extended protocol
//! nothing is committed before the Sync, in a transaction block nothing before its
//! COMMIT. So the machine asks for the answer at once (Flush), looks at none of what
//! the client sends behind the statement until the tag has come, and where the rows
//! are too many puts a message in its place that PostgreSQL is sure to reject. That
//! error undoes the statement as any error would: it rolls the implicit transaction
//! back, or fails the block; up to the Sync the server skips the rest. The client
//! gets the rule's error in the place of CommandComplete.
//!
//! A Query commits before its tag comes. One whose rows are counted is therefore
//! sent in the extended protocol, as the unnamed statement, which a Query drops
//! anyway; the client sees the answers of a Query.
//!
//! A write whose rows come back in parts (an Execute with a row limit) has written
//! all of them before the first part, and tells their number after the last: it is
//! undone as well, since nobody could say whether the rest will be asked for.

use std::{sync::Arc, time::Duration};

use super::{
    Phase, Sent, Session, Waiting,
    names::{Portal, Prepared},
    pending::{Copy, Expected, Place, Run},
    substitute,
};
use crate::{
    proxy::admission::{Admitted, Permit, Refusal},
    sql::CursorUse,
    wire::{self, WireError},
};

impl Session {
    /// Forwards a Query whose rows are counted.
    pub(super) fn forward_counted_query(&mut self, message: &[u8], permit: Permit, now: Duration) {
        let sql = match (permit.rewritten(), wire::parse_query(message)) {
            (Some(rewritten), _) => Arc::clone(&rewritten.text),
            (None, Ok(sql)) => Arc::from(sql),
            (None, Err(error)) => return self.violation(&error.to_string()),
        };
        let out = self.to_server.put();
        wire::parse("", &sql, &[0, 0], out);
        wire::bind("", "", out);
        wire::describe_portal("", out);
        wire::execute("", 0, out);
        let permit = Arc::new(permit);
        let (unnamed, part): (Arc<str>, _) = ("".into(), self.client.part);
        self.statements.request(Arc::clone(&unnamed), part, None);
        self.portals.request(Arc::clone(&unnamed), part, None);
        self.pending.push(Expected::OwnParse(Arc::clone(&permit)));
        self.pending.push(Expected::OwnBind(Arc::clone(&permit)));
        self.pending.push(Expected::QueryDescribe);
        let run = self.sent(Run::new(permit, Some(unnamed), now));
        self.pending.push(Expected::Execute(run));
        wire::flush(self.to_server.put());
        self.waiting = Waiting::Count(Sent::ByMachine);
    }

    /// Refuses what would run a statement that must be decided when it is run by another
    /// way than its Execute: SQL's EXECUTE of what a Parse has prepared, SQL's FETCH from
    /// what a Bind has opened.
    pub(super) fn not_around_the_decision(&self, admitted: Admitted) -> Admitted {
        let Admitted::Forward(permit) = &admitted else { return admitted };
        let fetched = permit.cursors().iter().any(|cursor| match cursor {
            CursorUse::Fetch(name) => {
                self.portals.any(name, |portal: &Portal| portal.prepared.permit.decided_when_run())
            }
            CursorUse::Declare { .. } | CursorUse::Close(_) => false,
        });
        let runs = permit.runs().iter().any(|name| {
            self.statements.any(name, |prepared: &Prepared| prepared.permit.decided_when_run())
        });
        if !fetched && !runs {
            return admitted;
        }
        let refusal = substitute::own(
            "42501",
            "pgate: a rule on rows or hours, or one that holds, is about the prepared statement, \
             which can't be checked when SQL runs it"
                .to_owned(),
            "Run it by the protocol's Bind and Execute, as drivers do.",
        );
        Admitted::Refuse(Refusal { statement: permit.statement(), ..refusal })
    }

    /// Has the server answer an Execute at once whose rows are counted.
    pub(super) fn await_count(&mut self) {
        wire::flush(self.to_server.put());
        self.waiting = Waiting::Count(Sent::ByClient);
    }

    /// Whether only the data of a COPY is heard now, for which a count waits.
    pub(super) fn hears_copy_only(&self) -> bool {
        matches!(self.waiting, Waiting::Count(_)) && self.pending.takes_copy_data()
    }

    /// Whether a message may go on while a COPY's rows are to be counted: its data and
    /// its end. Sync and Flush ahead of the data say nothing there, as in PostgreSQL.
    pub(super) fn copy_message(tag: u8) -> Option<CopyMessage> {
        match tag {
            b'd' | b'c' | b'f' | b'X' => Some(CopyMessage::Forward),
            b'S' | b'H' => Some(CopyMessage::Ignore),
            _ => None,
        }
    }

    /// A counted statement has come to its end, or to the end of a part.
    pub(super) fn counted(
        &mut self,
        tag: u8,
        message: &[u8],
        now: Duration,
    ) -> Result<(), WireError> {
        let Some(Expected::Execute(mut run)) = self.pending.pop() else {
            return Err(WireError::OutOfPlace(tag));
        };
        run.copy = Copy::No;
        let refusal = match (run.left.over(), &run.permit.allowance().written, tag) {
            (Some(over), _, _) => Some(over.clone()),
            (None, None, _) => None,
            (None, Some(cap), b'C') => {
                let told = wire::command_tag(message)?;
                match wire::tag_rows(told) {
                    Some(rows) if rows <= cap.most => None,
                    Some(_) => Some(cap.refusal.clone()),
                    None => Some(cap.uncounted()),
                }
            }
            (None, Some(cap), _) => Some(cap.uncounted()),
        };
        match refusal {
            None if run.is_undone => {
                run.sqlstate = Some("40000".to_owned());
                self.complete(run, now);
            }
            None => {
                if tag == b'C' {
                    run.add_tag(wire::command_tag(message)?);
                }
                self.complete(run, now);
                self.pass(message);
                if self.waiting_is_own() {
                    // A Query leaves no unnamed portal behind in its transaction.
                    wire::close_portal("", self.to_server.put());
                    self.pending.push(Expected::OwnClose);
                }
            }
            Some(refusal) => {
                run.sqlstate = Some(refusal.sqlstate.to_owned());
                self.complete(run, now);
                if self.phase == Phase::Concluding {
                    // Nothing commits it.
                    return Ok(());
                }
                substitute::execute(&self.config.substitute, self.to_server.put());
                let place = Place::Extended;
                self.pending.push(Expected::Refused { refusal, place, unnamed_parse: false });
                wire::flush(self.to_server.put());
            }
        }
        self.end_count();
        Ok(())
    }

    fn waiting_is_own(&self) -> bool {
        matches!(self.waiting, Waiting::Count(Sent::ByMachine))
    }

    /// A Query whose rows were to be counted is skipped for an error before it: only the
    /// client's own Sync ends that.
    pub(super) fn skip_count(&mut self) {
        if let Waiting::Count(_) = self.waiting {
            self.waiting = Waiting::Nothing;
        }
    }

    /// The count has come, or the statement has failed: what the client has sent behind
    /// it is looked at.
    pub(super) fn end_count(&mut self) {
        let Waiting::Count(sent) = self.waiting else { return };
        self.waiting = Waiting::Nothing;
        if sent == Sent::ByMachine && self.pending.push_sync(self.client.part).is_ok() {
            self.client.part += 1;
            wire::sync(self.to_server.put());
        }
    }
}

/// What becomes of a message amid the data of a counted COPY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CopyMessage {
    Forward,
    Ignore,
}
