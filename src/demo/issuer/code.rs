//! The authorization code flow (RFC 6749 section 4.1) with PKCE (RFC 7636): what a browser
//! was sent here to ask, and which codes are good. Knows no HTTP.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use url::{Host, Url};

use super::{Person, State, device::random_token};

/// How long a code is good for.
const LIFETIME: Duration = Duration::from_secs(60);
/// As many codes may wait at a time; the oldest goes first.
const MOST_CODES: usize = 1000;
/// Where clients are called back. As RFC 8252 section 7.3 says of loopback, any port will do.
const CALLBACK: &str = "/login/callback";

/// A request for a sign-in that can be answered.
#[derive(Debug)]
pub(super) struct Asked {
    redirect: Url,
    /// As the client wrote it: it must write it so again.
    redirect_text: String,
    challenge: String,
    state: Option<String>,
    nonce: Option<String>,
}

impl Asked {
    /// Reads what a browser brings, or says why it can't be answered.
    pub(super) fn read(state: &State, fields: &[(String, String)]) -> Result<Self, &'static str> {
        let field = |wanted: &str| -> Result<Option<&str>, &'static str> {
            let mut values = fields.iter().filter(|(name, _)| name == wanted);
            let value = values.next().map(|(_, value)| value.as_str());
            if values.next().is_some() { Err("a parameter is there twice") } else { Ok(value) }
        };
        let must = |name: &str, value: &str, why: &'static str| {
            if field(name)? == Some(value) { Ok(()) } else { Err(why) }
        };
        must("client_id", &state.options.client_id, "there is no such client")?;
        let text = field("redirect_uri")?.unwrap_or_default();
        let redirect = Url::parse(text).map_err(|_| "the redirect URI is no URL")?;
        if !registered(&redirect) {
            return Err("the redirect URI is not one of the client's");
        }
        must("response_type", "code", "only the code flow is served")?;
        must("code_challenge_method", "S256", "the request has no PKCE challenge (S256)")?;
        let challenge = field("code_challenge")?.unwrap_or_default();
        if challenge.len() != 43 {
            return Err("the request has no PKCE challenge (S256)");
        }
        let scope = field("scope")?.unwrap_or_default();
        if !scope.split(' ').any(|scope| scope == "openid") {
            return Err("the request has no scope \"openid\"");
        }
        Ok(Self {
            redirect,
            redirect_text: text.to_owned(),
            challenge: challenge.to_owned(),
            state: field("state")?.map(str::to_owned),
            nonce: field("nonce")?.map(str::to_owned),
        })
    }

    /// Where the browser goes: with a code for this person, or with a refusal. The answer
    /// names its issuer (RFC 9207).
    pub(super) fn answered(
        self,
        issuer: &str,
        person: Option<&Person>,
        codes: &mut Codes,
        now: Instant,
    ) -> Url {
        let mut back = self.redirect.clone();
        let state = self.state.clone();
        let (name, value) = match person {
            Some(person) => ("code", codes.give(self, person.clone(), now)),
            None => ("error", "access_denied".to_owned()),
        };
        let mut query = back.query_pairs_mut();
        query.append_pair(name, &value).append_pair("iss", issuer);
        if let Some(state) = state {
            query.append_pair("state", &state);
        }
        drop(query);
        back
    }
}

fn registered(redirect: &Url) -> bool {
    let loopback = matches!(redirect.host(), Some(Host::Ipv4(address)) if address.is_loopback());
    loopback
        && redirect.scheme() == "http"
        && redirect.path() == CALLBACK
        && redirect.query().is_none()
        && redirect.fragment().is_none()
}

/// What a code was traded for.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) person: Person,
    pub(super) nonce: Option<String>,
}

/// The codes that nobody has redeemed yet.
#[derive(Default)]
pub(super) struct Codes(Vec<Code>);

struct Code {
    text: String,
    asked: Asked,
    person: Person,
    good_until: Instant,
}

impl Codes {
    fn give(&mut self, asked: Asked, person: Person, now: Instant) -> String {
        self.0.retain(|code| now < code.good_until);
        if self.0.len() >= MOST_CODES {
            self.0.remove(0);
        }
        let text = random_token();
        self.0.push(Code { text: text.clone(), asked, person, good_until: now + LIFETIME });
        text
    }

    /// Trades a code, once, whatever comes of it.
    pub(super) fn redeem(
        &mut self,
        form: &HashMap<String, String>,
        now: Instant,
    ) -> Option<Granted> {
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let place = self.0.iter().position(|code| code.text == field("code"))?;
        let Code { asked, person, good_until, .. } = self.0.remove(place);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(field("code_verifier")));
        let good = now < good_until
            && challenge == asked.challenge
            && field("redirect_uri") == asked.redirect_text;
        good.then_some(Granted { person, nonce: asked.nonce })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Asked {
        let redirect_text = "http://127.0.0.1:7432/login/callback";
        Asked {
            redirect: Url::parse(redirect_text).unwrap(),
            redirect_text: redirect_text.to_owned(),
            challenge: URL_SAFE_NO_PAD.encode(Sha256::digest("verifier")),
            state: Some("s".into()),
            nonce: Some("n".into()),
        }
    }

    fn redeemed(changed: &[(&str, &str)], after: Duration) -> bool {
        let (mut codes, now) = (Codes::default(), Instant::now());
        let code = codes.give(asked(), Person::new("ana@example.com", &[]), now);
        let mut form = HashMap::from([
            ("code".to_owned(), code),
            ("code_verifier".to_owned(), "verifier".to_owned()),
            ("redirect_uri".to_owned(), asked().redirect_text),
        ]);
        form.extend(
            changed.iter().map(|(name, value)| (String::from(*name), String::from(*value))),
        );
        let granted = codes.redeem(&form, now + after).is_some();
        assert!(codes.redeem(&form, now).is_none(), "once");
        granted
    }

    #[test]
    fn a_code_is_good_once_for_a_minute_and_for_whoever_asked_for_it() {
        let soon = Duration::from_secs(1);
        assert!(redeemed(&[], soon));
        assert!(!redeemed(&[], LIFETIME));
        assert!(!redeemed(&[("code_verifier", "other")], soon));
        assert!(!redeemed(&[("redirect_uri", "http://127.0.0.1:7433/login/callback")], soon));
        assert!(!redeemed(&[("code", "other")], soon));
    }

    #[test]
    fn browsers_are_sent_back_to_this_machine_only() {
        let good = ["http://127.0.0.1:1/login/callback", "http://127.0.0.1:65535/login/callback"];
        let bad = [
            "https://evil.example.com/login/callback",
            "http://127.0.0.1.example.com/login/callback",
            "http://127.0.0.1:1@evil.example.com/login/callback",
            "http://127.0.0.1:1/login/callback?next=x",
            "http://127.0.0.1:1/login/callback#x",
            "http://127.0.0.1:1/other",
        ];
        for (list, expected) in [(&good[..], true), (&bad[..], false)] {
            for text in list {
                assert_eq!(registered(&Url::parse(text).unwrap()), expected, "{text}");
            }
        }
    }
}
