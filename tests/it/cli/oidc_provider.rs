//! `pgate login` and the page's sign-in against a certified OpenID provider: npm's `oidc-provider`, which
//! `tests/run` installs. Without it these tests say so and pass, unless
//! `PGATE_TEST_ALL` is set.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::house::{Ended, House, finished, run};
use crate::harness::{Browser, Page};

/// The provider's process; it ends with the test.
struct Provider {
    url: String,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

/// Where the packages are, if they are installed.
fn packages() -> Option<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let installed = tests.join("drivers/node_modules/oidc-provider").is_dir();
    if !installed {
        assert!(
            std::env::var_os("PGATE_TEST_ALL").is_none(),
            "npm's oidc-provider is not installed; `tests/run` installs it"
        );
        eprintln!("skipped: npm's oidc-provider is not installed; `tests/run` installs it");
    }
    installed.then_some(tests)
}

impl Provider {
    async fn start(token_seconds: u64) -> Option<Self> {
        let packages = packages()?;
        let script = packages.join("it/cli/oidc_provider/provider.mjs");
        let mut process = Command::new("node")
            .arg(script)
            .env("PGATE_TEST_NODE_MODULES", packages.join("drivers/node_modules"))
            .env("PGATE_TEST_TOKEN_SECONDS", token_seconds.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts");
        let orders = process.stdin.take().expect("piped");
        let mut answers = BufReader::new(process.stdout.take().expect("piped")).lines();
        let url = loop {
            let line = answers.next_line().await.expect("readable").expect("it starts");
            if line.starts_with("http://") {
                break line;
            }
        };
        Some(Self { url, orders, answers, _process: process })
    }

    /// Does in a browser what `order` says, and waits until it is done.
    async fn browse(&mut self, order: &str) {
        self.orders.write_all(format!("{order}\n").as_bytes()).await.expect("it listens");
        loop {
            let line = self.answers.next_line().await.expect("readable").expect("it runs");
            assert!(!line.starts_with("failed"), "{line}");
            if line.starts_with("done") {
                return;
            }
        }
    }
}

/// Runs `pgate login` and lets `order` answer its code.
async fn log_in(house: &House, provider: &mut Provider, order: &str) -> Ended {
    let mut child = house.pgate("ana", &["login", "--output", "json"]).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let line = lines.next_line().await.expect("readable").expect("a code");
    let shown: Value = serde_json::from_str(&line).expect("JSON");
    let code = shown["code"].as_str().expect("a code");
    provider.browse(&order.replace("CODE", code)).await;
    finished(child).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certified_provider_logs_people_in_and_renews_them() {
    let Some(mut provider) = Provider::start(5).await else { return };
    let house = House::with_people_of(&provider.url).await;
    log_in(&house, &mut provider, "approve CODE ana").await.succeeds();
    let me = run(house.pgate("ana", &["whoami", "--output", "json"])).await.succeeds().json();
    assert_eq!(me["identity"]["email"], "ana@example.com");
    assert_eq!(me["identity"]["groups"][0], "engineering");
    // It rotates refresh tokens and ends the login when one comes twice.
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        run(house.pgate("ana", &["targets"])).await.succeeds();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certified_provider_s_refusal_is_one() {
    let Some(mut provider) = Provider::start(3600).await else { return };
    let house = House::with_people_of(&provider.url).await;
    let ended = log_in(&house, &mut provider, "deny CODE").await.exits(4);
    assert_eq!(ended.problem()["code"], "login_denied");
    run(house.pgate("ana", &["whoami"])).await.exits(3);
}

/// Plays somebody at the provider's pages until it sends the browser back.
async fn signed_in(browser: &mut Browser, house: &House, path: &str, who: &str) -> Page {
    let mut page = browser.open(&format!("{}{path}", house.url)).await;
    for _ in 0..5 {
        if page.url.as_str().starts_with(&house.url) {
            return page;
        }
        let answers = [("login", who), ("password", "any")];
        page = browser.send(&page, "/interaction/", &answers).await;
    }
    panic!("still at {page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certified_provider_signs_people_in_to_the_page_that_approves() {
    let Some(mut provider) = Provider::start(3600).await else { return };
    let house = House::with_people_of(&provider.url).await;
    log_in(&house, &mut provider, "approve CODE ana").await.succeeds();
    let ask = ["request", "prod-db", "--role", "writer", "--reason", "r", "--no-wait"];
    let ask = [&ask[..], &["--output", "json"]].concat();
    let grant = run(house.pgate("ana", &ask)).await.exits(5).json();
    let path = format!("/grants/{}", grant["id"].as_str().expect("an id"));

    let mut ana = Browser::new();
    let page = signed_in(&mut ana, &house, &path, "ana").await.shows("ana@example.com (corp)");
    assert!(!page.text.contains("<textarea"), "{page:?}");
    let mut bo = Browser::new();
    let page = signed_in(&mut bo, &house, &path, "bo").await.shows("bo@example.com (corp)");
    let page = bo.send(&page, "/grants/", &[("verb", "approve")]).await;
    page.shows("It is active until");
    let shown = run(house.pgate("ana", &["grants", "show", &path[8..], "--output", "json"])).await;
    let shown = shown.succeeds().json();
    assert_eq!(shown["approvals"][0]["by"]["email"], "bo@example.com");

    // Whoever gives up there is told so here.
    let mut cy = Browser::new();
    let page = cy.open(&format!("{}/holds", house.url)).await;
    let url = format!("{}/abort", page.url);
    let page = cy.open(&url).await;
    assert_eq!(page.status, 401, "{page:?}");
    page.shows("did not sign you in (access_denied)");
}
