//! The floor: a forwarder that knows nothing of the protocol, one thread on epoll.
//! No proxy on sockets can cost less without sharing wake-ups.

use std::{
    collections::HashMap,
    io::{self, ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process, thread,
};

use rustix::event::epoll;

/// One read's worth.
const BUFFER: usize = 64 * 1024;
const LISTENER: u64 = 0;

/// Two sockets that belong together have the tokens 2n and 2n + 1.
fn peer_of(token: u64) -> u64 {
    token ^ 1
}

/// A socket, and what its peer has sent and it hasn't taken.
struct End {
    socket: TcpStream,
    waiting: Vec<u8>,
}

/// Forwards every connection to `upstream`, until standard input ends. Prints its port.
pub(crate) fn run(upstream: &str) -> io::Result<()> {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        process::exit(0);
    });
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let readable = epoll::EventFlags::IN;
    epoll::add(&poll, &listener, epoll::EventData::new_u64(LISTENER), readable)?;

    let mut ends = HashMap::new();
    let mut next = 2;
    let mut buffer = vec![0; BUFFER];
    let mut events = Vec::with_capacity(64);
    loop {
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let token = event.data.u64();
            if token == LISTENER {
                let (client, _) = listener.accept()?;
                let server = TcpStream::connect(upstream)?;
                for (token, socket) in [(next, client), (next + 1, server)] {
                    socket.set_nodelay(true)?;
                    socket.set_nonblocking(true)?;
                    epoll::add(&poll, &socket, epoll::EventData::new_u64(token), readable)?;
                    ends.insert(token, End { socket, waiting: Vec::new() });
                }
                next += 2;
            } else if serve(&poll, &mut ends, token, event.flags, &mut buffer).is_err() {
                ends.remove(&token);
                ends.remove(&peer_of(token));
            }
        }
    }
}

/// Does what one socket is ready for. An error ends it and its peer.
fn serve(
    poll: &impl std::os::fd::AsFd,
    ends: &mut HashMap<u64, End>,
    token: u64,
    ready: epoll::EventFlags,
    buffer: &mut [u8],
) -> io::Result<()> {
    let wants = |token, socket: &TcpStream, flags| {
        epoll::modify(poll, socket, epoll::EventData::new_u64(token), flags)
    };
    let gone = || io::Error::from(ErrorKind::NotConnected);
    let peer = peer_of(token);
    if ready.contains(epoll::EventFlags::OUT) {
        let end = ends.get_mut(&token).ok_or_else(gone)?;
        let sent = written(&mut end.socket, &end.waiting)?;
        end.waiting.drain(..sent);
        if end.waiting.is_empty() {
            wants(token, &end.socket, epoll::EventFlags::IN)?;
            let source = ends.get(&peer).ok_or_else(gone)?;
            wants(peer, &source.socket, epoll::EventFlags::IN)?;
        }
        return Ok(());
    }
    let read = ends.get_mut(&token).ok_or_else(gone)?.socket.read(buffer)?;
    if read == 0 {
        return Err(gone());
    }
    let end = ends.get_mut(&peer).ok_or_else(gone)?;
    let sent = written(&mut end.socket, &buffer[..read])?;
    if sent < read {
        end.waiting.extend_from_slice(&buffer[sent..read]);
        wants(peer, &end.socket, epoll::EventFlags::OUT)?;
        let source = ends.get(&token).ok_or_else(gone)?;
        wants(token, &source.socket, epoll::EventFlags::empty())?;
    }
    Ok(())
}

/// Writes what the socket takes now.
fn written(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match socket.write(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}
