//! How many values a session may look up in masked columns.
//!
//! Owns the count over the last minute. It refuses to know what is looked up, and has
//! no clock: the time is a parameter.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Look-ups a minute where the role says nothing.
pub(super) const DEFAULT_LOOKUPS: u32 = 30;

const MINUTE: Duration = Duration::from_secs(60);

/// What is left of a session's look-ups.
#[derive(Debug)]
pub(super) struct LookupBudget {
    per_minute: u32,
    /// When values were looked up, and how many, within the last minute.
    spent: VecDeque<(Instant, u32)>,
}

/// There is no room now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exceeded {
    /// There will be after this long.
    Wait(Duration),
    /// A statement may never look so many up.
    TooMany,
}

impl LookupBudget {
    pub(super) fn new(per_minute: Option<u32>) -> Self {
        let per_minute = per_minute.unwrap_or(DEFAULT_LOOKUPS);
        Self { per_minute, spent: VecDeque::new() }
    }

    pub(super) fn per_minute(&self) -> u32 {
        self.per_minute
    }

    /// Takes so many look-ups, or none of them.
    pub(super) fn take(&mut self, values: u32, now: Instant) -> Result<(), Exceeded> {
        if values == 0 {
            return Ok(());
        }
        if values > self.per_minute {
            return Err(Exceeded::TooMany);
        }
        while self.spent.front().is_some_and(|(at, _)| now.duration_since(*at) >= MINUTE) {
            self.spent.pop_front();
        }
        // No more than a minute's worth is ever counted here.
        let mut over = (self.spent.iter().map(|(_, values)| values).sum::<u32>() + values)
            .saturating_sub(self.per_minute);
        if over == 0 {
            self.spent.push_back((now, values));
            return Ok(());
        }
        for (at, values) in &self.spent {
            over = over.saturating_sub(*values);
            if over == 0 {
                return Err(Exceeded::Wait(MINUTE - now.duration_since(*at)));
            }
        }
        Err(Exceeded::TooMany)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_so_many_lookups_whatever_the_statements() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut budget = LookupBudget::new(Some(10));
        assert_eq!(budget.take(0, at(0)), Ok(()));
        assert_eq!(budget.take(11, at(0)), Err(Exceeded::TooMany));
        assert_eq!(budget.take(4, at(0)), Ok(()));
        assert_eq!(budget.take(6, at(10)), Ok(()));
        assert_eq!(budget.take(1, at(20)), Err(Exceeded::Wait(Duration::from_secs(40))));
        assert_eq!(budget.take(5, at(20)), Err(Exceeded::Wait(Duration::from_secs(50))));
        assert_eq!(budget.take(4, at(60)), Ok(()));
        assert_eq!(budget.take(1, at(69)), Err(Exceeded::Wait(Duration::from_secs(1))));
        assert_eq!(budget.take(6, at(70)), Ok(()));
        assert_eq!(LookupBudget::new(None).take(DEFAULT_LOOKUPS, start), Ok(()));
        assert_eq!(LookupBudget::new(Some(u32::MAX)).take(u32::MAX, start), Ok(()));
    }
}
