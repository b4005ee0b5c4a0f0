//! What `pgate demo` and the tests run on: a throwaway PostgreSQL cluster, a
//! development OIDC issuer, and a sample shop with its policy. Everything is
//! real, lives on this machine only, and leaves no trace; none of it is meant
//! for, or reachable from, anywhere else.

pub mod cluster;
pub mod issuer;
pub mod shop;
