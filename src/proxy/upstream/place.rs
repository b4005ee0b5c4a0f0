//! Where PostgreSQL listens, and dialling there, with TLS where it is wanted.

use std::{fmt, path::PathBuf};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

use super::{UpstreamError, login::Way};
use crate::{
    api::SslNegotiation,
    proxy::{
        admission::ConnectionPermit,
        stream::{self, Stream},
        tls::{self, Tls},
    },
    wire::{self, WireError, scram::ChannelBinding},
};

/// Where PostgreSQL listens.
#[derive(Debug, Clone)]
pub(in crate::proxy) enum Place {
    /// At a port, with TLS or without.
    Tcp { host: String, port: u16, tls: Option<Tls> },
    /// At a Unix socket.
    Unix(PathBuf),
}

impl Place {
    /// Dials. Nothing has been said of who we are.
    pub(in crate::proxy) async fn dial(
        &self,
        _permit: &ConnectionPermit,
    ) -> Result<(Stream, ChannelBinding), UpstreamError> {
        let unbound = ChannelBinding::Unsupported;
        let unreachable = |error| UpstreamError::Unreachable { place: self.to_string(), error };
        match self {
            Self::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(unreachable)?;
                Ok((Stream::Unix(stream), unbound))
            }
            Self::Tcp { host, port, tls } => {
                let mut stream =
                    TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
                stream.set_nodelay(true)?;
                let peer = stream.peer_addr()?;
                stream::keep_alive(&stream, peer)?;
                let Some(tls) = tls else { return Ok((Stream::Tcp(stream), unbound)) };
                if tls.negotiation() == SslNegotiation::Postgres {
                    stream.write_all(&wire::ssl_request()).await?;
                    // One byte and no more: what follows belongs to TLS.
                    match stream.read_u8().await? {
                        b'S' => {}
                        b'N' => return Err(UpstreamError::NoTls),
                        _ => return Err(WireError::Unexpected("SSL").into()),
                    }
                }
                let stream = tls.handshake(stream).await?;
                let binding = tls::end_point(&stream).map_or(unbound, ChannelBinding::EndPoint);
                Ok((Stream::Tls(Box::new(stream)), binding))
            }
        }
    }

    /// Whether what is sent there is encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tcp { tls: Some(_), .. })
    }

    /// What the way there is worth.
    pub(super) fn way(&self) -> Way {
        match self {
            Self::Tcp { tls: Some(tls), .. } if tls.is_checked() => Way::Checked,
            Self::Tcp { tls: Some(_), .. } => Way::Encrypted,
            Self::Tcp { tls: None, .. } | Self::Unix(_) => Way::Plain,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}
