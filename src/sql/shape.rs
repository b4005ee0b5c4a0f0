//! The shape of a query string: what it is apart from its constants, so that a
//! reviewer can approve "this statement with other values".

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{parse, prescan};

/// The longest text that has a shape, in bytes.
const MAX_BYTES: usize = 64 << 10;
/// The most operators in one chain: the readers recurse once for each.
const MAX_OPERATORS: usize = 1_000;

/// A query string's shape. Two strings have the same one where both parts are the
/// same: the fingerprint alone is a hash that somebody could aim at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// pg_query's fingerprint, in hexadecimal.
    pub fingerprint: String,
    /// The text with a parameter in the place of each constant.
    pub text: String,
}

/// The shape of a query string, or `None` where it is too long or too deep, or can't
/// be told. Call it [on a large stack](super::on_large_stack).
pub fn shape(text: &str) -> Option<Shape> {
    if text.len() > MAX_BYTES || prescan::operators(text).ok()? > MAX_OPERATORS {
        return None;
    }
    let read = || {
        if parse::tree(text).ok()?.stmts.is_empty() {
            return None;
        }
        let whole_names = pg_query::FingerprintOptions::FULL_RELNAME;
        let fingerprint = pg_query::fingerprint(text, 0, whole_names).ok()?.hex;
        Some(Shape { fingerprint, text: pg_query::normalize(text).ok()? })
    };
    catch_unwind(AssertUnwindSafe(read)).ok()?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::on_large_stack;

    fn same(one: &str, other: &str) -> bool {
        on_large_stack(|| shape(one).expect("a shape") == shape(other).expect("a shape"))
    }

    #[test]
    fn constants_don_t_count_and_everything_else_does() {
        let sql = "DELETE FROM shop.orders WHERE id = 1 AND note = 'a'";
        assert!(same(sql, "DELETE FROM shop.orders WHERE id = 20 AND note = 'it''s'"));
        for other in [
            "DELETE FROM shop.orders WHERE id = 1 OR note = 'a'",
            "DELETE FROM shop.orders WHERE id >= 1 AND note = 'a'",
            "DELETE FROM shop.customers WHERE id = 1 AND note = 'a'",
            "DELETE FROM orders WHERE id = 1 AND note = 'a'",
            "DELETE FROM shop.orders",
            "DELETE FROM shop.orders WHERE id = 1 AND note = 'a'; DELETE FROM shop.orders",
            "DELETE FROM shop.orders WHERE id = 1 AND note = lower('a')",
            "DELETE FROM shop.orders WHERE id = 1 AND note = 'a' RETURNING *",
        ] {
            assert!(!same(sql, other), "{other}");
        }
    }

    #[test]
    fn what_is_too_long_too_deep_or_no_statement_has_no_shape() {
        for text in ["", "-- nothing", "SELEC", "SELECT '\0'"] {
            assert_eq!(on_large_stack(|| shape(text)), None, "{text:?}");
        }
        let chain = format!("SELECT 1{}", "+1".repeat(30_000));
        assert_eq!(on_large_stack(|| shape(&chain)), None);
        let long = format!("SELECT '{}'", "x".repeat(100_000));
        assert_eq!(on_large_stack(|| shape(&long)), None);
    }
}
