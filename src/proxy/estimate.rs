//! What PostgreSQL's planner expects of a held statement, for its reviewers.
//!
//! The question goes over pgate's own connection, with the privileges of the session's
//! role, in a read-only transaction with short timeouts; EXPLAIN plans and never
//! executes. Of the answer two numbers are kept: a plan's conditions hold values. It
//! refuses to explain what could run code of the database's owner while it is planned.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;

use super::{drift::Drift, upstream::UpstreamError};
use crate::{
    api::Estimate,
    journal::Parameter,
    sql::{self, Catalog, Statement, StatementKind, quote_literal},
};

/// How long the whole question may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// What is set for the question alone.
const GUARD: &str = "SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = '3s'; \
                     SET LOCAL lock_timeout = '500ms'; SET LOCAL jit = off; ";
/// The name under which a statement with parameters is prepared.
const PREPARED: &str = "pgate_estimate";

/// Why a statement can't be explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotExplained {
    #[error("there is more than one statement")]
    Several,
    #[error("EXPLAIN knows no plan for a statement of this kind")]
    Kind,
    #[error("it calls functions, operators or types that aren't PostgreSQL's own")]
    ForeignCode,
    #[error("one of its values is binary or too long to be repeated")]
    Values,
}

/// The text to explain: one statement that has a plan and runs no code but PostgreSQL's
/// own while it is planned. `sent` is the query string as it would go out.
pub(super) fn explainable(
    statements: &[Statement],
    sent: &str,
    catalog: &Catalog,
) -> Result<String, NotExplained> {
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
    if !own {
        return Err(NotExplained::ForeignCode);
    }
    // Nothing may stand behind it that the prefix doesn't reach.
    let read = sql::analyse(&explain(sent), catalog).map_err(|_| NotExplained::Kind)?;
    match read.as_slice() {
        [only] if only.facts.kind == StatementKind::Explain => Ok(sent.to_owned()),
        _ => Err(NotExplained::Several),
    }
}

fn explain(statement: &str) -> String {
    format!("EXPLAIN (FORMAT JSON) {statement}\n")
}

/// The question to PostgreSQL: one query string, and so one transaction.
fn question(statement: &str, parameters: &[Parameter]) -> Result<String, NotExplained> {
    if parameters.is_empty() {
        return Ok(format!("{GUARD}{}", explain(statement)));
    }
    let values = parameters
        .iter()
        .map(|parameter| match parameter {
            Parameter::Null => Ok("NULL".to_owned()),
            Parameter::Text(text) => Ok(quote_literal(text)),
            Parameter::Binary(_) | Parameter::Cut { .. } => Err(NotExplained::Values),
        })
        .collect::<Result<Vec<_>, _>>()?
        .join(", ");
    Ok(format!(
        "{GUARD}DEALLOCATE ALL; PREPARE {PREPARED} AS {statement}\n; \
         EXPLAIN (FORMAT JSON) EXECUTE {PREPARED} ({values})"
    ))
}

/// Asks PostgreSQL.
pub(super) async fn estimate(
    statement: &Result<String, NotExplained>,
    parameters: &[Parameter],
    drift: &Drift,
) -> Estimate {
    let question = match statement {
        Ok(statement) => question(statement, parameters),
        Err(why) => Err(*why),
    };
    let question = match question {
        Ok(question) => question,
        Err(why) => return Estimate::Unavailable { why: why.to_string() },
    };
    let answer = timeout(PATIENCE, drift.ask(&question)).await;
    let why = match answer.unwrap_or(Err(UpstreamError::Slow)) {
        Ok(plan) => match numbers(&plan) {
            Some(estimate) => return estimate,
            None => "PostgreSQL's answer is no plan".to_owned(),
        },
        // Its message may quote a value.
        Err(UpstreamError::Refused { sqlstate, .. }) => {
            format!("PostgreSQL does not plan it (SQLSTATE {sqlstate})")
        }
        Err(error) => error.to_string(),
    };
    Estimate::Unavailable { why }
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
    #[serde(rename = "Total Cost")]
    cost: f64,
    #[serde(rename = "Plan Rows")]
    rows: serde_json::Number,
    #[serde(rename = "Plans", default)]
    below: Vec<Plan>,
}

/// The rows of a plan and its cost. A node that modifies a table returns no rows: those
/// below it are changed.
fn numbers(plan: &str) -> Option<Estimate> {
    let explained = serde_json::from_str::<Vec<Explained>>(plan).ok()?;
    let Plan { node, cost, rows, below } = explained.into_iter().next()?.plan;
    let rows = match below.first() {
        Some(source) if node == "ModifyTable" => &source.rows,
        _ => &rows,
    };
    Some(Estimate::Planned { rows: rows.as_u64().unwrap_or(u64::MAX), cost })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{analyse, on_large_stack};

    fn asked(sql: &str) -> Result<String, NotExplained> {
        let catalog = Catalog::builder()
            .table("shop.orders", &[("id", "int8"), ("note", "text")])
            .function("shop.purge", true, false)
            .build();
        on_large_stack(|| {
            let statements = analyse(sql, &catalog).expect("it parses");
            explainable(&statements, sql, &catalog)
        })
    }

    #[test]
    fn only_one_plain_statement_without_foreign_code_is_explained() {
        for sql in [
            "DELETE FROM shop.orders",
            "DELETE FROM shop.orders; -- all of them",
            "/* why */ UPDATE shop.orders SET note = lower(note) WHERE id = $1",
            "SELECT count(*) FROM shop.orders",
        ] {
            assert_eq!(asked(sql).as_deref(), Ok(sql));
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
    fn values_are_quoted_and_what_has_no_text_is_left_alone() {
        let values = [Parameter::Text("it's\\".into()), Parameter::Null];
        let question = question("DELETE FROM t WHERE a = $1 -- x", &values).unwrap();
        assert!(question.contains("AS DELETE FROM t WHERE a = $1 -- x\n; EXPLAIN"), "{question}");
        assert!(question.ends_with(&format!("({}, NULL)", quote_literal("it's\\"))), "{question}");
        let binary = [Parameter::Binary("AAAA".into())];
        assert_eq!(super::question("SELECT $1", &binary), Err(NotExplained::Values));
    }

    #[test]
    fn the_rows_that_a_statement_changes_are_those_below_its_modification() {
        let plan = r#"[{"Plan": {"Node Type": "ModifyTable", "Total Cost": 22.5, "Plan Rows": 0,
            "Plans": [{"Node Type": "Seq Scan", "Total Cost": 22.0, "Plan Rows": 1270}]}}]"#;
        assert_eq!(numbers(plan), Some(Estimate::Planned { rows: 1270, cost: 22.5 }));
        let plan = r#"[{"Plan": {"Node Type": "Seq Scan", "Total Cost": 1.5, "Plan Rows": 9}}]"#;
        assert_eq!(numbers(plan), Some(Estimate::Planned { rows: 9, cost: 1.5 }));
        assert_eq!(numbers("[]"), None);
    }
}
