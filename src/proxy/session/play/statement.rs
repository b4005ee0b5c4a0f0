//! The statements of the conversations, what policy says of each, and what a client
//! says.

use bytes::BytesMut;

use super::{bytes_of, server::framed};
use crate::wire;

/// What a statement does, and what policy says of it. Its text tells both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statement {
    Empty,
    /// Returns so many rows.
    Rows(u32),
    /// The same, under another text than the client's.
    Rewritten(u32),
    /// Fails after so many rows.
    Fails(u32),
    /// An error before it runs.
    Broken,
    Denied,
    /// Held for a reviewer.
    Held {
        approved: bool,
    },
    /// Writes so many rows, which are counted.
    Writes(u32),
    /// Writes more than it may.
    Overwrites,
    Begin,
    Commit,
    Rollback,
    CopyIn,
    CopyOut,
}

/// The most rows that a counted statement may write.
pub(super) const MOST_WRITTEN: u64 = 5;

const TEXTS: [(&str, Statement); 16] = [
    ("", Statement::Empty),
    ("SELECT 3 rows", Statement::Rows(3)),
    ("SELECT 0 rows", Statement::Rows(0)),
    ("SELECT 60 rows", Statement::Rows(60)),
    ("SELECT masked", Statement::Rewritten(2)),
    ("SELECT 1 row, then an error", Statement::Fails(1)),
    ("SELECT FROM FROM", Statement::Broken),
    ("DELETE refused", Statement::Denied),
    ("DELETE held, approved", Statement::Held { approved: true }),
    ("DELETE held, not approved", Statement::Held { approved: false }),
    ("UPDATE few", Statement::Writes(2)),
    ("UPDATE many", Statement::Overwrites),
    ("BEGIN", Statement::Begin),
    ("COMMIT", Statement::Commit),
    ("ROLLBACK", Statement::Rollback),
    ("COPY t FROM STDIN", Statement::CopyIn),
];
const COPY_OUT: &str = "COPY t TO STDOUT";
/// What stands for it upstream.
const MASKED: &str = "SELECT * FROM (SELECT masked) t";

impl Statement {
    /// The statement of a text.
    pub(super) fn read(sql: &str) -> Option<Self> {
        match sql {
            COPY_OUT => Some(Self::CopyOut),
            MASKED => Some(Self::Rewritten(2)),
            sql => TEXTS.iter().find(|(text, _)| *text == sql).map(|(_, statement)| *statement),
        }
    }

    /// One of the texts, but for the one whose reviewer says no: that has a place of its own.
    pub(super) fn text(number: u8) -> &'static str {
        match TEXTS.get(usize::from(number) % (TEXTS.len() + 1)) {
            Some((_, Self::Held { approved: false })) => TEXTS[1].0,
            Some((text, _)) => text,
            None => COPY_OUT,
        }
    }

    /// The text that goes to the server instead.
    pub(super) fn rewritten(self) -> Option<&'static str> {
        matches!(self, Self::Rewritten(_)).then_some(MASKED)
    }

    /// Whether the server must never see it.
    pub(super) fn is_refused(self) -> bool {
        matches!(self, Self::Denied | Self::Held { approved: false })
    }

    /// How many columns it returns; none where it returns no rows.
    pub(super) fn columns(self) -> Option<u16> {
        matches!(self, Self::Rows(_) | Self::Rewritten(_) | Self::Fails(_)).then_some(1)
    }

    pub(super) fn ends_transaction(self) -> bool {
        matches!(self, Self::Commit | Self::Rollback)
    }

    /// The SQLSTATE of what fails when it runs.
    pub(super) fn failure(self) -> &'static str {
        if self == Self::Overwrites { "54000" } else { "22012" }
    }
}

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Query(&'static str),
    Parse(&'static str, &'static str),
    Bind {
        portal: &'static str,
        statement: &'static str,
    },
    DescribeStatement(&'static str),
    DescribePortal(&'static str),
    Execute(&'static str, i32),
    CloseStatement(&'static str),
    ClosePortal(&'static str),
    Flush,
    Sync,
    Call,
    Data(&'static str),
    Done,
    Fail,
    /// Nothing, until all that was said has been answered.
    Wait,
}

impl Said {
    /// As bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        bytes_of(|out| match *self {
            Self::Query(sql) => wire::query(sql, out),
            Self::Parse(name, sql) => wire::parse(name, sql, &[0, 0], out),
            Self::Bind { portal, statement } => wire::bind(portal, statement, out),
            Self::DescribeStatement(name) => wire::describe_statement(name, out),
            Self::DescribePortal(name) => wire::describe_portal(name, out),
            Self::Execute(portal, rows) => wire::execute(portal, rows, out),
            Self::CloseStatement(name) => close(b'S', name, out),
            Self::ClosePortal(name) => close(b'P', name, out),
            Self::Flush => wire::flush(out),
            Self::Sync => wire::sync(out),
            Self::Call => framed(b'F', &[0, 0, 0, 42, 0, 0, 0, 0, 0, 0], out),
            Self::Data(row) => framed(b'd', row.as_bytes(), out),
            Self::Done => framed(b'c', b"", out),
            Self::Fail => framed(b'f', b"no more\0", out),
            Self::Wait => {}
        })
    }
}

fn close(kind: u8, name: &str, out: &mut BytesMut) {
    framed(b'C', &[&[kind], name.as_bytes(), b"\0"].concat(), out);
}

const NAMES: [&str; 3] = ["", "a", "b"];
const LIMITS: [i32; 4] = [0, 1, 2, 60];
const DATA: [&str; 4] = ["1\tone\n", "2\ttwo\n", "3", "bad\n"];

/// What a client says in one go: by `what`, with names and texts by the other bytes.
pub(super) fn saying(what: u8, which: u8, whose: u8) -> Vec<Said> {
    let pick = |by: u8| NAMES[usize::from(by) % NAMES.len()];
    let (statement, portal) = (pick(whose), pick(whose / 3));
    let text = Statement::text(which);
    let copies = "COPY t FROM STDIN";
    let data = |count: u8| (0..count).map(|at| Said::Data(DATA[usize::from(whose / 4 + at) % 4]));
    let end = if which.is_multiple_of(3) { Said::Fail } else { Said::Done };
    let parse = Said::Parse(statement, text);
    let bind = Said::Bind { portal, statement };
    let execute = Said::Execute(portal, LIMITS[usize::from(which / 17) % LIMITS.len()]);
    match what % 24 {
        0 | 1 => vec![Said::Query(text)],
        2..=4 => vec![parse, bind, execute],
        5 => vec![parse, bind, Said::DescribePortal(portal), execute, Said::Sync],
        6 => vec![parse, Said::DescribeStatement(statement), Said::Sync],
        7 => vec![bind, execute],
        8 => vec![parse],
        9 => vec![bind],
        10 => vec![execute],
        11 => vec![Said::CloseStatement(statement)],
        12 => vec![Said::ClosePortal(portal)],
        13 => vec![Said::DescribePortal(portal)],
        14 => vec![Said::Flush],
        15 | 16 => vec![Said::Sync],
        17 => vec![Said::Call],
        18 => vec![Said::Wait],
        19 => std::iter::once(Said::Query(copies)).chain(data(whose % 4)).chain([end]).collect(),
        20 => {
            // As libpq sends it: the Sync goes out before the COPY is known.
            let ahead = [Said::Parse("", copies), Said::Bind { portal: "", statement: "" }];
            let run = [Said::Execute("", 0), Said::Sync];
            let waits = whose.is_multiple_of(2).then_some(Said::Wait);
            let sent = data(which % 4).chain([end, Said::Sync]);
            ahead.into_iter().chain(run).chain(waits).chain(sent).collect()
        }
        21 => {
            let sql = "DELETE held, not approved";
            let run = [Said::Bind { portal: "", statement: "" }, Said::Execute("", 0), Said::Sync];
            std::iter::once(Said::Parse("", sql)).chain(run).collect()
        }
        22 => vec![Said::Query("DELETE held, not approved")],
        _ => {
            let stray = [Said::Data("stray\n"), Said::Done, Said::Fail];
            vec![stray[usize::from(which) % stray.len()].clone()]
        }
    }
}
