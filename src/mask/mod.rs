//! Masks as SQL expressions, and the tripwire on results.
