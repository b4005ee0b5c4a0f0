//! Conditions that look a value up: `column = value` and `column IN (values)`.
//!
//! Owns recognising them where they can be answered before the scan: as a condition
//! of its own (a conjunct of WHERE) at the query level that scans the column's
//! relation, which no outer join may fill with NULLs, and with values that no row
//! has a part in: constants and parameters. It refuses to judge who may look up.

use pg_query::{
    Node, NodeEnum,
    protobuf::{AConst, AExpr, AExprKind, BoolExprType, JoinType, Token, TypeName, a_const::Val},
};

use super::{super::quote_literal, Walk, strings};
use crate::sql::{Access, ColumnContext, LookupPredicate};

/// Types that a value may be cast to, as `pg_type` names them.
const CASTS: [&str; 12] = [
    "text", "varchar", "bpchar", "int2", "int4", "int8", "numeric", "float4", "float8", "uuid",
    "date", "inet",
];

impl Walk<'_> {
    /// The look-ups among the conditions of a WHERE clause that has been walked.
    pub(super) fn lookups(&mut self, from: &[Node], condition: Option<&Node>) {
        let mut scanned = Vec::new();
        for item in from {
            scans(item, &mut scanned);
        }
        let mut conjuncts = Vec::new();
        if let Some(condition) = condition {
            split(condition, &mut conjuncts);
        }
        for expression in conjuncts {
            let found = self.lookup(expression, &scanned);
            self.facts.lookups.extend(found);
        }
    }

    fn lookup(&self, expression: &AExpr, scanned: &[i32]) -> Option<LookupPredicate> {
        if strings(&expression.name) != ["="] {
            return None;
        }
        let (left, right) = (expression.lexpr.as_deref()?, expression.rexpr.as_deref()?);
        let (column, values, end) = match expression.kind() {
            AExprKind::AexprOp => match (&left.node, &right.node) {
                (Some(NodeEnum::ColumnRef(column)), _) => {
                    let (value, end) = self.value(right)?;
                    (column, vec![value], end)
                }
                (_, Some(NodeEnum::ColumnRef(column))) => {
                    let end = self.tokens.after_name(self.token(column.location)?);
                    (column, vec![self.value(left)?.0], end)
                }
                _ => return None,
            },
            AExprKind::AexprIn => {
                let (Some(NodeEnum::ColumnRef(column)), Some(NodeEnum::List(list))) =
                    (&left.node, &right.node)
                else {
                    return None;
                };
                let values = list.items.iter().map(|value| self.value(value));
                let values = values.collect::<Option<Vec<_>>>()?;
                // The parenthesis after the last value.
                let end = values.last()?.1 + 1;
                (column, values.into_iter().map(|(value, _)| value).collect(), end)
            }
            _ => return None,
        };
        let first = [left, right].into_iter().filter_map(place).min()?;
        let last = self.tokens.range(end.checked_sub(1)?)?;
        let at = usize::try_from(column.location).ok()?;
        let (reference, used) = self.facts.columns.iter().enumerate().find(|(_, used)| {
            used.at == at && used.scope == self.scope && used.context == ColumnContext::Predicate
        })?;
        let [(relation, Some(number))] = used.candidates.as_slice() else { return None };
        let scan = self.facts.relations.get(*relation)?;
        let reachable = scanned.iter().any(|location| {
            let range = usize::try_from(*location).ok().and_then(|at| self.tokens.relation(at));
            range.is_some_and(|range| range == scan.range)
        });
        let plain = scan.access == Access::Scan && scan.scope == self.scope && !scan.sampled;
        (plain && reachable && !used.star).then(|| LookupPredicate {
            relation: *relation,
            column: *number,
            reference,
            values,
            range: usize::try_from(first).unwrap_or_default()..last.end,
            operator: usize::try_from(expression.location).unwrap_or_default(),
        })
    }

    fn token(&self, location: i32) -> Option<usize> {
        self.tokens.at(usize::try_from(location).ok()?)
    }

    /// A value as SQL of its own, and the index after its last token.
    fn value(&self, node: &Node) -> Option<(String, usize)> {
        match &node.node {
            Some(NodeEnum::AConst(constant)) => {
                let at = self.token(constant.location)?;
                let text = rendered(constant)?;
                Some((text, if self.is_minus(at) { at + 2 } else { at + 1 }))
            }
            Some(NodeEnum::ParamRef(parameter)) if parameter.number > 0 => {
                Some((format!("${}", parameter.number), self.token(parameter.location)? + 1))
            }
            Some(NodeEnum::TypeCast(cast)) => {
                let TypeName {
                    names, setof: false, pct_type: false, typmods, array_bounds, ..
                } = cast.type_name.as_ref()?
                else {
                    return None;
                };
                let names = strings(names);
                let name = match names.as_slice() {
                    [name] => name,
                    [schema, name] if schema == "pg_catalog" => name,
                    _ => return None,
                };
                if !typmods.is_empty()
                    || !array_bounds.is_empty()
                    || !CASTS.contains(&name.as_str())
                {
                    return None;
                }
                let (value, after) = self.value(cast.arg.as_deref()?)?;
                // `value::type`; `CAST(value AS type)` starts before the value.
                let type_at = self.token(cast.type_name.as_ref()?.location)?;
                let cast = self.tokens.kind(after) == Some(Token::Typecast);
                (cast && type_at == after + 1).then(|| {
                    (format!("({value})::pg_catalog.{name}"), self.tokens.after_name(type_at))
                })
            }
            _ => None,
        }
    }

    fn is_minus(&self, token: usize) -> bool {
        self.tokens.kind(token) == Some(Token::Ascii45)
    }
}

/// Where the text of an operand starts.
fn place(node: &Node) -> Option<i32> {
    match node.node.as_ref()? {
        NodeEnum::ColumnRef(column) => Some(column.location),
        NodeEnum::AConst(constant) => Some(constant.location),
        NodeEnum::ParamRef(parameter) => Some(parameter.location),
        NodeEnum::TypeCast(cast) => place(cast.arg.as_deref()?),
        // It stands after what is compared with it.
        NodeEnum::List(_) => None,
        _ => None,
    }
}

/// A constant as SQL; none for what isn't compared with columns.
fn rendered(constant: &AConst) -> Option<String> {
    match constant.val.as_ref() {
        None => constant.isnull.then(|| "NULL".to_owned()),
        Some(Val::Ival(number)) => Some(format!("({})", number.ival)),
        Some(Val::Fval(number)) => {
            let plain = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
            number.fval.chars().all(plain).then(|| format!("({})", number.fval))
        }
        Some(Val::Sval(text)) => Some(quote_literal(&text.sval)),
        Some(Val::Boolval(_) | Val::Bsval(_)) => None,
    }
}

/// The conditions that must all hold.
fn split<'n>(condition: &'n Node, conjuncts: &mut Vec<&'n AExpr>) {
    match &condition.node {
        Some(NodeEnum::AExpr(expression)) => conjuncts.push(expression),
        Some(NodeEnum::BoolExpr(all)) if all.boolop() == BoolExprType::AndExpr => {
            for condition in &all.args {
                split(condition, conjuncts);
            }
        }
        _ => {}
    }
}

/// Where the relations stand whose rows a FROM item shows without ever filling in
/// NULLs for one that is missing.
fn scans(item: &Node, found: &mut Vec<i32>) {
    match &item.node {
        Some(NodeEnum::RangeVar(relation)) => found.push(relation.location),
        Some(NodeEnum::JoinExpr(join)) => {
            let (left, right) = match join.jointype() {
                JoinType::JoinInner => (true, true),
                JoinType::JoinLeft => (true, false),
                JoinType::JoinRight => (false, true),
                _ => (false, false),
            };
            for (whole, side) in [(left, &join.larg), (right, &join.rarg)] {
                if let Some(side) = side.as_deref().filter(|_| whole) {
                    scans(side, found);
                }
            }
        }
        _ => {}
    }
}
