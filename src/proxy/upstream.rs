//! Connections to PostgreSQL: dialling, TLS, authentication, start-up.
//!
//! Opening one takes a [`ConnectionPermit`]. MD5 passwords are refused, and so are
//! cleartext ones without TLS.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::BytesMut;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::{
    admission::ConnectionPermit,
    estimate::{self, Bound},
    stream::Stream,
    tls::{self, Check, Tls},
};
use crate::{
    api::DatabaseAccess,
    sql::quote_identifier,
    wire::{
        self, Authentication, BackendKey, ErrorFields, WireError,
        scram::{
            ChannelBinding, ClientFirst, ClientKeys, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramError,
        },
    },
};

/// How long dialling, TLS and authentication may take together.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the answer to a [`query_text`] may take.
const QUERY_PATIENCE: Duration = Duration::from_secs(60);
/// The longest message during start-up, in bytes.
const LONGEST_AT_START: usize = 64 * 1024;
/// The longest answer of a [`query_text`], in bytes.
const LONGEST_ANSWER: usize = 256 * 1024 * 1024;

/// What goes wrong upstream.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Nobody answers.
    #[error("the database at {place} can't be reached: {error}")]
    Unreachable {
        /// Where.
        place: String,
        /// Why not.
        error: io::Error,
    },
    /// The connection breaks.
    #[error("the connection to the database broke: {0}")]
    Broken(#[from] io::Error),
    /// It takes too long.
    #[error("the database did not answer in time")]
    Slow,
    /// TLS fails.
    #[error("TLS with the database failed: {0}")]
    Tls(String),
    /// The server has no TLS, and the target demands it.
    #[error("the database doesn't offer TLS, and the target's sslmode demands it")]
    NoTls,
    /// An `sslmode` that pgate doesn't carry.
    #[error("sslmode \"{0}\" is not carried: use disable, require, verify-ca or verify-full")]
    SslMode(String),
    /// The server wants another kind of authentication.
    #[error("the database wants {0}, which pgate doesn't speak: let it use scram-sha-256")]
    Method(String),
    /// SCRAM fails.
    #[error("authentication at the database failed: {0}")]
    Scram(#[from] ScramError),
    /// The server says no.
    #[error("the database refused: {message} (SQLSTATE {sqlstate})")]
    Refused {
        /// Its SQLSTATE.
        sqlstate: String,
        /// Its message.
        message: String,
    },
    /// The server sends what isn't the protocol.
    #[error("the database broke the protocol: {0}")]
    Protocol(#[from] WireError),
    /// The server won't speak as pgate must read.
    #[error("the database set {name} to \"{value}\"; pgate needs {needed}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it must be.
        needed: &'static str,
    },
}

/// Where PostgreSQL listens.
#[derive(Debug, Clone)]
enum Place {
    Tcp { host: String, port: u16, tls: Option<Tls> },
    Unix(PathBuf),
}

/// How to reach a database, and as whom.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    place: Place,
    user: String,
    password: SecretString,
    database: String,
    search_path: Option<String>,
    /// Of the last login, shared by all that connect by this configuration.
    keys: Arc<Mutex<Option<ClientKeys>>>,
}

impl UpstreamConfig {
    /// Reads what the control plane says. A host that begins with `/` is the folder of a
    /// Unix socket, where TLS has no place.
    pub fn new(access: &DatabaseAccess) -> Result<Self, UpstreamError> {
        let ca = access.ca_pem.as_deref();
        let check = match access.sslmode.as_str() {
            "disable" => None,
            // As libpq does: with an authority given, `require` checks it.
            "require" if ca.is_none() => Some(Check::Nothing),
            "require" | "verify-ca" => Some(Check::Chain),
            "verify-full" => Some(Check::ChainAndName),
            other => return Err(UpstreamError::SslMode(other.chars().take(40).collect())),
        };
        let place = if access.host.starts_with('/') {
            let file = format!(".s.PGSQL.{}", access.port);
            Place::Unix(PathBuf::from(&access.host).join(file))
        } else {
            let tls = check.map(|check| Tls::new(&access.host, check, ca)).transpose()?;
            Place::Tcp { host: access.host.clone(), port: access.port, tls }
        };
        Ok(Self {
            place,
            user: access.user.clone(),
            password: access.password.clone(),
            database: access.database.clone(),
            search_path: None,
            keys: Arc::default(),
        })
    }

    /// Begins every session with this search path; with an empty one, with the database's own.
    #[must_use]
    pub fn with_search_path(mut self, schemas: &[String]) -> Self {
        let quoted = schemas.iter().map(|schema| quote_identifier(schema)).collect::<Vec<_>>();
        self.search_path = (!quoted.is_empty()).then(|| quoted.join(", "));
        self
    }

    /// The database role.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Dials, with TLS where it is wanted. Nothing has been said of who we are.
    pub(super) async fn dial(
        &self,
        _permit: &ConnectionPermit,
    ) -> Result<(Stream, ChannelBinding), UpstreamError> {
        match &self.place {
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| {
                    UpstreamError::Unreachable { place: path.display().to_string(), error }
                })?;
                Ok((Stream::Unix(stream), ChannelBinding::Unsupported))
            }
            Place::Tcp { host, port, tls } => {
                let mut stream =
                    TcpStream::connect((host.as_str(), *port)).await.map_err(|error| {
                        UpstreamError::Unreachable { place: format!("{host}:{port}"), error }
                    })?;
                stream.set_nodelay(true)?;
                let Some(tls) = tls else {
                    return Ok((Stream::Tcp(stream), ChannelBinding::Unsupported));
                };
                stream.write_all(&wire::ssl_request()).await?;
                // One byte and no more: what follows belongs to TLS.
                match stream.read_u8().await? {
                    b'S' => {}
                    b'N' => return Err(UpstreamError::NoTls),
                    _ => return Err(WireError::Unexpected("SSL").into()),
                }
                let stream = tls.handshake(stream).await?;
                let binding = match tls::end_point(&stream) {
                    Some(hash) => ChannelBinding::EndPoint(hash),
                    None => ChannelBinding::Unsupported,
                };
                Ok((Stream::Tls(Box::new(stream)), binding))
            }
        }
    }

    /// Connects, authenticates and starts a session with these further startup
    /// parameters; returns when the server is ready for a query.
    pub async fn connect(
        &self,
        permit: &ConnectionPermit,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Upstream, UpstreamError> {
        timeout(PATIENCE, self.start(permit, parameters)).await.unwrap_or(Err(UpstreamError::Slow))
    }

    async fn start(
        &self,
        permit: &ConnectionPermit,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Upstream, UpstreamError> {
        let (stream, binding) = self.dial(permit).await?;
        let encrypted = matches!(stream, Stream::Tls(_));
        let mut upstream =
            Upstream { stream, input: BytesMut::new(), key: None, parameters: Vec::new() };
        let mut all = parameters.clone();
        for (name, value) in [
            ("user", self.user.as_str()),
            ("database", &self.database),
            ("client_encoding", "UTF8"),
            ("standard_conforming_strings", "on"),
        ] {
            all.insert(name.to_owned(), value.to_owned());
        }
        if let Some(path) = &self.search_path {
            all.insert("search_path".to_owned(), path.clone());
        }
        upstream.stream.write_all(&wire::startup_message(&all)?).await?;
        self.authenticate(&mut upstream, binding, encrypted).await?;
        loop {
            let message = upstream.message(LONGEST_AT_START).await?;
            match message.first() {
                Some(b'S') => {
                    let (name, value) = wire::parse_parameter_status(&message)?;
                    upstream.parameters.push((name.to_owned(), value.to_owned()));
                }
                Some(b'K') => upstream.key = Some(wire::parse_backend_key(&message)?),
                Some(b'N') => {}
                Some(b'Z') => break,
                Some(b'E') => return Err(refused(&message)?),
                _ => return Err(WireError::Unexpected("ReadyForQuery").into()),
            }
        }
        for (name, needed) in [("client_encoding", "UTF8"), ("standard_conforming_strings", "on")] {
            let value = upstream.parameter(name).unwrap_or_default();
            if value != needed {
                return Err(UpstreamError::Setting { name, value: value.to_owned(), needed });
            }
        }
        Ok(upstream)
    }

    async fn authenticate(
        &self,
        upstream: &mut Upstream,
        binding: ChannelBinding,
        encrypted: bool,
    ) -> Result<(), UpstreamError> {
        let mut out = BytesMut::new();
        let mechanisms = match upstream.authentication().await? {
            Authentication::Ok => return Ok(()),
            Authentication::Sasl(mechanisms) => mechanisms,
            Authentication::Other(wire::CLEARTEXT_PASSWORD) if encrypted => {
                let mut password = self.password.expose_secret().as_bytes().to_vec();
                password.push(0);
                wire::password_response(&password, &mut out);
                upstream.stream.write_all(&out).await?;
                upstream.stream.flush().await?;
                return match upstream.authentication().await? {
                    Authentication::Ok => Ok(()),
                    _ => Err(WireError::Unexpected("AuthenticationOk").into()),
                };
            }
            Authentication::Other(wire::CLEARTEXT_PASSWORD) => {
                return Err(UpstreamError::Method("a cleartext password without TLS".to_owned()));
            }
            Authentication::Other(wire::MD5_PASSWORD) => {
                return Err(UpstreamError::Method("an MD5 password".to_owned()));
            }
            Authentication::Other(code) => {
                return Err(UpstreamError::Method(format!("authentication method {code}")));
            }
            Authentication::SaslContinue(_) | Authentication::SaslFinal(_) => {
                return Err(WireError::Unexpected("Authentication").into());
            }
        };
        let offers = |name: &str| mechanisms.iter().any(|offered| offered == name);
        let binding = match binding {
            ChannelBinding::EndPoint(hash) if offers(SCRAM_SHA_256_PLUS) => {
                ChannelBinding::EndPoint(hash)
            }
            ChannelBinding::EndPoint(_) => ChannelBinding::NotOffered,
            other => other,
        };
        let nonce = super::random_text();
        let first = ClientFirst::new("", &nonce, binding);
        if !offers(first.mechanism()) {
            return Err(UpstreamError::Method(format!("SASL without {SCRAM_SHA_256}")));
        }
        wire::sasl_initial_response(first.mechanism(), first.message().as_bytes(), &mut out);
        upstream.stream.write_all(&out).await?;
        upstream.stream.flush().await?;
        let Authentication::SaslContinue(challenge) = upstream.authentication().await? else {
            return Err(WireError::Unexpected("AuthenticationSASLContinue").into());
        };
        let known = self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (last, answer, keys) =
            first.answer(&challenge, self.password.expose_secret(), known)?;
        out.clear();
        wire::password_response(answer.as_bytes(), &mut out);
        upstream.stream.write_all(&out).await?;
        upstream.stream.flush().await?;
        let Authentication::SaslFinal(proof) = upstream.authentication().await? else {
            return Err(WireError::Unexpected("AuthenticationSASLFinal").into());
        };
        last.finish(&proof)?;
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = Some(keys);
        match upstream.authentication().await? {
            Authentication::Ok => Ok(()),
            _ => Err(WireError::Unexpected("AuthenticationOk").into()),
        }
    }
}

fn refused(message: &[u8]) -> Result<UpstreamError, WireError> {
    let fields = ErrorFields::parse(message)?;
    Ok(UpstreamError::Refused {
        sqlstate: fields.sqlstate().to_owned(),
        message: fields.message().to_owned(),
    })
}

/// A session with PostgreSQL that is ready for a query.
#[derive(Debug)]
pub struct Upstream {
    pub(super) stream: Stream,
    input: BytesMut,
    pub(super) key: Option<BackendKey>,
    pub(super) parameters: Vec<(String, String)>,
}

impl Upstream {
    /// A setting as the server reported it at the start.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(found, _)| found == name).map(|(_, v)| v.as_str())
    }

    /// What has come behind the start-up: nothing, with a server that keeps to the protocol.
    pub(super) fn take_input(&mut self) -> BytesMut {
        self.input.split()
    }

    async fn message(&mut self, longest: usize) -> Result<BytesMut, UpstreamError> {
        loop {
            if let Some(header) = wire::header(&self.input)? {
                if header.length > longest {
                    let length = u32::try_from(header.length).unwrap_or(u32::MAX);
                    return Err(WireError::Length { length, limit: longest }.into());
                }
                if self.input.len() >= header.length {
                    return Ok(self.input.split_to(header.length));
                }
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    async fn authentication(&mut self) -> Result<Authentication, UpstreamError> {
        loop {
            let message = self.message(LONGEST_AT_START).await?;
            match message.first() {
                Some(b'R') => return Ok(wire::parse_authentication(&message)?),
                Some(b'E') => return Err(refused(&message)?),
                Some(b'N') => {}
                _ => return Err(WireError::Unexpected("Authentication").into()),
            }
        }
    }
}

/// Runs a query of pgate's own and returns the text of its one row and column (the
/// first, where there are more).
pub async fn query_text(upstream: &mut Upstream, sql: &str) -> Result<String, UpstreamError> {
    timeout(QUERY_PATIENCE, ask(upstream, sql)).await.unwrap_or(Err(UpstreamError::Slow))
}

async fn ask(upstream: &mut Upstream, sql: &str) -> Result<String, UpstreamError> {
    let mut out = BytesMut::new();
    wire::query(sql, &mut out);
    answer(upstream, &out, 1).await
}

/// The same of one EXPLAIN in the extended protocol, with the values bound to it, in a
/// transaction of its own that ends with it.
pub(super) async fn explain(
    upstream: &mut Upstream,
    sql: &str,
    bound: Option<&Bound>,
) -> Result<String, UpstreamError> {
    let mut out = BytesMut::new();
    let (types, values) = match bound {
        Some(bound) => (&bound.types[..], wire::parse_bind(&bound.bind)?.values),
        None => (&[0, 0][..], Vec::new()),
    };
    wire::query(estimate::GUARD, &mut out);
    wire::parse("", sql, types, &mut out);
    wire::bind_values(&values, &mut out);
    wire::execute("", 0, &mut out);
    wire::sync(&mut out);
    wire::query("ROLLBACK", &mut out);
    timeout(QUERY_PATIENCE, answer(upstream, &out, 3)).await.unwrap_or(Err(UpstreamError::Slow))
}

/// Sends requests that so many ReadyForQuery end, of which one has an answer.
async fn answer(
    upstream: &mut Upstream,
    out: &[u8],
    mut ends: u32,
) -> Result<String, UpstreamError> {
    upstream.stream.write_all(out).await?;
    upstream.stream.flush().await?;
    let mut answer = None;
    let mut failed = None;
    loop {
        let message = upstream.message(LONGEST_ANSWER).await?;
        match message.first() {
            Some(b'D') if answer.is_none() => {
                let values = wire::data_row_values(&message)?;
                let value = values.first().copied().flatten().unwrap_or_default();
                let text = std::str::from_utf8(value).map_err(|_| WireError::NotUtf8("DataRow"))?;
                answer = Some(text.to_owned());
            }
            Some(b'E') if failed.is_none() => failed = Some(refused(&message)?),
            Some(b'Z') if ends > 1 => ends -= 1,
            Some(b'Z') => break,
            _ => {}
        }
    }
    match (failed, answer) {
        (Some(error), _) => Err(error),
        (None, Some(answer)) => Ok(answer),
        (None, None) => Err(WireError::Unexpected("DataRow").into()),
    }
}
