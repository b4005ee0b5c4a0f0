//! The rules as types. What a policy file says is parsed into these once; no
//! part of pgate matches policy strings after that.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};
use url::Url;

use super::{Condition, PolicyError, RuleRef, Window};
use crate::{grant::Identity, sql::Action};

/// Everything that a folder of policy files says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    /// Targets by name.
    pub targets: BTreeMap<String, Target>,
    /// Roles by name.
    pub roles: BTreeMap<String, Role>,
    /// Access rules in the order of the files (by name) and of their lines.
    pub access: Vec<Access>,
    /// What is not wrong, but worth a look.
    pub warnings: Vec<PolicyError>,
}

/// A database that the control plane knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Where it is: `postgres://host:port/database?sslmode=…`, without user or password.
    pub url: Url,
    /// The same at each further host that it names, in the order in which they are tried.
    pub further: Vec<Url>,
    /// How sessions get a database role there.
    pub credential: Credential,
}

/// How sessions get a database role.
#[derive(Debug, Clone, PartialEq)]
pub enum Credential {
    /// A role for each session, made through an administrator's connection.
    Ephemeral {
        /// The administrator's connection URL, with user and password.
        admin_url: SecretRef,
    },
    /// One role for all sessions; masking then rests on the proxy alone.
    Static {
        /// Its name.
        user: String,
        /// Its password; none where it logs in by the URL's client certificate alone.
        password: Option<SecretRef>,
    },
}

/// Where a secret is to be found. Policy files never hold one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// `env:NAME`: an environment variable of the control plane.
    Env(String),
    /// `file:PATH`: a file, its trailing line break removed; relative to the policy folder.
    File(PathBuf),
}

/// A role: what may be done, what is masked, what is held, the limits. This is
/// the document that the control plane sends to the proxy, whose SHA-256 the
/// signed grant carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// What it is for, in one line.
    #[serde(default)]
    pub about: String,
    /// The targets that it can be asked for on.
    pub targets: Vec<String>,
    /// How long a grant lasts when the request doesn't say, in seconds.
    pub ttl_seconds: u64,
    /// The longest grant, in seconds.
    pub max_ttl_seconds: u64,
    /// What happens to comparisons on masked columns.
    pub predicates: Predicates,
    /// Masked columns whose raw value may be compared with `=` and `IN`.
    pub lookup: Vec<Pattern>,
    /// What is allowed.
    pub allow: Vec<Rule>,
    /// What is held for a reviewer, though allowed.
    pub hold: Vec<Rule>,
    /// What is denied, whatever else is allowed.
    pub deny: Vec<Rule>,
    /// What is masked. The first rule that fits a column counts.
    pub mask: Vec<MaskRule>,
    /// Columns without any privilege.
    pub hide: Vec<Pattern>,
    /// The limits.
    pub limits: Limits,
    /// Functions that aren't PostgreSQL's own safe ones and may be called (`schema.name`, `schema.*`).
    pub functions: Vec<Pattern>,
    /// Settings that may be changed, beyond the harmless ones.
    pub settings: Vec<String>,
    /// Channels that LISTEN and NOTIFY may name, exactly as the catalog would have them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// Whom objects belong to that the role creates.
    pub owner: Option<String>,
    /// What the session log holds.
    pub record: Record,
    /// When a statement counts as recorded.
    pub audit: Audit,
    /// Value detectors on results.
    pub detect: Vec<Detector>,
    /// The search path of the session; empty means the target's own default.
    pub search_path: Vec<String>,
}

/// One rule of `allow`, `hold` or `deny`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Where it stands: what verdicts, errors and logs name.
    pub source: RuleRef,
    /// The actions; `None` means `*`, all of them.
    pub actions: Option<Vec<Action>>,
    /// The relations (`schema.table`); empty means everything, relation or not.
    pub on: Vec<Pattern>,
    /// The columns written (`schema.table.column`); empty means all, and the row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<Pattern>,
    /// A condition on the rows.
    pub when: Option<Condition>,
    /// When it counts; `None` means always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Who may approve, for a `hold` rule.
    pub reviewers: Option<Reviewers>,
    /// How long a statement waits for them, in seconds, for a `hold` rule.
    pub timeout_seconds: Option<u64>,
    /// Why, shown to whoever meets the rule.
    pub reason: Option<String>,
}

/// One mask rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskRule {
    /// Where it stands.
    pub source: RuleRef,
    /// The columns (`schema.table.column`).
    pub columns: Vec<Pattern>,
    /// The mask.
    pub with: MaskKind,
}

/// How a value is masked (DESIGN, masking item 9). A masked value is valid for its type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskKind {
    /// A typed constant: `[redacted]` where it fits, else the type's neutral value.
    Redact,
    /// NULL.
    Null,
    /// Zero, the empty text, the empty array or object, 1970-01-01.
    Zero,
    /// A keyed hash, per target: equal values stay equal.
    Hash,
    /// `a***@example.com`.
    Email,
    /// All but the last four characters replaced by `*`.
    Last4,
    /// All but the first and last characters replaced by `*`.
    Partial {
        /// Characters kept at the start.
        prefix: u32,
        /// Characters kept at the end.
        suffix: u32,
    },
    /// The first of January of the same year.
    Year,
    /// Rounded down to a multiple of this number, at least 1.
    Bucket(u64),
    /// This text, cast to the column's type.
    Fixed(String),
}

/// What happens to comparisons on masked columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Predicates {
    /// Refused with a clear message.
    #[default]
    Deny,
    /// They run, and see the mask.
    Masked,
}

/// What the session log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// Statements and their outcomes.
    #[default]
    Statements,
    /// The rows too, as the client saw them, capped.
    Results,
}

/// When a statement counts as recorded, and may be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audit {
    /// Once its line is in the spool file on this machine.
    #[default]
    Spool,
    /// Once the control plane has received it.
    Strict,
}

/// A detector of personal data by value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detector {
    /// E-mail addresses.
    Email,
    /// Payment card numbers with a valid check digit.
    Card,
    /// International bank account numbers with valid check digits.
    Iban,
    /// Telephone numbers in international form.
    Phone,
    /// United States social security numbers.
    Ssn,
}

impl Detector {
    /// What a policy file calls it.
    pub fn name(self) -> &'static str {
        match self {
            Detector::Email => "email",
            Detector::Card => "card",
            Detector::Iban => "iban",
            Detector::Phone => "phone",
            Detector::Ssn => "ssn",
        }
    }
}

/// The limits of a session.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Rows that one statement may return.
    pub rows: Option<u64>,
    /// Bytes of rows that one statement may return, as they go over the wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Statements that a session may run in a minute, on all of its connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statements_per_minute: Option<u32>,
    /// Milliseconds that one statement may take.
    pub statement_timeout_ms: Option<u64>,
    /// Client connections at a time.
    pub connections: Option<u32>,
    /// Values that may be looked up in masked columns in a minute.
    #[serde(default)]
    pub lookups: Option<u32>,
}

/// A pattern over `schema.table`, `schema.table.column`, or `schema.function`:
/// names in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    parts: Vec<String>,
}

/// A pattern that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a pattern: write schema.table or schema.table.column, with * for any name")]
pub struct PatternError(String);

impl Pattern {
    /// The number of parts: 2 for relations and functions, 3 for columns; `*`
    /// alone is one part and matches everything.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Never true: a pattern has at least one part.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Its parts, in each of which `*` stands for any characters.
    pub(super) fn parts(&self) -> &[String] {
        &self.parts
    }

    /// Whether it can match one name only.
    pub fn is_exact(&self) -> bool {
        !self.parts.iter().any(|part| part.contains('*'))
    }

    /// Whether every part matches the name in the same place. Names are exact
    /// (as in the catalog): nothing is folded. `*` alone matches everything.
    pub fn matches(&self, names: &[&str]) -> bool {
        if self.parts.len() == 1 && self.parts[0] == "*" {
            return true;
        }
        self.parts.len() == names.len()
            && self.parts.iter().zip(names).all(|(part, name)| glob(part, name))
    }
}

/// Whether `name` matches `part`, in which `*` stands for any run of characters.
fn glob(part: &str, name: &str) -> bool {
    let Some((first, rest)) = part.split_once('*') else { return part == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let mut pieces = rest.split('*').collect::<Vec<_>>();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match name.find(piece) {
            Some(at) => name = &name[at + piece.len()..],
            None => return false,
        }
    }
    name.ends_with(last)
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let parts = text.split('.').map(str::to_owned).collect::<Vec<_>>();
        let fits = match parts.as_slice() {
            [one] => one == "*",
            [_, _] | [_, _, _] => {
                parts.iter().all(|part| !part.is_empty() && !part.contains(char::is_whitespace))
            }
            _ => false,
        };
        if fits { Ok(Self { parts }) } else { Err(PatternError(text.to_owned())) }
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.to_string()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parts.join("."))
    }
}

/// How long a held statement waits where its rule doesn't say, in seconds.
pub const HOLD_SECONDS: u64 = 600;

impl Rule {
    /// How long a statement that it holds waits for a reviewer, in seconds.
    pub fn hold_seconds(&self) -> u64 {
        self.timeout_seconds.unwrap_or(HOLD_SECONDS)
    }
}

/// Who may approve.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reviewers {
    /// Members of this group (`group:dba`).
    Group(String),
    /// This person, by e-mail address or subject (`user:ana@example.com`).
    User(String),
}

impl Reviewers {
    /// Whether this identity is among them.
    pub fn include(&self, identity: &Identity) -> bool {
        match self {
            Reviewers::Group(group) => identity.groups.contains(group),
            Reviewers::User(user) => {
                identity.email.as_ref() == Some(user) || identity.subject == *user
            }
        }
    }
}

/// As a policy writes them: `group:dba`.
impl fmt::Display for Reviewers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reviewers::Group(group) => write!(f, "group:{group}"),
            Reviewers::User(user) => write!(f, "user:{user}"),
        }
    }
}

/// An access rule: who may ask for which role on which target, and how it is approved.
#[derive(Debug, Clone, PartialEq)]
pub struct Access {
    /// Where it stands.
    pub source: RuleRef,
    /// Whom it is for.
    pub who: Who,
    /// The role.
    pub role: String,
    /// The target.
    pub target: String,
    /// How a request is approved.
    pub approval: AccessApproval,
    /// The longest grant under this rule, in seconds, where shorter than the role's.
    pub max_ttl_seconds: Option<u64>,
}

/// Conditions on an identity; all that are given must hold, and one must be given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Who {
    /// Member of this group.
    pub group: Option<String>,
    /// This e-mail address or subject.
    pub user: Option<String>,
    /// From this issuer, by its name in the configuration.
    pub issuer: Option<String>,
    /// Claims with exactly these values (`repository`, `ref`, …).
    pub claims: BTreeMap<String, String>,
}

impl Who {
    /// Whether every given condition holds; never true where none is given.
    pub fn matches(&self, identity: &Identity) -> bool {
        let Self { group, user, issuer, claims } = self;
        let given = group.is_some() || user.is_some() || issuer.is_some() || !claims.is_empty();
        given
            && group.as_ref().is_none_or(|group| identity.groups.contains(group))
            && user.as_ref().is_none_or(|user| {
                identity.email.as_ref() == Some(user) || identity.subject == *user
            })
            && issuer.as_ref().is_none_or(|issuer| identity.issuer == *issuer)
            && claims.iter().all(|(key, value)| identity.claims.get(key) == Some(value))
    }
}

/// How a request for a grant is approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessApproval {
    /// At once, by the policy.
    Auto,
    /// By so many different reviewers, never the requester.
    Reviewers {
        /// Who may.
        reviewers: Reviewers,
        /// How many, at least 1.
        count: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_of_one_name() {
        let cases = [
            ("shop.*", "shop.customers", true),
            ("shop.*", "crm.customers", false),
            ("shop.*", "shop.customers.email", false),
            ("*.*.card_number", "shop.payments.card_number", true),
            ("*.*.card_number", "shop.payments.card_number_old", false),
            ("shop.order*", "shop.orders_2026", true),
            ("shop.*_log", "shop.audit_log", true),
            ("shop.a*b*c", "shop.a1b2c", true),
            ("shop.a*b*c", "shop.acb", false),
            ("shop.ab*ba", "shop.aba", false),
            ("*", "shop.customers", true),
        ];
        for (pattern, name, expected) in cases {
            let names = name.split('.').collect::<Vec<_>>();
            assert_eq!(
                pattern.parse::<Pattern>().unwrap().matches(&names),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn a_pattern_of_another_shape_is_refused() {
        for text in ["", "customers", "a.", ".b", "a.b.c.d", "a. b"] {
            assert!(text.parse::<Pattern>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_rule_that_names_nobody_matches_nobody() {
        let ana = Identity {
            issuer: "corp".into(),
            subject: "ana".into(),
            email: None,
            groups: vec!["dba".into()],
            claims: BTreeMap::new(),
        };
        assert!(!Who::default().matches(&ana));
        assert!(Who { group: Some("dba".into()), ..Who::default() }.matches(&ana));
        let other =
            Who { group: Some("dba".into()), issuer: Some("github".into()), ..Who::default() };
        assert!(!other.matches(&ana));
    }
}
