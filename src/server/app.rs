//! What every request handler works with.

use std::time::Duration;

use jiff::Timestamp;
use tokio::{
    sync::{Mutex, MutexGuard, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    archive::Archive, broker::Broker, config::Config, issuers::Issuers,
    policy_folder::PolicyFolder, problem::Refusal, store::Store, web::Site,
};
use crate::grant::{SessionId, SigningKey, VerifyingKey};

/// How often a waiting request looks by itself, for what the clock changes.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The control plane's parts. One per process, shared by all requests.
#[derive(Debug)]
pub(super) struct App {
    pub(super) config: Config,
    pub(super) public_url: String,
    pub(super) site: Site,
    pub(super) store: Store,
    pub(super) key: SigningKey,
    /// The public halves of the signing keys, the current one first.
    pub(super) keys: Vec<VerifyingKey>,
    pub(super) policy: PolicyFolder,
    pub(super) issuers: Issuers,
    pub(super) broker: Broker,
    pub(super) archive: Archive,
    pub(super) uploads: Turns,
    pub(super) changes: Changes,
    /// Cancelled when the server stops: waiting requests answer at once.
    pub(super) stopping: CancellationToken,
}

impl App {
    /// The time, in the microseconds that the store and the logs keep.
    pub(super) fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    /// Waits until something may have changed; false once `deadline` has passed or
    /// the server stops.
    pub(super) async fn something_changes(
        &self,
        seen: &mut watch::Receiver<u64>,
        deadline: Instant,
    ) -> bool {
        if Instant::now() >= deadline || self.stopping.is_cancelled() {
            return false;
        }
        tokio::select! {
            _ = seen.changed() => {}
            () = sleep(LOOK_AGAIN) => {}
            () = sleep_until(deadline) => {}
            () = self.stopping.cancelled() => {}
        }
        true
    }
}

/// Wakes whoever waits for a grant or session to change.
#[derive(Debug)]
pub(super) struct Changes(watch::Sender<u64>);

impl Changes {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// Something has changed.
    pub(super) fn announce(&self) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// Turns of those who write to the same session's log. Sessions share a few locks:
/// waiting for a stranger's write is short, and no list of locks grows.
#[derive(Debug, Default)]
pub(super) struct Turns([Mutex<()>; 32]);

impl Turns {
    pub(super) async fn turn(&self, session: &SessionId) -> MutexGuard<'_, ()> {
        let sum = session.as_str().bytes().map(usize::from).sum::<usize>();
        self.0[sum % self.0.len()].lock().await
    }
}

/// Random bytes of the operating system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Refusal> {
    use rand::TryRng as _;
    let mut bytes = [0; N];
    rand::rngs::SysRng.try_fill_bytes(&mut bytes).map_err(|error| Refusal::internal(&error))?;
    Ok(bytes)
}
