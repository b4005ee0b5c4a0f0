//! PostgreSQL's own parser, bounded: the text becomes a tree and tokens, or a
//! clear error.
//!
//! Owns what can go wrong while reading SQL. It refuses to look into the tree.

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
};

use pg_query::protobuf::{ParseResult, ScanToken, Token};

use super::{Encoding, position, prescan};

/// The bytes that PostgreSQL keeps of a name.
const KEPT_OF_A_NAME: usize = 63;

/// Why a query string can't be analysed. It is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnalysisError {
    /// Too many bytes.
    #[error(
        "the query string is {bytes} bytes long and at most {limit} can be analysed; \
         send it in smaller statements, or load data with COPY … FROM STDIN"
    )]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The most.
        limit: usize,
    },
    /// Too many words and signs.
    #[error(
        "the query string has more than {limit} words and signs; \
         send it in smaller statements, or load data with COPY … FROM STDIN"
    )]
    TooManyTokens {
        /// The most.
        limit: usize,
    },
    /// A NUL byte, which PostgreSQL refuses as well.
    #[error("the query string contains a NUL byte")]
    NulByte,
    /// Comments nested too deep.
    #[error("comments are nested more than {limit} deep; remove the inner ones")]
    CommentsTooDeep {
        /// The most.
        limit: usize,
    },
    /// More operators than the parser reads in bounded time.
    #[error(
        "an expression has more than {limit} operators; use IN or = ANY with a list, \
         or send it in smaller statements"
    )]
    TooManyOperators {
        /// The most.
        limit: usize,
    },
    /// Signs that the parser's scanner reads again and again.
    #[error(
        "comments or operators stand in a row without a space between them, too many to be \
         read in bounded time; put spaces or line breaks between them"
    )]
    RunTooLong,
    /// Nested deeper than the parser's stack.
    #[error("the statement is nested too deep to be analysed; simplify it")]
    TooDeep,
    /// PostgreSQL's grammar doesn't have it.
    #[error("the statement could not be parsed: {message}")]
    Syntax {
        /// PostgreSQL's message.
        message: String,
        /// The character that it is about, from 1, where it can be told.
        position: Option<usize>,
    },
    /// The reader failed in a way that it should not.
    #[error("the statement could not be analysed: {0}")]
    Internal(String),
}

/// Parses a query string that has passed the pre-scan.
pub(super) fn tree(text: &str) -> Result<ParseResult, AnalysisError> {
    prescan::check(text)?;
    bound_tokens(text)?;
    // pg_query walks the tree once more to gather tables and functions, which pgate
    // has no use for; should that walk panic, the statement is refused.
    match catch_unwind(AssertUnwindSafe(|| pg_query::parse(text, 0))) {
        Ok(Ok(parsed)) => Ok(parsed.protobuf),
        Ok(Err(pg_query::Error::Parse(message))) if is_too_deep(&message) => {
            Err(AnalysisError::TooDeep)
        }
        Ok(Err(pg_query::Error::Parse(message))) => {
            let position = position::of(text, &message);
            Err(AnalysisError::Syntax { message, position })
        }
        Ok(Err(error)) => Err(AnalysisError::Internal(error.to_string())),
        Err(_) => Err(AnalysisError::Internal("the parser's own walk failed".into())),
    }
}

/// Refuses a text of too many tokens, by PostgreSQL's own scanner: its own view of the text
/// is what its memory hangs on. Shorter texts can't have as many.
fn bound_tokens(text: &str) -> Result<(), AnalysisError> {
    let limit = prescan::MAX_TOKENS;
    if text.len() <= limit {
        return Ok(());
    }
    // What can't be scanned can't be parsed either, and the parser says why. The scanner
    // aborts the process on a text without any token, so it gets one more.
    match pg_query::scan_tokens(&format!("{text}\n;")) {
        Ok(tokens) if tokens.len() > limit => Err(AnalysisError::TooManyTokens { limit }),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// What the parser says of a tree that it can't build, or not hand out.
fn is_too_deep(message: &str) -> bool {
    let told =
        ["stack depth limit", "parse tree is nested too deeply", "memory exhausted at or near "];
    told.iter().any(|words| message.starts_with(words))
}

/// The tokens of a query string, comments left out.
#[derive(Debug)]
pub(super) struct Tokens(Vec<ScanToken>);

impl Tokens {
    /// Scans a query string that has parsed to at least one statement. (The scanner
    /// aborts the process on a text without any token.)
    pub(super) fn of(text: &str) -> Result<Self, AnalysisError> {
        let mut tokens = pg_query::scan_tokens(text)
            .map_err(|error| AnalysisError::Internal(error.to_string()))?;
        tokens.retain(|token| {
            !matches!(token.token(), Token::SqlComment | Token::CComment | Token::Nul)
        });
        Ok(Self(tokens))
    }

    /// Whether a name in this text may be another one to a server of this encoding than it
    /// is here: folded, cut, or made the same as a different one.
    pub(super) fn names_another(&self, text: &str, encoding: Encoding) -> bool {
        encoding != Encoding::Utf8
            && self.0.iter().any(|token| {
                match (token.token(), text.get(start(token)..end(token))) {
                    (Token::Ident, Some(name)) => is_another(name, encoding),
                    (Token::Ident, None) => true,
                    // What its escapes mean isn't read here.
                    (Token::Uident, _) => true,
                    _ => false,
                }
            })
    }

    /// The index of the token that starts at this byte.
    pub(super) fn at(&self, byte: usize) -> Option<usize> {
        self.0.binary_search_by_key(&byte, start).ok()
    }

    /// What the token of this index is.
    pub(super) fn kind(&self, index: usize) -> Option<Token> {
        self.0.get(index).map(ScanToken::token)
    }

    /// The bytes of the token of this index.
    pub(super) fn range(&self, index: usize) -> Option<Range<usize>> {
        self.0.get(index).map(|token| start(token)..end(token))
    }

    /// `range` without white space and comments at its ends; an empty range at
    /// its start where nothing else is in it.
    pub(super) fn trim(&self, range: Range<usize>) -> Range<usize> {
        let first = self.0.partition_point(|token| start(token) < range.start);
        let last = self.0.partition_point(|token| end(token) <= range.end);
        match (self.0.get(first), last.checked_sub(1).and_then(|last| self.0.get(last))) {
            (Some(first), Some(last)) if start(first) < end(last) => start(first)..end(last),
            _ => range.start..range.start,
        }
    }

    /// The index after a name that starts at `index`: an identifier or keyword,
    /// with its UESCAPE, and the parts after its dots.
    pub(super) fn after_name(&self, index: usize) -> usize {
        let mut next = self.after_identifier(index);
        while self.kind(next) == Some(Token::Ascii46) {
            next = self.after_identifier(next + 1);
        }
        next
    }

    /// The index after an identifier or keyword that stands at `index`, with its UESCAPE.
    pub(super) fn after_identifier(&self, index: usize) -> usize {
        let escaped =
            self.kind(index) == Some(Token::Uident) && self.kind(index + 1) == Some(Token::Uescape);
        if escaped { index + 3 } else { index + 1 }
    }

    /// The bytes of `[ONLY] name [*]` or `ONLY (name)` around a name that starts at this byte.
    pub(super) fn relation(&self, byte: usize) -> Option<Range<usize>> {
        let name = self.at(byte)?;
        let mut first = name;
        let mut last = self.after_name(name).checked_sub(1)?;
        let before = |steps: usize| name.checked_sub(steps).and_then(|index| self.kind(index));
        if before(1) == Some(Token::Only) {
            first = name - 1;
        } else if before(1) == Some(Token::Ascii40) && before(2) == Some(Token::Only) {
            first = name - 2;
            last += 1;
            if self.kind(last) != Some(Token::Ascii41) {
                return None;
            }
        } else if self.kind(last + 1) == Some(Token::Ascii42) {
            last += 1;
        }
        Some(self.range(first)?.start..self.range(last)?.end)
    }
}

/// Whether a name as it is written may be another one to such a server.
fn is_another(name: &str, encoding: Encoding) -> bool {
    if name.is_ascii() {
        return false;
    }
    let folds = |c: char| !c.is_ascii() && !c.to_lowercase().eq([c]);
    match encoding {
        Encoding::Utf8 => false,
        Encoding::SingleByte => {
            name.len() > KEPT_OF_A_NAME || !name.starts_with('"') && name.chars().any(folds)
        }
        Encoding::Other => true,
    }
}

fn start(token: &ScanToken) -> usize {
    usize::try_from(token.start).unwrap_or_default()
}

fn end(token: &ScanToken) -> usize {
    usize::try_from(token.end).unwrap_or_default()
}
