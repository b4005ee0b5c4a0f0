//! Which relations a statement may use, and for what.

use std::{collections::HashSet, sync::LazyLock};

use super::{Judge, builtin, functions::shown};
use crate::{
    policy::{
        Denied,
        compile::is_system,
        standing::{Object, Occasion, Standing},
    },
    sql::{Access, Action, Name, Relation, RelationUse, Resolution, StatementKind},
};

/// What psql's `\d` and drivers read of PostgreSQL's own catalog, by a documented rule
/// (`catalog_relations.sql`). Left out is what holds values of rows (statistics, large
/// objects), secrets (user mappings, passwords, subscriptions), files, and what other
/// sessions do.
static CATALOG: LazyLock<HashSet<&str>> =
    LazyLock::new(|| include_str!("catalog_relations.txt").lines().collect());

/// What this session has prepared and opened, with the texts as PostgreSQL got them: with
/// the masks in them.
const OWN_SESSION: [&str; 2] = ["pg_cursors", "pg_prepared_statements"];

impl Judge<'_> {
    pub(super) fn relation(&mut self, used: &RelationUse) -> Result<(), Denied> {
        let Resolution::Relation(oid) = used.resolution else { return self.unknown(used) };
        let Some(relation) = self.catalog.relation(oid) else { return self.unknown(used) };
        let (schema, name) = (relation.schema.as_str(), relation.name.as_str());
        match schema {
            "pg_catalog" | "information_schema" if oid.0 < 16_384 => self.system(used, relation),
            "pgate" => Err(Denied {
                rule: builtin("pgate-schema"),
                reason: format!("{schema}.{name} is pgate's own"),
                hint: String::new(),
            }),
            _ if (relation.temporary || schema.starts_with("pg_temp"))
                && !self.is_unrestricted()
                || schema.starts_with("pg_toast") =>
            {
                Err(Denied {
                    rule: builtin("temporary"),
                    reason: format!("{schema}.{name} is temporary or internal storage"),
                    hint: "Use a common table expression (WITH …) instead.".to_owned(),
                })
            }
            _ => {
                self.columns_stand(used, relation)?;
                self.beneath_stands(used, relation)?;
                self.callers_rights_stand(used, relation)?;
                self.lockable(used, relation)?;
                if used.action == Action::Maintain {
                    self.needs_owner_to_maintain()?;
                }
                if used.action.is_definition() { self.needs_owner() } else { Ok(()) }
            }
        }
    }

    /// LOCK TABLE takes a privilege on the whole of what it locks, and of what a view with
    /// its caller's rights uses.
    fn lockable(&self, used: &RelationUse, relation: &Relation) -> Result<(), Denied> {
        if self.statement.facts.kind != StatementKind::Lock {
            return Ok(());
        }
        let mut locked = vec![relation];
        let mut seen = HashSet::from([relation.oid]);
        while let Some(relation) = locked.pop() {
            if !self.compiled.may_lock(relation, used.action == Action::Select) {
                return Err(Denied {
                    rule: builtin("lock"),
                    reason: format!(
                        "PostgreSQL locks {}.{} only for who has a privilege on all of its columns",
                        relation.schema, relation.name
                    ),
                    hint: "Lock rows with SELECT … FOR SHARE or FOR UPDATE, or leave the lock out."
                        .to_owned(),
                });
            }
            let reads = relation.view_reads.iter().map(|(read, _)| *read);
            for read in reads.filter(|_| relation.security_invoker) {
                locked.extend(self.catalog.relation(read).filter(|_| seen.insert(read)));
            }
        }
        Ok(())
    }

    /// What nobody but this session sees yet: the rules on its name are asked, and those
    /// on columns that the statement names.
    fn new_relation_stands(&mut self, used: &RelationUse, schema: &str) -> Result<(), Denied> {
        let name = used.name.name.as_str();
        let shown = format!("{schema}.{name}");
        let whole = Occasion {
            unfiltered: used.unfiltered,
            ..self.occasion(used.action, Object::Relation(schema, name))
        };
        let by_column = self.role.rules_on_columns()
            && matches!(used.action, Action::Insert | Action::Update)
            && used.access != Access::Lock;
        if !by_column {
            self.stands(whole, &shown)?;
        } else if used.columns.is_empty() {
            return Err(Denied {
                rule: builtin("unknown-columns"),
                reason: format!(
                    "pgate doesn't know the columns of {shown} yet, and rules name some"
                ),
                hint: "Name the columns that it writes.".to_owned(),
            });
        }
        for column in used.columns.iter().filter(|_| by_column) {
            let object = Object::Column(schema, name, column);
            self.stands(Occasion { object, ..whole }, &format!("{shown}.{column}"))?;
        }
        if used.action.is_definition() { self.needs_owner() } else { Ok(()) }
    }

    /// A use of a relation must stand, and where rules are about columns each column
    /// that it writes.
    fn columns_stand(&mut self, used: &RelationUse, relation: &Relation) -> Result<(), Denied> {
        let (schema, name) = (relation.schema.as_str(), relation.name.as_str());
        let shown = format!("{schema}.{name}");
        let whole = Occasion {
            unfiltered: used.unfiltered,
            ..self.occasion(used.action, Object::Relation(schema, name))
        };
        let of = |column| Occasion { object: Object::Column(schema, name, column), ..whole };
        let all = || relation.columns.iter().map(|column| column.name.as_str());
        match (used.action, used.access) {
            _ if !self.role.rules_on_columns() => self.stands(whole, &shown),
            // A lock is what goes before an update: of one column, at least.
            (Action::Update, Access::Lock) => {
                let allows =
                    |column| matches!(self.role.standing(&of(column)), Standing::Allowed(_));
                // The reviewer allows it.
                let held = |column| matches!(self.role.standing(&of(column)), Standing::Held);
                let some = all().find(|column| allows(column));
                let some = some.or_else(|| all().find(|column| held(column)));
                let allowed = matches!(self.role.standing(&whole), Standing::Allowed(_));
                self.stands(some.filter(|_| !allowed).map_or(whole, of), &shown)
            }
            (Action::Insert | Action::Update, _) => {
                let written = used.columns.iter().map(String::as_str);
                let written: Vec<_> =
                    if used.columns.is_empty() { all().collect() } else { written.collect() };
                for column in written {
                    self.stands(of(column), &format!("{shown}.{column}"))?;
                }
                Ok(())
            }
            _ => self.stands(whole, &shown),
        }
    }

    /// Whoever refers to columns of what they write reads them: a condition tells of their
    /// values, RETURNING shows them. PostgreSQL too wants the privilege to read for that.
    pub(super) fn targets_read(&mut self) -> Result<(), Denied> {
        let facts = &self.statement.facts;
        for (at, returned) in facts.targets_read() {
            let Some(used) = facts.relations.get(at) else { continue };
            let Resolution::Relation(oid) = used.resolution else { continue };
            let Some(relation) = self.catalog.relation(oid) else { continue };
            let reads = RelationUse {
                access: Access::Scan,
                action: Action::Select,
                unfiltered: false,
                ..used.clone()
            };
            let (schema, name) = (relation.schema.as_str(), relation.name.as_str());
            let occasion = self.occasion(Action::Select, Object::Relation(schema, name));
            let shown = format!("{schema}.{name}, of which the statement reads columns");
            if returned {
                self.stands(occasion, &shown)?;
                self.beneath_stands(&reads, relation)?;
                continue;
            }
            // Nothing of what it reads is returned, so there are no rows to count.
            self.stands_uncounted(occasion, &shown)?;
            for beneath in self.role.beneath(Action::Select, relation, self.catalog) {
                let (schema, name) = (beneath.schema.as_str(), beneath.name.as_str());
                let object = Object::Relation(schema, name);
                let shown = format!("{schema}.{name}, of which the statement reads columns");
                self.not_taken_uncounted(&Occasion { object, ..occasion }, &shown)?;
            }
        }
        Ok(())
    }

    /// What is denied, held or counted on the rows of a relation is so under every name
    /// that they have, and what is of a column, wherever its values are written.
    fn beneath_stands(&mut self, used: &RelationUse, relation: &Relation) -> Result<(), Denied> {
        let (schema, name) = (relation.schema.as_str(), relation.name.as_str());
        let occasion = Occasion {
            unfiltered: used.unfiltered,
            ..self.occasion(used.action, Object::Relation(schema, name))
        };
        for beneath in self.role.beneath(used.action, relation, self.catalog) {
            let object = Object::Relation(&beneath.schema, &beneath.name);
            let shown =
                format!("{}.{}, whose rows {schema}.{name} has", beneath.schema, beneath.name);
            self.not_taken(Occasion { object, ..occasion }, &shown)?;
        }
        let writes = matches!(used.action, Action::Insert | Action::Update)
            && used.access != Access::Lock
            && self.role.rules_on_columns();
        let written = relation
            .columns
            .iter()
            .filter(|column| used.columns.is_empty() || used.columns.contains(&column.name));
        for column in written.filter(|_| writes) {
            let columns = self.role.stored_in(used.action, (relation, column), self.catalog);
            for (beneath, stored) in columns {
                let object = Object::Column(&beneath.schema, &beneath.name, &stored.name);
                let shown = format!(
                    "{}.{}.{}, which {schema}.{name}.{} is stored in",
                    beneath.schema, beneath.name, stored.name, column.name
                );
                self.not_taken(Occasion { object, ..occasion }, &shown)?;
            }
        }
        Ok(())
    }

    /// A view that uses its relations with its caller's rights (security_invoker) needs
    /// these: to read all of them, and to write where it is written to.
    fn callers_rights_stand(
        &mut self,
        used: &RelationUse,
        relation: &Relation,
    ) -> Result<(), Denied> {
        // Whether writes reach it with the session's rights: through such views alone.
        let locks = used.access == Access::Lock;
        let reads = !used.access.is_write() || self.reads_target(relation.oid);
        let mut views = vec![(relation, locks || used.access.is_write())];
        let mut seen = HashSet::new();
        while let Some((view, written)) = views.pop() {
            let written = written && view.security_invoker;
            for (oid, _) in &view.view_reads {
                let Some(read) = self.catalog.relation(*oid) else { continue };
                if !seen.insert((view.oid, *oid)) {
                    continue;
                }
                views.push((read, written));
                if !view.security_invoker || is_system(&read.schema) {
                    continue;
                }
                let (schema, name) = (read.schema.as_str(), read.name.as_str());
                let shown = format!(
                    "{schema}.{name}, which {}.{} uses with its caller's rights",
                    view.schema, view.name
                );
                let object = Object::Relation(schema, name);
                if reads {
                    self.stands_uncounted(self.occasion(Action::Select, object), &shown)?;
                }
                if written && locks {
                    self.columns_stand(used, read)?;
                } else if written {
                    self.written_stands(used, relation, read, &shown)?;
                }
            }
        }
        Ok(())
    }

    /// What is written through a view with its caller's rights must be allowed where it
    /// is stored.
    fn written_stands(
        &mut self,
        used: &RelationUse,
        view: &Relation,
        stored: &Relation,
        shown: &str,
    ) -> Result<(), Denied> {
        let by_column = self.role.rules_on_columns()
            && matches!(used.action, Action::Insert | Action::Update)
            && used.access != Access::Lock;
        if !by_column {
            let object = Object::Relation(&stored.schema, &stored.name);
            return self.stands_uncounted(self.occasion(used.action, object), shown);
        }
        for column in &view.columns {
            if !used.columns.is_empty() && !used.columns.contains(&column.name) {
                continue;
            }
            for (relation, column) in self.catalog.stored_in(view, column.number) {
                if relation.oid == stored.oid {
                    let object = Object::Column(&stored.schema, &stored.name, &column.name);
                    self.stands_uncounted(self.occasion(used.action, object), shown)?;
                }
            }
        }
        Ok(())
    }

    /// PostgreSQL's own: reading it for a description of the database is for everybody.
    fn system(&mut self, used: &RelationUse, relation: &Relation) -> Result<(), Denied> {
        let (schema, name) = (relation.schema.as_str(), relation.name.as_str());
        let object = Object::Relation(schema, name);
        if let Standing::Denied(rule) = self.role.standing(&self.occasion(used.action, object))
            && rule.on.iter().any(|pattern| pattern.to_string().starts_with(schema))
        {
            return Err(self.denied_by(rule, used.action, &format!("{schema}.{name}")));
        }
        let reads = used.access == Access::Scan && used.action == Action::Select;
        let open = match schema {
            "information_schema" => !name.contains("user_mapping") && !name.starts_with("_pg_"),
            _ => CATALOG.contains(name) || OWN_SESSION.contains(&name) && self.is_unrestricted(),
        };
        if reads && open {
            self.allowed.get_or_insert_with(|| builtin("catalog"));
            return Ok(());
        }
        Err(Denied {
            rule: builtin("catalog"),
            reason: if reads {
                format!("{schema}.{name} can show values of rows, secrets or other sessions")
            } else {
                format!("{schema}.{name} is PostgreSQL's own and can only be read")
            },
            hint: "What describes tables, types and functions can be read, as psql's \\d does."
                .to_owned(),
        })
    }

    /// A relation that isn't in the catalog may be defined by this statement, or may have
    /// been by this session in a transaction that is still open, which nobody else sees.
    /// Only roles that name an owner create anything, and those have no masks: the
    /// rules on its name are all that there is to know of it.
    fn unknown(&mut self, used: &RelationUse) -> Result<(), Denied> {
        if let Some(schema) = self.schema_of_new(&used.name)
            && (self.role.owner.is_some() || used.action.is_definition())
        {
            return self.new_relation_stands(used, &schema);
        }
        Err(Denied {
            rule: builtin("unknown-relation"),
            reason: format!("there is no relation {} that pgate knows", shown(&used.name)),
            hint: "Check its name and schema; pgate reads the catalog again when it has changed."
                .to_owned(),
        })
    }

    /// The schema that an object of this name would be created in; none where pgate
    /// lets nobody create any.
    pub(super) fn schema_of_new(&self, name: &Name) -> Option<String> {
        let schema = match &name.schema {
            Some(schema) => schema,
            None => {
                let path = self.catalog.search_path();
                path.iter().find(|schema| !schema.starts_with("pg_"))?
            }
        };
        let temporary = schema == "pg_temp" && self.is_unrestricted();
        let own = schema.starts_with("pg_") && !temporary
            || schema == "information_schema"
            || schema == "pgate";
        (!own).then(|| schema.clone())
    }
}
