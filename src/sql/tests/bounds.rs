//! What is too long, too deep or too broken: a clear error or the right answer,
//! in bounded time, and never an abort.

use std::time::{Duration, Instant};

use super::super::AnalysisError;
use super::{masked, read};

/// How many terms a chain may have. PostgreSQL's parser keeps to 2 MiB of stack, and how deep
/// that is depends on how it was compiled.
const TERMS: usize = if cfg!(debug_assertions) { 500 } else { 3_000 };

/// Longer than any of these takes on a slow, busy machine without optimisation.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn large_and_deep_statements_are_answered() {
    let nest = |open: &str, middle: &str, close: &str, times: usize| {
        format!("{}{middle}{}", open.repeat(times), close.repeat(times))
    };
    let list = (0..100_000).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let unions = vec!["SELECT id FROM ok"; TERMS].join(" UNION ALL ");
    let joins = (0..TERMS).map(|n| format!(" JOIN ok o{n} ON o{n}.id = o.id")).collect::<String>();
    let joins = format!("SELECT 1 FROM ok o{joins}");
    let read_well = [
        ("terms", format!("SELECT 1{}", "+1".repeat(TERMS))),
        ("texts in a chain", format!("SELECT ''{}", " || 'a'".repeat(TERMS))),
        ("list", format!("SELECT * FROM customers WHERE id IN ({list})")),
        ("unions", unions),
        ("joins", joins),
        ("sub-selects", nest("SELECT (", "SELECT 1", ")", 50)),
        ("conditions", format!("SELECT 1 WHERE {}", vec!["1 = 1"; 5_000].join(" AND "))),
        ("deletes", format!("DELETE FROM ok WHERE id IN ({list})")),
        ("alternatives", format!("DELETE FROM ok WHERE {}", vec!["id = 1"; 9_000].join(" OR "))),
        ("joined deletes", {
            let using = (0..300).map(|n| format!("ok o{n}")).collect::<Vec<_>>().join(", ");
            let ties = (1..300).map(|n| format!("o{n}.id = o{}.id", n - 1)).collect::<Vec<_>>();
            format!("DELETE FROM ok USING {using} WHERE ok.id = o0.id AND {}", ties.join(" AND "))
        }),
        ("nested INs", {
            let inner = "DELETE FROM ok WHERE id IN (SELECT id FROM ok WHERE id IN (";
            format!("{inner}{}", nest("SELECT id FROM ok WHERE id IN (", "1", ")", 40) + "))")
        }),
        ("nested FROMs", {
            let from = nest("(SELECT * FROM ", "ok", ") x", 40);
            format!("UPDATE ok SET note = '' FROM {from} WHERE ok.id = x.id")
        }),
        ("branches", {
            let branches = " WHEN MATCHED THEN DELETE".repeat(5_000);
            format!("MERGE INTO ok USING (SELECT id FROM ok) s ON ok.id = s.id{branches}")
        }),
        ("comments", format!("SELECT {} 1", nest("/*", "", "*/", 900))),
        ("text", format!("SELECT '{}'", "x".repeat(8_000_000))),
        ("texts", format!("SELECT {}", vec![format!("'{}'", "x".repeat(100)); 60_000].join(","))),
    ];
    for (what, text) in &read_well {
        let start = Instant::now();
        read(text).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(start.elapsed() < PATIENCE, "{what} took {:?}", start.elapsed());
    }
    let refused = [
        ("terms", format!("SELECT 1{}", "+1".repeat(33_000))),
        ("fewer terms", format!("SELECT 1{}", "+1".repeat(15_000))),
        ("conditions", format!("SELECT 1 WHERE {}", vec!["1 = 1"; 100_000].join(" AND "))),
        ("comments", format!("SELECT {} 1", nest("/*", "", "*/", 50_000))),
        ("brackets", format!("SELECT {}", nest("(", "1", ")", 100_000))),
        ("rows", format!("SELECT {}", nest("ARRAY[", "1", "]", 100_000))),
        ("signs", format!("SELECT {}1", "- ".repeat(100_000))),
        ("nots", format!("SELECT {}true", "NOT ".repeat(100_000))),
        ("casts", format!("SELECT 1{}", "::int".repeat(100_000))),
        ("calls", format!("SELECT {}", nest("abs(", "1", ")", 100_000))),
        ("subscripts", format!("SELECT a{}", "[1]".repeat(100_000))),
        ("cases", format!("SELECT {}", nest("CASE WHEN ", "true", " THEN 1 END", 30_000))),
        ("sub-selects", nest("SELECT (", "SELECT 1", ")", 30_000)),
        ("unions", vec!["SELECT 1"; 50_000].join(" UNION ")),
        ("froms", nest("SELECT * FROM (", "SELECT 1", ") x", 30_000)),
        ("length", format!("SELECT '{}'", "x".repeat(8 << 20))),
        ("words", format!("SELECT {}", vec!["1"; 501_000].join(","))),
        ("words behind an escape", {
            // PostgreSQL's scanner goes on with the escapes of a string on the next line.
            format!("SELECT E'a'\n'\\'', {} --'", vec!["1"; 501_000].join(","))
        }),
        ("NUL", "SELECT '\0'".into()),
        ("nonsense", "(((((((((((((((".into()),
        ("open string", "SELECT 'a".into()),
        ("open comment", "SELECT /* a".into()),
        ("open dollar", "SELECT $a$ b".into()),
    ];
    for (what, text) in &refused {
        let start = Instant::now();
        let error = read(text).expect_err(what);
        assert!(start.elapsed() < PATIENCE, "{what} took {:?}", start.elapsed());
        assert!(!matches!(error, AnalysisError::Internal(_)), "{what}: {error}");
    }
}

#[test]
fn a_large_statement_can_be_masked() {
    let list = (0..20_000).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let text = format!("SELECT * FROM customers WHERE id IN ({list})");
    assert!(masked(&text).unwrap().text.contains("masked"));
    let text = format!("SELECT 1{} FROM customers", "+1".repeat(300));
    assert!(masked(&text).unwrap().text.contains("masked"));
}

#[test]
fn cut_off_statements_are_never_more_than_an_error() {
    let text = "WITH a AS (SELECT U&\"c\\0075s\" FROM \"customers\" /* b */ WHERE n = 'it''s' -- c\n) \
                COPY (SELECT $t$x$t$, E'\\'' FROM ONLY (a)) TO STDOUT; TABLE ok";
    for (end, _) in text.char_indices() {
        let _ = read(&text[..end]);
        let _ = masked(&text[end..]);
    }
}
