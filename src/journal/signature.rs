//! The two signatures of a log: checkpoints by the session's key, receipts by
//! the control plane's.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;

use super::{Entry, LineHash, Receipt, Record, line::whole_microseconds};
use crate::grant::{SessionId, SignatureError, SigningKey, VerifyingKey};

/// The checkpoint record for the line `seq` at `at` that follows the line hashed as `prev`.
pub(super) fn checkpoint(
    session: &SessionId,
    seq: u64,
    at: Timestamp,
    prev: &LineHash,
    key: &SigningKey,
) -> Record {
    let text = checkpoint_text(session, seq, at, prev);
    Record::Checkpoint { signature: URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes())) }
}

/// Checks a checkpoint's signature against what its own line says.
pub(super) fn verify_checkpoint(
    session: &SessionId,
    entry: &Entry,
    signature: &str,
    key: &VerifyingKey,
) -> Result<(), SignatureError> {
    let text = checkpoint_text(session, entry.seq, entry.at, &entry.prev);
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| SignatureError::Forged)?;
    key.verify(text.as_bytes(), &signature)
}

fn checkpoint_text(session: &SessionId, seq: u64, at: Timestamp, prev: &LineHash) -> String {
    format!("pgate-log-v1\n{session}\n{seq}\n{at}\n{prev}")
}

impl Receipt {
    /// Countersigns, as the control plane, that the line `seq` hashed as `head` and
    /// everything before it has been received at `at` (kept in microseconds).
    pub fn sign(
        session: &SessionId,
        seq: u64,
        head: LineHash,
        at: Timestamp,
        key: &SigningKey,
    ) -> Self {
        let mut receipt = Self {
            received_seq: seq,
            received_head: head.to_string(),
            received_at: whole_microseconds(at),
            key: key.verifying_key().id(),
            signature: String::new(),
        };
        let signature = key.sign(receipt.text(session).as_bytes());
        receipt.signature = URL_SAFE_NO_PAD.encode(signature);
        receipt
    }

    /// Checks the countersignature against the control plane's keys. Whether the
    /// log's own line has that hash is the caller's question.
    pub fn verify(&self, session: &SessionId, keys: &[VerifyingKey]) -> Result<(), SignatureError> {
        let key = keys
            .iter()
            .find(|key| key.id() == self.key)
            .ok_or_else(|| SignatureError::UnknownKey(self.key.chars().take(64).collect()))?;
        let signature =
            URL_SAFE_NO_PAD.decode(&self.signature).map_err(|_| SignatureError::Forged)?;
        key.verify(self.text(session).as_bytes(), &signature)
    }

    fn text(&self, session: &SessionId) -> String {
        let Self { received_seq, received_head, received_at, .. } = self;
        format!("pgate-receipt-v1\n{session}\n{received_seq}\n{received_head}\n{received_at}")
    }
}
