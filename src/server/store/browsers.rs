//! Browsers in which somebody has signed in, in the store.

use jiff::Timestamp;
use sqlx::Row as _;

use super::{Store, StoreError, read, time};
use crate::grant::Identity;

/// A browser in which somebody has signed in.
#[derive(Debug)]
pub(in crate::server) struct Browser {
    /// Who, as the issuer said then.
    pub(in crate::server) identity: Identity,
    /// Until when.
    pub(in crate::server) expires_at: Timestamp,
}

impl Store {
    /// Writes a browser under its cookie's digest; false where this sign-in has been
    /// used, and nothing was written. Forgets browsers that ended and whose sign-ins
    /// began before `forgotten`.
    pub(in crate::server) async fn insert_browser(
        &self,
        token: &[u8; 32],
        sign_in: &[u8; 32],
        browser: &Browser,
        now: Timestamp,
        forgotten: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("DELETE FROM browsers WHERE expires_at <= ? AND since <= ?")
            .bind(now.as_microsecond())
            .bind(forgotten.as_microsecond())
            .execute(&mut *transaction)
            .await?;
        let done = sqlx::query(
            "INSERT INTO browsers (token, sign_in, identity, since, expires_at)
             VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(&token[..])
        .bind(&sign_in[..])
        .bind(serde_json::to_string(&browser.identity)?)
        .bind(now.as_microsecond())
        .bind(browser.expires_at.as_microsecond())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// The browser with this cookie, where it is still signed in.
    pub(in crate::server) async fn browser(
        &self,
        token: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<Browser>, StoreError> {
        let row = sqlx::query(
            "SELECT identity, expires_at FROM browsers WHERE token = ? AND expires_at > ?",
        )
        .bind(&token[..])
        .bind(now.as_microsecond())
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Browser {
            identity: read(row.try_get("identity")?, "browser")?,
            expires_at: time(row.try_get("expires_at")?, "browser")?,
        }))
    }

    /// Signs a browser out. Its row stays for a while, so that its sign-in stays used.
    pub(in crate::server) async fn end_browser(
        &self,
        token: &[u8; 32],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE browsers SET expires_at = ?1 WHERE token = ?2 AND expires_at > ?1")
            .bind(now.as_microsecond())
            .bind(&token[..])
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
