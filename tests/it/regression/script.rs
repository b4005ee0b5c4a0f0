//! A psql script cut into the query strings that psql would send.
//!
//! Owns what psql does with a script: semicolons outside quotes, comments, brackets
//! and `BEGIN ATOMIC` bodies end a statement; commands with a backslash go; the data
//! of a COPY … FROM STDIN goes. It knows no variables: a text that uses one is left out.

/// What a script holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Script {
    /// The query strings, in order.
    pub(super) texts: Vec<String>,
    /// How many were left out, for they have psql's variables in them.
    pub(super) with_variables: usize,
}

/// Cuts a script.
pub(super) fn cut(script: &str) -> Script {
    let mut cutter = Cutter { rest: script, ..Cutter::default() };
    while !cutter.rest.is_empty() {
        cutter.step();
    }
    cutter.end();
    cutter.script
}

#[derive(Default)]
struct Cutter<'a> {
    rest: &'a str,
    text: String,
    /// Words of the statement so far, in lower case; no more than tell what it is.
    words: Vec<String>,
    brackets: usize,
    /// Open `BEGIN ATOMIC` and the CASEs in it.
    bodies: usize,
    variables: bool,
    script: Script,
}

impl<'a> Cutter<'a> {
    fn step(&mut self) {
        let rest = self.rest;
        let first = rest.chars().next().expect("there is a rest");
        match first {
            '\'' => {
                let escapes = self.text.ends_with(['e', 'E'])
                    && !self.text[..self.text.len() - 1].ends_with(is_word);
                self.keep(quoted(rest, '\'', escapes));
            }
            '"' => self.keep(quoted(rest, '"', false)),
            '-' if rest.starts_with("--") => self.keep(line(rest)),
            '/' if rest.starts_with("/*") => self.keep(comment(rest)),
            '$' if !self.text.ends_with(is_word) => self.keep(dollar_quoted(rest)),
            '\\' if rest.starts_with("\\;") => {
                self.text.push(';');
                self.rest = &rest[2..];
            }
            '\\' => {
                // The rest of the line is psql's; some commands send what is there.
                self.rest = &rest[line(rest)..];
                if ["\\g", "\\crosstabview", "\\watch"].iter().any(|sent| rest.starts_with(sent)) {
                    self.end();
                } else if rest.starts_with("\\r") {
                    self.forget();
                }
            }
            ':' if rest.starts_with("::") || rest.starts_with(":=") => self.keep(2),
            ':' => {
                let next = rest[1..].chars().next();
                self.variables |= next
                    .is_some_and(|next| matches!(next, '\'' | '"' | '{') || is_name(next))
                    && self.brackets_are_round();
                self.keep(1);
            }
            '(' | '[' => {
                self.brackets += 1;
                self.keep(1);
            }
            ')' | ']' => {
                self.brackets = self.brackets.saturating_sub(1);
                self.keep(1);
            }
            ';' if self.brackets == 0 && self.bodies == 0 => {
                self.rest = &rest[1..];
                let copies = self.reads_data();
                self.end();
                if copies {
                    self.rest = after_data(&self.rest[line(self.rest)..]);
                }
            }
            _ if is_word(first) => self.word(),
            _ => self.keep(first.len_utf8()),
        }
    }

    /// A subscript's slice (`a[1:b]`) is no variable.
    fn brackets_are_round(&self) -> bool {
        let open = self.text.rfind('[');
        open.is_none_or(|open| self.text[open..].contains(']'))
    }

    fn word(&mut self) {
        let length = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        let word = self.rest[..length].to_ascii_lowercase();
        let creates = self.words.first().is_some_and(|first| first == "create");
        match word.as_str() {
            "atomic" if creates && self.words.last().is_some_and(|last| last == "begin") => {
                self.bodies += 1;
            }
            "case" if self.bodies > 0 => self.bodies += 1,
            "end" => self.bodies = self.bodies.saturating_sub(1),
            _ => {}
        }
        self.words.push(word);
        self.keep(length);
    }

    /// Whether what ends here is followed by data.
    fn reads_data(&self) -> bool {
        let has = |word: &str| self.words.iter().any(|known| known == word);
        self.words.first().is_some_and(|first| first == "copy") && has("from") && has("stdin")
    }

    fn keep(&mut self, length: usize) {
        let (kept, rest) = self.rest.split_at(length);
        self.text.push_str(kept);
        self.rest = rest;
    }

    fn end(&mut self) {
        match (self.words.is_empty() && self.text.trim().is_empty(), self.variables) {
            (true, _) => {}
            (false, true) => self.script.with_variables += 1,
            (false, false) => self.script.texts.push(self.text.trim().to_owned()),
        }
        self.forget();
    }

    fn forget(&mut self) {
        self.text.clear();
        self.words.clear();
        (self.brackets, self.bodies, self.variables) = (0, 0, false);
    }
}

fn is_word(c: char) -> bool {
    is_name(c) || c == '$'
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()
}

/// The length of the first line, its end included.
fn line(rest: &str) -> usize {
    rest.find('\n').map_or(rest.len(), |end| end + 1)
}

fn quoted(rest: &str, quote: char, escapes: bool) -> usize {
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        if c == '\\' && escapes {
            characters.next();
        } else if c == quote {
            return at + 1;
        }
    }
    rest.len()
}

fn comment(rest: &str) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn dollar_quoted(rest: &str) -> usize {
    let tag = rest[1..].find(|c| !is_name(c)).unwrap_or(rest.len() - 1) + 1;
    if !rest[tag..].starts_with('$') || rest[1..].starts_with(|c: char| c.is_ascii_digit()) {
        return 1;
    }
    let (delimiter, body) = rest.split_at(tag + 1);
    body.find(delimiter).map_or(rest.len(), |end| end + 2 * delimiter.len())
}

/// What follows the line `\.`.
fn after_data(rest: &str) -> &str {
    let mut at = 0;
    for data in rest.split_inclusive('\n') {
        at += data.len();
        if data.trim_end() == "\\." {
            break;
        }
    }
    &rest[at..]
}

#[test]
fn a_script_is_cut_as_psql_cuts_it() {
    let script = "SELECT ';', E'\\';', \";\", $a$;$a$ /* ; /* ; */ ; */ -- ;\n; \\d x\nSELECT 1 \\gset\n\
        COPY t FROM STDIN;\na;b\n\\.\nCREATE RULE r AS ON DELETE TO t DO (SELECT 1; SELECT 2);\n\
        CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END;\n\
        BEGIN; SELECT 1\\; SELECT 2; SELECT :'v'; SELECT a::int, b[1:c]; SELECT 3";
    let expected = [
        "SELECT ';', E'\\';', \";\", $a$;$a$ /* ; /* ; */ ; */ -- ;",
        "SELECT 1",
        "COPY t FROM STDIN",
        "CREATE RULE r AS ON DELETE TO t DO (SELECT 1; SELECT 2)",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END",
        "BEGIN",
        "SELECT 1; SELECT 2",
        "SELECT a::int, b[1:c]",
        "SELECT 3",
    ];
    let cut = cut(script);
    assert_eq!(cut.texts, expected);
    assert_eq!(cut.with_variables, 1);
}
