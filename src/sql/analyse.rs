//! From a query string to the facts of each of its statements.

use super::{
    AnalysisError, Catalog, Facts, Statement, StatementKind,
    parse::{self, Tokens},
    walk,
};

/// What each statement of a query string does; one entry for each, and one of kind
/// [`StatementKind::Empty`] where there is none.
///
/// The string is read as PostgreSQL reads it with `standard_conforming_strings` on
/// and `client_encoding` UTF8. Call it [on a large stack](super::on_large_stack).
///
/// # Errors
///
/// What PostgreSQL's grammar doesn't have, or what is too large or too deep to be
/// analysed in bounded time. A statement that is read but not understood is no
/// error: its [`Facts::unclassified`] says so.
pub fn analyse(text: &str, catalog: &Catalog) -> Result<Vec<Statement>, AnalysisError> {
    let tree = parse::tree(text)?;
    if tree.stmts.is_empty() {
        return Ok(vec![Statement { span: 0..0, facts: Facts::new(StatementKind::Empty) }]);
    }
    let tokens = Tokens::of(text)?;
    let mut statements = Vec::with_capacity(tree.stmts.len());
    for raw in &tree.stmts {
        let Some(node) = raw.stmt.as_deref() else {
            return Err(AnalysisError::Internal("a statement without a tree".into()));
        };
        let start = usize::try_from(raw.stmt_location).unwrap_or_default();
        let end = match usize::try_from(raw.stmt_len) {
            Ok(0) | Err(_) => text.len(),
            Ok(length) => start.saturating_add(length).min(text.len()),
        };
        let facts = walk::facts(node, catalog, &tokens)?;
        statements.push(Statement { span: tokens.trim(start..end), facts });
    }
    Ok(statements)
}
