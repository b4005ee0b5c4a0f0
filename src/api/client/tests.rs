//! Answers that a well-behaved server never gives, byte by byte, over loopback.

use std::sync::Mutex;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::api::clock_difference;

/// Answers each connection with the next of `answers` and keeps what was asked.
struct Canned {
    url: Url,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Canned {
    async fn serving(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = asked.clone();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    let read = stream.read(&mut buffer).await.expect("a request");
                    request.extend_from_slice(&buffer[..read]);
                }
                heard.lock().expect("unpoisoned").push(String::from_utf8_lossy(&request).into());
                stream.write_all(answer.as_bytes()).await.expect("the client listens");
                let _ = stream.shutdown().await;
            }
        });
        Self { url: format!("http://127.0.0.1:{port}").parse().expect("a URL"), asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("unpoisoned").clone()
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    )
}

/// Gives `first`, and `second` when that was refused.
struct Tokens {
    first: &'static str,
    second: Option<&'static str>,
}

impl TokenSource for Tokens {
    fn token(&self) -> BoxFuture<'_, Result<SecretString, TokenError>> {
        Box::pin(async { Ok(SecretString::from(self.first)) })
    }

    fn renew<'a>(
        &'a self,
        _: &'a SecretString,
    ) -> BoxFuture<'a, Result<Option<SecretString>, TokenError>> {
        Box::pin(async { Ok(self.second.map(SecretString::from)) })
    }
}

fn client(url: &Url, second: Option<&'static str>) -> Client {
    Client::new(url, Arc::new(Tokens { first: "first-token", second })).expect("a client")
}

#[tokio::test]
async fn every_bad_answer_is_a_clear_error() {
    let problem = |status: u16| {
        format!(r#"{{"status":{status},"code":"c","title":"because","hint":"do this"}}"#)
    };
    let large = format!("Content-Length: {}\r\n", LARGEST_ANSWER + 1);
    let cases = [
        ("a refusal", answer("403 Forbidden", "", &problem(403)), "Refused", "because"),
        ("a bad request", answer("422 Unprocessable", "", &problem(422)), "Refused", "because"),
        ("nothing there", answer("404 Not Found", "", &problem(404)), "NotFound", "because"),
        ("another site", answer("404 Not Found", "", "<html>"), "Garbage", "404"),
        ("a failure", answer("500 Oops", "", &problem(500)), "ServerFailed", "because"),
        ("a bare failure", answer("500 Oops", "", "\u{1b}[2J"), "Garbage", "500"),
        ("a proxy", answer("502 Bad Gateway", "", "nginx"), "Unreachable", "502"),
        ("a web page", answer("200 OK", "", "<html>"), "Garbage", "not what pgate's API"),
        ("nothing", answer("200 OK", "", ""), "Garbage", "not what pgate's API"),
        ("another object", answer("200 OK", "", "{}"), "Garbage", "missing field"),
        (
            "a redirect",
            answer("302 Found", "Location: http://evil.example/\r\n", ""),
            "Garbage",
            "redirects to http://evil.example/",
        ),
        ("too much", format!("HTTP/1.1 200 OK\r\n{large}\r\n"), "Garbage", "larger than 8 MiB"),
        (
            "half an answer",
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".into(),
            "Unreachable",
            "",
        ),
        ("not HTTP", "SSH-2.0-OpenSSH\r\n".into(), "Unreachable", ""),
        ("silence", String::new(), "Unreachable", ""),
        ("no login", answer("401 Unauthorized", "", ""), "NotLoggedIn", "doesn't take your login"),
    ];
    for (name, bytes, kind, said) in cases {
        let server = Canned::serving(vec![bytes]).await;
        let error = client(&server.url, None).whoami().await.expect_err(name);
        let (debug, text) = (format!("{error:?}"), error.to_string());
        assert!(debug.starts_with(kind), "{name}: {debug}");
        assert!(text.contains(said), "{name}: {text}");
        assert!(!debug.contains("first-token") && !debug.contains("7766"), "{name}: {debug}");
    }
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_only_once() {
    let me = r#"{"issuer":"corp","subject":"ana"}"#;
    let refused = || answer("401 Unauthorized", "", "");

    let server = Canned::serving(vec![refused(), answer("200 OK", "", me)]).await;
    let identity = client(&server.url, Some("second-token")).whoami().await.expect("renewed");
    assert_eq!(identity.subject, "ana");
    let asked = server.asked();
    assert!(asked[0].contains("Bearer first-token") && asked[1].contains("Bearer second-token"));

    let server = Canned::serving(vec![refused(), refused()]).await;
    let error = client(&server.url, Some("second-token")).whoami().await.expect_err("refused");
    assert!(matches!(error, Error::NotLoggedIn { .. }), "{error:?}");
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn a_refused_token_under_a_wrong_clock_names_the_clock() {
    let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let server = Canned::serving(vec![answer("401 Unauthorized", date, "")]).await;
    let error = client(&server.url, None).whoami().await.expect_err("refused");
    let text = error.to_string();
    assert!(text.contains("clock is") && text.contains("days ahead of the server's"), "{text}");
    assert!(error.hint().is_some_and(|hint| hint.contains("clock")));
}

#[tokio::test]
async fn a_session_route_takes_the_session_s_own_token() {
    let server = Canned::serving(vec![answer("200 OK", "", r#"{"state":"open"}"#)]).await;
    let token = SecretString::from("upload-token");
    let id = SessionId::from_random([0; 10]);
    let wait = Some(Duration::from_secs(3600));
    let client = Client::without_login(&server.url).expect("a client");
    let state = client.session_state(&id, wait, &token).await.expect("open");
    assert_eq!(state, SessionState::Open);
    let asked = server.asked();
    assert!(asked[0].starts_with("GET /v1/sessions/se_0000000000000000/state?wait=60 "));
    assert!(asked[0].contains("Bearer upload-token"));
}

#[tokio::test]
async fn a_path_in_the_server_s_url_is_kept() {
    let server = Canned::serving(vec![answer("200 OK", "", r#"{"keys":[]}"#)]).await;
    let url = server.url.join("gate/").expect("a URL");
    Client::without_login(&url).expect("a client").keys().await.expect("no keys");
    assert!(server.asked()[0].starts_with("GET /gate/.well-known/pgate/keys "));
}

#[test]
fn plain_http_stays_on_this_machine() {
    for (url, fine) in [
        ("http://127.0.0.1:7432", true),
        ("http://127.9.9.9", true),
        ("http://[::1]:1", true),
        ("http://localhost:7432", true),
        ("https://pgate.example.com", true),
        ("http://pgate.example.com", false),
        ("http://127.0.0.1.example.com", false),
        ("http://10.0.0.1", false),
        ("http://localhost.example.com", false),
        ("http://pgate.localhost:7432", false),
    ] {
        let url: Url = url.parse().expect("a URL");
        assert_eq!(Client::without_login(&url).is_ok(), fine, "{url}");
    }
}

#[test]
fn a_clock_difference_is_named_once_it_matters() {
    let at = |second| Timestamp::from_second(second).expect("in range");
    for (ours, said) in [
        (0, None),
        (59, None),
        (-59, None),
        (90, Some("90 seconds ahead of")),
        (-600, Some("10 minutes behind")),
        (3 * 3600, Some("3 hours ahead of")),
        (-10 * 86_400, Some("10 days behind")),
    ] {
        let text = clock_difference(at(1_800_000_000), at(1_800_000_000 + ours));
        assert_eq!(text.is_some(), said.is_some(), "{ours}");
        assert!(text.unwrap_or_default().contains(said.unwrap_or_default()), "{ours}");
    }
}
