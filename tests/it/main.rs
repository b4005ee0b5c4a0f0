//! pgate's integration tests: one binary, one module for each thing that a
//! person would try.

mod layers;
