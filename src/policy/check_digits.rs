//! Check digits: what makes a run of digits a card's or an account's number.
//!
//! Owns the arithmetic. It refuses to look for numbers in a text.

/// Whether ASCII digits end in the check digit of Luhn's formula (ISO/IEC 7812).
pub fn is_luhn(digits: &[u8]) -> bool {
    let sum = digits.iter().rev().enumerate().fold(0_u32, |sum, (place, digit)| {
        let digit = u32::from(digit.saturating_sub(b'0'));
        let doubled = digit * if place % 2 == 1 { 2 } else { 1 };
        sum + if doubled > 9 { doubled - 9 } else { doubled }
    });
    sum.is_multiple_of(10)
}

/// Whether a country, its check digits and an account, all in ASCII digits and capitals,
/// leave 1 when divided by 97 (ISO 13616).
pub fn is_iban(characters: &[u8]) -> bool {
    let (head, rest) = characters.split_at(4.min(characters.len()));
    let remainder = rest.iter().chain(head).fold(0_u32, |remainder, character| match character {
        b'0'..=b'9' => (remainder * 10 + u32::from(character - b'0')) % 97,
        letter => (remainder * 100 + u32::from(letter.saturating_sub(b'A')) + 10) % 97,
    });
    remainder == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_digit_or_two_that_changed_places_are_seen() {
        assert!(is_luhn(b"4111111111111111") && is_luhn(b"378282246310005"));
        assert!(!is_luhn(b"4111111111111112") && !is_luhn(b"1411111111111111"));
        assert!(is_iban(b"DE89370400440532013000") && is_iban(b"GB82WEST12345698765432"));
        assert!(!is_iban(b"DE89370400440532013001") && !is_iban(b"DE98370400440532013000"));
        assert!(!is_iban(b"") && !is_iban(b"DE8"));
    }
}
