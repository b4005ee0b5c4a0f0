//! What PostgreSQL's planner expects of a statement, for the rules on rows and for the
//! reviewers of a held one: EXPLAIN, which runs nothing.
//!
//! Owns the question and the reading of its answer. It is asked on pgate's own
//! connection, under the session's role, in a read-only transaction with short timeouts:
//! what the session's open transaction has changed isn't seen there, and a table that it
//! has locked isn't waited for long. Of the answer two numbers are kept: a plan's
//! conditions hold values. It refuses to explain what calls code of the database's owner:
//! the planner runs functions that it takes for constant.

use bytes::Bytes;
use serde::Deserialize;

use super::upstream::UpstreamError;
use crate::{
    api::Estimate,
    sql::{Statement, StatementKind},
};

/// What is set for the question alone.
pub(super) const GUARD: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = '3s'; \
                                SET LOCAL lock_timeout = '500ms'; SET LOCAL jit = off";

/// What a statement is run with.
#[derive(Debug, Clone)]
pub struct Bound {
    /// The types that its Parse names, as that message holds them.
    pub types: Bytes,
    /// Its Bind.
    pub bind: Bytes,
}

/// Why a statement isn't explained before it may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotExplained {
    #[error("there is more than one statement")]
    Several,
    #[error("EXPLAIN knows no plan for a statement of this kind")]
    Kind,
    #[error("it calls functions, operators or types that aren't PostgreSQL's own")]
    ForeignCode,
}

/// Whether it is one statement that has a plan and runs no code but PostgreSQL's own
/// while it is planned.
pub(super) fn explainable(statements: &[Statement]) -> Result<(), NotExplained> {
    let [Statement { facts, .. }] = statements else { return Err(NotExplained::Several) };
    match facts.kind {
        StatementKind::Select
        | StatementKind::Insert
        | StatementKind::Update
        | StatementKind::Delete
        | StatementKind::Merge => {}
        _ => return Err(NotExplained::Kind),
    }
    let own = facts.functions.iter().all(|call| call.builtin && call.candidates.is_empty())
        && facts.operators.iter().all(|operator| operator.builtin)
        && facts.types.iter().all(|named| named.builtin);
    if own { Ok(()) } else { Err(NotExplained::ForeignCode) }
}

/// The question about one statement. It goes out in a Parse, which takes no second one.
pub(super) fn question(sql: &str) -> String {
    format!("EXPLAIN (FORMAT JSON) {sql}")
}

/// Why there is no expectation.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("PostgreSQL's answer is no plan")]
    NoPlan,
}

impl NoAnswer {
    /// The reason for the reviewers: PostgreSQL's message may quote a value.
    pub(super) fn told(&self) -> Estimate {
        let why = match self {
            Self::Upstream(UpstreamError::Refused { sqlstate, .. }) => {
                format!("PostgreSQL does not plan it (SQLSTATE {sqlstate})")
            }
            other => other.to_string(),
        };
        Estimate::Unavailable { why }
    }
}

/// The rows that were told.
pub(super) fn rows(estimate: &Estimate) -> Option<u64> {
    match estimate {
        Estimate::Planned { rows, .. } => Some(*rows),
        Estimate::Unavailable { .. } => None,
    }
}

/// What the planner expects.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Expectation {
    /// The rows that come out, or that are found to write.
    pub(super) rows: u64,
    /// The cost, in the planner's units.
    pub(super) cost: f64,
}

#[derive(Deserialize)]
struct Explained {
    #[serde(rename = "Plan")]
    plan: Plan,
}

#[derive(Deserialize)]
struct Plan {
    #[serde(rename = "Node Type")]
    node: String,
    #[serde(rename = "Parent Relationship")]
    relationship: Option<String>,
    #[serde(rename = "Total Cost")]
    cost: f64,
    #[serde(rename = "Plan Rows")]
    rows: serde_json::Number,
    #[serde(rename = "Plans", default)]
    below: Vec<Plan>,
}

impl Expectation {
    /// Reads a plan. The node that writes returns no rows: it writes what its source finds.
    pub(super) fn of_plan(plan: &str) -> Option<Self> {
        let explained = serde_json::from_str::<Vec<Explained>>(plan).ok()?;
        let Plan { node, cost, rows, below, .. } = explained.into_iter().next()?.plan;
        let count = |rows: &serde_json::Number| rows.as_u64().unwrap_or(u64::MAX);
        if node != "ModifyTable" {
            return Some(Self { rows: count(&rows), cost });
        }
        let is_source =
            |plan: &&Plan| matches!(plan.relationship.as_deref(), Some("Outer" | "Member"));
        let mut sources = below.iter().filter(is_source).map(|plan| count(&plan.rows)).peekable();
        sources.peek()?;
        Some(Self { rows: sources.fold(0, u64::saturating_add), cost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Catalog, analyse, on_large_stack};

    fn asked(sql: &str) -> Result<(), NotExplained> {
        let catalog = Catalog::builder()
            .table("shop.orders", &[("id", "int8"), ("note", "text")])
            .function("shop.purge", true, false)
            .build();
        on_large_stack(|| explainable(&analyse(sql, &catalog).expect("it parses")))
    }

    #[test]
    fn only_one_plain_statement_without_foreign_code_is_explained_before_its_approval() {
        for sql in [
            "DELETE FROM shop.orders",
            "DELETE FROM shop.orders; -- all of them",
            "/* why */ UPDATE shop.orders SET note = lower(note) WHERE id = $1",
            "SELECT count(*) FROM shop.orders",
        ] {
            assert_eq!(asked(sql), Ok(()), "{sql}");
        }
        for (sql, why) in [
            ("DELETE FROM shop.orders; SELECT 1", NotExplained::Several),
            ("TRUNCATE shop.orders", NotExplained::Kind),
            ("EXPLAIN ANALYZE DELETE FROM shop.orders", NotExplained::Kind),
            ("SELECT shop.purge()", NotExplained::ForeignCode),
            ("DELETE FROM shop.orders WHERE nosuch(id)", NotExplained::ForeignCode),
        ] {
            assert_eq!(asked(sql), Err(why), "{sql}");
        }
    }

    #[test]
    fn the_rows_of_a_plan_are_those_that_come_out_or_are_found_to_write() {
        let node = |kind: &str, relationship: &str, rows: u64, below: &str| {
            format!(
                r#"{{"Node Type": "{kind}", "Parent Relationship": "{relationship}",
                    "Total Cost": 22.5, "Plan Rows": {rows}, "Plans": [{below}]}}"#
            )
        };
        let scan = |relationship, rows| node("Seq Scan", relationship, rows, "");
        let write = |below: &[String]| node("ModifyTable", "", 0, &below.join(","));
        let cases = [
            (r#"{"Node Type": "Result", "Total Cost": 22.5, "Plan Rows": 70}"#.into(), Some(70)),
            (write(&[scan("InitPlan", 9), scan("Outer", 12)]), Some(12)),
            (write(&[scan("Member", 3), scan("Member", 4)]), Some(7)),
            (write(&[]), None),
            (r#""Utility Statement""#.into(), None),
        ];
        for (plan, rows) in cases {
            let told = Expectation::of_plan(&format!(r#"[{{"Plan": {plan}}}]"#));
            let expected = rows.map(|rows| Expectation { rows, cost: 22.5 });
            assert_eq!(told, expected, "{plan}");
        }
        assert_eq!(Expectation::of_plan("[]"), None);
        assert_eq!(Expectation::of_plan(""), None);
    }
}
