//! What a view shows: for each of its columns the columns that flow into it, and
//! the columns that decide which rows there are, how often and in which order.
//!
//! It is read from the view's query as PostgreSQL has analysed and kept it, so no
//! name has to be resolved again, and no lock is taken to print a definition. Owns
//! following values through that tree. It refuses to know what functions and
//! operators do: whatever goes in may come out. A shape that it doesn't know means
//! that the view has no lineage, and whoever asks must assume everything.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    AttributeNumber, FIRST_NORMAL_OID, Oid,
    node_tree::{Node, Tree},
};

/// Where a value may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Flow {
    /// A column of another relation; [`AttributeNumber::WHOLE_ROW`] for all of them.
    Column(Oid, AttributeNumber),
    /// What a function returns that is not PostgreSQL's own.
    Function(Oid),
}

type Flows = BTreeSet<Flow>;

/// PostgreSQL's own functions that run SQL, or read tables, which their arguments name:
/// `…_to_xml`, `…_to_xml_and_xmlschema`, `ts_stat` and `ts_rewrite`.
pub(super) const RUNS_SQL: [u32; 12] =
    [2923, 2924, 2925, 2929, 2930, 2933, 2935, 2936, 2938, 3685, 3689, 3690];

/// The most values that are followed for one view. Columns of joins that stand for
/// several others of joins double the work each time; no view that somebody has written
/// comes near.
const MOST_FOLLOWED: usize = 100_000;

/// What a view shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// Its columns, by number.
    pub columns: BTreeMap<AttributeNumber, ColumnLineage>,
    /// What decides which rows it has: conditions, joins, grouping, DISTINCT, set
    /// operations, limits, ordering, and functions that return sets.
    pub rows: BTreeSet<Flow>,
}

/// How one column of a view comes by its values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnLineage {
    /// The column that it shows just as it is.
    pub as_is: Option<(Oid, AttributeNumber)>,
    /// Everything that flows into it.
    pub flows: BTreeSet<Flow>,
}

impl ColumnLineage {
    fn of_column(relation: Oid, number: AttributeNumber) -> Self {
        let as_is = (number.0 > 0).then_some((relation, number));
        Self { as_is, flows: Flows::from([Flow::Column(relation, number)]) }
    }

    fn computed(flows: Flows) -> Self {
        Self { as_is: None, flows }
    }
}

impl Lineage {
    /// Reads `pg_rewrite.ev_action` of a view's rule. None where it has a shape that
    /// isn't known.
    pub fn read(action: &str) -> Option<Self> {
        let tree = Tree::read(action)?;
        let [Tree::Node(query)] = tree.items()? else { return None };
        let Shown { columns, rows } = Follow::default().query(query)?;
        let columns = (1..).map(AttributeNumber).zip(columns).collect();
        Some(Self { columns, rows })
    }
}

/// What a query shows: its columns in order, and what decides on its rows.
#[derive(Debug, Default)]
struct Shown {
    columns: Vec<ColumnLineage>,
    rows: Flows,
}

impl Shown {
    /// Everything that it can tell.
    fn all(&self) -> Flows {
        let columns = self.columns.iter().flat_map(|column| &column.flows);
        columns.chain(&self.rows).copied().collect()
    }
}

/// What a range table's entry has as columns.
#[derive(Debug, Clone)]
enum Entry<'t> {
    Relation(Oid),
    Columns(Vec<ColumnLineage>),
    /// Every column may have all of these.
    Uniform(Flows),
    /// A join's or a group's columns are expressions over the entries before it.
    Expressions(&'t [Tree<'t>]),
}

/// One query level.
#[derive(Debug, Default)]
struct Level<'t> {
    entries: Vec<Entry<'t>>,
    ctes: BTreeMap<&'t str, Entry<'t>>,
    /// The target list, for what refers to it by number.
    targets: &'t [Tree<'t>],
    /// What windows are made by.
    windows: Flows,
}

#[derive(Debug, Default)]
struct Follow<'t> {
    /// The outermost first.
    levels: Vec<Level<'t>>,
    /// How many join and group columns stand for further ones.
    expanding: usize,
    /// How many sort clauses are being followed to their targets.
    sorting: usize,
    /// How many values have been followed.
    followed: usize,
}

impl<'t> Follow<'t> {
    fn query(&mut self, query: &'t Node<'t>) -> Option<Shown> {
        if query.name != "QUERY" || query.word("commandType")? != "1" {
            return None;
        }
        self.levels.push(Level { targets: query.items("targetList")?, ..Level::default() });
        let shown = self.level(query);
        self.levels.pop();
        shown
    }

    fn level(&mut self, query: &'t Node<'t>) -> Option<Shown> {
        let mut rows = Flows::new();
        for cte in query.items("cteList")? {
            self.cte(cte.node()?, &mut rows)?;
        }
        for entry in query.items("rtable")? {
            let entry = self.entry(entry.node()?, &mut rows)?;
            self.levels.last_mut()?.entries.push(entry);
        }
        let windows = self.flows(query.field("windowClause")?)?;
        self.levels.last_mut()?.windows = windows;
        for (name, value) in &query.fields {
            match *name {
                "cteList" | "rtable" | "windowClause" | "targetList" => {}
                // Whatever else a query has decides on its rows.
                _ => rows.extend(self.flows(value)?),
            }
        }
        let mut columns = self.targets(query)?;
        if let Some(operations) = query.field("setOperations")?.node() {
            let mut arms = Vec::new();
            let keeps_all = arms_of(operations, &mut arms)?;
            let arms = arms
                .into_iter()
                .map(|arm| self.levels.last()?.entries.get(arm).cloned())
                .collect::<Option<Vec<_>>>()?;
            for (place, column) in columns.iter_mut().enumerate() {
                let mut flows = Flows::new();
                for arm in &arms {
                    let Entry::Columns(arm) = arm else { return None };
                    flows.extend(arm.get(place)?.flows.iter().copied());
                }
                *column = ColumnLineage::computed(flows);
            }
            if !keeps_all {
                rows.extend(columns.iter().flat_map(|column| column.flows.iter().copied()));
            }
            // The targets speak of the first arm alone, and the order is made by all.
            let sorted = query.items("sortClause")?.iter().filter_map(Tree::node);
            let sorted = sorted.map(|sort| sort.word("tleSortGroupRef"));
            let sorted = sorted.collect::<Option<Vec<_>>>()?;
            for target in query.items("targetList")?.iter().filter_map(Tree::node) {
                if sorted.contains(&target.word("ressortgroupref")?) {
                    let place = target.number::<usize>("resno")?.checked_sub(1)?;
                    rows.extend(columns.get(place)?.flows.iter().copied());
                }
            }
        }
        // A function that returns a set makes as many rows as its arguments say.
        if query.word("hasTargetSRFs")? != "false" {
            rows.extend(columns.iter().flat_map(|column| column.flows.iter().copied()));
        }
        Some(Shown { columns, rows })
    }

    /// The visible columns of a target list, in order.
    fn targets(&mut self, query: &'t Node<'t>) -> Option<Vec<ColumnLineage>> {
        let mut columns = Vec::new();
        for target in query.items("targetList")? {
            let target = target.node()?;
            if target.name != "TARGETENTRY" {
                return None;
            }
            if target.word("resjunk")? == "true" {
                continue;
            }
            if target.number::<usize>("resno")? != columns.len() + 1 {
                return None;
            }
            columns.push(self.expression(target.field("expr")?)?);
        }
        Some(columns)
    }

    fn cte(&mut self, cte: &'t Node<'t>, rows: &mut Flows) -> Option<()> {
        let name = cte.word("ctename")?;
        let query = cte.field("ctequery")?.node()?;
        let entry = if cte.word("cterecursive")? == "true" {
            // Whatever it reads anywhere may come round to any of its columns.
            self.levels.last_mut()?.ctes.insert(name, Entry::Uniform(Flows::new()));
            let all = self.query(query)?.all();
            rows.extend(all.iter().copied());
            Entry::Uniform(all)
        } else {
            let shown = self.query(query)?;
            rows.extend(shown.rows);
            Entry::Columns(shown.columns)
        };
        self.levels.last_mut()?.ctes.insert(name, entry);
        Some(())
    }

    fn entry(&mut self, entry: &'t Node<'t>, rows: &mut Flows) -> Option<Entry<'t>> {
        if entry.name != "RANGETBLENTRY" && entry.name != "RTE" {
            return None;
        }
        // Row security and samples.
        for field in ["securityQuals", "tablesample"] {
            if let Some(value) = entry.field(field) {
                rows.extend(self.flows(value)?);
            }
        }
        Some(match entry.word("rtekind")? {
            "0" => Entry::Relation(Oid(entry.number("relid")?)),
            "1" => {
                let shown = self.query(entry.field("subquery")?.node()?)?;
                rows.extend(shown.rows);
                Entry::Columns(shown.columns)
            }
            "2" => Entry::Expressions(entry.items("joinaliasvars")?),
            kind @ ("3" | "4" | "5") => {
                let made_of = match kind {
                    "3" => "functions",
                    "4" => "tablefunc",
                    _ => "values_lists",
                };
                let flows = self.flows(entry.field(made_of)?)?;
                // VALUES has the rows that it has; a function what it is given makes it return.
                if kind != "5" {
                    rows.extend(flows.iter().copied());
                }
                Entry::Uniform(flows)
            }
            "6" => {
                let up = entry.number::<usize>("ctelevelsup")?;
                let level = self.levels.len().checked_sub(1)?.checked_sub(up)?;
                self.levels.get(level)?.ctes.get(entry.word("ctename")?)?.clone()
            }
            "8" => Entry::Columns(Vec::new()),
            // PostgreSQL 18: the expressions that are grouped by.
            "9" => Entry::Expressions(entry.items("groupexprs")?),
            _ => return None,
        })
    }

    /// What an expression shows; the column itself where it is nothing else.
    fn expression(&mut self, value: &'t Tree<'t>) -> Option<ColumnLineage> {
        match value {
            Tree::Node(node) if node.name == "VAR" => self.variable(node),
            value => Some(ColumnLineage::computed(self.flows(value)?)),
        }
    }

    fn variable(&mut self, variable: &Node<'_>) -> Option<ColumnLineage> {
        self.followed += 1;
        if self.followed > MOST_FOLLOWED {
            return None;
        }
        let up = variable.number::<usize>("varlevelsup")?;
        let level = self.levels.len().checked_sub(1)?.checked_sub(up)?;
        let at = variable.number::<usize>("varno")?.checked_sub(1)?;
        let number = AttributeNumber(variable.number("varattno")?);
        let entry = self.levels.get(level)?.entries.get(at)?.clone();
        let place = usize::try_from(number.0).ok().and_then(|number| number.checked_sub(1));
        match (entry, place) {
            (Entry::Relation(relation), _) => Some(ColumnLineage::of_column(relation, number)),
            (Entry::Uniform(flows), _) => Some(ColumnLineage::computed(flows)),
            (Entry::Columns(columns), Some(place)) => columns.get(place).cloned(),
            (Entry::Columns(columns), None) if number == AttributeNumber::WHOLE_ROW => {
                let flows = columns.into_iter().flat_map(|column| column.flows).collect();
                Some(ColumnLineage::computed(flows))
            }
            (Entry::Columns(_), None) => None,
            (Entry::Expressions(expressions), place) => {
                // They are written at the entry's own level, over entries before it.
                if self.expanding > self.levels.iter().map(|level| level.entries.len()).sum() {
                    return None;
                }
                let inner = self.levels.split_off(level + 1);
                self.expanding += 1;
                let lineage = match place {
                    Some(place) => expressions.get(place).and_then(|one| self.expression(one)),
                    None if number == AttributeNumber::WHOLE_ROW => {
                        let flows = expressions.iter().map(|one| self.flows(one)).collect();
                        let flows: Option<Vec<Flows>> = flows;
                        flows
                            .map(|all| ColumnLineage::computed(all.into_iter().flatten().collect()))
                    }
                    None => None,
                };
                self.expanding -= 1;
                self.levels.extend(inner);
                lineage
            }
        }
    }

    /// Everything that flows into a value, whatever it is.
    fn flows(&mut self, value: &'t Tree<'t>) -> Option<Flows> {
        let mut flows = Flows::new();
        match value {
            Tree::Word(_) => {}
            Tree::List(items) => {
                for item in items {
                    flows.extend(self.flows(item)?);
                }
            }
            Tree::Node(node) => self.node(node, &mut flows)?,
        }
        Some(flows)
    }

    fn node(&mut self, node: &'t Node<'t>, flows: &mut Flows) -> Option<()> {
        match node.name {
            "VAR" => {
                flows.extend(self.variable(node)?.flows);
                return Some(());
            }
            "QUERY" => {
                flows.extend(self.query(node)?.all());
                return Some(());
            }
            "SUBLINK" if node.word("subLinkType")? == "0" => {
                // EXISTS doesn't look at what the query selects.
                flows.extend(self.query(node.field("subselect")?.node()?)?.rows);
                return Some(());
            }
            "SORTGROUPCLAUSE" => {
                let wanted = node.word("tleSortGroupRef")?;
                // One in each level at a time: a target that is sorted by itself has no end.
                if self.sorting > self.levels.len() {
                    return None;
                }
                self.sorting += 1;
                let targets = self.levels.last()?.targets;
                for target in targets.iter().filter_map(Tree::node) {
                    if target.word("ressortgroupref")? == wanted {
                        flows.extend(self.flows(target.field("expr")?)?);
                    }
                }
                self.sorting -= 1;
                return Some(());
            }
            "WINDOWFUNC" => flows.extend(self.levels.last()?.windows.iter().copied()),
            _ => {}
        }
        for (name, value) in &node.fields {
            match *name {
                // These refer to the aggregate's own arguments.
                "aggorder" | "aggdistinct" if node.name == "AGGREF" => {}
                "funcid" | "opfuncid" | "aggfnoid" | "winfnoid" => {
                    let function = node.number::<u32>(name)?;
                    // An operator that doesn't say what it calls.
                    if function == 0 && node.number::<u32>("opno")? >= FIRST_NORMAL_OID {
                        return None;
                    }
                    if function >= FIRST_NORMAL_OID || RUNS_SQL.contains(&function) {
                        flows.insert(Flow::Function(Oid(function)));
                    }
                }
                _ => flows.extend(self.flows(value)?),
            }
        }
        Some(())
    }
}

/// The entries that a set operation combines, and whether it is UNION ALL throughout.
fn arms_of(operation: &Node<'_>, arms: &mut Vec<usize>) -> Option<bool> {
    match operation.name {
        "RANGETBLREF" => {
            arms.push(operation.number::<usize>("rtindex")?.checked_sub(1)?);
            Some(true)
        }
        "SETOPERATIONSTMT" => {
            let left = arms_of(operation.field("larg")?.node()?, arms)?;
            let right = arms_of(operation.field("rarg")?.node()?, arms)?;
            let union_all = operation.word("op")? == "1" && operation.word("all")? == "true";
            Some(left && right && union_all)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A query whose condition reads the last of so many joins, each of which says twice
    /// that its column is the one before.
    fn doubling(joins: usize) -> String {
        let var = |at: usize| format!("{{VAR :varno {at} :varattno 1 :varlevelsup 0}}");
        let joins_over = (1..=joins).map(|at| {
            format!("{{RTE :rtekind 2 :joinaliasvars ({{COALESCEEXPR :args ({0} {0})}})}}", var(at))
        });
        format!(
            "({{QUERY :commandType 1 :cteList <> :rtable ({{RTE :rtekind 0 :relid 16384}} {}) \
             :windowClause <> :targetList <> :setOperations <> :hasTargetSRFs false :havingQual {}}})",
            joins_over.collect::<String>(),
            var(joins + 1),
        )
    }

    #[test]
    fn a_view_that_takes_too_long_to_follow_has_no_lineage() {
        let column = Flow::Column(Oid(16384), AttributeNumber(1));
        let few = Lineage::read(&doubling(10)).expect("it is followed");
        assert_eq!(few.rows, BTreeSet::from([column]));
        assert_eq!(Lineage::read(&doubling(60)), None);
    }
}
