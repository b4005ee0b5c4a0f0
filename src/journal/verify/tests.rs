use proptest::prelude::*;

use super::*;
use crate::{
    grant::SigningKey,
    journal::{
        Chain, LONGEST_LINE, LineError, Place, Wrong,
        sample::{self, at, server_key, session_key},
    },
};

fn check(log: &[u8]) -> Report {
    verify(log, &[server_key().verifying_key()]).unwrap()
}

fn wrongs(lines: &[Vec<u8>]) -> Vec<(Option<u64>, Wrong)> {
    let report = check(&lines.concat());
    report.problems.into_iter().map(|problem| (problem.line, problem.wrong)).collect()
}

/// The line with `from` replaced by `to`, once.
fn edit(line: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(line.to_vec()).unwrap();
    assert!(text.contains(from), "{text}");
    text.replacen(from, to, 1).into_bytes()
}

/// A log of these records, each at its second, ended by a checkpoint.
fn written(records: Vec<Record>) -> Vec<Vec<u8>> {
    let (mut chain, first) = Chain::start(sample::start(), at(0)).unwrap();
    let mut lines = vec![first.bytes];
    for (record, n) in records.into_iter().zip(1..) {
        lines.push(chain.append(record, at(n * 1000)).unwrap().bytes);
    }
    lines.push(chain.checkpoint(&session_key(), at(1_000_000)).unwrap().bytes);
    lines
}

/// The same records in a new chain, as somebody without the session's key could
/// write it: hashes fit, signatures are the old ones.
fn rechained(lines: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut prev = LineHash::NONE;
    let mut out = Vec::new();
    for (line, seq) in lines.iter().zip(0..) {
        let entry = super::super::decode(line.strip_suffix(b"\n").unwrap()).unwrap();
        let entry = Entry { seq, prev, ..entry };
        let mut bytes = super::super::encode(&entry).unwrap();
        prev = LineHash::of(&bytes);
        bytes.push(b'\n');
        out.push(bytes);
    }
    out
}

#[test]
fn a_log_as_pgate_wrote_it_passes_and_is_described() {
    let report = check(&sample::log().concat());
    assert_eq!(report.problems, []);
    assert_eq!(report.notices, []);
    assert!(report.is_intact());
    assert_eq!(report.session, Some(sample::session()));
    assert_eq!(report.grant.unwrap().target, "prod-db");
    assert_eq!((report.lines, report.statements, report.denied), (12, 2, 1));
    assert_eq!((report.checkpoints, report.receipts), (2, 2));
    assert_eq!(report.received, Some(Received { lines: 11, at: at(95) }));
    assert_eq!((report.began_at, report.last_at), (Some(at(0)), Some(at(80))));
    assert_eq!(report.closed.unwrap().at, at(80));
}

#[test]
fn a_log_cut_after_a_whole_line_is_never_taken_for_a_closed_and_received_one() {
    let log = sample::log();
    let tail = |line, count| vec![(Some(line), Wrong::UnsignedTail { count })];
    let cases = [
        (11, vec![], vec![Notice::PartlyReceived { line: 8 }]),
        (10, tail(8, 3), vec![Notice::PartlyReceived { line: 8 }]),
        (9, tail(8, 2), vec![Notice::NotClosed, Notice::PartlyReceived { line: 8 }]),
        (8, tail(8, 1), vec![Notice::NotClosed, Notice::PartlyReceived { line: 8 }]),
        (7, vec![], vec![Notice::NotClosed]),
        (6, vec![], vec![Notice::NotClosed, Notice::NothingReceived]),
        (5, tail(1, 5), vec![Notice::NotClosed, Notice::NothingReceived]),
        (1, tail(1, 1), vec![Notice::NotClosed, Notice::NothingReceived]),
    ];
    for (kept, problems, notices) in cases {
        assert_eq!(wrongs(&log[..kept]), problems, "{kept} lines");
        assert_eq!(check(&log[..kept].concat()).notices, notices, "{kept} lines");
    }
    assert_eq!(wrongs(&[]), [(None, Wrong::Empty)]);
}

#[test]
fn what_the_control_plane_received_of_a_killed_session_passes_as_not_closed() {
    let mut log = sample::log();
    log.truncate(9);
    let receiver = sample::receive(&log);
    let receipt = receiver.receipt(at(5_000_000), &server_key()).unwrap();
    log.push(receiver.receipt_line(receipt).unwrap().bytes);
    assert_eq!(wrongs(&log), []);
    assert_eq!(check(&log.concat()).notices, [Notice::NotClosed]);
}

#[test]
fn what_was_done_to_a_log_is_said_with_its_line() {
    let log = sample::log();
    let edited = |first, last| Wrong::Edited { first, last };
    let after = |line| Wrong::Misplaced { place: Place::After(line) };
    let change = |index: usize, from: &str, to: &str| {
        let mut lines = log.clone();
        lines[index] = edit(&lines[index], from, to);
        lines
    };
    let swap = |one: usize, other: usize| {
        let mut lines = log.clone();
        lines.swap(one, other);
        lines
    };
    let without = |range: std::ops::Range<usize>| {
        let mut lines = log.clone();
        lines.drain(range);
        lines
    };
    let with = |index: usize, line: Vec<u8>| {
        let mut lines = log.clone();
        lines.insert(index, line);
        lines
    };
    let prev_of = |index: usize| {
        let entry = super::super::decode(log[index].strip_suffix(b"\n").unwrap()).unwrap();
        entry.prev.to_string()
    };
    let other_prev = |index: usize| {
        let prev = prev_of(index);
        let changed = if prev.starts_with('0') { "1" } else { "0" };
        (prev.clone(), format!("{changed}{}", &prev[1..]))
    };
    let (prev, changed_prev) = other_prev(4);
    type Case = (&'static str, Vec<Vec<u8>>, Vec<(u64, Wrong)>);
    let cases: Vec<Case> = vec![
        ("a changed statement", change(3, "SELECT 1", "SELECT 2"), vec![(4, edited(4, 4))]),
        ("a changed time", change(4, ".04Z", ".05Z"), vec![(5, edited(5, 5))]),
        ("a changed number", change(4, r#""seq":4"#, r#""seq":9"#), vec![(5, edited(5, 5))]),
        ("a changed link", change(4, &prev, &changed_prev), vec![(5, edited(4, 5))]),
        (
            "two lines changed far apart",
            {
                let mut lines = change(1, "unix", "tcp_");
                lines[8] = edit(&lines[8], "terminated", "terminatee");
                lines
            },
            vec![(2, edited(2, 2)), (9, edited(9, 9))],
        ),
        (
            "a line made unreadable",
            change(3, "SELECT 1", "SELECT \"1"),
            vec![(4, Wrong::Unreadable { why: LineError::NotJson })],
        ),
        (
            "a line respelled",
            change(3, r#""seq":3"#, r#""seq": 3"#),
            vec![(4, Wrong::Unreadable { why: LineError::NotCanonical })],
        ),
        (
            "a field shown twice",
            change(3, r#""sql":"#, r#""sql":"SELECT 0","sql":"#),
            vec![(4, Wrong::Unreadable { why: LineError::NotARecord })],
        ),
        (
            "a blank line",
            with(3, b"\n".to_vec()),
            vec![(4, Wrong::Unreadable { why: LineError::NotJson })],
        ),
        ("one line cut out", without(3..4), vec![(4, Wrong::Cut { first: 3, last: 3 })]),
        ("several lines cut out", without(2..5), vec![(3, Wrong::Cut { first: 2, last: 4 })]),
        ("neighbours swapped", swap(3, 4), vec![(4, after(5)), (5, after(3)), (6, after(4))]),
        (
            "a line moved",
            {
                let mut lines = log.clone();
                let line = lines.remove(2);
                lines.insert(8, line);
                lines
            },
            vec![(3, after(9)), (9, after(2)), (10, after(8))],
        ),
        ("a line repeated", with(4, log[3].clone()), vec![(5, Wrong::Repeated { of: 4 })]),
        (
            "a foreign line put in",
            with(4, edit(&rechained(&log[..5])[4], "SELECT 1", "SELECT 7")),
            vec![(6, after(4))],
        ),
    ];
    for (case, lines, expected) in cases {
        let found = wrongs(&lines);
        let expected = expected.into_iter().map(|(line, wrong)| (Some(line), wrong));
        assert_eq!(found, expected.collect::<Vec<_>>(), "{case}");
    }
}

#[test]
fn a_chain_written_anew_without_the_keys_is_not_taken_for_the_log() {
    let log = sample::log();
    let mut without_denied = log.clone();
    without_denied.remove(7);
    let mut changed = log.clone();
    changed[3] = edit(&changed[3], "SELECT 1", "SELECT 2");
    for (case, lines, first) in [("cut", without_denied, 10), ("changed", changed, 6)] {
        let found = wrongs(&rechained(&lines));
        assert!(found.contains(&(Some(first), Wrong::BadCheckpoint)), "{case}: {found:?}");
    }
    // Without any signature to contradict it, nothing vouches for it.
    let bare = [0, 1, 2, 3, 4, 8, 9].map(|index| log[index].clone());
    let found = wrongs(&rechained(&bare));
    assert_eq!(found, [(Some(1), Wrong::UnsignedTail { count: 7 })]);
}

#[test]
fn its_owner_cannot_rewrite_what_the_control_plane_has_received() {
    // The session's own key signs the rewritten log; the receipt gives it away.
    let log = sample::log();
    let receipt = sample::receive(&log[..6]).receipt(at(55), &server_key()).unwrap();
    let (mut chain, first) = Chain::start(sample::start(), at(0)).unwrap();
    let mut lines = vec![first.bytes];
    for n in 1..=4 {
        lines.push(chain.append(sample::statement(n, "SELECT 2"), at(10)).unwrap().bytes);
    }
    lines.push(chain.checkpoint(&session_key(), at(50)).unwrap().bytes);
    let honest = lines.clone();
    assert_eq!(wrongs(&honest), []);
    lines.push(chain.receipt(receipt).unwrap().bytes);
    assert_eq!(wrongs(&lines), [(Some(7), Wrong::NotWhatWasReceived { number: 5 })]);
}

#[test]
fn receipts_are_believed_only_from_the_control_plane_and_as_it_signed_them() {
    let log = sample::log();
    let receiver = sample::receive(&log[..6]);
    let good = receiver.receipt(at(55), &server_key()).unwrap();
    let forged = receiver.receipt(at(55), &session_key()).unwrap();
    let stolen_name = Receipt { key: good.key.clone(), ..forged.clone() };
    let later = Receipt { received_at: at(56), ..good.clone() };
    let further = Receipt { received_seq: 6, ..good.clone() };
    for receipt in [forged, stolen_name, later, further] {
        let mut lines = log[..6].to_vec();
        lines.push(receiver.receipt_line(receipt).unwrap().bytes);
        let found = wrongs(&lines);
        assert!(matches!(found[..], [(Some(7), Wrong::BadReceipt { .. })]), "{found:?}");
    }
}

#[test]
fn a_log_of_another_control_plane_or_session_is_refused() {
    let log = sample::log().concat();
    let other = SigningKey::from_seed(&[7; 32]).verifying_key();
    for keys in [&[][..], &[other]] {
        let report = verify(log.as_slice(), keys).unwrap();
        assert!(report.grant.is_none());
        let first = &report.problems[0];
        assert!(first.message.contains("not among the server's keys"), "{first}");
        assert_eq!(first.line, Some(1));
    }
    let mut grant = sample::grant();
    grant.exp += 3600;
    let forged = Chain::start(sample::start_under(&grant, &session_key()), at(0)).unwrap().1;
    assert!(matches!(wrongs(&[forged.bytes])[0], (Some(1), Wrong::BadStart { .. })));
    assert_eq!(wrongs(&sample::log()[1..])[0], (Some(1), Wrong::NoBeginning));
}

#[test]
fn a_statement_after_the_grants_end_is_a_problem_unless_it_was_refused() {
    let at_second = |records: Vec<(Record, i64)>| {
        let (mut chain, first) = Chain::start(sample::start(), at(0)).unwrap();
        let mut lines = vec![first.bytes];
        for (record, second) in records {
            lines.push(chain.append(record, at(second * 1000)).unwrap().bytes);
        }
        lines.push(chain.checkpoint(&session_key(), at(9_000_000)).unwrap().bytes);
        lines
    };
    let log = at_second(vec![
        (sample::statement(1, "SELECT 1"), 3600),
        (sample::denied(2, "SELECT 2"), 3601),
        (sample::completion(1), 3601),
        (sample::statement(3, "SELECT 3"), 3602),
    ]);
    let expired_at = sample::grant().expires_at().unwrap();
    assert_eq!(wrongs(&log), [(Some(5), Wrong::AfterExpiry { expired_at })]);
}

#[test]
fn a_held_statement_that_ran_without_an_approval_is_a_problem() {
    use sample::{completion, held, hold, hold_events};
    let event = |name: usize| hold_events().remove(name);
    let (raised, approved, covered, denied) = (event(0), event(1), event(2), event(3));
    let ran = |steps: Vec<crate::journal::HoldEvent>| {
        let steps = steps.into_iter().map(|step| hold(3, step));
        let records = [held(3, "DELETE FROM t")].into_iter().chain(steps);
        let lines = written(records.chain([completion(3)]).collect());
        wrongs(&lines).into_iter().map(|(_, wrong)| wrong).collect::<Vec<_>>()
    };
    let unapproved = vec![Wrong::RanUnapproved { statement: 3 }];
    assert_eq!(ran(vec![raised.clone(), approved]), []);
    assert_eq!(ran(vec![covered]), []);
    assert_eq!(ran(vec![raised.clone(), denied]), unapproved);
    assert_eq!(ran(vec![raised]), unapproved);
    assert_eq!(ran(vec![]), unapproved);
    let shown = written(vec![held(3, "DELETE FROM t"), sample::results(3)]);
    assert_eq!(wrongs(&shown).into_iter().map(|(_, wrong)| wrong).collect::<Vec<_>>(), unapproved);
    assert_eq!(wrongs(&written(vec![held(3, "DELETE FROM t")])), []);
}

#[test]
fn nothing_follows_the_end_and_nothing_starts_twice() {
    let log = written(vec![sample::end(), sample::statement(1, "SELECT 1")]);
    assert_eq!(wrongs(&log), [(Some(3), Wrong::AfterEnd)]);
    let log = written(vec![Record::Start(Box::new(sample::start()))]);
    assert_eq!(wrongs(&log), [(Some(2), Wrong::SecondStart)]);
}

#[test]
fn a_clock_that_was_set_back_is_a_notice() {
    let (mut chain, first) = Chain::start(sample::start(), at(10_000)).unwrap();
    let second = chain.append(sample::completion(1), at(8_000)).unwrap();
    let third = chain.checkpoint(&session_key(), at(9_000)).unwrap();
    let report = check(&[first.bytes, second.bytes, third.bytes].concat());
    assert_eq!(report.problems, []);
    assert!(report.notices.contains(&Notice::ClockSetBack { line: 2 }));
}

#[test]
fn a_hostile_file_costs_bounded_time_and_a_bounded_report() {
    let mut garbage = vec![b'{'; LONGEST_LINE + 5];
    garbage.push(b'\n');
    let report = check(&garbage);
    assert_eq!(report.problems[0].wrong, Wrong::Unreadable { why: LineError::TooLong });
    let report = check(&b"\n".repeat(50_000));
    assert_eq!(report.lines, 50_000);
    assert_eq!(report.problems.len() as u64 + report.further_problems, 50_000);
    assert!(report.problems.len() <= 100);
    let repeated = sample::log()[3].repeat(5_000);
    assert!(!check(&repeated).is_intact());
}

#[test]
fn every_changed_byte_is_found() {
    let log = sample::log();
    let first = log[0].len();
    let log = log.concat();
    // The first line is mostly the signed grant, whose own test changes every byte.
    for index in (0..first).step_by(11).chain(first..log.len()) {
        let mut changed = log.clone();
        changed[index] = if changed[index] == b'1' { b'2' } else { b'1' };
        assert!(!check(&changed).is_intact(), "byte {index}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_change_of_bytes_is_found(
        index in any::<proptest::sample::Index>(),
        byte: u8,
        how in 0..3,
    ) {
        let log = sample::log().concat();
        let mut changed = log.clone();
        let index = index.index(log.len());
        match how {
            0 => changed[index] = byte,
            1 => changed.insert(index, byte),
            _ => { changed.remove(index); }
        }
        prop_assert_eq!(check(&changed).is_intact(), changed == log);
    }

    #[test]
    fn any_cut_within_a_line_is_found(index in any::<proptest::sample::Index>()) {
        let log = sample::log().concat();
        let kept = &log[..index.index(log.len())];
        if !kept.ends_with(b"\n") {
            prop_assert!(!check(kept).is_intact());
        }
    }

    #[test]
    fn any_lines_moved_taken_out_or_put_in_are_found(
        from in any::<proptest::sample::Index>(),
        to in any::<proptest::sample::Index>(),
        how in 0..3,
    ) {
        let log = sample::log();
        let (from, to) = (from.index(log.len()), to.index(log.len()));
        let mut changed = log.clone();
        match how {
            0 => changed.swap(from, to),
            1 => { let line = changed.remove(from); changed.insert(to, line); }
            _ => changed.insert(to, log[from].clone()),
        }
        prop_assert_eq!(check(&changed.concat()).is_intact(), changed == log);
        let mut cut = log.clone();
        let (from, to) = (from.min(to), from.max(to));
        cut.drain(from..=to);
        if to + 1 < log.len() {
            prop_assert!(!check(&cut.concat()).is_intact());
        }
    }

    #[test]
    fn arbitrary_bytes_are_reported_and_never_pass(bytes: Vec<u8>) {
        prop_assert!(!check(&bytes).is_intact());
    }
}
