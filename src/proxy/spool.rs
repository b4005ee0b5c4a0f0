//! The spool: a session's log on this machine's disk, until the control plane has it.
//!
//! Owns one folder per session (0700) with the log, what it takes to upload it,
//! and a lock that is held for as long as its owner lives; a folder whose lock is
//! free was left by a process that died. It refuses to go on after a failed
//! write: what can't be recorded isn't said to be, so its statement can't run.
//!
//! What must be on disk before something happens is written at once, or, where many
//! such things are about to happen (statements that are to be forwarded), in one write for
//! all of them, which each waits for. What has happened already (a completion) goes to disk
//! together with the next such line, or after a moment.

mod folder;

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use tokio::sync::{Notify, watch};
use url::Url;

use crate::{
    grant::{SessionId, SigningKey},
    journal::{Chain, End, LineError, Receipt, Record, Start},
};
use folder::{Folder, private};
pub use folder::{Orphan, OrphanError, orphans};

/// Lines that may wait for a checkpoint's signature, besides the uploader's second.
const UNSIGNED_LINES: u64 = 1024;
/// Bytes that may wait for the uploader's next second.
const UNSENT_BYTES: u64 = 4 * 1024 * 1024;
/// How long a line may wait to be written that nothing waits for, and how many bytes of
/// such lines.
const WRITTEN_WITHIN: Duration = Duration::from_millis(20);
const UNWRITTEN_BYTES: usize = 64 * 1024;

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
    wanted: Notify,
    unwritten: Notify,
    /// The first line that isn't in the file, and the first that nothing waits for.
    stored: AtomicU64,
    awaited: AtomicU64,
    received: watch::Sender<u64>,
}

#[derive(Debug)]
struct Writer {
    chain: Chain,
    log: File,
    /// Lines of the chain that aren't in the file yet.
    unwritten: Vec<u8>,
    /// Bytes of whole lines in the file.
    length: u64,
    /// Bytes up to the last line that isn't a receipt: a receipt alone is no news to
    /// the control plane, which wrote it.
    worth_sending: u64,
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
        let mut writer = Writer {
            chain,
            log,
            unwritten: first.bytes,
            length: 0,
            worth_sending: 0,
            sent: 0,
            mode: Mode::Open(key),
        };
        writer.store().map_err(failed)?;
        let stored = AtomicU64::new(writer.chain.next_seq());
        folder.publish(root, &session).map_err(failed)?;
        Ok(Self {
            folder,
            session,
            writer: Mutex::new(writer),
            unsent: Notify::new(),
            wanted: Notify::new(),
            unwritten: Notify::new(),
            stored,
            awaited: AtomicU64::new(0),
            received: watch::Sender::new(0),
        })
    }

    /// Writes a record and returns the number of its line. When this returns, the line and
    /// all before it have been handed to the operating system whole: they survive this
    /// process, however it dies.
    ///
    /// # Errors
    /// The record isn't written; see [`SpoolError`] for whether another may be.
    pub fn append(&self, record: &Record, now: Timestamp) -> Result<u64, SpoolError> {
        self.write(|writer| {
            let seq = self.add(writer, record, now)?;
            self.store(writer)?;
            Ok(seq)
        })
    }

    /// Puts a record into the chain that something waits for: before it happens, whoever
    /// waits asks [`Self::is_awaited`], and calls [`Self::store_all`] where it is. So one
    /// write takes the lines of all who are ready at the same moment. Where nobody comes, it
    /// is written after a moment.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_awaited(&self, record: &Record, now: Timestamp) -> Result<(), SpoolError> {
        self.write(|writer| {
            let seq = self.add(writer, record, now)?;
            self.awaited.store(seq + 1, Ordering::Release);
            // Whoever waits may be gone before it asks.
            self.unwritten.notify_one();
            Ok(())
        })
    }

    /// Whether a line that something waits for hasn't been handed to the operating system.
    pub fn is_awaited(&self) -> bool {
        self.stored.load(Ordering::Acquire) < self.awaited.load(Ordering::Acquire)
    }

    /// Hands every line that hasn't been to the operating system.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn store_all(&self) -> Result<(), SpoolError> {
        self.write(|writer| self.store(writer))
    }

    /// Puts a record into the chain that nothing waits for. It is written with the next
    /// one that is, or by [`Self::write_behind`] after a moment; what kills this process
    /// in between takes it along.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_behind(&self, record: &Record, now: Timestamp) -> Result<(), SpoolError> {
        self.write(|writer| {
            self.add(writer, record, now)?;
            if writer.unwritten.len() >= UNWRITTEN_BYTES {
                return self.store(writer);
            }
            self.unwritten.notify_one();
            Ok(())
        })
    }

    /// Writes what [`Self::append_behind`] has left, for ever. A failure shows at the next
    /// record.
    pub async fn write_behind(&self) {
        loop {
            self.unwritten.notified().await;
            tokio::time::sleep(WRITTEN_WITHIN).await;
            if let Err(error) = self.store_all() {
                tracing::debug!(%error, "the session log takes no more");
            }
        }
    }

    /// Signs the lines since the last checkpoint, where there are any.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn checkpoint(&self, now: Timestamp) -> Result<(), SpoolError> {
        self.write(|writer| match writer.chain.unsigned() {
            0 => Ok(()),
            _ => {
                self.sign(writer, now)?;
                self.store(writer)
            }
        })
    }

    /// Writes the session's end and the last checkpoint, and forgets the key.
    ///
    /// # Errors
    /// As [`Self::append`]; the log then stays without its end, which whoever
    /// verifies it is told.
    pub fn close(&self, end: End, now: Timestamp) -> Result<(), SpoolError> {
        self.write(|writer| {
            writer.add(&Record::End(end), now)?;
            self.sign(writer, now)?;
            self.store(writer)?;
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
                self.store(&mut writer)?;
                let worth_sending = writer.worth_sending;
                let line = writer.chain.receipt(receipt)?;
                writer.unwritten.extend_from_slice(&line.bytes);
                let stored = self.store(&mut writer);
                writer.worth_sending = worth_sending;
                stored
            }
            Mode::Stopped(_) => Ok(()),
        }
    }

    /// How many lines there are up to the last one that is in the file, or that something
    /// waits for.
    pub fn lines_that_count(&self) -> u64 {
        self.stored.load(Ordering::Acquire).max(self.awaited.load(Ordering::Acquire))
    }

    /// How many lines the control plane has countersigned, as it changes: what
    /// `audit = "strict"` waits on.
    pub fn lines_received(&self) -> watch::Receiver<u64> {
        self.received.subscribe()
    }

    /// Asks the uploader not to wait, be it for its next second or for the control plane to
    /// be back: something waits for its receipt.
    pub fn hurry(&self) {
        self.wanted.notify_one();
    }

    /// The session.
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// The folder that holds the log.
    pub fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// The log's path, and how many of its bytes are worth sending.
    pub(super) fn log(&self) -> (PathBuf, u64) {
        (self.folder.log(), self.writer().worth_sending)
    }

    /// Waits until something waits for a receipt.
    pub(super) async fn until_a_receipt_is_wanted(&self) {
        self.wanted.notified().await;
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
        if writer.worth_sending.saturating_sub(writer.sent) >= UNSENT_BYTES {
            self.unsent.notify_one();
        }
        result
    }

    /// Puts a record into the chain, and now and then a signature behind it.
    fn add(&self, writer: &mut Writer, record: &Record, now: Timestamp) -> Result<u64, SpoolError> {
        let seq = writer.add(record, now)?;
        if writer.chain.unsigned() >= UNSIGNED_LINES {
            self.sign(writer, now)?;
        }
        Ok(seq)
    }

    fn sign(&self, writer: &mut Writer, now: Timestamp) -> Result<(), SpoolError> {
        let Mode::Open(key) = &writer.mode else { return Err(SpoolError::Ended) };
        let line = writer.chain.checkpoint(key, now)?;
        writer.unwritten.extend_from_slice(&line.bytes);
        Ok(())
    }

    /// Writes what isn't written. A failed write stops the spool for good.
    fn store(&self, writer: &mut Writer) -> Result<(), SpoolError> {
        let stored = writer.store().map_err(|why| {
            writer.mode = Mode::Stopped(why.to_string());
            SpoolError::Write { path: self.folder.log(), why }
        });
        if stored.is_ok() {
            self.stored.store(writer.chain.next_seq(), Ordering::Release);
        }
        stored
    }

    /// The writer is whole even after a panic: its parts change one by one, each
    /// after the write that it tells of.
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    fn add(&mut self, record: &Record, now: Timestamp) -> Result<u64, LineError> {
        self.chain.append_to(record, now, &mut self.unwritten)
    }

    /// Writes the lines that aren't written; after a failure the part of them that was is
    /// cut off, as far as the disk still obeys.
    fn store(&mut self) -> io::Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        match self.log.write_all(&self.unwritten) {
            Ok(()) => {
                self.length += self.unwritten.len() as u64;
                self.worth_sending = self.length;
                self.unwritten.clear();
                Ok(())
            }
            Err(why) => {
                let _ = self.log.set_len(self.length);
                Err(why)
            }
        }
    }
}

#[cfg(test)]
mod tests;
