//! What can go wrong between a client and its control plane.

use std::error::Error as _;

use jiff::Timestamp;
use reqwest::{StatusCode, header::HeaderValue};

use super::Problem;

/// A clock difference below this is not worth a word, in seconds.
const WORTH_NAMING: i64 = 60;

/// Why an API call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server can't be reached, or broke off.
    #[error("can't reach {server}: {reason}")]
    Unreachable {
        /// The server's URL.
        server: String,
        /// Why.
        reason: String,
    },
    /// There is no login, or the server doesn't take it (401).
    #[error("{reason}")]
    NotLoggedIn {
        /// What happened, in one sentence.
        reason: String,
        /// What to do, where it is something else than to log in.
        hint: Option<String>,
    },
    /// A login could not be made ready for use, for another reason than its end.
    #[error("{reason}")]
    NoToken {
        /// What happened, in one sentence.
        reason: String,
        /// What to do.
        hint: Option<String>,
    },
    /// There is no such thing, or none that the caller may see (404).
    #[error("{}", .0.title)]
    NotFound(Problem),
    /// The server said no (any other 4xx).
    #[error("{}", .0.title)]
    Refused(Problem),
    /// The server failed (5xx).
    #[error("the server failed: {}", .0.title)]
    ServerFailed(Problem),
    /// An answer that no pgate server gives.
    #[error("{server} doesn't answer as a pgate server does: {problem}")]
    Garbage {
        /// The URL that was asked.
        server: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// Plain `http://` to another machine.
    #[error("{server} is plain http, which would show your login to everybody on the way")]
    Insecure {
        /// The server's URL.
        server: String,
    },
    /// Where a downloaded log should have gone.
    #[error("can't write the log: {0}")]
    Sink(std::io::Error),
}

/// Why there is no token to send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nobody is logged in, or the login has ended.
    #[error("{reason}")]
    NotLoggedIn {
        /// What happened, in one sentence.
        reason: String,
    },
    /// The login is there and its issuer can't be reached to renew it.
    #[error("can't reach {issuer}: {reason}")]
    Unreachable {
        /// The issuer's URL.
        issuer: String,
        /// Why.
        reason: String,
    },
    /// Anything else.
    #[error("{reason}")]
    Other {
        /// What happened, in one sentence.
        reason: String,
        /// What to do.
        hint: Option<String>,
    },
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::NotLoggedIn { reason } => Error::NotLoggedIn { reason, hint: None },
            TokenError::Unreachable { issuer, reason } => {
                Error::Unreachable { server: issuer, reason }
            }
            TokenError::Other { reason, hint } => Error::NoToken { reason, hint },
        }
    }
}

impl Error {
    /// Whether the same request may work a little later.
    pub fn may_pass(&self) -> bool {
        match self {
            Error::Unreachable { .. } | Error::ServerFailed(_) | Error::Garbage { .. } => true,
            Error::NotLoggedIn { .. }
            | Error::NoToken { .. }
            | Error::NotFound(_)
            | Error::Refused(_)
            | Error::Insecure { .. }
            | Error::Sink(_) => false,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Error::Unreachable { .. } => {
                "check the URL and your network; `pgate doctor` looks closer"
            }
            Error::NotLoggedIn { hint: Some(hint), .. } => hint,
            Error::NotLoggedIn { hint: None, .. } => "run `pgate login`",
            Error::NoToken { hint, .. } => return hint.clone(),
            Error::NotFound(problem) | Error::Refused(problem) | Error::ServerFailed(problem) => {
                return problem.hint.clone();
            }
            Error::Garbage { .. } => "check that the URL is the control plane's, and its version",
            Error::Insecure { .. } => "use https:// (plain http is for 127.0.0.1 only)",
            Error::Sink(_) => return None,
        };
        Some(text.to_owned())
    }

    /// What an answer that is no success stands for. `theirs` is the server's
    /// clock, `ours` this machine's.
    pub(super) fn from_answer(
        server: String,
        status: StatusCode,
        theirs: Option<Timestamp>,
        location: Option<HeaderValue>,
        content: &[u8],
        ours: Timestamp,
    ) -> Self {
        let problem = serde_json::from_slice::<Problem>(content).ok();
        if status == StatusCode::UNAUTHORIZED {
            let skew = theirs.and_then(|theirs| clock_difference(theirs, ours));
            let (reason, hint) = match problem {
                Some(problem) => (problem.title, problem.hint),
                None => ("the server doesn't take your login".to_owned(), None),
            };
            return match skew {
                Some(skew) => Error::NotLoggedIn {
                    reason: format!("{reason}; {skew}"),
                    hint: Some("set this machine's clock, then run `pgate login`".into()),
                },
                None => Error::NotLoggedIn { reason, hint },
            };
        }
        if let Some(problem) = problem {
            return match status {
                StatusCode::NOT_FOUND => Error::NotFound(problem),
                status if status.is_client_error() => Error::Refused(problem),
                _ => Error::ServerFailed(problem),
            };
        }
        if status.is_redirection() {
            let to = location.as_ref().and_then(|to| to.to_str().ok()).unwrap_or("elsewhere");
            let to: String = to.chars().take(200).collect();
            return Error::Garbage {
                server,
                problem: format!("it redirects to {to}; a login is sent to no other place"),
            };
        }
        // A proxy in front of a server that is down says so in its own words.
        if matches!(status.as_u16(), 502..=504) {
            return Error::Unreachable {
                server,
                reason: format!("a proxy on the way says {status}"),
            };
        }
        Error::Garbage { server, problem: format!("it says {status} without saying why") }
    }
}

/// How far this machine's clock is from the server's, where that is worth naming.
pub fn clock_difference(theirs: Timestamp, ours: Timestamp) -> Option<String> {
    let seconds = ours.as_second() - theirs.as_second();
    if seconds.abs() < WORTH_NAMING {
        return None;
    }
    let (amount, unit) = match seconds.unsigned_abs() {
        short @ ..120 => (short, "seconds"),
        medium @ ..7200 => (medium / 60, "minutes"),
        long @ ..172_800 => (long / 3600, "hours"),
        days => (days / 86_400, "days"),
    };
    let direction = if seconds > 0 { "ahead of" } else { "behind" };
    Some(format!("this machine's clock is {amount} {unit} {direction} the server's"))
}

/// A connection that did not come about or broke.
pub(super) fn broken(server: &str, error: &reqwest::Error) -> Error {
    let reason = if error.is_timeout() {
        if error.is_connect() {
            "no connection within 10 seconds".to_owned()
        } else {
            "it took the connection and gave no answer in time".to_owned()
        }
    } else {
        sentence(error)
    };
    Error::Unreachable { server: server.to_owned(), reason }
}

/// The innermost cause, which is what a person can act on.
pub(super) fn sentence(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    match error.source() {
        Some(_) => text,
        None => error.to_string(),
    }
}
