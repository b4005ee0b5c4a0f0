//! pgate's own connection to a session's database, on which it reads the catalog.
//! It is made again when it breaks.

use std::collections::BTreeMap;

use super::{
    admission::ConnectionPermit,
    estimate::Bound,
    upstream::{Upstream, UpstreamConfig, UpstreamError, explain, query_text},
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
            // EXPLAIN waits for locks that the session itself may hold.
            parameters: BTreeMap::from([
                ("application_name".to_owned(), name),
                ("lock_timeout".to_owned(), "2s".to_owned()),
                // It takes longer than what it would make faster.
                ("jit".to_owned(), "off".to_owned()),
            ]),
            open: None,
        }
    }

    /// The text of the one row and column that `sql` returns. A connection that
    /// broke since the last question is made again, once.
    pub(super) async fn query_text(&mut self, sql: &str) -> Result<String, UpstreamError> {
        self.answer(Question::Text(sql)).await
    }

    /// The same of an EXPLAIN, in the extended protocol, which takes no second statement,
    /// with the values that are bound to it, in a read-only transaction of its own.
    pub(super) async fn explain(
        &mut self,
        sql: &str,
        bound: Option<&Bound>,
    ) -> Result<String, UpstreamError> {
        self.answer(Question::Explain(sql, bound)).await
    }

    async fn answer(&mut self, question: Question<'_>) -> Result<String, UpstreamError> {
        if let Some(mut upstream) = self.open.take() {
            match question.ask(&mut upstream).await {
                Ok(answer) => {
                    self.open = Some(upstream);
                    return Ok(answer);
                }
                // The server answered; asking again would not change its mind.
                Err(error @ UpstreamError::Refused { .. }) => {
                    self.open = Some(upstream);
                    return Err(error);
                }
                Err(error) => tracing::debug!(%error, "pgate's own connection is made again"),
            }
        }
        let mut upstream = self.config.connect(&self.permit, &self.parameters).await?;
        let answer = question.ask(&mut upstream).await?;
        self.open = Some(upstream);
        Ok(answer)
    }
}

/// What the database is asked.
#[derive(Clone, Copy)]
enum Question<'a> {
    Text(&'a str),
    Explain(&'a str, Option<&'a Bound>),
}

impl Question<'_> {
    async fn ask(self, upstream: &mut Upstream) -> Result<String, UpstreamError> {
        match self {
            Self::Text(sql) => query_text(upstream, sql).await,
            Self::Explain(sql, bound) => explain(upstream, sql, bound).await,
        }
    }
}
