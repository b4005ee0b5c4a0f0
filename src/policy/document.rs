//! A role as the document that travels: canonical, so that its hash binds it.

use sha2::{Digest, Sha256};

use super::Role;

/// A role's document that can't be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the role's policy document could not be read: {0}; the control plane may be newer than this pgate"
)]
pub struct DocumentError(#[from] serde_json::Error);

impl Role {
    /// The role as JSON: the same bytes for the same role, always.
    pub fn to_document(&self) -> String {
        serde_json::to_string(self).expect("a role has only text keys and finite numbers")
    }

    /// Reads [`Role::to_document`]'s text.
    ///
    /// # Errors
    /// Where it isn't such a document, or says something that this version doesn't know.
    pub fn from_document(document: &str) -> Result<Self, DocumentError> {
        Ok(serde_json::from_str(document)?)
    }

    /// What a signed grant binds: the SHA-256 of the document's bytes, in hexadecimal.
    pub fn version(document: &str) -> String {
        hex(&Sha256::digest(document.as_bytes()))
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}
