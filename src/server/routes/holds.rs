//! Held statements: raised by a session's proxy, decided by the reviewers whom the
//! session's own policy names.
//!
//! The proxy says which rule holds a statement and what the statement is; who may
//! decide and for how long it waits is read here, in the policy document that the
//! control plane signed into the session's grant.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{DefaultBodyLimit, Path, State},
    http::{Method, StatusCode},
    routing::{get, post, put},
};

use super::{
    Body, Caller, Handled, Query, Route, Token, Wait, grants::sentence, session_of,
    sessions::UPLOAD_TOKEN, token_digest, visible_session,
};
use crate::{
    api::{
        Comment, Hold, HoldApproval, HoldId, HoldList, HoldState, HoldSummary, HoldView, RaiseHold,
        Scope, Withdrawal,
    },
    grant::{Decision, HoldError, Identity, SessionId},
    policy::{Reviewers, Role, Rule},
    server::{
        app::App,
        problem::Refusal,
        store::{StoredHold, StoredSession},
        web::Page,
    },
};

/// The longest text of a statement that a person can review, in bytes.
const LONGEST_STATEMENT: usize = 128 * 1024;
/// The largest request that raises a hold, in bytes.
const LARGEST_RAISE: usize = 1024 * 1024;
/// The longest reason, and name of a rule, in characters.
const LONGEST_WORDS: usize = 2_000;
/// How many statements of one session may wait at a time.
const MOST_WAITING: usize = 64;
/// The most that the holds of one session may take in the store, answered ones included, in
/// bytes: whoever takes them back at once would fill it, and the memory of whoever lists them.
const MOST_KEPT: u64 = 32 * 1024 * 1024;
/// How often a transition is tried again when somebody else was faster.
const ATTEMPTS: usize = 8;

pub(super) fn routes() -> Vec<Route> {
    let on = |method, path, handler| Route { method, path, handler };
    vec![
        on(Method::PUT, "/v1/holds/{id}", put(raise).layer(DefaultBodyLimit::max(LARGEST_RAISE))),
        on(Method::GET, "/v1/holds/{id}", get(show)),
        on(Method::POST, "/v1/holds/{id}/approve", post(approve)),
        on(Method::POST, "/v1/holds/{id}/deny", post(deny)),
        on(Method::POST, "/v1/holds/{id}/withdraw", post(withdraw)),
        on(Method::GET, "/v1/sessions/{id}/holds", get(of_session)),
    ]
}

impl From<HoldError> for Refusal {
    fn from(error: HoldError) -> Self {
        let title = error.to_string();
        match error {
            HoldError::NotWaiting { .. } => Self::conflict("not_waiting", title),
            HoldError::OwnStatement { .. } => {
                Self::forbidden("own_statement", title).hint("ask another reviewer")
            }
        }
    }
}

fn unknown() -> Refusal {
    Refusal::not_found("unknown_hold", "there is no such hold that you may see")
}

/// The holds that wait for this reviewer, oldest first.
pub(super) async fn waiting_for(
    app: &App,
    identity: &Identity,
) -> Result<Vec<HoldSummary>, Refusal> {
    let waiting = app.store.waiting_holds(app.now()).await?;
    Ok(waiting
        .into_iter()
        .map(|stored| at(stored.view, app))
        .filter(|view| view.reviewers.include(identity))
        .filter(|view| !app.issuers.same_person(&view.hold.identity, identity))
        .map(HoldSummary::from)
        .collect())
}

async fn raise(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Token(token): Token,
    Body(asked): Body<RaiseHold>,
) -> Result<(StatusCode, Json<HoldView>), Refusal> {
    let id = id.parse::<HoldId>().map_err(|error| {
        Refusal::bad_request("bad_request", format!("the hold has no id: {error}"))
    })?;
    if !token.starts_with(UPLOAD_TOKEN) {
        return Err(Refusal::forbidden(
            "not_a_session",
            "only a session's own proxy holds its statements",
        ));
    }
    let session = session_of(&app, asked.session.as_str(), &token).await?;
    let now = app.now();
    if !session.is_open() || session.view.expires_at <= now {
        return Err(Refusal::conflict("session_ended", "the session has ended"));
    }
    let rule = holding_rule(&app, &asked.session, &asked.rule).await?;
    let Some(reviewers) = rule.reviewers.clone() else {
        return Err(Refusal::bad_request("unknown_rule", "the rule names no reviewer"));
    };
    check_size(&asked)?;
    if app.store.waiting_in(&asked.session, now).await?.len() >= MOST_WAITING {
        return Err(Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_holds",
            format!("{MOST_WAITING} statements of this session wait already"),
        ));
    }
    let kept = app.store.bytes_of_holds(&asked.session).await?;
    if kept >= MOST_KEPT && app.store.hold(&id).await?.is_none() {
        return Err(Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_holds",
            format!("the held statements of this session take {} MiB already", MOST_KEPT >> 20),
        )
        .hint("open another session"));
    }
    let view = held(&session, id, rule, reviewers, asked, now);
    if app.store.insert_hold(&view).await? {
        tracing::info!(
            hold = %view.hold.id, session = %view.hold.session, who = %view.hold.identity,
            rule = %view.rule, "statement held"
        );
        app.changes.announce();
        return Ok((StatusCode::CREATED, Json(at(view, &app))));
    }
    // An answer was lost, and the proxy asks again; or the id is another hold's.
    let stored = app.store.hold(&view.hold.id).await?.map(|stored| stored.view);
    match stored {
        Some(before)
            if before.hold.session == view.hold.session && before.statement == view.statement =>
        {
            Ok((StatusCode::OK, Json(at(before, &app))))
        }
        Some(_) => Err(Refusal::conflict("busy", "another hold has this id")),
        None => Err(Refusal::conflict("session_ended", "the session has ended")),
    }
}

fn held(
    session: &StoredSession,
    id: HoldId,
    rule: Rule,
    reviewers: Reviewers,
    asked: RaiseHold,
    now: jiff::Timestamp,
) -> HoldView {
    let end = now.checked_add(Duration::from_secs(rule.hold_seconds()));
    let expires_at = end.map_or(session.view.expires_at, |end| end.min(session.view.expires_at));
    HoldView {
        hold: Hold {
            id,
            session: asked.session,
            identity: session.view.identity.clone(),
            raised_at: now,
            expires_at,
            state: HoldState::Waiting,
        },
        target: session.view.target.clone(),
        role: session.view.role.clone(),
        reason: session.view.reason.clone(),
        rule: rule.source,
        why: asked.why,
        reviewers,
        statement: asked.statement,
        url: None,
    }
}

/// The rule of this name in the policy that the session runs under.
async fn holding_rule(app: &App, session: &SessionId, name: &str) -> Result<Rule, Refusal> {
    let document = app.store.policy_of(session).await?.unwrap_or_default();
    let role = Role::from_document(&document).map_err(|error| Refusal::internal(&error))?;
    role.hold.into_iter().find(|rule| rule.source.rule == name).ok_or_else(|| {
        Refusal::bad_request("unknown_rule", "the session's policy has no such rule that holds")
    })
}

fn check_size(asked: &RaiseHold) -> Result<(), Refusal> {
    let words = [&asked.why, &asked.rule].map(|text| text.chars().count());
    if asked.statement.sql.len() > LONGEST_STATEMENT {
        let title =
            format!("a statement longer than {} KiB can't be reviewed", LONGEST_STATEMENT >> 10);
        return Err(Refusal::bad_request("too_long", title));
    }
    if words.iter().any(|length| *length > LONGEST_WORDS) {
        return Err(Refusal::bad_request("too_long", "the reason of the hold is too long"));
    }
    Ok(())
}

async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(wait): Query<Wait>,
    Token(token): Token,
) -> Handled<HoldView> {
    let deadline = wait.deadline();
    let mut changes = app.changes.subscribe();
    let viewer = Viewer::of(&app, &token).await?;
    loop {
        let view = at(viewer.hold(&app, &id).await?.view, &app);
        let waiting = view.hold.state == HoldState::Waiting;
        if !waiting || !app.something_changes(&mut changes, deadline).await {
            return Ok(Json(view));
        }
    }
}

/// Who looks at a hold.
enum Viewer {
    /// The proxy of a session, by the digest of its token.
    Proxy([u8; 32]),
    /// A person or workload.
    Login(Identity),
}

impl Viewer {
    async fn of(app: &App, token: &str) -> Result<Self, Refusal> {
        if token.starts_with(UPLOAD_TOKEN) {
            return Ok(Viewer::Proxy(token_digest(token)));
        }
        Ok(Viewer::Login(app.issuers.identify(token, app.now()).await?))
    }

    /// The hold, where they may see it: one of the session's own, of one's own
    /// session, or one that one may review.
    async fn hold(&self, app: &App, id: &str) -> Result<StoredHold, Refusal> {
        use subtle::ConstantTimeEq as _;
        let id = id.parse::<HoldId>().map_err(|_| unknown())?;
        let stored = app.store.hold(&id).await?.ok_or_else(unknown)?;
        let HoldView { hold, reviewers, .. } = &stored.view;
        let seen = match self {
            Viewer::Login(identity) => {
                hold.identity.same_as(identity) || reviewers.include(identity)
            }
            Viewer::Proxy(digest) => {
                let session = app.store.session(&hold.session).await?.ok_or_else(unknown)?;
                digest.as_slice().ct_eq(session.upload_token.as_slice()).into()
            }
        };
        if seen { Ok(stored) } else { Err(unknown()) }
    }
}

/// The hold as it is now, with the address of its page, which the store doesn't keep.
fn at(view: HoldView, app: &App) -> HoldView {
    let url = Some(app.site.url_of(&Page::Hold(view.hold.id.clone())));
    HoldView { hold: view.hold.at(app.now()), url, ..view }
}

/// The hold, where this person may see it.
pub(in crate::server) async fn seen_by(
    app: &App,
    id: &str,
    identity: &Identity,
) -> Result<HoldView, Refusal> {
    let stored = Viewer::Login(identity.clone()).hold(app, id).await?;
    Ok(at(stored.view, app))
}

async fn approve(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Caller(identity): Caller,
    Body(approval): Body<HoldApproval>,
) -> Handled<HoldView> {
    let verb = Verb::Approve(approval.scope);
    decide(&app, &id, identity, &approval.comment, verb).await.map(Json)
}

async fn deny(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Caller(identity): Caller,
    Body(comment): Body<Comment>,
) -> Handled<HoldView> {
    decide(&app, &id, identity, &comment.comment, Verb::Deny).await.map(Json)
}

/// What a reviewer says to a hold.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) enum Verb {
    Approve(Scope),
    Deny,
}

/// The one way to decide on a hold, whether by the API or by the page.
pub(in crate::server) async fn decide(
    app: &App,
    id: &str,
    identity: Identity,
    comment: &str,
    verb: Verb,
) -> Result<HoldView, Refusal> {
    let comment = sentence(comment, "comment")?;
    let viewer = Viewer::Login(identity.clone());
    for _ in 0..ATTEMPTS {
        let stored = viewer.hold(app, id).await?;
        let view = stored.view.clone();
        let hold = view.hold.clone().at(app.now());
        if !hold.identity.same_as(&identity) && !view.reviewers.include(&identity) {
            return Err(Refusal::forbidden(
                "not_a_reviewer",
                "you are not a reviewer of this statement",
            ));
        }
        if app.issuers.same_person(&hold.identity, &identity) {
            return Err(HoldError::OwnStatement { id: hold.id }.into());
        }
        let decision = Decision { by: identity.clone(), at: app.now(), comment: comment.clone() };
        let hold = match verb {
            Verb::Approve(scope) => {
                if scope == Scope::SameStatements && view.statement.shape.is_none() {
                    return Err(Refusal::conflict(
                        "no_shape",
                        "what this statement is apart from its values can't be told",
                    )
                    .hint("approve it for this one time: leave out --same-statements"));
                }
                hold.approve(decision, scope)?
            }
            Verb::Deny => hold.deny(decision)?,
        };
        let session = app.store.session(&hold.session).await?.ok_or_else(unknown)?;
        if !session.is_open() || session.view.expires_at <= app.now() {
            return Err(Refusal::conflict("session_ended", "the session has ended"));
        }
        let after = HoldView { hold, ..view };
        if app.store.replace_hold(&stored, &after).await? {
            tracing::info!(hold = %after.hold.id, who = %identity, ?verb, "held statement decided");
            app.changes.announce();
            return Ok(at(after, app));
        }
    }
    Err(busy())
}

fn busy() -> Refusal {
    Refusal::conflict("busy", "others decide on this statement at the same moment")
        .hint("look at it again and try again")
}

async fn withdraw(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Token(token): Token,
    Body(withdrawal): Body<Withdrawal>,
) -> Handled<HoldView> {
    let reason = sentence(&withdrawal.reason, "reason")?;
    let viewer = Viewer::of(&app, &token).await?;
    if matches!(viewer, Viewer::Login(_)) {
        return Err(Refusal::forbidden(
            "not_a_session",
            "only a session's own proxy withdraws its statements",
        ));
    }
    for _ in 0..ATTEMPTS {
        let stored = viewer.hold(&app, &id).await?;
        let hold = stored.view.hold.clone().at(app.now()).withdraw(app.now(), reason.clone())?;
        let after = HoldView { hold, ..stored.view.clone() };
        if app.store.replace_hold(&stored, &after).await? {
            tracing::info!(hold = %after.hold.id, reason, "held statement withdrawn");
            app.changes.announce();
            return Ok(Json(at(after, &app)));
        }
    }
    Err(busy())
}

async fn of_session(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Caller(identity): Caller,
) -> Handled<HoldList> {
    let session = visible_session(&app, &id, &identity).await?;
    let stored = app.store.holds_of(&session.view.session).await?;
    let holds = stored.into_iter().map(|stored| at(stored.view, &app).into()).collect();
    Ok(Json(HoldList { holds }))
}

#[cfg(test)]
mod tests;
