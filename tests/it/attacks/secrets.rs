//! What must not get out, and how it is looked for: in every byte that a client
//! has received, as it is and in the simple encodings that a query can make.

use std::collections::{HashMap, HashSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::client::Received;

/// The secrets of the world, as parts of bytes by which they are known.
pub(super) struct Secrets {
    /// The declared secrets, so that a guess in a case's own text isn't taken for a leak.
    plain: Vec<String>,
    /// The parts by their first four bytes, and the secret of each.
    parts: HashMap<[u8; 4], Vec<(Vec<u8>, String)>>,
}

impl Secrets {
    /// Reads the declarations of the world; hashes of whole values are PostgreSQL's own.
    pub(super) async fn declared(world: &str, admin: &mut PgConnection) -> Self {
        let mut secrets = Self { plain: Vec::new(), parts: HashMap::new() };
        for line in world.lines().filter_map(|line| line.strip_prefix("-- secret ")) {
            let (kind, value) = line.split_once(' ').expect("a kind and a value");
            match kind {
                "word" => secrets.word(value),
                "digits" => secrets.digits(value),
                "uuid" => secrets.uuid(value),
                "text" => {
                    secrets.add(value, value, usize::MAX);
                    secrets.add(value, &plain(value), usize::MAX);
                    secrets.add(value, &reversed(value), usize::MAX);
                    if let Ok(address) = value.parse::<std::net::Ipv4Addr>() {
                        secrets.add_bytes(value, &address.octets(), usize::MAX);
                    }
                }
                "value" => {
                    let sql = format!(
                        "SELECT md5(v), encode(sha224(v::bytea), 'hex'), encode(sha256(v::bytea), 'hex'),
                                encode(sha512(v::bytea), 'hex'), hashtext(v)::text, hashtextextended(v, 0)::text
                         FROM (VALUES ('{value}')) t (v)"
                    );
                    let row =
                        sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(&mut *admin).await.unwrap();
                    for at in 0..row.len() {
                        let hash = row.get::<String, _>(at);
                        secrets.add(value, hash.trim_start_matches('-'), 16);
                    }
                }
                other => panic!("a secret of an unknown kind: {other}"),
            }
        }
        secrets
    }

    fn word(&mut self, word: &str) {
        self.plain.push(word.to_owned());
        let letters = word.as_bytes();
        let each =
            |write: &dyn Fn(u8) -> String| letters.iter().map(|b| write(*b)).collect::<String>();
        self.add(word, word, 5);
        self.add(word, &reversed(word), 5);
        self.add(word, &each(&|b| char::from((b - b'a' + 13) % 26 + b'a').to_string()), 5);
        let upper = word.to_ascii_uppercase();
        for spelled in [word, &upper] {
            for shift in 0..3 {
                let padded = format!("{}{spelled}", "x".repeat(shift));
                let encoded = STANDARD.encode(padded).trim_end_matches('=').to_owned();
                // The first and last characters depend on what stands beside.
                let inner = &encoded[shift * 2..encoded.len() - 2];
                self.add_bytes(word, inner.as_bytes(), 7);
            }
        }
        for code in [|b: u8| u32::from(b), |b: u8| u32::from(b.to_ascii_uppercase())] {
            self.add(word, &each(&|b| format!("{:02x}", code(b))), 10);
            self.add(word, &each(&|b| code(b).to_string()), 12);
            self.add(word, &each(&|b| format!("{:o}", code(b))), 12);
            self.add(word, &each(&|b| format!("{:08b}", code(b))), 40);
            self.add(word, &each(&|b| format!("{:x}", code(b) as f32 as u32)), 10);
            self.add(word, &each(&|b| format!("u{:04x}", code(b))), 20);
            self.add(word, &each(&|b| format!("{:04x}", code(b))), 20);
        }
        // A register that holds the first letters as one number.
        let number = letters.iter().take(7).fold(0_u64, |sum, b| sum * 256 + u64::from(*b));
        self.add(word, &number.to_string(), usize::MAX);
    }

    fn digits(&mut self, digits: &str) {
        self.plain.push(digits.to_owned());
        self.add(digits, digits, 9);
        self.add(digits, &reversed(digits), 9);
        let number: i64 = digits.parse().expect("a number");
        self.add(digits, &format!("{number:x}"), usize::MAX);
        self.add(digits, &format!("{number:o}"), usize::MAX);
        self.add(digits, &format!("{:.6}", number as f64 / 1e14).replace('.', ""), usize::MAX);
        self.add_bytes(digits, &number.to_be_bytes(), usize::MAX);
        for other in [number * 2, number + 1, number - 1, number * 10] {
            self.add(digits, &other.to_string(), usize::MAX);
        }
    }

    fn uuid(&mut self, uuid: &str) {
        let hex = plain(uuid);
        self.add(uuid, &hex, 12);
        let bytes = (0..16).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap());
        self.add_bytes(uuid, &bytes.collect::<Vec<_>>(), 8);
    }

    fn add(&mut self, secret: &str, text: &str, window: usize) {
        self.add_bytes(secret, text.to_ascii_lowercase().as_bytes(), window);
    }

    fn add_bytes(&mut self, secret: &str, bytes: &[u8], window: usize) {
        for part in bytes.windows(window.min(bytes.len())) {
            let part = part.to_ascii_lowercase();
            let key = *part.first_chunk().expect("a part of four bytes or more");
            self.parts.entry(key).or_default().push((part, secret.to_owned()));
        }
    }

    /// The secrets that these texts give away. A guess that the case's own text holds
    /// is known to whoever wrote it.
    pub(super) fn among<'a>(
        &self,
        heard: impl IntoIterator<Item = &'a [u8]>,
        own_text: &str,
    ) -> HashSet<String> {
        let own = plain(own_text);
        let mut found = HashSet::new();
        for heard in heard {
            for (at, key) in heard.windows(4).enumerate() {
                let key = <[u8; 4]>::try_from(key).expect("four bytes");
                for (part, secret) in self.parts.get(&key).into_iter().flatten() {
                    let guessed = self.plain.contains(secret) && own.contains(&**secret);
                    if heard[at..].starts_with(part) && !guessed {
                        found.insert(secret.clone());
                    }
                }
            }
        }
        found
    }

    /// The secrets that a client has received, however the values lie in rows.
    pub(super) fn in_received(&self, received: &Received, own_text: &str) -> HashSet<String> {
        let mut heard = vec![received.bytes().to_ascii_lowercase()];
        for values in received.values_in_a_row() {
            heard.push(values.to_ascii_lowercase());
        }
        let stripped = heard.iter().map(|bytes| {
            bytes.iter().copied().filter(u8::is_ascii_alphanumeric).collect::<Vec<_>>()
        });
        let stripped = stripped.collect::<Vec<_>>();
        self.among(heard.iter().chain(&stripped).map(Vec::as_slice), own_text)
    }
}

fn reversed(text: &str) -> String {
    text.chars().rev().collect()
}

fn plain(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}
