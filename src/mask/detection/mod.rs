//! Value detection: personal data that nobody has classified, found by what it looks
//! like in the rows of a result, and masked in their bytes.
//!
//! Owns the decoding of the values that it looks into: texts, JSON, arrays and records
//! of them, in both formats, and the data of COPY. It refuses to look into anything
//! else: a number stays the number that it is. It is no defence against somebody who
//! means to hide a value (`replace(email, '@', '#')` looks like nothing): masks are.

mod find;
mod rows;

use std::collections::BTreeMap;

use crate::policy::Detector;

pub use rows::Column;

/// What a role's results are looked through for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detection {
    detectors: Vec<Detector>,
}

/// How many values of which kind were masked, by the result's column; the empty name
/// stands for the data of COPY.
pub type Detected = BTreeMap<(String, &'static str), u64>;

impl Detection {
    /// None where nothing is looked for: rows then need not be decoded.
    pub fn new(detectors: &[Detector]) -> Option<Self> {
        (!detectors.is_empty()).then(|| Self { detectors: detectors.to_vec() })
    }
}
