//! The policy in force: a folder of files, read again when they change.
//!
//! Owns which policy counts at a moment. A folder that can't be read or parsed
//! as a whole changes nothing: the policy before it stays in force.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use crate::policy::{self, Policy, PolicyError};

/// The largest policy file that is read, in bytes.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// Why a policy folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFolderError {
    /// The file system.
    #[error("the policy {path}: {error}")]
    File {
        /// The folder or file.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// What the files say.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<PolicyError>),
}

type Files = Vec<(String, String)>;

/// The folder and the policy that it said last.
#[derive(Debug)]
pub(super) struct PolicyFolder {
    path: PathBuf,
    current: RwLock<Arc<Policy>>,
    /// The files as they were seen last, good or bad.
    seen: Mutex<Files>,
}

impl PolicyFolder {
    /// Reads the folder for the first time.
    pub(super) fn open(path: &Path) -> Result<Self, PolicyFolderError> {
        let files = read(path)?;
        let policy = policy::parse(&files).map_err(PolicyFolderError::Wrong)?;
        Ok(Self {
            path: path.to_owned(),
            current: RwLock::new(Arc::new(policy)),
            seen: Mutex::new(files),
        })
    }

    /// The policy in force.
    pub(super) fn current(&self) -> Arc<Policy> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the folder again. Returns whether another policy is in force now.
    pub(super) fn refresh(&self) -> Result<bool, PolicyFolderError> {
        let files = read(&self.path)?;
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == files {
                return Ok(false);
            }
            seen.clone_from(&files);
        }
        let policy = policy::parse(&files).map_err(PolicyFolderError::Wrong)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
        Ok(true)
    }
}

fn read(folder: &Path) -> Result<Files, PolicyFolderError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| PolicyFolderError::File { path, error }
    };
    let mut files = Files::new();
    for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !policy::is_policy_file(&name) || path.is_dir() {
            continue;
        }
        let length = std::fs::metadata(&path).map_err(failed(&path))?.len();
        if length > LARGEST_FILE {
            let error = io::Error::other(format!("larger than {} MiB", LARGEST_FILE >> 20));
            return Err(PolicyFolderError::File { path, error });
        }
        let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
        files.push((name, text));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str = r#"
[target.prod-db]
url = "postgres://127.0.0.1:5432/shop?sslmode=disable"
credential = { kind = "static", user = "app", password = "file:password" }

[role.readonly]
targets = ["prod-db"]
allow = [{ actions = ["select"], on = ["shop.*"] }]
"#;

    #[test]
    fn a_bad_edit_is_refused_and_the_old_policy_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop.toml");
        std::fs::write(&file, SHOP).unwrap();
        let policy = PolicyFolder::open(folder.path()).unwrap();
        assert!(!policy.refresh().unwrap(), "nothing changed");

        std::fs::write(&file, "[role.readonly\n").unwrap();
        let error = policy.refresh().unwrap_err().to_string();
        assert!(error.starts_with("shop.toml:1"), "{error}");
        assert!(policy.current().roles.contains_key("readonly"));
        assert!(!policy.refresh().unwrap(), "the same bad edit is told once");

        std::fs::write(&file, SHOP.replace("readonly", "reader")).unwrap();
        assert!(policy.refresh().unwrap());
        assert!(policy.current().roles.contains_key("reader"));
    }
}
