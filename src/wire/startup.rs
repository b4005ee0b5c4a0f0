//! The first packet of a connection, which has no type byte: StartupMessage,
//! SSLRequest, GSSENCRequest, CancelRequest (PostgreSQL manual, 55.7).

use std::collections::BTreeMap;

use bytes::{BufMut as _, BytesMut};
use pgwire::messages::{
    Message as _,
    startup::{SslRequest, Startup as PgwireStartup},
};

use super::{BEFORE_AUTHENTICATION, Fields, WireError};

/// Protocol 3.0.
pub const PROTOCOL_3_0: u32 = 3 << 16;
/// Protocol 3.2 (PostgreSQL 18): as 3.0, with long cancel keys.
pub const PROTOCOL_3_2: u32 = 3 << 16 | 2;

const CANCEL: u32 = 1234 << 16 | 5678;
const SSL: u32 = 1234 << 16 | 5679;
const GSS: u32 = 1234 << 16 | 5680;

/// The longest secret of a CancelRequest (protocol 3.2).
const LONGEST_SECRET: usize = 256;

/// A StartupMessage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    /// The version that the client asks for: major in the upper half, 3 here.
    pub version: u32,
    /// Its parameters; protocol options (`_pq_.…`) among them.
    pub parameters: BTreeMap<String, String>,
}

/// A connection's first packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstPacket {
    /// It wants to start a session.
    Startup(Startup),
    /// It wants TLS.
    Ssl,
    /// It wants GSSAPI encryption.
    Gss,
    /// It wants a statement of another connection cancelled.
    Cancel {
        /// The process id that the other connection was given.
        process: i32,
        /// The secret that the other connection was given.
        secret: Vec<u8>,
    },
    /// It speaks another major version of the protocol.
    OtherVersion(u32),
}

/// The length of the packet that begins with these four bytes.
pub fn first_packet_length(head: [u8; 4]) -> Result<usize, WireError> {
    let declared = u32::from_be_bytes(head);
    match usize::try_from(declared) {
        Ok(length @ 8..=BEFORE_AUTHENTICATION) => Ok(length),
        _ => Err(WireError::Length { length: declared, limit: BEFORE_AUTHENTICATION }),
    }
}

/// Reads a whole first packet, its length included.
pub fn first_packet(packet: &[u8]) -> Result<FirstPacket, WireError> {
    let mut fields = Fields::new(packet, "startup");
    let length = first_packet_length(fields.u32()?.to_be_bytes())?;
    if length != packet.len() {
        return Err(WireError::Malformed("startup"));
    }
    match fields.u32()? {
        CANCEL => {
            let process = fields.i32()?;
            let secret = fields.rest().to_vec();
            if !(4..=LONGEST_SECRET).contains(&secret.len()) {
                return Err(WireError::Malformed("CancelRequest"));
            }
            Ok(FirstPacket::Cancel { process, secret })
        }
        SSL => fields.end().map(|()| FirstPacket::Ssl),
        GSS => fields.end().map(|()| FirstPacket::Gss),
        version if version >> 16 == 3 => {
            let mut parameters = BTreeMap::new();
            loop {
                match fields.text()? {
                    "" => break,
                    name => {
                        let value = fields.text()?;
                        // A parameter given twice: two readers could differ on which one counts.
                        if parameters.insert(name.to_owned(), value.to_owned()).is_some() {
                            return Err(WireError::Malformed("startup"));
                        }
                    }
                }
            }
            fields.end()?;
            Ok(FirstPacket::Startup(Startup { version, parameters }))
        }
        version => Ok(FirstPacket::OtherVersion(version)),
    }
}

/// Whether a connection that begins with these four bytes begins with TLS
/// (`sslnegotiation=direct`): a handshake record, where a packet's length would stand.
pub fn is_direct_tls(head: [u8; 4]) -> bool {
    matches!(head, [0x16, 0x03, ..])
}

/// The answer that refuses TLS which has begun without a question: a fatal alert
/// `handshake_failure` (RFC 8446 section 6), which TLS clients know how to tell.
pub fn direct_tls_refused() -> &'static [u8] {
    &[0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x28]
}

/// The one-byte answer that refuses SSLRequest and GSSENCRequest.
pub fn encryption_refused() -> &'static [u8] {
    b"N"
}

/// An SSLRequest.
pub fn ssl_request() -> BytesMut {
    let mut out = BytesMut::new();
    SslRequest::new().encode(&mut out).expect("eight constant bytes always fit");
    out
}

/// A StartupMessage of this version of protocol 3. Fails where a parameter holds a NUL
/// or the packet is too long for PostgreSQL.
pub fn startup_message(
    version: u32,
    parameters: &BTreeMap<String, String>,
) -> Result<BytesMut, WireError> {
    if parameters.iter().any(|(name, value)| name.contains('\0') || value.contains('\0')) {
        return Err(WireError::Malformed("startup"));
    }
    let mut message = PgwireStartup::new();
    let [_, major, minor_high, minor_low] = version.to_be_bytes();
    message.protocol_number_major = major.into();
    message.protocol_number_minor = u16::from_be_bytes([minor_high, minor_low]);
    message.parameters.clone_from(parameters);
    let mut out = BytesMut::new();
    message.encode(&mut out).map_err(|_| WireError::Malformed("startup"))?;
    Ok(out)
}

/// A CancelRequest.
pub fn cancel_request(process: i32, secret: &[u8]) -> BytesMut {
    let mut out = BytesMut::with_capacity(12 + secret.len());
    let length = u32::try_from(12 + secret.len()).unwrap_or(u32::MAX);
    out.put_u32(length);
    out.put_u32(CANCEL);
    out.put_i32(process);
    out.extend_from_slice(secret);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let mut out = u32::try_from(8 + body.len()).unwrap().to_be_bytes().to_vec();
        out.extend(code.to_be_bytes());
        out.extend(body);
        out
    }

    #[test]
    fn every_first_packet_is_told_apart() {
        let parameters = BTreeMap::from([("user".to_owned(), "ana".to_owned())]);
        let cases = [
            (packet(SSL, b""), FirstPacket::Ssl),
            (packet(GSS, b""), FirstPacket::Gss),
            (
                packet(CANCEL, &[0, 0, 0, 7, 1, 2, 3, 4]),
                FirstPacket::Cancel { process: 7, secret: vec![1, 2, 3, 4] },
            ),
            (
                packet(PROTOCOL_3_2, b"user\0ana\0\0"),
                FirstPacket::Startup(Startup { version: PROTOCOL_3_2, parameters }),
            ),
            (packet(2 << 16, b"anything"), FirstPacket::OtherVersion(2 << 16)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(first_packet(&bytes).unwrap(), expected);
            for cut in 0..bytes.len() {
                assert!(first_packet(&bytes[..cut]).is_err(), "{expected:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_packet_with_anything_more_or_less_is_refused() {
        for bytes in [
            packet(SSL, b"x"),
            packet(CANCEL, &[0, 0, 0, 7, 1, 2, 3]),
            packet(CANCEL, &[0; 4 + 257]),
            packet(PROTOCOL_3_0, b"user\0ana\0"),
            packet(PROTOCOL_3_0, b"user\0ana\0\0x"),
            packet(PROTOCOL_3_0, b"user\0ana\0user\0bob\0\0"),
            packet(PROTOCOL_3_0, b"user\0\xff\0\0"),
        ] {
            assert!(first_packet(&bytes).is_err(), "{bytes:?}");
        }
        for head in [[0, 0, 0, 7], [0, 0, 0x27, 0x11], [0xff; 4]] {
            assert!(first_packet_length(head).is_err(), "{head:?}");
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        assert_eq!(first_packet(&ssl_request()).unwrap(), FirstPacket::Ssl);
        let secret = vec![9; 32];
        assert_eq!(
            first_packet(&cancel_request(-3, &secret)).unwrap(),
            FirstPacket::Cancel { process: -3, secret }
        );
        let parameters = BTreeMap::from([("user".to_owned(), "ana".to_owned())]);
        for version in [PROTOCOL_3_0, PROTOCOL_3_2] {
            let message = startup_message(version, &parameters).unwrap();
            assert_eq!(
                first_packet(&message).unwrap(),
                FirstPacket::Startup(Startup { version, parameters: parameters.clone() })
            );
        }
        let nul = BTreeMap::from([("user".to_owned(), "a\0b".to_owned())]);
        assert!(startup_message(PROTOCOL_3_0, &nul).is_err());
    }
}
