//! Reading the two usual lines of a log without building their records: what whoever
//! receives a log needs of a statement and of its completion.
//!
//! A busy session writes two lines a statement, and reading one back in full costs more
//! than running it. Owns the spelling of these lines from a reader's view: it says of a line
//! that it is exactly what [`encode`](super::encode) makes of some record, or nothing.

use std::collections::HashSet;

use jiff::Timestamp;

use super::{Entry, LONGEST_LINE, LineError, LineHash, Record, line::decode, moment};

/// Verdicts that are remembered at once: a session's statements have few.
const MOST_VERDICTS: usize = 64;
/// The longest that is remembered, in bytes.
const LONGEST_VERDICT: usize = 4 * 1024;

/// A line that is spelled as pgate spells it.
#[derive(Debug)]
pub(super) enum Read {
    /// A statement's.
    Statement(Place),
    /// A completion's.
    Completion(Place),
    /// Any other.
    Other(Box<Entry>),
}

/// Where a line belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) seq: u64,
    pub(super) prev: LineHash,
}

impl Read {
    /// Where it belongs.
    pub(super) fn place(&self) -> Place {
        match self {
            Self::Statement(place) | Self::Completion(place) => *place,
            Self::Other(entry) => Place { seq: entry.seq, prev: entry.prev },
        }
    }

    /// Whether it may follow the end of a log.
    pub(super) fn is_signature(&self) -> bool {
        match self {
            Self::Statement(_) | Self::Completion(_) => false,
            Self::Other(entry) => entry.record.is_signature(),
        }
    }
}

/// Reads the lines of one log.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// How statements that were read in full went on behind their values: with their
    /// verdicts. The parts of a line don't depend on each other.
    verdicts: HashSet<Vec<u8>>,
}

impl Reader {
    /// Reads a line, given without its line feed, as strictly as [`decode`].
    pub(super) fn read(&mut self, line: &[u8]) -> Result<Read, LineError> {
        if line.len() > LONGEST_LINE {
            return Err(LineError::TooLong);
        }
        let scanned = scan(line);
        match scanned {
            Some(Scanned::Completion(place)) => return Ok(Read::Completion(place)),
            Some(Scanned::Statement(place, verdict)) if self.verdicts.contains(verdict) => {
                return Ok(Read::Statement(place));
            }
            Some(Scanned::Statement(..)) | None => {}
        }
        let entry = decode(line)?;
        match (&entry.record, scanned) {
            (Record::Statement(_), Some(Scanned::Statement(place, verdict))) => {
                if self.verdicts.len() < MOST_VERDICTS && verdict.len() <= LONGEST_VERDICT {
                    self.verdicts.insert(verdict.to_vec());
                }
                Ok(Read::Statement(place))
            }
            _ => Ok(Read::Other(Box::new(entry))),
        }
    }
}

/// What a line says, as far as it has been looked at.
enum Scanned<'a> {
    Completion(Place),
    /// A statement, if what follows its values is a verdict's spelling.
    Statement(Place, &'a [u8]),
}

/// `None` where the line is another, or may be spelled in another way.
fn scan(line: &[u8]) -> Option<Scanned<'_>> {
    let mut rest = Rest(std::str::from_utf8(line).ok()?);
    rest.expect(r#"{"seq":"#)?;
    let seq = rest.number()?;
    rest.expect(r#","at":""#)?;
    rest.moment()?;
    rest.expect(r#"","prev":""#)?;
    let prev = LineHash::from_hex(rest.until('"')?)?;
    rest.expect(r#"","type":""#)?;
    let place = Place { seq, prev };
    match rest.until('"')? {
        "statement" => {
            rest.statement()?;
            Some(Scanned::Statement(place, rest.0.as_bytes()))
        }
        "completion" => {
            rest.completion()?;
            rest.0.is_empty().then_some(Scanned::Completion(place))
        }
        _ => None,
    }
}

/// What is left of a line.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn statement(&mut self) -> Option<()> {
        self.ids()?;
        self.expect(r#","protocol":""#)?;
        if !matches!(self.until('"')?, "simple" | "parse" | "execute" | "function") {
            return None;
        }
        self.expect(r#"","sql":"#)?;
        self.string()?;
        if self.expect(r#","parameters":["#).is_some() {
            self.value()?;
            while self.expect(",").is_some() {
                self.value()?;
            }
            self.expect("]")?;
        }
        self.expect(",")
    }

    fn completion(&mut self) -> Option<()> {
        self.ids()?;
        if self.expect(r#","tag":"#).is_some() {
            self.string()?;
        }
        for name in [r#","rows":"#, r#","bytes":"#, r#","duration_us":"#] {
            self.expect(name)?;
            self.number()?;
        }
        if self.expect(r#","sqlstate":"#).is_some() {
            self.string()?;
        }
        self.expect("}")
    }

    fn ids(&mut self) -> Option<()> {
        self.expect(r#"","connection":"#)?;
        u32::try_from(self.number()?).ok()?;
        self.expect(r#","statement":"#)?;
        self.number()?;
        Some(())
    }

    /// A bound value; one that was cut is too rare to be read here.
    fn value(&mut self) -> Option<()> {
        if self.expect(r#""null""#).is_some() {
            return Some(());
        }
        if self.expect(r#"{"text":"#).is_none() {
            self.expect(r#"{"binary":"#)?;
        }
        self.string()?;
        self.expect("}")
    }

    fn expect(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// What stands before a character, which stays.
    fn until(&mut self, end: char) -> Option<&'a str> {
        let (before, rest) = self.0.split_at(self.0.find(end)?);
        self.0 = rest;
        Some(before)
    }

    /// A number without zeros before it.
    fn number(&mut self) -> Option<u64> {
        let length = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.0.split_at_checked(length)?;
        if digits.len() > 1 && digits.starts_with('0') {
            return None;
        }
        self.0 = rest;
        digits.parse().ok()
    }

    /// A moment in whole microseconds, spelled as it is displayed.
    fn moment(&mut self) -> Option<()> {
        let text = self.until('"')?;
        let at = text.parse::<Timestamp>().ok()?;
        let mut displayed = Vec::with_capacity(text.len());
        moment::put(at, &mut displayed);
        (displayed == text.as_bytes()).then_some(())
    }

    /// A string, with the escapes that the writer uses and no others: a short one where
    /// there is one, and for other control characters `\u00` and two lower-case digits.
    fn string(&mut self) -> Option<()> {
        let bytes = self.0.strip_prefix('"')?.as_bytes();
        let mut at = 0;
        loop {
            match bytes.get(at)? {
                b'"' => break,
                b'\\' => match bytes.get(at + 1)? {
                    b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                    b'u' => {
                        let digits = std::str::from_utf8(bytes.get(at + 2..at + 6)?).ok()?;
                        let code = digits.strip_prefix("00").filter(|low| low.len() == 2)?;
                        if code.bytes().any(|digit| !matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
                            return None;
                        }
                        match u8::from_str_radix(code, 16).ok()? {
                            0x08 | 0x09 | 0x0a | 0x0c | 0x0d => return None,
                            control if control < 0x20 => at += 6,
                            _ => return None,
                        }
                    }
                    _ => return None,
                },
                0x20.. => at += 1,
                _ => return None,
            }
        }
        // Behind the opening quote and the closing one.
        self.0 = self.0.get(at + 2..)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::{
        Completion, Parameter, Protocol, StatementRecord, encode,
        sample::{self, at},
    };

    fn line(seq: u64, microseconds: i64, record: Record) -> Vec<u8> {
        let at = Timestamp::from_microsecond(microseconds).unwrap();
        encode(&Entry { seq, at, prev: LineHash::of(&seq.to_be_bytes()), record }).unwrap()
    }

    fn completion(tag: Option<String>, rows: u64, sqlstate: Option<String>) -> Record {
        let (bytes, duration_us) = (rows ^ 7, rows / 3);
        let (connection, statement) = (2, rows % 10);
        Record::Completion(Completion {
            connection,
            statement,
            tag,
            rows,
            bytes,
            duration_us,
            sqlstate,
        })
    }

    fn statement(sql: &str, protocol: Protocol, parameters: Vec<Parameter>) -> Record {
        let Record::Statement(statement) = sample::statement(4, sql) else { unreachable!() };
        let parameters = parameters.into();
        Record::Statement(Box::new(StatementRecord { protocol, parameters, ..*statement }))
    }

    /// Whoever receives a log takes exactly what [`decode`] takes, and sees the same.
    fn agrees(reader: &mut Reader, line: &[u8]) {
        match (decode(line), reader.read(line)) {
            (Ok(entry), Ok(read)) => {
                assert_eq!(read.place(), Place { seq: entry.seq, prev: entry.prev });
                assert_eq!(read.is_signature(), entry.record.is_signature());
                match (&read, &entry.record) {
                    (Read::Statement(_), Record::Statement(_))
                    | (Read::Completion(_), Record::Completion(_)) => {}
                    (Read::Other(other), _) => assert_eq!(**other, entry),
                    (read, record) => panic!("{read:?} of {record:?}"),
                }
            }
            (Err(expected), Err(error)) => assert_eq!(error, expected),
            (decoded, read) => {
                panic!("{decoded:?} but {read:?}: {}", String::from_utf8_lossy(line))
            }
        }
    }

    fn protocols() -> impl Strategy<Value = Protocol> {
        prop_oneof![
            Just(Protocol::Simple),
            Just(Protocol::Parse),
            Just(Protocol::Execute),
            Just(Protocol::Function),
        ]
    }

    fn parameters() -> impl Strategy<Value = Parameter> {
        prop_oneof![
            Just(Parameter::Null),
            "(?s).{0,12}".prop_map(Parameter::Text),
            "[A-Za-z0-9+/=]{0,8}".prop_map(Parameter::Binary),
            any::<u64>().prop_map(|bytes| Parameter::Cut { bytes, sha256: "0".repeat(64) }),
        ]
    }

    fn records() -> impl Strategy<Value = Record> {
        let text = "(?s)[\u{0}-\u{ff}]{0,20}";
        prop_oneof![
            (proptest::option::of(text), any::<u64>(), proptest::option::of("[0-9A-Z]{5}"))
                .prop_map(|(tag, rows, sqlstate)| completion(tag, rows, sqlstate)),
            (text, protocols(), proptest::collection::vec(parameters(), 0..4))
                .prop_map(|(sql, protocol, values)| statement(&sql, protocol, values)),
        ]
    }

    #[test]
    fn every_kind_of_line_is_read_as_in_full_and_the_usual_ones_quickly() {
        let mut reader = Reader::default();
        for line in sample::log() {
            agrees(&mut reader, line.strip_suffix(b"\n").unwrap());
        }
        let usual = [
            statement("SELECT 1", Protocol::Simple, vec![]),
            statement("SELECT 2", Protocol::Execute, vec![Parameter::Text("\u{1}\n".into())]),
            completion(Some("SELECT 1".into()), 5, None),
            completion(None, 5, Some("57014".into())),
        ];
        for (record, known) in usual.into_iter().zip([false, true, true, true]) {
            let line = line(9, at(3).as_microsecond(), record);
            let quickly = match scan(&line) {
                Some(Scanned::Statement(_, verdict)) => reader.verdicts.contains(verdict),
                Some(Scanned::Completion(_)) => true,
                None => false,
            };
            assert!(quickly || !known, "{}", String::from_utf8_lossy(&line));
            agrees(&mut reader, &line);
        }
    }

    proptest! {
        #[test]
        fn any_line_and_any_change_of_it_is_read_as_in_full(
            record in records(),
            microseconds in 0_i64..4_000_000_000_000_000,
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            moved in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let mut reader = Reader::default();
            let mut line = line(3, microseconds, record);
            agrees(&mut reader, &line);
            agrees(&mut reader, &line);
            let [one, other] = [moved.0.index(line.len()), moved.1.index(line.len())];
            let mut swapped = line.clone();
            swapped.swap(one, other);
            agrees(&mut reader, &swapped);
            let mut doubled = line.clone();
            doubled.splice(one..one, line[one.min(other)..one.max(other)].to_vec());
            agrees(&mut reader, &doubled);
            for (at, byte) in changes {
                let at = at.index(line.len());
                line[at] = byte;
            }
            agrees(&mut reader, &line);
        }

        #[test]
        fn every_spelling_of_a_string_is_judged_as_in_full(
            inner in "(\\\\[\"\\\\/bfnrtu]|[\u{0}-\u{9f}é]|00[01][0-9a-fA-F]|\\\\u00[01][0-9a-fA-F]){0,6}",
        ) {
            let mut reader = Reader::default();
            let model = line(3, 5, statement("SQL", Protocol::Simple, vec![]));
            agrees(&mut reader, &model);
            let text = String::from_utf8(model).unwrap().replacen("SQL", &inner, 1);
            agrees(&mut reader, text.as_bytes());
        }

        #[test]
        fn every_spelling_of_a_number_and_of_a_moment_is_judged_as_in_full(
            number in "[+-]?[0-9]{1,22}|1e3|0x1|1\\.0",
            moment in "[0-9]{4}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,10})?[Zz]?",
        ) {
            let mut reader = Reader::default();
            let model = line(3, 5, completion(None, 123_456_789, None));
            let text = String::from_utf8(model).unwrap();
            agrees(&mut reader, text.replacen("123456789", &number, 1).as_bytes());
            agrees(&mut reader, text.replacen("1970-01-01T00:00:00.000005Z", &moment, 1).as_bytes());
            agrees(&mut reader, text.replacen(r#""connection":2"#, &format!(r#""connection":{number}"#), 1).as_bytes());
        }
    }
}
