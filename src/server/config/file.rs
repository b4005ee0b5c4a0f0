//! Strict reading of a TOML file: every key is known, every problem has a line.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::ConfigProblem;

/// A table of the file: what it is called, where it starts, what it holds.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    label: &'static str,
    start: usize,
    entries: &'a DeTable<'a>,
}

/// Reads one file and gathers its problems.
pub(super) struct Reader<'a> {
    text: &'a str,
    name: &'a str,
    problems: Vec<(usize, ConfigProblem)>,
}

/// Parses `text`, or says where it isn't TOML.
pub(super) fn parse<'a>(text: &'a str, name: &str) -> Result<Spanned<DeTable<'a>>, ConfigProblem> {
    DeTable::parse(text).map_err(|error| ConfigProblem {
        file: name.to_owned(),
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, name: &'a str) -> Self {
        Self { text, name, problems: Vec::new() }
    }

    pub(super) fn root(&mut self, entries: &'a DeTable<'a>, known: &[&str]) -> Table<'a> {
        let table = Table { label: "", start: 0, entries };
        self.check_keys(table, known);
        table
    }

    /// Whether the key is there, readable or not.
    pub(super) fn has(&self, table: Table<'a>, key: &str) -> bool {
        entry(table, key).is_some()
    }

    /// A string that must be there.
    pub(super) fn required<T>(
        &mut self,
        table: Table<'a>,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if entry(table, key).is_none() {
            let message = match table.label {
                "" => format!("the key \"{key}\" is missing"),
                label => format!("the key \"{key}\" is missing in {label}"),
            };
            self.add(table.start, message);
            return None;
        }
        self.optional(table, key, read)
    }

    /// A string that may be there.
    pub(super) fn optional<T>(
        &mut self,
        table: Table<'a>,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (span, value) = entry(table, key)?;
        let Some(text) = value.as_str() else {
            self.add(span.start, format!("\"{key}\" must be a string"));
            return None;
        };
        read(text).map_err(|problem| self.add(span.start, format!("\"{key}\": {problem}"))).ok()
    }

    /// A list of strings that may be there.
    pub(super) fn list(&mut self, table: Table<'a>, key: &str) -> Option<Vec<String>> {
        let (span, value) = entry(table, key)?;
        let texts = value.as_array().and_then(|array| {
            array.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
        });
        if texts.is_none() {
            self.add(span.start, format!("\"{key}\" must be a list of strings"));
        }
        texts
    }

    /// A table that may be there.
    pub(super) fn table(
        &mut self,
        table: Table<'a>,
        key: &'static str,
        known: &[&str],
    ) -> Option<Table<'a>> {
        let (span, value) = entry(table, key)?;
        let DeValue::Table(entries) = value else {
            self.add(span.start, format!("\"{key}\" must be a table"));
            return None;
        };
        let table = Table { label: key, start: span.start, entries };
        self.check_keys(table, known);
        Some(table)
    }

    /// The tables of `[[key]]`.
    pub(super) fn tables(
        &mut self,
        table: Table<'a>,
        key: &'static str,
        known: &[&str],
    ) -> Vec<Table<'a>> {
        let Some((span, value)) = entry(table, key) else { return Vec::new() };
        let items = value.as_array().map(|array| array.iter().collect::<Vec<_>>());
        let mut tables = Vec::new();
        for item in items.unwrap_or_default() {
            let DeValue::Table(entries) = item.get_ref() else { continue };
            tables.push(Table { label: "[[issuer]]", start: item.span().start, entries });
        }
        if tables.is_empty() {
            self.add(span.start, format!("\"{key}\" must be written as [[{key}]]"));
        }
        for table in &tables {
            self.check_keys(*table, known);
        }
        tables
    }

    /// A problem of a whole table.
    pub(super) fn problem(&mut self, table: Table<'a>, message: &str) {
        self.add(table.start, message.to_owned());
    }

    /// A problem of the whole file.
    pub(super) fn problem_at_start(&mut self, message: &str) {
        self.add(0, message.to_owned());
    }

    /// Every problem, in the order of the lines.
    pub(super) fn finish(mut self) -> Result<(), Vec<ConfigProblem>> {
        if self.problems.is_empty() {
            return Ok(());
        }
        self.problems.sort_by_key(|(at, _)| *at);
        Err(self.problems.into_iter().map(|(_, problem)| problem).collect())
    }

    fn check_keys(&mut self, table: Table<'a>, known: &[&str]) {
        for key in table.entries.keys() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let within = match table.label {
                "" => String::new(),
                label => format!(" in {label}"),
            };
            let nearest = known
                .iter()
                .map(|known| (strsim::damerau_levenshtein(name, known), known))
                .filter(|(distance, _)| *distance <= 3)
                .min();
            let advice = match nearest {
                Some((_, nearest)) => format!("did you mean \"{nearest}\"?"),
                None => format!("known here: {}", known.join(", ")),
            };
            self.add(key.span().start, format!("unknown key \"{name}\"{within}; {advice}"));
        }
    }

    fn add(&mut self, at: usize, message: String) {
        let line = line_of(self.text, at);
        self.problems.push((at, ConfigProblem { file: self.name.to_owned(), line, message }));
    }
}

fn entry<'a>(table: Table<'a>, key: &str) -> Option<(Range<usize>, &'a DeValue<'a>)> {
    table
        .entries
        .iter()
        .find(|(name, _)| name.get_ref() == key)
        .map(|(name, value)| (name.span(), value.get_ref()))
}
