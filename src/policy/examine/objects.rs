//! Relations that can't be masked as the policy says, or that run with others' rights.

use super::{Finding, Mend, Severity, Subject, Survey, View, named, quoted};
use crate::{
    policy::{
        MaskRule,
        compile::{Cover, has_rows_of_its_own},
        masking,
    },
    sql::{Action, RelationKind},
};

/// Masks that don't fit their column, or that need a row's identity where there is none.
pub(super) fn masks(
    view: &View<'_>,
    subject: &Subject<'_>,
    survey: Option<&Survey>,
    findings: &mut Vec<Finding>,
) {
    let role = &view.role.name;
    if let Err(error) = &view.compiled {
        for misfit in &error.misfits {
            findings.push(Finding {
                severity: Severity::Error,
                code: "mask-misfit",
                object: misfit.column.clone(),
                roles: vec![role.clone()],
                rule: Some(misfit.rule.clone()),
                problem: format!("{} ({}): {}", misfit.column, misfit.rule, misfit.error),
                why: format!("no session can be opened under role {role} until it is mended"),
                mend: vec![Mend::Policy(format!(
                    "[role.{role}] mask = [{{ columns = [\"{}\"], with = \"redact\" }}] before that rule",
                    misfit.column
                ))],
            });
        }
    }
    for (oid, columns) in &view.covers.columns {
        let Some(relation) = subject.catalog.relation(*oid) else { continue };
        let wanted = columns.iter().filter_map(|(number, cover)| match cover {
            Cover::Mask { kind, rule } if masking::reads_value(kind) => {
                Some((relation.column_by_number(*number)?, kind, rule))
            }
            Cover::Mask { .. } | Cover::Hidden { .. } => None,
        });
        let method = survey.and_then(|survey| survey.relations.get(oid)?.access_method.clone());
        let (shows, why) = if !has_rows_of_its_own(relation) {
            ("shows \"redact\"", "its rows have no identity by which a mask could find the value")
        } else if subject.has_foreign(relation) {
            ("may fail", "rows of its foreign partitions have no identity on this server")
        } else if method.is_some_and(|method| method != "heap") {
            ("may fail", "its access method may not find rows by their place (ctid)")
        } else {
            continue;
        };
        for (column, kind, rule) in wanted {
            // That a view shows less than its tables is as documented; a rule that names
            // the view's column meant it otherwise.
            let names = [relation.schema.as_str(), relation.name.as_str(), column.name.as_str()];
            let meant = |mask: &MaskRule| mask.columns.iter().any(|p| p.matches(&names));
            if !has_rows_of_its_own(relation) && !view.role.mask.iter().any(meant) {
                continue;
            }
            let object = format!("{}.{}", named(relation), column.name);
            let kind = masking::name(kind);
            findings.push(Finding {
                severity: Severity::Warning,
                code: "no-row-identity",
                problem: format!("{object} {shows} where {rule} says \"{kind}\""),
                why: why.to_owned(),
                mend: vec![Mend::Policy(format!(
                    "[role.{role}] mask = [{{ columns = [\"{object}\"], with = \"redact\" }}] before that rule"
                ))],
                object,
                roles: vec![role.clone()],
                rule: Some(rule.clone()),
            });
        }
    }
}

/// Tables of other servers that a role may use.
pub(super) fn foreign_tables(subject: &Subject<'_>, findings: &mut Vec<Finding>) {
    for relation in subject.relations() {
        if relation.kind != RelationKind::ForeignTable {
            continue;
        }
        let actions = [Action::Select, Action::Insert, Action::Update, Action::Delete];
        let used = subject
            .views
            .iter()
            .filter(|view| actions.iter().any(|action| view.may(*action, relation)));
        let roles = used.map(|view| view.role.name.clone()).collect::<Vec<_>>();
        if roles.is_empty() {
            continue;
        }
        let object = named(relation);
        let mend = |role: &String| {
            Mend::Policy(format!(
                "[role.{role}] deny = [{{ actions = [\"*\"], on = [\"{object}\"] }}]"
            ))
        };
        findings.push(Finding {
            severity: Severity::Warning,
            code: "foreign-table",
            mend: roles.iter().map(mend).collect(),
            problem: format!("{object} is a foreign table, and these roles may use it"),
            why:
                "what it shows comes from another server, with the rights of the user mapping there"
                    .to_owned(),
            object,
            roles,
            rule: None,
        });
    }
}

/// Views that run with a superuser's rights.
pub(super) fn superusers_views(
    subject: &Subject<'_>,
    survey: &Survey,
    findings: &mut Vec<Finding>,
) {
    for relation in subject.relations() {
        let Some(holding) = survey.relations.get(&relation.oid) else { continue };
        let runs_as_superuser = relation.kind == RelationKind::View
            && holding.owner_is_superuser
            && !holding.invoker_rights
            && !holding.of_extension;
        let readers = subject.views.iter().filter(|view| view.may(Action::Select, relation));
        let roles = readers.map(|view| view.role.name.clone()).collect::<Vec<_>>();
        if !runs_as_superuser || roles.is_empty() {
            continue;
        }
        let mut mend = vec![Mend::Sql(format!(
            "ALTER VIEW {} OWNER TO …; -- a role that may read only what the view shows",
            quoted(relation)
        ))];
        if subject.catalog.server_version_num() >= 150_000 {
            mend.push(Mend::Sql(format!(
                "ALTER VIEW {} SET (security_invoker = true);",
                quoted(relation)
            )));
        }
        let object = named(relation);
        findings.push(Finding {
            severity: Severity::Warning,
            code: "superuser-view",
            problem: format!("the view {object} belongs to the superuser {}", holding.owner),
            why: "its query reads with a superuser's rights, past privileges and row security"
                .to_owned(),
            mend,
            object,
            roles,
            rule: None,
        });
    }
}
