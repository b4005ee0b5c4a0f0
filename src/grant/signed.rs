//! The signed form of a grant that one session carries: a compact JWS (RFC 7515)
//! signed with Ed25519 (RFC 8037), bound to the session's key by `cnf` (RFC 7800).
//!
//! The algorithm is never taken from the token: a header that isn't exactly ours
//! is refused before a key is looked at.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::Signer as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use super::{GrantId, Identity, SessionId};

/// The largest signed grant that is read, in bytes.
const LONGEST: usize = 64 * 1024;
const GRANT_TYPE: &str = "pgate-grant+jwt";

/// What can be wrong with a signature or with what it covers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not a compact JWS of ours: three base64url parts, the right header.
    #[error("it is not a signed grant ({0})")]
    Malformed(&'static str),
    /// None of the server's keys has this id.
    #[error("it is signed with key {0}, which is not among the server's keys")]
    UnknownKey(String),
    /// The signature doesn't match the content.
    #[error("its signature doesn't match: it was altered, or signed by somebody else")]
    Forged,
    /// A key that is not a valid Ed25519 public key.
    #[error("the public key is not a valid Ed25519 key")]
    BadKey,
}

/// An Ed25519 public key as a JSON Web Key (RFC 8037 section 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// Always `OKP`.
    pub kty: String,
    /// Always `Ed25519`.
    pub crv: String,
    /// The 32 bytes of the key, base64url without padding.
    pub x: String,
    /// The key's id: its RFC 7638 thumbprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
}

/// A public key that checks signatures.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// Reads a key from its JWK form.
    pub fn from_jwk(jwk: &Jwk) -> Result<Self, SignatureError> {
        if jwk.kty != "OKP" || jwk.crv != "Ed25519" {
            return Err(SignatureError::BadKey);
        }
        let bytes = URL_SAFE_NO_PAD.decode(&jwk.x).map_err(|_| SignatureError::BadKey)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| SignatureError::BadKey)?;
        let key =
            ed25519_dalek::VerifyingKey::from_bytes(&bytes).map_err(|_| SignatureError::BadKey)?;
        Ok(Self(key))
    }

    /// The key as a JWK, with its thumbprint as `kid`.
    pub fn to_jwk(&self) -> Jwk {
        Jwk {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            x: URL_SAFE_NO_PAD.encode(self.0.as_bytes()),
            kid: Some(self.id()),
        }
    }

    /// The key's id: its JWK thumbprint (RFC 7638), base64url.
    pub fn id(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.0.as_bytes());
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        URL_SAFE_NO_PAD.encode(Sha256::digest(canonical.as_bytes()))
    }

    /// Checks `signature` (64 bytes) over `message`, refusing weak keys and
    /// malleable signatures.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let signature =
            ed25519_dalek::Signature::from_slice(signature).map_err(|_| SignatureError::Forged)?;
        self.0.verify_strict(message, &signature).map_err(|_| SignatureError::Forged)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.id())
    }
}

/// A private Ed25519 key; wiped from memory when dropped, never printed.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Makes a key of 32 secret random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key())
    }

    /// Signs `message`: 64 bytes.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// Signs `claims` as a compact JWS whose header's `typ` is `media`.
    pub fn sign_jws(
        &self,
        media: &str,
        claims: &impl Serialize,
    ) -> Result<String, serde_json::Error> {
        let header =
            Header { alg: "EdDSA".into(), kid: self.verifying_key().id(), typ: media.into() };
        let mut text = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header)?);
        text.push('.');
        text.push_str(&URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims)?));
        let signature = self.sign(text.as_bytes());
        text.push('.');
        text.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(text)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, secret)", self.verifying_key().id())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

/// Checks a compact JWS of type `media` against `keys` and returns its claims.
pub(crate) fn verify_jws<T: DeserializeOwned>(
    text: &str,
    media: &str,
    keys: &[VerifyingKey],
) -> Result<T, SignatureError> {
    use SignatureError::Malformed;
    if text.len() > LONGEST {
        return Err(Malformed("too long"));
    }
    let (signed, signature) = text.rsplit_once('.').ok_or(Malformed("no signature"))?;
    let (header, payload) = signed.split_once('.').ok_or(Malformed("no payload"))?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Malformed("not base64url"));
    let header: Header =
        serde_json::from_slice(&decode(header)?).map_err(|_| Malformed("unknown header"))?;
    if header.alg != "EdDSA" || header.typ != media {
        return Err(Malformed("another algorithm or type"));
    }
    let key = keys
        .iter()
        .find(|key| key.id() == header.kid)
        .ok_or_else(|| SignatureError::UnknownKey(header.kid.chars().take(64).collect()))?;
    key.verify(signed.as_bytes(), &decode(signature)?)?;
    serde_json::from_slice(&decode(payload)?).map_err(|_| Malformed("unknown claims"))
}

/// The session key that a grant is bound to (RFC 7800 section 3.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// The session's public key.
    pub jwk: Jwk,
}

/// What the control plane signs when a session opens: who may do what, where,
/// until when, and with which key the session signs its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionGrant {
    /// The control plane's public URL.
    pub iss: String,
    /// The grant.
    pub grant: GrantId,
    /// The session.
    pub session: SessionId,
    /// Who may use it.
    pub identity: Identity,
    /// The target's name.
    pub target: String,
    /// The role's name.
    pub role: String,
    /// SHA-256, in hex, of the role's policy document as the server sent it.
    pub policy: String,
    /// Why, in the requester's words.
    pub reason: String,
    /// Who approved; empty when the policy did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved_by: Vec<Identity>,
    /// When it was signed, in seconds since 1970.
    pub iat: i64,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// The session key.
    pub cnf: Confirmation,
}

impl SessionGrant {
    /// The absolute end of the session, or `None` where `exp` is out of range.
    pub fn expires_at(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.exp).ok()
    }
}

/// A [`SessionGrant`] in its signed, compact form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignedGrant(String);

impl SignedGrant {
    /// Signs a grant with the control plane's key.
    pub fn sign(grant: &SessionGrant, key: &SigningKey) -> Result<Self, serde_json::Error> {
        Ok(Self(key.sign_jws(GRANT_TYPE, grant)?))
    }

    /// Checks the signature against the control plane's keys. Whether the grant
    /// has expired is the caller's question: a log is verified long after.
    pub fn verify(&self, keys: &[VerifyingKey]) -> Result<SessionGrant, SignatureError> {
        verify_jws(&self.0, GRANT_TYPE, keys)
    }

    /// What it says, its signature unchecked: good enough to tell people what a log is
    /// about, never to let anybody in.
    pub fn unchecked(&self) -> Option<SessionGrant> {
        let payload = self.0.split('.').nth(1)?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }

    /// The compact JWS.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for SignedGrant {
    fn from(text: String) -> Self {
        Self(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(key: &SigningKey) -> SessionGrant {
        SessionGrant {
            iss: "http://127.0.0.1:7432".into(),
            grant: GrantId::from_random([1; 10]),
            session: SessionId::from_random([2; 10]),
            identity: Identity {
                issuer: "corp".into(),
                subject: "ana".into(),
                email: None,
                groups: vec!["engineering".into()],
                claims: Default::default(),
            },
            target: "prod-db".into(),
            role: "readonly".into(),
            policy: "00".into(),
            reason: "INC-1".into(),
            approved_by: Vec::new(),
            iat: 1_800_000_000,
            exp: 1_800_003_600,
            cnf: Confirmation { jwk: key.verifying_key().to_jwk() },
        }
    }

    #[test]
    fn what_was_signed_is_what_verifies() {
        let (server, session) = (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]));
        let signed = SignedGrant::sign(&grant(&session), &server).unwrap();
        assert_eq!(signed.verify(&[server.verifying_key()]).unwrap(), grant(&session));
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let server = SigningKey::from_seed(&[1; 32]);
        let signed = SignedGrant::sign(&grant(&server), &server).unwrap();
        let keys = [server.verifying_key()];
        for at in 0..signed.as_str().len() {
            let mut bytes = signed.as_str().as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let text = String::from_utf8(bytes).unwrap();
            assert!(SignedGrant::from(text).verify(&keys).is_err(), "byte {at}");
        }
    }

    #[test]
    fn the_token_does_not_choose_its_algorithm_or_key() {
        let (server, thief) = (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[3; 32]));
        let keys = [server.verifying_key()];
        let stolen = SignedGrant::sign(&grant(&thief), &thief).unwrap();
        assert!(matches!(stolen.verify(&keys), Err(SignatureError::UnknownKey(_))));
        let payload = stolen.as_str().split('.').nth(1).unwrap();
        let kid = server.verifying_key().id();
        for alg in ["none", "HS256", "EdDSA"] {
            let header = format!(r#"{{"alg":"{alg}","kid":"{kid}","typ":"{GRANT_TYPE}"}}"#);
            let text = format!("{}.{payload}.", URL_SAFE_NO_PAD.encode(header));
            assert!(SignedGrant::from(text).verify(&keys).is_err(), "{alg}");
        }
    }

    #[test]
    fn a_key_never_prints_itself() {
        let shown = format!("{:?}", SigningKey::from_seed(&[0x41; 32]));
        assert!(
            shown.contains("secret") && !shown.contains("4141") && !shown.contains("AAAA"),
            "{shown}"
        );
    }
}
