//! What PostgreSQL's planner expects of a statement: EXPLAIN, which runs nothing.
//!
//! Owns the question and the reading of its answer. It is asked on pgate's own
//! connection, under the session's role: what the session's open transaction has
//! changed isn't seen there, and a table that it has locked isn't waited for long.

use bytes::Bytes;
use serde_json::Value;

/// What a statement is run with.
#[derive(Debug, Clone)]
pub struct Bound {
    /// The types that its Parse names, as that message holds them.
    pub types: Bytes,
    /// Its Bind.
    pub bind: Bytes,
}

/// The question about one statement. It goes out in a Parse, which takes no second one.
pub(super) fn question(sql: &str) -> String {
    format!("EXPLAIN (FORMAT JSON) {sql}")
}

/// The rows that a plan returns, or that it finds to write.
pub(super) fn rows(plan: &str) -> Option<u64> {
    let plan: Value = serde_json::from_str(plan).ok()?;
    let top = plan.get(0)?.get("Plan")?;
    if top.get("Node Type")?.as_str()? != "ModifyTable" {
        return top.get("Plan Rows")?.as_u64();
    }
    // The node that writes expects what its source does.
    let sources = top.get("Plans").and_then(Value::as_array)?.iter().filter(|plan| {
        let relation = plan.get("Parent Relationship").and_then(Value::as_str);
        matches!(relation, Some("Outer" | "Member"))
    });
    let rows = sources.map(|plan| plan.get("Plan Rows").and_then(Value::as_u64));
    rows.sum()
}

#[cfg(test)]
mod tests {
    use super::rows;

    #[test]
    fn the_rows_of_a_plan_are_those_that_come_out_or_are_found_to_write() {
        let cases = [
            (r#"[{"Plan": {"Node Type": "Seq Scan", "Plan Rows": 70}}]"#, Some(70)),
            (
                r#"[{"Plan": {"Node Type": "ModifyTable", "Operation": "Update", "Plan Rows": 0,
                   "Plans": [
                     {"Node Type": "Seq Scan", "Parent Relationship": "InitPlan", "Plan Rows": 9},
                     {"Node Type": "Seq Scan", "Parent Relationship": "Outer", "Plan Rows": 12}]}}]"#,
                Some(12),
            ),
            (
                r#"[{"Plan": {"Node Type": "ModifyTable", "Plans": [
                     {"Parent Relationship": "Member", "Plan Rows": 3},
                     {"Parent Relationship": "Member", "Plan Rows": 4}]}}]"#,
                Some(7),
            ),
            (r#"[{"Plan": {"Node Type": "ModifyTable"}}]"#, None),
            (r#"[{"Plan": "Utility Statement"}]"#, None),
            (r#"[]"#, None),
            ("", None),
        ];
        for (plan, expected) in cases {
            assert_eq!(rows(plan), expected, "{plan}");
        }
    }
}
