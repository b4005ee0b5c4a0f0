//! The decision on a statement.

pub(super) mod settings;
