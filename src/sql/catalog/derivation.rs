//! Which columns show a value of which others: through inheritance, partitions,
//! generated columns and views.

use std::collections::{BTreeMap, BTreeSet};

use super::{AttributeNumber, Catalog, Oid, Relation, RelationKind};

/// How a column comes by another column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// It is the same column of a parent, child or partition: the same values
    /// under the same type.
    Same(Oid, AttributeNumber),
    /// It may be computed from it: a generated column, or a column of a view that
    /// reads it somewhere.
    Computed(Oid, AttributeNumber),
}

impl Catalog {
    /// Every further column that may show a value of one of these, however many
    /// steps away, with one way that it comes by it. The given columns are not in
    /// the answer.
    ///
    /// Inheritance is followed both ways: a scan of the parent shows the children's
    /// rows. A view counts with all of its columns once its definition reads one of
    /// these anywhere. What a function reads is not known here.
    pub fn derived_from(
        &self,
        columns: &BTreeSet<(Oid, AttributeNumber)>,
    ) -> BTreeMap<(Oid, AttributeNumber), Origin> {
        let mut children = BTreeMap::<Oid, Vec<&Relation>>::new();
        let mut views = Vec::new();
        for relation in self.relations() {
            for parent in &relation.parents {
                children.entry(*parent).or_default().push(relation);
            }
            if matches!(relation.kind, RelationKind::View | RelationKind::MaterializedView) {
                views.push(relation);
            }
        }
        let mut readers = BTreeMap::<Oid, Vec<(&Relation, AttributeNumber)>>::new();
        for view in views {
            for (read, number) in &view.view_reads {
                readers.entry(*read).or_default().push((view, *number));
            }
        }

        let mut derived = BTreeMap::new();
        let mut open = columns.iter().copied().collect::<Vec<_>>();
        while let Some((oid, number)) = open.pop() {
            let mut add = |key: (Oid, AttributeNumber), origin: Origin| {
                if !columns.contains(&key) && !derived.contains_key(&key) {
                    derived.insert(key, origin);
                    open.push(key);
                }
            };
            let Some(relation) = self.relation(oid) else { continue };
            let Some(column) = relation.column_by_number(number) else { continue };
            let parents = relation.parents.iter().filter_map(|parent| self.relation(*parent));
            let below = children.get(&oid).into_iter().flatten().copied();
            for kin in parents.chain(below) {
                if let Some(same) = kin.column(&column.name) {
                    add((kin.oid, same.number), Origin::Same(oid, number));
                }
            }
            for other in &relation.columns {
                if other.generated_from.contains(&number) {
                    add((oid, other.number), Origin::Computed(oid, number));
                }
            }
            for (view, read) in readers.get(&oid).into_iter().flatten() {
                if *read == number || *read == AttributeNumber::WHOLE_ROW {
                    for shown in &view.columns {
                        add((view.oid, shown.number), Origin::Computed(oid, number));
                    }
                }
            }
        }
        derived
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_generated_columns_and_views_of_views_derive() {
        let catalog = Catalog::builder()
            .table("shop.customers", &[("id", "int8"), ("ssn", "text"), ("tail", "text")])
            .generated("shop.customers", "tail", &["ssn"])
            .child("shop.customers_eu", "shop.customers")
            .view("shop.tails", &[("id", "int8"), ("t", "text")], &[("shop.customers", "tail")])
            .view("shop.again", &[("t", "text")], &[("shop.tails", "t")])
            .view("shop.ids", &[("id", "int8")], &[("shop.customers", "id")])
            .view("shop.rows", &[("r", "json")], &[("shop.customers", "*")])
            .build();
        let at = |relation: &str, column: &str| {
            let (schema, name) = relation.split_once('.').unwrap();
            let relation = catalog.relation_named(schema, name).unwrap();
            (relation.oid, relation.column(column).unwrap().number)
        };
        let masked = BTreeSet::from([at("shop.customers", "ssn")]);
        let derived = catalog.derived_from(&masked).into_keys().collect::<BTreeSet<_>>();
        let expected = BTreeSet::from([
            at("shop.customers", "tail"),
            at("shop.customers_eu", "ssn"),
            at("shop.customers_eu", "tail"),
            at("shop.tails", "id"),
            at("shop.tails", "t"),
            at("shop.again", "t"),
            at("shop.rows", "r"),
        ]);
        assert_eq!(derived, expected);

        let in_child = BTreeSet::from([at("shop.customers_eu", "ssn")]);
        assert!(catalog.derived_from(&in_child).contains_key(&at("shop.customers", "ssn")));
    }
}
