//! Conversations of random bytes, and those of the committed corpus.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::*;

/// How many conversations are played where `PGATE_FUZZ_SECONDS` doesn't say how long.
const CASES: u32 = 2_000;

fn seconds() -> Option<Duration> {
    let text = std::env::var("PGATE_FUZZ_SECONDS").ok()?;
    Some(Duration::from_secs(text.parse().expect("PGATE_FUZZ_SECONDS is a number")))
}

#[test]
fn a_refusal_anywhere_is_what_an_error_of_postgresql_is() {
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let (began, mut played) = (Instant::now(), 0);
    loop {
        // One that has had its cases runs no more.
        TestRunner::new(config.clone())
            .run(&prop::collection::vec(any::<u8>(), 0..200), |data| {
                run(&data);
                Ok(())
            })
            .unwrap_or_else(|found| panic!("{found}"));
        played += CASES;
        if seconds().is_none_or(|seconds| began.elapsed() >= seconds) {
            break;
        }
    }
    eprintln!("conversation: {played} conversations");
}

#[test]
fn the_conversations_of_the_corpus_are_what_they_are_with_postgresql_alone() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/conversation");
    let mut played = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            run(&fs::read(path).unwrap());
            played += 1;
        }
    }
    assert!(played >= 3, "{played} conversations");
}
