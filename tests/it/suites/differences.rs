//! The files of known differences: a reason in brackets, and under it the names of the
//! tests that differ for it. What differs `By chance` needn't.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// What is known to differ, by reason.
pub(super) struct Expected {
    reasons: Vec<(String, BTreeSet<String>)>,
}

impl Expected {
    pub(super) fn read(file: &Path) -> Self {
        let mut reasons = Vec::<(String, BTreeSet<String>)>::new();
        let text = std::fs::read_to_string(file).unwrap_or_default();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                Some(reason) => reasons.push((reason.to_owned(), BTreeSet::new())),
                None => {
                    let (_, names) = reasons.last_mut().expect("a reason stands before names");
                    names.insert(line.to_owned());
                }
            }
        }
        Self { reasons }
    }

    /// Fails unless exactly what is known differs; prints how much for which reason.
    pub(super) fn holds(&self, suite: &str, differing: &BTreeMap<String, String>) {
        for (reason, names) in &self.reasons {
            println!("  {:5} {reason}", names.len());
        }
        let known: BTreeSet<_> = self.reasons.iter().flat_map(|(_, names)| names).collect();
        let new: Vec<_> = differing.iter().filter(|(name, _)| !known.contains(name)).collect();
        let certain = self.reasons.iter().filter(|(reason, _)| !reason.starts_with("By chance"));
        let certain = certain.flat_map(|(_, names)| names);
        let gone: Vec<_> = certain.filter(|name| !differing.contains_key(*name)).collect();
        for (name, how) in &new {
            println!("NEW\t{name}\t{how}");
        }
        for name in &gone {
            println!("GONE\t{name}");
        }
        assert!(
            new.is_empty() && gone.is_empty(),
            "{suite}: {} differences that no reason is known for, {} known ones that are gone",
            new.len(),
            gone.len()
        );
    }
}
