//! The policy files' language: strict TOML, every problem at once.
//!
//! Owns what may be written and how problems are told: file, line, column, key
//! and, for a key that isn't known, the nearest one that is. What the language
//! has but this version doesn't enforce is refused, never silently ignored. A
//! literal secret is refused and not repeated.

mod access;
mod cases;
mod check;
mod condition;
mod duration;
mod reader;
mod role;
mod target;

use std::{cell::RefCell, collections::BTreeMap, fmt};

use toml::de::DeTable;

pub use self::cases::{Case, CaseFile, Expected, parse_cases};
pub(super) use self::reader::nearest;
use self::reader::{Found, Section, Source};
use super::{Policy, Role, Target};

/// One thing that is wrong in a policy file, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub struct PolicyError {
    /// The file, as it was named to [`parse`].
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The key, as a path (`role.readonly.ttl`); empty where the text isn't TOML.
    pub key: String,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// A target or role with the section that it was read from, for the checks across them.
struct Read<'r, T> {
    value: T,
    section: Section<'r>,
}

/// Everything read from the files, before the checks across them.
#[derive(Default)]
struct Draft<'r> {
    targets: BTreeMap<String, Read<'r, Target>>,
    roles: BTreeMap<String, Read<'r, Role>>,
    access: Vec<Read<'r, super::Access>>,
    /// Names of targets and roles that are there but couldn't be read: not to be
    /// reported as missing too.
    unread: Vec<String>,
}

/// Reads a folder of policy files, given as (name, text) and best in the order of
/// their names.
///
/// # Errors
/// Every problem of every file, by file and line.
pub fn parse(files: &[(String, String)]) -> Result<Policy, Vec<PolicyError>> {
    let found = RefCell::new(Found::default());
    let sources =
        files.iter().map(|(name, text)| Source::new(name, text, &found)).collect::<Vec<_>>();
    let tables = sources
        .iter()
        .zip(files)
        .map(|(source, (_, text))| {
            let (table, errors) = DeTable::parse_recoverable(text);
            for error in &errors {
                let at = error.span().map_or(0, |span| span.start);
                let message = error.message().replace('\n', ", ");
                source.problem(at, "", format!("this is not TOML: {message}"), None);
            }
            table.into_inner()
        })
        .collect::<Vec<_>>();

    // Text that isn't TOML is told alone: what the rest of it seems to say, or to
    // lack, would only be noise.
    let broken = !found.borrow().errors.is_empty();
    let mut draft = Draft::default();
    if !broken {
        for (source, table) in sources.iter().zip(&tables) {
            read_file(&Section::root(source, table), &mut draft);
        }
        check::across(&draft);
    }

    let policy = Policy {
        targets: draft.targets.into_iter().map(|(name, read)| (name, read.value)).collect(),
        roles: draft.roles.into_iter().map(|(name, read)| (name, read.value)).collect(),
        access: draft.access.into_iter().map(|read| read.value).collect(),
        warnings: Vec::new(),
    };
    let Found { mut errors, mut warnings } = found.take();
    if errors.is_empty() {
        warnings.sort();
        Ok(Policy { warnings, ..policy })
    } else {
        errors.sort();
        errors.dedup();
        Err(errors)
    }
}

/// Whether a file of a policy folder, by its name, is part of the policy. Hidden files are
/// what editors leave behind while they write; `*.test.toml` are cases for the policy.
pub fn is_policy_file(name: &str) -> bool {
    name.ends_with(".toml") && !name.ends_with(".test.toml") && !name.starts_with('.')
}

fn read_file<'r>(root: &Section<'r>, draft: &mut Draft<'r>) {
    root.refuse_others(&["target", "role", "access"]);
    let named = |key: &str, example: &str| {
        root.get(key)
            .and_then(|entry| entry.section(example))
            .map(|section| section.entries().collect::<Vec<_>>())
            .unwrap_or_default()
    };
    for (name, at, entry) in named("target", "[target.prod-db]") {
        let Some(section) = entry.section("[target.prod-db]") else { continue };
        let section = section.at(at);
        if let Some(first) = draft.targets.get(&name) {
            refuse_second("target", &name, &first.section, &section);
        }
        match target::read(&name, &section) {
            Some(value) => _ = draft.targets.entry(name).or_insert(Read { value, section }),
            None => draft.unread.push(name),
        }
    }
    for (name, at, entry) in named("role", "[role.readonly]") {
        let Some(section) = entry.section("[role.readonly]") else { continue };
        let section = section.at(at);
        if let Some(first) = draft.roles.get(&name) {
            refuse_second("role", &name, &first.section, &section);
        }
        let value = role::read(&name, &section);
        draft.roles.entry(name).or_insert(Read { value, section });
    }
    let rules = root.get("access").map(|entry| entry.list("[[access]]")).unwrap_or_default();
    for entry in rules {
        let Some(section) = entry.section("[[access]]") else { continue };
        if let Some(value) = access::read(&section) {
            draft.access.push(Read { value, section });
        }
    }
}

fn refuse_second(kind: &str, name: &str, first: &Section<'_>, second: &Section<'_>) {
    let place = first.rule_ref().place.unwrap_or_default();
    second.problem(
        format!("{kind} \"{name}\" is there twice"),
        Some(format!("the first is at {place}; give one of them another name")),
    );
}

/// Whether it can be the name of a target or role: it travels in URLs and command lines.
fn check_name(kind: &str, name: &str, section: &Section<'_>) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(plain)
        && name.len() <= 63;
    if !fits {
        let hint = "use letters, digits, -, _ and ., at most 63 of them, a letter or digit first";
        section.problem(format!("\"{name}\" can't name a {kind}"), Some(hint.to_owned()));
    }
}

#[cfg(test)]
mod tests;
