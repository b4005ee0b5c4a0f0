//! What goes to the server, and how much of it has gone.
//!
//! What hasn't when the connection ends is dropped, and never was asked; the server may then
//! have the beginning of a message, behind which nothing else can be said.

use bytes::{Buf, BytesMut};

/// The capacity that an empty buffer may keep, in bytes.
const KEPT: usize = 64 * 1024;

/// Bytes for the server.
#[derive(Debug, Default)]
pub struct Outgoing {
    bytes: BytesMut,
    /// How many have been taken.
    gone: u64,
    /// Whether some have been dropped.
    cut: bool,
}

impl Outgoing {
    /// Takes all there is.
    pub fn take(&mut self) -> BytesMut {
        self.gone += u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        self.bytes.split()
    }

    /// Where messages are written.
    pub(super) fn put(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Where in all that has ever been put here its end is.
    pub(super) fn end(&self) -> u64 {
        self.gone + u64::try_from(self.bytes.len()).unwrap_or(u64::MAX)
    }

    /// Whether the server has been given all that comes before this place.
    pub(super) fn has_gone(&self, end: u64) -> bool {
        end <= self.gone
    }

    /// Drops what hasn't gone.
    pub(super) fn cut(&mut self) {
        self.cut |= !self.bytes.is_empty();
        self.bytes.clear();
    }

    /// Whether something was dropped: what the server has may end amid a message.
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.gone += u64::try_from(count).unwrap_or(u64::MAX);
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT {
            self.bytes = BytesMut::new();
        }
    }
}
