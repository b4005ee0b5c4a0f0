//! The shape of every node that PostgreSQL's parser can make: which fields hold
//! further nodes. A field that a new grammar adds does not compile until it is
//! listed here, so no part of a tree can be passed over unseen.
//!
//! Owns the table and nothing else: what a node means is the walk's question.
//! Nodes that only exist after parse analysis have no shape; the walk refuses them.

use pg_query::{Node, protobuf};

/// One thing inside a node.
pub(super) enum Part<'a> {
    /// A further node.
    Node(&'a Node),
    /// A relation by name.
    Relation(&'a protobuf::RangeVar),
    /// A type by name.
    Type(&'a protobuf::TypeName),
    /// A message of fixed type, to be looked into.
    Inner(&'a dyn Shape),
    /// Something that a raw parse tree never holds.
    Analysed(&'static str),
}

/// A node whose parts can be listed.
pub(super) trait Shape {
    /// Calls `visit` for every part, relations first.
    fn each<'a>(&'a self, visit: &mut dyn FnMut(Part<'a>));
}

impl<T: Shape> Shape for Box<T> {
    fn each<'a>(&'a self, visit: &mut dyn FnMut(Part<'a>)) {
        (**self).each(visit);
    }
}

macro_rules! shapes {
    ($($name:ident { $($kind:ident [$($field:ident)*])* })*) => { $(
        impl Shape for protobuf::$name {
            fn each<'a>(&'a self, visit: &mut dyn FnMut(Part<'a>)) {
                let Self { $($($field,)*)* } = self;
                let _ = &visit;
                $($(shapes!(@$kind $field visit);)*)*
            }
        }
    )* };
    (@list $field:ident $visit:ident) => {
        for node in $field {
            $visit(Part::Node(node));
        }
    };
    // What a statement leaves out stands there as a node without a kind.
    (@gaps $field:ident $visit:ident) => {
        for node in $field.iter().filter(|node| node.node.is_some()) {
            $visit(Part::Node(node));
        }
    };
    (@node $field:ident $visit:ident) => {
        if let Some(node) = $field {
            $visit(Part::Node(node));
        }
    };
    (@part $field:ident $visit:ident) => {
        if let Some(part) = $field {
            $visit(Part::Inner(part));
        }
    };
    (@relation $field:ident $visit:ident) => {
        if let Some(relation) = $field {
            $visit(Part::Relation(relation));
        }
    };
    (@typename $field:ident $visit:ident) => {
        if let Some(name) = $field {
            $visit(Part::Type(name));
        }
    };
    (@analysed $field:ident $visit:ident) => {
        if $field.is_some() {
            $visit(Part::Analysed(stringify!($field)));
        }
    };
    (@plain $field:ident $visit:ident) => {
        let _ = $field;
    };
}

shapes! {
    Integer { plain [ival] }
    Float { plain [fval] }
    Boolean { plain [boolval] }
    String { plain [sval] }
    BitString { plain [bsval] }
    List { list [items] }
    OidList { list [items] }
    IntList { list [items] }
    AConst { plain [isnull location val] }
    Alias { list [colnames] plain [aliasname] }
    RangeVar { part [alias] plain [catalogname schemaname relname inh relpersistence location] }
    IntoClause { relation [rel] list [col_names options] analysed [view_query] plain [access_method
        on_commit table_space_name skip_data] }
    GroupingFunc { list [args refs] node [xpr] plain [agglevelsup location] }
    MergeSupportFunc { node [xpr] plain [msftype msfcollid location] }
    NamedArgExpr { node [xpr arg] plain [name argnumber location] }
    BoolExpr { list [args] node [xpr] plain [boolop location] }
    SubLink { list [oper_name] node [xpr testexpr subselect] plain [sub_link_type sub_link_id
        location] }
    CaseExpr { list [args] node [xpr arg defresult] plain [casetype casecollid location] }
    CaseWhen { node [xpr expr result] plain [location] }
    RowExpr { list [args colnames] node [xpr] plain [row_typeid row_format location] }
    CoalesceExpr { list [args] node [xpr] plain [coalescetype coalescecollid location] }
    MinMaxExpr { list [args] node [xpr] plain [minmaxtype minmaxcollid inputcollid op location] }
    SqlValueFunction { node [xpr] plain [op r#type typmod location] }
    XmlExpr { list [named_args arg_names args] node [xpr] plain [op name xmloption indent r#type
        typmod location] }
    JsonFormat { plain [format_type encoding location] }
    JsonReturning { part [format] plain [typid typmod] }
    JsonValueExpr { node [raw_expr formatted_expr] part [format] }
    JsonIsPredicate { node [expr] part [format] plain [item_type unique_keys location] }
    JsonBehavior { node [expr] plain [btype coerce location] }
    NullTest { node [xpr arg] plain [nulltesttype argisrow location] }
    BooleanTest { node [xpr arg] plain [booltesttype location] }
    SetToDefault { node [xpr] plain [type_id type_mod collation location] }
    CurrentOfExpr { node [xpr] plain [cvarno cursor_name cursor_param] }
    JoinExpr { list [using_clause] node [larg rarg quals] part [join_using_alias alias] plain
        [jointype is_natural rtindex] }
    TypeName { list [names typmods array_bounds] plain [type_oid setof pct_type typemod location] }
    ColumnRef { list [fields] plain [location] }
    ParamRef { plain [number location] }
    AExpr { list [name] node [lexpr rexpr] plain [kind rexpr_list_start rexpr_list_end location] }
    TypeCast { node [arg] typename [type_name] plain [location] }
    CollateClause { list [collname] node [arg] plain [location] }
    RoleSpec { plain [roletype rolename location] }
    FuncCall { list [funcname args agg_order] node [agg_filter] part [over] plain [agg_within_group
        agg_star agg_distinct func_variadic funcformat location] }
    AStar { }
    AIndices { node [lidx uidx] plain [is_slice] }
    AIndirection { list [indirection] node [arg] }
    AArrayExpr { list [elements] plain [list_start list_end location] }
    ResTarget { list [indirection] node [val] plain [name location] }
    MultiAssignRef { node [source] plain [colno ncolumns] }
    SortBy { list [use_op] node [node] plain [sortby_dir sortby_nulls location] }
    WindowDef { list [partition_clause order_clause] node [start_offset end_offset] plain [name
        refname frame_options location] }
    RangeSubselect { node [subquery] part [alias] plain [lateral] }
    RangeFunction { list [functions coldeflist] part [alias] plain [lateral ordinality is_rowsfrom]
        }
    RangeTableFunc { list [namespaces columns] node [docexpr rowexpr] part [alias] plain [lateral
        location] }
    RangeTableFuncCol { node [colexpr coldefexpr] typename [type_name] plain [colname for_ordinality
        is_not_null location] }
    RangeTableSample { list [method args] node [relation repeatable] plain [location] }
    ColumnDef { relation [identity_sequence] list [constraints fdwoptions] node [raw_default
        cooked_default] part [coll_clause] typename [type_name] plain [colname compression inhcount
        is_local is_not_null is_from_type storage storage_name identity generated coll_oid location]
        }
    TableLikeClause { relation [relation] plain [options relation_oid] }
    IndexElem { list [collation opclass opclassopts] node [expr] plain [name indexcolname ordering
        nulls_ordering] }
    DefElem { node [arg] plain [defnamespace defname defaction location arg_location] }
    LockingClause { list [locked_rels] plain [strength wait_policy] }
    XmlSerialize { node [expr] typename [type_name] plain [xmloption indent location] }
    PartitionElem { list [collation opclass] node [expr] plain [name location] }
    PartitionSpec { list [part_params] plain [strategy location] }
    PartitionBoundSpec { list [listdatums lowerdatums upperdatums] plain [strategy is_default
        modulus remainder location] }
    PartitionRangeDatum { node [value] plain [kind location] }
    PartitionCmd { relation [name] part [bound] plain [concurrent] }
    GroupingSet { list [content] plain [kind location] }
    WithClause { list [ctes] plain [recursive location] }
    InferClause { list [index_elems] node [where_clause] plain [conname location] }
    OnConflictClause { list [target_list] node [where_clause] part [infer] plain [action location] }
    CteSearchClause { list [search_col_list] plain [search_breadth_first search_seq_column location]
        }
    CteCycleClause { list [cycle_col_list] node [cycle_mark_value cycle_mark_default] plain
        [cycle_mark_column cycle_path_column location cycle_mark_type cycle_mark_typmod
        cycle_mark_collation cycle_mark_neop] }
    CommonTableExpr { list [aliascolnames ctecolnames ctecoltypes ctecoltypmods ctecolcollations]
        node [ctequery] part [search_clause cycle_clause] plain [ctename ctematerialized location
        cterecursive cterefcount] }
    MergeWhenClause { list [target_list values] node [condition] plain [match_kind command_type
        r#override] }
    ReturningOption { plain [option value location] }
    ReturningClause { list [options exprs] }
    TriggerTransition { plain [name is_new is_table] }
    JsonOutput { part [returning] typename [type_name] }
    JsonArgument { part [val] plain [name] }
    JsonFuncExpr { list [passing] node [pathspec] part [context_item output on_empty on_error] plain
        [op column_name wrapper quotes location] }
    JsonTablePathSpec { node [string] plain [name name_location location] }
    JsonTable { list [passing columns] part [context_item pathspec on_error alias] plain [lateral
        location] }
    JsonTableColumn { list [columns] part [pathspec format on_empty on_error] typename [type_name]
        plain [coltype name wrapper quotes location] }
    JsonKeyValue { node [key] part [value] }
    JsonParseExpr { part [expr output] plain [unique_keys location] }
    JsonScalarExpr { node [expr] part [output] plain [location] }
    JsonSerializeExpr { part [expr output] plain [location] }
    JsonObjectConstructor { list [exprs] part [output] plain [absent_on_null unique location] }
    JsonArrayConstructor { list [exprs] part [output] plain [absent_on_null location] }
    JsonArrayQueryConstructor { node [query] part [output format] plain [absent_on_null location] }
    JsonAggConstructor { list [agg_order] node [agg_filter] part [output over] plain [location] }
    JsonObjectAgg { part [constructor arg] plain [absent_on_null unique] }
    JsonArrayAgg { part [constructor arg] plain [absent_on_null] }
    RawStmt { node [stmt] plain [stmt_location stmt_len] }
    InsertStmt { relation [relation] list [cols] node [select_stmt] part [on_conflict_clause
        returning_clause with_clause] plain [r#override] }
    DeleteStmt { relation [relation] list [using_clause] node [where_clause] part [returning_clause
        with_clause] }
    UpdateStmt { relation [relation] list [target_list from_clause] node [where_clause] part
        [returning_clause with_clause] }
    MergeStmt { relation [relation] list [merge_when_clauses] node [source_relation join_condition]
        part [returning_clause with_clause] }
    SelectStmt { list [distinct_clause target_list from_clause group_clause window_clause
        values_lists sort_clause locking_clause] node [where_clause having_clause limit_offset
        limit_count] part [into_clause with_clause larg rarg] plain [group_distinct limit_option op
        all] }
    ReturnStmt { node [returnval] }
    CreateSchemaStmt { list [schema_elts] part [authrole] plain [schemaname if_not_exists] }
    AlterTableStmt { relation [relation] list [cmds] plain [objtype missing_ok] }
    AlterTableCmd { node [def] part [newowner] plain [subtype name num behavior missing_ok recurse]
        }
    AtAlterConstraint { plain [conname alter_enforceability is_enforced alter_deferrability
        deferrable initdeferred alter_inheritability noinherit] }
    ReplicaIdentityStmt { plain [identity_type name] }
    AlterCollationStmt { list [collname] }
    AlterDomainStmt { list [type_name] node [def] plain [subtype name behavior missing_ok] }
    GrantStmt { list [objects privileges grantees] part [grantor] plain [is_grant targtype objtype
        grant_option behavior] }
    ObjectWithArgs { list [objname objfuncargs] gaps [objargs] plain [args_unspecified] }
    AccessPriv { list [cols] plain [priv_name] }
    GrantRoleStmt { list [granted_roles grantee_roles opt] part [grantor] plain [is_grant behavior]
        }
    AlterDefaultPrivilegesStmt { list [options] part [action] }
    CopyStmt { relation [relation] list [attlist options] node [query where_clause] plain [is_from
        is_program filename] }
    VariableSetStmt { list [args] plain [kind name jumble_args is_local location] }
    VariableShowStmt { plain [name] }
    CreateStmt { relation [relation] list [table_elts inh_relations constraints nnconstraints
        options] part [partbound partspec] typename [of_typename] plain [oncommit tablespacename
        access_method if_not_exists] }
    Constraint { relation [pktable] list [keys including exclusions options fk_attrs pk_attrs
        fk_del_set_cols old_conpfeqop] node [raw_expr where_clause] plain [contype conname
        deferrable initdeferred is_enforced skip_validation initially_valid is_no_inherit
        cooked_expr generated_when generated_kind nulls_not_distinct without_overlaps indexname
        indexspace reset_default_tblspc access_method fk_with_period pk_with_period fk_matchtype
        fk_upd_action fk_del_action old_pktable_oid location] }
    CreateTableSpaceStmt { list [options] part [owner] plain [tablespacename location] }
    DropTableSpaceStmt { plain [tablespacename missing_ok] }
    AlterTableSpaceOptionsStmt { list [options] plain [tablespacename is_reset] }
    AlterTableMoveAllStmt { list [roles] plain [orig_tablespacename objtype new_tablespacename
        nowait] }
    CreateExtensionStmt { list [options] plain [extname if_not_exists] }
    AlterExtensionStmt { list [options] plain [extname] }
    AlterExtensionContentsStmt { node [object] plain [extname action objtype] }
    CreateFdwStmt { list [func_options options] plain [fdwname] }
    AlterFdwStmt { list [func_options options] plain [fdwname] }
    CreateForeignServerStmt { list [options] plain [servername servertype version fdwname
        if_not_exists] }
    AlterForeignServerStmt { list [options] plain [servername version has_version] }
    CreateForeignTableStmt { list [options] part [base_stmt] plain [servername] }
    CreateUserMappingStmt { list [options] part [user] plain [servername if_not_exists] }
    AlterUserMappingStmt { list [options] part [user] plain [servername] }
    DropUserMappingStmt { part [user] plain [servername missing_ok] }
    ImportForeignSchemaStmt { list [table_list options] plain [server_name remote_schema
        local_schema list_type] }
    CreatePolicyStmt { relation [table] list [roles] node [qual with_check] plain [policy_name
        cmd_name permissive] }
    AlterPolicyStmt { relation [table] list [roles] node [qual with_check] plain [policy_name] }
    CreateAmStmt { list [handler_name] plain [amname amtype] }
    CreateTrigStmt { relation [relation constrrel] list [funcname args columns transition_rels] node
        [when_clause] plain [replace isconstraint trigname row timing events deferrable
        initdeferred] }
    CreateEventTrigStmt { list [whenclause funcname] plain [trigname eventname] }
    AlterEventTrigStmt { plain [trigname tgenabled] }
    CreatePLangStmt { list [plhandler plinline plvalidator] plain [replace plname pltrusted] }
    CreateRoleStmt { list [options] plain [stmt_type role] }
    AlterRoleStmt { list [options] part [role] plain [action] }
    AlterRoleSetStmt { part [role setstmt] plain [database] }
    DropRoleStmt { list [roles] plain [missing_ok] }
    CreateSeqStmt { relation [sequence] list [options] plain [owner_id for_identity if_not_exists] }
    AlterSeqStmt { relation [sequence] list [options] plain [for_identity missing_ok] }
    DefineStmt { list [defnames definition] gaps [args] plain [kind oldstyle if_not_exists replace] }
    CreateDomainStmt { list [domainname constraints] part [coll_clause] typename [type_name] }
    CreateOpClassStmt { list [opclassname opfamilyname items] typename [datatype] plain [amname
        is_default] }
    CreateOpClassItem { list [order_family class_args] part [name] typename [storedtype] plain
        [itemtype number] }
    CreateOpFamilyStmt { list [opfamilyname] plain [amname] }
    AlterOpFamilyStmt { list [opfamilyname items] plain [amname is_drop] }
    DropStmt { list [objects] plain [remove_type behavior missing_ok concurrent] }
    TruncateStmt { list [relations] plain [restart_seqs behavior] }
    CommentStmt { node [object] plain [objtype comment] }
    SecLabelStmt { node [object] plain [objtype provider label] }
    DeclareCursorStmt { node [query] plain [portalname options] }
    ClosePortalStmt { plain [portalname] }
    FetchStmt { plain [direction how_many portalname ismove] }
    IndexStmt { relation [relation] list [index_params index_including_params options
        exclude_op_names] node [where_clause] plain [idxname access_method table_space idxcomment
        index_oid old_number old_create_subid old_first_relfilelocator_subid unique
        nulls_not_distinct primary isconstraint iswithoutoverlaps deferrable initdeferred
        transformed concurrent if_not_exists reset_default_tblspc] }
    CreateStatsStmt { list [defnames stat_types exprs relations] plain [stxcomment transformed
        if_not_exists] }
    StatsElem { node [expr] plain [name] }
    AlterStatsStmt { list [defnames] node [stxstattarget] plain [missing_ok] }
    CreateFunctionStmt { list [funcname parameters options] node [sql_body] typename [return_type]
        plain [is_procedure replace] }
    FunctionParameter { node [defexpr] typename [arg_type] plain [name mode location] }
    AlterFunctionStmt { list [actions] part [func] plain [objtype] }
    DoStmt { list [args] }
    CallStmt { list [outargs] part [funccall] analysed [funcexpr] }
    RenameStmt { relation [relation] node [object] plain [rename_type relation_type subname newname
        behavior missing_ok] }
    AlterObjectDependsStmt { relation [relation] node [object] part [extname] plain [object_type
        remove] }
    AlterObjectSchemaStmt { relation [relation] node [object] plain [object_type newschema
        missing_ok] }
    AlterOwnerStmt { relation [relation] node [object] part [newowner] plain [object_type] }
    AlterOperatorStmt { list [options] part [opername] }
    AlterTypeStmt { list [type_name options] }
    RuleStmt { relation [relation] list [actions] node [where_clause] plain [rulename event instead
        replace] }
    NotifyStmt { plain [conditionname payload payload_location] }
    ListenStmt { plain [conditionname] }
    UnlistenStmt { plain [conditionname] }
    TransactionStmt { list [options] plain [kind savepoint_name gid chain location] }
    CompositeTypeStmt { relation [typevar] list [coldeflist] }
    CreateEnumStmt { list [type_name vals] }
    CreateRangeStmt { list [type_name params] }
    AlterEnumStmt { list [type_name] plain [old_val new_val new_val_neighbor new_val_is_after
        skip_if_new_val_exists] }
    ViewStmt { relation [view] list [aliases options] node [query] plain [replace with_check_option]
        }
    LoadStmt { plain [filename] }
    CreatedbStmt { list [options] plain [dbname] }
    AlterDatabaseStmt { list [options] plain [dbname] }
    AlterDatabaseRefreshCollStmt { plain [dbname] }
    AlterDatabaseSetStmt { part [setstmt] plain [dbname] }
    DropdbStmt { list [options] plain [dbname missing_ok] }
    AlterSystemStmt { part [setstmt] }
    ClusterStmt { relation [relation] list [params] plain [indexname] }
    VacuumStmt { list [options rels] plain [is_vacuumcmd] }
    VacuumRelation { relation [relation] list [va_cols] plain [oid] }
    ExplainStmt { list [options] node [query] }
    CreateTableAsStmt { node [query] part [into] plain [objtype is_select_into if_not_exists] }
    RefreshMatViewStmt { relation [relation] plain [concurrent skip_data] }
    CheckPointStmt { }
    DiscardStmt { plain [target] }
    LockStmt { list [relations] plain [mode nowait] }
    ConstraintsSetStmt { list [constraints] plain [deferred] }
    ReindexStmt { relation [relation] list [params] plain [kind name] }
    CreateConversionStmt { list [conversion_name func_name] plain [for_encoding_name
        to_encoding_name def] }
    CreateCastStmt { part [func] typename [sourcetype targettype] plain [context inout] }
    CreateTransformStmt { part [fromsql tosql] typename [type_name] plain [replace lang] }
    PrepareStmt { list [argtypes] node [query] plain [name] }
    ExecuteStmt { list [params] plain [name] }
    DeallocateStmt { plain [name isall location] }
    DropOwnedStmt { list [roles] plain [behavior] }
    ReassignOwnedStmt { list [roles] part [newrole] }
    AlterTsDictionaryStmt { list [dictname options] }
    AlterTsConfigurationStmt { list [cfgname tokentype dicts] plain [kind r#override replace
        missing_ok] }
    PublicationTable { relation [relation] list [columns] node [where_clause] }
    PublicationObjSpec { part [pubtable] plain [pubobjtype name location] }
    CreatePublicationStmt { list [options pubobjects] plain [pubname for_all_tables] }
    AlterPublicationStmt { list [options pubobjects] plain [pubname for_all_tables action] }
    CreateSubscriptionStmt { list [publication options] plain [subname conninfo conninfo_location] }
    AlterSubscriptionStmt { list [publication options] plain [kind subname conninfo
        conninfo_location] }
    DropSubscriptionStmt { plain [subname missing_ok behavior] }
}
