//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677) as pure state
//! machines: one state per awaited message, nonces and salts as parameters.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use pgwire::api::auth::sasl::scram::gen_salted_password;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// The mechanism without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The iterations of a verifier that pgate makes (PostgreSQL's own default).
pub const ITERATIONS: u32 = 4096;
/// The most iterations that a server may ask for: it must not keep us busy.
const MOST_ITERATIONS: u32 = 1_000_000;
const LONGEST: usize = 4096;

/// What goes wrong in an exchange.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message that isn't SCRAM, or not the next one.
    #[error("a SCRAM message is malformed ({0})")]
    Malformed(&'static str),
    /// The server asks for too many iterations.
    #[error("the server asks for {0} SCRAM iterations, more than {MOST_ITERATIONS}")]
    Iterations(u32),
    /// The client doesn't know the password.
    #[error("the password is wrong")]
    WrongPassword,
    /// The server doesn't know the password's verifier: it may be an impostor.
    #[error("the server could not prove that it knows the password")]
    Impostor,
    /// The server reports an error.
    #[error("the server refused the SCRAM exchange ({0})")]
    Refused(String),
}

type Key = [u8; 32];

fn mac(key: &[u8], data: &[u8]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

fn salted(password: &str, salt: &[u8], iterations: u32) -> Zeroizing<Vec<u8>> {
    let iterations = usize::try_from(iterations).unwrap_or(usize::MAX);
    Zeroizing::new(gen_salted_password(password, salt, iterations))
}

fn xor(left: &Key, right: &Key) -> Key {
    let mut out = [0; 32];
    for ((out, left), right) in out.iter_mut().zip(left).zip(right) {
        *out = left ^ right;
    }
    out
}

/// What a client derives of a password for one salt and number of iterations. It opens
/// the door as the password does, and only there: deriving it takes longer than all else
/// in a login, so a client that connects often keeps it.
#[derive(Clone)]
pub struct ClientKeys {
    salt: Vec<u8>,
    iterations: u32,
    client_key: Zeroizing<Key>,
    server_key: Zeroizing<Key>,
}

impl ClientKeys {
    fn derive(password: &str, salt: Vec<u8>, iterations: u32) -> Self {
        let salted = salted(password, &salt, iterations);
        Self {
            salt,
            iterations,
            client_key: Zeroizing::new(mac(&salted, b"Client Key")),
            server_key: Zeroizing::new(mac(&salted, b"Server Key")),
        }
    }

    fn are_for(&self, salt: &[u8], iterations: u32) -> bool {
        self.iterations == iterations && self.salt == salt
    }
}

impl std::fmt::Debug for ClientKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientKeys(secret)")
    }
}

/// What a server keeps of a password: enough to check it, not to use it elsewhere.
#[derive(Clone)]
pub struct Verifier {
    salt: Vec<u8>,
    iterations: u32,
    stored_key: Key,
    server_key: Key,
}

impl Verifier {
    /// Derives it. `iterations` is at least 1.
    pub fn new(password: &str, salt: &[u8], iterations: u32) -> Self {
        let iterations = iterations.max(1);
        let salted = salted(password, salt, iterations);
        let client_key = mac(&salted, b"Client Key");
        Self {
            salt: salt.to_vec(),
            iterations,
            stored_key: Sha256::digest(client_key).into(),
            server_key: mac(&salted, b"Server Key"),
        }
    }

    /// As PostgreSQL stores it: `SCRAM-SHA-256$4096:salt$stored:server`.
    fn text(&self) -> String {
        format!(
            "{SCRAM_SHA_256}${}:{}${}:{}",
            self.iterations,
            STANDARD.encode(&self.salt),
            STANDARD.encode(self.stored_key),
            STANDARD.encode(self.server_key)
        )
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier(secret)")
    }
}

/// The verifier of a password as PostgreSQL stores it (`pg_authid.rolpassword`), so
/// that the password itself is never in SQL text.
pub fn verifier(password: &str, salt: &[u8], iterations: u32) -> String {
    Verifier::new(password, salt, iterations).text()
}

/// Splits `a=…,b=…` and requires these attributes in this order; `rest` may follow.
fn attributes<'a, const N: usize>(
    text: &'a str,
    names: [&str; N],
) -> Result<([&'a str; N], Option<&'a str>), ScramError> {
    let mut rest = Some(text);
    let mut values = [""; N];
    for (name, value) in names.iter().zip(&mut values) {
        let current = rest.ok_or(ScramError::Malformed("an attribute is missing"))?;
        let (attribute, after) = match current.split_once(',') {
            Some((attribute, after)) => (attribute, Some(after)),
            None => (current, None),
        };
        *value = attribute
            .strip_prefix(name)
            .and_then(|found| found.strip_prefix('='))
            .ok_or(ScramError::Malformed("another attribute was expected"))?;
        rest = after;
    }
    Ok((values, rest))
}

fn utf8(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > LONGEST {
        return Err(ScramError::Malformed("too long"));
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("not UTF-8"))
}

fn decode(text: &str) -> Result<Vec<u8>, ScramError> {
    STANDARD.decode(text).map_err(|_| ScramError::Malformed("not base64"))
}

/// How a client binds the exchange to its TLS connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Not at all: there is no TLS, or the server's certificate gives no binding.
    Unsupported,
    /// The client could, and the server didn't offer it.
    NotOffered,
    /// By `tls-server-end-point` (RFC 5929): a hash of the server's certificate.
    EndPoint(Vec<u8>),
}

impl ChannelBinding {
    fn header(&self) -> &'static str {
        match self {
            Self::Unsupported => "n,,",
            Self::NotOffered => "y,,",
            Self::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    fn encoded(&self) -> String {
        let mut input = self.header().as_bytes().to_vec();
        if let Self::EndPoint(hash) = self {
            input.extend_from_slice(hash);
        }
        STANDARD.encode(input)
    }
}

/// A client that has said its first message.
#[derive(Debug)]
pub struct ClientFirst {
    binding: ChannelBinding,
    bare: String,
    nonce: String,
}

impl ClientFirst {
    /// Starts. `nonce` is random and printable, without a comma. `user` may be empty:
    /// PostgreSQL takes the name of the startup message.
    pub fn new(user: &str, nonce: &str, binding: ChannelBinding) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        Self { binding, bare: format!("n={user},r={nonce}"), nonce: nonce.to_owned() }
    }

    /// The mechanism that this exchange is.
    pub fn mechanism(&self) -> &'static str {
        match self.binding {
            ChannelBinding::EndPoint(_) => SCRAM_SHA_256_PLUS,
            ChannelBinding::Unsupported | ChannelBinding::NotOffered => SCRAM_SHA_256,
        }
    }

    /// The message to send.
    pub fn message(&self) -> String {
        format!("{}{}", self.binding.header(), self.bare)
    }

    /// Answers the server's first message. `known` are the keys of an earlier login, used
    /// where the server asks for the same ones, and else derived from the password anew;
    /// the keys that were used are returned.
    pub fn answer(
        self,
        server_first: &[u8],
        password: &str,
        known: Option<ClientKeys>,
    ) -> Result<(ClientFinal, String, ClientKeys), ScramError> {
        let server_first = utf8(server_first)?;
        let ([nonce, salt, iterations], _) = attributes(server_first, ["r", "s", "i"])?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ScramError::Malformed("the server's nonce doesn't extend ours"));
        }
        let salt = decode(salt)?;
        let iterations =
            iterations.parse::<u32>().map_err(|_| ScramError::Malformed("iterations"))?;
        if iterations == 0 {
            return Err(ScramError::Malformed("iterations"));
        }
        if iterations > MOST_ITERATIONS {
            return Err(ScramError::Iterations(iterations));
        }
        let keys = match known.filter(|keys| keys.are_for(&salt, iterations)) {
            Some(keys) => keys,
            None => ClientKeys::derive(password, salt, iterations),
        };
        let stored_key: Key = Sha256::digest(*keys.client_key).into();
        let without_proof = format!("c={},r={nonce}", self.binding.encoded());
        let signed = format!("{},{server_first},{without_proof}", self.bare);
        let proof = xor(&keys.client_key, &mac(&stored_key, signed.as_bytes()));
        let expected = mac(&*keys.server_key, signed.as_bytes());
        let message = format!("{without_proof},p={}", STANDARD.encode(proof));
        Ok((ClientFinal { expected }, message, keys))
    }
}

/// A client that has proved that it knows the password, and waits for the same.
#[derive(Debug)]
pub struct ClientFinal {
    expected: Key,
}

impl ClientFinal {
    /// Checks the server's last message.
    pub fn finish(self, server_final: &[u8]) -> Result<(), ScramError> {
        let server_final = utf8(server_final)?;
        if let Some(error) = server_final.strip_prefix("e=") {
            return Err(ScramError::Refused(error.chars().take(100).collect()));
        }
        let ([signature], _) = attributes(server_final, ["v"])?;
        if bool::from(decode(signature)?.ct_eq(&self.expected)) {
            Ok(())
        } else {
            Err(ScramError::Impostor)
        }
    }
}

/// A server that has sent its first message.
#[derive(Debug)]
pub struct ServerFirst {
    verifier: Verifier,
    header: String,
    nonce: String,
    client_bare: String,
    message: String,
}

impl ServerFirst {
    /// Answers a client's first message. `nonce` is random and printable, without a
    /// comma. Channel binding isn't offered, so a client that insists is refused.
    pub fn new(verifier: Verifier, client_first: &[u8], nonce: &str) -> Result<Self, ScramError> {
        let text = utf8(client_first)?;
        let (header, bare) = ["n,", "y,"]
            .iter()
            .find_map(|flag| text.strip_prefix(flag))
            .and_then(|rest| rest.split_once(','))
            .filter(|(authzid, _)| authzid.is_empty())
            .map(|(_, bare)| (&text[..text.len() - bare.len()], bare))
            .ok_or(ScramError::Malformed("channel binding isn't offered here"))?;
        let ([_, client_nonce], _) = attributes(bare, ["n", "r"])?;
        if client_nonce.is_empty() {
            return Err(ScramError::Malformed("no nonce"));
        }
        let nonce = format!("{client_nonce}{nonce}");
        let message =
            format!("r={nonce},s={},i={}", STANDARD.encode(&verifier.salt), verifier.iterations);
        Ok(Self {
            header: header.to_owned(),
            nonce,
            client_bare: bare.to_owned(),
            message,
            verifier,
        })
    }

    /// The message to send.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Checks the client's proof, and returns the server's last message.
    pub fn finish(self, client_final: &[u8]) -> Result<String, ScramError> {
        let text = utf8(client_final)?;
        let (without_proof, proof) =
            text.rsplit_once(",p=").ok_or(ScramError::Malformed("no proof"))?;
        let ([binding, nonce], _) = attributes(without_proof, ["c", "r"])?;
        if decode(binding)? != self.header.as_bytes() {
            return Err(ScramError::Malformed("another channel binding than at first"));
        }
        if nonce != self.nonce {
            return Err(ScramError::Malformed("another nonce than at first"));
        }
        let signed = format!("{},{},{without_proof}", self.client_bare, self.message);
        let proof: Key = decode(proof)?
            .try_into()
            .map_err(|_| ScramError::Malformed("a proof of another length"))?;
        let client_key =
            Zeroizing::new(xor(&proof, &mac(&self.verifier.stored_key, signed.as_bytes())));
        let stored_key: Key = Sha256::digest(*client_key).into();
        if !bool::from(stored_key.ct_eq(&self.verifier.stored_key)) {
            return Err(ScramError::WrongPassword);
        }
        let signature = mac(&self.verifier.server_key, signed.as_bytes());
        Ok(format!("v={}", STANDARD.encode(signature)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn server() -> ServerFirst {
        let verifier = Verifier::new("pencil", &STANDARD.decode(SALT).unwrap(), 4096);
        let first = format!("n,,n=user,r={CLIENT_NONCE}");
        ServerFirst::new(verifier, first.as_bytes(), SERVER_NONCE).unwrap()
    }

    #[test]
    fn the_example_of_rfc_7677_holds_on_both_sides() {
        let client = ClientFirst::new("user", CLIENT_NONCE, ChannelBinding::Unsupported);
        assert_eq!(client.message(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let server = server();
        assert_eq!(server.message(), SERVER_FIRST);
        let (client, message, _) = client.answer(SERVER_FIRST.as_bytes(), "pencil", None).unwrap();
        assert_eq!(message, CLIENT_FINAL);
        let message = server.finish(CLIENT_FINAL.as_bytes()).unwrap();
        assert_eq!(message, SERVER_FINAL);
        client.finish(SERVER_FINAL.as_bytes()).unwrap();
    }

    #[test]
    fn keys_of_an_earlier_login_serve_for_the_same_salt_and_iterations_and_no_others() {
        let client = || ClientFirst::new("user", CLIENT_NONCE, ChannelBinding::Unsupported);
        let (.., keys) = client().answer(SERVER_FIRST.as_bytes(), "pencil", None).unwrap();
        // Nothing is derived any more: the password given isn't even the right one.
        let (last, message, keys) =
            client().answer(SERVER_FIRST.as_bytes(), "unused", Some(keys)).unwrap();
        assert_eq!(message, CLIENT_FINAL);
        last.finish(SERVER_FINAL.as_bytes()).unwrap();
        for (from, to) in [("W22ZaJ0SNY7soEsUEjb6gQ==", "c2FsdA=="), ("i=4096", "i=4095")] {
            let other = SERVER_FIRST.replace(from, to);
            let (_, anew, _) = client().answer(other.as_bytes(), "pencil", None).unwrap();
            let known = Some(keys.clone());
            let (_, message, _) = client().answer(other.as_bytes(), "pencil", known).unwrap();
            assert_eq!(message, anew);
        }
        assert!(!format!("{keys:?}").contains("salt:"));
    }

    #[test]
    fn a_wrong_password_and_an_impostor_are_told_apart() {
        let client = ClientFirst::new("user", CLIENT_NONCE, ChannelBinding::Unsupported);
        let (client, message, _) = client.answer(SERVER_FIRST.as_bytes(), "pencils", None).unwrap();
        assert_eq!(server().finish(message.as_bytes()), Err(ScramError::WrongPassword));
        assert_eq!(client.finish(SERVER_FINAL.as_bytes()), Err(ScramError::Impostor));
    }

    #[test]
    fn a_server_cannot_choose_our_nonce_or_our_work() {
        for server_first in [
            "r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4294967295",
            "r=rOprNGfwEbeRWgbNEkqOx,i=4096",
            "s=W22ZaJ0SNY7soEsUEjb6gQ==,r=rOprNGfwEbeRWgbNEkqOx,i=4096",
            "",
        ] {
            let client = ClientFirst::new("", CLIENT_NONCE, ChannelBinding::Unsupported);
            assert!(
                client.answer(server_first.as_bytes(), "pencil", None).is_err(),
                "{server_first}"
            );
        }
    }

    #[test]
    fn a_client_message_of_another_shape_is_refused() {
        let verifier = || Verifier::new("pencil", b"salt", 1);
        for first in ["", "n", "n,,", "p=tls-server-end-point,,n=,r=x", "n,a=x,n=,r=x", "n,,r=x"] {
            assert!(ServerFirst::new(verifier(), first.as_bytes(), "y").is_err(), "{first}");
        }
        for last in ["", "c=biws", &CLIENT_FINAL.replace("biws", "eSws"), &CLIENT_FINAL[..60]] {
            assert!(server().finish(last.as_bytes()).is_err(), "{last}");
        }
    }

    #[test]
    fn a_verifier_has_postgresqls_spelling() {
        let text = verifier("pencil", &STANDARD.decode(SALT).unwrap(), 4096);
        let (head, keys) = text.rsplit_once('$').unwrap();
        assert_eq!(head, format!("SCRAM-SHA-256$4096:{SALT}"));
        assert_eq!(keys.split(':').map(str::len).collect::<Vec<_>>(), [44, 44]);
        assert!(!text.contains("pencil"));
    }
}
