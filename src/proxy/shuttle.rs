//! The shuttle: moves bytes between a client, the machine and PostgreSQL.
//!
//! Owns a connection from the end of its start-up on: when either socket is read and
//! written, what the machine asks for, and the one place where bytes go to the server,
//! which nothing passes before the log has its line.

use std::{
    future::{Future, poll_fn},
    io,
    mem::MaybeUninit,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};
use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Sleep, sleep, timeout},
};

use super::{
    admission::{Admitted, ConnectionPermit, Line, Unconfirmed, Unrecorded},
    cancel::{self, CancelRequest, IssuedKey},
    engine::Shared,
    intake::Intake,
    session::{Effect, Session},
    stream::Stream,
    upstream::Upstream,
};
use crate::{
    journal::{EndReason, Record},
    wire::{self, ErrorFields},
};

/// How long the last bytes may take to reach a peer, and what was in flight to come to its
/// end.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(3);
/// How often what is in flight when the connection ends is cancelled: the server forgets a
/// cancellation that comes before it has read the statement, and what follows in a pipeline
/// runs all the same.
const CANCEL_AGAIN: Duration = Duration::from_millis(500);
/// How often the server is kept from taking a held statement's transaction for idle: at
/// less than the shortest timeout that anybody sets for that.
const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// Bytes that are read at once.
const READ: usize = 32 * 1024;
/// Bytes waiting for a peer beyond which its other side isn't read any more.
const HIGH_WATER: usize = 128 * 1024;
/// The capacity that an empty buffer may keep, in bytes.
const KEPT: usize = 64 * 1024;

type Decision = Pin<Box<dyn Future<Output = (u64, Admitted)> + Send>>;

type Confirmation = Pin<Box<dyn Future<Output = Result<(), Unconfirmed>> + Send>>;

/// A review that is going on.
struct UnderReview {
    notices: mpsc::UnboundedReceiver<ErrorFields>,
    /// Says that the client waits no longer; none once that has been said.
    withdraw: Option<oneshot::Sender<String>>,
}

/// What has moved between the peers.
enum Moved {
    /// Bytes; the machine may have something to say.
    Bytes,
    ClientGone,
    ServerGone,
}

/// Moves bytes between a client, the machine and PostgreSQL.
pub(super) struct Shuttle {
    shared: Arc<Shared>,
    permit: Arc<ConnectionPermit>,
    session: Session,
    client: Stream,
    client_flush: bool,
    client_closed: bool,
    from_client: Intake,
    server_flush: bool,
    upstream: Upstream,
    from_server: Intake,
    issued: IssuedKey,
    started: Instant,
    decision: Option<Decision>,
    /// The control plane's word that it has the lines of what is to be sent, where the role
    /// demands it.
    receipt: Option<Confirmation>,
    /// Outcomes that aren't in the log yet: the client is given them first, which has
    /// been waiting.
    outcomes: Vec<Record>,
    /// Whether the others have had their turn since there was something to send for which
    /// the log owes a line.
    gave_way: bool,
    /// The review that the decision waits for, and whether its notices haven't been polled.
    review: Option<UnderReview>,
    review_is_new: bool,
    /// The pulse while a held statement waits.
    keeping_alive: Option<Pin<Box<Sleep>>>,
    /// A cancellation that is on its way upstream: what the client sends next waits, lest
    /// it be hit.
    cancelling: Option<JoinHandle<()>>,
}

impl Shuttle {
    /// A connection whose start-up is over, at `started`.
    pub(super) fn new(
        shared: &Arc<Shared>,
        permit: ConnectionPermit,
        session: Session,
        client: Stream,
        upstream: Upstream,
        issued: IssuedKey,
        started: Instant,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            permit: Arc::new(permit),
            session,
            client,
            client_flush: false,
            client_closed: false,
            from_client: Intake::default(),
            server_flush: false,
            upstream,
            from_server: Intake::default(),
            issued,
            started,
            decision: None,
            receipt: None,
            outcomes: Vec::new(),
            gave_way: false,
            review: None,
            review_is_new: false,
            keeping_alive: None,
            cancelling: None,
        }
    }

    /// Runs to the end of the connection; returns why it ended.
    pub(super) async fn run(mut self) -> String {
        let (mut warning, mut ending) = (self.shared.warning(), self.shared.ending());
        let (warning_comes, end_comes) = (self.shared.warning(), self.shared.ending());
        let mut waker: Option<Waker> = None;
        let reason = {
            let mut ended = pin!(ending.wait().fuse());
            let mut warned = pin!(warning.wait().fuse());
            poll_fn(|cx| {
                // What nearly never comes is waited for once, and asked after at every turn,
                // since it must be heard however busy the peers are.
                let mut anew = !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
                if anew {
                    waker = Some(cx.waker().clone());
                }
                loop {
                    if (anew || end_comes.has_come())
                        && let Poll::Ready(ended) = ended.as_mut().poll(cx)
                    {
                        self.session.end("57P01", &ended.message());
                    }
                    if (anew || warning_comes.has_come())
                        && let Poll::Ready(warned) = warned.as_mut().poll(cx)
                    {
                        self.session.tell(ErrorFields::new("NOTICE", "00000", &warned));
                    }
                    let heard = self.poll_asides(cx, std::mem::take(&mut anew));
                    if let Poll::Ready(reason) = self.poll_peers(cx) {
                        return Poll::Ready(reason);
                    }
                    if heard.is_pending() && !self.begins_to_wait() {
                        return Poll::Pending;
                    }
                }
            })
            .await
        };
        self.farewell().await;
        reason
    }

    /// Hears what comes beside the two peers' bytes; `anew` where this task hasn't waited for
    /// it yet.
    fn poll_asides(&mut self, cx: &mut Context<'_>, anew: bool) -> Poll<()> {
        let mut heard = Poll::Pending;
        if let Some(review) = &mut self.review {
            while let Poll::Ready(Some(notice)) = review.notices.poll_recv(cx) {
                self.session.tell(notice);
                heard = Poll::Ready(());
            }
        }
        if let Some(beat) = &mut self.keeping_alive
            && beat.as_mut().poll(cx).is_ready()
        {
            self.session.keep_alive();
            beat.as_mut().reset(tokio::time::Instant::now() + KEEP_ALIVE);
            heard = Poll::Ready(());
        }
        if anew || !self.issued.requests.is_empty() {
            while let Poll::Ready(Some(done)) = self.issued.requests.poll_recv(cx) {
                self.session.cancel_requested();
                self.cancel(Some(done));
                heard = Poll::Ready(());
            }
        }
        heard
    }

    /// Whether a wait has begun that hasn't been polled yet: for a review's notices, or for
    /// the next pulse of a held statement.
    fn begins_to_wait(&mut self) -> bool {
        let reviewing = self.session.is_reviewing();
        let pulse_begins = reviewing && self.keeping_alive.is_none();
        if pulse_begins {
            self.keeping_alive = Some(Box::pin(sleep(KEEP_ALIVE)));
        } else if !reviewing {
            self.keeping_alive = None;
        }
        std::mem::take(&mut self.review_is_new) || pulse_begins
    }

    /// Moves bytes for as long as there are any, and does what the machine asks for in
    /// between; returns why the connection ends, once it does.
    fn poll_peers(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        loop {
            if let Some(reason) = self.effects() {
                return Poll::Ready(reason);
            }
            if let Some(asked) = &mut self.decision
                && let Poll::Ready((id, admitted)) = asked.as_mut().poll(cx)
            {
                (self.decision, self.review) = (None, None);
                self.decided(id, admitted);
                continue;
            }
            if self.has_cancelled(cx) {
                continue;
            }
            match self.poll_step(cx) {
                Poll::Ready(Moved::Bytes) => {}
                Poll::Ready(Moved::ServerGone) => self.session.server_gone(),
                Poll::Ready(Moved::ClientGone) => {
                    self.session.to_client().clear();
                    self.session.client_gone();
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Whether a cancellation that was on its way upstream has just come to its end.
    fn has_cancelled(&mut self, cx: &mut Context<'_>) -> bool {
        let ended = self.cancelling.as_mut().is_some_and(|task| Pin::new(task).poll(cx).is_ready());
        if ended {
            self.cancelling = None;
            self.session.cancelled();
        }
        ended
    }

    /// Writes what can be written, then reads what may be read. Returns after the first
    /// read, so that the machine's effects come before more bytes. Nothing goes to the server
    /// before the lines of all that has been admitted are on disk.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Moved> {
        if self.session.to_server().has_remaining() && self.shared.admission.owes_a_line() {
            // Once round, so that one write takes the lines of all who are ready.
            if !std::mem::replace(&mut self.gave_way, true) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Err(error) = self.shared.admission.record_all() {
                self.unrecorded(&error);
                return Poll::Ready(Moved::Bytes);
            }
        }
        self.gave_way = false;
        if let Some(receipt) = &mut self.receipt {
            let received = ready!(receipt.as_mut().poll(cx));
            self.receipt = None;
            if let Err(error) = received {
                self.session.not_forwarded("58030", &format!("pgate: {error}"));
                return Poll::Ready(Moved::Bytes);
            }
        }
        let Self { session, client, upstream, .. } = self;
        let server = &mut upstream.stream;
        if let Poll::Ready(Err(_)) =
            poll_send(cx, server, session.to_server(), &mut self.server_flush)
        {
            self.server_flush = false;
            return Poll::Ready(Moved::ServerGone);
        }
        if let Poll::Ready(Err(_)) =
            poll_send(cx, client, session.to_client(), &mut self.client_flush)
        {
            self.client_flush = false;
            return Poll::Ready(Moved::ClientGone);
        }
        give_back(session.to_client());
        if let Err(error) = self.record_outcomes() {
            self.unrecorded(&error);
            return Poll::Ready(Moved::Bytes);
        }
        let Self { session, client, upstream, .. } = self;
        let server = &mut upstream.stream;
        let mut space = [MaybeUninit::uninit(); READ];
        if session.to_client().len() < HIGH_WATER && !self.from_server.rests(cx) {
            let mut bytes = ReadBuf::uninit(&mut space);
            match Pin::new(&mut *server).poll_read(cx, &mut bytes) {
                Poll::Ready(Ok(())) if !bytes.filled().is_empty() => {
                    session.server_bytes(bytes.filled(), self.started.elapsed());
                    let amid = server.gathers() && session.is_amid_rows();
                    self.from_server.took(bytes.filled().len(), READ, amid);
                    return Poll::Ready(Moved::Bytes);
                }
                Poll::Ready(_) => return Poll::Ready(Moved::ServerGone),
                Poll::Pending => {}
            }
        }
        let room = session.reads_client() || session.client_backlog() < HIGH_WATER;
        let hears = room && self.cancelling.is_none() && !self.client_closed;
        if hears && session.to_server().remaining() < HIGH_WATER && !self.from_client.rests(cx) {
            let mut bytes = ReadBuf::uninit(&mut space);
            match Pin::new(&mut *client).poll_read(cx, &mut bytes) {
                Poll::Ready(Ok(())) if !bytes.filled().is_empty() => {
                    session.client_bytes(bytes.filled());
                    let amid = client.gathers() && session.is_amid_copy_in();
                    self.from_client.took(bytes.filled().len(), READ, amid);
                    return Poll::Ready(Moved::Bytes);
                }
                Poll::Ready(_) => {
                    self.client_closed = true;
                    return Poll::Ready(Moved::ClientGone);
                }
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    /// Carries out what the machine asks for; returns why the connection ends, if it does.
    fn effects(&mut self) -> Option<String> {
        let mut closing = None;
        while let Some(effect) = self.session.effect() {
            let effect = match effect {
                Effect::Record(outcome @ (Record::Completion(_) | Record::Results(_))) => {
                    self.outcomes.push(outcome);
                    continue;
                }
                effect => effect,
            };
            if let Err(error) = self.record_outcomes() {
                self.unrecorded(&error);
            }
            match effect {
                Effect::Decide { id, request } => {
                    match self.shared.admission.admit_known(request) {
                        Ok(admitted) => self.decided(id, admitted),
                        Err(request) => {
                            let shared = Arc::clone(&self.shared);
                            self.decision = Some(Box::pin(async move {
                                (id, shared.admission.admit(request).await)
                            }));
                        }
                    }
                }
                Effect::Review { id, review } => {
                    let (sender, notices) = mpsc::unbounded_channel();
                    let (withdraw, withdrawn) = oneshot::channel();
                    let line = Line { notices: sender, withdrawn };
                    self.review = Some(UnderReview { notices, withdraw: Some(withdraw) });
                    self.review_is_new = true;
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
                    if let Err(error) = self.shared.admission.record(&record) {
                        self.unrecorded(&error);
                    }
                }
                Effect::CancelStatement => self.cancel(None),
                Effect::Close { reason } => closing = Some(reason),
                Effect::EndSession { reason, detail } => self.shared.end(reason, &detail),
            }
        }
        if closing.is_some()
            && let Err(error) = self.record_outcomes()
        {
            self.unrecorded(&error);
        }
        closing
    }

    /// Puts the outcomes that have been kept into the log, ahead of what comes after them.
    fn record_outcomes(&mut self) -> Result<(), Unrecorded> {
        self.outcomes.drain(..).try_for_each(|outcome| self.shared.admission.record(&outcome))
    }

    fn decided(&mut self, id: u64, admitted: Admitted) {
        if let Some(lines) = self.shared.admission.lines_to_be_received() {
            let shared = Arc::clone(&self.shared);
            // In place of an earlier one: it is for more lines.
            self.receipt = Some(Box::pin(async move { shared.admission.received(lines).await }));
        }
        self.session.decided(id, admitted, self.started.elapsed());
    }

    /// Nothing goes on without its record.
    fn unrecorded(&mut self, error: &Unrecorded) {
        self.shared.end(EndReason::Failed, &error.to_string());
        self.session.end("58030", &format!("pgate ended the session: {error}"));
    }

    /// Cancels upstream; `done` is dropped when that has happened.
    fn cancel(&mut self, done: Option<CancelRequest>) {
        if self.cancelling.is_some() {
            return;
        }
        let Some(key) = self.upstream.key.clone().filter(|_| self.session.in_flight()) else {
            return self.session.cancelled();
        };
        let (place, permit) = (self.upstream.place.clone(), Arc::clone(&self.permit));
        self.cancelling = Some(tokio::spawn(async move {
            if let Err(error) = cancel::send(&place, &permit, &key).await {
                tracing::warn!(%error, "a statement could not be cancelled upstream");
            }
            drop(done);
        }));
    }

    /// Sends what there is to send, hears what became of what is in flight, and closes both
    /// sides.
    async fn farewell(mut self) {
        if self.review.is_none() {
            self.decision = None;
        }
        {
            let (mut told, mut again) = (false, pin!(sleep(CANCEL_AGAIN)));
            let parting = poll_fn(|cx| {
                told = told || self.poll_goodbye(cx).is_ready();
                let concluded = self.poll_outcomes(cx, again.as_mut());
                if told { concluded } else { Poll::Pending }
            });
            let _ = timeout(FAREWELL_PATIENCE, parting).await;
        }
        self.session.conclude(self.started.elapsed());
        self.record_conclusion();
        let mut last = BytesMut::new();
        if !self.session.has_taken_leave() && self.session.may_speak_to_server() {
            wire::terminate(&mut last);
        }
        let server = &mut self.upstream.stream;
        let _ = timeout(FAREWELL_PATIENCE, async {
            server.write_all(&last).await?;
            server.shutdown().await
        })
        .await;
    }

    /// Sends the client its last bytes.
    fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { session, client, client_flush, .. } = self;
        if ready!(poll_send(cx, client, session.to_client(), client_flush)).is_ok() {
            // A client that has gone needn't be told that the connection ends.
            let _ = ready!(Pin::new(client).poll_shutdown(cx));
        }
        Poll::Ready(())
    }

    /// Hears the server, and a review that has been withdrawn, until the log has all of it.
    /// What goes to the server is the machine's own: the client's was dropped.
    fn poll_outcomes(&mut self, cx: &mut Context<'_>, mut again: Pin<&mut Sleep>) -> Poll<()> {
        loop {
            self.record_conclusion();
            if let Some(asked) = &mut self.decision
                && let Poll::Ready((id, admitted)) = asked.as_mut().poll(cx)
            {
                self.decision = None;
                self.session.decided(id, admitted, self.started.elapsed());
                continue;
            }
            if self.has_cancelled(cx) {
                continue;
            }
            if !self.session.awaits_outcomes() {
                let over = self.decision.is_none() && self.cancelling.is_none();
                return if over { Poll::Ready(()) } else { Poll::Pending };
            }
            if again.as_mut().poll(cx).is_ready() {
                again.as_mut().reset(tokio::time::Instant::now() + CANCEL_AGAIN);
                self.cancel(None);
                continue;
            }
            let Self { session, upstream, .. } = self;
            let server = &mut upstream.stream;
            // Where that fails, there may still be something to read.
            let _ = poll_send(cx, server, session.to_server(), &mut self.server_flush);
            let mut space = [MaybeUninit::uninit(); READ];
            let mut bytes = ReadBuf::uninit(&mut space);
            match ready!(Pin::new(server).poll_read(cx, &mut bytes)) {
                Ok(()) if !bytes.filled().is_empty() => {
                    session.server_bytes(bytes.filled(), self.started.elapsed());
                }
                _ => session.server_gone(),
            }
        }
    }

    /// Puts into the log what has been heard since the connection's end.
    fn record_conclusion(&mut self) {
        // The reason is known.
        let _ = self.effects();
        if let Err(error) = self.record_outcomes() {
            self.unrecorded(&error);
        }
    }
}

/// Writes as much of `bytes` as the peer takes.
fn poll_send(
    cx: &mut Context<'_>,
    stream: &mut Stream,
    bytes: &mut impl Buf,
    flush: &mut bool,
) -> Poll<io::Result<()>> {
    while bytes.has_remaining() {
        match ready!(Pin::new(&mut *stream).poll_write(cx, bytes.chunk()))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => bytes.advance(written),
        }
        *flush = true;
    }
    if *flush {
        ready!(Pin::new(stream).poll_flush(cx))?;
        *flush = false;
    }
    Poll::Ready(Ok(()))
}

/// Gives back what an empty buffer took for a crowd of bytes.
fn give_back(bytes: &mut BytesMut) {
    if bytes.is_empty() && bytes.capacity() > KEPT {
        *bytes = BytesMut::new();
    }
}
