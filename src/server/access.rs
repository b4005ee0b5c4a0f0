//! Who may ask for what, and who reviews it: the policy's access rules applied
//! to an identity.
//!
//! Access rules are permissions: each one alone suffices. So of those that fit,
//! the one that asks for the fewest approvals counts, `auto` before all.

use crate::{
    grant::{Decision, Identity},
    policy::{Access, AccessApproval, Policy, Reviewers, Role},
};

/// A role that somebody may ask for on a target.
#[derive(Debug)]
pub(super) struct Choice<'p> {
    pub(super) target: &'p str,
    pub(super) role: &'p Role,
    pub(super) approval: &'p AccessApproval,
    /// The longest grant, in seconds.
    pub(super) max_ttl_seconds: u64,
}

/// Why there is no choice.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoChoice {
    /// No such target, as far as this identity is concerned.
    UnknownTarget,
    /// The target is there, but not this role on it for this identity.
    NotAllowed,
    /// The lifetime is longer than any rule that fits allows.
    TooLong {
        /// The longest, in seconds.
        max_ttl_seconds: u64,
    },
}

/// Everything that `identity` may ask for, by target and role.
pub(super) fn choices<'p>(policy: &'p Policy, identity: &Identity) -> Vec<Choice<'p>> {
    let mut all = Vec::new();
    for target in policy.targets.keys() {
        for role in policy.roles.values() {
            let longest =
                fitting(policy, identity, target, role).map(|access| longest(access, role)).max();
            let best = fitting(policy, identity, target, role)
                .min_by_key(|access| burden(&access.approval));
            if let (Some(best), Some(max_ttl_seconds)) = (best, longest) {
                all.push(Choice { target, role, approval: &best.approval, max_ttl_seconds });
            }
        }
    }
    all
}

/// What a request of `identity` for this role and lifetime comes to.
pub(super) fn choose<'p>(
    policy: &'p Policy,
    identity: &Identity,
    target: &str,
    role: &str,
    ttl_seconds: Option<u64>,
) -> Result<Choice<'p>, NoChoice> {
    let visible = || choices(policy, identity).iter().any(|choice| choice.target == target);
    let absent = || if visible() { NoChoice::NotAllowed } else { NoChoice::UnknownTarget };
    let (target, _) = policy.targets.get_key_value(target).ok_or_else(absent)?;
    let role = policy.roles.get(role).ok_or_else(absent)?;
    let mut fits = fitting(policy, identity, target, role).peekable();
    if fits.peek().is_none() {
        return Err(absent());
    }
    let wanted = ttl_seconds.unwrap_or(0);
    fits.filter(|access| longest(access, role) >= wanted)
        .min_by_key(|access| burden(&access.approval))
        .map(|access| Choice {
            target,
            role,
            approval: &access.approval,
            max_ttl_seconds: longest(access, role),
        })
        .ok_or_else(|| NoChoice::TooLong {
            max_ttl_seconds: fitting(policy, identity, target, role)
                .map(|access| longest(access, role))
                .max()
                .unwrap_or(0),
        })
}

/// Whether a request of this lifetime, with these approvals, would be granted today.
pub(super) fn still_granted(
    policy: &Policy,
    identity: &Identity,
    (target, role): (&str, &str),
    ttl_seconds: u64,
    approvals: &[Decision],
) -> bool {
    policy.roles.get(role).is_some_and(|role| {
        fitting(policy, identity, target, role)
            .filter(|access| longest(access, role) >= ttl_seconds)
            .any(|access| match &access.approval {
                AccessApproval::Auto => true,
                AccessApproval::Reviewers { reviewers, .. } => {
                    let given = approvals.iter().filter(|decision| reviewers.include(&decision.by));
                    given.count() >= usize::try_from(burden(&access.approval)).unwrap_or(usize::MAX)
                }
            })
    })
}

/// Whether an access rule still lets `requester` be approved by `reviewers` for
/// this role on this target.
pub(super) fn still_reviewed_by(
    policy: &Policy,
    requester: &Identity,
    target: &str,
    role: &str,
    reviewers: &Reviewers,
) -> bool {
    policy.roles.get(role).is_some_and(|role| {
        fitting(policy, requester, target, role).any(|access| {
            matches!(&access.approval,
                AccessApproval::Reviewers { reviewers: named, .. } if named == reviewers)
        })
    })
}

/// The (target, role) pairs whose requests `reviewer` may review.
pub(super) fn reviewed(policy: &Policy, reviewer: &Identity) -> Vec<(String, String)> {
    let mut pairs = policy
        .access
        .iter()
        .filter(|access| {
            matches!(&access.approval,
                AccessApproval::Reviewers { reviewers, .. } if reviewers.include(reviewer))
        })
        .map(|access| (access.target.clone(), access.role.clone()))
        .collect::<Vec<_>>();
    pairs.sort();
    pairs.dedup();
    pairs
}

fn fitting<'p>(
    policy: &'p Policy,
    identity: &Identity,
    target: &str,
    role: &Role,
) -> impl Iterator<Item = &'p Access> {
    let there = policy.targets.contains_key(target) && role.targets.iter().any(|t| t == target);
    policy.access.iter().filter(move |access| {
        there && access.target == target && access.role == role.name && access.who.matches(identity)
    })
}

fn longest(access: &Access, role: &Role) -> u64 {
    role.max_ttl_seconds.min(access.max_ttl_seconds.unwrap_or(u64::MAX))
}

fn burden(approval: &AccessApproval) -> u32 {
    match approval {
        AccessApproval::Auto => 0,
        AccessApproval::Reviewers { count, .. } => (*count).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
[target.prod-db]
url = "postgres://127.0.0.1:5432/shop?sslmode=disable"
credential = { kind = "static", user = "app", password = "env:APP_PASSWORD" }

[role.writer]
targets = ["prod-db"]
ttl = "1h"
max_ttl = "8h"
allow = [{ actions = ["select", "update"], on = ["shop.*"] }]

[[access]]
who = { group = "engineering" }
role = "writer"
target = "prod-db"
approval = { reviewers = "group:dba", count = 2 }

[[access]]
who = { group = "oncall" }
role = "writer"
target = "prod-db"
approval = "auto"
max_ttl = "30m"
"#;

    fn person(groups: &[&str]) -> Identity {
        Identity {
            issuer: "corp".into(),
            subject: "ana".into(),
            email: None,
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            claims: Default::default(),
        }
    }

    #[test]
    fn the_lightest_rule_that_fits_the_lifetime_counts() {
        let policy = crate::policy::parse(&[("shop.toml".into(), POLICY.into())]).unwrap();
        let ask = |groups: &[&str], ttl| {
            choose(&policy, &person(groups), "prod-db", "writer", ttl)
                .map(|choice| burden(choice.approval))
        };
        let hours = |hours: u64| Some(hours * 3600);
        assert_eq!(ask(&["engineering"], None), Ok(2));
        assert_eq!(ask(&["engineering", "oncall"], Some(600)), Ok(0));
        assert_eq!(ask(&["engineering", "oncall"], hours(2)), Ok(2));
        assert_eq!(ask(&["oncall"], hours(2)), Err(NoChoice::TooLong { max_ttl_seconds: 1800 }));
        assert_eq!(ask(&["oncall"], hours(9)), Err(NoChoice::TooLong { max_ttl_seconds: 1800 }));
        assert_eq!(ask(&["sales"], None), Err(NoChoice::UnknownTarget));
    }

    #[test]
    fn a_role_that_one_may_not_have_is_told_apart_only_to_those_who_see_the_target() {
        let policy = crate::policy::parse(&[("shop.toml".into(), POLICY.into())]).unwrap();
        let ask = |groups: &[&str], target, role| {
            choose(&policy, &person(groups), target, role, None).map(|_| ()).unwrap_err()
        };
        assert_eq!(ask(&["oncall"], "prod-db", "nosuch"), NoChoice::NotAllowed);
        assert_eq!(ask(&["oncall"], "nosuch", "writer"), NoChoice::UnknownTarget);
        assert_eq!(ask(&["sales"], "prod-db", "writer"), NoChoice::UnknownTarget);
    }
}
