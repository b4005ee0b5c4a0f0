//! The device flow (RFC 8628): a code is shown, somebody enters it in a browser,
//! and this side asks until the issuer has an answer.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use oauth2::{DeviceCodeErrorResponseType, RequestTokenError, Scope, StandardErrorResponse};
use openidconnect::core::CoreDeviceAuthorizationResponse;
use url::Url;

use super::{Error, Issuer, Login, issuer::Provider, web};

/// The longest time between two questions that is believed (RFC 8628 knows 5 s).
const LONGEST_INTERVAL: Duration = Duration::from_secs(300);
/// The longest life of a code that is believed.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);
/// The longest pause while an issuer is out of reach.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A device authorization that waits for a person.
pub struct Authorization {
    provider: Provider,
    details: CoreDeviceAuthorizationResponse,
    url: Url,
    complete_url: Option<Url>,
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorization").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

impl Authorization {
    /// Asks `issuer` for a code.
    pub async fn begin(issuer: &Issuer) -> Result<Self, Error> {
        let provider = Provider::discover(issuer).await?;
        let Some(endpoint) = provider.device_endpoint() else {
            return Err(Error::NoDeviceFlow { issuer: issuer.url.clone() });
        };
        let client = provider.client().set_device_authorization_url(endpoint);
        let scopes = issuer.scopes.iter().map(|scope| Scope::new(scope.clone()));
        let answer =
            client.exchange_device_code().add_scopes(scopes).request_async(&provider.web).await;
        let details: CoreDeviceAuthorizationResponse = answer.map_err(|error| match error {
            RequestTokenError::ServerResponse(said) => said_no(&issuer.url, &said),
            RequestTokenError::Request(failure) => failure.into(),
            RequestTokenError::Parse(error, _) => Error::Garbage {
                issuer: issuer.url.clone(),
                problem: format!("its device authorization can't be read (at {})", error.path()),
            },
            RequestTokenError::Other(problem) => {
                Error::Garbage { issuer: issuer.url.clone(), problem }
            }
        })?;
        let garbage =
            |problem: &str| Error::Garbage { issuer: issuer.url.clone(), problem: problem.into() };
        if details.interval() > LONGEST_INTERVAL || details.expires_in() > LONGEST_LIFE {
            return Err(garbage("it asks to wait for longer than anybody would"));
        }
        let url = browsable(details.verification_uri().as_str())
            .ok_or_else(|| garbage("its verification URL is not for a browser"))?;
        let complete_url =
            details.verification_uri_complete().and_then(|complete| browsable(complete.secret()));
        Ok(Self { provider, details, url, complete_url })
    }

    /// The code that a person enters.
    pub fn user_code(&self) -> &str {
        self.details.user_code().secret()
    }

    /// Where to enter it.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The same place with the code filled in, where the issuer has one.
    pub fn complete_url(&self) -> Option<&Url> {
        self.complete_url.as_ref()
    }

    /// How long the code can be entered.
    pub fn expires_in(&self) -> Duration {
        self.details.expires_in()
    }

    /// Waits until somebody has entered the code, and checks the tokens that come.
    pub async fn wait(&self) -> Result<Login, Error> {
        self.wait_by(tokio::time::sleep).await
    }

    /// [`Authorization::wait`] by another clock.
    async fn wait_by<F>(&self, sleep: impl Fn(Duration) -> F) -> Result<Login, Error>
    where
        F: Future<Output = ()>,
    {
        let issuer = &self.provider.issuer.url;
        let client = self.provider.client();
        let unreadable = || Error::Garbage {
            issuer: issuer.clone(),
            problem: "its token answer can't be read".into(),
        };
        // An issuer that says 0 would be asked without a pause.
        let pause = |interval: Duration| sleep(interval.max(Duration::from_secs(1)));
        let answer = client
            .exchange_device_access_token(&self.details)
            .set_max_backoff_interval(LONGEST_PAUSE)
            .request_async(&self.provider.web, pause, None)
            .await
            .map_err(|error| match error {
                RequestTokenError::ServerResponse(said) => match said.error() {
                    DeviceCodeErrorResponseType::AccessDenied => {
                        Error::Denied { issuer: issuer.clone() }
                    }
                    DeviceCodeErrorResponseType::ExpiredToken => Error::CodeExpired,
                    DeviceCodeErrorResponseType::AuthorizationPending
                    | DeviceCodeErrorResponseType::SlowDown
                    | DeviceCodeErrorResponseType::Basic(_) => said_no(issuer, &said),
                },
                RequestTokenError::Request(failure) => failure.into(),
                RequestTokenError::Parse(..) | RequestTokenError::Other(_) => unreadable(),
            })?;
        Login::from_answer(&self.provider, &answer, Timestamp::now())
    }
}

fn said_no<T: oauth2::ErrorResponseType + AsRef<str> + 'static>(
    issuer: &str,
    said: &StandardErrorResponse<T>,
) -> Error {
    let word = said.error().as_ref().chars().take(80);
    let mut error: String = word.collect();
    if let Some(description) = said.error_description() {
        error.push_str(": ");
        error.extend(description.chars().take(300));
    }
    Error::IssuerRefused { issuer: issuer.to_owned(), error }
}

/// A URL that may be shown and opened: a browser's, not a file or a program.
fn browsable(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let fine = match url.scheme() {
        "https" => true,
        "http" => web::is_loopback(&url),
        _ => false,
    };
    fine.then_some(url)
}

#[cfg(test)]
mod tests;
