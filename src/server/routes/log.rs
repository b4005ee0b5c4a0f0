//! Receiving session logs in segments, and giving them out.

use std::{io::Read as _, sync::Arc};

use axum::{
    Json,
    body::{Body as ResponseBody, Bytes},
    extract::{DefaultBodyLimit, FromRequest as _, Path, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, put},
};
use futures_util::stream;
use serde::Deserialize;

use super::{Caller, Handled, Query, Route, Token, session_of, too_large, visible_session};
use crate::{
    grant::SessionId,
    journal::{Accepted, LONGEST_SEGMENT, LineError, Receipt, ReceiveError},
    server::{app::App, archive::ArchiveError, problem::Refusal, store::StoredSession},
};

/// The longest log, in bytes.
const LONGEST_LOG: u64 = 4 * 1024 * 1024 * 1024;
/// Bytes of one piece of a log that is given out.
const PIECE: usize = 64 * 1024;

pub(super) fn routes() -> Vec<Route> {
    let path = "/v1/sessions/{id}/log";
    let upload = put(upload).layer(DefaultBodyLimit::max(LONGEST_SEGMENT));
    vec![
        Route { method: Method::PUT, path, handler: upload },
        Route { method: Method::GET, path, handler: get(download) },
    ]
}

impl From<ArchiveError> for Refusal {
    fn from(error: ArchiveError) -> Self {
        Self::internal(&error)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Beginning {
    seq: u64,
}

async fn upload(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(query): Query<Beginning>,
    Token(token): Token,
    request: Request,
) -> Handled<Receipt> {
    // Before its body is read: a stranger's would fill the memory.
    let id = session_of(&app, &id, &token).await?.view.session;
    let segment = Bytes::from_request(request, &app).await.map_err(too_large)?;
    // One segment of a session at a time, from reading how far it is to writing it.
    let _turn = app.uploads.turn(&id).await;
    let session = app.store.session(&id).await?.ok_or_else(super::unknown_session)?;
    let accepted = accept(&app, &session, query.seq, segment).await?;
    let now = app.now();
    let receipt = accepted
        .receiver
        .receipt(now, &app.key)
        .ok_or_else(|| Refusal::bad_request("empty_segment", "the segment has no line in it"))?;
    if !app.store.advance_log(&session, &accepted.receiver, &receipt, now).await? {
        return Err(Refusal::conflict("busy", "another segment came in at the same moment")
            .hint("send it again"));
    }
    Ok(Json(receipt))
}

/// Checks a segment and puts what is new of it into the archive.
async fn accept(
    app: &Arc<App>,
    session: &StoredSession,
    seq: u64,
    segment: Bytes,
) -> Result<Accepted, Refusal> {
    let (app, log) = (app.clone(), session.log.clone());
    let work = move || -> Result<Accepted, Refusal> {
        let accepted = log.accept(seq, &segment, &app.keys).map_err(refused)?;
        if accepted.receiver.bytes() > LONGEST_LOG {
            return Err(Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "log_too_large",
                format!("a session's log has at most {} GiB", LONGEST_LOG >> 30),
            ));
        }
        let new = segment.get(accepted.new_from..).unwrap_or_default();
        if !new.is_empty() {
            app.archive.append(log.session(), accepted.offset, new)?;
        }
        Ok(accepted)
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| Refusal::internal(&error))?
}

fn refused(error: ReceiveError) -> Refusal {
    let title = error.to_string();
    match error {
        ReceiveError::Gap { next, .. } => {
            Refusal::conflict("gap", title).hint(format!("send the log from line {next} on"))
        }
        ReceiveError::Forked { .. }
        | ReceiveError::SecondStart { .. }
        | ReceiveError::AfterEnd { .. } => Refusal::conflict("forked", title),
        ReceiveError::TooLong => Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", title),
        ReceiveError::BadLine { why: LineError::TooLong, .. } => {
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", title)
        }
        ReceiveError::NotWhole
        | ReceiveError::BadLine { .. }
        | ReceiveError::WrongNumber { .. }
        | ReceiveError::BadStart(_)
        | ReceiveError::BadCheckpoint { .. } => Refusal::bad_request("bad_log", title),
    }
}

async fn download(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Caller(identity): Caller,
) -> Result<Response, Refusal> {
    let session = visible_session(&app, &id, &identity).await?;
    tracing::info!(session = %session.view.session, who = %identity, "log downloaded");
    let last = match session.receipt {
        Some(receipt) => {
            session.log.receipt_line(receipt).map_err(|error| Refusal::internal(&error))?.bytes
        }
        None => Vec::new(),
    };
    let length = session.log.bytes();
    let body = if length == 0 {
        ResponseBody::empty()
    } else {
        let id: SessionId = session.view.session;
        let file = app.archive.open(&id, length)?;
        ResponseBody::from_stream(pieces(file, last))
    };
    let kind = HeaderValue::from_static("application/jsonl");
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

/// The file's content piece by piece, then `last`.
fn pieces(
    file: std::io::Take<std::fs::File>,
    last: Vec<u8>,
) -> impl futures_util::Stream<Item = std::io::Result<Vec<u8>>> {
    stream::try_unfold(Some((file, last)), async |state| {
        let Some((mut file, last)) = state else { return Ok(None) };
        let (read, file) = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; PIECE];
            let read = file.read(&mut piece).map(|length| {
                piece.truncate(length);
                piece
            });
            (read, file)
        })
        .await
        .map_err(std::io::Error::other)?;
        let piece = read?;
        if !piece.is_empty() {
            return Ok(Some((piece, Some((file, last)))));
        }
        if file.limit() > 0 {
            return Err(std::io::Error::other("the archived log is shorter than it was"));
        }
        Ok(Some((last, None)))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{
        grant::{SignedGrant, SigningKey},
        journal::{Chain, End, EndReason, Record, Start},
        server::testing::TestServer,
    };

    struct Session {
        path: String,
        token: String,
        /// The log's lines: a start, an alert, a checkpoint, the end, a checkpoint.
        lines: Vec<Vec<u8>>,
    }

    async fn session(server: &TestServer, seed: u8) -> Session {
        let ana = &server.people()["ana"];
        let grant = server.request(ana, "readonly").await;
        let opened = server.open(ana, &grant, seed).await.ok(201);
        let key = SigningKey::from_seed(&[seed; 32]);
        let now = server.app.now();
        let start = Start {
            version: crate::journal::FORMAT_VERSION,
            session: opened["session"].as_str().unwrap().parse().unwrap(),
            grant: SignedGrant::from(opened["grant"].as_str().unwrap().to_owned()),
            key: key.verifying_key().to_jwk(),
            pgate: "0.1.0".into(),
            command: None,
        };
        let (mut chain, first) = Chain::start(start, now).unwrap();
        let alert = Record::Alert { connection: None, message: "look".into() };
        let end = Record::End(End { reason: EndReason::Closed, detail: String::new() });
        let mut lines = vec![first];
        lines.push(chain.append(alert, now).unwrap());
        lines.push(chain.checkpoint(&key, now).unwrap());
        lines.push(chain.append(end, now).unwrap());
        lines.push(chain.checkpoint(&key, now).unwrap());
        Session {
            path: format!("/v1/sessions/{}", opened["session"].as_str().unwrap()),
            token: opened["upload_token"].as_str().unwrap().to_owned(),
            lines: lines.into_iter().map(|line| line.bytes).collect(),
        }
    }

    impl Session {
        async fn put(
            &self,
            server: &TestServer,
            seq: u64,
            segment: Vec<u8>,
        ) -> crate::server::testing::Answer {
            let path = format!("{}/log?seq={seq}", self.path);
            server.send("PUT", &path, Some(&self.token), Some(segment)).await
        }
    }

    #[tokio::test]
    async fn a_log_comes_in_by_segments_is_countersigned_and_verifies_as_downloaded() {
        let server = TestServer::start().await;
        let session = session(&server, 5).await;
        let receipt = session.put(&server, 0, session.lines[..2].concat()).await.ok(200);
        assert_eq!(receipt["received_seq"], 1);
        // An answer was lost: the same lines again, and new ones after them.
        let receipt = session.put(&server, 1, session.lines[1..].concat()).await.ok(200);
        assert_eq!(receipt["received_seq"], 4);
        let same = session.put(&server, 0, session.lines.concat()).await.ok(200);
        assert_eq!(same["received_head"], receipt["received_head"]);
        let ana = &server.people()["ana"];
        let view = server.get(&session.path, ana).await.ok(200);
        assert_eq!((&view["lines"], &view["statements"]), (&json!(5), &json!(0)));

        let log = server.get(&format!("{}/log", session.path), ana).await;
        assert_eq!(log.status, 200);
        assert!(log.text.as_bytes().starts_with(&session.lines.concat()));
        let last: Value = serde_json::from_str(log.text.lines().last().unwrap()).unwrap();
        assert_eq!(last["type"], "receipt");
        let report = crate::journal::verify(log.text.as_bytes(), &server.app.keys).unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
    }

    #[tokio::test]
    async fn a_segment_that_does_not_fit_is_refused_and_changes_nothing() {
        let server = TestServer::start().await;
        let session = session(&server, 5).await;
        let gap = session.put(&server, 3, session.lines[3].clone()).await;
        assert!(gap.text.contains("from line 0"), "{}", gap.text);
        gap.refused(409, "gap");
        session.put(&server, 0, session.lines[0].clone()).await.ok(200);
        let mut edited = session.lines[1].clone();
        let at = edited.windows(4).position(|four| four == b"look").unwrap();
        edited[at] = b'L';
        session
            .put(&server, 1, [edited, session.lines[2].clone()].concat())
            .await
            .refused(409, "forked");
        let cases: [(u64, Vec<u8>, u16, &str); 6] = [
            (1, b"{}\n".to_vec(), 400, "bad_log"),
            (1, b"\xff\xfe\n".to_vec(), 400, "bad_log"),
            (1, Vec::new(), 400, "bad_log"),
            (1, session.lines[1][..10].to_vec(), 400, "bad_log"),
            (1, session.lines[2].clone(), 400, "bad_log"),
            (2, session.lines[2].clone(), 409, "gap"),
        ];
        for (seq, segment, status, code) in cases {
            session.put(&server, seq, segment).await.refused(status, code);
        }
        let view = server.get(&session.path, &server.people()["ana"]).await.ok(200);
        assert_eq!(view["lines"], 1);
        session.put(&server, 1, session.lines[1..].concat()).await.ok(200);
        let huge = session.put(&server, 5, vec![b'x'; 17 << 20]).await;
        huge.refused(413, "too_large");
    }

    #[tokio::test]
    async fn a_stranger_is_refused_before_a_byte_of_their_segment_is_read() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let server = TestServer::start().await;
        let session = session(&server, 5).await;
        let address = server.url("").trim_start_matches("http://").to_owned();
        for token in ["x", "pgu_guess", &server.people()["eve"]] {
            let mut stranger = tokio::net::TcpStream::connect(&address).await.unwrap();
            let head = format!(
                "PUT {}/log?seq=0 HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
                 Content-Length: 16000000\r\n\r\n",
                session.path
            );
            stranger.write_all(head.as_bytes()).await.unwrap();
            let mut answer = [0; 12];
            let answered = stranger.read_exact(&mut answer);
            let patience = std::time::Duration::from_secs(10);
            tokio::time::timeout(patience, answered).await.expect("an answer at once").unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 40"), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn another_sessions_log_is_refused() {
        let server = TestServer::start().await;
        let (mine, other) = (session(&server, 5).await, session(&server, 6).await);
        mine.put(&server, 0, other.lines.concat()).await.refused(400, "bad_log");
    }

    #[tokio::test]
    async fn two_uploads_at_once_leave_one_whole_log() {
        let server = TestServer::start().await;
        let session = session(&server, 5).await;
        let uploads = (0..8).map(|_| session.put(&server, 0, session.lines.concat()));
        for answer in futures_util::future::join_all(uploads).await {
            answer.ok(200);
        }
        let log = server.get(&format!("{}/log", session.path), &server.people()["ana"]).await;
        assert_eq!(log.text.lines().count(), session.lines.len() + 1);
    }

    #[tokio::test]
    async fn a_log_may_still_come_in_after_the_session_has_ended() {
        let server = TestServer::start().await;
        let session = session(&server, 5).await;
        let close = format!("{}/close", session.path);
        server.send("POST", &close, Some(&session.token), None).await.ok(200);
        session.put(&server, 0, session.lines.concat()).await.ok(200);
    }
}
