//! Compares what a RowDescription says of its fields with the masked columns.

use std::{collections::HashSet, sync::Arc};

use crate::sql::{AttributeNumber, Oid};

/// The masked columns that may not appear in any result.
#[derive(Debug, Clone, Default)]
pub struct Tripwire {
    masked: Arc<HashSet<(Oid, AttributeNumber)>>,
}

/// A masked column that appeared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tripped {
    /// The field's place in the row, from 0.
    pub field: usize,
    /// The table.
    pub table: Oid,
    /// The column.
    pub column: AttributeNumber,
}

/// A RowDescription that can't be read; what follows it must not pass either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server's description of a row is cut off or too long")]
pub struct TripwireError;

/// The bytes of a field after its name: type OID, type size, type modifier and format.
const AFTER_ORIGIN: usize = 4 + 2 + 4 + 2;

impl Tripwire {
    /// A tripwire for these columns.
    pub fn new(masked: Arc<HashSet<(Oid, AttributeNumber)>>) -> Self {
        Self { masked }
    }

    /// Looks through the body of a RowDescription: everything after its type and
    /// length (PostgreSQL manual, 55.7), and says which masked columns it has.
    ///
    /// # Errors
    /// Where it ends before its fields do, or doesn't end with them.
    pub fn check(&self, body: &[u8]) -> Result<Vec<Tripped>, TripwireError> {
        let (count, mut rest) = body.split_first_chunk::<2>().ok_or(TripwireError)?;
        let mut tripped = Vec::new();
        for field in 0..usize::from(u16::from_be_bytes(*count)) {
            let end = rest.iter().position(|byte| *byte == 0).ok_or(TripwireError)?;
            let after_name = rest.get(end + 1..).ok_or(TripwireError)?;
            let (table, after) = after_name.split_first_chunk::<4>().ok_or(TripwireError)?;
            let (column, after) = after.split_first_chunk::<2>().ok_or(TripwireError)?;
            rest = after.get(AFTER_ORIGIN..).ok_or(TripwireError)?;
            let table = Oid(u32::from_be_bytes(*table));
            let column = AttributeNumber(i16::from_be_bytes(*column));
            if self.masked.contains(&(table, column)) {
                tripped.push(Tripped { field, table, column });
            }
        }
        if rest.is_empty() { Ok(tripped) } else { Err(TripwireError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field's name, table and column.
    type Field = (&'static str, u32, i16);

    fn described(fields: &[Field]) -> Vec<u8> {
        let mut body = u16::try_from(fields.len()).unwrap().to_be_bytes().to_vec();
        for (name, table, column) in fields {
            body.extend(name.as_bytes());
            body.push(0);
            body.extend(table.to_be_bytes());
            body.extend(column.to_be_bytes());
            body.extend([0, 0, 0, 25, 255, 255, 255, 255, 255, 255, 0, 0]);
        }
        body
    }

    fn tripwire() -> Tripwire {
        let masked = [(Oid(16_385), AttributeNumber(4)), (Oid(u32::MAX), AttributeNumber(1))];
        Tripwire::new(Arc::new(HashSet::from(masked)))
    }

    #[test]
    fn a_masked_column_trips_wherever_it_stands_and_whatever_it_is_called() {
        let cases: [(&[Field], &[usize]); 7] = [
            (&[], &[]),
            (&[("email", 0, 0)], &[]),
            (&[("id", 16_385, 1), ("n", 16_386, 4)], &[]),
            (&[("email", 16_385, 4)], &[0]),
            (&[("", 16_385, 4)], &[0]),
            (&[("id", 16_385, 1), ("x", 16_385, 4), ("y", 16_385, 4)], &[1, 2]),
            (&[("z", u32::MAX, 1)], &[0]),
        ];
        for (fields, expected) in cases {
            let tripped = tripwire().check(&described(fields)).unwrap();
            let fields = tripped.iter().map(|tripped| tripped.field).collect::<Vec<_>>();
            assert_eq!(fields, expected);
        }
    }

    #[test]
    fn a_description_cut_at_any_byte_or_too_long_is_no_description() {
        let whole = described(&[("id", 16_385, 1), ("email", 16_385, 4)]);
        for length in 0..whole.len() {
            assert_eq!(tripwire().check(&whole[..length]), Err(TripwireError), "{length}");
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert_eq!(tripwire().check(&longer), Err(TripwireError));
        assert_eq!(tripwire().check(&[255, 255]), Err(TripwireError));
    }
}
