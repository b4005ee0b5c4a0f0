//! How an action on an object stands under a role's rules: deny beats hold beats
//! allow, and nothing is the same as deny.

use super::{Condition, Role, Rule};
use crate::sql::Action;

/// What an action is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Object<'a> {
    /// A relation, by schema and name.
    Relation(&'a str, &'a str),
    /// No relation that a rule could name: only rules about everything speak of it.
    Everything,
}

/// The rule that counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Standing<'r> {
    Denied(&'r Rule),
    Held(&'r Rule),
    Allowed(&'r Rule),
    /// No rule speaks of it.
    Unmentioned,
}

impl Rule {
    fn speaks_of(&self, action: Action, object: Object<'_>) -> bool {
        let action_fits = self.actions.as_ref().is_none_or(|actions| actions.contains(&action));
        let object_fits = self.on.is_empty()
            || self.on.iter().any(|pattern| match object {
                Object::Relation(schema, name) => pattern.matches(&[schema, name]),
                Object::Everything => pattern.matches(&[]),
            });
        action_fits && object_fits
    }

    /// Whether its condition holds for a statement that is unfiltered or not.
    fn holds(&self, action: Action, unfiltered: bool) -> bool {
        match self.when {
            None => true,
            Some(Condition::Unfiltered) => {
                unfiltered && matches!(action, Action::Update | Action::Delete)
            }
        }
    }
}

impl Role {
    /// How one statement's action on an object stands.
    pub(super) fn standing(
        &self,
        action: Action,
        object: Object<'_>,
        unfiltered: bool,
    ) -> Standing<'_> {
        let counts =
            |rule: &&Rule| rule.speaks_of(action, object) && rule.holds(action, unfiltered);
        if let Some(rule) = self.deny.iter().find(counts) {
            return Standing::Denied(rule);
        }
        // What is held need not be allowed by another rule as well: the reviewer allows it.
        if let Some(rule) = self.hold.iter().find(counts) {
            return Standing::Held(rule);
        }
        match self.allow.iter().find(|rule| rule.speaks_of(action, object)) {
            Some(rule) => Standing::Allowed(rule),
            None => Standing::Unmentioned,
        }
    }

    /// Whether some statement may do this, by itself or with a reviewer's word: what
    /// PostgreSQL is told, which knows neither conditions nor reviewers. It must let
    /// through what was approved, so it can't enforce a hold.
    pub(super) fn may(&self, action: Action, object: Object<'_>) -> bool {
        match self.standing(action, object, false) {
            Standing::Allowed(_) | Standing::Held(_) => true,
            Standing::Denied(_) => false,
            Standing::Unmentioned => self.hold.iter().any(|rule| rule.speaks_of(action, object)),
        }
    }

    /// Whether any rule lets the action be done to anything at all, with a reviewer's
    /// word or without.
    pub(super) fn may_somewhere(&self, action: Action) -> bool {
        let names =
            |rule: &&Rule| rule.actions.as_ref().is_none_or(|actions| actions.contains(&action));
        let everywhere = |rule: &&Rule| rule.on.is_empty() && rule.when.is_none();
        self.allow.iter().chain(&self.hold).any(|rule| names(&rule))
            && !self.deny.iter().any(|rule| names(&rule) && everywhere(&rule))
    }
}
