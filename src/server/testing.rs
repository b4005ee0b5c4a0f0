//! A real server in this process, an issuer that it trusts, and callers: what the
//! tests of the routes share.

mod held;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use axum::{
    Form, Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{Server, app::App, config::Config};
use crate::grant::SigningKey;
pub(super) use held::{HELD, Held};

/// An issuer on loopback, whose keys can be changed and which can be made to fail.
pub(super) struct TestIssuer {
    pub(super) url: String,
    state: Arc<Mutex<IssuerState>>,
}

struct IssuerState {
    seed: u8,
    down: bool,
    asked: u32,
    codes: BTreeMap<String, Code>,
}

/// What a code of the authorization code flow gives, and the PKCE challenge it takes.
struct Code {
    challenge: String,
    redirect: String,
    id_token: String,
}

impl TestIssuer {
    pub(super) async fn start() -> Self {
        let state = Arc::new(Mutex::new(IssuerState {
            seed: 1,
            down: false,
            asked: 0,
            codes: BTreeMap::new(),
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let discovery = json!({
            "issuer": url,
            "jwks_uri": format!("{url}/jwks"),
            "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"),
            "authorization_response_iss_parameter_supported": true,
            "id_token_signing_alg_values_supported": ["EdDSA", "HS256", "none"],
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(async move || Json(discovery)))
            .route("/jwks", get(jwks))
            .route("/token", post(token))
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

    /// Answers the request for a sign-in that a browser was sent here with: the address
    /// that the browser is sent back to. `claims` are put over the person's good ones.
    pub(super) fn sign_in(
        &self,
        asked: &Url,
        subject: &str,
        groups: &[&str],
        claims: &Value,
    ) -> Url {
        let asked = asked.query_pairs().into_owned().collect::<BTreeMap<_, _>>();
        assert_eq!((&*asked["response_type"], &*asked["client_id"]), ("code", "pgate"));
        assert_eq!(asked["code_challenge_method"], "S256");
        assert!(asked["scope"].split(' ').any(|scope| scope == "openid"));
        let mut all = self.claims(subject, groups);
        all["nonce"] = json!(asked["nonce"]);
        for (name, value) in claims.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        let code = Code {
            challenge: asked["code_challenge"].clone(),
            redirect: asked["redirect_uri"].clone(),
            id_token: self.sign(&all),
        };
        let mut state = self.state.lock().unwrap();
        let name = format!("code-{}", state.codes.len());
        let mut back = Url::parse(&code.redirect).unwrap();
        back.query_pairs_mut()
            .append_pair("code", &name)
            .append_pair("state", &asked["state"])
            .append_pair("iss", &self.url);
        state.codes.insert(name, code);
        back
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

/// RFC 6749 section 4.1.3 with RFC 7636 section 4.6. A code is good for every try, so that
/// what refuses the second is not this issuer.
async fn token(
    State(state): State<Arc<Mutex<IssuerState>>>,
    Form(form): Form<BTreeMap<String, String>>,
) -> Result<Json<Value>, (StatusCode, Json<Value>)> {
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(field("code_verifier")));
    let state = state.lock().unwrap();
    let good = field("grant_type") == "authorization_code" && field("client_id") == "pgate";
    match state.codes.get(field("code")) {
        Some(code)
            if good && code.challenge == challenge && code.redirect == field("redirect_uri") =>
        {
            Ok(Json(json!({
                "access_token": "unused", "token_type": "Bearer", "id_token": code.id_token,
            })))
        }
        _ => Err((StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" })))),
    }
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
        Self::with(policy, "", "").await
    }

    /// With further settings, before and after its issuer. `ISSUER` in them is its URL.
    pub(super) async fn with(policy: &str, before: &str, after: &str) -> Self {
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
             signing_key = \"file:signing.key\"\npolicy = \"policy/\"\n{before}\n\
             [[issuer]]\nname = \"corp\"\nurl = \"{}\"\nclient_id = \"pgate\"\n\
             groups_claim = \"groups\"\n{after}",
            issuer.url
        )
        .replace("ISSUER", &issuer.url);
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
