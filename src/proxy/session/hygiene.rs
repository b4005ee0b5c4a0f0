//! Errors and notices are outputs too: what of them a role with masks may see.
//!
//! DETAIL, HINT, WHERE and internal queries quote rows and statements, so they are
//! dropped. Messages are kept where PostgreSQL makes them of names alone.

use crate::wire::{ErrorFields, field};

/// SQLSTATE classes whose messages speak of names, limits and states, not of values:
/// transactions, authorisation, syntax, prepared statements, cursors, resources,
/// operator intervention. Every other class (22, 23, P0, a function's own) may quote
/// a value.
const PLAIN_CLASSES: [&str; 17] = [
    "08", "0A", "0B", "25", "26", "28", "2B", "2D", "34", "3B", "3D", "3F", "40", "42", "53", "55",
    "57",
];

/// What a statement gives away by its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// The role masks nothing.
    Unmasked,
    /// The role has masks; this statement touches none of their relations.
    Aside,
    /// It touches a relation with masked columns, or may.
    Touching,
}

fn strip(fields: &mut ErrorFields) {
    for kind in
        [field::DETAIL, field::HINT, field::WHERE, field::INTERNAL_QUERY, field::INTERNAL_POSITION]
    {
        fields.remove(kind);
    }
}

fn is_plain(sqlstate: &str) -> bool {
    sqlstate.get(..2).is_some_and(|class| PLAIN_CLASSES.contains(&class))
}

/// Cleans an error.
pub(super) fn clean_error(fields: &mut ErrorFields, sight: Sight) {
    if sight == Sight::Unmasked {
        return;
    }
    strip(fields);
    if sight == Sight::Touching && !is_plain(fields.sqlstate()) {
        let message = format!("the statement failed with SQLSTATE {}", fields.sqlstate());
        fields.set(field::MESSAGE, &message);
        fields.set(field::HINT, "pgate withholds the message: it may quote masked values.");
    }
}

/// Cleans a notice.
pub(super) fn clean_notice(fields: &mut ErrorFields, sight: Sight) {
    if sight == Sight::Unmasked {
        return;
    }
    strip(fields);
    if sight == Sight::Touching && !is_plain(fields.sqlstate()) {
        fields.set(field::MESSAGE, "pgate withholds a notice: it may quote masked values");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(sqlstate: &str) -> ErrorFields {
        ErrorFields::new("ERROR", sqlstate, "value 123-45-6789")
            .with(field::DETAIL, "Failing row contains (123-45-6789).")
            .with(field::HINT, "123-45-6789")
            .with(field::WHERE, "COPY t, line 1: 123-45-6789")
            .with(field::INTERNAL_QUERY, "SELECT '123-45-6789'")
            .with(field::POSITION, "8")
    }

    #[test]
    fn a_message_is_kept_only_where_it_is_made_of_names() {
        let cases = [
            ("42703", Sight::Touching, true),
            ("25P02", Sight::Touching, true),
            ("57014", Sight::Touching, true),
            ("22P02", Sight::Touching, false),
            ("23514", Sight::Touching, false),
            ("P0001", Sight::Touching, false),
            ("ZZ001", Sight::Touching, false),
            ("XX000", Sight::Touching, false),
            ("22P02", Sight::Aside, true),
            ("22P02", Sight::Unmasked, true),
        ];
        for (sqlstate, sight, kept) in cases {
            let mut fields = error(sqlstate);
            clean_error(&mut fields, sight);
            assert_eq!(fields.message().contains("123-45"), kept, "{sqlstate} {sight:?}");
            assert_eq!(fields.sqlstate(), sqlstate);
            assert_eq!(fields.get(field::POSITION), Some("8"));
            let elsewhere = [field::DETAIL, field::HINT, field::WHERE, field::INTERNAL_QUERY]
                .iter()
                .any(|kind| fields.get(*kind).is_some_and(|value| value.contains("123-45")));
            assert_eq!(elsewhere, sight == Sight::Unmasked, "{sqlstate} {sight:?}");
        }
    }
}
