//! Whether the conditions of an UPDATE or DELETE narrow what it hits.
//!
//! Owns the question "which rows does it name?", asked of the text alone. A
//! condition narrows where it says which rows are meant: a column of the target
//! compared with a value, directly or through a join with rows that are themselves
//! named. What is always true (`1 = 1`, `id = id`), what speaks of no column of the
//! target, and what only leaves rows out (`<>`, `IS NOT NULL`, `NOT IN`) does not.
//! It refuses to guess: what it can't show to narrow, doesn't.
//!
//! No text tells what the data are: `id > 0` is a comparison, and may be true of
//! every row. Rules that count rows (`rows > N`) are there for that.

mod syntax;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pg_query::{
    Node, NodeEnum,
    protobuf::{
        AExpr, AExprKind, BoolExprType, BoolTestType, NullTestType, SelectStmt, SetOperation,
        SubLink, SubLinkType, WithClause,
    },
};

use self::syntax::{
    conditions_of, is_boolean, is_limit, is_plain, is_simple, joined, says_something,
};
use super::{super::AttributeNumber, Walk, scope::Source, strings};

/// What the conditions that are true of a row say of each relation use: the columns
/// that they name rows by, and whether only one end of a range is given.
type Pins = BTreeMap<usize, BTreeMap<AttributeNumber, bool>>;

/// What a list of conditions, all of them true, says.
#[derive(Default)]
struct Claims {
    pins: Pins,
    /// Equal columns of two relations.
    ties: Vec<(usize, usize)>,
    /// A column of a relation equals one of a sub-select, CTE or function.
    derived: BTreeSet<usize>,
}

/// What stands on one side of a comparison.
#[derive(Default)]
struct Side {
    refers: BTreeMap<usize, BTreeSet<AttributeNumber>>,
    derived: bool,
    /// It scans relations, in a sub-select.
    scans: bool,
    /// It is nothing that can be reasoned about.
    unclear: bool,
}

/// How a comparison narrows, where it does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    /// These values.
    Values,
    /// From here on, or up to here; or one of the two values of a boolean.
    OneSided,
}

/// The column of the table's identity, the same in every row of a table, and other
/// columns of the system's but for the row's place.
fn names_rows(column: AttributeNumber) -> bool {
    !column.is_system() || column.0 == -1
}

impl Walk<'_> {
    /// Whether these conditions (all of them true) fail to narrow the target, whose
    /// level is being walked. `from` are the other FROM items, `with` the CTEs.
    pub(super) fn is_unfiltered(
        &mut self,
        target: usize,
        with: Option<&WithClause>,
        from: &[&Node],
        conditions: &[&Node],
    ) -> bool {
        if self.probing {
            return true;
        }
        let named = self.probe(|walk| {
            let mut conditions = conditions.to_vec();
            for item in from {
                joined(item, &mut conditions);
            }
            let claims = walk.all(&conditions, target);
            let derived = !from.is_empty()
                && !walk.sees_derived(walk.outer_level())
                && walk.derived_are_named(with, from);
            closed(claims, derived).contains_key(&target)
        });
        !named
    }

    /// Whether a query's result is named in the same sense: a list of values, a
    /// number of rows, or conditions on all that it reads.
    pub(super) fn names_its_rows(&mut self, query: &Node) -> bool {
        !self.probing && self.probe(|walk| walk.query_is_named(query))
    }

    /// Walks without leaving anything in the facts.
    fn probe<T>(&mut self, walk: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.probing, true);
        let facts = &self.facts;
        let lengths = [
            facts.relations.len(),
            facts.columns.len(),
            facts.functions.len(),
            facts.operators.len(),
            facts.types.len(),
            facts.settings.len(),
            facts.side_doors.len(),
            facts.channels.len(),
            facts.lookups.len(),
            facts.prepared.len(),
            facts.actions.len(),
            facts.unclassified.len(),
            self.scopes.len(),
            self.ctes.len(),
        ];
        let (writes, transaction) = (self.writes, self.facts.transaction);
        let found = walk(self);
        let [relations, columns, functions, operators, types, settings, doors, rest @ ..] = lengths;
        let [channels, lookups, prepared, actions, unclassified, scopes, ctes] = rest;
        let facts = &mut self.facts;
        facts.relations.truncate(relations);
        facts.columns.truncate(columns);
        facts.functions.truncate(functions);
        facts.operators.truncate(operators);
        facts.types.truncate(types);
        facts.settings.truncate(settings);
        facts.side_doors.truncate(doors);
        facts.channels.truncate(channels);
        facts.lookups.truncate(lookups);
        facts.prepared.truncate(prepared);
        facts.actions.truncate(actions);
        facts.unclassified.truncate(unclassified);
        facts.transaction = transaction;
        self.scopes.truncate(scopes);
        self.ctes.truncate(ctes);
        self.writes = writes;
        self.probing = outer;
        found
    }

    /// What conditions say that are all true.
    fn all(&mut self, conditions: &[&Node], target: usize) -> Claims {
        let mut claims = Claims::default();
        for condition in conditions {
            self.condition(condition, true, target, &mut claims);
        }
        claims
    }

    /// What one condition says, where it is true (or, not `holds`, false).
    fn condition(&mut self, node: &Node, holds: bool, target: usize, claims: &mut Claims) {
        if self.depth >= super::MAX_DEPTH {
            self.too_deep = true;
            return;
        }
        self.depth += 1;
        match &node.node {
            Some(NodeEnum::BoolExpr(expression)) => match (expression.boolop(), holds) {
                (BoolExprType::NotExpr, _) => {
                    for arm in &expression.args {
                        self.condition(arm, !holds, target, claims);
                    }
                }
                (BoolExprType::AndExpr, true) | (BoolExprType::OrExpr, false) => {
                    for arm in &expression.args {
                        self.condition(arm, holds, target, claims);
                    }
                }
                (BoolExprType::OrExpr, true) | (BoolExprType::AndExpr, false) => {
                    let pins = self.either(&expression.args, holds, target);
                    claims.add(pins);
                }
                (BoolExprType::Undefined, _) => {}
            },
            Some(NodeEnum::AExpr(expression)) => self.comparison(expression, holds, claims),
            Some(NodeEnum::NullTest(test)) => {
                let null = test.nulltesttype() == NullTestType::IsNull;
                if null == holds {
                    self.named_by(test.arg.as_deref(), Comparison::Values, claims);
                }
            }
            Some(NodeEnum::BooleanTest(test)) => {
                let one = match test.booltesttype() {
                    BoolTestType::IsTrue | BoolTestType::IsFalse | BoolTestType::IsUnknown => true,
                    BoolTestType::IsNotTrue
                    | BoolTestType::IsNotFalse
                    | BoolTestType::IsNotUnknown
                    | BoolTestType::Undefined => false,
                };
                if one == holds {
                    self.named_by(test.arg.as_deref(), Comparison::OneSided, claims);
                }
            }
            Some(NodeEnum::ColumnRef(_)) => {
                self.named_by(Some(node), Comparison::OneSided, claims);
            }
            Some(NodeEnum::SubLink(link)) if holds => self.sub_select(link, target, claims),
            Some(NodeEnum::CurrentOfExpr(_)) if holds => {
                claims.pin(target, AttributeNumber(-1), Comparison::Values);
            }
            // Anything else may be true of every row.
            _ => {}
        }
        self.depth -= 1;
    }

    /// What is named by every arm of an OR. Two arms about the same column, one of
    /// which names a range, may be true of every row together.
    fn either(&mut self, arms: &[Node], holds: bool, target: usize) -> Pins {
        let mut common: Option<Pins> = None;
        let mut seen: HashMap<(usize, AttributeNumber), (usize, bool)> = HashMap::new();
        for arm in arms {
            let mut claims = Claims::default();
            self.condition(arm, holds, target, &mut claims);
            let pins = closed(claims, false);
            for (relation, columns) in &pins {
                for (column, one_sided) in columns {
                    let entry = seen.entry((*relation, *column)).or_default();
                    entry.0 += 1;
                    entry.1 |= one_sided;
                }
            }
            common = Some(match common {
                None => pins,
                Some(mut before) => {
                    before.retain(|relation, columns| match pins.get(relation) {
                        Some(more) => {
                            columns.extend(more);
                            true
                        }
                        None => false,
                    });
                    before
                }
            });
        }
        let mut common = common.unwrap_or_default();
        for ((relation, _), (arms, one_sided)) in seen {
            if arms > 1 && one_sided {
                common.remove(&relation);
            }
        }
        common
    }

    fn comparison(&mut self, expression: &AExpr, holds: bool, claims: &mut Claims) {
        let operator = strings(&expression.name).pop().unwrap_or_default();
        let right = expression.rexpr.as_deref();
        let (comparison, plain_equality) = match (expression.kind(), operator.as_str(), holds) {
            (AExprKind::AexprOp, "=", true)
            | (AExprKind::AexprOp, "<>" | "!=", false)
            | (AExprKind::AexprNotDistinct, _, true)
            | (AExprKind::AexprDistinct, _, false) => {
                let boolean = [&expression.lexpr, &expression.rexpr]
                    .into_iter()
                    .any(|side| side.as_deref().is_some_and(is_boolean));
                let comparison = if boolean { Comparison::OneSided } else { Comparison::Values };
                (comparison, true)
            }
            (AExprKind::AexprIn, "=", true) | (AExprKind::AexprIn, "<>", false) => {
                (Comparison::Values, true)
            }
            (AExprKind::AexprOpAny, "=", true) => (Comparison::Values, false),
            (AExprKind::AexprOp, "<" | ">" | "<=" | ">=", _)
            | (AExprKind::AexprBetween | AExprKind::AexprBetweenSym, _, true)
            | (AExprKind::AexprNotBetween | AExprKind::AexprNotBetweenSym, _, false) => {
                (Comparison::OneSided, false)
            }
            (
                AExprKind::AexprOp,
                "~~" | "~~*" | "~" | "~*" | "@>" | "<@" | "&&" | "@@" | "?" | "?|" | "?&" | "@?"
                | "^@",
                true,
            )
            | (AExprKind::AexprLike, "~~", true)
            | (AExprKind::AexprIlike, "~~*", true)
            | (AExprKind::AexprSimilar, "~", true)
                if right.is_some_and(says_something) =>
            {
                (Comparison::Values, false)
            }
            _ => return,
        };
        let (Some(left), Some(right)) = (expression.lexpr.as_deref(), right) else { return };
        let (a, b) = (self.side(left), self.side(right));
        // Only an equation with a sub-select names one value.
        if a.unclear || b.unclear || (!plain_equality && (a.scans || b.scans)) {
            return;
        }
        match (a.one(), b.one()) {
            (Some(relation), None) if b.is_value() && is_plain(left) => {
                claims.pin_all(relation, &a, comparison);
            }
            (None, Some(relation)) if a.is_value() && is_plain(right) => {
                claims.pin_all(relation, &b, comparison);
            }
            (Some(relation), None) if b.derived && plain_equality && b.refers.is_empty() => {
                claims.derived.insert(relation);
            }
            (None, Some(relation)) if a.derived && plain_equality && a.refers.is_empty() => {
                claims.derived.insert(relation);
            }
            (Some(one), Some(other)) if one != other && plain_equality => {
                claims.ties.push((one, other));
            }
            // Two columns of one row: a condition, unless they are the same.
            (Some(one), Some(_))
                if is_plain(left)
                    && is_plain(right)
                    && a.refers.get(&one).is_some_and(|columns| {
                        b.refers.get(&one).is_some_and(|others| columns.is_disjoint(others))
                    }) =>
            {
                claims.pin_all(one, &a, Comparison::OneSided);
                claims.pin_all(one, &b, Comparison::OneSided);
            }
            _ => {}
        }
    }

    /// A condition on one expression alone.
    fn named_by(&mut self, node: Option<&Node>, comparison: Comparison, claims: &mut Claims) {
        let Some(node) = node.filter(|node| is_plain(node)) else { return };
        let side = self.side(node);
        if let Some(relation) = side.one().filter(|_| !side.unclear) {
            claims.pin_all(relation, &side, comparison);
        }
    }

    /// `column IN (SELECT …)` and `EXISTS (SELECT …)`.
    fn sub_select(&mut self, link: &SubLink, target: usize, claims: &mut Claims) {
        let Some(query) = link.subselect.as_deref() else { return };
        match link.sub_link_type() {
            SubLinkType::AnySublink
                if strings(&link.oper_name).last().is_none_or(|name| name == "=") =>
            {
                let inner = self.side(query);
                let outer = inner.derived && self.sees_derived(Some(self.scope));
                if inner.unclear || !inner.refers.is_empty() || outer {
                    return;
                }
                let named = self.probe(|walk| walk.query_is_named(query));
                if named {
                    self.named_by(link.testexpr.as_deref(), Comparison::Values, claims);
                }
            }
            SubLinkType::ExistsSublink => {
                let Some(NodeEnum::SelectStmt(select)) = &query.node else { return };
                if !is_simple(select) {
                    return;
                }
                let outer = self.facts.relations.len();
                let pins = self.probe(|walk| {
                    let mut pins = Pins::new();
                    walk.level(|walk| {
                        walk.from(&select.from_clause);
                        let claims = walk.all(&conditions_of(select), target);
                        let from = select.from_clause.iter().collect::<Vec<_>>();
                        let derived = !walk.sees_derived(walk.outer_level())
                            && walk.derived_are_named(None, &from);
                        pins = closed(claims, derived);
                    });
                    pins
                });
                claims.add(pins.into_iter().filter(|(relation, _)| *relation < outer).collect());
            }
            _ => {}
        }
    }

    /// Whether all that a query returns is named.
    fn query_is_named(&mut self, query: &Node) -> bool {
        match &query.node {
            Some(NodeEnum::SelectStmt(select)) => self.select_is_named(select),
            _ => false,
        }
    }

    fn select_is_named(&mut self, select: &SelectStmt) -> bool {
        if self.depth >= super::MAX_DEPTH {
            self.too_deep = true;
            return false;
        }
        if !select.values_lists.is_empty() || select.limit_count.as_deref().is_some_and(is_limit) {
            return true;
        }
        self.depth += 1;
        let named = match (select.op(), &select.larg, &select.rarg) {
            (SetOperation::SetopUnion, Some(left), Some(right)) if select.with_clause.is_none() => {
                self.select_is_named(left) && self.select_is_named(right)
            }
            (SetOperation::SetopIntersect | SetOperation::SetopExcept, Some(left), Some(_))
                if select.with_clause.is_none() =>
            {
                self.select_is_named(left)
            }
            (SetOperation::SetopNone, None, None) => {
                let mut named = false;
                self.ctes_of(|walk| {
                    walk.with(select.with_clause.as_ref());
                    walk.level(|walk| {
                        let first = walk.facts.relations.len();
                        walk.from(&select.from_clause);
                        let all = first..walk.facts.relations.len();
                        let claims = walk.all(&conditions_of(select), usize::MAX);
                        let from = select.from_clause.iter().collect::<Vec<_>>();
                        let derived = walk.derived_are_named(select.with_clause.as_ref(), &from);
                        let own_only = derived && !walk.sees_derived(walk.outer_level());
                        let pins = closed(claims, own_only);
                        let own = walk.scope;
                        let mut base = all.filter(|at| {
                            walk.facts.relations.get(*at).is_some_and(|used| used.scope == own)
                        });
                        named = derived && base.all(|at| pins.contains_key(&at));
                    });
                });
                named
            }
            _ => false,
        };
        self.depth -= 1;
        named
    }

    /// Whether every sub-select, function and CTE among FROM items returns named rows.
    fn derived_are_named(&mut self, with: Option<&WithClause>, from: &[&Node]) -> bool {
        let own = with.map(|with| with.ctes.as_slice()).unwrap_or_default();
        let ctes_named = own.iter().all(|cte| match &cte.node {
            Some(NodeEnum::CommonTableExpr(cte)) => {
                cte.ctequery.as_deref().is_some_and(|query| self.query_is_named(query))
            }
            _ => false,
        });
        let own = own
            .iter()
            .filter_map(|cte| match &cte.node {
                Some(NodeEnum::CommonTableExpr(cte)) => Some(cte.ctename.as_str()),
                _ => None,
            })
            .collect::<Vec<_>>();
        from.iter().all(|item| self.item_is_named(item, &own, ctes_named))
    }

    fn item_is_named(&mut self, item: &Node, own_ctes: &[&str], ctes_named: bool) -> bool {
        match &item.node {
            Some(NodeEnum::RangeVar(relation)) => {
                let is_cte =
                    relation.schemaname.is_empty() && self.ctes.contains(&relation.relname);
                // A CTE of a statement around this one isn't looked into.
                !is_cte || (ctes_named && own_ctes.contains(&relation.relname.as_str()))
            }
            Some(NodeEnum::RangeSubselect(sub)) => sub.subquery.as_deref().is_some_and(|query| {
                let side = self.side(query);
                side.refers.is_empty() && !side.unclear && self.query_is_named(query)
            }),
            Some(NodeEnum::RangeFunction(_)) => {
                let side =
                    self.side_of(|walk| walk.level(|walk| walk.from(std::slice::from_ref(item))));
                side.refers.is_empty() && !side.scans && !side.unclear
            }
            Some(NodeEnum::JoinExpr(join)) => [&join.larg, &join.rarg].into_iter().all(|arm| {
                arm.as_deref().is_some_and(|arm| self.item_is_named(arm, own_ctes, ctes_named))
            }),
            _ => false,
        }
    }

    /// The level around the one that is being walked.
    fn outer_level(&self) -> Option<usize> {
        self.scopes.get(self.scope).and_then(|scope| scope.parent)
    }

    /// Whether columns of a sub-select, CTE or function are in sight from this level.
    fn sees_derived(&self, level: Option<usize>) -> bool {
        let mut level = level.and_then(|at| self.scopes.get(at));
        while let Some(scope) = level {
            if scope.items.iter().any(|item| matches!(item.source, Source::Derived)) {
                return true;
            }
            level = scope.parent.and_then(|at| self.scopes.get(at));
        }
        false
    }

    /// What an expression refers to.
    fn side(&mut self, node: &Node) -> Side {
        self.side_of(|walk| walk.node(node))
    }

    fn side_of(&mut self, walk: impl FnOnce(&mut Self)) -> Side {
        let (columns, relations) = (self.facts.columns.len(), self.facts.relations.len());
        let (functions, level) = (self.facts.functions.len(), self.scope);
        self.probe(|probe| {
            walk(probe);
            let facts = &probe.facts;
            let mut side = Side { scans: facts.relations.len() > relations, ..Side::default() };
            // What is random, or reads more than its arguments, names nothing for sure.
            let volatile = ["random", "clock_timestamp", "nextval", "currval", "setval"];
            side.unclear |= facts
                .functions
                .iter()
                .skip(functions)
                .any(|call| volatile.contains(&call.name.name.as_str()));
            for used in facts.columns.iter().skip(columns) {
                let mut outer = used.candidates.iter().filter(|(at, _)| *at < relations);
                match (outer.next(), outer.next()) {
                    (None, _) if used.candidates.is_empty() => side.derived = true,
                    (None, _) => {}
                    (Some((at, Some(number))), None)
                        if used.scope == level
                            && used.candidates.len() == 1
                            && names_rows(*number) =>
                    {
                        // The same column twice may cancel itself out.
                        let fresh = side.refers.entry(*at).or_default().insert(*number);
                        side.unclear |= !fresh;
                    }
                    _ => side.unclear = true,
                }
            }
            side
        })
    }
}

impl Claims {
    fn pin(&mut self, relation: usize, column: AttributeNumber, comparison: Comparison) {
        let one_sided = comparison == Comparison::OneSided;
        let columns = self.pins.entry(relation).or_default();
        let before = columns.entry(column).or_insert(one_sided);
        // Named values beat a range.
        *before &= one_sided;
    }

    fn pin_all(&mut self, relation: usize, side: &Side, comparison: Comparison) {
        for column in side.refers.get(&relation).into_iter().flatten() {
            self.pin(relation, *column, comparison);
        }
    }

    fn add(&mut self, pins: Pins) {
        for (relation, columns) in pins {
            self.pins.entry(relation).or_default();
            for (column, one_sided) in columns {
                let comparison = if one_sided { Comparison::OneSided } else { Comparison::Values };
                self.pin(relation, column, comparison);
            }
        }
    }
}

impl Side {
    /// The one relation that it refers to.
    fn one(&self) -> Option<usize> {
        let mut refers = self.refers.keys();
        match (refers.next(), refers.next()) {
            (Some(one), None) if !self.derived => Some(*one),
            _ => None,
        }
    }

    /// Whether it is the same for every row.
    fn is_value(&self) -> bool {
        self.refers.is_empty() && !self.derived
    }
}

/// The relations whose rows are named, by their own conditions or through equal
/// columns of others; of sub-selects and CTEs where those are named.
fn closed(claims: Claims, derived_named: bool) -> Pins {
    let Claims { mut pins, ties, derived } = claims;
    if derived_named {
        for relation in derived {
            pins.entry(relation).or_default();
        }
    }
    // A chain of joins longer than this isn't followed.
    for _ in 0..16 {
        let before = pins.len();
        for (one, other) in &ties {
            if pins.contains_key(one) {
                pins.entry(*other).or_default();
            } else if pins.contains_key(other) {
                pins.entry(*one).or_default();
            }
        }
        if pins.len() == before {
            break;
        }
    }
    pins
}
