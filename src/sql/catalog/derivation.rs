//! Which columns show a value of which others: through inheritance, partitions,
//! generated columns and views.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    AttributeNumber, Catalog, Column, FIRST_NORMAL_OID, Flow, Oid, Relation, RelationKind,
};

/// How a column comes by values that are not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// It is the same column of a parent, child or partition, or a view that shows
    /// the column as it is: the same values under the same type.
    Same(Oid, AttributeNumber),
    /// It may be computed from it: a generated column, or an expression of a view.
    Computed(Oid, AttributeNumber),
    /// It may be what this function returns.
    Returned(Oid),
}

/// What derives from columns and functions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Derived {
    /// Every further column that may show one of their values, with one way that it
    /// comes by it. The given columns are not among them.
    pub columns: BTreeMap<(Oid, AttributeNumber), Origin>,
    /// The views whose very rows tell of such values: which there are, how many or
    /// in which order; and those that can't be analysed. All of their columns are
    /// derived. And the partitions of tables of which such values say where a row lies.
    pub veiled: BTreeMap<Oid, Origin>,
}

/// What is followed further.
#[derive(Debug, Clone, Copy)]
enum Step {
    Column(Oid, AttributeNumber),
    Function(Oid),
    /// A veiled view or partition: whoever reads it tells of its rows.
    View(Oid),
}

impl Catalog {
    /// Everything that may show or tell a value of one of these columns, or of what
    /// one of these functions returns, however many steps away.
    ///
    /// Inheritance is followed both ways: a scan of the parent shows the children's
    /// rows. What a function reads is not known here.
    pub fn derived_from(
        &self,
        columns: &BTreeSet<(Oid, AttributeNumber)>,
        functions: &BTreeSet<Oid>,
    ) -> Derived {
        let mut children = BTreeMap::<Oid, Vec<&Relation>>::new();
        let mut readers = BTreeMap::<Oid, BTreeMap<Oid, &Relation>>::new();
        for relation in self.relations() {
            for parent in &relation.parents {
                children.entry(*parent).or_default().push(relation);
            }
            for (read, _) in &relation.view_reads {
                readers.entry(*read).or_default().insert(relation.oid, relation);
            }
        }
        let mut following = Following {
            catalog: self,
            roots: columns,
            derived: Derived::default(),
            // Columns are followed first: they name the better reason.
            open: functions.iter().map(|function| Step::Function(*function)).collect(),
        };
        following.open.extend(columns.iter().map(|(oid, number)| Step::Column(*oid, *number)));
        while let Some(step) = following.open.pop() {
            match step {
                Step::Column(oid, number) => {
                    let below = children.get(&oid).into_iter().flatten().copied();
                    following.kin(oid, number, below);
                    let divides = |relation: &Relation| relation.partition_key.contains(&number);
                    if self.relation(oid).is_some_and(divides) {
                        following.parts(oid, Origin::Computed(oid, number), &children);
                        for view in readers.get(&oid).into_iter().flat_map(BTreeMap::values) {
                            following.places_by(view, oid, number);
                        }
                    }
                    for view in readers.get(&oid).into_iter().flat_map(BTreeMap::values) {
                        following.read_by(view, oid, number);
                    }
                }
                Step::Function(function) => {
                    for view in self.relations().filter(|relation| is_view(relation)) {
                        following.called_by(view, function);
                    }
                }
                Step::View(oid) => {
                    let Some(origin) = following.derived.veiled.get(&oid).copied() else {
                        continue;
                    };
                    for view in readers.get(&oid).into_iter().flat_map(BTreeMap::values) {
                        following.veil(view, origin);
                    }
                }
            }
        }
        following.derived
    }

    /// The other relations whose rows a scan of this one may show, or whose rows
    /// these are: what a view reads, parents, children and partitions, however many
    /// steps away.
    pub fn beneath(&self, relation: &Relation) -> Vec<&Relation> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::from([relation.oid]);
        let mut open = vec![relation];
        while let Some(relation) = open.pop() {
            let children = self.objects.children.get(&relation.oid).into_iter().flatten();
            let reads = relation.view_reads.iter().map(|(read, _)| read);
            for oid in relation.parents.iter().chain(children).chain(reads) {
                if seen.insert(*oid)
                    && let Some(other) = self.relation(*oid)
                {
                    found.push(other);
                    open.push(other);
                }
            }
        }
        found
    }

    /// The columns of other relations that a value written to this column may be stored
    /// in: those of its parents, children and partitions, and what a view shows in it.
    pub fn stored_in(
        &self,
        relation: &Relation,
        number: AttributeNumber,
    ) -> Vec<(&Relation, &Column)> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::from([(relation.oid, number)]);
        let mut open = vec![(relation.oid, number)];
        while let Some((oid, number)) = open.pop() {
            let Some(relation) = self.relation(oid) else { continue };
            let name = relation.column_by_number(number).map(|column| column.name.as_str());
            let children = self.objects.children.get(&oid).into_iter().flatten();
            let kin = relation.parents.iter().chain(children).filter_map(|kin| {
                let column = self.relation(*kin)?.column(name?)?;
                Some((*kin, column.number))
            });
            for (oid, number) in kin.chain(shown_in(relation, number)) {
                if seen.insert((oid, number))
                    && let Some(other) = self.relation(oid)
                    && let Some(column) = other.column_by_number(number)
                {
                    found.push((other, column));
                    open.push((oid, number));
                }
            }
        }
        found
    }
}

/// The columns that a view's column is made of; any that it reads where that isn't known.
fn shown_in(view: &Relation, number: AttributeNumber) -> Vec<(Oid, AttributeNumber)> {
    let Some(lineage) = &view.lineage else { return view.view_reads.to_vec() };
    let Some(column) = lineage.columns.get(&number) else { return Vec::new() };
    let flows = column.flows.iter().filter_map(|flow| match flow {
        Flow::Column(oid, number) => Some((*oid, *number)),
        Flow::Function(_) => None,
    });
    column.as_is.map_or_else(|| flows.collect(), |same| vec![same])
}

struct Following<'a> {
    catalog: &'a Catalog,
    roots: &'a BTreeSet<(Oid, AttributeNumber)>,
    derived: Derived,
    open: Vec<Step>,
}

impl Following<'_> {
    fn add(&mut self, oid: Oid, number: AttributeNumber, origin: Origin) {
        let key = (oid, number);
        if !self.roots.contains(&key) && !self.derived.columns.contains_key(&key) {
            self.derived.columns.insert(key, origin);
            self.open.push(Step::Column(oid, number));
        }
    }

    fn veil(&mut self, view: &Relation, origin: Origin) {
        if self.derived.veiled.insert(view.oid, origin).is_none() {
            self.open.push(Step::View(view.oid));
            for column in &view.columns {
                self.add(view.oid, column.number, origin);
            }
        }
    }

    /// The partitions of a table, however deep: each has the rows that it has for their
    /// values' sake.
    fn parts(&mut self, oid: Oid, origin: Origin, children: &BTreeMap<Oid, Vec<&Relation>>) {
        let mut open = vec![oid];
        while let Some(oid) = open.pop() {
            for part in children.get(&oid).into_iter().flatten() {
                if self.derived.veiled.insert(part.oid, origin).is_none() {
                    self.open.push(Step::View(part.oid));
                    open.push(part.oid);
                }
            }
        }
    }

    /// The same column above and below, and the columns generated from it.
    fn kin<'r>(
        &mut self,
        oid: Oid,
        number: AttributeNumber,
        below: impl Iterator<Item = &'r Relation>,
    ) {
        let catalog = self.catalog;
        let Some(relation) = catalog.relation(oid) else { return };
        let Some(column) = relation.column_by_number(number) else { return };
        let parents = relation.parents.iter().filter_map(|parent| catalog.relation(*parent));
        let same = |kin: &Relation| Some((kin.oid, kin.column(&column.name)?.number));
        let above = parents.filter_map(same).collect::<Vec<_>>();
        for (kin, same) in above.into_iter().chain(below.filter_map(same)) {
            self.add(kin, same, Origin::Same(oid, number));
        }
        for other in &relation.columns {
            if other.generated_from.contains(&number) {
                self.add(oid, other.number, Origin::Computed(oid, number));
            }
        }
    }

    /// A view that reads a relation, when one of that relation's columns is followed.
    fn read_by(&mut self, view: &Relation, oid: Oid, number: AttributeNumber) {
        let computed = Origin::Computed(oid, number);
        let Some(lineage) = &view.lineage else {
            let reads = view.view_reads.iter().any(|(read, column)| {
                *read == oid && (*column == number || *column == AttributeNumber::WHOLE_ROW)
            });
            if reads {
                self.veil(view, computed);
            }
            return;
        };
        let told = |flows: &BTreeSet<Flow>| {
            flows.contains(&Flow::Column(oid, number))
                || flows.contains(&Flow::Column(oid, AttributeNumber::WHOLE_ROW))
        };
        for (shown, column) in &lineage.columns {
            if column.as_is == Some((oid, number)) {
                self.add(view.oid, *shown, Origin::Same(oid, number));
            } else if told(&column.flows) {
                self.add(view.oid, *shown, computed);
            }
        }
        if told(&lineage.rows) {
            self.veil(view, computed);
        }
    }

    /// A view that reads a table, where a followed column of the table says in which
    /// partition a row lies: it may show that by the partition's number (`tableoid`).
    fn places_by(&mut self, view: &Relation, oid: Oid, number: AttributeNumber) {
        let place = AttributeNumber::of_system_column("tableoid");
        let Some((place, lineage)) = place.zip(view.lineage.as_ref()) else { return };
        let tells = |flows: &BTreeSet<Flow>| flows.contains(&Flow::Column(oid, place));
        for (shown, column) in &lineage.columns {
            if tells(&column.flows) {
                self.add(view.oid, *shown, Origin::Computed(oid, number));
            }
        }
        if tells(&lineage.rows) {
            self.veil(view, Origin::Computed(oid, number));
        }
    }

    fn called_by(&mut self, view: &Relation, function: Oid) {
        let returned = Origin::Returned(function);
        let Some(lineage) = &view.lineage else {
            // PostgreSQL's own views call none of the database's functions.
            if view.oid.0 >= FIRST_NORMAL_OID {
                self.veil(view, returned);
            }
            return;
        };
        for (shown, column) in &lineage.columns {
            if column.flows.contains(&Flow::Function(function)) {
                self.add(view.oid, *shown, returned);
            }
        }
        if lineage.rows.contains(&Flow::Function(function)) {
            self.veil(view, returned);
        }
    }
}

fn is_view(relation: &Relation) -> bool {
    matches!(relation.kind, RelationKind::View | RelationKind::MaterializedView)
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
        let derived = catalog.derived_from(&masked, &BTreeSet::new()).columns;
        let derived = derived.into_keys().collect::<BTreeSet<_>>();
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

        let beneath = catalog.beneath(catalog.relation_named("shop", "again").unwrap());
        let names = beneath.iter().map(|relation| relation.name.as_str()).collect::<BTreeSet<_>>();
        assert_eq!(names, BTreeSet::from(["customers", "customers_eu", "tails"]));

        let in_child = BTreeSet::from([at("shop.customers_eu", "ssn")]);
        let derived = catalog.derived_from(&in_child, &BTreeSet::new()).columns;
        assert!(derived.contains_key(&at("shop.customers", "ssn")));
    }
}
