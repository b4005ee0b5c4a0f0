//! The documentation's examples and links, held to what the code accepts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pgate::policy;

const PAGES: [&str; 8] = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/architecture.md",
    "docs/operations.md",
    "docs/policy.md",
    "docs/threat-model.md",
];

fn checkout(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn page(name: &str) -> String {
    fs::read_to_string(checkout(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The fenced blocks of a language, with the line that each begins on.
fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((line, text)) = lines.next() {
        let Some(label) = text.strip_prefix("```") else { continue };
        let inner = lines.by_ref().take_while(|(_, text)| *text != "```");
        let block = inner.map(|(_, text)| format!("{text}\n")).collect::<String>();
        if label == language {
            found.push((line, block));
        }
    }
    found
}

#[test]
fn every_policy_in_the_documentation_is_accepted() {
    let examples = blocks(&page("docs/policy.md"), "toml");
    assert!(examples.len() >= 4, "the examples are gone");
    for (line, text) in examples {
        let problems =
            policy::parse(&[("example.toml".to_owned(), text)]).err().unwrap_or_default();
        let problems = problems.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(problems.is_empty(), "docs/policy.md:{line}:\n{}", problems.join("\n"));
    }
}

#[test]
fn every_link_within_the_documentation_leads_somewhere() {
    let mut broken = Vec::new();
    for name in PAGES {
        let text = page(name);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let outside = link.starts_with("http") || link.starts_with('#');
            let file = link.split('#').next().unwrap_or(link);
            let folder = checkout(name).parent().expect("a page is in a folder").to_owned();
            if !outside && !folder.join(file).exists() {
                broken.push(format!("{name}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
