//! Large results: they stream through, and pgate stays as small as it was.
#![cfg(target_os = "linux")]

use super::{Desk, stage};

/// The most that pgate may have held at any time, in KiB: a debug build takes some 45 MiB
/// to open a session.
const MOST: u64 = 128 * 1024;

#[tokio::test]
async fn a_result_of_100_mb_streams_through_in_bounded_memory() {
    let desk = Desk::new(stage().await, "bulk");
    let grant = desk.grant_of("bulk", "10m");
    // pgate is the shell's parent, so the shell can ask what it took.
    let script = "psql -X -v FETCH_COUNT=0 -Atc \
                  \"COPY (SELECT repeat('x', 1000) FROM generate_series(1, 50000)) TO STDOUT\" \
                  | wc -c; \
                  psql -X -v FETCH_COUNT=1000 -Atc \
                  \"SELECT repeat('x', 1000) FROM generate_series(1, 50000)\" | wc -c; \
                  grep VmHWM /proc/$PPID/status";
    let arguments = ["connect", "prod-db", "--grant", &grant, "--", "sh", "-c", script];
    let ran = desk.run(&arguments).exits(0);
    let lines = ran.stdout.lines().collect::<Vec<_>>();
    let [copied, selected, most] = lines[..] else { panic!("{ran}") };
    assert_eq!((copied, selected), ("50050000", "50050000"), "{ran}");
    let most = most.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
    assert!(most < MOST, "pgate took {most} KiB");
}
