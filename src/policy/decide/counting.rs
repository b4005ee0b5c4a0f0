//! Rules that hang on how many rows a statement hits: which of them are about it.
//!
//! Owns what is to be counted, written or returned rows, and where nobody could
//! count them. How many they are isn't known here: the proxy asks PostgreSQL's
//! planner before it forwards the statement, and counts while it runs.

use super::{Judge, Occasion};
use crate::{
    policy::{Denied, Verdict},
    sql::{Action, RowCount, StatementKind},
};

/// A rule about how many rows a statement hits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRule {
    /// The most rows that it lets pass.
    pub most: u64,
    /// What is counted.
    pub counts: Counted,
    /// The verdict where it is more: to deny or to hold.
    pub verdict: Verdict,
}

/// Which rows a rule counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Those that the statement writes.
    Written,
    /// Those that it returns.
    Returned,
}

impl Judge<'_> {
    /// Notes the rules that count the rows of this.
    pub(super) fn count(&mut self, occasion: Occasion<'_>, shown: &str) -> Result<(), Denied> {
        let counts = match occasion.action {
            Action::Insert | Action::Update | Action::Delete | Action::Merge => Counted::Written,
            Action::Select => Counted::Returned,
            _ => return Ok(()),
        };
        let facts = &self.statement.facts;
        let countable = match (counts, facts.row_count, facts.kind) {
            (_, RowCount::NotRun, _) => return Ok(()),
            (Counted::Written, count, _) => count == RowCount::Told,
            (Counted::Returned, _, StatementKind::Explain) => return Ok(()),
            // What EXECUTE runs is known by its name alone.
            (Counted::Returned, _, kind) => kind != StatementKind::Prepare,
        };
        let role = self.role;
        for (rule, most, denies) in role.counting(occasion) {
            let rule_ref = &rule.source;
            if self.row_rules.iter().any(|known| known.rule() == rule_ref) {
                continue;
            }
            match (denies, countable) {
                (true, false) => {
                    let mut denied = self.denied_by(rule, occasion.action, shown);
                    denied.reason.push_str("; pgate can't count the rows of this one");
                    denied.hint = "Send it as a statement of its own, not in WITH, PREPARE or \
                                   EXPLAIN ANALYZE."
                        .to_owned();
                    return Err(denied);
                }
                // What can't be counted, the reviewer looks at.
                (false, false) => self.hold(rule, occasion.action, shown),
                (true, true) => {
                    let verdict = Verdict::Deny(self.denied_by(rule, occasion.action, shown));
                    self.row_rules.push(RowRule { most, counts, verdict });
                }
                (false, true) => {
                    let verdict = Verdict::Hold(self.held_by(rule, occasion.action, shown));
                    self.row_rules.push(RowRule { most, counts, verdict });
                }
            }
        }
        Ok(())
    }
}

impl RowRule {
    /// The rule.
    pub fn rule(&self) -> &crate::policy::RuleRef {
        match &self.verdict {
            Verdict::Allow(allowed) => &allowed.rule,
            Verdict::Hold(held) => &held.rule,
            Verdict::Deny(denied) => &denied.rule,
        }
    }
}
