//! HTTP towards an issuer: bounded in time and size, https beyond loopback, no redirects.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use oauth2::{AsyncHttpClient, HttpRequest, HttpResponse};
use serde::de::DeserializeOwned;
use url::Url;

use crate::{identity, server::config::on_loopback};

const TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to one issuer.
#[derive(Debug)]
pub(super) struct Web(reqwest::Client);

/// Why an issuer gave no answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoAnswer(String);

impl Web {
    pub(super) fn new(issuer: &str) -> Result<Self, String> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(client_tls().map_err(|error| error.to_string())?)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(TIMEOUT)
            .timeout(TIMEOUT)
            .user_agent(concat!("pgate/", env!("CARGO_PKG_VERSION")));
        if Url::parse(issuer).is_ok_and(|url| on_loopback(&url)) {
            builder = builder.no_proxy();
        }
        Ok(Self(builder.build().map_err(|error| error.to_string())?))
    }

    /// A public JSON document.
    pub(super) async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, String> {
        let request =
            http::Request::get(url).body(Vec::new()).map_err(|_| format!("{url} is not a URL"))?;
        let answer = self.send(request).await.map_err(|NoAnswer(why)| why)?;
        if answer.status() != http::StatusCode::OK {
            return Err(format!("{url} answers {}", answer.status()));
        }
        serde_json::from_slice(answer.body())
            .map_err(|_| format!("{url} answers something else than OIDC"))
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, NoAnswer> {
        let url = request.uri().to_string();
        let failed = |error: reqwest::Error| {
            let why = match () {
                () if error.is_timeout() => "it doesn't answer in time",
                () if error.is_connect() => "no connection to it can be made",
                () => "the answer broke off",
            };
            NoAnswer(format!("{why} ({url})"))
        };
        let (parts, body) = request.into_parts();
        let response = self
            .0
            .request(parts.method, &url)
            .headers(parts.headers)
            .body(body)
            .send()
            .await
            .map_err(failed)?;
        let answer = identity::whole(response).await.map_err(failed)?;
        answer.ok_or_else(|| NoAnswer(format!("{url} answers more than 1 MiB")))
    }
}

/// How the OAuth library sends its requests.
impl<'c> AsyncHttpClient<'c> for Web {
    type Error = NoAnswer;
    type Future = BoxFuture<'c, Result<HttpResponse, NoAnswer>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}

/// An endpoint that an issuer names: https, or loopback.
pub(super) fn secure(url: &str, what: &str) -> Result<Url, String> {
    let url = Url::parse(url).map_err(|_| format!("its {what} is not a URL"))?;
    if url.scheme() == "https" || (url.scheme() == "http" && on_loopback(&url)) {
        return Ok(url);
    }
    Err(format!("its {what} is plain http"))
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
