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
    api::{Estimate, HoldState, HoldView, Scope},
    grant::{GrantId, HoldId},
    journal::{Parameter, Protocol},
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
    let said = |comment: &str| match comment {
        "" => String::new(),
        comment => format!(": {comment}"),
    };
    match state {
        HoldState::Waiting => "waiting".into(),
        HoldState::Approved { decision, scope } => {
            let reach = match scope {
                Scope::Once => "once",
                Scope::SameStatements => "with other values too, for its session",
            };
            format!("approved {reach} by {}{}", decision.by, said(&decision.comment))
        }
        HoldState::Denied { decision } => {
            format!("denied by {}{}", decision.by, said(&decision.comment))
        }
        HoldState::Withdrawn { because, .. } => format!("withdrawn: {because}"),
        HoldState::TimedOut { at } => format!("timed out at {}", moment(*at, now)),
        HoldState::SessionEnded { because, .. } => format!("its session ended: {because}"),
    }
}

/// Shows a hold with all that a reviewer must know.
pub(crate) fn describe(view: &HoldView, context: &Context) {
    let now = Timestamp::now();
    let output = &context.output;
    let HoldView { hold, statement, .. } = view;
    let how = match statement.protocol {
        Protocol::Simple => "a query",
        Protocol::Parse | Protocol::Execute => "a prepared statement",
        Protocol::Function => "a function call",
    };
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
    fields.push(("planned", planned(&statement.estimate)));
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

/// The planner's expectation, in words.
pub(crate) fn planned(estimate: &Estimate) -> String {
    match estimate {
        Estimate::Planned { rows, cost } => {
            let rows = if *rows == 1 { "1 row".into() } else { format!("{rows} rows") };
            format!("about {rows}, cost {cost:.2} (PostgreSQL's estimate; nothing has run)")
        }
        Estimate::Unavailable { why } => format!("no estimate: {why}"),
    }
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
        let value = match parameter {
            Parameter::Null => "NULL".into(),
            Parameter::Text(text) => format!("'{}'", clipped(text)),
            Parameter::Binary(base64) => binary(base64),
            Parameter::Cut { bytes, sha256 } => {
                format!("{bytes} bytes, not kept (SHA-256 {})", clipped(sha256))
            }
        };
        output.line(format!("  ${number} = {value}"));
    }
    if parameters.len() > MOST_PARAMETERS {
        let more = parameters.len() - MOST_PARAMETERS;
        output.line(format!("  … and {more} parameters more; --output json has them"));
    }
}

/// A value in binary format: its bytes, and the number that they are where they can be
/// one. Its type only PostgreSQL knows.
fn binary(base64: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let Ok(bytes) = STANDARD.decode(base64) else {
        return format!("binary {}", clipped(base64));
    };
    let number = match *bytes.as_slice() {
        [a, b] => Some(i64::from(i16::from_be_bytes([a, b]))),
        [a, b, c, d] => Some(i64::from(i32::from_be_bytes([a, b, c, d]))),
        [a, b, c, d, e, f, g, h] => Some(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
        _ => None,
    };
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let number = number.map_or(String::new(), |number| format!(" ({number}, if a whole number)"));
    format!("binary {}{number}", clipped(&hex))
}

fn clipped(text: &str) -> String {
    let mut shown = escaped(&text.chars().take(MOST_OF_PARAMETER).collect::<String>());
    if text.chars().nth(MOST_OF_PARAMETER).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_value_is_shown_as_bytes_and_as_the_number_that_it_may_be() {
        assert_eq!(binary("AAAAKg=="), "binary 0000002a (42, if a whole number)");
        assert_eq!(binary("/////////9Y="), "binary ffffffffffffffd6 (-42, if a whole number)");
        assert_eq!(binary("AQID"), "binary 010203");
        assert_eq!(binary("*"), "binary *");
    }

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
