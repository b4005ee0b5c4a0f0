//! Rows that are looked through.

use super::*;

fn text_column(type_oid: u32) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u16(1);
    body.put_slice(b"c\0");
    body.put_slice(&[0; 6]);
    body.put_u32(type_oid);
    body.put_slice(&[0; 8]);
    message(b'T', &body)
}

fn alerts(rig: &Rig) -> Vec<&str> {
    fn alert(record: &Record) -> Option<&str> {
        match record {
            Record::Alert { message, .. } => Some(message),
            _ => None,
        }
    }
    rig.records.iter().filter_map(alert).collect()
}

#[test]
fn a_row_is_looked_through_however_it_is_cut_and_told_once() {
    let answer = all(&[
        text_column(25),
        row(b"to a@b.cd"),
        row(b"clean"),
        row(b"e@f.gh"),
        done("SELECT 3"),
        ready(b'I'),
    ]);
    let expected = all(&[
        text_column(25),
        row(b"to a***@b.cd"),
        row(b"clean"),
        row(b"e***@f.gh"),
        done("SELECT 3"),
        ready(b'I'),
    ]);
    for size in 1..answer.len() {
        let mut rig = Rig::new(false);
        rig.client(&query("DETECT"));
        for part in answer.chunks(size) {
            rig.server(part);
        }
        assert_eq!(rig.to_client, expected, "{size}");
        assert_eq!(rig.completions()[0].rows, 3);
        let [alert] = alerts(&rig)[..] else { panic!("{:?}", rig.records) };
        assert!(alert.starts_with("statement 1: 2 values in the column c look like email"));
        assert!(!alert.contains("b.cd"));
    }
}

#[test]
fn a_statement_executed_again_without_a_description_is_looked_through_by_its_first() {
    let mut rig = Rig::new(false);
    rig.client(&all(&[parse("s", "DETECT"), sync()]));
    assert_eq!(rig.got(), "");
    assert_eq!(tags(&rig.sent()), "PDS", "it is described though nothing is masked");
    rig.server(&all(&[bare(b'1'), message(b't', &[0, 0]), text_column(25), ready(b'I')]));
    assert_eq!(rig.got(), "1Z");
    for _ in 0..2 {
        rig.client(&all(&[bind("", "s"), execute(""), sync()]));
        rig.server(&all(&[bare(b'2'), row(b"a@b.cd"), done("SELECT 1"), ready(b'I')]));
        let expected = all(&[bare(b'2'), row(b"a***@b.cd"), done("SELECT 1"), ready(b'I')]);
        assert_eq!(std::mem::take(&mut rig.to_client), expected);
    }
    assert_eq!(alerts(&rig).len(), 2);
}

#[test]
fn a_row_too_long_to_be_held_ends_the_connection_before_a_byte_of_it_has_gone_out() {
    let mut rig = Rig::new(false);
    rig.client(&query("DETECT"));
    rig.server(&text_column(25));
    rig.got();
    rig.server(&[b'D', 0x02, 0, 0, 0, 0, 1]);
    assert_eq!(rig.got(), "E");
    assert!(rig.closed.is_some_and(|why| why.contains("too long to be looked through")));
}
