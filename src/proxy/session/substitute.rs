//! What stands in for a refused message, and the error that the client gets.

use bytes::BytesMut;

use crate::{
    proxy::admission::Refusal,
    wire::{self, ErrorFields, field},
};

/// A text that is a syntax error in every PostgreSQL, in every transaction state:
/// the raw parser sees it before anything else does.
pub(super) const REJECTED: &str = "pgate refused this statement";

/// A FunctionCall of OID 0, which no function has, without arguments.
pub(super) const NO_FUNCTION: &[u8] = b"F\0\0\0\x0e\0\0\0\0\0\0\0\0\0\0";

/// Stands in for a FunctionCall. A Query wouldn't do: it drops the unnamed statement.
pub(super) fn function(out: &mut BytesMut) {
    out.extend_from_slice(NO_FUNCTION);
}

/// Stands in for a Query.
pub(super) fn query(out: &mut BytesMut) {
    wire::query(REJECTED, out);
}

/// Stands in for a Parse: the same name, so that the unnamed statement is dropped as
/// it would be.
pub(super) fn parse(name: &str, out: &mut BytesMut) {
    wire::parse(name, REJECTED, &[0, 0], out);
}

/// Stands in for a Bind: no statement has that random name.
pub(super) fn bind(name: &str, out: &mut BytesMut) {
    wire::bind("", name, out);
}

/// Stands in for an Execute: no portal has that random name.
pub(super) fn execute(name: &str, out: &mut BytesMut) {
    wire::execute(name, 0, out);
}

/// The error that the client gets.
pub(super) fn error(refusal: &Refusal) -> ErrorFields {
    let error = ErrorFields::new("ERROR", refusal.sqlstate, &refusal.message)
        .with(field::DETAIL, &refusal.detail)
        .with(field::HINT, &refusal.hint);
    match refusal.position {
        Some(position) => error.with(field::POSITION, &position.to_string()),
        None => error,
    }
}

/// A refusal of the machine's own.
pub(super) fn own(sqlstate: &'static str, message: String, hint: &str) -> Refusal {
    let (detail, hint) = (String::new(), hint.to_owned());
    Refusal { statement: 0, sqlstate, message, detail, hint, position: None }
}
