//! A development OIDC issuer: discovery, keys, the device flow (RFC 8628) and the
//! authorization code flow with PKCE (RFC 7636) for a handful of made-up people, on
//! loopback.
//!
//! It asks nobody for a password: whoever reaches its verification page picks
//! who to be. So it listens on 127.0.0.1 only, answers no other host name, and
//! keeps everything in memory. What it signs is real (EdDSA, RFC 8037), and it
//! holds clients to the protocol as strictly as a production issuer does.

mod code;
mod device;
mod page;
mod routes;

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::grant::SigningKey;
use code::Codes;
use device::Flows;

/// Why the issuer doesn't do as it is told.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// No port to listen on.
    #[error("the development issuer can't listen on 127.0.0.1: {0}")]
    Listen(#[from] io::Error),
    /// Nobody waits with this code.
    #[error("no login waits with this code; it may have expired, start again")]
    UnknownCode,
    /// No such person.
    #[error("the development issuer knows nobody called {0}")]
    UnknownPerson(String),
}

/// Somebody whom the issuer knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The `sub` claim.
    pub subject: String,
    /// The `email` claim.
    pub email: String,
    /// The `groups` claim.
    pub groups: Vec<String>,
}

impl Person {
    /// Somebody whose subject is the part of the address before the `@`.
    pub fn new(email: &str, groups: &[&str]) -> Self {
        let subject = email.split('@').next().unwrap_or(email).to_owned();
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        Self { subject, email: email.to_owned(), groups }
    }
}

/// What an issuer should be like.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whom it knows.
    pub people: Vec<Person>,
    /// The client id.
    pub client_id: String,
    /// The seconds between two polls; none leaves it out, which means 5 (RFC 8628 section 3.2).
    pub interval: Option<u32>,
    /// How long a user code is good for.
    pub code_lifetime: Duration,
    /// How long an ID token is good for.
    pub token_lifetime: Duration,
}

/// Ana (engineering) and Dan (engineering and dba), quick polls, tokens for an hour.
impl Default for Options {
    fn default() -> Self {
        Self {
            people: vec![
                Person::new("ana@example.com", &["engineering"]),
                Person::new("dan@example.com", &["engineering", "dba"]),
            ],
            client_id: "pgate".to_owned(),
            interval: Some(1),
            code_lifetime: Duration::from_secs(600),
            token_lifetime: Duration::from_secs(3600),
        }
    }
}

/// A running development issuer. Dropping it stops it.
pub struct Issuer {
    state: Arc<State>,
    server: JoinHandle<()>,
}

/// What the routes share.
struct State {
    url: String,
    authority: String,
    options: Options,
    inner: Mutex<Inner>,
}

struct Inner {
    /// The first one signs; all are published.
    keys: Vec<SigningKey>,
    flows: Flows,
    codes: Codes,
}

impl Issuer {
    /// Starts an issuer on a free port of 127.0.0.1. Needs a tokio runtime.
    pub async fn start(options: Options) -> Result<Self, IssuerError> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let authority = listener.local_addr()?.to_string();
        let state = Arc::new(State {
            url: format!("http://{authority}"),
            authority,
            options,
            inner: Mutex::new(Inner {
                keys: vec![new_key()],
                flows: Flows::default(),
                codes: Codes::default(),
            }),
        });
        let router = routes::router(Arc::clone(&state));
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "the development issuer stopped");
            }
        });
        Ok(Self { state, server })
    }

    /// The issuer's URL, `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.state.url
    }

    /// Does what a person does on the verification page: lets the login with
    /// this user code go on as the person with this address.
    pub fn approve(&self, user_code: &str, email: &str) -> Result<(), IssuerError> {
        self.state.approve(user_code, email)
    }

    /// Does what a person does who refuses a login on the verification page.
    pub fn deny(&self, user_code: &str) -> Result<(), IssuerError> {
        self.state.deny(user_code)
    }

    /// The user codes that wait for somebody, oldest first.
    pub fn waiting(&self) -> Vec<String> {
        self.state.lock().flows.waiting()
    }

    /// Signs with a new key from now on. The old ones stay published.
    pub fn rotate_key(&self) {
        self.state.lock().keys.insert(0, new_key());
    }

    /// Publishes the current key only, so that nothing signed with another is valid.
    pub fn withdraw_old_keys(&self) {
        self.state.lock().keys.truncate(1);
    }

    /// An ID token for a person, as the device flow would give, without the flow.
    pub fn id_token(&self, email: &str) -> Result<SecretString, IssuerError> {
        let person = self.state.person(email)?;
        Ok(self.state.sign(&self.state.id_claims(person)))
    }

    /// A workload token as a CI system gives one: for `audience`, about
    /// `subject`, with further claims (`repository`, `ref`, …).
    pub fn workload_token(
        &self,
        audience: &str,
        subject: &str,
        claims: &BTreeMap<String, String>,
    ) -> SecretString {
        let mut all = self.state.registered_claims(audience, subject);
        all.extend(claims.iter().map(|(name, value)| (name.clone(), json!(value))));
        self.state.sign(&all)
    }

    /// A token of exactly these claims over the registered ones, for tests of
    /// what a verifier must refuse.
    pub fn token_with(&self, email: &str, claims: Value) -> Result<SecretString, IssuerError> {
        let mut all = self.state.id_claims(self.state.person(email)?);
        if let Value::Object(claims) = claims {
            all.extend(claims);
        }
        Ok(self.state.sign(&all))
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What is behind the lock is whole after every step, panics included.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn person(&self, email: &str) -> Result<&Person, IssuerError> {
        let mut people = self.options.people.iter();
        let unknown = || IssuerError::UnknownPerson(email.chars().take(100).collect());
        people.find(|person| person.email == email).ok_or_else(unknown)
    }

    fn approve(&self, user_code: &str, email: &str) -> Result<(), IssuerError> {
        let person = self.person(email)?.clone();
        if self.lock().flows.approve(user_code, person) {
            Ok(())
        } else {
            Err(IssuerError::UnknownCode)
        }
    }

    fn deny(&self, user_code: &str) -> Result<(), IssuerError> {
        if self.lock().flows.deny(user_code) { Ok(()) } else { Err(IssuerError::UnknownCode) }
    }

    fn registered_claims(&self, audience: &str, subject: &str) -> Map<String, Value> {
        let now = Timestamp::now().as_second();
        let lifetime = i64::try_from(self.options.token_lifetime.as_secs()).unwrap_or(i64::MAX);
        let claims = [
            ("iss", json!(self.url)),
            ("sub", json!(subject)),
            ("aud", json!(audience)),
            ("iat", json!(now)),
            ("exp", json!(now.saturating_add(lifetime))),
            ("jti", json!(device::random_token())),
        ];
        claims.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn id_claims(&self, person: &Person) -> Map<String, Value> {
        let mut claims = self.registered_claims(&self.options.client_id, &person.subject);
        claims.insert("email".to_owned(), json!(person.email));
        claims.insert("email_verified".to_owned(), json!(true));
        claims.insert("groups".to_owned(), json!(person.groups));
        claims
    }

    fn sign(&self, claims: &Map<String, Value>) -> SecretString {
        let inner = self.lock();
        let key = inner.keys.first().expect("there is a key from the start, and one always stays");
        let token = key.sign_jws("JWT", claims).expect("a JSON object can be written as JSON");
        SecretString::from(token)
    }
}

fn new_key() -> SigningKey {
    SigningKey::from_seed(&rand::random::<[u8; 32]>())
}
