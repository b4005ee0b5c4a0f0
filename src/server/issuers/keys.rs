//! An issuer's keys: found by OIDC discovery, cached, and fetched again when a
//! token names one that isn't known (at most once in a while, so that nobody can
//! make this server ask without end).

use std::{sync::Arc, time::Duration};

use openidconnect::core::{CoreJsonWebKeySet, CoreJwsSigningAlgorithm};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{sync::Mutex, time::Instant};
use url::Url;

use crate::server::config::on_loopback;

/// How long keys count as fresh.
const FRESH: Duration = Duration::from_secs(3600);
/// How long keys still count while the issuer can't be reached.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// The shortest time between two fetches for an unknown key.
const BETWEEN_ROTATIONS: Duration = Duration::from_secs(10);
/// The shortest time between two attempts while the issuer can't be reached.
const BETWEEN_FAILURES: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(5);
const LARGEST_DOCUMENT: usize = 1024 * 1024;

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
    fetched: Instant,
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
    client: reqwest::Client,
    cached: Mutex<Cached>,
}

/// The parts of OpenID Connect Discovery 1.0 section 3 that matter here.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
    #[serde(default)]
    id_token_signing_alg_values_supported: Vec<CoreJwsSigningAlgorithm>,
}

impl KeyCache {
    pub(super) fn new(issuer: &str) -> Result<Self, FetchError> {
        let failed = |why: String| FetchError { issuer: issuer.to_owned(), why };
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(client_tls().map_err(|error| failed(error.to_string()))?)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(TIMEOUT)
            .timeout(TIMEOUT)
            .user_agent(concat!("pgate/", env!("CARGO_PKG_VERSION")));
        if Url::parse(issuer).is_ok_and(|url| on_loopback(&url)) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| failed(error.to_string()))?;
        Ok(Self { issuer: issuer.to_owned(), client, cached: Mutex::default() })
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
            self.get(&format!("{base}/.well-known/openid-configuration")).await?;
        if discovery.issuer != self.issuer {
            return Err("its discovery document names another issuer".to_owned());
        }
        let keys_url = Url::parse(&discovery.jwks_uri).map_err(|_| "its jwks_uri is not a URL")?;
        if keys_url.scheme() != "https" && !on_loopback(&keys_url) {
            return Err("its jwks_uri is plain http".to_owned());
        }
        let set: CoreJsonWebKeySet = self.get(keys_url.as_str()).await?;
        // RS256 is what every issuer must support (Discovery 1.0 section 3).
        let mut announced = discovery.id_token_signing_alg_values_supported;
        if announced.is_empty() {
            announced.push(CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256);
        }
        announced.retain(is_asymmetric);
        if announced.is_empty() {
            return Err("it announces no asymmetric signing algorithm".to_owned());
        }
        Ok(Keys { set, algorithms: announced, fetched: Instant::now() })
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, String> {
        let failed = |error: reqwest::Error| {
            let why = match () {
                () if error.is_timeout() => "it doesn't answer in time",
                () if error.is_connect() => "no connection to it can be made",
                () => "the answer broke off",
            };
            format!("{why} ({url})")
        };
        let mut response = self.client.get(url).send().await.map_err(failed)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(format!("{url} answers {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LARGEST_DOCUMENT {
                return Err(format!("{url} answers more than 1 MiB"));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|_| format!("{url} answers something else than OIDC"))
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

fn client_tls() -> Result<rustls::ClientConfig, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
