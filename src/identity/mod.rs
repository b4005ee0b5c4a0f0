//! Identities: device flow, CI tokens, token verification and storage.
