//! Everything that the demo runs.
