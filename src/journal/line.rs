//! One line of a log as bytes: how it is written, read back strictly, and hashed.

use std::{
    fmt,
    io::{self, BufRead, Read},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Entry, Record};

/// The longest line, in bytes without its line feed. Writers refuse to make a longer one.
pub const LONGEST_LINE: usize = 16 * 1024 * 1024;

/// The SHA-256 of a line's bytes without its line feed: what the next line's `prev` says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LineHash([u8; 32]);

impl LineHash {
    /// What stands before the first line: 64 zeros.
    pub const NONE: Self = Self([0; 32]);

    /// The hash of a line, given without its line feed.
    pub fn of(line: &[u8]) -> Self {
        Self(Sha256::digest(line).into())
    }

    /// Reads 64 lower-case hexadecimal digits; anything else is `None`.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
        let bytes = pairs
            .iter()
            .map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?))
            .collect::<Option<Vec<_>>>()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

impl fmt::Display for LineHash {
    /// By a table: each line of a log names the one before, and formatting byte by byte
    /// costs more than hashing the line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 64];
        for (pair, byte) in hex.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]];
        }
        f.write_str(str::from_utf8(&hex).expect("digits"))
    }
}

impl fmt::Debug for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<LineHash> for String {
    fn from(hash: LineHash) -> String {
        hash.to_string()
    }
}

impl TryFrom<String> for LineHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::from_hex(&text).ok_or("not a SHA-256 in lower-case hexadecimal")
    }
}

/// Why bytes are not a line of a log. Never holds any of the bytes: they are the
/// writer's, and may be hostile to a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum LineError {
    /// Longer than [`LONGEST_LINE`].
    #[error("it is longer than {} MiB", LONGEST_LINE >> 20)]
    TooLong,
    /// Not a JSON object in UTF-8.
    #[error("it is not JSON")]
    NotJson,
    /// JSON, but no record of this format: a field is missing, unknown or stands twice.
    #[error("it is not a record of a session log")]
    NotARecord,
    /// A record in another spelling than pgate's own: spaces, another order of fields,
    /// other escapes, unknown fields. Two readers could read it differently.
    #[error("it is not spelled as pgate {} writes it", env!("CARGO_PKG_VERSION"))]
    NotCanonical,
}

/// The bytes of an entry, without a line feed.
pub fn encode(entry: &Entry) -> Result<Vec<u8>, LineError> {
    let line = serde_json::to_vec(entry).map_err(|_| LineError::NotARecord)?;
    if line.len() > LONGEST_LINE { Err(LineError::TooLong) } else { Ok(line) }
}

/// Reads a line, given without its line feed. Only the exact bytes that [`encode`]
/// makes are read, so that what a person is shown is all that the line holds:
/// duplicate fields, unknown fields and second spellings are errors.
pub fn decode(line: &[u8]) -> Result<Entry, LineError> {
    if line.len() > LONGEST_LINE {
        return Err(LineError::TooLong);
    }
    let entry = serde_json::from_slice::<Entry>(line).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => LineError::NotARecord,
        _ => LineError::NotJson,
    })?;
    if encode(&entry)? == line { Ok(entry) } else { Err(LineError::NotCanonical) }
}

/// `at` as lines keep it: whole microseconds.
pub(super) fn whole_microseconds(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// A line as it was read from a log.
#[derive(Debug, Clone)]
pub struct RawLine {
    /// Its place in the file, from 1.
    pub number: u64,
    /// Its bytes without the line feed; cut to [`LONGEST_LINE`] + 1 where it is longer.
    pub bytes: Vec<u8>,
    /// Whether a line feed ended it. Only the last line of a cut file lacks one.
    pub ended: bool,
}

impl RawLine {
    /// Reads it as an entry.
    pub fn decode(&self) -> Result<Entry, LineError> {
        decode(&self.bytes)
    }

    /// Its hash.
    pub fn hash(&self) -> LineHash {
        LineHash::of(&self.bytes)
    }
}

/// The lines of a log, read one after another: memory is bounded by one line.
pub struct Lines<R> {
    from: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// Reads from the beginning of a log.
    pub fn new(from: R) -> Self {
        Self { from, number: 0 }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<RawLine>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut bytes = Vec::new();
        let most = LONGEST_LINE as u64 + 1;
        let read = self.from.by_ref().take(most).read_until(b'\n', &mut bytes);
        if let Err(error) = read {
            return Some(Err(error));
        }
        if bytes.is_empty() {
            return None;
        }
        self.number += 1;
        let mut ended = bytes.last() == Some(&b'\n');
        if ended {
            bytes.pop();
        } else if bytes.len() as u64 == most {
            match skip_line(&mut self.from) {
                Ok(found) => ended = found,
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(RawLine { number: self.number, bytes, ended }))
    }
}

/// Drops the rest of an overlong line; says whether a line feed ended it.
fn skip_line(from: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let buffer = from.fill_buf()?;
        if buffer.is_empty() {
            return Ok(false);
        }
        let at = buffer.iter().position(|&byte| byte == b'\n');
        let used = at.map_or(buffer.len(), |at| at + 1);
        from.consume(used);
        if at.is_some() {
            return Ok(true);
        }
    }
}

impl Record {
    /// Whether the record vouches for itself, and may follow the last checkpoint:
    /// checkpoints are signed by the session key, receipts by the control plane.
    pub(super) fn is_signature(&self) -> bool {
        matches!(self, Record::Checkpoint { .. } | Record::Receipt(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::sample;

    #[test]
    fn every_kind_of_line_reads_back_as_it_was_written() {
        for line in sample::log() {
            let line = line.strip_suffix(b"\n").unwrap();
            let entry = decode(line).unwrap();
            assert_eq!(encode(&entry).unwrap(), line, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn every_step_of_a_hold_reads_back_as_it_was_written() {
        for event in sample::hold_events() {
            let prev = LineHash::NONE.to_string();
            let record = sample::hold(2, event);
            let entry = Entry { seq: 7, at: sample::at(0), prev, record };
            let line = encode(&entry).unwrap();
            assert_eq!(decode(&line).unwrap(), entry, "{}", String::from_utf8_lossy(&line));
        }
    }

    #[test]
    fn what_the_planner_is_asked_reads_back_as_it_was_written() {
        let prev = LineHash::NONE.to_string();
        let entry = Entry { seq: 7, at: sample::at(0), prev, record: sample::planned(2) };
        let line = encode(&entry).unwrap();
        assert_eq!(decode(&line).unwrap(), entry);
        assert!(String::from_utf8_lossy(&line).contains(r#""type":"planned","connection":1"#));
    }

    #[test]
    fn a_second_spelling_of_a_line_is_refused() {
        let line = String::from_utf8(sample::log()[3].clone()).unwrap();
        let line = line.trim_end();
        decode(line.as_bytes()).unwrap();
        let cases = [
            ("a space", line.replacen(":", ": ", 1)),
            ("an escape", line.replacen("SELECT", r"\u0053ELECT", 1)),
            ("an unknown field", line.replacen("{", r#"{"note":1,"#, 1)),
            ("a field twice", line.replacen("{", r#"{"seq":3,"#, 1)),
            ("the text twice", line.replacen(r#""sql""#, r#""sql":"SELECT 2","sql""#, 1)),
            ("the type twice", line.replacen(r#""type""#, r#""type":"end","type""#, 1)),
            ("another order", {
                let (head, rest) = line.split_once(r#","at""#).unwrap();
                let number = head.trim_start_matches('{');
                format!(r#"{{"at"{},{number}}}"#, rest.trim_end_matches('}'))
            }),
            ("more digits of time", line.replacen(r#"3Z""#, r#"30Z""#, 1)),
            ("a byte order mark", format!("\u{feff}{line}")),
            ("a carriage return", format!("{line}\r")),
            ("two objects", format!("{line}{line}")),
            ("nothing", String::new()),
            ("deep nesting", "[".repeat(100_000)),
        ];
        for (case, text) in cases {
            assert_ne!(text, line, "{case}");
            assert!(decode(text.as_bytes()).is_err(), "{case}: {text:.200}");
        }
        assert_eq!(decode(b"\xff\xfe{}"), Err(LineError::NotJson));
    }

    #[test]
    fn an_overlong_line_costs_no_more_memory_than_the_longest() {
        let mut log = vec![b'x'; LONGEST_LINE + 10];
        log.extend_from_slice(b"\nnext\nlast");
        let lines = Lines::new(log.as_slice()).map(Result::unwrap).collect::<Vec<_>>();
        assert_eq!(lines.len(), 3);
        assert_eq!((lines[0].bytes.len(), lines[0].ended), (LONGEST_LINE + 1, true));
        assert_eq!(lines[0].decode(), Err(LineError::TooLong));
        assert_eq!((lines[1].bytes.as_slice(), lines[1].number), (b"next".as_slice(), 2));
        assert_eq!((lines[2].bytes.as_slice(), lines[2].ended), (b"last".as_slice(), false));
    }

    #[test]
    fn a_hash_reads_only_lower_case_hexadecimal_of_its_length() {
        let hash = LineHash::of(b"line");
        assert_eq!(LineHash::from_hex(&hash.to_string()), Some(hash));
        for text in ["", "00", &"G".repeat(64), &"AA".repeat(32), &"0".repeat(66), &"é".repeat(32)]
        {
            assert_eq!(LineHash::from_hex(text), None, "{text}");
        }
    }
}
