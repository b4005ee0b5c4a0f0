//! The way to the reviewers of a session's held statements, through the control plane.
//!
//! Owns raising a hold, waiting for its answer, withdrawing it, and the patience with
//! an absent server. It keeps what was approved for the rest of the session. It
//! refuses to take silence for an answer: who can't be asked hasn't agreed.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use secrecy::SecretString;
use tokio::{
    sync::broadcast,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    api::{self, Client, HeldStatement, HoldView, RaiseHold, Withdrawal},
    grant::{Decision, HoldId, HoldState, Scope, SessionId},
    journal::HoldRecord,
    policy::{Held, RuleRef},
    sql::Shape,
};

/// How long the control plane may be out of reach, in all, before a statement is refused.
const PATIENCE: Duration = Duration::from_secs(12);
/// The first pause between attempts, and the longest.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long one question waits at the server for an answer.
const ANSWER_WAIT: Duration = Duration::from_secs(25);
/// How much longer than the control plane's own clock this side waits.
const GRACE: Duration = Duration::from_secs(5);
/// News of holds that may wait for a slow listener.
const NEWS: usize = 256;

/// Why no reviewer could be asked, or none can answer, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unasked(pub(super) String);

/// What became of a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Approved(Decision, Scope),
    Denied(Decision),
    TimedOut,
    /// The session has ended at the control plane, or the hold was withdrawn there.
    Over(String),
}

/// An approval of statements of one shape, under one rule.
#[derive(Debug)]
struct SameStatements {
    hold: HoldId,
    rule: RuleRef,
    shape: Shape,
}

/// Asks reviewers, for all connections of one session.
#[derive(Debug)]
pub struct ReviewDesk {
    client: Client,
    session: SessionId,
    upload_token: SecretString,
    approved: Mutex<Vec<SameStatements>>,
    news: broadcast::Sender<HoldNews>,
}

/// A step of a hold, for whoever listens beside the log.
#[derive(Debug, Clone)]
pub struct HoldNews {
    /// What the log has of it.
    pub record: HoldRecord,
    /// Where its reviewers find it, when it is raised.
    pub url: Option<String>,
}

impl ReviewDesk {
    /// For a session, by its upload token's right.
    pub fn new(client: Client, session: SessionId, upload_token: SecretString) -> Self {
        let news = broadcast::Sender::new(NEWS);
        Self { client, session, upload_token, approved: Mutex::default(), news }
    }

    /// What becomes of the session's holds from now on, as its log records it.
    pub fn news(&self) -> broadcast::Receiver<HoldNews> {
        self.news.subscribe()
    }

    /// Tells whoever listens.
    pub(super) fn tell(&self, record: HoldRecord, url: Option<&str>) {
        // Nobody may be listening.
        let _ = self.news.send(HoldNews { record, url: url.map(str::to_owned) });
    }

    /// The hold whose approval covers a statement of this shape under this rule.
    pub(super) fn covered(&self, held: &Held, shape: Option<&Shape>) -> Option<HoldId> {
        let shape = shape?;
        self.approved()
            .iter()
            .find(|earlier| earlier.rule == held.rule && earlier.shape == *shape)
            .map(|earlier| earlier.hold.clone())
    }

    /// Keeps an approval for the rest of the session.
    pub(super) fn remember(&self, hold: &HoldId, held: &Held, shape: &Shape) {
        let (hold, rule, shape) = (hold.clone(), held.rule.clone(), shape.clone());
        self.approved().push(SameStatements { hold, rule, shape });
    }

    fn approved(&self) -> MutexGuard<'_, Vec<SameStatements>> {
        self.approved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises a hold. The request is sent again while the control plane is out of reach,
    /// for a bounded time; the id makes that safe.
    pub(super) async fn raise(
        &self,
        id: &HoldId,
        held: &Held,
        statement: HeldStatement,
    ) -> Result<HoldView, Unasked> {
        let request = RaiseHold {
            session: self.session.clone(),
            rule: held.rule.rule.clone(),
            why: held.reason.clone(),
            statement,
        };
        let deadline = Instant::now() + PATIENCE;
        let mut pause = PAUSE;
        loop {
            let attempt = self.client.raise_hold(id, &request, &self.upload_token);
            let error = match timeout_at(deadline, attempt).await {
                Ok(Ok(view)) => return Ok(view),
                Ok(Err(error)) => error,
                Err(_) => return Err(Unasked("the control plane didn't answer in time".into())),
            };
            if !error.may_pass() || Instant::now() + pause >= deadline {
                return Err(unasked(&error));
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits for the answer to a hold.
    pub(super) async fn answer(&self, raised: &HoldView) -> Result<Answer, Unasked> {
        let lasts = raised.hold.expires_at.duration_since(raised.hold.raised_at);
        let lasts = Duration::try_from(lasts).unwrap_or_default();
        let deadline = Instant::now() + lasts + GRACE;
        let mut silent_since = None;
        let mut pause = PAUSE;
        loop {
            let wait = Some(ANSWER_WAIT);
            let asked = self.client.hold(&raised.hold.id, wait, &self.upload_token);
            match timeout_at(deadline, asked).await {
                Err(_) => return Ok(Answer::TimedOut),
                Ok(Ok(view)) => {
                    (silent_since, pause) = (None, PAUSE);
                    if let Some(answer) = answered(view.hold.state) {
                        return Ok(answer);
                    }
                    if Instant::now() >= deadline {
                        return Ok(Answer::TimedOut);
                    }
                }
                Ok(Err(error)) => {
                    let since = *silent_since.get_or_insert_with(Instant::now);
                    if !error.may_pass() || since.elapsed() + pause >= PATIENCE {
                        return Err(unasked(&error));
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Tells the control plane that a statement waits no longer; it finds out by itself
    /// where it can't be told.
    pub(super) fn withdraw(&self, id: HoldId, reason: String) {
        let (client, token) = (self.client.clone(), self.upload_token.clone());
        tokio::spawn(async move {
            let deadline = Instant::now() + PATIENCE;
            let withdrawal = Withdrawal { reason };
            let mut pause = PAUSE;
            loop {
                let attempt = client.withdraw_hold(&id, &withdrawal, &token);
                match timeout_at(deadline, attempt).await {
                    Ok(Err(error)) if error.may_pass() && Instant::now() + pause < deadline => {
                        sleep(pause).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                    Ok(Err(error)) => {
                        tracing::info!(hold = %id, %error, "the hold could not be withdrawn");
                        return;
                    }
                    Ok(Ok(_)) | Err(_) => return,
                }
            }
        });
    }
}

fn unasked(error: &api::Error) -> Unasked {
    Unasked(match error {
        api::Error::Unreachable { reason, .. } => {
            format!("the control plane is out of reach ({reason})")
        }
        other => other.to_string(),
    })
}

fn answered(state: HoldState) -> Option<Answer> {
    match state {
        HoldState::Waiting => None,
        HoldState::Approved { decision, scope } => Some(Answer::Approved(decision, scope)),
        HoldState::Denied { decision } => Some(Answer::Denied(decision)),
        HoldState::TimedOut { .. } => Some(Answer::TimedOut),
        HoldState::Withdrawn { because, .. } | HoldState::SessionEnded { because, .. } => {
            Some(Answer::Over(because))
        }
    }
}

/// How long something lasts, as a person is told: `10 minutes`.
pub(super) fn in_words(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.as_second().saturating_sub(from.as_second()).max(0);
    let (count, unit) = match seconds {
        120.. => ((seconds + 30) / 60, "minutes"),
        60.. => (1, "minute"),
        1 => (1, "second"),
        seconds => (seconds, "seconds"),
    };
    format!("{count} {unit}")
}
