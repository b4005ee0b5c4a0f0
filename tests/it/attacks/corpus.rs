//! The cases as they stand in `cases/*.txt`.
//!
//! ```text
//! # a remark
//! [family]
//! : name of the case @flag …
//! SQL, sent as one simple query
//!   and its further lines, indented
//! > a message of the protocol, or what the administrator does
//! ```
//!
//! `> typed N …` is a `> parse` whose first parameter has the type of that number.
//! `@rows N` lets at most so many rows out, `@limited` is for a role with limits and holds.
//! `{{a|b}}` makes an oracle of the case: it runs with `a` and with `b`, of which one
//! is true of the secrets, and both must be answered alike. `\n` is a line break.

use std::collections::BTreeMap;

/// One attack.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) family: String,
    pub(super) name: String,
    pub(super) expected: Expected,
    /// The only role that runs it; none is both.
    pub(super) role: Option<String>,
    /// Why what comes out can't be helped by pgate; the documentation says so too.
    pub(super) known: Option<String>,
    /// What is special about an ordinary statement.
    marks: Vec<String>,
    lines: Vec<String>,
}

/// What must be answered, beyond that nothing gets out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Anything,
    /// pgate refuses it.
    Refused,
    /// It works, on masks.
    Masked,
    /// Not more rows come out, however many there are.
    AtMost(usize),
}

/// What is done, one after the other.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// A connection with further start-up parameters.
    Start(BTreeMap<String, String>),
    /// A connection that begins with these bytes.
    FirstBytes(Vec<u8>),
    Query(String),
    Message(Word),
    /// The administrator changes the database meanwhile.
    Admin(String),
    /// The administrator puts it back when the case is over.
    Afterwards(String),
    /// So many milliseconds.
    Pause(u64),
}

/// A message of the client's.
#[derive(Debug, Clone)]
pub(super) enum Word {
    Parse { statement: String, sql: String, types: Vec<u32> },
    Bind { portal: String, statement: String, binary: bool, values: Vec<Option<String>> },
    Describe(u8, String),
    Close(u8, String),
    Execute(String, i32),
    Sync,
    Flush,
    Call(u32, Vec<Option<String>>),
    CopyData(String),
    CopyDone,
    CopyFail,
    Raw(Vec<u8>),
    Read,
}

impl Step {
    /// Whether the connection is afterwards as it was before: a query that reads.
    pub(super) fn leaves_nothing(&self) -> bool {
        let Step::Query(sql) = self else { return false };
        let first = sql.trim_start_matches('(').split_whitespace().next().unwrap_or_default();
        let reads = ["SELECT", "TABLE", "VALUES", "WITH", "EXPLAIN"];
        reads.contains(&&*first.to_ascii_uppercase()) && !sql.contains(';')
    }
}

impl Case {
    /// A case of one query.
    pub(super) fn of_query(family: &str, name: &str, sql: String) -> Self {
        let mut case = head_of(family, name);
        case.lines.push(sql);
        case
    }

    /// Whether it carries this mark.
    pub(super) fn has(&self, mark: &str) -> bool {
        self.marks.iter().any(|carried| carried == mark)
    }

    /// Whether the database is changed by its administrator meanwhile.
    pub(super) fn has_an_administrator(&self) -> bool {
        self.lines.iter().any(|line| line.starts_with("> admin "))
    }

    /// All that the case says.
    pub(super) fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// The two guesses of an oracle.
    pub(super) fn guesses(&self) -> Option<(String, String)> {
        let text = self.text();
        let (_, rest) = text.split_once("{{")?;
        let (guesses, _) = rest.split_once("}}").expect("a guess ends");
        let (one, other) = guesses.split_once('|').expect("two guesses");
        Some((one.to_owned(), other.to_owned()))
    }

    /// The steps with one of the guesses.
    pub(super) fn steps(&self, first: bool) -> Vec<Step> {
        let choose = |line: &String| {
            let mut line = line.clone();
            while let Some((before, rest)) = line.clone().split_once("{{") {
                let (guesses, after) = rest.split_once("}}").expect("a guess ends");
                let (one, other) = guesses.split_once('|').expect("two guesses");
                line = format!("{before}{}{after}", if first { one } else { other });
            }
            step(&line)
        };
        self.lines.iter().map(choose).collect()
    }
}

/// Reads a file of cases.
pub(super) fn parse(text: &str) -> Vec<Case> {
    let mut family = String::new();
    let mut cases = Vec::<Case>::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        if let Some(named) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            family = named.to_owned();
        } else if let Some(head) = line.strip_prefix(": ") {
            cases.push(head_of(&family, head));
        } else {
            let case = cases.last_mut().expect("a case begins with its name");
            match line.strip_prefix("  ") {
                Some(more) => {
                    let last = case.lines.last_mut().expect("a line goes on");
                    *last = format!("{last}\n{more}");
                }
                None => case.lines.push(line.to_owned()),
            }
        }
    }
    cases
}

fn head_of(family: &str, head: &str) -> Case {
    let mut parts = head.split(" @");
    let name = parts.next().unwrap_or_default().trim().to_owned();
    let mut case = Case {
        family: family.to_owned(),
        name,
        expected: Expected::Anything,
        role: None,
        known: None,
        marks: Vec::new(),
        lines: Vec::new(),
    };
    for flag in parts {
        match flag.trim().split_once(' ') {
            None if flag == "refused" => case.expected = Expected::Refused,
            None if flag == "masked" => case.expected = Expected::Masked,
            None if ["readonly", "writer", "limited"].contains(&flag) => {
                case.role = Some(flag.to_owned())
            }
            None if ["catalog", "shape", "privileges", "error"].contains(&flag.trim()) => {
                case.marks.push(flag.trim().to_owned());
            }
            Some(("rows", most)) => {
                case.expected = Expected::AtMost(most.parse().expect("a number of rows"));
            }
            Some(("known", why)) => case.known = Some(why.to_owned()),
            _ => panic!("an unknown flag of {head}: {flag}"),
        }
    }
    case
}

fn step(line: &str) -> Step {
    let line = line.replace("\\n", "\n");
    let Some(order) = line.strip_prefix("> ") else { return Step::Query(line) };
    let (verb, rest) = order.split_once(' ').unwrap_or((order, ""));
    let name = |word: &str| if word == "-" { String::new() } else { word.to_owned() };
    let mut words = rest.split_whitespace();
    let mut next = || words.next().unwrap_or("-");
    let value = |word: &str| (word != "NULL").then(|| word.to_owned());
    let word = match verb {
        "startup" => {
            let pairs = rest.split(';').filter_map(|pair| pair.trim().split_once('='));
            return Step::Start(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
        }
        "first" => return Step::FirstBytes(bytes(rest)),
        "admin" => return Step::Admin(rest.to_owned()),
        "afterwards" => return Step::Afterwards(rest.to_owned()),
        "pause" => return Step::Pause(rest.parse().expect("milliseconds")),
        "parse" => {
            let (statement, sql) = rest.split_once(' ').unwrap_or((rest, ""));
            Word::Parse { statement: name(statement), sql: sql.to_owned(), types: Vec::new() }
        }
        "typed" => {
            let (number, rest) = rest.split_once(' ').expect("a type's number");
            let (statement, sql) = rest.split_once(' ').expect("a name and a text");
            let types = vec![number.parse().expect("a type's number")];
            Word::Parse { statement: name(statement), sql: sql.to_owned(), types }
        }
        "bind" => {
            let (portal, statement) = (name(next()), name(next()));
            let mut values = words.collect::<Vec<_>>();
            let binary = values.first() == Some(&"binary");
            if binary {
                values.remove(0);
            }
            let values = values.into_iter().map(value).collect();
            Word::Bind { portal, statement, binary, values }
        }
        "describe" => Word::Describe(next().as_bytes()[0], name(next())),
        "close" => Word::Close(next().as_bytes()[0], name(next())),
        "execute" => {
            let portal = name(next());
            Word::Execute(portal, next().parse().unwrap_or(0))
        }
        "sync" => Word::Sync,
        "flush" => Word::Flush,
        "call" => {
            let oid = next().parse().expect("an OID");
            Word::Call(oid, words.map(value).collect())
        }
        "copydata" => Word::CopyData(rest.to_owned() + "\n"),
        "copydone" => Word::CopyDone,
        "copyfail" => Word::CopyFail,
        "raw" => Word::Raw(bytes(rest)),
        "read" => Word::Read,
        other => panic!("an unknown order: {other}"),
    };
    Step::Message(word)
}

fn bytes(hex: &str) -> Vec<u8> {
    let hex = hex.split_whitespace().collect::<String>();
    (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).expect("hexadecimal digits"))
        .collect()
}
