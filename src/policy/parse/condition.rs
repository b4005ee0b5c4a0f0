//! The conditions of rules, and amounts of limits.

use super::reader::{Entry, Section, listed, nearest};
use crate::{
    policy::{Condition, Day, Hours, Window, condition::zone},
    sql::Action,
};

/// What a rule's `actions` says: nothing readable, all of them, or these.
type Actions<'a> = Option<Option<&'a [Action]>>;

/// `"unfiltered"` or `"rows > 1000"`.
pub(super) fn when(entry: &Entry<'_>, actions: Actions<'_>) -> Option<Condition> {
    let text = entry.text("\"unfiltered\"")?;
    let (condition, fitting): (_, &[Action]) = match text.split_once('>') {
        None if text == "unfiltered" => (Condition::Unfiltered, &[Action::Update, Action::Delete]),
        Some((word, number)) if word.trim() == "rows" => {
            let number = number.trim().replace('_', "");
            let Some(rows) = number.parse::<u64>().ok().filter(|rows| *rows < u64::MAX) else {
                let message = format!("`{}` names no number of rows", entry.path);
                entry.problem(message, Some("write \"rows > 1000\"".to_owned()));
                return None;
            };
            let counted =
                &[Action::Select, Action::Insert, Action::Update, Action::Delete, Action::Merge];
            (Condition::RowsOver(rows), counted)
        }
        _ => {
            let known = ["unfiltered", "rows > 1000"];
            let hint = match nearest(text, &known) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("it is {}", listed(&known)),
            };
            entry.problem(format!("\"{text}\" is not known as `when`"), Some(hint));
            return None;
        }
    };
    let fits = |actions: &[Action]| actions.iter().any(|action| fitting.contains(action));
    if actions.is_some_and(|actions| actions.is_some_and(|actions| !fits(actions))) {
        let hint = match condition {
            Condition::Unfiltered => "\"unfiltered\" speaks of update and delete",
            Condition::RowsOver(_) => {
                "rows are counted of select, insert, update, delete and merge"
            }
        };
        let message = format!("`{}` never holds for these actions", entry.path);
        entry.problem(message, Some(hint.to_owned()));
    }
    Some(condition)
}

/// `columns` speaks of what is written, and so of no other actions.
pub(super) fn about_writes(entry: &Entry<'_>, actions: Actions<'_>) {
    let writes = |action: &Action| matches!(action, Action::Insert | Action::Update);
    let fits = match actions {
        None => true,
        Some(None) => false,
        Some(Some(actions)) => actions.iter().all(writes),
    };
    if !fits {
        entry.problem(
            format!("`{}` speaks of the columns that insert and update write", entry.path),
            Some("name only those two in `actions`; masks and `hide` are for reading".to_owned()),
        );
    }
}

/// `days`, `between` and `zone`.
pub(super) fn window(section: &Section<'_>) -> Option<Window> {
    let (days, between) = (section.get("days"), section.get("between"));
    let named = section.get("zone");
    if days.is_none() && between.is_none() {
        if let Some(entry) = named {
            let hint = "add between = \"08:00-18:00\" or days = [\"mon\"], or leave it out";
            entry.problem(format!("`{}` says when of nothing", entry.path), Some(hint.to_owned()));
        }
        return None;
    }
    let known_zone = match named {
        None => {
            section.require("zone", "for example zone = \"Europe/Berlin\", or \"UTC\"");
            None
        }
        Some(entry) => {
            let name = entry.text("\"Europe/Berlin\"");
            let known = name.filter(|name| zone(name).is_some());
            if name.is_some() && known.is_none() {
                entry.problem(
                    format!("`{}` is not a time zone that pgate knows", entry.path),
                    Some("write an IANA name, as \"Europe/Berlin\" or \"UTC\"".to_owned()),
                );
            }
            known
        }
    };
    let days = match days {
        None => Day::ALL.iter().map(|(_, day)| *day).collect(),
        Some(entry) => {
            let listed = entry.list("[\"mon\", \"tue\"]");
            if entry.is_empty_list() {
                entry.problem(format!("`{}` names no day", entry.path), None);
            }
            let mut days =
                listed.iter().filter_map(|entry| entry.word(&Day::ALL)).collect::<Vec<_>>();
            days.sort();
            days.dedup();
            days
        }
    };
    let between = match between {
        None => None,
        Some(entry) => Some(hours(&entry)?),
    };
    Some(Window { days, between, zone: known_zone?.to_owned() })
}

/// `"08:00-18:00"`.
fn hours(entry: &Entry<'_>) -> Option<Hours> {
    let text = entry.text("\"08:00-18:00\"")?;
    let hours = text
        .split_once('-')
        .and_then(|(from, until)| Some(Hours { from: minute(from)?, until: minute(until)? }));
    let hours = hours.filter(|hours| hours.from != hours.until && hours.from < 24 * 60);
    if hours.is_none() {
        entry.problem(
            format!("`{}` is not a time of the day", entry.path),
            Some(
                "write two times, as \"08:00-18:00\" or, past midnight, \"22:00-06:00\"".to_owned(),
            ),
        );
    }
    hours
}

/// The minute of the day of `08:00`, up to `24:00`.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let two = |digits: &str| {
        let fits = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| digits.parse::<u16>().ok()).flatten()
    };
    let (hour, minute) = (two(hour)?, two(minute)?);
    let total = hour * 60 + minute;
    (minute < 60 && total <= 24 * 60).then_some(total)
}

/// A number of bytes, or one with a unit: `"10MiB"`.
pub(super) fn bytes(entry: &Entry<'_>) -> Option<u64> {
    let Some(text) = entry.as_text() else { return entry.positive() };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim() {
        "" | "B" => Some(1),
        "kB" | "KB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let bytes = number.parse::<u64>().ok().zip(unit);
    let bytes = bytes.and_then(|(number, unit)| number.checked_mul(unit)).filter(|n| *n > 0);
    if bytes.is_none() {
        let hint = "write a number, or one with kB, MB, GB, KiB, MiB or GiB, as in \"10MiB\"";
        entry.problem(format!("`{}` is not an amount of bytes", entry.path), Some(hint.to_owned()));
    }
    bytes
}
