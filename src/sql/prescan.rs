//! The linear look at a statement's bytes before PostgreSQL's parser sees it.
//!
//! Owns the caps that keep the parser's time and memory bounded. It decides
//! nothing about meaning: where it takes a comment for a string, only time is
//! lost.

use super::parse::AnalysisError;

/// The longest query string, in bytes. The log keeps it whole, in a line of 16 MiB at most.
pub(super) const MAX_BYTES: usize = 8 << 20;
/// The most words and signs of one: the parser takes up to 2 KB for each.
pub(super) const MAX_TOKENS: usize = 1_000_000;
/// The deepest nesting of comments: they cost the parser quadratic time.
const MAX_COMMENT_NESTING: usize = 1_000;
/// The most bytes that the parser's scanner may read in vain: where a comment or an operator
/// begins it reads on to the end of the signs there, and takes a part of them.
const MAX_READ_IN_VAIN: usize = 20_000_000;
/// The most operators, joins and set operations in one chain, which brackets,
/// commas and semicolons end: each may nest the tree one level deeper.
const MAX_CHAIN: usize = 20_000;

/// Refuses what the parser must not see.
pub(super) fn check(text: &str) -> Result<(), AnalysisError> {
    operators(text).map(|_| ())
}

/// How many operators and words like them the longest chain of a text has, which
/// is about how deep it makes the tree. Refuses what the parser must not see.
pub(super) fn operators(text: &str) -> Result<usize, AnalysisError> {
    if text.len() > MAX_BYTES {
        return Err(AnalysisError::TooLong { bytes: text.len(), limit: MAX_BYTES });
    }
    let bytes = text.as_bytes();
    if bytes.contains(&0) {
        return Err(AnalysisError::NulByte);
    }
    let mut at = 0;
    let mut longest = 0;
    // The chain at hand, and those of the brackets around it.
    let mut chain = 0_usize;
    let mut around = Vec::new();
    let mut in_vain = InVain::default();
    let mut in_operator = false;
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at..];
        let goes_on = std::mem::replace(&mut in_operator, false);
        at += match byte {
            b'\'' => {
                let escapes =
                    at > 0 && matches!(bytes[at - 1], b'e' | b'E') && !in_word(bytes, at - 1);
                quoted(rest, b'\'', escapes)
            }
            b'"' => quoted(rest, b'"', false),
            b'-' if rest.starts_with(b"--") => {
                rest.iter().position(|b| matches!(b, b'\n' | b'\r')).unwrap_or(rest.len())
            }
            b'/' if rest.starts_with(b"/*") => comment(rest, &mut in_vain)?,
            b'$' if !in_word(bytes, at) => dollar_quoted(rest),
            b'(' | b'[' => {
                around.push(chain + usize::from(byte == b'['));
                chain = 0;
                1
            }
            b')' | b']' => {
                chain = around.pop().unwrap_or_default();
                1
            }
            b',' => {
                chain = 0;
                1
            }
            b';' => {
                chain = 0;
                around.clear();
                1
            }
            b'+' | b'-' | b'*' | b'/' | b'<' | b'>' | b'=' | b'|' | b'&' | b'%' | b'^' | b'#'
            | b'@' | b'~' | b'!' | b'?' | b':' => {
                if !goes_on {
                    in_vain.signs(rest)?;
                }
                in_operator = true;
                chain += 1;
                1
            }
            _ if byte.is_ascii_alphabetic() && !in_word(bytes, at) => {
                let word = rest.iter().take_while(|b| is_word(**b)).count();
                chain += usize::from(deepens(&rest[..word]));
                word
            }
            _ => 1,
        };
        longest = longest.max(chain);
        if chain > MAX_CHAIN {
            return Err(AnalysisError::TooManyOperators { limit: MAX_CHAIN });
        }
    }
    Ok(longest)
}

/// Whether a word may make the tree deeper.
fn deepens(word: &[u8]) -> bool {
    ["and", "or", "not", "join", "union", "intersect", "except", "is", "like", "ilike", "between"]
        .iter()
        .any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

/// Whether the byte at `at` goes on with a word that began before it.
fn in_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && is_word(bytes[at - 1])
}

/// The length of a quoted run that starts `rest`.
fn quoted(rest: &[u8], quote: u8, escapes: bool) -> usize {
    let mut at = 1;
    while let Some(&byte) = rest.get(at) {
        at += match byte {
            b'\\' if escapes => 2,
            _ if byte == quote => return at + 1,
            _ => 1,
        };
    }
    rest.len()
}

/// What the scanner has read in vain so far.
#[derive(Debug, Default)]
struct InVain(usize);

impl InVain {
    /// Counts the signs that `rest` starts with. Counting them takes as long, so it is
    /// bounded by the same number.
    fn signs(&mut self, rest: &[u8]) -> Result<(), AnalysisError> {
        let is_sign = |byte: &&u8| b"~!@#^&|`?+-*/%<>=".contains(byte);
        self.0 += rest.iter().take_while(is_sign).count();
        if self.0 > MAX_READ_IN_VAIN { Err(AnalysisError::RunTooLong) } else { Ok(()) }
    }
}

/// The length of a comment that starts `rest`, those nested in it included.
fn comment(rest: &[u8], in_vain: &mut InVain) -> Result<usize, AnalysisError> {
    let (mut at, mut depth) = (0, 0_usize);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            in_vain.signs(&rest[at..])?;
            depth += 1;
            at += 2;
            if depth > MAX_COMMENT_NESTING {
                return Err(AnalysisError::CommentsTooDeep { limit: MAX_COMMENT_NESTING });
            }
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Ok(at);
            }
        } else {
            at += 1;
        }
    }
    Ok(rest.len())
}

/// The length of a dollar-quoted string that starts `rest`, or 1 where `$` starts none.
fn dollar_quoted(rest: &[u8]) -> usize {
    let tag = rest[1..].iter().take_while(|b| is_word(**b) && **b != b'$').count();
    if rest.get(tag + 1) != Some(&b'$') || rest.get(1).is_some_and(u8::is_ascii_digit) {
        return 1;
    }
    let (delimiter, body) = rest.split_at(tag + 2);
    // A first-byte search keeps this linear: a tag holds no `$` inside.
    let mut at = 0;
    while let Some(found) = body[at..].iter().position(|b| *b == b'$') {
        at += found;
        if body[at..].starts_with(delimiter) {
            return delimiter.len() + at + delimiter.len();
        }
        at += 1;
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_without_a_space_are_read_only_as_often_as_time_allows() {
        for row in ["/**/".repeat(50_000), "+/**/".repeat(15_000), "/*+*/*".repeat(19_000)] {
            assert_eq!(check(&row), Err(AnalysisError::RunTooLong), "{}", &row[..12]);
        }
        for row in [
            "/**/ ".repeat(50_000),
            "/**/".repeat(2_000),
            "/*a*/".repeat(50_000),
            format!("/*{}*/", "*".repeat(500_000)),
            format!("SELECT 1 --{}", "/**/".repeat(50_000)),
            format!("SELECT '{}'", "/**/".repeat(50_000)),
            format!("/* {} */", "=".repeat(900_000)),
        ] {
            assert_eq!(check(&row), Ok(()), "{}", &row[..12]);
        }
    }

    #[test]
    fn limits_are_reached_only_by_what_counts() {
        let nested = "/*".repeat(1_001) + &"*/".repeat(1_001);
        assert!(matches!(check(&nested), Err(AnalysisError::CommentsTooDeep { .. })));
        for quoted in [
            format!("SELECT '{nested}'"),
            format!("SELECT \"{nested}\""),
            format!("SELECT $a${nested}$a$"),
            format!("SELECT E'\\'{nested}'"),
            format!("SELECT 1 -- {nested}\n"),
            format!("SELECT 'it''s {nested}'"),
        ] {
            check(&quoted).unwrap();
        }
        assert!(matches!(
            check(&format!("SELECT $1, '' /*{nested}")),
            Err(AnalysisError::CommentsTooDeep { .. })
        ));
        assert!(matches!(check("SELECT '\0'"), Err(AnalysisError::NulByte)));
        assert!(matches!(check(&" ".repeat(MAX_BYTES + 1)), Err(AnalysisError::TooLong { .. })));
        let terms = vec!["a = 1"; 100_000].join(" AND ");
        assert!(matches!(check(&terms), Err(AnalysisError::TooManyOperators { .. })));
        let calls = vec!["f(1, 2)[3, 4]"; 50_000].join(" AND ");
        assert!(matches!(check(&calls), Err(AnalysisError::TooManyOperators { .. })));
        check(&format!("INSERT INTO t VALUES {}", vec!["(-1, 'a'::text)"; 40_000].join(", ")))
            .unwrap();
        let list = (0..100_000).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        check(&format!("SELECT 1 WHERE 1 IN ({list})")).unwrap();
    }
}
