//! What somebody might try on a reviewer, or as one.

use std::time::Duration;

use serde_json::json;
use url::Url;

use super::{Browser, page, state};
use crate::server::testing::{HELD, Held};

const APPROVE: (&str, &str) = ("verb", "approve");

#[tokio::test]
async fn nobody_decides_on_their_own_statement_or_one_that_they_may_not_review() {
    let held = Held::start().await;
    held.raise(HELD).await;
    // Ana, now in the group that reviews.
    let mut ana = Browser::new(&held.server);
    ana.signs_in("ana", &["engineering", "dba"]).await;
    let seen = ana.get(&page()).await.is(200).shows("your own session").hides("<textarea");
    let form = seen.form();
    for verb in ["approve", "approve_same", "deny"] {
        ana.post(&page(), &[("form", &form), ("verb", verb)]).await.is(403).shows("your own");
    }
    ana.get("/holds").await.is(200).hides(HELD);
    // A stranger learns not even that it is there.
    let mut eve = Browser::new(&held.server);
    eve.signs_in("eve", &["sales"]).await;
    let unknown = eve.get(&page()).await.is(404).hides("DELETE");
    let other = eve.get("/holds/ho_0000000000000000").await.is(404);
    assert_eq!(unknown.text, other.text);
    let form = eve.get("/holds").await.is(200).form();
    eve.post(&page(), &[("form", &form), APPROVE]).await.is(404);
    assert_eq!(state(&held).await["state"], "waiting");
}

#[tokio::test]
async fn a_form_counts_only_with_its_browsers_token_and_from_this_servers_page() {
    let held = Held::start().await;
    held.raise(HELD).await;
    let mut bo = Browser::new(&held.server);
    bo.signs_in("bo", &["dba"]).await;
    let form = bo.get(&page()).await.is(200).form();
    let mut cy = Browser::new(&held.server);
    cy.signs_in("cy", &["dba"]).await;
    let others = cy.get(&page()).await.is(200).form();
    assert_ne!(form, others);

    bo.post(&page(), &[APPROVE]).await.is(400);
    for wrong in ["", "x", &others, &form[1..]] {
        bo.post(&page(), &[("form", wrong), APPROVE]).await.is(403).shows("another sign-in");
    }
    bo.post(&page(), &[("form", &form), ("verb", "approve"), ("scope", "x")]).await.is(400);
    bo.post(&page(), &[("form", &form), ("verb", "")]).await.is(400);
    bo.post("/logout", &[("form", &others)]).await.is(403);
    let own = bo.origin.clone().unwrap();
    let port = own.rsplit(':').next().unwrap().to_owned();
    let foreign = [
        None,
        Some("null".to_owned()),
        Some("https://evil.example.com".to_owned()),
        Some(format!("{own}.evil.example.com")),
        Some(format!("http://localhost:{port}")),
        Some(own.replace("http://", "https://")),
    ];
    for origin in foreign {
        bo.origin = origin.clone();
        let seen = bo.post(&page(), &[("form", &form), APPROVE]).await;
        assert_eq!(seen.status, 403, "{origin:?}");
        bo.post("/logout", &[("form", &form)]).await.is(403);
    }
    bo.origin = Some(own);
    bo.get(&format!("{}?form={form}&verb=approve", page())).await.is(200);
    assert_eq!(state(&held).await["state"], "waiting");
    // The same without a sign-in, and with the token of one that is over.
    let mut nobody = Browser::new(&held.server);
    nobody.post(&page(), &[("form", &form), APPROVE]).await.is(401).shows("nothing was decided");
    bo.post(&page(), &[("form", &form), APPROVE]).await.leads_to();
}

#[tokio::test]
async fn an_answer_of_the_issuer_counts_once_and_in_the_browser_that_asked() {
    let held = Held::start().await;
    let issuer = &held.server.issuer;
    let mut bo = Browser::new(&held.server);
    let asked = bo.begins("/login").await;
    let back = issuer.sign_in(&asked, "bo", &["dba"], &json!({}));
    let cookie = bo.cookies.clone();

    // Without the cookie, or with another browser's.
    let mut mallory = Browser::new(&held.server);
    mallory.comes_back(&back).await.is(400).shows("begun no such sign-in");
    mallory.begins("/login").await;
    mallory.comes_back(&back).await.is(400);
    assert!(mallory.cookies.is_empty());
    // With an altered cookie: another page to go to, a longer time.
    for (from, to) in [(".holds.", &*format!(".{HELD}.")), (".1", ".9")] {
        bo.cookies = cookie.clone();
        bo.cookies.iter_mut().for_each(|(_, value)| *value = value.replacen(from, to, 1));
        assert_ne!(bo.cookies, cookie);
        bo.comes_back(&back).await.is(400);
    }
    // Mallory's code under bo's state: PKCE ties the code to who asked for it.
    bo.cookies = cookie.clone();
    let theirs = mallory.begins("/login").await;
    let theirs = issuer.sign_in(&theirs, "mallory", &["dba"], &json!({}));
    let code = |url: &Url| url.query_pairs().next().unwrap().1.into_owned();
    let mixed = back.as_str().replace(&code(&back), &code(&theirs));
    bo.comes_back(&Url::parse(&mixed).unwrap()).await.is(401).shows("invalid_grant");

    bo.cookies = cookie.clone();
    bo.comes_back(&back).await.leads_to();
    let signed_in = bo.cookies.clone();
    assert_eq!(signed_in.keys().collect::<Vec<_>>(), ["pgate"], "the other cookie is gone");
    // The issuer of this test takes a code twice; the server doesn't, not even when the
    // browser has signed out since.
    let mut thief = Browser::new(&held.server);
    thief.cookies = cookie.clone();
    thief.comes_back(&back).await.is(400).shows("has been used");
    let form = bo.get("/holds").await.is(200).form();
    bo.post("/logout", &[("form", &form)]).await.is(200).shows("You are signed out");
    thief.cookies = cookie;
    thief.comes_back(&back).await.is(400).shows("has been used");
    thief.cookies = signed_in;
    thief.get("/holds").await.leads_to();
}

#[tokio::test]
async fn an_id_token_of_another_sign_in_audience_issuer_or_time_signs_nobody_in() {
    let held = Held::start().await;
    let now = jiff::Timestamp::now().as_second();
    let mut bo = Browser::new(&held.server);
    let cases = [
        (json!({"nonce": "another"}), "of another sign-in"),
        (json!({"nonce": null}), "of another sign-in"),
        (json!({"aud": "other"}), "another audience"),
        (json!({"iss": "https://evil.example.com"}), "is not one of this server"),
        (json!({"exp": now - 1}), "it expired"),
        (json!({"iat": now + 3600}), "not valid yet"),
        (json!({"sub": ""}), "no subject"),
    ];
    for (claims, why) in cases {
        let asked = bo.begins("/login").await;
        let back = held.server.issuer.sign_in(&asked, "bo", &["dba"], &claims);
        bo.comes_back(&back).await.is(401).shows(why);
        assert!(bo.cookies.is_empty());
    }
    // The answer must name the issuer, since this one says that it does.
    for iss in [None, Some("https://evil.example.com")] {
        let asked = bo.begins("/login").await;
        let mut back = held.server.issuer.sign_in(&asked, "bo", &["dba"], &json!({}));
        let kept = back.query_pairs().into_owned().filter(|(name, _)| name != "iss");
        let kept = kept.chain(iss.map(|iss| ("iss".to_owned(), iss.to_owned())));
        let kept = kept.collect::<Vec<_>>();
        back.query_pairs_mut().clear().extend_pairs(kept);
        bo.comes_back(&back).await.is(401).shows("another issuer");
    }
    let asked = bo.begins("/login").await;
    let state = asked.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let denied = format!("/login/callback?error=access_denied%3Cb%3E&state={state}");
    bo.get(&denied).await.is(401).shows("(access_deniedb)").hides("<b>");
}

#[tokio::test]
async fn signing_in_leads_to_a_page_of_this_server_only() {
    let held = Held::start().await;
    let targets = [
        "https://evil.example.com",
        "//evil.example.com",
        "/%5Cevil.example.com",
        "%2F%2Fevil.example.com",
        "ho_0123456789abcdef%0d%0aLocation:%20https://evil.example.com",
        "javascript:alert(1)",
        "ho_0123456789abcdef/../../login",
    ];
    for target in targets {
        let mut bo = Browser::new(&held.server);
        let asked = bo.begins(&format!("/login?to={target}")).await;
        let back = held.server.issuer.sign_in(&asked, "bo", &["dba"], &json!({}));
        assert_eq!(bo.comes_back(&back).await.leads_to(), "/holds", "{target}");
        // One who is signed in is sent on at once.
        assert_eq!(bo.get(&format!("/login?to={target}")).await.leads_to(), "/holds");
    }
    let mut bo = Browser::new(&held.server);
    assert_eq!(bo.get("/holds/%2F%2Fevil.example.com").await.leads_to(), "/login?to=holds");
}

#[tokio::test]
async fn nothing_that_anybody_wrote_becomes_part_of_the_page() {
    let held = Held::start().await;
    let bad = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>\" onfocus=\"x\u{202e}";
    let mut body = held.body(0);
    body["why"] = json!(bad);
    body["statement"]["sql"] = json!(format!("DELETE FROM orders -- {bad}\n\u{1b}[2J\u{200b}"));
    body["statement"]["parameters"] = json!([{"text": bad}]);
    body["statement"]["shape"] = json!({"fingerprint": bad, "text": bad});
    body["statement"]["estimate"] = json!({"kind": "unavailable", "why": bad});
    held.put(HELD, body).await.ok(201);
    // Who looks and comments is no better.
    let mut bo = Browser::new(&held.server);
    let asked = bo.begins("/login").await;
    let claims = json!({"email": bad, "team": bad});
    let back = held.server.issuer.sign_in(&asked, "bo", &["dba"], &claims);
    bo.comes_back(&back).await.leads_to();
    let harmless = |text: &str| {
        for never in ["<script", "<img", "\u{202e}", "\u{1b}", "\u{200b}", " onfocus=\"x"] {
            assert!(!text.contains(never), "{never:?} in {text}");
        }
    };
    let seen = bo.get(&page()).await.is(200).shows("&lt;script&gt;").shows("\\u{202e}");
    harmless(&seen.text);
    harmless(&bo.get("/holds").await.is(200).shows("&lt;script&gt;").text);
    let comment = bad.replace('\u{202e}', "");
    let fields = [("form", &*seen.form()), ("verb", "deny"), ("comment", &*comment)];
    bo.post(&page(), &fields).await.leads_to();
    harmless(&bo.get(&page()).await.is(200).shows("Denied by &lt;/pre&gt;").text);
    let fields = [("form", &*seen.form()), ("verb", "deny"), ("comment", "a\u{1b}[2J")];
    harmless(&bo.post(&page(), &fields).await.is(400).shows("control characters").text);
    harmless(&bo.get("/login?issuer=%3Cscript%3E").await.text);
}

#[tokio::test]
async fn a_sign_in_ends_with_its_id_token_and_nothing_is_decided_after() {
    let held = Held::start().await;
    held.raise(HELD).await;
    let mut bo = Browser::new(&held.server);
    let asked = bo.begins(&format!("/login?to={HELD}")).await;
    let soon = json!({"exp": jiff::Timestamp::now().as_second() + 3});
    let back = held.server.issuer.sign_in(&asked, "bo", &["dba"], &soon);
    bo.comes_back(&back).await.leads_to();
    let form = bo.get(&page()).await.is(200).form();
    tokio::time::sleep(Duration::from_millis(3100)).await;
    let seen = bo.post(&page(), &[("form", &form), APPROVE]).await.is(401);
    seen.shows("nobody is signed in").shows("nothing was decided");
    bo.get(&page()).await.leads_to();
    assert_eq!(state(&held).await["state"], "waiting");
    // Two cookies of one name: one of them isn't ours.
    bo.signs_in("bo", &["dba"]).await;
    bo.get(&page()).await.is(200);
    let planted = format!("{}; pgate=planted", bo.cookies["pgate"]);
    bo.cookies.insert("pgate".into(), planted);
    bo.get(&page()).await.leads_to();
}

#[tokio::test]
async fn what_is_decided_timed_out_or_ended_is_decided_no_more() {
    let held = Held::start().await;
    held.raise(HELD).await;
    let mut bo = Browser::new(&held.server);
    bo.signs_in("bo", &["dba"]).await;
    let form = bo.get(&page()).await.is(200).form();
    held.post(HELD, "deny", "cy", json!({"comment": "no"})).await.ok(200);
    let late = bo.post(&page(), &[("form", &form), APPROVE]).await.is(409);
    late.shows("no longer waits: it is denied");
    bo.get(&page()).await.is(200).shows("Denied by cy@example.com").hides("<textarea");

    let short = "ho_fedcba9876543210";
    held.put(short, held.body(1)).await.ok(201);
    let mut lee = Browser::new(&held.server);
    lee.signs_in("lee", &[]).await;
    let path = format!("/holds/{short}");
    let form = lee.get(&path).await.is(200).shows("<textarea").form();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    lee.post(&path, &[("form", &form), APPROVE]).await.is(409).shows("timed out");
    lee.get(&path).await.is(200).shows("Timed out at").hides("<textarea");

    let other = "ho_00000000000000zz";
    held.raise(other).await;
    let path = format!("/v1/sessions/{}/close", held.session["session"].as_str().unwrap());
    held.server.post(&path, held.token(), json!({})).await.ok(200);
    let path = format!("/holds/{other}");
    let form = bo.get(&path).await.is(200).hides("<textarea").form();
    bo.post(&path, &[("form", &form), APPROVE]).await.is(409);
}
