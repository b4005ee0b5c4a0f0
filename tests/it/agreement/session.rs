//! The world's database, and a session's own database role in it, used without pgate.

use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::TryStreamExt as _;
use pgate::{
    policy::{self, Compiled, Enforcement, Role},
    sql::{CATALOG_QUERY, Catalog},
};
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, PgConnection, Row as _,
    postgres::{PgConnectOptions, PgDatabaseError, PgSslMode},
};

use super::world;
use crate::harness;

/// The database.
pub(super) struct World {
    database: String,
    sessions: AtomicU32,
}

impl World {
    pub(super) async fn new() -> Self {
        let database = harness::database().await;
        harness::cluster().await.execute(&database, world::SQL).await.expect("the world is made");
        Self { database, sessions: AtomicU32::new(1) }
    }

    async fn admin(&self) -> PgConnection {
        harness::cluster().await.connect(&self.database).await.expect("the superuser connects")
    }

    /// Runs statements as the superuser.
    pub(super) async fn execute(&self, sql: &str) {
        let done = harness::cluster().await.execute(&self.database, sql).await;
        done.unwrap_or_else(|error| panic!("{sql}\n{error}"));
    }
}

/// A connection as a session's database role, whose privileges are a policy's.
pub(super) struct Session {
    name: String,
    compiled: Compiled,
    login: PgConnectOptions,
    connection: PgConnection,
}

/// What PostgreSQL said.
#[derive(Debug)]
pub(super) enum Answer {
    /// Everything that came back.
    Rows(String),
    /// The SQLSTATE, and all of the error's words.
    Error { code: String, words: String },
}

impl Answer {
    /// Whether the statement came to nothing: for want of a privilege, or because there is
    /// no such statement on this relation whoever asks.
    pub(super) fn refused(&self) -> bool {
        let Self::Error { code, .. } = self else { return false };
        // Not in this grammar, not of these types, not for a generated column, not for
        // this kind of relation, not for a view like this one.
        self.lacks_privilege()
            || ["42", "0A"].iter().any(|class| code.starts_with(class))
            || ["428C9", "55000"].contains(&code.as_str())
    }

    pub(super) fn lacks_privilege(&self) -> bool {
        matches!(self, Self::Error { code, .. } if code == "42501")
    }

    /// Whether it holds this, in capitals or not.
    pub(super) fn tells(&self, token: &str) -> bool {
        let (Self::Rows(words) | Self::Error { words, .. }) = self;
        words.to_lowercase().contains(token)
    }
}

impl Session {
    /// Installs a role, as the broker does, and connects under it; none where a mask of
    /// it doesn't fit its column.
    pub(super) async fn start(world: &World, role: &Role) -> Option<Self> {
        let mut admin = world.admin().await;
        let catalog = catalog(&mut admin).await;
        let compiled = policy::compile(role, &catalog, Enforcement::Ephemeral).ok()?;
        let mut transaction = admin.begin().await.expect("a transaction begins");
        let number = world.sessions.fetch_add(1, Ordering::Relaxed);
        let name = format!("agreement_{}_{number}", world.database);
        let login = format!(
            "CREATE ROLE {name} LOGIN PASSWORD 'taken' IN ROLE {}",
            compiled.privilege_role()
        );
        let statements = compiled.install_sql(compiled.privilege_role());
        for statement in statements.into_iter().chain([login]) {
            let done =
                sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut *transaction).await;
            done.unwrap_or_else(|error| panic!("{statement}\n{error}"));
        }
        transaction.commit().await.expect("the role is installed");
        admin.close().await.expect("the superuser goes");
        let login = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(harness::cluster().await.port())
            .username(&name)
            .password("taken")
            .database(&world.database)
            .ssl_mode(PgSslMode::Disable)
            .options([("statement_timeout", "10s")]);
        let connection = login.connect().await.expect("the session connects");
        Some(Self { name, compiled, login, connection })
    }

    /// The catalog as the session sees it.
    pub(super) async fn catalog(&mut self) -> Catalog {
        catalog(&mut self.connection).await
    }

    /// Runs one statement, and takes back what it did.
    pub(super) async fn ask(&mut self, sql: &str) -> Answer {
        let answer = if sql.starts_with("COPY") {
            self.copied(sql).await
        } else {
            self.control("BEGIN").await;
            let mut answer = self.rows(sql).await;
            if answer.is_ok() && sql.starts_with("PREPARE") {
                answer = self.rows("EXECUTE p (1)").await;
            }
            self.control("ROLLBACK").await;
            self.control("DEALLOCATE ALL").await;
            answer
        };
        answer.unwrap_or_else(|error| match error {
            sqlx::Error::Database(error) => {
                let code = error.code().unwrap_or_default().into_owned();
                let told = error.downcast_ref::<PgDatabaseError>();
                let detail = told.detail().unwrap_or_default();
                Answer::Error { code, words: format!("{}\n{detail}", told.message()) }
            }
            error => panic!("{sql}: {error}"),
        })
    }

    async fn rows(&mut self, sql: &str) -> Result<Answer, sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        let rows = sqlx::raw_sql(sql).fetch_all(&mut self.connection).await?;
        let mut words = String::new();
        for row in rows {
            for column in row.columns() {
                let value = row.try_get_unchecked::<Option<String>, _>(column.ordinal())?;
                words.push_str(value.as_deref().unwrap_or("NULL"));
                words.push('\t');
            }
            words.push('\n');
        }
        Ok(Answer::Rows(words))
    }

    async fn copied(&self, sql: &str) -> Result<Answer, sqlx::Error> {
        // After a COPY that fails the client library is out of step with the server.
        let mut connection = self.login.connect().await.expect("the session connects");
        if sql.contains("FROM STDIN") {
            let copy = connection.copy_in_raw(sql).await?;
            // It may copy; nothing is.
            drop(copy.abort("taken back").await);
            return Ok(Answer::Rows(String::new()));
        }
        let chunks = connection.copy_out_raw(sql).await?.try_collect::<Vec<_>>().await?;
        Ok(Answer::Rows(String::from_utf8_lossy(&chunks.concat()).into_owned()))
    }

    async fn control(&mut self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&mut self.connection).await.expect(sql);
    }

    /// The role whose privileges it has.
    pub(super) fn privilege_role(&self) -> &str {
        self.compiled.privilege_role()
    }

    /// Takes everything back.
    pub(super) async fn end(self, world: &World) {
        let Self { name, compiled, connection, .. } = self;
        connection.close().await.expect("the session goes");
        let roles = format!("{name}, {}", compiled.privilege_role());
        world.execute(&format!("DROP OWNED BY {roles}; DROP ROLE {roles}")).await;
    }
}

async fn catalog(connection: &mut PgConnection) -> Catalog {
    let row =
        sqlx::raw_sql(CATALOG_QUERY).fetch_one(connection).await.expect("the catalog is read");
    let text = row.try_get_unchecked::<String, _>(0).expect("it is text");
    Catalog::from_json(&text).expect("it is a catalog")
}
