//! The conditions of rules, beyond actions and relations.
//!
//! Owns what a condition is and when it holds. The time comes in as a parameter,
//! and time zones from the database inside this program: so both sides of a grant
//! give the same answer.

use std::sync::LazyLock;

use jiff::{Timestamp, civil, tz};
use serde::{Deserialize, Serialize};

/// A condition on the rows that a statement hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// An UPDATE or DELETE of which nothing shows that it is narrowed.
    Unfiltered,
    /// More rows than this, written or returned.
    RowsOver(u64),
}

/// A time of the week, in a time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The days, in the order of the week; all seven where the rule names none.
    pub days: Vec<Day>,
    /// The hours of each day; all of them where the rule names none.
    pub between: Option<Hours>,
    /// The time zone, by its IANA name.
    pub zone: String,
}

/// From a time of day up to, and without, another; past midnight where the second
/// is the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// The first minute of the day that is in.
    pub from: u16,
    /// The first that isn't any more; 1440 is the day's end.
    pub until: u16,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Day {
    /// The days of the week, with their names in policy files.
    pub(super) const ALL: [(&'static str, Day); 7] = [
        ("mon", Day::Mon),
        ("tue", Day::Tue),
        ("wed", Day::Wed),
        ("thu", Day::Thu),
        ("fri", Day::Fri),
        ("sat", Day::Sat),
        ("sun", Day::Sun),
    ];

    fn of(date: civil::Date) -> Self {
        match date.weekday() {
            civil::Weekday::Monday => Day::Mon,
            civil::Weekday::Tuesday => Day::Tue,
            civil::Weekday::Wednesday => Day::Wed,
            civil::Weekday::Thursday => Day::Thu,
            civil::Weekday::Friday => Day::Fri,
            civil::Weekday::Saturday => Day::Sat,
            civil::Weekday::Sunday => Day::Sun,
        }
    }
}

/// A time zone by its name; none where this program doesn't know it.
pub(super) fn zone(name: &str) -> Option<tz::TimeZone> {
    static ZONES: LazyLock<tz::TimeZoneDatabase> = LazyLock::new(tz::TimeZoneDatabase::bundled);
    ZONES.get(name).ok()
}

impl Window {
    /// Whether an instant lies in it. `None` where this program doesn't know the zone.
    ///
    /// Hours that pass midnight belong to the day on which they begin.
    pub fn holds(&self, at: Timestamp) -> Option<bool> {
        let local = at.to_zoned(zone(&self.zone)?).datetime();
        let minute =
            u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        let today = self.days.contains(&Day::of(local.date()));
        let Some(Hours { from, until }) = self.between else { return Some(today) };
        if from < until {
            return Some(today && (from..until).contains(&minute));
        }
        let yesterday =
            local.date().yesterday().is_ok_and(|yesterday| self.days.contains(&Day::of(yesterday)));
        Some((today && minute >= from) || (yesterday && minute < until))
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.days.len() < Day::ALL.len() {
            let days = Day::ALL.iter().filter(|(_, day)| self.days.contains(day));
            let days = days.map(|(name, _)| *name).collect::<Vec<_>>();
            write!(f, "{} ", days.join(", "))?;
        }
        if let Some(Hours { from, until }) = self.between {
            let (a, b) = (from, until);
            write!(f, "{:02}:{:02}-{:02}:{:02} ", a / 60, a % 60, b / 60, b % 60)?;
        }
        f.write_str(&self.zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[Day], between: Option<(u16, u16)>, zone: &str) -> Window {
        let between = between.map(|(from, until)| Hours { from, until });
        Window { days: days.to_vec(), between, zone: zone.to_owned() }
    }

    #[test]
    fn a_window_follows_its_zone_its_days_and_passes_midnight_with_the_day_it_began() {
        use Day::*;
        let week = [Mon, Tue, Wed, Thu, Fri];
        let office = window(&week, Some((8 * 60, 18 * 60)), "Europe/Berlin");
        let night = window(&[Fri], Some((22 * 60, 6 * 60)), "UTC");
        let weekend = window(&[Sat, Sun], None, "America/New_York");
        let whole = window(&week, Some((0, 24 * 60)), "UTC");
        let cases = [
            // A Wednesday in winter (UTC+1) and one in summer (UTC+2).
            (&office, "2026-01-14T07:00:00Z", true),
            (&office, "2026-01-14T06:59:59Z", false),
            (&office, "2026-01-14T16:59:59Z", true),
            (&office, "2026-01-14T17:00:00Z", false),
            (&office, "2026-07-15T06:00:00Z", true),
            (&office, "2026-07-15T16:00:00Z", false),
            (&office, "2026-01-17T10:00:00Z", false),
            (&night, "2026-01-16T22:00:00Z", true),
            (&night, "2026-01-17T05:59:00Z", true),
            (&night, "2026-01-17T06:00:00Z", false),
            (&night, "2026-01-17T23:00:00Z", false),
            (&night, "2026-01-16T05:00:00Z", false),
            // Friday evening in New York is Saturday in UTC.
            (&weekend, "2026-01-17T03:00:00Z", false),
            (&weekend, "2026-01-17T06:00:00Z", true),
            (&weekend, "2026-01-19T03:00:00Z", true),
            (&whole, "2026-01-16T23:59:59Z", true),
        ];
        for (window, at, holds) in cases {
            assert_eq!(window.holds(at.parse().unwrap()), Some(holds), "{window} at {at}");
        }
        assert_eq!(window(&week, None, "Mars/Olympus").holds(Timestamp::UNIX_EPOCH), None);
    }
}
