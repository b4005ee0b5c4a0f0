//! Holds the sources to the house rules: imports descend the layer table of
//! `src/lib.rs`, pure layers stay pure, names say what a module holds, and files
//! stay short enough to be read.

mod paths;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use paths::{PathUse, Source};

/// Files longer than this are split by concept.
const LONGEST_FILE: usize = 700;
/// Files longer than this are listed beside those that fail.
const LONG_FILE: usize = 600;

/// Names that say nothing.
const EMPTY_NAMES: [&str; 9] =
    ["utils", "util", "common", "helpers", "helper", "types", "manager", "prelude", "misc"];

/// What brings sockets, files, clocks, randomness or another process.
const IMPURE: [&[&str]; 23] = [
    &["tokio"],
    &["reqwest"],
    &["axum"],
    &["sqlx"],
    &["rustix"],
    &["tempfile"],
    &["rand"],
    &["getrandom"],
    &["std", "net"],
    &["std", "os"],
    &["std", "fs"],
    &["std", "env"],
    &["std", "process"],
    &["std", "io", "stdin"],
    &["std", "io", "stdout"],
    &["std", "io", "stderr"],
    &["std", "time", "SystemTime"],
    &["std", "time", "Instant"],
    &["SystemTime"],
    &["Instant"],
    &["Timestamp", "now"],
    &["jiff", "Timestamp", "now"],
    &["Zoned", "now"],
];
const IMPURE_MACROS: [&str; 4] = ["println", "eprintln", "print", "eprint"];

/// One row of the layer table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    pure: bool,
    may_import: BTreeSet<String>,
}

/// The layer table: modules in the order of its rows.
#[derive(Debug)]
struct Table {
    order: Vec<String>,
    rows: BTreeMap<String, Row>,
}

impl Table {
    /// Reads the table in the documentation of `src/lib.rs`. A row may name only
    /// modules of rows above it, so the table itself can't hold a cycle.
    fn parse(library: &str) -> Result<Self, String> {
        let mut table = Table { order: Vec::new(), rows: BTreeMap::new() };
        let mut layers: BTreeMap<String, u32> = BTreeMap::new();
        for line in library.lines().filter_map(|line| line.strip_prefix("//! |")) {
            let cells = line.split('|').map(str::trim).collect::<Vec<_>>();
            let [layer, module, imports, ..] = cells.as_slice() else {
                return Err(format!("a row without three cells: {line}"));
            };
            let Some(number) = layer.chars().next().and_then(|c| c.to_digit(10)) else {
                continue;
            };
            let module = module.trim_matches(['[', ']', '`']).to_owned();
            let mut may_import = BTreeSet::new();
            for import in imports.split(',').map(|name| name.trim().trim_matches('`')) {
                if let Some(last) = import.strip_prefix("layers 0–") {
                    let last = last.parse::<u32>().map_err(|_| format!("no layer: {import}"))?;
                    let below = layers.iter().filter(|&(_, layer)| *layer <= last);
                    may_import.extend(below.map(|(module, _)| module.clone()));
                } else if table.rows.contains_key(import) {
                    may_import.insert(import.to_owned());
                } else if import != "–" {
                    return Err(format!("{module} may not name {import}: it is no row above"));
                }
            }
            // Modules of one layer that say "layers 0–n" with n below their own
            // number can't name each other.
            table.order.push(module.clone());
            table.rows.insert(module.clone(), Row { pure: layer.contains("pure"), may_import });
            layers.insert(module, number);
        }
        Ok(table)
    }

    /// What is wrong with a path, if anything.
    fn objection(&self, path: &PathUse) -> Option<String> {
        let target = path.in_crate()?;
        let written = path.parts.join("::");
        let own = path.module.first().map(String::as_str).unwrap_or_default();
        let Some(first) = target.first() else {
            // `pub(crate)` and `super` alone name no module; a new name for the root hides one.
            let hides = path.renamed || path.parts.len() > 1;
            return hides.then(|| format!("{written} gives the crate's root another name"));
        };
        if first == own {
            return None;
        }
        let Some(row) = self.rows.get(own) else {
            return Some(format!("{written}: no row of the layer table is about `{own}`"));
        };
        if row.may_import.contains(first) {
            return None;
        }
        let may = row.may_import.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        Some(format!("{written}: `{own}` may import only [{may}], not `{first}`"))
    }
}

/// Why a path is impure, if it is.
fn impurity(path: &PathUse) -> Option<String> {
    let parts = path.parts.iter().map(String::as_str).collect::<Vec<_>>();
    let written = parts.join("::");
    let foreign = IMPURE.iter().any(|impure| {
        let clock_alone = parts.len() == 1 && impure.len() == 1 && parts[0] == "Instant";
        // A single lower-case word is a variable or a field, not a crate.
        let a_name = parts.len() == 1 && parts[0].starts_with(char::is_lowercase);
        parts.starts_with(impure) && !a_name && !clock_alone
    });
    let prints = path.macro_call && parts.iter().any(|part| IMPURE_MACROS.contains(part));
    let waits = parts == ["async"];
    (foreign || prints || waits).then(|| format!("{written} has no place in a pure layer"))
}

/// A Rust file of `src/`.
struct File {
    /// Relative to the package.
    name: String,
    /// Its module path: `["sql", "facts"]`; empty for `lib.rs`, `["cli"]` for `main.rs`,
    /// which may reach only what the command line may.
    module: Vec<String>,
    text: String,
    source: Source,
}

fn files(folder: &str) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pending = vec![root.join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).expect("the sources are readable") {
            let path = entry.expect("the sources are readable").path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                let name = path.strip_prefix(root).expect("below the package");
                let module = module_of(&name.to_string_lossy());
                let source = paths::read(&text, &module);
                found.push(File { name: name.display().to_string(), module, text, source });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The module path of `src/a/b.rs` and `src/a/b/mod.rs`: `["a", "b"]`.
fn module_of(name: &str) -> Vec<String> {
    let inner = name.split_once('/').map_or(name, |(_, inner)| inner);
    let inner = inner.trim_end_matches(".rs");
    let mut parts = inner.split('/').map(str::to_owned).collect::<Vec<_>>();
    match inner {
        "lib" => return Vec::new(),
        "main" => return vec!["cli".to_owned()],
        _ => {}
    }
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

fn table() -> Table {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    Table::parse(&fs::read_to_string(library).expect("src/lib.rs is readable"))
        .expect("the table in src/lib.rs descends")
}

/// The modules of the session state machine, pure though the proxy is not.
fn is_session_machine(module: &[String]) -> bool {
    module.len() >= 2 && module[0] == "proxy" && module[1] == "session"
}

fn none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn the_layer_table_lists_every_module_of_the_library_and_no_other() {
    let library = files("src").into_iter().find(|file| file.name == "src/lib.rs").expect("lib.rs");
    let mut declared = library.source.modules.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let mut listed = table().order;
    declared.sort();
    listed.sort();
    assert_eq!(declared, listed);
}

#[test]
fn imports_descend_the_layer_table() {
    let table = table();
    let mut findings = Vec::new();
    for file in files("src") {
        for path in &file.source.paths {
            let reaches_in = file.name == "src/main.rs" && path.parts[0] == "pgate";
            if reaches_in && path.parts.get(1).is_none_or(|module| module != "cli") {
                findings
                    .push(format!("{}:{}: the binary calls only the cli", file.name, path.line));
            }
            if let Some(objection) = table.objection(path) {
                findings.push(format!("{}:{}: {objection}", file.name, path.line));
            }
        }
        for (attribute, line) in &file.source.attributes {
            if attribute == "path" {
                findings.push(format!("{}:{line}: #[path] hides where a module is", file.name));
            }
        }
    }
    none(&findings);
}

#[test]
fn pure_layers_know_no_sockets_files_clocks_or_randomness() {
    let table = table();
    let files = files("src");
    let test_modules =
        files.iter().flat_map(|file| &file.source.test_modules).cloned().collect::<BTreeSet<_>>();
    let mut findings = Vec::new();
    for file in &files {
        let row = file.module.first().and_then(|module| table.rows.get(module));
        let pure = row.is_some_and(|row| row.pure) || is_session_machine(&file.module);
        let in_tests = test_modules.iter().any(|module| file.module.starts_with(module));
        if !pure || in_tests {
            continue;
        }
        for path in file.source.paths.iter().filter(|path| !path.test_only) {
            if let Some(objection) = impurity(path) {
                findings.push(format!("{}:{}: {objection}", file.name, path.line));
            }
        }
    }
    none(&findings);
}

#[test]
fn anyhow_stays_in_the_command_line() {
    let mut findings = Vec::new();
    for file in files("src").iter().filter(|file| file.module.first().is_none_or(|m| m != "cli")) {
        for path in file.source.paths.iter().filter(|path| !path.test_only) {
            if path.parts[0] == "anyhow" && (path.parts.len() > 1 || path.macro_call) {
                findings.push(format!(
                    "{}:{}: modules own their error enums; anyhow is the cli's",
                    file.name, path.line
                ));
            }
        }
    }
    none(&findings);
}

#[test]
fn module_names_say_what_a_module_holds() {
    let mut findings = Vec::new();
    for file in files("src").iter().chain(&files("tests/it")) {
        for (name, line) in &file.source.modules {
            if EMPTY_NAMES.contains(&name.as_str()) {
                findings.push(format!("{}:{line}: a module called {name}", file.name));
            }
        }
    }
    none(&findings);
}

#[test]
fn lints_are_expected_with_a_reason_and_nothing_is_left_for_later() {
    // Split, so that this file doesn't hold the words itself.
    let later = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    let mut findings = Vec::new();
    for file in files("src").iter().chain(&files("tests")) {
        for (attribute, line) in &file.source.attributes {
            if attribute == "allow" {
                findings.push(format!("{}:{line}: #[expect(…, reason)] instead", file.name));
            }
        }
        for (line, text) in (1..).zip(file.text.lines()) {
            if later.iter().any(|word| text.contains(word)) {
                findings.push(format!("{}:{line}: left for later: {}", file.name, text.trim()));
            }
        }
    }
    none(&findings);
}

#[test]
fn files_are_short_enough_to_be_read() {
    let mut long = files("src")
        .iter()
        .chain(&files("tests/it"))
        .map(|file| (file.text.lines().count(), file.name.clone()))
        .filter(|(lines, _)| *lines > LONG_FILE)
        .collect::<Vec<_>>();
    long.sort_by(|a, b| b.cmp(a));
    let longest = long.first().map_or(0, |(lines, _)| *lines);
    let list = long.iter().map(|(lines, name)| format!("{lines:5} {name}")).collect::<Vec<_>>();
    println!("over {LONG_FILE} lines:\n{}", list.join("\n"));
    assert!(
        longest <= LONGEST_FILE,
        "split by concept what is over {LONGEST_FILE} lines:\n{}",
        list.join("\n")
    );
}

/// What the checker would say of this text as the module `module`.
fn objections(module: &str, text: &str) -> Vec<String> {
    let table = Table::parse(SMALL_TABLE).expect("it descends");
    let module = module.split("::").map(str::to_owned).collect::<Vec<_>>();
    paths::read(text, &module).paths.iter().filter_map(|path| table.objection(path)).collect()
}

const SMALL_TABLE: &str = "\
//! | layer | module | may import |
//! |---|---|---|
//! | 0, pure | [`grant`] | – |
//! | 0, pure | [`sql`] | – |
//! | 1, pure | [`policy`] | `grant`, `sql` |
//! | 2, I/O | [`api`] | `grant`, `policy` |
//! | 3, the proxy's side | [`proxy`] | layers 0–2 |
//! | 3, the server's side | [`server`] | layers 0–2 |
//! | 4 | [`cli`] | layers 0–3 |
";

#[test]
fn the_checker_sees_an_import_that_climbs_however_it_is_written() {
    let cases = [
        ("sql::facts", "use crate::policy::Role;"),
        ("sql::facts", "use crate::{grant::GrantId, sql::Name};"),
        ("sql::facts", "use super::{super::policy};"),
        ("sql", "use super::policy::Role as R;"),
        ("sql::facts", "fn f() { let x = crate::server::run(); }"),
        ("sql::facts", "fn f(x: &'static crate::server::Server) {}"),
        ("policy", "pub use crate::{sql::{Name, Oid}, api::{model::*}};"),
        ("policy", "impl From<super::api::Problem> for u8 {}"),
        ("proxy::shell", "use crate::server::Config;"),
        ("server::store", "use crate::proxy;"),
        ("proxy::shell", "mod inner { use super::super::super::server::x; }"),
        ("sql", "use crate::*;"),
        ("sql", "use crate as root;"),
        ("sql", "use crate::{self as root};"),
        ("sql", "use super::*;"),
        ("sql", "#[cfg(test)] mod tests { use crate::cli::main; }"),
        ("sql", "macro_rules! m { () => { $crate::server::x() } }"),
        ("sql", "const Q: &str = r#\"\"quoted\"\"#; use crate::cli::main;"),
        ("sql", "fn f<'a>(c: char) { c == '\"'; crate::cli::main(); }"),
        ("sql", "/* a /* nested */ comment */ use crate::cli::main;"),
    ];
    for (module, text) in cases {
        let objections = objections(module, text);
        assert_eq!(objections.len(), 1, "{module}: {text}\n{objections:?}");
    }
}

#[test]
fn the_checker_leaves_alone_what_descends_or_only_looks_like_an_import() {
    let cases = [
        ("policy", "use crate::{grant::GrantId, sql::{Name, Oid}};"),
        ("policy::decide", "use super::{Role, super::sql::Name};"),
        ("policy::decide", "mod tests { use super::super::*; use super::*; }"),
        ("server", "use crate::{api::Problem, policy::Role}; pub(crate) fn f() {}"),
        ("cli::connect", "use crate::{proxy, server};"),
        ("policy", "use crate::{grant::GrantId as Id, sql::{Name as N, Oid as _}};"),
        ("sql", "// use crate::server;\n/* crate::server */"),
        ("sql", "const T: &str = \"use crate::server;\"; const R: &str = r##\"crate::cli\"# \"##;"),
        ("sql", "pub(in crate::sql) struct S; pub(super) fn f(self) {}"),
        ("sql", "use std::fmt; use sqlparser::server::X; fn f() { x.crate_name(); }"),
    ];
    for (module, text) in cases {
        assert_eq!(objections(module, text), Vec::<String>::new(), "{module}: {text}");
    }
}

#[test]
fn the_checker_sees_what_a_pure_layer_may_not_have() {
    let impure = |text: &str| {
        let source = paths::read(text, &["sql".to_owned()]);
        source.paths.iter().filter(|path| !path.test_only).filter_map(impurity).count()
    };
    let cases = [
        ("use tokio::net::TcpStream;", 1),
        ("use std::{fmt, fs, net::{IpAddr, TcpStream}};", 3),
        ("fn f() { let now = jiff::Timestamp::now(); }", 1),
        ("fn f() { let now = Timestamp::now(); }", 1),
        ("fn f() { let now = std::time::Instant::now(); }", 1),
        ("fn f() { let now = Instant::now(); }", 1),
        ("fn f() { ::rand::random::<u8>(); }", 1),
        ("async fn f() {}", 1),
        ("fn f() { println!(\"\"); }", 1),
        ("fn f(rand: u8, now: Timestamp) -> std::time::Duration { tokio(rand) }", 0),
        ("#[cfg(test)] mod tests { use std::fs; fn f() { Timestamp::now(); } }", 0),
        ("#[cfg(test)] mod tests { mod deeper { use std::fs; } } use std::fs;", 1),
    ];
    for (text, expected) in cases {
        assert_eq!(impure(text), expected, "{text}");
    }
}

#[test]
fn a_table_that_climbs_is_refused() {
    let climbing = "//! | 0, pure | [`sql`] | `policy` |\n//! | 1, pure | [`policy`] | `sql` |\n";
    assert!(Table::parse(climbing).unwrap_err().contains("no row above"));
    let table = Table::parse(SMALL_TABLE).unwrap();
    assert!(!table.rows["server"].may_import.contains("proxy"));
    assert!(table.rows["cli"].may_import.contains("proxy"));
}
