//! Which of a database's hosts the broker connects to: the same choice as a session's proxy
//! makes (`proxy::upstream`), with sqlx's connections.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgConnectOptions};

use super::{BrokerError, reach::told};
use crate::api::SessionAttrs;

/// How long connecting to one host may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to the first host that will do; each has its options, in the order in which
/// they are tried.
pub(super) async fn first_that_fits(
    target: &str,
    hosts: &[PgConnectOptions],
    wanted: SessionAttrs,
) -> Result<PgConnection, BrokerError> {
    let passes = match wanted {
        SessionAttrs::PreferStandby => vec![SessionAttrs::Standby, SessionAttrs::Any],
        wanted => vec![wanted],
    };
    let mut failed = Vec::new();
    for wanted in passes {
        for (at, host) in hosts.iter().enumerate() {
            match one(target, host, wanted).await {
                Ok(connection) => return Ok(connection),
                Err(Failed::Here(error)) => failed.push((at, error)),
                Err(Failed::Everywhere(error)) => return Err(error),
            }
        }
    }
    // Where they are isn't told.
    match failed.pop() {
        Some((_, only)) if hosts.len() == 1 => Err(only),
        last => {
            failed.extend(last);
            let why = |error: &BrokerError| match error {
                BrokerError::Unreachable { why, .. } => why.clone(),
                _ => "no answer in time".to_owned(),
            };
            let mut told: Vec<_> = failed
                .iter()
                .map(|(at, error)| format!("host {}: {}", at + 1, why(error)))
                .collect();
            told.dedup();
            Err(BrokerError::Unreachable { target: target.to_owned(), why: told.join("; ") })
        }
    }
}

enum Failed {
    /// The next host may do.
    Here(BrokerError),
    /// It would be asked with the same, and isn't.
    Everywhere(BrokerError),
}

async fn one(
    target: &str,
    host: &PgConnectOptions,
    wanted: SessionAttrs,
) -> Result<PgConnection, Failed> {
    let connecting = async {
        let mut connection = PgConnection::connect_with(host).await?;
        let fits = wanted == SessionAttrs::Any || is(&mut connection, wanted).await?;
        Ok((connection, fits))
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok((connection, true))) => Ok(connection),
        Ok(Ok((connection, false))) => {
            let _ = connection.close().await;
            let why = format!("it isn't as target_session_attrs={wanted} says");
            Err(Failed::Here(BrokerError::Unreachable { target: target.to_owned(), why }))
        }
        Ok(Err(error)) => {
            let here = match &error {
                sqlx::Error::Io(_) => true,
                sqlx::Error::Database(error) => error.code().is_some_and(|code| code == "57P03"),
                _ => false,
            };
            let error = told(target, error);
            Err(if here { Failed::Here(error) } else { Failed::Everywhere(error) })
        }
        Err(_) => Err(Failed::Here(BrokerError::TimedOut { target: target.to_owned() })),
    }
}

async fn is(connection: &mut PgConnection, wanted: SessionAttrs) -> Result<bool, sqlx::Error> {
    let sql = "SELECT pg_catalog.pg_is_in_recovery(),
        pg_catalog.current_setting('default_transaction_read_only') OPERATOR(pg_catalog.=) 'on'";
    let row = sqlx::raw_sql(sql).fetch_one(connection).await?;
    Ok(wanted.fits(row.try_get(0)?, row.try_get(1)?))
}
