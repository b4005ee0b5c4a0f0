//! Connections to PostgreSQL: dialling, TLS, authentication, start-up.
//!
//! Opening one takes a [`ConnectionPermit`]. What a server may be told is decided in
//! `login`; protocol 3.2 is asked for, and 3.0 taken where the server knows no other.

mod hosts;
mod login;
mod place;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, sleep, timeout},
};

pub(super) use self::place::Place;
use self::{
    hosts::{Hosts, Turn},
    login::Login,
};
use super::{
    admission::ConnectionPermit,
    estimate::{self, Bound},
    stream::Stream,
    tls::{Check, Tls, Wanted},
};
use crate::{
    api::{ChannelBindingUse, CredentialKind, DatabaseAccess, SessionAttrs, SslNegotiation},
    sql::quote_identifier,
    wire::{
        self, Authentication, BackendKey, ErrorFields, PROTOCOL_3_0, PROTOCOL_3_2, WireError,
        scram::ScramError,
    },
};

/// How long dialling, TLS and authentication may take together.
const PATIENCE: Patience = Patience {
    alone: Duration::from_secs(20),
    each: Duration::from_secs(8),
    all: Duration::from_secs(40),
};
/// How often, and how many times, a standby is asked for a role that has just been made.
const REPLICATION_ASKED_EVERY: Duration = Duration::from_millis(100);
const REPLICATION_ASKED: u32 = 10;
/// How long the answer to a [`query_text`] may take.
const QUERY_PATIENCE: Duration = Duration::from_secs(60);
/// The longest message during start-up, in bytes.
const LONGEST_AT_START: usize = 64 * 1024;
/// What a server usually sends at once before it is ready, and less than it, in bytes.
const USUAL_START: usize = 1024;
/// The most messages between authentication and the first ReadyForQuery.
const MOST_AT_START: usize = 1000;
/// The longest answer of a [`query_text`], in bytes.
const LONGEST_ANSWER: usize = 256 * 1024 * 1024;

/// How long a connection may take until it is ready.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// Where there is one host.
    alone: Duration,
    /// At one of several.
    each: Duration,
    /// At all of them together.
    all: Duration,
}

impl Patience {
    /// What a host may take, where it and others still have so many turns.
    fn at(&self, spent: Duration, turns: usize) -> Duration {
        let turns = u32::try_from(turns).unwrap_or(u32::MAX).max(1);
        (self.all.saturating_sub(spent) / turns).min(self.each)
    }
}

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
    /// A server of another kind than is wanted.
    #[error(
        "the server at {place} is {is}, and the target's URL says \
         target_session_attrs={wanted}"
    )]
    Unwanted {
        /// Where.
        place: String,
        /// What it is.
        is: &'static str,
        /// What is wanted.
        wanted: SessionAttrs,
    },
    /// None of several hosts will do.
    #[error("none of the database's hosts will do: {0}")]
    Nowhere(String),
    /// The connection breaks.
    #[error("the connection to the database broke: {0}")]
    Broken(#[from] io::Error),
    /// The connection breaks before the server has said anything.
    #[error("the database closed the connection at once")]
    Hung,
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
    /// The server wants the password itself.
    #[error(
        "the database wants a cleartext password {0}: let it use scram-sha-256, or \
         sslmode=verify-full in the target's URL"
    )]
    Cleartext(&'static str),
    /// The server wants a password, and there is none.
    #[error("the database wants a password, and the target's credential has none")]
    NoPassword,
    /// Channel binding is demanded, and can't be had.
    #[error(
        "the target demands channel binding, and the database can't be bound to: {0}; \
         somebody may stand between"
    )]
    Unbound(&'static str),
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

/// How to reach a database, and as whom.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    hosts: Hosts,
    patience: Patience,
    login: Login,
    database: String,
    search_path: Option<String>,
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
        let place = |host: &str, port: u16| {
            if host.starts_with('/') {
                return Ok(Place::Unix(PathBuf::from(host).join(format!(".s.PGSQL.{port}"))));
            }
            let tls = check.map(|check| {
                let wanted = Wanted {
                    check,
                    ca_pem: ca,
                    certificate: access.client_certificate.as_ref(),
                    negotiation: access.sslnegotiation,
                };
                Tls::new(host, wanted)
            });
            Ok(Place::Tcp { host: host.to_owned(), port, tls: tls.transpose()? })
        };
        let further = access.further.iter().map(|further| place(&further.host, further.port));
        let places = std::iter::once(place(&access.host, access.port)).chain(further);
        let places = places.collect::<Result<Vec<_>, UpstreamError>>()?;
        let encrypted = places.iter().all(Place::is_encrypted);
        if access.channel_binding == ChannelBindingUse::Require && !encrypted {
            return Err(UpstreamError::Unbound("there is no TLS"));
        }
        if access.sslnegotiation == SslNegotiation::Direct && !encrypted {
            let why = "sslnegotiation=direct needs an sslmode that encrypts";
            return Err(UpstreamError::Tls(why.to_owned()));
        }
        let ephemeral = access.credential == CredentialKind::Ephemeral;
        Ok(Self {
            hosts: Hosts::new(places, access.target_session_attrs, ephemeral),
            patience: PATIENCE,
            login: Login {
                user: access.user.clone(),
                password: access.password.clone(),
                binding: access.channel_binding,
                keys: Arc::default(),
            },
            database: access.database.clone(),
            search_path: None,
        })
    }

    /// Begins every session with this search path; with an empty one, with the database's own.
    #[must_use]
    pub fn with_search_path(mut self, schemas: &[String]) -> Self {
        let quoted = schemas.iter().map(|schema| quote_identifier(schema)).collect::<Vec<_>>();
        self.search_path = (!quoted.is_empty()).then(|| quoted.join(", "));
        self
    }

    /// Whether a connection may reach one of several hosts.
    pub fn has_several_hosts(&self) -> bool {
        !self.hosts.is_one()
    }

    /// The database role.
    pub fn user(&self) -> &str {
        &self.login.user
    }

    /// The database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Connects, authenticates and starts a session with these further startup
    /// parameters; returns when the server is ready for a query.
    pub async fn connect(
        &self,
        permit: &ConnectionPermit,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Upstream, UpstreamError> {
        let started = Instant::now();
        let mut failed = Vec::new();
        let mut turns = VecDeque::from(self.hosts.in_turn());
        let is_choice = turns.len() > 1;
        while let Some(Turn { at, place, wanted }) = turns.pop_front() {
            let patience = match self.hosts.is_one() {
                true => self.patience.alone,
                false => self.patience.at(started.elapsed(), 1 + turns.len()),
            };
            let connecting = async {
                let mut upstream = self.start(place, permit, parameters).await;
                for _ in 0..REPLICATION_ASKED {
                    match &upstream {
                        Err(error) if self.hosts.may_not_know_us_yet(error) => {
                            sleep(REPLICATION_ASKED_EVERY).await;
                            upstream = self.start(place, permit, parameters).await;
                        }
                        _ => break,
                    }
                }
                let mut upstream = upstream?;
                self.hosts.check(&mut upstream, wanted).await?;
                Ok(upstream)
            };
            match timeout(patience, connecting).await.unwrap_or(Err(UpstreamError::Slow)) {
                Ok(upstream) => {
                    self.hosts.found(at);
                    return Ok(upstream);
                }
                Err(error) if is_choice && self.hosts.leads_on(&error) => {
                    tracing::debug!(%error, %place, "another host is tried");
                    if error.is_silence() {
                        // As another kind of server it would say no more.
                        turns.retain(|turn| turn.at != at);
                    }
                    let told = match error {
                        UpstreamError::Slow => format!("{place} did not answer in time"),
                        // These name it.
                        UpstreamError::Unreachable { .. } | UpstreamError::Unwanted { .. } => {
                            error.to_string()
                        }
                        error => format!("at {place}, {error}"),
                    };
                    if !failed.contains(&told) {
                        failed.push(told);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(UpstreamError::Nowhere(failed.join("; ")))
    }

    async fn start(
        &self,
        place: &Place,
        permit: &ConnectionPermit,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Upstream, UpstreamError> {
        match self.attempt(place, permit, parameters, PROTOCOL_3_2).await {
            // PostgreSQL negotiates the version down; some that stand before it just say
            // no, or hang up.
            Err(error) if error.may_be_for_the_version() => {
                tracing::debug!(%error, "protocol 3.0 is tried");
                self.attempt(place, permit, parameters, PROTOCOL_3_0).await
            }
            other => other,
        }
    }

    async fn attempt(
        &self,
        place: &Place,
        permit: &ConnectionPermit,
        parameters: &BTreeMap<String, String>,
        version: u32,
    ) -> Result<Upstream, UpstreamError> {
        let (stream, binding) = place.dial(permit).await?;
        let mut upstream = Upstream {
            place: place.clone(),
            stream,
            input: BytesMut::with_capacity(USUAL_START),
            key: None,
            parameters: Vec::new(),
        };
        let mut all = parameters.clone();
        for (name, value) in [
            ("user", self.login.user.as_str()),
            ("database", &self.database),
            ("client_encoding", "UTF8"),
            ("standard_conforming_strings", "on"),
        ] {
            all.insert(name.to_owned(), value.to_owned());
        }
        if let Some(path) = &self.search_path {
            all.insert("search_path".to_owned(), path.clone());
        }
        upstream.send(&wire::startup_message(version, &all)?).await?;
        upstream.negotiated(version).await?;
        self.login.prove(&mut upstream, binding, place.way()).await?;
        upstream.settle().await?;
        for (name, needed) in [("client_encoding", "UTF8"), ("standard_conforming_strings", "on")] {
            let value = upstream.parameter(name).unwrap_or_default();
            if value != needed {
                return Err(UpstreamError::Setting { name, value: value.to_owned(), needed });
            }
        }
        Ok(upstream)
    }
}

impl UpstreamError {
    /// Whether nobody has answered.
    fn is_silence(&self) -> bool {
        matches!(self, Self::Slow | Self::Unreachable { .. })
    }

    /// Whether it may be how a server says that it doesn't know the protocol's version.
    fn may_be_for_the_version(&self) -> bool {
        match self {
            Self::Refused { sqlstate, .. } => matches!(sqlstate.as_str(), "0A000" | "08P01"),
            Self::Hung => true,
            _ => false,
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
    /// Where it leads, which is where its statements can be cancelled.
    pub(super) place: Place,
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
        std::mem::take(&mut self.input)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), UpstreamError> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// Waits for the first answer to a StartupMessage of this version, and takes it where
    /// it says that another is spoken.
    async fn negotiated(&mut self, version: u32) -> Result<(), UpstreamError> {
        while self.input.is_empty() {
            match self.stream.read_buf(&mut self.input).await {
                Ok(1..) => {}
                Ok(0) => return Err(UpstreamError::Hung),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(UpstreamError::Hung);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if self.input.first() != Some(&b'v') {
            return Ok(());
        }
        let message = self.message(LONGEST_AT_START).await?;
        match wire::parse_negotiated_version(&message)? {
            (PROTOCOL_3_0, true) if version > PROTOCOL_3_0 => Ok(()),
            // No option was asked for, and there is no other version between.
            _ => Err(WireError::Unexpected("NegotiateProtocolVersion of 3.0").into()),
        }
    }

    /// Takes what comes between authentication and the first ReadyForQuery.
    async fn settle(&mut self) -> Result<(), UpstreamError> {
        for _ in 0..MOST_AT_START {
            let message = self.message(LONGEST_AT_START).await?;
            match message.first() {
                Some(b'S') => {
                    let (name, value) = wire::parse_parameter_status(&message)?;
                    self.parameters.push((name.to_owned(), value.to_owned()));
                }
                Some(b'K') => self.key = Some(wire::parse_backend_key(&message)?),
                Some(b'N') => {}
                Some(b'Z') => {
                    wire::parse_transaction_status(&message)?;
                    return Ok(());
                }
                Some(b'E') => return Err(refused(&message)?),
                _ => break,
            }
        }
        Err(WireError::Unexpected("ReadyForQuery").into())
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
    upstream.send(out).await?;
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
