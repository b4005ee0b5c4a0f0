//! A client that asks and doesn't look at the answer: bulk reads and writes, and
//! connections that stay idle. It costs as little as it can, for it shares the
//! processors with what is measured.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context as _, bail};
use bytes::BytesMut;
use pgate::wire::{
    self, Authentication, ErrorFields, HEADER,
    scram::{ChannelBinding, ClientFirst},
};

use super::stand::Way;

/// One read's worth.
const BUFFER: usize = 256 * 1024;
/// No answer takes this long to begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that is ready for a query.
pub(crate) struct Client {
    socket: TcpStream,
    input: BytesMut,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects by TCP and logs in by SCRAM.
    pub(crate) fn connect(way: &Way) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", way.port))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut client = Self { socket, input: BytesMut::new(), buffer: vec![0; BUFFER] };
        let names = [("user", &way.user), ("database", &way.database)];
        let parameters =
            names.map(|(name, value)| (name.to_owned(), value.clone())).into_iter().collect();
        client.log_in(&parameters, &way.password).with_context(|| way.name.to_owned())?;
        // Idle ones are held by the thousand.
        client.buffer = Vec::new();
        Ok(client)
    }

    fn log_in(
        &mut self,
        parameters: &BTreeMap<String, String>,
        password: &str,
    ) -> anyhow::Result<()> {
        self.socket.write_all(&wire::startup_message(wire::PROTOCOL_3_0, parameters)?)?;
        let first = ClientFirst::new("", "bench-bench-bench-bench", ChannelBinding::Unsupported);
        let Authentication::Sasl(_) = self.authentication()? else {
            bail!("a SCRAM login was expected");
        };
        let mut out = BytesMut::new();
        wire::sasl_initial_response(first.mechanism(), first.message().as_bytes(), &mut out);
        self.socket.write_all(&out)?;
        let Authentication::SaslContinue(challenge) = self.authentication()? else {
            bail!("a SCRAM challenge was expected");
        };
        let (last, answer, _) = first.answer(&challenge, password, None)?;
        out.clear();
        wire::password_response(answer.as_bytes(), &mut out);
        self.socket.write_all(&out)?;
        let Authentication::SaslFinal(proof) = self.authentication()? else {
            bail!("the end of a SCRAM exchange was expected");
        };
        last.finish(&proof)?;
        while self.message()?[0] != b'Z' {}
        Ok(())
    }

    fn authentication(&mut self) -> anyhow::Result<Authentication> {
        Ok(wire::parse_authentication(&self.message()?)?)
    }

    /// The next message, whole. A server's error is an error.
    fn message(&mut self) -> anyhow::Result<BytesMut> {
        loop {
            if let Some(header) = wire::header(&self.input)?
                && self.input.len() >= header.length
            {
                let message = self.input.split_to(header.length);
                if header.tag == b'E' {
                    bail!("{}", ErrorFields::parse(&message)?.message());
                }
                return Ok(message);
            }
            let mut buffer = [0; 4096];
            match self.socket.read(&mut buffer)? {
                0 => bail!("the connection was closed"),
                read => self.input.extend_from_slice(&buffer[..read]),
            }
        }
    }

    /// Runs a statement to its end and returns how many bytes came back.
    pub(crate) fn read(&mut self, sql: &str) -> anyhow::Result<u64> {
        self.read_and_rest(sql, Duration::ZERO)
    }

    /// The same, with a rest after the first bytes: a client that is slow.
    pub(crate) fn read_and_rest(&mut self, sql: &str, rest: Duration) -> anyhow::Result<u64> {
        self.send_query(sql)?;
        self.buffer.resize(BUFFER, 0);
        let mut total = 0;
        // Bytes of the current message that are still to come.
        let mut ahead = 0;
        let mut head = Vec::with_capacity(HEADER);
        let mut rested = rest.is_zero();
        let mut last = false;
        while !last || ahead > 0 {
            let read = self.socket.read(&mut self.buffer)?;
            if read == 0 {
                bail!("the connection was closed");
            }
            if !rested {
                std::thread::sleep(rest);
                rested = true;
            }
            total += read as u64;
            let mut bytes = &self.buffer[..read];
            while !bytes.is_empty() {
                let skipped = ahead.min(bytes.len());
                bytes = &bytes[skipped..];
                ahead -= skipped;
                let wanted = (HEADER - head.len()).min(bytes.len());
                head.extend_from_slice(&bytes[..wanted]);
                bytes = &bytes[wanted..];
                let Some(header) = wire::header(&head)? else { continue };
                head.clear();
                match header.tag {
                    // The rest of both is short, and comes in one piece with the head.
                    b'E' => {
                        let mut error = head_of(&header);
                        error.extend_from_slice(bytes);
                        error.truncate(header.length);
                        bail!("{}", ErrorFields::parse(&error)?.message());
                    }
                    tag => {
                        last = tag == b'Z';
                        ahead = header.length - HEADER;
                    }
                }
            }
        }
        Ok(total)
    }

    /// Copies `chunk` into a table `times` times, in messages of psql's size, and
    /// returns how many bytes that were.
    pub(crate) fn write(&mut self, sql: &str, chunk: &[u8], times: u32) -> anyhow::Result<u64> {
        const MESSAGE: usize = 8 * 1024;
        self.send_query(sql)?;
        while self.message()?[0] != b'G' {}
        let mut messages = Vec::new();
        for part in chunk.chunks(MESSAGE) {
            messages.push(b'd');
            messages.extend_from_slice(&u32::try_from(part.len() + 4)?.to_be_bytes());
            messages.extend_from_slice(part);
        }
        for _ in 0..times {
            self.socket.write_all(&messages)?;
        }
        self.socket.write_all(b"c\0\0\0\x04")?;
        while self.message()?[0] != b'Z' {}
        Ok(messages.len() as u64 * u64::from(times))
    }

    fn send_query(&mut self, sql: &str) -> anyhow::Result<()> {
        let mut out = BytesMut::new();
        wire::query(sql, &mut out);
        Ok(self.socket.write_all(&out)?)
    }
}

fn head_of(header: &wire::Header) -> Vec<u8> {
    let mut head = vec![header.tag];
    let length = u32::try_from(header.length - 1).unwrap_or(u32::MAX);
    head.extend_from_slice(&length.to_be_bytes());
    head
}
