//! `[target.NAME]`: where a database is and how sessions get a role there.

use url::Url;

use super::{
    check_name,
    reader::{Entry, Section},
};
use crate::policy::{Credential, SecretRef, Target};

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
    let credential = section
        .require("credential", &format!("for example {CREDENTIAL}"))
        .and_then(|entry| credential(&entry));
    Some(Target { name: name.to_owned(), url: url?, credential: credential? })
}

/// A URL without user and password. It is never repeated: somebody may have put a password in.
fn database_url(entry: &Entry<'_>) -> Option<Url> {
    let text = entry.text("\"postgres://db.internal:5432/shop\"")?;
    let problem = |message: &str, hint: &str| {
        entry.problem(format!("`{}` {message}", entry.path), Some(hint.to_owned()));
        None
    };
    let shape = "write postgres://host:port/database?sslmode=verify-full";
    let Ok(url) = text.parse::<Url>() else { return problem("is not a URL", shape) };
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return problem("is not a PostgreSQL URL", shape);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return problem(
            "must not hold a user or password",
            "put them where `credential` points, as \"env:NAME\" or \"file:PATH\"",
        );
    }
    if url.host_str().is_none_or(str::is_empty) {
        return problem("names no host", shape);
    }
    if url.path().trim_start_matches('/').is_empty() {
        return problem("names no database", shape);
    }
    for (key, value) in url.query_pairs() {
        match (key.as_ref(), value.as_ref()) {
            ("sslmode", "disable" | "require" | "verify-ca" | "verify-full")
            | ("sslrootcert", _) => {}
            ("sslmode", _) => {
                return problem(
                    "has an sslmode that is unknown or says nothing",
                    "use disable, require, verify-ca or verify-full",
                );
            }
            _ => {
                return problem(
                    "has a parameter that pgate doesn't know",
                    "only sslmode and sslrootcert may stand there",
                );
            }
        }
    }
    Some(url)
}

#[derive(Clone, Copy)]
enum Kind {
    Ephemeral,
    Static,
}

fn credential(entry: &Entry<'_>) -> Option<Credential> {
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
            let password = section.require("password", "as password = \"env:APP_PASSWORD\"");
            let (user, password) = (user?.text("\"app\""), secret(&password?));
            Some(Credential::Static { user: user?.to_owned(), password: password? })
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
