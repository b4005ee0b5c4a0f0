//! How a command fails: the exit code, the stable word for programs, the sentence
//! for people and the way out.

use std::{borrow::Cow, process::ExitCode};

use serde::Serialize;

use super::output::escaped;
use crate::{api, identity};

/// Why a command failed, as its exit code tells it (without CMD; see
/// [`Exit::or_own_failure`] for `connect -- CMD`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 1: anything that has no code of its own.
    Failure,
    /// 2: the command line or a settings file is wrong.
    Usage,
    /// 3: nobody is logged in, or the login has ended.
    NotLoggedIn,
    /// 4: the server or the policy said no.
    Refused,
    /// 5: the request still waits for a reviewer.
    Pending,
    /// 6: the server can't be reached.
    Unreachable,
    /// A code that only `connect -- CMD` uses: 125, 126, 127.
    Other(u8),
}

impl Exit {
    /// The process's exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::NotLoggedIn => 3,
            Exit::Refused => 4,
            Exit::Pending => 5,
            Exit::Unreachable => 6,
            Exit::Other(code) => code,
        }
    }

    /// The same beside a command whose own codes are passed on: 125, unless it is a code
    /// that tells of that command.
    pub(crate) fn or_own_failure(self, beside_a_command: bool) -> Self {
        match self {
            Exit::Other(_) => self,
            _ if beside_a_command => Exit::Other(125),
            _ => self,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// What a failed command tells its user. Any error turns into one with `?`; the
/// errors that have an exit code of their own keep it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Failure {
    #[serde(skip)]
    exit: Exit,
    code: Cow<'static, str>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Failure {
    /// A failure with its exit, its stable word and its sentence.
    pub(crate) fn new(
        exit: Exit,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self { exit, code: code.into(), message: message.into(), hint: None }
    }

    /// A wrong command line (exit 2).
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// Nobody is logged in (exit 3).
    pub(crate) fn not_logged_in(message: impl Into<String>) -> Self {
        Self::new(Exit::NotLoggedIn, "not_logged_in", message)
    }

    /// The server or the policy said no (exit 4).
    pub(crate) fn refused(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, code, message)
    }

    /// Adds what to do next.
    #[must_use]
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same failure with another exit, where a command's codes mean something else.
    #[must_use]
    pub(crate) fn exiting(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// Which exit it takes.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// The sentence for people.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// What to do next.
    pub(crate) fn way_out(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::new(Exit::Failure, "failed", format!("{error:#}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        anyhow::Error::from(error).into()
    }
}

impl From<api::Error> for Failure {
    fn from(error: api::Error) -> Self {
        let (exit, code) = match &error {
            api::Error::Unreachable { .. } => (Exit::Unreachable, "unreachable".into()),
            api::Error::NotLoggedIn { .. } => (Exit::NotLoggedIn, "not_logged_in".into()),
            api::Error::NoToken { .. } => (Exit::Failure, "no_token".into()),
            api::Error::NotFound(problem) | api::Error::Refused(problem) => {
                (Exit::Refused, Cow::Owned(escaped(&problem.code)))
            }
            api::Error::ServerFailed(problem) => {
                (Exit::Failure, Cow::Owned(escaped(&problem.code)))
            }
            api::Error::Garbage { .. } => (Exit::Failure, "garbage".into()),
            api::Error::Insecure { .. } => (Exit::Usage, "insecure_server".into()),
            api::Error::Sink(_) => (Exit::Failure, "failed".into()),
        };
        let failure = Failure::new(exit, code, escaped(&error.to_string()));
        match error.hint() {
            Some(hint) => failure.hint(escaped(&hint)),
            None => failure,
        }
    }
}

impl From<identity::Error> for Failure {
    fn from(error: identity::Error) -> Self {
        use identity::Error;
        let (exit, code) = match &error {
            Error::Unreachable { .. } => (Exit::Unreachable, "unreachable"),
            Error::Denied { .. } => (Exit::Refused, "login_denied"),
            Error::CodeExpired => (Exit::NotLoggedIn, "code_expired"),
            Error::LoginEnded { .. } => (Exit::NotLoggedIn, "not_logged_in"),
            Error::Insecure { .. } => (Exit::Usage, "insecure_issuer"),
            Error::NoDeviceFlow { .. }
            | Error::IssuerRefused { .. }
            | Error::Garbage { .. }
            | Error::BadIdToken { .. } => (Exit::Failure, "issuer"),
            Error::ClockAhead { .. } => (Exit::Failure, "clock"),
            Error::File { .. }
            | Error::Damaged { .. }
            | Error::Exposed { .. }
            | Error::Keyring(_)
            | Error::Busy { .. } => (Exit::Failure, "login_store"),
            Error::NoWorkloadToken { .. } => (Exit::NotLoggedIn, "no_token"),
        };
        let failure = Failure::new(exit, code, escaped(&error.to_string()));
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<crate::config::Error> for Failure {
    fn from(error: crate::config::Error) -> Self {
        let failure = Failure::new(Exit::Usage, "settings", error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_form_carries_code_message_and_hint() {
        let failure = Failure::usage("no server").hint("pass --server");
        assert_eq!(
            serde_json::to_string(&failure).expect("plain data"),
            r#"{"code":"usage","message":"no server","hint":"pass --server"}"#
        );
    }
}
