//! The control plane's pages: what waits for a reviewer, and the forms that answer it.
//!
//! Plain HTML without scripts. Owns who is signed in in which browser, what a page may
//! load and who may send its forms. It refuses to decide anything: who sees and decides
//! what is said by the same functions that answer the API.

mod browser;
mod page;
mod sign_in;
mod style;
mod waiting;

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use oauth2::RedirectUrl;
use url::Url;

use super::app::App;
use crate::grant::{GrantId, HoldId};

/// Where the pages are, as a browser sees it.
#[derive(Debug)]
pub(super) struct Site {
    /// The public URL, without a slash at its end.
    url: String,
    /// Its path, which a proxy in front may have taken off: what links begin with.
    base: String,
    /// What browsers call it in `Origin`.
    origin: String,
    /// Whether it is https, so that cookies can be kept to that.
    secure: bool,
    /// Where issuers send browsers back to.
    callback: RedirectUrl,
}

impl Site {
    pub(super) fn new(public_url: &str) -> Self {
        let url = Url::parse(public_url).expect("it was read as a URL, or made of an address");
        let public_url = public_url.trim_end_matches('/');
        let callback = RedirectUrl::new(format!("{public_url}/login/callback"));
        Self {
            url: public_url.to_owned(),
            base: url.path().trim_end_matches('/').to_owned(),
            origin: url.origin().ascii_serialization(),
            secure: url.scheme() == "https",
            callback: callback.expect("a URL with a longer path is one"),
        }
    }

    /// The whole address of a page.
    pub(super) fn url_of(&self, page: &Page) -> String {
        format!("{}{}", self.url, page.path())
    }

    /// A link to a page.
    fn link(&self, page: &Page) -> String {
        format!("{}{}", self.base, page.path())
    }

    /// A link to where one signs in, to come back to this page.
    fn sign_in_link(&self, page: &Page) -> String {
        format!("{}/login?to={}", self.base, page.key())
    }
}

/// A page that one may come back to after signing in: there are no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Page {
    /// What waits for whoever looks.
    Waiting,
    /// A held statement.
    Hold(HoldId),
    /// A request for a grant.
    Grant(GrantId),
}

impl Page {
    fn path(&self) -> String {
        match self {
            Page::Waiting => "/holds".to_owned(),
            Page::Hold(id) => format!("/holds/{id}"),
            Page::Grant(id) => format!("/grants/{id}"),
        }
    }

    /// What names it in a query and a cookie.
    fn key(&self) -> &str {
        match self {
            Page::Waiting => "holds",
            Page::Hold(id) => id.as_str(),
            Page::Grant(id) => id.as_str(),
        }
    }

    /// The page of this name; whatever names none is the list.
    fn of_key(key: &str) -> Self {
        let hold = || key.parse().map(Page::Hold);
        let grant = || key.parse().map(Page::Grant);
        hold().or_else(|_| grant()).unwrap_or(Page::Waiting)
    }
}

/// Every page.
pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/holds", get(waiting::list))
        .route("/holds/{id}", get(waiting::hold).post(waiting::decide_hold))
        .route("/grants/{id}", get(waiting::grant).post(waiting::decide_grant))
        .route("/login", get(sign_in::begin))
        .route("/login/callback", get(sign_in::come_back))
        .route("/logout", post(sign_in::sign_out))
        .layer(from_fn(restrict))
}

/// Says what a page may load and who may see it in a frame: nothing and nobody.
async fn restrict(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, style::content_security_policy());
    let fixed = [
        // Not `no-referrer`, under which browsers send forms with `Origin: null`.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Sends a browser on by GET.
fn see(location: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests;
