//! The device flow's memory: which codes wait, who has answered, which refresh
//! tokens are good. Knows no HTTP.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::Person;

/// Letters of user codes: no vowels, so no words (RFC 8628 section 6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// What `slow_down` adds to the interval (RFC 8628 section 3.5).
const SLOW_DOWN: Duration = Duration::from_secs(5);
/// As many logins may wait at a time; the oldest goes first.
const MOST_FLOWS: usize = 1000;

/// Why a device code gets no tokens, by the names of RFC 8628 section 3.5 and
/// RFC 6749 section 5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    AuthorizationPending,
    SlowDown,
    AccessDenied,
    ExpiredToken,
    InvalidGrant,
}

impl Refusal {
    pub(super) fn code(self) -> &'static str {
        match self {
            Refusal::AuthorizationPending => "authorization_pending",
            Refusal::SlowDown => "slow_down",
            Refusal::AccessDenied => "access_denied",
            Refusal::ExpiredToken => "expired_token",
            Refusal::InvalidGrant => "invalid_grant",
        }
    }
}

/// The two codes of a started login.
pub(super) struct Codes {
    pub(super) device: String,
    pub(super) user: String,
}

/// All logins, and the refresh tokens that came of them.
#[derive(Default)]
pub(super) struct Flows {
    flows: Vec<Flow>,
    families: Vec<Family>,
}

struct Flow {
    device_code: String,
    user_code: String,
    expires_at: Instant,
    interval: Duration,
    last_poll: Option<Instant>,
    answer: Answer,
}

enum Answer {
    Waiting,
    Approved(Person),
    Denied,
}

/// The refresh tokens of one login. Only the last one is good; an older one
/// that comes back has been stolen, so the whole family ends (RFC 9700 section 4.14).
struct Family {
    person: Person,
    spent: Vec<String>,
    current: String,
}

impl Flows {
    pub(super) fn begin(&mut self, now: Instant, lifetime: Duration, interval: Duration) -> Codes {
        self.flows.retain(|flow| flow.expires_at + lifetime > now);
        if self.flows.len() >= MOST_FLOWS {
            self.flows.remove(0);
        }
        let codes = Codes { device: random_token(), user: random_user_code() };
        self.flows.push(Flow {
            device_code: codes.device.clone(),
            user_code: codes.user.clone(),
            expires_at: now + lifetime,
            interval,
            last_poll: None,
            answer: Answer::Waiting,
        });
        codes
    }

    pub(super) fn approve(&mut self, user_code: &str, person: Person) -> bool {
        self.answer(user_code, Answer::Approved(person))
    }

    pub(super) fn deny(&mut self, user_code: &str) -> bool {
        self.answer(user_code, Answer::Denied)
    }

    fn answer(&mut self, user_code: &str, answer: Answer) -> bool {
        let wanted = letters(user_code);
        let now = Instant::now();
        let waits = |flow: &&mut Flow| {
            letters(&flow.user_code) == wanted
                && matches!(flow.answer, Answer::Waiting)
                && now < flow.expires_at
        };
        match self.flows.iter_mut().find(waits) {
            Some(flow) => {
                flow.answer = answer;
                true
            }
            None => false,
        }
    }

    pub(super) fn waiting(&self) -> Vec<String> {
        let waiting = self.flows.iter().filter(|flow| matches!(flow.answer, Answer::Waiting));
        waiting.map(|flow| flow.user_code.clone()).collect()
    }

    /// One poll of the token endpoint. A device code gives tokens once.
    pub(super) fn poll(&mut self, device_code: &str, now: Instant) -> Result<Person, Refusal> {
        let place = self.flows.iter().position(|flow| flow.device_code == device_code);
        let at = place.ok_or(Refusal::InvalidGrant)?;
        let flow = &mut self.flows[at];
        if now >= flow.expires_at {
            return Err(Refusal::ExpiredToken);
        }
        // A tenth of tolerance: a client's timer may run a little ahead of ours.
        let early = flow.last_poll.is_some_and(|last| now - last < flow.interval.mul_f32(0.9));
        flow.last_poll = Some(now);
        if early {
            flow.interval += SLOW_DOWN;
            return Err(Refusal::SlowDown);
        }
        match &flow.answer {
            Answer::Waiting => Err(Refusal::AuthorizationPending),
            Answer::Denied => Err(Refusal::AccessDenied),
            Answer::Approved(person) => {
                let person = person.clone();
                self.flows.remove(at);
                Ok(person)
            }
        }
    }

    /// The first refresh token of a login.
    pub(super) fn first_refresh_token(&mut self, person: Person) -> String {
        let current = random_token();
        self.families.push(Family { person, spent: Vec::new(), current: current.clone() });
        current
    }

    /// Trades a refresh token for the next one.
    pub(super) fn refresh(&mut self, token: &str) -> Result<(Person, String), Refusal> {
        if let Some(family) = self.families.iter_mut().find(|family| family.current == token) {
            let next = random_token();
            family.spent.push(std::mem::replace(&mut family.current, next.clone()));
            return Ok((family.person.clone(), next));
        }
        self.families.retain(|family| !family.spent.iter().any(|spent| spent == token));
        Err(Refusal::InvalidGrant)
    }
}

/// 256 random bits, base64url.
pub(super) fn random_token() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// `XXXX-XXXX`: about 34 bits.
fn random_user_code() -> String {
    let mut code = (0..8)
        .map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())]))
        .collect::<String>();
    code.insert(4, '-');
    code
}

/// A user code as people type it: case and punctuation don't count.
fn letters(code: &str) -> String {
    let letters = code.chars().filter(char::is_ascii_alphabetic).take(16);
    letters.map(|letter| letter.to_ascii_uppercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(600);
    const INTERVAL: Duration = Duration::from_secs(2);

    fn ana() -> Person {
        Person::new("ana@example.com", &["engineering"])
    }

    #[test]
    fn a_poll_before_its_time_is_told_to_slow_down_and_then_held_to_it() {
        let (mut flows, start) = (Flows::default(), Instant::now());
        let code = flows.begin(start, LIFETIME, INTERVAL).device;
        let at = |seconds| start + Duration::from_secs(seconds);
        let cases = [
            (0, Refusal::AuthorizationPending),
            (2, Refusal::AuthorizationPending),
            (3, Refusal::SlowDown),
            (9, Refusal::SlowDown),
            (30, Refusal::AuthorizationPending),
            (600, Refusal::ExpiredToken),
        ];
        for (seconds, expected) in cases {
            assert_eq!(flows.poll(&code, at(seconds)), Err(expected), "after {seconds} s");
        }
    }

    #[test]
    fn an_approved_device_code_gives_tokens_once() {
        let (mut flows, start) = (Flows::default(), Instant::now());
        let codes = flows.begin(start, LIFETIME, INTERVAL);
        assert!(flows.approve(&codes.user.to_lowercase().replace('-', " "), ana()));
        assert!(!flows.deny(&codes.user), "the answer stands");
        assert_eq!(flows.poll(&codes.device, start), Ok(ana()));
        assert_eq!(flows.poll(&codes.device, start), Err(Refusal::InvalidGrant));
    }

    #[test]
    fn a_denied_login_says_so() {
        let (mut flows, start) = (Flows::default(), Instant::now());
        let codes = flows.begin(start, LIFETIME, INTERVAL);
        assert!(flows.deny(&codes.user));
        assert_eq!(flows.poll(&codes.device, start), Err(Refusal::AccessDenied));
    }

    #[test]
    fn a_refresh_token_that_comes_back_ends_its_family() {
        let mut flows = Flows::default();
        let first = flows.first_refresh_token(ana());
        let (_, second) = flows.refresh(&first).unwrap();
        let (_, third) = flows.refresh(&second).unwrap();
        assert_eq!(flows.refresh(&first), Err(Refusal::InvalidGrant));
        assert_eq!(flows.refresh(&third), Err(Refusal::InvalidGrant), "the thief's or ours");
    }
}
