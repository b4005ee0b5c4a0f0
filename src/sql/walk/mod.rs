//! The walk over every node of a statement's tree.
//!
//! Owns turning a tree into facts. Its `match` on node kinds names every kind
//! there is and has no wildcard: a kind that a new grammar adds does not compile
//! until somebody has said what it does, and a kind that has no handler makes
//! the statement unclassified. It refuses to judge.

mod ddl;
mod dml;
mod expression;
mod lookup;
mod narrowing;
mod scope;
mod select;
mod shape;
mod utility;
mod younger;

use pg_query::{
    Node, NodeEnum,
    protobuf::{self, RangeVar},
};

use self::{
    scope::{Resolver, Scope, inside, item_of},
    shape::{Part, Shape},
};
use super::{
    Access, Action, Catalog, ColumnContext, Facts, Name, RelationUse, Resolution, SideDoor,
    parse::{AnalysisError, Tokens},
};

/// The deepest tree that is walked. The parser's own stack gives out before.
const MAX_DEPTH: usize = 6_000;

/// The facts of one statement.
pub(super) fn facts(
    statement: &Node,
    catalog: &Catalog,
    tokens: &Tokens,
) -> Result<Facts, AnalysisError> {
    let mut walk = Walk {
        catalog,
        tokens,
        facts: Facts::new(utility::kind(statement)),
        scopes: vec![Scope::default()],
        scope: 0,
        ctes: Vec::new(),
        context: ColumnContext::Output,
        storage: Storage::Run,
        definition: Action::Ddl,
        writes: 0,
        probing: false,
        depth: 0,
        too_deep: false,
    };
    walk.node(statement);
    if walk.too_deep {
        return Err(AnalysisError::TooDeep);
    }
    let mut facts = walk.facts;
    facts.row_count = utility::row_count(statement, walk.writes);
    facts.side_doors.sort();
    facts.side_doors.dedup();
    facts.actions.sort();
    facts.actions.dedup();
    facts.unclassified.sort();
    facts.unclassified.dedup();
    Ok(facts)
}

/// Whether what is being walked runs now, or is a definition that runs later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Storage {
    Run,
    Stored,
}

struct Walk<'a> {
    catalog: &'a Catalog,
    tokens: &'a Tokens,
    facts: Facts,
    scopes: Vec<Scope>,
    /// The query level that is being walked.
    scope: usize,
    /// The CTE names in sight, innermost last.
    ctes: Vec<String>,
    context: ColumnContext,
    storage: Storage,
    /// What the definition does that is being walked.
    definition: Action,
    /// The INSERTs, UPDATEs, DELETEs and MERGEs so far.
    writes: usize,
    /// What is walked is looked at for a question beside the facts, and forgotten.
    probing: bool,
    depth: usize,
    too_deep: bool,
}

impl<'a> Walk<'a> {
    /// One node, whatever it is.
    fn node(&mut self, node: &Node) {
        if self.depth >= MAX_DEPTH {
            self.too_deep = true;
            return;
        }
        self.depth += 1;
        match &node.node {
            Some(kind) => self.kind(kind),
            None => self.unclassified("a node without a kind"),
        }
        self.depth -= 1;
    }

    fn kind(&mut self, node: &NodeEnum) {
        match node {
            // Queries.
            NodeEnum::SelectStmt(select) => self.select(select),
            NodeEnum::InsertStmt(insert) => self.insert(insert),
            NodeEnum::UpdateStmt(update) => self.update(update),
            NodeEnum::DeleteStmt(delete) => self.delete(delete),
            NodeEnum::MergeStmt(merge) => self.merge(merge),

            // FROM.
            NodeEnum::RangeVar(_)
            | NodeEnum::RangeSubselect(_)
            | NodeEnum::RangeFunction(_)
            | NodeEnum::RangeTableFunc(_)
            | NodeEnum::RangeTableSample(_)
            | NodeEnum::JsonTable(_)
            | NodeEnum::JoinExpr(_) => self.item(node),

            // Expressions that name something or change the context.
            NodeEnum::ColumnRef(column) => self.column_ref(column),
            NodeEnum::FuncCall(call) => self.function_call(call),
            NodeEnum::AExpr(expression) => self.operator_expression(expression),
            NodeEnum::SubLink(link) => self.sub_link(link),
            NodeEnum::CaseExpr(case) => self.case(case),
            NodeEnum::CaseWhen(when) => self.case_when(when),
            NodeEnum::AIndirection(indirection) => self.indirection(indirection),
            NodeEnum::SortBy(sort) => self.sort_by(sort),
            NodeEnum::WindowDef(window) => self.window(window),
            NodeEnum::TypeName(name) => self.type_name(name),
            NodeEnum::MultiAssignRef(assign) => {
                // The source stands in every column's target; once is enough.
                if assign.colno <= 1 {
                    self.parts(assign);
                }
            }

            // Syntax that older servers read as calls of functions.
            NodeEnum::JsonFuncExpr(n) => {
                self.younger_syntax(younger::function(n.op()));
                self.parts(n);
            }
            NodeEnum::JsonParseExpr(n) => self.younger(younger::JSON, n),
            NodeEnum::JsonScalarExpr(n) => self.younger(younger::JSON_SCALAR, n),
            NodeEnum::JsonSerializeExpr(n) => self.younger(younger::JSON_SERIALIZE, n),
            NodeEnum::JsonObjectConstructor(n) => self.younger(younger::JSON_OBJECT, n),
            NodeEnum::JsonArrayConstructor(n) => self.younger(younger::JSON_ARRAY, n),
            NodeEnum::JsonArrayQueryConstructor(n) => self.younger(younger::JSON_ARRAY, n),
            NodeEnum::JsonObjectAgg(n) => self.younger(younger::JSON_OBJECTAGG, n),
            NodeEnum::JsonArrayAgg(n) => self.younger(younger::JSON_ARRAYAGG, n),
            NodeEnum::MergeSupportFunc(n) => self.younger(younger::MERGE_ACTION, n),

            // Expressions that are the sum of their parts.
            NodeEnum::SqlvalueFunction(n) => self.parts(n),
            NodeEnum::GroupingFunc(n) => self.parts(n),
            NodeEnum::NamedArgExpr(n) => self.parts(n),
            NodeEnum::BoolExpr(n) => self.parts(n),
            NodeEnum::RowExpr(n) => self.parts(n),
            NodeEnum::CoalesceExpr(n) => self.parts(n),
            NodeEnum::MinMaxExpr(n) => self.parts(n),
            NodeEnum::XmlExpr(n) => self.parts(n),
            NodeEnum::XmlSerialize(n) => self.parts(n),
            NodeEnum::NullTest(n) => self.parts(n),
            NodeEnum::BooleanTest(n) => self.parts(n),
            NodeEnum::SetToDefault(n) => self.parts(n),
            NodeEnum::CurrentOfExpr(n) => self.parts(n),
            NodeEnum::TypeCast(n) => self.parts(n),
            NodeEnum::CollateClause(n) => self.parts(n),
            NodeEnum::AIndices(n) => self.parts(n),
            NodeEnum::AArrayExpr(n) => self.parts(n),
            NodeEnum::ResTarget(n) => self.parts(n),
            NodeEnum::GroupingSet(n) => self.parts(n),
            NodeEnum::JsonFormat(n) => self.parts(n),
            NodeEnum::JsonReturning(n) => self.parts(n),
            NodeEnum::JsonValueExpr(n) => self.parts(n),
            NodeEnum::JsonIsPredicate(n) => self.parts(n),
            NodeEnum::JsonBehavior(n) => self.parts(n),
            NodeEnum::JsonOutput(n) => self.parts(n),
            NodeEnum::JsonArgument(n) => self.parts(n),
            NodeEnum::JsonTablePathSpec(n) => self.parts(n),
            NodeEnum::JsonTableColumn(n) => self.parts(n),
            NodeEnum::JsonKeyValue(n) => self.parts(n),
            NodeEnum::JsonAggConstructor(n) => self.parts(n),
            NodeEnum::RangeTableFuncCol(n) => self.parts(n),
            NodeEnum::List(n) => self.parts(n),

            // Leaves.
            NodeEnum::AStar(_)
            | NodeEnum::ParamRef(_)
            | NodeEnum::RoleSpec(_)
            | NodeEnum::Integer(_)
            | NodeEnum::Float(_)
            | NodeEnum::Boolean(_)
            | NodeEnum::String(_)
            | NodeEnum::BitString(_)
            | NodeEnum::AConst(_)
            | NodeEnum::IntList(_)
            | NodeEnum::OidList(_) => {}

            // Parts of definitions.
            NodeEnum::Alias(n) => self.parts(n),
            NodeEnum::ColumnDef(n) => self.parts(n),
            NodeEnum::TableLikeClause(n) => self.parts(n),
            NodeEnum::IndexElem(n) => self.parts(n),
            NodeEnum::DefElem(n) => self.parts(n),
            NodeEnum::PartitionElem(n) => self.parts(n),
            NodeEnum::PartitionSpec(n) => self.parts(n),
            NodeEnum::PartitionBoundSpec(n) => self.parts(n),
            NodeEnum::PartitionRangeDatum(n) => self.parts(n),
            NodeEnum::PartitionCmd(n) => self.parts(n),
            NodeEnum::Constraint(n) => self.parts(n),
            NodeEnum::TriggerTransition(n) => self.parts(n),
            NodeEnum::AlterTableCmd(n) => {
                self.drops_by(n.behavior);
                self.parts(n);
            }
            NodeEnum::AtalterConstraint(n) => self.parts(n),
            NodeEnum::ReplicaIdentityStmt(n) => self.parts(n),
            NodeEnum::ObjectWithArgs(n) => self.parts(n),
            NodeEnum::AccessPriv(n) => self.parts(n),
            NodeEnum::CreateOpClassItem(n) => self.parts(n),
            NodeEnum::StatsElem(n) => self.parts(n),
            NodeEnum::FunctionParameter(n) => self.parts(n),
            NodeEnum::PublicationTable(n) => self.parts(n),
            NodeEnum::PublicationObjSpec(n) => self.parts(n),
            NodeEnum::ReturnStmt(n) => self.parts(n),

            // Handled where they stand in their statement; elsewhere they mean
            // something that this walk doesn't know.
            NodeEnum::IntoClause(_)
            | NodeEnum::LockingClause(_)
            | NodeEnum::WithClause(_)
            | NodeEnum::InferClause(_)
            | NodeEnum::OnConflictClause(_)
            | NodeEnum::CtesearchClause(_)
            | NodeEnum::CtecycleClause(_)
            | NodeEnum::CommonTableExpr(_)
            | NodeEnum::MergeWhenClause(_)
            | NodeEnum::ReturningOption(_)
            | NodeEnum::ReturningClause(_)
            | NodeEnum::VacuumRelation(_)
            | NodeEnum::RawStmt(_) => self.unclassified("a clause out of its place"),

            // Other statements.
            NodeEnum::CopyStmt(_)
            | NodeEnum::ExplainStmt(_)
            | NodeEnum::PrepareStmt(_)
            | NodeEnum::ExecuteStmt(_)
            | NodeEnum::DeallocateStmt(_)
            | NodeEnum::DeclareCursorStmt(_)
            | NodeEnum::ClosePortalStmt(_)
            | NodeEnum::FetchStmt(_)
            | NodeEnum::TransactionStmt(_)
            | NodeEnum::ConstraintsSetStmt(_)
            | NodeEnum::VariableSetStmt(_)
            | NodeEnum::VariableShowStmt(_)
            | NodeEnum::DiscardStmt(_)
            | NodeEnum::LockStmt(_)
            | NodeEnum::NotifyStmt(_)
            | NodeEnum::ListenStmt(_)
            | NodeEnum::UnlistenStmt(_)
            | NodeEnum::CallStmt(_)
            | NodeEnum::DoStmt(_)
            | NodeEnum::TruncateStmt(_)
            | NodeEnum::VacuumStmt(_)
            | NodeEnum::ClusterStmt(_)
            | NodeEnum::ReindexStmt(_)
            | NodeEnum::RefreshMatViewStmt(_)
            | NodeEnum::CheckPointStmt(_)
            | NodeEnum::LoadStmt(_) => self.utility(node),

            NodeEnum::CreateSchemaStmt(_)
            | NodeEnum::AlterTableStmt(_)
            | NodeEnum::AlterCollationStmt(_)
            | NodeEnum::AlterDomainStmt(_)
            | NodeEnum::GrantStmt(_)
            | NodeEnum::GrantRoleStmt(_)
            | NodeEnum::AlterDefaultPrivilegesStmt(_)
            | NodeEnum::CreateStmt(_)
            | NodeEnum::CreateTableSpaceStmt(_)
            | NodeEnum::DropTableSpaceStmt(_)
            | NodeEnum::AlterTableSpaceOptionsStmt(_)
            | NodeEnum::AlterTableMoveAllStmt(_)
            | NodeEnum::CreateExtensionStmt(_)
            | NodeEnum::AlterExtensionStmt(_)
            | NodeEnum::AlterExtensionContentsStmt(_)
            | NodeEnum::CreateFdwStmt(_)
            | NodeEnum::AlterFdwStmt(_)
            | NodeEnum::CreateForeignServerStmt(_)
            | NodeEnum::AlterForeignServerStmt(_)
            | NodeEnum::CreateForeignTableStmt(_)
            | NodeEnum::CreateUserMappingStmt(_)
            | NodeEnum::AlterUserMappingStmt(_)
            | NodeEnum::DropUserMappingStmt(_)
            | NodeEnum::ImportForeignSchemaStmt(_)
            | NodeEnum::CreatePolicyStmt(_)
            | NodeEnum::AlterPolicyStmt(_)
            | NodeEnum::CreateAmStmt(_)
            | NodeEnum::CreateTrigStmt(_)
            | NodeEnum::CreateEventTrigStmt(_)
            | NodeEnum::AlterEventTrigStmt(_)
            | NodeEnum::CreatePlangStmt(_)
            | NodeEnum::CreateRoleStmt(_)
            | NodeEnum::AlterRoleStmt(_)
            | NodeEnum::AlterRoleSetStmt(_)
            | NodeEnum::DropRoleStmt(_)
            | NodeEnum::CreateSeqStmt(_)
            | NodeEnum::AlterSeqStmt(_)
            | NodeEnum::DefineStmt(_)
            | NodeEnum::CreateDomainStmt(_)
            | NodeEnum::CreateOpClassStmt(_)
            | NodeEnum::CreateOpFamilyStmt(_)
            | NodeEnum::AlterOpFamilyStmt(_)
            | NodeEnum::DropStmt(_)
            | NodeEnum::CommentStmt(_)
            | NodeEnum::SecLabelStmt(_)
            | NodeEnum::IndexStmt(_)
            | NodeEnum::CreateStatsStmt(_)
            | NodeEnum::AlterStatsStmt(_)
            | NodeEnum::CreateFunctionStmt(_)
            | NodeEnum::AlterFunctionStmt(_)
            | NodeEnum::RenameStmt(_)
            | NodeEnum::AlterObjectDependsStmt(_)
            | NodeEnum::AlterObjectSchemaStmt(_)
            | NodeEnum::AlterOwnerStmt(_)
            | NodeEnum::AlterOperatorStmt(_)
            | NodeEnum::AlterTypeStmt(_)
            | NodeEnum::RuleStmt(_)
            | NodeEnum::CompositeTypeStmt(_)
            | NodeEnum::CreateEnumStmt(_)
            | NodeEnum::CreateRangeStmt(_)
            | NodeEnum::AlterEnumStmt(_)
            | NodeEnum::ViewStmt(_)
            | NodeEnum::CreatedbStmt(_)
            | NodeEnum::AlterDatabaseStmt(_)
            | NodeEnum::AlterDatabaseRefreshCollStmt(_)
            | NodeEnum::AlterDatabaseSetStmt(_)
            | NodeEnum::DropdbStmt(_)
            | NodeEnum::AlterSystemStmt(_)
            | NodeEnum::CreateTableAsStmt(_)
            | NodeEnum::CreateConversionStmt(_)
            | NodeEnum::CreateCastStmt(_)
            | NodeEnum::CreateTransformStmt(_)
            | NodeEnum::DropOwnedStmt(_)
            | NodeEnum::ReassignOwnedStmt(_)
            | NodeEnum::AlterTsdictionaryStmt(_)
            | NodeEnum::AlterTsconfigurationStmt(_)
            | NodeEnum::CreatePublicationStmt(_)
            | NodeEnum::AlterPublicationStmt(_)
            | NodeEnum::CreateSubscriptionStmt(_)
            | NodeEnum::AlterSubscriptionStmt(_)
            | NodeEnum::DropSubscriptionStmt(_) => self.ddl(node),

            // Nodes that only exist after parse analysis, or in PL/pgSQL.
            NodeEnum::TableFunc(_)
            | NodeEnum::Var(_)
            | NodeEnum::Param(_)
            | NodeEnum::Aggref(_)
            | NodeEnum::WindowFunc(_)
            | NodeEnum::WindowFuncRunCondition(_)
            | NodeEnum::SubscriptingRef(_)
            | NodeEnum::FuncExpr(_)
            | NodeEnum::OpExpr(_)
            | NodeEnum::DistinctExpr(_)
            | NodeEnum::NullIfExpr(_)
            | NodeEnum::ScalarArrayOpExpr(_)
            | NodeEnum::SubPlan(_)
            | NodeEnum::AlternativeSubPlan(_)
            | NodeEnum::FieldSelect(_)
            | NodeEnum::FieldStore(_)
            | NodeEnum::RelabelType(_)
            | NodeEnum::CoerceViaIo(_)
            | NodeEnum::ArrayCoerceExpr(_)
            | NodeEnum::ConvertRowtypeExpr(_)
            | NodeEnum::CollateExpr(_)
            | NodeEnum::CaseTestExpr(_)
            | NodeEnum::ArrayExpr(_)
            | NodeEnum::RowCompareExpr(_)
            | NodeEnum::JsonConstructorExpr(_)
            | NodeEnum::JsonExpr(_)
            | NodeEnum::JsonTablePath(_)
            | NodeEnum::JsonTablePathScan(_)
            | NodeEnum::JsonTableSiblingJoin(_)
            | NodeEnum::MergeAction(_)
            | NodeEnum::CoerceToDomain(_)
            | NodeEnum::CoerceToDomainValue(_)
            | NodeEnum::NextValueExpr(_)
            | NodeEnum::InferenceElem(_)
            | NodeEnum::ReturningExpr(_)
            | NodeEnum::TargetEntry(_)
            | NodeEnum::RangeTblRef(_)
            | NodeEnum::FromExpr(_)
            | NodeEnum::OnConflictExpr(_)
            | NodeEnum::Query(_)
            | NodeEnum::RangeTblEntry(_)
            | NodeEnum::RtepermissionInfo(_)
            | NodeEnum::RangeTblFunction(_)
            | NodeEnum::TableSampleClause(_)
            | NodeEnum::WithCheckOption(_)
            | NodeEnum::SortGroupClause(_)
            | NodeEnum::WindowClause(_)
            | NodeEnum::RowMarkClause(_)
            | NodeEnum::SetOperationStmt(_)
            | NodeEnum::PlassignStmt(_)
            | NodeEnum::InlineCodeBlock(_)
            | NodeEnum::CallContext(_) => self.unclassified("a node that no parser makes"),
        }
    }

    /// Everything inside a node that means no more than its parts.
    fn parts(&mut self, shape: &dyn Shape) {
        if self.depth >= MAX_DEPTH {
            self.too_deep = true;
            return;
        }
        self.depth += 1;
        shape.each(&mut |part| match part {
            Part::Node(node) => self.node(node),
            Part::Relation(relation) => {
                self.ddl_relation(relation);
            }
            Part::Type(name) => self.type_name(name),
            Part::Inner(inner) => self.parts(inner),
            Part::Analysed(field) => self.unclassified(field),
        });
        self.depth -= 1;
    }

    fn nodes(&mut self, nodes: &[Node]) {
        for node in nodes {
            self.node(node);
        }
    }

    fn optional(&mut self, node: &Option<Box<Node>>) {
        if let Some(node) = node {
            self.node(node);
        }
    }

    /// Walks a clause whose columns stand in `context`.
    fn clause(&mut self, context: ColumnContext, walk: impl FnOnce(&mut Self)) {
        let outer = self.context;
        self.context = inside(outer, context);
        walk(self);
        self.context = outer;
    }

    /// Walks a query level of its own.
    fn level(&mut self, walk: impl FnOnce(&mut Self)) {
        self.within(Scope::default(), walk);
    }

    /// Walks what stands in a FROM clause and doesn't see the other items of it.
    fn apart(&mut self, walk: impl FnOnce(&mut Self)) {
        self.within(Scope { apart: true, ..Scope::default() }, walk);
    }

    fn within(&mut self, scope: Scope, walk: impl FnOnce(&mut Self)) {
        let outer = self.scope;
        self.scopes.push(Scope { parent: Some(outer), ..scope });
        self.scope = self.scopes.len() - 1;
        walk(self);
        self.scope = outer;
    }

    /// Walks what sees the items of this level from `first` on only.
    fn seeing_from(&mut self, first: usize, walk: impl FnOnce(&mut Self)) {
        let level = self.scope;
        let outer = std::mem::replace(&mut self.scopes[level].sees_from, first);
        walk(self);
        self.scopes[level].sees_from = outer;
    }

    /// Walks a definition that PostgreSQL keeps and runs later.
    fn stored(&mut self, walk: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.storage, Storage::Stored);
        walk(self);
        self.storage = outer;
    }

    /// Walks what sees no CTE of the statement around it, and none of whose own are seen after.
    fn ctes_of(&mut self, walk: impl FnOnce(&mut Self)) {
        let outer = self.ctes.len();
        walk(self);
        self.ctes.truncate(outer);
    }

    fn resolver(&self) -> Resolver<'_> {
        Resolver { catalog: self.catalog, scopes: &self.scopes, facts: &self.facts }
    }

    /// Records a use of a relation; its index.
    fn relation(&mut self, relation: &RangeVar, access: Access, action: Action) -> usize {
        let name = self.relation_name(relation);
        let resolution = match self.catalog.resolve(&name) {
            Some(found) => Resolution::Relation(found.oid),
            None => Resolution::Unknown,
        };
        let scan = access == Access::Scan && self.storage == Storage::Run;
        let range = match usize::try_from(relation.location) {
            Ok(location) if scan => self.tokens.relation(location).unwrap_or_default(),
            _ => 0..0,
        };
        self.facts.relations.push(RelationUse {
            name,
            resolution,
            access,
            action,
            range,
            only: !relation.inh,
            alias: relation.alias.as_ref().map(|alias| alias.aliasname.clone()),
            scope: self.scope,
            columns: Vec::new(),
            sampled: false,
            unfiltered: false,
        });
        self.facts.relations.len() - 1
    }

    /// A relation's name. One of another database is an error in PostgreSQL, and
    /// is left to it under a schema that can't exist.
    fn relation_name(&mut self, relation: &RangeVar) -> Name {
        let RangeVar { catalogname, schemaname, relname, .. } = relation;
        if !catalogname.is_empty() && catalogname != self.catalog.database() {
            self.unclassified("a relation of another database");
        }
        Name { schema: (!schemaname.is_empty()).then(|| schemaname.clone()), name: relname.clone() }
    }

    /// A relation that is defined, changed or referred to by a definition. Its
    /// columns are in sight of the expressions beside it.
    fn ddl_relation(&mut self, relation: &RangeVar) -> usize {
        let at = self.relation(relation, Access::Ddl, self.definition);
        let item = item_of(&self.facts.relations[at], at, Vec::new());
        self.scopes[self.scope].items.push(item);
        if relation.relpersistence == "t" {
            self.side_door(SideDoor::Temporary);
        }
        at
    }

    fn side_door(&mut self, door: SideDoor) {
        self.facts.side_doors.push(door);
    }

    fn action(&mut self, action: Action) {
        self.facts.actions.push(action);
    }

    fn unclassified(&mut self, what: &str) {
        self.facts.unclassified.push(what.to_owned());
    }
}

/// The strings of a list of name parts; anything else is left out.
fn strings(nodes: &[Node]) -> Vec<String> {
    nodes
        .iter()
        .filter_map(|node| match &node.node {
            Some(NodeEnum::String(protobuf::String { sval })) => Some(sval.clone()),
            _ => None,
        })
        .collect()
}

/// A name of one to three parts; the database in front is left out.
fn name_of(parts: &[String]) -> Option<Name> {
    match parts {
        [name] => Some(Name { schema: None, name: name.clone() }),
        [.., schema, name] => Some(Name { schema: Some(schema.clone()), name: name.clone() }),
        [] => None,
    }
}
