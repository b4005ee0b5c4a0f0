//! Session logs. What the receiver takes, the verifier finds whole; nothing that
//! is read has a second spelling; no bytes but those of the corpus pass.

use std::collections::VecDeque;

use pgate::{
    grant::{SigningKey, VerifyingKey},
    journal::{Lines, Receiver, Record, Wrong, decode, encode, verify},
};

/// The control plane's key that the corpus is signed with.
pub fn server_key() -> VerifyingKey {
    SigningKey::from_seed(&[11; 32]).verifying_key()
}

/// Reads `data` as a log in every way that pgate does.
pub fn run(data: &[u8]) {
    let keys = [server_key()];
    let report = verify(data, &keys).expect("reading bytes doesn't fail");
    for line in Lines::new(data) {
        let line = line.expect("reading bytes doesn't fail");
        if let Ok(entry) = line.decode() {
            assert_eq!(encode(&entry).as_deref(), Ok(line.bytes.as_slice()));
        }
    }
    let Some(receiver) = receiver(data) else { return };
    let Ok(whole) = receiver.accept(0, data, &keys) else { return };
    let receiver_problem = report.problems.iter().find(|problem| {
        !matches!(
            problem.wrong,
            Wrong::UnsignedTail { .. }
                | Wrong::AfterExpiry { .. }
                | Wrong::BadReceipt { .. }
                | Wrong::NotWhatWasReceived { .. }
        )
    });
    assert_eq!(receiver_problem, None, "the receiver took it");
    assert_eq!(whole.receiver.bytes(), data.len() as u64);
    // In two parts, and with the first part again, it comes to the same.
    let mut ends = ends_of_lines(data);
    while let Some(end) = ends.pop_front() {
        let (first, second) = data.split_at(end);
        let part = receiver.accept(0, first, &keys).expect("a part of what was taken");
        let rest = if second.is_empty() {
            Ok(part.clone())
        } else {
            part.receiver.accept(part.receiver.lines(), second, &keys)
        };
        assert_eq!(rest.map(|rest| rest.receiver).as_ref(), Ok(&whole.receiver));
        let again = part.receiver.accept(0, data, &keys).expect("the same again, and more");
        assert_eq!((again.new_from, &again.receiver), (end, &whole.receiver));
    }
}

/// The receiver for the session that the first line claims.
fn receiver(data: &[u8]) -> Option<Receiver> {
    let first = data.split(|&byte| byte == b'\n').next()?;
    match decode(first).ok()?.record {
        Record::Start(start) => Some(Receiver::new(start.session, start.key)),
        _ => None,
    }
}

fn ends_of_lines(data: &[u8]) -> VecDeque<usize> {
    let ends = data.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    // A few are enough: each costs two more readings.
    ends.take(8).collect()
}
