//! Which grant a session runs under: an active one that fits, one that is still
//! waited for, or a new one.

use crate::api::Grant;
use crate::grant::State;

/// What the caller's grants offer for a target and, where it is named, a role.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Choice {
    /// This active grant fits.
    Use(Box<Grant>),
    /// This request is still to be approved.
    WaitFor(Box<Grant>),
    /// Grants of several roles fit, so the role must be named.
    Ambiguous(Vec<String>),
    /// None fits.
    Ask,
}

/// Chooses among the caller's own grants, newest first.
///
/// Of several active ones for the same role that one counts which ends last.
pub(super) fn choose(grants: &[Grant], target: &str, role: Option<&str>) -> Choice {
    let fits =
        |grant: &&Grant| grant.target == target && role.is_none_or(|role| grant.role == role);
    let mut active = grants
        .iter()
        .filter(fits)
        .filter_map(|grant| match grant.state {
            State::Active { expires_at, .. } => Some((expires_at, grant)),
            _ => None,
        })
        .collect::<Vec<_>>();
    active.sort_by_key(|(expires_at, _)| *expires_at);
    let mut roles = active.iter().map(|(_, grant)| grant.role.clone()).collect::<Vec<_>>();
    roles.sort();
    roles.dedup();
    if roles.len() > 1 {
        return Choice::Ambiguous(roles);
    }
    if let Some((_, grant)) = active.pop() {
        return Choice::Use(Box::new(grant.clone()));
    }
    let waiting = grants
        .iter()
        .filter(fits)
        .find(|grant| role.is_some() && matches!(grant.state, State::Pending { .. }));
    match waiting {
        Some(grant) => Choice::WaitFor(Box::new(grant.clone())),
        None => Choice::Ask,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::grant::{GrantId, Identity};

    fn grant(number: u8, role: &str, state: State) -> Grant {
        Grant {
            id: GrantId::from_random([number; 10]),
            target: "prod-db".into(),
            role: role.into(),
            identity: Identity {
                issuer: "corp".into(),
                subject: "ana".into(),
                email: None,
                groups: Vec::new(),
                claims: Default::default(),
            },
            reason: "INC-1".into(),
            ttl_seconds: 60,
            requested_at: Timestamp::UNIX_EPOCH,
            lapses_at: Timestamp::MAX,
            state,
        }
    }

    fn active(until: i64) -> State {
        State::Active {
            since: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::from_second(until).unwrap(),
            approvals: Vec::new(),
        }
    }

    fn pending() -> State {
        State::Pending { needed: 1, approvals: Vec::new() }
    }

    #[test]
    fn the_active_grant_that_ends_last_is_reused() {
        let grants = [grant(1, "readonly", active(10)), grant(2, "readonly", active(20))];
        assert_eq!(choose(&grants, "prod-db", None), Choice::Use(Box::new(grants[1].clone())));
        assert_eq!(choose(&grants, "other", None), Choice::Ask);
        assert_eq!(choose(&grants, "prod-db", Some("writer")), Choice::Ask);
    }

    #[test]
    fn with_grants_of_several_roles_the_role_must_be_named() {
        let grants = [grant(1, "readonly", active(10)), grant(2, "writer", active(20))];
        let Choice::Ambiguous(roles) = choose(&grants, "prod-db", None) else { panic!() };
        assert_eq!(roles, ["readonly", "writer"]);
        assert!(matches!(choose(&grants, "prod-db", Some("writer")), Choice::Use(_)));
    }

    #[test]
    fn a_pending_request_is_waited_for_and_not_asked_again() {
        let grants = [grant(1, "writer", pending())];
        assert!(matches!(choose(&grants, "prod-db", Some("writer")), Choice::WaitFor(_)));
        assert_eq!(choose(&grants, "prod-db", None), Choice::Ask);
    }
}
