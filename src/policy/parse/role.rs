//! `[role.NAME]`: what may be done, what is masked, what is held, the limits.

use super::{
    check_name, condition,
    reader::{Entry, Section},
};
use crate::{
    policy::{
        Audit, Detector, Limits, MaskKind, MaskRule, Pattern, Predicates, Record, Reviewers, Role,
        Rule, decide::settings,
    },
    sql::Action,
};

const KEYS: [&str; 20] = [
    "about",
    "targets",
    "ttl",
    "max_ttl",
    "predicates",
    "lookup",
    "allow",
    "hold",
    "deny",
    "mask",
    "hide",
    "limits",
    "functions",
    "settings",
    "channels",
    "owner",
    "record",
    "audit",
    "detect",
    "search_path",
];

/// The lifetime of a grant where the policy says nothing.
const TTL_SECONDS: u64 = 3_600;
/// The longest wait of a held statement.
const LONGEST_HOLD_SECONDS: u64 = 24 * 3_600;

const ACTIONS: [(&str, Option<Action>); 18] = [
    ("select", Some(Action::Select)),
    ("insert", Some(Action::Insert)),
    ("update", Some(Action::Update)),
    ("delete", Some(Action::Delete)),
    ("truncate", Some(Action::Truncate)),
    ("merge", Some(Action::Merge)),
    ("copy", Some(Action::Copy)),
    ("call", Some(Action::Call)),
    ("ddl", Some(Action::Ddl)),
    ("create", Some(Action::Create)),
    ("alter", Some(Action::Alter)),
    ("drop", Some(Action::Drop)),
    ("grant", Some(Action::Grant)),
    ("comment", Some(Action::Comment)),
    ("maintain", Some(Action::Maintain)),
    ("explain", Some(Action::Explain)),
    ("set", Some(Action::Set)),
    ("*", None),
];

/// Reads a role. What can't be read is noted and left out: the policy as a whole
/// is refused then, so nothing is ever decided by such a role.
pub(super) fn read(name: &str, section: &Section<'_>) -> Role {
    check_name("role", name, section);
    section.refuse_others(&KEYS);
    let (ttl_seconds, max_ttl_seconds) = lifetimes(section);
    let text =
        |key: &str| section.get(key).and_then(|entry| entry.text("\"…\"")).map(str::to_owned);
    let rules = |key: &str, kind: RuleKind| {
        let example = "[{ actions = [\"select\"], on = [\"shop.*\"] }]";
        let entries = section.get(key).map(|entry| entry.list(example)).unwrap_or_default();
        entries.iter().filter_map(|entry| rule(entry, kind)).collect::<Vec<_>>()
    };
    let targets = match section.require("targets", "for example targets = [\"prod-db\"]") {
        Some(entry) => texts(&entry, "[\"prod-db\"]"),
        None => Vec::new(),
    };
    let allow = rules("allow", RuleKind::Allow);
    if allow.is_empty() && section.get("allow").is_none_or(|entry| entry.is_empty_list()) {
        section.warn(
            format!("role \"{name}\" allows nothing"),
            Some("add allow = [{ actions = [\"select\"], on = [\"schema.*\"] }]".to_owned()),
        );
    }
    Role {
        name: name.to_owned(),
        about: text("about").unwrap_or_default(),
        targets,
        ttl_seconds,
        max_ttl_seconds,
        predicates: section
            .get("predicates")
            .and_then(|entry| {
                entry.word(&[("deny", Predicates::Deny), ("masked", Predicates::Masked)])
            })
            .unwrap_or_default(),
        lookup: section.get("lookup").map(|e| patterns(&e, Of::Column)).unwrap_or_default(),
        allow,
        hold: rules("hold", RuleKind::Hold),
        deny: rules("deny", RuleKind::Deny),
        mask: section
            .get("mask")
            .map(|entry| entry.list("[{ columns = [\"shop.customers.email\"], with = \"email\" }]"))
            .unwrap_or_default()
            .iter()
            .filter_map(mask_rule)
            .collect(),
        hide: section.get("hide").map(|e| patterns(&e, Of::Column)).unwrap_or_default(),
        limits: section.get("limits").map(|entry| limits(&entry)).unwrap_or_default(),
        functions: section.get("functions").map(|e| patterns(&e, Of::Function)).unwrap_or_default(),
        settings: section.get("settings").map(|e| setting_names(&e)).unwrap_or_default(),
        channels: section.get("channels").map(|e| channels(&e, section)).unwrap_or_default(),
        owner: owner(section),
        record: record(section),
        audit: audit(section),
        detect: section.get("detect").map(|entry| detectors(&entry)).unwrap_or_default(),
        search_path: section
            .get("search_path")
            .map(|entry| search_path(&entry))
            .unwrap_or_default(),
    }
}

fn lifetimes(section: &Section<'_>) -> (u64, u64) {
    let read = |key: &str| section.get(key).and_then(|entry| entry.duration_seconds());
    let (ttl, max_ttl) = (read("ttl"), read("max_ttl"));
    let (ttl, max_ttl) = match (ttl, max_ttl) {
        (Some(ttl), Some(max_ttl)) => (ttl, max_ttl),
        (Some(ttl), None) => (ttl, ttl),
        (None, Some(max_ttl)) => (TTL_SECONDS.min(max_ttl), max_ttl),
        (None, None) => (TTL_SECONDS, TTL_SECONDS),
    };
    if ttl > max_ttl
        && let Some(entry) = section.get("ttl")
    {
        let hint = "make ttl at most as long as max_ttl".to_owned();
        entry.problem(format!("`{}` is longer than max_ttl", entry.path), Some(hint));
    }
    (ttl, max_ttl)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RuleKind {
    Allow,
    Hold,
    Deny,
}

fn rule(entry: &Entry<'_>, kind: RuleKind) -> Option<Rule> {
    let section = entry.section("{ actions = [\"select\"], on = [\"shop.*\"] }")?;
    let known: &[&str] = match kind {
        RuleKind::Allow => &["actions", "on", "columns", "between", "days", "zone", "reason"],
        RuleKind::Hold => &[
            "actions",
            "on",
            "columns",
            "when",
            "between",
            "days",
            "zone",
            "reviewers",
            "timeout",
            "reason",
        ],
        RuleKind::Deny => {
            &["actions", "on", "columns", "when", "between", "days", "zone", "reason"]
        }
    };
    section.refuse_others(known);
    let actions = section
        .require("actions", "for example actions = [\"select\"]")
        .and_then(|entry| actions(&entry));
    let on = section.get("on").map(|entry| {
        let on = patterns(&entry, Of::Relation);
        if entry.is_empty_list() {
            let hint = "name relations, or leave `on` out for everything".to_owned();
            entry.problem(format!("`{}` names nothing", entry.path), Some(hint));
        }
        on
    });
    let reviewers = match kind {
        RuleKind::Hold => section
            .require("reviewers", "for example reviewers = \"group:dba\"")
            .and_then(|entry| reviewers(&entry)),
        RuleKind::Allow | RuleKind::Deny => None,
    };
    let timeout_seconds = match kind {
        RuleKind::Hold => section.get("timeout").and_then(|entry| hold_timeout(&entry)),
        RuleKind::Allow | RuleKind::Deny => None,
    };
    let named = actions.as_ref().map(|actions| actions.as_deref());
    let when = section.get("when").and_then(|entry| condition::when(&entry, named));
    let columns = section.get("columns").map(|entry| {
        condition::about_writes(&entry, named);
        let columns = patterns(&entry, Of::Column);
        if entry.is_empty_list() {
            let hint = "name columns, or leave `columns` out for whole rows".to_owned();
            entry.problem(format!("`{}` names nothing", entry.path), Some(hint));
        }
        columns
    });
    let window = condition::window(&section);
    let reason = section.get("reason").and_then(|entry| entry.text("\"secrets\""));
    Some(Rule {
        source: entry.rule_ref(),
        actions: actions?,
        on: on.unwrap_or_default(),
        columns: columns.unwrap_or_default(),
        when,
        window,
        reviewers,
        timeout_seconds,
        reason: reason.map(str::to_owned),
    })
}

/// A wait keeps a transaction open: it is at most a day.
fn hold_timeout(entry: &Entry<'_>) -> Option<u64> {
    let seconds = entry.duration_seconds()?;
    if seconds > LONGEST_HOLD_SECONDS {
        let hint = "at most 24h: the statement's transaction stays open while it waits";
        entry.problem(format!("`{}` is too long", entry.path), Some(hint.to_owned()));
        return None;
    }
    Some(seconds)
}

/// `Some(None)` is `*`.
fn actions(entry: &Entry<'_>) -> Option<Option<Vec<Action>>> {
    let words = entry.list("[\"select\"]");
    if words.is_empty() {
        entry.problem(format!("`{}` names no action", entry.path), None);
        return None;
    }
    let read = words.iter().map(|word| word.word(&ACTIONS)).collect::<Option<Vec<_>>>()?;
    Some(read.into_iter().collect())
}

/// What a pattern is for, and so how many parts it must have.
#[derive(Clone, Copy)]
enum Of {
    Relation,
    Column,
    Function,
}

fn patterns(entry: &Entry<'_>, of: Of) -> Vec<Pattern> {
    let example = match of {
        Of::Relation => "[\"shop.*\"]",
        Of::Column => "[\"shop.customers.email\"]",
        Of::Function => "[\"shop.f\"]",
    };
    entry.list(example).iter().filter_map(|entry| pattern(entry, of)).collect()
}

fn pattern(entry: &Entry<'_>, of: Of) -> Option<Pattern> {
    let text = entry.text("\"shop.*\"")?;
    let (parts, shape) = match of {
        Of::Relation => (2, "schema.table"),
        Of::Column => (3, "schema.table.column"),
        Of::Function => (2, "schema.function"),
    };
    let pattern = text.parse::<Pattern>().ok().filter(|pattern| {
        pattern.len() == parts || (pattern.len() == 1 && matches!(of, Of::Relation))
    });
    if pattern.is_none() {
        entry.problem(
            format!("\"{text}\" is not a pattern that fits `{}`", entry.path),
            Some(format!("write {shape}, with * for any name")),
        );
    }
    pattern
}

fn texts(entry: &Entry<'_>, example: &str) -> Vec<String> {
    let entries = entry.list(example);
    if entries.is_empty() {
        entry.problem(format!("`{}` is empty", entry.path), Some(format!("for example {example}")));
    }
    entries.iter().filter_map(|entry| entry.text("\"…\"")).map(str::to_owned).collect()
}

fn mask_rule(entry: &Entry<'_>) -> Option<MaskRule> {
    let section = entry.section("{ columns = [\"shop.customers.email\"], with = \"email\" }")?;
    section.refuse_others(&["columns", "with"]);
    let columns = section
        .require("columns", "for example columns = [\"shop.customers.email\"]")
        .map(|entry| {
            let columns = patterns(&entry, Of::Column);
            if entry.is_empty_list() {
                entry.problem(format!("`{}` names no column", entry.path), None);
            }
            columns
        });
    let with =
        section.require("with", "for example with = \"email\"").and_then(|entry| mask_kind(&entry));
    Some(MaskRule { source: entry.rule_ref(), columns: columns?, with: with? })
}

fn mask_kind(entry: &Entry<'_>) -> Option<MaskKind> {
    const TABLES: [(&str, &str); 3] = [
        ("partial", "with = { partial = { prefix = 1, suffix = 2 } }"),
        ("bucket", "with = { bucket = 10 }"),
        ("fixed", "with = { fixed = \"…\" }"),
    ];
    if let Some(word) = entry.as_text() {
        if let Some((_, example)) = TABLES.iter().find(|(name, _)| *name == word) {
            let message = format!("the mask \"{word}\" needs more than its name");
            entry.problem(message, Some(format!("write {example}")));
            return None;
        }
        let plain = [
            MaskKind::Redact,
            MaskKind::Null,
            MaskKind::Zero,
            MaskKind::Hash,
            MaskKind::Email,
            MaskKind::Last4,
            MaskKind::Year,
        ];
        let names = ["redact", "null", "zero", "hash", "email", "last4", "year"];
        let words = names.into_iter().zip(0..).collect::<Vec<(&str, usize)>>();
        return entry.word(&words).and_then(|index| plain.get(index).cloned());
    }
    let section = entry.section("with = \"email\" or with = { bucket = 10 }")?;
    section.refuse_others(&["partial", "bucket", "fixed"]);
    let mut kinds = section.entries();
    let (Some((key, _, value)), None) = (kinds.next(), kinds.next()) else {
        section.problem(format!("`{}` must name exactly one mask", entry.path), None);
        return None;
    };
    match key.as_str() {
        "partial" => {
            let section = value.section("{ partial = { prefix = 1, suffix = 2 } }")?;
            section.refuse_others(&["prefix", "suffix"]);
            let kept = |key: &str| match section.get(key) {
                Some(entry) => entry.natural::<u32>(),
                None => Some(0),
            };
            let (prefix, suffix) = (kept("prefix"), kept("suffix"));
            Some(MaskKind::Partial { prefix: prefix?, suffix: suffix? })
        }
        "bucket" => value.positive::<u64>().map(MaskKind::Bucket),
        "fixed" => value.text("\"…\"").map(|text| MaskKind::Fixed(text.to_owned())),
        _ => None,
    }
}

fn limits(entry: &Entry<'_>) -> Limits {
    let Some(section) = entry.section("limits = { rows = 10000 }") else {
        return Limits::default();
    };
    section.refuse_others(&[
        "rows",
        "bytes",
        "statement_timeout",
        "statements_per_minute",
        "connections",
        "lookups",
    ]);
    let statement_timeout_ms = section.get("statement_timeout").and_then(|entry| {
        let ms = entry.duration_ms()?;
        if i32::try_from(ms).is_err() {
            let message = format!("`{}` is longer than PostgreSQL can count", entry.path);
            entry.problem(message, Some("use at most 24d".to_owned()));
        }
        Some(ms)
    });
    Limits {
        rows: section.get("rows").and_then(|entry| entry.positive()),
        bytes: section.get("bytes").and_then(|entry| condition::bytes(&entry)),
        statements_per_minute: section
            .get("statements_per_minute")
            .and_then(|entry| entry.positive()),
        statement_timeout_ms,
        connections: section.get("connections").and_then(|entry| entry.positive()),
        lookups: section.get("lookups").and_then(|entry| entry.positive()),
    }
}

/// `group:dba` or `user:ana@example.com`.
pub(super) fn reviewers(entry: &Entry<'_>) -> Option<Reviewers> {
    let found = match entry.text("\"group:dba\"")?.split_once(':') {
        Some(("group", name)) if !name.is_empty() => Some(Reviewers::Group(name.to_owned())),
        Some(("user", name)) if !name.is_empty() => Some(Reviewers::User(name.to_owned())),
        _ => None,
    };
    if found.is_none() {
        entry.problem(
            format!("`{}` names no reviewer", entry.path),
            Some("write \"group:NAME\" or \"user:EMAIL\"".to_owned()),
        );
    }
    found
}

fn setting_names(entry: &Entry<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for entry in entry.list("[\"work_mem\"]") {
        let Some(text) = entry.text("\"work_mem\"") else { continue };
        let name = text.to_lowercase();
        let standing = settings::standing(&name);
        if name == "*" {
            // All but those that no role opens.
        } else if standing == settings::Standing::Never {
            entry.problem(
                format!("no role may open the setting \"{name}\""),
                Some("it would change who runs statements, how they are read, or what leaks from them".to_owned()),
            );
        } else if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
            || name.is_empty()
        {
            entry.problem(format!("`{}` is not the name of a setting", entry.path), None);
        } else if standing == settings::Standing::Unknown {
            entry.problem(
                format!("\"{name}\" is no setting of PostgreSQL 14 to 18"),
                Some("those of extensions have a dot in their names".to_owned()),
            );
        }
        names.push(name);
    }
    names
}

/// Names of channels. What others put into them isn't looked through for personal data,
/// so a role that wants that done can't have any.
fn channels(entry: &Entry<'_>, role: &Section<'_>) -> Vec<String> {
    if role.get("detect").is_some() {
        entry.problem(
            format!("`{}` can't stand beside `detect`", entry.path),
            Some("what notifications carry isn't looked through; leave one of them out".to_owned()),
        );
    }
    let example = "[\"orders_changed\"]";
    let entries = entry.list(example);
    entries.iter().filter_map(|entry| object_name(entry, "\"orders_changed\"")).collect()
}

/// The name of a database object, as the catalog has it.
fn object_name(entry: &Entry<'_>, example: &str) -> Option<String> {
    let text = entry.text(example)?;
    if text.is_empty() || text.len() > 63 || text.contains('\0') {
        entry.problem(format!("`{}` is not a name in PostgreSQL", entry.path), None);
        return None;
    }
    Some(text.to_owned())
}

fn search_path(entry: &Entry<'_>) -> Vec<String> {
    let schemas = entry.list("[\"shop\"]");
    schemas
        .iter()
        .filter_map(|entry| {
            let name = object_name(entry, "\"shop\"")?;
            if name.starts_with("pg_temp") || name.starts_with('$') {
                let hint = "name schemas that are there for everybody".to_owned();
                entry
                    .problem(format!("\"{name}\" can't stand in a pinned search path"), Some(hint));
            }
            Some(name)
        })
        .collect()
}

fn owner(section: &Section<'_>) -> Option<String> {
    let entry = section.get("owner")?;
    let name = object_name(&entry, "\"app_owner\"")?;
    if name.starts_with("pg_") || name.starts_with("pgate") || name == "none" || name == "public" {
        entry.problem(format!("objects can't be made to belong to \"{name}\""), None);
    }
    Some(name)
}

fn record(section: &Section<'_>) -> Record {
    let Some(entry) = section.get("record") else { return Record::default() };
    let words = [("statements", Record::Statements), ("results", Record::Results)];
    entry.word(&words).unwrap_or_default()
}

fn audit(section: &Section<'_>) -> Audit {
    let Some(entry) = section.get("audit") else { return Audit::default() };
    entry.word(&[("spool", Audit::Spool), ("strict", Audit::Strict)]).unwrap_or_default()
}

fn detectors(entry: &Entry<'_>) -> Vec<Detector> {
    let words = [
        ("email", Detector::Email),
        ("card", Detector::Card),
        ("iban", Detector::Iban),
        ("phone", Detector::Phone),
        ("ssn", Detector::Ssn),
    ];
    entry.list("[\"email\"]").iter().filter_map(|entry| entry.word(&words)).collect()
}
