//! Settings files: where they are, and reading them strictly.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{Error, Folders, KEYS, Key};

/// The project file's name.
const PROJECT_FILE: &str = ".pgate.toml";
/// The largest settings file that is read, in bytes.
const LARGEST: u64 = 64 * 1024;

/// A settings file that was found and not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// The file.
    pub file: PathBuf,
    /// Why it was left alone.
    pub reason: &'static str,
}

/// What one file says.
#[derive(Debug, Default)]
pub(super) struct Values {
    file: PathBuf,
    values: BTreeMap<&'static str, (String, usize)>,
}

impl Values {
    pub(super) fn get(&self, key: Key) -> Option<(String, PathBuf, usize)> {
        let (text, line) = self.values.get(key.name)?;
        Some((text.clone(), self.file.clone(), *line))
    }
}

/// The nearest `.pgate.toml` from `from` upwards, up to the home folder or the
/// root. One that belongs to neither the user nor root is left alone: anybody
/// may write to `/tmp`.
pub(super) fn project(
    from: &Path,
    folders: &Folders,
    ignored: &mut Vec<Ignored>,
) -> Result<Values, Error> {
    for folder in from.ancestors() {
        let file = folder.join(PROJECT_FILE);
        if file.is_file() {
            // Asked of the open file: the path may lead elsewhere a moment later.
            match fs::File::open(&file) {
                Ok(opened) if is_ours(opened.metadata()) => {
                    return read(file, opened, Some(Ownership::Project));
                }
                Err(error) if is_ours(fs::metadata(&file)) => {
                    return Err(Error::Unreadable { file, problem: error.to_string() });
                }
                Ok(_) | Err(_) => {}
            }
            ignored.push(Ignored { file, reason: "it belongs to another user" });
        }
        if folder == folders.home() {
            break;
        }
    }
    Ok(Values::default())
}

/// The user's own file, where there is one.
pub(super) fn user(folders: &Folders) -> Result<Values, Error> {
    let file = folders.settings_file();
    match fs::File::open(&file) {
        Ok(opened) => read(file, opened, None),
        Err(_) if !file.exists() => Ok(Values::default()),
        Err(error) => Err(Error::Unreadable { file, problem: error.to_string() }),
    }
}

enum Ownership {
    Project,
}

fn read(file: PathBuf, opened: fs::File, ownership: Option<Ownership>) -> Result<Values, Error> {
    let unreadable =
        |error: io::Error| Error::Unreadable { file: file.clone(), problem: error.to_string() };
    let mut text = String::new();
    opened.take(LARGEST + 1).read_to_string(&mut text).map_err(unreadable)?;
    let bad = |offset: usize, problem: String, hint: Option<String>| Error::BadFile {
        file: file.clone(),
        line: line_of(&text, offset),
        problem,
        hint,
    };
    if text.len() as u64 > LARGEST {
        return Err(bad(0, format!("a settings file has at most {LARGEST} bytes"), None));
    }
    let table = DeTable::parse(&text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        bad(offset, error.message().to_owned(), None)
    })?;

    let mut values = BTreeMap::new();
    for (name, value) in table.get_ref() {
        let written = name.get_ref().as_ref();
        let Some(key) = KEYS.iter().find(|key| key.name == written) else {
            return Err(bad(
                name.span().start,
                format!("unknown key `{written}`"),
                nearest(written),
            ));
        };
        if ownership.is_some() && !key.in_projects {
            return Err(bad(
                name.span().start,
                format!("`{written}` can't be set in a project's {PROJECT_FILE}"),
                Some(format!("set it in your own settings file or by {}", key.variable)),
            ));
        }
        let DeValue::String(content) = value.get_ref() else {
            return Err(bad(
                value.span().start,
                format!("`{written}` is {}, not a string", value.get_ref().type_str()),
                Some(format!("put it in quotes: {written} = \"…\"")),
            ));
        };
        values.insert(key.name, (content.to_string(), line_of(&text, name.span().start)));
    }
    Ok(Values { file, values })
}

fn nearest(written: &str) -> Option<String> {
    let (key, distance) = KEYS
        .iter()
        .map(|key| (key.name, strsim::damerau_levenshtein(key.name, written)))
        .min_by_key(|(_, distance)| *distance)?;
    if distance <= 2.max(written.chars().count() / 3) {
        Some(format!("did you mean `{key}`?"))
    } else {
        let known: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        Some(format!("known keys: {}", known.join(", ")))
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(unix)]
fn is_ours(facts: io::Result<fs::Metadata>) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let me = rustix::process::geteuid().as_raw();
    facts.is_ok_and(|facts| facts.uid() == me || facts.uid() == 0)
}

#[cfg(not(unix))]
fn is_ours(_facts: io::Result<fs::Metadata>) -> bool {
    true
}
