//! Lifetimes as people write them: `30m`, `1h`, `1h30m`, `2d`.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// Reads a lifetime: a positive whole number of seconds, at most a year.
pub(crate) fn lifetime(text: &str) -> Result<Duration, String> {
    let example = "write it as 30m, 1h, 1h30m or 2d";
    let span: Span = text.parse().map_err(|_| format!("it is not a length of time; {example}"))?;
    let duration = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| format!("it is not a length of time that a grant can have; {example}"))?;
    if duration < Duration::from_secs(1) || duration > LONGEST {
        return Err("a grant lasts at least a second and at most a year".into());
    }
    Ok(Duration::from_secs(duration.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("30m", Some(1800)),
            ("1h", Some(3600)),
            ("1h30m", Some(5400)),
            ("1h 30m", Some(5400)),
            ("2d", Some(172_800)),
            ("90s", Some(90)),
            ("8 hours", Some(28_800)),
            ("PT15M", Some(900)),
            ("", None),
            ("1", None),
            ("soon", None),
            ("-1h", None),
            ("0s", None),
            ("1 month", None),
            ("999999999h", None),
        ] {
            let read = lifetime(text).ok().map(|lifetime| lifetime.as_secs());
            assert_eq!(read, seconds, "{text}");
        }
    }
}
