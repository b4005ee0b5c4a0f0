//! Held statements decided in a browser: the notice's address, the issuer, the page.

use std::path::PathBuf;

use serde_json::Value;
use tokio::{process::Command, time::timeout};

use super::{Opened, PATIENCE, Program, reviewer, stage, tickets};
use crate::harness::{Browser, Page};

/// The address of the nth hold's page, from its notice.
async fn url(program: &Program, nth: usize) -> String {
    program
        .says("address", |said| {
            let (url, _) = said.split("approve it at ").nth(nth + 1)?.split_once(", or with")?;
            Some(url.to_owned())
        })
        .await
}

/// Opens an address as somebody whom the issuer doesn't know yet in this browser.
async fn opened_as(browser: &mut Browser, person: &str, url: &str) -> Page {
    let choice = browser.open(url).await.shows("Pick who to be");
    browser.send(&choice, "/authorize", &[("person", &format!("{person}@example.com"))]).await
}

#[tokio::test]
async fn a_reviewer_opens_the_notices_address_signs_in_and_approves() {
    let stage = stage().await;
    let sql = "DELETE FROM support_tickets WHERE id = 17 AND subject <> '<b>'";
    let client = Program::connect(stage, "ana", &["psql", "-c", sql]);
    let (hold, url) = (client.hold(0).await, url(&client, 0).await);
    assert_eq!(url, format!("{}/holds/{hold}", stage.url()));
    reviewer(stage, "dan", &["inbox", "show", &hold]).await.exits(0).says(&url);
    let list = format!("or open {}/holds", stage.url());
    reviewer(stage, "dan", &["inbox"]).await.exits(0).says(&list);

    let mut dan = Browser::new();
    let page = opened_as(&mut dan, "dan", &url).await;
    assert_eq!((page.url.as_str(), page.status), (&*url, 200));
    let shown = [
        "DELETE FROM support_tickets WHERE id = 17 AND subject &lt;&gt; '&lt;b&gt;'",
        "Laid out",
        "ana@example.com (corp)",
        "prod-db as cleaner",
        "INC-7",
        "tickets are evidence",
        "about 1 row",
        "group:dba",
    ];
    let page = shown.into_iter().fold(page, Page::shows);
    let mut ana = Browser::new();
    let own = opened_as(&mut ana, "ana", &url).await.shows("It is of your own session");
    assert!(!own.text.contains("<textarea"));
    assert_eq!(tickets(stage, "id = 17").await, 1, "nothing ran before the approval");

    let answer = [("verb", "approve"), ("comment", "go ahead")];
    let page = dan.send(&page, "/holds/", &answer).await;
    assert_eq!(page.url.as_str(), url);
    let page = page.shows("Approved once by dan@example.com (corp): go ahead");
    let (code, said) = client.ends().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("DELETE 1"), "{said}");
    dan.send(&page, "/logout", &[]).await.shows("You are signed out");
    dan.open(&url).await.shows("Pick who to be");
}

#[tokio::test]
async fn what_the_page_denies_or_approves_for_a_session_is_the_sessions_own_answer() {
    let stage = stage().await;
    let session = Opened::of(stage).await;
    let delete = |id: u32| format!("DELETE FROM support_tickets WHERE id = {id}");
    let first = session.psql(&[&delete(18), &delete(19), "DELETE FROM support_tickets"]);
    let mut dan = Browser::new();
    let page = opened_as(&mut dan, "dan", &url(&first, 0).await).await;
    let page = page.shows("DELETE FROM support_tickets WHERE id = $1");
    let page = dan.send(&page, "/holds/", &[("verb", "approve_same")]).await;
    page.shows("Approved with other values too, for its session");
    // The second has the shape that was approved; the third has another.
    let page = dan.open(&url(&first, 1).await).await;
    let answer = [("verb", "deny"), ("comment", "not all of them")];
    dan.send(&page, "/holds/", &answer).await.shows("Denied by dan@example.com");
    let (_, said) = first.ends().await;
    assert!(said.contains("dan@example.com (corp) denied") && said.contains("not all of them"));
    assert_eq!(tickets(stage, "id IN (18, 19)").await, 0);
    let events = session.close().await;
    let events = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let holds = events.filter(|event| event["event"] == "hold").collect::<Vec<_>>();
    for event in &holds {
        let url = format!("{}/holds/{}", stage.url(), event["hold"].as_str().unwrap());
        let raised = event["step"]["event"] == "raised";
        assert_eq!(event["url"].as_str(), raised.then_some(&*url), "{event}");
    }
    assert_eq!(holds.len(), 5, "{holds:?}");
}

#[tokio::test]
async fn a_request_for_a_grant_says_where_it_is_approved() {
    let stage = stage().await;
    let ask = ["request", "prod-db", "--role", "writer", "--reason", "INC-9", "--output", "json"];
    let asking = reviewer(stage, "ana", &ask);
    let deciding = async {
        let mut dan = Browser::new();
        let list = format!("{}/holds", stage.url());
        let mut page = opened_as(&mut dan, "dan", &list).await;
        let start = tokio::time::Instant::now();
        while !page.text.contains("INC-9") {
            assert!(start.elapsed() < PATIENCE, "{page:?}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            page = dan.open(&list).await;
        }
        let (_, rest) = page.text.split_once("<a href=\"/grants/").expect("a request");
        let id = rest.split('"').next().unwrap_or_default();
        let url = format!("{}/grants/{id}", stage.url());
        let page = dan.open(&url).await.shows("0 of 1 approvals");
        dan.send(&page, "/grants/", &[("verb", "approve")]).await.shows("It is active until");
        url
    };
    let (asked, url) = tokio::join!(asking, deciding);
    let asked = asked.exits(0);
    let event: Value = serde_json::from_str(asked.stdout.lines().next().unwrap()).unwrap();
    assert_eq!((&event["event"], &event["url"]), (&"waiting_approval".into(), &url.into()));
}

/// A browser on this machine; `tests/run` installs one on Linux.
fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let places = std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .chain([PathBuf::from("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")]);
    let found = places.into_iter().find(|place| place.is_file());
    if found.is_none() {
        let all = std::env::var_os("PGATE_TEST_ALL").is_some() && cfg!(target_os = "linux");
        assert!(!all, "there is no Chromium; `tests/run` installs it");
        eprintln!("skipped: there is no Chromium; `tests/run` installs it on Linux");
    }
    found
}

#[tokio::test]
async fn a_real_browser_signs_in_keeps_the_cookies_and_sends_the_form() {
    let Some(chromium) = chromium() else { return };
    let stage = stage().await;
    let sql = "DELETE FROM support_tickets WHERE id = 20";
    let client = Program::connect(stage, "ana", &["psql", "-c", sql]);
    let url = url(&client, 0).await;
    let profile = tempfile::tempdir().expect("a folder");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/holds/browser/chromium.mjs");
    let mut node = Command::new("node");
    node.arg(script).arg(chromium).arg(profile.path());
    node.args([&*url, "dan@example.com", "approve", "by hand"]).kill_on_drop(true);
    let ran = timeout(PATIENCE, node.output()).await.expect("it ends").expect("node starts");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(said.contains("Approved once by dan@example.com (corp): by hand."), "{said}");
    let (_, said) = client.ends().await;
    assert!(said.contains("DELETE 1"), "{said}");
}
