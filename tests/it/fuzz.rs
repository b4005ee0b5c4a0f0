//! The entry points of the fuzz targets, run over their committed corpora and over
//! changed copies of them: what every machine can do without a fuzzer.

#[expect(unreachable_pub, reason = "the fuzz targets are crates of their own")]
#[path = "../../fuzz/src/lib.rs"]
pub(crate) mod entries;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use pgate::journal::verify;

/// How long each target's changed copies may take, where `PGATE_FUZZ_SECONDS` doesn't say.
const BUDGET: Duration = Duration::from_secs(2);

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut seeds = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect::<Vec<_>>();
    seeds.sort();
    assert!(seeds.len() >= 3, "{} has too few seeds", folder.display());
    seeds
}

/// A small generator (xorshift64*): the same changes for the same seed, so that a
/// failure can be seen again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % limit.max(1)
    }

    fn change(&mut self, seed: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 if !bytes.is_empty() => bytes[at] = u8::try_from(self.below(256)).unwrap(),
                1 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                2 => bytes.truncate(at),
                3 if !bytes.is_empty() => drop(bytes.remove(at)),
                4 => {
                    let from = self.below(other.len());
                    let to = (from + self.below(64)).min(other.len());
                    bytes.splice(at..at, other[from..to].iter().copied());
                }
                _ => {
                    let to = (at + self.below(64)).min(bytes.len());
                    let part = bytes[at..to].to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
        bytes
    }
}

fn play(target: &str, run: fn(&[u8])) {
    let seeds = corpus(target);
    for (_, seed) in &seeds {
        run(seed);
    }
    let budget = number("PGATE_FUZZ_SECONDS").map_or(BUDGET, Duration::from_secs);
    let start = number("PGATE_FUZZ_SEED").unwrap_or_default();
    let (began, mut dice) = (Instant::now(), Dice(start ^ 0x9e37_79b9_7f4a_7c15));
    let mut played = 0_u64;
    while began.elapsed() < budget {
        played += 1;
        let seed = &seeds[dice.below(seeds.len())].1;
        let other = &seeds[dice.below(seeds.len())].1;
        let changed = dice.change(seed, other);
        let outcome = std::panic::catch_unwind(|| run(&changed));
        if let Err(panic) = outcome {
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
            let path = folder.join(format!("fuzz-{target}-found"));
            fs::write(&path, &changed).unwrap();
            eprintln!("the input is in {} (seed {start}):", path.display());
            eprintln!("{:?}", String::from_utf8_lossy(&changed));
            std::panic::resume_unwind(panic);
        }
    }
    eprintln!("{target}: {played} changed inputs from seed {start}");
}

#[test]
fn wire_messages_of_any_bytes_are_read_or_refused() {
    play("wire", entries::wire::run);
}

#[test]
fn sql_of_any_bytes_is_analysed_or_refused() {
    play("sql", entries::sql::run);
}

#[test]
fn masks_are_put_into_sql_of_any_bytes_as_intended_or_it_is_refused() {
    play("splice", entries::splice::run);
}

#[test]
fn sessions_of_any_bytes_let_no_refused_statement_through() {
    play("session", entries::session::run);
}

#[test]
fn trees_of_views_of_any_bytes_are_read_or_refused() {
    play("lineage", entries::lineage::run);
}

#[test]
fn rows_of_any_bytes_are_looked_through_and_keep_their_shape() {
    play("detect", entries::detect::run);
}

#[test]
fn logs_of_any_bytes_are_verified_or_refused() {
    play("journal", entries::journal::run);
}

#[test]
fn the_logs_in_the_corpus_are_still_logs_of_this_version() {
    for (name, log) in corpus("journal") {
        let report = verify(log.as_slice(), &[entries::journal::server_key()]).unwrap();
        assert_eq!(report.is_intact(), !name.starts_with("bad-"), "{name}: {:?}", report.problems);
    }
}
