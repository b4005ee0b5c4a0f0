//! Trees as plain data, so that two of them can be compared whatever their nodes are.

use pg_query::protobuf::ParseResult;
use serde_json::{Map, Value, json};

use super::{super::parse, Change, Meaning};

/// Fields that say where something stands, which two texts of one meaning differ in.
const PLACES: [&str; 11] = [
    "location",
    "stmt_location",
    "stmt_len",
    "arg_location",
    "name_location",
    "payload_location",
    "conninfo_location",
    "list_start",
    "list_end",
    "rexpr_list_start",
    "rexpr_list_end",
];

/// A tree without its places.
pub(in super::super) fn without_places(tree: &ParseResult) -> Result<Value, String> {
    let mut value = plain(tree)?;
    strip(&mut value);
    Ok(value)
}

/// The tree that a text's tree must become under these changes, without its places.
pub(super) fn intended(tree: &ParseResult, plan: &[Change]) -> Result<Value, String> {
    let mut value = plain(tree)?;
    let mut changes = Vec::with_capacity(plan.len());
    for change in plan {
        changes.push(match &change.meaning {
            Meaning::Scan { at, select, name } => {
                Prepared { at: *at, what: What::Scan { query: query(select)?, name }, made: 0 }
            }
            Meaning::Copy { at, query: text } => {
                Prepared { at: *at, what: What::Copy { query: query(text)? }, made: 0 }
            }
            Meaning::True { at } => {
                Prepared { at: *at, what: What::True { constant: truth()? }, made: 0 }
            }
            Meaning::Unqualify { at, parts } => {
                Prepared { at: *at, what: What::Unqualify { parts: *parts }, made: 0 }
            }
        });
    }
    make(&mut value, &mut changes);
    if let Some(change) = changes.iter().find(|change| change.made != 1) {
        return Err(format!("a place was found {} times in the tree", change.made));
    }
    strip(&mut value);
    Ok(value)
}

struct Prepared<'a> {
    at: usize,
    what: What<'a>,
    made: usize,
}

enum What<'a> {
    Scan { query: Value, name: &'a str },
    Copy { query: Value },
    True { constant: Value },
    Unqualify { parts: usize },
}

fn plain(tree: &ParseResult) -> Result<Value, String> {
    let mut value = serde_json::to_value(&tree.stmts).map_err(|error| error.to_string())?;
    keep_sources_once(&mut value);
    Ok(value)
}

/// In `SET (a, b) = (SELECT …)` the parser gives each column the one source that the
/// text has: it is kept where it stands first.
fn keep_sources_once(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(keep_sources_once),
        Value::Object(fields) => {
            if let Some(Value::Object(assigned)) = fields.get_mut("MultiAssignRef")
                && assigned.get("colno").and_then(Value::as_i64).is_some_and(|column| column > 1)
            {
                assigned.insert("source".into(), Value::Null);
            }
            fields.values_mut().for_each(keep_sources_once);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The node of a text that is one SELECT.
fn query(text: &str) -> Result<Value, String> {
    let tree = parse::tree(text).map_err(|error| error.to_string())?;
    let [statement] = tree.stmts.as_slice() else {
        return Err("the masked query is not one statement".into());
    };
    let mut node = serde_json::to_value(&statement.stmt).map_err(|error| error.to_string())?;
    // Its places are of another text, and must not be taken for the original's.
    strip(&mut node);
    match node.get("node").and_then(|node| node.get("SelectStmt")) {
        Some(_) => Ok(node),
        None => Err("the masked query is no SELECT".into()),
    }
}

/// The node of a constant that is true.
fn truth() -> Result<Value, String> {
    let node = query("SELECT true")?;
    node.pointer("/node/SelectStmt/target_list/0/node/ResTarget/val/node/AConst")
        .cloned()
        .ok_or_else(|| "the constant is not where it should be".into())
}

/// Makes the changes wherever their places are.
fn make(value: &mut Value, changes: &mut [Prepared<'_>]) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| make(item, changes)),
        Value::Object(fields) => {
            for change in changes.iter_mut() {
                change.make(fields);
            }
            for field in fields.values_mut() {
                make(field, changes);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

impl Prepared<'_> {
    fn make(&mut self, fields: &mut Map<String, Value>) {
        let stands_here = |node: &Value| {
            node.get("location").and_then(Value::as_u64).is_some_and(|at| at == self.at as u64)
        };
        match &self.what {
            What::Scan { query, name } => {
                let Some(scan) = fields.get("RangeVar").filter(|node| stands_here(node)) else {
                    return;
                };
                let alias = match scan.get("alias") {
                    Some(alias) if !alias.is_null() => alias.clone(),
                    _ => json!({ "aliasname": name, "colnames": [] }),
                };
                let select = json!({ "lateral": false, "subquery": query, "alias": alias });
                fields.remove("RangeVar");
                fields.insert("RangeSubselect".into(), select);
            }
            What::Copy { query } => {
                let Some(Value::Object(copy)) = fields.get_mut("CopyStmt") else { return };
                if !copy.get("relation").is_some_and(stands_here) {
                    return;
                }
                copy.insert("relation".into(), Value::Null);
                copy.insert("attlist".into(), json!([]));
                copy.insert("query".into(), query.clone());
            }
            What::True { constant } => {
                if !fields.get("AExpr").is_some_and(stands_here) {
                    return;
                }
                fields.remove("AExpr");
                fields.insert("AConst".into(), constant.clone());
            }
            What::Unqualify { parts } => {
                let Some(reference) = fields.get_mut("ColumnRef") else { return };
                if !stands_here(reference) {
                    return;
                }
                let Some(Value::Array(names)) = reference.get_mut("fields") else { return };
                if names.len() <= *parts {
                    return;
                }
                names.drain(..*parts);
            }
        }
        self.made += 1;
    }
}

fn strip(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::Object(fields) => {
            fields.retain(|name, value| !(value.is_number() && PLACES.contains(&name.as_str())));
            fields.values_mut().for_each(strip);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
