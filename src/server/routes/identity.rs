//! Who the caller is and what they may ask for.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State, http::Method, routing::get};

use super::{Caller, Handled, Route};
use crate::{
    api::{TargetList, TargetRole, TargetView},
    grant::Identity,
    policy::{AccessApproval, Reviewers},
    server::{access, app::App},
};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route { method: Method::GET, path: "/v1/whoami", handler: get(whoami) },
        Route { method: Method::GET, path: "/v1/targets", handler: get(targets) },
    ]
}

async fn whoami(Caller(identity): Caller) -> Json<Identity> {
    Json(identity)
}

async fn targets(State(app): State<Arc<App>>, Caller(identity): Caller) -> Handled<TargetList> {
    let policy = app.policy.current();
    let mut targets = BTreeMap::<&str, Vec<TargetRole>>::new();
    for choice in access::choices(&policy, &identity) {
        targets.entry(choice.target).or_default().push(TargetRole {
            role: choice.role.name.clone(),
            about: choice.role.about.clone(),
            approval: in_words(choice.approval),
            ttl_seconds: choice.role.ttl_seconds.min(choice.max_ttl_seconds),
            max_ttl_seconds: choice.max_ttl_seconds,
        });
    }
    let targets = targets
        .into_iter()
        .map(|(target, roles)| TargetView { target: target.to_owned(), roles })
        .collect();
    Ok(Json(TargetList { targets }))
}

fn in_words(approval: &AccessApproval) -> String {
    match approval {
        AccessApproval::Auto => "auto".to_owned(),
        AccessApproval::Reviewers { reviewers, count } => {
            let who = match reviewers {
                Reviewers::Group(group) => format!("group:{group}"),
                Reviewers::User(user) => format!("user:{user}"),
            };
            match count {
                0 | 1 => who,
                count => format!("{count} of {who}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use crate::{
        grant::SigningKey,
        server::testing::{TestIssuer, TestServer},
    };

    #[tokio::test]
    async fn a_good_token_says_who_one_is_and_what_one_may_ask_for() {
        let server = TestServer::start().await;
        let mut claims = server.issuer.claims("ana", &["engineering"]);
        claims["repository"] = json!("acme/shop");
        let token = server.issuer.sign(&claims);
        let who = server.get("/v1/whoami", &token).await.ok(200);
        assert_eq!(
            who,
            json!({"issuer": "corp", "subject": "ana", "email": "ana@example.com",
                   "groups": ["engineering"], "claims": {"repository": "acme/shop"}})
        );
        let targets = server.get("/v1/targets", &token).await.ok(200);
        let roles = &targets["targets"][0]["roles"];
        assert_eq!(roles[0]["role"], "readonly");
        assert_eq!(roles[0]["approval"], "auto");
        assert_eq!(roles[1]["approval"], "2 of group:dba");
        let none = server.get("/v1/targets", &server.people()["eve"]).await.ok(200);
        assert_eq!(none, json!({"targets": []}));
    }

    #[tokio::test]
    async fn an_address_that_the_issuer_calls_unverified_is_nobodys() {
        let server = TestServer::start().await;
        let mut claims = server.issuer.claims("ana", &[]);
        claims["email_verified"] = json!(false);
        let who = server.get("/v1/whoami", &server.issuer.sign(&claims)).await.ok(200);
        assert_eq!(who.get("email"), None);
    }

    fn forged(header: Value, claims: &Value, signature: &str) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.{signature}", part(&header), part(claims))
    }

    #[tokio::test]
    async fn every_bad_token_is_refused_with_its_own_reason_and_never_repeated() {
        let server = TestServer::start().await;
        let issuer = &server.issuer;
        let good = issuer.claims("ana", &["engineering"]);
        let now = jiff::Timestamp::now().as_second();
        let with = |key: &str, value: Value| {
            let mut claims = good.clone();
            claims[key] = value;
            issuer.sign(&claims)
        };
        let thief = SigningKey::from_seed(&[9; 32]);
        let real_kid = SigningKey::from_seed(&[1; 32]).verifying_key().id();
        let stolen = thief.sign_jws("JWT", &good).unwrap();
        let (body, mac) = stolen.rsplit_once('.').unwrap();
        let payload = body.split_once('.').unwrap().1;
        let impostor = URL_SAFE_NO_PAD
            .encode(json!({"alg": "EdDSA", "kid": real_kid, "typ": "JWT"}).to_string());
        let none = json!({"alg": "none", "typ": "JWT"});
        let hs256 = json!({"alg": "HS256", "typ": "JWT", "kid": real_kid});
        let cases = [
            (with("exp", json!(now - 1)), "token_expired"),
            (with("aud", json!("other")), "wrong_audience"),
            (with("aud", json!(["pgate", "other"])), "wrong_audience"),
            (with("iss", json!("https://evil.example.com")), "unknown_issuer"),
            (with("nbf", json!(now + 3600)), "token_not_valid_yet"),
            (with("iat", json!(now + 3600)), "token_not_valid_yet"),
            (with("sub", json!("")), "bad_token"),
            (forged(none.clone(), &good, ""), "bad_signature"),
            (forged(none, &good, "AAAA"), "bad_signature"),
            (forged(hs256, &good, mac), "bad_signature"),
            (stolen.clone(), "bad_signature"),
            (format!("{impostor}.{payload}.{mac}"), "bad_signature"),
            ("x".repeat(40_000), "bad_token"),
            ("a.b".into(), "bad_token"),
            ("a.b.c".into(), "bad_token"),
            (String::new(), "bad_token"),
        ];
        for (token, code) in cases {
            // Header values of this size are refused by the HTTP layer itself.
            if token.len() > 30_000 {
                assert_ne!(server.get("/v1/whoami", &token).await.status, 200);
                continue;
            }
            let answer = server.get("/v1/whoami", &token).await;
            assert!(token.is_empty() || !answer.text.contains(&token), "{}", answer.text);
            if token.is_empty() {
                assert_eq!(answer.status, 401);
            } else {
                answer.refused(401, code);
            }
        }
        server.send("GET", "/v1/whoami", None, None).await.refused(401, "no_token");
    }

    #[tokio::test]
    async fn a_new_key_is_found_and_strangers_cannot_make_the_server_ask_without_end() {
        let server = TestServer::start().await;
        server.get("/v1/whoami", &server.issuer.token("ana", &[])).await.ok(200);
        assert_eq!(server.issuer.asked(), 1, "keys are cached");
        let thief = SigningKey::from_seed(&[9; 32]);
        let stolen = thief.sign_jws("JWT", &server.issuer.claims("ana", &[])).unwrap();
        for _ in 0..5 {
            server.get("/v1/whoami", &stolen).await.refused(401, "bad_signature");
        }
        assert_eq!(server.issuer.asked(), 2, "asked once for a key that isn't there");
    }

    #[tokio::test]
    async fn a_key_that_the_issuer_has_just_begun_to_use_is_found() {
        let server = TestServer::start().await;
        let old = server.issuer.token("ana", &[]);
        server.get("/v1/whoami", &old).await.ok(200);
        server.issuer.rotate();
        server.get("/v1/whoami", &server.issuer.token("ana", &[])).await.ok(200);
        server.get("/v1/whoami", &old).await.refused(401, "bad_signature");
    }

    #[tokio::test]
    async fn an_issuer_that_is_down_is_told_apart_from_a_bad_token() {
        let server = TestServer::start().await;
        server.issuer.set_down(true);
        let token = server.issuer.token("ana", &[]);
        server.get("/v1/whoami", &token).await.refused(503, "issuer_unreachable");
        let other = TestIssuer::start().await.token("ana", &[]);
        server.get("/v1/whoami", &other).await.refused(401, "unknown_issuer");
    }
}
