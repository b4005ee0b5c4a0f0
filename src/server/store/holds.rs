//! Holds in the store.

use jiff::Timestamp;
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Store, StoreError, read};
use crate::{
    api::HoldView,
    grant::{HoldId, SessionId},
};

/// A hold as it was read, with what a change of it is compared with.
#[derive(Debug, Clone)]
pub(in crate::server) struct StoredHold {
    pub(in crate::server) view: HoldView,
    pub(in crate::server) version: i64,
}

impl StoredHold {
    fn from_row(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self { view: read(row.try_get("document")?, "hold")?, version: row.try_get("version")? })
    }
}

fn all(rows: &[SqliteRow]) -> Result<Vec<StoredHold>, StoreError> {
    rows.iter().map(StoredHold::from_row).collect()
}

impl Store {
    /// Writes a new hold, where its session is open and its id is free; false where
    /// nothing was written.
    pub(in crate::server) async fn insert_hold(&self, view: &HoldView) -> Result<bool, StoreError> {
        let hold = &view.hold;
        let done = sqlx::query(
            "INSERT INTO holds (id, session, state, raised_at, expires_at, version, document)
             SELECT ?, id, ?, ?, ?, 0, ? FROM sessions WHERE id = ? AND state = 'open'
             ON CONFLICT DO NOTHING",
        )
        .bind(hold.id.as_str())
        .bind(hold.state.name())
        .bind(hold.raised_at.as_microsecond())
        .bind(hold.expires_at.as_microsecond())
        .bind(serde_json::to_string(view)?)
        .bind(hold.session.as_str())
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// The hold, as it was last written.
    pub(in crate::server) async fn hold(
        &self,
        id: &HoldId,
    ) -> Result<Option<StoredHold>, StoreError> {
        let row = sqlx::query("SELECT document, version FROM holds WHERE id = ?")
            .bind(id.as_str())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(StoredHold::from_row).transpose()
    }

    /// Writes `after` over what was read as `before`; false where somebody else was
    /// faster, and nothing was written.
    pub(in crate::server) async fn replace_hold(
        &self,
        before: &StoredHold,
        after: &HoldView,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE holds SET state = ?, document = ?, version = version + 1
             WHERE id = ? AND version = ?",
        )
        .bind(after.hold.state.name())
        .bind(serde_json::to_string(after)?)
        .bind(after.hold.id.as_str())
        .bind(before.version)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Every hold that waits in an open session, oldest first.
    pub(in crate::server) async fn waiting_holds(
        &self,
        now: Timestamp,
    ) -> Result<Vec<StoredHold>, StoreError> {
        let rows = sqlx::query(
            "SELECT holds.document, holds.version FROM holds JOIN sessions ON sessions.id = session
             WHERE holds.state = 'waiting' AND holds.expires_at > ?1
               AND sessions.state = 'open' AND sessions.expires_at > ?1
             ORDER BY raised_at, holds.id LIMIT 500",
        )
        .bind(now.as_microsecond())
        .fetch_all(&self.pool)
        .await?;
        all(&rows)
    }

    /// The first thousand holds of a session, oldest first.
    pub(in crate::server) async fn holds_of(
        &self,
        session: &SessionId,
    ) -> Result<Vec<StoredHold>, StoreError> {
        let rows = sqlx::query(
            "SELECT document, version FROM holds WHERE session = ?
             ORDER BY raised_at, id LIMIT 1000",
        )
        .bind(session.as_str())
        .fetch_all(&self.pool)
        .await?;
        all(&rows)
    }

    /// The holds of a session that wait, oldest first.
    pub(in crate::server) async fn waiting_in(
        &self,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<Vec<StoredHold>, StoreError> {
        let rows = sqlx::query(
            "SELECT document, version FROM holds
             WHERE session = ? AND state = 'waiting' AND expires_at > ? ORDER BY raised_at, id",
        )
        .bind(session.as_str())
        .bind(now.as_microsecond())
        .fetch_all(&self.pool)
        .await?;
        all(&rows)
    }

    /// What the holds of a session take, whatever became of them, in bytes.
    pub(in crate::server) async fn bytes_of_holds(
        &self,
        session: &SessionId,
    ) -> Result<u64, StoreError> {
        let sum = sqlx::query_scalar::<_, i64>(
            "SELECT coalesce(sum(octet_length(document)), 0) FROM holds WHERE session = ?",
        )
        .bind(session.as_str())
        .fetch_one(&self.pool)
        .await?;
        Ok(sum.unsigned_abs())
    }

    /// The policy document that a session runs under.
    pub(in crate::server) async fn policy_of(
        &self,
        session: &SessionId,
    ) -> Result<Option<String>, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT document FROM policies
             WHERE version = (SELECT policy FROM sessions WHERE id = ?)",
        )
        .bind(session.as_str())
        .fetch_optional(&self.pool)
        .await?)
    }
}
