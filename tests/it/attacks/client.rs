//! A client that speaks bytes and keeps all that it hears.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use pgate::wire::{
    self, ErrorFields,
    scram::{ChannelBinding, ClientFirst},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

use super::corpus::{Step, Word};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long what nobody asked for may take.
const SHORT: Duration = Duration::from_millis(30);

/// Where a session's proxy listens.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub(super) socket: PathBuf,
    pub(super) user: String,
    pub(super) database: String,
    /// Only PostgreSQL itself asks for one.
    pub(super) password: Option<String>,
}

/// Messages as they came.
#[derive(Debug, Default)]
pub(super) struct Received {
    bytes: Vec<u8>,
    messages: Vec<Vec<u8>>,
}

impl Received {
    pub(super) fn messages(&self) -> &[Vec<u8>] {
        &self.messages
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The values of all rows one after the other, row by row and column by column,
    /// and the names of columns.
    pub(super) fn values_in_a_row(&self) -> Vec<Vec<u8>> {
        let mut by_row = Vec::new();
        let mut by_column = Vec::<Vec<u8>>::new();
        for message in self.messages.iter().filter(|message| message[0] == b'D') {
            let Ok(values) = wire::data_row_values(message) else { continue };
            for (at, value) in values.into_iter().enumerate() {
                let Some(value) = value else { continue };
                by_row.extend_from_slice(value);
                if by_column.len() <= at {
                    by_column.resize(at + 1, Vec::new());
                }
                by_column[at].extend_from_slice(value);
            }
        }
        by_column.push(by_row);
        by_column
    }

    /// Whether nothing was done that changes anything, as far as the server says.
    pub(super) fn is_quiet(&self) -> bool {
        const QUIET: [&str; 12] = [
            "SELECT", "COPY", "BEGIN", "START", "COMMIT", "ROLLBACK", "SHOW", "SET", "FETCH",
            "DECLARE", "PREPARE", "EXPLAIN",
        ];
        let tags = self.messages.iter().filter(|message| message[0] == b'C');
        tags.filter_map(|message| wire::command_tag(message).ok()).all(|tag| {
            QUIET.contains(&tag.split(' ').next().unwrap_or_default()) && tag != "SELECT INTO"
        })
    }

    pub(super) fn rows(&self) -> usize {
        self.messages.iter().filter(|message| matches!(message[0], b'D' | b'd')).count()
    }

    /// SQLSTATE and message of every error.
    pub(super) fn errors(&self) -> Vec<(String, String)> {
        let errors = self.messages.iter().filter(|message| message[0] == b'E');
        let fields = errors.filter_map(|message| ErrorFields::parse(message).ok());
        fields.map(|f| (f.sqlstate().to_owned(), f.message().to_owned())).collect()
    }

    /// The messages with a guess replaced, for comparing two guesses. Lengths are left out.
    pub(super) fn without(&self, guess: &str) -> Vec<Vec<u8>> {
        let body = |message: &Vec<u8>| {
            let mut text = vec![message[0]];
            text.extend(replaced(&message[wire::HEADER..], guess.as_bytes()));
            text
        };
        self.messages.iter().map(body).collect()
    }

    /// What came, as a person may read it.
    pub(super) fn shown(&self) -> String {
        let told = self.messages.iter().filter(|message| !b"RSKZ".contains(&message[0]));
        let text = told.map(|message| String::from_utf8_lossy(message).replace('\0', "·"));
        text.collect::<String>().chars().filter(|c| !c.is_control()).take(600).collect()
    }
}

fn replaced(text: &[u8], guess: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if !guess.is_empty() && rest.starts_with(guess) {
            out.extend(b"?guess?");
            rest = &rest[guess.len()..];
        } else {
            out.push(rest[0]);
            rest = &rest[1..];
        }
    }
    out
}

pub(super) struct Client {
    door: Door,
    stream: Option<UnixStream>,
    input: Vec<u8>,
    pub(super) received: Received,
    /// The handshake is left out of what two guesses are compared by.
    pub(super) greeting: usize,
    hung: bool,
}

impl Client {
    pub(super) fn new(door: &Door) -> Self {
        Self {
            door: door.clone(),
            stream: None,
            input: Vec::new(),
            received: Received::default(),
            greeting: 0,
            hung: false,
        }
    }

    /// Whether an answer that must come didn't.
    pub(super) fn hung(&self) -> bool {
        self.hung
    }

    pub(super) async fn step(&mut self, step: &Step) {
        match step {
            Step::Start(parameters) => self.start(parameters).await,
            Step::FirstBytes(bytes) => {
                self.dial().await;
                self.send(bytes).await;
                self.drain(SHORT * 5).await;
            }
            Step::Query(sql) => {
                self.started().await;
                self.send(&message(b'Q', &[sql.as_bytes(), b"\0"])).await;
                self.until_ready().await;
            }
            Step::Message(word) => {
                self.started().await;
                let bytes = encoded(word);
                self.send(&bytes).await;
                match word {
                    Word::Sync | Word::Call(..) => self.until_ready().await,
                    Word::CopyDone | Word::CopyFail => self.until_ready().await,
                    Word::Read => self.drain(SHORT * 5).await,
                    _ => {}
                }
            }
            Step::Admin(_) | Step::Afterwards(_) | Step::Pause(_) => {
                unreachable!("not the client's to do")
            }
        }
    }

    async fn dial(&mut self) {
        self.stream = UnixStream::connect(&self.door.socket).await.ok();
        self.input.clear();
    }

    async fn started(&mut self) {
        if self.stream.is_none() && self.greeting == 0 && self.received.messages.is_empty() {
            self.start(&BTreeMap::new()).await;
            self.greeting = self.received.messages.len();
        }
    }

    async fn start(&mut self, more: &BTreeMap<String, String>) {
        self.dial().await;
        let mut parameters = BTreeMap::from([
            ("user".to_owned(), self.door.user.clone()),
            ("database".to_owned(), self.door.database.clone()),
        ]);
        parameters.extend(more.clone());
        let startup = wire::startup_message(wire::PROTOCOL_3_0, &parameters).expect("a start-up");
        self.send(&startup).await;
        if let Some(password) = self.door.password.clone() {
            self.authenticate(&password).await;
        }
        self.until_ready().await;
        self.greeting = self.greeting.max(1);
    }

    /// SCRAM, as PostgreSQL wants it.
    async fn authenticate(&mut self, password: &str) {
        let first = ClientFirst::new("", "attacks-and-ordinary-work", ChannelBinding::Unsupported);
        let mut out = bytes::BytesMut::new();
        self.message(PATIENCE).await;
        wire::sasl_initial_response(first.mechanism(), first.message().as_bytes(), &mut out);
        self.send(&out).await;
        self.message(PATIENCE).await;
        let challenge = self.received.messages.last().expect("a challenge");
        let Ok(wire::Authentication::SaslContinue(challenge)) =
            wire::parse_authentication(challenge)
        else {
            panic!("no challenge: {}", self.received.shown());
        };
        let (_, answer, _) = first.answer(&challenge, password, None).expect("a challenge");
        out.clear();
        wire::password_response(answer.as_bytes(), &mut out);
        self.send(&out).await;
    }

    async fn send(&mut self, bytes: &[u8]) {
        if let Some(stream) = &mut self.stream
            && stream.write_all(bytes).await.is_err()
        {
            self.stream = None;
        }
    }

    /// Reads to ReadyForQuery, to a COPY that waits for data, or to the end.
    async fn until_ready(&mut self) {
        loop {
            match self.message(PATIENCE).await {
                Some(b'Z' | b'G' | b'W') => return,
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Whether the connection still is one, with nothing left to read.
    pub(super) fn is_open(&self) -> bool {
        self.stream.is_some() && self.input.is_empty() && !self.hung
    }

    /// Reads what is there.
    pub(super) async fn drain(&mut self, patience: Duration) {
        let hung = self.hung;
        while self.message(patience).await.is_some() {}
        self.hung = hung;
    }

    async fn message(&mut self, patience: Duration) -> Option<u8> {
        loop {
            if let Ok(Some(header)) = wire::header(&self.input)
                && self.input.len() >= header.length
            {
                let rest = self.input.split_off(header.length);
                let message = std::mem::replace(&mut self.input, rest);
                let tag = message[0];
                // The key for cancelling is the proxy's own random bytes, which look like
                // a part of some secret once in a thousand runs.
                if tag != b'K' {
                    self.received.bytes.extend_from_slice(&message);
                }
                self.received.messages.push(message);
                return Some(tag);
            }
            let stream = self.stream.as_mut()?;
            match timeout(patience, stream.read_buf(&mut self.input)).await {
                Ok(Ok(1..)) => {}
                Ok(_) => {
                    self.received.bytes.append(&mut self.input);
                    self.stream = None;
                    return None;
                }
                Err(_) => {
                    self.hung = true;
                    return None;
                }
            }
        }
    }
}

fn message(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut bytes = vec![tag];
    bytes.extend(u32::try_from(length).expect("a short message").to_be_bytes());
    bytes.extend(parts.concat());
    bytes
}

fn values(values: &[Option<String>]) -> Vec<u8> {
    let mut bytes = u16::try_from(values.len()).expect("few values").to_be_bytes().to_vec();
    for value in values {
        match value {
            None => bytes.extend((-1_i32).to_be_bytes()),
            Some(value) => {
                bytes.extend(u32::try_from(value.len()).expect("short").to_be_bytes());
                bytes.extend(value.as_bytes());
            }
        }
    }
    bytes
}

fn encoded(word: &Word) -> Vec<u8> {
    let name = |name: &str| [name.as_bytes(), b"\0"].concat();
    match word {
        Word::Parse { statement, sql, types } => {
            let count = u16::try_from(types.len()).expect("few types").to_be_bytes();
            let types = types.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<_>>();
            message(b'P', &[&name(statement), &name(sql), &count, &types])
        }
        Word::Bind { portal, statement, binary, values: bound } => {
            let formats: &[u8] = if *binary { &[0, 1, 0, 1] } else { &[0, 0] };
            message(b'B', &[&name(portal), &name(statement), &[0, 0], &values(bound), formats])
        }
        Word::Describe(kind, of) => message(b'D', &[&[*kind], &name(of)]),
        Word::Close(kind, of) => message(b'C', &[&[*kind], &name(of)]),
        Word::Execute(portal, rows) => message(b'E', &[&name(portal), &rows.to_be_bytes()]),
        Word::Sync => message(b'S', &[]),
        Word::Flush => message(b'H', &[]),
        Word::Call(oid, arguments) => {
            message(b'F', &[&oid.to_be_bytes(), &[0, 0], &values(arguments), &[0, 0]])
        }
        Word::CopyData(text) => message(b'd', &[text.as_bytes()]),
        Word::CopyDone => message(b'c', &[]),
        Word::CopyFail => message(b'f', &[b"no\0"]),
        Word::Raw(bytes) => bytes.clone(),
        Word::Read => Vec::new(),
    }
}
