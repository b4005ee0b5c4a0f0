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

#[cfg(test)]
mod tests {
    use crate::server::testing::TestServer;

    #[tokio::test]
    async fn anybody_may_ask_for_health_description_and_keys() {
        let server = TestServer::start().await;
        for path in ["/healthz", "/readyz"] {
            let health = server.send("GET", path, None, None).await.ok(200);
            assert_eq!(health["status"], "ok");
        }
        let info = server.send("GET", "/.well-known/pgate", None, None).await.ok(200);
        assert_eq!(info["public_url"], server.url(""));
        assert_eq!(info["issuers"][0]["client_id"], "pgate");
        let keys = server.send("GET", "/.well-known/pgate/keys", None, None).await.ok(200);
        assert_eq!(keys["keys"][0]["kid"], server.app.keys[0].id());
        server.send("GET", "/nosuch", None, None).await.refused(404, "unknown_path");
        server.send("DELETE", "/v1/grants", None, None).await.refused(405, "wrong_method");
    }
}
