//! Rules about things that aren't there: a mask with a typing error masks nothing.

use super::{Finding, Mend, Severity, Subject, Survey, View};
use crate::{
    policy::{Credential, Pattern, RuleRef, compile::is_system, parse::nearest},
    sql::{Action, Relation, quote_identifier},
};

/// What a pattern is in.
struct Named<'a> {
    rule: RuleRef,
    pattern: &'a Pattern,
    /// Whether it takes something away: then it must not miss.
    protects: bool,
}

pub(super) fn rules(view: &View<'_>, subject: &Subject<'_>, findings: &mut Vec<Finding>) {
    let role = view.role;
    let mut relations = Vec::new();
    let lists = [("allow", &role.allow), ("hold", &role.hold), ("deny", &role.deny)];
    for (kind, rules) in lists {
        for rule in rules {
            // What may be defined need not be there yet; procedures are no relations.
            let later = [Action::Ddl, Action::Call];
            let about_later = rule
                .actions
                .as_ref()
                .is_none_or(|actions| actions.iter().any(|action| later.contains(action)));
            if about_later && kind != "deny" {
                continue;
            }
            relations.extend(rule.on.iter().map(|pattern| Named {
                rule: rule.source.clone(),
                pattern,
                protects: kind != "allow",
            }));
        }
    }
    let all = subject.relations();
    for named in relations {
        if named.pattern.len() == 2 && !all.iter().any(|r| fits_relation(named.pattern, r)) {
            let function = subject.catalog.all_functions().any(|function| {
                named.pattern.matches(&[function.schema.as_str(), function.name.as_str()])
            });
            if !function {
                let known = all.iter().map(|relation| super::named(relation)).collect::<Vec<_>>();
                findings.push(missing(view, &named, "relation", &known));
            }
        }
    }

    let mut columns = Vec::new();
    for mask in &role.mask {
        let source = || mask.source.clone();
        columns.extend(mask.columns.iter().map(|pattern| Named {
            rule: source(),
            pattern,
            protects: true,
        }));
    }
    let of_list = |key: &str, at: usize| RuleRef {
        rule: format!("role.{}.{key}[{at}]", role.name),
        place: None,
    };
    for (key, patterns, protects) in [("hide", &role.hide, true), ("lookup", &role.lookup, false)] {
        columns.extend(patterns.iter().enumerate().map(|(at, pattern)| Named {
            rule: of_list(key, at),
            pattern,
            protects,
        }));
    }
    for named in columns {
        let matched = all.iter().any(|relation| {
            let names =
                |column: &str| named.pattern.matches(&[&relation.schema, &relation.name, column]);
            relation.columns.iter().any(|column| names(&column.name))
        });
        if !matched {
            let known = all.iter().flat_map(|relation| {
                let of = |column: &crate::sql::Column| {
                    format!("{}.{}", super::named(relation), column.name)
                };
                relation.columns.iter().map(of).collect::<Vec<_>>()
            });
            findings.push(missing(view, &named, "column", &known.collect::<Vec<_>>()));
        }
    }

    for (at, pattern) in role.functions.iter().enumerate() {
        let own = subject
            .catalog
            .all_functions()
            .any(|function| pattern.matches(&[function.schema.as_str(), function.name.as_str()]));
        let builtin = pattern.to_string().starts_with("pg_catalog.");
        if !own && !builtin {
            let named = Named { rule: of_list("functions", at), pattern, protects: false };
            let known = subject.catalog.all_functions();
            let known = known.map(|function| format!("{}.{}", function.schema, function.name));
            findings.push(missing(view, &named, "function", &known.collect::<Vec<_>>()));
        }
    }
}

fn fits_relation(pattern: &Pattern, relation: &Relation) -> bool {
    !is_system(&relation.schema) && pattern.matches(&[&relation.schema, &relation.name])
}

fn missing(view: &View<'_>, named: &Named<'_>, what: &str, known: &[String]) -> Finding {
    let text = named.pattern.to_string();
    let exact = !text.contains('*');
    let severity = if named.protects && exact { Severity::Error } else { Severity::Warning };
    let names = known.iter().map(String::as_str).collect::<Vec<_>>();
    let mend = match nearest(&text, &names).filter(|_| exact) {
        Some(near) => format!("{}: \"{near}\" instead of \"{text}\"", named.rule.rule),
        None => format!("{}: take out \"{text}\", or correct it", named.rule.rule),
    };
    Finding {
        severity,
        code: "rule-without-object",
        object: text.clone(),
        roles: vec![view.role.name.clone()],
        rule: Some(named.rule.clone()),
        problem: format!("{} names \"{text}\", and this database has no such {what}", named.rule),
        why: if severity == Severity::Error && what == "column" {
            "no session can be opened under the role until it is mended: after a rename the \
             column would be shown as it is"
        } else if named.protects {
            "the rule protects nothing here; a misspelt one leaves open what it was meant for"
        } else {
            "the rule has no effect here"
        }
        .to_owned(),
        mend: vec![Mend::Policy(mend)],
    }
}

/// Roles and schemas that the policy names and only the database knows.
pub(super) fn of_database(subject: &Subject<'_>, survey: &Survey, findings: &mut Vec<Finding>) {
    for view in &subject.views {
        let role = view.role;
        let rule =
            |key: &str| Some(RuleRef { rule: format!("role.{}.{key}", role.name), place: None });
        for schema in role.search_path.iter().filter(|schema| !is_known(schema, survey)) {
            findings.push(Finding {
                severity: Severity::Warning,
                code: "search-path-without-schema",
                object: format!("schema {schema}"),
                roles: vec![role.name.clone()],
                rule: rule("search_path"),
                problem: format!(
                    "role {} searches the schema {schema}, which isn't there",
                    role.name
                ),
                why: "whoever may create it decides what unqualified names mean".to_owned(),
                mend: vec![Mend::Policy(format!(
                    "[role.{}] search_path without \"{schema}\"",
                    role.name
                ))],
            });
        }
        let Some(owner) = &role.owner else { continue };
        let finding = |code, problem: String, why: &str, mend| Finding {
            severity: Severity::Error,
            code,
            object: format!("role {owner}"),
            roles: vec![role.name.clone()],
            rule: rule("owner"),
            problem,
            why: why.to_owned(),
            mend: vec![mend],
        };
        match survey.roles.get(owner) {
            None => findings.push(finding(
                "owner-missing",
                format!("the owner {owner} of role {} is no role of this server", role.name),
                "no session can be opened under the role",
                Mend::Sql(format!("CREATE ROLE {} NOLOGIN;", quote_identifier(owner))),
            )),
            Some(true) => findings.push(finding(
                "owner-superuser",
                format!("the owner {owner} of role {} is a superuser", role.name),
                "whoever has the session's password is a superuser then",
                Mend::Policy(format!(
                    "[role.{}] owner = the role that owns the tables, and no superuser",
                    role.name
                )),
            )),
            Some(false) => {}
        }
    }
    if let Credential::Static { user, .. } = &subject.target.credential
        && survey.roles.get(user) == Some(&true)
    {
        findings.push(Finding {
            severity: Severity::Error,
            code: "static-superuser",
            object: format!("role {user}"),
            roles: Vec::new(),
            rule: Some(RuleRef {
                rule: format!("target.{}.credential", subject.target.name),
                place: None,
            }),
            problem: format!("all sessions share {user}, which is a superuser"),
            why: "where the proxy stands alone, the role must have no more than its users may do"
                .to_owned(),
            mend: vec![Mend::Sql(format!("ALTER ROLE {} NOSUPERUSER;", quote_identifier(user)))],
        });
    }
}

fn is_known(schema: &str, survey: &Survey) -> bool {
    survey.schemas.contains_key(schema)
        || matches!(schema, "pg_catalog" | "information_schema" | "$user" | "pg_temp")
}
