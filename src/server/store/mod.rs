//! The control plane's memory: one SQLite file.
//!
//! Owns the tables and every statement on them. It refuses to judge: whether a
//! transition is right is `grant`'s question, who may see what the routes'. Each
//! change is one statement or one transaction, compared with what was read.

mod browsers;
mod grants;
mod holds;
mod leases;
mod sessions;

use std::{
    fs::{OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use sqlx::{
    ConnectOptions as _, SqlitePool,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

pub(super) use browsers::Browser;
pub(super) use grants::StoredGrant;
pub(super) use holds::StoredHold;
pub(super) use leases::Lease;
pub(super) use sessions::{EndState, NewSession, StoredSession};

static MIGRATIONS: Migrator = sqlx::migrate!("src/server/migrations");

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file can't be kept for its owner alone.
    #[error("the store {path} can't be opened: {error}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The database.
    #[error("the store: {0}")]
    Database(#[from] sqlx::Error),
    /// The tables can't be brought up to date.
    #[error("the store's tables can't be brought up to date: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A row that this version can't read.
    #[error("the store holds a {0} that this version can't read")]
    Unreadable(&'static str),
    /// A value that can't be written.
    #[error("a value can't be stored: {0}")]
    Unwritable(#[from] serde_json::Error),
}

/// A handle to the store; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Store {
    pool: SqlitePool,
}

impl Store {
    /// Opens the file, makes it where there is none, and brings its tables up to date.
    pub(super) async fn open(path: &Path) -> Result<Self, StoreError> {
        private(path).map_err(|error| StoreError::File { path: path.to_owned(), error })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10))
            .disable_statement_logging();
        let pool = SqlitePoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(15))
            .connect_with(options)
            .await?;
        MIGRATIONS.run(&pool).await?;
        Ok(Self { pool })
    }

    /// Whether the store answers.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1 FROM grants LIMIT 1").fetch_optional(&self.pool).await?;
        Ok(())
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Makes the file where there is none, readable by its owner alone; SQLite gives
/// its companions the same mode.
fn private(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

fn time(micros: i64, what: &'static str) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros).map_err(|_| StoreError::Unreadable(what))
}

fn read<T: serde::de::DeserializeOwned>(text: &str, what: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Unreadable(what))
}
