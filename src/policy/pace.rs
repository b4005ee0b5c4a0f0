//! How many of something a minute.
//!
//! Owns the count over the last minute. It refuses to know what is counted, and has no
//! clock: the time comes in as a parameter.

use std::{collections::VecDeque, time::Duration};

const MINUTE: Duration = Duration::from_secs(60);
/// What is taken within one of these is remembered as one, as taken at its end. So the
/// memory is bounded, and no minute ever has more than its number.
const SLOT: Duration = Duration::from_millis(100);

/// At most so many within any minute.
#[derive(Debug, Clone)]
pub struct Pace {
    per_minute: u32,
    /// The ends of the slots in which something was taken, and how many.
    spent: VecDeque<(Duration, u32)>,
}

/// There is no room now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooFast {
    /// There will be after this long.
    Wait(Duration),
    /// There never is room for so many at once.
    TooMany,
}

impl Pace {
    /// Nothing is taken yet.
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute, spent: VecDeque::new() }
    }

    /// At most so many within a minute.
    pub fn per_minute(&self) -> u32 {
        self.per_minute
    }

    /// Takes so many at this time (since any beginning), or none of them.
    ///
    /// # Errors
    /// How long to wait until they can be had, or that they never can.
    pub fn take(&mut self, many: u32, now: Duration) -> Result<(), TooFast> {
        self.has_room(many, now)?;
        if many == 0 {
            return Ok(());
        }
        let slots = u32::try_from(now.as_millis().div_ceil(SLOT.as_millis())).unwrap_or(u32::MAX);
        let end = SLOT.saturating_mul(slots);
        match self.spent.back_mut() {
            // Also where the clock has stepped back: that gives nothing away.
            Some((last, taken)) if *last >= end => *taken += many,
            _ => self.spent.push_back((end, many)),
        }
        Ok(())
    }

    /// Whether so many could be taken at this time.
    ///
    /// # Errors
    /// As of [`Self::take`].
    pub fn has_room(&mut self, many: u32, now: Duration) -> Result<(), TooFast> {
        if many > self.per_minute {
            return Err(TooFast::TooMany);
        }
        while self.spent.front().is_some_and(|(end, _)| now >= *end + MINUTE) {
            self.spent.pop_front();
        }
        // No more than a minute's worth is ever counted here.
        let taken = self.spent.iter().map(|(_, taken)| taken).sum::<u32>();
        let mut over = taken.saturating_sub(self.per_minute - many);
        if over == 0 {
            return Ok(());
        }
        for (end, taken) in &self.spent {
            over = over.saturating_sub(*taken);
            if over == 0 {
                return Err(TooFast::Wait((*end + MINUTE).saturating_sub(now)));
            }
        }
        Err(TooFast::TooMany)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn no_minute_has_more_than_its_number_however_they_come() {
        let wait = |seconds| Err(TooFast::Wait(at(seconds)));
        let mut pace = Pace::new(10);
        assert_eq!(pace.take(0, at(0)), Ok(()));
        assert_eq!(pace.take(11, at(0)), Err(TooFast::TooMany));
        assert_eq!(pace.take(4, at(0)), Ok(()));
        assert_eq!(pace.take(6, at(10)), Ok(()));
        // What is refused takes nothing, and so does the question.
        assert_eq!(pace.take(1, at(20)), wait(40));
        assert_eq!(pace.take(5, at(20)), wait(50));
        assert_eq!(pace.has_room(4, at(60)), Ok(()));
        assert_eq!(pace.take(4, at(60)), Ok(()));
        assert_eq!(pace.take(1, at(69)), wait(1));
        assert_eq!(pace.take(6, at(70)), Ok(()));
        // A clock that steps back gives nothing away.
        assert!(pace.take(1, at(0)).is_err());
        assert_eq!(Pace::new(u32::MAX).take(u32::MAX, at(0)), Ok(()));
        assert_eq!(Pace::new(0).take(1, at(0)), Err(TooFast::TooMany));
    }

    #[test]
    fn what_comes_close_together_is_kept_as_one_and_never_let_go_too_early() {
        let mut pace = Pace::new(100_000);
        let millis = Duration::from_millis;
        for time in 0..60_000 {
            assert_eq!(pace.take(1, millis(time)), Ok(()), "{time}");
        }
        assert!(pace.spent.len() <= 601, "{}", pace.spent.len());
        assert_eq!(pace.take(40_000, millis(59_999)), Ok(()));
        // The first was taken at 0 and those up to 100 ms count until 60.1 s.
        assert_eq!(pace.take(2, millis(60_001)), Err(TooFast::Wait(millis(99))));
        assert_eq!(pace.take(100, millis(60_100)), Ok(()));
        assert!(pace.take(2, millis(60_100)).is_err());
    }
}
