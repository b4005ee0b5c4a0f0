//! The control plane's settings: `pgate.toml`, read strictly.
//!
//! Owns the file's keys and what their values may be. Every problem of a file is
//! told at once, each with its file, line and key. It refuses unknown keys,
//! values that this version can't serve (a PostgreSQL store, an S3 archive), and
//! plain `http` beyond the loopback interface. It opens nothing but the file.

mod file;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use file::Reader;
use url::Url;

/// What `pgate.toml` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How clients reach the server; none means the address it listens on.
    pub public_url: Option<Url>,
    /// The SQLite file.
    pub store: PathBuf,
    /// The folder of session logs.
    pub archive: PathBuf,
    /// The file of the Ed25519 signing key.
    pub signing_key: PathBuf,
    /// The folder of policy files.
    pub policy: PathBuf,
    /// Certificate and key; none means plain HTTP.
    pub tls: Option<Tls>,
    /// Who may log in, at least one.
    pub issuers: Vec<Issuer>,
}

/// The server's certificate chain and private key, PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// An OIDC issuer whose tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Its name: what identities and access rules say.
    pub name: String,
    /// Its URL, exactly as its tokens' `iss` has it.
    pub url: String,
    /// Whom its tokens must be for.
    pub audience: Audience,
    /// The claim that lists groups.
    pub groups_claim: Option<String>,
    /// Scopes that clients ask for besides `openid`.
    pub scopes: Vec<String>,
    /// String claims that identities carry; none given means all of them.
    pub claims: Option<Vec<String>>,
}

/// Whom an issuer's tokens must be for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// People, through the device flow of this client.
    Client(String),
    /// People, through the device flow of a client whose tokens name another audience.
    ClientAnd {
        /// The client id.
        client_id: String,
        /// The audience.
        audience: String,
    },
    /// Workloads, who bring tokens of their own.
    Workload(String),
}

impl Audience {
    /// The `aud` that a token must have.
    pub fn expected(&self) -> &str {
        match self {
            Audience::Client(audience)
            | Audience::ClientAnd { audience, .. }
            | Audience::Workload(audience) => audience,
        }
    }

    /// The client id for the device flow.
    pub fn client_id(&self) -> Option<&str> {
        match self {
            Audience::Client(client_id) | Audience::ClientAnd { client_id, .. } => Some(client_id),
            Audience::Workload(_) => None,
        }
    }
}

/// One problem of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct ConfigProblem {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, naming the key.
    pub message: String,
}

/// A configuration that can't be used.
#[derive(Debug)]
pub enum ConfigError {
    /// The file can't be read.
    Unreadable(PathBuf, std::io::Error),
    /// What it says is wrong; in the order of its lines.
    Wrong(Vec<ConfigProblem>),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unreadable(path, error) => write!(f, "{}: {error}", path.display()),
            ConfigError::Wrong(problems) => {
                for (at, problem) in problems.iter().enumerate() {
                    if at > 0 {
                        f.write_str("\n")?;
                    }
                    problem.fmt(f)?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads the file at `path`; paths in it are relative to its folder.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |error| ConfigError::Unreadable(path.to_owned(), error);
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let path = std::path::absolute(path).map_err(unreadable)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self::parse(&text, &name, folder).map_err(ConfigError::Wrong)
    }

    /// Reads `text`, the content of the file `name` in `folder`.
    pub fn parse(text: &str, name: &str, folder: &Path) -> Result<Self, Vec<ConfigProblem>> {
        let document = file::parse(text, name).map_err(|problem| vec![problem])?;
        let mut reader = Reader::new(text, name);
        let keys =
            ["listen", "public_url", "store", "archive", "signing_key", "policy", "tls", "issuer"];
        let root = reader.root(document.get_ref(), &keys);

        let listen = reader.required(root, "listen", |text| {
            text.parse::<SocketAddr>().map_err(|_| {
                format!("\"{text}\" is not an address and port; write one like \"127.0.0.1:7432\"")
            })
        });
        let public_url = reader.optional(root, "public_url", |text| web_url(text, "public_url"));
        let path = |text: &str| Ok(folder.join(text));
        let store = reader.required(root, "store", |text| store_path(text).and_then(path));
        let archive = reader.required(root, "archive", |text| archive_path(text).and_then(path));
        let signing_key =
            reader.required(root, "signing_key", |text| key_path(text).and_then(path));
        let policy = reader.required(root, "policy", path);
        let tls = reader.table(root, "tls", &["cert", "key"]).and_then(|table| {
            let cert = reader.required(table, "cert", path);
            let key = reader.required(table, "key", path);
            Some(Tls { cert: cert?, key: key? })
        });
        let issuers = issuers(&mut reader, root);

        if let Some(listen) = listen
            && public_url.is_none()
            && !reader.has(root, "public_url")
            && !listen.ip().is_loopback()
        {
            reader.problem_at_start(
                "the key \"public_url\" is missing; clients need it when the server listens beyond loopback",
            );
        }
        reader.finish()?;
        let incomplete = || Vec::new();
        Ok(Self {
            listen: listen.ok_or_else(incomplete)?,
            public_url,
            store: store.ok_or_else(incomplete)?,
            archive: archive.ok_or_else(incomplete)?,
            signing_key: signing_key.ok_or_else(incomplete)?,
            policy: policy.ok_or_else(incomplete)?,
            tls,
            issuers,
        })
    }
}

fn issuers<'a>(reader: &mut Reader<'a>, root: file::Table<'a>) -> Vec<Issuer> {
    let keys = ["name", "url", "client_id", "audience", "groups_claim", "scopes", "claims"];
    let tables = reader.tables(root, "issuer", &keys);
    if tables.is_empty() {
        reader.problem_at_start(
            "no [[issuer]]; name at least one identity provider, else nobody can log in",
        );
    }
    let mut issuers = Vec::<Issuer>::new();
    for table in tables {
        let name = reader.required(table, "name", |text| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if !text.is_empty() && text.len() <= 64 && text.bytes().all(plain) {
                Ok(text.to_owned())
            } else {
                Err("a name has letters, digits, \"-\", \"_\" and \".\"".into())
            }
        });
        let url = reader.required(table, "url", |text| {
            web_url(text, "an issuer's url").map(|_| text.to_owned())
        });
        let filled = |text: &str| match text.trim() {
            "" => Err("it is empty".to_owned()),
            _ => Ok(text.to_owned()),
        };
        let client_id = reader.optional(table, "client_id", filled);
        let audience = reader.optional(table, "audience", filled);
        let groups_claim = reader.optional(table, "groups_claim", filled);
        let scopes = reader.list(table, "scopes").unwrap_or_default();
        let claims = reader.list(table, "claims");
        let audience = match (client_id, audience) {
            (Some(client_id), None) => Audience::Client(client_id),
            (Some(client_id), Some(audience)) => Audience::ClientAnd { client_id, audience },
            (None, Some(audience)) => Audience::Workload(audience),
            (None, None) => {
                reader.problem(
                    table,
                    "an [[issuer]] needs \"client_id\" (people) or \"audience\" (workloads), else any of its tokens would do",
                );
                continue;
            }
        };
        let (Some(name), Some(url)) = (name, url) else { continue };
        if issuers.iter().any(|other| other.name == name) {
            reader.problem(table, &format!("a second [[issuer]] with the name \"{name}\""));
        }
        if issuers
            .iter()
            .any(|other| other.url == url && other.audience.expected() == audience.expected())
        {
            reader.problem(table, "a second [[issuer]] with the same url and audience");
        }
        issuers.push(Issuer { name, url, audience, groups_claim, scopes, claims });
    }
    issuers
}

/// Whether the host of `url` is this machine only.
pub(crate) fn on_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(url::Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

fn web_url(text: &str, what: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("\"{text}\" is not a URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("{what} must not hold a user or password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("{what} must not have a query or fragment"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if on_loopback(&url) => Ok(url),
        "http" => Err(format!("\"{text}\" is plain http, which is only for loopback; use https")),
        other => Err(format!("{what} must be https, not \"{other}\"")),
    }
}

fn store_path(text: &str) -> Result<&str, String> {
    match text.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() && !path.contains(['?', '\0']) => {
            Ok(path.strip_prefix("//").unwrap_or(path))
        }
        Some(("postgres" | "postgresql", _)) => {
            Err("a PostgreSQL store is not supported by this version; use \"sqlite:PATH\""
                .to_owned())
        }
        _ => Err("write \"sqlite:PATH\"".to_owned()),
    }
}

fn archive_path(text: &str) -> Result<&str, String> {
    match text.split_once(':') {
        Some(("file", path)) if !path.is_empty() => Ok(path.strip_prefix("//").unwrap_or(path)),
        Some(("s3", _)) => {
            Err("an S3 archive is not supported by this version; use \"file:FOLDER\"".to_owned())
        }
        _ => Err("write \"file:FOLDER\"".to_owned()),
    }
}

fn key_path(text: &str) -> Result<&str, String> {
    match text.split_once(':') {
        Some(("file", path)) if !path.is_empty() => Ok(path.strip_prefix("//").unwrap_or(path)),
        _ => Err("write \"file:PATH\"; it is made at the first start".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
listen      = "127.0.0.1:7432"
public_url  = "https://pgate.example.com"
store       = "sqlite:/var/lib/pgate/pgate.db"
archive     = "file:sessions"
signing_key = "file:/var/lib/pgate/signing.key"
policy      = "policy/"
tls         = { cert = "cert.pem", key = "key.pem" }

[[issuer]]
name = "corp"
url = "https://idp.example.com"
client_id = "pgate"
groups_claim = "groups"

[[issuer]]
name = "github"
url = "https://token.actions.githubusercontent.com"
audience = "pgate"
claims = ["repository", "ref"]
"#;

    fn parse(text: &str) -> Result<Config, Vec<String>> {
        Config::parse(text, "pgate.toml", Path::new("/etc/pgate"))
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_documented_file_is_read_and_paths_are_relative_to_it() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.archive, Path::new("/etc/pgate/sessions"));
        assert_eq!(config.store, Path::new("/var/lib/pgate/pgate.db"));
        assert_eq!(config.tls.unwrap().cert, Path::new("/etc/pgate/cert.pem"));
        assert_eq!(config.issuers[0].audience, Audience::Client("pgate".into()));
        assert_eq!(config.issuers[1].audience, Audience::Workload("pgate".into()));
    }

    #[test]
    fn every_problem_is_told_at_once_with_its_line_and_the_nearest_key() {
        let text = GOOD
            .replace("signing_key =", "signing_kez =")
            .replace("groups_claim", "group_claim")
            .replace("\"127.0.0.1:7432\"", "7432");
        let problems = parse(&text).unwrap_err();
        let expected = [
            "pgate.toml:2: \"listen\" must be a string",
            "pgate.toml:6: unknown key \"signing_kez\"; did you mean \"signing_key\"?",
            "pgate.toml:14: unknown key \"group_claim\" in [[issuer]]; did you mean \"groups_claim\"?",
        ];
        for expected in expected {
            assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{problems:#?}");
        }
        assert!(problems.iter().any(|problem| problem.contains("\"signing_key\" is missing")));
    }

    #[test]
    fn what_this_version_cannot_serve_is_refused_in_a_sentence() {
        let cases = [
            ("sqlite:/var/lib/pgate/pgate.db", "postgres://db/pgate", "PostgreSQL store is not"),
            ("file:sessions", "s3://bucket/prefix", "S3 archive is not"),
            ("https://pgate.example.com", "http://pgate.example.com", "only for loopback"),
            ("https://idp.example.com", "http://idp.example.com", "only for loopback"),
            ("https://idp.example.com", "https://me:pw@idp.example.com", "user or password"),
            ("https://idp.example.com", "ldap://idp.example.com", "must be https"),
            ("client_id = \"pgate\"", "", "needs \"client_id\""),
            ("name = \"github\"", "name = \"corp\"", "a second [[issuer]]"),
            ("name = \"corp\"", "name = \"corp", "pgate.toml:11"),
        ];
        for (from, to, expected) in cases {
            let problems = parse(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(problems.iter().any(|text| text.contains(expected)), "{to}: {problems:#?}");
        }
    }

    #[test]
    fn without_a_public_url_only_loopback_is_served() {
        let text = GOOD.replace("public_url  = \"https://pgate.example.com\"", "");
        assert_eq!(parse(&text).unwrap().public_url, None);
        assert!(parse(&text.replace("127.0.0.1:7432", "0.0.0.0:7432")).is_err());
    }
}
