//! Just enough of Rust's grammar to see every path that a source file names:
//! comments and literals are skipped, `use` trees unfolded, `self` and `super`
//! resolved.

/// One path as written, with what stands around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathUse {
    /// Its parts: `["crate", "sql", "Name"]`; a glob ends with `*`.
    pub(crate) parts: Vec<String>,
    /// The line that it starts on, from 1.
    pub(crate) line: usize,
    /// The modules that enclose it, from the crate's root down.
    pub(crate) module: Vec<String>,
    /// Whether it stands in code that only tests compile.
    pub(crate) test_only: bool,
    /// Whether `!` follows: a macro is called.
    pub(crate) macro_call: bool,
    /// Whether `as` follows: it gets another name.
    pub(crate) renamed: bool,
}

/// What a file says.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// The paths that it names.
    pub(crate) paths: Vec<PathUse>,
    /// The attributes' names (`allow`, `path`, …) and their lines.
    pub(crate) attributes: Vec<(String, usize)>,
    /// The modules that it declares, with or without a body, and their lines.
    pub(crate) modules: Vec<(String, usize)>,
    /// Those of them that only tests compile, as full module paths.
    pub(crate) test_modules: Vec<Vec<String>>,
}

impl PathUse {
    /// The path from the crate's root, where it is one of this crate's:
    /// `crate`, `self` and `super` are resolved. Other paths are `None`.
    pub(crate) fn in_crate(&self) -> Option<Vec<String>> {
        let mut parts = self.parts.iter().peekable();
        let mut module = match parts.next()?.as_str() {
            "crate" => Vec::new(),
            "self" if parts.peek().is_some() => self.module.clone(),
            "super" => parent(&self.module),
            _ => return None,
        };
        for part in parts {
            match part.as_str() {
                "super" => module = parent(&module),
                "self" => {}
                name => module.push(name.to_owned()),
            }
        }
        Some(module)
    }
}

fn parent(module: &[String]) -> Vec<String> {
    module[..module.len().saturating_sub(1)].to_vec()
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    PathSeparator,
    Sign(char),
}

/// Reads a file whose own module path is `module`.
pub(crate) fn read(text: &str, module: &[String]) -> Source {
    let tokens = tokens(text);
    let mut reader =
        Reader { tokens: &tokens, at: 0, module: module.to_vec(), source: Source::default() };
    reader.items();
    reader.source
}

struct Reader<'t> {
    tokens: &'t [(Token, usize)],
    at: usize,
    module: Vec<String>,
    source: Source,
}

impl Reader<'_> {
    fn items(&mut self) {
        // The braces that are open, and for those of a `mod` what it was before.
        let mut open: Vec<Option<bool>> = Vec::new();
        let mut in_tests = false;
        let mut for_tests = false;
        while let Some((token, line)) = self.tokens.get(self.at) {
            let line = *line;
            match token {
                Token::Sign('#') => {
                    for_tests |= self.attribute(line);
                    continue;
                }
                Token::Sign('{') => open.push(None),
                Token::Sign('}') => {
                    if let Some(Some(outside)) = open.pop() {
                        in_tests = outside;
                        self.module.pop();
                    }
                    for_tests = false;
                }
                Token::Sign(';') => for_tests = false,
                Token::Word(word) if word == "mod" => {
                    if let Some((Token::Word(name), _)) = self.tokens.get(self.at + 1) {
                        let name = name.clone();
                        self.source.modules.push((name.clone(), line));
                        let mut path = self.module.clone();
                        path.push(name);
                        if for_tests || in_tests {
                            self.source.test_modules.push(path.clone());
                        }
                        self.at += 1;
                        if self.sign_at(self.at + 1, '{') {
                            self.at += 1;
                            self.module = path;
                            open.push(Some(in_tests));
                            in_tests |= for_tests;
                        }
                        for_tests = false;
                    }
                }
                Token::Word(_) if !self.continues_a_path() => {
                    self.path(Vec::new(), line, in_tests || for_tests);
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    fn sign_at(&self, at: usize, sign: char) -> bool {
        matches!(self.tokens.get(at), Some((Token::Sign(found), _)) if *found == sign)
    }

    fn continues_a_path(&self) -> bool {
        let before = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        match before {
            Some((Token::Sign('.'), _)) => true,
            // `::std::fs` starts a path, `Vec::<T>::new` goes on with one.
            Some((Token::PathSeparator, _)) => {
                let before = self.at.checked_sub(2).and_then(|at| self.tokens.get(at));
                matches!(before, Some((Token::Sign('>'), _)))
            }
            _ => false,
        }
    }

    /// Reads one path, or one tree of a `use`, and notes every path in it.
    fn path(&mut self, mut parts: Vec<String>, line: usize, test_only: bool) {
        loop {
            match self.tokens.get(self.at) {
                Some((Token::Word(word), _)) => parts.push(word.clone()),
                Some((Token::Sign('*'), _)) => parts.push("*".to_owned()),
                Some((Token::Sign('{'), _)) => {
                    self.at += 1;
                    while let Some((token, line)) = self.tokens.get(self.at) {
                        match token {
                            Token::Sign('}') => {
                                self.at += 1;
                                return;
                            }
                            Token::Sign(',') => self.at += 1,
                            // A new name in a tree; the path before it is noted already.
                            Token::Word(word) if word == "as" => self.at += 2,
                            _ => self.path(parts.clone(), *line, test_only),
                        }
                    }
                    return;
                }
                // A turbofish, or a tree that is not valid Rust: step over one token.
                _ => {
                    self.at += 1;
                    break;
                }
            }
            self.at += 1;
            if matches!(self.tokens.get(self.at), Some((Token::PathSeparator, _))) {
                self.at += 1;
            } else {
                break;
            }
        }
        let renamed =
            matches!(self.tokens.get(self.at), Some((Token::Word(word), _)) if word == "as");
        self.source.paths.push(PathUse {
            parts,
            line,
            module: self.module.clone(),
            test_only,
            macro_call: self.sign_at(self.at, '!'),
            renamed,
        });
    }

    /// Reads an attribute's head; true for `#[cfg(test)]`. What is inside is read
    /// as paths, like everything else.
    fn attribute(&mut self, line: usize) -> bool {
        self.at += 1;
        if self.sign_at(self.at, '!') {
            self.at += 1;
        }
        if !self.sign_at(self.at, '[') {
            return false;
        }
        let word = |ahead: usize| match self.tokens.get(self.at + ahead) {
            Some((Token::Word(word), _)) => word.as_str(),
            _ => "",
        };
        let name = word(1).to_owned();
        let for_tests = name == "cfg" && word(3) == "test" && self.sign_at(self.at + 4, ')');
        self.source.attributes.push((name, line));
        for_tests
    }
}

fn tokens(text: &str) -> Vec<(Token, usize)> {
    let chars = text.chars().collect::<Vec<_>>();
    let mut found = Vec::new();
    let mut at = 0;
    let mut line = 1;
    while let Some(&c) = chars.get(at) {
        let next = chars.get(at + 1).copied();
        let start = at;
        let start_line = line;
        match c {
            '/' if next == Some('/') => at = line_end(&chars, at),
            '/' if next == Some('*') => at = block_comment_end(&chars, at),
            '"' => at = string_end(&chars, at + 1),
            '\'' => at = quote_end(&chars, at),
            _ if c.is_alphabetic() || c == '_' => {
                at = word_end(&chars, at);
                let word = chars[start..at].iter().collect::<String>();
                match raw_string_end(&chars, &word, at) {
                    Some(end) => at = end,
                    None => found.push((Token::Word(word), start_line)),
                }
            }
            _ if c.is_ascii_digit() => at = word_end(&chars, at),
            ':' if next == Some(':') => {
                found.push((Token::PathSeparator, line));
                at += 2;
            }
            _ => {
                if !c.is_whitespace() {
                    found.push((Token::Sign(c), line));
                }
                at += 1;
            }
        }
        at = at.min(chars.len());
        line += chars[start..at].iter().filter(|&&c| c == '\n').count();
    }
    found
}

fn line_end(chars: &[char], from: usize) -> usize {
    chars[from..].iter().position(|&c| c == '\n').map_or(chars.len(), |found| from + found)
}

fn word_end(chars: &[char], from: usize) -> usize {
    let ends = |c: &char| !(c.is_alphanumeric() || *c == '_');
    chars[from..].iter().position(ends).map_or(chars.len(), |found| from + found)
}

/// Block comments nest.
fn block_comment_end(chars: &[char], from: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = from;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    chars.len()
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    while let Some(c) = chars.get(at) {
        match c {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// `'a'` and `'\n'` are characters, `'a` alone is a lifetime.
fn quote_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            let closing = chars[(at + 3).min(chars.len())..].iter().position(|&c| c == '\'');
            closing.map_or(chars.len(), |found| at + 3 + found + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}

/// The end of a literal that starts with a word: `r"…"`, `r#"…"#`, `b"…"`, `c"…"`.
fn raw_string_end(chars: &[char], word: &str, at: usize) -> Option<usize> {
    if !["r", "b", "br", "c", "cr"].contains(&word) {
        return None;
    }
    let hashes = chars[at..].iter().take_while(|&&c| c == '#').count();
    if chars.get(at + hashes) != Some(&'"') {
        return None;
    }
    if !word.contains('r') {
        return (hashes == 0).then(|| string_end(chars, at + 1));
    }
    let mut end = at + hashes + 1;
    while end < chars.len() {
        let closes = chars[end] == '"'
            && chars[end + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes;
        if closes {
            return Some(end + 1 + hashes);
        }
        end += 1;
    }
    Some(chars.len())
}
