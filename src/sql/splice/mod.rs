//! The same statement with some of its scans replaced by sub-selects.
//!
//! Owns editing the original text at the places that the parser gave, and the
//! proof that the edit did what was meant: the new text is parsed again and its
//! tree must be the old one with exactly these scans replaced. Anything else is
//! refused.

mod edits;
pub(super) mod tree;

use std::ops::Range;

use pg_query::protobuf::Token;

use self::edits::{Edit, Edits};
use super::{
    Access, AnalysisError, AttributeNumber, Catalog, Facts, RelationKind, RelationUse, Resolution,
    ScanReplacement, Statement, StatementKind,
    parse::{self, Tokens},
};

/// Why a statement can't be rewritten. It is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpliceError {
    /// It stands where no sub-select can.
    #[error("{relation} has masked columns and is used here in a way that masks can't follow")]
    NotAScan {
        /// As the text names it.
        relation: String,
    },
    /// TABLESAMPLE needs the table itself.
    #[error("{relation} has masked columns and can't be sampled; leave TABLESAMPLE out")]
    Sampled {
        /// As the text names it.
        relation: String,
    },
    /// A system column, which a masked query doesn't have.
    #[error(
        "{relation} has masked columns, and the system column {column} can't be read from it; \
         use its key instead"
    )]
    SystemColumn {
        /// As the text names it.
        relation: String,
        /// `ctid`, `tableoid`, …
        column: String,
    },
    /// A reference with a schema that can't be rewritten.
    #[error(
        "{relation} has masked columns, and {reference} can't be rewritten from an inner query; \
         give the table an alias and use that"
    )]
    InnerReference {
        /// As the text names it.
        relation: String,
        /// As written.
        reference: String,
    },
    /// Two items of one name, which only their schemas keep apart.
    #[error(
        "{relation} has masked columns and shares its name with another table of the same \
         FROM; give one of them an alias"
    )]
    SharedName {
        /// As the text names it.
        relation: String,
    },
    /// The rewritten text doesn't read as intended.
    #[error("masking {relation} would change what the statement means ({detail}); simplify it")]
    NotIntended {
        /// What was being masked.
        relation: String,
        /// What went wrong.
        detail: String,
    },
    /// The text can't be read again.
    #[error(transparent)]
    Analysis(#[from] AnalysisError),
}

/// A rewritten query string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spliced {
    /// The new text.
    pub text: String,
    edits: Edits,
}

impl Spliced {
    /// The place in the original text that a place in the new text came from, both
    /// counted in characters from 1, as the server's error positions are. A place
    /// inside a replacement comes from the start of what it replaced.
    pub fn original_position(&self, position: usize) -> usize {
        self.edits.original_position(position)
    }
}

/// Rewrites a query string: every scan that `replacements` names, one list for each
/// statement, becomes a sub-select under the name that the text relies on.
///
/// `statements` must be what [`analyse`](super::analyse()) made of this text under this
/// catalog. Call it [on a large stack](super::on_large_stack).
///
/// # Errors
///
/// Where a scan can't be replaced, or the new text's tree is not the one intended.
pub fn splice(
    text: &str,
    catalog: &Catalog,
    replacements: &[Vec<ScanReplacement>],
    statements: &[Statement],
) -> Result<Spliced, SpliceError> {
    if replacements.iter().all(Vec::is_empty) {
        return Ok(Spliced { text: text.to_owned(), edits: Edits::default() });
    }
    let names = names_of(statements, replacements);
    let not_intended =
        |detail: String| SpliceError::NotIntended { relation: names.clone(), detail };
    let old_tree = parse::tree(text)?;
    if old_tree.stmts.len() != statements.len() || replacements.len() != statements.len() {
        return Err(not_intended("the statements are not those of the text".into()));
    }
    let tokens = Tokens::of(text)?;
    let mut plan = Vec::new();
    for (statement, replacements) in statements.iter().zip(replacements) {
        for replacement in replacements {
            plan_scan(text, catalog, &tokens, &statement.facts, replacement, &mut plan)?;
        }
    }
    let edits = plan.iter().map(|change| change.edit.clone()).collect::<Vec<_>>();
    let (new_text, edits) = edits::apply(text, edits).map_err(&not_intended)?;

    let intended = tree::intended(&old_tree, &plan).map_err(&not_intended)?;
    let new_tree = parse::tree(&new_text).map_err(|error| not_intended(error.to_string()))?;
    let found = tree::without_places(&new_tree).map_err(&not_intended)?;
    if intended != found {
        return Err(not_intended("the new text reads differently".into()));
    }
    Ok(Spliced { text: new_text, edits })
}

/// One change: the edit of the text, and what it means for the tree.
struct Change {
    edit: Edit,
    meaning: Meaning,
}

/// What a change means for the tree; places are bytes of the original text.
enum Meaning {
    /// The FROM item whose name stands at `at` becomes this query under this name.
    Scan { at: usize, select: String, name: String },
    /// The table that COPY copies, whose name stands at `at`, becomes this query.
    Copy { at: usize, query: String },
    /// The condition whose operator stands at `at` becomes true.
    True { at: usize },
    /// The column reference at `at` loses this many parts in front.
    Unqualify { at: usize, parts: usize },
}

/// What one replacement changes.
fn plan_scan(
    text: &str,
    catalog: &Catalog,
    tokens: &Tokens,
    facts: &Facts,
    replacement: &ScanReplacement,
    plan: &mut Vec<Change>,
) -> Result<(), SpliceError> {
    let at = replacement.relation;
    let used = match facts.relations.get(at) {
        Some(used) if used.access == Access::Scan && !used.range.is_empty() => used,
        used => {
            let relation = used.map_or_else(|| "a relation".into(), shown);
            return Err(SpliceError::NotAScan { relation });
        }
    };
    if used.sampled {
        return Err(SpliceError::Sampled { relation: shown(used) });
    }
    let shares_name = |other: &RelationUse| {
        other.access == Access::Scan
            && other.scope == used.scope
            && other.range != used.range
            && other.alias.is_none()
            && other.name.name == used.name.name
    };
    if used.alias.is_none() && facts.relations.iter().any(shares_name) {
        return Err(SpliceError::SharedName { relation: shown(used) });
    }
    for column in &facts.columns {
        let system = column
            .candidates
            .iter()
            .any(|(of, number)| *of == at && number.is_some_and(|number| number.is_system()));
        if system {
            return Err(SpliceError::SystemColumn {
                relation: shown(used),
                column: column.path.last().cloned().unwrap_or_default(),
            });
        }
    }

    let not_a_scan = || SpliceError::NotAScan { relation: shown(used) };
    let first = tokens.at(used.range.start).ok_or_else(not_a_scan)?;
    let name_at = name_place(tokens, first).ok_or_else(not_a_scan)?;
    let before = |steps: usize| first.checked_sub(steps).and_then(|index| tokens.kind(index));
    let is_copy = facts.kind == StatementKind::CopyOut
        && (before(1) == Some(Token::Copy)
            || (before(1) == Some(Token::Binary) && before(2) == Some(Token::Copy)));
    let name = used.alias.clone().unwrap_or_else(|| used.name.name.clone());
    let select = &replacement.select;
    if is_copy {
        let end = copy_end(tokens, &used.range).ok_or_else(not_a_scan)?;
        let columns = copied_columns(catalog, used, &replacement.omitted);
        let query = format!("SELECT {columns} FROM ({select}) AS {}", quoted(&name));
        plan.push(Change {
            edit: Edit { range: used.range.start..end, text: format!("({query})") },
            meaning: Meaning::Copy { at: name_at, query },
        });
        return Ok(());
    }
    let mut range = used.range.clone();
    let mut new = format!("({select})");
    if used.alias.is_none() {
        new = format!("{new} AS {}", quoted(&name));
    }
    if before(1) == Some(Token::Table) {
        range.start = first
            .checked_sub(1)
            .and_then(|index| tokens.range(index))
            .ok_or_else(not_a_scan)?
            .start;
        new = format!("SELECT * FROM {new}");
    }
    plan.push(Change {
        edit: Edit { range, text: new },
        meaning: Meaning::Scan { at: name_at, select: select.clone(), name },
    });
    let mut answered = Vec::new();
    for lookup in &replacement.answered {
        let lookup = facts.lookups.get(*lookup).filter(|lookup| lookup.relation == at);
        let lookup = lookup.ok_or_else(not_a_scan)?;
        answered.push(lookup.reference);
        plan.push(Change {
            // What follows may stand right beside it.
            edit: Edit { range: lookup.range.clone(), text: "(true)".into() },
            meaning: Meaning::True { at: lookup.operator },
        });
    }
    unqualify(text, tokens, facts, at, &answered, plan)
}

/// The reference `schema.table.column` means a table, and no sub-select: the parts
/// in front of the table's name go away.
fn unqualify(
    text: &str,
    tokens: &Tokens,
    facts: &Facts,
    at: usize,
    answered: &[usize],
    plan: &mut Vec<Change>,
) -> Result<(), SpliceError> {
    let Some(used) = facts.relations.get(at) else { return Ok(()) };
    let qualified = facts.columns.iter().enumerate().filter(|(reference, column)| {
        column.path.len() > 2
            && column.candidates.iter().any(|(of, _)| *of == at)
            && !answered.contains(reference)
    });
    for (_, column) in qualified {
        let reference = column.path.join(".");
        let error = || SpliceError::InnerReference { relation: shown(used), reference };
        if column.scope != used.scope {
            return Err(error());
        }
        let Some(first) = tokens.at(column.at) else { return Err(error()) };
        let parts = column.path.len() - 2;
        let mut table = first;
        for _ in 0..parts {
            table = tokens.after_identifier(table);
            if tokens.kind(table) != Some(Token::Ascii46) {
                return Err(error());
            }
            table += 1;
        }
        let Some(table) = tokens.range(table) else { return Err(error()) };
        if text.get(column.at..table.start).is_none() {
            return Err(error());
        }
        plan.push(Change {
            edit: Edit { range: column.at..table.start, text: String::new() },
            meaning: Meaning::Unqualify { at: column.at, parts },
        });
    }
    Ok(())
}

/// Where the name itself stands in `[ONLY] name [*]` or `ONLY (name)`.
fn name_place(tokens: &Tokens, first: usize) -> Option<usize> {
    let mut index = first;
    if tokens.kind(index) == Some(Token::Only) {
        index += 1;
    }
    if tokens.kind(index) == Some(Token::Ascii40) {
        index += 1;
    }
    Some(tokens.range(index)?.start)
}

/// Where `table (column, …)` of a COPY ends.
fn copy_end(tokens: &Tokens, table: &Range<usize>) -> Option<usize> {
    let mut index = tokens.after_name(tokens.at(table.start)?);
    if tokens.kind(index) != Some(Token::Ascii40) {
        return Some(table.end);
    }
    while tokens.kind(index) != Some(Token::Ascii41) {
        index += 1;
        tokens.kind(index)?;
    }
    Some(tokens.range(index)?.end)
}

/// The columns that a COPY of a table copies: those it lists, else all but the
/// generated ones, as PostgreSQL does, and those that the replacement leaves out.
fn copied_columns(catalog: &Catalog, used: &RelationUse, omitted: &[AttributeNumber]) -> String {
    let mut columns = used.columns.clone();
    if columns.is_empty()
        && let Resolution::Relation(oid) = used.resolution
        && let Some(relation) = catalog.relation(oid)
        && relation.kind != RelationKind::View
    {
        let copied = relation
            .columns
            .iter()
            .filter(|column| column.generated_from.is_empty() && !omitted.contains(&column.number));
        columns = copied.map(|column| column.name.clone()).collect();
    }
    if columns.is_empty() {
        return "*".into();
    }
    columns.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ")
}

/// A name in quotes, always: what follows it in the text may stand right beside it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A relation as the text names it.
fn shown(used: &RelationUse) -> String {
    match &used.name.schema {
        Some(schema) => format!("{schema}.{}", used.name.name),
        None => used.name.name.clone(),
    }
}

/// The names of everything that is replaced.
fn names_of(statements: &[Statement], replacements: &[Vec<ScanReplacement>]) -> String {
    let mut names = Vec::new();
    for (statement, replacements) in statements.iter().zip(replacements) {
        for replacement in replacements {
            names.extend(statement.facts.relations.get(replacement.relation).map(shown));
        }
    }
    names.dedup();
    names.join(", ")
}
