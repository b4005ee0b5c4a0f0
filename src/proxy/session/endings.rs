//! How statements come to their end: completed, failed, skipped, or never answered; and
//! what the names and portals of a part of the pipeline mean after it.

use std::time::Duration;

use super::{
    Session,
    pending::{Expected, Place, Run},
    substitute,
};
use crate::{
    journal::Record,
    proxy::admission::{Forget, Permit},
    sql::CursorUse,
    wire::{self, TransactionStatus, WireError},
};

impl Session {
    /// The server answers nothing any more: what it was asked to run has this outcome.
    pub(super) fn unanswered(&mut self, sqlstate: &str, now: Duration) {
        for mut run in self.pending.abandon() {
            run.sqlstate.get_or_insert_with(|| sqlstate.to_owned());
            self.complete(run, now);
        }
    }

    /// The server skips to the next Sync.
    pub(super) fn skip(&mut self, now: Duration) {
        if let Some(Expected::Execute(run)) = self.pending.pop() {
            self.complete(run, now);
        }
        for run in self.pending.skip_to_sync() {
            self.complete(run, now);
        }
        // What waits for a reviewer would be skipped, too.
        self.withdraw("an error before it in the pipeline keeps it from running");
    }

    /// A portal completed before the cancellation of its many rows reached the server.
    pub(super) fn over_limit_at_end(&mut self, now: Duration) {
        let followed = self.pending.is_followed();
        let Some(Expected::Execute(mut run)) = self.pending.pop() else { return };
        let Some(refusal) = run.left.over().cloned() else { return self.complete(run, now) };
        run.sqlstate = Some(refusal.sqlstate.to_owned());
        self.complete(run, now);
        if followed {
            // What follows in the pipeline runs although the client would be told that
            // it is skipped: only the end of the connection is honest.
            self.end(refusal.sqlstate, &refusal.message);
            return;
        }
        substitute::error(&refusal).error_response(&mut self.to_client);
        for run in self.pending.skip_to_sync() {
            self.complete(run, now);
        }
    }

    pub(super) fn ready(&mut self, message: &[u8], now: Duration) -> Result<(), WireError> {
        let status = wire::parse_transaction_status(message)?;
        match self.pending.front() {
            Some(Expected::Sync { .. } | Expected::Query(_) | Expected::OwnSync) => {}
            Some(Expected::Refused { place: Place::Simple, .. }) => {}
            _ => return Err(WireError::OutOfPlace(b'Z')),
        }
        match self.pending.pop() {
            Some(Expected::Sync { part }) => {
                self.statements.finish(part);
                self.portals.finish(part);
            }
            Some(Expected::Query(run)) => self.complete(run, now),
            Some(Expected::OwnSync) => return Ok(()),
            _ => {}
        }
        if status == TransactionStatus::Idle {
            // The end of a transaction drops its portals.
            self.portals.drop_all();
            self.parts.end_transaction();
        }
        self.server.withholding = false;
        self.to_client.extend_from_slice(message);
        Ok(())
    }

    /// A statement goes out that takes names their meaning: what comes behind it, and
    /// ahead of its answer, can't mean by them what they meant before.
    pub(super) fn forget_ahead(&mut self, permit: &Permit) {
        let part = self.client.part;
        match permit.forget() {
            Forget::Nothing => {}
            Forget::Statements(names) => {
                for name in names {
                    self.statements.request(name.as_str().into(), part, None);
                }
            }
            Forget::AllStatements => self.statements.request_none(part),
        }
        for cursor in permit.cursors() {
            match cursor {
                CursorUse::Declare { name, hold: _ } | CursorUse::Close(Some(name)) => {
                    self.portals.request(name.as_str().into(), part, None);
                }
                CursorUse::Close(None) => self.portals.request_none(part),
                CursorUse::Fetch(_) => {}
            }
        }
    }

    /// A statement has come to its end.
    pub(super) fn complete(&mut self, mut run: Run, now: Duration) {
        if !run.tags.is_empty() {
            match run.permit.forget() {
                Forget::Nothing => {}
                Forget::Statements(names) => {
                    for name in names {
                        self.statements.drop_name(name);
                    }
                }
                Forget::AllStatements => self.statements.drop_all(),
            }
            for cursor in run.permit.cursors() {
                match cursor {
                    // What SQL has opened under this name is no portal of a Bind's.
                    CursorUse::Declare { name, hold: _ } | CursorUse::Close(Some(name)) => {
                        self.portals.drop_name(name);
                    }
                    CursorUse::Close(None) => self.portals.drop_all(),
                    CursorUse::Fetch(_) => {}
                }
            }
        }
        self.parts.add(&run);
        self.report_detected(&run);
        self.record_results(&mut run);
        let completion = run.completion(self.config.connection, now);
        self.record(Record::Completion(completion));
    }
}
