//! The command that runs under a session: its environment, its arguments, its
//! signals and its exit code.

use std::{
    ffi::OsString,
    fs::File,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use rustix::{
    process::{Pid, Signal, getpgrp, kill_process},
    termios::tcgetpgrp,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::process::{Child, Command};

use crate::cli::interruption::Interruption;

/// How the command reaches the session's proxy.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// A host name, or the folder of the Unix socket.
    pub(super) host: String,
    /// The port, which also names the socket.
    pub(super) port: u16,
    /// The user that the client gives.
    pub(super) user: String,
    /// The one-time password.
    pub(super) password: SecretString,
    /// The database.
    pub(super) database: String,
    /// All of this as a connection URI (PostgreSQL manual, 34.1.1.2).
    pub(super) url: SecretString,
    /// The same without the password, for arguments.
    pub(super) public_url: String,
    /// The session's id.
    pub(super) session: String,
}

/// Variables that would hand the command what it must not have, or send it past
/// the proxy: libpq reads each of the latter.
const WITHHELD: &[&str] = &[
    "PGATE_TOKEN",
    "PGATE_TOKEN_FILE",
    "PGATE_DATABASE_URL",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "ACTIONS_ID_TOKEN_REQUEST_URL",
    "PGHOSTADDR",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGPASSFILE",
    "PGSSLMODE",
    "PGSSLNEGOTIATION",
    "PGREQUIRESSL",
    "PGCHANNELBINDING",
    "PGGSSENCMODE",
    "PGREQUIREAUTH",
    "PGOPTIONS",
];

impl Endpoint {
    /// The variables that the command sees.
    fn variables(&self) -> [(&'static str, String); 7] {
        [
            ("PGHOST", self.host.clone()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", self.user.clone()),
            ("PGPASSWORD", self.password.expose_secret().to_owned()),
            ("PGDATABASE", self.database.clone()),
            ("DATABASE_URL", self.url.expose_secret().to_owned()),
            ("PGATE_SESSION", self.session.clone()),
        ]
    }

    /// An argument with `{host} {port} {user} {database} {url}` replaced. The
    /// password is in none of them, for arguments are visible to the whole
    /// machine; clients find it in `PGPASSWORD`.
    fn fill(&self, argument: &OsString) -> OsString {
        let Some(text) = argument.to_str() else { return argument.clone() };
        if !text.contains('{') {
            return argument.clone();
        }
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        let port = self.port.to_string();
        while let Some(at) = rest.find('{') {
            filled.push_str(&rest[..at]);
            rest = &rest[at..];
            let known = [
                ("{host}", self.host.as_str()),
                ("{port}", port.as_str()),
                ("{user}", self.user.as_str()),
                ("{database}", self.database.as_str()),
                ("{url}", self.public_url.as_str()),
            ];
            match known.iter().find(|(name, _)| rest.starts_with(name)) {
                Some((name, value)) => {
                    filled.push_str(value);
                    rest = &rest[name.len()..];
                }
                None => {
                    filled.push('{');
                    rest = &rest[1..];
                }
            }
        }
        filled.push_str(rest);
        filled.into()
    }
}

/// Why a command can't be run.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// No such program (exit code 127, as shells have it).
    #[error("{0}: command not found")]
    NotFound(String),
    /// It is there and can't be run (126).
    #[error("{program}: can't be run: {source}")]
    CannotRun {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl CommandError {
    /// The exit code that `env`, `timeout` and shells use for it.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            CommandError::NotFound(_) => 127,
            CommandError::CannotRun { .. } => 126,
        }
    }

    fn of(program: &OsString, source: std::io::Error) -> Self {
        let program = program.to_string_lossy().into_owned();
        match source.kind() {
            std::io::ErrorKind::NotFound => CommandError::NotFound(program),
            _ => CommandError::CannotRun { program, source },
        }
    }
}

/// Looks for the program before anybody is asked to approve anything.
pub(super) fn check(program: &OsString, path: Option<&OsString>) -> Result<(), CommandError> {
    let found = |file: &Path| file.is_file();
    // A path is for the system to judge, as long as there is something.
    let there = if program.as_encoded_bytes().contains(&b'/') {
        Path::new(program).exists()
    } else {
        path.map(std::env::split_paths)
            .into_iter()
            .flatten()
            .map(|folder: PathBuf| folder.join(program))
            .any(|file| found(&file))
    };
    if there { Ok(()) } else { Err(CommandError::NotFound(program.to_string_lossy().into_owned())) }
}

/// Starts the command.
pub(super) fn start(command: &[OsString], endpoint: &Endpoint) -> Result<Child, CommandError> {
    let (program, arguments) =
        command.split_first().ok_or_else(|| CommandError::NotFound(String::new()))?;
    let mut child = Command::new(program);
    child.args(arguments.iter().map(|argument| endpoint.fill(argument)));
    for name in WITHHELD {
        child.env_remove(name);
    }
    child.envs(endpoint.variables());
    child.spawn().map_err(|source| CommandError::of(program, source))
}

/// Waits for the command and returns its exit code, 128+N where signal N ended it.
///
/// Ctrl-C and Ctrl-\ reach the command by themselves where the terminal sends them to
/// our process group, which it shares; pgate only has to survive them. Otherwise, and
/// always for SIGTERM and SIGHUP, they are passed on.
pub(super) async fn wait(mut child: Child, interruption: &mut Interruption) -> std::io::Result<u8> {
    loop {
        let heard = tokio::select! {
            status = child.wait() => return Ok(code(status?)),
            heard = interruption.heard() => heard,
        };
        if matches!(heard, Signal::INT | Signal::QUIT) && in_the_foreground() {
            continue;
        }
        if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
        {
            // It may have ended meanwhile; the next turn of the loop sees that.
            let _ = kill_process(pid, heard);
        }
    }
}

/// Whether our process group is the one that the terminal sends its signals to now. A
/// shell as the command gives the terminal to others, and stdin may be a pipe.
fn in_the_foreground() -> bool {
    let foreground = File::open("/dev/tty").ok().and_then(|tty| tcgetpgrp(tty).ok());
    foreground == Some(getpgrp())
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint {
            host: "/tmp/pgate".into(),
            port: 5432,
            user: "readonly".into(),
            password: SecretString::from("one-time"),
            database: "shop".into(),
            url: SecretString::from("postgresql://readonly:one-time@/shop"),
            public_url: "postgresql://readonly@/shop".into(),
            session: "se_0".into(),
        }
    }

    #[test]
    fn placeholders_are_filled_and_other_braces_left_alone() {
        let cases = [
            ("--host={host}", "--host=/tmp/pgate"),
            ("{user}@{database}:{port}", "readonly@shop:5432"),
            ("{password}", "{password}"),
            ("{url}", "postgresql://readonly@/shop"),
            ("{\"json\": {port}}", "{\"json\": 5432}"),
            ("{", "{"),
            ("{{port}}", "{5432}"),
            ("ünï{port}cödé", "ünï5432cödé"),
        ];
        for (argument, expected) in cases {
            assert_eq!(endpoint().fill(&argument.into()), OsString::from(expected), "{argument}");
        }
    }

    #[test]
    fn a_program_is_looked_for_on_the_path_or_where_it_says() {
        let path = Some(OsString::from("/bin:/usr/bin"));
        assert!(check(&"sh".into(), path.as_ref()).is_ok());
        assert!(check(&"/bin/sh".into(), None).is_ok());
        let error = check(&"nosuch-program".into(), path.as_ref()).unwrap_err();
        assert_eq!(error.exit_code(), 127);
        assert!(check(&"./nosuch".into(), path.as_ref()).is_err());
    }
}
