//! The archive of session logs: one file each in a folder, only ever appended to.
//!
//! Owns the files. How far a log has been received is the store's word: bytes
//! beyond it are what a crash left between two writes, and are cut off before
//! the next segment is appended.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::grant::SessionId;

/// Why the archive can't take or give a log.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    #[error("the archive: {0}")]
    File(#[from] io::Error),
    #[error("the archive has lost a part of the log of {0}")]
    Lost(SessionId),
}

/// The folder of logs.
#[derive(Debug)]
pub(super) struct Archive {
    folder: PathBuf,
}

impl Archive {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    fn path(&self, session: &SessionId) -> PathBuf {
        // An id has only letters, digits and an underscore.
        self.folder.join(format!("{session}.jsonl"))
    }

    /// Puts `bytes` at `offset`, which is where the log ends. On disk when it returns.
    pub(super) fn append(
        &self,
        session: &SessionId,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), ArchiveError> {
        let path = self.path(session);
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let length = file.metadata()?.len();
        if length < offset {
            return Err(ArchiveError::Lost(session.clone()));
        }
        if length > offset {
            file.set_len(offset)?;
        }
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)?;
        file.sync_data()?;
        if offset == 0 {
            File::open(&self.folder)?.sync_all()?;
        }
        Ok(())
    }

    /// The log's first `length` bytes, to be read piece by piece.
    pub(super) fn open(
        &self,
        session: &SessionId,
        length: u64,
    ) -> Result<io::Take<File>, ArchiveError> {
        let file = File::open(self.path(session))?;
        if file.metadata()?.len() < length {
            return Err(ArchiveError::Lost(session.clone()));
        }
        Ok(file.take(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crash_left_is_cut_off_and_what_is_missing_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::new(folder.path());
        let session = SessionId::from_random([1; 10]);
        archive.append(&session, 0, b"one\n").unwrap();
        archive.append(&session, 4, b"two, never confirmed\n").unwrap();
        archive.append(&session, 4, b"two\n").unwrap();
        let mut text = String::new();
        archive.open(&session, 8).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\ntwo\n");
        assert!(matches!(archive.append(&session, 9, b"x\n"), Err(ArchiveError::Lost(_))));
        assert!(matches!(archive.open(&session, 9), Err(ArchiveError::Lost(_))));
    }
}
