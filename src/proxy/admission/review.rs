//! What admission does with a held statement: it asks the reviewers, one after the
//! other, and makes the permit only from what it then finds.
//!
//! An approval is an answer to what was asked. So before a permit is made the
//! statement is decided anew, on the catalog as it is then: where the grant has
//! ended, a table has changed, or the rules hold it otherwise, the approval is void.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::{
    Admission, Admitted, Approval, Judged, Leave, Permit, Refusal, StatementRequest, Unrecorded,
    expired, text,
};
use crate::{
    api::{Estimate, HeldStatement, HoldView, StatementShape},
    grant::{Decision, HoldId, Scope},
    journal::{HoldEvent, HoldRecord, Record},
    policy::{Denied, Held, Reviewers, RowRule, RuleRef, Verdict},
    proxy::{
        allowance, estimate,
        review::{Answer, ReviewDesk, in_words},
        ruling::{Decided, HeldText, builtin},
    },
    wire::{ErrorFields, field},
};

/// A held statement whose reviewers are still to be asked. Its line is on disk.
#[derive(Debug)]
pub struct Review {
    pub(super) statement: u64,
    pub(super) request: StatementRequest,
    decided: Arc<Decided>,
    /// Whose approval it takes, and by which rule: each of them.
    holds: Vec<Held>,
    /// Those of the rules that hang on its rows.
    by_rows: Arc<[RuleRef]>,
    /// What PostgreSQL expects of it, where it has been asked.
    estimate: Option<Estimate>,
}

impl Review {
    pub(super) fn of(statement: u64, request: StatementRequest, judged: Judged) -> Self {
        let Judged { decided, holds, by_rows, estimate, .. } = judged;
        Self { statement, request, decided, holds, by_rows, estimate }
    }

    /// A review for tests of the machine.
    #[cfg(any(test, fuzzing))]
    pub(in crate::proxy) fn for_test(request: StatementRequest, decided: Decided) -> Self {
        let (holds, by_rows) = (Vec::new(), Arc::from([]));
        Self { statement: 1, request, decided: Arc::new(decided), holds, by_rows, estimate: None }
    }

    /// What waits.
    #[cfg(any(test, fuzzing))]
    pub(in crate::proxy) fn request_for_test(&self) -> &StatementRequest {
        &self.request
    }
}

/// How the one who waits is spoken with.
#[derive(Debug)]
pub(in crate::proxy) struct Line {
    /// Notices for the client.
    pub(in crate::proxy) notices: mpsc::UnboundedSender<ErrorFields>,
    /// Resolves when the client waits no longer, with the reason.
    pub(in crate::proxy) withdrawn: oneshot::Receiver<String>,
}

/// Why a held statement doesn't run.
enum No {
    /// A reviewer said no, or none said yes: the event for the log, the error for the client.
    Answer(Box<(HoldEvent, Refusal)>),
    Unrecorded(Unrecorded),
}

impl No {
    fn answer(event: HoldEvent, refusal: Refusal) -> Self {
        Self::Answer(Box::new((event, refusal)))
    }
}

impl From<Unrecorded> for No {
    fn from(error: Unrecorded) -> Self {
        No::Unrecorded(error)
    }
}

/// The hold that waits at the moment.
type Current = Mutex<Option<HoldId>>;

impl Admission {
    /// Asks the reviewers of a held statement and waits for them. The client is told at
    /// once whom it waits for; where it waits no longer, the hold is withdrawn.
    pub(in crate::proxy) async fn review(&self, review: Review, line: Line) -> Admitted {
        let Line { notices, withdrawn } = line;
        let current = Current::default();
        let outcome = tokio::select! {
            biased;
            reason = withdrawn => {
                let reason = reason.unwrap_or_else(|_| "the connection ended".to_owned());
                Err(withdrawn_by(&review, reason))
            }
            outcome = self.ask(&review, &notices, &current) => outcome,
        };
        let no = match outcome {
            Ok(permit) => return Admitted::Forward(permit),
            Err(no) => no,
        };
        match no {
            No::Unrecorded(error) => {
                Admitted::Refuse(Refusal::unrecorded(review.statement, &error))
            }
            No::Answer(answer) => {
                let (event, refusal) = *answer;
                let hold = current.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(hold) = hold {
                    if let HoldEvent::Withdrawn { reason } | HoldEvent::Failed { reason } = &event
                        && let Some(desk) = &self.desk
                    {
                        desk.withdraw(hold.clone(), reason.chars().take(500).collect());
                    }
                    if let Err(error) = self.step(&review, hold, event) {
                        return Admitted::Refuse(Refusal::unrecorded(review.statement, &error));
                    }
                }
                Admitted::Refuse(refusal)
            }
        }
    }

    async fn ask(
        &self,
        review: &Review,
        notices: &mpsc::UnboundedSender<ErrorFields>,
        current: &Current,
    ) -> Result<Permit, No> {
        let Some(HeldText { shape, .. }) = review.decided.held.as_deref() else {
            return Err(No::answer(
                HoldEvent::Failed { reason: "nothing holds it".into() },
                Refusal::of(review.statement, &changed()),
            ));
        };
        let mut last = None;
        let mut estimate = review.estimate.clone();
        for held in &review.holds {
            let desk = self.desk.as_ref().ok_or_else(|| alone(review, held))?;
            if let Some(hold) = desk.covered(held, shape.as_ref()) {
                self.step(review, hold.clone(), HoldEvent::Covered)?;
                last = Some(hold);
                continue;
            }
            let id = HoldId::from_random(rand::random());
            *current.lock().unwrap_or_else(PoisonError::into_inner) = Some(id.clone());
            // Whatever reviewers there are, PostgreSQL is asked once.
            let estimate = match &estimate {
                Some(known) => known.clone(),
                None => {
                    estimate.insert(self.expect(&review.request, &review.decided).await).clone()
                }
            };
            let statement = HeldStatement {
                connection: review.request.connection,
                statement: review.statement,
                protocol: review.request.protocol,
                sql: review.request.sql.to_string(),
                parameters: review.request.parameters.to_vec(),
                shape: shape.as_ref().map(|shape| StatementShape {
                    fingerprint: shape.fingerprint.clone(),
                    text: shape.text.clone(),
                }),
                estimate,
            };
            let raised = desk
                .raise(&id, held, statement)
                .await
                .map_err(|why| unanswered(review, held, &why.0))?;
            let (connection, statement) = (review.request.connection, review.statement);
            let event = raised_event(held, &raised);
            self.step_of(connection, statement, id.clone(), event, raised.url.as_deref())?;
            // Where the client has gone, the review is withdrawn in a moment.
            let _ = notices.send(notice(held, &raised));
            let (decision, scope) = self.answer(review, held, &raised, desk).await?;
            let same = shape.as_ref().filter(|_| scope == Scope::SameStatements);
            self.step(review, id.clone(), approved_event(decision, scope))?;
            if let Some(shape) = same {
                desk.remember(&id, held, shape);
            }
            last = Some(id);
        }
        match last {
            Some(hold) => self.approved(review, hold).await,
            None => Err(No::answer(
                HoldEvent::Failed { reason: "nobody was asked".into() },
                Refusal::of(review.statement, &changed()),
            )),
        }
    }

    async fn answer(
        &self,
        review: &Review,
        held: &Held,
        raised: &HoldView,
        desk: &ReviewDesk,
    ) -> Result<(Decision, Scope), No> {
        match desk.answer(raised).await {
            Ok(Answer::Approved(decision, scope)) => Ok((decision, scope)),
            Ok(Answer::Denied(decision)) => Err(denied(review, held, decision)),
            Ok(Answer::TimedOut) => Err(timed_out(review, held, raised)),
            Ok(Answer::Over(because)) => Err(unanswered(review, held, &because)),
            Err(why) => Err(unanswered(review, held, &why.0)),
        }
    }

    /// Everybody has agreed: the permit, if the statement is still what they agreed to.
    async fn approved(&self, review: &Review, hold: HoldId) -> Result<Permit, No> {
        let void = |denied: Denied| {
            let event = HoldEvent::Void { reason: denied.reason.clone() };
            No::answer(event, Refusal::of(review.statement, &denied))
        };
        if Timestamp::now() >= self.expires_at {
            return Err(void(expired()));
        }
        let (ruling, decided) = self.drift.decide_anew(&review.request.sql).await.map_err(&void)?;
        if let Verdict::Deny(denied) = &**decided.verdict {
            return Err(void(denied.clone()));
        }
        // The rules that the reviewers have lifted count no more; PostgreSQL is asked again
        // only where others are left.
        let lifted = |rule: &RowRule| review.by_rows.contains(rule.rule());
        if !decided.row_rules.iter().all(lifted) {
            let estimate = self.expect(&review.request, &decided).await;
            let by_rows = allowance::foreseen(&decided.row_rules, estimate::rows(&estimate))
                .map_err(&void)?;
            if by_rows.iter().any(|held| !review.by_rows.contains(&held.rule)) {
                return Err(void(grown()));
            }
        }
        let agreed = |held: &Held| review.holds.contains(held);
        let by_text = decided.held.as_deref().map_or(&[][..], |held| &held.holds);
        let asked = review.decided.held.as_deref().map_or(&[][..], |held| &held.holds);
        let same = by_text.iter().all(|held| agreed(held) || asked.contains(held))
            && text(decided.rewritten.as_ref()) == text(review.decided.rewritten.as_ref());
        let prepared = review
            .request
            .earlier
            .as_ref()
            .is_none_or(|earlier| earlier.text() == text(decided.rewritten.as_ref()));
        if !same || !prepared {
            return Err(void(changed()));
        }
        self.look_up(decided.lookups).map_err(&void)?;
        if Timestamp::now() >= self.expires_at {
            return Err(void(expired()));
        }
        let approval = Some(Approval { hold, lifted: Arc::clone(&review.by_rows) });
        Ok(self.permit(review.statement, &ruling, &decided, Leave::Run { approval }))
    }

    /// Records that an Execute goes on with a run that was approved.
    pub(super) fn goes_on(
        &self,
        statement: u64,
        request: &StatementRequest,
        begun: &Approval,
    ) -> Result<(), Unrecorded> {
        self.step_of(request.connection, statement, begun.hold.clone(), HoldEvent::Covered, None)
    }

    fn step(&self, review: &Review, hold: HoldId, event: HoldEvent) -> Result<(), Unrecorded> {
        self.step_of(review.request.connection, review.statement, hold, event, None)
    }

    /// Records a step of a hold, then tells whoever listens, with its page's address.
    fn step_of(
        &self,
        connection: u32,
        statement: u64,
        hold: HoldId,
        event: HoldEvent,
        url: Option<&str>,
    ) -> Result<(), Unrecorded> {
        let record = HoldRecord { connection, statement, hold, event };
        self.record(&Record::Hold(Box::new(record.clone())))?;
        if let Some(desk) = &self.desk {
            desk.tell(record, url);
        }
        Ok(())
    }
}

fn raised_event(held: &Held, raised: &HoldView) -> HoldEvent {
    HoldEvent::Raised {
        rule: held.rule.clone(),
        reviewers: Some(raised.reviewers.clone()),
        expires_at: raised.hold.expires_at,
    }
}

fn approved_event(decision: Decision, scope: Scope) -> HoldEvent {
    let Decision { by, at, comment } = decision;
    HoldEvent::Approved { by, decided_at: at, scope, comment }
}

/// What the client is told while it waits.
fn notice(held: &Held, raised: &HoldView) -> ErrorFields {
    let who = match &raised.reviewers {
        Reviewers::Group(group) => format!("a member of {group}"),
        Reviewers::User(user) => user.clone(),
    };
    let hold = &raised.hold;
    let message = format!("pgate holds this statement as {} until {who} approves it", hold.id);
    let detail = format!("{} (rule {})", held.reason, held.rule);
    let lasts = in_words(hold.raised_at, hold.expires_at);
    let page = raised.url.as_ref().map_or(String::new(), |url| format!("at {url}, or "));
    let hint = format!(
        "They approve it {page}with: pgate approve {}. It is refused in {lasts}; cancel it to \
         withdraw it.",
        hold.id
    );
    ErrorFields::new("NOTICE", "00000", &message)
        .with(field::DETAIL, &detail)
        .with(field::HINT, &hint)
}

fn refusal(review: &Review, held: &Held, message: String, detail: String, hint: &str) -> Refusal {
    let rule = format!("rule {}", held.rule);
    Refusal {
        statement: review.statement,
        sqlstate: "42501",
        message: format!("pgate: {message}"),
        detail: if detail.is_empty() { rule } else { format!("{detail} ({rule})") },
        hint: hint.to_owned(),
        position: None,
    }
}

fn denied(review: &Review, held: &Held, decision: Decision) -> No {
    let Decision { by, at, comment } = decision;
    let refusal = refusal(
        review,
        held,
        format!("{by} denied this statement"),
        comment.clone(),
        "Nothing of it has run. Talk to them before you send it again.",
    );
    No::answer(HoldEvent::Denied { by, decided_at: at, comment }, refusal)
}

fn timed_out(review: &Review, held: &Held, raised: &HoldView) -> No {
    let lasted = in_words(raised.hold.raised_at, raised.hold.expires_at);
    let refusal = refusal(
        review,
        held,
        format!("nobody approved this statement within {lasted}"),
        held.reason.clone(),
        "Nothing of it has run. Tell a reviewer, then send it again.",
    );
    No::answer(HoldEvent::TimedOut, refusal)
}

fn unanswered(review: &Review, held: &Held, why: &str) -> No {
    let refusal = refusal(
        review,
        held,
        format!("this statement needs an approval, and no reviewer can give it: {why}"),
        held.reason.clone(),
        "Nothing of it has run. Send it again when the control plane answers (`pgate doctor`).",
    );
    No::answer(HoldEvent::Failed { reason: why.to_owned() }, refusal)
}

/// There is no way to a reviewer from here.
fn alone(review: &Review, held: &Held) -> No {
    unanswered(review, held, "this proxy has no control plane to ask")
}

/// As PostgreSQL says it of a statement that runs.
fn withdrawn_by(review: &Review, reason: String) -> No {
    let refusal = Refusal {
        statement: review.statement,
        sqlstate: "57014",
        message: "canceling statement due to user request".into(),
        detail: format!("It was waiting for a reviewer, and nothing of it has run: {reason}."),
        hint: String::new(),
        position: None,
    };
    No::answer(HoldEvent::Withdrawn { reason }, refusal)
}

fn changed() -> Denied {
    Denied {
        rule: builtin("approval-void"),
        reason: "the database's objects changed while the statement waited, so it is no longer \
                 what was approved"
            .into(),
        hint: "Send it again.".into(),
    }
}

fn grown() -> Denied {
    Denied {
        rule: builtin("approval-void"),
        reason: "PostgreSQL expects the statement to hit more rows than when it was approved"
            .into(),
        hint: "Send it again.".into(),
    }
}
