//! Cancelling: the keys that clients get, and the requests that go upstream.
//!
//! A client never learns the secret of PostgreSQL's own key. Ours leads to the connection's task,
//! which cancels only while a statement of that connection is in flight.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::{Rng as _, RngExt as _};
use subtle::ConstantTimeEq as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    admission::ConnectionPermit,
    upstream::{Place, UpstreamError},
};
use crate::wire::{self, BackendKey};

const PATIENCE: Duration = Duration::from_secs(10);

/// A request to cancel; answered (by dropping) once it has been passed on.
pub(super) type CancelRequest = oneshot::Sender<()>;

#[derive(Debug)]
struct Entry {
    secret: Vec<u8>,
    to: mpsc::Sender<CancelRequest>,
}

/// The keys of the open connections.
#[derive(Debug, Default, Clone)]
pub(super) struct CancelKeys {
    by_process: Arc<Mutex<HashMap<i32, Entry>>>,
}

/// A connection's key; given back when dropped.
#[derive(Debug)]
pub(super) struct IssuedKey {
    pub(super) key: BackendKey,
    pub(super) requests: mpsc::Receiver<CancelRequest>,
    keys: CancelKeys,
}

impl Drop for IssuedKey {
    fn drop(&mut self) {
        self.keys.lock().remove(&self.key.process);
    }
}

impl CancelKeys {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<i32, Entry>> {
        self.by_process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Issues a key with a random secret of `length` bytes. Its process is the server's,
    /// which clients compare with `pg_backend_pid()` and find in notifications; one by
    /// chance where the server has told none, or another connection still goes by it.
    pub(super) fn issue(&self, length: usize, server: Option<i32>) -> IssuedKey {
        let mut random = rand::rng();
        let mut secret = vec![0; length];
        random.fill_bytes(&mut secret);
        let (to, requests) = mpsc::channel(4);
        let mut entries = self.lock();
        let mut process = server.unwrap_or_else(|| random.random_range(1..i32::MAX));
        while entries.contains_key(&process) {
            process = random.random_range(1..i32::MAX);
        }
        entries.insert(process, Entry { secret: secret.clone(), to });
        IssuedKey { key: BackendKey { process, secret }, requests, keys: self.clone() }
    }

    /// Passes a client's request on, and returns when it has been dealt with. A wrong
    /// key does nothing, as with PostgreSQL.
    pub(super) async fn request(&self, process: i32, secret: &[u8]) {
        let to = self.lock().get(&process).and_then(|entry| {
            bool::from(entry.secret.as_slice().ct_eq(secret)).then(|| entry.to.clone())
        });
        if let Some(to) = to {
            let (done, wait) = oneshot::channel();
            if to.send(done).await.is_ok() {
                // An error is the answer: the sender has been dropped.
                let _ = timeout(PATIENCE, wait).await;
            }
        }
    }
}

/// Cancels what runs on an upstream connection; returns when PostgreSQL has taken the
/// request.
pub(super) async fn send(
    place: &Place,
    permit: &ConnectionPermit,
    key: &BackendKey,
) -> Result<(), UpstreamError> {
    timeout(PATIENCE, async {
        let (mut stream, _) = place.dial(permit).await?;
        stream.write_all(&wire::cancel_request(key.process, &key.secret)).await?;
        stream.flush().await?;
        // PostgreSQL closes once it has sent the signal, TLS's farewell or not.
        let mut end = [0; 16];
        while let Ok(1..) = stream.read(&mut end).await {}
        Ok(())
    })
    .await
    .unwrap_or(Err(UpstreamError::Slow))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_servers_process_unless_another_connection_still_goes_by_it() {
        let keys = CancelKeys::default();
        let first = keys.issue(4, Some(42));
        let second = keys.issue(4, Some(42));
        assert_eq!(first.key.process, 42);
        assert_ne!(second.key.process, 42);
        drop(first);
        assert_eq!(keys.issue(4, Some(42)).key.process, 42);
        assert_eq!(keys.lock().len(), 1, "keys are given back");
        assert!(keys.issue(32, None).key.process > 0);
    }
}
