//! The life of sessions on the server's side: how they end, and the watch over
//! those that don't end by themselves.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::time::{Instant, timeout};

use super::{app::App, broker, problem::Refusal, store::EndState};
use crate::{
    api::HoldView,
    grant::{GrantId, SessionId},
};

/// How often sessions past their end are looked for.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);
/// How often database roles that should be gone are looked for.
const REAPER_INTERVAL: Duration = Duration::from_secs(30);
/// How long an answer waits for a role to be dropped; the reaper has it after that.
const DROP_WAIT: Duration = Duration::from_secs(10);
/// How long opening a session may take, its database role included.
const OPENING: Duration = Duration::from_secs(120);
/// A client not heard from for so long at its session's end has gone.
const VANISHED: Duration = Duration::from_secs(120);

/// Ends every open session of a grant that was revoked.
pub(super) async fn end_all_of(
    app: &Arc<App>,
    grant: &GrantId,
    reason: &str,
) -> Result<(), Refusal> {
    let sessions = app.store.open_sessions_of(grant).await?;
    let ends = sessions.iter().map(|session| end(app, session, EndState::Revoked, reason));
    join_all(ends).await.into_iter().collect()
}

/// Ends one session, where it is open, and drops its database role. Whoever waits
/// for its end is woken first.
pub(super) async fn end(
    app: &Arc<App>,
    session: &SessionId,
    state: EndState,
    reason: &str,
) -> Result<(), Refusal> {
    if app.store.end_session(session, state, reason, app.now()).await? {
        tracing::info!(%session, state = state.name(), reason, "session ended");
        end_holds(app, session, reason).await?;
        app.changes.announce();
    }
    drop_role(app, session).await
}

/// Ends what still waits for a reviewer in a session that has ended. Whoever decides at
/// the same moment is either first, or finds that the session has ended.
async fn end_holds(app: &Arc<App>, session: &SessionId, reason: &str) -> Result<(), Refusal> {
    let now = app.now();
    for stored in app.store.waiting_in(session, now).await? {
        if let Ok(hold) = stored.view.hold.clone().end(now, reason.to_owned()) {
            let view = HoldView { hold, ..stored.view.clone() };
            app.store.replace_hold(&stored, &view).await?;
        }
    }
    Ok(())
}

/// Drops the database role of a session that has ended. A failure is the reaper's
/// to try again, not the caller's.
pub(super) async fn drop_role(app: &Arc<App>, session: &SessionId) -> Result<(), Refusal> {
    let Some(lease) = app.store.lease_of(session.as_str()).await? else { return Ok(()) };
    let app = app.clone();
    // A task of its own, so that it goes on when the caller hangs up.
    let dropping = tokio::spawn(async move {
        if let Err(error) = app.broker.drop_role(&app.store, &lease).await {
            tracing::warn!(%error, name = lease.name, "a role stays for the reaper");
        }
    });
    // Late or failed, it has been logged.
    let _ = timeout(DROP_WAIT, dropping).await;
    Ok(())
}

/// Ends sessions whose end has come, until the server stops.
pub(super) async fn watch_expiry(app: Arc<App>) {
    while pause(&app, EXPIRY_INTERVAL).await {
        if let Err(refusal) = end_overdue(&app).await {
            tracing::error!(code = refusal.code(), "sessions past their end stay for now");
        }
    }
}

async fn end_overdue(app: &Arc<App>) -> Result<(), Refusal> {
    let now = app.now();
    let overdue = app.store.overdue_sessions(now).await?;
    let ends = overdue.iter().map(|session| {
        let heard = session.view.expires_at.duration_since(session.seen_at).unsigned_abs();
        let (state, reason) = if heard > VANISHED {
            (EndState::Abandoned, "its end came, and its client had gone without closing it")
        } else {
            (EndState::Expired, "its end came")
        };
        end(app, &session.view.session, state, reason)
    });
    join_all(ends).await.into_iter().collect()
}

/// Drops database roles that should be gone: at once, then every half minute.
pub(super) async fn watch_roles(app: Arc<App>) {
    // Nothing is being opened yet.
    let mut opening_since = app.now();
    loop {
        let started = Instant::now();
        let policy = app.policy.current();
        tokio::select! {
            reaped = broker::reap(&app.broker, &app.store, &policy, opening_since) => {
                if let Err(error) = reaped {
                    tracing::error!(%error, "the reaper");
                }
            }
            () = app.stopping.cancelled() => return,
        }
        if !pause(&app, REAPER_INTERVAL.saturating_sub(started.elapsed())).await {
            return;
        }
        opening_since = app.now().checked_sub(OPENING).unwrap_or(Timestamp::MIN);
    }
}

/// Waits; false where the server stops.
async fn pause(app: &App, time: Duration) -> bool {
    tokio::select! {
        () = tokio::time::sleep(time) => true,
        () = app.stopping.cancelled() => false,
    }
}
