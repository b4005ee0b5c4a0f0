//! How an action on an object stands under a role's rules: deny beats hold beats
//! allow, and nothing is the same as deny.

use jiff::Timestamp;

use super::{Condition, Pattern, Role, Rule};
use crate::sql::{Action, Catalog, Column, Relation};

/// What an action is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Object<'a> {
    /// A relation, by schema and name.
    Relation(&'a str, &'a str),
    /// A column that is written, by schema, relation and name.
    Column(&'a str, &'a str, &'a str),
    /// No relation that a rule could name: only rules about everything speak of it.
    Everything,
}

/// What one statement does to one object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Occasion<'a> {
    pub(super) action: Action,
    pub(super) object: Object<'a>,
    /// Whether nothing shows that it is narrowed.
    pub(super) unfiltered: bool,
    pub(super) now: Timestamp,
}

/// The rule that counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Standing<'r> {
    Denied(&'r Rule),
    /// By at least one rule: see [`Role::holding`].
    Held,
    Allowed(&'r Rule),
    /// This rule would allow it at another time.
    NotNow(&'r Rule),
    /// No rule speaks of it.
    Unmentioned,
}

impl Rule {
    /// Whether it is about this action: `ddl` is about all definitions.
    pub(super) fn names(&self, action: Action) -> bool {
        self.actions.as_ref().is_none_or(|actions| {
            actions.contains(&action) || (action.is_definition() && actions.contains(&Action::Ddl))
        })
    }

    fn speaks_of(&self, action: Action, object: Object<'_>) -> bool {
        let on = self.on.is_empty()
            || self.on.iter().any(|pattern| match object {
                Object::Relation(schema, name) | Object::Column(schema, name, _) => {
                    pattern.matches(&[schema, name])
                }
                Object::Everything => pattern.matches(&[]),
            });
        let columns = self.columns.is_empty()
            || match object {
                Object::Column(schema, name, column) => {
                    self.columns.iter().any(|pattern| pattern.matches(&[schema, name, column]))
                }
                Object::Relation(..) | Object::Everything => false,
            };
        self.names(action) && on && columns
    }

    /// Whether it counts for every statement that it speaks of.
    pub(super) fn is_unconditional(&self) -> bool {
        self.when.is_none() && self.window.is_none()
    }

    /// Whether a hold by it can stand for the leave to do this: the reviewer allows it.
    /// Rows are counted of what another rule allows.
    fn gives(&self, action: Action) -> bool {
        match self.when {
            None => true,
            Some(Condition::Unfiltered) => matches!(action, Action::Update | Action::Delete),
            Some(Condition::RowsOver(_)) => false,
        }
    }

    /// Whether its hours are on. `otherwise` is said where this program doesn't know.
    fn is_on(&self, now: Timestamp, otherwise: bool) -> bool {
        self.window.as_ref().is_none_or(|window| window.holds(now).unwrap_or(otherwise))
    }

    /// Whether what it takes away is taken from this.
    fn takes(&self, occasion: &Occasion<'_>) -> bool {
        let when = match self.when {
            None => true,
            Some(Condition::Unfiltered) => {
                occasion.unfiltered && matches!(occasion.action, Action::Update | Action::Delete)
            }
            // Counted, before and while it runs: see `Role::counting`.
            Some(Condition::RowsOver(_)) => false,
        };
        when && self.is_on(occasion.now, true) && self.speaks_of(occasion.action, occasion.object)
    }
}

impl Role {
    /// How one statement's action on an object stands.
    pub(super) fn standing(&self, occasion: &Occasion<'_>) -> Standing<'_> {
        if let Some(rule) = self.deny.iter().find(|rule| rule.takes(occasion)) {
            return Standing::Denied(rule);
        }
        // What is held need not be allowed by another rule as well: the reviewer allows it.
        if self.hold.iter().any(|rule| rule.takes(occasion)) {
            return Standing::Held;
        }
        let Occasion { action, object, now, .. } = *occasion;
        let mut allows = self.allow.iter().filter(|rule| rule.speaks_of(action, object));
        match allows.clone().find(|rule| rule.is_on(now, false)) {
            Some(rule) => Standing::Allowed(rule),
            None => allows.next().map_or(Standing::Unmentioned, Standing::NotNow),
        }
    }

    /// Every rule that holds this: each of their reviewers must approve it.
    pub(super) fn holding(&self, occasion: &Occasion<'_>) -> impl Iterator<Item = &Rule> {
        self.hold.iter().filter(|rule| rule.takes(occasion))
    }

    /// The rules that count the rows of this: those that deny first.
    pub(super) fn counting(
        &self,
        occasion: Occasion<'_>,
    ) -> impl Iterator<Item = (&Rule, u64, bool)> {
        let denies = self.deny.iter().map(|rule| (rule, true));
        let holds = self.hold.iter().map(|rule| (rule, false));
        denies.chain(holds).filter_map(move |(rule, denies)| match rule.when {
            Some(Condition::RowsOver(rows))
                if rule.is_on(occasion.now, true)
                    && rule.speaks_of(occasion.action, occasion.object) =>
            {
                Some((rule, rows, denies))
            }
            _ => None,
        })
    }

    /// Whether some statement may do this, by itself or with a reviewer's word: what
    /// PostgreSQL is told, which knows neither conditions nor reviewers. It must let
    /// through what was approved, so it can't enforce a hold.
    pub(super) fn may(&self, action: Action, object: Object<'_>) -> bool {
        !self.always_denies(action, object)
            && (self.allow.iter().any(|rule| rule.speaks_of(action, object))
                || self
                    .hold
                    .iter()
                    .any(|rule| rule.gives(action) && rule.speaks_of(action, object)))
    }

    /// What the rules of this action on a relation are asked of besides: what lies
    /// beneath it (what a view reads, parents, children, partitions). Nothing where a
    /// rule allows this one by its whole name: that rule knows what it shows.
    pub(super) fn beneath<'c>(
        &self,
        action: Action,
        relation: &Relation,
        catalog: &'c Catalog,
    ) -> Vec<&'c Relation> {
        let object = Object::Relation(&relation.schema, &relation.name);
        if self.knows(action, object) { Vec::new() } else { catalog.beneath(relation) }
    }

    /// The same for a column that is written: the columns that its values are stored in.
    pub(super) fn stored_in<'c>(
        &self,
        action: Action,
        (relation, column): (&Relation, &Column),
        catalog: &'c Catalog,
    ) -> Vec<(&'c Relation, &'c Column)> {
        let object = Object::Column(&relation.schema, &relation.name, &column.name);
        if !self.rules_on_columns() || self.knows(action, object) {
            return Vec::new();
        }
        catalog.stored_in(relation, column.number)
    }

    /// What PostgreSQL is told: whether the action is always denied beneath.
    pub(super) fn may_not_beneath(
        &self,
        action: Action,
        relation: &Relation,
        catalog: &Catalog,
    ) -> bool {
        self.beneath(action, relation, catalog).into_iter().any(|beneath| {
            self.always_denies(action, Object::Relation(&beneath.schema, &beneath.name))
        })
    }

    /// The same for a column that is written.
    pub(super) fn may_not_store(
        &self,
        action: Action,
        written: (&Relation, &Column),
        catalog: &Catalog,
    ) -> bool {
        self.stored_in(action, written, catalog).into_iter().any(|(beneath, column)| {
            let object = Object::Column(&beneath.schema, &beneath.name, &column.name);
            self.always_denies(action, object)
        })
    }

    fn always_denies(&self, action: Action, object: Object<'_>) -> bool {
        let takes = |rule: &Rule| rule.is_unconditional() && rule.speaks_of(action, object);
        self.deny.iter().any(takes)
    }

    /// Whether a rule allows the action on this object by its whole name.
    fn knows(&self, action: Action, object: Object<'_>) -> bool {
        let names = match object {
            Object::Relation(schema, name) => vec![schema, name],
            Object::Column(schema, name, column) => vec![schema, name, column],
            Object::Everything => return false,
        };
        let exactly = |patterns: &[Pattern], names: &[&str]| {
            patterns.iter().any(|pattern| pattern.is_exact() && pattern.matches(names))
        };
        let of_relation = names.get(..2).unwrap_or(&names);
        self.allow
            .iter()
            .filter(|rule| rule.speaks_of(action, object))
            .any(|rule| exactly(&rule.on, of_relation) || exactly(&rule.columns, &names))
    }

    /// Whether any rule lets the action be done to anything at all, with a reviewer's
    /// word or without.
    pub(super) fn may_somewhere(&self, action: Action) -> bool {
        let everywhere =
            |rule: &Rule| rule.on.is_empty() && rule.columns.is_empty() && rule.is_unconditional();
        (self.allow.iter().any(|rule| rule.names(action))
            || self.hold.iter().any(|rule| rule.gives(action) && rule.names(action)))
            && !self.deny.iter().any(|rule| rule.names(action) && everywhere(rule))
    }

    /// Whether any rule is about columns that are written.
    pub(super) fn rules_on_columns(&self) -> bool {
        self.allow.iter().chain(&self.hold).chain(&self.deny).any(|rule| !rule.columns.is_empty())
    }

    /// Whether there are values that it must not see: masked, hidden, or looked for in
    /// results. Errors and notices are then as careful as results.
    pub fn withholds_values(&self) -> bool {
        !self.mask.is_empty() || !self.hide.is_empty() || !self.detect.is_empty()
    }

    /// Whether what it says depends on the time.
    pub fn keeps_hours(&self) -> bool {
        self.allow.iter().chain(&self.hold).chain(&self.deny).any(|rule| rule.window.is_some())
    }
}
