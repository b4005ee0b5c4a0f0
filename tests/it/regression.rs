//! PostgreSQL's own regression SQL, read by pgate: tens of thousands of statements that
//! nobody wrote with pgate in mind. `tests/run` fetches it from Debian's source package;
//! without it these tests say so and pass, unless PGATE_TEST_ALL is set.

mod script;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::OnceLock,
};

use pgate::sql::{Catalog, Name, Oid, SpliceError, StatementKind, analyse, on_large_stack};
use sqlparser::ast::Statement;

use crate::fuzz::entries::{
    second_reader,
    splice::{Masked, mask},
    sql::missed,
};

/// One query string of the suite.
struct Case {
    file: String,
    text: String,
}

/// Every query string of the suite; none where it isn't there.
fn suite() -> Option<&'static [Case]> {
    static SUITE: OnceLock<Option<Vec<Case>>> = OnceLock::new();
    SUITE.get_or_init(read_suite).as_deref()
}

fn read_suite() -> Option<Vec<Case>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/regression-sql");
    if !folder.join("complete").exists() {
        // Only Debian's and Ubuntu's source packages are known.
        let could = Path::new("/etc/debian_version").exists();
        let message = "PostgreSQL's regression SQL is not there; `tests/run` fetches it on Debian";
        assert!(!could || std::env::var_os("PGATE_TEST_ALL").is_none(), "{message}");
        eprintln!("skipped: {message}");
        return None;
    }
    let mut files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .collect::<Vec<_>>();
    files.sort();
    let mut cases = Vec::new();
    for path in files {
        let file = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        let texts = script::cut(&text).texts.into_iter();
        cases.extend(texts.map(|text| Case { file: file.clone(), text }));
    }
    Some(cases)
}

/// Every table and view that the second reader finds created anywhere, with all the
/// columns that any table of that name has, and PostgreSQL's own relations.
fn catalog(cases: &[Case]) -> Catalog {
    let mut tables = BTreeMap::<Name, BTreeSet<String>>::new();
    for statement in cases.iter().filter_map(|case| second_reader::read(&case.text)).flatten() {
        let (name, columns) = match &statement {
            Statement::CreateTable(table) => {
                let columns = table.columns.iter();
                let columns = columns.map(|column| second_reader::folded(&column.name)).collect();
                (second_reader::name(&table.name), columns)
            }
            Statement::CreateView(view) => (second_reader::name(&view.name), Vec::new()),
            _ => continue,
        };
        if let Some(mut name) = name {
            name.schema.get_or_insert_with(|| "public".into());
            tables.entry(name).or_default().extend(columns);
        }
    }
    for system in include_str!("../../src/policy/decide/catalog_relations.txt").lines() {
        tables.entry(Name { schema: Some("pg_catalog".into()), name: system.into() }).or_default();
    }
    let mut builder = Catalog::builder().search_path(&["pg_catalog", "public"]);
    for (name, columns) in &tables {
        // What is longer than a name can be never exists under it.
        let schema = name.schema.as_deref().unwrap_or("public");
        if schema.contains('.') || name.name.len() > 63 {
            continue;
        }
        let columns = columns.iter().map(|column| (column.as_str(), "text")).collect::<Vec<_>>();
        builder = builder.table(&format!("{schema}.{}", name.name), &columns);
    }
    builder.build()
}

/// Whether a text begins as a query or a change of rows does.
fn is_query(text: &str) -> bool {
    let word = text.trim_start_matches(['(', ' ', '\n', '\t']);
    let word = word.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    ["select", "with", "values", "table", "insert", "update", "delete", "merge"]
        .iter()
        .any(|known| word.eq_ignore_ascii_case(known))
}

#[derive(Default)]
struct Counts {
    read: usize,
    unread: usize,
    queries: usize,
    unclassified: Vec<String>,
    twice_read: usize,
    missed: Vec<String>,
    spliced: usize,
    refused: Vec<String>,
    wrong: Vec<String>,
}

#[test]
fn postgresqls_own_regression_sql_is_understood_and_masked_as_intended() {
    let Some(cases) = suite() else { return };
    let counts = on_large_stack(|| {
        let catalog = catalog(cases);
        let mut counts = Counts::default();
        for case in cases {
            count(case, &catalog, &mut counts);
        }
        counts
    });
    let share = |part: usize, whole: usize| part as f64 * 100.0 / whole.max(1) as f64;
    println!(
        "{} texts read and {} not; {} of {} queries and changes of rows unclassified ({:.2} %)\n\
         {} read twice; {} spliced, {} refused ({:.1} %)",
        counts.read,
        counts.unread,
        counts.unclassified.len(),
        counts.queries,
        share(counts.unclassified.len(), counts.queries),
        counts.twice_read,
        counts.spliced,
        counts.refused.len(),
        share(counts.refused.len(), counts.spliced + counts.refused.len()),
    );
    assert!(counts.read > 30_000, "the suite is smaller than it should be");
    // The suite has some hundred texts that PostgreSQL itself doesn't read.
    assert!(share(counts.unread, cases.len()) < 3.0, "too much of the suite can't be read");
    let unclassified = share(counts.unclassified.len(), counts.queries);
    assert!(unclassified < 2.0, "{}", counts.unclassified.join("\n"));
    assert!(counts.missed.is_empty(), "{}", counts.missed.join("\n"));
    assert!(counts.wrong.is_empty(), "{}", counts.wrong.join("\n"));
}

fn count(case: &Case, catalog: &Catalog, counts: &mut Counts) {
    let Case { file, text } = case;
    let Ok(statements) = analyse(text, catalog) else {
        counts.unread += 1;
        return;
    };
    counts.read += 1;
    for statement in &statements {
        let facts = &statement.facts;
        let is_unclassified =
            !facts.unclassified.is_empty() || facts.kind == StatementKind::Unknown;
        let at = text.get(statement.span.clone()).expect("a statement lies in its text");
        if is_query(at) {
            counts.queries += 1;
            if is_unclassified {
                counts.unclassified.push(format!("{file}: {at}: {:?}", facts.unclassified));
            }
        }
    }
    if let Some(read) = second_reader::read(text) {
        counts.twice_read += 1;
        if let Some(missed) = missed(&read, &statements, catalog) {
            counts.missed.push(format!("{file}: {missed:?} is not among the facts of: {text}"));
        }
    }
    let masked = |oid: Oid| catalog.relation(oid).is_some_and(|known| known.schema != "pg_catalog");
    match mask(text, catalog, &masked) {
        Masked::NoScan => {}
        Masked::Spliced => counts.spliced += 1,
        // A mask that changes what the statement means would be a fault of the splice.
        Masked::Refused(error @ SpliceError::NotIntended { .. }) => {
            counts.wrong.push(format!("{file}: {text}: {error}"));
        }
        Masked::Refused(error) => counts.refused.push(format!("{file}: {text}: {error}")),
        Masked::Wrong(what) => counts.wrong.push(format!("{file}: {text}: {what}")),
    }
}
