//! The control plane's client.
//!
//! Owns timeouts, size limits on answers, one retry after a renewed login, and
//! turning whatever a server may send into one of [`Error`]'s cases. It refuses
//! plain `http://` beyond loopback, follows no redirect (a token must not travel)
//! and never puts a token into an error.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Serialize, de::DeserializeOwned};
use url::{Host, Url};

use super::{
    Comment, Grant, GrantId, GrantList, GrantRequest, HoldApproval, HoldId, HoldList, HoldView,
    Identity, Inbox, KeySet, OpenSession, OpenedSession, RaiseHold, Receipt, ServerInfo, SessionId,
    SessionList, SessionState, SessionView, TargetList, Withdrawal,
    error::{Error, TokenError, broken, sentence},
};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a request may take beyond the time that it asks the server to wait.
const ANSWER: Duration = Duration::from_secs(30);
/// The longest wait that the API allows.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The largest JSON answer that is read, in bytes.
const LARGEST_ANSWER: usize = 8 << 20;
/// The largest log that [`Client::download_log`] holds in memory, in bytes.
const LARGEST_LOG: usize = 256 << 20;

/// Where the tokens of a [`Client`] come from.
pub trait TokenSource: Send + Sync {
    /// A token that should be good now.
    fn token(&self) -> BoxFuture<'_, Result<SecretString, TokenError>>;

    /// Asked once when the server has refused `refused` (401): another token to
    /// try, or none where there is no better one.
    fn renew<'a>(
        &'a self,
        refused: &'a SecretString,
    ) -> BoxFuture<'a, Result<Option<SecretString>, TokenError>>;
}

/// By what right a session's routes are asked.
#[derive(Debug, Clone, Copy)]
pub enum Auth<'a> {
    /// The caller's own login.
    Login,
    /// The session's upload token.
    Session(&'a SecretString),
}

impl<'a> From<&'a SecretString> for Auth<'a> {
    fn from(upload_token: &'a SecretString) -> Self {
        Auth::Session(upload_token)
    }
}

/// A client of one control plane; clones share its connections.
#[derive(Clone)]
pub struct Client {
    server: Arc<Url>,
    http: reqwest::Client,
    tokens: Option<Arc<dyn TokenSource>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.server)
    }
}

/// Whether `host` is this machine, so that plain `http://` stays on it.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        // Names below it are asked of DNS where no resolver answers them itself.
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

impl Client {
    /// A client of `server` that logs in with `tokens`.
    pub fn new(server: &Url, tokens: Arc<dyn TokenSource>) -> Result<Self, Error> {
        Ok(Self { tokens: Some(tokens), ..Self::without_login(server)? })
    }

    /// A client for the public routes and for those that take a session's own
    /// upload token.
    pub fn without_login(server: &Url) -> Result<Self, Error> {
        if server.scheme() != "https" && !is_loopback(server) {
            return Err(Error::Insecure { server: server.to_string() });
        }
        // One provider throughout; an Err only says that it is in place already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("pgate/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT);
        if is_loopback(server) {
            builder = builder.no_proxy();
        }
        if server.scheme() == "http" {
            // Nothing is asked by TLS then: reading the system's authorities would only take time.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|error| Error::Unreachable {
            server: server.to_string(),
            reason: sentence(&error),
        })?;
        Ok(Self { server: Arc::new(server.clone()), http, tokens: None })
    }

    /// The server that it talks to.
    pub fn server(&self) -> &Url {
        &self.server
    }

    /// `GET /.well-known/pgate`.
    pub async fn info(&self) -> Result<ServerInfo, Error> {
        self.public(".well-known/pgate").await
    }

    /// `GET /.well-known/pgate/keys`.
    pub async fn keys(&self) -> Result<KeySet, Error> {
        self.public(".well-known/pgate/keys").await
    }

    /// `GET /v1/whoami`.
    pub async fn whoami(&self) -> Result<Identity, Error> {
        self.get("v1/whoami").await
    }

    /// `GET /v1/targets`.
    pub async fn targets(&self) -> Result<TargetList, Error> {
        self.get("v1/targets").await
    }

    /// `POST /v1/grants`.
    pub async fn request_grant(&self, request: &GrantRequest) -> Result<Grant, Error> {
        self.post("v1/grants", request).await
    }

    /// `GET /v1/grants`: one's own.
    pub async fn grants(&self) -> Result<GrantList, Error> {
        self.get("v1/grants").await
    }

    /// `GET /v1/grants/{id}`; with `wait` it answers as soon as the grant is no
    /// longer pending, or after that time.
    pub async fn grant(&self, id: &GrantId, wait: Option<Duration>) -> Result<Grant, Error> {
        let route = Route::get(format!("v1/grants/{id}")).waiting(wait);
        json(self.send(&route, Auth::Login).await?).await
    }

    /// `POST /v1/grants/{id}/approve`.
    pub async fn approve(&self, id: &GrantId, comment: &Comment) -> Result<Grant, Error> {
        self.post(&format!("v1/grants/{id}/approve"), comment).await
    }

    /// `POST /v1/grants/{id}/deny`.
    pub async fn deny(&self, id: &GrantId, comment: &Comment) -> Result<Grant, Error> {
        self.post(&format!("v1/grants/{id}/deny"), comment).await
    }

    /// `POST /v1/grants/{id}/revoke`.
    pub async fn revoke(&self, id: &GrantId, comment: &Comment) -> Result<Grant, Error> {
        self.post(&format!("v1/grants/{id}/revoke"), comment).await
    }

    /// `GET /v1/inbox`: what the caller may review.
    pub async fn inbox(&self) -> Result<Inbox, Error> {
        self.get("v1/inbox").await
    }

    /// `PUT /v1/holds/{id}`, by the session's own right. It may be sent again.
    pub async fn raise_hold(
        &self,
        id: &HoldId,
        request: &RaiseHold,
        auth: impl Into<Auth<'_>>,
    ) -> Result<HoldView, Error> {
        self.change(Method::PUT, &format!("v1/holds/{id}"), request, auth.into()).await
    }

    /// `GET /v1/holds/{id}`; with `wait` it answers as soon as the hold no longer
    /// waits, or after that time.
    pub async fn hold(
        &self,
        id: &HoldId,
        wait: Option<Duration>,
        auth: impl Into<Auth<'_>>,
    ) -> Result<HoldView, Error> {
        let route = Route::get(format!("v1/holds/{id}")).waiting(wait);
        json(self.send(&route, auth.into()).await?).await
    }

    /// `POST /v1/holds/{id}/approve`.
    pub async fn approve_hold(
        &self,
        id: &HoldId,
        approval: &HoldApproval,
    ) -> Result<HoldView, Error> {
        self.post(&format!("v1/holds/{id}/approve"), approval).await
    }

    /// `POST /v1/holds/{id}/deny`.
    pub async fn deny_hold(&self, id: &HoldId, comment: &Comment) -> Result<HoldView, Error> {
        self.post(&format!("v1/holds/{id}/deny"), comment).await
    }

    /// `POST /v1/holds/{id}/withdraw`, by the session's own right.
    pub async fn withdraw_hold(
        &self,
        id: &HoldId,
        withdrawal: &Withdrawal,
        auth: impl Into<Auth<'_>>,
    ) -> Result<HoldView, Error> {
        let path = format!("v1/holds/{id}/withdraw");
        self.change(Method::POST, &path, withdrawal, auth.into()).await
    }

    /// `GET /v1/sessions/{id}/holds`.
    pub async fn session_holds(&self, id: &SessionId) -> Result<HoldList, Error> {
        self.get(&format!("v1/sessions/{id}/holds")).await
    }

    /// `POST /v1/sessions`.
    pub async fn open_session(&self, request: &OpenSession) -> Result<OpenedSession, Error> {
        self.post("v1/sessions", request).await
    }

    /// `GET /v1/sessions`.
    pub async fn sessions(&self, limit: Option<u32>) -> Result<SessionList, Error> {
        match limit {
            Some(limit) => self.get(&format!("v1/sessions?limit={limit}")).await,
            None => self.get("v1/sessions").await,
        }
    }

    /// `GET /v1/sessions/{id}`.
    pub async fn session(&self, id: &SessionId) -> Result<SessionView, Error> {
        self.get(&format!("v1/sessions/{id}")).await
    }

    /// `GET /v1/sessions/{id}/state`; with `wait` it answers as soon as the
    /// session has ended, or after that time.
    pub async fn session_state(
        &self,
        id: &SessionId,
        wait: Option<Duration>,
        auth: impl Into<Auth<'_>>,
    ) -> Result<SessionState, Error> {
        let route = Route::get(format!("v1/sessions/{id}/state")).waiting(wait);
        json(self.send(&route, auth.into()).await?).await
    }

    /// `PUT /v1/sessions/{id}/log?seq=N`: whole lines, the first of them number `seq`.
    pub async fn upload_log(
        &self,
        id: &SessionId,
        seq: u64,
        lines: impl Into<bytes::Bytes>,
        auth: impl Into<Auth<'_>>,
    ) -> Result<Receipt, Error> {
        let route = Route {
            method: Method::PUT,
            path: format!("v1/sessions/{id}/log?seq={seq}"),
            body: Body::Lines(lines.into()),
            wait: Duration::ZERO,
        };
        json(self.send(&route, auth.into()).await?).await
    }

    /// `GET /v1/sessions/{id}/log`, whole, at most 256 MiB.
    pub async fn download_log(&self, id: &SessionId) -> Result<Vec<u8>, Error> {
        let response = self.send(&Route::get(format!("v1/sessions/{id}/log")), Auth::Login).await?;
        body(response, LARGEST_LOG).await
    }

    /// `GET /v1/sessions/{id}/log`, handed to `sink` piece by piece; the number of
    /// bytes. An error of the sink ends the download.
    pub async fn copy_log(
        &self,
        id: &SessionId,
        mut sink: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<u64, Error> {
        let route = Route {
            wait: Duration::from_secs(3600),
            ..Route::get(format!("v1/sessions/{id}/log"))
        };
        let mut response = self.send(&route, Auth::Login).await?;
        let server = response.url().to_string();
        let mut total = 0;
        while let Some(piece) = response.chunk().await.map_err(|error| broken(&server, &error))? {
            sink(&piece).map_err(Error::Sink)?;
            total += piece.len() as u64;
        }
        Ok(total)
    }

    /// `POST /v1/sessions/{id}/close`.
    pub async fn close_session(
        &self,
        id: &SessionId,
        auth: impl Into<Auth<'_>>,
    ) -> Result<SessionView, Error> {
        let route = Route {
            method: Method::POST,
            path: format!("v1/sessions/{id}/close"),
            body: Body::Nothing,
            wait: Duration::ZERO,
        };
        json(self.send(&route, auth.into()).await?).await
    }

    async fn public<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let response = self.attempt(&Route::get(path), None).await?;
        json(accepted(response).await?).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        json(self.send(&Route::get(path), Auth::Login).await?).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        request: &impl Serialize,
    ) -> Result<T, Error> {
        self.change(Method::POST, path, request, Auth::Login).await
    }

    async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        request: &impl Serialize,
        auth: Auth<'_>,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(request).map_err(|error| Error::Garbage {
            server: self.server.to_string(),
            problem: format!("the request can't be written as JSON ({error})"),
        })?;
        let route = Route {
            method,
            path: path.to_owned(),
            body: Body::Json(body.into()),
            wait: Duration::ZERO,
        };
        json(self.send(&route, auth).await?).await
    }

    /// Asks, and asks once more with a renewed token where the first is refused.
    async fn send(&self, route: &Route, auth: Auth<'_>) -> Result<Response, Error> {
        let tokens = match (auth, &self.tokens) {
            (Auth::Session(token), _) => {
                return accepted(self.attempt(route, Some(token)).await?).await;
            }
            (Auth::Login, Some(tokens)) => tokens,
            (Auth::Login, None) => {
                return Err(
                    TokenError::NotLoggedIn { reason: "you are not logged in".into() }.into()
                );
            }
        };
        let token = tokens.token().await?;
        let response = self.attempt(route, Some(&token)).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return accepted(response).await;
        }
        match tokens.renew(&token).await? {
            Some(token) => accepted(self.attempt(route, Some(&token)).await?).await,
            None => accepted(response).await,
        }
    }

    async fn attempt(
        &self,
        route: &Route,
        token: Option<&SecretString>,
    ) -> Result<Response, Error> {
        let server = self.server.as_str();
        let url = format!("{}/{}", server.trim_end_matches('/'), route.path);
        let request = self
            .http
            .request(route.method.clone(), url)
            .timeout(ANSWER + route.wait)
            .header(header::ACCEPT, "application/json");
        let request = route.body.put_into(request);
        let request = match token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        };
        request.send().await.map_err(|error| broken(server, &error))
    }
}

struct Route {
    method: Method,
    path: String,
    body: Body,
    wait: Duration,
}

enum Body {
    Nothing,
    Json(bytes::Bytes),
    Lines(bytes::Bytes),
}

impl Route {
    fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: Body::Nothing, wait: Duration::ZERO }
    }

    fn waiting(self, wait: Option<Duration>) -> Self {
        let Some(wait) = wait.map(|wait| wait.min(LONGEST_WAIT)) else { return self };
        Self { path: format!("{}?wait={}", self.path, wait.as_secs()), wait, ..self }
    }
}

impl Body {
    fn put_into(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Body::Nothing => request,
            Body::Json(body) => {
                request.header(header::CONTENT_TYPE, "application/json").body(body.clone())
            }
            Body::Lines(body) => {
                request.header(header::CONTENT_TYPE, "application/jsonl").body(body.clone())
            }
        }
    }
}

/// The response where it is a success, else the error that it stands for.
async fn accepted(response: Response) -> Result<Response, Error> {
    if response.status().is_success() {
        return Ok(response);
    }
    let server = response.url().to_string();
    let status = response.status();
    let now = response
        .headers()
        .get(header::DATE)
        .and_then(|date| jiff::fmt::rfc2822::parse(date.to_str().ok()?).ok())
        .map(|date| date.timestamp());
    let location = response.headers().get(header::LOCATION).cloned();
    let content = body(response, LARGEST_ANSWER).await?;
    Err(Error::from_answer(server, status, now, location, &content, Timestamp::now()))
}

async fn json<T: DeserializeOwned>(response: Response) -> Result<T, Error> {
    let server = response.url().to_string();
    let content = body(response, LARGEST_ANSWER).await?;
    serde_json::from_slice(&content).map_err(|error| Error::Garbage {
        server,
        problem: format!("the answer is not what pgate's API promises ({})", misfit(&error)),
    })
}

/// What is wrong with a JSON text, without the values that serde would quote: an
/// answer may hold secrets.
fn misfit(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if error.is_data() && text.starts_with("invalid ") {
        format!("a value of another kind in column {}", error.column())
    } else {
        text
    }
}

async fn body(mut response: Response, limit: usize) -> Result<Vec<u8>, Error> {
    let server = response.url().to_string();
    let too_large = || Error::Garbage {
        server: server.clone(),
        problem: format!("the answer is larger than {} MiB", limit >> 20),
    };
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut content = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| broken(&server, &error))? {
        if content.len() + piece.len() > limit {
            return Err(too_large());
        }
        content.extend_from_slice(&piece);
    }
    Ok(content)
}

#[cfg(test)]
mod tests;
