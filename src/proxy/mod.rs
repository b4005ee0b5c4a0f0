//! The local proxy.
