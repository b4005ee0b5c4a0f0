//! Held statements: nothing goes out before the reviewer's word, and the stream is in
//! order whatever that word is.

use super::*;
use crate::grant::HoldId;

impl Rig {
    fn answer(&mut self, admitted: Admitted) {
        let id = *self.reviews.last().expect("a review");
        self.session.decided(id, admitted, NOW);
        self.settle();
    }

    fn approve(&mut self) {
        let permit = Permit::for_test(9, None, false, None, &[]);
        let hold = HoldId::from_random([1; 10]);
        self.answer(Admitted::Forward(permit.held_for_test(Some(hold))));
    }

    fn refuse(&mut self, sqlstate: &'static str) {
        self.answer(Admitted::Refuse(Refusal {
            statement: 9,
            sqlstate,
            message: "no".into(),
            detail: "not before the backup".into(),
            hint: String::new(),
            position: None,
        }));
    }
}

fn run(statement: &str, sql: &str) -> Vec<u8> {
    all(&[parse(statement, sql), bind("", statement), describe(""), execute("")])
}

#[test]
fn a_held_query_waits_whole_and_goes_out_when_it_is_approved() {
    let mut rig = Rig::new(false);
    rig.client(&all(&[query("HELD"), query("SELECT 1")]));
    assert_eq!((rig.sent(), rig.reviews.len()), (vec![], 1));
    rig.session.notice("waits for dba");
    rig.settle();
    assert_eq!(rig.got(), "N");
    rig.approve();
    assert_eq!(rig.sent(), all(&[query("HELD"), query("SELECT 1")]));
    rig.server(&all(&[done("DELETE 3"), ready(b'I'), done("SELECT 1"), ready(b'I')]));
    assert_eq!(rig.got(), "CZCZ");
    assert_eq!(rig.completions()[0].statement, 9);
}

#[test]
fn a_refused_hold_is_a_refused_statement_in_its_place() {
    let mut rig = Rig::new(false);
    rig.client(&query("HELD"));
    rig.refuse("42501");
    assert_eq!(rig.sent(), query("pgate refused this statement"));
    rig.server(&all(&[error("42601", "syntax error"), ready(b'E')]));
    let fields = first_error(&rig.to_client);
    assert_eq!(fields.get(field::DETAIL), Some("not before the backup"));
    assert!(rig.to_client.ends_with(&ready(b'E')), "the transaction's state is the server's");
}

#[test]
fn of_a_held_statement_with_values_nothing_goes_out_before_the_approval() {
    let mut rig = Rig::new(false);
    rig.client(&all(&[run("", "HELD"), sync()]));
    assert_eq!((rig.sent(), rig.reviews.len()), (vec![], 1));
    rig.approve();
    assert_eq!(rig.sent(), all(&[run("", "HELD"), sync()]));
    let described = [bare(b'1'), bare(b'2'), bare(b'n'), done("DELETE 3"), ready(b'I')];
    rig.server(&all(&described));
    assert_eq!((rig.got().as_str(), &rig.closed), ("12nCZ", &None));
}

#[test]
fn of_a_refused_one_nothing_ever_goes_out_and_its_pipeline_is_skipped() {
    for statement in ["", "s"] {
        let mut rig = Rig::new(false);
        rig.client(&all(&[run(statement, "HELD"), run("", "SELECT 1"), sync()]));
        rig.refuse("42501");
        let sent = rig.sent();
        assert_eq!(tags(&sent), "PPBDES");
        assert!(!sent.windows(4).any(|window| window == b"HELD"));
        rig.server(&all(&[error("42601", "syntax error"), ready(b'I')]));
        assert_eq!(rig.got(), "EZ");
        // The name means nothing now.
        rig.client(&all(&[bind("", statement), execute(""), sync()]));
        assert!(rig.sent().starts_with(&bind("", "nobody")), "{statement:?}");
    }
}

#[test]
fn a_driver_that_prepares_and_describes_does_not_wait() {
    let flush = message(b'H', b"");
    let describe_statement = message(b'D', b"Ss\0");
    let ways =
        [(sync(), ready(b'I')), (flush, vec![]), (describe_statement, message(b't', &[0, 0]))];
    for (after, answer) in ways {
        let mut rig = Rig::new(false);
        rig.client(&parse("s", "HELD"));
        assert_eq!(rig.sent(), b"", "it might be run at once");
        rig.client(&after);
        assert_eq!(rig.sent(), all(&[parse("s", "HELD"), after]));
        assert!(rig.reviews.is_empty());
        rig.server(&all(&[bare(b'1'), answer]));
        assert!(rig.closed.is_none());
    }
}

#[test]
fn a_prepared_held_statement_waits_at_each_of_its_runs() {
    let mut rig = Rig::new(false);
    rig.client(&all(&[parse("s", "HELD"), sync()]));
    rig.server(&all(&[bare(b'1'), ready(b'I')]));
    rig.sent();
    for _ in 0..2 {
        rig.client(&all(&[bind("", "s"), describe(""), execute(""), sync()]));
        assert_eq!(rig.sent(), b"");
        rig.approve();
        assert_eq!(tags(&rig.sent()), "BDES");
        rig.server(&all(&[bare(b'2'), bare(b'n'), done("DELETE 1"), ready(b'I')]));
    }
    assert_eq!(rig.reviews.len(), 2);
    rig.client(&all(&[bind("", "s"), execute(""), sync()]));
    rig.refuse("42501");
    assert_eq!(rig.sent(), all(&[execute("nobody"), sync()]));
    rig.server(&all(&[error("34000", "no portal"), ready(b'I')]));
    assert_eq!(rig.closed, None);
}

#[test]
fn a_bind_that_is_flushed_goes_out_and_its_execute_waits() {
    let mut rig = Rig::new(false);
    rig.client(&all(&[parse("", "HELD"), bind("", ""), describe(""), message(b'H', b"")]));
    assert_eq!(tags(&rig.sent()), "PBDH");
    rig.server(&all(&[bare(b'1'), bare(b'2'), bare(b'n')]));
    rig.client(&all(&[execute(""), sync()]));
    assert_eq!((rig.sent(), rig.reviews.len()), (vec![], 1));
    // The server's statement_timeout has been running since the Parse.
    rig.server(&error("57014", "canceling statement due to statement timeout"));
    assert_eq!(rig.withdrawn.len(), 1);
    rig.refuse("57014");
    assert_eq!(rig.sent(), sync());
    rig.server(&ready(b'I'));
    assert_eq!((rig.got().as_str(), &rig.closed), ("12nEZ", &None));
}

#[test]
fn what_went_before_in_the_pipeline_is_asked_for_while_it_waits() {
    let mut rig = Rig::new(false);
    rig.client(&all(&[run("", "SELECT 1"), run("", "HELD"), sync()]));
    assert_eq!(tags(&rig.sent()), "PBDEH");
    rig.server(&all(&[bare(b'1'), bare(b'2'), bare(b'n'), done("SELECT 1")]));
    assert_eq!(rig.got(), "12nC");
    rig.approve();
    assert_eq!(tags(&rig.sent()), "PBDES");
}

#[test]
fn an_error_before_it_in_the_pipeline_withdraws_it() {
    let mut rig = Rig::new(false);
    rig.client(&all(&[run("", "SELECT 1"), run("", "HELD"), sync()]));
    rig.sent();
    rig.server(&error("22012", "division by zero"));
    assert_eq!(rig.withdrawn.len(), 1);
    rig.refuse("57014");
    assert_eq!(rig.sent(), sync());
    rig.server(&ready(b'I'));
    assert_eq!((rig.got().as_str(), &rig.closed), ("EZ", &None));
}

#[test]
fn an_approval_that_comes_after_such_an_error_sends_nothing() {
    let mut rig = Rig::new(false);
    rig.client(&all(&[run("", "SELECT 1"), run("", "HELD"), sync()]));
    rig.sent();
    rig.server(&error("22012", "division by zero"));
    rig.approve();
    assert_eq!(rig.sent(), sync());
}

#[test]
fn an_error_that_answers_to_nothing_amid_a_pipeline_is_skipped_to_its_sync() {
    // The server's statement_timeout runs from Parse on, whoever it waits for.
    let mut rig = Rig::new(false);
    rig.client(&all(&[parse("s", "SELECT 1"), message(b'H', b"")]));
    rig.server(&bare(b'1'));
    rig.server(&error("57014", "canceling statement due to statement timeout"));
    rig.sent();
    rig.client(&all(&[bind("", "s"), execute(""), sync()]));
    assert_eq!(rig.sent(), sync());
    rig.server(&ready(b'I'));
    assert_eq!((rig.got().as_str(), &rig.closed), ("1EZ", &None));
}

#[test]
fn a_cancel_withdraws_it_and_the_error_comes_when_that_is_done() {
    let mut rig = Rig::new(false);
    rig.client(&query("HELD"));
    rig.session.cancel_requested();
    rig.settle();
    assert_eq!(rig.withdrawn, ["the client cancelled it"]);
    rig.refuse("57014");
    rig.server(&all(&[error("42601", "syntax error"), ready(b'T')]));
    assert_eq!(first_error(&rig.to_client).sqlstate(), "57014");
    // Without a review there is nothing to withdraw.
    rig.session.cancel_requested();
    rig.settle();
    assert_eq!(rig.withdrawn.len(), 1);
}

#[test]
fn whoever_ends_the_connection_withdraws_it_before() {
    let ends: [fn(&mut Session); 3] =
        [Session::client_gone, Session::server_gone, |session| session.end("57P01", "expired")];
    for end in ends {
        let mut rig = Rig::new(false);
        rig.client(&query("HELD"));
        end(&mut rig.session);
        rig.settle();
        assert_eq!(rig.withdrawn.len(), 1);
        assert!(rig.closed.is_some() && !rig.withdrawn[0].is_empty());
        rig.approve();
        assert_eq!(rig.sent(), b"", "an answer that comes too late");
    }
}

#[test]
fn the_server_is_kept_from_taking_the_transaction_for_idle() {
    let mut rig = Rig::new(false);
    rig.session.keep_alive();
    rig.settle();
    assert_eq!(rig.sent(), b"", "nothing waits");
    rig.client(&query("HELD"));
    for _ in 0..2 {
        rig.session.keep_alive();
        rig.session.keep_alive();
        rig.settle();
        assert_eq!(rig.sent(), sync(), "one at a time");
        rig.server(&ready(b'T'));
        assert_eq!(rig.got(), "");
    }
    rig.session.keep_alive();
    rig.approve();
    assert_eq!(rig.sent(), all(&[sync(), query("HELD")]));
    rig.server(&all(&[ready(b'T'), done("DELETE 3"), ready(b'T')]));
    assert_eq!((rig.got().as_str(), &rig.closed), ("CZ", &None));
    // A Sync amid a pipeline would end its transaction.
    rig.client(&all(&[run("", "SELECT 1"), run("", "HELD")]));
    rig.server(&all(&[bare(b'1'), bare(b'2'), bare(b'n'), done("SELECT 1")]));
    rig.sent();
    rig.session.keep_alive();
    rig.settle();
    assert_eq!(rig.sent(), b"");
}

#[test]
fn a_portal_read_in_pieces_is_one_run() {
    let mut rig = Rig::new(false);
    let step = all(&[written(|out| wire::execute("p", 2, out)), sync()]);
    rig.client(&all(&[parse("", "HELD SELECT"), bind("p", ""), step.clone()]));
    rig.approve();
    rig.server(&all(&[bare(b'1'), bare(b'2'), row(b"1"), bare(b's'), ready(b'T')]));
    rig.sent();
    rig.client(&step);
    assert_eq!((rig.sent(), rig.reviews.len()), (step, 1));
    assert!(rig.asked.last().unwrap().begun.is_some());
}

proptest! {
    #[test]
    fn no_held_text_goes_out_without_an_approval(
        steps in prop::collection::vec(
            prop::sample::select(vec![
                query("HELD"), query("SELECT 1"), parse("", "HELD"), parse("s", "HELD"),
                parse("p", "SELECT 2"), bind("", "p"), bind("", ""), bind("", "s"), bind("p", "s"), describe(""), describe("p"),
                execute(""), execute("p"), copy_data(b"x"), copy_done(),
            ]), 0..12),
    ) {
        let mut rig = Rig::new(true);
        rig.client(&steps.concat());
        let mut answered = 0;
        while rig.reviews.len() > answered {
            answered = rig.reviews.len();
            rig.refuse("42501");
        }
        let sent = rig.sent();
        let sent = split(&sent);
        let names = |m: &&&[u8]| m.windows(4).any(|window| window == b"HELD");
        prop_assert_eq!(sent.iter().filter(|m| m[0] == b'Q').filter(names).count(), 0);
        let nobody = execute("nobody");
        let runs = sent.iter().filter(|m| m[0] == b'E' && **m != nobody.as_slice()).count();
        let free = |r: &&StatementRequest| {
            r.protocol == Protocol::Execute && !r.sql.contains("HELD")
        };
        prop_assert!(runs <= rig.asked.iter().filter(free).count());
    }
}

/// In a COPY the server ignores a Sync, and after its failure skips what follows: the held
/// statement keeps its name, whatever the client has sent to give it to another.
#[test]
fn a_held_statements_name_is_not_taken_by_what_a_failed_copy_skips() {
    let mut rig = Rig::new(false);
    rig.client(&all(&[parse("s", "HELD"), sync()]));
    rig.server(&all(&[bare(b'1'), ready(b'I')]));
    let copy_fails = message(b'f', b"no\0");
    let renames = all(&[message(b'C', b"Ss\0"), parse("s", "SELECT 1"), sync()]);
    let runs = all(&[bind("", "s"), execute(""), sync()]);
    let copies = all(&[parse("", "COPY t FROM STDIN"), bind("", ""), execute(""), sync()]);
    let all_but_the_run = all(&[copies, copy_fails, renames]);
    rig.sent();
    rig.client(&all(&[all_but_the_run.clone(), runs]));
    assert_eq!(rig.sent(), all_but_the_run);
    rig.server(&all(&[bare(b'1'), bare(b'2'), copy_in()]));
    assert!(rig.sent().is_empty(), "nobody knows yet what the name means");
    rig.server(&all(&[error("57014", "COPY from stdin failed"), ready(b'I')]));
    assert_eq!((rig.sent(), rig.reviews.len()), (vec![], 1));
    assert_eq!(&*rig.asked.last().expect("a request").sql, "HELD");
}

#[test]
fn a_name_in_what_is_skipped_behind_a_copy_does_not_stand_for_the_held_one() {
    let mut rig = Rig::new(false);
    rig.client(&all(&[parse("s", "HELD"), sync()]));
    rig.server(&all(&[bare(b'1'), ready(b'I')]));
    // The COPY takes the first Sync for its own. The server skips the second Parse, as
    // its portal is unknown, and still has the held statement under its name.
    let copy = all(&[parse("", "COPY t FROM STDIN"), bind("", ""), execute(""), sync()]);
    let fail = message(b'f', b"no\0");
    let skipped = all(&[execute("unknown"), parse("s", "SELECT 1"), sync()]);
    let run = all(&[bind("", "s"), execute(""), sync()]);
    rig.client(&all(&[copy, fail, sync(), skipped, run.clone()]));
    rig.sent();
    rig.server(&all(&[bare(b'1'), bare(b'2'), copy_in()]));
    assert!(rig.sent().is_empty(), "the name means nothing yet");
    rig.server(&all(&[error("57014", "COPY from stdin failed: no"), ready(b'I')]));
    rig.server(&all(&[error("34000", "no portal"), ready(b'I')]));
    assert_eq!((rig.sent(), rig.reviews.len()), (vec![], 1));
    rig.approve();
    assert_eq!(rig.sent(), run);
}

#[test]
fn names_that_postgresql_would_cut_short_are_refused() {
    let name = |end: &str| "n".repeat(63) + end;
    let mut rig = Rig::new(false);
    rig.client(&all(&[parse(&name(""), "SELECT 1"), sync()]));
    assert_eq!(rig.sent(), all(&[parse(&name(""), "SELECT 1"), sync()]));
    rig.server(&all(&[bare(b'1'), ready(b'I')]));
    assert_eq!(rig.got(), "1Z");
    let close = message(b'C', format!("S{}\0", name("x")).as_bytes());
    let describe_one = message(b'D', format!("S{}\0", name("x")).as_bytes());
    for long in [
        parse(&name("x"), "HELD"),
        bind("", &name("x")),
        bind(&name("x"), &name("")),
        execute(&name("x")),
        describe(&name("x")),
        describe_one,
        close,
    ] {
        rig.client(&all(&[long, sync()]));
        assert_eq!(rig.sent(), all(&[bind("", "nobody"), sync()]));
        rig.server(&all(&[error("26000", "no such statement"), ready(b'I')]));
        assert_eq!(first_error(&rig.to_client).sqlstate(), "42622");
        assert_eq!((rig.got().as_str(), &rig.closed), ("EZ", &None));
    }
}
