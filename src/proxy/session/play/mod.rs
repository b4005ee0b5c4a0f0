//! Whole conversations of a client with PostgreSQL through the machine, made of
//! arbitrary bytes: what is said, who is heard next, and in which pieces.
//!
//! A model of PostgreSQL stands at both ends of the proof. Behind the machine it
//! answers what comes through. Alone it is given what the client said, with an error
//! wherever policy refuses: the client must hear the same of both, whatever the order
//! and the pieces that bytes came in. Tests and the fuzzer play the same conversations.

mod conversation;
mod machine;
mod server;
mod statement;

use bytes::BytesMut;

use self::{
    conversation::{Conversation, Turn},
    server::{Server, Stands},
    statement::{Said, saying},
};

/// The longest script, in steps.
const MOST_STEPS: usize = 400;

/// What the role says that the conversation is held under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Under {
    masks: bool,
    records: bool,
}

/// How a conversation comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// All is said, and answered.
    Said,
    /// The client vanishes in the middle of it.
    ClientGone,
    /// The session's end comes in the middle of it.
    SessionEnds,
}

/// What every client says at last: out of a COPY, out of a part, out of a transaction,
/// and something that must be answered.
const FAREWELL: [Said; 4] =
    [Said::Done, Said::Sync, Said::Query("ROLLBACK"), Said::Query("SELECT 3 rows")];

/// Plays the conversation that `data` describes, and panics where a promise is broken.
pub fn run(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let role = Under { masks: how & 1 == 0, records: how & 2 != 0 };
    let ending = match how >> 2 & 3 {
        0 | 1 => Ending::Said,
        2 => Ending::ClientGone,
        _ => Ending::SessionEnds,
    };
    let (said, order) = data.split_at(data.len() * 3 / 5);
    let script = said
        .chunks(3)
        .take(MOST_STEPS)
        .flat_map(|chunk| {
            let byte = |at: usize| chunk.get(at).copied().unwrap_or_default();
            saying(byte(0), byte(1), byte(2))
        })
        .chain(FAREWELL)
        .collect::<Vec<_>>();
    let turns = order.chunks(2).map(Turn::read).collect::<Vec<_>>();
    let mut played = Conversation::play(role, &script, &turns, ending);
    match ending {
        Ending::Said => played.told_what_postgresql_alone_tells(&script),
        Ending::ClientGone | Ending::SessionEnds => played.told_no_more_and_logged_all(&script),
    }
    played.records_what_the_client_got(role);
    played.is_the_same_byte_by_byte(role);
}

/// What the client hears of PostgreSQL without pgate, where what policy refuses is an
/// error.
fn alone(script: &[Said]) -> (Vec<u8>, Server) {
    let mut server = Server::new(Stands::Alone);
    for said in script {
        server.take(&said.encode());
    }
    server.flush();
    let heard = server.output().drain(..).collect();
    (heard, server)
}

fn bytes_of(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out);
    out.to_vec()
}

#[cfg(test)]
mod tests;
