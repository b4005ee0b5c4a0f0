//! Proving to PostgreSQL who we are, by what it asks for.
//!
//! What a server may have is decided here, since an impostor asks too: SCRAM, bound to
//! the TLS connection where both can; an MD5 digest, where nothing stronger is demanded;
//! the password itself only where the server's certificate has been checked.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::{Upstream, UpstreamError};
use crate::{
    api::ChannelBindingUse,
    wire::{
        self, Authentication, WireError,
        scram::{ChannelBinding, ClientFirst, ClientKeys, SCRAM_SHA_256, SCRAM_SHA_256_PLUS},
    },
};

/// What the way to the server is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Anybody on it can read along.
    Plain,
    /// TLS, with whoever answered.
    Encrypted,
    /// TLS with a server whose certificate has been checked.
    Checked,
}

/// Who we are.
#[derive(Debug, Clone)]
pub(super) struct Login {
    pub(super) user: String,
    /// Empty where a certificate is enough.
    pub(super) password: SecretString,
    pub(super) binding: ChannelBindingUse,
    /// Of the last login, shared by all that connect as we do.
    pub(super) keys: Arc<Mutex<Option<ClientKeys>>>,
}

impl Login {
    /// Answers the server's questions until it says AuthenticationOk. `available` is what
    /// the connection can be bound by.
    pub(super) async fn prove(
        &self,
        upstream: &mut Upstream,
        available: ChannelBinding,
        way: Way,
    ) -> Result<(), UpstreamError> {
        match upstream.authentication().await? {
            Authentication::Sasl(mechanisms) => {
                return self.scram(upstream, &mechanisms, available).await;
            }
            // Nothing below is bound to anything.
            _ if self.binding == ChannelBindingUse::Require => {
                return Err(UpstreamError::Unbound("it asks for no SCRAM"));
            }
            Authentication::Ok => return Ok(()),
            Authentication::Md5(salt) => {
                let answer = Zeroizing::new(wire::md5_password(&self.user, self.password()?, salt));
                respond(upstream, &answer).await?;
            }
            Authentication::Cleartext if way == Way::Checked => {
                respond(upstream, self.password()?).await?;
            }
            Authentication::Cleartext => {
                let why = match way {
                    Way::Plain => "without TLS",
                    Way::Encrypted | Way::Checked => "without a look at its certificate",
                };
                return Err(UpstreamError::Cleartext(why));
            }
            Authentication::Other(code) => {
                return Err(UpstreamError::Method(format!("authentication method {code}")));
            }
            Authentication::SaslContinue(_) | Authentication::SaslFinal(_) => {
                return Err(WireError::Unexpected("Authentication").into());
            }
        }
        accepted(upstream).await
    }

    fn password(&self) -> Result<&str, UpstreamError> {
        match self.password.expose_secret() {
            "" => Err(UpstreamError::NoPassword),
            password => Ok(password),
        }
    }

    async fn scram(
        &self,
        upstream: &mut Upstream,
        mechanisms: &[String],
        available: ChannelBinding,
    ) -> Result<(), UpstreamError> {
        let password = self.password()?;
        let offers = |name: &str| mechanisms.iter().any(|offered| offered == name);
        let binding = match (self.binding, available) {
            (ChannelBindingUse::Disable, _) => ChannelBinding::Unsupported,
            (_, ChannelBinding::EndPoint(hash)) if offers(SCRAM_SHA_256_PLUS) => {
                ChannelBinding::EndPoint(hash)
            }
            (ChannelBindingUse::Require, ChannelBinding::EndPoint(_)) => {
                return Err(UpstreamError::Unbound("it offers no channel binding"));
            }
            (ChannelBindingUse::Require, _) => {
                return Err(UpstreamError::Unbound("its certificate gives nothing to bind to"));
            }
            // Said to the server, which knows whether it did offer: so nobody between can
            // strike the offer out.
            (ChannelBindingUse::Prefer, ChannelBinding::EndPoint(_)) => ChannelBinding::NotOffered,
            (ChannelBindingUse::Prefer, other) => other,
        };
        let nonce = crate::proxy::random_text();
        let first = ClientFirst::new("", &nonce, binding);
        if !offers(first.mechanism()) {
            return Err(UpstreamError::Method(format!("SASL without {SCRAM_SHA_256}")));
        }
        let mut out = BytesMut::new();
        wire::sasl_initial_response(first.mechanism(), first.message().as_bytes(), &mut out);
        upstream.send(&out).await?;
        let Authentication::SaslContinue(challenge) = upstream.authentication().await? else {
            return Err(WireError::Unexpected("AuthenticationSASLContinue").into());
        };
        let known = self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (last, answer, keys) = first.answer(&challenge, password, known)?;
        out.clear();
        wire::password_response(answer.as_bytes(), &mut out);
        upstream.send(&out).await?;
        let Authentication::SaslFinal(proof) = upstream.authentication().await? else {
            return Err(WireError::Unexpected("AuthenticationSASLFinal").into());
        };
        last.finish(&proof)?;
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = Some(keys);
        accepted(upstream).await
    }
}

/// Sends a password or what stands for it.
async fn respond(upstream: &mut Upstream, answer: &str) -> Result<(), UpstreamError> {
    let text = Zeroizing::new([answer.as_bytes(), b"\0"].concat());
    let mut out = BytesMut::new();
    wire::password_response(&text, &mut out);
    upstream.send(&out).await
}

async fn accepted(upstream: &mut Upstream) -> Result<(), UpstreamError> {
    match upstream.authentication().await? {
        Authentication::Ok => Ok(()),
        _ => Err(WireError::Unexpected("AuthenticationOk").into()),
    }
}
