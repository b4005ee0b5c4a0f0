//! Rows that are looked through for personal data: what comes out is a message of the
//! same shape, and holds nothing more that would be found.
//!
//! The input: whether it is a COPY's, the types of two columns, the message.

use pgate::{
    mask::{Column, Detected, Detection},
    policy::Detector,
    wire,
};

/// text, varchar, bpchar, json, jsonb, xml, cstring, name, int4, text[], json[], record,
/// bytea, types of the database's own.
const TYPES: [u32; 14] =
    [25, 1043, 1042, 114, 3802, 142, 2275, 19, 23, 1009, 199, 2249, 17, 20_000];

/// Looks through the message in `data`.
pub fn run(data: &[u8]) {
    let Some(([copy, first, second, formats], message)) = data.split_first_chunk::<4>() else {
        return;
    };
    match wire::header(message) {
        Ok(Some(header)) if header.length == message.len() => {}
        _ => return,
    }
    let all = [Detector::Email, Detector::Card, Detector::Iban, Detector::Phone, Detector::Ssn];
    let detection = Detection::new(&all).expect("there is something to look for");
    let column = |number: u8, bit: u8| Column {
        name: format!("column {number}"),
        type_oid: TYPES[usize::from(number) % TYPES.len()],
        binary: formats & bit != 0 || usize::from(number) % TYPES.len() > 8,
    };
    let columns = [column(*first, 1), column(*second, 2)];
    let look = |message: &[u8], detected: &mut Detected| match copy % 2 {
        0 => detection.data_row(message, &columns, detected),
        _ => detection.copy_data(message, formats & 1 != 0, detected),
    };
    let mut detected = Detected::new();
    let Ok(new) = look(message, &mut detected) else { return };
    assert_eq!(new.is_some(), !detected.is_empty(), "what is changed is what was found");
    let Some(new) = new else { return };
    let header = wire::header(&new).expect("a header").expect("a header");
    assert_eq!((header.tag, header.length), (message[0], new.len()));
    if copy % 2 == 0 {
        let count = |message: &[u8]| wire::data_row_values(message).map(|values| values.len());
        assert_eq!(count(&new), count(message), "a row keeps its columns");
    }
    let mut again = Detected::new();
    look(&new, &mut again).expect("what is written can be read");
}
