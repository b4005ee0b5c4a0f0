//! Messages of 64 MiB and clients that stop: what is carried, what is refused.

use super::*;

/// The largest that PostgreSQL's clients are asked for here.
const LARGE: usize = 64 * 1024 * 1024;

fn framed(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u32::try_from(body.len() + 4).expect("it fits").to_be_bytes();
    [&[tag][..], &length, &body].concat()
}

fn tags(messages: &[Vec<u8>]) -> String {
    messages.iter().map(|message| char::from(message[0])).collect()
}

fn refused(messages: &[Vec<u8>]) -> ErrorFields {
    let error = messages.iter().find(|message| message[0] == b'E').expect("an error");
    ErrorFields::parse(error).expect("an error")
}

#[tokio::test]
async fn a_row_of_64_mib_comes_whole() {
    let session = Session::start().await;
    let mut raw = session.raw().await;
    let sql = format!("SELECT repeat('x', {LARGE})");
    raw.send(&bytes(|out| wire::query(&sql, out))).await;
    let heard = raw.until(b'Z').await;
    assert_eq!(tags(&heard), "TDCZ");
    assert_eq!(wire::data_row_values(&heard[1]).expect("a row")[0].map(<[u8]>::len), Some(LARGE));
}

#[tokio::test]
async fn a_bound_value_and_copied_data_of_64_mib_go_through() {
    let session = Session::start().await;
    let mut raw = session.raw().await;
    let large = vec![b'x'; LARGE];
    let length = u32::try_from(LARGE).expect("it fits").to_be_bytes();
    let bind = framed(b'B', &[b"\0\0\0\0\0\x01", &length, &large, b"\0\0"]);
    let parse = bytes(|out| wire::parse("", "SELECT length($1::text)", &[0, 0], out));
    let execute = bytes(|out| wire::execute("", 0, out));
    raw.send(&[parse, bind, execute, SYNC.to_vec()].concat()).await;
    let heard = raw.until(b'Z').await;
    assert_eq!(tags(&heard), "12DCZ");
    assert_eq!(wire::data_row_values(&heard[2]).expect("a row")[0], Some(&b"67108864"[..]));
    // The log keeps what such a value was, not the value.
    let log = session.log();
    let run = log
        .iter()
        .filter_map(|line| line.get("parameters"))
        .find(|p| p.to_string().contains("sha256"));
    assert!(run.is_some_and(|run| run.to_string().len() < 1_000), "{run:?}");

    raw.send(&bytes(|out| wire::query("COPY again FROM STDIN", out))).await;
    raw.until(b'G').await;
    let row = framed(b'd', &[b"1\t", &large, b"\n"]);
    raw.send(&[row, framed(b'c', &[])].concat()).await;
    assert_eq!(tags(&raw.until(b'Z').await), "CZ");
    raw.send(&bytes(|out| wire::query("SELECT length(item) FROM again", out))).await;
    let heard = raw.until(b'Z').await;
    assert_eq!(wire::data_row_values(&heard[1]).expect("a row")[0], Some(&b"67108864"[..]));
}

#[tokio::test]
async fn a_statement_of_64_mib_is_refused_with_a_reason_and_the_session_goes_on() {
    let session = Session::start().await;
    let mut raw = session.raw().await;
    let sql = format!("SELECT '{}'", "x".repeat(LARGE));
    raw.send(&bytes(|out| wire::query(&sql, out))).await;
    let heard = raw.until(b'Z').await;
    assert_eq!(tags(&heard), "EZ");
    let fields = refused(&heard);
    assert!(fields.message().contains("long"), "{}", fields.message());
    assert_ne!(fields.sqlstate(), "58030", "the log is in order");
    raw.send(&[bytes(|out| wire::parse("", &sql, &[0, 0], out)), SYNC.to_vec()].concat()).await;
    assert_eq!(tags(&raw.until(b'Z').await), "EZ");
    raw.send(&bytes(|out| wire::query("SELECT 1", out))).await;
    assert_eq!(tags(&raw.until(b'Z').await), "TDCZ");
    // Refused, and in the log with as much of its text as says what it was.
    let line = session.log().into_iter().find(|line| line.get("sql").is_some()).expect("a line");
    assert!(line["sql"].as_str().is_some_and(|sql| sql.starts_with("SELECT 'xxx")));
    assert!(line.to_string().len() < 64 * 1024);
}

#[tokio::test]
async fn a_message_beyond_what_is_held_ends_the_connection_before_it_is_read() {
    let session = Session::start().await;
    let mut raw = session.raw().await;
    let length = 100_u32 * 1024 * 1024;
    raw.send(&[&b"Q"[..], &length.to_be_bytes(), b"SELECT"].concat()).await;
    let heard = raw.until(b'E').await;
    let fields = refused(&heard);
    assert!(fields.is_fatal(), "{}", fields.message());
    assert!(fields.message().contains("a message of 104857601 bytes is longer than"));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_not_read_from_either() {
    let session = Session::start().await;
    let Raw { stream, .. } = session.raw().await;
    let (_reading, mut writing) = stream.into_split();
    // Each asks for 1 MB and is 50 bytes long: what is taken is bounded by what is read.
    let ask = bytes(|out| wire::query("SELECT repeat('x', 1000000)", out));
    let asks = ask.repeat(200_000);
    let sent = timeout(Duration::from_secs(3), writing.write_all(&asks)).await;
    assert!(sent.is_err(), "it never takes 7 MB of questions whose answers nobody reads");
}
