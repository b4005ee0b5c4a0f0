//! What looks personal or secret: by a column's name, and by its values.
//!
//! A guess, and told as one: it makes people look, it never decides.

use std::collections::BTreeSet;

use serde::Serialize;

use super::survey::Sample;
use crate::{
    policy::{
        MaskKind,
        check_digits::{self, is_luhn},
        masking::{self, Source},
    },
    sql::Column,
};

/// A kind of personal or secret data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Personal {
    /// E-mail addresses.
    Email,
    /// Telephone numbers.
    Phone,
    /// Social security and other national numbers.
    NationalId,
    /// Payment card numbers (ISO/IEC 7812, with their check digit).
    Card,
    /// International bank account numbers (ISO 13616, with their check digits).
    Iban,
    /// Dates of birth.
    BirthDate,
    /// Postal addresses.
    Address,
    /// Passwords, their hashes, tokens and keys.
    Secret,
}

/// Last words of names that tell something about the data and aren't it.
const ABOUT: &str = "at on by count verified confirmed sent enabled disabled status type kind id \
    ids flag expires expiry expiration changed updated created attempts format template valid \
    validated optin preference preferences provider version length domain limit used usage ok \
    required policy subject reset";

/// Words and pairs of words that a name of this kind has.
const WORDS: [(Personal, &str); 8] = [
    (
        Personal::Secret,
        "password passwd pwd passphrase secret token apikey api_key access_key private_key secret_key credential credentials pin salt otp cvv cvc",
    ),
    (Personal::Email, "email emails e_mail mail mailaddress"),
    (Personal::Phone, "phone phones telephone tel mobile cellphone fax msisdn whatsapp"),
    (
        Personal::NationalId,
        "ssn sin nino cpf bsn pesel nin passport social_security national_id tax_id tax_number identity_number personal_number insurance_number driver_license drivers_license driving_licence",
    ),
    (
        Personal::Card,
        "pan card_number cardnumber card_no credit_card creditcard cc_number ccnumber cc_no",
    ),
    (Personal::Iban, "iban bic account_number bank_account accountnumber sort_code routing_number"),
    (Personal::BirthDate, "dob birthday birthdate birth_date birth born date_of_birth"),
    (
        Personal::Address,
        "address addresses street postcode zip zipcode postal postal_code home_address",
    ),
];

/// Parts of names that say it even without a word boundary.
const PARTS: [(Personal, &str); 5] = [
    (Personal::Secret, "password"),
    (Personal::Secret, "passwd"),
    (Personal::Email, "email"),
    (Personal::Phone, "phone"),
    (Personal::BirthDate, "birthda"),
];

impl Personal {
    /// What people call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Personal::Email => "e-mail addresses",
            Personal::Phone => "telephone numbers",
            Personal::NationalId => "national identity numbers",
            Personal::Card => "payment card numbers",
            Personal::Iban => "bank account numbers",
            Personal::BirthDate => "dates of birth",
            Personal::Address => "postal addresses",
            Personal::Secret => "passwords, tokens or keys",
        }
    }

    /// What a column's name and type suggest.
    pub fn of_column(column: &Column) -> Option<Self> {
        let words = words(&column.name);
        let last = words.last()?;
        if words.len() > 1
            && ABOUT.split_whitespace().any(|about| about == last)
            && !is_identity(&words)
        {
            return None;
        }
        let named = |wanted: &str| {
            let wanted = wanted.split('_').collect::<Vec<_>>();
            words.windows(wanted.len()).any(|pair| pair.iter().eq(wanted.iter()))
        };
        let by_word = WORDS
            .iter()
            .find(|(_, list)| list.split_whitespace().any(named))
            .map(|(kind, _)| *kind);
        let joined = words.concat();
        let by_part =
            || PARTS.iter().find(|(_, part)| joined.contains(part)).map(|(kind, _)| *kind);
        // An address of a machine or of a message is no postal one.
        let elsewhere = ["ip", "mac", "url", "web", "wallet", "bitcoin", "server", "host"];
        let kind = by_word.or_else(by_part)?;
        if kind == Personal::Address && words.iter().any(|word| elsewhere.contains(&word.as_str()))
        {
            return None;
        }
        kind.fits(column).then_some(kind)
    }

    /// Whether a column of this type can hold it.
    fn fits(self, column: &Column) -> bool {
        let base = &*column.base_type;
        let base = base.strip_prefix('_').unwrap_or(base);
        let text = matches!(base, "text" | "varchar" | "bpchar" | "json" | "jsonb" | "bytea")
            || base == "citext"
            || base.ends_with(".citext");
        text || match self {
            Personal::Phone | Personal::NationalId | Personal::Card => {
                matches!(base, "int4" | "int8" | "numeric")
            }
            Personal::BirthDate => matches!(base, "date" | "timestamp" | "timestamptz"),
            Personal::Secret => base == "uuid",
            Personal::Email | Personal::Iban | Personal::Address => false,
        }
    }

    /// What a value looks like. Values that hold several words are looked through.
    pub fn of_value(value: &str) -> BTreeSet<Self> {
        let mut found = BTreeSet::new();
        let separators = |c: char| {
            c.is_whitespace()
                || matches!(
                    c,
                    ',' | ';' | '"' | '\'' | '<' | '>' | '(' | ')' | '{' | '}' | '[' | ']'
                )
        };
        let words = value.split(separators).filter(|word| !word.is_empty()).take(500);
        for word in words {
            let word = word.trim_end_matches(['.', ':', '!', '?']);
            let word = word.strip_prefix("mailto:").unwrap_or(word);
            if is_email(word) {
                found.insert(Personal::Email);
            }
            if is_secret(word) {
                found.insert(Personal::Secret);
            }
        }
        let whole = value.trim().trim_matches(['{', '}', '"']);
        if is_iban(whole) {
            found.insert(Personal::Iban);
        } else if is_card(whole) {
            found.insert(Personal::Card);
        } else if is_national_id(whole) {
            found.insert(Personal::NationalId);
        } else if is_phone(whole) {
            found.insert(Personal::Phone);
        } else if is_address(whole) {
            found.insert(Personal::Address);
        }
        if value.contains("-----BEGIN ") && value.contains("PRIVATE KEY") {
            found.insert(Personal::Secret);
        }
        found
    }

    /// What a sample's values are, where enough of them look alike. What carries check
    /// digits or a shape of its own needs few; plain digits need most.
    pub(super) fn of_sample(sample: &Sample) -> Option<(Self, u32)> {
        let enough = |(kind, hits): &(&Personal, &u32)| {
            let percent = u64::from(**hits) * 100 / u64::from(sample.values.max(1));
            **hits > 0
                && match kind {
                    Personal::Email | Personal::Secret => true,
                    Personal::Iban => percent >= 5,
                    Personal::Card | Personal::Address => percent >= 30,
                    Personal::Phone | Personal::NationalId => percent >= 50,
                    Personal::BirthDate => false,
                }
        };
        let found = sample.hits.iter().filter(enough).max_by_key(|(_, hits)| **hits)?;
        Some((*found.0, *found.1))
    }

    /// The line of a policy that would cover such a column: the key and its item. A column
    /// that isn't even named after it may hold more than that.
    pub(super) fn cover(self, name: &str, column: &Column, named: bool) -> (&'static str, String) {
        let kind = match self {
            Personal::Secret if named => return ("hide", format!("\"{name}\"")),
            Personal::Email if named => MaskKind::Email,
            Personal::Secret | Personal::Email => MaskKind::Redact,
            Personal::Phone | Personal::NationalId | Personal::Card | Personal::Iban => {
                MaskKind::Last4
            }
            Personal::BirthDate => MaskKind::Year,
            Personal::Address => MaskKind::Redact,
        };
        let source = Source { value: "v", key: None };
        let kind = match masking::expression(&kind, column, Some(source)) {
            Ok(_) => kind,
            Err(_) => MaskKind::Redact,
        };
        let with = masking::name(&kind);
        ("mask", format!("{{ columns = [\"{name}\"], with = \"{with}\" }}"))
    }
}

/// `national_id`, `tax_id`: the last word belongs to the thing itself.
fn is_identity(words: &[String]) -> bool {
    matches!(words, [.., first, last] if last == "id" && matches!(first.as_str(), "national" | "tax"))
}

/// The words of a name: `passwordHash`, `password_hash` and `Password Hash` have the same.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower = false;
    for c in name.chars() {
        if !c.is_alphabetic() {
            words.push(String::new());
            lower = false;
            continue;
        }
        if c.is_uppercase() && lower {
            words.push(String::new());
        }
        lower = c.is_lowercase();
        if let Some(word) = words.last_mut() {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn is_email(word: &str) -> bool {
    let Some((local, domain)) = word.rsplit_once('@') else { return false };
    let plain = |c: char| c.is_ascii_alphanumeric() || ".!#$%&*+-/=?^_`{|}~".contains(c);
    let labels = domain.split('.').collect::<Vec<_>>();
    let label =
        |label: &&str| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-');
    let top = labels.last().copied().unwrap_or_default();
    !local.is_empty()
        && local.len() <= 64
        && local.chars().all(plain)
        && labels.len() >= 2
        && labels.iter().all(label)
        && top.len() >= 2
        && top.chars().all(char::is_alphabetic)
}

/// The digits of a number that is written with spaces or dashes at most.
fn digits(text: &str) -> Option<Vec<u8>> {
    let number = text.bytes().filter(|byte| !matches!(byte, b' ' | b'-'));
    number.map(|byte| byte.is_ascii_digit().then_some(byte)).collect()
}

/// 13 to 19 digits of a known scheme, with the check digit of Luhn's formula.
fn is_card(text: &str) -> bool {
    let Some(digits) = digits(text).filter(|digits| (13..=19).contains(&digits.len())) else {
        return false;
    };
    let known = matches!(digits.as_slice(), [b'4', ..] | [b'5', b'1'..=b'5', ..])
        || matches!(digits.as_slice(), [b'3', b'4' | b'5' | b'7', ..] | [b'2', b'2'..=b'7', ..])
        || matches!(digits.as_slice(), [b'6', b'0', b'1', b'1', ..] | [b'6', b'5', ..]);
    known && is_luhn(&digits)
}

/// Country, check digits and account, whose remainder by 97 is 1.
fn is_iban(text: &str) -> bool {
    let text = text.chars().filter(|c| *c != ' ').collect::<String>();
    let Some((head, account)) = text.split_at_checked(4) else { return false };
    let mut start = head.chars();
    let country = start.by_ref().take(2).all(|c| c.is_ascii_uppercase());
    let check = start.all(|c| c.is_ascii_digit());
    let known = account.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    country
        && check
        && known
        && (15..=34).contains(&text.len())
        && check_digits::is_iban(text.as_bytes())
}

/// A number of the United States' social security, as it is written.
fn is_national_id(text: &str) -> bool {
    let parts = text.split('-').collect::<Vec<_>>();
    let [area, group, serial] = parts.as_slice() else { return false };
    let number = |text: &str, length: usize| {
        text.len() == length
            && text.bytes().all(|b| b.is_ascii_digit())
            && !text.bytes().all(|b| b == b'0')
    };
    number(area, 3) && number(group, 2) && number(serial, 4) && *area != "666"
}

/// An international number, or one with brackets or several groups.
fn is_phone(text: &str) -> bool {
    let plain =
        |c: char| c.is_ascii_digit() || matches!(c, ' ' | '-' | '.' | '(' | ')' | '/' | '+');
    let digits = text.chars().filter(char::is_ascii_digit).count();
    if !text.chars().all(plain) || !(7..=15).contains(&digits) || is_a_date(text) {
        return false;
    }
    let groups = text.split([' ', '-', '.', '/', '(', ')']).filter(|group| !group.is_empty());
    text.starts_with('+') || text.starts_with('(') || (groups.count() >= 3 && !text.contains('+'))
}

/// `2024-01-02`, `01.02.2024`: digits in groups too.
fn is_a_date(text: &str) -> bool {
    let lengths = text.split(['-', '.', '/', ' ']).map(str::len).collect::<Vec<_>>();
    matches!(lengths.as_slice(), [4, 1 | 2, 1 | 2, ..] | [1 | 2, 1 | 2, 4, ..])
}

/// A house number and a street's word, in either order.
fn is_address(text: &str) -> bool {
    const STREETS: &str = "street st avenue ave road rd lane ln drive dr boulevard blvd court ct \
        terrace straße strasse str weg platz allee gasse rue calle rua";
    if text.len() > 200 || !text.chars().any(|c| c.is_ascii_digit()) {
        return false;
    }
    let lower = text.to_lowercase();
    let mut words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let number = lower
        .split(|c: char| !c.is_alphanumeric())
        .any(|word| word.len() <= 5 && word.starts_with(|c: char| c.is_ascii_digit()));
    number
        && lower.split_whitespace().count() >= 2
        && words.any(|word| {
            STREETS.split_whitespace().any(|street| street == word)
                || word.len() > 6 && (word.ends_with("straße") || word.ends_with("strasse"))
        })
}

/// Hashes of passwords, signed tokens and keys whose issuers mark them.
fn is_secret(word: &str) -> bool {
    const MARKS: [&str; 22] = [
        "$2a$",
        "$2b$",
        "$2y$",
        "$argon2",
        "$scrypt$",
        "$pbkdf2",
        "pbkdf2_sha",
        "scrypt:",
        "$5$",
        "$6$",
        "$y$",
        "$1$",
        "{SSHA",
        "SCRAM-SHA-256$",
        "ghp_",
        "gho_",
        "github_pat_",
        "glpat-",
        "xoxb-",
        "xoxp-",
        "sk_live_",
        "AKIA",
    ];
    let long = word.len() >= 16;
    let token = word.starts_with("eyJ") && word.split('.').count() == 3 && word.len() >= 40;
    long && (token || MARKS.iter().any(|mark| word.starts_with(mark)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Catalog;

    fn column(name: &str, base: &str) -> Column {
        let catalog = Catalog::builder().table("shop.t", &[(name, base)]).build();
        catalog.relation_named("shop", "t").unwrap().columns[0].clone()
    }

    #[test]
    fn names_suggest_what_a_column_holds() {
        use Personal::*;
        for (name, base, expected) in [
            ("email", "text", Some(Email)),
            ("emailAddress", "varchar", Some(Email)),
            ("useremail", "text", Some(Email)),
            ("email_verified", "bool", None),
            ("email_sent_at", "timestamptz", None),
            ("email_count", "int4", None),
            ("mail_address", "text", Some(Email)),
            ("phones", "_text", Some(Phone)),
            ("home_phone", "int8", Some(Phone)),
            ("phone_id", "int8", None),
            ("ssn", "bpchar", Some(NationalId)),
            ("national_id", "text", Some(NationalId)),
            ("session", "text", None),
            ("card_number", "text", Some(Card)),
            ("company", "text", None),
            ("iban", "text", Some(Iban)),
            ("account_number", "text", Some(Iban)),
            ("account_id", "int8", None),
            ("date_of_birth", "date", Some(BirthDate)),
            ("born", "date", Some(BirthDate)),
            ("birth_date", "int4", None),
            ("address", "jsonb", Some(Address)),
            ("address_id", "int8", None),
            ("ip_address", "text", None),
            ("zip", "text", Some(Address)),
            ("password_hash", "text", Some(Secret)),
            ("passwordHash", "text", Some(Secret)),
            ("password_reset_token", "uuid", Some(Secret)),
            ("password_changed_at", "timestamptz", None),
            ("api_key", "text", Some(Secret)),
            ("total", "numeric", None),
            ("name", "text", None),
            ("pinned", "bool", None),
        ] {
            assert_eq!(Personal::of_column(&column(name, base)), expected, "{name} {base}");
        }
    }

    #[test]
    fn values_tell_what_they_are_by_their_shape_and_check_digits() {
        use Personal::*;
        for (value, expected) in [
            ("ana@example.com", &[Email][..]),
            ("call ana@example.com, please.", &[Email]),
            (r#"{"mail": "ana@example.co.uk"}"#, &[Email]),
            ("ana@localhost", &[]),
            ("@example.com", &[]),
            ("4111 1111 1111 1111", &[Card]),
            ("4111111111111112", &[]),
            ("9111111111111111", &[]),
            ("DE89 3704 0044 0532 0130 00", &[Iban]),
            ("DE88370400440532013000", &[]),
            ("GB82WEST12345698765432", &[Iban]),
            ("078-05-1120", &[NationalId]),
            // No such area: at most a number to call.
            ("000-05-1120", &[Phone]),
            ("+49 30 901820", &[Phone]),
            ("{+1-555-0100}", &[Phone]),
            ("(202) 555-0143", &[Phone]),
            ("2024-01-02", &[]),
            ("12.5", &[]),
            ("10042", &[]),
            ("12 Station Street", &[Address]),
            ("Hauptstraße 5, Berlin", &[Address]),
            ("the 2 of us went this way", &[]),
            ("no number street", &[]),
            ("$2b$12$0123456789abcdef0123456789abcdef", &[Secret]),
            ("-----BEGIN RSA PRIVATE KEY-----", &[Secret]),
            ("d41d8cd98f00b204e9800998ecf8427e", &[]),
            ("", &[]),
        ] {
            let found = Personal::of_value(value).into_iter().collect::<Vec<_>>();
            assert_eq!(found, expected, "{value}");
        }
    }

    #[test]
    fn a_sample_speaks_only_where_enough_values_look_alike() {
        let of = |values: &[&str]| {
            let mut sample = Sample::default();
            values.iter().for_each(|value| sample.add(value));
            Personal::of_sample(&sample)
        };
        assert_eq!(of(&["x", "y", "write to ana@example.com"]), Some((Personal::Email, 1)));
        assert_eq!(
            of(&["4111111111111111", "1", "2", "3"]),
            None,
            "one in ten numbers passes Luhn"
        );
        assert_eq!(of(&["4111111111111111", "5500005555555559"]), Some((Personal::Card, 2)));
        assert_eq!(of(&["", " "]), None);
    }

    #[test]
    fn the_proposed_cover_fits_the_type() {
        for (name, base, expected) in [
            ("email", "text", r#"{ columns = ["s.t.email"], with = "email" }"#),
            ("emails", "_text", r#"{ columns = ["s.t.emails"], with = "redact" }"#),
            ("born", "date", r#"{ columns = ["s.t.born"], with = "year" }"#),
            ("phone", "int8", r#"{ columns = ["s.t.phone"], with = "last4" }"#),
        ] {
            let column = column(name, base);
            let kind = Personal::of_column(&column).unwrap();
            assert_eq!(
                kind.cover(&format!("s.t.{name}"), &column, true),
                ("mask", expected.to_owned())
            );
        }
    }
}
