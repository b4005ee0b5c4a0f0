//! What can go wrong on the way to a token.

use std::path::PathBuf;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The issuer can't be reached, or broke off.
    #[error("can't reach {issuer}: {reason}")]
    Unreachable {
        /// The URL that was asked.
        issuer: String,
        /// Why.
        reason: String,
    },
    /// The issuer's discovery document names no device authorization endpoint.
    #[error("the issuer {issuer} doesn't offer the device flow")]
    NoDeviceFlow {
        /// The issuer's URL.
        issuer: String,
    },
    /// The person, or the issuer, said no (`access_denied`).
    #[error("the login was refused at {issuer}")]
    Denied {
        /// The issuer's URL.
        issuer: String,
    },
    /// Nobody entered the code in time (`expired_token`).
    #[error("the code was not entered in time")]
    CodeExpired,
    /// Any other OAuth error of the issuer.
    #[error("{issuer} says {error}")]
    IssuerRefused {
        /// The issuer's URL.
        issuer: String,
        /// The error's word and its description, if any.
        error: String,
    },
    /// An answer that no issuer should give.
    #[error("{issuer} doesn't answer as an OpenID provider does: {problem}")]
    Garbage {
        /// The URL that was asked.
        issuer: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// The ID token is not one for this client.
    #[error("the ID token of {issuer} can't be trusted: {problem}")]
    BadIdToken {
        /// The issuer's URL.
        issuer: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A fresh ID token has expired already, by this machine's clock.
    #[error("this machine's clock is about {minutes} minutes ahead of {issuer}'s")]
    ClockAhead {
        /// The issuer's URL.
        issuer: String,
        /// The difference.
        minutes: i64,
    },
    /// The login can't be renewed any more.
    #[error("your login has ended ({reason})")]
    LoginEnded {
        /// Why.
        reason: String,
    },
    /// Plain `http://` to another machine.
    #[error("{url} is plain http, which would show your login to everybody on the way")]
    Insecure {
        /// The URL.
        url: String,
    },
    /// A file with tokens can't be read or written.
    #[error("can't {action} {}: {problem}", file.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        file: PathBuf,
        /// Why it failed.
        problem: String,
    },
    /// The token file is not what pgate wrote.
    #[error("{} is damaged: {problem}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Others can read the token file.
    #[error("{} can be read by other users (mode {mode:03o})", file.display())]
    Exposed {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The keyring didn't answer, or not in time.
    #[error("the keyring failed: {0}")]
    Keyring(String),
    /// Another pgate is renewing the login and doesn't end.
    #[error("another pgate has held {} for too long", file.display())]
    Busy {
        /// The lock file.
        file: PathBuf,
    },
    /// The CI system doesn't give a token.
    #[error("{source_of}: {problem}")]
    NoWorkloadToken {
        /// Where the token should have come from.
        source_of: String,
        /// Why it didn't.
        problem: String,
    },
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Error::Unreachable { .. } => "check your network, then try again",
            Error::NoDeviceFlow { .. } => {
                "ask the operator to enable the device authorization grant for pgate's client, \
                 or pass --issuer with another issuer"
            }
            Error::Denied { .. } => "run `pgate login` again and confirm in the browser",
            Error::CodeExpired => "run `pgate login` again",
            Error::IssuerRefused { .. } => "ask the operator to check the client at the issuer",
            Error::Garbage { .. } => "ask the operator to check the issuer's URL",
            Error::BadIdToken { .. } => "ask the operator to check the issuer and its client id",
            Error::ClockAhead { .. } => "set this machine's clock, then run `pgate login`",
            Error::LoginEnded { .. } => "run `pgate login`",
            Error::Insecure { .. } => "use https:// (plain http is for 127.0.0.1 only)",
            Error::File { .. } => "make the folder writable for you",
            Error::Damaged { file, .. } => {
                return Some(format!("remove {} and run `pgate login`", file.display()));
            }
            Error::Exposed { file, .. } => {
                return Some(format!(
                    "run `chmod 600 {}`; if somebody else may have read it, `pgate logout` too",
                    file.display()
                ));
            }
            Error::Keyring(_) => {
                "unlock it, or set PGATE_KEYRING=off to keep tokens in a 0600 file"
            }
            Error::Busy { .. } => "end it, then try again",
            Error::NoWorkloadToken { .. } => "check the job's token settings",
        };
        Some(text.to_owned())
    }
}
