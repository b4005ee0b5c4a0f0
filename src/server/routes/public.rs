//! What anybody may ask: health, the server's description and its public keys.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, Method, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{Handled, Route};
use crate::{
    api::{Health, IssuerInfo, KeySet, ServerInfo},
    server::{app::App, problem::Refusal},
};

const OPENAPI: &str = include_str!("../openapi.json");

pub(super) fn routes() -> Vec<Route> {
    let route = |path, handler| Route { method: Method::GET, path, handler };
    vec![
        route("/healthz", get(healthz)),
        route("/readyz", get(readyz)),
        route("/.well-known/pgate", get(info)),
        route("/.well-known/pgate/keys", get(keys)),
        route("/openapi.json", get(openapi)),
    ]
}

async fn healthz() -> Json<Health> {
    Json(Health { status: "ok".to_owned() })
}

async fn readyz(State(app): State<Arc<App>>) -> Handled<Health> {
    if app.stopping.is_cancelled() {
        return Err(Refusal::unavailable("stopping", "the server is stopping"));
    }
    app.store.ping().await.map_err(|error| {
        tracing::error!(%error, "not ready");
        Refusal::unavailable("store", "the store doesn't answer")
    })?;
    Ok(Json(Health { status: "ok".to_owned() }))
}

async fn info(State(app): State<Arc<App>>) -> Json<ServerInfo> {
    use crate::server::config::Audience;
    let issuers = app.config.issuers.iter().map(|issuer| IssuerInfo {
        name: issuer.name.clone(),
        url: issuer.url.clone(),
        client_id: issuer.audience.client_id().map(str::to_owned),
        audience: match &issuer.audience {
            Audience::Client(_) => None,
            Audience::ClientAnd { audience, .. } | Audience::Workload(audience) => {
                Some(audience.clone())
            }
        },
        scopes: issuer.scopes.clone(),
    });
    Json(ServerInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        public_url: app.public_url.clone(),
        now: app.now(),
        issuers: issuers.collect(),
    })
}

async fn keys(State(app): State<Arc<App>>) -> Json<KeySet> {
    Json(KeySet { keys: app.keys.iter().map(|key| key.to_jwk()).collect() })
}

async fn openapi() -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], OPENAPI).into_response()
}
