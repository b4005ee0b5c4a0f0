//! A session for the tests: two keys, a grant, and a log with every kind of line.

use jiff::Timestamp;

use super::*;
use crate::{
    grant::{
        Confirmation, GrantId, HoldId, Identity, Scope, SessionGrant, SessionId, SignedGrant,
        SigningKey,
    },
    policy::{Allowed, Denied, Held, Reviewers, RuleRef, Verdict},
};

pub(crate) fn server_key() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

pub(crate) fn session_key() -> SigningKey {
    SigningKey::from_seed(&[2; 32])
}

pub(crate) fn session() -> SessionId {
    SessionId::from_random([9; 10])
}

/// So many milliseconds after the session's beginning; its grant lasts an hour.
pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
}

pub(crate) fn grant() -> SessionGrant {
    SessionGrant {
        iss: "http://127.0.0.1:7432".into(),
        grant: GrantId::from_random([1; 10]),
        session: session(),
        identity: Identity {
            issuer: "corp".into(),
            subject: "ana".into(),
            email: Some("ana@example.com".into()),
            groups: vec!["engineering".into()],
            claims: Default::default(),
        },
        target: "prod-db".into(),
        role: "readonly".into(),
        policy: "00".into(),
        reason: "INC-1".into(),
        approved_by: Vec::new(),
        iat: 1_800_000_000,
        exp: 1_800_003_600,
        cnf: Confirmation { jwk: session_key().verifying_key().to_jwk() },
    }
}

pub(crate) fn start_under(grant: &SessionGrant, signer: &SigningKey) -> Start {
    Start {
        version: FORMAT_VERSION,
        session: session(),
        grant: SignedGrant::sign(grant, signer).unwrap(),
        key: session_key().verifying_key().to_jwk(),
        pgate: "0.1.0".into(),
        command: Some("psql".into()),
    }
}

pub(crate) fn start() -> Start {
    start_under(&grant(), &server_key())
}

pub(crate) fn rule(rule: &str) -> RuleRef {
    RuleRef { rule: rule.into(), place: Some("shop.toml:7".into()) }
}

pub(crate) fn statement(number: u64, sql: &str) -> Record {
    let verdict = Verdict::Allow(Allowed {
        rule: rule("role.readonly.allow[0]"),
        masked: vec![],
        lookups: std::collections::BTreeMap::new(),
    });
    with_verdict(number, sql, verdict)
}

pub(crate) fn denied(number: u64, sql: &str) -> Record {
    let verdict = Verdict::Deny(Denied {
        rule: rule("role.readonly.deny[0]"),
        reason: "secrets".into(),
        hint: String::new(),
    });
    with_verdict(number, sql, verdict)
}

pub(crate) fn held(number: u64, sql: &str) -> Record {
    let verdict = Verdict::Hold(Held {
        rule: rule("role.writer.hold[0]"),
        reason: "delete needs the approval of a member of dba".into(),
        reviewers: Some(Reviewers::Group("dba".into())),
    });
    with_verdict(number, sql, verdict)
}

fn with_verdict(statement: u64, sql: &str, verdict: Verdict) -> Record {
    Record::Statement(Box::new(StatementRecord {
        connection: 1,
        statement,
        protocol: Protocol::Simple,
        sql: sql.into(),
        parameters: [Parameter::Null, Parameter::Text("ü\"\n".into())].into(),
        verdict: std::sync::Arc::new(verdict.into()),
    }))
}

pub(crate) fn planned(statement: u64) -> Record {
    Record::Planned(Box::new(PlannedRecord {
        connection: 1,
        statement,
        sql: "DELETE FROM shop.orders".into(),
        parameters: vec![Parameter::Null],
    }))
}

pub(crate) fn completion(statement: u64) -> Record {
    Record::Completion(Completion {
        connection: 1,
        statement,
        tag: Some("SELECT 1".into()),
        rows: 1,
        bytes: 12,
        duration_us: 340,
        sqlstate: None,
    })
}

pub(crate) fn results(statement: u64) -> Record {
    let column =
        |name: &str, type_oid, format| ResultColumn { name: name.into(), type_oid, format };
    let cut = CutValue { bytes: 9_000, sha256: LineHash::of(b"long").to_string() };
    Record::Results(Box::new(ResultsRecord {
        connection: 1,
        statement,
        sets: vec![
            ResultSet {
                columns: vec![
                    column("id", 23, ValueFormat::Binary),
                    column("e", 25, ValueFormat::Text),
                ],
                copy: None,
                rows: vec![
                    vec![
                        Value::Binary { binary: "AAAAAQ==".into() },
                        Value::Text("a***@example.com".into()),
                    ],
                    vec![Value::Null, Value::Cut { cut }],
                ],
            },
            ResultSet {
                columns: Vec::new(),
                copy: Some(ValueFormat::Text),
                rows: vec![vec![Value::Text("1\tx\n".into())]],
            },
        ],
        cut: Some(CutRows { rows: 3, bytes: 40 }),
    }))
}

pub(crate) fn end() -> Record {
    Record::End(End { reason: EndReason::Closed, detail: String::new() })
}

/// A person who reviews.
pub(crate) fn reviewer() -> Identity {
    Identity { subject: "dan".into(), email: Some("dan@example.com".into()), ..grant().identity }
}

pub(crate) fn hold(statement: u64, event: HoldEvent) -> Record {
    let hold = HoldId::from_random([3; 10]);
    Record::Hold(Box::new(HoldRecord { connection: 1, statement, hold, event }))
}

/// Every step that a hold can take.
pub(crate) fn hold_events() -> Vec<HoldEvent> {
    let reviewers = Some(Reviewers::Group("dba".into()));
    vec![
        HoldEvent::Raised { rule: rule("role.writer.hold[0]"), reviewers, expires_at: at(600_000) },
        HoldEvent::Approved {
            by: reviewer(),
            decided_at: at(5_000),
            scope: Scope::SameStatements,
            comment: "go ahead".into(),
        },
        HoldEvent::Covered,
        HoldEvent::Denied { by: reviewer(), decided_at: at(5_000), comment: String::new() },
        HoldEvent::Withdrawn { reason: "the client cancelled it".into() },
        HoldEvent::TimedOut,
        HoldEvent::Failed { reason: "the session ended".into() },
        HoldEvent::Void { reason: "the grant has ended".into() },
    ]
}

/// A log as a client and the control plane write it together, as lines with
/// their line feeds: 0 start, 1 connect, 2 setting, 3 statement, 4 completion,
/// 5 checkpoint, 6 receipt for 5, 7 denied statement, 8 disconnect, 9 end,
/// 10 checkpoint, 11 receipt for 10.
pub(crate) fn log() -> Vec<Vec<u8>> {
    let (mut chain, first) = Chain::start(start(), at(0)).unwrap();
    let mut lines = vec![first.bytes];
    let body = [
        Record::Connect(ConnectionStart {
            connection: 1,
            transport: "unix".into(),
            parameters: [("application_name".into(), "psql".into())].into(),
        }),
        Record::Setting { connection: 1, name: "TimeZone".into(), value: "UTC".into() },
        statement(1, "SELECT 1"),
        completion(1),
    ];
    for (record, n) in body.into_iter().zip(1..) {
        lines.push(chain.append(record, at(n * 10)).unwrap().bytes);
    }
    lines.push(chain.checkpoint(&session_key(), at(50)).unwrap().bytes);
    let received = receive(&lines);
    let receipt = received.receipt(at(55), &server_key()).unwrap();
    lines.push(chain.receipt(receipt).unwrap().bytes);
    let rest = [
        denied(2, "SELECT * FROM shop.api_keys"),
        Record::Disconnect(ConnectionEnd { connection: 1, reason: "terminated".into() }),
        end(),
    ];
    for (record, n) in rest.into_iter().zip(6..) {
        lines.push(chain.append(record, at(n * 10)).unwrap().bytes);
    }
    lines.push(chain.checkpoint(&session_key(), at(90)).unwrap().bytes);
    let receipt = receive(&lines).receipt(at(95), &server_key()).unwrap();
    lines.push(chain.receipt(receipt).unwrap().bytes);
    lines
}

/// What the control plane remembers after these lines.
pub(crate) fn receive(lines: &[Vec<u8>]) -> Receiver {
    let keys = [server_key().verifying_key()];
    let receiver = Receiver::new(session(), session_key().verifying_key().to_jwk());
    receiver.accept(0, &lines.concat(), &keys).unwrap().receiver
}
