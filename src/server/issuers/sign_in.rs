//! Signing in from a browser: the authorization code flow of OpenID Connect (Core 1.0
//! section 3.1) as a public client with PKCE (RFC 7636).
//!
//! Owns where a browser is sent and what its code is traded for. The ID token that
//! comes of it goes through the same checks as any other; what is added here ties it
//! to this sign-in: its nonce, and the issuer that was chosen.

use jiff::{SignedDuration, Timestamp};
use oauth2::{
    AuthorizationCode, CsrfToken, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl,
    RequestTokenError, Scope,
};
use openidconnect::{
    AuthUrl, AuthenticationFlow, ClientId, IssuerUrl, Nonce, TokenUrl,
    core::{CoreClient, CoreResponseType},
};
use serde_json::Value;
use subtle::ConstantTimeEq as _;
use url::Url;

use super::{FetchError, Issuers, Known, TokenError, shown, web};
use crate::{
    grant::Identity,
    server::{config::Audience, problem::Refusal},
};

/// What ties an issuer's answer to the browser that asked for it.
#[derive(Debug)]
pub(in crate::server) struct Ties {
    /// Comes back beside the code.
    pub(in crate::server) state: String,
    /// Comes back in the ID token.
    pub(in crate::server) nonce: String,
    /// Goes with the code to the token endpoint, its hash before to the browser.
    pub(in crate::server) verifier: String,
}

/// Who has signed in, and until when that holds.
#[derive(Debug)]
pub(in crate::server) struct SignedIn {
    pub(in crate::server) identity: Identity,
    /// The end of the ID token.
    pub(in crate::server) expires_at: Timestamp,
}

/// Why somebody isn't signed in.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum SignInError {
    #[error("this server has no issuer \"{0}\" that people sign in at")]
    UnknownIssuer(String),
    #[error("the issuer {issuer} can't be used from a browser: {why}")]
    Unfit { issuer: String, why: String },
    #[error("the answer is another issuer's")]
    OtherIssuer,
    #[error("the issuer {issuer} doesn't accept the sign-in ({why})")]
    Refused { issuer: String, why: String },
    #[error("the ID token is of another sign-in")]
    OtherSignIn,
    #[error("the ID token is refused: {0}")]
    Token(#[from] TokenError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

impl From<SignInError> for Refusal {
    fn from(error: SignInError) -> Self {
        let title = error.to_string();
        let again = "open the page again and sign in once more";
        match error {
            SignInError::UnknownIssuer(_) => Self::not_found("unknown_issuer", title).hint(again),
            SignInError::Unfit { .. } => Self::unavailable("issuer_unfit", title)
                .hint("`pgate inbox` and `pgate approve` do the same from a terminal"),
            SignInError::OtherIssuer | SignInError::OtherSignIn => {
                Self::unauthorized("other_sign_in", title).hint(again)
            }
            SignInError::Refused { .. } => Self::unauthorized("sign_in_refused", title).hint(
                "open the page again; if it stays, the client's settings at the issuer are wrong",
            ),
            SignInError::Token(TokenError::Fetch(error)) | SignInError::Fetch(error) => {
                TokenError::Fetch(error).into()
            }
            SignInError::Token(_) => Self::unauthorized("bad_token", title).hint(
                "open the page again; if it stays, the client's settings at the issuer are wrong",
            ),
        }
    }
}

type CodeClient = CoreClient<
    oauth2::EndpointSet,
    oauth2::EndpointNotSet,
    oauth2::EndpointNotSet,
    oauth2::EndpointNotSet,
    oauth2::EndpointSet,
>;

impl Issuers {
    /// The issuers that people sign in at, in the order of the configuration.
    pub(in crate::server) fn of_people(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(|known| known.config.audience.client_id().is_some())
            .map(|known| known.config.name.as_str())
    }

    /// Where a browser goes to sign in at the issuer of this name.
    pub(in crate::server) async fn sign_in_url(
        &self,
        issuer: &str,
        redirect: &RedirectUrl,
        ties: Ties,
    ) -> Result<Url, SignInError> {
        let known = self.people_at(issuer)?;
        let client = known.code_client(redirect).await?;
        let Ties { state, nonce, verifier } = ties;
        let challenge =
            PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(verifier));
        // Nothing is renewed here, so no refresh token is asked for.
        let scopes = known.config.scopes.iter().filter(|scope| *scope != "offline_access");
        let (url, _, _) = client
            .authorize_url(
                AuthenticationFlow::<CoreResponseType>::AuthorizationCode,
                || CsrfToken::new(state),
                || Nonce::new(nonce),
            )
            .add_scopes(scopes.map(|scope| Scope::new(scope.clone())))
            .set_pkce_challenge(challenge)
            .url();
        Ok(url)
    }

    /// Trades the code that a browser came back with for who its user is. `named` is the
    /// issuer that the answer names, where it names one.
    pub(in crate::server) async fn sign_in(
        &self,
        issuer: &str,
        redirect: &RedirectUrl,
        ties: Ties,
        code: String,
        named: Option<&str>,
        now: Timestamp,
    ) -> Result<SignedIn, SignInError> {
        let known = self.people_at(issuer)?;
        let client = known.code_client(redirect).await?;
        let endpoints = &known.keys.current().await?.endpoints;
        let fits = match named {
            Some(url) => url == known.config.url,
            None => !endpoints.authorization_response_iss_parameter_supported,
        };
        if !fits {
            return Err(SignInError::OtherIssuer);
        }
        let answer = client
            .exchange_code(AuthorizationCode::new(code))
            .set_pkce_verifier(PkceCodeVerifier::new(ties.verifier))
            .request_async(&known.keys.web)
            .await;
        let refused =
            |why: &str| SignInError::Refused { issuer: issuer.to_owned(), why: shown(why) };
        let answer = answer.map_err(|error| match error {
            RequestTokenError::ServerResponse(said) => refused(said.error().as_ref()),
            RequestTokenError::Request(failure) => refused(&failure.to_string()),
            RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
                refused("its answer can't be read")
            }
        })?;
        let token = answer.extra_fields().id_token().ok_or_else(|| refused("no ID token"))?;
        let (of, claims) = self.checked(&token.to_string(), now).await?;
        if of.config.name != known.config.name {
            return Err(SignInError::OtherIssuer);
        }
        let nonce = claims.get("nonce").and_then(Value::as_str).unwrap_or_default();
        if !bool::from(nonce.as_bytes().ct_eq(ties.nonce.as_bytes())) {
            return Err(SignInError::OtherSignIn);
        }
        let expires_at = claims
            .get("exp")
            .and_then(Value::as_f64)
            .and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok())
            .and_then(|since| Timestamp::from_duration(since).ok())
            .ok_or(TokenError::Malformed("its times"))?;
        Ok(SignedIn { identity: of.identity(&claims)?, expires_at })
    }

    fn people_at(&self, issuer: &str) -> Result<&Known, SignInError> {
        self.0
            .iter()
            .find(|known| known.config.name == issuer)
            .filter(|known| !matches!(known.config.audience, Audience::Workload(_)))
            .ok_or_else(|| SignInError::UnknownIssuer(shown(issuer)))
    }
}

impl Known {
    async fn code_client(&self, redirect: &RedirectUrl) -> Result<CodeClient, SignInError> {
        let unfit = |why: String| SignInError::Unfit { issuer: self.config.name.clone(), why };
        let keys = self.keys.current().await?;
        let endpoint = |url: &Option<String>, what: &str| {
            let url = url.as_deref().ok_or_else(|| unfit(format!("it names no {what}")))?;
            web::secure(url, what).map_err(&unfit)
        };
        let authorization =
            endpoint(&keys.endpoints.authorization_endpoint, "authorization_endpoint")?;
        let token = endpoint(&keys.endpoints.token_endpoint, "token_endpoint")?;
        let issuer = IssuerUrl::new(self.config.url.clone())
            .map_err(|_| unfit("its URL is not a URL".to_owned()))?;
        let client_id = self.config.audience.client_id().unwrap_or_default().to_owned();
        Ok(CoreClient::new(ClientId::new(client_id), issuer, keys.set.clone())
            .set_auth_uri(AuthUrl::from_url(authorization))
            .set_token_uri(TokenUrl::from_url(token))
            .set_redirect_uri(redirect.clone())
            .set_auth_type(oauth2::AuthType::RequestBody))
    }
}
