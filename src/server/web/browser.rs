//! Which browser it is: its cookies, who has signed in in it, and whether a form that
//! it sends is one of ours.
//!
//! A cookie is a random token, of which the store keeps a digest. Cookies are `Lax`, not
//! `Strict`: a reviewer comes by a link in a chat or a terminal. Forms don't rest on that
//! alone: each takes the token of its own browser and the `Origin` of this server.

use axum::http::{HeaderMap, HeaderValue, header};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{Page, Site};
use crate::{
    grant::Identity,
    server::{
        app::{App, random},
        issuers::Ties,
        problem::Refusal,
    },
};

/// How long a sign-in may take at the issuer, in seconds.
pub(super) const SIGN_IN_SECONDS: i64 = 600;

/// A cookie of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cookie {
    /// Somebody has signed in.
    Browser,
    /// Somebody is signing in.
    SignIn,
}

impl Cookie {
    /// With `__Host-`, no other host and no plain http can set it (RFC 6265bis 4.1.3.2).
    fn name(self, site: &Site) -> &'static str {
        match (self, site.secure) {
            (Cookie::Browser, true) => "__Host-pgate",
            (Cookie::Browser, false) => "pgate",
            (Cookie::SignIn, true) => "__Host-pgate-sign-in",
            (Cookie::SignIn, false) => "pgate-sign-in",
        }
    }

    /// Its value in a request; none where there are two, of which one isn't ours.
    fn read<'h>(self, site: &Site, headers: &'h HeaderMap) -> Option<&'h str> {
        let name = self.name(site);
        let mut values = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter_map(|(key, value)| (key == name).then_some(value));
        values.next().filter(|_| values.next().is_none())
    }

    /// Puts it into an answer, for so many seconds; 0 takes it away.
    pub(super) fn set(self, site: &Site, value: &str, seconds: i64, headers: &mut HeaderMap) {
        let secure = if site.secure { "; Secure" } else { "" };
        let name = self.name(site);
        let line =
            format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
        if let Ok(line) = HeaderValue::from_str(&line) {
            headers.append(header::SET_COOKIE, line);
        }
    }
}

/// What a signed-in browser's cookie holds.
pub(super) struct Token(String);

impl Token {
    pub(super) fn new() -> Result<Self, Refusal> {
        Ok(Self(URL_SAFE_NO_PAD.encode(random::<32>()?)))
    }

    pub(super) fn of(site: &Site, headers: &HeaderMap) -> Option<Self> {
        Cookie::Browser.read(site, headers).map(|value| Self(value.to_owned()))
    }

    /// What the store knows it by.
    pub(super) fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }

    pub(super) fn set(&self, site: &Site, seconds: i64, headers: &mut HeaderMap) {
        Cookie::Browser.set(site, &self.0, seconds, headers);
    }

    /// What this browser's forms carry.
    fn form_token(&self) -> String {
        derived("form", &self.0)
    }
}

/// Somebody who has signed in.
pub(super) struct Visitor {
    pub(super) identity: Identity,
    /// What their forms carry.
    pub(super) form_token: String,
    pub(super) token: Token,
}

impl Visitor {
    /// Who it is, if anybody has signed in in this browser. Whose issuer is no longer
    /// this server's is nobody.
    pub(super) async fn of(app: &App, headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let Some(token) = Token::of(&app.site, headers) else { return Ok(None) };
        let browser = app.store.browser(&token.digest(), app.now()).await?;
        let known =
            |identity: &Identity| app.issuers.of_people().any(|name| name == identity.issuer);
        let Some(browser) = browser.filter(|browser| known(&browser.identity)) else {
            return Ok(None);
        };
        let form_token = token.form_token();
        Ok(Some(Self { identity: browser.identity, form_token, token }))
    }

    /// Who sends a form, after checking that it is one of ours.
    pub(super) async fn of_form(
        app: &App,
        headers: &HeaderMap,
        form_token: &str,
    ) -> Result<Self, Refusal> {
        same_origin(&app.site, headers)?;
        let visitor = Self::of(app, headers).await?.ok_or_else(|| {
            Refusal::unauthorized("signed_out", "nobody is signed in in this browser any more")
                .hint("nothing was decided: sign in, and answer again")
        })?;
        if bool::from(visitor.form_token.as_bytes().ct_eq(form_token.as_bytes())) {
            return Ok(visitor);
        }
        Err(Refusal::forbidden("bad_form", "the form is of another sign-in")
            .hint("nothing was decided: open the page again, and answer there"))
    }
}

/// Refuses a form that another site's page sends.
fn same_origin(site: &Site, headers: &HeaderMap) -> Result<(), Refusal> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let origin = origins.next().filter(|_| origins.next().is_none());
    if origin.is_some_and(|origin| origin.as_bytes() == site.origin.as_bytes()) {
        return Ok(());
    }
    Err(Refusal::forbidden("other_origin", "the form was not sent from this server's page")
        .hint(format!("nothing was decided: open the page at {}", site.url)))
}

/// A sign-in that waits for its issuer. All of it is in the browser's cookie, and what
/// goes to the issuer is derived from the cookie's text: an answer fits no other browser,
/// and no row is written for strangers.
#[derive(Debug)]
pub(super) struct SignIn {
    text: String,
    /// Where to go then.
    pub(super) page: Page,
    /// The issuer's name.
    pub(super) issuer: String,
}

impl SignIn {
    pub(super) fn begin(page: Page, issuer: &str, now: Timestamp) -> Result<Self, Refusal> {
        let secret = URL_SAFE_NO_PAD.encode(random::<32>()?);
        let until = now.as_second().saturating_add(SIGN_IN_SECONDS);
        let text = format!("{secret}.{until}.{}.{issuer}", page.key());
        Ok(Self { text, page, issuer: issuer.to_owned() })
    }

    /// The one that this browser has begun, where it isn't too late for it.
    pub(super) fn of(site: &Site, headers: &HeaderMap, now: Timestamp) -> Option<Self> {
        let text = Cookie::SignIn.read(site, headers)?;
        let mut parts = text.splitn(4, '.');
        let _secret = parts.next()?;
        let until = parts.next()?.parse::<i64>().ok()?;
        let page = Page::of_key(parts.next()?);
        let issuer = parts.next()?.to_owned();
        (now.as_second() < until).then(|| Self { text: text.to_owned(), page, issuer })
    }

    /// What ties the issuer's answer to it.
    pub(super) fn ties(&self) -> Ties {
        Ties {
            state: derived("state", &self.text),
            nonce: derived("nonce", &self.text),
            verifier: derived("verifier", &self.text),
        }
    }

    /// Whether an answer with this state is to this sign-in.
    pub(super) fn is_answered_by(&self, state: &str) -> bool {
        derived("state", &self.text).as_bytes().ct_eq(state.as_bytes()).into()
    }

    /// What the store knows it by, once it is used.
    pub(super) fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.text.as_bytes()).into()
    }

    pub(super) fn set(&self, site: &Site, headers: &mut HeaderMap) {
        Cookie::SignIn.set(site, &self.text, SIGN_IN_SECONDS, headers);
    }
}

/// A value that tells nothing of the secret that it comes from.
fn derived(what: &str, secret: &str) -> String {
    let digest = Sha256::new()
        .chain_update(b"pgate ")
        .chain_update(what.as_bytes())
        .chain_update(b"\n")
        .chain_update(secret.as_bytes())
        .finalize();
    URL_SAFE_NO_PAD.encode(digest)
}
