//! The bytes of rows: where the values stand in them, and rows with some replaced.

use bytes::{BufMut as _, BytesMut};

use super::{
    Detected, Detection,
    find::{Match, find, masked},
};
use crate::wire::{Fields, HEADER, WireError};

/// A column of a result, as RowDescription and Bind tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The OID of its type.
    pub type_oid: u32,
    /// Whether its values are in binary format.
    pub binary: bool,
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
    /// In binary: a version byte and JSON.
    Jsonb,
    /// In binary: dimensions and elements.
    Array,
    /// In binary: fields with their types.
    Record,
    /// It may be text, and is looked into where it is UTF-8; or else a record or an array.
    Unknown,
    /// Nothing that is looked into.
    Opaque,
}

/// The first OID that is not PostgreSQL's own.
const FIRST_NORMAL_OID: u32 = 16_384;

/// The deepest array or record in another.
const MAX_DEPTH: u32 = 16;

/// What COPY in binary format begins with.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

impl Form {
    fn of(type_oid: u32, binary: bool) -> Self {
        match type_oid {
            // text, varchar, bpchar, name, cstring, unknown, xml
            25 | 1043 | 1042 | 19 | 2275 | 705 | 142 => Self::Text,
            114 => Self::Json,
            3802 if binary => Self::Jsonb,
            3802 => Self::Json,
            // Arrays of text, varchar, bpchar, name, xml, json, jsonb; records.
            1009 | 1015 | 1014 | 1003 | 143 | 199 | 3807 if binary => Self::Array,
            2249 if binary => Self::Record,
            1009 | 1015 | 1014 | 1003 | 143 | 199 | 3807 | 2249 => Self::Text,
            // Domains are described by their base types: these are enums, extensions'
            // types and composites.
            FIRST_NORMAL_OID.. if binary => Self::Unknown,
            FIRST_NORMAL_OID.. => Self::Text,
            _ => Self::Opaque,
        }
    }
}

impl Detection {
    /// A whole DataRow with what is found in it masked; none where nothing is. Columns
    /// that aren't those of this row are not believed: then every value is looked into.
    ///
    /// # Errors
    /// Where the message isn't a DataRow.
    pub fn data_row(
        &self,
        message: &[u8],
        columns: &[Column],
        detected: &mut Detected,
    ) -> Result<Option<BytesMut>, WireError> {
        let mut fields = Fields::of_message(message, "DataRow")?;
        let count = fields.count()?;
        let known = columns.len() == usize::from(count);
        let mut values = Vec::with_capacity(usize::from(count));
        let mut changed = false;
        for at in 0..usize::from(count) {
            let value = fields.value()?;
            let column = columns.get(at).filter(|_| known);
            let form =
                column.map_or(Form::Unknown, |column| Form::of(column.type_oid, column.binary));
            let name = column.map_or("?", |column| column.name.as_str());
            let new = value.and_then(|value| self.value(value, form, name, detected, 0));
            changed |= new.is_some();
            values.push(match new {
                Some(new) => Some(std::borrow::Cow::Owned(new)),
                None => value.map(std::borrow::Cow::Borrowed),
            });
        }
        fields.end()?;
        if !changed {
            return Ok(None);
        }
        let mut body = count.to_be_bytes().to_vec();
        for value in &values {
            field(value.as_deref(), &mut body)?;
        }
        framed(b'D', &body).map(Some)
    }

    /// A whole CopyData of a COPY to the client with what is found in it masked; none
    /// where nothing is. In text, COPY doesn't say what is a number: all of it is looked into.
    ///
    /// # Errors
    /// Where the data isn't what COPY sends in binary format.
    pub fn copy_data(
        &self,
        message: &[u8],
        binary: bool,
        detected: &mut Detected,
    ) -> Result<Option<BytesMut>, WireError> {
        let data = message.get(HEADER..).ok_or(WireError::Malformed("CopyData"))?;
        if !binary {
            let new = self.value(data, Form::Text, "", detected, 0);
            return new.map(|new| framed(b'd', &new)).transpose();
        }
        let mut fields = Fields::new(data, "CopyData");
        let mut body = Vec::with_capacity(data.len());
        if data.starts_with(SIGNATURE) {
            body.extend_from_slice(fields.take(SIGNATURE.len())?);
            body.extend_from_slice(fields.take(4)?);
            let extension = fields.u32()?;
            body.extend_from_slice(&extension.to_be_bytes());
            let length = usize::try_from(extension).unwrap_or(usize::MAX);
            body.extend_from_slice(fields.take(length)?);
        }
        let mut changed = false;
        while !fields.rest().is_empty() {
            let count = fields.i16()?;
            body.extend_from_slice(&count.to_be_bytes());
            // The trailer is a count of -1.
            for _ in 0..count.max(0) {
                let value = fields.value()?;
                let new = value.and_then(|value| self.value(value, Form::Unknown, "", detected, 0));
                changed |= new.is_some();
                field(new.as_deref().or(value), &mut body)?;
            }
        }
        if changed { framed(b'd', &body).map(Some) } else { Ok(None) }
    }

    /// A value with what is found in it masked.
    fn value(
        &self,
        value: &[u8],
        form: Form,
        column: &str,
        detected: &mut Detected,
        depth: u32,
    ) -> Option<Vec<u8>> {
        let structured =
            |new: Option<(Vec<u8>, bool)>| new.and_then(|(new, changed)| changed.then_some(new));
        match form {
            Form::Opaque => None,
            Form::Text | Form::Json => self.text(value, form == Form::Json, column, detected),
            Form::Unknown => {
                if std::str::from_utf8(value).is_ok() && !value.contains(&0) {
                    return self.text(value, false, column, detected);
                }
                [Form::Record, Form::Array]
                    .into_iter()
                    .find_map(|form| self.value(value, form, column, detected, depth))
            }
            Form::Jsonb => {
                let (version, json) = value.split_first()?;
                let mut new = vec![*version];
                new.extend(self.text(json, true, column, detected)?);
                Some(new)
            }
            Form::Array | Form::Record if depth >= MAX_DEPTH => None,
            Form::Array | Form::Record => {
                // What is found counts once the whole has turned out to be one.
                let mut found = Detected::new();
                let new = match form {
                    Form::Array => self.array(value, column, &mut found, depth + 1),
                    _ => self.record(value, column, &mut found, depth + 1),
                };
                let new = structured(new.ok())?;
                for (place, count) in found {
                    *detected.entry(place).or_default() += count;
                }
                Some(new)
            }
        }
    }

    fn text(
        &self,
        text: &[u8],
        json: bool,
        column: &str,
        detected: &mut Detected,
    ) -> Option<Vec<u8>> {
        let found = find(text, &self.detectors);
        if found.is_empty() {
            return None;
        }
        let mut new = Vec::with_capacity(text.len());
        let mut from = 0;
        let mut strings = Strings::default();
        for Match { kind, range } in found {
            let between = text.get(from..range.start).unwrap_or_default();
            strings.read(between);
            new.extend_from_slice(between);
            let value = text.get(range.clone()).unwrap_or_default();
            strings.read(value);
            if json && !strings.inside {
                // A number of JSON must stay one.
                new.push(b'0');
            } else {
                new.extend(masked(kind, value));
            }
            *detected.entry((column.to_owned(), kind.name())).or_default() += 1;
            from = range.end;
        }
        new.extend_from_slice(text.get(from..).unwrap_or_default());
        Some(new)
    }

    /// An array in binary format, and whether anything in it changed (PostgreSQL:
    /// `array_send`).
    fn array(
        &self,
        value: &[u8],
        column: &str,
        detected: &mut Detected,
        depth: u32,
    ) -> Result<(Vec<u8>, bool), WireError> {
        let mut fields = Fields::new(value, "array");
        let dimensions = fields.u32()?;
        let mut new = dimensions.to_be_bytes().to_vec();
        new.extend_from_slice(fields.take(4)?);
        let element = fields.u32()?;
        new.extend_from_slice(&element.to_be_bytes());
        for _ in 0..dimensions {
            new.extend_from_slice(fields.take(8)?);
        }
        let mut changed = false;
        while !fields.rest().is_empty() {
            let value = fields.value()?;
            let form = Form::of(element, true);
            let masked = value.and_then(|value| self.value(value, form, column, detected, depth));
            changed |= masked.is_some();
            field(masked.as_deref().or(value), &mut new)?;
        }
        Ok((new, changed))
    }

    /// A record in binary format (PostgreSQL: `record_send`).
    fn record(
        &self,
        value: &[u8],
        column: &str,
        detected: &mut Detected,
        depth: u32,
    ) -> Result<(Vec<u8>, bool), WireError> {
        let mut fields = Fields::new(value, "record");
        let count = fields.u32()?;
        let mut new = count.to_be_bytes().to_vec();
        let mut changed = false;
        for _ in 0..count {
            let type_oid = fields.u32()?;
            new.extend_from_slice(&type_oid.to_be_bytes());
            let value = fields.value()?;
            let form = Form::of(type_oid, true);
            let masked = value.and_then(|value| self.value(value, form, column, detected, depth));
            changed |= masked.is_some();
            field(masked.as_deref().or(value), &mut new)?;
        }
        fields.end()?;
        Ok((new, changed))
    }
}

/// Whether a place of a JSON text is inside a string.
#[derive(Debug, Default)]
struct Strings {
    inside: bool,
    escaped: bool,
}

impl Strings {
    fn read(&mut self, text: &[u8]) {
        for byte in text {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = self.inside,
                b'"' => self.inside = !self.inside,
                _ => {}
            }
        }
    }
}

/// A value with its length before it.
fn field(value: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), WireError> {
    let Some(value) = value else {
        out.extend_from_slice(&(-1_i32).to_be_bytes());
        return Ok(());
    };
    let length = i32::try_from(value.len()).map_err(|_| WireError::Malformed("DataRow"))?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value);
    Ok(())
}

fn framed(tag: u8, body: &[u8]) -> Result<BytesMut, WireError> {
    let length = u32::try_from(body.len() + 4).map_err(|_| WireError::Malformed("DataRow"))?;
    let mut message = BytesMut::with_capacity(body.len() + HEADER);
    message.put_u8(tag);
    message.put_u32(length);
    message.put_slice(body);
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Detector;

    fn detection() -> Detection {
        Detection::new(&[Detector::Email, Detector::Card]).unwrap()
    }

    fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
        for value in values {
            field(*value, &mut body).unwrap();
        }
        framed(b'D', &body).unwrap().to_vec()
    }

    /// A value of a type in a format after it has been looked through.
    fn through(type_oid: u32, binary: bool, value: &[u8]) -> Vec<u8> {
        let columns = [Column { name: "c".into(), type_oid, binary }];
        let message = row(&[Some(value)]);
        let new = detection().data_row(&message, &columns, &mut Detected::new()).unwrap();
        let new = new.map_or(message, |new| new.to_vec());
        crate::wire::data_row_values(&new).unwrap()[0].unwrap().to_vec()
    }

    fn array(element: u32, values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut out = [0, 0, 0, 1, 0, 0, 0, 1].to_vec();
        out.extend(element.to_be_bytes());
        out.extend(u32::try_from(values.len()).unwrap().to_be_bytes());
        out.extend(1_u32.to_be_bytes());
        for value in values {
            field(*value, &mut out).unwrap();
        }
        out
    }

    #[test]
    fn values_are_masked_by_type_and_format_and_numbers_stay_numbers() {
        let card = b"4111111111111111";
        let cases: Vec<(u32, bool, Vec<u8>, Vec<u8>)> = vec![
            (25, false, b"a@b.cd".to_vec(), b"a***@b.cd".to_vec()),
            (1043, true, b"a@b.cd".to_vec(), b"a***@b.cd".to_vec()),
            (20, false, card.to_vec(), card.to_vec()),
            (1700, false, card.to_vec(), card.to_vec()),
            (17, false, b"a@b.cd".to_vec(), b"a@b.cd".to_vec()),
            (
                114,
                false,
                br#"{"a": "a@b.cd", "n": 4111111111111111, "s": "x\" 4111111111111111"}"#.to_vec(),
                br#"{"a": "a***@b.cd", "n": 0, "s": "x\" ************1111"}"#.to_vec(),
            ),
            (3802, true, b"\x01[\"a@b.cd\"]".to_vec(), b"\x01[\"a***@b.cd\"]".to_vec()),
            (3802, true, Vec::new(), Vec::new()),
            (1009, false, b"{a@b.cd,NULL,x}".to_vec(), b"{a***@b.cd,NULL,x}".to_vec()),
            (
                1009,
                true,
                array(25, &[Some(b"a@b.cd"), None, Some(b"x")]),
                array(25, &[Some(b"a***@b.cd"), None, Some(b"x")]),
            ),
            (1009, true, b"\0\0\0\x01".to_vec(), b"\0\0\0\x01".to_vec()),
            (2249, false, b"(1,a@b.cd)".to_vec(), b"(1,a***@b.cd)".to_vec()),
            (
                2249,
                true,
                b"\0\0\0\x02\0\0\0\x14\0\0\0\x08\0\0\0\0\0\0\0\x01\0\0\0\x19\0\0\0\x06a@b.cd"
                    .to_vec(),
                b"\0\0\0\x02\0\0\0\x14\0\0\0\x08\0\0\0\0\0\0\0\x01\0\0\0\x19\0\0\0\x09a***@b.cd"
                    .to_vec(),
            ),
            // A composite type of the database's own, an array of such.
            (
                20_000,
                true,
                b"\0\0\0\x01\0\0\0\x19\0\0\0\x06a@b.cd".to_vec(),
                b"\0\0\0\x01\0\0\0\x19\0\0\0\x09a***@b.cd".to_vec(),
            ),
            (
                20_001,
                true,
                array(20_000, &[Some(b"a@b.cd"), None]),
                array(20_000, &[Some(b"a***@b.cd"), None]),
            ),
            // An extension's type (citext), and one that isn't text.
            (20_000, true, b"a@b.cd".to_vec(), b"a***@b.cd".to_vec()),
            (20_000, true, b"\0a@b.cd".to_vec(), b"\0a@b.cd".to_vec()),
        ];
        for (type_oid, binary, value, expected) in cases {
            let found = through(type_oid, binary, &value);
            assert_eq!(found, expected, "{type_oid} {}", String::from_utf8_lossy(&found));
        }
    }

    #[test]
    fn a_row_keeps_its_other_values_and_is_counted_by_column() {
        let text = |name: &str| Column { name: name.into(), type_oid: 25, binary: false };
        let columns =
            [text("a"), text("b"), Column { name: "n".into(), type_oid: 20, binary: true }];
        let message = row(&[Some(b"x@y.zz w@y.zz"), None, Some(&[0; 8])]);
        let mut detected = Detected::new();
        let new = detection().data_row(&message, &columns, &mut detected).unwrap().unwrap();
        assert_eq!(new, row(&[Some(b"x***@y.zz w***@y.zz"), None, Some(&[0; 8])]));
        assert_eq!(detected, Detected::from([(("a".to_owned(), "email"), 2)]));
        let clean = row(&[Some(b"x"), None, Some(&[0; 8])]);
        assert_eq!(detection().data_row(&clean, &columns, &mut detected), Ok(None));
        // Columns of another result: everything is looked into.
        let new = detection().data_row(&message, &columns[..1], &mut detected).unwrap();
        assert_eq!(new.unwrap(), row(&[Some(b"x***@y.zz w***@y.zz"), None, Some(&[0; 8])]));
        for cut in 0..message.len() {
            assert!(detection().data_row(&message[..cut], &columns, &mut detected).is_err());
        }
    }

    #[test]
    fn copied_data_is_looked_through_in_both_formats() {
        let mut detected = Detected::new();
        let mut through = |data: &[u8], binary| {
            let message = framed(b'd', data).unwrap();
            let new = detection().copy_data(&message, binary, &mut detected).unwrap();
            new.map_or(data.to_vec(), |new| new[HEADER..].to_vec())
        };
        assert_eq!(through(b"1\ta@b.cd\t\\N\n", false), b"1\ta***@b.cd\t\\N\n");
        let tuple = |mail: &[u8]| {
            let mut data = vec![0, 2];
            field(Some(&[0, 0, 0, 1]), &mut data).unwrap();
            field(Some(mail), &mut data).unwrap();
            data
        };
        let first = |mail: &[u8]| [SIGNATURE, &[0; 8], &tuple(mail)].concat();
        assert_eq!(through(&first(b"a@b.cd"), true), first(b"a***@b.cd"));
        assert_eq!(through(&tuple(b"a@b.cd"), true), tuple(b"a***@b.cd"));
        assert_eq!(through(&[255, 255], true), [255, 255]);
        assert_eq!(detected.into_values().sum::<u64>(), 3);
        let cut = framed(b'd', &[0, 1, 0]).unwrap();
        assert!(detection().copy_data(&cut, true, &mut Detected::new()).is_err());
    }
}
