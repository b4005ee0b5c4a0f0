//! Durations as people write them: `30s`, `1h`, `8h30m`, `500ms`.

use super::reader::Entry;

/// The longest duration that a policy may name: a year.
const LONGEST_MS: u64 = 366 * 24 * 3_600 * 1_000;

/// The milliseconds of `8h30m`; none where it is no duration, is zero, or longer than a year.
fn milliseconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let unit = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = after;
    }
    (1..=LONGEST_MS).contains(&total).then_some(total)
}

impl Entry<'_> {
    /// A duration in milliseconds.
    pub(super) fn duration_ms(&self) -> Option<u64> {
        let text = self.text("\"1h\"")?;
        let duration = milliseconds(text);
        if duration.is_none() {
            let message = format!("`{}` is not a duration", self.path);
            let hint = "write numbers with d, h, m, s or ms, as in \"8h30m\"; at most a year";
            self.problem(message, Some(hint.to_owned()));
        }
        duration
    }

    /// A duration in whole seconds.
    pub(super) fn duration_seconds(&self) -> Option<u64> {
        let ms = self.duration_ms()?;
        if ms % 1_000 != 0 {
            self.problem(format!("`{}` must be whole seconds", self.path), None);
            return None;
        }
        Some(ms / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::milliseconds;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let cases = [
            ("1h", Some(3_600_000)),
            ("8h30m", Some(30_600_000)),
            ("30s", Some(30_000)),
            ("500ms", Some(500)),
            ("1d", Some(86_400_000)),
            ("", None),
            ("0s", None),
            ("h", None),
            ("1", None),
            ("1 h", None),
            ("-1h", None),
            ("1.5h", None),
            ("1w", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
            ("400d", None),
        ];
        for (text, expected) in cases {
            assert_eq!(milliseconds(text), expected, "{text:?}");
        }
    }
}
