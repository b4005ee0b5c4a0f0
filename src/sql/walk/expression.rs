//! Expressions: column references, calls, operators, types and sub-selects.

use pg_query::{
    NodeEnum,
    protobuf::{
        AExpr, AExprKind, AIndirection, CaseExpr, CaseWhen, ColumnRef, FuncCall, SortBy, SubLink,
        SubLinkType, TypeName, WindowDef,
    },
};

use super::{
    super::{ColumnContext, FunctionUse, Name, TypeUse},
    Walk, name_of,
    scope::{MaybeFunction, column_use},
    strings,
};

impl Walk<'_> {
    pub(super) fn column_ref(&mut self, reference: &ColumnRef) {
        let ColumnRef { fields, location } = reference;
        let mut path = Vec::with_capacity(fields.len());
        let mut star = false;
        for field in fields {
            match &field.node {
                Some(NodeEnum::String(name)) => path.push(name.sval.clone()),
                Some(NodeEnum::AStar(_)) => star = true,
                _ => self.unclassified("a column reference of another kind"),
            }
        }
        self.column_named(path, star, *location);
    }

    /// A reference by these parts; a star at the end is not among them.
    pub(super) fn column_named(&mut self, path: Vec<String>, star: bool, location: i32) {
        let meaning = self.resolver().column(&path, star, self.scope);
        if path.len() > 1 && !star {
            self.attribute_call(&path, meaning.maybe_function, location);
        }
        let at = usize::try_from(location).unwrap_or_default();
        let mut used = column_use(path, star, at, self.context, self.scope);
        if star {
            used.path.push("*".into());
        }
        used.candidates = meaning.candidates;
        self.facts.columns.push(used);
    }

    /// `row.name` calls the function `name(row)` where the row has no such column.
    fn attribute_call(&mut self, path: &[String], maybe: MaybeFunction, location: i32) {
        let Some(name) = path.last() else { return };
        let name = Name { schema: None, name: name.clone() };
        match maybe {
            MaybeFunction::No => {}
            MaybeFunction::Unclear if !self.catalog.functions(&name).any(|f| f.takes_row) => {}
            MaybeFunction::OfAnything
                if self.catalog.functions(&name).next().is_none()
                    && !self.catalog.has_builtin_function(&name) => {}
            MaybeFunction::Unclear | MaybeFunction::OfAnything | MaybeFunction::Yes => {
                self.function_named(&[name.name], 1, location);
            }
        }
    }

    /// `(expression).name` and `(expression)[subscript]`.
    pub(super) fn indirection(&mut self, indirection: &AIndirection) {
        let AIndirection { arg, indirection } = indirection;
        self.optional(arg);
        for step in indirection {
            match &step.node {
                Some(NodeEnum::String(name)) => {
                    let path = ["row".to_owned(), name.sval.clone()];
                    self.attribute_call(&path, MaybeFunction::OfAnything, -1);
                }
                _ => self.node(step),
            }
        }
    }

    pub(super) fn function_call(&mut self, call: &FuncCall) {
        if self.setting_by_call(call) {
            return;
        }
        let FuncCall {
            funcname,
            args,
            agg_order,
            agg_filter,
            over,
            agg_within_group: _,
            agg_star: _,
            agg_distinct: _,
            func_variadic: _,
            funcformat: _,
            location,
        } = call;
        let name = strings(funcname);
        self.younger_call(&name, *location);
        self.function_named(&name, args.len(), *location);
        self.nodes(args);
        self.clause(ColumnContext::Arrangement, |walk| walk.nodes(agg_order));
        self.clause(ColumnContext::Predicate, |walk| walk.optional(agg_filter));
        if let Some(over) = over {
            self.window(over);
        }
    }

    /// A function by name.
    pub(super) fn function_named(&mut self, parts: &[String], arguments: usize, location: i32) {
        let Some(name) = name_of(parts) else {
            self.unclassified("a function without a name");
            return;
        };
        let candidates = self.catalog.functions(&name).map(|function| function.oid).collect();
        let builtin = self.catalog.has_builtin_function(&name);
        let at = usize::try_from(location).unwrap_or_default();
        self.facts.functions.push(FunctionUse { name, arguments, candidates, builtin, at });
    }

    pub(super) fn window(&mut self, window: &WindowDef) {
        let WindowDef {
            name: _,
            refname: _,
            partition_clause,
            order_clause,
            frame_options: _,
            start_offset,
            end_offset,
            location: _,
        } = window;
        self.clause(ColumnContext::Arrangement, |walk| {
            walk.nodes(partition_clause);
            walk.nodes(order_clause);
            walk.optional(start_offset);
            walk.optional(end_offset);
        });
    }

    pub(super) fn sort_by(&mut self, sort: &SortBy) {
        let SortBy { node, sortby_dir: _, sortby_nulls: _, use_op, location: _ } = sort;
        self.optional(node);
        self.operator(&strings(use_op));
    }

    pub(super) fn operator_expression(&mut self, expression: &AExpr) {
        let AExpr {
            kind: _,
            name,
            lexpr,
            rexpr,
            rexpr_list_start: _,
            rexpr_list_end: _,
            location: _,
        } = expression;
        match expression.kind() {
            AExprKind::AexprOp
            | AExprKind::AexprOpAny
            | AExprKind::AexprOpAll
            | AExprKind::AexprDistinct
            | AExprKind::AexprNotDistinct
            | AExprKind::AexprNullif
            | AExprKind::AexprIn
            | AExprKind::AexprLike
            | AExprKind::AexprIlike => self.operator(&strings(name)),
            AExprKind::AexprSimilar => {
                self.operator(&strings(name));
                self.function_named(&["pg_catalog".into(), "similar_to_escape".into()], 1, -1);
            }
            // The name is BETWEEN itself.
            AExprKind::AexprBetween
            | AExprKind::AexprNotBetween
            | AExprKind::AexprBetweenSym
            | AExprKind::AexprNotBetweenSym => {
                for operator in ["<", "<=", ">", ">="] {
                    self.operator_named(None, operator);
                }
            }
            AExprKind::Undefined => self.unclassified("an operator expression of another kind"),
        }
        self.optional(lexpr);
        self.optional(rexpr);
    }

    fn operator(&mut self, parts: &[String]) {
        if let Some(Name { schema, name }) = name_of(parts) {
            self.operator_named(schema, &name);
        }
    }

    pub(super) fn case(&mut self, case: &CaseExpr) {
        let CaseExpr { xpr: _, casetype: _, casecollid: _, arg, args, defresult, location: _ } =
            case;
        if arg.is_some() {
            self.operator_named(None, "=");
        }
        self.clause(ColumnContext::Predicate, |walk| walk.optional(arg));
        self.nodes(args);
        self.optional(defresult);
    }

    pub(super) fn case_when(&mut self, when: &CaseWhen) {
        let CaseWhen { xpr: _, expr, result, location: _ } = when;
        self.clause(ColumnContext::Predicate, |walk| walk.optional(expr));
        self.optional(result);
    }

    /// A sub-select in an expression.
    pub(super) fn sub_link(&mut self, link: &SubLink) {
        let SubLink {
            xpr,
            sub_link_type: _,
            sub_link_id: _,
            testexpr,
            oper_name,
            subselect,
            location: _,
        } = link;
        if xpr.is_some() {
            self.unclassified("a sub-select after analysis");
        }
        match link.sub_link_type() {
            SubLinkType::ExistsSublink => {
                // What EXISTS selects is never looked at.
                let outer = std::mem::replace(&mut self.context, ColumnContext::Output);
                self.ctes_of(|walk| walk.optional(subselect));
                self.context = outer;
                return;
            }
            SubLinkType::AllSublink | SubLinkType::AnySublink => {
                if oper_name.is_empty() {
                    self.operator_named(None, "=");
                } else {
                    self.operator(&strings(oper_name));
                }
            }
            SubLinkType::ExprSublink | SubLinkType::ArraySublink => {}
            SubLinkType::RowcompareSublink
            | SubLinkType::MultiexprSublink
            | SubLinkType::CteSublink
            | SubLinkType::Undefined => self.unclassified("a sub-select of another kind"),
        }
        self.optional(testexpr);
        self.ctes_of(|walk| walk.optional(subselect));
    }

    pub(super) fn type_name(&mut self, name: &TypeName) {
        let TypeName {
            names,
            type_oid: _,
            setof: _,
            pct_type,
            typmods,
            typemod: _,
            array_bounds: _,
            location: _,
        } = name;
        // Type modifiers are expressions by grammar.
        self.nodes(typmods);
        let mut parts = strings(names);
        if *pct_type {
            // `relation.column%TYPE`: the column's type, whatever it is; what it
            // names is the relation.
            parts.pop();
        }
        let Some(name) = name_of(&parts) else { return };
        let builtin = self.catalog.type_is_builtin(&name).unwrap_or(false);
        let used = TypeUse { name, builtin };
        if !self.facts.types.contains(&used) {
            self.facts.types.push(used);
        }
    }
}
