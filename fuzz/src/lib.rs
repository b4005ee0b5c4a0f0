//! The entry points of the fuzz targets: bytes in, a panic where a promise is
//! broken. They need no fuzzer, so that `cargo test` runs them too.
//!
//! The target `conversation` has its entry in the library itself
//! (`pgate::proxy::session::play`): it needs permits, which only admission can make.

pub mod detect;
pub mod journal;
pub mod lineage;
pub mod second_reader;
pub mod session;
pub mod splice;
pub mod sql;
pub mod wire;
