//! Layered settings, each knowing its source.
