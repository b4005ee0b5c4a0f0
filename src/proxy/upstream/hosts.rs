//! Which of a database's hosts to connect to, as libpq chooses (PostgreSQL manual,
//! 34.1.1.3 and `target_session_attrs`): each is asked in its turn, and the next one where
//! nobody answers, or another kind of server does. One that refuses us, or whose TLS fails,
//! ends it: the next would be asked with the same. Only a role that has just been made may
//! be known at one and not yet at another. All turns together have 40 seconds, in fair
//! shares, and one that has said nothing isn't asked whether it is of another kind.
//!
//! A session stays at the host that it has found for as long as that serves, so that the
//! catalog it goes by is that of the server that runs its statements.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{Upstream, UpstreamError, place::Place, query_text};
use crate::api::SessionAttrs;

/// None has been found yet.
const NOWHERE: usize = usize::MAX;

/// A database's hosts.
#[derive(Debug, Clone)]
pub(super) struct Hosts {
    places: Vec<Place>,
    wanted: SessionAttrs,
    /// The role has just been made, at a primary, and may be one that is read-only by default.
    ephemeral: bool,
    /// The one that served last, shared by all of a session's connections.
    found: Arc<AtomicUsize>,
}

/// A host's turn to be tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn<'a> {
    /// Its place in the list.
    pub(super) at: usize,
    pub(super) place: &'a Place,
    pub(super) wanted: SessionAttrs,
}

impl Hosts {
    pub(super) fn new(places: Vec<Place>, wanted: SessionAttrs, ephemeral: bool) -> Self {
        Self { places, wanted, ephemeral, found: Arc::new(AtomicUsize::new(NOWHERE)) }
    }

    /// Whether there is no choice.
    pub(super) fn is_one(&self) -> bool {
        self.places.len() == 1
    }

    /// The hosts in the order in which to try them, with what each must be.
    pub(super) fn in_turn(&self) -> Vec<Turn<'_>> {
        let all = |wanted| {
            self.places.iter().enumerate().map(move |(at, place)| Turn { at, place, wanted })
        };
        let (wanted, last) = match self.wanted {
            SessionAttrs::PreferStandby => (SessionAttrs::Standby, Some(SessionAttrs::Any)),
            wanted => (wanted, None),
        };
        let found = self.found.load(Ordering::Relaxed);
        let mut turns: Vec<_> = all(wanted).chain(last.into_iter().flat_map(all)).collect();
        if let Some(turn) = turns.iter().rposition(|turn| turn.at == found) {
            let turn = turns.remove(turn);
            turns.insert(0, turn);
        }
        turns
    }

    /// Keeps to the host at this place in the list.
    pub(super) fn found(&self, at: usize) {
        self.found.store(at, Ordering::Relaxed);
    }

    /// Whether it may be that the session's role hasn't reached this standby yet.
    pub(super) fn may_not_know_us_yet(&self, error: &UpstreamError) -> bool {
        let fresh = self.ephemeral && self.found.load(Ordering::Relaxed) == NOWHERE;
        fresh && !self.is_one() && error.is_of_the_login()
    }

    /// Whether another host may be asked after it.
    pub(super) fn leads_on(&self, error: &UpstreamError) -> bool {
        match error {
            UpstreamError::Unreachable { .. }
            | UpstreamError::Broken(_)
            | UpstreamError::Hung
            | UpstreamError::Slow
            | UpstreamError::Unwanted { .. } => true,
            // It starts, or stops, or recovers.
            UpstreamError::Refused { sqlstate, .. } if sqlstate == "57P03" => true,
            error => self.ephemeral && error.is_of_the_login(),
        }
    }

    /// Fails unless the server is of the kind that is wanted.
    pub(super) async fn check(
        &self,
        upstream: &mut Upstream,
        wanted: SessionAttrs,
    ) -> Result<(), UpstreamError> {
        if wanted == SessionAttrs::Any {
            return Ok(());
        }
        // PostgreSQL tells both at the start; what stands before it may not.
        let standby = match upstream.parameter("in_hot_standby") {
            Some(value) => value == "on",
            None => query_text(upstream, "SELECT pg_catalog.pg_is_in_recovery()").await? == "t",
        };
        let read_only = match upstream.parameter("default_transaction_read_only") {
            _ if self.ephemeral => false,
            Some(value) => value == "on",
            None => query_text(upstream, "SHOW default_transaction_read_only").await? == "on",
        };
        if wanted.fits(standby, read_only) {
            return Ok(());
        }
        let is = match (standby, read_only) {
            (true, _) => "a standby",
            (false, true) => "read-only by default",
            (false, false) => "a primary",
        };
        Err(UpstreamError::Unwanted { place: upstream.place.to_string(), is, wanted })
    }
}

impl UpstreamError {
    /// Whether the server doesn't know who we are.
    fn is_of_the_login(&self) -> bool {
        matches!(self, Self::Refused { sqlstate, .. } if sqlstate.starts_with("28"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(hosts: &Hosts) -> String {
        let turn = |turn: Turn<'_>| format!("{} {}", turn.place, turn.wanted);
        hosts.in_turn().into_iter().map(turn).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn hosts_are_tried_in_their_order_and_the_one_that_served_first() {
        let both = || vec![Place::Unix("a".into()), Place::Unix("b".into())];
        let hosts = Hosts::new(both(), SessionAttrs::Primary, false);
        assert_eq!(turns(&hosts), "a primary, b primary");
        // All of a session's connections share what one has found.
        hosts.clone().found(1);
        assert_eq!(turns(&hosts), "b primary, a primary");
        hosts.found(0);
        assert_eq!(turns(&hosts), "a primary, b primary");

        let hosts = Hosts::new(both(), SessionAttrs::PreferStandby, false);
        assert_eq!(turns(&hosts), "a standby, b standby, a any, b any");
        hosts.found(1);
        assert_eq!(turns(&hosts), "b any, a standby, b standby, a any");
    }
}
