//! Grants in the store.

use jiff::Timestamp;
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Store, StoreError, read};
use crate::{
    grant::{Grant, GrantId, Identity},
    policy::Reviewers,
};

/// A grant as it was read, with what a change of it is compared with.
#[derive(Debug, Clone)]
pub(in crate::server) struct StoredGrant {
    pub(in crate::server) grant: Grant,
    /// Who may approve it, as the access rule said when it was asked for.
    pub(in crate::server) reviewers: Option<Reviewers>,
    pub(in crate::server) version: i64,
}

impl StoredGrant {
    fn from_row(row: &SqliteRow) -> Result<Self, StoreError> {
        let reviewers = row.try_get::<Option<&str>, _>("reviewers")?;
        Ok(Self {
            grant: read(row.try_get("document")?, "grant")?,
            reviewers: reviewers.map(|text| read(text, "grant")).transpose()?,
            version: row.try_get("version")?,
        })
    }
}

fn all(rows: &[SqliteRow]) -> Result<Vec<StoredGrant>, StoreError> {
    rows.iter().map(StoredGrant::from_row).collect()
}

impl Store {
    /// Writes a new grant.
    pub(in crate::server) async fn insert_grant(
        &self,
        grant: &Grant,
        reviewers: Option<&Reviewers>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO grants (id, issuer, subject, target, role, state, requested_at, lapses_at,
                                 version, reviewers, document)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?)",
        )
        .bind(grant.id.as_str())
        .bind(&grant.identity.issuer)
        .bind(&grant.identity.subject)
        .bind(&grant.target)
        .bind(&grant.role)
        .bind(grant.state.name())
        .bind(grant.requested_at.as_microsecond())
        .bind(grant.lapses_at.as_microsecond())
        .bind(reviewers.map(serde_json::to_string).transpose()?)
        .bind(serde_json::to_string(grant)?)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The grant, as it was last written.
    pub(in crate::server) async fn grant(
        &self,
        id: &GrantId,
    ) -> Result<Option<StoredGrant>, StoreError> {
        let row = sqlx::query("SELECT document, reviewers, version FROM grants WHERE id = ?")
            .bind(id.as_str())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(StoredGrant::from_row).transpose()
    }

    /// Writes `after` over what was read as `before`; false where somebody else
    /// was faster, and nothing was written.
    pub(in crate::server) async fn replace_grant(
        &self,
        before: &StoredGrant,
        after: &Grant,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE grants SET state = ?, document = ?, version = version + 1
             WHERE id = ? AND version = ?",
        )
        .bind(after.state.name())
        .bind(serde_json::to_string(after)?)
        .bind(after.id.as_str())
        .bind(before.version)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// The grants of one person or workload, newest first.
    pub(in crate::server) async fn grants_of(
        &self,
        identity: &Identity,
        limit: u32,
    ) -> Result<Vec<StoredGrant>, StoreError> {
        let rows = sqlx::query(
            "SELECT document, reviewers, version FROM grants WHERE issuer = ? AND subject = ?
             ORDER BY requested_at DESC, id LIMIT ?",
        )
        .bind(&identity.issuer)
        .bind(&identity.subject)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        all(&rows)
    }

    /// How many requests of one person or workload wait for an answer.
    pub(in crate::server) async fn pending_of(
        &self,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        let count = sqlx::query_scalar(
            "SELECT count(*) FROM grants
             WHERE issuer = ? AND subject = ? AND state = 'pending' AND lapses_at > ?",
        )
        .bind(&identity.issuer)
        .bind(&identity.subject)
        .bind(now.as_microsecond())
        .fetch_one(&self.pool)
        .await?;
        Ok(count)
    }

    /// Every grant that waits for an answer, newest first.
    pub(in crate::server) async fn pending_grants(
        &self,
        now: Timestamp,
    ) -> Result<Vec<StoredGrant>, StoreError> {
        let rows = sqlx::query(
            "SELECT document, reviewers, version FROM grants
             WHERE state = 'pending' AND lapses_at > ? ORDER BY requested_at DESC, id LIMIT 1000",
        )
        .bind(now.as_microsecond())
        .fetch_all(&self.pool)
        .await?;
        all(&rows)
    }
}
