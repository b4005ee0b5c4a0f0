//! Sessions in the store.

use jiff::Timestamp;
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Store, StoreError, read, time};
use crate::{
    api::SessionView,
    grant::{GrantId, Identity, SessionId},
    journal::{Receipt, Receiver},
};

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum EndState {
    /// Its client closed it.
    Closed,
    /// Its end came while its client was there.
    Expired,
    /// Its grant was revoked.
    Revoked,
    /// Its end came and its client had gone long before.
    Abandoned,
}

impl EndState {
    pub(in crate::server) fn name(self) -> &'static str {
        match self {
            EndState::Closed => "closed",
            EndState::Expired => "expired",
            EndState::Revoked => "revoked",
            EndState::Abandoned => "abandoned",
        }
    }
}

/// A session as the store has it.
#[derive(Debug, Clone)]
pub(in crate::server) struct StoredSession {
    pub(in crate::server) view: SessionView,
    pub(in crate::server) end_reason: Option<String>,
    pub(in crate::server) seen_at: Timestamp,
    pub(in crate::server) upload_token: Vec<u8>,
    pub(in crate::server) log: Receiver,
    pub(in crate::server) receipt: Option<Receipt>,
}

impl StoredSession {
    pub(in crate::server) fn is_open(&self) -> bool {
        self.view.ended_at.is_none()
    }

    fn from_row(row: &SqliteRow) -> Result<Self, StoreError> {
        const WHAT: &str = "session";
        let unreadable = |_| StoreError::Unreadable(WHAT);
        let id: SessionId = row.try_get::<&str, _>("id")?.parse().map_err(unreadable)?;
        let grant: GrantId = row.try_get::<&str, _>("grant_id")?.parse().map_err(unreadable)?;
        let count = |column| -> Result<u64, StoreError> {
            u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| StoreError::Unreadable(WHAT))
        };
        let ended_at = row.try_get::<Option<i64>, _>("ended_at")?;
        let receipt = row.try_get::<Option<&str>, _>("receipt")?;
        Ok(Self {
            view: SessionView {
                session: id,
                grant,
                identity: read(row.try_get("identity")?, WHAT)?,
                target: row.try_get("target")?,
                role: row.try_get("role")?,
                reason: row.try_get("reason")?,
                opened_at: time(row.try_get("opened_at")?, WHAT)?,
                expires_at: time(row.try_get("expires_at")?, WHAT)?,
                ended_at: ended_at.map(|at| time(at, WHAT)).transpose()?,
                state: row.try_get("state")?,
                lines: count("lines")?,
                statements: count("statements")?,
            },
            end_reason: row.try_get("end_reason")?,
            seen_at: time(row.try_get("seen_at")?, WHAT)?,
            upload_token: row.try_get("upload_token")?,
            log: read(row.try_get("log")?, WHAT)?,
            receipt: receipt.map(|text| read(text, WHAT)).transpose()?,
        })
    }
}

/// What is written when a session opens.
pub(in crate::server) struct NewSession<'a> {
    pub(in crate::server) id: &'a SessionId,
    pub(in crate::server) grant: &'a super::StoredGrant,
    pub(in crate::server) identity: &'a Identity,
    pub(in crate::server) policy: &'a str,
    pub(in crate::server) document: &'a str,
    pub(in crate::server) opened_at: Timestamp,
    pub(in crate::server) expires_at: Timestamp,
    pub(in crate::server) upload_token: &'a [u8],
    pub(in crate::server) log: &'a Receiver,
}

impl Store {
    /// Writes a new session, if its grant is still as it was read and fewer than `most` of
    /// its sessions are open; false where nothing was written.
    pub(in crate::server) async fn insert_session(
        &self,
        new: &NewSession<'_>,
        most: usize,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "INSERT INTO policies (version, document) VALUES (?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(new.policy)
        .bind(new.document)
        .execute(&mut *transaction)
        .await?;
        let done = sqlx::query(
            "INSERT INTO sessions (id, grant_id, issuer, subject, identity, target, role, reason,
                                   policy, opened_at, expires_at, seen_at, state, upload_token, log)
             SELECT ?, id, issuer, subject, ?, target, role, ?, ?, ?, ?, ?, 'open', ?, ?
             FROM grants WHERE id = ? AND version = ?
               AND (SELECT count(*) FROM sessions
                    WHERE grant_id = grants.id AND state = 'open') < ?",
        )
        .bind(new.id.as_str())
        .bind(serde_json::to_string(new.identity)?)
        .bind(&new.grant.grant.reason)
        .bind(new.policy)
        .bind(new.opened_at.as_microsecond())
        .bind(new.expires_at.as_microsecond())
        .bind(new.opened_at.as_microsecond())
        .bind(new.upload_token)
        .bind(serde_json::to_string(new.log)?)
        .bind(new.grant.grant.id.as_str())
        .bind(new.grant.version)
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// The session.
    pub(in crate::server) async fn session(
        &self,
        id: &SessionId,
    ) -> Result<Option<StoredSession>, StoreError> {
        let row = sqlx::query("SELECT * FROM sessions WHERE id = ?")
            .bind(id.as_str())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(StoredSession::from_row).transpose()
    }

    /// The newest sessions, newest first: `owner`'s own, and those on the given
    /// (target, role) pairs.
    pub(in crate::server) async fn sessions_seen_by(
        &self,
        owner: &Identity,
        reviewed: &[(String, String)],
        limit: u32,
    ) -> Result<Vec<StoredSession>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM sessions
             WHERE (issuer = ? AND subject = ?)
                OR EXISTS (SELECT 1 FROM json_each(?) AS pair
                           WHERE pair.value ->> 0 = target AND pair.value ->> 1 = role)
             ORDER BY opened_at DESC, id LIMIT ?",
        )
        .bind(&owner.issuer)
        .bind(&owner.subject)
        .bind(serde_json::to_string(reviewed)?)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(StoredSession::from_row).collect()
    }

    /// The open sessions of a grant.
    pub(in crate::server) async fn open_sessions_of(
        &self,
        grant: &GrantId,
    ) -> Result<Vec<SessionId>, StoreError> {
        let rows = sqlx::query_scalar::<_, String>(
            "SELECT id FROM sessions WHERE grant_id = ? AND state = 'open'",
        )
        .bind(grant.as_str())
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|id| id.parse().map_err(|_| StoreError::Unreadable("session"))).collect()
    }

    /// The open sessions whose end has passed.
    pub(in crate::server) async fn overdue_sessions(
        &self,
        now: Timestamp,
    ) -> Result<Vec<StoredSession>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM sessions WHERE state = 'open' AND expires_at <= ? LIMIT 500",
        )
        .bind(now.as_microsecond())
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(StoredSession::from_row).collect()
    }

    /// Ends an open session; false where it had ended already.
    pub(in crate::server) async fn end_session(
        &self,
        id: &SessionId,
        state: EndState,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE sessions SET state = ?, end_reason = ?, ended_at = ?
             WHERE id = ? AND state = 'open'",
        )
        .bind(state.name())
        .bind(reason)
        .bind(now.as_microsecond())
        .bind(id.as_str())
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Notes a sign of life of the session's client.
    pub(in crate::server) async fn seen(
        &self,
        id: &SessionId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE sessions SET seen_at = ? WHERE id = ?")
            .bind(now.as_microsecond())
            .bind(id.as_str())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Writes how far a log has been received; false where another upload was
    /// faster, and nothing was written.
    pub(in crate::server) async fn advance_log(
        &self,
        before: &StoredSession,
        log: &Receiver,
        receipt: &Receipt,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE sessions SET log = ?, receipt = ?, lines = ?, statements = ?, seen_at = ?
             WHERE id = ? AND lines = ?",
        )
        .bind(serde_json::to_string(log)?)
        .bind(serde_json::to_string(receipt)?)
        .bind(i64::try_from(log.lines()).unwrap_or(i64::MAX))
        .bind(i64::try_from(log.statements()).unwrap_or(i64::MAX))
        .bind(now.as_microsecond())
        .bind(before.view.session.as_str())
        .bind(i64::try_from(before.view.lines).unwrap_or(i64::MAX))
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }
}
