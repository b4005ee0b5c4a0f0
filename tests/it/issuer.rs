//! The development issuer, as a strict client sees it: the `openidconnect` crate.

use std::{collections::BTreeMap, time::Duration};

use openidconnect::{
    ClientId, IssuerUrl, JsonWebKeySetUrl, NonceVerifier,
    core::{
        CoreIdToken, CoreIdTokenVerifier, CoreJsonWebKeySet, CoreJwsSigningAlgorithm,
        CoreProviderMetadata,
    },
};
use pgate::demo::issuer::{Issuer, Options};
use secrecy::ExposeSecret as _;
use serde_json::Value;

/// An HTTP client that follows no redirects.
fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

async fn post(url: &str, form: &[(&str, &str)]) -> (u16, Value) {
    let answer = http().post(url).form(form).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn metadata(issuer: &Issuer) -> (CoreProviderMetadata, Value) {
    let url = format!("{}/.well-known/openid-configuration", issuer.url());
    let text = http().get(url).send().await.unwrap().text().await.unwrap();
    (serde_json::from_str(&text).unwrap(), serde_json::from_str(&text).unwrap())
}

async fn keys(metadata: &CoreProviderMetadata) -> CoreJsonWebKeySet {
    let url: &JsonWebKeySetUrl = metadata.jwks_uri();
    let text = http().get(url.as_str()).send().await.unwrap().text().await.unwrap();
    serde_json::from_str(&text).unwrap()
}

fn no_nonce() -> impl NonceVerifier {
    |_: Option<&openidconnect::Nonce>| Ok(())
}

/// The subject of a token that holds under the issuer's published keys.
async fn verified(issuer: &Issuer, audience: &str, token: &str) -> Result<String, String> {
    let (metadata, _) = metadata(issuer).await;
    let verifier = CoreIdTokenVerifier::new_public_client(
        ClientId::new(audience.to_owned()),
        IssuerUrl::new(issuer.url().to_owned()).unwrap(),
        keys(&metadata).await,
    )
    .set_allowed_algs([CoreJwsSigningAlgorithm::EdDsa]);
    let token: CoreIdToken = token.parse().map_err(|error| format!("{error}"))?;
    let claims = token.claims(&verifier, no_nonce()).map_err(|error| format!("{error}"))?;
    Ok(claims.subject().to_string())
}

async fn begin(issuer: &Issuer) -> Value {
    let (_, discovery) = metadata(issuer).await;
    let url = discovery["device_authorization_endpoint"].as_str().unwrap();
    let (status, body) = post(url, &[("client_id", "pgate"), ("scope", "openid email")]).await;
    assert_eq!(status, 200, "{body}");
    body
}

async fn poll(issuer: &Issuer, started: &Value) -> (u16, Value) {
    let form = [
        ("client_id", "pgate"),
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", started["device_code"].as_str().unwrap()),
    ];
    post(&format!("{}/token", issuer.url()), &form).await
}

#[tokio::test]
async fn the_device_flow_ends_in_an_id_token_that_a_strict_client_accepts() {
    let issuer = Issuer::start(Options::default()).await.unwrap();
    let started = begin(&issuer).await;
    assert_eq!(started["interval"], 1);
    let (status, waiting) = poll(&issuer, &started).await;
    assert_eq!((status, waiting["error"].as_str()), (400, Some("authorization_pending")));
    let (_, hasty) = poll(&issuer, &started).await;
    assert_eq!(hasty["error"], "slow_down");

    let page = http().get(started["verification_uri_complete"].as_str().unwrap());
    let page = page.send().await.unwrap().text().await.unwrap();
    let code = started["user_code"].as_str().unwrap();
    assert!(page.contains(code) && page.contains("dan@example.com (engineering, dba)"), "{page}");
    let form = [("user_code", code), ("person", "dan@example.com")];
    let url = started["verification_uri"].as_str().unwrap();
    let chosen = http().post(url).form(&form).send().await.unwrap();
    assert_eq!(chosen.status(), 200);

    tokio::time::sleep(Duration::from_secs(6)).await;
    let (status, tokens) = poll(&issuer, &started).await;
    assert_eq!(status, 200, "{}", tokens["error"]);
    let token = tokens["id_token"].as_str().unwrap();
    assert_eq!(verified(&issuer, "pgate", token).await, Ok("dan".to_owned()));
    assert!(verified(&issuer, "another-client", token).await.is_err());

    let refresh = tokens["refresh_token"].as_str().unwrap();
    let form =
        [("client_id", "pgate"), ("grant_type", "refresh_token"), ("refresh_token", refresh)];
    let url = format!("{}/token", issuer.url());
    let (status, renewed) = post(&url, &form).await;
    assert_eq!(status, 200);
    assert_ne!(renewed["refresh_token"], tokens["refresh_token"]);
    let (status, body) = post(&url, &form).await;
    assert_eq!((status, body["error"].as_str()), (400, Some("invalid_grant")));
}

#[tokio::test]
async fn a_rotated_key_is_published_and_a_withdrawn_one_no_longer_counts() {
    let issuer = Issuer::start(Options::default()).await.unwrap();
    let old = issuer.id_token("ana@example.com").unwrap();
    issuer.rotate_key();
    let new = issuer.id_token("ana@example.com").unwrap();
    for token in [&old, &new] {
        assert!(verified(&issuer, "pgate", token.expose_secret()).await.is_ok());
    }
    issuer.withdraw_old_keys();
    assert!(verified(&issuer, "pgate", old.expose_secret()).await.is_err());
    assert!(verified(&issuer, "pgate", new.expose_secret()).await.is_ok());
}

#[tokio::test]
async fn a_workload_token_carries_the_claims_that_access_rules_match() {
    let issuer = Issuer::start(Options::default()).await.unwrap();
    let claims = BTreeMap::from([("repository".to_owned(), "acme/shop".to_owned())]);
    let token = issuer.workload_token("pgate-ci", "repo:acme/shop", &claims);
    let subject = verified(&issuer, "pgate-ci", token.expose_secret()).await;
    assert_eq!(subject, Ok("repo:acme/shop".to_owned()));
}

#[tokio::test]
async fn strangers_are_turned_away() {
    let issuer = Issuer::start(Options::default()).await.unwrap();
    assert!(issuer.approve("BCDF-BCDF", "ana@example.com").is_err());
    let started = begin(&issuer).await;
    let code = started["user_code"].as_str().unwrap();
    assert!(issuer.approve(code, "eve@example.com").is_err());
    let url = format!("{}/device_authorization", issuer.url());
    let (status, body) = post(&url, &[("client_id", "another")]).await;
    assert_eq!((status, body["error"].as_str()), (401, Some("invalid_client")));
    let named = http().get(format!("{}/jwks", issuer.url())).header("host", "evil.example");
    assert_eq!(named.send().await.unwrap().status(), 421);
}

#[tokio::test]
async fn a_refused_login_and_an_expired_code_are_told_apart() {
    let code_lifetime = Duration::from_secs(2);
    let options = Options { code_lifetime, interval: None, ..Options::default() };
    let issuer = Issuer::start(options).await.unwrap();
    let (refused, expired) = (begin(&issuer).await, begin(&issuer).await);
    assert!(refused.get("interval").is_none());
    issuer.deny(refused["user_code"].as_str().unwrap()).unwrap();
    assert_eq!(poll(&issuer, &refused).await.1["error"], "access_denied");
    tokio::time::sleep(code_lifetime).await;
    assert_eq!(poll(&issuer, &expired).await.1["error"], "expired_token");
}
