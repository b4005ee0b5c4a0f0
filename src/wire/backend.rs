//! Messages that the server sends (PostgreSQL manual, 55.7).

use bytes::{BufMut as _, BytesMut};
use pgwire::messages::{
    Message as _,
    startup::{
        Authentication as PgwireAuthentication, BackendKeyData, NegotiateProtocolVersion,
        ParameterStatus, SecretKey,
    },
};

use super::{Fields, WireError, frontend::message};

/// What the server wants for authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// Nothing more: the client is who it says.
    Ok,
    /// The password as it is.
    Cleartext,
    /// The password's MD5 digest with this salt ([`super::md5_password`]).
    Md5([u8; 4]),
    /// SASL by one of these mechanisms.
    Sasl(Vec<String>),
    /// The next SASL challenge.
    SaslContinue(Vec<u8>),
    /// The last SASL message of the server.
    SaslFinal(Vec<u8>),
    /// A method that pgate doesn't speak, or only knows by number.
    Other(i32),
}

/// Reads a whole Authentication message.
pub fn parse_authentication(message: &[u8]) -> Result<Authentication, WireError> {
    let mut fields = Fields::of_message(message, "Authentication")?;
    match fields.i32()? {
        0 => fields.end().map(|()| Authentication::Ok),
        3 => fields.end().map(|()| Authentication::Cleartext),
        5 => {
            let salt = fields.u32()?.to_be_bytes();
            fields.end().map(|()| Authentication::Md5(salt))
        }
        10 => {
            let mut mechanisms = Vec::new();
            loop {
                match fields.text()? {
                    "" => break,
                    mechanism => mechanisms.push(mechanism.to_owned()),
                }
            }
            fields.end()?;
            Ok(Authentication::Sasl(mechanisms))
        }
        11 => Ok(Authentication::SaslContinue(fields.rest().to_vec())),
        12 => Ok(Authentication::SaslFinal(fields.rest().to_vec())),
        code => Ok(Authentication::Other(code)),
    }
}

/// Appends an Authentication message.
pub fn authentication(what: &Authentication, out: &mut BytesMut) {
    let message = match what {
        Authentication::Ok => PgwireAuthentication::Ok,
        Authentication::Cleartext => PgwireAuthentication::CleartextPassword,
        Authentication::Md5(salt) => PgwireAuthentication::MD5Password(salt.to_vec()),
        Authentication::Sasl(mechanisms) => PgwireAuthentication::SASL(mechanisms.clone()),
        Authentication::SaslContinue(data) => {
            PgwireAuthentication::SASLContinue(data.clone().into())
        }
        Authentication::SaslFinal(data) => PgwireAuthentication::SASLFinal(data.clone().into()),
        Authentication::Other(code) => {
            return super::frontend::message(b'R', out, |body| body.put_i32(*code));
        }
    };
    message.encode(out).unwrap_or_else(|_| out.clear());
}

/// Reads a whole ParameterStatus: name and value.
pub fn parse_parameter_status(message: &[u8]) -> Result<(&str, &str), WireError> {
    let mut fields = Fields::of_message(message, "ParameterStatus")?;
    let name = fields.text()?;
    let value = fields.text()?;
    fields.end()?;
    Ok((name, value))
}

/// Appends a ParameterStatus.
pub fn parameter_status(name: &str, value: &str, out: &mut BytesMut) {
    ParameterStatus::new(name.to_owned(), value.to_owned())
        .encode(out)
        .unwrap_or_else(|_| out.clear());
}

/// What somebody has sent by NOTIFY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notification<'a> {
    /// The process id of the session that sent it.
    pub process: i32,
    /// The channel.
    pub channel: &'a str,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Reads a whole NotificationResponse.
pub fn parse_notification(message: &[u8]) -> Result<Notification<'_>, WireError> {
    let mut fields = Fields::of_message(message, "NotificationResponse")?;
    let process = fields.i32()?;
    let (channel, payload) = (fields.text()?, fields.cstring()?);
    fields.end()?;
    Ok(Notification { process, channel, payload })
}

/// Appends a NotificationResponse. Neither channel nor payload holds a NUL where they
/// come from [`parse_notification`].
pub fn notification(what: Notification<'_>, out: &mut BytesMut) {
    message(b'A', out, |body| {
        body.put_i32(what.process);
        for text in [what.channel.as_bytes(), what.payload] {
            body.extend_from_slice(text);
            body.put_u8(0);
        }
    });
}

/// What a connection is cancelled by.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BackendKey {
    /// The process id.
    pub process: i32,
    /// The secret: 4 bytes, or up to 256 from protocol 3.2 on.
    pub secret: Vec<u8>,
}

impl std::fmt::Debug for BackendKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BackendKey({}, secret)", self.process)
    }
}

/// Reads a whole BackendKeyData.
pub fn parse_backend_key(message: &[u8]) -> Result<BackendKey, WireError> {
    let mut fields = Fields::of_message(message, "BackendKeyData")?;
    let process = fields.i32()?;
    let secret = fields.rest().to_vec();
    if !(4..=256).contains(&secret.len()) {
        return Err(WireError::Malformed("BackendKeyData"));
    }
    Ok(BackendKey { process, secret })
}

/// Appends a BackendKeyData.
pub fn backend_key_data(key: &BackendKey, out: &mut BytesMut) {
    BackendKeyData::new(key.process, SecretKey::Bytes(key.secret.clone().into()))
        .encode(out)
        .unwrap_or_else(|_| out.clear());
}

/// Appends a NegotiateProtocolVersion: the newest version that is spoken, and the
/// protocol options that aren't known.
pub fn negotiate_protocol_version(version: u32, unknown: Vec<String>, out: &mut BytesMut) {
    let version = i32::try_from(version).unwrap_or(i32::MAX);
    NegotiateProtocolVersion::new(version, unknown).encode(out).unwrap_or_else(|_| out.clear());
}

/// Reads a whole NegotiateProtocolVersion: the version that the server speaks, and
/// whether it knew every protocol option.
pub fn parse_negotiated_version(message: &[u8]) -> Result<(u32, bool), WireError> {
    let mut fields = Fields::of_message(message, "NegotiateProtocolVersion")?;
    let version = fields.u32()?;
    let unknown = fields.u32()?;
    for _ in 0..unknown {
        fields.cstring()?;
    }
    fields.end()?;
    Ok((version, unknown == 0))
}

/// The state of a connection's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// None is open.
    Idle,
    /// One is open.
    Open,
    /// One is open and has failed.
    Failed,
}

/// Reads a whole ReadyForQuery.
pub fn parse_transaction_status(message: &[u8]) -> Result<TransactionStatus, WireError> {
    let mut fields = Fields::of_message(message, "ReadyForQuery")?;
    let status = match fields.u8()? {
        b'I' => TransactionStatus::Idle,
        b'T' => TransactionStatus::Open,
        b'E' => TransactionStatus::Failed,
        _ => return Err(WireError::Malformed("ReadyForQuery")),
    };
    fields.end()?;
    Ok(status)
}

/// Appends a ReadyForQuery.
pub fn ready_for_query(status: TransactionStatus, out: &mut BytesMut) {
    let status = match status {
        TransactionStatus::Idle => b'I',
        TransactionStatus::Open => b'T',
        TransactionStatus::Failed => b'E',
    };
    message(b'Z', out, |body| body.put_u8(status));
}

/// The number of rows that a command tag ends with (manual, 55.7, CommandComplete).
pub fn tag_rows(tag: &str) -> Option<u64> {
    tag.rsplit(' ').next()?.parse().ok()
}

/// The tag of a whole CommandComplete.
pub fn command_tag(message: &[u8]) -> Result<&str, WireError> {
    let mut fields = Fields::of_message(message, "CommandComplete")?;
    let tag = fields.text()?;
    fields.end()?;
    Ok(tag)
}

/// Where a result column comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldOrigin {
    /// Its name in the result.
    pub name: String,
    /// The table's OID; 0 where it isn't a plain column.
    pub table: u32,
    /// The column's number in that table; 0 where it isn't a plain column.
    pub column: i16,
    /// The OID of its type.
    pub type_oid: u32,
    /// Whether its values are in binary format.
    pub binary: bool,
}

/// Reads the origins of the columns of a whole RowDescription.
pub fn parse_row_origins(message: &[u8]) -> Result<Vec<FieldOrigin>, WireError> {
    let mut fields = Fields::of_message(message, "RowDescription")?;
    let mut origins = Vec::new();
    for _ in 0..fields.count()? {
        let name = String::from_utf8_lossy(fields.cstring()?).into_owned();
        let table = fields.u32()?;
        let column = fields.i16()?;
        let type_oid = fields.u32()?;
        fields.i16()?;
        fields.i32()?;
        let binary = fields.i16()? != 0;
        origins.push(FieldOrigin { name, table, column, type_oid, binary });
    }
    fields.end()?;
    Ok(origins)
}

/// The first column of a whole RowDescription for whose table's OID and number (0 where it
/// is no table's) `wanted` says yes.
pub fn find_origin(
    message: &[u8],
    wanted: impl Fn(u32, i16) -> bool,
) -> Result<Option<(u32, i16)>, WireError> {
    let mut fields = Fields::of_message(message, "RowDescription")?;
    let mut found = None;
    for _ in 0..fields.count()? {
        fields.cstring()?;
        let (table, column) = (fields.u32()?, fields.i16()?);
        fields.u32()?;
        fields.i16()?;
        fields.i32()?;
        fields.i16()?;
        if found.is_none() && wanted(table, column) {
            found = Some((table, column));
        }
    }
    fields.end()?;
    Ok(found)
}

/// The values of a whole DataRow; NULL is `None`.
pub fn data_row_values(message: &[u8]) -> Result<Vec<Option<&[u8]>>, WireError> {
    let mut fields = Fields::of_message(message, "DataRow")?;
    let mut values = Vec::new();
    for _ in 0..fields.count()? {
        values.push(fields.value()?);
    }
    fields.end()?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
        let mut out = BytesMut::new();
        write(&mut out);
        out.to_vec()
    }

    #[test]
    fn every_message_is_read_as_it_was_written_and_never_when_cut() {
        let key = BackendKey { process: 42, secret: vec![7; 32] };
        let row = written(|out| {
            message(b'T', out, |body| {
                body.extend_from_slice(b"\0\x01name\0\0\0\x40\x01\0\x02\0\0\0\x19\xff\xff");
                body.extend_from_slice(b"\xff\xff\xff\xff\0\0");
            });
        });
        type Reads = fn(&[u8]) -> bool;
        let cases: Vec<(&str, Vec<u8>, Reads)> = vec![
            ("ParameterStatus", written(|out| parameter_status("a", "b", out)), |m| {
                parse_parameter_status(m) == Ok(("a", "b"))
            }),
            ("ReadyForQuery", written(|o| ready_for_query(TransactionStatus::Failed, o)), |m| {
                parse_transaction_status(m) == Ok(TransactionStatus::Failed)
            }),
            (
                "CommandComplete",
                written(|out| message(b'C', out, |b| b.extend_from_slice(b"SELECT 3\0"))),
                |m| command_tag(m) == Ok("SELECT 3"),
            ),
            ("RowDescription", row, |m| {
                parse_row_origins(m)
                    == Ok(vec![FieldOrigin {
                        name: "name".into(),
                        table: 0x4001,
                        column: 2,
                        type_oid: 25,
                        binary: false,
                    }])
            }),
            (
                "DataRow",
                written(|out| {
                    message(b'D', out, |b| {
                        b.extend_from_slice(b"\0\x02\0\0\0\x01x\xff\xff\xff\xff");
                    });
                }),
                |m| data_row_values(m) == Ok(vec![Some(&b"x"[..]), None]),
            ),
            (
                "AuthenticationSASL",
                written(|out| authentication(&Authentication::Sasl(vec!["X".into()]), out)),
                |m| parse_authentication(m) == Ok(Authentication::Sasl(vec!["X".into()])),
            ),
            (
                "AuthenticationMD5Password",
                written(|out| authentication(&Authentication::Md5(*b"salt"), out)),
                |m| parse_authentication(m) == Ok(Authentication::Md5(*b"salt")),
            ),
            (
                "AuthenticationCleartextPassword",
                written(|out| authentication(&Authentication::Cleartext, out)),
                |m| parse_authentication(m) == Ok(Authentication::Cleartext),
            ),
            (
                "NegotiateProtocolVersion",
                written(|out| negotiate_protocol_version(3 << 16, vec!["_pq_.x".into()], out)),
                |m| parse_negotiated_version(m) == Ok((3 << 16, false)),
            ),
            (
                "NotificationResponse",
                written(|out| {
                    let (channel, payload) = ("orders", &b"\xff"[..]);
                    notification(Notification { process: 7, channel, payload }, out);
                }),
                |m| {
                    parse_notification(m).is_ok_and(|found| {
                        (found.process, found.channel, found.payload) == (7, "orders", b"\xff")
                    })
                },
            ),
            ("AuthenticationOk", written(|out| authentication(&Authentication::Ok, out)), |m| {
                parse_authentication(m) == Ok(Authentication::Ok)
            }),
        ];
        for (name, bytes, reads) in cases {
            assert!(reads(&bytes), "{name}");
            for cut in 0..bytes.len() {
                assert!(!reads(&bytes[..cut]), "{name} cut at {cut}");
            }
        }
        let bytes = written(|out| backend_key_data(&key, out));
        assert_eq!(parse_backend_key(&bytes), Ok(key));
        assert!(parse_backend_key(&bytes[..12]).is_err());
    }

    #[test]
    fn a_version_is_negotiated_with_its_full_number() {
        let bytes = written(|out| {
            negotiate_protocol_version(super::super::PROTOCOL_3_2, vec!["_pq_.x".into()], out);
        });
        assert_eq!(bytes, b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.x\0");
        // A count of options beyond what is there takes no memory and no time.
        assert!(parse_negotiated_version(b"v\0\0\0\x0c\0\x03\0\0\xff\xff\xff\xff").is_err());
    }
}
