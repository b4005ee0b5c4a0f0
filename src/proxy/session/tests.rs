//! The machine, fed with bytes: what goes where, after which verdict.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut as _, BytesMut};
use proptest::prelude::*;

mod closing;
mod detection;
mod holds;
mod recorded;
mod unasked;

use super::{Effect, Session, SessionConfig};
use crate::{
    journal::{Completion, EndReason, Parameter, Protocol, Record},
    mask::Detection,
    policy::Detector,
    proxy::{
        admission::{Admitted, Permit, Refusal, Review, Rewritten, StatementRequest},
        ruling::Decided,
    },
    wire::{self, ErrorFields, field},
};

const NOW: Duration = Duration::from_millis(7);

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    out.extend(body);
    out
}

fn written(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out);
    out.to_vec()
}

// What a client says.
fn query(sql: &str) -> Vec<u8> {
    written(|out| wire::query(sql, out))
}
fn parse(name: &str, sql: &str) -> Vec<u8> {
    written(|out| wire::parse(name, sql, &[0, 0], out))
}
fn bind(portal: &str, statement: &str) -> Vec<u8> {
    written(|out| wire::bind(portal, statement, out))
}
fn execute(portal: &str) -> Vec<u8> {
    written(|out| wire::execute(portal, 0, out))
}
fn sync() -> Vec<u8> {
    message(b'S', b"")
}
fn describe(portal: &str) -> Vec<u8> {
    message(b'D', format!("P{portal}\0").as_bytes())
}
fn copy_data(row: &[u8]) -> Vec<u8> {
    message(b'd', row)
}
fn copy_done() -> Vec<u8> {
    message(b'c', b"")
}

// What a server says.
fn done(tag: &str) -> Vec<u8> {
    message(b'C', format!("{tag}\0").as_bytes())
}
fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}
fn row(value: &[u8]) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u16(1);
    body.put_u32(u32::try_from(value.len()).unwrap());
    body.put_slice(value);
    message(b'D', &body)
}
fn row_description(table: u32, column: i16) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u16(1);
    body.put_slice(b"c\0");
    body.put_u32(table);
    body.put_i16(column);
    body.put_slice(&[0; 12]);
    message(b'T', &body)
}
fn error(sqlstate: &str, text: &str) -> Vec<u8> {
    let fields = ErrorFields::new("ERROR", sqlstate, text)
        .with(field::DETAIL, "detail 123-45-6789")
        .with(field::POSITION, "20");
    written(|out| fields.error_response(out))
}
fn bare(tag: u8) -> Vec<u8> {
    message(tag, b"")
}
/// The answers to a Parse of a role with masks: the machine describes it, too.
fn parsed() -> Vec<u8> {
    all(&[bare(b'1'), message(b't', &[0, 0]), row_description(0, 0)])
}
fn copy_in() -> Vec<u8> {
    message(b'G', &[0, 0, 0])
}
fn copy_out() -> Vec<u8> {
    message(b'H', &[0, 0, 0])
}

fn all(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

/// Decides by words in the text.
fn judge(request: &StatementRequest, statement: u64) -> Admitted {
    let sql = &request.sql;
    if sql.contains("DELETE") || request.protocol == Protocol::Function {
        return Admitted::Refuse(Refusal {
            statement,
            sqlstate: "42501",
            message: "pgate refused: deletes aren't allowed".into(),
            detail: "rule role.readonly.deny[0]".into(),
            hint: "Ask for the role writer.".into(),
            position: None,
        });
    }
    if sql.contains("HELD") && request.begun.is_none() {
        let permit = Permit::for_test(statement, None, false, None, &[]);
        return match request.protocol {
            Protocol::Parse => Admitted::Forward(permit.held_for_test(None)),
            _ => {
                let decided = Decided::unanalysed(String::new());
                Admitted::Hold(Box::new(Review::for_test(request.clone(), decided)))
            }
        };
    }
    let rewritten = sql.contains("customers").then(|| Rewritten {
        text: sql.replace("customers", "(SELECT masked) customers").into(),
        original_position: Arc::new(|position| position - 16),
    });
    let masked = rewritten.is_some();
    let limit = sql.contains("LIMITED").then_some(2);
    let mut permit = Permit::for_test(statement, rewritten, masked, limit, &[(16_384, 3)]);
    if sql.contains("RECORDED") {
        permit = permit.recording_for_test();
    }
    if sql.contains("COUNTED") {
        permit = permit.counting_for_test(5);
    }
    let detection = Detection::new(&[Detector::Email]).filter(|_| sql.contains("DETECT"));
    Admitted::Forward(match detection {
        Some(detection) => permit.detecting(detection),
        None => permit,
    })
}

/// The machine and all that has come out of it.
struct Rig {
    session: Session,
    to_client: Vec<u8>,
    to_server: Vec<u8>,
    records: Vec<Record>,
    asked: Vec<StatementRequest>,
    cancels: usize,
    /// The reviews that were asked for, and why they were withdrawn.
    reviews: Vec<u64>,
    withdrawn: Vec<String>,
    closed: Option<String>,
    ended: Option<EndReason>,
    decides: bool,
}

impl Rig {
    fn new(masks: bool) -> Self {
        let config = SessionConfig { connection: 1, masks, substitute: "nobody".into() };
        Self {
            session: Session::new(config),
            to_client: Vec::new(),
            to_server: Vec::new(),
            records: Vec::new(),
            asked: Vec::new(),
            cancels: 0,
            reviews: Vec::new(),
            withdrawn: Vec::new(),
            closed: None,
            ended: None,
            decides: true,
        }
    }

    fn settle(&mut self) {
        while let Some(effect) = self.session.effect() {
            match effect {
                Effect::Decide { id, request } => {
                    self.asked.push(request.clone());
                    if self.decides {
                        let number = u64::try_from(self.asked.len()).unwrap();
                        self.session.decided(id, judge(&request, number), NOW);
                    }
                }
                Effect::Record(record) => self.records.push(record),
                Effect::CancelStatement => {
                    self.cancels += 1;
                    self.session.cancelled();
                }
                Effect::Review { id, .. } => self.reviews.push(id),
                Effect::Withdraw { reason } => self.withdrawn.push(reason),
                Effect::Close { reason } => self.closed = Some(reason),
                Effect::EndSession { reason, .. } => self.ended = Some(reason),
            }
        }
        self.to_client.extend_from_slice(&self.session.to_client().split());
        self.to_server.extend_from_slice(&self.session.to_server().take());
    }

    fn client(&mut self, bytes: &[u8]) {
        self.session.client_bytes(bytes);
        self.settle();
    }

    fn server(&mut self, bytes: &[u8]) {
        self.session.server_bytes(bytes, NOW);
        self.settle();
    }

    /// Takes what has gone to the server.
    fn sent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.to_server)
    }

    /// Takes the types of what has gone to the client.
    fn got(&mut self) -> String {
        tags(&std::mem::take(&mut self.to_client))
    }

    fn completions(&self) -> Vec<&Completion> {
        fn only(record: &Record) -> Option<&Completion> {
            match record {
                Record::Completion(completion) => Some(completion),
                _ => None,
            }
        }
        self.records.iter().filter_map(only).collect()
    }
}

/// The messages; the last one may have begun without having ended.
fn split(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some(header) = wire::header(bytes).unwrap() {
        let (message, rest) = bytes.split_at(header.length.min(bytes.len()));
        messages.push(message);
        bytes = rest;
    }
    messages
}

fn tags(bytes: &[u8]) -> String {
    split(bytes).iter().map(|message| char::from(message[0])).collect()
}

fn first_error(bytes: &[u8]) -> ErrorFields {
    let message = split(bytes).into_iter().find(|message| message[0] == b'E').expect("an error");
    ErrorFields::parse(message).unwrap()
}

#[test]
fn an_allowed_query_passes_as_it_is_and_is_counted() {
    let mut rig = Rig::new(true);
    rig.client(&query("SELECT 1"));
    assert_eq!(rig.sent(), query("SELECT 1"));
    let answer =
        all(&[row_description(0, 0), row(b"1"), row(b"22"), done("SELECT 2"), ready(b'I')]);
    rig.server(&answer);
    assert_eq!(rig.to_client, answer);
    let completion = rig.completions()[0].clone();
    assert_eq!(completion.tag.as_deref(), Some("SELECT 2"));
    assert_eq!((completion.statement, completion.rows, completion.sqlstate), (1, 2, None));
    assert_eq!(completion.bytes, u64::try_from(row(b"1").len() + row(b"22").len()).unwrap());
}

#[test]
fn a_refused_query_is_replaced_and_its_error_is_ours_in_the_servers_transaction() {
    let mut rig = Rig::new(true);
    rig.client(&query("DELETE FROM orders"));
    assert_eq!(rig.sent(), query("pgate refused this statement"));
    rig.server(&all(&[error("42601", "syntax error"), ready(b'E')]));
    let fields = first_error(&rig.to_client);
    assert_eq!(fields.sqlstate(), "42501");
    assert_eq!(fields.get(field::DETAIL), Some("rule role.readonly.deny[0]"));
    assert_eq!(fields.get(field::HINT), Some("Ask for the role writer."));
    assert!(rig.to_client.ends_with(&ready(b'E')), "the transaction's state is the server's");
    assert!(rig.closed.is_none());
}

#[test]
fn a_refused_parse_is_replaced_and_the_rest_of_its_pipeline_is_skipped() {
    let mut rig = Rig::new(true);
    let rest = all(&[bind("", ""), describe(""), execute(""), sync()]);
    rig.client(&all(&[parse("", "DELETE FROM orders"), rest]));
    assert_eq!(tags(&rig.to_server), "PBDES");
    assert!(rig.to_server.starts_with(&parse("", "pgate refused this statement")));
    rig.server(&all(&[error("42601", "syntax error"), ready(b'I')]));
    assert_eq!(first_error(&rig.to_client).sqlstate(), "42501");
    assert_eq!(rig.got(), "EZ");
    rig.client(&query("SELECT 1"));
    rig.server(&all(&[done("SELECT 1"), ready(b'I')]));
    assert_eq!(rig.got(), "CZ");
}

#[test]
fn what_follows_a_known_error_is_not_even_forwarded_until_sync() {
    let mut rig = Rig::new(true);
    rig.client(&all(&[parse("", "DELETE FROM orders"), message(b'H', b"")]));
    rig.sent();
    rig.server(&error("42601", "syntax error"));
    rig.client(&all(&[bind("", ""), parse("x", "SELECT 1"), copy_data(b"x"), sync()]));
    assert_eq!(rig.sent(), sync());
    assert_eq!(rig.asked.len(), 1);
    rig.server(&ready(b'I'));
    assert_eq!(rig.got(), "EZ");
}

#[test]
fn the_unnamed_statement_is_gone_after_a_refused_parse_of_it() {
    let mut rig = Rig::new(true);
    rig.client(&all(&[parse("", "SELECT 1"), sync()]));
    rig.server(&all(&[parsed(), ready(b'I')]));
    assert_eq!(rig.got(), "1Z");
    rig.client(&all(&[parse("", "DELETE FROM orders"), sync()]));
    rig.server(&all(&[error("42601", "syntax error"), ready(b'I')]));
    rig.sent();
    rig.client(&all(&[bind("", ""), execute(""), sync()]));
    assert!(rig.sent().starts_with(&bind("", "nobody")));
}

#[test]
fn a_function_call_is_refused_in_its_place() {
    let mut rig = Rig::new(false);
    rig.client(&message(b'F', &[0, 0, 0, 42, 0, 0, 0, 0, 0, 0]));
    assert_eq!(rig.sent(), message(b'F', &[0; 10]), "of no function");
    rig.server(&all(&[error("42883", "function with OID 0 does not exist"), ready(b'I')]));
    assert_eq!(rig.got(), "EZ");
    assert_eq!(rig.asked[0].protocol, Protocol::Function);
}

#[test]
fn an_execute_is_put_to_admission_with_its_text_and_values() {
    let mut rig = Rig::new(false);
    let bound = message(b'B', b"\0s\0\0\0\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\0");
    rig.client(&all(&[parse("s", "SELECT $1, $2"), bound, execute(""), sync()]));
    let request = rig.asked.last().unwrap();
    assert_eq!(request.protocol, Protocol::Execute);
    assert_eq!(&*request.sql, "SELECT $1, $2");
    assert_eq!(*request.parameters, [Parameter::Text("ab".into()), Parameter::Null]);
    assert_eq!(request.earlier.as_ref().unwrap().statement(), 1);
    rig.server(&all(&[bare(b'1'), bare(b'2'), row(b"x"), done("SELECT 1"), ready(b'I')]));
    assert_eq!(rig.got(), "12DCZ");
    assert_eq!(rig.completions()[0].statement, 2);
}

#[test]
fn a_portal_that_was_not_bound_here_is_not_executed() {
    let mut rig = Rig::new(false);
    rig.client(&all(&[execute("sql_cursor"), sync()]));
    assert_eq!(rig.sent(), all(&[execute("nobody"), sync()]));
    rig.server(&all(&[error("34000", "portal \"nobody\" does not exist"), ready(b'I')]));
    let fields = first_error(&rig.to_client);
    assert_eq!(
        (fields.sqlstate(), fields.message()),
        ("34000", "portal \"sql_cursor\" does not exist")
    );
}

#[test]
fn a_name_that_hangs_on_an_unfinished_pipeline_waits_for_it() {
    let mut rig = Rig::new(false);
    rig.client(&all(&[parse("s", "SELECT 1"), sync()]));
    rig.server(&all(&[bare(b'1'), ready(b'I')]));
    rig.client(&all(&[message(b'C', b"Ss\0"), parse("s", "SELECT 2"), sync()]));
    rig.sent();
    rig.client(&all(&[bind("", "s"), execute(""), sync()]));
    assert_eq!(rig.sent(), b"");
    // The Parse fails: "s" is closed, and means nothing.
    rig.server(&all(&[bare(b'3'), error("42601", "syntax error"), ready(b'I')]));
    assert!(rig.sent().starts_with(&bind("", "nobody")));
    assert!(!rig.asked.iter().any(|request| request.protocol == Protocol::Execute));
}

#[test]
fn a_rewritten_statement_reports_positions_in_the_clients_text() {
    let mut rig = Rig::new(true);
    rig.client(&query("SELECT x FROM customers"));
    assert_eq!(rig.sent(), query("SELECT x FROM (SELECT masked) customers"));
    rig.server(&all(&[error("42703", "column \"x\" does not exist"), ready(b'I')]));
    let fields = first_error(&rig.to_client);
    assert_eq!(fields.get(field::POSITION), Some("4"));
    assert_eq!(fields.message(), "column \"x\" does not exist");
    assert_eq!(fields.get(field::DETAIL), None);
}

#[test]
fn a_data_dependent_error_of_a_masked_relation_says_nothing() {
    for (sqlstate, sql, kept) in [
        ("22P02", "SELECT ssn::int FROM customers", false),
        ("23514", "UPDATE customers SET x = 1", false),
        ("22P02", "SELECT 'x'::int", true),
    ] {
        let mut rig = Rig::new(true);
        rig.client(&all(&[parse("", sql), bind("", ""), execute(""), sync()]));
        let failed = error(sqlstate, "invalid: 123-45-6789");
        rig.server(&all(&[parsed(), bare(b'2'), failed, ready(b'I')]));
        let shown = String::from_utf8_lossy(&rig.to_client).into_owned();
        assert_eq!(shown.contains("invalid: 123-45"), kept, "{sql}");
        assert!(!shown.contains("detail"), "{sql}");
        assert_eq!(first_error(&rig.to_client).sqlstate(), sqlstate);
    }
}

#[test]
fn a_masked_column_in_a_result_ends_the_session_before_its_rows() {
    let mut rig = Rig::new(true);
    rig.client(&query("SELECT 1"));
    rig.server(&all(&[row_description(16_384, 3), row(b"123-45-6789")]));
    assert_eq!(rig.ended, Some(EndReason::Tripwire));
    assert!(rig.closed.is_some());
    assert!(!rig.to_client.windows(6).any(|window| window == b"123-45"));
    assert!(first_error(&rig.to_client).is_fatal());
    assert!(matches!(rig.records[0], Record::Alert { .. }));
}

#[test]
fn a_masked_column_is_noticed_though_the_client_never_describes() {
    let mut rig = Rig::new(true);
    rig.client(&all(&[parse("", "SELECT 1"), bind("", ""), execute(""), sync()]));
    assert_eq!(tags(&rig.sent()), "PDBES");
    let described = [bare(b'1'), message(b't', &[0, 0]), row_description(16_384, 3)];
    rig.server(&all(&[all(&described), bare(b'2'), row(b"123-45-6789")]));
    assert_eq!((rig.ended, rig.got().as_str()), (Some(EndReason::Tripwire), "1E"));
}

#[test]
fn rows_beyond_the_limit_are_withheld_and_the_statement_is_cancelled() {
    let mut rig = Rig::new(false);
    rig.client(&query("SELECT LIMITED"));
    rig.server(&all(&[row_description(0, 0), row(b"1"), row(b"2"), row(b"3"), row(b"4")]));
    assert_eq!((rig.got().as_str(), rig.cancels), ("TDD", 1));
    rig.server(&all(&[error("57014", "canceling statement due to user request"), ready(b'I')]));
    assert_eq!(first_error(&rig.to_client).sqlstate(), "54000");
    assert_eq!(rig.got(), "EZ");
    // The cancellation may come too late.
    rig.client(&query("SELECT LIMITED"));
    rig.server(&all(&[row_description(0, 0), row(b"1"), row(b"2"), row(b"3")]));
    rig.server(&all(&[done("SELECT 3"), ready(b'I')]));
    assert_eq!(rig.got(), "TDDEZ");
    assert_eq!(rig.completions()[1].rows, 2);
}

#[test]
fn a_portal_read_in_pieces_has_one_limit() {
    let mut rig = Rig::new(false);
    let step = |portal: &str| all(&[written(|out| wire::execute(portal, 2, out)), sync()]);
    rig.client(&all(&[parse("", "SELECT LIMITED"), bind("p", ""), step("p")]));
    rig.server(&all(&[bare(b'1'), bare(b'2'), row(b"1"), row(b"2"), bare(b's'), ready(b'T')]));
    assert_eq!(rig.got(), "12DDsZ");
    rig.client(&step("p"));
    rig.server(&all(&[row(b"3"), row(b"4"), bare(b's'), ready(b'T')]));
    assert_eq!(rig.cancels, 1);
}

#[test]
fn copy_goes_both_ways_and_a_sync_sent_ahead_is_the_copys() {
    let mut rig = Rig::new(false);
    rig.client(&query("COPY t FROM STDIN"));
    rig.server(&copy_in());
    rig.client(&all(&[copy_data(b"1\n"), copy_data(b"2\n"), copy_done()]));
    rig.server(&all(&[done("COPY 2"), ready(b'I')]));
    assert_eq!(rig.got(), "GCZ");
    rig.client(&query("COPY t TO STDOUT"));
    rig.server(&all(&[copy_out(), copy_data(b"1\n"), copy_done(), done("COPY 1"), ready(b'I')]));
    assert_eq!(rig.got(), "HdcCZ");
    assert_eq!(rig.completions()[1].rows, 1);
    // libpq's PQexecParams: the Sync goes out before the COPY is known.
    rig.client(&all(&[parse("", "COPY t FROM STDIN"), bind("", ""), execute(""), sync()]));
    rig.server(&all(&[bare(b'1'), bare(b'2'), copy_in()]));
    rig.client(&all(&[copy_data(b"1\n"), copy_done(), sync()]));
    rig.server(&all(&[done("COPY 1"), ready(b'I')]));
    assert_eq!(rig.got(), "12GCZ");
    rig.client(&query("SELECT 1"));
    rig.server(&all(&[done("SELECT 1"), ready(b'I')]));
    assert_eq!((rig.got().as_str(), &rig.closed), ("CZ", &None));
}

#[test]
fn a_copy_that_fails_amid_the_data_leaves_the_protocol_in_order() {
    let mut rig = Rig::new(false);
    rig.client(&query("COPY t FROM STDIN"));
    rig.server(&copy_in());
    rig.client(&copy_data(b"x\n"));
    rig.server(&all(&[error("22P02", "invalid input"), ready(b'I')]));
    rig.client(&all(&[copy_data(b"y\n"), copy_done(), query("SELECT 1")]));
    rig.server(&all(&[done("SELECT 1"), ready(b'I')]));
    assert_eq!((rig.got().as_str(), &rig.closed), ("GEZCZ", &None));
}

#[test]
fn a_setting_that_would_change_how_sql_is_read_ends_the_connection() {
    for (name, value, ends) in [
        ("standard_conforming_strings", "off", true),
        ("client_encoding", "LATIN1", true),
        ("client_encoding", "UTF8", false),
        // PostgreSQL keeps this name of it as the client wrote it, for old drivers' sake.
        ("client_encoding", "UNICODE", false),
        ("TimeZone", "UTC", false),
    ] {
        let mut rig = Rig::new(false);
        rig.server(&written(|out| wire::parameter_status(name, value, out)));
        assert_eq!(rig.closed.is_some(), ends, "{name}={value}");
        assert!(matches!(&rig.records[0], Record::Setting { name: found, .. } if found == name));
    }
}

#[test]
fn what_the_machine_does_not_know_ends_the_connection() {
    for bytes in [
        message(b'?', b""),
        message(b'p', b"password\0"),
        message(b'Q', b"SELECT 1\0DROP TABLE t\0"),
        message(b'Q', b"no end"),
        message(b'S', b"x"),
        vec![b'Q', 0, 0, 0, 0],
        vec![b'Q', 0x3f, 0xff, 0xff, 0xff],
    ] {
        let mut rig = Rig::new(false);
        rig.client(&bytes);
        assert!(rig.closed.is_some(), "{bytes:?}");
        assert!(rig.to_server.is_empty() && first_error(&rig.to_client).is_fatal());
    }
    for bytes in [row(b"x"), ready(b'I'), message(b'V', b""), message(b'W', b"\0\0\0"), bare(b'1')]
    {
        let mut rig = Rig::new(false);
        rig.server(&bytes);
        assert!(rig.closed.is_some(), "{bytes:?}");
        assert_eq!(rig.got(), "E");
    }
}

#[test]
fn a_substitute_that_the_server_accepts_ends_the_session() {
    let mut rig = Rig::new(false);
    rig.client(&query("DELETE FROM orders"));
    rig.server(&done("DELETE 1"));
    assert_eq!(rig.ended, Some(EndReason::Failed));
}

#[test]
fn a_notice_of_ours_waits_for_the_end_of_a_row() {
    let mut rig = Rig::new(false);
    rig.client(&query("SELECT 1"));
    let long = row(&[b'x'; 1000]);
    rig.server(&long[..500]);
    rig.session.notice("ends soon");
    rig.settle();
    assert_eq!(rig.to_client, &long[..500]);
    rig.server(&all(&[long[500..].to_vec(), done("SELECT 1"), ready(b'I')]));
    assert_eq!(rig.got().matches('N').count(), 1);
}

#[test]
fn the_end_cancels_what_runs_and_never_cuts_into_a_row() {
    let mut rig = Rig::new(false);
    rig.client(&query("SELECT 1"));
    rig.session.end("57P01", "the grant has expired");
    rig.settle();
    assert_eq!((rig.cancels, rig.got().as_str()), (1, "E"));
    let mut rig = Rig::new(false);
    rig.client(&query("SELECT 1"));
    rig.server(&row(&[b'x'; 100])[..50]);
    rig.session.end("57P01", "the grant has expired");
    rig.settle();
    assert_eq!(rig.to_client.len(), 50);
    assert!(rig.closed.is_some());
}

/// A conversation with a bit of everything: who speaks, and what.
fn conversation() -> Vec<(bool, Vec<u8>)> {
    let (client, server) = (true, false);
    vec![
        (client, all(&[query("SELECT 1"), parse("s", "SELECT x FROM customers"), sync()])),
        (server, all(&[row_description(0, 0), row(b"1"), done("SELECT 1"), ready(b'I')])),
        (server, all(&[parsed(), ready(b'I')])),
        (client, all(&[bind("", "s"), describe(""), execute(""), execute("nope"), sync()])),
        (server, all(&[bare(b'2'), row_description(0, 0), row(&[7; 300]), done("SELECT 1")])),
        (server, all(&[error("34000", "portal"), ready(b'I')])),
        (client, query("DELETE FROM orders")),
        (server, all(&[error("42601", "syntax error"), ready(b'I')])),
        (client, query("COPY t FROM STDIN")),
        (server, copy_in()),
        (client, all(&[copy_data(&[b'x'; 200]), copy_done(), query("SELECT LIMITED")])),
        (server, all(&[done("COPY 1"), ready(b'I'), row_description(0, 0)])),
        (server, all(&[row(b"1"), row(b"2"), row(b"3"), error("57014", "cancel"), ready(b'I')])),
        (server, written(|out| wire::parameter_status("TimeZone", "UTC", out))),
        (client, message(b'X', b"")),
    ]
}

type Outcome = (Vec<u8>, Vec<u8>, Vec<Record>, usize, Option<String>);

fn held(chunk: &mut impl FnMut(usize) -> usize) -> Outcome {
    let mut rig = Rig::new(true);
    for (from_client, bytes) in conversation() {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(chunk(rest.len()).clamp(1, rest.len()));
            rest = later;
            if from_client { rig.client(now) } else { rig.server(now) }
        }
    }
    (rig.to_client, rig.to_server, rig.records, rig.cancels, rig.closed)
}

#[test]
fn byte_by_byte_gives_what_the_whole_gives() {
    let whole = held(&mut |length| length);
    assert_eq!(whole.4, None, "the conversation keeps to the protocol");
    assert_eq!(held(&mut |_| 1), whole);
}

proptest! {
    #[test]
    fn chunking_never_changes_the_outcome(sizes in prop::collection::vec(1usize..80, 1..50)) {
        let mut sizes = sizes.into_iter().cycle();
        prop_assert_eq!(held(&mut |_| sizes.next().unwrap_or(1)), held(&mut |length| length));
    }

    #[test]
    fn nothing_goes_out_before_its_verdict(
        before in 0usize..4,
        after in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut rig = Rig::new(true);
        rig.decides = false;
        let syncs = sync().repeat(before);
        rig.client(&all(&[syncs.clone(), query("SELECT secret"), after]));
        prop_assert_eq!(rig.to_server, syncs);
        prop_assert_eq!(rig.asked.len(), 1);
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_never_pass_unasked(
        steps in prop::collection::vec(
            (any::<bool>(), prop::collection::vec(any::<u8>(), 0..60)), 0..20),
    ) {
        let mut rig = Rig::new(true);
        for (from_client, bytes) in steps {
            if from_client { rig.client(&bytes) } else { rig.server(&bytes) }
        }
        let runs = |tag: u8| split(&rig.to_server).iter().filter(|m| m[0] == tag).count();
        prop_assert!(runs(b'Q') + runs(b'P') <= rig.asked.len());
    }

    #[test]
    fn arbitrary_messages_never_panic_and_never_pass_unasked(
        steps in prop::collection::vec(
            (any::<bool>(), prop::sample::select(b"QPBEDCSHFdcfX123tnTDCIsGHdcZENA".to_vec()),
             prop::collection::vec(prop::sample::select(b"\0\0\0\x01\x02PS1a%".to_vec()), 0..14)),
            0..40),
    ) {
        let mut rig = Rig::new(true);
        for (from_client, tag, body) in steps {
            let bytes = message(tag, &body);
            if from_client { rig.client(&bytes) } else { rig.server(&bytes) }
        }
        let streaming = rig.to_server.clone();
        let runs = |tag: u8| split(&streaming).iter().filter(|m| m[0] == tag).count();
        prop_assert!(runs(b'Q') + runs(b'P') <= rig.asked.len());
    }
}
