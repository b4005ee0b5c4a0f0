//! The answers that an issuer rarely gives, over loopback. That the flow works
//! against whole providers is tested where the command line is.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::Signer as _;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::*;

/// An issuer whose token endpoint gives the answers of a list.
struct Odd {
    issuer: Issuer,
    asked: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
struct Script {
    url: String,
    authorization: Value,
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

fn key() -> ed25519_dalek::SigningKey {
    ed25519_dalek::SigningKey::from_bytes(&[7; 32])
}

/// An ID token with these claims; `{url}` stands for the issuer.
fn id_token(claims: &Value) -> String {
    let header = json!({ "alg": "EdDSA", "kid": "k", "typ": "JWT" });
    let text = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let signature = URL_SAFE_NO_PAD.encode(key().sign(text.as_bytes()).to_bytes());
    format!("{text}.{signature}")
}

fn claims(url: &str) -> Value {
    let now = Timestamp::now().as_second();
    json!({
        "iss": url, "aud": "pgate", "sub": "u-1", "email": "ana@example.com",
        "iat": now, "exp": now + 3600
    })
}

fn tokens(claims: &Value) -> (u16, String) {
    let answer = json!({
        "access_token": "secret-access", "token_type": "Bearer", "expires_in": 3600,
        "refresh_token": "secret-refresh", "id_token": id_token(claims)
    });
    (200, answer.to_string())
}

fn says(error: &str) -> (u16, String) {
    (400, json!({ "error": error, "error_description": "\u{1b}[31mwhy" }).to_string())
}

async fn discovery(State(script): State<Script>) -> String {
    let url = &script.url;
    json!({
        "issuer": url, "jwks_uri": format!("{url}/jwks"), "token_endpoint": format!("{url}/token"),
        "device_authorization_endpoint": format!("{url}/device")
    })
    .to_string()
}

async fn keys() -> String {
    let x = URL_SAFE_NO_PAD.encode(key().verifying_key().as_bytes());
    json!({ "keys": [
        { "kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k", "use": "sig", "alg": "EdDSA" },
        { "kty": "from the future", "kid": "f" }
    ]})
    .to_string()
}

async fn token(State(script): State<Script>, body: String) -> impl IntoResponse {
    script.asked.lock().expect("unpoisoned").push(body);
    let answer = script.answers.lock().expect("unpoisoned").pop_front();
    let (status, body) = answer.unwrap_or((404, "nothing is left to say".into()));
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [(header::CONTENT_TYPE, "application/json")], body)
}

impl Odd {
    async fn issuer(
        authorization: impl Fn(&str) -> Value,
        answers: impl Fn(&str) -> Vec<(u16, String)>,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let script = Script {
            authorization: authorization(&url),
            answers: Arc::new(Mutex::new(answers(&url).into())),
            asked: Arc::default(),
            url: url.clone(),
        };
        let asked = script.asked.clone();
        let device = |State(script): State<Script>| async move { axum::Json(script.authorization) };
        let app = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(keys))
            .route("/device", post(device))
            .route("/token", post(token))
            .with_state(script);
        tokio::spawn(async move { axum::serve(listener, app).await });
        let scopes = vec!["offline_access".into()];
        let issuer = Issuer { name: "corp".into(), url, client_id: "pgate".into(), scopes };
        Self { issuer, asked }
    }

    async fn ordinary(answers: impl Fn(&str) -> Vec<(u16, String)>) -> Self {
        Self::issuer(authorization, answers).await
    }

    /// Runs the flow; the pauses in it are kept instead of waited for.
    async fn log_in(&self) -> (Result<Login, Error>, Vec<u64>) {
        let pauses = Mutex::new(Vec::new());
        let sleep = |pause: Duration| {
            pauses.lock().expect("unpoisoned").push(pause.as_secs());
            std::future::ready(())
        };
        let outcome = match Authorization::begin(&self.issuer).await {
            Ok(authorization) => authorization.wait_by(sleep).await,
            Err(error) => Err(error),
        };
        (outcome, pauses.into_inner().expect("unpoisoned"))
    }
}

fn authorization(url: &str) -> Value {
    json!({
        "device_code": "secret-device-code", "user_code": "WDJB-MJHT",
        "verification_uri": format!("{url}/enter"),
        "verification_uri_complete": format!("{url}/enter?code=WDJB-MJHT"), "expires_in": 600
    })
}

#[tokio::test]
async fn it_waits_as_long_as_the_issuer_asks_and_keeps_a_good_token() {
    let odd = Odd::ordinary(|url| {
        vec![
            says("authorization_pending"),
            says("slow_down"),
            (500, "<html>".into()),
            says("authorization_pending"),
            says("slow_down"),
            tokens(&claims(url)),
        ]
    })
    .await;
    let (outcome, pauses) = odd.log_in().await;
    let login = outcome.expect("logged in");
    assert_eq!((login.who(), login.issuer()), ("ana@example.com", "corp"));
    assert!(login.is_renewable() && !login.is_stale(Timestamp::now()));
    // Without `interval` it is 5 s (RFC 8628, section 3.2), and each slow_down adds 5.
    assert_eq!(pauses, [5, 10, 10, 15]);
    let asked = odd.asked.lock().expect("unpoisoned").clone();
    assert!(asked.iter().all(|body| body.contains("device_code=secret-device-code")));
    assert!(asked.iter().all(|body| body.contains("client_id=pgate")), "{asked:?}");
}

#[tokio::test]
async fn every_other_answer_ends_the_flow_with_its_own_error() {
    type Check = fn(&Error) -> bool;
    let cases: [(&str, (u16, String), Check); 9] = [
        ("access_denied", says("access_denied"), |e| matches!(e, Error::Denied { .. })),
        ("expired_token", says("expired_token"), |e| matches!(e, Error::CodeExpired)),
        ("invalid_client", says("invalid_client"), |e| matches!(e, Error::IssuerRefused { .. })),
        ("an unknown word", says("moon_phase"), |e| matches!(e, Error::IssuerRefused { .. })),
        ("a web page", (200, "<html>".into()), |e| matches!(e, Error::Garbage { .. })),
        ("an error page", (403, "<html>".into()), |e| matches!(e, Error::Garbage { .. })),
        ("nothing", (200, String::new()), |e| matches!(e, Error::Garbage { .. })),
        ("a redirect", (302, String::new()), |e| matches!(e, Error::Garbage { .. })),
        (
            "no ID token",
            (200, r#"{"access_token":"secret-access","token_type":"Bearer"}"#.into()),
            |e| matches!(e, Error::BadIdToken { .. }),
        ),
    ];
    for (name, answer, fits) in cases {
        let odd = Odd::ordinary(|_| vec![answer.clone()]).await;
        let error = odd.log_in().await.0.expect_err(name);
        assert!(fits(&error), "{name}: {error:?}");
        assert!(!format!("{error:?} {error}").contains("secret"), "{name}: {error:?}");
        assert!(error.hint().is_some(), "{name}");
    }
}

#[tokio::test]
async fn a_token_for_somebody_else_or_by_nobody_is_not_kept() {
    type Spoil = fn(&mut Value);
    let cases: [(&str, Spoil, &str); 4] = [
        ("another issuer", |c| c["iss"] = json!("https://evil.example"), "issuer"),
        ("another audience", |c| c["aud"] = json!("shop"), "audience"),
        ("no end", |c| c["exp"] = Value::Null, ""),
        ("no subject", |c| c["sub"] = Value::Null, ""),
    ];
    for (name, spoil, said) in cases {
        let odd = Odd::ordinary(|url| {
            let mut claims = claims(url);
            spoil(&mut claims);
            vec![tokens(&claims)]
        })
        .await;
        let error = odd.log_in().await.0.expect_err(name);
        assert!(error.to_string().to_lowercase().contains(said), "{name}: {error}");
    }

    let forged = |url: &str| {
        let (status, body) = tokens(&claims(url));
        let mut answer: Value = serde_json::from_str(&body).expect("ours");
        let token = answer["id_token"].as_str().expect("a string").to_owned();
        let (signed, _) = token.rsplit_once('.').expect("a JWS");
        answer["id_token"] = json!(format!("{signed}.{}", URL_SAFE_NO_PAD.encode([1; 64])));
        vec![(status, answer.to_string())]
    };
    let error = Odd::ordinary(forged).await.log_in().await.0.expect_err("forged");
    assert!(error.to_string().contains("ignature"), "{error}");
}

#[tokio::test]
async fn a_fresh_token_that_is_over_already_names_the_clock() {
    let odd = Odd::ordinary(|url| {
        let mut claims = claims(url);
        let then = Timestamp::now().as_second() - 7200;
        (claims["iat"], claims["exp"]) = (json!(then), json!(then + 3600));
        vec![tokens(&claims)]
    })
    .await;
    let error = odd.log_in().await.0.expect_err("a wrong clock");
    assert!(matches!(error, Error::ClockAhead { minutes: 120, .. }), "{error:?}");
}

#[tokio::test]
async fn a_device_authorization_that_no_one_could_follow_is_refused() {
    for (name, key, value) in [
        ("a page that is a program", "verification_uri", json!("file:///bin/sh")),
        ("a page in the clear", "verification_uri", json!("http://idp.example/enter")),
        ("an endless pause", "interval", json!(u64::MAX)),
        ("an endless life", "expires_in", json!(u64::MAX)),
        ("no code", "user_code", Value::Null),
    ] {
        let spoilt = |url: &str| {
            let mut details = authorization(url);
            details[key] = value.clone();
            details
        };
        let odd = Odd::issuer(spoilt, |_| Vec::new()).await;
        let error = odd.log_in().await.0.expect_err(name);
        assert!(matches!(error, Error::Garbage { .. }), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn an_issuer_that_is_another_or_nowhere_is_named() {
    let odd = Odd::ordinary(|_| Vec::new()).await;
    let mut issuer = odd.issuer.clone();
    issuer.url.push('/');
    let error = Authorization::begin(&issuer).await.expect_err("another URL");
    assert!(matches!(error, Error::Garbage { .. }), "{error:?}");

    let plain = Issuer { url: "http://idp.example".into(), ..odd.issuer.clone() };
    let error = Authorization::begin(&plain).await.expect_err("in the clear");
    assert!(matches!(error, Error::Insecure { .. }), "{error:?}");
}

#[tokio::test]
async fn a_login_is_renewed_and_an_ended_one_says_so() {
    let odd = Odd::ordinary(|url| {
        let mut later = claims(url);
        later["email"] = json!("ana@new.example");
        let mut other = claims(url);
        other["sub"] = json!("u-2");
        vec![tokens(&claims(url)), tokens(&later), tokens(&other), says("invalid_grant")]
    })
    .await;
    let login = odd.log_in().await.0.expect("logged in");
    let renewed = login.renewed().await.expect("renewed");
    assert_eq!(renewed.who(), "ana@new.example");
    assert_ne!(renewed.id_token().expose_secret(), login.id_token().expose_secret());
    assert!(matches!(login.renewed().await, Err(Error::BadIdToken { .. })));
    assert!(matches!(login.renewed().await, Err(Error::LoginEnded { .. })));
    let asked = odd.asked.lock().expect("unpoisoned").clone();
    assert!(asked[1].contains("grant_type=refresh_token"), "{}", asked[1]);
}
