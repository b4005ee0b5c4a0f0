//! From a query string to the facts of each of its statements.

use std::ops::Range;

use pg_query::protobuf::RawStmt;

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
    let names_another = tokens.names_another(text, catalog.encoding());
    let mut statements = Vec::with_capacity(tree.stmts.len());
    for raw in &tree.stmts {
        let Some(node) = raw.stmt.as_deref() else {
            return Err(AnalysisError::Internal("a statement without a tree".into()));
        };
        let mut facts = walk::facts(node, catalog, &tokens)?;
        if names_another {
            facts.unclassified.push("a name that the database's encoding may change".into());
        }
        statements.push(Statement { span: span(raw, text, &tokens), facts });
    }
    Ok(statements)
}

/// Where the statements of a text stand in it, in bytes, without their semicolons. Call it
/// [on a large stack](super::on_large_stack).
///
/// # Errors
///
/// As [`analyse`].
pub fn split(text: &str) -> Result<Vec<Range<usize>>, AnalysisError> {
    let tree = parse::tree(text)?;
    if tree.stmts.is_empty() {
        return Ok(Vec::new());
    }
    let tokens = Tokens::of(text)?;
    Ok(tree.stmts.iter().map(|raw| span(raw, text, &tokens)).collect())
}

fn span(raw: &RawStmt, text: &str, tokens: &Tokens) -> Range<usize> {
    let start = usize::try_from(raw.stmt_location).unwrap_or_default();
    let end = match usize::try_from(raw.stmt_len) {
        Ok(0) | Err(_) => text.len(),
        Ok(length) => start.saturating_add(length).min(text.len()),
    };
    tokens.trim(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_split_where_postgres_would() {
        let text = "-- first\nSELECT ';' ; ; CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; \
                    END;\n\n/* ; */ DELETE FROM t -- end ;\n";
        let parts = crate::sql::on_large_stack(|| split(text)).unwrap();
        let parts = parts.into_iter().map(|part| &text[part]).collect::<Vec<_>>();
        assert_eq!(
            parts,
            [
                "SELECT ';'",
                "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END",
                "DELETE FROM t"
            ]
        );
        assert!(split("-- nothing").unwrap().is_empty());
        assert!(split("SELEC 1").is_err());
    }
}
