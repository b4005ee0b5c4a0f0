//! pgate: least-privilege access to PostgreSQL for people, CI jobs and AI agents.
//!
//! One package: this library and a thin binary. A module imports only what its
//! row names, and a row names only rows above it; `tests/it/layers.rs` reads this
//! very table and fails on an import that climbs:
//!
//! | layer | module | may import |
//! |---|---|---|
//! | 0, pure | [`grant`] | – |
//! | 0, pure | [`wire`] | – |
//! | 0, pure | [`sql`] | – |
//! | 1, pure | [`policy`] | `grant`, `sql` |
//! | 1, pure | [`mask`] | `wire`, `sql`, `policy` |
//! | 1, pure | [`journal`] | `grant`, `sql`, `policy` |
//! | 2, I/O | [`config`] | – |
//! | 2, I/O | [`identity`] | `grant` |
//! | 2, I/O | [`api`] | `grant`, `policy`, `journal` |
//! | 3, the proxy's side | [`proxy`] | layers 0–2 |
//! | 3, the server's side | [`server`] | layers 0–2 |
//! | 4 | [`demo`] | layers 0–3 |
//! | 5 | [`cli`] | layers 0–4 |
//!
//! The pure layers know no sockets, files, clocks or randomness: those come in as
//! parameters, so every rule in them can be tested with a table of inputs.

pub mod api;
pub mod cli;
pub mod config;
pub mod demo;
pub mod grant;
pub mod identity;
pub mod journal;
pub mod mask;
pub mod policy;
pub mod proxy;
pub mod server;
pub mod sql;
pub mod wire;
