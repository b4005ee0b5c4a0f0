//! Where in a text a syntax error is: PostgreSQL's parser tells it, its binding passes on
//! the message alone.
//!
//! Owns finding the place again. It refuses to guess: a position is told only where the
//! text up to there gives the very same error.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Longer texts are parsed once only.
const LONGEST: usize = 64 * 1024;

/// The character that a syntax error with this message is about, from 1.
pub(super) fn of(text: &str, message: &str) -> Option<usize> {
    if message.ends_with(" at end of input") {
        return Some(character(text, text.len()));
    }
    let (_, near) = message.split_once(" at or near \"")?;
    let near = near.strip_suffix('"').filter(|near| !near.is_empty())?;
    // An unterminated string or comment goes to the end.
    if message.starts_with("unterminated ") {
        return Some(character(text, text.strip_suffix(near)?.len()));
    }
    if text.len() > LONGEST {
        return None;
    }
    let places = text.match_indices(near).map(|(at, _)| at);
    let places = places.filter(|at| is_whole(text, *at, near)).collect::<Vec<_>>();
    // What ends before the error parses, or ends too early; what goes beyond it fails as
    // the whole does. So a few halvings find it.
    let fails = |at: &usize| text.get(..at + near.len()).is_some_and(|up_to| says(up_to, message));
    let place = places.get(places.partition_point(|at| !fails(at))).filter(|at| fails(at))?;
    Some(character(text, *place))
}

/// Whether no longer word is there.
fn is_whole(text: &str, at: usize, near: &str) -> bool {
    let of_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let goes_on = |one: Option<char>, other: Option<char>| {
        one.is_some_and(of_word) && other.is_some_and(of_word)
    };
    let before = text.get(..at).and_then(|before| before.chars().next_back());
    let after = text.get(at + near.len()..).and_then(|after| after.chars().next());
    !goes_on(before, near.chars().next()) && !goes_on(near.chars().next_back(), after)
}

fn says(text: &str, message: &str) -> bool {
    matches!(
        catch_unwind(AssertUnwindSafe(|| pg_query::parse(text, 0))),
        Ok(Err(pg_query::Error::Parse(said))) if said == message
    )
}

fn character(text: &str, byte: usize) -> usize {
    text.get(..byte).map_or(0, |before| before.chars().count()) + 1
}

#[cfg(test)]
mod tests {
    use crate::sql::{AnalysisError, Catalog, analyse, on_large_stack};

    #[test]
    fn a_syntax_error_is_where_postgresql_says_it_is() {
        // The place is marked; without a mark there is none to be told.
        let cases = [
            "§SELEKT 1",
            "SELECT a FROM t WHERE §FROM x",
            "SELECT 'FROM', \"FROM\" /* WHERE */ FROM t WHERE §FROM x FROM y",
            "SELECT 'ü', 'ß' FROM t WHERE §) AND b",
            "SELECT (1) FROM (SELECT (2)) x§) y",
            "SELECT 1 FROM§",
            "SELECT 1 FROM   §",
            "SELECT (1§",
            "SELECT 'a', §'b",
            "SELECT 1 §/* never ends",
            "SELECT 1; SELECT 2; §SELEKT 3; SELECT 4",
            "SELECT 1 ORDER BY a §WHERE b",
            "SELECT §1a",
            "INSERT INTO t (a, b,§) VALUES (1, 2)",
        ];
        for case in cases {
            let sql = case.replace('§', "");
            let marked = case.chars().position(|c| c == '§').map(|at| at + 1);
            let told = on_large_stack(|| analyse(&sql, &Catalog::builder().build()));
            let Err(AnalysisError::Syntax { message, position }) = told else {
                panic!("{sql}: {told:?}")
            };
            assert_eq!(position, marked, "{case}: {message}");
        }
    }
}
