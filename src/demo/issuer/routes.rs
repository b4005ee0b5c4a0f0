//! The issuer's endpoints.

use std::{collections::HashMap, sync::Arc, time::Instant};

use axum::{
    Json, Router,
    extract::{Query, Request, State as Shared},
    http::{StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{
    Person, State,
    code::{Asked, Granted},
    device::{self, Refusal},
    page,
};

const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// RFC 8628 section 3.2: what a client assumes where the issuer says nothing.
const DEFAULT_INTERVAL: u32 = 5;

type Form = HashMap<String, String>;

pub(super) fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/.well-known/openid-configuration", get(discovery))
        .route("/jwks", get(jwks))
        .route("/authorize", get(authorize).post(authorized))
        .route("/device_authorization", post(device_authorization))
        .route("/token", post(token))
        .route("/device", get(verification).post(answer))
        .layer(from_fn_with_state(Arc::clone(&state), own_name_only))
        .with_state(state)
}

/// Refuses other host names, so that a web page can't reach this issuer by
/// pointing a name of its own at 127.0.0.1.
async fn own_name_only(
    Shared(state): Shared<Arc<State>>,
    request: Request,
    next: Next,
) -> Response {
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    if host != Some(state.authority.as_str()) {
        let text = format!("this issuer answers as {} only\n", state.authority);
        return (StatusCode::MISDIRECTED_REQUEST, text).into_response();
    }
    next.run(request).await
}

/// OpenID Connect Discovery 1.0 section 3, with RFC 8628 section 4.
async fn discovery(Shared(state): Shared<Arc<State>>) -> Json<Value> {
    let url = &state.url;
    Json(json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/authorize"),
        "device_authorization_endpoint": format!("{url}/device_authorization"),
        "token_endpoint": format!("{url}/token"),
        "jwks_uri": format!("{url}/jwks"),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", DEVICE_GRANT, "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA"],
        "token_endpoint_auth_methods_supported": ["none"],
        "scopes_supported": ["openid", "email", "profile", "groups", "offline_access"],
        "claims_supported": ["iss", "sub", "aud", "iat", "exp", "email", "email_verified", "groups"],
    }))
}

async fn jwks(Shared(state): Shared<Arc<State>>) -> Json<Value> {
    let public = |key: &crate::grant::SigningKey| {
        let jwk = key.verifying_key().to_jwk();
        json!({
            "kty": jwk.kty, "crv": jwk.crv, "x": jwk.x, "kid": jwk.kid,
            "use": "sig", "alg": "EdDSA",
        })
    };
    let keys = state.lock().keys.iter().map(public).collect::<Vec<_>>();
    Json(json!({ "keys": keys }))
}

/// RFC 6749 section 4.1.1. What can't be trusted to be the client's address gets no redirect.
async fn authorize(
    Shared(state): Shared<Arc<State>>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    match Asked::read(&state, &query) {
        Ok(_) => Html(page::browser_choice(&state.options.people, &query)).into_response(),
        Err(why) => (StatusCode::BAD_REQUEST, Html(page::message(why))).into_response(),
    }
}

/// The answer of that page: a code, or a refusal, by way of the browser.
async fn authorized(Shared(state): Shared<Arc<State>>, body: String) -> Response {
    let fields = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect::<Vec<_>>();
    let (person, asked): (Vec<_>, Vec<_>) =
        fields.into_iter().partition(|(name, _)| name == "person");
    let said = Asked::read(&state, &asked).and_then(|asked| {
        let email = person.first().map(|(_, email)| email.as_str()).unwrap_or_default();
        let person = match email {
            "" => None,
            email => Some(state.person(email).map_err(|_| "there is nobody with this address")?),
        };
        Ok((asked, person))
    });
    match said {
        Err(why) => (StatusCode::BAD_REQUEST, Html(page::message(why))).into_response(),
        Ok((asked, person)) => {
            let back = asked.answered(&state.url, person, &mut state.lock().codes, Instant::now());
            Redirect::to(back.as_str()).into_response()
        }
    }
}

/// RFC 8628 section 3.1.
async fn device_authorization(Shared(state): Shared<Arc<State>>, body: String) -> Response {
    let form = form(&body);
    if let Err(refusal) = known_client(&state, &form) {
        return refusal;
    }
    let (lifetime, interval) = (state.options.code_lifetime, state.options.interval);
    let seconds = u64::from(interval.unwrap_or(DEFAULT_INTERVAL));
    let pause = std::time::Duration::from_secs(seconds);
    let codes = state.lock().flows.begin(Instant::now(), lifetime, pause);
    let page = format!("{}/device", state.url);
    let mut body = json!({
        "device_code": codes.device,
        "user_code": codes.user,
        "verification_uri_complete": format!("{page}?user_code={}", codes.user),
        "verification_uri": page,
        "expires_in": lifetime.as_secs(),
    });
    if let Some(interval) = interval {
        body["interval"] = json!(interval);
    }
    unstored(StatusCode::OK, &body)
}

/// RFC 6749 sections 5 and 6, RFC 8628 section 3.4.
async fn token(Shared(state): Shared<Arc<State>>, body: String) -> Response {
    let form = form(&body);
    if let Err(refusal) = known_client(&state, &form) {
        return refusal;
    }
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    if field("grant_type") == "authorization_code" {
        let redeemed = state.lock().codes.redeem(&form, Instant::now());
        return match redeemed {
            Some(granted) => id_token_only(&state, &granted),
            None => refused(Refusal::InvalidGrant.code()),
        };
    }
    let granted = match field("grant_type") {
        DEVICE_GRANT => {
            let mut inner = state.lock();
            inner.flows.poll(field("device_code"), Instant::now()).map(|person| {
                let refresh = inner.flows.first_refresh_token(person.clone());
                (person, refresh)
            })
        }
        "refresh_token" => state.lock().flows.refresh(field("refresh_token")),
        _ => return refused("unsupported_grant_type"),
    };
    match granted {
        Ok((person, refresh)) => tokens(&state, &person, &refresh),
        Err(refusal) => refused(Refusal::code(refusal)),
    }
}

/// The response's body is where these secrets are meant to go.
fn tokens(state: &State, person: &Person, refresh: &str) -> Response {
    let id_token = state.sign(&state.id_claims(person));
    let body = json!({
        "token_type": "Bearer",
        "access_token": device::random_token(),
        "expires_in": state.options.token_lifetime.as_secs(),
        "refresh_token": refresh,
        "id_token": id_token.expose_secret(),
        "scope": "openid email groups offline_access",
    });
    unstored(StatusCode::OK, &body)
}

/// What a browser's sign-in gives: nothing that renews it.
fn id_token_only(state: &State, granted: &Granted) -> Response {
    let mut claims = state.id_claims(&granted.person);
    if let Some(nonce) = &granted.nonce {
        claims.insert("nonce".to_owned(), json!(nonce));
    }
    let body = json!({
        "token_type": "Bearer",
        "access_token": device::random_token(),
        "expires_in": state.options.token_lifetime.as_secs(),
        "id_token": state.sign(&claims).expose_secret(),
        "scope": "openid email groups",
    });
    unstored(StatusCode::OK, &body)
}

async fn verification(
    Shared(state): Shared<Arc<State>>,
    Query(query): Query<Form>,
) -> Html<String> {
    let code = query.get("user_code").map(String::as_str).unwrap_or_default();
    Html(page::choice(&state.options.people, code))
}

async fn answer(Shared(state): Shared<Arc<State>>, body: String) -> Response {
    let form = form(&body);
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let result = match field("person") {
        "" => state.deny(field("user_code")).map(|()| "Login refused.".to_owned()),
        email => {
            let done = state.approve(field("user_code"), email);
            done.map(|()| format!("You are {email} now. Go back to the terminal."))
        }
    };
    match result {
        Ok(text) => Html(page::message(&text)).into_response(),
        Err(error) => {
            (StatusCode::BAD_REQUEST, Html(page::message(&error.to_string()))).into_response()
        }
    }
}

#[expect(clippy::result_large_err, reason = "the error is the response itself, made once")]
fn known_client(state: &State, form: &Form) -> Result<(), Response> {
    if form.get("client_id") == Some(&state.options.client_id) {
        return Ok(());
    }
    Err(unstored(StatusCode::UNAUTHORIZED, &json!({ "error": "invalid_client" })))
}

fn refused(error: &str) -> Response {
    unstored(StatusCode::BAD_REQUEST, &json!({ "error": error }))
}

fn unstored(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

fn form(body: &str) -> Form {
    url::form_urlencoded::parse(body.as_bytes()).into_owned().collect()
}
