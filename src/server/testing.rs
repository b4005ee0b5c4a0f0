//! A real server in this process, an issuer that it trusts, and callers: what the
//! tests of the routes share.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Server, app::App, config::Config};
use crate::grant::SigningKey;

/// An issuer on loopback, whose keys can be changed and which can be made to fail.
pub(super) struct TestIssuer {
    pub(super) url: String,
    state: Arc<Mutex<IssuerState>>,
}

struct IssuerState {
    seed: u8,
    down: bool,
    asked: u32,
}

impl TestIssuer {
    pub(super) async fn start() -> Self {
        let state = Arc::new(Mutex::new(IssuerState { seed: 1, down: false, asked: 0 }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let discovery = json!({
            "issuer": url,
            "jwks_uri": format!("{url}/jwks"),
            "id_token_signing_alg_values_supported": ["EdDSA", "HS256", "none"],
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(async move || Json(discovery)))
            .route("/jwks", get(jwks))
            .with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, state }
    }

    fn key(&self) -> SigningKey {
        SigningKey::from_seed(&[self.state.lock().unwrap().seed; 32])
    }

    /// Puts another key in the place of the present one.
    pub(super) fn rotate(&self) {
        self.state.lock().unwrap().seed += 1;
    }

    pub(super) fn set_down(&self, down: bool) {
        self.state.lock().unwrap().down = down;
    }

    /// How often its keys were asked for.
    pub(super) fn asked(&self) -> u32 {
        self.state.lock().unwrap().asked
    }

    /// Good claims for a person with these groups.
    pub(super) fn claims(&self, subject: &str, groups: &[&str]) -> Value {
        let now = Timestamp::now().as_second();
        json!({
            "iss": self.url, "aud": "pgate", "sub": subject, "iat": now, "exp": now + 300,
            "email": format!("{subject}@example.com"), "groups": groups,
        })
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        self.key().sign_jws("JWT", claims).unwrap()
    }

    pub(super) fn token(&self, subject: &str, groups: &[&str]) -> String {
        self.sign(&self.claims(subject, groups))
    }
}

async fn jwks(State(state): State<Arc<Mutex<IssuerState>>>) -> Result<Json<Value>, StatusCode> {
    let mut state = state.lock().unwrap();
    state.asked += 1;
    if state.down {
        return Err(StatusCode::BAD_GATEWAY);
    }
    let jwk = SigningKey::from_seed(&[state.seed; 32]).verifying_key().to_jwk();
    Ok(Json(json!({ "keys": [jwk] })))
}

/// The policy that the route tests run under.
pub(super) const POLICY: &str = r#"
[target.prod-db]
url = "postgres://127.0.0.1:5432/shop?sslmode=disable"
credential = { kind = "static", user = "app", password = "file:app.password" }

[role.readonly]
about = "Read the shop"
targets = ["prod-db"]
ttl = "1h"
max_ttl = "8h"
allow = [{ actions = ["select"], on = ["shop.*"] }]

[role.writer]
targets = ["prod-db"]
ttl = "1h"
max_ttl = "2h"
allow = [{ actions = ["select", "update"], on = ["shop.*"] }]

[[access]]
who = { group = "engineering" }
role = "readonly"
target = "prod-db"
approval = "auto"

[[access]]
who = { group = "engineering" }
role = "writer"
target = "prod-db"
approval = { reviewers = "group:dba", count = 2 }
"#;

/// A server with its folder. Stops when dropped.
pub(super) struct TestServer {
    pub(super) app: Arc<App>,
    pub(super) issuer: TestIssuer,
    pub(super) folder: tempfile::TempDir,
    address: SocketAddr,
    client: reqwest::Client,
    stop: CancellationToken,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// An answer of the API.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) text: String,
}

impl Answer {
    /// The body, after checking the status.
    #[track_caller]
    pub(super) fn ok(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }

    /// Checks that it is a problem with this code.
    #[track_caller]
    pub(super) fn refused(self, status: u16, code: &str) {
        assert_eq!(
            (self.status, self.body["code"].as_str()),
            (status, Some(code)),
            "{}",
            self.text
        );
    }
}

impl TestServer {
    pub(super) async fn start() -> Self {
        Self::with_policy(POLICY).await
    }

    pub(super) async fn with_policy(policy: &str) -> Self {
        // Another crate of the test binary may have chosen it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let issuer = TestIssuer::start().await;
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("policy");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("shop.toml"), policy).unwrap();
        std::fs::write(path.join("app.password"), "static-password\n").unwrap();
        let text = format!(
            "listen = \"127.0.0.1:0\"\nstore = \"sqlite:pgate.db\"\narchive = \"file:sessions\"\n\
             signing_key = \"file:signing.key\"\npolicy = \"policy/\"\n\
             [[issuer]]\nname = \"corp\"\nurl = \"{}\"\nclient_id = \"pgate\"\n\
             groups_claim = \"groups\"\n",
            issuer.url
        );
        let config = Config::parse(&text, "pgate.toml", folder.path()).unwrap();
        let server = Server::bind(config).await.unwrap();
        let (app, address) = (server.app.clone(), server.local_addr());
        let stop = CancellationToken::new();
        tokio::spawn(server.run(stop.clone().cancelled_owned()));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { app, issuer, folder, address, client, stop }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends a request; `body` none means no body.
    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<Vec<u8>>,
    ) -> Answer {
        let method = method.parse::<reqwest::Method>().unwrap();
        let mut request = self.client.request(method, self.url(path));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, body, text }
    }

    pub(super) async fn get(&self, path: &str, token: &str) -> Answer {
        self.send("GET", path, Some(token), None).await
    }

    pub(super) async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.send("POST", path, Some(token), Some(body.to_string().into_bytes())).await
    }

    /// Asks for a grant and returns it.
    pub(super) async fn request(&self, token: &str, role: &str) -> Value {
        let body = json!({ "target": "prod-db", "role": role, "reason": "INC-1" });
        self.post("/v1/grants", token, body).await.ok(201)
    }

    /// Opens a session under a grant, with a key of 32 times this byte.
    pub(super) async fn open(&self, token: &str, grant: &Value, key: u8) -> Answer {
        let key = SigningKey::from_seed(&[key; 32]).verifying_key().to_jwk();
        let body = json!({ "grant": grant["id"], "key": key, "version": "0.1.0" });
        self.post("/v1/sessions", token, body).await
    }

    /// Good people of several kinds, by name.
    pub(super) fn people(&self) -> BTreeMap<&'static str, String> {
        let groups: [(&str, &[&str]); 5] = [
            ("ana", &["engineering"]),
            ("bo", &["dba"]),
            ("cy", &["dba"]),
            ("dan", &["engineering", "dba"]),
            ("eve", &["sales"]),
        ];
        groups.iter().map(|(name, groups)| (*name, self.issuer.token(name, groups))).collect()
    }
}
