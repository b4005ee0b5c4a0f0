//! What the session log keeps of a statement's text.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::policy::Verdict;

/// The longest text that the log keeps of a refused statement, in bytes. What is allowed
/// is kept whole: the reader refuses what no line has room for.
const LONGEST_REFUSED: usize = 1 << 20;
/// What is kept of a longer one, in bytes.
const KEPT_OF_REFUSED: usize = 8 * 1024;

/// A statement's text for the log: one that is refused for its length is cut.
pub(super) fn text(sql: &Arc<str>, verdict: &Verdict) -> Arc<str> {
    if !matches!(verdict, Verdict::Deny(_)) || sql.len() <= LONGEST_REFUSED {
        return Arc::clone(sql);
    }
    let kept = sql.floor_char_boundary(KEPT_OF_REFUSED);
    let (kept, _) = sql.split_at(kept);
    let digest = Sha256::digest(sql.as_bytes());
    let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{kept} … ({} bytes, SHA-256 {digest})", sql.len()).into()
}
