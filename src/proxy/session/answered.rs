//! What comes of a message once admission has answered: it goes out, waits for a reviewer,
//! or is replaced in its place.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::{Bytes, BytesMut};

use super::{
    Effect, Held, Phase, Session, Waiting,
    names::Prepared,
    pending::{Describe, Expected, Place, Run},
    substitute,
};
use crate::{
    proxy::admission::{Admitted, Permit, Refusal, Review},
    wire,
};

impl Session {
    /// Takes admission's answer to [`Effect::Decide`]. `now` is the time since the
    /// connection's start.
    pub fn decided(&mut self, id: u64, admitted: Admitted, now: Duration) {
        let asked = match &self.waiting {
            Waiting::Decision { id, .. } | Waiting::Review { id, .. } => Some(*id),
            Waiting::Nothing | Waiting::Settlement | Waiting::Count(_) => None,
        };
        if self.phase != Phase::Open {
            if let Admitted::Forward(permit) = admitted {
                // It comes too late: what it permits is never run.
                self.complete(Run::new(Arc::new(permit), None, now), now);
            }
            return;
        }
        if asked != Some(id) {
            return;
        }
        let held = match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Decision { held, .. } | Waiting::Review { held, .. } => held,
            Waiting::Nothing | Waiting::Settlement | Waiting::Count(_) => return,
        };
        if let Admitted::Forward(permit) = &admitted {
            self.masked_columns = Arc::clone(permit.masked_columns());
            self.partitions_tell |= permit.partitions_tell();
        }
        let admitted = match self.not_around_the_decision(admitted) {
            Admitted::Hold(review) => return self.review(id, held, review),
            admitted => admitted,
        };
        let input = std::mem::take(&mut self.client.input);
        self.answered(held, input.get(..self.client.waiting).unwrap_or_default(), admitted, now);
        self.client.input = input;
        self.client.end_wait();
        self.digest_client();
    }

    /// Does with a message that waited what its verdict says.
    fn answered(&mut self, held: Held, message: &[u8], admitted: Admitted, now: Duration) {
        if let (Held::Query | Held::Execute { .. }, Admitted::Forward(permit)) = (&held, &admitted)
            && !self.pending.is_skipping()
        {
            self.forget_ahead(permit);
        }
        match (held, admitted) {
            // Reviewers are asked before.
            (_, Admitted::Hold(_)) => {}
            // An error has come meanwhile: the server would skip the message.
            (_, Admitted::Forward(permit)) if self.pending.is_skipping() => {
                self.complete(Run::new(Arc::new(permit), None, now), now);
            }
            (_, Admitted::Refuse(_)) if self.pending.is_skipping() => {}
            (Held::Function, answer) => self.refuse_function(answer),
            (Held::Query, Admitted::Forward(permit)) if permit.allowance().written.is_some() => {
                self.forward_counted_query(message, permit, now);
            }
            (Held::Query, Admitted::Forward(permit)) => {
                match permit.rewritten() {
                    Some(rewritten) => wire::query(&rewritten.text, self.to_server.put()),
                    None => self.to_server.put().extend_from_slice(message),
                }
                let run = self.sent(Run::new(Arc::new(permit), None, now));
                self.pending.push(Expected::Query(run));
            }
            (Held::Query, Admitted::Refuse(refusal)) => {
                substitute::query(self.to_server.put());
                self.refused(refusal, Place::Simple, false);
            }
            (Held::Parse { name, sql }, Admitted::Forward(permit)) => {
                self.forward_parse(message, name, sql, permit);
            }
            (Held::Parse { name, .. }, Admitted::Refuse(refusal)) => {
                substitute::parse(&name, self.to_server.put());
                self.refused(refusal, Place::Extended, name.is_empty());
            }
            (Held::Execute { name, portal }, Admitted::Forward(permit)) => {
                self.release();
                self.to_server.put().extend_from_slice(message);
                let counted = permit.allowance().written.is_some();
                let permit = Arc::new(permit);
                if permit.approval().is_some() {
                    portal.approved.get_or_init(|| Arc::clone(&permit));
                }
                let run = Run::new(permit, Some(name), now).of_portal(portal);
                let run = self.sent(run);
                self.pending.push(Expected::Execute(run));
                if counted {
                    self.await_count();
                }
            }
            (Held::Execute { .. }, Admitted::Refuse(refusal)) => self.refuse_execute(refusal),
        }
    }

    /// Begins the wait for a reviewer, where there is still something to wait for.
    fn review(&mut self, id: u64, held: Held, review: Box<Review>) {
        if self.pending.is_skipping() {
            self.client.end_wait();
            return self.digest_client();
        }
        if self.pending.in_flight() {
            // What went before may sit in the server's buffer until it is asked for it.
            wire::flush(self.to_server.put());
        }
        self.waiting = Waiting::Review { id, held };
        self.effects.push_back(Effect::Review { id, review });
    }

    /// What led up to a refused Execute goes with it.
    fn refuse_execute(&mut self, refusal: Refusal) {
        let deferred = self.discard();
        match deferred.parse() {
            Some(name) => {
                substitute::parse(name, self.to_server.put());
                self.refused(refusal, Place::Extended, name.is_empty());
            }
            None => {
                substitute::execute(&self.config.substitute, self.to_server.put());
                self.refused(refusal, Place::Extended, false);
            }
        }
    }

    pub(super) fn refused(&mut self, refusal: Refusal, place: Place, unnamed_parse: bool) {
        self.pending.push(Expected::Refused { refusal, place, unnamed_parse });
    }

    /// Function calls by OID say nothing that policy could decide on.
    fn refuse_function(&mut self, answer: Admitted) {
        let refusal = match answer {
            Admitted::Refuse(refusal) => refusal,
            Admitted::Hold(_) | Admitted::Forward(_) => substitute::own(
                "42501",
                "pgate doesn't carry function calls by OID".to_owned(),
                "Call the function in a SELECT.",
            ),
        };
        substitute::function(self.to_server.put());
        self.refused(refusal, Place::Simple, false);
    }

    fn forward_parse(&mut self, message: &[u8], name: Arc<str>, sql: Arc<str>, permit: Permit) {
        let mut out = BytesMut::new();
        match permit.rewritten() {
            Some(rewritten) => match wire::parse_parse(message) {
                Ok(parse) => wire::parse(parse.name, &rewritten.text, parse.types, &mut out),
                Err(error) => return self.violation(&error.to_string()),
            },
            None => out.extend_from_slice(message),
        }
        let types = match wire::parse_parse(message) {
            // A copy: a slice would keep all that came with the message for as long as
            // the statement lives.
            Ok(parse) => Bytes::copy_from_slice(parse.types),
            Err(error) => return self.violation(&error.to_string()),
        };
        let (waits, looks) = (permit.may_wait(), permit.reads_rows());
        let columns = OnceLock::new();
        let prepared = Arc::new(Prepared { sql, types, permit: Arc::new(permit), columns });
        let part = self.client.part;
        self.statements.request(Arc::clone(&name), part, Some(Arc::clone(&prepared)));
        let described = Arc::clone(&prepared);
        let mut expected = vec![Expected::Parse { name: Arc::clone(&name), prepared }];
        if self.config.masks || looks {
            // Clients may skip Describe, and the tripwire must see every result's columns.
            wire::describe_statement(&name, &mut out);
            expected.push(Expected::OwnDescribe(Describe::Parameters, described));
        }
        if waits {
            return self.defer_parse(name, &out, expected);
        }
        self.to_server.put().extend_from_slice(&out);
        for expected in expected {
            self.pending.push(expected);
        }
    }
}
