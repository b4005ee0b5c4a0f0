//! What the command line and the web page say alike of what waits for a reviewer.
//!
//! Owns the wording, and the one list of characters that are never shown as they are:
//! those that command a terminal, turn text round, or can't be seen at all.

use std::fmt::{self, Write as _};

use jiff::Timestamp;

use super::{Estimate, HoldState, Scope};
use crate::journal::{Parameter, Protocol};

/// `text` with control, direction-changing and invisible characters shown as `\u{…}`;
/// line feeds too, so that one value stays on one line.
pub fn escaped(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || changes_direction(c) || is_invisible(c) {
            let _ = write!(clean, "{}", c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// The lines of `text`, each as [`escaped`] shows it.
pub fn escaped_lines(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().map(|line| escaped(&line.replace('\t', "    ")))
}

fn changes_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}'
        | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// Two texts that differ by one of these look the same.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}'
        | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// How far away a moment is: `in 5m`, `1h ago`, `now`.
pub fn distance(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.as_second().saturating_sub(now.as_second());
    let lasts = lasting(seconds.unsigned_abs());
    match seconds {
        0 => "now".to_owned(),
        1.. => format!("in {lasts}"),
        _ => format!("{lasts} ago"),
    }
}

/// A length of time in its two largest units: `59m`, `1h 30m`, `2d 4h`.
pub fn lasting(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let Some(first) = units.iter().position(|(size, _)| seconds >= *size) else {
        return "0s".into();
    };
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, name) in units.iter().skip(first).take(2) {
        let count = rest / size;
        rest %= size;
        if count > 0 {
            parts.push(format!("{count}{name}"));
        }
    }
    parts.join(" ")
}

/// The planner's expectation.
impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Estimate::Planned { rows, cost } => {
                let unit = if *rows == 1 { "row" } else { "rows" };
                write!(
                    f,
                    "about {rows} {unit}, cost {cost:.2} (PostgreSQL's estimate; nothing has run)"
                )
            }
            Estimate::Unavailable { why } => write!(f, "no estimate: {why}"),
        }
    }
}

/// How a held statement came in.
pub fn sent_as(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Simple => "a query",
        Protocol::Parse | Protocol::Execute => "a prepared statement",
        Protocol::Function => "a function call",
    }
}

/// What became of a hold, in a few words. Not escaped; `moment` says a time.
pub fn outcome(state: &HoldState, moment: impl Fn(Timestamp) -> String) -> String {
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
        HoldState::TimedOut { at } => format!("timed out at {}", moment(*at)),
        HoldState::SessionEnded { because, .. } => format!("its session ended: {because}"),
    }
}

/// A value that a statement is bound to, escaped, at most `most` characters of it.
pub fn bound_value(parameter: &Parameter, most: usize) -> String {
    match parameter {
        Parameter::Null => "NULL".into(),
        Parameter::Text(text) => format!("'{}'", clipped(text, most)),
        Parameter::Binary(base64) => binary(base64, most),
        Parameter::Cut { bytes, sha256 } => {
            format!("{bytes} bytes, not kept (SHA-256 {})", clipped(sha256, most))
        }
    }
}

/// A value in binary format: its bytes, and the number that they are where they can be
/// one. Its type only PostgreSQL knows.
fn binary(base64: &str, most: usize) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let Ok(bytes) = STANDARD.decode(base64) else {
        return format!("binary {}", clipped(base64, most));
    };
    let number = match *bytes.as_slice() {
        [a, b] => Some(i64::from(i16::from_be_bytes([a, b]))),
        [a, b, c, d] => Some(i64::from(i32::from_be_bytes([a, b, c, d]))),
        [a, b, c, d, e, f, g, h] => Some(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
        _ => None,
    };
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let number = number.map_or(String::new(), |number| format!(" ({number}, if a whole number)"));
    format!("binary {}{number}", clipped(&hex, most))
}

/// The beginning of a text, of so many characters at most, made harmless to a terminal.
pub fn clipped(text: &str, most: usize) -> String {
    let mut shown = escaped(&text.chars().take(most).collect::<String>());
    if text.chars().nth(most).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_value_commands_a_terminal_turns_text_round_or_hides() {
        for (text, shown) in [
            ("plain, ünïcode ✓", "plain, ünïcode ✓"),
            ("\x1b[2Jgone", "\\u{1b}[2Jgone"),
            ("a\u{9b}31mred", "a\\u{9b}31mred"),
            ("line\nfeed\r", "line\\nfeed\\r"),
            ("\u{202e}txt.exe", "\\u{202e}txt.exe"),
            ("ana\u{200b}", "ana\\u{200b}"),
            ("\u{e0041}", "\\u{e0041}"),
        ] {
            assert_eq!(escaped(text), shown);
        }
    }

    #[test]
    fn lengths_of_time_show_their_two_largest_units() {
        for (seconds, shown) in [
            (0, "0s"),
            (59, "59s"),
            (3600, "1h"),
            (5400, "1h 30m"),
            (187_200, "2d 4h"),
            (61, "1m 1s"),
        ] {
            assert_eq!(lasting(seconds), shown);
        }
    }

    #[test]
    fn a_binary_value_is_shown_as_bytes_and_as_the_number_that_it_may_be() {
        let shown = |base64: &str| bound_value(&Parameter::Binary(base64.into()), 500);
        assert_eq!(shown("AAAAKg=="), "binary 0000002a (42, if a whole number)");
        assert_eq!(shown("/////////9Y="), "binary ffffffffffffffd6 (-42, if a whole number)");
        assert_eq!(shown("AQID"), "binary 010203");
        assert_eq!(shown("*"), "binary *");
    }
}
