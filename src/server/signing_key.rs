//! The control plane's signing key, and where it is kept.

use std::{
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::grant::SigningKey;

/// Why the signing key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system.
    #[error("the signing key {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// Others may read it.
    #[error(
        "the signing key {path} can be read by others (mode {mode:o}); run: chmod 600 {path}, \
         and make a new key if somebody may have read it"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Something else stands in the file.
    #[error(
        "{path} is not a signing key (32 bytes, base64); it is made by itself where there is none"
    )]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the key, or makes it where there is no file yet.
pub(super) fn load(path: &Path, random: impl FnOnce() -> [u8; 32]) -> Result<SigningKey, KeyError> {
    let failed = |error| KeyError::File { path: path.to_owned(), error };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(path, &Zeroizing::new(random())).map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
        Ok(_) => {}
    }
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?);
    let not_a_key = || KeyError::NotAKey { path: path.to_owned() };
    let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| not_a_key())?);
    let seed = Zeroizing::new(<[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| not_a_key())?);
    Ok(SigningKey::from_seed(&seed))
}

/// Writes a new key file as a whole; one that another process made meanwhile stays.
fn make(path: &Path, seed: &[u8; 32]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    // Files of this crate are made 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let text = Zeroizing::new(STANDARD.encode(seed));
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/signing.key");
        let first = load(&path, || [7; 32]).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = load(&path, || [8; 32]).unwrap();
        assert_eq!(first.verifying_key(), again.verifying_key());
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.key");
        load(&path, || [7; 32]).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load(&path, || [7; 32]), Err(KeyError::Exposed { mode: 0o640, .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "c2hvcnQ=\n").unwrap();
        assert!(matches!(load(&path, || [7; 32]), Err(KeyError::NotAKey { .. })));
    }
}
