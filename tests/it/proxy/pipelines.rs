//! Pipelines of every kind through pgate, against the same to PostgreSQL directly:
//! `pipelines.txt` is the table.

use pgate::wire::scram::{ChannelBinding, ClientFirst};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::*;

const TABLE: &str = include_str!("pipelines.txt");
/// What stands for DENIED where policy decides, and where PostgreSQL does.
const REFUSED: &str = "DELETE FROM orders";
const AN_ERROR: &str = "DELETE FROM FROM orders";

/// One step of a pipeline.
enum Step {
    Say(Vec<u8>),
    Wait,
}

fn framed(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u32::try_from(body.len() + 4).expect("a short message").to_be_bytes();
    [&[tag][..], &length, &body].concat()
}

/// A name's bytes; `-` is the unnamed one.
fn name(word: &str) -> &str {
    if word == "-" { "" } else { word }
}

/// Bytes as the table writes them.
fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'\\' => match rest.next().expect("something behind a backslash") {
                b't' => b'\t',
                b'n' => b'\n',
                b'r' => b'\r',
                b'0' => 0,
                b'x' => {
                    let digits = [rest.next(), rest.next()].map(|digit| digit.expect("two digits"));
                    let digits = std::str::from_utf8(&digits).expect("digits");
                    u8::from_str_radix(digits, 16).expect("two digits")
                }
                other => panic!("\\{other} means nothing"),
            },
            other => other,
        });
    }
    out
}

fn step(step: &str, denied: &str) -> Step {
    let step = step.replace("DENIED", denied);
    let (word, rest) = step.split_once(' ').unwrap_or((&step, ""));
    let two = || rest.split_once(' ').expect("two words");
    let parsed = |name: &str, sql: &str| bytes(|out| wire::parse(name, sql, &[0, 0], out));
    Step::Say(match word {
        "Q" => bytes(|out| wire::query(rest, out)),
        "X" => extended(rest),
        "P" => {
            let (named, sql) = rest.split_once(": ").or(rest.split_once(':')).expect("a name");
            parsed(name(named), sql)
        }
        "B" => bytes(|out| wire::bind(name(two().0), name(two().1), out)),
        "E" => bytes(|out| wire::execute(name(two().0), two().1.parse().expect("rows"), out)),
        "D" => framed(b'D', &[two().0.as_bytes(), name(two().1).as_bytes(), b"\0"]),
        "C" => framed(b'C', &[two().0.as_bytes(), name(two().1).as_bytes(), b"\0"]),
        "S" => SYNC.to_vec(),
        "H" => framed(b'H', &[]),
        "d" => framed(b'd', &[&unescaped(rest)]),
        "c" => framed(b'c', &[]),
        "f" => framed(b'f', &[b"no more\0"]),
        "F" => framed(b'F', &[&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0]]),
        "W" => return Step::Wait,
        other => panic!("{other} is no step"),
    })
}

/// A client of pgate or of PostgreSQL itself.
struct Peer<S> {
    stream: S,
    input: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    async fn message(&mut self) -> Option<Vec<u8>> {
        next_message(&mut self.stream, &mut self.input, Duration::from_secs(60)).await
    }

    async fn until(&mut self, tags: &[u8]) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        while let Some(message) = self.message().await {
            let found = message[0];
            messages.push(message);
            if tags.contains(&found) {
                break;
            }
        }
        messages
    }

    async fn say(&mut self, bytes: &[u8]) {
        // A server that has hung up says so in what is read.
        let _ = self.stream.write_all(bytes).await;
    }

    /// Plays a pipeline; what is heard of it, up to the answer of a last question or to
    /// the end of the connection.
    async fn play(&mut self, steps: &str, denied: &str) -> Vec<Vec<u8>> {
        self.say(&bytes(|out| wire::query("TRUNCATE again, keyed, later", out))).await;
        self.until(b"Z").await;
        let mut heard = Vec::new();
        for text in steps.split('|').map(|step| step.strip_prefix(' ').unwrap_or(step)) {
            // Blanks count in an empty statement.
            let text = if text.len() > 2 { text.trim_end() } else { text };
            if text.trim().is_empty() {
                continue;
            }
            match step(text, denied) {
                Step::Say(bytes) => self.say(&bytes).await,
                Step::Wait => heard.extend(self.until(b"GZE").await),
            }
        }
        self.say(&bytes(|out| wire::query("SELECT 'the end of it'", out))).await;
        while let Some(message) = self.message().await {
            let last = message.windows(13).any(|text| text == b"the end of it");
            heard.push(message);
            if last {
                heard.extend(self.until(b"Z").await);
                break;
            }
        }
        heard
    }
}

/// Past the start-up at PostgreSQL's own door.
async fn direct(access: &DatabaseAccess) -> Peer<TcpStream> {
    let stream = TcpStream::connect((access.host.as_str(), access.port)).await.expect("a server");
    let mut peer = Peer { stream, input: Vec::new() };
    let parameters = [("user", &access.user), ("database", &access.database)]
        .map(|(name, value)| (name.to_owned(), value.clone()));
    peer.say(&wire::startup_message(wire::PROTOCOL_3_0, &parameters.into()).expect("a start-up"))
        .await;
    let first = ClientFirst::new("", "pipelines", ChannelBinding::Unsupported);
    peer.message().await;
    let initial = first.message();
    let initial = initial.as_bytes();
    peer.say(&bytes(|out| wire::sasl_initial_response(first.mechanism(), initial, out))).await;
    let challenge = peer.message().await.expect("a challenge");
    let Ok(wire::Authentication::SaslContinue(challenge)) = wire::parse_authentication(&challenge)
    else {
        panic!("no challenge");
    };
    let (_, answer, _) =
        first.answer(&challenge, access.password.expose_secret(), None).expect("SCRAM");
    peer.say(&bytes(|out| wire::password_response(answer.as_bytes(), out))).await;
    peer.until(b"Z").await;
    peer
}

/// What was heard, to be compared: every message whole, but of errors and notices what
/// kind they are. `denied`: of the error that stands for DENIED, only that it is one.
fn shown(messages: &[Vec<u8>]) -> Vec<String> {
    let shown = messages.iter().map(|message| match message[0] {
        kind @ (b'E' | b'N') => {
            let fields = ErrorFields::parse(message).expect("fields");
            let sqlstate = match fields.sqlstate() {
                // Refused here; a syntax error, or no such function, there.
                "42501" | "42601" | "42883" => "refused",
                other => other,
            };
            let fatal = if fields.is_fatal() { " FATAL" } else { "" };
            format!("{} {sqlstate}{fatal}", char::from(kind))
        }
        kind => format!("{} {}", char::from(kind), message[wire::HEADER..].escape_ascii()),
    });
    shown.collect()
}

#[tokio::test]
async fn pipelines_are_answered_as_postgresql_alone_answers_them() {
    let end = Timestamp::now() + SignedDuration::from_hours(1);
    let session = Session::of(end, role(ROWS)).await;
    let cluster = harness::cluster().await;
    let setup = "CREATE TABLE keyed (id int PRIMARY KEY);
         CREATE TABLE later (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)";
    cluster.execute(&session.database, setup).await.expect("tables");
    let access = access(cluster, &session.database);
    let mut wrong = Vec::new();
    let mut played = 0;
    for line in TABLE.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (about, steps) = line.split_once('|').expect("a name and steps");
        let Raw { stream, input } = session.raw().await;
        let through = Peer { stream, input }.play(steps, REFUSED).await;
        let alone = direct(&access).await.play(steps, AN_ERROR).await;
        let (through, alone) = (shown(&through), shown(&alone));
        if through != alone {
            wrong.push(format!("{about}\n  pgate      {through:?}\n  PostgreSQL {alone:?}"));
        }
        played += 1;
    }
    assert!(wrong.is_empty(), "{} of {played} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(played > 80, "{played} pipelines");
}

#[tokio::test]
async fn ten_thousand_statements_before_one_sync_are_answered_without_a_deadlock() {
    let session = Session::start().await;
    let Raw { stream, input } = session.raw().await;
    let (mut reading, mut writing) = stream.into_split();
    let depth = 10_000;
    let pipeline = extended("SELECT item FROM orders WHERE id = 7").repeat(depth);
    let sent = tokio::spawn(async move {
        writing.write_all(&[pipeline, SYNC.to_vec()].concat()).await.expect("the proxy reads");
        writing
    });
    let mut input = input;
    let mut answers = [0_usize; 256];
    while answers[usize::from(b'Z')] == 0 {
        let read = timeout(Duration::from_secs(60), reading.read_buf(&mut input)).await;
        assert!(read.expect("an answer in time").expect("bytes") > 0, "it stays open");
        let mut rest = input.as_slice();
        while let Some(header) = wire::header(rest).expect("a message")
            && let Some((message, after)) = rest.split_at_checked(header.length)
        {
            answers[usize::from(message[0])] += 1;
            rest = after;
        }
        input = rest.to_vec();
    }
    for tag in *b"12DC" {
        assert_eq!(answers[usize::from(tag)], depth, "{}", char::from(tag));
    }
    assert_eq!(answers[usize::from(b'E')], 0);
    drop(sent.await);
}
