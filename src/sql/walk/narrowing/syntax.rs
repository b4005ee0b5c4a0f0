//! What the syntax of conditions says by itself: which parts of a SELECT decide its
//! rows, and which expressions can be compared with a value.

use pg_query::{
    Node, NodeEnum,
    protobuf::{AConst, AExprKind, JoinType, SelectStmt, SetOperation, a_const},
};

use super::super::{name_of, strings};

/// A SELECT's WHERE and the conditions of its inner joins.
pub(super) fn conditions_of(select: &SelectStmt) -> Vec<&Node> {
    let mut conditions = select.where_clause.as_deref().into_iter().collect::<Vec<_>>();
    for item in &select.from_clause {
        joined(item, &mut conditions);
    }
    conditions
}

/// The conditions of inner joins: outer ones leave no row of their outer side out.
pub(super) fn joined<'n>(item: &'n Node, conditions: &mut Vec<&'n Node>) {
    let mut items = vec![item];
    while let Some(item) = items.pop() {
        if let Some(NodeEnum::JoinExpr(join)) = &item.node
            && join.jointype() == JoinType::JoinInner
        {
            conditions.extend(join.quals.as_deref());
            items.extend([&join.larg, &join.rarg].into_iter().filter_map(|arm| arm.as_deref()));
        }
    }
}

/// Whether it is one SELECT … FROM … WHERE, whose rows its WHERE decides.
pub(super) fn is_simple(select: &SelectStmt) -> bool {
    select.op() == SetOperation::SetopNone
        && select.with_clause.is_none()
        && select.values_lists.is_empty()
        && select.group_clause.is_empty()
        && select.having_clause.is_none()
        && !select.target_list.iter().any(holds_call)
}

/// An aggregate makes a row out of none: only plain columns and constants are none.
fn holds_call(target: &Node) -> bool {
    match &target.node {
        Some(NodeEnum::ResTarget(target)) => target.val.as_deref().is_some_and(holds_call),
        Some(NodeEnum::ColumnRef(_) | NodeEnum::AConst(_)) => false,
        _ => true,
    }
}

/// Whether an expression is made of columns by casts, calls and arithmetic: a
/// comparison inside it could make two values out of all.
pub(super) fn is_plain(node: &Node) -> bool {
    let mut nodes = vec![node];
    while let Some(node) = nodes.pop() {
        match &node.node {
            Some(
                NodeEnum::ColumnRef(_)
                | NodeEnum::ParamRef(_)
                | NodeEnum::AConst(_)
                | NodeEnum::SqlvalueFunction(_),
            ) => {}
            Some(NodeEnum::TypeCast(cast)) => nodes.extend(cast.arg.as_deref()),
            Some(NodeEnum::CollateClause(collate)) => nodes.extend(collate.arg.as_deref()),
            Some(NodeEnum::AIndirection(indirection)) => nodes.extend(indirection.arg.as_deref()),
            Some(NodeEnum::RowExpr(row)) => nodes.extend(&row.args),
            Some(NodeEnum::FuncCall(call)) => {
                let name = name_of(&strings(&call.funcname)).map(|name| name.name);
                // These make the same value of NULL and of some other.
                if name.is_none_or(|name| name.starts_with("num_n")) {
                    return false;
                }
                nodes.extend(&call.args);
            }
            Some(NodeEnum::AExpr(expression)) if expression.kind() == AExprKind::AexprOp => {
                let operator = strings(&expression.name).pop().unwrap_or_default();
                if !matches!(
                    operator.as_str(),
                    "+" | "-" | "/" | "%" | "^" | "||" | "->" | "->>" | "#>" | "#>>"
                ) {
                    return false;
                }
                nodes.extend(expression.lexpr.as_deref());
                nodes.extend(expression.rexpr.as_deref());
            }
            _ => return false,
        }
    }
    true
}

pub(super) fn is_boolean(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::AConst(AConst { val: Some(a_const::Val::Boolval(_)), .. })) => true,
        Some(NodeEnum::TypeCast(cast)) => cast
            .type_name
            .as_ref()
            .is_some_and(|name| strings(&name.names).last().is_some_and(|name| name == "bool")),
        _ => false,
    }
}

/// Whether a pattern asks for anything: `%`, `.*` and `{}` don't.
pub(super) fn says_something(pattern: &Node) -> bool {
    match &pattern.node {
        Some(NodeEnum::AConst(AConst { val: Some(a_const::Val::Sval(text)), .. })) => {
            text.sval.chars().any(char::is_alphanumeric)
        }
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(says_something),
        Some(NodeEnum::ParamRef(_)) => true,
        Some(NodeEnum::AConst(_)) => false,
        Some(NodeEnum::FuncCall(call)) => {
            // SIMILAR TO and LIKE … ESCAPE wrap their pattern.
            call.args.first().is_some_and(says_something)
        }
        Some(NodeEnum::AArrayExpr(array)) => array.elements.iter().any(says_something),
        _ => true,
    }
}

/// Whether a LIMIT limits: `ALL` and NULL don't.
pub(super) fn is_limit(limit: &Node) -> bool {
    match &limit.node {
        Some(NodeEnum::AConst(constant)) => !constant.isnull,
        Some(NodeEnum::ParamRef(_)) => true,
        _ => false,
    }
}
