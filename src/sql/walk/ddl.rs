//! Statements that define, change, drop, comment on or give rights to objects.
//!
//! Owns which relations they concern and which side doors they open. Where an
//! object is no relation, the action stands alone.

mod kind;

use pg_query::{
    Node, NodeEnum,
    protobuf::{
        CreateFunctionStmt, CreateTableAsStmt, DropBehavior, DropStmt, GrantStmt, GrantTargetType,
        ObjectType, RangeVar, RuleStmt, ViewStmt,
    },
};

use super::{
    super::{Access, Action, ColumnContext, RelationUse, Resolution, SideDoor},
    Walk, name_of,
    scope::item_of,
    shape::Shape,
    strings,
    utility::is_relation_object,
};
pub(super) use kind::is_ddl;
use kind::{doors, drops_a_column, kind};

impl Walk<'_> {
    pub(super) fn ddl(&mut self, node: &NodeEnum) {
        let Some(doors) = doors(node) else {
            self.unclassified("a definition of another kind");
            return;
        };
        self.facts.side_doors.extend(doors);
        let outer = std::mem::replace(&mut self.definition, kind(node));
        self.action(self.definition);
        match node {
            NodeEnum::CreateTableAsStmt(create) => self.create_table_as(create),
            // What a definition holds is kept, and runs later.
            _ => self.stored(|walk| walk.define(node)),
        }
        self.definition = outer;
    }

    fn define(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::ViewStmt(view) => {
                let ViewStmt { view, aliases: _, query, replace: _, options, with_check_option: _ } =
                    view.as_ref();
                if let Some(view) = view {
                    self.created(view);
                }
                self.nodes(options);
                self.ctes_of(|walk| walk.optional(query));
            }
            NodeEnum::RuleStmt(rule) => {
                let RuleStmt {
                    relation,
                    rulename: _,
                    where_clause,
                    event: _,
                    instead: _,
                    actions,
                    replace: _,
                } = rule.as_ref();
                self.level(|walk| {
                    if let Some(relation) = relation {
                        walk.ddl_relation(relation);
                    }
                    walk.optional(where_clause);
                    walk.nodes(actions);
                });
            }
            NodeEnum::CreateFunctionStmt(function) => {
                let CreateFunctionStmt {
                    is_procedure: _,
                    replace: _,
                    funcname: _,
                    parameters,
                    return_type,
                    options,
                    sql_body,
                } = function.as_ref();
                self.nodes(parameters);
                if let Some(name) = return_type {
                    self.type_name(name);
                }
                self.nodes(options);
                self.level(|walk| match sql_body.as_ref().and_then(|body| body.node.as_ref()) {
                    // The statements of BEGIN ATOMIC, in a list of one list; NULL if none.
                    Some(NodeEnum::List(blocks)) => {
                        blocks.items.iter().filter(|block| block.node.is_some()).for_each(
                            |block| {
                                walk.node(block);
                            },
                        );
                    }
                    _ => walk.optional(sql_body),
                });
            }
            NodeEnum::DropStmt(drop) => self.drop(drop),
            NodeEnum::CommentStmt(comment) => {
                if let Some(object) = &comment.object {
                    self.object(comment.objtype(), object);
                }
            }
            NodeEnum::SecLabelStmt(label) => {
                if let Some(object) = &label.object {
                    self.object(label.objtype(), object);
                }
            }
            NodeEnum::GrantStmt(grant) => self.grant(grant),
            NodeEnum::AlterDefaultPrivilegesStmt(alter) => {
                self.nodes(&alter.options);
                if let Some(grant) = &alter.action {
                    self.nodes(&grant.privileges);
                }
            }
            NodeEnum::AlterRoleSetStmt(alter) => {
                if let Some(set) = &alter.setstmt {
                    self.setting(set);
                }
            }
            NodeEnum::AlterDatabaseSetStmt(alter) => {
                if let Some(set) = &alter.setstmt {
                    self.setting(set);
                }
            }
            NodeEnum::AlterSystemStmt(alter) => {
                if let Some(set) = &alter.setstmt {
                    self.setting(set);
                }
            }
            NodeEnum::RenameStmt(rename) => {
                let index = rename.rename_type() == ObjectType::ObjectIndex;
                self.altered(rename.relation.as_ref(), rename.object.as_deref(), index, |walk| {
                    walk.object_of(rename.rename_type(), rename.object.as_deref());
                });
            }
            NodeEnum::AlterObjectSchemaStmt(alter) => {
                self.altered(alter.relation.as_ref(), alter.object.as_deref(), false, |walk| {
                    walk.object_of(alter.object_type(), alter.object.as_deref());
                });
            }
            NodeEnum::AlterOwnerStmt(alter) => {
                self.altered(alter.relation.as_ref(), alter.object.as_deref(), false, |walk| {
                    walk.object_of(alter.object_type(), alter.object.as_deref());
                });
            }
            NodeEnum::AlterObjectDependsStmt(alter) => {
                self.altered(alter.relation.as_ref(), alter.object.as_deref(), false, |walk| {
                    walk.object_of(alter.object_type(), alter.object.as_deref());
                });
            }
            NodeEnum::AlterTableStmt(alter) => {
                self.level(|walk| {
                    if let Some(relation) = &alter.relation {
                        let at = walk.ddl_relation(relation);
                        if alter.objtype() == ObjectType::ObjectIndex {
                            walk.means_index(at);
                        }
                        if alter.cmds.iter().any(drops_a_column) {
                            walk.action(Action::Drop);
                            walk.relation(relation, Access::Ddl, Action::Drop);
                        }
                    }
                    walk.nodes(&alter.cmds);
                });
            }
            NodeEnum::CreateSchemaStmt(create) => {
                for element in &create.schema_elts {
                    self.node(element);
                }
            }

            // These are the sum of their parts: their relations are concerned, and
            // their expressions are walked in sight of these.
            NodeEnum::CreateStmt(n) => self.definition(n),
            NodeEnum::CreateForeignTableStmt(n) => self.definition(n),
            NodeEnum::IndexStmt(n) => self.definition(n),
            NodeEnum::CreateStatsStmt(n) => {
                // Its relations stand in a list, as FROM items.
                for node in &n.relations {
                    match &node.node {
                        Some(NodeEnum::RangeVar(relation)) => {
                            self.ddl_relation(relation);
                        }
                        _ => self.unclassified("statistics on something else"),
                    }
                }
                self.nodes(&n.exprs);
            }
            NodeEnum::CreateSeqStmt(n) => {
                self.owned_by(&n.options);
                self.definition(n);
            }
            NodeEnum::AlterSeqStmt(n) => {
                self.owned_by(&n.options);
                self.definition(n);
            }
            NodeEnum::CompositeTypeStmt(n) => self.definition(n),
            NodeEnum::CreatePolicyStmt(n) => self.definition(n),
            NodeEnum::AlterPolicyStmt(n) => self.definition(n),
            NodeEnum::CreateTrigStmt(n) => {
                self.function_named(&strings(&n.funcname), 0, -1);
                self.definition(n);
            }
            NodeEnum::CreateEventTrigStmt(n) => self.definition(n),
            NodeEnum::AlterEventTrigStmt(n) => self.definition(n),
            NodeEnum::AlterFunctionStmt(n) => self.definition(n),
            NodeEnum::DefineStmt(n) => self.definition(n),
            NodeEnum::CreateOpClassStmt(n) => self.definition(n),
            NodeEnum::CreateOpFamilyStmt(n) => self.definition(n),
            NodeEnum::AlterOpFamilyStmt(n) => self.definition(n),
            NodeEnum::AlterOperatorStmt(n) => self.definition(n),
            NodeEnum::AlterTypeStmt(n) => self.definition(n),
            NodeEnum::CreateEnumStmt(n) => self.definition(n),
            NodeEnum::AlterEnumStmt(n) => self.definition(n),
            NodeEnum::CreateRangeStmt(n) => self.definition(n),
            NodeEnum::CreateDomainStmt(n) => self.definition(n),
            NodeEnum::AlterDomainStmt(n) => self.definition(n),
            NodeEnum::CreateConversionStmt(n) => self.definition(n),
            NodeEnum::CreateCastStmt(n) => self.definition(n),
            NodeEnum::CreateTransformStmt(n) => self.definition(n),
            NodeEnum::AlterTsdictionaryStmt(n) => self.definition(n),
            NodeEnum::AlterTsconfigurationStmt(n) => self.definition(n),
            NodeEnum::AlterCollationStmt(n) => self.definition(n),
            NodeEnum::AlterStatsStmt(n) => self.definition(n),
            NodeEnum::GrantRoleStmt(n) => self.definition(n),
            NodeEnum::CreateRoleStmt(n) => self.definition(n),
            NodeEnum::AlterRoleStmt(n) => self.definition(n),
            NodeEnum::DropRoleStmt(n) => self.definition(n),
            NodeEnum::DropOwnedStmt(n) => self.definition(n),
            NodeEnum::ReassignOwnedStmt(n) => self.definition(n),
            NodeEnum::CreateTableSpaceStmt(n) => self.definition(n),
            NodeEnum::DropTableSpaceStmt(n) => self.definition(n),
            NodeEnum::AlterTableSpaceOptionsStmt(n) => self.definition(n),
            NodeEnum::AlterTableMoveAllStmt(n) => self.definition(n),
            NodeEnum::CreatedbStmt(n) => self.definition(n),
            NodeEnum::AlterDatabaseStmt(n) => self.definition(n),
            NodeEnum::AlterDatabaseRefreshCollStmt(n) => self.definition(n),
            NodeEnum::DropdbStmt(n) => self.definition(n),
            NodeEnum::CreateExtensionStmt(n) => self.definition(n),
            NodeEnum::AlterExtensionStmt(n) => self.definition(n),
            NodeEnum::AlterExtensionContentsStmt(n) => self.definition(n),
            NodeEnum::CreateAmStmt(n) => self.definition(n),
            NodeEnum::CreatePlangStmt(n) => self.definition(n),
            NodeEnum::CreateFdwStmt(n) => self.definition(n),
            NodeEnum::AlterFdwStmt(n) => self.definition(n),
            NodeEnum::CreateForeignServerStmt(n) => self.definition(n),
            NodeEnum::AlterForeignServerStmt(n) => self.definition(n),
            NodeEnum::CreateUserMappingStmt(n) => self.definition(n),
            NodeEnum::AlterUserMappingStmt(n) => self.definition(n),
            NodeEnum::DropUserMappingStmt(n) => self.definition(n),
            NodeEnum::ImportForeignSchemaStmt(n) => self.definition(n),
            NodeEnum::CreatePublicationStmt(n) => self.definition(n),
            NodeEnum::AlterPublicationStmt(n) => self.definition(n),
            NodeEnum::CreateSubscriptionStmt(n) => self.definition(n),
            NodeEnum::AlterSubscriptionStmt(n) => self.definition(n),
            NodeEnum::DropSubscriptionStmt(n) => self.definition(n),
            _ => self.unclassified("a definition of another kind"),
        }
    }

    /// A definition that is the sum of its parts. What stands in it as a FROM item
    /// (a parent to inherit from) is concerned by it, not scanned.
    fn definition(&mut self, shape: &dyn Shape) {
        self.level(|walk| {
            let (first, definition) = (walk.facts.relations.len(), walk.definition);
            walk.parts(shape);
            for used in walk.facts.relations.iter_mut().skip(first) {
                if used.scope == walk.scope && used.access == Access::Scan {
                    used.access = Access::Ddl;
                    used.action = definition;
                    used.range = 0..0;
                }
            }
        });
    }

    fn create_table_as(&mut self, create: &CreateTableAsStmt) {
        let CreateTableAsStmt { query, into, objtype: _, is_select_into: _, if_not_exists: _ } =
            create;
        if let Some(into) = into {
            self.make(into);
        }
        let walk_query = |walk: &mut Self| {
            walk.clause(ColumnContext::Stored, |walk| walk.ctes_of(|walk| walk.optional(query)));
        };
        // A materialised view keeps its query for REFRESH.
        if create.objtype() == ObjectType::ObjectMatview {
            self.side_door(SideDoor::StoredCode);
            self.stored(walk_query);
        } else {
            walk_query(self);
        }
    }

    /// A relation that is made; it is in no scope.
    fn created(&mut self, relation: &RangeVar) {
        self.relation(relation, Access::Ddl, self.definition);
        if relation.relpersistence == "t" || relation.schemaname == "pg_temp" {
            self.side_door(SideDoor::Temporary);
        }
    }

    fn altered(
        &mut self,
        relation: Option<&RangeVar>,
        object: Option<&Node>,
        index: bool,
        of_object: impl FnOnce(&mut Self),
    ) {
        match relation {
            Some(relation) => {
                let at = self.ddl_relation(relation);
                if index {
                    self.means_index(at);
                }
            }
            None if object.is_some() => of_object(self),
            None => {}
        }
    }

    fn object_of(&mut self, kind: ObjectType, object: Option<&Node>) {
        if let Some(object) = object {
            self.object(kind, object);
        }
    }

    fn drop(&mut self, drop: &DropStmt) {
        let DropStmt { objects, remove_type: _, behavior, missing_ok: _, concurrent: _ } = drop;
        self.drops_by(*behavior);
        for object in objects {
            self.object(drop.remove_type(), object);
        }
    }

    /// What depends on a dropped object goes with it, which the text doesn't name.
    pub(super) fn drops_by(&mut self, behavior: i32) {
        self.facts.drops_dependents |= behavior == DropBehavior::DropCascade as i32;
    }

    /// The relation of a sequence's `OWNED BY relation.column`.
    fn owned_by(&mut self, options: &[Node]) {
        for option in options {
            let Some(NodeEnum::DefElem(option)) = &option.node else { continue };
            if let Some(NodeEnum::List(owner)) = option.arg.as_ref().and_then(|a| a.node.as_ref())
                && let [relation @ .., _] = strings(&owner.items).as_slice()
                && !relation.is_empty()
            {
                self.concerned(relation);
            }
        }
    }

    /// An object by name: the relation that it is, or that it belongs to.
    fn object(&mut self, kind: ObjectType, object: &Node) {
        let parts = match &object.node {
            Some(NodeEnum::List(list)) => strings(&list.items),
            Some(NodeEnum::String(name)) => vec![name.sval.clone()],
            _ => Vec::new(),
        };
        match kind {
            kind if is_relation_object(kind) => {
                self.concerned(&parts);
            }
            ObjectType::ObjectIndex => {
                if let Some(at) = self.concerned(&parts) {
                    self.means_index(at);
                }
            }
            ObjectType::ObjectColumn
            | ObjectType::ObjectTabconstraint
            | ObjectType::ObjectTrigger
            | ObjectType::ObjectRule
            | ObjectType::ObjectPolicy => {
                if let Some((_, relation)) = parts.split_last() {
                    self.concerned(relation);
                }
            }
            ObjectType::ObjectSchema => {
                if let Some(schema) = parts.last() {
                    self.everything_in(schema);
                }
            }
            ObjectType::ObjectLargeobject => self.side_door(SideDoor::LargeObject),
            ObjectType::ObjectRole
            | ObjectType::ObjectDatabase
            | ObjectType::ObjectTablespace
            | ObjectType::ObjectParameterAcl => self.side_door(SideDoor::ServerWide),
            // No relation: the action alone stands for it. Types and names inside
            // are still looked at.
            _ => self.node(object),
        }
    }

    /// A relation that a definition concerns, by the parts of its name.
    fn concerned(&mut self, parts: &[String]) -> Option<usize> {
        let Some(name) = name_of(parts) else {
            self.unclassified("an object without a name");
            return None;
        };
        let resolution = match self.catalog.resolve(&name) {
            Some(relation) => Resolution::Relation(relation.oid),
            None => Resolution::Unknown,
        };
        self.facts.relations.push(RelationUse {
            name,
            resolution,
            access: Access::Ddl,
            action: self.definition,
            range: 0..0,
            only: false,
            alias: None,
            scope: self.scope,
            columns: Vec::new(),
            sampled: false,
            unfiltered: false,
        });
        Some(self.facts.relations.len() - 1)
    }

    /// Every relation of a schema.
    fn everything_in(&mut self, schema: &str) {
        let mut names = self
            .catalog
            .relations()
            .filter(|relation| relation.schema == schema)
            .map(|relation| relation.name.clone())
            .collect::<Vec<_>>();
        names.sort();
        for name in names {
            self.concerned(&[schema.to_owned(), name]);
        }
    }

    fn grant(&mut self, grant: &GrantStmt) {
        let GrantStmt {
            is_grant: _,
            targtype: _,
            objtype: _,
            objects,
            privileges,
            grantees: _,
            grant_option: _,
            grantor: _,
            behavior: _,
        } = grant;
        self.nodes(privileges);
        match grant.targtype() {
            GrantTargetType::AclTargetObject => {
                for object in objects {
                    match &object.node {
                        Some(NodeEnum::RangeVar(relation)) => {
                            let at = self.relation(relation, Access::Ddl, self.definition);
                            let item = item_of(&self.facts.relations[at], at, Vec::new());
                            self.scopes[self.scope].items.push(item);
                        }
                        _ if grant.objtype() == ObjectType::ObjectSchema => self.node(object),
                        _ => self.object(grant.objtype(), object),
                    }
                }
            }
            GrantTargetType::AclTargetAllInSchema => {
                for schema in strings(objects) {
                    self.everything_in(&schema);
                }
            }
            GrantTargetType::AclTargetDefaults => {}
            GrantTargetType::Undefined => self.unclassified("a GRANT of another kind"),
        }
    }
}
