//! Servers that say what they shouldn't, in every state of a start-up: each is a clear
//! error, soon, and no secret goes out.

use std::sync::{Arc, Mutex};

use secrecy::SecretString;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

use super::{login::Way, *};
use crate::{
    api::{CredentialKind, DatabaseHost, SessionAttrs, SslNegotiation},
    wire::scram::{ChannelBinding, ServerFirst, Verifier},
};

const PASSWORD: &str = "hunter2-hunter2";

/// What a server says, each after it has heard something.
#[derive(Clone)]
enum Say {
    Bytes(Vec<u8>),
    /// The challenge that follows a SASLInitialResponse, or what it is changed into.
    Challenge(fn(String) -> String),
    /// The proof that it knows the password, or what it is changed into.
    Proof(fn(String) -> String),
}

fn say(bytes: &[u8]) -> Say {
    Say::Bytes(bytes.to_vec())
}

fn message(what: &Authentication) -> Say {
    let mut out = BytesMut::new();
    wire::authentication(what, &mut out);
    Say::Bytes(out.to_vec())
}

fn sasl(mechanisms: &[&str]) -> Say {
    message(&Authentication::Sasl(mechanisms.iter().map(ToString::to_string).collect()))
}

/// Serves every connection by the same script; keeps what it has heard.
async fn server(script: Vec<Say>) -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let keeps = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut scram = None;
            for step in script.clone() {
                let mut said = vec![0; 4096];
                let length = stream.read(&mut said).await.unwrap_or(0);
                said.truncate(length);
                keeps.lock().unwrap().extend_from_slice(&said);
                let answer = match step {
                    Say::Bytes(bytes) => bytes,
                    Say::Challenge(change) => {
                        let (_, first) = wire::parse_sasl_initial(&said).unwrap();
                        let verifier = Verifier::new(PASSWORD, b"salt", 4096);
                        let server = ServerFirst::new(verifier, first, "more").unwrap();
                        let text = change(server.message().to_owned());
                        scram = Some(server);
                        written(&Authentication::SaslContinue(text.into_bytes()))
                    }
                    Say::Proof(change) => {
                        let server = scram.take().unwrap();
                        let text = server.finish(&said[wire::HEADER..]).unwrap();
                        written(&Authentication::SaslFinal(change(text).into_bytes()))
                    }
                };
                let _ = stream.write_all(&answer).await;
            }
            // What comes once there is nothing more to say is heard, too.
            let mut rest = Vec::new();
            let _ = timeout(Duration::from_millis(100), stream.read_to_end(&mut rest)).await;
            keeps.lock().unwrap().extend_from_slice(&rest);
        }
    });
    (port, heard)
}

fn written(what: &Authentication) -> Vec<u8> {
    let mut out = BytesMut::new();
    wire::authentication(what, &mut out);
    out.to_vec()
}

fn access(port: u16, sslmode: &str) -> DatabaseAccess {
    DatabaseAccess {
        host: "127.0.0.1".into(),
        port,
        further: Vec::new(),
        target_session_attrs: SessionAttrs::Any,
        database: "shop".into(),
        user: "app".into(),
        password: SecretString::from(PASSWORD),
        sslmode: sslmode.into(),
        ca_pem: None,
        sslnegotiation: SslNegotiation::Postgres,
        channel_binding: ChannelBindingUse::Prefer,
        client_certificate: None,
        credential: CredentialKind::Static,
        catalog_epoch: None,
    }
}

async fn connect(access: &DatabaseAccess) -> Result<Upstream, UpstreamError> {
    let config = UpstreamConfig::new(access)?;
    config.connect(&ConnectionPermit::own(), &BTreeMap::new()).await
}

/// All that a good server says at once after AuthenticationOk.
fn ready(key: usize) -> Vec<u8> {
    let mut out = BytesMut::new();
    wire::authentication(&Authentication::Ok, &mut out);
    wire::parameter_status("client_encoding", "UTF8", &mut out);
    wire::parameter_status("standard_conforming_strings", "on", &mut out);
    wire::backend_key_data(&BackendKey { process: 7, secret: vec![9; key] }, &mut out);
    wire::ready_for_query(wire::TransactionStatus::Idle, &mut out);
    out.to_vec()
}

fn same(text: String) -> String {
    text
}

const SCRAM: &[&str] = &["SCRAM-SHA-256"];
const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";

#[tokio::test]
async fn whatever_a_server_says_at_the_start_is_a_clear_error_and_gets_no_password() {
    let ok = |more: &[u8]| vec![Say::Bytes([OK, more].concat())];
    let plain: Vec<(Vec<Say>, &str)> = vec![
        (vec![say(b"")], "closed the connection at once"),
        (vec![say(b"R")], "broke"),
        (vec![say(b"R\0\0\0\x03")], "broke the protocol"),
        (vec![say(b"R\xff\xff\xff\xff")], "broke the protocol"),
        (vec![say(b"R\x3f\xff\xff\xff")], "broke the protocol"),
        (vec![say(b"HTTP/1.1 400 Bad Request\r\n\r\n")], "broke the protocol"),
        (vec![say(b"Z\0\0\0\x05I")], "Authentication message was expected"),
        (vec![say(b"R\0\0\0\x06\0\0")], "malformed"),
        (vec![say(b"R\0\0\0\x09\0\0\0\0x")], "malformed"),
        (vec![say(b"R\0\0\0\x08\0\0\0\x07")], "authentication method 7"),
        (vec![say(b"R\0\0\0\x0b\0\0\0\x05abc")], "malformed"),
        (vec![message(&Authentication::Cleartext)], "cleartext password without TLS"),
        (vec![say(b"v\0\0\0\x0c\0\x03\0\x01\0\0\0\0")], "NegotiateProtocolVersion"),
        (vec![say(b"v\0\0\0\x0c\0\x02\0\0\0\0\0\0")], "NegotiateProtocolVersion"),
        (vec![say(b"v\0\0\0\x0c\0\x03\0\0\xff\xff\xff\xff")], "malformed"),
        (vec![say(b"v\0\0\0\x0f\0\x03\0\0\0\0\0\x01_x\0")], "NegotiateProtocolVersion"),
        (vec![say(b"E\0\0\0\x05\0")], "refused"),
        (vec![say(b"E\0\0\0\x08SFAT")], "malformed"),
        // SASL.
        (vec![sasl(&[])], "SASL without SCRAM-SHA-256"),
        (vec![sasl(&["OAUTHBEARER"])], "SASL without SCRAM-SHA-256"),
        (vec![sasl(&["SCRAM-SHA-256-PLUS"])], "SASL without SCRAM-SHA-256"),
        (vec![say(b"R\0\0\0\x0f\0\0\0\x0aSCRAM-S")], "malformed"),
        (vec![message(&Authentication::SaslContinue(b"r=x".to_vec()))], "was expected"),
        (vec![message(&Authentication::SaslFinal(b"v=x".to_vec()))], "was expected"),
        (vec![sasl(SCRAM), say(OK)], "AuthenticationSASLContinue message was expected"),
        (vec![sasl(SCRAM), message(&Authentication::Cleartext)], "was expected"),
        (vec![sasl(SCRAM), message(&Authentication::SaslContinue(b"\xff".to_vec()))], "UTF-8"),
        (vec![sasl(SCRAM), Say::Challenge(|_| "r=other,s=c2FsdA==,i=1".into())], "nonce"),
        (
            vec![sasl(SCRAM), Say::Challenge(|text| text.replace("i=4096", "i=4294967295"))],
            "asks for",
        ),
        (vec![sasl(SCRAM), Say::Challenge(|text| text.replace("i=4096", "i=0"))], "malformed"),
        (vec![sasl(SCRAM), Say::Challenge(|_| String::new())], "malformed"),
        // It skips the proof that it knows the password.
        (vec![sasl(SCRAM), Say::Challenge(same), say(OK)], "AuthenticationSASLFinal"),
        (
            vec![sasl(SCRAM), Say::Challenge(same), Say::Proof(|_| "v=AAAA".into())],
            "could not prove",
        ),
        (vec![sasl(SCRAM), Say::Challenge(same), Say::Proof(|_| "e=no".into())], "refused"),
        (vec![sasl(SCRAM), Say::Challenge(same), Say::Proof(|_| String::new())], "malformed"),
        // After AuthenticationOk.
        (ok(b""), "broke"),
        (ok(b"K\0\0\0\x08\0\0\0\x01"), "malformed"),
        (ok(b"S\0\0\0\x07abc"), "malformed"),
        (ok(b"S\x20\0\0\0"), "length"),
        (ok(b"D\0\0\0\x06\0\0"), "ReadyForQuery message was expected"),
        (ok(b"Z\0\0\0\x05X"), "malformed"),
        (ok(b"Z\0\0\0\x04"), "malformed"),
        (ok(b"Z\0\0\0\x05I"), "client_encoding"),
        (ok(&b"N\0\0\0\x05\0".repeat(MOST_AT_START + 1)), "ReadyForQuery message was expected"),
    ];
    let tls: Vec<(Vec<Say>, &str)> = vec![
        (vec![say(b"")], "broke"),
        (vec![say(b"N")], "doesn't offer TLS"),
        (vec![say(b"E\0\0\0\x05\0")], "SSL message was expected"),
        // Slipped in before TLS begins: never taken for what comes under it.
        (vec![say(&[b"S", OK].concat())], "TLS with the database failed"),
        (vec![say(b"S"), say(b"HTTP/1.1 400\r\n")], "TLS with the database failed"),
        (vec![say(b"S"), say(b"")], "TLS with the database failed"),
    ];
    let started = Instant::now();
    let cases = plain.into_iter().map(|case| ("disable", case));
    for (sslmode, (script, said)) in cases.chain(tls.into_iter().map(|case| ("require", case))) {
        let (port, heard) = server(script).await;
        let error = connect(&access(port, sslmode)).await.expect_err(said).to_string();
        assert!(error.contains(said), "{said}: {error}");
        let heard = String::from_utf8_lossy(&heard.lock().unwrap()).into_owned();
        assert!(!error.contains("hunter2") && !heard.contains("hunter2"), "{said}: {heard}");
    }
    assert!(started.elapsed() < PATIENCE.alone, "one of them was waited for");
}

#[tokio::test]
async fn the_newer_protocol_is_asked_for_and_the_older_one_taken() {
    let no = b"E\0\0\0\x10C08P01\0Mno\0\0";
    let old = b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0";
    let cases = [
        (vec![Say::Bytes(ready(32))], vec![2], 32),
        (vec![Say::Bytes([&old[..], &ready(4)].concat())], vec![2], 4),
    ];
    for (script, versions, key) in cases {
        let (port, heard) = server(script).await;
        let upstream = connect(&access(port, "disable")).await.unwrap();
        assert_eq!(upstream.key.unwrap().secret.len(), key);
        let heard = heard.lock().unwrap().clone();
        assert_eq!(vec![heard[7]], versions);
    }
    // One that refuses, or hangs up, is tried with 3.0 once, and no more.
    for answer in [&no[..], b""] {
        let (port, heard) = server(vec![say(answer)]).await;
        connect(&access(port, "disable")).await.unwrap_err();
        let heard = heard.lock().unwrap().clone();
        let second = usize::from(heard[3]);
        assert_eq!((heard[7], heard[second + 7]), (2, 0));
        assert_eq!(heard.len(), 2 * second);
    }
}

#[tokio::test]
async fn a_server_that_must_be_bound_to_is_told_nothing_without() {
    let required = |port| DatabaseAccess {
        channel_binding: ChannelBindingUse::Require,
        ..access(port, "disable")
    };
    // There can be no binding without TLS: it isn't even dialled.
    let error = connect(&required(1)).await.unwrap_err().to_string();
    assert!(error.contains("there is no TLS"), "{error}");
    let login = Login {
        user: "app".into(),
        password: SecretString::from(PASSWORD),
        binding: ChannelBindingUse::Require,
        keys: std::sync::Arc::default(),
    };
    let bound = || ChannelBinding::EndPoint(vec![1; 32]);
    let cases = [
        (sasl(SCRAM), bound(), "offers no channel binding"),
        (sasl(&["SCRAM-SHA-256-PLUS"]), ChannelBinding::Unsupported, "gives nothing to bind to"),
        (message(&Authentication::Md5(*b"salt")), bound(), "asks for no SCRAM"),
        (message(&Authentication::Cleartext), bound(), "asks for no SCRAM"),
        (message(&Authentication::Ok), bound(), "asks for no SCRAM"),
    ];
    for (asked, available, said) in cases {
        let (port, heard) = server(vec![asked]).await;
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        let stream = Stream::Tcp(stream);
        let mut upstream = Upstream {
            place: Place::Unix("unused".into()),
            stream,
            input: BytesMut::new(),
            key: None,
            parameters: Vec::new(),
        };
        let error = login.prove(&mut upstream, available, Way::Checked).await.unwrap_err();
        assert!(error.to_string().contains(said), "{said}: {error}");
        drop(upstream);
        assert_eq!(*heard.lock().unwrap(), b"x");
    }
}

#[tokio::test]
async fn tls_begins_at_once_where_the_target_says_so() {
    let (port, heard) = server(vec![say(b"N")]).await;
    let direct =
        DatabaseAccess { sslnegotiation: SslNegotiation::Direct, ..access(port, "require") };
    let error = connect(&direct).await.unwrap_err().to_string();
    assert!(error.contains("takes PostgreSQL 17 or newer"), "{error}");
    let heard = heard.lock().unwrap().clone();
    assert_eq!(heard[..2], [0x16, 0x03]);
    assert!(heard.windows(11).any(|bytes| bytes == b"\x0apostgresql"), "no ALPN");
    let plain = DatabaseAccess { sslmode: "disable".into(), ..direct };
    assert!(matches!(connect(&plain).await, Err(UpstreamError::Tls(_))));
}

#[tokio::test]
async fn a_login_without_a_password_tells_a_server_that_wants_one() {
    for asked in [message(&Authentication::Md5(*b"salt")), sasl(SCRAM)] {
        let (port, _) = server(vec![asked]).await;
        let bare = DatabaseAccess { password: SecretString::from(""), ..access(port, "disable") };
        assert!(matches!(connect(&bare).await, Err(UpstreamError::NoPassword)));
    }
}

#[tokio::test]
async fn many_hosts_that_say_nothing_take_no_longer_than_a_search_may() {
    let mut silent = Vec::new();
    for _ in 0..6 {
        silent.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let ports = silent.iter().map(|one| one.local_addr().unwrap().port()).collect::<Vec<_>>();
    let mut primary = BytesMut::new();
    wire::authentication(&Authentication::Ok, &mut primary);
    wire::parameter_status("in_hot_standby", "off", &mut primary);
    wire::parameter_status("default_transaction_read_only", "off", &mut primary);
    let answer = [&primary[..], &ready(4)[9..]].concat();
    let (live, _) = server(vec![Say::Bytes(answer)]).await;
    let patience =
        Patience { each: Duration::from_millis(400), all: Duration::from_millis(1200), ..PATIENCE };
    let at = |ports: &[u16], wanted: &str| {
        let host = |&port| DatabaseHost { host: "127.0.0.1".into(), port };
        let access = DatabaseAccess {
            further: ports[1..].iter().map(host).collect(),
            target_session_attrs: SessionAttrs::named(wanted).unwrap(),
            ..access(ports[0], "disable")
        };
        UpstreamConfig { patience, ..UpstreamConfig::new(&access).unwrap() }
    };
    for wanted in ["any", "prefer-standby"] {
        let started = Instant::now();
        let nowhere = at(&ports, wanted);
        let error = nowhere.connect(&ConnectionPermit::own(), &BTreeMap::new()).await.unwrap_err();
        let (error, took) = (error.to_string(), started.elapsed());
        assert!(took < patience.all + Duration::from_millis(400), "{took:?}");
        let named = |port: &u16| error.contains(&format!("127.0.0.1:{port} did not answer"));
        assert!(ports.iter().all(named), "{error}");

        // Whoever comes after them has its share.
        let last = at(&[&ports[..], &[live]].concat(), wanted);
        let found = last.connect(&ConnectionPermit::own(), &BTreeMap::new()).await.unwrap();
        assert_eq!(found.place.to_string(), format!("127.0.0.1:{live}"));
    }
}

#[test]
fn each_of_several_hosts_has_a_fair_share_of_the_search() {
    let seconds = |spent, turns| PATIENCE.at(Duration::from_secs(spent), turns).as_secs_f64();
    // (seconds that are over, turns that are left, seconds of the next one)
    for (spent, turns, most) in [
        (0, 2, 8.0),
        (0, 5, 8.0),
        (0, 16, 2.5),
        (20, 8, 2.5),
        (36, 1, 4.0),
        (40, 1, 0.0),
        (90, 3, 0.0),
    ] {
        assert!((seconds(spent, turns) - most).abs() < 0.001, "{spent} {turns}");
    }
}
