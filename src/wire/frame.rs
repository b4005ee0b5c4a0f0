//! Framing: where a message begins and ends, and a cursor over its body.

/// Bytes of a message's header: its type and its length.
pub const HEADER: usize = 5;

/// The longest message that is read before a peer is authenticated, in bytes
/// (as PostgreSQL's own limit on startup packets).
pub const BEFORE_AUTHENTICATION: usize = 10_000;

/// The longest message that the protocol knows (PostgreSQL: `PQ_LARGE_MESSAGE_LIMIT`).
pub const LARGEST_MESSAGE: usize = 0x3fff_ffff;

/// Bytes that aren't a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A length below its own size, or above what the protocol or the phase allows.
    #[error("a message declares a length of {length} bytes; {limit} are allowed here")]
    Length {
        /// What it declares.
        length: u32,
        /// What is allowed.
        limit: usize,
    },
    /// The body ends before it should, or goes on after it.
    #[error("a {0} message is malformed")]
    Malformed(&'static str),
    /// Text that isn't UTF-8.
    #[error("the text of a {0} message isn't UTF-8")]
    NotUtf8(&'static str),
    /// A message of this type that answers nothing.
    #[error("a message of type {:?} came out of place", char::from(*.0))]
    OutOfPlace(u8),
    /// Another message than the one that must come.
    #[error("a {0} message was expected, and another one came")]
    Unexpected(&'static str),
}

/// A message's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its type.
    pub tag: u8,
    /// The whole message's length in bytes, its type included.
    pub length: usize,
}

/// Reads the header of the message that `bytes` begin with; `None` until it is there.
pub fn header(bytes: &[u8]) -> Result<Option<Header>, WireError> {
    let [tag, a, b, c, d, ..] = *bytes else { return Ok(None) };
    let declared = u32::from_be_bytes([a, b, c, d]);
    match usize::try_from(declared) {
        Ok(length @ 4..=LARGEST_MESSAGE) => Ok(Some(Header { tag, length: length + 1 })),
        _ => Err(WireError::Length { length: declared, limit: LARGEST_MESSAGE }),
    }
}

/// A cursor over a message's body. Every step is checked.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    rest: &'a [u8],
    message: &'static str,
}

impl<'a> Fields<'a> {
    /// Starts at the beginning of `body` of a `message` (its name, for errors).
    pub fn new(body: &'a [u8], message: &'static str) -> Self {
        Self { rest: body, message }
    }

    /// Starts at the body of a whole message, its header skipped.
    pub fn of_message(bytes: &'a [u8], message: &'static str) -> Result<Self, WireError> {
        let rest = bytes.get(HEADER..).ok_or(WireError::Malformed(message))?;
        Ok(Self { rest, message })
    }

    fn malformed(&self) -> WireError {
        WireError::Malformed(self.message)
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.malformed())?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.malformed())?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        self.array().map(u8::from_be_bytes)
    }

    /// Two bytes, signed.
    pub fn i16(&mut self) -> Result<i16, WireError> {
        self.array().map(i16::from_be_bytes)
    }

    /// Two bytes as a count, which is never negative.
    pub fn count(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes, signed.
    pub fn i32(&mut self) -> Result<i32, WireError> {
        self.array().map(i32::from_be_bytes)
    }

    /// Four bytes, unsigned.
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Bytes up to a NUL, which is taken too.
    pub fn cstring(&mut self) -> Result<&'a [u8], WireError> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or_else(|| self.malformed())?;
        let text = self.take(end)?;
        self.take(1)?;
        Ok(text)
    }

    /// UTF-8 text up to a NUL.
    pub fn text(&mut self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.cstring()?).map_err(|_| WireError::NotUtf8(self.message))
    }

    /// A length and as many bytes; -1 is `None`.
    pub fn value(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| self.malformed())?;
                self.take(length).map(Some)
            }
        }
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Requires that nothing is left.
    pub fn end(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_once_it_is_there_and_only_with_a_possible_length() {
        type Found = Result<Option<(u8, usize)>, ()>;
        let cases: &[(&[u8], Found)] = &[
            (b"", Ok(None)),
            (b"Q", Ok(None)),
            (b"Q\0\0\0", Ok(None)),
            (b"Q\0\0\0\x04", Ok(Some((b'Q', 5)))),
            (b"Q\0\0\0\x05x", Ok(Some((b'Q', 6)))),
            (b"Q\0\0\0\x03", Err(())),
            (b"Q\0\0\0\0", Err(())),
            (b"Q\xff\xff\xff\xff", Err(())),
            (b"D\x3f\xff\xff\xff", Ok(Some((b'D', 0x4000_0000)))),
            (b"D\x40\0\0\0", Err(())),
        ];
        for (bytes, expected) in cases {
            let found = header(bytes).map(|h| h.map(|h| (h.tag, h.length))).map_err(|_| ());
            assert_eq!(&found, expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_cursor_never_reads_past_the_end() {
        let mut fields = Fields::new(b"ab\0\0\0\0\x02xy\xff\xff\xff\xff", "test");
        assert_eq!(fields.text().unwrap(), "ab");
        assert_eq!(fields.value().unwrap(), Some(&b"xy"[..]));
        assert_eq!(fields.value().unwrap(), None);
        assert!(fields.u8().is_err());
        assert!(Fields::new(b"abc", "test").cstring().is_err());
        assert!(Fields::new(b"\x7f\xff\xff\xff", "test").value().is_err());
        assert!(Fields::new(b"\xff\xff\xff\xfe", "test").value().is_err());
    }
}
