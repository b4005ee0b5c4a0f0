//! Looking at a target's database without changing it: its catalog, and what
//! `pgate policy check --target` asks of it.
//!
//! Owns the questions. It writes nothing, runs no code of the database's owners, and lets
//! no sampled value out: what leaves this module of them is how many look like what.

use std::path::Path;

use secrecy::SecretString;
use sqlx::{AssertSqlSafe, PgConnection};

use super::broker::{BrokerError, reach};
use crate::{
    policy::{Credential, Target},
    sql::{CATALOG_QUERY, quote_literal},
};

/// Why a database can't be looked at. Names the target, never a secret.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SurveyError(#[from] BrokerError);

impl SurveyError {
    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self.0 {
            BrokerError::Secret { .. } => {
                "set what the policy names, or give another connection by --database-url-file or \
                 PGATE_DATABASE_URL"
            }
            BrokerError::Login { .. } => "check the user and password of that connection",
            BrokerError::Rights { .. } => "connect as a role that may read the catalog",
            _ => "check that the database runs and can be reached from here",
        }
    }
}

/// A read-only connection to a target's database.
#[derive(Debug)]
pub struct Surveyor {
    connection: PgConnection,
    target: String,
}

impl Surveyor {
    /// Connects with a target's own credential; secrets in files are relative to `folder`.
    pub async fn by_credential(target: &Target, folder: &Path) -> Result<Self, SurveyError> {
        let connection = match &target.credential {
            Credential::Ephemeral { admin_url } => {
                reach::connect(target, admin_url, folder).await?
            }
            Credential::Static { user, password } => {
                reach::connect_as_shared(target, user, password, folder).await?
            }
        };
        Self::over(connection, &target.name).await
    }

    /// Connects by a URL with user and password, to the target's database where one is named.
    pub async fn by_url(target: Option<&Target>, url: &SecretString) -> Result<Self, SurveyError> {
        let name = target.map_or("(by URL)", |target| target.name.as_str());
        let database = target.map(|target| reach::database(&target.url));
        let connection = reach::connect_by_url(name, url, database.as_deref()).await?;
        Self::over(connection, name).await
    }

    async fn over(connection: PgConnection, target: &str) -> Result<Self, SurveyError> {
        let mut surveyor = Self { connection, target: target.to_owned() };
        surveyor
            .run("SET application_name = 'pgate policy'; SET default_transaction_read_only = on")
            .await?;
        // What sessions of a new role get, whatever this one's own setting is.
        let path = "SELECT COALESCE((SELECT pg_catalog.substr(c, 13)
             FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) c
             WHERE s.setrole OPERATOR(pg_catalog.=) 0::pg_catalog.oid
               AND s.setdatabase OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d
                   WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
               AND pg_catalog.starts_with(c, 'search_path=')), '')";
        let path = surveyor.text(path).await?;
        if !path.is_empty() {
            let set = format!(
                "SELECT pg_catalog.set_config('search_path', {}, false)",
                quote_literal(&path)
            );
            surveyor.text(&set).await?;
        }
        Ok(surveyor)
    }

    /// The document that [`crate::sql::Catalog::from_json`] reads.
    pub async fn catalog(&mut self) -> Result<String, SurveyError> {
        self.text(CATALOG_QUERY).await
    }

    async fn text(&mut self, sql: &str) -> Result<String, SurveyError> {
        sqlx::query_scalar::<_, String>(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut self.connection)
            .await
            .map_err(|error| reach::told(&self.target, error).into())
    }

    async fn run(&mut self, sql: &str) -> Result<(), SurveyError> {
        reach::execute(&mut self.connection, sql.to_owned())
            .await
            .map_err(|error| reach::told(&self.target, error).into())
    }
}
