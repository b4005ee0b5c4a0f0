//! The spool: a session's log on this machine's disk, until the control plane has it.
//!
//! Owns one folder per session (0700) with the log, what it takes to upload it,
//! and a lock that is held for as long as its owner lives; a folder whose lock is
//! free was left by a process that died. It refuses to go on after a failed
//! write: what can't be recorded isn't said to be, so its statement can't run.

#![expect(dead_code, reason = "the uploader, which uses the rest, comes next")]

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use tokio::sync::{Notify, watch};
use url::Url;

use crate::{
    grant::{SessionId, SigningKey},
    journal::{Chain, End, Line, LineError, Receipt, Record, Start},
};

const LOG: &str = "log.jsonl";
const META: &str = "meta.json";
const LOCK: &str = "lock";
/// Lines that may wait for a checkpoint's signature, besides the uploader's second.
const UNSIGNED_LINES: u64 = 64;
/// Bytes that may wait for the uploader's next second.
const UNSENT_BYTES: u64 = 64 * 1024;
/// How the name of a folder begins that isn't whole yet, and when it is given up.
const HALF_MADE: &str = ".new-";
const HALF_MADE_LASTS: Duration = Duration::from_secs(3600);

/// Where a session's log goes, and with which right.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Destination {
    /// The control plane.
    pub server: Url,
    /// May upload this session's log and close it; nothing else.
    #[serde(serialize_with = "expose")]
    pub upload_token: SecretString,
}

/// The one place where the upload token becomes text: the 0600 file in the spool.
fn expose<S: Serializer>(secret: &SecretString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(secret.expose_secret())
}

/// Why the spool didn't take a record. The record doesn't count as written.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The folder can't be made.
    #[error("the session log can't be kept in {path}: {why}", path = .path.display())]
    Create {
        /// The spool's root.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// The record makes no line; the spool goes on.
    #[error("this can't be recorded: {0}")]
    Unwritable(#[from] LineError),
    /// The disk took no more. Everything after this is refused.
    #[error("the session log {path} can't be written: {why}", path = .path.display())]
    Write {
        /// The log.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// An earlier write failed.
    #[error("the session log stopped: {0}")]
    Stopped(String),
    /// The session has ended.
    #[error("the session log is closed")]
    Ended,
}

/// The open log of a running session.
#[derive(Debug)]
pub struct Spool {
    folder: Folder,
    session: SessionId,
    writer: Mutex<Writer>,
    unsent: Notify,
    received: watch::Sender<u64>,
}

#[derive(Debug)]
struct Writer {
    chain: Chain,
    log: File,
    /// Bytes of whole lines.
    length: u64,
    /// Bytes that the control plane has.
    sent: u64,
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    /// Takes records, and signs them with the session's key.
    Open(SigningKey),
    /// Has its end; takes receipts.
    Ended,
    /// A write failed, for this reason.
    Stopped(String),
}

impl Spool {
    /// Begins a session's log under `root` (made 0700 where it is missing), with
    /// its first line.
    ///
    /// # Errors
    /// When the folder can't be made or the first line can't be written.
    pub fn create(
        root: &Path,
        destination: &Destination,
        start: Start,
        key: SigningKey,
        now: Timestamp,
    ) -> Result<Self, SpoolError> {
        let failed = |why| SpoolError::Create { path: root.to_owned(), why };
        let session = start.session.clone();
        let (chain, first) = Chain::start(start, now)?;
        let mut folder = Folder::make(root, &session, destination).map_err(failed)?;
        let log = private().append(true).create_new(true).open(folder.log()).map_err(failed)?;
        let mut writer = Writer { chain, log, length: 0, sent: 0, mode: Mode::Open(key) };
        writer.store(&first).map_err(failed)?;
        folder.publish(root, &session).map_err(failed)?;
        Ok(Self {
            folder,
            session,
            writer: Mutex::new(writer),
            unsent: Notify::new(),
            received: watch::Sender::new(0),
        })
    }

    /// Writes a record and returns the number of its line. When this returns, the
    /// line has been handed to the operating system whole: it survives this
    /// process, however it dies.
    ///
    /// # Errors
    /// The record isn't written; see [`SpoolError`] for whether another may be.
    pub fn append(&self, record: Record, now: Timestamp) -> Result<u64, SpoolError> {
        self.write(|writer| {
            let line = writer.chain.append(record, now)?;
            let seq = line.seq;
            self.store(writer, &line)?;
            if writer.chain.unsigned() >= UNSIGNED_LINES {
                self.store_checkpoint(writer, now)?;
            }
            Ok(seq)
        })
    }

    /// Signs the lines since the last checkpoint, where there are any.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn checkpoint(&self, now: Timestamp) -> Result<(), SpoolError> {
        self.write(|writer| match writer.chain.unsigned() {
            0 => Ok(()),
            _ => self.store_checkpoint(writer, now),
        })
    }

    /// Writes the session's end and the last checkpoint, and forgets the key.
    ///
    /// # Errors
    /// As [`Self::append`]; the log then stays without its end, which whoever
    /// verifies it is told.
    pub fn close(&self, end: End, now: Timestamp) -> Result<(), SpoolError> {
        self.write(|writer| {
            let line = writer.chain.append(Record::End(end), now)?;
            self.store(writer, &line)?;
            self.store_checkpoint(writer, now)?;
            writer.mode = Mode::Ended;
            Ok(())
        })
    }

    /// Takes a receipt into the log: the control plane has its first `lines` lines,
    /// which are `sent` bytes.
    ///
    /// # Errors
    /// When it can't be written. What was received stays received.
    pub(super) fn received(
        &self,
        receipt: Receipt,
        lines: u64,
        sent: u64,
    ) -> Result<(), SpoolError> {
        self.received.send_if_modified(|known| std::mem::replace(known, lines) != lines);
        let mut writer = self.writer();
        writer.sent = sent;
        match writer.mode {
            Mode::Open(_) | Mode::Ended => {
                let line = writer.chain.receipt(receipt)?;
                self.store(&mut writer, &line)
            }
            Mode::Stopped(_) => Ok(()),
        }
    }

    /// How many lines the control plane has countersigned, as it changes: what
    /// `audit = "strict"` waits on.
    pub fn lines_received(&self) -> watch::Receiver<u64> {
        self.received.subscribe()
    }

    /// Asks the uploader not to wait for its next second.
    pub fn hurry(&self) {
        self.unsent.notify_one();
    }

    /// The session.
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// The folder that holds the log.
    pub fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// The log's path, and how many bytes of whole lines it has.
    pub(super) fn log(&self) -> (PathBuf, u64) {
        (self.folder.log(), self.writer().length)
    }

    /// Waits until there is more to upload than may wait for the next second.
    pub(super) async fn until_much_is_unsent(&self) {
        self.unsent.notified().await;
    }

    /// Removes the log from this machine, once the control plane has all of it.
    pub(super) fn delete(&self) -> io::Result<()> {
        self.folder.delete()
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, SpoolError>,
    ) -> Result<T, SpoolError> {
        let mut writer = self.writer();
        match &writer.mode {
            Mode::Open(_) => {}
            Mode::Ended => return Err(SpoolError::Ended),
            Mode::Stopped(why) => return Err(SpoolError::Stopped(why.clone())),
        }
        let result = work(&mut writer);
        if writer.length.saturating_sub(writer.sent) >= UNSENT_BYTES {
            self.unsent.notify_one();
        }
        result
    }

    fn store_checkpoint(&self, writer: &mut Writer, now: Timestamp) -> Result<(), SpoolError> {
        let Mode::Open(key) = &writer.mode else { return Err(SpoolError::Ended) };
        let line = writer.chain.checkpoint(key, now)?;
        self.store(writer, &line)
    }

    /// A failed write stops the spool for good.
    fn store(&self, writer: &mut Writer, line: &Line) -> Result<(), SpoolError> {
        writer.store(line).map_err(|why| {
            writer.mode = Mode::Stopped(why.to_string());
            SpoolError::Write { path: self.folder.log(), why }
        })
    }

    /// The writer is whole even after a panic: its parts change one by one, each
    /// after the write that it tells of.
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Appends a line; after a failure the part of it that was written is cut off,
    /// as far as the disk still obeys.
    fn store(&mut self, line: &Line) -> io::Result<()> {
        match self.log.write_all(&line.bytes) {
            Ok(()) => {
                self.length += line.bytes.len() as u64;
                Ok(())
            }
            Err(why) => {
                let _ = self.log.set_len(self.length);
                Err(why)
            }
        }
    }
}

/// A log that a process left behind when it died, with its lock taken over.
#[derive(Debug)]
pub struct Orphan {
    folder: Folder,
    session: SessionId,
    destination: Destination,
    length: u64,
}

/// A folder of the spool that can't be recovered.
#[derive(Debug, thiserror::Error)]
#[error("the session log in {folder} can't be read: {why}", folder = .folder.display())]
pub struct OrphanError {
    /// The folder.
    pub folder: PathBuf,
    /// Why.
    pub why: io::Error,
}

/// The logs under `root` whose owners have died, in no order. Takes their locks; cuts off a last line that was torn in
/// the middle of its write. Logs that are in use are passed over, and so is a
/// `root` that doesn't exist.
pub fn orphans(root: &Path) -> Vec<Result<Orphan, OrphanError>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(why) => return vec![Err(OrphanError { folder: root.to_owned(), why })],
    };
    let mut found = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        match name.parse::<SessionId>() {
            Ok(session) => match Orphan::adopt(path.clone(), session) {
                Ok(Some(orphan)) => found.push(Ok(orphan)),
                Ok(None) => {}
                Err(why) => found.push(Err(OrphanError { folder: path, why })),
            },
            Err(_) if name.starts_with(HALF_MADE) => sweep(&path),
            Err(_) => {}
        }
    }
    found
}

impl Orphan {
    /// Takes over the folder of one session; `None` where its owner lives, or where
    /// another process has just dealt with it.
    fn adopt(path: PathBuf, session: SessionId) -> io::Result<Option<Self>> {
        let lock = match OpenOptions::new().read(true).write(true).open(path.join(LOCK)) {
            Ok(lock) => lock,
            Err(why) if why.kind() == io::ErrorKind::NotFound && !path.exists() => return Ok(None),
            Err(why) => return Err(why),
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(why)) => return Err(why),
        }
        let folder = Folder { path, _lock: lock };
        let destination = match fs::read(folder.path.join(META)) {
            Ok(meta) => serde_json::from_slice(&meta)?,
            // A published folder has one until its deletion begins.
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                let _ = fs::remove_dir_all(&folder.path);
                return Ok(None);
            }
            Err(why) => return Err(why),
        };
        let length = cut_torn_line(&folder.log())?;
        Ok(Some(Self { folder, session, destination, length }))
    }

    /// The session.
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// Where its log goes.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// The folder that holds it.
    pub fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// The log's path, and how many bytes of whole lines it has.
    pub(super) fn log(&self) -> (PathBuf, u64) {
        (self.folder.log(), self.length)
    }

    /// Removes the log from this machine, once the control plane has all of it.
    pub(super) fn delete(&self) -> io::Result<()> {
        self.folder.delete()
    }
}

/// Cuts a log after its last line feed; returns what is left.
fn cut_torn_line(path: &Path) -> io::Result<u64> {
    const STEP: u64 = 64 * 1024;
    let log = OpenOptions::new().read(true).write(true).open(path)?;
    let length = log.metadata()?.len();
    let mut end = length;
    let mut buffer = Vec::new();
    let whole = loop {
        let begin = end.saturating_sub(STEP);
        buffer.resize(usize::try_from(end - begin).map_err(io::Error::other)?, 0);
        log.read_exact_at(&mut buffer, begin)?;
        if let Some(at) = buffer.iter().rposition(|&byte| byte == b'\n') {
            break begin + at as u64 + 1;
        }
        if begin == 0 {
            break 0;
        }
        end = begin;
    };
    if whole < length {
        log.set_len(whole)?;
    }
    Ok(whole)
}

/// A session's folder, locked for as long as this lives.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder under a name of its own, so that nobody takes it for a
    /// session's before it is whole.
    fn make(root: &Path, session: &SessionId, destination: &Destination) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let path = root.join(format!("{HALF_MADE}{session}"));
        DirBuilder::new().mode(0o700).create(&path)?;
        let lock = private().write(true).create_new(true).open(path.join(LOCK))?;
        lock.try_lock()?;
        let mut meta = private().write(true).create_new(true).open(path.join(META))?;
        meta.write_all(&serde_json::to_vec(destination)?)?;
        Ok(Self { path, _lock: lock })
    }

    /// Gives the whole folder its session's name.
    fn publish(&mut self, root: &Path, session: &SessionId) -> io::Result<()> {
        let path = root.join(session.as_str());
        fs::rename(&self.path, &path)?;
        self.path = path;
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// The destination goes first: a folder without one is a half-deleted one.
    fn delete(&self) -> io::Result<()> {
        fs::remove_file(self.path.join(META))?;
        fs::remove_dir_all(&self.path)
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Removes a folder that a process died over before it was whole. It never had a
/// statement; its age tells it from one that is being made.
fn sweep(path: &Path) {
    let age = fs::metadata(path).and_then(|about| about.modified()).map(|at| at.elapsed());
    if matches!(age, Ok(Ok(age)) if age > HALF_MADE_LASTS) {
        let _ = fs::remove_dir_all(path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
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
        for n in 1..=200_u64 {
            let seq = spool.append(sample::statement(n, "SELECT 1"), sample::at(1)).unwrap();
            let log = fs::read(spool.log().0).unwrap();
            assert!(log.ends_with(b"\n"));
            let lines = log.split_inclusive(|&b| b == b'\n').map(<[u8]>::to_vec);
            let lines = lines.collect::<Vec<_>>();
            let received = sample::receive(&lines);
            assert!(received.lines() > seq);
            assert_eq!((received.statements(), received.bytes()), (n, spool.log().1));
        }
        spool.close(end(), sample::at(2)).unwrap();
        let refused = spool.append(sample::statement(201, "SELECT 1"), sample::at(3));
        assert!(matches!(refused, Err(SpoolError::Ended)));
        let log = fs::read(spool.log().0).unwrap();
        let checkpoints = log
            .split(|&b| b == b'\n')
            .filter(|line| String::from_utf8_lossy(line).contains(r#""type":"checkpoint""#));
        assert_eq!(checkpoints.count(), 4, "one for each 64 lines, one at the end");
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
            spool.append(sample::statement(1, "SELECT 1"), sample::at(1)).unwrap();
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
        let refused = spool.append(sample::statement(1, &huge), sample::at(1));
        assert!(matches!(refused, Err(SpoolError::Unwritable(LineError::TooLong))));
        assert_eq!(spool.append(sample::statement(1, "SELECT 1"), sample::at(1)).unwrap(), 1);
    }
}
