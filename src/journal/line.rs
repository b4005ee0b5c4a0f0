//! One line of a log as bytes: how it is written, read back strictly, and hashed.

use std::{
    fmt,
    io::{self, BufRead, Read},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Completion, Entry, Parameter, Protocol, Record, StatementRecord, moment};

/// The longest line, in bytes without its line feed. Writers refuse to make a longer one.
pub const LONGEST_LINE: usize = 16 * 1024 * 1024;
/// What most lines are shorter than, in bytes.
const USUAL_LINE: usize = 512;

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

    /// 64 lower-case hexadecimal digits. By a table: each line of a log names the one before,
    /// and formatting byte by byte costs more than hashing the line.
    fn to_hex(self) -> [u8; 64] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 64];
        for (pair, byte) in hex.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]];
        }
        hex
    }

    /// Reads 64 lower-case hexadecimal digits; anything else is `None`.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let hex: &[u8; 64] = text.as_bytes().try_into().ok()?;
        let mut hash = [0; 32];
        for (byte, &[high, low]) in hash.iter_mut().zip(hex.as_chunks::<2>().0) {
            *byte = digit(high)? << 4 | digit(low)?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.to_hex()).expect("digits"))
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
    let mut line = Vec::with_capacity(USUAL_LINE);
    let Entry { seq, at, prev, record } = entry;
    encode_into(*seq, *at, prev, record, &mut line)?;
    Ok(line)
}

/// Puts an entry's bytes behind those in `out`, without a line feed; `out` stays as it was
/// where that fails. A session writes two lines a statement, so nothing is built twice.
pub(super) fn encode_into(
    seq: u64,
    at: Timestamp,
    prev: &LineHash,
    record: &Record,
    out: &mut Vec<u8>,
) -> Result<(), LineError> {
    let begins = out.len();
    text(r#"{"seq":"#, out);
    number(seq, out);
    text(r#","at":""#, out);
    moment::put(at, out);
    text(r#"","prev":""#, out);
    out.extend_from_slice(&prev.to_hex());
    out.push(b'"');
    let written = match record {
        Record::Statement(statement) => statement.go_on(out),
        Record::Completion(completion) => completion.go_on(out),
        _ => go_on(record, out),
    };
    let written = match written {
        Ok(()) if out.len() - begins > LONGEST_LINE => Err(LineError::TooLong),
        written => written,
    };
    if written.is_err() {
        out.truncate(begins);
    }
    written
}

/// Lets an object that has a field at least go on with the fields of `value`'s own object.
fn go_on(value: &impl Serialize, out: &mut Vec<u8>) -> Result<(), LineError> {
    let joint = out.len();
    json(value, out)?;
    match out.get_mut(joint) {
        Some(brace @ b'{') => {
            *brace = b',';
            Ok(())
        }
        _ => Err(LineError::NotARecord),
    }
}

fn json(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) -> Result<(), LineError> {
    serde_json::to_writer(out, value).map_err(|_| LineError::NotARecord)
}

#[inline]
fn text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_bytes());
}

fn number(number: u64, out: &mut Vec<u8>) {
    text(itoa::Buffer::new().format(number), out);
}

/// The two records that every statement makes are written field by field, as their
/// `Serialize` would: it goes through a map for what is flattened.
impl StatementRecord {
    fn go_on(&self, out: &mut Vec<u8>) -> Result<(), LineError> {
        let Self { connection, statement, protocol, sql, parameters, verdict } = self;
        text(r#","type":"statement","connection":"#, out);
        number((*connection).into(), out);
        text(r#","statement":"#, out);
        number(*statement, out);
        text(
            match protocol {
                Protocol::Simple => r#","protocol":"simple","sql":"#,
                Protocol::Parse => r#","protocol":"parse","sql":"#,
                Protocol::Execute => r#","protocol":"execute","sql":"#,
                Protocol::Function => r#","protocol":"function","sql":"#,
            },
            out,
        );
        json(&**sql, out)?;
        for (at, parameter) in parameters.iter().enumerate() {
            text(if at == 0 { r#","parameters":["# } else { "," }, out);
            parameter.put(out)?;
        }
        if !parameters.is_empty() {
            out.push(b']');
        }
        let verdict = verdict.json().strip_prefix('{').ok_or(LineError::NotARecord)?;
        out.push(b',');
        text(verdict, out);
        Ok(())
    }
}

impl Parameter {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), LineError> {
        let (begins, value) = match self {
            Self::Null => {
                text(r#""null""#, out);
                return Ok(());
            }
            Self::Text(value) => (r#"{"text":"#, value),
            Self::Binary(value) => (r#"{"binary":"#, value),
            Self::Cut { .. } => return json(self, out),
        };
        text(begins, out);
        json(value, out)?;
        out.push(b'}');
        Ok(())
    }
}

impl Completion {
    fn go_on(&self, out: &mut Vec<u8>) -> Result<(), LineError> {
        let Self { connection, statement, tag, rows, bytes, duration_us, sqlstate } = self;
        text(r#","type":"completion","connection":"#, out);
        number((*connection).into(), out);
        text(r#","statement":"#, out);
        number(*statement, out);
        if let Some(tag) = tag {
            text(r#","tag":"#, out);
            json(tag, out)?;
        }
        for (name, value) in
            [(r#","rows":"#, rows), (r#","bytes":"#, bytes), (r#","duration_us":"#, duration_us)]
        {
            text(name, out);
            number(*value, out);
        }
        if let Some(sqlstate) = sqlstate {
            text(r#","sqlstate":"#, out);
            json(sqlstate, out)?;
        }
        out.push(b'}');
        Ok(())
    }
}

/// Reads a line, given without its line feed. Only the exact bytes that [`encode`]
/// makes are read, so that what a person is shown is all that the line holds:
/// duplicate fields, unknown fields and second spellings are errors.
pub fn decode(line: &[u8]) -> Result<Entry, LineError> {
    if line.len() > LONGEST_LINE {
        return Err(LineError::TooLong);
    }
    let entry = match read_quickly(line) {
        Some(entry) => entry,
        None => serde_json::from_slice(line).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => LineError::NotARecord,
            _ => LineError::NotJson,
        })?,
    };
    if encode(&entry)? == line { Ok(entry) } else { Err(LineError::NotCanonical) }
}

/// Reads a line that is spelled as [`encode`] spells it: its parts stand where they are
/// expected, so none has to be kept until the type is known. It may misread any other, but
/// nothing that encodes to these very bytes.
fn read_quickly(line: &[u8]) -> Option<Entry> {
    let text = str::from_utf8(line).ok()?;
    let (seq, rest) = text.strip_prefix(r#"{"seq":"#)?.split_once(r#","at":""#)?;
    let (at, rest) = rest.split_once(r#"","prev":""#)?;
    let (prev, rest) = rest.split_once(r#"","type":""#)?;
    let (kind, fields) = rest.split_once(r#"","#)?;
    let object = || format!("{{{fields}");
    let record = match kind {
        "statement" => Record::Statement(serde_json::from_str(&object()).ok()?),
        "completion" => Record::Completion(serde_json::from_str(&object()).ok()?),
        "results" => Record::Results(serde_json::from_str(&object()).ok()?),
        _ => return None,
    };
    Some(Entry {
        seq: seq.parse().ok()?,
        at: at.parse().ok()?,
        prev: LineHash::from_hex(prev)?,
        record,
    })
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

    /// What this module writes by hand is what the records' own definition says.
    #[test]
    fn every_kind_of_line_is_written_as_its_record_is_defined() {
        let mut lines = sample::log();
        let failed = Completion {
            connection: 1,
            statement: 2,
            tag: None,
            rows: 0,
            bytes: u64::MAX,
            duration_us: 7,
            sqlstate: Some("57014".into()),
        };
        let quoted = sample::statement(3, "SELECT '\"\\\n'");
        let mut records = vec![Record::Completion(failed), quoted.clone()];
        for protocol in [Protocol::Simple, Protocol::Parse, Protocol::Execute, Protocol::Function] {
            let Record::Statement(statement) = &quoted else { unreachable!() };
            records.push(Record::Statement(Box::new(StatementRecord {
                protocol,
                parameters: match protocol {
                    Protocol::Parse => [].into(),
                    _ => [
                        Parameter::Binary("AAEC".into()),
                        Parameter::Cut { bytes: 9000, sha256: "0".repeat(64) },
                        Parameter::Text(String::new()),
                        Parameter::Null,
                    ]
                    .into(),
                },
                ..(**statement).clone()
            })));
        }
        for (seq, record) in records.into_iter().enumerate() {
            let (seq, prev) = (seq as u64, LineHash::of(b"before"));
            lines.push(encode(&Entry { seq, at: sample::at(0), prev, record }).unwrap());
        }
        for line in lines {
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            let entry = serde_json::from_slice::<Entry>(line).unwrap();
            assert_eq!(
                String::from_utf8_lossy(&serde_json::to_vec(&entry).unwrap()),
                String::from_utf8_lossy(line)
            );
            assert_eq!(decode(line), Ok(entry));
        }
    }

    #[test]
    fn every_step_of_a_hold_reads_back_as_it_was_written() {
        for event in sample::hold_events() {
            let prev = LineHash::NONE;
            let record = sample::hold(2, event);
            let entry = Entry { seq: 7, at: sample::at(0), prev, record };
            let line = encode(&entry).unwrap();
            assert_eq!(decode(&line).unwrap(), entry, "{}", String::from_utf8_lossy(&line));
        }
    }

    #[test]
    fn what_the_planner_is_asked_reads_back_as_it_was_written() {
        let prev = LineHash::NONE;
        let entry = Entry { seq: 7, at: sample::at(0), prev, record: sample::planned(2) };
        let line = encode(&entry).unwrap();
        assert_eq!(decode(&line).unwrap(), entry);
        assert!(String::from_utf8_lossy(&line).contains(r#""type":"planned","connection":1"#));
    }

    #[test]
    fn results_read_back_as_they_were_written_in_one_spelling() {
        let prev = LineHash::NONE;
        let entry = Entry { seq: 7, at: sample::at(0), prev, record: sample::results(2) };
        let line = String::from_utf8(encode(&entry).unwrap()).unwrap();
        assert_eq!(decode(line.as_bytes()).unwrap(), entry);
        assert_eq!(serde_json::from_str::<Entry>(&line).unwrap(), entry);
        let said = concat!(
            r#""type":"results","connection":1,"statement":2,"sets":[{"columns":["#,
            r#"{"name":"id","type":23,"format":"binary"},{"name":"e","type":25,"format":"text"}],"#,
            r#""rows":[[{"binary":"AAAAAQ=="},"a***@example.com"],[null,{"cut":{"bytes":9000,"#,
        );
        assert!(line.contains(said), "{line}");
        for (case, other) in [
            ("an unknown field of a value", line.replacen(r#"{"binary""#, r#"{"a":1,"binary""#, 1)),
            ("two kinds at once", line.replacen(r#"{"binary""#, r#"{"cut":null,"binary""#, 1)),
            ("an unknown field of a set", line.replacen(r#"{"columns""#, r#"{"a":1,"columns""#, 1)),
            ("a number for a value", line.replacen("null", "1", 1)),
            (
                "nothing for what was cut",
                line.replacen(r#""cut":{"rows":3,"bytes":40}"#, r#""cut":null"#, 1),
            ),
        ] {
            assert_ne!(other, line, "{case}");
            assert!(decode(other.as_bytes()).is_err(), "{case}: {other}");
        }
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
