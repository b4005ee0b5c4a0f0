//! Errors and notices are outputs too: what of them a role with masks may see.
//!
//! DETAIL, HINT, WHERE and internal queries quote rows and statements, so they are
//! dropped. Messages are kept where PostgreSQL makes them of names alone; what code of
//! the database's own says (a trigger, a function) never is: it may have read anything,
//! and chooses its words, its SQLSTATE and its names itself.

use crate::wire::{ErrorFields, field};

/// SQLSTATE classes whose messages speak of names, limits and states, not of values:
/// transactions, authorisation, syntax, prepared statements, cursors, resources,
/// operator intervention. Every other class (22, 23, P0, a function's own) may quote
/// a value.
const PLAIN_CLASSES: [&str; 17] = [
    "08", "0A", "0B", "25", "26", "28", "2B", "2D", "34", "3B", "3D", "3F", "40", "42", "53", "55",
    "57",
];

/// Those of them whose messages, and the names beside them, hang on which row it was.
const CLASSES_OF_ROWS: [&str; 2] = ["40", "55"];

/// What a statement gives away by its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// The role masks nothing.
    Unmasked,
    /// The role has masks; this statement touches none of their relations.
    Aside,
    /// It touches a relation with masked columns, or may.
    Touching,
    /// The same, where names of partitions tell masked values: that of a failed constraint's
    /// table, or of the one with a locked row.
    Placing,
}

fn strip(fields: &mut ErrorFields) {
    for kind in
        [field::DETAIL, field::HINT, field::WHERE, field::INTERNAL_QUERY, field::INTERNAL_POSITION]
    {
        fields.remove(kind);
    }
}

/// Whether a function or trigger of the database's own said it. PostgreSQL then says
/// where; COPY alone does so for what the client itself has sent.
fn told_by_code(fields: &ErrorFields) -> bool {
    let stack = fields.get(field::WHERE).unwrap_or_default();
    stack.lines().any(|line| !line.starts_with("COPY "))
        || fields.get(field::INTERNAL_QUERY).is_some()
}

/// Takes off what may quote rows; says whether the message must go as well.
fn withheld(fields: &mut ErrorFields, sight: Sight) -> bool {
    let told_by_code = told_by_code(fields);
    strip(fields);
    let quotes = match sight {
        Sight::Unmasked | Sight::Aside => false,
        Sight::Touching => !is_plain(fields.sqlstate()),
        Sight::Placing => {
            !is_plain(fields.sqlstate()) || is_of(fields.sqlstate(), &CLASSES_OF_ROWS)
        }
    };
    if told_by_code || quotes && sight == Sight::Placing {
        for kind in field::OBJECTS {
            fields.remove(kind);
        }
    }
    told_by_code || quotes
}

fn is_plain(sqlstate: &str) -> bool {
    is_of(sqlstate, &PLAIN_CLASSES)
}

fn is_of(sqlstate: &str, classes: &[&str]) -> bool {
    sqlstate.get(..2).is_some_and(|class| classes.contains(&class))
}

/// Cleans an error.
pub(super) fn clean_error(fields: &mut ErrorFields, sight: Sight) {
    if sight == Sight::Unmasked {
        return;
    }
    if withheld(fields, sight) {
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
    if withheld(fields, sight) {
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
            if sight != Sight::Unmasked {
                fields.set(field::WHERE, "COPY t, line 1: 123-45-6789");
                fields.remove(field::INTERNAL_QUERY);
            }
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

    #[test]
    fn no_name_of_a_partition_is_told_where_it_tells_a_value() {
        for (sqlstate, kept) in
            [("23514", false), ("55P03", false), ("40001", false), ("42703", true)]
        {
            let mut fields =
                error(sqlstate).with(b't', "illnesses_123-45").with(b'n', "123-45_check");
            fields.remove(field::WHERE);
            fields.remove(field::INTERNAL_QUERY);
            clean_error(&mut fields, Sight::Placing);
            let mut out = bytes::BytesMut::new();
            fields.error_response(&mut out);
            assert_eq!(String::from_utf8_lossy(&out).contains("123-45"), kept, "{sqlstate}");
        }
    }

    #[test]
    fn what_code_of_the_database_says_is_withheld_whatever_it_calls_itself() {
        for sqlstate in ["42703", "55000", "P0001", "00000"] {
            for sight in [Sight::Aside, Sight::Touching] {
                let place = "PL/pgSQL function f() line 1 at RAISE\nCOPY t, line 1: 1";
                let said = ErrorFields::new("ERROR", sqlstate, "123-45-6789")
                    .with(field::WHERE, place)
                    .with(b'c', "123-45-6789")
                    .with(b'n', "123-45-6789");
                for clean in [clean_error, clean_notice] {
                    let mut fields = said.clone();
                    clean(&mut fields, sight);
                    let mut out = bytes::BytesMut::new();
                    fields.error_response(&mut out);
                    assert!(!String::from_utf8_lossy(&out).contains("123-45"), "{sqlstate}");
                }
            }
        }
    }
}
