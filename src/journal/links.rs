//! Explaining a broken chain: which lines were changed, cut out, moved or repeated.

use std::collections::HashMap;

use super::{LineHash, report::Place, report::Wrong};

/// Lines that are kept to explain a break; a log that is broken in its first
/// lines and longer than this is explained as far as they go.
const MOST_LINKS: usize = 1_000_000;

/// A line as a link of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    /// Its place in the file, from 1.
    pub(super) line: u64,
    /// Its hash.
    pub(super) hash: LineHash,
    /// What it says of itself; none where it can't be read.
    pub(super) says: Option<Says>,
}

/// What a line says of its place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Says {
    pub(super) number: u64,
    /// None where it isn't a hash.
    pub(super) prev: Option<LineHash>,
}

impl Link {
    /// Whether `next` continues this line.
    pub(super) fn leads_to(&self, next: &Link) -> bool {
        match (self.says, next.says) {
            (Some(this), Some(next)) => {
                next.prev == Some(self.hash) && this.number.checked_add(1) == Some(next.number)
            }
            _ => false,
        }
    }
}

/// The lines around and after the first break of a chain.
#[derive(Debug, Default)]
pub(super) struct BrokenChain {
    links: Vec<Link>,
}

impl BrokenChain {
    /// Begins with the lines before the break.
    pub(super) fn after(good: impl IntoIterator<Item = Link>) -> Self {
        Self { links: good.into_iter().collect() }
    }

    pub(super) fn push(&mut self, link: Link) {
        if self.links.len() < MOST_LINKS {
            self.links.push(link);
        }
    }

    /// What was done to the log, by line. Lines that can't be read are left out:
    /// whoever read them has said so.
    pub(super) fn explain(&self) -> Vec<(u64, Wrong)> {
        let mut by_hash = HashMap::with_capacity(self.links.len());
        for link in &self.links {
            by_hash.entry(link.hash).or_insert(link.line);
        }
        let mut found = Vec::new();
        // Whether what was found last already explains a break after its line.
        let mut suspect = None;
        for pair in self.links.windows(2) {
            let [before, link] = pair else { continue };
            let (Some(said_before), Some(says)) = (before.says, link.says) else { continue };
            if before.leads_to(link) {
                continue;
            }
            let first = by_hash.get(&link.hash).copied().unwrap_or(link.line);
            let predecessor = says.prev.and_then(|prev| by_hash.get(&prev).copied());
            let follows = said_before.number.checked_add(1) == Some(says.number);
            if says.prev == Some(before.hash) {
                found.push((link.line, Wrong::Edited { first: link.line, last: link.line }));
                suspect = Some(link.line);
            } else if first < link.line {
                found.push((link.line, Wrong::Repeated { of: first }));
            } else if let Some(line) = predecessor {
                found.push((link.line, Wrong::Misplaced { place: Place::After(line) }));
            } else if suspect == Some(before.line) {
                // The change of the line before explains that this one doesn't fit it.
            } else if follows {
                let edited = edited_before(before.line, found.last());
                if edited.0 != before.line {
                    found.pop();
                }
                found.push((before.line, Wrong::Edited { first: edited.0, last: edited.1 }));
            } else if said_before.number < says.number {
                let (first, last) = (said_before.number + 1, says.number - 1);
                found.push((link.line, Wrong::Cut { first, last }));
            } else {
                let place = Place::Number(says.number);
                found.push((link.line, Wrong::Misplaced { place }));
            }
        }
        found
    }
}

/// A line that fits neither the one before nor the one after has been changed
/// itself, or both its neighbours' side has: told as one range.
fn edited_before(line: u64, last: Option<&(u64, Wrong)>) -> (u64, u64) {
    match last {
        Some((_, Wrong::Edited { first, last })) if last + 1 == line => (*first, line),
        _ => (line, line),
    }
}
