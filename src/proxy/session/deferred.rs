//! Where a held statement of the extended protocol waits: at its Execute, and
//! nothing of it has gone out before.
//!
//! A reviewer must see the values, which come with Bind, so a Parse can't be what
//! waits; and a driver that only prepares and describes shouldn't wait at all. So the
//! Parse and the Bind of a held statement are kept back. The Execute that follows
//! them asks the reviewers: their yes sends all three, and a no sends none. Had Parse
//! and Bind gone ahead, PostgreSQL would wait for the reviewer too: with a snapshot
//! of long ago, with locks, and with its statement_timeout running.
//!
//! Where something else than an Execute follows (Sync, Flush, Describe of the
//! statement: the driver wants to know what it has prepared), they go out. PostgreSQL
//! then analyses the statement and runs nothing; its Bind is kept back in turn.

use std::sync::Arc;

use bytes::BytesMut;

use super::{Session, pending::Expected};

/// Messages that are kept back, and what the server will have to answer to them.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    bytes: BytesMut,
    expected: Vec<Expected>,
    /// The statement's name, where its Parse is among them.
    parse: Option<Arc<str>>,
    /// The portal's name, where its Bind is among them.
    portal: Option<Arc<str>>,
}

impl Deferred {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn add(&mut self, bytes: &[u8], expected: impl IntoIterator<Item = Expected>) {
        self.bytes.extend_from_slice(bytes);
        self.expected.extend(expected);
    }

    /// Whether they lead to a portal of this name.
    pub(super) fn leads_to(&self, portal: &str) -> bool {
        self.portal.as_deref() == Some(portal)
    }

    /// The statement's name, where its Parse is among them.
    pub(super) fn parse(&self) -> Option<&Arc<str>> {
        self.parse.as_ref()
    }
}

impl Session {
    /// Keeps the Parse of a held statement back.
    pub(super) fn defer_parse(
        &mut self,
        name: Arc<str>,
        bytes: &[u8],
        expected: impl IntoIterator<Item = Expected>,
    ) {
        self.release();
        self.deferred.add(bytes, expected);
        self.deferred.parse = Some(name);
    }

    /// Keeps the Bind of a held statement back, together with the Parse just before it.
    pub(super) fn defer_bind(&mut self, portal: Arc<str>, bytes: &[u8], expected: Expected) {
        if self.deferred.portal.is_some() {
            self.release();
        }
        self.deferred.add(bytes, [expected]);
        self.deferred.portal = Some(portal);
    }

    /// Keeps the Describe of a portal back whose Bind is; false where it isn't.
    pub(super) fn defer_describe(&mut self, portal: &str, bytes: &[u8], answer: Expected) -> bool {
        // One is enough for every driver, and bounds what is kept.
        let first =
            self.deferred.expected.last().is_some_and(|e| matches!(e, Expected::Bind { .. }));
        let fits = first && self.deferred.leads_to(portal);
        if fits {
            self.deferred.add(bytes, [answer]);
        }
        fits
    }

    /// Sends what was kept back; nothing where the server skips to the next Sync anyway.
    pub(super) fn release(&mut self) {
        if self.deferred.is_empty() {
            return;
        }
        let deferred = std::mem::take(&mut self.deferred);
        if self.pending.is_skipping() {
            return;
        }
        self.to_server.put().extend_from_slice(&deferred.bytes);
        for expected in deferred.expected {
            self.pending.push(expected);
        }
    }

    /// Forgets what was kept back: its statement was refused.
    pub(super) fn discard(&mut self) -> Deferred {
        std::mem::take(&mut self.deferred)
    }
}
