//! Opening sessions, looking at them, and closing them.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, State},
    http::{Method, StatusCode},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;

use super::{Body, Caller, Handled, Query, Route, Token, Wait, session_of};
use crate::{
    api::{OpenSession, OpenedSession, SessionList, SessionState, SessionView},
    grant::{
        Confirmation, Grant, Identity, SessionGrant, SessionId, SignedGrant, State as GrantState,
        VerifyingKey,
    },
    journal::Receiver,
    policy::Role,
    server::{
        access,
        app::{App, random},
        broker::Opening,
        problem::Refusal,
        sessions,
        store::{EndState, NewSession, StoredGrant},
    },
};

/// How many sessions of one grant may be open at a time.
const MOST_SESSIONS: usize = 64;
const LONGEST_VERSION: usize = 64;
const LIST_LENGTH: u32 = 50;
const LONGEST_LIST: u32 = 1000;
/// What upload tokens begin with: so they are told from OIDC tokens, and found by
/// whoever looks for leaked secrets.
pub(super) const UPLOAD_TOKEN: &str = "pgu_";
/// How long the broker may take.
const OPENING: Duration = Duration::from_secs(60);

pub(super) fn routes() -> Vec<Route> {
    let on = |method, path, handler| Route { method, path, handler };
    vec![
        on(Method::POST, "/v1/sessions", post(open)),
        on(Method::GET, "/v1/sessions", get(list)),
        on(Method::GET, "/v1/sessions/{id}", get(show)),
        on(Method::GET, "/v1/sessions/{id}/state", get(state)),
        on(Method::POST, "/v1/sessions/{id}/close", post(close)),
    ]
}

async fn open(
    State(app): State<Arc<App>>,
    Caller(identity): Caller,
    Body(asked): Body<OpenSession>,
) -> Result<(StatusCode, Json<OpenedSession>), Refusal> {
    let key = VerifyingKey::from_jwk(&asked.key)
        .map_err(|error| Refusal::bad_request("bad_key", error.to_string()))?;
    if asked.version.len() > LONGEST_VERSION {
        return Err(Refusal::bad_request("bad_request", "the version is too long"));
    }
    let now = app.now();
    let stored = own_grant(&app, &asked, &identity).await?;
    let expires_at = active_until(&stored.grant, now)?;
    room_for_another(&app, &stored.grant).await?;
    // What was granted yesterday still needs today's policy to say so.
    let policy = app.policy.current();
    let Grant { target, role, .. } = &stored.grant;
    let choice = access::choose(&policy, &identity, target, role, None).map_err(|_| {
        Refusal::forbidden(
            "not_allowed",
            format!("the policy no longer lets you have the role \"{role}\" on \"{target}\""),
        )
        .hint("see what you may ask for: pgate targets")
    })?;
    let GrantState::Active { approvals, .. } = &stored.grant.state else {
        return Err(not_active(&stored.grant.id.to_string(), "is no longer active"));
    };
    let ttl = stored.grant.ttl_seconds;
    if !access::still_granted(&policy, &identity, (target, role), ttl, approvals) {
        return Err(Refusal::forbidden(
            "not_approved",
            format!(
                "the policy has changed: the role \"{role}\" on \"{target}\" now takes other \
                 approvals, or a shorter time, than the grant {} has",
                stored.grant.id
            ),
        )
        .hint(format!("take it back and ask anew: pgate grants revoke {}", stored.grant.id)));
    }
    let target = policy
        .targets
        .get(choice.target)
        .ok_or_else(|| Refusal::not_found("unknown_target", "the target is gone"))?;

    let document = choice.role.to_document();
    let version = Role::version(&document);
    let session = SessionId::from_random(random()?);
    let grant = sign(&app, &stored.grant, &identity, &session, &key, &version, now, expires_at)?;
    let opening = Opening {
        session: &session,
        target,
        role: choice.role,
        version: &version,
        expires_at,
        now,
    };
    let database = tokio::time::timeout(OPENING, app.broker.open(&app.store, &opening))
        .await
        .map_err(|_| {
            Refusal::unavailable("target_unreachable", "the target's database took too long")
                .hint("try again in a moment")
        })
        .flatten();
    let database = match database {
        Ok(database) => database,
        Err(refusal) => {
            sessions::drop_role(&app, &session).await?;
            return Err(refusal);
        }
    };
    let token = format!("{UPLOAD_TOKEN}{}", URL_SAFE_NO_PAD.encode(random::<32>()?));
    let new = NewSession {
        id: &session,
        grant: &stored,
        identity: &identity,
        policy: &version,
        document: &document,
        opened_at: now,
        expires_at,
        upload_token: &super::token_digest(&token),
        log: &Receiver::new(session.clone(), key.to_jwk()),
    };
    if !app.store.insert_session(&new, MOST_SESSIONS).await? {
        sessions::drop_role(&app, &session).await?;
        // Others may have been opened at the same moment.
        room_for_another(&app, &stored.grant).await?;
        return Err(not_active(&stored.grant.id.to_string(), "has just changed"));
    }
    tracing::info!(
        %session, grant = %stored.grant.id, who = %identity, target = target.name,
        role = choice.role.name, %expires_at, client = ?asked.version, "session opened"
    );
    let opened = OpenedSession {
        session,
        grant,
        role: document,
        database,
        upload_token: SecretString::from(token),
        now: app.now(),
    };
    Ok((StatusCode::CREATED, Json(opened)))
}

async fn room_for_another(app: &App, grant: &Grant) -> Result<(), Refusal> {
    if app.store.open_sessions_of(&grant.id).await?.len() < MOST_SESSIONS {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too_many_sessions",
        format!("{MOST_SESSIONS} sessions of this grant are open already"),
    )
    .hint("end some of them: pgate sessions list"))
}

async fn own_grant(
    app: &App,
    asked: &OpenSession,
    identity: &Identity,
) -> Result<StoredGrant, Refusal> {
    let stored = app.store.grant(&asked.grant).await?;
    stored.filter(|stored| stored.grant.identity.same_as(identity)).ok_or_else(|| {
        Refusal::not_found("unknown_grant", "there is no such grant of yours")
            .hint("see your grants: pgate grants list")
    })
}

/// The end of an active grant, in whole seconds as the signed grant has it.
fn active_until(grant: &Grant, now: Timestamp) -> Result<Timestamp, Refusal> {
    let id = grant.id.to_string();
    let grant = grant.clone().at(now);
    let GrantState::Active { expires_at, .. } = grant.state else {
        return Err(not_active(&id, &format!("is {}", grant.state.name())));
    };
    Timestamp::from_second(expires_at.as_second())
        .ok()
        .filter(|end| *end > now)
        .ok_or_else(|| not_active(&id, "is about to expire"))
}

fn not_active(id: &str, why: &str) -> Refusal {
    Refusal::conflict("grant_not_active", format!("the grant {id} {why}"))
        .hint("ask for another one: pgate request")
}

#[expect(clippy::too_many_arguments, reason = "a signed grant has as many parts")]
fn sign(
    app: &App,
    grant: &Grant,
    identity: &Identity,
    session: &SessionId,
    key: &VerifyingKey,
    version: &str,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<SignedGrant, Refusal> {
    let approved_by = match &grant.state {
        GrantState::Active { approvals, .. } => {
            approvals.iter().map(|decision| decision.by.clone()).collect()
        }
        _ => Vec::new(),
    };
    let claims = SessionGrant {
        iss: app.public_url.clone(),
        grant: grant.id.clone(),
        session: session.clone(),
        identity: identity.clone(),
        target: grant.target.clone(),
        role: grant.role.clone(),
        policy: version.to_owned(),
        reason: grant.reason.clone(),
        approved_by,
        iat: now.as_second(),
        exp: expires_at.as_second(),
        cnf: Confirmation { jwk: key.to_jwk() },
    };
    Ok(SignedGrant::sign(&claims, &app.key)?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    limit: Option<u32>,
}

async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<Limit>,
    Caller(identity): Caller,
) -> Handled<SessionList> {
    let limit = query.limit.unwrap_or(LIST_LENGTH).clamp(1, LONGEST_LIST);
    let reviewed = access::reviewed(&app.policy.current(), &identity);
    let stored = app.store.sessions_seen_by(&identity, &reviewed, limit).await?;
    let sessions = stored.into_iter().map(|session| session.view).collect();
    Ok(Json(SessionList { sessions }))
}

async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Caller(identity): Caller,
) -> Handled<SessionView> {
    Ok(Json(super::visible_session(&app, &id, &identity).await?.view))
}

async fn state(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(wait): Query<Wait>,
    Token(token): Token,
) -> Handled<SessionState> {
    let deadline = wait.deadline();
    let mut changes = app.changes.subscribe();
    let mut session = session_of(&app, &id, &token).await?;
    let id = session.view.session.clone();
    app.store.seen(&id, app.now()).await?;
    loop {
        // Before its end somebody must have said so.
        let ended_early = session.view.ended_at.is_some_and(|at| at < session.view.expires_at);
        if ended_early {
            let reason = session.end_reason.unwrap_or_default();
            return Ok(Json(SessionState::Ended { reason }));
        }
        if !session.is_open() || session.view.expires_at <= app.now() {
            return Ok(Json(SessionState::Expired));
        }
        if !app.something_changes(&mut changes, deadline).await {
            return Ok(Json(SessionState::Open));
        }
        session = app.store.session(&id).await?.ok_or_else(super::unknown_session)?;
    }
}

async fn close(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Token(token): Token,
) -> Handled<SessionView> {
    let session = session_of(&app, &id, &token).await?;
    let id = session.view.session;
    sessions::end(&app, &id, EndState::Closed, "its client closed it").await?;
    let session = app.store.session(&id).await?.ok_or_else(super::unknown_session)?;
    Ok(Json(session.view))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::SignedGrant;
    use crate::{
        grant::SigningKey,
        policy::Role,
        server::testing::{POLICY, TestServer},
    };

    #[tokio::test]
    async fn an_opened_session_has_a_signed_grant_bound_to_its_key_and_policy() {
        let server = TestServer::start().await;
        let people = server.people();
        let grant = server.request(&people["ana"], "readonly").await;
        let opened = server.open(&people["ana"], &grant, 5).await.ok(201);
        let signed = SignedGrant::from(opened["grant"].as_str().unwrap().to_owned());
        let claims = signed.verify(&server.app.keys).unwrap();
        assert_eq!(claims.session.as_str(), opened["session"]);
        assert_eq!(claims.cnf.jwk, SigningKey::from_seed(&[5; 32]).verifying_key().to_jwk());
        let document = opened["role"].as_str().unwrap();
        assert_eq!(claims.policy, Role::version(document));
        assert_eq!(Role::from_document(document).unwrap().name, "readonly");
        assert_eq!(opened["database"]["password"], "static-password");
        assert_eq!(opened["database"]["sslmode"], "disable");
        let end = grant["expires_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert_eq!(claims.exp, end.as_second(), "the grant's own end, not a new window");
    }

    #[tokio::test]
    async fn only_an_active_grant_of_ones_own_opens_a_session() {
        let server = TestServer::start().await;
        let people = server.people();
        let grant = server.request(&people["ana"], "readonly").await;
        server.open(&people["dan"], &grant, 5).await.refused(404, "unknown_grant");
        server.open(&people["bo"], &grant, 5).await.refused(404, "unknown_grant");
        let pending = server.request(&people["ana"], "writer").await;
        server.open(&people["ana"], &pending, 5).await.refused(409, "grant_not_active");
        let path = format!("/v1/grants/{}/revoke", grant["id"].as_str().unwrap());
        server.post(&path, &people["ana"], json!({})).await.ok(200);
        server.open(&people["ana"], &grant, 5).await.refused(409, "grant_not_active");
        let body = json!({"grant": "gr_0000000000000000", "version": "1",
                          "key": {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}});
        server.post("/v1/sessions", &people["ana"], body).await.refused(400, "bad_key");
    }

    #[tokio::test]
    async fn a_grant_that_the_policy_no_longer_supports_opens_nothing() {
        let server = TestServer::start().await;
        let people = server.people();
        let grant = server.request(&people["ana"], "readonly").await;
        let moved = server.issuer.token("ana", &["sales"]);
        server.open(&moved, &grant, 5).await.refused(403, "not_allowed");
        let policy = POLICY.replace("group = \"engineering\"", "group = \"nobody\"");
        std::fs::write(server.folder.path().join("policy/shop.toml"), policy).unwrap();
        server.app.policy.refresh().unwrap();
        server.open(&people["ana"], &grant, 5).await.refused(403, "not_allowed");
    }

    #[tokio::test]
    async fn a_grant_opens_nothing_once_the_policy_wants_more_approvals_or_a_shorter_time() {
        let server = TestServer::start().await;
        let people = server.people();
        let change = |policy: String| {
            std::fs::write(server.folder.path().join("policy/shop.toml"), policy).unwrap();
            server.app.policy.refresh().unwrap();
        };
        let auto = server.request(&people["ana"], "readonly").await;
        let reviewed = server.request(&people["ana"], "writer").await;
        let path = format!("/v1/grants/{}/approve", reviewed["id"].as_str().unwrap());
        for reviewer in ["bo", "cy"] {
            server.post(&path, &people[reviewer], json!({})).await.ok(200);
        }
        let asked = r#"approval = { reviewers = "group:dba", count = 1 }"#;
        change(POLICY.replace(r#"approval = "auto""#, asked));
        server.open(&people["ana"], &auto, 5).await.refused(403, "not_approved");
        change(POLICY.replacen(r#"ttl = "1h""#, r#"ttl = "5m""#, 1).replace("8h", "30m"));
        server.open(&people["ana"], &auto, 5).await.refused(403, "not_approved");
        server.open(&people["ana"], &reviewed, 6).await.ok(201);
        for (from, to) in [("count = 2", "count = 3"), ("group:dba", "group:security")] {
            change(POLICY.replace(from, to));
            server.open(&people["ana"], &reviewed, 7).await.refused(403, "not_approved");
        }
    }

    #[tokio::test]
    async fn the_end_of_a_grant_ends_its_sessions_and_wakes_their_proxies() {
        let server = TestServer::start().await;
        let people = server.people();
        let body =
            json!({"target": "prod-db", "role": "readonly", "reason": "r", "ttl_seconds": 2});
        let grant = server.post("/v1/grants", &people["ana"], body).await.ok(201);
        let opened = server.open(&people["ana"], &grant, 5).await.ok(201);
        let token = opened["upload_token"].as_str().unwrap();
        let path = format!("/v1/sessions/{}", opened["session"].as_str().unwrap());
        let state = server.get(&format!("{path}/state"), token).await.ok(200);
        assert_eq!(state, json!({"state": "open"}));
        let state = server.get(&format!("{path}/state?wait=20"), token).await.ok(200);
        assert_eq!(state, json!({"state": "expired"}));
        for _ in 0..100 {
            let view = server.get(&path, &people["ana"]).await.ok(200);
            if view["state"] == "expired" {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("the session was never ended");
    }

    #[tokio::test]
    async fn revoking_a_grant_answers_whoever_waits_for_its_session_at_once() {
        let server = TestServer::start().await;
        let people = server.people();
        let grant = server.request(&people["ana"], "readonly").await;
        let opened = server.open(&people["ana"], &grant, 5).await.ok(201);
        let token = opened["upload_token"].as_str().unwrap();
        let path = format!("/v1/sessions/{}/state?wait=60", opened["session"].as_str().unwrap());
        let started = std::time::Instant::now();
        let revoking = async {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            // Whoever reviews the other role of this target doesn't review this one.
            let path = format!("/v1/grants/{}/revoke", grant["id"].as_str().unwrap());
            server.post(&path, &people["bo"], json!({})).await.refused(404, "unknown_grant");
            server.post(&path, &people["ana"], json!({})).await.ok(200);
        };
        let (state, ()) = tokio::join!(server.get(&path, token), revoking);
        assert_eq!(state.ok(200)["state"], "ended");
        assert!(started.elapsed() < std::time::Duration::from_secs(10));
    }

    #[tokio::test]
    async fn nobody_sees_closes_or_downloads_another_persons_session() {
        let server = TestServer::start().await;
        let people = server.people();
        let grant = server.request(&people["ana"], "readonly").await;
        let opened = server.open(&people["ana"], &grant, 5).await.ok(201);
        let other = server.open(&people["ana"], &grant, 6).await.ok(201);
        let path = format!("/v1/sessions/{}", opened["session"].as_str().unwrap());
        let foreign_token = other["upload_token"].as_str().unwrap();
        for thief in [people["dan"].as_str(), people["bo"].as_str(), foreign_token, "pgu_AAAA"] {
            let close = server.send("POST", &format!("{path}/close"), Some(thief), None).await;
            close.refused(404, "unknown_session");
            server.get(&format!("{path}/state"), thief).await.refused(404, "unknown_session");
            let put = format!("{path}/log?seq=0");
            let put = server.send("PUT", &put, Some(thief), Some(b"{}\n".to_vec())).await;
            put.refused(404, "unknown_session");
        }
        for thief in [people["dan"].as_str(), people["bo"].as_str()] {
            server.get(&path, thief).await.refused(404, "unknown_session");
            server.get(&format!("{path}/log"), thief).await.refused(404, "unknown_session");
            let list = server.get("/v1/sessions", thief).await.ok(200);
            assert_eq!(list, json!({"sessions": []}));
        }
        // The upload token is for the log and the close alone.
        let token = opened["upload_token"].as_str().unwrap();
        server.get(&path, token).await.refused(401, "bad_token");
        server.get(&format!("{path}/log"), token).await.refused(401, "bad_token");
        server.get("/v1/whoami", token).await.refused(401, "bad_token");
        for id in ["se_0000000000000000", "..%2F..%2Fsigning.key", "x"] {
            let path = format!("/v1/sessions/{id}");
            server.get(&path, &people["ana"]).await.refused(404, "unknown_session");
        }
        let closed = server.send("POST", &format!("{path}/close"), Some(token), None).await.ok(200);
        assert_eq!(closed["state"], "closed");
        let again = server.send("POST", &format!("{path}/close"), Some(token), None).await.ok(200);
        assert_eq!(again, closed, "closing twice changes nothing");
    }

    #[tokio::test]
    async fn sessions_opened_at_the_same_moment_are_no_more_than_may_be_open() {
        let server = TestServer::start().await;
        let ana = &server.people()["ana"];
        let grant = server.request(ana, "readonly").await;
        let opening = (0..90).map(|_| server.open(ana, &grant, 5));
        let mut opened = 0;
        for answer in futures_util::future::join_all(opening).await {
            match answer.status {
                201 => opened += 1,
                _ => answer.refused(429, "too_many_sessions"),
            }
        }
        assert_eq!(opened, super::MOST_SESSIONS);
    }

    #[tokio::test]
    async fn reviewers_of_a_role_see_its_sessions() {
        let server = TestServer::start().await;
        let people = server.people();
        let grant = server.request(&people["ana"], "writer").await;
        let path = format!("/v1/grants/{}/approve", grant["id"].as_str().unwrap());
        server.post(&path, &people["bo"], json!({})).await.ok(200);
        let grant = server.post(&path, &people["cy"], json!({})).await.ok(200);
        let opened = server.open(&people["ana"], &grant, 5).await.ok(201);
        let list = server.get("/v1/sessions?limit=5", &people["bo"]).await.ok(200);
        assert_eq!(list["sessions"][0]["session"], opened["session"]);
        server.get("/v1/sessions?limit=x", &people["bo"]).await.refused(400, "bad_query");
        let signed = SignedGrant::from(opened["grant"].as_str().unwrap().to_owned());
        let claims = signed.verify(&server.app.keys).unwrap();
        assert_eq!(claims.approved_by.len(), 2);
    }

    #[tokio::test]
    async fn nothing_secret_is_logged_or_shown_again() {
        let server = TestServer::start().await;
        let people = server.people();
        let grant = server.request(&people["ana"], "readonly").await;
        let opened = server.open(&people["ana"], &grant, 5).await.ok(201);
        let path = format!("/v1/sessions/{}", opened["session"].as_str().unwrap());
        let view = server.get(&path, &people["ana"]).await.text;
        let stored = std::fs::read(server.folder.path().join("pgate.db-wal")).unwrap();
        let stored = String::from_utf8_lossy(&stored).into_owned();
        for secret in [&opened["upload_token"], &opened["database"]["password"]] {
            let secret = secret.as_str().unwrap();
            assert!(!view.contains(secret) && !stored.contains(secret));
        }
    }
}
