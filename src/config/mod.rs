//! Layered settings, each knowing its source.
//!
//! Owns the order flag > environment > project file (`.pgate.toml`, searched from
//! the working directory upwards) > user file (`pgate/config.toml` in the user's
//! configuration folder) > default, and the folders that pgate keeps its files in.
//! A file is read strictly: an unknown key is an error that names file, line and
//! the nearest known key.
//!
//! It refuses to take from a project file what a stranger's repository must not
//! decide (where tokens are kept, where sockets are made), and to read a project
//! file that belongs to somebody else.

mod file;
mod folders;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use url::Url;

pub use file::Ignored;
pub use folders::Folders;

/// A setting's name, its environment variable and who may set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    /// As files name it.
    pub(crate) name: &'static str,
    /// As the environment names it.
    pub(crate) variable: &'static str,
    /// Whether a project file may hold it.
    pub(crate) in_projects: bool,
}

const SERVER: Key = Key { name: "server", variable: "PGATE_SERVER", in_projects: true };
const OUTPUT: Key = Key { name: "output", variable: "PGATE_OUTPUT", in_projects: true };
const TARGET: Key = Key { name: "target", variable: "PGATE_TARGET", in_projects: true };
const ROLE: Key = Key { name: "role", variable: "PGATE_ROLE", in_projects: true };
const SOCKET_DIR: Key =
    Key { name: "socket_dir", variable: "PGATE_SOCKET_DIR", in_projects: false };
const KEYRING: Key = Key { name: "keyring", variable: "PGATE_KEYRING", in_projects: false };

/// Every setting there is.
pub(crate) const KEYS: [Key; 6] = [SERVER, OUTPUT, TARGET, ROLE, SOCKET_DIR, KEYRING];

/// Where a value comes from, strongest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A flag of the command line.
    Flag(&'static str),
    /// An environment variable.
    Environment(&'static str),
    /// A `.pgate.toml` in the working directory or above it.
    Project {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The user's own file.
    User {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// Built in.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag(name) => write!(f, "{name}"),
            Source::Environment(name) => write!(f, "environment {name}"),
            Source::Project { file, line } | Source::User { file, line } => {
                write!(f, "{}:{line}", file.display())
            }
            Source::Default => f.write_str("default"),
        }
    }
}

/// A value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Its source.
    pub source: Source,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    /// For people.
    Text,
    /// One JSON object, or one event a line.
    Json,
}

/// Where tokens are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyring {
    /// In the operating system's keyring where there is one, else in a 0600 file.
    Auto,
    /// Always in the 0600 file.
    Off,
}

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The control plane.
    pub server: Option<Setting<Url>>,
    /// The form of results.
    pub output: Setting<OutputFormat>,
    /// The target where a command names none.
    pub target: Option<Setting<String>>,
    /// The role where a command names none.
    pub role: Option<Setting<String>>,
    /// Where `connect` makes its socket folder.
    pub socket_dir: Option<Setting<PathBuf>>,
    /// Where tokens are kept.
    pub keyring: Setting<Keyring>,
    /// Files that were found and not read, and why.
    pub ignored: Vec<Ignored>,
}

/// The values that flags give.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--server`.
    pub server: Option<String>,
    /// `--output`.
    pub output: Option<String>,
}

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A settings file can't be read.
    #[error("can't read {}: {problem}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        problem: String,
    },
    /// A settings file is not what a settings file may be.
    #[error("{}:{line}: {problem}", file.display())]
    BadFile {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
        /// The way out.
        hint: Option<String>,
    },
    /// A value that its key can't have.
    #[error("{name} = \"{value}\" ({source_of}): {problem}")]
    BadValue {
        /// The key.
        name: &'static str,
        /// The value.
        value: String,
        /// Where it comes from.
        source_of: Box<Source>,
        /// What is wrong with it.
        problem: String,
        /// The way out.
        hint: Option<String>,
    },
    /// There is no home folder to keep files in.
    #[error("there is no home folder: neither HOME nor the user database names one")]
    NoHome,
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Error::BadFile { hint, .. } | Error::BadValue { hint, .. } => hint.as_deref(),
            Error::Unreadable { .. } => Some("make the file readable for you, or remove it"),
            Error::NoHome => Some("set HOME"),
        }
    }
}

impl Settings {
    /// Reads every layer. `environment` looks a variable up; `working_directory`
    /// is where the search for `.pgate.toml` begins.
    pub fn load(
        flags: &Flags,
        environment: impl Fn(&str) -> Option<String>,
        working_directory: &Path,
        folders: &Folders,
    ) -> Result<Self, Error> {
        let mut ignored = Vec::new();
        let project = file::project(working_directory, folders, &mut ignored)?;
        let user = file::user(folders)?;
        let layers = Layers { flags, environment: &environment, project, user };

        Ok(Self {
            server: layers.find(SERVER, server_url)?,
            output: layers.find(OUTPUT, output)?.unwrap_or(default(OutputFormat::Text)),
            target: layers.find(TARGET, name)?,
            role: layers.find(ROLE, name)?,
            socket_dir: layers.find(SOCKET_DIR, folder)?,
            keyring: layers.find(KEYRING, keyring)?.unwrap_or(default(Keyring::Auto)),
            ignored,
        })
    }
}

fn default<T>(value: T) -> Setting<T> {
    Setting { value, source: Source::Default }
}

struct Layers<'a> {
    flags: &'a Flags,
    environment: &'a dyn Fn(&str) -> Option<String>,
    project: file::Values,
    user: file::Values,
}

impl Layers<'_> {
    /// The strongest layer's value of `key`, parsed. An empty variable counts as unset.
    fn find<T>(
        &self,
        key: Key,
        parse: fn(&str) -> Result<T, Unfit>,
    ) -> Result<Option<Setting<T>>, Error> {
        let Some((text, source)) = self.strongest(key) else { return Ok(None) };
        match parse(&text) {
            Ok(value) => Ok(Some(Setting { value, source })),
            Err(Unfit { problem, hint }) => Err(Error::BadValue {
                name: key.name,
                value: shown(&text),
                source_of: Box::new(source),
                problem,
                hint,
            }),
        }
    }

    fn strongest(&self, key: Key) -> Option<(String, Source)> {
        let flag = match key {
            SERVER => self.flags.server.clone().map(|text| (text, Source::Flag("--server"))),
            OUTPUT => self.flags.output.clone().map(|text| (text, Source::Flag("--output"))),
            _ => None,
        };
        let variable = || {
            (self.environment)(key.variable)
                .filter(|text| !text.is_empty())
                .map(|text| (text, Source::Environment(key.variable)))
        };
        let project = || {
            self.project.get(key).map(|(text, file, line)| (text, Source::Project { file, line }))
        };
        let user =
            || self.user.get(key).map(|(text, file, line)| (text, Source::User { file, line }));
        flag.or_else(variable).or_else(project).or_else(user)
    }
}

/// A value as an error shows it: not for ever, and without what may be a password.
fn shown(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, host)) => format!("…@{}", host.chars().take(200).collect::<String>()),
        None => text.chars().take(200).collect(),
    }
}

struct Unfit {
    problem: String,
    hint: Option<String>,
}

impl Unfit {
    fn new(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

fn server_url(text: &str) -> Result<Url, Unfit> {
    let suggestion = format!("write it as https://{text}");
    let url = Url::parse(text).map_err(|error| {
        let unfit = Unfit::new(format!("it is not a URL ({error})"));
        if text.contains("://") { unfit } else { unfit.hint(&suggestion) }
    })?;
    if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
        let unfit = Unfit::new("a server's URL begins with https://");
        return Err(if text.contains("://") { unfit } else { unfit.hint(suggestion) });
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Unfit::new("a server's URL holds no user name and no password")
            .hint("remove them, then run `pgate login`"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Unfit::new("a server's URL has no `?` and no `#` part"));
    }
    Ok(url)
}

fn output(text: &str) -> Result<OutputFormat, Unfit> {
    match text {
        "text" => Ok(OutputFormat::Text),
        "json" => Ok(OutputFormat::Json),
        _ => Err(Unfit::new("it is neither \"text\" nor \"json\"")),
    }
}

fn keyring(text: &str) -> Result<Keyring, Unfit> {
    match text {
        "auto" => Ok(Keyring::Auto),
        "off" => Ok(Keyring::Off),
        _ => Err(Unfit::new("it is neither \"auto\" nor \"off\"")),
    }
}

fn name(text: &str) -> Result<String, Unfit> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(Unfit::new("it is not a name"));
    }
    Ok(text.to_owned())
}

fn folder(text: &str) -> Result<PathBuf, Unfit> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err(Unfit::new("it is not an absolute path")) }
}

#[cfg(test)]
mod tests;
