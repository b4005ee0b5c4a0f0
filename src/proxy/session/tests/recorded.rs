//! Rows that are recorded.

use super::{
    super::recorded::{LONGEST_ROW, MOST_BYTES, MOST_OF_COLUMNS, MOST_ROWS},
    *,
};
use crate::journal::{Chain, CutRows, LONGEST_LINE, ResultsRecord, Value, ValueFormat, sample};

fn columns(columns: &[(&str, u32, i16)]) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u16(u16::try_from(columns.len()).unwrap());
    for (name, type_oid, format) in columns {
        body.put_slice(name.as_bytes());
        body.put_slice(&[0; 7]);
        body.put_u32(*type_oid);
        body.put_slice(&[0; 6]);
        body.put_i16(*format);
    }
    message(b'T', &body)
}

fn values(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u16(u16::try_from(values.len()).unwrap());
    for value in values {
        match value {
            None => body.put_i32(-1),
            Some(value) => {
                body.put_u32(u32::try_from(value.len()).unwrap());
                body.put_slice(value);
            }
        }
    }
    message(b'D', &body)
}

fn results(rig: &Rig) -> Vec<&ResultsRecord> {
    fn only(record: &Record) -> Option<&ResultsRecord> {
        match record {
            Record::Results(results) => Some(results),
            _ => None,
        }
    }
    rig.records.iter().filter_map(only).collect()
}

/// The rows of a record as JSON has them.
fn rows(results: &ResultsRecord) -> String {
    let rows = results.sets.iter().flat_map(|set| &set.rows).collect::<Vec<_>>();
    serde_json::to_string(&rows).unwrap()
}

/// The kinds of line, in their order.
fn kinds(rig: &Rig) -> Vec<&'static str> {
    let kind = |record: &Record| match record {
        Record::Results(_) => "results",
        Record::Completion(_) => "completion",
        Record::Alert { .. } => "alert",
        _ => "other",
    };
    rig.records.iter().map(kind).collect()
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

#[test]
fn the_rows_of_each_result_are_recorded_before_the_completion_however_they_are_cut() {
    let answer = all(&[
        columns(&[("id", 23, 0), ("note", 25, 0)]),
        values(&[Some(b"1"), Some("ünö\n".as_bytes())]),
        values(&[Some(b"2"), None]),
        done("SELECT 2"),
        columns(&[("id", 23, 0)]),
        done("SELECT 0"),
        columns(&[("raw", 17, 1)]),
        values(&[Some(b"\0\x01")]),
        values(&[Some(b"")]),
        done("SELECT 2"),
        ready(b'I'),
    ]);
    for size in 1..=answer.len() {
        let mut rig = Rig::new(false);
        rig.client(&query("SELECT RECORDED"));
        for part in answer.chunks(size) {
            rig.server(part);
        }
        assert_eq!(rig.to_client, answer, "{size}");
        assert_eq!(kinds(&rig), ["results", "completion"], "{size}");
        let [record] = results(&rig)[..] else { panic!("{:?}", rig.records) };
        assert_eq!((record.statement, record.cut), (1, None));
        let [first, second] = &record.sets[..] else { panic!("{record:?}") };
        let names = first.columns.iter().map(|column| (&*column.name, column.type_oid));
        assert_eq!(names.collect::<Vec<_>>(), [("id", 23), ("note", 25)]);
        assert_eq!(first.rows, [vec![text("1"), text("ünö\n")], vec![text("2"), Value::Null]]);
        assert_eq!(second.columns[0].format, ValueFormat::Binary);
        assert_eq!(
            rows(record).split_once("],[{").unwrap().1,
            r#""binary":"AAE="}],[{"binary":""}]]"#
        );
    }
}

#[test]
fn a_statement_without_rows_has_no_results_and_other_roles_have_none() {
    let mut rig = Rig::new(false);
    rig.client(&query("INSERT RECORDED"));
    rig.server(&all(&[done("INSERT 0 1"), ready(b'I')]));
    rig.client(&query("SELECT RECORDED"));
    rig.server(&all(&[columns(&[("id", 23, 0)]), done("SELECT 0"), ready(b'I')]));
    rig.client(&query("SELECT 1"));
    rig.server(&all(&[columns(&[("id", 23, 0)]), row(b"1"), done("SELECT 1"), ready(b'I')]));
    assert_eq!(kinds(&rig), ["completion", "completion", "completion"]);
}

#[test]
fn a_masked_statement_is_recorded_as_the_client_saw_it_and_a_tripped_one_not_at_all() {
    let mut rig = Rig::new(true);
    rig.client(&query("SELECT email FROM customers RECORDED"));
    rig.server(&all(&[
        columns(&[("email", 25, 0)]),
        row(b"a***@b.cd"),
        done("SELECT 1"),
        ready(b'I'),
    ]));
    assert_eq!(rows(results(&rig)[0]), r#"[["a***@b.cd"]]"#);

    let mut rig = Rig::new(true);
    rig.client(&query("SELECT RECORDED"));
    rig.server(&all(&[row_description(16_384, 3), row(b"123-45-6789")]));
    assert_eq!(rig.ended, Some(EndReason::Tripwire));
    assert!(results(&rig).is_empty());
}

#[test]
fn a_detected_value_is_recorded_as_the_client_saw_it() {
    let mut rig = Rig::new(false);
    rig.client(&query("DETECT RECORDED"));
    let answer =
        [columns(&[("c", 25, 0)]), row(b"to a@b.cd"), row(b"clean"), done("SELECT 2"), ready(b'I')];
    rig.server(&all(&answer));
    assert_eq!(kinds(&rig), ["alert", "results", "completion"]);
    assert_eq!(rows(results(&rig)[0]), r#"[["to a***@b.cd"],["clean"]]"#);
    assert!(!format!("{:?}", rig.records).contains("a@b.cd"));
}

#[test]
fn the_data_of_copy_is_recorded_and_masked_where_it_is_detected() {
    let mut rig = Rig::new(false);
    rig.client(&query("COPY t TO STDOUT DETECT RECORDED"));
    let data = all(&[copy_out(), copy_data(b"1\ta@b.cd\n"), copy_data(b"2\t\\N\n")]);
    rig.server(&all(&[data, copy_done(), done("COPY 2"), ready(b'I')]));
    let record = results(&rig)[0];
    assert_eq!(rows(record), r#"[["1\ta***@b.cd\n"],["2\t\\N\n"]]"#);
    assert_eq!(record.sets[0].copy, Some(ValueFormat::Text));
    assert!(record.sets[0].columns.is_empty());

    let mut rig = Rig::new(false);
    rig.client(&query("COPY t TO STDOUT RECORDED"));
    let data = all(&[message(b'H', &[1, 0, 0]), copy_data(b"\0\x01ab")]);
    rig.server(&all(&[data, copy_done(), done("COPY 1"), ready(b'I')]));
    assert_eq!(rows(results(&rig)[0]), r#"[[{"binary":"AAFhYg=="}]]"#);
    assert_eq!(results(&rig)[0].sets[0].copy, Some(ValueFormat::Binary));
}

#[test]
fn a_prepared_statement_is_described_once_and_its_values_have_the_formats_of_each_bind() {
    let mut rig = Rig::new(false);
    rig.client(&all(&[parse("s", "SELECT RECORDED"), sync()]));
    assert_eq!(tags(&rig.sent()), "PDS", "it is described though nothing is masked");
    let described = columns(&[("id", 23, 0), ("email", 25, 0)]);
    rig.server(&all(&[bare(b'1'), message(b't', &[0, 0]), described, ready(b'I')]));
    assert_eq!(rig.got(), "1Z");
    // The first column in binary, the second in text.
    let bound = message(b'B', b"\0s\0\0\0\0\0\0\x02\0\x01\0\0");
    for bound in [bound, bind("", "s")] {
        rig.client(&all(&[bound, execute(""), sync()]));
        let answer = values(&[Some(b"\0\0\0\x01"), Some(b"a@b.cd")]);
        rig.server(&all(&[bare(b'2'), answer, done("SELECT 1"), ready(b'I')]));
    }
    let [binary, text] = results(&rig)[..] else { panic!("{:?}", rig.records) };
    let formats = |record: &ResultsRecord| {
        record.sets[0].columns.iter().map(|column| column.format).collect::<Vec<_>>()
    };
    assert_eq!(formats(binary), [ValueFormat::Binary, ValueFormat::Text]);
    assert_eq!(formats(text), [ValueFormat::Text, ValueFormat::Text]);
    assert_eq!(rows(binary), r#"[[{"binary":"AAAAAQ=="},"a@b.cd"]]"#);
    assert_eq!(rows(text), rows(binary), "what holds a NUL is no text");
    assert_eq!((binary.statement, text.statement), (2, 3));
}

#[test]
fn values_whose_columns_are_unknown_have_the_formats_that_were_asked_for() {
    let mut rig = Rig::new(false);
    let bound = message(b'B', b"\0s\0\0\0\0\0\0\x02\0\x01\0\0");
    rig.client(&all(&[parse("s", "SELECT RECORDED"), bound, execute(""), sync()]));
    let parsed = all(&[bare(b'1'), message(b't', &[0, 0]), columns(&[("other", 23, 0)])]);
    rig.server(&all(&[parsed, bare(b'2'), values(&[Some(b"abcd"), Some(b"abcd")])]));
    rig.server(&all(&[done("SELECT 1"), ready(b'I')]));
    assert!(results(&rig)[0].sets[0].columns.is_empty(), "they aren't those of this row");
    assert_eq!(rows(results(&rig)[0]), r#"[[{"binary":"YWJjZA=="},"abcd"]]"#);
}

#[test]
fn a_portal_read_in_pieces_is_recorded_by_execute() {
    let mut rig = Rig::new(false);
    let step = || all(&[written(|out| wire::execute("p", 2, out)), message(b'H', b"")]);
    rig.client(&all(&[parse("", "SELECT RECORDED"), bind("p", ""), step()]));
    let parsed = all(&[bare(b'1'), message(b't', &[0, 0]), columns(&[("id", 23, 0)])]);
    rig.server(&all(&[parsed, bare(b'2'), row(b"1"), row(b"2"), bare(b's')]));
    rig.client(&step());
    rig.server(&all(&[row(b"3"), done("SELECT 1")]));
    rig.client(&sync());
    rig.server(&ready(b'I'));
    assert_eq!(kinds(&rig), ["results", "completion", "results", "completion"]);
    let told = results(&rig).into_iter().map(|record| (record.statement, rows(record)));
    let expected = [(2, r#"[["1"],["2"]]"#.to_owned()), (3, r#"[["3"]]"#.to_owned())];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

#[test]
fn what_was_sent_before_an_error_is_recorded_and_what_was_withheld_is_not() {
    let mut rig = Rig::new(false);
    rig.client(&query("SELECT RECORDED"));
    rig.server(&all(&[columns(&[("id", 23, 0)]), row(b"1"), error("22012", "x"), ready(b'I')]));
    assert_eq!(kinds(&rig), ["results", "completion"]);
    assert_eq!(rows(results(&rig)[0]), r#"[["1"]]"#);

    let mut rig = Rig::new(false);
    rig.client(&query("SELECT LIMITED RECORDED"));
    let four = [row(b"1"), row(b"2"), row(b"3"), row(b"4")];
    rig.server(&all(&[columns(&[("id", 23, 0)]), all(&four), done("SELECT 4")]));
    // Behind the error, which the client gets at the end of the first.
    rig.server(&all(&[columns(&[("id", 23, 0)]), row(b"5"), done("SELECT 1"), ready(b'I')]));
    assert_eq!(rig.got(), "TDDEZ");
    assert_eq!(rows(results(&rig)[0]), r#"[["1"],["2"]]"#);
    assert_eq!(results(&rig)[0].cut, None, "the client got no more");
}

#[test]
fn whoever_leaves_before_the_end_is_recorded_too() {
    let begun = || {
        let mut rig = Rig::new(false);
        rig.client(&query("SELECT RECORDED"));
        rig.server(&all(&[columns(&[("id", 23, 0)]), row(b"1"), row(b"2")[..9].to_vec()]));
        rig
    };
    type End = fn(&mut Session);
    let ends: [(&str, End); 4] = [
        ("the client goes", |session| session.client_gone()),
        ("the grant ends", |session| session.end("57P01", "the grant has expired")),
        ("the server goes", |session| session.server_gone()),
        ("the client breaks the protocol", |session| session.client_bytes(&message(b'?', b""))),
    ];
    for (case, end) in ends {
        let mut rig = begun();
        end(&mut rig.session);
        rig.settle();
        assert!(rig.closed.is_some(), "{case}");
        assert_eq!(results(&rig).len(), 1, "{case}");
        assert_eq!(rows(results(&rig)[0]), r#"[["1"]]"#, "{case}: the second was never whole");
    }
}

#[test]
fn rows_and_values_beyond_the_caps_are_cut_and_told() {
    let long = vec![b'x'; 8 * 1024 + 1];
    let mut rig = Rig::new(false);
    rig.client(&query("SELECT RECORDED"));
    rig.server(&all(&[columns(&[("v", 25, 0)]), row(&long[1..]), row(&long)]));
    rig.server(&all(&[done("SELECT 2"), ready(b'I')]));
    let [kept, cut] = &results(&rig)[0].sets[0].rows[..] else { panic!() };
    assert!(matches!(&kept[..], [Value::Text(text)] if text.len() == 8 * 1024));
    let [Value::Cut { cut }] = &cut[..] else { panic!("{cut:?}") };
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&long);
    let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!((cut.bytes, &cut.sha256), (8 * 1024 + 1, &digest));
    assert_eq!(results(&rig)[0].cut, None, "both rows are there");

    let many = usize::try_from(MOST_ROWS).unwrap() + 3;
    let data = row(b"12345").repeat(many);
    let answer = all(&[columns(&[("v", 25, 0)]), data, done("SELECT 1003"), ready(b'I')]);
    for size in [1, 7, 4_096, answer.len()] {
        let mut rig = Rig::new(false);
        rig.client(&query("SELECT RECORDED"));
        answer.chunks(size).for_each(|part| rig.server(part));
        assert_eq!(rig.to_client, answer);
        let record = results(&rig)[0];
        assert_eq!(record.sets[0].rows.len(), 1_000, "{size}");
        let bytes = u64::try_from(3 * row(b"12345").len()).unwrap();
        assert_eq!(record.cut, Some(CutRows { rows: 3, bytes }), "{size}");
        assert_eq!(rig.completions()[0].rows, 1_003);
    }
}

#[test]
fn the_bytes_of_a_statement_are_capped_and_its_last_values_cut_first() {
    let value = vec![b'x'; 8_000];
    let mut rig = Rig::new(false);
    rig.client(&query("SELECT RECORDED"));
    rig.server(&all(&[columns(&[("v", 25, 0)]), row(&value).repeat(200), row(b"small")]));
    rig.server(&all(&[done("SELECT 201"), ready(b'I')]));
    let record = results(&rig)[0];
    let kept = &record.sets[0].rows;
    let whole = kept.iter().filter(|row| matches!(row[..], [Value::Text(_)])).count();
    assert_eq!((whole, MOST_BYTES / 8_012), (32, 32));
    assert!(kept[..32].iter().all(|row| matches!(row[..], [Value::Text(_)])), "the first ones");
    assert!(kept.len() > 32 && kept.len() < 100, "{}", kept.len());
    let cut = record.cut.unwrap();
    assert_eq!(cut.rows, 201 - u64::try_from(kept.len()).unwrap());
    let completion = rig.completions()[0];
    let bytes = u64::try_from(kept.len() * row(&value).len()).unwrap();
    assert_eq!(completion.bytes - cut.bytes, bytes);
}

/// What the documentation says of `limits = { rows = 1000, bytes = "200KiB" }`.
#[test]
fn every_row_within_such_limits_is_recorded() {
    let names = (0..100).map(|at| format!("a_column_of_a_wide_table_{at}")).collect::<Vec<_>>();
    let wide = names.iter().map(|name| (name.as_str(), 25, 0)).collect::<Vec<_>>();
    for (columns, row, count) in [
        (columns(&[("v", 25, 0)]), values(&[]), 1_000),
        (columns(&[("v", 25, 0)]), values(&[Some(&[b'x'; 190])]), 1_000),
        (columns(&wide), values(&[Some(&b"value"[..]); 100]), 225),
        (columns(&[("v", 25, 0)]), values(&[Some(&[b'x'; 8_192])]), 24),
    ] {
        assert!(row.len() * count <= 200 * 1024);
        let mut rig = Rig::new(false);
        rig.client(&query("SELECT RECORDED"));
        rig.server(&all(&[columns, row.repeat(count), done("SELECT"), ready(b'I')]));
        let record = results(&rig)[0];
        assert_eq!((record.sets[0].rows.len(), record.cut), (count, None));
        assert!(!rows(record).contains("sha256"));
    }
    // Names don't crowd rows out.
    let names = (0..1_600).map(|at| format!("{at:063}")).collect::<Vec<_>>();
    let wide = names.iter().map(|name| (name.as_str(), 25, 0)).collect::<Vec<_>>();
    assert!(names.concat().len() > MOST_OF_COLUMNS);
    let set = all(&[columns(&wide), values(&[None; 1_600]), done("SELECT 1")]);
    let last = all(&[columns(&[("v", 25, 0)]), row(b"secret"), done("SELECT 1"), ready(b'I')]);
    let mut rig = Rig::new(false);
    rig.client(&query("SELECT RECORDED"));
    rig.server(&all(&[set.repeat(20), last]));
    let record = results(&rig)[0];
    assert_eq!((record.sets.len(), record.sets[0].columns.len(), record.cut), (21, 0, None));
    assert_eq!(
        (record.sets[20].columns.len(), &record.sets[20].rows),
        (1, &vec![vec![text("secret")]])
    );
}

#[test]
fn a_row_too_long_to_be_held_goes_out_in_pieces_and_is_missing_in_the_log() {
    let long = row(&vec![b'x'; LONGEST_ROW]);
    let head = all(&[columns(&[("v", 25, 0)]), row(b"1")]);
    for pieces in [1, 2, 1_000] {
        let mut rig = Rig::new(false);
        rig.client(&query("SELECT RECORDED"));
        rig.server(&head);
        for part in long.chunks(long.len() / pieces) {
            rig.server(part);
        }
        assert_eq!(rig.to_client.len(), head.len() + long.len(), "{pieces}");
        rig.server(&all(&[row(b"2"), done("SELECT 3"), ready(b'I')]));
        let record = results(&rig)[0];
        assert_eq!(rows(record), r#"[["1"]]"#, "{pieces}");
        let bytes = u64::try_from(long.len() + row(b"2").len()).unwrap();
        assert_eq!(record.cut, Some(CutRows { rows: 2, bytes }), "{pieces}");
    }
    let mut rig = Rig::new(false);
    rig.client(&query("SELECT RECORDED"));
    rig.server(&columns(&[("v", 25, 0)]));
    rig.got();
    rig.server(&long[..100]);
    assert_eq!(rig.to_client.len(), 100, "it isn't held");
}

#[test]
fn a_row_of_a_write_whose_rows_are_counted_is_recorded_with_its_columns() {
    let mut rig = Rig::new(false);
    rig.client(&query("UPDATE COUNTED RECORDED"));
    assert_eq!(tags(&rig.sent()), "PBDEH");
    let described = columns(&[("id", 23, 0)]);
    rig.server(&all(&[bare(b'1'), bare(b'2'), described.clone(), row(b"7"), done("UPDATE 1")]));
    rig.server(&all(&[bare(b'3'), ready(b'I')]));
    assert_eq!(kinds(&rig), ["results", "completion"]);
    assert_eq!(results(&rig)[0].sets[0].columns[0].name, "id");
    assert_eq!(rows(results(&rig)[0]), r#"[["7"]]"#);
}

/// The costs of values cover what JSON makes of them.
#[test]
fn no_results_come_near_the_longest_line() {
    let wide = vec![Some(&b""[..]); 1_600];
    let nulls = vec![None; 1_600];
    let control = vec![1; 8 * 1024];
    let cut = vec![b'x'; 9 * 1024];
    let small = columns(&[("v", 17, 1)]);
    let name = "\u{1}".repeat(63);
    let many_names = vec![(&*name, 25, 1); 1_600];
    let one_set = all(&[small.clone(), row(b""), done("SELECT 1")]);
    for (case, answer) in [
        ("empty values", all(&[small.clone(), values(&wide).repeat(1_000)])),
        ("nulls", all(&[small.clone(), values(&nulls).repeat(1_000)])),
        ("no values", all(&[small.clone(), values(&[]).repeat(10_000)])),
        ("control characters", all(&[columns(&[("v", 25, 0)]), row(&control).repeat(100)])),
        ("cut values", all(&[small.clone(), values(&vec![Some(&cut[..]); 100]).repeat(30)])),
        ("names", all(&[columns(&many_names), values(&wide), done("SELECT 1")]).repeat(30)),
        ("sets", one_set.repeat(20_000)),
    ] {
        let mut rig = Rig::new(false);
        rig.client(&query("SELECT RECORDED"));
        rig.server(&answer);
        rig.server(&all(&[done("SELECT 1"), ready(b'I')]));
        assert_eq!(rig.closed, None, "{case}");
        let (mut chain, _) = Chain::start(sample::start(), sample::at(0)).unwrap();
        let results = Record::Results(Box::new(results(&rig)[0].clone()));
        let line = chain.append(results, sample::at(1)).unwrap();
        assert!(line.bytes.len() < 2 * 1024 * 1024, "{case}: {}", line.bytes.len());
        assert!(line.bytes.len() < LONGEST_LINE / 8, "{case}");
    }
}

#[test]
fn what_is_no_row_ends_the_connection_before_it_goes_out() {
    for bytes in [message(b'D', &[0, 1, 0, 0]), message(b'D', &[0, 0, 9]), message(b'D', b"")] {
        let mut rig = Rig::new(false);
        rig.client(&query("SELECT RECORDED"));
        rig.server(&all(&[columns(&[("v", 25, 0)]), row(b"1"), bytes]));
        assert_eq!(rig.got(), "TDE");
        assert_eq!(rows(results(&rig)[0]), r#"[["1"]]"#);
    }
}

proptest! {
    #[test]
    fn chunking_never_changes_what_is_recorded(
        sizes in prop::collection::vec(1usize..3_000, 1..50),
        lengths in prop::collection::vec(0usize..9_000, 0..80),
    ) {
        let rows = lengths.iter().map(|length| row(&vec![b'x'; *length])).collect::<Vec<_>>();
        let answer = all(&[columns(&[("v", 25, 0)]), all(&rows), done("SELECT"), ready(b'I')]);
        let play = |sizes: &mut dyn Iterator<Item = usize>| {
            let mut rig = Rig::new(false);
            rig.client(&query("SELECT RECORDED"));
            let mut rest = answer.as_slice();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(sizes.next().unwrap_or(1).clamp(1, rest.len()));
                rest = later;
                rig.server(now);
            }
            (rig.to_client, rig.records)
        };
        let whole = play(&mut std::iter::once(answer.len()));
        prop_assert_eq!(&whole.0, &answer);
        prop_assert_eq!(play(&mut sizes.into_iter().cycle()), whole);
    }
}
