//! SQL laid out for people: approval pages and replay.
//!
//! Display only. The second reader (`sqlparser`) misreads some statements, so
//! what it prints is shown only where PostgreSQL's parser reads the same tree in
//! it as in the original.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sqlparser::{dialect::PostgreSqlDialect, parser::Parser};

use super::{on_large_stack, parse, prescan, splice::tree};

/// The longest text that is laid out, in bytes.
const MAX_BYTES: usize = 32 << 10;
/// The most operators: the second reader recurses once for each.
const MAX_OPERATORS: usize = 1_000;

/// The text with line breaks and indentation, or `None` where it is too long, too
/// deep or not certain to mean the same; then show the text as it is. The original
/// text should always be at hand beside it: comments are lost here.
pub fn pretty(text: &str) -> Option<String> {
    if text.len() > MAX_BYTES || prescan::operators(text).ok()? > MAX_OPERATORS {
        return None;
    }
    on_large_stack(|| {
        let laid_out = catch_unwind(AssertUnwindSafe(|| {
            let statements = Parser::parse_sql(&PostgreSqlDialect {}, text).ok()?;
            let statements = statements.iter().map(|s| format!("{s:#}")).collect::<Vec<_>>();
            Some(statements.join(";\n"))
        }))
        .ok()??;
        let original = tree::without_places(&parse::tree(text).ok()?).ok()?;
        let reread = tree::without_places(&parse::tree(&laid_out).ok()?).ok()?;
        (original == reread).then_some(laid_out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_laid_out() {
        let laid_out = pretty("select a, b from t where a = 1 and b in (select 1)").unwrap();
        assert!(laid_out.lines().count() > 3, "{laid_out}");
    }

    #[test]
    fn what_the_second_reader_misreads_is_not_shown() {
        for text in [
            "SELECT 1 <>/*'*/ 2, ssn FROM secret --'",
            "SELECT 1 <>/*$$*/ 2, ssn FROM secret --$$",
            "SELECT U&\"s\\0073n\" FROM ok",
            "SELEC",
        ] {
            if let Some(shown) = pretty(text) {
                assert!(shown.contains("secret") || shown.contains("0073"), "{shown}");
            }
        }
    }

    #[test]
    fn long_chains_are_left_alone() {
        assert_eq!(pretty(&format!("SELECT 1{}", "+1".repeat(30_000))), None);
        assert_eq!(pretty(&format!("SELECT 1{}", "+1".repeat(12_000))), None);
        let brackets = format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000));
        assert_eq!(pretty(&brackets), None);
    }
}
