//! A login: the ID token that the control plane takes, and what renews it.

use std::fmt;

use jiff::Timestamp;
use oauth2::{RefreshToken, RequestTokenError, TokenResponse as _};
use openidconnect::{
    ClaimsVerificationError, Nonce,
    core::{CoreErrorResponseType, CoreTokenResponse},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use super::{Error, Issuer, issuer::Provider};

/// A token is renewed this long before its end, in seconds, or a tenth of its
/// life before it where that is less.
const MARGIN: i64 = 60;

/// What a login leaves behind. It holds secrets and never prints them.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    issuer: String,
    issuer_url: String,
    client_id: String,
    scopes: Vec<String>,
    subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    received_at: Timestamp,
    lifetime_seconds: i64,
    #[serde(serialize_with = "expose")]
    id_token: SecretString,
    #[serde(default, serialize_with = "expose_some", skip_serializing_if = "Option::is_none")]
    refresh_token: Option<SecretString>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("issuer", &self.issuer)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

impl Login {
    /// The token for the control plane.
    pub fn id_token(&self) -> &SecretString {
        &self.id_token
    }

    /// The e-mail address, else the subject.
    pub fn who(&self) -> &str {
        self.email.as_deref().unwrap_or(&self.subject)
    }

    /// The issuer's name in the control plane's configuration.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// When the ID token ends, by this machine's clock.
    pub fn expires_at(&self) -> Timestamp {
        self.received_at
            .checked_add(jiff::SignedDuration::from_secs(self.lifetime_seconds))
            .unwrap_or(Timestamp::MAX)
    }

    /// Whether the token can be renewed without a person.
    pub fn is_renewable(&self) -> bool {
        self.refresh_token.is_some()
    }

    /// Whether the token should be renewed before it is used at `now`. A clock that
    /// went back says nothing about a token's age, so that counts as stale too.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        let age = now.as_second().saturating_sub(self.received_at.as_second());
        let margin = MARGIN.min(self.lifetime_seconds / 10);
        age < -MARGIN || age >= self.lifetime_seconds.saturating_sub(margin)
    }

    /// Asks the issuer for new tokens.
    pub async fn renewed(&self) -> Result<Self, Error> {
        let Some(refresh_token) = &self.refresh_token else {
            return Err(Error::LoginEnded {
                reason: "it has expired, and the issuer gave nothing to renew it with".into(),
            });
        };
        let issuer = Issuer {
            name: self.issuer.clone(),
            url: self.issuer_url.clone(),
            client_id: self.client_id.clone(),
            scopes: self.scopes.clone(),
        };
        let provider = Provider::discover(&issuer).await?;
        let client = provider.client();
        let refresh_token = RefreshToken::new(refresh_token.expose_secret().to_owned());
        let answer =
            client.exchange_refresh_token(&refresh_token).request_async(&provider.web).await;
        let answer = answer.map_err(|error| match error {
            RequestTokenError::ServerResponse(said) => match said.error() {
                CoreErrorResponseType::InvalidGrant => {
                    Error::LoginEnded { reason: "the issuer doesn't renew it any more".into() }
                }
                _ => Error::IssuerRefused { issuer: issuer.url.clone(), error: said.to_string() },
            },
            RequestTokenError::Request(failure) => failure.into(),
            RequestTokenError::Parse(..) | RequestTokenError::Other(_) => Error::Garbage {
                issuer: issuer.url.clone(),
                problem: "its answer to the renewal can't be read".into(),
            },
        })?;
        let renewed = Self::from_answer(&provider, &answer, Timestamp::now())?;
        if renewed.subject != self.subject {
            return Err(Error::BadIdToken {
                issuer: issuer.url,
                problem: "the renewed token is somebody else's".into(),
            });
        }
        // An issuer that doesn't rotate refresh tokens sends none (RFC 6749, section 6).
        let refresh_token = renewed.refresh_token.clone().or_else(|| self.refresh_token.clone());
        Ok(Self { refresh_token, ..renewed })
    }

    /// Checks what a token endpoint gave and keeps it.
    pub(super) fn from_answer(
        provider: &Provider,
        answer: &CoreTokenResponse,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let issuer = &provider.issuer;
        let bad = |problem: String| Error::BadIdToken { issuer: issuer.url.clone(), problem };
        let id_token = openidconnect::TokenResponse::id_token(answer)
            .ok_or_else(|| bad("the answer holds none".into()))?;
        // The device flow sends no nonce (RFC 8628), so there is none to compare.
        let any_nonce = |_: Option<&Nonce>| Ok(());
        let text = id_token.to_string();
        let claims = id_token.claims(&provider.verifier(), any_nonce).map_err(|error| {
            let age = issued_at(&text).map(|issued| now.as_second().saturating_sub(issued));
            match (error, age) {
                // It was made this moment, so it is the clock that is wrong.
                (ClaimsVerificationError::Expired(_), Some(age)) => {
                    Error::ClockAhead { issuer: issuer.url.clone(), minutes: age / 60 }
                }
                (error, _) => bad(error.to_string()),
            }
        })?;
        let lifetime = claims.expiration().timestamp() - claims.issue_time().timestamp();
        if lifetime <= 0 {
            return Err(bad("it ends before it begins".into()));
        }
        Ok(Self {
            issuer: issuer.name.clone(),
            issuer_url: issuer.url.clone(),
            client_id: issuer.client_id.clone(),
            scopes: issuer.scopes.clone(),
            subject: claims.subject().to_string(),
            email: claims.email().map(|email| email.to_string()),
            received_at: now,
            lifetime_seconds: lifetime,
            id_token: SecretString::from(text),
            refresh_token: answer
                .refresh_token()
                .map(|token| SecretString::from(token.secret().to_owned())),
        })
    }

    #[cfg(test)]
    pub(super) fn for_tests(subject: &str, received_at: Timestamp, lifetime_seconds: i64) -> Self {
        Self {
            issuer: "corp".into(),
            issuer_url: "https://idp.example".into(),
            client_id: "pgate".into(),
            scopes: Vec::new(),
            subject: subject.into(),
            email: None,
            received_at,
            lifetime_seconds,
            id_token: SecretString::from(format!("secret-id-token-of-{subject}")),
            refresh_token: Some(SecretString::from("secret-refresh-token")),
        }
    }
}

/// The `iat` of a token whose signature may be anybody's: good enough to name a
/// clock, for nothing else.
fn issued_at(token: &str) -> Option<i64> {
    use base64::Engine as _;
    #[derive(Deserialize)]
    struct Claims {
        iat: i64,
    }
    let payload = token.split('.').nth(1)?;
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
    Some(serde_json::from_slice::<Claims>(&payload).ok()?.iat)
}

/// The one place where a login's secrets become text: the store.
fn expose<S: Serializer>(secret: &SecretString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(secret.expose_secret())
}

fn expose_some<S: Serializer>(secret: &Option<SecretString>, to: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => expose(secret, to),
        None => to.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_in_time_and_after_a_clock_went_back() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).expect("in range");
        for (lifetime, age, stale) in [
            (3600, 0, false),
            (3600, 3539, false),
            (3600, 3540, true),
            (3600, -59, false),
            (3600, -61, true),
            (60, 53, false),
            (60, 54, true),
        ] {
            let login = Login::for_tests("ana", at(0), lifetime);
            assert_eq!(login.is_stale(at(age)), stale, "{lifetime} s old {age} s");
        }
    }

    #[test]
    fn a_login_never_prints_its_tokens() {
        let login = Login::for_tests("ana", Timestamp::UNIX_EPOCH, 60);
        assert!(!format!("{login:?}").contains("secret"));
    }
}
