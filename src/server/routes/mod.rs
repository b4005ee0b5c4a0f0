//! The routes of the API, as `src/api/model.rs` lists them.
//!
//! Owns the table of routes (which the OpenAPI description is held to), who may
//! call, how bodies are read, and what every answer has in common.

pub(super) mod grants;
pub(super) mod holds;
mod identity;
mod log;
mod public;
mod sessions;

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
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use super::{access, app::App, problem::Refusal, store::StoredSession};
use crate::{
    api::SessionView,
    grant::{Identity, SessionId},
};

/// The largest request body, but for log segments, in bytes.
const LARGEST_BODY: usize = 64 * 1024;
/// The longest that a request may take: more than the longest wait.
const LONGEST_REQUEST: Duration = Duration::from_secs(90);
/// The longest `wait`, in seconds.
const LONGEST_WAIT: u64 = 60;

type Handled<T> = Result<Json<T>, Refusal>;

/// One route.
struct Route {
    #[cfg_attr(not(test), expect(dead_code, reason = "what the API's description is held to"))]
    method: Method,
    path: &'static str,
    handler: MethodRouter<Arc<App>>,
}

/// Every route of the API.
fn table() -> Vec<Route> {
    [
        public::routes(),
        identity::routes(),
        grants::routes(),
        holds::routes(),
        sessions::routes(),
        log::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The whole API as a service.
pub(super) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for route in table() {
        router = router.route(route.path, route.handler);
    }
    router
        .merge(super::web::router())
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

/// A bearer token that may be a person's or a session's own.
struct Token(String);

impl FromRequestParts<Arc<App>> for Token {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Refusal> {
        bearer(parts).map(Self)
    }
}

/// What the store keeps of an upload token.
fn token_digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn unknown_session() -> Refusal {
    Refusal::not_found("unknown_session", "there is no such session that you may see")
}

/// The session, for its owner or the holder of its upload token.
async fn session_of(app: &App, id: &str, token: &str) -> Result<StoredSession, Refusal> {
    let id = id.parse::<SessionId>().map_err(|_| unknown_session());
    if token.starts_with(sessions::UPLOAD_TOKEN) {
        let session = app.store.session(&id?).await?.ok_or_else(unknown_session)?;
        let same = token_digest(token).ct_eq(session.upload_token.as_slice());
        return if same.into() { Ok(session) } else { Err(unknown_session()) };
    }
    let identity = app.issuers.identify(token, app.now()).await?;
    let session = app.store.session(&id?).await?.ok_or_else(unknown_session)?;
    if session.view.identity.same_as(&identity) { Ok(session) } else { Err(unknown_session()) }
}

/// The session, for its owner and the reviewers of its role.
async fn visible_session(
    app: &App,
    id: &str,
    identity: &Identity,
) -> Result<StoredSession, Refusal> {
    let id = id.parse::<SessionId>().map_err(|_| unknown_session())?;
    let session = app.store.session(&id).await?.ok_or_else(unknown_session)?;
    let SessionView { target, role, .. } = &session.view;
    let seen = session.view.identity.same_as(identity)
        || access::reviewed(&app.policy.current(), identity)
            .iter()
            .any(|(on, reviewed)| on == target && reviewed == role);
    if seen { Ok(session) } else { Err(unknown_session()) }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn described() -> Value {
        serde_json::from_str(include_str!("../openapi.json")).expect("the description is JSON")
    }

    #[test]
    fn the_description_lists_every_route_and_no_other() {
        let routes = table()
            .iter()
            .map(|route| (route.path.to_owned(), route.method.as_str().to_lowercase()))
            .collect::<BTreeSet<_>>();
        let description = described();
        let paths = description["paths"].as_object().unwrap();
        let operations = paths
            .iter()
            .flat_map(|(path, methods)| {
                methods.as_object().unwrap().keys().map(|method| (path.clone(), method.clone()))
            })
            .collect::<BTreeSet<_>>();
        assert_eq!(routes, operations);
    }

    #[test]
    fn the_documented_table_lists_every_route() {
        let documentation = include_str!("../../api/model.rs");
        for route in table() {
            let last = route.path.rsplit('/').next().unwrap();
            let named = documentation.lines().any(|line| {
                line.starts_with("//! |")
                    && (line.contains(route.path) || line.contains(&format!("/{last}")))
                    && line.contains(route.method.as_str())
            });
            assert!(named, "{} {}", route.method, route.path);
        }
    }

    #[test]
    fn every_reference_of_the_description_leads_somewhere() {
        fn references<'v>(value: &'v Value, into: &mut Vec<&'v str>) {
            match value {
                Value::Object(map) => {
                    into.extend(map.get("$ref").and_then(Value::as_str));
                    map.values().for_each(|value| references(value, into));
                }
                Value::Array(list) => list.iter().for_each(|value| references(value, into)),
                _ => {}
            }
        }
        let description = described();
        let mut all = Vec::new();
        references(&description, &mut all);
        assert!(all.len() > 20);
        for reference in all {
            assert!(description.pointer(&reference[1..]).is_some(), "{reference}");
        }
    }
}
