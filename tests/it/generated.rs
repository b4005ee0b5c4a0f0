//! `completions/` and `man/` are made from the command line's own definition.
//! After a change of it:
//!
//! ```sh
//! PGATE_UPDATE=1 cargo test --test it generated
//! ```

use std::{collections::BTreeMap, fs, path::Path, process::Command};

const HOW: &str = "bring it up to date: PGATE_UPDATE=1 cargo test --test it generated";

fn pgate(arguments: &[&str], home: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_pgate"))
        .env_clear()
        .env("HOME", home)
        .args(arguments)
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Compares a folder of the package with what it should hold, or makes it so.
fn hold(folder: &str, wanted: &BTreeMap<String, String>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    if std::env::var_os("PGATE_UPDATE").is_some() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        for (name, text) in wanted {
            fs::write(folder.join(name), text).expect("written");
        }
    }
    let found: BTreeMap<String, String> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}; {HOW}", folder.display()))
        .map(|entry| {
            let entry = entry.expect("readable");
            let text = fs::read_to_string(entry.path()).expect("text");
            (entry.file_name().into_string().expect("a plain name"), text)
        })
        .collect();
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(wanted), "{}; {HOW}", folder.display());
    for (name, text) in wanted {
        assert!(found.get(name) == Some(text), "{}/{name} is out of date; {HOW}", folder.display());
    }
}

#[test]
fn completions_are_those_of_this_command_line() {
    let home = tempfile::tempdir().expect("a home");
    let shells = [("bash", "pgate.bash"), ("zsh", "_pgate"), ("fish", "pgate.fish")];
    let scripts =
        shells.map(|(shell, name)| (name.to_owned(), pgate(&["completions", shell], home.path())));
    hold("completions", &scripts.into());
}

#[test]
fn man_pages_are_those_of_this_command_line() {
    let home = tempfile::tempdir().expect("a home");
    let pages = home.path().join("pages");
    pgate(&["man", "--dir", pages.to_str().expect("a plain path")], home.path());
    let wanted: BTreeMap<String, String> = fs::read_dir(&pages)
        .expect("written")
        .map(|entry| {
            let entry = entry.expect("readable");
            let text = fs::read_to_string(entry.path()).expect("text");
            (entry.file_name().into_string().expect("a plain name"), text)
        })
        .collect();
    assert!(wanted.contains_key("pgate.1") && wanted.contains_key("pgate-grants-revoke.1"));
    hold("man", &wanted);
}

#[test]
fn every_man_page_has_a_name_a_synopsis_and_examples() {
    let home = tempfile::tempdir().expect("a home");
    let page = pgate(&["man"], home.path());
    for part in [".TH pgate 1", ".SH NAME", ".SH SYNOPSIS", ".SH EXAMPLES"] {
        assert!(page.contains(part), "{part}");
    }
}
