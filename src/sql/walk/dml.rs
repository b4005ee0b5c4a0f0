//! INSERT, UPDATE, DELETE and MERGE.

use pg_query::{
    Node, NodeEnum,
    protobuf::{
        CmdType, DeleteStmt, InferClause, InsertStmt, MergeMatchKind, MergeStmt, MergeWhenClause,
        OnConflictAction, OnConflictClause, RangeVar, ReturningClause, ReturningOptionKind,
        UpdateStmt, WithClause,
    },
};

use super::{
    super::{Access, Action, ColumnContext},
    Walk,
    scope::{Source, item_of},
};

/// The branches of a MERGE that are looked at for what narrows them.
const MOST_BRANCHES: usize = 100;

impl Walk<'_> {
    pub(super) fn insert(&mut self, insert: &InsertStmt) {
        let InsertStmt {
            relation,
            cols,
            select_stmt,
            on_conflict_clause,
            returning_clause,
            with_clause,
            r#override: _,
        } = insert;
        self.writes += 1;
        self.ctes_of(|walk| {
            walk.clause(ColumnContext::Stored, |walk| walk.with(with_clause.as_ref()));
            // The source doesn't see the target.
            walk.clause(ColumnContext::Stored, |walk| walk.optional(select_stmt));
            let named = on_conflict_clause.is_some()
                && select_stmt.as_deref().is_none_or(|source| walk.names_its_rows(source));
            walk.level(|walk| {
                let target = walk.target(relation.as_ref(), Access::Insert, Action::Insert);
                walk.written_columns(target, cols);
                if let Some(conflict) = on_conflict_clause {
                    walk.on_conflict(conflict, relation.as_ref(), target, named);
                }
                walk.returning(returning_clause.as_ref(), target);
            });
        });
    }

    /// `named`: whether the rows that may conflict are named one by one.
    fn on_conflict(
        &mut self,
        conflict: &OnConflictClause,
        target: Option<&RangeVar>,
        inserted: Option<usize>,
        named: bool,
    ) {
        let OnConflictClause { action: _, infer, target_list, where_clause, location: _ } =
            conflict;
        match conflict.action() {
            OnConflictAction::OnconflictNone | OnConflictAction::OnconflictNothing => {}
            OnConflictAction::OnconflictUpdate => {
                if let Some(target) = target {
                    let at = self.relation(target, Access::Update, Action::Update);
                    self.set_columns(at, target_list);
                    let conditions = where_clause.as_deref().into_iter().collect::<Vec<_>>();
                    let unfiltered = !named
                        && inserted.is_none_or(|at| self.is_unfiltered(at, None, &[], &conditions));
                    self.set_unfiltered(at, unfiltered);
                }
            }
            OnConflictAction::Undefined => self.unclassified("ON CONFLICT of another kind"),
        }
        self.also_named("excluded", Source::Derived);
        if let Some(InferClause { index_elems, where_clause, conname, location: _ }) =
            infer.as_deref()
        {
            self.clause(ColumnContext::Predicate, |walk| {
                // Which columns a constraint compares, its name doesn't say.
                if !conname.is_empty() {
                    walk.column_named(Vec::new(), true, 0);
                }
                for element in index_elems {
                    // A plain column is a name here, not a reference.
                    if let Some(NodeEnum::IndexElem(element)) = &element.node
                        && !element.name.is_empty()
                    {
                        walk.column_named(vec![element.name.clone()], false, 0);
                    }
                }
                walk.nodes(index_elems);
                walk.optional(where_clause);
            });
        }
        self.clause(ColumnContext::Stored, |walk| walk.nodes(target_list));
        self.clause(ColumnContext::Predicate, |walk| walk.optional(where_clause));
    }

    pub(super) fn update(&mut self, update: &UpdateStmt) {
        let UpdateStmt {
            relation,
            target_list,
            where_clause,
            from_clause,
            returning_clause,
            with_clause,
        } = update;
        self.writes += 1;
        self.ctes_of(|walk| {
            walk.clause(ColumnContext::Stored, |walk| walk.with(with_clause.as_ref()));
            walk.level(|walk| {
                let target = walk.target(relation.as_ref(), Access::Update, Action::Update);
                if let Some(target) = target {
                    walk.set_columns(target, target_list);
                }
                walk.clause(ColumnContext::Stored, |walk| walk.from(from_clause));
                walk.clause(ColumnContext::Stored, |walk| walk.nodes(target_list));
                walk.clause(ColumnContext::Predicate, |walk| walk.optional(where_clause));
                walk.filtered_by(target, with_clause.as_ref(), from_clause, where_clause);
                walk.returning(returning_clause.as_ref(), target);
            });
        });
    }

    pub(super) fn delete(&mut self, delete: &DeleteStmt) {
        let DeleteStmt { relation, using_clause, where_clause, returning_clause, with_clause } =
            delete;
        self.writes += 1;
        self.ctes_of(|walk| {
            walk.with(with_clause.as_ref());
            walk.level(|walk| {
                let target = walk.target(relation.as_ref(), Access::Delete, Action::Delete);
                walk.from(using_clause);
                walk.clause(ColumnContext::Predicate, |walk| walk.optional(where_clause));
                walk.filtered_by(target, with_clause.as_ref(), using_clause, where_clause);
                walk.returning(returning_clause.as_ref(), target);
            });
        });
    }

    pub(super) fn merge(&mut self, merge: &MergeStmt) {
        let MergeStmt {
            relation,
            source_relation,
            join_condition,
            merge_when_clauses,
            returning_clause,
            with_clause,
        } = merge;
        self.writes += 1;
        self.ctes_of(|walk| {
            walk.clause(ColumnContext::Stored, |walk| walk.with(with_clause.as_ref()));
            walk.level(|walk| {
                let target = walk.target(relation.as_ref(), Access::Merge, Action::Merge);
                walk.clause(ColumnContext::Stored, |walk| walk.optional(source_relation));
                walk.clause(ColumnContext::Predicate, |walk| walk.optional(join_condition));
                for (count, branch) in merge_when_clauses.iter().enumerate() {
                    match &branch.node {
                        Some(NodeEnum::MergeWhenClause(branch)) => {
                            if let Some(at) = walk.merge_branch(branch, relation.as_ref()) {
                                let matched =
                                    branch.match_kind() == MergeMatchKind::MergeWhenMatched;
                                let join = join_condition.as_deref().filter(|_| matched);
                                let from = source_relation.as_deref().filter(|_| matched);
                                let conditions = branch.condition.as_deref().into_iter();
                                let conditions = conditions.chain(join).collect::<Vec<_>>();
                                let from = from.into_iter().collect::<Vec<_>>();
                                // Each branch looks at the source anew: nobody writes this many.
                                let unfiltered = target.is_none_or(|target| {
                                    let with = with_clause.as_ref();
                                    count >= MOST_BRANCHES
                                        || walk.is_unfiltered(target, with, &from, &conditions)
                                });
                                walk.set_unfiltered(at, unfiltered);
                            }
                        }
                        _ => walk.unclassified("a branch of MERGE of another kind"),
                    }
                }
                walk.returning(returning_clause.as_ref(), target);
            });
        });
    }

    /// The use of the target where the branch updates or deletes.
    fn merge_branch(
        &mut self,
        branch: &MergeWhenClause,
        target: Option<&RangeVar>,
    ) -> Option<usize> {
        let MergeWhenClause {
            match_kind: _,
            command_type: _,
            r#override: _,
            condition,
            target_list,
            values,
        } = branch;
        self.clause(ColumnContext::Predicate, |walk| walk.optional(condition));
        let uses = match branch.command_type() {
            CmdType::CmdInsert => Some((Access::Insert, Action::Insert)),
            CmdType::CmdUpdate => Some((Access::Update, Action::Update)),
            CmdType::CmdDelete => Some((Access::Delete, Action::Delete)),
            CmdType::CmdNothing => None,
            CmdType::Undefined
            | CmdType::CmdUnknown
            | CmdType::CmdSelect
            | CmdType::CmdMerge
            | CmdType::CmdUtility => {
                self.unclassified("a branch of MERGE of another kind");
                None
            }
        };
        let mut narrowed = None;
        if let (Some((access, action)), Some(target)) = (uses, target) {
            let at = self.relation(target, access, action);
            self.written_columns(Some(at), target_list);
            narrowed = (access != Access::Insert).then_some(at);
        }
        self.clause(ColumnContext::Stored, |walk| {
            walk.nodes(target_list);
            walk.nodes(values);
        });
        narrowed
    }

    /// Notes whether an UPDATE's or DELETE's conditions narrow it.
    fn filtered_by(
        &mut self,
        target: Option<usize>,
        with: Option<&WithClause>,
        from: &[Node],
        condition: &Option<Box<Node>>,
    ) {
        let Some(target) = target else { return };
        let from = from.iter().collect::<Vec<_>>();
        let conditions = condition.as_deref().into_iter().collect::<Vec<_>>();
        let unfiltered = self.is_unfiltered(target, with, &from, &conditions);
        self.set_unfiltered(target, unfiltered);
    }

    fn set_unfiltered(&mut self, at: usize, unfiltered: bool) {
        if let Some(used) = self.facts.relations.get_mut(at) {
            used.unfiltered = unfiltered;
        }
    }

    /// The target of a write, in sight of its clauses.
    fn target(
        &mut self,
        relation: Option<&RangeVar>,
        access: Access,
        action: Action,
    ) -> Option<usize> {
        let Some(relation) = relation else {
            self.unclassified("a write without a target");
            return None;
        };
        let at = self.relation(relation, access, action);
        let item = item_of(&self.facts.relations[at], at, Vec::new());
        self.scopes[self.scope].items.push(item);
        Some(at)
    }

    /// The columns that SET names.
    fn set_columns(&mut self, target: usize, list: &[Node]) {
        self.written_columns(Some(target), list);
    }

    fn written_columns(&mut self, target: Option<usize>, list: &[Node]) {
        let columns = list
            .iter()
            .filter_map(|node| match &node.node {
                Some(NodeEnum::ResTarget(target)) => Some(target.name.clone()),
                _ => None,
            })
            .collect();
        if let Some(used) = target.and_then(|at| self.facts.relations.get_mut(at)) {
            used.columns = columns;
        }
        // Subscripts of a target (`SET a[f()] = 1`) are expressions.
        for node in list {
            if let Some(NodeEnum::ResTarget(target)) = &node.node
                && target.val.is_none()
            {
                self.nodes(&target.indirection);
            }
        }
    }

    fn returning(&mut self, returning: Option<&ReturningClause>, target: Option<usize>) {
        let Some(ReturningClause { options, exprs }) = returning else { return };
        let (mut old, mut new) = ("old".to_owned(), "new".to_owned());
        for option in options {
            match &option.node {
                Some(NodeEnum::ReturningOption(option)) => match option.option() {
                    ReturningOptionKind::ReturningOptionOld => old = option.value.clone(),
                    ReturningOptionKind::ReturningOptionNew => new = option.value.clone(),
                    ReturningOptionKind::Undefined => {
                        self.unclassified("an option of RETURNING of another kind");
                    }
                },
                _ => self.unclassified("an option of RETURNING of another kind"),
            }
        }
        if let Some(at) = target {
            self.also_named(&old, Source::Relation { at, bare: false });
            self.also_named(&new, Source::Relation { at, bare: false });
        }
        self.clause(ColumnContext::Returning, |walk| walk.nodes(exprs));
    }
}
