//! An issuer's keys and endpoints: found by OIDC discovery, cached, and fetched again when a
//! token names one that isn't known (at most once in a while, so that nobody can
//! make this server ask without end).

use std::{sync::Arc, time::Duration};

use openidconnect::core::{CoreJsonWebKeySet, CoreJwsSigningAlgorithm};
use serde::Deserialize;
use tokio::{sync::Mutex, time::Instant};

use super::web::{self, Web};

/// How long keys count as fresh.
const FRESH: Duration = Duration::from_secs(3600);
/// How long keys still count while the issuer can't be reached.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// The shortest time between two fetches for an unknown key.
const BETWEEN_ROTATIONS: Duration = Duration::from_secs(10);
/// The shortest time between two attempts while the issuer can't be reached.
const BETWEEN_FAILURES: Duration = Duration::from_secs(2);

/// Why an issuer's keys can't be had.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the issuer {issuer} can't be used: {why}")]
pub(in crate::server) struct FetchError {
    issuer: String,
    why: String,
}

/// What is known of an issuer's keys.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) set: CoreJsonWebKeySet,
    /// The asymmetric algorithms that the issuer announces.
    pub(super) algorithms: Vec<CoreJwsSigningAlgorithm>,
    /// Where a browser signs in.
    pub(super) endpoints: Endpoints,
    fetched: Instant,
}

/// What an issuer says of the authorization code flow.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Endpoints {
    pub(super) authorization_endpoint: Option<String>,
    pub(super) token_endpoint: Option<String>,
    /// Whether its answers name it (RFC 9207).
    #[serde(default)]
    pub(super) authorization_response_iss_parameter_supported: bool,
}

#[derive(Debug, Default)]
struct Cached {
    keys: Option<Arc<Keys>>,
    failure: Option<(Instant, FetchError)>,
    /// When an unknown key made this server ask.
    rotated: Option<Instant>,
}

/// The cache of one issuer's keys. One fetch at a time; whoever needs its result waits.
#[derive(Debug)]
pub(super) struct KeyCache {
    issuer: String,
    pub(super) web: Web,
    cached: Mutex<Cached>,
}

/// The parts of OpenID Connect Discovery 1.0 section 3 that matter here.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
    #[serde(default)]
    id_token_signing_alg_values_supported: Vec<CoreJwsSigningAlgorithm>,
    #[serde(flatten)]
    endpoints: Endpoints,
}

impl KeyCache {
    pub(super) fn new(issuer: &str) -> Result<Self, FetchError> {
        let web = Web::new(issuer).map_err(|why| FetchError { issuer: issuer.to_owned(), why })?;
        Ok(Self { issuer: issuer.to_owned(), web, cached: Mutex::default() })
    }

    /// The keys, fetched where there are none or they are old.
    pub(super) async fn current(&self) -> Result<Arc<Keys>, FetchError> {
        let mut cached = self.cached.lock().await;
        let usable = cached.keys.clone();
        match usable {
            Some(keys) if keys.fetched.elapsed() < FRESH => Ok(keys),
            Some(keys) if keys.fetched.elapsed() < STALE => match self.fetch(&mut cached).await {
                Ok(keys) => Ok(keys),
                Err(error) => {
                    tracing::warn!(issuer = self.issuer, %error, "old keys stay in use");
                    Ok(keys)
                }
            },
            _ => self.fetch(&mut cached).await,
        }
    }

    /// Newer keys than `known`, in which a token's key wasn't found; the same ones
    /// where the issuer was asked for that reason a moment ago.
    pub(super) async fn rotated(&self, known: &Arc<Keys>) -> Result<Arc<Keys>, FetchError> {
        let mut cached = self.cached.lock().await;
        match &cached.keys {
            Some(newer) if !Arc::ptr_eq(newer, known) => Ok(newer.clone()),
            Some(same) if cached.rotated.is_some_and(|at| at.elapsed() < BETWEEN_ROTATIONS) => {
                Ok(same.clone())
            }
            _ => {
                cached.rotated = Some(Instant::now());
                self.fetch(&mut cached).await
            }
        }
    }

    async fn fetch(&self, cached: &mut Cached) -> Result<Arc<Keys>, FetchError> {
        if let Some((at, error)) = &cached.failure
            && at.elapsed() < BETWEEN_FAILURES
        {
            return Err(error.clone());
        }
        match self.ask().await {
            Ok(keys) => {
                let keys = Arc::new(keys);
                cached.keys = Some(keys.clone());
                cached.failure = None;
                Ok(keys)
            }
            Err(why) => {
                let error = FetchError { issuer: self.issuer.clone(), why };
                tracing::warn!(%error);
                cached.failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn ask(&self) -> Result<Keys, String> {
        let base = self.issuer.strip_suffix('/').unwrap_or(&self.issuer);
        let discovery: Discovery =
            self.web.get(&format!("{base}/.well-known/openid-configuration")).await?;
        if discovery.issuer != self.issuer {
            return Err("its discovery document names another issuer".to_owned());
        }
        let keys_url = web::secure(&discovery.jwks_uri, "jwks_uri")?;
        let set: CoreJsonWebKeySet = self.web.get(keys_url.as_str()).await?;
        // RS256 is what every issuer must support (Discovery 1.0 section 3).
        let mut announced = discovery.id_token_signing_alg_values_supported;
        if announced.is_empty() {
            announced.push(CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256);
        }
        announced.retain(is_asymmetric);
        if announced.is_empty() {
            return Err("it announces no asymmetric signing algorithm".to_owned());
        }
        let endpoints = discovery.endpoints;
        Ok(Keys { set, algorithms: announced, endpoints, fetched: Instant::now() })
    }
}

/// The list of what is accepted; anything that isn't on it is refused.
fn is_asymmetric(algorithm: &CoreJwsSigningAlgorithm) -> bool {
    use CoreJwsSigningAlgorithm as Alg;
    matches!(
        algorithm,
        Alg::RsaSsaPkcs1V15Sha256
            | Alg::RsaSsaPkcs1V15Sha384
            | Alg::RsaSsaPkcs1V15Sha512
            | Alg::RsaSsaPssSha256
            | Alg::RsaSsaPssSha384
            | Alg::RsaSsaPssSha512
            | Alg::EcdsaP256Sha256
            | Alg::EcdsaP384Sha384
            | Alg::EdDsa
    )
}
