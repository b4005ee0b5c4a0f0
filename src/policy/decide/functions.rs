//! Which functions, operators and types a statement may use.
//!
//! PostgreSQL's own functions by a list that a documented rule makes from its
//! catalog (`safe_functions.sql`); anything else only where the role's
//! `functions` opens it.

use std::{collections::HashMap, sync::LazyLock};

use super::{Judge, builtin};
use crate::{
    policy::{Denied, Pattern, Role, standing::Object},
    sql::{Action, Catalog, Function, FunctionUse, Name, Oid, OperatorUse, TypeUse},
};

/// Who may call a function of PostgreSQL's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Safe {
    ForAll,
    /// It changes a sequence or takes a transaction number.
    ForWriters,
}

static SAFE: LazyLock<HashMap<&str, Safe>> = LazyLock::new(|| {
    include_str!("safe_functions.txt")
        .lines()
        .map(|line| match line.split_once(' ') {
            Some((name, _)) => (name, Safe::ForWriters),
            None => (line, Safe::ForAll),
        })
        .collect()
});

const HINT: &str = "A role opens it with functions = [\"schema.name\"], if it is harmless.";

impl Judge<'_> {
    pub(super) fn function(&self, call: &FunctionUse) -> Result<(), Denied> {
        let denied = |reason: String, hint: &str| {
            Err(Denied { rule: builtin("function"), reason, hint: hint.to_owned() })
        };
        let shown = shown(&call.name);
        if call.candidates.is_empty() && !call.builtin {
            // `t.c` may call the function `c`, or read a column of a transaction that is
            // still open. Who names an owner is the only one who can have made either.
            if self.role.owner.is_some() {
                return Ok(());
            }
            let reason = format!("the function {shown} is unknown to pgate");
            return denied(reason, "Check its name, its schema and the search path.");
        }
        for oid in &call.candidates {
            let function = self.catalog.functions(&call.name).find(|function| function.oid == *oid);
            let Some(function) = function else {
                let reason = format!("the function {shown} is unknown to pgate");
                return denied(reason, "Check its name, its schema and the search path.");
            };
            if function.schema == "pgate" {
                return denied(format!("the function {shown} is pgate's own"), "");
            }
            if !self.opens(function) {
                let (schema, name) = (&function.schema, &function.name);
                let reason = format!(
                    "role {} may not call the function {schema}.{name}, which is not PostgreSQL's own",
                    self.role.name
                );
                let hint = format!("A role opens it with functions = [\"{schema}.{name}\"].");
                return denied(reason, &hint);
            }
        }
        if !call.builtin {
            return Ok(());
        }
        // A pattern must say pg_catalog outright to open what is not on the list.
        let opened = self.role.functions.iter().any(|pattern| {
            pattern.to_string().starts_with("pg_catalog.")
                && pattern.matches(&["pg_catalog", &call.name.name])
        });
        match SAFE.get(call.name.name.as_str()) {
            Some(Safe::ForAll) => Ok(()),
            Some(Safe::ForWriters) if self.compiled.writes() => Ok(()),
            Some(Safe::ForWriters) => denied(
                format!("the function {shown} writes, and role {} only reads", self.role.name),
                "Ask for a role that may write: `pgate targets` lists them.",
            ),
            None if opened => Ok(()),
            None => denied(
                format!("the function {shown} is not among PostgreSQL's safe ones"),
                "It can reach files, other sessions, settings or data that no rule sees.",
            ),
        }
    }

    /// Whether the role's `functions` opens a function that isn't PostgreSQL's own.
    fn opens(&self, function: &Function) -> bool {
        let names = [function.schema.as_str(), function.name.as_str()];
        // The information schema's own functions only compute from their arguments and the catalog.
        let information = function.schema == "information_schema" && function.oid.0 < 16_384;
        information || self.role.functions.iter().any(|pattern| pattern.matches(&names))
    }

    pub(super) fn operator(&self, operator: &OperatorUse) -> Result<(), Denied> {
        if operator.builtin || self.opens_in_path(&operator.name, |_| true) {
            return Ok(());
        }
        Err(Denied {
            rule: builtin("operator"),
            reason: format!(
                "the operator {} may be one that is not PostgreSQL's own",
                shown(&operator.name)
            ),
            hint: HINT.to_owned(),
        })
    }

    pub(super) fn named_type(&self, named: &TypeUse) -> Result<(), Denied> {
        let foreign_in = |schema: &str| {
            let name = Name { schema: Some(schema.to_owned()), name: named.name.name.clone() };
            self.catalog.type_is_builtin(&name) == Some(false)
        };
        if named.builtin
            || self.opens_in_path(&named.name, foreign_in)
            || self.created_here(&named.name)
        {
            return Ok(());
        }
        Err(coded(&named.name))
    }

    /// Whether a type that the catalog doesn't have may be this session's own, of a
    /// transaction that is still open: where the role may create it.
    fn created_here(&self, name: &Name) -> bool {
        self.role.owner.is_some()
            && self.catalog.type_is_builtin(name).is_none()
            && self.schema_of_new(name).is_some_and(|schema| {
                self.role.may(Action::Ddl, Object::Relation(&schema, &name.name))
                    && self.role.may(Action::Ddl, Object::Everything)
            })
    }

    /// Whether `functions` opens this name in every schema in which it may be meant;
    /// at least one must be.
    fn opens_in_path(&self, name: &Name, may_be_in: impl Fn(&str) -> bool) -> bool {
        let opens = |schema: &str| {
            let opens = |pattern: &Pattern| pattern.matches(&[schema, &name.name]);
            self.role.functions.iter().any(opens)
        };
        match &name.schema {
            Some(schema) => opens(schema),
            None => {
                let mut schemas = self
                    .catalog
                    .search_path()
                    .iter()
                    .filter(|schema| *schema != "pg_catalog" && may_be_in(schema))
                    .peekable();
                schemas.peek().is_some() && schemas.all(|schema| opens(schema))
            }
        }
    }
}

/// Refuses a type that a Parse names by number for one of its parameters, where reading
/// the value runs code that the role may not run.
pub fn refuse_parameter(oid: Oid, role: &Role, catalog: &Catalog) -> Option<Denied> {
    let name = catalog.coded_type(oid)?;
    let parts = [name.schema.as_deref().unwrap_or_default(), name.name.as_str()];
    let open = role.functions.iter().any(|pattern| pattern.matches(&parts));
    (!open).then(|| coded(name))
}

fn coded(name: &Name) -> Denied {
    Denied {
        rule: builtin("type"),
        reason: format!(
            "the type {} is unknown, or its input runs code that is not PostgreSQL's own",
            shown(name)
        ),
        hint: HINT.to_owned(),
    }
}

/// `schema.name`, or the name alone.
pub(super) fn shown(name: &Name) -> String {
    match &name.schema {
        Some(schema) => format!("{schema}.{}", name.name),
        None => name.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_reaches_beyond_the_statement_is_on_the_list() {
        let doors = "pg_read_file pg_read_binary_file pg_ls_dir pg_stat_file pg_terminate_backend \
            pg_cancel_backend pg_reload_conf set_config setval lo_import lo_export lo_get lo_put \
            loread lowrite lo_create query_to_xml table_to_xml database_to_xml schema_to_xml \
            cursor_to_xml query_to_xml_and_xmlschema ts_stat ts_rewrite dblink dblink_exec \
            pg_notify pg_advisory_lock pg_try_advisory_lock pg_advisory_xact_lock_shared \
            pg_logical_slot_get_changes pg_create_logical_replication_slot pg_export_snapshot \
            currtid2 pg_current_logfile pg_stat_get_activity pg_stat_get_backend_activity \
            pg_lock_status pg_blocking_pids pg_prepared_statement pg_cursor pg_hba_file_rules \
            pg_show_all_file_settings pg_mcv_list_items pg_log_backend_memory_contexts \
            pg_get_backend_memory_contexts pg_switch_wal pg_promote pg_rotate_logfile \
            binary_upgrade_create_empty_extension pg_event_trigger_ddl_commands \
            pg_logical_emit_message pg_replication_origin_create pg_import_system_collations \
            brin_summarize_new_values gin_clean_pending_list pg_extension_config_dump \
            pg_relation_filepath pg_stat_reset current_query pg_extension_update_paths";
        for door in doors.split_whitespace() {
            assert_eq!(SAFE.get(door), None, "{door}");
        }
        for name in ["nextval", "currval", "lastval", "txid_current"] {
            assert_eq!(SAFE.get(name), Some(&Safe::ForWriters), "{name}");
        }
    }

    #[test]
    fn what_people_and_tools_call_is_on_the_list() {
        let used = "count sum avg min max lower upper length substr now date_trunc age  \
            to_char to_date json_agg jsonb_build_object array_agg string_agg row_number rank lag \
            generate_series unnest random gen_random_uuid md5 sha256 clock_timestamp version \
            current_database current_schema current_schemas current_setting pg_table_is_visible \
            format_type obj_description col_description shobj_description pg_get_expr \
            pg_get_indexdef pg_get_constraintdef pg_get_viewdef pg_get_functiondef \
            pg_get_triggerdef pg_get_userbyid pg_size_pretty pg_table_size pg_relation_size \
            pg_total_relation_size pg_encoding_to_char pg_is_in_recovery pg_backend_pid \
            has_table_privilege has_schema_privilege array_to_string pg_get_function_result \
            pg_get_function_arguments pg_get_partkeydef pg_get_ruledef pg_type_is_visible \
            pg_function_is_visible to_regclass pg_get_serial_sequence pg_sleep pg_partition_tree \
            pg_relation_is_publishable pg_get_statisticsobjdef_columns pg_get_replica_identity_index";
        for name in used.split_whitespace() {
            assert_eq!(SAFE.get(name), Some(&Safe::ForAll), "{name}");
        }
    }
}
