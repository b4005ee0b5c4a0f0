//! How much a statement has returned, against what it may.
//!
//! A portal that is executed in parts, and an SQL cursor that is fetched from, count
//! as one statement: what their earlier parts have returned is kept here by name,
//! since portals and cursors share their names.

use std::{collections::HashMap, sync::Arc};

use super::pending::Run;
use crate::{
    proxy::{admission::Refusal, allowance::Cap},
    sql::CursorUse,
};

/// What a run may still return.
#[derive(Debug)]
pub(super) enum Left {
    /// No row has come yet, so it isn't worked out.
    Unasked,
    /// So many rows and bytes.
    Counting { rows: Option<(u64, Arc<Cap>)>, bytes: Option<(u64, Arc<Cap>)> },
    /// It has returned more: the rest is withheld, the statement being cancelled.
    Over(Refusal),
}

/// What earlier parts of a portal or cursor have returned.
#[derive(Debug, Default)]
struct Returned {
    rows: u64,
    bytes: u64,
    /// The cap on rows that its DECLARE was given.
    rows_cap: Option<Arc<Cap>>,
    /// Whether it outlives its transaction.
    held: bool,
}

/// The portals and cursors that have returned something.
#[derive(Debug, Default)]
pub(super) struct Parts {
    by_name: HashMap<Arc<str>, Returned>,
}

impl Left {
    /// Takes one row of so many bytes; whether it may go out.
    pub(super) fn take(&mut self, length: usize) -> bool {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let over = match self {
            Self::Unasked => return true,
            Self::Over(_) => return false,
            Self::Counting { rows, bytes } => {
                let counts = [(rows, 1), (bytes, length)].into_iter();
                let mut counts = counts.filter_map(|(count, taken)| Some((count.as_mut()?, taken)));
                counts.find_map(|((left, cap), taken)| match left.checked_sub(taken) {
                    Some(rest) => {
                        *left = rest;
                        None
                    }
                    None => Some(cap.refusal.clone()),
                })
            }
        };
        match over {
            None => true,
            Some(refusal) => {
                *self = Self::Over(refusal);
                false
            }
        }
    }

    /// Whether one more row of so many bytes may go out.
    pub(super) fn has_room_for(&self, length: usize) -> bool {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let fits = |count: &Option<(u64, Arc<Cap>)>, taken| {
            count.as_ref().is_none_or(|(left, _)| *left >= taken)
        };
        match self {
            Self::Counting { rows, bytes } => fits(rows, 1) && fits(bytes, length),
            Self::Unasked | Self::Over(_) => false,
        }
    }

    /// The error, where it has returned too much.
    pub(super) fn over(&self) -> Option<&Refusal> {
        match self {
            Self::Over(refusal) => Some(refusal),
            Self::Unasked | Self::Counting { .. } => None,
        }
    }
}

impl Parts {
    /// A row of a run comes: with the first, what is left to it is worked out.
    pub(super) fn begin(&self, run: &mut Run) {
        if let Left::Unasked = run.left {
            run.left = self.left(run);
        }
    }

    fn left(&self, run: &Run) -> Left {
        let allowance = run.permit.allowance();
        let (mut rows_before, mut bytes_before) = (0, 0);
        let mut rows_cap = allowance.rows.clone();
        for name in names(run) {
            let Some(before) = self.by_name.get(name) else { continue };
            rows_before = before.rows.max(rows_before);
            bytes_before = before.bytes.max(bytes_before);
            rows_cap = rows_cap.into_iter().chain(before.rows_cap.clone()).min_by_key(|c| c.most);
        }
        let rest = |cap: Arc<Cap>, before: u64| (cap.most.saturating_sub(before), cap);
        Left::Counting {
            rows: rows_cap.map(|cap| rest(cap, rows_before)),
            bytes: allowance.bytes.clone().map(|cap| rest(cap, bytes_before)),
        }
    }

    /// A run has come to its end.
    pub(super) fn add(&mut self, run: &Run) {
        let allowance = run.permit.allowance();
        for cursor in run.permit.cursors() {
            match cursor {
                CursorUse::Declare { name, hold } => {
                    let part = Returned {
                        rows_cap: allowance.rows.clone(),
                        held: *hold,
                        ..Returned::default()
                    };
                    self.by_name.insert(name.as_str().into(), part);
                }
                CursorUse::Close(Some(name)) => _ = self.by_name.remove(name.as_str()),
                CursorUse::Close(None) => self.by_name.clear(),
                CursorUse::Fetch(_) => {}
            }
        }
        if allowance.rows.is_none() && allowance.bytes.is_none() && self.by_name.is_empty() {
            return;
        }
        for name in names(run) {
            match self.by_name.get_mut(name) {
                Some(part) => {
                    part.rows += run.rows;
                    part.bytes += run.bytes;
                }
                None => {
                    let part = Returned { rows: run.rows, bytes: run.bytes, ..Returned::default() };
                    self.by_name.insert(name.into(), part);
                }
            }
        }
    }

    /// A portal of this name is bound anew, or closed.
    pub(super) fn forget(&mut self, name: &str) {
        if !self.by_name.is_empty() {
            self.by_name.remove(name);
        }
    }

    /// A transaction has ended: only cursors WITH HOLD are left.
    pub(super) fn end_transaction(&mut self) {
        if !self.by_name.is_empty() {
            self.by_name.retain(|_, part| part.held);
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }
}

/// The portal and cursors whose rows a run returns.
fn names(run: &Run) -> impl Iterator<Item = &str> {
    let fetched = run.permit.cursors().iter().filter_map(|cursor| match cursor {
        CursorUse::Fetch(name) => Some(name.as_str()),
        CursorUse::Declare { .. } | CursorUse::Close(_) => None,
    });
    run.portal.as_deref().into_iter().chain(fetched)
}
