//! A catalog made by hand, so that tests of policy, masking and the session
//! need no server.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    AttributeNumber, Catalog, Column, ColumnLineage, Encoding, Flow, Function, Lineage, Objects,
    Oid, Relation, RelationKind, Volatility,
};

/// Makes a [`Catalog`] step by step. Relations are named `schema.name`; a name
/// that doesn't exist where one is needed is a mistake in the test and panics.
/// Types are `pg_type` names (`text`, `int8`, `_text`); anything with a dot is
/// taken for a type of that schema. OIDs count from 16384 in the order of calls.
#[derive(Debug)]
pub struct CatalogBuilder {
    objects: Objects,
    search_path: Vec<String>,
    next: u32,
}

impl Default for CatalogBuilder {
    fn default() -> Self {
        let mut objects = Objects {
            version: 150_000,
            database: "shop".into(),
            user: "pgate".into(),
            ..Objects::default()
        };
        objects.builtin_functions = BUILTIN_FUNCTIONS.split(' ').map(str::to_owned).collect();
        for name in BUILTIN_TYPES.split(' ') {
            objects.types.insert(name.into(), vec![("pg_catalog".into(), true)]);
            objects.types.insert(format!("_{name}"), vec![("pg_catalog".into(), true)]);
        }
        Self {
            objects,
            search_path: vec!["pg_catalog".into(), "shop".into(), "public".into()],
            next: 16_384,
        }
    }
}

impl CatalogBuilder {
    /// Sets the effective search path (default: `pg_catalog, shop, public`).
    pub fn search_path(mut self, schemas: &[&str]) -> Self {
        self.search_path = schemas.iter().map(|schema| (*schema).into()).collect();
        self
    }

    /// Sets the server's encoding (default: `UTF8`).
    pub fn encoding(mut self, name: &str) -> Self {
        self.objects.encoding = Encoding::named(name);
        self
    }

    /// Adds a table.
    pub fn table(self, name: &str, columns: &[(&str, &str)]) -> Self {
        self.relation(name, RelationKind::Table, columns)
    }

    /// Adds a relation of any kind.
    pub fn relation(mut self, name: &str, kind: RelationKind, columns: &[(&str, &str)]) -> Self {
        let (schema, name) = split(name);
        let columns = columns
            .iter()
            .zip(1..)
            .map(|((name, ty), number)| Column {
                number: AttributeNumber(number),
                name: (*name).into(),
                type_oid: Oid(0),
                type_text: if ty.contains('.') { (*ty).into() } else { type_text(ty).into() },
                base_type: (*ty).into(),
                not_null: false,
                generated_from: Vec::new(),
            })
            .collect();
        let oid = self.oid();
        self.objects.relations.push(Relation {
            oid,
            schema: schema.into(),
            name: name.into(),
            kind,
            temporary: schema.starts_with("pg_temp"),
            columns,
            described: true,
            parents: Vec::new(),
            partition_key: Vec::new(),
            view_reads: Vec::new(),
            lineage: None,
            security_invoker: false,
            write_rules: false,
        });
        self
    }

    /// Adds a table with the columns of its parent.
    pub fn child(mut self, name: &str, parent: &str) -> Self {
        let (schema, name) = split(name);
        let mut child = self.find(parent).clone();
        child.parents = vec![child.oid];
        child.oid = self.oid();
        child.schema = schema.into();
        child.name = name.into();
        self.objects.relations.push(child);
        self
    }

    /// Says that these columns say in which partition of a table a row lies.
    pub fn partitioned_by(mut self, name: &str, columns: &[&str]) -> Self {
        let relation = self.find(name);
        let number = |name: &&str| relation.column(name).expect("a column").number;
        relation.partition_key = columns.iter().map(number).collect();
        self
    }

    /// Has a table inherit from another one too, with the columns that it lacks.
    pub fn inherits(mut self, name: &str, parent: &str) -> Self {
        let parent = self.find(parent).clone();
        let child = self.find(name);
        child.parents.push(parent.oid);
        for column in parent.columns {
            if child.column(&column.name).is_none() {
                let number = child.columns.iter().map(|column| column.number.0).max();
                let number = AttributeNumber(number.unwrap_or_default() + 1);
                child.columns.push(Column { number, ..column });
            }
        }
        self
    }

    /// Adds a view that reads these columns, `*` for the whole row, and of which
    /// nobody knows what it makes of them.
    pub fn view(self, name: &str, columns: &[(&str, &str)], reads: &[(&str, &str)]) -> Self {
        let mut builder = self.relation(name, RelationKind::View, columns);
        let reads = reads.iter().map(|source| builder.column_of(*source)).collect();
        builder.find(name).view_reads = reads;
        builder
    }

    /// Says that a view's column shows this column as it is.
    pub fn as_is(self, view: &str, column: &str, source: (&str, &str)) -> Self {
        let mut builder = self;
        let source = builder.column_of(source);
        let shown = builder.column_of((view, column)).1;
        let lineage = ColumnLineage {
            as_is: Some(source),
            flows: BTreeSet::from([Flow::Column(source.0, source.1)]),
        };
        builder.lineage(view).columns.insert(shown, lineage);
        builder
    }

    /// Says that a view's column is computed from these.
    pub fn computed(self, view: &str, column: &str, sources: &[(&str, &str)]) -> Self {
        let mut builder = self;
        let flows = builder.flows(sources);
        let shown = builder.column_of((view, column)).1;
        let lineage = ColumnLineage { as_is: None, flows };
        builder.lineage(view).columns.insert(shown, lineage);
        builder
    }

    /// Says that a view's rows depend on these.
    pub fn rows_by(self, view: &str, sources: &[(&str, &str)]) -> Self {
        let mut builder = self;
        let flows = builder.flows(sources);
        builder.lineage(view).rows.extend(flows);
        builder
    }

    /// Says that a view's column shows what a function returns.
    pub fn returned(self, view: &str, column: &str, function: &str) -> Self {
        let mut builder = self;
        let (schema, name) = split(function);
        let known = builder.objects.functions.get(name).into_iter().flatten();
        let function = known.filter(|known| known.schema == schema).map(|known| known.oid);
        let flows = function.map(Flow::Function).collect();
        let shown = builder.column_of((view, column)).1;
        let lineage = ColumnLineage { as_is: None, flows };
        builder.lineage(view).columns.insert(shown, lineage);
        builder
    }

    /// Takes a relation's columns away, as where they aren't loaded yet.
    pub fn undescribed(mut self, relation: &str) -> Self {
        let relation = self.find(relation);
        relation.columns.clear();
        relation.described = false;
        self
    }

    /// Makes a view one that reads with its caller's rights.
    pub fn security_invoker(mut self, view: &str) -> Self {
        self.find(view).security_invoker = true;
        self
    }

    /// Gives a relation rules that run with its writes.
    pub fn write_rules(mut self, relation: &str) -> Self {
        self.find(relation).write_rules = true;
        self
    }

    /// Makes a column a generated one.
    pub fn generated(mut self, relation: &str, column: &str, sources: &[&str]) -> Self {
        let relation = self.find(relation);
        let sources = sources
            .iter()
            .map(|name| relation.column(name).expect("a column that exists").number)
            .collect();
        relation
            .columns
            .iter_mut()
            .find(|known| known.name == column)
            .expect("a column that exists")
            .generated_from = sources;
        self
    }

    /// Adds a function of the database's own.
    pub fn function(mut self, name: &str, security_definer: bool, takes_row: bool) -> Self {
        let (schema, name) = split(name);
        let oid = self.oid();
        self.objects.functions.entry(name.into()).or_default().push(Function {
            oid,
            schema: schema.into(),
            name: name.into(),
            security_definer,
            volatility: Volatility::Volatile,
            extension: None,
            takes_row,
        });
        self
    }

    /// Adds an operator of the database's own (`public.=`).
    pub fn operator(mut self, name: &str) -> Self {
        let (schema, name) = split(name);
        self.objects.operators.entry(name.into()).or_default().push(schema.into());
        self
    }

    /// Adds a type of the database's own; `builtin` says whether its input is
    /// PostgreSQL's code, as an enum's is.
    pub fn type_of(mut self, name: &str, builtin: bool) -> Self {
        let (schema, name) = split(name);
        self.objects.types.entry(name.into()).or_default().push((schema.into(), builtin));
        self
    }

    /// Adds an index on a relation.
    pub fn index(mut self, name: &str, relation: &str) -> Self {
        let (schema, name) = split(name);
        let oid = self.find(relation).oid;
        self.objects.indexes.entry(name.into()).or_default().push((schema.into(), oid));
        self
    }

    /// The catalog.
    pub fn build(self) -> Catalog {
        Catalog::assemble(self.objects, self.search_path)
    }

    fn lineage(&mut self, view: &str) -> &mut Lineage {
        let empty = || Lineage { columns: BTreeMap::new(), rows: BTreeSet::new() };
        self.find(view).lineage.get_or_insert_with(empty)
    }

    fn flows(&mut self, sources: &[(&str, &str)]) -> BTreeSet<Flow> {
        let columns = sources.iter().map(|source| self.column_of(*source));
        columns.map(|(oid, number)| Flow::Column(oid, number)).collect()
    }

    fn column_of(&mut self, (relation, column): (&str, &str)) -> (Oid, AttributeNumber) {
        let relation = self.find(relation);
        let number = match column {
            "*" => AttributeNumber::WHOLE_ROW,
            name => relation.column(name).expect("a column that exists").number,
        };
        (relation.oid, number)
    }

    fn oid(&mut self) -> Oid {
        let oid = Oid(self.next);
        self.next += 1;
        oid
    }

    fn find(&mut self, name: &str) -> &mut Relation {
        let (schema, name) = split(name);
        self.objects
            .relations
            .iter_mut()
            .find(|relation| relation.schema == schema && relation.name == name)
            .expect("a relation that was added before")
    }
}

fn split(name: &str) -> (&str, &str) {
    name.split_once('.').expect("schema.name")
}

fn type_text(name: &str) -> String {
    match name.strip_prefix('_') {
        Some(element) => format!("{}[]", type_text(element)),
        None => format!("pg_catalog.{name}"),
    }
}

const BUILTIN_TYPES: &str = "bit bool bpchar bytea char cidr date float4 float8 inet int2 int4 \
    int8 interval json jsonb name numeric oid oidvector int2vector regclass regtype regproc record \
    text time timestamp timestamptz timetz uuid varbit varchar xml tsvector tsquery int4range void";

const BUILTIN_FUNCTIONS: &str = "abs array_agg array_length avg bernoulli btrim coalesce concat concat_ws count \
    current_schema current_schemas current_setting date_part date_trunc extract format \
    format_type generate_series has_table_privilege initcap json_agg json_build_object jsonb_agg \
    jsonb_build_object jsonb_each left length lower max md5 min now nextval obj_description \
    pg_get_expr pg_get_userbyid percentile_cont position pg_read_file pg_sleep pg_table_is_visible query_to_xml random rank \
    pg_advisory_unlock_all regexp_replace repeat right round row_number row_to_json set_config setval similar_to_escape string_agg substr \
    substring sum system timezone to_char to_json to_jsonb trim unnest upper version";
