//! The catalog over a session's life: it is loaded when the session begins, and
//! again when anybody has changed the database's objects.
//!
//! Owns pgate's own connection to the database and the current [`Ruling`]. It
//! refuses to decide on a catalog that it can't vouch for: where the database
//! hasn't been asked for too long, it is asked first.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    analyst::Analyst,
    estimate::{self, Bound, Expectation, NoAnswer},
    own_connection::OwnConnection,
    ruling::{Decided, Ruling, builtin},
    upstream::UpstreamError,
};
use crate::{
    policy::{self, CompileError, Denied, Enforcement, Role, Unbound},
    sql::{Catalog, CatalogError, EPOCH_QUERY, Foreseen, Oid, columns_query},
};

/// How often the database is asked whether its catalog has changed, at most; a
/// database that takes long to answer is asked more rarely.
const PERIOD: Duration = Duration::from_secs(1);
const SHARE_OF_TIME: u32 = 50;
/// How long the database may take over an EXPLAIN.
const PATIENCE_FOR_ESTIMATES: Duration = Duration::from_secs(5);
/// How old the last answer may be when a statement is decided.
const TRUSTED_FOR: Duration = Duration::from_secs(15);
/// The same where PostgreSQL doesn't keep the session from masked columns. A database that
/// takes long to answer is asked more rarely, up to the second of these.
const TRUSTED_ALONE_FOR: Duration = Duration::from_millis(250);
const TRUSTED_ALONE_AT_MOST: Duration = Duration::from_secs(2);
const SHARE_OF_TIME_ALONE: u32 = 20;

/// The catalog can't be loaded or the role can't be compiled against it.
#[derive(Debug, thiserror::Error)]
pub enum DriftError {
    /// The database didn't answer.
    #[error(transparent)]
    Upstream(#[from] super::UpstreamError),
    /// The answer isn't a catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The role doesn't fit this database.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The role covers what isn't there.
    #[error(transparent)]
    Unbound(#[from] Unbound),
    /// The thread for analysis could not be started.
    #[error("the thread that reads statements can't be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// The current ruling, and what keeps it current.
pub struct Drift {
    enforcement: Enforcement,
    analyst: Analyst,
    connection: tokio::sync::Mutex<OwnConnection>,
    current: RwLock<Current>,
    /// The relations whose columns are loaded with the catalog; those that statements
    /// have named are among them.
    foreseen: Mutex<Foreseen>,
}

#[derive(Clone)]
struct Current {
    ruling: Arc<Ruling>,
    epoch: Arc<str>,
    asked: Instant,
    /// How long the database took to say its epoch.
    took: Duration,
}

impl fmt::Debug for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drift").finish_non_exhaustive()
    }
}

impl Drift {
    /// Loads the catalog over `connection` and makes the first ruling of `role`. The epoch
    /// is asked for where it isn't known from before this connection could be made.
    pub async fn start(
        role: Arc<Role>,
        enforcement: Enforcement,
        mut connection: OwnConnection,
        epoch: Option<String>,
    ) -> Result<Self, DriftError> {
        // The epoch first: a change in between is then seen at the next look.
        let asked = Instant::now();
        let epoch: Arc<str> = match epoch {
            Some(epoch) => epoch.into(),
            None => connection.query_text(EPOCH_QUERY).await?.into(),
        };
        let took = asked.elapsed();
        let foreseen = policy::foreseen(&role);
        let document = connection.query_text(&foreseen.catalog_query()).await?;
        let analyst = Analyst::start()?;
        let ruling = analyst
            .ask(move || {
                let catalog = Catalog::from_json(&document)?;
                policy::bound(&role, &catalog)?;
                Ok(Ruling::first(role, catalog, enforcement)?)
            })
            .await
            .unwrap_or_else(|lost| Err(std::io::Error::other(lost).into()))
            .map_err(|error: DriftError| error)?;
        Ok(Self {
            enforcement,
            analyst,
            connection: tokio::sync::Mutex::new(connection),
            current: RwLock::new(Current { ruling: Arc::new(ruling), epoch, asked, took }),
            foreseen: Mutex::new(foreseen),
        })
    }

    /// Decides a query string on a catalog that is current.
    ///
    /// One that names a relation the catalog doesn't know is decided again after a
    /// fresh look: somebody, perhaps this session, may just have created it.
    pub(super) async fn decide(
        &self,
        sql: &Arc<str>,
    ) -> Result<(Arc<Ruling>, Arc<Decided>), Denied> {
        let mut current = self.current();
        if current.asked.elapsed() > self.trusted_for(&current) {
            self.look().await.map_err(|error| out_of_reach(&error))?;
            current = self.current();
        }
        let (ruling, decided) = self.decide_described(current.ruling, sql).await?;
        if !decided.unresolved {
            return Ok((ruling, decided));
        }
        self.look().await.map_err(|error| out_of_reach(&error))?;
        let newer = self.current();
        if newer.epoch == current.epoch {
            return Ok((ruling, decided));
        }
        self.decide_described(newer.ruling, sql).await
    }

    /// Decides a query string, once the columns of all that it names are loaded.
    async fn decide_described(
        &self,
        ruling: Arc<Ruling>,
        sql: &Arc<str>,
    ) -> Result<(Arc<Ruling>, Arc<Decided>), Denied> {
        let decided = self.decide_on(&ruling, sql).await;
        if decided.undescribed.is_empty() {
            return Ok((ruling, decided));
        }
        let named = decided.undescribed.iter().copied().collect();
        let ruling = self.describe(&named).await.map_err(|error| out_of_reach(&error))?;
        // What is still without columns is refused: somebody is just changing it.
        let decided = self.decide_on(&ruling, sql).await;
        Ok((ruling, decided))
    }

    /// An earlier decision on exactly this text, if it holds on a catalog that is current.
    pub(super) fn recall(&self, sql: &str) -> Option<(Arc<Ruling>, Arc<Decided>)> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        if current.asked.elapsed() > self.trusted_for(&current) {
            return None;
        }
        let decided = current.ruling.recall(sql, Timestamp::now())?;
        (!decided.unresolved && decided.undescribed.is_empty())
            .then(|| (current.ruling.clone(), decided))
    }

    /// Decides a query string after a look at the catalog as it is now: what a reviewer
    /// has approved may have been waiting for a while.
    pub(super) async fn decide_anew(
        &self,
        sql: &Arc<str>,
    ) -> Result<(Arc<Ruling>, Arc<Decided>), Denied> {
        self.look().await.map_err(|error| out_of_reach(&error))?;
        self.decide(sql).await
    }

    /// What PostgreSQL expects of one statement, asked as the session's role; an error
    /// where it can't say, or not soon.
    pub(super) async fn expect(
        &self,
        sql: &str,
        bound: Option<&Bound>,
    ) -> Result<Expectation, NoAnswer> {
        let question = estimate::question(sql);
        let asked = async {
            let mut connection = self.connection.lock().await;
            connection.explain(&question, bound).await
        };
        let answer = tokio::time::timeout(PATIENCE_FOR_ESTIMATES, asked).await;
        let plan = answer.unwrap_or(Err(UpstreamError::Slow))?;
        Expectation::of_plan(&plan).ok_or(NoAnswer::NoPlan)
    }

    /// Looks for changes from time to time, for ever.
    pub(super) async fn follow(&self) {
        let mut pause = PERIOD;
        loop {
            tokio::time::sleep(pause).await;
            let began = Instant::now();
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "the database's catalog could not be looked at");
            }
            pause = PERIOD.max(began.elapsed() * SHARE_OF_TIME);
        }
    }

    async fn decide_on(&self, ruling: &Arc<Ruling>, sql: &Arc<str>) -> Arc<Decided> {
        let now = Timestamp::now();
        if let Some(decided) = ruling.recall(sql, now) {
            return decided;
        }
        let (ruling, text) = (ruling.clone(), sql.clone());
        match self.analyst.read(sql, move || ruling.decide(&text, now)).await {
            Ok(decided) => decided,
            Err(lost) => Arc::new(Decided::unanalysed(lost.to_string())),
        }
    }

    /// Loads the columns of further relations. They are as of now; a change since the last
    /// look is found by the next one, as it is of all others.
    async fn describe(&self, named: &BTreeSet<Oid>) -> Result<Arc<Ruling>, DriftError> {
        let mut connection = self.connection.lock().await;
        {
            let mut foreseen = self.foreseen.lock().unwrap_or_else(PoisonError::into_inner);
            foreseen.named(named);
        }
        let current = self.current();
        let catalog = current.ruling.catalog();
        let lacking = named
            .iter()
            .filter(|oid| catalog.relation(**oid).is_some_and(|relation| !relation.described))
            .copied()
            .collect::<BTreeSet<_>>();
        if lacking.is_empty() {
            return Ok(current.ruling);
        }
        let document = connection.query_text(&columns_query(&lacking)).await?;
        let (before, enforcement) = (current.ruling.clone(), self.enforcement);
        let ruling: Result<Ruling, DriftError> = self
            .analyst
            .ask(move || Ok(before.after(before.catalog().describe(&document)?, enforcement)?))
            .await
            .unwrap_or_else(|lost| Err(std::io::Error::other(lost).into()));
        let ruling = Arc::new(ruling?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) =
            Current { ruling: ruling.clone(), ..current };
        Ok(ruling)
    }

    /// Asks the database whether its catalog has changed, and loads it if so.
    async fn look(&self) -> Result<(), DriftError> {
        let called = Instant::now();
        let mut connection = self.connection.lock().await;
        let current = self.current();
        if current.asked >= called {
            // Another statement has asked while this one waited.
            return Ok(());
        }
        let asked = Instant::now();
        let epoch: Arc<str> = connection.query_text(EPOCH_QUERY).await?.into();
        let took = asked.elapsed();
        let ruling = if epoch == current.epoch {
            current.ruling
        } else {
            let query = {
                let foreseen = self.foreseen.lock().unwrap_or_else(PoisonError::into_inner);
                foreseen.catalog_query()
            };
            let document = connection.query_text(&query).await?;
            let (before, enforcement) = (current.ruling, self.enforcement);
            let ruling: Result<Ruling, DriftError> = self
                .analyst
                .ask(move || Ok(before.after(Catalog::from_json(&document)?, enforcement)?))
                .await
                .unwrap_or_else(|lost| Err(std::io::Error::other(lost).into()));
            Arc::new(ruling?)
        };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) =
            Current { ruling, epoch, asked, took };
        Ok(())
    }

    /// How old an answer may be. Where the proxy stands alone before masked columns,
    /// somebody else's change to a table is noticed before the next statements.
    fn trusted_for(&self, current: &Current) -> Duration {
        match self.enforcement {
            Enforcement::Static if !current.ruling.masked().is_empty() => {
                (current.took * SHARE_OF_TIME_ALONE).clamp(TRUSTED_ALONE_FOR, TRUSTED_ALONE_AT_MOST)
            }
            Enforcement::Static | Enforcement::Ephemeral => TRUSTED_FOR,
        }
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn out_of_reach(error: &DriftError) -> Denied {
    Denied {
        rule: builtin("catalog-unknown"),
        reason: format!("the database's objects can't be looked at ({error})"),
        hint: "Try again; if it stays so, end this session and connect again.".into(),
    }
}
