//! Where personal data stands in a text, by its shape and its check digits, and what
//! stands there instead.
//!
//! Every detector reads the text once; where a candidate fails, reading goes on behind
//! it. Card and account numbers are believed only with valid check digits.

use std::ops::Range;

use crate::policy::{
    Detector,
    check_digits::{is_iban, is_luhn},
};

/// The longest account number, in letters and digits (ISO 13616).
const LONGEST_IBAN: usize = 34;
const SHORTEST_IBAN: usize = 15;

/// One value that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) kind: Detector,
    pub(super) range: Range<usize>,
}

/// Everything that these detectors find, in order and without overlaps: where two see
/// the same bytes, the one that is listed first counts.
pub(super) fn find(text: &[u8], detectors: &[Detector]) -> Vec<Match> {
    let mut found = Vec::<Match>::new();
    for kind in detectors {
        let ranges = match kind {
            Detector::Email => emails(text),
            Detector::Card => numbers(text, card),
            Detector::Iban => ibans(text),
            Detector::Phone => numbers(text, phone),
            Detector::Ssn => numbers(text, ssn),
        };
        let earlier = found.len();
        for range in ranges {
            let overlaps =
                |known: &Match| known.range.start < range.end && range.start < known.range.end;
            if !found.iter().take(earlier).any(overlaps) {
                found.push(Match { kind: *kind, range });
            }
        }
        found.sort_by_key(|known| known.range.start);
    }
    found
}

/// What stands in the place of a value: of the same kind to the eye, and made of
/// characters that no text format of PostgreSQL has to escape.
pub(super) fn masked(kind: Detector, value: &[u8]) -> Vec<u8> {
    match kind {
        Detector::Email => {
            let at = value.iter().position(|byte| *byte == b'@').unwrap_or(0);
            let first = value.iter().skip(1).position(|byte| !is_continuation(*byte));
            let first = first.map_or(at, |next| next + 1).min(at);
            let (local, domain) = value.split_at(at);
            [local.get(..first).unwrap_or_default(), b"***", domain].concat()
        }
        Detector::Card | Detector::Iban | Detector::Phone | Detector::Ssn => {
            let shown = if kind == Detector::Phone { 2 } else { 4 };
            let hidden = value.iter().filter(|byte| byte.is_ascii_alphanumeric()).count();
            let mut left = hidden.saturating_sub(shown);
            let cover = |byte: &u8| {
                if left > 0 && byte.is_ascii_alphanumeric() {
                    left -= 1;
                    b'*'
                } else {
                    *byte
                }
            };
            value.iter().map(cover).collect()
        }
    }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// A character of an address's local part, letters of any script included. A `*` is
/// none: what is masked already isn't found again.
fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._%+-".contains(&byte) || byte >= 0x80
}

fn is_domain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-".contains(&byte) || byte >= 0x80
}

fn emails(text: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = position(text, from, |byte| byte == b'@') {
        let local = backwards(text, from, at, is_local);
        let end = position(text, at + 1, |byte| !is_domain(byte)).unwrap_or(text.len());
        let domain = text.get(at + 1..end).unwrap_or_default();
        let end = end - domain.iter().rev().take_while(|byte| b".-".contains(byte)).count();
        let domain = text.get(at + 1..end).unwrap_or_default();
        let mut labels = domain.split(|byte| *byte == b'.');
        let top = labels.next_back().unwrap_or_default();
        let named = top.len() >= 2
            && !top.iter().any(u8::is_ascii_digit)
            && labels.clone().count() >= 1
            && labels.all(|label| !label.is_empty());
        if local < at && named {
            found.push(local..end);
            from = end;
        } else {
            from = at + 1;
        }
    }
    found
}

fn position(text: &[u8], from: usize, wanted: impl Fn(u8) -> bool) -> Option<usize> {
    text.get(from..)?.iter().position(|byte| wanted(*byte)).map(|at| from + at)
}

/// Where the run of such bytes before `at` begins, not before `from`.
fn backwards(text: &[u8], from: usize, at: usize, inside: impl Fn(u8) -> bool) -> usize {
    let before = text.get(from..at).unwrap_or_default();
    at - before.iter().rev().take_while(|byte| inside(**byte)).count()
}

/// Consecutive groups of digits.
struct Groups<'t> {
    /// From the first digit to the last.
    text: &'t [u8],
    digits: &'t [u8],
    before: Option<u8>,
    after: Option<u8>,
}

impl Groups<'_> {
    /// Whether every two groups have this between them.
    fn are_joined_by(&self, separator: u8) -> bool {
        let single = self.text.windows(2).all(|pair| pair.iter().any(u8::is_ascii_digit));
        single && self.text.iter().all(|byte| byte.is_ascii_digit() || *byte == separator)
    }

    /// Whether they are part of a longer number.
    fn go_on(&self) -> bool {
        [self.before, self.after].into_iter().flatten().any(|byte| b".-".contains(&byte))
    }
}

/// The longest number in digits that any detector looks for.
const MOST_DIGITS: usize = 19;

/// The longest separator between groups of digits: `) `.
const LONGEST_SEPARATOR: usize = 2;

/// Consecutive groups of digits that a detector takes for its own, the most that it takes.
fn numbers(text: &[u8], is: impl Fn(&Groups<'_>) -> bool) -> Vec<Range<usize>> {
    let mut groups = Vec::<Range<usize>>::new();
    let mut from = 0;
    while let Some(start) = position(text, from, |byte| byte.is_ascii_digit()) {
        let end = position(text, start, |byte| !byte.is_ascii_digit()).unwrap_or(text.len());
        groups.push(start..end);
        from = end;
    }
    let at = |place: Option<usize>| place.and_then(|place| text.get(place)).copied();
    let word = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let mut found = Vec::new();
    let mut first = 0;
    while let Some(start) = groups.get(first).map(|group| group.start) {
        let before = at(start.checked_sub(1));
        let mut digits = Vec::new();
        let mut last = None;
        let mut end = start;
        for (place, group) in groups.iter().enumerate().skip(first) {
            let gap = text.get(end..group.start).unwrap_or_default();
            let joined = gap.len() <= LONGEST_SEPARATOR
                && gap.iter().all(|byte| b" -.()".contains(byte))
                && digits.len() + group.len() <= MOST_DIGITS;
            if word(before) || !joined {
                break;
            }
            digits.extend_from_slice(text.get(group.clone()).unwrap_or_default());
            end = group.end;
            let after = at(Some(end));
            let text = text.get(start..end).unwrap_or_default();
            if !word(after) && is(&Groups { text, digits: &digits, before, after }) {
                last = Some((place, end));
            }
        }
        match last {
            Some((place, end)) => {
                found.push(start - usize::from(before == Some(b'+'))..end);
                first = place + 1;
            }
            None => first += 1,
        }
    }
    found
}

/// 13 to 19 digits, alone or in groups, of a known range and with a valid check digit
/// (ISO/IEC 7812).
fn card(number: &Groups<'_>) -> bool {
    (13..=MOST_DIGITS).contains(&number.digits.len())
        && matches!(number.digits.first(), Some(b'2'..=b'6'))
        && (number.are_joined_by(b' ') || number.are_joined_by(b'-'))
        && !number.go_on()
        && is_luhn(number.digits)
}

/// `+` and 8 to 15 digits (ITU-T E.164).
fn phone(number: &Groups<'_>) -> bool {
    number.before == Some(b'+')
        && (8..=15).contains(&number.digits.len())
        && number.digits.first() != Some(&b'0')
}

/// `AAA-GG-SSSS`, none of which is all zeros.
fn ssn(number: &Groups<'_>) -> bool {
    let parts = number.text.split(|byte| *byte == b'-').collect::<Vec<_>>();
    let [area, group, serial] = parts.as_slice() else { return false };
    let zeros = |part: &[u8]| part.iter().all(|byte| *byte == b'0');
    (area.len(), group.len(), serial.len()) == (3, 2, 4)
        && number.are_joined_by(b'-')
        && !number.go_on()
        && ![area, group, serial].iter().any(|part| zeros(part))
        && *area != b"666"
}

/// Two letters, two check digits and up to 30 letters and digits, alone or in groups,
/// whose remainder by 97 is 1 (ISO 13616).
fn ibans(text: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = position(text, from, |byte| byte.is_ascii_alphabetic()) {
        let word_end = position(text, start, |byte| !byte.is_ascii_alphanumeric());
        let word_end = word_end.unwrap_or(text.len());
        let inside =
            start > 0 && text.get(start - 1).is_some_and(|byte| byte.is_ascii_alphanumeric());
        let head = text.get(start..word_end).unwrap_or_default();
        let shaped = matches!(head, [a, b, c, d, ..] if a.is_ascii_alphabetic()
            && b.is_ascii_alphabetic() && c.is_ascii_digit() && d.is_ascii_digit());
        match (!inside && shaped).then(|| iban_end(text, start)).flatten() {
            Some(end) => {
                found.push(start..end);
                from = end;
            }
            None => from = word_end,
        }
    }
    found
}

/// Where the longest valid account number that starts here ends.
fn iban_end(text: &[u8], start: usize) -> Option<usize> {
    let mut characters = Vec::new();
    let mut valid = None;
    for (at, byte) in text.iter().enumerate().skip(start) {
        let next = text.get(at + 1).copied();
        match byte {
            byte if byte.is_ascii_alphanumeric() && characters.len() < LONGEST_IBAN => {
                characters.push(byte.to_ascii_uppercase());
                let ends = !next.is_some_and(|next| next.is_ascii_alphanumeric());
                if ends && characters.len() >= SHORTEST_IBAN && is_iban(&characters) {
                    valid = Some(at + 1);
                }
            }
            b' ' if next.is_some_and(|next| next.is_ascii_alphanumeric()) => {}
            _ => break,
        }
    }
    valid
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Detector; 5] =
        [Detector::Email, Detector::Card, Detector::Iban, Detector::Phone, Detector::Ssn];

    fn cleaned(text: &str) -> String {
        let mut out = Vec::new();
        let mut from = 0;
        for found in find(text.as_bytes(), &ALL) {
            out.extend_from_slice(&text.as_bytes()[from..found.range.start]);
            out.extend(masked(found.kind, &text.as_bytes()[found.range.clone()]));
            from = found.range.end;
        }
        out.extend_from_slice(&text.as_bytes()[from..]);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn personal_data_is_found_by_shape_and_check_digits_and_nothing_else_is() {
        let cases = [
            // Mail addresses.
            ("ana@example.com", "a***@example.com"),
            ("Ana <ana.b+c@mail.example.org>.", "Ana <a***@mail.example.org>."),
            ("a@b.co,b@c.de;x", "a***@b.co,b***@c.de;x"),
            ("élan@exämple.fr!", "é***@exämple.fr!"),
            ("mailto:x@y.zz.", "mailto:x***@y.zz."),
            ("a***@example.com", "a***@example.com"),
            (
                "@home a@b @ c@d. a@.com a@b.1 a@b..com x@",
                "@home a@b @ c@d. a@.com a@b.1 a@b..com x@",
            ),
            ("a@b@example.com", "a@b***@example.com"),
            // Cards.
            ("4111111111111111", "************1111"),
            ("pay 4111 1111 1111 1111 now", "pay **** **** **** 1111 now"),
            ("378282246310005", "***********0005"),
            ("5555-5555-5555-4444", "****-****-****-4444"),
            ("4111111111111112", "4111111111111112"),
            ("411111111111111", "411111111111111"),
            ("x4111111111111111", "x4111111111111111"),
            ("4111111111111111a", "4111111111111111a"),
            ("4111 1111-1111 1111", "4111 1111-1111 1111"),
            ("0000000000000000 1111111111111117", "0000000000000000 1111111111111117"),
            // Account numbers.
            ("DE89370400440532013000", "******************3000"),
            ("to DE89 3704 0044 0532 0130 00 please", "to **** **** **** **** **30 00 please"),
            ("gb82west12345698765432", "******************5432"),
            ("DE89370400440532013001", "DE89370400440532013001"),
            ("xDE89370400440532013000", "xDE89370400440532013000"),
            ("NO9386011117947", "***********7947"),
            // Telephones.
            ("+49 30 901820", "+** ** ****20"),
            ("call +1 (555) 010-9999!", "call +* (***) ***-**99!"),
            ("2026-01-01 10:00 +02", "2026-01-01 10:00 +02"),
            ("030 901820", "030 901820"),
            // Social security numbers.
            ("123-45-6789", "***-**-6789"),
            (
                "000-45-6789 666-45-6789 123-00-6789 1123-45-6789",
                "000-45-6789 666-45-6789 123-00-6789 1123-45-6789",
            ),
            // Ordinary things.
            ("2026-11-24 15:19:19.123456+00", "2026-11-24 15:19:19.123456+00"),
            ("550e8400-e29b-41d4-a716-446655440000", "550e8400-e29b-41d4-a716-446655440000"),
            ("10.0.0.1:5432 v1.2.3 100.000,00", "10.0.0.1:5432 v1.2.3 100.000,00"),
            ("", ""),
            // Several in one text.
            ("123-45-6789 4111111111111111 a@b.cd", "***-**-6789 ************1111 a***@b.cd"),
            ("order 1 2026 4111 1111 1111 1111 2027", "order 1 2026 **** **** **** 1111 2027"),
            ("0.4111111111111111 4111111111111111.5", "0.4111111111111111 4111111111111111.5"),
        ];
        let wrong = cases
            .iter()
            .filter(|(text, expected)| cleaned(text) != *expected)
            .map(|(text, _)| format!("{text:?}, {:?}", cleaned(text)))
            .collect::<Vec<_>>();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn reading_is_linear_and_never_panics() {
        for piece in ["@", "a@", "4", "41 ", "DE89", "DE89 3704 ", "+1", "1-", "é", "a@b.", "\u{0}"]
        {
            let text = piece.repeat(200_000);
            find(text.as_bytes(), &ALL);
            find(&text.as_bytes()[1..], &ALL);
        }
    }
}
