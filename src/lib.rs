//! pgate: least-privilege access to PostgreSQL for people, CI jobs and AI agents.
//!
//! One package: this library and a thin binary. Modules are layered, and a test
//! (`tests/it/layers.rs`) fails on an import that climbs:
//!
//! | layer | modules | may import |
//! |---|---|---|
//! | 0, pure | [`grant`], [`wire`], [`sql`] | – |
//! | 1, pure | [`policy`], [`mask`], [`journal`] | layer 0; `mask` also `policy` |
//! | 2, I/O | [`config`], [`identity`], [`api`] | `api`: grant, policy, journal |
//! | 3 | [`proxy`], [`server`] | layers 0–2, never each other |
//! | 4 | [`demo`] | layers 0–3 |
//! | 5 | [`cli`] | everything |
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
