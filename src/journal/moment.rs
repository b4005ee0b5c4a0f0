//! The text of a moment, as `Timestamp` displays it.
//!
//! Every line of a log has one, and the display goes through a general formatter that costs
//! more than all else of a short line.

use std::io::Write as _;

use jiff::Timestamp;

const SECONDS_A_DAY: i64 = 86_400;

/// Puts the text of `at` (RFC 3339, UTC, no more digits than it needs) behind what is in
/// `out`.
pub(super) fn put(at: Timestamp, out: &mut Vec<u8>) {
    let (year, month, day) = civil(at.as_second().div_euclid(SECONDS_A_DAY));
    let second = at.as_second().rem_euclid(SECONDS_A_DAY);
    let nanosecond = at.subsec_nanosecond();
    if !(0..=9999).contains(&year) || nanosecond < 0 {
        // Writing to a vector can't fail.
        let _ = write!(out, "{at}");
        return;
    }
    let mut text = *b"0000-00-00T00:00:00";
    let pairs = [
        (0, year / 100),
        (2, year % 100),
        (5, month),
        (8, day),
        (11, second / 3600),
        (14, second / 60 % 60),
        (17, second % 60),
    ];
    for (at, number) in pairs {
        text[at] += digit(number / 10);
        text[at + 1] += digit(number);
    }
    out.extend_from_slice(&text);
    if nanosecond > 0 {
        let (mut fraction, mut left) = (*b".000000000", i64::from(nanosecond));
        for place in fraction.iter_mut().skip(1).rev() {
            *place += digit(left);
            left /= 10;
        }
        let length = fraction.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
        out.extend_from_slice(&fraction[..length]);
    }
    out.push(b'Z');
}

/// The last decimal digit of a number that isn't negative.
fn digit(number: i64) -> u8 {
    u8::try_from(number % 10).unwrap_or_default()
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian
/// calendar. Years are taken from March to February, so that the leap day is the last, in
/// eras of 400 years, which all have as many days.
fn civil(day: i64) -> (i64, i64, i64) {
    const DAYS_AN_ERA: i64 = 146_097;
    // From 0000-03-01 to 1970-01-01.
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(DAYS_AN_ERA), day.rem_euclid(DAYS_AN_ERA));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, of_month)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(at: Timestamp) -> String {
        let mut out = Vec::new();
        put(at, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_day_and_the_ends_of_time_are_displayed_as_by_the_library() {
        let days = -150_000..=150_000;
        for day in days {
            let at = Timestamp::from_second(day * SECONDS_A_DAY + day.rem_euclid(SECONDS_A_DAY));
            let at = at.unwrap();
            assert_eq!(text(at), at.to_string());
        }
        for at in [Timestamp::MIN, Timestamp::MAX, Timestamp::UNIX_EPOCH] {
            assert_eq!(text(at), at.to_string());
        }
    }

    proptest! {
        #[test]
        fn every_moment_is_displayed_as_by_the_library(
            second in -377_705_023_201_i64..=253_402_207_200,
            nanosecond in 0_i32..1_000_000_000,
            digits in 0_u32..=9,
        ) {
            let scale = 10_i32.pow(9 - digits);
            let at = Timestamp::new(second, nanosecond / scale * scale).unwrap();
            prop_assert_eq!(text(at), at.to_string());
        }
    }
}
