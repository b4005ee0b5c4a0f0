//! Conversations of random bytes, and those of the committed corpus.

use std::{fs, path::Path};

use proptest::prelude::*;

use super::*;

/// How many conversations are played; more by PGATE_PLAYS.
fn cases() -> u32 {
    std::env::var("PGATE_PLAYS").ok().and_then(|plays| plays.parse().ok()).unwrap_or(2000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_refusal_anywhere_is_what_an_error_of_postgresql_is(
        data in prop::collection::vec(any::<u8>(), 0..160),
    ) {
        run(&data);
    }
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
