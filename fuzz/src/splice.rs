//! Splicing: wherever a statement scans a masked table, the spliced text reads back
//! as the same statement with exactly that scan replaced, or it is refused.

use std::{collections::BTreeSet, str};

use pgate::sql::{
    Access, Catalog, Facts, Oid, Resolution, ScanReplacement, SpliceError, StatementKind, analyse,
    on_large_stack, splice,
};

/// Longer texts only take longer.
const LONGEST: usize = 16 * 1024;

/// Masks every scan of `data`, where it is SQL.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if text.len() > LONGEST {
        return;
    }
    let catalog = super::sql::catalog();
    let masked = |oid: Oid| catalog.relation(oid).is_some_and(|known| known.name != "orders");
    on_large_stack(|| match mask(text, &catalog, &masked) {
        Masked::Wrong(what) => panic!("{what}: {text}"),
        Masked::NoScan | Masked::Refused(_) | Masked::Spliced => {}
    });
}

/// What came of masking a text.
#[derive(Debug)]
pub enum Masked {
    /// It can't be read, or scans nothing that is masked.
    NoScan,
    /// It is refused: with this.
    Refused(SpliceError),
    /// The spliced text scans the masked query instead.
    Spliced,
    /// The spliced text is not what was meant: this is wrong with it.
    Wrong(String),
}

/// Replaces every scan of the masked relations by one of `masks.rows`, which no text
/// names, and reads what came of it again: nothing but the scans may have changed.
pub fn mask(text: &str, catalog: &Catalog, masked: &dyn Fn(Oid) -> bool) -> Masked {
    let Ok(statements) = analyse(text, catalog) else { return Masked::NoScan };
    let replacements = statements
        .iter()
        .map(|statement| scans(&statement.facts, masked))
        .map(|scans| scans.into_iter().map(replacement).collect())
        .collect::<Vec<Vec<_>>>();
    // Policy refuses a COPY with a file before it comes to masks.
    let to_file =
        statements.iter().any(|statement| statement.facts.kind == StatementKind::CopyServer);
    if to_file || replacements.iter().all(Vec::is_empty) {
        return Masked::NoScan;
    }
    let spliced = match splice(text, catalog, &replacements, &statements) {
        Ok(spliced) => spliced,
        Err(error) => return Masked::Refused(error),
    };
    let again = match analyse(&spliced.text, catalog) {
        Ok(again) => again,
        Err(error) => return Masked::Wrong(format!("{error} in {}", spliced.text)),
    };
    if again.len() != statements.len() {
        return Masked::Wrong(format!("{} statements in {}", again.len(), spliced.text));
    }
    for (before, after) in statements.iter().zip(&again) {
        if !scans(&after.facts, masked).is_empty() {
            return Masked::Wrong(format!("a scan is left in {}", spliced.text));
        }
        let (before, after) = (kept(&before.facts, masked), kept(&after.facts, masked));
        if before != after {
            return Masked::Wrong(format!("{after:?}, not {before:?}, in {}", spliced.text));
        }
    }
    Masked::Spliced
}

/// The scans of masked relations that can be replaced, by their places in the facts.
fn scans(facts: &Facts, masked: &dyn Fn(Oid) -> bool) -> Vec<usize> {
    let uses = facts.relations.iter().enumerate();
    uses.filter(|(_, used)| used.access == Access::Scan && !used.range.is_empty())
        .filter(|(_, used)| matches!(used.resolution, Resolution::Relation(oid) if masked(oid)))
        .map(|(at, _)| at)
        .collect()
}

fn replacement(relation: usize) -> ScanReplacement {
    ScanReplacement {
        relation,
        select: "SELECT * FROM masks.rows".into(),
        omitted: Vec::new(),
        answered: Vec::new(),
    }
}

/// All that a statement does but for the scans that are replaced and what replaces them.
fn kept(facts: &Facts, masked: &dyn Fn(Oid) -> bool) -> Vec<String> {
    let replaced = scans(facts, masked);
    let uses = facts.relations.iter().enumerate().filter(|(at, used)| {
        // FOR UPDATE then locks what the sub-select scans.
        let locked = used.access == Access::Lock
            && matches!(used.resolution, Resolution::Relation(oid) if masked(oid));
        !locked && !replaced.contains(at) && used.name.schema.as_deref() != Some("masks")
    });
    let uses = uses.map(|(_, used)| format!("{:?} {:?} {:?}", used.access, used.name, used.alias));
    // `row.name` may call a function where the row has no such column.
    let disguised = facts.columns.iter().filter(|column| column.path.len() > 1);
    let disguised = disguised.filter_map(|column| column.path.last()).collect::<BTreeSet<_>>();
    let functions = facts.functions.iter().filter(|called| !disguised.contains(&called.name.name));
    let functions = functions.map(|called| format!("{:?}", called.name));
    let settings = facts.settings.iter().map(|set| format!("{set:?}"));
    let rest = [format!("{:?} {:?} {:?}", facts.kind, facts.side_doors, facts.unclassified)];
    uses.chain(functions).chain(settings).chain(rest).collect()
}
