//! The fields of ErrorResponse and NoticeResponse (PostgreSQL manual, 55.8).

use super::{Fields, WireError};

/// The fields' types.
pub mod field {
    /// Severity, localised.
    pub const SEVERITY: u8 = b'S';
    /// Severity, never localised.
    pub const SEVERITY_PLAIN: u8 = b'V';
    /// SQLSTATE.
    pub const CODE: u8 = b'C';
    /// Message.
    pub const MESSAGE: u8 = b'M';
    /// Detail.
    pub const DETAIL: u8 = b'D';
    /// Hint.
    pub const HINT: u8 = b'H';
    /// Position in the statement, characters from 1.
    pub const POSITION: u8 = b'P';
    /// Position in the internal query.
    pub const INTERNAL_POSITION: u8 = b'p';
    /// Internal query.
    pub const INTERNAL_QUERY: u8 = b'q';
    /// Where: the call stack, which quotes statements and rows.
    pub const WHERE: u8 = b'W';
    /// The schema, table, column, data type and constraint that it is about.
    pub const OBJECTS: [u8; 5] = *b"stcdn";
}

/// The fields of one error or notice, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ErrorFields {
    fields: Vec<(u8, String)>,
}

impl ErrorFields {
    /// An error or notice of our own.
    pub fn new(severity: &str, sqlstate: &str, message: &str) -> Self {
        let mut fields = Self::default();
        fields.set(field::SEVERITY, severity);
        fields.set(field::SEVERITY_PLAIN, severity);
        fields.set(field::CODE, sqlstate);
        fields.set(field::MESSAGE, message);
        fields
    }

    /// With this field, unless it is empty.
    #[must_use]
    pub fn with(mut self, kind: u8, value: &str) -> Self {
        if !value.is_empty() {
            self.set(kind, value);
        }
        self
    }

    /// Reads the fields of a whole ErrorResponse or NoticeResponse. Text that isn't
    /// UTF-8 (possible before the encoding is agreed) is read with replacements.
    pub fn parse(message: &[u8]) -> Result<Self, WireError> {
        let mut body = Fields::of_message(message, "ErrorResponse")?;
        let mut fields = Vec::new();
        loop {
            match body.u8()? {
                0 => break,
                kind => {
                    fields.push((kind, String::from_utf8_lossy(body.cstring()?).into_owned()));
                }
            }
        }
        body.end()?;
        Ok(Self { fields })
    }

    /// A field's value.
    pub fn get(&self, kind: u8) -> Option<&str> {
        self.fields.iter().find(|(found, _)| *found == kind).map(|(_, value)| value.as_str())
    }

    /// The SQLSTATE; `XX000` where the server gave none.
    pub fn sqlstate(&self) -> &str {
        self.get(field::CODE).unwrap_or("XX000")
    }

    /// The message.
    pub fn message(&self) -> &str {
        self.get(field::MESSAGE).unwrap_or_default()
    }

    /// Whether the connection ends with it.
    pub fn is_fatal(&self) -> bool {
        let severity = self.get(field::SEVERITY_PLAIN).or_else(|| self.get(field::SEVERITY));
        matches!(severity, Some("FATAL" | "PANIC"))
    }

    /// Sets a field. A NUL, which would end it early, becomes a space.
    pub fn set(&mut self, kind: u8, value: &str) {
        let value = value.replace('\0', " ");
        match self.fields.iter_mut().find(|(found, _)| *found == kind) {
            Some((_, old)) => *old = value,
            None => self.fields.push((kind, value)),
        }
    }

    /// Drops a field.
    pub fn remove(&mut self, kind: u8) {
        self.fields.retain(|(found, _)| *found != kind);
    }

    /// Appends it to `out` as an ErrorResponse.
    pub fn error_response(self, out: &mut bytes::BytesMut) {
        self.encode(b'E', out);
    }

    /// Appends it to `out` as a NoticeResponse.
    pub fn notice_response(self, out: &mut bytes::BytesMut) {
        self.encode(b'N', out);
    }

    fn encode(self, tag: u8, out: &mut bytes::BytesMut) {
        super::frontend::message(tag, out, |body| {
            for (kind, value) in &self.fields {
                body.extend_from_slice(&[*kind]);
                body.extend_from_slice(value.as_bytes());
                body.extend_from_slice(&[0]);
            }
            body.extend_from_slice(&[0]);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read_and_a_nul_does_not_split_a_field() {
        let mut out = bytes::BytesMut::new();
        let fields = ErrorFields::new("ERROR", "42501", "a\0Mb")
            .with(field::HINT, "")
            .with(field::DETAIL, "rule deny[0]");
        fields.clone().error_response(&mut out);
        let read = ErrorFields::parse(&out).unwrap();
        assert_eq!(read, fields);
        assert_eq!(read.message(), "a Mb");
        assert_eq!(read.get(field::HINT), None);
        for cut in 5..out.len() {
            assert!(ErrorFields::parse(&out[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn severity_is_read_from_the_plain_field_first() {
        let mut fields = ErrorFields::new("FATAL", "57P01", "bye");
        fields.set(field::SEVERITY, "ФАТАЛЬНО");
        assert!(fields.is_fatal());
        assert!(!ErrorFields::new("ERROR", "42601", "x").is_fatal());
    }
}
