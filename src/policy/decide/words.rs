//! The words of verdicts: what rules and people call things.

use super::Judge;
use crate::{
    policy::{Condition, Denied, Held, Reviewers, Rule},
    sql::Action,
};

impl Judge<'_> {
    pub(super) fn denied_by(&self, rule: &Rule, action: Action, shown: &str) -> Denied {
        Denied {
            rule: rule.source.clone(),
            reason: format!(
                "role {} denies {} on {shown}{}{}",
                self.role.name,
                word(action),
                condition(rule),
                said(rule, ": ", "")
            ),
            hint: match (rule.when, &rule.window) {
                (Some(Condition::Unfiltered), _) => {
                    "Add a WHERE clause that names the rows: compare a column of the table with \
                     values."
                        .to_owned()
                }
                (Some(Condition::RowsOver(_)), _) => {
                    "Narrow it, or do it in smaller parts.".to_owned()
                }
                (None, Some(_)) => "Try again at another time.".to_owned(),
                (None, None) => {
                    "No other rule of this role can allow it; ask for another role.".to_owned()
                }
            },
        }
    }

    pub(super) fn held_by(&self, rule: &Rule, action: Action, shown: &str) -> Held {
        let who = match &rule.reviewers {
            Some(Reviewers::Group(group)) => format!("a member of {group}"),
            Some(Reviewers::User(user)) => user.clone(),
            None => "a reviewer".to_owned(),
        };
        Held {
            rule: rule.source.clone(),
            reason: format!(
                "{} on {shown}{} needs the approval of {who}{}",
                word(action),
                condition(rule),
                said(rule, " (", ")")
            ),
            reviewers: rule.reviewers.clone(),
        }
    }
}

fn said(rule: &Rule, before: &str, after: &str) -> String {
    rule.reason.as_ref().map_or_else(String::new, |reason| format!("{before}{reason}{after}"))
}

/// The condition of a rule, as it follows what it is about.
pub(in crate::policy) fn condition(rule: &Rule) -> String {
    let when = match rule.when {
        None => String::new(),
        Some(Condition::Unfiltered) => " without a WHERE clause that narrows it".to_owned(),
        Some(Condition::RowsOver(rows)) => format!(" of more than {rows} rows"),
    };
    let window = rule.window.as_ref().map_or_else(String::new, |window| format!(" ({window})"));
    format!("{when}{window}")
}

/// What rules and people call an action.
pub(in crate::policy) fn word(action: Action) -> &'static str {
    match action {
        Action::Select => "select",
        Action::Insert => "insert",
        Action::Update => "update",
        Action::Delete => "delete",
        Action::Truncate => "truncate",
        Action::Merge => "merge",
        Action::Copy => "copy",
        Action::Call => "call",
        Action::Ddl => "ddl",
        Action::Create => "create",
        Action::Alter => "alter",
        Action::Drop => "drop",
        Action::Grant => "grant",
        Action::Comment => "comment",
        Action::Maintain => "maintain",
        Action::Explain => "explain",
        Action::Set => "set",
    }
}
