//! What a statement does and who stands behind the verdict on it, told as data: what
//! `pgate policy explain` prints.
//!
//! Owns the words for facts. It refuses to decide: the verdict comes from where sessions
//! get theirs.

use serde::Serialize;

use super::{
    Compiled, Enforced, Layer, Policy, Role, RuleRef, Verdict,
    compile::Cover,
    decide::word,
    layers::{by_privilege, layers},
    standing::Object,
};
use crate::sql::{
    Access, Action, Catalog, Name, RelationUse, Resolution, SettingValue, SideDoor, Statement,
    StatementKind,
};

/// What one statement does, and what of it is covered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Its text.
    pub sql: String,
    /// Its kind.
    pub kind: StatementKind,
    /// The relations that it reads or writes.
    pub relations: Vec<ExplainedRelation>,
    /// The columns of these that show a mask, as `schema.table.column`.
    pub masked: Vec<String>,
    /// The columns of these that aren't there for the role.
    pub hidden: Vec<String>,
    /// The functions that it calls.
    pub functions: Vec<ExplainedFunction>,
    /// The settings that it changes.
    pub settings: Vec<ExplainedSetting>,
    /// What it does to no relation that a rule can name.
    pub actions: Vec<&'static str>,
    /// Ways past its own relations.
    pub side_doors: Vec<SideDoor>,
    /// Whether it has an UPDATE or DELETE whose rows nothing narrows.
    pub unfiltered: bool,
    /// What pgate can't tell of it. Not empty means: denied.
    pub unclassified: Vec<String>,
}

/// One use of one relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedRelation {
    /// What the name means, as `schema.table`; as the text has it where it is unknown.
    pub name: String,
    /// Whether the catalog has it.
    pub known: bool,
    /// What for.
    pub access: Access,
    /// The action that a rule must allow.
    pub action: &'static str,
}

/// One function that is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedFunction {
    /// Its name as the text has it.
    pub name: String,
    /// Whose it is.
    pub origin: FunctionOrigin,
}

/// Whose function a call may mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FunctionOrigin {
    /// Only PostgreSQL's.
    Builtin,
    /// Also or only one of the database's own.
    Own,
    /// Nobody's that the catalog knows.
    Unknown,
}

/// One setting that is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedSetting {
    /// Its name.
    pub name: String,
    /// What it is set to.
    #[serde(flatten)]
    pub value: ExplainedValue,
}

/// What a setting is set to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "to", content = "values")]
pub enum ExplainedValue {
    /// What the session began with.
    Default,
    /// These constants.
    Constants(Vec<String>),
    /// Whatever the client binds.
    Parameter,
}

/// Tells what a statement of this query string does. `compiled` is the role's on this
/// catalog.
pub fn explain(
    text: &str,
    statement: &Statement,
    compiled: &Compiled,
    catalog: &Catalog,
) -> Explained {
    let facts = &statement.facts;
    let (mut masked, mut hidden) = (Vec::new(), Vec::new());
    for used in &facts.relations {
        let Resolution::Relation(oid) = used.resolution else { continue };
        let Some(relation) = catalog.relation(oid) else { continue };
        for (number, cover) in compiled.covered(oid) {
            let Some(column) = relation.column_by_number(number) else { continue };
            let name = format!("{}.{}.{}", relation.schema, relation.name, column.name);
            match cover {
                Cover::Mask { .. } => masked.push(name),
                Cover::Hidden { .. } => hidden.push(name),
            }
        }
    }
    for names in [&mut masked, &mut hidden] {
        names.sort();
        names.dedup();
    }
    let mut functions = Vec::new();
    for call in &facts.functions {
        let origin = match (call.candidates.is_empty(), call.builtin) {
            (true, true) => FunctionOrigin::Builtin,
            (true, false) => FunctionOrigin::Unknown,
            (false, _) => FunctionOrigin::Own,
        };
        let function = ExplainedFunction { name: shown(&call.name), origin };
        if !functions.contains(&function) {
            functions.push(function);
        }
    }
    let setting = |setting: &crate::sql::SettingUse| ExplainedSetting {
        name: setting.name.clone(),
        value: match &setting.value {
            SettingValue::Default => ExplainedValue::Default,
            SettingValue::Constants(values) => ExplainedValue::Constants(values.clone()),
            SettingValue::Parameter => ExplainedValue::Parameter,
        },
    };
    Explained {
        sql: text.get(statement.span.clone()).unwrap_or_default().to_owned(),
        kind: facts.kind,
        relations: facts.relations.iter().map(|used| explained(used, catalog)).collect(),
        masked,
        hidden,
        functions,
        settings: facts.settings.iter().map(setting).collect(),
        actions: facts.actions.iter().map(|action| word(*action)).collect(),
        side_doors: facts.side_doors.clone(),
        unfiltered: facts.relations.iter().any(|used| used.unfiltered),
        unclassified: facts.unclassified.clone(),
    }
}

fn explained(used: &RelationUse, catalog: &Catalog) -> ExplainedRelation {
    let relation = match used.resolution {
        Resolution::Relation(oid) => catalog.relation(oid),
        Resolution::Unknown => None,
    };
    ExplainedRelation {
        name: match relation {
            Some(relation) => format!("{}.{}", relation.schema, relation.name),
            None => shown(&used.name),
        },
        known: relation.is_some(),
        access: used.access,
        action: word(used.action),
    }
}

fn shown(name: &Name) -> String {
    match &name.schema {
        Some(schema) => format!("{schema}.{}", name.name),
        None => name.name.clone(),
    }
}

/// Who enforces a verdict on these statements on one target: the verdict's rule, and
/// where it allows, the rules that cover columns which the statements read.
pub fn enforcers(
    verdict: &Verdict,
    statements: &[Statement],
    role: &Role,
    target: &str,
    policy: &Policy,
    compiled: &Compiled,
    catalog: &Catalog,
) -> Vec<Enforced> {
    let mut on_target = Policy::default();
    on_target.targets.clone_from(&policy.targets);
    let role = Role { targets: vec![target.to_owned()], ..role.clone() };
    on_target.roles.insert(role.name.clone(), role.clone());
    let told = layers(&on_target);

    let mut rules = Vec::new();
    match verdict {
        Verdict::Deny(denied) => rules.push(denied.rule.clone()),
        Verdict::Hold(held) => rules.push(held.rule.clone()),
        Verdict::Allow(allowed) => {
            rules.push(allowed.rule.clone());
            for used in statements.iter().flat_map(|statement| &statement.facts.relations) {
                let Resolution::Relation(oid) = used.resolution else { continue };
                rules.extend(compiled.covered(oid).map(|(_, cover)| cover.rule().clone()));
            }
        }
    }
    let mut seen = Vec::new();
    rules.retain(|rule| {
        let new = !seen.contains(&rule.rule);
        seen.push(rule.rule.clone());
        new
    });
    let one = |rule: RuleRef| match told.iter().find(|told| told.rule.rule == rule.rule) {
        Some(enforced) => enforced.clone(),
        None => builtin(rule, statements, &role, &on_target, catalog),
    };
    let mut enforced = rules.into_iter().map(one).collect::<Vec<_>>();
    if statements.iter().any(|statement| statement.facts.kind == StatementKind::Lock) {
        for enforced in &mut enforced {
            enforced.layers.retain(|layer| *layer != Layer::Postgres);
            enforced.note = Some("PostgreSQL locks for whoever may write in any way".to_owned());
        }
    }
    enforced
}

/// Who enforces one of pgate's own rules.
fn builtin(
    rule: RuleRef,
    statements: &[Statement],
    role: &Role,
    policy: &Policy,
    catalog: &Catalog,
) -> Enforced {
    let denied_by_default = rule.rule == "builtin.default-deny"
        && missing(statements, role, catalog).is_some_and(by_privilege);
    let says = match rule.rule.as_str() {
        "builtin.default-deny" => "what no rule allows is denied",
        "builtin.no-relation" => "it touches no relation that a rule could name",
        "builtin.catalog" => "PostgreSQL's own catalog, as far as it describes the database",
        _ => "pgate's own rule, the same for every role",
    };
    let (mut enforcing, mut note) = (vec![Layer::Proxy], None);
    if denied_by_default {
        (enforcing, note) = super::layers::by_privileges(role, policy);
    }
    Enforced { rule, says: says.to_owned(), layers: enforcing, note }
}

/// The first action that the role isn't allowed.
fn missing(statements: &[Statement], role: &Role, catalog: &Catalog) -> Option<Action> {
    let lacks = |used: &RelationUse, action: Action| {
        let (schema, name) = match used.resolution {
            Resolution::Relation(oid) => {
                let relation = catalog.relation(oid)?;
                (relation.schema.as_str(), relation.name.as_str())
            }
            Resolution::Unknown => (used.name.schema.as_deref()?, used.name.name.as_str()),
        };
        (!role.may(action, Object::Relation(schema, name))).then_some(action)
    };
    statements.iter().find_map(|statement| {
        let facts = &statement.facts;
        let of_relations = || facts.relations.iter().find_map(|used| lacks(used, used.action));
        let of_targets = || {
            let mut read = facts.targets_read().into_keys();
            read.find_map(|at| lacks(facts.relations.get(at)?, Action::Select))
        };
        let of_none =
            || facts.actions.iter().copied().find(|action| !role.may(*action, Object::Everything));
        of_relations().or_else(of_targets).or_else(of_none)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        policy::{Enforcement, compile, decide, parse},
        sql::{analyse, on_large_stack},
    };

    const POLICY: &str = r#"
[target.prod-db]
url = "postgres://db.internal/shop"
credential = { kind = "ephemeral", admin_url = "env:ADMIN_URL" }
[target.legacy]
url = "postgres://old.internal/shop"
credential = { kind = "static", user = "app", password = "env:APP" }
[role.readonly]
targets = ["prod-db", "legacy"]
allow = [{ actions = ["select"], on = ["shop.*"] }]
mask = [{ columns = ["shop.customers.email"], with = "redact" }]
hide = ["shop.customers.ssn"]
[[access]]
who = { group = "all" }
role = "readonly"
target = "prod-db"
approval = "auto"
"#;

    fn on(target: &str, sql: &str) -> (Explained, Vec<String>) {
        let policy = parse(&[("shop.toml".into(), POLICY.into())]).unwrap();
        let catalog = Catalog::builder()
            .table("shop.customers", &[("id", "int8"), ("email", "text"), ("ssn", "text")])
            .build();
        let role = &policy.roles["readonly"];
        let compiled = compile(role, &catalog, Enforcement::Static).unwrap();
        let statements = on_large_stack(|| analyse(sql, &catalog)).unwrap();
        let verdict =
            decide(&statements[0], role, &compiled, &catalog, jiff::Timestamp::UNIX_EPOCH).verdict;
        let enforced = enforcers(&verdict, &statements, role, target, &policy, &compiled, &catalog);
        let told = enforced.iter().map(|enforced| {
            let layers = enforced.layers.iter().map(ToString::to_string).collect::<Vec<_>>();
            format!("{} {}", enforced.rule.rule, layers.join("+"))
        });
        (explain(sql, &statements[0], &compiled, &catalog), told.collect())
    }

    #[test]
    fn a_read_of_covered_columns_names_them_and_every_rule_with_its_layers() {
        let (told, enforced) = on("prod-db", " SELECT lower(email), f(id) FROM customers ;");
        assert_eq!(told.sql, "SELECT lower(email), f(id) FROM customers");
        assert_eq!(told.kind, StatementKind::Select);
        assert_eq!(
            (told.masked.join(","), told.hidden.join(",")),
            ("shop.customers.email".into(), "shop.customers.ssn".into())
        );
        let name = told.relations.iter().map(|used| used.name.as_str()).collect::<Vec<_>>();
        assert_eq!((name, told.relations[0].action), (vec!["shop.customers"], "select"));
        let origins = told.functions.iter().map(|function| function.origin).collect::<Vec<_>>();
        assert_eq!(origins, [FunctionOrigin::Builtin, FunctionOrigin::Unknown]);
        assert_eq!(enforced, ["builtin.function proxy"]);

        let (_, enforced) = on("prod-db", "SELECT * FROM customers");
        let both =
            ["allow", "mask", "hide"].map(|kind| format!("role.readonly.{kind}[0] Postgres+proxy"));
        assert_eq!(enforced, both);
    }

    #[test]
    fn a_static_target_leaves_the_proxy_alone() {
        let (_, enforced) = on("legacy", "SELECT id FROM customers");
        assert!(enforced.iter().all(|told| told.ends_with(" proxy")), "{enforced:?}");
    }

    #[test]
    fn default_deny_is_postgres_own_where_a_privilege_is_missing() {
        for (sql, expected) in [
            ("DELETE FROM customers WHERE id = 1", "builtin.default-deny Postgres+proxy"),
            ("CALL f()", "builtin.default-deny proxy"),
            ("DO 'BEGIN END'", "builtin.do-block proxy"),
            ("SET work_mem = '1GB'", "builtin.setting proxy"),
        ] {
            let (_, enforced) = on("prod-db", sql);
            assert_eq!(enforced.len(), 1, "{sql}");
            let told = enforced.join("");
            if expected.starts_with("builtin.setting") {
                assert!(told.ends_with(" proxy"), "{told}");
            } else {
                assert_eq!(told, expected, "{sql}");
            }
        }
        assert_eq!(
            on("legacy", "DELETE FROM customers WHERE id = 1").1,
            ["builtin.default-deny proxy"]
        );
    }
}
