//! The session log: records, their hash chain, signatures, and the verifier.
//!
//! Owns the line format (DESIGN section 7). It refuses to do I/O: lines go in and
//! out as bytes, times and keys come in as parameters. The spool that keeps the
//! lines on disk is the proxy's, the archive the control plane's.
//!
//! A line is JSON in exactly one spelling: what [`encode`] makes and nothing else
//! is read. So the hash, which covers the raw bytes, covers what a person is shown.

mod chain;
mod line;
mod links;
mod logged_verdict;
mod moment;
mod receive;
mod record;
mod report;
#[cfg(test)]
pub(crate) mod sample;
mod signature;
mod usual;
mod verify;

pub use chain::{Chain, FORMAT_VERSION, Line};
pub use line::{LONGEST_LINE, LineError, LineHash, Lines, RawLine, decode, encode};
pub use logged_verdict::LoggedVerdict;
pub use receive::{Accepted, LONGEST_SEGMENT, ReceiveError, Receiver, StartError};
pub use record::{
    Completion, ConnectionEnd, ConnectionStart, CutRows, CutValue, End, EndReason, Entry,
    HoldEvent, HoldRecord, Parameter, PlannedRecord, Protocol, Receipt, Record, ResultColumn,
    ResultSet, ResultsRecord, Start, StatementRecord, Value, ValueFormat,
};
pub use report::{Closed, Notice, Place, Problem, Received, Report, Wrong};
pub use verify::verify;
