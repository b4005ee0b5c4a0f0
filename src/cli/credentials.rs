//! The tokens of a command: a workload's from the environment, else the stored
//! login, renewed silently before it ends.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{sync::Mutex, task::spawn_blocking};
use url::Url;

use crate::{
    api::{Client, ServerInfo, TokenError, TokenSource},
    identity::{Error, Login, Store, Workload},
};

/// GitHub's tokens live for five minutes.
const GITHUB_FRESH: Duration = Duration::from_secs(240);
/// GitHub's own issuer, where a server knows several for workloads.
const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";

/// Where one command's tokens come from.
pub(crate) struct Credentials {
    source: Source,
}

enum Source {
    Workload { workload: Workload, public: Client, fetched: Mutex<Option<(SecretString, Instant)>> },
    Stored { server: Url, store: Arc<Store>, login: Mutex<Option<Login>> },
}

impl Credentials {
    /// A workload's own token.
    pub(crate) fn of_workload(workload: Workload, public: Client) -> Self {
        Self { source: Source::Workload { workload, public, fetched: Mutex::new(None) } }
    }

    /// The login that is stored for `server`.
    pub(crate) fn stored(server: Url, store: Arc<Store>) -> Self {
        Self { source: Source::Stored { server, store, login: Mutex::new(None) } }
    }

    async fn fetch(
        workload: &Workload,
        public: &Client,
        fetched: &mut Option<(SecretString, Instant)>,
    ) -> Result<SecretString, TokenError> {
        let audience = if workload.wants_audience() { audience(public).await? } else { None };
        let token = workload.token(audience.as_deref()).await.map_err(token_error)?;
        *fetched = Some((token.clone(), Instant::now()));
        Ok(token)
    }
}

impl TokenSource for Credentials {
    fn token(&self) -> BoxFuture<'_, Result<SecretString, TokenError>> {
        Box::pin(async move {
            match &self.source {
                Source::Workload { workload, public, fetched } => {
                    let mut fetched = fetched.lock().await;
                    match &*fetched {
                        Some((token, at))
                            if workload.wants_audience() && at.elapsed() < GITHUB_FRESH =>
                        {
                            Ok(token.clone())
                        }
                        _ => Self::fetch(workload, public, &mut fetched).await,
                    }
                }
                Source::Stored { server, store, login } => {
                    let mut login = login.lock().await;
                    let current = match login.take() {
                        Some(current) => current,
                        None => load(store, server).await?,
                    };
                    let current = if current.is_stale(Timestamp::now()) {
                        fresh(store, server, current).await?
                    } else {
                        current
                    };
                    Ok(login.insert(current).id_token().clone())
                }
            }
        })
    }

    fn renew<'a>(
        &'a self,
        refused: &'a SecretString,
    ) -> BoxFuture<'a, Result<Option<SecretString>, TokenError>> {
        Box::pin(async move {
            let token = match &self.source {
                Source::Workload { workload: Workload::Given(_), .. } => return Ok(None),
                Source::Workload { workload, public, fetched } => {
                    Self::fetch(workload, public, &mut *fetched.lock().await).await?
                }
                Source::Stored { server, store, login } => {
                    let mut login = login.lock().await;
                    let Some(current) = login.as_ref() else { return Ok(None) };
                    if same(current.id_token(), refused) {
                        if !current.is_renewable() {
                            return Ok(None);
                        }
                        *login = Some(renewed(store, server, current).await?);
                    }
                    match login.as_ref() {
                        Some(login) => login.id_token().clone(),
                        None => return Ok(None),
                    }
                }
            };
            Ok((!same(&token, refused)).then_some(token))
        })
    }
}

/// A token that was just obtained and is not stored yet.
pub(crate) struct Unstored(pub(crate) SecretString);

impl TokenSource for Unstored {
    fn token(&self) -> BoxFuture<'_, Result<SecretString, TokenError>> {
        Box::pin(async { Ok(self.0.clone()) })
    }

    fn renew<'a>(
        &'a self,
        _refused: &'a SecretString,
    ) -> BoxFuture<'a, Result<Option<SecretString>, TokenError>> {
        Box::pin(async { Ok(None) })
    }
}

/// Runs the store's blocking work beside the runtime: a keyring may take its time.
pub(crate) async fn with_store<T: Send + 'static>(
    store: &Arc<Store>,
    work: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let store = store.clone();
    spawn_blocking(move || work(&store))
        .await
        .unwrap_or_else(|error| Err(Error::Keyring(error.to_string())))
}

async fn load(store: &Arc<Store>, server: &Url) -> Result<Login, TokenError> {
    let wanted = server.clone();
    let found = with_store(store, move |store| store.load(&wanted)).await.map_err(token_error)?;
    found.map(|(login, _)| login).ok_or_else(|| TokenError::NotLoggedIn {
        reason: format!("you are not logged in to {server}"),
    })
}

/// Renews a stale login. One that still works for a moment is used where its
/// issuer is out of reach.
async fn fresh(store: &Arc<Store>, server: &Url, stale: Login) -> Result<Login, TokenError> {
    match renewed(store, server, &stale).await {
        Err(TokenError::Unreachable { .. }) if stale.expires_at() > Timestamp::now() => Ok(stale),
        outcome => outcome,
    }
}

/// Renews a login, or takes over what another process has renewed meanwhile.
async fn renewed(store: &Arc<Store>, server: &Url, current: &Login) -> Result<Login, TokenError> {
    let held = with_store(store, Store::hold).await.map_err(token_error)?;
    let stored = load(store, server).await?;
    if !same(stored.id_token(), current.id_token()) && !stored.is_stale(Timestamp::now()) {
        return Ok(stored);
    }
    let renewed = stored.renewed().await.map_err(token_error)?;
    let (server, keep) = (server.clone(), renewed.clone());
    with_store(store, move |store| store.save(&server, &keep)).await.map_err(token_error)?;
    drop(held);
    Ok(renewed)
}

/// The audience that the server wants in a workload's token.
async fn audience(public: &Client) -> Result<Option<String>, TokenError> {
    let info = public.info().await.map_err(|error| match error {
        crate::api::Error::Unreachable { server, reason } => {
            TokenError::Unreachable { issuer: server, reason }
        }
        other => TokenError::Other { reason: other.to_string(), hint: other.hint() },
    })?;
    choose_audience(&info).map(Some)
}

fn choose_audience(info: &ServerInfo) -> Result<String, TokenError> {
    let workloads: Vec<_> = info
        .issuers
        .iter()
        .filter_map(|issuer| Some((issuer.url.trim_end_matches('/'), issuer.audience.as_ref()?)))
        .collect();
    let chosen = match workloads.as_slice() {
        [(_, only)] => Some(only),
        several => several.iter().find(|(url, _)| *url == GITHUB_ISSUER).map(|(_, it)| it),
    };
    chosen.map(|audience| audience.to_string()).ok_or_else(|| TokenError::Other {
        reason: "the server takes no tokens of GitHub Actions".into(),
        hint: Some("ask its operator to add an [[issuer]] with an audience for them".into()),
    })
}

fn same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}

fn token_error(error: Error) -> TokenError {
    match error {
        Error::Unreachable { issuer, reason } => TokenError::Unreachable { issuer, reason },
        Error::LoginEnded { .. } => TokenError::NotLoggedIn { reason: error.to_string() },
        other => TokenError::Other { reason: other.to_string(), hint: other.hint() },
    }
}
