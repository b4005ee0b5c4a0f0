//! What PUBLIC may do beyond a role: no role can be given less than PUBLIC.

use std::collections::BTreeMap;

use super::{Finding, Mend, Severity, Subject, Survey, View, named, quoted};
use crate::sql::{Action, Relation, RelationKind, quote_identifier};

/// Privileges on tables, and the action that a rule allows for each.
const TABLE: [(&str, Action); 5] = [
    ("SELECT", Action::Select),
    ("INSERT", Action::Insert),
    ("UPDATE", Action::Update),
    ("DELETE", Action::Delete),
    ("TRUNCATE", Action::Truncate),
];

pub(super) fn of_public(subject: &Subject<'_>, survey: &Survey, findings: &mut Vec<Finding>) {
    of_database(subject, survey, findings);
    for (schema, privileges) in &survey.schemas {
        if privileges.iter().any(|privilege| privilege == "CREATE") {
            findings.push(Finding {
                severity: subject.broken(),
                code: "public-create-schema",
                object: format!("schema {schema}"),
                roles: Vec::new(),
                rule: None,
                problem: format!("PUBLIC may create objects in the schema {schema}"),
                why: "a session's role can leave a table, function or operator there that others \
                      use by accident"
                    .to_owned(),
                mend: vec![Mend::Sql(format!(
                    "REVOKE CREATE ON SCHEMA {} FROM PUBLIC;",
                    quote_identifier(schema)
                ))],
            });
        }
    }
    for relation in subject.relations() {
        if let Some(holding) = survey.relations.get(&relation.oid) {
            of_relation(subject, survey, relation, &holding.public, findings);
        }
        of_columns(subject, survey, relation, findings);
    }
}

fn of_database(subject: &Subject<'_>, survey: &Survey, findings: &mut Vec<Finding>) {
    let database = subject.catalog.database();
    let all = [
        (
            "TEMPORARY",
            Severity::Warning,
            "create temporary tables",
            "a session's role can fill one, with clean columns only",
        ),
        (
            "CREATE",
            subject.broken(),
            "create schemas",
            "a session's role can make a schema of its own",
        ),
    ];
    for (privilege, severity, what, why) in all {
        if survey.public_database.iter().any(|held| held == privilege) {
            findings.push(Finding {
                severity,
                code: if privilege == "CREATE" {
                    "public-create-database"
                } else {
                    "public-temporary"
                },
                object: format!("database {database}"),
                roles: Vec::new(),
                rule: None,
                problem: format!("PUBLIC may {what} in the database {database}"),
                why: why.to_owned(),
                mend: vec![Mend::Sql(format!(
                    "REVOKE {privilege} ON DATABASE {} FROM PUBLIC;",
                    quote_identifier(database)
                ))],
            });
        }
    }
}

/// Whether what is granted on something in this schema reaches a role's sessions.
fn reaches(view: &View<'_>, schema: &str, survey: &Survey) -> bool {
    let public = survey.schemas.get(schema);
    public.is_some_and(|held| held.iter().any(|privilege| privilege == "USAGE"))
        || view.schemas.contains(schema)
}

/// How privileges of PUBLIC on a relation go beyond the roles.
#[derive(Default)]
struct Beyond {
    severe: bool,
    roles: Vec<String>,
    reasons: Vec<String>,
}

impl Beyond {
    fn add(&mut self, view: &View<'_>, severe: bool, reason: &str) {
        let name = &view.role.name;
        self.severe |= severe;
        if !self.roles.contains(name) {
            self.roles.push(name.clone());
        }
        self.reasons.push(format!("role {name} {reason}"));
    }
}

fn of_relation(
    subject: &Subject<'_>,
    survey: &Survey,
    relation: &Relation,
    public: &[String],
    findings: &mut Vec<Finding>,
) {
    let (mut beyond, mut revoked) = (Beyond::default(), Vec::new());
    for privilege in public {
        let before = beyond.reasons.len();
        for view in subject.views.iter().filter(|view| reaches(view, &relation.schema, survey)) {
            match TABLE.iter().find(|(name, _)| name == privilege) {
                Some((_, action)) => {
                    table_privilege(view, relation, *action, privilege, &mut beyond)
                }
                None if relation.kind == RelationKind::Sequence => {
                    if !view.may(Action::Insert, relation) {
                        beyond.add(view, false, &format!("is not given {privilege}"));
                    }
                }
                None => {
                    let severe = privilege == "TRIGGER";
                    beyond.add(view, severe, &format!("is not given {privilege}"));
                }
            }
        }
        if beyond.reasons.len() > before {
            revoked.push(privilege.as_str());
        }
    }
    if revoked.is_empty() {
        return;
    }
    let kind = if relation.kind == RelationKind::Sequence { "SEQUENCE" } else { "TABLE" };
    let (object, revoked) = (named(relation), revoked.join(", "));
    findings.push(Finding {
        severity: if beyond.severe { subject.broken() } else { Severity::Warning },
        code: "public-privilege",
        problem: format!("PUBLIC has {revoked} on {object}"),
        why: format!("{}; no role has less than PUBLIC", beyond.reasons.join("; ")),
        mend: vec![Mend::Sql(format!(
            "REVOKE {revoked} ON {kind} {} FROM PUBLIC;",
            quoted(relation)
        ))],
        object,
        roles: beyond.roles,
        rule: None,
    });
}

fn table_privilege(
    view: &View<'_>,
    relation: &Relation,
    action: Action,
    privilege: &str,
    beyond: &mut Beyond,
) {
    if !view.may(action, relation) {
        let names = [relation.schema.as_str(), relation.name.as_str()];
        let denied = view.role.deny.iter().any(|rule| {
            !rule.on.is_empty() && rule.on.iter().any(|pattern| pattern.matches(&names))
        });
        let severe = action != Action::Select || denied;
        let word = if denied { "denies" } else { "doesn't allow" };
        beyond.add(view, severe, &format!("{word} {privilege} on it"));
        return;
    }
    let covered = view.covered(relation);
    if action == Action::Select && !covered.is_empty() {
        beyond.add(view, true, &format!("masks or hides {}", covered.join(", ")));
    }
}

fn of_columns(
    subject: &Subject<'_>,
    survey: &Survey,
    relation: &Relation,
    findings: &mut Vec<Finding>,
) {
    let mut revoked = BTreeMap::<&str, Vec<String>>::new();
    let mut columns = Vec::new();
    let mut beyond = Beyond::default();
    for column in &relation.columns {
        let Some(public) = survey.public_columns.get(&(relation.oid, column.number)) else {
            continue;
        };
        for privilege in public {
            let before = beyond.reasons.len();
            let Some((_, action)) = TABLE.iter().find(|(name, _)| name == privilege) else {
                continue;
            };
            for view in subject.views.iter().filter(|v| reaches(v, &relation.schema, survey)) {
                let name = &column.name;
                if !view.may(*action, relation) {
                    let severe = *action != Action::Select;
                    beyond.add(view, severe, &format!("doesn't allow {privilege} of {name}"));
                } else if *action == Action::Select
                    && view.cover(relation.oid, column.number).is_some()
                {
                    beyond.add(view, true, &format!("masks or hides {name}"));
                }
            }
            if beyond.reasons.len() > before {
                revoked.entry(privilege).or_default().push(quote_identifier(&column.name));
                columns.push(format!("{privilege} of {}", column.name));
            }
        }
    }
    if revoked.is_empty() {
        return;
    }
    let parts =
        revoked.iter().map(|(privilege, columns)| format!("{privilege} ({})", columns.join(", ")));
    let parts = parts.collect::<Vec<_>>().join(", ");
    let object = named(relation);
    findings.push(Finding {
        severity: if beyond.severe { subject.broken() } else { Severity::Warning },
        code: "public-column-privilege",
        problem: format!("PUBLIC has {} on {object}", columns.join(", ")),
        why: format!("{}; no role has less than PUBLIC", beyond.reasons.join("; ")),
        mend: vec![Mend::Sql(format!("REVOKE {parts} ON TABLE {} FROM PUBLIC;", quoted(relation)))],
        object,
        roles: beyond.roles,
        rule: None,
    });
}

/// Functions that run with their owner's rights and that everybody may call.
pub(super) fn definers(subject: &Subject<'_>, survey: &Survey, findings: &mut Vec<Finding>) {
    for definer in survey.definers.iter().filter(|definer| definer.public) {
        let reached = subject.views.iter().filter(|view| reaches(view, &definer.schema, survey));
        let roles = reached.map(|view| view.role.name.clone()).collect::<Vec<_>>();
        if roles.is_empty() {
            continue;
        }
        let owns_covered =
            subject.views.iter().flat_map(|view| view.covers.columns.keys()).any(|oid| {
                survey.relations.get(oid).is_some_and(|holding| holding.owner == definer.owner)
            });
        let rights = match (definer.owner_is_superuser, owns_covered) {
            (true, _) => "a superuser",
            (false, true) => "who owns tables with masked columns",
            (false, false) => "its owner",
        };
        let severe = definer.owner_is_superuser || owns_covered;
        let (signature, owner) = (&definer.signature, &definer.owner);
        findings.push(Finding {
            severity: if severe { subject.broken() } else { Severity::Warning },
            code: "public-security-definer",
            object: signature.clone(),
            roles,
            rule: None,
            problem: format!("PUBLIC may execute {signature}, which is SECURITY DEFINER"),
            why: format!(
                "it runs with the rights of {owner}, {rights}; the proxy refuses to call it unless a \
                 role opens it, but whoever has a session's password can"
            ),
            mend: vec![Mend::Sql(format!("REVOKE EXECUTE ON ROUTINE {signature} FROM PUBLIC;"))],
        });
    }
}
