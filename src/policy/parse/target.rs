//! `[target.NAME]`: where a database is and how sessions get a role there.

use url::Url;

use super::{
    check_name,
    reader::{Entry, Section},
};
use crate::policy::{Credential, SecretRef, Target, host_list};

/// The most hosts that a URL may name.
const MOST_HOSTS: usize = 8;

const CREDENTIAL: &str =
    "credential = { kind = \"ephemeral\", admin_url = \"env:PROD_ADMIN_URL\" }";

pub(super) fn read(name: &str, section: &Section<'_>) -> Option<Target> {
    check_name("target", name, section);
    section.refuse_others(&["url", "credential"]);
    let url = section
        .require(
            "url",
            "for example url = \"postgres://db.internal:5432/shop?sslmode=verify-full\"",
        )
        .and_then(|entry| database_url(&entry));
    let certificate = url.as_ref().is_some_and(|(url, _)| parameter(url, "sslcert").is_some());
    let credential = section
        .require("credential", &format!("for example {CREDENTIAL}"))
        .and_then(|entry| credential(&entry, certificate));
    let (url, further) = url?;
    Some(Target { name: name.to_owned(), url, further, credential: credential? })
}

/// A URL without user and password, at each of its hosts. It is never repeated: somebody may
/// have put a password in.
fn database_url(entry: &Entry<'_>) -> Option<(Url, Vec<Url>)> {
    let text = entry.text("\"postgres://db.internal:5432/shop\"")?;
    let problem = |message: &str, hint: &str| {
        entry.problem(format!("`{}` {message}", entry.path), Some(hint.to_owned()));
        None
    };
    let shape = "write postgres://host:port/database?sslmode=verify-full";
    let hosts = host_list(text).unwrap_or_default();
    if text[hosts.clone()].split(',').count() > MOST_HOSTS {
        return problem("names too many hosts", "name eight at most");
    }
    let at_each = text[hosts.clone()]
        .split(',')
        .map(|host| [&text[..hosts.start], host, &text[hosts.end..]].concat().parse::<Url>());
    let Ok(mut urls) = at_each.collect::<Result<Vec<_>, _>>() else {
        return problem("is not a URL", shape);
    };
    let nameless = urls.iter().any(|url| url.host_str().is_none_or(str::is_empty));
    let further = urls.split_off(1);
    let Some(url) = urls.pop() else { return problem("is not a URL", shape) };
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return problem("is not a PostgreSQL URL", shape);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return problem(
            "must not hold a user or password",
            "put them where `credential` points, as \"env:NAME\" or \"file:PATH\"",
        );
    }
    if nameless {
        return problem("names no host", shape);
    }
    if url.path().trim_start_matches('/').is_empty() {
        return problem("names no database", shape);
    }
    match check_parameters(&url) {
        Ok(()) => Some((url, further)),
        Err((message, hint)) => problem(message, hint),
    }
}

fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// Checks the parameters of a URL: libpq's own, by their names and values.
fn check_parameters(url: &Url) -> Result<(), (&'static str, &'static str)> {
    let mut seen = Vec::new();
    for (key, value) in url.query_pairs() {
        match (key.as_ref(), value.as_ref()) {
            ("sslmode", "disable" | "require" | "verify-ca" | "verify-full")
            | ("sslnegotiation", "postgres" | "direct")
            | ("channel_binding", "disable" | "prefer" | "require")
            | (
                "target_session_attrs",
                "any" | "read-write" | "read-only" | "primary" | "standby" | "prefer-standby",
            )
            | ("load_balance_hosts", "disable") => {}
            ("sslrootcert" | "sslcert" | "sslkey", file) if !file.is_empty() => {}
            ("sslmode", _) => {
                return Err((
                    "has an sslmode that is unknown or says nothing",
                    "use disable, require, verify-ca or verify-full",
                ));
            }
            ("sslnegotiation", _) => {
                return Err(("has an unknown sslnegotiation", "use postgres or direct"));
            }
            ("channel_binding", _) => {
                return Err(("has an unknown channel_binding", "use disable, prefer or require"));
            }
            ("target_session_attrs", _) => {
                return Err((
                    "has an unknown target_session_attrs",
                    "use any, read-write, read-only, primary, standby or prefer-standby",
                ));
            }
            ("load_balance_hosts", _) => {
                return Err((
                    "has a load_balance_hosts other than disable",
                    "a session reads the catalog where its statements run, so its connections \
                     stay at one host; give several targets instead",
                ));
            }
            ("sslrootcert" | "sslcert" | "sslkey", _) => {
                return Err(("names no file where it should", "write sslrootcert=PATH"));
            }
            _ => {
                return Err((
                    "has a parameter that pgate doesn't know",
                    "only sslmode, sslrootcert, sslcert, sslkey, sslnegotiation, channel_binding \
                     and target_session_attrs may stand there",
                ));
            }
        }
        if seen.contains(&key) {
            return Err(("has a parameter twice", "write it once"));
        }
        seen.push(key);
    }
    let has = |name: &str| parameter(url, name).is_some();
    if has("sslcert") != has("sslkey") {
        return Err((
            "has only one of sslcert and sslkey",
            "a client certificate takes both, as sslcert=client.crt&sslkey=client.key",
        ));
    }
    let needs_tls = has("sslcert")
        || parameter(url, "sslnegotiation").is_some_and(|value| value == "direct")
        || parameter(url, "channel_binding").is_some_and(|value| value == "require");
    if needs_tls && parameter(url, "sslmode").is_none_or(|mode| mode == "disable") {
        return Err((
            "asks for what needs TLS (sslcert, sslnegotiation=direct, channel_binding=require) \
             without saying so",
            "write sslmode=verify-full as well",
        ));
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Kind {
    Ephemeral,
    Static,
}

/// `certificate` is whether the target's URL names one, which may stand for the password.
fn credential(entry: &Entry<'_>, certificate: bool) -> Option<Credential> {
    let section = entry.section(CREDENTIAL)?;
    let kind = section
        .require("kind", "kind = \"ephemeral\" or \"static\"")?
        .word(&[("ephemeral", Kind::Ephemeral), ("static", Kind::Static)])?;
    match kind {
        Kind::Ephemeral => {
            section.refuse_others(&["kind", "admin_url"]);
            let wants = "an administrator's URL, as admin_url = \"env:PROD_ADMIN_URL\"";
            let admin_url = secret(&section.require("admin_url", wants)?)?;
            Some(Credential::Ephemeral { admin_url })
        }
        Kind::Static => {
            section.refuse_others(&["kind", "user", "password"]);
            let user = section.require("user", "the database role, as user = \"app\"");
            let password = match section.get("password") {
                None if certificate => None,
                _ => {
                    let wants = "as password = \"env:APP_PASSWORD\"";
                    Some(secret(&section.require("password", wants)?)?)
                }
            };
            Some(Credential::Static { user: user?.text("\"app\"")?.to_owned(), password })
        }
    }
}

/// Where a secret is. What stands there instead is never repeated.
fn secret(entry: &Entry<'_>) -> Option<SecretRef> {
    let text = entry.text("\"env:NAME\"")?;
    let found = match text.split_once(':') {
        Some(("env", name)) if is_variable(name) => Some(SecretRef::Env(name.to_owned())),
        Some(("file", path)) if !path.is_empty() => Some(SecretRef::File(path.into())),
        _ => None,
    };
    if found.is_none() {
        entry.problem(
            format!("`{}` must say where the secret is, and not hold it", entry.path),
            Some("write \"env:NAME\" for an environment variable or \"file:PATH\" for a file; if a secret stood here, change it".to_owned()),
        );
    }
    found
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
