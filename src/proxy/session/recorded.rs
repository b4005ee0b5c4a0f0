//! Rows of a role whose results are recorded: held whole, kept as they go to the client,
//! and written into the log before the statement's completion.
//!
//! Owns how much of them is kept. The log has the beginning of what a statement has
//! returned, and says how much is missing: from the first row that isn't kept on, rows are
//! forwarded in ranges like those of any other role. What the client doesn't get (rows over
//! a limit, or behind an error that it was told) never comes here.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    Session,
    client_side::{LONGEST_LOGGED, sha256},
    pending::Run,
};
use crate::{
    journal::{
        CutRows, CutValue, Record, ResultColumn, ResultSet, ResultsRecord, Value, ValueFormat,
    },
    mask::Column,
    wire::{self, HEADER, Header, WireError},
};

/// The most rows of a statement that are kept.
pub(super) const MOST_ROWS: u64 = 1_000;
/// The most bytes of a statement's rows that are kept: of values, and of what each costs
/// beside them. As JSON and in base64 they are a few times as many.
pub(super) const MOST_BYTES: usize = 256 * 1024;
/// The same of its columns. They are counted apart, so that nobody can crowd rows out with
/// names; sets whose columns don't fit are kept without.
pub(super) const MOST_OF_COLUMNS: usize = 64 * 1024;
/// The longest row that is held whole to be kept, in bytes; a longer one streams.
pub(super) const LONGEST_ROW: usize = 1024 * 1024;
/// What a set, a column, a row, a value, and one that is cut cost beside their bytes.
const SET: usize = 32;
const COLUMN: usize = 32;
const ROW: usize = 8;
const VALUE: usize = 4;
const CUT: usize = 128;

/// What is kept of a run's rows.
#[derive(Debug)]
pub(super) struct Recorded {
    sets: Vec<ResultSet>,
    /// Whether the next row belongs to the last set.
    in_set: bool,
    rows: u64,
    /// Bytes of these rows, as they came.
    bytes: u64,
    /// What further rows may cost, and further columns.
    left: usize,
    left_to_columns: usize,
    /// Nothing more is kept.
    full: bool,
}

impl Default for Recorded {
    fn default() -> Self {
        Self {
            sets: Vec::new(),
            in_set: false,
            rows: 0,
            bytes: 0,
            left: MOST_BYTES,
            left_to_columns: MOST_OF_COLUMNS,
            full: false,
        }
    }
}

impl Recorded {
    /// Keeps a row, and the set that it begins, where there is room for both.
    fn keep(&mut self, row: Row<'_>, length: usize) {
        if self.try_keep(row).is_none() {
            self.full = true;
            return;
        }
        self.rows += 1;
        self.bytes += u64::try_from(length).unwrap_or(u64::MAX);
        self.full = self.rows == MOST_ROWS;
    }

    /// The set that begins with a row.
    fn begin(&mut self, row: &Row<'_>) -> ResultSet {
        let cost = row.columns.iter().map(|column| COLUMN + column.name.len()).sum::<usize>();
        let columns = match self.left_to_columns.checked_sub(cost) {
            Some(left) => {
                self.left_to_columns = left;
                row.columns
            }
            None => &[],
        };
        let columns = columns.iter().map(|column| ResultColumn {
            name: column.name.clone(),
            type_oid: column.type_oid,
            format: format_of(column.binary),
        });
        ResultSet { columns: columns.collect(), copy: row.copy, rows: Vec::new() }
    }

    /// None where there isn't room: then nothing is kept.
    fn try_keep(&mut self, row: Row<'_>) -> Option<()> {
        let mut left = self.left.checked_sub(ROW)?;
        let values = row.values.iter().enumerate().map(|(at, value)| {
            let (value, cost) = kept(*value, row.is_binary(at), left);
            left = left.checked_sub(cost)?;
            Some(value)
        });
        let values = values.collect::<Option<Vec<_>>>()?;
        if !self.in_set {
            left = left.checked_sub(SET)?;
            let set = self.begin(&row);
            self.sets.push(set);
            self.in_set = true;
        }
        self.left = left;
        self.sets.last_mut()?.rows.push(values);
        Some(())
    }
}

/// A value as it is kept, where so much is left to it, and what it costs.
fn kept(value: Option<&[u8]>, binary: bool, left: usize) -> (Value, usize) {
    let Some(bytes) = value else { return (Value::Null, VALUE) };
    let cost = VALUE + bytes.len();
    if bytes.len() > LONGEST_LOGGED || (cost > left && cost > CUT) {
        let cut = CutValue {
            bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            sha256: sha256(bytes),
        };
        return (Value::Cut { cut }, CUT);
    }
    let value = match std::str::from_utf8(bytes) {
        Ok(text) if !binary && !text.contains('\0') => Value::Text(text.to_owned()),
        _ => Value::Binary { binary: STANDARD.encode(bytes) },
    };
    (value, cost)
}

/// A row as it goes to the client.
struct Row<'a> {
    /// The format of COPY, where it is what COPY sends.
    copy: Option<ValueFormat>,
    /// As many as there are values; or none, where they aren't known.
    columns: &'a [Column],
    /// The formats that Bind has asked for: for columns that aren't known.
    asked: &'a [bool],
    values: Vec<Option<&'a [u8]>>,
}

impl Row<'_> {
    fn is_binary(&self, at: usize) -> bool {
        match (self.copy, self.columns.get(at)) {
            (Some(format), _) => format == ValueFormat::Binary,
            (None, Some(column)) => column.binary,
            (None, None) => {
                let asked =
                    if self.asked.len() > 1 { self.asked.get(at) } else { self.asked.first() };
                asked.copied().unwrap_or(false)
            }
        }
    }
}

fn format_of(binary: bool) -> ValueFormat {
    if binary { ValueFormat::Binary } else { ValueFormat::Text }
}

impl Run {
    /// Whether a row of so many bytes that comes now is kept, and must be held whole.
    pub(super) fn records(&mut self, length: usize) -> bool {
        if !self.permit.records_results() {
            return false;
        }
        let recorded = self.recorded.get_or_insert_default();
        recorded.full |= length > LONGEST_ROW;
        !recorded.full
    }

    /// A row goes to the client: `sent`, which came with this header.
    pub(super) fn record_row(&mut self, sent: &[u8], header: Header) -> Result<(), WireError> {
        if !self.records(header.length) {
            return Ok(());
        }
        let columns = self.columns();
        let Some(recorded) = &mut self.recorded else { return Ok(()) };
        let row = if header.tag == b'd' {
            let data = sent.get(HEADER..).ok_or(WireError::Malformed("CopyData"))?;
            let copy = Some(format_of(self.copy_binary));
            Row { copy, columns: &[], asked: &[], values: vec![Some(data)] }
        } else {
            let values = wire::data_row_values(sent)?;
            let columns = if columns.len() == values.len() { &columns[..] } else { &[] };
            let asked = self.executes.as_ref().map_or(&[][..], |portal| &portal.binary);
            Row { copy: None, columns, asked, values }
        };
        recorded.keep(row, header.length);
        Ok(())
    }

    /// One result of a Query has come to its end.
    pub(super) fn end_set(&mut self) {
        if let Some(recorded) = &mut self.recorded {
            recorded.in_set = false;
        }
    }

    /// What the log keeps of its rows, once; none where there were none.
    fn results(&mut self, connection: u32) -> Option<Record> {
        let recorded = self.recorded.take()?;
        let rows = self.rows.saturating_sub(recorded.rows);
        let bytes = self.bytes.saturating_sub(recorded.bytes);
        (self.rows > 0).then(|| {
            Record::Results(Box::new(ResultsRecord {
                connection,
                statement: self.permit.statement(),
                sets: recorded.sets,
                cut: (rows > 0).then_some(CutRows { rows, bytes }),
            }))
        })
    }
}

impl Session {
    /// Writes what is kept of a run's rows into the log.
    pub(super) fn record_results(&mut self, run: &mut Run) {
        if let Some(results) = run.results(self.config.connection) {
            self.record(results);
        }
    }

    /// The same for the run whose rows were coming as the connection ended: the client has
    /// got them.
    pub(super) fn record_unfinished(&mut self) {
        let connection = self.config.connection;
        if let Some(results) = self.pending.run().and_then(|run| run.results(connection)) {
            self.record(results);
        }
    }
}
