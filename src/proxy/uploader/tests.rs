use std::{net::SocketAddr, path::Path, sync::Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Query, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::{post, put},
};

use super::*;
use crate::{
    journal::{End, EndReason, LONGEST_LINE, Receiver, sample, verify},
    proxy::spool::{Destination, orphans},
};

/// What the receiving end does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// As it should.
    Well,
    /// Takes what it is given, then fails to say so.
    LosesAnswers,
    Fails,
    Refuses,
    /// Countersigns something else.
    Lies,
    Hangs,
}

/// A control plane's receiving end: real receiving and signing behind real HTTP,
/// with moods.
struct Plane {
    mood: Mood,
    receiver: Receiver,
    log: Vec<u8>,
    puts: u32,
    closed: bool,
}

type Shared = Arc<Mutex<Plane>>;

fn fresh_receiver() -> Receiver {
    Receiver::new(sample::session(), sample::session_key().verifying_key().to_jwk())
}

fn problem(status: u16) -> Response {
    let body = serde_json::json!({ "status": status, "code": "mood", "title": "not now" });
    (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

async fn receive(
    State(plane): State<Shared>,
    Query(query): Query<std::collections::HashMap<String, u64>>,
    body: Bytes,
) -> Response {
    let mood = plane.lock().unwrap().mood;
    if mood == Mood::Hangs {
        std::future::pending::<()>().await;
    }
    let mut plane = plane.lock().unwrap();
    plane.puts += 1;
    match mood {
        Mood::Fails => return problem(503),
        Mood::Refuses => return problem(403),
        Mood::Well | Mood::LosesAnswers | Mood::Lies | Mood::Hangs => {}
    }
    let keys = [sample::server_key().verifying_key()];
    let accepted = match plane.receiver.accept(query["seq"], &body, &keys) {
        Ok(accepted) => accepted,
        Err(_) => return problem(409),
    };
    plane.log.extend_from_slice(&body[accepted.new_from..]);
    plane.receiver = accepted.receiver;
    if mood == Mood::LosesAnswers {
        return problem(502);
    }
    let mut receipt = plane.receiver.receipt(sample::at(60_000), &sample::server_key()).unwrap();
    if mood == Mood::Lies {
        receipt.received_head = "0".repeat(64);
    }
    axum::Json(receipt).into_response()
}

async fn close(State(plane): State<Shared>) -> Response {
    let mut plane = plane.lock().unwrap();
    if plane.mood != Mood::Well {
        return problem(503);
    }
    plane.closed = true;
    let view = serde_json::json!({
        "session": sample::session(), "grant": sample::grant().grant,
        "identity": sample::grant().identity, "target": "prod-db", "role": "readonly",
        "reason": "INC-1", "opened_at": sample::at(0), "expires_at": sample::at(1),
        "ended_at": sample::at(1), "state": "closed", "lines": 1, "statements": 0,
    });
    axum::Json(view).into_response()
}

struct Rig {
    root: tempfile::TempDir,
    plane: Shared,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Rig {
    async fn new(mood: Mood) -> Self {
        let plane =
            Plane { mood, receiver: fresh_receiver(), log: Vec::new(), puts: 0, closed: false };
        let plane = Arc::new(Mutex::new(plane));
        let session = sample::session();
        let routes = Router::new()
            .route(&format!("/v1/sessions/{session}/log"), put(receive))
            .route(&format!("/v1/sessions/{session}/close"), post(close))
            .layer(DefaultBodyLimit::max(LONGEST_SEGMENT))
            .with_state(Arc::clone(&plane));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { root: tempfile::tempdir().unwrap(), plane, address, serving }
    }

    fn spool(&self) -> Arc<Spool> {
        let destination = Destination {
            server: format!("http://{}", self.address).parse().unwrap(),
            upload_token: "token".to_owned().into(),
        };
        let (start, key) = (sample::start(), sample::session_key());
        let now = sample::at(0);
        Arc::new(Spool::create(self.root.path(), &destination, start, key, now).unwrap())
    }

    fn uploader(&self, spool: &Arc<Spool>) -> Uploader {
        let server = format!("http://{}", self.address).parse().unwrap();
        let client = Client::without_login(&server).unwrap();
        Uploader::start(Arc::clone(spool), client, "token".to_owned().into()).unwrap()
    }

    fn set(&self, mood: Mood) {
        self.plane.lock().unwrap().mood = mood;
    }

    fn puts(&self) -> u32 {
        self.plane.lock().unwrap().puts
    }

    fn received(&self) -> u64 {
        self.plane.lock().unwrap().receiver.lines()
    }

    fn is_closed(&self) -> bool {
        self.plane.lock().unwrap().closed
    }

    /// What the control plane has, verified.
    fn report(&self) -> crate::journal::Report {
        let log = self.plane.lock().unwrap().log.clone();
        verify(log.as_slice(), &[sample::server_key().verifying_key()]).unwrap()
    }

    fn is_empty(&self) -> bool {
        std::fs::read_dir(self.root.path()).unwrap().count() == 0
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn end() -> End {
    End { reason: EndReason::Closed, detail: String::new() }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..200 {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn lines_go_up_while_the_session_runs_and_an_idle_one_is_silent() {
    let rig = Rig::new(Mood::Well).await;
    let spool = rig.spool();
    let uploader = rig.uploader(&spool);
    let mut received = spool.lines_received();
    spool.append(&sample::statement(1, "SELECT 1"), sample::at(1)).unwrap();
    received.wait_for(|lines| *lines == 3).await.unwrap();
    let puts = rig.puts();
    sleep(PERIOD * 5 / 2).await;
    assert_eq!(rig.puts(), puts, "a receipt alone is not sent back");
    spool.append(&sample::statement(2, "SELECT 2"), sample::at(2)).unwrap();
    spool.hurry();
    received.wait_for(|lines| *lines == 6).await.unwrap();
    spool.close(end(), sample::at(3)).unwrap();
    assert!(matches!(uploader.finish(LONG).await, Outcome::Uploaded));
    let report = rig.report();
    assert_eq!(report.problems, []);
    assert!(report.closed.is_some() && report.receipts >= 2);
    assert!(rig.is_closed() && rig.is_empty());
}

#[tokio::test]
async fn much_does_not_wait_for_the_second() {
    let rig = Rig::new(Mood::Well).await;
    let spool = rig.spool();
    let _uploader = rig.uploader(&spool);
    let mut received = spool.lines_received();
    let began = Instant::now();
    spool.append(&sample::statement(1, &"x".repeat(4_300_000)), sample::at(1)).unwrap();
    received.wait_for(|lines| *lines >= 2).await.unwrap();
    assert!(began.elapsed() < PERIOD, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_line_longer_than_a_segment_goes_up_whole() {
    let rig = Rig::new(Mood::Well).await;
    let spool = rig.spool();
    let uploader = rig.uploader(&spool);
    let long = "x".repeat(LONGEST_LINE - 10_000);
    spool.append(&sample::statement(1, &long), sample::at(1)).unwrap();
    spool.append(&sample::statement(2, "SELECT 1"), sample::at(1)).unwrap();
    spool.close(end(), sample::at(2)).unwrap();
    assert!(matches!(uploader.finish(LONG).await, Outcome::Uploaded));
    assert_eq!((rig.report().problems, rig.report().statements), (vec![], 2));
}

#[tokio::test]
async fn lost_answers_lose_and_double_nothing() {
    let rig = Rig::new(Mood::LosesAnswers).await;
    let spool = rig.spool();
    let uploader = rig.uploader(&spool);
    for n in 1..=3 {
        spool.append(&sample::statement(n, "SELECT 1"), sample::at(1)).unwrap();
        let sent = spool.log().1;
        until("taken", || rig.plane.lock().unwrap().log.len() as u64 >= sent).await;
    }
    assert_eq!(*spool.lines_received().borrow(), 0);
    rig.set(Mood::Well);
    spool.close(end(), sample::at(3)).unwrap();
    assert!(matches!(uploader.finish(LONG).await, Outcome::Uploaded));
    let report = rig.report();
    assert_eq!((report.problems, report.statements), (vec![], 3));
}

#[tokio::test]
async fn a_server_that_lost_what_it_had_gets_all_of_it_again() {
    let rig = Rig::new(Mood::Well).await;
    let spool = rig.spool();
    let uploader = rig.uploader(&spool);
    spool.append(&sample::statement(1, "SELECT 1"), sample::at(1)).unwrap();
    until("received", || rig.received() > 1).await;
    {
        let mut plane = rig.plane.lock().unwrap();
        (plane.receiver, plane.log) = (fresh_receiver(), Vec::new());
    }
    spool.close(end(), sample::at(3)).unwrap();
    assert!(matches!(uploader.finish(LONG).await, Outcome::Uploaded));
    assert_eq!((rig.report().problems, rig.report().statements), (vec![], 1));
}

#[tokio::test]
async fn a_log_that_does_not_go_up_stays_and_its_reason_is_told() {
    type Expected = fn(&UploadError) -> bool;
    let cases: [(Mood, Expected); 4] = [
        (Mood::Fails, |why| matches!(why, UploadError::Server(api::Error::ServerFailed(_)))),
        (Mood::Refuses, |why| matches!(why, UploadError::Server(api::Error::Refused(_)))),
        (Mood::Lies, |why| matches!(why, UploadError::WrongReceipt { .. })),
        (Mood::Hangs, |why| matches!(why, UploadError::TooSlow)),
    ];
    for (mood, expected) in cases {
        let rig = Rig::new(mood).await;
        let spool = rig.spool();
        let uploader = rig.uploader(&spool);
        spool.append(&sample::statement(1, "SELECT 1"), sample::at(1)).unwrap();
        spool.close(end(), sample::at(3)).unwrap();
        let began = Instant::now();
        let outcome = uploader.finish(Duration::from_secs(2)).await;
        assert!(began.elapsed() < Duration::from_secs(4), "{mood:?}");
        let Outcome::Kept { folder, why } = outcome else { panic!("{mood:?}") };
        assert!(expected(&why), "{mood:?}: {why}");
        assert!(folder.join("log.jsonl").exists() && !rig.is_closed(), "{mood:?}");
    }
}

#[tokio::test]
async fn what_a_dead_process_left_goes_up_by_the_logs_own_right() {
    let rig = Rig::new(Mood::Fails).await;
    let spool = rig.spool();
    spool.append(&sample::statement(1, "SELECT 1"), sample::at(1)).unwrap();
    let log = spool.folder().join("log.jsonl");
    drop(spool);
    tear(&log);

    let orphan = orphans(rig.root.path()).pop().unwrap().unwrap();
    let failed = recover(orphan, Duration::from_secs(1)).await;
    assert!(matches!(failed, Err(UploadError::Server(_))), "{failed:?}");
    assert!(log.exists());

    rig.set(Mood::Well);
    let orphan = orphans(rig.root.path()).pop().unwrap().unwrap();
    recover(orphan, LONG).await.unwrap();
    assert!(rig.is_empty() && rig.is_closed());
    let mut plane = rig.plane.lock().unwrap();
    let receipt = plane.receiver.receipt(sample::at(9), &sample::server_key()).unwrap();
    let receipt = plane.receiver.receipt_line(receipt).unwrap();
    plane.log.extend(receipt.bytes);
    drop(plane);
    let report = rig.report();
    assert_eq!((report.problems, report.statements), (vec![], 1));
    assert_eq!(report.notices, [crate::journal::Notice::NotClosed]);
}

/// Leaves half a line at a log's end, as a kill in the middle of a write does.
fn tear(log: &Path) {
    let mut bytes = std::fs::read(log).unwrap();
    bytes.extend_from_slice(br#"{"seq":2,"at":"20"#);
    std::fs::write(log, bytes).unwrap();
}
