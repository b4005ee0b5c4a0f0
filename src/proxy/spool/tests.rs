use std::{
    fs::{self, OpenOptions},
    os::unix::fs::PermissionsExt as _,
};

use super::{
    folder::{HALF_MADE_LASTS, LOCK, LOG, META},
    *,
};
use crate::journal::{EndReason, LONGEST_LINE, sample};

fn destination() -> Destination {
    Destination {
        server: "http://127.0.0.1:7432".parse().unwrap(),
        upload_token: "upload-1".to_owned().into(),
    }
}

fn create(root: &Path) -> Spool {
    let (start, key) = (sample::start(), sample::session_key());
    Spool::create(root, &destination(), start, key, sample::at(0)).unwrap()
}

fn end() -> End {
    End { reason: EndReason::Closed, detail: String::new() }
}

#[test]
fn a_record_is_in_the_file_when_append_returns() {
    let root = tempfile::tempdir().unwrap();
    let spool = create(root.path());
    for n in 1..=1100_u64 {
        let seq = spool.append(&sample::statement(n, "SELECT 1"), sample::at(1)).unwrap();
        if n > 10 && !n.is_multiple_of(100) {
            continue;
        }
        let log = fs::read(spool.log().0).unwrap();
        assert!(log.ends_with(b"\n"));
        let lines = log.split_inclusive(|&b| b == b'\n').map(<[u8]>::to_vec);
        let lines = lines.collect::<Vec<_>>();
        let received = sample::receive(&lines);
        assert!(received.lines() > seq);
        assert_eq!((received.statements(), received.bytes()), (n, spool.log().1));
    }
    spool.close(end(), sample::at(2)).unwrap();
    let refused = spool.append(&sample::statement(1101, "SELECT 1"), sample::at(3));
    assert!(matches!(refused, Err(SpoolError::Ended)));
    let log = fs::read(spool.log().0).unwrap();
    let checkpoints = log
        .split(|&b| b == b'\n')
        .filter(|line| String::from_utf8_lossy(line).contains(r#""type":"checkpoint""#));
    assert_eq!(checkpoints.count(), 2, "one for each 1024 lines, one at the end");
}

/// The statements that are in the file.
fn statements(spool: &Spool) -> u64 {
    let log = fs::read(spool.log().0).unwrap();
    let lines = log.split_inclusive(|&b| b == b'\n').map(<[u8]>::to_vec);
    sample::receive(&lines.collect::<Vec<_>>()).statements()
}

/// Waits until so many are.
async fn written(spool: &Spool, count: u64) {
    for _ in 0..500 {
        if statements(spool) == count {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(statements(spool), count);
}

#[tokio::test]
async fn what_nothing_waits_for_is_written_with_what_something_does_or_after_a_moment() {
    let root = tempfile::tempdir().unwrap();
    let spool = std::sync::Arc::new(create(root.path()));
    spool.append_behind(&sample::statement(1, "SELECT 1"), sample::at(1)).unwrap();
    assert_eq!(statements(&spool), 0);
    spool.append(&sample::statement(2, "SELECT 1"), sample::at(1)).unwrap();
    assert_eq!(statements(&spool), 2);
    let behind = spool.clone();
    let writer = tokio::spawn(async move { behind.write_behind().await });
    spool.append_behind(&sample::statement(3, "SELECT 1"), sample::at(1)).unwrap();
    written(&spool, 3).await;
    writer.abort();
    let long = "x".repeat(UNWRITTEN_BYTES);
    spool.append_behind(&sample::statement(4, &long), sample::at(1)).unwrap();
    assert_eq!(statements(&spool), 4, "no more waits than that");
    spool.append_behind(&sample::statement(5, "SELECT 1"), sample::at(1)).unwrap();
    spool.close(end(), sample::at(2)).unwrap();
    assert_eq!(statements(&spool), 5);
}

#[tokio::test]
async fn one_write_takes_what_several_wait_for_and_what_nobody_comes_for_is_written_too() {
    let root = tempfile::tempdir().unwrap();
    let spool = std::sync::Arc::new(create(root.path()));
    assert!(!spool.is_awaited());
    for n in 1..=2 {
        spool.append_awaited(&sample::statement(n, "SELECT 1"), sample::at(1)).unwrap();
    }
    assert_eq!((statements(&spool), spool.is_awaited()), (0, true));
    spool.store_all().unwrap();
    assert_eq!((statements(&spool), spool.is_awaited()), (2, false));
    spool.append_behind(&sample::statement(3, "SELECT 1"), sample::at(1)).unwrap();
    assert!(!spool.is_awaited());
    let behind = spool.clone();
    let writer = tokio::spawn(async move { behind.write_behind().await });
    spool.append_awaited(&sample::statement(4, "SELECT 1"), sample::at(1)).unwrap();
    written(&spool, 4).await;
    writer.abort();
}

#[test]
fn nobody_else_on_the_machine_can_read_it() {
    let root = tempfile::tempdir().unwrap();
    let spool = create(&root.path().join("spool"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&root.path().join("spool")), 0o700);
    assert_eq!(mode(spool.folder()), 0o700);
    for file in [LOG, META, LOCK] {
        assert_eq!(mode(&spool.folder().join(file)), 0o600, "{file}");
    }
    assert!(!format!("{spool:?}{:?}", destination()).contains("upload-1"));
}

#[test]
fn only_logs_whose_owner_is_gone_are_adopted_and_only_once() {
    let root = tempfile::tempdir().unwrap();
    assert!(orphans(&root.path().join("missing")).is_empty());
    let spool = create(root.path());
    assert!(orphans(root.path()).is_empty(), "its owner lives");
    drop(spool);
    let adopted = orphans(root.path());
    assert!(orphans(root.path()).is_empty(), "it has a new owner");
    let [Ok(orphan)] = adopted.as_slice() else { panic!("{adopted:?}") };
    assert_eq!(orphan.session(), &sample::session());
    assert_eq!(orphan.destination().server, destination().server);
    assert_eq!(orphan.destination().upload_token.expose_secret(), "upload-1");
    orphan.delete().unwrap();
    drop(adopted);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn a_torn_last_line_is_cut_off_and_nothing_else() {
    for torn in [0, 1, 70_000, 200_000] {
        let root = tempfile::tempdir().unwrap();
        let spool = create(root.path());
        spool.append(&sample::statement(1, "SELECT 1"), sample::at(1)).unwrap();
        let (path, length) = spool.log();
        let whole = fs::read(&path).unwrap();
        drop(spool);
        let mut log = OpenOptions::new().append(true).open(&path).unwrap();
        log.write_all(&vec![b'x'; torn]).unwrap();
        let adopted = orphans(root.path());
        assert_eq!(adopted[0].as_ref().unwrap().log(), (path.clone(), length), "{torn}");
        assert_eq!(fs::read(&path).unwrap(), whole, "{torn}");
    }
}

#[test]
fn half_made_and_half_deleted_folders_are_no_logs() {
    let root = tempfile::tempdir().unwrap();
    let half_made = root.path().join(".new-se_0000000000000000");
    fs::create_dir(&half_made).unwrap();
    fs::create_dir(root.path().join("notes")).unwrap();
    let spool = create(root.path());
    fs::remove_file(spool.folder().join(META)).unwrap();
    drop(spool);
    assert!(orphans(root.path()).is_empty());
    assert!(!root.path().join(sample::session().as_str()).exists());
    assert!(half_made.exists(), "it may be in the making");
    let long_ago = std::time::SystemTime::now() - HALF_MADE_LASTS * 2;
    File::open(&half_made).unwrap().set_modified(long_ago).unwrap();
    assert!(orphans(root.path()).is_empty());
    assert!(!half_made.exists());
    assert!(root.path().join("notes").exists(), "not ours");
}

#[test]
fn a_record_too_long_for_a_line_is_refused_and_the_log_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let spool = create(root.path());
    let huge = "x".repeat(LONGEST_LINE);
    let refused = spool.append(&sample::statement(1, &huge), sample::at(1));
    assert!(matches!(refused, Err(SpoolError::Unwritable(LineError::TooLong))));
    assert_eq!(spool.append(&sample::statement(1, "SELECT 1"), sample::at(1)).unwrap(), 1);
}
