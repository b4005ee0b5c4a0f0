//! HTTP towards issuers: bounded in time and size, https beyond loopback, no
//! redirects, short outages bridged.

use std::{fmt, net::IpAddr, time::Duration};

use futures_util::future::BoxFuture;
use oauth2::{AsyncHttpClient, HttpRequest, HttpResponse};
use serde::de::DeserializeOwned;
use url::{Host, Url};

use super::Error;

const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(30);
/// The largest answer that is read, in bytes.
const LARGEST: usize = 1 << 20;
/// The pauses between attempts while an issuer is out of reach.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(4)];

/// A connection to issuers.
pub(super) struct Web {
    http: reqwest::Client,
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(super) struct NoAnswer {
    url: String,
    reason: String,
    kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// It may work in a moment.
    Passing,
    /// It won't.
    Lasting,
    Insecure,
}

impl From<NoAnswer> for Error {
    fn from(failure: NoAnswer) -> Self {
        match failure.kind {
            Kind::Passing => Error::Unreachable { issuer: failure.url, reason: failure.reason },
            Kind::Lasting => Error::Garbage { issuer: failure.url, problem: failure.reason },
            Kind::Insecure => Error::Insecure { url: failure.url },
        }
    }
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Web")
    }
}

impl Web {
    /// For the issuer at `url`.
    pub(super) fn new(url: &Url) -> Result<Self, Error> {
        // One provider throughout; an Err only says that it is in place already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("pgate/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(ANSWER);
        if is_loopback(url) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| Error::Unreachable {
            issuer: url.to_string(),
            reason: innermost(&error),
        })?;
        Ok(Self { http })
    }

    /// Sends `request`, again after a pause where nothing came back or the issuer
    /// failed (5xx).
    pub(super) async fn send(&self, request: HttpRequest) -> Result<HttpResponse, NoAnswer> {
        let mut pauses = PAUSES.iter();
        loop {
            match (self.attempt(&request).await, pauses.next()) {
                (Err(failure), Some(pause)) if failure.kind == Kind::Passing => {
                    tracing::debug!(url = failure.url, reason = failure.reason, "asking again");
                    tokio::time::sleep(*pause).await;
                }
                (outcome, _) => return outcome,
            }
        }
    }

    /// Fetches a public JSON document, whatever content type it is sent under.
    pub(super) async fn json<T: DeserializeOwned>(&self, url: &str) -> Result<T, Error> {
        let garbage = |problem: String| Error::Garbage { issuer: url.to_owned(), problem };
        let request = http::Request::get(url)
            .header(http::header::ACCEPT, "application/json")
            .body(Vec::new())
            .map_err(|error| garbage(error.to_string()))?;
        let answer = self.send(request).await?;
        if !answer.status().is_success() {
            return Err(garbage(format!("it says {}", answer.status())));
        }
        serde_json::from_slice(answer.body())
            .map_err(|error| garbage(format!("its document can't be read ({error})")))
    }

    async fn attempt(&self, request: &HttpRequest) -> Result<HttpResponse, NoAnswer> {
        let url = request.uri().to_string();
        let failure = |kind, reason| NoAnswer { url: url.clone(), reason, kind };
        let parsed = Url::parse(&url).map_err(|error| failure(Kind::Lasting, error.to_string()))?;
        if parsed.scheme() != "https" && !is_loopback(&parsed) {
            return Err(failure(Kind::Insecure, String::new()));
        }
        let passing = |error: reqwest::Error| failure(Kind::Passing, innermost(&error));
        let response = self
            .http
            .request(request.method().clone(), parsed)
            .headers(request.headers().clone())
            .body(request.body().clone())
            .send()
            .await
            .map_err(passing)?;
        if response.status().is_server_error() {
            return Err(failure(Kind::Passing, format!("it says {}", response.status())));
        }
        let too_large = || failure(Kind::Lasting, "the answer is larger than 1 MiB".into());
        whole(response).await.map_err(passing)?.ok_or_else(too_large)
    }
}

/// An answer with its whole body; none where that is longer than 1 MiB.
pub(crate) async fn whole(
    mut response: reqwest::Response,
) -> Result<Option<HttpResponse>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        if body.len() + piece.len() > LARGEST {
            return Ok(None);
        }
        body.extend_from_slice(&piece);
    }
    let mut answer = HttpResponse::new(body);
    *answer.status_mut() = response.status();
    *answer.headers_mut() = response.headers().clone();
    Ok(Some(answer))
}

/// How the OAuth library sends its requests.
impl<'c> AsyncHttpClient<'c> for Web {
    type Error = NoAnswer;
    type Future = BoxFuture<'c, Result<HttpResponse, NoAnswer>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}

/// Whether the URL's host is this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        // Names below it are asked of DNS where no resolver answers them itself.
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
