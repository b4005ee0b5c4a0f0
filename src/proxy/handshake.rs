//! The start-up of a client connection: first packets, start-up parameters, and the
//! password.
//!
//! It refuses what could change how SQL is read or what is enforced: encodings,
//! replication, and settings that SET isn't allowed either.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{admission::Refusal, engine::Ended, stream::Stream};
use crate::policy::{self, Role};
use crate::wire::{
    self, Authentication, BEFORE_AUTHENTICATION, ErrorFields, FirstPacket, PROTOCOL_3_0,
    PROTOCOL_3_2, Startup, WireError, field,
    scram::{SCRAM_SHA_256, ServerFirst, Verifier},
};

/// The bytes of a connection's first packet that say how long it is.
const FIRST_HEAD: usize = 4;
/// What a client usually sends at once, and less than it, in bytes.
const USUAL: usize = 512;
/// PostgreSQL's limit on `application_name`, in bytes.
const LONGEST_NAME: usize = 63;

/// What went wrong before a session began.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the client's connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the client broke the protocol: {0}")]
    Protocol(#[from] WireError),
    #[error("the client was refused: {0}")]
    Refused(String),
}

/// Who may connect.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub(super) user: String,
    pub(super) database: String,
    pub(super) verifier: Verifier,
    /// Whose settings it may send.
    pub(super) role: Arc<Role>,
    /// Begins every `application_name` upstream.
    pub(super) label: String,
}

/// What a client came for.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A session, authenticated.
    Session(Welcome),
    /// To cancel a statement of another connection.
    Cancel { process: i32, secret: Vec<u8> },
    /// It left without a word (a port scan, libpq's SSL attempt given up).
    Gone,
    /// It began TLS without asking, which isn't offered here.
    DirectTls,
}

/// A client that may have a session.
#[derive(Debug)]
pub(super) struct Welcome {
    /// The parameters that it sent, for the log.
    pub(super) sent: BTreeMap<String, String>,
    /// The parameters to send upstream.
    pub(super) upstream: BTreeMap<String, String>,
    /// The length of its cancel secret, in bytes.
    pub(super) secret_length: usize,
    /// What it hasn't been told yet: that it is who it says. It goes out with what comes
    /// next, be that the session or a refusal.
    pub(super) greeting: BytesMut,
    /// What it has sent behind its start-up already.
    pub(super) early: BytesMut,
}

/// What a client sends before its session, message by message. A read may take more than
/// one of them: libpq sends one at a time, but nothing forbids to send them at once.
struct Hearing<'a> {
    stream: &'a mut Stream,
    heard: BytesMut,
}

impl Hearing<'_> {
    /// Waits until this many bytes have been heard; false where the client has closed its
    /// side without another word.
    async fn hears(&mut self, length: usize) -> io::Result<bool> {
        while self.heard.len() < length {
            if self.stream.read_buf(&mut self.heard).await? == 0 {
                if self.heard.is_empty() {
                    return Ok(false);
                }
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(true)
    }

    async fn first(&mut self) -> Result<First, HandshakeError> {
        if !self.hears(FIRST_HEAD).await? {
            return Ok(First::Nothing);
        }
        let head = self.heard.first_chunk::<FIRST_HEAD>().copied().unwrap_or_default();
        if wire::is_direct_tls(head) {
            return Ok(First::Tls);
        }
        let length = wire::first_packet_length(head)?;
        self.hears(length).await?;
        Ok(First::Packet(self.heard.split_to(length)))
    }

    async fn password(&mut self) -> Result<BytesMut, HandshakeError> {
        if !self.hears(wire::HEADER).await? {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let header = wire::header(&self.heard)?.ok_or(WireError::Unexpected("SASLResponse"))?;
        if header.tag != b'p' {
            return Err(WireError::Unexpected("SASLResponse").into());
        }
        if header.length > BEFORE_AUTHENTICATION {
            let length = u32::try_from(header.length).unwrap_or(u32::MAX);
            return Err(WireError::Length { length, limit: BEFORE_AUTHENTICATION }.into());
        }
        self.hears(header.length).await?;
        Ok(self.heard.split_to(header.length))
    }

    async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }
}

/// What a connection begins with.
enum First {
    Nothing,
    Packet(BytesMut),
    Tls,
}

/// Leads a client through the start-up, up to AuthenticationOk, which it isn't told yet.
/// `trusted` is whether the peer's user id is our own, which stands for the password.
pub(super) async fn receive(
    stream: &mut Stream,
    door: &Door,
    trusted: bool,
) -> Result<Arrival, HandshakeError> {
    let mut client = Hearing { stream, heard: BytesMut::with_capacity(USUAL) };
    // SSLRequest and GSSENCRequest once each, then the packet that counts.
    for _ in 0..3 {
        let packet = match client.first().await? {
            First::Packet(packet) => packet,
            First::Nothing => return Ok(Arrival::Gone),
            First::Tls => {
                client.say(wire::direct_tls_refused()).await?;
                client.stream.shutdown().await?;
                return Ok(Arrival::DirectTls);
            }
        };
        match wire::first_packet(&packet) {
            Ok(FirstPacket::Ssl | FirstPacket::Gss) => {
                client.say(wire::encryption_refused()).await?;
            }
            Ok(FirstPacket::Cancel { process, secret }) => {
                return Ok(Arrival::Cancel { process, secret });
            }
            Ok(FirstPacket::Startup(startup)) => {
                return session(client, door, trusted, startup).await.map(Arrival::Session);
            }
            Ok(FirstPacket::OtherVersion(version)) => {
                let (major, minor) = (version >> 16, version & 0xffff);
                let message = format!("pgate speaks protocol 3.0 and 3.2, not {major}.{minor}");
                return Err(refuse(client.stream, &own("0A000", message, "")).await);
            }
            Err(error) => {
                return Err(refuse(client.stream, &own("08P01", error.to_string(), "")).await);
            }
        }
    }
    Err(WireError::Unexpected("StartupMessage").into())
}

async fn session(
    mut client: Hearing<'_>,
    door: &Door,
    trusted: bool,
    startup: Startup,
) -> Result<Welcome, HandshakeError> {
    let mut out = BytesMut::new();
    let version = if startup.version >= PROTOCOL_3_2 { PROTOCOL_3_2 } else { PROTOCOL_3_0 };
    let unknown: Vec<String> =
        startup.parameters.keys().filter(|name| name.starts_with("_pq_.")).cloned().collect();
    if version != startup.version || !unknown.is_empty() {
        wire::negotiate_protocol_version(version, unknown, &mut out);
    }
    let upstream = match plan(&startup.parameters, door) {
        Ok(upstream) => upstream,
        Err(refusal) => return Err(refuse_after(out, client.stream, &refusal).await),
    };
    let mut greeting = match trusted {
        true => out,
        false => authenticate(&mut client, out, door).await?,
    };
    wire::authentication(&Authentication::Ok, &mut greeting);
    Ok(Welcome {
        sent: startup.parameters,
        upstream,
        secret_length: if version == PROTOCOL_3_2 { 32 } else { 4 },
        greeting,
        early: client.heard,
    })
}

/// Asks for the password, behind what is in `out`; returns what is left to say.
async fn authenticate(
    client: &mut Hearing<'_>,
    mut out: BytesMut,
    door: &Door,
) -> Result<BytesMut, HandshakeError> {
    wire::authentication(&Authentication::Sasl(vec![SCRAM_SHA_256.to_owned()]), &mut out);
    client.say(&out).await?;
    let first = client.password().await?;
    let (mechanism, data) = wire::parse_sasl_initial(&first)?;
    if mechanism != SCRAM_SHA_256 {
        let message = format!("pgate authenticates by {SCRAM_SHA_256} only");
        return Err(refuse(client.stream, &own("28000", message, "")).await);
    }
    let nonce = super::random_text();
    let server = match ServerFirst::new(door.verifier.clone(), data, &nonce) {
        Ok(server) => server,
        Err(error) => {
            return Err(refuse(client.stream, &own("08P01", error.to_string(), "")).await);
        }
    };
    out.clear();
    let challenge = server.message().as_bytes().to_vec();
    wire::authentication(&Authentication::SaslContinue(challenge), &mut out);
    client.say(&out).await?;
    let last = client.password().await?;
    let proof = last.get(wire::HEADER..).unwrap_or_default();
    match server.finish(proof) {
        Ok(message) => {
            out.clear();
            wire::authentication(&Authentication::SaslFinal(message.into_bytes()), &mut out);
            Ok(out)
        }
        Err(_) => {
            let message = format!("password authentication failed for user \"{}\"", door.user);
            let hint = "The password is this session's own: pgate prints it, and PGPASSWORD holds \
                        it in the commands that pgate starts.";
            Err(refuse(client.stream, &own("28P01", message, hint)).await)
        }
    }
}

/// What a client is told that took too long over its start-up.
pub(super) fn too_slow(patience: Duration) -> Refusal {
    let message = format!("the start-up wasn't over after {} seconds", patience.as_secs());
    own("57014", message, "")
}

/// What a client is told when the session ends before its start-up is over.
pub(super) fn ended(ended: &Ended) -> Refusal {
    own("57P01", ended.message(), "")
}

/// Turns a client away that hasn't said anything, without waiting for it.
pub(super) fn turn_away(stream: &Stream, message: &str) {
    let mut out = BytesMut::new();
    ErrorFields::new("FATAL", "53300", message).error_response(&mut out);
    // A fresh connection has room for it; if not, the end of the connection says enough.
    let _ = stream.try_write(&out);
}

fn own(sqlstate: &'static str, message: String, hint: &str) -> Refusal {
    let (detail, hint) = (String::new(), hint.to_owned());
    Refusal { statement: 0, sqlstate, message, detail, hint, position: None }
}

/// Tells a client that it is refused.
pub(super) async fn refuse(stream: &mut Stream, refusal: &Refusal) -> HandshakeError {
    refuse_after(BytesMut::new(), stream, refusal).await
}

/// The same behind what it hasn't been told yet.
pub(super) async fn refuse_after(
    mut out: BytesMut,
    stream: &mut Stream,
    refusal: &Refusal,
) -> HandshakeError {
    ErrorFields::new("FATAL", refusal.sqlstate, &refusal.message)
        .with(field::DETAIL, &refusal.detail)
        .with(field::HINT, &refusal.hint)
        .error_response(&mut out);
    if let Err(error) = stream.write_all(&out).await {
        return error.into();
    }
    // The client may have gone already; what it was told doesn't change.
    let _ = stream.shutdown().await;
    HandshakeError::Refused(refusal.message.clone())
}

/// Checks the start-up parameters, and says what goes upstream.
fn plan(sent: &BTreeMap<String, String>, door: &Door) -> Result<BTreeMap<String, String>, Refusal> {
    let user = sent.get("user").map(String::as_str).unwrap_or_default();
    if user != door.user {
        return Err(own(
            "28000",
            format!("this pgate session is for user \"{}\", not \"{user}\"", door.user),
            "Leave the user out: PGUSER is set, and the connection string names it.",
        ));
    }
    let database = sent.get("database").map_or(user, String::as_str);
    if database != door.database {
        return Err(own(
            "3D000",
            format!("this pgate session is for database \"{}\" only", door.database),
            "Leave the database out (PGDATABASE is set), or ask for a grant on its target.",
        ));
    }
    let mut settings = Vec::new();
    let mut application = "";
    for (name, value) in sent {
        match name.to_ascii_lowercase().as_str() {
            "user" | "database" => {}
            "application_name" => application = value,
            "options" => settings.extend(split_options(value)?),
            "replication" => {
                let off = ["false", "off", "no", "0"].contains(&value.as_str());
                if !off {
                    return Err(own(
                        "42501",
                        "pgate doesn't carry replication".to_owned(),
                        "Use an ordinary connection.",
                    ));
                }
            }
            known if known.starts_with("_pq_.") => {}
            other => settings.push((other.to_owned(), value.clone())),
        }
    }
    let mut upstream = BTreeMap::new();
    for (name, value) in settings {
        match name.as_str() {
            "client_encoding" => check_encoding(&value)?,
            "standard_conforming_strings" => {
                if !["on", "true", "yes", "1"].contains(&value.to_ascii_lowercase().as_str()) {
                    return Err(setting_refused(&name, "it changes how SQL is read"));
                }
            }
            _ => {
                if let Some(denied) = policy::refuse_at_startup(&name, &value, &door.role) {
                    return Err(setting_refused(&name, &denied.reason));
                }
                upstream.insert(name, value);
            }
        }
    }
    upstream.insert("application_name".to_owned(), application_name(&door.label, application));
    Ok(upstream)
}

fn setting_refused(name: &str, why: &str) -> Refusal {
    let name: String = name.chars().take(64).collect();
    own(
        "42501",
        format!("pgate doesn't take the setting \"{name}\" at start-up: {why}"),
        "Leave it out of PGOPTIONS and of the connection string. A start-up may send what SET \
         may be told.",
    )
}

/// UTF8 under its names; SQL_ASCII too, which clients in the C locale ask for and which
/// means "as it is": ParameterStatus tells them that it is UTF8.
fn check_encoding(value: &str) -> Result<(), Refusal> {
    let plain: String =
        value.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    if ["utf8", "unicode", "sqlascii"].contains(&plain.as_str()) {
        return Ok(());
    }
    Err(own(
        "22023",
        format!(
            "pgate carries client_encoding UTF8 only, not \"{}\"",
            value.chars().take(64).collect::<String>()
        ),
        "Set PGCLIENTENCODING=UTF8.",
    ))
}

/// `pgate se_… psql`, the client's own name where it fits in 63 bytes.
fn application_name(label: &str, client: &str) -> String {
    let both = format!("{label} {client}");
    if client.is_empty() || both.len() > LONGEST_NAME { label.to_owned() } else { both }
}

/// Splits the `options` parameter as PostgreSQL does: by white space, `\` quoting the
/// next character; `-c name=value` and `--name=value`.
fn split_options(options: &str) -> Result<Vec<(String, String)>, Refusal> {
    let refused = |what: &str| {
        let what: String = what.chars().take(64).collect();
        own(
            "42501",
            format!("pgate doesn't take \"{what}\" in the startup options"),
            "Write -c name=value or --name=value.",
        )
    };
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.get_or_insert_default().extend(characters.next()),
            space if space.is_ascii_whitespace() || space == '\x0b' => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let assignment = if word == "-c" {
            words.next().ok_or_else(|| refused(&word))?
        } else if let Some(rest) = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            rest.to_owned()
        } else {
            return Err(refused(&word));
        };
        let (name, value) = assignment.split_once('=').ok_or_else(|| refused(&word))?;
        // PostgreSQL reads `-` in a name as `_`.
        settings.push((name.replace('-', "_").to_ascii_lowercase(), value.to_owned()));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role() -> Role {
        let text = "[target.t]\nurl = \"postgres://localhost/shop\"\n\
            credential = { kind = \"ephemeral\", admin_url = \"env:ADMIN_URL\" }\n\
            [role.r]\ntargets = [\"t\"]\nlimits = { statement_timeout = \"30s\" }\n";
        let policy = policy::parse(&[("t.toml".to_owned(), text.to_owned())]).unwrap();
        policy.roles["r"].clone()
    }

    fn door() -> Door {
        Door {
            user: "pgate_se_1".into(),
            database: "shop".into(),
            verifier: Verifier::new("secret", b"salt", 1),
            role: Arc::new(role()),
            label: "pgate se_0123456789abcdef".into(),
        }
    }

    fn planned(extra: &[(&str, &str)]) -> Result<BTreeMap<String, String>, Refusal> {
        let mut sent = BTreeMap::from([
            ("user".to_owned(), "pgate_se_1".to_owned()),
            ("database".to_owned(), "shop".to_owned()),
        ]);
        sent.extend(extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        plan(&sent, &door())
    }

    #[test]
    fn harmless_settings_go_upstream_and_everything_else_is_refused() {
        type Sent = &'static [(&'static str, &'static str)];
        let cases: [(Sent, Result<&str, &str>); 22] = [
            (&[("DateStyle", "ISO")], Ok("datestyle=ISO")),
            (&[("options", "-c TimeZone=UTC --jit=off")], Ok("jit=off timezone=UTC")),
            (&[("options", "-cgeqo=on")], Ok("geqo=on")),
            (
                &[("options", "--default_transaction_isolation=serializable")],
                Ok("default_transaction_isolation=serializable"),
            ),
            (&[("options", r"-c datestyle=ISO,\ MDY")], Ok("datestyle=ISO, MDY")),
            (&[("client_encoding", "'utf-8'")], Ok("")),
            (&[("client_encoding", "SQL_ASCII")], Ok("")),
            (&[("client_encoding", "LATIN1")], Err("22023")),
            (&[("options", "-c standard_conforming_strings=off")], Err("42501")),
            (&[("options", "-c standard-conforming-strings=off")], Err("42501")),
            (&[("search_path", "evil")], Err("42501")),
            (&[("options", "-c statement_timeout=0")], Err("42501")),
            (&[("options", "-c statement_timeout=10s")], Ok("statement_timeout=10s")),
            (&[("client_min_messages", "warning")], Ok("client_min_messages=warning")),
            (&[("client_min_messages", "debug5")], Err("42501")),
            (&[("options", "-c client-min-messages=LOG")], Err("42501")),
            (&[("options", "--debug-print-plan=on")], Err("42501")),
            (&[("options", "-c default_transaction_read_only=off")], Err("42501")),
            (&[("options", "-B 10")], Err("42501")),
            (&[("replication", "database")], Err("42501")),
            (&[("user", "postgres")], Err("28000")),
            (&[("database", "postgres")], Err("3D000")),
        ];
        for (extra, expected) in cases {
            let found = planned(extra).map(|mut upstream| {
                assert_eq!(
                    upstream.remove("application_name").as_deref(),
                    Some("pgate se_0123456789abcdef")
                );
                let pairs = upstream.into_iter().map(|(name, value)| format!("{name}={value}"));
                pairs.collect::<Vec<_>>().join(" ")
            });
            let found = found.as_deref().map_err(|refusal| refusal.sqlstate);
            assert_eq!(found, expected, "{extra:?}");
        }
    }

    #[test]
    fn the_session_id_leads_the_application_name() {
        let label = "pgate se_0123456789abcdef";
        assert_eq!(application_name(label, "psql"), format!("{label} psql"));
        assert_eq!(application_name(label, &"x".repeat(37)).len(), 63);
        assert_eq!(application_name(label, &"x".repeat(38)), label);
    }
}
