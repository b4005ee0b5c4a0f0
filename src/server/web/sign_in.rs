//! Signing in at the issuer, and out again.

use std::sync::Arc;

use axum::{
    Form,
    extract::{Query, State, rejection::FormRejection},
    http::HeaderMap,
    response::Response,
};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{
    Page,
    browser::{Cookie, SIGN_IN_SECONDS, SignIn, Token, Visitor},
    page, see,
};
use crate::server::{app::App, problem::Refusal, store::Browser};

/// The longest that a browser stays signed in, in seconds: its user's groups are those
/// of the moment when they signed in.
const LONGEST: i64 = 3600;

#[derive(Deserialize)]
pub(super) struct Begin {
    #[serde(default)]
    to: String,
    issuer: Option<String>,
}

pub(super) async fn begin(
    State(app): State<Arc<App>>,
    Query(begin): Query<Begin>,
    headers: HeaderMap,
) -> Response {
    let begun = begin_at(&app, begin, &headers).await;
    begun.unwrap_or_else(|refusal| page::refused(&app.site, &refusal))
}

async fn begin_at(app: &App, begin: Begin, headers: &HeaderMap) -> Result<Response, Refusal> {
    let to = Page::of_key(&begin.to);
    if Visitor::of(app, headers).await?.is_some() {
        return Ok(see(&app.site.link(&to)));
    }
    let issuers = app.issuers.of_people().collect::<Vec<_>>();
    let issuer = match (begin.issuer.as_deref(), issuers.as_slice()) {
        (Some(named), _) => named,
        (None, [only]) => only,
        (None, []) => {
            return Err(Refusal::not_found("no_issuer", "nobody can sign in at this server")
                .hint("its pgate.toml names no [[issuer]] with a client_id"));
        }
        (None, several) => return Ok(page::choice(&app.site, several, &to)),
    };
    let sign_in = SignIn::begin(to, issuer, app.now())?;
    let url = app.issuers.sign_in_url(issuer, &app.site.callback, sign_in.ties()).await?;
    let mut response = see(url.as_str());
    sign_in.set(&app.site, response.headers_mut());
    Ok(response)
}

/// An issuer's answer (RFC 6749 section 4.1.2, RFC 9207 section 2).
#[derive(Deserialize)]
pub(super) struct Answer {
    #[serde(default)]
    state: String,
    code: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

pub(super) async fn come_back(
    State(app): State<Arc<App>>,
    Query(answer): Query<Answer>,
    headers: HeaderMap,
) -> Response {
    let come = come_back_with(&app, answer, &headers).await;
    let mut response = come.unwrap_or_else(|refusal| {
        tracing::info!(code = refusal.code(), "somebody could not sign in");
        page::refused(&app.site, &refusal)
    });
    Cookie::SignIn.set(&app.site, "", 0, response.headers_mut());
    response
}

async fn come_back_with(
    app: &App,
    answer: Answer,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let now = app.now();
    let sign_in = SignIn::of(&app.site, headers, now)
        .filter(|sign_in| sign_in.is_answered_by(&answer.state))
        .ok_or_else(|| {
            Refusal::bad_request("no_sign_in", "this browser has begun no such sign-in")
                .hint(format!("open {} and sign in there", app.site.url_of(&Page::Waiting)))
        })?;
    let code = match (answer.code, answer.error) {
        (Some(code), None) => code,
        (_, error) => {
            let word = error.unwrap_or_default();
            let plain = |char: &char| char.is_ascii_alphanumeric() || *char == '_';
            let word = word.chars().filter(plain).take(40).collect::<String>();
            return Err(Refusal::unauthorized(
                "sign_in_refused",
                format!("the issuer {} did not sign you in ({word})", sign_in.issuer),
            )
            .hint("open the page again to sign in"));
        }
    };
    let named = answer.iss.as_deref();
    let callback = &app.site.callback;
    let signed_in =
        app.issuers.sign_in(&sign_in.issuer, callback, sign_in.ties(), code, named, now).await?;
    let longest = now.checked_add(SignedDuration::from_secs(LONGEST)).unwrap_or(now);
    let expires_at = signed_in.expires_at.min(longest);
    let browser = Browser { identity: signed_in.identity, expires_at };
    let token = Token::new()?;
    let begun = SignedDuration::from_secs(SIGN_IN_SECONDS);
    let forgotten = now.checked_sub(begun).unwrap_or(Timestamp::MIN);
    let digest = sign_in.digest();
    if !app.store.insert_browser(&token.digest(), &digest, &browser, now, forgotten).await? {
        return Err(Refusal::bad_request("used_sign_in", "this sign-in has been used")
            .hint("open the page again and sign in once more"));
    }
    if let Some(earlier) = Token::of(&app.site, headers) {
        app.store.end_browser(&earlier.digest(), now).await?;
    }
    tracing::info!(who = %browser.identity, until = %expires_at, "signed in from a browser");
    let mut response = see(&app.site.link(&sign_in.page));
    let seconds = expires_at.as_second().saturating_sub(now.as_second());
    token.set(&app.site, seconds, response.headers_mut());
    Ok(response)
}

#[derive(Deserialize)]
pub(super) struct SignOut {
    #[serde(default)]
    form: String,
}

pub(super) async fn sign_out(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    form: Result<Form<SignOut>, FormRejection>,
) -> Response {
    let form = form.map(|Form(form)| form.form).unwrap_or_default();
    let signed_out = async {
        let visitor = Visitor::of_form(&app, &headers, &form).await?;
        app.store.end_browser(&visitor.token.digest(), app.now()).await?;
        tracing::info!(who = %visitor.identity, "signed out from a browser");
        let mut response = page::signed_out(&app.site);
        Cookie::Browser.set(&app.site, "", 0, response.headers_mut());
        Ok(response)
    };
    signed_out.await.unwrap_or_else(|refusal: Refusal| page::refused(&app.site, &refusal))
}
