//! A byte stream to a peer, whatever carries it.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::client::TlsStream;

/// A connection to a client or to PostgreSQL.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How long a TCP connection may be silent before its peer is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(60);
/// How often it is asked, and how many times before it counts as gone.
const ASKED_EVERY: Duration = Duration::from_secs(10);
const ASKED: u32 = 6;

/// Has the kernel find out when the peer at this address is gone without a word (a machine
/// that lost its power, a forgetful router): reads then fail after two minutes instead of
/// never. A peer on this machine can't go like that.
pub(super) fn keep_alive(stream: &TcpStream, peer: SocketAddr) -> io::Result<()> {
    if peer.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, SILENCE)?;
    sockopt::set_tcp_keepintvl(stream, ASKED_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, ASKED)?;
    Ok(())
}

impl Stream {
    /// Writes what the kernel takes at once, and doesn't wait for more.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.try_write(bytes),
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Tls(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Whether its buffers grow with what waits in them, so that it may be left to gather.
    pub(super) fn gathers(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }
}

macro_rules! inner {
    ($stream:expr, $inner:ident => $body:expr) => {
        match $stream.get_mut() {
            Stream::Unix(inner) => {
                let $inner = Pin::new(inner);
                $body
            }
            Stream::Tcp(inner) => {
                let $inner = Pin::new(inner);
                $body
            }
            Stream::Tls(inner) => {
                let $inner = Pin::new(inner.as_mut());
                $body
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        let read = inner!(Pin::new(&mut *stream), inner => inner.poll_read(cx, buf));
        // TLS answers some of what it reads by itself, such as a wish to renegotiate with a
        // no. That waits to be written, while the server may wait for it.
        if let Self::Tls(inner) = stream
            && inner.get_ref().1.wants_write()
            && let Poll::Ready(Err(error)) = Pin::new(inner.as_mut()).poll_flush(cx)
            && read.is_pending()
        {
            return Poll::Ready(Err(error));
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        inner!(self, inner => inner.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inner!(self, inner => inner.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inner!(self, inner => inner.poll_shutdown(cx))
    }
}
