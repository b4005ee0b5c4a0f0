//! Clients that haven't said who they are: half-open, slow, loud, or speaking something
//! else. They hold up nobody but themselves.

use super::*;

use tokio::net::TcpStream;

impl Session {
    async fn stranger(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.endpoints().port)).await.expect("the port")
    }
}

/// What a connection is told until its end.
async fn told(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let read = stream.read_to_end(&mut all);
    // A peer that closes with our bytes unread resets the connection: it has ended, too.
    let _ = timeout(Duration::from_secs(30), read).await.expect("an end in time");
    all
}

fn parameters(session: &Session, more: &[(&str, &str)]) -> Vec<u8> {
    let endpoints = session.endpoints();
    let mut body = Vec::new();
    let own = [("user", endpoints.user.as_str()), ("database", endpoints.database.as_str())];
    for (name, value) in own.iter().chain(more) {
        body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    body.push(0);
    body
}

fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).unwrap();
    [&length.to_be_bytes()[..], &code.to_be_bytes(), body].concat()
}

const SSL_REQUEST: u32 = 1234 << 16 | 5679;
const GSS_REQUEST: u32 = 1234 << 16 | 5680;

#[tokio::test]
async fn a_first_packet_of_any_other_shape_ends_its_connection_alone() {
    let session = Session::start().await;
    let good = parameters(&session, &[]);
    let ask = |code| packet(code, b"");
    // (what it sends, what it is told before the end)
    let cases: Vec<(&str, Vec<u8>, &[u8])> = vec![
        ("a length of 0", vec![0, 0, 0, 0], b""),
        ("a length of 7", vec![0, 0, 0, 7, 0, 3, 0], b""),
        ("a length of 2^31-1", vec![0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0], b""),
        ("a length of 2^32-1", vec![0xff; 8], b""),
        ("more than 10,000 bytes", packet(3 << 16, &vec![b'x'; 20_000]), b""),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), b""),
        (
            "TLS",
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
            b"\x15\x03\x01\0\x02\x02\x28",
        ),
        (
            "SSLRequest, then TLS",
            [ask(SSL_REQUEST), vec![0x16, 3, 1, 2]].concat(),
            b"N\x15\x03\x01\0\x02\x02\x28",
        ),
        ("each once", [ask(SSL_REQUEST), ask(GSS_REQUEST), packet(2 << 16, b"")].concat(), b"NNE"),
        ("over and over", ask(SSL_REQUEST).repeat(50), b"NNN"),
        ("version 4", packet(4 << 16, &good), b"E"),
        ("no end", packet(3 << 16, &good[..good.len() - 1]), b"E"),
        ("a name alone", packet(3 << 16, b"user\0"), b"E"),
        ("not text", packet(3 << 16, b"user\0\xff\0\0"), b"E"),
        ("twice", packet(3 << 16, b"user\0a\0user\0b\0\0"), b"E"),
    ];
    for (name, bytes, answer) in cases {
        let mut stranger = session.stranger().await;
        stranger.write_all(&bytes).await.unwrap();
        // No more will come, for those that wait for it.
        let _ = stranger.shutdown().await;
        let told = told(&mut stranger).await;
        assert!(told.starts_with(answer), "{name}: {told:?}");
        assert!(answer.is_empty() == told.is_empty(), "{name}: {told:?}");
    }
    assert_eq!(session.script("SELECT 'alive';\n").await.0, "alive\n");
}

#[tokio::test]
async fn versions_and_options_of_the_protocol_are_negotiated_and_keys_have_their_length() {
    let session = Session::start().await;
    let endpoints = session.endpoints();
    let path = endpoints.socket_dir.join(format!(".s.PGSQL.{}", endpoints.port));
    // (version, an option, the answer's version and options, the length of the key)
    type Case = (u32, Option<&'static str>, Option<(u32, &'static [u8])>, usize);
    let cases: [Case; 6] = [
        (3 << 16, None, None, 4),
        (3 << 16 | 2, None, None, 32),
        (3 << 16 | 1, None, Some((3 << 16, b"\0\0\0\0")), 4),
        (3 << 16 | 9999, None, Some((3 << 16 | 2, b"\0\0\0\0")), 32),
        (3 << 16, Some("_pq_.x"), Some((3 << 16, b"\0\0\0\x01_pq_.x\0")), 4),
        (3 << 16 | 2, Some("_pq_.x"), Some((3 << 16 | 2, b"\0\0\0\x01_pq_.x\0")), 32),
    ];
    for (version, option, negotiated, key) in cases {
        let stream = UnixStream::connect(&path).await.unwrap();
        let mut raw = Raw { stream, input: Vec::new() };
        let more: Vec<_> = option.map(|name| (name, "1")).into_iter().collect();
        raw.send(&packet(version, &parameters(&session, &more))).await;
        let messages = raw.until(b'Z').await;
        let answer = messages.iter().find(|message| message[0] == b'v');
        let found = answer.map(|message| {
            (u32::from_be_bytes(message[5..9].try_into().unwrap()), message[9..].to_vec())
        });
        assert_eq!(found, negotiated.map(|(version, rest)| (version, rest.to_vec())));
        let data = messages.iter().find(|message| message[0] == b'K').unwrap();
        assert_eq!(data.len() - 9, key, "{version:x}");
        // And it cancels what it is the key of, whole only.
        raw.send(&bytes(|out| wire::query("SELECT pg_sleep(60)", out))).await;
        let process = i32::from_be_bytes(data[5..9].try_into().unwrap());
        session.until_activity(|all| all.iter().any(|(_, event)| event == "PgSleep")).await;
        for secret in [&data[9..12], &data[9..]] {
            let mut other = UnixStream::connect(&path).await.unwrap();
            let request = wire::cancel_request(process, secret);
            other.write_all(&request).await.unwrap();
            let _ = other.read_to_end(&mut Vec::new()).await;
        }
        let cancelled = raw.until(b'Z').await;
        let error = cancelled.iter().find(|message| message[0] == b'E').unwrap();
        assert_eq!(ErrorFields::parse(error).unwrap().sqlstate(), "57014");
    }
}

#[tokio::test]
async fn messages_before_the_password_are_short() {
    let session = Session::start().await;
    let start = packet(3 << 16, &parameters(&session, &[]));
    let cases: [&[u8]; 6] = [
        b"p\x7f\xff\xff\xff",
        b"p\0\0\x27\x20",
        b"p\0\0\0\x03",
        b"Q\0\0\0\x0dSELECT 1\0",
        b"p\0\0\0\x08abcd",
        b"p\0\0\0\x1eSCRAM-SHA-256\0\x7f\xff\xff\xff\0\0\0\0\0\0\0\0",
    ];
    for message in cases {
        let mut stranger = session.stranger().await;
        stranger.write_all(&start).await.unwrap();
        stranger.write_all(message).await.unwrap();
        let told = told(&mut stranger).await;
        // It is asked for the password, and never let in.
        assert_eq!(told[0], b'R', "{told:?}");
        let asked = wire::header(&told).unwrap().unwrap().length;
        assert!(told[asked..].is_empty() || told[asked] == b'E', "{told:?}");
    }
    let (_, _, ok) = session.script("SELECT 1;\n").await;
    assert!(ok);
    let log = session.log();
    assert_eq!(log.iter().filter(|line| line["type"] == "connect").count(), 1);
}

#[tokio::test]
async fn a_client_that_sends_a_byte_a_second_is_given_up_in_time() {
    let session = Session::start().await;
    let start = packet(3 << 16, &parameters(&session, &[("application_name", "slow")]));
    let mut stranger = session.stranger().await;
    let begun = Instant::now();
    let mut bytes = start.into_iter();
    let mut told = Vec::new();
    while begun.elapsed() < Duration::from_secs(40) {
        let mut more = [0; 1024];
        tokio::select! {
            read = stranger.read(&mut more) => match read {
                Ok(length @ 1..) => told.extend_from_slice(&more[..length]),
                _ => break,
            },
            () = sleep(Duration::from_secs(1)) => {
                let _ = stranger.write_all(&[bytes.next().unwrap_or(0)]).await;
            }
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(35), "it is still there");
    let fields = ErrorFields::parse(&told).unwrap();
    assert_eq!(fields.sqlstate(), "57014");
    assert!(fields.message().contains("start-up"), "{}", fields.message());
}

#[tokio::test]
async fn a_crowd_of_strangers_is_turned_away_and_keeps_the_sessions_own_user_from_nothing() {
    let mut session = Session::start().await;
    let mut crowd = Vec::new();
    let mut turned_away = None;
    for _ in 0..200 {
        let mut stranger = session.stranger().await;
        let mut first = [0; 512];
        let read = timeout(Duration::from_millis(20), stranger.read(&mut first)).await;
        if let Ok(Ok(length @ 1..)) = read {
            turned_away = Some(first[..length].to_vec());
            break;
        }
        crowd.push(stranger);
    }
    let turned_away = turned_away.expect("somebody is turned away");
    let fields = ErrorFields::parse(&turned_away).unwrap();
    assert_eq!(fields.sqlstate(), "53300");
    assert!(crowd.len() >= 100, "{}", crowd.len());
    // Whom the kernel vouches for comes in all the same.
    assert_eq!(session.script("SELECT 'alive';\n").await.0, "alive\n");
    // Strangers come in again once others have gone.
    crowd.truncate(50);
    let url = session.endpoints().tcp_url().expose_secret().to_owned();
    let start = Instant::now();
    loop {
        let mut psql = session.psql();
        let output = psql.env_remove("PGHOST").args(["-Atc", "SELECT 1", &url]).output().await;
        if output.unwrap().stdout == b"1\n" {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "nobody is let in");
        sleep(Duration::from_millis(50)).await;
    }
    // Nor do they hold up the session's end: those that are left are told of it.
    let ender = session.carried.running.ender();
    ender.end(EndReason::Revoked, "by bob");
    let ended =
        timeout(Duration::from_secs(8), session.carried.running.ended()).await.expect("an end");
    assert_eq!(ended.reason, EndReason::Revoked);
    let last = told(crowd.last_mut().unwrap()).await;
    assert_eq!(ErrorFields::parse(&last).unwrap().sqlstate(), "57P01");
}
