//! Which relations a statement may use, and for what.

use std::{collections::HashSet, sync::LazyLock};

use super::{Judge, builtin, functions::shown};
use crate::{
    policy::{
        Denied,
        standing::{Object, Standing},
    },
    sql::{Access, Action, Name, Relation, RelationUse, Resolution},
};

/// What psql's `\d` and drivers read of PostgreSQL's own catalog. Left out is what
/// holds values of rows (statistics, large objects), secrets (user mappings,
/// passwords, subscriptions), files, and what other sessions do.
static CATALOG: LazyLock<HashSet<&str>> =
    LazyLock::new(|| include_str!("catalog_relations.txt").lines().collect());

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
            _ if relation.temporary
                || schema.starts_with("pg_temp")
                || schema.starts_with("pg_toast") =>
            {
                Err(Denied {
                    rule: builtin("temporary"),
                    reason: format!("{schema}.{name} is temporary or internal storage"),
                    hint: "Use a common table expression (WITH …) instead.".to_owned(),
                })
            }
            _ => {
                let object = Object::Relation(schema, name);
                self.stands(used.action, object, &format!("{schema}.{name}"))?;
                match used.action {
                    Action::Ddl => self.needs_owner(),
                    _ => Ok(()),
                }
            }
        }
    }

    /// PostgreSQL's own: reading it for a description of the database is for everybody.
    fn system(&mut self, used: &RelationUse, relation: &Relation) -> Result<(), Denied> {
        let (schema, name) = (relation.schema.as_str(), relation.name.as_str());
        let object = Object::Relation(schema, name);
        if let Standing::Denied(rule) = self.role.standing(used.action, object, false)
            && rule.on.iter().any(|pattern| pattern.to_string().starts_with(schema))
        {
            return Err(self.denied_by(rule, used.action, &format!("{schema}.{name}")));
        }
        let reads = used.access == Access::Scan && used.action == Action::Select;
        let open = match schema {
            "information_schema" => !name.contains("user_mapping") && !name.starts_with("_pg_"),
            _ => CATALOG.contains(name),
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
            && (self.role.owner.is_some() || used.action == Action::Ddl)
        {
            let object = Object::Relation(&schema, &used.name.name);
            self.stands(used.action, object, &format!("{schema}.{}", used.name.name))?;
            return match used.action {
                Action::Ddl => self.needs_owner(),
                _ => Ok(()),
            };
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
        let own = schema.starts_with("pg_") || schema == "information_schema" || schema == "pgate";
        (!own).then(|| schema.clone())
    }
}
