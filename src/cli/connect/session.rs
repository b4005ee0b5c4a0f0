//! One session from its opening at the control plane to its uploaded log.
//!
//! Whatever fails after the control plane has opened the session closes it there
//! again, so that no database role outlives its session.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::{Args, Context, Endpoint};
use crate::{
    api::{self, Auth, Client, CredentialKind, Grant, OpenSession, OpenedSession, SessionState},
    cli::{
        failure::{Exit, Failure},
        output::escaped,
    },
    grant::{SessionGrant, SigningKey, VerifyingKey},
    journal::{End, EndReason, FORMAT_VERSION, Start},
    policy::{self, Enforcement, Role},
    proxy::{
        Admission, Drift, Ended, Ender, Engine, EngineConfig, HoldNews, OwnConnection, ReviewDesk,
        Running, UpstreamConfig,
        spool::{Destination, Spool, orphans},
        uploader::{self, Outcome, Uploader},
    },
};

/// How long a question about the session's state waits at the server.
const STATE_WAIT: Duration = Duration::from_secs(30);
/// The pause after the server couldn't be asked.
const STATE_PAUSE: Duration = Duration::from_secs(5);
/// How long the last upload may take before the log stays in the spool.
const LAST_UPLOAD: Duration = Duration::from_secs(20);
/// How long the logs of dead processes may take at the next start, together.
const RECOVERY: Duration = Duration::from_secs(10);

/// A running session.
pub(super) struct Session {
    running: Running,
    spool: Arc<Spool>,
    uploader: Uploader,
    desk: Arc<ReviewDesk>,
    tasks: Vec<JoinHandle<()>>,
    grant: SessionGrant,
    expires_at: Timestamp,
    records_results: bool,
}

impl Session {
    /// Opens a session under an active grant: at the control plane, in the spool,
    /// and as a listener on this machine.
    pub(super) async fn open(
        grant: Grant,
        args: &Args,
        client: Client,
        context: &Context,
    ) -> Result<Self, Failure> {
        let spinner =
            context.output.brief_spinner(format!("opening a session on {}", grant.target));
        let key = SigningKey::from_seed(&rand::random());
        let request = OpenSession {
            grant: grant.id.clone(),
            key: key.verifying_key().to_jwk(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        // Neither waits for the other; the grant is checked when both are there.
        let (keys, opened) = tokio::join!(client.keys(), client.open_session(&request));
        let opened = opened?;
        let session = match keys {
            Ok(keys) => {
                let keys: Vec<VerifyingKey> =
                    keys.keys.iter().filter_map(|jwk| VerifyingKey::from_jwk(jwk).ok()).collect();
                Self::begin(&opened, &grant, key, &keys, args, client.clone(), context).await
            }
            Err(error) => Err(error.into()),
        };
        drop(spinner);
        if session.is_err() {
            let token = Auth::Session(&opened.upload_token);
            if let Err(error) = client.close_session(&opened.session, token).await {
                tracing::warn!(%error, "the session that could not begin could not be closed");
            }
        }
        session
    }

    async fn begin(
        opened: &OpenedSession,
        asked: &Grant,
        key: SigningKey,
        keys: &[VerifyingKey],
        args: &Args,
        client: Client,
        context: &Context,
    ) -> Result<Self, Failure> {
        let grant = checked(opened, asked, &key, keys)?;
        let expires_at = grant.expires_at().ok_or_else(|| distrust("its end is no moment"))?;
        if expires_at <= Timestamp::now() {
            let skew = api::clock_difference(opened.now, Timestamp::now());
            return Err(Failure::refused("expired", "the grant has ended")
                .hint(skew.unwrap_or_else(|| "ask for a new one with `pgate request`".into())));
        }
        let role = Arc::new(
            Role::from_document(&opened.role)
                .map_err(|error| distrust(&format!("its role can't be read: {error}")))?,
        );
        let enforcement = match opened.database.credential {
            CredentialKind::Ephemeral => Enforcement::Ephemeral,
            CredentialKind::Static => Enforcement::Static,
        };
        let destination = Destination {
            server: client.server().clone(),
            upload_token: opened.upload_token.clone(),
        };
        let start = Start {
            version: FORMAT_VERSION,
            session: opened.session.clone(),
            grant: opened.grant.clone(),
            key: key.verifying_key().to_jwk(),
            pgate: env!("CARGO_PKG_VERSION").into(),
            command: args.command.first().map(|program| program.to_string_lossy().into_owned()),
        };
        let spool =
            Spool::create(&context.folders.spool(), &destination, start, key, Timestamp::now())
                .map_err(local)?;
        let spool = Arc::new(spool);
        let desk =
            ReviewDesk::new(client.clone(), opened.session.clone(), opened.upload_token.clone());
        let desk = Arc::new(desk);
        let begun = async {
            let upstream = UpstreamConfig::new(&opened.database)
                .map_err(local)?
                .with_search_path(&role.search_path);
            let own = OwnConnection::new(upstream.clone(), &opened.session);
            let epoch = opened.database.catalog_epoch.clone();
            let drift = Drift::start(role.clone(), enforcement, own, epoch).await.map_err(local)?;
            let admission = Admission::new(role.clone(), expires_at, drift, spool.clone())
                .with_reviewers(desk.clone());
            let admission = Arc::new(admission);
            let running = Engine::start(EngineConfig {
                session: opened.session.clone(),
                admission: admission.clone(),
                upstream,
                expires_at,
                masks: role.withholds_values(),
                port: args.port,
                socket_dir: args.socket_dir.clone(),
            })
            .await
            .map_err(local)?;
            let uploader =
                Uploader::start(spool.clone(), client.clone(), opened.upload_token.clone())
                    .map_err(local)?;
            Ok((running, admission, uploader))
        };
        let (running, admission, uploader) = match begun.await {
            Ok(begun) => begun,
            Err(failure) => {
                abandon(&spool, &client, opened, &failure).await;
                return Err(failure);
            }
        };
        let tasks = watchers(&running.ender(), admission, opened, client);
        let records_results = role.record == policy::Record::Results;
        Ok(Self { running, spool, uploader, desk, tasks, grant, expires_at, records_results })
    }

    /// How clients reach the proxy: by TCP, or by the Unix socket.
    pub(super) fn endpoint(&self, tcp: bool) -> Endpoint {
        let at = self.running.endpoints();
        let folder = at.socket_dir.display().to_string();
        let (host, url, public_url) = if tcp {
            (at.host.clone(), at.tcp_url(), at.public_tcp_url())
        } else {
            (folder, at.socket_url(), at.public_socket_url())
        };
        Endpoint {
            public_url,
            url,
            host,
            port: at.port,
            user: at.user.clone(),
            password: at.password.clone(),
            database: at.database.clone(),
            session: self.grant.session.to_string(),
        }
    }

    /// When the session must end.
    pub(super) fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// The role's name.
    pub(super) fn role(&self) -> &str {
        &self.grant.role
    }

    /// Whether the session's log has what statements return.
    pub(super) fn records_results(&self) -> bool {
        self.records_results
    }

    /// What becomes of held statements from now on.
    pub(super) fn news(&self) -> tokio::sync::broadcast::Receiver<HoldNews> {
        self.desk.news()
    }

    /// Completes when something other than its user has ended the session.
    pub(super) async fn ended(&mut self) -> Ended {
        self.running.ended().await
    }

    /// Ends the session: connections, log, upload, database role. Says what it
    /// can't do, and whether the log was uploaded.
    pub(super) async fn finish(
        self,
        reason: EndReason,
        detail: &str,
        context: &Context,
    ) -> Finished {
        let Self { running, spool, uploader, tasks, .. } = self;
        for task in &tasks {
            task.abort();
        }
        let Ended { reason, detail } = running.finish(reason, detail).await;
        let end = End { reason, detail: detail.clone() };
        if let Err(error) = spool.close(end, Timestamp::now()) {
            context.output.warn(error.to_string());
        }
        let spinner = context.output.brief_spinner("uploading the session log");
        let outcome = uploader.finish(LAST_UPLOAD).await;
        drop(spinner);
        let uploaded = match outcome {
            Outcome::Uploaded => true,
            Outcome::Kept { folder, why } => {
                context.output.warn(format!(
                    "the session log was not uploaded ({}); it is kept in {} and goes up at the \
                     next run or with `pgate log upload`",
                    escaped(&why.to_string()),
                    folder.display()
                ));
                false
            }
        };
        Finished { ended: Ended { reason, detail }, uploaded }
    }
}

/// How a session ended, and whether its log reached the control plane.
pub(super) struct Finished {
    pub(super) ended: Ended,
    pub(super) uploaded: bool,
}

/// The tasks beside a session: the log's health, the server's word, the catalog.
/// The first to find a reason ends the session.
fn watchers(
    ender: &Ender,
    admission: Arc<Admission>,
    opened: &OpenedSession,
    client: Client,
) -> Vec<JoinHandle<()>> {
    let mut failed = admission.failed();
    let log_ender = ender.clone();
    let log = tokio::spawn(async move {
        if let Ok(why) = failed.wait_for(Option::is_some).await {
            log_ender.end(EndReason::Failed, why.as_deref().unwrap_or_default());
        }
    });
    let (session, token) = (opened.session.clone(), opened.upload_token.clone());
    let server_ender = ender.clone();
    let server = tokio::spawn(async move {
        loop {
            let asked = tokio::time::Instant::now();
            match client.session_state(&session, Some(STATE_WAIT), &token).await {
                Ok(SessionState::Open) => {}
                Ok(SessionState::Expired) => {
                    server_ender.end(EndReason::Expired, "");
                    return;
                }
                Ok(SessionState::Ended { reason }) => {
                    server_ender.end(EndReason::Revoked, &reason);
                    return;
                }
                // An absent server doesn't end a session: the grant's end will.
                Err(error) => {
                    tracing::info!(%error, "the server could not be asked about the session");
                }
            }
            tokio::time::sleep_until(asked + STATE_PAUSE).await;
        }
    });
    let catalog = tokio::spawn(async move { admission.follow_the_catalog().await });
    vec![log, server, catalog]
}

/// Checks what the server answered before anything is built on it.
fn checked(
    opened: &OpenedSession,
    asked: &Grant,
    key: &SigningKey,
    keys: &[VerifyingKey],
) -> Result<SessionGrant, Failure> {
    let grant = opened.grant.verify(keys).map_err(|error| distrust(&error.to_string()))?;
    let ours = key.verifying_key().to_jwk();
    let fits = [
        (grant.session == opened.session, "it is for another session"),
        (grant.grant == asked.id, "it is another grant"),
        (grant.target == asked.target && grant.role == asked.role, "it is for another role"),
        (grant.cnf.jwk.x == ours.x, "it is bound to another key"),
        (grant.policy == Role::version(&opened.role), "its policy isn't the one that was signed"),
    ];
    match fits.iter().find(|(fits, _)| !fits) {
        None => Ok(grant),
        Some((_, why)) => Err(distrust(why)),
    }
}

fn distrust(why: &str) -> Failure {
    Failure::new(Exit::Failure, "bad_grant", format!("the server's grant can't be used: {why}"))
        .hint("make sure that --server names your own control plane, and try again")
}

fn local(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failure, "session_failed", error.to_string())
        .hint("`pgate doctor` looks for what is wrong on this machine")
}

/// A session that failed before its first connection still leaves its log.
async fn abandon(spool: &Arc<Spool>, client: &Client, opened: &OpenedSession, why: &Failure) {
    let end = End { reason: EndReason::Failed, detail: why.message().to_owned() };
    if spool.close(end, Timestamp::now()).is_err() {
        return;
    }
    match Uploader::start(spool.clone(), client.clone(), opened.upload_token.clone()) {
        Ok(uploader) => {
            if let Outcome::Kept { why, .. } = uploader.finish(RECOVERY).await {
                tracing::warn!(%why, "the failed session's log stays in the spool");
            }
        }
        Err(error) => tracing::warn!(%error, "the failed session's log stays in the spool"),
    }
}

/// Brings up the logs of processes that died, quietly unless it fails.
pub(super) async fn recover(context: &Context) {
    let began = Instant::now();
    for orphan in orphans(&context.folders.spool()) {
        let (name, result) = match orphan {
            Ok(orphan) => {
                let name = orphan.session().to_string();
                let left = RECOVERY.saturating_sub(began.elapsed());
                (name, uploader::recover(orphan, left).await.map_err(|error| error.to_string()))
            }
            Err(error) => (String::from("an earlier session"), Err(error.to_string())),
        };
        match result {
            Ok(()) => {
                context.output.note(format!("uploaded the log of {name}, which was not closed"))
            }
            Err(why) => context.output.warn(format!(
                "the log of {name} is still in the spool: {} (`pgate log upload` tries again)",
                escaped(&why)
            )),
        }
    }
}

/// What a person is told when the session ends under their hands.
pub(super) fn explained(Ended { reason, detail }: &Ended) -> String {
    let what = match reason {
        EndReason::Closed => "the session was closed",
        EndReason::Expired => "the grant has ended, and the session with it",
        EndReason::Revoked => "the session was ended by the control plane",
        EndReason::Tripwire => "a masked value showed up in a result; the session was ended",
        EndReason::Failed => "the session could not go on",
    };
    match detail.as_str() {
        "" => what.to_owned(),
        detail => format!("{what}: {}", escaped(detail)),
    }
}
