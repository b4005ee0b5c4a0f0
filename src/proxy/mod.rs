//! The proxy: listener, handshakes, the session state machine, upstream
//! connections, and the admission that every statement passes.
//!
//! Owns everything between a client's socket and PostgreSQL's. It refuses to
//! forward a byte of a statement that admission has not permitted, and to know
//! where it runs: a laptop and a gateway are the same to it.

mod admission;
pub mod spool;
pub mod uploader;

pub use admission::{
    Admission, Admitted, ConnectionPermit, ConnectionRequest, Forget, Permit, Refusal, Rewritten,
    StatementRequest, Unrecorded,
};
