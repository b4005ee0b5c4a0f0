//! The SQL of a session's role: made, and taken away with everything it holds.

use std::{path::Path, time::Duration};

use jiff::Timestamp;
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, sleep};

use super::{BrokerError, LOCK, reach};
use crate::{
    grant::SessionId,
    policy::{Compiled, Role, SecretRef},
    sql::{quote_identifier, quote_literal},
};

/// What the names of session roles begin with.
pub(super) const PREFIX: &str = "pgate_s_";

/// Connections beyond the role's own limit, for the proxy itself.
const OWN_CONNECTIONS: u32 = 2;
/// How long a role's connections may take to end once they are told to.
const LAST_CONNECTIONS: Duration = Duration::from_secs(5);

/// The name of a session's role.
pub(super) fn name(session: &SessionId) -> String {
    let id = session.as_str();
    format!("{PREFIX}{}", id.split_once('_').map_or(id, |(_, digits)| digits))
}

/// A session's role that is to be created.
pub(super) struct NewRole<'a> {
    pub(super) name: &'a str,
    /// The SCRAM verifier of its password.
    pub(super) verifier: String,
    pub(super) valid_until: Timestamp,
    pub(super) mark: &'a str,
    pub(super) role: &'a Role,
}

impl NewRole<'_> {
    /// The statements that create it, as a member of the privilege role, to be sent at once.
    pub(super) fn sql(&self, compiled: &Compiled) -> String {
        let name = quote_identifier(self.name);
        let limit = self.role.limits.connections.map_or(String::new(), |connections| {
            format!(" CONNECTION LIMIT {}", connections.saturating_add(OWN_CONNECTIONS).min(10_000))
        });
        let mut sql = vec![format!(
            "CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE INHERIT \
             PASSWORD {} VALID UNTIL {}{limit} IN ROLE {}",
            quote_literal(&self.verifier),
            quote_literal(&self.valid_until.to_string()),
            quote_identifier(compiled.privilege_role()),
        )];
        let mut set = |setting: &str| sql.push(format!("ALTER ROLE {name} SET {setting}"));
        if let Some(ms) = self.role.limits.statement_timeout_ms {
            set(&format!("statement_timeout = {}", ms.min(i32::MAX.unsigned_abs().into())));
        }
        if !self.role.search_path.is_empty() {
            let path = self.role.search_path.iter().map(|schema| quote_identifier(schema));
            set(&format!("search_path = {}", path.collect::<Vec<_>>().join(", ")));
        }
        if !compiled.writes() {
            set("default_transaction_read_only = on");
        }
        if let (true, Some(owner)) = (compiled.writes(), compiled.owner()) {
            set(&format!("role = {}", quote_literal(owner)));
        }
        sql.push(format!("COMMENT ON ROLE {name} IS {}", quote_literal(self.mark)));
        sql.join(";\n")
    }
}

/// Waits for the lock under which roles are changed; held until the transaction ends.
pub(super) async fn lock(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_catalog.pg_advisory_xact_lock($1)")
        .bind(LOCK)
        .execute(connection)
        .await
        .map(|_| ())
}

pub(super) async fn exists(connection: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)")
        .bind(name)
        .fetch_one(connection)
        .await
}

/// How a target's administrator gets to the other databases of its cluster.
pub(super) struct Administrator<'a> {
    /// The target's name.
    pub(super) target: &'a str,
    pub(super) url: &'a SecretRef,
    /// What a `file:` secret is relative to.
    pub(super) folder: &'a Path,
}

/// Drops a session's role: no new logins, its connections ended, what it owns
/// handed to `owner` or dropped, then the role itself.
pub(super) async fn drop(
    connection: &mut PgConnection,
    administrator: &Administrator<'_>,
    name: &str,
    owner: Option<&str>,
) -> Result<(), BrokerError> {
    let target = administrator.target;
    let failed = |error| reach::told(target, error);
    if !exists(connection, name).await.map_err(failed)? {
        return Ok(());
    }
    let role = quote_identifier(name);
    let run = async |connection: &mut PgConnection, sql: String| {
        reach::execute(connection, sql).await.map_err(failed)
    };
    run(connection, format!("ALTER ROLE {role} NOLOGIN")).await?;
    become_member(connection, &role).await.map_err(failed)?;
    end_connections(connection, target, name).await?;
    roll_back_prepared(connection, name).await.map_err(failed)?;
    clear_elsewhere(connection, administrator, name).await?;

    let mut transaction = connection.begin().await.map_err(failed)?;
    lock(&mut transaction).await.map_err(failed)?;
    if let Some(owner) = owner {
        let owner = quote_identifier(owner);
        run(&mut transaction, format!("REASSIGN OWNED BY {role} TO {owner}")).await?;
    }
    run(&mut transaction, format!("DROP OWNED BY {role}")).await?;
    run(&mut transaction, format!("DROP ROLE IF EXISTS {role}")).await?;
    transaction.commit().await.map_err(failed)
}

/// An administrator that is no superuser must be a member of a role to end its
/// connections and to take what it owns; since PostgreSQL 16 also with its rights
/// inherited, which having made the role doesn't give.
pub(super) async fn become_member(
    connection: &mut PgConnection,
    role: &str,
) -> Result<(), sqlx::Error> {
    let (superuser, version) = sqlx::query_as::<_, (bool, i32)>(
        "SELECT rolsuper, pg_catalog.current_setting('server_version_num')::pg_catalog.int4
         FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER",
    )
    .fetch_one(&mut *connection)
    .await?;
    if superuser {
        return Ok(());
    }
    let options = if version >= 160_000 { " WITH INHERIT TRUE, SET TRUE" } else { "" };
    reach::execute(connection, format!("GRANT {role} TO CURRENT_USER{options}")).await
}

/// Drops what a role left in other databases than this connection's.
pub(super) async fn clear_elsewhere(
    connection: &mut PgConnection,
    administrator: &Administrator<'_>,
    name: &str,
) -> Result<(), BrokerError> {
    let Administrator { target, url, folder } = administrator;
    let failed = |error| reach::told(target, error);
    for database in traces_elsewhere(connection, name).await.map_err(failed)? {
        let mut there = reach::connect_as(target, url, folder, Some(&database)).await?;
        let cleared = async {
            roll_back_prepared(&mut there, name).await?;
            reach::execute(&mut there, format!("DROP OWNED BY {}", quote_identifier(name))).await
        };
        let cleared = cleared.await.map_err(failed);
        let _ = there.close().await;
        cleared?;
    }
    Ok(())
}

/// The other databases in which a role left something: whoever has its password can connect
/// to every database that PUBLIC may, and make large objects there at the least.
async fn traces_elsewhere(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT d.datname::pg_catalog.text FROM pg_catalog.pg_database d
         WHERE d.datallowconn AND d.datname <> pg_catalog.current_database()
           AND (d.oid IN (SELECT dbid FROM pg_catalog.pg_shdepend
                          WHERE refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
                            AND refobjid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1))
             OR d.datname IN (SELECT database FROM pg_catalog.pg_prepared_xacts WHERE owner = $1))",
    )
    .bind(name)
    .fetch_all(connection)
    .await
}

/// Rolls back what a role has prepared to commit in this database: it would keep its locks
/// for ever, and whatever is dropped would wait for them.
async fn roll_back_prepared(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    let prepared = sqlx::query_scalar::<_, String>(
        "SELECT gid FROM pg_catalog.pg_prepared_xacts
         WHERE owner = $1 AND database = pg_catalog.current_database()",
    )
    .bind(name)
    .fetch_all(&mut *connection)
    .await?;
    if prepared.is_empty() {
        return Ok(());
    }
    // Only a superuser and whoever has prepared it may.
    reach::execute(connection, format!("SET ROLE {}", quote_identifier(name))).await?;
    for gid in prepared {
        let sql = format!("ROLLBACK PREPARED {}", quote_literal(&gid));
        reach::execute(connection, sql).await?;
    }
    reach::execute(connection, "RESET ROLE".to_owned()).await
}

async fn end_connections(
    connection: &mut PgConnection,
    target: &str,
    name: &str,
) -> Result<(), BrokerError> {
    let deadline = Instant::now() + LAST_CONNECTIONS;
    loop {
        let ended = sqlx::query_scalar::<_, i64>(
            "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid))
             FROM pg_catalog.pg_stat_activity WHERE usename = $1",
        )
        .bind(name)
        .fetch_one(&mut *connection)
        .await
        .map_err(|error| reach::told(target, error))?;
        if ended == 0 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(BrokerError::StillConnected);
        }
        sleep(Duration::from_millis(50)).await;
    }
}
