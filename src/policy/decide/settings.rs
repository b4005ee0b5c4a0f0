//! Which settings a session may change.
//!
//! `settings.txt` says it of every setting that PostgreSQL 14 to 18 lets a session
//! change (those whose context is `user` or `superuser`), and of the names that SET has
//! of its own. A test holds the file to the version at hand, `tests/versions` to each. The
//! rule by which a setting is
//!
//! - `harmless`: it changes only how values are shown or read back, how long the session
//!   itself waits, how it plans, or who the client says it is. Everybody may change it;
//! - `checked`: some values of it are harmless, and everybody may set it to these;
//! - `never`: it changes who runs statements, how their text or names are read, what
//!   plans, errors or the log print, which code is loaded, where files lie, or what is
//!   checked. No role can open it;
//! - `open`: none of these, but what it costs others is for the role to say: it names it
//!   in `settings`, or all of them by `"*"`. So it is with an extension's own, which have a dot in their names.
//!
//! Any other name is refused: a later version's setting may be anything.

use std::{collections::HashMap, sync::LazyLock};

use crate::{
    policy::{Denied, Role, RuleRef},
    sql::{SettingUse, SettingValue},
};

/// How a setting stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) enum Standing {
    /// Everybody may change it.
    Harmless,
    /// Everybody may set it to some values.
    Checked,
    /// No role can open it.
    Never,
    /// A role can open it.
    Open,
    /// Nobody has looked at it.
    Unknown,
}

static SETTINGS: LazyLock<HashMap<&str, Standing>> = LazyLock::new(|| {
    let line = |line: &'static str| {
        let (name, standing) = line.split_once(": ").expect("a name and how it stands");
        let standing = match standing {
            "harmless" => Standing::Harmless,
            "checked" => Standing::Checked,
            "never" => Standing::Never,
            "open" => Standing::Open,
            other => panic!("{name} stands in no known way: {other}"),
        };
        (name, standing)
    };
    include_str!("settings.txt").lines().map(line).collect()
});

/// How the setting stands, whose name is given in lower case.
pub(in crate::policy) fn standing(name: &str) -> Standing {
    match SETTINGS.get(name) {
        Some(standing) => *standing,
        None if name.starts_with("log_") || name.starts_with("debug_") => Standing::Never,
        None if name.contains('.') => Standing::Open,
        None => Standing::Unknown,
    }
}

/// Refuses a setting that a client sends in its start-up, or stays silent where it may:
/// what SET may be told, under the same rules. `name` is in lower case.
pub fn refuse_at_startup(name: &str, value: &str, role: &Role) -> Option<Denied> {
    let setting = SettingUse {
        name: name.to_owned(),
        value: SettingValue::Constants(vec![value.to_owned()]),
    };
    // Nobody knows the session's path yet; and what only SET has is no setting.
    let known = !matches!(name, "search_path" | "*" | "names");
    if known {
        return refuse(&setting, role, &[]);
    }
    Some(Denied {
        rule: RuleRef { rule: "builtin.setting".to_owned(), place: None },
        reason: format!("the setting {name} can't be sent in the start-up"),
        hint: String::new(),
    })
}

/// Refuses a change, or stays silent where it may be made. `search_path` is the
/// session's own.
pub(super) fn refuse(setting: &SettingUse, role: &Role, search_path: &[String]) -> Option<Denied> {
    let name = setting.name.as_str();
    let values = match &setting.value {
        SettingValue::Constants(values) => values.as_slice(),
        SettingValue::Default | SettingValue::Parameter => &[],
    };
    // A parameter may be anything: none of the values that a setting is restricted to.
    let value = match values {
        [one] => Some(one.as_str()),
        _ => None,
    };
    let resets = setting.value == SettingValue::Default;
    let is = |words: &[&str]| {
        value.is_some_and(|value| words.iter().any(|word| value.eq_ignore_ascii_case(word)))
    };
    let (fits, only) = match name {
        // RESET ALL and resets in general lead back to what the session began with.
        "*" => (true, ""),
        _ if resets && !matches!(name, "role" | "session_authorization") => (true, ""),
        "client_encoding" | "names" => (is(&["UTF8", "UTF-8", "UNICODE"]), "UTF8"),
        "standard_conforming_strings" => (is(&["on", "true", "yes", "1"]), "on"),
        "search_path" => {
            // The effective path begins with what PostgreSQL searches unasked.
            // Another session's temporary schema is none of it; who can't create temporary
            // tables has none of their own.
            let temporary = |schema: &str| schema.starts_with("pg_temp_") && role.owner.is_some();
            let unasked = |schema: &&String| *schema != "pg_catalog" && !temporary(schema);
            let asked = values.iter().filter(unasked);
            let same = asked.eq(search_path.iter().filter(unasked));
            // Named anywhere but first, the catalog's own names come after others.
            let catalog_last = values.iter().skip(1).any(|schema| schema == "pg_catalog");
            let known = setting.value != SettingValue::Parameter;
            (known && same && !catalog_last, "the path that the session began with")
        }
        "client_min_messages" => (is(&["notice", "warning", "error"]), "notice, warning or error"),
        "statement_timeout" => {
            (timeout_fits(value, role), "something shorter than the role's limit")
        }
        "transaction_isolation"
        | "transaction_read_only"
        | "transaction_deferrable"
        | "default_transaction_isolation"
        | "default_transaction_deferrable" => (true, ""),
        "default_transaction_read_only" => (is(&["on", "true", "yes", "1"]), "on"),
        _ => match standing(name) {
            Standing::Harmless => (true, ""),
            Standing::Checked | Standing::Never => (false, "nothing"),
            Standing::Open if role.settings.iter().any(|open| open == name || open == "*") => {
                (true, "")
            }
            Standing::Open => {
                return Some(Denied {
                    rule: RuleRef { rule: "builtin.setting".to_owned(), place: None },
                    reason: format!("role {} may not change the setting {name}", role.name),
                    hint: format!("A role opens it with settings = [\"{name}\"]."),
                });
            }
            Standing::Unknown => {
                return Some(Denied {
                    rule: RuleRef { rule: "builtin.setting".to_owned(), place: None },
                    reason: format!("pgate doesn't know the setting {name}"),
                    hint: "It is none of PostgreSQL 14 to 18.".to_owned(),
                });
            }
        },
    };
    (!fits).then(|| Denied {
        rule: RuleRef { rule: "builtin.setting".to_owned(), place: None },
        reason: match only {
            "nothing" => format!("the setting {name} can't be changed through pgate"),
            only => format!("the setting {name} can only be set to {only} through pgate"),
        },
        hint: "pgate reads and masks statements under the settings that the session began with."
            .to_owned(),
    })
}

/// Whether a statement_timeout is no longer than the role's own.
fn timeout_fits(value: Option<&str>, role: &Role) -> bool {
    let Some(limit) = role.limits.statement_timeout_ms else { return true };
    let Some(text) = value.map(str::trim) else { return false };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return false,
    };
    let asked = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    // Zero means no limit at all.
    asked.is_some_and(|asked| asked > 0 && asked <= limit)
}
