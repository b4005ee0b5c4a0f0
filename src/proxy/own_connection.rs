//! pgate's own connection to a session's database, on which it reads the catalog.
//! It is made again when it breaks.

use std::collections::BTreeMap;

use super::{
    admission::ConnectionPermit,
    upstream::{Upstream, UpstreamConfig, UpstreamError, query_text},
};
use crate::grant::SessionId;

/// A connection under the session's own role, for questions with one answer.
#[derive(Debug)]
pub struct OwnConnection {
    config: UpstreamConfig,
    permit: ConnectionPermit,
    parameters: BTreeMap<String, String>,
    open: Option<Upstream>,
}

impl OwnConnection {
    /// For a session's database; nothing is dialled yet.
    pub fn new(config: UpstreamConfig, session: &SessionId) -> Self {
        let name = format!("pgate {session} catalog");
        Self {
            config,
            permit: ConnectionPermit::own(),
            parameters: BTreeMap::from([("application_name".to_owned(), name)]),
            open: None,
        }
    }

    /// The text of the one row and column that `sql` returns. A connection that
    /// broke since the last question is made again, once.
    pub(super) async fn query_text(&mut self, sql: &str) -> Result<String, UpstreamError> {
        if let Some(mut upstream) = self.open.take() {
            match query_text(&mut upstream, sql).await {
                Ok(answer) => {
                    self.open = Some(upstream);
                    return Ok(answer);
                }
                // The server answered; asking again would not change its mind.
                Err(error @ UpstreamError::Refused { .. }) => return Err(error),
                Err(error) => tracing::debug!(%error, "pgate's own connection is made again"),
            }
        }
        let mut upstream = self.config.connect(&self.permit, &self.parameters).await?;
        let answer = query_text(&mut upstream, sql).await?;
        self.open = Some(upstream);
        Ok(answer)
    }
}
