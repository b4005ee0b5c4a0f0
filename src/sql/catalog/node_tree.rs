//! PostgreSQL's text form of an analysed query (`pg_rewrite.ev_action`), as a tree.
//!
//! Owns the form's grammar (`nodes/outfuncs.c`, `nodes/read.c`), which has been the
//! same for every version: `{NAME :field value …}`, `(list)`, and words with
//! backslash escapes. It refuses to know any node: what they mean is `lineage`'s.

/// The deepest tree that is read; a definition deeper than this isn't analysed.
const MAX_DEPTH: usize = 1_000;

/// What stands where there is nothing.
const NULL: &str = "<>";

/// One value of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tree<'a> {
    /// `{NAME :field value …}`.
    Node(Node<'a>),
    /// `(value …)`.
    List(Vec<Tree<'a>>),
    /// Anything else, as it is written.
    Word(&'a str),
}

/// A node with its fields, each of which it has once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node<'a> {
    pub(super) name: &'a str,
    pub(super) fields: Vec<(&'a str, Tree<'a>)>,
}

impl<'a> Tree<'a> {
    /// Reads a text that is one value. None where it isn't.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let mut reader = Reader { rest: text, depth: 0 };
        let tree = reader.value()?;
        reader.word().is_none().then_some(tree)
    }

    /// The node, where it is one.
    pub(super) fn node(&self) -> Option<&Node<'a>> {
        match self {
            Tree::Node(node) => Some(node),
            Tree::List(_) | Tree::Word(_) => None,
        }
    }

    /// The items of a list; none of a list that isn't there.
    pub(super) fn items(&self) -> Option<&[Tree<'a>]> {
        match self {
            Tree::List(items) => Some(items),
            Tree::Word(NULL) => Some(&[]),
            Tree::Word(_) | Tree::Node(_) => None,
        }
    }
}

impl<'a> Node<'a> {
    pub(super) fn field(&self, name: &str) -> Option<&Tree<'a>> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// The field's word, as it is written.
    pub(super) fn word(&self, name: &str) -> Option<&'a str> {
        match self.field(name)? {
            Tree::Word(word) => Some(word),
            Tree::Node(_) | Tree::List(_) => None,
        }
    }

    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.word(name)?.parse().ok()
    }

    /// The items of the field's list.
    pub(super) fn items(&self, name: &str) -> Option<&[Tree<'a>]> {
        self.field(name)?.items()
    }
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// The next word, or one of `( ) { }`.
    fn word(&mut self) -> Option<&'a str> {
        self.rest = self.rest.trim_start_matches([' ', '\n', '\t']);
        let mut escaped = false;
        let mut end = self.rest.len();
        for (at, byte) in self.rest.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'(' | b')' | b'{' | b'}' => {
                    end = at.max(1);
                    break;
                }
                b' ' | b'\n' | b'\t' => {
                    end = at;
                    break;
                }
                _ => {}
            }
        }
        let (word, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    /// The first byte of the next word, without taking it.
    fn next(&self) -> Option<u8> {
        self.rest.bytes().find(|byte| !matches!(byte, b' ' | b'\n' | b'\t'))
    }

    fn value(&mut self) -> Option<Tree<'a>> {
        if self.depth >= MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let value = match self.word()? {
            "{" => self.node()?,
            "(" => self.list()?,
            ")" | "}" => return None,
            word => Tree::Word(word),
        };
        self.depth -= 1;
        Some(value)
    }

    fn list(&mut self) -> Option<Tree<'a>> {
        let mut items = Vec::new();
        while self.next()? != b')' {
            items.push(self.value()?);
        }
        self.word()?;
        Some(Tree::List(items))
    }

    fn node(&mut self) -> Option<Tree<'a>> {
        let name = self.word()?;
        let mut fields = Vec::new();
        loop {
            match self.word()? {
                "}" => return Some(Tree::Node(Node { name, fields })),
                // A name that somebody has given may look like a field, but it stands
                // where a value does: every field has exactly one.
                field => {
                    let field = field.strip_prefix(':')?;
                    let value = self.value()?;
                    if fields.iter().any(|(known, _)| *known == field) {
                        return None;
                    }
                    fields.push((field, value));
                    self.bytes_of_constant()?;
                }
            }
        }
    }

    /// A constant's value is its length and then its bytes: `4 [ 1 0 0 0 ]`.
    fn bytes_of_constant(&mut self) -> Option<()> {
        if self.next()? == b'[' {
            while self.word()? != "]" {}
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_lists_constants_and_names_that_look_like_fields_are_read() {
        let text = r#"({T :a 1 :name :expr :expr {VAR :varno 3} :c 4 [ 1 0 0 -1 ] :b (b 1 2)
            :s "a\ \)b" :n <>})"#;
        let tree = Tree::read(text).unwrap();
        let node = tree.items().unwrap()[0].node().unwrap();
        assert_eq!(node.word("name"), Some(":expr"));
        assert_eq!(node.field("expr").unwrap().node().unwrap().number("varno"), Some(3));
        assert_eq!(node.word("c"), Some("4"));
        assert_eq!(node.items("b").unwrap().len(), 3);
        assert_eq!(node.word("s"), Some(r#""a\ \)b""#));
        assert_eq!(node.items("n"), Some([].as_slice()));
    }

    #[test]
    fn what_is_cut_repeated_or_too_deep_is_not_read() {
        let whole = r"({T :a 1 :c 4 [ 1 0 ] :b (b 1)} {U :x é})";
        for (end, _) in whole.char_indices() {
            assert_eq!(Tree::read(&whole[..end]), None, "{end}");
        }
        for text in ["{T :a 1 :a 2}", "{T a 1}", "{T :a}", "1 2", ")", "", "{"] {
            assert_eq!(Tree::read(text), None, "{text}");
        }
        let deep = format!("{}{}", "(".repeat(5_000), ")".repeat(5_000));
        assert_eq!(Tree::read(&deep), None);
    }
}
