//! How many statements a minute: a token bucket.
//!
//! Owns the arithmetic. The time comes in as a parameter.

use std::time::Duration;

/// So many statements at once, and as many again with every minute.
#[derive(Debug, Clone)]
pub struct Pace {
    per_minute: u32,
    /// The time, since the bucket's beginning, at which it is full again.
    full_at: Duration,
}

impl Pace {
    /// A full bucket.
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute: per_minute.max(1), full_at: Duration::ZERO }
    }

    /// Takes so many statements at this time since the bucket's beginning.
    ///
    /// # Errors
    /// How long to wait until they can be had; `None` where they never can, being more
    /// than a minute's.
    pub fn take(&mut self, statements: u32, now: Duration) -> Result<(), Option<Duration>> {
        const MINUTE: Duration = Duration::from_secs(60);
        if statements > self.per_minute {
            return Err(None);
        }
        let one = MINUTE / self.per_minute;
        let full_at = self.full_at.max(now) + one * statements;
        match full_at.checked_sub(now + MINUTE) {
            Some(wait) if !wait.is_zero() => Err(Some(wait)),
            _ => {
                self.full_at = full_at;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_statements_go_at_once_and_then_as_the_bucket_fills() {
        let mut pace = Pace::new(6);
        let at = Duration::from_secs;
        for _ in 0..6 {
            assert_eq!(pace.take(1, at(100)), Ok(()));
        }
        assert_eq!(pace.take(1, at(100)), Err(Some(at(10))));
        assert_eq!(pace.take(1, at(104)), Err(Some(at(6))));
        // What is refused takes nothing.
        assert_eq!(pace.take(1, at(110)), Ok(()));
        assert_eq!(pace.take(2, at(120)), Err(Some(at(10))));
        assert_eq!(pace.take(7, at(1_000)), Err(None));
        for _ in 0..6 {
            assert_eq!(pace.take(1, at(1_000)), Ok(()));
        }
        assert!(pace.take(1, at(1_000)).is_err());
        // A clock that steps back gives nothing away.
        assert!(pace.take(1, at(0)).is_err());
    }
}
