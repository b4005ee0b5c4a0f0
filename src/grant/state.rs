//! The life of a grant: requested → pending → active → expired | revoked | denied.
//!
//! States carry their own data and transitions consume the grant, so a denied
//! grant that is approved, or an expired one that is revoked, can't be written.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{GrantId, Identity};

/// One person's word on a pending grant, or on an active one when it is revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Who decided.
    pub by: Identity,
    /// When.
    pub at: Timestamp,
    /// What the reviewer said, possibly nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

/// Where a grant is in its life. Expiry is not stored: it follows from the clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// Waits for `needed` different reviewers.
    Pending {
        /// How many approvals activate it; at least 1.
        needed: u32,
        /// Those given so far.
        approvals: Vec<Decision>,
    },
    /// May be used until `expires_at`.
    Active {
        /// When it became active.
        since: Timestamp,
        /// The absolute end. No use of the grant moves it.
        expires_at: Timestamp,
        /// The approvals that activated it; empty when the policy approves by itself.
        approvals: Vec<Decision>,
    },
    /// A reviewer said no.
    Denied {
        /// Who, when and why.
        decision: Decision,
    },
    /// Taken back, by its owner or a reviewer.
    Revoked {
        /// Who, when and why.
        decision: Decision,
    },
    /// Its end has passed (or nobody answered in time).
    Expired {
        /// When it ended.
        at: Timestamp,
    },
}

impl State {
    /// The state's name as the API and the command line show it.
    pub fn name(&self) -> &'static str {
        match self {
            State::Pending { .. } => "pending",
            State::Active { .. } => "active",
            State::Denied { .. } => "denied",
            State::Revoked { .. } => "revoked",
            State::Expired { .. } => "expired",
        }
    }
}

/// A grant: what was asked, by whom and why, and where it is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// The target's name.
    pub target: String,
    /// The role's name.
    pub role: String,
    /// Who asked and may use it.
    pub identity: Identity,
    /// Why, in the requester's words.
    pub reason: String,
    /// How long it lasts from the moment that it becomes active, in seconds.
    pub ttl_seconds: u64,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When a pending request lapses unanswered.
    pub lapses_at: Timestamp,
    /// Where it is in its life.
    #[serde(flatten)]
    pub state: State,
}

/// A transition that the grant's state doesn't allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// Only pending grants are approved or denied.
    #[error("grant {id} is {state}, not pending")]
    NotPending {
        /// The grant.
        id: GrantId,
        /// The state it is in.
        state: &'static str,
    },
    /// Only pending and active grants are revoked.
    #[error("grant {id} is already {state}")]
    AlreadyEnded {
        /// The grant.
        id: GrantId,
        /// The state it is in.
        state: &'static str,
    },
    /// Nobody approves their own request.
    #[error("you can't approve your own request {id}")]
    OwnRequest {
        /// The grant.
        id: GrantId,
    },
    /// Approvals are counted by person.
    #[error("you have approved {id} already; it waits for another reviewer")]
    ApprovedAlready {
        /// The grant.
        id: GrantId,
    },
    /// The end would lie outside the calendar.
    #[error("a lifetime of {0} s is out of range")]
    OutOfRange(u64),
}

impl Grant {
    /// The grant as it is at `now`: an active one past its end, and a pending one
    /// that lapsed, are expired.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        let end = match &self.state {
            State::Active { expires_at, .. } => *expires_at,
            State::Pending { .. } => self.lapses_at,
            State::Denied { .. } | State::Revoked { .. } | State::Expired { .. } => return self,
        };
        if end <= now {
            self.state = State::Expired { at: end };
        }
        self
    }

    /// Makes a request active at once, as `approval = "auto"` does.
    pub fn activate(self, now: Timestamp) -> Result<Self, TransitionError> {
        match self.state {
            State::Pending { ref approvals, .. } => {
                let approvals = approvals.clone();
                self.active_from(now, approvals)
            }
            ref state => {
                Err(TransitionError::NotPending { id: self.id.clone(), state: state.name() })
            }
        }
    }

    /// Adds one reviewer's approval; the last one that is needed activates the grant.
    ///
    /// Whether `decision.by` may review is the caller's check; that nobody
    /// approves their own request, or twice, is checked here.
    pub fn approve(self, decision: Decision) -> Result<Self, TransitionError> {
        let State::Pending { needed, approvals } = self.state else {
            return Err(TransitionError::NotPending { id: self.id, state: self.state.name() });
        };
        if self.identity.same_as(&decision.by) {
            return Err(TransitionError::OwnRequest { id: self.id });
        }
        if approvals.iter().any(|earlier| earlier.by.same_as(&decision.by)) {
            return Err(TransitionError::ApprovedAlready { id: self.id });
        }
        let now = decision.at;
        let mut approvals = approvals;
        approvals.push(decision);
        let given = u32::try_from(approvals.len()).unwrap_or(u32::MAX);
        if given >= needed {
            let grant = Self { state: State::Pending { needed, approvals: Vec::new() }, ..self };
            grant.active_from(now, approvals)
        } else {
            Ok(Self { state: State::Pending { needed, approvals }, ..self })
        }
    }

    /// A reviewer's no ends a pending request.
    pub fn deny(self, decision: Decision) -> Result<Self, TransitionError> {
        match self.state {
            State::Pending { .. } => Ok(Self { state: State::Denied { decision }, ..self }),
            state => Err(TransitionError::NotPending { id: self.id, state: state.name() }),
        }
    }

    /// Takes a pending or active grant back.
    pub fn revoke(self, decision: Decision) -> Result<Self, TransitionError> {
        match self.state {
            State::Pending { .. } | State::Active { .. } => {
                Ok(Self { state: State::Revoked { decision }, ..self })
            }
            state => Err(TransitionError::AlreadyEnded { id: self.id, state: state.name() }),
        }
    }

    fn active_from(
        self,
        now: Timestamp,
        approvals: Vec<Decision>,
    ) -> Result<Self, TransitionError> {
        let expires_at = now
            .checked_add(Duration::from_secs(self.ttl_seconds))
            .map_err(|_| TransitionError::OutOfRange(self.ttl_seconds))?;
        Ok(Self { state: State::Active { since: now, expires_at, approvals }, ..self })
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

    fn says(name: &str, second: i64) -> Decision {
        Decision { by: person(name), at: at(second), comment: String::new() }
    }

    fn pending(needed: u32) -> Grant {
        Grant {
            id: GrantId::from_random([7; 10]),
            target: "prod-db".into(),
            role: "writer".into(),
            identity: person("ana"),
            reason: "INC-1".into(),
            ttl_seconds: 3600,
            requested_at: at(0),
            lapses_at: at(86_400),
            state: State::Pending { needed, approvals: Vec::new() },
        }
    }

    #[test]
    fn the_last_needed_approval_activates_and_sets_an_absolute_end() {
        let grant = pending(2).approve(says("bo", 10)).unwrap();
        assert_eq!(grant.state.name(), "pending");
        let grant = grant.approve(says("cy", 20)).unwrap();
        let State::Active { since, expires_at, approvals } = grant.state else {
            panic!("not active")
        };
        assert_eq!((since, expires_at, approvals.len()), (at(20), at(3620), 2));
    }

    #[test]
    fn nobody_approves_their_own_request_or_twice() {
        assert!(matches!(
            pending(1).approve(says("ana", 1)),
            Err(TransitionError::OwnRequest { .. })
        ));
        let once = pending(2).approve(says("bo", 1)).unwrap();
        assert!(matches!(
            once.approve(says("bo", 2)),
            Err(TransitionError::ApprovedAlready { .. })
        ));
    }

    #[test]
    fn an_ended_grant_stays_ended() {
        let denied = pending(1).deny(says("bo", 1)).unwrap();
        assert!(denied.clone().approve(says("cy", 2)).is_err());
        assert!(denied.clone().activate(at(2)).is_err());
        assert!(denied.revoke(says("cy", 2)).is_err());
        let revoked = pending(1).activate(at(1)).unwrap().revoke(says("ana", 2)).unwrap();
        assert!(revoked.approve(says("bo", 3)).is_err());
    }

    #[test]
    fn it_expires_at_its_end_to_the_second_and_lapses_unanswered() {
        let active = pending(1).activate(at(0)).unwrap();
        assert_eq!(active.clone().at(at(3599)).state.name(), "active");
        assert_eq!(active.at(at(3600)).state, State::Expired { at: at(3600) });
        assert_eq!(pending(1).at(at(86_400)).state.name(), "expired");
    }

    #[test]
    fn a_lifetime_outside_the_calendar_is_an_error_not_a_panic() {
        let grant = Grant { ttl_seconds: u64::MAX, ..pending(1) };
        assert_eq!(grant.activate(at(0)), Err(TransitionError::OutOfRange(u64::MAX)));
    }
}
