//! Refusals: what a client is told in place of a statement or of a connection.

use super::Unrecorded;
use crate::{
    policy::Denied,
    proxy::ruling::{SYNTAX, builtin},
};

/// The error that a client gets in place of a statement, or of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The statement's number within the session; 0 for a connection.
    pub statement: u64,
    /// The SQLSTATE: 42501 for what policy denies.
    pub sqlstate: &'static str,
    /// What is refused and why, in one line.
    pub message: String,
    /// The rule and its reason; empty for none.
    pub detail: String,
    /// What to do next; empty for none.
    pub hint: String,
    /// The character of the client's text that it is about, from 1.
    pub position: Option<usize>,
}

impl Refusal {
    pub(super) fn of(statement: u64, denied: &Denied) -> Self {
        if denied.rule == builtin(SYNTAX) {
            // A slip of the pen, told as PostgreSQL tells it.
            return Self {
                statement,
                sqlstate: "42601",
                message: denied.reason.clone(),
                detail: String::new(),
                hint: denied.hint.clone(),
                position: None,
            };
        }
        Self {
            statement,
            sqlstate: "42501",
            message: format!("pgate: {}", denied.reason),
            detail: format!("rule {}", denied.rule),
            hint: denied.hint.clone(),
            position: None,
        }
    }

    pub(super) fn unrecorded(statement: u64, error: &Unrecorded) -> Self {
        Self {
            statement,
            sqlstate: "58030",
            message: format!("pgate: {error}"),
            detail: "Nothing runs that isn't recorded.".into(),
            hint:
                "Send a shorter statement, or make room on this machine's disk and connect again."
                    .into(),
            position: None,
        }
    }
}

pub(super) fn expired() -> Denied {
    Denied {
        rule: builtin("expired"),
        reason: "the grant has ended".into(),
        hint: "Ask for a new one with `pgate request`.".into(),
    }
}

pub(super) fn function_call() -> Denied {
    Denied {
        rule: builtin("function-call"),
        reason: "the protocol's function-call message can't be checked".into(),
        hint: "Call the function in a SELECT.".into(),
    }
}

pub(super) fn changed_since_parse() -> Denied {
    Denied {
        rule: builtin("changed-since-parse"),
        reason: "a table of this prepared statement has changed since it was prepared".into(),
        hint: "Prepare the statement again, or connect again.".into(),
    }
}
