//! Verdicts that have been reached, by the texts that they are on.
//!
//! A session that runs the same few thousand statements must find each of them again,
//! one that never runs the same twice must not grow: so there are two generations. What
//! is found in the old one moves to the young one; when that is full it becomes the old
//! one, and what nobody has asked for since goes.

use std::{collections::HashMap, sync::Arc};

use super::ruling::Decided;

/// How many texts a generation holds, and how many bytes of them: a longer text has one to
/// itself, since a long one takes longest to be read again.
const TEXTS: usize = 8 * 1024;
const BYTES: usize = 4 * 1024 * 1024;

#[derive(Debug, Default)]
struct Generation {
    decisions: HashMap<Arc<str>, Arc<Decided>>,
    bytes: usize,
}

/// Decisions by their texts. Where rules keep hours, those of one minute: hours begin
/// and end with minutes.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    minute: i64,
    young: Generation,
    old: Generation,
}

impl Remembered {
    /// The decision on exactly this text, as of this minute.
    pub(super) fn get(&mut self, sql: &str, minute: i64) -> Option<Arc<Decided>> {
        if self.minute != minute {
            return None;
        }
        if let Some(decided) = self.young.decisions.get(sql) {
            return Some(decided.clone());
        }
        let (text, decided) = self.old.decisions.remove_entry(sql)?;
        self.insert(text, decided.clone(), minute);
        Some(decided)
    }

    /// Remembers a decision of this minute.
    pub(super) fn insert(&mut self, sql: Arc<str>, decided: Arc<Decided>, minute: i64) {
        if self.minute != minute {
            *self = Self { minute, ..Self::default() };
        }
        if self.young.decisions.len() >= TEXTS || self.young.bytes + sql.len() > BYTES {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.bytes += sql.len();
        self.young.decisions.insert(sql, decided);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided() -> Arc<Decided> {
        Arc::new(Decided::unanalysed("for a test".into()))
    }

    #[test]
    fn what_is_asked_for_stays_and_what_is_not_goes() {
        let mut remembered = Remembered::default();
        let text = |n: usize| Arc::<str>::from(format!("SELECT {n}"));
        for n in 0..TEXTS {
            remembered.insert(text(n), decided(), 0);
        }
        assert!(remembered.get("SELECT 0", 0).is_some());
        for n in 0..2 * TEXTS {
            remembered.insert(text(TEXTS + n), decided(), 0);
            assert!(remembered.get("SELECT 0", 0).is_some(), "{n}");
        }
        assert!(remembered.get("SELECT 1", 0).is_none());
        let held = remembered.young.decisions.len() + remembered.old.decisions.len();
        assert!(held <= 2 * TEXTS, "{held}");
    }

    #[test]
    fn long_texts_take_no_more_room_than_short_ones() {
        let mut remembered = Remembered::default();
        let long = "x".repeat(16 * 1024);
        for n in 0..TEXTS {
            remembered.insert(format!("{n} {long}").into(), decided(), 0);
        }
        let held = remembered.young.bytes + remembered.old.bytes;
        assert!(held <= 2 * BYTES, "{held}");
    }

    #[test]
    fn a_text_longer_than_all_that_is_held_is_found_again_and_goes_like_others() {
        let mut remembered = Remembered::default();
        let text = |n: usize| Arc::<str>::from(format!("{n} {}", "x".repeat(BYTES)));
        for n in 0..4 {
            remembered.insert(text(n), decided(), 0);
            assert!(remembered.get(&text(n), 0).is_some(), "{n}");
        }
        assert!(remembered.get(&text(1), 0).is_none());
    }

    #[test]
    fn a_decision_of_another_minute_is_none() {
        let mut remembered = Remembered::default();
        remembered.insert("SELECT 1".into(), decided(), 7);
        assert!(remembered.get("SELECT 1", 7).is_some());
        assert!(remembered.get("SELECT 1", 8).is_none());
        remembered.insert("SELECT 2".into(), decided(), 8);
        assert!(remembered.get("SELECT 1", 8).is_none());
    }
}
