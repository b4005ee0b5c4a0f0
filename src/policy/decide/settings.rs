//! Which settings a session may change.
//!
//! Three groups: harmless ones that everybody may change (some only to certain
//! values), ones that no role can open, and the rest, which a role names in
//! `settings`, or opens as a whole there by `"*"`.

use crate::{
    policy::{Denied, Role, RuleRef},
    sql::{SettingUse, SettingValue},
};

/// Settings that no role can open: they change who runs statements, how text is
/// read, what errors and plans print, what code is loaded, or how names resolve.
const NEVER: [&str; 38] = [
    "allow_in_place_tablespaces",
    "allow_system_table_mods",
    "backslash_quote",
    "backtrace_functions",
    "client_encoding",
    "createrole_self_grant",
    "debug_pretty_print",
    "debug_print_parse",
    "debug_print_plan",
    "debug_print_rewritten",
    "default_tablespace",
    "default_transaction_read_only",
    "dynamic_library_path",
    "event_triggers",
    "exit_on_error",
    "ignore_checksum_failure",
    "ignore_system_indexes",
    "jit_debugging_support",
    "jit_dump_bitcode",
    "jit_provider",
    "lo_compat_privileges",
    "local_preload_libraries",
    "names",
    "restrict_nonsystem_relation_kind",
    "role",
    "row_security",
    "search_path",
    "seed",
    "session_authorization",
    "session_preload_libraries",
    "session_replication_role",
    "standard_conforming_strings",
    "synchronize_seqscans",
    "temp_tablespaces",
    "track_activities",
    "transaction_snapshot",
    "transform_null_equals",
    "zero_damaged_pages",
];

/// Settings that change only how values are shown, how long things wait, or who
/// the client says it is.
const HARMLESS: [&str; 18] = [
    "application_name",
    "datestyle",
    "timezone",
    "time zone",
    "intervalstyle",
    "extra_float_digits",
    "bytea_output",
    "xmlbinary",
    "xmloption",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "array_nulls",
    "jit",
    "plan_cache_mode",
];

/// Whether no role may open the setting, which is given in lower case.
pub(in crate::policy) fn is_never(name: &str) -> bool {
    NEVER.contains(&name) || name.starts_with("log_") || name.starts_with("debug_")
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
            let unasked =
                |schema: &&String| *schema != "pg_catalog" && !schema.starts_with("pg_temp_");
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
        _ if HARMLESS.contains(&name) => (true, ""),
        _ if is_never(name) => (false, "nothing"),
        _ if role.settings.iter().any(|open| open == name || open == "*") => (true, ""),
        _ => {
            return Some(Denied {
                rule: RuleRef { rule: "builtin.setting".to_owned(), place: None },
                reason: format!("role {} may not change the setting {name}", role.name),
                hint: format!("A role opens it with settings = [\"{name}\"]."),
            });
        }
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
