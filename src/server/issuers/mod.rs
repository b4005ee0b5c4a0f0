//! Whose tokens are accepted: OIDC discovery, keys, and the checks of a token.
//!
//! Owns the cache of each issuer's keys and every check between a bearer token
//! and an [`Identity`]. It refuses what a token says of its own algorithm: only
//! the asymmetric ones that its issuer announces count. No part of a token is
//! repeated in an error, but the issuer's name.

mod keys;
mod sign_in;
mod web;

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use openidconnect::{
    ClaimsVerificationError, ClientId, IssuerUrl, Nonce, SignatureVerificationError,
    core::{CoreIdToken, CoreIdTokenVerifier},
};
use serde_json::{Map, Value};

use self::keys::{KeyCache, Keys};
pub(super) use self::{keys::FetchError, sign_in::Ties};
use super::{
    config::{Config, Issuer},
    problem::Refusal,
};
use crate::grant::Identity;

/// The longest token that is looked at, in bytes.
const LONGEST_TOKEN: usize = 16 * 1024;
/// How far an issuer's clock may be ahead of this one.
const SKEW: Duration = Duration::from_secs(60);
/// Claims that are part of the protocol, not of who somebody is.
const PROTOCOL_CLAIMS: [&str; 18] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "nbf",
    "jti",
    "nonce",
    "at_hash",
    "c_hash",
    "s_hash",
    "sid",
    "azp",
    "auth_time",
    "acr",
    "amr",
    "email",
    "typ",
];
const MOST_CLAIMS: usize = 64;
const MOST_GROUPS: usize = 2000;
const LONGEST_CLAIM: usize = 1024;

/// Why a token is not accepted.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    #[error("it is not an OIDC token ({0})")]
    Malformed(&'static str),
    #[error("its issuer \"{0}\" is not one of this server's")]
    UnknownIssuer(String),
    #[error("it expired")]
    Expired,
    #[error("it is not valid yet: the issuer's clock and this server's differ")]
    NotYet,
    #[error("it was issued for another audience, not for \"{0}\"")]
    WrongAudience(String),
    #[error("its signature can't be accepted ({0})")]
    BadSignature(&'static str),
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        let title = format!("the token is refused: {error}");
        match error {
            TokenError::Malformed(_) => Self::unauthorized("bad_token", title)
                .hint("log in with: pgate login; in CI, PGATE_TOKEN must hold an OIDC token"),
            TokenError::UnknownIssuer(_) => Self::unauthorized("unknown_issuer", title)
                .hint("the server's pgate.toml names the issuers whose tokens it accepts"),
            TokenError::Expired => {
                Self::unauthorized("token_expired", title).hint("log in again: pgate login")
            }
            TokenError::NotYet => Self::unauthorized("token_not_valid_yet", title)
                .hint("check the clocks of the issuer and of the server"),
            TokenError::WrongAudience(_) => Self::unauthorized("wrong_audience", title)
                .hint("ask the issuer for a token with this server's client id or audience"),
            TokenError::BadSignature(_) => {
                Self::unauthorized("bad_signature", title).hint("log in again: pgate login")
            }
            TokenError::Fetch(error) => Self::unavailable("issuer_unreachable", error.to_string())
                .hint(
                    "try again in a moment; the identity provider is slow, down or misconfigured",
                ),
        }
    }
}

/// Every issuer, with the cache of its keys.
#[derive(Debug)]
pub(super) struct Issuers(Vec<Known>);

#[derive(Debug)]
struct Known {
    config: Issuer,
    keys: KeyCache,
}

impl Issuers {
    pub(super) fn new(config: &Config) -> Result<Self, FetchError> {
        let known = config
            .issuers
            .iter()
            .map(|issuer| Ok(Known { config: issuer.clone(), keys: KeyCache::new(&issuer.url)? }));
        Ok(Self(known.collect::<Result<_, FetchError>>()?))
    }

    /// Whether both are one person or workload, whichever of several `[[issuer]]` entries
    /// of one identity provider let them in. For what nobody may do as somebody else.
    pub(super) fn same_person(&self, one: &Identity, other: &Identity) -> bool {
        let url = |identity: &Identity| {
            let known = self.0.iter().find(|known| known.config.name == identity.issuer);
            known.map(|known| known.config.url.as_str())
        };
        let same_provider = || url(one).is_some_and(|provider| url(other) == Some(provider));
        one.same_as(other) || (one.subject == other.subject && same_provider())
    }

    /// Checks a token and says whose it is.
    pub(super) async fn identify(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<Identity, TokenError> {
        let (known, claims) = self.checked(token, now).await?;
        known.identity(&claims)
    }

    /// Checks a token: the configured issuer that it is of, and what it claims.
    async fn checked(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<(&Known, Map<String, Value>), TokenError> {
        let claims = unverified_claims(token)?;
        let known = self.of(&claims)?;
        let token =
            token.parse::<CoreIdToken>().map_err(|_| TokenError::Malformed("its claims"))?;
        let keys = known.keys.current().await?;
        match known.check(&token, &keys) {
            Err(Rejected::UnknownKey) => {
                let keys = known.keys.rotated(&keys).await?;
                known.check(&token, &keys).map_err(TokenError::from)?;
            }
            other => other?,
        }
        // The signature covers these bytes, so the claims read before it count now.
        not_before(&claims, now)?;
        Ok((known, claims))
    }

    /// The configured issuer that a token says it is from: by `iss`, and by
    /// audience where several entries have the same one.
    fn of(&self, claims: &Map<String, Value>) -> Result<&Known, TokenError> {
        let Some(Value::String(url)) = claims.get("iss") else {
            return Err(TokenError::Malformed("no issuer"));
        };
        let said = match claims.get("aud") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => return Err(TokenError::Malformed("no audience")),
        };
        let mut same = self.0.iter().filter(|known| known.config.url == *url).peekable();
        let Some(first) = same.peek().map(|known| known.config.audience.expected()) else {
            return Err(TokenError::UnknownIssuer(shown(url)));
        };
        same.find(|known| said.contains(&known.config.audience.expected()))
            .ok_or_else(|| TokenError::WrongAudience(first.to_owned()))
    }
}

/// A check that failed, before it is known whether newer keys would help.
enum Rejected {
    UnknownKey,
    Refused(TokenError),
}

impl From<Rejected> for TokenError {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::UnknownKey => TokenError::BadSignature("none of the issuer's keys fits"),
            Rejected::Refused(error) => error,
        }
    }
}

impl Known {
    fn check(&self, token: &CoreIdToken, keys: &Keys) -> Result<(), Rejected> {
        let audience = self.config.audience.expected();
        let refused = |error| Err(Rejected::Refused(error));
        let Ok(issuer) = IssuerUrl::new(self.config.url.clone()) else {
            return refused(TokenError::UnknownIssuer(shown(&self.config.url)));
        };
        let verifier = CoreIdTokenVerifier::new_public_client(
            ClientId::new(audience.to_owned()),
            issuer,
            keys.set.clone(),
        )
        .set_allowed_algs(keys.algorithms.iter().cloned());
        // The nonce ties a token to a login: who has begun that login compares it.
        let any_nonce = |_: Option<&Nonce>| Ok(());
        match token.claims(&verifier, any_nonce) {
            Ok(_) => Ok(()),
            Err(ClaimsVerificationError::SignatureVerification(error)) => match error {
                SignatureVerificationError::NoMatchingKey => Err(Rejected::UnknownKey),
                SignatureVerificationError::DisallowedAlg(_)
                | SignatureVerificationError::UnsupportedAlg(_) => {
                    refused(TokenError::BadSignature("its algorithm isn't one of the issuer's"))
                }
                SignatureVerificationError::NoSignature => {
                    refused(TokenError::BadSignature("it has none"))
                }
                _ => refused(TokenError::BadSignature("it doesn't match")),
            },
            Err(ClaimsVerificationError::Expired(_)) => refused(TokenError::Expired),
            Err(ClaimsVerificationError::InvalidAudience(_)) => {
                refused(TokenError::WrongAudience(audience.to_owned()))
            }
            Err(ClaimsVerificationError::InvalidIssuer(_)) => {
                refused(TokenError::Malformed("its issuer"))
            }
            Err(_) => refused(TokenError::Malformed("its claims")),
        }
    }

    fn identity(&self, claims: &Map<String, Value>) -> Result<Identity, TokenError> {
        let subject = claims
            .get("sub")
            .and_then(Value::as_str)
            .filter(|subject| !subject.is_empty() && subject.len() <= LONGEST_CLAIM)
            .ok_or(TokenError::Malformed("no subject"))?;
        // Access rules and reviewers may be named by address: an address that the
        // issuer says is unverified is nobody's.
        let unverified = claims.get("email_verified") == Some(&Value::Bool(false));
        let email = claims.get("email").and_then(Value::as_str).filter(|_| !unverified);
        let groups = match self.config.groups_claim.as_ref().and_then(|name| claims.get(name)) {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(several)) => several
                .iter()
                .filter_map(Value::as_str)
                .filter(|group| group.len() <= LONGEST_CLAIM)
                .take(MOST_GROUPS)
                .map(str::to_owned)
                .collect(),
            _ => Vec::new(),
        };
        let wanted = |name: &str| match &self.config.claims {
            Some(list) => list.iter().any(|wanted| wanted == name),
            None => !PROTOCOL_CLAIMS.contains(&name),
        };
        let claims = claims
            .iter()
            .filter_map(|(name, value)| Some((name, value.as_str()?)))
            .filter(|(name, value)| wanted(name) && value.len() <= LONGEST_CLAIM)
            .take(MOST_CLAIMS)
            .map(|(name, value)| (name.clone(), value.to_owned()))
            .collect::<BTreeMap<_, _>>();
        Ok(Identity {
            issuer: self.config.name.clone(),
            subject: subject.to_owned(),
            email: email.map(str::to_owned),
            groups,
            claims,
        })
    }
}

/// A token's claims, to find out whose keys must check it.
fn unverified_claims(token: &str) -> Result<Map<String, Value>, TokenError> {
    if token.len() > LONGEST_TOKEN {
        return Err(TokenError::Malformed("too long"));
    }
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(TokenError::Malformed("not three parts"));
    };
    let payload =
        URL_SAFE_NO_PAD.decode(payload).map_err(|_| TokenError::Malformed("not base64url"))?;
    serde_json::from_slice(&payload).map_err(|_| TokenError::Malformed("its claims"))
}

/// Refuses a token from the future (RFC 7519 sections 4.1.5 and 4.1.6).
fn not_before(claims: &Map<String, Value>, now: Timestamp) -> Result<(), TokenError> {
    let limit = now.as_second().saturating_add(SKEW.as_secs().cast_signed());
    for name in ["nbf", "iat"] {
        let Some(value) = claims.get(name) else { continue };
        let number = value.as_f64().ok_or(TokenError::Malformed("its times"))?;
        if number > limit as f64 {
            return Err(TokenError::NotYet);
        }
    }
    Ok(())
}

/// A text of a stranger, short and printable.
fn shown(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(100).collect()
}
