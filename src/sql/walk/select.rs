//! SELECT, its CTEs and its FROM items.

use pg_query::{
    Node, NodeEnum,
    protobuf::{
        Alias, CommonTableExpr, JoinExpr, JsonTable, LockingClause, RangeFunction, RangeSubselect,
        RangeTableFunc, RangeTableSample, RangeVar, SelectStmt, SetOperation, WithClause,
    },
};

use super::{
    super::{Access, Action, ColumnContext, Name, SideDoor},
    Walk,
    scope::{Item, Source, column_use, inside, item_of, rows_of},
    strings,
};

impl Walk<'_> {
    /// SELECT, VALUES, TABLE and set operations of them.
    pub(super) fn select(&mut self, select: &SelectStmt) {
        let SelectStmt {
            distinct_clause,
            into_clause,
            target_list,
            from_clause,
            where_clause,
            group_clause,
            group_distinct: _,
            having_clause,
            window_clause,
            values_lists,
            sort_clause,
            limit_offset,
            limit_count,
            limit_option: _,
            locking_clause,
            with_clause,
            op: _,
            all: _,
            larg,
            rarg,
        } = select;
        let stores = stores(select);
        let outer = self.context;
        if stores {
            self.context = inside(outer, ColumnContext::Stored);
        }
        self.ctes_of(|walk| {
            walk.with(with_clause.as_ref());
            // The arms of a set operation see the CTEs, but not each other's columns.
            for arm in [larg, rarg].into_iter().flatten() {
                walk.guarded(|walk| walk.select(arm));
            }
            walk.level(|walk| {
                if let Some(into) = into_clause {
                    walk.action(Action::Create);
                    walk.make(into);
                }
                walk.from(from_clause);
                walk.clause(ColumnContext::Output, |walk| walk.nodes(target_list));
                walk.clause(ColumnContext::Output, |walk| walk.nodes(values_lists));
                walk.clause(ColumnContext::Predicate, |walk| walk.optional(where_clause));
                walk.lookups(from_clause, where_clause.as_deref());
                walk.clause(ColumnContext::Arrangement, |walk| {
                    // A plain DISTINCT is a list of one node without a kind.
                    walk.nodes_with_kind(distinct_clause);
                    walk.nodes(group_clause);
                    walk.nodes(window_clause);
                });
                walk.clause(ColumnContext::Predicate, |walk| walk.optional(having_clause));
                // The ORDER BY of a set operation can name its output columns only.
                walk.clause(ColumnContext::Arrangement, |walk| walk.nodes(sort_clause));
                walk.optional(limit_offset);
                walk.optional(limit_count);
                for lock in locking_clause {
                    match &lock.node {
                        Some(NodeEnum::LockingClause(lock)) => walk.locking(lock),
                        _ => walk.unclassified("a locking clause of another kind"),
                    }
                }
            });
        });
        self.context = outer;
        if !is_known_operation(select) {
            self.unclassified("a set operation of another kind");
        }
    }

    /// Counts a step down that doesn't go through a node.
    fn guarded(&mut self, walk: impl FnOnce(&mut Self)) {
        if self.depth >= super::MAX_DEPTH {
            self.too_deep = true;
            return;
        }
        self.depth += 1;
        walk(self);
        self.depth -= 1;
    }

    fn nodes_with_kind(&mut self, nodes: &[Node]) {
        for node in nodes.iter().filter(|node| node.node.is_some()) {
            self.node(node);
        }
    }

    /// The CTEs of a WITH clause, which are in sight until the caller truncates
    /// them. A CTE sees itself and its later neighbours under RECURSIVE only.
    pub(super) fn with(&mut self, with: Option<&WithClause>) {
        let Some(WithClause { ctes, recursive, location: _ }) = with else { return };
        let ctes = ctes
            .iter()
            .filter_map(|node| match &node.node {
                Some(NodeEnum::CommonTableExpr(cte)) => Some(cte.as_ref()),
                _ => {
                    self.unclassified("a CTE of another kind");
                    None
                }
            })
            .collect::<Vec<_>>();
        if *recursive {
            self.ctes.extend(ctes.iter().map(|cte| cte.ctename.clone()));
        }
        // What one CTE reads, another one may write.
        let writes = ctes.iter().any(|cte| {
            !matches!(
                cte.ctequery.as_ref().and_then(|query| query.node.as_ref()),
                Some(NodeEnum::SelectStmt(_))
            )
        });
        let context = if writes { ColumnContext::Stored } else { ColumnContext::Output };
        for cte in ctes {
            self.clause(context, |walk| walk.level(|walk| walk.cte(cte)));
            if !recursive {
                self.ctes.push(cte.ctename.clone());
            }
        }
    }

    fn cte(&mut self, cte: &CommonTableExpr) {
        let CommonTableExpr {
            ctename: _,
            aliascolnames: _,
            ctematerialized: _,
            ctequery,
            search_clause,
            cycle_clause,
            location: _,
            cterecursive: _,
            cterefcount: _,
            ctecolnames: _,
            ctecoltypes: _,
            ctecoltypmods: _,
            ctecolcollations: _,
        } = cte;
        self.ctes_of(|walk| walk.optional(ctequery));
        if let Some(search) = search_clause {
            self.parts(search);
        }
        if let Some(cycle) = cycle_clause {
            self.parts(cycle);
        }
    }

    /// The items of a FROM clause, each in sight of those after it.
    pub(super) fn from(&mut self, items: &[Node]) {
        for item in items {
            self.node(item);
        }
    }

    /// One FROM item; it comes into sight of the level.
    pub(super) fn item(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::RangeVar(relation) => {
                self.scan(relation);
            }
            NodeEnum::RangeSubselect(select) => {
                let RangeSubselect { lateral, subquery, alias } = select.as_ref();
                let query = |walk: &mut Self| walk.ctes_of(|walk| walk.optional(subquery));
                if *lateral {
                    query(self)
                } else {
                    self.apart(query)
                }
                self.derived(alias.as_ref());
            }
            NodeEnum::RangeFunction(function) => self.range_function(function),
            NodeEnum::RangeTableFunc(table) => {
                let RangeTableFunc {
                    lateral: _,
                    docexpr,
                    rowexpr,
                    namespaces,
                    columns,
                    alias,
                    location: _,
                } = table.as_ref();
                self.optional(docexpr);
                self.optional(rowexpr);
                self.nodes(namespaces);
                self.nodes(columns);
                self.derived(alias.as_ref());
            }
            NodeEnum::JsonTable(table) => {
                let JsonTable {
                    context_item,
                    pathspec,
                    passing,
                    columns,
                    on_error,
                    alias,
                    lateral: _,
                    location: _,
                } = table.as_ref();
                if let Some(item) = context_item {
                    self.parts(item);
                }
                if let Some(path) = pathspec {
                    self.parts(path);
                }
                self.nodes(passing);
                self.nodes(columns);
                if let Some(behavior) = on_error {
                    self.parts(behavior);
                }
                self.derived(alias.as_ref());
            }
            NodeEnum::RangeTableSample(sample) => self.sample(sample),
            NodeEnum::JoinExpr(join) => self.join(join),
            _ => self.unclassified("a FROM item of another kind"),
        }
    }

    /// A relation in FROM, or a CTE of that name.
    fn scan(&mut self, relation: &RangeVar) -> Option<usize> {
        let RangeVar { catalogname, schemaname, relname, alias, .. } = relation;
        if catalogname.is_empty() && schemaname.is_empty() && self.ctes.contains(relname) {
            let name = alias.as_ref().map_or(relname, |alias| &alias.aliasname);
            self.add_item(Some(name.clone()), Source::Derived, renamed(alias.as_ref()));
            return None;
        }
        let at = self.relation(relation, Access::Scan, Action::Select);
        let item = item_of(&self.facts.relations[at], at, renamed(alias.as_ref()));
        self.scopes[self.scope].items.push(item);
        Some(at)
    }

    fn range_function(&mut self, function: &RangeFunction) {
        let RangeFunction {
            lateral: _,
            ordinality: _,
            is_rowsfrom: _,
            functions,
            alias,
            coldeflist,
        } = function;
        // Each is a list of the function and its column definitions, which may be missing.
        for function in functions {
            match &function.node {
                Some(NodeEnum::List(list)) => self.nodes_with_kind(&list.items),
                _ => self.unclassified("a function in FROM of another kind"),
            }
        }
        self.nodes(coldeflist);
        let name = alias.as_ref().map(|alias| alias.aliasname.clone());
        self.add_item(name, Source::Function, renamed(alias.as_ref()));
    }

    fn sample(&mut self, sample: &RangeTableSample) {
        let RangeTableSample { relation, method, args, repeatable, location: _ } = sample;
        match relation.as_ref().and_then(|relation| relation.node.as_ref()) {
            Some(NodeEnum::RangeVar(relation)) => {
                if let Some(at) = self.scan(relation)
                    && let Some(used) = self.facts.relations.get_mut(at)
                {
                    used.sampled = true;
                }
            }
            _ => self.unclassified("a sample of another kind"),
        }
        // The method is a function by name (`system`, `bernoulli`).
        self.function_named(&strings(method), args.len(), sample.location);
        let nothing = self.scopes[self.scope].items.len();
        self.seeing_from(nothing, |walk| {
            walk.nodes(args);
            walk.optional(repeatable);
        });
    }

    fn join(&mut self, join: &JoinExpr) {
        let JoinExpr {
            jointype: _,
            is_natural,
            larg,
            rarg,
            using_clause,
            join_using_alias,
            quals,
            alias,
            rtindex: _,
        } = join;
        let first = self.scopes[self.scope].items.len();
        self.optional(larg);
        let middle = self.scopes[self.scope].items.len();
        self.optional(rarg);
        if *is_natural {
            let items = &self.scopes[self.scope].items;
            let shared = self.resolver().natural(&items[first..middle], &items[middle..]);
            for (name, candidates) in shared {
                let context = inside(self.context, ColumnContext::Predicate);
                let mut used = column_use(vec![name], false, 0, context, self.scope);
                used.star = used.path == ["*"];
                used.candidates = candidates;
                self.facts.columns.push(used);
            }
            self.operator_named(None, "=");
        }
        if !using_clause.is_empty() {
            self.operator_named(None, "=");
            for name in strings(using_clause) {
                self.clause(ColumnContext::Predicate, |walk| {
                    walk.column_named(vec![name], false, 0);
                });
            }
        }
        self.seeing_from(first, |walk| {
            walk.clause(ColumnContext::Predicate, |walk| walk.optional(quals));
        });
        let covers = self.scopes[self.scope].items[first..]
            .iter()
            .flat_map(rows_of)
            .map(|(at, _)| at)
            .collect::<Vec<_>>();
        if let Some(using) = join_using_alias {
            let source = Source::Join { covers: covers.clone() };
            self.add_item(Some(using.aliasname.clone()), source, Vec::new());
        }
        if let Some(alias) = alias {
            // The alias hides the names inside; their relations stay reachable
            // under the join's name, and unqualified.
            for item in &mut self.scopes[self.scope].items[first..] {
                item.name = None;
                item.covered = true;
            }
            self.add_item(
                Some(alias.aliasname.clone()),
                Source::Join { covers },
                strings(&alias.colnames),
            );
        }
    }

    /// FOR UPDATE and its kin: of the named items, or of all that are in FROM.
    fn locking(&mut self, lock: &LockingClause) {
        let LockingClause { locked_rels, strength: _, wait_policy: _ } = lock;
        let names = locked_rels
            .iter()
            .filter_map(|node| match &node.node {
                Some(NodeEnum::RangeVar(relation)) => Some(relation.relname.clone()),
                _ => None,
            })
            .collect::<Vec<_>>();
        let locked = self
            .facts
            .relations
            .iter()
            .filter(|used| used.access == Access::Scan && self.is_within(used.scope))
            .filter(|used| {
                let name = used.alias.as_ref().unwrap_or(&used.name.name);
                locked_rels.is_empty() || used.scope != self.scope || names.contains(name)
            })
            .cloned()
            .collect::<Vec<_>>();
        for mut used in locked {
            used.access = Access::Lock;
            used.action = Action::Update;
            used.range = 0..0;
            self.facts.relations.push(used);
        }
    }

    /// Whether a level is this one or inside it.
    fn is_within(&self, level: usize) -> bool {
        let mut level = Some(level);
        while let Some(at) = level {
            if at == self.scope {
                return true;
            }
            level = self.scopes.get(at).and_then(|scope| scope.parent);
        }
        false
    }

    /// SELECT INTO, CREATE TABLE AS: the relation that is made.
    pub(super) fn make(&mut self, into: &pg_query::protobuf::IntoClause) {
        let pg_query::protobuf::IntoClause {
            rel,
            col_names: _,
            access_method: _,
            options,
            on_commit: _,
            table_space_name: _,
            view_query,
            skip_data: _,
        } = into;
        if let Some(relation) = rel {
            self.relation(relation, Access::Ddl, Action::Create);
            if relation.relpersistence == "t" || relation.schemaname == "pg_temp" {
                self.side_door(SideDoor::Temporary);
            }
        }
        self.nodes(options);
        if view_query.is_some() {
            self.unclassified("a view's query after analysis");
        }
    }

    fn derived(&mut self, alias: Option<&Alias>) {
        let name = alias.map(|alias| alias.aliasname.clone());
        self.add_item(name, Source::Derived, renamed(alias));
    }

    fn add_item(&mut self, name: Option<String>, source: Source, renamed: Vec<String>) {
        let item = Item { name, source, renamed, unqualified: true, covered: false };
        self.scopes[self.scope].items.push(item);
    }

    /// A further name for a relation use (`old`, `new`), out of reach for unqualified names.
    pub(super) fn also_named(&mut self, name: &str, source: Source) {
        let item = Item {
            name: Some(name.into()),
            source,
            renamed: Vec::new(),
            unqualified: false,
            covered: false,
        };
        self.scopes[self.scope].items.push(item);
    }

    /// An operator that a clause uses without naming it.
    pub(super) fn operator_named(&mut self, schema: Option<String>, name: &str) {
        let name = Name { schema, name: name.into() };
        let builtin = self.catalog.operator_is_builtin(&name);
        let used = super::super::OperatorUse { name, builtin };
        if !self.facts.operators.contains(&used) {
            self.facts.operators.push(used);
        }
    }
}

/// Whether a query is a SELECT INTO: in a set operation, its leftmost arm says so.
pub(super) fn stores(select: &SelectStmt) -> bool {
    let mut leftmost = select;
    while let Some(left) = &leftmost.larg {
        leftmost = left;
    }
    leftmost.into_clause.is_some()
}

fn renamed(alias: Option<&Alias>) -> Vec<String> {
    alias.map(|alias| strings(&alias.colnames)).unwrap_or_default()
}

fn is_known_operation(select: &SelectStmt) -> bool {
    matches!(
        select.op(),
        SetOperation::SetopNone
            | SetOperation::SetopUnion
            | SetOperation::SetopIntersect
            | SetOperation::SetopExcept
    )
}
