//! Reads TOML values with their places, and notes every problem instead of
//! stopping at the first. It refuses to repeat values in its messages where
//! those could be secrets: callers say what a key wants, never what it held.

use std::{cell::RefCell, ops::Range};

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::PolicyError;
use crate::policy::RuleRef;

/// One policy file and the problems found so far in all of them.
pub(super) struct Source<'a> {
    pub(super) name: &'a str,
    text: &'a str,
    found: &'a RefCell<Found>,
}

/// Problems and remarks, in the order in which they were found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) errors: Vec<PolicyError>,
    pub(super) warnings: Vec<PolicyError>,
}

impl<'a> Source<'a> {
    pub(super) fn new(name: &'a str, text: &'a str, found: &'a RefCell<Found>) -> Self {
        Self { name, text, found }
    }

    /// The line and the column, in characters, both from 1.
    fn position(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    }

    fn error(&self, at: usize, key: &str, message: String, hint: Option<String>) -> PolicyError {
        let (line, column) = self.position(at);
        PolicyError { file: self.name.to_owned(), line, column, key: key.to_owned(), message, hint }
    }

    pub(super) fn problem(&self, at: usize, key: &str, message: String, hint: Option<String>) {
        let error = self.error(at, key, message, hint);
        self.found.borrow_mut().errors.push(error);
    }

    pub(super) fn warn(&self, at: usize, key: &str, message: String, hint: Option<String>) {
        let error = self.error(at, key, message, hint);
        self.found.borrow_mut().warnings.push(error);
    }

    /// `shop.toml:12`.
    pub(super) fn place(&self, at: usize) -> String {
        format!("{}:{}", self.name, self.position(at).0)
    }
}

/// A table, and where it is.
#[derive(Clone)]
pub(super) struct Section<'r> {
    pub(super) source: &'r Source<'r>,
    /// `role.readonly`.
    pub(super) path: String,
    at: usize,
    table: &'r DeTable<'r>,
}

/// One value, and where it is.
#[derive(Clone)]
pub(super) struct Entry<'r> {
    pub(super) source: &'r Source<'r>,
    /// `role.readonly.ttl`, `role.readonly.allow[0]`.
    pub(super) path: String,
    span: Range<usize>,
    value: &'r DeValue<'r>,
}

impl<'r> Section<'r> {
    pub(super) fn root(source: &'r Source<'r>, table: &'r DeTable<'r>) -> Self {
        Self { source, path: String::new(), at: 0, table }
    }

    fn below(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes every key that isn't among `known`.
    pub(super) fn refuse_others(&self, known: &[&str]) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let hint = match nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the keys here are {}", listed(known)),
            };
            let message = format!("`{}` is not a key of pgate", self.below(name));
            self.source.problem(key.span().start, &self.below(name), message, Some(hint));
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Entry<'r>> {
        let (_, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        Some(self.entry(key, value))
    }

    /// The value, or a problem that says what is missing.
    pub(super) fn require(&self, key: &str, wants: &str) -> Option<Entry<'r>> {
        let entry = self.get(key);
        if entry.is_none() {
            let message = format!("`{}` is missing", self.below(key));
            self.source.problem(self.at, &self.below(key), message, Some(wants.to_owned()));
        }
        entry
    }

    /// Every key with its value, and where the key stands.
    pub(super) fn entries(&self) -> impl Iterator<Item = (String, usize, Entry<'r>)> {
        self.table.iter().map(|(key, value)| {
            let name: &str = key.get_ref();
            (name.to_owned(), key.span().start, self.entry(name, value))
        })
    }

    fn entry(&self, key: &str, value: &'r Spanned<DeValue<'r>>) -> Entry<'r> {
        Entry {
            source: self.source,
            path: self.below(key),
            span: value.span(),
            value: value.get_ref(),
        }
    }

    pub(super) fn problem(&self, message: impl Into<String>, hint: Option<String>) {
        self.source.problem(self.at, &self.path, message.into(), hint);
    }

    pub(super) fn warn(&self, message: impl Into<String>, hint: Option<String>) {
        self.source.warn(self.at, &self.path, message.into(), hint);
    }

    pub(super) fn rule_ref(&self) -> RuleRef {
        RuleRef { rule: self.path.clone(), place: Some(self.source.place(self.at)) }
    }

    /// A section read where its key stands: tables with a header know only that.
    pub(super) fn at(mut self, at: usize) -> Self {
        self.at = at;
        self
    }
}

impl<'r> Entry<'r> {
    pub(super) fn problem(&self, message: impl Into<String>, hint: Option<String>) {
        self.source.problem(self.span.start, &self.path, message.into(), hint);
    }

    /// `key` must be `kind`, which it isn't.
    fn wrong_kind(&self, kind: &str, hint: &str) {
        let message = format!("`{}` must be {kind}, not {}", self.path, self.kind());
        self.problem(message, Some(hint.to_owned()));
    }

    fn kind(&self) -> &'static str {
        match self.value {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a decimal number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }

    /// The text, where it is one; says nothing otherwise.
    pub(super) fn as_text(&self) -> Option<&'r str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn text(&self, example: &str) -> Option<&'r str> {
        let text = self.as_text();
        if text.is_none() {
            self.wrong_kind("a text", &format!("for example {} = {example}", self.last()));
        }
        text
    }

    /// A whole number of at least 1 that fits into `T`.
    pub(super) fn positive<T: TryFrom<i64>>(&self) -> Option<T> {
        let number = self.integer()?;
        let fits = (number >= 1).then(|| T::try_from(number).ok()).flatten();
        if fits.is_none() {
            self.problem(
                format!("`{}` must be at least 1 and not absurdly large", self.path),
                None,
            );
        }
        fits
    }

    /// A whole number of at least 0 that fits into `T`.
    pub(super) fn natural<T: TryFrom<i64>>(&self) -> Option<T> {
        let number = self.integer()?;
        let fits = (number >= 0).then(|| T::try_from(number).ok()).flatten();
        if fits.is_none() {
            self.problem(format!("`{}` must not be negative or absurdly large", self.path), None);
        }
        fits
    }

    fn integer(&self) -> Option<i64> {
        let DeValue::Integer(number) = self.value else {
            self.wrong_kind("a whole number", &format!("for example {} = 10", self.last()));
            return None;
        };
        let parsed = i64::from_str_radix(number.as_str(), number.radix()).ok();
        if parsed.is_none() {
            self.problem(format!("`{}` is too large a number", self.path), None);
        }
        parsed
    }

    pub(super) fn list(&self, example: &str) -> Vec<Entry<'r>> {
        let DeValue::Array(array) = self.value else {
            self.wrong_kind("a list", &format!("for example {} = {example}", self.last()));
            return Vec::new();
        };
        let entry = |(index, value): (usize, &'r Spanned<DeValue<'r>>)| Entry {
            source: self.source,
            path: format!("{}[{index}]", self.path),
            span: value.span(),
            value: value.get_ref(),
        };
        array.iter().enumerate().map(entry).collect()
    }

    pub(super) fn is_empty_list(&self) -> bool {
        matches!(self.value, DeValue::Array(array) if array.is_empty())
    }

    /// The table, where it is one; says nothing otherwise.
    pub(super) fn as_section(&self) -> Option<Section<'r>> {
        let DeValue::Table(table) = self.value else { return None };
        Some(Section { source: self.source, path: self.path.clone(), at: self.span.start, table })
    }

    pub(super) fn section(&self, example: &str) -> Option<Section<'r>> {
        let section = self.as_section();
        if section.is_none() {
            self.wrong_kind("a table", &format!("for example {example}"));
        }
        section
    }

    /// The word among `words` that it is.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let names = words.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let text = self.text(&format!("\"{}\"", names.first().copied().unwrap_or_default()))?;
        let found = words.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            let hint = match nearest(text, &names) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("it is one of {}", listed(&names)),
            };
            self.problem(format!("\"{text}\" is not known as `{}`", self.last()), Some(hint));
        }
        found.map(|(_, value)| *value)
    }

    pub(super) fn rule_ref(&self) -> RuleRef {
        RuleRef { rule: self.path.clone(), place: Some(self.source.place(self.span.start)) }
    }

    /// The last key of the path, without an index.
    fn last(&self) -> &str {
        let last = self.path.rsplit('.').next().unwrap_or(&self.path);
        last.split('[').next().unwrap_or(last)
    }
}

/// The known word that `word` is most likely meant to be.
pub(in crate::policy) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let folded = word.to_lowercase();
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&folded, &candidate.to_lowercase()), *candidate))
        .filter(|(likeness, _)| *likeness > 0.78)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// `a, b or c`.
pub(super) fn listed(words: &[&str]) -> String {
    match words {
        [] => "none".to_owned(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}
