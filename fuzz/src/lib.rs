//! The entry points of the fuzz targets: bytes in, a panic where a promise is
//! broken. They need no fuzzer, so that `cargo test` runs them too.

pub mod journal;
pub mod second_reader;
pub mod session;
pub mod splice;
pub mod sql;
pub mod wire;
