//! Held statements as reviewers see them, and what approve and deny are asked about.

use std::{process::ExitCode, str::FromStr};

use jiff::Timestamp;

use super::{
    context::Context,
    failure::Failure,
    log::escaped_lines,
    output::{escaped, moment},
};
use crate::{
    api::{self, HoldState, HoldView},
    grant::{GrantId, HoldId},
    journal::Parameter,
    sql,
};

/// Lines of a statement that are shown.
const MOST_LINES: usize = 200;
/// Parameters of a statement, and characters of each, that are shown.
const MOST_PARAMETERS: usize = 100;
const MOST_OF_PARAMETER: usize = 500;

/// What waits for a reviewer, by its id's prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReviewId {
    /// `gr_…`: a request for a grant.
    Grant(GrantId),
    /// `ho_…`: a held statement.
    Hold(HoldId),
}

/// A text that is neither.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is neither a request (gr_…) nor a held statement (ho_…)")]
pub(crate) struct NoReviewId(String);

impl FromStr for ReviewId {
    type Err = NoReviewId;

    fn from_str(text: &str) -> Result<Self, NoReviewId> {
        let grant = text.parse().map(ReviewId::Grant);
        let hold = || text.parse().map(ReviewId::Hold);
        grant.or_else(|_| hold()).map_err(|_| NoReviewId(text.chars().take(64).collect()))
    }
}

/// Prints a hold after a decision: the object, or the outcome.
pub(crate) fn report(view: &HoldView, context: &Context) -> Result<ExitCode, Failure> {
    if context.output.is_json() {
        context.output.json(view)?;
    } else {
        let state = outcome(&view.hold.state, Timestamp::now());
        let text = format!("{}  {} as {}: {state}", view.hold.id, view.target, view.role);
        context.output.line(escaped(&text));
    }
    Ok(ExitCode::SUCCESS)
}

/// What became of a hold, in a few words. Not escaped.
pub(crate) fn outcome(state: &HoldState, now: Timestamp) -> String {
    api::outcome(state, |at| moment(at, now))
}

/// Shows a hold with all that a reviewer must know.
pub(crate) fn describe(view: &HoldView, context: &Context) {
    let now = Timestamp::now();
    let output = &context.output;
    let HoldView { hold, statement, .. } = view;
    let how = api::sent_as(statement.protocol);
    let mut fields = vec![
        ("hold", hold.id.to_string()),
        ("who", hold.identity.to_string()),
        ("access", format!("{} as {}", view.target, view.role)),
        ("reason", view.reason.clone()),
        ("session", format!("{}, statement {}", hold.session, statement.statement)),
        ("held", format!("{} (rule {})", view.why, view.rule)),
        ("reviewers", view.reviewers.to_string()),
        ("asked", moment(hold.raised_at, now)),
        ("state", outcome(&hold.state, now)),
    ];
    if hold.state == HoldState::Waiting {
        fields.push(("until", moment(hold.expires_at, now)));
    }
    fields.extend(view.url.clone().map(|url| ("page", url)));
    fields.push(("planned", statement.estimate.to_string()));
    output.fields(&fields);
    output.line(format!("\n{} as it was sent:", capital(how)));
    lines(&statement.sql, output);
    if let Some(pretty) = sql::pretty(&statement.sql).filter(|laid_out| *laid_out != statement.sql)
    {
        output.line("\nLaid out:");
        lines(&pretty, output);
    }
    if !statement.parameters.is_empty() {
        output.line("\nWith:");
        parameters(&statement.parameters, output);
    }
    if hold.state == HoldState::Waiting {
        if let Some(shape) = &statement.shape
            && shape.text != statement.sql
        {
            output.line("\n--same-statements would approve, for this session, every:");
            lines(&shape.text, output);
        }
        output.next(format!("pgate approve {}  (or: pgate deny {0} --comment \"…\")", hold.id));
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn lines(text: &str, output: &super::output::Output) {
    for line in escaped_lines(text).take(MOST_LINES) {
        output.line(format!("  {line}"));
    }
    let hidden = text.lines().count().saturating_sub(MOST_LINES);
    if hidden > 0 {
        output.line(format!("  … and {hidden} lines more; --output json has them"));
    }
}

fn parameters(parameters: &[Parameter], output: &super::output::Output) {
    for (parameter, number) in parameters.iter().zip(1..).take(MOST_PARAMETERS) {
        let value = api::bound_value(parameter, MOST_OF_PARAMETER);
        output.line(format!("  ${number} = {value}"));
    }
    if parameters.len() > MOST_PARAMETERS {
        let more = parameters.len() - MOST_PARAMETERS;
        output.line(format!("  … and {more} parameters more; --output json has them"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_s_prefix_says_what_is_decided() {
        let hold: ReviewId = "ho_3x9k2m7q4v8w1n5p".parse().unwrap();
        assert!(matches!(hold, ReviewId::Hold(_)));
        let grant: ReviewId = "gr_3x9k2m7q4v8w1n5p".parse().unwrap();
        assert!(matches!(grant, ReviewId::Grant(_)));
        for text in ["se_3x9k2m7q4v8w1n5p", "ho_1", "", "4312"] {
            assert!(text.parse::<ReviewId>().is_err(), "{text}");
        }
    }
}
