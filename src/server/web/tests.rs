use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::server::testing::{HELD, Held, TestServer};

mod attacks;

/// A browser: it keeps cookies and follows nothing by itself.
pub(super) struct Browser<'s> {
    server: &'s TestServer,
    pub(super) cookies: BTreeMap<String, String>,
    /// What its forms are sent from.
    pub(super) origin: Option<String>,
    client: reqwest::Client,
}

/// What a browser was answered.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) status: u16,
    pub(super) headers: reqwest::header::HeaderMap,
    pub(super) text: String,
}

impl Seen {
    #[track_caller]
    pub(super) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    #[track_caller]
    pub(super) fn shows(self, text: &str) -> Self {
        assert!(self.text.contains(text), "no {text:?} in {}", self.text);
        self
    }

    #[track_caller]
    pub(super) fn hides(self, text: &str) -> Self {
        assert!(!self.text.contains(text), "{text:?} in {}", self.text);
        self
    }

    #[track_caller]
    pub(super) fn leads_to(&self) -> &str {
        assert_eq!(self.status, 303, "{self:?}");
        self.headers["location"].to_str().unwrap()
    }

    fn cookie(&self, name: &str) -> &str {
        let mut lines = self.headers.get_all("set-cookie").iter();
        let found = lines.find(|line| line.to_str().unwrap().starts_with(&format!("{name}=")));
        found.expect("the cookie is set").to_str().unwrap()
    }

    /// The token of its forms.
    pub(super) fn form(&self) -> String {
        let (_, rest) = self.text.split_once("name=\"form\" value=\"").expect("a form");
        rest.split('"').next().unwrap().to_owned()
    }
}

impl<'s> Browser<'s> {
    pub(super) fn new(server: &'s TestServer) -> Self {
        let none = reqwest::redirect::Policy::none();
        let client = reqwest::Client::builder().no_proxy().redirect(none).build().unwrap();
        let origin = Url::parse(&server.app.public_url).unwrap().origin().ascii_serialization();
        Self { server, cookies: BTreeMap::new(), origin: Some(origin), client }
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> Seen {
        let pairs = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
        let cookies = pairs.collect::<Vec<_>>().join("; ");
        let response = request.header("cookie", cookies).send().await.unwrap();
        for line in response.headers().get_all("set-cookie") {
            let line = line.to_str().unwrap();
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            if line.contains("Max-Age=0;") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Seen { status, headers, text: response.text().await.unwrap() }
    }

    pub(super) async fn get(&mut self, path: &str) -> Seen {
        let request = self.client.get(self.server.url(path));
        self.send(request).await
    }

    /// Sends a form as the page at this origin would.
    pub(super) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Seen {
        let mut request = self.client.post(self.server.url(path)).form(fields);
        if let Some(origin) = &self.origin {
            request = request.header("origin", origin);
        }
        self.send(request).await
    }

    /// Begins to sign in: the address at the issuer.
    pub(super) async fn begins(&mut self, path: &str) -> Url {
        let seen = self.get(path).await;
        Url::parse(seen.leads_to()).unwrap()
    }

    /// Where the issuer sends it, as this server gets to see it.
    pub(super) async fn comes_back(&mut self, back: &Url) -> Seen {
        let path = format!("/login/callback?{}", back.query().unwrap_or_default());
        self.get(&path).await
    }

    pub(super) async fn signs_in(&mut self, who: &str, groups: &[&str]) -> Seen {
        let asked = self.begins("/login").await;
        let back = self.server.issuer.sign_in(&asked, who, groups, &json!({}));
        let seen = self.comes_back(&back).await;
        seen.leads_to();
        seen
    }
}

pub(super) fn page() -> String {
    format!("/holds/{HELD}")
}

pub(super) async fn state(held: &Held) -> Value {
    held.server.get(&format!("/v1/holds/{HELD}"), held.token()).await.ok(200)
}

#[tokio::test]
async fn a_reviewer_follows_the_link_signs_in_reads_everything_and_approves() {
    let held = Held::start().await;
    let raised = held.raise(HELD).await;
    assert_eq!(raised["url"], held.server.url(&page()));
    let mut bo = Browser::new(&held.server);
    let login = bo.get(&page()).await.leads_to().to_owned();
    assert_eq!(login, format!("/login?to={HELD}"));
    let asked = bo.begins(&login).await;
    let back = held.server.issuer.sign_in(&asked, "bo", &["dba"], &json!({}));
    assert_eq!(bo.comes_back(&back).await.leads_to(), page());

    let seen = bo.get(&page()).await.is(200);
    let shown = [
        "ana@example.com (corp)",
        "prod-db as writer",
        "INC-1",
        "delete without a WHERE clause",
        "role.writer.hold[0]",
        "about 1000 rows, cost 15.50",
        "DELETE FROM orders",
        "<dt>$1</dt><dd><code>'7'</code>",
        "<code>NULL</code>",
        "bo@example.com (corp)",
        "It waits until ",
        held.session["session"].as_str().unwrap(),
    ];
    let seen = shown.into_iter().fold(seen, Seen::shows);
    let list = bo.get("/holds").await.is(200).shows(&page());
    let fields = [("form", &*list.form()), ("verb", "approve"), ("comment", "line\r\nfeed")];
    assert_eq!(list.form(), seen.form());
    let answered = bo.post(&page(), &fields).await;
    assert_eq!(answered.leads_to(), page());
    let seen = bo.get(&page()).await.is(200);
    seen.shows("Approved once by bo@example.com (corp): line\\nfeed.").hides("<textarea");
    let after = state(&held).await;
    assert_eq!(
        (&after["scope"], &after["decision"]["comment"]),
        (&json!("once"), &json!("line\nfeed"))
    );
    bo.get("/holds").await.is(200).shows("None.").hides(HELD);
}

#[tokio::test]
async fn it_is_approved_for_its_fingerprint_or_denied_as_the_button_says() {
    let held = Held::start().await;
    held.raise(HELD).await;
    let mut bo = Browser::new(&held.server);
    bo.signs_in("bo", &["dba"]).await;
    let form = bo.get(&page()).await.is(200).shows("Approve for this session").form();
    bo.post(&page(), &[("form", &form), ("verb", "approve_same")]).await.leads_to();
    assert_eq!(state(&held).await["scope"], "same_statements");

    let other = "ho_fedcba9876543210";
    let mut body = held.body(0);
    body["statement"].as_object_mut().unwrap().remove("shape");
    held.put(other, body).await.ok(201);
    let path = format!("/holds/{other}");
    bo.get(&path).await.is(200).hides("Approve for this session");
    bo.post(&path, &[("form", &form), ("verb", "approve_same")]).await.is(409);
    let fields = [("form", &*form), ("verb", "deny"), ("comment", "not before the backup")];
    bo.post(&path, &fields).await.leads_to();
    bo.get(&path).await.is(200).shows("Denied by bo@example.com (corp): not before the backup.");
}

#[tokio::test]
async fn requests_for_grants_wait_on_the_same_page_and_are_answered_on_their_own() {
    let server = TestServer::start().await;
    let grant = server.request(&server.people()["ana"], "writer").await;
    let id = grant["id"].as_str().unwrap();
    let path = format!("/grants/{id}");
    let mut bo = Browser::new(&server);
    assert_eq!(bo.get(&path).await.leads_to(), format!("/login?to={id}"));
    bo.signs_in("bo", &["dba"]).await;
    bo.get("/holds").await.is(200).shows(&path);
    let form = bo.get(&path).await.is(200).shows("0 of 2 approvals").shows("INC-1").form();
    let approve = [("form", &*form), ("verb", "approve"), ("comment", "fine")];
    bo.post(&path, &approve).await.leads_to();
    bo.get(&path).await.is(200).shows("1 of 2 approvals").shows(": fine").hides("<textarea");
    bo.post(&path, &approve).await.is(409);
    let mut dan = Browser::new(&server);
    dan.signs_in("dan", &["engineering", "dba"]).await;
    let form = dan.get(&path).await.is(200).form();
    dan.post(&path, &[("form", &form), ("verb", "approve_same")]).await.is(400);
    dan.post(&path, &[("form", &form), ("verb", "deny")]).await.leads_to();
    dan.get(&path).await.is(200).shows("Denied by dan@example.com");
    // Their own requests are no more theirs to answer here than by the API.
    let own = server.request(&server.people()["dan"], "writer").await;
    let path = format!("/grants/{}", own["id"].as_str().unwrap());
    dan.get(&path).await.is(200).hides("<textarea");
    dan.post(&path, &[("form", &form), ("verb", "approve")]).await.is(403);
}

#[tokio::test]
async fn every_page_keeps_other_sites_scripts_frames_and_caches_out() {
    let held = Held::start().await;
    held.raise(HELD).await;
    let mut bo = Browser::new(&held.server);
    let login = bo.get("/login").await;
    let stranger = bo.get("/login/callback?state=x&code=y").await.is(400);
    bo.signs_in("bo", &["dba"]).await;
    let hold = bo.get(&page()).await.is(200);
    let missing = bo.get("/holds/ho_0000000000000000").await.is(404);
    let (_, style) = hold.text.split_once("<style>").unwrap();
    let style = style.split("</style>").next().unwrap();
    let hash = STANDARD.encode(Sha256::digest(style.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; \
         frame-ancestors 'none'; base-uri 'none'"
    );
    for seen in [&login, &stranger, &hold, &missing] {
        for (name, value) in [
            ("content-security-policy", &*policy),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("x-frame-options", "DENY"),
        ] {
            assert_eq!(seen.headers[name], value, "{seen:?}");
        }
    }
    assert!(!hold.text.contains(" style=") && !hold.text.contains("<script"));
}

#[tokio::test]
async fn behind_a_proxy_with_tls_cookies_are_the_hosts_own_and_links_are_public() {
    let public = "https://db.example.com/pgate";
    let held = Held::with(&format!("public_url = \"{public}/\""), "").await;
    let raised = held.raise(HELD).await;
    assert_eq!(raised["url"], format!("{public}/holds/{HELD}"));
    let mut bo = Browser::new(&held.server);
    let begun = bo.get("/login").await;
    let asked = Url::parse(begun.leads_to()).unwrap();
    assert!(
        asked
            .as_str()
            .contains("redirect_uri=https%3A%2F%2Fdb.example.com%2Fpgate%2Flogin%2Fcallback")
    );
    let cookie = begun.cookie("__Host-pgate-sign-in");
    assert!(cookie.ends_with("; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure"), "{cookie}");
    let long = json!({"exp": jiff::Timestamp::now().as_second() + 36_000});
    let back = held.server.issuer.sign_in(&asked, "bo", &["dba"], &long);
    let seen = bo.comes_back(&back).await;
    assert_eq!(seen.leads_to(), "/pgate/holds");
    let cookie = seen.cookie("__Host-pgate");
    assert!(cookie.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax; Secure"), "{cookie}");
    let form = bo.get(&page()).await.is(200).shows(&format!("/pgate/holds/{HELD}\"")).form();
    let approve = [("form", &*form), ("verb", "approve")];
    bo.origin = Some("http://db.example.com".into());
    bo.post(&page(), &approve).await.is(403);
    bo.origin = Some("https://db.example.com".into());
    assert_eq!(bo.post(&page(), &approve).await.leads_to(), format!("/pgate/holds/{HELD}"));
}

#[tokio::test]
async fn where_people_come_from_several_issuers_they_choose_and_workloads_have_no_page() {
    let more = "[[issuer]]\nname = \"partner\"\nurl = \"http://127.0.0.1:9\"\nclient_id = \"p\"\n\
                [[issuer]]\nname = \"ci\"\nurl = \"ISSUER\"\naudience = \"pgate-ci\"\n";
    let held = Held::with("", more).await;
    let mut bo = Browser::new(&held.server);
    let choice = bo.get(&format!("/login?to={HELD}")).await.is(200).hides("ci<");
    choice.shows(&format!("/login?to={HELD}&amp;issuer=corp")).shows("issuer=partner");
    bo.get("/login?issuer=ci").await.is(404);
    bo.get("/login?issuer=partner").await.is(503);
    let asked = bo.begins(&format!("/login?to={HELD}&issuer=corp")).await;
    let job = json!({"aud": "pgate-ci"});
    let back = held.server.issuer.sign_in(&asked, "job", &["dba"], &job);
    bo.comes_back(&back).await.is(401);
    assert_eq!(bo.cookies, BTreeMap::new());
}
