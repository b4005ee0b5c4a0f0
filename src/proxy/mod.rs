//! The proxy: listener, handshakes, the session state machine, upstream
//! connections, and the admission that every statement passes.
//!
//! Owns everything between a client's socket and PostgreSQL's. It refuses to
//! forward a byte of a statement that admission has not permitted, and to know
//! where it runs: a laptop and a gateway are the same to it.

mod admission;
mod allowance;
mod analyst;
mod cancel;
mod connection;
mod drift;
mod engine;
mod estimate;
mod handshake;
mod intake;
mod listener;
mod own_connection;
mod remembered;
mod review;
mod ruling;
pub mod session;
mod shuttle;
pub mod spool;
mod stream;
mod tls;
pub mod uploader;
mod upstream;

pub use admission::{
    Admission, Admitted, ConnectionPermit, ConnectionRequest, Forget, Permit, Refusal, Review,
    Rewritten, StatementRequest, Unrecorded,
};
pub use allowance::{Allowance, Cap, OnRows};
pub use drift::{Drift, DriftError};
pub use engine::{Ended, Ender, Endpoints, Engine, EngineConfig, Running};
pub use estimate::Bound;
pub use listener::ListenError;
pub use own_connection::OwnConnection;
pub use review::{HoldNews, ReviewDesk};
pub use ruling::{Decided, Ruling};
pub use upstream::{Upstream, UpstreamConfig, UpstreamError, query_text};

/// 24 random bytes as text that is safe in URLs, SCRAM and SQL names: nonces, one-time
/// passwords, names that nobody can guess.
fn random_text() -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use rand::Rng as _;
    let mut bytes = [0; 24];
    rand::rng().fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}
