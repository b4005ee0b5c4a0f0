//! The entry points of the fuzz targets: bytes in, a panic where a promise is
//! broken. They need no fuzzer, so that `cargo test` runs them too.

pub mod journal;
pub mod session;
pub mod sql;
pub mod wire;
