//! The life of a hold: waiting → approved | denied | withdrawn | timed out | session
//! ended.
//!
//! States carry their own data and transitions consume the hold, so one that was
//! withdrawn can't be approved any more, nor an answered one be answered again.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Decision, HoldId, Identity, SessionId};

/// How far an approval reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// This run of this statement.
    #[default]
    Once,
    /// Every statement of the same shape, under the same rule, for the rest of the session.
    SameStatements,
}

/// Where a hold is in its life. A timeout is not stored: it follows from the clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum HoldState {
    /// The statement waits on the wire.
    Waiting,
    /// A reviewer said yes.
    Approved {
        /// Who, when and what they said.
        decision: Decision,
        /// To how much.
        scope: Scope,
    },
    /// A reviewer said no.
    Denied {
        /// Who, when and why.
        decision: Decision,
    },
    /// Its client no longer waits for it.
    Withdrawn {
        /// When.
        at: Timestamp,
        /// Why, in words.
        because: String,
    },
    /// Nobody answered in time.
    TimedOut {
        /// When its time was over.
        at: Timestamp,
    },
    /// Its session ended: closed, expired or revoked.
    SessionEnded {
        /// When.
        at: Timestamp,
        /// Why, in words.
        because: String,
    },
}

impl HoldState {
    /// The state's name as the API and the command line show it.
    pub fn name(&self) -> &'static str {
        match self {
            HoldState::Waiting => "waiting",
            HoldState::Approved { .. } => "approved",
            HoldState::Denied { .. } => "denied",
            HoldState::Withdrawn { .. } => "withdrawn",
            HoldState::TimedOut { .. } => "timed_out",
            HoldState::SessionEnded { .. } => "session_ended",
        }
    }
}

/// A held statement's wait: whose, since when, and where it is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its id.
    pub id: HoldId,
    /// The session whose statement waits.
    pub session: SessionId,
    /// Whose session it is: the one person who never decides.
    pub identity: Identity,
    /// When it was raised.
    pub raised_at: Timestamp,
    /// When it is refused unanswered.
    pub expires_at: Timestamp,
    /// Where it is in its life.
    #[serde(flatten)]
    pub state: HoldState,
}

/// A transition that the hold's state doesn't allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// Only what waits is decided or withdrawn.
    #[error("{id} no longer waits: it is {}", state.replace('_', " "))]
    NotWaiting {
        /// The hold.
        id: HoldId,
        /// The state it is in.
        state: &'static str,
    },
    /// Nobody decides on a statement of their own.
    #[error("you can't decide on a statement of your own session ({id})")]
    OwnStatement {
        /// The hold.
        id: HoldId,
    },
}

impl Hold {
    /// The hold as it is at `now`: one that waits past its end has timed out.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        if self.state == HoldState::Waiting && self.expires_at <= now {
            self.state = HoldState::TimedOut { at: self.expires_at };
        }
        self
    }

    /// A reviewer's yes. Whether `decision.by` may review is the caller's check; that
    /// nobody decides on a statement of their own is checked here.
    pub fn approve(self, decision: Decision, scope: Scope) -> Result<Self, HoldError> {
        self.decided(&decision.by.clone(), HoldState::Approved { decision, scope })
    }

    /// A reviewer's no.
    pub fn deny(self, decision: Decision) -> Result<Self, HoldError> {
        self.decided(&decision.by.clone(), HoldState::Denied { decision })
    }

    /// Its client waits no longer.
    pub fn withdraw(self, at: Timestamp, because: String) -> Result<Self, HoldError> {
        self.moved(HoldState::Withdrawn { at, because })
    }

    /// Its session has ended.
    pub fn end(self, at: Timestamp, because: String) -> Result<Self, HoldError> {
        self.moved(HoldState::SessionEnded { at, because })
    }

    fn decided(self, by: &Identity, state: HoldState) -> Result<Self, HoldError> {
        if self.identity.same_as(by) {
            return Err(HoldError::OwnStatement { id: self.id });
        }
        self.moved(state)
    }

    fn moved(self, state: HoldState) -> Result<Self, HoldError> {
        match self.state {
            HoldState::Waiting => Ok(Self { state, ..self }),
            state => Err(HoldError::NotWaiting { id: self.id, state: state.name() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(name: &str) -> Identity {
        Identity {
            issuer: "corp".into(),
            subject: name.into(),
            email: None,
            groups: Vec::new(),
            claims: Default::default(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("in range")
    }

    fn says(name: &str) -> Decision {
        Decision { by: person(name), at: at(5), comment: String::new() }
    }

    fn waiting() -> Hold {
        Hold {
            id: HoldId::from_random([7; 10]),
            session: SessionId::from_random([8; 10]),
            identity: person("ana"),
            raised_at: at(0),
            expires_at: at(600),
            state: HoldState::Waiting,
        }
    }

    #[test]
    fn a_reviewer_decides_once_and_nobody_decides_on_their_own_statement() {
        let own = waiting().approve(says("ana"), Scope::Once);
        assert_eq!(own, Err(HoldError::OwnStatement { id: waiting().id }));
        assert!(waiting().deny(says("ana")).is_err());
        let approved = waiting().approve(says("bo"), Scope::SameStatements).unwrap();
        assert_eq!(approved.state.name(), "approved");
        assert!(approved.clone().deny(says("cy")).is_err());
        assert!(approved.withdraw(at(9), String::new()).is_err());
    }

    #[test]
    fn what_no_longer_waits_is_not_approved() {
        let ways = [
            waiting().withdraw(at(1), "cancelled".into()).unwrap(),
            waiting().end(at(1), "revoked".into()).unwrap(),
            waiting().deny(says("bo")).unwrap(),
            waiting().at(at(600)),
        ];
        for hold in ways {
            let refused = hold.clone().approve(says("cy"), Scope::Once);
            assert!(matches!(refused, Err(HoldError::NotWaiting { .. })), "{hold:?}");
        }
    }

    #[test]
    fn it_times_out_at_its_end_to_the_second_and_an_answer_stays() {
        assert_eq!(waiting().at(at(599)).state, HoldState::Waiting);
        assert_eq!(waiting().at(at(600)).state, HoldState::TimedOut { at: at(600) });
        let approved = waiting().approve(says("bo"), Scope::Once).unwrap();
        assert_eq!(approved.clone().at(at(9_000)), approved);
    }
}
