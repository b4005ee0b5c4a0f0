//! Large results: they stream through, and pgate stays as small as it was.
#![cfg(target_os = "linux")]

use super::{Desk, stage};

/// The most that pgate may take above what it takes when idle, in KiB.
const MOST: u64 = 32 * 1024;
/// A value of 64 MiB, and a line feed.
const LARGE: &str = "67108865";

/// How much each large result is, in MB; `PGATE_BULK_MB` asks for more.
fn megabytes() -> u64 {
    let asked = std::env::var("PGATE_BULK_MB").ok();
    asked.map_or(100, |asked| asked.parse().expect("PGATE_BULK_MB is a number"))
}

#[tokio::test]
async fn large_results_stream_through_in_32_mib_above_idle() {
    let desk = Desk::new(stage().await, "bulk");
    let grant = desk.grant_of("bulk", "30m");
    let rows = megabytes() * 1000;
    let series = format!("SELECT repeat('x', 999) FROM generate_series(1, {rows})");
    // pgate is the shell's parent, so the shell can ask what it took. Writing 5 makes its
    // present size its largest so far.
    let script = format!(
        "most() {{ grep VmHWM /proc/$PPID/status; }}
         psql -XAtc 'SELECT 1' > /dev/null
         echo 5 > /proc/$PPID/clear_refs; most
         psql -XAtc \"COPY ({series}) TO STDOUT\" | wc -c; most
         psql -XAt -v FETCH_COUNT=1000 -c \"{series}\" | wc -c; most
         psql -XAtc \"SELECT repeat('x', 64 * 1024 * 1024)\" | wc -c
         psql -XAtc \"COPY (SELECT repeat('x', 64 * 1024 * 1024)) TO STDOUT\" | wc -c; most"
    );
    let arguments = ["connect", "prod-db", "--grant", &grant, "--", "sh", "-c", &script];
    let ran = desk.run(&arguments).exits(0);
    let lines = ran.stdout.lines().collect::<Vec<_>>();
    let [idle, copied, after_copy, selected, after_select, row, copy_row, last] = lines[..] else {
        panic!("{ran}")
    };
    let bytes = (rows * 1000).to_string();
    assert_eq!((copied, selected, row, copy_row), (&*bytes, &*bytes, LARGE, LARGE), "{ran}");
    let kib = |line: &str| -> u64 { line.split_whitespace().nth(1).unwrap().parse().unwrap() };
    for most in [after_copy, after_select, last] {
        let above = kib(most).saturating_sub(kib(idle));
        assert!(above < MOST, "pgate took {above} KiB above its {idle}: {ran}");
    }
    eprintln!("idle {idle}; {} MB each: {after_copy}, {after_select}, {last}", megabytes());
}
