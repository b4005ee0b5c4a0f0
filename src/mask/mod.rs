//! Masks as SQL expressions, and the tripwire on results.
//!
//! Owns what is done to a result on its way to the client: [`Tripwire`] looks for
//! masked columns that should never have got there. The expressions that make
//! masked values are `policy`'s (compiling a role needs them) and only named here
//! again. [`Detection`] masks values in rows that nobody has classified. It refuses to
//! change anything else: a result that trips is stopped by whoever asked.

mod detection;
mod tripwire;

pub use crate::policy::{MaskError, Source, expression};
pub use detection::{Column, Detected, Detection};
pub use tripwire::{Tripped, Tripwire, TripwireError};
