//! Messages that a client sends (PostgreSQL manual, 55.7).

use bytes::{BufMut as _, BytesMut};
use pgwire::messages::{
    Message as _, simplequery::Query, startup::SASLInitialResponse, terminate::Terminate,
};

use super::{Fields, WireError};

/// Appends a message to `out`: type, length, and what `body` writes.
pub(super) fn message(tag: u8, out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let at = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&length);
    }
}

fn put_cstring(out: &mut BytesMut, text: &str) {
    debug_assert!(!text.contains('\0'));
    out.extend_from_slice(text.as_bytes());
    out.put_u8(0);
}

/// The text of a Query.
pub fn parse_query(message: &[u8]) -> Result<&str, WireError> {
    let mut fields = Fields::of_message(message, "Query")?;
    let sql = fields.text()?;
    fields.end()?;
    Ok(sql)
}

/// A Parse message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The prepared statement's name; empty for the unnamed one.
    pub name: &'a str,
    /// The text.
    pub sql: &'a str,
    /// The parameter types as they came: a count and the OIDs.
    pub types: &'a [u8],
}

impl Parse<'_> {
    /// The OIDs of the parameter types that it names; 0 leaves one to the server.
    pub fn type_oids(&self) -> impl Iterator<Item = u32> {
        let oids = self.types.get(2..).unwrap_or_default().as_chunks().0.iter();
        oids.map(|oid: &[u8; 4]| u32::from_be_bytes(*oid)).filter(|oid| *oid != 0)
    }
}

/// Reads a whole Parse.
pub fn parse_parse(message: &[u8]) -> Result<Parse<'_>, WireError> {
    let mut fields = Fields::of_message(message, "Parse")?;
    let name = fields.text()?;
    let sql = fields.text()?;
    let types = fields.rest();
    for _ in 0..fields.count()? {
        fields.u32()?;
    }
    fields.end()?;
    Ok(Parse { name, sql, types })
}

/// A value of a Bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundValue<'a> {
    /// Whether it is in binary format.
    pub binary: bool,
    /// The bytes; none for NULL.
    pub value: Option<&'a [u8]>,
}

/// A Bind message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The portal's name; empty for the unnamed one.
    pub portal: &'a str,
    /// The prepared statement's name.
    pub statement: &'a str,
    /// The values.
    pub values: Vec<BoundValue<'a>>,
    /// Whether the result's columns are wanted in binary: one for each, or one for all, or
    /// none for text.
    pub binary_results: Vec<bool>,
}

/// Reads a whole Bind.
pub fn parse_bind(message: &[u8]) -> Result<Bind<'_>, WireError> {
    let malformed = WireError::Malformed("Bind");
    let mut fields = Fields::of_message(message, "Bind")?;
    let portal = fields.text()?;
    let statement = fields.text()?;
    let mut formats = Vec::new();
    for _ in 0..fields.count()? {
        formats.push(fields.i16()? != 0);
    }
    let count = usize::from(fields.count()?);
    if formats.len() > 1 && formats.len() != count {
        return Err(malformed);
    }
    let mut values = Vec::new();
    for at in 0..count {
        let format = if formats.len() > 1 { formats.get(at) } else { formats.first() };
        values
            .push(BoundValue { binary: format.copied().unwrap_or(false), value: fields.value()? });
    }
    let mut binary_results = Vec::new();
    for _ in 0..fields.count()? {
        binary_results.push(fields.i16()? != 0);
    }
    fields.end()?;
    Ok(Bind { portal, statement, values, binary_results })
}

/// What a Describe or a Close speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A prepared statement.
    Statement(&'a str),
    /// A portal.
    Portal(&'a str),
}

impl<'a> Target<'a> {
    /// Its name.
    pub fn name(self) -> &'a str {
        match self {
            Self::Statement(name) | Self::Portal(name) => name,
        }
    }
}

/// Reads a whole Describe or Close.
pub fn parse_target(message: &[u8]) -> Result<Target<'_>, WireError> {
    let mut fields = Fields::of_message(message, "Describe or Close")?;
    let kind = fields.u8()?;
    let name = fields.text()?;
    fields.end()?;
    match kind {
        b'S' => Ok(Target::Statement(name)),
        b'P' => Ok(Target::Portal(name)),
        _ => Err(WireError::Malformed("Describe or Close")),
    }
}

/// An Execute message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execute<'a> {
    /// The portal's name.
    pub portal: &'a str,
    /// The most rows to return; 0 and below for all.
    pub rows: i32,
}

/// Reads a whole Execute.
pub fn parse_execute(message: &[u8]) -> Result<Execute<'_>, WireError> {
    let mut fields = Fields::of_message(message, "Execute")?;
    let portal = fields.text()?;
    let rows = fields.i32()?;
    fields.end()?;
    Ok(Execute { portal, rows })
}

/// The function's OID in a FunctionCall, whose arguments aren't read: it is refused.
pub fn parse_function_oid(message: &[u8]) -> Result<u32, WireError> {
    Fields::of_message(message, "FunctionCall")?.u32()
}

/// The mechanism and the first data of a SASLInitialResponse.
pub fn parse_sasl_initial(message: &[u8]) -> Result<(&str, &[u8]), WireError> {
    let mut fields = Fields::of_message(message, "SASLInitialResponse")?;
    let mechanism = fields.text()?;
    let data = fields.value()?.ok_or(WireError::Malformed("SASLInitialResponse"))?;
    fields.end()?;
    Ok((mechanism, data))
}

/// Appends a Query. The text holds no NUL (it comes from a message or from us).
pub fn query(sql: &str, out: &mut BytesMut) {
    match Query::new(sql.to_owned()).encode(out) {
        Ok(()) => {}
        // Longer than the protocol can say: the server must reject it, so say nothing of it.
        Err(_) => message(b'Q', out, |body| put_cstring(body, "statement too long")),
    }
}

/// Appends a Parse; `types` are a count and as many OIDs, as [`Parse::types`] gives them.
pub fn parse(name: &str, sql: &str, types: &[u8], out: &mut BytesMut) {
    message(b'P', out, |body| {
        put_cstring(body, name);
        put_cstring(body, sql);
        body.extend_from_slice(types);
    });
}

/// Appends a Bind without values or formats.
pub fn bind(portal: &str, statement: &str, out: &mut BytesMut) {
    message(b'B', out, |body| {
        put_cstring(body, portal);
        put_cstring(body, statement);
        body.extend_from_slice(&[0; 6]);
    });
}

/// Appends a Bind of the unnamed statement to the unnamed portal with these values,
/// which come from a message; results are to be text.
pub fn bind_values(values: &[BoundValue<'_>], out: &mut BytesMut) {
    let count = u16::try_from(values.len()).unwrap_or(u16::MAX);
    message(b'B', out, |body| {
        put_cstring(body, "");
        put_cstring(body, "");
        body.put_u16(count);
        for value in values {
            body.put_i16(value.binary.into());
        }
        body.put_u16(count);
        for value in values {
            match value.value {
                Some(value) => {
                    body.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
                    body.extend_from_slice(value);
                }
                None => body.put_i32(-1),
            }
        }
        body.put_u16(0);
    });
}

/// Appends a Sync.
pub fn sync(out: &mut BytesMut) {
    message(b'S', out, |_| {});
}

/// Appends a Flush.
pub fn flush(out: &mut BytesMut) {
    message(b'H', out, |_| {});
}

/// Appends a CopyFail.
pub fn copy_fail(why: &str, out: &mut BytesMut) {
    message(b'f', out, |body| put_cstring(body, why));
}

/// Appends a Describe of a portal.
pub fn describe_portal(name: &str, out: &mut BytesMut) {
    message(b'D', out, |body| {
        body.put_u8(b'P');
        put_cstring(body, name);
    });
}

/// Appends a Describe of a prepared statement.
pub fn describe_statement(name: &str, out: &mut BytesMut) {
    message(b'D', out, |body| {
        body.put_u8(b'S');
        put_cstring(body, name);
    });
}

/// Appends a Close of a portal.
pub fn close_portal(name: &str, out: &mut BytesMut) {
    message(b'C', out, |body| {
        body.put_u8(b'P');
        put_cstring(body, name);
    });
}

/// Appends an Execute.
pub fn execute(portal: &str, rows: i32, out: &mut BytesMut) {
    message(b'E', out, |body| {
        put_cstring(body, portal);
        body.put_i32(rows);
    });
}

/// Appends a Terminate.
pub fn terminate(out: &mut BytesMut) {
    Terminate::new().encode(out).expect("five constant bytes always fit");
}

/// Appends a SASLInitialResponse.
pub fn sasl_initial_response(mechanism: &str, data: &[u8], out: &mut BytesMut) {
    SASLInitialResponse::new(mechanism.to_owned(), Some(data.to_vec().into()))
        .encode(out)
        .unwrap_or_else(|_| out.clear());
}

/// Appends a PasswordMessage (text ended by NUL) or a SASLResponse (raw bytes).
pub fn password_response(data: &[u8], out: &mut BytesMut) {
    message(b'p', out, |body| body.extend_from_slice(data));
}

/// What answers AuthenticationMD5Password, without the NUL that ends it:
/// `md5` and hex(md5(hex(md5(password, user)), salt)) (manual, 55.2.1).
pub fn md5_password(user: &str, password: &str, salt: [u8; 4]) -> String {
    pgwire::api::auth::md5pass::hash_md5_password(user, password, &salt)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Reads = fn(&[u8]) -> bool;

    /// A message of each kind, as bytes, and how it is read.
    fn cases() -> Vec<(&'static str, Vec<u8>, Reads)> {
        vec![
            ("Query", framed(b'Q', b"SELECT 1\0"), |m| parse_query(m) == Ok("SELECT 1")),
            ("Parse", framed(b'P', b"s\0SELECT $1\0\0\x01\0\0\0\x17"), |m| {
                parse_parse(m)
                    == Ok(Parse { name: "s", sql: "SELECT $1", types: b"\0\x01\0\0\0\x17" })
            }),
            (
                "Bind",
                framed(b'B', b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\x01\0\0"),
                |m| {
                    let values = vec![
                        BoundValue { binary: true, value: Some(b"x") },
                        BoundValue { binary: true, value: None },
                    ];
                    let binary_results = vec![false];
                    parse_bind(m)
                        == Ok(Bind { portal: "p", statement: "s", values, binary_results })
                },
            ),
            ("Describe", framed(b'D', b"Ss\0"), |m| parse_target(m) == Ok(Target::Statement("s"))),
            ("Close", framed(b'C', b"Pp\0"), |m| parse_target(m) == Ok(Target::Portal("p"))),
            ("Execute", framed(b'E', b"p\0\0\0\0\x05"), |m| {
                parse_execute(m) == Ok(Execute { portal: "p", rows: 5 })
            }),
            ("SASLInitialResponse", framed(b'p', b"SCRAM-SHA-256\0\0\0\0\x02n,"), |m| {
                parse_sasl_initial(m) == Ok(("SCRAM-SHA-256", b"n,"))
            }),
        ]
    }

    fn framed(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        message(tag, &mut out, |to| to.extend_from_slice(body));
        out.to_vec()
    }

    #[test]
    fn every_message_is_read_whole_and_never_when_cut_or_longer() {
        for (name, bytes, reads) in cases() {
            assert!(reads(&bytes), "{name}");
            for cut in 0..bytes.len() {
                assert!(!reads(&bytes[..cut]), "{name} cut at {cut}");
            }
            let mut longer = bytes.clone();
            longer.push(0);
            assert!(!reads(&longer), "{name} with a byte too many");
        }
    }

    #[test]
    fn a_text_that_is_not_utf8_is_named_so() {
        assert_eq!(parse_query(&framed(b'Q', b"\xff\0")), Err(WireError::NotUtf8("Query")));
    }

    #[test]
    fn a_second_text_behind_a_nul_is_refused() {
        assert!(parse_query(&framed(b'Q', b"SELECT 1\0DROP TABLE t\0")).is_err());
        assert!(parse_parse(&framed(b'P', b"\0SELECT 1\0DROP\0\0\0")).is_err());
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let mut out = BytesMut::new();
        query("SELECT 1", &mut out);
        assert_eq!(parse_query(&out), Ok("SELECT 1"));
        out.clear();
        parse("s", "SELECT $1", b"\0\0", &mut out);
        assert_eq!(parse_parse(&out).map(|p| (p.name, p.sql)), Ok(("s", "SELECT $1")));
        out.clear();
        bind("p", "s", &mut out);
        assert_eq!(parse_bind(&out).map(|b| (b.portal, b.statement)), Ok(("p", "s")));
        out.clear();
        let values = [
            BoundValue { binary: true, value: Some(b"x") },
            BoundValue { binary: false, value: None },
        ];
        bind_values(&values, &mut out);
        assert_eq!(parse_bind(&out).map(|b| b.values), Ok(values.to_vec()));
        out.clear();
        describe_portal("p", &mut out);
        assert_eq!(parse_target(&out), Ok(Target::Portal("p")));
        out.clear();
        describe_statement("s", &mut out);
        assert_eq!(parse_target(&out), Ok(Target::Statement("s")));
        out.clear();
        close_portal("p", &mut out);
        assert_eq!((out[0], parse_target(&out)), (b'C', Ok(Target::Portal("p"))));
        out.clear();
        execute("p", 7, &mut out);
        assert_eq!(parse_execute(&out), Ok(Execute { portal: "p", rows: 7 }));
        out.clear();
        sasl_initial_response("SCRAM-SHA-256", b"n,,", &mut out);
        assert_eq!(parse_sasl_initial(&out), Ok(("SCRAM-SHA-256", &b"n,,"[..])));
    }
}
