//! Policy files as the command line names them: folders, or files.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::{
    cli::{
        failure::{Exit, Failure},
        output::{Output, escaped},
    },
    policy::{self, Policy, PolicyError},
};

/// Files with their texts, and the folder that their `file:` secrets are relative to.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) texts: Vec<(String, String)>,
    pub(super) folder: PathBuf,
}

impl Files {
    /// Reads a file, or the policy files of a folder by name, for each path. Files are
    /// named as the user named them, so that a terminal can open them.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut texts = Vec::new();
        for path in paths {
            if !path.is_dir() {
                texts.push(read(path)?);
                continue;
            }
            for file in inside(path, policy::is_policy_file)? {
                texts.push(read(&file)?);
            }
        }
        if texts.is_empty() {
            return Err(Failure::new(Exit::Failure, "no_policy", "there is no policy file there")
                .hint("name a folder that holds *.toml files, or the files"));
        }
        let first = paths.first().map(PathBuf::as_path).unwrap_or(Path::new("."));
        let folder = if first.is_dir() { Some(first) } else { first.parent() };
        Ok(Self { texts, folder: folder.unwrap_or(Path::new(".")).to_owned() })
    }

    /// The policy that they are, or a failure after every problem was told.
    pub(super) fn policy(&self, output: &Output) -> Result<Policy, Failure> {
        policy::parse(&self.texts).map_err(|problems| refused(&problems, "policy", output))
    }
}

/// The files of a folder whose names are asked for, by name.
pub(super) fn inside(folder: &Path, wanted: fn(&str) -> bool) -> Result<Vec<PathBuf>, Failure> {
    let shown = folder.display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {shown}"))? {
        let path = entry.with_context(|| format!("reading {shown}"))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if wanted(&name) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// A file's name as given, and its text.
pub(super) fn read(path: &Path) -> Result<(String, String), Failure> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {shown}"))?;
    Ok((shown, text))
}

/// Tells every problem of some files, beside the result, and fails.
pub(super) fn refused(problems: &[PolicyError], what: &str, output: &Output) -> Failure {
    for problem in problems {
        output.ask(escaped(&problem.to_string()));
    }
    let count = problems.len();
    let noun = if count == 1 { "problem" } else { "problems" };
    Failure::new(Exit::Failure, "policy", format!("{count} {noun} in the {what}"))
        .hint("`pgate policy check` lists them")
}

/// Problems as JSON.
pub(super) fn told(problems: &[PolicyError]) -> Vec<serde_json::Value> {
    let one = |problem: &PolicyError| {
        serde_json::json!({
            "file": problem.file,
            "line": problem.line,
            "column": problem.column,
            "key": problem.key,
            "message": problem.message,
            "hint": problem.hint,
        })
    };
    problems.iter().map(one).collect()
}
