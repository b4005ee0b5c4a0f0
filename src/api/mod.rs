//! The control plane's HTTP API: its request and response types, and its client.
//!
//! Both sides use these types, so they can't drift apart. Every request but the
//! public ones carries `Authorization: Bearer` with an OIDC ID token (people) or
//! a workload token (CI); the log of a session may also be uploaded with that
//! session's own upload token. Errors are [`Problem`]s.

mod client;
mod error;
mod holds;
mod model;
mod words;

pub use client::{Auth, Client, TokenSource};
pub use error::{Error, TokenError, clock_difference};
pub use holds::*;
pub use model::*;
pub use words::{
    bound_value, clipped, distance, escaped, escaped_lines, lasting, outcome, sent_as,
};
