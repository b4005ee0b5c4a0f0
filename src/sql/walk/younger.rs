//! Syntax that the grammar has and an older server doesn't: there it is a call of the
//! function of that name, which may be the database's own, or a column.
//!
//! Owns which words these are, and since when. It refuses to know what such a function
//! does.

use pg_query::protobuf::JsonExprOp;

use super::{Walk, shape::Shape};

/// A word, and the first `server_version_num` whose grammar has it as syntax.
#[derive(Debug, Clone, Copy)]
pub(super) struct Younger(&'static str, u32);

pub(super) const JSON: Younger = Younger("json", 170_000);
pub(super) const JSON_SCALAR: Younger = Younger("json_scalar", 170_000);
pub(super) const JSON_SERIALIZE: Younger = Younger("json_serialize", 170_000);
pub(super) const JSON_OBJECT: Younger = Younger("json_object", 160_000);
pub(super) const JSON_ARRAY: Younger = Younger("json_array", 160_000);
pub(super) const JSON_OBJECTAGG: Younger = Younger("json_objectagg", 160_000);
pub(super) const JSON_ARRAYAGG: Younger = Younger("json_arrayagg", 160_000);
pub(super) const MERGE_ACTION: Younger = Younger("merge_action", 170_000);

const JSON_TABLE: Younger = Younger("json_table", 170_000);
const SYSTEM_USER: Younger = Younger("system_user", 160_000);

/// The word of one of SQL/JSON's query functions.
pub(super) fn function(op: JsonExprOp) -> Younger {
    match op {
        JsonExprOp::JsonExistsOp => Younger("json_exists", 170_000),
        JsonExprOp::JsonQueryOp => Younger("json_query", 170_000),
        JsonExprOp::JsonValueOp => Younger("json_value", 170_000),
        JsonExprOp::JsonTableOp | JsonExprOp::Undefined => JSON_TABLE,
    }
}

impl Walk<'_> {
    /// A node that is no more than its parts where the server knows its syntax.
    pub(super) fn younger(&mut self, word: Younger, node: &dyn Shape) {
        self.younger_syntax(word);
        self.parts(node);
    }

    /// What the server takes for a call of one of the database's functions is one.
    pub(super) fn younger_syntax(&mut self, Younger(name, since): Younger) {
        let called = super::Name { schema: None, name: name.to_owned() };
        let older = self.catalog.server_version_num() < since;
        if older && self.catalog.functions(&called).next().is_some() {
            self.function_named(&[called.name], 1, -1);
        }
    }

    /// What the grammar takes for a function of PostgreSQL's own: `json_object(…)` of the
    /// older form, and SYSTEM_USER, which was a column's name like any other.
    pub(super) fn younger_call(&mut self, name: &[String], location: i32) {
        let [schema, name] = name else { return };
        if schema != "pg_catalog" {
            return;
        }
        if name == JSON_OBJECT.0 {
            self.younger_syntax(JSON_OBJECT);
        } else if name == SYSTEM_USER.0 && self.catalog.server_version_num() < SYSTEM_USER.1 {
            self.column_named(vec![name.clone()], false, location);
        }
    }
}
