//! Edits of a text, and the way back from a place in the new text.

use std::ops::Range;

/// One replaced range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    /// The bytes that go.
    pub(super) range: Range<usize>,
    /// What comes instead.
    pub(super) text: String,
}

/// The ranges that edits replaced, in characters from 0, in the order of the text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Edits(Vec<Replaced>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Replaced {
    old: Range<usize>,
    new: Range<usize>,
}

/// The edited text. Edits must not overlap.
pub(super) fn apply(text: &str, mut edits: Vec<Edit>) -> Result<(String, Edits), String> {
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
    let mut new =
        String::with_capacity(text.len() + edits.iter().map(|e| e.text.len()).sum::<usize>());
    let mut replaced = Vec::with_capacity(edits.len());
    let (mut at, mut old_chars, mut new_chars) = (0, 0, 0);
    for edit in edits {
        let kept = text
            .get(at..edit.range.start)
            .ok_or_else(|| "two rewritten places overlap".to_owned())?;
        let gone = text
            .get(edit.range.clone())
            .ok_or_else(|| "a rewritten place is not in the text".to_owned())?;
        new.push_str(kept);
        new.push_str(&edit.text);
        let kept = kept.chars().count();
        let (old_start, new_start) = (old_chars + kept, new_chars + kept);
        old_chars = old_start + gone.chars().count();
        new_chars = new_start + edit.text.chars().count();
        replaced.push(Replaced { old: old_start..old_chars, new: new_start..new_chars });
        at = edit.range.end;
    }
    new.push_str(text.get(at..).unwrap_or_default());
    Ok((new, Edits(replaced)))
}

impl Edits {
    /// The original place of a place in the new text, in characters from 1.
    pub(super) fn original_position(&self, position: usize) -> usize {
        let place = position.saturating_sub(1);
        let before = self.0.partition_point(|replaced| replaced.new.start <= place);
        let original = match before.checked_sub(1).and_then(|last| self.0.get(last)) {
            None => place,
            Some(replaced) if place < replaced.new.end => replaced.old.start,
            Some(replaced) => replaced.old.end + (place - replaced.new.end),
        };
        original + 1
    }
}
