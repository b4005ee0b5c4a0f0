//! The session state machine between a hostile client and a hostile server, with
//! every statement refused: none of them may reach the server.
//!
//! The input is a script: a byte that says what happens, the length of its bytes
//! (two bytes, big-endian), the bytes.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use pgate::{
    proxy::{
        Admitted, Refusal,
        session::{Effect, Session, SessionConfig},
    },
    wire,
};

const SUBSTITUTE: &str = "pgate_refused_by_the_fuzzer";
/// Steps of one script.
const MOST_STEPS: u32 = 1000;

/// Plays the script in `data`.
pub fn run(data: &[u8]) {
    let mut session = Session::new(SessionConfig {
        connection: 1,
        masks: data.len().is_multiple_of(2),
        substitute: SUBSTITUTE.into(),
    });
    let mut refused: BTreeSet<Arc<str>> = BTreeSet::new();
    let mut sent = Vec::new();
    let mut rest = data;
    for step in 0..MOST_STEPS {
        let Some(([what, high, low], after)) = rest.split_first_chunk::<3>() else { break };
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (bytes, after) = after.split_at(length);
        rest = after;
        let now = Duration::from_millis(u64::from(step));
        match what % 8 {
            0..=3 => session.client_bytes(bytes),
            4 | 5 => session.server_bytes(bytes, now),
            6 => session.notice("a notice"),
            _ => match length {
                0 => session.client_gone(),
                1 => session.server_gone(),
                _ => session.end("57P01", "the session ends"),
            },
        }
        // A decision may bring the next one.
        while let Some(effect) = session.effect() {
            if let Effect::Decide { id, request } = effect {
                let answer = refuse(u64::from(step));
                refused.insert(request.sql);
                session.decided(id, Admitted::Refuse(answer), now);
            }
        }
        sent.extend_from_slice(&session.to_server().take());
        session.to_client().clear();
    }
    check(&sent, &refused);
}

fn refuse(statement: u64) -> Refusal {
    Refusal {
        statement,
        sqlstate: "42501",
        message: "refused".into(),
        detail: "rule".into(),
        hint: String::new(),
        position: None,
    }
}

/// No message to the server holds the text of a refused statement.
fn check(mut sent: &[u8], refused: &BTreeSet<Arc<str>>) {
    while let Ok(Some(header)) = wire::header(sent) {
        let Some((message, rest)) = sent.split_at_checked(header.length) else { break };
        sent = rest;
        let sql = match message.first() {
            Some(b'Q') => wire::parse_query(message),
            Some(b'P') => wire::parse_parse(message).map(|parse| parse.sql),
            _ => continue,
        };
        let sql = sql.expect("pgate writes its own messages right");
        assert!(!refused.contains(sql) || sql.contains(SUBSTITUTE), "sent though refused: {sql}");
    }
}
