//! The session log: records, their hash chain, signatures, and the verifier.
//!
//! Owns the line format (DESIGN section 7). It refuses to do I/O: lines go in and
//! out as bytes, times and keys come in as parameters. The spool that keeps the
//! lines on disk is the proxy's, the archive the control plane's.

mod record;

pub use record::{
    Completion, ConnectionEnd, ConnectionStart, End, EndReason, Entry, Parameter, Protocol,
    Receipt, Record, Start, StatementRecord,
};
