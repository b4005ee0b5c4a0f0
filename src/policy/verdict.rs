//! What policy says of a statement. The proxy acts on it, the log stores this
//! same value, and the user sees it.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::Reviewers;

/// Where a rule stands: what a verdict names, so that a person can go and read it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RuleRef {
    /// `role.readonly.deny[0]`, `access[2]`, or for pgate's own rules `builtin.unknown-relation`.
    pub rule: String,
    /// `shop.toml:12`; none for pgate's own rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{} ({place})", self.rule),
            None => f.write_str(&self.rule),
        }
    }
}

/// What policy says of one statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    /// It may run, as it is or rewritten for masks.
    Allow(Allowed),
    /// It may run once a reviewer agrees.
    Hold(Held),
    /// It may not run.
    Deny(Denied),
}

/// Why a statement may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// The rule that allows it (the first one needed).
    pub rule: RuleRef,
    /// The masked columns whose relations it scans, as `schema.table.column`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masked: Vec<String>,
    /// The masked columns in which it looks raw values up, as `schema.table.column`,
    /// with the number of values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lookups: BTreeMap<String, u32>,
}

/// Why a statement waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The rule that holds it.
    pub rule: RuleRef,
    /// What the rule says, or what pgate can say of it.
    pub reason: String,
    /// Who may approve.
    pub reviewers: Option<Reviewers>,
}

/// Why a statement may not run, and what the person can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// The rule that denies it.
    pub rule: RuleRef,
    /// What is not allowed, in one sentence without a full stop.
    pub reason: String,
    /// What to do next, as a sentence; empty where there is nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}
