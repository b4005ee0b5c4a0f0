//! The shell around the session machine: sockets, time, admission.
//!
//! Owns one client's connection and its upstream, from the first packet to the last.
//! It moves bytes; what they mean is the machine's affair.

use std::{
    future::{Future, poll_fn},
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf},
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    admission::{Admitted, ConnectionPermit, ConnectionRequest, Line, Refusal},
    cancel::{self, CancelRequest, IssuedKey},
    engine::{Ended, Shared},
    handshake::{self, Arrival, Welcome},
    listener::Caller,
    session::{Effect, Session, SessionConfig},
    stream::Stream,
    upstream::{Upstream, UpstreamError},
};
use crate::{
    journal::{ConnectionEnd, EndReason, Record},
    wire::{self, ErrorFields, TransactionStatus},
};

/// How long a client may take over its start-up.
const STARTUP_PATIENCE: Duration = Duration::from_secs(15);
/// How long the last bytes may take to reach a peer.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(3);
/// How often the server is kept from taking a held statement's transaction for idle: at
/// less than the shortest timeout that anybody sets for that.
const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// Bytes that are read at once.
const READ: usize = 32 * 1024;
/// Bytes waiting for a peer beyond which its other side isn't read any more.
const HIGH_WATER: usize = 128 * 1024;
/// The capacity that an empty buffer may keep, in bytes.
const KEPT: usize = 64 * 1024;

/// Serves one client to its end. `waiting` is its place among those that haven't said who
/// they are; it is given back as soon as they have.
pub(super) async fn serve(
    shared: Arc<Shared>,
    caller: Caller,
    waiting: Option<OwnedSemaphorePermit>,
) {
    let Caller { mut stream, transport, trusted } = caller;
    let mut ending = shared.ending();
    let arrival = tokio::select! {
        biased;
        ended = ending.wait() => Err(handshake::ended(&ended)),
        arrival = handshake::receive(&mut stream, &shared.door, trusted) => Ok(arrival),
        () = sleep(STARTUP_PATIENCE) => Err(handshake::too_slow(STARTUP_PATIENCE)),
    };
    drop(waiting);
    let welcome = match arrival {
        Ok(Ok(Arrival::Session(welcome))) => welcome,
        Ok(Ok(Arrival::Cancel { process, secret })) => {
            return shared.cancel_keys.request(process, &secret).await;
        }
        Ok(Ok(Arrival::Gone)) => return,
        Ok(Ok(Arrival::DirectTls)) => {
            return tracing::debug!(transport, "TLS without a question was refused");
        }
        Ok(Err(error)) => return tracing::debug!(%error, transport, "start-up failed"),
        Err(refusal) => {
            tracing::debug!(reason = refusal.message, transport, "start-up was given up");
            let _ = timeout(FAREWELL_PATIENCE, handshake::refuse(&mut stream, &refusal)).await;
            return;
        }
    };
    let request = ConnectionRequest { transport, parameters: welcome.sent.clone() };
    let permit = match shared.admission.connect(request).await {
        Ok(permit) => permit,
        Err(refusal) => {
            handshake::refuse(&mut stream, &refusal).await;
            return;
        }
    };
    let connection = permit.connection();
    let reason = match open(&shared, stream, welcome, permit).await {
        Ok(shuttle) => shuttle.run().await,
        Err(reason) => reason,
    };
    let end = Record::Disconnect(ConnectionEnd { connection, reason });
    if let Err(error) = shared.admission.record(end) {
        shared.end(EndReason::Failed, &error.to_string());
    }
}

/// Connects upstream and tells the client that its session is ready.
async fn open(
    shared: &Arc<Shared>,
    mut client: Stream,
    welcome: Welcome,
    permit: ConnectionPermit,
) -> Result<Shuttle, String> {
    let mut ending = shared.ending();
    let connected = tokio::select! {
        biased;
        ended = ending.wait() => Err(handshake::ended(&ended)),
        connected = shared.upstream.connect(&permit, &welcome.upstream) => {
            connected.map_err(|error| upstream_refusal(&error))
        }
    };
    let mut upstream = match connected {
        Ok(upstream) => upstream,
        Err(refusal) => {
            let _ = timeout(FAREWELL_PATIENCE, handshake::refuse(&mut client, &refusal)).await;
            return Err(refusal.message);
        }
    };
    let issued = shared.cancel_keys.issue(welcome.secret_length);
    let mut session = Session::new(SessionConfig {
        connection: permit.connection(),
        masks: shared.masks,
        substitute: format!("pgate_{}", super::random_text()),
    });
    let out = session.to_client();
    for (name, value) in &upstream.parameters {
        wire::parameter_status(name, value, out);
    }
    wire::backend_key_data(&issued.key, out);
    wire::ready_for_query(TransactionStatus::Idle, out);
    let early = upstream.take_input();
    let started = Instant::now();
    session.server_bytes(&early, Duration::ZERO);
    Ok(Shuttle {
        shared: Arc::clone(shared),
        permit: Arc::new(permit),
        session,
        client,
        client_flush: false,
        client_closed: false,
        server_flush: false,
        upstream,
        issued,
        started,
        decision: None,
        review: None,
        cancelling: None,
    })
}

fn upstream_refusal(error: &UpstreamError) -> Refusal {
    let sqlstate = match error {
        UpstreamError::Refused { sqlstate, .. } if sqlstate == "53300" => "53300",
        _ => "08006",
    };
    Refusal {
        statement: 0,
        sqlstate,
        message: format!("pgate could not open the database session: {error}"),
        detail: String::new(),
        hint: String::new(),
    }
}

type Decision = Pin<Box<dyn Future<Output = (u64, Admitted)> + Send>>;

/// What the shell woke up for.
enum Event {
    /// Bytes have moved; the machine may have something to say.
    Moved,
    Decided(u64, Admitted),
    CancelRequested(CancelRequest),
    Cancelled,
    Notice(ErrorFields),
    /// A held statement still waits.
    StillWaiting,
    Ended(Ended),
    ClientGone,
    ServerGone,
}

/// A review that is going on.
struct UnderReview {
    notices: mpsc::UnboundedReceiver<ErrorFields>,
    /// Says that the client waits no longer; none once that has been said.
    withdraw: Option<oneshot::Sender<String>>,
}

/// The next notice of a review; never, where there is none.
async fn next_notice(review: &mut Option<UnderReview>) -> ErrorFields {
    let notice = match review {
        Some(review) => review.notices.recv().await,
        None => None,
    };
    match notice {
        Some(notice) => notice,
        None => std::future::pending().await,
    }
}

/// Moves bytes between a client, the machine and PostgreSQL.
struct Shuttle {
    shared: Arc<Shared>,
    permit: Arc<ConnectionPermit>,
    session: Session,
    client: Stream,
    client_flush: bool,
    client_closed: bool,
    server_flush: bool,
    upstream: Upstream,
    issued: IssuedKey,
    started: Instant,
    decision: Option<Decision>,
    /// The review that the decision waits for.
    review: Option<UnderReview>,
    /// A cancellation that is on its way upstream: what the client sends next waits, lest
    /// it be hit.
    cancelling: Option<JoinHandle<()>>,
}

impl Shuttle {
    /// Runs to the end of the connection; returns why it ended.
    async fn run(mut self) -> String {
        let mut warning = self.shared.warning();
        let mut ending = self.shared.ending();
        let reason = loop {
            if let Some(reason) = self.effects() {
                break reason;
            }
            let event = tokio::select! {
                biased;
                ended = ending.wait() => Event::Ended(ended),
                warned = warning.wait() => {
                    Event::Notice(ErrorFields::new("NOTICE", "00000", &warned))
                }
                notice = next_notice(&mut self.review) => Event::Notice(notice),
                () = sleep(KEEP_ALIVE), if self.session.is_reviewing() => Event::StillWaiting,
                request = self.issued.requests.recv() => match request {
                    Some(request) => Event::CancelRequested(request),
                    None => Event::ClientGone,
                },
                event = poll_fn(|cx| step(
                    cx,
                    &mut self.session,
                    &mut self.client,
                    &mut self.client_flush,
                    &mut self.client_closed,
                    &mut self.upstream.stream,
                    &mut self.server_flush,
                    &mut self.decision,
                    &mut self.cancelling,
                    self.started,
                )) => event,
            };
            match event {
                Event::Moved => {}
                Event::Cancelled => self.session.cancelled(self.started.elapsed()),
                Event::Decided(id, admitted) => {
                    self.review = None;
                    self.session.decided(id, admitted, self.started.elapsed());
                }
                Event::CancelRequested(done) => {
                    self.session.cancel_requested();
                    self.cancel(Some(done));
                }
                Event::Notice(notice) => self.session.tell(notice),
                Event::StillWaiting => self.session.keep_alive(),
                Event::Ended(ended) => self.session.end("57P01", &ended.message()),
                Event::ClientGone => {
                    self.session.to_client().clear();
                    self.session.client_gone();
                }
                Event::ServerGone => self.session.server_gone(),
            }
        };
        self.farewell().await;
        reason
    }

    /// Carries out what the machine asks for; returns why the connection ends, if it does.
    fn effects(&mut self) -> Option<String> {
        let mut closing = None;
        while let Some(effect) = self.session.effect() {
            match effect {
                Effect::Decide { id, request } => {
                    let shared = Arc::clone(&self.shared);
                    self.decision =
                        Some(Box::pin(async move { (id, shared.admission.admit(request).await) }));
                }
                Effect::Review { id, review } => {
                    let (sender, notices) = mpsc::unbounded_channel();
                    let (withdraw, withdrawn) = oneshot::channel();
                    let line = Line { notices: sender, withdrawn };
                    self.review = Some(UnderReview { notices, withdraw: Some(withdraw) });
                    let shared = Arc::clone(&self.shared);
                    self.decision = Some(Box::pin(async move {
                        (id, shared.admission.review(*review, line).await)
                    }));
                }
                Effect::Withdraw { reason } => {
                    let withdraw = self.review.as_mut().and_then(|review| review.withdraw.take());
                    if let Some(withdraw) = withdraw {
                        // It may have been decided in this very moment.
                        let _ = withdraw.send(reason);
                    }
                }
                Effect::Record(record) => {
                    if let Err(error) = self.shared.admission.record(record) {
                        self.shared.end(EndReason::Failed, &error.to_string());
                        self.session.end("58030", &format!("pgate ended the session: {error}"));
                    }
                }
                Effect::CancelStatement => self.cancel(None),
                Effect::Close { reason } => closing = Some(reason),
                Effect::EndSession { reason, detail } => self.shared.end(reason, &detail),
            }
        }
        closing
    }

    /// Cancels upstream; `done` is dropped when that has happened.
    fn cancel(&mut self, done: Option<CancelRequest>) {
        if self.cancelling.is_some() {
            return;
        }
        let Some(key) = self.upstream.key.clone().filter(|_| self.session.in_flight()) else {
            return self.session.cancelled(self.started.elapsed());
        };
        let (shared, permit) = (Arc::clone(&self.shared), Arc::clone(&self.permit));
        self.cancelling = Some(tokio::spawn(async move {
            if let Err(error) = cancel::send(&shared.upstream, &permit, &key).await {
                tracing::warn!(%error, "a statement could not be cancelled upstream");
            }
            drop(done);
        }));
    }

    /// Sends what there is to send, and closes both sides.
    async fn farewell(mut self) {
        if self.review.is_some()
            && let Some(decision) = self.decision.take()
        {
            // It has been withdrawn, and writes so into the log.
            let _ = timeout(FAREWELL_PATIENCE, decision).await;
        }
        let to_client = self.session.to_client().split();
        let client = &mut self.client;
        let _ = timeout(FAREWELL_PATIENCE, async {
            client.write_all(&to_client).await?;
            client.shutdown().await
        })
        .await;
        if let Some(cancelling) = self.cancelling.take() {
            let _ = timeout(FAREWELL_PATIENCE, cancelling).await;
        }
        let mut last = BytesMut::new();
        wire::terminate(&mut last);
        let server = &mut self.upstream.stream;
        let _ = timeout(FAREWELL_PATIENCE, async {
            server.write_all(&last).await?;
            server.shutdown().await
        })
        .await;
    }
}

/// Writes what can be written, then reads what may be read. Returns after the first read,
/// so that the machine's effects come before more bytes.
#[expect(clippy::too_many_arguments, reason = "disjoint borrows of the shuttle's fields")]
fn step(
    cx: &mut Context<'_>,
    session: &mut Session,
    client: &mut Stream,
    client_flush: &mut bool,
    client_closed: &mut bool,
    server: &mut Stream,
    server_flush: &mut bool,
    decision: &mut Option<Decision>,
    cancelling: &mut Option<JoinHandle<()>>,
    started: Instant,
) -> Poll<Event> {
    if let Some(asked) = decision
        && let Poll::Ready((id, admitted)) = asked.as_mut().poll(cx)
    {
        *decision = None;
        return Poll::Ready(Event::Decided(id, admitted));
    }
    if let Some(task) = cancelling
        && Pin::new(task).poll(cx).is_ready()
    {
        *cancelling = None;
        return Poll::Ready(Event::Cancelled);
    }
    if let Poll::Ready(Err(_)) = poll_send(cx, server, session.to_server(), server_flush) {
        return Poll::Ready(Event::ServerGone);
    }
    if let Poll::Ready(Err(_)) = poll_send(cx, client, session.to_client(), client_flush) {
        return Poll::Ready(Event::ClientGone);
    }
    let mut space = [MaybeUninit::uninit(); READ];
    if session.to_client().len() < HIGH_WATER {
        let mut bytes = ReadBuf::uninit(&mut space);
        match Pin::new(&mut *server).poll_read(cx, &mut bytes) {
            Poll::Ready(Ok(())) if !bytes.filled().is_empty() => {
                session.server_bytes(bytes.filled(), started.elapsed());
                return Poll::Ready(Event::Moved);
            }
            Poll::Ready(_) => return Poll::Ready(Event::ServerGone),
            Poll::Pending => {}
        }
    }
    let room = session.reads_client() || session.client_backlog() < HIGH_WATER;
    let hears = room && cancelling.is_none() && !*client_closed;
    if hears && session.to_server().len() < HIGH_WATER {
        let mut bytes = ReadBuf::uninit(&mut space);
        match Pin::new(&mut *client).poll_read(cx, &mut bytes) {
            Poll::Ready(Ok(())) if !bytes.filled().is_empty() => {
                session.client_bytes(bytes.filled(), started.elapsed());
                return Poll::Ready(Event::Moved);
            }
            Poll::Ready(_) => {
                *client_closed = true;
                return Poll::Ready(Event::ClientGone);
            }
            Poll::Pending => {}
        }
    }
    Poll::Pending
}

/// Writes as much of `bytes` as the peer takes.
fn poll_send(
    cx: &mut Context<'_>,
    stream: &mut Stream,
    bytes: &mut BytesMut,
    flush: &mut bool,
) -> Poll<io::Result<()>> {
    while !bytes.is_empty() {
        match ready!(Pin::new(&mut *stream).poll_write(cx, bytes))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => bytes.advance(written),
        }
        *flush = true;
    }
    if bytes.capacity() > KEPT {
        *bytes = BytesMut::new();
    }
    if *flush {
        ready!(Pin::new(stream).poll_flush(cx))?;
        *flush = false;
    }
    Poll::Ready(Ok(()))
}
