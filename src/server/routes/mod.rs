//! The routes of the API, as `src/api/types.rs` lists them.
//!
//! Owns the table of routes (which the OpenAPI description is held to), who may
//! call, how bodies are read, and what every answer has in common.

mod grants;
mod identity;
mod public;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, FromRequest, FromRequestParts, MatchedPath, Request,
        rejection::BytesRejection,
    },
    http::{HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::{Next, from_fn},
    response::{IntoResponse as _, Response},
    routing::MethodRouter,
};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{app::App, problem::Refusal};
use crate::grant::Identity;

/// The largest request body, but for log segments, in bytes.
const LARGEST_BODY: usize = 64 * 1024;
/// The longest that a request may take: more than the longest wait.
const LONGEST_REQUEST: Duration = Duration::from_secs(90);
/// The longest `wait`, in seconds.
const LONGEST_WAIT: u64 = 60;

type Handled<T> = Result<Json<T>, Refusal>;

/// One route.
struct Route {
    method: Method,
    path: &'static str,
    handler: MethodRouter<Arc<App>>,
}

/// Every route of the API.
fn table() -> Vec<Route> {
    [public::routes(), identity::routes(), grants::routes()].into_iter().flatten().collect()
}

/// The whole API as a service.
pub(super) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for route in table() {
        router = router.route(route.path, route.handler);
    }
    router
        .fallback(async || Refusal::not_found("unknown_path", "there is nothing at this address"))
        .method_not_allowed_fallback(async || {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "wrong_method",
                "this address knows another method",
            )
        })
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(from_fn(observe))
        .with_state(app)
}

/// Times and logs a request, without its query, headers and body, and sees to it
/// that no answer is cached or sniffed.
async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let answered = tokio::time::timeout(LONGEST_REQUEST, next.run(request)).await;
    let mut response = answered.unwrap_or_else(|_| {
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the request took too long")
            .into_response()
    });
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let path = path.as_deref().unwrap_or("unknown");
    let (status, ms) = (response.status().as_u16(), started.elapsed().as_millis());
    match path {
        "/healthz" | "/readyz" => tracing::debug!(%method, path, status, ms, "request"),
        _ => tracing::info!(%method, path, status, ms, "request"),
    }
    response
}

/// Who calls: the identity of the request's bearer token.
struct Caller(Identity);

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let token = bearer(parts)?;
        Ok(Self(app.issuers.identify(&token, app.now()).await?))
    }
}

/// The bearer token of a request (RFC 6750 section 2.1).
fn bearer(parts: &Parts) -> Result<String, Refusal> {
    let missing = || {
        Refusal::unauthorized("no_token", "the request has no bearer token")
            .hint("log in with: pgate login; in CI, set PGATE_TOKEN")
    };
    let value = parts.headers.get(header::AUTHORIZATION).ok_or_else(missing)?;
    let (scheme, token) =
        value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(missing());
    }
    Ok(token.trim().to_owned())
}

/// A JSON body; an empty one counts as `{}`.
struct Body<T>(T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Refusal> {
        let bytes = Bytes::from_request(request, app).await.map_err(too_large)?;
        let text = if bytes.is_empty() { b"{}".as_slice() } else { &bytes };
        let body = serde_json::from_slice(text).map_err(|error| {
            Refusal::bad_request("bad_request", format!("the request can't be read: {error}"))
        })?;
        Ok(Self(body))
    }
}

fn too_large(rejection: BytesRejection) -> Refusal {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the request is too large")
        }
        _ => Refusal::bad_request("bad_request", "the request broke off"),
    }
}

/// The query string of a request.
struct Query<T>(T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Refusal> {
        axum::extract::Query::<T>::try_from_uri(&parts.uri).map(|query| Self(query.0)).map_err(
            |error| {
                let error = error.body_text();
                Refusal::bad_request("bad_query", format!("the query can't be read: {error}"))
            },
        )
    }
}

/// `?wait=SECONDS`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    wait: Option<u64>,
}

impl Wait {
    fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_secs(self.wait.unwrap_or(0).min(LONGEST_WAIT))
    }
}
