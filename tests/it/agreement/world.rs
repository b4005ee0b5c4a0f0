//! The database that policies and statements are about: every kind of relation, and
//! tokens by which a value is known wherever it comes out.

use pgate::policy::Pattern;

/// The tables and views.
pub(super) const SQL: &str = include_str!("world.sql");

/// The relations with their columns, the sequence aside.
pub(super) const RELATIONS: [(&str, &[&str]); 21] = [
    ("w.people", &["id", "name", "email", "pin", "loud", "hint"]),
    ("w.orders", &["id", "person", "memo"]),
    ("w.events", &["id", "at", "ip"]),
    ("w.events_a", &["id", "at", "ip"]),
    ("w.events_b", &["id", "at", "ip"]),
    ("w.base", &["id", "note"]),
    ("w.child", &["id", "note", "extra"]),
    ("other.notes", &["id", "body"]),
    ("w.people_view", &["id", "name", "mail"]),
    ("w.joined", &["id", "name", "memo"]),
    ("w.selective", &["id", "name"]),
    ("w.above", &["id", "mail", "made"]),
    ("w.people_kept", &["id", "email", "up"]),
    ("w.events_kept", &["id", "ip"]),
    ("w.invoked", &["id", "name", "email"]),
    ("w.other_base", &["id", "remark"]),
    ("w.mixed", &["id", "note", "remark"]),
    ("w.pair", &["id", "note", "remark"]),
    ("w.renamed", &["id", "said"]),
    ("w.invoked_again", &["id", "post"]),
    ("w.over_invoked", &["id", "name"]),
];

/// A value's token, and the column that it is stored in, under each name that the
/// table's rows have.
pub(super) struct Planted {
    pub(super) token: &'static str,
    places: &'static [(&'static str, &'static str)],
}

pub(super) const PLANTED: [Planted; 13] = [
    Planted { token: "kname", places: &[("w.people", "name")] },
    Planted { token: "kmail", places: &[("w.people", "email")] },
    Planted { token: "kpin", places: &[("w.people", "pin")] },
    Planted { token: "kmemo", places: &[("w.orders", "memo")] },
    Planted { token: "kearly", places: &[("w.events", "ip"), ("w.events_a", "ip")] },
    Planted { token: "klate", places: &[("w.events", "ip"), ("w.events_b", "ip")] },
    Planted { token: "knote", places: &[("w.base", "note")] },
    Planted { token: "kchild", places: &[("w.base", "note"), ("w.child", "note")] },
    Planted { token: "kextra", places: &[("w.child", "extra")] },
    Planted { token: "kremark", places: &[("w.other_base", "remark")] },
    Planted { token: "kmixed", places: &[("w.base", "note"), ("w.mixed", "note")] },
    Planted { token: "kmix of", places: &[("w.other_base", "remark"), ("w.mixed", "remark")] },
    Planted { token: "kbody", places: &[("other.notes", "body")] },
];

impl Planted {
    /// Whether any of these patterns of columns covers it.
    pub(super) fn is_in_columns(&self, patterns: &[&str]) -> bool {
        let names = self.places.iter().map(|(table, column)| {
            let (schema, table) = table.split_once('.').expect("a schema and a name");
            [schema, table, column]
        });
        names.into_iter().any(|names| any_matches(patterns, &names))
    }

    /// Whether any of these patterns of relations covers it.
    pub(super) fn is_in_relations(&self, patterns: &[&str]) -> bool {
        self.places.iter().any(|(table, _)| {
            let (schema, table) = table.split_once('.').expect("a schema and a name");
            any_matches(patterns, &[schema, table])
        })
    }
}

fn any_matches(patterns: &[&str], names: &[&str]) -> bool {
    let parsed = patterns.iter().map(|pattern| pattern.parse::<Pattern>().expect("a pattern"));
    parsed.into_iter().any(|pattern| pattern.matches(names))
}
