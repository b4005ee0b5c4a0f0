//! Statements at the bounds of what can be read: a right answer or a clear error, and a
//! session that goes on.

use super::*;

/// What must come of a statement.
#[derive(Debug, Clone)]
enum Outcome {
    /// A first row with this first value.
    Answer(&'static str),
    /// That, or a statement that is nested too deep for the machine's parser.
    DeepAnswer(&'static str),
    /// It works, and returns no row.
    Done,
    /// An error of this SQLSTATE, whose message has these words.
    Refused(&'static str, &'static str),
}

use Outcome::{Answer, DeepAnswer, Done, Refused};

const TOO_DEEP: &str = "42501: pgate: the statement is nested too deep to be analysed";

/// The longest text that is read.
const LONGEST: usize = 8 << 20;

/// A text of exactly so many bytes, which asks for the length of what it pads with.
fn of_length(bytes: usize) -> String {
    let (head, tail) = ("SELECT length('", "') > 1000000");
    format!("{head}{}{tail}", "x".repeat(bytes - head.len() - tail.len()))
}

fn list(count: usize) -> String {
    (1..=count).map(|n| n.to_string()).collect::<Vec<_>>().join(",")
}

fn chain(first: &str, link: &str, count: usize) -> String {
    format!("{first}{}", link.repeat(count - 1))
}

fn nested(open: &str, inner: &str, close: &str, depth: usize) -> String {
    format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
}

/// Every case, with its name.
fn cases() -> Vec<(&'static str, String, Outcome)> {
    let joins = (1..3000).map(|n| format!(" JOIN one o{n} ON true")).collect::<String>();
    let parameters = vec!["int"; 10_000].join(",");
    let arguments = vec!["1"; 100_000].join(",");
    vec![
        ("a byte below the longest text", of_length(LONGEST - 1), Answer("t")),
        ("the longest text", of_length(LONGEST), Answer("t")),
        (
            "a byte above the longest text",
            of_length(LONGEST + 1),
            Refused("42501", "8388609 bytes"),
        ),
        // No line of the log has room for it.
        ("16 MiB", of_length(16 << 20), Refused("42501", "can be analysed")),
        (
            "an IN list of 100,000",
            format!("SELECT count(*) FROM orders WHERE id IN ({})", list(100_000)),
            Answer("1000"),
        ),
        (
            "an array of 100,000",
            format!("SELECT count(*) FROM orders WHERE id = ANY ('{{{}}}')", list(100_000)),
            Answer("1000"),
        ),
        (
            "VALUES of 50,000 rows",
            format!("SELECT count(*) FROM (VALUES {}) v", vec!["(1)"; 50_000].join(",")),
            Answer("50000"),
        ),
        ("3,000 times AND", format!("SELECT {}", chain("true", " AND true", 3000)), Answer("t")),
        ("3,000 times OR", format!("SELECT {}", chain("false", " OR false", 3000)), Answer("f")),
        (
            "3,000 times OR of columns",
            format!("SELECT count(*) FROM orders WHERE {}", chain("id = 1", " OR id = 2", 3000)),
            Answer("2"),
        ),
        ("3,000 times +", format!("SELECT {}", chain("1", "+1", 3000)), DeepAnswer("3000")),
        (
            "3,000 times ||",
            format!("SELECT length({})", chain("'a'", "||'b'", 3000)),
            DeepAnswer("3000"),
        ),
        (
            "3,000 times UNION ALL",
            format!("SELECT count(*) FROM ({}) u", chain("SELECT 1", " UNION ALL SELECT 1", 3000)),
            DeepAnswer("3000"),
        ),
        (
            "300 times UNION",
            format!("SELECT count(*) FROM ({}) u", chain("SELECT 1", " UNION SELECT 1", 300)),
            Answer("1"),
        ),
        ("3,000 times JOIN", format!("SELECT count(*) FROM one o0{joins}"), DeepAnswer("1")),
        (
            "100,000 operators in a chain",
            format!("SELECT {}", chain("1", "+1", 100_000)),
            Refused("42501", "more than 20000 operators"),
        ),
        ("999 comments in each other", nested("/*", "x", "*/", 999) + "SELECT 1", Answer("1")),
        (
            "50,000 comments in each other",
            nested("/*", "x", "*/", 50_000) + "SELECT 1",
            Refused("42501", "read in bounded time"),
        ),
        (
            "50,000 comments in each other, with spaces",
            nested("/* ", "x", " */", 50_000) + "SELECT 1",
            Refused("42501", "nested more than 1000 deep"),
        ),
        (
            "50,000 comments in a row",
            "/**/".repeat(50_000) + "SELECT 1",
            Refused("42501", "without a space between them"),
        ),
        ("50,000 comments with spaces", "/**/ ".repeat(50_000) + "SELECT 1", Answer("1")),
        (
            "1,000 brackets in each other",
            format!("SELECT {}", nested("(", "1", ")", 1000)),
            Answer("1"),
        ),
        (
            "10,000 brackets in each other",
            format!("SELECT {}", nested("(", "1", ")", 10_000)),
            DeepAnswer("1"),
        ),
        (
            "10,000 sub-selects in each other",
            format!("SELECT {}", nested("(SELECT ", "1", ")", 10_000)),
            DeepAnswer("1"),
        ),
        (
            "10,000 sub-selects of FROM in each other",
            nested("SELECT * FROM (", "SELECT 1", ") s", 10_000),
            DeepAnswer("1"),
        ),
        (
            "10,000 CASEs in each other",
            format!("SELECT {}", nested("CASE WHEN true THEN ", "1", " END", 10_000)),
            DeepAnswer("1"),
        ),
        (
            "10,000 arrays in each other",
            format!("SELECT {}", nested("ARRAY[", "1", "]", 10_000)),
            DeepAnswer("1"),
        ),
        ("10,000 parameters declared", format!("PREPARE many ({parameters}) AS SELECT $1"), Done),
        (
            "10,000 parameters declared and given",
            format!("PREPARE many ({parameters}) AS SELECT $1 + $10000"),
            Done,
        ),
        (
            "100,000 parameters declared",
            format!("PREPARE many ({}) AS SELECT $1 + $100000", vec!["int"; 100_000].join(",")),
            Done,
        ),
        (
            "100,000 parameters declared and used",
            format!(
                "PREPARE many ({}) AS SELECT coalesce({})",
                vec!["int"; 100_000].join(","),
                (1..=100_000).map(|n| format!("${n}")).collect::<Vec<_>>().join(",")
            ),
            Done,
        ),
        (
            "100,000 parameters declared and returned",
            format!(
                "PREPARE many ({}) AS SELECT {}",
                vec!["int"; 100_000].join(","),
                (1..=100_000).map(|n| format!("${n}")).collect::<Vec<_>>().join(",")
            ),
            Refused("54011", "1664"),
        ),
        ("100,000 arguments", format!("SELECT coalesce({arguments})"), Answer("1")),
    ]
}

/// The first value of the first row, in text.
fn answer(messages: &[Vec<u8>]) -> Option<String> {
    let row = messages.iter().find(|message| message[0] == b'D')?;
    let value = row.get(11..)?;
    let length = usize::try_from(i32::from_be_bytes(row.get(7..11)?.try_into().ok()?)).ok()?;
    Some(String::from_utf8_lossy(value.get(..length)?).into_owned())
}

fn outcome(messages: &[Vec<u8>]) -> String {
    let error = messages.iter().find(|message| message[0] == b'E');
    match (error, answer(messages)) {
        (Some(error), _) => {
            let fields = ErrorFields::parse(error).expect("an error");
            format!("{}: {}", fields.sqlstate(), fields.message())
        }
        (None, Some(value)) => format!("answer {value}"),
        (None, None) => "done".to_owned(),
    }
}

#[tokio::test]
async fn a_statement_at_the_bounds_gets_a_right_answer_or_a_clear_error_in_either_protocol() {
    let session = Session::start().await;
    harness::cluster()
        .await
        .execute(&session.database, "CREATE TABLE one AS SELECT 1 AS n")
        .await
        .expect("a table");
    let mut raw = session.raw().await;
    let mut wrong = Vec::new();
    for (name, sql, expected) in cases() {
        for protocol in ["simple", "extended"] {
            match protocol {
                "simple" => raw.send(&bytes(|out| wire::query(&sql, out))).await,
                _ => raw.send(&[extended(&sql), SYNC.to_vec()].concat()).await,
            }
            let told = outcome(&raw.until(b'Z').await);
            let fits = match &expected {
                Answer(value) => told == format!("answer {value}"),
                DeepAnswer(value) => {
                    told == format!("answer {value}")
                        || told.starts_with(TOO_DEEP)
                        // PostgreSQL's own words.
                        || told.starts_with("54001")
                }
                Done => told == "done",
                Refused(sqlstate, words) => told.starts_with(sqlstate) && told.contains(words),
            };
            println!("{protocol} {name}: {told}");
            if !fits {
                wrong.push(format!("{name}, {protocol}: not {expected:?} but {told}"));
            }
            raw.send(&bytes(|out| wire::query("DEALLOCATE ALL; SELECT 'alive'", out))).await;
            let alive = raw.until(b'Z').await;
            assert_eq!(outcome(&alive), "answer alive", "after {name}, {protocol}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn as_many_values_as_a_message_can_bind_are_bound_and_one_more_is_an_error() {
    let session = Session::start().await;
    let mut raw = session.raw().await;
    let values = (1..=65_535).map(|n: u32| n.to_string()).collect::<Vec<_>>();
    let values = values
        .iter()
        .map(|value| wire::BoundValue { value: Some(value.as_bytes()), binary: false })
        .collect::<Vec<_>>();
    let sql = |count: usize| {
        let names = (1..=count).map(|n| format!("${n}")).collect::<Vec<_>>().join(",");
        format!("SELECT count(*) FROM orders WHERE id IN ({names})")
    };
    let run = |sql: &str| {
        bytes(|out| {
            wire::parse("", sql, &[0, 0], out);
            wire::bind_values(&values, out);
            wire::execute("", 0, out);
            wire::sync(out);
        })
    };
    raw.send(&run(&sql(65_535))).await;
    assert_eq!(outcome(&raw.until(b'Z').await), "answer 1000");
    // All of them are in the log.
    let log = session.log();
    let bound = log.iter().filter_map(|line| line["parameters"].as_array()).map(Vec::len).max();
    assert_eq!(bound, Some(65_535));
    raw.send(&run(&sql(65_536))).await;
    let told = outcome(&raw.until(b'Z').await);
    assert!(told.starts_with("08P01") || told.starts_with("42"), "{told}");
    raw.send(&run("SELECT $100000::int")).await;
    let told = outcome(&raw.until(b'Z').await);
    assert!(!told.starts_with("answer"), "{told}");
    raw.send(&bytes(|out| wire::query("SELECT 'alive'", out))).await;
    assert_eq!(outcome(&raw.until(b'Z').await), "answer alive");
}

/// A message of this type with this body.
fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

#[tokio::test]
async fn nothing_behind_a_nul_byte_in_a_text_is_run() {
    let session = Session::start().await;
    let behind: [(&str, Vec<u8>); 5] = [
        ("Query", message(b'Q', b"SELECT 1\0; INSERT INTO again VALUES (1)\0")),
        ("Query, at its beginning", message(b'Q', b"\0INSERT INTO again VALUES (1)\0")),
        ("Query without an end", message(b'Q', b"INSERT INTO again VALUES (1)")),
        ("Parse", message(b'P', b"\0SELECT 1\0; INSERT INTO again VALUES (1)\0\0\0")),
        ("Parse's name", message(b'P', b"a\0b\0INSERT INTO again VALUES (1)\0\0\0")),
    ];
    for (name, first) in behind {
        let mut raw = session.raw().await;
        let rest = bytes(|out| {
            wire::bind("", "", out);
            wire::execute("", 0, out);
            wire::sync(out);
        });
        raw.send(&[first, rest].concat()).await;
        let messages = raw.until(b'Z').await;
        let told = outcome(&messages);
        println!("{name}: {told}");
        assert!(told.starts_with("08P01"), "{name}: {told}");
    }
    let (out, _, _) = session.script("SELECT count(*) FROM again;\n").await;
    assert_eq!(out, "0\n");
}
