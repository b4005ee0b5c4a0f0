//! What becomes of what is in flight when the client goes or the session ends.

use super::*;

type End = fn(&mut Session);
const GONE: End = |session| session.client_gone();
const EXPIRED: End = |session| session.end("57P01", "the grant has expired");

impl Rig {
    fn ends(&mut self, end: End) {
        end(&mut self.session);
        self.settle();
        assert!(self.closed.is_some());
    }

    /// The server is heard no longer.
    fn conclude(&mut self) {
        self.session.conclude(NOW);
        self.settle();
    }

    /// Each completion's statement, tag or SQLSTATE, and rows.
    fn outcomes(&self) -> Vec<(u64, &str, u64)> {
        let told = |done: &'_ &Completion| {
            let sqlstate = done.sqlstate.as_deref();
            sqlstate.is_none_or(|_| done.tag.is_none())
        };
        let completions = self.completions();
        assert!(completions.iter().all(told), "{completions:?}");
        let outcome = |done: &Completion| {
            done.sqlstate.clone().or(done.tag.clone()).unwrap_or_default().leak() as &str
        };
        completions.iter().map(|done| (done.statement, outcome(done), done.rows)).collect()
    }
}

#[test]
fn what_the_server_says_after_the_end_is_the_logs_alone() {
    let rows = all(&[row_description(0, 0), row(b"1"), row(b"2")]);
    // (what comes after the end, what the log says)
    let afterwards = [
        (all(&[row(b"3"), error("57014", "cancelled"), ready(b'I')]), "57014"),
        (all(&[row(b"3"), done("SELECT 3"), ready(b'I')]), "SELECT 3"),
        (message(b'E', b"SFATAL\0C57P01\0Mterminating\0\0"), "57P01"),
    ];
    for (end, told) in [(GONE, ""), (EXPIRED, "E")] {
        for (after, outcome) in &afterwards {
            for size in [1, 7, after.len()] {
                for sql in ["SELECT 1", "SELECT RECORDED", "SELECT DETECT", "SELECT LIMITED"] {
                    let mut rig = Rig::new(false);
                    rig.client(&query(sql));
                    rig.server(&rows);
                    rig.ends(end);
                    assert_eq!((rig.got(), rig.cancels), (format!("TDD{told}"), 1));
                    assert!(rig.session.awaits_outcomes());
                    after.chunks(size).for_each(|part| rig.server(part));
                    assert!(!rig.session.awaits_outcomes());
                    rig.conclude();
                    assert_eq!(rig.outcomes(), [(1, *outcome, 2)], "{sql}");
                    assert_eq!((rig.got().as_str(), rig.cancels), ("", 1), "{sql}");
                    let results = |record: &&Record| matches!(record, Record::Results(_));
                    let results = rig.records.iter().filter(results).count();
                    assert_eq!(results, usize::from(sql.contains("RECORDED")));
                }
            }
        }
    }
}

#[test]
fn what_stays_unknown_is_told_as_unknown() {
    let mut rig = Rig::new(false);
    rig.client(&all(&[query("UPDATE t"), query("SELECT 1")]));
    rig.server(&done("UPDATE 3"));
    rig.ends(GONE);
    rig.conclude();
    let told: Vec<_> =
        rig.completions().iter().map(|c| (c.tag.as_deref(), c.sqlstate.as_deref())).collect();
    assert_eq!(told, [(Some("UPDATE 3"), Some("08007")), (None, Some("08007"))]);
    rig.conclude();
    assert_eq!(rig.completions().len(), 2, "once");

    // A server that speaks nonsense isn't believed any more.
    for nonsense in [bare(b'1'), message(b'?', b""), vec![0; 8]] {
        let mut rig = Rig::new(false);
        rig.client(&query("SELECT 1"));
        rig.ends(GONE);
        rig.server(&all(&[nonsense, done("SELECT 1"), ready(b'I')]));
        assert!(!rig.session.awaits_outcomes());
        rig.conclude();
        assert_eq!(rig.outcomes(), [(1, "08007", 0)]);
    }
    let mut rig = Rig::new(false);
    rig.client(&query("SELECT 1"));
    rig.server(&all(&[bare(b'1'), done("SELECT 1"), ready(b'I')]));
    assert!(rig.closed.is_some() && !rig.session.awaits_outcomes() && rig.cancels == 1);
    rig.conclude();
    assert_eq!(rig.outcomes(), [(1, "08007", 0)]);
}

#[test]
fn a_row_that_the_client_has_in_part_is_not_counted() {
    let long = row(&[b'x'; 1000]);
    for end in [GONE, EXPIRED, |session: &mut Session| session.server_gone()] {
        let mut rig = Rig::new(false);
        rig.client(&query("SELECT 1"));
        rig.server(&all(&[row_description(0, 0), row(b"1"), long[..500].to_vec()]));
        let got = rig.to_client.clone();
        rig.ends(end);
        if rig.session.awaits_outcomes() {
            rig.server(&all(&[long[500..].to_vec(), done("SELECT 2"), ready(b'I')]));
        }
        assert_eq!(rig.to_client, got, "not a byte more");
        assert_eq!(rig.completions()[0].rows, 1);
        assert_eq!(rig.completions()[0].bytes, u64::try_from(row(b"1").len()).unwrap());
    }
}

#[test]
fn a_pipeline_is_asked_for_its_answers_and_told_one_by_one() {
    let run = |sql| all(&[parse("", sql), bind("", ""), execute("")]);
    let mut rig = Rig::new(false);
    rig.client(&all(&[run("UPDATE a"), run("UPDATE b"), run("UPDATE c")]));
    let sent = rig.sent();
    assert_eq!(tags(&sent), "PBEPBEPBE");
    rig.ends(GONE);
    assert_eq!(tags(&rig.sent()), "H", "no Sync, which would commit");
    let answer = |last| all(&[bare(b'1'), bare(b'2'), last]);
    rig.server(&all(&[answer(done("UPDATE 1")), answer(error("57014", "cancelled"))]));
    assert!(!rig.session.awaits_outcomes());
    rig.conclude();
    let numbers: Vec<_> = rig.outcomes().iter().map(|(_, told, _)| *told).collect();
    assert_eq!(numbers, ["UPDATE 1", "57014", ""], "the last was skipped");

    // A portal that is suspended has been run in part.
    let mut rig = Rig::new(false);
    rig.client(&all(&[parse("", "SELECT 1"), bind("", ""), execute(""), sync()]));
    rig.server(&all(&[bare(b'1'), bare(b'2'), row(b"1")]));
    rig.ends(EXPIRED);
    rig.server(&all(&[row(b"2"), bare(b's')]));
    assert!(!rig.session.awaits_outcomes());
    assert_eq!(rig.outcomes(), [(2, "", 1)]);
}

#[test]
fn what_has_not_gone_out_is_dropped_and_never_ran() {
    let mut rig = Rig::new(false);
    rig.client(&query("UPDATE a"));
    rig.sent();
    rig.session.client_bytes(&query("UPDATE b"));
    let Some(Effect::Decide { id, request }) = rig.session.effect() else { panic!("no question") };
    rig.session.decided(id, judge(&request, 2), NOW);
    // The server has taken all but the last two bytes: a Terminate's first two would make
    // another statement of it.
    let waiting = bytes::Buf::remaining(rig.session.to_server());
    bytes::Buf::advance(rig.session.to_server(), waiting - 2);
    rig.ends(GONE);
    assert!(rig.sent().is_empty() && !rig.session.may_speak_to_server());
    rig.server(&all(&[done("UPDATE 1"), ready(b'I')]));
    assert!(!rig.session.awaits_outcomes());
    rig.conclude();
    assert_eq!(rig.outcomes(), [(2, "", 0), (1, "UPDATE 1", 0)]);

    // The control plane hasn't confirmed the line.
    let mut rig = Rig::new(false);
    rig.client(&query("UPDATE a"));
    rig.session.client_bytes(&query("UPDATE b"));
    let Some(Effect::Decide { id, request }) = rig.session.effect() else { panic!("no question") };
    rig.session.decided(id, judge(&request, 2), NOW);
    rig.session.not_forwarded("58030", "no receipt");
    rig.settle();
    rig.server(&all(&[done("UPDATE 1"), ready(b'I')]));
    assert_eq!(rig.outcomes(), [(2, "58030", 0), (1, "UPDATE 1", 0)]);
    assert_eq!((rig.sent(), rig.got().as_str()), (query("UPDATE a"), "E"));
}

#[test]
fn a_verdict_that_comes_too_late_is_told_as_never_run() {
    let mut rig = Rig::new(false);
    rig.decides = false;
    rig.session.client_bytes(&query("UPDATE a"));
    let Some(Effect::Decide { id, request }) = rig.session.effect() else { panic!("no question") };
    rig.ends(GONE);
    rig.session.decided(id, judge(&request, 1), NOW);
    rig.settle();
    assert_eq!(rig.outcomes(), [(1, "", 0)]);
    assert!(rig.to_server.is_empty() && rig.cancels == 0);
}

#[test]
fn a_copy_whose_data_stop_is_ended_and_its_outcome_heard() {
    let failed = all(&[error("57014", "COPY from stdin failed"), ready(b'I')]);
    // It has begun, its data are on their way; or its beginning is heard after the end.
    for begun in [true, false] {
        let mut rig = Rig::new(false);
        rig.client(&query("COPY t FROM STDIN"));
        if begun {
            rig.server(&copy_in());
            rig.client(&copy_data(b"1\n"));
        }
        rig.sent();
        rig.ends(GONE);
        if !begun {
            assert_eq!(rig.sent(), b"");
            rig.server(&copy_in());
        }
        assert_eq!(tags(&rig.sent()), "f");
        rig.server(&failed);
        assert!(!rig.session.awaits_outcomes());
        assert_eq!(rig.outcomes(), [(1, "57014", 0)]);
    }
    // Its data end amid a message: nothing can be said behind that, and it can't but fail.
    let mut rig = Rig::new(false);
    rig.client(&query("COPY t FROM STDIN"));
    rig.server(&copy_in());
    rig.client(&copy_data(b"1\n")[..6]);
    rig.sent();
    rig.ends(GONE);
    assert!(rig.sent().is_empty() && !rig.session.may_speak_to_server());
    assert!(!rig.session.awaits_outcomes());
    rig.conclude();
    assert_eq!(rig.outcomes(), [(1, "57014", 0)]);
    // Its data were complete.
    let mut rig = Rig::new(false);
    rig.client(&query("COPY t FROM STDIN"));
    rig.server(&copy_in());
    rig.client(&all(&[copy_data(b"1\n"), copy_done()]));
    rig.sent();
    rig.ends(GONE);
    assert_eq!(rig.sent(), b"");
    rig.server(&all(&[done("COPY 1"), ready(b'I')]));
    assert_eq!(rig.outcomes(), [(1, "COPY 1", 0)]);
    // The other way: the client's rows are counted.
    let mut rig = Rig::new(false);
    rig.client(&query("COPY t TO STDOUT"));
    rig.server(&all(&[copy_out(), copy_data(b"1\n")]));
    rig.ends(EXPIRED);
    rig.server(&all(&[copy_data(b"2\n"), error("57014", "cancelled"), ready(b'I')]));
    assert_eq!(rig.outcomes(), [(1, "57014", 1)]);
}

#[test]
fn a_statement_sent_amid_the_data_of_a_copy_has_an_outcome_too() {
    // Ahead of the COPY's beginning, and behind it.
    for begins in [false, true] {
        let mut rig = Rig::new(false);
        rig.client(&query("COPY t FROM STDIN"));
        if begins {
            rig.server(&copy_in());
        }
        rig.client(&query("SELECT 1"));
        if !begins {
            rig.server(&copy_in());
        }
        let fatal = message(b'E', b"SFATAL\0C08P01\0Mlost\0\0");
        rig.server(&all(&[error("08P01", "unexpected message"), fatal]));
        rig.session.server_gone();
        rig.settle();
        rig.conclude();
        assert_eq!(rig.outcomes(), [(1, "08P01", 0), (2, "08P01", 0)], "{begins}");
    }
}

#[test]
fn a_counted_query_that_nobody_commits_is_told_as_undone() {
    let begun = all(&[bare(b'1'), bare(b'2'), bare(b'n')]);
    for (tag, outcome) in [("UPDATE 3", "40000"), ("UPDATE 9", "54000")] {
        let mut rig = Rig::new(false);
        rig.client(&query("UPDATE COUNTED"));
        assert_eq!(tags(&rig.sent()), "PBDEH");
        rig.ends(GONE);
        rig.server(&all(&[begun.clone(), done(tag)]));
        assert!(!rig.session.awaits_outcomes());
        rig.conclude();
        let told: Vec<_> = rig.outcomes().iter().map(|(_, told, _)| *told).collect();
        assert_eq!(told, [outcome]);
        assert_eq!(tags(&rig.sent()), "H", "no Sync, which would commit it");
    }
}

#[test]
fn a_masked_column_that_shows_up_after_the_end_ends_the_session_all_the_same() {
    let mut rig = Rig::new(true);
    rig.client(&query("SELECT x FROM customers"));
    rig.ends(GONE);
    rig.server(&all(&[row_description(16_384, 3), row(b"raw"), done("SELECT 1"), ready(b'I')]));
    assert_eq!(rig.ended, Some(EndReason::Tripwire));
    assert_eq!(rig.outcomes(), [(1, "SELECT 1", 0)]);
    assert_eq!(rig.got(), "");
}
