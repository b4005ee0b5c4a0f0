//! How a connection ends: who is told, what is dropped, and what is still heard.
//!
//! The log's account must be whole though nobody waits for answers any more: the server is
//! heard for the outcomes of what it was asked. Nothing that it says then goes to the client or
//! counts as the client's, and of what the client has sent nothing goes to the server.
//! What it is told is only what brings those outcomes about: the end of a COPY, and a Flush.

use std::time::Duration;

use super::{Phase, Sent, Session, Waiting, pending::Run, server_side::Streaming};
use crate::wire::{self, ErrorFields};

/// What ends a COPY whose data will not come.
const COPY_GIVEN_UP: &str = "pgate: the connection ended amid the data";

impl Session {
    /// The client has closed its side without a Terminate.
    pub fn client_gone(&mut self) {
        if self.phase == Phase::Open {
            self.close("the client went away".to_owned());
        }
    }

    /// The server has closed its side.
    pub fn server_gone(&mut self) {
        if self.phase != Phase::Closed {
            self.uncount_cut_row();
            self.unanswered("08006", self.server_heard());
        }
        match (self.phase, self.server.last_words()) {
            (Phase::Open, None) => self.end("08006", "the database closed the connection"),
            (Phase::Open, Some(words)) => {
                let reason = format!("the database closed the connection: {words}");
                self.close_quietly(reason);
            }
            (Phase::Leaving, _) => self.close_quietly("closed by the client".to_owned()),
            (Phase::Concluding, _) => self.phase = Phase::Closed,
            (Phase::Closed, _) => {}
        }
    }

    /// What has been admitted and hasn't gone out can't be sent, for this reason: that is its
    /// outcome, and the connection ends.
    pub fn not_forwarded(&mut self, sqlstate: &str, reason: &str) {
        self.drop_unsent(Some(sqlstate));
        self.end(sqlstate, reason);
    }

    /// Ends the connection: the client gets a FATAL error (where the stream is
    /// between two messages), the statement in flight is cancelled.
    pub fn end(&mut self, sqlstate: &str, message: &str) {
        if let Phase::Open | Phase::Leaving = self.phase {
            self.fatal(sqlstate, message);
            self.close(message.to_owned());
        }
    }

    /// Whether the connection is over but for what became of some statements, which the
    /// server is to be heard for.
    pub fn awaits_outcomes(&self) -> bool {
        self.phase == Phase::Concluding && self.pending.has_runs()
    }

    /// The server is heard no longer: what has no outcome by now has an unknown one
    /// (transaction_resolution_unknown; PostgreSQL manual, appendix A).
    pub fn conclude(&mut self, now: Duration) {
        self.unanswered("08007", now);
        self.phase = Phase::Closed;
    }

    /// Whether a message can go to the server: it has had nothing but whole ones, and no
    /// Terminate.
    pub fn may_speak_to_server(&self) -> bool {
        !self.to_server.is_cut() && !self.client.is_amid_forwarded_data() && !self.client.has_left()
    }

    pub(super) fn fatal(&mut self, sqlstate: &str, message: &str) {
        if self.server.is_between_messages() {
            ErrorFields::new("FATAL", sqlstate, message).error_response(&mut self.to_client);
        }
    }

    pub(super) fn close(&mut self, reason: String) {
        if let Phase::Open | Phase::Leaving = self.phase {
            self.drop_unsent(None);
            if self.pending.in_flight() {
                self.cancel();
            }
            self.close_quietly(reason);
        }
    }

    pub(super) fn close_quietly(&mut self, reason: String) {
        self.withdraw(&reason);
        self.drop_unsent(None);
        self.uncount_cut_row();
        if let Some(row) = &mut self.server.streaming {
            row.forward = false;
        }
        self.record_unfinished();
        if let Waiting::Count(Sent::ByMachine) = self.waiting
            && let Some(run) = self.pending.last_run()
        {
            run.is_undone = true;
        }
        self.waiting = Waiting::Nothing;
        self.effects.push_back(super::Effect::Close { reason });
        self.phase = if self.pending.has_runs() { Phase::Concluding } else { Phase::Closed };
        if self.pending.is_copying_in() {
            self.fail_copy();
        } else if self.phase == Phase::Concluding && self.pending.is_amid_part() {
            // Without it the server keeps its answers for itself.
            if self.may_speak_to_server() {
                wire::flush(self.to_server.put());
            }
        }
    }

    /// Ends the COPY whose data nobody will send: a cancellation isn't looked at while the
    /// server waits for them.
    pub(super) fn fail_copy(&mut self) {
        if self.may_speak_to_server() {
            wire::copy_fail(COPY_GIVEN_UP, self.to_server.put());
            self.pending.push_copy_end();
        } else if let Some(run) = self.pending.run() {
            // Its data end amid a message: it can't but fail, with nothing said of it.
            run.sqlstate.get_or_insert_with(|| "57014".to_owned());
            self.phase = Phase::Closed;
        }
    }

    /// Drops what hasn't gone to the server. The statements among it were never run.
    fn drop_unsent(&mut self, sqlstate: Option<&str>) {
        for mut run in self.pending.take_unsent(|end| self.to_server.has_gone(end)) {
            run.sqlstate = sqlstate.map(str::to_owned);
            let never = run.started;
            self.complete(run, never);
        }
        self.to_server.cut();
    }

    /// The row that is on its way isn't the client's: it won't get the rest.
    fn uncount_cut_row(&mut self) {
        let Some(Streaming { length, forward: true, .. }) = self.server.streaming else { return };
        if let Some(run) = self.pending.run() {
            run.rows = run.rows.saturating_sub(1);
            run.bytes = run.bytes.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
        }
    }

    /// A statement whose message ends where what goes to the server ends now.
    pub(super) fn sent(&self, run: Run) -> Run {
        Run { sent_at: self.to_server.end(), ..run }
    }
}
