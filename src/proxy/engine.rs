//! The engine: one session's listener, its connections, and their common end.
//!
//! Owns the session's absolute end: at expiry, revocation or failure every connection
//! is told, its statement cancelled upstream, and closed. It knows nothing of laptops or
//! child processes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rand::Rng as _;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use super::{
    admission::Admission,
    cancel::CancelKeys,
    connection,
    handshake::{self, Door},
    listener::{ListenError, Listener},
    upstream::UpstreamConfig,
};
use crate::{
    grant::SessionId,
    journal::EndReason,
    wire::scram::{ITERATIONS, Verifier},
};

/// How long before the end clients are told.
const WARNING: Duration = Duration::from_secs(5 * 60);
/// How often the wall clock is looked at: a laptop's timers stand still while it sleeps.
const TICK: Duration = Duration::from_secs(15);
/// The most clients at a time, those included that haven't said who they are.
const MOST_CLIENTS: usize = 4096;
/// The most strangers at a time: clients that may be anybody, and haven't said who they
/// are. Those whose user id the kernel vouches for aren't among them, so that a flood of
/// strangers doesn't keep the session's own command out.
const MOST_STRANGERS: usize = 100;
/// How long connections may take to close.
const CLOSING_PATIENCE: Duration = Duration::from_secs(10);

/// What a session needs.
#[derive(Debug)]
pub struct EngineConfig {
    /// The session, which names itself in `application_name`.
    pub session: SessionId,
    /// How to reach the database.
    pub upstream: UpstreamConfig,
    /// Who decides and records.
    pub admission: Arc<Admission>,
    /// When it ends, whatever happens.
    pub expires_at: Timestamp,
    /// Whether the role withholds values: masks, hides or looks for any.
    pub masks: bool,
    /// The port on 127.0.0.1; none takes a free one.
    pub port: Option<u16>,
    /// The folder of the Unix socket; none makes a fresh one.
    pub socket_dir: Option<PathBuf>,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub reason: EndReason,
    /// More, in words; may be empty.
    pub detail: String,
}

impl Ended {
    /// What clients are told.
    pub(super) fn message(&self) -> String {
        let what = match self.reason {
            EndReason::Closed => "the pgate session was closed",
            EndReason::Expired => "the grant has expired; ask for a new one with pgate request",
            EndReason::Revoked => "the grant was revoked",
            EndReason::Tripwire => "pgate ended the session: a masked value was about to show up",
            EndReason::Failed => "pgate ended the session because it can't go on",
        };
        match self.detail.as_str() {
            "" => what.to_owned(),
            detail => format!("{what} ({detail})"),
        }
    }
}

/// Ends a session from elsewhere; the first reason counts.
#[derive(Debug, Clone)]
pub struct Ender(Arc<watch::Sender<Option<Ended>>>);

impl Ender {
    /// Ends the session.
    pub fn end(&self, reason: EndReason, detail: &str) {
        self.0.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(Ended { reason, detail: detail.to_owned() });
            }
            first
        });
    }
}

/// Waits for a value that is set at most once.
#[derive(Debug)]
pub(super) struct Once<T>(watch::Receiver<Option<T>>);

impl<T: Clone> Once<T> {
    /// Whether the value has been set since this was made: cheaper to ask than to wait.
    pub(super) fn has_come(&self) -> bool {
        self.0.has_changed().unwrap_or(false)
    }

    /// The value, once it is there; then never again.
    pub(super) async fn wait(&mut self) -> T {
        loop {
            // Looked at before waiting: it may have been set before this receiver was made.
            if self.0.has_changed().is_err() {
                std::future::pending::<()>().await;
            }
            let found = self.0.borrow_and_update().clone();
            if let Some(found) = found {
                self.0 = watch::channel(None).1;
                return found;
            }
            if self.0.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// What a session's connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) upstream: UpstreamConfig,
    pub(super) admission: Arc<Admission>,
    pub(super) door: Door,
    pub(super) cancel_keys: CancelKeys,
    pub(super) masks: bool,
    ender: Ender,
    warning: watch::Sender<Option<String>>,
}

impl Shared {
    /// Ends the whole session.
    pub(super) fn end(&self, reason: EndReason, detail: &str) {
        self.ender.end(reason, detail);
    }

    /// The session's end, to wait for.
    pub(super) fn ending(&self) -> Once<Ended> {
        Once(self.ender.0.subscribe())
    }

    /// The warning before the end, to wait for.
    pub(super) fn warning(&self) -> Once<String> {
        Once(self.warning.subscribe())
    }
}

/// How to connect.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// Always 127.0.0.1.
    pub host: String,
    /// The port, which also names the socket file.
    pub port: u16,
    /// The folder of the Unix socket.
    pub socket_dir: PathBuf,
    /// The user.
    pub user: String,
    /// The one-time password; over the Unix socket our own user needs none.
    pub password: SecretString,
    /// The database.
    pub database: String,
}

impl Endpoints {
    /// A connection URI (PostgreSQL manual, 34.1.1.2) for 127.0.0.1, with the password.
    pub fn tcp_url(&self) -> SecretString {
        self.tcp(&self.login()).into()
    }

    /// A connection URI for the Unix socket, with the password (for a client that runs
    /// as somebody else).
    pub fn socket_url(&self) -> SecretString {
        self.socket(&self.login()).into()
    }

    /// As [`Endpoints::tcp_url`] without the password, for what others may see.
    pub fn public_tcp_url(&self) -> String {
        self.tcp(&encode(&self.user))
    }

    /// As [`Endpoints::socket_url`] without the password.
    pub fn public_socket_url(&self) -> String {
        self.socket(&encode(&self.user))
    }

    fn login(&self) -> String {
        format!("{}:{}", encode(&self.user), encode(self.password.expose_secret()))
    }

    /// TLS would be refused on the loopback, so no driver need ask for it.
    fn tcp(&self, login: &str) -> String {
        let database = encode(&self.database);
        format!("postgresql://{login}@{}:{}/{database}?sslmode=disable", self.host, self.port)
    }

    /// A socket's folder goes into the query, where every driver reads it.
    fn socket(&self, login: &str) -> String {
        let database = encode(&self.database);
        let folder = encode(&self.socket_dir.to_string_lossy());
        format!("postgresql://{login}@/{database}?host={folder}&port={}", self.port)
    }
}

/// All but the unreserved characters of RFC 3986 section 2.3.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn encode(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// Starts sessions.
#[derive(Debug)]
pub struct Engine;

impl Engine {
    /// Listens, and serves clients until the session ends.
    pub async fn start(config: EngineConfig) -> Result<Running, ListenError> {
        let listener =
            Listener::bind(config.port.unwrap_or(0), config.socket_dir.as_deref()).await?;
        let password = super::random_text();
        let mut salt = [0; 16];
        rand::rng().fill_bytes(&mut salt);
        let user = config.upstream.user().to_owned();
        let database = config.upstream.database().to_owned();
        let endpoints = Endpoints {
            host: "127.0.0.1".to_owned(),
            port: listener.port(),
            socket_dir: listener.folder().to_owned(),
            user: user.clone(),
            password: password.clone().into(),
            database: database.clone(),
        };
        let ender = Ender(Arc::new(watch::channel(None).0));
        let role = config.admission.role();
        let shared = Arc::new(Shared {
            upstream: config.upstream,
            admission: config.admission,
            door: Door {
                role,
                user,
                database,
                verifier: Verifier::new(&password, &salt, ITERATIONS),
                label: format!("pgate {}", config.session),
            },
            cancel_keys: CancelKeys::default(),
            masks: config.masks,
            ender: ender.clone(),
            warning: watch::channel(None).0,
        });
        let clock = tokio::spawn(watch_clock(Arc::clone(&shared), config.expires_at));
        let admission = Arc::clone(&shared.admission);
        let writer = tokio::spawn(async move { admission.write_behind().await });
        let served = tokio::spawn(serve(shared, listener));
        Ok(Running { endpoints, ender, served: Served::Still(served), clock, writer })
    }
}

/// Warns before the end, and ends the session at it.
async fn watch_clock(shared: Arc<Shared>, expires_at: Timestamp) {
    loop {
        let left = expires_at.duration_since(Timestamp::now());
        let Ok(left) = Duration::try_from(left) else { break };
        if left.is_zero() {
            break;
        }
        let mut pause = left.min(TICK);
        if left <= WARNING {
            let minutes = left.as_secs().div_ceil(60);
            let plural = if minutes == 1 { "" } else { "s" };
            shared.warning.send_if_modified(|warning| {
                let first = warning.is_none();
                if first {
                    *warning = Some(format!(
                        "this pgate session ends in {minutes} minute{plural}, at {expires_at:.0}"
                    ));
                }
                first
            });
        } else {
            pause = pause.min(left - WARNING);
        }
        sleep(pause.max(Duration::from_millis(1))).await;
    }
    shared.end(EndReason::Expired, "");
}

/// Accepts clients until the session ends, then waits for their connections to close.
async fn serve(shared: Arc<Shared>, listener: Listener) -> Ended {
    let mut ending = shared.ending();
    let mut connections = JoinSet::new();
    let strangers = Arc::new(Semaphore::new(MOST_STRANGERS));
    let ended = loop {
        tokio::select! {
            biased;
            ended = ending.wait() => break ended,
            Some(_) = connections.join_next() => {}
            caller = listener.accept() => match caller {
                Ok(caller) if connections.len() >= MOST_CLIENTS => {
                    tracing::warn!("a client was turned away: {MOST_CLIENTS} are connected");
                    handshake::turn_away(&caller.stream, "too many clients are connected");
                }
                Ok(caller) => {
                    let waiting = match caller.trusted {
                        true => Ok(None),
                        false => Arc::clone(&strangers).try_acquire_owned().map(Some),
                    };
                    let Ok(waiting) = waiting else {
                        tracing::warn!("a client was turned away: {MOST_STRANGERS} others \
                                        haven't said who they are");
                        let message = "too many clients haven't said who they are; try again";
                        handshake::turn_away(&caller.stream, message);
                        continue;
                    };
                    connections.spawn(connection::serve(Arc::clone(&shared), caller, waiting));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: closing ones will free some.
                    tracing::warn!(%error, "a client could not be accepted");
                    sleep(Duration::from_millis(100)).await;
                }
            },
        }
    };
    drop(listener);
    let closing =
        timeout(CLOSING_PATIENCE, async { while connections.join_next().await.is_some() {} });
    if closing.await.is_err() {
        tracing::warn!("connections that would not close were dropped");
        connections.shutdown().await;
    }
    ended
}

/// A session that is being served.
#[derive(Debug)]
pub struct Running {
    endpoints: Endpoints,
    ender: Ender,
    served: Served,
    clock: JoinHandle<()>,
    /// Writes the log's lines that nothing waits for.
    writer: JoinHandle<()>,
}

/// The task that serves, or how it ended.
#[derive(Debug)]
enum Served {
    Still(JoinHandle<Ended>),
    Until(Ended),
}

impl Running {
    /// How to connect.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The folder of the Unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.endpoints.socket_dir
    }

    /// Ends the session from elsewhere: on revocation, say.
    pub fn ender(&self) -> Ender {
        self.ender.clone()
    }

    /// Waits until the session has ended by itself (expiry, revocation, tripwire, failure)
    /// and every connection is closed. Cancel-safe: [`Running::finish`] may follow.
    pub async fn ended(&mut self) -> Ended {
        let ended = match &mut self.served {
            Served::Still(task) => task.await.unwrap_or_else(|error| Ended {
                reason: EndReason::Failed,
                detail: format!("the proxy stopped: {error}"),
            }),
            Served::Until(ended) => return ended.clone(),
        };
        self.clock.abort();
        self.writer.abort();
        self.served = Served::Until(ended.clone());
        ended
    }

    /// Ends the session for this reason, unless it has ended for another one, closes every
    /// connection and removes the sockets. Returns how it ended.
    pub async fn finish(mut self, reason: EndReason, detail: &str) -> Ended {
        self.ender.end(reason, detail);
        self.ended().await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.clock.abort();
        self.writer.abort();
        if let Served::Still(task) = &self.served {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_uris_carry_any_name_and_both_transports() {
        let at = Endpoints {
            host: "127.0.0.1".into(),
            port: 5432,
            socket_dir: "/tmp/a b".into(),
            user: "an@_".into(),
            password: SecretString::from("one/time"),
            database: "my/db".into(),
        };
        let login = "postgresql://an%40_:one%2Ftime@";
        assert_eq!(
            at.tcp_url().expose_secret(),
            format!("{login}127.0.0.1:5432/my%2Fdb?sslmode=disable")
        );
        assert_eq!(
            at.socket_url().expose_secret(),
            format!("{login}/my%2Fdb?host=%2Ftmp%2Fa%20b&port=5432")
        );
        for (public, secret) in
            [(at.public_tcp_url(), at.tcp_url()), (at.public_socket_url(), at.socket_url())]
        {
            assert_eq!(public, secret.expose_secret().replace(":one%2Ftime", ""));
        }
    }
}
