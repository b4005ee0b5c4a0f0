//! Something between `pgate` and its control plane: it passes everything on, or what a
//! test says instead.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::Value;

/// What becomes of a request.
#[derive(Clone, Copy)]
pub(super) enum Fate {
    /// It is passed on, and so is its answer.
    Pass,
    /// It is passed on, and this is done to the JSON of its answer.
    Edit(fn(&mut Value)),
    /// This is the answer; the control plane never hears of it.
    Answer(u16, &'static str),
    /// There is no answer, for longer than anybody waits.
    Silence,
    /// The connection breaks.
    Break,
}

/// Decides by method and path.
type Meddler = fn(&str, &str) -> Fate;

struct Shared {
    server: String,
    http: reqwest::Client,
    meddler: Mutex<Meddler>,
}

pub(super) struct Middleman {
    pub(super) url: String,
    shared: Arc<Shared>,
}

impl Middleman {
    pub(super) async fn before(server: &str, meddler: Meddler) -> Self {
        // An Err only says that it is in place already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            meddler: Mutex::new(meddler),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(meddle).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, shared }
    }

    pub(super) fn now(&self, meddler: Meddler) {
        *self.shared.meddler.lock().unwrap() = meddler;
    }
}

async fn meddle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let meddler = *shared.meddler.lock().unwrap();
    let fate = meddler(parts.method.as_str(), parts.uri.path());
    match fate {
        Fate::Answer(status, text) => {
            return (StatusCode::from_u16(status).unwrap(), text).into_response();
        }
        Fate::Silence => tokio::time::sleep(Duration::from_secs(600)).await,
        Fate::Break => {
            let broken = futures_util::stream::once(async { Err::<Bytes, _>("broken") });
            return Body::from_stream(broken).into_response();
        }
        Fate::Pass | Fate::Edit(_) => {}
    }
    let path = parts.uri.path_and_query().unwrap().as_str();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let mut passed = shared.http.request(parts.method, format!("{}{path}", shared.server));
    for (name, value) in parts.headers.iter().filter(|(name, _)| *name != "host") {
        passed = passed.header(name, value);
    }
    let Ok(answer) = passed.body(body).send().await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let status = answer.status();
    let Ok(mut body) = answer.bytes().await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    if let Fate::Edit(edit) = fate {
        let mut value = serde_json::from_slice(&body).unwrap();
        edit(&mut value);
        body = serde_json::to_vec(&value).unwrap().into();
    }
    (status, body).into_response()
}
