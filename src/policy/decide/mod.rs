//! The decision on one statement.
//!
//! Owns the order of the questions and the words of the answers. It refuses to
//! guess: a relation, function, operator or type that isn't known, a shape that
//! the reader couldn't classify, and anything that no rule mentions is denied.

mod counting;
mod covered;
mod functions;
mod relations;
pub(super) mod settings;
mod words;

use std::collections::BTreeMap;

use jiff::Timestamp;

pub use self::counting::{Counted, RowRule};
pub use self::functions::refuse_parameter;
pub use self::settings::refuse_at_startup;
pub(super) use self::words::{condition, word};
use super::{Allowed, Compiled, Denied, Held, Role, RuleRef, Verdict, standing::Standing};
use crate::{
    policy::standing::{Object, Occasion},
    sql::{
        Action, Catalog, Resolution, ScanReplacement, SideDoor, Statement, StatementKind,
        TransactionControl,
    },
};

/// What is to be done with a statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// What stands for the scans of relations with masked or hidden columns, where
    /// the statement is allowed or held: all of them must be spliced in.
    pub replacements: Vec<ScanReplacement>,
    /// How many values it looks up, by masked column.
    pub lookups: BTreeMap<String, u32>,
    /// Where it is held: one for each group or person whose approval it takes, the
    /// verdict's own first.
    pub holds: Vec<Held>,
    /// The rules that hang on how many rows it hits, those that deny first. They are
    /// to be asked before it runs, and kept while it does.
    pub row_rules: Vec<RowRule>,
}

/// Decides one statement of a role whose policy is compiled for this catalog, at this
/// time.
pub fn decide(
    statement: &Statement,
    role: &Role,
    compiled: &Compiled,
    catalog: &Catalog,
    now: Timestamp,
) -> Decision {
    let mut judge = Judge {
        statement,
        role,
        compiled,
        catalog,
        now,
        allowed: None,
        holds: Vec::new(),
        row_rules: Vec::new(),
    };
    let Masked { columns: masked, lookups, replacements } = match judge.judge() {
        Ok(judged) => judged,
        Err(denied) => {
            let verdict = Verdict::Deny(denied);
            let (replacements, lookups, holds, row_rules) = Default::default();
            return Decision { verdict, replacements, lookups, holds, row_rules };
        }
    };
    let Judge { allowed, holds, mut row_rules, .. } = judge;
    row_rules.sort_by_key(|rule| matches!(rule.verdict, Verdict::Hold(_)));
    let verdict = match holds.first() {
        Some(held) => Verdict::Hold(held.clone()),
        None => {
            let rule = allowed.unwrap_or_else(|| builtin("no-relation"));
            Verdict::Allow(Allowed { rule, masked, lookups: lookups.clone() })
        }
    };
    Decision { verdict, replacements, lookups, holds, row_rules }
}

/// One statement before its policy.
struct Judge<'a> {
    statement: &'a Statement,
    role: &'a Role,
    compiled: &'a Compiled,
    catalog: &'a Catalog,
    now: Timestamp,
    /// The first rule that was needed.
    allowed: Option<RuleRef>,
    /// The rules that hold it, one for each who must approve.
    holds: Vec<Held>,
    row_rules: Vec<RowRule>,
}

/// How a statement that may run meets masked columns.
#[derive(Default)]
struct Masked {
    /// Those whose relations it scans.
    columns: Vec<String>,
    /// Those in which it looks values up, and how many.
    lookups: BTreeMap<String, u32>,
    replacements: Vec<ScanReplacement>,
}

/// One of pgate's own rules.
fn builtin(name: &str) -> RuleRef {
    RuleRef { rule: format!("builtin.{name}"), place: None }
}

impl Judge<'_> {
    fn judge(&mut self) -> Result<Masked, Denied> {
        let facts = &self.statement.facts;
        if let Some(shape) = facts.unclassified.first() {
            return Err(unclassified(shape));
        }
        self.kind(facts.kind)?;
        self.transaction()?;
        for used in &facts.relations {
            self.relation(used)?;
        }
        self.targets_read()?;
        self.actions()?;
        self.channels()?;
        for door in &facts.side_doors {
            self.side_door(*door)?;
        }
        for setting in &facts.settings {
            if let Some(denied) = settings::refuse(setting, self.role, self.catalog.search_path()) {
                return Err(denied);
            }
        }
        for call in &facts.functions {
            self.function(call)?;
        }
        for operator in &facts.operators {
            self.operator(operator)?;
        }
        for named in &facts.types {
            self.named_type(named)?;
        }
        self.columns()?;
        self.approved_once()?;
        self.replacements()
    }

    /// An approval is for a run. PREPARE by SQL names a statement that EXECUTE then
    /// runs as often as it likes, with values that no reviewer has seen.
    fn approved_once(&self) -> Result<(), Denied> {
        match (self.statement.facts.kind, self.holds.first()) {
            (StatementKind::Prepare, Some(held)) => Err(Denied {
                rule: held.rule.clone(),
                reason: format!("{}, which PREPARE would outlive", held.reason),
                hint: "Send the statement itself; it then waits for the approval.".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Every kind has an arm: a new one must say what it is before it compiles.
    fn kind(&self, kind: StatementKind) -> Result<(), Denied> {
        match kind {
            StatementKind::Unknown => Err(unclassified("a statement of an unknown kind")),
            // EXECUTE says only its name: nobody would ask for the hour.
            StatementKind::Prepare
                if self.role.keeps_hours() && !self.statement.facts.relations.is_empty() =>
            {
                Err(Denied {
                    rule: builtin("prepare-hours"),
                    reason: format!(
                        "role {} keeps hours, and what SQL prepares could run at any",
                        self.role.name
                    ),
                    hint: "Use the prepared statements of the protocol, as drivers do.".to_owned(),
                })
            }
            // What these do stands in their relations, actions and side doors.
            StatementKind::Select
            | StatementKind::Insert
            | StatementKind::Update
            | StatementKind::Delete
            | StatementKind::Merge
            | StatementKind::Truncate
            | StatementKind::CopyOut
            | StatementKind::CopyIn
            | StatementKind::CopyServer
            | StatementKind::Explain
            | StatementKind::Prepare
            | StatementKind::DeclareCursor
            | StatementKind::Set
            | StatementKind::Lock
            | StatementKind::Notify
            | StatementKind::Call
            | StatementKind::Do
            | StatementKind::Ddl
            | StatementKind::Maintain => Ok(()),
            // What these name was decided when it was prepared or declared, through pgate.
            StatementKind::Empty
            | StatementKind::Execute
            | StatementKind::Deallocate
            | StatementKind::Cursor
            | StatementKind::Transaction
            | StatementKind::Show
            | StatementKind::Discard => Ok(()),
        }
    }

    fn transaction(&self) -> Result<(), Denied> {
        match self.statement.facts.transaction {
            Some(TransactionControl::TwoPhase) => Err(Denied {
                rule: builtin("two-phase"),
                reason: "two-phase commit outlives the session".to_owned(),
                hint: "Use COMMIT or ROLLBACK.".to_owned(),
            }),
            None
            | Some(
                TransactionControl::Begin
                | TransactionControl::Commit
                | TransactionControl::Rollback
                | TransactionControl::Savepoint
                | TransactionControl::Characteristics,
            ) => Ok(()),
        }
    }

    /// Actions that no relation of the statement stands for.
    fn actions(&mut self) -> Result<(), Denied> {
        let facts = &self.statement.facts;
        let door = facts.side_doors.contains(&SideDoor::DoBlock);
        if facts.drops_dependents {
            self.drops()?;
        }
        for action in &facts.actions {
            match action {
                // These come on top of what the statement does anyway: a rule can take them
                // away, but need not give them.
                // Settings are decided one by one besides.
                Action::Copy | Action::Explain | Action::Merge | Action::Set => {
                    self.not_taken_away(*action)?;
                }
                Action::Call if door => {}
                Action::Call => self.call()?,
                Action::Ddl
                | Action::Create
                | Action::Alter
                | Action::Drop
                | Action::Grant
                | Action::Comment
                | Action::Maintain
                    if facts.relations.iter().any(|used| used.action == *action) => {}
                Action::Ddl
                | Action::Create
                | Action::Alter
                | Action::Drop
                | Action::Grant
                | Action::Comment => {
                    let occasion = self.occasion(*action, Object::Everything);
                    self.stands(occasion, "anything but relations")?;
                    self.needs_owner()?;
                }
                Action::Select
                | Action::Insert
                | Action::Update
                | Action::Delete
                | Action::Truncate
                | Action::Maintain => {
                    if *action == Action::Truncate {
                        self.cascades()?;
                    }
                    let occasion = self.occasion(*action, Object::Everything);
                    self.stands(occasion, "the database as a whole")?;
                    if *action == Action::Maintain {
                        self.needs_owner_to_maintain()?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Refuses an action that a rule denies on any of the statement's relations, and
    /// holds one that a rule holds.
    fn not_taken_away(&mut self, action: Action) -> Result<(), Denied> {
        self.not_taken(self.occasion(action, Object::Everything), "this database")?;
        for used in &self.statement.facts.relations {
            let Resolution::Relation(oid) = used.resolution else { continue };
            let Some(relation) = self.catalog.relation(oid) else { continue };
            let beneath = self.role.beneath(action, relation, self.catalog);
            for relation in std::iter::once(relation).chain(beneath) {
                let (schema, name) = (relation.schema.as_str(), relation.name.as_str());
                let occasion = self.occasion(action, Object::Relation(schema, name));
                self.not_taken(occasion, &format!("{schema}.{name}"))?;
            }
        }
        Ok(())
    }

    /// Refuses what a rule denies, and notes who holds it or counts its rows. No rule need
    /// allow it.
    fn not_taken(&mut self, occasion: Occasion<'_>, shown: &str) -> Result<(), Denied> {
        self.not_taken_uncounted(&occasion, shown)?;
        self.count(occasion, shown)
    }

    /// The same for what has no rows to count.
    fn not_taken_uncounted(&mut self, occasion: &Occasion<'_>, shown: &str) -> Result<(), Denied> {
        match self.role.standing(occasion) {
            Standing::Denied(rule) => return Err(self.denied_by(rule, occasion.action, shown)),
            Standing::Held => self.hold_each(occasion, shown),
            Standing::Allowed(_) | Standing::NotNow(_) | Standing::Unmentioned => {}
        }
        Ok(())
    }

    fn occasion<'o>(&self, action: Action, object: Object<'o>) -> Occasion<'o> {
        Occasion { action, object, unfiltered: false, now: self.now }
    }

    fn call(&mut self) -> Result<(), Denied> {
        let called = self
            .statement
            .facts
            .functions
            .iter()
            .flat_map(|call| {
                self.catalog
                    .functions(&call.name)
                    .filter(|function| call.candidates.contains(&function.oid))
                    .map(|function| (function.schema.clone(), function.name.clone()))
                    .collect::<Vec<_>>()
            })
            .collect::<Vec<_>>();
        if called.is_empty() {
            let occasion = self.occasion(Action::Call, Object::Everything);
            return self.stands(occasion, "the database as a whole");
        }
        for (schema, name) in called {
            let object = Object::Relation(&schema, &name);
            let occasion = self.occasion(Action::Call, object);
            self.stands(occasion, &format!("{schema}.{name}"))?;
        }
        Ok(())
    }

    /// An action on something must be allowed, and not denied. A hold is noted.
    fn stands(&mut self, occasion: Occasion<'_>, shown: &str) -> Result<(), Denied> {
        self.stands_uncounted(occasion, shown)?;
        self.count(occasion, shown)
    }

    /// The same for what has no rows to count.
    fn stands_uncounted(&mut self, occasion: Occasion<'_>, shown: &str) -> Result<(), Denied> {
        let action = occasion.action;
        match self.role.standing(&occasion) {
            Standing::Denied(rule) => return Err(self.denied_by(rule, action, shown)),
            Standing::Held => self.hold_each(&occasion, shown),
            Standing::Allowed(rule) => {
                self.allowed.get_or_insert_with(|| rule.source.clone());
            }
            Standing::NotNow(rule) => {
                return Err(Denied {
                    rule: rule.source.clone(),
                    reason: format!(
                        "role {} does not allow {} on {shown} at this time",
                        self.role.name,
                        word(action)
                    ),
                    hint: format!("It is allowed{}.", condition(rule)),
                });
            }
            Standing::Unmentioned => {
                return Err(Denied {
                    rule: builtin("default-deny"),
                    reason: format!(
                        "role {} does not allow {} on {shown}",
                        self.role.name,
                        word(action)
                    ),
                    hint: "Ask for a role that allows it: `pgate targets` lists those that you \
                           may ask for."
                        .to_owned(),
                });
            }
        }
        Ok(())
    }

    /// One hold for each who must approve, by every rule that holds it.
    fn hold_each(&mut self, occasion: &Occasion<'_>, shown: &str) {
        let role = self.role;
        for rule in role.holding(occasion) {
            self.hold(rule, occasion.action, shown);
        }
    }

    fn hold(&mut self, rule: &super::Rule, action: Action, shown: &str) {
        if !self.holds.iter().any(|held| held.reviewers == rule.reviewers) {
            self.holds.push(self.held_by(rule, action, shown));
        }
    }

    /// What a session creates must outlive its own database role.
    fn needs_owner(&self) -> Result<(), Denied> {
        if self.role.owner.is_some() {
            return Ok(());
        }
        Err(Denied {
            rule: builtin("ddl-owner"),
            reason: format!(
                "role {} names no owner for what it would create or change",
                self.role.name
            ),
            hint: "Ask for a role for migrations; in its policy, owner = \"…\" names the owner."
                .to_owned(),
        })
    }

    /// DROP … CASCADE drops views, constraints and children that it doesn't name: it can't get
    /// past a rule on some of them. One on everything is asked for what is named, too.
    fn drops(&self) -> Result<(), Denied> {
        let Role { deny, hold, name, .. } = self.role;
        let on_some = |rule: &&super::Rule| rule.names(Action::Drop) && !rule.on.is_empty();
        let Some(rule) = deny.iter().chain(hold).find(on_some) else { return Ok(()) };
        Err(Denied {
            rule: builtin("cascade"),
            reason: format!(
                "CASCADE would drop what the statement doesn't name, and role {name} may not drop \
                 everything (rule {})",
                rule.source
            ),
            hint: "Drop what depends on it by name first, without CASCADE.".to_owned(),
        })
    }

    /// TRUNCATE … CASCADE empties tables that it doesn't name: it can't get past a rule.
    fn cascades(&self) -> Result<(), Denied> {
        let Role { deny, hold, .. } = self.role;
        let ruled = deny.iter().chain(hold).any(|rule| rule.names(Action::Truncate));
        if !ruled && self.role.may(Action::Truncate, Object::Everything) {
            return Ok(());
        }
        Err(Denied {
            rule: builtin("cascade"),
            reason: format!(
                "CASCADE would empty tables that the statement doesn't name, and role {} may not \
                 empty every one",
                self.role.name
            ),
            hint: "Name every table, without CASCADE.".to_owned(),
        })
    }

    /// Before PostgreSQL 17 there is no privilege for this: it skips what isn't one's own.
    fn needs_owner_to_maintain(&self) -> Result<(), Denied> {
        if !self.compiled.needs_owner_to_maintain(self.catalog) {
            return Ok(());
        }
        Err(Denied {
            rule: builtin("maintain-owner"),
            reason: "before PostgreSQL 17 only a table's owner may maintain it, and role "
                .to_owned()
                + &self.role.name
                + " names none",
            hint: "In the role's policy, owner = \"…\" names the owner.".to_owned(),
        })
    }

    /// LISTEN and NOTIFY may name the channels that the role names; any where there is no
    /// rule that they could get past.
    fn channels(&mut self) -> Result<(), Denied> {
        if self.is_unrestricted() && self.role.detect.is_empty() {
            return Ok(());
        }
        for channel in &self.statement.facts.channels {
            let Some(at) = self.role.channels.iter().position(|open| open == channel) else {
                return Err(Denied {
                    rule: builtin("notification"),
                    reason: format!(
                        "role {} names no channel \"{channel}\": notifications carry data past \
                         the rules",
                        self.role.name
                    ),
                    hint: format!("A role opens it with channels = [\"{channel}\"]."),
                });
            };
            self.allowed.get_or_insert_with(|| RuleRef {
                rule: format!("role.{}.channels[{at}]", self.role.name),
                place: None,
            });
        }
        Ok(())
    }

    /// All are shut, but for definitions of a role that may define everything and from
    /// which nothing is kept, and for what only hides from the rules where there is no
    /// rule that it could hide from.
    fn side_door(&self, door: SideDoor) -> Result<(), Denied> {
        let (what, name) = match door {
            SideDoor::DoBlock | SideDoor::Temporary if self.is_unrestricted() => return Ok(()),
            SideDoor::DoBlock => ("a DO block runs code that pgate can't read", "do-block"),
            SideDoor::ServerFile => {
                ("COPY would read or write a file of the server", "server-file")
            }
            SideDoor::ServerProgram => ("COPY would run a program on the server", "server-program"),
            // Each of its channels has been found open.
            SideDoor::Notification => return Ok(()),
            SideDoor::LoadLibrary => ("LOAD runs a library in the server", "load"),
            SideDoor::ForeignData => ("foreign data reaches other servers", "foreign-data"),
            SideDoor::Replication => ("replication carries data past the rules", "replication"),
            SideDoor::Identity => ("a session keeps the identity of its grant", "identity"),
            SideDoor::ServerWide => ("it would change the server as a whole", "server-wide"),
            SideDoor::StoredCode if self.defines_everything() => return Ok(()),
            SideDoor::StoredCode => {
                ("what it defines would run later with other rights", "stored-code")
            }
            SideDoor::Extension => ("extensions bring code that pgate doesn't know", "extension"),
            SideDoor::LargeObject => {
                ("labels and large objects are stores that no rule covers", "large-object")
            }
            SideDoor::Temporary => ("temporary objects shadow other names", "temporary"),
        };
        Err(Denied {
            rule: builtin(name),
            reason: what.to_owned(),
            hint: match door {
                SideDoor::ServerFile | SideDoor::ServerProgram => {
                    "Use COPY … TO STDOUT or FROM STDIN (in psql: \\copy).".to_owned()
                }
                SideDoor::Temporary => "Use a common table expression (WITH …) instead.".to_owned(),
                SideDoor::DoBlock => "Send the statements one by one.".to_owned(),
                _ => "Have it done by an administrator of the database.".to_owned(),
            },
        })
    }

    /// Whether the role may do everything everywhere, and nothing is kept from it: there
    /// is no rule that a temporary name, a DO block or a notification could get past.
    fn is_unrestricted(&self) -> bool {
        let on_rows = [
            Action::Select,
            Action::Insert,
            Action::Update,
            Action::Delete,
            Action::Truncate,
            Action::Call,
            Action::Maintain,
        ];
        self.defines_everything()
            && !self.role.keeps_hours()
            && !self.role.rules_on_columns()
            && on_rows.iter().all(|action| self.role.may(*action, Object::Everything))
    }

    /// Whether stored code could give the role nothing that it doesn't have: it may
    /// define anything, and nothing is denied to it, held, masked or hidden.
    fn defines_everything(&self) -> bool {
        let Role { deny, hold, mask, hide, owner, .. } = self.role;
        deny.is_empty()
            && hold.is_empty()
            && mask.is_empty()
            && hide.is_empty()
            && owner.is_some()
            && [Action::Create, Action::Alter, Action::Drop, Action::Grant, Action::Comment]
                .iter()
                .all(|action| self.role.may(*action, Object::Everything))
    }
}

fn unclassified(shape: &str) -> Denied {
    Denied {
        rule: builtin("unclassified"),
        reason: format!("pgate can't tell what this statement does ({shape})"),
        hint: "Write it another way; if it is an ordinary statement, please report it.".to_owned(),
    }
}

#[cfg(test)]
mod kinship;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod ways;
