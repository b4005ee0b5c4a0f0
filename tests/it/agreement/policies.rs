//! Policies, made at random: what their rules are, and how they are written down.

use std::fmt;

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::world::Planted;

/// One role's rules.
#[derive(Clone)]
pub(super) struct Rules {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
    hold: Vec<Rule>,
    mask: Vec<(&'static str, &'static str)>,
    hide: Vec<&'static str>,
    functions: Vec<&'static str>,
    compares_masks: bool,
}

#[derive(Debug, Clone)]
struct Rule {
    actions: &'static [&'static str],
    on: Vec<&'static str>,
    columns: Vec<&'static str>,
    unfiltered: bool,
}

const ACTIONS: [&[&str]; 17] = [
    &["select"],
    &["*"],
    &["select", "insert", "update", "delete"],
    &["select", "update"],
    &["insert"],
    &["update"],
    &["delete"],
    &["truncate"],
    &["insert", "update", "delete", "truncate"],
    &["select", "copy", "explain"],
    &["merge"],
    &["copy"],
    &["explain"],
    &["ddl"],
    &["drop", "alter"],
    &["call", "delete"],
    &["maintain"],
];

const ON: [&str; 22] = [
    "w.*",
    "*",
    "w.people",
    "w.people*",
    "w.orders",
    "w.*_seq",
    "w.events",
    "w.events*",
    "w.events_a",
    "w.base",
    "w.child",
    "other.*",
    "w.people_view",
    "w.joined",
    "w.above",
    "w.people_kept",
    "w.invoked",
    "w.other_base",
    "w.mixed",
    "w.pair",
    "w.renamed",
    "w.invoked*",
];

const COLUMNS: [&str; 19] = [
    "w.people.email",
    "w.people.pin",
    "w.people.name",
    "w.people.hint",
    "*.*.email",
    "w.orders.memo",
    "w.events.ip",
    "w.events_a.ip",
    "w.*.ip",
    "w.base.note",
    "w.child.note",
    "w.child.extra",
    "other.notes.body",
    "w.people_view.mail",
    "w.people_kept.up",
    "w.joined.name",
    "w.other_base.remark",
    "w.mixed.*",
    "w.invoked_again.post",
];

/// Not those that read: what a role opens, it opens.
const FUNCTIONS: [&str; 2] = ["w.twice", "w.t*e"];

const KINDS: [&str; 8] = [
    r#""redact""#,
    r#""null""#,
    r#""zero""#,
    r#""email""#,
    r#""last4""#,
    r#""hash""#,
    r#"{ partial = { prefix = 1, suffix = 1 } }"#,
    r#"{ fixed = "nobody" }"#,
];

/// Any role. Most may read and write a good part of the database, or there would be
/// nothing to take away.
pub(super) fn rules() -> impl Strategy<Value = Rules> {
    let broad = (select(&ACTIONS[..4]), select(&ON[..2])).prop_map(|(actions, on)| Rule {
        actions,
        on: vec![on],
        columns: Vec::new(),
        unfiltered: false,
    });
    let first = prop_oneof![2 => broad, 1 => rule()];
    let allow = (first, vec(rule(), 0..3)).prop_map(|(first, mut others)| {
        others.insert(0, first);
        others.iter_mut().for_each(|rule| rule.unfiltered = false);
        others.into_iter().map(without_definitions).collect()
    });
    (
        allow,
        vec(rule(), 0..3),
        option::weighted(0.2, rule()),
        vec((select(&COLUMNS[..]), select(&KINDS[..])), 0..3),
        vec(select(&COLUMNS[..]), 0..2),
        vec(select(&FUNCTIONS[..]), 0..2),
        any::<bool>(),
    )
        .prop_map(|(allow, deny, hold, mask, hide, functions, compares_masks)| Rules {
            allow,
            deny,
            hold: hold.into_iter().map(without_definitions).collect(),
            mask,
            hide,
            functions,
            compares_masks,
        })
}

/// A role without an owner defines nothing; it may only be told so.
fn without_definitions(rule: Rule) -> Rule {
    let defines = |action: &&str| matches!(*action, "ddl" | "drop" | "alter");
    let actions = if rule.actions.iter().any(defines) { &["select"] } else { rule.actions };
    Rule { actions, ..rule }
}

fn rule() -> impl Strategy<Value = Rule> {
    let by_relation =
        (select(&ACTIONS[..]), vec(select(&ON[..]), 0..3), prop::bool::weighted(0.15)).prop_map(
            |(actions, on, unfiltered)| {
                let can_be_unfiltered = actions.contains(&"update") || actions.contains(&"delete");
                let unfiltered = unfiltered && can_be_unfiltered;
                Rule { actions, on, columns: Vec::new(), unfiltered }
            },
        );
    let writes = select(vec![&["insert"][..], &["update"], &["insert", "update"]]);
    let by_column = (writes, vec(select(&COLUMNS[..]), 1..3)).prop_map(|(actions, columns)| Rule {
        actions,
        on: Vec::new(),
        columns,
        unfiltered: false,
    });
    prop_oneof![4 => by_relation, 1 => by_column]
}

impl Rules {
    /// Whether nobody under these rules may ever see the value: its column is masked or
    /// hidden, or no read of its table is allowed, and no rule opens what lies above that
    /// by its name.
    pub(super) fn keep(&self, value: &Planted) -> bool {
        let masked = self.mask.iter().map(|(column, _)| *column);
        let covered = masked.chain(self.hide.iter().copied()).collect::<Vec<_>>();
        let denies = |rule: &Rule| {
            let reads = rule.actions.iter().any(|action| matches!(*action, "*" | "select"));
            let everywhere = rule.on.is_empty() || value.is_in_relations(&rule.on);
            reads && rule.columns.is_empty() && !rule.unfiltered && everywhere
        };
        let named = |rule: &Rule| rule.on.iter().any(|on| !on.contains('*'));
        value.is_in_columns(&covered)
            || (self.deny.iter().any(denies) && !self.allow.iter().any(named))
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[&str]| {
            let quoted = names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>();
            format!("[{}]", quoted.join(", "))
        };
        let told = |rule: &Rule| {
            let mut parts = vec![format!("actions = {}", list(rule.actions))];
            if !rule.on.is_empty() {
                parts.push(format!("on = {}", list(&rule.on)));
            }
            if !rule.columns.is_empty() {
                parts.push(format!("columns = {}", list(&rule.columns)));
            }
            if rule.unfiltered {
                parts.push(r#"when = "unfiltered""#.to_owned());
            }
            parts.join(", ")
        };
        let rules = |f: &mut fmt::Formatter<'_>, key: &str, rules: &[Rule], further: &str| {
            if rules.is_empty() {
                return Ok(());
            }
            let rules = rules.iter().map(|rule| format!("    {{ {}{further} }},\n", told(rule)));
            writeln!(f, "{key} = [\n{}]", rules.collect::<String>())
        };
        writeln!(f, "[role.r]\ntargets = [\"t\"]")?;
        rules(f, "allow", &self.allow, "")?;
        rules(f, "deny", &self.deny, "")?;
        rules(f, "hold", &self.hold, r#", reviewers = "group:dba""#)?;
        if !self.mask.is_empty() {
            let mask = |(column, kind): &(&str, &str)| {
                format!("    {{ columns = [{column:?}], with = {kind} }},\n")
            };
            writeln!(f, "mask = [\n{}]", self.mask.iter().map(mask).collect::<String>())?;
            if self.compares_masks {
                writeln!(f, "predicates = \"masked\"")?;
            }
        }
        if !self.hide.is_empty() {
            writeln!(f, "hide = {}", list(&self.hide))?;
        }
        if !self.functions.is_empty() {
            writeln!(f, "functions = {}", list(&self.functions))?;
        }
        Ok(())
    }
}

/// As its policy file has it.
impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}")
    }
}
