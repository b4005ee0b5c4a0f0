//! The API's types. Times are RFC 3339, durations whole seconds.
//!
//! | route | request | response |
//! |---|---|---|
//! | `GET /healthz`, `GET /readyz` | – | [`Health`] |
//! | `GET /.well-known/pgate` (public) | – | [`ServerInfo`] |
//! | `GET /.well-known/pgate/keys` (public) | – | [`KeySet`] |
//! | `GET /openapi.json` (public) | – | OpenAPI 3.1 |
//! | `GET /v1/whoami` | – | [`Identity`] |
//! | `GET /v1/targets` | – | [`TargetList`] |
//! | `POST /v1/grants` | [`GrantRequest`] | 201 [`Grant`] |
//! | `GET /v1/grants` | – | [`GrantList`], one's own, newest first |
//! | `GET /v1/grants/{id}?wait=SECONDS` | – | [`Grant`]; with `wait` (at most 60) as soon as it is no longer pending |
//! | `POST /v1/grants/{id}/approve`, `/deny`, `/revoke` | [`Comment`] | [`Grant`] |
//! | `GET /v1/inbox` | – | [`Inbox`](super::Inbox): what the caller may review |
//! | `PUT /v1/holds/{id}` (upload token) | [`RaiseHold`](super::RaiseHold) | 201 [`HoldView`](super::HoldView); the id is the caller's own, so that it can be sent again |
//! | `GET /v1/holds/{id}?wait=SECONDS` (upload token too) | – | [`HoldView`](super::HoldView); with `wait` as soon as it no longer waits |
//! | `POST /v1/holds/{id}/approve` | [`HoldApproval`](super::HoldApproval) | [`HoldView`](super::HoldView) |
//! | `POST /v1/holds/{id}/deny` | [`Comment`] | [`HoldView`](super::HoldView) |
//! | `POST /v1/holds/{id}/withdraw` (upload token) | [`Withdrawal`](super::Withdrawal) | [`HoldView`](super::HoldView) |
//! | `GET /v1/sessions/{id}/holds` | – | [`HoldList`](super::HoldList), those of one session |
//! | `POST /v1/sessions` | [`OpenSession`] | 201 [`OpenedSession`] |
//! | `GET /v1/sessions?limit=N` | – | [`SessionList`]: one's own; reviewers of its role see it too |
//! | `GET /v1/sessions/{id}` | – | [`SessionView`] |
//! | `GET /v1/sessions/{id}/state?wait=SECONDS` (upload token too) | – | [`SessionState`]; with `wait` as soon as it has ended |
//! | `PUT /v1/sessions/{id}/log?seq=N` (upload token too) | lines N…, whole, each ended by LF | [`Receipt`] |
//! | `GET /v1/sessions/{id}/log` | – | `application/jsonl`, the log, last receipt at its end |
//! | `POST /v1/sessions/{id}/close` (upload token too) | – | [`SessionView`] |

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

pub use crate::{
    grant::{Grant, GrantId, Identity, Jwk, SessionId, SignedGrant},
    journal::Receipt,
};

/// What went wrong (RFC 9457, with pgate's `code` and `hint`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// A stable word for programs (`unknown_target`, `own_request`, …).
    pub code: String,
    /// What happened and why, in one sentence.
    pub title: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Whether the server is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Health {
    /// `ok`, or what is wrong.
    pub status: String,
}

/// What a client must know before it can log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// pgate's version.
    pub version: String,
    /// The server's public URL.
    pub public_url: String,
    /// The server's time, so that a client can name a skewed clock.
    pub now: Timestamp,
    /// The issuers that people and workloads may come from.
    pub issuers: Vec<IssuerInfo>,
}

impl ServerInfo {
    /// The page of what waits for whoever looks.
    pub fn inbox_url(&self) -> String {
        format!("{}/holds", self.public_url)
    }

    /// The page of a request for a grant.
    pub fn grant_url(&self, id: &GrantId) -> String {
        format!("{}/grants/{id}", self.public_url)
    }
}

/// An issuer, as a client needs to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerInfo {
    /// Its name in the configuration.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// The client id for the device flow; none for workload issuers.
    pub client_id: Option<String>,
    /// The audience that workload tokens must have; none for people's issuers.
    pub audience: Option<String>,
    /// Scopes to ask for besides `openid`.
    #[serde(default)]
    pub scopes: Vec<String>,
}

/// The server's public keys, current one first (RFC 7517 section 5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySet {
    /// The keys.
    pub keys: Vec<Jwk>,
}

/// A role that the caller may ask for on a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRole {
    /// The role's name.
    pub role: String,
    /// What it is for.
    pub about: String,
    /// `auto`, or who must approve, in words.
    pub approval: String,
    /// The lifetime when none is asked for, in seconds.
    pub ttl_seconds: u64,
    /// The longest lifetime, in seconds.
    pub max_ttl_seconds: u64,
}

/// A target and the roles that the caller may ask for on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetView {
    /// The target's name.
    pub target: String,
    /// The roles, by name.
    pub roles: Vec<TargetRole>,
}

/// The caller's targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetList {
    /// By name.
    pub targets: Vec<TargetView>,
}

/// A request for a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantRequest {
    /// The target.
    pub target: String,
    /// The role.
    pub role: String,
    /// Why; not empty, at most 500 characters.
    pub reason: String,
    /// How long, in seconds; the role's own `ttl` where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

/// Grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantList {
    /// Newest first.
    pub grants: Vec<Grant>,
}

/// What a reviewer says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comment {
    /// At most 500 characters.
    #[serde(default)]
    pub comment: String,
}

/// Opens a session under an active grant of one's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenSession {
    /// The grant.
    pub grant: GrantId,
    /// The session's public key, made by the client for this session.
    pub key: Jwk,
    /// The client's pgate version.
    pub version: String,
}

/// An opened session. Holds secrets: neither logged nor printed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OpenedSession {
    /// The session.
    pub session: SessionId,
    /// The signed grant, bound to the session's key.
    pub grant: SignedGrant,
    /// The role's policy document, as the exact bytes whose SHA-256 the grant carries.
    pub role: String,
    /// How to reach the database.
    pub database: DatabaseAccess,
    /// May upload this session's log and close it; nothing else.
    #[serde(serialize_with = "expose")]
    pub upload_token: SecretString,
    /// The server's time.
    pub now: Timestamp,
}

/// How a session's proxy reaches the database.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DatabaseAccess {
    /// The host name or address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Further hosts that have the same database, in the order in which they are tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<DatabaseHost>,
    /// Which of them will do.
    #[serde(default, skip_serializing_if = "is_default")]
    pub target_session_attrs: SessionAttrs,
    /// The database.
    pub database: String,
    /// The database role: the session's own, or the static one.
    pub user: String,
    /// Its password; empty where it logs in by certificate.
    #[serde(serialize_with = "expose")]
    pub password: SecretString,
    /// libpq's `sslmode`: disable, require, verify-ca or verify-full (prefer and allow are refused).
    pub sslmode: String,
    /// The certificate authorities to trust, PEM; none means the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// How TLS begins.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sslnegotiation: SslNegotiation,
    /// Whether SCRAM is bound to the TLS connection.
    #[serde(default, skip_serializing_if = "is_default")]
    pub channel_binding: ChannelBindingUse,
    /// What to show a server that asks for a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
    /// Whether the credential is the session's own (privileges enforce the masks)
    /// or a static one (the proxy alone does).
    pub credential: CredentialKind,
    /// What the database answered to [`crate::sql::EPOCH_QUERY`] before the session's own
    /// role was made. A server that lets this role log in, a standby too, has everything
    /// that was committed by then, so a catalog that is read by the role is no older. Absent
    /// where the session has to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog_epoch: Option<String>,
}

/// One more place where a database is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseHost {
    /// The host name or address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// libpq's `target_session_attrs`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionAttrs {
    /// Whichever answers.
    #[default]
    Any,
    /// One whose sessions may write by default.
    ReadWrite,
    /// One whose sessions may not.
    ReadOnly,
    /// One that isn't in hot standby.
    Primary,
    /// One that is.
    Standby,
    /// One that is in hot standby; whichever answers, where none is.
    PreferStandby,
}

impl SessionAttrs {
    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "any" => Some(Self::Any),
            "read-write" => Some(Self::ReadWrite),
            "read-only" => Some(Self::ReadOnly),
            "primary" => Some(Self::Primary),
            "standby" => Some(Self::Standby),
            "prefer-standby" => Some(Self::PreferStandby),
            _ => None,
        }
    }

    /// Whether a server will do whose sessions are as said.
    pub fn fits(self, standby: bool, read_only: bool) -> bool {
        match self {
            Self::Any => true,
            Self::ReadWrite => !standby && !read_only,
            Self::ReadOnly => standby || read_only,
            Self::Primary => !standby,
            Self::Standby | Self::PreferStandby => standby,
        }
    }
}

impl std::fmt::Display for SessionAttrs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Any => "any",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::PreferStandby => "prefer-standby",
        })
    }
}

/// libpq's `sslnegotiation`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SslNegotiation {
    /// The server is asked first (SSLRequest).
    #[default]
    Postgres,
    /// At once, as PostgreSQL takes it from 17 on.
    Direct,
}

/// libpq's `channel_binding`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelBindingUse {
    /// Never.
    Disable,
    /// Where the server offers it.
    #[default]
    Prefer,
    /// Always: a server that doesn't authenticate so is refused.
    Require,
}

/// A certificate that a client shows, and its key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClientCertificate {
    /// The certificate and those between it and its authority, PEM.
    pub chain_pem: String,
    /// Its private key, PEM, not encrypted.
    #[serde(serialize_with = "expose")]
    pub key_pem: SecretString,
}

/// Whether a field may be left out.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Whose credential it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// The session's own database role.
    Ephemeral,
    /// One shared database role.
    Static,
}

/// Whether a session may go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SessionState {
    /// It may.
    Open,
    /// It may not: its end has come.
    Expired,
    /// It may not: somebody has ended it.
    Ended {
        /// Why, in words.
        reason: String,
    },
}

/// A session, as lists and `sessions show` tell of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// The session.
    pub session: SessionId,
    /// Its grant.
    pub grant: GrantId,
    /// Who.
    pub identity: Identity,
    /// Where.
    pub target: String,
    /// As what.
    pub role: String,
    /// Why.
    pub reason: String,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it must end.
    pub expires_at: Timestamp,
    /// When and how it ended; none while it is open.
    pub ended_at: Option<Timestamp>,
    /// `open`, `closed`, `expired`, `revoked`, `abandoned` (never closed by its client).
    pub state: String,
    /// Lines of its log received so far.
    pub lines: u64,
    /// Statements among them.
    pub statements: u64,
}

/// Sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionList {
    /// Newest first.
    pub sessions: Vec<SessionView>,
}

/// The one place where the API's secrets become text: the encrypted response body.
fn expose<S: Serializer>(secret: &SecretString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(secret.expose_secret())
}
