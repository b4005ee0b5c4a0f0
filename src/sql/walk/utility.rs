//! Statements that neither query nor define: COPY, EXPLAIN, cursors, prepared
//! statements, transactions, settings, locks, notifications, calls, upkeep.

use pg_query::{
    Node, NodeEnum,
    protobuf::{
        ClusterStmt, ConstraintsSetStmt, CopyStmt, ExecuteStmt, ExplainStmt, FuncCall, ListenStmt,
        LockStmt, NotifyStmt, ObjectType, PrepareStmt, RangeVar, RefreshMatViewStmt,
        ReindexObjectType, ReindexStmt, TransactionStmt, TransactionStmtKind, TruncateStmt,
        VacuumRelation, VacuumStmt, VariableSetKind, VariableSetStmt, a_const,
    },
};

use super::{
    super::{
        Access, Action, ColumnContext, CursorUse, Resolution, RowCount, SettingUse, SettingValue,
        SideDoor, StatementKind, TransactionControl,
    },
    Walk, name_of,
    scope::item_of,
    strings,
};

/// `CURSOR_OPT_HOLD` of PostgreSQL's parsenodes.h.
const CURSOR_OPT_HOLD: i32 = 0x0020;

impl Walk<'_> {
    pub(super) fn utility(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::CopyStmt(copy) => self.copy(copy),
            NodeEnum::ExplainStmt(explain) => {
                let ExplainStmt { query, options } = explain.as_ref();
                self.action(Action::Explain);
                self.nodes(options);
                self.optional(query);
            }
            NodeEnum::PrepareStmt(prepare) => {
                let PrepareStmt { name, argtypes, query } = prepare.as_ref();
                self.facts.prepared.push(name.clone());
                self.nodes(argtypes);
                self.optional(query);
            }
            NodeEnum::ExecuteStmt(ExecuteStmt { name, params }) => {
                self.facts.prepared.push(name.clone());
                self.nodes(params);
            }
            NodeEnum::DeallocateStmt(deallocate) => {
                let name = if deallocate.isall { "*" } else { &deallocate.name };
                self.facts.prepared.push(name.into());
            }
            NodeEnum::DeclareCursorStmt(declare) => {
                let name = declare.portalname.clone();
                let hold = declare.options & CURSOR_OPT_HOLD != 0;
                self.facts.cursors.push(CursorUse::Declare { name, hold });
                self.optional(&declare.query);
            }
            NodeEnum::ClosePortalStmt(close) => {
                let name = Some(close.portalname.clone()).filter(|name| !name.is_empty());
                self.facts.cursors.push(CursorUse::Close(name));
            }
            NodeEnum::FetchStmt(fetch) => {
                self.facts.cursors.push(CursorUse::Fetch(fetch.portalname.clone()));
            }
            NodeEnum::TransactionStmt(transaction) => self.transaction(transaction),
            NodeEnum::ConstraintsSetStmt(ConstraintsSetStmt { constraints: _, deferred: _ }) => {
                self.facts.transaction = Some(TransactionControl::Characteristics);
            }
            NodeEnum::VariableSetStmt(set) => {
                self.setting(set);
            }
            NodeEnum::VariableShowStmt(_) => {}
            NodeEnum::DiscardStmt(_) => {}
            NodeEnum::LockStmt(LockStmt { relations, mode, nowait: _ }) => {
                let share = *mode == pg_query::LockMode::AccessShareLock as i32;
                let action = if share { Action::Select } else { Action::Update };
                for node in relations {
                    match &node.node {
                        Some(NodeEnum::RangeVar(relation)) => {
                            self.relation(relation, Access::Lock, action);
                        }
                        _ => self.unclassified("a lock of another kind"),
                    }
                }
            }
            // The payload is a constant: the grammar takes nothing else.
            NodeEnum::NotifyStmt(NotifyStmt { conditionname, payload: _, payload_location: _ })
            | NodeEnum::ListenStmt(ListenStmt { conditionname }) => {
                self.side_door(SideDoor::Notification);
                self.facts.channels.push(conditionname.clone());
            }
            // It only ever ends what was begun by LISTEN; pools send it with each reset.
            NodeEnum::UnlistenStmt(_) => {}
            NodeEnum::CallStmt(call) => {
                self.action(Action::Call);
                match (&call.funccall, &call.funcexpr) {
                    (Some(function), None) if call.outargs.is_empty() => {
                        self.function_call(function);
                    }
                    _ => self.unclassified("a call after analysis"),
                }
            }
            NodeEnum::DoStmt(_) => {
                self.action(Action::Call);
                self.side_door(SideDoor::DoBlock);
            }
            NodeEnum::TruncateStmt(TruncateStmt { relations, restart_seqs: _, behavior }) => {
                // It goes on to whatever refers to these, which the catalog doesn't tell.
                if *behavior == pg_query::protobuf::DropBehavior::DropCascade as i32 {
                    self.action(Action::Truncate);
                }
                for node in relations {
                    match &node.node {
                        Some(NodeEnum::RangeVar(relation)) => {
                            self.relation(relation, Access::Truncate, Action::Truncate);
                        }
                        _ => self.unclassified("a TRUNCATE of another kind"),
                    }
                }
            }
            NodeEnum::VacuumStmt(vacuum) => self.vacuum(vacuum),
            NodeEnum::ClusterStmt(ClusterStmt { relation, indexname: _, params }) => {
                self.nodes(params);
                self.maintained(relation.as_ref());
            }
            NodeEnum::RefreshMatViewStmt(RefreshMatViewStmt {
                concurrent: _,
                skip_data: _,
                relation,
            }) => self.maintained(relation.as_ref()),
            NodeEnum::ReindexStmt(reindex) => self.reindex(reindex),
            NodeEnum::CheckPointStmt(_) => {
                self.action(Action::Maintain);
                self.side_door(SideDoor::ServerWide);
            }
            NodeEnum::LoadStmt(_) => self.side_door(SideDoor::LoadLibrary),
            _ => self.unclassified("a statement of another kind"),
        }
    }

    fn copy(&mut self, copy: &CopyStmt) {
        let CopyStmt {
            relation,
            query,
            attlist,
            is_from,
            is_program,
            filename,
            options,
            where_clause,
        } = copy;
        self.action(Action::Copy);
        if *is_program {
            self.side_door(SideDoor::ServerProgram);
        } else if !filename.is_empty() {
            self.side_door(SideDoor::ServerFile);
        }
        self.nodes(options);
        self.ctes_of(|walk| walk.optional(query));
        self.level(|walk| {
            if let Some(relation) = relation {
                let (access, action) = if *is_from {
                    (Access::Insert, Action::Insert)
                } else {
                    (Access::Scan, Action::Select)
                };
                let at = walk.relation(relation, access, action);
                let item = item_of(&walk.facts.relations[at], at, Vec::new());
                walk.scopes[walk.scope].items.push(item);
                let columns = strings(attlist);
                if !*is_from {
                    // COPY reads a table without its children.
                    walk.facts.relations[at].only = true;
                    if columns.is_empty() {
                        walk.column_named(Vec::new(), true, relation.location);
                    }
                    for column in &columns {
                        walk.column_named(vec![column.clone()], false, relation.location);
                    }
                }
                walk.facts.relations[at].columns = columns;
            }
            walk.clause(ColumnContext::Predicate, |walk| walk.optional(where_clause));
        });
    }

    fn transaction(&mut self, transaction: &TransactionStmt) {
        let control = match transaction.kind() {
            TransactionStmtKind::TransStmtBegin | TransactionStmtKind::TransStmtStart => {
                TransactionControl::Begin
            }
            TransactionStmtKind::TransStmtCommit => TransactionControl::Commit,
            TransactionStmtKind::TransStmtRollback => TransactionControl::Rollback,
            TransactionStmtKind::TransStmtSavepoint
            | TransactionStmtKind::TransStmtRelease
            | TransactionStmtKind::TransStmtRollbackTo => TransactionControl::Savepoint,
            TransactionStmtKind::TransStmtPrepare
            | TransactionStmtKind::TransStmtCommitPrepared
            | TransactionStmtKind::TransStmtRollbackPrepared => TransactionControl::TwoPhase,
            TransactionStmtKind::Undefined => {
                self.unclassified("transaction control of another kind");
                return;
            }
        };
        self.facts.transaction = Some(control);
        self.transaction_modes(&transaction.options);
    }

    /// ISOLATION LEVEL, READ WRITE and the like, as settings of their names.
    fn transaction_modes(&mut self, modes: &[Node]) {
        for mode in modes {
            match &mode.node {
                Some(NodeEnum::DefElem(mode)) => {
                    self.sets(&mode.defname, mode.arg.as_deref().into_iter());
                }
                Some(NodeEnum::AConst(_)) => {}
                _ => self.unclassified("a transaction mode of another kind"),
            }
        }
    }

    /// SET, RESET, and SET clauses of functions, roles and databases.
    pub(super) fn setting(&mut self, set: &VariableSetStmt) {
        let VariableSetStmt { kind: _, name, args, jumble_args: _, is_local: _, location: _ } = set;
        let name = name.to_lowercase();
        match set.kind() {
            VariableSetKind::VarSetMulti => {
                self.facts.transaction = Some(TransactionControl::Characteristics);
                match name.as_str() {
                    "transaction" | "session characteristics" => self.transaction_modes(args),
                    "transaction snapshot" => self.sets("transaction_snapshot", args.iter()),
                    _ => self.unclassified("a SET of another kind"),
                }
                return;
            }
            VariableSetKind::VarResetAll => {
                self.action(Action::Set);
                self.sets("*", std::iter::empty());
                return;
            }
            VariableSetKind::VarSetValue
            | VariableSetKind::VarSetDefault
            | VariableSetKind::VarSetCurrent
            | VariableSetKind::VarReset => {}
            VariableSetKind::Undefined => self.unclassified("a SET of another kind"),
        }
        if matches!(name.as_str(), "role" | "session_authorization") {
            self.side_door(SideDoor::Identity);
        }
        self.action(Action::Set);
        self.nodes(args);
        self.sets(&name, args.iter());
    }

    /// A setting gets these constants; none resets it.
    fn sets<'n>(&mut self, name: &str, values: impl Iterator<Item = &'n Node>) {
        let Some(values) = values.map(constant).collect::<Option<Vec<_>>>() else {
            self.unclassified("a setting of another kind");
            return;
        };
        let value = match values {
            values if values.is_empty() => SettingValue::Default,
            values => SettingValue::Constants(values),
        };
        self.facts.settings.push(SettingUse { name: name.to_ascii_lowercase(), value });
    }

    /// `set_config('name', …, local)` with a constant or a parameter as the value is a
    /// SET, and decided as one: drivers send it. With anything else it stays a call
    /// of a function, and `false` is returned.
    pub(super) fn setting_by_call(&mut self, call: &FuncCall) -> bool {
        let FuncCall {
            funcname,
            args,
            agg_order,
            agg_filter: None,
            over: None,
            agg_within_group: false,
            agg_star: false,
            agg_distinct: false,
            func_variadic: false,
            funcformat: _,
            location: _,
        } = call
        else {
            return false;
        };
        let Some(function) = name_of(&strings(funcname)) else { return false };
        let is_own = function.name == "set_config"
            && self.catalog.has_builtin_function(&function)
            && self.catalog.functions(&function).next().is_none();
        let ([name, value, local], true, true) = (args.as_slice(), is_own, agg_order.is_empty())
        else {
            return false;
        };
        let (Some(name), Some(_)) = (text(name), constant(local)) else { return false };
        let name = name.to_ascii_lowercase();
        let value = match (&value.node, text(value)) {
            (Some(NodeEnum::ParamRef(_)), _) => SettingValue::Parameter,
            (_, Some(value)) if name == "search_path" => match plain_names(value) {
                Some(names) => SettingValue::Constants(names),
                None => return false,
            },
            (_, Some(value)) => SettingValue::Constants(vec![value.to_owned()]),
            (_, None) => return false,
        };
        self.action(Action::Set);
        self.facts.settings.push(SettingUse { name, value });
        true
    }

    fn vacuum(&mut self, vacuum: &VacuumStmt) {
        let VacuumStmt { options, rels, is_vacuumcmd: _ } = vacuum;
        self.nodes(options);
        if rels.is_empty() {
            self.maintained(None);
        }
        for node in rels {
            match &node.node {
                Some(NodeEnum::VacuumRelation(VacuumRelation { relation, oid: 0, va_cols: _ })) => {
                    self.maintained(relation.as_ref());
                }
                _ => self.unclassified("a VACUUM of another kind"),
            }
        }
    }

    fn reindex(&mut self, reindex: &ReindexStmt) {
        let ReindexStmt { kind: _, relation, name: _, params } = reindex;
        self.nodes(params);
        match (reindex.kind(), relation) {
            (ReindexObjectType::ReindexObjectTable, Some(_)) => self.maintained(relation.as_ref()),
            (ReindexObjectType::ReindexObjectIndex, Some(index)) => {
                let at = self.relation(index, Access::Maintain, Action::Maintain);
                self.means_index(at);
            }
            (
                ReindexObjectType::ReindexObjectSchema
                | ReindexObjectType::ReindexObjectSystem
                | ReindexObjectType::ReindexObjectDatabase,
                None,
            ) => self.maintained(None),
            _ => self.unclassified("a REINDEX of another kind"),
        }
    }

    /// A use that names an index is a use of the index's relation.
    pub(super) fn means_index(&mut self, at: usize) {
        let catalog = self.catalog;
        if let Some(used) = self.facts.relations.get_mut(at) {
            used.resolution = match catalog.index_relation(&used.name) {
                Some(relation) => Resolution::Relation(relation.oid),
                None => Resolution::Unknown,
            };
        }
    }

    /// Upkeep of a relation, or of all there are.
    fn maintained(&mut self, relation: Option<&RangeVar>) {
        match relation {
            Some(relation) => {
                self.relation(relation, Access::Maintain, Action::Maintain);
            }
            None => {
                self.action(Action::Maintain);
                self.side_door(SideDoor::ServerWide);
            }
        }
    }
}

/// A constant's text, as SET takes it.
fn constant(node: &Node) -> Option<String> {
    match &node.node {
        Some(NodeEnum::AConst(constant)) => Some(match constant.val.as_ref()? {
            a_const::Val::Ival(value) => value.ival.to_string(),
            a_const::Val::Fval(value) => value.fval.clone(),
            a_const::Val::Boolval(value) => value.boolval.to_string(),
            a_const::Val::Sval(value) => value.sval.clone(),
            a_const::Val::Bsval(value) => value.bsval.clone(),
        }),
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().and_then(constant),
        Some(NodeEnum::String(value)) => Some(value.sval.clone()),
        Some(NodeEnum::Integer(value)) => Some(value.ival.to_string()),
        _ => None,
    }
}

/// A string constant, without a cast that could change what it says.
fn text(node: &Node) -> Option<&str> {
    match &node.node {
        Some(NodeEnum::AConst(constant)) => match constant.val.as_ref()? {
            a_const::Val::Sval(value) => Some(&value.sval),
            _ => None,
        },
        _ => None,
    }
}

/// A list of names as `search_path` takes it, where none of them is quoted.
fn plain_names(list: &str) -> Option<Vec<String>> {
    let is_plain = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    list.split(',')
        .map(|name| name.trim_matches(' '))
        .map(|name| is_plain(name).then(|| name.to_ascii_lowercase()))
        .collect()
}

/// Whether the command tag of a statement, which holds so many writes, counts their rows.
pub(super) fn row_count(node: &Node, writes: usize) -> RowCount {
    match &node.node {
        Some(
            NodeEnum::InsertStmt(_)
            | NodeEnum::UpdateStmt(_)
            | NodeEnum::DeleteStmt(_)
            | NodeEnum::MergeStmt(_),
        ) if writes == 1 => RowCount::Told,
        Some(NodeEnum::CopyStmt(copy)) if copy.is_from && writes == 0 => RowCount::Told,
        Some(NodeEnum::ExplainStmt(explain)) if !analyses(&explain.options) => RowCount::NotRun,
        _ => RowCount::Unseen,
    }
}

/// Whether an EXPLAIN runs its statement.
fn analyses(options: &[Node]) -> bool {
    options.iter().any(|option| match &option.node {
        Some(NodeEnum::DefElem(option)) if option.defname.eq_ignore_ascii_case("analyze") => {
            let value = option.arg.as_deref().and_then(constant);
            !value.is_some_and(|value| {
                ["false", "off", "0"].iter().any(|no| value.eq_ignore_ascii_case(no))
            })
        }
        Some(NodeEnum::DefElem(_)) => false,
        _ => true,
    })
}

/// What a statement is, from its outermost node.
pub(super) fn kind(node: &Node) -> StatementKind {
    let Some(node) = &node.node else { return StatementKind::Unknown };
    match node {
        NodeEnum::SelectStmt(select) if super::select::stores(select) => StatementKind::Ddl,
        NodeEnum::SelectStmt(_) => StatementKind::Select,
        NodeEnum::InsertStmt(_) => StatementKind::Insert,
        NodeEnum::UpdateStmt(_) => StatementKind::Update,
        NodeEnum::DeleteStmt(_) => StatementKind::Delete,
        NodeEnum::MergeStmt(_) => StatementKind::Merge,
        NodeEnum::TruncateStmt(_) => StatementKind::Truncate,
        NodeEnum::CopyStmt(copy) if copy.is_program || !copy.filename.is_empty() => {
            StatementKind::CopyServer
        }
        NodeEnum::CopyStmt(copy) if copy.is_from => StatementKind::CopyIn,
        NodeEnum::CopyStmt(_) => StatementKind::CopyOut,
        NodeEnum::ExplainStmt(_) => StatementKind::Explain,
        NodeEnum::PrepareStmt(_) => StatementKind::Prepare,
        NodeEnum::ExecuteStmt(_) => StatementKind::Execute,
        NodeEnum::DeallocateStmt(_) => StatementKind::Deallocate,
        NodeEnum::DeclareCursorStmt(_) => StatementKind::DeclareCursor,
        NodeEnum::ClosePortalStmt(_) | NodeEnum::FetchStmt(_) => StatementKind::Cursor,
        NodeEnum::TransactionStmt(_) | NodeEnum::ConstraintsSetStmt(_) => {
            StatementKind::Transaction
        }
        NodeEnum::VariableSetStmt(set) if set.kind() == VariableSetKind::VarSetMulti => {
            StatementKind::Transaction
        }
        NodeEnum::VariableSetStmt(_) => StatementKind::Set,
        NodeEnum::VariableShowStmt(_) => StatementKind::Show,
        NodeEnum::DiscardStmt(_) => StatementKind::Discard,
        NodeEnum::LockStmt(_) => StatementKind::Lock,
        NodeEnum::NotifyStmt(_) | NodeEnum::ListenStmt(_) | NodeEnum::UnlistenStmt(_) => {
            StatementKind::Notify
        }
        NodeEnum::CallStmt(_) => StatementKind::Call,
        NodeEnum::DoStmt(_) => StatementKind::Do,
        NodeEnum::VacuumStmt(_)
        | NodeEnum::ClusterStmt(_)
        | NodeEnum::ReindexStmt(_)
        | NodeEnum::RefreshMatViewStmt(_)
        | NodeEnum::CheckPointStmt(_) => StatementKind::Maintain,
        node if super::ddl::is_ddl(node) => StatementKind::Ddl,
        _ => StatementKind::Unknown,
    }
}

/// Whether a list of kinds of objects holds this one.
pub(super) fn is_relation_object(object: ObjectType) -> bool {
    matches!(
        object,
        ObjectType::ObjectTable
            | ObjectType::ObjectView
            | ObjectType::ObjectMatview
            | ObjectType::ObjectSequence
            | ObjectType::ObjectForeignTable
    )
}
