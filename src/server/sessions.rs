//! The life of sessions on the server's side: how they end.

use std::sync::Arc;

use super::{app::App, problem::Refusal, store::EndState};
use crate::grant::{GrantId, SessionId};

/// Ends every open session of a grant that was revoked.
pub(super) async fn end_all_of(
    app: &Arc<App>,
    grant: &GrantId,
    reason: &str,
) -> Result<(), Refusal> {
    for session in app.store.open_sessions_of(grant).await? {
        end(app, &session, EndState::Revoked, reason).await?;
    }
    Ok(())
}

/// Ends one session, where it is open.
pub(super) async fn end(
    app: &Arc<App>,
    session: &SessionId,
    state: EndState,
    reason: &str,
) -> Result<(), Refusal> {
    if app.store.end_session(session, state, reason, app.now()).await? {
        tracing::info!(%session, state = state.name(), reason, "session ended");
        app.changes.announce();
    }
    Ok(())
}
