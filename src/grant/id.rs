//! Identifiers that people read aloud and paste: a short prefix that says what it
//! is, then 80 random bits in Crockford's base 32 (lower case, no `i l o u`).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const DIGITS: usize = 16;

/// A text that is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a {what} id (expected {prefix} and {DIGITS} letters or digits)")]
pub struct IdError {
    text: String,
    what: &'static str,
    prefix: &'static str,
}

fn encode(random: [u8; 10]) -> String {
    let mut bits = 0u128;
    for byte in random {
        bits = bits << 8 | u128::from(byte);
    }
    (0..DIGITS)
        .rev()
        .map(|digit| char::from(ALPHABET[(bits >> (digit * 5) & 31) as usize]))
        .collect()
}

macro_rules! id {
    ($name:ident, $prefix:literal, $what:literal) => {
        #[doc = concat!("The id of a ", $what, ": `", $prefix, "` and 16 base-32 digits.")]
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Makes an id of 80 random bits.
            pub fn from_random(random: [u8; 10]) -> Self {
                Self(format!(concat!($prefix, "{}"), encode(random)))
            }

            /// The id as text, prefix included.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let fits = text.strip_prefix($prefix).is_some_and(|rest| {
                    rest.len() == DIGITS && rest.bytes().all(|byte| ALPHABET.contains(&byte))
                });
                if fits {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(IdError {
                        text: text.chars().take(64).collect(),
                        what: $what,
                        prefix: $prefix,
                    })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(GrantId, "gr_", "grant");
id!(SessionId, "se_", "session");
id!(HoldId, "ho_", "hold");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_the_randomness_is_kept() {
        assert_eq!(GrantId::from_random([0; 10]).as_str(), "gr_0000000000000000");
        assert_eq!(GrantId::from_random([255; 10]).as_str(), "gr_zzzzzzzzzzzzzzzz");
        let mut low = [0; 10];
        low[9] = 1;
        assert_eq!(SessionId::from_random(low).as_str(), "se_0000000000000001");
    }

    #[test]
    fn a_text_of_another_kind_or_shape_is_refused() {
        for text in [
            "",
            "gr_",
            "gr_000000000000000",
            "gr_000000000000000u",
            "se_0000000000000000",
            "gr_../../../etc/pas",
        ] {
            assert!(text.parse::<GrantId>().is_err(), "{text}");
        }
    }
}
