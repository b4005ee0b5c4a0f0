//! The machine with everything that comes out of it kept and checked: nothing goes to
//! the server that wasn't permitted before, and what was permitted ends in the log.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{
    Under,
    statement::{MOST_WRITTEN, Statement},
};
use crate::{
    grant::HoldId,
    journal::{Protocol, Record},
    proxy::{
        admission::{Admitted, Permit, Refusal, Review, Rewritten, StatementRequest},
        ruling::Decided,
        session::{Effect, Session, SessionConfig},
    },
    wire,
};

const NOW: Duration = Duration::from_millis(7);
/// What pgate has to say of its own.
pub(super) const NOTICE: &str = "the grant ends soon";
const SUBSTITUTE: &str = "pgate_substitute";

/// What happened to the machine, for playing it again in other pieces.
#[derive(Debug, Clone)]
pub(super) enum Happened {
    Client(Vec<u8>),
    Server(Vec<u8>),
    Decided,
    Reviewed,
    Noticed,
    KeptAlive,
    ServerGone,
    ClientGone,
    SessionEnds,
    /// The server has been heard for long enough.
    Concluded,
}

/// What has been permitted and hasn't gone out.
#[derive(Debug, Default)]
struct Permitted {
    queries: Vec<String>,
    parses: Vec<String>,
    executes: usize,
}

/// The machine, and all that has come out of it.
#[derive(Debug)]
pub(super) struct Machine {
    role: Under,
    session: Session,
    pub(super) to_client: Vec<u8>,
    to_server: Vec<u8>,
    /// How much of it the server has been given, and how much has been checked.
    taken: usize,
    checked: usize,
    pub(super) records: Vec<Record>,
    pub(super) asked: VecDeque<(u64, StatementRequest)>,
    pub(super) review: Option<(u64, StatementRequest)>,
    statements: u64,
    permitted: Permitted,
    /// What runs, and must be completed in the log.
    runs: Vec<u64>,
    notices: usize,
    pub(super) closed: Option<String>,
}

impl Machine {
    pub(super) fn new(role: Under) -> Self {
        let masks = role.masks;
        let config = SessionConfig { connection: 1, masks, substitute: SUBSTITUTE.into() };
        Self {
            role,
            session: Session::new(config),
            to_client: Vec::new(),
            to_server: Vec::new(),
            taken: 0,
            checked: 0,
            records: Vec::new(),
            asked: VecDeque::new(),
            review: None,
            statements: 0,
            permitted: Permitted::default(),
            runs: Vec::new(),
            notices: 0,
            closed: None,
        }
    }

    pub(super) fn happens(&mut self, what: &Happened) {
        match what {
            Happened::Client(bytes) => self.session.client_bytes(bytes),
            Happened::Server(bytes) => self.session.server_bytes(bytes, NOW),
            Happened::Decided => {
                if let Some((id, request)) = self.asked.pop_front() {
                    let answer = self.judge(&request);
                    self.answer(id, answer, request.protocol);
                }
            }
            Happened::Reviewed => {
                if let Some((id, request)) = self.review.take() {
                    let answer = self.reviewed(&request);
                    self.answer(id, answer, request.protocol);
                }
            }
            Happened::Noticed => {
                self.notices += 1;
                self.session.notice(NOTICE);
            }
            Happened::KeptAlive => self.session.keep_alive(),
            Happened::ServerGone => self.session.server_gone(),
            Happened::ClientGone => self.session.client_gone(),
            Happened::SessionEnds => self.session.end("57P01", "the grant has expired"),
            Happened::Concluded => self.session.conclude(NOW),
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(effect) = self.session.effect() {
            match effect {
                Effect::Decide { id, request } => self.asked.push_back((id, request)),
                Effect::Review { id, review } => {
                    self.review = Some((id, review.request_for_test().clone()));
                }
                Effect::Withdraw { .. } => {}
                Effect::Record(record) => self.records.push(record),
                Effect::CancelStatement => self.session.cancelled(),
                Effect::Close { reason } => self.closed = Some(reason),
                Effect::EndSession { detail, .. } => panic!("the session ended: {detail}"),
            }
        }
        self.to_client.extend_from_slice(&self.session.to_client().split());
        self.to_server.extend_from_slice(&self.session.to_server().take());
        self.check_sent();
    }

    fn answer(&mut self, id: u64, answer: Admitted, protocol: Protocol) {
        let waits = match &answer {
            Admitted::Forward(permit) => {
                if protocol != Protocol::Parse {
                    self.runs.push(permit.statement());
                }
                permit.may_wait()
            }
            Admitted::Hold(_) | Admitted::Refuse(_) => false,
        };
        self.session.decided(id, answer, NOW);
        self.drain();
        // What hasn't gone out now never will: the server skips it. Only the Parse of
        // what waits for a reviewer may go out later.
        self.permitted.queries.clear();
        self.permitted.executes = 0;
        if protocol == Protocol::Parse && !waits {
            self.permitted.parses.clear();
        }
    }

    fn judge(&mut self, request: &StatementRequest) -> Admitted {
        self.statements += 1;
        let statement = Statement::read(&request.sql);
        if request.protocol == Protocol::Function || statement == Some(Statement::Denied) {
            return self.refusal();
        }
        let held = matches!(statement, Some(Statement::Held { .. }));
        let permit = match (held, request.protocol, &request.begun) {
            (true, Protocol::Parse, _) => self.permit(request).held_for_test(None),
            (true, _, None) => {
                let decided = Decided::unanalysed(String::new());
                return Admitted::Hold(Box::new(Review::for_test(request.clone(), decided)));
            }
            (true, _, Some(_)) => self.permit(request).held_for_test(Some(hold())),
            (false, ..) => self.permit(request),
        };
        Admitted::Forward(permit)
    }

    fn reviewed(&mut self, request: &StatementRequest) -> Admitted {
        match Statement::read(&request.sql) {
            Some(Statement::Held { approved: true }) => {
                Admitted::Forward(self.permit(request).held_for_test(Some(hold())))
            }
            _ => self.refusal(),
        }
    }

    fn refusal(&self) -> Admitted {
        Admitted::Refuse(Refusal {
            statement: self.statements,
            sqlstate: "42501",
            message: "pgate: no".into(),
            detail: "rule role.clerk.deny[0]".into(),
            hint: String::new(),
            position: None,
        })
    }

    /// A permit, which is noted down.
    fn permit(&mut self, request: &StatementRequest) -> Permit {
        let statement = Statement::read(&request.sql);
        let rewritten = statement.and_then(Statement::rewritten);
        let text = rewritten.unwrap_or(&request.sql).to_owned();
        let rewritten = rewritten.map(|text| Rewritten {
            text: text.into(),
            original_position: Arc::new(|position| position),
        });
        let permit = Permit::for_test(self.statements, rewritten, false, None, &[]);
        let permit = if self.role.records { permit.recording_for_test() } else { permit };
        let counted = matches!(statement, Some(Statement::Writes(_) | Statement::Overwrites));
        match request.protocol {
            Protocol::Simple if counted => {
                self.permitted.parses.push(text);
                self.permitted.executes += 1;
            }
            Protocol::Simple => self.permitted.queries.push(text),
            Protocol::Parse => self.permitted.parses.push(text),
            Protocol::Execute => self.permitted.executes += 1,
            Protocol::Function => unreachable!("never permitted"),
        }
        if counted { permit.counting_for_test(MOST_WRITTEN) } else { permit }
    }

    /// Every message that goes out has its permit, and goes out whole.
    fn check_sent(&mut self) {
        while let Some(header) = wire::header(&self.to_server[self.checked..]).expect("a message") {
            let rest = &self.to_server[self.checked..];
            let Some(message) = rest.get(..header.length) else {
                assert_eq!(header.tag, b'd', "only the data of a COPY streams");
                return;
            };
            match header.tag {
                b'Q' => {
                    let sql = wire::parse_query(message).expect("a Query");
                    if sql != super::super::substitute::REJECTED {
                        take(&mut self.permitted.queries, sql);
                    }
                }
                b'P' => {
                    let sql = wire::parse_parse(message).expect("a Parse").sql;
                    if sql != super::super::substitute::REJECTED {
                        take(&mut self.permitted.parses, sql);
                    }
                }
                b'E' => {
                    let portal = wire::parse_execute(message).expect("an Execute").portal;
                    if portal != SUBSTITUTE {
                        let left = self.permitted.executes.checked_sub(1);
                        self.permitted.executes = left.expect("a permit for the Execute");
                    }
                }
                b'F' => assert_eq!(message, super::super::substitute::NO_FUNCTION),
                b'B' | b'D' | b'C' | b'S' | b'H' | b'd' | b'c' | b'f' => {}
                other => panic!("a message of type {} goes out", char::from(other)),
            }
            self.checked += header.length;
        }
    }

    /// What has gone out since this was last asked.
    pub(super) fn take_sent(&mut self) -> Vec<u8> {
        let sent = self.to_server[self.taken..].to_vec();
        self.taken = self.to_server.len();
        sent
    }

    pub(super) fn all_sent(&self) -> &[u8] {
        &self.to_server
    }

    pub(super) fn notices(&self) -> usize {
        self.notices
    }

    pub(super) fn awaits_outcomes(&self) -> bool {
        self.session.awaits_outcomes()
    }

    /// Nothing waits any more, and the log has every run's end.
    pub(super) fn is_at_its_end(&self) {
        if self.closed.is_some() {
            return;
        }
        assert!(!self.session.in_flight(), "{:?}", self.session);
        assert_eq!(self.session.client_backlog(), 0);
        self.completes_every_run();
    }

    /// The log has every run's end once.
    pub(super) fn completes_every_run(&self) {
        for run in &self.runs {
            let completions = self.records.iter().filter(|record| match record {
                Record::Completion(completion) => completion.statement == *run,
                _ => false,
            });
            assert_eq!(completions.count(), 1, "completions of statement {run}");
        }
    }
}

fn hold() -> HoldId {
    HoldId::from_random([1; 10])
}

fn take(permitted: &mut Vec<String>, sql: &str) {
    let at = permitted.iter().position(|text| text == sql);
    permitted.swap_remove(at.unwrap_or_else(|| panic!("no permit for {sql:?}")));
}
