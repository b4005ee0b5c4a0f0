//! Which layer enforces which rule: what a policy promises, and to whom.

use std::fmt;

use serde::Serialize;

use super::{Condition, Credential, Policy, Predicates, Record, Role, Rule, RuleRef, masking};
use crate::sql::Action;

/// A layer that enforces rules (DESIGN, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// PostgreSQL, by the privileges of the session's role: it holds even against
    /// somebody who has the session's database password.
    Postgres,
    /// The proxy: it holds against whatever the child process sends.
    Proxy,
    /// The control plane, before there is a session.
    ControlPlane,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layer::Postgres => "Postgres",
            Layer::Proxy => "proxy",
            Layer::ControlPlane => "control plane",
        })
    }
}

/// A rule and who enforces it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Enforced {
    /// The rule and where it stands.
    #[serde(flatten)]
    pub rule: RuleRef,
    /// What it says, in a line.
    pub says: String,
    /// The layers that enforce it.
    pub layers: Vec<Layer>,
    /// What to know of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Every rule of a policy with the layers that enforce it, in the order of roles and rules.
pub fn layers(policy: &Policy) -> Vec<Enforced> {
    let mut enforced = Vec::new();
    for role in policy.roles.values() {
        let grounds = Grounds::of(role, policy);
        grounds.role(role, &mut enforced);
    }
    for access in &policy.access {
        enforced.push(Enforced {
            rule: access.source.clone(),
            says: format!("{} on {}", access.role, access.target),
            layers: vec![Layer::ControlPlane],
            note: None,
        });
    }
    enforced
}

/// Who enforces what privileges can say of a role, and what to know of it.
pub(super) fn by_privileges(role: &Role, policy: &Policy) -> By {
    Grounds::of(role, policy).privileges()
}

/// Whether PostgreSQL can enforce a role on its targets.
struct Grounds {
    everywhere: bool,
    somewhere: bool,
    /// The targets on which the proxy stands alone.
    alone: Vec<String>,
    /// The role whose rights its sessions have as well.
    owner: Option<String>,
}

/// Whether a privilege of PostgreSQL allows or refuses the action. Without an owner a
/// session's role can define nothing.
pub(super) fn by_privilege(action: Action) -> bool {
    action.is_definition()
        || matches!(
            action,
            Action::Select | Action::Insert | Action::Update | Action::Delete | Action::Truncate
        )
}

impl Grounds {
    fn of(role: &Role, policy: &Policy) -> Self {
        let alone =
            role.targets
                .iter()
                .filter(|target| {
                    policy.targets.get(*target).is_some_and(|target| {
                        matches!(target.credential, Credential::Static { .. })
                    })
                })
                .cloned()
                .collect::<Vec<_>>();
        Self {
            everywhere: alone.is_empty(),
            somewhere: alone.len() < role.targets.len(),
            alone,
            owner: role.owner.clone(),
        }
    }

    /// What privileges say holds in PostgreSQL too, unless sessions have an owner's rights.
    fn privileges(&self) -> By {
        match &self.owner {
            Some(owner) => {
                let note =
                    format!("sessions have the rights of {owner}, which this doesn't narrow");
                (vec![Layer::Proxy], Some(note))
            }
            None => self.both(),
        }
    }

    /// The same for a rule: what hangs on a condition, and what it says of actions without
    /// a privilege of their own, rests on the proxy.
    fn rule(&self, rule: &Rule, kind: &str) -> By {
        let proxy = vec![Layer::Proxy];
        if matches!(rule.when, Some(Condition::RowsOver(_))) {
            return (proxy, Some("a direct connection isn't counted".to_owned()));
        }
        // PostgreSQL must let through what a reviewer has approved.
        if kind == "hold" {
            return (proxy, None);
        }
        // What is allowed at times is allowed to the role at all times.
        if kind == "deny" && !rule.is_unconditional() {
            return (proxy, None);
        }
        let actions = rule.actions.iter().flatten().copied();
        let (by, other) = actions.partition::<Vec<Action>, _>(|action| by_privilege(*action));
        if rule.actions.is_some() && by.is_empty() {
            return (proxy, None);
        }
        let (layers, note) = self.privileges();
        if note.is_some() || !layers.contains(&Layer::Postgres) {
            return (layers, note);
        }
        let mut notes = Vec::new();
        if !other.is_empty() {
            let other = other.into_iter().map(super::decide::word).collect::<Vec<_>>().join(", ");
            notes.push(format!("{other}: by the proxy alone"));
        }
        if rule.window.is_some() {
            notes.push("PostgreSQL allows it at all times".to_owned());
        }
        (layers, (!notes.is_empty()).then(|| notes.join("; ")))
    }

    /// By PostgreSQL too, where it can; the note says where it can't.
    fn both(&self) -> (Vec<Layer>, Option<String>) {
        let note = (!self.everywhere).then(|| {
            format!("on {} the proxy alone: its credential is static", self.alone.join(", "))
        });
        let layers =
            if self.somewhere { vec![Layer::Postgres, Layer::Proxy] } else { vec![Layer::Proxy] };
        (layers, note)
    }

    fn role(&self, role: &Role, enforced: &mut Vec<Enforced>) {
        let mut add = |key: &str, place: Option<String>, says: String, by: By| {
            let (layers, note) = by;
            let rule = RuleRef { rule: format!("role.{}.{key}", role.name), place };
            enforced.push(Enforced { rule, says, layers, note });
        };
        let proxy = || (vec![Layer::Proxy], None);
        let lists = [("allow", &role.allow), ("hold", &role.hold), ("deny", &role.deny)];
        for (kind, rules) in lists {
            for (at, rule) in rules.iter().enumerate() {
                let by = self.rule(rule, kind);
                add(&format!("{kind}[{at}]"), rule.source.place.clone(), said(rule), by);
            }
        }
        for (at, mask) in role.mask.iter().enumerate() {
            let columns = mask.columns.iter().map(ToString::to_string).collect::<Vec<_>>();
            let says = format!("{} shown as {}", columns.join(", "), masking::name(&mask.with));
            add(&format!("mask[{at}]"), mask.source.place.clone(), says, self.both());
        }
        for (at, column) in role.hide.iter().enumerate() {
            add(&format!("hide[{at}]"), None, format!("{column} hidden"), self.both());
        }
        if !role.mask.is_empty() {
            let says = match role.predicates {
                Predicates::Deny => "no conditions on masked columns",
                Predicates::Masked => "conditions compare the masks",
            };
            add("predicates", None, says.to_owned(), proxy());
        }
        for (at, detector) in role.detect.iter().enumerate() {
            let says = format!("what looks like {} is masked in results", detector.name());
            add(&format!("detect[{at}]"), None, says, proxy());
        }
        for (at, column) in role.lookup.iter().enumerate() {
            let note = "a direct connection can look values up too, up to 100 a second";
            let says = format!("values of {column} may be looked up");
            add(&format!("lookup[{at}]"), None, says, (vec![Layer::Proxy], Some(note.to_owned())));
        }
        if let Some(lookups) = role.limits.lookups {
            add("limits.lookups", None, format!("{lookups} values a minute"), proxy());
        }
        if let Some(rows) = role.limits.rows {
            add("limits.rows", None, format!("{rows} rows a statement"), proxy());
        }
        if let Some(bytes) = role.limits.bytes {
            add("limits.bytes", None, format!("{bytes} bytes of rows a statement"), proxy());
        }
        if let Some(statements) = role.limits.statements_per_minute {
            let says = format!("{statements} statements a minute and session");
            add("limits.statements_per_minute", None, says, proxy());
        }
        if let Some(ms) = role.limits.statement_timeout_ms {
            let (layers, _) = self.both();
            let note = "a direct connection can raise PostgreSQL's own setting".to_owned();
            let note = layers.contains(&Layer::Postgres).then_some(note);
            add("limits.statement_timeout", None, format!("{ms} ms a statement"), (layers, note));
        }
        if let Some(connections) = role.limits.connections {
            add("limits.connections", None, format!("{connections} at a time"), self.both());
        }
        for (at, function) in role.functions.iter().enumerate() {
            let (layers, _) = self.both();
            let note = "PostgreSQL lets PUBLIC call functions unless that is revoked".to_owned();
            add(
                &format!("functions[{at}]"),
                None,
                format!("{function} may be called"),
                (layers, Some(note)),
            );
        }
        for (at, setting) in role.settings.iter().enumerate() {
            add(&format!("settings[{at}]"), None, format!("{setting} may be set"), proxy());
        }
        for (at, channel) in role.channels.iter().enumerate() {
            let says = format!("LISTEN and NOTIFY may name {channel}");
            add(&format!("channels[{at}]"), None, says, proxy());
        }
        if role.record == Record::Results {
            let says = "results are in the session log as the client got them, up to 1000 rows \
                        or 256 KiB a statement";
            let note = "what a direct connection gets isn't".to_owned();
            add("record", None, says.to_owned(), (vec![Layer::Proxy], Some(note)));
        }
        if !role.search_path.is_empty() {
            let says = format!("unqualified names mean {}", role.search_path.join(", "));
            let (layers, _) = self.both();
            let note = "a direct connection can change PostgreSQL's own setting".to_owned();
            let note = layers.contains(&Layer::Postgres).then_some(note);
            add("search_path", None, says, (layers, note));
        }
        if let Some(owner) = &role.owner {
            let says = format!("sessions have the rights of {owner}");
            let note = "what that role may do in PostgreSQL, the proxy alone narrows".to_owned();
            add("owner", None, says, (vec![Layer::Proxy], Some(note)));
        }
    }
}

/// The layers and the note.
pub(super) type By = (Vec<Layer>, Option<String>);

/// `select, insert on shop.*`.
fn said(rule: &Rule) -> String {
    let actions = match &rule.actions {
        None => "*".to_owned(),
        Some(actions) => {
            actions.iter().map(|action| super::decide::word(*action)).collect::<Vec<_>>().join(", ")
        }
    };
    let on = rule.on.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let on = if on.is_empty() { "everything".to_owned() } else { on };
    let columns = rule.columns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let of = if columns.is_empty() { String::new() } else { format!(" of {columns}") };
    format!("{actions}{of} on {on}{}", super::decide::condition(rule))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::parse;

    #[test]
    fn postgres_enforces_what_privileges_can_say_and_only_where_it_can() {
        let text = include_str!("parse/sample.toml");
        let policy = parse(&[("shop.toml".to_owned(), text.to_owned())]).unwrap();
        let enforced = layers(&policy);
        let by = |rule: &str| {
            let found = enforced.iter().find(|enforced| enforced.rule.rule == rule);
            let found = found.unwrap_or_else(|| panic!("{rule} is not told"));
            (found.layers.clone(), found.note.is_some())
        };
        let both = vec![Layer::Postgres, Layer::Proxy];
        assert_eq!(by("role.readonly.mask[0]"), (both.clone(), true));
        assert_eq!(by("role.readonly.limits.rows"), (vec![Layer::Proxy], false));
        assert_eq!(by("role.writer.allow[0]"), (both, false));
        assert_eq!(by("role.writer.hold[0]"), (vec![Layer::Proxy], false));
        assert_eq!(by("role.writer.hold[1]"), (vec![Layer::Proxy], false));
        assert_eq!(by("access[0]"), (vec![Layer::ControlPlane], false));
    }

    #[test]
    fn an_owners_rights_and_actions_without_a_privilege_rest_on_the_proxy() {
        let text = r#"
[target.prod-db]
url = "postgres://db.internal/shop"
credential = { kind = "ephemeral", admin_url = "env:ADMIN_URL" }
[role.migrator]
targets = ["prod-db"]
allow = [{ actions = ["*"], on = ["shop.*"] }, { actions = ["ddl"] }]
deny = [{ actions = ["select"], on = ["shop.api_keys"] }]
owner = "app_owner"
[role.reader]
targets = ["prod-db"]
allow = [{ actions = ["select", "call"], on = ["shop.*"] }]
deny = [{ actions = ["explain", "copy"] }, { actions = ["delete"], when = "unfiltered" }]
search_path = ["shop"]
"#;
        let policy = parse(&[("shop.toml".to_owned(), text.to_owned())]).unwrap();
        let enforced = layers(&policy);
        let by = |rule: &str| {
            let told = enforced.iter().find(|told| told.rule.rule == rule).unwrap();
            let layers = told.layers.iter().map(ToString::to_string).collect::<Vec<_>>();
            format!("{} ({})", layers.join("+"), told.note.as_deref().unwrap_or_default())
        };
        let owner = "proxy (sessions have the rights of app_owner, which this doesn't narrow)";
        for (rule, expected) in [
            ("role.migrator.allow[0]", owner),
            ("role.migrator.deny[0]", owner),
            ("role.reader.allow[0]", "Postgres+proxy (call: by the proxy alone)"),
            ("role.reader.deny[0]", "proxy ()"),
            ("role.reader.deny[1]", "proxy ()"),
            (
                "role.reader.search_path",
                "Postgres+proxy (a direct connection can change PostgreSQL's own setting)",
            ),
        ] {
            assert_eq!(by(rule), expected, "{rule}");
        }
    }

    #[test]
    fn what_hangs_on_rows_on_hours_or_on_kinds_of_definitions_is_told_as_the_proxys() {
        let text = r#"
            [target.t]
            url = "postgres://localhost/shop"
            credential = { kind = "ephemeral", admin_url = "env:ADMIN_URL" }
            [role.clerk]
            targets = ["t"]
            allow = [
                { actions = ["update"], columns = ["shop.orders.note"] },
                { actions = ["delete"], on = ["shop.*"], days = ["mon"], zone = "UTC" },
            ]
            deny = [
                { actions = ["update"], columns = ["shop.orders.total"] },
                { actions = ["update"], when = "rows > 10" },
                { actions = ["delete"], between = "22:00-06:00", zone = "UTC" },
                { actions = ["drop"] },
            ]
            limits = { bytes = "1MiB", statements_per_minute = 60 }
            record = "results"
            [role.migrator]
            targets = ["t"]
            owner = "app_owner"
            allow = [{ actions = ["ddl"] }]
            deny = [{ actions = ["drop"] }]
        "#;
        let policy = parse(&[("t.toml".to_owned(), text.to_owned())]).unwrap();
        let enforced = layers(&policy);
        let told = enforced.iter().map(|enforced| {
            let postgres = enforced.layers.contains(&Layer::Postgres);
            let note = enforced.note.as_deref().unwrap_or_default();
            format!("{} | {postgres} | {} | {note}", enforced.rule.rule, enforced.says)
        });
        let told = told.filter(|line| !line.contains(".owner")).collect::<Vec<_>>();
        let expected = [
            "role.clerk.allow[0] | true | update of shop.orders.note on everything | ",
            "role.clerk.allow[1] | true | delete on shop.* (mon UTC) | PostgreSQL allows it at all times",
            "role.clerk.deny[0] | true | update of shop.orders.total on everything | ",
            "role.clerk.deny[1] | false | update on everything of more than 10 rows | a direct connection isn't counted",
            "role.clerk.deny[2] | false | delete on everything (22:00-06:00 UTC) | ",
            "role.clerk.deny[3] | true | drop on everything | ",
            "role.clerk.limits.bytes | false | 1048576 bytes of rows a statement | ",
            "role.clerk.limits.statements_per_minute | false | 60 statements a minute and session | ",
            "role.clerk.record | false | results are in the session log as the client got them, up to 1000 rows or 256 KiB a statement | what a direct connection gets isn't",
            "role.migrator.allow[0] | false | ddl on everything | sessions have the rights of app_owner, which this doesn't narrow",
            "role.migrator.deny[0] | false | drop on everything | sessions have the rights of app_owner, which this doesn't narrow",
        ];
        assert_eq!(told, expected);
    }
}
