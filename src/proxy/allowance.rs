//! How much a permitted statement may return and write, and what its client is told
//! where it is more.
//!
//! Owns the caps that a role's limits and its rules on rows make for one statement,
//! and the verdict on what PostgreSQL's planner expects. It counts nothing: the
//! session machine does.

use std::sync::Arc;

use serde::Serialize;

use super::{admission::Refusal, estimate::NotExplained};
use crate::policy::{Counted, Denied, Held, Role, RowRule, RuleRef, TooFast, Verdict};

/// The most of something, and the error where it is more.
#[derive(Debug, Clone)]
pub struct Cap {
    /// The most.
    pub most: u64,
    /// The error.
    pub refusal: Refusal,
}

/// What one statement may return and write.
#[derive(Debug, Clone, Default)]
pub struct Allowance {
    /// Rows returned.
    pub rows: Option<Arc<Cap>>,
    /// Bytes of returned rows, with their headers, as they go over the wire.
    pub bytes: Option<Arc<Cap>>,
    /// Rows written. What has written more must not take effect.
    pub written: Option<Arc<Cap>>,
}

impl Allowance {
    /// What a role's limits and rules leave to a statement. Reviewers have lifted some.
    pub(super) fn of(role: &Role, rules: &[RowRule], lifted: &[RuleRef]) -> Self {
        let limit = |key: &str, most: u64, what: &str, hint: &str| {
            let refusal = Refusal {
                statement: 0,
                sqlstate: "54000",
                message: format!("pgate stopped the statement: it returns more than {most} {what}"),
                detail: format!("rule role.{}.limits.{key}", role.name),
                hint: hint.to_owned(),
                position: None,
            };
            Arc::new(Cap { most, refusal })
        };
        let narrow = "Narrow it with WHERE or LIMIT, or aggregate in the database.";
        let own = role.limits.rows.map(|most| limit("rows", most, "rows", narrow));
        let least = |counts: Counted, own: Option<Arc<Cap>>| {
            let rules =
                rules.iter().filter(|rule| rule.counts == counts && !lifted.contains(rule.rule()));
            let rules = rules.map(|rule| Arc::new(Cap::of_rule(rule)));
            own.into_iter().chain(rules).min_by_key(|cap| cap.most)
        };
        Self {
            rows: least(Counted::Returned, own),
            bytes: role.limits.bytes.map(|most| limit("bytes", most, "bytes", narrow)),
            written: least(Counted::Written, None),
        }
    }
}

impl Cap {
    fn of_rule(rule: &RowRule) -> Self {
        let did = match rule.counts {
            Counted::Written => "wrote more, and was undone",
            Counted::Returned => "was stopped at the limit",
        };
        let (reason, hint) = match &rule.verdict {
            Verdict::Deny(Denied { reason, hint, .. }) => (reason.clone(), hint.clone()),
            Verdict::Hold(held) => (held.reason.clone(), "Narrow it.".to_owned()),
            Verdict::Allow(_) => (String::new(), String::new()),
        };
        let refusal = Refusal {
            statement: 0,
            sqlstate: "42501",
            message: format!("pgate: {reason}; the statement {did}"),
            detail: format!("rule {}", rule.rule()),
            hint,
            position: None,
        };
        Self { most: rule.most, refusal }
    }

    /// A cap for tests of the machine.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn for_test(most: u64) -> Self {
        let refusal = Refusal {
            statement: 1,
            sqlstate: "54000",
            message: format!("pgate stopped the statement: it returns more than {most} rows"),
            detail: String::new(),
            hint: String::new(),
            position: None,
        };
        Self { most, refusal }
    }

    /// The error for a statement whose written rows nobody was told.
    pub(super) fn uncounted(&self) -> Refusal {
        let hint = "Execute it without a row limit (a fetch size), so that its rows are counted.";
        Refusal {
            message: "pgate undid the statement: its rows could not be counted".to_owned(),
            hint: hint.to_owned(),
            ..self.refusal.clone()
        }
    }
}

/// What the rules on rows say of a statement that PostgreSQL expects to hit so many: a
/// denial, or by which of them it is held. Where nothing is expected, what a reviewer
/// should see waits, and what is denied is counted while it runs.
pub(super) fn foreseen(rules: &[RowRule], expected: Option<u64>) -> Result<Vec<Held>, Denied> {
    let mut holds = Vec::new();
    for rule in rules {
        match (&rule.verdict, expected) {
            (Verdict::Deny(denied), Some(rows)) if rows > rule.most => {
                return Err(Denied {
                    reason: format!("{} (PostgreSQL expects {rows})", denied.reason),
                    ..denied.clone()
                });
            }
            (Verdict::Hold(held), None) => holds.push(held.clone()),
            (Verdict::Hold(held), Some(rows)) if rows > rule.most => holds.push(held.clone()),
            _ => {}
        }
    }
    Ok(holds)
}

/// What becomes of a statement by how many rows it hits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OnRows {
    /// The rule.
    pub rule: RuleRef,
    /// The most rows that it lets pass.
    pub most: u64,
    /// What becomes of more, in words.
    pub says: String,
}

impl OnRows {
    /// By this rule, of a statement whose rows PostgreSQL can foresee, or not.
    pub(super) fn of(rule: &RowRule, explainable: Result<(), NotExplained>) -> Self {
        let RowRule { most, counts, verdict } = rule;
        let (counted, more) = match counts {
            Counted::Written => (format!("undone if it writes more than {most}"), "written"),
            Counted::Returned => (format!("stopped after {most} returned rows"), "returned"),
        };
        let says = match (verdict, explainable) {
            (Verdict::Hold(_), Ok(())) => {
                format!("held if more than {most} rows are estimated, or none can be; {counted}")
            }
            (Verdict::Hold(_), Err(why)) => {
                format!("held, as the {more} rows can't be estimated: {why}")
            }
            (_, Ok(())) => format!("refused if more than {most} rows are estimated; {counted}"),
            (_, Err(_)) => counted,
        };
        Self { rule: rule.rule().clone(), most: *most, says }
    }
}

/// The refusal of one statement among several whose rows are to be counted.
pub(super) fn not_alone(rule: &RowRule) -> Verdict {
    match &rule.verdict {
        Verdict::Deny(denied) => Verdict::Deny(Denied {
            reason: format!(
                "{}; pgate can't count the rows of one statement among several",
                denied.reason
            ),
            hint: "Send it alone.".to_owned(),
            ..denied.clone()
        }),
        other => other.clone(),
    }
}

/// The limit on how many statements may come in a minute.
pub(super) fn pace_rule(role: &Role) -> RuleRef {
    RuleRef { rule: format!("role.{}.limits.statements_per_minute", role.name), place: None }
}

/// The refusal of a statement that comes too soon.
pub(super) fn too_fast(role: &Role, why: TooFast) -> Denied {
    let limit = role.limits.statements_per_minute.unwrap_or_default();
    Denied {
        rule: pace_rule(role),
        reason: format!("role {} may run {limit} statements a minute", role.name),
        hint: again(why, "Send fewer statements at once."),
    }
}

/// The refusal of look-ups that come too soon.
pub(super) fn too_many_lookups(role: &Role, per_minute: u32, why: TooFast) -> Denied {
    Denied {
        rule: RuleRef { rule: format!("role.{}.limits.lookups", role.name), place: None },
        reason: format!(
            "role {} allows {per_minute} look-ups of masked values a minute",
            role.name
        ),
        hint: again(why, "Look fewer values up in one statement."),
    }
}

fn again(why: TooFast, fewer: &str) -> String {
    match why {
        TooFast::Wait(wait) => format!("Try again in {} s.", wait.as_secs() + 1),
        TooFast::TooMany => fewer.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(most: u64, denies: bool) -> RowRule {
        let rule = RuleRef { rule: format!("role.r.rule[{most}]"), place: None };
        let verdict = if denies {
            Verdict::Deny(Denied { rule, reason: "too many".into(), hint: String::new() })
        } else {
            Verdict::Hold(Held { rule, reason: "a reviewer".into(), reviewers: None })
        };
        RowRule { most, counts: Counted::Written, verdict }
    }

    #[test]
    fn what_is_expected_to_be_too_much_is_denied_or_held_and_the_unknown_only_held() {
        let rules = [rule(100, true), rule(10, false)];
        let word = |expected| match foreseen(&rules, expected) {
            Err(denied) => denied.reason,
            Ok(holds) if holds.is_empty() => "allow".to_owned(),
            Ok(_) => "hold".to_owned(),
        };
        assert_eq!(word(Some(10)), "allow");
        assert_eq!(word(Some(11)), "hold");
        assert_eq!(word(Some(100)), "hold");
        assert_eq!(word(Some(101)), "too many (PostgreSQL expects 101)");
        assert_eq!(word(None), "hold");
        assert_eq!(foreseen(&[rule(5, true)], None), Ok(Vec::new()));
    }

    #[test]
    fn a_rule_on_rows_says_what_becomes_of_more_with_an_estimate_and_without() {
        let says = |denies, explainable| OnRows::of(&rule(10, denies), explainable).says;
        let why = NotExplained::ForeignCode;
        let told =
            [says(false, Ok(())), says(true, Ok(())), says(false, Err(why)), says(true, Err(why))];
        let expected = [
            "held if more than 10 rows are estimated, or none can be; undone if it writes more \
             than 10",
            "refused if more than 10 rows are estimated; undone if it writes more than 10",
            "held, as the written rows can't be estimated: it calls functions, operators or \
             types that aren't PostgreSQL's own",
            "undone if it writes more than 10",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_reviewers_have_lifted_is_counted_no_more_and_the_rest_is() {
        let text = include_str!("../policy/parse/sample.toml");
        let policy = crate::policy::parse(&[("shop.toml".to_owned(), text.to_owned())]).unwrap();
        let rules = [rule(100, true), rule(10, false)];
        let most = |lifted: &[RuleRef]| {
            let allowance = Allowance::of(&policy.roles["writer"], &rules, lifted);
            allowance.written.map(|cap| cap.most)
        };
        assert_eq!(most(&[]), Some(10));
        assert_eq!(most(&[rules[1].rule().clone()]), Some(100));
    }
}
