//! Looking at a target's database without changing it: its catalog, and what
//! `pgate policy check --target` asks of it.
//!
//! Owns the questions. It writes nothing, runs no code of the database's owners, and lets
//! no sampled value out: what leaves this module of them is how many look like what.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use secrecy::SecretString;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::broker::{BrokerError, reach};
use crate::{
    api::SessionAttrs,
    policy::{Credential, SURVEY_QUERY, Survey, SurveyDocumentError, Target},
    sql::{CATALOG_QUERY, Column, Relation, RelationKind, quote_identifier, quote_literal},
};

/// Rows of a relation, and characters of each value, that are looked at.
const SAMPLED_ROWS: u32 = 200;
const SAMPLED_CHARACTERS: u32 = 1_000;
/// Milliseconds that the sample of one relation may take, and wait for its lock.
const SAMPLE_TIMEOUT: u32 = 5_000;
const SAMPLE_LOCK_TIMEOUT: u32 = 1_000;
/// How long all samples may take.
const SAMPLING: Duration = Duration::from_secs(120);

/// Why a database can't be looked at. Names the target, never a secret.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SurveyError(Cause);

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Database(#[from] BrokerError),
    #[error(transparent)]
    Document(#[from] SurveyDocumentError),
}

impl From<BrokerError> for SurveyError {
    fn from(error: BrokerError) -> Self {
        Self(error.into())
    }
}

impl SurveyError {
    /// What to do next.
    pub fn hint(&self) -> &'static str {
        let Cause::Database(error) = &self.0 else { return "please report it" };
        match error {
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
                reach::connect_as_shared(target, user, password.as_ref(), folder).await?
            }
        };
        Self::over(connection, &target.name).await
    }

    /// Connects by a URL with user and password, to the target's database where one is named.
    pub async fn by_url(target: Option<&Target>, url: &SecretString) -> Result<Self, SurveyError> {
        let name = target.map_or("(by URL)", |target| target.name.as_str());
        let database = target.map(|target| reach::database(&target.url));
        let connection =
            reach::connect_by_url(name, url, database.as_deref(), SessionAttrs::Any).await?;
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

    /// What the database says of itself beyond its catalog; nothing is sampled.
    pub async fn survey(&mut self) -> Result<Survey, SurveyError> {
        // With an empty search path PostgreSQL tells types with their schemas.
        self.run("BEGIN READ ONLY; SET LOCAL search_path = ''").await?;
        let document = self.text(SURVEY_QUERY).await;
        self.run("ROLLBACK").await?;
        Survey::from_json(&document?).map_err(|error| SurveyError(error.into()))
    }

    /// Looks at the first rows of these columns, and adds to the survey what they look like.
    /// A relation that can't be read in time or at all is named in it.
    pub async fn sample(
        &mut self,
        columns: &[(&Relation, Vec<&Column>)],
        survey: &mut Survey,
    ) -> Result<(), SurveyError> {
        let began = Instant::now();
        for (relation, columns) in columns {
            let name = format!("{}.{}", relation.schema, relation.name);
            if began.elapsed() > SAMPLING {
                survey.unsampled.push(name);
                continue;
            }
            // With row_security off a policy's functions aren't run: the query fails instead.
            self.run(&format!(
                "BEGIN READ ONLY; SET LOCAL search_path = ''; SET LOCAL row_security = off; \
                 SET LOCAL statement_timeout = {SAMPLE_TIMEOUT}; \
                 SET LOCAL lock_timeout = {SAMPLE_LOCK_TIMEOUT}"
            ))
            .await?;
            let sampled = sqlx::raw_sql(AssertSqlSafe(sample_query(relation, columns)))
                .fetch_all(&mut self.connection)
                .await;
            self.run("ROLLBACK").await?;
            let Ok(rows) = sampled else {
                survey.unsampled.push(name);
                continue;
            };
            for (at, column) in columns.iter().enumerate() {
                let sample = survey.samples.entry((relation.oid, column.number)).or_default();
                for row in &rows {
                    if let Ok(Some(value)) = row.try_get_unchecked::<Option<&str>, _>(at) {
                        sample.add(value);
                    }
                }
            }
        }
        Ok(())
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

/// Every name in it is qualified, and the casts are PostgreSQL's own: the columns are of
/// its own types.
fn sample_query(relation: &Relation, columns: &[&Column]) -> String {
    let value = |column: &&Column| {
        let name = quote_identifier(&column.name);
        format!("pg_catalog.\"left\"(t.{name}::pg_catalog.text, {SAMPLED_CHARACTERS})")
    };
    let values = columns.iter().map(value).collect::<Vec<_>>().join(", ");
    // A child's rows may need other rights; partitions are all that a partitioned table has.
    let only = if relation.kind == RelationKind::PartitionedTable { "" } else { "ONLY " };
    format!(
        "SELECT {values} FROM {only}{}.{} t LIMIT {SAMPLED_ROWS}",
        quote_identifier(&relation.schema),
        quote_identifier(&relation.name)
    )
}
