//! Holds as the API tells them: what a proxy says of a statement that waits, and what
//! its reviewers see of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use crate::grant::{Hold, HoldId, HoldState, Scope};
use crate::{
    grant::{Grant, Identity, SessionId},
    journal::{Parameter, Protocol},
    policy::{Reviewers, RuleRef},
};

/// A statement that waits, as its proxy has read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldStatement {
    /// The client connection within the session.
    pub connection: u32,
    /// Its number within the session, as the session log has it.
    pub statement: u64,
    /// How it came in.
    pub protocol: Protocol,
    /// The text as the client sent it.
    pub sql: String,
    /// The values bound to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// What an approval of the same statements would cover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<StatementShape>,
    /// What PostgreSQL's planner expects of it.
    pub estimate: Estimate,
}

/// A statement apart from its constants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatementShape {
    /// pg_query's fingerprint.
    pub fingerprint: String,
    /// The text with a parameter in the place of each constant.
    pub text: String,
}

/// What EXPLAIN says, without running anything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Estimate {
    /// The planner's numbers.
    Planned {
        /// Rows that it returns or changes.
        rows: u64,
        /// Total cost, in the planner's units.
        cost: f64,
    },
    /// There is none.
    Unavailable {
        /// Why, in words.
        why: String,
    },
}

/// Raises a hold. Who may decide on it, and until when, the control plane reads in the
/// policy that the session runs under.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RaiseHold {
    /// The session.
    pub session: SessionId,
    /// The rule that holds the statement (`role.writer.hold[0]`).
    pub rule: String,
    /// What is held and why, in words.
    pub why: String,
    /// The statement.
    pub statement: HeldStatement,
}

/// A hold with all that a reviewer must know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HoldView {
    /// Whose it is, and where it is in its life.
    #[serde(flatten)]
    pub hold: Hold,
    /// The target.
    pub target: String,
    /// The role.
    pub role: String,
    /// Why the person wanted access.
    pub reason: String,
    /// The rule.
    pub rule: RuleRef,
    /// What is held and why, in words.
    pub why: String,
    /// Who may decide.
    pub reviewers: Reviewers,
    /// The statement.
    pub statement: HeldStatement,
    /// Its page for a browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A hold in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldSummary {
    /// Its id.
    pub id: HoldId,
    /// Its session.
    pub session: SessionId,
    /// Whose it is.
    pub identity: Identity,
    /// The target.
    pub target: String,
    /// The role.
    pub role: String,
    /// The rule.
    pub rule: RuleRef,
    /// The beginning of the statement's text.
    pub sql: String,
    /// The statement's number in the session log.
    pub statement: u64,
    /// When it was raised.
    pub raised_at: Timestamp,
    /// When it is refused unanswered.
    pub expires_at: Timestamp,
    /// Where it is in its life.
    #[serde(flatten)]
    pub state: HoldState,
    /// Its page for a browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// The longest text in a [`HoldSummary`], in characters.
const HEAD: usize = 500;

impl From<HoldView> for HoldSummary {
    fn from(view: HoldView) -> Self {
        let Hold { id, session, identity, raised_at, expires_at, state } = view.hold;
        let HeldStatement { sql, statement, .. } = view.statement;
        let sql = match sql.char_indices().nth(HEAD) {
            Some((at, _)) => format!("{}…", sql.get(..at).unwrap_or_default()),
            None => sql,
        };
        let (target, role, rule, url) = (view.target, view.role, view.rule, view.url);
        Self {
            id,
            session,
            identity,
            target,
            role,
            rule,
            sql,
            statement,
            raised_at,
            expires_at,
            state,
            url,
        }
    }
}

/// Holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldList {
    /// Oldest first.
    pub holds: Vec<HoldSummary>,
}

/// What waits for the caller's review.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbox {
    /// Requests for grants, newest first.
    pub grants: Vec<Grant>,
    /// Held statements, oldest first: their clients wait.
    #[serde(default)]
    pub holds: Vec<HoldSummary>,
}

/// A reviewer's yes to a hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldApproval {
    /// At most 500 characters.
    #[serde(default)]
    pub comment: String,
    /// To how much.
    #[serde(default)]
    pub scope: Scope,
}

/// Why a hold is withdrawn.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdrawal {
    /// At most 500 characters.
    #[serde(default)]
    pub reason: String,
}
