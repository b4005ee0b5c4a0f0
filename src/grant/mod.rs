//! Grants: the signed, time-bound permission to use one role on one target.
//!
//! Owns the identifiers, who somebody is ([`Identity`]), the life of a grant
//! ([`Grant`], [`State`]) and of a held statement ([`Hold`], [`HoldState`]), and the signed form that a session carries
//! ([`SessionGrant`]). It refuses to know where grants are stored, what time it
//! is, or how a reviewer was found: callers pass those in.

mod hold;
mod id;
mod identity;
mod signed;
mod state;

pub use hold::{Hold, HoldError, HoldState, Scope};
pub use id::{GrantId, HoldId, IdError, SessionId};
pub use identity::Identity;
pub use signed::{
    Confirmation, Jwk, SessionGrant, SignatureError, SignedGrant, SigningKey, VerifyingKey,
};
pub use state::{Decision, Grant, State, TransitionError};
