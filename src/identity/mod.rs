//! Identities: how a person or a workload comes by a token, and where it is kept.
//!
//! Owns the device flow (RFC 8628), the check of the ID token that it ends with,
//! silent renewal, tokens of CI systems, and the store: the operating system's
//! keyring, or a 0600 file. It refuses plain `http://` beyond loopback, an ID
//! token that isn't for this client, and a token file that others can read. No
//! token appears in an error or in `Debug`.

mod device;
mod error;
mod issuer;
mod login;
mod store;
mod web;
mod workload;

pub use device::Authorization;
pub use error::Error;
pub use issuer::Issuer;
pub use login::Login;
pub use store::{Place, Store};
pub(crate) use web::whole;
pub use workload::Workload;
