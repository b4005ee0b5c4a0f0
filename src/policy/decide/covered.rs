//! Masked and hidden columns: what may be asked of them, and what is scanned in
//! their place.

use super::{Judge, Masked};
use crate::{
    policy::{
        Denied, Predicates,
        compile::{Cover, Unreadable},
    },
    sql::{
        Access, Action, AttributeNumber, ColumnContext, ColumnUse, LookupPredicate, Oid,
        RelationUse, Resolution, ScanReplacement, StatementKind,
    },
};

impl Judge<'_> {
    pub(super) fn columns(&self) -> Result<(), Denied> {
        let facts = &self.statement.facts;
        self.explains_what_it_runs()?;
        for used in &facts.relations {
            if let Resolution::Relation(oid) = used.resolution {
                self.readable(used, oid)?;
                self.explainable(oid)?;
                self.without_rules(used, oid)?;
            }
        }
        for (reference, column) in facts.columns.iter().enumerate() {
            for (at, number) in &column.candidates {
                let Some(used) = facts.relations.get(*at) else {
                    return Err(super::unclassified("a column of no relation"));
                };
                if let Resolution::Relation(oid) = used.resolution {
                    self.column((reference, column), used, oid, *number)?;
                }
            }
        }
        for used in &facts.relations {
            self.written_columns(used)?;
        }
        Ok(())
    }

    /// Refuses views that no mask can make safe.
    fn readable(&self, used: &RelationUse, oid: Oid) -> Result<(), Denied> {
        let Some(unreadable) = self.compiled.unreadable(oid) else { return Ok(()) };
        let name = self.column_name(oid, None);
        let reason = match (unreadable, used.access) {
            (_, Access::Ddl | Access::Maintain | Access::Truncate) => return Ok(()),
            (Unreadable::TellingRows { of }, _) => {
                format!("which rows {name} has would tell of {of}, which is masked")
            }
            // A write that reads the view is a read like any other.
            (Unreadable::CallersRights, access) if access.is_write() && self.reads_target(oid) => {
                format!(
                    "the write reads the view {name}, which reads masked columns with its \
                     caller's rights (security_invoker)"
                )
            }
            (_, access) if access.is_write() => return Ok(()),
            (Unreadable::NothingClean, _) => {
                format!("{name} has no column that role {} sees as it is", self.role.name)
            }
            (Unreadable::CallersRights, _) => format!(
                "the view {name} reads masked columns with its caller's rights (security_invoker)"
            ),
        };
        let rule = self.compiled.any_cover(oid).map(|cover| cover.rule().clone());
        Err(Denied {
            rule: rule.unwrap_or_else(|| super::builtin("view")),
            reason,
            hint: "Query the tables that it is made of: their masks are applied there.".to_owned(),
        })
    }

    /// Refuses plans of what lies in partitions by a masked column: a plan says how many
    /// rows come of each.
    fn explainable(&self, oid: Oid) -> Result<(), Denied> {
        let facts = &self.statement.facts;
        let Some(relation) = self.catalog.relation(oid) else { return Ok(()) };
        if !facts.actions.contains(&Action::Explain) {
            return Ok(());
        }
        for beneath in self.catalog.beneath(relation) {
            if let Some(Unreadable::TellingRows { of }) = self.compiled.unreadable(beneath.oid) {
                return Err(Denied {
                    rule: super::builtin("explain-partitions"),
                    reason: format!(
                        "a plan tells the rows of {}, which would tell of {of}, which is masked",
                        self.column_name(beneath.oid, None)
                    ),
                    hint: "Send the statement without EXPLAIN.".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Refuses a write that asks in which partition by a masked column a row lies, or at which
    /// place of it: whoever fills one partition tells it from the others by that. (What is
    /// scanned in place of such a table says neither.)
    fn tells_no_partition(
        &self,
        used: &RelationUse,
        oid: Oid,
        number: Option<AttributeNumber>,
    ) -> Result<(), Denied> {
        let places = ["tableoid", "ctid"].map(AttributeNumber::of_system_column);
        let asks = number.is_some() && places.contains(&number);
        let Some(relation) = self.catalog.relation(oid).filter(|_| asks) else { return Ok(()) };
        let beneath = self.catalog.beneath(relation);
        let told = beneath.iter().find_map(|part| match self.compiled.unreadable(part.oid) {
            Some(Unreadable::TellingRows { of }) => Some(of),
            _ => None,
        });
        let Some(of) = told.filter(|_| used.access != Access::Scan) else { return Ok(()) };
        Err(Denied {
            rule: super::builtin("row-place"),
            reason: format!(
                "tableoid and ctid say in which partition of {} a row lies, which would tell of \
                 {of}, which is masked",
                self.column_name(oid, None)
            ),
            hint: "Leave them out.".to_owned(),
        })
    }

    /// Refuses the plan of what EXECUTE names, where it might lie in such partitions.
    fn explains_what_it_runs(&self) -> Result<(), Denied> {
        let facts = &self.statement.facts;
        if !facts.actions.contains(&Action::Explain) || facts.prepared.is_empty() {
            return Ok(());
        }
        let Some(of) = self.compiled.divided_by(self.catalog) else { return Ok(()) };
        Err(Denied {
            rule: super::builtin("explain-partitions"),
            reason: format!(
                "a plan tells the rows of each partition, and there are some by {of}, which is masked"
            ),
            hint: "Explain the statement itself.".to_owned(),
        })
    }

    /// Whether the statement reads columns of this relation, to which it writes.
    pub(super) fn reads_target(&self, oid: Oid) -> bool {
        let facts = &self.statement.facts;
        let mut targets = facts.targets_read().into_keys();
        targets.any(|at| {
            let used = facts.relations.get(at);
            used.is_some_and(|used| used.resolution == Resolution::Relation(oid))
        })
    }

    /// Refuses writes with which rules of the relation's owner run.
    fn without_rules(&self, used: &RelationUse, oid: Oid) -> Result<(), Denied> {
        let writes =
            matches!(used.access, Access::Insert | Access::Update | Access::Delete | Access::Merge);
        let has_rules = self.catalog.relation(oid).is_some_and(|relation| relation.write_rules);
        if !writes || !has_rules || self.compiled.masked_columns().is_empty() {
            return Ok(());
        }
        Err(Denied {
            rule: super::builtin("write-rules"),
            reason: format!(
                "writing to {} runs rules that may read masked columns with their owner's rights",
                self.column_name(oid, None)
            ),
            hint: "Write to the tables behind it, or have its rules (CREATE RULE) made triggers."
                .to_owned(),
        })
    }

    /// One meaning of one column reference.
    fn column(
        &self,
        (reference, column): (usize, &ColumnUse),
        used: &RelationUse,
        oid: Oid,
        number: Option<AttributeNumber>,
    ) -> Result<(), Denied> {
        let number = number.filter(|number| *number != AttributeNumber::WHOLE_ROW);
        self.tells_no_partition(used, oid, number)?;
        let cover = match number {
            Some(number) => self.compiled.cover(oid, number),
            None => self.compiled.any_cover(oid),
        };
        let Some(cover) = cover else { return Ok(()) };
        let name = self.column_name(oid, number);
        if let (Some(_), Cover::Hidden { rule }) = (number, cover) {
            return Err(Denied {
                rule: rule.clone(),
                reason: format!("the column {name} is hidden from role {}", self.role.name),
                hint: "Leave it out; SELECT * does so by itself.".to_owned(),
            });
        }
        if self.stores() {
            return Err(Denied {
                rule: cover.rule().clone(),
                reason: format!(
                    "a statement that writes can't read {name}, which role {} sees only masked",
                    self.role.name
                ),
                hint: "Name the clean columns it needs, one by one; a mask must not be stored, \
                       compared or returned by a write."
                    .to_owned(),
            });
        }
        if used.access != Access::Scan {
            return Err(unmaskable(&name, cover));
        }
        let asks = column.context == ColumnContext::Predicate && !column.star;
        let looked_up = |lookup: &LookupPredicate| {
            lookup.reference == reference && self.looks_up(lookup, oid).is_some()
        };
        if asks
            && self.role.predicates == Predicates::Deny
            && !self.statement.facts.lookups.iter().any(looked_up)
        {
            let may = number.is_some_and(|number| self.compiled.may_look_up(oid, number));
            let hint = if may {
                "It can be looked up: in the WHERE of a SELECT, as a condition of its own, `column \
                 = value` or `column IN (values)`, where the values are constants or parameters."
            } else {
                "Filter by another column; ordering and grouping by it are allowed."
            };
            return Err(Denied {
                rule: cover.rule().clone(),
                reason: format!(
                    "{name} is masked for role {}, so a condition on it would compare the mask",
                    self.role.name
                ),
                hint: hint.to_owned(),
            });
        }
        Ok(())
    }

    /// The condition that answers a look-up, where the role may ask and the statement
    /// runs it once: what PREPARE names runs again and again without being seen.
    fn looks_up(&self, lookup: &LookupPredicate, oid: Oid) -> Option<String> {
        let once = matches!(
            self.statement.facts.kind,
            StatementKind::Select | StatementKind::DeclareCursor | StatementKind::CopyOut
        );
        if !once || self.stores() {
            return None;
        }
        self.compiled.lookup(oid, lookup.column, &lookup.values)
    }

    /// Columns that are named as the target of a write or of a COPY.
    fn written_columns(&self, used: &RelationUse) -> Result<(), Denied> {
        let Resolution::Relation(oid) = used.resolution else { return Ok(()) };
        let Some(relation) = self.catalog.relation(oid) else { return Ok(()) };
        let hidden = |number| match self.compiled.cover(oid, number) {
            Some(Cover::Hidden { rule }) => Some(rule.clone()),
            Some(Cover::Mask { .. }) | None => None,
        };
        let fills_all = used.access == Access::Insert && used.columns.is_empty();
        for column in &relation.columns {
            let named = used.columns.contains(&column.name);
            if let Some(rule) = hidden(column.number).filter(|_| named || fills_all) {
                return Err(Denied {
                    rule,
                    reason: format!(
                        "the column {} is hidden from role {}",
                        self.column_name(oid, Some(column.number)),
                        self.role.name
                    ),
                    hint: "Name the other columns, one by one.".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Whether what the statement reads may end up stored, or be told by what a write did.
    fn stores(&self) -> bool {
        self.statement.facts.relations.iter().any(|used| match used.access {
            Access::Insert | Access::Update | Access::Delete | Access::Merge | Access::Ddl => true,
            Access::Scan | Access::Lock | Access::Truncate | Access::Maintain => false,
        })
    }

    /// What stands for each scan of a relation with covered columns, and those columns.
    pub(super) fn replacements(&self) -> Result<Masked, Denied> {
        let mut masked = Masked::default();
        for (at, used) in self.statement.facts.relations.iter().enumerate() {
            let Resolution::Relation(oid) = used.resolution else { continue };
            if used.access != Access::Scan || !self.compiled.covers_any(oid) {
                continue;
            }
            let cover = self.compiled.any_cover(oid);
            let select = self.compiled.replacement_for(oid, used.only);
            let (Some(cover), Some(mut select)) = (cover, select) else {
                return Err(super::unclassified("a masked relation without a mask"));
            };
            if used.sampled {
                return Err(Denied {
                    rule: super::builtin("unmaskable"),
                    reason: format!(
                        "{} has masked columns, and PostgreSQL can't sample a masked table",
                        self.column_name(oid, None)
                    ),
                    hint: "Use WHERE random() < 0.01 instead of TABLESAMPLE.".to_owned(),
                });
            }
            if used.range.is_empty() {
                return Err(unmaskable(&self.column_name(oid, None), cover));
            }
            let mut omitted = Vec::new();
            for (number, cover) in self.compiled.covered(oid) {
                match cover {
                    Cover::Mask { .. } => {
                        masked.columns.push(self.column_name(oid, Some(number)));
                    }
                    Cover::Hidden { .. } => omitted.push(number),
                }
            }
            let mut answered = Vec::new();
            for (index, lookup) in self.statement.facts.lookups.iter().enumerate() {
                if lookup.relation != at {
                    continue;
                }
                let Some(condition) = self.looks_up(lookup, oid) else { continue };
                select.push_str(if answered.is_empty() { " WHERE " } else { " AND " });
                select.push_str(&condition);
                answered.push(index);
                let values = u32::try_from(lookup.values.len()).unwrap_or(u32::MAX);
                let name = self.column_name(oid, Some(lookup.column));
                let count = masked.lookups.entry(name).or_default();
                *count = count.saturating_add(values);
            }
            masked.replacements.push(ScanReplacement { relation: at, select, omitted, answered });
        }
        masked.columns.sort();
        masked.columns.dedup();
        Ok(masked)
    }

    /// `schema.table.column`, or the table where the whole row is meant.
    fn column_name(&self, oid: Oid, number: Option<AttributeNumber>) -> String {
        let Some(relation) = self.catalog.relation(oid) else { return "a column".to_owned() };
        let table = format!("{}.{}", relation.schema, relation.name);
        match number.and_then(|number| relation.column_by_number(number)) {
            Some(column) => format!("{table}.{}", column.name),
            None => table,
        }
    }
}

fn unmaskable(name: &str, cover: &Cover) -> Denied {
    Denied {
        rule: cover.rule().clone(),
        reason: format!("pgate can't mask {name} at this place of a statement"),
        hint: "Read the table in the FROM clause of a SELECT.".to_owned(),
    }
}
