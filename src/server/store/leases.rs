//! Leases of database roles in the store.

use jiff::Timestamp;
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Store, StoreError, time};

/// A session's database role, from before it is created until it has been dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server) struct Lease {
    /// The database role.
    pub(in crate::server) name: String,
    /// The target's name.
    pub(in crate::server) target: String,
    /// The database in which it was given its privileges.
    pub(in crate::server) database: String,
    /// The session's id.
    pub(in crate::server) session: String,
    /// Where the administrator's URL is found (`env:NAME`, `file:PATH`).
    pub(in crate::server) admin: String,
    /// Who inherits what the session created.
    pub(in crate::server) owner: Option<String>,
    /// When it was written.
    pub(in crate::server) created_at: Timestamp,
    /// When the role must be gone.
    pub(in crate::server) expires_at: Timestamp,
}

impl Lease {
    fn from_row(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self {
            name: row.try_get("name")?,
            target: row.try_get("target")?,
            database: row.try_get("database")?,
            session: row.try_get("session")?,
            admin: row.try_get("admin")?,
            owner: row.try_get("owner")?,
            created_at: time(row.try_get("created_at")?, "lease")?,
            expires_at: time(row.try_get("expires_at")?, "lease")?,
        })
    }
}

impl Store {
    /// Writes a lease, before its role is created.
    pub(in crate::server) async fn insert_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO leases (name, target, database, session, admin, owner, created_at, expires_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&lease.name)
        .bind(&lease.target)
        .bind(&lease.database)
        .bind(&lease.session)
        .bind(&lease.admin)
        .bind(&lease.owner)
        .bind(lease.created_at.as_microsecond())
        .bind(lease.expires_at.as_microsecond())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The lease of a session, where its role may still be there.
    pub(in crate::server) async fn lease_of(
        &self,
        session: &str,
    ) -> Result<Option<Lease>, StoreError> {
        let row = sqlx::query("SELECT * FROM leases WHERE session = ? AND dropped_at IS NULL")
            .bind(session)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(Lease::from_row).transpose()
    }

    /// The leases whose role should be gone and may not be: those past their end,
    /// those whose session has ended, and those written before `opening_since` whose
    /// session never came to be.
    pub(in crate::server) async fn overdue_leases(
        &self,
        now: Timestamp,
        opening_since: Timestamp,
    ) -> Result<Vec<Lease>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM leases WHERE dropped_at IS NULL AND (expires_at <= ?
               OR (created_at < ? AND NOT EXISTS (SELECT 1 FROM sessions
                                                  WHERE sessions.id = leases.session))
               OR EXISTS (SELECT 1 FROM sessions
                          WHERE sessions.id = leases.session AND sessions.state <> 'open'))
             LIMIT 500",
        )
        .bind(now.as_microsecond())
        .bind(opening_since.as_microsecond())
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(Lease::from_row).collect()
    }

    /// Whether a role of this name is leased at present, on whatever target.
    pub(in crate::server) async fn is_leased(&self, name: &str) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM leases WHERE name = ? AND dropped_at IS NULL")
            .bind(name)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.is_some())
    }

    /// Notes that a role is gone.
    pub(in crate::server) async fn lease_dropped(
        &self,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE leases SET dropped_at = ? WHERE target = ? AND name = ?")
            .bind(now.as_microsecond())
            .bind(&lease.target)
            .bind(&lease.name)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Notes a privilege role that is about to be installed.
    pub(in crate::server) async fn note_privilege_role(
        &self,
        target: &str,
        name: &str,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO privilege_roles VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(target)
            .bind(name)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The privilege roles installed on a target.
    pub(in crate::server) async fn privilege_roles(
        &self,
        target: &str,
    ) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar("SELECT name FROM privilege_roles WHERE target = ?")
            .bind(target)
            .fetch_all(&self.pool)
            .await?)
    }

    /// Notes that a privilege role is gone.
    pub(in crate::server) async fn forget_privilege_role(
        &self,
        target: &str,
        name: &str,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM privilege_roles WHERE target = ? AND name = ?")
            .bind(target)
            .bind(name)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
