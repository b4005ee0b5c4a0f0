//! The folders of the spool: made whole, locked for their owner's life, taken over
//! from owners that have died.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use super::Destination;
use crate::grant::SessionId;

pub(super) const LOG: &str = "log.jsonl";
pub(super) const META: &str = "meta.json";
pub(super) const LOCK: &str = "lock";
/// How the name of a folder begins that isn't whole yet, and when it is given up.
const HALF_MADE: &str = ".new-";
pub(super) const HALF_MADE_LASTS: Duration = Duration::from_secs(3600);

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
    pub(in crate::proxy) fn log(&self) -> (PathBuf, u64) {
        (self.folder.log(), self.length)
    }

    /// Removes the log from this machine, once the control plane has all of it.
    pub(in crate::proxy) fn delete(&self) -> io::Result<()> {
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
pub(super) struct Folder {
    pub(super) path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder under a name of its own, so that nobody takes it for a
    /// session's before it is whole.
    pub(super) fn make(
        root: &Path,
        session: &SessionId,
        destination: &Destination,
    ) -> io::Result<Self> {
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
    pub(super) fn publish(&mut self, root: &Path, session: &SessionId) -> io::Result<()> {
        let path = root.join(session.as_str());
        fs::rename(&self.path, &path)?;
        self.path = path;
        Ok(())
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// The destination goes first: a folder without one is a half-deleted one.
    pub(super) fn delete(&self) -> io::Result<()> {
        fs::remove_file(self.path.join(META))?;
        fs::remove_dir_all(&self.path)
    }
}

pub(super) fn private() -> OpenOptions {
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
