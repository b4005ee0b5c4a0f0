//! The documentation's examples and links, held to what the code accepts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pgate::{policy, server::config::Config};

const PAGES: [&str; 9] = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/architecture.md",
    "docs/operations.md",
    "docs/performance.md",
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
fn every_case_in_the_documentation_is_accepted() {
    let examples = blocks(&page("docs/policy.md"), "toml case");
    assert!(!examples.is_empty(), "the example is gone");
    for (line, text) in examples {
        let read = policy::parse_cases("example.toml", &text);
        assert!(read.is_ok_and(|file| file.cases.len() == 2), "docs/policy.md:{line}");
    }
}

#[test]
fn every_finding_of_an_examination_is_described() {
    let page = page("docs/policy.md");
    let folder = checkout("src/policy/examine");
    for entry in fs::read_dir(folder).expect("readable").flatten() {
        let text = fs::read_to_string(entry.path()).expect("text");
        let of_tests = entry.file_name() == "tests.rs";
        let codes = text.split("code: \"").skip(1).filter_map(|rest| rest.split('"').next());
        for code in codes.filter(|_| !of_tests) {
            assert!(page.contains(&format!("`{code}`")), "docs/policy.md says nothing of {code}");
        }
    }
}

#[test]
fn the_configuration_in_the_documentation_is_accepted_and_every_key_is_described() {
    let page = page("docs/operations.md");
    let (line, text) = blocks(&page, "toml").into_iter().next().expect("the example");
    let read = Config::parse(&text, "pgate.toml", Path::new("/etc/pgate"));
    let problems = read.err().unwrap_or_default();
    let problems = problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(problems.is_empty(), "docs/operations.md:{line}:\n{}", problems.join("\n"));

    for section in ["", "[[issuer]]\n"] {
        let wrong = Config::parse(&format!("{section}xyzzyxyzzy = 1"), "x", Path::new("/"));
        let errors = wrong.expect_err("no such key");
        for key in known_keys(errors.iter().map(ToString::to_string), "known here: ") {
            let described = key == "issuer" || page.contains(&format!("| `{key}` |"));
            assert!(described, "docs/operations.md says nothing of `{key}`");
        }
    }
}

#[test]
fn every_key_of_a_policy_is_described() {
    let page = page("docs/policy.md");
    for section in ["[target.t]", "[role.r]", "[[access]]", "[role.r.limits]"] {
        let text = format!("{section}\nxyzzyxyzzy = 1\n");
        let errors = policy::parse(&[("x.toml".to_owned(), text)]).expect_err("no such key");
        for key in known_keys(errors.iter().map(ToString::to_string), "the keys here are ") {
            let described =
                page.contains(&format!("`{key}`")) || page.contains(&format!("`{key} ="));
            assert!(described, "docs/policy.md says nothing of `{key}` in {section}");
        }
    }
}

/// The keys that the error about an unknown one lists.
fn known_keys(errors: impl Iterator<Item = String>, label: &str) -> Vec<String> {
    let lists = errors.filter_map(|error| Some(error.split_once(label)?.1.to_owned()));
    let keys = lists.flat_map(|list| {
        list.split([',', ' '])
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    let keys = keys.filter(|word| word != "or").collect::<Vec<_>>();
    assert!(keys.len() > 1, "the error lists the keys that there are");
    keys
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
