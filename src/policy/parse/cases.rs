//! Files of cases: statements with the verdicts that a policy is expected to give.

use std::cell::RefCell;

use jiff::Timestamp;
use toml::de::DeTable;

use super::{
    PolicyError,
    reader::{Entry, Found, Section, Source},
};

/// What a file of cases holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaseFile {
    /// The policy that is tested, relative to the file; none means the folder that the
    /// file is beside.
    pub policy: Option<String>,
    /// The cases, in their order.
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Where it stands: `shop.toml:12`.
    pub place: String,
    /// What it is about; empty where nobody has said.
    pub name: String,
    /// The role.
    pub role: String,
    /// The target; none means the role's first.
    pub target: Option<String>,
    /// The saved catalog, relative to the file.
    pub catalog: String,
    /// The statement or statements.
    pub sql: String,
    /// What the policy must say.
    pub expect: Expected,
    /// The rule that the verdict must name.
    pub rule: Option<String>,
    /// Exactly the masked columns.
    pub masked: Option<Vec<String>>,
    /// What PostgreSQL must get, white space aside.
    pub sent: Option<String>,
    /// When it runs, for rules with hours or days; none means now.
    pub at: Option<Timestamp>,
    /// How many rows PostgreSQL is taken to expect; none leaves that open.
    pub rows: Option<u64>,
}

/// An expected verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It may run.
    Allow,
    /// It waits for a reviewer.
    Hold,
    /// It may not run.
    Deny,
}

const VERDICTS: [(&str, Expected); 3] =
    [("allow", Expected::Allow), ("hold", Expected::Hold), ("deny", Expected::Deny)];

/// What may stand before the cases, and then holds for all that don't say otherwise.
const DEFAULTS: [&str; 3] = ["role", "target", "catalog"];

/// Reads a file of cases.
///
/// # Errors
/// Every problem of the file, by line.
pub fn parse_cases(name: &str, text: &str) -> Result<CaseFile, Vec<PolicyError>> {
    let found = RefCell::new(Found::default());
    let source = Source::new(name, text, &found);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        let message = error.message().replace('\n', ", ");
        source.problem(at, "", format!("this is not TOML: {message}"), None);
    }
    let table = table.into_inner();
    let read =
        if errors.is_empty() { file(&Section::root(&source, &table)) } else { CaseFile::default() };
    let Found { mut errors, .. } = found.take();
    if errors.is_empty() {
        return Ok(read);
    }
    errors.sort();
    errors.dedup();
    Err(errors)
}

fn file(root: &Section<'_>) -> CaseFile {
    root.refuse_others(&["policy", "role", "target", "catalog", "case"]);
    let defaults = DEFAULTS.map(|key| text(root, key, "\"…\""));
    let cases = match root.require("case", "for example [[case]] with role, sql and expect") {
        Some(entry) => entry.list("[[case]]"),
        None => Vec::new(),
    };
    CaseFile {
        policy: text(root, "policy", "\"../policy\""),
        cases: cases.iter().filter_map(|entry| case(entry, &defaults)).collect(),
    }
}

fn case(entry: &Entry<'_>, defaults: &[Option<String>; 3]) -> Option<Case> {
    let section = entry.section("[[case]]")?;
    section.refuse_others(&[
        "name", "role", "target", "catalog", "sql", "expect", "rule", "masked", "sent", "at",
        "rows",
    ]);
    let [role, target, catalog] = defaults;
    let required = |key: &str, default: &Option<String>, wants: &str| match section.get(key) {
        None if default.is_some() => default.clone(),
        _ => section.require(key, wants)?.text("\"…\"").map(str::to_owned),
    };
    let role = required("role", role, "for example role = \"readonly\"");
    let catalog = required(
        "catalog",
        catalog,
        "for example catalog = \"shop.json\", saved with `pgate policy catalog`",
    );
    let sql = required("sql", &None, "for example sql = \"SELECT 1\"");
    let expect = section
        .require("expect", "\"allow\", \"hold\" or \"deny\"")
        .and_then(|entry| entry.word(&VERDICTS));
    let masked = section.get("masked").map(|entry| {
        let columns = entry.list("[\"shop.customers.email\"]");
        let texts = columns.iter().filter_map(|column| column.text("\"shop.customers.email\""));
        texts.map(str::to_owned).collect::<Vec<_>>()
    });
    let sent = text(&section, "sent", "\"SELECT …\"");
    let at = section.get("at").and_then(|entry| {
        let at = entry.text("\"2026-03-02T09:30:00Z\"")?.parse();
        if at.is_err() {
            let hint = "write it with its offset: \"2026-03-02T09:30:00Z\"".to_owned();
            entry.problem("`at` is not a time".to_owned(), Some(hint));
        }
        at.ok()
    });
    if expect == Some(Expected::Deny) {
        for key in ["masked", "sent"] {
            if let Some(entry) = section.get(key) {
                let hint = "leave it out, or expect \"allow\"".to_owned();
                entry.problem(format!("what is denied has no `{key}`"), Some(hint));
            }
        }
    }
    Some(Case {
        place: entry.rule_ref().place.unwrap_or_default(),
        name: text(&section, "name", "\"…\"").unwrap_or_default(),
        role: role?,
        target: text(&section, "target", "\"prod-db\"").or_else(|| target.clone()),
        catalog: catalog?,
        sql: sql?,
        expect: expect?,
        rule: text(&section, "rule", "\"role.readonly.allow[0]\""),
        masked,
        sent,
        at,
        rows: section.get("rows").and_then(|entry| entry.natural()),
    })
}

fn text(section: &Section<'_>, key: &str, example: &str) -> Option<String> {
    section.get(key).and_then(|entry| entry.text(example)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_says_all_that_matters_and_the_file_says_what_they_share() {
        let read = parse_cases(
            "shop.test.toml",
            r#"
role = "readonly"
catalog = "shop.json"

[[case]]
sql = "SELECT email FROM shop.customers"
expect = "allow"
masked = ["shop.customers.email"]

[[case]]
name = "writers may not drop"
role = "writer"
target = "legacy"
sql = "DROP TABLE shop.customers"
rows = 0
expect = "deny"
rule = "builtin.default-deny"
"#,
        )
        .unwrap();
        let [first, second] = read.cases.as_slice() else { panic!("{read:?}") };
        assert_eq!((first.role.as_str(), first.place.as_str()), ("readonly", "shop.test.toml:5"));
        assert_eq!(first.masked.as_deref(), Some(&["shop.customers.email".to_owned()][..]));
        assert_eq!((second.role.as_str(), second.expect), ("writer", Expected::Deny));
        assert_eq!(second.target.as_deref(), Some("legacy"));
        assert_eq!((second.catalog.as_str(), second.rows), ("shop.json", Some(0)));
    }

    #[test]
    fn every_problem_of_a_case_names_its_line_and_a_way_out() {
        let text = "\
catalog = 1
[[case]]
role = \"readonly\"
sqll = \"SELECT 1\"
expect = \"alow\"
[[case]]
role = \"readonly\"
sql = \"SELECT 1\"
expect = \"deny\"
sent = \"SELECT 1\"
catlog = \"x\"
";
        let problems = parse_cases("t.toml", text).unwrap_err();
        let told = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        for expected in [
            "t.toml:1:11: `catalog` must be a text, not a whole number",
            "t.toml:4:1: `case[0].sqll` is not a key of pgate; did you mean `sql`?",
            "t.toml:5:10: \"alow\" is not known as `expect`; did you mean \"allow\"?",
            "t.toml:11:1: `case[1].catlog` is not a key of pgate; did you mean `catalog`?",
            "t.toml:10:8: what is denied has no `sent`",
            "`case[0].sql` is missing",
        ] {
            assert!(told.contains(expected), "{expected}\nin\n{told}");
        }
        assert!(parse_cases("t.toml", "").unwrap_err()[0].message.contains("`case` is missing"));
        assert!(parse_cases("t.toml", "[[case]\n").unwrap_err()[0].message.contains("not TOML"));
    }
}
