//! What `pgate demo` and the tests run on: a throwaway PostgreSQL cluster, a
//! development OIDC issuer, and a sample shop with its policy. Everything is
//! real, lives on this machine only, and leaves no trace; none of it is meant
//! for, or reachable from, anywhere else.

pub mod cluster;
pub mod issuer;
pub mod shop;
pub mod stage;
pub mod walk;

use std::{
    env, io,
    path::PathBuf,
    process::Child,
    thread,
    time::{Duration, Instant},
};

/// A temporary folder for this user only, with a path short enough for Unix
/// sockets below it (104 bytes on macOS, 108 on Linux).
fn private_folder(prefix: &str) -> io::Result<tempfile::TempDir> {
    let wanted = env::temp_dir();
    let short = wanted.as_os_str().len() <= 50;
    let parent = if short { wanted } else { PathBuf::from("/tmp") };
    tempfile::Builder::new().prefix(prefix).tempdir_in(parent)
}

/// Waits for a process that has been told to end, but not for ever.
fn wait_for(child: &mut Child, patience: Duration) {
    let start = Instant::now();
    while let Ok(None) = child.try_wait() {
        if start.elapsed() > patience {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}
